/* Two whole servers in one process: letters through both, POP3, accounts that change, a restart with mail queued.
 *
 * A plain program, because it runs under TSan as well; under ASan its end shows that nothing leaked.
 */
#include "server_fixture.h"

#define LARGE_BYTES                                                                                \
    (300 * KIB) /* several chunks in the log, and a mailbox file written piece by piece */

static struct world world;
static struct server *const alam = &world.servers[0];
static struct server *const kawan = &world.servers[1];

static void open_servers(void)
{
    char more[600];

    world_open(&world);
    server_init(&world, 0, "alam.test");
    server_init(&world, 1, "kawan.test");
    /* The least number of receive buffers, so that they are used again soon. */
    (void)snprintf(more, sizeof(more),
                   "shards = 2\nreceive_buffers = 16\nreceive_buffer_bytes = 2K\nretry_first = 1s\n"
                   "site_backoff_first = 1s\nroute \"kawan.test\" { via = \"127.0.0.1:%u\" }\n",
                   kawan->smtp_port);
    write_config(alam, more);
    (void)snprintf(more, sizeof(more),
                   "shards = 2\nroute \"alam.test\" { via = \"127.0.0.1:%u\" }\n", alam->smtp_port);
    write_config(kawan, more);
    server_start(alam);
    server_start(kawan);
}

static void expect_body(const struct server *server, const char *user, unsigned number,
                        struct slice body)
{
    struct client client;
    struct buf text;
    const uint8_t *at;

    pop3_open(&client, server, user);
    buf_init(&text, 16 * MIB);
    pop3_retrieve(&client, number, &text);
    at = memmem(text.data, text.size, "\r\n\r\n", 4);
    CHECK(at != NULL, "no header section");
    at = memmem(text.data, text.size, body.data, MIN(body.size, (size_t)40));
    CHECK(at != NULL && slice_equal(slice_of(at, (size_t)(text.data + text.size - at)), body),
          "%s's letter %u is altered", user, number);
    buf_deinit(&text);
    pop3_close(&client);
}

static void empty_mailbox(const struct server *server, const char *user)
{
    struct client client;
    char command[40];
    unsigned count;

    pop3_open(&client, server, user);
    count = pop3_count(&client);
    for (unsigned i = 1; i <= count; i++) {
        (void)snprintf(command, sizeof(command), "DELE %u", i);
        CHECK(pop3_say(&client, command), "%s", client.line);
    }
    pop3_close(&client);
}

/* All sessions have ended, all of their buffers are back. */
static void nothing_is_held(void)
{
    wait_for_answer(alam, "json status", "\"sessions\": 0,");
    wait_for_answer(alam, "json status", "\"held_bytes\": 0,");
    wait_for_answer(alam, "json status", "\"receive_buffers_free\": 32, \"receive_buffers\": 32,");
}

/* ---- letters --------------------------------------------------------------------------------------------- */

static void a_letter_reaches_a_colleague(void)
{
    static const char body[] = "Subject: to a colleague\r\n\r\nHello.\r\nA second line.\r\n";

    send_letter(alam, "penulis@alam.test", "Sri@Alam.Test", body);
    wait_for_letters(alam, "sri", 1);
    expect_body(alam, "sri", 1, slice_of(body, sizeof(body) - 1));
    empty_mailbox(alam, "sri");
}

static void a_letter_crosses_to_the_other_server(void)
{
    static const char body[] = "Subject: to a friend\r\n\r\n..leading dots\r\n.\r\n";
    static const char wire[] = "Subject: to a friend\r\n\r\n...leading dots\r\n..\r\n";

    send_letter(alam, "penulis@alam.test", "fadli@kawan.test", wire);
    wait_for_letters(kawan, "fadli", 1);
    expect_body(kawan, "fadli", 1, slice_of(body, sizeof(body) - 1));
    empty_mailbox(kawan, "fadli");
}

/* One letter, three mailboxes, two servers. */
static void a_letter_to_many_reaches_each(void)
{
    static const char body[] = "Subject: to all\r\n\r\nHello everybody.\r\n";
    struct client client;

    smtp_open(&client, alam);
    smtp_say(&client, "MAIL FROM:<penulis@alam.test>", 250);
    smtp_say(&client, "RCPT TO:<sri@alam.test>", 250);
    smtp_say(&client, "RCPT TO:<nobody@alam.test>", 550);
    smtp_say(&client, "RCPT TO:<fadli@kawan.test>", 250);
    smtp_say(&client, "RCPT TO:<fadli@alam.test>", 250);
    smtp_say(&client, "DATA", 354);
    client_send(&client, body);
    smtp_say(&client, ".", 250);
    smtp_close(&client);
    wait_for_letters(alam, "sri", 1);
    wait_for_letters(alam, "fadli", 1);
    wait_for_letters(kawan, "fadli", 1);
    expect_body(alam, "sri", 1, slice_of(body, sizeof(body) - 1));
    expect_body(alam, "fadli", 1, slice_of(body, sizeof(body) - 1));
    expect_body(kawan, "fadli", 1, slice_of(body, sizeof(body) - 1));
    empty_mailbox(alam, "sri");
    empty_mailbox(alam, "fadli");
    empty_mailbox(kawan, "fadli");
}

static void large_body(struct buf *body)
{
    buf_init(body, 2 * LARGE_BYTES);
    buf_append_cstr(body, "Subject: large\r\n\r\n");
    for (unsigned i = 0; body->size < LARGE_BYTES; i++)
        buf_printf(body,
                   "line %u of many, each of them a little different from the one before: %u\r\n",
                   i, i * 2654435761u);
}

/* Over the first server's log in chunks, over the wire, into the second's log and a mailbox. */
static void a_large_letter_arrives_unaltered(void)
{
    struct client client;
    struct buf body;

    large_body(&body);
    smtp_open(&client, alam);
    smtp_letter(&client, "penulis@alam.test", "fadli@kawan.test", buf_slice(&body));
    smtp_letter(&client, "penulis@alam.test", "sri@alam.test", buf_slice(&body));
    smtp_close(&client);
    wait_for_letters(kawan, "fadli", 1);
    expect_body(kawan, "fadli", 1, buf_slice(&body));
    wait_for_letters(alam, "sri", 1);
    expect_body(alam, "sri", 1, buf_slice(&body));
    empty_mailbox(kawan, "fadli");
    empty_mailbox(alam, "sri");
    buf_deinit(&body);
}

/* A body waits in the buffers it arrived in. While others use up all the rest several times over, its own must not be
 * filled again. Both sessions are on one shard or not, as the kernel chose: enough of them make sure of one that is. */
static void a_body_is_safe_while_others_talk(void)
{
    static const char first[] =
        "Subject: held\r\n\r\nthe first part, which lies in a receive buffer\r\n";
    static const char second[] = "the second part, which comes much later\r\n";
    struct client slow, others[6];
    struct buf whole;

    smtp_open(&slow, alam);
    smtp_say(&slow, "MAIL FROM:<penulis@alam.test>", 250);
    smtp_say(&slow, "RCPT TO:<sri@alam.test>", 250);
    smtp_say(&slow, "DATA", 354);
    client_send(&slow, first);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        smtp_open(&others[i], alam);
        for (int j = 0; j < 40; j++)
            smtp_say(&others[i],
                     "NOOP xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                     250);
    }
    client_send(&slow, second);
    smtp_say(&slow, ".", 250);
    smtp_close(&slow);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        smtp_close(&others[i]);
    buf_init(&whole, 4 * KIB);
    buf_append_cstr(&whole, first);
    buf_append_cstr(&whole, second);
    wait_for_letters(alam, "sri", 1);
    expect_body(alam, "sri", 1, buf_slice(&whole));
    empty_mailbox(alam, "sri");
    buf_deinit(&whole);
}

/* More bodies at once than there are receive buffers: they give way, and all of them arrive. */
static void bodies_give_way_when_buffers_are_scarce(void)
{
    struct client clients[24];
    struct buf body;
    size_t half;

    large_body(&body);
    half = 24 * KIB;
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
        smtp_open(&clients[i], alam);
        smtp_say(&clients[i], "MAIL FROM:<penulis@alam.test>", 250);
        smtp_say(&clients[i], "RCPT TO:<sri@alam.test>", 250);
        smtp_say(&clients[i], "DATA", 354);
        CHECK(client_try_send(&clients[i], slice_first(buf_slice(&body), half)), "half of a body");
    }
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
        CHECK(client_try_send(&clients[i], slice_skip(buf_slice(&body), half)), "the rest");
        smtp_say(&clients[i], ".", 250);
        smtp_close(&clients[i]);
    }
    wait_for_letters(alam, "sri", ARRAY_SIZE(clients));
    for (unsigned i = 0; i < ARRAY_SIZE(clients); i += 7)
        expect_body(alam, "sri", i + 1, buf_slice(&body));
    nothing_is_held();
    empty_mailbox(alam, "sri");
    buf_deinit(&body);
}

/* A letter is safe in the mailbox, but cannot be shown just now: it is shown when it can be, not at the next start. */
static void a_letter_that_cannot_be_shown_is_shown_later(void)
{
    char path[200];

    (void)snprintf(path, sizeof(path), "%s/mail/alam.test/sri/new", alam->folder);
    CHECK(chmod(path, 0500) == 0, "%s: %s", path, strerror(errno));
    send_letter(alam, "penulis@alam.test", "sri@alam.test",
                "Subject: late\r\n\r\nbut not lost\r\n");
    wait_for_answer(alam, "json status", "\"queued_messages\": 0,");
    CHECK(chmod(path, 0700) == 0, "%s: %s", path, strerror(errno));
    wait_for_letters(alam, "sri", 1);
    empty_mailbox(alam, "sri");
}

/* ---- refusals ------------------------------------------------------------------------------------------------ */

static void strangers_and_wrong_passwords_are_refused(void)
{
    struct client client;

    smtp_open(&client, alam);
    smtp_say(&client, "MAIL FROM:<penulis@alam.test>", 250);
    smtp_say(&client, "RCPT TO:<nobody@alam.test>", 550);
    smtp_say(&client, "DATA", 554);
    smtp_close(&client);
    client_connect(&client, alam->pop3_port);
    CHECK(client_line(&client), "no greeting");
    CHECK(pop3_say(&client, "USER sri@alam.test"), "%s", client.line);
    CHECK(!pop3_say(&client, "PASS rahasi"), "a wrong password was taken");
    CHECK(pop3_say(&client, "USER nobody@alam.test"), "%s", client.line);
    CHECK(!pop3_say(&client, "PASS rahasia"), "nobody was let in");
    client_close(&client);
}

/* Clients that go in the midst of something: nothing is left of them. */
static void clients_that_vanish_leave_nothing(void)
{
    static const char *const parts[] = {"EHLO a.test\r\n", "MAIL FROM:<a@b.test>\r\n",
                                        "RCPT TO:<sri@alam.test>\r\n", "DATA\r\n",
                                        "Subject: never whole\r\n\r\nhalf a li"};
    static const char *const words[] = {"USER sri@alam.test\r\n", "PASS rahasia\r\n", "RETR 1\r\n",
                                        "DELE 1\r\n", "QUIT\r\n"};

    send_letter(alam, "penulis@alam.test", "sri@alam.test",
                "Subject: stays\r\n\r\nas nobody deletes it\r\n");
    wait_for_letters(alam, "sri", 1);
    for (size_t count = 0; count <= ARRAY_SIZE(parts); count++) {
        struct client client;
        client_connect(&client, alam->smtp_port);
        for (size_t i = 0; i < count; i++)
            client_send(&client, parts[i]);
        client_close(&client);
    }
    for (size_t count = 0; count < ARRAY_SIZE(words); count++) { /* all but QUIT */
        struct client client;
        client_connect(&client, alam->pop3_port);
        for (size_t i = 0; i < count; i++)
            client_send(&client, words[i]);
        client_close(&client);
    }
    nothing_is_held();
    wait_for_letters(alam, "sri", 1);
    empty_mailbox(alam, "sri");
}

static char new_user[] = "baru";

static bool log_in_works(void *context)
{
    struct client client;
    char command[200];
    bool works;

    client_connect(&client, alam->pop3_port);
    CHECK(client_line(&client), "no greeting");
    (void)snprintf(command, sizeof(command), "USER %s@alam.test", (const char *)context);
    CHECK(pop3_say(&client, command), "%s", client.line);
    works = pop3_say(&client, "PASS rahasia");
    client_close(&client);
    return works;
}

/* A new account can log in without a restart; a file that is half written or gone keeps the table in use. */
static void accounts_change_under_the_running_server(void)
{
    static const char *const names[] = {"penulis", "fadli", "sri", "baru", NULL};

    CHECK(!log_in_works(new_user), "not yet");
    write_users(alam, names);
    wait_until(log_in_works, new_user, "a new account");
    write_file(alam->users, "penulis@alam.test:{CRYPT}$y$");
    CHECK(control_ask(alam, "text reload", NULL) == 0, "a reload looks at the accounts at once");
    CHECK(log_in_works(new_user), "a half-written file was taken");
    CHECK(unlink(alam->users) == 0, "%s", alam->users);
    CHECK(control_ask(alam, "text reload", NULL) == 0, "reload");
    CHECK(log_in_works(new_user), "a missing file was taken for one without accounts");
    write_users(alam, names);
}

/* ---- restart -------------------------------------------------------------------------------------------------- */

static void mail_in_the_queue_survives_a_restart(void)
{
    static const char body[] = "Subject: waits\r\n\r\nuntil the other server is back\r\n";

    server_stop(kawan, 5000);
    send_letter(alam, "penulis@alam.test", "fadli@kawan.test", body);
    send_letter(alam, "penulis@alam.test", "fadli@kawan.test", body);
    wait_for_answer(alam, "json status", "\"queued_messages\": 2,");
    server_stop(alam, 5000);
    server_start(alam);
    wait_for_answer(alam, "json status", "\"queued_messages\": 2,");
    server_start(kawan);
    wait_for_letters(kawan, "fadli", 2);
    expect_body(kawan, "fadli", 1, slice_of(body, sizeof(body) - 1));
    empty_mailbox(kawan, "fadli");
    wait_for_answer(alam, "json status", "\"queued_messages\": 0,");
}

static const struct {
    const char *name;
    void (*run)(void);
} steps[] = {
#define STEP(step)                                                                                 \
    {                                                                                              \
#step, step                                                                                \
    }
    STEP(a_letter_reaches_a_colleague),
    STEP(a_letter_crosses_to_the_other_server),
    STEP(a_letter_to_many_reaches_each),
    STEP(a_large_letter_arrives_unaltered),
    STEP(a_body_is_safe_while_others_talk),
    STEP(bodies_give_way_when_buffers_are_scarce),
    STEP(a_letter_that_cannot_be_shown_is_shown_later),
    STEP(strangers_and_wrong_passwords_are_refused),
    STEP(clients_that_vanish_leave_nothing),
    STEP(accounts_change_under_the_running_server),
    STEP(mail_in_the_queue_survives_a_restart),
};

int main(void)
{
    open_servers();
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
        step_run(steps[i].name, steps[i].run);
    server_stop(alam, 5000);
    server_stop(kawan, 5000);
    world_close(&world);
    return 0;
}
