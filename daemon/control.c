/* The control socket: frames in, commands run, frames out. One command at a time per connection. */
#include "daemon/control.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/stream.h"

#define CONTROL_OUTPUT_MAX (64 * MIB)
#define CONTROL_ANSWER_MAX (CONTROL_OUTPUT_MAX / 2) /* a listing of some 100,000 messages */
#define CONTROL_UNSENT_PAUSE                                                                       \
    MIB /* whoever does not read his answers is not asked for more questions */
#define CONTROL_IDLE_MS (5 * MINUTE_MS)
#define CONTROL_SESSIONS_MAX 64
#define CONTROL_BACKLOG 16
#define CONTROL_TAKE_OVER_TRIES 100
#define CONTROL_TAKE_OVER_NS (20 * MS_NS)

/* Exit statuses of kilatctl, as sysexits(3) has them. */
#define EXIT_TOO_LONG 1
#define EXIT_BUSY 75
#define EXIT_PROTOCOL 76

struct control {
    struct node *node;
    struct listener listener;
    struct list_node sessions;
    uint32_t session_count;
    uint32_t calls; /* under way */
    bool ending;
};

struct control_session {
    struct list_node node;
    struct control *control;
    struct stream stream;
    struct buf input;
    uint32_t uid, gid;
    int32_t pid;
    struct control_job *job; /* under way */
    bool taking;             /* inside control_next(), which goes on by itself */
    bool input_over;         /* kilatctl has said all it has to, but waits for our answer */
};

/* The call and who asked; outlives a session that is cut. */
struct control_job {
    struct control_call call;
    struct control_session *session; /* NULL: gone */
};

/* ---- calls ------------------------------------------------------------------------------------------ */

void control_fail(struct control_call *call, uint32_t status, const char *format, ...)
{
    va_list args;

    call->status = status;
    va_start(args, format);
    buf_vprintf(&call->error, format, args);
    va_end(args);
}

void control_go_on(struct node *node, struct control_call *call)
{
    round_go_on(node, &call->round);
}

static void control_visit(struct node *node, struct round *round)
{
    struct control_call *call = CONTAINER_OF(round, struct control_call, round);

    call->command->visit(node, call);
}

static void control_visited(struct node *node, struct round *round)
{
    struct control_call *call = CONTAINER_OF(round, struct control_call, round);

    if (call->command->finish != NULL)
        call->command->finish(node, call);
    else
        control_answer(call);
}

static void control_next(struct control_session *session);

/* Programs get an array also where the answer ends in an error, as far as there is one. */
static void control_write_answer(struct control_session *session, const struct control_call *call)
{
    bool array = call->out.json && (call->status == 0 || call->text.size > 0);
    struct buf frames;

    buf_init(&frames, CONTROL_OUTPUT_MAX);
    if (call->text.failed) {
        control_write_end(&frames, EXIT_TOO_LONG,
                          SLICE("the answer is too long; ask for a part of it (--count, --after)"));
    } else {
        if (array)
            control_write_part(&frames, SLICE("["));
        control_write_part(&frames, buf_slice(&call->text));
        if (array)
            control_write_part(&frames, SLICE("]\n"));
        control_write_end(&frames, call->status, buf_slice(&call->error));
    }
    stream_write(&session->stream, buf_slice(&frames));
    buf_deinit(&frames);
}

void control_answer(struct control_call *call)
{
    struct control_job *job = CONTAINER_OF(call, struct control_job, call);
    struct control_session *session = job->session;
    struct control *control = call->home->control;

    if (session != NULL) {
        control_write_answer(session, call);
        session->job = NULL;
    }
    buf_deinit(&call->request);
    buf_deinit(&call->text);
    buf_deinit(&call->error);
    buf_deinit(&call->second);
    free(job);
    control->calls--;
    if (session != NULL && !session->taking)
        control_next(session);
    node_check_empty(control->node);
}

static bool control_may_change(const struct control_session *session)
{
    return session->uid == 0 || session->uid == geteuid() || session->gid == getegid();
}

static void control_log(const struct control_session *session, const struct control_call *call)
{
    if (call->command->changes)
        log_event(call->home->shard->log, LOG_NOTICE, "control.command",
                  log_cstr("command", call->command->words),
                  log_text("argument", call->argument_count == 0 ? SLICE_NONE : call->arguments[0]),
                  log_u64("uid", session->uid), log_i64("pid", session->pid));
}

static void control_run(struct control_session *session, struct control_call *call,
                        const struct slice *words, size_t count)
{
    size_t used = 0;

    call->command = control_command_find(words, count, &used, &call->error);
    if (call->command == NULL) {
        call->status = 64;
        control_answer(call);
        return;
    }
    call->argument_count = count - used;
    for (size_t i = used; i < count; i++)
        call->arguments[i - used] = words[i];
    if (call->argument_count < call->command->arguments_min ||
        call->argument_count > call->command->arguments_max) {
        control_fail(call, 64, "usage: kilatctl %s %s", call->command->words,
                     call->command->arguments);
        control_answer(call);
        return;
    }
    if (call->command->changes && !control_may_change(session)) {
        control_fail(call, 77, "%s: only root, the server's own user and its group may do this",
                     call->command->words);
        control_answer(call);
        return;
    }
    control_log(session, call);
    if (call->command->visit == NULL) {
        call->command->finish(call->home, call);
        return;
    }
    call->round.visit = control_visit;
    call->round.finished = control_visited;
    round_begin(call->home, &call->round);
}

/* The first word says the form of the answer: "text" or "json". */
static bool control_begin(struct control_session *session, const struct control_frame *frame)
{
    struct slice words[CONTROL_ARGUMENTS_MAX];
    struct control_frame copy = *frame;
    struct control_job *job = calloc(1, sizeof(*job));
    struct control_call *call;
    size_t count;

    if (job == NULL)
        return false;
    call = &job->call;
    buf_init(&call->request, CONTROL_PAYLOAD_MAX);
    buf_append(&call->request, frame->payload);
    copy.payload = buf_slice(&call->request);
    if (call->request.failed || !control_arguments(&copy, words, &count) || count < 1 ||
        !(slice_equal(words[0], SLICE("text")) || slice_equal(words[0], SLICE("json")))) {
        buf_deinit(&call->request);
        free(job);
        return false;
    }
    job->session = session;
    session->job = job;
    call->home = session->control->node;
    call->uid = session->uid;
    call->now_s = call->home->shard->wall_ns / SECOND_NS;
    buf_init(&call->text, CONTROL_ANSWER_MAX);
    buf_init(&call->error, 4 * KIB);
    buf_init(&call->second, CONTROL_ANSWER_MAX);
    call->out =
        (struct control_out){.buf = &call->text, .json = slice_equal(words[0], SLICE("json"))};
    call->second_out =
        (struct control_out){.buf = &call->second, .json = call->out.json, .started = true};
    session->control->calls++;
    stream_set_deadline(&session->stream, call->home->shard->now_ns + CONTROL_IDLE_MS * MS_NS);
    control_run(session, call, words + 1, count - 1);
    return true;
}

/* ---- the connection ---------------------------------------------------------------------------------- */

/* A last frame that says why. */
static void control_refuse(struct control_session *session, uint32_t status, struct slice sentence)
{
    struct buf frame;

    buf_init(&frame, 4 * KIB);
    control_write_end(&frame, status, sentence);
    stream_write(&session->stream, buf_slice(&frame));
    buf_deinit(&frame);
    stream_close_gracefully(&session->stream);
}

static void control_take_input(struct control_session *session)
{
    struct slice input;

    while ((input = stream_front(&session->stream, NULL)).size > 0 &&
           session->input.size < CONTROL_HEAD_BYTES + CONTROL_PAYLOAD_MAX) {
        size_t room = CONTROL_HEAD_BYTES + CONTROL_PAYLOAD_MAX - session->input.size;
        buf_append(&session->input, slice_first(input, room));
        stream_consume(&session->stream, MIN(input.size, room));
    }
}

/* The next request, if it has arrived whole. */
static void control_next(struct control_session *session)
{
    struct control_frame frame;
    size_t size;
    bool fine = true;
    int r = 1;

    session->taking = true;
    while (r == 1 && session->job == NULL && fine && !stream_is_closing(&session->stream) &&
           stream_unsent(&session->stream) <= CONTROL_UNSENT_PAUSE) {
        control_take_input(session);
        r = control_frame_parse(buf_slice(&session->input), &frame, &size);
        if (r == 1) {
            fine = control_begin(session, &frame); /* which copies what it needs */
            buf_consume(&session->input, size);
        }
    }
    session->taking = false;
    if (!fine || r < 0)
        control_refuse(session, EXIT_PROTOCOL,
                       SLICE("that was no question of this version of kilatctl"));
    else if (r == 0 && session->input_over)
        stream_close_gracefully(&session->stream);
}

static void control_input(struct stream *stream)
{
    control_next(CONTAINER_OF(stream, struct control_session, stream));
}

/* kilatctl may half-close behind its question: the answer still goes out. */
static void control_input_ended(struct stream *stream)
{
    struct control_session *session = CONTAINER_OF(stream, struct control_session, stream);

    session->input_over = true;
    control_next(session);
}

static void control_drained(struct stream *stream)
{
    struct control_session *session = CONTAINER_OF(stream, struct control_session, stream);

    if (session->control->ending && session->job == NULL)
        stream_close_gracefully(stream);
    else
        control_next(session); /* it may have stopped because nobody read the answers */
}

static void control_closed(struct stream *stream, int error)
{
    struct control_session *session = CONTAINER_OF(stream, struct control_session, stream);
    struct control *control = session->control;

    (void)error; /* whoever asked is gone */
    if (session->job != NULL)
        session->job->session = NULL;
    buf_deinit(&session->input);
    list_remove(&session->node);
    control->session_count--;
    free(session);
    node_check_empty(control->node);
}

static const struct stream_ops control_stream_ops = {
    .input = control_input,
    .input_ended = control_input_ended,
    .drained = control_drained,
    .closed = control_closed,
};

/* Of many sessions the oldest that has asked nothing, or half a question, goes: whoever comes to ask is worth more. */
static void control_make_room(struct control *control)
{
    list_for_each_safe (at, &control->sessions) {
        struct control_session *session = CONTAINER_OF(at, struct control_session, node);

        if (session->job == NULL && stream_unsent(&session->stream) == 0 &&
            !stream_is_closing(&session->stream)) {
            stream_close(&session->stream, -EUSERS);
            return;
        }
    }
}

/* One too many is told so; when even those pile up they are not looked at any more. */
void control_accept(struct node *node, int fd)
{
    struct control *control = node->control;
    struct control_session *session = NULL;

    if (control->session_count >= CONTROL_SESSIONS_MAX / 2)
        control_make_room(control);
    if (control->session_count < 2 * CONTROL_SESSIONS_MAX)
        session = calloc(1, sizeof(*session));
    if (session == NULL ||
        ring_peer_credentials(fd, &session->uid, &session->gid, &session->pid) < 0) {
        free(session);
        ring_close(fd);
        return;
    }
    session->control = control;
    buf_init(&session->input, CONTROL_HEAD_BYTES + CONTROL_PAYLOAD_MAX);
    list_push_back(&control->sessions, &session->node);
    stream_open(&session->stream, node->shard, fd, &control_stream_ops, CONTROL_OUTPUT_MAX);
    stream_set_deadline(&session->stream, node->shard->now_ns + CONTROL_IDLE_MS * MS_NS);
    if (control->session_count++ >= CONTROL_SESSIONS_MAX)
        control_refuse(session, EXIT_BUSY, SLICE("too many questions at once, try again later"));
}

/* A server that was killed a moment ago may still seem to listen: the kernel closes the sockets of a ring when it has
 * taken that down, which is after the process is gone. Nothing else waits for the ring yet. */
static int control_listen(const struct node *node, const struct netaddr *address, uint32_t mode,
                          int *ret_fd)
{
    int r = ring_listen(address, CONTROL_BACKLOG, mode, ret_fd);

    for (uint32_t i = 0; r == -EADDRINUSE && i < CONTROL_TAKE_OVER_TRIES; i++) {
        ring_wait(node->shard->ring, clock_monotonic_ns() + CONTROL_TAKE_OVER_NS);
        r = ring_listen(address, CONTROL_BACKLOG, mode, ret_fd);
    }
    return r;
}

int control_create(struct node *node, struct control **ret_control)
{
    const struct settings *settings = &node->generation->settings;
    struct control *control = calloc(1, sizeof(*control));
    uint32_t digits = (uint32_t)settings->control_mode;
    uint32_t mode = (digits / 100) << 6 | (digits / 10 % 10) << 3 | digits % 10;
    struct netaddr address;
    int fd, r;

    if (control == NULL)
        return -ENOMEM;
    r = netaddr_unix(settings->control_socket, &address) ? 0 : -ENAMETOOLONG;
    if (r == 0)
        r = control_listen(node, &address, mode, &fd);
    if (r < 0) {
        buf_printf(&node->start_error, "control_socket %s: %s", settings->control_socket,
                   strerror(-r));
        free(control);
        return r;
    }
    control->node = node;
    list_init(&control->sessions);
    node->control = control;
    listener_open(&control->listener, node, LISTENER_CONTROL, fd);
    *ret_control = control;
    return 0;
}

void control_destroy(struct control **control)
{
    struct control *c = *control;

    if (c == NULL)
        return;
    if (c->listener.fd >= 0)
        ring_close(c->listener.fd);
    free(c);
    *control = NULL;
}

void control_end(struct control *control, bool cut)
{
    control->ending = true;
    listener_close(&control->listener);
    list_for_each_safe (at, &control->sessions) {
        struct control_session *session = CONTAINER_OF(at, struct control_session, node);
        if (cut)
            stream_close(&session->stream, -ECANCELED);
        else if (session->job == NULL)
            stream_close_gracefully(&session->stream);
    }
}

bool control_busy(const struct control *control)
{
    return control->session_count > 0 || control->calls > 0 || control->listener.fd >= 0;
}
