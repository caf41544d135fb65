/* The spool of the world (world.h): a table of messages, a list of notes, and a checkpoint. What the queue releases is
 * counted by place, so that a place released twice, or never, is seen. */
#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct spool_reader {
    struct spool *spool;
    struct spool_reader_info info;
    spool_reader_fn *opened;
    void *context;
    int result;
    struct list_node node;
};

void spool_id_format(uint64_t id, char text[SPOOL_ID_TEXT_SIZE])
{
    (void)snprintf(text, SPOOL_ID_TEXT_SIZE, "%015llx", (unsigned long long)id & 0xfffffffffffffff);
}

uint64_t spool_next_id(struct spool *spool)
{
    return spool->next_id++;
}

bool spool_journal_ok(const struct spool *spool)
{
    return !spool->journal_lost;
}

int spool_ready(const struct spool *spool)
{
    return spool->ready_error;
}

static struct world_message *find(struct spool *spool, uint64_t id)
{
    uint32_t place = spool->place_of[id % WORLD_MESSAGES_MAX];

    return place < spool->message_count && spool->messages[place]->id == id ? spool->messages[place]
                                                                            : NULL;
}

struct world_message *world_message(struct world *world, uint64_t id)
{
    return find(&world->spools[id >> 54], id);
}

/* ---- places --------------------------------------------------------------------------------------- */

/* In the cold lane places are counted on, each with one copy. */
static struct world_message *message_at(struct spool *spool, const struct spool_location *location)
{
    uint32_t place = location->segment & ~SPOOL_COLD;

    return spool->messages[location->segment & SPOOL_COLD ? spool->cold_places[place] : place];
}

static uint32_t *live_at(struct spool *spool, const struct spool_location *location)
{
    struct world_message *message = message_at(spool, location);

    return location->segment & SPOOL_COLD ? &message->cold_live : &message->live;
}

void spool_set_owner(struct spool *spool, const struct spool_owner *owner, void *context)
{
    spool->owner = owner;
    spool->owner_context = context;
}

void spool_release(struct spool *spool, uint64_t id, const struct spool_location *location)
{
    cr_assert_eq(message_at(spool, location)->id, id);
    cr_assert_gt(*live_at(spool, location), 0, "released, but nothing was needed there");
    (*live_at(spool, location))--;
}

void world_relocate(struct world *world, uint64_t id)
{
    struct spool *spool = &world->spools[id >> 54];
    struct spool_location from = {.segment = spool->place_of[id % WORLD_MESSAGES_MAX]};
    struct spool_location to = {.segment = spool->cold_count | SPOOL_COLD};
    struct world_message *message = find(spool, id);
    struct slice reason = SLICE_NONE;

    if (message->cold)
        return;
    to.record_bytes = message->record_bytes;
    if (spool->owner->states(
            spool->owner_context, id, &from, slice_of(message->envelope, message->envelope_size),
            message->cold_units, message->unit_count, &message->cold_held, &reason) < 0)
        return;
    (void)slice_to_cstr(reason, message->cold_reason, sizeof(message->cold_reason));
    message->cold = true;
    message->cold_place = spool->cold_count;
    spool->cold_places[spool->cold_count++] = from.segment;
    message->cold_live++;
    spool->owner->relocated(spool->owner_context, id, &from, &to);
}

/* ---- appending ------------------------------------------------------------------------------------ */

int spool_append(struct spool *spool, struct spool_append *append)
{
    struct world_message *message;

    if (spool->append_error < 0)
        return spool->append_error;
    cr_assert_lt(spool->message_count, WORLD_MESSAGES_MAX);
    cr_assert_leq(append->unit_count, WORLD_UNITS_MAX);
    message = calloc(1, sizeof(*message));
    message->id = append->id;
    message->envelope = malloc(append->envelope.size);
    memcpy(message->envelope, append->envelope.data, append->envelope.size);
    message->envelope_size = append->envelope.size;
    message->unit_count = append->unit_count;
    message->arrival_s = append->arrival_s;
    message->flags = append->flags;
    for (uint32_t i = 0; i < append->body_pieces; i++)
        message->body_bytes += append->body[i].iov_len;
    append->body_bytes = message->body_bytes;
    append->location.segment = spool->message_count;
    append->location.record_bytes = (uint32_t)(48 + append->envelope.size + message->body_bytes);
    message->record_bytes = append->location.record_bytes;
    spool->place_of[append->id % WORLD_MESSAGES_MAX] = spool->message_count;
    spool->messages[spool->message_count++] = message;
    list_push_back(&spool->appends, &append->node);
    return 0;
}

static bool complete_appends(struct spool *spool)
{
    struct list_node *node;
    bool any = false;

    while ((node = list_pop_front(&spool->appends)) != NULL) {
        struct spool_append *append = CONTAINER_OF(node, struct spool_append, node);
        struct world_message *message = find(spool, append->id);

        append->result = spool->group_error;
        message->durable = append->result == 0;
        message->live += message->durable;
        append->done(append);
        any = true;
    }
    return any;
}

/* ---- notes ---------------------------------------------------------------------------------------- */

static void remember(struct spool *spool, const struct spool_note *note)
{
    struct world_note *kept;

    if (spool->note_count == spool->note_capacity) {
        spool->note_capacity = MAX(spool->note_capacity * 2, 64u);
        spool->journal = realloc(spool->journal, spool->note_capacity * sizeof(*spool->journal));
    }
    kept = &spool->journal[spool->note_count++];
    *kept = (struct world_note){.note = {.kind = note->kind,
                                         .id = note->id,
                                         .unit_first = note->unit_first,
                                         .unit_count = note->unit_count,
                                         .outcome = note->outcome,
                                         .attempts = note->attempts,
                                         .in_doubt = note->in_doubt,
                                         .next_s = note->next_s}};
    memcpy(kept->note.status, note->status, 3);
    (void)slice_to_cstr(note->text, kept->text, sizeof(kept->text));
}

static void apply_note(struct spool *spool, const struct spool_note *note)
{
    struct world_message *message = find(spool, note->id);

    cr_assert(message != NULL && message->durable, "a note about what does not exist (QUEUE I7)");
    cr_assert_leq(note->unit_first + note->unit_count, message->unit_count);
    remember(spool, note);
    if (note->kind == SPOOL_NOTE_HOLD || note->kind == SPOOL_NOTE_RELEASE) {
        message->held = note->kind == SPOOL_NOTE_HOLD;
        return;
    }
    cr_assert_gt(note->unit_count, 0);
    for (uint32_t i = note->unit_first; i < note->unit_first + note->unit_count; i++) {
        cr_assert_eq(message->outcome[i], 0, "final is final (QUEUE I9)");
        if (note->kind == SPOOL_NOTE_DONE) {
            message->outcome[i] = (uint8_t)(note->outcome + 1);
            message->units[i].state = SPOOL_UNIT_DONE;
            continue;
        }
        message->units[i].attempts = note->attempts;
        message->units[i].next_s = note->next_s;
        message->in_doubt[i] = note->in_doubt;
        spool->defers++;
        spool->last_defer_s = note->next_s;
        (void)slice_to_cstr(note->text, message->reason, sizeof(message->reason));
    }
}

int spool_note(struct spool *spool, struct spool_note *note)
{
    if (spool->note_error < 0)
        return spool->note_error;
    if (note->durable == NULL && !spool->losing)
        apply_note(spool, note);
    else if (note->durable != NULL)
        list_push_back(&spool->notes, &note->node);
    return 0;
}

static bool complete_notes(struct spool *spool)
{
    struct list_node *node;
    bool any = false;

    while (!spool->losing && (node = list_pop_front(&spool->notes)) != NULL) {
        struct spool_note *note = CONTAINER_OF(node, struct spool_note, node);

        note->result = spool->flush_error;
        if (note->result == 0)
            apply_note(spool, note);
        note->durable(note);
        any = true;
    }
    return any;
}

/* ---- reading -------------------------------------------------------------------------------------- */

static bool complete_openings(struct spool *spool)
{
    struct list_node *node;
    bool any = false;

    while ((node = list_pop_front(&spool->openings)) != NULL) {
        struct spool_reader *reader = CONTAINER_OF(node, struct spool_reader, node);

        reader->opened(reader->context, reader->result);
        any = true;
    }
    return any;
}

int spool_reader_open(struct spool *spool, const struct spool_location *location,
                      spool_reader_fn *opened, void *context, struct spool_reader **ret_reader)
{
    struct world_message *message = message_at(spool, location);
    struct spool_reader *reader;

    cr_assert_gt(*live_at(spool, location), 0, "a read where nothing is needed (QUEUE I25)");
    if (spool->open_error < 0)
        return spool->open_error;
    reader = calloc(1, sizeof(*reader));
    reader->spool = spool;
    reader->opened = opened;
    reader->context = context;
    reader->info = (struct spool_reader_info){
        .id = message->id,
        .envelope = slice_of(message->envelope, message->envelope_size),
        .flags = message->flags,
        .arrival_s = message->arrival_s,
        .hot = !spool->cold,
    };
    reader->result = message->id == spool->damaged_id ? -EBADMSG : 0;
    list_node_init(&reader->node);
    spool->readers_open++;
    *ret_reader = reader;
    if (spool->cold)
        list_push_back(&spool->openings, &reader->node);
    else
        opened(context, reader->result);
    return 0;
}

const struct spool_reader_info *spool_reader_info(const struct spool_reader *reader)
{
    return &reader->info;
}

void spool_reader_rewind(struct spool_reader *reader)
{
    (void)reader;
}

void spool_reader_close(struct spool_reader **reader)
{
    if (*reader == NULL)
        return;
    list_remove(&(*reader)->node);
    (*reader)->spool->readers_open--;
    free(*reader);
    *reader = NULL;
}

/* ---- checkpoints ---------------------------------------------------------------------------------- */

static void forget_checkpoint(struct spool *spool)
{
    for (uint32_t i = 0; i < spool->block_count; i++)
        free(spool->blocks[i].data);
    spool->block_count = 0;
    spool->checkpoint = false;
}

void world_checkpoint_begin(struct world *world, uint32_t shard)
{
    struct spool *spool = &world->spools[shard];

    forget_checkpoint(spool);
    spool->checkpoint_messages = spool->message_count;
    spool->checkpoint_notes = spool->note_count;
    spool->checkpoint_cold = spool->cold_count;
    spool->owner->image_begin(spool->owner_context);
}

bool world_checkpoint_block(struct world *world, uint32_t shard)
{
    struct spool *spool = &world->spools[shard];
    struct spool_image *image = &spool->blocks[spool->block_count++];

    cr_assert_leq(spool->block_count, WORLD_BLOCKS_MAX);
    *image = (struct spool_image){
        .data = malloc(SPOOL_IMAGE_BLOCK_BYTES),
        .hot_end = {.segment = spool->checkpoint_messages},
        .cold_end = {.segment = spool->checkpoint_cold},
    };
    return spool->owner->image_fill(spool->owner_context, image);
}

void world_checkpoint_end(struct world *world, uint32_t shard)
{
    struct spool *spool = &world->spools[shard];

    spool->owner->image_end(spool->owner_context);
    spool->checkpoint = true;
}

void world_checkpoint(struct world *world, uint32_t shard)
{
    world_checkpoint_begin(world, shard);
    while (world_checkpoint_block(world, shard))
        continue;
    world_checkpoint_end(world, shard);
}

/* ---- another life ---------------------------------------------------------------------------------- */

static int on_text(void *context, enum spool_image_text kind, uint32_t number,
                   const uint8_t status[3], struct slice text)
{
    struct spool *spool = context;

    return spool->owner->text(spool->owner_context, kind, number, status, text);
}

static int on_entry(void *context, const struct spool_image_entry *entry)
{
    struct spool *spool = context;

    (*live_at(spool, &entry->location))++;
    return spool->owner->image(spool->owner_context, entry);
}

static void present(struct spool *spool, uint32_t index, bool cold)
{
    struct world_message *m = spool->messages[index];
    struct spool_recovered_message message = {
        .id = m->id,
        .location = {.segment = cold ? m->cold_place | SPOOL_COLD : index,
                     .record_bytes = m->record_bytes},
        .envelope = slice_of(m->envelope, m->envelope_size),
        .body_bytes = m->body_bytes,
        .arrival_s = m->arrival_s,
        .flags = m->flags,
        .held = cold && m->cold_held,
        .units = cold ? m->cold_units : NULL,
        .unit_count = m->unit_count,
        .reason = cold ? slice_cstr(m->cold_reason) : SLICE_NONE,
    };

    if (!m->durable)
        return;
    (*live_at(spool, &message.location))++;
    cr_assert_eq(spool->owner->found(spool->owner_context, &message), 0);
}

void world_bring_back(struct world *world, uint32_t shard)
{
    struct spool *spool = &world->spools[shard];
    uint32_t first = spool->checkpoint ? spool->checkpoint_messages : 0;
    struct spool_image_events events = {spool, on_text, on_entry};

    for (uint32_t i = 0; spool->checkpoint && i < spool->block_count; i++) {
        uint32_t offset = 0;

        while (offset < spool->blocks[i].used_bytes)
            cr_assert_eq(
                spool_image_read(slice_of(spool->blocks[i].data, spool->blocks[i].used_bytes),
                                 &offset, 100, &events),
                0);
    }
    for (uint32_t i = first; i < spool->earlier_messages; i++)
        present(spool, i, false);
    for (uint32_t i = spool->checkpoint ? spool->checkpoint_cold : 0; i < spool->earlier_cold; i++)
        present(spool, spool->cold_places[i], true);
    for (uint32_t i = spool->checkpoint ? spool->checkpoint_notes : 0; i < spool->earlier_notes;
         i++) {
        struct spool_recovered_note note = spool->journal[i].note;

        note.text = slice_cstr(spool->journal[i].text);
        cr_assert_eq(spool->owner->noted(spool->owner_context, &note), 0);
    }
}

void world_bring_end(struct world *world, uint32_t shard, int result)
{
    struct spool *spool = &world->spools[shard];
    const struct spool_report report = {.messages = spool->earlier_messages};

    spool->owner->restored(spool->owner_context, result, &report,
                           result == 0 ? SLICE_NONE : SLICE("the disk is on fire"));
}

/* Nothing is needed any more but what the next life presents; ids of a lost tail are never used again. */
void world_spool_crash(struct spool *spool)
{
    cr_assert_eq(spool->readers_open, 0);
    list_init(&spool->appends);
    list_init(&spool->notes);
    spool->losing = false;
    spool->next_id += 16;
    spool->earlier_messages = spool->message_count;
    spool->earlier_notes = spool->note_count;
    spool->earlier_cold = spool->cold_count;
    for (uint32_t i = 0; i < spool->message_count; i++) {
        spool->messages[i]->live = 0;
        spool->messages[i]->cold_live = 0;
    }
}

void world_spool_free(struct spool *spool)
{
    for (uint32_t m = 0; m < spool->message_count; m++) {
        free(spool->messages[m]->envelope);
        free(spool->messages[m]);
    }
    free(spool->journal);
    forget_checkpoint(spool);
}

bool world_spool_step(struct spool *spool)
{
    bool any = complete_openings(spool);

    if (!spool->manual) {
        any = complete_appends(spool) || any;
        any = complete_notes(spool) || any;
    }
    return any;
}

void world_complete(struct world *world, uint32_t shard)
{
    complete_appends(&world->spools[shard]);
    complete_notes(&world->spools[shard]);
}

/* Whatever lives has one place, and what does not has none. */
void world_spool_check(struct spool *spool, struct queue *queue)
{
    for (uint32_t i = 0; i < spool->message_count && !spool->unchecked; i++) {
        const struct world_message *message = spool->messages[i];
        uint32_t number = index_find(&queue->index, message->id);
        uint32_t segment =
            number == INDEX_NONE ? UINT32_MAX : index_entry(&queue->index, number)->segment;

        if (message->unreadable)
            continue;
        cr_assert_eq(message->live, segment == i, "message %u", i);
        cr_assert_eq(message->cold_live,
                     message->cold && segment == (message->cold_place | SPOOL_COLD), "message %u",
                     i);
    }
}
