/* A POP3 server session with one user and a mailbox, as README.md describes them. */
#include "tests/dialog/dialog.h"

#include "core/assert.h"
#include "proto/pop3_server.h"
#include "proto/smtp_body.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MESSAGES_MAX 1000

struct session {
    struct pop3_server_config config;
    struct pop3_server *server;
    bool later_login, later_quit;
    bool login_asked, quit_asked; /* and not answered yet */
    enum pop3_login login_owed;
    struct {
        char uid[80];
        struct buf content;
    } messages[MESSAGES_MAX];
    uint32_t message_count;
    bool deleted[MESSAGES_MAX]; /* what QUIT has asked for */
};

static enum pop3_login op_login(void *context, struct slice user, struct slice password)
{
    struct session *s = context;
    bool right = slice_equal(user, SLICE("penulis")) && slice_equal(password, SLICE("rahasia"));

    s->login_owed = right ? POP3_LOGIN_OK : POP3_LOGIN_REFUSED;
    if (!s->later_login)
        return s->login_owed;
    s->later_login = false;
    s->login_asked = true;
    return POP3_LOGIN_PENDING;
}

static uint32_t op_count(void *context)
{
    return ((struct session *)context)->message_count;
}

static struct pop3_message op_message(void *context, uint32_t index)
{
    struct session *s = context;

    ASSERT(index < s->message_count);
    return (struct pop3_message){.size_bytes = s->messages[index].content.size,
                                 .uid = slice_cstr(s->messages[index].uid)};
}

static void op_send(void *context, uint32_t index, uint64_t lines_max)
{
    struct session *s = context;
    struct smtp_body_stuff stuff = {0};
    struct pop3_top top;
    struct slice rest, piece;

    ASSERT(index < s->message_count);
    pop3_top_init(&top, lines_max);
    rest = pop3_top_next(&top, buf_slice(&s->messages[index].content));
    while ((piece = smtp_body_stuff_next(&stuff, &rest)).size > 0)
        buf_append(pop3_server_out(s->server), piece);
    pop3_server_sent(s->server, false);
}

static void op_quit(void *context, const uint8_t *deleted, uint32_t deleted_count)
{
    struct session *s = context;
    uint32_t count = 0;

    for (uint32_t i = 0; i < s->message_count; i++) {
        s->deleted[i] = deleted[i / 8] >> (i % 8) & 1;
        count += s->deleted[i];
    }
    ASSERT(count == deleted_count);
    if (!s->later_quit)
        pop3_server_quit_done(s->server, 0);
    s->quit_asked = s->later_quit;
    s->later_quit = false;
}

static const struct pop3_server_ops ops = {
    .login = op_login,
    .count = op_count,
    .message = op_message,
    .send = op_send,
    .quit = op_quit,
};

static void *pop3_create(void)
{
    struct session *s = calloc(1, sizeof(*s));

    ASSERT(s != NULL);
    s->config = (struct pop3_server_config){
        .hostname = SLICE("pop.kawan.test"),
        .command_line_max = 255,
        .errors_max = 10,
        .idle_ms = 600000,
        .login_ms = 60000,
    };
    return s;
}

static void pop3_destroy(void *session)
{
    struct session *s = session;

    pop3_server_destroy(&s->server);
    for (uint32_t i = 0; i < s->message_count; i++)
        buf_deinit(&s->messages[i].content);
    free(s);
}

static bool pop3_prepares(const char *name)
{
    return strcmp(name, "set") == 0 || strcmp(name, "mailbox") == 0;
}

static const char *pop3_prepare(void *session, const struct dialog_words *words,
                                struct slice content)
{
    struct session *s = session;
    uint64_t value;

    if (strcmp(words->word[0], "mailbox") == 0) {
        if (words->count != 2 || s->message_count == MESSAGES_MAX || strlen(words->word[1]) > 70)
            return "mailbox UID, then the message";
        (void)snprintf(s->messages[s->message_count].uid, 80, "%s", words->word[1]);
        buf_init(&s->messages[s->message_count].content, 64 * MIB);
        buf_append(&s->messages[s->message_count++].content, content);
        return NULL;
    }
    if (words->count != 3 || !dialog_parse_number(words->word[2], &value))
        return "set NAME NUMBER";
    if (strcmp(words->word[1], "command_line_max") == 0)
        s->config.command_line_max = (uint32_t)value;
    else if (strcmp(words->word[1], "errors_max") == 0)
        s->config.errors_max = (uint32_t)value;
    else
        return "no such setting";
    return NULL;
}

static void pop3_begin(void *session)
{
    struct session *s = session;

    ASSERT(pop3_server_create(&s->config, &ops, s, &s->server) == 0);
    pop3_server_greet(s->server);
}

static size_t pop3_input(void *session, struct slice input)
{
    return pop3_server_input(((struct session *)session)->server, input);
}

static struct buf *pop3_out(void *session)
{
    return pop3_server_out(((struct session *)session)->server);
}

static bool pop3_closed(void *session)
{
    return pop3_server_closed(((struct session *)session)->server);
}

static bool pop3_pending(void *session)
{
    return pop3_server_pending(((struct session *)session)->server);
}

static void pop3_timeout(void *session)
{
    pop3_server_timeout(((struct session *)session)->server);
}

static const char *do_later(struct session *s, const struct dialog_words *words)
{
    if (words->count == 2 && strcmp(words->word[1], "login") == 0)
        s->later_login = true;
    else if (words->count == 2 && strcmp(words->word[1], "quit") == 0)
        s->later_quit = true;
    else
        return "later login|quit";
    return NULL;
}

static const char *do_answer(struct session *s, const struct dialog_words *words)
{
    static const struct {
        const char *name;
        enum pop3_login login;
        int error;
    } answers[] = {
        {"ok", POP3_LOGIN_OK, 0},
        {"refused", POP3_LOGIN_REFUSED, -EACCES},
        {"in-use", POP3_LOGIN_IN_USE, -EBUSY},
        {"temporary", POP3_LOGIN_TEMPORARY, -EIO},
        {"failed", POP3_LOGIN_TEMPORARY, -EIO},
    };
    enum pop3_login login = s->login_owed;
    int error = 0;
    bool known = words->count == 1;

    for (size_t i = 0; i < ARRAY_SIZE(answers) && words->count > 1; i++) {
        if (strcmp(words->word[1], answers[i].name) == 0) {
            login = answers[i].login;
            error = answers[i].error;
            known = true;
        }
    }
    if (!known)
        return "answer ok|refused|in-use|temporary|failed";
    if (!s->login_asked && !s->quit_asked)
        return "nothing is pending";
    if (s->login_asked)
        pop3_server_login_done(s->server, login);
    else
        pop3_server_quit_done(s->server, error);
    s->login_asked = s->quit_asked = false;
    return NULL;
}

static const char *do_deleted(struct session *s, const struct dialog_words *words)
{
    bool want[MESSAGES_MAX] = {false};

    for (unsigned i = 1; i < words->count; i++) {
        uint64_t number;

        if (!dialog_parse_number(words->word[i], &number) || number < 1 ||
            number > s->message_count)
            return "deleted N...";
        want[number - 1] = true;
    }
    return memcmp(want, s->deleted, sizeof(want)) == 0 ? NULL : "other messages were deleted";
}

static const char *pop3_directive(void *session, const struct dialog_words *words,
                                  struct slice content)
{
    (void)content;
    if (strcmp(words->word[0], "later") == 0)
        return do_later(session, words);
    if (strcmp(words->word[0], "answer") == 0)
        return do_answer(session, words);
    if (strcmp(words->word[0], "deleted") == 0)
        return do_deleted(session, words);
    return "no such directive";
}

const struct dialog_server dialog_pop3 = {
    .create = pop3_create,
    .destroy = pop3_destroy,
    .prepare = pop3_prepare,
    .prepares = pop3_prepares,
    .begin = pop3_begin,
    .input = pop3_input,
    .out = pop3_out,
    .directive = pop3_directive,
    .closed = pop3_closed,
    .pending = pop3_pending,
    .timeout = pop3_timeout,
};
