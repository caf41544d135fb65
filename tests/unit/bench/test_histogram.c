/* bench/histogram.c: no value is lost, and none is told worse than the header promises. */
#include "bench/histogram.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct histogram *histogram;

static void set_up(void)
{
    histogram = malloc(sizeof(*histogram));
    histogram_init(histogram);
}

static void tear_down(void)
{
    free(histogram);
}

TestSuite(histogram, .init = set_up, .fini = tear_down);

Test(histogram, empty_says_zero)
{
    cr_expect_eq(histogram_percentile(histogram, 50), 0);
    cr_expect_eq(histogram_percentile(histogram, 100), 0);
    cr_expect_eq(histogram_mean(histogram), 0);
    cr_expect_eq(histogram->total, 0);
}

/* Up to 2047 every value has a part of its own. */
Test(histogram, small_values_are_exact)
{
    for (uint64_t value = 0; value < 2048; value++) {
        histogram_init(histogram);
        histogram_record(histogram, value);
        histogram_record(histogram, HISTOGRAM_VALUE_MAX); /* so that max does not help */
        cr_expect_eq(histogram_percentile(histogram, 50), value);
    }
}

/* Goal: the relative error is below 1 in 1024 for every size of value, and never downwards.
 * Method: values around every power of two, each beside a larger one. */
Test(histogram, every_value_is_kept_to_three_digits)
{
    for (unsigned int bits = 11; bits < 40; bits++)
        for (int64_t by = -3; by <= 3; by++) {
            uint64_t value = (1ull << bits) + (uint64_t)by * (1ull << (bits - 5));
            uint64_t told;

            histogram_init(histogram);
            histogram_record(histogram, value);
            histogram_record(histogram, HISTOGRAM_VALUE_MAX);
            told = histogram_percentile(histogram, 50);
            cr_expect_geq(told, value);
            cr_expect_leq(told - value, value / 1024, "%llu told as %llu",
                          (unsigned long long)value, (unsigned long long)told);
        }
}

/* Neighbours on both sides of a bucket's edge stay in order. */
Test(histogram, order_is_kept_at_the_edges)
{
    for (unsigned int bits = 11; bits < 40; bits++) {
        histogram_init(histogram);
        histogram_record(histogram, (1ull << bits) - 1);
        histogram_record(histogram, 1ull << bits);
        cr_expect_eq(histogram_percentile(histogram, 50), (1ull << bits) - 1);
        cr_expect_eq(histogram_percentile(histogram, 100), 1ull << bits);
    }
}

Test(histogram, percentiles_of_one_to_a_thousand)
{
    for (uint64_t value = 1; value <= 1000; value++)
        histogram_record(histogram, value);
    cr_expect_eq(histogram_percentile(histogram, 0), 1);
    cr_expect_eq(histogram_percentile(histogram, 50), 500);
    cr_expect_eq(histogram_percentile(histogram, 99), 990);
    cr_expect_eq(histogram_percentile(histogram, 99.9), 999);
    cr_expect_eq(histogram_percentile(histogram, 99.95), 1000);
    cr_expect_eq(histogram_percentile(histogram, 100), 1000);
    cr_expect_float_eq(histogram_mean(histogram), 500.5, 1e-9);
}

Test(histogram, one_late_answer_is_not_hidden)
{
    for (int i = 0; i < 999; i++)
        histogram_record(histogram, 100);
    histogram_record(histogram, 123456789);
    cr_expect_eq(histogram_percentile(histogram, 99.9), 100);
    cr_expect_eq(histogram_percentile(histogram, 100), 123456789);
    cr_expect_eq(histogram->max, 123456789);
}

Test(histogram, a_value_beyond_the_largest_is_counted)
{
    histogram_record(histogram, UINT64_MAX / 2);
    cr_expect_eq(histogram->total, 1);
    cr_expect_eq(histogram_percentile(histogram, 50), UINT64_MAX / 2);
    histogram_record(histogram, 1);
    cr_expect_eq(histogram_percentile(histogram, 50), 1);
}

Test(histogram, added_is_as_if_recorded_in_one)
{
    struct histogram *other = malloc(sizeof(*other)), *both = malloc(sizeof(*both));

    histogram_init(other);
    histogram_init(both);
    for (uint64_t i = 0; i < 5000; i++) {
        uint64_t value = i * i * 77 % 1000003;

        histogram_record(i % 3 == 0 ? histogram : other, value);
        histogram_record(both, value);
    }
    histogram_add(histogram, other);
    cr_expect_arr_eq(histogram, both, sizeof(*both));
    free(other);
    free(both);
}

Test(histogram, adding_an_empty_one_changes_nothing)
{
    struct histogram *other = malloc(sizeof(*other));

    histogram_init(other);
    histogram_record(histogram, 7);
    histogram_add(histogram, other);
    cr_expect_eq(histogram->min, 7);
    cr_expect_eq(histogram->max, 7);
    cr_expect_eq(histogram->total, 1);
    free(other);
}
