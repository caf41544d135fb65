#include "proto/smtp_client_private.h"

#include "core/assert.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Commands in flight. Far more than almost any message needs, so that envelope and DATA go out in
 * one write, and still a bound on what waits in `out` for a peer that does not read; replies are
 * always read, so neither side can block the other (RFC 2920 3.1). */
#define CLIENT_WINDOW 256
#define CLIENT_OUT_MAX (1 * MIB)
#define CLIENT_IDLE_BYTES                                                                          \
    4096 /* a buffer that grew larger than this is given back between transactions */
static_assert(CLIENT_WINDOW * (SMTP_ADDRESS_MAX + sizeof("RCPT TO:<>\r\n")) < CLIENT_OUT_MAX / 2,
              "a full window fits, and leaves room for an owner that writes bodies into `out`");

int smtp_client_create(const struct smtp_client_config *config, const struct smtp_client_ops *ops,
                       void *context, struct smtp_client **ret_client)
{
    struct smtp_client *client = calloc(1, sizeof(*client));

    if (client == NULL)
        return -ENOMEM;
    client->config = *config;
    client->ops = ops;
    client->context = context;
    client->phase = SMTP_CLIENT_GREETING;
    client->outstanding = 1;
    smtp_reply_reader_init(&client->reader, config->reply_line_max);
    buf_init(&client->out, CLIENT_OUT_MAX);
    buf_init(&client->fates, UINT32_MAX);
    *ret_client = client;
    return 0;
}

static void client_free(struct smtp_client *client)
{
    smtp_reply_reader_deinit(&client->reader);
    buf_deinit(&client->out);
    buf_deinit(&client->fates);
    free(client);
}

void smtp_client_destroy(struct smtp_client **client)
{
    struct smtp_client *c = *client;

    if (c == NULL)
        return;
    *client = NULL;
    c->doomed = true;
    if (c->depth == 0)
        client_free(c);
}

/* Every public call that may call back stands between enter and leave. */
static void client_enter(struct smtp_client *client)
{
    client->depth++;
}

/* ops->ready is called from the outermost leave alone: an owner that begins a transaction which is
 * over at once (too large for this host) is called again from here, not from within itself, however
 * many such messages it has. */
static void client_leave(struct smtp_client *client)
{
    while (client->depth == 1 && client->ready_due && !client->doomed) {
        client->ready_due = false;
        if (client->phase == SMTP_CLIENT_IDLE)
            client->ops->ready(client->context);
    }
    client->depth--;
    if (client->depth == 0 && client->doomed)
        client_free(client);
}

/* The only writer of client->phase. */
static void client_enter_phase(struct smtp_client *client, enum smtp_client_phase next)
{
#define TO(phase) (1u << SMTP_CLIENT_##phase)
    static const uint8_t allowed[SMTP_CLIENT_PHASES] = {
        [SMTP_CLIENT_GREETING] = TO(EHLO) | TO(ENDED),
        [SMTP_CLIENT_EHLO] = TO(HELO) | TO(IDLE) | TO(ENDED),
        [SMTP_CLIENT_HELO] = TO(IDLE) | TO(ENDED),
        [SMTP_CLIENT_IDLE] = TO(TRANSACTION) | TO(QUIT) | TO(ENDED),
        [SMTP_CLIENT_TRANSACTION] = TO(IDLE) | TO(ENDED),
        [SMTP_CLIENT_QUIT] = TO(ENDED),
        [SMTP_CLIENT_ENDED] = 0,
    };
#undef TO
    ASSERT(allowed[client->phase] & (1u << next));
    client->phase = next;
}

static bool client_ended(const struct smtp_client *client)
{
    return client->phase == SMTP_CLIENT_ENDED || client->doomed;
}

void smtp_client_end(struct smtp_client *client, bool site_failed, bool in_doubt,
                     const struct smtp_remote_reply *reply)
{
    client_enter_phase(client, SMTP_CLIENT_ENDED);
    client->ready_due = false;
    client->outstanding = 0;
    client->answerable = 0;
    smtp_client_tell_all(client, SMTP_LATER, reply);
    buf_release(&client->fates);
    if (!client->doomed)
        client->ops->ended(client->context, site_failed, in_doubt, reply);
}

/* The final dot stands for recipients that wait, and what became of them is not known. */
static bool client_is_in_doubt(const struct smtp_client *client)
{
    return client->phase == SMTP_CLIENT_TRANSACTION && client->receive.step == SMTP_STEP_DOT &&
           client->accepted > 0;
}

/* What we were about when the session ended, for logs and reports. */
static const char *client_occupation(const struct smtp_client *client)
{
    static const char *const steps[SMTP_STEPS] = {
        [SMTP_STEP_RSET] = "waiting for the reply to RSET",
        [SMTP_STEP_MAIL] = "waiting for the reply to MAIL",
        [SMTP_STEP_RCPT] = "waiting for the reply to RCPT",
        [SMTP_STEP_DATA] = "waiting for the reply to DATA",
        [SMTP_STEP_BODY] = "sending the message",
        [SMTP_STEP_DOT] = "waiting for the reply to the end of the message",
    };
    static const char *const phases[SMTP_CLIENT_PHASES] = {
        [SMTP_CLIENT_GREETING] = "waiting for the greeting",
        [SMTP_CLIENT_EHLO] = "waiting for the reply to EHLO",
        [SMTP_CLIENT_HELO] = "waiting for the reply to HELO",
        [SMTP_CLIENT_IDLE] = "between messages",
        [SMTP_CLIENT_QUIT] = "waiting for the reply to QUIT",
    };

    ASSERT(client->phase != SMTP_CLIENT_ENDED);
    return client->phase == SMTP_CLIENT_TRANSACTION ? steps[client->receive.step]
                                                    : phases[client->phase];
}

/* Ends the session without a reply of the other side: `what` happened while we were doing this or
 * that. */
static void client_end_ourselves(struct smtp_client *client, uint8_t subject, uint8_t detail,
                                 const char *what, const char *why)
{
    char text[SMTP_REPLY_TEXT_MAX];
    struct smtp_remote_reply reply = {.status = {4, subject, detail}};

    (void)snprintf(text, sizeof(text), "%s while %s%s%s", what, client_occupation(client),
                   why == NULL ? "" : ": ", why == NULL ? "" : why);
    reply.text = slice_cstr(text);
    smtp_client_end(client, client->phase <= SMTP_CLIENT_HELO, client_is_in_doubt(client), &reply);
}

void smtp_client_end_nonsense(struct smtp_client *client, const char *fault)
{
    client_end_ourselves(client, 5, 0, "the host made no sense",
                         fault); /* X.5.0: protocol status */
}

/* Writing commands. */

static void write_mail(struct smtp_client *client)
{
    buf_append(&client->out, SLICE("MAIL FROM:<"));
    buf_append(&client->out, client->transaction.sender);
    buf_append_byte(&client->out, '>');
    if (client->capabilities.size) { /* RFC 1870 6 */
        buf_append(&client->out, SLICE(" SIZE="));
        buf_append_u64(&client->out, client->transaction.body_bytes);
    }
    if (client->transaction.eight_bit)
        buf_append(&client->out, SLICE(" BODY=8BITMIME")); /* RFC 1652 3 */
    buf_append(&client->out, SLICE("\r\n"));
}

static void write_rcpt(struct smtp_client *client)
{
    buf_append(&client->out, SLICE("RCPT TO:<"));
    buf_append(&client->out, client->transaction.recipients[client->send.recipient]);
    buf_append(&client->out, SLICE(">\r\n"));
}

static void client_write(struct smtp_client *client, struct slice line)
{
    buf_append(&client->out, line);
    client->outstanding++;
}

static void write_hello(struct smtp_client *client, struct slice verb)
{
    buf_append(&client->out, verb);
    buf_append(&client->out, client->config.hostname);
    client_write(client, SLICE("\r\n"));
}

void smtp_client_cursor_next(struct smtp_client *client, struct smtp_client_cursor *cursor)
{
    if (cursor->step == SMTP_STEP_RCPT) {
        cursor->recipient++;
    } else {
        ASSERT(cursor->step < SMTP_STEPS);
        cursor->step++;
        cursor->recipient = 0;
    }
    if (cursor->step != SMTP_STEP_RCPT)
        return;
    while (cursor->recipient < client->transaction.recipient_count &&
           *smtp_client_fate(client, cursor->recipient) == SMTP_FATE_UNSENT)
        cursor->recipient++;
    if (cursor->recipient == client->transaction.recipient_count)
        cursor->step = SMTP_STEP_DATA;
}

/* Whether the command at the sending cursor may go out now. DATA ends a group (RFC 2920 3.1), and
 * what follows it waits for the 354. */
static bool client_may_send(const struct smtp_client *client)
{
    uint32_t window = client->capabilities.pipelining ? CLIENT_WINDOW : 1;

    if (client->send.step > SMTP_STEP_DATA || client->outstanding >= window)
        return false;
    if (client->mail_refused)
        return false;
    /* All are answered, and none is left to send to. */
    if (client->send.step == SMTP_STEP_DATA && client->outstanding == 0)
        return client->accepted > 0;
    return true;
}

static void client_finish(struct smtp_client *client)
{
    ASSERT(client->untold == 0);
    ASSERT(client->outstanding == 0);
    client_enter_phase(client, SMTP_CLIENT_IDLE);
    client->ready_due = true;
    client->transaction = (struct smtp_transaction){0};
    buf_reset(&client->fates);
    if (client->fates.capacity > CLIENT_IDLE_BYTES)
        buf_release(&client->fates);
    if (client->out.size == 0 && client->out.capacity > CLIENT_IDLE_BYTES)
        buf_release(&client->out);
    if (!smtp_reply_reader_in_midst(&client->reader))
        smtp_reply_reader_rest(&client->reader);
}

/* Sends what may be sent; finishes the transaction when nothing is on its way and nothing more will
 * be. */
static void client_progress(struct smtp_client *client)
{
    while (client_may_send(client)) {
        switch (client->send.step) {
        case SMTP_STEP_RSET:
            buf_append(&client->out, SLICE("RSET\r\n"));
            break;
        case SMTP_STEP_MAIL:
            write_mail(client);
            break;
        case SMTP_STEP_RCPT:
            write_rcpt(client);
            break;
        default:
            buf_append(&client->out, SLICE("DATA\r\n"));
        }
        client->outstanding++;
        smtp_client_cursor_next(client, &client->send);
    }
    if (client->outstanding == 0 && client->receive.step != SMTP_STEP_BODY)
        client_finish(client);
}

/* A command that did not fit into memory must not be followed by the next one. */
static void client_check_memory(struct smtp_client *client)
{
    if (!client_ended(client) && client->out.failed)
        client_end_ourselves(client, 3, 0, "no memory was left", NULL);
}

static void write_dot(struct smtp_client *client)
{
    client_write(client, SLICE(".\r\n"));
    smtp_client_cursor_next(client, &client->receive);
    ASSERT(client->receive.step == SMTP_STEP_DOT);
}

void smtp_client_go_ahead(struct smtp_client *client)
{
    ASSERT(client->receive.step == SMTP_STEP_BODY);
    if (client->accepted == 0)
        write_dot(client);
    else if (!client->doomed)
        client->ops->body(client->context);
}

/* Receiving. */

/* One line of the reply to EHLO behind the first (RFC 5321 4.1.1.1): a keyword and its parameters.
 */
static void client_learn(struct smtp_client *client, struct slice line)
{
    struct smtp_capabilities *offered = &client->capabilities;
    struct slice rest = slice_trim(line), keyword = slice_split(&rest, ' ');

    if (slice_equal_nocase(keyword, SLICE("PIPELINING"))) {
        offered->pipelining = true;
    } else if (slice_equal_nocase(keyword, SLICE("8BITMIME"))) {
        offered->eight_bit = true;
    } else if (slice_equal_nocase(keyword, SLICE("ENHANCEDSTATUSCODES"))) {
        offered->enhanced_status = true;
    } else if (slice_equal_nocase(keyword, SLICE("SIZE"))) {
        offered->size = true;
        (void)slice_parse_u64(slice_trim(rest), UINT64_MAX, &offered->size_max); /* or none said */
    }
}

/* Greeting, EHLO and HELO: whatever is not the answer we want fails the host as a whole, because no
 * message has been spoken of yet. */
static void client_opening(struct smtp_client *client, const struct smtp_remote_reply *reply)
{
    bool good = reply->code < 300;

    if (!good && reply->code < 400) {
        smtp_client_end_nonsense(client, "a reply does not fit its command");
    } else if (client->phase == SMTP_CLIENT_GREETING && good) {
        client_enter_phase(client, SMTP_CLIENT_EHLO);
        write_hello(client, SLICE("EHLO "));
    } else if (client->phase == SMTP_CLIENT_EHLO && (reply->code == 500 || reply->code == 502)) {
        client_enter_phase(client, SMTP_CLIENT_HELO);
        write_hello(client, SLICE("HELO ")); /* RFC 5321 3.2 */
    } else if (good) {
        client_enter_phase(client, SMTP_CLIENT_IDLE);
        client->ready_due = true;
    } else {
        smtp_client_end(client, true, false, reply);
    }
}

static void client_reply(struct smtp_client *client)
{
    struct smtp_remote_reply reply = smtp_reply_reader_reply(&client->reader);

    /* "Closing the channel" may come at any time, as an answer or not (RFC 5321 3.8). */
    if (reply.code == 421 && client->phase != SMTP_CLIENT_QUIT) {
        smtp_client_end(client, true, false, &reply);
        return;
    }
    if (client->answerable == 0 || client->stale) {
        smtp_client_judge_excess(client, &reply);
        return;
    }
    client->answerable--;
    client->outstanding--;
    switch (client->phase) {
    case SMTP_CLIENT_GREETING:
    case SMTP_CLIENT_EHLO:
    case SMTP_CLIENT_HELO:
        client_opening(client, &reply);
        break;
    case SMTP_CLIENT_TRANSACTION:
        smtp_client_judge_reply(client, &reply);
        if (!client_ended(client))
            client_progress(client);
        break;
    case SMTP_CLIENT_QUIT:
        smtp_client_end(client, false, false, &reply);
        break;
    case SMTP_CLIENT_IDLE: /* nothing is answerable there, and at the end nothing is read */
    case SMTP_CLIENT_ENDED:
    case SMTP_CLIENT_PHASES:
        ASSERT(false);
    }
}

/* Returns false when the input is used up. */
static bool client_input_line(struct smtp_client *client, struct slice *input)
{
    enum smtp_reply_event event = smtp_reply_reader_next(&client->reader, input);
    bool names_us = client->reader.lines == 1; /* the first line of EHLO's reply is a greeting */

    if (event == SMTP_REPLY_MORE)
        return false;
    if (event == SMTP_REPLY_BAD) {
        smtp_client_end_nonsense(client, client->reader.fault);
        return true;
    }
    if (client->phase == SMTP_CLIENT_EHLO && client->reader.code == 250 && !names_us)
        client_learn(client, client->reader.line);
    if (event == SMTP_REPLY_DONE)
        client_reply(client);
    return true;
}

void smtp_client_input(struct smtp_client *client, struct slice input)
{
    client_enter(client);
    /* A reply cannot be older than its command: what stands in this input can only answer what was
     * written before it. Counting by `outstanding` alone would take a surplus reply for the answer
     * to the next command. */
    client->answerable = client->outstanding;
    while (!client_ended(client) && client_input_line(client, &input))
        client_check_memory(client);
    /* It stays so over any number of further inputs: its end, whenever it comes, ends the session. */
    if (client->answerable == 0 && smtp_reply_reader_in_midst(&client->reader))
        client->stale = true;
    if (client->stale && client->ready_due) /* before another message is risked on this session */
        smtp_client_end_nonsense(client, "a reply came that answers nothing");
    client_leave(client);
}

/* What the owner says. */

void smtp_client_begin(struct smtp_client *client, const struct smtp_transaction *transaction)
{
    static const struct smtp_remote_reply no_memory = {
        .status = {4, 3, 0},
        .text = SLICE("no memory was left to send the message"),
    };
    uint8_t *fates;

    ASSERT(client->phase == SMTP_CLIENT_IDLE);
    ASSERT(transaction->recipient_count > 0);
    client_enter(client);
    fates = buf_extend(&client->fates, transaction->recipient_count);
    if (fates == NULL) { /* nothing is remembered, so all are told from here */
        for (uint32_t i = 0; i < transaction->recipient_count && !client->doomed; i++)
            client->ops->outcome(client->context, i, SMTP_LATER, &no_memory);
        buf_reset(&client->fates);
        client->ready_due = true;
        client_leave(client);
        return;
    }
    memset(fates, SMTP_FATE_OPEN, transaction->recipient_count);
    client_enter_phase(client, SMTP_CLIENT_TRANSACTION);
    client->transaction = *transaction;
    client->untold = transaction->recipient_count;
    client->accepted = 0;
    client->mail_refused = false;
    smtp_client_judge(client);
    client->send.step = client->mail_left_open ? SMTP_STEP_RSET : SMTP_STEP_MAIL;
    client->send.recipient = 0;
    client->receive = client->send;
    if (client->untold == 0)
        client_finish(client);
    else
        client_progress(client);
    client_check_memory(client);
    client_leave(client);
}

void smtp_client_body_sent(struct smtp_client *client)
{
    if (client_ended(client))
        return;
    ASSERT(client->phase == SMTP_CLIENT_TRANSACTION && client->receive.step == SMTP_STEP_BODY);
    client_enter(client);
    write_dot(client);
    client_check_memory(client);
    client_leave(client);
}

void smtp_client_body_failed(struct smtp_client *client)
{
    if (client_ended(client))
        return;
    ASSERT(client->phase == SMTP_CLIENT_TRANSACTION && client->receive.step == SMTP_STEP_BODY);
    client_enter(client);
    client_end_ourselves(client, 3, 0, "the message could not be read", NULL);
    client_leave(client);
}

void smtp_client_quit(struct smtp_client *client)
{
    if (client_ended(client))
        return;
    client_enter(client);
    client_enter_phase(client, SMTP_CLIENT_QUIT);
    client_write(client, SLICE("QUIT\r\n"));
    client_check_memory(client);
    client_leave(client);
}

void smtp_client_lost(struct smtp_client *client, int error)
{
    if (client_ended(client))
        return;
    client_enter(client);
    client_end_ourselves(client, 4, 2, "the connection was lost",
                         error == 0 ? NULL : strerrordesc_np(-error));
    client_leave(client);
}

void smtp_client_timeout(struct smtp_client *client)
{
    if (client_ended(client))
        return;
    client_enter(client);
    client_end_ourselves(client, 4, 2, "the time was up", NULL);
    client_leave(client);
}

struct buf *smtp_client_out(struct smtp_client *client)
{
    return &client->out;
}

uint32_t smtp_client_patience_ms(const struct smtp_client *client)
{
    const struct smtp_client_config *config = &client->config;

    switch (client->phase) {
    case SMTP_CLIENT_GREETING:
    case SMTP_CLIENT_EHLO:
    case SMTP_CLIENT_HELO:
        return config->greeting_ms;
    case SMTP_CLIENT_QUIT:
        return config->data_ms; /* RFC 5321 4.5.3.2 sets none: the shortest of them */
    case SMTP_CLIENT_TRANSACTION:
        break;
    default:
        return UINT32_MAX;
    }
    switch (client->receive.step) {
    case SMTP_STEP_RCPT:
        return config->rcpt_ms;
    case SMTP_STEP_DATA:
        return config->data_ms;
    case SMTP_STEP_BODY:
        return config->block_ms;
    case SMTP_STEP_DOT:
        return config->dot_ms;
    default:
        return config->mail_ms; /* MAIL, and RSET before it */
    }
}

const struct smtp_capabilities *smtp_client_capabilities(const struct smtp_client *client)
{
    return &client->capabilities;
}

bool smtp_client_idle(const struct smtp_client *client)
{
    return client->phase == SMTP_CLIENT_IDLE;
}
