/* storage/spool_image.h - the image of a queue that a checkpoint keeps: every unfinished message as recovery needs it,
 * without its envelope.
 *
 * A checkpoint is a row of blocks; each holds *texts* (names of destinations, reasons of failures) and *entries*, which
 * name texts by number. A text stands before the first entry that names it. The bytes are in storage/README.md,
 * Checkpoints. Pure: no I/O.
 *
 * Shard: any.
 */
#ifndef KILAT_STORAGE_SPOOL_IMAGE_H
#define KILAT_STORAGE_SPOOL_IMAGE_H

#include "storage/spool.h"

#define SPOOL_IMAGE_BLOCK_BYTES (1u << 20)
#define SPOOL_IMAGE_PAYLOAD_MAX (SPOOL_IMAGE_BLOCK_BYTES - 64u) /* the rest is the block's header */
#define SPOOL_IMAGE_TEXT_MAX 512u
#define SPOOL_IMAGE_UNITS_MAX 10000u

enum spool_image_text { SPOOL_TEXT_DESTINATION = 1, SPOOL_TEXT_REASON = 2 };

enum spool_image_item_flags {
    SPOOL_ITEM_FAILING = 1,  /* `reason` is final: a report is due */
    SPOOL_ITEM_EXPIRING = 2, /* its time is over: a report is due */
    SPOOL_ITEM_TRIED = 4,    /* next_s is a retry time, else it is ready at once */
    SPOOL_ITEM_IN_DOUBT = 8, /* its last attempt ended between the final dot and the answer */
};
/* The recipients of one destination; what `struct index_item` is in memory. */
struct spool_image_item {
    uint32_t destination; /* number of a text */
    uint32_t reason;      /* number of a text; 0: none */
    uint32_t next_s;      /* wall clock */
    uint16_t open_count;
    uint8_t attempts;
    uint8_t flags; /* enum spool_image_item_flags */
};

enum spool_image_entry_flags {
    SPOOL_ENTRY_HELD = 1,
    SPOOL_ENTRY_DAMAGED = 2, /* set aside: its record could not be read */
    SPOOL_ENTRY_CHUNKED = 4, /* its location is a COMMIT (or a RELOC of one) */
};
struct spool_image_entry {
    uint64_t id;
    struct spool_location location;
    uint32_t arrival_s;
    uint32_t size_bytes;                  /* of head and body; UINT32_MAX: that or more */
    uint16_t unit_count;                  /* 1..10000 */
    uint16_t item_count;                  /* 1 or more */
    uint8_t message_flags;                /* enum spool_flags */
    uint8_t flags;                        /* enum spool_image_entry_flags */
    uint8_t units_per_item;               /* the queue's own: recipients an item holds at most */
    const struct spool_image_item *items; /* in the order they were made */
    const uint8_t *open_bits; /* unit_count bits, lowest first: still open; NULL: all of them */
};

/* ---- writing one block ------------------------------------------------------------------------ */

struct spool_image {
    uint8_t *data; /* room for SPOOL_IMAGE_PAYLOAD_MAX */
    uint32_t used_bytes;
    uint32_t entry_count;
    /* Entries at or behind these places are left to the scan (QUEUE I14): the next byte that nothing was submitted for
     * when the checkpoint began, in the hot and in the cold lane. */
    struct spool_location hot_end, cold_end;
};
/* Does an entry at this place belong into the image? */
bool spool_image_wants(const struct spool_image *image, const struct spool_location *location);
/* False: the block is full, nothing was added; call again with the next one. `number` > 0. */
bool spool_image_add_text(struct spool_image *image, enum spool_image_text kind, uint32_t number,
                          const uint8_t status[3], struct slice text);
bool spool_image_add_entry(struct spool_image *image, const struct spool_image_entry *entry);

/* ---- reading one block ------------------------------------------------------------------------ */

struct spool_image_events {
    void *context;
    /* Another value than 0 ends the reading and is returned. Borrowed for the call. */
    int (*text)(void *context, enum spool_image_text kind, uint32_t number, const uint8_t status[3],
                struct slice text);
    int (*entry)(void *context, const struct spool_image_entry *entry);
};
/* Reads from `*offset` on, at most `count` texts and entries, and moves `*offset`. 0: go on or, at `size`, the end;
 * -EBADMSG: not a block of ours (nothing is trusted: sizes, counts and numbers are checked), or what an event returned. */
int spool_image_read(struct slice block, uint32_t *offset, uint32_t count,
                     const struct spool_image_events *events);

#endif
