/* bench/report.c: medians and ratios that leave out what is missing, and JSON that others can read. */
#include "bench/report.h"

#include <criterion/criterion.h>
#include <math.h>

static void expect_json(struct buf *json, const char *wanted)
{
    cr_expect_not(json->failed);
    cr_expect(slice_equal(buf_slice(json), slice_cstr(wanted)), "%.*s", SLICE_ARG(buf_slice(json)));
    buf_deinit(json);
}

Test(report, median_of_odd_even_and_none)
{
    cr_expect_eq(report_median((double[]){3, 1, 2}, 3), 2);
    cr_expect_eq(report_median((double[]){4, 1, 2, 3}, 4), 2.5);
    cr_expect_eq(report_median((double[]){7}, 1), 7);
    cr_expect(isnan(report_median((double[]){0}, 0)));
}

Test(report, median_leaves_out_what_is_missing)
{
    cr_expect_eq(report_median((double[]){NAN, 5, NAN, 1, 9}, 5), 5);
    cr_expect(isnan(report_median((double[]){NAN, NAN}, 2)));
}

/* The ratio of neighbours, not of medians: here the whole second round was ten times slower. */
Test(report, ratio_is_paired)
{
    double values[] = {20, 200, 22}, bases[] = {10, 100, 10};

    cr_expect_float_eq(report_paired_ratio(values, bases, 3), 2, 1e-9);
}

Test(report, ratio_leaves_out_pairs_that_are_not_whole)
{
    double values[] = {20, NAN, 30, 5}, bases[] = {10, 10, NAN, 0};

    cr_expect_float_eq(report_paired_ratio(values, bases, 4), 2, 1e-9);
    cr_expect(isnan(report_paired_ratio(values, (double[]){0, NAN, 0, 0}, 4)));
}

Test(report, object_with_every_kind)
{
    struct buf json;

    buf_init(&json, KIB);
    report_object_begin(&json);
    report_text(&json, "a", "b");
    report_text(&json, "none", NULL);
    report_u64(&json, "n", UINT64_MAX);
    report_number(&json, "x", 1.5);
    report_number(&json, "missing", NAN);
    report_number(&json, "endless", INFINITY);
    report_bool(&json, "yes", true);
    report_object_end(&json);
    expect_json(&json, "{\"a\": \"b\", \"none\": null, \"n\": 18446744073709551615, \"x\": 1.500, "
                       "\"missing\": null, \"endless\": null, \"yes\": true}");
}

Test(report, text_is_escaped)
{
    struct buf json;

    buf_init(&json, KIB);
    report_object_begin(&json);
    report_text(&json, "a", "\"\\\n\x01\xc3\xa9{");
    report_text(&json, "b", "");
    report_object_end(&json);
    expect_json(&json, "{\"a\": \"\\\"\\\\\\u000a\\u0001\xc3\xa9{\", \"b\": \"\"}");
}
