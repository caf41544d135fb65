/* proto/pop3_server.h - the server's side of one POP3 dialogue (RFC 1939, RFC 2449). Pure.
 *
 * The owner (daemon/pop3.c) feeds bytes, sends `out`, streams messages when asked, and answers the
 * ops. All of RFC 1939 but APOP; CAPA with TOP, UIDL, USER, PIPELINING, RESP-CODES (RFC 2449).
 * Numbers are parsed by slice_parse_u64() alone. Deletes are marks in the session until QUIT.
 *
 * Output: LIST and UIDL of a large mailbox are written in portions, never as one huge buffer. While
 * more is to come, or while more than POP3_SERVER_OUT_PAUSE bytes wait in `out`, no input is
 * consumed. The owner says pop3_server_output_drained() whenever it has sent all of `out`;
 * pop3_server_input(), also with an empty slice, goes on as well, so an owner that offers its
 * unconsumed input again after each send needs no second call.
 * Callbacks: an op may answer inside its own call (pop3_server_sent() inside ops->send, and so on).
 * The session must not be destroyed inside an op.
 */
#ifndef KILAT_PROTO_POP3_SERVER_H
#define KILAT_PROTO_POP3_SERVER_H

#include "core/buf.h"

#define POP3_SERVER_OUT_PAUSE (64 * KIB)
#define POP3_LOGIN_FAILURES_MAX 3 /* wrong passwords before the session ends */

struct pop3_server;

/* One message of the open mailbox, numbered from 0 here (from 1 on the wire). */
struct pop3_message {
    uint64_t size_bytes;
    struct slice uid; /* 1..70 octets of 0x21..0x7e, stable; borrowed until the mailbox is closed */
};

enum pop3_login {
    POP3_LOGIN_PENDING,
    POP3_LOGIN_OK,
    POP3_LOGIN_REFUSED,
    POP3_LOGIN_IN_USE,
    POP3_LOGIN_TEMPORARY
};

struct pop3_server_ops {
    /* User and password are both known: check them, lock and scan the mailbox. Pending:
     * pop3_server_login_done(). The password is borrowed for the call only. */
    enum pop3_login (*login)(void *context, struct slice user, struct slice password);
    uint32_t (*count)(void *context);
    struct pop3_message (*message)(void *context, uint32_t index);
    /* RETR (lines_max UINT64_MAX) or TOP: send the message, dot-stuffed, ending with CRLF,
     * header whole and then at most lines_max lines of the body, then call pop3_server_sent().
     * "+OK" stands in `out` already. */
    void (*send)(void *context, uint32_t index, uint64_t lines_max);
    /* QUIT: make the deletes of `deleted` (one bit per message, message i is bit i % 8 of byte i
     * / 8; never NULL; borrowed until answered) durable, then pop3_server_quit_done(): only then
     * +OK. `deleted_count` is the number of bits that are set; with 0 the mailbox has only to be
     * closed. */
    void (*quit)(void *context, const uint8_t *deleted, uint32_t deleted_count);
};

struct pop3_server_config {
    struct slice hostname;     /* in the greeting */
    uint32_t command_line_max; /* 255 octets (RFC 2449 4) or more */
    uint32_t errors_max;
    uint32_t idle_ms;  /* at least 10 min after log-in (RFC 1939 3) */
    uint32_t login_ms; /* patience before log-in */
};

int pop3_server_create(const struct pop3_server_config *config, const struct pop3_server_ops *ops,
                       void *context, struct pop3_server **ret_server);
void pop3_server_destroy(struct pop3_server **server);
void pop3_server_greet(struct pop3_server *server);
/* Refuses the session ("-ERR [SYS/TEMP] ...") and ends it. */
void pop3_server_refuse(struct pop3_server *server, struct slice text);
/* As smtp_server_input(): returns the bytes it is done with, stops while something is pending. */
size_t pop3_server_input(struct pop3_server *server, struct slice input);
void pop3_server_login_done(struct pop3_server *server, enum pop3_login result);
/* All of the message was written by the owner; with `failed` the session ends (bytes are
 * missing). */
void pop3_server_sent(struct pop3_server *server, bool failed);
/* 0: durable; otherwise "-ERR [SYS/TEMP] some deleted messages not removed" (RFC 1939 6). */
void pop3_server_quit_done(struct pop3_server *server, int error);
/* Ends without a reply and without deletes (RFC 1939 3). */
void pop3_server_timeout(struct pop3_server *server);
/* All of `out` was sent: writes the next portion of a listing, if there is one. */
void pop3_server_output_drained(struct pop3_server *server);
struct buf *pop3_server_out(struct pop3_server *server);
/* How long the peer may stay silent, or take nothing of what is being sent to it; UINT32_MAX
 * while a log-in or a QUIT is being worked on. The owner counts it anew whenever bytes moved in
 * either direction. */
uint32_t pop3_server_patience_ms(const struct pop3_server *server);
bool pop3_server_closed(const struct pop3_server *server);
/* A log-in, a message or a QUIT waits for the owner, or a listing for the peer to read: the last
 * command is not answered in full yet. */
bool pop3_server_pending(const struct pop3_server *server);
/* For the log line at the end: counts and bytes. */
struct pop3_totals {
    uint32_t retrieved, topped, deleted;
    uint64_t retrieved_bytes;
};
struct pop3_totals pop3_server_totals(const struct pop3_server *server);

/* TOP and RETR: walks a message and says how much of it is to be sent. Feed in order; returns
 * the leading part of `bytes` to send; `done` when the limit is reached. Lines are counted after
 * the blank line that ends the header. */
struct pop3_top {
    uint64_t lines_left;
    bool in_body, done, at_line_start, after_cr;
};
void pop3_top_init(struct pop3_top *top, uint64_t lines_max);
struct slice pop3_top_next(struct pop3_top *top, struct slice bytes);

#endif
