#include "bench/storage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/assert.h"
#include "core/clock.h"
#include "storage/spool_owner.h"

#define ENVELOPE_BYTES 160u /* what one sender and one recipient need, about */
#define HOT_BYTES_MAX (64 * MIB)
#define GATHER_BYTES_MAX (16 * MIB)
#define JOURNAL_FLUSH_MS 20
#define SPARE_SEGMENTS 2

struct storage_writer {
    struct storage_spool *storage;
    struct spool_append append;
    struct iovec body;
    uint64_t began_ns;
};

static const uint8_t envelope[ENVELOPE_BYTES]; /* the spool does not look into it */

static void next_message(struct storage_writer *writer);

static void complain(const char *what, int error)
{
    fprintf(stderr, "kilat-bench storage: %s: %s\n", what, strerror(-error));
    exit(1); /* there is nothing to measure */
}

/* Delivered, as far as the spool knows: noted lazily, and its place is free. */
static void finish_message(struct storage_writer *writer)
{
    struct spool *spool = writer->storage->spool;
    struct spool_note note = {
        .kind = SPOOL_NOTE_DONE, .id = writer->append.id, .unit_count = 1, .status = {2, 0, 0}};
    int r = spool_note(spool, &note);

    if (r < 0)
        complain("the journal", r);
    spool_release(spool, writer->append.id, &writer->append.location);
}

static void phase_ended(struct storage_spool *storage)
{
    struct spool_counters counters;

    spool_counters(storage->spool, &counters);
    storage->measured->writes = counters.groups - storage->groups_before;
    storage->measured->bytes = counters.group_bytes - storage->bytes_before;
    storage_measured_end(storage->measured);
    storage->done(storage->context);
}

static void appended(struct spool_append *append)
{
    struct storage_writer *writer = CONTAINER_OF(append, struct storage_writer, append);
    struct storage_spool *storage = writer->storage;
    uint64_t now_ns = clock_monotonic_ns();

    if (append->result < 0)
        complain("a message was not made durable", append->result);
    histogram_record(&storage->measured->latency, now_ns - writer->began_ns);
    storage->measured->messages++;
    finish_message(writer);
    if (now_ns < storage->until_ns)
        next_message(writer);
    else if (--storage->waiting == 0)
        phase_ended(storage);
}

static void next_message(struct storage_writer *writer)
{
    struct storage_spool *storage = writer->storage;
    int r;

    writer->body = (struct iovec){storage->body, (size_t)storage->body_bytes};
    writer->append = (struct spool_append){
        .id = spool_next_id(storage->spool),
        .envelope = slice_of(envelope, ENVELOPE_BYTES),
        .unit_count = 1,
        .body = &writer->body,
        .body_pieces = 1,
        .arrival_s = (uint32_t)(clock_wall_ns() / SECOND_NS),
        .done = appended,
    };
    list_node_init(&writer->append.node);
    writer->began_ns = clock_monotonic_ns();
    r = spool_append(storage->spool, &writer->append);
    if (r < 0)
        complain("a message was not taken", r);
}

int storage_spool_init(struct storage_spool *storage, struct shard *shard, const char *directory,
                       uint64_t body_bytes, uint64_t segment_bytes)
{
    struct spool_config config = {
        .segment_bytes = segment_bytes,
        .spare_segments = SPARE_SEGMENTS,
        .hot_bytes_max = HOT_BYTES_MAX,
        .gather_bytes_max = GATHER_BYTES_MAX,
        .journal_flush_ms = JOURNAL_FLUSH_MS,
        .force_file_system = true, /* whoever measures may measure what we would not run on */
    };
    struct spool_recovery *recovery = NULL;
    struct buf error;
    char path[4096];
    int r;

    *storage = (struct storage_spool){.shard = shard, .body_bytes = body_bytes};
    (void)snprintf(path, sizeof(path), "%s/spool", directory);
    config.path = path;
    storage->body = malloc((size_t)body_bytes);
    if (storage->body == NULL)
        return -ENOMEM;
    for (uint64_t i = 0; i < body_bytes; i++)
        storage->body[i] = i % 72 == 70 ? '\r' : i % 72 == 71 ? '\n' : (uint8_t)('a' + i % 26);
    buf_init(&error, 4 * KIB);
    r = spool_open(&config, &recovery, &error);
    if (r < 0)
        fprintf(stderr, "kilat-bench storage: %.*s\n", (int)error.size, (const char *)error.data);
    buf_deinit(&error);
    return r < 0 ? r : spool_start(shard, &recovery, &storage->spool);
}

void storage_spool_run(struct storage_spool *storage, uint64_t writers, double seconds,
                       struct storage_measured *measured, void (*done)(void *context),
                       void *context)
{
    struct spool_counters counters;

    spool_counters(storage->spool, &counters);
    storage->groups_before = counters.groups;
    storage->bytes_before = counters.group_bytes;
    free(storage->writers);
    storage->writers = calloc((size_t)writers, sizeof(*storage->writers));
    if (storage->writers == NULL)
        complain("the writers", -ENOMEM);
    storage->writer_count = storage->waiting = writers;
    storage->measured = measured;
    storage->done = done;
    storage->context = context;
    storage->until_ns = clock_monotonic_ns() + (uint64_t)(seconds * (double)SECOND_NS);
    storage_measured_begin(measured);
    for (uint64_t i = 0; i < writers; i++) {
        storage->writers[i].storage = storage;
        next_message(&storage->writers[i]);
    }
}

static void spool_stopped(void *context)
{
    struct storage_spool *storage = context;

    storage->done(storage->context);
}

void storage_spool_stop(struct storage_spool *storage, void (*stopped)(void *context),
                        void *context)
{
    storage->done = stopped;
    storage->context = context;
    spool_stop(storage->spool, spool_stopped, storage);
}
