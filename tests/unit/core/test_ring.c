#include "core/ring.h"
#include "core/clock.h"
#include "core/ring_uring_private.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SMALL_ENTRIES 64
#define SMALL_BUFFERS 16
#define WAIT_NS (10 * SECOND_NS)

/* What an op has come to. */
struct watch {
    struct ring_op op;
    int calls;
    int32_t last;
    int64_t total;
    bool keep;  /* the buffers are kept */
    bool again; /* armed anew when no buffer was free */
    struct ring_buffer *kept[64];
    int kept_count;
};

static void done(struct ring_op *op)
{
    struct watch *watch = CONTAINER_OF(op, struct watch, op);

    cr_assert_eq(op->in_flight, op->more);
    cr_assert(op->more || !list_linked(&op->node), "its owner may free it now");
    watch->calls++;
    watch->last = op->result;
    if (op->result > 0)
        watch->total += op->result;
    if (op->result == -ENOBUFS && watch->again)
        ring_receive(op->ring, op, op->fd);
    if (op->buffer == NULL)
        return;
    if (watch->keep)
        watch->kept[watch->kept_count++] = op->buffer;
    else
        ring_buffer_unref(op->buffer);
}

static void watch_init(struct watch *watch)
{
    *watch = (struct watch){.calls = 0};
    ring_op_init(&watch->op, done);
}

static struct ring *new_ring(void)
{
    const struct ring_params params = {.entries = SMALL_ENTRIES, .buffer_count = SMALL_BUFFERS};
    struct ring *ring = NULL;

    cr_assert_eq(ring_create(&params, &ring), 0);
    return ring;
}

static void poll_until_idle(struct ring *ring)
{
    uint64_t deadline_ns = clock_monotonic_ns() + WAIT_NS;

    while (ring_in_flight(ring) > 0) {
        (void)ring_poll(ring, deadline_ns);
        cr_assert_lt(clock_monotonic_ns(), deadline_ns, "%zu in flight for ever",
                     ring_in_flight(ring));
    }
}

static void poll_for_calls(struct ring *ring, const struct watch *watch, int calls)
{
    uint64_t deadline_ns = clock_monotonic_ns() + WAIT_NS;

    while (watch->calls < calls) {
        (void)ring_poll(ring, deadline_ns);
        cr_assert_lt(clock_monotonic_ns(), deadline_ns, "%d of %d calls", watch->calls, calls);
    }
}

static void new_pair(int fds[2])
{
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

/* ---- receiving ------------------------------------------------------------------------------- */

Test(ring, receives_piece_by_piece_and_sees_the_end)
{
    struct ring *ring = new_ring();
    struct watch watch;
    int fds[2];

    watch_init(&watch);
    new_pair(fds);
    ring_receive(ring, &watch.op, fds[0]);
    cr_expect(watch.op.in_flight);
    cr_expect_eq(watch.calls, 0, "never inside the call");
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(write(fds[1], "hello", 5), 5);
        poll_for_calls(ring, &watch, i);
        cr_expect_eq(watch.last, 5);
        cr_expect(watch.op.in_flight, "multishot");
        cr_expect_eq(ring_buffers_free(ring), SMALL_BUFFERS);
    }
    close(fds[1]);
    poll_until_idle(ring);
    cr_expect_eq(watch.last, 0);
    ring_close(fds[0]);
    ring_destroy(&ring);
}

Test(ring, sees_an_end_that_was_there_before_it_looked)
{
    struct ring *ring = new_ring();
    struct watch watch;
    int fds[2];

    watch_init(&watch);
    new_pair(fds);
    cr_assert_eq(write(fds[1], "hello", 5), 5);
    close(fds[1]);
    ring_receive(ring, &watch.op, fds[0]);
    poll_until_idle(ring);
    cr_expect_eq(watch.total, 5);
    cr_expect_eq(watch.last, 0);
    ring_destroy(&ring);
}

Test(ring, without_buffers_the_receive_ends_and_can_be_armed_again)
{
    static uint8_t bytes[SMALL_BUFFERS * 8192 + 5000];
    struct ring *ring = new_ring();
    struct watch watch;
    int fds[2];

    watch_init(&watch);
    watch.keep = true;
    new_pair(fds);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    ring_receive(ring, &watch.op, fds[0]);
    for (size_t sent = 0; sent < sizeof(bytes) && watch.op.in_flight;) {
        ssize_t count = write(fds[1], bytes + sent, sizeof(bytes) - sent);

        sent += count > 0 ? (size_t)count : 0;
        (void)ring_poll(ring, clock_monotonic_ns() + 50 * MS_NS);
    }
    poll_until_idle(ring);
    cr_expect_eq(watch.last, -ENOBUFS);
    cr_expect_eq(ring_buffers_free(ring), 0);
    for (int i = 0; i < watch.kept_count; i++)
        ring_buffer_unref(watch.kept[i]);
    watch.kept_count = 0;
    cr_expect_eq(ring_buffers_free(ring), SMALL_BUFFERS);
    ring_receive(ring, &watch.op, fds[0]);
    close(fds[1]);
    while (watch.op.in_flight)
        poll_for_calls(ring, &watch, watch.calls + 1);
    cr_expect_eq(watch.last, 0, "all that was left, then the end");
    for (int i = 0; i < watch.kept_count; i++)
        ring_buffer_unref(watch.kept[i]);
    ring_close(fds[0]);
    ring_destroy(&ring);
}

Test(ring, a_buffer_lives_as_long_as_its_last_reference)
{
    struct ring *ring = new_ring();
    struct watch watch;
    int fds[2];

    watch_init(&watch);
    watch.keep = true;
    new_pair(fds);
    ring_receive(ring, &watch.op, fds[0]);
    cr_assert_eq(write(fds[1], "hello", 5), 5);
    poll_for_calls(ring, &watch, 1);
    cr_expect_eq(ring_buffer_ref(watch.kept[0]), watch.kept[0]);
    ring_buffer_unref(watch.kept[0]);
    cr_expect_eq(ring_buffers_free(ring), SMALL_BUFFERS - 1);
    cr_expect_arr_eq(watch.kept[0]->data, "hello", 5);
    ring_buffer_unref(watch.kept[0]);
    cr_expect_eq(ring_buffers_free(ring), SMALL_BUFFERS);
    ring_cancel(ring, &watch.op);
    poll_until_idle(ring);
    ring_destroy(&ring);
}

#ifdef __SANITIZE_ADDRESS__
/* The kernel's writes are invisible to the sanitizer, so the pool tells it whose the bytes are. */
Test(ring, reading_what_was_let_go_is_caught, .exit_code = 1)
{
    struct ring *ring = new_ring();
    struct watch watch;
    volatile uint8_t byte;
    int fds[2];

    watch_init(&watch);
    watch.keep = true;
    new_pair(fds);
    ring_receive(ring, &watch.op, fds[0]);
    cr_assert_eq(write(fds[1], "hello", 5), 5);
    poll_for_calls(ring, &watch, 1);
    byte = watch.kept[0]->data[4];
    ring_buffer_unref(watch.kept[0]);
    byte = watch.kept[0]->data[4];
    (void)byte;
}

Test(ring, reading_beyond_what_was_received_is_caught, .exit_code = 1)
{
    struct ring *ring = new_ring();
    struct watch watch;
    volatile uint8_t byte;
    int fds[2];

    watch_init(&watch);
    watch.keep = true;
    new_pair(fds);
    ring_receive(ring, &watch.op, fds[0]);
    cr_assert_eq(write(fds[1], "hello", 5), 5);
    poll_for_calls(ring, &watch, 1);
    byte = watch.kept[0]->data[5];
    (void)byte;
}
#endif

Test(ring, letting_go_twice_is_our_fault, .signal = SIGABRT)
{
    struct ring *ring = new_ring();
    struct watch watch;
    int fds[2];

    watch_init(&watch);
    watch.keep = true;
    new_pair(fds);
    ring_receive(ring, &watch.op, fds[0]);
    cr_assert_eq(write(fds[1], "hello", 5), 5);
    poll_for_calls(ring, &watch, 1);
    ring_buffer_unref(watch.kept[0]);
    ring_buffer_unref(watch.kept[0]);
}

Test(ring, going_with_something_in_flight_is_our_fault, .signal = SIGABRT)
{
    struct ring *ring = new_ring();
    struct watch watch;
    int fds[2];

    watch_init(&watch);
    new_pair(fds);
    ring_receive(ring, &watch.op, fds[0]);
    ring_destroy(&ring);
}

/* ---- on lesser kernels ----------------------------------------------------------------------- */

/* The flags fall in the order in which set-up gives them up; the engine works without each. */
Test(ring, works_without_the_flags_of_newer_kernels)
{
    static const uint32_t gone[] = {IORING_SETUP_TASKRUN_FLAG, IORING_SETUP_COOP_TASKRUN,
                                    IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_SINGLE_ISSUER,
                                    IORING_SETUP_SUBMIT_ALL};
    uint32_t without_flags = 0;

    for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
        struct ring_params params = {.entries = SMALL_ENTRIES, .buffer_count = SMALL_BUFFERS};
        struct ring *ring = NULL;
        struct watch watch;
        int fds[2];

        without_flags |= gone[i];
        params.without_flags = without_flags;
        watch_init(&watch);
        new_pair(fds);
        cr_assert_eq(ring_create(&params, &ring), 0);
        cr_expect_eq(ring_features(ring)->setup_flags & without_flags, 0);
        ring_receive(ring, &watch.op, fds[0]);
        (void)ring_poll(ring, 0);
        cr_assert_eq(write(fds[1], "hello", 5), 5);
        poll_for_calls(ring, &watch, 1);
        cr_expect_eq(watch.last, 5);
        ring_cancel(ring, &watch.op);
        poll_until_idle(ring);
        cr_expect_eq(watch.last, -ECANCELED);
        ring_destroy(&ring);
    }
}

/* ---- cancelling ------------------------------------------------------------------------------ */

Test(ring, a_cancelled_op_completes_once)
{
    struct ring *ring = new_ring();
    struct watch watch;
    int fds[2];

    watch_init(&watch);
    new_pair(fds);
    ring_cancel(ring, &watch.op); /* not in flight: nothing */
    for (int i = 1; i <= 3; i++) {
        ring_receive(ring, &watch.op, fds[0]);
        if (i == 2)
            (void)ring_poll(ring, 0); /* once with the kernel, else still in the queue */
        ring_cancel(ring, &watch.op);
        ring_cancel(ring, &watch.op);
        poll_until_idle(ring);
        cr_expect_eq(watch.calls, i);
        cr_expect_eq(watch.last, -ECANCELED);
    }
    for (int i = 0; i < 10; i++)
        (void)ring_poll(ring, 0);
    cr_expect_eq(watch.calls, 3);
    ring_destroy(&ring);
}

/* Goal: far more completions at once than the queues hold, and none is lost.
 * Method: a ring of 64 entries; thousands of receives are armed, all cancelled in one go, twice. */
Test(ring, thousands_end_at_once)
{
    enum { COUNT = 3000 };
    struct rlimit limit = {2 * COUNT + 100, 2 * COUNT + 100};
    struct watch *watches = calloc(COUNT, sizeof(*watches));
    struct ring *ring = new_ring();
    int(*fds)[2] = calloc(COUNT, sizeof(*fds));

    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        cr_skip_test("this process may not have so many files open");
    for (int i = 0; i < COUNT; i++) {
        watch_init(&watches[i]);
        new_pair(fds[i]);
    }
    for (int round = 1; round <= 2; round++) {
        for (int i = 0; i < COUNT; i++)
            ring_receive(ring, &watches[i].op, fds[i][0]);
        (void)ring_poll(ring, 0);
        cr_expect_eq(ring_in_flight(ring), COUNT);
        for (int i = 0; i < COUNT; i++)
            ring_cancel(ring, &watches[i].op);
        poll_until_idle(ring);
        for (int i = 0; i < COUNT; i++) {
            cr_assert_eq(watches[i].calls, round);
            cr_assert_eq(watches[i].last, -ECANCELED);
        }
    }
    /* The end of half of them has been seen by the kernel and only in part by us when all are
     * cancelled: some complete while their cancellation still waits its turn. */
    for (int i = 0; i < COUNT; i++)
        ring_receive(ring, &watches[i].op, fds[i][0]);
    (void)ring_poll(ring, 0);
    for (int i = 0; i < COUNT; i += 2)
        shutdown(fds[i][1], SHUT_WR);
    (void)ring_poll(ring, 0);
    for (int i = COUNT - 1; i >= 0; i--)
        ring_cancel(ring, &watches[i].op);
    poll_until_idle(ring);
    for (int i = 0; i < COUNT; i++) {
        cr_assert_eq(watches[i].calls, 3);
        cr_assert(watches[i].last == -ECANCELED || (i % 2 == 0 && watches[i].last == 0));
        cr_assert(!list_linked(&watches[i].op.node));
    }
    cr_assert(list_empty(&ring->cancels));
    /* And all their peers hang up at once. */
    for (int i = 0; i < COUNT; i++)
        ring_receive(ring, &watches[i].op, fds[i][0]);
    (void)ring_poll(ring, 0);
    for (int i = 0; i < COUNT; i++)
        close(fds[i][1]);
    poll_until_idle(ring);
    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(watches[i].last, 0);
    ring_destroy(&ring);
    free(watches);
    free(fds);
}

/* ---- sending --------------------------------------------------------------------------------- */

Test(ring, a_send_completes_when_all_of_it_has_gone)
{
    static uint8_t bytes[4 * MIB];
    struct ring *ring = new_ring();
    struct watch sending, receiving;
    int fds[2];

    watch_init(&sending);
    watch_init(&receiving);
    receiving.again = true;
    new_pair(fds);
    ring_send(ring, &sending.op, fds[0], slice_of(bytes, sizeof(bytes)));
    ring_receive(ring, &receiving.op, fds[1]);
    poll_for_calls(ring, &sending, 1);
    cr_expect_eq(sending.last, (int32_t)sizeof(bytes));
    ring_shutdown(ring, &sending.op, fds[0]);
    cr_expect_eq(sending.calls, 1, "never inside the call");
    while (receiving.op.in_flight)
        poll_for_calls(ring, &receiving, receiving.calls + 1);
    cr_expect_eq(receiving.total, (int64_t)sizeof(bytes));
    cr_expect_eq(receiving.last, 0);
    cr_expect_eq(sending.last, 0);
    poll_until_idle(ring);
    ring_destroy(&ring);
}

Test(ring, a_send_to_nobody_fails_without_a_signal)
{
    struct ring *ring = new_ring();
    struct watch watch;
    int fds[2];

    watch_init(&watch);
    new_pair(fds);
    close(fds[1]);
    ring_send(ring, &watch.op, fds[0], SLICE("x"));
    poll_until_idle(ring);
    cr_expect_eq(watch.last, -EPIPE);
    ring_send(ring, &watch.op, fds[0], SLICE_NONE);
    poll_until_idle(ring);
    cr_expect_eq(watch.last, 0, "nothing is easily sent");
    ring_destroy(&ring);
}

Test(ring, a_cancelled_send_tells_how_far_it_came)
{
    static uint8_t bytes[4 * MIB];
    struct ring *ring = new_ring();
    struct watch watch;
    int fds[2];

    watch_init(&watch);
    new_pair(fds);
    ring_send(ring, &watch.op, fds[0], slice_of(bytes, sizeof(bytes)));
    (void)ring_poll(ring, 0);
    ring_cancel(ring, &watch.op);
    poll_until_idle(ring);
    cr_expect(watch.last == -ECANCELED || (watch.last > 0 && watch.last < (int32_t)sizeof(bytes)),
              "%d", watch.last);
    ring_destroy(&ring);
}

/* Every way to go in steps gives the same bytes: a reference walks the pieces byte by byte. */
Test(ring, a_short_send_goes_on_where_it_was)
{
    uint8_t bytes[40];
    uint64_t random = 7;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    for (int round = 0; round < 2000; round++) {
        struct iovec pieces[5];
        struct ring_op op = {.size_bytes = sizeof(bytes)};
        size_t at = 0;

        for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
            size_t size = i == 4 ? sizeof(bytes) - at : (random >> (40 + i)) % 9;

            pieces[i] = (struct iovec){bytes + at, size};
            at += size;
        }
        op.msg = (struct msghdr){.msg_iov = pieces, .msg_iovlen = ARRAY_SIZE(pieces)};
        at = 0;
        for (;;) {
            const struct iovec *next = op.vec[0].iov_len > 0 ? &op.vec[0] : op.msg.msg_iov;
            size_t step;

            while (next->iov_len == 0)
                next++;
            cr_assert_eq(*(const uint8_t *)next->iov_base, at,
                         "what is sent next is the next byte");
            random = random * 6364136223846793005u + 1442695040888963407u;
            step = 1 + (random >> 33) % 11;
            /* The kernel was only given the rest of the piece that went in part. */
            if (op.vec[0].iov_len > 0)
                step = MIN(step, op.vec[0].iov_len);
            step = MIN(step, sizeof(bytes) - at);
            at += step;
            cr_assert_eq(uring_send_continues(&op, step), at < sizeof(bytes));
            if (at == sizeof(bytes))
                break;
        }
    }
}

/* ---- accepting and connecting ---------------------------------------------------------------- */

static int listen_on_loopback(struct netaddr *address)
{
    int fd = -1;

    cr_assert(netaddr_parse(SLICE("127.0.0.1"), 0, address));
    cr_assert_eq(ring_listen(address, 16, 0, &fd), 0);
    cr_assert_eq(ring_local_address(fd, address), 0);
    return fd;
}

Test(ring, accepts_and_recovers_when_files_run_out)
{
    struct ring *ring = new_ring();
    struct watch accepting, connecting[3];
    struct netaddr address;
    struct rlimit limit;
    int listen_fd = listen_on_loopback(&address);
    int fds[3];

    watch_init(&accepting);
    for (int i = 0; i < 3; i++) {
        watch_init(&connecting[i]);
        cr_assert_eq(ring_socket(AF_INET, SOCK_STREAM, NULL, &fds[i]), 0);
    }
    ring_accept(ring, &accepting.op, listen_fd);
    ring_connect(ring, &connecting[0].op, fds[0], &address);
    poll_for_calls(ring, &accepting, 1);
    cr_assert_gt(accepting.last, 0);
    cr_expect(accepting.op.in_flight);
    ring_cancel(ring, &accepting.op);
    poll_for_calls(ring, &accepting, 2);

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)dup(0); /* the next one would be too many */
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ring_accept(ring, &accepting.op, listen_fd); /* the kernel looks at the limit here */
    ring_connect(ring, &connecting[1].op, fds[1], &address);
    poll_for_calls(ring, &accepting, 3);
    cr_expect_eq(accepting.last, -EMFILE);
    cr_expect(!accepting.op.in_flight, "ended; its owner arms it again, later");

    limit.rlim_cur += 10;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ring_accept(ring, &accepting.op, listen_fd);
    ring_connect(ring, &connecting[2].op, fds[2], &address);
    poll_for_calls(ring, &accepting, 4);
    cr_expect_gt(accepting.last, 0);
    ring_cancel(ring, &accepting.op);
    poll_until_idle(ring);
    ring_destroy(&ring);
}

Test(ring, a_refused_connection_says_so)
{
    struct ring *ring = new_ring();
    struct watch watch;
    struct netaddr address;
    int listen_fd = listen_on_loopback(&address);
    int fd;

    watch_init(&watch);
    ring_close(listen_fd);
    cr_assert_eq(ring_socket(AF_INET, SOCK_STREAM, NULL, &fd), 0);
    ring_connect(ring, &watch.op, fd, &address);
    poll_until_idle(ring);
    cr_expect_eq(watch.last, -ECONNREFUSED);
    ring_destroy(&ring);
}

Test(ring, a_unix_listener_replaces_what_the_dead_have_left_but_not_the_living)
{
    char dir[] = "/tmp/kilat-ring-XXXXXX";
    char path[64];
    struct netaddr address;
    struct stat info;
    uint32_t uid, gid;
    int32_t pid;
    int first, second, pair[2];

    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/control", dir);
    cr_assert(netaddr_unix(path, &address));
    umask(077);
    cr_assert_eq(ring_listen(&address, 8, 0660, &first), 0);
    cr_assert_eq(stat(path, &info), 0);
    cr_expect_eq(info.st_mode & 07777, 0660, "whatever the umask");
    cr_expect_eq(ring_listen(&address, 8, 0660, &second), -EADDRINUSE, "somebody answers there");
    ring_close(first);
    cr_expect_eq(ring_listen(&address, 8, 0600, &second), 0, "nobody answers there");
    cr_assert_eq(stat(path, &info), 0);
    cr_expect_eq(info.st_mode & 07777, 0600);
    ring_close(second);
    (void)unlink(path);
    (void)rmdir(dir);

    new_pair(pair);
    cr_expect_eq(ring_peer_credentials(pair[0], &uid, &gid, &pid), 0);
    cr_expect_eq(uid, geteuid());
    cr_expect_eq(pid, getpid());
    cr_expect_eq(ring_peer_address(pair[0], &address), 0);
    cr_expect_eq(ring_peer_credentials(-1, &uid, &gid, &pid), -EBADF);
}

Test(ring, datagrams_leave_from_ports_nobody_can_guess)
{
    uint16_t ports[8];
    struct netaddr address;
    int fd, equal = 0;

    for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
        cr_assert_eq(ring_socket(i % 2 ? AF_INET : AF_INET6, SOCK_DGRAM, NULL, &fd), 0);
        cr_assert_eq(ring_local_address(fd, &address), 0);
        ports[i] = netaddr_port(&address);
        cr_expect_geq(ports[i], 1024);
        for (size_t j = 0; j < i; j++)
            equal += ports[j] == ports[i] || ports[j] + 1 == ports[i];
    }
    cr_expect_leq(equal, 2);
}

/* ---- files ----------------------------------------------------------------------------------- */

Test(ring, files_are_written_synced_and_read)
{
    char path[] = "/tmp/kilat-ring-XXXXXX";
    struct ring *ring = new_ring();
    struct watch watch;
    char text[16];
    int fd = mkstemp(path);

    cr_assert_geq(fd, 0);
    (void)unlink(path);
    watch_init(&watch);
    ring_write(ring, &watch.op, fd, SLICE("hello"), 100, true);
    poll_until_idle(ring);
    cr_expect_eq(watch.last, 5);
    ring_write(ring, &watch.op, fd, SLICE("world"), 105, false);
    poll_until_idle(ring);
    cr_expect_eq(watch.last, 5);
    ring_sync(ring, &watch.op, fd);
    poll_until_idle(ring);
    cr_expect_eq(watch.last, 0);
    ring_read(ring, &watch.op, fd, text, sizeof(text), 102);
    poll_until_idle(ring);
    cr_expect_eq(watch.last, 8, "short at the end of the file");
    cr_expect_arr_eq(text, "lloworld", 8);
    ring_close(fd);
    ring_write(ring, &watch.op, fd, SLICE("x"), 0, true);
    poll_until_idle(ring);
    cr_expect_eq(watch.last, -EBADF);
    ring_destroy(&ring);
}

/* ---- jobs, waiting, waking ------------------------------------------------------------------- */

static int count_up(struct ring_op *op)
{
    struct watch *watch = CONTAINER_OF(op, struct watch, op);

    watch->total++;
    return 7;
}

Test(ring, without_workers_jobs_run_in_the_next_poll_and_in_bounded_numbers)
{
    enum { COUNT = 1000 };
    static struct watch watches[COUNT];
    struct ring *ring = new_ring();
    size_t ran, polls = 0;

    for (int i = 0; i < COUNT; i++) {
        watch_init(&watches[i]);
        ring_job(ring, &watches[i].op, RING_JOB_HASH, count_up);
        cr_assert_eq(watches[i].total, 0);
    }
    do {
        ran = ring_poll(ring, UINT64_MAX); /* would wait for ever if it forgot the rest */
        cr_expect_leq(ran, URING_BATCH_MAX);
        polls++;
    } while (ring_in_flight(ring) > 0);
    cr_expect_eq(polls, (COUNT + URING_BATCH_MAX - 1) / URING_BATCH_MAX);
    for (int i = 0; i < COUNT; i++)
        cr_assert(watches[i].calls == 1 && watches[i].last == 7);
    ring_destroy(&ring);
}

static void *wake(void *context)
{
    ring_wake(context);
    return NULL;
}

/* Waits as a shard does, but not for ever when the wake is lost. */
static void poll_for_wake(struct ring *ring)
{
    uint64_t deadline_ns = clock_monotonic_ns() + WAIT_NS;

    (void)ring_poll(ring, deadline_ns);
    cr_assert_lt(clock_monotonic_ns(), deadline_ns, "the wake was lost");
}

Test(ring, a_wake_is_never_lost)
{
    struct ring *ring = new_ring();

    ring_wake(ring);
    ring_wake(ring);
    poll_for_wake(ring); /* the wakes came before */
    for (int i = 0; i < 300; i++) {
        pthread_t id;

        cr_assert_eq(pthread_create(&id, NULL, wake, ring), 0);
        poll_for_wake(ring);
        pthread_join(id, NULL);
        (void)ring_poll(ring, 0); /* what the thread's wake may have left */
    }
    ring_destroy(&ring);
}

Test(ring, waits_until_the_deadline_and_not_longer_for_nothing)
{
    struct ring *ring = new_ring();
    uint64_t start_ns = clock_monotonic_ns();
    int polls = 0;

    cr_expect_eq(ring_poll(ring, 0), 0);
    cr_expect_eq(ring_poll(ring, start_ns), 0, "a deadline in the past does not wait");
    start_ns = clock_monotonic_ns();
    for (; clock_monotonic_ns() < start_ns + 20 * MS_NS; polls++)
        cr_expect_eq(ring_poll(ring, start_ns + 20 * MS_NS), 0);
    cr_expect_geq(clock_monotonic_ns(), start_ns + 20 * MS_NS);
    cr_expect_leq(polls, 5, "asleep, not spinning");
    ring_destroy(&ring);
}

Test(ring, counts_its_system_calls)
{
    struct ring *ring = new_ring();
    uint64_t before = ring_syscalls(ring);
    struct watch watches[20];
    int fds[2];

    new_pair(fds);
    for (size_t i = 0; i < ARRAY_SIZE(watches); i++) {
        watch_init(&watches[i]);
        ring_send(ring, &watches[i].op, fds[0], SLICE("x"));
    }
    poll_until_idle(ring);
    cr_expect_leq(ring_syscalls(ring) - before, 3, "twenty sends go out in one call");
    cr_expect_gt(ring_syscalls(ring), before);
    ring_destroy(&ring);
}
