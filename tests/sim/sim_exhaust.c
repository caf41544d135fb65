/* tests/sim/sim_exhaust.c - one small day of one server, and every crash that it can meet.
 *
 * A few letters: one for a local and one for a remote recipient, one that comes in chunks, one that is refused for good
 * and comes back as a report; then an orderly stop. Before each change of the disk (and so after the one before) the
 * whole simulation forks: the child's machine loses its power, or its server is killed, in each way in which what was not
 * durable may survive; then it starts again, and the ledger has to be right: whatever was answered with 250 arrives, on
 * this server exactly once, at the remote host twice only when the crash fell within moments of its answer (QUEUE I10).
 *
 * Up to CHOICES_MAX ways, all of them are taken, which are all subsets of at least four writes, names or files; beyond, each
 * of the things alone, and all but each. Crashes that leave the same disk and the same ledger behind are the same crash,
 * and only the first of them goes on. With two levels, each recovery is cut in the same manner.
 */
#include "tests/sim/sim_exhaust.h"

#include "daemon/kilatd.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_dns.h"
#include "tests/sim/sim_mail.h"
#include "tests/sim/sim_private.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHOICES_MAX 96
#define SEEN_SLOTS (1u << 22)
#define PATH_BYTES 96
#define LEVELS_MAX 3
#define CHILD_SECONDS_MAX 120
#define SETTLE_STEPS 60
#define RECOVERY_NS (2 * SECOND_NS) /* cut again until that long after the server was ready */
/* J is flushed after 20 ms, and a write takes less than a millisecond here: QUEUE I10 allows nothing later. */
#define WINDOW_NS (100 * MS_NS)

struct shared {
    _Atomic uint64_t points, states, same, failed, cpu_us;
    _Atomic uint64_t seen[SEEN_SLOTS];
};

static struct {
    struct shared *shared;
    uint32_t level, levels; /* crashes so far, at most */
    uint32_t jobs, running; /* children of this process */
    uint32_t point;         /* changes of the disk since the last start */
    bool watching;
    bool power;
    struct sim_choice choice;
    char path
        [PATH_BYTES]; /* the crashes that led here: p17.4 is the fourth cut at point 17, k a kill */
    const char *wanted; /* only this path; NULL: all */
    uint64_t crashed_ns[LEVELS_MAX];
    struct sim_fiber *settler;
} ex;

static struct sim_site server = {.domain = "debianindonesia.test"};
static struct sim_host *client;
static struct sim_mailbox mailboxes[] = {
    {.address = "penulis@debianindonesia.test", .password = "rahasia", .site = &server},
    {.address = "budi@debianindonesia.test", .password = "budi", .site = &server},
};

/* ---- the day ---------------------------------------------------------------------------------- */

/* The next number whose letter has at least that many bytes. */
static struct sim_letter *letter_of(uint64_t bytes_min, uint64_t bytes_max,
                                    const char *const *addresses, size_t count)
{
    for (;;) {
        struct sim_letter *letter = sim_letter_create_for(mailboxes[0].address, addresses, count);
        uint64_t size = sim_letter_text(letter->number).size;

        if (size >= bytes_min && size <= bytes_max)
            return letter;
        letter->recipient_count = 0; /* nobody's */
    }
}

static bool day_goes_on(void)
{
    return ex.level == 0;
}

static void day_main(void *argument)
{
    static const char *const both[] = {"budi@debianindonesia.test", "aneh@ganjil.test"};
    static const char *const nobody[] = {SIM_NOBODY};
    struct sim_letter *letters[] = {letter_of(0, 4000, both, 2),
                                    letter_of(66 * KIB, 300 * KIB, both, 2),
                                    letter_of(0, 4000, nobody, 1)};

    (void)argument;
    while (!server.running && day_goes_on())
        sim_sleep(10 * MS_NS);
    for (size_t i = 0; i < ARRAY_SIZE(letters) && day_goes_on(); i++) {
        sim_smtp_letter(client, &server, letters[i]);
        sim_sleep(20 * MS_NS);
    }
    if (!day_goes_on())
        return; /* the crash has its own end */
    sim_sleep(2 * SECOND_NS);
    if (!day_goes_on())
        return;
    sim_site_ask_to_stop(&server);
    while (server.process->alive && day_goes_on())
        sim_sleep(10 * MS_NS);
    if (!day_goes_on())
        return;
    ex.watching = false;
    sim_end_world();
}

/* ---- after the crash -------------------------------------------------------------------------- */

/* What was under way when the server died is read by the remote host a little later. */
static void on_doubled(const struct sim_letter *letter, const char *address, uint64_t before_ns)
{
    for (uint32_t i = 0; i < ex.level; i++)
        if (strstr(address, "@ganjil.test") != NULL && before_ns <= ex.crashed_ns[i] + WINDOW_NS &&
            ex.crashed_ns[i] <= before_ns + WINDOW_NS)
            return;
    sim_fail("letter %u came to %s once more, and no crash fell into the moment of the first time",
             letter->number, address);
}

static void settle_main(void *argument)
{
    struct sim_letter *open = NULL;
    const char *address = NULL;
    uint64_t until_ns;

    (void)argument;
    sim_site_start(&server);
    while (!server.running && server.process->alive)
        sim_sleep(10 * MS_NS);
    if (!server.running) {
        sim_fail("the server does not start after the crash");
        return;
    }
    until_ns = sim.now_ns + RECOVERY_NS;
    for (int step = 0; step < SETTLE_STEPS; step++) {
        settle_fetch_all(client, mailboxes, ARRAY_SIZE(mailboxes), false);
        open = settle_open_letter(&address);
        if (settle_queue_is_empty(&server) && open == NULL)
            break;
        if (step > 3)
            sim_sleep(30 * SECOND_NS);
    }
    if (open != NULL)
        sim_fail("letter %u to %s was answered with 250 and is nowhere", open->number, address);
    while (sim.now_ns < until_ns)
        sim_sleep(100 * MS_NS);
    ex.watching = false;
    settle_check_leftovers(mailboxes, ARRAY_SIZE(mailboxes));
    sim_site_stop(&server);
    sim_site_start(&server);
    while (!server.running && server.process->alive)
        sim_sleep(10 * MS_NS);
    sim_sleep(SECOND_NS);
    settle_fetch_all(client, mailboxes, ARRAY_SIZE(mailboxes), true);
    sim_end_world();
}

static uint64_t ledger_hash(void)
{
    uint64_t hash = 0;

    for (uint32_t number = 1; number <= sim_letter_count(); number++) {
        const struct sim_letter *letter = sim_letter_find(number);

        for (uint32_t i = 0; i < letter->recipient_count; i++) {
            const struct sim_letter_recipient *r = &letter->recipients[i];
            uint64_t words[] = {r->promised, r->possible, r->reported, r->seen};

            hash = sim_hash_bytes(hash, words, sizeof(words));
        }
    }
    return hash;
}

/* False: another crash has left the very same behind. Zero marks a free slot. */
static bool is_new(uint64_t hash)
{
    uint32_t slot = (uint32_t)(hash >> 20) % SEEN_SLOTS;

    for (uint32_t tries = 0; tries < SEEN_SLOTS; tries++, slot = (slot + 1) % SEEN_SLOTS) {
        uint64_t expected = 0;

        if (atomic_compare_exchange_strong(&ex.shared->seen[slot], &expected, hash | 1))
            return true;
        if (expected == (hash | 1))
            return false;
    }
    return true;
}

static uint64_t cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The end of a process of the tree. */
KILAT_NORETURN static void leave(void)
{
    fflush(NULL);
    atomic_fetch_add(&ex.shared->cpu_us, cpu_us());
    _exit(sim.failure[0] != '\0');
}

/* In the child, between two events. */
static void crash(void)
{
    sim_choice = &ex.choice;
    if (ex.power)
        sim_host_power_cut(server.host);
    else
        sim_process_kill(server.process);
    sim_choice = NULL;
    ex.crashed_ns[ex.level++] = sim.now_ns;
    sim.random.state =
        ex.level; /* from equal disks equal recoveries: what was seen need not be seen again */
    if (ex.power)
        sim_host_power_on(server.host);
    if (ex.wanted == NULL &&
        !is_new(sim_disk_hash(server.host->disk) * 31 + ledger_hash() + ex.level)) {
        atomic_fetch_add(&ex.shared->same, 1);
        leave();
    }
    atomic_fetch_add(&ex.shared->states, 1);
    server.running = false;
    ex.point = 0;
    ex.watching = ex.level < ex.levels;
    if (ex.settler != NULL)
        sim_fiber_abandon(ex.settler); /* what it was about is over */
    ex.settler = sim_fiber_start(NULL, settle_main, NULL, sim.now_ns);
}

/* ---- forks ------------------------------------------------------------------------------------ */

static void child_ended(void)
{
    int status;

    if (wait(&status) <= 0)
        return;
    ex.running--;
    if (WIFSIGNALED(status)) {
        atomic_fetch_add(&ex.shared->failed, 1);
        printf("a state below %s ended by signal %d\n", ex.path[0] == '\0' ? "the day" : ex.path,
               WTERMSIG(status));
    }
}

/* True in the child. */
static bool fork_child(const char *step)
{
    size_t size = strlen(ex.path);
    pid_t pid;

    while (ex.running >= ex.jobs)
        child_ended();
    fflush(NULL);
    pid = fork();
    ASSERT(pid >= 0);
    if (pid > 0) {
        ex.running++;
        return false;
    }
    alarm(CHILD_SECONDS_MAX);
    ex.running = 0;
    ex.jobs = 1;
    snprintf(ex.path + size, PATH_BYTES - size, "%s%s", size > 0 ? "/" : "", step);
    return true;
}

static uint64_t product(const uint8_t *radixes, uint32_t count)
{
    uint64_t ways = 1;

    for (uint32_t i = 0; i < count && ways <= CHOICES_MAX; i++)
        ways *= radixes[i];
    return ways;
}

/* The `index`th way; false: there are not so many. */
static bool choose(uint64_t index, const uint8_t *radixes, uint32_t count,
                   struct sim_choice *ret_choice)
{
    *ret_choice = (struct sim_choice){.next = 0};
    if (product(radixes, count) <= CHOICES_MAX) {
        for (uint32_t i = 0; i < count; i++) {
            ret_choice->digits[i] = (uint8_t)(index % radixes[i]);
            index /= radixes[i];
        }
        return index == 0;
    }
    if (index < 2) { /* nothing; everything */
        memset(ret_choice->digits, index == 0 ? SIM_GONE : SIM_WHOLE, count);
        return true;
    }
    index -= 2;
    for (uint32_t i = 0; i < count; i++) {
        for (uint8_t digit = 0; digit < radixes[i]; digit++, index -= 2) {
            if (index >= 2)
                continue;
            memset(ret_choice->digits, index == 0 ? SIM_GONE : SIM_WHOLE, count);
            ret_choice->digits[i] = digit;
            return true;
        }
    }
    return false;
}

/* The step that `wanted` names at this depth; false: none. */
static bool wanted_step(char *step, size_t size)
{
    const char *from = ex.wanted;

    for (uint32_t i = 0; i < ex.level && from != NULL; i++) {
        from = strchr(from, '/');
        from += from != NULL;
    }
    if (from == NULL)
        return false;
    snprintf(step, size, "%.*s", (int)strcspn(from, "/"), from);
    return true;
}

/* What a crash at this moment could leave behind. */
static uint64_t situation_hash(void)
{
    uint8_t radixes[SIM_CHOICES_MAX];
    uint64_t words[] = {sim_disk_hash(server.host->disk), ledger_hash(), ex.level,
                        sim_disk_choices(server.host, true, radixes)};

    return sim_hash_bytes(7, words, sizeof(words));
}

static bool point(struct sim_host *host)
{
    uint8_t radixes[SIM_CHOICES_MAX];
    char step[32], wanted[32];

    if (!ex.watching || host != server.host)
        return false;
    ex.point++;
    if (ex.level == 0)
        atomic_fetch_add(&ex.shared->points, 1);
    else if (ex.wanted == NULL && !is_new(situation_hash()))
        return false; /* another recovery was here */
    for (int power = 1; power >= 0; power--) {
        uint32_t count = sim_disk_choices(host, power, radixes);
        struct sim_choice choice;

        for (uint64_t index = 0; choose(index, radixes, count, &choice); index++) {
            snprintf(step, sizeof(step), "%c%u.%" PRIu64, power ? 'p' : 'k', ex.point, index);
            if (ex.wanted != NULL
                    ? !wanted_step(wanted, sizeof(wanted)) || strcmp(wanted, step) != 0
                    : !fork_child(step))
                continue;
            ex.choice = choice;
            ex.power = power;
            sim.next = crash;
            return true;
        }
    }
    return false;
}

/* ---- the whole -------------------------------------------------------------------------------- */

static void build(void)
{
    struct sim_host *names;

    server.host = sim_host_create("debian", "11.0.0.1");
    names = sim_host_create("names", "11.0.0.3");
    client = sim_host_create("client", "11.0.0.4");
    sim_odd_serve(sim_host_create("odd", "11.0.0.6"));
    sim_dns_serve(names);
    sim_dns_add("ganjil.test. 300 IN MX 10 mx.ganjil.test.");
    sim_dns_add("mx.ganjil.test. 300 IN A 11.0.0.6");
    server.shards = 1;
    server.receive_buffers = 32;
    server.receive_buffer_kib = 8;
    server.host->disk->tear_bytes = SIM_SECTOR_BYTES;
    sim_site_install(&server, mailboxes, ARRAY_SIZE(mailboxes));
}

static void run_day(bool verbose)
{
    sim_begin(1, verbose);
    sim.sober = true;
    sim_letter_doubled = on_doubled;
    build();
    ex.watching = true;
    sim_disk_point = point;
    sim_site_start(&server);
    (void)sim_fiber_start(NULL, day_main, NULL, 0);
    sim_run(UINT64_MAX);
    if (!sim.over && sim.failure[0] == '\0')
        sim_fail("the world came to a standstill");
    if (sim.failure[0] == '\0' && ex.level == 0 && ex.wanted == NULL &&
        sim_mail_counters.promised != 3)
        sim_fail("a day without a crash, and not all letters were taken");
    if (sim.failure[0] == '\0')
        return;
    atomic_fetch_add(&ex.shared->failed, 1);
    printf(
        "state %s failed: %s\n  again: kilat-sim --exhaustive --levels %u --state %s --verbose\n",
        ex.path, sim.failure, ex.levels, ex.path);
}

int sim_exhaust(uint32_t levels, uint32_t jobs, const char *state, bool verbose)
{
    uint64_t failed;

    ASSERT(levels >= 1 && levels <= LEVELS_MAX);
    ex.levels = levels;
    ex.jobs = jobs;
    ex.wanted = state;
    ex.shared =
        mmap(NULL, sizeof(*ex.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ex.shared == MAP_FAILED)
        return 1;
    run_day(verbose);
    while (ex.running > 0)
        child_ended();
    if (ex.path[0] != '\0' && ex.wanted == NULL)
        leave();
    failed = atomic_load(&ex.shared->failed);
    printf("%" PRIu64 " changes of the disk in a day, %" PRIu64
           " different crash states in %u level(s), %" PRIu64 " that were met before; %" PRIu64
           " s of CPU time\n",
           atomic_load(&ex.shared->points), atomic_load(&ex.shared->states), levels,
           atomic_load(&ex.shared->same), (atomic_load(&ex.shared->cpu_us) + cpu_us()) / 1000000);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n",
           atomic_load(&ex.shared->states) + 1 - MIN(failed, atomic_load(&ex.shared->states)),
           failed);
    return failed != 0;
}
