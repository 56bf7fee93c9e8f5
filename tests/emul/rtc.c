/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libnvrtc.so.12/.13 and, with RTC_HIP, libhiprtc.so.5/.6: the same calls under two prefixes; what NVRTC calls PTX and
 * CUBIN HIPRTC calls code. Not in the vendor reference: from memory of the public headers.
 */
#include "config.h"
#include "tests/emul/kernel.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef RTC_HIP
#define VENDOR  EMUL_HIP
#define R(name) hiprtc##name
#else
#define VENDOR  EMUL_CUDA
#define R(name) nvrtc##name
#endif
#define CALL(name, args)                                                                                               \
    EMUL_API int R(name) args;                                                                                         \
    int R(name)                                                                                                        \
    args

enum { SUCCESS, OUT_OF_MEMORY, CREATION, INVALID_INPUT, INVALID_PROGRAM, INVALID_OPTION, COMPILATION };

/* `magic` names a live one. */
struct program {
    unsigned magic;
    char *source, *image, *log;
};
enum { MAGIC = 0x72746370 };

__attribute__((constructor)) static void loaded(void) { emul_hide(VENDOR, (const void *)loaded); }

static bool is_program(const struct program *program) { return program && program->magic == MAGIC; }

CALL(Version, (int *major, int *minor))
{
    if (!major || !minor) return INVALID_INPUT;
    *major = RTC_MAJOR;
    *minor = 0;
    return 0;
}

EMUL_API const char *R(GetErrorString)(int result);
const char *R(GetErrorString)(int result) { return result ? "emulated compiler error" : "no error"; }

CALL(CreateProgram, (struct program * *out, const char *source, const char *name, int headers, const char *const *texts,
                     const char *const *names))
{
    emul_enter(VENDOR, __func__, EMUL_ANYWHERE);
    if (!out || !source || headers < 0) return INVALID_INPUT;
    if (headers) return emul_misuse(EMUL_INVALID, "headers are not emulated"), CREATION;
    struct program *program = calloc(1, sizeof(*program));
    if (!program || !(program->source = strdup(source))) return OUT_OF_MEMORY;
    program->magic = MAGIC;
    *out = program;
    return 0;
}

CALL(DestroyProgram, (struct program * *in))
{
    emul_enter(VENDOR, __func__, EMUL_ANYWHERE);
    if (!in || !is_program(*in)) return INVALID_PROGRAM;
    struct program *program = *in;
    program->magic = 0;
    free(program->source);
    free(program->image);
    free(program->log);
    free(program);
    *in = NULL;
    return 0;
}

/* Options are words like --fmad=false; what is no option at all is refused. nortc: the compiler is broken. */
CALL(CompileProgram, (struct program * program, int count, const char *const *options))
{
    emul_enter(VENDOR, __func__, EMUL_ANYWHERE);
    if (!is_program(program)) return INVALID_PROGRAM;
    for (int i = 0; i < count; i++)
        if (!options || !options[i] || options[i][0] != '-') return INVALID_OPTION;
    free(program->image);
    free(program->log);
    program->image = program->log = NULL;
    if (emul_fault(VENDOR, "nortc", NULL)) return COMPILATION;
    return emul_compile(VENDOR, program->source, count, options, &program->image, &program->log) ? COMPILATION
                                                                                                 : SUCCESS;
}

static int size_of(const struct program *program, const char *text, size_t *size)
{
    if (!is_program(program)) return INVALID_PROGRAM;
    if (!size) return INVALID_INPUT;
    *size = (text ? strlen(text) : 0) + 1;
    return 0;
}

static int text_of(const struct program *program, const char *text, char *out)
{
    if (!is_program(program)) return INVALID_PROGRAM;
    if (!out) return INVALID_INPUT;
    strcpy(out, text ? text : "");
    return 0;
}

CALL(GetProgramLogSize, (struct program * program, size_t *size))
{
    return size_of(program, program ? program->log : NULL, size);
}
CALL(GetProgramLog, (struct program * program, char *log))
{
    return text_of(program, program ? program->log : NULL, log);
}

static int image_size(const struct program *program, size_t *size)
{
    return is_program(program) && !program->image ? INVALID_PROGRAM
                                                  : size_of(program, program ? program->image : NULL, size);
}
static int image_text(const struct program *program, char *out)
{
    return is_program(program) && !program->image ? INVALID_PROGRAM
                                                  : text_of(program, program ? program->image : NULL, out);
}

#ifdef RTC_HIP
CALL(GetCodeSize, (struct program * program, size_t *size)) { return image_size(program, size); }
CALL(GetCode, (struct program * program, char *code)) { return image_text(program, code); }
#else
CALL(GetPTXSize, (struct program * program, size_t *size)) { return image_size(program, size); }
CALL(GetPTX, (struct program * program, char *code)) { return image_text(program, code); }
CALL(GetCUBINSize, (struct program * program, size_t *size)) { return image_size(program, size); }
CALL(GetCUBIN, (struct program * program, char *code)) { return image_text(program, code); }
#endif
