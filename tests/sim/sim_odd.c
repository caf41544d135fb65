/* tests/sim/sim_odd.c - the mail host of a third domain: a scripted SMTP server with moods.
 *
 * It refuses greetings, recipients, DATA and whole letters, for now or for good, knows EHLO or not, answers slowly, in
 * several lines, or not at all, and hangs up anywhere. What it has answered with 250 counts as arrived. In quiet times it
 * is in a good mood; only hilang@ganjil.test never exists.
 */
#include "tests/sim/sim_mail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_MAX (4 * MIB)

uint32_t sim_odd_mood_per_mille;

struct odd {
    struct sim_peer peer;
    char recipients[LETTER_RECIPIENTS_MAX][128];
    uint32_t recipient_count;
    bool in_mail;
};

static bool moody(void)
{
    return sim_chance(sim_odd_mood_per_mille);
}

/* 0, or -errno: it has hung up, or the other side has. */
static int answer(struct odd *odd, const char *text)
{
    if (moody()) {
        switch (sim_between(0, 5)) {
        case 0:
            return -ECONNABORTED;
        case 1:
            sim_sleep(sim_between(0, 700 * SECOND_NS)); /* some are beyond the sender's patience */
            break;
        default:
            sim_sleep(sim_between(0, 3 * SECOND_NS));
            break;
        }
    }
    return sim_peer_write(&odd->peer, slice_cstr(text));
}

static int on_ehlo(struct odd *odd, bool extended)
{
    if (extended && moody())
        return answer(odd, "502 5.5.1 what is EHLO?\r\n");
    if (!extended || moody())
        return answer(odd, "250 ganjil.test\r\n");
    return answer(odd, "250-ganjil.test greets you\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n"
                       "250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n");
}

static int on_mail(struct odd *odd)
{
    odd->recipient_count = 0;
    if (moody())
        return answer(odd, "451 4.3.0 not now\r\n");
    odd->in_mail = true;
    return answer(odd, "250 2.1.0 go on\r\n");
}

static int on_rcpt(struct odd *odd, const char *line)
{
    const char *begin = strchr(line, '<'), *end = strchr(line, '>');
    size_t size = begin == NULL || end == NULL ? 0 : (size_t)(end - begin - 1);

    if (!odd->in_mail)
        return answer(odd, "503 5.5.1 MAIL comes first\r\n");
    if (size == 0 || size >= sizeof(odd->recipients[0])) {
        sim_fail("a recipient that is none: %s", line);
        return -EPROTO;
    }
    if (strncmp(begin + 1, "hilang@", 7) == 0)
        return answer(odd, "550-5.1.1 there is nobody\r\n550 5.1.1 of that name\r\n");
    if (moody() || odd->recipient_count == LETTER_RECIPIENTS_MAX)
        return answer(odd, "452 4.5.3 enough of them\r\n");
    snprintf(odd->recipients[odd->recipient_count++], sizeof(odd->recipients[0]), "%.*s", (int)size,
             begin + 1);
    return answer(odd, "250 2.1.5 go on\r\n");
}

/* The letter up to its final dot, without the stuffing. */
static int read_letter(struct odd *odd, struct buf *out)
{
    char line[4096];

    for (;;) {
        ssize_t size = sim_peer_read_line(&odd->peer, line, sizeof(line));

        if (size < 0)
            return (int)size;
        if (strcmp(line, ".") == 0)
            return 0;
        buf_append(out, slice_skip(slice_of(line, (size_t)size), line[0] == '.'));
        buf_append(out, SLICE("\r\n"));
        if (moody() && sim_chance(20))
            return -ECONNABORTED;
    }
}

static int on_data(struct odd *odd)
{
    struct buf letter;
    int r;

    if (odd->recipient_count == 0)
        return answer(odd, "503 5.5.1 for whom?\r\n");
    odd->in_mail = false;
    if (moody())
        return answer(odd, "451 4.3.0 not now\r\n");
    r = answer(odd, "354 go on\r\n");
    if (r < 0)
        return r;
    buf_init(&letter, MESSAGE_MAX);
    r = read_letter(odd, &letter);
    if (r == 0 && moody()) {
        r = answer(odd, sim_chance(300) ? "554 5.6.0 that is no letter\r\n" : "452 4.3.1 full\r\n");
    } else if (r == 0) {
        r = answer(odd, "250 2.0.0 taken\r\n");
        for (uint32_t i = 0; r == 0 && i < odd->recipient_count; i++)
            (void)sim_letter_met(buf_slice(&letter), odd->recipients[i], true);
    }
    buf_deinit(&letter);
    return r;
}

static int on_command(struct odd *odd, const char *line)
{
    if (strncasecmp(line, "EHLO", 4) == 0 || strncasecmp(line, "HELO", 4) == 0)
        return on_ehlo(odd, (line[0] | 0x20) == 'e');
    if (strncasecmp(line, "MAIL", 4) == 0)
        return on_mail(odd);
    if (strncasecmp(line, "RCPT", 4) == 0)
        return on_rcpt(odd, line);
    if (strncasecmp(line, "DATA", 4) == 0)
        return on_data(odd);
    if (strncasecmp(line, "QUIT", 4) == 0) {
        (void)answer(odd, "221 2.0.0 go\r\n");
        return -ECONNABORTED;
    }
    odd->in_mail = false;
    return answer(odd, "250 2.0.0 ok\r\n");
}

static void odd_main(void *argument)
{
    struct odd *odd = calloc(1, sizeof(*odd));
    char line[2048];
    int r = 0;

    ASSERT(odd != NULL);
    sim_peer_adopt(&odd->peer, argument);
    if (moody())
        r = sim_peer_write(&odd->peer, SLICE("421 4.3.2 come back later\r\n")) < 0 ? -EPIPE
                                                                                   : -ECONNABORTED;
    if (r == 0)
        r = answer(odd, "220-ganjil.test\r\n220 is at your service\r\n");
    while (r == 0) {
        r = (int)sim_peer_read_line(&odd->peer, line, sizeof(line));
        if (r >= 0)
            r = on_command(odd, line);
    }
    sim_peer_close(&odd->peer);
    free(odd);
}

static void odd_accepted(struct sim_end *end, void *context)
{
    (void)context;
    (void)sim_fiber_start(NULL, odd_main, end, sim.now_ns);
}

void sim_odd_serve(struct sim_host *host)
{
    sim_serve_tcp(host, SIM_SMTP_PORT, odd_accepted, NULL);
}
