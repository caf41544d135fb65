/* What a program sends to the control socket, and what a server answers to kilatctl.
 *
 * Goal: no crash, nothing outside of the input; a frame means the same however the bytes were
 * cut. Method: a reference reads each frame's length from its bytes alone; whatever parses is
 * written again and must come out as the same bytes.
 * */
#include "core/control_wire.h"

#include <errno.h>
#include <stdlib.h>

#define MUST(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t length_in(const uint8_t *head)
{
    return (uint32_t)head[8] | (uint32_t)head[9] << 8 | (uint32_t)head[10] << 16 |
           (uint32_t)head[11] << 24;
}

static void check_again(const struct control_frame *frame, const uint8_t *wire, size_t wire_bytes)
{
    struct slice arguments[CONTROL_ARGUMENTS_MAX];
    struct slice error;
    uint32_t status;
    struct buf out;
    size_t count;

    buf_init(&out, MIB);
    if (control_arguments(frame, arguments, &count)) {
        MUST(count == frame->word);
        control_write_request(&out, arguments, count);
        MUST(slice_equal(buf_slice(&out), slice_of(wire, wire_bytes)));
    }
    buf_reset(&out);
    if (control_read_end(frame, &status, &error)) {
        MUST(frame->word == CONTROL_REPLY_END && error.size + 4 == frame->payload.size);
        control_write_end(&out, status, error);
        MUST(slice_equal(buf_slice(&out), slice_of(wire, wire_bytes)));
    }
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_of(data, size);
    struct control_frame frame, cut_frame;
    size_t frame_bytes, cut_bytes;
    int r;

    while ((r = control_frame_parse(rest, &frame, &frame_bytes)) == 1) {
        MUST(frame_bytes == CONTROL_HEAD_BYTES + length_in(rest.data));
        MUST(frame_bytes <= rest.size && frame.payload.size <= CONTROL_PAYLOAD_MAX);
        MUST(frame.payload.data == rest.data + CONTROL_HEAD_BYTES);
        /* Cut anywhere before its end it is unfinished, whole it is the same without what
         * follows. */
        MUST(control_frame_parse(slice_first(rest, frame_bytes - 1), &cut_frame, &cut_bytes) == 0);
        MUST(control_frame_parse(slice_first(rest, frame_bytes), &cut_frame, &cut_bytes) == 1);
        MUST(cut_bytes == frame_bytes && cut_frame.word == frame.word);
        check_again(&frame, rest.data, frame_bytes);
        rest = slice_skip(rest, frame_bytes);
    }
    MUST(r == 0 || r == -EPROTO);
    return 0;
}
