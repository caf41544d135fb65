#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Segments of 2 MiB, messages of 60 KiB: about 33 of them fill one. */

#define BODY_BYTES (60 * KIB)
#define PER_SEGMENT 36 /* more than fit */

static uint8_t big[BODY_BYTES];

static bool there(const struct world *world, const char *name)
{
    char path[600];

    path_of(world, name, path, sizeof(path));
    return access(path, F_OK) == 0;
}

static void note_written(struct spool_note *note)
{
    (void)note;
}

/* DONE is handed over, not necessarily durable; then the place is given back. */
static void finish(struct world *world, const struct posting *posting)
{
    struct spool_note note = {.kind = SPOOL_NOTE_DONE,
                              .id = posting->append.id,
                              .unit_count = posting->append.unit_count,
                              .outcome = SPOOL_DELIVERED};

    cr_assert_eq(spool_note(world->spool, &note), 0);
    spool_release(world->spool, posting->append.id, &posting->append.location);
}

/* Long enough for whatever was begun; nothing in it waits. */
static void tick_some(struct world *world)
{
    for (int i = 0; i < 200; i++)
        shard_tick(&world->shard, false);
}

static void journal_flush(struct world *world)
{
    struct spool_note note = {.kind = SPOOL_NOTE_RELEASE, .id = 1, .durable = note_written};

    cr_assert_eq(spool_note(world->spool, &note), 0);
    while (!spool_log_idle(&world->spool->j))
        world_tick(world);
}

/* Ticks until so many segments went, one way or the other. */
static void until_gone(struct world *world, uint64_t count)
{
    struct spool_counters counters;

    do {
        shard_tick(&world->shard, false);
        spool_counters(world->spool, &counters);
    } while (counters.segments_reused + counters.segments_removed + counters.segments_set_aside <
             count);
}

static uint64_t gone(struct world *world)
{
    struct spool_counters counters;

    spool_counters(world->spool, &counters);
    return counters.segments_reused + counters.segments_removed + counters.segments_set_aside;
}

static void post_many(struct world *world, struct posting **ret, uint32_t count)
{
    fill_body(big, sizeof(big), 7);
    for (uint32_t i = 0; i < count; i++)
        ret[i] = post(world, 1, big, sizeof(big));
}

Test(spool_live, what_nobody_released_is_kept)
{
    struct posting *postings[2 * PER_SEGMENT];
    struct world *world = world_create();
    struct spool_counters counters;

    world_open(world);
    post_many(world, postings, 2 * PER_SEGMENT);
    for (uint32_t i = 0; i < 2 * PER_SEGMENT; i++) {
        if (i % PER_SEGMENT != 5)
            finish(world, postings[i]);
    }
    journal_flush(world);
    tick_some(world);
    cr_assert_eq(gone(world), 0);
    cr_assert(there(world, "D-00000001"));
    spool_counters(world->spool, &counters);
    cr_assert_eq(counters.live_bytes,
                 2 * spool_record_aligned(postings[5]->append.location.record_bytes));
    world_destroy(world);
}

Test(spool_live, a_dead_segment_is_used_again)
{
    struct posting *postings[2 * PER_SEGMENT];
    struct world *world = world_create();
    struct world *crashed;
    uint32_t round;

    world->config.hot_bytes_max = 64 * MIB; /* all of it is hot: old groups must be forgotten */
    world_open(world);
    for (round = 0; round < 6; round++) {
        post_many(world, postings, PER_SEGMENT);
        for (uint32_t i = 0; i < PER_SEGMENT; i++)
            finish(world, postings[i]);
        journal_flush(world);
    }
    until_gone(world, 5);
    cr_assert_not(there(world, "D-00000001"));
    cr_assert_eq(world->spool->counters.segments_removed, 0);
    /* A live one in a segment of its second life, read back from memory and from disk. */
    post_many(world, postings, 1);
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, 1, "%u", crashed->message_count);
    cr_assert_eq(crashed->report.damaged_records, 0);
    for (int i = 0; i < 2; i++) {
        struct world *of = i == 0 ? world : crashed;
        uint8_t *body;
        size_t size;
        bool hot;

        cr_assert_eq(read_back(of, &postings[0]->append.location, &body, &size, &hot), 0);
        cr_assert_eq(hot, i == 0);
        cr_assert_eq(size, sizeof(big));
        cr_assert_eq(memcmp(body, big, size), 0);
        free(body);
    }
    world_destroy(crashed);
    world_destroy(world);
}

Test(spool_live, not_before_the_journal_is_durable)
{
    struct posting *postings[PER_SEGMENT];
    struct world *world = world_create();
    struct world *crashed;

    world->config.journal_flush_ms = 3600 * 1000;
    world_open(world);
    post_many(world, postings, PER_SEGMENT);
    for (uint32_t i = 0; i < PER_SEGMENT; i++)
        finish(world, postings[i]);
    tick_some(world);
    cr_assert_eq(gone(world), 0, "its DONEs would be lost by a crash");
    cr_assert(there(world, "D-00000001"));
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, PER_SEGMENT, "each is there, to be delivered once more");
    world_destroy(crashed);
    journal_flush(world);
    until_gone(world, 1);
    cr_assert_not(there(world, "D-00000001"));
    world_destroy(world);
}

static void opened(void *context, int result)
{
    cr_assert_eq(result, 0);
    *(bool *)context = true;
}

Test(spool_live, not_while_a_reader_is_open)
{
    struct posting *postings[PER_SEGMENT];
    struct world *world = world_create();

    for (int hot = 0; hot < 2; hot++) {
        struct spool_reader *reader;
        struct slice piece;
        bool came = false;
        uint64_t before;

        world->config.hot_bytes_max = hot ? 16 * MIB : 0;
        world_open(world);
        post_many(world, postings, PER_SEGMENT);
        cr_assert_eq(
            spool_reader_open(world->spool, &postings[3]->append.location, opened, &came, &reader),
            0);
        world_until(world, &came);
        before = gone(world);
        for (uint32_t i = 0; i < PER_SEGMENT; i++)
            finish(world, postings[i]);
        journal_flush(world);
        tick_some(world);
        cr_assert_eq(gone(world), before);
        cr_assert_eq(spool_reader_next(reader, &piece, NULL, NULL), 1);
        cr_assert_eq(piece.size, sizeof(big));
        cr_assert_eq(memcmp(piece.data, big, sizeof(big)), 0);
        spool_reader_close(&reader);
        until_gone(world, before + 1);
        world_close(world);
    }
    world_destroy(world);
}

/* ---- chunks ---------------------------------------------------------------------------------- */

#define CHUNKED_BYTES (5 * MIB)

static struct spool_upload *upload(struct world *world, uint64_t id, const uint8_t *body)
{
    struct spool_upload *ret;

    cr_assert_eq(spool_upload_begin(world->spool, id, &ret), 0);
    for (size_t at = 0; at < CHUNKED_BYTES;) {
        struct iovec piece = {(void *)(body + at), 256 * KIB};
        int r = spool_upload_chunk(ret, &piece, 1);

        cr_assert(r == 0 || r == -EAGAIN);
        if (r == 0)
            at += 256 * KIB;
        else
            world_tick(world);
    }
    return ret;
}

static void settle(struct world *world)
{
    while (!spool_log_idle(&world->spool->d))
        world_tick(world);
}

Test(spool_live, chunks_are_needed_as_long_as_their_message)
{
    struct world *world = world_create();
    uint8_t *body = malloc(CHUNKED_BYTES);
    struct posting *posting, *small[PER_SEGMENT];
    uint8_t *read;
    size_t size;
    bool hot;

    world->config.hot_bytes_max = 0;
    world_open(world);
    fill_body(body, CHUNKED_BYTES, 3);
    posting = posting_create(world, 1, NULL, 0);
    posting->append.upload = upload(world, posting->append.id, body);
    cr_assert_eq(posting_begin(world, posting), 0);
    world_until(world, &posting->done);
    cr_assert_eq(posting->append.result, 0);
    post_many(world, small, PER_SEGMENT);
    for (uint32_t i = 0; i < PER_SEGMENT; i++)
        finish(world, small[i]);
    journal_flush(world);
    tick_some(world);
    cr_assert_eq(gone(world), 0);
    cr_assert_eq(read_back(world, &posting->append.location, &read, &size, &hot), 0);
    cr_assert_eq(size, CHUNKED_BYTES);
    cr_assert_eq(memcmp(read, body, size), 0);
    free(read);

    finish(world, posting);
    journal_flush(world);
    until_gone(world, 3);
    cr_assert_eq(world->spool->live.count, 0);
    free(body);
    world_destroy(world);
}

Test(spool_live, an_upload_holds_its_chunks_until_it_is_given_up)
{
    struct world *world = world_create();
    uint8_t *body = calloc(1, CHUNKED_BYTES);
    struct spool_upload *half;

    world_open(world);
    half = upload(world, spool_next_id(world->spool), body);
    settle(world);
    journal_flush(world);
    tick_some(world);
    cr_assert_eq(gone(world), 0);
    cr_assert_gt(world->spool->segment_count, 2);
    spool_upload_abort(&half);
    until_gone(world, 2);
    free(body);
    world_destroy(world);
}

Test(spool_live, a_released_reader_of_chunks_reads_to_the_end)
{
    struct world *world = world_create();
    uint8_t *body = malloc(CHUNKED_BYTES);
    struct spool_reader *reader;
    struct posting *posting, *small[PER_SEGMENT];
    size_t at = 0;
    bool came = false;

    world->config.hot_bytes_max = 0;
    world_open(world);
    fill_body(body, CHUNKED_BYTES, 4);
    posting = posting_create(world, 1, NULL, 0);
    posting->append.upload = upload(world, posting->append.id, body);
    cr_assert_eq(posting_begin(world, posting), 0);
    world_until(world, &posting->done);
    cr_assert_eq(spool_reader_open(world->spool, &posting->append.location, opened, &came, &reader),
                 0);
    world_until(world, &came);
    finish(world, posting);
    post_many(world, small, PER_SEGMENT);
    journal_flush(world);
    tick_some(world);
    cr_assert_eq(gone(world), 0);
    for (;;) {
        struct slice piece;
        int r;

        came = false;
        r = spool_reader_next(reader, &piece, opened, &came);
        if (r == 0)
            break;
        if (r == -EINPROGRESS) {
            world_until(world, &came);
            continue;
        }
        cr_assert_eq(r, 1);
        cr_assert_eq(memcmp(piece.data, body + at, piece.size), 0);
        at += piece.size;
    }
    cr_assert_eq(at, CHUNKED_BYTES);
    spool_reader_close(&reader);
    until_gone(world, 2);
    free(body);
    world_destroy(world);
}

/* ---- earlier lives ---------------------------------------------------------------------------- */

Test(spool_live, segments_of_earlier_lives_wait_for_the_end_of_the_restore)
{
    struct posting *postings[2 * PER_SEGMENT];
    struct world *world = world_create();

    world_open(world);
    post_many(world, postings, 2 * PER_SEGMENT);
    for (uint32_t i = 0; i < 2 * PER_SEGMENT; i++) {
        struct spool_note note = {
            .kind = SPOOL_NOTE_DONE, .id = postings[i]->append.id, .unit_count = 1};

        cr_assert_eq(spool_note(world->spool, &note), 0); /* the owner of this life keeps it */
    }
    world_close(world);
    cr_assert_eq(world_start(world), 0);
    journal_flush(world);
    tick_some(world);
    cr_assert_eq(gone(world), 0, "nobody has read yet what is in them");
    spool_restore(world->spool);
    world_until(world, &world->restored);
    cr_assert_eq(world->message_count, 0);
    until_gone(world, 2);
    world_destroy(world);
}

Test(spool_live, giving_back_twice_is_our_own_fault, .signal = SIGABRT)
{
    struct world *world = world_create();
    struct posting *posting;

    world_open(world);
    posting = post(world, 1, "x", 1);
    spool_release(world->spool, posting->append.id, &posting->append.location);
    spool_release(world->spool, posting->append.id, &posting->append.location);
}
