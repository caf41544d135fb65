#include "bench/floor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/program.h"
#include "core/assert.h"
#include "core/crc32c.h"

#define SEGMENT_BYTES (64 * MIB) /* written before, then written round and round */
#define BLOCK_BYTES 4096u        /* what O_DIRECT wants */
#define GROUP_BYTES (256 * KIB)
#define GROUP_COUNT 256u /* 64 MiB of letters may be undelivered; then the senders wait */
#define GROUP_LETTERS 256u
#define LETTER_PIECES 64u /* of received buffers; a letter is at most some hundred KiB */
#define TAIL_BYTES 6u     /* the longest ending that means something */
#define BACKLOG 4096
#define RECEIVE_BUFFERS 4096u

/* About what a server of ours puts in front. */
#define TRACE                                                                                      \
    "Received: from load.bench.test ([127.0.0.1])\r\n\tby floor.bench.test with ESMTP id "         \
    "0000000000000\r\n\tfor <sink@bench.test>; Thu, 01 Jan 2026 00:00:00 +0000\r\n"

struct floor_letter {
    struct list_node node;
    struct floor_group *group;
    struct inbound *from;
    uint32_t offset, size;
};

/* What becomes durable with one write, and is sent on from the same memory. */
struct floor_group {
    struct list_node node; /* in the list of free ones */
    struct floor *floor;
    struct ring_op write_op;
    uint8_t *data;
    size_t used_bytes;
    uint32_t letter_count;
    uint32_t undelivered;
    struct floor_letter letters[GROUP_LETTERS];
};

struct floor {
    struct shard *shard;
    struct netaddr listen, to;
    const char *directory;
    bool pipelined;
    uint64_t session_count; /* towards the next host */
    int listen_fd, segment_fd;
    struct ring_op accept_op;
    uint64_t segment_at;
    uint8_t *memory;
    struct floor_group *groups, *gathering;
    bool writing;
    struct list_node free_groups;
    struct list_node waiting;     /* struct inbound: no group had room */
    struct list_node undelivered; /* struct floor_letter */
    struct list_node idle;        /* struct outbound */
    struct shard_task commit;
};

struct inbound {
    struct list_node node; /* while it waits for room */
    struct floor *floor;
    int fd;
    struct ring_op receive_op, send_op;
    struct slice unsent; /* a reply that came while one was being sent */
    bool greeted, in_letter, in_group, gone;
    uint8_t tail[TAIL_BYTES];
    uint32_t piece_count;
    size_t letter_bytes;
    struct {
        struct ring_buffer *buffer;
        uint32_t size;
    } pieces[LETTER_PIECES];
};

enum outbound_stage { GREETING, HELLO, IDLE, MAIL, RCPT, DATA, LETTER };
struct outbound {
    struct list_node node;
    struct floor *floor;
    int fd;
    struct ring_op receive_op, send_op;
    enum outbound_stage stage;
    uint32_t lines_wanted;
    struct floor_letter *letter;
    struct iovec pieces[2];
};

static void die(const char *what, int error)
{
    fprintf(stderr, "kilat-bench floor: %s: %s\n", what, strerror(-error));
    _exit(1);
}

/* ---- towards the next host ------------------------------------------------------------------- */

static void say(struct outbound *out, struct slice bytes, enum outbound_stage stage, uint32_t lines)
{
    out->stage = stage;
    out->lines_wanted = lines;
    ring_send(out->floor->shard->ring, &out->send_op, out->fd, bytes);
}

static void send_letter(struct outbound *out)
{
    struct floor_letter *letter = out->letter;

    out->stage = LETTER;
    out->lines_wanted = 1;
    out->pieces[0] = (struct iovec){(void *)(uintptr_t)TRACE, sizeof(TRACE) - 1};
    out->pieces[1] = (struct iovec){letter->group->data + letter->offset, letter->size};
    ring_send_vec(out->floor->shard->ring, &out->send_op, out->fd, out->pieces, 2);
}

static void next_letter(struct outbound *out)
{
    struct floor *floor = out->floor;
    struct list_node *node = list_pop_front(&floor->undelivered);

    if (node == NULL) {
        out->stage = IDLE;
        list_push_back(&floor->idle, &out->node);
        return;
    }
    out->letter = CONTAINER_OF(node, struct floor_letter, node);
    if (floor->pipelined)
        say(out, SLICE("MAIL FROM:<load@bench.test>\r\nRCPT TO:<sink@bench.test>\r\nDATA\r\n"),
            DATA, 3);
    else
        say(out, SLICE("MAIL FROM:<load@bench.test>\r\n"), MAIL, 1);
}

static void admit_waiting(struct floor *floor);

static void letter_is_delivered(struct floor_letter *letter)
{
    struct floor_group *group = letter->group;

    if (--group->undelivered > 0)
        return;
    group->used_bytes = 0;
    group->letter_count = 0;
    list_push_front(&group->floor->free_groups, &group->node); /* its memory is in the cache */
    admit_waiting(group->floor);
}

static void take_replies(struct outbound *out)
{
    switch (out->stage) {
    case GREETING:
        say(out, SLICE("EHLO floor.bench.test\r\n"), HELLO, out->floor->pipelined ? 3 : 2);
        break;
    case LETTER:
        letter_is_delivered(out->letter);
        next_letter(out);
        break;
    case HELLO:
        next_letter(out);
        break;
    case MAIL:
        say(out, SLICE("RCPT TO:<sink@bench.test>\r\n"), RCPT, 1);
        break;
    case RCPT:
        say(out, SLICE("DATA\r\n"), DATA, 1);
        break;
    case DATA:
        send_letter(out);
        break;
    case IDLE:
        die("the next host speaks unasked", -EPROTO);
    }
}

static void out_received(struct ring_op *op)
{
    struct outbound *out = CONTAINER_OF(op, struct outbound, receive_op);
    uint32_t lines = 0;

    if (op->result == -ENOBUFS) {
        ring_receive(out->floor->shard->ring, &out->receive_op, out->fd);
        return;
    }
    if (op->result <= 0)
        die("the next host", op->result == 0 ? -ECONNRESET : op->result);
    for (int32_t i = 0; i < op->result; i++)
        lines += op->buffer->data[i] == '\n';
    ring_buffer_unref(op->buffer);
    if (!op->more)
        ring_receive(out->floor->shard->ring, &out->receive_op, out->fd);
    if (lines > out->lines_wanted)
        die("the next host says more than it should", -EPROTO);
    out->lines_wanted -= lines;
    if (lines > 0 && out->lines_wanted == 0)
        take_replies(out);
}

static void out_sent(struct ring_op *op)
{
    if (op->result < 0)
        die("sending to the next host", op->result);
}

static void out_connected(struct ring_op *op)
{
    struct outbound *out = CONTAINER_OF(op, struct outbound, send_op);

    if (op->result < 0)
        die("connecting to the next host", op->result);
    ring_op_init(&out->send_op, out_sent);
    ring_op_init(&out->receive_op, out_received);
    out->lines_wanted = 1;
    ring_receive(out->floor->shard->ring, &out->receive_op, out->fd);
}

static void open_outbound(struct floor *floor)
{
    struct outbound *out = calloc(1, sizeof(*out));
    int r =
        out == NULL ? -ENOMEM : ring_socket(floor->to.any.sa_family, SOCK_STREAM, NULL, &out->fd);

    if (r < 0)
        die("a session to the next host", r);
    out->floor = floor;
    list_node_init(&out->node);
    ring_op_init(&out->send_op, out_connected);
    ring_connect(floor->shard->ring, &out->send_op, out->fd, &floor->to);
}

/* ---- durable --------------------------------------------------------------------------------- */

static void reply(struct inbound *in, struct slice bytes);

static void written(struct ring_op *op)
{
    struct floor_group *group = CONTAINER_OF(op, struct floor_group, write_op);
    struct floor *floor = group->floor;

    if (op->result < 0)
        die("writing the segment", op->result);
    floor->writing = false;
    for (uint32_t i = 0; i < group->letter_count; i++) {
        struct floor_letter *letter = &group->letters[i];
        struct list_node *node = list_pop_front(&floor->idle);

        letter->from->in_group = false;
        reply(letter->from, SLICE("250 2.0.0 Queued as 0000000000000\r\n"));
        list_push_back(&floor->undelivered, &letter->node);
        if (node != NULL)
            next_letter(CONTAINER_OF(node, struct outbound, node));
    }
    if (floor->gathering != NULL)
        shard_defer(floor->shard, &floor->commit);
}

/* At the end of a tick: one group in flight, the next gathers meanwhile. */
static void commit(struct shard_task *task)
{
    struct floor *floor = CONTAINER_OF(task, struct floor, commit);
    struct floor_group *group = floor->gathering;
    size_t size;

    if (floor->writing || group == NULL)
        return;
    floor->gathering = NULL;
    floor->writing = true;
    size = ROUND_UP(group->used_bytes, BLOCK_BYTES);
    memset(group->data + group->used_bytes, 0, size - group->used_bytes);
    if (floor->segment_at + size > SEGMENT_BYTES)
        floor->segment_at = 0;
    ring_write(floor->shard->ring, &group->write_op, floor->segment_fd, slice_of(group->data, size),
               floor->segment_at, true);
    floor->segment_at += size;
    admit_waiting(floor);
}

static struct floor_group *group_with_room(struct floor *floor, size_t size)
{
    struct floor_group *group = floor->gathering;
    struct list_node *node;

    if (group != NULL)
        return group->letter_count < GROUP_LETTERS && group->used_bytes + size <= GROUP_BYTES
                   ? group
                   : NULL;
    node = list_pop_front(&floor->free_groups);
    floor->gathering = node == NULL ? NULL : CONTAINER_OF(node, struct floor_group, node);
    return floor->gathering;
}

/* A whole letter has come: the one copy, with its checksum. False when there is no room. */
static bool gather(struct inbound *in)
{
    struct floor *floor = in->floor;
    struct floor_group *group = group_with_room(floor, in->letter_bytes + sizeof(uint32_t));
    struct floor_letter *letter;
    uint64_t copied = 0;
    uint32_t sum = 0;

    if (group == NULL)
        return false;
    letter = &group->letters[group->letter_count++];
    *letter = (struct floor_letter){.group = group,
                                    .from = in,
                                    .offset = (uint32_t)group->used_bytes,
                                    .size = (uint32_t)in->letter_bytes};
    list_node_init(&letter->node);
    group->undelivered++;
    for (uint32_t i = 0; i < in->piece_count; i++) {
        sum = crc32c_copy(sum, group->data + group->used_bytes,
                          slice_of(in->pieces[i].buffer->data, in->pieces[i].size), &copied);
        group->used_bytes += in->pieces[i].size;
        ring_buffer_unref(in->pieces[i].buffer);
    }
    memcpy(group->data + group->used_bytes, &sum, sizeof(sum));
    group->used_bytes += sizeof(sum);
    in->piece_count = 0;
    in->letter_bytes = 0;
    in->in_group = true;
    shard_defer(floor->shard, &floor->commit);
    return true;
}

/* In the order in which they came, as far as there is room. */
static void admit_waiting(struct floor *floor)
{
    while (!list_empty(&floor->waiting)) {
        struct inbound *in = CONTAINER_OF(floor->waiting.next, struct inbound, node);

        if (!gather(in))
            return;
        list_remove(&in->node);
    }
}

/* ---- from the load --------------------------------------------------------------------------- */

static void end_inbound(struct inbound *in)
{
    if (in->receive_op.in_flight || in->send_op.in_flight || in->in_group || list_linked(&in->node))
        return;
    for (uint32_t i = 0; i < in->piece_count; i++)
        ring_buffer_unref(in->pieces[i].buffer);
    ring_close(in->fd);
    free(in);
}

static void reply(struct inbound *in, struct slice bytes)
{
    if (in->gone)
        end_inbound(in);
    else if (in->send_op.in_flight)
        in->unsent = bytes;
    else
        ring_send(in->floor->shard->ring, &in->send_op, in->fd, bytes);
}

static void in_sent(struct ring_op *op)
{
    struct inbound *in = CONTAINER_OF(op, struct inbound, send_op);
    struct slice next = in->unsent;

    in->unsent = SLICE_NONE;
    if (in->gone)
        end_inbound(in);
    else if (next.size > 0)
        ring_send(in->floor->shard->ring, &in->send_op, in->fd, next);
}

static bool ends_with(const struct inbound *in, struct slice what)
{
    return memcmp(in->tail + TAIL_BYTES - what.size, what.data, what.size) == 0;
}

static void keep_tail(struct inbound *in, struct slice bytes)
{
    size_t count = MIN(bytes.size, TAIL_BYTES);

    memmove(in->tail, in->tail + count, TAIL_BYTES - count);
    memcpy(in->tail + TAIL_BYTES - count, bytes.data + bytes.size - count, count);
}

static void take_letter_piece(struct inbound *in, struct ring_buffer *buffer, uint32_t size)
{
    if (in->piece_count == LETTER_PIECES || in->letter_bytes + size > GROUP_BYTES / 2)
        die("a letter too large for this floor", -EMSGSIZE);
    in->pieces[in->piece_count].buffer = buffer;
    in->pieces[in->piece_count++].size = size;
    in->letter_bytes += size;
    if (!ends_with(in, SLICE("\r\n.\r\n")))
        return;
    in->in_letter = false;
    list_push_back(&in->floor->waiting, &in->node);
    admit_waiting(in->floor);
}

static void take_commands(struct inbound *in, struct slice bytes)
{
    bool pipelined = in->floor->pipelined;

    if (!ends_with(in, SLICE("\r\n")))
        return;
    if (ends_with(in, SLICE("DATA\r\n"))) {
        in->in_letter = true;
        reply(in, pipelined ? SLICE("250 2.1.0 Sender accepted\r\n250 2.1.5 Recipient accepted\r\n"
                                    "354 Send the message, end with a dot\r\n")
                            : SLICE("354 Send the message, end with a dot\r\n"));
    } else if (!in->greeted) {
        in->greeted = true;
        reply(in, SLICE("250-floor.bench.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n"));
    } else {
        reply(in,
              bytes.data[0] == 'Q' ? SLICE("221 2.0.0 Bye\r\n") : SLICE("250 2.1.0 Accepted\r\n"));
    }
}

static void in_received(struct ring_op *op)
{
    struct inbound *in = CONTAINER_OF(op, struct inbound, receive_op);
    struct ring_buffer *buffer = op->buffer;
    struct slice bytes;

    if (op->result == -ENOBUFS) {
        ring_receive(in->floor->shard->ring, &in->receive_op, in->fd);
        return;
    }
    if (op->result <= 0) {
        in->gone = true;
        end_inbound(in);
        return;
    }
    bytes = slice_of(buffer->data, (size_t)op->result);
    keep_tail(in, bytes);
    if (!op->more)
        ring_receive(in->floor->shard->ring, &in->receive_op, in->fd);
    if (in->in_letter) {
        take_letter_piece(in, buffer, (uint32_t)op->result);
    } else {
        take_commands(in, bytes);
        ring_buffer_unref(buffer);
    }
}

static void accepted(struct ring_op *op)
{
    struct floor *floor = CONTAINER_OF(op, struct floor, accept_op);
    struct inbound *in;

    if (op->result < 0)
        die("accept", op->result);
    if (!op->more)
        ring_accept(floor->shard->ring, &floor->accept_op, floor->listen_fd);
    in = calloc(1, sizeof(*in));
    if (in == NULL)
        die("a session", -ENOMEM);
    in->floor = floor;
    in->fd = op->result;
    list_node_init(&in->node);
    ring_op_init(&in->receive_op, in_received);
    ring_op_init(&in->send_op, in_sent);
    ring_receive(floor->shard->ring, &in->receive_op, in->fd);
    reply(in, SLICE("220 floor.bench.test ESMTP\r\n"));
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int prepare_segment(struct floor *floor)
{
    char path[4096];
    int r = 0;

    snprintf(path, sizeof(path), "%s/floor-segment", floor->directory);
    floor->segment_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
    if (floor->segment_fd < 0)
        return -errno;
    (void)unlink(path); /* goes with us */
    for (uint64_t at = 0; r == 0 && at < SEGMENT_BYTES; at += GROUP_BYTES)
        if (pwrite(floor->segment_fd, floor->memory, GROUP_BYTES, (off_t)at) !=
            (ssize_t)GROUP_BYTES)
            r = -EIO;
    return r == 0 && fsync(floor->segment_fd) < 0 ? -errno : r;
}

static void prepare_groups(struct floor *floor)
{
    for (uint32_t i = 0; i < GROUP_COUNT; i++) {
        struct floor_group *group = &floor->groups[i];

        group->floor = floor;
        group->data = floor->memory + (size_t)i * GROUP_BYTES;
        list_node_init(&group->node);
        ring_op_init(&group->write_op, written);
        list_push_back(&floor->free_groups, &group->node);
    }
}

static int start(struct shard *shard, void *context)
{
    struct floor *floor = context;
    int r;

    floor->shard = shard;
    floor->memory = aligned_alloc(BLOCK_BYTES, GROUP_COUNT * GROUP_BYTES);
    floor->groups = calloc(GROUP_COUNT, sizeof(*floor->groups));
    if (floor->memory == NULL || floor->groups == NULL)
        return -ENOMEM;
    memset(floor->memory, 0, GROUP_COUNT * GROUP_BYTES);
    r = prepare_segment(floor);
    if (r < 0)
        return r;
    prepare_groups(floor);
    r = ring_listen(&floor->listen, BACKLOG, 0, &floor->listen_fd);
    if (r < 0)
        return r;
    for (uint64_t i = 0; i < floor->session_count; i++)
        open_outbound(floor);
    ring_accept(shard->ring, &floor->accept_op, floor->listen_fd);
    return 0;
}

static void interrupted(struct shard *shard)
{
    (void)shard;
    _exit(0); /* there is nothing that would outlive it */
}

static const char *const pipelining_choices[] = {"none", "pipelined", NULL};

int floor_main(int argc, char **argv)
{
    struct floor floor = {.session_count = 20};
    struct program program = {.start = start,
                              .interrupted = interrupted,
                              .context = &floor,
                              .buffer_count = RECEIVE_BUFFERS};
    uint64_t pipelining = 1;
    const struct option_row rows[] = {
        {"--listen", OPTION_ADDRESS, &floor.listen, 0, 0, NULL},
        {"--to", OPTION_ADDRESS, &floor.to, 0, 0, NULL},
        {"--directory", OPTION_TEXT, &floor.directory, 0, 0, NULL},
        {"--sessions", OPTION_U64, &floor.session_count, 1, 10000, NULL},
        {"--pipelining", OPTION_CHOICE, &pipelining, 0, 0, pipelining_choices},
        {.name = NULL}};
    int r;

    if (!options_read(argc, argv, rows))
        return PROGRAM_USAGE;
    if (floor.listen.size == 0 || floor.to.size == 0 || floor.directory == NULL) {
        fprintf(stderr, "kilat-bench floor: it needs --listen, --to and --directory\n");
        return PROGRAM_USAGE;
    }
    floor.pipelined = pipelining == 1;
    list_init(&floor.free_groups);
    list_init(&floor.waiting);
    list_init(&floor.undelivered);
    list_init(&floor.idle);
    ring_op_init(&floor.accept_op, accepted);
    shard_task_init(&floor.commit, commit);
    r = program_run(&program);
    if (r < 0)
        die("starting", r);
    return 0;
}
