/* A process that ends itself leaves one line, in the log and in the record, and still ends by its signal. */
#include "core/crash.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/assert.h"

static void format(uint64_t subject, char text[CRASH_SUBJECT_TEXT_SIZE])
{
    (void)snprintf(text, CRASH_SUBJECT_TEXT_SIZE, "subjek-%llu", (unsigned long long)subject);
}

static void fail_assertion(void)
{
    ASSERT(getpid() == 0);
}

static void touch_nothing(void)
{
    volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    page[100] = 1;
}

static void send_one(void)
{
    (void)raise(SIGFPE);
}

static void kill_it(void)
{
    (void)raise(SIGKILL);
}

struct told {
    char log[8192], record[8192];
    int signal; /* that ended it, or 0 */
};

static void read_all(int fd, char *text, size_t size)
{
    size_t at = 0;
    ssize_t count;

    while (at < size - 1 && (count = read(fd, text + at, size - 1 - at)) > 0)
        at += (size_t)count;
    text[at] = 0;
    close(fd);
}

/* Runs `fault` in a process of its own, which has `subject` in hand. */
static void tell(void (*fault)(void), uint64_t subject, enum log_format log_format,
                 struct told *told)
{
    int log[2], record[2], status;
    pid_t pid;

    cr_assert(pipe(log) == 0 && pipe(record) == 0);
    pid = fork();
    if (pid == 0) {
        struct crash_config config = {.log_fd = log[1],
                                      .record_fd = record[1],
                                      .log_format = log_format,
                                      .build = "1.2-3-gabc",
                                      .subject_name = "message",
                                      .subject_format = format};
        uint64_t in_hand = subject;
        /* As in a process without a sanitizer, whose report of a fault made on purpose would fail the suite. */
        (void)signal(SIGSEGV, SIG_DFL);
        (void)signal(SIGFPE, SIG_DFL);
        (void)signal(SIGBUS, SIG_DFL);
        (void)signal(SIGILL, SIG_DFL);
        if (freopen("/dev/null", "w", stderr) == NULL || crash_catch(&config) < 0 ||
            crash_watch(3, &in_hand) < 0)
            _exit(1);
        fault();
        _exit(2); /* it ran on */
    }
    close(log[1]);
    close(record[1]);
    read_all(log[0], told->log, sizeof(told->log));
    read_all(record[0], told->record, sizeof(told->record));
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    told->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static int lines(const char *text)
{
    int count = 0;

    for (; *text != 0; text++)
        count += *text == '\n';
    return count;
}

Test(crash, leaves_one_line_and_ends_by_its_signal)
{
    static const struct {
        void (*fault)(void);
        int number;
        const char *name;
    } rows[] = {
        {fail_assertion, SIGABRT, "signal=SIGABRT"},
        {touch_nothing, SIGSEGV, "signal=SIGSEGV"},
        {send_one, SIGFPE, "signal=SIGFPE"},
    };
    static struct told told;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        tell(rows[i].fault, 7, LOG_LOGFMT, &told);
        cr_expect_eq(told.signal, rows[i].number, "row %zu ended by %d", i, told.signal);
        cr_expect_eq(lines(told.record), 1, "row %zu: %s", i, told.record);
        cr_expect_not_null(strstr(told.record, " event=kilatd.crashed build=1.2-3-gabc "));
        cr_expect_not_null(strstr(told.record, rows[i].name), "row %zu: %s", i, told.record);
        cr_expect_not_null(strstr(told.record, " shard=3 message=subjek-7 "), "%s", told.record);
        cr_expect_not_null(strstr(told.record, " backtrace="), "row %zu: %s", i, told.record);
        cr_expect_eq(lines(told.log), 1);
    }
}

Test(crash, the_log_has_its_own_form)
{
    static struct told told;

    tell(send_one, 0, LOG_JSON, &told);
    cr_expect_eq(told.log[0], '{', "%s", told.log);
    cr_expect_not_null(strstr(told.log, "\"message\":\"\""), "nothing was in hand: %s", told.log);
    cr_expect_not_null(strstr(told.record, " message=\"\" "), "%s", told.record);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void overflow(void)
{
    volatile char room[8192];
    void (*volatile again)(void) = overflow;

    room[0] = 1;
    again();
    room[1] = room[0];
}

Test(crash, a_stack_that_is_full_is_told_from_another)
{
    static struct told told;

    tell(overflow, 9, LOG_LOGFMT, &told);
    cr_expect_eq(told.signal, SIGSEGV);
    cr_expect_eq(lines(told.record), 1);
    cr_expect_not_null(strstr(told.record, "message=subjek-9"));
}
#endif

static int rotated[2];

static void rotate_and_send(void)
{
    crash_log_to(rotated[1]);
    send_one();
}

/* The log was rotated: the line goes to the new file, and never to what has the old one's number now. */
Test(crash, the_log_may_become_another_file)
{
    static struct told told;
    char text[8192];

    cr_assert(pipe(rotated) == 0);
    tell(rotate_and_send, 7, LOG_LOGFMT, &told);
    close(rotated[1]);
    read_all(rotated[0], text, sizeof(text));
    cr_expect_eq(told.log[0], 0, "%s", told.log);
    cr_expect_eq(lines(text), 1);
    cr_expect_eq(lines(told.record), 1);
}

Test(crash, an_end_from_outside_names_nothing)
{
    static struct told told;

    tell(kill_it, 7, LOG_LOGFMT, &told);
    cr_expect_eq(told.signal, SIGKILL);
    cr_expect_eq(told.record[0], 0, "%s", told.record);
}

Test(crash, is_caught_once_and_let_go)
{
    struct crash_config config = {
        .log_fd = -1, .record_fd = -1, .build = "1", .subject_name = "m", .subject_format = format};
    uint64_t subject = 0;
    struct sigaction before, after;

    cr_assert_eq(sigaction(SIGBUS, NULL, &before), 0);
    cr_expect_eq(crash_watch(0, &subject), 0, "without a catcher a thread needs nothing");
    cr_assert_eq(crash_catch(&config), 0);
    cr_expect_eq(crash_catch(&config), -EALREADY);
    cr_expect_eq(crash_watch(0, &subject), 0);
    crash_unwatch();
    crash_release();
    cr_assert_eq(sigaction(SIGBUS, NULL, &after), 0);
    cr_expect_eq(after.sa_sigaction, before.sa_sigaction);
}
