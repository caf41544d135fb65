/* proto/smtp_client_private.h - the insides of a client, shared by smtp_client.c (what is said),
 * and smtp_client_outcome.c (what the answers mean).
 *
 * The list of commands of one transaction, which both cursors walk:
 *
 *     [RSET]  MAIL  RCPT 0 .. RCPT n-1  DATA  (body)  DOT
 *        ^ receive: the next reply is to this one        ^ send: this one is written next
 */
#ifndef KILAT_PROTO_SMTP_CLIENT_PRIVATE_H
#define KILAT_PROTO_SMTP_CLIENT_PRIVATE_H

#include "proto/smtp_client_reply.h"

enum smtp_client_phase {
    SMTP_CLIENT_GREETING, /* connected; the 220 has not come */
    SMTP_CLIENT_EHLO,
    SMTP_CLIENT_HELO, /* EHLO is unknown there */
    SMTP_CLIENT_IDLE, /* ready for a transaction */
    SMTP_CLIENT_TRANSACTION,
    SMTP_CLIENT_QUIT,
    SMTP_CLIENT_ENDED, /* ops->ended was called; nothing follows */
    SMTP_CLIENT_PHASES
};

enum smtp_client_step {
    SMTP_STEP_RSET,
    SMTP_STEP_MAIL,
    SMTP_STEP_RCPT,
    SMTP_STEP_DATA,
    SMTP_STEP_BODY, /* 354 has come and the owner sends: no reply is due */
    SMTP_STEP_DOT,
    SMTP_STEPS
};

struct smtp_client_cursor {
    enum smtp_client_step step;
    uint32_t recipient; /* at SMTP_STEP_RCPT */
};

enum smtp_client_fate {
    SMTP_FATE_OPEN,     /* RCPT not answered yet */
    SMTP_FATE_ACCEPTED, /* shares what becomes of the message */
    SMTP_FATE_TOLD,     /* its outcome was told */
    SMTP_FATE_UNSENT, /* told as well: its address cannot be written on the wire, so no RCPT stands
                         for it */
};

struct smtp_client {
    struct smtp_client_config config;
    const struct smtp_client_ops *ops;
    void *context;

    enum smtp_client_phase phase;
    struct smtp_capabilities capabilities;
    struct smtp_reply_reader reader;
    struct buf out;
    uint32_t outstanding; /* commands written, and the greeting, whose replies have not come */
    uint32_t answerable;  /* of these, the ones written before the input in hand arrived */
    bool stale;           /* the reply in the reader began when nothing was answerable */

    struct smtp_transaction transaction;
    struct buf fates; /* one enum smtp_client_fate per recipient, a byte each */
    struct smtp_client_cursor send, receive;
    uint32_t untold;   /* recipients without an outcome */
    uint32_t accepted; /* recipients that wait for the reply to the dot */
    bool mail_refused;
    bool
        mail_left_open; /* MAIL was accepted and no dot answered: RSET comes before the next MAIL */

    bool ready_due; /* ops->ready is to be called when the input in hand is used up */
    uint32_t depth; /* public calls we are inside of */
    bool doomed;    /* destroyed from a callback: freed when the outermost call returns, no more
                       callbacks */
};

/* smtp_client_outcome.c */

/* Decides the open and the accepted recipients alike. */
void smtp_client_tell_all(struct smtp_client *client, enum smtp_outcome outcome,
                          const struct smtp_remote_reply *reply);
void smtp_client_tell(struct smtp_client *client, uint32_t recipient, enum smtp_outcome outcome,
                      const struct smtp_remote_reply *reply);
uint8_t *smtp_client_fate(struct smtp_client *client, uint32_t recipient);
/* Tells what the message's own properties decide before anything is sent. */
void smtp_client_judge(struct smtp_client *client);
/* One complete reply to the command at the receiving cursor of a transaction. Moves that cursor. */
void smtp_client_judge_reply(struct smtp_client *client, const struct smtp_remote_reply *reply);
/* A reply that answers nothing. */
void smtp_client_judge_excess(struct smtp_client *client, const struct smtp_remote_reply *reply);

/* smtp_client.c */

/* The next entry of the list, past recipients that are not sent. */
void smtp_client_cursor_next(struct smtp_client *client, struct smtp_client_cursor *cursor);
/* The owner's turn, or a lone dot when nobody was accepted (RFC 2920 3.1). */
void smtp_client_go_ahead(struct smtp_client *client);
/* The end of the session; recipients that are left are told `later`. */
void smtp_client_end(struct smtp_client *client, bool site_failed, bool in_doubt,
                     const struct smtp_remote_reply *reply);
/* As above, for what makes no sense: `fault` says what. */
void smtp_client_end_nonsense(struct smtp_client *client, const char *fault);

#endif
