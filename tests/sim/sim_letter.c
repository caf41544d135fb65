/* tests/sim/sim_letter.c - writes letters and recognises them. */
#include "tests/sim/sim_letter.h"

#include <stdio.h>
#include <stdlib.h>

static struct sim_letter letters[LETTERS_MAX + 1];
static uint32_t letter_count;
void (*sim_letter_doubled)(const struct sim_letter *letter, const char *address,
                           uint64_t before_ns);

struct sim_letter *sim_letter_create(const char *sender, const char *const *addresses, size_t count)
{
    struct sim_letter *letter;
    size_t wanted = sim_chance(600) ? 1 : sim_between(1, MIN(count, LETTER_RECIPIENTS_MAX));
    size_t first = sim_between(0, count - 1);

    if (letter_count == LETTERS_MAX)
        return NULL;
    letter = &letters[++letter_count];
    letter->number = letter_count;
    letter->sender = sender;
    for (size_t i = 0; i < wanted; i++)
        letter->recipients[letter->recipient_count++].address = addresses[(first + i) % count];
    return letter;
}

struct sim_letter *sim_letter_create_for(const char *sender, const char *const *addresses,
                                         size_t count)
{
    struct sim_letter *letter;

    ASSERT(letter_count < LETTERS_MAX && count <= LETTER_RECIPIENTS_MAX);
    letter = &letters[++letter_count];
    letter->number = letter_count;
    letter->sender = sender;
    for (size_t i = 0; i < count; i++)
        letter->recipients[letter->recipient_count++].address = addresses[i];
    return letter;
}

struct sim_letter *sim_letter_find(uint32_t number)
{
    return number >= 1 && number <= letter_count ? &letters[number] : NULL;
}

uint32_t sim_letter_count(void)
{
    return letter_count;
}

/* ---- text ------------------------------------------------------------------------------------- */

static void line_append(struct buf *out, struct sim_random *random)
{
    uint64_t kind = sim_random_below(random, 20), size = sim_random_below(random, 78), word = 0;
    char line[96];
    size_t at = 0;

    if (kind <= 1)
        line[at++] = '.'; /* a line that must be stuffed */
    if (kind == 1)
        line[at++] = '.';
    for (uint64_t i = 0; i < size && kind != 1; i++, word >>= 8) {
        if (i % 8 == 0)
            word = sim_random_u64(random);
        line[at++] = (char)(' ' + (word & 0xff) * 95 / 256);
    }
    line[at++] = '\r';
    line[at++] = '\n';
    buf_append(out, slice_of(line, at));
}

static uint64_t body_bytes(struct sim_random *random)
{
    switch (sim_random_below(random, 12)) {
    case 0:
        return 0;
    case 1: /* around the size from which a body goes in chunks */
        return 64 * KIB - 200 + sim_random_below(random, 400);
    case 2:
        return 64 * KIB + sim_random_below(random, 200 * KIB);
    case 3:
        return sim_random_below(random, 16 * KIB);
    default:
        return sim_random_below(random, 3 * KIB);
    }
}

static void letter_write(uint32_t number, struct buf *out)
{
    struct sim_random random = {.state = number * 7919ull};
    uint64_t wanted = body_bytes(&random);
    size_t head;

    buf_printf(out, LETTER_NUMBER_FIELD "%u\r\nSubject: letter %u\r\n", number, number);
    buf_append_cstr(out, "From: Penulis <penulis@debianindonesia.test>\r\n"
                         "Date: Fri, 1 Jan 2027 07:00:00 +0700\r\n");
    buf_printf(out, "Message-ID: <letter-%u@sim.test>\r\n\r\n", number);
    head = out->size;
    while (out->size - head < wanted)
        line_append(out, &random);
}

/* Written once: it is compared each time somebody fetches it. */
struct slice sim_letter_text(uint32_t number)
{
    struct buf *text = &letters[number].text;

    if (text->size == 0) {
        buf_init(text, MIB);
        letter_write(number, text);
    }
    return buf_slice(text);
}

/* ---- recognising ------------------------------------------------------------------------------ */

static size_t find_text(struct slice in, const char *text)
{
    const uint8_t *at = memmem(in.data, in.size, text, strlen(text));

    return at == NULL ? SIZE_MAX : (size_t)(at - in.data);
}

static uint32_t number_at(struct slice message, size_t at)
{
    char digits[16];

    (void)slice_to_cstr(slice_first(slice_skip(message, at + strlen(LETTER_NUMBER_FIELD)), 12),
                        digits, sizeof(digits));
    return (uint32_t)strtoul(digits, NULL, 10);
}

static void met_report(struct slice message)
{
    size_t at = find_text(message, LETTER_NUMBER_FIELD);
    struct sim_letter *letter = at == SIZE_MAX ? NULL : sim_letter_find(number_at(message, at));

    if (letter == NULL) {
        sim_fail("a message that is neither a letter nor a report: %.*s",
                 SLICE_ARG(slice_first(message, 300)));
        return;
    }
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        char wanted[160];

        snprintf(wanted, sizeof(wanted), "Final-Recipient: rfc822; %s\r\n",
                 letter->recipients[i].address);
        if (find_text(message, wanted) != SIZE_MAX)
            letter->recipients[i].reported = true;
    }
}

static void compare(struct slice message, uint32_t number, const char *mailbox)
{
    struct slice text = sim_letter_text(number);
    size_t at = 0;

    if (!slice_equal(message, text)) {
        while (at < message.size && at < text.size && message.data[at] == text.data[at])
            at++;
        sim_fail("letter %u in the mailbox of %s is altered at byte %zu of %zu (it has %zu bytes)",
                 number, mailbox, at, text.size, message.size);
    }
}

uint32_t sim_letter_met(struct slice message, const char *mailbox, bool first_time)
{
    size_t head_end = find_text(message, "\r\n\r\n"), at = find_text(message, LETTER_NUMBER_FIELD);
    struct sim_letter *letter;

    if (at == SIZE_MAX || at > head_end) {
        met_report(message);
        return 0;
    }
    letter = sim_letter_find(number_at(message, at));
    if (letter == NULL) {
        sim_fail("a letter that nobody wrote, in the mailbox of %s", mailbox);
        return 0;
    }
    compare(slice_skip(message, at), letter->number, mailbox);
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        struct sim_letter_recipient *recipient = &letter->recipients[i];

        if (strcasecmp(recipient->address, mailbox) != 0)
            continue;
        if (first_time && recipient->seen > 0 && sim_letter_doubled != NULL)
            sim_letter_doubled(letter, mailbox, recipient->seen_ns);
        recipient->seen += first_time;
        if (first_time)
            recipient->seen_ns = sim.now_ns;
        if (!recipient->promised && !recipient->possible)
            sim_fail("letter %u is in the mailbox of %s, but its final dot was never sent",
                     letter->number, mailbox);
        return letter->number;
    }
    sim_fail("letter %u is in the mailbox of %s, who is no recipient of it", letter->number,
             mailbox);
    return letter->number;
}
