/* bench/compare.h - servers in turn under the same load, round by round, in one stretch of time.
 *
 * One run: a sink, one server started afresh (bench/servers.sh), a load to warm up, the load that is measured, and a
 * short one under which system calls are counted. A run counts only when every letter that was answered 250 has
 * arrived, unaltered. Rates and times of one machine mean little elsewhere, and little here an hour later: what
 * lasts are the ratios of runs of the same round (bench/README.md).
 */
#ifndef KILAT_BENCH_COMPARE_H
#define KILAT_BENCH_COMPARE_H

#include "bench/watch.h"
#include "core/defs.h"

struct compare_scenario {
    const char *name;
    uint64_t size_bytes;
    uint64_t sessions;
    bool pipelined;
};

struct compare_options {
    const char *script; /* bench/servers.sh */
    const char *preset; /* whose kilatd and kilat-bench are taken */
    uint64_t seconds, warm_up_seconds, count_seconds;
    uint64_t rounds;
};

#define COMPARE_REASON_SIZE 256

/* NAN where something could not be had; then `failed` says why, or the machine offers no such count. */
struct compare_run {
    const struct compare_scenario *scenario;
    const char *server;
    uint64_t round;
    uint64_t started_s; /* wall clock */
    uint64_t messages;  /* of the measured load */
    uint64_t twice;     /* of all loads of the run */
    double delivered_per_s, cpu_us, syscalls, p50_us, p99_us, p999_us, longest_us;
    double load_cpu_us, sink_cpu_us,
        kernel_cpu_us;                 /* per message: the other ends, kernel threads */
    double others_cores, stolen_cores; /* during the measured load */
    bool by_cgroup;
    bool disturbed;
    char failed[COMPARE_REASON_SIZE];
};

/* One run of one server. False when it was interrupted (SIGINT). */
bool compare_run_server(const struct compare_options *options,
                        const struct compare_scenario *scenario, const char *server, uint64_t round,
                        struct compare_run *ret_run);

/* The subcommand. */
int compare_main(int argc, char **argv);

#endif
