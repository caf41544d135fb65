#include "bench/load_smtp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/letter.h"
#include "bench/program.h"
#include "core/clock.h"
#include "core/stream.h"

#define REPLY_MAX 2048
#define PATIENCE_NS (60 * SECOND_NS) /* for any answer */
#define PAUSE_MS 100                 /* before a session that broke is opened anew */
#define FAILURES_MAX 100             /* in a row, over all sessions: then nobody is there */
#define PROGRESS_MS 1000

/* The answer that a session waits for. */
enum load_wait {
    WAIT_GREETING,
    WAIT_EHLO,
    WAIT_MAIL,
    WAIT_RCPT,
    WAIT_DATA,
    WAIT_END,
    WAIT_QUIT,
};

struct load {
    const struct load_options *options;
    struct load_result *result;
    struct shard *shard;
    struct ledger ledger;
    struct letter_form form;
    struct load_session *sessions;
    uint64_t issued;   /* letters begun */
    uint64_t open;     /* sessions that are not over */
    uint64_t in_a_row; /* failures since the last success */
    bool stopping;
    struct timer time_up, progress;
    uint64_t shown_accepted; /* by the last line of progress */
};

struct load_session {
    struct load *load;
    struct stream stream;
    struct timer pause;
    enum load_wait wait;
    uint64_t number;
    uint64_t letters; /* of this connection */
    uint64_t id;
    uint64_t begun_ns;
    bool refused; /* a command of this transaction was */
    bool left;    /* by us, after a refusal */
    bool in_transaction;
    bool over;
    size_t reply_size; /* of a line that came in pieces */
    char reply[REPLY_MAX];
};

/* ---- what goes out --------------------------------------------------------------------------- */

/* Writes PATTERN with its numbers. */
static void write_pattern(struct load_session *session, const char *pattern)
{
    for (const char *at = pattern; *at != 0;) {
        size_t plain = strcspn(at, "%");
        char number[24];

        stream_write(&session->stream, slice_of(at, plain));
        at += plain;
        if (*at == 0)
            return;
        if (at[1] == 'n' || at[1] == 's') {
            int size = snprintf(number, sizeof(number), "%llu",
                                (unsigned long long)(at[1] == 'n' ? session->id : session->number));

            stream_write(&session->stream, slice_of(number, (size_t)size));
            at += 2;
        } else {
            stream_write(&session->stream, SLICE("%"));
            at += at[1] == '%' ? 2 : 1;
        }
    }
}

static void write_mail(struct load_session *session)
{
    stream_write(&session->stream, SLICE("MAIL FROM:<"));
    write_pattern(session, session->load->options->from);
    stream_write(&session->stream, SLICE(">\r\n"));
}

static void write_rcpt(struct load_session *session)
{
    stream_write(&session->stream, SLICE("RCPT TO:<"));
    write_pattern(session, session->load->options->rcpt);
    stream_write(&session->stream, SLICE(">\r\n"));
}

static void write_data(struct load_session *session)
{
    stream_write(&session->stream, SLICE("DATA\r\n"));
}

static void quit(struct load_session *session)
{
    stream_write(&session->stream, SLICE("QUIT\r\n"));
    session->wait = WAIT_QUIT;
}

static bool letters_are_left(const struct load *load)
{
    return !load->stopping &&
           (load->options->messages == 0 || load->issued < load->options->messages);
}

/* The next transaction, or the end of the session. */
static void begin_letter(struct load_session *session)
{
    struct load *load = session->load;
    uint64_t most = load->options->messages_per_session;

    if (!letters_are_left(load) || (most > 0 && session->letters >= most)) {
        quit(session);
        return;
    }
    session->id = load->options->first_id + load->issued++;
    session->letters++;
    session->refused = false;
    session->in_transaction = true;
    session->wait = WAIT_MAIL;
    session->begun_ns = clock_monotonic_ns();
    write_mail(session);
    if (load->options->pipelined) {
        write_rcpt(session);
        write_data(session);
    }
}

/* ---- what comes back ------------------------------------------------------------------------- */

static void note_trouble(struct load *load, const char *what, struct slice reply)
{
    char *to = load->result->first_trouble;

    if (to[0] == 0)
        snprintf(to, sizeof(load->result->first_trouble), "%s: %.*s", what,
                 (int)MIN(reply.size, 200), (const char *)reply.data);
}

static void end_letter(struct load_session *session, bool accepted, struct slice reply)
{
    struct load *load = session->load;

    session->in_transaction = false;
    if (accepted) {
        histogram_record(&load->result->accept_ns, clock_monotonic_ns() - session->begun_ns);
        load->result->accepted++;
        load->in_a_row = 0;
        ledger_note(&load->ledger, load->options->tag, session->id, "250");
    } else {
        load->result->refused++;
        note_trouble(load, "a letter was refused", reply);
    }
}

/* After a refusal the session is left: who refuses is not being measured, but may recover. */
static void leave(struct load_session *session)
{
    session->left = true;
    session->load->in_a_row++;
    stream_close_gracefully(&session->stream);
}

static void give_up_letter(struct load_session *session, struct slice reply)
{
    end_letter(session, false, reply);
    leave(session);
}

static void take_data_reply(struct load_session *session, bool go_on, struct slice reply)
{
    if (!go_on || session->refused) {
        give_up_letter(session, reply);
        return;
    }
    stream_write(&session->stream, letter_write(&session->load->form, session->id));
    session->wait = WAIT_END;
}

static void take_command_reply(struct load_session *session, bool good, struct slice reply)
{
    bool pipelined = session->load->options->pipelined;

    if (!good) {
        note_trouble(session->load, "a command was refused", reply);
        session->refused = true;
        if (!pipelined) {
            give_up_letter(session, reply);
            return;
        }
    }
    session->wait++;
    if (pipelined)
        return;
    if (session->wait == WAIT_RCPT)
        write_rcpt(session);
    else
        write_data(session);
}

static void take_reply(struct load_session *session, struct slice reply)
{
    char class = (char)reply.data[0];

    switch (session->wait) {
    case WAIT_GREETING:
        if (class != '2')
            break;
        stream_write(&session->stream, SLICE("EHLO load.bench.test\r\n"));
        session->wait = WAIT_EHLO;
        return;
    case WAIT_EHLO:
        if (class != '2')
            break;
        begin_letter(session);
        return;
    case WAIT_MAIL:
    case WAIT_RCPT:
        take_command_reply(session, class == '2', reply);
        return;
    case WAIT_DATA:
        take_data_reply(session, class == '3', reply);
        return;
    case WAIT_END:
        end_letter(session, class == '2', reply);
        begin_letter(session);
        return;
    case WAIT_QUIT:
        stream_close_gracefully(&session->stream);
        return;
    }
    note_trouble(session->load, "a session was refused", reply);
    leave(session);
}

/* A line, whole and without its end; only the last one of a reply matters. */
static void take_line(struct load_session *session, struct slice line)
{
    if (line.size > 0 && line.data[line.size - 1] == '\r')
        line.size--;
    if (line.size >= 3 && (line.size == 3 || line.data[3] != '-'))
        take_reply(session, line);
}

static void take_piece(struct load_session *session, struct slice piece, bool whole)
{
    if (session->reply_size == 0 && whole) {
        take_line(session, piece);
        return;
    }
    piece = slice_first(piece, sizeof(session->reply) - session->reply_size);
    memcpy(session->reply + session->reply_size, piece.data, piece.size);
    session->reply_size += piece.size;
    if (whole) {
        size_t size = session->reply_size;

        session->reply_size = 0;
        take_line(session, slice_of(session->reply, size));
    }
}

static void session_input(struct stream *stream)
{
    struct load_session *session = CONTAINER_OF(stream, struct load_session, stream);
    struct slice front;

    while ((front = stream_front(stream, NULL)).size > 0) {
        struct slice rest = front;

        while (rest.size > 0 && !stream_is_closing(stream)) {
            size_t end = slice_find(rest, '\n');
            struct slice piece = slice_first(rest, end);

            rest = slice_skip(rest, end == SIZE_MAX ? rest.size : end + 1);
            take_piece(session, piece, end != SIZE_MAX);
        }
        if (stream_is_closing(stream))
            return;
        stream_consume(stream, front.size);
    }
    if (!stream_is_closing(stream))
        stream_set_deadline(stream, session->load->shard->now_ns + PATIENCE_NS);
}

/* ---- sessions -------------------------------------------------------------------------------- */

static void end_session(struct load_session *session)
{
    struct load *load = session->load;

    session->over = true;
    if (--load->open > 0)
        return;
    shard_timer_disarm(load->shard, &load->time_up);
    shard_timer_disarm(load->shard, &load->progress);
    load->result->ended_ns = clock_monotonic_ns();
    shard_stop(load->shard);
}

static void session_closed(struct stream *stream, int error)
{
    struct load_session *session = CONTAINER_OF(stream, struct load_session, stream);
    struct load *load = session->load;
    bool broke = session->wait != WAIT_QUIT && !session->left;

    if (session->in_transaction)
        load->result->unknown++;
    session->in_transaction = false;
    if (broke) {
        load->result->failures++;
        load->in_a_row++;
        note_trouble(load, "a session broke",
                     error < 0 ? slice_cstr(strerror(-error)) : SLICE("closed by the server"));
    }
    if (load->in_a_row > FAILURES_MAX && letters_are_left(load)) {
        load->result->given_up = true;
        load->stopping = true;
    }
    if (letters_are_left(load))
        shard_timer_arm(load->shard, &session->pause, broke || session->left ? PAUSE_MS : 0);
    else
        end_session(session);
}

static const struct stream_ops session_ops = {.input = session_input, .closed = session_closed};

static void open_session(struct timer *timer)
{
    struct load_session *session = CONTAINER_OF(timer, struct load_session, pause);
    struct load *load = session->load;
    const struct netaddr *to = &load->options->to;
    int fd, r;

    if (!letters_are_left(load)) {
        end_session(session);
        return;
    }
    r = ring_socket(to->any.sa_family, SOCK_STREAM, NULL, &fd);
    if (r < 0) {
        note_trouble(load, "no socket", slice_cstr(strerror(-r)));
        load->result->given_up = true;
        load->stopping = true;
        end_session(session);
        return;
    }
    session->wait = WAIT_GREETING;
    session->letters = 0;
    session->left = false;
    session->reply_size = 0;
    load->result->sessions++;
    stream_connect(&session->stream, load->shard, fd, to, &session_ops,
                   load->form.wire_bytes + 64 * KIB);
    stream_set_deadline(&session->stream, load->shard->now_ns + PATIENCE_NS);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Transactions under way are finished, then every session says QUIT. */
static void wind_up(struct load *load)
{
    load->stopping = true;
    for (uint64_t i = 0; i < load->options->sessions; i++) {
        struct load_session *session = &load->sessions[i];

        if (timer_armed(&session->pause)) {
            shard_timer_disarm(load->shard, &session->pause);
            end_session(session);
        }
    }
}

static void time_is_up(struct timer *timer)
{
    wind_up(CONTAINER_OF(timer, struct load, time_up));
}

static void interrupted(struct shard *shard)
{
    const struct program *program = shard->user;
    struct load *load = program->context;

    if (!load->stopping) {
        wind_up(load);
        return;
    }
    for (uint64_t i = 0; i < load->options->sessions; i++) /* told twice: at once */
        if (!load->sessions[i].over)
            stream_close(&load->sessions[i].stream, -ECANCELED);
}

static void show_progress(struct timer *timer)
{
    struct load *load = CONTAINER_OF(timer, struct load, progress);
    const struct load_result *result = load->result;

    fprintf(stderr, "load: %llu accepted, %llu/s, p99 %.2f ms, %llu refused, %llu broken\n",
            (unsigned long long)result->accepted,
            (unsigned long long)(result->accepted - load->shown_accepted),
            (double)histogram_percentile(&result->accept_ns, 99) / 1e6,
            (unsigned long long)result->refused, (unsigned long long)result->failures);
    load->shown_accepted = result->accepted;
    shard_timer_arm(load->shard, timer, PROGRESS_MS);
}

static int start(struct shard *shard, void *context)
{
    struct load *load = context;
    int r;

    load->shard = shard;
    r = ledger_open(&load->ledger, shard, load->options->ledger);
    if (r < 0)
        return r;
    load->result->started_ns = clock_monotonic_ns();
    load->open = load->options->sessions;
    for (uint64_t i = 0; i < load->options->sessions; i++) {
        struct load_session *session = &load->sessions[i];

        session->load = load;
        session->number = i;
        timer_init(&session->pause, open_session);
        shard_timer_arm(shard, &session->pause, 0);
    }
    if (load->options->seconds > 0)
        shard_timer_arm(shard, &load->time_up, load->options->seconds * SECOND_MS);
    if (load->options->progress)
        shard_timer_arm(shard, &load->progress, PROGRESS_MS);
    return 0;
}

static void stop(struct shard *shard, void *context)
{
    struct load *load = context;

    (void)shard;
    ledger_close(&load->ledger);
}

int load_run(const struct load_options *options, struct load_result *ret_result)
{
    struct load load = {.options = options, .result = ret_result};
    struct program program = {
        .start = start, .stop = stop, .interrupted = interrupted, .context = &load};
    int r;

    *ret_result = (struct load_result){.started_ns = 0};
    histogram_init(&ret_result->accept_ns);
    timer_init(&load.time_up, time_is_up);
    timer_init(&load.progress, show_progress);
    r = letter_form_init(&load.form, options->tag, options->size_bytes, options->from,
                         options->rcpt);
    if (r < 0)
        return r;
    load.sessions = calloc(options->sessions, sizeof(*load.sessions));
    r = load.sessions == NULL ? -ENOMEM : program_run(&program);
    free(load.sessions);
    letter_form_deinit(&load.form);
    return r;
}

/* ---- the subcommand -------------------------------------------------------------------------- */

static const char *const pipelining_choices[] = {"none", "pipelined", NULL};

static void print_result(const struct load_result *result)
{
    const struct histogram *accept = &result->accept_ns;
    double seconds = (double)(result->ended_ns - result->started_ns) / 1e9;

    printf("load: %llu letters accepted in %.2f s, %.0f/s; %llu refused, %llu unanswered; "
           "%llu sessions, %llu broken\n",
           (unsigned long long)result->accepted, seconds, (double)result->accepted / seconds,
           (unsigned long long)result->refused, (unsigned long long)result->unknown,
           (unsigned long long)result->sessions, (unsigned long long)result->failures);
    printf("load: accepted after, in ms: p50 %.3f, p90 %.3f, p99 %.3f, p99.9 %.3f, longest %.3f\n",
           (double)histogram_percentile(accept, 50) / 1e6,
           (double)histogram_percentile(accept, 90) / 1e6,
           (double)histogram_percentile(accept, 99) / 1e6,
           (double)histogram_percentile(accept, 99.9) / 1e6, (double)accept->max / 1e6);
    if (result->first_trouble[0] != 0)
        printf("load: the first trouble: %s\n", result->first_trouble);
}

int load_main(int argc, char **argv)
{
    struct load_options options = {.sessions = 20,
                                   .size_bytes = 4096,
                                   .from = "load@bench.test",
                                   .rcpt = "sink@bench.test",
                                   .tag = random_u64(),
                                   .progress = isatty(STDERR_FILENO) == 1};
    uint64_t pipelining = 1;
    const struct option_row rows[] = {
        {"--to", OPTION_ADDRESS, &options.to, 0, 0, NULL},
        {"--sessions", OPTION_U64, &options.sessions, 1, 60000, NULL},
        {"--size", OPTION_U64, &options.size_bytes, LETTER_SIZE_MIN, LETTER_SIZE_MAX, NULL},
        {"--messages", OPTION_U64, &options.messages, 1, UINT64_MAX, NULL},
        {"--seconds", OPTION_U64, &options.seconds, 1, 30ull * 86400, NULL},
        {"--messages-per-session", OPTION_U64, &options.messages_per_session, 1, UINT64_MAX, NULL},
        {"--pipelining", OPTION_CHOICE, &pipelining, 0, 0, pipelining_choices},
        {"--from", OPTION_TEXT, &options.from, 0, 0, NULL},
        {"--rcpt", OPTION_TEXT, &options.rcpt, 0, 0, NULL},
        {"--recipient", OPTION_TEXT, &options.rcpt, 0, 0, NULL},
        {"--ledger", OPTION_TEXT, &options.ledger, 0, 0, NULL},
        {"--first-id", OPTION_U64, &options.first_id, 0, UINT64_MAX, NULL},
        {.name = NULL}};
    struct load_result *result;
    int r;

    if (!options_read(argc, argv, rows))
        return PROGRAM_USAGE;
    if (options.to.size == 0) {
        fprintf(stderr, "kilat-bench load: to whom? --to ADDRESS:PORT\n");
        return PROGRAM_USAGE;
    }
    if (options.messages == 0 && options.seconds == 0)
        options.seconds = 10;
    options.pipelined = pipelining == 1;
    result = malloc(sizeof(*result)); /* the histogram is too large for the stack */
    r = result == NULL ? -ENOMEM : load_run(&options, result);
    if (r < 0)
        fprintf(stderr, "kilat-bench load: %s\n", strerror(-r));
    else
        print_result(result);
    r = r < 0 || result->given_up || result->accepted == 0 || result->refused > 0 ? 1 : 0;
    free(result);
    return r;
}
