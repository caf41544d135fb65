/* POP3 sessions: proto/pop3_server.h asks, users.c and storage/maildir.h answer.
 *
 * Everything that blocks is a job: the password hash, opening (locking, scanning) the mailbox, opening a message, deleting at
 * QUIT. A message is read and sent window by window, so a large one costs one window of memory. At most one job of a
 * session is under way; a session that ends meanwhile waits for it, because the job uses its mailbox.
 */
#include "daemon/kilatd_private.h"

#include <errno.h>
#include <stdlib.h>

#include "core/assert.h"
#include "core/stream.h"
#include "proto/pop3_server.h"
#include "proto/smtp_body.h"
#include "storage/maildir.h"

#define POP3_WINDOW_BYTES (64 * KIB)
#define POP3_OUTPUT_MAX (512 * KIB)
#define POP3_DIRECTORY_SIZE 320

struct pop3 {
    struct session session;
    struct stream stream;
    struct node *node;
    struct generation *generation;
    struct pop3_server_config config;
    struct pop3_server *server;
    struct netaddr peer;
    uint64_t number;
    bool admitted;
    bool input_over; /* the client sends no more, but may wait for our answer */
    bool gone;       /* the stream is closed, a job may still be under way */
    struct users_check *check;
    char directory[POP3_DIRECTORY_SIZE];
    char user[256];
    struct mailbox *mailbox;
    struct ring_op job; /* also the read of a window */
    /* job's arguments and results */
    uint32_t index;
    const uint8_t *deleted;
    uint32_t deleted_count;
    /* the message being sent */
    int fd;
    uint64_t size_bytes, offset;
    uint8_t *window;
    struct slice piece;
    struct pop3_top top;
    struct smtp_body_stuff stuff;
    struct stream_send send;
    bool sending;
    uint8_t last[2]; /* what went out last, to end with CRLF */
};

static void pop3_run(struct pop3 *p);
static void pop3_finish(struct pop3 *p);

static void pop3_job(struct pop3 *p, ring_job_fn *job, ring_done_fn *done)
{
    ASSERT(!p->job.in_flight);
    ring_op_init(&p->job, done);
    ring_job(p->node->shard->ring, &p->job, RING_JOB_FILE, job);
}

/* ---- log-in ---------------------------------------------------------------------------------------------- */

static int pop3_open_job(struct ring_op *op)
{
    struct pop3 *p = CONTAINER_OF(op, struct pop3, job);

    return mailbox_open(p->node->kilatd->mail_root_fd, p->directory, &p->mailbox);
}

static void pop3_opened(struct ring_op *op)
{
    struct pop3 *p = CONTAINER_OF(op, struct pop3, job);
    struct node *node = p->node;

    if (p->gone) {
        pop3_finish(p);
        return;
    }
    if (op->result == 0) {
        node->counters.pop3_logins++;
        log_event(node->shard->log, LOG_INFO, "pop3.login", log_u64("session", p->number),
                  log_cstr("user", p->user), log_u64("messages", mailbox_count(p->mailbox)),
                  log_u64("skipped", mailbox_skipped_count(p->mailbox)));
        pop3_server_login_done(p->server, POP3_LOGIN_OK);
    } else {
        log_event(node->shard->log, op->result == -EBUSY ? LOG_NOTICE : LOG_ERROR,
                  "pop3.mailbox_not_opened", log_u64("session", p->number),
                  log_cstr("user", p->user), log_cstr("error", strerror(-op->result)));
        pop3_server_login_done(p->server,
                               op->result == -EBUSY ? POP3_LOGIN_IN_USE : POP3_LOGIN_TEMPORARY);
    }
    pop3_run(p);
}

static void pop3_checked(void *context, bool matches, bool temporary, const char *directory)
{
    struct pop3 *p = context;
    struct node *node = p->node;
    char address[NETADDR_TEXT_SIZE];

    p->check = NULL;
    if (matches) {
        (void)slice_to_cstr(slice_cstr(directory), p->directory, sizeof(p->directory));
        pop3_job(p, pop3_open_job, pop3_opened);
        return;
    }
    netaddr_format(&p->peer, address);
    node->counters.pop3_login_failures++;
    log_event(node->shard->log, LOG_WARNING, "pop3.login_refused", log_u64("session", p->number),
              log_cstr("user", p->user), log_cstr("client", address));
    pop3_server_login_done(p->server, temporary ? POP3_LOGIN_TEMPORARY : POP3_LOGIN_REFUSED);
    pop3_run(p);
}

static enum pop3_login pop3_login(void *context, struct slice user, struct slice password)
{
    struct pop3 *p = context;

    (void)slice_to_cstr(user, p->user, sizeof(p->user)); /* for the log; a cut name is no account */
    if (users_check(p->node, user, password, pop3_checked, p, &p->check) < 0)
        return POP3_LOGIN_TEMPORARY;
    return POP3_LOGIN_PENDING;
}

/* ---- the mailbox ------------------------------------------------------------------------------------------ */

static uint32_t pop3_count(void *context)
{
    return mailbox_count(((struct pop3 *)context)->mailbox);
}

static struct pop3_message pop3_message(void *context, uint32_t index)
{
    struct mailbox_message message = mailbox_message(((struct pop3 *)context)->mailbox, index);

    return (struct pop3_message){.size_bytes = message.size_bytes, .uid = message.uid};
}

static void pop3_sent(struct pop3 *p, bool failed)
{
    if (p->fd >= 0)
        ring_close(p->fd);
    p->fd = -1;
    free(p->window);
    p->window = NULL;
    pop3_server_sent(p->server, failed);
    pop3_run(p);
}

static void pop3_send_piece(struct pop3 *p);

static void pop3_piece_sent(struct stream_send *send, int result)
{
    struct pop3 *p = CONTAINER_OF(send, struct pop3, send);

    p->sending = false;
    if (result == 0)
        pop3_send_piece(p);
}

static void pop3_window_read(struct ring_op *op)
{
    struct pop3 *p = CONTAINER_OF(op, struct pop3, job);

    if (p->gone) {
        pop3_finish(p);
        return;
    }
    if (op->result <= 0) { /* shorter than it was: somebody has cut it meanwhile */
        pop3_sent(p, true);
        return;
    }
    p->offset += (uint64_t)op->result;
    p->piece = pop3_top_next(&p->top, slice_of(p->window, (size_t)op->result));
    pop3_send_piece(p);
}

/* A message that does not end with CRLF gets one: the lone dot stands on a line of its own (RFC 1939 3). */
static void pop3_end_of_message(struct pop3 *p)
{
    if (p->last[0] != '\r' || p->last[1] != '\n')
        stream_write(&p->stream, SLICE("\r\n"));
    pop3_sent(p, false);
}

static void pop3_send_piece(struct pop3 *p)
{
    p->send.piece_count = 0;
    while (p->piece.size > 0 && p->send.piece_count < STREAM_PIECES_MAX) {
        struct slice part = smtp_body_stuff_next(&p->stuff, &p->piece);
        if (part.size >= 2)
            memcpy(p->last, part.data + part.size - 2, 2);
        else
            p->last[0] = p->last[1], p->last[1] = part.data[0];
        p->send.pieces[p->send.piece_count++] = (struct iovec){(void *)part.data, part.size};
    }
    if (p->send.piece_count > 0) {
        p->sending = true;
        stream_send_borrowed(&p->stream, &p->send);
    } else if (p->top.done || p->offset == p->size_bytes) {
        pop3_end_of_message(p);
    } else {
        ring_op_init(&p->job, pop3_window_read);
        ring_read(p->node->shard->ring, &p->job, p->fd, p->window,
                  MIN(POP3_WINDOW_BYTES, p->size_bytes - p->offset), p->offset);
    }
}

static int pop3_open_message_job(struct ring_op *op)
{
    struct pop3 *p = CONTAINER_OF(op, struct pop3, job);

    return mailbox_open_message(p->mailbox, p->index, &p->fd, &p->size_bytes);
}

static void pop3_message_opened(struct ring_op *op)
{
    struct pop3 *p = CONTAINER_OF(op, struct pop3, job);

    if (p->gone) {
        pop3_finish(p);
        return;
    }
    if (op->result < 0)
        p->fd = -1;
    else
        p->window = malloc(POP3_WINDOW_BYTES);
    if (p->window == NULL) {
        pop3_sent(p, true);
        return;
    }
    pop3_send_piece(p);
}

static void pop3_flush(struct pop3 *p);

static void pop3_send(void *context, uint32_t index, uint64_t lines_max)
{
    struct pop3 *p = context;

    p->index = index;
    p->offset = 0;
    p->piece = SLICE_NONE;
    p->stuff = (struct smtp_body_stuff){0};
    p->last[0] = '\r'; /* an empty message needs no line end of its own */
    p->last[1] = '\n';
    pop3_top_init(&p->top, lines_max);
    p->send.done = pop3_piece_sent;
    pop3_flush(p); /* "+OK" goes first */
    pop3_job(p, pop3_open_message_job, pop3_message_opened);
}

static int pop3_quit_job(struct ring_op *op)
{
    struct pop3 *p = CONTAINER_OF(op, struct pop3, job);
    uint32_t deleted = 0;
    int r = p->deleted_count == 0 ? 0 : mailbox_delete(p->mailbox, p->deleted, &deleted);

    mailbox_close(&p->mailbox);
    return r;
}

static void pop3_quit_done(struct ring_op *op)
{
    struct pop3 *p = CONTAINER_OF(op, struct pop3, job);

    if (op->result < 0)
        log_event(p->node->shard->log, LOG_ERROR, "pop3.delete_failed",
                  log_u64("session", p->number), log_cstr("user", p->user),
                  log_cstr("error", strerror(-op->result)));
    if (p->gone) {
        pop3_finish(p);
        return;
    }
    pop3_server_quit_done(p->server, op->result);
    pop3_run(p);
}

static void pop3_quit(void *context, const uint8_t *deleted, uint32_t deleted_count)
{
    struct pop3 *p = context;

    p->deleted = deleted;
    p->deleted_count = deleted_count;
    pop3_job(p, pop3_quit_job, pop3_quit_done);
}

static const struct pop3_server_ops pop3_ops = {
    .login = pop3_login,
    .count = pop3_count,
    .message = pop3_message,
    .send = pop3_send,
    .quit = pop3_quit,
};

/* ---- the connection ------------------------------------------------------------------------------------------- */

static void pop3_flush(struct pop3 *p)
{
    struct buf *out = pop3_server_out(p->server);

    if (out->size > 0) {
        stream_write(&p->stream, buf_slice(out));
        buf_reset(out);
    }
}

static void pop3_arm(struct pop3 *p)
{
    uint32_t patience_ms = pop3_server_patience_ms(p->server);

    stream_set_deadline(
        &p->stream, patience_ms == UINT32_MAX ? 0 : p->node->shard->now_ns + patience_ms * MS_NS);
}

static void pop3_run(struct pop3 *p)
{
    struct slice input;
    size_t used;

    while (!pop3_server_closed(p->server) && stream_unsent(&p->stream) <= POP3_WINDOW_BYTES) {
        input = stream_front(&p->stream, NULL);
        if (input.size == 0)
            break;
        used = pop3_server_input(p->server, input);
        stream_consume(&p->stream, used);
        pop3_flush(p);
        if (used == 0)
            break; /* a job is under way, or a listing goes on when its first part is sent */
    }
    pop3_flush(p);
    if (pop3_server_closed(p->server) ||
        (p->input_over && !pop3_server_pending(p->server) && stream_unread(&p->stream) == 0))
        stream_close_gracefully(&p->stream);
    else
        pop3_arm(p);
    /* Commands that wait for a job, or for a client that does not read, keep no receive buffers. */
    if (stream_unread(&p->stream) > 0)
        stream_pause(&p->stream);
    else
        stream_resume(&p->stream);
}

static void pop3_input(struct stream *stream)
{
    pop3_run(CONTAINER_OF(stream, struct pop3, stream));
}

static void pop3_input_ended(struct stream *stream)
{
    struct pop3 *p = CONTAINER_OF(stream, struct pop3, stream);

    p->input_over = true;
    pop3_run(p);
}

static void pop3_drained(struct stream *stream)
{
    struct pop3 *p = CONTAINER_OF(stream, struct pop3, stream);

    buf_release(pop3_server_out(p->server)); /* an idle session holds no memory for replies */
    pop3_server_output_drained(p->server);
    pop3_run(p);
}

static void pop3_timeout(struct stream *stream)
{
    struct pop3 *p = CONTAINER_OF(stream, struct pop3, stream);

    pop3_server_timeout(p->server);
    stream_close(stream, -ETIMEDOUT);
}

static void pop3_close_job_done(struct ring_op *op)
{
    pop3_finish(CONTAINER_OF(op, struct pop3, job));
}

static int pop3_close_job(struct ring_op *op)
{
    mailbox_close(&CONTAINER_OF(op, struct pop3, job)->mailbox);
    return 0;
}

/* The stream is closed and no job is under way. */
static void pop3_finish(struct pop3 *p)
{
    struct node *node = p->node;

    if (p->mailbox != NULL) { /* the lock goes at once, off the shard */
        pop3_job(p, pop3_close_job, pop3_close_job_done);
        return;
    }
    if (p->fd >= 0)
        ring_close(p->fd);
    free(p->window);
    pop3_server_destroy(&p->server);
    generation_unref(&p->generation);
    if (p->admitted)
        sessions_forget(node, &p->peer);
    list_remove(&p->session.node);
    free(p);
    node_check_empty(node);
}

static void pop3_closed(struct stream *stream, int error)
{
    struct pop3 *p = CONTAINER_OF(stream, struct pop3, stream);
    struct pop3_totals totals = pop3_server_totals(p->server);

    log_event(p->node->shard->log, LOG_INFO, "pop3.session.closed", log_u64("session", p->number),
              log_cstr("user", p->user), log_u64("retrieved", totals.retrieved),
              log_u64("retrieved_bytes", totals.retrieved_bytes), log_u64("topped", totals.topped),
              log_u64("deleted", totals.deleted),
              log_cstr("error", error == 0 ? "" : strerror(-error)));
    p->gone = true;
    if (p->check != NULL)
        users_check_cancel(p->check);
    if (!p->job.in_flight)
        pop3_finish(p);
}

static const struct stream_ops pop3_stream_ops = {
    .input = pop3_input,
    .input_ended = pop3_input_ended,
    .drained = pop3_drained,
    .timeout = pop3_timeout,
    .closed = pop3_closed,
};

static void pop3_end(struct session *session)
{
    struct pop3 *p = CONTAINER_OF(session, struct pop3, session);

    if (!pop3_server_pending(p->server) && !stream_is_closing(&p->stream)) {
        pop3_server_refuse(p->server, SLICE("Shutting down"));
        pop3_run(p);
    }
}

static void pop3_cut(struct session *session)
{
    stream_close(&CONTAINER_OF(session, struct pop3, session)->stream, -ECANCELED);
}

void pop3_accept(struct node *node, int fd, const struct netaddr *peer)
{
    struct pop3 *p = calloc(1, sizeof(*p));
    const struct settings *settings = &node->generation->settings;
    char text[NETADDR_TEXT_SIZE];

    if (p != NULL)
        p->config = (struct pop3_server_config){
            .hostname = node->generation->smtp_server.hostname,
            .command_line_max = (uint32_t)settings->command_line_bytes_max,
            .errors_max = (uint32_t)settings->errors_max,
            .idle_ms = (uint32_t)settings->pop3_idle_timeout_ms,
            .login_ms = (uint32_t)settings->pop3_login_timeout_ms,
        };
    if (p == NULL || pop3_server_create(&p->config, &pop3_ops, p, &p->server) < 0) {
        free(p);
        ring_close(fd);
        return;
    }
    p->node = node;
    p->generation = generation_ref(node->generation);
    p->peer = *peer;
    p->fd = -1;
    p->number = ++node->counters.pop3_sessions * node->kilatd->shard_count + node->shard->index;
    p->session.end = pop3_end;
    p->session.cut = pop3_cut;
    list_push_back(&node->sessions, &p->session.node);
    ring_op_init(&p->job, NULL);
    p->admitted = !node->draining && descriptors_left(node->kilatd, fd) == DESCRIPTORS_ENOUGH &&
                  sessions_admit(node, peer);
    stream_open(&p->stream, node->shard, fd, &pop3_stream_ops, POP3_OUTPUT_MAX);
    netaddr_format(peer, text);
    log_event(node->shard->log, LOG_INFO, "pop3.session.opened", log_u64("session", p->number),
              log_cstr("client", text), log_bool("admitted", p->admitted));
    if (p->admitted) {
        pop3_server_greet(p->server);
    } else {
        node->counters.refused_sessions++;
        pop3_server_refuse(p->server, SLICE("Too many sessions, try again later"));
    }
    pop3_run(p);
}
