/* SPDX-License-Identifier: Apache-2.0 */
/* Memory runs out at every single allocation of building and verifying, one after the other: an error comes back each
 * time, and nothing leaks (sanitizer builds see that). The linker puts the functions below in place of the allocator.
 */
#include "config.h"
#include "tests/unit/plan_support.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *ptr, size_t size);

static long countdown = -1; /* allocations until one fails; negative: none does */

static bool fails(void) { return countdown >= 0 && countdown-- == 0; }

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *ptr, size_t size) { return fails() ? NULL : __real_realloc(ptr, size); }

static struct call call;

static medleyResult_t build_failing(const struct setting *s, int rank, long at)
{
    countdown = at;
    struct mdl_builder *b = mdl_builder_new(&call.team, &call.coll, rank, s->parts);
    s->build(&call, rank, b);
    medleyResult_t result = mdl_builder_finish(b, s->name, &call.plans[rank]);
    return result;
}

START_TEST(building)
{
    for (int k = 0; k < CALL_SETTINGS; k++) {
        const struct setting *s = &call_settings[k];
        long at = 0;
        for (;; at++) {
            call_init(&call, s->hosts, s->coll, medleyFloat16, s->root);
            medleyResult_t result = build_failing(s, 1, at);
            bool failed = countdown < 0;
            countdown = -1;
            ck_assert_int_eq(result, failed ? medleyInternalError : medleySuccess);
            call_free(&call);
            if (!failed) break;
            ck_assert_ptr_nonnull(strstr(mdl_error_text(), "out of memory"));
        }
        ck_assert_int_gt(at, 5);
    }
}
END_TEST

START_TEST(verifying)
{
    for (int k = 0; k < CALL_SETTINGS; k++) {
        call_setup(&call, &call_settings[k]);
        for (long at = 0;; at++) {
            char why[256];
            countdown = at;
            medleyResult_t result = mdl_plan_verify(&call.team, &call.coll, call.plans, why, sizeof(why));
            bool failed = countdown < 0;
            countdown = -1;
            ck_assert_msg(result == (failed ? medleySystemError : medleySuccess), "allocation %ld: %s", at, why);
            if (!failed) break;
            ck_assert_ptr_nonnull(strstr(why, "out of memory"));
        }
        call_free(&call);
    }
}
END_TEST

UNIT_MAIN("plan memory", building, verifying)
