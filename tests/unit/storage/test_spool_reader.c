#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct came {
    bool yes;
    int result;
};

static void it_came(void *context, int result)
{
    struct came *came = context;

    came->yes = true;
    came->result = result;
}

static struct spool_reader *open_reader(struct world *world, const struct spool_location *location)
{
    struct spool_reader *reader;
    struct came came = {0};

    cr_assert_eq(spool_reader_open(world->spool, location, it_came, &came, &reader), 0);
    world_until(world, &came.yes);
    cr_assert_eq(came.result, 0);
    return reader;
}

/* Goal: what is hot is lent as it stands, and stays while it is lent, whatever the budget says. */
Test(spool_reader, lent_memory_outlives_its_budget)
{
    struct world *world = world_create();
    struct posting *first;
    struct spool_reader *reader;
    struct spool_counters counters;
    struct slice piece;
    static uint8_t body[50000];

    fill_body(body, sizeof(body), 1);
    world->config.hot_bytes_max = 200000;
    world_open(world);
    first = post(world, 1, body, sizeof(body));
    reader = open_reader(world, &first->append.location);
    cr_assert(spool_reader_info(reader)->hot);
    cr_assert_eq(spool_reader_next(reader, &piece, it_came, NULL), 1);
    for (int i = 0; i < 100; i++)
        (void)post(world, 1, body + 1, sizeof(body) - 1);
    cr_assert_eq(piece.size, sizeof(body));
    cr_assert_eq(memcmp(piece.data, body, sizeof(body)), 0);
    spool_counters(world->spool, &counters);
    cr_assert_leq(counters.hot_bytes, 200000 + 2 * 57344);
    cr_assert_eq(spool_reader_next(reader, &piece, it_came, NULL), 0);
    cr_assert_eq(piece.size, 0);
    spool_reader_rewind(reader);
    cr_assert_eq(spool_reader_next(reader, &piece, it_came, NULL), 1);
    cr_assert_eq(memcmp(piece.data, body, sizeof(body)), 0);
    spool_reader_close(&reader);
    cr_assert_null(reader);
    spool_reader_close(&reader);
    reader = open_reader(world, &first->append.location);
    cr_assert(spool_reader_info(reader)->hot, "just given back: the newest of the old");
    spool_reader_close(&reader);
    world_destroy(world);
}

Test(spool_reader, envelope_and_head)
{
    struct world *world = world_create();
    struct posting *posting;

    world_open(world);
    posting = post(world, 1, NULL, 0);
    for (int life = 0; life < 2; life++) {
        struct spool_reader *reader = open_reader(world, &posting->append.location);
        const struct spool_reader_info *info = spool_reader_info(reader);
        struct slice piece;

        cr_assert_eq(info->id, posting->append.id);
        cr_assert(slice_equal(info->envelope, slice_cstr(posting->envelope)));
        cr_assert(slice_equal(info->head, slice_cstr(posting->head)));
        cr_assert_eq(info->flags, SPOOL_EIGHT_BIT);
        cr_assert_eq(info->arrival_s, 1234);
        cr_assert_eq(info->body_bytes, 0);
        cr_assert_eq(info->hot, life == 0);
        cr_assert_eq(spool_reader_next(reader, &piece, it_came, NULL), 0);
        spool_reader_close(&reader);
        world_close(world);
        world_open(world);
    }
    world_destroy(world);
}

Test(spool_reader, ranges_that_are_left_out)
{
    static const struct {
        const char *name;
        struct spool_skip skips[3];
        uint32_t count;
        const char *want;
    } rows[] = {
        {"none", {{0}}, 0, "0123456789"},
        {"the beginning", {{0, 3}}, 1, "3456789"},
        {"the end", {{7, 3}}, 1, "0123456"},
        {"the middle", {{2, 3}}, 1, "0156789"},
        {"all", {{0, 10}}, 1, ""},
        {"touching", {{2, 3}, {5, 1}}, 2, "016789"},
        {"three", {{0, 1}, {4, 1}, {9, 1}}, 3, "1235678"},
        {"empty ones", {{0, 0}, {4, 0}, {10, 0}}, 3, "0123456789"},
    };
    struct world *world = world_create();
    struct posting *postings[ARRAY_SIZE(rows)];

    world_open(world);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        postings[i] = posting_create(world, 1, "0123456789", 10);
        postings[i]->append.skips = rows[i].skips;
        postings[i]->append.skip_count = rows[i].count;
        cr_assert_eq(posting_begin(world, postings[i]), 0);
        world_until(world, &postings[i]->done);
    }
    for (int life = 0; life < 2; life++) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
            uint8_t *body;
            size_t size;
            bool hot;

            cr_assert_eq(read_back(world, &postings[i]->append.location, &body, &size, &hot), 0);
            cr_assert_eq(hot, life == 0);
            cr_assert_eq(size, strlen(rows[i].want), "%s", rows[i].name);
            cr_assert_eq(postings[i]->append.body_bytes, size);
            if (size > 0)
                cr_assert_eq(memcmp(body, rows[i].want, size), 0, "%s", rows[i].name);
            free(body);
        }
        world_close(world);
        world_open(world);
    }
    world_destroy(world);
}

Test(spool_reader, places_that_hold_no_message)
{
    static const struct {
        const char *name;
        struct spool_location location;
    } rows[] = {
        {"no such segment", {99, 256, 100}}, {"behind the end", {1, 0x7fffffff, 100}},
        {"no bytes", {1, 256, 0}},           {"more than a record can have", {1, 256, 2u << 20}},
        {"a group header", {1, 256, 100}},   {"zeros", {1, 60000, 100}},
    };
    struct world *world = world_create();

    world->config.hot_bytes_max = 0;
    world_open(world);
    (void)post(world, 1, "x", 1);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct spool_reader *reader = NULL;
        struct came came = {0};
        int r = spool_reader_open(world->spool, &rows[i].location, it_came, &came, &reader);

        if (r == 0) {
            world_until(world, &came.yes);
            r = came.result;
        }
        cr_assert(r == -EIO || r == -EBADMSG, "%s: %d", rows[i].name, r);
        spool_reader_close(&reader);
    }
    world_destroy(world);
}

/* Goal: one bad read is not damage: the record is read once more, and only then given up. */
Test(spool_reader, a_read_is_repeated_once)
{
    struct world *world = world_create();
    struct posting *posting;
    struct spool_reader *reader;
    struct spool_segment *segment;
    struct came came = {0};
    struct spool_counters counters;
    int wrong;

    world->config.hot_bytes_max = 0;
    world_open(world);
    posting = post(world, 1, "hello", 5);
    segment = spool_segment_find(world->spool, posting->append.location.segment);
    wrong = open("/dev/null", O_WRONLY | O_CLOEXEC);
    cr_assert_eq(dup2(wrong, segment->fd), segment->fd);
    (void)close(wrong);
    cr_assert_eq(
        spool_reader_open(world->spool, &posting->append.location, it_came, &came, &reader), 0);
    world_until(world, &came.yes);
    cr_assert_eq(came.result, -EIO);
    spool_reader_close(&reader);
    spool_counters(world->spool, &counters);
    cr_assert_eq(counters.reads_repeated, 1);
    cr_assert_eq(counters.damaged, 1);
    world_destroy(world);
}

/* Goal: a reader may be closed at any moment, also while the kernel writes into its memory. */
Test(spool_reader, closed_at_any_moment)
{
    struct world *world = world_create();
    static uint8_t body[60000];
    struct posting *posting;

    world_open(world);
    posting = post(world, 1, body, sizeof(body));
    for (int ticks = 0; ticks < 8; ticks++) {
        struct spool_reader *reader;
        struct came came = {0};

        world_close(world);
        world_open(world);
        cr_assert_eq(
            spool_reader_open(world->spool, &posting->append.location, it_came, &came, &reader), 0);
        for (int i = 0; i < ticks; i++)
            shard_tick(&world->shard, false);
        came.yes = false;
        spool_reader_close(&reader);
        for (int i = 0; i < 20; i++)
            shard_tick(&world->shard, false);
        cr_assert(!came.yes, "nobody is called who has gone");
    }
    world_destroy(world);
}
