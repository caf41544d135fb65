#include "hostile.h"

#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define STEP_S 30

static void client_begin(struct client *client, int family)
{
    struct timeval limit = {.tv_sec = STEP_S};
    int on = 1;

    client->begin = client->end = 0;
    client->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        err(1, "socket");
    (void)setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (family == AF_INET)
        (void)setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void client_open(struct client *client, const struct sockaddr_in *server, unsigned source)
{
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(0x7f010000 + source)};

    client_begin(client, AF_INET);
    if (source != 0 && bind(client->fd, (struct sockaddr *)&from, sizeof(from)) < 0)
        err(1, "bind");
    if (connect(client->fd, (const struct sockaddr *)server, sizeof(*server)) < 0)
        err(1, "connect");
}

void client_open_unix(struct client *client, const char *path)
{
    struct sockaddr_un server = {.sun_family = AF_UNIX};

    client_begin(client, AF_UNIX);
    (void)snprintf(server.sun_path, sizeof(server.sun_path), "%s", path);
    if (connect(client->fd, (const struct sockaddr *)&server, sizeof(server)) < 0)
        err(1, "connect to %s", path);
}

void client_close(struct client *client)
{
    (void)close(client->fd);
    client->fd = -1;
}

void client_cut(struct client *client)
{
    struct linger reset = {.l_onoff = 1};

    (void)setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    client_close(client);
}

bool client_try_send(struct client *client, const void *bytes, size_t size)
{
    const char *at = bytes;

    while (size > 0) {
        ssize_t sent = send(client->fd, at, size, MSG_NOSIGNAL);

        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
            return false;
        if (sent < 0)
            err(1, "send");
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

void client_send(struct client *client, const void *bytes, size_t size)
{
    if (!client_try_send(client, bytes, size))
        errx(1, "the server closed a connection that should go on");
}

void client_say(struct client *client, const char *format, ...)
{
    char text[4096];
    va_list args;
    int size;

    va_start(args, format);
    size = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (size < 0 || (size_t)size >= sizeof(text))
        errx(1, "too long to say");
    client_send(client, text, (size_t)size);
}

/* False at the end; a connection that was reset has ended as well. */
static bool receive(struct client *client)
{
    ssize_t got;

    if (client->begin == client->end)
        client->begin = client->end = 0;
    memmove(client->input, client->input + client->begin, client->end - client->begin);
    client->end -= client->begin;
    client->begin = 0;
    got = recv(client->fd, client->input + client->end, sizeof(client->input) - client->end, 0);
    if (got < 0 && errno != ECONNRESET)
        err(1, "waiting for the server (last line: %.200s)", client->line);
    if (got <= 0)
        return false;
    client->end += (size_t)got;
    return true;
}

bool client_line(struct client *client)
{
    const char *end;
    size_t size;

    while ((end = memchr(client->input + client->begin, '\n', client->end - client->begin)) ==
           NULL) {
        if (client->end - client->begin == sizeof(client->input))
            errx(1, "the server's line has no end");
        if (!receive(client)) {
            if (client->begin < client->end)
                errx(1, "the server's last line is cut");
            return false;
        }
    }
    size = (size_t)(end - (client->input + client->begin));
    memcpy(client->line, client->input + client->begin, size);
    client->begin += size + 1;
    if (size == 0 || client->line[size - 1] != '\r')
        errx(1, "the server sent a bare LF: %.*s", (int)size, client->line);
    client->line[--size] = '\0';
    if (memchr(client->line, '\r', size) != NULL)
        errx(1, "the server sent a bare CR: %s", client->line);
    if (memchr(client->line, '\0', size) != NULL)
        errx(1, "the server sent a NUL: %s", client->line);
    return true;
}

void client_expect_end(struct client *client, const char *what)
{
    (void)snprintf(client->line, sizeof(client->line), "%s", what); /* receive() shows it */
    do
        client->begin = client->end;
    while (receive(client));
}

int smtp_reply(struct client *client)
{
    do {
        if (!client_line(client))
            return 0;
        if (strlen(client->line) < 3)
            errx(1, "not a reply: %s", client->line);
    } while (client->line[3] == '-');
    return atoi(client->line);
}

void smtp_expect(struct client *client, int code, const char *what)
{
    int got = smtp_reply(client);

    if (got != code)
        errx(1, "%s: expected %d, got %s", what, code, got == 0 ? "the end" : client->line);
}

void smtp_open(struct client *client, const struct target *target, unsigned source)
{
    client_open(client, &target->smtp, source);
    smtp_expect(client, 220, "the greeting");
    client_say(client, "EHLO jahat.test\r\n");
    smtp_expect(client, 250, "EHLO");
}

#define PATIENCE_MS 50
#define PATIENCE_TRIES 600

void smtp_open_patiently(struct client *client, const struct target *target, unsigned source)
{
    for (unsigned i = 0; i < PATIENCE_TRIES; i++) {
        int code;

        client_open(client, &target->smtp, source);
        code = smtp_reply(client);
        if (code == 220) {
            client_say(client, "EHLO jahat.test\r\n");
            smtp_expect(client, 250, "EHLO");
            return;
        }
        if (code != 421)
            errx(1, "the greeting: %s", client->line);
        client_close(client);
        (void)poll(NULL, 0, PATIENCE_MS);
    }
    errx(1, "the server refuses for half a minute: %s", client->line);
}

void smtp_envelope(struct client *client)
{
    client_say(client, "MAIL FROM:<x@asing.test>\r\nRCPT TO:<ani@kawan.test>\r\nDATA\r\n");
    smtp_expect(client, 250, "MAIL");
    smtp_expect(client, 250, "RCPT");
    smtp_expect(client, 354, "DATA");
}

void smtp_quit(struct client *client)
{
    client_say(client, "QUIT\r\n");
    smtp_expect(client, 221, "QUIT");
    if (smtp_reply(client) != 0)
        errx(1, "after QUIT came: %s", client->line);
    client_close(client);
}

bool pop3_reply(struct client *client)
{
    if (!client_line(client))
        errx(1, "POP3: the connection ended where a reply was due");
    if (client->line[0] != '+' && client->line[0] != '-')
        errx(1, "POP3: not a reply: %s", client->line);
    return client->line[0] == '+';
}

void pop3_expect(struct client *client, bool ok, const char *command)
{
    client_say(client, "%s\r\n", command);
    if (pop3_reply(client) != ok)
        errx(1, "POP3: %s: %s", command, client->line);
}

bool pop3_open(struct client *client, const struct target *target, bool wait)
{
    for (;;) {
        client_open(client, &target->pop3, 0);
        if (!pop3_reply(client))
            errx(1, "POP3: no greeting: %s", client->line);
        pop3_expect(client, true, "USER ani@kawan.test");
        client_say(client, "PASS rahasia-ani\r\n");
        if (pop3_reply(client))
            return true;
        if (strstr(client->line, "[IN-USE]") == NULL)
            errx(1, "POP3: log-in refused: %s", client->line);
        if (!wait)
            return false;
        client_close(client);
    }
}

long memory_kib(const char *pid)
{
    char path[64], line[256];
    long kib = 0;
    FILE *file;

    if (pid == NULL || strcmp(pid, "0") == 0)
        return 0;
    (void)snprintf(path, sizeof(path), "/proc/%s/status", pid);
    file = fopen(path, "re");
    if (file == NULL)
        err(1, "%s", path);
    while (fgets(line, sizeof(line), file) != NULL)
        (void)sscanf(line, "VmRSS: %ld", &kib);
    (void)fclose(file);
    return kib;
}
