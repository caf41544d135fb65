/* tests/sim/sim_echo_server.c - a small server that uses every part of the door, written like the product.
 *
 * A line is a command, its answer a line; commands of one session run one after the other.
 *     ECHO text   the same line
 *     ASK n       "OK n" after the next shard has been asked by a message
 *     BIG n       "BIG n", then n bytes 'x', then LF
 *     PUT n       "OK n" when a block with n is durable in the shard's log (O_DIRECT, RWF_DSYNC)
 *     FILE n      "OK n" when a file of that name is durable (a job: file and directory synced)
 */
#include "tests/sim/sim_echo.h"

#include "core/file.h"
#include "core/shard.h"
#include "core/stream.h"
#include "core/thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_BYTES 4096
#define LOG_BLOCKS 512
#define CHUNK_BYTES (64 * KIB)
#define OUTPUT_MAX (1024 * KIB)

struct echo_server {
    int dir_fd;
    struct worker_pool *workers;
    struct log *logs[ECHO_SHARDS_MAX];
    struct shard_group *group;
};

struct echo_node {
    struct echo_server *server;
    int listen_fd;
    struct ring_op accept_op;
    struct timer accept_again;
    struct shard *shard;
    int log_fd;
    uint64_t next_block;
};

struct echo_session {
    struct stream stream;
    struct echo_node *node;
    char line[160];
    size_t line_size;
    bool busy;
    uint64_t number;
    struct ring_op write_op, job_op;
    struct shard_message ask;
    uint8_t *block;
    struct stream_send big;
    char *big_bytes;
};

static struct echo_session *session_of(struct stream *stream)
{
    return CONTAINER_OF(stream, struct echo_session, stream);
}

static void session_free_when_idle(struct echo_session *session)
{
    if (session->busy || session->stream.fd >= 0)
        return;
    free(session->big_bytes);
    free(session->block);
    free(session);
}

/* ---- answers ---------------------------------------------------------------------------------- */

static void answer(struct echo_session *session, const char *word)
{
    char text[64];

    session->busy = false;
    if (session->stream.fd < 0) {
        session_free_when_idle(session);
        return;
    }
    if (word[0] == '\0')
        snprintf(text, sizeof(text), "\n");
    else
        snprintf(text, sizeof(text), "%s %llu\n", word, (unsigned long long)session->number);
    stream_write(&session->stream, slice_cstr(text));
    stream_resume(&session->stream);
}

static void write_done(struct ring_op *op)
{
    struct echo_session *session = CONTAINER_OF(op, struct echo_session, write_op);

    answer(session, op->result == BLOCK_BYTES ? "OK" : "NO");
}

static void put(struct echo_session *session)
{
    struct echo_node *node = session->node;

    if (node->next_block == LOG_BLOCKS) {
        answer(session, "NO");
        return;
    }
    memset(session->block, 0, BLOCK_BYTES);
    snprintf((char *)session->block, BLOCK_BYTES, "%llu\n", (unsigned long long)session->number);
    /* A torn block must be told from a whole one. */
    memcpy(session->block + BLOCK_BYTES - 32, session->block, 32);
    ring_write(node->shard->ring, &session->write_op, node->log_fd,
               slice_of(session->block, BLOCK_BYTES), node->next_block++ * BLOCK_BYTES, true);
}

static int file_job(struct ring_op *op)
{
    struct echo_session *session = CONTAINER_OF(op, struct echo_session, job_op);
    int dir_fd = session->node->server->dir_fd, fd, r;
    char name[32], tmp[32];

    snprintf(name, sizeof(name), "f%llu", (unsigned long long)session->number);
    snprintf(tmp, sizeof(tmp), "t%llu", (unsigned long long)session->number);
    r = file_open(dir_fd, tmp, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, 0600, &fd);
    if (r < 0)
        return r;
    r = file_write_all(fd, slice_cstr(name), 0);
    if (r == 0)
        r = file_sync(fd);
    (void)file_close(fd);
    if (r == 0)
        r = file_rename(dir_fd, tmp, dir_fd, name);
    if (r == 0)
        r = file_sync_dir(dir_fd);
    return r;
}

static void job_done(struct ring_op *op)
{
    struct echo_session *session = CONTAINER_OF(op, struct echo_session, job_op);

    answer(session, op->result == 0 ? "OK" : "NO");
}

static void ask_answered(struct shard *on, struct shard_message *message)
{
    (void)on;
    struct echo_session *session = CONTAINER_OF(message, struct echo_session, ask);

    answer(session, "OK");
}

static void ask_arrived(struct shard *on, struct shard_message *message)
{
    uint32_t from = message->from;

    message->deliver = ask_answered;
    shard_send(on, from, message);
}

static void big_sent(struct stream_send *send, int result)
{
    struct echo_session *session = CONTAINER_OF(send, struct echo_session, big);

    (void)result; /* when it failed the stream is closing, and answer() sees that */
    answer(session, "");
}

static void big(struct echo_session *session)
{
    size_t size = (size_t)session->number, pieces = 7;

    free(session->big_bytes);
    session->big_bytes = malloc(size + pieces);
    memset(session->big_bytes, 'x', size + pieces);
    session->big = (struct stream_send){.done = big_sent, .piece_count = (uint32_t)pieces};
    for (size_t i = 0; i < pieces; i++)
        session->big.pieces[i] =
            (struct iovec){session->big_bytes + i * (size / pieces),
                           i + 1 < pieces ? size / pieces : size - (pieces - 1) * (size / pieces)};
    stream_send_borrowed(&session->stream, &session->big);
}

/* ---- commands --------------------------------------------------------------------------------- */

static void run_line(struct echo_session *session)
{
    struct slice rest = slice_of(session->line, session->line_size), verb;
    struct shard *shard = session->node->shard;

    verb = slice_split(&rest, ' ');
    session->busy = true;
    if (slice_equal(verb, SLICE("ECHO"))) {
        session->busy = false;
        session->line[session->line_size] = '\n';
        stream_write(&session->stream, slice_of(session->line, session->line_size + 1));
    } else if (!slice_parse_u64(rest, 1000000, &session->number)) {
        stream_close(&session->stream, -EPROTO);
        session->busy = false;
    } else if (slice_equal(verb, SLICE("PUT"))) {
        put(session);
    } else if (slice_equal(verb, SLICE("FILE"))) {
        ring_job(shard->ring, &session->job_op, RING_JOB_FILE, file_job);
    } else if (slice_equal(verb, SLICE("ASK"))) {
        session->ask.deliver = ask_arrived;
        shard_send(shard, (shard->index + 1) % shard->count, &session->ask);
    } else {
        big(session);
    }
}

static void session_next(struct echo_session *session)
{
    struct stream *stream = &session->stream;

    while (!session->busy && !stream_is_closing(stream)) {
        struct slice front = stream_front(stream, NULL);
        size_t end = slice_find(front, '\n'), count;

        if (front.size == 0)
            return;
        count = end == SIZE_MAX ? front.size : end;
        if (session->line_size + count + 2 > sizeof(session->line)) {
            stream_close(stream, -EMSGSIZE);
            return;
        }
        memcpy(session->line + session->line_size, front.data, count);
        session->line_size += count;
        stream_consume(stream, end == SIZE_MAX ? count : count + 1);
        if (end == SIZE_MAX)
            continue;
        run_line(session);
        session->line_size = 0;
    }
}

static void on_input(struct stream *stream)
{
    session_next(session_of(stream));
}

static void on_closed(struct stream *stream, int error)
{
    (void)error;
    session_free_when_idle(session_of(stream));
}

static const struct stream_ops session_ops = {.input = on_input, .closed = on_closed};

/* ---- shards ----------------------------------------------------------------------------------- */

static void on_accept(struct ring_op *op)
{
    struct echo_node *node = CONTAINER_OF(op, struct echo_node, accept_op);
    struct echo_session *session;

    if (op->result >= 0) {
        session = calloc(1, sizeof(*session));
        ASSERT(session != NULL);
        ASSERT(posix_memalign((void **)&session->block, BLOCK_BYTES, BLOCK_BYTES) == 0);
        session->node = node;
        ring_op_init(&session->write_op, write_done);
        ring_op_init(&session->job_op, job_done);
        list_node_init(&session->ask.node);
        stream_open(&session->stream, node->shard, op->result, &session_ops, OUTPUT_MAX);
        stream_set_deadline(&session->stream, node->shard->now_ns + 120 * SECOND_NS);
    }
    if (!op->more)
        shard_timer_arm(node->shard, &node->accept_again, 100);
}

static void accept_again(struct timer *timer)
{
    struct echo_node *node = CONTAINER_OF(timer, struct echo_node, accept_again);

    ring_accept(node->shard->ring, &node->accept_op, node->listen_fd);
}

/* Where the last block that holds something ends, and a few more: a torn one may look empty. */
static int log_find_end(struct echo_node *node, int fd)
{
    uint8_t *bytes = malloc(CHUNK_BYTES);
    uint64_t end = 0;

    for (uint64_t at = 0; at < LOG_BLOCKS * BLOCK_BYTES; at += CHUNK_BYTES) {
        ssize_t count = file_read_some(fd, bytes, CHUNK_BYTES, at);

        if (count < 0) {
            free(bytes);
            return (int)count;
        }
        for (ssize_t i = 0; i < count; i += BLOCK_BYTES)
            if (bytes[i] != 0 || bytes[i + BLOCK_BYTES - 32] != 0)
                end = (at + (uint64_t)i) / BLOCK_BYTES + 1;
    }
    free(bytes);
    node->next_block = MIN(end == 0 ? 0 : end + 8, LOG_BLOCKS);
    return 0;
}

/* The log's blocks exist and are zero, or hold what was put. */
static int log_open(struct echo_node *node)
{
    static const uint8_t zeros[CHUNK_BYTES];
    struct file_info info;
    char name[32];
    int fd, r;

    snprintf(name, sizeof(name), "log-%u", node->shard->index);
    r = file_open(node->server->dir_fd, name, FILE_READ | FILE_WRITE | FILE_CREATE, 0600, &fd);
    if (r < 0)
        return r;
    r = file_info(fd, &info);
    for (uint64_t at = info.size_bytes / CHUNK_BYTES * CHUNK_BYTES;
         r == 0 && info.size_bytes < LOG_BLOCKS * BLOCK_BYTES && at < LOG_BLOCKS * BLOCK_BYTES;
         at += CHUNK_BYTES)
        r = file_write_all(fd, slice_of(zeros, CHUNK_BYTES), at);
    if (r == 0)
        r = file_sync(fd);
    if (r == 0)
        r = file_sync_dir(node->server->dir_fd);
    if (r == 0)
        r = log_find_end(node, fd);
    (void)file_close(fd);
    return r < 0 ? r
                 : file_open(node->server->dir_fd, name, FILE_READ | FILE_WRITE | FILE_DIRECT, 0,
                             &node->log_fd);
}

static int shard_start(struct shard *shard, void *context)
{
    struct echo_node *node = calloc(1, sizeof(*node));
    struct netaddr address;
    int r;

    ASSERT(node != NULL);
    node->server = context;
    node->shard = shard;
    shard->user = node;
    r = log_open(node);
    if (r < 0)
        return r;
    ASSERT(netaddr_parse(SLICE("0.0.0.0"), ECHO_PORT, &address));
    r = ring_listen(&address, 128, 0, &node->listen_fd);
    if (r < 0)
        return r;
    ring_op_init(&node->accept_op, on_accept);
    timer_init(&node->accept_again, accept_again);
    ring_accept(shard->ring, &node->accept_op, node->listen_fd);
    log_event(shard->log, LOG_NOTICE, "echo.started", log_u64("block", node->next_block));
    return 0;
}

static void shard_stopped(struct shard *shard, void *context)
{
    (void)shard;
    (void)context;
}

int echo_server_main(struct sim_process *process, void *context)
{
    struct echo_server *server = calloc(1, sizeof(*server));
    struct log_writer *writer;
    struct shard_params params = {.count = process->cpu_count,
                                  .ring = {.buffer_count = 16, .buffer_size_bytes = 1024},
                                  .start = shard_start,
                                  .stop = shard_stopped};
    int r;

    (void)context;
    ASSERT(server != NULL);
    r = file_open_dir_path(ECHO_DIRECTORY, &server->dir_fd);
    if (r == 0)
        r = worker_pool_create(2, 1, &server->workers);
    for (uint32_t i = 0; i < params.count && r == 0; i++)
        r = log_create(65536, LOG_INFO, LOG_LOGFMT, &server->logs[i]);
    if (r == 0)
        r = log_writer_start(server->logs, params.count, 2, &writer);
    if (r < 0)
        return r;
    params.ring.workers = server->workers;
    params.logs = server->logs;
    params.context = server;
    r = shard_group_start(&params, &server->group);
    if (r < 0)
        return r;
    shard_group_join(&server->group); /* until killed */
    return 0;
}
