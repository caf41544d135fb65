#include "core/assert.h"
#include "core/clock.h"
#include "dns/dns_private.h"

#include <errno.h>

#define AVOID_NS (30 * SECOND_NS) /* then a question of someone's finds out whether it is back */
#define PAUSES_MAX 40u /* four seconds of them, and the mail had better wait in the queue */
#define PAUSE_MS 100u  /* no descriptor, no memory: they come back when others end */
#define HUNGRY_MS 10u  /* no receive buffer: the datagram waits in the socket meanwhile */
#define WRONG_MAX 16u  /* so many wrong answers are no accident: ask over TCP */

static void begin_try(struct dns_question *question);

/* ---- the end of a try ---------------------------------------------------------------------- */

static bool in_flight(const struct dns_question *question)
{
    return question->connect.in_flight || question->send.in_flight || question->receive.in_flight ||
           question->in_receive;
}

static void no_answer(struct dns_question *question)
{
    dns_question_gave_up(question, question->server_failed ? DNS_FAILED : DNS_TIMEOUT);
    dns_question_ended(question);
}

/* Nothing is in flight: the socket goes, and what was decided follows. */
static void drained(struct dns_question *question)
{
    if (question->fd >= 0)
        ring_close(question->fd);
    question->fd = -1;
    question->state = DNS_CLOSED;
    buf_release(&question->stream);
    switch (question->next) {
    case DNS_NEXT_AGAIN:
        question->tries = 0;
        question->asked_servers = 0;
        question->tcp = false;
        begin_try(question);
        break;
    case DNS_NEXT_TCP:
        question->tcp = true;
        begin_try(question);
        break;
    case DNS_NEXT_TRY:
        question->tcp = false;
        if (++question->tries < question->dns->config.tries)
            begin_try(question);
        else
            no_answer(question);
        break;
    case DNS_NEXT_END:
        dns_question_ended(question);
        break;
    }
}

static void end_try(struct dns_question *question, enum dns_question_next next)
{
    struct dns *dns = question->dns;

    question->next = next;
    if (question->state == DNS_DRAINING)
        return; /* under way already, to somewhere else now */
    question->state = DNS_DRAINING;
    shard_timer_disarm(dns->shard, &question->timer);
    shard_timer_disarm(dns->shard, &question->hungry);
    ring_cancel(dns->shard->ring, &question->connect);
    ring_cancel(dns->shard->ring, &question->send);
    ring_cancel(dns->shard->ring, &question->receive);
    if (!in_flight(question))
        drained(question);
}

/* True when the question only waits for its operations to end, this one perhaps having been the
 * last. */
static bool drains(struct dns_question *question)
{
    if (question->state != DNS_DRAINING)
        return false;
    if (!in_flight(question))
        drained(question);
    return true;
}

/* ---- what came ----------------------------------------------------------------------------- */

static void log_server(const struct dns_question *question, enum log_level level, const char *event)
{
    char text[NETADDR_TEXT_SIZE];

    netaddr_format(&question->dns->config.servers[question->server], text);
    log_event(question->dns->shard->log, level, event, log_cstr("server", text));
}

/* A server that does not answer costs everyone the time of a try: for a while the others come
 * first. */
static void avoid_server(struct dns_question *question)
{
    struct dns *dns = question->dns;

    if (dns->avoid_until_ns[question->server] == 0)
        log_server(question, LOG_WARNING, "dns.server.silent");
    dns->avoid_until_ns[question->server] = dns->shard->now_ns + AVOID_NS;
}

static void trust_server(struct dns_question *question)
{
    struct dns *dns = question->dns;

    if (dns->avoid_until_ns[question->server] != 0)
        log_server(question, LOG_NOTICE, "dns.server.answers");
    dns->avoid_until_ns[question->server] = 0;
}

static void judge(struct dns_question *question, uint8_t *packet, size_t size)
{
    struct dns *dns = question->dns;

    trust_server(question);
    dns_packet_read(packet, size, question->tcp, question->type,
                    DNS_ALIASES_MAX - question->aliases, &dns->answer);
    switch (dns->answer.verdict) {
    case DNS_VERDICT_OK:
    case DNS_VERDICT_NODATA:
    case DNS_VERDICT_NXDOMAIN:
    case DNS_VERDICT_LOOP:
    case DNS_VERDICT_ALIAS:
        end_try(question, dns_question_answered(question) ? DNS_NEXT_END : DNS_NEXT_AGAIN);
        break;
    case DNS_VERDICT_TRUNCATED:
        end_try(question, DNS_NEXT_TCP);
        break;
    case DNS_VERDICT_NO_EDNS:
        question->server_failed = true;
        /* The second time it is not EDNS that it does not understand. */
        end_try(question, question->no_edns ? DNS_NEXT_TRY : DNS_NEXT_AGAIN);
        question->no_edns = true;
        break;
    case DNS_VERDICT_DAMAGED:
        dns->counters.refused_answers++;
        question->server_failed = true;
        end_try(question, DNS_NEXT_TRY);
        break;
    case DNS_VERDICT_SERVER:
        question->server_failed = true;
        end_try(question, DNS_NEXT_TRY);
        break;
    }
}

/* The socket is connected, so the kernel has dropped what others sent; what has another id or
 * question is dropped here, and the right answer is still waited for (RFC 5452 9.1). */
static void take_datagram(struct dns_question *question, uint8_t *packet, size_t size)
{
    struct slice asked = slice_of(question->wire + 2, question->question_bytes);

    if (dns_packet_answers(asked, slice_of(packet, size))) {
        judge(question, packet, size);
        return;
    }
    question->dns->counters.wrong_answers++;
    if (++question->wrong == WRONG_MAX)
        end_try(question, DNS_NEXT_TCP);
}

/* RFC 1035 4.2.2: two octets of length, then the message. */
static void take_stream(struct dns_question *question, struct slice bytes)
{
    struct slice asked = slice_of(question->wire + 2, question->question_bytes);
    struct buf *stream = &question->stream;
    size_t size;

    buf_append(stream, bytes);
    if (!stream->failed && stream->size < 2)
        return;
    size = stream->failed ? SIZE_MAX : (size_t)(stream->data[0] << 8 | stream->data[1]);
    if (size > DNS_ANSWER_TCP_BYTES_MAX) {
        question->dns->counters.refused_answers++;
        question->server_failed = true;
        end_try(question, DNS_NEXT_TRY);
        return;
    }
    if (stream->size - 2 < size)
        return;
    if (dns_packet_answers(asked, slice_of(stream->data + 2, size))) {
        judge(question, stream->data + 2, size);
        return;
    }
    question->dns->counters.wrong_answers++;
    end_try(question, DNS_NEXT_TRY);
}

static void receive(struct dns_question *question)
{
    ring_receive(question->dns->shard->ring, &question->receive, question->fd);
}

static void on_hungry(struct timer *timer)
{
    struct dns_question *question = CONTAINER_OF(timer, struct dns_question, hungry);

    receive(question);
}

static void take_result(struct dns_question *question, int32_t result, struct ring_buffer *buffer)
{
    if (result > 0 && question->tcp) {
        take_stream(question, slice_of(buffer->data, (size_t)result));
    } else if (result > 0) {
        take_datagram(question, buffer->data, (size_t)result);
    } else if (result == 0 && !question->tcp) {
        take_datagram(question, NULL, 0); /* an empty datagram answers nothing */
    } else if (result == -ENOBUFS) {
        shard_timer_arm(question->dns->shard, &question->hungry, HUNGRY_MS);
    } else {
        avoid_server(question); /* its port is closed, or it hung up */
        end_try(question, DNS_NEXT_TRY);
    }
}

static void on_receive(struct ring_op *op)
{
    struct dns_question *question = CONTAINER_OF(op, struct dns_question, receive);
    struct ring_buffer *buffer = op->buffer;
    int32_t result = op->result;
    bool more = op->more;

    question->in_receive = true;
    if (question->state == DNS_ASKING)
        take_result(question, result, buffer);
    question->in_receive = false;
    if (result > 0)
        ring_buffer_unref(buffer);
    if (more)
        return;
    if (!drains(question) && !timer_armed(&question->hungry))
        receive(question);
}

/* ---- sending ------------------------------------------------------------------------------- */

static void on_send(struct ring_op *op)
{
    struct dns_question *question = CONTAINER_OF(op, struct dns_question, send);
    size_t whole = question->question_bytes + (question->tcp ? 2 : 0);

    if (drains(question))
        return;
    if (op->result != (int32_t)whole) {
        avoid_server(question);
        end_try(question, DNS_NEXT_TRY);
    }
}

static void on_connect(struct ring_op *op)
{
    struct dns_question *question = CONTAINER_OF(op, struct dns_question, connect);
    struct dns *dns = question->dns;
    struct slice bytes = slice_of(question->wire, question->question_bytes + 2);

    if (drains(question))
        return;
    if (op->result < 0) {
        avoid_server(question);
        end_try(question, DNS_NEXT_TRY);
        return;
    }
    question->state = DNS_ASKING;
    receive(question);
    if (question->tcp)
        dns->counters.sent_tcp++;
    else
        dns->counters.sent_udp++;
    ring_send(dns->shard->ring, &question->send, question->fd,
              question->tcp ? bytes : slice_skip(bytes, 2));
}

static void on_timer(struct timer *timer)
{
    struct dns_question *question = CONTAINER_OF(timer, struct dns_question, timer);

    if (question->state == DNS_PAUSED && ++question->pauses < PAUSES_MAX) {
        question->state = DNS_CLOSED;
        begin_try(question);
        return;
    }
    if (question->state != DNS_PAUSED) {
        question->dns->counters.timeouts++;
        avoid_server(question);
    }
    end_try(question, DNS_NEXT_TRY);
}

/* ---- a try --------------------------------------------------------------------------------- */

/* In the order of the configuration, but those that lately did not answer come last. Each is asked
 * once before any is asked twice. */
static void choose_server(struct dns_question *question)
{
    const struct dns *dns = question->dns;
    uint8_t all = (uint8_t)((1u << dns->config.server_count) - 1);

    if (question->asked_servers == all)
        question->asked_servers = 0;
    for (int avoided = 0; avoided < 2; avoided++) {
        for (uint32_t i = 0; i < dns->config.server_count; i++) {
            if (question->asked_servers & 1u << i)
                continue;
            if ((dns->avoid_until_ns[i] > dns->shard->now_ns) != (avoided != 0))
                continue;
            question->asked_servers |= (uint8_t)(1u << i);
            question->server = i;
            return;
        }
    }
    ASSERT(false); /* one at least is not asked, and it is avoided or not */
}

/* Each try has an id and a port of its own, so that nobody can guess both (RFC 5452 9.2). */
static int open_socket(struct dns_question *question)
{
    const struct netaddr *server = &question->dns->config.servers[question->server];
    uint16_t id = (uint16_t)random_below(UINT16_MAX + 1);

    question->question_bytes = dns_packet_build(id, question->type, question->asked,
                                                !question->no_edns, question->wire + 2);
    if (question->question_bytes == 0)
        return -ENOMEM;
    question->wire[0] = (uint8_t)(question->question_bytes >> 8);
    question->wire[1] = (uint8_t)question->question_bytes;
    return ring_socket(server->any.sa_family, question->tcp ? SOCK_STREAM : SOCK_DGRAM, NULL,
                       &question->fd);
}

static void begin_try(struct dns_question *question)
{
    struct dns *dns = question->dns;

    ASSERT(question->state == DNS_CLOSED);
    if (!question->tcp) {
        choose_server(question);
        question->wrong = 0;
    }
    if (open_socket(question) < 0) {
        question->fd = -1;
        question->state = DNS_PAUSED;
        shard_timer_arm(dns->shard, &question->timer, PAUSE_MS);
        return;
    }
    question->state = DNS_CONNECTING;
    shard_timer_arm(dns->shard, &question->timer, dns->config.timeout_ms);
    ring_connect(dns->shard->ring, &question->connect, question->fd,
                 &dns->config.servers[question->server]);
}

void dns_question_init_ask(struct dns_question *question)
{
    question->fd = -1;
    question->state = DNS_CLOSED;
    ring_op_init(&question->connect, on_connect);
    ring_op_init(&question->send, on_send);
    ring_op_init(&question->receive, on_receive);
    timer_init(&question->timer, on_timer);
    timer_init(&question->hungry, on_hungry);
    buf_init(&question->stream, 2 + DNS_ANSWER_TCP_BYTES_MAX);
}

void dns_question_ask(struct dns_question *question)
{
    begin_try(question);
}

void dns_question_stop(struct dns_question *question)
{
    end_try(question, DNS_NEXT_END);
}
