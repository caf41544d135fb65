/* Any octets as a body, cut anywhere: the scanner must agree with the whole-buffer reference, and what it passes on,
 * stuffed and scanned again, must come back. The first octet chooses the mode, the second the size of the pieces. */
#include "core/assert.h"
#include "tests/fuzz/smtp_body_reference.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct scanned {
    struct smtp_body_scan scan;
    uint8_t *content;
    size_t content_bytes;
    size_t used;
};

static void scan_by(struct scanned *s, struct slice wire, size_t step)
{
    while (wire.size > 0 && !s->scan.ended) {
        size_t size = MIN(step, wire.size);
        uint8_t *copy = malloc(size);
        struct slice piece = {copy, size}, run;

        memcpy(copy, wire.data, size);
        while (!s->scan.ended && (run = smtp_body_scan_next(&s->scan, &piece)).size > 0) {
            memcpy(s->content + s->content_bytes, run.data, run.size);
            s->content_bytes += run.size;
        }
        s->used += size - piece.size;
        wire = slice_skip(wire, size - piece.size);
        free(copy);
    }
}

static void round_trip(struct slice content, size_t step)
{
    struct smtp_body_stuff stuff = {0};
    struct scanned s = {.content = malloc(2 * content.size + 8)};
    uint8_t *wire = malloc(2 * content.size + 8);
    size_t size = 0;

    for (struct slice rest = content; rest.size > 0;) {
        struct slice part = slice_first(rest, step), piece;

        rest = slice_skip(rest, part.size);
        while ((piece = smtp_body_stuff_next(&stuff, &part)).size > 0) {
            memcpy(wire + size, piece.data, piece.size);
            size += piece.size;
        }
    }
    memcpy(wire + size, ".\r\n", 3);
    smtp_body_scan_init(&s.scan);
    scan_by(&s, slice_of(wire, size + 3), SIZE_MAX);
    ASSERT(s.scan.ended);
    ASSERT(s.used == size + 3);
    ASSERT(slice_equal(slice_of(s.content, s.content_bytes), content));
    free(s.content);
    free(wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct scanned s = {0};
    struct body_reference ref = {0};
    uint64_t line_max;
    bool normalize, dot_line;
    size_t step;

    if (size < 2)
        return 0;
    normalize = data[0] & 1;
    step = data[1] == 0 ? SIZE_MAX : data[1];
    data += 2;
    size -= 2;
    s.content = malloc(2 * size + 8);
    ref.content = malloc(2 * size + 8);
    smtp_body_scan_init(&s.scan);
    s.scan.normalize = normalize;
    scan_by(&s, slice_of(data, size), step);
    body_reference_scan(&ref, slice_of(data, size), normalize);
    ASSERT(s.scan.ended == ref.ended);
    ASSERT(!ref.ended || s.used == ref.used);
    ASSERT(s.scan.bare_cr == ref.bare_cr);
    ASSERT(s.scan.bare_lf == ref.bare_lf);
    ASSERT(s.scan.nul == ref.nul);
    ASSERT(s.scan.eight_bit == ref.eight_bit);
    ASSERT(slice_equal(slice_of(s.content, s.content_bytes),
                       slice_of(ref.content, ref.content_bytes)));
    if (normalize || (!ref.bare_cr && !ref.bare_lf)) {
        body_reference_lines(&ref, &line_max, &dot_line);
        ASSERT(s.scan.line_bytes_max == line_max);
        ASSERT(s.scan.dot_line == dot_line);
        if (ref.ended)
            round_trip(slice_of(s.content, s.content_bytes), step);
    }
    free(s.content);
    free(ref.content);
    return 0;
}
