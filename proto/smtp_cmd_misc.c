#include "proto/smtp_server_private.h"

/* RSET, NOOP, VRFY, HELP, QUIT (RFC 5321 4.1.1.5 to 4.1.1.10), and what we do not do. */

bool smtp_check_no_argument(struct smtp_server *server, struct smtp_command *command)
{
    if (command->argument.size == 0)
        return true;
    smtp_server_reply(server, SMTP_REPLY(501, 5, 5, 4, "This command takes no argument"));
    return false;
}

bool smtp_check_anything(struct smtp_server *server, struct smtp_command *command)
{
    (void)server;
    (void)command;
    return true;
}

void smtp_run_rset(struct smtp_server *server, const struct smtp_command *command)
{
    (void)command;
    smtp_server_transaction_end(server);
    smtp_server_reply(server, SMTP_REPLY(250, 2, 0, 0, "Ok"));
}

void smtp_run_noop(struct smtp_server *server, const struct smtp_command *command)
{
    (void)command;
    smtp_server_reply(server, SMTP_REPLY(250, 2, 0, 0, "Ok"));
}

bool smtp_check_vrfy(struct smtp_server *server, struct smtp_command *command)
{
    if (command->argument.size > 0)
        return true;
    smtp_server_reply(server, SMTP_REPLY(501, 5, 5, 4, "Syntax: VRFY address"));
    return false;
}

/* The same for everybody: who exists is not for strangers to know (SECURITY 1.2 E, RFC 5321 7.3).
 */
void smtp_run_vrfy(struct smtp_server *server, const struct smtp_command *command)
{
    (void)command;
    smtp_server_reply(server, SMTP_REPLY(252, 2, 5, 0, "Not verified; send mail and see"));
}

void smtp_run_help(struct smtp_server *server, const struct smtp_command *command)
{
    (void)command;
    smtp_server_reply(
        server, SMTP_REPLY(214, 2, 0, 0, "EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT"));
}

void smtp_run_quit(struct smtp_server *server, const struct smtp_command *command)
{
    (void)command;
    smtp_server_transaction_end(server);
    smtp_server_refuse(server, SMTP_REPLY(221, 2, 0, 0, "Bye"));
}

/* Known words of SMTP which EHLO does not offer. */
bool smtp_check_unannounced(struct smtp_server *server, struct smtp_command *command)
{
    (void)command;
    smtp_server_reply(server, SMTP_REPLY(502, 5, 5, 1, "Command not offered here"));
    return false;
}

bool smtp_check_unknown(struct smtp_server *server, struct smtp_command *command)
{
    (void)command;
    smtp_server_reply(server, SMTP_REPLY(500, 5, 5, 2, "Command not known"));
    return false;
}
