#include "core/stream.h"
#include "core/clock.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define OUTPUT_MAX (64 * KIB)
#define BUFFERS 16
#define WAIT_NS (10 * SECOND_NS)

/* ---- one shard here, one stream on it, and its peer as a plain descriptor -------------------- */

struct side {
    struct stream stream;
    struct shard *shard;
    char got[4096]; /* what input() has consumed */
    size_t got_size;
    size_t take_at_most; /* in one input callback */
    int inputs, ends, drains, connects, timeouts, closes;
    int connect_result, close_error;
    int depth; /* callbacks that are running: must never pass one */
    void (*on_input)(struct side *side);
};

static struct side *enter(struct stream *stream)
{
    struct side *side = CONTAINER_OF(stream, struct side, stream);

    cr_assert_eq(side->depth++, 0, "callbacks of one stream never nest");
    cr_assert_eq(side->closes, 0, "nothing comes after closed");
    return side;
}

static void input(struct stream *stream)
{
    struct side *side = enter(stream);
    struct slice bytes;
    size_t left = side->take_at_most;

    side->inputs++;
    while (left > 0 && (bytes = slice_first(stream_front(stream, NULL), left)).size > 0) {
        size_t room = sizeof(side->got) - side->got_size;

        memcpy(side->got + side->got_size, bytes.data, MIN(bytes.size, room));
        side->got_size += MIN(bytes.size, room);
        left -= bytes.size;
        stream_consume(stream, bytes.size);
    }
    if (side->on_input != NULL)
        side->on_input(side);
    side->depth--;
}

static void input_ended(struct stream *stream)
{
    enter(stream)->ends++;
    CONTAINER_OF(stream, struct side, stream)->depth--;
}

static void drained(struct stream *stream)
{
    enter(stream)->drains++;
    CONTAINER_OF(stream, struct side, stream)->depth--;
}

static void connected(struct stream *stream, int result)
{
    struct side *side = enter(stream);

    side->connects++;
    side->connect_result = result;
    side->depth--;
}

static void timed_out(struct stream *stream)
{
    enter(stream)->timeouts++;
    CONTAINER_OF(stream, struct side, stream)->depth--;
}

static void closed(struct stream *stream, int error)
{
    struct side *side = enter(stream);

    side->closes++;
    side->close_error = error;
    side->depth--;
}

static const struct stream_ops all_ops = {input,     input_ended, drained,
                                          connected, timed_out,   closed};
static const struct stream_ops few_ops = {.input = input, .closed = closed};

static struct shard *new_shard(void)
{
    const struct shard_params params = {.ring = {.entries = 64, .buffer_count = BUFFERS},
                                        .one_thread = true};
    struct shard_group *group = NULL;

    cr_assert_eq(shard_group_start(&params, &group), 0);
    return shard_group_get(group, 0);
}

static void end_shard(struct shard *shard)
{
    struct shard_group *group = shard->group;

    cr_expect_eq(ring_in_flight(shard->ring), 0);
    cr_expect_eq(ring_buffers_free(shard->ring), ring_buffers_total(shard->ring));
    cr_expect_eq(shard->timers.armed_count, 0);
    shard_stop(shard);
    shard_group_join(&group);
}

/* Returns the peer's descriptor. */
static int open_side(struct side *side, struct shard *shard, const struct stream_ops *ops)
{
    int fds[2];

    *side = (struct side){.shard = shard, .take_at_most = SIZE_MAX};
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    stream_open(&side->stream, shard, fds[0], ops, OUTPUT_MAX);
    return fds[1];
}

static void tick_until(struct shard *shard, const int *counter, int wanted)
{
    uint64_t deadline_ns = clock_monotonic_ns() + WAIT_NS;

    for (; *counter < wanted; shard_tick(shard, false))
        cr_assert_lt(clock_monotonic_ns(), deadline_ns, "%d instead of %d", *counter, wanted);
}

static void tick_some(struct shard *shard)
{
    for (int i = 0; i < 20; i++)
        shard_tick(shard, false);
}

static void close_side(struct side *side)
{
    stream_close(&side->stream, 0);
    tick_until(side->shard, &side->closes, 1);
    cr_expect_eq(side->stream.fd, -1);
}

static void say(int fd, const char *text)
{
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* All that has arrived at the peer. */
static void expect_said(int fd, const char *want)
{
    char text[4096];
    ssize_t size = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

    text[MAX(size, 0)] = '\0';
    cr_expect_str_eq(text, want);
}

/* ---- receiving ------------------------------------------------------------------------------- */

Test(stream, offers_what_comes_and_keeps_what_is_not_consumed)
{
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    side.take_at_most = 3;
    say(peer, "abcdef");
    tick_until(shard, &side.inputs, 1);
    tick_some(shard);
    cr_expect_eq(side.inputs, 1, "not offered again before more comes");
    cr_expect_eq(stream_unread(&side.stream), 3);
    cr_expect_eq(ring_buffers_free(shard->ring), BUFFERS - 1);
    side.take_at_most = SIZE_MAX;
    say(peer, "ghi");
    tick_until(shard, &side.inputs, 2);
    cr_expect_arr_eq(side.got, "abcdefghi", 9);
    cr_expect_eq(ring_buffers_free(shard->ring), BUFFERS, "an idle stream holds no buffer");
    close_side(&side);
    end_shard(shard);
    close(peer);
}

Test(stream, tells_the_end_after_all_that_came_before)
{
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    say(peer, "last words");
    close(peer);
    tick_until(shard, &side.ends, 1);
    cr_expect_arr_eq(side.got, "last words", 10);
    tick_some(shard);
    cr_expect_eq(side.ends, 1);
    cr_expect_eq(side.closes, 0, "the owner closes");
    close_side(&side);
    end_shard(shard);
}

Test(stream, without_interest_in_the_end_it_closes)
{
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &few_ops);

    shutdown(peer, SHUT_WR);
    tick_until(shard, &side.closes, 1);
    cr_expect_eq(side.close_error, 0);
    end_shard(shard);
    close(peer);
}

Test(stream, a_paused_one_offers_nothing_until_it_is_resumed)
{
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    stream_pause(&side.stream);
    tick_some(shard);
    say(peer, "abc");
    shutdown(peer, SHUT_WR);
    tick_some(shard);
    cr_expect_eq(side.inputs, 0);
    stream_resume(&side.stream);
    cr_expect_eq(side.inputs, 0, "never inside the call");
    tick_until(shard, &side.ends, 1);
    cr_expect_arr_eq(side.got, "abc", 3);
    close_side(&side);
    end_shard(shard);
    close(peer);
}

static void only_pause(struct side *side)
{
    stream_pause(&side->stream);
}

/* What waits is kept, not the buffer it came in, whether it came before or after the pause. */
Test(stream, a_paused_one_holds_no_receive_buffer)
{
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    side.take_at_most = 1;
    side.on_input = only_pause;
    say(peer, "abc");
    tick_until(shard, &side.inputs, 1);
    tick_some(shard);
    cr_expect_eq(ring_buffers_free(shard->ring), ring_buffers_total(shard->ring));
    cr_expect_eq(stream_unread(&side.stream), 2);
    cr_expect_eq(shard->kept_bytes, 2);
    cr_expect_eq(shard->copied_bytes, 2);
    stream_pause(&side.stream); /* once is enough */
    tick_some(shard);
    cr_expect_eq(shard->copied_bytes, 2, "nothing is copied twice");
    side.take_at_most = SIZE_MAX;
    side.on_input = NULL;
    stream_resume(&side.stream);
    tick_until(shard, &side.inputs, 2);
    cr_expect_arr_eq(side.got, "abc", 3);
    cr_expect_eq(shard->kept_bytes, 0);
    say(peer, "d");
    tick_until(shard, &side.inputs, 3);
    cr_expect_eq(side.got[3], 'd');
    close_side(&side);
    end_shard(shard);
    close(peer);
}

/* A stream that closes while it is paused frees what it has kept. */
Test(stream, closing_a_paused_one_frees_what_it_keeps)
{
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    side.take_at_most = 0;
    side.on_input = only_pause;
    say(peer, "abc");
    tick_until(shard, &side.inputs, 1);
    tick_some(shard);
    cr_expect_eq(shard->kept_bytes, 3);
    close_side(&side);
    cr_expect_eq(shard->kept_bytes, 0);
    end_shard(shard);
    close(peer);
}

static void pause_and_resume(struct side *side)
{
    stream_pause(&side->stream);
    if (side->inputs < 5)
        stream_resume(&side->stream);
}

Test(stream, resuming_inside_input_offers_again_later)
{
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    side.take_at_most = 1;
    side.on_input = pause_and_resume;
    say(peer, "abcdefgh");
    tick_until(shard, &side.inputs, 5);
    tick_some(shard);
    cr_expect_eq(side.inputs, 5);
    cr_expect_eq(side.got_size, 5);
    cr_expect_eq(stream_unread(&side.stream), 3);
    close_side(&side);
    end_shard(shard);
    close(peer);
}

Test(stream, stops_receiving_when_too_much_is_unread)
{
    static char bytes[8192];
    const struct shard_params params = {.ring = {.entries = 64, .buffer_count = 64},
                                        .one_thread = true};
    struct shard_group *group = NULL;
    struct shard *shard;
    struct side side;
    size_t sent = 0;
    int peer;

    cr_assert_eq(shard_group_start(&params, &group), 0);
    shard = shard_group_get(group, 0);
    peer = open_side(&side, shard, &all_ops);
    fcntl(peer, F_SETFL, O_NONBLOCK);
    side.take_at_most = 0;
    for (int i = 0; i < 100; i++) {
        ssize_t count = write(peer, bytes, sizeof(bytes));

        sent += count > 0 ? (size_t)count : 0;
        tick_some(shard);
    }
    cr_expect_gt(stream_unread(&side.stream), STREAM_UNREAD_MAX);
    cr_expect_leq(stream_unread(&side.stream), STREAM_UNREAD_MAX + 2 * sizeof(bytes));
    cr_expect_lt(sent, 100 * sizeof(bytes), "the peer has to wait");
    /* Consumed piece by piece, all of it comes. */
    for (size_t consumed = 0; consumed < sent;) {
        size_t size = stream_front(&side.stream, NULL).size;

        stream_consume(&side.stream, size);
        consumed += size;
        shard_tick(shard, false);
    }
    cr_expect_eq(stream_unread(&side.stream), 0);
    cr_expect_eq(side.stream.received_bytes, sent);
    close_side(&side);
    end_shard(shard);
    close(peer);
}

/* A body keeps the buffers of its bytes beyond their consumption. */
Test(stream, who_keeps_a_slice_keeps_its_buffer)
{
    struct shard *shard = new_shard();
    struct ring_buffer *buffer = NULL;
    struct side side;
    struct slice bytes;
    int peer = open_side(&side, shard, &all_ops);

    side.take_at_most = 0;
    say(peer, "body");
    tick_until(shard, &side.inputs, 1);
    bytes = stream_front(&side.stream, &buffer);
    cr_assert_not_null(buffer);
    (void)ring_buffer_ref(buffer);
    stream_consume(&side.stream, 4);
    close_side(&side);
    cr_expect(slice_equal(bytes, SLICE("body")));
    ring_buffer_unref(buffer);
    end_shard(shard);
    close(peer);
}

/* Goal: with no buffer left, streams wait, without spinning, and all go on when buffers return.
 * Method: more streams than buffers, each with a byte waiting; nobody consumes until all stand
 * still. */
Test(stream, many_wait_for_few_buffers_and_all_get_theirs)
{
    enum { COUNT = 4 * BUFFERS };
    struct shard *shard = new_shard();
    struct side *sides = calloc(COUNT, sizeof(*sides));
    int peers[COUNT];
    int inputs = 0, held = 0;
    struct stream *gone;

    for (int i = 0; i < COUNT; i++) {
        peers[i] = open_side(&sides[i], shard, &all_ops);
        sides[i].take_at_most = 0;
        say(peers[i], "x");
    }
    tick_some(shard);
    cr_expect_eq(ring_buffers_free(shard->ring), 0);
    cr_expect(!list_empty(&shard->starved));
    cr_expect_eq(shard_next_ns(shard), UINT64_MAX, "asleep, not spinning");
    /* One that waits is closed: it must not be woken any more. */
    gone = CONTAINER_OF(shard->starved.next, struct stream, starved_node);
    stream_close(gone, 0);
    cr_expect(!list_linked(&gone->starved_node));
    tick_some(shard);
    cr_expect_eq(gone->fd, -1);
    for (int round = 0; round < COUNT && inputs < COUNT - 1; round++) {
        inputs = 0;
        for (int i = 0; i < COUNT; i++) {
            if (stream_unread(&sides[i].stream) > 0)
                stream_consume(&sides[i].stream, 1);
            inputs += sides[i].inputs > 0;
        }
        tick_some(shard);
    }
    cr_expect_eq(inputs, COUNT - 1);
    for (int i = 0; i < COUNT; i++)
        held += stream_unread(&sides[i].stream) > 0;
    cr_expect_eq(held, 0);
    cr_expect(list_empty(&shard->starved));
    for (int i = 0; i < COUNT; i++) {
        if (sides[i].closes == 0)
            close_side(&sides[i]);
    }
    end_shard(shard);
    free(sides);
}

/* ---- sending --------------------------------------------------------------------------------- */

static void reply_in_three(struct side *side)
{
    stream_write(&side->stream, SLICE("250 "));
    stream_write(&side->stream, SLICE("2.0.0 "));
    stream_write(&side->stream, SLICE("OK\r\n"));
}

Test(stream, what_one_callback_writes_goes_out_as_one_send)
{
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &all_ops);
    char text[64];

    side.on_input = reply_in_three;
    say(peer, "NOOP\r\n");
    tick_until(shard, &side.drains, 1);
    expect_said(peer, "250 2.0.0 OK\r\n");
    cr_expect_eq(side.stream.sent_bytes, 14);
    cr_expect_eq(stream_unsent(&side.stream), 0);
    cr_expect_eq(recv(peer, text, sizeof(text), MSG_DONTWAIT), -1);
    close_side(&side);
    end_shard(shard);
    close(peer);
}

struct borrowed {
    struct stream_send send;
    int calls;
    int result;
};

static void sent(struct stream_send *send, int result)
{
    struct borrowed *borrowed = CONTAINER_OF(send, struct borrowed, send);

    borrowed->calls++;
    borrowed->result = result;
}

static void borrow(struct borrowed *borrowed, const char *first, const char *second)
{
    borrowed->send = (struct stream_send){.done = sent, .piece_count = 2};
    borrowed->send.pieces[0] = (struct iovec){(void *)(uintptr_t)first, strlen(first)};
    borrowed->send.pieces[1] = (struct iovec){(void *)(uintptr_t)second, strlen(second)};
    borrowed->calls = 0;
}

Test(stream, written_and_borrowed_output_keep_their_order)
{
    struct shard *shard = new_shard();
    struct borrowed sends[3];
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    borrow(&sends[0], "<b", "0>");
    borrow(&sends[1], "<b1>", "");
    borrow(&sends[2], "<b", "2>");
    stream_write(&side.stream, SLICE("a"));
    stream_send_borrowed(&side.stream, &sends[0].send);
    stream_write(&side.stream, SLICE("c"));
    stream_write(&side.stream, SLICE("d"));
    stream_send_borrowed(&side.stream, &sends[1].send);
    stream_send_borrowed(&side.stream, &sends[2].send);
    stream_write(&side.stream, SLICE("e"));
    cr_expect_eq(stream_unsent(&side.stream), 4 + 4 + 4 + 4);
    tick_until(shard, &side.drains, 1);
    expect_said(peer, "a<b0>cd<b1><b2>e");
    for (size_t i = 0; i < ARRAY_SIZE(sends); i++) {
        cr_expect_eq(sends[i].calls, 1);
        cr_expect_eq(sends[i].result, 0);
    }
    cr_expect_eq(stream_unsent(&side.stream), 0);
    stream_write(&side.stream, SLICE("f"));
    tick_until(shard, &side.drains, 2);
    expect_said(peer, "f");
    close_side(&side);
    end_shard(shard);
    close(peer);
}

Test(stream, borrowed_output_is_told_of_when_the_stream_closes)
{
    struct shard *shard = new_shard();
    struct borrowed sends[2];
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    borrow(&sends[0], "a", "b");
    borrow(&sends[1], "c", "d");
    stream_send_borrowed(&side.stream, &sends[0].send);
    stream_close(&side.stream, -EIO);
    stream_send_borrowed(&side.stream, &sends[1].send);
    cr_expect_eq(sends[0].calls, 0);
    tick_until(shard, &side.closes, 1);
    cr_expect_eq(side.close_error, -EIO);
    for (size_t i = 0; i < ARRAY_SIZE(sends); i++) {
        cr_expect_eq(sends[i].calls, 1);
        cr_expect_lt(sends[i].result, 0);
    }
    end_shard(shard);
    close(peer);
}

Test(stream, a_peer_that_does_not_read_is_closed_at_the_limit)
{
    static char bytes[16 * KIB];
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    for (int i = 0; i < 1000 && !stream_is_closing(&side.stream); i++) {
        stream_write(&side.stream, slice_of(bytes, sizeof(bytes)));
        shard_tick(shard, false);
        cr_expect_leq(stream_unsent(&side.stream), OUTPUT_MAX + sizeof(bytes));
    }
    tick_until(shard, &side.closes, 1);
    cr_expect_eq(side.close_error, -ENOBUFS);
    end_shard(shard);
    close(peer);
}

Test(stream, writing_to_a_peer_that_is_gone_closes)
{
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    stream_pause(&side.stream); /* or the end would be seen first */
    tick_some(shard);
    close(peer);
    stream_write(&side.stream, SLICE("hello?"));
    tick_until(shard, &side.closes, 1);
    cr_expect_eq(side.close_error, -EPIPE);
    end_shard(shard);
}

/* ---- over TCP -------------------------------------------------------------------------------- */

static int listen_on_loopback(struct netaddr *address)
{
    int fd = -1;

    cr_assert(netaddr_parse(SLICE("127.0.0.1"), 0, address));
    cr_assert_eq(ring_listen(address, 16, 0, &fd), 0);
    cr_assert_eq(ring_local_address(fd, address), 0);
    return fd;
}

static void connect_side(struct side *side, struct shard *shard, const struct netaddr *address)
{
    int fd = -1;

    *side = (struct side){.shard = shard, .take_at_most = SIZE_MAX};
    cr_assert_eq(ring_socket(AF_INET, SOCK_STREAM, NULL, &fd), 0);
    stream_connect(&side->stream, shard, fd, address, &all_ops, OUTPUT_MAX);
}

Test(stream, connects_and_sends_what_was_written_meanwhile)
{
    struct shard *shard = new_shard();
    struct netaddr address;
    struct side side;
    int listen_fd = listen_on_loopback(&address);
    int peer;

    connect_side(&side, shard, &address);
    stream_write(&side.stream, SLICE("EHLO a.example\r\n"));
    tick_until(shard, &side.drains, 1);
    cr_expect_eq(side.connects, 1);
    cr_expect_eq(side.connect_result, 0);
    peer = accept(listen_fd, NULL, NULL);
    expect_said(peer, "EHLO a.example\r\n");
    say(peer, "250 b.example\r\n");
    tick_until(shard, &side.inputs, 1);
    close_side(&side);
    end_shard(shard);
    close(peer);
    close(listen_fd);
}

Test(stream, a_refused_connection_is_told_and_closes)
{
    struct shard *shard = new_shard();
    struct netaddr address;
    struct side side;

    close(listen_on_loopback(&address));
    connect_side(&side, shard, &address);
    cr_expect_eq(side.connects, 0, "never inside the call");
    tick_until(shard, &side.closes, 1);
    cr_expect_eq(side.connects, 1);
    cr_expect_eq(side.connect_result, -ECONNREFUSED);
    cr_expect_eq(side.close_error, -ECONNREFUSED);
    end_shard(shard);
}

/* A host that takes no more connections: the answer to our SYN never comes. */
Test(stream, closing_ends_a_connection_that_hangs)
{
    struct shard *shard = new_shard();
    struct netaddr address;
    struct side sides[4];
    int fd = -1;

    cr_assert(netaddr_parse(SLICE("127.0.0.1"), 0, &address));
    cr_assert_eq(ring_listen(&address, 0, 0, &fd), 0);
    cr_assert_eq(ring_local_address(fd, &address), 0);
    for (size_t i = 0; i < ARRAY_SIZE(sides); i++)
        connect_side(&sides[i], shard, &address);
    tick_some(shard);
    cr_expect_eq(sides[3].connects, 0, "the queue of the listener is full");
    for (size_t i = 0; i < ARRAY_SIZE(sides); i++)
        close_side(&sides[i]);
    end_shard(shard);
    close(fd);
}

/* The peer has pipelined more than we read; a plain close would send RST, and our reply could be
 * lost. */
Test(stream, a_graceful_close_delivers_the_last_reply)
{
    static char garbage[100000];
    struct shard *shard = new_shard();
    struct netaddr address;
    struct side side;
    int listen_fd = listen_on_loopback(&address);
    int peer = socket(AF_INET, SOCK_STREAM, 0);
    char text[64];
    ssize_t size;

    cr_assert_eq(connect(peer, &address.any, address.size), 0);
    side = (struct side){.shard = shard, .take_at_most = 0};
    stream_open(&side.stream, shard, accept(listen_fd, NULL, NULL), &all_ops, OUTPUT_MAX);
    say(peer, "garbage");
    tick_until(shard, &side.inputs, 1);
    stream_write(&side.stream, SLICE("421 4.3.2 bye\r\n"));
    stream_close_gracefully(&side.stream);
    stream_write(&side.stream, SLICE("never sent"));
    fcntl(peer, F_SETFL, O_NONBLOCK);
    (void)send(peer, garbage, sizeof(garbage), MSG_NOSIGNAL);
    tick_some(shard);
    cr_expect_eq(side.closes, 0, "the peer has not hung up");
    cr_expect_eq(side.inputs, 1, "input is ignored");
    size = recv(peer, text, sizeof(text) - 1, 0);
    text[MAX(size, 0)] = '\0';
    cr_expect_str_eq(text, "421 4.3.2 bye\r\n");
    cr_expect_eq(recv(peer, text, sizeof(text), 0), 0, "then our FIN");
    close(peer);
    tick_until(shard, &side.closes, 1);
    cr_expect_eq(side.close_error, 0);
    end_shard(shard);
    close(listen_fd);
}

/* ---- deadlines and the end ------------------------------------------------------------------- */

Test(stream, a_deadline_is_told_or_closes)
{
    struct shard *shard = new_shard();
    struct side told, not_told;
    int peers[2] = {open_side(&told, shard, &all_ops), open_side(&not_told, shard, &few_ops)};

    stream_set_deadline(&told.stream, shard->now_ns + 10 * MS_NS);
    stream_set_deadline(&not_told.stream, shard->now_ns + 10 * MS_NS);
    tick_until(shard, &told.timeouts, 1);
    tick_until(shard, &not_told.closes, 1);
    cr_expect_eq(not_told.close_error, -ETIMEDOUT);
    cr_expect(!stream_is_closing(&told.stream));
    stream_set_deadline(&told.stream, shard->now_ns + SECOND_NS);
    stream_set_deadline(&told.stream, 0);
    cr_expect_eq(shard->timers.armed_count, 0);
    close_side(&told);
    end_shard(shard);
    close(peers[0]);
    close(peers[1]);
}

static void close_at_once(struct side *side)
{
    stream_close(&side->stream, -EPROTO);
    stream_close(&side->stream, -EIO);
    stream_close_gracefully(&side->stream);
    stream_write(&side->stream, SLICE("x"));
    stream_pause(&side->stream);
    stream_resume(&side->stream);
    stream_set_deadline(&side->stream, side->shard->now_ns + SECOND_NS);
    cr_expect_eq(stream_front(&side->stream, NULL).size, 0);
    cr_expect_eq(side->closes, 0, "never inside the call");
}

Test(stream, closing_inside_input_is_safe_and_the_first_reason_stays)
{
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    side.take_at_most = 1;
    side.on_input = close_at_once;
    say(peer, "abc");
    tick_until(shard, &side.closes, 1);
    tick_some(shard);
    cr_expect_eq(side.closes, 1);
    cr_expect_eq(side.close_error, -EPROTO);
    expect_said(peer, "");
    end_shard(shard);
    close(peer);
}

static void close_gracefully_then_consume(struct side *side)
{
    stream_write(&side->stream, SLICE("221 bye\r\n"));
    stream_close_gracefully(&side->stream);
    stream_consume(&side->stream, 2); /* of what it was looking at */
}

Test(stream, consuming_after_a_close_is_no_fault)
{
    struct shard *shard = new_shard();
    struct side side;
    int peer = open_side(&side, shard, &all_ops);

    side.take_at_most = 0;
    side.on_input = close_gracefully_then_consume;
    say(peer, "QUIT");
    tick_some(shard);
    expect_said(peer, "221 bye\r\n");
    close(peer);
    tick_until(shard, &side.closes, 1);
    cr_expect_eq(side.close_error, 0);
    end_shard(shard);
}

/* Goal: a shard that closes all its sessions in one tick comes to rest. */
Test(stream, thousands_close_at_once)
{
    enum { COUNT = 4000 };
    struct rlimit limit = {2 * COUNT + 100, 2 * COUNT + 100};
    struct side *sides = calloc(COUNT, sizeof(*sides));
    int *peers = calloc(COUNT, sizeof(*peers));
    struct shard *shard;

    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        cr_skip_test("this process may not have so many files open");
    shard = new_shard();
    for (int i = 0; i < COUNT; i++)
        peers[i] = open_side(&sides[i], shard, &all_ops);
    shard_tick(shard, false);
    for (int i = 0; i < COUNT; i++) {
        stream_write(&sides[i].stream, SLICE("421 4.3.2 bye\r\n"));
        if (i % 2 == 0)
            stream_close(&sides[i].stream, 0);
        else
            stream_close_gracefully(&sides[i].stream);
    }
    for (int i = 0; i < COUNT; i += 2)
        tick_until(shard, &sides[i].closes, 1);
    for (int i = 1; i < COUNT; i += 2) {
        tick_until(shard, (int *)&sides[i].stream.sent_bytes, 15);
        close(peers[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        tick_until(shard, &sides[i].closes, 1);
        cr_assert_eq(sides[i].close_error, 0);
    }
    end_shard(shard);
    free(sides);
    free(peers);
}
