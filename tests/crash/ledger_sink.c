/* The other ends: a server that takes letters and notes each one before its 250, and a reader of a Maildir. */
#include "tests/crash/ledger.h"

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MESSAGE_MAX (2 * LEDGER_LETTER_MAX)

static int sink_ledger_fd; /* of the one sink of this program */

struct guest {
    FILE *in, *out;
    char line[4096];
    char *message;
};

static bool read_line(struct guest *guest)
{
    return fgets(guest->line, sizeof(guest->line), guest->in) != NULL;
}

static void answer(struct guest *guest, const char *text)
{
    fputs(text, guest->out);
    fflush(guest->out);
}

/* After 354: everything to the final dot, unstuffed. False when the line was cut: then nothing was received. */
static bool read_message(struct guest *guest, size_t *ret_size)
{
    *ret_size = 0;
    while (read_line(guest)) {
        const char *line = guest->line;
        size_t size = strlen(line);

        if (strcmp(line, ".\r\n") == 0)
            return true;
        if (line[0] == '.')
            line++, size--;
        if (*ret_size + size > MESSAGE_MAX)
            errx(2, "sink: a message is too long");
        memcpy(guest->message + *ret_size, line, size);
        *ret_size += size;
    }
    return false;
}

static void note_message(struct guest *guest, size_t size)
{
    uint64_t number;
    bool unaltered;

    if (!ledger_check(guest->message, size, false, &number, &unaltered))
        ledger_note(sink_ledger_fd, 0, "foreign"); /* a report, for example */
    else
        ledger_note(sink_ledger_fd, number, unaltered ? "ok" : "altered");
}

static void *serve(void *argument)
{
    struct guest guest = {.in = argument};
    size_t size;

    guest.out = fdopen(dup(fileno(guest.in)), "w");
    guest.message = malloc(MESSAGE_MAX);
    if (guest.out == NULL || guest.message == NULL)
        errx(2, "out of memory");
    answer(&guest, "220 sink.test ESMTP\r\n");
    while (read_line(&guest)) {
        if (strncasecmp(guest.line, "EHLO", 4) == 0) {
            answer(&guest, "250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
        } else if (strncasecmp(guest.line, "DATA", 4) == 0) {
            answer(&guest, "354 go on\r\n");
            if (!read_message(&guest, &size))
                break;
            note_message(&guest, size);
            answer(&guest, "250 2.0.0 noted\r\n");
        } else if (strncasecmp(guest.line, "QUIT", 4) == 0) {
            answer(&guest, "221 2.0.0 bye\r\n");
            break;
        } else {
            answer(&guest, "250 2.0.0 ok\r\n");
        }
    }
    fclose(guest.in);
    fclose(guest.out);
    free(guest.message);
    return NULL;
}

int ledger_sink(int argc, char **argv)
{
    struct sockaddr_in address;
    int one = 1, listener;

    if (argc != 3)
        errx(2, "sink: expected ADDRESS:PORT LEDGER");
    ledger_address(argv[1], &address);
    sink_ledger_fd = ledger_open(argv[2]);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 1024) < 0)
        err(2, "sink: %s", argv[1]);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        FILE *in = fd < 0 ? NULL : fdopen(fd, "r");
        pthread_t thread;

        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (in == NULL || pthread_create(&thread, NULL, serve, in) != 0)
            err(2, "sink: accept");
        pthread_detach(thread);
    }
}

static void read_file(const char *directory, const char *name)
{
    char *path, *text;
    struct stat info;
    uint64_t number;
    bool unaltered;
    int fd;

    if (asprintf(&path, "%s/%s", directory, name) < 0)
        errx(2, "out of memory");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0)
        err(2, "%s", path);
    text = malloc((size_t)info.st_size + 1);
    if (text == NULL || read(fd, text, (size_t)info.st_size) != info.st_size)
        err(2, "%s", path);
    close(fd);
    if (ledger_check(text, (size_t)info.st_size, true, &number, &unaltered))
        printf("%" PRIu64 " %s\n", number, unaltered ? "ok" : "altered");
    else
        printf("0 foreign\n");
    free(text);
    free(path);
}

int ledger_read(int argc, char **argv)
{
    static const char *const below[] = {"new", "cur"};

    if (argc != 2)
        errx(2, "read: expected DIRECTORY");
    for (size_t i = 0; i < 2; i++) {
        char *path;
        struct dirent *entry;
        DIR *dir;

        if (asprintf(&path, "%s/%s", argv[1], below[i]) < 0)
            errx(2, "out of memory");
        dir = opendir(path);
        if (dir == NULL)
            err(2, "%s", path);
        while ((entry = readdir(dir)) != NULL)
            if (entry->d_name[0] != '.')
                read_file(path, entry->d_name);
        closedir(dir);
        free(path);
    }
    return 0;
}
