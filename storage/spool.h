/* storage/spool.h - one partition of the queue on disk: D log (envelopes and bodies) and J log
 * (what became of them).
 *
 * A spool is a directory owned by exactly one shard. The formats, byte by byte, and the crash table
 * are in storage/README.md; the reasons in QUEUE: records in groups that start on 4 KiB, one write
 * with RWF_DSYNC per group into segments whose blocks were written before, one group in flight
 * while the next gathers, no timer. A 250 waits for spool_append's `done` and for nothing else.
 *
 * Opaque to this layer: the envelope (queue/envelope.h encodes it). Known here: how many units it
 * has, since J records name units (a recipient's index in the envelope).
 *
 * Shard: owner, but for spool_open(), which blocks and runs at boot or as a job before the owner
 * starts.
 */
#ifndef KILAT_STORAGE_SPOOL_H
#define KILAT_STORAGE_SPOOL_H

#include "core/buf.h"
#include "core/shard.h"

struct spool;

#define SPOOL_INLINE_BODY_MAX (64 * KIB) /* larger bodies arrive as chunks */
#define SPOOL_CHUNK_BYTES_MAX                                                                      \
    (256 * KIB) /* of one spool_upload_chunk(), which a reader verifies as a whole */
#define SPOOL_UUID_BYTES 16
#define SPOOL_ID_TEXT_SIZE 16 /* 13 base32 digits, a check character, the NUL */

/* Message ids: spool number (10 bits) and counter (54 bits), never assigned twice (QUEUE I23).
 * Shown to people in Crockford base32 with a check character; parsing refuses a wrong one. */
void spool_id_format(uint64_t id, char text[SPOOL_ID_TEXT_SIZE]);
bool spool_id_parse(struct slice text, uint64_t *ret_id);

#define SPOOL_COLD 0x80000000u /* in a segment's number: of the cold lane (R-%08x) */

/* Where a MSG, COMMIT or RELOC record lies. */
struct spool_location {
    uint32_t segment;      /* number of the D segment, with SPOOL_COLD of the R segment */
    uint32_t offset_16;    /* of the record header, in units of 16 bytes */
    uint32_t record_bytes; /* header, envelope, head and body (MSG) or chunk list (COMMIT) */
};

/* ---- opening -------------------------------------------------------------------------------- */

#define SPOOL_SCRUB_NEVER UINT32_MAX

struct spool_config {
    const char *path;        /* the spool's directory; made when missing (its parent must exist) */
    uint32_t number;         /* 0..1023, the high bits of its ids */
    uint64_t segment_bytes;  /* D: 1M..1G, whole MiB; smaller than 2M is taken as 2M, the least
                                  that holds a full group; J segments are a quarter, at least 2M */
    uint32_t spare_segments; /* prewritten ahead of need: 1 or more */
    uint64_t hot_bytes_max;  /* group memory kept for sending; beyond it bodies are read again */
    uint64_t gather_bytes_max; /* groups not yet durable; beyond it appends answer -EAGAIN */
    uint32_t journal_flush_ms; /* J is flushed lazily after this (20) or 64 KiB */
    /* What is left of a segment this old is copied to the cold lane (0: 600), when it is less than so much (0: 30). */
    uint32_t reclaim_after_s, reclaim_live_percent;
    uint32_t
        scrub_kib_per_s; /* how fast sealed segments are read to find damage; 0: 1024; SPOOL_SCRUB_NEVER */
    /* Of the file system: accepting leaves them, besides what the spool itself keeps in reserve. */
    uint64_t keep_free_bytes;
    /* A checkpoint is written when so much was appended to the logs since the last one (0: 256 MiB), or after this, if
     * anything was (0: 60 s). */
    uint64_t checkpoint_bytes;
    uint32_t checkpoint_ms;
    bool force_file_system; /* accept tmpfs and others than ext4 and XFS */
    bool buffered;          /* never try O_DIRECT (tests of the fallback) */
    int32_t owner_pid;      /* written to LOCK, for what a second process is told; 0: none */
};

/* State of one unit in a RELOC. */
enum spool_unit_state { SPOOL_UNIT_WAITING, SPOOL_UNIT_DONE };
struct spool_unit {
    uint8_t state; /* enum spool_unit_state */
    uint8_t attempts;
    bool in_doubt;   /* its last attempt ended between the final dot and the answer */
    uint32_t next_s; /* wall clock; 0: now */
};

/* One message found in a log by spool_restore(), finished by a later record or not. Borrowed for the call. */
struct spool_recovered_message {
    uint64_t id;
    struct spool_location location;
    struct slice envelope;
    uint32_t head_bytes;
    uint64_t body_bytes;
    uint32_t arrival_s;
    uint8_t flags; /* enum spool_flags */
    bool held;
    bool chunked; /* its location is a COMMIT, or the RELOC of one */
    const struct spool_unit *units;
    uint32_t unit_count;
    struct slice reason; /* text of the newest DEFER */
};

enum spool_flags {
    SPOOL_DOT_LINES = 1, /* a line of head or body begins with ".": stuff it while sending */
    SPOOL_EIGHT_BIT = 2,
    SPOOL_NO_FINAL_CRLF = 4,
    SPOOL_REPORT = 8, /* a report of ours: never reported upon */
};

struct spool_recovery; /* owned by the caller until spool_start() takes it */
/* What spool_restore() did. */
struct spool_report {
    uint64_t messages, bytes_scanned, groups, damaged_records, torn_groups;
    uint64_t microseconds;
    /* `messages` and `notes` are those of the logs, `entries` those of the checkpoint. */
    uint64_t checkpoint; /* its number; 0: none, everything was scanned */
    uint64_t entries, notes;
    uint32_t checkpoints_lost; /* that SUPER names and that did not verify */
};
void spool_recovery_destroy(struct spool_recovery **recovery); /* instead of spool_start() */

/* Opens without reading the logs: locks the directory, reads SUPER, reserves epoch and ids, sees to first segments. Ready
 * in milliseconds, however much the spool holds; what it holds comes by spool_restore() (spool_owner.h) once it runs. An
 * adopted spool (one whose shard is gone) is opened in the same way. 0 or -errno, with one sentence in `error`. Blocks:
 * at boot or in a job. */
int spool_open(const struct spool_config *config, struct spool_recovery **ret_recovery,
               struct buf *error);

/* Takes `*recovery` and is ready to append at once. 0 or -errno. Shard: becomes the owner. */
int spool_start(struct shard *shard, struct spool_recovery **recovery, struct spool **ret_spool);
/* Flushes what gathers and J, writes a last checkpoint when something has changed, then calls `stopped`; appends are refused with -ESHUTDOWN from now
 * on. Uploads not yet appended are the caller's to abort, readers to close. */
typedef void spool_stopped_fn(void *context);
void spool_stop(struct spool *spool, spool_stopped_fn *stopped, void *context);
/* After `stopped`. Releases the lock. */
void spool_destroy(struct spool **spool);

const uint8_t *spool_uuid(const struct spool *spool); /* SPOOL_UUID_BYTES */
/* How far SUPER has come, durably; the sequence grows with each of its writes. */
void spool_progress(const struct spool *spool, uint64_t *ret_epoch, uint64_t *ret_sequence);
uint64_t spool_next_id(struct spool *spool); /* a fresh message id */
/* The first id it will give out. */
uint64_t spool_recovery_counter(const struct spool_recovery *recovery);

/* ---- accepting ------------------------------------------------------------------------------ */

/* A range of the body that is kept as received and left out when it is read (a forged field,
 * Bcc). */
struct spool_skip {
    uint32_t offset, bytes;
};

struct spool_upload;
struct spool_append;
/* Runs in a later tick, in the order of the appends. result 0: durable (QUEUE I2, I3). Otherwise
 * -errno: the message may not be answered with 250; an ABORT was written (QUEUE I26). */
typedef void spool_append_fn(struct spool_append *append);

/* What a 250 promises (docs: durability). */
enum spool_durability {
    SPOOL_SYNCED, /* on stable storage */
    SPOOL_CACHED, /* written, not flushed: survives the process, not the machine. Waits for no flush; a later SYNCED one
                     covers it. */
};

struct spool_append { /* embedded in the caller's transaction; the fields are filled in before the
                         call */
    uint64_t id;      /* of spool_next_id() */
    struct slice envelope; /* at most 512 KiB; longer is -E2BIG */
    uint32_t unit_count;
    struct slice head;        /* our own header fields, in front of the body */
    const struct iovec *body; /* pieces, in order; copied within the call (the one copy) */
    uint32_t body_pieces;
    struct spool_upload *upload;    /* instead of `body`: it came in chunks; ended by this append */
    const struct spool_skip *skips; /* ascending, not overlapping, inside the body; at most 1024 */
    uint32_t skip_count;
    uint8_t flags;      /* enum spool_flags */
    uint8_t durability; /* enum spool_durability */
    uint32_t arrival_s; /* wall clock */
    spool_append_fn *done;
    int result;
    struct spool_location location;    /* set before `done` */
    uint64_t body_bytes;               /* set by the call: what a reader hands out, without skips */
    struct list_node node;             /* private */
    struct spool_live_message *chunks; /* private */
};
/* Copies everything within the call; the slices need not outlive it. 0: `done` follows, and an
 * upload is taken (`upload` is NULL then). -EAGAIN: too much gathers (wait with
 * spool_await_room()), -ENOSPC, -E2BIG, -EIO (no segment can be written, or J is not available),
 * -ENOMEM: nothing happened. */
int spool_append(struct spool *spool, struct spool_append *append);
/* Would an ordinary message be taken now, as far as disk and J are concerned? 0, -ENOSPC, -EIO, -ESHUTDOWN. For MAIL; it
 * promises nothing. SPOOL_REPORT appends may still be taken from the reserve. */
int spool_ready(const struct spool *spool);

/* A body over 64 KiB: CHUNK records into the normal groups, without waiting for a sync; only
 * COMMIT, written by spool_append() with `upload` after all chunk writes have completed, makes the
 * message exist (QUEUE I6). */
int spool_upload_begin(struct spool *spool, uint64_t id, struct spool_upload **ret_upload);
/* Copies within the call: 1 byte to SPOOL_CHUNK_BYTES_MAX. 0, or -EAGAIN and the like as above. */
int spool_upload_chunk(struct spool_upload *upload, const struct iovec *pieces,
                       uint32_t piece_count);
uint64_t spool_upload_bytes(const struct spool_upload *upload);
void spool_upload_abort(struct spool_upload **upload); /* accepts NULL */

struct spool_waiter {
    void (*ready)(struct spool_waiter *waiter);
    struct list_node node; /* private; initialise with list_node_init() */
};
/* Called once when there is room again. */
void spool_await_room(struct spool *spool, struct spool_waiter *waiter);
void spool_cancel_wait(struct spool_waiter *waiter);

/* ---- reading -------------------------------------------------------------------------------- */

/* Reads one message: from group memory while it is hot, otherwise from disk, big ones window by
 * window. */
struct spool_reader;
typedef void spool_reader_fn(void *context, int result);

struct spool_reader_info {
    uint64_t id;
    struct slice envelope; /* borrowed until spool_reader_close() */
    struct slice head;     /* likewise */
    uint64_t body_bytes;
    uint8_t flags;
    uint32_t arrival_s;
    bool hot; /* no disk read was needed */
};
/* `opened` runs in a later tick or, when hot, before the call returns: 0, or -EIO / -EBADMSG
 * (checksum) after one re-read. */
int spool_reader_open(struct spool *spool, const struct spool_location *location,
                      spool_reader_fn *opened, void *context, struct spool_reader **ret_reader);
const struct spool_reader_info *spool_reader_info(const struct spool_reader *reader);
/* The next piece of the body (not the head). 1: `*ret_piece` is it, borrowed until the next call or
 * close; 0 with an empty piece: the end; -EINPROGRESS: `ready` follows, then call again; -EIO,
 * -EBADMSG. */
int spool_reader_next(struct spool_reader *reader, struct slice *ret_piece, spool_reader_fn *ready,
                      void *context);
/* Starts over with the first piece (another attempt of the same message). */
void spool_reader_rewind(struct spool_reader *reader);
/* Cancels what is in flight; its memory goes when the kernel has let go. Accepts NULL. */
void spool_reader_close(struct spool_reader **reader);

/* ---- what became of it (J) ------------------------------------------------------------------ */

enum spool_note_kind {
    SPOOL_NOTE_DONE,
    SPOOL_NOTE_DEFER,
    SPOOL_NOTE_HOLD,
    SPOOL_NOTE_RELEASE,
    SPOOL_NOTE_ABORT
};
enum spool_note_outcome { SPOOL_DELIVERED, SPOOL_BOUNCED, SPOOL_EXPIRED, SPOOL_REMOVED };

struct spool_note;
typedef void spool_note_fn(struct spool_note *note);
/* Small and absolute (QUEUE I17). With `durable` NULL the caller forgets it at once; otherwise J is
 * flushed soon and `durable` runs in a later tick with `result`; the note is lent until then. */
struct spool_note {
    enum spool_note_kind kind;
    uint64_t id;
    uint32_t unit_first, unit_count;
    uint8_t outcome;   /* DONE: enum spool_note_outcome */
    uint8_t status[3]; /* DONE, DEFER: enhanced code */
    uint8_t attempts;  /* DEFER */
    bool in_doubt;     /* DEFER: the final dot was sent and its answer never came */
    uint32_t next_s;   /* DEFER: wall clock */
    struct slice text; /* DEFER: the reason, at most 512 bytes are kept; borrowed for the call */
    spool_note_fn *durable;
    int result;
    struct list_node node; /* private */
};
/* 0, or -errno: J is not available: no new attempt may start (QUEUE I21). */
int spool_note(struct spool *spool, struct spool_note *note);
bool spool_journal_ok(const struct spool *spool);

/* ---- watching ------------------------------------------------------------------------------- */

struct spool_counters {
    uint64_t appended, append_failures, groups, group_bytes, journal_flushes, journal_bytes;
    uint64_t body_copied_bytes; /* by the one function that copies bodies */
    uint64_t body_bytes;        /* of the messages appended: copies per byte = the ratio */
    uint64_t reads_hot, reads_cold, reads_repeated, damaged;
    uint64_t hot_bytes, segments, spare_segments, disk_bytes;
    uint64_t groups_cached;   /* of `groups`: acknowledged without a flush */
    uint64_t flushes;         /* syncs besides the writes that are durable by themselves */
    uint64_t relocated;       /* messages copied to the cold lane */
    uint64_t relocated_bytes; /* written to the cold lane */
    uint64_t live_bytes;      /* of records that are needed */
    uint64_t checkpoints, checkpoint_failures, checkpoint_bytes; /* written in this life */
    uint64_t segments_cold,
        segments_damaged; /* of `segments`: of the cold lane; damaged and still needed */
    uint64_t scrubbed_bytes, scrub_damaged; /* read to find damage; found in this way */
    uint64_t segments_reused;               /* became spares again while running */
    uint64_t segments_removed;              /* were not needed as spares either */
    uint64_t segments_set_aside;            /* damaged: moved to quarantine/ */
    bool spare_low; /* the disk is full: accepting has come to what it leaves to others */
    bool direct;    /* O_DIRECT + RWF_DSYNC, otherwise write + fdatasync */
};
void spool_counters(const struct spool *spool, struct spool_counters *ret_counters);

#endif
