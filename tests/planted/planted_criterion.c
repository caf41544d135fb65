/* planted_criterion.c - faults made on purpose, each of which the unit suite must see.
 *
 * They look like tests and end like passing ones; only the files below the sanitizers' log_path
 * tell. Not among the tests of ctest: tests/planted/expect_report.sh runs one at a time and expects
 * its report. */
#include <criterion/criterion.h>
#include <stdlib.h>

static void *volatile forgotten; /* volatile, so that the compiler cannot see what is lost */

Test(planted, leak)
{
    forgotten = malloc(100);
    cr_assert_not_null(forgotten);
    forgotten = NULL;
}

Test(planted, overflow)
{
    volatile size_t end = 8;
    volatile char *bytes = malloc(end); /* volatile, or the last write before free() is dropped */

    cr_assert_not_null(bytes);
    bytes[end] = 1;
    free((void *)bytes);
}

Test(planted, shift)
{
    volatile int places = 40;
    volatile int shifted = 1 << places;

    (void)shifted;
}
