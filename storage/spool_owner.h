/* storage/spool_owner.h - what a spool asks of, and tells, the one who knows its messages: the queue.
 *
 * The spool keeps bytes and counts which segments are still needed; which message lives, and what is known of its
 * recipients, only the queue knows. So recovery hands everything to the queue in the order of the logs (checkpoint
 * image, then D, then the cold lane, then J) and the queue applies it; a checkpoint is filled by the queue; a message
 * is copied to the cold lane only after the queue has said that it lives there.
 *
 * Live bytes: every place that the spool presents (image, found) or makes durable (append, relocated) counts as needed
 * until spool_release() is called for that very place. The queue calls it when a message is finished (its last note was
 * given to spool_note() before), and for the older place when the same id is presented again. The spool itself waits for
 * J to be durable past that point before the segment is used again (QUEUE I11).
 *
 * Shard: owner. All calls come from tasks of the shard, in slices of about a millisecond, never from within a call of
 * the queue's.
 */
#ifndef KILAT_STORAGE_SPOOL_OWNER_H
#define KILAT_STORAGE_SPOOL_OWNER_H

#include "storage/spool_image.h"

/* What J says of a message, in order of the log; absolute, so that applying it twice changes nothing (QUEUE I17). Ids
 * that the queue does not know mean nothing. */
struct spool_recovered_note {
    enum spool_note_kind kind;
    uint64_t id;
    uint32_t unit_first, unit_count;
    uint8_t outcome;
    uint8_t status[3];
    uint8_t attempts;
    bool in_doubt; /* DEFER */
    uint32_t next_s;
    struct slice text;
};

struct spool_owner {
    /* ---- recovery; another value than 0 ends it and is given to `restored` ---- */
    int (*text)(void *context, enum spool_image_text kind, uint32_t number, const uint8_t status[3],
                struct slice text);
    int (*image)(void *context, const struct spool_image_entry *entry);
    /* MSG, COMMIT or RELOC. `units` is NULL but for RELOC: all open. The same id again: this place is the newer one. */
    int (*found)(void *context, const struct spool_recovered_message *message);
    int (*noted)(void *context, const struct spool_recovered_note *note);
    /* All was handed over (0), or -errno with a sentence: the spool goes on accepting, but nothing of what it held
     * before may be attempted. From now on relocation and checkpoints may ask. */
    void (*restored)(void *context, int result, const struct spool_report *report,
                     struct slice error);

    /* ---- checkpoints (an owner without image_begin has none: each start scans everything) ---- */
    /* Goes to the first message. The table may change while it is filled: what lives all the time must be in it. */
    void (*image_begin)(void *context);
    /* Adds texts and entries to `image` from where the last call ended, those only that spool_image_wants(); true: the
     * block is full and there is more; false: that was all. */
    bool (*image_fill)(void *context, struct spool_image *image);
    void (*image_end)(void *context); /* done or given up */

    /* ---- relocation ---- */
    /* Does `id` live at `location`? Then fills in its units (all of them: done ones too) and the rest; the texts are
     * borrowed for the call. -ENOENT: no. -EBUSY: not now (an attempt is in hand). */
    int (*states)(void *context, uint64_t id, const struct spool_location *location,
                  struct slice envelope, struct spool_unit *units, uint32_t unit_count,
                  bool *ret_held, struct slice *ret_reason);
    /* A copy is durable at `to`: the queue takes it if `id` still lives at `from` (and releases `from`), else it
     * releases `to`. */
    void (*relocated)(void *context, uint64_t id, const struct spool_location *from,
                      const struct spool_location *to);
};

/* Once, before spool_restore(). `owner` must outlive the spool. */
void spool_set_owner(struct spool *spool, const struct spool_owner *owner, void *context);
/* Begins to bring back what earlier lives left, by jobs, while the spool accepts; `restored` ends it, unless spool_stop()
 * comes first. Nothing of a message of an earlier life may be attempted before. Once for each life. */
void spool_restore(struct spool *spool);
/* This place is not needed any more. */
void spool_release(struct spool *spool, uint64_t id, const struct spool_location *location);
/* Writes a checkpoint now, whatever the schedule says (an orderly stop does it by itself: the owner is asked until
 * `stopped`). `written` runs later with 0 or -errno, unless spool_stop() comes first. -EALREADY: one is being written;
 * -EAGAIN: earlier lives are not restored, or not all of them; -ENOTSUP: the owner has none. */
typedef void spool_checkpoint_fn(void *context, int result);
int spool_checkpoint(struct spool *spool, spool_checkpoint_fn *written, void *context);

#endif
