#include "proto/smtp_server.h"

#include "tests/unit/proto/smtp_owner.h"

/* The model: what a server must do, without any of the server's code. One step per command; `roll` is the die that both
 * the model and the ops throw, so whoever throws it at the wrong time is found out at once. */
enum said {
    SAY_EHLO,
    SAY_HELO,
    SAY_EHLO_BAD,
    SAY_MAIL,
    SAY_MAIL_BAD,
    SAY_MAIL_BIG,
    SAY_RCPT,
    SAY_RCPT_BAD,
    SAY_DATA,
    SAY_RSET,
    SAY_NOOP,
    SAY_VRFY,
    SAY_EXPN,
    SAY_UNKNOWN,
    SAY_BARE,
    SAY_QUIT,
    SAY_COMMANDS,
    SAY_BODY = SAY_COMMANDS,
    SAY_BODY_BARE,
    SAY_BODY_BIG,
    SAY_ALL
};
static const char *const said_text[SAY_ALL] = {"EHLO c\r\n",
                                               "helo c\r\n",
                                               "EHLO\r\n",
                                               "MAIL FROM:<a@b>\r\n",
                                               "MAIL FROM:a@b\r\n",
                                               "MAIL FROM:<> SIZE=2001\r\n",
                                               "RCPT TO:<a@b>\r\n",
                                               "RCPT TO:<>\r\n",
                                               "DATA\r\n",
                                               "RSET\r\n",
                                               "NOOP\r\n",
                                               "VRFY x\r\n",
                                               "EXPN x\r\n",
                                               "XYZZY\r\n",
                                               "NOOP\nQUIT\r\n",
                                               "QUIT\r\n",
                                               "x\r\n..\r\n.\r\n",
                                               "x\n.\r\n.\r\n",
                                               NULL};

struct model {
    enum smtp_server_state state;
    unsigned recipients, errors, row, resets;
    bool mail_seen;
    uint64_t dice;
};

/* 0: yes; 1: 451; 2: 550. */
static unsigned roll(uint64_t *dice)
{
    *dice = *dice * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*dice >> 60) < 10 ? 0 : (unsigned)(*dice >> 60) < 13 ? 1 : 2;
}

static void model_end(struct model *m)
{
    m->resets += m->state != SMTP_STATE_START && m->state != SMTP_STATE_READY;
    m->recipients = 0;
    if (m->state != SMTP_STATE_START)
        m->state = SMTP_STATE_READY;
}

/* An op is asked: `yes` and the state it leads to, or what the die says. */
static unsigned model_ask(struct model *m, unsigned yes, enum smtp_server_state next)
{
    unsigned fell = roll(&m->dice);

    if (fell == 0)
        m->state = next;
    return fell == 0 ? yes : fell == 1 ? 451 : 550;
}

static unsigned model_code(struct model *m, enum said said)
{
    enum smtp_server_state s = m->state;
    unsigned code;

    switch (said) {
    case SAY_EHLO:
    case SAY_HELO:
        model_end(m);
        m->state = SMTP_STATE_READY;
        return 250;
    case SAY_MAIL:
    case SAY_MAIL_BAD:
    case SAY_MAIL_BIG:
        if (s != SMTP_STATE_READY)
            return 503;
        code = said == SAY_MAIL       ? model_ask(m, 250, SMTP_STATE_MAIL)
               : said == SAY_MAIL_BIG ? 552
                                      : 501;
        m->mail_seen |= code == 250;
        return code;
    case SAY_RCPT:
    case SAY_RCPT_BAD:
        if (s != SMTP_STATE_MAIL && s != SMTP_STATE_RCPT)
            return 503;
        if (said == SAY_RCPT_BAD || m->recipients == 3)
            return said == SAY_RCPT_BAD ? 501 : 452;
        code = model_ask(m, 250, SMTP_STATE_RCPT);
        m->recipients += code == 250;
        return code;
    case SAY_DATA:
        return s == SMTP_STATE_RCPT   ? model_ask(m, 354, SMTP_STATE_BODY)
               : s == SMTP_STATE_MAIL ? 554
                                      : 503;
    case SAY_BODY:
        code = model_ask(m, 250, SMTP_STATE_BODY);
        m->errors = code == 250 ? 0 : m->errors;
        model_end(m);
        return code;
    case SAY_BODY_BARE:
    case SAY_BODY_BIG:
        model_end(m);
        return said == SAY_BODY_BARE ? 550 : 552;
    case SAY_RSET:
        model_end(m);
        return 250;
    case SAY_NOOP:
        return 250;
    case SAY_VRFY:
        return 252;
    case SAY_QUIT:
        return 221;
    case SAY_EHLO_BAD:
        return 501;
    case SAY_EXPN:
        return 502;
    default:
        return 500;
    }
}

static unsigned model_step(struct model *m, enum said said)
{
    unsigned code = model_code(m, said);

    m->errors += code >= 500;
    m->row = code >= 500 ? m->row + 1 : code < 400 ? 0 : m->row;
    if (code >= 500 && (m->errors >= 8 || (!m->mail_seen && m->row >= 5)))
        code = 421;
    if (code == 421 || code == 221) {
        model_end(m);
        m->state = SMTP_STATE_CLOSED;
    }
    return code;
}

/* The same owner, but each op throws the die, and answers later when `later` is set. */
static uint64_t ops_dice;
static struct smtp_reply dice_reply(void *context, struct smtp_reply yes)
{
    unsigned fell = roll(&ops_dice);
    struct owner *owner = context;

    owner->owed = fell == 0   ? yes
                  : fell == 1 ? SMTP_REPLY(451, 4, 3, 0, "Later")
                              : SMTP_REPLY(550, 5, 7, 1, "No");
    return owner->later ? SMTP_PENDING : owner->owed;
}

static struct smtp_reply dice_mail(void *context, const struct smtp_mail *mail)
{
    (void)mail;
    return dice_reply(context, SMTP_REPLY(250, 2, 1, 0, ""));
}

static struct smtp_reply dice_rcpt(void *context, const struct smtp_rcpt *rcpt)
{
    (void)rcpt;
    return dice_reply(context, SMTP_REPLY(250, 2, 1, 5, ""));
}

static struct smtp_reply dice_data(void *context)
{
    buf_reset(&((struct owner *)context)->body);
    return dice_reply(context, SMTP_REPLY(354, 0, 0, 0, ""));
}

static struct smtp_reply dice_end(void *context)
{
    return dice_reply(context, SMTP_REPLY(250, 2, 0, 0, ""));
}

static const struct smtp_server_ops dice_ops = {.helo = owner_helo,
                                                .mail = dice_mail,
                                                .rcpt = dice_rcpt,
                                                .data = dice_data,
                                                .data_chunk = owner_chunk,
                                                .data_end = dice_end,
                                                .reset = owner_reset};

#define SEQUENCE_MAX 24

/* Makes a sequence that suits the model's states, with the codes it must get; returns the model's last state. */
static struct model make_sequence(uint64_t seed, struct buf *wire, char *want, const char *big)
{
    struct model m = {.state = SMTP_STATE_START, .dice = seed};
    uint64_t dice = ~seed;

    want[0] = 0;
    for (unsigned i = 0; i < SEQUENCE_MAX && m.state != SMTP_STATE_CLOSED; i++) {
        enum said said;

        (void)roll(&dice);
        if (m.state == SMTP_STATE_BODY)
            said = (enum said)(SAY_BODY + (dice >> 33) % 3);
        else if ((dice >> 40) % 3 == 0) /* more often than by chance, what leads on */
            said = m.state == SMTP_STATE_START   ? SAY_EHLO
                   : m.state == SMTP_STATE_READY ? SAY_MAIL
                   : m.state == SMTP_STATE_MAIL  ? SAY_RCPT
                                                 : SAY_DATA;
        else
            said = (enum said)((dice >> 33) % SAY_COMMANDS);
        buf_append_cstr(wire, said == SAY_BODY_BIG ? big : said_text[said]);
        (void)snprintf(want + strlen(want), 5, "%03u ", model_step(&m, said));
    }
    return m;
}

/* Codes alone, "250 354 "; quicker than codes(). */
static void code_list(struct slice rest, char *text)
{
    while (rest.size > 0) {
        struct slice line = slice_split(&rest, '\n');

        if (line.data[3] == '-')
            continue;
        memcpy(text, line.data, 4);
        text += 4;
    }
    *text = 0;
}

/* Goal: after any sequence of commands the server answers and stands as the model does, however it was cut, and whether
 * ops answer now or later. Method: KILAT_SEQUENCES random sequences; the seed is printed by what fails. */
Test(smtp_server, agrees_with_the_model, .timeout = 600)
{
    const char *count = getenv("KILAT_SEQUENCES");
    uint64_t sequences = count ? strtoull(count, NULL, 10) : 200000;
    char want[4 * SEQUENCE_MAX + 8], got[4 * SEQUENCE_MAX + 64], big[2048];
    struct owner owner;
    struct buf wire;

    memset(big, 'x', sizeof(big));
    memcpy(big + 2010, "\r\n.\r\n", 6);
    buf_init(&wire, MIB);
    start(&owner, &reject);
    for (uint64_t seed = 1; seed <= sequences; seed++) {
        struct model m;

        buf_reset(&wire);
        m = make_sequence(seed * 0x9e3779b97f4a7c15u, &wire, want, big);
        smtp_server_destroy(&owner.server);
        cr_assert_eq(smtp_server_create(&reject, &dice_ops, &owner, &owner.server), 0);
        owner.later = seed & 1;
        owner.resets = 0;
        ops_dice = seed * 0x9e3779b97f4a7c15u;
        buf_reset(&owner.out);
        say_by(&owner, buf_slice(&wire), seed % 8 == 0 ? 1 : seed % 8 == 1 ? 5 : SIZE_MAX);
        code_list(buf_slice(&owner.out), got);
        cr_assert_str_eq(got, want, "seed %lu:\n%.*s", (unsigned long)seed,
                         SLICE_ARG(buf_slice(&wire)));
        cr_assert_eq(smtp_server_facts(owner.server)->state, m.state, "seed %lu",
                     (unsigned long)seed);
        cr_assert_eq(smtp_server_facts(owner.server)->recipients, m.recipients);
        cr_assert_eq(smtp_server_facts(owner.server)->errors, m.errors);
        cr_assert_eq(owner.resets, m.resets, "seed %lu", (unsigned long)seed);
    }
    stop(&owner);
    buf_deinit(&wire);
}
