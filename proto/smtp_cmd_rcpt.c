#include "proto/smtp_server_private.h"

#include "core/assert.h"
#include "proto/smtp_param.h"

/* RCPT (RFC 5321 4.1.1.3). No parameter is known yet to this command. */

static bool refuse_rcpt(struct smtp_server *server, struct smtp_reply reply)
{
    smtp_server_reply(server, reply);
    return false;
}

bool smtp_check_rcpt(struct smtp_server *server, struct smtp_command *command)
{
    struct slice rest = slice_skip(command->argument, 3);
    struct smtp_param param;

    if (!slice_starts_nocase(command->argument, SLICE("TO:")))
        return refuse_rcpt(server, SMTP_REPLY(501, 5, 5, 4, "Syntax: RCPT TO:<address>"));
    if (rest.size > 0 && rest.data[0] == ' ') /* as with MAIL */
        rest = slice_skip(rest, 1);
    if (!smtp_path_parse(rest, false, true, &command->rcpt.recipient, &rest))
        return refuse_rcpt(server, SMTP_REPLY(501, 5, 1, 3, "Bad recipient address syntax"));
    switch (smtp_param_next(&rest, &param)) {
    case SMTP_PARAM_END:
        break;
    case SMTP_PARAM_OK:
        return refuse_rcpt(server, SMTP_REPLY(555, 5, 5, 4, "Parameter not known"));
    case SMTP_PARAM_BAD:
        return refuse_rcpt(server, SMTP_REPLY(501, 5, 5, 4, "Bad parameter syntax"));
    }
    if (server->facts.recipients >= server->config->limits.recipients_max)
        return refuse_rcpt(server, SMTP_REPLY(452, 4, 5, 3, "Too many recipients"));
    return true;
}

void smtp_run_rcpt(struct smtp_server *server, const struct smtp_command *command)
{
    smtp_server_settle(server, SMTP_ASKED_RCPT, server->ops->rcpt(server->context, &command->rcpt));
}

void smtp_finish_rcpt(struct smtp_server *server, struct smtp_reply reply)
{
    if (smtp_reply_accepts(&reply)) {
        ASSERT(reply.code / 100 == 2);
        server->facts.recipients++;
        smtp_server_enter(server, SMTP_STATE_RCPT);
    }
    smtp_server_reply(server, smtp_reply_or(reply, SLICE("Recipient ok")));
}
