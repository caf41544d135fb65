/* storage/maildir.h - local delivery into Maildir, exactly once, and the mailbox that POP3 reads.
 *
 * Exactly once without a sync per file, because the queue's log holds the message meanwhile:
 *   (1) maildir_batch_write() writes the batch's files to tmp/ under names made from the spool's
 *       uuid, the queue id and the unit, and makes them durable by one syncfs on a descriptor
 *       opened before the first write;
 *   (2) the caller makes DONE durable in the J log;
 *   (3) maildir_batch_publish() renames each into new/.
 * A delivery that failed unlinks its file. maildir_recover() at start publishes what lies in tmp/
 * under the spool's uuid and no longer waits in the queue, and removes what still waits (it will be
 * delivered again).
 *
 * Paths:  one directory per account below the mail root, "user" or "domain/user"; its name comes
 *         from the accounts table, never from an address. The mail root is one file system.
 * Blocks: everything here runs as a worker job or at boot (core/file.h), never on a shard.
 */
#ifndef KILAT_STORAGE_MAILDIR_H
#define KILAT_STORAGE_MAILDIR_H

#include "core/buf.h"
#include <sys/uio.h>

/* One file of a batch. All fields are the caller's and outlive the job. */
struct maildir_item {
    const char *directory; /* of the account, below the mail root: "debianindonesia.test/penulis" */
    uint8_t spool_uuid[16];
    uint64_t id;
    uint32_t unit;
    const struct iovec *pieces; /* the message as it is to be stored (Return-Path, head, body) */
    uint32_t piece_count;
    int result; /* of this item: 0 or -errno */
};

/* Step 1. Makes missing Maildirs (new, cur, tmp; 0700). Each item gets its `result`; when the
 * common sync fails, all items that were written fail with its error and their files are unlinked.
 * 0 when at least one item is durable, or -errno when none is. */
int maildir_batch_write(int root_dir_fd, struct maildir_item *items, size_t count);
/* Step 1 for one message that is too big to be in memory at once: begin, append its pieces in order
 * (`pieces` of the item are not used), end. The file is synced by itself. A failure of any of the
 * three unlinks it and closes `file`; abort does so without one. */
struct maildir_file {
    int fd; /* -1: closed */
    uint64_t bytes;
};
int maildir_file_begin(int root_dir_fd, const struct maildir_item *item, struct maildir_file *file);
int maildir_file_append(int root_dir_fd, const struct maildir_item *item, struct maildir_file *file,
                        struct slice bytes);
int maildir_file_end(int root_dir_fd, const struct maildir_item *item, struct maildir_file *file);
void maildir_file_abort(int root_dir_fd, const struct maildir_item *item,
                        struct maildir_file *file);
/* Step 3, for the items whose result is 0; sets result again. A file that is gone from tmp/ and
 * stands in new/ or cur/ was published before: 0. Renames need no sync: recovery repeats them. */
int maildir_batch_publish(int root_dir_fd, struct maildir_item *items, size_t count);
/* Instead of step 3, when DONE could not be made durable or the delivery failed for good: before
 * another outcome is recorded. A file already gone is 0. Returns the first error, and each item's in
 * `result`. */
int maildir_batch_unlink(int root_dir_fd, struct maildir_item *items, size_t count);

/* Walks all accounts, also those behind one that fails, and does with each file of the spool's as `fate` says: what is
 * still in the queue is removed, what is not is published. What this life of the server may be writing just now is left.
 * Beside a running server it is walked twice: a first job only asks and leaves (the names are collected), their fates are
 * looked up on the shard, a second job settles them. Returns files published (>= 0), or the first -errno. */
enum maildir_fate { MAILDIR_PUBLISH, MAILDIR_REMOVE, MAILDIR_LEAVE };
typedef enum maildir_fate maildir_fate_fn(void *context, uint64_t id, uint32_t unit);
int maildir_recover(int root_dir_fd, const uint8_t spool_uuid[16], maildir_fate_fn *fate,
                    void *context);

/* ---- the mailbox as POP3 sees it ------------------------------------------------------------- */

struct mailbox;
struct mailbox_message {
    uint64_t size_bytes;
    struct slice uid; /* from the file name, without what a Maildir reader adds behind ":"; at most
                         70 octets, hashed when longer */
};
/* Locks `directory` (a file .kilat-lock inside, open-file-description lock; another session of ours
 * or another process: -EBUSY), scans new/ and cur/, sorted by time and name so that the order is
 * stable. -ENOENT makes an empty Maildir. */
int mailbox_open(int root_dir_fd, const char *directory, struct mailbox **ret_mailbox);
uint32_t mailbox_count(const struct mailbox *mailbox);
struct mailbox_message mailbox_message(const struct mailbox *mailbox, uint32_t index);
/* Opens message `index` for reading (a job); the caller reads by ring_read and ring_close()s it. */
int mailbox_open_message(struct mailbox *mailbox, uint32_t index, int *ret_fd,
                         uint64_t *ret_size_bytes);
/* What lies in new/ and cur/ but is no regular file, or is more than a mailbox may hold: neither
 * shown nor followed. For the log. */
uint32_t mailbox_skipped_count(const struct mailbox *mailbox);
/* Unlinks the marked ones and syncs the directories: 0 only when durable. `deleted` has one bit a
 * message: bit `index % 8` of byte `index / 8`. A file already gone counts as deleted; after a
 * failure the others are unlinked all the same. */
int mailbox_delete(struct mailbox *mailbox, const uint8_t *deleted, uint32_t *ret_deleted_count);
/* Releases the lock. Accepts NULL, clears the pointer. */
void mailbox_close(struct mailbox **mailbox);

#endif
