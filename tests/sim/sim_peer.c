/* tests/sim/sim_peer.c - blocking calls over one end of a simulated connection. */
#include "tests/sim/sim_peer.h"

#include <errno.h>

#define PATIENCE_NS (600 * SECOND_NS)

static void peer_notify(struct sim_end *end)
{
    sim_wake(end->fiber);
}

static void wait_for(struct sim_peer *peer, uint64_t deadline_ns)
{
    peer->end->fiber = sim.fiber;
    sim_wait(deadline_ns);
    peer->end->fiber = NULL;
}

void sim_peer_adopt(struct sim_peer *peer, struct sim_end *end)
{
    *peer = (struct sim_peer){.end = end, .patience_ns = PATIENCE_NS};
    end->notify = peer_notify;
}

static int connect_to(struct sim_peer *peer, struct sim_host *from, const struct netaddr *address)
{
    uint64_t deadline_ns = sim.now_ns + PATIENCE_NS;

    sim_peer_adopt(peer, sim_end_create(from, NULL, peer_notify));
    sim_end_connect(peer->end, address);
    while (peer->end->state != SIM_END_OPEN && peer->end->error == 0) {
        if (sim.now_ns >= deadline_ns)
            return -ETIMEDOUT;
        wait_for(peer, deadline_ns);
    }
    return peer->end->error;
}

int sim_peer_connect(struct sim_peer *peer, struct sim_host *from, struct sim_host *to,
                     uint16_t port)
{
    struct netaddr address = to->address;

    netaddr_set_port(&address, port);
    return connect_to(peer, from, &address);
}

int sim_peer_connect_unix(struct sim_peer *peer, struct sim_host *host, const char *path)
{
    struct netaddr address;

    ASSERT(netaddr_unix(path, &address));
    return connect_to(peer, host, &address);
}

int sim_peer_write(struct sim_peer *peer, struct slice bytes)
{
    uint64_t deadline_ns = sim.now_ns + peer->patience_ns;

    while (bytes.size > 0) {
        ssize_t count = sim_end_send(peer->end, bytes.data, bytes.size);

        if (count < 0)
            return (int)count;
        bytes = slice_skip(bytes, (size_t)count);
        if (bytes.size == 0)
            break;
        if (sim.now_ns >= deadline_ns)
            return -ETIMEDOUT;
        wait_for(peer, deadline_ns);
    }
    return 0;
}

/* 1: there are bytes; 0: the end; -errno. */
static int await_bytes(struct sim_peer *peer, size_t had, uint64_t deadline_ns)
{
    struct sim_end *end = peer->end;

    while (end->inbox_size <= had) {
        if (end->error != 0)
            return end->error;
        if (end->fin_received)
            return 0;
        if (sim.now_ns >= deadline_ns)
            return -ETIMEDOUT;
        wait_for(peer, deadline_ns);
    }
    return 1;
}

ssize_t sim_peer_read(struct sim_peer *peer, void *to, size_t size)
{
    int r = await_bytes(peer, 0, sim.now_ns + peer->patience_ns);

    return r <= 0 ? r : (ssize_t)sim_end_receive(peer->end, to, size);
}

ssize_t sim_peer_read_line(struct sim_peer *peer, char *line, size_t size)
{
    struct sim_end *end = peer->end;
    uint64_t deadline_ns = sim.now_ns + peer->patience_ns;
    size_t seen = 0;

    for (;;) {
        struct slice waiting = slice_of(end->inbox + end->inbox_first, end->inbox_size);
        size_t at = end->inbox_size == 0 ? SIZE_MAX : slice_find(waiting, '\n');
        int r;

        if (at != SIZE_MAX) {
            if (at + 1 > size)
                return -EMSGSIZE;
            (void)sim_end_receive(end, line, at + 1);
            if (at > 0 && line[at - 1] == '\r')
                at--;
            line[at] = '\0';
            return (ssize_t)at;
        }
        seen = end->inbox_size;
        if (seen >= size)
            return -EMSGSIZE;
        r = await_bytes(peer, seen, deadline_ns);
        if (r <= 0)
            return r == 0 ? -ENODATA : r;
    }
}

void sim_peer_close(struct sim_peer *peer)
{
    if (peer->end != NULL)
        sim_end_close(peer->end);
    peer->end = NULL;
}
