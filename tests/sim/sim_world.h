/* tests/sim/sim_world.h - the simulated world: one clock, one seed, hosts, processes, fibers, events.
 *
 * The product's objects run here unchanged over a second implementation of core/ring.h, core/file.h,
 * core/clock.h and core/thread.h. Everything happens in one thread. What would be a thread of its own (a
 * shard, a worker's job, the boot of a server, a scripted peer) is a fiber: a stack of its own which runs
 * until it waits. Virtual time moves only between fibers, so a run is a function of its seed alone.
 *
 * One seed is one operating-system process (sim_main.c forks): the memory of a killed server is never looked
 * at again and goes when that process ends.
 *
 * Rules for determinism: no address, no descriptor of the real kernel and no real time may decide anything;
 * whatever is walked is walked in the order in which it was made.
 */
#ifndef KILAT_SIM_WORLD_H
#define KILAT_SIM_WORLD_H

#include "core/assert.h"
#include "core/list.h"
#include "core/log.h"
#include "core/netaddr.h"
#include "core/slice.h"

#define SIM_WALL_START_S 1798761600ull /* 2027-01-01 00:00:00 UTC */
#define SIM_PROCESS_FDS 2048

/* ---- randomness ------------------------------------------------------------------------------- */

struct sim_random {
    uint64_t state;
};
uint64_t sim_random_u64(struct sim_random *random);
uint64_t sim_random_below(struct sim_random *random, uint64_t bound); /* `bound` > 0 */
/* Both from the world's own stream. `low` <= result <= `high`. */
uint64_t sim_between(uint64_t low, uint64_t high);
bool sim_chance(uint32_t per_mille);

/* ---- events ----------------------------------------------------------------------------------- */

struct sim_event;
typedef void sim_event_fn(struct sim_event *event);
/* Embedded in what it is about. Events of one moment run in the order in which they were armed. */
struct sim_event {
    uint64_t at_ns;
    uint64_t serial;
    uint32_t place; /* in the heap, plus one; 0: not armed */
    sim_event_fn *run;
};
void sim_event_arm(struct sim_event *event, uint64_t at_ns, sim_event_fn *run);
void sim_event_cancel(struct sim_event *event); /* nothing when not armed */
static inline bool sim_event_armed(const struct sim_event *event)
{
    return event->place != 0;
}

/* ---- fibers ----------------------------------------------------------------------------------- */

struct sim_process;
typedef void sim_fiber_fn(void *argument);

struct sim_fiber {
    void *at; /* its stack pointer while another runs */
    void *stack;
    sim_fiber_fn *run;
    void *argument;
    struct sim_process *process; /* NULL: a script of the world */
    struct sim_event event;      /* its next turn */
    struct list_node node;       /* in the process, or the world's scripts */
    struct list_node joiners;    /* waits of those who join it */
    bool done;
    bool waiting;
    void *fake_stack; /* ASan's */
};

/* Its first turn comes at `at_ns`. `process` NULL: a script, which nothing kills. */
struct sim_fiber *sim_fiber_start(struct sim_process *process, sim_fiber_fn *run, void *argument,
                                  uint64_t at_ns);
void sim_sleep(uint64_t ns);
/* Until sim_wake() or `deadline_ns` (UINT64_MAX: none). May return early for no reason: loop. */
void sim_wait(uint64_t deadline_ns);
void sim_wake(struct sim_fiber *fiber); /* nothing when it does not wait */
void sim_join(struct sim_fiber *fiber);

/* ---- hosts and processes ---------------------------------------------------------------------- */

struct sim_disk;
struct ring;
struct thread;

enum sim_fd_kind { SIM_FD_NONE, SIM_FD_LISTENER, SIM_FD_SOCKET, SIM_FD_UDP, SIM_FD_FILE };
struct sim_fd {
    enum sim_fd_kind kind;
    void *object; /* struct sim_listener, sim_end, sim_udp, sim_open */
};

struct sim_host {
    uint32_t index;
    char name[64];
    struct netaddr address;
    struct sim_disk *disk;
    bool powered;
    int64_t wall_offset_ns; /* what its administrator's clock is wrong by */
    struct list_node processes;
};

struct sim_process {
    struct sim_host *host;
    int32_t pid;
    char name[32];
    bool alive;
    int status; /* what its main function returned, once it has */
    bool exited;
    uint64_t file_calls;       /* made so far, through core/file.h */
    uint64_t file_calls_until; /* killed before this one; 0: never */
    uint32_t cpu_count;
    struct sim_random random; /* what clock.h's random_bytes() gives out */
    struct sim_fd fds[SIM_PROCESS_FDS];
    int fd_max; /* one more than the highest that is given out: RLIMIT_NOFILE */
    struct list_node fibers;
    struct list_node rings;
    struct list_node logs; /* of struct log_writer */
    struct list_node node;
    struct thread *threads; /* shards of a group that still begins (sim_thread.c) */
    void *context;          /* of the world that started it */
};

typedef int sim_main_fn(struct sim_process *process, void *context);

struct sim_host *sim_host_create(const char *name, const char *address);
struct sim_host *sim_host_by_address(const struct netaddr *address); /* NULL: nobody */
/* Runs `run` as the main function of a new process. */
struct sim_process *sim_process_start(struct sim_host *host, const char *name, sim_main_fn *run,
                                      void *context);
/* kill -9: its fibers never run again, its descriptors are closed as the kernel would. Nothing when it is dead. May be
 * called from inside the process; then it does not return. */
void sim_process_kill(struct sim_process *process);
/* All processes end and the disk forgets what was not durable; connections go silent. */
void sim_host_power_cut(struct sim_host *host);
void sim_host_power_on(struct sim_host *host);

/* A descriptor of the current process, as low as there is; -EMFILE. */
int sim_fd_take(struct sim_process *process, enum sim_fd_kind kind, void *object);
/* As if the limit had been reached: only `spare` more can be had; INT_MAX: as many as ever. */
void sim_fd_limit(struct sim_process *process, int spare);
/* NULL when `fd` is not open or not of that kind. */
void *sim_fd_object(struct sim_process *process, int fd, enum sim_fd_kind kind);

/* ---- the world -------------------------------------------------------------------------------- */

/* How unkind the world is at the moment; per mille unless the name says otherwise. All 0: a kind one. */
struct sim_faults {
    uint32_t short_segments; /* a segment is cut into small pieces */
    uint32_t delays;         /* a segment or datagram comes late, up to three seconds */
    uint32_t connect_lost;   /* the connection is never answered */
    uint32_t connect_cut;    /* a new connection is cut at a random moment of its life */
    uint32_t udp_lost, udp_twice;
    uint32_t slow_disk;  /* one operation takes up to half a second */
    uint32_t disk_us;    /* a durable write, at most; 0: 400 */
    uint32_t latency_us; /* one way, at most; 0: 50 */
};

struct sim {
    uint64_t seed;
    uint64_t now_ns;
    struct sim_random random;
    struct sim_faults faults;
    struct sim_process *process; /* the current one; NULL in scripts and events */
    struct sim_fiber *fiber;     /* the current one; NULL in events */
    struct sim_host *hosts[16];
    uint32_t host_count;
    int32_t next_pid;
    bool verbose;
    bool over;
    bool sober; /* sim_chance() is never true: nothing happens but what somebody wants */
    void (*next)(
        void); /* runs before the next event, in no process: an accident that may not wait */
    bool errors_expected;       /* the world gives reasons to log some */
    uint64_t delivery_in_doubt; /* events of that name: a final dot was sent and no answer came */
    uint64_t events_run;
    uint64_t trace_hash;
    char failure[1024]; /* empty: none so far */
};
extern struct sim sim;

void sim_begin(uint64_t seed, bool verbose);
/* Runs events until sim_end_world(), a failure, nothing is left to do, or `until_ns`. */
void sim_run(uint64_t until_ns);
/* The run is over after the current event. */
void sim_end_world(void);
/* The first one counts; it is printed with the seed. */
void sim_fail(const char *format, ...) KILAT_PRINTF(1, 2);

/* ---- trace ------------------------------------------------------------------------------------ */

/* Goes into the hash of the run, and to standard output when verbose. */
void sim_trace(const char *what, uint64_t a, uint64_t b, uint64_t c);
void sim_trace_text(const char *what, struct slice text);
/* Only into the hash. */
uint64_t sim_hash_bytes(uint64_t hash, const void *data, size_t size);

#endif
