/* tests/sim/sim_control.c - an operator who asks a server over its control socket, as kilatctl does. */
#include "tests/sim/sim_mail.h"

#include "core/control_wire.h"

#include <errno.h>
#include <string.h>

#define CONTROL_PATH "/run/kilat/control"
#define WORDS_MAX 8

/* Takes whole frames from `input`; 1 with the end among them, 0 when more is needed, or -errno. */
static int take_frames(struct buf *input, struct buf *out, uint32_t *ret_status)
{
    struct control_frame frame;
    struct slice error;
    size_t size;
    int r;

    while ((r = control_frame_parse(buf_slice(input), &frame, &size)) == 1) {
        bool end = frame.word == CONTROL_REPLY_END;

        if (end && !control_read_end(&frame, ret_status, &error))
            return -EPROTO;
        if (!end)
            buf_append(out, frame.payload);
        buf_consume(input, size);
        if (end)
            return 1;
    }
    return r;
}

static int read_answer(struct sim_peer *peer, struct buf *out)
{
    struct buf input;
    uint32_t status = 0;
    int r = 0;

    buf_init(&input, MIB);
    while (r == 0) {
        uint8_t bytes[4096];
        ssize_t count = sim_peer_read(peer, bytes, sizeof(bytes));

        if (count <= 0) {
            r = count == 0 ? -ENODATA : (int)count;
            break;
        }
        buf_append(&input, slice_of(bytes, (size_t)count));
        r = take_frames(&input, out, &status);
    }
    buf_deinit(&input);
    return r == 1 ? (int)status : r;
}

int sim_control(struct sim_site *site, const char *command, struct buf *out)
{
    struct slice words[WORDS_MAX], rest = slice_cstr(command);
    struct buf request;
    struct sim_peer peer;
    size_t count = 0;
    int r;

    words[count++] = SLICE("json");
    while (rest.size > 0 && count < WORDS_MAX)
        words[count++] = slice_split(&rest, ' ');
    buf_init(&request, CONTROL_PAYLOAD_MAX);
    buf_reset(out);
    control_write_request(&request, words, count);
    r = sim_peer_connect_unix(&peer, site->host, CONTROL_PATH);
    if (r == 0)
        r = sim_peer_write(&peer, buf_slice(&request));
    if (r == 0)
        r = read_answer(&peer, out);
    sim_trace("control.answered", (uint64_t)r, out->size, 0);
    sim_peer_close(&peer);
    buf_deinit(&request);
    return r;
}
