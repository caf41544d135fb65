/* tests/unit/proto/smtp_client_owner.h - the owner of an SMTP client session, and how tests play the host. For tests only.
 * A script says what the host sends; what the client wrote and what it told its owner is kept as text and compared. */
#ifndef KILAT_TESTS_UNIT_PROTO_SMTP_CLIENT_OWNER_H
#define KILAT_TESTS_UNIT_PROTO_SMTP_CLIENT_OWNER_H

#include "proto/smtp_client.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>

#define EHLO_ALL                                                                                   \
    "250-mx.kawan.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 1000000\r\n"                  \
    "250 ENHANCEDSTATUSCODES\r\n"
#define EHLO_NONE "250 mx.kawan.test\r\n"

struct session {
    struct smtp_client *client;
    char events[4096]; /* what the owner was told, one word group each, joined by "; " */
    char wire[8192];   /* what was written, CRLF as "|" */
    bool body_at_once; /* the owner answers ops->body inside the callback */
    bool destroy_in_outcome, destroy_in_ready;
    const struct smtp_transaction *queue; /* handed over in ops->ready */
    uint32_t queued, ready_depth, ready_depth_max;
};

static inline void note(struct session *session, const char *format, ...) KILAT_PRINTF(2, 3);
static inline void note(struct session *session, const char *format, ...)
{
    size_t used = strlen(session->events);
    va_list args;

    if (used > 0)
        used += (size_t)snprintf(session->events + used, sizeof(session->events) - used, "; ");
    va_start(args, format);
    (void)vsnprintf(session->events + used, sizeof(session->events) - used, format, args);
    va_end(args);
}

static inline void drain(struct session *session)
{
    struct buf *out = smtp_client_out(session->client);
    size_t used = strlen(session->wire);

    for (size_t i = 0; i < out->size && used + 1 < sizeof(session->wire); i++) {
        if (out->data[i] == '\r')
            continue;
        session->wire[used++] = out->data[i] == '\n' ? '|' : (char)out->data[i];
    }
    session->wire[used] = '\0';
    buf_reset(out);
}

static inline void on_ready(void *context)
{
    struct session *session = context;

    session->ready_depth++;
    session->ready_depth_max = MAX(session->ready_depth_max, session->ready_depth);
    note(session, "ready");
    if (session->destroy_in_ready) {
        smtp_client_destroy(&session->client);
    } else if (session->queued > 0) {
        session->queued--;
        smtp_client_begin(session->client, session->queue++);
    }
    session->ready_depth--;
}

static inline void on_outcome(void *context, uint32_t recipient, enum smtp_outcome outcome,
                              const struct smtp_remote_reply *reply)
{
    static const char *const names[] = {"delivered", "later", "never"};
    struct session *session = context;

    note(session, "%u %s %u %u.%u.%u", recipient, names[outcome], reply->code, reply->status[0],
         reply->status[1], reply->status[2]);
    cr_expect(slice_is_printable(reply->text));
    if (session->destroy_in_outcome)
        smtp_client_destroy(&session->client);
}

static inline void on_body(void *context)
{
    struct session *session = context;

    note(session, "body");
    if (session->body_at_once)
        smtp_client_body_sent(session->client);
}

static inline void on_ended(void *context, bool site_failed, bool in_doubt,
                            const struct smtp_remote_reply *reply)
{
    struct session *session = context;

    note(session, "ended%s%s (%.*s)", site_failed ? " site-failed" : "",
         in_doubt ? " in-doubt" : "", SLICE_ARG(reply->text));
}

static const struct smtp_client_ops ops = {
    .ready = on_ready,
    .outcome = on_outcome,
    .body = on_body,
    .ended = on_ended,
};

static const struct smtp_client_config config = {
    .hostname = {(const uint8_t *)"debianindonesia.test", 20},
    .greeting_ms = 1,
    .mail_ms = 2,
    .rcpt_ms = 3,
    .data_ms = 4,
    .block_ms = 5,
    .dot_ms = 6,
    .reply_line_max = 2048,
};

static const struct slice people[] = {
    {(const uint8_t *)"fadli@kawan.test", 16},
    {(const uint8_t *)"sari@kawan.test", 15},
    {(const uint8_t *)"budi@kawan.test", 15},
};

static inline struct smtp_transaction letter(uint32_t recipients)
{
    return (struct smtp_transaction){
        .sender = SLICE("penulis@debianindonesia.test"),
        .recipients = people,
        .recipient_count = recipients,
        .body_bytes = 1234,
    };
}

static inline void open_session(struct session *session)
{
    *session = (struct session){.body_at_once = true};
    cr_assert_eq(smtp_client_create(&config, &ops, session, &session->client), 0);
}

/* The host speaks, and what we have to say to that is taken off. */
static inline void say(struct session *session, const char *wire)
{
    smtp_client_input(session->client, slice_cstr(wire));
    if (session->client != NULL)
        drain(session);
}

static inline void open_ready(struct session *session, const char *ehlo)
{
    open_session(session);
    say(session, "220 mx.kawan.test\r\n");
    say(session, ehlo);
    cr_assert(smtp_client_idle(session->client), "%s", session->events);
    session->events[0] = '\0';
    session->wire[0] = '\0';
}

static inline void begin(struct session *session, struct smtp_transaction transaction)
{
    smtp_client_begin(session->client, &transaction);
    drain(session);
}

static inline void expect(struct session *session, const char *events, const char *wire)
{
    cr_expect_str_eq(session->events, events);
    if (wire != NULL)
        cr_expect_str_eq(session->wire, wire);
    smtp_client_destroy(&session->client);
}

#define ENVELOPE "MAIL FROM:<penulis@debianindonesia.test> SIZE=1234|"
#define BARE_ENVELOPE "MAIL FROM:<penulis@debianindonesia.test>|"

#endif
