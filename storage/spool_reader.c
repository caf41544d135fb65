#include "storage/spool_private.h"

#include "core/crc32c.h"

#include <errno.h>
#include <stdlib.h>

/* A record, and for COMMIT its chunks one after the other. Each comes from group memory, and is
 * then lent as it stands, or from disk, and is then verified before anyone sees it. While one
 * chunk is handed out the next is being read. */

enum fetch_state { FETCH_EMPTY, FETCH_WAITS, FETCH_READS, FETCH_READY, FETCH_FAILED };

/* One record in memory. */
struct fetch {
    struct spool_reader *reader;
    enum fetch_state state;
    int error;
    bool again; /* the one re-read is under way */
    bool held;  /* the segment is */
    uint32_t segment_number, record_bytes;
    uint64_t offset;
    struct spool_segment *segment; /* pinned while it is read */
    struct spool_segment_waiter waiter;
    struct ring_op op;
    struct spool_group *group; /* hot: a reference */
    uint8_t *buffer;           /* cold: whole blocks */
    size_t buffer_bytes;
    const uint8_t *bytes; /* the record, when READY */
    struct spool_record record;
};

#define CHUNK_FETCHES 2 /* the one handed out and the one that is being read */

struct spool_reader {
    struct spool *spool;
    struct spool_reader_info info;
    struct spool_location location;
    struct fetch front;
    struct fetch chunks[CHUNK_FETCHES];
    struct spool_sections sections;
    struct spool_chunk_list list; /* COMMIT */
    bool chunked, chunks_held, closing;
    spool_reader_fn *opened, *ready;
    void *opened_context, *ready_context;
    /* where the next piece begins */
    uint32_t next_chunk; /* MSG: 0 before its body, 1 behind it */
    uint32_t next_skip;
    uint64_t position; /* in the stored body */
    struct slice rest; /* of the body or chunk in hand */
};

static void fetch_read(struct fetch *fetch);
static void fetch_done(struct fetch *fetch, int error);

/* ---- one record ----------------------------------------------------------------------------- */

static void fetch_release(struct fetch *fetch)
{
    ASSERT(fetch->state != FETCH_WAITS && fetch->state != FETCH_READS);
    if (fetch->group != NULL)
        spool_group_unref(fetch->reader->spool, fetch->group);
    if (fetch->held)
        spool_segment_unhold(fetch->segment);
    fetch->held = false;
    fetch->group = NULL;
    fetch->bytes = NULL;
    fetch->state = FETCH_EMPTY;
}

static int fetch_verify(struct fetch *fetch)
{
    uint64_t shift = fetch->offset % SPOOL_BLOCK_BYTES;
    const uint8_t *bytes = fetch->buffer + shift;

    if (!spool_record_decode(bytes, fetch->record_bytes, fetch->segment->seed, fetch->offset,
                             &fetch->record) ||
        fetch->record.record_bytes != fetch->record_bytes ||
        !spool_record_front_ok(&fetch->record, bytes) ||
        !spool_record_body_ok(&fetch->record, bytes))
        return -EBADMSG;
    fetch->bytes = bytes;
    return 0;
}

static void fetch_read_done(struct ring_op *op)
{
    struct fetch *fetch = CONTAINER_OF(op, struct fetch, op);
    struct spool *spool = fetch->reader->spool;
    uint64_t needed = fetch->offset % SPOOL_BLOCK_BYTES + fetch->record_bytes;
    int r = op->result < 0 ? op->result : 0;
    char id[SPOOL_ID_TEXT_SIZE];

    spool->reads_in_flight--;
    if (r == 0 && (uint64_t)op->result < needed)
        r = -EIO;
    if (r == 0 && !fetch->reader->closing)
        r = fetch_verify(fetch);
    if (r < 0 && !fetch->again && !fetch->reader->closing) {
        spool->counters.reads_repeated++;
        fetch->again = true; /* a flipped bit on the way is not one on the disk */
        fetch_read(fetch);
        return;
    }
    spool_segment_unpin(fetch->segment);
    if (r < 0 && !fetch->reader->closing) {
        spool->counters.damaged++;
        fetch->segment->damaged = true; /* never used again */
        r = r == -EBADMSG ? -EBADMSG : -EIO;
        spool_id_format(fetch->reader->info.id, id);
        log_event(spool->shard->log, LOG_ERROR, "spool.read.failed",
                  log_cstr("spool", spool->config.path), log_cstr("id", id),
                  log_u64("segment", fetch->segment_number), log_u64("offset", fetch->offset),
                  log_cstr("error", strerror(-r)));
    }
    fetch_done(fetch, r);
}

static void fetch_read(struct fetch *fetch)
{
    struct spool *spool = fetch->reader->spool;
    uint64_t from = fetch->offset / SPOOL_BLOCK_BYTES * SPOOL_BLOCK_BYTES;

    fetch->state = FETCH_READS;
    spool->reads_in_flight++;
    ring_read(spool->shard->ring, &fetch->op, fetch->segment->fd, fetch->buffer,
              fetch->buffer_bytes, from);
}

static void fetch_pinned(struct spool_segment_waiter *waiter, int result)
{
    struct fetch *fetch = CONTAINER_OF(waiter, struct fetch, waiter);

    if (result == 0 && !fetch->reader->closing) {
        fetch_read(fetch);
        return;
    }
    if (result == 0)
        spool_segment_unpin(fetch->segment);
    fetch_done(fetch, result);
}

static int fetch_buffer(struct fetch *fetch)
{
    size_t needed =
        ROUND_UP(fetch->offset % SPOOL_BLOCK_BYTES + fetch->record_bytes, SPOOL_BLOCK_BYTES);

    if (needed > fetch->buffer_bytes) {
        free(fetch->buffer);
        fetch->buffer = aligned_alloc(SPOOL_BLOCK_BYTES, needed);
        fetch->buffer_bytes = fetch->buffer == NULL ? 0 : needed;
    }
    return fetch->buffer == NULL ? -ENOMEM : 0;
}

static void fetch_hold(struct fetch *fetch)
{
    spool_segment_hold(fetch->segment);
    fetch->held = true;
}

/* 0: READY. -EINPROGRESS: fetch_done() follows. Otherwise it failed. */
static int fetch_begin(struct fetch *fetch, uint32_t segment_number, uint64_t offset,
                       uint32_t record_bytes)
{
    struct spool *spool = fetch->reader->spool;
    int r;

    ASSERT(fetch->state == FETCH_EMPTY);
    fetch->segment_number = segment_number;
    fetch->offset = offset;
    fetch->record_bytes = record_bytes;
    fetch->again = false;
    fetch->error = 0;
    fetch->segment = spool_segment_find(spool, segment_number);
    if (fetch->segment == NULL || offset + record_bytes > fetch->segment->size_bytes ||
        record_bytes < SPOOL_RECORD_HEADER_BYTES || record_bytes > SPOOL_RECORD_BYTES_MAX)
        return -EIO;
    fetch->group = spool_group_find(spool, segment_number, offset);
    if (fetch->group != NULL) {
        fetch_hold(fetch);
        /* Our own memory, sealed for this very place when it was written. */
        fetch->bytes = fetch->group->data + (offset - fetch->group->offset);
        fetch->state = FETCH_READY;
        if (spool_record_decode(fetch->bytes, record_bytes, fetch->segment->seed, offset,
                                &fetch->record) &&
            fetch->record.record_bytes == record_bytes)
            return 0;
        fetch_release(fetch);
        return -EBADMSG;
    }
    r = fetch_buffer(fetch);
    if (r < 0)
        return r;
    fetch->state = FETCH_WAITS;
    fetch_hold(fetch);
    if (spool_segment_pin(fetch->segment, &fetch->waiter) == 0)
        fetch_read(fetch);
    return -EINPROGRESS;
}

static void fetch_init(struct fetch *fetch, struct spool_reader *reader)
{
    fetch->reader = reader;
    ring_op_init(&fetch->op, fetch_read_done);
    list_node_init(&fetch->waiter.node);
    fetch->waiter.ready = fetch_pinned;
}

/* ---- opening -------------------------------------------------------------------------------- */

static bool reader_busy(const struct spool_reader *reader)
{
    bool busy = reader->front.state == FETCH_WAITS || reader->front.state == FETCH_READS;

    for (int i = 0; i < CHUNK_FETCHES; i++)
        busy = busy || reader->chunks[i].state == FETCH_WAITS ||
               reader->chunks[i].state == FETCH_READS;
    return busy;
}

/* All segments its chunks lie in stay as they are, also when the message is finished or moved while it is read. */
static void reader_hold_chunks(struct spool_reader *reader, void (*change)(struct spool_segment *))
{
    for (uint32_t i = 0; i < reader->list.count; i++) {
        struct spool_chunk_entry entry = spool_chunk_entry_get(&reader->list, i);
        struct spool_segment *segment = spool_segment_find(reader->spool, entry.segment);

        if (segment != NULL)
            change(segment);
    }
}

static void reader_free(struct spool_reader *reader)
{
    struct spool *spool = reader->spool;

    if (reader->chunks_held)
        reader_hold_chunks(reader, spool_segment_unhold);
    fetch_release(&reader->front);
    free(reader->front.buffer);
    for (int i = 0; i < CHUNK_FETCHES; i++) {
        fetch_release(&reader->chunks[i]);
        free(reader->chunks[i].buffer);
    }
    free(reader);
    spool_stop_check(spool);
}

static int reader_front(struct spool_reader *reader)
{
    const struct spool_record *record = &reader->front.record;
    uint64_t stored, skipped;

    if (record->type != SPOOL_MSG && record->type != SPOOL_COMMIT && record->type != SPOOL_RELOC)
        return -EBADMSG;
    spool_record_sections(record, reader->front.bytes, &reader->sections);
    reader->chunked = record->type == SPOOL_COMMIT ||
                      (record->type == SPOOL_RELOC && (record->flags & SPOOL_RELOC_CHUNKED));
    stored = record->body_bytes;
    if (reader->chunked) {
        if (!spool_chunk_list_decode(reader->sections.body, &reader->list))
            return -EBADMSG;
        stored = reader->list.body_bytes;
    }
    if (!spool_skips_ok(reader->sections.skips, stored, &skipped))
        return -EBADMSG;
    if (reader->chunked)
        reader_hold_chunks(reader, spool_segment_hold);
    reader->chunks_held = reader->chunked;
    reader->info = (struct spool_reader_info){
        .id = record->id,
        .envelope = reader->sections.envelope,
        .head = reader->sections.head,
        .body_bytes = stored - skipped,
        .flags = record->flags & (uint8_t)~SPOOL_RELOC_CHUNKED,
        .arrival_s = record->arrival_s,
        .hot = reader->front.group != NULL,
    };
    spool_reader_rewind(reader);
    return 0;
}

static void reader_opened(struct spool_reader *reader, int result)
{
    spool_reader_fn *opened = reader->opened;

    if (result == 0)
        result = reader_front(reader);
    if (result == 0 && reader->info.hot)
        reader->spool->counters.reads_hot++;
    else
        reader->spool->counters.reads_cold++;
    reader->opened = NULL;
    opened(reader->opened_context, result);
}

static void fetch_done(struct fetch *fetch, int error)
{
    struct spool_reader *reader = fetch->reader;
    spool_reader_fn *ready = reader->ready;

    fetch->state = error == 0 && fetch->bytes != NULL ? FETCH_READY : FETCH_FAILED;
    fetch->error = error;
    if (reader->closing) {
        if (!reader_busy(reader))
            reader_free(reader);
        return;
    }
    if (fetch == &reader->front) {
        reader_opened(reader, error);
        return;
    }
    if (ready == NULL)
        return; /* read ahead; nobody asks yet */
    reader->ready = NULL;
    ready(reader->ready_context, 0); /* the error, if any, is what spool_reader_next() answers */
}

int spool_reader_open(struct spool *spool, const struct spool_location *location,
                      spool_reader_fn *opened, void *context, struct spool_reader **ret_reader)
{
    struct spool_reader *reader = calloc(1, sizeof(*reader));
    int r;

    if (reader == NULL)
        return -ENOMEM;
    reader->spool = spool;
    reader->location = *location;
    reader->opened = opened;
    reader->opened_context = context;
    fetch_init(&reader->front, reader);
    for (int i = 0; i < CHUNK_FETCHES; i++)
        fetch_init(&reader->chunks[i], reader);
    r = fetch_begin(&reader->front, location->segment,
                    (uint64_t)location->offset_16 * SPOOL_RECORD_ALIGN, location->record_bytes);
    if (r < 0 && r != -EINPROGRESS) {
        free(reader->front.buffer);
        free(reader);
        return r;
    }
    spool->readers++;
    *ret_reader = reader;
    if (r == 0)
        reader_opened(reader, 0);
    return 0;
}

const struct spool_reader_info *spool_reader_info(const struct spool_reader *reader)
{
    return &reader->info;
}

/* ---- the body ------------------------------------------------------------------------------- */

static struct fetch *chunk_fetch(struct spool_reader *reader, uint32_t index)
{
    return &reader->chunks[index % CHUNK_FETCHES];
}

/* Begins to get chunk `index`, if it is not there. */
static int chunk_begin(struct spool_reader *reader, uint32_t index)
{
    struct spool_chunk_entry entry = spool_chunk_entry_get(&reader->list, index);
    struct fetch *fetch = chunk_fetch(reader, index);
    uint64_t offset = (uint64_t)entry.offset_16 * SPOOL_RECORD_ALIGN;

    if (entry.body_bytes > SPOOL_CHUNK_BYTES_MAX)
        return -EBADMSG;
    if (fetch->state == FETCH_WAITS || fetch->state == FETCH_READS)
        return -EINPROGRESS; /* this one, or after a rewind another that must end first */
    if (fetch->state != FETCH_EMPTY) {
        if (fetch->segment_number == entry.segment && fetch->offset == offset)
            return fetch->state == FETCH_READY ? 0 : fetch->error;
        fetch_release(fetch);
    }
    return fetch_begin(fetch, entry.segment, offset, SPOOL_RECORD_HEADER_BYTES + entry.body_bytes);
}

/* Makes `rest` the next chunk. */
static int chunk_next(struct spool_reader *reader)
{
    uint32_t index = reader->next_chunk;
    struct spool_chunk_entry entry = spool_chunk_entry_get(&reader->list, index);
    struct fetch *fetch = chunk_fetch(reader, index);
    int r = chunk_begin(reader, index);

    if (r < 0)
        return r;
    if (fetch->segment_number != entry.segment || fetch->record.type != SPOOL_CHUNK ||
        fetch->record.id != reader->info.id || fetch->record.body_bytes != entry.body_bytes ||
        fetch->record.body_crc != entry.body_crc)
        return -EBADMSG;
    reader->next_chunk++;
    reader->rest = slice_of(fetch->bytes + SPOOL_RECORD_HEADER_BYTES, entry.body_bytes);
    /* The one before was handed out from the other fetch, and is given back by asking for this
     * one. */
    if (reader->next_chunk < reader->list.count)
        (void)chunk_begin(reader,
                          reader->next_chunk); /* what goes wrong is said when its turn comes */
    return 0;
}

/* Makes `rest` what follows, or leaves it empty at the end. */
static int body_next(struct spool_reader *reader)
{
    if (reader->chunked)
        return reader->next_chunk < reader->list.count ? chunk_next(reader) : 0;
    if (reader->next_chunk == 0)
        reader->rest = reader->sections.body;
    reader->next_chunk = 1;
    return 0;
}

/* Takes from `rest` up to the next skipped range; what is skipped goes without being handed out. */
static struct slice piece_take(struct spool_reader *reader)
{
    uint32_t skip_count = (uint32_t)(reader->sections.skips.size / SPOOL_SKIP_BYTES);
    uint64_t take = reader->rest.size;
    struct slice piece;

    while (reader->next_skip < skip_count) {
        struct spool_skip skip = spool_skip_get(reader->sections.skips.data, reader->next_skip);
        uint64_t end = (uint64_t)skip.offset + skip.bytes;

        if (reader->position < skip.offset) {
            take = MIN(take, skip.offset - reader->position);
            break;
        }
        if (reader->position < end) {
            uint64_t drop = MIN(end - reader->position, reader->rest.size);

            reader->rest = slice_skip(reader->rest, drop);
            reader->position += drop;
            take = reader->rest.size;
            if (reader->position < end)
                break; /* it goes on in the next chunk */
        }
        reader->next_skip++;
    }
    piece = slice_first(reader->rest, take);
    reader->rest = slice_skip(reader->rest, take);
    reader->position += take;
    return piece;
}

int spool_reader_next(struct spool_reader *reader, struct slice *ret_piece, spool_reader_fn *ready,
                      void *context)
{
    ASSERT(reader->opened == NULL && reader->ready == NULL);
    *ret_piece = SLICE_NONE;
    for (;;) {
        int r;

        if (reader->rest.size > 0) {
            *ret_piece = piece_take(reader);
            if (ret_piece->size > 0)
                return 1;
            continue;
        }
        r = body_next(reader);
        if (r == -EINPROGRESS) {
            reader->ready = ready;
            reader->ready_context = context;
        }
        if (r < 0)
            return r;
        if (reader->rest.size == 0 &&
            (!reader->chunked || reader->next_chunk >= reader->list.count))
            return 0;
    }
}

void spool_reader_rewind(struct spool_reader *reader)
{
    reader->ready = NULL;
    reader->next_chunk = 0;
    reader->next_skip = 0;
    reader->position = 0;
    reader->rest = SLICE_NONE;
}

void spool_reader_close(struct spool_reader **reader)
{
    struct spool_reader *r = *reader;

    if (r == NULL)
        return;
    *reader = NULL;
    r->spool->readers--;
    r->closing = true;
    r->ready = NULL;
    if (!reader_busy(r)) {
        reader_free(r);
        return;
    }
    if (r->front.op.in_flight)
        ring_cancel(r->spool->shard->ring, &r->front.op);
    for (int i = 0; i < CHUNK_FETCHES; i++) {
        if (r->chunks[i].op.in_flight)
            ring_cancel(r->spool->shard->ring, &r->chunks[i].op);
    }
}
