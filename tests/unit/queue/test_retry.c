#include "queue/queue_private.h"

#include <criterion/criterion.h>

Test(retry, doubles_up_to_its_most_with_a_tenth_of_jitter)
{
    static const uint64_t want[] = {1000, 2000, 4000, 8000, 10000, 10000, 10000};

    for (uint32_t tries = 1; tries <= ARRAY_SIZE(want); tries++) {
        for (int i = 0; i < 200; i++) {
            uint64_t ms = retry_delay_ms(1000, 10000, tries);

            cr_assert_geq(ms, want[tries - 1] * 9 / 10);
            cr_assert_leq(ms, want[tries - 1] * 11 / 10);
        }
    }
}

Test(retry, jitter_spreads)
{
    bool below = false, above = false;

    for (int i = 0; i < 1000; i++) {
        uint64_t ms = retry_delay_ms(100000, 100000, 1);

        below = below || ms < 95000;
        above = above || ms > 105000;
    }
    cr_expect(below && above);
}

Test(retry, any_number_of_tries)
{
    cr_expect_leq(retry_delay_ms(UINT32_MAX, UINT32_MAX, 255), UINT32_MAX * 11ull / 10);
    cr_expect_eq(retry_delay_ms(0, 0, 255), 0);
    cr_expect_leq(retry_delay_ms(1, 3600000, 1000000), 3600000 * 11ull / 10);
}
