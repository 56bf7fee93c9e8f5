/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What adapters of the vendors' collective libraries share: the calls of a library, what was bound of them, and what
 * becomes of their codes. nccl_family.c, hccl.c and cncl.c say the rest, each its own shape.
 */
#ifndef MDL_DEVICES_CCL_H_
#define MDL_DEVICES_CCL_H_

#include <medley/plugin.h>
#include <pthread.h>

enum { MDL_CCL_CALLS_MOST = 24, MDL_CCL_NONE = -1 };

struct mdl_ccl_call {
    const char *stem; /* of its name, behind the prefix */
    bool needed;
    int8_t coll; /* the medleyColl_t that it does, or MDL_CCL_NONE */
};

/* A shape: the same for all libraries that have it. */
struct mdl_ccl_shape {
    const struct mdl_ccl_call *calls;
    int ncalls, error_text;            /* error_text: the number of the call that has words for a code */
    medleyResult_t (*code_of)(int rc); /* of an error; NULL: nothing is known but that it is one */
    int8_t types[medleyNumTypes], ops[medleyNumOps]; /* its numbers for ours, or MDL_CCL_NONE */
};

/* A library, once it was bound; found[0] says whether. */
struct mdl_ccl_state {
    pthread_mutex_t lock;
    void *library;
    void *fn[MDL_CCL_CALLS_MOST];
    const struct mdl_ccl_shape *shape;
    const char *prefix; /* the one that was found */
    struct mdl_native_caps caps;
    char found[96];
};

/* The call of this number, which has int for a result; what is behind ... are the types of its arguments. */
#define MDL_CCL_FN(state, call, ...) ((int (*)(__VA_ARGS__))(uintptr_t)(state)->fn[call])

/* Looks the calls up in s->library, and begins s->caps anew with the collectives that it has. False: a needed one is
 * missing, says *why. */
bool mdl_ccl_bind(struct mdl_ccl_state *s, const struct mdl_ccl_shape *shape, const char *prefix, char *why,
                  size_t why_bytes);

/* The library's numbers. */
static inline int mdl_ccl_type(const struct mdl_ccl_state *s, medleyDataType_t type) { return s->shape->types[type]; }
static inline int mdl_ccl_op(const struct mdl_ccl_state *s, medleyRedOp_t op) { return s->shape->ops[op]; }

/* Once it is bound: it reduces those of these types (bits) that it has a number for, by all operations that it has. */
void mdl_ccl_reduces(struct mdl_ccl_state *s, uint32_t types);

/* For `probe`: binds once in a process, whoever asks. `bind` sets s->found; where it fails, the library is closed. */
typedef bool mdl_ccl_binder(const struct mdl_native *n, const char *where, char *why, size_t why_bytes);
medleyResult_t mdl_ccl_probe(struct mdl_ccl_state *s, const struct mdl_native *n, mdl_ccl_binder *bind,
                             const char *where, char *found, size_t found_bytes, char *why, size_t why_bytes);

/* The `probe` of a library that Medley does not bind: a vendor's row says "not supported, because" and `self`. */
medleyResult_t mdl_ccl_not_supported(const struct mdl_native *n, const char *where, char *found, size_t found_bytes,
                                     char *why, size_t why_bytes);
#define MDL_CCL_NOT_SUPPORTED(name_, because)                                                                          \
    {                                                                                                                  \
        .name = name_, .self = because, .probe = mdl_ccl_not_supported                                                 \
    }

/* The error of a call that has returned `rc`, or of what `stem` names. */
medleyResult_t mdl_ccl_check(const struct mdl_ccl_state *s, int call, int rc);
medleyResult_t mdl_ccl_report(const struct mdl_ccl_state *s, const char *stem, int rc);

/* For `messages`, where the vendor has groups. */
medleyResult_t mdl_ccl_messages(const struct mdl_native *n, void *comm, const struct mdl_native_call *list, int ncalls,
                                mdl_dev_stream stream);

#endif
