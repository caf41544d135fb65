/* POP3 clients, and the control socket, with what they must not get away with. */
#include "hostile.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static unsigned letters(struct client *client)
{
    unsigned count;

    pop3_expect(client, true, "STAT");
    if (sscanf(client->line, "+OK %u", &count) != 1)
        errx(1, "STAT: %s", client->line);
    return count;
}

/* Reads letter `number` up to its lone dot; client_line() has looked at the line ends. */
static void read_letter(struct client *client, unsigned number)
{
    bool in_header = true;
    unsigned subjects = 0;

    client_say(client, "RETR %u\r\n", number);
    if (!pop3_reply(client))
        errx(1, "RETR %u: %s", number, client->line);
    while (client_line(client) && strcmp(client->line, ".") != 0) {
        if (client->line[0] == '.' && client->line[1] != '.')
            errx(1, "letter %u: a line that is not stuffed: %s", number, client->line);
        in_header = in_header && client->line[0] != '\0';
        if (!in_header || strncmp(client->line, "Subject:", 8) != 0)
            continue;
        subjects++;
        if (strstr(client->line, "selundupan") != NULL)
            errx(1, "letter %u was smuggled in", number);
    }
    if (subjects > 1)
        errx(1, "letter %u has %u subjects", number, subjects);
}

/* Argument: how many letters there have to be. All are read, looked at, and deleted. */
void case_mailbox(const struct target *target, const char *argument)
{
    unsigned wanted = argument == NULL ? 0 : (unsigned)atoi(argument), count;
    struct client client;

    (void)pop3_open(&client, target, true);
    count = letters(&client);
    if (count != wanted)
        errx(1, "%u letters were accepted, and %u are in the mailbox", wanted, count);
    for (unsigned i = 1; i <= count; i++) {
        read_letter(&client, i);
        client_say(&client, "DELE %u\r\n", i);
        if (!pop3_reply(&client))
            errx(1, "DELE %u: %s", i, client.line);
    }
    pop3_expect(&client, true, "QUIT");
    client_expect_end(&client, "the end of POP3");
    client_close(&client);
}

/* Needs one letter, which stays. */
void case_numbers(const struct target *target, const char *argument)
{
    static const char *const wrong[] = {"RETR 4294967297",
                                        "RETR 18446744073709551617",
                                        "RETR -1",
                                        "RETR 1abc",
                                        "RETR 0x1",
                                        "DELE 4294967297",
                                        "DELE -1",
                                        "DELE 0",
                                        "LIST 1abc",
                                        "UIDL +1",
                                        "TOP 1 18446744073709551616",
                                        "TOP 1 -1"};
    struct client client;

    (void)argument;
    (void)pop3_open(&client, target, true);
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        pop3_expect(&client, false, wrong[i]);
    pop3_expect(&client, true, "TOP 1 4294967295");
    while (client_line(&client) && strcmp(client.line, ".") != 0)
        ;
    pop3_expect(&client, true, "QUIT");
    client_close(&client);
}

/* The second session on a mailbox is told so at once, and the lock goes with the first. */
void case_in_use(const struct target *target, const char *argument)
{
    struct client first, second;

    (void)argument;
    (void)pop3_open(&first, target, true);
    if (pop3_open(&second, target, false))
        errx(1, "two sessions have one mailbox");
    client_close(&second);
    pop3_expect(&first, true, "NOOP");
    client_cut(&first);
    (void)pop3_open(&second, target, true);
    pop3_expect(&second, true, "QUIT");
    client_close(&second);
}

/* Deletes without QUIT are none (RFC 1939 3), however the connection ends. */
void case_cut(const struct target *target, const char *argument)
{
    struct client client;
    unsigned count = 0;

    (void)argument;
    for (unsigned i = 0; i < 3; i++) {
        (void)pop3_open(&client, target, true);
        if (i > 0 && letters(&client) != count)
            errx(1, "a delete without QUIT took place");
        count = letters(&client);
        pop3_expect(&client, true, "DELE 1");
        if (i == 0)
            client_close(&client);
        else if (i == 1)
            client_cut(&client);
        else
            client_say(&client, "QUI"); /* the beginning of a goodbye is none */
        if (i == 2)
            client_close(&client);
    }
    (void)pop3_open(&client, target, true);
    if (letters(&client) != count)
        errx(1, "a delete without QUIT took place");
    pop3_expect(&client, true, "QUIT");
    client_close(&client);
}

/* ---- the control socket -------------------------------------------------------------------------------- */

#define BYTES(text)                                                                                \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }

static const struct {
    const char *bytes;
    size_t size;
} nonsense[] = {
    BYTES("GET / HTTP/1.1\r\n\r\n"),
    BYTES("KCTL"),
    BYTES("KCTL\x01\0\0\0\0\0\0\0"),
    BYTES("KCTL\x01\0\x01\0\xff\xff\xff\xff"),
    BYTES("KCTL\x01\0\xff\xff\x08\0\0\0\x04\0\0\0text"),
    BYTES("KCTL\x01\0\x01\0\x08\0\0\0\xff\xff\xff\xfftext"),
    BYTES("KCTL\x01\0\x02\0\x0d\0\0\0\x04\0\0\0json\xf0\xff\xff\xffx"),
    BYTES("KCTL\x02\0\x01\0\x08\0\0\0\x04\0\0\0text"),
    BYTES("KCTL\x01\0\x01\0\x08\0\0\0\x04\0\0\0TEXT"),
    BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
};

/* Each of them ends its connection and nothing else. */
void case_control(const struct target *target, const char *argument)
{
    struct client client;

    (void)argument;
    for (size_t i = 0; i < COUNT_OF(nonsense); i++) {
        client_open_unix(&client, target->control);
        if (client_try_send(&client, nonsense[i].bytes, nonsense[i].size))
            (void)shutdown(client.fd, SHUT_WR);
        client_expect_end(&client, "nonsense on the control socket");
        client_close(&client);
    }
}

/* Half requests, more than the server keeps sessions for; held until standard input ends. */
void case_control_half(const struct target *target, const char *argument)
{
    static struct client clients[100];

    (void)argument;
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        client_open_unix(&clients[i], target->control);
        (void)client_try_send(&clients[i], "KCTL\x01\0", 6);
    }
    printf("ready\n");
    (void)fflush(stdout);
    while (getchar() != EOF)
        ;
}
