#include "spool_fixture.h"

#include "storage/spool_inspect.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* An owner that knows one place for each id, and answers what its test wants. */

#define BODY_BYTES (60 * KIB)
#define PER_SEGMENT 36 /* more than fit into 2 MiB */
#define MESSAGES_MAX (8 * PER_SEGMENT)

struct owned {
    uint64_t id;
    struct spool_location location;
    uint32_t unit_count;
    bool lives;
    uint32_t relocated;
};

static struct {
    struct world *world;
    struct owned messages[MESSAGES_MAX];
    uint32_t count;
    int states_result; /* instead of the units */
    bool finish_midway;
    bool before_durable; /* relocated() came although the copy was not durable */
} owner;

static uint8_t body[BODY_BYTES];

static struct owned *owned_find(uint64_t id)
{
    for (uint32_t i = 0; i < owner.count; i++) {
        if (owner.messages[i].id == id)
            return &owner.messages[i];
    }
    return NULL;
}

static bool same(const struct spool_location *a, const struct spool_location *b)
{
    return a->segment == b->segment && a->offset_16 == b->offset_16 &&
           a->record_bytes == b->record_bytes;
}

static void owned_finish(struct owned *owned)
{
    struct spool_note note = {.kind = SPOOL_NOTE_DONE,
                              .id = owned->id,
                              .unit_count = owned->unit_count,
                              .outcome = SPOOL_DELIVERED};

    cr_assert_eq(spool_note(owner.world->spool, &note), 0);
    owned->lives = false;
    spool_release(owner.world->spool, owned->id, &owned->location);
}

static int owner_states(void *context, uint64_t id, const struct spool_location *location,
                        struct slice envelope, struct spool_unit *units, uint32_t unit_count,
                        bool *ret_held, struct slice *ret_reason)
{
    struct owned *owned = owned_find(id);
    char expected[64];

    (void)context;
    if (owned == NULL || !owned->lives || !same(location, &owned->location))
        return -ENOENT;
    if (owner.states_result != 0)
        return owner.states_result;
    cr_assert_eq(unit_count, owned->unit_count);
    (void)snprintf(expected, sizeof(expected), "envelope of %llx", (unsigned long long)id);
    cr_assert(slice_equal(envelope, slice_cstr(expected)));
    for (uint32_t i = 0; i < unit_count; i++)
        units[i] = (struct spool_unit){
            .state = i % 2 == 0 ? SPOOL_UNIT_WAITING : SPOOL_UNIT_DONE,
            .attempts = (uint8_t)(i + 1),
            .next_s = 1000 + i,
        };
    *ret_held = true;
    *ret_reason = SLICE("not today");
    return 0;
}

static void owner_relocated(void *context, uint64_t id, const struct spool_location *from,
                            const struct spool_location *to)
{
    struct owned *owned = owned_find(id);
    struct spool_log *cold = &owner.world->spool->r;

    (void)context;
    cr_assert(owned != NULL);
    owner.before_durable =
        owner.before_durable || (cold->current->used_bytes <= (uint64_t)to->offset_16 * 16);
    owned->relocated++;
    if (owner.finish_midway && owned->lives)
        owned_finish(owned);
    if (!owned->lives || !same(from, &owned->location)) {
        spool_release(owner.world->spool, id, to);
        return;
    }
    spool_release(owner.world->spool, id, from);
    owned->location = *to;
}

static void owner_image_begin(void *context)
{
    (void)context;
}

static bool owner_image_fill(void *context, struct spool_image *image)
{
    (void)context;
    (void)image;
    return false;
}

static const struct spool_owner callbacks = {
    .states = owner_states,
    .relocated = owner_relocated,
    .image_begin = owner_image_begin,
    .image_fill = owner_image_fill,
    .image_end = owner_image_begin,
};

static struct owned *own(const struct posting *posting)
{
    struct owned *owned = &owner.messages[owner.count++];

    *owned = (struct owned){
        .id = posting->append.id,
        .location = posting->append.location,
        .unit_count = posting->append.unit_count,
        .lives = true,
    };
    return owned;
}

static void open_owned(struct world *world)
{
    owner.world = world;
    fill_body(body, sizeof(body), 9);
    world_open(world);
    world->spool->owner = &callbacks;
    world->spool->restored = true;
}

/* Messages, of which every `live_every`th lives on. */
static void post_many(struct world *world, uint32_t count, uint32_t live_every)
{
    uint32_t first = owner.count;

    for (uint32_t i = 0; i < count; i++)
        (void)own(post(world, 3, body, sizeof(body)));
    for (uint32_t i = 0; i < count; i++) {
        if (i % live_every != 0)
            owned_finish(&owner.messages[first + i]);
    }
}

/* Time passes for all segments. */
static void age(struct world *world, uint64_t seconds)
{
    for (uint32_t i = 0; i < world->spool->segment_count; i++) {
        struct spool_segment *segment = world->spool->segments[i];

        segment->sealed_ns -= MIN(segment->sealed_ns, seconds * SECOND_NS);
        segment->relocate_ns = 0;
    }
}

static void relocate_round(struct world *world)
{
    shard_defer(&world->shard, &world->spool->relocate.task);
    for (int quiet = 0; quiet < 20;) {
        shard_tick(&world->shard, false);
        quiet = spool_relocate_idle(world->spool) ? quiet + 1 : 0;
    }
}

static void check_readable(struct world *world, const struct owned *owned)
{
    uint8_t *read;
    size_t size;
    bool hot;

    cr_assert_eq(read_back(world, &owned->location, &read, &size, &hot), 0);
    cr_assert_eq(size, sizeof(body));
    cr_assert_eq(memcmp(read, body, size), 0);
    free(read);
}

Test(spool_relocate, leftovers_go_to_the_cold_lane_and_their_segments_die)
{
    struct world *world = world_create();
    uint32_t moved = 0;

    open_owned(world);
    post_many(world, 4 * PER_SEGMENT, 20);
    relocate_round(world);
    cr_assert_eq(world->spool->counters.relocated, 0, "too young");
    age(world, 601);
    relocate_round(world);
    cr_assert_not(owner.before_durable);
    while (world->spool->counters.segments_reused + world->spool->counters.segments_removed < 3)
        world_tick(world); /* J is flushed first */
    for (uint32_t i = 0; i < owner.count; i++) {
        const struct owned *owned = &owner.messages[i];

        if (!owned->lives)
            continue;
        if (owned->location.segment & SPOOL_COLD) {
            cr_assert_eq(owned->relocated, 1);
            moved++;
        }
        check_readable(world, owned);
    }
    cr_assert_gt(moved, 5);
    cr_assert_eq(world->spool->counters.relocated, moved);
    world_destroy(world);
}

/* Goal: what a copy says of its units is what the owner said, in the bytes of README. */
Test(spool_relocate, a_copy_carries_the_states)
{
    struct world *world = world_create();
    const struct owned *owned = NULL;
    static uint8_t window[2 * MIB];
    struct spool_record record;
    struct spool_sections sections;
    struct spool_states states;
    struct spool_segment *segment;
    const uint8_t *at;
    char path[600];
    FILE *file;

    open_owned(world);
    post_many(world, 3 * PER_SEGMENT, 20);
    age(world, 601);
    relocate_round(world);
    for (uint32_t i = 0; i < owner.count && owned == NULL; i++)
        owned = owner.messages[i].relocated ? &owner.messages[i] : NULL;
    cr_assert(owned != NULL);
    segment = spool_segment_find(world->spool, owned->location.segment);
    path_of(world, "R-00000001", path, sizeof(path));
    file = fopen(path, "r");
    cr_assert(file);
    cr_assert_eq(fread(window, 1, sizeof(window), file), sizeof(window));
    (void)fclose(file);
    at = window + (size_t)owned->location.offset_16 * 16;
    cr_assert(spool_record_decode(at, SPOOL_RECORD_BYTES_MAX, segment->seed,
                                  (uint64_t)owned->location.offset_16 * 16, &record));
    cr_assert_eq(record.type, SPOOL_RELOC);
    cr_assert_eq(record.id, owned->id);
    cr_assert(spool_record_front_ok(&record, at) && spool_record_body_ok(&record, at));
    spool_record_sections(&record, at, &sections);
    cr_assert(spool_states_decode(sections.states, 3, &states));
    cr_assert(states.held);
    cr_assert(slice_equal(states.reason, SLICE("not today")));
    for (uint32_t i = 0; i < 3; i++) {
        struct spool_unit unit = spool_states_unit(&states, i);

        cr_assert_eq(unit.state, i == 1 ? SPOOL_UNIT_DONE : SPOOL_UNIT_WAITING);
        cr_assert_eq(unit.attempts, i + 1);
        cr_assert_eq(unit.next_s, 1000 + i);
    }
    world_destroy(world);
}

struct outside {
    struct spool_inspect *inspect;
    uint32_t seen, cold;
};

static int add_size(void *context, struct slice piece)
{
    *(size_t *)context += piece.size;
    return 0;
}

static int see_from_outside(void *context, const struct spool_recovered_message *message)
{
    struct outside *outside = context;
    const struct owned *owned = owned_find(message->id);
    size_t size = 0;

    cr_assert(owned != NULL && owned->lives);
    cr_assert(same(&message->location, &owned->location));
    cr_assert_eq(spool_inspect_read(outside->inspect, &message->location, add_size, &size), 0);
    cr_assert_eq(size, message->head_bytes + sizeof(body));
    outside->seen++;
    if (!owned->relocated)
        return 0;
    outside->cold++;
    cr_assert(message->held);
    cr_assert(slice_equal(message->reason, SLICE("not today")));
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_eq(message->units[i].state, i == 1 ? SPOOL_UNIT_DONE : SPOOL_UNIT_WAITING);
        cr_assert_eq(message->units[i].attempts, i + 1);
        cr_assert_eq(message->units[i].next_s, 1000 + i);
    }
    return 0;
}

/* Goal: a tool that looks into the running spool finds each message where it lives, with what the copy says of it. */
Test(spool_relocate, who_looks_from_outside_finds_the_copy)
{
    static const struct spool_inspect_events none;
    struct world *world = world_create();
    struct outside outside = {0};
    struct buf error;
    uint32_t living = 0;

    open_owned(world);
    post_many(world, 3 * PER_SEGMENT, 20);
    age(world, 601);
    relocate_round(world);
    while (!spool_log_idle(&world->spool->j))
        world_tick(world);
    for (uint32_t i = 0; i < owner.count; i++)
        living += owner.messages[i].lives;
    buf_init(&error, 1000);
    cr_assert_eq(spool_inspect_open(world->dir, &outside.inspect, &error), 0);
    cr_assert_eq(spool_inspect_scan(outside.inspect, &none, &error), 0);
    cr_assert_eq(spool_inspect_messages(outside.inspect, see_from_outside, &outside), 0);
    cr_assert_eq(outside.seen, living);
    cr_assert_gt(outside.cold, 0);
    cr_assert_eq(spool_inspect_totals(outside.inspect)->damaged, 0);
    spool_inspect_close(&outside.inspect);
    buf_deinit(&error);
    world_destroy(world);
}

Test(spool_relocate, who_is_busy_stays)
{
    struct world *world = world_create();

    open_owned(world);
    post_many(world, 3 * PER_SEGMENT, 20);
    age(world, 601);
    owner.states_result = -EBUSY;
    relocate_round(world);
    cr_assert_eq(world->spool->counters.relocated, 0);
    for (uint32_t i = 0; i < owner.count; i++) {
        if (owner.messages[i].lives)
            check_readable(world, &owner.messages[i]);
    }
    owner.states_result = 0;
    age(world, 601);
    relocate_round(world);
    cr_assert_gt(world->spool->counters.relocated, 0);
    world_destroy(world);
}

Test(spool_relocate, a_message_finished_meanwhile_leaves_nothing_behind)
{
    struct world *world = world_create();
    struct spool_counters counters;

    owner.finish_midway = true;
    open_owned(world);
    post_many(world, 3 * PER_SEGMENT, 20);
    age(world, 601);
    relocate_round(world);
    cr_assert_gt(world->spool->counters.relocated, 0);
    for (uint32_t i = 0; i < owner.count; i++) {
        if (owner.messages[i].lives)
            owned_finish(&owner.messages[i]);
    }
    spool_counters(world->spool, &counters);
    cr_assert_eq(counters.live_bytes, 0);
    world_destroy(world);
}

Test(spool_relocate, no_more_than_a_tenth_is_copied)
{
    struct world *world = world_create();
    struct spool_counters counters;

    world->config.reclaim_live_percent = 90;
    open_owned(world);
    post_many(world, 5 * PER_SEGMENT, 2);
    age(world, 601);
    relocate_round(world);
    age(world, 601);
    relocate_round(world);
    spool_counters(world->spool, &counters);
    cr_assert_leq(counters.relocated_bytes,
                  (counters.group_bytes + counters.journal_bytes) / 10 + 2 * MIB / 10 + MIB / 10);
    world_destroy(world);
}

/* Goal: the same spool found again after a crash holds each message once, whichever copy counts. */
Test(spool_relocate, a_segment_is_not_used_again_before_its_copies_are_durable)
{
    struct world *world = world_create();
    uint64_t before;

    open_owned(world);
    post_many(world, 3 * PER_SEGMENT, 20);
    age(world, 601);
    before = world->spool->counters.segments_reused + world->spool->counters.segments_removed;
    shard_defer(&world->shard, &world->spool->relocate.task);
    /* Until the first copies are gathered: nothing of them is durable. */
    while (world->spool->relocate.copies == 0)
        shard_tick(&world->shard, false);
    for (uint32_t i = 0; i < owner.count; i++)
        cr_assert_eq(owner.messages[i].relocated, 0);
    cr_assert_eq(world->spool->counters.segments_reused + world->spool->counters.segments_removed,
                 before);
    while (!spool_relocate_idle(world->spool))
        shard_tick(&world->shard, false);
    world_destroy(world);
}

/* ---- big messages ----------------------------------------------------------------------------- */

#define CHUNKS 6
#define CHUNK_BYTES (100 * KIB)
#define BIG_BYTES (CHUNKS * CHUNK_BYTES)

static uint8_t big[BIG_BYTES];

/* Its chunks lie in two segments. */
static struct owned *post_big(struct world *world)
{
    struct posting *posting = posting_create(world, 3, NULL, 0);
    struct spool_upload *upload;

    fill_body(big, sizeof(big), 5);
    cr_assert_eq(spool_upload_begin(world->spool, posting->append.id, &upload), 0);
    for (uint32_t i = 0; i < CHUNKS; i++) {
        struct iovec piece = {big + (size_t)i * CHUNK_BYTES, CHUNK_BYTES};

        cr_assert_eq(spool_upload_chunk(upload, &piece, 1), 0);
        if (i == CHUNKS / 2 - 1)
            while (world->spool->d.current == NULL || world->spool->d.current->number == 1)
                post_many(world, 1, 2);
    }
    posting->append.upload = upload;
    cr_assert_eq(posting_begin(world, posting), 0);
    world_until(world, &posting->done);
    cr_assert_eq(posting->append.result, 0);
    return own(posting);
}

static void check_big(struct world *world, const struct spool_location *location)
{
    uint8_t *read;
    size_t size;
    bool hot;

    cr_assert_eq(read_back(world, location, &read, &size, &hot), 0);
    cr_assert_eq(size, BIG_BYTES);
    cr_assert_eq(memcmp(read, big, size), 0);
    free(read);
}

/* Goal: the segments its chunks lay in die, and it can be read before, after, and in the next life. */
Test(spool_relocate, a_big_message_moves_chunk_by_chunk)
{
    struct world *world = world_create();
    struct spool_counters counters;
    struct owned *owned;

    world->config.hot_bytes_max = 0;
    open_owned(world);
    owned = post_big(world);
    check_big(world, &owned->location);
    for (int i = 0; i < 4; i++)
        post_many(world, PER_SEGMENT, PER_SEGMENT);
    for (uint32_t i = 0; i < owner.count; i++) {
        if (owner.messages[i].lives && &owner.messages[i] != owned)
            owned_finish(&owner.messages[i]);
    }
    for (int i = 0; i < 3; i++) {
        age(world, 601);
        relocate_round(world);
    }
    /* A segment goes when a worker has renamed it and synced two folders, which takes as long as the disk wants. */
    while (spool_segment_find(world->spool, 1) != NULL ||
           spool_segment_find(world->spool, 2) != NULL)
        shard_tick(&world->shard, false);
    cr_assert(owned->location.segment & SPOOL_COLD);
    cr_assert_not(owner.before_durable);
    check_big(world, &owned->location);
    owned_finish(owned);
    spool_counters(world->spool, &counters);
    cr_assert_eq(counters.live_bytes, 0);
    cr_assert_eq(world->spool->live.count, 0);
    world_destroy(world);
}

/* Goal: a round that comes to nothing holds nothing. */
Test(spool_relocate, chunks_copied_for_nothing_are_dead)
{
    struct world *world = world_create();
    struct spool_counters counters;
    struct owned *owned;

    open_owned(world);
    owned = post_big(world);
    for (int i = 0; i < 4; i++)
        post_many(world, PER_SEGMENT, PER_SEGMENT);
    owner.states_result = -EBUSY;
    age(world, 601);
    relocate_round(world);
    cr_assert_gt(world->spool->counters.relocated_bytes, 0, "chunks were copied");
    cr_assert_eq(owned->relocated, 0);
    check_big(world, &owned->location);
    for (uint32_t i = 0; i < owner.count; i++) {
        if (owner.messages[i].lives)
            owned_finish(&owner.messages[i]);
    }
    spool_counters(world->spool, &counters);
    cr_assert_eq(counters.live_bytes, 0);
    world_destroy(world);
}

/* ---- checkpoints ------------------------------------------------------------------------------ */

static void checkpoint_written(void *context, int result)
{
    cr_assert_eq(result, 0);
    *(bool *)context = true;
}

/* Goal: a copy that was gathered before the checkpoint began lies below its c_r. Otherwise a message finished in between
 * comes back: the copy is found by the scan, and its DONE is below c_j. */
Test(spool_relocate, a_checkpoint_begins_behind_the_copies_under_way)
{
    struct world *world = world_create();
    const struct spool_super_checkpoint *newest;
    bool written = false;
    uint32_t moved = 0;

    open_owned(world);
    newest = &world->spool->directory.super.newest;
    post_many(world, 3 * PER_SEGMENT, 20);
    age(world, 601);
    world->spool->r.broken = true; /* nothing is written there for the moment */
    shard_defer(&world->shard, &world->spool->relocate.task);
    while (world->spool->relocate.copies == 0)
        shard_tick(&world->shard, false);
    cr_assert_eq(spool_checkpoint(world->spool, checkpoint_written, &written), 0);
    for (int i = 0; i < 100; i++)
        shard_tick(&world->shard, false);
    world->spool->r.broken = false;
    shard_defer(&world->shard, &world->spool->r.task);
    world_until(world, &written);
    cr_assert_gt(newest->number, 0);
    for (uint32_t i = 0; i < owner.count && moved == 0; i++) {
        const struct owned *owned = &owner.messages[i];

        if (!(owned->location.segment & SPOOL_COLD))
            continue;
        moved++;
        cr_assert((owned->location.segment & ~SPOOL_COLD) < newest->r.segment ||
                  owned->location.offset_16 < newest->r.offset_16);
    }
    cr_assert_eq(moved, 1);
    world_destroy(world);
}
