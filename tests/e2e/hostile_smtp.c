/* SMTP clients that ask for what they must not have, or for more than there is. */
#include "hostile.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define KIB 1024
#define MIB (1024 * KIB)

/* ---- relaying (SECURITY 1.2 E) --------------------------------------------------------------- */

static const char *const relay_forms[] = {
    "<ani%lain.test@kawan.test>",
    "<lain.test!ani@kawan.test>",
    "<@kawan.test:y@lain.test>",
    "<@kawan.test,@kawan.test:y@lain.test>",
    "<\"y@lain.test\"@kawan.test>",
    "<\"y%lain.test\"@kawan.test>",
    "<y@[127.0.0.1]>",
    "<y@[IPv6:::1]>",
    "<y@bukankawan.test>",
    "<y@kawan.test.lain.test>",
    "<y@sub.kawan.test>",
    "<y@kawan>",
    "<y@kawan.test.>",
    "<y@lain.test@kawan.test>",
    "<ani@kawan.test@lain.test>",
    "<\"y\"@lain.test>",
    "<y%lain.test>",
    "<y@lain.test,ani@kawan.test>",
    "<ani@kawan.test><y@lain.test>",
    "<postmaster@lain.test>",
};

/* Nobody may send to others through us, whoever he says he is. */
void case_relay(const struct target *target, const char *argument)
{
    static const char *const senders[] = {"<>", "<ani@kawan.test>", "<x@asing.test>",
                                          "<postmaster@kawan.test>"};

    (void)argument;
    for (size_t s = 0; s < COUNT_OF(senders); s++)
        for (size_t i = 0; i < COUNT_OF(relay_forms); i++) {
            struct client client;

            smtp_open(&client, target, 0);
            client_say(&client, "MAIL FROM:%s\r\nRCPT TO:%s\r\nDATA\r\n", senders[s],
                       relay_forms[i]);
            smtp_expect(&client, 250, "MAIL");
            if (smtp_reply(&client) / 100 != 5)
                errx(1, "RCPT TO:%s from %s: %s", relay_forms[i], senders[s], client.line);
            if (smtp_reply(&client) / 100 != 5)
                errx(1, "DATA without a recipient: %s", client.line);
            smtp_quit(&client);
        }
}

/* ---- who is no mail client at all ---------------------------------------------------------------- */

#define SECRET "rahasia-jangan-diulang"

struct stranger {
    const char *bytes;
    size_t size;
};
#define STRANGER(bytes)                                                                            \
    {                                                                                              \
        bytes, sizeof(bytes) - 1                                                                   \
    }

static const struct stranger strangers[] = {
    STRANGER("POST /" SECRET " HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"
             "EHLO a\r\nMAIL FROM:<x@asing.test>\r\nRCPT TO:<ani@kawan.test>\r\nDATA\r\n" SECRET
             "\r\n.\r\nQUIT\r\n"),
    STRANGER("GET / HTTP/1.1\r\nHost: " SECRET "\r\n\r\n"),
    STRANGER("\x16\x03\x01\x00\xfc\x01\x00\x00\xf8\x03\x03" SECRET "\r\nEHLO a\r\n"),
    STRANGER("\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" SECRET),
    STRANGER("SSH-2.0-" SECRET "\r\n"),
    STRANGER("\0\0\0\x2a" SECRET "\r\n\r\n"),
    STRANGER(
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"),
    STRANGER(SECRET "\nEHLO a\nMAIL FROM:<x@asing.test>\nRCPT TO:<ani@kawan.test>\nDATA\n\n.\n"),
    STRANGER("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$22\r\n" SECRET "\r\n"),
};

/* It is heard, told nothing of what it said, and the connection ends. */
static void be_strange(const struct sockaddr_in *server, const void *bytes, size_t size)
{
    struct client client;

    client_open(&client, server, 0);
    if (client_try_send(&client, bytes, size))
        (void)shutdown(client.fd, SHUT_WR);
    while (client_line(&client)) {
        if (strstr(client.line, SECRET) != NULL)
            errx(1, "the server repeats what a stranger said: %s", client.line);
        if (strncmp(client.line, "250 2.0.0", 9) == 0 || strncmp(client.line, "354", 3) == 0)
            errx(1, "the server takes a letter from a stranger: %s", client.line);
    }
    client_close(&client);
}

/* xorshift64: the same noise for the same seed. */
static uint64_t noise(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

void case_strangers(const struct target *target, const char *argument)
{
    uint64_t state = argument == NULL ? 20261124 : strtoull(argument, NULL, 10);
    uint8_t bytes[2048];

    printf("seed %llu\n", (unsigned long long)state);
    for (size_t i = 0; i < COUNT_OF(strangers); i++) {
        be_strange(&target->smtp, strangers[i].bytes, strangers[i].size);
        be_strange(&target->pop3, strangers[i].bytes, strangers[i].size);
    }
    for (unsigned i = 0; i < 200; i++) {
        size_t size = noise(&state) % sizeof(bytes);

        for (size_t at = 0; at < size; at++)
            bytes[at] = (uint8_t)noise(&state);
        for (size_t at = 0; i % 2 == 0 && at + 1 < size; at += 16 + noise(&state) % 64)
            memcpy(bytes + at, "\r\n", 2); /* noise that comes in lines */
        be_strange(&target->smtp, bytes, size);
        be_strange(&target->pop3, bytes, size);
    }
}

/* ---- much of one thing ------------------------------------------------------------------------------ */

#define NOOPS 5000

void case_noops(const struct target *target, const char *argument)
{
    static char bytes[NOOPS * 6];
    struct client client;

    (void)argument;
    for (size_t i = 0; i < NOOPS; i++)
        memcpy(bytes + i * 6, "NOOP\r\n", 6);
    smtp_open(&client, target, 0);
    client_send(&client, bytes, sizeof(bytes));
    client_say(&client, "VRFY ani\r\n");
    for (size_t i = 0; i < NOOPS; i++)
        smtp_expect(&client, 250, "a pipelined NOOP");
    smtp_expect(&client, 252, "VRFY after them");
    smtp_quit(&client);
}

/* A line of 16 MiB: its reply, an end, and no memory. Argument: the server's pid. */
void case_line(const struct target *target, const char *argument)
{
    static char bytes[64 * KIB];
    long before;
    struct client client, other;

    memset(bytes, 'x', sizeof(bytes));
    smtp_open(&other, target, 0);
    before = memory_kib(argument);
    for (unsigned i = 0; i < 4; i++) {
        smtp_open(&client, target, 0);
        client_say(&client, "NOOP ");
        for (size_t sent = 0; sent < 16 * MIB && client_try_send(&client, bytes, sizeof(bytes));
             sent += sizeof(bytes))
            ;
        client_expect_end(&client, "a line of 16 MiB");
        client_close(&client);
    }
    if (memory_kib(argument) - before > 2 * KIB)
        errx(1, "lines of 16 MiB made the server %ld KiB bigger", memory_kib(argument) - before);
    smtp_quit(&other);
}

/* 1000 recipients are taken, and the next ones are told 452. They are all the same one, who gets one letter. */
void case_recipients(const struct target *target, const char *argument)
{
    struct client client;

    (void)argument;
    smtp_open(&client, target, 0);
    client_say(&client, "MAIL FROM:<x@asing.test>\r\n");
    smtp_expect(&client, 250, "MAIL");
    for (unsigned i = 0; i < 1000; i++)
        client_say(&client, "RCPT TO:<%s@kawan.test>\r\n", i % 2 == 0 ? "ani" : "ANI");
    for (unsigned i = 0; i < 1000; i++)
        smtp_expect(&client, 250, "one of a thousand recipients");
    for (unsigned i = 0; i < 3; i++) {
        client_say(&client, "RCPT TO:<budi@kawan.test>\r\n");
        smtp_expect(&client, 452, "one recipient too many");
    }
    client_say(&client, "DATA\r\n");
    smtp_expect(&client, 354, "DATA");
    client_say(&client, "Subject: seribu\r\n\r\nsatu\r\n.\r\n");
    smtp_expect(&client, 250, "a letter to a thousand");
    smtp_quit(&client);
    printf("1\n");
}

/* ---- the size of a letter -------------------------------------------------------------------------------- */

#define SIZE_LIMIT (64 * KIB) /* message_bytes_max of the server */

/* A letter of `size` octets as it is stored; with `dots` each line of it begins with one, which SMTP doubles (RFC 5321
 * 4.5.2) and SIZE does not count (RFC 1870 3). */
static void send_sized(struct client *client, size_t size, bool dots)
{
    static char bytes[4 * SIZE_LIMIT];
    size_t at = 0, stored = 0;

    at += (size_t)sprintf(bytes, "Subject: ukuran\r\n\r\n");
    stored = at;
    while (stored < size) {
        size_t line = size - stored > 80 ? 40 : size - stored - 2;

        if (dots)
            bytes[at++] = '.';
        memset(bytes + at, dots ? '.' : 'x', line);
        memcpy(bytes + at + line, "\r\n", 2);
        at += line + 2;
        stored += line + 2;
    }
    memcpy(bytes + at, ".\r\n", 3);
    client_send(client, bytes, at + 3);
}

/* Prints how many letters were accepted. */
void case_sizes(const struct target *target, const char *argument)
{
    static const struct {
        size_t size;
        int code;
    } rows[] = {{SIZE_LIMIT - 1, 250}, {SIZE_LIMIT, 250}, {SIZE_LIMIT + 1, 552}};
    struct client client;
    unsigned accepted = 0;
    char what[64];

    (void)argument;
    smtp_open(&client, target, 0);
    for (size_t i = 0; i < 2 * COUNT_OF(rows); i++) {
        (void)snprintf(what, sizeof(what), "a letter of %zu octets%s", rows[i / 2].size,
                       i % 2 == 0 ? "" : " in lines of dots");
        smtp_envelope(&client);
        send_sized(&client, rows[i / 2].size, i % 2 == 1);
        smtp_expect(&client, rows[i / 2].code, what);
        accepted += rows[i / 2].code == 250;
    }
    client_say(&client, "MAIL FROM:<x@asing.test> SIZE=%u\r\n", SIZE_LIMIT);
    smtp_expect(&client, 250, "SIZE at the limit");
    client_say(&client, "RSET\r\nMAIL FROM:<x@asing.test> SIZE=%u\r\n", SIZE_LIMIT + 1);
    smtp_expect(&client, 250, "RSET");
    smtp_expect(&client, 552, "SIZE over the limit");
    client_say(&client, "MAIL FROM:<x@asing.test> SIZE=18446744073709551617\r\n");
    if (smtp_reply(&client) / 100 != 5)
        errx(1, "SIZE of 2^64+1: %s", client.line);
    smtp_quit(&client);
    printf("%u\n", accepted);
}

/* 100 Received fields are a long way, more are a loop (RFC 5321 6.3). Prints how many letters were accepted. */
void case_received(const struct target *target, const char *argument)
{
    static const struct {
        unsigned count;
        int code;
    } rows[] = {{100, 250}, {101, 554}, {150, 554}};
    struct client client;

    (void)argument;
    smtp_open(&client, target, 0);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        smtp_envelope(&client);
        for (unsigned n = 0; n < rows[i].count; n++)
            client_say(&client,
                       "Received: from a.test by b.test; Tue, 24 Nov 2026 10:00:00 +0700\r\n");
        client_say(&client, "Subject: jalan\r\n\r\nsatu\r\n.\r\n");
        smtp_expect(&client, rows[i].code, "a letter that came a long way");
    }
    smtp_quit(&client);
    printf("1\n");
}
