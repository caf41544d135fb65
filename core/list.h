/* core/list.h - intrusive doubly linked list; a list is a node that points to itself when empty.
 *
 * Nodes are embedded in what they link; the list owns nothing. A node that is in no list is
 * initialised with list_node_init(), so that list_remove() twice is harmless.
 */
#ifndef KILAT_CORE_LIST_H
#define KILAT_CORE_LIST_H

#include "core/defs.h"

struct list_node {
    struct list_node *next;
    struct list_node *prev;
};

static inline void list_node_init(struct list_node *node)
{
    node->next = node;
    node->prev = node;
}
#define list_init(list) list_node_init(list)

static inline bool list_empty(const struct list_node *list)
{
    return list->next == list;
}

static inline void list_insert_after(struct list_node *at, struct list_node *node)
{
    node->prev = at;
    node->next = at->next;
    at->next->prev = node;
    at->next = node;
}

static inline void list_push_back(struct list_node *list, struct list_node *node)
{
    list_insert_after(list->prev, node);
}

static inline void list_push_front(struct list_node *list, struct list_node *node)
{
    list_insert_after(list, node);
}

/* Leaves `node` linked to itself: removing it again does nothing. */
static inline void list_remove(struct list_node *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_node_init(node);
}

static inline bool list_linked(const struct list_node *node)
{
    return node->next != node;
}

/* NULL when empty. */
static inline struct list_node *list_pop_front(struct list_node *list)
{
    struct list_node *node = list->next;
    if (node == list)
        return NULL;
    list_remove(node);
    return node;
}

/* Moves all nodes of `from` to the end of `to`; `from` is empty afterwards. */
static inline void list_splice_back(struct list_node *to, struct list_node *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    from->prev->next = to;
    to->prev->next = from->next;
    to->prev = from->prev;
    list_init(from);
}

#define list_for_each(node, list)                                                                  \
    for (struct list_node *node = (list)->next; node != (list); node = node->next)
/* `node` may be removed and freed in the body. */
#define list_for_each_safe(node, list)                                                             \
    for (struct list_node *node = (list)->next, *node##_next = node->next; node != (list);         \
         node = node##_next, node##_next = node->next)

#endif
