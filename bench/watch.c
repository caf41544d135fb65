#include "bench/watch.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/slice.h"

#define FILE_TEXT_MAX 16384
#define KERNEL_THREADS_PARENT 2

/* ---- small files ----------------------------------------------------------------------------- */

/* The text of a small file, "" when there is none. */
static const char *read_text(const char *path, char text[FILE_TEXT_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, text, FILE_TEXT_MAX - 1);

    if (fd >= 0)
        (void)close(fd); /* only read */
    text[MAX(size, 0)] = 0;
    return text;
}

static uint64_t number_after(const char *text, const char *word)
{
    const char *at = strstr(text, word);

    return at == NULL ? 0 : strtoull(at + strlen(word), NULL, 10);
}

/* Calls `each` for every process. */
static void each_process(void (*each)(void *context, pid_t pid), void *context)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (isdigit((unsigned char)entry->d_name[0]))
            each(context, (pid_t)strtol(entry->d_name, NULL, 10));
    if (dir != NULL)
        (void)closedir(dir);
}

/* Field `number` (from 1, as proc(5) counts them, 3 or higher) of /proc/PID/stat. */
static uint64_t stat_field(pid_t pid, int number)
{
    char path[64], text[FILE_TEXT_MAX];
    const char *at;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    at = strrchr(read_text(path, text), ')'); /* the name may hold anything */
    for (int field = 2; at != NULL && field < number; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

/* ---- the cgroup ------------------------------------------------------------------------------ */

/* Makes a group below `mount` where we are ourselves; `line` is how /proc/self/cgroup names that place. */
static bool make_group(struct watch *watch, const char *mount, const char *line)
{
    char text[FILE_TEXT_MAX], path[256] = "", probe[WATCH_PATH_SIZE];
    const char *at = strstr(read_text("/proc/self/cgroup", text), line);

    if (at != NULL)
        snprintf(path, sizeof(path), "%.*s", (int)MIN(strcspn(at + strlen(line), "\n"), 255),
                 at + strlen(line));
    snprintf(probe, sizeof(probe), "%s%s/cgroup.procs", mount, path);
    if (access(probe, W_OK) < 0)
        path[0] = 0; /* a container sees its own place as the top */
    snprintf(watch->cgroup, sizeof(watch->cgroup), "%s%s/kilat-bench.%d", mount,
             strcmp(path, "/") == 0 ? "" : path, (int)getpid());
    if (mkdir(watch->cgroup, 0755) == 0 || errno == EEXIST)
        return true;
    watch->cgroup[0] = 0;
    return false;
}

void watch_init(struct watch *watch)
{
    *watch = (struct watch){.root = 0};
    if (make_group(watch, "/sys/fs/cgroup/cpuacct", "cpuacct:") ||
        make_group(watch, "/sys/fs/cgroup/cpu,cpuacct", "cpuacct:"))
        return;
    watch->unified = true;
    if (access("/sys/fs/cgroup/cgroup.procs", F_OK) == 0)
        (void)make_group(watch, "/sys/fs/cgroup", "\n0::");
    else
        (void)make_group(watch, "/sys/fs/cgroup/unified", "\n0::");
}

void watch_deinit(struct watch *watch)
{
    const struct timespec moment = {.tv_nsec = 5 * MS_NS};

    /* Processes that were killed are still leaving for a moment. */
    for (int i = 0; watch->cgroup[0] != 0 && rmdir(watch->cgroup) < 0 && errno == EBUSY && i < 400;
         i++)
        (void)nanosleep(&moment, NULL);
    watch->cgroup[0] = 0;
}

static uint64_t cgroup_ns(const char *cgroup, bool unified)
{
    char path[WATCH_PATH_SIZE + 32], text[FILE_TEXT_MAX];

    snprintf(path, sizeof(path), "%s/%s", cgroup, unified ? "cpu.stat" : "cpuacct.usage");
    read_text(path, text);
    return unified ? number_after(text, "usage_usec ") * 1000 : strtoull(text, NULL, 10);
}

/* ---- processes ------------------------------------------------------------------------------- */

#define PROCESSES_MAX 4096
struct family {
    pid_t root;
    size_t count;
    pid_t pids[PROCESSES_MAX];
};

static void add_descendant(void *context, pid_t pid)
{
    struct family *family = context;
    pid_t ancestor = pid;

    while (ancestor > 1 && ancestor != family->root)
        ancestor = (pid_t)stat_field(ancestor, 4);
    if (ancestor == family->root && pid != family->root && family->count < PROCESSES_MAX)
        family->pids[family->count++] = pid;
}

static void find_family(const struct watch *watch, struct family *ret_family)
{
    char path[WATCH_PATH_SIZE + 32], text[FILE_TEXT_MAX];
    char *at = text, *end;

    *ret_family = (struct family){.root = watch->root};
    if (watch->cgroup[0] == 0) {
        each_process(add_descendant, ret_family);
        return;
    }
    snprintf(path, sizeof(path), "%s/cgroup.procs", watch->cgroup);
    read_text(path, text);
    for (;;) {
        long pid = strtol(at, &end, 10);

        if (end == at || ret_family->count == PROCESSES_MAX)
            return;
        ret_family->pids[ret_family->count++] = (pid_t)pid;
        at = end;
    }
}

uint64_t watch_process_ns(pid_t pid)
{
    struct timespec used;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) < 0)
        return 0;
    return (uint64_t)used.tv_sec * SECOND_NS + (uint64_t)used.tv_nsec;
}

static uint64_t ticks_to_ns(uint64_t ticks)
{
    return ticks * (SECOND_NS / (uint64_t)sysconf(_SC_CLK_TCK));
}

uint64_t watch_server_ns(const struct watch *watch)
{
    struct family family;
    uint64_t total = 0;

    if (watch->cgroup[0] != 0)
        return cgroup_ns(watch->cgroup, watch->unified);
    find_family(watch, &family);
    for (size_t i = 0; i < family.count; i++) /* ... and of the children that are gone: 16, 17 */
        total += watch_process_ns(family.pids[i]) +
                 ticks_to_ns(stat_field(family.pids[i], 16) + stat_field(family.pids[i], 17));
    return total;
}

/* ---- the machine ----------------------------------------------------------------------------- */

uint64_t watch_machine_ns(void)
{
    char text[FILE_TEXT_MAX];
    uint64_t total = cgroup_ns("/sys/fs/cgroup/cpuacct", false), ticks = 0;
    char *at;

    if (total == 0)
        total = cgroup_ns("/sys/fs/cgroup/cpu,cpuacct", false);
    if (total == 0)
        total = cgroup_ns("/sys/fs/cgroup", true);
    if (total > 0)
        return total;
    read_text("/proc/stat", text);
    at = text + strcspn(text, " ");
    for (int column = 0; column < 7; column++) {
        uint64_t value = strtoull(at, &at, 10);

        if (column != 3 && column != 4) /* idle, and idle that waits for a disk */
            ticks += value;
    }
    return ticks_to_ns(ticks);
}

uint64_t watch_stolen_ns(void)
{
    char text[FILE_TEXT_MAX];
    char *at;
    uint64_t value = 0;

    read_text("/proc/stat", text);
    at = text + strcspn(text, " ");
    for (int column = 0; column < 8; column++)
        value = strtoull(at, &at, 10);
    return ticks_to_ns(value);
}

static void add_kernel_thread(void *context, pid_t pid)
{
    char path[64], text[FILE_TEXT_MAX];

    if (stat_field(pid, 4) != KERNEL_THREADS_PARENT)
        return;
    snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
    *(uint64_t *)context += strtoull(read_text(path, text), NULL, 10);
}

uint64_t watch_kernel_threads_ns(void)
{
    uint64_t total = 0;

    each_process(add_kernel_thread, &total);
    return total;
}

/* ---- system calls ---------------------------------------------------------------------------- */

/* The kernel counts its tracepoint raw_syscalls:sys_enter, once per thread; threads and processes that those start are
 * counted with them. It is what `perf stat -e raw_syscalls:sys_enter` does. */
struct watch_calls {
    size_t count;
    int fds[PROCESSES_MAX];
};

#define TRACEPOINT "events/raw_syscalls/sys_enter/id"
#define TRACEFS "/sys/kernel/tracing/"

static uint64_t read_tracepoint(void)
{
    char text[FILE_TEXT_MAX];
    uint64_t id = strtoull(read_text(TRACEFS TRACEPOINT, text), NULL, 10);

    return id > 0 ? id
                  : strtoull(read_text("/sys/kernel/debug/tracing/" TRACEPOINT, text), NULL, 10);
}

/* Where tracefs is not mounted a child mounts it, for itself only and as long as it takes to read one number. */
static uint64_t tracepoint_id(void)
{
    uint64_t id = read_tracepoint();
    int ends[2];
    pid_t child;

    if (id > 0 || pipe2(ends, O_CLOEXEC) < 0)
        return id;
    child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWNS) == 0) {
            (void)mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL); /* "/" may be no mount */
            if (mount("tracefs", TRACEFS, "tracefs", 0, NULL) == 0) {
                id = read_tracepoint();
                (void)umount2(TRACEFS, MNT_DETACH);
            }
        }
        _exit(write(ends[1], &id, sizeof(id)) == sizeof(id) ? 0 : 1);
    }
    (void)close(ends[1]);
    if (child < 0 || read(ends[0], &id, sizeof(id)) != sizeof(id))
        id = 0;
    (void)close(ends[0]);
    if (child > 0)
        (void)waitpid(child, NULL, 0);
    return id;
}

static void count_threads(struct watch_calls *calls, uint64_t tracepoint, pid_t pid)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr), .config = tracepoint, .inherit = 1};
    char path[64];
    DIR *dir;
    struct dirent *entry;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL && calls->count < PROCESSES_MAX) {
        long fd;

        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        fd = syscall(SYS_perf_event_open, &attr, (pid_t)strtol(entry->d_name, NULL, 10), -1, -1,
                     PERF_FLAG_FD_CLOEXEC);
        if (fd >= 0) /* else the thread has just ended */
            calls->fds[calls->count++] = (int)fd;
    }
    if (dir != NULL)
        (void)closedir(dir);
}

struct watch_calls *watch_calls_begin(const struct watch *watch)
{
    struct watch_calls *calls = calloc(1, sizeof(*calls));
    uint64_t tracepoint = tracepoint_id();
    struct family family;

    find_family(watch, &family);
    for (size_t i = 0; calls != NULL && tracepoint > 0 && i < family.count; i++)
        count_threads(calls, tracepoint, family.pids[i]);
    if (calls != NULL && calls->count == 0) {
        free(calls);
        calls = NULL;
    }
    return calls;
}

uint64_t watch_calls_end(struct watch_calls **calls)
{
    uint64_t total = 0;

    for (size_t i = 0; *calls != NULL && i < (*calls)->count; i++) {
        uint64_t value;

        if (read((*calls)->fds[i], &value, sizeof(value)) == sizeof(value))
            total += value;
        (void)close((*calls)->fds[i]);
    }
    free(*calls);
    *calls = NULL;
    return total;
}
