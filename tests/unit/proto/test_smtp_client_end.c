/* How a session of the SMTP client ends: lost, timed out, by QUIT, by a reply that answers nothing, by its owner. */
#include "tests/unit/proto/smtp_client_owner.h"

#include <errno.h>
#include <signal.h>

struct loss_row {
    const char *name, *replies, *events;
};

static const struct loss_row losses[] = {
    {"before MAIL's reply", "",
     "0 later 0 4.4.2; 1 later 0 4.4.2; ended (%s while waiting for the "
     "reply to MAIL%s)"},
    {"after one RCPT", "250 a\r\n550 b\r\n",
     "0 never 550 0.0.0; 1 later 0 4.4.2; ended (%s while waiting for the reply to RCPT%s)"},
    {"before DATA's reply", "250 a\r\n250 b\r\n250 c\r\n",
     "0 later 0 4.4.2; 1 later 0 4.4.2; ended (%s while waiting for the reply to DATA%s)"},
    {"in the midst of the body", "250 a\r\n250 b\r\n250 c\r\n354 go\r\n",
     "body; 0 later 0 4.4.2; 1 later 0 4.4.2; ended (%s while sending the message%s)"},
};

Test(smtp_client_end, lost_or_timed_out)
{
    for (size_t i = 0; i < ARRAY_SIZE(losses) * 2; i++) {
        const struct loss_row *row = &losses[i / 2];
        struct session session;
        bool lost = i % 2 == 0;
        char events[512];

        open_ready(&session, EHLO_ALL);
        session.body_at_once = false;
        begin(&session, letter(2));
        say(&session, row->replies);
        if (lost)
            smtp_client_lost(session.client, -ECONNRESET);
        else
            smtp_client_timeout(session.client);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(events, sizeof(events), row->events,
                       lost ? "the connection was lost" : "the time was up",
                       lost ? ": Connection reset by peer" : "");
#pragma GCC diagnostic pop
        cr_expect_str_eq(session.events, events, "%s", row->name);
        smtp_client_lost(session.client, 0);
        smtp_client_timeout(session.client);
        smtp_client_body_sent(session.client);
        smtp_client_body_failed(session.client);
        smtp_client_input(session.client, SLICE("250 ok\r\n"));
        cr_expect_str_eq(session.events, events, "%s: nothing follows the end", row->name);
        smtp_client_destroy(&session.client);
    }
}

Test(smtp_client_end, lost_behind_the_dot_is_in_doubt)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    begin(&session, letter(2));
    say(&session, "250 a\r\n250 b\r\n550 c\r\n354 go\r\n");
    cr_expect_eq(smtp_client_patience_ms(session.client), 6);
    smtp_client_lost(session.client, 0);
    expect(
        &session,
        "1 never 550 0.0.0; body; 0 later 0 4.4.2; ended in-doubt (the connection was lost while "
        "waiting for the reply to the end of the message)",
        NULL);
}

Test(smtp_client_end, lost_behind_a_lone_dot_is_not_in_doubt)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    begin(&session, letter(1));
    say(&session, "250 a\r\n550 b\r\n354 go\r\n");
    smtp_client_lost(session.client, 0);
    expect(&session,
           "0 never 550 0.0.0; ended (the connection was lost while waiting for the reply to the "
           "end of the message)",
           NULL);
}

Test(smtp_client_end, lost_while_opening_fails_the_site)
{
    struct session session;

    open_session(&session);
    say(&session, "220 hi\r\n");
    smtp_client_lost(session.client, 0);
    expect(&session,
           "ended site-failed (the connection was lost while waiting for the reply to EHLO)", NULL);
}

Test(smtp_client_end, closed_between_messages_is_nobodys_fault)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    smtp_client_lost(session.client, 0);
    expect(&session, "ended (the connection was lost while between messages)", "");
}

Test(smtp_client_end, a_421_between_messages_fails_the_site)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    say(&session, "421 4.4.2 idle for too long\r\n");
    expect(&session, "ended site-failed (421 4.4.2 idle for too long)", "");
}

Test(smtp_client_end, body_that_cannot_be_read_is_not_ended_with_a_dot)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    session.body_at_once = false;
    begin(&session, letter(1));
    say(&session, "250 a\r\n250 b\r\n354 go\r\n");
    session.wire[0] = '\0';
    cr_expect_eq(smtp_client_patience_ms(session.client), 5);
    smtp_client_body_failed(session.client);
    drain(&session);
    expect(&session,
           "body; 0 later 0 4.3.0; ended (the message could not be read while sending the message)",
           "");
}

Test(smtp_client_end, a_refusal_in_the_midst_of_the_body_counts)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    session.body_at_once = false;
    begin(&session, letter(1));
    say(&session, "250 a\r\n250 b\r\n354 go\r\n");
    say(&session, "552 5.3.4 enough\r\n");
    expect(&session, "body; 0 never 552 5.3.4; ended (552 5.3.4 enough)", NULL);
}

Test(smtp_client_end, an_approval_in_the_midst_of_the_body_does_not)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    session.body_at_once = false;
    begin(&session, letter(1));
    say(&session, "250 a\r\n250 b\r\n354 go\r\n");
    say(&session, "250 2.0.0 queued\r\n");
    expect(
        &session,
        "body; 0 later 0 4.5.0; ended (the host made no sense while sending the message: a reply "
        "came that answers nothing)",
        NULL);
}

/* The plaintext of a reply that came before its command must never answer that command. */
Test(smtp_client_end, a_reply_is_never_older_than_its_command)
{
    struct session session;

    open_session(&session);
    say(&session, "220 hi\r\n250 ok\r\n");
    cr_expect_str_eq(session.events, "ended site-failed (the host made no sense while waiting for "
                                     "the reply to EHLO: a reply came that answers nothing)");
    smtp_client_destroy(&session.client);

    open_ready(&session, EHLO_ALL);
    say(&session, "250 ");
    begin(&session, letter(1));
    say(&session, "ok\r\n");
    expect(&session,
           "0 later 0 4.5.0; ended (the host made no sense while waiting for the reply to MAIL: a "
           "reply came that answers nothing)",
           NULL);
}

Test(smtp_client_end, quit_waits_for_its_reply_or_the_end)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    smtp_client_quit(session.client);
    drain(&session);
    cr_expect_eq(smtp_client_patience_ms(session.client), 4);
    say(&session, "221 bye\r\n");
    expect(&session, "ended (221 bye)", "QUIT|");

    open_ready(&session, EHLO_ALL);
    smtp_client_quit(session.client);
    smtp_client_lost(session.client, 0);
    expect(&session, "ended (the connection was lost while waiting for the reply to QUIT)", NULL);

    open_ready(&session, EHLO_ALL);
    smtp_client_quit(session.client);
    say(&session, "421 closing\r\n");
    expect(&session, "ended (421 closing)", NULL);
}

Test(smtp_client_end, patience_follows_the_reply_that_is_due)
{
    struct session session;

    open_session(&session);
    cr_expect_eq(smtp_client_patience_ms(session.client), 1);
    say(&session, "220 hi\r\n");
    cr_expect_eq(smtp_client_patience_ms(session.client), 1);
    say(&session, EHLO_ALL);
    cr_expect_eq(smtp_client_patience_ms(session.client), UINT32_MAX);
    begin(&session, letter(1));
    cr_expect_eq(smtp_client_patience_ms(session.client), 2);
    say(&session, "250 a\r\n");
    cr_expect_eq(smtp_client_patience_ms(session.client), 3);
    say(&session, "250 b\r\n");
    cr_expect_eq(smtp_client_patience_ms(session.client), 4);
    say(&session, "354 c\r\n");
    cr_expect_eq(smtp_client_patience_ms(session.client), 6);
    smtp_client_timeout(session.client);
    cr_expect_eq(smtp_client_patience_ms(session.client), UINT32_MAX);
    smtp_client_destroy(&session.client);
}

/* The owner's own turns. */

Test(smtp_client_end, ready_is_not_called_inside_ready)
{
    struct smtp_transaction queue[40];
    struct session session;

    for (size_t i = 0; i < ARRAY_SIZE(queue); i++) {
        queue[i] = letter(1);
        queue[i].body_bytes = 2000000;
    }
    open_session(&session);
    session.queue = queue;
    session.queued = ARRAY_SIZE(queue);
    say(&session, "220 hi\r\n");
    say(&session, EHLO_ALL);
    cr_expect_eq(session.queued, 0);
    cr_expect_eq(session.ready_depth_max, 1);
    smtp_client_destroy(&session.client);
}

Test(smtp_client_end, destroyed_inside_a_callback)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    session.destroy_in_outcome = true;
    begin(&session, letter(3));
    say(&session, "550 no\r\n503 a\r\n");
    cr_expect_null(session.client);
    cr_expect_str_eq(session.events, "0 never 550 0.0.0", "nothing is told any more");

    open_session(&session);
    session.destroy_in_ready = true;
    say(&session, "220 hi\r\n");
    say(&session, EHLO_ALL);
    cr_expect_null(session.client);
}

Test(smtp_client_end, body_sent_without_being_asked_is_our_fault, .signal = SIGABRT)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    begin(&session, letter(1));
    smtp_client_body_sent(session.client);
}

Test(smtp_client_end, two_transactions_at_once_are_our_fault, .signal = SIGABRT)
{
    struct session session;

    open_ready(&session, EHLO_ALL);
    begin(&session, letter(1));
    begin(&session, letter(1));
}
