/* kilat-idle: opens many sessions that say EHLO and then nothing, or, with a recipient, each begin a letter that they
 * announce with 50 MB, send 2 MB of it, and then say nothing; and measures how long a new client waits for its greeting
 * meanwhile. Prints "ready", then "greeted-ms N" (the longest of some), and holds the sessions until its input ends. */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PER_ADDRESS                                                                                \
    500 /* fewer than sessions_per_address_max; the next address of 127.1.0.0/16 after that */
#define NEW_CLIENTS 20
#define ANNOUNCED_BYTES 50000000u
#define SENT_BYTES 2000000u

static void expect(int fd, const char *code)
{
    char reply[1024];
    size_t size = 0;

    do {
        ssize_t got = recv(fd, reply + size, sizeof(reply) - 1 - size, 0);

        if (got <= 0)
            errx(1, "the connection ended instead of %s", code);
        size += (size_t)got;
        reply[size] = '\0';
    } while (reply[size - 1] != '\n');
    if (strncmp(reply, code, 3) != 0)
        errx(1, "expected %s, got: %s", code, reply);
}

static int open_session(const struct sockaddr_in *server, unsigned source)
{
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(0x7f010001 + source)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        err(1, "socket");
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
        connect(fd, (const struct sockaddr *)server, sizeof(*server)) < 0)
        err(1, "connect");
    expect(fd, "220");
    return fd;
}

static double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static double greeting_ms(const struct sockaddr_in *server)
{
    double longest = 0;

    for (unsigned i = 0; i < NEW_CLIENTS; i++) {
        double start = now_ms(), took;

        close(open_session(server, 60000));
        took = now_ms() - start;
        longest = took > longest ? took : longest;
    }
    return longest;
}

static void say(int fd, const char *text, const char *code)
{
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
        err(1, "%.4s", text);
    expect(fd, code);
}

/* Two of the fifty megabytes, in lines of a hundred octets. */
static void begin_letter(int fd, const char *recipient)
{
    static char lines[100 * 1000];
    char text[512];

    for (size_t i = 0; i < sizeof(lines); i++)
        lines[i] = i % 100 == 98 ? '\r' : i % 100 == 99 ? '\n' : 'k';
    snprintf(text, sizeof(text), "MAIL FROM:<besar@diam.test> SIZE=%u\r\n", ANNOUNCED_BYTES);
    say(fd, text, "250");
    snprintf(text, sizeof(text), "RCPT TO:<%s>\r\n", recipient);
    say(fd, text, "250");
    say(fd, "DATA\r\n", "354");
    for (size_t sent = 0; sent < SENT_BYTES;) {
        ssize_t part = send(fd, lines + sent % sizeof(lines), sizeof(lines) - sent % sizeof(lines),
                            MSG_NOSIGNAL);

        if (part <= 0)
            err(1, "the body");
        sent += (size_t)part;
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in server = {.sin_family = AF_INET};
    struct rlimit files;
    unsigned count;
    char end;

    if (argc < 4 || argc > 5 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1)
        errx(2, "expected ADDRESS PORT COUNT [RECIPIENT]");
    server.sin_port = htons((uint16_t)atoi(argv[2]));
    count = (unsigned)atoi(argv[3]);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < count + 100)
        errx(77, "no more than %lu open files are allowed here", (unsigned long)files.rlim_max);
    for (unsigned i = 0; i < count; i++) {
        int fd = open_session(&server, i / PER_ADDRESS);

        say(fd, "EHLO diam.test\r\n", "250");
        if (argc == 5)
            begin_letter(fd, argv[4]);
    }
    printf("ready\n");
    printf("greeted-ms %.0f\n", greeting_ms(&server));
    fflush(stdout);
    while (read(STDIN_FILENO, &end, 1) > 0)
        ;
    return 0;
}
