/* One run of one server: the processes around it, what is measured, what must hold for it to count. */
#include "bench/compare.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/load_smtp.h"
#include "bench/sink.h"
#include "core/clock.h"

#define DISTURBED_CORES 0.15 /* of others, or stolen: fixed beforehand */
#define LOOK_NS (2 * MS_NS)  /* between two looks at the sink's counters */
#define IDLE_MAX_NS (30 * SECOND_NS)
#define START_MAX_S 120
#define PORT_FIRST 20000u /* below those that the kernel gives to connections */
#define PORT_COUNT 12000u

/* What the children write and we read. */
struct shared {
    struct sink_counters sink;
    struct load_result load;
    int load_error;
};

struct stage {
    const struct compare_options *options;
    struct compare_run *run;
    struct shared *shared;
    struct watch watch;
    struct netaddr server, sink;
    uint64_t tag;
    uint64_t accepted, issued; /* over all loads of the run */
    pid_t sink_pid, script_pid;
    FILE *script_says;
    int script_input;
    uint64_t load_cpu_ns;
};

KILAT_PRINTF(2, 3) static bool fail(struct stage *stage, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (stage->run->failed[0] == 0)
        vsnprintf(stage->run->failed, sizeof(stage->run->failed), format, args);
    va_end(args);
    return false;
}

static void nap(uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS)};

    (void)nanosleep(&time, NULL); /* shorter is as good */
}

/* ---- the sink -------------------------------------------------------------------------------- */

/* A port of the loopback that nobody listens on. */
static void choose_port(struct netaddr *ret_address)
{
    static const uint8_t loopback[4] = {127, 0, 0, 1};

    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool is_free;

        netaddr_from_ipv4(loopback, (uint16_t)(PORT_FIRST + random_below(PORT_COUNT)), ret_address);
        is_free = bind(fd, &ret_address->any, ret_address->size) == 0;
        (void)close(fd); /* it was only a question */
        if (is_free)
            return;
    }
}

static bool start_sink(struct stage *stage)
{
    struct sink_options options = {.listen = stage->sink,
                                   .pipelining = stage->run->scenario->pipelined,
                                   .counters = &stage->shared->sink};

    stage->sink_pid = fork();
    if (stage->sink_pid == 0)
        _exit(sink_run(&options) < 0 ? 1 : 0);
    for (int i = 0; stage->sink_pid > 0 && i < 5000; i++) {
        if (atomic_load(&stage->shared->sink.listens))
            return true;
        nap(LOOK_NS);
    }
    return fail(stage, "the sink did not start");
}

/* ---- the server ------------------------------------------------------------------------------ */

static void exec_script(struct stage *stage, int input, int output)
{
    char port[8], sink_port[8];

    snprintf(port, sizeof(port), "%u", netaddr_port(&stage->server));
    snprintf(sink_port, sizeof(sink_port), "%u", netaddr_port(&stage->sink));
    (void)dup2(input, STDIN_FILENO);
    (void)dup2(output, STDOUT_FILENO);
    if (stage->watch.cgroup[0] != 0)
        (void)setenv("BENCH_CGROUP", stage->watch.cgroup, 1);
    else
        (void)unsetenv("BENCH_CGROUP");
    (void)setenv("KILAT_PRESET", stage->options->preset, 1);
    (void)execl("/bin/bash", "bash", stage->options->script, stage->run->server, port, sink_port,
                stage->run->scenario->pipelined ? "pipelined" : "lockstep", NULL);
    _exit(127);
}

static bool start_server(struct stage *stage)
{
    int to[2], from[2];
    char line[4096] = "";

    if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
        return fail(stage, "no pipe: %s", strerror(errno));
    stage->script_pid = fork();
    if (stage->script_pid == 0)
        exec_script(stage, to[0], from[1]);
    (void)close(to[0]);
    (void)close(from[1]);
    stage->script_input = to[1];
    stage->script_says = fdopen(from[0], "r");
    stage->watch.root = stage->script_pid;
    if (stage->script_pid < 0 || stage->script_says == NULL ||
        fgets(line, sizeof(line), stage->script_says) == NULL)
        return fail(stage, "the server did not start");
    line[strcspn(line, "\n")] = 0;
    if (strncmp(line, "absent ", 7) == 0)
        return fail(stage, "%.200s", line + 7);
    return strncmp(line, "ready", 5) == 0 || fail(stage, "the server said: %.200s", line);
}

/* ---- a load ---------------------------------------------------------------------------------- */

static uint64_t arrived(const struct stage *stage)
{
    return atomic_load_explicit(&stage->shared->sink.distinct, memory_order_acquire);
}

static bool is_unaltered(struct stage *stage)
{
    const struct sink_counters *sink = &stage->shared->sink;

    return (sink->altered == 0 ||
            fail(stage, "%llu letters were altered", (unsigned long long)sink->altered)) &&
           (sink->foreign == 0 || fail(stage, "%llu messages arrived that were not sent (reports?)",
                                       (unsigned long long)sink->foreign));
}

/* Until all that was accepted has arrived. */
static bool await_delivery(struct stage *stage)
{
    uint64_t seen = arrived(stage), since_ns = clock_monotonic_ns();

    while (seen < stage->accepted && is_unaltered(stage)) {
        nap(LOOK_NS);
        if (arrived(stage) != seen) {
            seen = arrived(stage);
            since_ns = clock_monotonic_ns();
        } else if (clock_monotonic_ns() - since_ns > IDLE_MAX_NS) {
            return fail(stage, "%llu letters were answered 250 and never arrived",
                        (unsigned long long)(stage->accepted - seen));
        }
    }
    return is_unaltered(stage) && (seen == stage->accepted ||
                                   fail(stage, "%llu letters arrived that were not answered 250",
                                        (unsigned long long)(seen - stage->accepted)));
}

/* A load of its own process, of so many seconds, and the delivery of all of it. */
static bool run_load(struct stage *stage, uint64_t seconds)
{
    const struct compare_scenario *scenario = stage->run->scenario;
    struct load_options options = {.to = stage->server,
                                   .sessions = scenario->sessions,
                                   .size_bytes = scenario->size_bytes,
                                   .seconds = seconds,
                                   .pipelined = scenario->pipelined,
                                   .from = "load@bench.test",
                                   .rcpt = "sink@bench.test",
                                   .tag = stage->tag,
                                   .first_id = stage->issued};
    const struct load_result *load = &stage->shared->load;
    struct timespec used = {.tv_sec = 0};
    clockid_t clock;
    siginfo_t info;
    pid_t pid = fork();

    if (pid == 0) {
        stage->shared->load_error = load_run(&options, &stage->shared->load);
        _exit(0);
    }
    if (pid < 0 || waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0)
        return fail(stage, "no load: %s", strerror(errno));
    if (clock_getcpuclockid(pid, &clock) == 0) /* it is a zombie: its clock can still be read */
        (void)clock_gettime(clock, &used);
    stage->load_cpu_ns = (uint64_t)used.tv_sec * SECOND_NS + (uint64_t)used.tv_nsec;
    (void)waitpid(pid, NULL, 0);
    if (stage->shared->load_error < 0)
        return fail(stage, "the load: %s", strerror(-stage->shared->load_error));
    stage->issued += load->accepted + load->refused + load->unknown;
    stage->accepted += load->accepted;
    if (load->refused > 0 || load->unknown > 0 || load->accepted == 0 || load->failures > 0)
        return fail(stage, "%llu accepted, %llu refused, %llu unanswered: %.150s",
                    (unsigned long long)load->accepted, (unsigned long long)load->refused,
                    (unsigned long long)load->unknown, load->first_trouble);
    return await_delivery(stage);
}

/* ---- measuring ------------------------------------------------------------------------------- */

struct reading {
    uint64_t at_ns, server_ns, machine_ns, kernel_ns, stolen_ns, sink_ns, own_ns;
};

static struct reading read_all(const struct stage *stage)
{
    return (struct reading){.at_ns = clock_monotonic_ns(),
                            .server_ns = watch_server_ns(&stage->watch),
                            .machine_ns = watch_machine_ns(),
                            .kernel_ns = watch_kernel_threads_ns(),
                            .stolen_ns = watch_stolen_ns(),
                            .sink_ns = watch_process_ns(stage->sink_pid),
                            .own_ns = watch_process_ns(getpid())};
}

static double positive(double value)
{
    return value > 0 ? value : 0;
}

static void note_cpu(struct stage *stage, const struct reading *before, const struct reading *after)
{
    struct compare_run *run = stage->run;
    double messages = (double)run->messages;
    double passed = (double)(after->at_ns - before->at_ns);
    double server = (double)(after->server_ns - before->server_ns);
    double kernel = positive((double)after->kernel_ns - (double)before->kernel_ns);
    double sink = (double)(after->sink_ns - before->sink_ns);
    double ours = server + kernel + sink + (double)stage->load_cpu_ns +
                  (double)(after->own_ns - before->own_ns);

    run->cpu_us = server / messages / 1e3;
    run->kernel_cpu_us = kernel / messages / 1e3;
    run->sink_cpu_us = sink / messages / 1e3;
    run->load_cpu_us = (double)stage->load_cpu_ns / messages / 1e3;
    run->others_cores = positive((double)(after->machine_ns - before->machine_ns) - ours) / passed;
    run->stolen_cores = positive((double)after->stolen_ns - (double)before->stolen_ns) / passed;
    run->disturbed = run->others_cores > DISTURBED_CORES || run->stolen_cores > DISTURBED_CORES;
}

static bool measure(struct stage *stage)
{
    const struct load_result *load = &stage->shared->load;
    struct compare_run *run = stage->run;
    struct reading before = read_all(stage), after;

    if (!run_load(stage, stage->options->seconds))
        return false;
    after = read_all(stage);
    run->messages = load->accepted;
    run->delivered_per_s =
        (double)load->accepted * 1e9 / (double)(stage->shared->sink.last_ns - load->started_ns);
    run->p50_us = (double)histogram_percentile(&load->accept_ns, 50) / 1e3;
    run->p99_us = (double)histogram_percentile(&load->accept_ns, 99) / 1e3;
    run->p999_us = (double)histogram_percentile(&load->accept_ns, 99.9) / 1e3;
    run->longest_us = (double)load->accept_ns.max / 1e3;
    note_cpu(stage, &before, &after);
    return true;
}

/* Apart from the measured load, because counting costs something. */
static bool count_calls(struct stage *stage)
{
    struct watch_calls *calls = watch_calls_begin(&stage->watch);
    bool counted = calls != NULL;
    bool good = !counted || run_load(stage, stage->options->count_seconds);
    uint64_t count = watch_calls_end(&calls);

    if (counted && good)
        stage->run->syscalls = (double)count / (double)stage->shared->load.accepted;
    return good;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The script ends its server when its input ends; it gets a while for that. */
static void end_script(struct stage *stage)
{
    if (stage->script_pid <= 0)
        return;
    (void)close(stage->script_input);
    for (int i = 0; i < 30000 && waitpid(stage->script_pid, NULL, WNOHANG) == 0; i++)
        nap(LOOK_NS);
    (void)kill(stage->script_pid, SIGKILL); /* nobody, when it has ended */
    (void)waitpid(stage->script_pid, NULL, 0);
    if (stage->script_says != NULL)
        (void)fclose(stage->script_says);
}

static void end_sink(struct stage *stage)
{
    if (stage->sink_pid <= 0)
        return;
    (void)kill(stage->sink_pid, SIGTERM);
    (void)waitpid(stage->sink_pid, NULL, 0);
}

static void run_stage(struct stage *stage)
{
    bool good = start_sink(stage) && start_server(stage) &&
                run_load(stage, stage->options->warm_up_seconds) && measure(stage) &&
                count_calls(stage);

    end_script(stage);
    end_sink(stage);
    /* Once more, now that nothing can arrive any more. */
    if (good && is_unaltered(stage) && arrived(stage) != stage->accepted)
        (void)fail(stage, "%llu letters more arrived than were answered 250",
                   (unsigned long long)(arrived(stage) - stage->accepted));
    stage->run->twice = stage->shared->sink.twice;
}

bool compare_run_server(const struct compare_options *options,
                        const struct compare_scenario *scenario, const char *server, uint64_t round,
                        struct compare_run *ret_run)
{
    struct stage stage = {.options = options, .run = ret_run, .tag = random_u64()};

    *ret_run = (struct compare_run){.scenario = scenario,
                                    .server = server,
                                    .round = round,
                                    .started_s = clock_wall_ns() / SECOND_NS,
                                    .delivered_per_s = NAN,
                                    .cpu_us = NAN,
                                    .syscalls = NAN,
                                    .p50_us = NAN,
                                    .p99_us = NAN,
                                    .p999_us = NAN,
                                    .longest_us = NAN,
                                    .load_cpu_us = NAN,
                                    .sink_cpu_us = NAN,
                                    .kernel_cpu_us = NAN,
                                    .others_cores = NAN,
                                    .stolen_cores = NAN};
    stage.shared = mmap(NULL, sizeof(*stage.shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stage.shared == MAP_FAILED)
        return fail(&stage, "no memory");
    choose_port(&stage.server);
    choose_port(&stage.sink);
    watch_init(&stage.watch);
    ret_run->by_cgroup = stage.watch.cgroup[0] != 0;
    run_stage(&stage);
    watch_deinit(&stage.watch);
    (void)munmap(stage.shared, sizeof(*stage.shared));
    return ret_run->failed[0] == 0;
}
