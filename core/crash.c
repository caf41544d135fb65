#include "core/crash.h"

#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/assert.h"
#include "core/clock.h"

#define CRASH_LOG_BYTES (8 * KIB)
#define CRASH_STACK_BYTES (64 * KIB) /* the unwinder takes some 10 KiB of it */
#define CRASH_THREADS_MAX 80         /* shards of one process, with room to spare */
#define CRASH_FRAMES_MAX 40

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
static const char *const crash_signal_names[] = {"SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL",
                                                 "SIGFPE"};

struct crash_thread {
    atomic_int tid; /* 0: free */
    uint32_t shard;
    const uint64_t *subject;
    void *stack;
};

struct crash {
    struct crash_config config;
    struct log *log, *record; /* whose memory was written once, so that the handler takes none */
    struct sigaction before[ARRAY_SIZE(crash_signals)];
    struct crash_thread threads[CRASH_THREADS_MAX];
    uintptr_t base, end; /* of the program in memory */
    atomic_int log_fd;   /* config.log_fd, until the log was rotated */
    atomic_flag caught;
    char trace[CRASH_FRAMES_MAX * 19];
    uint8_t line[CRASH_LOG_BYTES];
};

/* The handler's way to the above. */
static struct crash *crash_current;

/* ---- in the handler: no memory, no lock ---------------------------------------------------------- */

static char *crash_put_hex(char *at, uintptr_t value)
{
    char digits[2 * sizeof(value)];
    size_t count = 0;

    do {
        digits[count++] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value != 0);
    while (count > 0)
        *at++ = digits[--count];
    return at;
}

/* Where the thread was when the signal came; 0: this machine's way to say so is not known here. */
static uintptr_t crash_place(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)context->uc_mcontext.pc;
#else
    return 0;
#endif
}

/* From `place` on: what lies above is the handler. */
static struct slice crash_trace(struct crash *crash, uintptr_t place)
{
    void *frames[CRASH_FRAMES_MAX];
    int count = backtrace(frames, CRASH_FRAMES_MAX), first = count - 1;
    char *at = crash->trace;

    while (first > 0 && (uintptr_t)frames[first] != place)
        first--;
    for (int i = MAX(first, 0); i < count; i++) {
        uintptr_t address = (uintptr_t)frames[i];
        bool ours = address >= crash->base && address < crash->end;
        *at++ = ours ? '+' : '?';
        at = crash_put_hex(at, ours ? address - crash->base : address);
    }
    return slice_of(crash->trace, (size_t)(at - crash->trace));
}

static const struct crash_thread *crash_this_thread(const struct crash *crash)
{
    int tid = (int)syscall(SYS_gettid);

    for (size_t i = 0; i < CRASH_THREADS_MAX; i++)
        if (atomic_load(&crash->threads[i].tid) == tid)
            return &crash->threads[i];
    return NULL;
}

static void crash_write(struct crash *crash, struct log *log, int fd)
{
    size_t size = log_take(log, crash->line, sizeof(crash->line));

    if (size > 0 && fd >= 0 && write(fd, crash->line, size) < 0)
        return; /* nothing is left to try */
}

static void crash_tell(struct crash *crash, size_t which, uintptr_t address, uintptr_t place)
{
    const struct crash_thread *thread = crash_this_thread(crash);
    uint64_t subject = thread == NULL ? 0 : *thread->subject;
    struct slice trace = crash_trace(crash, place);
    char text[CRASH_SUBJECT_TEXT_SIZE] = "";
    struct log *const logs[] = {crash->record, crash->log};
    const int fds[] = {crash->config.record_fd, atomic_load(&crash->log_fd)};

    if (subject != 0)
        crash->config.subject_format(subject, text);
    for (size_t i = 0; i < ARRAY_SIZE(logs); i++) {
        log_set_time(logs[i], clock_wall_ns());
        log_event(logs[i], LOG_ERROR, "kilatd.crashed", log_cstr("build", crash->config.build),
                  log_u64("pid", (uint64_t)getpid()), log_cstr("signal", crash_signal_names[which]),
                  log_u64("address", address),
                  log_i64("shard", thread == NULL ? -1 : (int64_t)thread->shard),
                  log_cstr(crash->config.subject_name, text), log_text("backtrace", trace));
        crash_write(crash, logs[i], fds[i]);
    }
}

/* A second thread that faults meanwhile waits: the first one ends the process. */
static void crash_handler(int number, siginfo_t *info, void *context)
{
    struct crash *crash = crash_current;
    size_t which = 0;

    while (atomic_flag_test_and_set(&crash->caught))
        (void)pause(); /* cannot fail but by a signal */
    while (crash_signals[which] != number)
        which++;
    crash_tell(crash, which, info->si_code > 0 ? (uintptr_t)info->si_addr : 0,
               crash_place(context));
    for (size_t i = 0; i < ARRAY_SIZE(crash_signals); i++)
        (void)sigaction(crash_signals[i], &crash->before[i], NULL); /* what was valid stays so */
    if (info->si_code <= 0)
        (void)raise(number); /* sent, not caused: it would not come again by itself */
}

/* ---- before -------------------------------------------------------------------------------------- */

/* The first object is the program. */
static int crash_find_program(struct dl_phdr_info *info, size_t size, void *context)
{
    struct crash *crash = context;

    (void)size;
    crash->base = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            crash->end = MAX(crash->end, info->dlpi_addr + info->dlpi_phdr[i].p_vaddr +
                                             info->dlpi_phdr[i].p_memsz);
    return 1;
}

/* A line longer than any that will come makes the log take its memory now, and a first walk loads the unwinder. */
static int crash_prepare(struct crash *crash, struct log **ret_log, enum log_format format)
{
    char filler[1024];
    int r = log_create(CRASH_LOG_BYTES, LOG_DEBUG, format, ret_log);

    if (r < 0)
        return r;
    memset(filler, '"', sizeof(filler));
    log_event(*ret_log, LOG_ERROR, "crash.rehearsed",
              log_text("a", slice_of(filler, sizeof(filler))),
              log_text("b", slice_of(filler, sizeof(filler))));
    crash_write(crash, *ret_log, -1);
    return 0;
}

static void crash_free(struct crash *crash)
{
    log_destroy(&crash->log);
    log_destroy(&crash->record);
    free(crash);
}

int crash_catch(const struct crash_config *config)
{
    struct crash *crash;
    struct sigaction action = {.sa_sigaction = crash_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    int r;

    if (crash_current != NULL)
        return -EALREADY;
    crash = calloc(1, sizeof(*crash));
    if (crash == NULL)
        return -ENOMEM;
    crash->config = *config;
    atomic_init(&crash->log_fd, config->log_fd);
    r = crash_prepare(crash, &crash->log, config->log_format);
    if (r == 0)
        r = crash_prepare(crash, &crash->record, LOG_LOGFMT);
    if (r < 0) {
        crash_free(crash);
        return r;
    }
    (void)dl_iterate_phdr(crash_find_program, crash); /* 1, what the callback returns */
    (void)crash_trace(crash, 0);
    crash_current = crash;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(crash_signals); i++)
        if (sigaction(crash_signals[i], &action, &crash->before[i]) < 0)
            ASSERT(false); /* these signals can be caught */
    return 0;
}

void crash_release(void)
{
    struct crash *crash = crash_current;

    if (crash == NULL)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(crash_signals); i++)
        (void)sigaction(crash_signals[i], &crash->before[i], NULL); /* what was valid stays so */
    crash_current = NULL;
    crash_free(crash);
}

void crash_log_to(int log_fd)
{
    if (crash_current != NULL)
        atomic_store(&crash_current->log_fd, log_fd);
}

int crash_watch(uint32_t shard, const uint64_t *subject)
{
    stack_t stack = {.ss_size = CRASH_STACK_BYTES};
    struct crash_thread *thread = NULL;
    int tid = (int)syscall(SYS_gettid);
    int free_tid = 0;

    if (crash_current == NULL)
        return 0;
    stack.ss_sp = malloc(CRASH_STACK_BYTES);
    if (stack.ss_sp == NULL || sigaltstack(&stack, NULL) < 0) {
        free(stack.ss_sp);
        return -ENOMEM;
    }
    for (size_t i = 0; i < CRASH_THREADS_MAX && thread == NULL; i++, free_tid = 0)
        if (atomic_compare_exchange_strong(&crash_current->threads[i].tid, &free_tid, -1))
            thread = &crash_current->threads[i];
    ASSERT(thread != NULL); /* there are fewer shards than places */
    thread->shard = shard;
    thread->subject = subject;
    thread->stack = stack.ss_sp;
    atomic_store(&thread->tid, tid);
    return 0;
}

void crash_unwatch(void)
{
    struct crash_thread *thread;
    stack_t none = {.ss_flags = SS_DISABLE};

    if (crash_current == NULL)
        return;
    thread = (struct crash_thread *)crash_this_thread(crash_current);
    if (thread == NULL)
        return;
    (void)sigaltstack(&none, NULL); /* cannot fail outside of the handler */
    free(thread->stack);
    atomic_store(&thread->tid, 0);
}
