#include "bench/compare.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/program.h"
#include "bench/report.h"

#define RUNS_MAX 10000u
#define SERVERS_MAX 8u
#define NAMES_SIZE 256

/* These names stay: results of years are compared by them. */
static const struct compare_scenario scenarios[] = {
    {"relay-4k", 4096, 20, true},
    {"relay-4k-lockstep", 4096, 20, false},
};

struct compare {
    struct compare_options options;
    const struct compare_scenario *scenario; /* NULL: all */
    const char *json_path;
    char server_names[NAMES_SIZE];
    const char *servers[SERVERS_MAX];
    size_t server_count;
    struct compare_run *runs;
    size_t run_count;
    char script[4096], preset[64];
};

static volatile sig_atomic_t compare_interrupted;

static void on_interrupt(int number)
{
    (void)number;
    compare_interrupted = 1;
}

/* ---- for programs ---------------------------------------------------------------------------- */

static void write_run(struct buf *json, const struct compare_run *run)
{
    struct utsname system;

    (void)uname(&system); /* cannot fail with a good pointer */
    report_object_begin(json);
    report_text(json, "scenario", run->scenario->name);
    report_text(json, "server", run->server);
    report_u64(json, "round", run->round);
    report_number(json, "delivered_per_s", run->delivered_per_s);
    report_number(json, "cpu_us_per_message", run->cpu_us);
    report_number(json, "syscalls_per_message", run->syscalls);
    report_number(json, "accept_p50_us", run->p50_us);
    report_number(json, "accept_p99_us", run->p99_us);
    report_bool(json, "disturbed", run->disturbed);
    report_text(json, "failed", run->failed[0] == 0 ? NULL : run->failed);
    report_number(json, "accept_p999_us", run->p999_us);
    report_number(json, "accept_longest_us", run->longest_us);
    report_u64(json, "messages", run->messages);
    report_u64(json, "delivered_twice", run->twice);
    report_number(json, "load_cpu_us_per_message", run->load_cpu_us);
    report_number(json, "sink_cpu_us_per_message", run->sink_cpu_us);
    report_number(json, "kernel_cpu_us_per_message", run->kernel_cpu_us);
    report_number(json, "others_cores", run->others_cores);
    report_number(json, "stolen_cores", run->stolen_cores);
    report_text(json, "cpu_counted_by", run->by_cgroup ? "cgroup" : "processes");
    report_u64(json, "message_bytes", run->scenario->size_bytes);
    report_u64(json, "sessions", run->scenario->sessions);
    report_text(json, "pipelining", run->scenario->pipelined ? "pipelined" : "none");
    report_u64(json, "started", run->started_s);
    report_text(json, "version", KILAT_VERSION);
    report_text(json, "kernel", system.release);
    report_u64(json, "cpus", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    report_object_end(json);
}

/* After every run, so that an interruption costs the run it hits and no other. */
static bool write_file(const struct compare *compare)
{
    struct buf json;
    FILE *file;
    bool good;

    if (compare->json_path == NULL)
        return true;
    buf_init(&json, 64 * MIB);
    for (size_t i = 0; i < compare->run_count; i++) {
        buf_append_cstr(&json, i == 0 ? "[\n " : ",\n ");
        write_run(&json, &compare->runs[i]);
    }
    buf_append_cstr(&json, "\n]\n");
    file = fopen(compare->json_path, "w");
    good = file != NULL && !json.failed && fwrite(json.data, 1, json.size, file) == json.size;
    if (file != NULL && fclose(file) != 0)
        good = false;
    if (!good)
        fprintf(stderr, "kilat-bench compare: %s: %s\n", compare->json_path, strerror(errno));
    buf_deinit(&json);
    return good;
}

/* ---- for people ------------------------------------------------------------------------------ */

/* A number in its column, "-" where there is none. */
static void show_number(const char *before, double value, int width, int digits, const char *unit)
{
    if (isnan(value))
        printf("%s%*s%*s", before, width, "-", (int)strlen(unit), "");
    else
        printf("%s%*.*f%s", before, width, digits, value, unit);
}

static void show_run(const struct compare_run *run)
{
    printf("%-18s round %llu  %-14s", run->scenario->name, (unsigned long long)run->round,
           run->server);
    if (run->failed[0] != 0) {
        printf(" does not count: %s\n", run->failed);
    } else {
        printf(" %8.0f/s  CPU %7.1f us", run->delivered_per_s, run->cpu_us);
        show_number("  calls ", run->syscalls, 6, 1, "");
        printf("  accept p50 %7.0f us  p99 %8.0f us%s\n", run->p50_us, run->p99_us,
               run->disturbed ? "  disturbed" : "");
    }
    (void)fflush(stdout);
}

enum figure { DELIVERED, CPU, CALLS, P50, P99, FIGURES };

static double figure_of(const struct compare_run *run, enum figure figure)
{
    const double figures[FIGURES] = {run->delivered_per_s, run->cpu_us, run->syscalls, run->p50_us,
                                     run->p99_us};

    return run->failed[0] != 0 ? NAN : figures[figure];
}

/* The figure of every round, NAN where the run is missing, has failed, or was disturbed (unless `all`). */
static void column(const struct compare *compare, const struct compare_scenario *scenario,
                   const char *server, enum figure figure, bool all, double *ret_values)
{
    for (uint64_t round = 0; round < compare->options.rounds; round++)
        ret_values[round] = NAN;
    for (size_t i = 0; i < compare->run_count; i++) {
        const struct compare_run *run = &compare->runs[i];

        if (run->scenario == scenario && strcmp(run->server, server) == 0 &&
            (all || !run->disturbed))
            ret_values[run->round - 1] = figure_of(run, figure);
    }
}

static size_t count_values(const double *values, uint64_t count)
{
    size_t found = 0;

    for (uint64_t i = 0; i < count; i++)
        found += !isnan(values[i]);
    return found;
}

static double ratio(const struct compare *compare, const struct compare_scenario *scenario,
                    const char *server, const char *base, enum figure figure, bool all)
{
    double values[RUNS_MAX / 10], bases[RUNS_MAX / 10];

    column(compare, scenario, server, figure, all, values);
    column(compare, scenario, base, figure, all, bases);
    return report_paired_ratio(values, bases, compare->options.rounds);
}

static void show_server(const struct compare *compare, const struct compare_scenario *scenario,
                        const char *server, bool all)
{
    double medians[FIGURES];
    double values[RUNS_MAX / 10];
    size_t counted = 0;

    for (int figure = 0; figure < FIGURES; figure++) {
        column(compare, scenario, server, (enum figure)figure, all, values);
        medians[figure] = report_median(values, compare->options.rounds);
        if (figure == DELIVERED)
            counted = count_values(values, compare->options.rounds);
    }
    printf("%-14s %2zu of %2llu", server, counted, (unsigned long long)compare->options.rounds);
    show_number(" ", medians[DELIVERED], 9, 0, "/s");
    show_number(" ", medians[CPU], 8, 1, " us");
    show_number(" ", medians[CALLS], 8, 1, "");
    show_number(" ", medians[P50], 9, 0, "");
    show_number(" ", medians[P99], 9, 0, "");
    show_number("  CPU: ", ratio(compare, scenario, server, "floor", CPU, all), 6, 2, " x floor");
    show_number(", ", ratio(compare, scenario, server, "postfix-tuned", CPU, all), 7, 4,
                " x tuned Postfix");
    show_number("; rate: ", ratio(compare, scenario, server, "postfix-tuned", DELIVERED, all), 6, 2,
                " x tuned Postfix");
    printf("\n");
}

/* Where fewer than half of the good runs were undisturbed there is no better answer than all of them, said so. */
static bool too_disturbed(const struct compare *compare, const struct compare_scenario *scenario)
{
    double values[RUNS_MAX / 10], good[RUNS_MAX / 10];

    for (size_t i = 0; i < compare->server_count; i++) {
        column(compare, scenario, compare->servers[i], DELIVERED, false, values);
        column(compare, scenario, compare->servers[i], DELIVERED, true, good);
        if (count_values(values, compare->options.rounds) * 2 <
            count_values(good, compare->options.rounds))
            return true;
    }
    return false;
}

static void show_summary(const struct compare *compare)
{
    for (size_t s = 0; s < ARRAY_SIZE(scenarios); s++) {
        const struct compare_scenario *scenario = &scenarios[s];
        bool all = too_disturbed(compare, scenario);

        if (compare->scenario != NULL && compare->scenario != scenario)
            continue;
        printf("\n%s: medians of %s; ratios are of runs of the same round\n", scenario->name,
               all ? "ALL runs, because most were disturbed by other programs"
                   : "the runs that were not disturbed");
        printf("%-14s %8s %11s %11s %8s %9s %9s\n", "server", "counted", "delivered", "CPU/msg",
               "calls", "p50 us", "p99 us");
        for (size_t i = 0; i < compare->server_count; i++)
            show_server(compare, scenario, compare->servers[i], all);
    }
}

/* ---- running --------------------------------------------------------------------------------- */

static bool run_all(struct compare *compare)
{
    bool good = true;

    for (uint64_t round = 1; round <= compare->options.rounds; round++)
        for (size_t s = 0; s < ARRAY_SIZE(scenarios); s++)
            for (size_t i = 0; i < compare->server_count; i++) {
                struct compare_run *run = &compare->runs[compare->run_count];

                if (compare->scenario != NULL && compare->scenario != &scenarios[s])
                    continue;
                if (compare_interrupted)
                    return false;
                good &= compare_run_server(&compare->options, &scenarios[s], compare->servers[i],
                                           round, run);
                if (compare_interrupted)
                    return false; /* the run was cut */
                compare->run_count++;
                show_run(run);
                good &= write_file(compare);
            }
    return good;
}

/* The script and the preset belong to the build that we are. */
static bool find_script(struct compare *compare)
{
    char top[3072];
    char *slash;
    ssize_t size = readlink("/proc/self/exe", top, sizeof(top) - 1);

    if (size < 0)
        return false;
    top[size] = 0;
    for (int up = 0; up < 3; up++) { /* TOP/build/PRESET/kilat-bench */
        slash = strrchr(top, '/');
        if (slash == NULL)
            return false;
        *slash = 0;
        if (up == 1)
            snprintf(compare->preset, sizeof(compare->preset), "%.60s", slash + 1);
    }
    snprintf(compare->script, sizeof(compare->script), "%s/bench/servers.sh", top);
    return access(compare->script, R_OK) == 0;
}

static bool split_servers(struct compare *compare, const char *names)
{
    char *rest = compare->server_names, *name;

    snprintf(compare->server_names, sizeof(compare->server_names), "%s", names);
    while ((name = strsep(&rest, ",")) != NULL) {
        static const char *const known[] = {"kilatd", "floor", "postfix", "postfix-tuned"};
        bool is_known = false;

        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
            is_known |= strcmp(known[i], name) == 0;
        if (!is_known || compare->server_count == SERVERS_MAX) {
            fprintf(stderr,
                    "kilat-bench compare: --servers: \"%s\" is none of: kilatd floor postfix "
                    "postfix-tuned\n",
                    name);
            return false;
        }
        compare->servers[compare->server_count++] = name;
    }
    return compare->server_count > 0;
}

static const char *const scenario_choices[] = {"relay-4k", "relay-4k-lockstep", NULL};
static_assert(ARRAY_SIZE(scenario_choices) == ARRAY_SIZE(scenarios) + 1, "the same names");

int compare_main(int argc, char **argv)
{
    struct compare compare = {
        .options = {.seconds = 5, .warm_up_seconds = 2, .count_seconds = 1, .rounds = 5}};
    struct sigaction action = {.sa_handler = on_interrupt};
    const char *names = "kilatd,floor,postfix,postfix-tuned";
    uint64_t scenario = UINT64_MAX;
    const struct option_row rows[] = {
        {"--scenario", OPTION_CHOICE, &scenario, 0, 0, scenario_choices},
        {"--rounds", OPTION_U64, &compare.options.rounds, 1, 100, NULL},
        {"--seconds", OPTION_U64, &compare.options.seconds, 1, 3600, NULL},
        {"--servers", OPTION_TEXT, &names, 0, 0, NULL},
        {"--json", OPTION_TEXT, &compare.json_path, 0, 0, NULL},
        {.name = NULL}};
    bool good;

    if (!options_read(argc, argv, rows) || !split_servers(&compare, names))
        return PROGRAM_USAGE;
    if (!find_script(&compare)) {
        fprintf(
            stderr,
            "kilat-bench compare: it starts servers by bench/servers.sh of the source tree that it "
            "was built in, and does not find that\n");
        return 1;
    }
    compare.options.script = compare.script;
    compare.options.preset = compare.preset;
    compare.scenario = scenario == UINT64_MAX ? NULL : &scenarios[scenario];
    compare.runs = calloc(RUNS_MAX, sizeof(*compare.runs));
    if (compare.runs == NULL)
        return 1;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    good = run_all(&compare);
    show_summary(&compare);
    free(compare.runs);
    return good ? 0 : 1;
}
