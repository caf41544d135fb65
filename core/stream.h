/* core/stream.h - a connection as bytes: receive, lend, send, deadline, half close.
 *
 * Receiving: one multishot receive fills provided buffers. What has arrived and is not consumed yet
 * waits in order; stream_front() shows its first contiguous piece and the buffer that holds it,
 * stream_consume() lets go of it. Whoever keeps a slice beyond that takes ring_buffer_ref() on the
 * buffer (a body keeps them to its end; TLS will need the same). A stream with nothing unconsumed
 * holds no buffer, and a paused one neither. Back-pressure: with more than STREAM_UNREAD_MAX bytes unconsumed, or after
 * stream_pause(), the receive is cancelled and TCP does the rest; it is armed again when the bytes
 * are consumed and not paused. No free buffer (-ENOBUFS): the stream waits on the shard's list
 * until buffers return.
 *
 * Sending: one send in flight. stream_write() copies small things (replies, commands) into the
 * gathering buffer; stream_send_borrowed() sends the caller's memory behind all that was written
 * before. What is written during one callback goes out as one send (the flush happens when the
 * shard defers).
 *
 * Life: stream_open() takes the descriptor. ops->input runs when there is unconsumed input and no
 * callback of this stream is running; ops->closed runs exactly once, when nothing is in flight any
 * more, and the owner may then free what embeds the stream. Shard: owner, every call.
 */
#ifndef KILAT_CORE_STREAM_H
#define KILAT_CORE_STREAM_H

#include "core/buf.h"
#include "core/shard.h"

#define STREAM_UNREAD_MAX (64 * KIB)
#define STREAM_PIECES_MAX 64 /* of one borrowed send */

struct stream;
struct stream_ops {
    /* There is input: loop over stream_front()/stream_consume() as far as it is of use. */
    void (*input)(struct stream *stream);
    /* The peer sends no more (FIN seen, and all before it was offered). Optional: NULL closes. */
    void (*input_ended)(struct stream *stream);
    /* Everything written so far has been handed to the kernel. Optional. */
    void (*drained)(struct stream *stream);
    /* stream_connect() has an answer: 0 or -errno (then the stream closes by itself afterwards).
     * Optional. */
    void (*connected)(struct stream *stream, int result);
    /* stream_set_deadline() has passed. NULL closes. */
    void (*timeout)(struct stream *stream);
    /* Nothing in flight, descriptor closed; `error` 0 or the -errno that ended it. */
    void (*closed)(struct stream *stream, int error);
};

/* A run of received bytes waiting to be consumed. */
struct stream_chunk {
    struct ring_buffer *buffer;
    uint32_t offset;
    uint32_t size;
};

struct stream_send; /* a borrowed send that waits its turn, see stream_send_borrowed() */
typedef void stream_sent_fn(struct stream_send *send, int result);
struct stream_send {
    stream_sent_fn *done; /* 0: all handed to the kernel; -errno: not (the stream is closing) */
    struct iovec pieces[STREAM_PIECES_MAX];
    uint32_t piece_count;
    struct list_node node; /* private */
    size_t after_bytes;    /* private: how much gathered output goes first */
    size_t size_bytes;     /* private: of all pieces */
    struct iovec
        all[STREAM_PIECES_MAX + 2]; /* private: with the gathered output before and behind */
};

struct stream {
    struct shard *shard;
    const struct stream_ops *ops;
    int fd; /* -1 when closed */
    /* private: */
    uint8_t state;
    bool paused;
    bool input_over;      /* the peer's FIN was seen */
    bool input_over_told; /* ... and said to the owner */
    bool offer_again;     /* stream_resume() was called: what waits is offered by the next flush */
    bool in_callback;
    int error; /* the first one */
    struct ring_op receive_op, send_op, connect_op;
    struct stream_chunk chunks[8];
    struct stream_chunk *overflow; /* when more than eight wait */
    uint32_t chunk_first, chunk_count, overflow_capacity;
    size_t unread_bytes;
    size_t borrowed_bytes; /* of all sends that are not done */
    size_t output_bytes_max;
    size_t sending_bytes;   /* of the send in flight */
    struct buf gathering;   /* written, not yet sent */
    struct buf in_flight;   /* being sent */
    struct list_node sends; /* of struct stream_send */
    struct stream_send *current;
    struct timer deadline;
    struct shard_task flush;
    struct list_node starved_node; /* on the shard, while no receive buffer is free */
    uint64_t received_bytes, sent_bytes;
};

/* Takes `fd` (connected). Receiving begins at once. Output beyond `output_bytes_max` that the peer
 * does not read closes the stream (callers stop reading input before: stream_unsent()). */
void stream_open(struct stream *stream, struct shard *shard, int fd, const struct stream_ops *ops,
                 size_t output_bytes_max);
/* Takes `fd` (a fresh socket) and connects it; ops->connected tells. */
void stream_connect(struct stream *stream, struct shard *shard, int fd,
                    const struct netaddr *address, const struct stream_ops *ops,
                    size_t output_bytes_max);

/* First unconsumed piece; empty when there is none and when the stream closes. `*ret_buffer`
 * (borrowed; may be NULL as an argument) holds it. */
struct slice stream_front(struct stream *stream, struct ring_buffer **ret_buffer);
void stream_consume(struct stream *stream, size_t count);
size_t stream_unread(const struct stream *stream);
/* Receives no more, and at the end of this tick moves what waits into memory of its own: a stream
 * that is not looked at must not keep receive buffers from others, for however long. */
void stream_pause(struct stream *stream);
/* Offers what waits (a later input callback, never inside this call) and receives again. */
void stream_resume(struct stream *stream);

void stream_write(struct stream *stream, struct slice bytes);
/* Borrows the pieces until `send->done`. Several may wait; order is kept with stream_write(). */
void stream_send_borrowed(struct stream *stream, struct stream_send *send);
size_t stream_unsent(
    const struct stream *stream); /* bytes gathered and in flight, borrowed ones included */

/* Absolute, on the shard's clock; 0 disarms. */
void stream_set_deadline(struct stream *stream, uint64_t deadline_ns);

/* Sends what was written, then FIN, and waits a little for the peer's (a socket that is closed with
 * bytes unread sends RST, which can destroy our last reply on its way), then closes. Input is
 * ignored from now on, and the deadline becomes the stream's own. */
void stream_close_gracefully(struct stream *stream);
/* Closes as soon as nothing is in flight; ops->closed follows, never inside this call and at the
 * end of this tick at the earliest. Nothing when closing already. */
void stream_close(struct stream *stream, int error);
/* From stream_close() or stream_close_gracefully() on. */
bool stream_is_closing(const struct stream *stream);

/* Receives again for streams that had found no buffer, when there are some. Shard: owner, once a
 * tick (shard.c). */
void stream_feed_starved(struct shard *shard);

#endif
