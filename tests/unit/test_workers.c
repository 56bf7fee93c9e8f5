/* SPDX-License-Identifier: Apache-2.0 */
/* The worker pool: every piece runs once, from several callers at once, and no thread stays behind. */
#include "config.h"

#include "lib/engine/workers.h"

#include <check.h>
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { PIECES = 37, ROUNDS = 300, CALLERS = 3 };

static int count_threads(void)
{
    DIR *d = opendir("/proc/self/task");
    int n = 0;

    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void mark(void *arg, int piece) { atomic_fetch_add(&((_Atomic int *)arg)[piece], 1); }

static void *caller(void *arg)
{
    (void)arg;
    for (int k = 0; k < ROUNDS; k++) {
        _Atomic int done[PIECES] = {0};
        mdl_workers_run(mark, (void *)done, PIECES);
        for (int i = 0; i < PIECES; i++) {
            if (done[i] != 1) return (void *)1;
        }
    }
    return NULL;
}

START_TEST(pieces_run_once)
{
    pthread_t t[CALLERS];
    void *bad;

    ck_assert_int_eq(mdl_workers_hold(2, ""), medleySuccess);
    for (int i = 0; i < CALLERS; i++) ck_assert_int_eq(pthread_create(&t[i], NULL, caller, NULL), 0);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(t[i], &bad);
        ck_assert_ptr_null(bad);
    }
    mdl_workers_release();
}
END_TEST

START_TEST(without_workers)
{
    ck_assert_ptr_null(caller(NULL));
}
END_TEST

START_TEST(threads_end)
{
    int before = count_threads();

    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(mdl_workers_hold(3, "0"), medleySuccess);
        ck_assert_int_eq(mdl_workers_hold(0, ""), medleySuccess);
        mdl_workers_release();
        ck_assert_ptr_null(i % 10 ? NULL : caller(NULL));
        mdl_workers_release();
    }
    ck_assert_int_eq(count_threads(), before);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("workers");
    TCase *t = tcase_create("pool");
    SRunner *r;
    int failed;

    tcase_add_test(t, pieces_run_once);
    tcase_add_test(t, without_workers);
    tcase_add_test(t, threads_end);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
