#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- images --------------------------------------------------------------------------------- */

#define LAST_COUNT 5
#define IMAGE_BYTES (2 * MIB)

/* Three groups: two messages, one, and LAST_COUNT of different sizes. */
struct scene {
    struct world *origin;   /* where it was written */
    struct world *world;    /* over the directory whose segment is rewritten for each case */
    struct world *finished; /* what that directory is before */
    uint8_t *image;         /* of the segment as it was written */
    uint8_t *stale;         /* of the same file in its life before, with the same groups in it */
    char path[600];
    uint64_t offset; /* of the last group */
    uint64_t middle; /* of the one before */
    struct spool_group_header last;
    struct posting *posts[3 + LAST_COUNT];
};

static void read_image(const char *path, uint8_t *image)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    cr_assert_geq(fd, 0, "%s", path);
    cr_assert_eq(read(fd, image, IMAGE_BYTES), (ssize_t)IMAGE_BYTES);
    (void)close(fd);
}

static void write_image(const char *path, const uint8_t *image)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, image, IMAGE_BYTES), (ssize_t)IMAGE_BYTES);
    (void)close(fd);
}

static void scene_post(struct scene *scene, struct world *world, uint32_t seed)
{
    static const size_t sizes[LAST_COUNT] = {0, 700, 9000, 33, 4096};
    static uint8_t body[9000];

    fill_body(body, sizeof(body), seed);
    scene->posts[0] = posting_create(world, 1, body, 1000);
    scene->posts[1] = posting_create(world, 1, body, 10);
    cr_assert_eq(posting_begin(world, scene->posts[0]), 0);
    cr_assert_eq(posting_begin(world, scene->posts[1]), 0);
    world_until(world, &scene->posts[1]->done);
    scene->posts[2] = post(world, 1, body, 6000);
    for (int i = 0; i < LAST_COUNT; i++) {
        scene->posts[3 + i] = posting_create(world, 1, body, sizes[i]);
        cr_assert_eq(posting_begin(world, scene->posts[3 + i]), 0);
    }
    world_until(world, &scene->posts[2 + LAST_COUNT]->done);
}

static void scene_open(struct scene *scene)
{
    struct world *world = world_create();
    struct spool_segment *segment;
    char name[SPOOL_NAME_SIZE];

    /* The first life: the same, and then all of it finished, so that the file becomes a spare
     * again. */
    world_open(world);
    scene_post(scene, world, 1);
    path_of(world, "D-00000001", scene->path, sizeof(scene->path));
    scene->stale = malloc(IMAGE_BYTES);
    scene->image = malloc(IMAGE_BYTES);
    read_image(scene->path, scene->stale);
    for (int i = 0; i < 3 + LAST_COUNT; i++) {
        struct spool_note note = {.kind = SPOOL_NOTE_ABORT, .id = scene->posts[i]->append.id};

        cr_assert_eq(spool_note(world->spool, &note), 0);
        posting_destroy(scene->posts[i]);
    }
    world_close(world);
    world_open(world);
    cr_assert_eq(world->message_count, 0);
    /* The second: over the old content, unless another spare came first. */
    scene_post(scene, world, 2);
    segment = spool_segment_find(world->spool, scene->posts[0]->append.location.segment);
    spool_segment_name('D', segment->number, name);
    scene->finished = world_crash(world);
    scene->world = world_crash(world);
    path_of(scene->world, name, scene->path, sizeof(scene->path));
    read_image(scene->path, scene->image);
    scene->offset = (uint64_t)scene->posts[3]->append.location.offset_16 * 16 - 64;
    scene->middle = (uint64_t)scene->posts[2]->append.location.offset_16 * 16 - 64;
    cr_assert(spool_group_header_decode(scene->image + scene->offset, segment->seed, scene->offset,
                                        &scene->last));
    cr_assert_eq(scene->last.record_count, LAST_COUNT);
    scene->origin = world;
}

static void scene_close(struct scene *scene)
{
    world_destroy(scene->world);
    world_destroy(scene->finished);
    world_destroy(scene->origin);
    free(scene->image);
    free(scene->stale);
}

static void scene_recover(struct scene *scene, const uint8_t *image)
{
    world_reset(scene->world, scene->finished);
    write_image(scene->path, image);
    cr_assert_eq(world_recover(scene->world), 0, "%s", scene->world->error);
}

/* The bytes of posting `i`'s record in the segment. */
static uint64_t record_from(const struct scene *scene, int i)
{
    return (uint64_t)scene->posts[i]->append.location.offset_16 * 16;
}

static uint64_t record_to(const struct scene *scene, int i)
{
    return record_from(scene, i) + scene->posts[i]->append.location.record_bytes;
}

/* Goal: wherever a write was cut, what was acknowledged before is there, whole records count and
 * others do not. Method: of the last group only the first `cut` bytes reach the disk; behind them
 * lies what the file held before. */
static void cut_everywhere(bool stale_behind)
{
    struct scene scene;
    uint8_t *image = malloc(IMAGE_BYTES);
    uint64_t end;

    scene_open(&scene);
    end = scene.offset + scene.last.group_bytes;
    for (uint64_t at = scene.offset; at <= end; at += 512) {
        const struct world *world = scene.world;

        memcpy(image, scene.image, IMAGE_BYTES);
        if (stale_behind)
            memcpy(image + at, scene.stale + at, IMAGE_BYTES - at);
        else
            memset(image + at, 0, IMAGE_BYTES - at);
        scene_recover(&scene, image);
        cr_assert_eq(world->report.damaged_records, 0, "cut at %lu", at - scene.offset);
        for (int i = 0; i < 3 + LAST_COUNT; i++)
            cr_assert_eq(world_find(world, scene.posts[i]->append.id) != NULL,
                         record_to(&scene, i) <= at, "cut at %lu, message %d", at - scene.offset,
                         i);
        cr_assert_eq(world->report.torn_groups,
                     at > scene.offset && at < scene.offset + scene.last.payload_end ? 1 : 0,
                     "cut at %lu", at - scene.offset);
    }
    scene_close(&scene);
    free(image);
}

Test(spool_recover, a_write_cut_anywhere_over_zeros)
{
    cut_everywhere(false);
}

Test(spool_recover, a_write_cut_anywhere_over_what_was_there_before)
{
    cut_everywhere(true);
}

/* Goal: sectors of a torn write may be missing in any place, not only at its end. */
Test(spool_recover, a_write_with_any_sector_missing)
{
    struct scene scene;
    uint8_t *image = malloc(IMAGE_BYTES);

    scene_open(&scene);
    for (uint64_t at = scene.offset; at < scene.offset + scene.last.payload_end; at += 512) {
        const struct world *world = scene.world;

        memcpy(image, scene.image, IMAGE_BYTES);
        memcpy(image + at, scene.stale + at, 512);
        scene_recover(&scene, image);
        cr_assert_eq(world->report.damaged_records, 0);
        cr_assert_eq(world->report.torn_groups, 1, "sector at %lu", at - scene.offset);
        for (int i = 0; i < 3 + LAST_COUNT; i++)
            cr_assert_eq(world_find(world, scene.posts[i]->append.id) != NULL,
                         at + 512 <= record_from(&scene, i) || at >= record_to(&scene, i),
                         "sector at %lu, message %d", at - scene.offset, i);
    }
    scene_close(&scene);
    free(image);
}

/* Goal: a flipped bit costs one message; in a group that was acknowledged for certain it is
 * damage, the message is not silently gone, and nothing behind it is. */
Test(spool_recover, a_flipped_bit_in_an_acknowledged_group)
{
    struct scene scene;
    uint8_t *image = malloc(IMAGE_BYTES);
    uint64_t first, last;

    scene_open(&scene);
    first = record_from(&scene, 2);
    last = record_to(&scene, 2);
    for (uint64_t at = scene.middle; at < last; at += at < first + 200 ? 7 : 197) {
        const struct world *world = scene.world;
        uint64_t body = last - 6000;

        memcpy(image, scene.image, IMAGE_BYTES);
        image[at] ^= (uint8_t)(1u << at % 8);
        scene_recover(&scene, image);
        cr_assert_geq(world->report.damaged_records, 1, "at %lu", at - scene.middle);
        cr_assert_eq(world->report.torn_groups, 0);
        for (int i = 0; i < 3 + LAST_COUNT; i++)
            if (i != 2)
                cr_assert_not_null(world_find(world, scene.posts[i]->append.id),
                                   "at %lu, message %d", at - scene.middle, i);
        /* The group's header is not needed to find its records; a body is not needed to know
         * whose it was. */
        cr_assert_eq(world_find(world, scene.posts[2]->append.id) != NULL, at < first || at >= body,
                     "at %lu", at - scene.middle);
    }
    scene_close(&scene);
    free(image);
}

Test(spool_recover, a_flipped_bit_in_the_last_group)
{
    struct scene scene;
    uint8_t *image = malloc(IMAGE_BYTES);

    scene_open(&scene);
    for (uint64_t at = scene.offset; at < scene.offset + scene.last.payload_end;
         at += at < scene.offset + 300 ? 7 : 199) {
        const struct world *world = scene.world;

        memcpy(image, scene.image, IMAGE_BYTES);
        image[at] ^= (uint8_t)(1u << at % 8);
        scene_recover(&scene, image);
        cr_assert_eq(world->report.damaged_records, 0);
        for (int i = 0; i < 3 + LAST_COUNT; i++)
            cr_assert_eq(world_find(world, scene.posts[i]->append.id) != NULL,
                         at < record_from(&scene, i) || at >= record_to(&scene, i),
                         "at %lu, message %d", at - scene.offset, i);
    }
    scene_close(&scene);
    free(image);
}

/* Good until the next call. */
static const char *scene_path(const struct world *world, const char *name)
{
    static char path[600];

    path_of(world, name, path, sizeof(path));
    return path;
}

/* ---- lives of a spool ----------------------------------------------------------------------- */

/* Goal: an orderly stop vouches for the last group, so that a flipped bit in it is damage. */
Test(spool_recover, after_an_orderly_stop_the_last_group_is_vouched_for)
{
    struct world *world = world_create();
    struct posting *posting;

    world_open(world);
    posting = post(world, 1, "hello", 5);
    world_close(world);
    flip(world->dir, "D-00000001",
         (uint64_t)posting->append.location.offset_16 * 16 + posting->append.location.record_bytes -
             1,
         4);
    world_open(world);
    cr_assert_eq(world->report.damaged_records, 1);
    cr_assert_eq(world->report.torn_groups, 0);
    cr_assert_eq(world->message_count, 1, "its envelope is whole");
    world_destroy(world);
}

static void reader_opened(void *context, int result)
{
    *(int *)context = result;
}

Test(spool_recover, a_damaged_body_is_presented_and_cannot_be_read)
{
    struct world *world = world_create();
    struct posting *bad, *good;
    struct spool_reader *reader;
    struct spool_counters counters;
    uint8_t *body;
    size_t size;
    bool hot;
    int result = 1;

    world_open(world);
    bad = post(world, 1, "hello", 5);
    good = post(world, 1, "world", 5);
    world_close(world);
    flip(world->dir, "D-00000001",
         (uint64_t)bad->append.location.offset_16 * 16 + bad->append.location.record_bytes - 1, 4);
    world_open(world);
    cr_assert_eq(world->message_count, 2);
    cr_assert_eq(
        spool_reader_open(world->spool, &bad->append.location, reader_opened, &result, &reader), 0);
    while (result == 1)
        world_tick(world);
    cr_assert_eq(result, -EBADMSG);
    spool_reader_close(&reader);
    spool_counters(world->spool, &counters);
    cr_assert_eq(counters.damaged, 1);
    cr_assert_eq(read_back(world, &good->append.location, &body, &size, &hot), 0);
    cr_assert_eq(memcmp(body, "world", 5), 0);
    free(body);
    world_destroy(world);
}

Test(spool_recover, a_lost_segment_header_costs_that_segment)
{
    struct world *world = world_create();
    struct posting *lost, *kept;

    world_open(world);
    lost = post(world, 1, "a", 1);
    world_close(world);
    world_open(world);
    kept = post(world, 1, "b", 1);
    world_close(world);
    cr_assert_neq(lost->append.location.segment, kept->append.location.segment,
                  "appends go to a new segment");
    flip(world->dir, "D-00000001", 20, 1);
    world_open(world);
    cr_assert_eq(world->message_count, 2, "the second copy serves");
    world_close(world);
    flip(world->dir, "D-00000001", 2048 + 20, 1);
    world_open(world);
    cr_assert_eq(world->message_count, 1);
    cr_assert_geq(world->report.damaged_records, 1);
    world_close(world);
    cr_assert_eq(access(scene_path(world, "quarantine/D-00000001"), F_OK), 0,
                 "kept for the operator");
    world_destroy(world);
}

/* Goal: the space of what is finished comes back, and what is in it never does. */
Test(spool_recover, dead_segments_are_recycled)
{
    struct world *world = world_create();
    static uint8_t body[60000];
    struct posting *posting;
    uint64_t ids[150];

    world_open(world);
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        posting = post(world, 1, body, sizeof(body));
        ids[i] = posting->append.id;
        posting_destroy(posting);
    }
    cr_assert_gt(world->spool->segment_count, 3);
    for (size_t i = 0; i + 1 < ARRAY_SIZE(ids); i++) {
        struct spool_note note = {.kind = SPOOL_NOTE_DONE, .id = ids[i], .unit_count = 1};

        cr_assert_eq(spool_note(world->spool, &note), 0);
    }
    world_close(world);
    for (int life = 0; life < 3; life++) {
        world_open(world);
        cr_assert_eq(world->message_count, 1);
        cr_assert_eq(world->messages[0].id, ids[ARRAY_SIZE(ids) - 1]);
        while (world->spool->segment_count > 2) /* the one that lives, and the next */
            world_tick(world);
        cr_assert_eq(world->report.damaged_records, 0);
        world_close(world);
    }
    world_destroy(world);
}

Test(spool_recover, ids_are_never_given_out_twice)
{
    struct world *world = world_create();
    struct world *crashed;
    uint64_t lost = 0, first;

    world_open(world);
    first = spool_next_id(world->spool);
    cr_assert_neq(first, 0);
    cr_assert_eq(first >> 54, 5);
    for (int i = 0; i < 1000; i++)
        lost = spool_next_id(world->spool); /* of messages that never came to be */
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_gt(spool_next_id(crashed->spool), lost);
    /* Near the limit the next gap is reserved on disk before it is used. */
    crashed->spool->next_counter = crashed->spool->directory.super.id_limit - SPOOL_ID_GAP / 2;
    first = crashed->spool->directory.super.id_limit;
    (void)spool_next_id(crashed->spool);
    while (crashed->spool->directory.super.id_limit == first)
        world_tick(crashed);
    crashed->spool->next_counter = first + 7;
    lost = spool_next_id(crashed->spool);
    world_destroy(world);
    world = world_crash(crashed);
    world_open(world);
    cr_assert_gt(spool_next_id(world->spool), lost);
    world_destroy(crashed);
    world_destroy(world);
}

/* ---- refusals ------------------------------------------------------------------------------- */

Test(spool_recover, one_owner)
{
    struct world *world = world_create();
    struct world *other = world_create();
    char pid[32], dir[sizeof(other->dir)];

    world_open(world);
    (void)strcpy(dir, other->dir);
    (void)strcpy(other->dir, world->dir);
    cr_assert_eq(world_recover(other), -EBUSY);
    (void)snprintf(pid, sizeof(pid), "process %d", (int)getpid());
    cr_assert(strstr(other->error, pid) != NULL, "%s", other->error);
    world_close(world);
    world_open(other);
    cr_assert_eq(world_recover(world), -EBUSY);
    world_close(other);
    (void)strcpy(other->dir, dir);
    world_destroy(other);
    world_destroy(world);
}

static void patch_super(const struct world *world, void (*change)(struct spool_super *super))
{
    uint8_t slots[2 * SPOOL_BLOCK_BYTES];
    char path[600];
    int fd;

    path_of(world, "SUPER", path, sizeof(path));
    fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_eq(read(fd, slots, sizeof(slots)), (ssize_t)sizeof(slots));
    for (int i = 0; i < 2; i++) {
        struct spool_super super;

        if (!spool_super_decode(slots + i * SPOOL_BLOCK_BYTES, &super))
            continue;
        change(&super);
        spool_super_encode(&super, slots + i * SPOOL_BLOCK_BYTES);
    }
    cr_assert_eq(pwrite(fd, slots, sizeof(slots), 0), (ssize_t)sizeof(slots));
    (void)close(fd);
}

static void add_incompat(struct spool_super *super)
{
    super->features.incompat |= 0x40;
}
static void add_ro_compat(struct spool_super *super)
{
    super->features.ro_compat |= 0x40;
}
static void add_major(struct spool_super *super)
{
    super->features.major++;
}
static void add_compat(struct spool_super *super)
{
    super->features.compat |= 0x40;
    super->features.minor++;
}

static void same_tree(const struct world *world, const struct world *copy)
{
    char command[1200];

    (void)snprintf(command, sizeof(command), "diff -r %s %s", world->dir, copy->dir);
    cr_assert_eq(system(command), 0);
}

/* Goal: a spool of a newer program is refused, and not a byte of it changes (QUEUE I29). */
Test(spool_recover, unknown_formats_are_refused_untouched)
{
    static const struct {
        const char *name;
        void (*change)(struct spool_super *super);
        int result;
    } rows[] = {
        {"incompat", add_incompat, -EPROTONOSUPPORT},
        {"ro_compat", add_ro_compat, -EPROTONOSUPPORT},
        {"major", add_major, -EPROTONOSUPPORT},
        {"compat", add_compat, 0},
    };
    struct world *world = world_create();

    world_open(world);
    post(world, 1, "x", 1);
    world_close(world);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct world *changed = world_crash(world);
        struct world *before;

        patch_super(changed, rows[i].change);
        before = world_crash(changed);
        changed->config.owner_pid = 1;
        cr_assert_eq(world_recover(changed), rows[i].result, "%s: %s", rows[i].name,
                     changed->error);
        if (rows[i].result != 0) {
            cr_assert(strstr(changed->error, "format") != NULL);
            same_tree(changed, before);
        }
        world_destroy(before);
        world_destroy(changed);
    }
    world_destroy(world);
}

Test(spool_recover, super_may_lose_a_slot_but_not_both)
{
    struct world *world = world_create();
    struct posting *posting;

    world_open(world);
    posting = post(world, 1, "x", 1);
    world_close(world);
    flip(world->dir, "SUPER", 0, 1);
    world_open(world);
    cr_assert_eq(world->message_count, 1);
    cr_assert_gt(spool_next_id(world->spool), posting->append.id);
    world_close(world);
    flip(world->dir, "SUPER", 100, 1);
    flip(world->dir, "SUPER", 4196, 1);
    cr_assert_eq(world_recover(world), -EBADMSG);
    cr_assert(strstr(world->error, "SUPER") != NULL, "%s", world->error);
    cr_assert_eq(unlink(scene_path(world, "SUPER")), 0);
    cr_assert_eq(world_recover(world), -EBADMSG);
    cr_assert(strstr(world->error, "no SUPER") != NULL, "%s", world->error);
    world_destroy(world);
}

Test(spool_recover, another_number_is_refused)
{
    struct world *world = world_create();

    world_open(world);
    world_close(world);
    world->config.number = 6;
    cr_assert_eq(world_recover(world), -EINVAL);
    cr_assert(strstr(world->error, "number 5") != NULL, "%s", world->error);
    world_destroy(world);
}

Test(spool_recover, what_is_no_directory_is_refused)
{
    struct world *world = world_create();
    char dir[sizeof(world->dir)];

    (void)strcpy(dir, world->dir);
    (void)strcpy(world->dir, "/dev/null");
    cr_assert_eq(world_recover(world), -ENOTDIR);
    cr_assert(strstr(world->error, "/dev/null") != NULL);
    (void)strcpy(stpcpy(world->dir, dir), "/missing/spool");
    cr_assert_eq(world_recover(world), -ENOENT, "the parent must exist");
    (void)strcpy(stpcpy(world->dir, dir), "/spool");
    cr_assert_eq(world_recover(world), 0, "%s", world->error);
    (void)strcpy(world->dir, dir);
    world_destroy(world);
}

Test(spool_recover, half_made_segments_are_cleared_away)
{
    struct world *world = world_create();
    int fd;

    world_open(world);
    world_close(world);
    fd = open(scene_path(world, "spare/d-00000077.new"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    (void)close(fd);
    fd = open(scene_path(world, "spare/d-00000078"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    (void)close(fd); /* a spare of another size */
    world_open(world);
    cr_assert_neq(access(scene_path(world, "spare/d-00000077.new"), F_OK), 0);
    cr_assert_neq(access(scene_path(world, "spare/d-00000078"), F_OK), 0);
    world_destroy(world);
}
