#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct told {
    struct spool_note note;
    bool durable;
};

static void told_durable(struct spool_note *note)
{
    struct told *told = CONTAINER_OF(note, struct told, note);

    cr_assert(!told->durable, "told twice");
    told->durable = true;
}

static void note_durable(struct world *world, struct spool_note note)
{
    struct told told = {.note = note};

    told.note.durable = told_durable;
    cr_assert_eq(spool_note(world->spool, &told.note), 0);
    cr_assert(!told.durable, "in a later tick");
    world_until(world, &told.durable);
    cr_assert_eq(told.note.result, 0);
}

static void note_done(struct world *world, uint64_t id, uint32_t first, uint32_t count)
{
    note_durable(world, (struct spool_note){.kind = SPOOL_NOTE_DONE,
                                            .id = id,
                                            .unit_first = first,
                                            .unit_count = count,
                                            .outcome = SPOOL_DELIVERED,
                                            .status = {2, 0, 0}});
}

Test(spool_journal, a_message_ends_with_its_last_unit)
{
    struct world *world = world_create();
    struct world *crashed;
    struct posting *posting;

    world_open(world);
    posting = post(world, 5, "x", 1);
    note_done(world, posting->append.id, 1, 2);
    note_done(world, posting->append.id, 4, 1);
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, 1);
    for (uint32_t u = 0; u < 5; u++)
        cr_assert_eq(crashed->messages[0].units[u].state,
                     u == 0 || u == 3 ? SPOOL_UNIT_WAITING : SPOOL_UNIT_DONE, "unit %u", u);
    note_done(crashed, posting->append.id, 3, 1);
    note_done(crashed, posting->append.id, 0, 1);
    world_close(crashed);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, 0);
    cr_assert_eq(crashed->finished, 1);
    world_destroy(crashed);
    world_destroy(world);
}

Test(spool_journal, ranges_beyond_the_units_and_unknown_ids_mean_nothing)
{
    struct world *world = world_create();
    struct posting *posting;

    world_open(world);
    posting = post(world, 2, "x", 1);
    note_done(world, posting->append.id, 1, UINT32_MAX);
    note_done(world, posting->append.id, UINT32_MAX, UINT32_MAX);
    note_done(world, 12345, 0, 1);
    world_close(world);
    world_open(world);
    cr_assert_eq(world->message_count, 1);
    cr_assert_eq(world->messages[0].units[0].state, SPOOL_UNIT_WAITING);
    cr_assert_eq(world->messages[0].units[1].state, SPOOL_UNIT_DONE);
    world_destroy(world);
}

/* Goal: records are absolute (QUEUE I17): saying it twice finishes nothing else. */
Test(spool_journal, a_unit_ends_once_however_often_it_is_said)
{
    struct world *world = world_create();
    struct posting *posting;

    world_open(world);
    posting = post(world, 2, "x", 1);
    note_done(world, posting->append.id, 1, 1);
    note_done(world, posting->append.id, 1, 1);
    world_close(world);
    world_open(world);
    cr_assert_eq(world->message_count, 1);
    cr_assert_eq(world->messages[0].units[0].state, SPOOL_UNIT_WAITING);
    cr_assert_eq(world->messages[0].units[1].state, SPOOL_UNIT_DONE);
    world_destroy(world);
}

Test(spool_journal, the_last_deferral_counts_and_keeps_its_reason)
{
    struct world *world = world_create();
    struct posting *posting;
    char longest[SPOOL_JOURNAL_TEXT_MAX + 100];

    memset(longest, 'r', sizeof(longest));
    world_open(world);
    posting = post(world, 3, "x", 1);
    note_durable(world, (struct spool_note){.kind = SPOOL_NOTE_DEFER,
                                            .id = posting->append.id,
                                            .unit_count = 3,
                                            .attempts = 1,
                                            .next_s = 100,
                                            .text = SLICE("450 later")});
    note_done(world, posting->append.id, 2, 1);
    note_durable(world, (struct spool_note){.kind = SPOOL_NOTE_DEFER,
                                            .id = posting->append.id,
                                            .unit_first = 1,
                                            .unit_count = 2,
                                            .attempts = 2,
                                            .next_s = 200,
                                            .text = slice_of(longest, sizeof(longest))});
    world_close(world);
    world_open(world);
    cr_assert_eq(world->message_count, 1);
    cr_assert_eq(world->messages[0].units[0].attempts, 1);
    cr_assert_eq(world->messages[0].units[0].next_s, 100);
    cr_assert_eq(world->messages[0].units[1].attempts, 2);
    cr_assert_eq(world->messages[0].units[1].next_s, 200);
    cr_assert_eq(world->messages[0].units[2].state, SPOOL_UNIT_DONE, "final is final");
    cr_assert_eq(strlen(world->messages[0].reason), SPOOL_JOURNAL_TEXT_MAX);
    world_destroy(world);
}

Test(spool_journal, hold_release_abort)
{
    struct world *world = world_create();
    struct posting *held, *released, *aborted;

    world_open(world);
    held = post(world, 1, "x", 1);
    released = post(world, 1, "x", 1);
    aborted = post(world, 1, "x", 1);
    note_durable(world, (struct spool_note){.kind = SPOOL_NOTE_HOLD, .id = held->append.id});
    note_durable(world, (struct spool_note){.kind = SPOOL_NOTE_HOLD, .id = released->append.id});
    note_durable(world, (struct spool_note){.kind = SPOOL_NOTE_RELEASE, .id = released->append.id});
    note_durable(world, (struct spool_note){.kind = SPOOL_NOTE_ABORT, .id = aborted->append.id});
    world_close(world);
    world_open(world);
    cr_assert_eq(world->message_count, 2);
    cr_assert(world_find(world, held->append.id)->held);
    cr_assert(!world_find(world, released->append.id)->held);
    world_destroy(world);
}

/* Goal: notes nobody waits for are written soon all the same, and many share one write. */
Test(spool_journal, lazy_notes_are_flushed_by_time)
{
    struct world *world = world_create();
    struct world *crashed;
    struct posting *posting;
    struct spool_counters counters = {0};

    world_open(world);
    posting = post(world, 100, "x", 1);
    for (uint32_t u = 0; u < 100; u++) {
        struct spool_note note = {
            .kind = SPOOL_NOTE_DONE, .id = posting->append.id, .unit_first = u, .unit_count = 1};

        cr_assert_eq(spool_note(world->spool, &note), 0);
    }
    while (counters.journal_flushes == 0) {
        world_tick(world);
        spool_counters(world->spool, &counters);
    }
    cr_assert_eq(counters.journal_flushes, 1);
    cr_assert_eq(counters.journal_bytes, 4096);
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, 0);
    world_destroy(crashed);
    world_destroy(world);
}

/* Goal: more notes than a J segment holds. */
Test(spool_journal, many_segments)
{
    enum { ROUNDS = 700 };
    struct world *world = world_create();
    struct posting *posting;

    world_open(world);
    posting = post(world, 1, "x", 1);
    for (uint32_t i = 1; i <= ROUNDS; i++)
        note_durable(world, (struct spool_note){.kind = SPOOL_NOTE_DEFER,
                                                .id = posting->append.id,
                                                .unit_count = 1,
                                                .attempts = (uint8_t)(i % 256),
                                                .next_s = i,
                                                .text = SLICE("again")});
    cr_assert_gt(world->spool->j.maker.next_number, 2);
    world_close(world);
    world_open(world);
    cr_assert_eq(world->messages[0].units[0].next_s, ROUNDS);
    cr_assert_eq(world->report.damaged_records, 0);
    world_destroy(world);
}

static void break_fd(int fd)
{
    int bad = open("/dev/null", O_RDONLY | O_CLOEXEC);

    cr_assert_eq(dup2(bad, fd), fd);
    (void)close(bad);
}

/* Goal: while J cannot be written nobody is told anything, nothing new is accepted, and nothing
 * is forgotten. */
Test(spool_journal, a_broken_journal_stops_accepting_and_comes_back)
{
    struct world *world = world_create();
    struct posting *posting, *refused;
    struct told told = {
        .note = {.kind = SPOOL_NOTE_DONE, .unit_count = 1, .durable = told_durable}};

    world_open(world);
    posting = post(world, 1, "x", 1);
    note_durable(world, (struct spool_note){.kind = SPOOL_NOTE_HOLD, .id = posting->append.id});
    while (world->spool->j.next == NULL)
        world_tick(world);
    break_fd(world->spool->j.current->fd);
    break_fd(world->spool->j.next->fd);
    told.note.id = posting->append.id;
    cr_assert_eq(spool_note(world->spool, &told.note), 0);
    while (spool_journal_ok(world->spool))
        world_tick(world);
    cr_assert(!told.durable);
    refused = posting_create(world, 1, "y", 1);
    cr_assert_eq(posting_begin(world, refused), -EIO);
    world_until(world, &told.durable);
    cr_assert_eq(told.note.result, 0);
    cr_assert(spool_journal_ok(world->spool));
    cr_assert_eq(posting_begin(world, refused), 0);
    world_until(world, &refused->done);
    world_close(world);
    world_open(world);
    cr_assert_eq(world->message_count, 1);
    cr_assert_eq(world->messages[0].id, refused->append.id);
    world_destroy(world);
}

/* Goal: stopping writes what gathered, and tells who waits that it is lost when it cannot. */
Test(spool_journal, stopping_flushes_or_tells)
{
    struct world *world = world_create();
    struct posting *posting;
    struct told told = {.note = {.kind = SPOOL_NOTE_HOLD, .durable = told_durable}};
    struct spool_note lazy = {.kind = SPOOL_NOTE_DONE, .unit_count = 1};

    world_open(world);
    posting = post(world, 2, "x", 1);
    lazy.id = told.note.id = posting->append.id;
    cr_assert_eq(spool_note(world->spool, &lazy), 0);
    world_close(world);
    world_open(world);
    cr_assert_eq(world->messages[0].units[0].state, SPOOL_UNIT_DONE);
    note_done(world, posting->append.id, 0, 1);
    while (world->spool->j.next == NULL)
        world_tick(world);
    break_fd(world->spool->j.current->fd);
    break_fd(world->spool->j.next->fd);
    cr_assert_eq(spool_note(world->spool, &told.note), 0);
    world_close(world);
    cr_assert(told.durable);
    cr_assert_eq(told.note.result, -EIO);
    world_destroy(world);
}
