/* bench/watch.h - whose CPU time it was, and how many system calls.
 *
 * A server is watched as a cgroup where one can be made (cgroup v1 with cpuacct, or v2), because then every process
 * and kernel worker it has ever had is counted; otherwise as a process with all its descendants. Times are
 * nanoseconds of CPU since some moment: only differences mean something.
 */
#ifndef KILAT_BENCH_WATCH_H
#define KILAT_BENCH_WATCH_H

#include "core/defs.h"
#include <sys/types.h>

#define WATCH_PATH_SIZE 512

struct watch {
    char cgroup[WATCH_PATH_SIZE]; /* empty: by process */
    bool unified;                 /* cgroup v2 */
    pid_t root;                   /* the process that is not counted, but whose children are */
};

/* Makes a cgroup below our own, or none where that cannot be. */
void watch_init(struct watch *watch);
/* Its processes must have ended. */
void watch_deinit(struct watch *watch);
uint64_t watch_server_ns(const struct watch *watch);

uint64_t watch_process_ns(pid_t pid);   /* one process with its threads; 0 when it is gone */
uint64_t watch_machine_ns(void);        /* everything that ran */
uint64_t watch_kernel_threads_ns(void); /* of it, kernel threads that belong to no process */
uint64_t watch_stolen_ns(void);         /* by the hypervisor */

/* Counts the system calls of the server's threads, and of those they start, from now on. */
struct watch_calls;
/* NULL where the kernel does not let us. */
struct watch_calls *watch_calls_begin(const struct watch *watch);
/* The count so far; ends the counting. Accepts NULL: 0. */
uint64_t watch_calls_end(struct watch_calls **calls);

#endif
