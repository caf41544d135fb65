#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define BODY_BYTES (60 * KIB)
#define PER_SEGMENT 36 /* more than fit into 2 MiB */

static uint8_t body[BODY_BYTES];

static struct world *world_scrubbed(struct posting **postings, uint32_t count)
{
    struct world *world = world_create();

    world->config.scrub_kib_per_s = MIB; /* as fast as it can */
    world->config.hot_bytes_max = 0;
    world_open(world);
    fill_body(body, sizeof(body), 3);
    for (uint32_t i = 0; i < count; i++)
        postings[i] = post(world, 1, body, sizeof(body));
    return world;
}

/* A pass over all that is sealed. */
static void scrub(struct world *world)
{
    struct spool *spool = world->spool;

    for (uint32_t i = 0; i < spool->segment_count; i++)
        spool->segments[i]->sealed_ns -=
            MIN(spool->segments[i]->sealed_ns, (uint64_t)3600 * SECOND_NS);
    for (uint32_t i = 0; i < spool->segment_count; i++) {
        const struct spool_segment *segment = spool->segments[i];

        while (segment->sealed && segment->live_count > 0 && segment->scrubbed_ns == 0) {
            if (!spool->scrub.busy)
                shard_timer_arm(&world->shard, &spool->scrub.timer, 1);
            world_tick(world);
        }
    }
}

static void finish(struct world *world, const struct posting *posting)
{
    struct spool_note note = {.kind = SPOOL_NOTE_DONE, .id = posting->append.id, .unit_count = 1};

    cr_assert_eq(spool_note(world->spool, &note), 0);
    spool_release(world->spool, posting->append.id, &posting->append.location);
}

static void check_set_aside(struct world *world, const char *name)
{
    char path[600];

    while (world->spool->counters.segments_set_aside == 0)
        world_tick(world);
    path_of(world, name, path, sizeof(path));
    cr_assert_eq(access(path, F_OK), 0, "%s", path);
    cr_assert_eq(world->spool->counters.segments_set_aside, 1);
}

Test(spool_scrub, what_is_whole_is_no_damage)
{
    struct posting *postings[3 * PER_SEGMENT];
    struct world *world = world_scrubbed(postings, ARRAY_SIZE(postings));
    struct spool_counters counters;

    scrub(world);
    spool_counters(world->spool, &counters);
    cr_assert_geq(counters.scrubbed_bytes, 2 * (2 * MIB - SPOOL_BLOCK_BYTES));
    cr_assert_eq(counters.scrub_damaged, 0);
    cr_assert_eq(counters.segments_damaged, 0);
    /* And in the next life, where nobody remembers how far a segment was used. */
    world_close(world);
    world_open(world);
    scrub(world);
    spool_counters(world->spool, &counters);
    cr_assert_gt(counters.scrubbed_bytes, 0);
    cr_assert_eq(counters.scrub_damaged, 0);
    world_destroy(world);
}

Test(spool_scrub, damage_is_told_before_anybody_reads)
{
    static const struct {
        const char *name;
        int64_t at; /* from the record's header */
    } rows[] = {{"body", 30000}, {"envelope", 50}, {"record header", 5}, {"group header", -40}};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct posting *postings[PER_SEGMENT];
        struct world *world = world_scrubbed(postings, ARRAY_SIZE(postings));
        struct spool_counters counters;

        cr_assert_eq(postings[7]->append.location.segment, 1);
        flip(world->dir, "D-00000001",
             (uint64_t)((int64_t)postings[7]->append.location.offset_16 * 16 + rows[i].at), 0x10);
        scrub(world);
        spool_counters(world->spool, &counters);
        cr_assert_eq(counters.scrub_damaged, 1, "%s: %d", rows[i].name,
                     (int)counters.scrub_damaged);
        cr_assert_eq(counters.segments_damaged, 1);
        world_destroy(world);
    }
}

/* Goal: blocks that went bad are not used again, and what stood on them is kept for who wants to look at it. */
Test(spool_scrub, a_damaged_segment_goes_to_quarantine_when_nothing_lives_in_it)
{
    for (int by_reader = 0; by_reader < 2; by_reader++) {
        struct posting *postings[PER_SEGMENT];
        struct world *world = world_scrubbed(postings, ARRAY_SIZE(postings));

        flip(world->dir, "D-00000001",
             (uint64_t)postings[7]->append.location.offset_16 * 16 + 30000, 0x10);
        if (by_reader) {
            uint8_t *read;
            size_t size;
            bool hot;

            cr_assert_eq(read_back(world, &postings[7]->append.location, &read, &size, &hot),
                         -EBADMSG);
        } else {
            scrub(world);
        }
        for (size_t i = 0; i < ARRAY_SIZE(postings); i++)
            finish(world, postings[i]);
        check_set_aside(world, "quarantine/D-00000001");
        world_destroy(world);
    }
}
