/* proto/smtp_server_private.h - the inside of a server session, for smtp_server.c and the
 * smtp_cmd_*.c files.
 *
 * A command has three parts. Its *check* looks at the argument, replies when it refuses, and
 * changes nothing. Its *run* cannot refuse: it acts, or asks an op. What was asked is *finished*
 * with the op's answer, at once or later.
 */
#ifndef KILAT_PROTO_SMTP_SERVER_PRIVATE_H
#define KILAT_PROTO_SMTP_SERVER_PRIVATE_H

#include "proto/header.h"
#include "proto/smtp_body.h"
#include "proto/smtp_parse.h"
#include "proto/smtp_server.h"

/* What an op has been asked. */
enum smtp_question {
    SMTP_ASKED_MAIL,
    SMTP_ASKED_RCPT,
    SMTP_ASKED_DATA,
    SMTP_ASKED_DATA_END,
    SMTP_QUESTIONS
};

struct smtp_server {
    const struct smtp_server_config *config;
    const struct smtp_server_ops *ops;
    void *context;
    struct smtp_server_facts facts;
    struct smtp_line_reader lines;
    struct buf out;
    uint8_t *helo; /* what facts.helo points at; as long as the name is */
    struct smtp_body_scan body;
    struct header_scan header;
    uint32_t errors_in_row;
    enum smtp_question asked; /* valid while facts.pending */
    bool spoken;              /* the first octet has come */
    bool mail_seen;           /* a MAIL was accepted in this session */
    bool paused;              /* data_chunk asked for it */
};

/* One command: its argument, and what its check has made of it for its run. */
struct smtp_command {
    enum smtp_verb verb;
    struct slice argument;
    struct smtp_mail mail;
    struct smtp_rcpt rcpt;
};

/* The only writer of facts.state. */
void smtp_server_enter(struct smtp_server *server, enum smtp_server_state next);
/* The one end of every transaction, accepted, refused or given up: tells the owner, forgets all
 * facts of it, and stands in READY again. Nothing when none is open. */
void smtp_server_transaction_end(struct smtp_server *server);
/* Writes the reply to the command in hand and keeps the count of errors, which may turn it into a
 * 421. */
void smtp_server_reply(struct smtp_server *server, struct smtp_reply reply);
/* 421 with our name before `text`, and the end of the session. */
void smtp_server_close(struct smtp_server *server, uint8_t status_subject, uint8_t status_detail,
                       const char *text);
/* What an op answered: finishes the command, or waits for smtp_server_answer(). */
void smtp_server_settle(struct smtp_server *server, enum smtp_question question,
                        struct smtp_reply reply);

static inline bool smtp_reply_accepts(const struct smtp_reply *reply)
{
    return reply->code < 400;
}

/* `reply` with `text` where the op gave none. */
static inline struct smtp_reply smtp_reply_or(struct smtp_reply reply, struct slice text)
{
    if (reply.text.size == 0)
        reply.text = text;
    return reply;
}

/* The parts of the commands, in smtp_cmd_*.c. */
bool smtp_check_helo(struct smtp_server *server, struct smtp_command *command);
void smtp_run_helo(struct smtp_server *server, const struct smtp_command *command);
bool smtp_check_mail(struct smtp_server *server, struct smtp_command *command);
void smtp_run_mail(struct smtp_server *server, const struct smtp_command *command);
void smtp_finish_mail(struct smtp_server *server, struct smtp_reply reply);
bool smtp_check_rcpt(struct smtp_server *server, struct smtp_command *command);
void smtp_run_rcpt(struct smtp_server *server, const struct smtp_command *command);
void smtp_finish_rcpt(struct smtp_server *server, struct smtp_reply reply);
bool smtp_check_no_argument(struct smtp_server *server, struct smtp_command *command);
void smtp_run_data(struct smtp_server *server, const struct smtp_command *command);
void smtp_finish_data(struct smtp_server *server, struct smtp_reply reply);
void smtp_body_input(struct smtp_server *server, struct slice *input);
bool smtp_body_is_refused(const struct smtp_server *server);
void smtp_finish_data_end(struct smtp_server *server, struct smtp_reply reply);
void smtp_run_rset(struct smtp_server *server, const struct smtp_command *command);
bool smtp_check_anything(struct smtp_server *server, struct smtp_command *command);
void smtp_run_noop(struct smtp_server *server, const struct smtp_command *command);
bool smtp_check_vrfy(struct smtp_server *server, struct smtp_command *command);
void smtp_run_vrfy(struct smtp_server *server, const struct smtp_command *command);
void smtp_run_help(struct smtp_server *server, const struct smtp_command *command);
void smtp_run_quit(struct smtp_server *server, const struct smtp_command *command);
bool smtp_check_unannounced(struct smtp_server *server, struct smtp_command *command);
bool smtp_check_unknown(struct smtp_server *server, struct smtp_command *command);

#endif
