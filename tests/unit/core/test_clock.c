#include "core/clock.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

Test(clock, monotonic_time_never_goes_back)
{
    uint64_t before = clock_monotonic_ns();

    for (int i = 0; i < 1000; i++) {
        uint64_t now = clock_monotonic_ns();

        cr_expect_geq(now, before);
        before = now;
    }
    cr_expect_gt(clock_wall_ns(), 1600000000 * SECOND_NS);
}

Test(clock, the_zone_follows_the_date)
{
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    cr_expect_eq(clock_zone_offset_s(1704067200), 3600, "January");
    cr_expect_eq(clock_zone_offset_s(1719792000), 7200, "July");
    setenv("TZ", "NST3:30", 1);
    tzset();
    cr_expect_eq(clock_zone_offset_s(1704067200), -12600);
}

Test(clock, random_numbers_stay_below_and_reach_everywhere)
{
    uint32_t seen[10] = {0};
    uint8_t bytes[600] = {0};
    size_t zeros = 0;

    for (int i = 0; i < 2000; i++) {
        uint64_t value = random_below(10);

        cr_assert_lt(value, 10);
        seen[value]++;
    }
    for (size_t i = 0; i < 10; i++)
        cr_expect_gt(seen[i], 100, "each of ten in 2000 tries: 200 are expected");
    cr_expect_eq(random_below(1), 0);
    random_bytes(bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        zeros += bytes[i] == 0;
    cr_expect_lt(zeros, 30);
    cr_expect_neq(random_u64(), random_u64());
}

Test(clock, below_nothing_is_our_fault, .signal = SIGABRT)
{
    (void)random_below(0);
}
