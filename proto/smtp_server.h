/* proto/smtp_server.h - the server's side of one SMTP dialogue: bytes in, replies and events out. Pure.
 *
 * No I/O, no clock, no queue, no users: whoever drives it (daemon/inbound.c) feeds what was received,
 * sends what stands in `out`, arms a timer from `patience_ms`, and answers the questions of struct
 * smtp_server_ops.
 *
 * Input:  smtp_server_input() parses in place and returns how many bytes it is done with. It stops early when
 *         an answer is pending, when the owner asked it to pause, or when the session has ended; the rest is
 *         offered again later. A partial command line is consumed and carried inside.
 * Output: replies are appended to `out`, in the order of the commands, one slot per command. The session stops
 *         consuming while more than SMTP_SERVER_OUT_PAUSE bytes wait in `out` (a peer that does not read).
 * State:  one enum and a full table (state, command); smtp_server_enter() is its only writer; one function
 *         resets a transaction (STYLE 9, SECURITY 0.2).
 * Errors: every 5xx counts, ours and those of the ops. The one that reaches `errors_max`, or the fifth in a row of a
 *         client that never got as far as an accepted MAIL, is answered with 421 instead, and the session ends. A
 *         message that was accepted sets the count back to 0: long sessions are not punished for old faults.
 * Memory: under 1 KiB when idle; a part of a command line and the client's name are allocated beside it. `out` keeps
 *         its memory until the owner gives it back (buf_release() in place of buf_reset() when it expects silence).
 */
#ifndef KILAT_PROTO_SMTP_SERVER_H
#define KILAT_PROTO_SMTP_SERVER_H

#include "proto/smtp.h"

#define SMTP_SERVER_OUT_PAUSE (64 * KIB)

struct smtp_server;

/* What MAIL said. Slices are borrowed until the op returns. */
struct smtp_mail {
    struct smtp_address sender; /* whole empty: <> */
    uint64_t size_bytes;        /* SIZE=, 0 when not given */
    bool eight_bit;             /* BODY=8BITMIME */
};

struct smtp_rcpt {
    struct smtp_address recipient; /* domain empty: <postmaster> */
};

/* Each of mail, rcpt, data and data_end answers now, or returns SMTP_PENDING and calls smtp_server_answer() later, not
 * inside the op. A refusal (4xx, 5xx) leaves the session as if the command had not been given; 421 also ends it. An
 * answer without text gets ours. The class of an enhanced code is that of its reply. */
struct smtp_server_ops {
    struct smtp_reply (*helo)(void *context,
                              struct slice name); /* 250 admits; text is ignored then */
    struct smtp_reply (*mail)(void *context, const struct smtp_mail *mail);
    struct smtp_reply (*rcpt)(void *context, const struct smtp_rcpt *rcpt);
    /* Before 354: is there room? Answer 354. */
    struct smtp_reply (*data)(void *context);
    /* Part of the message: CRLF line ends, dot-unstuffed, never a bare CR or LF when bare_newline is refused. Points
     * into the input given to smtp_server_input(): keep the receive buffer to keep the bytes. Or at a constant of one
     * or two octets that lives for ever: a CRLF that two inputs have cut, or what normalizing put in. No part comes
     * any more once the message is to be refused. False: pause after this part (smtp_server_resume() goes on). */
    bool (*data_chunk)(void *context, struct slice bytes);
    /* The end of data was seen and the session itself has nothing against the message. 250 only when it is durable. */
    struct smtp_reply (*data_end)(void *context);
    /* The transaction is over, accepted, refused or given up: forget envelope and body. Called once per MAIL that was
     * accepted, and for a body that was begun never later than the next reply. */
    void (*reset)(void *context);
};

struct smtp_server_limits {
    uint64_t message_bytes_max; /* announced as SIZE; at least 64K (RFC 5321 4.5.3.1.7) */
    uint32_t recipients_max;    /* at least 100 (RFC 5321 4.5.3.1.8); above: 452 4.5.3 */
    uint32_t errors_max;        /* commands in error before 421 and close */
    uint32_t command_line_max;  /* at least 512 */
    uint32_t received_max;      /* Received fields before it is a loop: 100 (RFC 5321 6.3) */
    /* Patience per phase (RFC 5321 4.5.3.2.7: 5 min): up to EHLO, for a command, within a body, and within a body
     * that is only read to its end because it will be refused. */
    uint32_t greeting_ms, command_ms, data_block_ms, data_end_ms;
};

/* Fixed limits of what one message may look like (SECURITY 1.2 D). */
#define SMTP_SERVER_HEADER_BYTES_MAX (1 * MIB)
#define SMTP_SERVER_BODY_LINE_MAX (64 * KIB)
/* Errors in a row, before any MAIL: not a mail client (SECURITY 1.2 A). */
#define SMTP_SERVER_STRANGER_ERRORS_MAX 5

enum smtp_bare_newline { SMTP_BARE_NEWLINE_REJECT, SMTP_BARE_NEWLINE_NORMALIZE };

struct smtp_server_config {
    struct slice hostname; /* in the greeting and in EHLO's first line; borrowed for the session */
    struct smtp_server_limits limits;
    enum smtp_bare_newline bare_newline;
};

enum smtp_server_state {
    SMTP_STATE_START,  /* greeted, no EHLO or HELO yet */
    SMTP_STATE_READY,  /* no transaction */
    SMTP_STATE_MAIL,   /* MAIL accepted */
    SMTP_STATE_RCPT,   /* at least one RCPT accepted */
    SMTP_STATE_BODY,   /* between 354 and the end of data */
    SMTP_STATE_CLOSED, /* the last reply stands in `out`: send it and close */
    SMTP_STATES
};

/* The facts a session shows; the rest is private (smtp_server_private.h). */
struct smtp_server_facts {
    enum smtp_server_state state;
    bool pending;      /* an op has not answered yet */
    bool extended;     /* EHLO, not HELO */
    struct slice helo; /* what the client called itself; borrowed from the session; empty before */
    /* Lines taken so far: while it stands still the peer is drip-feeding one command. */
    uint64_t commands;
    uint32_t errors;       /* since the last accepted message */
    uint32_t recipients;   /* accepted in this transaction */
    uint64_t body_bytes;   /* of the message in hand, as stored */
    uint64_t transactions; /* messages accepted so far */
    /* Of the message at data_end: any octet above 127; a line that begins with "."; a CRLF at its end, or empty; the
     * header section with its blank line, or all of it. */
    bool body_has_8bit, body_has_dot_line, body_ends_with_crlf;
    size_t header_bytes;
};

/* Owned; freed by smtp_server_destroy(). 0 or -ENOMEM. `config` and `ops` are borrowed for the session's life. */
int smtp_server_create(const struct smtp_server_config *config, const struct smtp_server_ops *ops,
                       void *context, struct smtp_server **ret_server);
/* Calls ops->reset if a transaction is open. Accepts NULL, clears the pointer. */
void smtp_server_destroy(struct smtp_server **server);

/* Writes the 220 greeting into `out`. */
void smtp_server_greet(struct smtp_server *server);
/* Refuses the session with one reply (421, 554) and ends it. */
void smtp_server_refuse(struct smtp_server *server, struct smtp_reply reply);
/* See above. */
size_t smtp_server_input(struct smtp_server *server, struct slice input);
/* The answer to what is pending; afterwards the owner offers its unconsumed input again. Nothing once CLOSED. */
void smtp_server_answer(struct smtp_server *server, struct smtp_reply reply);
/* Goes on after data_chunk returned false. */
void smtp_server_resume(struct smtp_server *server);
/* The time is up: writes 421 4.4.2 and ends. */
void smtp_server_timeout(struct smtp_server *server);

/* Replies to send; the owner empties it (buf_reset) when it has taken the bytes. */
struct buf *smtp_server_out(struct smtp_server *server);
/* From now, how long the peer may stay silent; UINT32_MAX while we are the ones who owe an answer. */
uint32_t smtp_server_patience_ms(const struct smtp_server *server);
const struct smtp_server_facts *smtp_server_facts(const struct smtp_server *server);

#endif
