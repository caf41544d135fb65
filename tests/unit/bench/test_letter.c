/* bench/letter.c: what was changed on the way shows, wherever it was changed and however it was cut. */
#include "bench/letter.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#define TAG 0xfedcba9876543210ull
#define ID 4711
#define RECEIVED "Received: from x by y;\r\n\tThu, 1 Jan 2026 00:00:00 +0000\r\nX-Other: 1\r\n"

static struct letter_form form;

static void set_up(void)
{
    cr_assert_eq(letter_form_init(&form, TAG, 4096, "a@bench.test", "b@bench.test"), 0);
}

static void tear_down(void)
{
    letter_form_deinit(&form);
}

TestSuite(letter, .init = set_up, .fini = tear_down);

/* Feeds `wire` in pieces of `piece` octets; false when its end was not seen at its last octet. */
static bool feed(struct letter_check *check, struct slice wire, size_t piece)
{
    letter_check_init(check);
    while (wire.size > 0) {
        struct slice input = slice_first(wire, piece);
        size_t size = input.size;
        bool ended = letter_check_input(check, &input);

        wire = slice_skip(wire, size - input.size);
        if (ended)
            return wire.size == 0;
    }
    return false;
}

Test(letter, arrives_unaltered_whole_and_in_pieces)
{
    struct letter_check check;
    struct slice wire = letter_write(&form, ID);

    for (size_t piece = 1; piece <= wire.size; piece = piece < 70 ? piece + 1 : piece * 2) {
        cr_assert(feed(&check, wire, piece));
        cr_expect_eq(check.verdict, LETTER_UNALTERED, "in pieces of %zu", piece);
        cr_expect_eq(check.tag, TAG);
        cr_expect_eq(check.id, ID);
        cr_expect_eq(check.size_bytes, 4096);
    }
}

Test(letter, fields_in_front_do_not_matter)
{
    struct letter_check check;
    struct slice wire = letter_write(&form, ID);
    size_t size = strlen(RECEIVED) + wire.size;
    uint8_t *with = malloc(size);

    memcpy(with, RECEIVED, strlen(RECEIVED));
    memcpy(with + strlen(RECEIVED), wire.data, wire.size);
    for (size_t piece = 1; piece < 200; piece++) {
        cr_assert(feed(&check, slice_of(with, size), piece));
        cr_expect_eq(check.verdict, LETTER_UNALTERED);
    }
    free(with);
}

/* Goal: no octet can change unseen. Method: change each one in turn. */
Test(letter, every_changed_octet_shows)
{
    struct letter_check check;
    struct slice wire = letter_write(&form, ID);
    uint8_t *changed = malloc(wire.size);

    for (size_t at = 0; at < wire.size - 5; at++) {
        if (at == form.dot_at)
            continue; /* is not content */
        memcpy(changed, wire.data, wire.size);
        changed[at] ^= 1;
        if (!feed(&check, slice_of(changed, wire.size), SIZE_MAX))
            continue; /* it was an octet of the end: no letter came at all */
        cr_expect(check.verdict != LETTER_UNALTERED || check.tag != TAG || check.id != ID,
                  "octet %zu", at);
    }
    free(changed);
}

Test(letter, a_missing_or_doubled_octet_shows)
{
    struct letter_check check;
    struct slice wire = letter_write(&form, ID);
    uint8_t *changed = malloc(wire.size + 1);
    static const size_t places[] = {100, 500, 1000, 4000};

    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        size_t at = places[i];

        memcpy(changed, wire.data, at);
        memcpy(changed + at, wire.data + at + 1, wire.size - at - 1);
        cr_assert(feed(&check, slice_of(changed, wire.size - 1), SIZE_MAX));
        cr_expect_eq(check.verdict, LETTER_ALTERED);
        memcpy(changed, wire.data, at + 1);
        memcpy(changed + at + 1, wire.data + at, wire.size - at);
        cr_assert(feed(&check, slice_of(changed, wire.size + 1), SIZE_MAX));
        cr_expect_eq(check.verdict, LETTER_ALTERED);
    }
    free(changed);
}

/* A relay that forgets to stuff, or to unstuff. */
Test(letter, wrong_stuffing_shows)
{
    struct letter_check check;
    struct slice wire = letter_write(&form, ID);
    uint8_t *changed = malloc(wire.size + 1);

    memcpy(changed, wire.data, form.dot_at);
    memcpy(changed + form.dot_at, wire.data + form.dot_at + 1, wire.size - form.dot_at - 1);
    cr_assert(feed(&check, slice_of(changed, wire.size - 1), SIZE_MAX));
    cr_expect_eq(check.verdict, LETTER_ALTERED);
    memcpy(changed, wire.data, form.dot_at + 1);
    memcpy(changed + form.dot_at + 1, wire.data + form.dot_at, wire.size - form.dot_at);
    cr_assert(feed(&check, slice_of(changed, wire.size + 1), SIZE_MAX));
    cr_expect_eq(check.verdict, LETTER_ALTERED);
    free(changed);
}

Test(letter, other_mail_is_foreign)
{
    static const char *const rows[] = {
        "Subject: halo\r\n\r\nsurat\r\n.\r\n",
        ".\r\n",
        "\r\n.\r\n",
        "\r\nX-Kilat-Bench: 0000000000000000 0000000000000000 00000000\r\n.\r\n",
        "X-Kilat-Bench: 000000000000000g 0000000000000000 00000000\r\n\r\n.\r\n",
        "X-Kilat-Bench: 0000000000000000 0000000000000000 000000000\r\n\r\n.\r\n",
    };
    struct letter_check check;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        for (size_t piece = 1; piece < 80; piece++) {
            cr_expect(feed(&check, slice_cstr(rows[i]), piece), "row %zu", i);
            cr_expect_eq(check.verdict, LETTER_FOREIGN, "row %zu", i);
        }
}

Test(letter, only_crlf_dot_crlf_is_the_end)
{
    static const char *const rows[] = {"a\n.\r\n", "a\r\n.\n", "a\r\n.\r", "a\r\n..\r\n",
                                       "a\r\n.b\r\n"};
    struct letter_check check;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        for (size_t piece = 1; piece < 8; piece++)
            cr_expect_not(feed(&check, slice_cstr(rows[i]), piece), "row %zu", i);
}

Test(letter, what_follows_the_end_is_left)
{
    struct letter_check check;
    struct slice input = SLICE("a\r\n.\r\nQUIT\r\n");

    letter_check_init(&check);
    cr_assert(letter_check_input(&check, &input));
    cr_expect(slice_equal(input, SLICE("QUIT\r\n")));
}

Test(letter, ids_differ_in_the_text_as_well)
{
    uint8_t *first = malloc(form.wire_bytes);
    struct slice wire = letter_write(&form, 1);
    size_t differ = 0;

    memcpy(first, wire.data, wire.size);
    wire = letter_write(&form, 2);
    for (size_t i = LETTER_FIELD_SIZE; i < wire.size; i++)
        differ += first[i] != wire.data[i];
    cr_expect_eq(differ, 2);
    free(first);
}

Test(letter, sizes_have_bounds)
{
    struct letter_form other;

    cr_expect_eq(letter_form_init(&other, TAG, LETTER_SIZE_MIN - 1, "a@b", "c@d"), -EINVAL);
    cr_expect_eq(letter_form_init(&other, TAG, LETTER_SIZE_MAX + 1, "a@b", "c@d"), -EINVAL);
    for (size_t size = LETTER_SIZE_MIN; size < LETTER_SIZE_MIN + 200; size++) {
        struct letter_check check;

        cr_assert_eq(letter_form_init(&other, TAG, size, "a@b", "c@d"), 0);
        cr_assert(feed(&check, letter_write(&other, ID), SIZE_MAX));
        cr_expect_eq(check.verdict, LETTER_UNALTERED);
        cr_expect_eq(check.size_bytes, size);
        letter_form_deinit(&other);
    }
}
