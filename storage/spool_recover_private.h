/* storage/spool_recover_private.h - what the three steps of recovery share: scan
 * (spool_recover.c), replay (spool_replay.c), and getting ready to append (spool_recycle.c).
 *
 * A full scan: J, then D, then what J says laid over what D holds. In memory stand 24 bytes for
 * each message of D and 32 for each note of J; envelopes are read again for those that are not
 * finished. */
#ifndef KILAT_STORAGE_SPOOL_RECOVER_PRIVATE_H
#define KILAT_STORAGE_SPOOL_RECOVER_PRIVATE_H

#include "storage/spool_private.h"

struct spool_found { /* a MSG or COMMIT of D */
    uint64_t id;
    uint32_t segment, offset_16;
    uint32_t unit_count;
    uint8_t type;
    bool suspect; /* its envelope verifies and its body does not */
};
struct spool_found_chunk {
    uint32_t segment, offset_16, body_bytes, body_crc;
};
struct spool_found_note {
    uint64_t id;
    uint32_t segment, offset_16;
    uint32_t unit_first, unit_count;
    uint32_t next_s;
    uint8_t type, attempts;
};

struct spool_array {
    void *items;
    size_t count, capacity, item_bytes;
};

/* A file that is read through one descriptor, reopened when another segment's turn comes. */
struct spool_source {
    int dir_fd;
    char stream;
    uint32_t number;
    int fd; /* -1: none */
};

struct spool_recover_run {
    struct spool_recovery *recovery;
    struct spool_array found, chunks, notes;
    size_t suspects_from;                 /* in `found`: what the next resolved() speaks of */
    struct spool_recovery_stream *stream; /* being scanned */
    uint64_t highest_counter;
    bool any_id;
    int error;
    uint8_t *window;
    struct spool_source d, j;
    uint64_t window_offset;
    size_t window_bytes;
    struct spool_unit *units;
    uint32_t unit_capacity;
    spool_recover_fn *each;
    void *context;
    struct spool_report *report;
};

/* A zeroed place at the end is not promised. NULL: no memory. */
void *spool_array_add(struct spool_array *array);

/* Calls run->each for every message that is not finished and marks the segments it needs. 0,
 * -errno, or what `each` returned. */
int spool_replay(struct spool_recover_run *run);
/* Recycles what is dead, reserves epoch and ids in SUPER, sees to a first spare of each kind. */
int spool_recover_finish(struct spool_recover_run *run);

#endif
