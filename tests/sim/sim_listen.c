/* tests/sim/sim_listen.c - who is reached at an address: listeners and datagram sockets of all hosts.
 *
 * Several listeners of one address share its connections (SO_REUSEPORT): chance chooses, as the kernel's hash does.
 */
#include "tests/sim/sim_net_private.h"

#include <errno.h>
#include <stdlib.h>

#define DATAGRAMS_MAX 64 /* of one socket; what comes beyond is dropped, as the kernel does */

static struct list_node listeners = {&listeners, &listeners};
static struct list_node udps = {&udps, &udps};

static bool is_wildcard(const struct netaddr *address)
{
    static const struct in6_addr none;

    if (address->any.sa_family == AF_INET)
        return address->in.sin_addr.s_addr == 0;
    return address->any.sa_family == AF_INET6 &&
           memcmp(&address->in6.sin6_addr, &none, sizeof(none)) == 0;
}

static bool is_loopback(const struct netaddr *address)
{
    static const struct in6_addr one = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}}};

    if (address->any.sa_family == AF_INET)
        return (ntohl(address->in.sin_addr.s_addr) >> 24) == 127;
    return address->any.sa_family == AF_INET6 &&
           memcmp(&address->in6.sin6_addr, &one, sizeof(one)) == 0;
}

static bool listens_at(const struct sim_listener *listener, const struct sim_host *host,
                       const struct netaddr *address)
{
    const struct netaddr *own = &listener->address;

    if (listener->host != host)
        return false;
    if (own->any.sa_family == AF_UNIX || address->any.sa_family == AF_UNIX)
        return own->any.sa_family == address->any.sa_family &&
               strcmp(own->un.sun_path, address->un.sun_path) == 0;
    return netaddr_port(own) == netaddr_port(address) &&
           (is_wildcard(own) || netaddr_same_host(own, address));
}

/* ---- listeners -------------------------------------------------------------------------------- */

int sim_listener_create(struct sim_host *host, struct sim_process *process,
                        const struct netaddr *address, struct sim_listener **ret_listener)
{
    struct sim_listener *listener;

    list_for_each (node, &listeners) {
        struct sim_listener *other = CONTAINER_OF(node, struct sim_listener, node);

        /* One process may share an address with itself; two of one user could, but then it is a mistake. */
        if (other->process != process && listens_at(other, host, address))
            return -EADDRINUSE;
    }
    listener = calloc(1, sizeof(*listener));
    ASSERT(listener != NULL);
    listener->host = host;
    listener->process = process;
    listener->address = *address;
    list_init(&listener->backlog);
    list_push_back(&listeners, &listener->node);
    *ret_listener = listener;
    return 0;
}

void sim_listener_close(struct sim_listener *listener)
{
    struct list_node *node;

    ASSERT(listener->accept_request == NULL || !listener->process->alive);
    list_remove(&listener->node);
    while ((node = list_pop_front(&listener->backlog)) != NULL) {
        struct sim_end *end = CONTAINER_OF(node, struct sim_end, backlog_node);

        if (!listener->host->powered)
            sim_end_vanish(end);
        else
            sim_end_reset(end);
    }
    free(listener);
}

struct sim_host *sim_listener_host(const struct sim_end *end)
{
    if (end->remote.any.sa_family == AF_UNIX || is_loopback(&end->remote))
        return end->host;
    return sim_host_by_address(&end->remote);
}

static struct sim_listener *choose(struct sim_host *host, const struct netaddr *address)
{
    uint64_t count = 0;
    struct sim_listener *chosen = NULL;

    list_for_each (node, &listeners) {
        struct sim_listener *listener = CONTAINER_OF(node, struct sim_listener, node);

        if (listens_at(listener, host, address) && sim_between(0, count++) == 0)
            chosen = listener;
    }
    return chosen;
}

bool sim_listener_offer(struct sim_host *host, struct sim_end *client)
{
    struct sim_listener *listener = choose(host, &client->remote);
    struct sim_end *server;

    if (listener == NULL)
        return false;
    server = sim_end_create(host, listener->process, sim_socket_pump);
    server->local = client->remote;
    server->remote = client->local;
    sim_ends_join(client, server);
    if (listener->accepted != NULL) {
        listener->accepted(server, listener->context);
    } else {
        list_push_back(&listener->backlog, &server->backlog_node);
        sim_listener_pump(listener);
    }
    return true;
}

void sim_listener_pump(struct sim_listener *listener)
{
    while (listener->accept_request != NULL && !list_empty(&listener->backlog)) {
        struct sim_end *end = CONTAINER_OF(listener->backlog.next, struct sim_end, backlog_node);
        int fd = sim_fd_take(listener->process, SIM_FD_SOCKET, end);

        if (fd < 0) {
            struct sim_request *request = listener->accept_request;

            listener->accept_request = NULL;
            sim_request_end(request, fd, NULL);
            return;
        }
        list_remove(&end->backlog_node);
        sim_request_more(listener->accept_request, fd, NULL);
    }
}

void sim_serve_tcp(struct sim_host *host, uint16_t port, sim_accepted_fn *accepted, void *context)
{
    struct netaddr address = host->address;
    struct sim_listener *listener = NULL;

    netaddr_set_port(&address, port);
    ASSERT(sim_listener_create(host, NULL, &address, &listener) == 0);
    listener->accepted = accepted;
    listener->context = context;
}

/* ---- datagrams -------------------------------------------------------------------------------- */

struct sim_udp *sim_udp_create(struct sim_host *host, struct sim_process *process, uint16_t port)
{
    struct sim_udp *udp = calloc(1, sizeof(*udp));

    ASSERT(udp != NULL);
    udp->host = host;
    udp->process = process;
    udp->local = host->address;
    netaddr_set_port(&udp->local, port != 0 ? port : (uint16_t)sim_between(1024, 65535));
    list_init(&udp->inbox);
    list_push_back(&udps, &udp->node);
    return udp;
}

void sim_udp_close(struct sim_udp *udp)
{
    struct list_node *node;

    list_remove(&udp->node);
    while ((node = list_pop_front(&udp->inbox)) != NULL)
        free(CONTAINER_OF(node, struct sim_datagram, node));
    free(udp);
}

static struct sim_udp *udp_find(const struct sim_host *host, const struct netaddr *to,
                                const struct netaddr *from)
{
    list_for_each (node, &udps) {
        struct sim_udp *udp = CONTAINER_OF(node, struct sim_udp, node);

        if (udp->host == host && netaddr_port(&udp->local) == netaddr_port(to) &&
            (udp->peer.size == 0 || netaddr_equal(&udp->peer, from)))
            return udp;
    }
    return NULL;
}

static void datagram_arrives(struct sim_event *event)
{
    struct sim_datagram *datagram = CONTAINER_OF(event, struct sim_datagram, event);
    struct sim_udp *udp = udp_find(datagram->to_host, &datagram->to, &datagram->from);
    struct sim_udp *sender;

    if (udp == NULL || !datagram->to_host->powered) {
        /* Port unreachable: a connected socket is told, if the host is there to say so. */
        sender = udp_find(datagram->from_host, &datagram->from, &datagram->to);
        if (sender != NULL && datagram->to_host->powered && sender->peer.size != 0) {
            sender->error = -ECONNREFUSED;
            sim_udp_pump(sender);
        }
        free(datagram);
        return;
    }
    sim_trace("net.datagram", datagram->to_host->index, datagram->size,
              sim_hash_bytes(0, datagram->data, datagram->size));
    if (udp->received != NULL) {
        udp->received(udp->host, &datagram->from, slice_of(datagram->data, datagram->size),
                      udp->context);
        free(datagram);
    } else if (udp->inbox_count == DATAGRAMS_MAX) {
        free(datagram);
    } else {
        list_push_back(&udp->inbox, &datagram->node);
        udp->inbox_count++;
        sim_udp_pump(udp);
    }
}

static void datagram_send(struct sim_host *host, const struct netaddr *from,
                          const struct netaddr *to, const struct iovec *vec, size_t count)
{
    struct sim_host *to_host = is_loopback(to) ? host : sim_host_by_address(to);
    size_t copies = sim_chance(sim.faults.udp_twice) ? 2 : 1;

    for (size_t i = 0; i < copies && to_host != NULL; i++) {
        struct sim_datagram *datagram;
        uint64_t at = sim.now_ns + sim_latency_ns(host, to_host);
        size_t size = 0;

        for (size_t v = 0; v < count; v++)
            size += vec[v].iov_len;
        if (sim_chance(sim.faults.udp_lost))
            continue;
        if (sim_chance(sim.faults.delays))
            at += sim_between(0, 3 * SECOND_NS); /* overtaken by later ones */
        datagram = calloc(1, sizeof(*datagram) + size);
        ASSERT(datagram != NULL);
        for (size_t v = 0; v < count; v++) {
            memcpy(datagram->data + datagram->size, vec[v].iov_base, vec[v].iov_len);
            datagram->size += vec[v].iov_len;
        }
        datagram->from = *from;
        datagram->to = *to;
        datagram->from_host = host;
        datagram->to_host = to_host;
        sim_event_arm(&datagram->event, at, datagram_arrives);
    }
}

void sim_udp_send(struct sim_udp *udp, const struct iovec *vec, size_t count)
{
    datagram_send(udp->host, &udp->local, &udp->peer, vec, count);
}

void sim_udp_pump(struct sim_udp *udp)
{
    struct sim_request *request = udp->receive_request;
    struct list_node *node;

    if (request == NULL)
        return;
    while (!list_empty(&udp->inbox)) {
        struct ring_buffer *buffer = sim_ring_buffer_take(request->ring);
        struct sim_datagram *datagram;

        if (buffer == NULL) {
            udp->receive_request = NULL;
            sim_request_end(request, -ENOBUFS, NULL);
            return;
        }
        node = list_pop_front(&udp->inbox);
        udp->inbox_count--;
        datagram = CONTAINER_OF(node, struct sim_datagram, node);
        memcpy(buffer->data, datagram->data, MIN(datagram->size, buffer->capacity));
        sim_request_more(request, (int32_t)MIN(datagram->size, buffer->capacity), buffer);
        free(datagram);
    }
    if (udp->error != 0) {
        udp->receive_request = NULL;
        sim_request_end(request, udp->error, NULL);
        udp->error = 0;
    }
}

void sim_serve_udp(struct sim_host *host, uint16_t port, sim_datagram_fn *received, void *context)
{
    struct sim_udp *udp = sim_udp_create(host, NULL, port);

    udp->received = received;
    udp->context = context;
}

void sim_send_udp(struct sim_host *host, uint16_t from_port, const struct netaddr *to,
                  struct slice bytes)
{
    struct netaddr from = host->address;
    struct iovec vec = {(void *)bytes.data, bytes.size};

    netaddr_set_port(&from, from_port);
    datagram_send(host, &from, to, &vec, 1);
}
