#include "cli/spool_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/shard.h"

#define IN_FLIGHT_MAX 256
#define HEAD_MAX (64 * KIB)

/* What is to be noted of a message once it is durable: not before (QUEUE I7). */
struct fate {
    struct spool_writer *writer;
    struct spool_append append;
    bool held;
    struct buf reason;
    struct spool_unit units[];
};

struct spool_writer {
    struct shard_group *group;
    struct shard *shard;
    struct spool *spool;
    struct spool_waiter waiter;
    bool room, stopped;
    uint32_t in_flight;
    int error;
    /* of the message in hand */
    uint64_t id;
    uint32_t head_bytes;
    struct buf head, body;
    struct spool_upload *upload;
};

static void writer_room(struct spool_waiter *waiter)
{
    CONTAINER_OF(waiter, struct spool_writer, waiter)->room = true;
}

static int writer_wait_room(struct spool_writer *writer)
{
    writer->room = false;
    spool_await_room(writer->spool, &writer->waiter);
    while (!writer->room)
        shard_tick(writer->shard, true);
    return 0;
}

int spool_writer_open(const char *path, uint32_t number, uint64_t segment_bytes,
                      struct spool_writer **ret_writer, struct buf *error)
{
    const struct shard_params params = {
        .count = 1, .ring = {.entries = 64, .buffer_count = 16}, .one_thread = true};
    const struct spool_config config = {
        .path = path,
        .number = number,
        .segment_bytes = segment_bytes,
        .spare_segments = 1,
        .hot_bytes_max = MIB,
        .gather_bytes_max = 8 * MIB,
        .journal_flush_ms = 20,
        .force_file_system = true, /* it lies there already */
        .owner_pid = (int32_t)getpid(),
    };
    struct spool_writer *writer = calloc(1, sizeof(*writer));
    struct spool_recovery *recovery = NULL;
    int r = writer == NULL ? -ENOMEM : spool_open(&config, &recovery, error);

    if (r == 0) {
        r = shard_group_start(&params, &writer->group);
        if (r < 0)
            buf_printf(error, "no ring can be made: %s", strerror(-r));
    }
    if (r == 0) {
        writer->shard = shard_group_get(writer->group, 0);
        r = spool_start(writer->shard, &recovery, &writer->spool);
        if (r < 0) {
            buf_printf(error, "%s: cannot be started: %s", path, strerror(-r));
            shard_stop(writer->shard);
            shard_group_join(&writer->group);
        }
    }
    if (r < 0) {
        spool_recovery_destroy(&recovery);
        free(writer);
        return r;
    }
    writer->waiter.ready = writer_room;
    list_node_init(&writer->waiter.node);
    buf_init(&writer->head, HEAD_MAX);
    buf_init(&writer->body, SPOOL_CHUNK_BYTES_MAX);
    *ret_writer = writer;
    return 0;
}

/* ---- the bytes ------------------------------------------------------------------------------- */

int spool_writer_begin(struct spool_writer *writer, uint64_t id, uint32_t head_bytes)
{
    if (head_bytes > HEAD_MAX)
        return -E2BIG;
    writer->id = id != 0 ? id : spool_next_id(writer->spool);
    writer->head_bytes = head_bytes;
    buf_reset(&writer->head);
    buf_reset(&writer->body);
    return writer->error;
}

/* What has gathered becomes a chunk. */
static int writer_chunk(struct spool_writer *writer)
{
    struct iovec piece = {writer->body.data, writer->body.size};
    int r = 0;

    if (writer->upload == NULL)
        r = spool_upload_begin(writer->spool, writer->id, &writer->upload);
    while (r == 0) {
        r = spool_upload_chunk(writer->upload, &piece, 1);
        if (r != -EAGAIN)
            break;
        r = writer_wait_room(writer);
    }
    buf_reset(&writer->body);
    return r;
}

int spool_writer_piece(struct spool_writer *writer, struct slice piece)
{
    struct slice head = slice_first(piece, writer->head_bytes - writer->head.size);
    int r = writer->error;

    buf_append(&writer->head, head);
    piece = slice_skip(piece, head.size);
    while (r == 0 && piece.size > 0) {
        struct slice part = slice_first(piece, SPOOL_CHUNK_BYTES_MAX - writer->body.size);

        buf_append(&writer->body, part);
        piece = slice_skip(piece, part.size);
        if (writer->body.size == SPOOL_CHUNK_BYTES_MAX)
            r = writer_chunk(writer);
    }
    return writer->head.failed || writer->body.failed ? -ENOMEM : r;
}

/* ---- what is known of it ----------------------------------------------------------------------- */

static int note_give(struct fate *fate, struct spool_note note)
{
    note.id = fate->append.id;
    return spool_note(fate->writer->spool, &note);
}

static bool units_alike(const struct spool_unit *a, const struct spool_unit *b)
{
    return a->state == b->state && a->attempts == b->attempts && a->next_s == b->next_s;
}

/* One note for each run of units of which the same is known. */
static int fate_units(struct fate *fate)
{
    uint32_t count = fate->append.unit_count, end;
    int r = 0;

    for (uint32_t i = 0; i < count && r == 0; i = end) {
        const struct spool_unit *unit = &fate->units[i];

        for (end = i + 1; end < count && units_alike(unit, &fate->units[end]);)
            end++;
        if (unit->state == SPOOL_UNIT_DONE)
            r = note_give(fate, (struct spool_note){.kind = SPOOL_NOTE_DONE,
                                                    .unit_first = i,
                                                    .unit_count = end - i,
                                                    .outcome = SPOOL_REMOVED});
        else if (unit->attempts > 0)
            r = note_give(fate, (struct spool_note){.kind = SPOOL_NOTE_DEFER,
                                                    .unit_first = i,
                                                    .unit_count = end - i,
                                                    .attempts = unit->attempts,
                                                    .next_s = unit->next_s,
                                                    .status = {4, 0, 0},
                                                    .text = buf_slice(&fate->reason)});
    }
    return r;
}

static void fate_destroy(struct fate *fate)
{
    buf_deinit(&fate->reason);
    free(fate);
}

static void append_done(struct spool_append *append)
{
    struct fate *fate = CONTAINER_OF(append, struct fate, append);
    struct spool_writer *writer = fate->writer;
    int r = append->result;

    writer->in_flight--;
    if (r == 0)
        r = fate_units(fate);
    if (r == 0 && fate->held)
        r = note_give(fate, (struct spool_note){.kind = SPOOL_NOTE_HOLD});
    if (r < 0 && writer->error == 0)
        writer->error = r;
    fate_destroy(fate);
}

static struct fate *fate_create(struct spool_writer *writer,
                                const struct spool_writer_message *message)
{
    struct fate *fate = calloc(1, sizeof(*fate) + message->unit_count * sizeof(*fate->units));

    if (fate == NULL)
        return NULL;
    fate->writer = writer;
    fate->held = message->held;
    if (message->units != NULL)
        memcpy(fate->units, message->units, message->unit_count * sizeof(*fate->units));
    buf_init(&fate->reason, KIB);
    buf_append(&fate->reason, slice_first(message->reason, 512));
    fate->append = (struct spool_append){.id = writer->id,
                                         .envelope = message->envelope,
                                         .unit_count = message->unit_count,
                                         .head = buf_slice(&writer->head),
                                         .flags = message->flags,
                                         .arrival_s = message->arrival_s,
                                         .done = append_done};
    return fate;
}

int spool_writer_end(struct spool_writer *writer, const struct spool_writer_message *message)
{
    struct iovec piece;
    struct fate *fate;
    int r = writer->error;

    if (r == 0 && writer->body.size > 0 &&
        (writer->upload != NULL || writer->body.size > SPOOL_INLINE_BODY_MAX))
        r = writer_chunk(writer);
    if (r == 0) {
        fate = fate_create(writer, message);
        if (fate == NULL)
            return -ENOMEM;
        piece = (struct iovec){writer->body.data, writer->body.size};
        fate->append.upload = writer->upload;
        if (writer->upload == NULL) {
            fate->append.body = &piece;
            fate->append.body_pieces = piece.iov_len > 0;
        }
        while ((r = spool_append(writer->spool, &fate->append)) == -EAGAIN)
            (void)writer_wait_room(writer);
        if (r == 0) {
            writer->upload = NULL;
            writer->in_flight++;
        } else {
            fate_destroy(fate);
        }
    }
    spool_upload_abort(&writer->upload);
    while (writer->in_flight >= IN_FLIGHT_MAX)
        shard_tick(writer->shard, true);
    return r < 0 ? r : writer->error;
}

/* ---- the end ------------------------------------------------------------------------------------- */

static void writer_stopped(void *context)
{
    ((struct spool_writer *)context)->stopped = true;
}

int spool_writer_close(struct spool_writer **writer)
{
    struct spool_writer *w = *writer;
    int r;

    if (w == NULL)
        return 0;
    spool_upload_abort(&w->upload);
    while (w->in_flight > 0)
        shard_tick(w->shard, true);
    spool_stop(w->spool, writer_stopped, w);
    while (!w->stopped)
        shard_tick(w->shard, true);
    r = w->error == 0 && !spool_journal_ok(w->spool) ? -EIO : w->error;
    spool_destroy(&w->spool);
    shard_stop(w->shard);
    shard_group_join(&w->group);
    buf_deinit(&w->head);
    buf_deinit(&w->body);
    free(w);
    *writer = NULL;
    return r;
}
