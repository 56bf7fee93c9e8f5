/* SPDX-License-Identifier: Apache-2.0 */
/* Frame of the emulators' own tests: see frame.h. */
#include "config.h"
#include "tests/emul/frame.h"
#include <dlfcn.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 1 << 16 };

void *frame_open(const char *path)
{
    char whole[512];
    const char *folder = getenv("EMUL_DIR");
    snprintf(whole, sizeof(whole), "%s/%s", folder ? folder : "tests/emul", path);
    void *object = dlopen(whole, RTLD_NOW | RTLD_LOCAL);
    if (!object) fprintf(stderr, "%s\n", dlerror());
    CHECK(object != NULL);
    return object;
}

void *frame_try(void *object, const char *name) { return dlsym(object, name); }

void *frame_find(void *object, const char *name)
{
    void *symbol = dlsym(object, name);
    if (!symbol) fprintf(stderr, "no symbol %s\n", name);
    CHECK(symbol != NULL);
    return symbol;
}

int frame_fork(void (*child)(void))
{
    fflush(NULL);
    int pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        child();
        exit(0);
    }
    return pid;
}

void frame_join(int pid)
{
    int status;
    CHECK_IS(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK_IS(WEXITSTATUS(status), 0);
}

void frame_nap(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static void apply(const char *settings)
{
    char copy[256];
    snprintf(copy, sizeof(copy), "%s", settings ? settings : "");
    for (char *item = strtok(copy, " "); item; item = strtok(NULL, " ")) {
        char *value = strchr(item, '=');
        *value = '\0';
        setenv(item, value + 1, 1);
    }
}

static int start(const struct frame_case *one, int out)
{
    fflush(NULL);
    int pid = fork();
    if (pid) return pid;
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    dup2(out, STDERR_FILENO);
    unsetenv("EMUL_FAULT");
    apply(one->settings);
    alarm(60);
    one->run();
    exit(0);
}

static size_t drain(int from, char *text)
{
    size_t have = 0;
    for (;;) {
        ssize_t got = read(from, text + have, TEXT - 1 - have);
        if (got <= 0) break;
        have += (size_t)got;
        if (have == TEXT - 1) have = TEXT / 2; /* the rest is not looked at */
    }
    text[have] = '\0';
    return have;
}

static bool judge(const struct frame_case *one, int status, const char *text)
{
    if (one->says && !strstr(text, one->says)) return false;
    /* Sanitizers turn a fault into an exit. */
    if (one->dies) return strstr(text, one->dies) && !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == one->status;
}

int frame_run(const char *prefix, const struct frame_case *cases, size_t count)
{
    static char text[TEXT];
    const char *only = getenv("EMUL_ONLY");
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        int ends[2], status = 0;
        if (only && !strstr(cases[i].name, only)) continue;
        if (pipe(ends) != 0) return 1;
        int pid = start(&cases[i], ends[1]);
        close(ends[1]);
        drain(ends[0], text);
        close(ends[0]);
        waitpid(pid, &status, 0);
        bool good = judge(&cases[i], status, text);
        if (!good || getenv("EMUL_LOUD")) {
            printf("%s %s %s (wait status 0x%x", good ? "ok" : "FAIL", prefix, cases[i].name, status);
            printf("%s%s)\n%s", cases[i].dies ? ", wanted: " : "", cases[i].dies ? cases[i].dies : "", text);
        }
        failed += !good;
    }
    printf("%s: %zu cases, %d failed\n", prefix, count, failed);
    return failed;
}
