/* core/heap.h - intrusive binary heap by a 64-bit key, smallest first: times of retries and expiry.
 *
 * Entries remember their place, so that one in the middle can be removed. Owns its array of
 * pointers.
 */
#ifndef KILAT_CORE_HEAP_H
#define KILAT_CORE_HEAP_H

#include "core/defs.h"

struct heap_node {
    uint64_t key;
    uint32_t place; /* private: index + 1 while in the heap, 0 outside */
};

struct heap {
    struct heap_node **nodes;
    uint32_t count;
    uint32_t capacity;
};

void heap_init(struct heap *heap);
void heap_deinit(struct heap *heap);
/* 0 or -ENOMEM (then nothing changed). `node` must be outside. */
int heap_insert(struct heap *heap, struct heap_node *node, uint64_t key);
void heap_remove(struct heap *heap, struct heap_node *node); /* nothing when outside */
struct heap_node *heap_first(const struct heap *heap);       /* NULL when empty */

#endif
