#include "queue/index.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

static uint32_t put(struct index *index, uint64_t id, uint32_t units)
{
    uint32_t number = INDEX_NONE;

    cr_assert_eq(index_alloc(index, units, &number), 0);
    index_entry(index, number)->id = id;
    index_insert(index, number, index->youngest);
    return number;
}

/* Goal: growth moves nothing, and what was put in is found until it is taken out. */
Test(index, many_entries_are_found_and_stay_where_they_are)
{
    struct index index;
    struct index_entry *first;
    uint32_t number;

    cr_assert_eq(index_init(&index), 0);
    number = put(&index, 7, 1);
    first = index_entry(&index, number);
    for (uint64_t id = 1000; id < 51000; id++)
        put(&index, id, 1);
    cr_expect_eq(index_entry(&index, number), first);
    cr_expect_eq(first->id, 7);
    for (uint64_t id = 1000; id < 51000; id += 3)
        index_free(&index, index_find(&index, id));
    for (uint64_t id = 1000; id < 51000; id++) {
        uint32_t found = index_find(&index, id);

        if ((id - 1000) % 3 == 0)
            cr_assert_eq(found, INDEX_NONE);
        else
            cr_assert_eq(index_entry(&index, found)->id, id);
    }
    cr_expect_eq(index_find(&index, 51000), INDEX_NONE);
    index_deinit(&index);
}

Test(index, a_message_costs_at_most_eighty_bytes)
{
    struct index index;
    const uint32_t count = 64 * INDEX_SLAB_COUNT - 1;

    cr_assert_eq(index_init(&index), 0);
    for (uint32_t i = 0; i < count; i++)
        put(&index, i + 1, 1);
    cr_expect_leq(index_bytes(&index) / count, 80, "%lu",
                  (unsigned long)index_bytes(&index) / count);
    index_deinit(&index);
}

Test(index, freed_numbers_are_used_again)
{
    struct index index;
    uint64_t bytes;

    cr_assert_eq(index_init(&index), 0);
    put(&index, 1, 300);
    bytes = index_bytes(&index);
    for (uint64_t id = 2; id < 100000; id++)
        index_free(&index, put(&index, id, 300));
    cr_expect_eq(index_bytes(&index), bytes);
    cr_expect_eq(index.entry_count, 1);
    index_deinit(&index);
}

Test(index, order_is_that_of_ids_whoever_comes_first)
{
    static const uint64_t ids[] = {5, 9, 7, 1, 8, 20, 2};
    static const uint64_t want[] = {1, 2, 5, 7, 8, 9, 20};
    struct index index;
    uint32_t at = INDEX_NONE;

    cr_assert_eq(index_init(&index), 0);
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
        put(&index, ids[i], 1);
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        at = index_older_first(&index, at);
        cr_assert_eq(index_entry(&index, at)->id, want[i]);
    }
    cr_expect_eq(index_older_first(&index, at), INDEX_NONE);
    index_free(&index, index_find(&index, 1));
    index_free(&index, index_find(&index, 20));
    index_free(&index, index_find(&index, 7));
    cr_expect_eq(index_entry(&index, index_older_first(&index, INDEX_NONE))->id, 2);
    cr_expect_eq(index_older_first(&index, index_find(&index, 9)), INDEX_NONE);
    cr_expect_eq(index_older_first(&index, index_find(&index, 5)), index_find(&index, 8));
    index_deinit(&index);
}

Test(index, open_recipients)
{
    struct index index;
    uint32_t number, first = 0, count = 0;

    cr_assert_eq(index_init(&index), 0);
    number = put(&index, 1, 1000);
    cr_assert(index_open_run(&index, number, &first, &count));
    cr_expect_eq(count, 1000);
    for (uint32_t unit = 100; unit < 900; unit++)
        index_unit_close(&index, number, unit);
    index_unit_close(&index, number, 999);
    cr_expect(index_unit_open(&index, number, 99));
    cr_expect_not(index_unit_open(&index, number, 100));
    cr_expect_not(index_unit_open(&index, number, 899));
    cr_expect(index_unit_open(&index, number, 900));
    cr_expect_not(index_unit_open(&index, number, 1000), "outside the message");
    first = 0;
    cr_assert(index_open_run(&index, number, &first, &count));
    cr_expect_eq(count, 100);
    first = 100;
    cr_assert(index_open_run(&index, number, &first, &count));
    cr_expect_eq(first, 900);
    cr_expect_eq(count, 99);
    first = 999;
    cr_expect_not(index_open_run(&index, number, &first, &count));
    index_deinit(&index);
}

Test(index, items_of_a_message)
{
    struct index index;
    uint32_t number, units[3], at;

    cr_assert_eq(index_init(&index), 0);
    number = put(&index, 1, 3);
    cr_expect_eq(index_next_item(&index, number, INDEX_NONE), number, "an entry is its own item");
    cr_expect_eq(index_next_item(&index, number, number), INDEX_NONE);
    cr_assert_eq(index_unit_add(&index, number, INDEX_NONE, &units[0]), 0);
    cr_assert_eq(index_unit_add(&index, number, units[0], &units[1]), 0);
    cr_assert_eq(index_unit_add(&index, number, units[1], &units[2]), 0);
    at = INDEX_NONE;
    for (int i = 0; i < 3; i++) {
        at = index_next_item(&index, number, at);
        cr_expect_eq(at, units[i]);
        cr_expect_eq(index_entry_of(&index, at), number);
        index_item(&index, at)->open_count = (uint16_t)(i + 1);
    }
    cr_expect_eq(index_next_item(&index, number, at), INDEX_NONE);
    cr_expect_eq(index_open_count(&index, number), 6);
    index_deinit(&index);
}

Test(index, lists)
{
    struct index index;
    struct item_list list = {.first = INDEX_NONE};
    uint32_t number[4];

    cr_assert_eq(index_init(&index), 0);
    for (int i = 0; i < 4; i++)
        number[i] = put(&index, (uint64_t)i + 1, 1);
    item_list_push(&index, &list, number[1]);
    item_list_push(&index, &list, number[2]);
    item_list_push_front(&index, &list, number[0]);
    item_list_push(&index, &list, number[3]);
    item_list_remove(&index, &list, number[2]);
    cr_expect_eq(list.count, 3);
    cr_expect_eq(item_list_pop(&index, &list), number[0]);
    item_list_remove(&index, &list, number[3]);
    cr_expect_eq(item_list_pop(&index, &list), number[1]);
    cr_expect_eq(item_list_pop(&index, &list), INDEX_NONE);
    cr_expect_eq(list.count, 0);
    index_deinit(&index);
}

Test(index, a_number_that_was_never_given_out, .signal = SIGABRT)
{
    struct index index;

    cr_assert_eq(index_init(&index), 0);
    (void)index_entry(&index, 5);
}
