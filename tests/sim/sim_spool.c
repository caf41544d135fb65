/* tests/sim/sim_spool.c - a world of spools alone: append, note, read, die, recover, and nothing promised is missing.
 *
 * One process with a spool on each shard, killed and cut from its power again and again, at any call of core/file.h. The
 * ledger (sim_spool_ledger.c) outlives it. Per message:
 *   BEGUN    spool_append() was called and has not answered: it may be there after a crash or not, and what the first
 *            recovery says stays so for ever (no ghosts)
 *   PROMISED it has answered 0: every recovery finds it, unaltered, until all its units are DONE
 *   REFUSED  it has answered an error: as BEGUN, since ABORT may be lost with the tail of J (QUEUE I26)
 * Per unit: WAITING, NOTED (a DONE was handed over: it may be lost by a crash, once), DONE (durable: it never waits again).
 */
#include "core/clock.h"
#include "core/thread.h"
#include "tests/sim/sim_spool.h"
#include "tests/sim/sim_worlds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CHUNK_BYTES (60 * KIB)

struct spool_world world;

struct spool_node {
    struct shard *shard;
    struct spool *spool;
    struct timer work;
    uint32_t image_next; /* of world.entries, for the checkpoint being filled */
    bool restored;
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

/* ---- recovery --------------------------------------------------------------------------------- */

static bool same_place(const struct spool_location *a, const struct spool_location *b)
{
    return a->segment == b->segment && a->offset_16 == b->offset_16;
}

static bool is_open(const struct entry *entry)
{
    bool open = false;

    for (uint32_t u = 0; u < entry->unit_count; u++)
        open |= entry->open[u];
    return open;
}

static void entry_ends(struct spool_node *node, struct entry *entry)
{
    entry->lives = false;
    spool_release(node->spool, entry->id, &entry->location);
}

/* The newer of its places. */
static void entry_placed(struct spool_node *node, struct entry *entry,
                         const struct spool_location *location)
{
    if (entry->lives)
        spool_release(node->spool, entry->id, &entry->location);
    for (uint32_t u = 0; u < UNITS_MAX && !entry->lives; u++)
        entry->open[u] = u < entry->unit_count;
    entry->lives = true;
    entry->location = *location;
}

static int on_text(void *context, enum spool_image_text kind, uint32_t number,
                   const uint8_t status[3], struct slice text)
{
    (void)context;
    if (kind != SPOOL_TEXT_DESTINATION || number != 1 || status[0] != 0 ||
        !slice_equal(text, SLICE("somewhere")))
        sim_fail("the text of a checkpoint is altered");
    return 0;
}

static int on_image(void *context, const struct spool_image_entry *image)
{
    struct spool_node *node = context;
    struct entry *entry = ledger_find(image->id);

    if (entry == NULL || entry->unit_count != image->unit_count) {
        sim_fail("message %llx of a checkpoint is none of ours", (unsigned long long)image->id);
        return -EBADMSG;
    }
    world.entries_read++;
    entry_placed(node, entry, &image->location);
    entry->chunked = (image->flags & SPOOL_ENTRY_CHUNKED) != 0;
    for (uint32_t u = 0; u < entry->unit_count; u++)
        entry->open[u] = (image->open_bits[0] >> u & 1) != 0;
    return 0;
}

static int on_found(void *context, const struct spool_recovered_message *message)
{
    struct spool_node *node = context;
    struct entry *entry = ledger_seen(message);

    if (entry == NULL)
        return -EBADMSG;
    entry_placed(node, entry, &message->location);
    entry->chunked = message->chunked;
    for (uint32_t u = 0; message->units != NULL && u < entry->unit_count; u++)
        entry->open[u] = message->units[u].state != SPOOL_UNIT_DONE;
    return 0;
}

static int on_note_found(void *context, const struct spool_recovered_note *note)
{
    struct spool_node *node = context;
    struct entry *entry = ledger_find(note->id);

    if (entry == NULL || !entry->lives)
        return 0;
    for (uint32_t u = note->unit_first; note->kind == SPOOL_NOTE_DONE && u < entry->unit_count; u++)
        entry->open[u] = entry->open[u] && u - note->unit_first >= note->unit_count;
    if (note->kind == SPOOL_NOTE_ABORT || !is_open(entry))
        entry_ends(node, entry);
    return 0;
}

/* Only a disk that fails may keep a spool from being opened or read. */
static int start_refused(const char *what, struct slice error, int r)
{
    if (world.mode == SPOOL_DIES ||
        world.host->disk->errors_made + world.host->disk->refused_full == 0)
        sim_fail("the spool %s: %.*s (%d)", what, SLICE_ARG(error), r);
    sim_trace("spool.refused", (uint64_t)-r, 0, 0);
    world.refused_starts++;
    return r;
}

static void on_restored(void *context, int result, const struct spool_report *report,
                        struct slice error)
{
    struct spool_node *node = context;
    uint32_t shard = node->shard->index;

    if (result < 0) {
        (void)start_refused("is not read", error, result);
        return;
    }
    if (report->checkpoints_lost > 0 && report->checkpoint == 0)
        ledger_amnesty(shard);
    for (uint32_t i = 0; i < world.entry_count; i++) {
        struct entry *entry = &world.entries[i];

        if (entry->shard != shard || !entry->lives || entry->life == world.lives[shard])
            continue;
        ledger_found(entry);
        for (uint32_t u = 0; u < entry->unit_count; u++)
            ledger_unit_found(entry, u, !entry->open[u]);
    }
    ledger_recovery_ends(shard,
                         report->damaged_records + report->torn_groups + report->checkpoints_lost);
    node->restored = true;
    world.recoveries++;
    sim_trace("spool.recovered", report->messages, report->torn_groups, report->damaged_records);
}

/* ---- checkpoints and copies ------------------------------------------------------------------- */

static void on_image_begin(void *context)
{
    ((struct spool_node *)context)->image_next = 0;
}

static bool image_put(struct spool_image *image, const struct entry *entry)
{
    struct spool_image_item item = {.destination = 1};
    uint8_t bits = 0;
    struct spool_image_entry put = {
        .id = entry->id,
        .location = entry->location,
        .unit_count = (uint16_t)entry->unit_count,
        .item_count = 1,
        .message_flags = entry->flags,
        .flags = entry->chunked ? SPOOL_ENTRY_CHUNKED : 0,
        .items = &item,
        .open_bits = &bits,
    };

    for (uint32_t u = 0; u < entry->unit_count; u++) {
        bits |= (uint8_t)(entry->open[u] ? 1u << u : 0);
        item.open_count += entry->open[u];
    }
    if (image->entry_count == 0 && !spool_image_add_text(image, SPOOL_TEXT_DESTINATION, 1,
                                                         (const uint8_t[3]){0}, SLICE("somewhere")))
        return false;
    return image->entry_count < 40 && spool_image_add_entry(image, &put); /* more than one block */
}

static bool on_image_fill(void *context, struct spool_image *image)
{
    struct spool_node *node = context;

    for (; node->image_next < world.entry_count; node->image_next++) {
        const struct entry *entry = &world.entries[node->image_next];

        if (entry->shard == node->shard->index && entry->lives &&
            spool_image_wants(image, &entry->location) && !image_put(image, entry))
            return true;
    }
    world.checkpoints++;
    return false;
}

static void on_image_end(void *context)
{
    (void)context;
}

static int on_states(void *context, uint64_t id, const struct spool_location *location,
                     struct slice envelope, struct spool_unit *units, uint32_t unit_count,
                     bool *ret_held, struct slice *ret_reason)
{
    struct entry *entry = ledger_find(id);

    (void)context;
    if (entry == NULL || !entry->lives || !same_place(location, &entry->location))
        return -ENOENT;
    ledger_expect(entry, envelope, PART_ENVELOPE, 0);
    for (uint32_t u = 0; u < unit_count; u++)
        units[u] =
            (struct spool_unit){.state = entry->open[u] ? SPOOL_UNIT_WAITING : SPOOL_UNIT_DONE};
    *ret_held = false;
    *ret_reason = SLICE_NONE;
    return 0;
}

static void on_relocated(void *context, uint64_t id, const struct spool_location *from,
                         const struct spool_location *to)
{
    struct spool_node *node = context;
    struct entry *entry = ledger_find(id);

    world.copies++;
    if (entry == NULL || !entry->lives || !same_place(from, &entry->location)) {
        spool_release(node->spool, id, to);
        return;
    }
    spool_release(node->spool, id, from);
    entry->location = *to;
}

static const struct spool_owner spool_owner = {
    .text = on_text,
    .image = on_image,
    .found = on_found,
    .noted = on_note_found,
    .restored = on_restored,
    .image_begin = on_image_begin,
    .image_fill = on_image_fill,
    .image_end = on_image_end,
    .states = on_states,
    .relocated = on_relocated,
};

static int shard_start(struct shard *shard, void *context)
{
    struct spool_node *node = (struct spool_node *)context + shard->index;
    struct spool_recovery *recovery = NULL;
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
        .reclaim_after_s = 1,
        .reclaim_live_percent = 70,
        .checkpoint_ms = (uint32_t)sim_between(20, 2000),
        .checkpoint_bytes = sim_between(16 * KIB, MIB),
    };
    int r;

    snprintf(path, sizeof(path), SPOOL_DIRECTORY "/%04u", shard->index);
    buf_init(&error, 4096);
    ledger_recovery_begins(shard->index);
    for (uint32_t i = 0; i < world.entry_count; i++)
        if (world.entries[i].shard == shard->index)
            world.entries[i].lives = false;
    world.lives[shard->index]++;
    r = spool_open(&config, &recovery, &error);
    if (r < 0)
        return start_refused("is not opened", buf_slice(&error), r);
    r = spool_start(shard, &recovery, &node->spool);
    if (r < 0)
        return start_refused("does not start", buf_slice(&error), r);
    node->shard = shard;
    spool_set_owner(node->spool, &spool_owner, node);
    spool_restore(node->spool);
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
        work->entry->lives = true;
        for (uint32_t u = 0; u < work->entry->unit_count; u++)
            work->entry->open[u] = true;
    } else {
        work->entry->state = ENTRY_REFUSED;
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

        ledger_fill(bytes, size, work->entry->id, PART_BODY, offset);
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
                            .life = world.lives[node->shard->index],
                            .unit_count = (uint32_t)sim_between(1, UNITS_MAX),
                            .envelope_bytes = (uint32_t)sim_between(20, 900),
                            .head_bytes = (uint32_t)sim_between(0, 400),
                            .body_bytes = body_size(),
                            .flags = (uint8_t)sim_between(0, 3)};
    if (ledger_find(entry->id) != NULL)
        sim_fail("id %llx is given out twice", (unsigned long long)entry->id);
    world.entry_count++;
    work = calloc(1, sizeof(*work));
    bytes = malloc(SPOOL_INLINE_BODY_MAX + 1);
    envelope = malloc(1024);
    head = malloc(1024);
    ASSERT(work != NULL && bytes != NULL && envelope != NULL && head != NULL);
    ledger_fill(envelope, entry->envelope_bytes, entry->id, PART_ENVELOPE, 0);
    ledger_fill(head, entry->head_bytes, entry->id, PART_HEAD, 0);
    work->entry = entry;
    work->append = (struct spool_append){.id = entry->id,
                                         .envelope = slice_of(envelope, entry->envelope_bytes),
                                         .unit_count = entry->unit_count,
                                         .head = slice_of(head, entry->head_bytes),
                                         .flags = entry->flags,
                                         .arrival_s = (uint32_t)(clock_wall_ns() / SECOND_NS),
                                         .done = on_appended};
    list_node_init(&work->append.node);
    entry->chunked = entry->body_bytes > SPOOL_INLINE_BODY_MAX;
    if (entry->chunked) {
        r = upload_body(node, work, bytes);
    } else {
        size_t first = (size_t)sim_between(0, entry->body_bytes);

        ledger_fill(bytes, (size_t)entry->body_bytes, entry->id, PART_BODY, 0);
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
        if (entry->shard == node->shard->index && waits && entry->lives &&
            (node->restored || entry->life == world.lives[entry->shard]) &&
            (entry->state == ENTRY_PROMISED || entry->state == ENTRY_FOUND))
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
    if (work->note.kind == SPOOL_NOTE_DONE) {
        entry->units[work->unit] = UNIT_NOTED;
        entry->noted[work->unit] = true;
        entry->open[work->unit] = false;
        if (!is_open(entry))
            entry_ends(node, entry);
    }
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
        ledger_unreadable(work->entry, r);
        read_end(work);
        return;
    }
    info = spool_reader_info(work->reader);
    if (work->offset == 0) {
        world.hot += info->hot;
        ledger_expect(work->entry, info->envelope, PART_ENVELOPE, 0);
        ledger_expect(work->entry, info->head, PART_HEAD, 0);
    }
    while ((r = spool_reader_next(work->reader, &piece, read_ready, work)) == 1) {
        ledger_expect(work->entry, piece, PART_BODY, work->offset);
        work->offset += piece.size;
    }
    if (r == -EINPROGRESS)
        return;
    if (r < 0)
        ledger_unreadable(work->entry, r);
    else if (work->offset != work->entry->body_bytes)
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
        ledger_unreadable(entry, r);
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
    static struct log *logs[SPOOL_SHARDS_MAX]; /* without a log nothing is written */
    struct spool_node *nodes = calloc(SPOOL_SHARDS_MAX, sizeof(*nodes));
    struct worker_pool *workers;
    struct shard_group *group;
    struct shard_params params = {
        .count = process->cpu_count, .start = shard_start, .logs = logs, .context = nodes};
    int r;

    (void)context;
    ASSERT(nodes != NULL);
    for (uint32_t i = 0; i < SPOOL_SHARDS_MAX; i++)
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

/* Now and then a disk is filled, and somebody makes room again. */
static void choose_disk(void)
{
    struct sim_disk *disk = world.host->disk;

    disk->faults = (struct sim_disk_faults){.capacity_bytes = 0};
    if (world.mode == SPOOL_DIES || sim_chance(300))
        return;
    if (world.mode == SPOOL_FAILS) {
        sim_disk_faults_choose(&disk->faults);
        if (sim_chance(400))
            disk->faults.capacity_bytes = disk->used_bytes + sim_between(1, 5 * MIB);
    }
    if (world.mode == SPOOL_LIES) {
        disk->faults.misdirected = sim_chance(500) ? (uint32_t)sim_between(1, 30) : 0;
        disk->faults.lost = sim_chance(500) ? (uint32_t)sim_between(1, 30) : 0;
    }
}

static void die(void)
{
    if (sim_chance(500)) {
        world.power_cuts++;
        sim_host_power_cut(world.host);
        if (world.mode == SPOOL_DECAYS && sim_chance(300))
            ledger_flip();
        sim_host_power_on(world.host);
    } else {
        world.kills++;
        sim_process_kill(world.process);
    }
    if (sim_chance(100)) /* a wrong clock in the machine, or a battery that is empty */
        world.host->wall_offset_ns =
            ((int64_t)sim_between(0, 40) - 20) * 24 * 3600 * (int64_t)SECOND_NS;
}

static void trouble_main(void *argument)
{
    (void)argument;
    while (sim.now_ns < world.trouble_ns) {
        sim_sleep(sim_between(1, sim_chance(300) ? 30 * MS_NS : 2 * SECOND_NS));
        if (world.mode == SPOOL_DECAYS && sim_chance(300))
            ledger_flip();
        if (sim_chance(300))
            choose_disk();
        die();
        start();
    }
    /* The last recovery is one of a disk that works, and whatever an error hid has to be there again. */
    die();
    world.host->disk->faults = (struct sim_disk_faults){.capacity_bytes = 0};
    start();
    world.process->file_calls_until = 0;
    sim_sleep(4 * SECOND_NS); /* the last recovery and some work */
    if (!world.process->alive)
        sim_fail("the spool is not recovered on a disk that works");
    sim_end_world();
}

static void choose_mode(void)
{
    static const enum spool_mode modes[] = {SPOOL_DIES,  SPOOL_DIES,   SPOOL_FAILS,
                                            SPOOL_FAILS, SPOOL_DECAYS, SPOOL_LIES};

    world.mode = modes[sim_between(0, ARRAY_SIZE(modes) - 1)];
    choose_disk();
}

static void run_spool(char *note, size_t note_bytes)
{
    static const char *const names[] = {"dies", "fails", "decays", "lies"};
    uint64_t promised = 0;

    world.host = sim_host_create("host", "11.0.0.1");
    world.shards = (uint32_t)sim_between(1, SPOOL_SHARDS_MAX);
    world.trouble_ns = sim_between(1, sim_chance(100) ? 12 : 5) * SECOND_NS;
    (void)sim_disk_make_dirs(world.host, SPOOL_DIRECTORY);
    sim.faults.slow_disk = (uint32_t)sim_between(0, 10);
    world.host->disk->refuses_direct = sim_chance(200);
    ledger_begin();
    choose_mode();
    start();
    (void)sim_fiber_start(NULL, trouble_main, NULL, 0);
    sim_run(3600 * SECOND_NS);
    if (!sim.over && sim.failure[0] == '\0')
        sim_fail("the world came to a standstill");
    for (uint32_t i = 0; i < world.entry_count; i++)
        promised +=
            world.entries[i].state == ENTRY_PROMISED || world.entries[i].state == ENTRY_FOUND;
    snprintf(
        note, note_bytes,
        "the disk %s: %llu checkpoints, %llu entries of theirs read, %llu copies to the cold lane, "
        "%llu "
        "starts without any; %u messages, %llu left, %llu refused, %llu lost in flight; %llu reads "
        "(%llu hot), %llu "
        "recoveries (%llu refused), %llu kills, %llu power cuts; %llu errors, %llu times "
        "full, %llu flips, %llu lies, "
        "%llu messages hit",
        names[world.mode], (unsigned long long)world.checkpoints,
        (unsigned long long)world.entries_read, (unsigned long long)world.copies,
        (unsigned long long)world.amnesties, world.entry_count, (unsigned long long)promised,
        (unsigned long long)world.refused, (unsigned long long)world.doubts,
        (unsigned long long)world.reads, (unsigned long long)world.hot,
        (unsigned long long)world.recoveries, (unsigned long long)world.refused_starts,
        (unsigned long long)world.kills, (unsigned long long)world.power_cuts,
        (unsigned long long)world.host->disk->errors_made,
        (unsigned long long)world.host->disk->refused_full,
        (unsigned long long)world.host->disk->flips, (unsigned long long)world.host->disk->lies,
        (unsigned long long)world.hits);
}

const struct sim_world sim_world_spool = {.name = "spool", .run = run_spool};
