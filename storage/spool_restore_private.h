/* storage/spool_restore_private.h - what brings back earlier lives: jobs that read (spool_restore_read.c) into batches,
 * and the shard that hands them to the owner in slices (spool_restore.c).
 *
 * There are two batches: while the shard applies one, a job fills the other. Whoever has a batch has it alone. */
#ifndef KILAT_STORAGE_SPOOL_RESTORE_PRIVATE_H
#define KILAT_STORAGE_SPOOL_RESTORE_PRIVATE_H

#include "storage/spool_private.h"

/* A message of D or R; the places are in the batch's bytes. */
struct restore_message {
    struct spool_recovered_message message; /* without its slices and units */
    size_t envelope_at, units_at, reason_at, list_at;
    uint32_t envelope_bytes, reason_bytes, list_bytes;
    bool has_units;
};
struct restore_note {
    struct spool_recovered_note note; /* without its text */
    size_t text_at;
    uint32_t text_bytes;
};
struct restore_damage {
    uint32_t segment;
    uint64_t offset;
};

struct restore_batch {
    uint8_t *bytes;
    size_t used_bytes, capacity_bytes;
    struct restore_message *messages;
    uint32_t message_count, message_capacity;
    struct restore_note *notes;
    uint32_t note_count, note_capacity;
    struct restore_damage *damage;
    uint32_t damage_count, damage_capacity;
    bool full; /* the shard's turn */
    bool last; /* of its phase */
    /* how far the shard is */
    uint32_t applied;
    uint32_t image_offset;
};

enum restore_phase {
    RESTORE_VERIFY, /* is there a checkpoint to believe? */
    RESTORE_IMAGE,
    RESTORE_D,
    RESTORE_R,
    RESTORE_J,
    RESTORE_CHUNKS, /* which segments the chunks of big messages lie in */
    RESTORE_OVER
};

struct spool_restore {
    struct spool *spool;
    /* for the jobs */
    const char *path;
    uint8_t uuid[SPOOL_UUID_BYTES];
    int dir_fd;
    enum restore_phase phase;
    struct ring_op op;
    struct shard_task task;
    struct restore_batch batches[2];
    uint32_t fill, apply;
    bool source_ended; /* no more jobs in this phase */
    int error;
    char sentence[200]; /* why */
    uint64_t began_ns;
    struct spool_report report;
    /* the checkpoint */
    struct spool_super_checkpoint candidates[2], from; /* `from`: the one that counts, or zero */
    uint32_t candidate;
    int image_fd;
    uint32_t block_index;
    uint64_t entries;
    /* the logs: numbers of the segments that were there */
    char stream;
    uint32_t *segments;
    uint32_t segment_count, segment_index;
    struct spool_place begin;
    struct spool_scan scan;
    struct spool_scan_chain chain;
    bool scanning; /* scan_fd is open */
    int scan_fd;
    uint8_t *window;
    struct restore_batch
        held; /* of the scan: messages whose body does not verify, until it is known why */
    struct restore_batch *into;
    bool read_errors; /* the disk refused something, which may be there the next time */
    int job_error;    /* no memory, while events ran */
    /* one COMMIT */
    uint32_t cursor;
    struct spool_location place;
};

/* Jobs. The result is 0, or -errno that ends the recovery. */
/* A few blocks of the candidate: 0: go on; 1: all of it verified; -errno: it cannot be believed. */
int spool_restore_verify_job(struct ring_op *op);
/* The next block into the batch. */
int spool_restore_image_job(struct ring_op *op);
/* The next records of the stream into the batch. */
int spool_restore_scan_job(struct ring_op *op);
/* The chunk list of `place` into the batch; an empty batch when its record is damaged for good. */
int spool_restore_chunks_job(struct ring_op *op);

void spool_restore_batch_clear(struct restore_batch *batch);
void spool_restore_batch_free(struct restore_batch *batch);
void spool_restore_close(struct spool_restore *restore);

#endif
