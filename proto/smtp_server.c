#include "proto/smtp_server.h"

#include "core/assert.h"
#include "proto/smtp_reply.h"
#include "proto/smtp_server_private.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Room behind the pause for the one command whose reply crosses it: EHLO's six lines are the
 * longest. */
#define SMTP_SERVER_OUT_MAX (SMTP_SERVER_OUT_PAUSE + 8 * SMTP_REPLY_LINE_MAX)

#define IN(state) (1u << SMTP_STATE_##state)
/* Of the states that read commands; BODY reads none and CLOSED reads nothing. */
#define ANY (IN(START) | IN(READY) | IN(MAIL) | IN(RCPT))

struct smtp_verb_row {
    unsigned states; /* where the verb is in order (RFC 5321 4.1.4); elsewhere 503 or 554 */
    bool (*check)(struct smtp_server *server, struct smtp_command *command);
    void (*run)(struct smtp_server *server, const struct smtp_command *command);
};

/* Which verbs must end a pipelined group (RFC 2920 3.1) need not be said here: replies leave in the
 * order of the commands, and all of them at the end of an input. */
static const struct smtp_verb_row smtp_verbs[] = {
    [SMTP_VERB_HELO] = {ANY, smtp_check_helo, smtp_run_helo},
    [SMTP_VERB_EHLO] = {ANY, smtp_check_helo, smtp_run_helo},
    [SMTP_VERB_MAIL] = {IN(READY), smtp_check_mail, smtp_run_mail},
    [SMTP_VERB_RCPT] = {IN(MAIL) | IN(RCPT), smtp_check_rcpt, smtp_run_rcpt},
    [SMTP_VERB_DATA] = {IN(RCPT), smtp_check_no_argument, smtp_run_data},
    [SMTP_VERB_RSET] = {ANY, smtp_check_no_argument, smtp_run_rset},
    [SMTP_VERB_NOOP] = {ANY, smtp_check_anything, smtp_run_noop},
    [SMTP_VERB_VRFY] = {ANY, smtp_check_vrfy, smtp_run_vrfy},
    [SMTP_VERB_HELP] = {ANY, smtp_check_anything, smtp_run_help},
    [SMTP_VERB_QUIT] = {ANY, smtp_check_no_argument, smtp_run_quit},
    [SMTP_VERB_EXPN] = {ANY, smtp_check_unannounced, NULL},
    [SMTP_VERB_AUTH] = {ANY, smtp_check_unannounced, NULL},
    [SMTP_VERB_STARTTLS] = {ANY, smtp_check_unannounced, NULL},
    [SMTP_VERB_BDAT] = {ANY, smtp_check_unannounced, NULL},
    [SMTP_VERB_ETRN] = {ANY, smtp_check_unannounced, NULL},
    [SMTP_VERB_UNKNOWN] = {ANY, smtp_check_unknown, NULL},
};
static_assert(ARRAY_SIZE(smtp_verbs) == SMTP_VERBS, "every verb has its row");

/* From each state, where it may go. */
static const unsigned smtp_next[] = {
    [SMTP_STATE_START] = IN(READY) | IN(CLOSED),
    [SMTP_STATE_READY] = IN(READY) | IN(MAIL) | IN(CLOSED),
    [SMTP_STATE_MAIL] = IN(RCPT) | IN(READY),
    [SMTP_STATE_RCPT] = IN(RCPT) | IN(BODY) | IN(READY),
    [SMTP_STATE_BODY] = IN(READY),
    [SMTP_STATE_CLOSED] = 0,
};
static_assert(ARRAY_SIZE(smtp_next) == SMTP_STATES, "every state has its row");

static void (*const smtp_finish[])(struct smtp_server *server, struct smtp_reply reply) = {
    [SMTP_ASKED_MAIL] = smtp_finish_mail,
    [SMTP_ASKED_RCPT] = smtp_finish_rcpt,
    [SMTP_ASKED_DATA] = smtp_finish_data,
    [SMTP_ASKED_DATA_END] = smtp_finish_data_end,
};
static_assert(ARRAY_SIZE(smtp_finish) == SMTP_QUESTIONS, "every question has its finish");

int smtp_server_create(const struct smtp_server_config *config, const struct smtp_server_ops *ops,
                       void *context, struct smtp_server **ret_server)
{
    struct smtp_server *server = calloc(1, sizeof(*server));

    if (server == NULL)
        return -ENOMEM;
    server->config = config;
    server->ops = ops;
    server->context = context;
    server->facts.state = SMTP_STATE_START;
    smtp_line_reader_init(&server->lines, config->limits.command_line_max);
    buf_init(&server->out, SMTP_SERVER_OUT_MAX);
    *ret_server = server;
    return 0;
}

void smtp_server_destroy(struct smtp_server **server)
{
    struct smtp_server *s = *server;

    if (s == NULL)
        return;
    smtp_server_transaction_end(s);
    smtp_line_reader_deinit(&s->lines);
    buf_deinit(&s->out);
    free(s->helo);
    free(s);
    *server = NULL;
}

void smtp_server_enter(struct smtp_server *server, enum smtp_server_state next)
{
    ASSERT(smtp_next[server->facts.state] & (1u << next));
    server->facts.state = next;
}

void smtp_server_transaction_end(struct smtp_server *server)
{
    struct smtp_server_facts *facts = &server->facts;

    if (facts->state != SMTP_STATE_MAIL && facts->state != SMTP_STATE_RCPT &&
        facts->state != SMTP_STATE_BODY)
        return;
    smtp_server_enter(server, SMTP_STATE_READY);
    server->ops->reset(server->context);
    server->paused = false;
    facts->recipients = 0;
    facts->body_bytes = 0;
    facts->header_bytes = 0;
    facts->body_has_8bit = facts->body_has_dot_line = facts->body_ends_with_crlf = false;
}

/* Whatever was open is given up: nothing but what stands in `out` leaves this session any more. */
static void end_session(struct smtp_server *server)
{
    if (server->facts.state == SMTP_STATE_CLOSED)
        return;
    smtp_server_transaction_end(server);
    server->facts.pending = false;
    smtp_server_enter(server, SMTP_STATE_CLOSED);
}

void smtp_server_close(struct smtp_server *server, uint8_t status_subject, uint8_t status_detail,
                       const char *text)
{
    char line[SMTP_REPLY_LINE_MAX];
    struct smtp_reply reply = {.code = 421, .status = {4, status_subject, status_detail}};

    (void)snprintf(line, sizeof(line), "%.*s %s", SLICE_ARG(server->config->hostname), text);
    reply.text = slice_cstr(line);
    smtp_reply_write(&server->out, &reply);
    end_session(server);
}

/* True when this error was one too many; then it has been answered. */
static bool counts_as_last_error(struct smtp_server *server)
{
    server->facts.errors++;
    server->errors_in_row++;
    if (server->facts.errors < server->config->limits.errors_max &&
        (server->mail_seen || server->errors_in_row < SMTP_SERVER_STRANGER_ERRORS_MAX))
        return false;
    smtp_server_close(server, 7, 0, "Too many errors, closing");
    return true;
}

void smtp_server_reply(struct smtp_server *server, struct smtp_reply reply)
{
    if (reply.code >= 500 && counts_as_last_error(server))
        return;
    if (reply.code < 400)
        server->errors_in_row = 0;
    smtp_reply_write(&server->out, &reply);
    if (reply.code == 421)
        end_session(server);
}

void smtp_server_settle(struct smtp_server *server, enum smtp_question question,
                        struct smtp_reply reply)
{
    if (smtp_reply_is_pending(&reply)) {
        server->asked = question;
        server->facts.pending = true;
        return;
    }
    smtp_finish[question](server, reply);
}

static void refuse_order(struct smtp_server *server, enum smtp_verb verb)
{
    enum smtp_server_state state = server->facts.state;

    if (verb == SMTP_VERB_DATA && state == SMTP_STATE_MAIL)
        smtp_server_reply(server, SMTP_REPLY(554, 5, 5, 1, "No valid recipients"));
    else if (state == SMTP_STATE_START)
        smtp_server_reply(server, SMTP_REPLY(503, 5, 5, 1, "Say EHLO or HELO first"));
    else if (verb == SMTP_VERB_MAIL)
        smtp_server_reply(server, SMTP_REPLY(503, 5, 5, 1, "A transaction is open already"));
    else
        smtp_server_reply(server, SMTP_REPLY(503, 5, 5, 1, "Say MAIL first"));
}

static void dispatch(struct smtp_server *server, struct slice line)
{
    struct smtp_command command = {0};
    const struct smtp_verb_row *row;

    if (server->facts.commands == 1 && smtp_line_is_foreign(line)) {
        smtp_server_close(server, 7, 0, "This is SMTP, closing");
        return;
    }
    command.verb = smtp_verb_parse(line, &command.argument);
    row = &smtp_verbs[command.verb];
    if (!(row->states & (1u << server->facts.state)))
        refuse_order(server, command.verb);
    else if (row->check(server, &command))
        row->run(server, &command);
}

static void command_input(struct smtp_server *server, struct slice *input)
{
    struct slice line;
    enum smtp_line result;

    if (!server->spoken) {
        server->spoken = true;
        if (byte_lower(input->data[0]) < 'a' || byte_lower(input->data[0]) > 'z') {
            smtp_server_close(server, 7, 0, "This is SMTP, closing");
            return;
        }
    }
    result = smtp_line_next(&server->lines, input, &line);
    server->facts.commands += result != SMTP_LINE_PARTIAL;
    switch (result) {
    case SMTP_LINE_PARTIAL:
        return;
    case SMTP_LINE_OK:
        dispatch(server, line);
        return;
    case SMTP_LINE_BARE_LF:
        smtp_server_reply(server, SMTP_REPLY(500, 5, 5, 2, "Bare LF: lines end with CR LF"));
        return;
    case SMTP_LINE_BAD_OCTET:
        smtp_server_reply(server, SMTP_REPLY(500, 5, 5, 2, "Control character in command"));
        return;
    case SMTP_LINE_TOO_LONG:
        smtp_server_reply(server, SMTP_REPLY(500, 5, 5, 2, "Line too long"));
        return;
    case SMTP_LINE_ENDLESS:
        smtp_server_reply(server, SMTP_REPLY(500, 5, 5, 2, "No line end in sight, closing"));
        end_session(server);
        return;
    case SMTP_LINE_NO_MEMORY:
        smtp_server_close(server, 3, 2, "Short of memory, closing");
        return;
    }
}

static bool may_consume(const struct smtp_server *server)
{
    return server->facts.state != SMTP_STATE_CLOSED && !server->facts.pending && !server->paused &&
           server->out.size <= SMTP_SERVER_OUT_PAUSE;
}

size_t smtp_server_input(struct smtp_server *server, struct slice input)
{
    size_t offered = input.size;

    while (input.size > 0 && may_consume(server)) {
        if (server->facts.state == SMTP_STATE_BODY)
            smtp_body_input(server, &input);
        else
            command_input(server, &input);
        if (server->out.failed)
            end_session(server); /* no memory for a reply: there is nothing left to say it with */
    }
    smtp_line_rest(&server->lines);
    return offered - input.size;
}

void smtp_server_answer(struct smtp_server *server, struct smtp_reply reply)
{
    if (server->facts.state == SMTP_STATE_CLOSED)
        return; /* the session ended while the answer was on its way */
    ASSERT(server->facts.pending);
    ASSERT(!smtp_reply_is_pending(&reply));
    server->facts.pending = false;
    smtp_finish[server->asked](server, reply);
    if (server->out.failed)
        end_session(server);
}

void smtp_server_resume(struct smtp_server *server)
{
    server->paused = false;
}

void smtp_server_greet(struct smtp_server *server)
{
    char line[SMTP_REPLY_LINE_MAX];
    struct smtp_reply reply = {.code = 220};

    (void)snprintf(line, sizeof(line), "%.*s ESMTP Kilat", SLICE_ARG(server->config->hostname));
    reply.text = slice_cstr(line);
    smtp_reply_write(&server->out, &reply);
}

void smtp_server_refuse(struct smtp_server *server, struct smtp_reply reply)
{
    if (server->facts.state == SMTP_STATE_CLOSED)
        return;
    smtp_reply_write(&server->out, &reply);
    end_session(server);
}

void smtp_server_timeout(struct smtp_server *server)
{
    if (server->facts.state != SMTP_STATE_CLOSED)
        smtp_server_close(server, 4, 2, "Silent for too long, closing");
}

struct buf *smtp_server_out(struct smtp_server *server)
{
    return &server->out;
}

uint32_t smtp_server_patience_ms(const struct smtp_server *server)
{
    const struct smtp_server_limits *limits = &server->config->limits;

    if (server->facts.pending || server->paused)
        return UINT32_MAX;
    switch (server->facts.state) {
    case SMTP_STATE_START:
        return limits->greeting_ms;
    case SMTP_STATE_BODY:
        return smtp_body_is_refused(server) ? limits->data_end_ms : limits->data_block_ms;
    case SMTP_STATE_READY:
    case SMTP_STATE_MAIL:
    case SMTP_STATE_RCPT:
    case SMTP_STATE_CLOSED:
    case SMTP_STATES:
        break;
    }
    return limits->command_ms;
}

const struct smtp_server_facts *smtp_server_facts(const struct smtp_server *server)
{
    return &server->facts;
}
