#include "proto/smtp_server.h"

#include "tests/unit/proto/smtp_owner.h"
#include <signal.h>

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
