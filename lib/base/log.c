/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log. One atomic word, the filter, says what is shown: the level in the low byte, a bit per subsystem above, and
 * READY once the environment has been read. A message that the filter drops costs the load of that word; one that it
 * shows is formatted on the stack and leaves in one write, so lines of threads and processes that share a file do not
 * mix. Nothing is allocated or locked when a message is written.
 *
 * The levels up to WARN show every subsystem; MEDLEY_DEBUG_SUBSYS narrows INFO and TRACE.
 */
#include <config.h> /* not "config.h": this folder has one of that name */
#include "lib/base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINE_BYTES = 2048, READY = 1 << 8, SUBSYS_SHIFT = 9, HOST_BYTES = 65 };
_Static_assert(MDL_NUM_SUBSYS + SUBSYS_SHIFT <= 32, "the filter has a bit for every subsystem");

static const char *const subsys_names[] = {
#define SUBSYS_NAME(id, name) name,
    MDL_SUBSYS_LIST(SUBSYS_NAME)
#undef SUBSYS_NAME
};
static const char *const level_names[] = {"NONE", "VERSION", "WARN", "INFO", "TRACE"};
enum { NUM_LEVELS = sizeof(level_names) / sizeof(level_names[0]) };

static pthread_mutex_t settings_lock = PTHREAD_MUTEX_INITIALIZER; /* whoever changes what stands below */
static _Atomic uint32_t filter;
static atomic_int log_fd = STDERR_FILENO;
static char host_name[HOST_BYTES]; /* written once before READY */
static medleyLogLevel_t env_level;
static uint32_t env_subsys;

/* The callback and its user pointer change together: a sequence lock, odd while they are written. */
static atomic_uint sink_sequence;
static _Atomic(medleyLogCallback_t) sink_callback;
static _Atomic(void *) sink_user;

static _Thread_local int thread_rank = -1;

static void write_line(medleyLogLevel_t level, enum mdl_subsys subsys, const char *message);

static bool find_name(const char *const *names, int count, const char *text, size_t len, int *index)
{
    for (int i = 0; i < count; i++) {
        if (strlen(names[i]) == len && strncasecmp(names[i], text, len) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

/* ---- the environment ---- */

/* What was wrong in the environment, said once the log works. */
struct complaints {
    char level[128], subsys[128], file[PATH_MAX + 128];
};

static medleyLogLevel_t read_level(struct complaints *bad)
{
    const char *text = getenv("MEDLEY_DEBUG");
    int level = medleyLogWarn;
    if (text && *text && !find_name(level_names, NUM_LEVELS, text, strlen(text), &level))
        snprintf(bad->level, sizeof(bad->level),
                 "MEDLEY_DEBUG: '%.40s' is no level (NONE, VERSION, WARN, INFO or TRACE): WARN is used", text);
    return (medleyLogLevel_t)level;
}

/* "INIT,NET" shows these two; "^NET" shows all but that one; both may be mixed, left to right. */
static uint32_t read_subsys(struct complaints *bad)
{
    const uint32_t all = ((1u << MDL_NUM_SUBSYS) - 1) << SUBSYS_SHIFT;
    const char *text = getenv("MEDLEY_DEBUG_SUBSYS");
    if (!text || !*text) return all;

    uint32_t mask = *text == '^' ? all : 0;
    for (size_t len; *text; text += len + (text[len] == ',')) {
        len = strcspn(text, ",");
        bool without = *text == '^';
        const char *name = text + without;
        size_t name_len = len - without;
        uint32_t bits = 0;
        int index;
        if (find_name(subsys_names, MDL_NUM_SUBSYS, name, name_len, &index))
            bits = 1u << (SUBSYS_SHIFT + index);
        else if (name_len == 3 && strncasecmp(name, "ALL", 3) == 0)
            bits = all;
        else if (name_len)
            snprintf(bad->subsys, sizeof(bad->subsys), "MEDLEY_DEBUG_SUBSYS: there is no subsystem '%.*s'",
                     (int)(name_len < 40 ? name_len : 40), name);
        mask = without ? mask & ~bits : mask | bits;
    }
    return mask;
}

/* Replaces %h by the host name, %p by the process id and %% by %; false if the result does not fit. */
static bool expand_path(const char *pattern, char *path, size_t bytes)
{
    size_t len = 0;
    for (const char *c = pattern; *c; c++) {
        char piece[HOST_BYTES] = {*c, '\0'};
        if (*c == '%' && c[1] == 'h')
            memcpy(piece, host_name, sizeof(piece));
        else if (*c == '%' && c[1] == 'p')
            snprintf(piece, sizeof(piece), "%ld", (long)getpid());
        if (*c == '%' && c[1] && strchr("hp%", c[1])) c++;
        size_t n = strlen(piece);
        if (n >= bytes - len) return false;
        memcpy(path + len, piece, n + 1);
        len += n;
    }
    return len > 0;
}

static int open_file(struct complaints *bad)
{
    /* A program with raised rights must not write where its caller's environment says. */
    const char *pattern = secure_getenv("MEDLEY_DEBUG_FILE");
    if (!pattern || !*pattern) return STDERR_FILENO;

    char path[PATH_MAX];
    int fd = -1;
    errno = ENAMETOOLONG;
    if (expand_path(pattern, path, sizeof(path)))
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
    if (fd >= 0) return fd;
    char reason[128];
    snprintf(bad->file, sizeof(bad->file), "MEDLEY_DEBUG_FILE: cannot open '%s': %s: the log goes to stderr", pattern,
             strerror_r(errno, reason, sizeof(reason)));
    return STDERR_FILENO;
}

static void publish_filter(medleyLogLevel_t level)
{
    /* Pairs with the load in mdl_log_enabled: who sees READY sees host_name and the file too. */
    atomic_store_explicit(&filter, (uint32_t)level | READY | env_subsys, memory_order_release);
}

/* Called with settings_lock held. */
static void read_environment(struct complaints *bad)
{
    if (!host_name[0] && (gethostname(host_name, sizeof(host_name) - 1) != 0 || !host_name[0]))
        memcpy(host_name, "localhost", sizeof("localhost"));
    env_level = read_level(bad);
    env_subsys = read_subsys(bad);
    atomic_store_explicit(&log_fd, open_file(bad), memory_order_relaxed); /* published with the filter */
    publish_filter(env_level);
}

static void complain(const struct complaints *bad)
{
    if (bad->level[0]) MDL_WARN(MDL_ENV, "%s", bad->level);
    if (bad->subsys[0]) MDL_WARN(MDL_ENV, "%s", bad->subsys);
    if (bad->file[0]) MDL_WARN(MDL_ENV, "%s", bad->file);
}

static uint32_t start(void)
{
    struct complaints bad = {{0}, {0}, {0}};
    pthread_mutex_lock(&settings_lock);
    if (!(atomic_load_explicit(&filter, memory_order_relaxed) & READY)) read_environment(&bad);
    uint32_t now = atomic_load_explicit(&filter, memory_order_relaxed);
    pthread_mutex_unlock(&settings_lock);
    complain(&bad);
    return now;
}

void mdl_log_reload(void)
{
    struct complaints bad = {{0}, {0}, {0}};
    pthread_mutex_lock(&settings_lock);
    int old = atomic_load_explicit(&log_fd, memory_order_relaxed);
    read_environment(&bad);
    if (old != STDERR_FILENO) close(old);
    pthread_mutex_unlock(&settings_lock);
    complain(&bad);
}

/* ---- messages ---- */

bool mdl_log_enabled(medleyLogLevel_t level, enum mdl_subsys subsys)
{
    uint32_t now = atomic_load_explicit(&filter, memory_order_acquire); /* pairs with publish_filter */
    if (!(now & READY)) now = start();
    if ((uint32_t)level > (now & 0xff)) return false;
    return level <= medleyLogWarn || (now >> (SUBSYS_SHIFT + subsys) & 1);
}

void mdl_log_set_rank(int rank) { thread_rank = rank; }

medleyResult_t mdl_log_set_callback(medleyLogCallback_t callback, medleyLogLevel_t level, void *user)
{
    if ((int)level < medleyLogNone || level > medleyLogTrace)
        return mdl_error(medleyInvalidArgument, "medleySetLogCallback: %d is no log level (0 to 4)", (int)level);
    start();
    pthread_mutex_lock(&settings_lock);
    unsigned sequence = atomic_load_explicit(&sink_sequence, memory_order_relaxed);
    /* The odd number, the fence and the release pair with those in get_sink. */
    atomic_store_explicit(&sink_sequence, sequence + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&sink_callback, callback, memory_order_relaxed);
    atomic_store_explicit(&sink_user, user, memory_order_relaxed);
    atomic_store_explicit(&sink_sequence, sequence + 2, memory_order_release);
    publish_filter(callback ? level : env_level);
    pthread_mutex_unlock(&settings_lock);
    return medleySuccess;
}

static medleyLogCallback_t get_sink(void **user)
{
    for (;;) {
        unsigned before = atomic_load_explicit(&sink_sequence, memory_order_acquire);
        medleyLogCallback_t callback = atomic_load_explicit(&sink_callback, memory_order_relaxed);
        *user = atomic_load_explicit(&sink_user, memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        if (!(before & 1) && before == atomic_load_explicit(&sink_sequence, memory_order_relaxed)) return callback;
    }
}

/* One message is one line, and names that came from other machines may not steer the terminal. */
static void drop_control_characters(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f) *text = ' ';
}

static void write_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return; /* a log that cannot be written is no reason to stop */
        p += n;
        len -= (size_t)n;
    }
}

static void write_line(medleyLogLevel_t level, enum mdl_subsys subsys, const char *message)
{
    char line[LINE_BYTES], rank[16] = "";
    if (thread_rank >= 0) snprintf(rank, sizeof(rank), "[%d] ", thread_rank);
    int len = snprintf(line, sizeof(line) - 1, "%s:%ld:%ld %smedley %s %s %s", host_name, (long)getpid(),
                       syscall(SYS_gettid), rank, level_names[level], subsys_names[subsys], message);
    if (len < 0) return;
    if ((size_t)len > sizeof(line) - 2) len = sizeof(line) - 2;
    line[len] = '\n';
    write_all(atomic_load_explicit(&log_fd, memory_order_relaxed), line, (size_t)len + 1);
}

void mdl_log_write(medleyLogLevel_t level, enum mdl_subsys subsys, const char *fmt, ...)
{
    int saved = errno;
    if (!(atomic_load_explicit(&filter, memory_order_acquire) & READY)) start();
    char message[LINE_BYTES - 256];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    if (len >= (int)sizeof(message)) memcpy(message + sizeof(message) - 4, "...", 4);
    drop_control_characters(message);

    void *user;
    medleyLogCallback_t callback = get_sink(&user);
    if (callback)
        callback(level, subsys_names[subsys], message, user);
    else
        write_line(level, subsys, message);
    errno = saved;
}
