#include "spool_fixture_owner.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* The smallest queue that can own a spool: a table of unfinished messages in order of id, each with its units
 * one by one. It applies what it is told and fills checkpoints from it. */

/* ---- the table ------------------------------------------------------------------------------ */

static struct world_message *find(struct world *world, uint64_t id)
{
    for (uint32_t i = 0; i < world->message_count; i++) {
        if (world->messages[i].id == id)
            return &world->messages[i];
    }
    return NULL;
}

const struct world_message *world_find(const struct world *world, uint64_t id)
{
    for (uint32_t i = 0; i < world->message_count; i++) {
        if (world->messages[i].id == id)
            return &world->messages[i];
    }
    return NULL;
}

static struct world_message *add(struct world *world, uint64_t id)
{
    uint32_t at = world->message_count;

    cr_assert_lt(world->message_count, WORLD_MESSAGES_MAX);
    while (at > 0 && world->messages[at - 1].id > id)
        at--;
    memmove(&world->messages[at + 1], &world->messages[at],
            (world->message_count - at) * sizeof(world->messages[0]));
    world->message_count++;
    world->image_next += at < world->image_next;
    world->messages[at] = (struct world_message){.id = id};
    return &world->messages[at];
}

static void finish(struct world *world, struct world_message *message)
{
    size_t at = (size_t)(message - world->messages);

    spool_release(world->spool, message->id, &message->location);
    world->finished++;
    world->message_count--;
    world->image_next -= at < world->image_next;
    memmove(message, message + 1, (world->message_count - at) * sizeof(*message));
}

/* Another place of the same message: the newer one. */
static struct world_message *place(struct world *world, uint64_t id,
                                   const struct spool_location *location, bool *ret_known)
{
    struct world_message *message = find(world, id);

    *ret_known = message != NULL;
    if (message == NULL)
        message = add(world, id);
    else
        spool_release(world->spool, id, &message->location);
    message->location = *location;
    return message;
}

static uint32_t units_kept(const struct world_message *message)
{
    return MIN(message->unit_count, (uint32_t)ARRAY_SIZE(message->units));
}

static void apply(struct world *world, enum spool_note_kind kind, uint64_t id, uint32_t unit_first,
                  uint32_t unit_count, uint8_t attempts, bool in_doubt, uint32_t next_s,
                  struct slice text)
{
    struct world_message *message = find(world, id);
    uint32_t done = 0;

    if (message == NULL)
        return;
    if (kind == SPOOL_NOTE_HOLD || kind == SPOOL_NOTE_RELEASE)
        message->held = kind == SPOOL_NOTE_HOLD;
    for (uint32_t u = unit_first;
         u < units_kept(message) && u - unit_first < unit_count && kind <= SPOOL_NOTE_DEFER; u++) {
        struct spool_unit *unit = &message->units[u];

        if (unit->state == SPOOL_UNIT_DONE)
            continue;
        if (kind == SPOOL_NOTE_DONE)
            unit->state = SPOOL_UNIT_DONE;
        else
            *unit = (struct spool_unit){SPOOL_UNIT_WAITING, attempts, in_doubt, next_s};
    }
    if (kind == SPOOL_NOTE_DEFER)
        (void)slice_to_cstr(text, message->reason, sizeof(message->reason));
    for (uint32_t u = 0; u < units_kept(message); u++)
        done += message->units[u].state == SPOOL_UNIT_DONE;
    if (kind == SPOOL_NOTE_ABORT || done == message->unit_count)
        finish(world, message);
}

void world_posted(struct world *world, const struct spool_append *append)
{
    struct world_message *message = add(world, append->id);

    message->location = append->location;
    (void)slice_to_cstr(append->envelope, message->envelope, sizeof(message->envelope));
    message->head_bytes = (uint32_t)append->head.size;
    message->body_bytes = append->body_bytes;
    message->arrival_s = append->arrival_s;
    message->flags = append->flags;
    message->unit_count = append->unit_count;
    message->chunked = append->body_pieces == 0;
}

int world_tell(struct world *world, const struct spool_note *note)
{
    struct spool_note copy = *note;
    int r = spool_note(world->spool, &copy);

    if (r == 0)
        apply(world, note->kind, note->id, note->unit_first, note->unit_count, note->attempts,
              note->in_doubt, note->next_s, note->text);
    return r;
}

void world_done(struct world *world, uint64_t id)
{
    const struct world_message *message = world_find(world, id);
    struct spool_note note = {.kind = SPOOL_NOTE_DONE, .id = id};

    cr_assert_not_null(message);
    note.unit_count = message->unit_count;
    cr_assert_eq(world_tell(world, &note), 0);
}

struct flush {
    struct spool_note note;
    bool done;
};

static void flushed(struct spool_note *note)
{
    CONTAINER_OF(note, struct flush, note)->done = true;
}

void world_flush(struct world *world)
{
    struct flush flush = {
        .note = {.kind = SPOOL_NOTE_RELEASE, .id = 1, .durable = flushed}, /* nobody's id */
    };

    cr_assert_eq(spool_note(world->spool, &flush.note), 0);
    world_until(world, &flush.done);
    cr_assert_eq(flush.note.result, 0);
}

/* ---- recovery ------------------------------------------------------------------------------- */

static int on_text(void *context, enum spool_image_text kind, uint32_t number,
                   const uint8_t status[3], struct slice text)
{
    struct world *world = context;

    cr_assert(status[0] == 4 && status[1] == 2 && status[2] == 1);
    cr_assert_lt(number, 64);
    (void)slice_to_cstr(text, world->texts[kind][number], sizeof(world->texts[kind][number]));
    return 0;
}

static int on_image(void *context, const struct spool_image_entry *entry)
{
    struct world *world = context;
    bool known;
    struct world_message *message = place(world, entry->id, &entry->location, &known);

    cr_assert(!known, "an image names each message once");
    cr_assert_eq(entry->item_count, MIN(entry->unit_count, 8));
    message->unit_count = entry->unit_count;
    message->arrival_s = entry->arrival_s;
    message->head_bytes = entry->size_bytes;
    message->flags = entry->message_flags;
    message->held = (entry->flags & SPOOL_ENTRY_HELD) != 0;
    message->chunked = (entry->flags & SPOOL_ENTRY_CHUNKED) != 0;
    for (uint32_t u = 0; u < entry->item_count; u++) {
        const struct spool_image_item *item = &entry->items[u];
        bool open = entry->open_bits == NULL || (entry->open_bits[u / 8] >> (u % 8) & 1) != 0;

        cr_assert_eq(item->open_count, open ? 1 : 0);
        cr_assert(strcmp(world->texts[SPOOL_TEXT_DESTINATION][item->destination], "example.org") ==
                  0);
        message->units[u] = (struct spool_unit){
            .state = open ? SPOOL_UNIT_WAITING : SPOOL_UNIT_DONE,
            .attempts = item->attempts,
            .in_doubt = (item->flags & SPOOL_ITEM_IN_DOUBT) != 0,
            .next_s = item->next_s,
        };
        if (item->reason != 0)
            (void)strcpy(message->reason, world->texts[SPOOL_TEXT_REASON][item->reason]);
    }
    return 0;
}

static int on_found(void *context, const struct spool_recovered_message *found)
{
    struct world *world = context;
    bool known;
    struct world_message *message = place(world, found->id, &found->location, &known);

    (void)slice_to_cstr(found->envelope, message->envelope, sizeof(message->envelope));
    message->head_bytes = found->head_bytes;
    message->body_bytes = found->body_bytes;
    message->arrival_s = found->arrival_s;
    message->flags = found->flags;
    message->chunked = found->chunked;
    message->unit_count = found->unit_count;
    for (uint32_t i = 0; found->units != NULL && i < units_kept(message); i++)
        message->units[i] = found->units[i];
    if (found->units != NULL) {
        message->held = found->held;
        (void)slice_to_cstr(found->reason, message->reason, sizeof(message->reason));
    }
    return 0;
}

static int on_noted(void *context, const struct spool_recovered_note *note)
{
    apply(context, note->kind, note->id, note->unit_first, note->unit_count, note->attempts,
          note->in_doubt, note->next_s, note->text);
    return 0;
}

static void on_restored(void *context, int result, const struct spool_report *report,
                        struct slice error)
{
    struct world *world = context;

    cr_assert(!world->restored, "restored twice");
    world->restored = true;
    world->restore_result = result;
    world->report = *report;
    (void)slice_to_cstr(error, world->error, sizeof(world->error));
}

/* ---- checkpoints ---------------------------------------------------------------------------- */

static void on_image_begin(void *context)
{
    struct world *world = context;

    cr_assert(!world->image_open);
    world->image_open = true;
    world->image_next = 0;
}

static const uint8_t status[3] = {4, 2, 1};

/* False: full. One message in a block, its texts with it, so that a few make many blocks. */
static bool image_put(struct spool_image *image, const struct world_message *message)
{
    struct spool_image_item items[8] = {{0}};
    uint8_t bits = 0;
    struct spool_image_entry entry = {
        .id = message->id,
        .location = message->location,
        .arrival_s = message->arrival_s,
        .size_bytes = message->head_bytes,
        .unit_count = (uint16_t)message->unit_count,
        .item_count = (uint16_t)units_kept(message),
        .message_flags = message->flags,
        .flags =
            (message->held ? SPOOL_ENTRY_HELD : 0u) | (message->chunked ? SPOOL_ENTRY_CHUNKED : 0u),
        .units_per_item = 1,
        .items = items,
        .open_bits = &bits,
    };

    if (image->entry_count > 0)
        return false;
    cr_assert_leq(message->unit_count, 8);
    for (uint32_t u = 0; u < units_kept(message); u++) {
        bool open = message->units[u].state != SPOOL_UNIT_DONE;

        bits |= (uint8_t)(open ? 1u << u : 0);
        items[u] = (struct spool_image_item){
            .destination = 3,
            .reason = message->reason[0] != '\0' ? 5 : 0,
            .next_s = message->units[u].next_s,
            .open_count = open ? 1 : 0,
            .attempts = message->units[u].attempts,
            .flags = message->units[u].in_doubt ? SPOOL_ITEM_IN_DOUBT : 0,
        };
    }
    cr_assert(
        spool_image_add_text(image, SPOOL_TEXT_DESTINATION, 3, status, slice_cstr("example.org")));
    cr_assert(
        spool_image_add_text(image, SPOOL_TEXT_REASON, 5, status, slice_cstr(message->reason)));
    cr_assert(spool_image_add_entry(image, &entry));
    return true;
}

static bool on_image_fill(void *context, struct spool_image *image)
{
    struct world *world = context;

    cr_assert(world->image_open);
    while (world->image_next < world->message_count) {
        const struct world_message *message = &world->messages[world->image_next];

        if (spool_image_wants(image, &message->location) && !image_put(image, message))
            return true;
        world->image_next++;
    }
    return false;
}

static void on_image_end(void *context)
{
    struct world *world = context;

    cr_assert(world->image_open);
    world->image_open = false;
}

static int on_states(void *context, uint64_t id, const struct spool_location *location,
                     struct slice envelope, struct spool_unit *units, uint32_t unit_count,
                     bool *ret_held, struct slice *ret_reason)
{
    const struct world_message *message = world_find(context, id);

    (void)envelope;
    if (message == NULL || message->location.segment != location->segment ||
        message->location.offset_16 != location->offset_16)
        return -ENOENT;
    cr_assert_eq(unit_count, message->unit_count);
    memcpy(units, message->units, units_kept(message) * sizeof(units[0]));
    *ret_held = message->held;
    *ret_reason = slice_cstr(message->reason);
    return 0;
}

static void on_relocated(void *context, uint64_t id, const struct spool_location *from,
                         const struct spool_location *to)
{
    struct world *world = context;
    struct world_message *message = find(world, id);

    if (message == NULL || message->location.segment != from->segment ||
        message->location.offset_16 != from->offset_16) {
        spool_release(world->spool, id, to);
        return;
    }
    message->location = *to;
    spool_release(world->spool, id, from);
}

const struct spool_owner *world_owner(const struct world *world)
{
    static const struct spool_owner forgets = {
        .text = on_text,
        .image = on_image,
        .found = on_found,
        .noted = on_noted,
        .restored = on_restored,
        .states = on_states,
        .relocated = on_relocated,
    };
    static const struct spool_owner keeps = {
        .text = on_text,
        .image = on_image,
        .found = on_found,
        .noted = on_noted,
        .restored = on_restored,
        .image_begin = on_image_begin,
        .image_fill = on_image_fill,
        .image_end = on_image_end,
        .states = on_states,
        .relocated = on_relocated,
    };

    return world->keeps ? &keeps : &forgets;
}

static void checkpoint_written(void *context, int result)
{
    struct world *world = context;

    world->written = true;
    world->written_result = result;
}

int world_checkpoint(struct world *world)
{
    world->written = false;
    cr_assert_eq(spool_checkpoint(world->spool, checkpoint_written, world), 0);
    world_until(world, &world->written);
    return world->written_result;
}
