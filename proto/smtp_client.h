/* proto/smtp_client.h - the client's side of one SMTP session: many transactions, pipelined. Pure.
 *
 * Two cursors, sending and receiving, over one list of commands: that is all of pipelining (RFC
 * 2920). The owner (daemon/outbound.c) connects, feeds replies, sends `out`, streams the body when
 * asked, arms a timer from `patience_ms`, and hands over the next transaction when ops->ready is
 * called.
 *
 * What a reply means (RFC 5321 4.2.1, RFC 5248): 2xx done; 4xx later; 5xx never; a lost connection,
 * a time-out or nonsense: later. One outcome per recipient, told exactly once per transaction,
 * before ops->ready or ops->ended. Where PIPELINING is not offered commands go one by one. DATA is
 * not sent until a RCPT was accepted when not pipelined; when pipelined and all were refused, a 354
 * is answered with a lone dot (RFC 2920 3.1). Body bytes never go out before 354. A message with
 * 8-bit content to a host without 8BITMIME is `never` (5.6.3), as we do not convert.
 *
 * More of what a reply means: 552 to RCPT counts as 452 (RFC 5321 4.5.3.1.10). A reply in the midst
 * of the body settles the recipients when it refuses, and ends the session. A reply that cannot be
 * one to anything we have sent (it was in the same input as what made us write the command) is one
 * in excess. RSET goes out only before the next MAIL, and only when the transaction before it
 * stopped midway.
 *
 * Callbacks: they run inside the calls below, ready never inside another callback.
 * smtp_client_begin() and _quit() may be called from ready, _body_sent() and _body_failed() from
 * body, smtp_client_destroy() from any of them.
 */
#ifndef KILAT_PROTO_SMTP_CLIENT_H
#define KILAT_PROTO_SMTP_CLIENT_H

#include "proto/smtp.h"

struct smtp_client;

enum smtp_outcome { SMTP_DELIVERED, SMTP_LATER, SMTP_NEVER };

/* What the other side said, made printable: at most 10 lines joined by spaces, 512 octets, controls
 * as "?". */
struct smtp_remote_reply {
    uint16_t code;     /* 0: no reply (connection lost, time up), or it was we who refused */
    uint8_t status[3]; /* enhanced; {0}: absent, or of another class than the code; ours with 0 */
    struct slice text; /* with code and status: "550 5.1.1 no such user"; or what happened */
};

struct smtp_transaction {
    struct slice sender;            /* empty: <> */
    const struct slice *recipients; /* borrowed until the last outcome */
    uint32_t recipient_count;       /* > 0 */
    uint64_t body_bytes;            /* for SIZE=, as stored */
    bool eight_bit;
};

struct smtp_client_ops {
    /* EHLO (or HELO) is done, or a transaction has ended and the session can take another: call
     * smtp_client_begin(), smtp_client_quit(), or nothing yet. */
    void (*ready)(void *context);
    void (*outcome)(void *context, uint32_t recipient, enum smtp_outcome outcome,
                    const struct smtp_remote_reply *reply);
    /* 354 came (or the body may follow): send the body, dot-stuffed where its flag says so, CRLF at
     * its end, and then smtp_client_body_sent() writes the final dot into `out`. */
    void (*body)(void *context);
    /* The session is over. `site_failed`: it ended before or at EHLO, or with 421: the host as a
     * whole is not well. `in_doubt`: the final dot was sent and no reply came. Outcomes were told
     * before. */
    void (*ended)(void *context, bool site_failed, bool in_doubt,
                  const struct smtp_remote_reply *reply);
};

struct smtp_client_config {
    struct slice hostname; /* EHLO name; borrowed for the session */
    /* Patience per phase, RFC 5321 4.5.3.2: greeting 5 min, MAIL 5, RCPT 5, DATA 2, block 3, final
     * dot 10. */
    uint32_t greeting_ms, mail_ms, rcpt_ms, data_ms, block_ms, dot_ms;
    uint32_t reply_line_max; /* longer is nonsense: 2048 */
};

/* What EHLO offered. */
struct smtp_capabilities {
    bool pipelining, eight_bit, enhanced_status, size;
    uint64_t size_max; /* 0: none said */
};

int smtp_client_create(const struct smtp_client_config *config, const struct smtp_client_ops *ops,
                       void *context, struct smtp_client **ret_client);
void smtp_client_destroy(struct smtp_client **client);

/* Consumes all of it. Replies in excess, or too long, end the session. */
void smtp_client_input(struct smtp_client *client, struct slice input);
/* Only from ready on, one at a time. */
void smtp_client_begin(struct smtp_client *client, const struct smtp_transaction *transaction);
/* All of the body has been written by the owner (after ops->body): `out` gets ".CRLF". */
void smtp_client_body_sent(struct smtp_client *client);
/* The body cannot be had (a read error): the session ends without the final dot; outcomes are
 * `later`. */
void smtp_client_body_failed(struct smtp_client *client);
/* QUIT; ops->ended follows with the 221 or with the end of the connection. */
void smtp_client_quit(struct smtp_client *client);
/* The connection is gone (0: orderly, otherwise -errno), or the time is up. Tells outcomes, then
 * ops->ended. Nothing when ended. */
void smtp_client_lost(struct smtp_client *client, int error);
void smtp_client_timeout(struct smtp_client *client);

struct buf *smtp_client_out(struct smtp_client *client);
/* Counted from the last byte that moved in either direction: in the midst of the body it is the
 * time for one block. */
uint32_t smtp_client_patience_ms(
    const struct smtp_client *client); /* UINT32_MAX: none, idle between transactions */
const struct smtp_capabilities *smtp_client_capabilities(const struct smtp_client *client);
bool smtp_client_idle(const struct smtp_client *client); /* ready for smtp_client_begin() */

#endif
