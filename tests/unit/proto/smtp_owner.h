/* tests/unit/proto/smtp_owner.h - the owner of an SMTP server session, and how tests talk to it. For tests only.
 */
#ifndef KILAT_TESTS_UNIT_PROTO_SMTP_OWNER_H
#define KILAT_TESTS_UNIT_PROTO_SMTP_OWNER_H

#include "proto/smtp_server.h"

#include "proto/smtp_server_private.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* The owner of a session: says yes to everything unless a test has put other answers into `next`. */
struct owner {
    struct smtp_server *server;
    struct smtp_reply next; /* of the op named below */
    char op;                /* h m r d e: which op answers `next`, once; 0 none */
    bool later;             /* ops say "pending" and the answer comes after the input */
    struct smtp_reply owed;
    bool pause;
    unsigned mails, resets, ends, chunks;
    struct buf body; /* of the message in hand */
    struct buf last; /* the last accepted one */
    struct smtp_server_facts at_end;
    struct buf out; /* all replies so far */
};

static inline struct smtp_reply decide(struct owner *owner, char op, struct smtp_reply yes)
{
    struct smtp_reply reply = yes;

    if (owner->op == op) {
        reply = owner->next;
        owner->op = 0;
    }
    if (!owner->later || op == 'h')
        return reply;
    owner->owed = reply;
    return SMTP_PENDING;
}

static inline struct smtp_reply owner_helo(void *context, struct slice name)
{
    cr_assert(name.size > 0);
    return decide(context, 'h', SMTP_REPLY(250, 0, 0, 0, ""));
}

static inline struct smtp_reply owner_mail(void *context, const struct smtp_mail *mail)
{
    (void)mail;
    return decide(context, 'm', SMTP_REPLY(250, 2, 1, 0, "Sender ok"));
}

static inline struct smtp_reply owner_rcpt(void *context, const struct smtp_rcpt *rcpt)
{
    cr_assert(rcpt->recipient.whole.size > 0);
    return decide(context, 'r', SMTP_REPLY(250, 2, 1, 5, "Recipient ok"));
}

static inline struct smtp_reply owner_data(void *context)
{
    struct owner *owner = context;

    buf_reset(&owner->body);
    return decide(owner, 'd', SMTP_REPLY(354, 0, 0, 0, ""));
}

static inline bool owner_chunk(void *context, struct slice bytes)
{
    struct owner *owner = context;

    cr_assert(bytes.size > 0);
    owner->chunks++;
    buf_append(&owner->body, bytes);
    return !owner->pause;
}

static inline struct smtp_reply owner_end(void *context)
{
    struct owner *owner = context;

    owner->ends++;
    owner->at_end = *smtp_server_facts(owner->server);
    buf_reset(&owner->last);
    buf_append(&owner->last, buf_slice(&owner->body));
    return decide(owner, 'e', SMTP_REPLY(250, 2, 0, 0, "Accepted"));
}

static inline void owner_reset(void *context)
{
    ((struct owner *)context)->resets++;
}

static const struct smtp_server_ops owner_ops = {
    .helo = owner_helo,
    .mail = owner_mail,
    .rcpt = owner_rcpt,
    .data = owner_data,
    .data_chunk = owner_chunk,
    .data_end = owner_end,
    .reset = owner_reset,
};

#define HOST                                                                                       \
    {                                                                                              \
        (const uint8_t *)"mx.test", 7                                                              \
    }
#define LIMITS                                                                                     \
    .message_bytes_max = 2000, .recipients_max = 3, .errors_max = 8, .command_line_max = 512,      \
    .received_max = 2, .greeting_ms = 1, .command_ms = 2, .data_block_ms = 3, .data_end_ms = 4

KILAT_UNUSED static const struct smtp_server_config reject = {.hostname = HOST, .limits = {LIMITS}};
KILAT_UNUSED static const struct smtp_server_config normalize = {
    .hostname = HOST, .limits = {LIMITS}, .bare_newline = SMTP_BARE_NEWLINE_NORMALIZE};

static inline void start(struct owner *owner, const struct smtp_server_config *config)
{
    *owner = (struct owner){0};
    buf_init(&owner->body, MIB);
    buf_init(&owner->last, MIB);
    buf_init(&owner->out, 16 * MIB);
    cr_assert_eq(smtp_server_create(config, &owner_ops, owner, &owner->server), 0);
}

static inline void stop(struct owner *owner)
{
    smtp_server_destroy(&owner->server);
    cr_assert_null(owner->server);
    buf_deinit(&owner->body);
    buf_deinit(&owner->last);
    buf_deinit(&owner->out);
}

static inline void collect(struct owner *owner)
{
    buf_append(&owner->out, buf_slice(smtp_server_out(owner->server)));
    buf_reset(smtp_server_out(owner->server));
}

/* Offers `wire` in pieces of `step` until all is taken or the session has ended. Pieces lie in memory of their own size,
 * and answers that are owed come after each. */
static inline void say_by(struct owner *owner, struct slice wire, size_t step)
{
    const struct smtp_server_facts *facts = smtp_server_facts(owner->server);

    while (wire.size > 0 && facts->state != SMTP_STATE_CLOSED) {
        size_t size = MIN(step, wire.size), used;
        uint8_t *copy = malloc(size);

        memcpy(copy, wire.data, size);
        used = smtp_server_input(owner->server, slice_of(copy, size));
        free(copy);
        wire = slice_skip(wire, used);
        collect(owner);
        if (facts->pending) {
            cr_assert_eq(smtp_server_input(owner->server, wire), 0, "nothing is taken meanwhile");
            smtp_server_answer(owner->server, owner->owed);
            collect(owner);
        } else if (owner->server->paused) {
            cr_assert_eq(smtp_server_input(owner->server, wire), 0, "nothing is taken meanwhile");
            smtp_server_resume(owner->server);
        } else if (facts->state != SMTP_STATE_CLOSED) {
            cr_assert_eq(used, size, "an input is used up");
        }
    }
}

static inline void say(struct owner *owner, const char *wire)
{
    say_by(owner, slice_cstr(wire), SIZE_MAX);
}

/* The codes of all replies since the last call, "250 354 ", with the enhanced code in 4xx and 5xx: "550/5.5.2 ". */
static inline const char *codes(struct owner *owner)
{
    static char text[4096];
    struct slice rest = buf_slice(&owner->out);
    size_t size = 0;

    text[0] = 0;
    while (rest.size > 0 && size + 16 < sizeof(text)) {
        struct slice line = slice_split(&rest, '\n');
        int status = 0;

        cr_assert(line.size >= 5 && line.data[line.size - 1] == '\r',
                  "every reply line ends in CRLF");
        cr_assert(line.size <= 511 && slice_is_printable(slice_first(line, line.size - 1)));
        if (line.data[3] == '-')
            continue;
        cr_assert_eq(line.data[3], ' ');
        if (line.data[0] >= '4' && line.data[0] == line.data[4])
            status = 6;
        size += (size_t)snprintf(text + size, sizeof(text) - size, "%.3s%s%.*s ",
                                 (const char *)line.data, status ? "/" : "", status ? 5 : 0,
                                 (const char *)line.data + 4);
    }
    buf_reset(&owner->out);
    return text;
}

#define OPEN "EHLO c.test\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@mx.test>\r\n"

/* Plays a whole session whole and byte by byte, and expects these codes each time. */
static inline void expect(const struct smtp_server_config *config, struct slice wire,
                          const char *want, unsigned accepted)
{
    static const size_t steps[] = {SIZE_MAX, 1, 7};

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct owner owner;

        start(&owner, config);
        smtp_server_greet(owner.server);
        say_by(&owner, wire, steps[i]);
        collect(&owner);
        cr_expect_str_eq(codes(&owner), want, "by %zu: %.*s", steps[i], SLICE_ARG(wire));
        cr_expect_eq(smtp_server_facts(owner.server)->transactions, accepted);
        stop(&owner);
    }
}

#define EXPECT(wire, want, accepted) expect(&reject, SLICE(wire), want, accepted)

static inline void append_times(struct buf *wire, const char *text, size_t times)
{
    for (size_t i = 0; i < times; i++)
        buf_append_cstr(wire, text);
}

#endif
