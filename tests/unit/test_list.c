/* SPDX-License-Identifier: Apache-2.0 */
/* The intrusive list: order, removal of any node, also of the one that the loop stands on. */
#include "config.h"
#include "lib/base/list.h"
#include "tests/unit/unit.h"

struct item {
    int value;
    struct mdl_list link;
};

static void fill(struct mdl_list *head, struct item *items, int count)
{
    mdl_list_init(head);
    for (int i = 0; i < count; i++) {
        items[i].value = i;
        mdl_list_append(head, &items[i].link);
    }
}

/* The values as a decimal number: 1, 2, 3 is 123. */
static int digits(struct mdl_list *head)
{
    int n = 0;
    mdl_list_each (it, head) n = n * 10 + mdl_container_of(it, struct item, link)->value;
    return n;
}

START_TEST(new_list_is_empty)
{
    struct mdl_list head;
    mdl_list_init(&head);
    ck_assert(mdl_list_empty(&head));
    ck_assert_int_eq(digits(&head), 0);
}
END_TEST

START_TEST(keeps_order)
{
    struct mdl_list head;
    struct item items[5];
    fill(&head, items, 5);
    ck_assert(!mdl_list_empty(&head));
    ck_assert_int_eq(digits(&head), 1234);
}
END_TEST

START_TEST(removes_first_middle_and_last)
{
    struct mdl_list head;
    struct item items[5];
    fill(&head, items, 5);
    mdl_list_remove(&items[2].link);
    ck_assert_int_eq(digits(&head), 134);
    mdl_list_remove(&items[4].link);
    ck_assert_int_eq(digits(&head), 13);
    mdl_list_remove(&items[0].link);
    ck_assert_int_eq(digits(&head), 13);
    mdl_list_remove(&items[1].link);
    mdl_list_remove(&items[3].link);
    ck_assert(mdl_list_empty(&head));
}
END_TEST

START_TEST(removed_node_is_unlinked_and_may_be_removed_again)
{
    struct mdl_list head;
    struct item items[2];
    fill(&head, items, 2);
    mdl_list_remove(&items[0].link);
    ck_assert(mdl_list_empty(&items[0].link));
    mdl_list_remove(&items[0].link);
    ck_assert_int_eq(digits(&head), 1);
}
END_TEST

START_TEST(loop_may_remove_its_node)
{
    struct mdl_list head;
    struct item items[6];
    fill(&head, items, 6);
    mdl_list_each (it, &head) {
        if (mdl_container_of(it, struct item, link)->value % 2 == 0) mdl_list_remove(it);
    }
    ck_assert_int_eq(digits(&head), 135);
}
END_TEST

UNIT_MAIN("list", new_list_is_empty, keeps_order, removes_first_middle_and_last,
          removed_node_is_unlinked_and_may_be_removed_again, loop_may_remove_its_node)
