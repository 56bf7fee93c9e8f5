/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: code, text per thread, hints, and that each is logged once. */
#include "config.h"
#include "lib/base/log.h"
#include "lib/base/status.h"
#include "tests/unit/unit.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

static int logged;
static char logged_text[MDL_ERROR_TEXT_BYTES];
static void count_log(medleyLogLevel_t level, const char *subsystem, const char *message, void *user)
{
    (void)user, (void)subsystem;
    ck_assert_int_eq(level, medleyLogWarn);
    logged++;
    snprintf(logged_text, sizeof(logged_text), "%s", message);
}

static void catch_log(void) { ck_assert_int_eq(mdl_log_set_callback(count_log, medleyLogTrace, NULL), medleySuccess); }

START_TEST(error_keeps_code_text_and_errno)
{
    catch_log();
    ck_assert_str_eq(mdl_error_text(), "");
    errno = EBADF;
    ck_assert_int_eq(mdl_error(medleyRemoteError, "rank %d is gone", 7), medleyRemoteError);
    ck_assert_int_eq(errno, EBADF);
    ck_assert_str_eq(mdl_error_text(), "rank 7 is gone");
    ck_assert_int_eq(logged, 1);
    ck_assert_str_eq(logged_text, "rank 7 is gone");
}
END_TEST

START_TEST(error_may_quote_the_last_one)
{
    catch_log();
    mdl_error(medleyInternalError, "inner");
    mdl_error(medleyInternalError, "outer (%s)", mdl_error_text());
    ck_assert_str_eq(mdl_error_text(), "outer (inner)");
    mdl_error_set(medleyInternalError, mdl_error_text() + 7);
    ck_assert_str_eq(mdl_error_text(), "inner)");
}
END_TEST

START_TEST(set_does_not_log_and_clear_forgets)
{
    catch_log();
    ck_assert_int_eq(mdl_error_set(medleyTimeout, "rank 3 said: late"), medleyTimeout);
    ck_assert_str_eq(mdl_error_text(), "rank 3 said: late");
    ck_assert_int_eq(logged, 0);
    mdl_error_clear();
    ck_assert_str_eq(mdl_error_text(), "");
}
END_TEST

START_TEST(system_error_says_why_and_what_to_do)
{
    static const struct {
        int err;
        const char *hint;
    } hints[] = {
        {EMFILE, "ulimit -n"},
        {ENOMEM, "memory"},
        {EADDRINUSE, "MEDLEY_PORT_RANGE"},
        {EPERM, "seccomp"},
        {EACCES, "capabilities"},
        {ENOSPC, "/dev/shm"},
        {ECONNREFUSED, "nobody"},
        {ENOSYS, "kernel"},
        {EHOSTUNREACH, "MEDLEY_SOCKET_IFNAME"},
        {ENFILE, "fs.file-max"},
        {EAGAIN, "pids.max"},
        {EADDRNOTAVAIL, "MEDLEY_COMM_ID"},
        {ENOBUFS, "MEDLEY_SOCKET_BUFFER"},
        {ETIMEDOUT, "firewall"},
    };
    catch_log();
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
        ck_assert_int_eq(mdl_system_error(hints[i].err, "rank %zu: socket", i), medleySystemError);
        ck_assert_ptr_nonnull(strstr(mdl_error_text(), strerror(hints[i].err)));
        ck_assert_ptr_nonnull(strstr(mdl_error_text(), hints[i].hint));
        ck_assert_int_eq(logged, (int)i + 1);
    }
    mdl_system_error(EDOM, "this");
    char expected[128];
    snprintf(expected, sizeof(expected), "this: %s", strerror(EDOM));
    ck_assert_str_eq(mdl_error_text(), expected);
}
END_TEST

START_TEST(long_texts_are_cut_but_keep_the_reason)
{
    char longer[2 * MDL_ERROR_TEXT_BYTES];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    catch_log();
    mdl_error(medleyInternalError, "%s", longer);
    ck_assert_uint_eq(strlen(mdl_error_text()), MDL_ERROR_TEXT_BYTES - 1);
    mdl_system_error(EMFILE, "%s", longer);
    ck_assert_uint_eq(strlen(mdl_error_text()), MDL_ERROR_TEXT_BYTES - 1);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "xx: Too many open files"));
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "`ulimit -n`)"));
}
END_TEST

static void *other_thread(void *arg)
{
    ck_assert_str_eq(mdl_error_text(), "");
    mdl_error(medleyInternalError, "theirs");
    return arg;
}

START_TEST(each_thread_has_its_own_text)
{
    catch_log();
    mdl_error(medleyInternalError, "mine");
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, NULL), 0);
    pthread_join(thread, NULL);
    ck_assert_str_eq(mdl_error_text(), "mine");
}
END_TEST

static medleyResult_t tries(medleyResult_t result)
{
    MDL_TRY(result);
    return medleyInProgress;
}

START_TEST(try_passes_errors_up)
{
    ck_assert_int_eq(tries(medleySuccess), medleyInProgress);
    ck_assert_int_eq(tries(medleyTimeout), medleyTimeout);
}
END_TEST

UNIT_MAIN("status", error_keeps_code_text_and_errno, error_may_quote_the_last_one, set_does_not_log_and_clear_forgets,
          system_error_says_why_and_what_to_do, long_texts_are_cut_but_keep_the_reason, each_thread_has_its_own_text,
          try_passes_errors_up)
