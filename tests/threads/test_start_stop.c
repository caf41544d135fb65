/* Starts that must not happen, each with its sentence; and stops in the midst of work, after which nothing is missing. */
#include "server_fixture.h"

#include <pthread.h>

#define SENDERS 6
#define LETTERS_MAX 4000

static struct world world;
static struct server *const alam = &world.servers[0];
static struct server *const kawan = &world.servers[1];

/* ---- starts that are refused -------------------------------------------------------------------------------- */

static void expect_refusal(const char *name, const char *more, const char *part)
{
    struct kilatd *kilatd = NULL;
    struct buf error;
    int r;

    write_config(alam, more);
    buf_init(&error, 16 * KIB);
    r = kilatd_create(alam->config, &kilatd, &error);
    if (r == 0)
        r = kilatd_start(kilatd, &error);
    buf_append_byte(&error, 0);
    CHECK(r < 0, "%s: started", name);
    CHECK(strstr((char *)error.data, part) != NULL, "%s: %s", name, (char *)error.data);
    kilatd_destroy(&kilatd);
    buf_deinit(&error);
}

static void make(const char *path, bool folder)
{
    char whole[200];

    (void)snprintf(whole, sizeof(whole), "%s/%s", alam->folder, path);
    if (folder)
        CHECK(mkdir(whole, 0700) == 0, "%s: %s", whole, strerror(errno));
    else
        write_file(whole, "not a folder\n");
}

static void a_start_that_cannot_be_is_refused(void)
{
    char more[3000];
    int used;

    make("plain", false);
    make("spool2", true);
    make("spool2/0001", false);
    expect_refusal("a bad setting", "shards = 65\n", "shards: expected a number between 0 and 64");
    expect_refusal("an unknown setting", "shard = 2\n", "no such option 'shard'");
    used =
        snprintf(more, sizeof(more), "shards = 1\nsmtp_listen += {\"127.0.0.1:%u\"", free_port());
    for (int i = 0; i < 40; i++)
        used += snprintf(more + used, sizeof(more) - (size_t)used, ", \"127.0.0.%d:%u\"", i + 2,
                         free_port());
    (void)snprintf(more + used, sizeof(more) - (size_t)used, "}\n");
    expect_refusal("too many listeners", more, "more than 32 listeners");
}

static const char *more_lines = ""; /* of expect_refusal_in() */

/* What stands in the folder instead of what the server needs. `write_config` names each once, so other folders are
 * given by another server's description. */
static void expect_refusal_in(const char *name, const char *spool, const char *mail,
                              const char *control, const char *log, const char *part)
{
    struct kilatd *kilatd = NULL;
    struct buf text, error;
    int r;

    buf_init(&text, 4 * KIB);
    buf_init(&error, 16 * KIB);
    buf_printf(
        &text,
        "hostname = mx.alam.test\nshards = 2\nspool_directory = %s/%s\nmail_directory = %s/%s\n"
        "control_socket = %s/%s\nlog_file = %s/%s\nusers_file = %s/users\nsmtp_listen = "
        "{\"127.0.0.1:%u\"}\n"
        "segment_bytes = 1M\nforce_file_system = yes\ndns_servers = {\"127.0.0.1:1\"}\n%s",
        alam->folder, spool, alam->folder, mail, alam->folder, control, alam->folder, log,
        alam->folder, alam->smtp_port, more_lines);
    r = kilatd_create_from_text(buf_slice(&text), "test.conf", &kilatd, &error);
    CHECK(r == 0, "%.*s", SLICE_ARG(buf_slice(&error)));
    r = kilatd_start(kilatd, &error);
    buf_append_byte(&error, 0);
    CHECK(r < 0, "%s: started", name);
    CHECK(strstr((char *)error.data, part) != NULL, "%s: %s", name, (char *)error.data);
    kilatd_destroy(&kilatd);
    buf_deinit(&error);
    buf_deinit(&text);
}

static void a_machine_that_is_not_ready_is_told(void)
{
    expect_refusal_in("a file where the spool belongs", "plain", "mail", "control", "log",
                      "/plain: cannot be made or used");
    expect_refusal_in("a spool in no folder", "none/spool", "mail", "control", "log",
                      "/none/spool: the directory it should be in does not exist");
    expect_refusal_in("a file where mailboxes belong", "spool", "plain", "control", "log",
                      "/plain: cannot be made or used");
    expect_refusal_in("a log in no folder", "spool", "mail", "control", "none/log",
                      "/none/log: cannot be opened");
    /* The first shard is up when the second fails, and the other way round. */
    expect_refusal_in("a file where the second shard's spool belongs", "spool2", "mail", "control",
                      "log", "/spool2/0001");
    expect_refusal_in("a control socket in no folder", "spool", "mail", "none/control", "log",
                      "/none/control");
    more_lines = "single_thread = yes\n";
    expect_refusal_in("a control socket in no folder, one thread", "spool3", "mail", "none/control",
                      "log", "/none/control");
    expect_refusal_in("a file where the spool belongs, one thread", "plain", "mail", "control",
                      "log", "/plain: cannot be");
    more_lines = "";
}

static void *use_and_stop(void *context)
{
    (void)context;
    send_letter(alam, "penulis@alam.test", "fadli@alam.test",
                "Subject: one thread\r\n\r\nHello.\r\n");
    wait_for_letters(alam, "fadli", 1);
    CHECK(control_ask(alam, "text reload", NULL) == 0, "reload");
    kilatd_stop(alam->kilatd, 1000);
    return NULL;
}

/* One shard and no workers, all on the thread that starts and joins: what blocks, blocks. */
static void a_single_thread_does_all_of_it(void)
{
    pthread_t thread;

    write_config(alam, "single_thread = yes\n");
    server_start(alam);
    CHECK(pthread_create(&thread, NULL, use_and_stop, NULL) == 0, "a thread");
    kilatd_join(alam->kilatd);
    (void)pthread_join(thread, NULL);
    kilatd_destroy(&alam->kilatd);
}

static void a_name_in_a_sentence_is_the_one_that_was_given(void)
{
    struct kilatd *kilatd = NULL;
    struct buf error;

    buf_init(&error, KIB);
    CHECK(kilatd_create_from_text(SLICE("hostname = a.test\nshards = x\n"), "other.conf", &kilatd,
                                  &error) < 0,
          "created");
    buf_append_byte(&error, 0);
    CHECK(strncmp((char *)error.data, "other.conf:2: shards: ", 22) == 0, "%s", (char *)error.data);
    buf_deinit(&error);
}

/* Two servers that want the same spool. */
static void what_another_server_uses_is_not_taken(void)
{
    write_config(alam, "shards = 2\n");
    server_start(alam);
    expect_refusal("the same spool", "shards = 2\n", "/spool: is in use by process");
    write_config(alam, "shards = 2\n");
    server_stop(alam, 1000);
    server_start(alam); /* and nothing of the refused one is left in the way */
    server_stop(alam, 1000);
}

/* `kilatd --check` looks and touches nothing. */
static void a_check_changes_nothing(void)
{
    struct kilatd *kilatd = NULL;
    struct buf error;
    char path[200];

    write_config(kawan, "shards = 1\n");
    buf_init(&error, 16 * KIB);
    CHECK(kilatd_create(kawan->config, &kilatd, &error) == 0, "%.*s", SLICE_ARG(buf_slice(&error)));
    CHECK(kilatd_check(kilatd, &error) == 0, "%.*s", SLICE_ARG(buf_slice(&error)));
    write_file(kawan->users, "half@kawan.test:");
    CHECK(kilatd_check(kilatd, &error) == -EINVAL, "a half-written file of accounts");
    buf_append_byte(&error, 0);
    CHECK(strstr((char *)error.data, "only half written") != NULL, "%s", (char *)error.data);
    kilatd_destroy(&kilatd);
    (void)snprintf(path, sizeof(path), "%s/spool", kawan->folder);
    CHECK(access(path, F_OK) < 0, "a check has made %s", path);
    buf_deinit(&error);
}

/* A server without accounts answers "later", never "no such user". */
static void without_accounts_everyone_is_told_later(void)
{
    struct client client;

    CHECK(unlink(kawan->users) == 0, "%s", kawan->users);
    server_start(kawan);
    smtp_open(&client, kawan);
    smtp_say(&client, "MAIL FROM:<>", 250);
    smtp_say(&client, "RCPT TO:<fadli@kawan.test>", 451);
    smtp_say(&client, "RCPT TO:<postmaster@kawan.test>", 250);
    smtp_close(&client);
    client_connect(&client, kawan->pop3_port);
    CHECK(client_line(&client), "no greeting");
    CHECK(pop3_say(&client, "USER fadli@kawan.test"), "%s", client.line);
    CHECK(!pop3_say(&client, "PASS rahasia") && strstr(client.line, "[SYS/TEMP]") != NULL, "%s",
          client.line);
    client_close(&client);
    server_stop(kawan, 1000);
}

/* ---- stops in the midst of work ------------------------------------------------------------------------------------ */

/* Which letters were answered with 250, and which were seen afterwards. */
static atomic_uchar kept[LETTERS_MAX];
static unsigned seen[LETTERS_MAX];
static atomic_uint next_letter, kept_count;

static bool try_say(struct client *client, const char *command, int code)
{
    char line[300];

    (void)snprintf(line, sizeof(line), "%s\r\n", command);
    return client_try_send(client, slice_cstr(line)) && smtp_reply(client) == code;
}

static bool try_letter(struct client *client, unsigned number)
{
    char body[200];

    (void)snprintf(body, sizeof(body), "Subject: number %u\r\n\r\nunder load\r\n.", number);
    if (!try_say(client, "MAIL FROM:<>", 250) ||
        !try_say(client, number % 2 == 0 ? "RCPT TO:<sri@alam.test>" : "RCPT TO:<fadli@kawan.test>",
                 250) ||
        !try_say(client, "DATA", 354) || !try_say(client, body, 250))
        return false;
    atomic_store(&kept[number], 1);
    atomic_fetch_add(&kept_count, 1);
    return true;
}

/* One letter after another until the server hangs up. */
static void *send_until_the_end(void *context)
{
    struct client client;
    unsigned number;

    (void)context;
    smtp_open(&client, alam);
    do
        number = atomic_fetch_add(&next_letter, 1);
    while (number < LETTERS_MAX && try_letter(&client, number));
    client_close(&client);
    return NULL;
}

static bool enough_were_kept(void *count)
{
    return atomic_load(&kept_count) >= *(unsigned *)count;
}

static void look_into_mailbox(const struct server *server, const char *user)
{
    struct client client;
    struct buf text;
    unsigned count;

    buf_init(&text, MIB);
    pop3_open(&client, server, user);
    count = pop3_count(&client);
    for (unsigned i = 1; i <= count; i++) {
        const char *at;
        char command[40];
        pop3_retrieve(&client, i, &text);
        buf_append_byte(&text, 0);
        at = strstr((char *)text.data, "Subject: number ");
        CHECK(at != NULL, "%s", (char *)text.data);
        seen[atoi(at + 16)]++;
        (void)snprintf(command, sizeof(command), "DELE %u", i);
        CHECK(pop3_say(&client, command), "%s", client.line);
    }
    pop3_close(&client);
    buf_deinit(&text);
}

static void begin_pair(void)
{
    static const char *const names[] = {"fadli", NULL};
    char more[200];

    write_users(kawan, names);
    write_config(kawan, "shards = 1\n");
    (void)snprintf(more, sizeof(more),
                   "shards = 2\nretry_first = 1s\nsite_backoff_first = 1s\nroute \"kawan.test\" { "
                   "via = \"127.0.0.1:%u\" }\n",
                   kawan->smtp_port);
    write_config(alam, more);
    server_start(kawan);
    server_start(alam);
}

/* With patience and without, one server or the other first: what was answered with 250 is in a mailbox in the end, and
 * in our own mailboxes exactly once. */
static void a_stop_under_load_loses_nothing(void)
{
    static const uint64_t patience_ms[] = {3000, 100, 0};
    pthread_t senders[SENDERS];

    begin_pair();
    for (size_t round = 0; round < ARRAY_SIZE(patience_ms); round++) {
        unsigned wanted = atomic_load(&kept_count) + 100;
        uint64_t began_ns;
        for (int i = 0; i < SENDERS; i++)
            CHECK(pthread_create(&senders[i], NULL, send_until_the_end, NULL) == 0, "a thread");
        wait_until(enough_were_kept, &wanted, "a hundred letters");
        began_ns = clock_monotonic_ns();
        server_stop(alam, patience_ms[round]);
        CHECK(clock_monotonic_ns() - began_ns < (patience_ms[round] + 10000) * MS_NS,
              "the stop took long");
        for (int i = 0; i < SENDERS; i++)
            (void)pthread_join(senders[i], NULL);
        server_start(alam);
    }
    wait_for_answer(alam, "json status", "\"spools_not_ready\": 0,");
    wait_for_answer(alam, "json status", "\"queued_messages\": 0,");
    wait_for_answer(kawan, "json status", "\"queued_messages\": 0,");
    look_into_mailbox(alam, "sri");
    look_into_mailbox(kawan, "fadli");
    for (unsigned i = 0; i < LETTERS_MAX; i++) {
        CHECK(seen[i] > 0 || atomic_load(&kept[i]) == 0, "letter %u is missing", i);
        CHECK(i % 2 != 0 || seen[i] <= 1, "letter %u is in the mailbox %u times", i, seen[i]);
    }
}

/* Clients that wait, and a reader that has stopped reading: 421 for those who can hear it, an end for all. */
static void a_stop_ends_idle_and_stuck_sessions(void)
{
    uint64_t began_ns = clock_monotonic_ns();
    struct client idle, in_data, reader, locker;
    struct buf body;
    int small = 4096;

    buf_init(&body, 16 * MIB);
    buf_append_cstr(&body, "Subject: number 0\r\n\r\n");
    while (body.size < 12 * MIB) /* more than a socket's send buffer grows to */
        buf_append_cstr(&body,
                        "more than fits into the buffers of a socket that is not read from\r\n");
    smtp_open(&idle, alam);
    smtp_letter(&idle, "", "sri@alam.test", buf_slice(&body));
    wait_for_letters(alam, "sri", 1);
    smtp_open(&in_data, alam);
    smtp_say(&in_data, "MAIL FROM:<>", 250);
    smtp_say(&in_data, "RCPT TO:<sri@alam.test>", 250);
    smtp_say(&in_data, "DATA", 354);
    client_send(&in_data, "half a let");
    pop3_open(&reader, alam, "sri");
    CHECK(setsockopt(reader.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) == 0, "%s",
          strerror(errno));
    CHECK(pop3_say(&reader, "RETR 1"), "%s", reader.line);
    client_connect(&locker, alam->pop3_port);
    CHECK(client_line(&locker), "no greeting");
    kilatd_stop(alam->kilatd, 60000);
    smtp_expect(&idle, 421);
    smtp_expect(&in_data, 421);
    CHECK(client_line(&locker) && strncmp(locker.line, "-ERR", 4) == 0, "%s", locker.line);
    kilatd_stop(alam->kilatd, 0); /* whoever asks a second time has no patience */
    server_end(alam);
    CHECK(clock_monotonic_ns() - began_ns < 30 * SECOND_NS, "the stop took long");
    client_close(&idle);
    client_close(&in_data);
    client_close(&reader);
    client_close(&locker);
    buf_deinit(&body);
    server_stop(kawan, 1000);
}

static const struct {
    const char *name;
    void (*run)(void);
} steps[] = {
#define STEP(step)                                                                                 \
    {                                                                                              \
#step, step                                                                                \
    }
    STEP(a_single_thread_does_all_of_it),
    STEP(a_start_that_cannot_be_is_refused),
    STEP(a_machine_that_is_not_ready_is_told),
    STEP(a_name_in_a_sentence_is_the_one_that_was_given),
    STEP(what_another_server_uses_is_not_taken),
    STEP(a_check_changes_nothing),
    STEP(without_accounts_everyone_is_told_later),
    STEP(a_stop_under_load_loses_nothing),
    STEP(a_stop_ends_idle_and_stuck_sessions),
};

int main(void)
{
    world_open(&world);
    server_init(&world, 0, "alam.test");
    server_init(&world, 1, "kawan.test");
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
        step_run(steps[i].name, steps[i].run);
    world_close(&world);
    return 0;
}
