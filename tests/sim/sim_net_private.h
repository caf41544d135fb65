/* tests/sim/sim_net_private.h - listeners and datagrams, shared by the files of the simulated network. */
#ifndef KILAT_SIM_NET_PRIVATE_H
#define KILAT_SIM_NET_PRIVATE_H

#include "tests/sim/sim_net.h"
#include "tests/sim/sim_private.h"

/* ---- sim_net.c -------------------------------------------------------------------------------- */

uint64_t sim_latency_ns(const struct sim_host *a, const struct sim_host *b);
void sim_ends_join(struct sim_end *client, struct sim_end *server);
void sim_end_vanish(struct sim_end *end);
void sim_end_reset(struct sim_end *end);

/* ---- sim_listen.c ----------------------------------------------------------------------------- */

struct sim_listener {
    struct sim_host *host;
    struct sim_process *process; /* NULL: a script's */
    struct netaddr address;
    struct list_node node;
    struct list_node backlog; /* of struct sim_end, connected and not accepted */
    struct sim_request *accept_request;
    sim_accepted_fn *accepted; /* a script's */
    void *context;
};

struct sim_udp {
    struct sim_host *host;
    struct sim_process *process;
    struct netaddr local, peer; /* peer.size 0: not connected */
    struct list_node node;
    struct list_node inbox; /* of struct sim_datagram */
    uint32_t inbox_count;
    struct sim_request *receive_request;
    int error;
    sim_datagram_fn *received; /* a script's */
    void *context;
};

struct sim_datagram {
    struct sim_event event;
    struct list_node node;
    struct netaddr from, to;
    struct sim_host *from_host, *to_host;
    size_t size;
    uint8_t data[];
};

/* 0 or -EADDRINUSE. */
int sim_listener_create(struct sim_host *host, struct sim_process *process,
                        const struct netaddr *address, struct sim_listener **ret_listener);
void sim_listener_close(struct sim_listener *listener);
/* Whom the address that `end` connects to belongs to; NULL: nobody. */
struct sim_host *sim_listener_host(const struct sim_end *end);
/* False: nobody listens there. Otherwise both ends are joined. */
bool sim_listener_offer(struct sim_host *host, struct sim_end *client);
void sim_listener_pump(struct sim_listener *listener);

struct sim_udp *sim_udp_create(struct sim_host *host, struct sim_process *process, uint16_t port);
void sim_udp_close(struct sim_udp *udp);
void sim_udp_send(struct sim_udp *udp, const struct iovec *vec, size_t count);
void sim_udp_pump(struct sim_udp *udp);

/* ---- sim_socket.c ----------------------------------------------------------------------------- */

void sim_socket_pump(struct sim_end *end);

#endif
