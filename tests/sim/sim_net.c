/* tests/sim/sim_net.c - connections between simulated hosts: latency, segments, ends and deaths.
 *
 * A byte that was sent is in a segment which arrives in order at its time; what the receiver has not read yet fills the
 * window, and a full window stops the sender. A close with unread bytes, or bytes for a closed end, bring RST,
 * as in Linux. A host that lost its power is silent; bytes sent to it end in ETIMEDOUT, or in RST when
 * it is back, for it remembers nothing.
 */
#include "tests/sim/sim_net.h"

#include "tests/sim/sim_net_private.h"

#include <errno.h>
#include <stdlib.h>

#define SEGMENT_MAX 65536
#define SMALL_SEGMENT_MAX 40
#define GIVE_UP_NS (900 * SECOND_NS) /* how long Linux sends again before ETIMEDOUT, roughly */
#define SYN_TRIES 7 /* after 1, 2, 4, ... seconds: two minutes in all, as Linux does by default */
#define LATE_NS (3 * SECOND_NS)

static struct list_node ends = {&ends, &ends}; /* connected ones */

struct segment {
    struct sim_event event;
    struct sim_end *from;
    size_t size;
    bool fin;
    uint8_t data[];
};

/* ---- birth ------------------------------------------------------------------------------------ */

struct sim_end *sim_end_create(struct sim_host *host, struct sim_process *process,
                               sim_end_fn *notify)
{
    struct sim_end *end = calloc(1, sizeof(*end)); /* never freed: its peer may look at it */

    ASSERT(end != NULL);
    end->host = host;
    end->process = process;
    end->notify = notify;
    end->window_bytes = sim_chance(200) ? sim_between(2048, 16384) : sim_between(65536, 262144);
    list_node_init(&end->node);
    list_node_init(&end->backlog_node);
    return end;
}

uint64_t sim_latency_ns(const struct sim_host *a, const struct sim_host *b)
{
    uint64_t most = (sim.faults.latency_us == 0 ? 50 : sim.faults.latency_us) * US_NS;

    return a == b ? sim_between(2000, 20000) : sim_between(most / 4, most);
}

static void notify(struct sim_end *end)
{
    if (end->state != SIM_END_CLOSED && !end->vanished)
        end->notify(end);
}

static void end_die(struct sim_end *end, int error)
{
    if (end->error != 0 || end->state == SIM_END_CLOSED)
        return;
    end->error = error;
    if (sim_chance(500)) /* what had arrived may be read after a reset, or not */
        end->inbox_size = 0;
    sim_trace("net.dead", end->host->index, (uint64_t)-error, 0);
    notify(end);
}

static void cut_now(struct sim_event *event)
{
    sim_end_cut(CONTAINER_OF(event, struct sim_end, cut));
}

/* Both ends of a new connection. */
void sim_ends_join(struct sim_end *client, struct sim_end *server)
{
    uint64_t latency = sim_latency_ns(client->host, server->host);

    client->peer = server;
    server->peer = client;
    client->latency_ns = server->latency_ns = latency;
    client->state = server->state = SIM_END_OPEN;
    /* The client learns of it one way later; nothing of the server's may arrive before. */
    server->last_arrival_ns = sim.now_ns + latency;
    list_push_back(&ends, &client->node);
    if (sim_chance(sim.faults.connect_cut)) {
        uint64_t life =
            sim_chance(500) ? sim_between(0, 20 * latency) : sim_between(0, 2 * SECOND_NS);

        sim_event_arm(&client->cut, sim.now_ns + latency + life, cut_now);
    }
}

/* ---- segments --------------------------------------------------------------------------------- */

static void inbox_append(struct sim_end *end, const uint8_t *data, size_t size)
{
    if (size == 0)
        return;
    if (end->inbox_first + end->inbox_size + size > end->inbox_capacity) {
        size_t capacity = MAX(4096, 2 * (end->inbox_size + size));
        uint8_t *bytes = malloc(capacity);

        ASSERT(bytes != NULL);
        if (end->inbox_size > 0)
            memcpy(bytes, end->inbox + end->inbox_first, end->inbox_size);
        free(end->inbox);
        end->inbox = bytes;
        end->inbox_first = 0;
        end->inbox_capacity = capacity;
    }
    memcpy(end->inbox + end->inbox_first + end->inbox_size, data, size);
    end->inbox_size += size;
}

static void segment_times_out(struct sim_event *event)
{
    struct segment *segment = CONTAINER_OF(event, struct segment, event);

    end_die(segment->from, -ETIMEDOUT);
    free(segment);
}

static void segment_arrives(struct sim_event *event)
{
    struct segment *segment = CONTAINER_OF(event, struct segment, event);
    struct sim_end *from = segment->from, *to = from->peer;

    if (to->cut_off ||
        (to->vanished && !to->forgotten)) { /* no answer: sent again until the sender gives up */
        sim_event_arm(&segment->event, sim.now_ns + GIVE_UP_NS, segment_times_out);
        return;
    }
    from->travelling_bytes -= segment->size;
    if (to->forgotten || (to->state == SIM_END_CLOSED && segment->size > 0)) {
        end_die(from, -ECONNRESET);
    } else if (to->state == SIM_END_OPEN && to->error == 0) {
        sim_trace(segment->fin ? "net.fin" : "net.bytes", to->host->index, segment->size,
                  sim_hash_bytes(0, segment->data, segment->size));
        inbox_append(to, segment->data, segment->size);
        to->fin_received |= segment->fin;
        notify(to);
    }
    free(segment);
}

static void segment_send(struct sim_end *end, const uint8_t *data, size_t size, bool fin)
{
    struct segment *segment = calloc(1, sizeof(*segment) + size);
    uint64_t at = sim.now_ns + end->latency_ns + sim_between(0, end->latency_ns / 4);

    ASSERT(segment != NULL);
    segment->from = end;
    segment->size = size;
    segment->fin = fin;
    if (size > 0)
        memcpy(segment->data, data, size);
    if (sim_chance(sim.faults.delays))
        at += sim_between(0, LATE_NS);
    at = MAX(at, end->last_arrival_ns + 1); /* in order */
    end->last_arrival_ns = at;
    end->travelling_bytes += size;
    sim_event_arm(&segment->event, at, segment_arrives);
}

ssize_t sim_end_send(struct sim_end *end, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t waiting, room;

    if (end->error != 0)
        return end->error == -ECONNRESET ? -EPIPE : end->error;
    if (end->state != SIM_END_OPEN)
        return -ENOTCONN;
    if (end->fin_sent)
        return -EPIPE;
    waiting = end->travelling_bytes + end->peer->inbox_size;
    room = waiting >= end->window_bytes ? 0 : end->window_bytes - waiting;
    size = MIN(size, room);
    for (size_t sent = 0; sent < size;) {
        size_t most = sim_chance(sim.faults.short_segments) ? SMALL_SEGMENT_MAX : SEGMENT_MAX;
        size_t count = sim_chance(500) ? most : sim_between(1, most);

        count = MIN(count, size - sent);
        segment_send(end, bytes + sent, count, false);
        sent += count;
    }
    return (ssize_t)size;
}

size_t sim_end_receive(struct sim_end *end, void *to, size_t size)
{
    size_t count = MIN(size, end->inbox_size);

    if (count == 0)
        return 0;
    memcpy(to, end->inbox + end->inbox_first, count);
    end->inbox_first += count;
    end->inbox_size -= count;
    if (end->inbox_size == 0)
        end->inbox_first = 0;
    if (end->peer->state == SIM_END_OPEN)
        notify(end->peer); /* there is room */
    return count;
}

/* ---- ends and deaths -------------------------------------------------------------------------- */

void sim_end_shutdown(struct sim_end *end)
{
    if (end->state != SIM_END_OPEN || end->error != 0 || end->fin_sent)
        return;
    end->fin_sent = true;
    segment_send(end, NULL, 0, true);
}

void sim_end_close(struct sim_end *end)
{
    bool was_open = end->state == SIM_END_OPEN;

    if (end->state == SIM_END_CLOSED)
        return;
    if (was_open && end->error == 0) {
        if (end->inbox_size > 0)
            end_die(end->peer, -ECONNRESET); /* unread bytes: the kernel answers with RST */
        else
            sim_end_shutdown(end);
    }
    end->state = SIM_END_CLOSED;
    free(end->inbox);
    end->inbox = NULL;
    end->inbox_size = end->inbox_first = end->inbox_capacity = 0;
    if (was_open && end->peer->state == SIM_END_OPEN && end->error == 0 && end->peer->error == 0)
        notify(end->peer); /* nothing of it is unread any more */
}

void sim_end_cut(struct sim_end *end)
{
    if (end->peer == NULL)
        return;
    if (sim_chance(250)) {
        end->cut_off = end->peer->cut_off = true;
        return;
    }
    end_die(end, -ECONNRESET);
    end_die(end->peer, -ECONNRESET);
}

/* Nobody accepted it before its listener went. */
void sim_end_reset(struct sim_end *end)
{
    end_die(end->peer, -ECONNRESET);
    end->state = SIM_END_CLOSED;
}

struct sim_end *sim_end_any(void)
{
    uint32_t count = 0, wanted;

    list_for_each (node, &ends) {
        struct sim_end *end = CONTAINER_OF(node, struct sim_end, node);

        count += end->state == SIM_END_OPEN && end->error == 0;
    }
    if (count == 0)
        return NULL;
    wanted = (uint32_t)sim_between(0, count - 1);
    list_for_each (node, &ends) {
        struct sim_end *end = CONTAINER_OF(node, struct sim_end, node);

        if (end->state == SIM_END_OPEN && end->error == 0 && wanted-- == 0)
            return end;
    }
    return NULL;
}

void sim_end_vanish(struct sim_end *end)
{
    end->vanished = true;
    if (end->peer == NULL)
        end->state = SIM_END_CLOSED;
}

void sim_net_power_on(struct sim_host *host)
{
    list_for_each (node, &ends) {
        struct sim_end *end = CONTAINER_OF(node, struct sim_end, node);

        if (end->vanished && end->host == host)
            end->forgotten = true;
        if (end->peer->vanished && end->peer->host == host)
            end->peer->forgotten = true;
    }
}

/* ---- connecting ------------------------------------------------------------------------------- */

struct syn {
    struct sim_event event;
    struct sim_end *end;
    uint32_t tries;
    int error;
};

static void connect_answered(struct sim_event *event)
{
    struct syn *syn = CONTAINER_OF(event, struct syn, event);
    struct sim_end *end = syn->end;

    if (syn->error != 0 && end->state != SIM_END_CLOSED) {
        end->error = syn->error;
        end->state = SIM_END_IDLE;
    }
    sim_trace("net.connected", end->host->index, (uint64_t)-syn->error, 0);
    free(syn);
    notify(end);
}

static void syn_arrives(struct sim_event *event)
{
    struct syn *syn = CONTAINER_OF(event, struct syn, event);
    struct sim_end *end = syn->end;
    struct sim_host *to = sim_listener_host(end);
    uint64_t back = 1;

    if (end->state != SIM_END_CONNECTING || end->vanished) {
        free(syn);
        return;
    }
    if (to == NULL || !to->powered || sim_chance(sim.faults.connect_lost)) {
        if (++syn->tries < SYN_TRIES) {
            sim_event_arm(&syn->event, sim.now_ns + (SECOND_NS << (syn->tries - 1)), syn_arrives);
            return;
        }
        syn->error = -ETIMEDOUT;
        back = SECOND_NS << (SYN_TRIES - 1);
    } else if (!sim_listener_offer(to, end)) {
        syn->error = -ECONNREFUSED;
        back = sim_latency_ns(end->host, to);
    } else {
        back = end->latency_ns;
    }
    sim_event_arm(&syn->event, sim.now_ns + back, connect_answered);
}

void sim_end_connect(struct sim_end *end, const struct netaddr *to)
{
    struct syn *syn = calloc(1, sizeof(*syn));
    struct sim_host *host;

    ASSERT(syn != NULL && end->state == SIM_END_IDLE);
    end->remote = *to;
    if (end->local.size == 0) {
        end->local = end->host->address;
        netaddr_set_port(&end->local, (uint16_t)sim_between(32768, 60999));
    }
    end->state = SIM_END_CONNECTING;
    end->error = 0;
    syn->end = end;
    host = sim_listener_host(end);
    sim_event_arm(&syn->event, sim.now_ns + sim_latency_ns(end->host, host), syn_arrives);
}
