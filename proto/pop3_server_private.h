/* proto/pop3_server_private.h - the insides of a POP3 session, shared by pop3_server.c (the
 * dialogue), pop3_parse.c (lines) and pop3_cmd_auth.c, pop3_cmd_mail.c (what the commands do).
 *
 *   AUTHORIZATION --PASS--> LOGIN --ok--> TRANSACTION --QUIT--> UPDATE --> CLOSED
 *         ^                   |             |      ^
 *         +----- refused -----+             v      |
 *                                  LISTING, SENDING (an answer of many lines is under way)
 */
#ifndef KILAT_PROTO_POP3_SERVER_PRIVATE_H
#define KILAT_PROTO_POP3_SERVER_PRIVATE_H

#include "proto/pop3_server.h"

enum pop3_state {
    POP3_STATE_AUTHORIZATION,
    POP3_STATE_LOGIN, /* ops->login has not answered */
    POP3_STATE_TRANSACTION,
    POP3_STATE_LISTING, /* LIST or UIDL, as `out` drains */
    POP3_STATE_SENDING, /* RETR or TOP, by the owner */
    POP3_STATE_UPDATE,  /* ops->quit has not answered */
    POP3_STATE_CLOSED,
    POP3_STATES
};

/* pop3_parse.c: command lines. */

#define POP3_LINE_DISCARD_MAX (64 * KIB)
#define POP3_ARGUMENTS_MAX 2

struct pop3_lines {
    uint32_t line_max;
    struct buf cut;       /* a line whose end has not come; may hold a password */
    size_t discard_bytes; /* of a line that is too long already */
};

enum pop3_line_event {
    POP3_LINE_MORE,     /* the input is used up */
    POP3_LINE_WHOLE,    /* one line, without its end */
    POP3_LINE_TOO_LONG, /* its end has come, its bytes are forgotten */
    POP3_LINE_ENDLESS,  /* more than POP3_LINE_DISCARD_MAX without an end, or no memory for it */
};

void pop3_lines_init(struct pop3_lines *lines, uint32_t line_max);
void pop3_lines_deinit(struct pop3_lines *lines);
/* Takes up to one line from `*input`. `*ret_line` is borrowed until pop3_lines_forget(). */
enum pop3_line_event pop3_lines_next(struct pop3_lines *lines, struct slice *input,
                                     struct slice *ret_line);
/* The line was dealt with: overwrites what was carried of it and gives the memory back. */
void pop3_lines_forget(struct pop3_lines *lines);
/* No part of a line is carried. */
bool pop3_lines_at_start(const struct pop3_lines *lines);

struct pop3_command {
    struct slice verb;
    struct slice rest; /* all behind the one space after the verb */
    struct slice arguments[POP3_ARGUMENTS_MAX];
    uint32_t argument_count; /* UINT32_MAX: too many. Two spaces have an empty one between. */
};

void pop3_parse_command(struct slice line, struct pop3_command *ret_command);

/* The session. */

struct pop3_server {
    struct pop3_server_config config;
    const struct pop3_server_ops *ops;
    void *context;

    enum pop3_state state;
    struct pop3_lines lines;
    struct buf out;
    uint32_t errors, login_failures;
    struct buf user; /* named by USER, until PASS */

    uint32_t count;      /* messages in the mailbox as it was opened */
    uint64_t size_bytes; /* of those that are not deleted */
    uint8_t *deleted;    /* one bit per message; owned; NULL before log-in */
    uint32_t deleted_count;
    bool listing_uids;     /* LISTING: UIDL, not LIST */
    uint32_t listing_next; /* LISTING: this message comes next */
    uint32_t sending;      /* SENDING: this message */
    bool sending_top;
    struct pop3_totals totals;
};

/* pop3_server.c: the only writer of server->state. */
void pop3_enter(struct pop3_server *server, enum pop3_state next);
void pop3_ok(struct pop3_server *server, const char *format, ...) KILAT_PRINTF(2, 3);
/* A refusal that is no fault of the client's program. */
void pop3_refusal(struct pop3_server *server, const char *text);
/* One that is: too many of them end the session. */
void pop3_fault(struct pop3_server *server, const char *text);
void pop3_login_apply(struct pop3_server *server, enum pop3_login result);

/* pop3_cmd_auth.c */
void pop3_run_user(struct pop3_server *server, const struct pop3_command *command);
void pop3_run_pass(struct pop3_server *server, const struct pop3_command *command);
void pop3_run_capa(struct pop3_server *server, const struct pop3_command *command);

/* pop3_cmd_mail.c */
bool pop3_is_deleted(const struct pop3_server *server, uint32_t index);
void pop3_run_stat(struct pop3_server *server, const struct pop3_command *command);
void pop3_run_list(struct pop3_server *server, const struct pop3_command *command);
void pop3_run_uidl(struct pop3_server *server, const struct pop3_command *command);
void pop3_run_retr(struct pop3_server *server, const struct pop3_command *command);
void pop3_run_top(struct pop3_server *server, const struct pop3_command *command);
void pop3_run_dele(struct pop3_server *server, const struct pop3_command *command);
void pop3_run_noop(struct pop3_server *server, const struct pop3_command *command);
void pop3_run_rset(struct pop3_server *server, const struct pop3_command *command);
void pop3_run_quit(struct pop3_server *server, const struct pop3_command *command);
/* Writes the next portion of a listing. */
void pop3_listing_continue(struct pop3_server *server);

#endif
