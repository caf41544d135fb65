/* storage/spool_inspect_private.h - what the steps of an inspection share: open and scan (spool_inspect.c), replay
 * (spool_inspect_replay.c), reading a message (spool_inspect_read.c). */
#ifndef KILAT_STORAGE_SPOOL_INSPECT_PRIVATE_H
#define KILAT_STORAGE_SPOOL_INSPECT_PRIVATE_H

#include "storage/spool_inspect.h"
#include "storage/spool_private.h"

struct inspect_array {
    void *items;
    size_t count, capacity, item_bytes;
};
/* A place at the end. NULL: no memory. */
void *inspect_array_add(struct inspect_array *array);

struct inspect_segment {
    char stream;
    uint32_t number;
    uint32_t seed;
    uint64_t size_bytes;
};

struct inspect_message { /* MSG, COMMIT or RELOC, or named by a checkpoint */
    uint64_t id;
    uint64_t order; /* of finding: a later one of the same id counts */
    struct spool_location location;
    uint32_t unit_count;
    uint32_t state; /* 1 + its place in `states`; 0: all its units are open */
    bool suspect;   /* its envelope verifies and its body does not */
};

struct inspect_note {
    uint64_t id;
    uint64_t order;
    uint32_t segment, offset_16;
    uint32_t unit_first, unit_count;
    uint32_t next_s;
    uint8_t type, attempts;
};

/* What a checkpoint or a RELOC says of a message's units: where J goes on from. */
struct inspect_state {
    size_t unit_first;               /* in `state_units` */
    uint32_t reason_at, reason_size; /* in `texts` */
    bool held;
};

struct inspect_text {
    uint32_t number;
    uint32_t at, size; /* in `texts` */
};

struct spool_inspect {
    char *path;
    int dir_fd;
    struct spool_super super;
    struct inspect_array segments; /* by stream (J, D, R), then number */
    struct inspect_array messages, notes;
    struct inspect_array states, state_units, reasons;
    struct buf texts;
    struct spool_super_checkpoint from; /* the tails begin here; number 0: all is tail */
    size_t suspects_from;               /* in `messages`: what the next resolved() speaks of */
    bool replayed;                      /* messages and notes are in order of id */
    uint8_t *window;                    /* SPOOL_SCAN_WINDOW_BYTES */
    struct spool_inspect_totals totals;
    /* while scanning */
    const struct spool_inspect_events *events;
    struct spool_scan_chain chain;
    struct inspect_segment *current;
    uint64_t current_records;
    uint64_t order;
    int error;
    /* the segment file that was read last */
    const struct inspect_segment *open_segment;
    int open_fd;
    struct spool_unit *units;
    uint32_t unit_capacity;
};

const struct inspect_segment *inspect_segment_find(const struct spool_inspect *inspect, char stream,
                                                   uint32_t number);
void inspect_damage(struct spool_inspect *inspect, char stream, uint32_t segment, uint64_t offset,
                    bool torn, const char *what);
/* Gives `message` a state of its own; its units are zeroed, to be filled in at once. NULL: no memory. */
struct spool_unit *inspect_state_add(struct spool_inspect *inspect, struct inspect_message *message,
                                     bool held, uint32_t reason_at, uint32_t reason_size);
/* The newest checkpoint that verifies, if any; the damage of others is told. 0 or -ENOMEM. */
int inspect_image(struct spool_inspect *inspect);
/* `size` bytes of a segment. 0 or -errno (-ENODATA: the file ends before). */
int inspect_read(struct spool_inspect *inspect, const struct inspect_segment *segment, void *to,
                 size_t size, uint64_t offset);
/* A record of D or, with SPOOL_COLD in the number, R that verifies, header and front, read into `window`. 0, -EBADMSG or
 * -errno. */
int inspect_record(struct spool_inspect *inspect, uint32_t segment_number, uint64_t offset,
                   struct spool_record *ret_record, struct spool_sections *ret_sections);
static inline bool inspect_is_chunked(const struct spool_record *record)
{
    return record->type == SPOOL_COMMIT ||
           (record->type == SPOOL_RELOC && (record->flags & SPOOL_RELOC_CHUNKED) != 0);
}
/* Do all its chunks verify (QUEUE I6)? -EBADMSG: no. */
int inspect_chunks_ok(struct spool_inspect *inspect, const struct spool_chunk_list *list);

#endif
