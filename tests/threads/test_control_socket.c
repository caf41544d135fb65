/* A running server asked and ordered over its control socket: every command, reload, drain, and clients that misbehave. */
#include "server_fixture.h"

#define LIMIT_SESSIONS 64 /* of the control socket at once */

static struct world world;
static struct server *const alam = &world.servers[0];
static char id[40]; /* of the letter a step is about */

static void ask(const char *words, uint32_t status, const char *part)
{
    struct answer answer;
    uint32_t got = control_ask(alam, words, &answer);

    CHECK(got == status, "%s: status %u: %s%s", words, got, (char *)answer.text.data,
          (char *)answer.error.data);
    CHECK(part == NULL || answer_has(&answer, part) || error_has(&answer, part),
          "%s: expected \"%s\" in: %s%s", words, part, (char *)answer.text.data,
          (char *)answer.error.data);
    answer_free(&answer);
}

/* With the id of the step's letter in the place of "ID". */
static void ask_about(const char *words, uint32_t status, const char *part)
{
    char text[200], *at;

    (void)snprintf(text, sizeof(text), "%s", words);
    at = strstr(text, "ID");
    CHECK(at != NULL, "%s", words);
    (void)snprintf(at, sizeof(text) - (size_t)(at - text), "%s", id);
    ask(text, status, part);
}

/* A letter that stays: no resolver answers. Its id is the newest in the queue. */
static void queue_letter(const char *from, const char *to)
{
    struct client client;
    char command[200], *kept;

    smtp_open(&client, alam);
    (void)snprintf(command, sizeof(command), "MAIL FROM:<%s>", from);
    smtp_say(&client, command, 250);
    (void)snprintf(command, sizeof(command), "RCPT TO:<%s>", to);
    smtp_say(&client, command, 250);
    smtp_say(&client, "DATA", 354);
    client_say(&client, "Subject: waits\r\n\r\nfor a resolver");
    smtp_say(&client, ".", 250);
    kept = strstr(client.line, " as ");
    CHECK(kept != NULL, "%s", client.line);
    (void)snprintf(id, sizeof(id), "%s", kept + 4);
    smtp_close(&client);
}

/* ---- what can be asked --------------------------------------------------------------------------------------- */

static void every_question_has_an_answer(void)
{
    static const char *const forms[] = {"text", "json"};
    static const char *const questions[] = {
        "info", "status", "settings", "settings --changed", "queue list", "site list"};
    struct answer answer;

    for (size_t i = 0; i < ARRAY_SIZE(questions); i++)
        for (size_t j = 0; j < ARRAY_SIZE(forms); j++) {
            char words[100];
            (void)snprintf(words, sizeof(words), "%s %s", forms[j], questions[i]);
            CHECK(control_ask(alam, words, &answer) == 0, "%s: %s", words,
                  (char *)answer.error.data);
            CHECK(answer.text.size > 2, "%s: an empty answer", words);
            CHECK(j == 0 || (answer.text.data[0] == '[' &&
                             strcmp((char *)answer.text.data + answer.text.size - 3, "]\n") == 0),
                  "%s: no array: %s", words, (char *)answer.text.data);
            answer_free(&answer);
        }
    ask("json info", 0, "\"hostname\": \"mx.alam.test\"");
    ask("json info", 0, "\"shards\": 2");
    ask("text queue list", 0, "No messages.");
    ask("json queue list", 0, "[]");
}

static void wrong_questions_say_what_is_right(void)
{
    ask("text", 64, "no such command; there are:");
    ask("text nonsense", 64, "no such command; there are:");
    ask("text queue", 64, "no such command");
    ask("text info more", 64, "usage: kilatctl info");
    ask("text message hold", 64, "usage: kilatctl message hold ID");
    ask("text message hold xyz", 64, "xyz is no message id");
    ask("text message show 00000000000000", 1, NULL);
    ask("text queue list --count", 64, "usage: kilatctl queue list");
    ask("text queue list --count -1", 64, "usage: kilatctl queue list");
    ask("text queue list --count 1000001", 64, "usage: kilatctl queue list");
    ask("text queue list --after nothing", 64, "usage: kilatctl queue list");
    ask("text queue list --elsewhere x", 64, "usage: kilatctl queue list");
    ask("text settings --all", 64, "usage: kilatctl settings");
    ask("text drain maybe", 64, "usage: kilatctl drain [off]");
    ask("text dns A alam.test", 64, "usage: kilatctl dns MX DOMAIN");
}

static void a_name_that_cannot_be_resolved_is_told(void)
{
    char words[600];

    ask("text dns MX nowhere.test", 1, "nowhere.test");
    ask("json dns MX nowhere.test", 1, "[{\"domain\": \"nowhere.test\"");
    ask("text dns MX ..", 1, NULL);
    ask("text dns MX a\"b\nc", 1, NULL);
    memset(words, 'a', sizeof(words));
    memcpy(words, "text dns MX ", 12);
    words[sizeof(words) - 1] = 0;
    ask(words, 1, NULL);
    ask("text dns flush", 0, "Done.");
}

/* ---- messages ------------------------------------------------------------------------------------------------- */

static void a_message_can_be_held_released_and_removed(void)
{
    queue_letter("penulis@alam.test", "fadli@nowhere.test");
    wait_for_answer(alam, "json queue list", "\"state\": \"waiting\"");
    ask("text queue list", 0, id);
    ask("text queue list --destination nowhere.test", 0, id);
    ask("text queue list --destination other.test", 0, "No messages.");
    ask("text queue list --count 0", 0, NULL);
    ask_about("text message show ID", 0, "fadli@nowhere.test");
    ask_about("json message show ID", 0, "\"sender\": \"penulis@alam.test\"");
    ask_about("text message hold ID", 0, "Done.");
    ask_about("json message show ID", 0, "\"state\": \"held\"");
    ask_about("text message hold ID", 1, "it is so already");
    ask_about("text message retry ID", 1, NULL);
    ask_about("json message release ID", 0, id);
    ask_about("text message release ID", 1, "it is so already");
    wait_for_answer(alam, "json queue list", "\"state\": \"waiting\"");
    ask_about("text message retry ID", 0, "Done.");
    wait_for_answer(alam, "json queue list", "\"state\": \"waiting\"");
    ask_about("text message remove ID", 0, "Done.");
    ask_about("text message show ID", 1, "no such message in the queue");
    ask_about("text message remove ID", 1, "no such message in the queue");
    ask("text queue list", 0, "No messages.");
}

/* The sender is told once; a report is for nobody else. */
static void a_bounced_message_comes_back_as_a_report(void)
{
    struct client client;
    struct buf text;

    queue_letter("penulis@alam.test", "fadli@nowhere.test");
    wait_for_answer(alam, "json queue list", "\"state\": \"waiting\"");
    ask_about("text message bounce ID", 0, "Done.");
    wait_for_letters(alam, "penulis", 1);
    pop3_open(&client, alam, "penulis");
    CHECK(pop3_count(&client) == 1, "one report");
    buf_init(&text, MIB);
    pop3_retrieve(&client, 1, &text);
    buf_append_byte(&text, 0);
    CHECK(strstr((char *)text.data, "multipart/report") != NULL, "%s", (char *)text.data);
    CHECK(strstr((char *)text.data, "Final-Recipient: rfc822;fadli@nowhere.test") != NULL ||
              strstr((char *)text.data, "Final-Recipient: rfc822; fadli@nowhere.test") != NULL,
          "%s", (char *)text.data);
    CHECK(pop3_say(&client, "DELE 1"), "%s", client.line);
    pop3_close(&client);
    wait_for_answer(alam, "json status", "\"queued_messages\": 0,");
    buf_deinit(&text);
    /* Without a sender nobody is told. */
    queue_letter("", "fadli@nowhere.test");
    wait_for_answer(alam, "json queue list", "\"state\": \"waiting\"");
    ask_about("text message bounce ID", 0, "Done.");
    wait_for_answer(alam, "json status", "\"queued_messages\": 0,");
    ask("json status", 0, "\"reports\": 1,");
}

/* ---- reload ------------------------------------------------------------------------------------------------------ */

static void a_reload_takes_all_or_nothing(void)
{
    struct client client;

    write_config(alam, "shards = 2\nrecipients_max = 100\nerrors_max = 1\n");
    smtp_open(&client, alam); /* keeps the settings it began with */
    ask("text reload", 0, "the new settings are in force");
    ask("text settings --changed", 0, "recipients_max = 100");
    smtp_say(&client, "NONSENSE", 500);
    smtp_say(&client, "NONSENSE", 500);
    smtp_close(&client);
    smtp_open(&client, alam);
    client_say(&client, "NONSENSE");
    while (smtp_reply(&client) > 0)
        ;
    client_close(&client);

    write_config(alam, "shards = 2\nrecipients_max = 101\nerrors_max = none\n");
    ask("text reload", 1, "errors_max: expected a number between 1 and 1000, got \"none\"");
    write_config(alam, "shards = 2\nrecipients_max = 101\nroute \"alam.test\" { via = a.test }\n");
    ask("text reload", 1, "that domain is in local_domains as well");
    write_config(alam, "shards = 1\nrecipients_max = 101\n");
    ask("text reload", 1, "shards has changed and needs a restart; nothing was changed");
    CHECK(unlink(alam->config) == 0, "%s", alam->config);
    ask("text reload", 1, "cannot be read: No such file or directory");
    CHECK(mkdir(alam->config, 0700) == 0, "%s", alam->config);
    ask("text reload", 1, "cannot be read: Is a directory");
    CHECK(rmdir(alam->config) == 0, "%s", alam->config);
    ask("text settings --changed", 0, "recipients_max = 100");
    write_config(alam, "shards = 2\n");
    kilatd_reload(alam->kilatd); /* as a signal does it */
    wait_for_answer(alam, "text settings", "recipients_max = 1000\n");
}

static void drain_takes_no_new_mail(void)
{
    struct client client;

    ask("text drain", 0, "No new mail is taken");
    ask("json info", 0, "\"state\": \"draining\"");
    smtp_open(&client, alam);
    smtp_say(&client, "MAIL FROM:<penulis@alam.test>", 451);
    ask("text drain off", 0, "New mail is taken again");
    smtp_say(&client, "MAIL FROM:<penulis@alam.test>", 250);
    smtp_close(&client);
}

/* ---- clients that misbehave ----------------------------------------------------------------------------------------- */

static void client_begin(struct client *client)
{
    *client = (struct client){.fd = control_open(alam)};
    buf_init(&client->input, 64 * MIB);
}

static void answer_begin(struct answer *answer)
{
    *answer = (struct answer){.status = UINT32_MAX};
    buf_init(&answer->text, 64 * MIB);
    buf_init(&answer->error, MIB);
}

static void what_is_no_question_is_told_so(void)
{
    static const struct {
        const char *name;
        struct slice bytes;
    } rows[] = {
        {"another protocol", {(const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18}},
        {"another version", {(const uint8_t *)"KCTL\x02\0\0\0\0\0\0\0", 12}},
        {"a payload too big", {(const uint8_t *)"KCTL\x01\0\x01\0\xff\xff\xff\xff", 12}},
        {"no words", {(const uint8_t *)"KCTL\x01\0\0\0\0\0\0\0", 12}},
        {"an unknown form", {(const uint8_t *)"KCTL\x01\0\x01\0\x07\0\0\0\x03\0\0\0xml", 19}},
        {"lengths that do not add up",
         {(const uint8_t *)"KCTL\x01\0\x01\0\x07\0\0\0\x04\0\0\0xml", 19}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct client client;
        struct answer answer;
        client_begin(&client);
        answer_begin(&answer);
        CHECK(client_try_send(&client, rows[i].bytes), "%s", rows[i].name);
        CHECK(control_read(&client, &answer) && answer.status != 0 && answer.error.size > 0,
              "%s: no sentence", rows[i].name);
        CHECK(!client_receive(&client), "%s: stays open", rows[i].name);
        answer_free(&answer);
        client_close(&client);
    }
}

static void half_a_question_holds_up_nobody(void)
{
    struct client client;

    client_begin(&client);
    CHECK(client_try_send(&client, SLICE("KCTL\x01\0\x02\0")), "half a head");
    ask("text info", 0, NULL);
    client_close(&client);
}

/* Several questions at once are answered in their order; who has said all of them may close his side. */
static void questions_can_follow_each_other(void)
{
    struct client client;
    struct answer answer;
    struct buf request;

    client_begin(&client);
    buf_init(&request, MIB);
    control_request("text info", &request);
    control_request("text nonsense", &request);
    control_request("json status", &request);
    CHECK(client_try_send(&client, buf_slice(&request)), "three questions");
    CHECK(shutdown(client.fd, SHUT_WR) == 0, "%s", strerror(errno));
    for (int i = 0; i < 3; i++) {
        answer_begin(&answer);
        CHECK(control_read(&client, &answer), "answer %d", i);
        CHECK((answer.status == 0) == (i != 1), "answer %d: %u", i, answer.status);
        answer_free(&answer);
    }
    CHECK(!client_receive(&client), "stays open for one who has gone");
    client_close(&client);
    buf_deinit(&request);
}

/* More than there may be at once, with half a question each: the oldest of them go, and who asks is answered. */
static void a_crowd_that_asks_nothing_keeps_nobody_out(void)
{
    struct client clients[3 * LIMIT_SESSIONS];

    for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
        client_begin(&clients[i]);
        CHECK(client_try_send(&clients[i], SLICE("KCTL")), "half a head");
    }
    wait_for_answer(alam, "text info", "hostname"); /* told "later" at worst, in the burst itself */
    CHECK(!client_receive(&clients[0]), "the oldest one is still there");
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
        client_close(&clients[i]);
    wait_for_answer(alam, "text info", "hostname");
}

static void clients_that_vanish_leave_nothing(void)
{
    struct client client;
    struct buf request;

    buf_init(&request, MIB);
    control_request("text dns MX nowhere.test", &request);
    for (int i = 0; i < 20; i++) {
        client_begin(&client);
        CHECK(client_try_send(&client,
                              slice_first(buf_slice(&request), i < 10 ? request.size : (size_t)i)),
              "a question");
        client_close(&client);
    }
    buf_deinit(&request);
    ask("text info", 0, NULL);
}

/* Asks and asks and reads nothing, while the server is told to end: it ends all the same, when its patience does. */
static void a_client_that_does_not_read_holds_up_no_stop(void)
{
    uint64_t began_ns = clock_monotonic_ns();
    struct client client;
    struct buf request;

    client_begin(&client);
    buf_init(&request, 4 * MIB);
    for (int i = 0; i < 500; i++)
        control_request("text settings", &request);
    CHECK(client_try_send(&client, buf_slice(&request)), "questions");
    wait_for_answer(alam, "text info", "running");
    server_stop(alam, 500);
    CHECK(clock_monotonic_ns() - began_ns < 20 * SECOND_NS, "the stop took long");
    client_close(&client);
    buf_deinit(&request);
}

static void ended(void *context)
{
    atomic_store((atomic_int *)context, 1);
}

static bool has_ended(void *context)
{
    return atomic_load((atomic_int *)context) == 1;
}

/* `kilatctl stop` is answered, and then the server ends by itself; others are asking meanwhile. */
static void a_stop_is_answered_and_followed(void)
{
    atomic_int over = 0;
    struct buf error;
    struct client busy[8];
    struct buf request;

    buf_init(&error, KIB);
    buf_init(&request, KIB);
    CHECK(kilatd_create(alam->config, &alam->kilatd, &error) == 0, "%.*s",
          SLICE_ARG(buf_slice(&error)));
    kilatd_on_end(alam->kilatd, ended, &over);
    CHECK(kilatd_start(alam->kilatd, &error) == 0, "%.*s", SLICE_ARG(buf_slice(&error)));
    control_request("json status", &request);
    for (int round = 0; round < 100; round++)
        control_request("json status", &request);
    for (size_t i = 0; i < ARRAY_SIZE(busy); i++) {
        client_begin(&busy[i]);
        CHECK(client_try_send(&busy[i], buf_slice(&request)), "questions");
    }
    ask("text stop", 0, "Stopping.");
    while (
        !has_ended(&over)) { /* orders that come while the shards end find nobody, and do no harm */
        kilatd_stop(alam->kilatd, 20000);
        kilatd_reload(alam->kilatd);
    }
    for (int round = 0; round < 1000; round++)
        kilatd_reload(alam->kilatd);
    for (size_t i = 0; i < ARRAY_SIZE(busy); i++)
        client_close(&busy[i]);
    server_end(alam);
    buf_deinit(&error);
    buf_deinit(&request);
}

static const struct {
    const char *name;
    void (*run)(void);
} steps[] = {
#define STEP(step)                                                                                 \
    {                                                                                              \
#step, step                                                                                \
    }
    STEP(every_question_has_an_answer),
    STEP(wrong_questions_say_what_is_right),
    STEP(a_name_that_cannot_be_resolved_is_told),
    STEP(a_message_can_be_held_released_and_removed),
    STEP(a_bounced_message_comes_back_as_a_report),
    STEP(a_reload_takes_all_or_nothing),
    STEP(drain_takes_no_new_mail),
    STEP(what_is_no_question_is_told_so),
    STEP(half_a_question_holds_up_nobody),
    STEP(questions_can_follow_each_other),
    STEP(a_crowd_that_asks_nothing_keeps_nobody_out),
    STEP(clients_that_vanish_leave_nothing),
    STEP(a_client_that_does_not_read_holds_up_no_stop),
    STEP(a_stop_is_answered_and_followed),
};

int main(void)
{
    world_open(&world);
    server_init(&world, 0, "alam.test");
    write_config(alam, "shards = 2\n");
    server_start(alam);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
        step_run(steps[i].name, steps[i].run);
    world_close(&world);
    return 0;
}
