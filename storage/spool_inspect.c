#include "storage/spool_inspect_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* J first: what becomes finished while D is being read shows as unfinished, which is the harmless side. */
static const char inspect_streams[] = {'J', 'D', 'R'};

void *inspect_array_add(struct inspect_array *array)
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

/* ---- which segments there are --------------------------------------------------------------- */

static int stream_rank(char stream)
{
    return stream == 'J' ? 0 : stream == 'D' ? 1 : 2;
}

static int segment_compare(const void *a, const void *b)
{
    const struct inspect_segment *left = a, *right = b;

    if (left->stream != right->stream)
        return stream_rank(left->stream) < stream_rank(right->stream) ? -1 : 1;
    return left->number < right->number ? -1 : left->number > right->number;
}

static int segment_see(void *context, const char *name)
{
    struct spool_inspect *inspect = context;
    uint32_t number;

    for (size_t i = 0; i < ARRAY_SIZE(inspect_streams); i++) {
        struct inspect_segment *segment;

        if (!spool_segment_name_parse(name, inspect_streams[i], &number))
            continue;
        segment = inspect_array_add(&inspect->segments);
        if (segment == NULL)
            return -ENOMEM;
        *segment = (struct inspect_segment){.stream = inspect_streams[i], .number = number};
    }
    return 0;
}

static int spare_see(void *context, const char *name)
{
    struct spool_inspect *inspect = context;

    (void)name;
    inspect->totals.spares++;
    return 0;
}

/* They are only counted; a copied spool may come without. */
static void spares_count(struct spool_inspect *inspect)
{
    int fd;

    if (file_open_dir(inspect->dir_fd, "spare", &fd) < 0)
        return;
    (void)file_list(fd, spare_see, inspect);
    (void)file_close(fd);
}

const struct inspect_segment *inspect_segment_find(const struct spool_inspect *inspect, char stream,
                                                   uint32_t number)
{
    struct inspect_segment wanted = {.stream = stream, .number = number};

    return inspect->segments.count == 0
               ? NULL
               : bsearch(&wanted, inspect->segments.items, inspect->segments.count, sizeof(wanted),
                         segment_compare);
}

/* ---- what a segment holds ------------------------------------------------------------------- */

void inspect_damage(struct spool_inspect *inspect, char stream, uint32_t segment, uint64_t offset,
                    bool torn, const char *what)
{
    struct spool_inspect_place place = {stream, segment, offset};

    if (torn)
        inspect->totals.torn++;
    else
        inspect->totals.damaged++;
    if (inspect->events->damage != NULL)
        inspect->events->damage(inspect->events->context, &place, torn, what);
}

/* Behind the checkpoint: what stands before it is verified, but its messages are in the image or finished. */
static bool is_tail(const struct spool_inspect *inspect, uint32_t segment, uint64_t offset)
{
    const struct spool_super_checkpoint *from = &inspect->from;
    const struct spool_place *place = inspect->current->stream == 'J'   ? &from->j
                                      : inspect->current->stream == 'R' ? &from->r
                                                                        : &from->d;

    if (from->number == 0 || segment != place->segment)
        return from->number == 0 || segment > place->segment;
    return offset / SPOOL_RECORD_ALIGN >= place->offset_16;
}

struct spool_unit *inspect_state_add(struct spool_inspect *inspect, struct inspect_message *message,
                                     bool held, uint32_t reason_at, uint32_t reason_size)
{
    struct inspect_state *state = inspect_array_add(&inspect->states);
    size_t first = inspect->state_units.count;

    for (uint32_t i = 0; state != NULL && i < message->unit_count; i++) {
        struct spool_unit *unit = inspect_array_add(&inspect->state_units);

        if (unit == NULL)
            return NULL;
        *unit = (struct spool_unit){0};
    }
    if (state == NULL || message->unit_count == 0)
        return NULL;
    *state = (struct inspect_state){first, reason_at, reason_size, held};
    message->state = (uint32_t)inspect->states.count;
    return (struct spool_unit *)inspect->state_units.items + first;
}

static bool is_message(const struct spool_record *record, bool front_ok, bool body_ok)
{
    if (!front_ok || record->unit_count == 0 || record->unit_count > SPOOL_UNITS_MAX)
        return false;
    return record->type == SPOOL_MSG || (record->type == SPOOL_COMMIT && body_ok) ||
           (record->type == SPOOL_RELOC && (body_ok || (record->flags & SPOOL_RELOC_CHUNKED) == 0));
}

/* The states in a RELOC take the place of what J said before it was written. */
static void see_states(struct spool_inspect *inspect, struct inspect_message *message,
                       const struct spool_record *record, const uint8_t *bytes)
{
    struct spool_sections sections;
    struct spool_states states;
    struct spool_unit *units;

    spool_record_sections(record, bytes, &sections);
    if (!spool_states_decode(sections.states, record->unit_count, &states))
        return;
    units = inspect_state_add(inspect, message, states.held, (uint32_t)inspect->texts.size,
                              (uint32_t)states.reason.size);
    buf_append(&inspect->texts, states.reason);
    if (units == NULL || inspect->texts.failed) {
        inspect->error = -ENOMEM;
        return;
    }
    for (uint32_t i = 0; i < record->unit_count; i++)
        units[i] = spool_states_unit(&states, i);
}

static void see_record(void *context, uint32_t segment, uint64_t offset,
                       const struct spool_record *record, const uint8_t *bytes, bool front_ok,
                       bool body_ok)
{
    struct spool_inspect *inspect = context;
    struct spool_inspect_place place = {inspect->current->stream, segment, offset};
    struct inspect_message *message;

    inspect->totals.records++;
    inspect->current_records++;
    if (inspect->events->record != NULL)
        inspect->events->record(inspect->events->context, &place, record, bytes, front_ok, body_ok);
    if (!is_tail(inspect, segment, offset) || !is_message(record, front_ok, body_ok))
        return;
    message = inspect_array_add(&inspect->messages);
    if (message == NULL) {
        inspect->error = -ENOMEM;
        return;
    }
    *message = (struct inspect_message){
        .id = record->id,
        .order = inspect->order++,
        .location = {segment | (place.stream == 'R' ? SPOOL_COLD : 0),
                     (uint32_t)(offset / SPOOL_RECORD_ALIGN), record->record_bytes},
        .unit_count = record->unit_count,
        .suspect = !body_ok,
    };
    if (record->type == SPOOL_RELOC)
        see_states(inspect, message, record, bytes);
}

static void see_note(void *context, uint32_t segment, uint64_t offset,
                     const struct spool_journal_record *record, const uint8_t *bytes)
{
    struct spool_inspect *inspect = context;
    struct spool_inspect_place place = {inspect->current->stream, segment, offset};
    struct inspect_note *note;

    inspect->totals.notes++;
    inspect->current_records++;
    if (inspect->events->note != NULL)
        inspect->events->note(inspect->events->context, &place, record,
                              slice_of(bytes + SPOOL_JOURNAL_HEADER_BYTES, record->text_bytes));
    if (!is_tail(inspect, segment, offset))
        return;
    note = inspect_array_add(&inspect->notes);
    if (note == NULL) {
        inspect->error = -ENOMEM;
        return;
    }
    *note = (struct inspect_note){
        .id = record->id,
        .order = inspect->order++,
        .segment = segment,
        .offset_16 = (uint32_t)(offset / SPOOL_RECORD_ALIGN),
        .unit_first = record->unit_first,
        .unit_count = record->unit_count,
        .next_s = record->next_s,
        .type = record->type,
        .attempts = record->attempts,
    };
}

/* As recovery does: a body that does not verify is kept when it was acknowledged, and is none when its write never
 * completed. */
static void see_resolved(void *context, uint32_t segment, bool damaged)
{
    struct spool_inspect *inspect = context;
    struct inspect_message *messages = inspect->messages.items;
    size_t kept = inspect->suspects_from;

    if (damaged)
        inspect_damage(inspect, inspect->current->stream, segment, inspect->chain.suspect_offset,
                       false, "acknowledged bytes that do not verify");
    else if (inspect->chain.suspect_trace)
        inspect_damage(inspect, inspect->current->stream, segment, inspect->chain.suspect_offset,
                       true, "a write that never completed");
    for (size_t i = inspect->suspects_from; !damaged && i < inspect->messages.count; i++) {
        if (!messages[i].suspect)
            messages[kept++] = messages[i];
    }
    if (!damaged)
        inspect->messages.count = kept;
    inspect->suspects_from = inspect->messages.count;
}

static const struct spool_scan_events *scan_events(struct spool_inspect *inspect,
                                                   struct spool_scan_events *events)
{
    *events = (struct spool_scan_events){inspect, see_record, see_note, see_resolved};
    return events;
}

static ssize_t source_read(void *context, void *to, size_t size, uint64_t offset)
{
    return file_read_some(*(int *)context, to, size, offset);
}

static void segment_report(struct spool_inspect *inspect, const struct spool_scan_result *result)
{
    struct spool_inspect_segment told = {
        .stream = inspect->current->stream,
        .number = inspect->current->number,
        .size_bytes = inspect->current->size_bytes,
        .header = result->header,
        .readable = result->readable,
        .read_error = result->read_error,
        .groups = result->groups,
        .records = inspect->current_records,
    };

    if (!result->readable)
        inspect_damage(inspect, told.stream, told.number, 0, false,
                       "a header that does not verify, or is of another spool");
    else if (result->read_error)
        inspect_damage(inspect, told.stream, told.number, 0, false,
                       "some of it cannot be read from the disk");
    inspect->totals.segments++;
    inspect->totals.bytes += told.size_bytes;
    inspect->totals.groups += told.groups;
    if (inspect->events->segment != NULL)
        inspect->events->segment(inspect->events->context, &told);
}

static int segment_scan(struct spool_inspect *inspect, struct buf *error)
{
    struct inspect_segment *segment = inspect->current;
    struct spool_scan_result result;
    struct spool_scan_events events;
    struct file_info info;
    char name[SPOOL_NAME_SIZE];
    int fd;
    int r;

    spool_segment_name(segment->stream, segment->number, name);
    r = file_open(inspect->dir_fd, name, FILE_READ, 0, &fd);
    if (r == -ENOENT)
        return 0; /* recycled since it was listed: nothing in it was needed */
    if (r == 0) {
        r = file_info(fd, &info);
        if (r == 0) {
            inspect->current_records = 0;
            segment->size_bytes = info.size_bytes;
            spool_scan_segment(inspect->super.uuid, segment->stream, segment->number,
                               info.size_bytes, source_read, &fd, inspect->window, &inspect->chain,
                               scan_events(inspect, &events), &result);
            segment->seed = result.seed;
            r = result.refused ? -EPROTONOSUPPORT : inspect->error;
        }
        (void)file_close(fd); /* only read */
    }
    if (r == -EPROTONOSUPPORT)
        buf_printf(error, "%s/%s: is of a newer format; use the newer program", inspect->path,
                   name);
    else if (r < 0)
        buf_printf(error, "%s/%s: cannot be read: %s", inspect->path, name, strerror(-r));
    else
        segment_report(inspect, &result);
    return r;
}

static int stream_scan(struct spool_inspect *inspect, char stream, struct buf *error)
{
    struct inspect_segment *segments = inspect->segments.items;
    struct spool_scan_result end = {0};
    struct spool_scan_events events;
    int r = 0;

    inspect->chain = (struct spool_scan_chain){0};
    inspect->suspects_from = inspect->messages.count;
    for (size_t i = 0; i < inspect->segments.count && r == 0; i++) {
        if (segments[i].stream != stream)
            continue;
        inspect->current = &segments[i];
        r = segment_scan(inspect, error);
    }
    if (r == 0 && inspect->current != NULL && inspect->current->stream == stream)
        spool_scan_end(&inspect->chain, scan_events(inspect, &events), &end);
    return r;
}

int spool_inspect_scan(struct spool_inspect *inspect, const struct spool_inspect_events *events,
                       struct buf *error)
{
    int r = file_list(inspect->dir_fd, segment_see, inspect);

    if (r < 0) {
        buf_printf(error, "%s: cannot be listed: %s", inspect->path, strerror(-r));
        return r;
    }
    spares_count(inspect);
    spool_items_sort(inspect->segments.items, inspect->segments.count,
                     sizeof(struct inspect_segment), segment_compare);
    inspect->events = events;
    r = inspect_image(inspect);
    if (r < 0)
        buf_printf(error, "%s: out of memory", inspect->path);
    for (size_t i = 0; i < ARRAY_SIZE(inspect_streams) && r == 0; i++)
        r = stream_scan(inspect, inspect_streams[i], error);
    return r;
}

/* ---- opening -------------------------------------------------------------------------------- */

static int super_check(struct spool_inspect *inspect, struct buf *error)
{
    const struct spool_features *features = &inspect->super.features;
    int r = spool_super_read(inspect->dir_fd, &inspect->super);

    if (r == -ENOENT)
        buf_printf(error, "%s: has no SUPER: it is no spool", inspect->path);
    else if (r == -EBADMSG)
        buf_printf(error, "%s: both slots of SUPER are damaged", inspect->path);
    else if (r < 0)
        buf_printf(error, "%s: cannot read SUPER: %s", inspect->path, strerror(-r));
    if (r < 0 || spool_features_check(features) != SPOOL_FORMAT_REFUSED)
        return r;
    buf_printf(error,
               "%s: has format %u.%u with features incompat 0x%x, which this program does not "
               "know; use the newer program",
               inspect->path, features->major, features->minor, features->incompat);
    return -EPROTONOSUPPORT;
}

int spool_inspect_open(const char *path, struct spool_inspect **ret_inspect, struct buf *error)
{
    struct spool_inspect *inspect = calloc(1, sizeof(*inspect));
    int r = 0;

    if (inspect == NULL)
        return -ENOMEM;
    inspect->dir_fd = inspect->open_fd = -1;
    inspect->segments.item_bytes = sizeof(struct inspect_segment);
    inspect->messages.item_bytes = sizeof(struct inspect_message);
    inspect->notes.item_bytes = sizeof(struct inspect_note);
    inspect->states.item_bytes = sizeof(struct inspect_state);
    inspect->state_units.item_bytes = sizeof(struct spool_unit);
    inspect->reasons.item_bytes = sizeof(struct inspect_text);
    buf_init(&inspect->texts, UINT32_MAX);
    inspect->path = strdup(path);
    inspect->window = malloc(SPOOL_SCAN_WINDOW_BYTES);
    if (inspect->path == NULL || inspect->window == NULL)
        r = -ENOMEM;
    if (r == 0) {
        r = file_open_dir_path(path, &inspect->dir_fd);
        if (r < 0)
            buf_printf(error, "%s: cannot be opened as a directory: %s", path, strerror(-r));
    }
    if (r == 0)
        r = super_check(inspect, error);
    if (r < 0)
        spool_inspect_close(&inspect);
    else
        *ret_inspect = inspect;
    return r;
}

void spool_inspect_close(struct spool_inspect **inspect)
{
    struct spool_inspect *i = *inspect;

    if (i == NULL)
        return;
    if (i->open_fd >= 0)
        (void)file_close(i->open_fd);
    if (i->dir_fd >= 0)
        (void)file_close(i->dir_fd);
    free(i->segments.items);
    free(i->messages.items);
    free(i->notes.items);
    free(i->states.items);
    free(i->state_units.items);
    free(i->reasons.items);
    buf_deinit(&i->texts);
    free(i->units);
    free(i->window);
    free(i->path);
    free(i);
    *inspect = NULL;
}

const struct spool_super *spool_inspect_super(const struct spool_inspect *inspect)
{
    return &inspect->super;
}

const struct spool_inspect_totals *spool_inspect_totals(const struct spool_inspect *inspect)
{
    return &inspect->totals;
}
