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

/* How many sessions are open stands in a file, so that a test can wait until all that was sent has been read. */
static int sink_open_fd, sink_open_count;
static pthread_mutex_t sink_open_mutex = PTHREAD_MUTEX_INITIALIZER;

static void count_session(int change)
{
    char text[16];

    pthread_mutex_lock(&sink_open_mutex);
    sink_open_count += change;
    snprintf(text, sizeof(text), "%8d\n", sink_open_count);
    if (pwrite(sink_open_fd, text, 9, 0) != 9)
        err(2, "writing the number of sessions");
    pthread_mutex_unlock(&sink_open_mutex);
}

struct guest {
    int fd;
    FILE *out;
    char *message;
    size_t input_at, input_size;
    char input[64 * 1024];
};

/* Answers are sent when nothing more of the peer's is at hand: a pipelined group costs one packet. */
static bool read_more(struct guest *guest)
{
    ssize_t got;

    if (fflush(guest->out) != 0)
        return false;
    memmove(guest->input, guest->input + guest->input_at, guest->input_size - guest->input_at);
    guest->input_size -= guest->input_at;
    guest->input_at = 0;
    got = recv(guest->fd, guest->input + guest->input_size,
               sizeof(guest->input) - guest->input_size, 0);
    if (got <= 0)
        return false;
    guest->input_size += (size_t)got;
    return true;
}

/* The next line with its LF, borrowed until the next call; NULL at the end of the connection, which may cut a line. */
static const char *read_line(struct guest *guest, size_t *ret_size)
{
    for (;;) {
        const char *line = guest->input + guest->input_at;
        const char *end = memchr(line, '\n', guest->input_size - guest->input_at);

        if (end != NULL) {
            *ret_size = (size_t)(end + 1 - line);
            guest->input_at += *ret_size;
            return line;
        }
        if (!read_more(guest))
            return NULL;
    }
}

static void answer(struct guest *guest, const char *text)
{
    fputs(text, guest->out);
}

/* After 354: everything to the final dot, unstuffed. False when the line was cut: then nothing was received. */
static bool read_message(struct guest *guest, size_t *ret_size)
{
    const char *line;
    size_t size;

    *ret_size = 0;
    while ((line = read_line(guest, &size)) != NULL) {
        if (size == 3 && memcmp(line, ".\r\n", 3) == 0)
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
    struct guest *guest = argument;
    const char *line;
    size_t line_size, size;

    answer(guest, "220 sink.test ESMTP\r\n");
    while ((line = read_line(guest, &line_size)) != NULL && line_size >= 4) {
        if (strncasecmp(line, "EHLO", 4) == 0) {
            answer(guest, "250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
        } else if (strncasecmp(line, "DATA", 4) == 0) {
            answer(guest, "354 go on\r\n");
            if (!read_message(guest, &size))
                break;
            note_message(guest, size);
            answer(guest, "250 2.0.0 noted\r\n");
        } else if (strncasecmp(line, "QUIT", 4) == 0) {
            answer(guest, "221 2.0.0 bye\r\n");
            break;
        } else {
            answer(guest, "250 2.0.0 ok\r\n");
        }
    }
    fclose(guest->out);
    free(guest->message);
    free(guest);
    count_session(-1);
    return NULL;
}

static struct guest *guest_create(int fd)
{
    struct guest *guest = malloc(sizeof(*guest));
    int one = 1;

    if (fd < 0 || guest == NULL)
        err(2, "sink: accept");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    guest->fd = fd;
    guest->input_at = guest->input_size = 0;
    guest->out = fdopen(fd, "w");
    guest->message = malloc(MESSAGE_MAX);
    if (guest->out == NULL || guest->message == NULL)
        errx(2, "out of memory");
    return guest;
}

int ledger_sink(int argc, char **argv)
{
    struct sockaddr_in address;
    int one = 1, listener;
    char *open_path;

    if (argc != 3)
        errx(2, "sink: expected ADDRESS:PORT LEDGER");
    ledger_address(argv[1], &address);
    sink_ledger_fd = ledger_open(argv[2]);
    if (asprintf(&open_path, "%s.open", argv[2]) < 0)
        errx(2, "out of memory");
    sink_open_fd = open(open_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (sink_open_fd < 0)
        err(2, "%s", open_path);
    free(open_path);
    count_session(0);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 1024) < 0)
        err(2, "sink: %s", argv[1]);
    for (;;) {
        struct guest *guest = guest_create(accept(listener, NULL, NULL));
        pthread_t thread;

        count_session(1);
        if (pthread_create(&thread, NULL, serve, guest) != 0)
            err(2, "sink: cannot start a thread");
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
