/* SMTP sessions that come in: where the dialogue becomes a promise.
 *
 * proto/smtp_server.h asks, queue/queue.h and policy.c answer. A body stays in the receive buffers it arrived in until its
 * end, at most SPOOL_INLINE_BODY_MAX of it; then the log copies it once. What is larger goes to the log in
 * chunks while it arrives. When buffers or memory get scarce, bodies give way first (DESIGN 4): see
 * inbound_relieve().
 */
#include "daemon/kilatd_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/crc32c.h"
#include "core/stream.h"
#include "proto/header.h"

#define INBOUND_PIECES_MAX                                                                         \
    512 /* of a body held in place; a body of dots only is logged early instead */
#define INBOUND_BUFFERS_MAX                                                                        \
    32 /* a trickling client fills each with a few bytes: compacted beyond this */
#define INBOUND_LOG_EARLY_BYTES                                                                    \
    (16 * KIB) /* a chunk of its own is worth it from here on; less is copied */
#define INBOUND_OUTPUT_MAX (256 * KIB)
#define INBOUND_RELIEF_MS 20

struct inbound;

/* MAIL to the end of data. Outlives its session while the queue has it. */
struct transaction {
    struct node *node;
    struct inbound *inbound; /* NULL: the session is gone */
    struct queue_submission submission;
    struct buf names; /* sender and recipients, one behind the other */
    uint32_t *name_ends;
    struct slice *recipients;
    uint32_t name_count, name_capacity;

    struct iovec *pieces; /* of the body held: in buffers, and in `compact` */
    uint32_t piece_count, piece_capacity;
    struct ring_buffer *buffers[INBOUND_BUFFERS_MAX];
    uint32_t buffer_count;
    struct buf compact;
    uint64_t piece_bytes, held_bytes;
    uint64_t body_bytes;
    struct spool_upload *upload;
    struct spool_waiter room;
    bool waiting;    /* for room in the spool's groups */
    bool submitting; /* the queue has it */
    int failed;      /* -errno: refused at the end of data */
    struct buf head;
    struct list_node holding_node; /* of node->holding, while piece_bytes > 0 */
};

struct inbound {
    struct session session;
    struct stream stream;
    struct node *node;
    struct generation *generation;
    struct smtp_server *server;
    struct netaddr peer;
    enum spool_durability durability; /* what a 250 of this listener means */
    uint64_t number;                  /* in the log */
    bool admitted;                    /* counted among the sessions */
    bool input_over;                  /* the client sends no more, but may wait for our answer */
    bool armed;                       /* the deadline runs, since command number */
    uint64_t armed_commands;
    struct transaction *transaction;
    struct ring_buffer *current; /* holds what smtp_server_input() is given just now */
    struct list_node starving_node;
};

/* ---- the body that is held ----------------------------------------------------------------------- */

static void transaction_account(struct transaction *t, int64_t change)
{
    t->held_bytes = (uint64_t)((int64_t)t->held_bytes + change);
    t->node->held_bytes = (uint64_t)((int64_t)t->node->held_bytes + change);
}

static void transaction_let_go(struct transaction *t)
{
    for (uint32_t i = 0; i < t->buffer_count; i++)
        ring_buffer_unref(t->buffers[i]);
    t->buffer_count = 0;
    buf_release(&t->compact);
    transaction_account(t, -(int64_t)t->held_bytes);
    t->piece_count = 0;
    t->piece_bytes = 0;
    list_remove(&t->holding_node);
}

static bool transaction_add_piece(struct transaction *t, struct slice bytes)
{
    struct iovec *last = t->piece_count == 0 ? NULL : &t->pieces[t->piece_count - 1];

    t->piece_bytes += bytes.size;
    if (last != NULL && (const uint8_t *)last->iov_base + last->iov_len == bytes.data) {
        last->iov_len += bytes.size;
        return true;
    }
    if (t->piece_count == t->piece_capacity) {
        uint32_t capacity = t->piece_capacity == 0 ? 8 : t->piece_capacity * 2;
        struct iovec *pieces = realloc(t->pieces, capacity * sizeof(*pieces));
        if (pieces == NULL)
            return false;
        t->pieces = pieces;
        t->piece_capacity = capacity;
    }
    t->pieces[t->piece_count++] = (struct iovec){(void *)bytes.data, bytes.size};
    return true;
}

/* Copies what lies in receive buffers into memory of its own and gives the buffers back: the second copy of these bytes,
 * counted apart. */
static bool transaction_compact(struct transaction *t)
{
    struct buf compact;
    uint8_t *to;

    buf_init(&compact, SPOOL_INLINE_BODY_MAX + 64 * KIB);
    to = buf_extend(&compact, t->piece_bytes);
    if (to == NULL)
        return false;
    for (uint32_t i = 0; i < t->piece_count; i++) {
        (void)crc32c_copy(0, to, slice_of(t->pieces[i].iov_base, t->pieces[i].iov_len),
                          &t->node->counters.compacted_bytes);
        to += t->pieces[i].iov_len;
    }
    for (uint32_t i = 0; i < t->buffer_count; i++)
        ring_buffer_unref(t->buffers[i]);
    t->buffer_count = 0;
    buf_deinit(&t->compact);
    t->compact = compact;
    t->pieces[0] = (struct iovec){compact.data, compact.size};
    t->piece_count = 1;
    transaction_account(t, (int64_t)compact.capacity - (int64_t)t->held_bytes);
    t->node->counters.bodies_compacted++;
    return true;
}

static void transaction_room(struct spool_waiter *waiter);

/* Gives what is held to the log as a chunk. False: the log has no room just now; `waiting` is set and the session is
 * paused until it has. */
static bool transaction_log_chunk(struct transaction *t)
{
    int r = 0;

    if (t->failed != 0 || t->piece_count == 0) {
        transaction_let_go(t);
        return true;
    }
    if (t->waiting)
        return false;
    if (t->upload == NULL)
        r = spool_upload_begin(t->node->spool, t->submission.id, &t->upload);
    if (r == 0)
        r = spool_upload_chunk(t->upload, t->pieces, t->piece_count);
    if (r == -EAGAIN) {
        t->waiting = true;
        spool_await_room(t->node->spool, &t->room);
        return false;
    }
    if (r < 0)
        t->failed = r;
    transaction_let_go(t);
    return true;
}

static bool node_buffers_low(const struct node *node, uint32_t share)
{
    return ring_buffers_free(node->shard->ring) < ring_buffers_total(node->shard->ring) / share;
}

static uint64_t node_memory_budget(const struct node *node)
{
    return node->generation->settings.memory_max / node->kilatd->shard_count;
}

static uint64_t node_memory_used(const struct node *node)
{
    return node->held_bytes + node->shard->kept_bytes;
}

static bool node_memory_low(const struct node *node)
{
    uint64_t budget = node_memory_budget(node);

    return node_memory_used(node) > budget - budget / 8;
}

static bool node_memory_out(const struct node *node)
{
    return node_memory_used(node) >= node_memory_budget(node);
}

void inbound_relieve(struct node *node)
{
    list_for_each_safe (at, &node->holding) {
        struct transaction *t = CONTAINER_OF(at, struct transaction, holding_node);
        if (!node_buffers_low(node, 4) && !node_memory_low(node))
            return;
        if (t->submitting)
            continue;
        if (t->buffer_count > 0 && (t->piece_bytes * 2 < t->held_bytes ||
                                    ((t->waiting || t->piece_bytes < INBOUND_LOG_EARLY_BYTES) &&
                                     node_buffers_low(node, 4)))) {
            (void)transaction_compact(t); /* without memory for it the buffers stay held */
        } else if (t->piece_bytes >= INBOUND_LOG_EARLY_BYTES && !t->waiting &&
                   transaction_log_chunk(t)) {
            node->counters.bodies_logged_early++;
        }
    }
}

/* ---- transaction: begin and end --------------------------------------------------------------- */

static void transaction_destroy(struct transaction *t)
{
    ASSERT(!t->submitting);
    transaction_let_go(t);
    spool_cancel_wait(&t->room);
    spool_upload_abort(&t->upload);
    buf_deinit(&t->names);
    buf_deinit(&t->head);
    buf_deinit(&t->compact);
    free(t->name_ends);
    free(t->recipients);
    free(t->pieces);
    free(t);
}

static bool transaction_add_name(struct transaction *t, struct slice name)
{
    if (t->name_count == t->name_capacity) {
        uint32_t capacity = t->name_capacity == 0 ? 4 : t->name_capacity * 2;
        uint32_t *ends = realloc(t->name_ends, capacity * sizeof(*ends));
        if (ends == NULL)
            return false;
        t->name_ends = ends;
        t->name_capacity = capacity;
    }
    buf_append(&t->names, name);
    if (t->names.failed)
        return false;
    t->name_ends[t->name_count++] = (uint32_t)t->names.size;
    return true;
}

static struct transaction *transaction_create(struct inbound *in)
{
    struct transaction *t = calloc(1, sizeof(*t));

    if (t == NULL)
        return NULL;
    t->node = in->node;
    t->inbound = in;
    buf_init(&t->names, 4 * MIB);
    buf_init(&t->head, 4 * KIB);
    buf_init(&t->compact, SPOOL_INLINE_BODY_MAX);
    t->room.ready = transaction_room;
    list_node_init(&t->room.node);
    list_node_init(&t->holding_node);
    return t;
}

/* ---- the dialogue ------------------------------------------------------------------------------- */

static void inbound_run(struct inbound *in);

static struct smtp_reply inbound_machine_error(int error)
{
    return error == -ENOSPC || error == -EAGAIN
               ? SMTP_REPLY(452, 4, 3, 1, "No room for mail just now, try again later")
               : SMTP_REPLY(451, 4, 3, 0, "The message cannot be kept just now, try again later");
}

static struct smtp_reply inbound_helo(void *context, struct slice name)
{
    (void)context;
    (void)name; /* shown in Received; nothing hangs on it */
    return SMTP_REPLY(250, 0, 0, 0, "Ok");
}

static struct smtp_reply inbound_mail(void *context, const struct smtp_mail *mail)
{
    struct inbound *in = context;
    int r = queue_admits(in->node->queue);

    ASSERT(in->transaction == NULL);
    if (in->node->draining || in->node->refusing)
        return SMTP_REPLY(451, 4, 3, 2, "No new mail is taken just now, try again later");
    if (r == 0 && (in->transaction = transaction_create(in)) == NULL)
        r = -ENOMEM;
    if (r == 0 && !transaction_add_name(in->transaction, mail->sender.whole)) {
        transaction_destroy(in->transaction);
        in->transaction = NULL;
        r = -ENOMEM;
    }
    if (r < 0)
        return inbound_machine_error(r);
    return SMTP_REPLY(250, 2, 1, 0, "Sender ok");
}

/* Who is named a thousand times gets one letter: else a stranger fills a mailbox a thousand times as fast. Where the domain
 * is ours, so is the meaning of the local part, and case makes no difference in it (RFC 5321 2.4). */
static bool inbound_knows_recipient(const struct inbound *in, const struct smtp_address *address)
{
    const struct transaction *t = in->transaction;
    bool ours = generation_is_local(in->generation, address->domain);

    for (uint32_t i = 1; i < t->name_count; i++) {
        struct slice name =
            slice_of(t->names.data + t->name_ends[i - 1], t->name_ends[i] - t->name_ends[i - 1]);
        if (slice_equal(name, address->whole) || (ours && slice_equal_nocase(name, address->whole)))
            return true;
    }
    return false;
}

static struct smtp_reply inbound_rcpt(void *context, const struct smtp_rcpt *rcpt)
{
    struct inbound *in = context;
    struct smtp_reply reply =
        policy_recipient(in->node, in->generation, &in->peer, &rcpt->recipient);

    if (reply.code == 250 && !inbound_knows_recipient(in, &rcpt->recipient) &&
        !transaction_add_name(in->transaction, rcpt->recipient.whole))
        reply = inbound_machine_error(-ENOMEM);
    if (reply.code != 250) {
        in->node->counters.recipients_refused++;
        log_event(in->node->shard->log, LOG_NOTICE, "smtp.rcpt.refused",
                  log_u64("session", in->number), log_text("rcpt", rcpt->recipient.whole),
                  log_u64("code", reply.code), log_text("text", reply.text));
    }
    return reply;
}

static struct smtp_reply inbound_data(void *context)
{
    struct inbound *in = context;

    if (node_memory_out(in->node))
        return inbound_machine_error(-EAGAIN);
    in->transaction->submission.id = queue_next_id(in->node->queue);
    in->node->shard->in_hand = in->transaction->submission.id;
    return SMTP_REPLY(354, 0, 0, 0, "End with <CRLF>.<CRLF>");
}

static bool inbound_data_chunk(void *context, struct slice bytes)
{
    struct inbound *in = context;
    struct transaction *t = in->transaction;

    t->body_bytes += bytes.size;
    if (t->failed != 0)
        return true;
    if (t->piece_count == 0 && !list_linked(&t->holding_node))
        list_push_back(&t->node->holding, &t->holding_node);
    if (in->current != NULL &&
        (t->buffer_count == 0 || t->buffers[t->buffer_count - 1] != in->current)) {
        if (t->buffer_count == INBOUND_BUFFERS_MAX && !transaction_compact(t)) {
            t->failed = -ENOMEM;
            return true;
        }
        t->buffers[t->buffer_count++] = ring_buffer_ref(in->current);
        transaction_account(t, in->current->capacity);
    }
    if (!transaction_add_piece(t, bytes))
        t->failed = -ENOMEM;
    if (t->piece_bytes > SPOOL_INLINE_BODY_MAX || t->piece_count > INBOUND_PIECES_MAX)
        return transaction_log_chunk(t);
    return !t->waiting; /* to be logged early, and the log has no room: no more of it until then */
}

static void inbound_received(struct inbound *in, struct transaction *t)
{
    const struct smtp_server_facts *facts = smtp_server_facts(in->server);
    char client[NETADDR_TEXT_SIZE], id[SPOOL_ID_TEXT_SIZE];
    int64_t wall_s = (int64_t)(in->node->shard->wall_ns / SECOND_NS);

    netaddr_format_literal(&in->peer, client);
    spool_id_format(t->submission.id, id);
    header_write_received(
        &t->head,
        &(struct header_received){.helo = facts->helo,
                                  .client = slice_cstr(client),
                                  .by = in->generation->smtp_server.hostname,
                                  .protocol = facts->extended ? SLICE("ESMTP") : SLICE("SMTP"),
                                  .id = slice_cstr(id),
                                  .recipient = t->name_count == 2 ? t->recipients[0] : SLICE_NONE,
                                  .wall_s = wall_s,
                                  .zone_offset_s = clock_zone_offset_s(wall_s)});
}

static void inbound_submitted(struct queue_submission *submission)
{
    struct transaction *t = CONTAINER_OF(submission, struct transaction, submission);
    struct inbound *in = t->inbound;
    struct node *node = t->node;
    bool cached = submission->durability == SPOOL_CACHED;
    char id[SPOOL_ID_TEXT_SIZE], text[96];
    struct smtp_reply reply;

    t->submitting = false;
    spool_id_format(submission->id, id);
    if (submission->result == 0) {
        *(cached ? &node->counters.accepted_cached : &node->counters.accepted_synced) += 1;
        log_event(
            node->shard->log, LOG_INFO, "message.accepted", log_cstr("id", id),
            log_u64("session", in == NULL ? 0 : in->number), log_text("from", submission->sender),
            log_u64("rcpts", submission->recipient_count), log_u64("bytes", t->body_bytes),
            log_cstr("durability", cached ? "cached" : "synced"), log_bool("told", in != NULL));
        (void)snprintf(text, sizeof(text),
                       cached ? "%s written but NOT flushed: lost if this machine crashes"
                              : "Message kept on disk as %s",
                       id);
        reply = (struct smtp_reply){.code = 250, .status = {2, 0, 0}, .text = slice_cstr(text)};
    } else {
        node->counters.messages_refused++;
        log_event(node->shard->log, LOG_ERROR, "message.not_kept", log_cstr("id", id),
                  log_cstr("error", strerror(-submission->result)));
        reply = inbound_machine_error(submission->result);
    }
    if (in == NULL) {
        transaction_destroy(t);
        node_check_empty(node);
        return;
    }
    smtp_server_answer(in->server, reply); /* its reset() frees the transaction */
    inbound_run(in);
}

/* 0: the queue has it and answers later. */
static int inbound_submit(struct inbound *in, struct transaction *t)
{
    const struct smtp_server_facts *facts = smtp_server_facts(in->server);
    struct queue_submission *s = &t->submission;
    struct slice *recipients = realloc(t->recipients, (t->name_count) * sizeof(*recipients));
    int r;

    if (recipients == NULL)
        return -ENOMEM;
    t->recipients = recipients;
    s->sender = slice_of(t->names.data, t->name_ends[0]);
    for (uint32_t i = 1; i < t->name_count; i++)
        recipients[i - 1] =
            slice_of(t->names.data + t->name_ends[i - 1], t->name_ends[i] - t->name_ends[i - 1]);
    s->recipients = recipients;
    s->recipient_count = t->name_count - 1;
    buf_reset(&t->head);
    inbound_received(in, t);
    s->head = buf_slice(&t->head);
    s->helo = facts->helo;
    s->body = t->pieces;
    s->body_pieces = t->piece_count;
    s->upload = t->upload;
    s->flags = (uint8_t)((facts->body_has_dot_line ? SPOOL_DOT_LINES : 0) |
                         (facts->body_has_8bit ? SPOOL_EIGHT_BIT : 0) |
                         (facts->body_ends_with_crlf ? 0 : SPOOL_NO_FINAL_CRLF));
    s->durability = (uint8_t)in->durability;
    s->done = inbound_submitted;
    if (t->head.failed)
        return -ENOMEM;
    r = queue_submit(in->node->queue, s);
    if (r == 0) {
        t->upload = NULL; /* ended by the append */
        t->submitting = true;
        transaction_let_go(t);
    }
    return r;
}

static struct smtp_reply inbound_data_end(void *context)
{
    struct inbound *in = context;
    struct transaction *t = in->transaction;
    int r = t->failed;

    if (r == 0 && t->upload != NULL && !transaction_log_chunk(t))
        return SMTP_PENDING; /* transaction_room() comes back here */
    if (r == 0)
        r = t->failed;
    if (r == 0)
        r = inbound_submit(in, t);
    if (r == 0)
        return SMTP_PENDING;
    if (r == -EAGAIN) {
        t->waiting = true;
        spool_await_room(in->node->spool, &t->room);
        return SMTP_PENDING;
    }
    in->node->counters.messages_refused++;
    log_event(in->node->shard->log, LOG_ERROR, "message.not_kept", log_u64("session", in->number),
              log_cstr("error", strerror(-r)));
    return inbound_machine_error(r);
}

/* The log has room again: for a chunk in the middle of a body, or for the message at its end. */
static void transaction_room(struct spool_waiter *waiter)
{
    struct transaction *t = CONTAINER_OF(waiter, struct transaction, room);
    struct inbound *in = t->inbound;
    struct smtp_reply reply;

    t->waiting = false;
    ASSERT(in != NULL); /* a transaction that waits is not the queue's yet, so its session lives */
    if (smtp_server_facts(in->server)->pending) {
        reply = inbound_data_end(in);
        if (smtp_reply_is_pending(&reply))
            return;
        smtp_server_answer(in->server, reply);
    } else if (transaction_log_chunk(t)) {
        smtp_server_resume(in->server);
    } else {
        return;
    }
    inbound_run(in);
}

static void inbound_reset(void *context)
{
    struct inbound *in = context;
    struct transaction *t = in->transaction;

    in->transaction = NULL;
    if (t == NULL)
        return;
    if (t->submitting)
        t->inbound = NULL; /* inbound_submitted() frees it */
    else
        transaction_destroy(t);
}

static const struct smtp_server_ops inbound_ops = {
    .helo = inbound_helo,
    .mail = inbound_mail,
    .rcpt = inbound_rcpt,
    .data = inbound_data,
    .data_chunk = inbound_data_chunk,
    .data_end = inbound_data_end,
    .reset = inbound_reset,
};

/* ---- the connection ------------------------------------------------------------------------------- */

static void inbound_flush(struct inbound *in)
{
    struct buf *out = smtp_server_out(in->server);

    if (out->size > 0) {
        stream_write(&in->stream, buf_slice(out));
        buf_reset(out);
    }
}

/* The patience for a command counts from the last whole one, not from the last byte: whoever drips a
 * command is timed out all the same. In a body each block counts. */
static void inbound_arm(struct inbound *in)
{
    const struct smtp_server_facts *facts = smtp_server_facts(in->server);
    uint32_t patience_ms = smtp_server_patience_ms(in->server);

    if (patience_ms == UINT32_MAX) {
        stream_set_deadline(&in->stream, 0);
        in->armed = false;
        return;
    }
    if (in->armed && facts->commands == in->armed_commands && facts->state != SMTP_STATE_BODY)
        return;
    in->armed = true;
    in->armed_commands = facts->commands;
    stream_set_deadline(&in->stream, in->node->shard->now_ns + patience_ms * MS_NS);
}

/* Who does not read the replies, and whose body waits for the log while others need what it holds, is not read and keeps
 * no receive buffers. */
static void inbound_regulate(struct inbound *in)
{
    const struct transaction *t = in->transaction;

    if (stream_unsent(&in->stream) > SMTP_SERVER_OUT_PAUSE ||
        (t != NULL && t->waiting && (node_buffers_low(in->node, 4) || node_memory_low(in->node))))
        stream_pause(&in->stream);
    else if (!list_linked(&in->starving_node))
        stream_resume(&in->stream);
}

/* Feeds what waits, as far as it goes. */
static void inbound_run(struct inbound *in)
{
    const struct smtp_server_facts *facts = smtp_server_facts(in->server);
    struct ring_buffer *buffer;
    struct slice input;

    in->node->shard->in_hand = in->transaction == NULL ? 0 : in->transaction->submission.id;
    while (facts->state != SMTP_STATE_CLOSED &&
           stream_unsent(&in->stream) <= SMTP_SERVER_OUT_PAUSE) {
        size_t used;
        input = stream_front(&in->stream, &buffer);
        if (input.size == 0)
            break;
        in->current = buffer;
        used = smtp_server_input(in->server, input);
        in->current = NULL;
        stream_consume(&in->stream, used);
        inbound_flush(in);
        if (used == 0)
            break; /* an answer is pending, or the log has no room */
    }
    inbound_flush(in);
    in->node->shard->in_hand = 0;
    if (facts->state == SMTP_STATE_CLOSED ||
        (in->input_over && !facts->pending && stream_unread(&in->stream) == 0))
        stream_close_gracefully(&in->stream);
    else
        inbound_arm(in);
    inbound_regulate(in);
}

static void inbound_input(struct stream *stream)
{
    struct inbound *in = CONTAINER_OF(stream, struct inbound, stream);
    struct node *node = in->node;

    if (node_buffers_low(node, 4) || node_memory_low(node)) {
        inbound_relieve(node);
        if (in->transaction == NULL && (node_buffers_low(node, 8) || node_memory_low(node)) &&
            !list_linked(&in->starving_node)) {
            node->counters.sessions_not_read++;
            stream_pause(stream);
            list_push_back(&node->starving, &in->starving_node);
            shard_timer_arm(node->shard, &node->relief, INBOUND_RELIEF_MS);
        }
    }
    inbound_run(in);
}

void inbound_relief(struct timer *timer)
{
    struct node *node = CONTAINER_OF(timer, struct node, relief);

    inbound_relieve(node);
    if (!node_buffers_low(node, 8) && !node_memory_low(node)) {
        struct list_node *at;
        while ((at = list_pop_front(&node->starving)) != NULL)
            stream_resume(&CONTAINER_OF(at, struct inbound, starving_node)->stream);
    }
    if (!list_empty(&node->starving))
        shard_timer_arm(node->shard, timer, INBOUND_RELIEF_MS);
}

static void inbound_input_ended(struct stream *stream)
{
    struct inbound *in = CONTAINER_OF(stream, struct inbound, stream);

    in->input_over = true;
    inbound_run(in);
}

static void inbound_drained(struct stream *stream)
{
    struct inbound *in = CONTAINER_OF(stream, struct inbound, stream);

    buf_release(smtp_server_out(in->server)); /* an idle session holds no memory for replies */
    inbound_run(in); /* it may have stopped because the peer did not read */
}

static void inbound_timeout(struct stream *stream)
{
    struct inbound *in = CONTAINER_OF(stream, struct inbound, stream);

    log_event(in->node->shard->log, LOG_INFO, "smtp.session.timeout",
              log_u64("session", in->number));
    smtp_server_timeout(in->server);
    inbound_flush(in);
    stream_close_gracefully(stream);
}

static void inbound_closed(struct stream *stream, int error)
{
    struct inbound *in = CONTAINER_OF(stream, struct inbound, stream);
    const struct smtp_server_facts *facts = smtp_server_facts(in->server);
    struct node *node = in->node;

    log_event(node->shard->log, LOG_INFO, "smtp.session.closed", log_u64("session", in->number),
              log_u64("messages", facts->transactions), log_u64("received", stream->received_bytes),
              log_u64("sent", stream->sent_bytes),
              log_cstr("error", error == 0 ? "" : strerror(-error)));
    smtp_server_destroy(&in->server);
    ASSERT(in->transaction == NULL);
    generation_unref(&in->generation);
    if (in->admitted)
        sessions_forget(node, &in->peer);
    list_remove(&in->session.node);
    list_remove(&in->starving_node);
    free(in);
    node_check_empty(node);
}

static const struct stream_ops inbound_stream_ops = {
    .input = inbound_input,
    .input_ended = inbound_input_ended,
    .drained = inbound_drained,
    .timeout = inbound_timeout,
    .closed = inbound_closed,
};

static void inbound_end(struct session *session)
{
    struct inbound *in = CONTAINER_OF(session, struct inbound, session);

    if (smtp_server_facts(in->server)->pending)
        return; /* its message is on the way to the disk: it is told first, and ended by the next round */
    smtp_server_refuse(in->server, SMTP_REPLY(421, 4, 3, 2, "Shutting down"));
    inbound_flush(in);
    stream_close_gracefully(&in->stream);
}

static void inbound_cut(struct session *session)
{
    stream_close(&CONTAINER_OF(session, struct inbound, session)->stream, -ECANCELED);
}

void inbound_accept(struct node *node, int fd, const struct netaddr *peer,
                    enum spool_durability durability)
{
    struct inbound *in = calloc(1, sizeof(*in));
    char text[NETADDR_TEXT_SIZE];

    if (in == NULL ||
        smtp_server_create(&node->generation->smtp_server, &inbound_ops, in, &in->server) < 0) {
        free(in);
        ring_close(fd);
        return;
    }
    in->node = node;
    in->generation = generation_ref(node->generation);
    in->peer = *peer;
    in->durability = durability;
    in->number = ++node->counters.smtp_sessions * node->kilatd->shard_count + node->shard->index;
    in->session.end = inbound_end;
    in->session.cut = inbound_cut;
    list_push_back(&node->sessions, &in->session.node);
    list_node_init(&in->starving_node);
    in->admitted = !node->draining && !node_buffers_low(node, 16) && !node_memory_out(node) &&
                   descriptors_left(node->kilatd, fd) == DESCRIPTORS_ENOUGH &&
                   sessions_admit(node, peer);
    stream_open(&in->stream, node->shard, fd, &inbound_stream_ops, INBOUND_OUTPUT_MAX);
    netaddr_format(peer, text);
    log_event(node->shard->log, LOG_INFO, "smtp.session.opened", log_u64("session", in->number),
              log_cstr("client", text), log_bool("admitted", in->admitted));
    if (in->admitted) {
        smtp_server_greet(in->server);
    } else {
        node->counters.refused_sessions++;
        smtp_server_refuse(in->server,
                           SMTP_REPLY(421, 4, 3, 2, "Too many sessions, try again later"));
    }
    inbound_run(in);
}
