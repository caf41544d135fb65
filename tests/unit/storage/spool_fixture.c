#include "spool_fixture.h"
#include "spool_fixture_owner.h"

#include "core/clock.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define GUARD_MS 60000 /* far more than a loaded machine needs */

static void run(const char *format, ...)
{
    char command[1200];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    cr_assert_eq(system(command), 0, "%s", command);
}

static void guard_fire(struct timer *timer)
{
    CONTAINER_OF(timer, struct world, guard)->late = true;
}

static struct world *world_alloc(const char *parent)
{
    struct world *world = calloc(1, sizeof(*world));

    cr_assert(world);
    (void)snprintf(world->dir, sizeof(world->dir), "%s/spool-test-XXXXXX", parent);
    cr_assert(mkdtemp(world->dir));
    world->config = (struct spool_config){
        .number = 5,
        .segment_bytes = 2 * MIB,
        .spare_segments = 1,
        .hot_bytes_max = 16 * MIB,
        .gather_bytes_max = 4 * MIB,
        .journal_flush_ms = 5,
        .force_file_system = true,
        .owner_pid = getpid(),
    };
    world->shard.now_ns = clock_monotonic_ns();
    list_init(&world->shard.tasks);
    list_init(&world->shard.starved);
    timer_wheel_init(&world->shard.timers, world->shard.now_ns);
    list_init(&world->postings);
    timer_init(&world->guard, guard_fire);
    cr_assert_eq(
        ring_create(&(struct ring_params){.entries = 64, .buffer_count = 8}, &world->shard.ring),
        0);
    return world;
}

struct world *world_create(void)
{
    return world_alloc(".");
}

struct world *world_create_in(const char *parent)
{
    return world_alloc(parent);
}

/* ---- opening -------------------------------------------------------------------------------- */

int world_start(struct world *world)
{
    struct buf error;
    int r;

    buf_init(&error, sizeof(world->error) - 1);
    world->config.path = world->dir;
    world->message_count = 0;
    world->stopped = world->restored = false;
    world->report = (struct spool_report){0};
    world->finished = 0;
    r = spool_open(&world->config, &world->recovery, &error);
    (void)slice_to_cstr(buf_slice(&error), world->error, sizeof(world->error));
    buf_deinit(&error);
    if (r < 0)
        return r;
    cr_assert_eq(spool_start(&world->shard, &world->recovery, &world->spool), 0);
    cr_assert_null(world->recovery);
    spool_set_owner(world->spool, world_owner(world), world);
    return 0;
}

int world_recover(struct world *world)
{
    int r = world_start(world);

    if (r < 0)
        return r;
    spool_restore(world->spool);
    world_until(world, &world->restored);
    return world->restore_result;
}

void world_open(struct world *world)
{
    cr_assert_eq(world_recover(world), 0, "%s", world->error);
}

void world_tick(struct world *world)
{
    shard_tick(&world->shard, true);
}

void world_until(struct world *world, const bool *flag)
{
    world->late = false;
    world->shard.now_ns = clock_monotonic_ns(); /* a world may have slept while another ran */
    shard_timer_arm(&world->shard, &world->guard, GUARD_MS);
    while (!*flag) {
        world_tick(world);
        cr_assert(!world->late, "nothing happened for a minute");
    }
    shard_timer_disarm(&world->shard, &world->guard);
}

static void world_stopped(void *context)
{
    ((struct world *)context)->stopped = true;
}

void world_close(struct world *world)
{
    spool_stop(world->spool, world_stopped, world);
    world_until(world, &world->stopped);
    spool_destroy(&world->spool);
    cr_assert_null(world->spool);
}

struct world *world_crash(const struct world *world)
{
    struct world *copy = world_alloc(".");

    run("cp -a %s/. %s/", world->dir, copy->dir);
    copy->config = world->config;
    return copy;
}

void world_reset(struct world *world, const struct world *from)
{
    if (world->spool != NULL)
        world_close(world);
    run("rm -rf %s/*", world->dir);
    run("cp -a --sparse=always %s/. %s/", from->dir, world->dir);
}

void world_destroy(struct world *world)
{
    if (world->spool != NULL)
        world_close(world);
    spool_recovery_destroy(&world->recovery);
    ring_destroy(&world->shard.ring);
    list_for_each_safe (node, &world->postings)
        posting_destroy(CONTAINER_OF(node, struct posting, node));
    run("rm -rf %s", world->dir);
    free(world);
}

/* ---- postings ------------------------------------------------------------------------------- */

static void posting_done(struct spool_append *append)
{
    struct posting *posting = CONTAINER_OF(append, struct posting, append);

    cr_assert(!posting->done, "done twice");
    posting->done = true;
    if (append->result == 0)
        world_posted(posting->world, append);
}

struct posting *posting_create(struct world *world, uint32_t unit_count, const void *body,
                               size_t size)
{
    struct posting *posting = calloc(1, sizeof(*posting));

    cr_assert(posting);
    posting->world = world;
    list_node_init(&posting->node);
    list_push_back(&world->postings, &posting->node);
    posting->append.id = spool_next_id(world->spool);
    (void)snprintf(posting->envelope, sizeof(posting->envelope), "envelope of %llx",
                   (unsigned long long)posting->append.id);
    (void)snprintf(posting->head, sizeof(posting->head), "Received: by %llx\r\n",
                   (unsigned long long)posting->append.id);
    posting->body = malloc(size + 1);
    cr_assert(posting->body);
    if (size > 0)
        memcpy(posting->body, body, size);
    posting->piece = (struct iovec){posting->body, size};
    posting->append.envelope = slice_cstr(posting->envelope);
    posting->append.head = slice_cstr(posting->head);
    posting->append.unit_count = unit_count;
    posting->append.body = &posting->piece;
    posting->append.body_pieces = 1;
    posting->append.flags = SPOOL_EIGHT_BIT;
    posting->append.arrival_s = 1234;
    posting->append.done = posting_done;
    return posting;
}

int posting_begin(struct world *world, struct posting *posting)
{
    return spool_append(world->spool, &posting->append);
}

struct posting *post(struct world *world, uint32_t unit_count, const void *body, size_t size)
{
    struct posting *posting = posting_create(world, unit_count, body, size);

    cr_assert_eq(posting_begin(world, posting), 0);
    cr_assert(!posting->done, "done runs in a later tick");
    world_until(world, &posting->done);
    cr_assert_eq(posting->append.result, 0);
    return posting;
}

void posting_destroy(struct posting *posting)
{
    if (posting == NULL)
        return;
    list_remove(&posting->node);
    free(posting->body);
    free(posting);
}

/* ---- reading -------------------------------------------------------------------------------- */

struct reading {
    bool came;
    int result;
};

static void reading_came(void *context, int result)
{
    struct reading *reading = context;

    reading->came = true;
    reading->result = result;
}

int read_back(struct world *world, const struct spool_location *location, uint8_t **ret_body,
              size_t *ret_size, bool *ret_hot)
{
    struct spool_reader *reader;
    struct reading reading = {0};
    struct buf body;
    int r = spool_reader_open(world->spool, location, reading_came, &reading, &reader);

    *ret_body = NULL;
    *ret_size = 0;
    if (r < 0)
        return r;
    world_until(world, &reading.came);
    r = reading.result;
    buf_init(&body, GIB);
    while (r == 0) {
        struct slice piece;

        reading.came = false;
        r = spool_reader_next(reader, &piece, reading_came, &reading);
        if (r == -EINPROGRESS) {
            world_until(world, &reading.came);
            r = 0;
        } else if (r == 1) {
            buf_append(&body, piece);
            r = 0;
        } else if (r == 0) {
            break;
        }
    }
    if (r == 0) {
        cr_assert_eq(spool_reader_info(reader)->body_bytes, body.size);
        *ret_hot = spool_reader_info(reader)->hot;
        *ret_body = body.data;
        *ret_size = body.size;
    } else {
        buf_deinit(&body);
    }
    spool_reader_close(&reader);
    return r;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

void fill_body(uint8_t *body, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1664525u + 1013904223u;
        body[i] = (uint8_t)(seed >> 24);
    }
}

void path_of(const struct world *world, const char *name, char *path, size_t size)
{
    (void)snprintf(path, size, "%s/%s", world->dir, name);
}

void flip(const char *dir, const char *name, uint64_t offset, uint8_t mask)
{
    char path[600];
    uint8_t byte;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= mask;
    cr_assert_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
    (void)close(fd);
}
