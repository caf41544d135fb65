/* kilat-idle: opens many sessions that say EHLO and then nothing, and measures how long a new client waits for its greeting
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

int main(int argc, char **argv)
{
    struct sockaddr_in server = {.sin_family = AF_INET};
    struct rlimit files;
    unsigned count;
    char end;

    if (argc != 4 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1)
        errx(2, "expected ADDRESS PORT COUNT");
    server.sin_port = htons((uint16_t)atoi(argv[2]));
    count = (unsigned)atoi(argv[3]);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < count + 100)
        errx(77, "no more than %lu open files are allowed here", (unsigned long)files.rlim_max);
    for (unsigned i = 0; i < count; i++) {
        int fd = open_session(&server, i / PER_ADDRESS);

        if (send(fd, "EHLO diam.test\r\n", 16, MSG_NOSIGNAL) != 16)
            err(1, "EHLO");
        expect(fd, "250");
    }
    printf("ready\n");
    printf("greeted-ms %.0f\n", greeting_ms(&server));
    fflush(stdout);
    while (read(STDIN_FILENO, &end, 1) > 0)
        ;
    return 0;
}
