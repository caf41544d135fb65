/* tests/sim/sim_main.c - runs worlds by their seeds and counts.
 *
 *     kilat-sim --seeds N [--first SEED] [--jobs N] [--world NAME]
 *     kilat-sim --seed SEED [--world NAME] [--verbose]
 *     kilat-sim --exhaustive [--levels N] [--jobs N] [--state PATH]
 *
 * Each seed is a process of its own (fork): what killed servers leave in memory goes with it, and an ASSERT or a
 * sanitizer's report of one seed is a failure of that seed. The first seeds of a run are run once more in a
 * program started anew, whose addresses differ, and must leave the same trace.
 */
#include "tests/sim/sim_exhaust.h"
#include "tests/sim/sim_worlds.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED_SECONDS_MAX 120
#define SEEDS_REPEATED 3

struct outcome {
    uint64_t hash;
    uint64_t events;
    uint64_t virtual_ns;
    uint64_t cpu_us;
    bool finished;
    char failure[1024];
    char note[256];
};

struct options {
    uint64_t first, count, jobs;
    const char *world;
    bool verbose, one, print_hash, exhaustive;
    uint64_t levels;
    const char *state;
};

/* What killed servers held is lost on purpose; ASan asks this whatever its options say. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

/* A seed's process lives for some milliseconds: memory that was freed is kept, not given back to be asked for again. */
const char *malloc_conf = "dirty_decay_ms:-1,muzzy_decay_ms:-1,narenas:1";

/* Every other seed is a world of mail. */
static const struct sim_world *const worlds[] = {&sim_world_mail, &sim_world_echo, &sim_world_mail,
                                                 &sim_world_spool, NULL};

static const struct sim_world *world_of(const struct options *options, uint64_t seed)
{
    size_t count = 0;

    for (; worlds[count] != NULL; count++)
        if (options->world != NULL && strcmp(worlds[count]->name, options->world) == 0)
            return worlds[count];
    return worlds[seed % count];
}

/* Of this process, which runs one seed: what others do on the machine does not count. */
static uint64_t cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void run_seed(const struct options *options, uint64_t seed, struct outcome *outcome)
{
    uint64_t begin_us = cpu_us();

    alarm(SEED_SECONDS_MAX);
    sim_begin(seed, options->verbose);
    world_of(options, seed)->run(outcome->note, sizeof(outcome->note));
    outcome->hash = sim.trace_hash;
    outcome->events = sim.events_run;
    outcome->virtual_ns = sim.now_ns;
    outcome->cpu_us = cpu_us() - begin_us;
    memcpy(outcome->failure, sim.failure, sizeof(outcome->failure));
    outcome->finished = true;
}

/* The same seed in a program whose addresses are others. False: it left another trace. */
static bool repeat_agrees(const struct options *options, uint64_t seed, uint64_t hash)
{
    char command[256];
    uint64_t again = 0;
    FILE *pipe;

    snprintf(command, sizeof(command), "/proc/%d/exe --seed %" PRIu64 " --world %s --print-hash",
             (int)getpid(), seed, world_of(options, seed)->name);
    pipe = popen(command, "r");
    if (pipe == NULL)
        return false;
    if (fscanf(pipe, "hash %" SCNx64, &again) != 1)
        again = 0;
    (void)pclose(pipe);
    return again == hash;
}

static void report(const struct options *options, uint64_t seed, struct outcome *outcome,
                   int status, uint64_t *failed)
{
    if (!outcome->finished)
        snprintf(outcome->failure, sizeof(outcome->failure), "ended by %s %d",
                 WIFSIGNALED(status) ? "signal" : "exit status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    else if (outcome->failure[0] == '\0' && seed < options->first + SEEDS_REPEATED &&
             !repeat_agrees(options, seed, outcome->hash))
        snprintf(outcome->failure, sizeof(outcome->failure),
                 "two runs of this seed left different traces");
    if (outcome->failure[0] == '\0')
        return;
    for (char *c = outcome->failure; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    (*failed)++;
    printf("seed %" PRIu64 " failed: %s\n  again: kilat-sim --world %s --seed %" PRIu64
           " --verbose\n",
           seed, outcome->failure, world_of(options, seed)->name, seed);
    fflush(stdout);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void summarise(const struct options *options, const struct outcome *outcomes)
{
    uint64_t *times = calloc(options->count, sizeof(*times));
    uint64_t virtual_s = 0, events = 0, busiest = 0;

    if (times == NULL)
        return;
    for (uint64_t i = 0; i < options->count; i++) {
        times[i] = outcomes[i].cpu_us;
        virtual_s += outcomes[i].virtual_ns / SECOND_NS;
        events += outcomes[i].events;
        if (outcomes[i].events > outcomes[busiest].events)
            busiest = i;
    }
    qsort(times, options->count, sizeof(*times), compare_u64);
    printf("%" PRIu64 " events, %" PRIu64 " h of virtual time; a seed took %" PRIu64
           " ms of CPU time in the median, %" PRIu64 " ms at most; the busiest was %" PRIu64
           " with %" PRIu64 " events\n",
           events, virtual_s / 3600, times[options->count / 2] / 1000,
           times[options->count - 1] / 1000, options->first + busiest, outcomes[busiest].events);
    free(times);
}

static uint64_t run_all(const struct options *options)
{
    struct outcome *outcomes = mmap(NULL, options->count * sizeof(*outcomes),
                                    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t *pids = calloc(options->count, sizeof(*pids));
    uint64_t started = 0, running = 0, failed = 0;

    if (outcomes == MAP_FAILED || pids == NULL)
        return options->count;
    while (started < options->count || running > 0) {
        int status;
        pid_t pid;

        while (started < options->count && running < options->jobs) {
            fflush(NULL);
            pid = fork();
            if (pid == 0) {
                run_seed(options, options->first + started, &outcomes[started]);
                fflush(NULL);
                _exit(0);
            }
            pids[started++] = pid;
            running++;
        }
        pid = wait(&status);
        for (uint64_t i = 0; i < started; i++) {
            if (pids[i] != pid)
                continue;
            pids[i] = 0;
            running--;
            report(options, options->first + i, &outcomes[i], status, &failed);
        }
    }
    summarise(options, outcomes);
    free(pids);
    return failed;
}

static int run_one(const struct options *options)
{
    static struct outcome outcome;

    run_seed(options, options->first, &outcome);
    if (options->print_hash) {
        printf("hash %016" PRIx64 "\n", outcome.hash);
        return 0;
    }
    printf("seed %" PRIu64 ", world %s: hash %016" PRIx64 ", %" PRIu64 " events, %" PRIu64
           " s of virtual time, %" PRIu64 " ms of CPU time\n%s\n",
           options->first, world_of(options, options->first)->name, outcome.hash, outcome.events,
           (uint64_t)(outcome.virtual_ns / SECOND_NS), outcome.cpu_us / 1000, outcome.note);
    if (outcome.failure[0] != '\0')
        printf("failed: %s\n", outcome.failure);
    printf("%d passed, %d failed\n", outcome.failure[0] == '\0', outcome.failure[0] != '\0');
    return outcome.failure[0] != '\0';
}

static uint64_t number(const char *text)
{
    uint64_t value = 0;

    if (text == NULL || !slice_parse_u64(slice_cstr(text), UINT64_MAX, &value)) {
        fprintf(stderr, "kilat-sim: a number was expected\n");
        exit(2);
    }
    return value;
}

static void read_options(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strcmp(argv[i], "--verbose") == 0) {
            options->verbose = true;
        } else if (strcmp(argv[i], "--exhaustive") == 0) {
            options->exhaustive = true;
        } else if (strcmp(argv[i], "--levels") == 0) {
            options->levels = number(value);
            i++;
        } else if (strcmp(argv[i], "--state") == 0 && value != NULL) {
            options->state = value;
            i++;
        } else if (strcmp(argv[i], "--print-hash") == 0) {
            options->print_hash = true;
        } else if (strcmp(argv[i], "--seed") == 0) {
            options->first = number(value);
            options->one = true;
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            options->count = number(value);
            i++;
        } else if (strcmp(argv[i], "--first") == 0) {
            options->first = number(value);
            i++;
        } else if (strcmp(argv[i], "--jobs") == 0) {
            options->jobs = MAX(1, number(value));
            i++;
        } else if (strcmp(argv[i], "--world") == 0 && value != NULL) {
            options->world = value;
            i++;
        } else {
            fprintf(stderr,
                    "usage: kilat-sim --seeds N [--first SEED] [--jobs N] [--world NAME]\n"
                    "       kilat-sim --seed SEED [--world NAME] [--verbose]\n"
                    "       kilat-sim --exhaustive [--levels N] [--jobs N] [--state PATH]\n");
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    struct options options = {.first = 1, .count = 20, .jobs = 2, .levels = 1};
    uint64_t failed;

    read_options(argc, argv, &options);
    if (options.exhaustive)
        return sim_exhaust((uint32_t)options.levels, (uint32_t)options.jobs, options.state,
                           options.verbose);
    if (options.one)
        return run_one(&options);
    failed = options.count == 0 ? 0 : run_all(&options);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", options.count - failed, failed);
    return failed != 0;
}
