/* Any octets as a client, against ops that say yes, no and later as the first octets tell: the same answers whole and cut,
 * every answer one printable line of at most 512 octets, one reset for each accepted MAIL, and no bare CR or LF in
 * what was accepted. */
#include "core/assert.h"
#include "proto/smtp_server.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct owner {
    struct smtp_server *server;
    uint8_t dice;
    bool later, pause, paused;
    enum { ASKED_MAIL, ASKED_OTHER } asked;
    struct smtp_reply owed;
    unsigned mails, resets;
    struct buf out, body, accepted;
};

static struct smtp_reply answer(struct owner *owner, struct smtp_reply yes)
{
    uint8_t fell = owner->dice & 7;

    owner->dice = (uint8_t)(owner->dice * 5 + 3);
    owner->owed = fell == 6   ? SMTP_REPLY(451, 4, 3, 0, "Later")
                  : fell == 7 ? SMTP_REPLY(550, 5, 7, 1, "No")
                              : yes;
    return owner->later ? SMTP_PENDING : owner->owed;
}

static struct smtp_reply op_helo(void *context, struct slice name)
{
    ASSERT(name.size > 0 && slice_is_printable(name));
    (void)context;
    return SMTP_REPLY(250, 0, 0, 0, "");
}

static struct smtp_reply op_mail(void *context, const struct smtp_mail *mail)
{
    struct owner *owner = context;
    struct smtp_reply reply = answer(owner, SMTP_REPLY(250, 2, 1, 0, ""));

    ASSERT(slice_is_printable(mail->sender.whole));
    owner->mails += owner->owed.code == 250;
    return reply;
}

static struct smtp_reply op_rcpt(void *context, const struct smtp_rcpt *rcpt)
{
    ASSERT(rcpt->recipient.whole.size > 0 && slice_is_printable(rcpt->recipient.whole));
    return answer(context, SMTP_REPLY(250, 2, 1, 5, ""));
}

static struct smtp_reply op_data(void *context)
{
    buf_reset(&((struct owner *)context)->body);
    return answer(context, SMTP_REPLY(354, 0, 0, 0, ""));
}

static bool op_data_chunk(void *context, struct slice bytes)
{
    struct owner *owner = context;

    ASSERT(bytes.size > 0 && !owner->paused);
    buf_append(&owner->body, bytes);
    owner->paused = owner->pause;
    return !owner->pause;
}

static struct smtp_reply op_data_end(void *context)
{
    struct owner *owner = context;
    const struct smtp_server_facts *facts = smtp_server_facts(owner->server);

    ASSERT(facts->body_bytes == owner->body.size);
    ASSERT(facts->header_bytes <= facts->body_bytes);
    for (size_t i = 0; i < owner->body.size; i++) {
        ASSERT(owner->body.data[i] != '\n' || (i > 0 && owner->body.data[i - 1] == '\r'));
        ASSERT(owner->body.data[i] != '\r' ||
               (i + 1 < owner->body.size && owner->body.data[i + 1] == '\n'));
        ASSERT(owner->body.data[i] != 0);
    }
    buf_append(&owner->accepted, buf_slice(&owner->body));
    return answer(owner, SMTP_REPLY(250, 2, 0, 0, ""));
}

static void op_reset(void *context)
{
    struct owner *owner = context;

    owner->resets++;
    owner->paused = false;
}

static const struct smtp_server_ops ops = {op_helo,       op_mail,     op_rcpt, op_data,
                                           op_data_chunk, op_data_end, op_reset};

static void play(struct owner *owner, const struct smtp_server_config *config, uint8_t flags,
                 uint8_t dice, struct slice wire, size_t step)
{
    const struct smtp_server_facts *facts;

    *owner = (struct owner){.dice = dice, .later = flags & 2, .pause = flags & 4};
    buf_init(&owner->out, 64 * MIB);
    buf_init(&owner->body, 64 * MIB);
    buf_init(&owner->accepted, 64 * MIB);
    ASSERT(smtp_server_create(config, &ops, owner, &owner->server) == 0);
    facts = smtp_server_facts(owner->server);
    while (wire.size > 0 && facts->state != SMTP_STATE_CLOSED) {
        size_t size = MIN(step, wire.size), used;
        uint8_t *copy = malloc(size);

        memcpy(copy, wire.data, size);
        used = smtp_server_input(owner->server, slice_of(copy, size));
        free(copy);
        ASSERT(used > 0 || owner->paused || facts->state == SMTP_STATE_CLOSED);
        wire = slice_skip(wire, used);
        if (facts->pending)
            smtp_server_answer(owner->server, owner->owed);
        if (owner->paused) {
            owner->paused = false;
            smtp_server_resume(owner->server);
        }
        buf_append(&owner->out, buf_slice(smtp_server_out(owner->server)));
        buf_reset(smtp_server_out(owner->server));
    }
    smtp_server_destroy(&owner->server);
    ASSERT(owner->resets == owner->mails);
}

static void check_replies(struct slice rest)
{
    while (rest.size > 0) {
        struct slice line = slice_split(&rest, '\n');

        ASSERT(line.size >= 5 && line.size <= 511);
        ASSERT(line.data[line.size - 1] == '\r');
        ASSERT(slice_is_printable(slice_first(line, line.size - 1)));
        ASSERT(line.data[0] >= '2' && line.data[0] <= '5');
    }
}

static void finish(struct owner *owner)
{
    buf_deinit(&owner->out);
    buf_deinit(&owner->body);
    buf_deinit(&owner->accepted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t greeting[] = "EHLO c\r\n";
    struct smtp_server_config config = {
        .hostname = SLICE("mx.test"),
        .limits = {.message_bytes_max = 300,
                   .recipients_max = 3,
                   .errors_max = 8,
                   .command_line_max = 64,
                   .received_max = 2},
    };
    struct owner whole, cut;
    uint8_t *wire;
    size_t step;

    if (size < 3)
        return 0;
    config.bare_newline = data[0] & 1 ? SMTP_BARE_NEWLINE_NORMALIZE : SMTP_BARE_NEWLINE_REJECT;
    step = 1 + (data[0] >> 4);
    wire = malloc(size + sizeof(greeting));
    memcpy(wire, greeting, sizeof(greeting) - 1);
    /* Half of the inputs are spared the way through EHLO. */
    size_t skip = data[0] & 8 ? 0 : sizeof(greeting) - 1;
    memcpy(wire + sizeof(greeting) - 1, data + 2, size - 2);
    struct slice input = slice_of(wire + skip, size - 2 + sizeof(greeting) - 1 - skip);
    play(&whole, &config, data[0], data[1], input, SIZE_MAX);
    play(&cut, &config, data[0], data[1], input, step);
    ASSERT(slice_equal(buf_slice(&whole.out), buf_slice(&cut.out)));
    ASSERT(slice_equal(buf_slice(&whole.accepted), buf_slice(&cut.accepted)));
    check_replies(buf_slice(&whole.out));
    finish(&whole);
    finish(&cut);
    free(wire);
    return 0;
}
