#include "proto/smtp_body.h"

#include "core/assert.h"
#include <emmintrin.h>

/* The scanner never looks back and holds back at most one octet, a CR that was the last of its
 * input, because only the next octet tells whether it is half of a line end. Everything else is
 * passed on where it lies.
 *
 *                    "."                 CR             LF
 *   LINE_START ────────────► DOT ───────────► DOT_CR ──────► the end of data
 *       ▲  │ other            │ other           │ other: the CR was bare
 *       │  ▼                  ▼                 ▼
 *       │ IN_LINE ◄─────────────────────────────┘
 *       └──┘ CRLF; a CR at the end of the input waits in CR_HELD
 */
enum body_state {
    BODY_LINE_START, /* behind a true CRLF, or behind the DATA command: a dot here is not content */
    BODY_IN_LINE,    /* also behind a bare LF: no dot is taken away there */
    BODY_CR_HELD,
    BODY_DOT,
    BODY_DOT_CR,
};

static const uint8_t body_crlf[2] = {'\r', '\n'};
static const uint8_t body_cr[1] = {'\r'};
static const uint8_t body_blank[1] = {' '};
static const uint8_t body_dot[1] = {'.'};

void smtp_body_scan_init(struct smtp_body_scan *scan)
{
    *scan = (struct smtp_body_scan){.state = BODY_LINE_START};
}

/* Index of the first CR, LF or NUL, or `size`. Sixteen octets at a time: what stands between two
 * line ends is most of all mail. Octets above 127 before that index set `*eight_bit`. */
static size_t body_find_special(const uint8_t *data, size_t size, bool *eight_bit)
{
    const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n'), nul = _mm_setzero_si128();
    unsigned high_seen = 0;
    size_t i = 0;

    for (; i + 16 <= size; i += 16) {
        __m128i octets = _mm_loadu_si128((const __m128i *)(const void *)(data + i));
        __m128i special =
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(octets, cr), _mm_cmpeq_epi8(octets, lf)),
                         _mm_cmpeq_epi8(octets, nul));
        unsigned high = (unsigned)_mm_movemask_epi8(octets);
        unsigned found = (unsigned)_mm_movemask_epi8(special);

        if (found != 0) {
            unsigned first = (unsigned)__builtin_ctz(found);
            high_seen |= high & ((1u << first) - 1u);
            *eight_bit |= high_seen != 0;
            return i + first;
        }
        high_seen |= high;
    }
    for (; i < size; i++) {
        if (data[i] == '\r' || data[i] == '\n' || data[i] == 0)
            break;
        high_seen |= data[i] & 0x80u;
    }
    *eight_bit |= high_seen != 0;
    return i;
}

static void body_line_grows(struct smtp_body_scan *scan, size_t bytes)
{
    scan->line_bytes += bytes;
    scan->line_bytes_max = MAX(scan->line_bytes_max, scan->line_bytes);
}

static void body_line_ends(struct smtp_body_scan *scan, unsigned end_bytes)
{
    body_line_grows(scan, end_bytes);
    scan->line_bytes = 0;
}

/* A CR that turned out to be bare, outside the run in hand. */
static struct slice body_bare_cr(struct smtp_body_scan *scan)
{
    scan->bare_cr = true;
    body_line_grows(scan, 1);
    scan->state = BODY_IN_LINE;
    return slice_of(scan->normalize ? body_blank : body_cr, 1);
}

/* The run data[start..i) is given out, and what is left of the input begins at `next`. */
static struct slice body_give(struct slice *input, size_t start, size_t i, size_t next)
{
    struct slice run = slice_of(input->data + start, i - start);

    *input = slice_skip(*input, next);
    return run;
}

enum body_step { STEP_GOES_ON, STEP_STOPS };

/* One line, or what the input has of it, from input[*i] on. Stops where the run [start, *i) cannot
 * go on in place: at the end of the input, before a CR that ends it (which is then held), and
 * before what is to be normalized. */
static enum body_step body_line(struct smtp_body_scan *scan, struct slice input, size_t *i)
{
    size_t at = *i;

    if (scan->line_bytes == 0 && input.data[at] == '.')
        scan->dot_line = true;
    at += body_find_special(input.data + at, input.size - at, &scan->eight_bit);
    body_line_grows(scan, at - *i);
    *i = at;
    if (at == input.size)
        return STEP_STOPS;
    if (input.data[at] == '\r' && at + 1 == input.size) {
        scan->state = BODY_CR_HELD;
        return STEP_STOPS;
    }
    if (input.data[at] == '\r' && input.data[at + 1] == '\n') {
        body_line_ends(scan, 2);
        scan->state = BODY_LINE_START;
        *i = at + 2;
        return STEP_GOES_ON;
    }
    if (input.data[at] != 0 && scan->normalize)
        return STEP_STOPS;
    *i = at + 1;
    if (input.data[at] == '\n') {
        scan->bare_lf = true;
        body_line_ends(scan, 1);
    } else {
        body_line_grows(scan, 1);
        scan->nul |= input.data[at] == 0;
        scan->bare_cr |= input.data[at] == '\r';
    }
    return STEP_GOES_ON;
}

/* The input begins with a bare CR or LF, and normalizing is asked for. */
static struct slice body_normalize(struct smtp_body_scan *scan, struct slice *input)
{
    uint8_t octet = input->data[0];

    *input = slice_skip(*input, 1);
    if (octet == '\r')
        return body_bare_cr(scan);
    scan->bare_lf = true;
    body_line_ends(scan, 2);
    return slice_of(body_crlf, 2);
}

/* The input begins behind a CR that was held back. */
static struct slice body_after_held(struct smtp_body_scan *scan, struct slice *input)
{
    if (input->data[0] != '\n')
        return body_bare_cr(scan);
    *input = slice_skip(*input, 1);
    body_line_ends(scan, 2);
    scan->state = BODY_LINE_START;
    return slice_of(body_crlf, 2);
}

struct slice smtp_body_scan_next(struct smtp_body_scan *scan, struct slice *input)
{
    size_t start = 0, i = 0;

    ASSERT(!scan->ended);
    if (input->size > 0 && scan->state == BODY_CR_HELD)
        return body_after_held(scan, input);
    while (i < input->size) {
        switch ((enum body_state)scan->state) {
        case BODY_LINE_START:
            if (input->data[i] != '.') {
                scan->state = BODY_IN_LINE;
                break;
            }
            scan->state = BODY_DOT;
            if (i > start)
                return body_give(input, start, i, i + 1);
            start = ++i;
            break;
        case BODY_DOT:
            if (input->data[i] == '\r')
                scan->state = BODY_DOT_CR, start = ++i;
            else
                scan->state = BODY_IN_LINE;
            break;
        case BODY_DOT_CR:
            ASSERT(start == i);
            if (input->data[i] != '\n') {
                *input = slice_skip(*input, i);
                return body_bare_cr(scan);
            }
            scan->ended = true;
            return body_give(input, i, i, i + 1);
        case BODY_IN_LINE:
            if (body_line(scan, *input, &i) == STEP_GOES_ON)
                break;
            if (scan->state == BODY_CR_HELD)
                return body_give(input, start, i, i + 1);
            if (i < input->size && i == start) {
                *input = slice_skip(*input, i);
                return body_normalize(scan, input);
            }
            return body_give(input, start, i, i);
        case BODY_CR_HELD:
            ASSERT(scan->state != BODY_CR_HELD); /* only ever the last of an input */
        }
    }
    return body_give(input, start, i, i);
}

/* Where the next line that begins with a dot starts, from a place inside a line; `size` if there is
 * none. */
static size_t body_find_dot_line(struct slice input, bool after_cr)
{
    size_t at = 0;

    while (at < input.size) {
        const uint8_t *lf = memchr(input.data + at, '\n', input.size - at);

        if (lf == NULL)
            break;
        at = (size_t)(lf - input.data);
        if ((at > 0 ? input.data[at - 1] == '\r' : after_cr) && at + 1 < input.size &&
            input.data[at + 1] == '.')
            return at + 1;
        at++;
    }
    return input.size;
}

struct slice smtp_body_stuff_next(struct smtp_body_stuff *stuff, struct slice *input)
{
    struct slice piece;
    uint8_t last, before;

    if (input->size == 0)
        return SLICE_NONE;
    if (!stuff->not_at_line_start && input->data[0] == '.' && !stuff->dot_sent) {
        stuff->dot_sent = true;
        return slice_of(body_dot, 1);
    }
    piece = slice_first(*input, body_find_dot_line(*input, stuff->after_cr));
    *input = slice_skip(*input, piece.size);
    last = piece.data[piece.size - 1];
    before = piece.size > 1 ? piece.data[piece.size - 2] : (stuff->after_cr ? '\r' : 0);
    stuff->not_at_line_start = !(last == '\n' && before == '\r');
    stuff->after_cr = last == '\r';
    stuff->dot_sent = false;
    return piece;
}
