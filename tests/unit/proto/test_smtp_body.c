#include "proto/smtp_body.h"

#include "tests/fuzz/smtp_body_reference.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

#define ROOM 512

struct scanned {
    uint8_t content[ROOM];
    size_t content_bytes;
    size_t used;
    struct smtp_body_scan scan;
};

/* Feeds `piece` as one input, in memory of exactly its size, so that a read past it is seen under
 * ASan. */
static void feed(struct scanned *s, struct slice piece)
{
    uint8_t *copy = malloc(piece.size + 1);
    struct slice input = {copy, piece.size}, run;

    if (piece.size > 0)
        memcpy(copy, piece.data, piece.size);
    while (!s->scan.ended && (run = smtp_body_scan_next(&s->scan, &input)).size > 0) {
        cr_assert(s->content_bytes + run.size <= ROOM);
        memcpy(s->content + s->content_bytes, run.data, run.size);
        s->content_bytes += run.size;
    }
    cr_assert(s->scan.ended || input.size == 0, "an input is used up unless the end came");
    s->used += piece.size - input.size;
    free(copy);
}

static void check(const struct scanned *s, struct slice wire, bool normalize, size_t cut)
{
    uint8_t content[2 * ROOM];
    struct body_reference ref = {.content = content};
    uint64_t line_max;
    bool dot_line;

    body_reference_scan(&ref, wire, normalize);
    cr_assert_eq(s->scan.ended, ref.ended, "ended, cut at %zu", cut);
    cr_assert_eq(s->scan.bare_cr, ref.bare_cr, "bare CR, cut at %zu", cut);
    cr_assert_eq(s->scan.bare_lf, ref.bare_lf, "bare LF, cut at %zu", cut);
    cr_assert_eq(s->scan.nul, ref.nul);
    cr_assert_eq(s->scan.eight_bit, ref.eight_bit);
    cr_assert_eq(s->content_bytes, ref.content_bytes, "%zu octets, not %zu, cut at %zu",
                 s->content_bytes, ref.content_bytes, cut);
    cr_assert(memcmp(s->content, ref.content, ref.content_bytes) == 0, "content, cut at %zu", cut);
    if (ref.ended)
        cr_assert_eq(s->used, ref.used);
    if (normalize || (!ref.bare_cr && !ref.bare_lf)) {
        body_reference_lines(&ref, &line_max, &dot_line);
        cr_assert_eq(s->scan.line_bytes_max, line_max);
        cr_assert_eq(s->scan.dot_line, dot_line);
    }
}

/* `cut` SIZE_MAX: whole; 0: octet by octet; else one cut there. */
static void play(struct slice wire, bool normalize, size_t cut)
{
    struct scanned s = {0};

    smtp_body_scan_init(&s.scan);
    s.scan.normalize = normalize;
    if (cut == 0) {
        for (size_t i = 0; i < wire.size; i++)
            feed(&s, slice_first(slice_skip(wire, i), 1));
    } else {
        feed(&s, slice_first(wire, cut));
        feed(&s, slice_skip(wire, cut));
    }
    check(&s, wire, normalize, cut);
}

static void play_all(struct slice wire)
{
    for (int normalize = 0; normalize < 2; normalize++) {
        play(wire, normalize, SIZE_MAX);
        for (size_t cut = 0; cut < wire.size; cut++)
            play(wire, normalize, cut);
    }
}

Test(smtp_body, the_end_is_crlf_dot_crlf_and_what_follows_is_left_alone)
{
    struct scanned s = {0};

    smtp_body_scan_init(&s.scan);
    feed(&s, SLICE("a\r\n.\r\nQUIT\r\n"));
    cr_assert(s.scan.ended);
    cr_assert_eq(s.used, 6);
    cr_assert_eq(s.content_bytes, 3);
}

Test(smtp_body, a_dot_right_after_data_is_an_empty_message)
{
    struct scanned s = {0};

    smtp_body_scan_init(&s.scan);
    feed(&s, SLICE(".\r\n"));
    cr_assert(s.scan.ended);
    cr_assert_eq(s.content_bytes, 0);
}

/* Goal: a body of ordinary lines is one run, where it lies: nothing is copied, nothing cut at line
 * ends. */
Test(smtp_body, an_ordinary_body_is_one_run_in_place)
{
    static const uint8_t wire[] = "Subject: x\r\n\r\none\r\ntwo\r\n.\r\n";
    struct slice input = {wire, sizeof(wire) - 1}, run;
    struct smtp_body_scan scan;

    smtp_body_scan_init(&scan);
    run = smtp_body_scan_next(&scan, &input);
    cr_assert_eq(run.data, wire);
    cr_assert_eq(run.size, sizeof(wire) - 1 - 3);
    cr_assert_eq(smtp_body_scan_next(&scan, &input).size, 0);
    cr_assert(scan.ended);
}

/* The forms of SECURITY 1.1, each inside a body with a true end behind it. */
static const struct {
    const char *name;
    struct slice wire;
    bool ends_at_once;
} forms[] = {
    {"CRLF.CRLF", {(const uint8_t *)"\r\n.\r\n", 5}, true},
    {"LF.LF", {(const uint8_t *)"\n.\n", 3}, false},
    {"LF.CRLF", {(const uint8_t *)"\n.\r\n", 4}, false},
    {"CRLF.LF", {(const uint8_t *)"\r\n.\n", 4}, false},
    {"CRLF.CR CRLF", {(const uint8_t *)"\r\n.\r\r\n", 6}, false},
    {"CR CRLF.CR CRLF", {(const uint8_t *)"\r\r\n.\r\r\n", 7}, false},
    {"CR.CR", {(const uint8_t *)"\r.\r", 3}, false},
    {"CRLF.CR", {(const uint8_t *)"\r\n.\r", 4}, false},
    {"CR.CRLF", {(const uint8_t *)"\r.\r\n", 4}, false},
    {"CRLF NUL.CRLF", {(const uint8_t *)"\r\n\0.\r\n", 6}, false},
    {"CRLF.NUL CRLF", {(const uint8_t *)"\r\n.\0\r\n", 6}, false},
    {". SP CRLF", {(const uint8_t *)"\r\n. \r\n", 6}, false},
    {"VT.CRLF", {(const uint8_t *)"\r\n\v.\r\n", 6}, false},
    {"NEL.NEL", {(const uint8_t *)"\xc2\x85.\xc2\x85", 5}, false},
    {"LS.LS", {(const uint8_t *)"\xe2\x80\xa8.\xe2\x80\xa8", 7}, false},
    {"LF CR.CRLF", {(const uint8_t *)"\n\r.\r\n", 5}, false},
};

Test(smtp_body, only_one_of_sixteen_forms_ends_a_message)
{
    cr_assert_eq(ARRAY_SIZE(forms), 16);
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        uint8_t wire[64];
        struct scanned s = {0};
        size_t size = 0;

        memcpy(wire, "text", 4);
        memcpy(wire + 4, forms[i].wire.data, forms[i].wire.size);
        size = 4 + forms[i].wire.size;
        smtp_body_scan_init(&s.scan);
        feed(&s, slice_of(wire, size));
        cr_expect_eq(s.scan.ended, forms[i].ends_at_once, "%s", forms[i].name);
        memcpy(wire + size, "more\r\n.\r\n", 9);
        play_all(slice_of(wire, size + 9));
    }
}

/* Every word of up to six octets of those that matter, with a true end behind it, against the
 * reference. */
Test(smtp_body, agrees_with_the_reference_on_every_short_body, .timeout = 240)
{
    static const uint8_t alphabet[] = {'\r', '\n', '.', 'a', 0, 0xc3};
    uint8_t wire[16];
    size_t size_max = getenv("KILAT_LONG") ? 7 : 5;

    for (size_t size = 0; size <= size_max; size++) {
        size_t words = 1;

        for (size_t i = 0; i < size; i++)
            words *= ARRAY_SIZE(alphabet);
        for (size_t word = 0; word < words; word++) {
            for (size_t i = 0, rest = word; i < size; i++, rest /= ARRAY_SIZE(alphabet))
                wire[i] = alphabet[rest % ARRAY_SIZE(alphabet)];
            memcpy(wire + size, "\r\n.\r\n", 5);
            play_all(slice_of(wire, size + 5));
        }
    }
}

/* The sixteen octets that are looked at together: a special octet at each place of two such steps.
 */
Test(smtp_body, finds_specials_at_every_distance)
{
    static const char specials[][4] = {"\r\n.", "\n", "\r", "\x80", "\r\n"};
    uint8_t wire[64];

    for (size_t at = 0; at < 40; at++) {
        for (size_t i = 0; i < ARRAY_SIZE(specials); i++) {
            memset(wire, 'x', sizeof(wire));
            memcpy(wire + at, specials[i], strlen(specials[i]));
            memcpy(wire + 50, "\r\n.\r\n", 5);
            play_all(slice_of(wire, 55));
        }
        memset(wire, 'x', sizeof(wire));
        wire[at] = 0;
        memcpy(wire + 50, "\r\n.\r\n", 5);
        play_all(slice_of(wire, 55));
    }
}

Test(smtp_body, eight_bit_behind_the_end_is_not_of_the_message)
{
    struct scanned s = {0};

    smtp_body_scan_init(&s.scan);
    feed(&s, SLICE("abcdefghijklmnop\r\n.\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"));
    cr_assert(s.scan.ended);
    cr_assert_not(s.scan.eight_bit);
}

/* Stuffs `content`, cut at `cut`, appends the end, and expects the scanner to give it back. */
static void round_trip(struct slice content, size_t cut)
{
    struct slice parts[2] = {slice_first(content, cut), slice_skip(content, cut)}, piece;
    struct smtp_body_stuff stuff = {0};
    struct scanned s = {0};
    uint8_t wire[ROOM];
    size_t size = 0;

    for (size_t i = 0; i < 2; i++) {
        while ((piece = smtp_body_stuff_next(&stuff, &parts[i])).size > 0) {
            memcpy(wire + size, piece.data, piece.size);
            size += piece.size;
        }
    }
    memcpy(wire + size, ".\r\n", 3);
    smtp_body_scan_init(&s.scan);
    feed(&s, slice_of(wire, size + 3));
    cr_assert(s.scan.ended);
    cr_assert_eq(s.used, size + 3, "the end came early, cut at %zu", cut);
    cr_assert_eq(s.content_bytes, content.size);
    cr_assert(memcmp(s.content, content.data, content.size) == 0);
}

Test(smtp_body, what_is_stuffed_is_read_back)
{
    static const struct slice contents[] = {
        {(const uint8_t *)".\r\n", 3},
        {(const uint8_t *)"..\r\n", 4},
        {(const uint8_t *)"a\r\n.\r\n", 6},
        {(const uint8_t *)".\r\n.\r\n.b\r\n", 10},
        {(const uint8_t *)"a.\r\n..\r\n\r\n.\r\n", 13},
        {(const uint8_t *)"\r\n\r\n", 4},
    };

    for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
        for (size_t cut = 0; cut <= contents[i].size; cut++)
            round_trip(contents[i], cut);
    }
}

Test(smtp_body, stuffing_leaves_what_has_no_dots_in_one_piece)
{
    struct smtp_body_stuff stuff = {0};
    struct slice input = SLICE("one\r\ntwo.\r\nthree\r\n"), before = input, piece;

    piece = smtp_body_stuff_next(&stuff, &input);
    cr_assert_eq(piece.data, before.data);
    cr_assert_eq(piece.size, before.size);
    cr_assert_eq(input.size, 0);
}

Test(smtp_body, a_scan_that_has_ended_takes_nothing_more, .signal = SIGABRT)
{
    struct smtp_body_scan scan;
    struct slice input = SLICE(".\r\nmore");

    smtp_body_scan_init(&scan);
    (void)smtp_body_scan_next(&scan, &input);
    (void)smtp_body_scan_next(&scan, &input);
}
