#include "proto/pop3_server_private.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

#define POP3_OUT_MAX                                                                               \
    (1 * MIB) /* far above the pause, so that an owner may write messages into `out` as well */
static_assert(POP3_OUT_MAX > 2 * POP3_SERVER_OUT_PAUSE,
              "what one command answers fits behind the pause");

int pop3_server_create(const struct pop3_server_config *config, const struct pop3_server_ops *ops,
                       void *context, struct pop3_server **ret_server)
{
    struct pop3_server *server = calloc(1, sizeof(*server));

    if (server == NULL)
        return -ENOMEM;
    server->config = *config;
    server->ops = ops;
    server->context = context;
    pop3_lines_init(&server->lines, config->command_line_max);
    buf_init(&server->out, POP3_OUT_MAX);
    buf_init(&server->user, config->command_line_max);
    *ret_server = server;
    return 0;
}

void pop3_server_destroy(struct pop3_server **server)
{
    struct pop3_server *s = *server;

    if (s == NULL)
        return;
    pop3_lines_deinit(&s->lines);
    buf_deinit(&s->out);
    buf_deinit(&s->user);
    free(s->deleted);
    free(s);
    *server = NULL;
}

#define IN(state) (1u << POP3_STATE_##state)

void pop3_enter(struct pop3_server *server, enum pop3_state next)
{
    static const uint8_t allowed[POP3_STATES] = {
        [POP3_STATE_AUTHORIZATION] = IN(LOGIN) | IN(CLOSED),
        [POP3_STATE_LOGIN] = IN(AUTHORIZATION) | IN(TRANSACTION) | IN(CLOSED),
        [POP3_STATE_TRANSACTION] = IN(LISTING) | IN(SENDING) | IN(UPDATE) | IN(CLOSED),
        [POP3_STATE_LISTING] = IN(TRANSACTION) | IN(CLOSED),
        [POP3_STATE_SENDING] = IN(TRANSACTION) | IN(CLOSED),
        [POP3_STATE_UPDATE] = IN(CLOSED),
        [POP3_STATE_CLOSED] = IN(CLOSED),
    };

    ASSERT(allowed[server->state] & (1u << next));
    server->state = next;
}

/* Replies. None of them repeats a byte of what the client sent. */

void pop3_ok(struct pop3_server *server, const char *format, ...)
{
    va_list args;

    buf_append(&server->out, SLICE("+OK "));
    va_start(args, format);
    buf_vprintf(&server->out, format, args);
    va_end(args);
    buf_append(&server->out, SLICE("\r\n"));
}

void pop3_refusal(struct pop3_server *server, const char *text)
{
    buf_append(&server->out, SLICE("-ERR "));
    buf_append_cstr(&server->out, text);
    buf_append(&server->out, SLICE("\r\n"));
}

void pop3_fault(struct pop3_server *server, const char *text)
{
    server->errors++;
    if (server->errors < server->config.errors_max) {
        pop3_refusal(server, text);
        return;
    }
    pop3_refusal(server, "too many errors");
    pop3_enter(server, POP3_STATE_CLOSED);
}

static void append_printable(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        buf_append_byte(out, text.data[i] >= 0x20 && text.data[i] <= 0x7e ? text.data[i] : '?');
}

/* No "<...>" in it: that would offer APOP (RFC 1939 7). */
void pop3_server_greet(struct pop3_server *server)
{
    buf_append(&server->out, SLICE("+OK "));
    append_printable(&server->out, server->config.hostname);
    buf_append(&server->out, SLICE(" POP3 ready\r\n"));
}

void pop3_server_refuse(struct pop3_server *server, struct slice text)
{
    buf_append(&server->out, SLICE("-ERR [SYS/TEMP] "));
    append_printable(&server->out, text);
    buf_append(&server->out, SLICE("\r\n"));
    pop3_enter(server, POP3_STATE_CLOSED);
}

/* Commands. */

struct pop3_verb {
    struct slice name;
    uint8_t states;
    void (*run)(struct pop3_server *server, const struct pop3_command *command);
};

static const struct pop3_verb pop3_verbs[] = {
    {SLICE("USER"), IN(AUTHORIZATION), pop3_run_user},
    {SLICE("PASS"), IN(AUTHORIZATION), pop3_run_pass},
    {SLICE("CAPA"), IN(AUTHORIZATION) | IN(TRANSACTION), pop3_run_capa},
    {SLICE("QUIT"), IN(AUTHORIZATION) | IN(TRANSACTION), pop3_run_quit},
    {SLICE("STAT"), IN(TRANSACTION), pop3_run_stat},
    {SLICE("LIST"), IN(TRANSACTION), pop3_run_list},
    {SLICE("UIDL"), IN(TRANSACTION), pop3_run_uidl},
    {SLICE("RETR"), IN(TRANSACTION), pop3_run_retr},
    {SLICE("TOP"), IN(TRANSACTION), pop3_run_top},
    {SLICE("DELE"), IN(TRANSACTION), pop3_run_dele},
    {SLICE("NOOP"), IN(TRANSACTION), pop3_run_noop},
    {SLICE("RSET"), IN(TRANSACTION), pop3_run_rset},
};

static const struct pop3_verb *verb_find(struct slice name)
{
    for (size_t i = 0; i < ARRAY_SIZE(pop3_verbs); i++) {
        if (slice_equal_nocase(pop3_verbs[i].name, name))
            return &pop3_verbs[i];
    }
    return NULL;
}

/* Another protocol's client, made to talk to us (SECURITY 1.2 A): nothing it sends may be tried
 * as a command. */
static void refuse_foreigner(struct pop3_server *server)
{
    pop3_refusal(server, "this is POP3");
    pop3_enter(server, POP3_STATE_CLOSED);
}

static bool is_http(struct slice line)
{
    return memmem(line.data, line.size, " HTTP/", 6) != NULL;
}

static void dispatch(struct pop3_server *server, struct slice line)
{
    struct pop3_command command;
    const struct pop3_verb *verb;

    if (slice_find(line, '\0') != SIZE_MAX || slice_find(line, '\r') != SIZE_MAX) {
        pop3_fault(server, "no command has such characters");
        return;
    }
    pop3_parse_command(line, &command);
    verb = verb_find(command.verb);
    if (verb == NULL && server->state == POP3_STATE_AUTHORIZATION && is_http(line))
        refuse_foreigner(server);
    else if (verb == NULL)
        pop3_fault(server, "no such command");
    else if (verb->states & (1u << server->state))
        verb->run(server, &command);
    else
        pop3_fault(server, server->state == POP3_STATE_AUTHORIZATION ? "log in first"
                                                                     : "you are logged in already");
}

static bool is_letter(uint8_t byte)
{
    return byte_lower(byte) >= 'a' && byte_lower(byte) <= 'z';
}

/* One line of input, or less; false when the input is used up. */
static bool input_line(struct pop3_server *server, struct slice *input)
{
    struct slice line;
    bool begins = input->size > 0 && pop3_lines_at_start(&server->lines);

    /* TLS and binary protocols have no line end to wait for. An empty line is only an error. */
    if (begins && server->state == POP3_STATE_AUTHORIZATION && !is_letter(input->data[0]) &&
        input->data[0] != '\r' && input->data[0] != '\n') {
        refuse_foreigner(server);
        return true;
    }
    switch (pop3_lines_next(&server->lines, input, &line)) {
    case POP3_LINE_MORE:
        return false;
    case POP3_LINE_WHOLE:
        dispatch(server, line);
        pop3_lines_forget(&server->lines);
        break;
    case POP3_LINE_TOO_LONG:
        pop3_fault(server, "the line is too long");
        break;
    case POP3_LINE_ENDLESS:
        pop3_refusal(server, "the line is too long");
        pop3_enter(server, POP3_STATE_CLOSED);
    }
    return true;
}

/* A reply that found no memory must not be followed by another one. */
static void check_memory(struct pop3_server *server)
{
    if (server->out.failed)
        pop3_enter(server, POP3_STATE_CLOSED);
}

size_t pop3_server_input(struct pop3_server *server, struct slice input)
{
    struct slice rest = input;
    bool more = true;

    while (more) {
        check_memory(server);
        if (server->state == POP3_STATE_LISTING)
            pop3_listing_continue(server);
        if (server->state != POP3_STATE_AUTHORIZATION && server->state != POP3_STATE_TRANSACTION)
            break;
        if (server->out.size > POP3_SERVER_OUT_PAUSE)
            break;
        more = input_line(server, &rest);
    }
    return input.size - rest.size;
}

void pop3_server_output_drained(struct pop3_server *server)
{
    if (server->state == POP3_STATE_LISTING)
        pop3_listing_continue(server);
    check_memory(server);
}

void pop3_server_login_done(struct pop3_server *server, enum pop3_login result)
{
    if (server->state != POP3_STATE_CLOSED) /* the connection may have ended meanwhile */
        pop3_login_apply(server, result);
}

void pop3_server_timeout(struct pop3_server *server)
{
    pop3_enter(server, POP3_STATE_CLOSED);
}

struct buf *pop3_server_out(struct pop3_server *server)
{
    return &server->out;
}

uint32_t pop3_server_patience_ms(const struct pop3_server *server)
{
    switch (server->state) {
    case POP3_STATE_AUTHORIZATION:
        return server->config.login_ms;
    case POP3_STATE_TRANSACTION:
    case POP3_STATE_LISTING:
    case POP3_STATE_SENDING:
        return server->config.idle_ms;
    default:
        return UINT32_MAX;
    }
}

bool pop3_server_closed(const struct pop3_server *server)
{
    return server->state == POP3_STATE_CLOSED;
}

bool pop3_server_pending(const struct pop3_server *server)
{
    return (1u << server->state) & (IN(LOGIN) | IN(LISTING) | IN(SENDING) | IN(UPDATE));
}

struct pop3_totals pop3_server_totals(const struct pop3_server *server)
{
    return server->totals;
}
