/* tests/sim/sim_socket.c - the sockets of core/ring.h over the simulated network.
 *
 * A socket's pump moves what can be moved: it is called whenever something is new, and ends or feeds the
 * operations that wait.
 */
#include "tests/sim/sim_net_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the pump --------------------------------------------------------------------------------- */

static void end_request(struct sim_request **slot, int32_t result)
{
    struct sim_request *request = *slot;

    *slot = NULL;
    sim_request_end(request, result, NULL);
}

/* Lent memory must not change before the completion: the real kernel may read it at any moment. */
static uint64_t lent_hash(const struct sim_request *request)
{
    uint64_t hash = 1;

    for (size_t i = 0; i < request->vec_count; i++)
        hash = sim_hash_bytes(hash, request->vec[i].iov_base, request->vec[i].iov_len);
    return hash;
}

static void end_send(struct sim_end *end, int32_t result)
{
    ASSERT(lent_hash(end->send_request) == end->send_request->content_hash);
    end_request(&end->send_request, result);
}

static void pump_receive(struct sim_end *end)
{
    while (end->receive_request != NULL && end->inbox_size > 0) {
        struct ring_buffer *buffer = sim_ring_buffer_take(end->receive_request->ring);
        size_t most;

        if (buffer == NULL) {
            end_request(&end->receive_request, -ENOBUFS);
            return;
        }
        most = buffer->capacity;
        if (sim_chance(sim.faults.short_segments))
            most = sim_between(1, most);
        most = sim_end_receive(end, buffer->data, most);
        sim_request_more(end->receive_request, (int32_t)most, buffer);
    }
    if (end->receive_request == NULL)
        return;
    if (end->error != 0)
        end_request(&end->receive_request, end->error);
    else if (end->fin_received)
        end_request(&end->receive_request, 0);
}

static void pump_send(struct sim_end *end)
{
    struct sim_request *request = end->send_request;

    while (request != NULL && request->vec_index < request->vec_count) {
        const struct iovec *vec = &request->vec[request->vec_index];
        const uint8_t *from = (const uint8_t *)vec->iov_base + request->vec_offset;
        ssize_t count = sim_end_send(end, from, vec->iov_len - request->vec_offset);

        if (count < 0) {
            end_send(end, request->done_bytes > 0 ? (int32_t)request->done_bytes : (int32_t)count);
            return;
        }
        if (count == 0 && vec->iov_len > request->vec_offset)
            return; /* the window is full */
        request->done_bytes += (size_t)count;
        request->vec_offset += (size_t)count;
        if (request->vec_offset == vec->iov_len) {
            request->vec_index++;
            request->vec_offset = 0;
        }
    }
    if (request != NULL)
        end_send(end, (int32_t)request->done_bytes);
}

void sim_socket_pump(struct sim_end *end)
{
    if (end->process != NULL && !end->process->alive)
        return;
    if (end->connect_request != NULL) {
        if (end->error != 0)
            end_request(&end->connect_request, end->error);
        else if (end->state == SIM_END_OPEN)
            end_request(&end->connect_request, 0);
    }
    pump_receive(end);
    pump_send(end);
}

/* ---- descriptors ------------------------------------------------------------------------------ */

int ring_listen(const struct netaddr *address, int backlog, uint32_t mode, int *ret_fd)
{
    struct sim_listener *listener;
    int fd, r;

    (void)backlog;
    (void)mode;
    r = sim_listener_create(sim.process->host, sim.process, address, &listener);
    if (r < 0)
        return r;
    fd = sim_fd_take(sim.process, SIM_FD_LISTENER, listener);
    if (fd < 0) {
        sim_listener_close(listener);
        return fd;
    }
    sim_trace("net.listen", netaddr_port(address), (uint64_t)fd, 0);
    *ret_fd = fd;
    return 0;
}

int ring_socket(int family, int type, const struct netaddr *source, int *ret_fd)
{
    struct sim_process *process = sim.process;
    struct sim_end *end;
    int fd;

    if (type == SOCK_DGRAM) {
        uint16_t port = source == NULL ? 0 : netaddr_port(source);

        fd = sim_fd_take(process, SIM_FD_UDP, sim_udp_create(process->host, process, port));
    } else {
        end = sim_end_create(process->host, process, sim_socket_pump);
        if (source != NULL && family != AF_UNIX) {
            end->local = *source;
            if (netaddr_port(source) == 0)
                netaddr_set_port(&end->local, (uint16_t)sim_between(32768, 60999));
        }
        fd = sim_fd_take(process, SIM_FD_SOCKET, end);
    }
    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

int ring_peer_address(int fd, struct netaddr *ret_address)
{
    struct sim_end *end = sim_fd_object(sim.process, fd, SIM_FD_SOCKET);

    if (end == NULL)
        return -EBADF;
    if (end->state != SIM_END_OPEN)
        return -ENOTCONN;
    *ret_address = end->remote;
    return 0;
}

int ring_local_address(int fd, struct netaddr *ret_address)
{
    struct sim_end *end = sim_fd_object(sim.process, fd, SIM_FD_SOCKET);
    struct sim_udp *udp = sim_fd_object(sim.process, fd, SIM_FD_UDP);
    struct sim_listener *listener = sim_fd_object(sim.process, fd, SIM_FD_LISTENER);

    if (end == NULL && udp == NULL && listener == NULL)
        return -EBADF;
    *ret_address = end != NULL ? end->local : udp != NULL ? udp->local : listener->address;
    return 0;
}

int ring_peer_credentials(int fd, uint32_t *ret_uid, uint32_t *ret_gid, int32_t *ret_pid)
{
    struct sim_end *end = sim_fd_object(sim.process, fd, SIM_FD_SOCKET);

    if (end == NULL || end->peer == NULL)
        return -EBADF;
    *ret_uid = 0;
    *ret_gid = 0;
    *ret_pid = end->peer->process == NULL ? 1 : end->peer->process->pid;
    return 0;
}

static void close_socket(struct sim_end *end)
{
    /* The real kernel would let them run on over a file that is somebody else's by now. */
    ASSERT(end->receive_request == NULL && end->send_request == NULL &&
           end->connect_request == NULL);
    sim_event_cancel(&end->cut);
    sim_end_close(end);
}

void ring_close(int fd)
{
    struct sim_fd *slot;

    ASSERT(fd >= 0 && fd < SIM_PROCESS_FDS && sim.process->fds[fd].kind != SIM_FD_NONE);
    slot = &sim.process->fds[fd];
    switch (slot->kind) {
    case SIM_FD_LISTENER:
        sim_listener_close(slot->object);
        break;
    case SIM_FD_SOCKET:
        close_socket(slot->object);
        break;
    case SIM_FD_UDP:
        ASSERT(((struct sim_udp *)slot->object)->receive_request == NULL);
        sim_udp_close(slot->object);
        break;
    default:
        sim_disk_fd_closed(slot);
        break;
    }
    *slot = (struct sim_fd){.kind = SIM_FD_NONE};
}

void sim_net_fd_closed(struct sim_process *process, struct sim_fd *fd, bool silent)
{
    struct sim_end *end = fd->object;

    (void)process;
    switch (fd->kind) {
    case SIM_FD_LISTENER:
        sim_listener_close(fd->object);
        return;
    case SIM_FD_UDP:
        sim_udp_close(fd->object);
        return;
    default:
        break;
    }
    end->receive_request = end->send_request = end->connect_request = NULL;
    if (silent)
        sim_end_vanish(end);
    else
        sim_end_close(end);
}

/* ---- operations ------------------------------------------------------------------------------- */

static void cancel_accept(struct sim_request *request)
{
    struct sim_listener *listener = request->object;

    end_request(&listener->accept_request, -ECANCELED);
}

void ring_accept(struct ring *ring, struct ring_op *op, int listen_fd)
{
    struct sim_listener *listener = sim_fd_object(sim.process, listen_fd, SIM_FD_LISTENER);

    ASSERT(listener != NULL && listener->accept_request == NULL);
    listener->accept_request = sim_request_begin(ring, op, listener, cancel_accept);
    sim_listener_pump(listener);
}

static void connect_soon(struct sim_event *event)
{
    sim_request_end(CONTAINER_OF(event, struct sim_request, event), 0, NULL);
}

static void cancel_connect(struct sim_request *request)
{
    struct sim_end *end = request->object;

    if (end->state == SIM_END_CONNECTING)
        end->state = SIM_END_IDLE; /* whatever the network answers, nobody listens */
    end_request(&end->connect_request, -ECANCELED);
}

void ring_connect(struct ring *ring, struct ring_op *op, int fd, const struct netaddr *address)
{
    struct sim_udp *udp = sim_fd_object(sim.process, fd, SIM_FD_UDP);
    struct sim_end *end = sim_fd_object(sim.process, fd, SIM_FD_SOCKET);

    op->address = *address;
    if (udp != NULL) {
        struct sim_request *request = sim_request_begin(ring, op, udp, NULL);

        udp->peer = *address;
        sim_event_arm(&request->event, sim.now_ns + 1000, connect_soon);
        return;
    }
    ASSERT(end != NULL && end->connect_request == NULL);
    end->connect_request = sim_request_begin(ring, op, end, cancel_connect);
    sim_end_connect(end, address);
}

static void cancel_receive(struct sim_request *request)
{
    struct sim_end *end = request->object;

    end_request(&end->receive_request, -ECANCELED);
}

static void cancel_receive_udp(struct sim_request *request)
{
    struct sim_udp *udp = request->object;

    end_request(&udp->receive_request, -ECANCELED);
}

void ring_receive(struct ring *ring, struct ring_op *op, int fd)
{
    struct sim_udp *udp = sim_fd_object(sim.process, fd, SIM_FD_UDP);
    struct sim_end *end = sim_fd_object(sim.process, fd, SIM_FD_SOCKET);

    if (udp != NULL) {
        ASSERT(udp->receive_request == NULL);
        udp->receive_request = sim_request_begin(ring, op, udp, cancel_receive_udp);
        sim_udp_pump(udp);
        return;
    }
    ASSERT(end != NULL && end->receive_request == NULL);
    end->receive_request = sim_request_begin(ring, op, end, cancel_receive);
    sim_socket_pump(end);
}

static void cancel_send(struct sim_request *request)
{
    struct sim_end *end = request->object;

    end_send(end, request->done_bytes > 0 ? (int32_t)request->done_bytes : -ECANCELED);
}

static void send_begin(struct ring *ring, struct ring_op *op, int fd, const struct iovec *vec,
                       size_t count)
{
    struct sim_udp *udp = sim_fd_object(sim.process, fd, SIM_FD_UDP);
    struct sim_end *end = sim_fd_object(sim.process, fd, SIM_FD_SOCKET);
    struct sim_request *request;

    if (udp != NULL) {
        request = sim_request_begin(ring, op, udp, NULL);
        sim_udp_send(udp, vec, count);
        sim_request_end(request, (int32_t)vec[0].iov_len, NULL);
        return;
    }
    ASSERT(end != NULL && end->send_request == NULL);
    request = sim_request_begin(ring, op, end, cancel_send);
    request->vec = vec;
    request->vec_count = count;
    request->content_hash = lent_hash(request);
    end->send_request = request;
    sim_socket_pump(end);
}

void ring_send(struct ring *ring, struct ring_op *op, int fd, struct slice bytes)
{
    op->vec[0] = (struct iovec){(void *)bytes.data, bytes.size};
    send_begin(ring, op, fd, op->vec, 1);
}

void ring_send_vec(struct ring *ring, struct ring_op *op, int fd, const struct iovec *vec,
                   size_t count)
{
    send_begin(ring, op, fd, vec, count);
}

void ring_shutdown(struct ring *ring, struct ring_op *op, int fd)
{
    struct sim_end *end = sim_fd_object(sim.process, fd, SIM_FD_SOCKET);
    struct sim_request *request = sim_request_begin(ring, op, end, NULL);

    ASSERT(end != NULL);
    sim_end_shutdown(end);
    sim_request_end(request, end->error, NULL);
}
