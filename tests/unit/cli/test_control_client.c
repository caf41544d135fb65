/* kilatctl's side of the control socket against a server that says what the row wants, in pieces of any size. */
#include "cli/control_client.h"
#include "core/control_wire.h"
#include "core/netaddr.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char folder[64], path[96], out[96], err[96];
    int listen_fd, saved_out, saved_err;
    struct buf asked; /* what the client sent */
    struct slice answer;
    size_t piece_bytes;
    pthread_t thread;
};

static struct slice read_whole(const char *path, struct buf *out)
{
    uint8_t bytes[4096];
    FILE *file = fopen(path, "r");
    size_t size;

    cr_assert_not_null(file);
    buf_init(out, 16 * MIB);
    while ((size = fread(bytes, 1, sizeof(bytes), file)) > 0)
        buf_append(out, slice_of(bytes, size));
    (void)fclose(file);
    buf_append_byte(out, 0);
    return buf_slice(out);
}

static int redirect(int to, const char *path)
{
    int saved = dup(to), fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    cr_assert(saved >= 0 && fd >= 0 && dup2(fd, to) == to);
    (void)close(fd);
    return saved;
}

static void fixture_open(struct fixture *f)
{
    struct netaddr address;

    memset(f, 0, sizeof(*f));
    strcpy(f->folder, "/tmp/kilat-cli-XXXXXX");
    cr_assert_not_null(mkdtemp(f->folder));
    (void)snprintf(f->path, sizeof(f->path), "%s/control", f->folder);
    (void)snprintf(f->out, sizeof(f->out), "%s/out", f->folder);
    (void)snprintf(f->err, sizeof(f->err), "%s/err", f->folder);
    buf_init(&f->asked, MIB);
    f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(netaddr_unix(f->path, &address));
    cr_assert_eq(bind(f->listen_fd, &address.any, address.size), 0);
    cr_assert_eq(listen(f->listen_fd, 4), 0);
}

static void fixture_close(struct fixture *f)
{
    (void)close(f->listen_fd);
    (void)unlink(f->path);
    (void)unlink(f->out);
    (void)unlink(f->err);
    (void)rmdir(f->folder);
    buf_deinit(&f->asked);
}

/* Takes one whole question, then answers and hangs up. */
static void *serve(void *context)
{
    struct fixture *f = context;
    struct control_frame frame;
    struct slice rest = f->answer;
    size_t size;
    int fd = accept(f->listen_fd, NULL, NULL);

    while (fd >= 0 && control_frame_parse(buf_slice(&f->asked), &frame, &size) == 0) {
        uint8_t bytes[4096];
        ssize_t count = recv(fd, bytes, sizeof(bytes), 0);
        if (count <= 0)
            break;
        buf_append(&f->asked, slice_of(bytes, (size_t)count));
    }
    while (rest.size > 0) {
        struct slice piece = slice_first(rest, f->piece_bytes);
        if (send(fd, piece.data, piece.size, MSG_NOSIGNAL) < 0)
            break;
        rest = slice_skip(rest, piece.size);
    }
    (void)close(fd);
    return NULL;
}

static int ask(struct fixture *f, bool json, struct slice answer, size_t piece_bytes)
{
    const struct slice words[] = {SLICE("queue"), SLICE("list")};
    int status;

    f->answer = answer;
    f->piece_bytes = piece_bytes;
    buf_reset(&f->asked);
    cr_assert_eq(pthread_create(&f->thread, NULL, serve, f), 0);
    f->saved_out = redirect(STDOUT_FILENO, f->out);
    f->saved_err = redirect(STDERR_FILENO, f->err);
    status = control_client_ask(f->path, json, words, ARRAY_SIZE(words));
    (void)fflush(stdout);
    (void)fflush(stderr);
    (void)dup2(f->saved_out, STDOUT_FILENO);
    (void)dup2(f->saved_err, STDERR_FILENO);
    (void)close(f->saved_out);
    (void)close(f->saved_err);
    (void)pthread_join(f->thread, NULL);
    return status;
}

static void expect_printed(const char *path, const char *wanted, const char *name)
{
    struct buf text;

    (void)read_whole(path, &text);
    cr_expect_str_eq((char *)text.data, wanted, "%s: %s", name, (char *)text.data);
    buf_deinit(&text);
}

Test(control_client, an_answer_is_the_same_in_any_pieces)
{
    static const size_t pieces[] = {1, 7, 4096};
    struct buf answer;
    struct fixture f;

    fixture_open(&f);
    buf_init(&answer, MIB);
    control_write_part(&answer, SLICE("first\n"));
    control_write_part(&answer, SLICE("second\n"));
    control_write_end(&answer, 0, SLICE_NONE);
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
        cr_expect_eq(ask(&f, false, buf_slice(&answer), pieces[i]), 0);
        expect_printed(f.out, "first\nsecond\n", "standard output");
        expect_printed(f.err, "", "standard error");
    }
    buf_deinit(&answer);
    fixture_close(&f);
}

Test(control_client, the_question_says_which_form_is_wanted)
{
    struct slice arguments[CONTROL_ARGUMENTS_MAX];
    struct control_frame frame;
    struct buf answer;
    struct fixture f;
    size_t size, count;

    fixture_open(&f);
    buf_init(&answer, MIB);
    control_write_end(&answer, 0, SLICE_NONE);
    for (int json = 0; json < 2; json++) {
        cr_expect_eq(ask(&f, json == 1, buf_slice(&answer), 100), 0);
        cr_assert_eq(control_frame_parse(buf_slice(&f.asked), &frame, &size), 1);
        cr_assert(control_arguments(&frame, arguments, &count));
        cr_assert_eq(count, 3);
        cr_expect(slice_equal(arguments[0], json == 1 ? SLICE("json") : SLICE("text")));
        cr_expect(slice_equal(arguments[2], SLICE("list")));
    }
    buf_deinit(&answer);
    fixture_close(&f);
}

/* What was answered so far is shown, then what went wrong. */
Test(control_client, an_error_is_a_sentence_and_a_status)
{
    struct buf answer;
    struct fixture f;

    fixture_open(&f);
    buf_init(&answer, MIB);
    control_write_part(&answer, SLICE("half of it\n"));
    control_write_end(&answer, 77, SLICE("only root may do this"));
    cr_expect_eq(ask(&f, false, buf_slice(&answer), 3), 77);
    expect_printed(f.out, "half of it\n", "standard output");
    expect_printed(f.err, "kilatctl: only root may do this\n", "standard error");
    buf_deinit(&answer);
    fixture_close(&f);
}

Test(control_client, an_answer_that_is_cut_is_no_answer)
{
    struct buf answer;
    struct fixture f;

    fixture_open(&f);
    buf_init(&answer, MIB);
    control_write_part(&answer, SLICE("half of it\n"));
    control_write_end(&answer, 0, SLICE_NONE);
    for (size_t size = 0; size < answer.size; size++)
        cr_expect_eq(ask(&f, false, slice_first(buf_slice(&answer), size), 100), 69, "%zu octets",
                     size);
    expect_printed(f.err, "kilatctl: the server ended the connection before its answer was whole\n",
                   "cut");
    buf_deinit(&answer);
    fixture_close(&f);
}

Test(control_client, who_speaks_something_else_is_no_server)
{
    static const struct slice answers[] = {
        {(const uint8_t *)"220 mx.test ESMTP\r\n", 19},
        {(const uint8_t *)"KCTL\x02\0\0\0\0\0\0\0", 12},
        {(const uint8_t *)"KCTL\x01\0\x05\0\0\0\0\0", 12}, /* a kind of frame that there is not */
        {(const uint8_t *)"KCTL\x01\0\x01\0\x02\0\0\0ab", 14}, /* an end without its status */
    };
    struct fixture f;

    fixture_open(&f);
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        cr_expect_eq(ask(&f, false, answers[i], 5), 69, "row %zu", i);
        expect_printed(f.err,
                       "kilatctl: the server speaks another version of the control protocol\n",
                       "another protocol");
    }
    fixture_close(&f);
}

static void expect_unreachable(struct fixture *f, const char *path, const char *part)
{
    struct buf text;
    int status;

    f->saved_err = redirect(STDERR_FILENO, f->err);
    status = control_client_ask(path, false, NULL, 0);
    (void)fflush(stderr);
    (void)dup2(f->saved_err, STDERR_FILENO);
    (void)close(f->saved_err);
    cr_expect_eq(status, 69, "%s", path);
    (void)read_whole(f->err, &text);
    cr_expect_not_null(strstr((char *)text.data, part), "%s: %s", path, (char *)text.data);
    buf_deinit(&text);
}

/* Nobody there: it says where it looked, and what can be done. */
Test(control_client, without_a_server_it_says_what_to_do)
{
    struct fixture f;
    char path[300];

    fixture_open(&f);
    (void)snprintf(path, sizeof(path), "%s/elsewhere", f.folder);
    expect_unreachable(&f, path, "Is kilatd running?");
    (void)close(f.listen_fd);
    f.listen_fd = -1;
    expect_unreachable(&f, f.path, "Is kilatd running?"); /* the socket of one that has died */
    memset(path, 'a', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = 0;
    expect_unreachable(&f, path, "too long for a socket's path");
    fixture_close(&f);
}
