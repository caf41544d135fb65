#include "storage/spool_recover_private.h"

#include "core/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void *spool_array_add(struct spool_array *array)
{
    if (array->count == array->capacity) {
        size_t capacity = MAX(array->capacity * 2, (size_t)256);
        void *grown = realloc(array->items, capacity * array->item_bytes);

        if (grown == NULL)
            return NULL;
        array->items = grown;
        array->capacity = capacity;
    }
    return (uint8_t *)array->items + array->count++ * array->item_bytes;
}

/* qsort() must not be given the NULL of an empty array. */
void spool_items_sort(void *items, size_t count, size_t item_bytes, spool_compare_fn *compare)
{
    if (count > 1)
        qsort(items, count, item_bytes, compare);
}

/* ---- the scan ------------------------------------------------------------------------------- */

static void note_counter(struct spool_recover_run *recover, uint64_t id)
{
    uint64_t counter = id & SPOOL_ID_COUNTER_MASK;

    if (id >> SPOOL_ID_COUNTER_BITS != recover->recovery->config.number)
        return; /* of another spool: relocated to this one */
    recover->any_id = true;
    recover->highest_counter = MAX(recover->highest_counter, counter);
}

static void found_record(void *context, uint32_t segment, uint64_t offset,
                         const struct spool_record *record, const uint8_t *bytes, bool front_ok,
                         bool body_ok)
{
    struct spool_recover_run *recover = context;
    uint32_t offset_16 = (uint32_t)(offset / SPOOL_RECORD_ALIGN);

    (void)bytes;
    note_counter(recover, record->id);
    if (record->type == SPOOL_CHUNK && body_ok) {
        struct spool_found_chunk *chunk = spool_array_add(&recover->chunks);

        if (chunk == NULL)
            recover->error = -ENOMEM;
        else
            *chunk = (struct spool_found_chunk){segment, offset_16, record->body_bytes,
                                                record->body_crc};
        return;
    }
    if ((record->type != SPOOL_MSG && record->type != SPOOL_COMMIT) || !front_ok ||
        record->unit_count > SPOOL_UNITS_MAX || (record->type == SPOOL_COMMIT && !body_ok))
        return;
    struct spool_found *found = spool_array_add(&recover->found);
    if (found == NULL) {
        recover->error = -ENOMEM;
        return;
    }
    *found = (struct spool_found){record->id,         segment,      offset_16,
                                  record->unit_count, record->type, !body_ok};
}

/* A body that does not verify: of a torn write there was no 250, so there is no such message. */
static void found_resolved(void *context, uint32_t segment, bool damage)
{
    struct spool_recover_run *recover = context;
    struct spool_found *found = recover->found.items;
    size_t kept = recover->suspects_from;

    for (uint32_t i = 0; damage && i < recover->stream->count; i++) {
        if (recover->stream->segments[i].number == segment)
            recover->stream->segments[i].damaged = true;
    }
    if (!damage) {
        for (size_t i = recover->suspects_from; i < recover->found.count; i++) {
            if (!found[i].suspect)
                found[kept++] = found[i];
        }
        recover->found.count = kept;
    }
    recover->suspects_from = recover->found.count;
}

static void found_note(void *context, uint32_t segment, uint64_t offset,
                       const struct spool_journal_record *record, const uint8_t *bytes)
{
    struct spool_recover_run *recover = context;
    struct spool_found_note *note;

    (void)bytes;
    note_counter(recover, record->id);
    note = spool_array_add(&recover->notes);
    if (note == NULL) {
        recover->error = -ENOMEM;
        return;
    }
    *note = (struct spool_found_note){
        .id = record->id,
        .segment = segment,
        .offset_16 = (uint32_t)(offset / SPOOL_RECORD_ALIGN),
        .unit_first = record->unit_first,
        .unit_count = record->unit_count,
        .next_s = record->next_s,
        .type = record->type,
        .attempts = record->attempts,
    };
}

static ssize_t file_source_read(void *context, void *to, size_t size, uint64_t offset)
{
    return file_read_some(*(int *)context, to, size, offset);
}

static int scan_one(struct spool_recover_run *recover, char stream,
                    struct spool_recovered_segment *segment, struct buf *error)
{
    static const char what[] = "segment";
    struct spool_scan_events events = {recover, found_record, found_note, found_resolved};
    struct spool_recovery *recovery = recover->recovery;
    struct spool_scan_result result;
    struct file_info info;
    size_t notes = recover->notes.count;
    char name[SPOOL_NAME_SIZE];
    int fd, r;

    spool_segment_name(stream, segment->number, name);
    r = file_open(recovery->directory.dir_fd, name, FILE_READ, 0, &fd);
    if (r < 0) {
        buf_printf(error, "%s/%s: cannot be opened: %s", recovery->config.path, name, strerror(-r));
        return r;
    }
    r = file_info(fd, &info);
    if (r == 0) {
        segment->size_bytes = info.size_bytes;
        spool_scan_segment(recovery->directory.super.uuid, stream, segment->number, info.size_bytes,
                           file_source_read, &fd, recover->window, &recover->stream->chain, &events,
                           &result);
        segment->seed = result.seed;
        segment->damaged = segment->damaged || !result.readable || result.read_error;
        segment->empty = result.groups == 0 && recover->notes.count == notes;
        recover->report->bytes_scanned += info.size_bytes;
        recover->report->groups += result.groups;
        recover->report->torn_groups += result.torn_groups;
        recover->report->damaged_records += result.damaged_records + (result.readable ? 0 : 1);
        r = recover->error;
    }
    (void)file_close(fd); /* only read */
    if (r == 0 && result.refused) {
        buf_printf(error, "%s/%s: %s of a newer format; use the newer program",
                   recovery->config.path, name, what);
        return -EPROTONOSUPPORT;
    }
    if (r < 0)
        buf_printf(error, "%s/%s: cannot be read: %s", recovery->config.path, name, strerror(-r));
    return r;
}

static int scan_stream(struct spool_recover_run *recover, char stream,
                       struct spool_recovery_stream *of, struct buf *error)
{
    struct spool_scan_events events = {recover, found_record, found_note, found_resolved};
    struct spool_scan_result end = {0};
    int r = 0;

    recover->stream = of;
    recover->suspects_from = recover->found.count;
    for (uint32_t i = 0; i < of->count && r == 0; i++)
        r = scan_one(recover, stream, &of->segments[i], error);
    spool_scan_end(&of->chain, &events, &end);
    recover->report->torn_groups += end.torn_groups;
    return r;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int recover_run(struct spool_recover_run *recover, struct buf *error)
{
    struct spool_recovery *recovery = recover->recovery;
    int r = scan_stream(recover, 'J', &recovery->j, error);

    if (r == 0)
        r = scan_stream(recover, 'D', &recovery->d, error);
    if (r < 0)
        return r;
    r = spool_replay(recover);
    return r == 0 ? spool_recover_finish(recover) : r;
}

static void recover_deinit(struct spool_recover_run *recover)
{
    if (recover->d.fd >= 0)
        (void)file_close(recover->d.fd);
    if (recover->j.fd >= 0)
        (void)file_close(recover->j.fd);
    free(recover->found.items);
    free(recover->chunks.items);
    free(recover->notes.items);
    free(recover->units);
    free(recover->window);
}

int spool_recover(const struct spool_config *config, spool_recover_fn *each, void *context,
                  struct spool_recovery **ret_recovery, struct spool_report *ret_report,
                  struct buf *error)
{
    struct spool_recover_run recover = {
        .found.item_bytes = sizeof(struct spool_found),
        .chunks.item_bytes = sizeof(struct spool_found_chunk),
        .notes.item_bytes = sizeof(struct spool_found_note),
        .each = each,
        .context = context,
        .report = ret_report,
    };
    uint64_t began_ns = clock_monotonic_ns();
    int r = spool_recovery_create(config, error, &recover.recovery);

    *ret_report = (struct spool_report){0};
    if (r < 0)
        return r;
    recover.d = (struct spool_source){recover.recovery->directory.dir_fd, 'D', 0, -1};
    recover.j = (struct spool_source){recover.recovery->directory.dir_fd, 'J', 0, -1};
    recover.window = malloc(SPOOL_SCAN_WINDOW_BYTES);
    r = recover.window == NULL ? -ENOMEM : recover_run(&recover, error);
    recover_deinit(&recover);
    if (r < 0) {
        if (error->size == 0)
            buf_printf(error, "%s: cannot be recovered: %s", config->path, strerror(-r));
        spool_recovery_destroy(&recover.recovery);
        return r;
    }
    ret_report->microseconds = (clock_monotonic_ns() - began_ns) / US_NS;
    *ret_recovery = recover.recovery;
    return 0;
}
