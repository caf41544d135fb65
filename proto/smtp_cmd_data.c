#include "proto/smtp_server_private.h"

#include "core/assert.h"

/* DATA (RFC 5321 4.1.1.4): the question before 354, the body, its end. A body that will be refused
 * is read to its true end first, so that the client hears the answer and so that no octet of a body
 * is ever taken for a command. */

void smtp_run_data(struct smtp_server *server, const struct smtp_command *command)
{
    (void)command;
    smtp_server_settle(server, SMTP_ASKED_DATA, server->ops->data(server->context));
}

void smtp_finish_data(struct smtp_server *server, struct smtp_reply reply)
{
    if (smtp_reply_accepts(&reply)) {
        ASSERT(reply.code == 354);
        smtp_body_scan_init(&server->body);
        server->body.normalize = server->config->bare_newline == SMTP_BARE_NEWLINE_NORMALIZE;
        header_scan_init(&server->header);
        smtp_server_enter(server, SMTP_STATE_BODY);
        memset(reply.status, 0, sizeof(reply.status)); /* RFC 2034 4: not with 3xx */
    }
    smtp_server_reply(server, smtp_reply_or(reply, SLICE("End data with <CR><LF>.<CR><LF>")));
}

/* What speaks against the message in hand; code 0 if nothing does. Each fault, once there, stays,
 * so the answer does not depend on where the network cut the body. */
static struct smtp_reply body_fault(const struct smtp_server *server)
{
    const struct smtp_server_limits *limits = &server->config->limits;
    const struct smtp_body_scan *body = &server->body;

    if (body->bare_lf && !body->normalize)
        return SMTP_REPLY(550, 5, 5, 2, "Bare LF in message: lines end with CR LF");
    if (body->bare_cr && !body->normalize)
        return SMTP_REPLY(550, 5, 5, 2, "Bare CR in message: lines end with CR LF");
    if (body->nul)
        return SMTP_REPLY(550, 5, 5, 2, "NUL in message");
    if (server->facts.body_bytes > limits->message_bytes_max)
        return SMTP_REPLY(552, 5, 3, 4, "Message too big");
    if (server->header.starts_folded)
        return SMTP_REPLY(550, 5, 6, 0, "Message begins with a continuation line");
    if (server->header.received_count > limits->received_max)
        return SMTP_REPLY(554, 5, 4, 6, "Too many Received fields, mail loop");
    if (server->header.bytes > SMTP_SERVER_HEADER_BYTES_MAX)
        return SMTP_REPLY(552, 5, 3, 4, "Message header too big");
    if (body->line_bytes_max > SMTP_SERVER_BODY_LINE_MAX)
        return SMTP_REPLY(554, 5, 6, 0, "Line in message too long");
    return SMTP_PENDING;
}

bool smtp_body_is_refused(const struct smtp_server *server)
{
    struct smtp_reply fault = body_fault(server);

    return !smtp_reply_is_pending(&fault);
}

static void body_ends(struct smtp_server *server)
{
    struct smtp_server_facts *facts = &server->facts;
    struct smtp_reply fault = body_fault(server);

    if (!smtp_reply_is_pending(&fault)) {
        smtp_finish_data_end(server, fault);
        return;
    }
    facts->body_has_8bit = server->body.eight_bit;
    facts->body_has_dot_line = server->body.dot_line;
    facts->body_ends_with_crlf = true; /* its last CRLF is half of the end of data */
    facts->header_bytes = server->header.bytes;
    smtp_server_settle(server, SMTP_ASKED_DATA_END, server->ops->data_end(server->context));
}

/* Far over the limit: a client that does not stop at twice what EHLO has told it is not worth the
 * reading. */
static bool is_hopeless(const struct smtp_server *server)
{
    return server->facts.body_bytes / 2 > server->config->limits.message_bytes_max;
}

void smtp_body_input(struct smtp_server *server, struct slice *input)
{
    while (!server->paused) {
        struct slice run = smtp_body_scan_next(&server->body, input);

        if (server->body.ended) {
            body_ends(server);
            return;
        }
        if (run.size == 0)
            return;
        server->facts.body_bytes += run.size;
        header_scan_feed(&server->header, run);
        if (is_hopeless(server)) {
            smtp_server_transaction_end(server);
            smtp_server_refuse(server, SMTP_REPLY(552, 5, 3, 4, "Message too big, closing"));
            return;
        }
        if (!smtp_body_is_refused(server))
            server->paused = !server->ops->data_chunk(server->context, run);
    }
}

/* The transaction is over before its reply is written: whoever reads the reply finds everything at
 * rest. */
void smtp_finish_data_end(struct smtp_server *server, struct smtp_reply reply)
{
    if (smtp_reply_accepts(&reply)) {
        ASSERT(reply.code == 250);
        server->facts.transactions++;
        server->facts.errors = 0;
    }
    smtp_server_transaction_end(server);
    smtp_server_reply(server, smtp_reply_or(reply, SLICE("Message accepted")));
}
