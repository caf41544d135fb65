/* tests/threads/test_echo.c - two shards echo for many connections; messages and jobs go around.
 *
 * Goal: nothing is lost, doubled or reordered between sockets, shards and workers, and all comes
 * to rest. Method: shards 0 and 1 listen on one port (SO_REUSEPORT) and echo. Each shard also
 * drives clients that send numbered bytes and compare what comes back. Meanwhile messages travel
 * between the shards and jobs to the workers and back. When both shards have finished their
 * share they tell each other and stop.
 * */
#include "core/assert.h"
#include "core/clock.h"
#include "core/shard.h"
#include "core/stream.h"
#include "core/thread.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SHARDS 2
#define CLIENTS 100
#define CLIENT_BYTES (192 * KIB)
#define CHUNK_BYTES 3000
#define MESSAGES 20000
#define JOBS 500
#define OUTPUT_MAX (1 * MIB)
#define GIVE_UP_MS (60 * SECOND_MS)

struct side;

struct server_session {
    struct stream stream;
    struct side *side;
};

struct client {
    struct stream stream;
    struct side *side;
    uint32_t seed;
    uint64_t sent;
    uint64_t compared;
};

struct ball {
    struct shard_message message;
    struct side *home;
    uint32_t number;
};

struct job {
    struct ring_op op;
    struct side *side;
    uint32_t input;
    uint32_t output;
};

/* What one shard has. */
struct side {
    struct shard *shard;
    int listen_fd;
    struct netaddr address;
    struct ring_op accept_op;
    struct client clients[CLIENTS];
    uint32_t clients_done;
    uint32_t sessions;
    uint32_t next_ball; /* what the other's next message must be */
    uint32_t balls_back;
    struct job jobs[JOBS];
    uint32_t jobs_done;
    struct shard_message done_message;
    uint32_t sides_done;
    bool told;
    struct ball *balls;
    struct timer give_up;
    uint64_t logged;
};

struct test {
    struct side sides[SHARDS];
    int listen_fds[SHARDS];
    struct netaddr address;
};

static uint8_t byte_at(uint32_t seed, uint64_t position)
{
    return (uint8_t)((position * 31 + (position >> 8) * 7 + seed) & 0xff);
}

static void look_whether_done(struct side *side);

/* ---- the echo -------------------------------------------------------------------------------- */

static void session_input(struct stream *stream)
{
    struct slice bytes;

    while ((bytes = stream_front(stream, NULL)).size > 0) {
        stream_write(stream, bytes);
        stream_consume(stream, bytes.size);
    }
    if (stream_unsent(stream) > OUTPUT_MAX / 2)
        stream_pause(stream);
}

static void session_drained(struct stream *stream)
{
    stream_resume(stream);
}

static void session_closed(struct stream *stream, int error)
{
    struct server_session *session = CONTAINER_OF(stream, struct server_session, stream);

    ASSERT(error == 0);
    session->side->sessions--;
    look_whether_done(session->side);
    free(session);
}

static const struct stream_ops session_ops = {
    .input = session_input, .drained = session_drained, .closed = session_closed};

static void accepted(struct ring_op *op)
{
    struct side *side = CONTAINER_OF(op, struct side, accept_op);
    struct server_session *session;

    if (op->result < 0) {
        ASSERT(op->result == -ECANCELED);
        return;
    }
    ASSERT(op->more);
    session = calloc(1, sizeof(*session));
    ASSERT(session != NULL);
    session->side = side;
    side->sessions++;
    stream_open(&session->stream, side->shard, op->result, &session_ops, OUTPUT_MAX);
}

/* ---- the clients ----------------------------------------------------------------------------- */

static void client_send(struct client *client)
{
    uint8_t bytes[CHUNK_BYTES];

    while (client->sent < CLIENT_BYTES && stream_unsent(&client->stream) < 4 * CHUNK_BYTES) {
        size_t size = MIN((uint64_t)sizeof(bytes), CLIENT_BYTES - client->sent);

        for (size_t i = 0; i < size; i++)
            bytes[i] = byte_at(client->seed, client->sent + i);
        stream_write(&client->stream, slice_of(bytes, size));
        client->sent += size;
    }
}

static void client_connected(struct stream *stream, int result)
{
    ASSERT(result == 0);
    client_send(CONTAINER_OF(stream, struct client, stream));
}

static void client_drained(struct stream *stream)
{
    client_send(CONTAINER_OF(stream, struct client, stream));
}

static void client_input(struct stream *stream)
{
    struct client *client = CONTAINER_OF(stream, struct client, stream);
    struct slice bytes;

    while ((bytes = stream_front(stream, NULL)).size > 0) {
        for (size_t i = 0; i < bytes.size; i++)
            ASSERT(bytes.data[i] == byte_at(client->seed, client->compared + i));
        client->compared += bytes.size;
        stream_consume(stream, bytes.size);
    }
    ASSERT(client->compared <= CLIENT_BYTES);
    if (client->compared == CLIENT_BYTES)
        stream_close_gracefully(stream);
}

static void client_closed(struct stream *stream, int error)
{
    struct client *client = CONTAINER_OF(stream, struct client, stream);

    ASSERT(error == 0);
    ASSERT(client->compared == CLIENT_BYTES);
    client->side->clients_done++;
    look_whether_done(client->side);
}

static const struct stream_ops client_ops = {.input = client_input,
                                             .drained = client_drained,
                                             .connected = client_connected,
                                             .closed = client_closed};

static void start_client(struct side *side, uint32_t index)
{
    struct client *client = &side->clients[index];
    int fd;

    client->side = side;
    client->seed = index + 1000 * side->shard->index;
    ASSERT(ring_socket(AF_INET, SOCK_STREAM, NULL, &fd) == 0);
    stream_connect(&client->stream, side->shard, fd, &side->address, &client_ops, OUTPUT_MAX);
}

/* ---- messages and jobs ----------------------------------------------------------------------- */

static void ball_is_back(struct shard *on, struct shard_message *message)
{
    struct ball *ball = CONTAINER_OF(message, struct ball, message);

    ASSERT(ball->home->shard == on);
    ASSERT(ball->number == ball->home->balls_back);
    log_event(on->log, LOG_INFO, "ball.back", log_u64("number", ball->number));
    ball->home->logged++;
    ball->home->balls_back++;
    look_whether_done(ball->home);
}

static void ball_is_there(struct shard *on, struct shard_message *message)
{
    struct ball *ball = CONTAINER_OF(message, struct ball, message);
    struct side *here = on->user;

    ASSERT(ball->number == here->next_ball);
    here->next_ball++;
    message->deliver = ball_is_back;
    shard_send(on, message->from, message);
}

static int compute(struct ring_op *op)
{
    struct job *job = CONTAINER_OF(op, struct job, op);

    job->output = job->input * 3 + 1;
    return (int)job->input;
}

static void computed(struct ring_op *op)
{
    struct job *job = CONTAINER_OF(op, struct job, op);

    ASSERT(op->result == (int)job->input);
    ASSERT(job->output == job->input * 3 + 1);
    job->side->jobs_done++;
    look_whether_done(job->side);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

static void side_is_done(struct shard *on, struct shard_message *message)
{
    struct side *side = on->user;

    (void)message;
    side->sides_done++;
    look_whether_done(side);
}

static void look_whether_done(struct side *side)
{
    if (!side->told && side->clients_done == CLIENTS && side->balls_back == MESSAGES &&
        side->jobs_done == JOBS) {
        side->told = true;
        side->done_message.deliver = side_is_done;
        shard_send(side->shard, (side->shard->index + 1) % SHARDS, &side->done_message);
    }
    if (!side->told || side->sides_done < 1 || side->sessions > 0)
        return;
    ring_cancel(side->shard->ring, &side->accept_op);
    shard_timer_disarm(side->shard, &side->give_up);
    shard_stop(side->shard);
}

static void gave_up(struct timer *timer)
{
    struct side *side = CONTAINER_OF(timer, struct side, give_up);

    fprintf(stderr, "shard %u: %u clients, %u balls, %u jobs done, %u sessions left\n",
            side->shard->index, side->clients_done, side->balls_back, side->jobs_done,
            side->sessions);
    abort();
}

static int start(struct shard *shard, void *context)
{
    struct test *test = context;
    struct side *side = &test->sides[shard->index];

    shard->user = side;
    side->shard = shard;
    side->listen_fd = test->listen_fds[shard->index];
    side->address = test->address;
    ring_op_init(&side->accept_op, accepted);
    ring_accept(shard->ring, &side->accept_op, side->listen_fd);
    for (uint32_t i = 0; i < CLIENTS; i++)
        start_client(side, i);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        side->balls[i].home = side;
        side->balls[i].number = i;
        side->balls[i].message.deliver = ball_is_there;
        shard_send(shard, (shard->index + 1) % SHARDS, &side->balls[i].message);
    }
    for (uint32_t i = 0; i < JOBS; i++) {
        struct job *job = &side->jobs[i];

        job->side = side;
        job->input = i;
        ring_op_init(&job->op, computed);
        ring_job(shard->ring, &job->op, i % 2 ? RING_JOB_FILE : RING_JOB_HASH, compute);
    }
    timer_init(&side->give_up, gave_up);
    shard_timer_arm(shard, &side->give_up, GIVE_UP_MS);
    return 0;
}

static void stop(struct shard *shard, void *context)
{
    struct side *side = shard->user;

    (void)context;
    while (ring_in_flight(shard->ring) > 0)
        shard_tick(shard, true);
    ASSERT(ring_buffers_free(shard->ring) == ring_buffers_total(shard->ring));
    fprintf(stderr, "shard %u: %llu ticks, %llu system calls; %s\n", shard->index,
            (unsigned long long)shard->ticks, (unsigned long long)ring_syscalls(shard->ring),
            ring_features(shard->ring)->text);
    ring_close(side->listen_fd);
}

static uint64_t count_lines(int fd)
{
    static char text[64 * KIB];
    uint64_t lines = 0;
    ssize_t size;

    ASSERT(lseek(fd, 0, SEEK_SET) == 0);
    while ((size = read(fd, text, sizeof(text))) > 0) {
        for (ssize_t i = 0; i < size; i++)
            lines += text[i] == '\n';
    }
    return lines;
}

/* Every event is a line or was counted as dropped; beyond that there are only the lines that
 * tell of drops. */
static void check_log(struct test *test, struct log **logs, int fd)
{
    uint64_t lines = count_lines(fd);
    uint64_t events = 0, dropped = 0;

    for (uint32_t i = 0; i < SHARDS; i++) {
        events += test->sides[i].logged;
        dropped += log_dropped(logs[i]);
        log_destroy(&logs[i]);
    }
    fprintf(stderr, "log: %llu events, %llu lines, %llu dropped\n", (unsigned long long)events,
            (unsigned long long)lines, (unsigned long long)dropped);
    ASSERT(events == SHARDS * MESSAGES);
    ASSERT(lines + dropped >= events);
    ASSERT(dropped > 0 || lines == events);
}

int main(void)
{
    struct test *test = calloc(1, sizeof(*test));
    struct log *logs[SHARDS];
    struct shard_params params = {
        .count = SHARDS, .logs = logs, .start = start, .stop = stop, .context = test};
    struct shard_group *group;
    struct log_writer *writer;
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    char text[512];
    int r;

    ASSERT(test != NULL);
    r = ring_probe("/proc/sys/kernel/io_uring_disabled", text, sizeof(text));
    fprintf(stderr, "probe: %d, %s\n", r, text);
    ASSERT(r == 0);
    ASSERT(netaddr_parse(SLICE("127.0.0.1"), 0, &test->address));
    for (uint32_t i = 0; i < SHARDS; i++) {
        ASSERT(ring_listen(&test->address, 512, 0, &test->listen_fds[i]) == 0);
        ASSERT(ring_local_address(test->listen_fds[i], &test->address) == 0);
        test->sides[i].balls = calloc(MESSAGES, sizeof(struct ball));
        ASSERT(test->sides[i].balls != NULL);
        ASSERT(log_create(256 * KIB, LOG_INFO, LOG_LOGFMT, &logs[i]) == 0);
    }
    ASSERT(log_writer_start(logs, SHARDS, log_fd, &writer) == 0);
    ASSERT(worker_pool_create(2, 1, &params.ring.workers) == 0);
    ASSERT(shard_group_start(&params, &group) == 0);
    shard_group_join(&group);
    worker_pool_destroy(&params.ring.workers);
    log_writer_stop(&writer);
    check_log(test, logs, log_fd);
    for (uint32_t i = 0; i < SHARDS; i++)
        free(test->sides[i].balls);
    free(test);
    return 0;
}
