/* tests/sim/sim_net.h - one end of a simulated connection, as the ring and the scripted peers use it. */
#ifndef KILAT_SIM_NET_H
#define KILAT_SIM_NET_H

#include "tests/sim/sim_world.h"

struct sim_request;
struct sim_end;
typedef void sim_end_fn(struct sim_end *end);

/* A stream socket. Unconnected: `peer` is NULL and `state` is IDLE. */
enum sim_end_state { SIM_END_IDLE, SIM_END_CONNECTING, SIM_END_OPEN, SIM_END_CLOSED };
struct sim_end {
    enum sim_end_state state;
    struct sim_host *host;
    struct sim_process *process; /* NULL: a script's */
    struct netaddr local, remote;
    struct sim_end *peer; /* stays set when either closes: ends live as long as the world */
    bool vanished;        /* its host lost power: nobody answers here until the power is back */
    bool forgotten;       /* ... and afterwards the answer is RST */
    bool cut_off;         /* what is sent to it never arrives, and nobody says so */
    /* receiving */
    uint8_t *inbox;
    size_t inbox_first, inbox_size, inbox_capacity;
    bool fin_received;
    int error; /* negative: the connection is dead */
    /* sending */
    size_t travelling_bytes; /* accepted, not arrived at the peer */
    size_t window_bytes;     /* in all, with what the peer has not read */
    uint64_t last_arrival_ns;
    uint64_t latency_ns;
    bool fin_sent;
    /* Called when there is something new: bytes, room, an end, an error, connected. */
    sim_end_fn *notify;
    struct sim_request *receive_request, *send_request, *connect_request;
    struct sim_fiber *fiber; /* a script that waits */
    struct sim_event cut;    /* a fault that waits for its moment */
    struct list_node node;   /* all client ends that were ever connected, in order */
    struct list_node backlog_node;
};

struct sim_end *sim_end_create(struct sim_host *host, struct sim_process *process,
                               sim_end_fn *notify);
/* The answer comes by notify(): state OPEN, or IDLE with `error`. */
void sim_end_connect(struct sim_end *end, const struct netaddr *to);
/* As much as the window takes; 0: full, or -errno. */
ssize_t sim_end_send(struct sim_end *end, const void *data, size_t size);
/* What has arrived, at most `size`; 0: nothing yet or the end (see fin_received, error). */
size_t sim_end_receive(struct sim_end *end, void *to, size_t size);
void sim_end_shutdown(struct sim_end *end);
void sim_end_close(struct sim_end *end);
/* Cuts the connection for both: with RST, or without a word, as a router that fell over would. */
void sim_end_cut(struct sim_end *end);
/* One of the connections open at the moment, or NULL. */
struct sim_end *sim_end_any(void);

/* A script's service. `accepted` gets an open end that it owns, with notify() to be set. */
typedef void sim_accepted_fn(struct sim_end *end, void *context);
void sim_serve_tcp(struct sim_host *host, uint16_t port, sim_accepted_fn *accepted, void *context);
typedef void sim_datagram_fn(struct sim_host *host, const struct netaddr *from, struct slice bytes,
                             void *context);
void sim_serve_udp(struct sim_host *host, uint16_t port, sim_datagram_fn *received, void *context);
void sim_send_udp(struct sim_host *host, uint16_t from_port, const struct netaddr *to,
                  struct slice bytes);

#endif
