/* SPDX-License-Identifier: Apache-2.0 */
/* The log: levels, subsystems, the file's name, the line's head, the callback, and lines from many threads. */
#include "config.h"
#include "lib/base/log.h"
#include "tests/unit/unit.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static char folder[64];
static char file_text[1 << 20];

/* Sends the log to a new file whose pattern ends with `tail`. */
static void log_to_file(const char *tail)
{
    char pattern[128];
    snprintf(folder, sizeof(folder), "/tmp/medley-log-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(pattern, sizeof(pattern), "%s/%s", folder, tail);
    setenv("MEDLEY_DEBUG_FILE", pattern, 1);
    mdl_log_reload();
}

/* Reads `name` in the folder and removes both. */
static const char *take_file(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
    size_t len = fread(file_text, 1, sizeof(file_text) - 1, f);
    file_text[len] = '\0';
    fclose(f);
    unlink(path);
    rmdir(folder);
    return file_text;
}

START_TEST(default_level_is_warn)
{
    mdl_log_reload();
    ck_assert(mdl_log_enabled(medleyLogWarn, MDL_NET));
    ck_assert(mdl_log_enabled(medleyLogVersion, MDL_NET));
    ck_assert(!mdl_log_enabled(medleyLogInfo, MDL_NET));
}
END_TEST

START_TEST(first_use_reads_the_environment)
{
    setenv("MEDLEY_DEBUG", "TRACE", 1);
    ck_assert(mdl_log_enabled(medleyLogTrace, MDL_PLAN));
}
END_TEST

START_TEST(levels_by_name_in_any_case)
{
    static const char *const names[] = {"NONE", "version", "Warn", "INFO", "trace"};
    for (int set = 0; set < 5; set++) {
        setenv("MEDLEY_DEBUG", names[set], 1);
        mdl_log_reload();
        for (int level = 1; level < 5; level++)
            ck_assert_int_eq(mdl_log_enabled((medleyLogLevel_t)level, MDL_SHM), level <= set);
    }
}
END_TEST

START_TEST(subsystems_narrow_info_but_not_warnings)
{
    setenv("MEDLEY_DEBUG", "INFO", 1);
    setenv("MEDLEY_DEBUG_SUBSYS", "init,NET", 1);
    mdl_log_reload();
    ck_assert(mdl_log_enabled(medleyLogInfo, MDL_INIT));
    ck_assert(mdl_log_enabled(medleyLogInfo, MDL_NET));
    ck_assert(!mdl_log_enabled(medleyLogInfo, MDL_SHM));
    ck_assert(mdl_log_enabled(medleyLogWarn, MDL_SHM));

    setenv("MEDLEY_DEBUG_SUBSYS", "^COLL,^TOPO", 1);
    mdl_log_reload();
    ck_assert(!mdl_log_enabled(medleyLogInfo, MDL_COLL));
    ck_assert(!mdl_log_enabled(medleyLogInfo, MDL_TOPO));
    ck_assert(mdl_log_enabled(medleyLogInfo, MDL_INIT));

    setenv("MEDLEY_DEBUG_SUBSYS", "ALL,^MEM", 1);
    mdl_log_reload();
    ck_assert(!mdl_log_enabled(medleyLogInfo, MDL_MEM));
    ck_assert(mdl_log_enabled(medleyLogInfo, MDL_TUNE));
}
END_TEST

START_TEST(file_name_has_host_and_pid)
{
    char host[65] = "", name[128];
    gethostname(host, sizeof(host) - 1);
    log_to_file("%h.%p.100%%.%x");
    MDL_WARN(MDL_NET, "hello %d", 5);
    snprintf(name, sizeof(name), "%s.%ld.100%%.%%x", host, (long)getpid());
    char expected[256];
    snprintf(expected, sizeof(expected), "%s:%ld:%ld medley WARN NET hello 5\n", host, (long)getpid(), syscall(SYS_gettid));
    ck_assert_str_eq(take_file(name), expected);
}
END_TEST

START_TEST(line_names_the_rank)
{
    log_to_file("log");
    mdl_log_set_rank(12);
    MDL_WARN(MDL_COLL, "a");
    mdl_log_set_rank(-1);
    MDL_WARN(MDL_COLL, "b");
    const char *text = take_file("log");
    ck_assert_ptr_nonnull(strstr(text, " [12] medley WARN COLL a\n"));
    ck_assert_ptr_nonnull(strstr(text, " medley WARN COLL b\n"));
    ck_assert_ptr_null(strstr(text, "[-1]"));
}
END_TEST

START_TEST(one_message_is_one_line)
{
    log_to_file("log");
    MDL_WARN(MDL_BOOT, "host \x1b[31mevil\nmedley WARN BOOT forged");
    const char *text = take_file("log");
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    ck_assert_ptr_null(strchr(text, 0x1b));
}
END_TEST

START_TEST(long_messages_are_cut)
{
    static char longer[10000];
    memset(longer, 'y', sizeof(longer) - 1);
    log_to_file("log");
    MDL_WARN(MDL_BOOT, "%s", longer);
    const char *text = take_file("log");
    size_t len = strlen(text);
    ck_assert_uint_lt(len, 2100);
    ck_assert_str_eq(text + len - 5, "y...\n");
}
END_TEST

START_TEST(file_is_appended_and_close_on_exec)
{
    log_to_file("log");
    MDL_WARN(MDL_BOOT, "one");
    mdl_log_reload();
    MDL_WARN(MDL_BOOT, "two");
    struct stat file, other;
    char path[128];
    snprintf(path, sizeof(path), "%s/log", folder);
    ck_assert_int_eq(stat(path, &file), 0);
    int found = 0;
    for (int fd = 3; fd < 64; fd++) {
        if (fstat(fd, &other) != 0 || other.st_ino != file.st_ino || other.st_dev != file.st_dev) continue;
        ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
        found++;
    }
    ck_assert_int_eq(found, 1); /* reload closed the former one */
    const char *text = take_file("log");
    ck_assert_ptr_nonnull(strstr(text, "one\n"));
    ck_assert_ptr_nonnull(strstr(text, "two\n"));
}
END_TEST

/* ---- callback ---- */

struct seen {
    int count;
    medleyLogLevel_t level;
    char subsystem[16], message[512];
};

static void keep(medleyLogLevel_t level, const char *subsystem, const char *message, void *user)
{
    struct seen *seen = user;
    seen->count++;
    seen->level = level;
    snprintf(seen->subsystem, sizeof(seen->subsystem), "%s", subsystem);
    snprintf(seen->message, sizeof(seen->message), "%s", message);
}

START_TEST(callback_takes_the_messages)
{
    struct seen seen = {0};
    log_to_file("log");
    ck_assert_int_eq(mdl_log_set_callback(keep, medleyLogInfo, &seen), medleySuccess);
    errno = ENOENT;
    MDL_INFO(MDL_TUNE, "ring is %s", "best");
    ck_assert_int_eq(errno, ENOENT);
    MDL_TRACE(MDL_TUNE, "not shown");
    ck_assert_int_eq(seen.count, 1);
    ck_assert_int_eq(seen.level, medleyLogInfo);
    ck_assert_str_eq(seen.subsystem, "TUNE");
    ck_assert_str_eq(seen.message, "ring is best");

    ck_assert_int_eq(mdl_log_set_callback(NULL, medleyLogNone, NULL), medleySuccess);
    MDL_INFO(MDL_TUNE, "below the environment's level again");
    MDL_WARN(MDL_TUNE, "to the file");
    ck_assert_int_eq(seen.count, 1);
    ck_assert_ptr_nonnull(strstr(take_file("log"), "TUNE to the file\n"));
}
END_TEST

START_TEST(callback_level_is_checked)
{
    struct seen seen = {0};
    ck_assert_int_eq(mdl_log_set_callback(keep, medleyLogTrace, &seen), medleySuccess);
    ck_assert_int_eq(mdl_log_set_callback(keep, (medleyLogLevel_t)5, &seen), medleyInvalidArgument);
    ck_assert_int_eq(mdl_log_set_callback(keep, (medleyLogLevel_t)-1, &seen), medleyInvalidArgument);
    ck_assert_int_eq(seen.count, 2);
}
END_TEST

START_TEST(bad_settings_are_named)
{
    struct seen seen = {0};
    ck_assert_int_eq(mdl_log_set_callback(keep, medleyLogWarn, &seen), medleySuccess);
    setenv("MEDLEY_DEBUG", "LOUD", 1);
    mdl_log_reload();
    ck_assert_ptr_nonnull(strstr(seen.message, "MEDLEY_DEBUG: 'LOUD'"));
    unsetenv("MEDLEY_DEBUG");
    setenv("MEDLEY_DEBUG_SUBSYS", "NET,SHN", 1);
    mdl_log_reload();
    ck_assert_ptr_nonnull(strstr(seen.message, "no subsystem 'SHN'"));
    unsetenv("MEDLEY_DEBUG_SUBSYS");
    setenv("MEDLEY_DEBUG_FILE", "/nonexistent/folder/%p", 1);
    mdl_log_reload();
    ck_assert_ptr_nonnull(strstr(seen.message, "/nonexistent/folder/"));
    ck_assert_ptr_nonnull(strstr(seen.message, strerror(ENOENT)));
    ck_assert_int_eq(seen.count, 3);
}
END_TEST

/* ---- threads ---- */

enum { THREADS = 4, LINES = 200 };

static void *write_lines(void *arg)
{
    int number = *(int *)arg;
    mdl_log_set_rank(number);
    for (int i = 0; i < LINES; i++) MDL_WARN(MDL_SHM, "thread %d line %d end", number, i);
    return NULL;
}

static void run_writers(void)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, write_lines, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

START_TEST(threads_write_whole_lines)
{
    log_to_file("log");
    run_writers();
    char *text = (char *)take_file("log");
    int next[THREADS] = {0}, lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        int rank, number, index;
        const char *head = strchr(line, '[');
        ck_assert_ptr_nonnull(head);
        ck_assert_int_eq(sscanf(head, "[%d] medley WARN SHM thread %d line %d end", &rank, &number, &index), 3);
        ck_assert_int_eq(rank, number);
        ck_assert_int_eq(index, next[number]++);
    }
    ck_assert_int_eq(lines, THREADS * LINES);
}
END_TEST

static atomic_int counts[2];
static void count_first(medleyLogLevel_t level, const char *subsystem, const char *message, void *user)
{
    (void)level, (void)subsystem, (void)message;
    ck_assert_ptr_eq(user, &counts[0]);
    atomic_fetch_add_explicit(&counts[0], 1, memory_order_relaxed);
}
static void count_second(medleyLogLevel_t level, const char *subsystem, const char *message, void *user)
{
    (void)level, (void)subsystem, (void)message;
    ck_assert_ptr_eq(user, &counts[1]);
    atomic_fetch_add_explicit(&counts[1], 1, memory_order_relaxed);
}

static void *swap_callbacks(void *arg)
{
    for (int i = 0; i < 2000; i++)
        ck_assert_int_eq(mdl_log_set_callback(i & 1 ? count_first : count_second, medleyLogWarn, &counts[!(i & 1)]),
                         medleySuccess);
    return arg;
}

START_TEST(callback_and_its_pointer_change_together)
{
    ck_assert_int_eq(mdl_log_set_callback(count_first, medleyLogWarn, &counts[0]), medleySuccess);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, swap_callbacks, NULL), 0);
    run_writers();
    pthread_join(thread, NULL);
    ck_assert_int_eq(atomic_load(&counts[0]) + atomic_load(&counts[1]), THREADS * LINES);
}
END_TEST

UNIT_MAIN("log", default_level_is_warn, first_use_reads_the_environment, levels_by_name_in_any_case,
          subsystems_narrow_info_but_not_warnings, file_name_has_host_and_pid, line_names_the_rank,
          one_message_is_one_line, long_messages_are_cut, file_is_appended_and_close_on_exec,
          callback_takes_the_messages, callback_level_is_checked, bad_settings_are_named, threads_write_whole_lines,
          callback_and_its_pointer_change_together)
