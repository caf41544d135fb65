#include "core/stream.h"

#include "core/assert.h"
#include "core/crc32c.h"
#include <errno.h>
#include <stdlib.h>

/* The states, and what leads from one to the next:
 *
 *     CONNECTING --connected--> OPEN --close_gracefully--> DRAINING --all sent--> LINGERING
 *          \____________________ \_________________________ \____________________ |
 *                                                                                 v
 *                         stream_close(), an error, a deadline:             CLOSING --nothing in
 *                                                                           flight--> CLOSED
 *
 * Callbacks never nest: they are made from completions, from the deadline and from the deferred
 * task, and nothing a callback may call makes another. */
enum stream_state {
    STREAM_CONNECTING,
    STREAM_OPEN,
    STREAM_DRAINING,  /* input is thrown away, output goes out */
    STREAM_LINGERING, /* our FIN is out, the peer's is awaited */
    STREAM_CLOSING,   /* cancelled, the last completions are awaited */
    STREAM_CLOSED,
};

#define STREAM_DRAIN_MS (30 * SECOND_MS) /* for a peer that does not read our last reply */
#define STREAM_LINGER_MS                                                                           \
    (2 * SECOND_MS) /* some round trips: then our FIN has arrived or never will */
/* What an idle stream may keep of the memory for its output; a dialogue's replies fit. */
#define STREAM_KEEP_BYTES 1024

static void enter(struct stream *stream, enum stream_state next)
{
    ASSERT(next > stream->state);
    stream->state = (uint8_t)next;
}

static void begin_callback(struct stream *stream)
{
    ASSERT(!stream->in_callback);
    stream->in_callback = true;
}

static void end_callback(struct stream *stream)
{
    ASSERT(stream->in_callback);
    stream->in_callback = false;
}

/* ---- received bytes that wait ---------------------------------------------------------------- */

static struct stream_chunk *chunk_at(struct stream *stream, uint32_t index)
{
    uint32_t at = stream->chunk_first + index;

    if (stream->overflow != NULL)
        return &stream->overflow[at & (stream->overflow_capacity - 1)];
    return &stream->chunks[at & (ARRAY_SIZE(stream->chunks) - 1)];
}
static_assert((ARRAY_SIZE(((struct stream *)NULL)->chunks) & 7) == 0, "a power of two, at least 8");

static bool grow_chunks(struct stream *stream)
{
    uint32_t capacity = stream->overflow == NULL ? 4 * (uint32_t)ARRAY_SIZE(stream->chunks)
                                                 : 2 * stream->overflow_capacity;
    struct stream_chunk *grown = malloc(capacity * sizeof(*grown));

    if (grown == NULL)
        return false;
    for (uint32_t i = 0; i < stream->chunk_count; i++)
        grown[i] = *chunk_at(stream, i);
    free(stream->overflow);
    stream->overflow = grown;
    stream->overflow_capacity = capacity;
    stream->chunk_first = 0;
    return true;
}

/* Takes the reference to `buffer`, also when it fails. */
static bool push_chunk(struct stream *stream, struct ring_buffer *buffer, uint32_t size)
{
    size_t capacity =
        stream->overflow == NULL ? ARRAY_SIZE(stream->chunks) : stream->overflow_capacity;

    if (stream->chunk_count == capacity && !grow_chunks(stream)) {
        ring_buffer_unref(buffer);
        return false;
    }
    *chunk_at(stream, stream->chunk_count) = (struct stream_chunk){.buffer = buffer, .size = size};
    stream->chunk_count++;
    stream->unread_bytes += size;
    return true;
}

static void pop_chunk(struct stream *stream)
{
    struct ring_buffer *buffer = chunk_at(stream, 0)->buffer;

    if (buffer->ring == NULL)
        stream->shard->kept_bytes -= buffer->capacity;
    ring_buffer_unref(buffer);
    stream->chunk_first++;
    stream->chunk_count--;
    if (stream->chunk_count > 0 || stream->overflow == NULL)
        return;
    free(stream->overflow); /* that many pieces are rare */
    stream->overflow = NULL;
    stream->overflow_capacity = 0;
}

static void drop_chunks(struct stream *stream)
{
    while (stream->chunk_count > 0)
        pop_chunk(stream);
    stream->unread_bytes = 0;
}

/* A copy of what waits in `chunk`, in memory of its own; the receive buffer goes back. Without memory
 * for it, the buffer stays held. */
static void move_chunk(struct stream *stream, struct stream_chunk *chunk)
{
    struct ring_buffer *copy = malloc(sizeof(*copy) + chunk->size);

    if (copy == NULL)
        return;
    *copy = (struct ring_buffer){
        .data = (uint8_t *)(copy + 1), .capacity = chunk->size, .references = 1};
    (void)crc32c_copy(0, copy->data, slice_of(chunk->buffer->data + chunk->offset, chunk->size),
                      &stream->shard->copied_bytes);
    stream->shard->kept_bytes += copy->capacity;
    ring_buffer_unref(chunk->buffer);
    chunk->buffer = copy;
    chunk->offset = 0;
}

static void give_buffers_back(struct stream *stream)
{
    for (uint32_t i = 0; i < stream->chunk_count; i++)
        if (chunk_at(stream, i)->buffer->ring != NULL)
            move_chunk(stream, chunk_at(stream, i));
}

/* ---- receiving
 * ----------------------------------------------------------------------------------- */

static bool wants_input(const struct stream *stream)
{
    if (stream->input_over || list_linked(&stream->starved_node))
        return false;
    if (stream->state == STREAM_OPEN)
        return !stream->paused && stream->unread_bytes <= STREAM_UNREAD_MAX;
    return stream->state == STREAM_DRAINING || stream->state == STREAM_LINGERING;
}

/* The one place where the receive is begun and cancelled. A cancelled one is begun anew when it has
 * ended. */
static void update_receive(struct stream *stream)
{
    if (wants_input(stream)) {
        if (!stream->receive_op.in_flight)
            ring_receive(stream->shard->ring, &stream->receive_op, stream->fd);
    } else {
        ring_cancel(stream->shard->ring, &stream->receive_op);
    }
}

static void offer_input(struct stream *stream)
{
    if (stream->state != STREAM_OPEN || stream->paused)
        return;
    if (stream->unread_bytes > 0) {
        begin_callback(stream);
        stream->ops->input(stream);
        end_callback(stream);
    }
    /* The callback may have paused or closed. */
    if (!stream->input_over || stream->input_over_told || stream->state != STREAM_OPEN ||
        stream->paused)
        return;
    stream->input_over_told = true;
    if (stream->ops->input_ended == NULL) {
        stream_close_gracefully(stream);
        return;
    }
    begin_callback(stream);
    stream->ops->input_ended(stream);
    end_callback(stream);
}

static void take_input(struct stream *stream, struct ring_buffer *buffer, uint32_t size)
{
    stream->received_bytes += size;
    if (stream->state != STREAM_OPEN)
        ring_buffer_unref(buffer); /* too late */
    else if (!push_chunk(stream, buffer, size))
        stream_close(stream, -ENOMEM);
    else if (stream->paused)
        give_buffers_back(stream); /* of a receive that was cancelled too late */
    else
        offer_input(stream);
}

static void end_of_input(struct stream *stream)
{
    stream->input_over = true;
    if (stream->state == STREAM_LINGERING || stream->error < 0)
        stream_close(stream, stream->error);
    else
        offer_input(stream);
}

static void receive_failed(struct stream *stream, int error)
{
    if (stream->state == STREAM_LINGERING)
        error = 0; /* we were done with the peer, and so it was with us */
    stream_close(stream, error);
}

static void received(struct ring_op *op)
{
    struct stream *stream = CONTAINER_OF(op, struct stream, receive_op);

    if (op->result > 0)
        take_input(stream, op->buffer, (uint32_t)op->result);
    else if (op->result == 0)
        end_of_input(stream);
    else if (op->result == -ENOBUFS && stream->state < STREAM_CLOSING)
        list_push_back(&stream->shard->starved, &stream->starved_node);
    else if (op->result != -ECANCELED)
        receive_failed(stream, op->result);
    if (stream->state < STREAM_CLOSING)
        update_receive(stream);
    else
        shard_defer(stream->shard, &stream->flush); /* perhaps this was the last one in flight */
}

void stream_feed_starved(struct shard *shard)
{
    uint32_t free_count, total;

    if (list_empty(&shard->starved))
        return;
    free_count = ring_buffers_free(shard->ring);
    total = ring_buffers_total(shard->ring);
    if (free_count <= total / 8)
        return;
    /* As many as there are buffers; the rest after them, without waiting for an event. */
    while (free_count-- > 0 && !list_empty(&shard->starved)) {
        struct list_node *node = list_pop_front(&shard->starved);

        update_receive(CONTAINER_OF(node, struct stream, starved_node));
    }
    if (!list_empty(&shard->starved))
        shard->unfinished = true;
}

struct slice stream_front(struct stream *stream, struct ring_buffer **ret_buffer)
{
    const struct stream_chunk *chunk;

    if (stream->chunk_count == 0 || stream->state > STREAM_OPEN)
        return SLICE_NONE;
    chunk = chunk_at(stream, 0);
    if (ret_buffer != NULL)
        *ret_buffer = chunk->buffer;
    return slice_of(chunk->buffer->data + chunk->offset, chunk->size);
}

void stream_consume(struct stream *stream, size_t count)
{
    ASSERT(count <= stream->unread_bytes);
    stream->unread_bytes -= count;
    while (count > 0) {
        struct stream_chunk *chunk = chunk_at(stream, 0);
        uint32_t taken = (uint32_t)MIN(count, (size_t)chunk->size);

        chunk->offset += taken;
        chunk->size -= taken;
        count -= taken;
        if (chunk->size == 0)
            pop_chunk(stream);
    }
    if (stream->state == STREAM_OPEN && !stream->receive_op.in_flight)
        update_receive(stream);
}

size_t stream_unread(const struct stream *stream)
{
    return stream->unread_bytes;
}

void stream_pause(struct stream *stream)
{
    stream->paused = true;
    if (stream->state != STREAM_OPEN)
        return;
    update_receive(stream);
    if (stream->chunk_count > 0)
        shard_defer(stream->shard, &stream->flush); /* the caller may be looking at the bytes */
}

void stream_resume(struct stream *stream)
{
    if (!stream->paused)
        return;
    stream->paused = false;
    if (stream->state != STREAM_OPEN)
        return;
    update_receive(stream);
    stream->offer_again = true;
    shard_defer(stream->shard, &stream->flush);
}

/* ---- sending
 * ------------------------------------------------------------------------------------- */

static bool has_output(const struct stream *stream)
{
    return stream->gathering.size > 0 || !list_empty(&stream->sends);
}

/* Moves the first `size` gathered bytes to where the kernel may read them. */
static void take_gathered(struct stream *stream, size_t size)
{
    ASSERT(stream->in_flight.size == 0);
    if (size == stream->gathering.size) {
        struct buf taken = stream->gathering;

        stream->gathering = stream->in_flight;
        stream->in_flight = taken;
    } else {
        buf_append(&stream->in_flight, slice_first(buf_slice(&stream->gathering), size));
        buf_consume(&stream->gathering, size);
    }
    list_for_each (node, &stream->sends) {
        struct stream_send *send = CONTAINER_OF(node, struct stream_send, node);

        ASSERT(send->after_bytes >= size);
        send->after_bytes -= size;
    }
}

/* The first borrowed send, with the gathered output before it and that behind it: one call to the
 * kernel. */
static void send_borrowed(struct stream *stream)
{
    struct list_node *node = list_pop_front(&stream->sends);
    struct stream_send *send = CONTAINER_OF(node, struct stream_send, node);
    size_t before = send->after_bytes;
    size_t gathered = stream->gathering.size;
    uint32_t count = 0;

    if (!list_empty(&stream->sends))
        gathered = CONTAINER_OF(stream->sends.next, struct stream_send, node)->after_bytes;
    take_gathered(stream, gathered);
    if (stream->in_flight.failed || stream->in_flight.size != gathered) {
        list_push_front(&stream->sends, &send->node); /* told with the others */
        stream_close(stream, -ENOMEM);
        return;
    }
    if (before > 0)
        send->all[count++] = (struct iovec){stream->in_flight.data, before};
    memcpy(send->all + count, send->pieces, send->piece_count * sizeof(struct iovec));
    count += send->piece_count;
    if (gathered > before)
        send->all[count++] = (struct iovec){stream->in_flight.data + before, gathered - before};
    stream->current = send;
    stream->sending_bytes = gathered + send->size_bytes;
    ring_send_vec(stream->shard->ring, &stream->send_op, stream->fd, send->all, count);
}

static void send_output(struct stream *stream)
{
    if (stream->send_op.in_flight || !has_output(stream))
        return;
    if (!list_empty(&stream->sends)) {
        send_borrowed(stream);
        return;
    }
    take_gathered(stream, stream->gathering.size);
    stream->sending_bytes = stream->in_flight.size;
    ring_send(stream->shard->ring, &stream->send_op, stream->fd, buf_slice(&stream->in_flight));
}

/* An idle stream holds next to nothing. */
static void empty_buffer(struct buf *buf)
{
    if (buf->capacity > STREAM_KEEP_BYTES)
        buf_release(buf);
    else
        buf_reset(buf);
}

static void tell_sent(struct stream *stream, struct stream_send *send, int result)
{
    if (send == NULL)
        return;
    stream->borrowed_bytes -= send->size_bytes;
    begin_callback(stream);
    send->done(send, result); /* and may be gone */
    end_callback(stream);
}

static void linger(struct stream *stream)
{
    if (stream->input_over) {
        stream_close(stream, stream->error);
        return;
    }
    enter(stream, STREAM_LINGERING);
    ring_shutdown(stream->shard->ring, &stream->connect_op, stream->fd);
    shard_timer_arm(stream->shard, &stream->deadline, STREAM_LINGER_MS);
}

static void output_is_over(struct stream *stream)
{
    if (stream->state == STREAM_DRAINING) {
        linger(stream);
    } else if (stream->state == STREAM_OPEN && stream->ops->drained != NULL) {
        begin_callback(stream);
        stream->ops->drained(stream);
        end_callback(stream);
    }
}

/* A peer that has reset the connection may have said why: what has arrived is offered before the
 * stream closes. The receive ends soon, because the connection is gone. */
static void send_failed(struct stream *stream, int error)
{
    if (stream->error == 0)
        stream->error = error;
    if ((error != -EPIPE && error != -ECONNRESET) || stream->state != STREAM_OPEN ||
        !stream->receive_op.in_flight || !wants_input(stream))
        stream_close(stream, error);
}

static void sent(struct ring_op *op)
{
    struct stream *stream = CONTAINER_OF(op, struct stream, send_op);
    struct stream_send *send = stream->current;
    int error = 0;

    stream->current = NULL;
    if (op->result > 0)
        stream->sent_bytes += (uint64_t)op->result;
    if (op->result < 0)
        error = op->result;
    else if ((size_t)op->result != stream->sending_bytes)
        error = stream->state == STREAM_CLOSING ? -ECANCELED : -EPIPE;
    empty_buffer(&stream->in_flight);
    tell_sent(stream, send, error);
    if (stream->state >= STREAM_CLOSING)
        shard_defer(stream->shard, &stream->flush); /* perhaps this was the last one in flight */
    else if (error < 0)
        send_failed(stream, error);
    else if (has_output(stream))
        shard_defer(stream->shard, &stream->flush);
    else
        output_is_over(stream);
}

/* Output is of use: nothing has failed and nothing was closed. */
static bool takes_output(const struct stream *stream)
{
    return stream->state <= STREAM_OPEN && stream->error == 0;
}

void stream_write(struct stream *stream, struct slice bytes)
{
    if (bytes.size == 0 || !takes_output(stream))
        return;
    buf_append(&stream->gathering, bytes);
    if (stream->gathering.failed ||
        stream->gathering.size + stream->in_flight.size > stream->output_bytes_max)
        stream_close(stream, -ENOBUFS);
    else
        shard_defer(stream->shard, &stream->flush);
}

void stream_send_borrowed(struct stream *stream, struct stream_send *send)
{
    ASSERT(send->piece_count <= STREAM_PIECES_MAX);
    send->size_bytes = 0;
    for (uint32_t i = 0; i < send->piece_count; i++)
        send->size_bytes += send->pieces[i].iov_len;
    send->after_bytes = stream->gathering.size;
    list_node_init(&send->node);
    list_push_back(&stream->sends, &send->node);
    stream->borrowed_bytes += send->size_bytes;
    ASSERT(stream->state < STREAM_CLOSED); /* before that, even a stream that closes will tell */
    shard_defer(stream->shard, &stream->flush);
}

size_t stream_unsent(const struct stream *stream)
{
    return stream->gathering.size + stream->in_flight.size + stream->borrowed_bytes;
}

/* ---- life
 * ----------------------------------------------------------------------------------------- */

static void tell_all_unsent(struct stream *stream)
{
    struct list_node *node;

    while ((node = list_pop_front(&stream->sends)) != NULL)
        tell_sent(stream, CONTAINER_OF(node, struct stream_send, node),
                  stream->error < 0 ? stream->error : -ECANCELED);
}

static void finish_closing(struct stream *stream)
{
    if (stream->receive_op.in_flight || stream->send_op.in_flight || stream->connect_op.in_flight)
        return;
    drop_chunks(stream);
    tell_all_unsent(stream);
    buf_deinit(&stream->gathering);
    buf_deinit(&stream->in_flight);
    ring_close(stream->fd);
    stream->fd = -1;
    shard_undefer(&stream->flush);
    enter(stream, STREAM_CLOSED);
    stream->ops->closed(stream, stream->error); /* and may be gone */
}

/* Runs at the end of a tick in which something was written, resumed or closed. */
static void flush(struct shard_task *task)
{
    struct stream *stream = CONTAINER_OF(task, struct stream, flush);

    if (stream->offer_again) {
        stream->offer_again = false;
        offer_input(stream);
    }
    switch ((enum stream_state)stream->state) {
    case STREAM_CONNECTING: /* what was written waits */
    case STREAM_LINGERING:
    case STREAM_CLOSED:
        break;
    case STREAM_OPEN:
        if (stream->paused)
            give_buffers_back(stream);
        if (stream->error == 0)
            send_output(stream);
        else
            tell_all_unsent(stream);
        break;
    case STREAM_DRAINING:
        drop_chunks(stream); /* only here: who closes may still be looking at the bytes */
        send_output(stream);
        if (!stream->send_op.in_flight && !has_output(stream))
            linger(stream);
        break;
    case STREAM_CLOSING:
        finish_closing(stream);
        break;
    }
}

static void deadline_passed(struct timer *timer)
{
    struct stream *stream = CONTAINER_OF(timer, struct stream, deadline);

    if (stream->state > STREAM_OPEN || stream->ops->timeout == NULL) {
        /* A peer that leaves our FIN unanswered has done us no harm. */
        stream_close(stream, stream->state == STREAM_LINGERING ? 0 : -ETIMEDOUT);
        return;
    }
    begin_callback(stream);
    stream->ops->timeout(stream);
    end_callback(stream);
}

/* Of ring_connect() and, when lingering, of ring_shutdown(): the two never meet. */
static void connected(struct ring_op *op)
{
    struct stream *stream = CONTAINER_OF(op, struct stream, connect_op);
    int result = op->result;

    if (stream->state == STREAM_CLOSING) {
        shard_defer(stream->shard, &stream->flush);
        return;
    }
    if (stream->state != STREAM_CONNECTING) {
        /* -ENOTCONN: the peer has reset the connection, and there is nobody to wait for. */
        if (result < 0)
            stream_close(stream, stream->error);
        return;
    }
    if (result == 0)
        enter(stream, STREAM_OPEN);
    if (stream->ops->connected != NULL) {
        begin_callback(stream);
        stream->ops->connected(stream, result);
        end_callback(stream);
    }
    if (result < 0) {
        stream_close(stream, result);
    } else if (stream->state < STREAM_CLOSING) {
        update_receive(stream);
        shard_defer(stream->shard, &stream->flush);
    }
}

static void init(struct stream *stream, struct shard *shard, int fd, const struct stream_ops *ops,
                 size_t output_bytes_max, enum stream_state state)
{
    ASSERT(fd >= 0);
    *stream = (struct stream){.shard = shard,
                              .ops = ops,
                              .fd = fd,
                              .state = (uint8_t)state,
                              .output_bytes_max = output_bytes_max};
    ring_op_init(&stream->receive_op, received);
    ring_op_init(&stream->send_op, sent);
    ring_op_init(&stream->connect_op, connected);
    buf_init(&stream->gathering, output_bytes_max);
    buf_init(&stream->in_flight, output_bytes_max);
    list_init(&stream->sends);
    list_node_init(&stream->starved_node);
    timer_init(&stream->deadline, deadline_passed);
    shard_task_init(&stream->flush, flush);
}

void stream_open(struct stream *stream, struct shard *shard, int fd, const struct stream_ops *ops,
                 size_t output_bytes_max)
{
    init(stream, shard, fd, ops, output_bytes_max, STREAM_OPEN);
    update_receive(stream);
}

void stream_connect(struct stream *stream, struct shard *shard, int fd,
                    const struct netaddr *address, const struct stream_ops *ops,
                    size_t output_bytes_max)
{
    init(stream, shard, fd, ops, output_bytes_max, STREAM_CONNECTING);
    ring_connect(shard->ring, &stream->connect_op, fd, address);
}

void stream_set_deadline(struct stream *stream, uint64_t deadline_ns)
{
    if (stream->state > STREAM_OPEN)
        return;
    if (deadline_ns == 0)
        shard_timer_disarm(stream->shard, &stream->deadline);
    else
        timer_arm(&stream->shard->timers, &stream->deadline, deadline_ns);
}

void stream_close_gracefully(struct stream *stream)
{
    if (stream->state == STREAM_CONNECTING || (stream->state == STREAM_OPEN && stream->error < 0)) {
        stream_close(stream, stream->error); /* there is nobody to say goodbye to */
        return;
    }
    if (stream->state != STREAM_OPEN)
        return;
    enter(stream, STREAM_DRAINING);
    update_receive(stream);
    shard_timer_arm(stream->shard, &stream->deadline, STREAM_DRAIN_MS);
    shard_defer(stream->shard, &stream->flush);
}

void stream_close(struct stream *stream, int error)
{
    struct ring *ring = stream->shard->ring;

    if (stream->state >= STREAM_CLOSING)
        return;
    enter(stream, STREAM_CLOSING);
    if (stream->error == 0)
        stream->error = error;
    shard_timer_disarm(stream->shard, &stream->deadline);
    list_remove(&stream->starved_node);
    ring_cancel(ring, &stream->receive_op);
    ring_cancel(ring, &stream->send_op);
    ring_cancel(ring, &stream->connect_op);
    shard_defer(stream->shard, &stream->flush);
}

bool stream_is_closing(const struct stream *stream)
{
    return stream->state > STREAM_OPEN;
}
