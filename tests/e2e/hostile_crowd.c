/* Many sessions at once. Each case says "ready" when its crowd stands, and goes on when a line arrives on standard input. */
#include "hostile.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define KIB 1024
#define MIB (1024 * KIB)
#define PER_SOURCE 400 /* fewer than sessions_per_address_max; then the next address */

/* False when standard input has ended instead. */
static bool ready(void)
{
    int c;

    printf("ready\n");
    (void)fflush(stdout);
    while ((c = getchar()) != '\n' && c != EOF)
        ;
    return c == '\n';
}

static struct client *crowd(unsigned count)
{
    struct client *clients = calloc(count, sizeof(*clients));

    if (clients == NULL)
        err(1, "a crowd of %u", count);
    return clients;
}

/* Argument: how many connections, of which the server may accept few; they say nothing. */
void case_flood(const struct target *target, const char *argument)
{
    unsigned count = (unsigned)atoi(argument);
    struct client *clients = crowd(count);

    for (unsigned i = 0; i < count; i++)
        client_open(&clients[i], &target->smtp, 1 + i / PER_SOURCE);
    (void)ready();
    for (unsigned i = 0; i < count; i++)
        client_close(&clients[i]);
    free(clients);
}

/* Argument: how many sessions one address may have; the next one is told 421, and there is room again afterwards. */
void case_one_address(const struct target *target, const char *argument)
{
    unsigned count = (unsigned)atoi(argument);
    struct client *clients = crowd(count), more;

    for (unsigned i = 0; i < count; i++)
        smtp_open(&clients[i], target, 1);
    client_open(&more, &target->smtp, 1);
    smtp_expect(&more, 421, "one session too many from one address");
    client_expect_end(&more, "the session that was told 421");
    client_close(&more);
    smtp_open(&more, target, 2); /* others are not concerned */
    smtp_quit(&more);
    for (unsigned i = 0; i < count; i++)
        smtp_quit(&clients[i]);
    smtp_open(&more, target, 1);
    smtp_quit(&more);
    free(clients);
}

/* ---- bodies ------------------------------------------------------------------------------------ */

#define BODY_TRIES 600
#define BODY_RETRY_MS 50

static char block[64 * KIB];

static void send_text(struct client *client, size_t size)
{
    while (size > 0) {
        size_t part = size < sizeof(block) ? size : sizeof(block);

        client_send(client, block, part);
        size -= part;
    }
}

/* A session up to 354; a server that has no room for a body just now (452) is asked again, as mail clients do. */
static void begin_body(struct client *client, const struct target *target, unsigned source,
                       size_t whole)
{
    for (unsigned i = 0; i < BODY_TRIES; i++) {
        int code;

        smtp_open_patiently(client, target, source);
        client_say(client,
                   "MAIL FROM:<x@asing.test> SIZE=%zu\r\nRCPT TO:<ani@kawan.test>\r\nDATA\r\n",
                   whole);
        smtp_expect(client, 250, "MAIL");
        smtp_expect(client, 250, "RCPT");
        code = smtp_reply(client);
        if (code == 354)
            return;
        if (code != 452)
            errx(1, "DATA: %s", client->line);
        smtp_quit(client);
        (void)poll(NULL, 0, BODY_RETRY_MS);
    }
    errx(1, "the server has no room for half a minute: %s", client->line);
}

/* Argument: SESSIONS,SENT,WHOLE: so many letters of WHOLE octets of which SENT are sent; then, for a line on standard
 * input, the rest, and each of them has to be accepted; without a line all sessions are cut. */
void case_bodies(const struct target *target, const char *argument)
{
    unsigned count, number = 0;
    size_t sent, whole;
    struct client *clients;

    if (argument == NULL || sscanf(argument, "%u,%zu,%zu", &count, &sent, &whole) != 3)
        errx(2, "expected SESSIONS,SENT,WHOLE");
    clients = crowd(count);
    for (size_t at = 0; at < sizeof(block); at += 64)
        memcpy(block + at, "baris demi baris dari surat yang panjang sekali, empat kali 16\r\n",
               64);
    for (unsigned i = 0; i < count; i++) {
        begin_body(&clients[i], target, 1 + i / PER_SOURCE, whole);
        client_say(&clients[i], "Subject: badan %u\r\n\r\n", ++number);
        send_text(&clients[i], sent);
    }
    if (ready()) {
        for (unsigned i = 0; i < count; i++) {
            send_text(&clients[i], whole - sent);
            client_say(&clients[i], "\r\n.\r\n");
        }
        for (unsigned i = 0; i < count; i++) {
            smtp_expect(&clients[i], 250, "a letter under pressure");
            smtp_quit(&clients[i]);
        }
    } else {
        for (unsigned i = 0; i < count; i++)
            client_cut(&clients[i]);
    }
    free(clients);
}

/* Argument: how many sessions send commands until the server has stopped reading them, and read none of its replies. */
void case_stalled(const struct target *target, const char *argument)
{
    unsigned count = (unsigned)atoi(argument), stuck = 0;
    struct client *clients = crowd(count);
    struct pollfd *waiting = calloc(count, sizeof(*waiting));
    int small = 4096;

    if (waiting == NULL)
        err(1, "a crowd of %u", count);
    for (size_t at = 0; at < sizeof(block); at += 8)
        memcpy(block + at, "EHLO a\r\n", 8);
    for (unsigned i = 0; i < count; i++) {
        smtp_open(&clients[i], target, 1 + i / PER_SOURCE);
        (void)setsockopt(clients[i].fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
        (void)setsockopt(clients[i].fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
        (void)fcntl(clients[i].fd, F_SETFL, O_NONBLOCK);
        waiting[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLOUT};
    }
    /* Half a second in which none of them takes anything: all are stuck. */
    while (poll(waiting, count, 500) > 0)
        for (unsigned i = 0; i < count; i++)
            if ((waiting[i].revents & POLLOUT) != 0 &&
                send(clients[i].fd, block, sizeof(block), MSG_NOSIGNAL) < 0 && errno != EAGAIN) {
                waiting[i].fd = -1; /* the server has given it up */
                stuck++;
            }
    printf("%u of them were given up\n", stuck);
    (void)ready();
    for (unsigned i = 0; i < count; i++)
        client_cut(&clients[i]);
    free(clients);
    free(waiting);
}
