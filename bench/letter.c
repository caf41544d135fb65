#include "bench/letter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/assert.h"
#include "core/crc32c.h"

#define FIELD "X-Kilat-Bench: "
#define TAG_AT (sizeof(FIELD) - 1)
#define ID_AT (TAG_AT + 17)
#define SUM_AT (ID_AT + 17)
#define LINE_BYTES 72 /* of text, with CRLF: what people write */
#define HEAD_MAX 512
static_assert(SUM_AT + 8 + 2 == LETTER_FIELD_SIZE, "the field has a fixed size");
static_assert(HEAD_MAX + LINE_BYTES < LETTER_SIZE_MIN, "there is text in every letter");

/* ---- writing --------------------------------------------------------------------------------- */

static void put_hex(uint8_t *to, uint64_t value, int digits)
{
    static const char hex[] = "0123456789abcdef";

    for (int i = digits - 1; i >= 0; i--, value >>= 4)
        to[i] = (uint8_t)hex[value & 15];
}

/* The text: letters without dots, so that the receiver's search for them finds only the one which
 * is meant. Reproducible, nothing more. */
static void fill_text(uint8_t *to, size_t size)
{
    uint32_t state = 1;

    for (size_t i = 0; i < size; i++) {
        state = state * 1664525u + 1013904223u;
        to[i] = (uint8_t)('a' + (state >> 16) % 26);
    }
    for (size_t i = LINE_BYTES; i + 2 < size; i += LINE_BYTES)
        to[i - 2] = '\r', to[i - 1] = '\n';
    to[size - 2] = '\r', to[size - 1] = '\n';
}

int letter_form_init(struct letter_form *form, uint64_t tag, size_t size_bytes, const char *from,
                     const char *rcpt)
{
    char head[HEAD_MAX];
    int size;

    if (size_bytes < LETTER_SIZE_MIN || size_bytes > LETTER_SIZE_MAX)
        return -EINVAL;
    size = snprintf(head, sizeof(head),
                    FIELD "%016llx %016llx %08x\r\n"
                          "From: <%.100s>\r\nTo: <%.100s>\r\nSubject: kilat-bench\r\n"
                          "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
                          "Message-ID: <%016llx.%016llx@bench.test>\r\n\r\n",
                    (unsigned long long)tag, 0ull, 0u, from, rcpt, (unsigned long long)tag, 0ull);
    ASSERT(size > 0 && (size_t)size < sizeof(head) - LINE_BYTES);
    *form = (struct letter_form){.wire_bytes = size_bytes + 1 + 3};
    form->wire = malloc(form->wire_bytes);
    if (form->wire == NULL)
        return -ENOMEM;
    memcpy(form->wire, head, (size_t)size);
    form->id_places[0] = (size_t)size - strlen("@bench.test>\r\n\r\n") - 16;
    form->id_places[1] = (size_t)size;
    memset(form->wire + size, '0', 16);
    memcpy(form->wire + size + 16, "\r\n..", 4);
    form->dot_at = (size_t)size + 18;
    form->summed_end = form->wire_bytes - 3;
    fill_text(form->wire + form->dot_at + 2, form->summed_end - form->dot_at - 2);
    memcpy(form->wire + form->summed_end, ".\r\n", 3);
    return 0;
}

void letter_form_deinit(struct letter_form *form)
{
    free(form->wire);
    *form = (struct letter_form){.wire = NULL};
}

struct slice letter_write(struct letter_form *form, uint64_t id)
{
    uint8_t *wire = form->wire;
    uint32_t sum;

    put_hex(wire + ID_AT, id, 16);
    for (size_t i = 0; i < ARRAY_SIZE(form->id_places); i++)
        put_hex(wire + form->id_places[i], id, 16);
    sum = crc32c(0, slice_of(wire + LETTER_FIELD_SIZE, form->dot_at - LETTER_FIELD_SIZE));
    sum = crc32c(sum, slice_of(wire + form->dot_at + 1, form->summed_end - form->dot_at - 1));
    put_hex(wire + SUM_AT, sum, 8);
    return slice_of(wire, form->wire_bytes);
}

/* ---- checking -------------------------------------------------------------------------------- */

enum { LINE_START, IN_LINE, AFTER_DOT, AFTER_DOT_CR };

void letter_check_init(struct letter_check *check)
{
    *check = (struct letter_check){.state = LINE_START, .searching = true};
}

static bool get_hex(const uint8_t *at, int digits, uint64_t *ret_value)
{
    *ret_value = 0;
    for (int i = 0; i < digits; i++) {
        uint8_t c = at[i];

        if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
            return false;
        *ret_value = *ret_value << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

/* A whole line of the header lies in `line`, as far as it fits. */
static void look_for_field(struct letter_check *check)
{
    const uint8_t *line = check->line;
    uint64_t sum;

    if (check->line_bytes == LETTER_FIELD_SIZE && memcmp(line, FIELD, TAG_AT) == 0 &&
        line[ID_AT - 1] == ' ' && line[SUM_AT - 1] == ' ' && line[SUM_AT + 8] == '\r' &&
        get_hex(line + TAG_AT, 16, &check->tag) && get_hex(line + ID_AT, 16, &check->id) &&
        get_hex(line + SUM_AT, 8, &sum)) {
        check->found = true;
        check->searching = false;
        check->sum_wanted = (uint32_t)sum;
    } else if (check->line_bytes == 2) {
        check->searching = false; /* the header's end */
    }
    check->line_bytes = 0;
}

/* Content without stuffing, at most to the end of a line. */
static void take(struct letter_check *check, struct slice bytes)
{
    check->size_bytes += bytes.size;
    check->last = bytes.data[bytes.size - 1];
    if (check->found) {
        check->sum = crc32c(check->sum, bytes);
    } else if (check->searching) {
        size_t at = MIN(check->line_bytes, LETTER_FIELD_SIZE);

        memcpy(check->line + at, bytes.data, MIN(LETTER_FIELD_SIZE - at, bytes.size));
        check->line_bytes += bytes.size;
        if (check->last == '\n')
            look_for_field(check);
    }
}

static void take_line(struct letter_check *check, struct slice *input)
{
    const uint8_t *end = memchr(input->data, '\n', input->size);
    size_t size = end == NULL ? input->size : (size_t)(end - input->data) + 1;
    uint8_t before = size > 1 ? input->data[size - 2] : check->last;

    take(check, slice_first(*input, size));
    *input = slice_skip(*input, size);
    check->state = end != NULL && before == '\r' ? LINE_START : IN_LINE;
}

static void judge(struct letter_check *check)
{
    if (!check->found)
        check->verdict = LETTER_FOREIGN;
    else
        check->verdict = check->sum == check->sum_wanted ? LETTER_UNALTERED : LETTER_ALTERED;
}

bool letter_check_input(struct letter_check *check, struct slice *input)
{
    while (input->size > 0) {
        uint8_t c = input->data[0];

        if (check->state == IN_LINE || (check->state == LINE_START && c != '.')) {
            take_line(check, input);
        } else if (check->state == LINE_START) {
            check->state = AFTER_DOT;
            *input = slice_skip(*input, 1);
        } else if (check->state == AFTER_DOT) {
            check->state = c == '\r' ? AFTER_DOT_CR : IN_LINE;
            check->last = '.';
            if (c == '\r')
                *input = slice_skip(*input, 1);
        } else if (c == '\n') {
            *input = slice_skip(*input, 1);
            judge(check);
            return true;
        } else {
            take(check, SLICE("\r"));
            check->state = IN_LINE;
        }
    }
    return false;
}
