#include "queue/queue_private.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static uint32_t item_due(struct index *index, uint32_t due_s)
{
    uint32_t number = INDEX_NONE;

    cr_assert_eq(index_alloc(index, 1, &number), 0);
    index_item(index, number)->due_s = due_s;
    return number;
}

Test(wheel, each_item_comes_out_in_its_second)
{
    static const uint32_t waits[] = {1,      2,      63,       64,       65,      127,
                                     128,    4095,   4096,     4097,     5000,    262143,
                                     262144, 300000, 16777215, 16777216, 20000000};
    static const uint32_t starts[] = {0, 1, 63, 64, 4095, 4096, 262143, 12345678};

    for (size_t s = 0; s < ARRAY_SIZE(starts); s++) {
        for (size_t w = 0; w < ARRAY_SIZE(waits); w++) {
            struct index index;
            struct wheel wheel;
            struct item_list due = {.first = INDEX_NONE};
            uint32_t due_s = starts[s] + waits[w];

            cr_assert_eq(index_init(&index), 0);
            wheel_init(&wheel, starts[s]);
            wheel_put(&index, &wheel, item_due(&index, due_s));
            while (wheel_next_s(&wheel) < due_s)
                cr_assert_not(wheel_advance(&index, &wheel, wheel_next_s(&wheel), 10, &due));
            cr_assert_eq(due.count, 0, "not early");
            cr_assert_eq(wheel_next_s(&wheel), due_s);
            wheel_advance(&index, &wheel, due_s, 10, &due);
            cr_expect_eq(due.count, 1, "from %u after %u", starts[s], waits[w]);
            cr_expect_eq(wheel.count, 0);
            cr_expect_eq(wheel_next_s(&wheel), UINT32_MAX);
            index_deinit(&index);
        }
    }
}

/* Goal: the wheel agrees with a plain look at every item, with items put in and taken out all the time. */
Test(wheel, agrees_with_a_list)
{
    struct index index;
    struct wheel wheel;
    struct item_list due = {.first = INDEX_NONE};
    uint32_t items[200], now_s = 1000, in_wheel[200] = {0};
    unsigned seed = 7;

    cr_assert_eq(index_init(&index), 0);
    wheel_init(&wheel, now_s);
    for (size_t i = 0; i < ARRAY_SIZE(items); i++)
        items[i] = item_due(&index, 0);
    for (int round = 0; round < 20000; round++) {
        size_t i = (size_t)rand_r(&seed) % ARRAY_SIZE(items);
        uint32_t at;

        if (in_wheel[i]) {
            wheel_remove(&index, &wheel, items[i]);
            in_wheel[i] = 0;
        } else {
            static const uint32_t spans[] = {10, 100, 5000, 300000};

            index_item(&index, items[i])->due_s =
                now_s + 1 + (uint32_t)rand_r(&seed) % spans[rand_r(&seed) % 4];
            wheel_put(&index, &wheel, items[i]);
            in_wheel[i] = 1;
        }
        now_s += (uint32_t)rand_r(&seed) % 50;
        while (wheel_advance(&index, &wheel, now_s, 3, &due))
            ;
        while ((at = item_list_pop(&index, &due)) != INDEX_NONE) {
            size_t k = 0;

            while (items[k] != at)
                k++;
            cr_assert(in_wheel[k]);
            cr_assert_leq(index_item(&index, at)->due_s, now_s);
            in_wheel[k] = 0;
        }
        for (size_t k = 0; k < ARRAY_SIZE(items); k++)
            cr_assert(!in_wheel[k] || index_item(&index, items[k])->due_s > now_s, "overdue");
    }
    index_deinit(&index);
}

Test(wheel, a_time_that_is_past_is_the_next_second)
{
    struct index index;
    struct wheel wheel;
    struct item_list due = {.first = INDEX_NONE};

    cr_assert_eq(index_init(&index), 0);
    wheel_init(&wheel, 50);
    wheel_put(&index, &wheel, item_due(&index, 10));
    cr_expect_eq(wheel_next_s(&wheel), 51);
    wheel_advance(&index, &wheel, 51, 10, &due);
    cr_expect_eq(due.count, 1);
    index_deinit(&index);
}

Test(wheel, a_budget_is_kept)
{
    struct index index;
    struct wheel wheel;
    struct item_list due = {.first = INDEX_NONE};
    uint32_t rounds = 0;

    cr_assert_eq(index_init(&index), 0);
    wheel_init(&wheel, 0);
    for (int i = 0; i < 1000; i++)
        wheel_put(&index, &wheel, item_due(&index, 5000));
    while (wheel_advance(&index, &wheel, 6000, 100, &due)) {
        rounds++;
        cr_assert_lt(rounds, 1000);
    }
    cr_expect_geq(rounds, 10);
    cr_expect_eq(due.count, 1000);
    index_deinit(&index);
}
