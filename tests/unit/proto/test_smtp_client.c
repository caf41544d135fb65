/* The SMTP client: what it writes, and what it makes of replies. */
#include "tests/unit/proto/smtp_client_owner.h"

/* The opening. */

struct opening_row {
    const char *name, *greeting, *ehlo, *helo, *events, *wire;
};

static const struct opening_row openings[] = {
    {"plain", "220 hi\r\n", EHLO_ALL, NULL, "ready", "EHLO debianindonesia.test|"},
    {"greeting of two lines", "220-hi\r\n220 ho\r\n", EHLO_NONE, NULL, "ready",
     "EHLO debianindonesia.test|"},
    {"no service", "554 go away\r\n", NULL, NULL, "ended site-failed (554 go away)", ""},
    {"not now", "450 later\r\n", NULL, NULL, "ended site-failed (450 later)", ""},
    {"closing", "421 later\r\n", NULL, NULL, "ended site-failed (421 later)", ""},
    {"354 is no greeting", "354 go\r\n", NULL, NULL,
     "ended site-failed (the host made no sense while waiting for the greeting: a reply does not "
     "fit "
     "its command)",
     ""},
    {"another protocol", "SSH-2.0-OpenSSH\r\n", NULL, NULL,
     "ended site-failed (the host made no sense while waiting for the greeting: a line is not a "
     "reply)",
     ""},
    {"EHLO unknown", "220 hi\r\n", "500 what\r\n", "250 hello\r\n", "ready",
     "EHLO debianindonesia.test|HELO debianindonesia.test|"},
    {"EHLO not implemented", "220 hi\r\n", "502 no\r\n", "250 hello\r\n", "ready",
     "EHLO debianindonesia.test|HELO debianindonesia.test|"},
    {"EHLO refused", "220 hi\r\n", "550 not you\r\n", NULL, "ended site-failed (550 not you)",
     "EHLO debianindonesia.test|"},
    {"EHLO later", "220 hi\r\n", "451 busy\r\n", NULL, "ended site-failed (451 busy)",
     "EHLO debianindonesia.test|"},
    {"HELO refused too", "220 hi\r\n", "500 what\r\n", "500 what\r\n",
     "ended site-failed (500 what)", "EHLO debianindonesia.test|HELO debianindonesia.test|"},
};

Test(smtp_client, opening)
{
    for (size_t i = 0; i < ARRAY_SIZE(openings); i++) {
        struct session session;

        open_session(&session);
        say(&session, openings[i].greeting);
        if (openings[i].ehlo != NULL)
            say(&session, openings[i].ehlo);
        if (openings[i].helo != NULL)
            say(&session, openings[i].helo);
        cr_expect_str_eq(session.events, openings[i].events, "%s: %s", openings[i].name,
                         session.events);
        cr_expect_str_eq(session.wire, openings[i].wire, "%s: %s", openings[i].name, session.wire);
        smtp_client_destroy(&session.client);
    }
}

Test(smtp_client, capabilities_are_learnt_whatever_their_case)
{
    struct session session;
    const struct smtp_capabilities *offered;

    open_ready(&session, "250-x\r\n250-pipelining\r\n250-8BitMime\r\n250-size 77\r\n250 HELP\r\n");
    offered = smtp_client_capabilities(session.client);
    cr_expect(offered->pipelining && offered->eight_bit && offered->size);
    cr_expect_not(offered->enhanced_status);
    cr_expect_eq(offered->size_max, 77);
    smtp_client_destroy(&session.client);
}

Test(smtp_client, the_first_line_of_ehlo_is_a_name_not_a_capability)
{
    struct session session;

    open_ready(&session, "250-PIPELINING\r\n250 SIZE\r\n");
    cr_expect_not(smtp_client_capabilities(session.client)->pipelining);
    cr_expect(smtp_client_capabilities(session.client)->size);
    cr_expect_eq(smtp_client_capabilities(session.client)->size_max, 0);
    smtp_client_destroy(&session.client);
}

Test(smtp_client, nonsense_as_size_means_none_said)
{
    struct session session;

    open_ready(&session, "250-x\r\n250-SIZE 99999999999999999999999\r\n250 SIZES 5\r\n");
    cr_expect(smtp_client_capabilities(session.client)->size);
    cr_expect_eq(smtp_client_capabilities(session.client)->size_max, 0);
    smtp_client_destroy(&session.client);
}

Test(smtp_client, capabilities_of_a_refused_ehlo_are_not_kept)
{
    struct session session;

    open_session(&session);
    say(&session, "220 hi\r\n");
    say(&session, "500-x\r\n500-PIPELINING\r\n500 SIZE 5\r\n");
    say(&session, "250-x\r\n250 PIPELINING\r\n"); /* of HELO: says nothing */
    cr_expect_not(smtp_client_capabilities(session.client)->pipelining);
    cr_expect_not(smtp_client_capabilities(session.client)->size);
    smtp_client_destroy(&session.client);
}

/* Transactions. */

Test(smtp_client, pipelined_the_envelope_goes_out_in_one_write)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    begin(&session, letter(2));
    cr_expect_str_eq(session.wire,
                     ENVELOPE "RCPT TO:<fadli@kawan.test>|RCPT TO:<sari@kawan.test>|DATA|");
    say(&session, "250 ok\r\n250 ok\r\n250 ok\r\n");
    cr_expect_str_eq(session.events, "");
    say(&session, "354 go\r\n");
    cr_expect_str_eq(session.events, "body");
    say(&session, "250 2.0.0 queued\r\n");
    expect(&session, "body; 0 delivered 250 2.0.0; 1 delivered 250 2.0.0; ready",
           ENVELOPE "RCPT TO:<fadli@kawan.test>|RCPT TO:<sari@kawan.test>|DATA|.|");
}

Test(smtp_client, without_pipelining_commands_go_one_by_one)
{
    static const char *const replies[] = {"250 a\r\n", "250 b\r\n", "250 c\r\n", "354 d\r\n"};
    static const char *const wires[] = {BARE_ENVELOPE, "RCPT TO:<fadli@kawan.test>|",
                                        "RCPT TO:<sari@kawan.test>|", "DATA|", ".|"};
    struct session session;

    open_ready(&session, EHLO_NONE);
    begin(&session, letter(2));
    for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
        cr_expect_str_eq(session.wire, wires[i]);
        session.wire[0] = '\0';
        say(&session, replies[i]);
    }
    cr_expect_str_eq(session.wire, wires[4]);
    say(&session, "250 queued\r\n");
    expect(&session, "body; 0 delivered 250 0.0.0; 1 delivered 250 0.0.0; ready", NULL);
}

Test(smtp_client, the_null_sender)
{
    struct session session;
    struct smtp_transaction report = letter(1);

    report.sender = SLICE_NONE;
    open_ready(&session, EHLO_ALL);
    begin(&session, report);
    expect(&session, "", "MAIL FROM:<> SIZE=1234|RCPT TO:<fadli@kawan.test>|DATA|");
}

Test(smtp_client, eight_bit_content_is_declared)
{
    struct session session;
    struct smtp_transaction transaction = letter(1);

    transaction.eight_bit = true;
    open_ready(&session, EHLO_ALL);
    begin(&session, transaction);
    expect(&session, "",
           "MAIL FROM:<penulis@debianindonesia.test> SIZE=1234 BODY=8BITMIME|"
           "RCPT TO:<fadli@kawan.test>|DATA|");
}

/* What a reply means: with three recipients, the replies to everything, pipelined. */
struct meaning_row {
    const char *name, *envelope, *dot, *events;
};

static const struct meaning_row meanings[] = {
    {"one is refused", "250 ok\r\n550 5.1.1 no\r\n250 ok\r\n250 ok\r\n354 go\r\n", "250 ok\r\n",
     "0 never 550 5.1.1; body; 1 delivered 250 0.0.0; 2 delivered 250 0.0.0; ready"},
    {"one is greylisted", "250 ok\r\n250 ok\r\n450 4.2.0 later\r\n251 ok\r\n354 go\r\n",
     "250 ok\r\n", "1 later 450 4.2.0; body; 0 delivered 250 0.0.0; 2 delivered 250 0.0.0; ready"},
    {"552 to RCPT is 452", "250 ok\r\n250 ok\r\n250 ok\r\n552 too many\r\n354 go\r\n", "250 ok\r\n",
     "2 later 552 0.0.0; body; 0 delivered 250 0.0.0; 1 delivered 250 0.0.0; ready"},
    {"bad sequence to RCPT", "250 ok\r\n503 no\r\n250 ok\r\n250 ok\r\n354 go\r\n", "250 ok\r\n",
     "0 never 503 0.0.0; body; 1 delivered 250 0.0.0; 2 delivered 250 0.0.0; ready"},
    {"the dot is refused", "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n",
     "554 5.7.1 spam\r\n", "body; 0 never 554 5.7.1; 1 never 554 5.7.1; 2 never 554 5.7.1; ready"},
    {"552 to the dot is never", "250 ok\r\n250 ok\r\n550 no\r\n450 no\r\n354 go\r\n",
     "552 5.3.4 large\r\n", "1 never 550 0.0.0; 2 later 450 0.0.0; body; 0 never 552 5.3.4; ready"},
    {"the dot is put off", "250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n", "451 later\r\n",
     "1 never 550 0.0.0; body; 0 later 451 0.0.0; 2 later 451 0.0.0; ready"},
    {"MAIL is refused", "550 5.7.1 no\r\n503 a\r\n503 b\r\n503 c\r\n503 d\r\n", NULL,
     "0 never 550 5.7.1; 1 never 550 5.7.1; 2 never 550 5.7.1; ready"},
    {"MAIL is put off", "451 4.3.0 no\r\n503 a\r\n503 b\r\n503 c\r\n503 d\r\n", NULL,
     "0 later 451 4.3.0; 1 later 451 4.3.0; 2 later 451 4.3.0; ready"},
    {"552 to MAIL is never", "552 large\r\n503 a\r\n503 b\r\n503 c\r\n503 d\r\n", NULL,
     "0 never 552 0.0.0; 1 never 552 0.0.0; 2 never 552 0.0.0; ready"},
    {"MAIL is refused and RCPT taken", "550 no\r\n250 a\r\n250 b\r\n250 c\r\n554 d\r\n", NULL,
     "0 never 550 0.0.0; 1 never 550 0.0.0; 2 never 550 0.0.0; ready"},
    {"DATA is refused", "250 ok\r\n250 a\r\n550 b\r\n250 c\r\n554 d\r\n", NULL,
     "1 never 550 0.0.0; 0 never 554 0.0.0; 2 never 554 0.0.0; ready"},
    {"DATA is put off", "250 ok\r\n250 a\r\n550 b\r\n250 c\r\n452 4.3.1 d\r\n", NULL,
     "1 never 550 0.0.0; 0 later 452 4.3.1; 2 later 452 4.3.1; ready"},
    {"nobody is taken", "250 ok\r\n550 a\r\n550 b\r\n450 c\r\n554 d\r\n", NULL,
     "0 never 550 0.0.0; 1 never 550 0.0.0; 2 later 450 0.0.0; ready"},
    {"nobody, and DATA taken", "250 ok\r\n550 a\r\n550 b\r\n450 c\r\n354 go\r\n", "250 what\r\n",
     "0 never 550 0.0.0; 1 never 550 0.0.0; 2 later 450 0.0.0; ready"},
    {"421 to RCPT", "250 ok\r\n550 a\r\n421 b\r\n", NULL,
     "0 never 550 0.0.0; 1 later 421 0.0.0; 2 later 421 0.0.0; ended site-failed (421 b)"},
    {"421 to the dot", "250 ok\r\n250 a\r\n550 b\r\n250 c\r\n354 go\r\n", "421 4.3.2 down\r\n",
     "1 never 550 0.0.0; body; 0 later 421 4.3.2; 2 later 421 4.3.2; ended site-failed (421 4.3.2 "
     "down)"},
    {"354 to MAIL", "354 go\r\n", NULL,
     "0 later 0 4.5.0; 1 later 0 4.5.0; 2 later 0 4.5.0; ended (the host made no sense while "
     "waiting for the reply to MAIL: a reply does not fit its command)"},
    {"354 to RCPT", "250 ok\r\n354 go\r\n", NULL,
     "0 later 0 4.5.0; 1 later 0 4.5.0; 2 later 0 4.5.0; ended (the host made no sense while "
     "waiting for the reply to RCPT: a reply does not fit its command)"},
    {"250 to DATA", "250 ok\r\n250 a\r\n550 b\r\n250 c\r\n250 d\r\n", NULL,
     "1 never 550 0.0.0; 0 later 0 4.5.0; 2 later 0 4.5.0; ended (the host made no sense while "
     "waiting for the reply to DATA: a reply does not fit its command)"},
    {"nonsense to the dot", "250 ok\r\n250 a\r\n550 b\r\n550 c\r\n354 go\r\n", "ok\r\n",
     "1 never 550 0.0.0; 2 never 550 0.0.0; body; 0 later 0 4.5.0; ended in-doubt (the host made "
     "no "
     "sense while waiting for the reply to the end of the message: a line is not a reply)"},
    {"354 to the dot", "250 ok\r\n250 a\r\n550 b\r\n550 c\r\n354 go\r\n", "354 go\r\n",
     "1 never 550 0.0.0; 2 never 550 0.0.0; body; 0 later 0 4.5.0; ended in-doubt (the host made "
     "no "
     "sense while waiting for the reply to the end of the message: a reply does not fit its "
     "command)"},
    {"one reply too many", "250 ok\r\n250 a\r\n550 b\r\n250 c\r\n554 d\r\n250 e\r\n", NULL,
     "1 never 550 0.0.0; 0 never 554 0.0.0; 2 never 554 0.0.0; ended (the host made no sense while "
     "between messages: a reply came that answers nothing)"},
    {"part of a reply too many", "250 ok\r\n250 a\r\n550 b\r\n250 c\r\n554 d\r\n25", NULL,
     "1 never 550 0.0.0; 0 never 554 0.0.0; 2 never 554 0.0.0; ended (the host made no sense while "
     "between messages: a reply came that answers nothing)"},
    {"the dot's reply before the dot",
     "250 ok\r\n250 a\r\n550 b\r\n550 c\r\n354 go\r\n250 done\r\n", NULL,
     "1 never 550 0.0.0; 2 never 550 0.0.0; body; 0 later 0 4.5.0; ended in-doubt (the host made "
     "no "
     "sense while waiting for the reply to the end of the message: a reply came that answers "
     "nothing)"},
};

Test(smtp_client, what_a_reply_means)
{
    for (size_t i = 0; i < ARRAY_SIZE(meanings); i++) {
        const struct meaning_row *row = &meanings[i];
        struct session session;

        open_ready(&session, EHLO_ALL);
        begin(&session, letter(3));
        say(&session, row->envelope);
        if (row->dot != NULL)
            say(&session, row->dot);
        cr_expect_str_eq(session.events, row->events, "%s: %s", row->name, session.events);
        smtp_client_destroy(&session.client);
    }
}

Test(smtp_client, whole_and_trickled_agree)
{
    for (size_t i = 0; i < ARRAY_SIZE(meanings); i++) {
        const struct meaning_row *row = &meanings[i];
        struct session session;

        if (strstr(row->events, "too many") != NULL ||
            strstr(row->events, "answers nothing") != NULL)
            continue; /* which reply is one too many depends on when it comes */
        open_ready(&session, EHLO_ALL);
        begin(&session, letter(3));
        for (int part = 0; part < 2; part++) {
            const char *wire = part == 0 ? row->envelope : row->dot;

            for (size_t at = 0; wire != NULL && wire[at] != '\0'; at++)
                say(&session, (char[]){wire[at], '\0'});
        }
        cr_expect_str_eq(session.events, row->events, "%s: %s", row->name, session.events);
        smtp_client_destroy(&session.client);
    }
}

Test(smtp_client, nobody_taken_ends_a_started_data_with_a_lone_dot)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    begin(&session, letter(1));
    session.wire[0] = '\0';
    say(&session, "250 ok\r\n550 no\r\n354 go\r\n");
    cr_expect_str_eq(session.wire, ".|");
    say(&session, "554 nobody\r\n");
    expect(&session, "0 never 550 0.0.0; ready", ".|");
}

Test(smtp_client, in_lockstep_data_is_not_sent_when_nobody_is_taken)
{
    struct session session;

    open_ready(&session, EHLO_NONE);
    begin(&session, letter(2));
    say(&session, "250 ok\r\n");
    say(&session, "550 no\r\n");
    say(&session, "450 no\r\n");
    expect(&session, "0 never 550 0.0.0; 1 later 450 0.0.0; ready",
           BARE_ENVELOPE "RCPT TO:<fadli@kawan.test>|RCPT TO:<sari@kawan.test>|");
}

/* A reply that began before its command was written is not its answer, over however many inputs it comes. */
Test(smtp_client, an_early_reply_in_pieces_answers_nothing)
{
    struct session session;

    open_ready(&session, EHLO_NONE);
    begin(&session, letter(1));
    say(&session, "250 ok\r\n250 ea");
    say(&session, "rl");
    say(&session, "y\r\n");
    cr_expect_not_null(strstr(session.events, "answers nothing"), "%s", session.events);
    smtp_client_destroy(&session.client);
}

Test(smtp_client, in_lockstep_a_refused_mail_ends_the_transaction)
{
    struct session session;

    open_ready(&session, EHLO_NONE);
    begin(&session, letter(2));
    say(&session, "550 no\r\n");
    expect(&session, "0 never 550 0.0.0; 1 never 550 0.0.0; ready", BARE_ENVELOPE);
}

/* Reuse. */

static void deliver(struct session *session)
{
    begin(session, letter(1));
    say(session, "250 ok\r\n250 ok\r\n354 go\r\n");
    say(session, "250 queued\r\n");
}

Test(smtp_client, a_session_is_used_again_without_rset)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    deliver(&session);
    deliver(&session);
    expect(&session, "body; 0 delivered 250 0.0.0; ready; body; 0 delivered 250 0.0.0; ready",
           ENVELOPE "RCPT TO:<fadli@kawan.test>|DATA|.|" ENVELOPE
                    "RCPT TO:<fadli@kawan.test>|DATA|.|");
}

struct reset_row {
    const char *name, *replies;
    bool reset;
};

Test(smtp_client, rset_comes_only_after_what_stopped_midway)
{
    static const struct reset_row rows[] = {
        {"MAIL refused", "550 a\r\n503 b\r\n503 c\r\n", false},
        {"nobody taken", "250 a\r\n550 b\r\n503 c\r\n", true},
        {"DATA refused", "250 a\r\n250 b\r\n452 c\r\n", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct session session;

        open_ready(&session, EHLO_ALL);
        begin(&session, letter(1));
        say(&session, rows[i].replies);
        session.wire[0] = '\0';
        begin(&session, letter(1));
        cr_expect_str_eq(session.wire,
                         rows[i].reset ? "RSET|" ENVELOPE "RCPT TO:<fadli@kawan.test>|DATA|"
                                       : ENVELOPE "RCPT TO:<fadli@kawan.test>|DATA|",
                         "%s", rows[i].name);
        smtp_client_destroy(&session.client);
    }
}

Test(smtp_client, rset_refused_ends_the_session)
{
    struct session session;

    open_ready(&session, EHLO_NONE);
    begin(&session, letter(1));
    say(&session, "250 a\r\n");
    say(&session, "550 b\r\n");
    session.events[0] = session.wire[0] = '\0';
    begin(&session, letter(1));
    cr_expect_str_eq(session.wire, "RSET|");
    say(&session, "500 what\r\n");
    expect(&session, "0 later 500 0.0.0; ended (500 what)", "RSET|");
}

/* What we refuse ourselves. */

Test(smtp_client, eight_bit_content_is_not_sent_where_it_is_not_offered)
{
    struct session session;
    struct smtp_transaction transaction = letter(2);

    transaction.eight_bit = true;
    open_ready(&session, "250-x\r\n250 PIPELINING\r\n");
    begin(&session, transaction);
    expect(&session, "0 never 0 5.6.3; 1 never 0 5.6.3; ready", "");
}

Test(smtp_client, a_message_above_the_announced_size_is_not_sent)
{
    struct session session;
    struct smtp_transaction transaction = letter(1);

    open_ready(&session, EHLO_ALL);
    transaction.body_bytes = 1000001;
    begin(&session, transaction);
    cr_expect_str_eq(session.events, "0 never 0 5.3.4; ready");
    cr_expect_str_eq(session.wire, "");
    transaction.body_bytes = 1000000;
    begin(&session, transaction);
    cr_expect_eq(strncmp(session.wire, "MAIL FROM:", 10), 0);
    smtp_client_destroy(&session.client);
}

struct address_row {
    const char *name;
    struct slice address;
};

Test(smtp_client, an_address_cannot_end_its_line)
{
    static const struct address_row rows[] = {
        {"CRLF", SLICE("a>\r\nRCPT TO:<b@kawan.test")},
        {"LF", SLICE("a\n@kawan.test")},
        {"NUL", SLICE("a\0@kawan.test")},
        {"8 bits", SLICE("\xc3\xa4@kawan.test")},
        {"DEL", SLICE("a\x7f@kawan.test")},
        {"nothing", SLICE("")},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct slice recipients[] = {rows[i].address, people[0]};
        struct smtp_transaction transaction = letter(2);
        struct session session;

        transaction.recipients = recipients;
        open_ready(&session, EHLO_ALL);
        begin(&session, transaction);
        cr_expect_str_eq(session.events, "0 never 0 5.1.3", "%s", rows[i].name);
        cr_expect_str_eq(session.wire, ENVELOPE "RCPT TO:<fadli@kawan.test>|DATA|", "%s",
                         rows[i].name);
        say(&session, "250 a\r\n250 b\r\n354 c\r\n");
        say(&session, "250 d\r\n");
        cr_expect_str_eq(session.events, "0 never 0 5.1.3; body; 1 delivered 250 0.0.0; ready",
                         "%s", rows[i].name);
        smtp_client_destroy(&session.client);
    }
}

Test(smtp_client, a_sender_cannot_end_its_line)
{
    struct session session;
    struct smtp_transaction transaction = letter(2);

    transaction.sender = SLICE("a>\r\nDATA\r\n");
    open_ready(&session, EHLO_ALL);
    begin(&session, transaction);
    expect(&session, "0 never 0 5.1.7; 1 never 0 5.1.7; ready", "");
}

/* Many recipients: the envelope is written in windows, and every recipient has its own reply. */
Test(smtp_client, a_thousand_recipients)
{
    static struct slice recipients[1000];
    struct session session;
    struct smtp_transaction transaction = letter(1);
    uint32_t answered = 0, delivered = 0;
    char reply[32];

    for (size_t i = 0; i < ARRAY_SIZE(recipients); i++)
        recipients[i] = people[0];
    transaction.recipients = recipients;
    transaction.recipient_count = ARRAY_SIZE(recipients);
    open_ready(&session, EHLO_ALL);
    smtp_client_begin(session.client, &transaction);
    cr_expect_lt(smtp_client_out(session.client)->size, 16 * KIB);
    buf_reset(smtp_client_out(session.client));
    say(&session, "250 mail\r\n");
    for (; answered < 1000; answered++) {
        (void)snprintf(reply, sizeof(reply), "%d x\r\n", answered % 100 == 7 ? 550 : 250);
        smtp_client_input(session.client, slice_cstr(reply));
        cr_expect_lt(smtp_client_out(session.client)->size, 16 * KIB);
        buf_reset(smtp_client_out(session.client));
    }
    say(&session, "354 go\r\n");
    cr_expect_str_eq(
        session.events,
        "7 never 550 0.0.0; 107 never 550 0.0.0; 207 never 550 0.0.0; 307 never 550 "
        "0.0.0; 407 never 550 0.0.0; 507 never 550 0.0.0; 607 never 550 0.0.0; 707 never "
        "550 0.0.0; 807 never 550 0.0.0; 907 never 550 0.0.0; body");
    session.events[0] = '\0';
    say(&session, "250 2.0.0 ok\r\n");
    for (const char *at = session.events; (at = strstr(at, "delivered 250")) != NULL; at++)
        delivered++;
    cr_expect_gt(delivered, 100, "as many as the notes have room for");
    cr_expect(smtp_client_idle(session.client));
    cr_expect_lt(smtp_client_out(session.client)->capacity, 8 * KIB,
                 "an idle session holds little");
    smtp_client_destroy(&session.client);
}
