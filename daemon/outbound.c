/* The queue's transport to other hosts: a granted slot becomes a connection, the connection a session that pulls
 * messages until none is left.
 *
 * A session tries the addresses of its site in order, those that failed lately last; only when all have failed the
 * slot is given back as failed, and the site backs off. Bodies are sent from the memory of the log where it is
 * still hot: header section, body and final dot in one vectored send.
 */
#include "daemon/kilatd_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/assert.h"
#include "core/stream.h"
#include "daemon/outbound_site.h"
#include "proto/smtp_body.h"

#define OUTBOUND_OUTPUT_MAX MIB
#define OUTBOUND_TEXT_MAX 300

enum outbound_state {
    OUTBOUND_CONNECTING, /* until EHLO is answered */
    OUTBOUND_LOADING,    /* an attempt is being brought into memory */
    OUTBOUND_BUSY,       /* a transaction is under way */
    OUTBOUND_IDLE,       /* kept for the next message */
    OUTBOUND_ENDING      /* QUIT said, or the connection is going */
};

struct outbound {
    struct node *node;
    struct outbound_sites *sites;
    struct list_node sessions;
    uint32_t session_count;
};

struct outbound_session {
    struct list_node node;
    struct outbound *outbound;
    struct generation *generation;
    struct queue_slot *slot;
    struct outbound_site *site;
    enum outbound_state state;
    uint8_t order[DNS_MX_MAX]; /* addresses as they will be tried */
    uint32_t tried;
    struct outbound_address *address; /* the one in use */
    bool connected, greeted, recalled, site_failed, client_ended;
    bool dot_sent;     /* from here on silence does not mean that nothing arrived */
    bool over;         /* the transaction in hand has all its outcomes */
    uint8_t status[3]; /* why the last address failed */
    char text[OUTBOUND_TEXT_MAX];
    struct stream stream;
    struct smtp_client *client;
    struct queue_attempt *attempt;
    uint64_t attempt_began_ns;
    struct shard_task next; /* pull again, outside of any callback */
    struct timer idle;
    /* The body being sent: */
    struct stream_send send;
    struct smtp_body_stuff stuff;
    struct slice piece; /* of header section or body, not yet in a send */
    bool stuffing, in_head, sending, sending_last;
    bool reading; /* the next piece is asked for and has not come */
    uint64_t body_left;
};

static void outbound_try_address(struct outbound_session *s);
static void outbound_pull(struct outbound_session *s);

static bool outbound_listens_at(const struct settings *settings, const struct setting_list *list,
                                const struct netaddr *address)
{
    struct netaddr own;

    for (size_t i = 0; i < list->count; i++)
        if (netaddr_parse(slice_cstr(list->items[i]), 0, &own) &&
            netaddr_port(&own) == settings->outgoing_port && netaddr_same_host(&own, address))
            return true;
    return false;
}

bool outbound_is_self(void *context, struct slice host_name, const struct netaddr *address)
{
    const struct node *node = context;
    const struct settings *settings = &node->generation->settings;

    if (slice_equal_nocase(host_name, slice_cstr(settings->hostname)))
        return true;
    return address != NULL &&
           (outbound_listens_at(settings, &settings->smtp_listen, address) ||
            outbound_listens_at(settings, &settings->smtp_listen_cached, address));
}

/* What a crash from here on is about: the message of this session, if it has one. */
static void outbound_in_hand(const struct outbound_session *s)
{
    s->outbound->node->shard->in_hand = s->attempt == NULL ? 0 : queue_attempt_id(s->attempt);
}

static void outbound_out_of_hand(struct shard *shard)
{
    shard->in_hand = 0;
}

/* ---- the end of a session ----------------------------------------------------------------------- */

static const char *outbound_host(const struct outbound_session *s)
{
    return s->address == NULL ? "" : s->site->hosts[s->address->host];
}

static void outbound_free(struct outbound_session *s)
{
    struct outbound *outbound = s->outbound;

    ASSERT(s->attempt == NULL);
    ASSERT(s->slot == NULL);
    shard_undefer(&s->next);
    shard_timer_disarm(outbound->node->shard, &s->idle);
    smtp_client_destroy(&s->client);
    outbound_site_unref(&s->site);
    generation_unref(&s->generation);
    list_remove(&s->node);
    outbound->session_count--;
    free(s);
    node_check_empty(outbound->node);
}

static void outbound_give_up_slot(struct outbound_session *s)
{
    struct queue_slot *slot = s->slot;

    s->slot = NULL;
    if (s->greeted && !s->site_failed) {
        queue_slot_return(slot);
        return;
    }
    log_event(s->outbound->node->shard->log, LOG_WARNING, "site.failed",
              log_text("site", queue_slot_site(slot)), log_cstr("reason", s->text));
    queue_slot_failed(slot, s->status, slice_cstr(s->text));
}

static void outbound_note_failure(struct outbound_session *s, const uint8_t status[3],
                                  const char *what, struct slice text)
{
    char address[NETADDR_TEXT_SIZE];

    memcpy(s->status, status, 3);
    netaddr_format(&s->address->address, address);
    (void)snprintf(s->text, sizeof(s->text), "%.100s %s: %s%.*s", outbound_host(s), address, what,
                   (int)MIN(text.size, 120), (const char *)text.data);
}

/* ---- transactions --------------------------------------------------------------------------------- */

/* While the kernel may still send from the message's memory the attempt keeps it: a reply can overtake
 * the completion of the send, and a host may refuse in the midst of the body. */
static void outbound_finish_attempt(struct outbound_session *s)
{
    struct queue_attempt *attempt = s->attempt;

    s->over = true;
    if (attempt == NULL || s->sending)
        return; /* outbound_body_sent() comes back here */
    s->attempt = NULL;
    s->piece = SLICE_NONE;
    queue_attempt_finish(attempt, NULL, NULL);
    if (!s->client_ended)
        shard_defer(s->outbound->node->shard, &s->next);
}

static void outbound_quit(struct outbound_session *s)
{
    if (s->state == OUTBOUND_ENDING)
        return;
    s->state = OUTBOUND_ENDING;
    smtp_client_quit(s->client);
}

static void outbound_begin(struct outbound_session *s)
{
    const struct spool_reader_info *info = spool_reader_info(queue_attempt_reader(s->attempt));
    struct smtp_transaction transaction = {
        .sender = queue_attempt_sender(s->attempt),
        .recipients = queue_attempt_recipients(s->attempt),
        .recipient_count = queue_attempt_count(s->attempt),
        .body_bytes = info->head.size + info->body_bytes,
        .eight_bit = (info->flags & SPOOL_EIGHT_BIT) != 0,
    };

    s->state = OUTBOUND_BUSY;
    s->over = false;
    s->dot_sent = false;
    s->attempt_began_ns = s->outbound->node->shard->now_ns;
    smtp_client_begin(s->client, &transaction);
}

static void outbound_flush(struct outbound_session *s);

static void outbound_loaded(struct queue_attempt *attempt, void *context, int result)
{
    struct outbound_session *s = context;

    ASSERT(s->attempt == attempt);
    ASSERT(s->state == OUTBOUND_LOADING);
    if (result < 0) {
        outbound_finish_attempt(s); /* the queue knows what a damaged message means */
        return;
    }
    outbound_in_hand(s);
    outbound_begin(s);
    outbound_flush(s);
    outbound_out_of_hand(s->outbound->node->shard);
}

static void outbound_pull(struct outbound_session *s)
{
    struct node *node = s->outbound->node;
    bool retire = false;

    ASSERT(s->attempt == NULL);
    shard_timer_disarm(node->shard, &s->idle);
    if (!s->recalled && !node->draining)
        s->attempt = queue_slot_take(s->slot, &retire);
    if (s->attempt != NULL) {
        s->state = OUTBOUND_LOADING;
        outbound_in_hand(s);
        queue_attempt_load(s->attempt, outbound_loaded, s);
        outbound_out_of_hand(node->shard);
    } else if (retire || s->recalled || node->draining) {
        outbound_quit(s);
    } else {
        s->state = OUTBOUND_IDLE;
        shard_timer_arm(node->shard, &s->idle, s->generation->settings.site_idle_ms);
    }
    outbound_flush(s);
}

static void outbound_next(struct shard_task *task)
{
    struct outbound_session *s = CONTAINER_OF(task, struct outbound_session, next);

    if (s->state != OUTBOUND_ENDING && s->attempt == NULL && smtp_client_idle(s->client))
        outbound_pull(s);
}

static void outbound_idle_over(struct timer *timer)
{
    struct outbound_session *s = CONTAINER_OF(timer, struct outbound_session, idle);

    if (s->state == OUTBOUND_IDLE) {
        outbound_quit(s);
        outbound_flush(s);
    }
}

/* ---- the body --------------------------------------------------------------------------------------- */

static void outbound_send_body(struct outbound_session *s);

static void outbound_body_failed(struct outbound_session *s, int error)
{
    char id[SPOOL_ID_TEXT_SIZE];

    spool_id_format(queue_attempt_id(s->attempt), id);
    log_event(s->outbound->node->shard->log, LOG_ERROR, "message.unreadable", log_cstr("id", id),
              log_cstr("error", strerror(-error)));
    queue_attempt_damaged(s->attempt, error);
    smtp_client_body_failed(s->client);
}

static void outbound_body_ready(void *context, int result)
{
    struct outbound_session *s = context;

    (void)result; /* the next call tells it again */
    s->reading = false;
    if (s->attempt != NULL && s->state == OUTBOUND_BUSY && !s->client_ended && !s->sending) {
        outbound_in_hand(s);
        outbound_send_body(s);
        outbound_flush(s);
        outbound_out_of_hand(s->outbound->node->shard);
    }
}

static void outbound_body_sent(struct stream_send *send, int result)
{
    struct outbound_session *s = CONTAINER_OF(send, struct outbound_session, send);

    s->sending = false;
    if (s->over) {
        outbound_finish_attempt(s);
        return;
    }
    if (result < 0 || s->attempt == NULL || s->sending_last || s->reading)
        return; /* a read under way goes on by itself */
    outbound_in_hand(s);
    outbound_send_body(s);
    outbound_flush(s);
    outbound_out_of_hand(s->outbound->node->shard);
}

static void outbound_add_piece(struct outbound_session *s, struct slice bytes)
{
    s->send.pieces[s->send.piece_count++] = (struct iovec){(void *)bytes.data, bytes.size};
}

/* Fills the send from `piece`; false when it is full before the piece ends. */
static bool outbound_take_piece(struct outbound_session *s)
{
    while (s->piece.size > 0) {
        struct slice part = s->piece;
        if (s->send.piece_count == STREAM_PIECES_MAX)
            return false;
        if (s->stuffing)
            part = smtp_body_stuff_next(&s->stuff, &s->piece);
        else
            s->piece = SLICE_NONE;
        if (part.size == 0)
            break;
        outbound_add_piece(s, part);
    }
    return true;
}

/* Puts as much as one send takes into it. A piece of the reader lives until the next is asked for, so all of a send comes
 * from the header section and one piece. */
static void outbound_send_body(struct outbound_session *s)
{
    struct spool_reader *reader = queue_attempt_reader(s->attempt);
    bool last = false;
    int r = 1;

    s->send.piece_count = 0;
    if (outbound_take_piece(s)) { /* what the last send had no room for */
        if (s->body_left > 0 && (s->in_head || s->send.piece_count == 0)) {
            r = spool_reader_next(reader, &s->piece, outbound_body_ready, s);
            s->reading = r == -EINPROGRESS;
            if (r == -EINPROGRESS && s->send.piece_count == 0)
                return;
            if (r < 0 && r != -EINPROGRESS) {
                outbound_body_failed(s, r);
                return;
            }
            if (r == 1) {
                s->in_head = false;
                s->body_left -= MIN(s->body_left, s->piece.size);
            }
        }
        last = r == 1 && outbound_take_piece(s) && s->body_left == 0 && s->piece.size == 0;
    }
    s->sending = true;
    s->sending_last = last;
    stream_send_borrowed(&s->stream, &s->send);
    if (!last)
        return;
    if ((spool_reader_info(reader)->flags & SPOOL_NO_FINAL_CRLF) != 0)
        stream_write(&s->stream, SLICE("\r\n"));
    s->dot_sent = true;
    smtp_client_body_sent(s->client); /* the dot leaves with the body, in one call to the kernel */
}

static void outbound_body(void *context)
{
    struct outbound_session *s = context;
    const struct spool_reader_info *info = spool_reader_info(queue_attempt_reader(s->attempt));

    s->stuff = (struct smtp_body_stuff){0};
    s->stuffing = (info->flags & SPOOL_DOT_LINES) != 0;
    s->in_head = true;
    s->sending_last = false;
    s->reading = false;
    s->piece = info->head;
    s->body_left = info->body_bytes;
    s->send.done = outbound_body_sent;
    outbound_flush(s); /* nothing of the commands may come behind the body */
    outbound_send_body(s);
}

/* ---- what the client tells ---------------------------------------------------------------------------- */

static void outbound_ready(void *context)
{
    struct outbound_session *s = context;

    if (!s->greeted) {
        s->greeted = true;
        s->address->bad_until_ns = 0;
        queue_slot_succeeded(s->slot);
    }
    outbound_finish_attempt(s);
    shard_defer(s->outbound->node->shard, &s->next);
}

static const char *const outbound_outcome_names[] = {"delivered", "later", "never", "in doubt"};

/* A reply without a code is our own sentence for why none came. */
static enum queue_outcome outbound_meaning(const struct outbound_session *s,
                                           enum smtp_outcome outcome,
                                           const struct smtp_remote_reply *reply)
{
    static const enum queue_outcome meaning[] = {QUEUE_DELIVERED, QUEUE_LATER, QUEUE_NEVER};

    return outcome == SMTP_LATER && reply->code == 0 && s->dot_sent ? QUEUE_IN_DOUBT
                                                                    : meaning[outcome];
}

static void outbound_outcome(void *context, uint32_t recipient, enum smtp_outcome outcome,
                             const struct smtp_remote_reply *reply)
{
    struct outbound_session *s = context;
    enum queue_outcome meaning = outbound_meaning(s, outcome, reply);
    struct shard *shard = s->outbound->node->shard;
    char id[SPOOL_ID_TEXT_SIZE], text[OUTBOUND_TEXT_MAX], address[NETADDR_TEXT_SIZE];

    spool_id_format(queue_attempt_id(s->attempt), id);
    netaddr_format(&s->address->address, address);
    log_event(shard->log, outcome == SMTP_DELIVERED ? LOG_INFO : LOG_NOTICE, "delivery",
              log_cstr("id", id), log_text("to", queue_attempt_recipients(s->attempt)[recipient]),
              log_cstr("outcome", outbound_outcome_names[meaning]),
              log_cstr("host", outbound_host(s)), log_cstr("address", address),
              log_u64("code", reply->code), log_text("reply", reply->text),
              log_u64("attempt", queue_attempt_number(s->attempt)),
              log_u64("took_us", (shard->now_ns - s->attempt_began_ns) / US_NS));
    (void)snprintf(text, sizeof(text), "%.80s" DELIVERY_SAID "%.*s", outbound_host(s),
                   (int)MIN(reply->text.size, 200), (const char *)reply->text.data);
    queue_attempt_outcome(s->attempt, recipient, meaning, reply->status, slice_cstr(text));
}

static void outbound_ended(void *context, bool site_failed, bool in_doubt,
                           const struct smtp_remote_reply *reply)
{
    struct outbound_session *s = context;
    char id[SPOOL_ID_TEXT_SIZE];

    s->client_ended = true;
    s->site_failed = site_failed;
    if (in_doubt && s->attempt != NULL) {
        spool_id_format(queue_attempt_id(s->attempt), id);
        log_event(s->outbound->node->shard->log, LOG_WARNING, "delivery.in_doubt",
                  log_cstr("id", id), log_cstr("host", outbound_host(s)));
    }
    if (s->text[0] == 0 || reply->text.size > 0) {
        const uint8_t none[3] = {4, 4, 2};
        outbound_note_failure(s, reply->status[0] != 0 ? reply->status : none, "", reply->text);
    }
    outbound_finish_attempt(s); /* also one that is being loaded: that is given up */
    s->state = OUTBOUND_ENDING;
    stream_close(&s->stream, 0);
}

static const struct smtp_client_ops outbound_client_ops = {
    .ready = outbound_ready,
    .outcome = outbound_outcome,
    .body = outbound_body,
    .ended = outbound_ended,
};

/* ---- the connection ------------------------------------------------------------------------------------- */

static void outbound_flush(struct outbound_session *s)
{
    struct buf *out = smtp_client_out(s->client);
    uint32_t patience_ms;

    if (stream_is_closing(&s->stream))
        return;
    if (out->size > 0) {
        stream_write(&s->stream, buf_slice(out));
        buf_reset(out);
    }
    patience_ms = smtp_client_patience_ms(s->client);
    stream_set_deadline(&s->stream, patience_ms == UINT32_MAX
                                        ? 0
                                        : s->outbound->node->shard->now_ns + patience_ms * MS_NS);
}

static void outbound_input(struct stream *stream)
{
    struct outbound_session *s = CONTAINER_OF(stream, struct outbound_session, stream);
    struct slice input;

    outbound_in_hand(s);
    while ((input = stream_front(stream, NULL)).size > 0 && !s->client_ended) {
        smtp_client_input(s->client, input);
        stream_consume(stream, input.size);
    }
    outbound_flush(s);
    outbound_out_of_hand(s->outbound->node->shard);
}

static void outbound_timeout(struct stream *stream)
{
    struct outbound_session *s = CONTAINER_OF(stream, struct outbound_session, stream);

    if (s->connected)
        smtp_client_timeout(s->client);
    stream_close(stream, -ETIMEDOUT);
}

static void outbound_connected(struct stream *stream, int result)
{
    struct outbound_session *s = CONTAINER_OF(stream, struct outbound_session, stream);

    s->connected = result == 0;
    if (result == 0)
        outbound_flush(s);
}

static void outbound_closed(struct stream *stream, int error)
{
    struct outbound_session *s = CONTAINER_OF(stream, struct outbound_session, stream);
    struct node *node = s->outbound->node;

    outbound_in_hand(s);
    if (!s->client_ended)
        smtp_client_lost(s->client, error);
    outbound_out_of_hand(node->shard);
    if (!s->connected)
        outbound_note_failure(s, (const uint8_t[3]){4, 4, 1},
                              "cannot connect: ", slice_cstr(strerror(-error)));
    ASSERT(s->attempt == NULL); /* the client's end has finished it */
    smtp_client_destroy(&s->client);
    if (!s->greeted && !s->recalled && !node->draining) {
        s->address->bad_until_ns = node->shard->now_ns + OUTBOUND_BAD_MS * MS_NS;
        log_event(node->shard->log, LOG_NOTICE, "host.failed", log_cstr("reason", s->text));
        outbound_try_address(s);
        return;
    }
    if (s->slot != NULL)
        outbound_give_up_slot(s);
    outbound_free(s);
}

static const struct stream_ops outbound_stream_ops = {
    .input = outbound_input,
    .connected = outbound_connected,
    .timeout = outbound_timeout,
    .closed = outbound_closed,
};

/* The next address of the site, or the end of the session. */
static void outbound_try_address(struct outbound_session *s)
{
    struct node *node = s->outbound->node;
    int fd, r;

    while (s->tried < s->site->address_count) {
        s->address = &s->site->addresses[s->order[s->tried++]];
        s->state = OUTBOUND_CONNECTING;
        s->client_ended = false;
        s->connected = false;
        r = smtp_client_create(&s->generation->smtp_client, &outbound_client_ops, s, &s->client);
        if (r == 0) {
            const struct netaddr *source = &s->generation->outgoing_source;

            if (source->size == 0 || source->any.sa_family != s->address->address.any.sa_family)
                source = NULL;
            r = ring_socket(s->address->address.any.sa_family, SOCK_STREAM, source, &fd);
            if (r == 0) {
                stream_connect(&s->stream, node->shard, fd, &s->address->address,
                               &outbound_stream_ops, OUTBOUND_OUTPUT_MAX);
                stream_set_deadline(&s->stream,
                                    node->shard->now_ns +
                                        s->generation->settings.connect_timeout_ms * MS_NS);
                return;
            }
            smtp_client_destroy(&s->client);
        }
        outbound_note_failure(s, (const uint8_t[3]){4, 4, 1},
                              "no socket: ", slice_cstr(strerror(-r)));
    }
    outbound_give_up_slot(s);
    outbound_free(s);
}

/* As the site has them, but those that failed lately last. */
static void outbound_set_order(struct outbound_session *s, uint64_t now_ns)
{
    uint32_t count = 0;

    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < s->site->address_count; i++)
            if ((s->site->addresses[i].bad_until_ns > now_ns) == (pass == 1))
                s->order[count++] = (uint8_t)i;
    ASSERT(count == s->site->address_count);
}

void outbound_connect(struct outbound *outbound, struct queue_slot *slot)
{
    struct node *node = outbound->node;
    struct outbound_site *site = outbound_sites_find(outbound->sites, queue_slot_site(slot));
    struct outbound_session *s = site == NULL ? NULL : calloc(1, sizeof(*s));

    if (s == NULL) {
        queue_slot_failed(slot, (const uint8_t[3]){4, 3, 0},
                          site == NULL ? SLICE("the site's addresses are not known any more")
                                       : SLICE("no memory for a session"));
        return;
    }
    s->outbound = outbound;
    s->generation = generation_ref(node->generation);
    s->site = outbound_site_ref(site);
    s->slot = slot;
    shard_task_init(&s->next, outbound_next);
    timer_init(&s->idle, outbound_idle_over);
    list_push_back(&outbound->sessions, &s->node);
    outbound->session_count++;
    queue_slot_set_user(slot, s);
    outbound_set_order(s, node->shard->now_ns);
    outbound_try_address(s);
}

void outbound_more(struct outbound *outbound, struct queue_slot *slot)
{
    struct outbound_session *s = queue_slot_user(slot);

    (void)outbound;
    if (s->state == OUTBOUND_IDLE)
        outbound_pull(s);
}

void outbound_recall(struct outbound *outbound, struct queue_slot *slot)
{
    struct outbound_session *s = queue_slot_user(slot);

    (void)outbound;
    s->recalled = true;
    if (s->state == OUTBOUND_IDLE) {
        outbound_quit(s);
        outbound_flush(s);
    }
}

void outbound_end(struct outbound *outbound, bool cut)
{
    list_for_each_safe (at, &outbound->sessions) {
        struct outbound_session *s = CONTAINER_OF(at, struct outbound_session, node);
        if (cut || s->state == OUTBOUND_CONNECTING) {
            stream_close(&s->stream, -ECANCELED);
        } else if (s->state == OUTBOUND_IDLE) {
            outbound_quit(s);
            outbound_flush(s);
        }
    }
}

uint32_t outbound_sessions(const struct outbound *outbound)
{
    return outbound->session_count;
}

void outbound_resolve(struct outbound *outbound, uint32_t destination, struct slice name)
{
    outbound_sites_resolve(outbound->sites, destination, name);
}

int outbound_create(struct node *node, struct outbound **ret_outbound)
{
    struct outbound *outbound = calloc(1, sizeof(*outbound));
    int r = outbound == NULL ? -ENOMEM : outbound_sites_create(node, &outbound->sites);

    if (r < 0) {
        free(outbound);
        return r;
    }
    outbound->node = node;
    list_init(&outbound->sessions);
    *ret_outbound = outbound;
    return 0;
}

void outbound_destroy(struct outbound **outbound)
{
    struct outbound *o = *outbound;

    if (o == NULL)
        return;
    ASSERT(list_empty(&o->sessions));
    outbound_sites_destroy(&o->sites);
    free(o);
    *outbound = NULL;
}
