/* tests/sim/sim_spool.c - a world of spools alone: append, note, read, die, recover, and nothing promised is missing.
 *
 * One process with a spool on each shard, killed and cut from its power again and again, at any call of core/file.h. The
 * ledger outlives it. Per message:
 *   BEGUN    spool_append() was called and has not answered: it may be there after a crash or not, and what the first
 *            recovery says stays so for ever (no ghosts)
 *   PROMISED it has answered 0: every recovery finds it, unaltered, until all its units are DONE
 * Per unit: WAITING, NOTED (a DONE was handed over: it may be lost by a crash, once), DONE (durable: it never waits again).
 */
#include "core/clock.h"
#include "core/thread.h"
#include "storage/spool.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_worlds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define DIRECTORY "/var/spool/kilat"
#define SHARDS_MAX 2
#define ENTRIES_MAX 3000
#define UNITS_MAX 4
#define CHUNK_BYTES (60 * KIB)

enum entry_state { ENTRY_BEGUN, ENTRY_PROMISED, ENTRY_GONE };
enum unit_state { UNIT_WAITING, UNIT_NOTED, UNIT_DONE };

struct entry {
    uint64_t id;
    enum entry_state state;
    uint32_t shard;
    uint32_t unit_count;
    uint8_t units[UNITS_MAX];
    uint32_t envelope_bytes, head_bytes;
    uint64_t body_bytes;
    uint8_t flags;
    bool recovered; /* in the recovery that runs */
    struct spool_location location;
};

static struct {
    struct sim_host *host;
    struct sim_process *process;
    uint32_t shards;
    struct entry entries[ENTRIES_MAX];
    uint32_t entry_count;
    uint64_t trouble_ns;
    uint64_t kills, power_cuts, recoveries, reads, refused, hot, doubts;
} world;

struct spool_node {
    struct shard *shard;
    struct spool *spool;
    struct timer work;
};

struct append_work {
    struct spool_append append;
    struct entry *entry;
};
struct note_work {
    struct spool_note note;
    struct entry *entry;
    uint32_t unit;
};
struct read_work {
    struct spool_node *node;
    struct spool_reader *reader;
    struct entry *entry;
    struct shard_task go;
    uint64_t offset;
    int result;
};

/* ---- content ---------------------------------------------------------------------------------- */

enum part { PART_ENVELOPE, PART_HEAD, PART_BODY };

/* Byte `offset` of a part follows from the id: a word of splitmix64 for every eight bytes. */
static void fill(uint8_t *to, size_t size, uint64_t id, enum part part, uint64_t offset)
{
    while (size > 0) {
        struct sim_random random = {.state = id * 31 + (uint64_t)part * 7919 + offset / 8};
        uint64_t word = sim_random_u64(&random) >> (8 * (offset % 8));
        size_t count = 8 - (size_t)(offset % 8);

        count = MIN(count, size);
        memcpy(to, &word, count);
        to += count;
        offset += count;
        size -= count;
    }
}

static void expect_part(const struct entry *entry, struct slice got, enum part part,
                        uint64_t offset)
{
    uint8_t *wanted = malloc(got.size + 1);

    ASSERT(wanted != NULL);
    fill(wanted, got.size, entry->id, part, offset);
    if (got.size > 0 && memcmp(wanted, got.data, got.size) != 0)
        sim_fail("message %llx: part %d is altered somewhere in %zu bytes from %llu",
                 (unsigned long long)entry->id, part, got.size, (unsigned long long)offset);
    free(wanted);
}

static struct entry *entry_find(uint64_t id)
{
    for (uint32_t i = 0; i < world.entry_count; i++)
        if (world.entries[i].id == id)
            return &world.entries[i];
    return NULL;
}

/* ---- recovery --------------------------------------------------------------------------------- */

static void recovered_unit(struct entry *entry, uint32_t index, const struct spool_unit *unit)
{
    uint8_t *state = &entry->units[index];

    if (unit->state == SPOOL_UNIT_DONE && *state == UNIT_WAITING)
        sim_fail("message %llx: unit %u is done and nobody said so", (unsigned long long)entry->id,
                 index);
    if (unit->state == SPOOL_UNIT_WAITING && *state == UNIT_DONE)
        sim_fail("message %llx: unit %u was durably done and waits again",
                 (unsigned long long)entry->id, index);
    *state = unit->state == SPOOL_UNIT_DONE ? UNIT_DONE : UNIT_WAITING;
}

static int on_recovered(void *context, const struct spool_recovered_message *message)
{
    struct entry *entry = entry_find(message->id);

    (void)context;
    if (entry == NULL || entry->state == ENTRY_GONE) {
        sim_fail("message %llx is back from nowhere", (unsigned long long)message->id);
        return 0;
    }
    if (message->envelope.size != entry->envelope_bytes ||
        message->head_bytes != entry->head_bytes || message->body_bytes != entry->body_bytes ||
        message->unit_count != entry->unit_count || message->flags != entry->flags) {
        sim_fail("message %llx: its sizes are altered", (unsigned long long)message->id);
        return 0;
    }
    expect_part(entry, message->envelope, PART_ENVELOPE, 0);
    entry->state = ENTRY_PROMISED;
    entry->recovered = true;
    entry->location = message->location;
    for (uint32_t i = 0; i < entry->unit_count; i++)
        recovered_unit(entry, i, &message->units[i]);
    return 0;
}

static void settle_missing(uint32_t shard)
{
    for (uint32_t i = 0; i < world.entry_count; i++) {
        struct entry *entry = &world.entries[i];

        if (entry->shard != shard || entry->state == ENTRY_GONE || entry->recovered)
            continue;
        for (uint32_t u = 0; entry->state == ENTRY_PROMISED && u < entry->unit_count; u++)
            if (entry->units[u] == UNIT_WAITING)
                sim_fail("message %llx was promised, unit %u waits, and it is missing",
                         (unsigned long long)entry->id, u);
        world.doubts += entry->state == ENTRY_BEGUN;
        entry->state = ENTRY_GONE;
    }
}

static int shard_start(struct shard *shard, void *context)
{
    struct spool_node *node = (struct spool_node *)context + shard->index;
    struct spool_recovery *recovery = NULL;
    struct spool_report report;
    struct buf error;
    char path[128];
    struct spool_config config = {
        .path = path,
        .number = shard->index,
        .segment_bytes = MIB,
        .spare_segments = 1,
        .hot_bytes_max = 256 * KIB,
        .gather_bytes_max = 512 * KIB,
        .journal_flush_ms = 20,
    };
    int r;

    snprintf(path, sizeof(path), "%s/%04u", DIRECTORY, shard->index);
    buf_init(&error, 4096);
    for (uint32_t i = 0; i < world.entry_count; i++)
        if (world.entries[i].shard == shard->index)
            world.entries[i].recovered = false;
    r = spool_recover(&config, on_recovered, node, &recovery, &report, &error);
    if (r < 0) {
        sim_fail("the spool is not recovered: %.*s (%d)", SLICE_ARG(buf_slice(&error)), r);
        return r;
    }
    settle_missing(shard->index);
    world.recoveries++;
    sim_trace("spool.recovered", report.messages, report.torn_groups, report.damaged_records);
    r = spool_start(shard, &recovery, &node->spool);
    if (r < 0) {
        sim_fail("the spool does not start: %d", r);
        return r;
    }
    node->shard = shard;
    shard_timer_arm(shard, &node->work, 1);
    return 0;
}

/* ---- appending -------------------------------------------------------------------------------- */

static void on_appended(struct spool_append *append)
{
    struct append_work *work = CONTAINER_OF(append, struct append_work, append);

    if (append->result == 0) {
        work->entry->state = ENTRY_PROMISED;
        work->entry->location = append->location;
    } else {
        work->entry->state = ENTRY_GONE;
        world.refused++;
    }
    sim_trace("spool.appended", append->id, (uint64_t)-append->result, 0);
    free(work);
}

/* 0: the body is on its way in chunks. */
static int upload_body(struct spool_node *node, struct append_work *work, uint8_t *bytes)
{
    uint64_t left = work->entry->body_bytes, offset = 0;
    int r = spool_upload_begin(node->spool, work->entry->id, &work->append.upload);

    while (r == 0 && left > 0) {
        size_t size = (size_t)MIN(left, CHUNK_BYTES);
        struct iovec piece = {bytes, size};

        fill(bytes, size, work->entry->id, PART_BODY, offset);
        r = spool_upload_chunk(work->append.upload, &piece, 1);
        offset += size;
        left -= size;
    }
    if (r < 0)
        spool_upload_abort(&work->append.upload);
    return r;
}

static uint64_t body_size(void)
{
    switch (sim_between(0, 20)) {
    case 0:
        return sim_between(SPOOL_INLINE_BODY_MAX + 1, 300 * KIB);
    case 1:
        return sim_between(SPOOL_INLINE_BODY_MAX - 100, SPOOL_INLINE_BODY_MAX);
    case 2:
        return 0;
    default:
        return sim_between(1, 6000);
    }
}

static void append_one(struct spool_node *node)
{
    struct append_work *work;
    struct entry *entry = &world.entries[world.entry_count];
    uint8_t *bytes, *envelope, *head;
    struct iovec pieces[2];
    int r = 0;

    if (world.entry_count == ENTRIES_MAX)
        return;
    *entry = (struct entry){.id = spool_next_id(node->spool),
                            .shard = node->shard->index,
                            .unit_count = (uint32_t)sim_between(1, UNITS_MAX),
                            .envelope_bytes = (uint32_t)sim_between(20, 900),
                            .head_bytes = (uint32_t)sim_between(0, 400),
                            .body_bytes = body_size(),
                            .flags = (uint8_t)sim_between(0, 3)};
    if (entry_find(entry->id) != NULL)
        sim_fail("id %llx is given out twice", (unsigned long long)entry->id);
    world.entry_count++;
    work = calloc(1, sizeof(*work));
    bytes = malloc(SPOOL_INLINE_BODY_MAX + 1);
    envelope = malloc(1024);
    head = malloc(1024);
    ASSERT(work != NULL && bytes != NULL && envelope != NULL && head != NULL);
    fill(envelope, entry->envelope_bytes, entry->id, PART_ENVELOPE, 0);
    fill(head, entry->head_bytes, entry->id, PART_HEAD, 0);
    work->entry = entry;
    work->append = (struct spool_append){.id = entry->id,
                                         .envelope = slice_of(envelope, entry->envelope_bytes),
                                         .unit_count = entry->unit_count,
                                         .head = slice_of(head, entry->head_bytes),
                                         .flags = entry->flags,
                                         .arrival_s = (uint32_t)(clock_wall_ns() / SECOND_NS),
                                         .done = on_appended};
    list_node_init(&work->append.node);
    if (entry->body_bytes > SPOOL_INLINE_BODY_MAX) {
        r = upload_body(node, work, bytes);
    } else {
        size_t first = (size_t)sim_between(0, entry->body_bytes);

        fill(bytes, (size_t)entry->body_bytes, entry->id, PART_BODY, 0);
        pieces[0] = (struct iovec){bytes, first};
        pieces[1] = (struct iovec){bytes + first, (size_t)entry->body_bytes - first};
        work->append.body = pieces;
        work->append.body_pieces = 2;
    }
    if (r == 0)
        r = spool_append(node->spool, &work->append);
    if (r < 0) { /* nothing happened, and nothing of it may ever be seen */
        spool_upload_abort(&work->append.upload);
        entry->state = ENTRY_GONE;
        world.refused++;
        free(work);
    }
    free(bytes);
    free(envelope);
    free(head);
}

/* ---- noting ----------------------------------------------------------------------------------- */

static struct entry *any_promised(const struct spool_node *node)
{
    uint32_t start = world.entry_count == 0 ? 0 : (uint32_t)sim_between(0, world.entry_count - 1);

    for (uint32_t i = 0; i < world.entry_count; i++) {
        struct entry *entry = &world.entries[(start + i) % world.entry_count];
        bool waits = false;

        for (uint32_t u = 0; u < entry->unit_count; u++)
            waits |= entry->units[u] == UNIT_WAITING;
        if (entry->shard == node->shard->index && entry->state == ENTRY_PROMISED && waits)
            return entry;
    }
    return NULL;
}

static void on_noted(struct spool_note *note)
{
    struct note_work *work = CONTAINER_OF(note, struct note_work, note);

    if (note->result == 0 && note->kind == SPOOL_NOTE_DONE)
        work->entry->units[work->unit] = UNIT_DONE;
    free(work);
}

static void note_one(struct spool_node *node)
{
    struct entry *entry = any_promised(node);
    struct note_work *work;

    if (entry == NULL)
        return;
    work = calloc(1, sizeof(*work));
    ASSERT(work != NULL);
    work->entry = entry;
    while (entry->units[work->unit] != UNIT_WAITING)
        work->unit++;
    work->note = (struct spool_note){.kind = sim_chance(700) ? SPOOL_NOTE_DONE : SPOOL_NOTE_DEFER,
                                     .id = entry->id,
                                     .unit_first = work->unit,
                                     .unit_count = 1,
                                     .outcome = SPOOL_DELIVERED,
                                     .status = {2, 0, 0},
                                     .attempts = 1,
                                     .next_s = (uint32_t)(clock_wall_ns() / SECOND_NS) + 300,
                                     .text = SLICE("the next host was tired"),
                                     .durable = sim_chance(700) ? on_noted : NULL};
    list_node_init(&work->note.node);
    if (spool_note(node->spool, &work->note) < 0) {
        free(work);
        return;
    }
    if (work->note.kind == SPOOL_NOTE_DONE)
        entry->units[work->unit] = UNIT_NOTED;
    if (work->note.durable == NULL)
        free(work);
}

/* ---- reading ---------------------------------------------------------------------------------- */

static void read_ready(void *context, int result)
{
    struct read_work *work = context;

    work->result = result;
    shard_defer(work->node->shard, &work->go); /* it may be inside the call that asked */
}

static void read_end(struct read_work *work)
{
    spool_reader_close(&work->reader);
    free(work);
}

static void read_go(struct shard_task *task)
{
    struct read_work *work = CONTAINER_OF(task, struct read_work, go);
    const struct spool_reader_info *info;
    struct slice piece;
    int r = work->result;

    if (r < 0) {
        sim_fail("message %llx cannot be read: %d", (unsigned long long)work->entry->id, r);
        read_end(work);
        return;
    }
    info = spool_reader_info(work->reader);
    if (work->offset == 0) {
        world.hot += info->hot;
        expect_part(work->entry, info->envelope, PART_ENVELOPE, 0);
        expect_part(work->entry, info->head, PART_HEAD, 0);
    }
    while ((r = spool_reader_next(work->reader, &piece, read_ready, work)) == 1) {
        expect_part(work->entry, piece, PART_BODY, work->offset);
        work->offset += piece.size;
    }
    if (r == -EINPROGRESS)
        return;
    if (r < 0 || work->offset != work->entry->body_bytes)
        sim_fail("message %llx: %llu of %llu bytes read (%d)", (unsigned long long)work->entry->id,
                 (unsigned long long)work->offset, (unsigned long long)work->entry->body_bytes, r);
    world.reads++;
    read_end(work);
}

static void read_one(struct spool_node *node)
{
    struct entry *entry = any_promised(node);
    struct read_work *work;
    int r;

    if (entry == NULL)
        return;
    work = calloc(1, sizeof(*work));
    ASSERT(work != NULL);
    work->node = node;
    work->entry = entry;
    shard_task_init(&work->go, read_go);
    r = spool_reader_open(node->spool, &entry->location, read_ready, work, &work->reader);
    if (r < 0) {
        sim_fail("message %llx: no reader (%d)", (unsigned long long)entry->id, r);
        free(work);
    }
}

/* ---- the process ------------------------------------------------------------------------------ */

static void on_work(struct timer *timer)
{
    struct spool_node *node = CONTAINER_OF(timer, struct spool_node, work);
    uint64_t burst = sim_between(1, 4);

    while (burst-- > 0) {
        append_one(node);
        if (sim_chance(700))
            note_one(node);
        if (sim_chance(200))
            read_one(node);
    }
    shard_timer_arm(node->shard, &node->work, sim_between(1, 60));
}

static int spool_main(struct sim_process *process, void *context)
{
    static struct log *logs[SHARDS_MAX]; /* without a log nothing is written */
    struct spool_node *nodes = calloc(SHARDS_MAX, sizeof(*nodes));
    struct worker_pool *workers;
    struct shard_group *group;
    struct shard_params params = {
        .count = process->cpu_count, .start = shard_start, .logs = logs, .context = nodes};
    int r;

    (void)context;
    ASSERT(nodes != NULL);
    for (uint32_t i = 0; i < SHARDS_MAX; i++)
        timer_init(&nodes[i].work, on_work);
    r = worker_pool_create(2, 1, &workers);
    params.ring.workers = workers;
    params.ring.buffer_count = 16;
    if (r == 0)
        r = shard_group_start(&params, &group);
    if (r == 0)
        shard_group_join(&group); /* until killed */
    return r;
}

static void start(void)
{
    world.process = sim_process_start(world.host, "spool", spool_main, NULL);
    world.process->cpu_count = world.shards;
    if (sim_chance(500))
        world.process->file_calls_until = sim_between(1, sim_chance(500) ? 40 : 600);
}

static void trouble_main(void *argument)
{
    (void)argument;
    while (sim.now_ns < world.trouble_ns) {
        sim_sleep(sim_between(1, sim_chance(300) ? 30 * MS_NS : 2 * SECOND_NS));
        if (sim_chance(500)) {
            world.power_cuts++;
            sim_host_power_cut(world.host);
            sim_host_power_on(world.host);
        } else {
            world.kills++;
            sim_process_kill(world.process);
        }
        start();
    }
    world.process->file_calls_until = 0;
    if (!world.process->alive)
        start();
    world.process->file_calls_until = 0;
    sim_sleep(SECOND_NS); /* the last recovery and some work */
    sim_end_world();
}

static void run_spool(char *note, size_t note_bytes)
{
    uint64_t promised = 0;

    world.host = sim_host_create("host", "11.0.0.1");
    world.shards = (uint32_t)sim_between(1, SHARDS_MAX);
    world.trouble_ns = sim_between(1, sim_chance(100) ? 12 : 5) * SECOND_NS;
    (void)sim_disk_make_dirs(world.host, DIRECTORY);
    sim.faults.slow_disk = (uint32_t)sim_between(0, 10);
    start();
    (void)sim_fiber_start(NULL, trouble_main, NULL, 0);
    sim_run(3600 * SECOND_NS);
    if (!sim.over && sim.failure[0] == '\0')
        sim_fail("the world came to a standstill");
    for (uint32_t i = 0; i < world.entry_count; i++)
        promised += world.entries[i].state == ENTRY_PROMISED;
    snprintf(
        note, note_bytes,
        "%u messages, %llu left, %llu refused, %llu lost in flight; %llu reads (%llu hot), %llu "
        "recoveries, %llu kills, %llu power cuts",
        world.entry_count, (unsigned long long)promised, (unsigned long long)world.refused,
        (unsigned long long)world.doubts, (unsigned long long)world.reads,
        (unsigned long long)world.hot, (unsigned long long)world.recoveries,
        (unsigned long long)world.kills, (unsigned long long)world.power_cuts);
}

const struct sim_world sim_world_spool = {.name = "spool", .run = run_spool};
