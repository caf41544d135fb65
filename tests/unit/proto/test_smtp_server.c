#include "proto/smtp_server.h"

#include "proto/smtp_server_private.h"
#include <criterion/criterion.h>
#include <signal.h>
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

static struct smtp_reply decide(struct owner *owner, char op, struct smtp_reply yes)
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

static struct smtp_reply owner_helo(void *context, struct slice name)
{
    cr_assert(name.size > 0);
    return decide(context, 'h', SMTP_REPLY(250, 0, 0, 0, ""));
}

static struct smtp_reply owner_mail(void *context, const struct smtp_mail *mail)
{
    (void)mail;
    return decide(context, 'm', SMTP_REPLY(250, 2, 1, 0, "Sender ok"));
}

static struct smtp_reply owner_rcpt(void *context, const struct smtp_rcpt *rcpt)
{
    cr_assert(rcpt->recipient.whole.size > 0);
    return decide(context, 'r', SMTP_REPLY(250, 2, 1, 5, "Recipient ok"));
}

static struct smtp_reply owner_data(void *context)
{
    struct owner *owner = context;

    buf_reset(&owner->body);
    return decide(owner, 'd', SMTP_REPLY(354, 0, 0, 0, ""));
}

static bool owner_chunk(void *context, struct slice bytes)
{
    struct owner *owner = context;

    cr_assert(bytes.size > 0);
    owner->chunks++;
    buf_append(&owner->body, bytes);
    return !owner->pause;
}

static struct smtp_reply owner_end(void *context)
{
    struct owner *owner = context;

    owner->ends++;
    owner->at_end = *smtp_server_facts(owner->server);
    buf_reset(&owner->last);
    buf_append(&owner->last, buf_slice(&owner->body));
    return decide(owner, 'e', SMTP_REPLY(250, 2, 0, 0, "Accepted"));
}

static void owner_reset(void *context)
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

static const struct smtp_server_config reject = {.hostname = HOST, .limits = {LIMITS}};
static const struct smtp_server_config normalize = {
    .hostname = HOST, .limits = {LIMITS}, .bare_newline = SMTP_BARE_NEWLINE_NORMALIZE};

static void start(struct owner *owner, const struct smtp_server_config *config)
{
    *owner = (struct owner){0};
    buf_init(&owner->body, MIB);
    buf_init(&owner->last, MIB);
    buf_init(&owner->out, 16 * MIB);
    cr_assert_eq(smtp_server_create(config, &owner_ops, owner, &owner->server), 0);
}

static void stop(struct owner *owner)
{
    smtp_server_destroy(&owner->server);
    cr_assert_null(owner->server);
    buf_deinit(&owner->body);
    buf_deinit(&owner->last);
    buf_deinit(&owner->out);
}

static void collect(struct owner *owner)
{
    buf_append(&owner->out, buf_slice(smtp_server_out(owner->server)));
    buf_reset(smtp_server_out(owner->server));
}

/* Offers `wire` in pieces of `step` until all is taken or the session has ended. Pieces lie in memory of their own size,
 * and answers that are owed come after each. */
static void say_by(struct owner *owner, struct slice wire, size_t step)
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

static void say(struct owner *owner, const char *wire)
{
    say_by(owner, slice_cstr(wire), SIZE_MAX);
}

/* The codes of all replies since the last call, "250 354 ", with the enhanced code in 4xx and 5xx: "550/5.5.2 ". */
static const char *codes(struct owner *owner)
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
static void expect(const struct smtp_server_config *config, struct slice wire, const char *want,
                   unsigned accepted)
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

Test(smtp_server, a_letter)
{
    EXPECT(OPEN "DATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n", "220 250 250 250 354 250 221 ",
           1);
}

Test(smtp_server, ehlo_announces_what_is_done_and_nothing_else)
{
    struct owner owner;

    start(&owner, &reject);
    say(&owner, "EHLO c.test\r\n");
    buf_append_byte(&owner.out, 0);
    cr_expect_str_eq((const char *)owner.out.data,
                     "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 2000\r\n"
                     "250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n");
    stop(&owner);
}

Test(smtp_server, helo_names)
{
    EXPECT(
        "HELO\r\nEHLO\r\nEHLO a b\r\nHELO a\x01\r\nHELO [192.0.2.1]\r\nEHLO some_host\r\nQUIT\r\n",
        "220 501 501 501 500/5.5.2 250 250 221 ", 0);
}

Test(smtp_server, helo_name_at_its_limit)
{
    char wire[300];
    struct owner owner;

    for (int size = 255; size <= 256; size++) {
        start(&owner, &reject);
        (void)snprintf(wire, sizeof(wire), "EHLO %0*d\r\n", size, 7);
        say(&owner, wire);
        cr_expect_str_eq(codes(&owner), size == 255 ? "250 " : "501 ");
        cr_expect_eq(smtp_server_facts(owner.server)->helo.size, size == 255 ? 255 : 0);
        stop(&owner);
    }
}

Test(smtp_server, a_refused_helo_changes_nothing)
{
    struct owner owner;

    start(&owner, &reject);
    say(&owner, OPEN);
    owner.op = 'h';
    owner.next = SMTP_REPLY(550, 5, 7, 1, "Not you");
    say(&owner, "EHLO other\r\nEHLO\r\n");
    cr_expect_str_eq(codes(&owner), "250 250 250 550 501 ");
    cr_expect_eq(smtp_server_facts(owner.server)->state, SMTP_STATE_RCPT);
    cr_expect(slice_equal(smtp_server_facts(owner.server)->helo, SLICE("c.test")));
    cr_expect_eq(owner.resets, 0);
    say(&owner, "HELO other\r\n");
    cr_expect_eq(owner.resets, 1, "an accepted one resets");
    cr_expect_eq(smtp_server_facts(owner.server)->state, SMTP_STATE_READY);
    cr_expect_not(smtp_server_facts(owner.server)->extended);
    stop(&owner);
}

Test(smtp_server, order_of_commands)
{
    EXPECT("MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\nNOOP\r\nEHLO c\r\nRCPT TO:<a@b>\r\nDATA\r\n"
           "MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\nDATA\r\nRSET\r\nRCPT TO:<a@b>\r\n",
           "220 503/5.5.1 503/5.5.1 503/5.5.1 250 250 503/5.5.1 503/5.5.1 250 503/5.5.1 554/5.5.1 "
           "250 421/4.7.0 ",
           0);
}

Test(smtp_server, what_is_not_announced_is_not_done)
{
    EXPECT("EHLO c\r\nMAIL FROM:<a@b>\r\nEXPN x\r\nAUTH PLAIN AGEAYg==\r\nSTARTTLS\r\nBDAT 5 "
           "LAST\r\nETRN x\r\nTURN\r\nQUIT\r\n",
           "220 250 250 502/5.5.1 502/5.5.1 502/5.5.1 502/5.5.1 502/5.5.1 500/5.5.2 221 ", 0);
}

Test(smtp_server, small_commands)
{
    EXPECT(
        "NOOP\r\nNOOP what ever\r\nHELP\r\nVRFY\r\nRSET\r\nVRFY x\r\nRSET x\r\nQUIT x\r\nquit\r\n",
        "220 250 250 214 501/5.5.4 250 252 501/5.5.4 501/5.5.4 221 ", 0);
}

static const struct {
    const char *line, *want;
} mail_rows[] = {
    {"mail from:<a@b>", "250 "},
    {"MAIL FROM: <a@b>", "250 "},
    {"MAIL FROM:  <a@b>", "501/5.1.7 "},
    {"MAIL FROM:<>", "250 "},
    {"MAIL FROM:<a@b> SIZE=2000", "250 "},
    {"MAIL FROM:<a@b> SIZE=2001", "552/5.3.4 "},
    {"MAIL FROM:<a@b> size=99999999999999999999", "552/5.3.4 "},
    {"MAIL FROM:<a@b> SIZE=000000000000000000001", "501/5.5.4 "},
    {"MAIL FROM:<a@b> SIZE=-1", "501/5.5.4 "},
    {"MAIL FROM:<a@b> SIZE=", "501/5.5.4 "},
    {"MAIL FROM:<a@b> SIZE", "501/5.5.4 "},
    {"MAIL FROM:<a@b> SIZE=1 SIZE=1", "501/5.5.4 "},
    {"MAIL FROM:<a@b> BODY=8bitMIME Size=5", "250 "},
    {"MAIL FROM:<a@b> BODY=7BIT", "250 "},
    {"MAIL FROM:<a@b> BODY=BINARYMIME", "501/5.5.4 "},
    {"MAIL FROM:<a@b> BODY=7BIT BODY=8BITMIME", "501/5.5.4 "},
    {"MAIL FROM:<a@b> AUTH=<>", "555/5.5.4 "},
    {"MAIL FROM:<a@b> SMTPUTF8", "555/5.5.4 "},
    {"MAIL FROM:<a@b>SIZE=1", "501/5.5.4 "},
    {"MAIL FROM:<a@b> =", "501/5.5.4 "},
    {"MAIL FROM:<a@b>  ", "250 "},
    {"MAIL", "501/5.5.4 "},
    {"MAIL <a@b>", "501/5.5.4 "},
    {"MAIL TO:<a@b>", "501/5.5.4 "},
    {"MAIL FROM <a@b>", "501/5.5.4 "},
    {"MAIL FROM:a@b", "501/5.1.7 "},
    {"MAIL FROM:", "501/5.1.7 "},
    {"MAIL FROM:<postmaster>", "501/5.1.7 "},
    {"MAIL FROM:<\xc3\xa9@b>", "501/5.1.7 "},
};

Test(smtp_server, mail)
{
    for (size_t i = 0; i < ARRAY_SIZE(mail_rows); i++) {
        struct owner owner;

        start(&owner, &reject);
        say(&owner, "EHLO c\r\n");
        (void)codes(&owner);
        say(&owner, mail_rows[i].line);
        say(&owner, "\r\n");
        cr_expect_str_eq(codes(&owner), mail_rows[i].want, "%s", mail_rows[i].line);
        cr_expect_eq(smtp_server_facts(owner.server)->state,
                     mail_rows[i].want[0] == '2' ? SMTP_STATE_MAIL : SMTP_STATE_READY);
        stop(&owner);
    }
}

static const struct {
    const char *line, *want;
} rcpt_rows[] = {
    {"rcpt to:<a@b>", "250 "},
    {"RCPT TO: <a@b>", "250 "},
    {"RCPT TO:<Postmaster>", "250 "},
    {"RCPT TO:<postmaster@mx.test>", "250 "},
    {"RCPT TO:<@x,@y:a@b>", "250 "},
    {"RCPT TO:<>", "501/5.1.3 "},
    {"RCPT TO:<a>", "501/5.1.3 "},
    {"RCPT TO:a@b", "501/5.1.3 "},
    {"RCPT FROM:<a@b>", "501/5.5.4 "},
    {"RCPT", "501/5.5.4 "},
    {"RCPT TO:<a@b> NOTIFY=NEVER", "555/5.5.4 "},
    {"RCPT TO:<a@b> X==", "501/5.5.4 "},
    {"RCPT TO:<a@b>, <c@d>", "501/5.5.4 "},
};

Test(smtp_server, rcpt)
{
    for (size_t i = 0; i < ARRAY_SIZE(rcpt_rows); i++) {
        struct owner owner;

        start(&owner, &reject);
        say(&owner, "EHLO c\r\nMAIL FROM:<>\r\n");
        (void)codes(&owner);
        say(&owner, rcpt_rows[i].line);
        say(&owner, "\r\n");
        cr_expect_str_eq(codes(&owner), rcpt_rows[i].want, "%s", rcpt_rows[i].line);
        cr_expect_eq(smtp_server_facts(owner.server)->recipients, rcpt_rows[i].want[0] == '2');
        stop(&owner);
    }
}

Test(smtp_server, recipients_at_their_limit)
{
    EXPECT(OPEN
           "RCPT TO:<b@c>\r\nRCPT TO:<c@c>\r\nRCPT TO:<d@c>\r\nRCPT TO:<e@c>\r\nDATA\r\n.\r\n" OPEN,
           "220 250 250 250 250 250 452/4.5.3 452/4.5.3 354 250 250 250 250 ", 1);
}

Test(smtp_server, an_op_that_refuses_leaves_all_as_it_was)
{
    static const struct {
        char op;
        const char *line;
        enum smtp_server_state state;
    } rows[] = {
        {'m', "MAIL FROM:<a@b>\r\n", SMTP_STATE_READY},
        {'r', "RCPT TO:<a@b>\r\n", SMTP_STATE_MAIL},
        {'r', "RCPT TO:<c@b>\r\n", SMTP_STATE_RCPT},
        {'d', "DATA\r\n", SMTP_STATE_RCPT},
    };

    for (int later = 0; later < 2; later++) {
        struct owner owner;

        start(&owner, &reject);
        owner.later = later;
        say(&owner, "EHLO c\r\n");
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
            owner.op = rows[i].op;
            owner.next = SMTP_REPLY(451, 4, 3, 0, "Later");
            say(&owner, rows[i].line);
            cr_expect_eq(smtp_server_facts(owner.server)->state, rows[i].state, "%s", rows[i].line);
            if (i != 1)
                say(&owner, rows[i].line);
            else
                say(&owner, "RCPT TO:<a@b>\r\n");
        }
        cr_expect_str_eq(codes(&owner),
                         "250 451/4.3.0 250 451/4.3.0 250 451/4.3.0 250 451/4.3.0 354 ");
        owner.op = 'e';
        owner.next = SMTP_REPLY(452, 4, 3, 1, "Full");
        say(&owner, "x\r\n.\r\nNOOP\r\n");
        cr_expect_str_eq(codes(&owner), "452/4.3.1 250 ");
        cr_expect_eq(smtp_server_facts(owner.server)->state, SMTP_STATE_READY);
        cr_expect_eq(smtp_server_facts(owner.server)->transactions, 0);
        cr_expect_eq(owner.resets, 1);
        stop(&owner);
        cr_expect_eq(owner.resets, 1);
    }
}

Test(smtp_server, a_421_of_an_op_ends_the_session)
{
    struct owner owner;

    start(&owner, &reject);
    say(&owner, OPEN);
    owner.op = 'r';
    owner.next = SMTP_REPLY(421, 4, 3, 2, "Going down");
    say(&owner, "RCPT TO:<x@y>\r\nNOOP\r\n");
    cr_expect_str_eq(codes(&owner), "250 250 250 421/4.3.2 ");
    cr_expect_eq(smtp_server_facts(owner.server)->state, SMTP_STATE_CLOSED);
    cr_expect_eq(owner.resets, 1);
    stop(&owner);
    cr_expect_eq(owner.resets, 1);
}

/* Every way out of a transaction, each with exactly one reset. */
Test(smtp_server, each_transaction_is_reset_once)
{
    static const char *const ways[] = {
        "RSET\r\n",
        "EHLO d\r\n",
        "HELO d\r\n",
        "QUIT\r\n",
        "",
        "DATA\r\nx\r\n.\r\n",
        "DATA\r\nx\ny\r\n.\r\n",
        "DATA\r\n x\r\n.\r\n",
        "DATA\r\nx",
        "1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n",
        "A\nB\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        struct owner owner;

        start(&owner, &reject);
        say(&owner, OPEN);
        say(&owner, ways[i]);
        if (ways[i][0] != 0 && smtp_server_facts(owner.server)->state != SMTP_STATE_BODY) {
            cr_expect_eq(owner.resets, 1, "%s", ways[i]);
            cr_expect_eq(smtp_server_facts(owner.server)->recipients, 0);
            cr_expect_eq(smtp_server_facts(owner.server)->body_bytes, 0);
        }
        if (i % 2 == 0)
            smtp_server_timeout(owner.server);
        stop(&owner);
        cr_expect_eq(owner.resets, 1, "%s, after the end", ways[i]);
    }
}

Test(smtp_server, facts_of_a_message)
{
    struct owner owner;

    start(&owner, &reject);
    say(&owner, OPEN "DATA\r\nSubject: x\r\n\r\n..dot\r\n\xc3\xa9\r\n.\r\n");
    cr_expect_eq(owner.at_end.header_bytes, 14);
    cr_expect_eq(owner.at_end.body_bytes, 14 + 6 + 4);
    cr_expect(owner.at_end.body_has_8bit);
    cr_expect(owner.at_end.body_has_dot_line);
    cr_expect(owner.at_end.body_ends_with_crlf);
    cr_expect_eq(owner.at_end.recipients, 1);
    cr_expect(slice_equal(buf_slice(&owner.last), SLICE("Subject: x\r\n\r\n.dot\r\n\xc3\xa9\r\n")));
    say(&owner, "MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\nno header\r\n.\r\n");
    cr_expect_eq(owner.at_end.header_bytes, 11, "all of it");
    cr_expect_not(owner.at_end.body_has_8bit, "nothing is left of the message before");
    cr_expect_not(owner.at_end.body_has_dot_line);
    stop(&owner);
}

/* A body in one input is handed on as one part, in place. */
static const uint8_t *chunk_data;
static bool note_chunk(void *context, struct slice bytes)
{
    (void)context;
    chunk_data = bytes.data;
    return true;
}

Test(smtp_server, a_body_is_handed_on_where_it_lies)
{
    static const char wire[] =
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\n";
    struct smtp_server_ops ops = owner_ops;
    struct owner owner;

    start(&owner, &reject);
    smtp_server_destroy(&owner.server);
    ops.data_chunk = note_chunk;
    cr_assert_eq(smtp_server_create(&reject, &ops, &owner, &owner.server), 0);
    cr_assert_eq(smtp_server_input(owner.server, slice_cstr(wire)), strlen(wire));
    cr_expect_eq(chunk_data, (const uint8_t *)strstr(wire, "Subject"));
    stop(&owner);
}

#define BEFORE "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: x\r\n\r\nreal"
#define SMUGGLED "\r\nMAIL FROM:<evil@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n"

/* The forms of SECURITY 1.1 but the true one: each is inside of one message, which is refused, or taken whole where it
 * has no bare CR or LF and no NUL; normalized or not, it is never the end. */
static const struct {
    const char *name;
    struct slice wire;
    bool clean, nul;
} forms[] = {
    {"LF.LF", {(const uint8_t *)"\n.\n", 3}},
    {"LF.CRLF", {(const uint8_t *)"\n.\r\n", 4}},
    {"CRLF.LF", {(const uint8_t *)"\r\n.\n", 4}},
    {"CRLF.CR CRLF", {(const uint8_t *)"\r\n.\r\r\n", 6}},
    {"CR CRLF.CR CRLF", {(const uint8_t *)"\r\r\n.\r\r\n", 7}},
    {"CR.CR", {(const uint8_t *)"\r.\r", 3}},
    {"CRLF.CR", {(const uint8_t *)"\r\n.\r", 4}},
    {"CR.CRLF", {(const uint8_t *)"\r.\r\n", 4}},
    {"CRLF NUL.CRLF", {(const uint8_t *)"\r\n\0.\r\n", 6}, .nul = true},
    {"CRLF.NUL CRLF", {(const uint8_t *)"\r\n.\0\r\n", 6}, .nul = true},
    {". SP CRLF", {(const uint8_t *)"\r\n. \r\n", 6}, .clean = true},
    {"VT.CRLF", {(const uint8_t *)"\r\n\v.\r\n", 6}, .clean = true},
    {"NEL.NEL", {(const uint8_t *)"\xc2\x85.\xc2\x85", 5}, .clean = true},
    {"LS.LS", {(const uint8_t *)"\xe2\x80\xa8.\xe2\x80\xa8", 7}, .clean = true},
    {"LF CR.CRLF", {(const uint8_t *)"\n\r.\r\n", 5}},
};

static void play_form(const struct smtp_server_config *config, size_t form, struct slice wire,
                      size_t cut)
{
    bool taken = forms[form].clean || (config == &normalize && !forms[form].nul);
    struct owner owner;

    start(&owner, config);
    if (cut == 0) {
        say_by(&owner, wire, 1);
    } else {
        say_by(&owner, slice_first(wire, cut), SIZE_MAX);
        say_by(&owner, slice_skip(wire, cut), SIZE_MAX);
    }
    cr_expect_str_eq(codes(&owner),
                     taken ? "250 250 250 354 250 221 " : "250 250 250 354 550/5.5.2 221 ",
                     "%s, cut at %zu", forms[form].name, cut);
    cr_expect_eq(owner.ends, taken, "%s, cut at %zu", forms[form].name, cut);
    for (size_t i = 0; taken && i < owner.last.size; i++) {
        bool lf = owner.last.data[i] == '\n', cr = owner.last.data[i] == '\r';

        cr_expect(!lf || (i > 0 && owner.last.data[i - 1] == '\r'));
        cr_expect(!cr || (i + 1 < owner.last.size && owner.last.data[i + 1] == '\n'));
    }
    stop(&owner);
}

Test(smtp_server, nothing_is_smuggled)
{
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        uint8_t wire[512];
        size_t size = strlen(BEFORE);

        memcpy(wire, BEFORE, size);
        memcpy(wire + size, forms[i].wire.data, forms[i].wire.size);
        size += forms[i].wire.size;
        memcpy(wire + size, SMUGGLED, strlen(SMUGGLED));
        size += strlen(SMUGGLED);
        for (size_t cut = 0; cut <= size; cut++) {
            play_form(&reject, i, slice_of(wire, size), cut);
            play_form(&normalize, i, slice_of(wire, size), cut);
        }
    }
}

Test(smtp_server, the_true_end_ends)
{
    EXPECT(BEFORE "\r\n.\r\nNOOP\r\n", "220 250 250 250 354 250 250 ", 1);
    EXPECT("EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nNOOP\r\n",
           "220 250 250 250 354 250 250 ", 1);
}

/* What is to be refused is read to its end, and no part of it is handed on any more. */
Test(smtp_server, a_refused_body_is_not_handed_on)
{
    struct owner owner;

    start(&owner, &reject);
    say(&owner, OPEN "DATA\r\n");
    cr_expect_eq(smtp_server_patience_ms(owner.server), 3);
    say(&owner, "good\r\n");
    say(&owner, "bad\nbad\r\n");
    say(&owner, "good\r\n");
    cr_expect_eq(owner.chunks, 1);
    cr_expect_eq(smtp_server_patience_ms(owner.server), 4);
    say(&owner, ".\r\n");
    cr_expect_eq(owner.ends, 0);
    stop(&owner);
}

static void append_times(struct buf *wire, const char *text, size_t times)
{
    for (size_t i = 0; i < times; i++)
        buf_append_cstr(wire, text);
}

static void expect_body(const char *head, const char *line, size_t times, const char *want,
                        unsigned accepted)
{
    struct buf wire;

    buf_init(&wire, 16 * MIB);
    buf_append_cstr(&wire, OPEN "DATA\r\n");
    buf_append_cstr(&wire, head);
    append_times(&wire, line, times);
    buf_append_cstr(&wire, "\r\n.\r\nNOOP\r\n");
    expect(&reject, buf_slice(&wire), want, accepted);
    buf_deinit(&wire);
}

Test(smtp_server, message_size_at_its_limit)
{
    expect_body("", "x", 1998, "220 250 250 250 354 250 250 ", 1);
    expect_body("", "x", 1999, "220 250 250 250 354 552/5.3.4 250 ", 0);
    expect_body("..", "x", 1997, "220 250 250 250 354 250 250 ", 1); /* stored octets count */
    expect_body("", "x", 3999, "220 250 250 250 354 552/5.3.4 250 ", 0);
    expect_body("", "x", 4000, "220 250 250 250 354 552/5.3.4 ",
                0); /* over twice the limit: closed */
    expect_body("", "x\n", 3000, "220 250 250 250 354 552/5.3.4 ", 0);
}

Test(smtp_server, a_loop_is_seen)
{
    expect_body("", "Received: x\r\n", 2, "220 250 250 250 354 250 250 ", 1);
    expect_body("", "Received: x\r\n", 3, "220 250 250 250 354 554/5.4.6 250 ", 0);
    expect_body("\r\n", "Received: x\r\n", 3, "220 250 250 250 354 250 250 ", 1); /* in the body */
}

Test(smtp_server, a_message_that_begins_folded_is_refused)
{
    expect_body(" x", "", 0, "220 250 250 250 354 550/5.6.0 250 ", 0);
    expect_body("\tx", "", 0, "220 250 250 250 354 550/5.6.0 250 ", 0);
}

Test(smtp_server, header_and_lines_have_limits)
{
    static const struct smtp_server_config large = {.hostname = HOST,
                                                    .limits = {.message_bytes_max = 4 * MIB,
                                                               .recipients_max = 3,
                                                               .errors_max = 8,
                                                               .command_line_max = 512,
                                                               .received_max = 2}};
    struct buf wire;

    buf_init(&wire, 16 * MIB);
    buf_append_cstr(&wire, OPEN "DATA\r\n");
    append_times(&wire, "X: 89012345678\r\n", 65537);
    buf_append_cstr(&wire, "\r\n.\r\n" OPEN "DATA\r\n\r\n");
    append_times(&wire, "x", 65534);
    buf_append_cstr(&wire, "\r\n.\r\n" OPEN "DATA\r\n\r\n");
    append_times(&wire, "x", 65535);
    buf_append_cstr(&wire, "\r\n.\r\n");
    expect(&large, buf_slice(&wire),
           "220 250 250 250 354 552/5.3.4 250 250 250 354 250 250 250 250 354 554/5.6.0 ", 1);
    buf_deinit(&wire);
}

Test(smtp_server, command_lines_have_limits)
{
    struct buf wire;

    buf_init(&wire, MIB);
    buf_append_cstr(&wire, "NOOP ");
    append_times(&wire, "x", 505);
    buf_append_cstr(&wire, "\r\nNOOP ");
    append_times(&wire, "x", 506);
    buf_append_cstr(&wire, "\r\nNOOP ");
    append_times(&wire, "x", 65000);
    buf_append_cstr(&wire, "\r\n");
    append_times(&wire, "x", 65537);
    expect(&reject, buf_slice(&wire), "220 250 500/5.5.2 500/5.5.2 500/5.5.2 ", 0);
    buf_deinit(&wire);
}

Test(smtp_server, a_bare_lf_never_makes_two_commands_of_one)
{
    EXPECT("NOOP\nRSET\r\nNOOP\r\n", "220 500/5.5.2 250 ", 0);
    EXPECT("EHLO c\r\nNOOP\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n", "220 250 500/5.5.2 503/5.5.1 ",
           0);
    EXPECT("EHLO c\nMAIL FROM:<a@b>\nRCPT TO:<a@b>\n", "220 500/5.5.2 500/5.5.2 ", 0);
}

Test(smtp_server, errors_are_counted)
{
    EXPECT("X\r\nX\r\nX\r\nX\r\nX\r\nNOOP\r\n",
           "220 500/5.5.2 500/5.5.2 500/5.5.2 500/5.5.2 421/4.7.0 ", 0);
    EXPECT(
        "X\r\nX\r\nX\r\nX\r\nNOOP\r\nX\r\nX\r\nX\r\nX\r\nNOOP\r\n",
        "220 500/5.5.2 500/5.5.2 500/5.5.2 500/5.5.2 250 500/5.5.2 500/5.5.2 500/5.5.2 421/4.7.0 ",
        0);
    EXPECT(OPEN "X\r\nX\r\nX\r\nX\r\nX\r\nX\r\nX\r\nDATA\r\n.\r\nX\r\n",
           "220 250 250 250 500/5.5.2 500/5.5.2 500/5.5.2 500/5.5.2 500/5.5.2 500/5.5.2 500/5.5.2 "
           "354 250 500/5.5.2 ",
           1);
}

Test(smtp_server, other_protocols_are_closed_and_get_nothing_back)
{
    static const char *const greetings[] = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 90\r\n\r\nEHLO x\r\nMAIL FROM:<marker@x>\r\n",
        "\x16\x03\x01\x02",
        "\r\n",
        " HELO x\r\n",
        "1\r\n",
        "<xml/>\r\n",
    };

    for (size_t i = 0; i < ARRAY_SIZE(greetings); i++) {
        EXPECT("", "220 ", 0);
        expect(&reject, slice_cstr(greetings[i]), "220 421/4.7.0 ", 0);
    }
    EXPECT("EHLO x\r\n1\r\n", "220 250 500/5.5.2 ", 0);
}

/* Goal: no reply repeats what the client has said (SECURITY 1.2 A). */
Test(smtp_server, replies_never_echo)
{
    struct owner owner;

    start(&owner, &reject);
    say(&owner,
        "EHLO MARKER\r\nMAIL FROM:<MARKER@MARKER>\r\nRCPT TO:<MARKER@MARKER>\r\nRCPT TO:<MARKER\r\n"
        "MARKER MARKER\r\nVRFY MARKER\r\nNOOP MARKER\r\nMAIL FROM:<> MARKER=1\r\nHELP "
        "MARKER\r\nDATA\r\n"
        "MARKER\r\n.\r\nEXPN MARKER\r\nQUIT MARKER\r\n");
    cr_assert_null(memmem(owner.out.data, owner.out.size, "MARKER", 6));
    stop(&owner);
}

Test(smtp_server, five_thousand_pipelined_commands_have_as_many_replies)
{
    static const size_t steps[] = {SIZE_MAX, 1, 4, 1000};

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct owner owner;
        struct buf wire;
        size_t lines = 0;

        buf_init(&wire, MIB);
        append_times(&wire, "NOOP\r\n", 5000);
        start(&owner, &reject);
        for (struct slice rest = buf_slice(&wire); rest.size > 0;) {
            size_t used = smtp_server_input(owner.server, slice_first(rest, steps[i]));
            cr_assert(used > 0);
            cr_assert(smtp_server_out(owner.server)->size <= SMTP_SERVER_OUT_PAUSE + 512);
            rest = slice_skip(rest, used);
            collect(&owner);
        }
        for (size_t j = 0; j < owner.out.size; j++)
            lines += owner.out.data[j] == '\n';
        cr_expect_eq(lines, 5000);
        stop(&owner);
        buf_deinit(&wire);
    }
}

Test(smtp_server, a_peer_that_does_not_read_is_not_read_either)
{
    struct owner owner;
    struct buf wire;
    size_t used;

    buf_init(&wire, MIB);
    append_times(&wire, "EHLO x\r\n", 5000);
    start(&owner, &reject);
    used = smtp_server_input(owner.server, buf_slice(&wire));
    cr_expect_lt(used, wire.size);
    cr_expect_eq(smtp_server_input(owner.server, slice_skip(buf_slice(&wire), used)), 0);
    cr_expect_lt(smtp_server_out(owner.server)->size, SMTP_SERVER_OUT_PAUSE + 512);
    collect(&owner);
    cr_expect_gt(smtp_server_input(owner.server, slice_skip(buf_slice(&wire), used)), 0);
    stop(&owner);
    buf_deinit(&wire);
}

Test(smtp_server, while_we_owe_an_answer_nobody_waits_for_the_peer)
{
    struct owner owner;

    start(&owner, &reject);
    cr_expect_eq(smtp_server_patience_ms(owner.server), 1);
    say(&owner, "EHLO c\r\n");
    cr_expect_eq(smtp_server_patience_ms(owner.server), 2);
    owner.later = true;
    cr_expect_eq(smtp_server_input(owner.server, SLICE("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")),
                 17);
    cr_expect_eq(smtp_server_patience_ms(owner.server), UINT32_MAX);
    cr_expect_eq(smtp_server_facts(owner.server)->state, SMTP_STATE_READY);
    stop(&owner);
    cr_expect_eq(owner.resets, 0, "a MAIL that was never accepted is not reset");
}

Test(smtp_server, an_answer_after_the_end_is_ignored)
{
    struct owner owner;

    start(&owner, &reject);
    say(&owner, OPEN);
    owner.later = true;
    (void)smtp_server_input(owner.server, SLICE("DATA\r\n"));
    smtp_server_timeout(owner.server);
    smtp_server_answer(owner.server, SMTP_REPLY(354, 0, 0, 0, ""));
    collect(&owner);
    cr_expect_str_eq(codes(&owner), "250 250 250 421/4.4.2 ");
    cr_expect_eq(smtp_server_facts(owner.server)->state, SMTP_STATE_CLOSED);
    cr_expect_eq(smtp_server_input(owner.server, SLICE("NOOP\r\n")), 0);
    smtp_server_timeout(owner.server);
    smtp_server_refuse(owner.server, SMTP_REPLY(421, 4, 3, 2, "x"));
    cr_expect_eq(smtp_server_out(owner.server)->size, 0, "nothing is said twice");
    stop(&owner);
}

Test(smtp_server, an_answer_nobody_waits_for_is_our_fault, .signal = SIGABRT)
{
    struct owner owner;

    start(&owner, &reject);
    smtp_server_answer(owner.server, SMTP_REPLY(250, 2, 0, 0, ""));
}

Test(smtp_server, a_pause_holds_the_body_and_nothing_is_lost)
{
    for (size_t step = 1; step < 40; step++) {
        struct owner owner;

        start(&owner, &reject);
        owner.pause = true;
        say_by(&owner, SLICE(OPEN "DATA\r\none\r\n..two\r\nthree\r\n.\r\nNOOP\r\n"), step);
        cr_expect_str_eq(codes(&owner), "250 250 250 354 250 250 ");
        cr_expect(slice_equal(buf_slice(&owner.last), SLICE("one\r\n.two\r\nthree\r\n")), "by %zu",
                  step);
        stop(&owner);
    }
}

Test(smtp_server, hostile_texts_of_ops_stay_one_line)
{
    struct owner owner;
    char text[2000];

    memset(text, 'y', sizeof(text));
    memcpy(text, "a\r\n250 b\x1b\xff", 10);
    start(&owner, &reject);
    say(&owner, "EHLO c\r\n");
    owner.op = 'm';
    owner.next =
        (struct smtp_reply){.code = 550, .status = {5, 7, 1}, .text = slice_of(text, sizeof(text))};
    say(&owner, "MAIL FROM:<>\r\n");
    cr_expect_str_eq(codes(&owner), "250 550/5.7.1 ");
    stop(&owner);
}

Test(smtp_server, an_idle_session_is_small)
{
    struct owner owner;

    cr_expect_leq(sizeof(struct smtp_server), 512);
    start(&owner, &reject);
    say(&owner, "EHLO c\r\nNOOP\r\n");
    say_by(&owner, SLICE("NOOP\r\n"), 2);
    cr_expect_null(owner.server->lines.carry.data);
    stop(&owner);
}

/* The model: what a server must do, without any of the server's code. One step per command; `roll` is the die that both
 * the model and the ops throw, so whoever throws it at the wrong time is found out at once. */
enum said {
    SAY_EHLO,
    SAY_HELO,
    SAY_EHLO_BAD,
    SAY_MAIL,
    SAY_MAIL_BAD,
    SAY_MAIL_BIG,
    SAY_RCPT,
    SAY_RCPT_BAD,
    SAY_DATA,
    SAY_RSET,
    SAY_NOOP,
    SAY_VRFY,
    SAY_EXPN,
    SAY_UNKNOWN,
    SAY_BARE,
    SAY_QUIT,
    SAY_COMMANDS,
    SAY_BODY = SAY_COMMANDS,
    SAY_BODY_BARE,
    SAY_BODY_BIG,
    SAY_ALL
};
static const char *const said_text[SAY_ALL] = {"EHLO c\r\n",
                                               "helo c\r\n",
                                               "EHLO\r\n",
                                               "MAIL FROM:<a@b>\r\n",
                                               "MAIL FROM:a@b\r\n",
                                               "MAIL FROM:<> SIZE=2001\r\n",
                                               "RCPT TO:<a@b>\r\n",
                                               "RCPT TO:<>\r\n",
                                               "DATA\r\n",
                                               "RSET\r\n",
                                               "NOOP\r\n",
                                               "VRFY x\r\n",
                                               "EXPN x\r\n",
                                               "XYZZY\r\n",
                                               "NOOP\nQUIT\r\n",
                                               "QUIT\r\n",
                                               "x\r\n..\r\n.\r\n",
                                               "x\n.\r\n.\r\n",
                                               NULL};

struct model {
    enum smtp_server_state state;
    unsigned recipients, errors, row, resets;
    bool mail_seen;
    uint64_t dice;
};

/* 0: yes; 1: 451; 2: 550. */
static unsigned roll(uint64_t *dice)
{
    *dice = *dice * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*dice >> 60) < 10 ? 0 : (unsigned)(*dice >> 60) < 13 ? 1 : 2;
}

static void model_end(struct model *m)
{
    m->resets += m->state != SMTP_STATE_START && m->state != SMTP_STATE_READY;
    m->recipients = 0;
    if (m->state != SMTP_STATE_START)
        m->state = SMTP_STATE_READY;
}

/* An op is asked: `yes` and the state it leads to, or what the die says. */
static unsigned model_ask(struct model *m, unsigned yes, enum smtp_server_state next)
{
    unsigned fell = roll(&m->dice);

    if (fell == 0)
        m->state = next;
    return fell == 0 ? yes : fell == 1 ? 451 : 550;
}

static unsigned model_code(struct model *m, enum said said)
{
    enum smtp_server_state s = m->state;
    unsigned code;

    switch (said) {
    case SAY_EHLO:
    case SAY_HELO:
        model_end(m);
        m->state = SMTP_STATE_READY;
        return 250;
    case SAY_MAIL:
    case SAY_MAIL_BAD:
    case SAY_MAIL_BIG:
        if (s != SMTP_STATE_READY)
            return 503;
        code = said == SAY_MAIL       ? model_ask(m, 250, SMTP_STATE_MAIL)
               : said == SAY_MAIL_BIG ? 552
                                      : 501;
        m->mail_seen |= code == 250;
        return code;
    case SAY_RCPT:
    case SAY_RCPT_BAD:
        if (s != SMTP_STATE_MAIL && s != SMTP_STATE_RCPT)
            return 503;
        if (said == SAY_RCPT_BAD || m->recipients == 3)
            return said == SAY_RCPT_BAD ? 501 : 452;
        code = model_ask(m, 250, SMTP_STATE_RCPT);
        m->recipients += code == 250;
        return code;
    case SAY_DATA:
        return s == SMTP_STATE_RCPT   ? model_ask(m, 354, SMTP_STATE_BODY)
               : s == SMTP_STATE_MAIL ? 554
                                      : 503;
    case SAY_BODY:
        code = model_ask(m, 250, SMTP_STATE_BODY);
        m->errors = code == 250 ? 0 : m->errors;
        model_end(m);
        return code;
    case SAY_BODY_BARE:
    case SAY_BODY_BIG:
        model_end(m);
        return said == SAY_BODY_BARE ? 550 : 552;
    case SAY_RSET:
        model_end(m);
        return 250;
    case SAY_NOOP:
        return 250;
    case SAY_VRFY:
        return 252;
    case SAY_QUIT:
        return 221;
    case SAY_EHLO_BAD:
        return 501;
    case SAY_EXPN:
        return 502;
    default:
        return 500;
    }
}

static unsigned model_step(struct model *m, enum said said)
{
    unsigned code = model_code(m, said);

    m->errors += code >= 500;
    m->row = code >= 500 ? m->row + 1 : code < 400 ? 0 : m->row;
    if (code >= 500 && (m->errors >= 8 || (!m->mail_seen && m->row >= 5)))
        code = 421;
    if (code == 421 || code == 221) {
        model_end(m);
        m->state = SMTP_STATE_CLOSED;
    }
    return code;
}

/* The same owner, but each op throws the die, and answers later when `later` is set. */
static uint64_t ops_dice;
static struct smtp_reply dice_reply(void *context, struct smtp_reply yes)
{
    unsigned fell = roll(&ops_dice);
    struct owner *owner = context;

    owner->owed = fell == 0   ? yes
                  : fell == 1 ? SMTP_REPLY(451, 4, 3, 0, "Later")
                              : SMTP_REPLY(550, 5, 7, 1, "No");
    return owner->later ? SMTP_PENDING : owner->owed;
}

static struct smtp_reply dice_mail(void *context, const struct smtp_mail *mail)
{
    (void)mail;
    return dice_reply(context, SMTP_REPLY(250, 2, 1, 0, ""));
}

static struct smtp_reply dice_rcpt(void *context, const struct smtp_rcpt *rcpt)
{
    (void)rcpt;
    return dice_reply(context, SMTP_REPLY(250, 2, 1, 5, ""));
}

static struct smtp_reply dice_data(void *context)
{
    buf_reset(&((struct owner *)context)->body);
    return dice_reply(context, SMTP_REPLY(354, 0, 0, 0, ""));
}

static struct smtp_reply dice_end(void *context)
{
    return dice_reply(context, SMTP_REPLY(250, 2, 0, 0, ""));
}

static const struct smtp_server_ops dice_ops = {.helo = owner_helo,
                                                .mail = dice_mail,
                                                .rcpt = dice_rcpt,
                                                .data = dice_data,
                                                .data_chunk = owner_chunk,
                                                .data_end = dice_end,
                                                .reset = owner_reset};

#define SEQUENCE_MAX 24

/* Makes a sequence that suits the model's states, with the codes it must get; returns the model's last state. */
static struct model make_sequence(uint64_t seed, struct buf *wire, char *want, const char *big)
{
    struct model m = {.state = SMTP_STATE_START, .dice = seed};
    uint64_t dice = ~seed;

    want[0] = 0;
    for (unsigned i = 0; i < SEQUENCE_MAX && m.state != SMTP_STATE_CLOSED; i++) {
        enum said said;

        (void)roll(&dice);
        if (m.state == SMTP_STATE_BODY)
            said = (enum said)(SAY_BODY + (dice >> 33) % 3);
        else if ((dice >> 40) % 3 == 0) /* more often than by chance, what leads on */
            said = m.state == SMTP_STATE_START   ? SAY_EHLO
                   : m.state == SMTP_STATE_READY ? SAY_MAIL
                   : m.state == SMTP_STATE_MAIL  ? SAY_RCPT
                                                 : SAY_DATA;
        else
            said = (enum said)((dice >> 33) % SAY_COMMANDS);
        buf_append_cstr(wire, said == SAY_BODY_BIG ? big : said_text[said]);
        (void)snprintf(want + strlen(want), 5, "%03u ", model_step(&m, said));
    }
    return m;
}

/* Codes alone, "250 354 "; quicker than codes(). */
static void code_list(struct slice rest, char *text)
{
    while (rest.size > 0) {
        struct slice line = slice_split(&rest, '\n');

        if (line.data[3] == '-')
            continue;
        memcpy(text, line.data, 4);
        text += 4;
    }
    *text = 0;
}

/* Goal: after any sequence of commands the server answers and stands as the model does, however it was cut, and whether
 * ops answer now or later. Method: KILAT_SEQUENCES random sequences; the seed is printed by what fails. */
Test(smtp_server, agrees_with_the_model, .timeout = 600)
{
    const char *count = getenv("KILAT_SEQUENCES");
    uint64_t sequences = count ? strtoull(count, NULL, 10) : 200000;
    char want[4 * SEQUENCE_MAX + 8], got[4 * SEQUENCE_MAX + 64], big[2048];
    struct owner owner;
    struct buf wire;

    memset(big, 'x', sizeof(big));
    memcpy(big + 2010, "\r\n.\r\n", 6);
    buf_init(&wire, MIB);
    start(&owner, &reject);
    for (uint64_t seed = 1; seed <= sequences; seed++) {
        struct model m;

        buf_reset(&wire);
        m = make_sequence(seed * 0x9e3779b97f4a7c15u, &wire, want, big);
        smtp_server_destroy(&owner.server);
        cr_assert_eq(smtp_server_create(&reject, &dice_ops, &owner, &owner.server), 0);
        owner.later = seed & 1;
        owner.resets = 0;
        ops_dice = seed * 0x9e3779b97f4a7c15u;
        buf_reset(&owner.out);
        say_by(&owner, buf_slice(&wire), seed % 8 == 0 ? 1 : seed % 8 == 1 ? 5 : SIZE_MAX);
        code_list(buf_slice(&owner.out), got);
        cr_assert_str_eq(got, want, "seed %lu:\n%.*s", (unsigned long)seed,
                         SLICE_ARG(buf_slice(&wire)));
        cr_assert_eq(smtp_server_facts(owner.server)->state, m.state, "seed %lu",
                     (unsigned long)seed);
        cr_assert_eq(smtp_server_facts(owner.server)->recipients, m.recipients);
        cr_assert_eq(smtp_server_facts(owner.server)->errors, m.errors);
        cr_assert_eq(owner.resets, m.resets, "seed %lu", (unsigned long)seed);
    }
    stop(&owner);
    buf_deinit(&wire);
}
