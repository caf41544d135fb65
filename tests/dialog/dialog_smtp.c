/* An SMTP server session with its local domains, users and a queue of one message, as README.md describes them. */
#include "tests/dialog/dialog.h"

#include "core/assert.h"
#include "proto/smtp_server.h"
#include <stdio.h>
#include <stdlib.h>

#define RCPTS_MAX 1000

enum op { OP_HELO, OP_MAIL, OP_RCPT, OP_DATA, OP_DATA_END, OPS };
static const char *const op_names[OPS] = {"helo", "mail", "rcpt", "data", "data_end"};

struct message {
    char *sender;
    char *rcpts[RCPTS_MAX];
    unsigned rcpt_count;
    struct buf body;
    bool eight_bit, dot_line;
    uint64_t header_bytes, body_bytes;
};

struct session {
    struct smtp_server_config config;
    struct smtp_server *server;
    bool later[OPS], refuse[OPS];
    struct smtp_reply refusal[OPS];
    char texts[OPS][256]; /* what refusal[].text points at */
    struct smtp_reply owed;
    enum op asked;
    char *rcpt_asked; /* the recipient in question */
    bool pause, paused;
    struct message open, last;
    unsigned stored, resets, mails;
};

static void message_clear(struct message *message)
{
    free(message->sender);
    for (unsigned i = 0; i < message->rcpt_count; i++)
        free(message->rcpts[i]);
    buf_deinit(&message->body);
    *message = (struct message){0};
    buf_init(&message->body, 64 * MIB);
}

/* Owned. */
static char *text_of(struct slice s)
{
    char *text = malloc(s.size + 1);

    ASSERT(text != NULL);
    ASSERT(slice_to_cstr(s, text, s.size + 1));
    return text;
}

/* Yes and no take effect when they are answered, so that "later" shows that nothing happened before. */
static void effect(struct session *s, enum op op, const struct smtp_reply *reply)
{
    bool yes = reply->code < 400;

    if (op == OP_MAIL)
        s->mails += yes;
    if (op == OP_RCPT && yes) {
        ASSERT(s->open.rcpt_count < RCPTS_MAX);
        s->open.rcpts[s->open.rcpt_count++] = s->rcpt_asked;
        s->rcpt_asked = NULL;
    }
    if (op == OP_DATA_END && yes) {
        message_clear(&s->last);
        s->last = s->open;
        s->open = (struct message){0};
        buf_init(&s->open.body, 64 * MIB);
        s->stored++;
    }
}

static struct smtp_reply decide(struct session *s, enum op op, struct smtp_reply reply)
{
    if (s->refuse[op]) {
        reply = s->refusal[op];
        s->refuse[op] = false;
    }
    if (s->later[op]) {
        s->later[op] = false;
        s->owed = reply;
        s->asked = op;
        return SMTP_PENDING;
    }
    effect(s, op, &reply);
    return reply;
}

static struct smtp_reply op_helo(void *context, struct slice name)
{
    ASSERT(name.size > 0);
    return decide(context, OP_HELO, SMTP_REPLY(250, 0, 0, 0, ""));
}

static struct smtp_reply op_mail(void *context, const struct smtp_mail *mail)
{
    struct session *s = context;

    message_clear(&s->open);
    s->open.sender = text_of(mail->sender.whole);
    return decide(s, OP_MAIL, SMTP_REPLY(250, 2, 1, 0, "Sender ok"));
}

static bool is_user(struct slice local)
{
    return slice_equal_nocase(local, SLICE("fadli")) ||
           slice_equal_nocase(local, SLICE("penulis")) ||
           slice_equal_nocase(local, SLICE("postmaster"));
}

static struct smtp_reply op_rcpt(void *context, const struct smtp_rcpt *rcpt)
{
    const struct smtp_address *to = &rcpt->recipient;
    struct session *s = context;
    struct smtp_reply reply = SMTP_REPLY(250, 2, 1, 5, "Recipient ok");

    free(s->rcpt_asked);
    s->rcpt_asked = text_of(to->whole);
    if (to->domain.size > 0 && !slice_equal_nocase(to->domain, SLICE("kawan.test")) &&
        !slice_equal_nocase(to->domain, SLICE("debianindonesia.test")))
        reply = SMTP_REPLY(550, 5, 7, 1, "Relaying denied");
    else if (!is_user(to->local))
        reply = SMTP_REPLY(550, 5, 1, 1, "No such user here");
    return decide(s, OP_RCPT, reply);
}

static struct smtp_reply op_data(void *context)
{
    struct session *s = context;

    ASSERT(s->open.rcpt_count > 0);
    return decide(s, OP_DATA, SMTP_REPLY(354, 0, 0, 0, ""));
}

static bool op_data_chunk(void *context, struct slice bytes)
{
    struct session *s = context;

    ASSERT(bytes.size > 0);
    ASSERT(!s->paused);
    buf_append(&s->open.body, bytes);
    s->paused = s->pause;
    return !s->pause;
}

static struct smtp_reply op_data_end(void *context)
{
    struct session *s = context;
    const struct smtp_server_facts *facts = smtp_server_facts(s->server);

    ASSERT(facts->recipients == s->open.rcpt_count);
    ASSERT(facts->body_bytes == s->open.body.size);
    s->open.eight_bit = facts->body_has_8bit;
    s->open.dot_line = facts->body_has_dot_line;
    s->open.header_bytes = facts->header_bytes;
    s->open.body_bytes = facts->body_bytes;
    return decide(s, OP_DATA_END, SMTP_REPLY(250, 2, 0, 0, "Message accepted"));
}

static void op_reset(void *context)
{
    struct session *s = context;

    s->resets++;
    ASSERT(s->resets <= s->mails); /* once per MAIL that was accepted */
    s->paused = false;
    message_clear(&s->open);
}

static const struct smtp_server_ops ops = {
    .helo = op_helo,
    .mail = op_mail,
    .rcpt = op_rcpt,
    .data = op_data,
    .data_chunk = op_data_chunk,
    .data_end = op_data_end,
    .reset = op_reset,
};

static void *smtp_create(void)
{
    struct session *s = calloc(1, sizeof(*s));

    ASSERT(s != NULL);
    s->config = (struct smtp_server_config){
        .hostname = SLICE("mx.kawan.test"),
        .limits = {.message_bytes_max = MIB,
                   .recipients_max = 100,
                   .errors_max = 20,
                   .command_line_max = 2048,
                   .received_max = 100,
                   .greeting_ms = 10000,
                   .command_ms = 300000,
                   .data_block_ms = 300000,
                   .data_end_ms = 300000},
    };
    message_clear(&s->open);
    message_clear(&s->last);
    return s;
}

static void smtp_destroy(void *session)
{
    struct session *s = session;

    smtp_server_destroy(&s->server);
    ASSERT(s->resets == s->mails);
    message_clear(&s->open);
    message_clear(&s->last);
    free(s->rcpt_asked);
    free(s);
}

static bool smtp_prepares(const char *name)
{
    return strcmp(name, "set") == 0;
}

static const char *smtp_prepare(void *session, const struct dialog_words *words,
                                struct slice content)
{
    struct session *s = session;
    struct smtp_server_limits *limits = &s->config.limits;
    struct {
        const char *name;
        uint32_t *to;
    } rows[] = {
        {"recipients_max", &limits->recipients_max},
        {"errors_max", &limits->errors_max},
        {"command_line_max", &limits->command_line_max},
        {"received_max", &limits->received_max},
    };
    uint64_t value;

    (void)content;
    if (words->count != 3)
        return "set NAME VALUE";
    if (strcmp(words->word[1], "bare_newline") == 0 && strcmp(words->word[2], "normalize") == 0) {
        s->config.bare_newline = SMTP_BARE_NEWLINE_NORMALIZE;
        return NULL;
    }
    if (!dialog_parse_number(words->word[2], &value))
        return "not a number";
    if (strcmp(words->word[1], "message_bytes_max") == 0) {
        limits->message_bytes_max = value;
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (strcmp(words->word[1], rows[i].name) == 0) {
            *rows[i].to = (uint32_t)value;
            return NULL;
        }
    }
    return "no such setting";
}

static void smtp_begin(void *session)
{
    struct session *s = session;

    ASSERT(smtp_server_create(&s->config, &ops, s, &s->server) == 0);
    smtp_server_greet(s->server);
}

static size_t smtp_input(void *session, struct slice input)
{
    struct session *s = session;
    size_t used = smtp_server_input(s->server, input);

    if (s->paused) {
        ASSERT(smtp_server_input(s->server, slice_skip(input, used)) == 0);
        s->paused = false;
        smtp_server_resume(s->server);
    }
    return used;
}

static struct buf *smtp_out(void *session)
{
    return smtp_server_out(((struct session *)session)->server);
}

static bool smtp_closed(void *session)
{
    return smtp_server_facts(((struct session *)session)->server)->state == SMTP_STATE_CLOSED;
}

static bool smtp_pending(void *session)
{
    return smtp_server_facts(((struct session *)session)->server)->pending;
}

static void smtp_timeout(void *session)
{
    smtp_server_timeout(((struct session *)session)->server);
}

static bool find_op(const char *name, enum op *ret)
{
    for (*ret = 0; *ret < OPS; ++*ret) {
        if (strcmp(op_names[*ret], name) == 0)
            return true;
    }
    return false;
}

static const char *do_later(struct session *s, const struct dialog_words *words,
                            struct slice content)
{
    enum op op;

    (void)content;
    if (words->count != 2 || !find_op(words->word[1], &op) || op == OP_HELO)
        return "later mail|rcpt|data|data_end";
    s->later[op] = true;
    return NULL;
}

static const char *do_refuse(struct session *s, const struct dialog_words *words,
                             struct slice content)
{
    struct smtp_reply reply;
    enum op op;

    (void)content;
    if (words->count < 5 || !find_op(words->word[1], &op) || !dialog_parse_reply(words, 2, &reply))
        return "refuse OP CODE X.Y.Z text";
    (void)slice_to_cstr(reply.text, s->texts[op], sizeof(s->texts[op]));
    reply.text = slice_cstr(s->texts[op]);
    s->refusal[op] = reply;
    s->refuse[op] = true;
    return NULL;
}

static const char *do_answer(struct session *s, const struct dialog_words *words,
                             struct slice content)
{
    struct smtp_reply reply = s->owed;

    (void)content;
    if (words->count > 1 && !dialog_parse_reply(words, 1, &reply))
        return "answer CODE X.Y.Z text";
    if (!smtp_server_facts(s->server)->pending)
        return "nothing is pending";
    effect(s, s->asked, &reply);
    smtp_server_answer(s->server, reply);
    return NULL;
}

static const char *do_pause(struct session *s, const struct dialog_words *words,
                            struct slice content)
{
    (void)words;
    (void)content;
    s->pause = true;
    return NULL;
}

static const char *do_stored(struct session *s, const struct dialog_words *words,
                             struct slice content)
{
    uint64_t want;

    (void)content;
    if (words->count != 2 || !dialog_parse_number(words->word[1], &want))
        return "stored N";
    if (smtp_server_facts(s->server)->transactions != s->stored)
        return "the session has counted other messages";
    return s->stored == want ? NULL : "another number has been accepted";
}

static const char *do_message(struct session *s, const struct dialog_words *words,
                              struct slice content)
{
    if (s->stored == 0 || words->count < 3)
        return "no message";
    if (strcmp(strcmp(words->word[1], "<>") == 0 ? "" : words->word[1], s->last.sender) != 0)
        return "another sender";
    if (s->last.rcpt_count != words->count - 2)
        return "another number of recipients";
    for (unsigned i = 0; i < s->last.rcpt_count; i++) {
        if (strcmp(words->word[i + 2], s->last.rcpts[i]) != 0)
            return "another recipient";
    }
    if (!slice_equal(content, buf_slice(&s->last.body))) {
        printf("    stored: \"%.*s\"\n", SLICE_ARG(buf_slice(&s->last.body)));
        return "another content";
    }
    return NULL;
}

static const char *do_facts(struct session *s, const struct dialog_words *words,
                            struct slice content)
{
    (void)content;
    for (unsigned i = 1; i + 1 < words->count; i += 2) {
        const char *name = words->word[i];
        uint64_t want, is;

        if (!dialog_parse_number(words->word[i + 1], &want))
            return "facts NAME VALUE...";
        if (strcmp(name, "eight_bit") == 0)
            is = s->last.eight_bit;
        else if (strcmp(name, "dot_line") == 0)
            is = s->last.dot_line;
        else if (strcmp(name, "header_bytes") == 0)
            is = s->last.header_bytes;
        else if (strcmp(name, "body_bytes") == 0)
            is = s->last.body_bytes;
        else
            return "no such fact";
        if (is != want)
            return name;
    }
    return NULL;
}

static const char *smtp_directive(void *session, const struct dialog_words *words,
                                  struct slice content)
{
    static const struct {
        const char *name;
        const char *(*run)(struct session *s, const struct dialog_words *words,
                           struct slice content);
    } rows[] = {
        {"later", do_later},   {"refuse", do_refuse},   {"answer", do_answer}, {"pause", do_pause},
        {"stored", do_stored}, {"message", do_message}, {"facts", do_facts},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (strcmp(words->word[0], rows[i].name) == 0)
            return rows[i].run(session, words, content);
    }
    return "no such directive";
}

const struct dialog_server dialog_smtp = {
    .create = smtp_create,
    .destroy = smtp_destroy,
    .prepare = smtp_prepare,
    .prepares = smtp_prepares,
    .begin = smtp_begin,
    .input = smtp_input,
    .out = smtp_out,
    .directive = smtp_directive,
    .closed = smtp_closed,
    .pending = smtp_pending,
    .timeout = smtp_timeout,
};
