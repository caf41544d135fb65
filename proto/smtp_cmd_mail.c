#include "proto/smtp_server_private.h"

#include "core/assert.h"
#include "proto/smtp_param.h"

/* MAIL (RFC 5321 4.1.1.2), with SIZE (RFC 1870) and BODY (RFC 1652). The parameters are taken after
 * HELO as well: who gives them knows what they mean. */

#define SIZE_DIGITS_MAX 20 /* RFC 1870 3 */

enum mail_param { MAIL_PARAM_SIZE = 1, MAIL_PARAM_BODY = 2 };

/* Digits, and in number as the RFC has them; a value that no 64 bits can hold is a size all the
 * same. */
static bool parse_size(struct slice digits, uint64_t *ret_size)
{
    if (digits.size == 0 || digits.size > SIZE_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < digits.size; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '9')
            return false;
    }
    if (!slice_parse_u64(digits, UINT64_MAX, ret_size))
        *ret_size = UINT64_MAX;
    return true;
}

static bool refuse_mail(struct smtp_server *server, struct smtp_reply reply)
{
    smtp_server_reply(server, reply);
    return false;
}

static bool check_size(struct smtp_server *server, const struct smtp_param *param,
                       struct smtp_mail *mail)
{
    if (!parse_size(param->value, &mail->size_bytes))
        return refuse_mail(server, SMTP_REPLY(501, 5, 5, 4, "SIZE wants a number"));
    if (mail->size_bytes > server->config->limits.message_bytes_max)
        return refuse_mail(server, SMTP_REPLY(552, 5, 3, 4, "Message too big"));
    return true;
}

static bool check_body(struct smtp_server *server, const struct smtp_param *param,
                       struct smtp_mail *mail)
{
    mail->eight_bit = slice_equal_nocase(param->value, SLICE("8BITMIME"));
    if (!mail->eight_bit && !slice_equal_nocase(param->value, SLICE("7BIT")))
        return refuse_mail(server, SMTP_REPLY(501, 5, 5, 4, "BODY is 7BIT or 8BITMIME"));
    return true;
}

static bool check_params(struct smtp_server *server, struct slice rest, struct smtp_mail *mail)
{
    enum smtp_param_result result;
    struct smtp_param param;
    unsigned seen = 0, which;

    while ((result = smtp_param_next(&rest, &param)) == SMTP_PARAM_OK) {
        if (slice_equal_nocase(param.keyword, SLICE("SIZE")))
            which = MAIL_PARAM_SIZE;
        else if (slice_equal_nocase(param.keyword, SLICE("BODY")))
            which = MAIL_PARAM_BODY;
        else
            return refuse_mail(server, SMTP_REPLY(555, 5, 5, 4, "Parameter not known"));
        if (seen & which)
            return refuse_mail(server, SMTP_REPLY(501, 5, 5, 4, "Parameter given twice"));
        seen |= which;
        if (which == MAIL_PARAM_SIZE ? !check_size(server, &param, mail)
                                     : !check_body(server, &param, mail))
            return false;
    }
    if (result == SMTP_PARAM_BAD)
        return refuse_mail(server, SMTP_REPLY(501, 5, 5, 4, "Bad parameter syntax"));
    return true;
}

bool smtp_check_mail(struct smtp_server *server, struct smtp_command *command)
{
    struct slice rest = slice_skip(command->argument, 5);

    if (!slice_starts_nocase(command->argument, SLICE("FROM:")))
        return refuse_mail(server, SMTP_REPLY(501, 5, 5, 4, "Syntax: MAIL FROM:<address>"));
    if (rest.size > 0 && rest.data[0] == ' ') /* against the RFC, and a habit of too many clients */
        rest = slice_skip(rest, 1);
    if (!smtp_path_parse(rest, true, false, &command->mail.sender, &rest))
        return refuse_mail(server, SMTP_REPLY(501, 5, 1, 7, "Bad sender address syntax"));
    return check_params(server, rest, &command->mail);
}

void smtp_run_mail(struct smtp_server *server, const struct smtp_command *command)
{
    smtp_server_settle(server, SMTP_ASKED_MAIL, server->ops->mail(server->context, &command->mail));
}

void smtp_finish_mail(struct smtp_server *server, struct smtp_reply reply)
{
    if (smtp_reply_accepts(&reply)) {
        ASSERT(reply.code == 250);
        server->mail_seen = true;
        smtp_server_enter(server, SMTP_STATE_MAIL);
    }
    smtp_server_reply(server, smtp_reply_or(reply, SLICE("Sender ok")));
}
