#include "queue/queue_private.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>

static const uint8_t later[3] = {4, 2, 2}, never[3] = {5, 1, 1};

Test(reason, equal_ones_are_one)
{
    struct reasons reasons;
    uint32_t a, b, c;

    cr_assert_eq(reasons_init(&reasons), 0);
    a = reason_intern(&reasons, later, SLICE("full"));
    b = reason_intern(&reasons, later, SLICE("full"));
    c = reason_intern(&reasons, never, SLICE("full"));
    cr_expect_eq(a, b);
    cr_expect_neq(a, c, "another status");
    cr_expect(slice_equal(reason_text(&reasons, a), SLICE("full")));
    cr_expect_eq(reason_status(&reasons, c)[0], 5);
    reason_unref(&reasons, a);
    cr_expect(slice_equal(reason_text(&reasons, b), SLICE("full")));
    reason_unref(&reasons, b);
    reason_unref(&reasons, c);
    cr_expect_eq(reasons.count, 2, "only those that are always there");
    reasons_deinit(&reasons);
}

Test(reason, a_long_text_is_cut)
{
    struct reasons reasons;
    static char text[5000];

    memset(text, 'x', sizeof(text));
    cr_assert_eq(reasons_init(&reasons), 0);
    cr_expect_eq(
        reason_text(&reasons, reason_intern(&reasons, later, slice_of(text, sizeof(text)))).size,
        QUEUE_REASON_MAX);
    reasons_deinit(&reasons);
}

/* Goal: a peer that answers differently each time costs a bounded amount of memory, and the class survives. */
Test(reason, too_many_are_kept_by_class)
{
    struct reasons reasons;
    uint32_t last_later = 0, last_never = 0;
    char text[32];

    cr_assert_eq(reasons_init(&reasons), 0);
    for (int i = 0; i < 20000; i++) {
        snprintf(text, sizeof(text), "id %d", i);
        last_later = reason_intern(&reasons, later, slice_cstr(text));
        last_never = reason_intern(&reasons, never, slice_cstr(text));
    }
    cr_expect_leq(reasons.count, 8192);
    cr_expect_eq(reason_status(&reasons, last_later)[0], 4);
    cr_expect_eq(reason_status(&reasons, last_never)[0], 5);
    cr_expect_eq(reason_text(&reasons, last_never).size, 0);
    reason_unref(&reasons, last_later);
    reason_unref(&reasons, last_never);
    reasons_deinit(&reasons);
}

Test(reason, let_go_once_too_often, .signal = SIGABRT)
{
    struct reasons reasons;
    uint32_t number;

    cr_assert_eq(reasons_init(&reasons), 0);
    number = reason_intern(&reasons, later, SLICE("full"));
    reason_unref(&reasons, number);
    reason_unref(&reasons, number);
}
