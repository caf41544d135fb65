#include "core/heap.h"
#include <criterion/criterion.h>
#include <signal.h>

#define NODES 500

/* Goal: the first is always a smallest, whatever was inserted and taken from the middle.
 * Method: random operations beside a plain array; the places are checked after each. */
Test(heap, agrees_with_a_plain_array)
{
    static struct heap_node nodes[NODES];
    struct heap heap;
    uint64_t random = 42;

    heap_init(&heap);
    cr_expect_null(heap_first(&heap));
    for (int step = 0; step < 20000; step++) {
        struct heap_node *node;
        const struct heap_node *least = NULL;

        random = random * 6364136223846793005u + 1442695040888963407u;
        node = &nodes[(random >> 33) % NODES];
        if (node->place == 0)
            cr_assert_eq(heap_insert(&heap, node, (random >> 20) % 1000), 0);
        else
            heap_remove(&heap, (random >> 60) == 0 ? heap_first(&heap) : node);
        for (size_t i = 0; i < NODES; i++) {
            if (nodes[i].place == 0)
                continue;
            cr_assert_eq(heap.nodes[nodes[i].place - 1], &nodes[i]);
            if (least == NULL || nodes[i].key < least->key)
                least = &nodes[i];
        }
        if (least == NULL)
            cr_assert_null(heap_first(&heap));
        else
            cr_assert_eq(heap_first(&heap)->key, least->key);
    }
    heap_deinit(&heap);
}

Test(heap, removing_twice_is_harmless)
{
    struct heap heap;
    struct heap_node node = {.place = 0};

    heap_init(&heap);
    heap_remove(&heap, &node);
    cr_assert_eq(heap_insert(&heap, &node, 1), 0);
    heap_remove(&heap, &node);
    heap_remove(&heap, &node);
    cr_expect_eq(heap.count, 0);
    heap_deinit(&heap);
}

Test(heap, inserting_twice_is_our_fault, .signal = SIGABRT)
{
    struct heap heap;
    struct heap_node node = {.place = 0};

    heap_init(&heap);
    (void)heap_insert(&heap, &node, 1);
    (void)heap_insert(&heap, &node, 1);
}
