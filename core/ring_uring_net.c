#include "core/ring.h"

#include "core/assert.h"
#include "core/clock.h"
#include "core/ring_uring_private.h"
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEND_FLAGS (MSG_WAITALL | MSG_NOSIGNAL)
/* A random port may be taken; so many times in a row it is not chance, and the kernel shall choose.
 */
#define RANDOM_PORT_TRIES 32
#define RANDOM_PORT_FIRST 1024u

/* ---- operations ------------------------------------------------------------------------------ */

/* What is to be sent next: the rest of a piece that went in part, else all whole pieces. */
static void prepare_send(struct io_uring_sqe *sqe, struct ring_op *op)
{
    if (op->vec[0].iov_len > 0)
        io_uring_prep_send(sqe, op->fd, op->vec[0].iov_base, op->vec[0].iov_len, SEND_FLAGS);
    else
        io_uring_prep_sendmsg(sqe, op->fd, &op->msg, SEND_FLAGS);
}

void uring_prepare_net(struct io_uring_sqe *sqe, struct ring_op *op)
{
    switch ((enum uring_kind)op->kind) {
    case URING_ACCEPT:
        io_uring_prep_multishot_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC);
        break;
    case URING_CONNECT:
        io_uring_prep_connect(sqe, op->fd, &op->address.any, op->address.size);
        break;
    case URING_RECEIVE:
        io_uring_prep_recv(sqe, op->fd, NULL, 0, 0);
        /* Without POLL_FIRST, although it would save a try: on Linux 6.18 a unix socket on which
         * bytes and the end are waiting already would then never tell of the end. */
        sqe->ioprio = IORING_RECV_MULTISHOT;
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = URING_BUFFER_GROUP;
        break;
    case URING_SEND:
        prepare_send(sqe, op);
        break;
    default:
        ASSERT(op->kind == URING_SEND);
    }
}

bool uring_send_continues(struct ring_op *op, size_t count)
{
    struct iovec *rest = &op->vec[0];
    size_t taken = MIN(count, rest->iov_len);

    op->moved_bytes += count;
    ASSERT(op->moved_bytes <= op->size_bytes);
    rest->iov_base = (uint8_t *)rest->iov_base + taken;
    rest->iov_len -= taken;
    count -= taken;
    while (count > 0) {
        const struct iovec *piece = op->msg.msg_iov;

        ASSERT(op->msg.msg_iovlen > 0);
        taken = MIN(count, piece->iov_len);
        *rest = (struct iovec){(uint8_t *)piece->iov_base + taken, piece->iov_len - taken};
        op->msg.msg_iov++;
        op->msg.msg_iovlen--;
        count -= taken;
    }
    return op->moved_bytes < op->size_bytes;
}

void ring_accept(struct ring *ring, struct ring_op *op, int listen_fd)
{
    op->fd = listen_fd;
    op->moved_bytes = 0;
    uring_start(ring, op, URING_ACCEPT);
}

void ring_connect(struct ring *ring, struct ring_op *op, int fd, const struct netaddr *address)
{
    op->fd = fd;
    op->address = *address;
    op->moved_bytes = 0;
    uring_start(ring, op, URING_CONNECT);
}

void ring_receive(struct ring *ring, struct ring_op *op, int fd)
{
    op->fd = fd;
    op->moved_bytes = 0;
    uring_start(ring, op, URING_RECEIVE);
}

static void start_send(struct ring *ring, struct ring_op *op, int fd, size_t size_bytes)
{
    ASSERT(size_bytes <= INT32_MAX);
    op->fd = fd;
    op->size_bytes = size_bytes;
    op->moved_bytes = 0;
    if (size_bytes == 0)
        uring_start_ready(ring, op, URING_SEND, 0);
    else
        uring_start(ring, op, URING_SEND);
}

void ring_send(struct ring *ring, struct ring_op *op, int fd, struct slice bytes)
{
    op->vec[0] = (struct iovec){(void *)(uintptr_t)bytes.data, bytes.size};
    op->msg = (struct msghdr){.msg_iov = NULL};
    start_send(ring, op, fd, bytes.size);
}

void ring_send_vec(struct ring *ring, struct ring_op *op, int fd, const struct iovec *vec,
                   size_t count)
{
    size_t size_bytes = 0;

    ASSERT(count <= IOV_MAX);
    for (size_t i = 0; i < count; i++)
        size_bytes += vec[i].iov_len;
    op->vec[0] = (struct iovec){NULL, 0};
    op->msg = (struct msghdr){.msg_iov = (struct iovec *)(uintptr_t)vec, .msg_iovlen = count};
    start_send(ring, op, fd, size_bytes);
}

void ring_shutdown(struct ring *ring, struct ring_op *op, int fd)
{
    int r = shutdown(fd, SHUT_WR);

    /* At once, because the ring's own shutdown always takes a kernel thread for what never blocks.
     */
    ring->syscalls++;
    op->moved_bytes = 0;
    uring_start_ready(ring, op, URING_SHUTDOWN, r < 0 ? -errno : 0);
}

/* ---- at once --------------------------------------------------------------------------------- */

static int set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static bool is_internet(int family)
{
    return family == AF_INET || family == AF_INET6;
}

static int bind_to(int fd, const struct netaddr *address)
{
    return bind(fd, &address->any, address->size) < 0 ? -errno : 0;
}

static int set_listen_options(int fd, int family)
{
    int r = 0;

    if (!is_internet(family))
        return 0;
    if (family == AF_INET6)
        r = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (r == 0)
        r = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (r == 0)
        r = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (r == 0)
        r = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* accepted sockets inherit it */
    return r;
}

/* Removes a socket file that a server which is gone has left behind; false when one answers there.
 */
static bool remove_stale(const struct netaddr *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool stale;

    if (fd < 0)
        return false;
    stale = connect(fd, &address->any, address->size) < 0 && errno == ECONNREFUSED;
    (void)close(fd); /* nothing was written */
    return stale && unlink(address->un.sun_path) == 0;
}

static int bind_unix(int fd, const struct netaddr *address, uint32_t mode)
{
    int r;

    /* The mode first on the socket, which the file inherits (less the umask), so that it is never
     * open to more people than it should be; then on the file, because of the umask. */
    if (fchmod(fd, mode) < 0)
        return -errno;
    r = bind_to(fd, address);
    if (r == -EADDRINUSE && remove_stale(address))
        r = bind_to(fd, address);
    if (r == 0 && chmod(address->un.sun_path, mode) < 0)
        r = -errno;
    return r;
}

int ring_listen(const struct netaddr *address, int backlog, uint32_t mode, int *ret_fd)
{
    int family = address->any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r;

    if (fd < 0)
        return -errno;
    r = set_listen_options(fd, family);
    if (r == 0)
        r = family == AF_UNIX ? bind_unix(fd, address, mode) : bind_to(fd, address);
    if (r == 0 && listen(fd, backlog) < 0)
        r = -errno;
    if (r < 0) {
        (void)close(fd); /* nothing was written */
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* A port that nobody can guess (RFC 5452 9.2). */
static int bind_random_port(int fd, int family)
{
    static const uint8_t any[16] = {0};
    struct netaddr address;
    int r = -EADDRINUSE;

    if (family == AF_INET)
        netaddr_from_ipv4(any, 0, &address);
    else
        netaddr_from_ipv6(any, 0, &address);
    for (int i = 0; r == -EADDRINUSE && i < RANDOM_PORT_TRIES; i++) {
        uint64_t port = RANDOM_PORT_FIRST + random_below(UINT16_MAX + 1 - RANDOM_PORT_FIRST);

        netaddr_set_port(&address, (uint16_t)port);
        r = bind_to(fd, &address);
    }
    if (r != -EADDRINUSE)
        return r;
    netaddr_set_port(&address, 0);
    return bind_to(fd, &address);
}

static int prepare_socket(int fd, int family, int type, const struct netaddr *source)
{
    int r = 0;

    if (type == SOCK_STREAM && is_internet(family)) {
        r = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        /* The port is chosen when the peer is known: more connections than ports from one address.
         */
        if (r == 0 && source != NULL && netaddr_port(source) == 0)
            r = set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    }
    if (r == 0 && source != NULL)
        r = bind_to(fd, source);
    else if (r == 0 && type == SOCK_DGRAM && is_internet(family))
        r = bind_random_port(fd, family);
    return r;
}

int ring_socket(int family, int type, const struct netaddr *source, int *ret_fd)
{
    int fd = socket(family, type | SOCK_CLOEXEC, 0);
    int r;

    if (fd < 0)
        return -errno;
    r = prepare_socket(fd, family, type, source);
    if (r < 0) {
        (void)close(fd); /* nothing was written */
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int ring_peer_address(int fd, struct netaddr *ret_address)
{
    struct netaddr address = {.size = sizeof(address.un)};

    if (getpeername(fd, &address.any, &address.size) < 0)
        return -errno;
    *ret_address = address;
    return 0;
}

int ring_local_address(int fd, struct netaddr *ret_address)
{
    struct netaddr address = {.size = sizeof(address.un)};

    if (getsockname(fd, &address.any, &address.size) < 0)
        return -errno;
    *ret_address = address;
    return 0;
}

int ring_peer_credentials(int fd, uint32_t *ret_uid, uint32_t *ret_gid, int32_t *ret_pid)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return -errno;
    *ret_uid = peer.uid;
    *ret_gid = peer.gid;
    *ret_pid = peer.pid;
    return 0;
}

void ring_close(int fd)
{
    (void)close(
        fd); /* what had to be durable was synced; a socket's error has nobody left to hear it */
}
