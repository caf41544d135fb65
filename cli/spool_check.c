/* kilatctl spool check: is every byte of a spool what was written? Read-only. */
#include "cli/spool_private.h"

#include <inttypes.h>
#include <stdlib.h>

#define PLACES_MAX 1000 /* told one by one; all are counted */

struct place {
    struct spool_inspect_place at;
    bool torn;
    const char *what;
};

struct check {
    struct place *places;
    size_t count;
    uint64_t data_segments, journal_segments, other_segments;
};

static void check_damage(void *context, const struct spool_inspect_place *place, bool torn,
                         const char *what)
{
    struct check *check = context;

    if (check->count < PLACES_MAX)
        check->places[check->count++] = (struct place){*place, torn, what};
}

static void check_segment(void *context, const struct spool_inspect_segment *segment)
{
    struct check *check = context;

    check->data_segments += segment->stream == 'D';
    check->journal_segments += segment->stream == 'J';
    check->other_segments += segment->stream != 'D' && segment->stream != 'J';
}

/* A body is read whole, which the scan has done already but for chunks that a COMMIT names. */
static int check_message(void *context, const struct spool_recovered_message *message)
{
    (void)context;
    (void)message;
    return 0;
}

static void print_places(const struct check *check)
{
    for (size_t i = 0; i < check->count; i++) {
        char name[SPOOL_NAME_TEXT_SIZE];

        ctl_spool_segment_name(&check->places[i].at, name);
        printf("  %s: %s at offset %" PRIu64 ": %s\n", check->places[i].torn ? "cut" : "DAMAGED",
               name, check->places[i].at.offset, check->places[i].what);
    }
}

static void print_people(const struct ctl_spool_run *run, const struct check *check,
                         const struct spool_inspect *inspect)
{
    const struct spool_inspect_totals *totals = spool_inspect_totals(inspect);
    const struct spool_super *super = spool_inspect_super(inspect);

    printf("%s: spool %u, format %u.%u, epoch %" PRIu64 "\n", run->path, super->number,
           super->features.major, super->features.minor, super->epoch);
    printf("  segments    %" PRIu64 " of data, %" PRIu64 " of the journal, %" PRIu64
           " of the cold lane, %" PRIu64 " spare; %" PRIu64 " MiB read\n",
           check->data_segments, check->journal_segments, check->other_segments, totals->spares,
           (uint64_t)(totals->bytes / MIB));
    printf("  written     %" PRIu64 " groups, %" PRIu64 " records, %" PRIu64 " notes\n",
           totals->groups, totals->records, totals->notes);
    printf("  unfinished  %" PRIu64 " messages for %" PRIu64 " recipients, %" PRIu64
           " of them held\n",
           totals->messages, totals->open_units, totals->held);
    printf("  finished    %" PRIu64 " messages, still on disk behind the last checkpoint\n",
           totals->finished);
    print_places(check);
    if (totals->damaged + totals->unreadable == 0)
        printf("  every byte verifies%s\n",
               totals->torn > 0 ? ", but for writes that were cut before they were acknowledged"
                                : "");
    else
        printf("  DAMAGED in %" PRIu64 " places; %" PRIu64
               " unfinished messages cannot be presented\n",
               totals->damaged, totals->unreadable);
}

static void print_programs(struct ctl_spool_run *run, const struct check *check,
                           const struct spool_inspect *inspect)
{
    const struct spool_inspect_totals *totals = spool_inspect_totals(inspect);
    const struct spool_super *super = spool_inspect_super(inspect);
    struct json_out *out = &run->json;

    json_out_object(out);
    json_out_cstr(out, "spool", run->path);
    json_out_u64(out, "number", super->number);
    json_out_u64(out, "major", super->features.major);
    json_out_u64(out, "minor", super->features.minor);
    json_out_u64(out, "epoch", super->epoch);
    json_out_u64(out, "segments", totals->segments);
    json_out_u64(out, "spares", totals->spares);
    json_out_u64(out, "bytes", totals->bytes);
    json_out_u64(out, "groups", totals->groups);
    json_out_u64(out, "records", totals->records);
    json_out_u64(out, "notes", totals->notes);
    json_out_u64(out, "messages", totals->messages);
    json_out_u64(out, "recipients", totals->open_units);
    json_out_u64(out, "held", totals->held);
    json_out_u64(out, "finished", totals->finished);
    json_out_u64(out, "unreadable", totals->unreadable);
    json_out_u64(out, "damaged", totals->damaged);
    json_out_u64(out, "torn", totals->torn);
    json_out_list(out, "places");
    for (size_t i = 0; i < check->count; i++) {
        char name[SPOOL_NAME_TEXT_SIZE];

        ctl_spool_segment_name(&check->places[i].at, name);
        json_out_object(out);
        json_out_cstr(out, "segment", name);
        json_out_u64(out, "offset", check->places[i].at.offset);
        json_out_bool(out, "torn", check->places[i].torn);
        json_out_cstr(out, "what", check->places[i].what);
        json_out_object_end(out);
    }
    json_out_list_end(out);
    json_out_object_end(out);
}

int ctl_spool_check(struct ctl_spool_run *run)
{
    struct check check = {.places = calloc(PLACES_MAX, sizeof(struct place))};
    struct spool_inspect_events events = {
        .context = &check, .damage = check_damage, .segment = check_segment};
    struct spool_inspect *inspect = check.places == NULL ? NULL : ctl_spool_open(run);
    const struct spool_inspect_totals *totals;
    int status = 1;

    if (inspect != NULL && ctl_spool_scan(run, inspect, &events) &&
        spool_inspect_messages(inspect, check_message, NULL) == 0) {
        totals = spool_inspect_totals(inspect);
        status = totals->damaged + totals->unreadable > 0;
        if (run->wants_json)
            print_programs(run, &check, inspect);
        else
            print_people(run, &check, inspect);
    }
    spool_inspect_close(&inspect);
    free(check.places);
    return status;
}
