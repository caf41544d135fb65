/* tests/sim/sim_world.c - events in order of virtual time; hosts and processes, their birth and their deaths. */
#include "tests/sim/sim_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct sim sim;

#define SIM_EVENTS_MAX 40000000ull /* a world that goes on beyond this turns in circles */

/* ---- randomness ------------------------------------------------------------------------------- */

/* splitmix64: one word of state, good enough to choose faults, the same everywhere. */
uint64_t sim_random_u64(struct sim_random *random)
{
    uint64_t z = (random->state += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t sim_random_below(struct sim_random *random, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)sim_random_u64(random) * bound) >> 64);
}

uint64_t sim_between(uint64_t low, uint64_t high)
{
    ASSERT(low <= high);
    return low + sim_random_below(&sim.random, high - low + 1);
}

bool sim_chance(uint32_t per_mille)
{
    return !sim.sober && per_mille > 0 && sim_random_below(&sim.random, 1000) < per_mille;
}

/* ---- events: a binary heap by (time, order of arming) ------------------------------------------ */

static struct sim_event **heap;
static uint32_t heap_count, heap_capacity;
static uint64_t next_serial;

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->serial < b->serial;
}

static void put(uint32_t index, struct sim_event *event)
{
    heap[index] = event;
    event->place = index + 1;
}

static void sift(uint32_t index, struct sim_event *event)
{
    while (index > 0 && before(event, heap[(index - 1) / 2])) {
        put(index, heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    for (;;) {
        uint32_t child = 2 * index + 1;

        if (child >= heap_count)
            break;
        if (child + 1 < heap_count && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], event))
            break;
        put(index, heap[child]);
        index = child;
    }
    put(index, event);
}

void sim_event_arm(struct sim_event *event, uint64_t at_ns, sim_event_fn *run)
{
    ASSERT(event->place == 0);
    if (heap_count == heap_capacity) {
        heap_capacity = heap_capacity == 0 ? 1024 : heap_capacity * 2;
        heap = realloc(heap, heap_capacity * sizeof(*heap));
        ASSERT(heap != NULL);
    }
    event->at_ns = MAX(at_ns, sim.now_ns);
    event->serial = next_serial++;
    event->run = run;
    sift(heap_count++, event);
}

void sim_event_cancel(struct sim_event *event)
{
    uint32_t index;

    if (event->place == 0)
        return;
    index = event->place - 1;
    event->place = 0;
    heap_count--;
    if (index != heap_count)
        sift(index, heap[heap_count]);
}

/* ---- the world -------------------------------------------------------------------------------- */

void sim_begin(uint64_t seed, bool verbose)
{
    sim = (struct sim){.seed = seed, .verbose = verbose, .next_pid = 100};
    sim.random.state = seed * 0x9e3779b97f4a7c15ull + 1;
    sim.trace_hash = seed;
}

void sim_run(uint64_t until_ns)
{
    while (!sim.over && sim.failure[0] == '\0' && heap_count > 0 && heap[0]->at_ns <= until_ns) {
        struct sim_event *event;

        if (sim.next != NULL) {
            void (*next)(void) = sim.next;

            sim.next = NULL;
            next();
            continue; /* the heap is another one now */
        }
        event = heap[0];
        sim.now_ns = event->at_ns;
        sim_event_cancel(event);
        if (++sim.events_run > SIM_EVENTS_MAX)
            sim_fail("more than %llu events: the world turns in circles", SIM_EVENTS_MAX);
        event->run(event);
    }
}

void sim_end_world(void)
{
    sim.over = true;
}

void sim_fail(const char *format, ...)
{
    va_list args;

    if (sim.failure[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(sim.failure, sizeof(sim.failure), format, args);
    va_end(args);
    sim_trace_text("failure", slice_cstr(sim.failure));
}

/* ---- hosts ------------------------------------------------------------------------------------ */

struct sim_host *sim_host_create(const char *name, const char *address)
{
    struct sim_host *host = calloc(1, sizeof(*host));

    ASSERT(host != NULL && sim.host_count < ARRAY_SIZE(sim.hosts));
    host->index = sim.host_count;
    snprintf(host->name, sizeof(host->name), "%s", name);
    ASSERT(netaddr_parse(slice_cstr(address), 0, &host->address));
    host->powered = true;
    list_init(&host->processes);
    host->disk = sim_disk_create(host);
    sim.hosts[sim.host_count++] = host;
    return host;
}

struct sim_host *sim_host_by_address(const struct netaddr *address)
{
    for (uint32_t i = 0; i < sim.host_count; i++)
        if (netaddr_same_host(&sim.hosts[i]->address, address))
            return sim.hosts[i];
    return NULL;
}

/* ---- processes -------------------------------------------------------------------------------- */

struct process_start {
    struct sim_process *process;
    sim_main_fn *run;
    void *context;
};

static void process_release(struct sim_process *process, bool power)
{
    struct list_node *node;

    while ((node = list_pop_front(&process->fibers)) != NULL)
        sim_fiber_abandon(CONTAINER_OF(node, struct sim_fiber, node));
    list_for_each (ring_node, &process->rings) {
        sim_ring_abandon(sim_ring_of_node(ring_node));
    }
    (void)power;
    for (int fd = 0; fd < SIM_PROCESS_FDS; fd++) {
        struct sim_fd *slot = &process->fds[fd];

        if (slot->kind == SIM_FD_FILE)
            sim_disk_fd_closed(slot);
        else if (slot->kind != SIM_FD_NONE)
            sim_net_fd_closed(process, slot, power);
        *slot = (struct sim_fd){.kind = SIM_FD_NONE};
    }
    list_remove(&process->node);
}

static void process_main(void *argument)
{
    struct process_start *start = argument;
    struct sim_process *process = start->process;

    process->status = start->run(process, start->context);
    free(start);
    process->exited = true;
    sim_trace("process.exit", (uint64_t)process->pid, (uint64_t)process->status, 0);
    /* exit() takes the other threads along, wherever they are. */
    sim_process_kill(process);
}

struct sim_process *sim_process_start(struct sim_host *host, const char *name, sim_main_fn *run,
                                      void *context)
{
    struct sim_process *process = calloc(1, sizeof(*process));
    struct process_start *start = malloc(sizeof(*start));

    ASSERT(process != NULL && start != NULL && host->powered);
    process->host = host;
    process->pid = sim.next_pid++;
    snprintf(process->name, sizeof(process->name), "%s", name);
    process->alive = true;
    process->cpu_count = 1;
    process->fd_max = SIM_PROCESS_FDS;
    process->random.state = sim_random_u64(&sim.random);
    process->context = context;
    list_init(&process->fibers);
    list_init(&process->rings);
    list_init(&process->logs);
    list_push_back(&host->processes, &process->node);
    *start = (struct process_start){.process = process, .run = run, .context = context};
    sim_trace("process.start", (uint64_t)process->pid, host->index, 0);
    (void)sim_fiber_start(process, process_main, start, sim.now_ns + sim_between(1000, 1000000));
    return process;
}

static void process_end(struct sim_process *process, bool power)
{
    if (!process->alive)
        return;
    process->alive = false;
    sim_logs_drain(process);
    sim_trace(power ? "process.lost" : "process.end", (uint64_t)process->pid, process->file_calls,
              0);
    list_for_each (ring_node, &process->rings) {
        sim_ring_writes_abandon(sim_ring_of_node(ring_node), power);
    }
    process_release(process, power);
    if (sim.process == process)
        sim_fiber_never_again();
}

void sim_process_kill(struct sim_process *process)
{
    process_end(process, false);
}

void sim_host_power_cut(struct sim_host *host)
{
    ASSERT(sim.process == NULL); /* a program cannot cut its own power */
    sim_trace("power.cut", host->index, 0, 0);
    host->powered = false;
    while (!list_empty(&host->processes))
        process_end(CONTAINER_OF(host->processes.next, struct sim_process, node), true);
    sim_disk_crash(host->disk);
}

void sim_host_power_on(struct sim_host *host)
{
    sim_trace("power.on", host->index, 0, 0);
    host->powered = true;
    sim_net_power_on(host);
}

/* ---- descriptors ------------------------------------------------------------------------------ */

int sim_fd_take(struct sim_process *process, enum sim_fd_kind kind, void *object)
{
    /* 0 to 2 are a daemon's standard files. */
    for (int fd = 3; fd < process->fd_max; fd++) {
        if (process->fds[fd].kind == SIM_FD_NONE) {
            process->fds[fd] = (struct sim_fd){.kind = kind, .object = object};
            return fd;
        }
    }
    return -EMFILE;
}

void sim_fd_limit(struct sim_process *process, int spare)
{
    int fd = 3;

    if (spare >= SIM_PROCESS_FDS) {
        process->fd_max = SIM_PROCESS_FDS;
        return;
    }
    for (int free_count = 0; fd < SIM_PROCESS_FDS && free_count < spare; fd++)
        free_count += process->fds[fd].kind == SIM_FD_NONE;
    process->fd_max = fd;
}

void *sim_fd_object(struct sim_process *process, int fd, enum sim_fd_kind kind)
{
    if (fd < 0 || fd >= SIM_PROCESS_FDS || process->fds[fd].kind != kind)
        return NULL;
    return process->fds[fd].object;
}
