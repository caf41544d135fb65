/* The POP3 server: what it answers, mostly no. Method: a script of lines from a client, an owner
 * with a small mailbox, and the answers compared as text. */
#include "proto/pop3_server.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct session {
    struct pop3_server *server;
    uint32_t count;
    bool hold_login, hold_send, hold_quit; /* the owner answers later */
    bool fail_send;
    int quit_error;
    char said[4096];    /* all that was written, CRLF as "|" */
    char deletes[64];   /* what QUIT was asked to delete, "none" when nothing */
    char password[256]; /* as ops->login saw it */
    uint32_t logins;
};

static const char *const bodies[] = {"Subject: satu\r\n\r\nhalo\r\n",
                                     "Subject: dua\r\n\r\na\r\nb\r\nc\r\n",
                                     "Subject: tiga\r\n\r\n"};

static enum pop3_login on_login(void *context, struct slice user, struct slice password)
{
    struct session *session = context;

    session->logins++;
    (void)slice_to_cstr(password, session->password, sizeof(session->password));
    if (session->hold_login)
        return POP3_LOGIN_PENDING;
    if (slice_equal(user, SLICE("busy")))
        return POP3_LOGIN_IN_USE;
    if (slice_equal(user, SLICE("broken")))
        return POP3_LOGIN_TEMPORARY;
    return slice_equal(user, SLICE("fadli")) && slice_equal(password, SLICE("rahasia kita"))
               ? POP3_LOGIN_OK
               : POP3_LOGIN_REFUSED;
}

static uint32_t on_count(void *context)
{
    return ((struct session *)context)->count;
}

static struct pop3_message on_message(void *context, uint32_t index)
{
    static const struct slice uids[] = {SLICE("uid-a"), SLICE("uid\r\nb"), SLICE("uid-c")};

    (void)context;
    return (struct pop3_message){
        .size_bytes = index < 3 ? strlen(bodies[index]) : 1000 + index,
        .uid = index < 3 ? uids[index] : SLICE("uid-of-a-large-mailbox"),
    };
}

static void on_send(void *context, uint32_t index, uint64_t lines_max)
{
    struct session *session = context;
    struct pop3_top top;

    pop3_top_init(&top, lines_max);
    buf_append(pop3_server_out(session->server), pop3_top_next(&top, slice_cstr(bodies[index])));
    if (!session->hold_send)
        pop3_server_sent(session->server, session->fail_send);
}

static void on_quit(void *context, const uint8_t *deleted, uint32_t deleted_count)
{
    struct session *session = context;
    uint32_t bits = 0;

    for (uint32_t i = 0; i < session->count; i++) {
        if (!(deleted[i / 8] >> (i % 8) & 1))
            continue;
        bits++;
        (void)snprintf(session->deletes + strlen(session->deletes),
                       sizeof(session->deletes) - strlen(session->deletes), "%u ", i + 1);
    }
    cr_expect_eq(bits, deleted_count);
    if (bits == 0)
        (void)strcpy(session->deletes, "none");
    if (!session->hold_quit)
        pop3_server_quit_done(session->server, session->quit_error);
}

static const struct pop3_server_ops ops = {
    .login = on_login,
    .count = on_count,
    .message = on_message,
    .send = on_send,
    .quit = on_quit,
};

static const struct pop3_server_config config = {
    .hostname = SLICE("pop.kawan.test"),
    .command_line_max = 255,
    .errors_max = 5,
    .idle_ms = 600000,
    .login_ms = 60000,
};

static void open_session(struct session *session)
{
    *session = (struct session){.count = 3};
    cr_assert_eq(pop3_server_create(&config, &ops, session, &session->server), 0);
}

static void drain(struct session *session)
{
    struct buf *out = pop3_server_out(session->server);
    size_t used = strlen(session->said);

    for (size_t i = 0; i < out->size && used + 1 < sizeof(session->said); i++) {
        if (out->data[i] == '\r')
            continue;
        session->said[used++] = out->data[i] == '\n' ? '|' : (char)out->data[i];
    }
    session->said[used] = '\0';
    buf_reset(out);
}

/* Offers `wire` in pieces of `step`, as an owner does that offers again what was not consumed. */
static void say_in_steps(struct session *session, struct slice wire, size_t step)
{
    struct slice offered = slice_first(wire, 0);

    while (offered.size < wire.size || offered.size > 0) {
        size_t used, more = MIN(step, wire.size - offered.size);

        offered.size += more;
        used = pop3_server_input(session->server, offered);
        drain(session);
        wire = slice_skip(wire, used);
        offered = slice_of(wire.data, offered.size - used);
        if (used == 0 && (more == 0 || pop3_server_closed(session->server)))
            break;
    }
}

static void say(struct session *session, const char *wire)
{
    say_in_steps(session, slice_cstr(wire), SIZE_MAX);
}

#define LOGIN "USER fadli\r\nPASS rahasia kita\r\n"
#define LOGGED_IN "+OK send the password|+OK 3 messages (65 octets)|"

static void open_mailbox(struct session *session)
{
    open_session(session);
    say(session, LOGIN);
    cr_assert_str_eq(session->said, LOGGED_IN);
    session->said[0] = '\0';
}

struct row {
    const char *name, *wire, *said;
    bool closed;
};

/* Before log-in. */
static const struct row strangers[] = {
    {"log-in", LOGIN, LOGGED_IN, false},
    {"lower case", "user fadli\r\npass rahasia kita\r\n", LOGGED_IN, false},
    {"bare LF", "USER fadli\nPASS rahasia kita\n", LOGGED_IN, false},
    {"QUIT", "QUIT\r\n", "+OK bye|", true},
    {"QUIT after USER", "USER fadli\r\nQUIT\r\n", "+OK send the password|+OK bye|", true},
    {"nothing is read after QUIT", "QUIT\r\nUSER fadli\r\n", "+OK bye|", true},
    {"wrong password", "USER fadli\r\nPASS x\r\n",
     "+OK send the password|-ERR wrong user or password|", false},
    {"unknown user, the same text", "USER nobody\r\nPASS x\r\n",
     "+OK send the password|-ERR wrong user or password|", false},
    {"PASS needs USER again", "USER fadli\r\nPASS x\r\nPASS rahasia kita\r\n",
     "+OK send the password|-ERR wrong user or password|-ERR USER comes before PASS|", false},
    {"three failures", "USER a\r\nPASS x\r\nUSER b\r\nPASS x\r\nUSER c\r\nPASS x\r\n" LOGIN,
     "+OK send the password|-ERR wrong user or password|+OK send the password|-ERR wrong user or "
     "password|+OK send the password|-ERR wrong user or password|",
     true},
    {"another USER replaces the first", "USER nobody\r\n" LOGIN, "+OK send the password|" LOGGED_IN,
     false},
    {"mailbox in use", "USER busy\r\nPASS x\r\n",
     "+OK send the password|-ERR [IN-USE] the mailbox is open in another session|", false},
    {"mailbox broken", "USER broken\r\nPASS x\r\n",
     "+OK send the password|-ERR [SYS/TEMP] the mailbox cannot be opened now, try again later|",
     false},
    {"PASS before USER", "PASS x\r\n", "-ERR USER comes before PASS|", false},
    {"PASS without a password", "USER fadli\r\nPASS\r\n",
     "+OK send the password|-ERR PASS needs a password|", false},
    {"PASS with an empty password", "USER fadli\r\nPASS \r\n",
     "+OK send the password|-ERR PASS needs a password|", false},
    {"spaces of a password count", "USER fadli\r\nPASS rahasia kita \r\n",
     "+OK send the password|-ERR wrong user or password|", false},
    {"spaces before a password count", "USER fadli\r\nPASS  rahasia kita\r\n",
     "+OK send the password|-ERR wrong user or password|", false},
    {"USER without a name", "USER\r\n", "-ERR USER needs one name|", false},
    {"USER with two names", "USER a b\r\n", "-ERR USER needs one name|", false},
    {"USER with two spaces", "USER  a\r\n", "-ERR USER needs one name|", false},
    {"USER with 8 bits", "USER \xc3\xa4\r\n", "-ERR USER needs one name|", false},
    {"a bad USER forgets the good one", "USER fadli\r\nUSER\r\nPASS rahasia kita\r\n",
     "+OK send the password|-ERR USER needs one name|-ERR USER comes before PASS|", false},
    {"STAT", "STAT\r\n", "-ERR log in first|", false},
    {"RETR", "RETR 1\r\n", "-ERR log in first|", false},
    {"DELE", "DELE 1\r\n", "-ERR log in first|", false},
    {"NOOP", "NOOP\r\n", "-ERR log in first|", false},
    {"APOP", "APOP fadli 00\r\n", "-ERR no such command|", false},
    {"AUTH", "AUTH PLAIN\r\n", "-ERR no such command|", false},
    {"STLS", "STLS\r\n", "-ERR no such command|", false},
    {"empty line", "\r\n", "-ERR no such command|", false},
    {"CR inside", "USER a\rb\r\n", "-ERR no command has such characters|", false},
    {"CAPA", "CAPA\r\n",
     "+OK capability list follows|TOP|USER|UIDL|RESP-CODES|PIPELINING|IMPLEMENTATION Kilat|.|",
     false},
    {"CAPA takes nothing", "CAPA x\r\n", "-ERR CAPA takes no argument|", false},
    {"QUIT takes nothing", "QUIT x\r\n", "-ERR QUIT takes no argument|", false},
    {"HTTP", "GET / HTTP/1.1\r\nUSER fadli\r\n", "-ERR this is POP3|", true},
    {"HTTP with a body of commands", "POST / HTTP/1.1\r\n\r\n" LOGIN, "-ERR this is POP3|", true},
    {"TLS", "\x16\x03\x01", "-ERR this is POP3|", true},
    {"a space first", " USER a\r\n", "-ERR this is POP3|", true},
    {"five errors", "A\r\nB\r\nC\r\nD\r\nE\r\n" LOGIN,
     "-ERR no such command|-ERR no such command|-ERR no such command|-ERR no such command|-ERR too "
     "many errors|",
     true},
};

/* After it. */
static const struct row users[] = {
    {"STAT", "STAT\r\n", "+OK 3 65|", false},
    {"LIST", "LIST\r\n", "+OK 3 messages (65 octets)|1 23|2 25|3 17|.|", false},
    {"LIST one", "LIST 2\r\n", "+OK 2 25|", false},
    {"UIDL, and what no UIDL may hold", "UIDL\r\n",
     "+OK 3 messages (65 octets)|1 uid-a|2 uid??b|3 uid-c|.|", false},
    {"UIDL one", "UIDL 3\r\n", "+OK 3 uid-c|", false},
    {"RETR", "RETR 1\r\n", "+OK 23 octets|Subject: satu||halo|.|", false},
    {"TOP", "TOP 2 2\r\n", "+OK top of message follows|Subject: dua||a|b|.|", false},
    {"TOP of no lines", "TOP 2 0\r\n", "+OK top of message follows|Subject: dua||.|", false},
    {"TOP of more than there are", "TOP 2 18446744073709551614\r\n",
     "+OK top of message follows|Subject: dua||a|b|c|.|", false},
    {"TOP of 2^64 lines", "TOP 2 18446744073709551616\r\n", "-ERR a number of lines is expected|",
     false},
    {"TOP of 2^64-1 lines is no RETR", "TOP 2 18446744073709551615\r\n",
     "-ERR a number of lines is expected|", false},
    {"TOP of -1 lines", "TOP 2 -1\r\n", "-ERR a number of lines is expected|", false},
    {"TOP without lines", "TOP 2\r\n", "-ERR TOP needs a message number and a number of lines|",
     false},
    {"TOP with three", "TOP 2 1 1\r\n", "-ERR TOP needs a message number and a number of lines|",
     false},
    {"NOOP", "NOOP\r\n", "+OK here|", false},
    {"a space at the end is forgiven", "LIST \r\nSTAT \r\n",
     "+OK 3 messages (65 octets)|1 23|2 25|3 17|.|+OK 3 65|", false},
    {"RETR of nothing", "RETR\r\n", "-ERR RETR needs a message number|", false},
    {"RETR 0", "RETR 0\r\n", "-ERR no such message|", false},
    {"RETR one above", "RETR 4\r\n", "-ERR no such message|", false},
    {"RETR 2^32 + 1", "RETR 4294967297\r\n", "-ERR no such message|", false},
    {"RETR 2^64 + 1", "RETR 18446744073709551617\r\n", "-ERR a message number is expected|", false},
    {"RETR -1", "RETR -1\r\n", "-ERR a message number is expected|", false},
    {"RETR +1", "RETR +1\r\n", "-ERR a message number is expected|", false},
    {"RETR 1abc", "RETR 1abc\r\n", "-ERR a message number is expected|", false},
    {"RETR 0x1", "RETR 0x1\r\n", "-ERR a message number is expected|", false},
    {"RETR 1 2", "RETR 1 2\r\n", "-ERR RETR needs a message number|", false},
    {"RETR with two spaces", "RETR  1\r\n", "-ERR RETR needs a message number|", false},
    {"LIST of two", "LIST 1 2\r\n", "-ERR at most one message number is expected|", false},
    {"LIST 4", "LIST 4\r\n", "-ERR no such message|", false},
    {"UIDL 0", "UIDL 0\r\n", "-ERR no such message|", false},
    {"DELE of nothing", "DELE\r\n", "-ERR DELE needs a message number|", false},
    {"DELE 4", "DELE 4\r\n", "-ERR no such message|", false},
    {"DELE twice", "DELE 2\r\nDELE 2\r\n", "+OK message 2 deleted|-ERR no such message|", false},
    {"a deleted message is not there",
     "DELE 2\r\nRETR 2\r\nTOP 2 1\r\nLIST 2\r\nUIDL 2\r\nSTAT\r\n",
     "+OK message 2 deleted|-ERR no such message|-ERR no such message|-ERR no such message|-ERR no "
     "such message|+OK 2 40|",
     false},
    {"the others keep their numbers", "DELE 2\r\nLIST\r\nUIDL\r\n",
     "+OK message 2 deleted|+OK 2 messages (40 octets)|1 23|3 17|.|+OK 2 messages (40 octets)|1 "
     "uid-a|3 uid-c|.|",
     false},
    {"RSET", "DELE 2\r\nDELE 1\r\nRSET\r\nSTAT\r\nRETR 1\r\n",
     "+OK message 2 deleted|+OK message 1 deleted|+OK 3 messages (65 octets)|+OK 3 65|+OK 23 "
     "octets|Subject: satu||halo|.|",
     false},
    {"STAT takes nothing", "STAT 1\r\n", "-ERR STAT takes no argument|", false},
    {"RSET takes nothing", "RSET 1\r\n", "-ERR RSET takes no argument|", false},
    {"NOOP takes nothing", "NOOP 1\r\n", "-ERR NOOP takes no argument|", false},
    {"USER", "USER fadli\r\n", "-ERR you are logged in already|", false},
    {"PASS", "PASS x\r\n", "-ERR you are logged in already|", false},
    {"CAPA", "CAPA\r\n",
     "+OK capability list follows|TOP|USER|UIDL|RESP-CODES|PIPELINING|IMPLEMENTATION Kilat|.|",
     false},
    {"unknown", "XTND\r\n", "-ERR no such command|", false},
    {"no such message is no error of the program",
     "RETR 9\r\nRETR 9\r\nRETR 9\r\nRETR 9\r\nRETR 9\r\nRETR 9\r\nNOOP\r\n",
     "-ERR no such message|-ERR no such message|-ERR no such message|-ERR no such message|-ERR no "
     "such message|-ERR no such message|+OK here|",
     false},
    {"pipelined", "LIST 1\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n",
     "+OK 1 23|+OK 23 octets|Subject: satu||halo|.|+OK message 1 deleted|+OK bye, 2 messages left|",
     true},
};

static void play(const struct row *row, bool logged_in, size_t step)
{
    struct session session;

    if (logged_in)
        open_mailbox(&session);
    else
        open_session(&session);
    say_in_steps(&session, slice_cstr(row->wire), step);
    cr_expect_str_eq(session.said, row->said, "%s, %zu at once: %s", row->name, step, session.said);
    cr_expect_eq(pop3_server_closed(session.server), row->closed, "%s", row->name);
    pop3_server_destroy(&session.server);
}

/* Goal: the answer never depends on where the network cut the bytes. */
Test(pop3_server, before_log_in_whole_and_trickled)
{
    for (size_t i = 0; i < ARRAY_SIZE(strangers); i++) {
        play(&strangers[i], false, SIZE_MAX);
        play(&strangers[i], false, 1);
        play(&strangers[i], false, 7);
    }
}

Test(pop3_server, after_log_in_whole_and_trickled)
{
    for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
        play(&users[i], true, SIZE_MAX);
        play(&users[i], true, 1);
        play(&users[i], true, 7);
    }
}

Test(pop3_server, greeting_offers_no_apop)
{
    struct session session;

    open_session(&session);
    pop3_server_greet(session.server);
    drain(&session);
    cr_expect_str_eq(session.said, "+OK pop.kawan.test POP3 ready|");
    cr_expect_null(strchr(session.said, '<'));
    pop3_server_destroy(&session.server);
}

Test(pop3_server, a_refused_session_reads_nothing)
{
    struct session session;

    open_session(&session);
    pop3_server_refuse(session.server, SLICE("too many\r\nsessions"));
    drain(&session);
    say(&session, LOGIN);
    cr_expect_str_eq(session.said, "-ERR [SYS/TEMP] too many??sessions|");
    cr_expect_eq(session.logins, 0);
    pop3_server_destroy(&session.server);
}

Test(pop3_server, nul_in_a_line_is_refused)
{
    struct session session;

    open_session(&session);
    say_in_steps(&session, SLICE("USER fadli\0x\r\nUSER fadli\r\nPASS rahasia kita\0\r\n"),
                 SIZE_MAX);
    cr_expect_str_eq(session.said, "-ERR no command has such characters|+OK send the password|"
                                   "-ERR no command has such characters|");
    cr_expect_eq(session.logins, 0);
    pop3_server_destroy(&session.server);
}

Test(pop3_server, the_password_is_all_behind_the_space)
{
    struct session session;

    open_session(&session);
    say(&session, "USER fadli\r\nPASS  a  b\t\xc3\xa4 \r\n");
    cr_expect_str_eq(session.password, " a  b\t\xc3\xa4 ");
    pop3_server_destroy(&session.server);
}

/* Lines at, under and over the limit. */
static void say_line(struct session *session, size_t size, size_t step)
{
    char *line = malloc(size);

    memset(line, 'x', size);
    memcpy(line, "NOOP ", 5);
    memcpy(line + size - 2, "\r\n", 2);
    say_in_steps(session, slice_of(line, size), step);
    free(line);
}

Test(pop3_server, line_limit)
{
    static const size_t steps[] = {1, 100, SIZE_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct session session;

        open_mailbox(&session);
        say_line(&session, 255, steps[i]);
        say_line(&session, 256, steps[i]);
        say_line(&session, 65536, steps[i]);
        say(&session, "NOOP\r\n");
        cr_expect_str_eq(session.said,
                         "-ERR NOOP takes no argument|-ERR the line is too long|-ERR the "
                         "line is too long|+OK here|");
        cr_expect_not(pop3_server_closed(session.server));
        say_line(&session, 65537, steps[i]);
        cr_expect(pop3_server_closed(session.server));
        pop3_server_destroy(&session.server);
    }
}

/* The owner answers later. */

Test(pop3_server, a_pending_log_in_stops_the_input)
{
    struct session session;

    open_session(&session);
    session.hold_login = true;
    say(&session, LOGIN "STAT\r\n");
    cr_expect(pop3_server_pending(session.server));
    cr_expect_eq(pop3_server_patience_ms(session.server), UINT32_MAX);
    cr_expect_eq(pop3_server_input(session.server, SLICE("STAT\r\n")), 0);
    pop3_server_login_done(session.server, POP3_LOGIN_OK);
    say(&session, "STAT\r\n");
    cr_expect_str_eq(session.said, LOGGED_IN "+OK 3 65|");
    pop3_server_destroy(&session.server);
}

Test(pop3_server, a_log_in_that_ends_after_the_time_is_up_opens_nothing)
{
    struct session session;

    open_session(&session);
    session.hold_login = true;
    say(&session, LOGIN);
    pop3_server_timeout(session.server);
    pop3_server_login_done(session.server, POP3_LOGIN_OK);
    cr_expect(pop3_server_closed(session.server));
    pop3_server_destroy(&session.server);
}

Test(pop3_server, a_message_being_sent_stops_the_input)
{
    struct session session;

    open_mailbox(&session);
    session.hold_send = true;
    say(&session, "RETR 1\r\nNOOP\r\n");
    cr_expect_str_eq(session.said, "+OK 23 octets|Subject: satu||halo|");
    cr_expect(pop3_server_pending(session.server));
    cr_expect_eq(pop3_server_patience_ms(session.server), 600000);
    pop3_server_sent(session.server, false);
    say(&session, "NOOP\r\n");
    cr_expect_str_eq(session.said, "+OK 23 octets|Subject: satu||halo|.|+OK here|");
    pop3_server_destroy(&session.server);
}

Test(pop3_server, a_message_that_cannot_be_read_is_not_called_complete)
{
    struct session session;

    open_mailbox(&session);
    session.fail_send = true;
    say(&session, "RETR 1\r\nNOOP\r\n");
    cr_expect_str_eq(session.said, "+OK 23 octets|Subject: satu||halo|");
    cr_expect(pop3_server_closed(session.server));
    cr_expect_eq(pop3_server_totals(session.server).retrieved, 0);
    pop3_server_destroy(&session.server);
}

/* QUIT and deletes. */

Test(pop3_server, quit_says_ok_only_when_the_deletes_are_durable)
{
    struct session session;

    open_mailbox(&session);
    session.hold_quit = true;
    say(&session, "DELE 3\r\nDELE 1\r\nQUIT\r\nNOOP\r\n");
    cr_expect_str_eq(session.said, "+OK message 3 deleted|+OK message 1 deleted|");
    cr_expect_str_eq(session.deletes, "1 3 ");
    cr_expect(pop3_server_pending(session.server));
    cr_expect_not(pop3_server_closed(session.server));
    pop3_server_quit_done(session.server, 0);
    drain(&session);
    cr_expect_str_eq(session.said,
                     "+OK message 3 deleted|+OK message 1 deleted|+OK bye, 1 messages left|");
    cr_expect(pop3_server_closed(session.server));
    cr_expect_eq(pop3_server_totals(session.server).deleted, 2);
    pop3_server_destroy(&session.server);
}

Test(pop3_server, deletes_that_failed_are_said)
{
    struct session session;

    open_mailbox(&session);
    session.quit_error = -5;
    say(&session, "DELE 3\r\nQUIT\r\n");
    cr_expect_str_eq(session.said,
                     "+OK message 3 deleted|-ERR [SYS/TEMP] some deleted messages not removed|");
    cr_expect(pop3_server_closed(session.server));
    cr_expect_eq(pop3_server_totals(session.server).deleted, 0);
    pop3_server_destroy(&session.server);
}

Test(pop3_server, without_quit_nothing_is_deleted)
{
    struct session session;

    open_mailbox(&session);
    say(&session, "DELE 1\r\n");
    pop3_server_timeout(session.server);
    say(&session, "QUIT\r\n");
    cr_expect_str_eq(session.said, "+OK message 1 deleted|", "the time being up has no reply");
    cr_expect_str_eq(session.deletes, "");
    pop3_server_destroy(&session.server);
}

Test(pop3_server, quit_without_deletes_closes_the_mailbox)
{
    struct session session;

    open_mailbox(&session);
    say(&session, "DELE 1\r\nRSET\r\nQUIT\r\n");
    cr_expect_str_eq(session.deletes, "none");
    cr_expect(pop3_server_closed(session.server));
    pop3_server_destroy(&session.server);
}

Test(pop3_server, an_empty_mailbox)
{
    struct session session;

    open_session(&session);
    session.count = 0;
    say(&session, LOGIN "STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nDELE 1\r\nRSET\r\nQUIT\r\n");
    cr_expect_str_eq(session.said,
                     "+OK send the password|+OK 0 messages (0 octets)|+OK 0 0|+OK 0 messages (0 "
                     "octets)|.|+OK 0 messages (0 octets)|.|-ERR no such message|-ERR no such "
                     "message|+OK 0 messages (0 octets)|+OK bye, 0 messages left|");
    pop3_server_destroy(&session.server);
}

/* A hundred thousand messages: the answer comes in portions, and what follows it waits. */
static void list_a_large_mailbox(const char *verb, bool by_input)
{
    struct session session;
    struct buf *out;
    uint32_t lines = 0, portions = 0;
    size_t tail = 0;

    open_session(&session);
    session.count = 100000;
    say(&session, LOGIN "DELE 77\r\n");
    out = pop3_server_out(session.server);
    cr_expect_eq(pop3_server_input(session.server, slice_cstr(verb)), strlen(verb));
    cr_expect_eq(pop3_server_input(session.server, SLICE("NOOP\r\n")), 0);
    while (out->size > 0 && portions++ < 1000) {
        cr_expect_eq(pop3_server_pending(session.server),
                     memcmp(out->data + out->size - 3, ".\r\n", 3) != 0);
        cr_assert_lt(out->size, 17 * KIB);
        for (size_t i = 0; i < out->size; i++)
            lines += out->data[i] == '\n';
        tail = out->size >= 3 && memcmp(out->data + out->size - 3, ".\r\n", 3) == 0;
        buf_reset(out);
        if (by_input)
            (void)pop3_server_input(session.server, SLICE_NONE);
        else
            pop3_server_output_drained(session.server);
    }
    cr_expect_eq(lines, 1 + 99999 + 1, "+OK, the messages but one, and the dot: %u", lines);
    cr_expect(tail);
    cr_expect_lt(out->capacity, 64 * KIB);
    session.said[0] = '\0';
    say(&session, "NOOP\r\n");
    cr_expect_str_eq(session.said, "+OK here|");
    pop3_server_destroy(&session.server);
}

Test(pop3_server, list_of_a_large_mailbox_comes_in_portions)
{
    list_a_large_mailbox("LIST\r\n", false);
    list_a_large_mailbox("UIDL\r\n", true);
}

Test(pop3_server, a_peer_that_does_not_read_is_not_listened_to)
{
    struct session session;
    size_t consumed = 0, used;

    open_mailbox(&session);
    do {
        used = pop3_server_input(session.server, SLICE("NOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n"));
        consumed += used;
        cr_assert_lt(consumed, MIB);
    } while (used > 0);
    cr_expect_lt(pop3_server_out(session.server)->size, POP3_SERVER_OUT_PAUSE + 1000);
    buf_reset(pop3_server_out(session.server));
    cr_expect_eq(pop3_server_input(session.server, SLICE("NOOP\r\n")), 6);
    pop3_server_destroy(&session.server);
}

Test(pop3_server, patience)
{
    struct session session;

    open_session(&session);
    cr_expect_eq(pop3_server_patience_ms(session.server), 60000);
    say(&session, LOGIN);
    cr_expect_eq(pop3_server_patience_ms(session.server), 600000);
    pop3_server_timeout(session.server);
    cr_expect_eq(pop3_server_patience_ms(session.server), UINT32_MAX);
    pop3_server_destroy(&session.server);
}

Test(pop3_server, totals)
{
    struct session session;
    struct pop3_totals totals;

    open_mailbox(&session);
    say(&session, "RETR 1\r\nRETR 2\r\nTOP 3 0\r\nDELE 1\r\nQUIT\r\n");
    totals = pop3_server_totals(session.server);
    cr_expect_eq(totals.retrieved, 2);
    cr_expect_eq(totals.retrieved_bytes, 48);
    cr_expect_eq(totals.topped, 1);
    cr_expect_eq(totals.deleted, 1);
    pop3_server_destroy(&session.server);
}

Test(pop3_server, sent_without_a_message_is_our_fault, .signal = SIGABRT)
{
    struct session session;

    open_mailbox(&session);
    pop3_server_sent(session.server, false);
}

/* TOP. */

struct top_row {
    const char *name, *message, *sent;
    uint64_t lines;
};

static const struct top_row tops[] = {
    {"no lines", "a: b\r\n\r\nx\r\ny\r\n", "a: b\r\n\r\n", 0},
    {"one line", "a: b\r\n\r\nx\r\ny\r\n", "a: b\r\n\r\nx\r\n", 1},
    {"a blank line of the body counts", "a: b\r\n\r\n\r\ny\r\n", "a: b\r\n\r\n\r\n", 1},
    {"bare LF", "a: b\n\nx\ny\n", "a: b\n\nx\n", 1},
    {"no body", "a: b\r\n", "a: b\r\n", 0},
    {"no header", "\r\nx\r\ny\r\n", "\r\nx\r\n", 1},
    {"more lines than there are", "a: b\r\n\r\nx\r\n", "a: b\r\n\r\nx\r\n", 9},
    {"the last line has no end", "a: b\r\n\r\nx\r\ny", "a: b\r\n\r\nx\r\ny", 2},
    {"a CR on a line is not a blank line", "a: b\r\nc\r\r\n\r\nx\r\n", "a: b\r\nc\r\r\n\r\n", 0},
    {"two CR are not a blank line", "a: b\r\n\r\r\n\r\nx\r\n", "a: b\r\n\r\r\n\r\n", 0},
    {"all of it", "a: b\r\n\r\nx\r\ny\r\n", "a: b\r\n\r\nx\r\ny\r\n", UINT64_MAX},
    {"nothing", "", "", 0},
};

Test(pop3_top, whole_and_trickled_agree)
{
    for (size_t i = 0; i < ARRAY_SIZE(tops); i++) {
        for (size_t step = 1; step <= 32; step++) {
            struct pop3_top top;
            struct slice rest = slice_cstr(tops[i].message);
            char sent[128] = "";
            size_t used = 0;

            pop3_top_init(&top, tops[i].lines);
            while (rest.size > 0) {
                struct slice part = pop3_top_next(&top, slice_first(rest, step));

                memcpy(sent + used, part.data, part.size);
                used += part.size;
                rest = slice_skip(rest, step);
            }
            sent[used] = '\0';
            cr_expect_str_eq(sent, tops[i].sent, "%s, %zu at once", tops[i].name, step);
        }
    }
}
