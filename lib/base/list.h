/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive doubly linked list; an unlinked node points to itself. */
#ifndef MDL_BASE_LIST_H_
#define MDL_BASE_LIST_H_

#include <stdbool.h>
#include <stddef.h>

#define mdl_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

struct mdl_list {
    struct mdl_list *next, *prev;
};

static inline void mdl_list_init(struct mdl_list *l) { l->next = l->prev = l; }
static inline bool mdl_list_empty(const struct mdl_list *l) { return l->next == l; }
static inline void mdl_list_append(struct mdl_list *head, struct mdl_list *n)
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}
static inline void mdl_list_remove(struct mdl_list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    mdl_list_init(n);
}
#define mdl_list_each(it, head)                                                                                        \
    for (struct mdl_list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)

#endif
