#include "cli/control_client.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/control_wire.h"
#include "core/netaddr.h"

#define EXIT_UNAVAILABLE 69
#define READ_BYTES (64 * KIB)

static int client_connect(const char *path)
{
    struct netaddr address;
    int fd, r;

    if (!netaddr_unix(path, &address)) {
        fprintf(stderr, "kilatctl: %s: too long for a socket's path\n", path);
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, &address.any, address.size) == 0)
        return fd;
    r = errno;
    fprintf(stderr, "kilatctl: cannot reach the server at %s: %s\n", path, strerror(r));
    if (r == ENOENT || r == ECONNREFUSED)
        fprintf(
            stderr,
            "Is kilatd running? Another socket is named by --socket or by control_socket in the "
            "settings.\n");
    else if (r == EACCES)
        fprintf(stderr, "Ask as root, or as a member of the server's group.\n");
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static bool client_send(int fd, struct slice bytes)
{
    while (bytes.size > 0) {
        ssize_t sent = send(fd, bytes.data, bytes.size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        bytes = slice_skip(bytes, (size_t)sent);
    }
    return true;
}

/* Takes whole frames from `input`. True when the end was among them. */
static bool client_take(struct buf *input, int *ret_status)
{
    struct control_frame frame;
    struct slice error;
    uint32_t status;
    size_t size;
    int r;

    while ((r = control_frame_parse(buf_slice(input), &frame, &size)) == 1) {
        if (frame.word == CONTROL_REPLY_PART) {
            (void)fwrite(frame.payload.data, 1, frame.payload.size, stdout);
        } else if (control_read_end(&frame, &status, &error)) {
            if (error.size > 0)
                fprintf(stderr, "kilatctl: %.*s\n", SLICE_ARG(error));
            *ret_status = (int)status;
            return true;
        } else {
            r = -EPROTO;
            break;
        }
        buf_consume(input, size);
    }
    if (r < 0) {
        fprintf(stderr, "kilatctl: the server speaks another version of the control protocol\n");
        *ret_status = EXIT_UNAVAILABLE;
    }
    return r < 0;
}

static int client_read(int fd)
{
    struct buf input;
    int status = EXIT_UNAVAILABLE;
    bool over = false;

    buf_init(&input, 4 * READ_BYTES);
    while (!over) {
        uint8_t bytes[READ_BYTES];
        ssize_t count = recv(fd, bytes, sizeof(bytes), 0);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            fprintf(stderr,
                    "kilatctl: the server ended the connection before its answer was whole\n");
            break;
        }
        buf_append(&input, slice_of(bytes, (size_t)count));
        over = client_take(&input, &status);
    }
    buf_deinit(&input);
    return status;
}

int control_client_ask(const char *socket_path, bool json, const struct slice *words, size_t count)
{
    struct slice arguments[CONTROL_ARGUMENTS_MAX];
    struct buf request;
    int fd, status = EXIT_UNAVAILABLE;

    if (count + 1 > CONTROL_ARGUMENTS_MAX) {
        fprintf(stderr, "kilatctl: more than %d words\n", CONTROL_ARGUMENTS_MAX - 1);
        return 64;
    }
    fd = client_connect(socket_path);
    if (fd < 0)
        return EXIT_UNAVAILABLE;
    arguments[0] = json ? SLICE("json") : SLICE("text");
    memcpy(arguments + 1, words, count * sizeof(*words));
    buf_init(&request, CONTROL_HEAD_BYTES + CONTROL_PAYLOAD_MAX);
    control_write_request(&request, arguments, count + 1);
    if (request.failed)
        fprintf(stderr, "kilatctl: the words are longer than 64 KiB\n");
    else if (!client_send(fd, buf_slice(&request)))
        fprintf(stderr, "kilatctl: the question could not be sent: %s\n", strerror(errno));
    else
        status = client_read(fd);
    buf_deinit(&request);
    (void)close(fd); /* nothing is left to read */
    return status;
}
