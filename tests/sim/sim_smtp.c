/* tests/sim/sim_smtp.c - a scripted client that hands in letters and believes only what it has read.
 *
 * It speaks in lockstep or pipelines the envelope (RFC 2920), stops in the middle when chance says so, and writes into
 * the ledger: a 250 after the final dot is a promise; a final dot without an answer makes the letter possible.
 */
#include "tests/sim/sim_mail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct sim_mail_counters sim_mail_counters;
void (*sim_smtp_promised)(struct sim_site *site);

/* The code of a reply (its last line), or -errno. */
static int read_reply(struct sim_peer *peer)
{
    char line[1024];

    for (;;) {
        ssize_t size = sim_peer_read_line(peer, line, sizeof(line));

        if (size < 0)
            return (int)size;
        if (size < 4 || (line[3] != ' ' && line[3] != '-')) {
            sim_fail("a reply that is none: \"%s\"", line);
            return -EPROTO;
        }
        if (line[3] == ' ')
            return atoi(line);
    }
}

static int say(struct sim_peer *peer, const char *text)
{
    return sim_peer_write(peer, slice_cstr(text));
}

/* Says it and reads the reply. */
static int command(struct sim_peer *peer, const char *text)
{
    int r = say(peer, text);

    return r < 0 ? r : read_reply(peer);
}

/* Dot stuffing (RFC 5321 4.5.2); the text ends with a line end. */
static void stuff(struct slice text, struct buf *out)
{
    while (text.size > 0) {
        size_t size = slice_find(text, '\n') + 1;

        if (text.data[0] == '.')
            buf_append_byte(out, '.');
        buf_append(out, slice_first(text, size));
        text = slice_skip(text, size);
    }
}

static void ledger_possible(struct sim_letter *letter)
{
    for (uint32_t i = 0; i < letter->recipient_count; i++)
        if (letter->recipients[i].accepted)
            letter->recipients[i].possible = true;
}

/* After a 4xx the letter may have become durable all the same, and its ABORT may be lost (QUEUE I26): only a disk that
 * failed leads there. */
static void ledger_answer(const struct sim_site *site, struct sim_letter *letter, int code)
{
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        struct sim_letter_recipient *recipient = &letter->recipients[i];

        if (!recipient->accepted || code < 0)
            continue;
        recipient->possible = code != 250 && sim_site_excused(site);
        recipient->promised = code == 250;
    }
    if (code == 250)
        sim_mail_counters.promised++;
    else if (code < 0)
        sim_mail_counters.possible++;
    else
        sim_mail_counters.refused++;
    sim_trace("letter.answered", letter->number, (uint64_t)code, 0);
}

/* The text in pieces, with pauses now and then, and the final dot. */
static int send_text(struct sim_peer *peer, struct sim_letter *letter)
{
    struct buf wire;
    struct slice rest;
    int r = 0;

    buf_init(&wire, 4 * MIB);
    stuff(sim_letter_text(letter->number), &wire);
    rest = buf_slice(&wire);
    if (sim_chance(30)) { /* gives up in the middle: nothing may arrive */
        r = sim_peer_write(peer, slice_first(rest, sim_between(0, rest.size)));
        r = r < 0 ? r : -ECANCELED;
    }
    while (r == 0 && rest.size > 0) {
        struct slice piece = slice_first(rest, sim_chance(500) ? rest.size : sim_between(1, 20000));

        r = sim_peer_write(peer, piece);
        rest = slice_skip(rest, piece.size);
        if (sim_chance(50))
            sim_sleep(sim_between(0, sim_chance(50) ? 700 * SECOND_NS : 200 * MS_NS));
    }
    if (r == 0) {
        ledger_possible(letter); /* from here on it may arrive */
        r = say(peer, ".\r\n");
    }
    buf_deinit(&wire);
    return r;
}

/* MAIL and RCPT, each read before the next is sent, or all in one write. Returns how many recipients were accepted,
 * or -errno. */
static int envelope(struct sim_peer *peer, struct sim_letter *letter)
{
    bool pipelined = sim_chance(500);
    char lines[LETTER_RECIPIENTS_MAX + 1][160];
    int accepted = 0, code = 0;

    snprintf(lines[0], sizeof(lines[0]), "MAIL FROM:<%s>\r\n", letter->sender);
    for (uint32_t i = 0; i < letter->recipient_count; i++)
        snprintf(lines[i + 1], sizeof(lines[0]), "RCPT TO:<%s>\r\n", letter->recipients[i].address);
    for (uint32_t i = 0; pipelined && i <= letter->recipient_count && code >= 0; i++)
        code = say(peer, lines[i]);
    for (uint32_t i = 0; i <= letter->recipient_count && code >= 0; i++) {
        code = pipelined ? read_reply(peer) : command(peer, lines[i]);
        /* Everybody asked for here exists, or is another server's business. */
        if (code >= 500 && code != 503)
            sim_fail("letter %u: %d is the answer to %s", letter->number, code, lines[i]);
        if (i > 0 && code == 250) {
            letter->recipients[i - 1].accepted = true;
            accepted++;
        }
    }
    return code < 0 ? code : accepted;
}

static int transaction(struct sim_peer *peer, const struct sim_site *site,
                       struct sim_letter *letter)
{
    int code = envelope(peer, letter);

    if (code < 0)
        return code;
    if (code == 0) {
        sim_mail_counters.refused++;
        return command(peer, "RSET\r\n");
    }
    code = command(peer, "DATA\r\n");
    if (code != 354)
        return code < 0 ? code : command(peer, "RSET\r\n");
    code = send_text(peer, letter);
    if (code == -ECANCELED || code == 0)
        code = code == 0 ? read_reply(peer) : code;
    ledger_answer(site, letter, code);
    return code;
}

void sim_smtp_session(struct sim_host *from, struct sim_site *site, const char *sender,
                      const char *const *addresses, size_t address_count, uint32_t letters)
{
    struct sim_peer peer;
    int code = sim_peer_connect(&peer, from, site->host, SIM_SMTP_PORT);

    sim_mail_counters.sessions++;
    if (code == 0)
        code = read_reply(&peer);
    if (code == 220)
        code = command(&peer, "EHLO client.sim.test\r\n");
    while (code > 0 && code != 421 && code != 554 && letters-- > 0) {
        struct sim_letter *letter = sim_letter_create(sender, addresses, address_count);

        if (letter == NULL)
            break;
        code = transaction(&peer, site, letter);
        if (code == 250)
            sim_smtp_promised(site);
    }
    if (code > 0)
        code = command(&peer, "QUIT\r\n");
    sim_mail_counters.cut += code < 0;
    sim_peer_close(&peer);
}

void sim_smtp_letter(struct sim_host *from, struct sim_site *site, struct sim_letter *letter)
{
    struct sim_peer peer;
    int code = sim_peer_connect(&peer, from, site->host, SIM_SMTP_PORT);

    if (code == 0)
        code = read_reply(&peer);
    if (code == 220)
        code = command(&peer, "EHLO client.sim.test\r\n");
    if (code == 250)
        code = transaction(&peer, site, letter);
    if (code > 0)
        (void)command(&peer, "QUIT\r\n");
    sim_peer_close(&peer);
}

/* ---- a thief ---------------------------------------------------------------------------------- */

/* Takes whatever is brought and keeps it. */
static void thief_main(void *argument)
{
    struct sim_peer peer;
    char line[2048];
    bool in_data = false;
    int r;

    sim_peer_adopt(&peer, argument);
    r = say(&peer, "220 at your service\r\n");
    while (r == 0 && sim_peer_read_line(&peer, line, sizeof(line)) >= 0) {
        if (in_data && strcmp(line, ".") != 0)
            continue;
        if (in_data)
            sim_mail_counters.stolen++;
        in_data = !in_data && strcasecmp(line, "DATA") == 0;
        r = say(&peer, in_data ? "354 go on\r\n" : "250 thank you\r\n");
    }
    sim_peer_close(&peer);
}

static void thief_accepted(struct sim_end *end, void *context)
{
    (void)context;
    (void)sim_fiber_start(NULL, thief_main, end, sim.now_ns);
}

void sim_smtp_thief(struct sim_host *host)
{
    sim_serve_tcp(host, SIM_SMTP_PORT, thief_accepted, NULL);
}
