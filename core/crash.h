/* core/crash.h - the last line of a process that ends by a fault of its own.
 *
 * SIGSEGV, SIGBUS, SIGABRT (a failed ASSERT), SIGILL and SIGFPE are caught once: one line goes to the log and to a
 * record that survives (build, signal, shard, what the shard had in hand, backtrace), then the signal does what it did
 * before. An end from outside (SIGKILL, a power cut) leaves no line, so whoever reads the record knows that the code
 * ended itself over the thing it names.
 *
 * Everything the handler needs is made before: memory, formats, the unwinder. Addresses in the backtrace are "+hex",
 * relative to where the program was loaded, as `addr2line -e kilatd` takes them; "?hex" lies in a library.
 *
 * One per process: a signal handler has nobody to hand it a context. Shard: boot, but for the two calls of a thread.
 */
#ifndef KILAT_CORE_CRASH_H
#define KILAT_CORE_CRASH_H

#include "core/log.h"

#define CRASH_SUBJECT_TEXT_SIZE 32

struct crash_config {
    int log_fd, record_fd;      /* borrowed until crash_release(); -1: none */
    enum log_format log_format; /* of the log; the record is always logfmt */
    const char *build;          /* borrowed likewise */
    const char *subject_name;   /* of the field: "message" */
    /* Writes the name of what was in hand; called by the signal handler, so pure. */
    void (*subject_format)(uint64_t subject, char text[CRASH_SUBJECT_TEXT_SIZE]);
};

/* 0, or -ENOMEM, -EALREADY: caught already. */
int crash_catch(const struct crash_config *config);
void crash_release(void);
/* The log is another file from now on. Before the old descriptor is closed. Shard: any. Nothing when crashes are not caught. */
void crash_log_to(int log_fd);

/* This thread is `shard`, and `*subject` is what it works on (0: nothing). Gives it a stack to report an overflow of its
 * own from. Borrows `subject` until crash_unwatch(). 0 or -errno; nothing when crashes are not caught. */
int crash_watch(uint32_t shard, const uint64_t *subject);
void crash_unwatch(void);

#endif
