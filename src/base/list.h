/*
 * base/list.h - a doubly linked circular list threaded through its elements.
 *
 * A head and an element are both `struct list`; an empty head points to itself.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/types.h"

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

/* Puts ELEMENT last. */
static inline void list_append(struct list *head, struct list *element)
{
    element->prev = head->prev;
    element->next = head;
    head->prev->next = element;
    head->prev = element;
}

/* Takes ELEMENT out of its list and leaves it pointing to itself. */
static inline void list_remove(struct list *element)
{
    element->prev->next = element->next;
    element->next->prev = element->prev;
    list_init(element);
}

#define list_for_each(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)

#endif
