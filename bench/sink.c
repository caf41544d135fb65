#include "bench/sink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/letter.h"
#include "bench/program.h"
#include "core/clock.h"
#include "core/stream.h"

#define IDS_MAX (64ull * 1024 * 1024) /* ids that are told apart: one bit each */
#define LINE_MAX_BYTES 1024
#define OUTPUT_MAX (64 * KIB)
#define ACCEPT_PAUSE_MS 100 /* after an accept that failed: descriptors may be free by then */
#define BACKLOG 4096

struct sink {
    const struct sink_options *options;
    struct shard *shard;
    struct ledger ledger;
    int listen_fd;
    struct ring_op accept_op;
    struct timer accept_pause;
    struct list_node guests;
    uint64_t tag;  /* of the latest load; ids are told apart within one */
    uint8_t *seen; /* one bit an id */
    bool stopping;
};

struct guest {
    struct sink *sink;
    struct list_node node;
    struct stream stream;
    bool in_letter;
    struct letter_check check;
    size_t line_size;
    uint8_t line[LINE_MAX_BYTES]; /* a command that came in pieces */
};

/* ---- a letter is complete -------------------------------------------------------------------- */

/* False when the id came before. */
static bool first_time(struct sink *sink, uint64_t tag, uint64_t id)
{
    uint8_t bit = (uint8_t)(1u << (id & 7));

    if (tag != sink->tag) {
        sink->tag = tag;
        memset(sink->seen, 0, IDS_MAX / 8);
    }
    if (id >= IDS_MAX)
        return true;
    if (sink->seen[id / 8] & bit)
        return false;
    sink->seen[id / 8] |= bit;
    return true;
}

static void count(atomic_uint_fast64_t *counter, uint64_t by)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed); /* we are the only writer */
}

static void count_letter(struct sink *sink, const struct letter_check *check)
{
    struct sink_counters *counters = sink->options->counters;
    const char *word = NULL;

    if (check->verdict == LETTER_FOREIGN) {
        count(&counters->foreign, 1);
    } else if (check->verdict == LETTER_ALTERED) {
        count(&counters->altered, 1);
        word = "altered";
    } else if (first_time(sink, check->tag, check->id)) {
        word = "ok";
    } else {
        count(&counters->twice, 1);
        word = "twice";
    }
    if (word != NULL)
        ledger_note(&sink->ledger, check->tag, check->id, word);
    count(&counters->letter_bytes, check->size_bytes);
    atomic_store_explicit(&counters->last_ns, sink->shard->now_ns, memory_order_relaxed);
    if (atomic_load_explicit(&counters->first_ns, memory_order_relaxed) == 0)
        atomic_store_explicit(&counters->first_ns, sink->shard->now_ns, memory_order_relaxed);
    if (word != NULL && word[0] == 'o') /* last: who sees the number sees the rest as well */
        atomic_fetch_add_explicit(&counters->distinct, 1, memory_order_release);
}

static void stop_listening(struct sink *sink);

static void end_letter(struct guest *guest)
{
    struct sink *sink = guest->sink;
    const struct sink_counters *counters = sink->options->counters;

    guest->in_letter = false;
    count_letter(sink, &guest->check);
    stream_write(&guest->stream, SLICE("250 2.0.0 taken\r\n"));
    if (sink->options->messages > 0 &&
        counters->distinct + counters->altered + counters->twice + counters->foreign >=
            sink->options->messages)
        stop_listening(sink);
}

/* ---- the dialogue ---------------------------------------------------------------------------- */

/* Every command is welcome in every order: the server under test is judged by what it delivers. */
static void answer(struct guest *guest, struct slice line)
{
    struct stream *stream = &guest->stream;

    switch (line.size == 0 ? 0 : byte_lower(line.data[0])) {
    case 'e':
        stream_write(stream,
                     guest->sink->options->pipelining
                         ? SLICE("250-sink.bench.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                         : SLICE("250-sink.bench.test\r\n250 8BITMIME\r\n"));
        break;
    case 'd':
        guest->in_letter = true;
        letter_check_init(&guest->check);
        stream_write(stream, SLICE("354 go on\r\n"));
        break;
    case 'q':
        stream_write(stream, SLICE("221 2.0.0 bye\r\n"));
        stream_close_gracefully(stream);
        break;
    default:
        stream_write(stream, SLICE("250 2.0.0 ok\r\n"));
        break;
    }
}

/* Takes one command from the input, which may hold a part of it only. */
static void take_command(struct guest *guest, struct slice *input)
{
    size_t end = slice_find(*input, '\n');
    struct slice line = slice_first(*input, end == SIZE_MAX ? input->size : end + 1);

    *input = slice_skip(*input, line.size);
    if (end != SIZE_MAX && guest->line_size == 0) {
        answer(guest, line);
        return;
    }
    if (guest->line_size + line.size > sizeof(guest->line)) {
        stream_write(&guest->stream, SLICE("500 5.5.6 line too long\r\n"));
        stream_close_gracefully(&guest->stream);
        return;
    }
    memcpy(guest->line + guest->line_size, line.data, line.size);
    guest->line_size += line.size;
    if (end != SIZE_MAX) {
        answer(guest, slice_of(guest->line, guest->line_size));
        guest->line_size = 0;
    }
}

static void guest_input(struct stream *stream)
{
    struct guest *guest = CONTAINER_OF(stream, struct guest, stream);
    struct slice front;

    while ((front = stream_front(stream, NULL)).size > 0) {
        struct slice input = front;

        while (input.size > 0 && !stream_is_closing(stream)) {
            if (!guest->in_letter)
                take_command(guest, &input);
            else if (letter_check_input(&guest->check, &input))
                end_letter(guest);
        }
        if (stream_is_closing(stream))
            return;
        stream_consume(stream, front.size);
    }
}

static void guest_closed(struct stream *stream, int error)
{
    struct guest *guest = CONTAINER_OF(stream, struct guest, stream);
    struct sink *sink = guest->sink;

    (void)error; /* what counts is what was delivered */
    list_remove(&guest->node);
    free(guest);
    if (sink->stopping && list_empty(&sink->guests) && !sink->accept_op.in_flight)
        shard_stop(sink->shard);
}

static const struct stream_ops guest_ops = {.input = guest_input, .closed = guest_closed};

/* ---- listening ------------------------------------------------------------------------------- */

static void welcome(struct sink *sink, int fd)
{
    struct guest *guest = calloc(1, sizeof(*guest));

    if (guest == NULL) {
        ring_close(fd);
        return;
    }
    guest->sink = sink;
    list_push_back(&sink->guests, &guest->node);
    count(&sink->options->counters->sessions, 1);
    stream_open(&guest->stream, sink->shard, fd, &guest_ops, OUTPUT_MAX);
    stream_write(&guest->stream, SLICE("220 sink.bench.test ESMTP\r\n"));
}

static void accepted(struct ring_op *op)
{
    struct sink *sink = CONTAINER_OF(op, struct sink, accept_op);

    if (op->result >= 0 && sink->stopping)
        ring_close(op->result);
    else if (op->result >= 0)
        welcome(sink, op->result);
    if (op->more)
        return;
    if (!sink->stopping)
        shard_timer_arm(sink->shard, &sink->accept_pause, op->result < 0 ? ACCEPT_PAUSE_MS : 0);
    else if (list_empty(&sink->guests))
        shard_stop(sink->shard);
}

static void accept_again(struct timer *timer)
{
    struct sink *sink = CONTAINER_OF(timer, struct sink, accept_pause);

    ring_accept(sink->shard->ring, &sink->accept_op, sink->listen_fd);
}

static void stop_listening(struct sink *sink)
{
    if (sink->stopping)
        return;
    sink->stopping = true;
    shard_timer_disarm(sink->shard, &sink->accept_pause);
    ring_cancel(sink->shard->ring, &sink->accept_op);
    list_for_each (node, &sink->guests)
        stream_close_gracefully(&CONTAINER_OF(node, struct guest, node)->stream);
    if (list_empty(&sink->guests) && !sink->accept_op.in_flight)
        shard_stop(sink->shard);
}

static void interrupted(struct shard *shard)
{
    const struct program *program = shard->user;
    struct sink *sink = program->context;

    if (!sink->stopping) {
        stop_listening(sink);
        return;
    }
    list_for_each (node, &sink->guests) /* told twice: at once */
        stream_close(&CONTAINER_OF(node, struct guest, node)->stream, -ECANCELED);
}

static int start(struct shard *shard, void *context)
{
    struct sink *sink = context;
    int r;

    sink->shard = shard;
    r = ring_listen(&sink->options->listen, BACKLOG, 0, &sink->listen_fd);
    if (r < 0)
        return r;
    r = ledger_open(&sink->ledger, shard, sink->options->ledger);
    if (r < 0) {
        ring_close(sink->listen_fd);
        return r;
    }
    ring_accept(shard->ring, &sink->accept_op, sink->listen_fd);
    atomic_store(&sink->options->counters->listens, true);
    return 0;
}

static void stop(struct shard *shard, void *context)
{
    struct sink *sink = context;

    (void)shard;
    ledger_close(&sink->ledger);
    ring_close(sink->listen_fd);
}

int sink_run(const struct sink_options *options)
{
    struct sink sink = {.options = options};
    struct program program = {
        .start = start, .stop = stop, .interrupted = interrupted, .context = &sink};
    int r;

    list_init(&sink.guests);
    ring_op_init(&sink.accept_op, accepted);
    timer_init(&sink.accept_pause, accept_again);
    sink.seen = calloc(IDS_MAX / 8, 1);
    if (sink.seen == NULL)
        return -ENOMEM;
    r = program_run(&program);
    free(sink.seen);
    return r;
}

/* ---- the subcommand -------------------------------------------------------------------------- */

static const char *const pipelining_choices[] = {"none", "pipelined", NULL};

static void print_counters(const struct sink_counters *counters)
{
    double seconds = (double)(counters->last_ns - counters->first_ns) / 1e9;

    printf("sink: %llu letters unaltered, %llu altered, %llu twice, %llu foreign; %llu sessions\n",
           (unsigned long long)counters->distinct, (unsigned long long)counters->altered,
           (unsigned long long)counters->twice, (unsigned long long)counters->foreign,
           (unsigned long long)counters->sessions);
    if (counters->distinct > 1 && seconds > 0)
        printf("sink: %.0f letters/s between the first and the last\n",
               (double)(counters->distinct - 1) / seconds);
}

int sink_main(int argc, char **argv)
{
    struct sink_counters counters = {.distinct = 0};
    struct sink_options options = {.counters = &counters};
    uint64_t pipelining = 1;
    const struct option_row rows[] = {
        {"--listen", OPTION_ADDRESS, &options.listen, 0, 0, NULL},
        {"--ledger", OPTION_TEXT, &options.ledger, 0, 0, NULL},
        {"--messages", OPTION_U64, &options.messages, 1, UINT64_MAX, NULL},
        {"--pipelining", OPTION_CHOICE, &pipelining, 0, 0, pipelining_choices},
        {.name = NULL}};
    char address[NETADDR_TEXT_SIZE];
    int r;

    if (!options_read(argc, argv, rows))
        return PROGRAM_USAGE;
    if (options.listen.size == 0) {
        fprintf(stderr, "kilat-bench sink: where? --listen ADDRESS:PORT\n");
        return PROGRAM_USAGE;
    }
    options.pipelining = pipelining == 1;
    r = sink_run(&options);
    if (r < 0) {
        netaddr_format(&options.listen, address);
        fprintf(stderr, "kilat-bench sink: listening on %s: %s\n", address, strerror(-r));
        return 1;
    }
    print_counters(&counters);
    return counters.altered == 0 ? 0 : 1;
}
