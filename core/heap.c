#include "core/heap.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

#define HEAP_CAPACITY_FIRST 16u

void heap_init(struct heap *heap)
{
    *heap = (struct heap){.nodes = NULL};
}

void heap_deinit(struct heap *heap)
{
    free(heap->nodes);
    heap_init(heap);
}

static void put(struct heap *heap, uint32_t at, struct heap_node *node)
{
    heap->nodes[at] = node;
    node->place = at + 1;
}

static void sift_up(struct heap *heap, uint32_t at)
{
    struct heap_node *node = heap->nodes[at];

    while (at > 0) {
        uint32_t parent = (at - 1) / 2;

        if (heap->nodes[parent]->key <= node->key)
            break;
        put(heap, at, heap->nodes[parent]);
        at = parent;
    }
    put(heap, at, node);
}

static void sift_down(struct heap *heap, uint32_t at)
{
    struct heap_node *node = heap->nodes[at];

    for (;;) {
        uint64_t child = 2 * (uint64_t)at + 1;

        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap->nodes[child + 1]->key < heap->nodes[child]->key)
            child++;
        if (heap->nodes[child]->key >= node->key)
            break;
        put(heap, at, heap->nodes[child]);
        at = (uint32_t)child;
    }
    put(heap, at, node);
}

static int grow(struct heap *heap)
{
    uint32_t capacity = heap->capacity == 0 ? HEAP_CAPACITY_FIRST : heap->capacity * 2;
    struct heap_node **nodes;

    if (heap->capacity > UINT32_MAX / 2)
        return -ENOMEM;
    nodes = realloc(heap->nodes, capacity * sizeof(struct heap_node *));
    if (nodes == NULL)
        return -ENOMEM;
    heap->nodes = nodes;
    heap->capacity = capacity;
    return 0;
}

int heap_insert(struct heap *heap, struct heap_node *node, uint64_t key)
{
    ASSERT(node->place == 0);
    if (heap->count == heap->capacity) {
        int r = grow(heap);

        if (r < 0)
            return r;
    }
    node->key = key;
    put(heap, heap->count, node);
    heap->count++;
    sift_up(heap, heap->count - 1);
    return 0;
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    uint32_t at;
    struct heap_node *last;

    if (node->place == 0)
        return;
    at = node->place - 1;
    ASSERT(at < heap->count && heap->nodes[at] == node);
    node->place = 0;
    last = heap->nodes[--heap->count];
    if (last == node)
        return;
    put(heap, at, last);
    sift_up(heap, at);
    sift_down(heap, last->place - 1);
}

struct heap_node *heap_first(const struct heap *heap)
{
    return heap->count == 0 ? NULL : heap->nodes[0];
}
