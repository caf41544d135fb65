#include "bench/restart.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/load_smtp.h"
#include "bench/program.h"
#include "bench/report.h"
#include "bench/sink.h"
#include "core/clock.h"
#include "core/netaddr.h"

#define LOOK_NS (5 * MS_NS)
#define PATIENCE_S 600
#define SERVER_USER 63020u /* whom the server becomes when we are root */
#define DUE_MESSAGES 1000u
#define DESTINATIONS 10000u
#define SPOOLS_MAX 64u
#define NOBODY_PORT 9u /* discard: nobody listens there */

struct restart {
    const char *directory, *json_path;
    uint64_t messages, spools, body_bytes, idle_s;
    char scratch[4096], kilatd[4096];
    struct netaddr listen, sink_address;
    struct sink_counters *sink;
    pid_t sink_pid, server_pid;
};

/* One start of the server. Seconds since it was executed; NAN: it never came. */
struct restart_seen {
    double accept_s, deliver_s, known_s;
    double resident_mib, peak_mib, idle_cpu_percent;
};

static uint64_t now_ns(void)
{
    return clock_monotonic_ns();
}

static void nap(uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS)};

    (void)nanosleep(&time, NULL); /* shorter is as good */
}

static double since_s(uint64_t from_ns)
{
    return (double)(now_ns() - from_ns) / (double)SECOND_NS;
}

/* ---- the other ends ------------------------------------------------------------------------------- */

static void choose_port(struct netaddr *ret_address)
{
    static const uint8_t loopback[4] = {127, 0, 0, 1};
    bool is_free = false;

    while (!is_free) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        netaddr_from_ipv4(loopback, (uint16_t)(20000 + random_below(12000)), ret_address);
        is_free = bind(fd, &ret_address->any, ret_address->size) == 0;
        (void)close(fd); /* it was only a question */
    }
}

static int start_sink(struct restart *restart)
{
    struct sink_options options = {
        .listen = restart->sink_address, .pipelining = true, .counters = restart->sink};

    restart->sink_pid = fork();
    if (restart->sink_pid == 0)
        _exit(sink_run(&options) < 0 ? 1 : 0);
    for (int i = 0; restart->sink_pid > 0 && i < 2000; i++) {
        if (atomic_load(&restart->sink->listens))
            return 0;
        nap(LOOK_NS);
    }
    return -ETIMEDOUT;
}

static uint64_t arrived(const struct restart *restart)
{
    return atomic_load(&restart->sink->foreign);
}

/* ---- the server ----------------------------------------------------------------------------------- */

/* `second_port`: where the mail of second.due.test goes. */
static int write_settings(const struct restart *restart, uint32_t second_port)
{
    char path[4200];
    FILE *file;
    bool ok;

    (void)snprintf(path, sizeof(path), "%s/kilat.conf", restart->scratch);
    file = fopen(path, "we");
    if (file == NULL)
        return -errno;
    ok = fprintf(file,
                 "user = \"%u\"\nhostname = \"restart.bench.test\"\n"
                 "spool_directory = \"%s/spool\"\nmail_directory = \"%s/mail\"\n"
                 "users_file = \"%s/users\"\ncontrol_socket = \"%s/control\"\n"
                 "log_file = \"%s/log\"\nshards = %llu\nforce_file_system = true\n"
                 "relay_networks = {\"127.0.0.0/8\"}\nsmtp_listen = {\"127.0.0.1:%u\"}\n"
                 "pop3_listen = {}\ndns_servers = {\"127.0.0.1:9\"}\n"
                 "allow_private_mail_hosts = true\n"
                 "route \"second.due.test\" { via = \"127.0.0.1:%u\" }\n"
                 "route \"*\" { via = \"127.0.0.1:%u\" }\n",
                 SERVER_USER, restart->scratch, restart->scratch, restart->scratch,
                 restart->scratch, restart->scratch, (unsigned long long)restart->spools,
                 netaddr_port(&restart->listen), second_port,
                 netaddr_port(&restart->sink_address)) > 0;
    return fclose(file) == 0 && ok ? 0 : -EIO;
}

static void start_server(struct restart *restart)
{
    char path[4200];

    (void)snprintf(path, sizeof(path), "%s/kilat.conf", restart->scratch);
    restart->server_pid = fork();
    if (restart->server_pid == 0) {
        (void)execl(restart->kilatd, "kilatd", "--config", path, NULL);
        _exit(127);
    }
}

static bool server_lives(struct restart *restart)
{
    if (restart->server_pid > 0 && waitpid(restart->server_pid, NULL, WNOHANG) == 0)
        return true;
    restart->server_pid = 0;
    return false;
}

static void end_server(struct restart *restart, int number)
{
    if (restart->server_pid <= 0)
        return;
    (void)kill(restart->server_pid, number);
    (void)waitpid(restart->server_pid, NULL, 0);
    restart->server_pid = 0;
}

static double status_mib(pid_t pid, const char *field)
{
    char path[64], line[256];
    double kib = NAN;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return NAN;
    while (isnan(kib) && fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            kib = strtod(line + strlen(field), NULL);
    (void)fclose(file); /* only read */
    return kib / 1024;
}

static double cpu_s(pid_t pid)
{
    char path[64], text[1024];
    unsigned long user = 0, kernel = 0;
    const char *fields;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return NAN;
    if (fgets(text, sizeof(text), file) != NULL && (fields = strrchr(text, ')')) != NULL)
        (void)sscanf(fields + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                     &kernel);
    (void)fclose(file); /* only read */
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

/* How many spools the server has said to know again, since `offset` of its log. */
static uint64_t spools_known(const struct restart *restart, long offset)
{
    char path[4200], line[4096];
    uint64_t count = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/log", restart->scratch);
    file = fopen(path, "re");
    if (file == NULL)
        return 0;
    (void)fseek(file, offset, SEEK_SET); /* of a file that only grows */
    while (fgets(line, sizeof(line), file) != NULL)
        count += strstr(line, "spool.restored") != NULL;
    (void)fclose(file); /* only read */
    return count;
}

static long log_size(const struct restart *restart)
{
    char path[4200];
    struct stat info;

    (void)snprintf(path, sizeof(path), "%s/log", restart->scratch);
    return stat(path, &info) < 0 ? 0 : (long)info.st_size;
}

/* ---- what is seen --------------------------------------------------------------------------------- */

static bool accepts_one(const struct restart *restart)
{
    struct load_options options = {
        .to = restart->listen,
        .sessions = 1,
        .size_bytes = 4096,
        .messages = 1,
        .from = "baru@restart.bench.test",
        .rcpt = "baru@new.test",
        .tag = 1,
    };
    struct load_result *result = malloc(sizeof(*result));
    bool ok = result != NULL && load_run(&options, result) == 0 && result->accepted == 1;

    free(result);
    return ok;
}

static bool port_open(const struct netaddr *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool open = fd >= 0 && connect(fd, &address->any, address->size) == 0;

    if (fd >= 0)
        (void)close(fd); /* it was only a question */
    return open;
}

static int watch_start(struct restart *restart, struct restart_seen *ret_seen)
{
    struct restart_seen seen = {NAN, NAN, NAN, NAN, NAN, NAN};
    uint64_t before = arrived(restart), began_ns;
    long offset = log_size(restart);
    double cpu_before_s;

    began_ns = now_ns();
    start_server(restart);
    while (isnan(seen.accept_s) || isnan(seen.deliver_s) || isnan(seen.known_s)) {
        if (!server_lives(restart) || since_s(began_ns) > PATIENCE_S) {
            fprintf(stderr, "kilat-bench restart: the server %s; its log is %s/log\n",
                    restart->server_pid > 0 ? "took too long" : "has ended", restart->scratch);
            return -EIO;
        }
        if (isnan(seen.accept_s) && port_open(&restart->listen) && accepts_one(restart))
            seen.accept_s = since_s(began_ns);
        if (isnan(seen.deliver_s) && arrived(restart) > before)
            seen.deliver_s = since_s(began_ns);
        if (isnan(seen.known_s) && spools_known(restart, offset) >= restart->spools)
            seen.known_s = since_s(began_ns);
        nap(LOOK_NS);
    }
    nap(2 * SECOND_NS); /* what is due goes out */
    seen.resident_mib = status_mib(restart->server_pid, "VmRSS:");
    cpu_before_s = cpu_s(restart->server_pid);
    nap(restart->idle_s * SECOND_NS);
    seen.idle_cpu_percent =
        100 * (cpu_s(restart->server_pid) - cpu_before_s) / (double)restart->idle_s;
    seen.peak_mib = status_mib(restart->server_pid, "VmHWM:");
    *ret_seen = seen;
    return 0;
}

static void print_seen(const char *what, const struct restart_seen *seen)
{
    printf("%-16s %8.2f s %8.2f s %8.2f s %9.0f MiB %9.0f MiB %8.2f %%\n", what, seen->accept_s,
           seen->deliver_s, seen->known_s, seen->resident_mib, seen->peak_mib,
           seen->idle_cpu_percent);
}

static void put_seen(struct buf *json, const struct restart *restart, const char *what,
                     const struct restart_seen *seen)
{
    report_object_begin(json);
    report_text(json, "start", what);
    report_u64(json, "messages", restart->messages);
    report_u64(json, "spools", restart->spools);
    report_number(json, "accept_s", seen->accept_s);
    report_number(json, "deliver_s", seen->deliver_s);
    report_number(json, "known_s", seen->known_s);
    report_number(json, "resident_mib", seen->resident_mib);
    report_number(json, "peak_mib", seen->peak_mib);
    report_number(json, "idle_cpu_percent", seen->idle_cpu_percent);
    report_object_end(json);
}

static int write_json(const struct restart *restart, const struct restart_seen *stop,
                      const struct restart_seen *kill)
{
    struct buf json;
    FILE *file;
    bool ok;

    if (restart->json_path == NULL)
        return 0;
    buf_init(&json, 64 * KIB);
    buf_append_cstr(&json, "[");
    put_seen(&json, restart, "stopped", stop);
    buf_append_cstr(&json, ",\n");
    put_seen(&json, restart, "killed", kill);
    buf_append_cstr(&json, "]\n");
    file = fopen(restart->json_path, "we");
    ok = file != NULL && fwrite(json.data, 1, json.size, file) == json.size;
    if ((file != NULL && fclose(file) != 0) || !ok)
        fprintf(stderr, "kilat-bench restart: %s: %s\n", restart->json_path, strerror(errno));
    buf_deinit(&json);
    return ok ? 0 : -EIO;
}

/* ---- the course of it ------------------------------------------------------------------------------ */

static int make_directories(struct restart *restart)
{
    static const char *const names[] = {"", "/spool", "/mail"};
    char path[4200];

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", restart->scratch, names[i]);
        if (i > 0 && mkdir(path, 0700) < 0)
            return -errno;
    }
    return 0;
}

static int fill_all(struct restart *restart)
{
    char path[4200];
    int r = 0;

    for (uint64_t i = 0; i < restart->spools && r == 0; i++) {
        struct restart_fill fill = {
            .path = path,
            .number = (uint32_t)i,
            .messages = restart->messages / restart->spools,
            .due = DUE_MESSAGES,
            .destinations = DESTINATIONS,
            .body_bytes = restart->body_bytes,
        };
        pid_t child;
        int status = 0;

        (void)snprintf(path, sizeof(path), "%s/spool/%04u", restart->scratch, (unsigned)i);
        child = fork(); /* each spool's memory goes with its process */
        if (child == 0)
            _exit(restart_fill_run(&fill) < 0 ? 1 : 0);
        if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
            r = -EIO;
    }
    return r;
}

/* As root the server becomes somebody else, whose all this is to be. */
static void own(const struct restart *restart)
{
    char command[8400];

    if (geteuid() != 0)
        return;
    (void)snprintf(command, sizeof(command), "chown -R %u:%u '%s'", SERVER_USER, SERVER_USER,
                   restart->scratch);
    if (system(command) != 0) /* our own path; a server that cannot read it says so */
        fprintf(stderr, "kilat-bench restart: %s cannot be given away\n", restart->scratch);
}

static void clear(const struct restart *restart)
{
    char command[8400];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", restart->scratch);
    if (system(command) != 0)
        fprintf(stderr, "kilat-bench restart: %s is left\n", restart->scratch);
}

static int run(struct restart *restart)
{
    struct restart_seen stopped, killed;
    int r = make_directories(restart);

    if (r == 0)
        r = fill_all(restart);
    if (r == 0)
        r = write_settings(restart, NOBODY_PORT);
    if (r == 0)
        r = start_sink(restart);
    if (r < 0)
        return r;
    own(restart);
    printf("%llu messages of %llu octets in %llu spools\n", (unsigned long long)restart->messages,
           (unsigned long long)restart->body_bytes, (unsigned long long)restart->spools);
    printf("%-16s %10s %10s %10s %13s %13s %10s\n", "start after", "accepts", "delivers",
           "knows all", "resident", "peak", "idle CPU");
    r = watch_start(restart, &stopped);
    end_server(restart, SIGKILL);
    if (r < 0)
        return r;
    print_seen("a stop", &stopped);
    r = write_settings(restart, netaddr_port(&restart->sink_address));
    if (r < 0)
        return r;
    r = watch_start(restart, &killed);
    end_server(restart, SIGTERM);
    if (r < 0)
        return r;
    print_seen("kill -9", &killed);
    return write_json(restart, &stopped, &killed);
}

/* kilatd stands beside kilat-bench. */
static void find_server(struct restart *restart)
{
    ssize_t size = readlink("/proc/self/exe", restart->kilatd, sizeof(restart->kilatd) - 8);
    char *slash;

    restart->kilatd[size > 0 ? size : 0] = 0;
    slash = strrchr(restart->kilatd, '/');
    if (slash != NULL)
        memcpy(slash, "/kilatd", sizeof("/kilatd"));
}

int restart_main(int argc, char **argv)
{
    struct restart restart = {.messages = 10000000, .spools = 2, .body_bytes = 512, .idle_s = 30};
    const struct option_row rows[] = {
        {"--directory", OPTION_TEXT, &restart.directory, 0, 0, NULL},
        {"--messages", OPTION_U64, &restart.messages, 1, 1000000000, NULL},
        {"--spools", OPTION_U64, &restart.spools, 1, SPOOLS_MAX, NULL},
        {"--size", OPTION_U64, &restart.body_bytes, 2, 65536, NULL},
        {"--idle", OPTION_U64, &restart.idle_s, 1, 3600, NULL},
        {"--json", OPTION_TEXT, &restart.json_path, 0, 0, NULL},
        {.name = NULL}};
    int r;

    if (!options_read(argc, argv, rows))
        return PROGRAM_USAGE;
    if (restart.directory == NULL || strchr(restart.directory, '\'') != NULL) {
        fprintf(stderr, "kilat-bench restart: it needs --directory, a folder on disk\n");
        return PROGRAM_USAGE;
    }
    find_server(&restart);
    choose_port(&restart.listen);
    choose_port(&restart.sink_address);
    (void)snprintf(restart.scratch, sizeof(restart.scratch), "%s/kilat-restart-XXXXXX",
                   restart.directory);
    if (mkdtemp(restart.scratch) == NULL) {
        fprintf(stderr, "kilat-bench restart: %s: %s\n", restart.directory, strerror(errno));
        return 1;
    }
    restart.sink = mmap(NULL, sizeof(*restart.sink), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    r = restart.sink == MAP_FAILED ? -ENOMEM : run(&restart);
    end_server(&restart, SIGKILL);
    if (restart.sink_pid > 0) {
        (void)kill(restart.sink_pid, SIGTERM);
        (void)waitpid(restart.sink_pid, NULL, 0);
    }
    if (r < 0)
        fprintf(stderr, "kilat-bench restart: %s\n", strerror(-r));
    else
        clear(&restart);
    return r < 0 ? 1 : 0;
}
