/* storage/spool_private.h - the inside of a running spool, for the spool_*.c files alone.
 *
 * A spool has two logs, D and J; a log is a stream of groups written one after the other into
 * segments. Records gather in the log's open group; a closed group is sealed (checksums for its
 * place) and written; its completion runs what waits for it. Groups of D stay in memory while
 * they are hot.
 *
 * Shard: owner, but for functions marked `job`, which run on a worker or at boot and touch only
 * their arguments. */
#ifndef KILAT_STORAGE_SPOOL_PRIVATE_H
#define KILAT_STORAGE_SPOOL_PRIVATE_H

#include "core/assert.h"
#include "core/file.h"
#include "storage/spool_owner.h"
#include "storage/spool_record.h"

#define SPOOL_NAME_SIZE 24
#define SPOOL_ID_COUNTER_BITS 54
#define SPOOL_ID_COUNTER_MASK ((1ull << SPOOL_ID_COUNTER_BITS) - 1)
#define SPOOL_ID_GAP (1ull << 28)
#define SPOOL_RETRY_MS 1000 /* after a full disk or a broken one */

/* ---- directory, LOCK, SUPER (spool_super.c) ------------------------------------------------- */

struct spool_directory {
    int dir_fd, spare_fd, lock_fd;
    struct spool_super super;
    bool fresh;      /* made just now */
    bool super_lost; /* a slot of SUPER did not verify */
};
/* Job. Opens or makes the spool and locks it. 0, or -errno with a sentence in `error` and nothing
 * left open. */
int spool_directory_open(const struct spool_config *config, struct spool_directory *directory,
                         struct buf *error);
void spool_directory_close(struct spool_directory *directory);
/* The slot that counts. 0; -EBADMSG: both are damaged; -errno. */
int spool_super_read(int dir_fd, struct spool_super *ret_super);
/* Job. Writes `super` with the next sequence into the other slot and syncs. */
int spool_super_write(int dir_fd, struct spool_super *super);

/* ---- segments (spool_segment.c) ------------------------------------------------------------- */

struct spool_log;
struct spool_group;
struct spool_chunk_ref;
struct spool_maker;

/* Waits until a segment can be read. */
struct spool_segment_waiter {
    struct list_node node;
    void (*ready)(struct spool_segment_waiter *waiter, int result);
};

struct spool_hot_slot {
    uint32_t offset_block;
    struct spool_group *group; /* NULL: dropped */
};

/* One D or J segment of a running spool. */
struct spool_segment {
    struct spool *spool;
    uint32_t number;
    char stream;
    uint64_t size_bytes;
    uint64_t used_bytes; /* where the next group goes */
    uint32_t seed;
    uint64_t incarnation;
    bool seedless;     /* of an earlier life and not read yet: the first opening finds the seed */
    uint32_t seed_job; /* the job's */
    int fd;            /* -1 while nobody reads or writes it */
    uint32_t pins;     /* operations in flight on fd */
    struct list_node idle_node; /* of spool->idle_segments: open, not pinned, not written */
    struct ring_op open_op;
    struct list_node waiters;
    /* what is still needed of it (spool_live.c) */
    uint32_t live_count; /* places presented or durable and not released, chunks among them */
    uint64_t live_bytes;
    uint32_t holds;          /* readers that may read from it again */
    uint64_t journal_needed; /* groups of J that must be durable before it is used again */
    uint64_t sealed_ns;      /* since when nothing is appended to it */
    bool sealed;
    bool earlier;               /* of an earlier life, and not all of that has been presented yet */
    bool damaged;               /* goes to quarantine/ instead of being used again */
    uint64_t scrubbed_ns;       /* 0: never */
    uint64_t relocate_ns;       /* not before: what lives there could not be moved just now */
    bool failed;                /* a write to it failed: its blocks are not used again */
    struct list_node dead_node; /* of spool->dead_segments: nothing on it is needed */
    /* groups in memory, ascending by place */
    struct spool_hot_slot *hot;
    uint32_t hot_count, hot_capacity, hot_live;
};

void spool_segment_name(char stream, uint32_t number, char name[SPOOL_NAME_SIZE]);
/* False when `name` is none of a segment of `stream`. In spare/ the letter is small. */
bool spool_segment_name_parse(const char *name, char stream, uint32_t *ret_number);

/* Job. Opens with O_DIRECT, or without when `direct` is false. */
int spool_segment_open(int dir_fd, const char *name, bool direct, int *ret_fd);
/* Job. Makes spare/name.new. */
int spool_spare_create(int spare_fd, bool direct, const char *name, int *ret_fd);
/* Job. Closes it and takes it away. */
void spool_spare_abandon(int spare_fd, int fd, const char *name);
/* Job. Writes zeros from `offset`, at most `step_bytes`. */
int spool_spare_fill(int fd, uint64_t offset, uint64_t step_bytes, uint64_t size_bytes);
/* Job. The file, then its name without ".new". Takes `fd`. */
int spool_spare_finish(int spare_fd, int fd, const char *name);
/* Job. All of a spare at once, at boot. */
int spool_spare_make(int spare_fd, bool direct, char stream, uint32_t number, uint64_t size_bytes);
/* Job. Turns spare `spare_name` into segment header->number; header->incarnation is set. */
int spool_segment_activate(int dir_fd, int spare_fd, const char *spare_name, bool direct,
                           struct spool_segment_header *header, int *ret_fd);

/* The segment table of a running spool. */
int spool_segment_add(struct spool *spool, char stream, uint32_t number, uint64_t size_bytes,
                      int fd, struct spool_segment **ret_segment);
struct spool_segment *spool_segment_find(struct spool *spool, uint32_t number);
void spool_segment_free(struct spool_segment *segment);
/* 0: segment->fd is open and pinned. -EINPROGRESS: `waiter->ready` follows, pinned when its
 * result is 0. */
int spool_segment_pin(struct spool_segment *segment, struct spool_segment_waiter *waiter);
void spool_segment_unpin(struct spool_segment *segment);
/* Out of the table: nobody finds it from now on. */
void spool_segment_remove(struct spool_segment *segment);
/* Closes it, if it is open and nobody uses it. */
void spool_segment_close(struct spool_segment *segment);
/* A reader has not done with it: it stays as it is, opened or not. */
void spool_segment_hold(struct spool_segment *segment);
void spool_segment_unhold(struct spool_segment *segment);

/* ---- what is still needed (spool_live.c) ----------------------------------------------------- */

/* The chunks of one place of a COMMIT, or of a RELOC of one. */
struct spool_live_part {
    uint32_t segment, count;
    uint64_t bytes;
};
struct spool_live_message {
    struct spool_live_message *next; /* of its bucket */
    uint64_t id;
    struct spool_location location;
    bool known; /* its parts are */
    uint32_t part_count, part_capacity;
    struct spool_live_part *parts;
};
struct spool_live {
    struct spool_live_message **buckets;
    uint32_t bucket_count, count;
    bool
        lost; /* no memory once: nothing is used again in this life, as nobody knows what is needed */
};

/* `location` was presented (image, found), or became durable: it is needed until spool_release().
 * `chunked`: it is a COMMIT or the RELOC of one; its chunks are to follow by spool_live_chunks(). Adds nothing for a
 * segment that is not there. */
void spool_live_add(struct spool *spool, uint64_t id, const struct spool_location *location,
                    bool chunked);
/* What a chunked place consists of. Nothing when it was released meanwhile, or when it is known already. */
void spool_live_chunks(struct spool *spool, const struct spool_location *location,
                       const struct spool_chunk_list *list);
/* A chunked place whose chunks nobody has told yet; `*cursor` begins with 0. False: there is none. Places are neither
 * added nor released between two calls with one cursor. */
bool spool_live_next_unknown(struct spool *spool, uint32_t *cursor, uint64_t *ret_id,
                             struct spool_location *ret_location);
/* Every chunked place that has chunks in a segment. */
typedef void spool_live_each_fn(void *context, uint64_t id, const struct spool_location *location);
void spool_live_each_in(struct spool *spool, uint32_t segment, spool_live_each_fn *each,
                        void *context);
/* All of earlier lives was presented and the chunks of all places are known: its segments may be used again when they are
 * not needed. */
void spool_live_restored(struct spool *spool);
/* Something in it is needed, or somebody works on it. */
bool spool_live_needed(const struct spool_segment *segment);
/* May the segment be used again? Called by whatever ends. */
void spool_live_check(struct spool_segment *segment);
/* J has become durable further. */
void spool_live_journal(struct spool *spool);
/* One chunk on its own: of an upload. */
void spool_live_hold_chunk(struct spool *spool, const struct spool_chunk_entry *entry);
void spool_live_drop_chunk(struct spool *spool, const struct spool_chunk_entry *entry);
/* The holds of `entries` become those of one message, which is found when it has its place, or dropped. NULL: no memory,
 * nothing changed. */
struct spool_live_message *spool_live_message_create(uint64_t id, struct spool_chunk_ref **chunks,
                                                     uint32_t chunk_count);
void spool_live_message_place(struct spool *spool, struct spool_live_message **message,
                              const struct spool_location *location);
/* Accept NULL. drop: with its holds; free: these are someone else's still. */
void spool_live_message_drop(struct spool *spool, struct spool_live_message **message);
void spool_live_message_free(struct spool_live_message **message);
void spool_live_deinit(struct spool *spool);

/* ---- segments used again (spool_reuse.c) ----------------------------------------------------- */

/* One job at a time takes a dead segment to spare/, to quarantine/, or away. */
struct spool_reuse {
    struct ring_op op;
    struct spool_segment *segment; /* of the job in hand; out of the table */
    struct spool_maker *maker;     /* gets it; NULL: it goes away */
    uint32_t spare_number;
    int dir_fd, spare_fd;
    char name[SPOOL_NAME_SIZE], to[SPOOL_NAME_SIZE];
};
void spool_reuse_init(struct spool *spool);
void spool_reuse_run(struct spool *spool);

/* ---- segments ahead of need (spool_maker.c) ------------------------------------------------- */

/* Keeps one activated segment and a number of spares ahead of a log, by jobs. */
enum spool_maker_step {
    SPOOL_MAKER_IDLE,
    SPOOL_MAKER_FILL,
    SPOOL_MAKER_ACTIVATE,
    SPOOL_MAKER_YIELD
};
struct spool_maker {
    struct spool_log *log;
    struct ring_op op;
    enum spool_maker_step step;
    struct spool_maker *source; /* whose spares it uses: the cold lane takes those of D */
    uint32_t *spares;           /* numbers in spare/ */
    uint32_t spare_count, spare_capacity, spare_target;
    uint32_t next_spare;
    uint32_t fill_number; /* the spare being filled */
    uint32_t next_number;
    int error;    /* of the last try; 0: none */
    bool refused; /* the job left the spare where it is: the disk is too full to make another */
    struct timer retry;
    /* of the job in hand */
    int dir_fd, spare_fd, fd;
    bool direct;
    char name[SPOOL_NAME_SIZE];
    uint64_t size_bytes, filled_bytes;
    uint64_t free_bytes_needed; /* of the file system */
    uint32_t spare;             /* being activated */
    struct spool_segment_header header;
    int open_result;
};
void spool_maker_init(struct spool_maker *maker, struct spool_log *log);
void spool_maker_deinit(struct spool_maker *maker);
int spool_maker_add_spare(struct spool_maker *maker, uint32_t number);
/* Would one more prewritten segment of `size_bytes` be of use? */
bool spool_maker_wants(const struct spool_maker *maker, uint64_t size_bytes);
/* Begins what is missing; nothing when all is there, a job runs, or a try failed a moment ago. */
void spool_maker_run(struct spool_maker *maker);
/* The same without waiting for the retry: something has changed. */
void spool_maker_hurry(struct spool_maker *maker);
/* Gives a spare's space back, if there is one: a checkpoint found the disk full, and without one J cannot be used again. It
 * is not filled anew for a second. */
void spool_maker_yield(struct spool_maker *maker);

/* ---- the cold lane (spool_relocate.c) -------------------------------------------------------- */

enum spool_relocate_step {
    SPOOL_RELOCATE_IDLE,
    SPOOL_RELOCATE_LOADING, /* the COMMITs of big messages that have chunks in it */
    SPOOL_RELOCATE_OPENING,
    SPOOL_RELOCATE_READING,
    SPOOL_RELOCATE_COPYING, /* until the copies of one window are durable */
    SPOOL_RELOCATE_CUTTING, /* a segment of the cold lane that was ended early */
};
/* One segment at a time is read, window by window, and what lives in it is copied. */
struct spool_relocate {
    struct timer timer;
    struct shard_task task;
    enum spool_relocate_step step;
    struct spool_segment *segment; /* being emptied, or cut; held */
    struct spool_segment_waiter waiter;
    struct ring_op op;
    uint8_t *window;
    uint32_t window_bytes; /* read */
    uint64_t offset;       /* of the window in the segment */
    uint32_t copies;       /* gathered and not durable yet */
    bool finishing;        /* all windows were read: big messages get their new lists */
    struct list_node loading, moving;
    struct spool_moving *load; /* being read; its segment is pinned and held */
    bool failed;               /* the cold lane cannot be written */
    bool second;               /* copying what outlived the cold lane's own segments */
    struct spool_unit *units;
    uint32_t unit_capacity;
    /* of the job that cuts */
    int dir_fd;
    char name[SPOOL_NAME_SIZE];
};
/* One message on its way. */
struct spool_copy {
    struct list_node node; /* of group->copies */
    uint64_t id;
    struct spool_location from, to;
    bool chunked;
    struct spool_moving *moving; /* it is a chunk of this one, named by that entry */
    uint32_t entry;
};
void spool_relocate_init(struct spool *spool);
void spool_relocate_deinit(struct spool *spool);
/* All of earlier lives was handed over. */
void spool_relocate_start(struct spool *spool);
bool spool_relocate_idle(const struct spool *spool);
void spool_relocate_group_done(struct spool *spool, struct spool_group *group, int result);
/* Copies it if the owner says that it lives at `from`; its bytes have been verified. */
void spool_relocate_message(struct spool *spool, const struct spool_record *record,
                            const struct spool_sections *sections,
                            const struct spool_location *from, bool chunked);

/* A big message that has chunks in the segment being emptied (spool_relocate_chunks.c). */
struct spool_moving {
    struct list_node node; /* of relocate->loading, then of relocate->moving */
    uint64_t id;
    struct spool_location from; /* of its COMMIT, or of the RELOC of one */
    struct spool_segment *segment;
    uint8_t *buffer;
    size_t buffer_bytes;
    uint8_t *bytes; /* the record; its list is changed as chunks move */
    struct spool_record record;
    struct spool_sections sections;
    struct spool_chunk_list list;
    bool *moved; /* by entry: held at its new place */
};
void spool_moving_collect(struct spool *spool, const struct spool_segment *segment);
/* The next one to read: its segment is to be pinned, read() begins and loaded() ends it. False: none is left. */
bool spool_moving_load(struct spool *spool, struct spool_moving **ret_moving);
void spool_moving_read(struct spool *spool, struct spool_moving *moving);
void spool_moving_loaded(struct spool *spool, struct spool_moving *moving, int32_t result);
/* Is the record at this place copied at the end, with another list? */
bool spool_moving_is(struct spool *spool, uint64_t id, const struct spool_location *location);
/* A CHUNK of the segment: copied when it belongs to one of them. */
void spool_moving_chunk(struct spool *spool, const struct spool_record *record,
                        const uint8_t *bytes, uint32_t offset_16);
void spool_moving_chunk_durable(struct spool *spool, const struct spool_copy *copy);
void spool_moving_finish(struct spool *spool);
void spool_moving_drop(struct spool *spool);

/* ---- damage found in time (spool_scrub.c) ----------------------------------------------------- */

struct spool_scrub {
    struct timer timer;
    struct ring_op op;
    struct spool_segment_waiter waiter;
    bool busy;                     /* opening or reading */
    bool again;                    /* the one re-read of this window is under way */
    struct spool_segment *segment; /* held until it is through */
    uint8_t *window;
    uint64_t offset;
    uint64_t hole;                         /* where blocks without a group begin; 0: nowhere */
    uint64_t last_lsn;                     /* of the group before */
    uint64_t hole_before, last_lsn_before; /* when the window began */
};
void spool_scrub_init(struct spool *spool);
void spool_scrub_deinit(struct spool *spool);
void spool_scrub_start(struct spool *spool);

/* ---- group memory (spool_group.c) ----------------------------------------------------------- */

/* Groups are carved from slabs, one behind the other, so that a group of one small message costs
 * one block. */
struct spool_slab {
    uint8_t *data;
    uint32_t used_bytes;
    uint32_t groups; /* carved and alive */
};

struct spool_group {
    struct list_node node; /* of log->closed or spool->hot_groups */
    struct spool_slab *slab;
    uint8_t *data;
    uint32_t room_bytes;
    uint32_t used_bytes;  /* header and records */
    uint32_t group_bytes; /* when closed: whole blocks */
    uint32_t record_count;
    uint32_t references;           /* readers */
    struct spool_segment *segment; /* once written */
    uint64_t offset;
    struct spool_group_header header;
    uint8_t tries;
    bool hot;    /* can be found */
    bool urgent; /* a report is in it */
    bool synced; /* somebody waits for it to be on stable storage */
    struct list_node appends, chunks, notes, copies;
};

#define SPOOL_SLAB_BYTES (4u << 20)

/* NULL: no memory. */
struct spool_group *spool_group_create(struct spool_log *log);
/* Gives what the group does not need back to the slab, pads with zeros. */
void spool_group_close(struct spool_log *log, struct spool_group *group);
void spool_group_free(struct spool_group *group);
/* The log goes on without its slab; groups carved from it keep it alive. */
void spool_group_drop_slab(struct spool_log *log);
/* A durable D group: readers find it from now on. The caller holds a reference to it:
 * spool_group_unref(). */
void spool_group_heat(struct spool *spool, struct spool_group *group);
/* The hot group that holds this place, with a reference, or NULL. */
struct spool_group *spool_group_find(struct spool *spool, uint32_t segment, uint64_t offset);
void spool_group_unref(struct spool *spool, struct spool_group *group);
void spool_group_cool_all(struct spool *spool);
/* Forgets those of a segment that is used again; nobody reads them. */
void spool_group_cool_segment(struct spool *spool, struct spool_segment *segment);

/* ---- one log (spool_log.c) ------------------------------------------------------------------ */

struct spool_log {
    struct spool *spool;
    char stream;
    uint64_t segment_bytes;
    struct spool_segment *current, *next;
    struct spool_slab *slab; /* the open group is carved from it */
    struct spool_group *open;
    struct list_node closed;
    struct spool_group *flying;
    struct ring_op op;
    bool syncing;  /* the second step: after a write that was not durable by itself */
    bool flushing; /* a sync without a group is in flight */
    bool flush_wanted;
    /* Groups were acknowledged that are written and not flushed (SPOOL_CACHED), all of them in `current`. The next group
     * that somebody wants synced is written and then flushed: FUA would let it pass those before it. */
    bool unflushed;
    uint64_t next_lsn, durable_lsn, previous_lsn;
    uint32_t previous_crc;
    uint64_t pending_bytes;                /* open, closed and flying */
    uint64_t groups_begun, groups_durable; /* a group ends in the order it began */
    bool broken;                           /* two writes failed; retry is armed */
    bool urgent;     /* a report waits for a segment: it may be the last spare */
    bool flush_open; /* the open group may be closed when nothing flies */
    struct timer retry;
    struct shard_task task; /* submits at the end of the tick */
    struct spool_maker maker;
};

void spool_log_init(struct spool_log *log, struct spool *spool, char stream);
void spool_log_deinit(struct spool_log *log);
/* Room for one record of `record_bytes` in the open group, which is made when needed. NULL: no
 * memory. The caller fills it in; `*ret_group_offset` is its place in the group. */
uint8_t *spool_log_reserve(struct spool_log *log, uint32_t record_bytes,
                           uint32_t *ret_group_offset);
/* Asks that the open group be written at the end of this tick, or when the write in flight has
 * completed. */
void spool_log_flush(struct spool_log *log);
bool spool_log_idle(const struct spool_log *log);
/* What was acknowledged without a flush is flushed soon, also when nothing more is appended: wait for
 * spool_log_flushed(). */
void spool_log_want_flush(struct spool_log *log);
/* The log is idle and has a segment: what comes next goes to another one. */
void spool_log_end_segment(struct spool_log *log);
bool spool_log_flushed(const struct spool_log *log);
/* -ENOSPC or -EIO when no segment can be had and the current one is full. */
int spool_log_error(const struct spool_log *log);
/* Ends everything that waits with `error`. */
void spool_log_give_up(struct spool_log *log, int error);
/* The maker has a new segment, or has failed. */
void spool_log_segment_ready(struct spool_log *log);

/* ---- checkpoints (spool_checkpoint.c) -------------------------------------------------------- */

enum spool_checkpoint_step {
    SPOOL_CHECKPOINT_IDLE,
    SPOOL_CHECKPOINT_WAIT,    /* for the groups in flight below its places */
    SPOOL_CHECKPOINT_FILL,    /* the owner fills a block, then a job writes it */
    SPOOL_CHECKPOINT_SYNC,    /* file and name */
    SPOOL_CHECKPOINT_VERIFY,  /* all blocks are read back */
    SPOOL_CHECKPOINT_PUBLISH, /* SUPER */
    SPOOL_CHECKPOINT_CLEAN,   /* what nobody needs any more */
    SPOOL_CHECKPOINT_ABANDON, /* the file of one that failed goes */
};
#define SPOOL_CHECKPOINT_JOURNALS 16u

struct spool_checkpoint {
    enum spool_checkpoint_step step;
    struct ring_op op;
    struct shard_task task;
    struct timer schedule, pace;
    bool hurry;        /* no pauses: the spool stops */
    bool last_tried;   /* the one of the stop has ended, well or not */
    bool super_wanted; /* SUPER is to name it */
    int error;         /* why it failed */
    bool asking;       /* between image_begin and image_end */
    uint64_t next_number;
    uint64_t wait_d_lsn, wait_r_lsn;
    bool placed;                          /* `places` are taken */
    struct spool_super_checkpoint places; /* of the one being written */
    struct spool_image image;
    uint8_t *block; /* SPOOL_IMAGE_BLOCK_BYTES */
    uint32_t block_index;
    uint32_t block_bytes; /* of this block, whole blocks of the device */
    uint64_t entries;
    bool more;
    /* for the jobs */
    int fd, dir_fd, spare_fd;
    bool direct, sync_now;
    uint8_t uuid[SPOOL_UUID_BYTES];
    uint64_t drop_number;                         /* C-... to unlink; 0: none */
    uint64_t journal_bytes;                       /* size of a J segment that can be a spare */
    uint32_t journals[SPOOL_CHECKPOINT_JOURNALS]; /* segments that nobody needs */
    uint32_t journal_spares[SPOOL_CHECKPOINT_JOURNALS]; /* what they become; 0: they go */
    uint32_t journal_count;
    /* the schedule */
    uint64_t bytes_mark, groups_mark; /* what was written to the logs when the last one began */
    bool replayed;                    /* the start had something to replay */
    spool_checkpoint_fn *written;
    void *written_context;
};
void spool_checkpoint_init(struct spool *spool, uint64_t next_number);
void spool_checkpoint_deinit(struct spool *spool);
/* Earlier lives are restored: from now on they are written. `now`: there was much to replay. */
void spool_checkpoint_start(struct spool *spool, bool replayed, bool now);
/* A group has ended. */
void spool_checkpoint_poke(struct spool *spool);
/* For an orderly stop, when all else has come to rest: true when the last one is written, or was not needed, or cannot
 * be written. */
bool spool_checkpoint_stop(struct spool *spool);
/* SUPER was written with it, or not. */
void spool_checkpoint_published(struct spool *spool, int result);
/* Writes SUPER with what is to be changed in it, now or behind the write in flight. */
void spool_super_save(struct spool *spool);

/* ---- the spool (spool.c) -------------------------------------------------------------------- */

struct spool {
    struct shard *shard;
    struct spool_config config;
    char *path; /* what config.path points to */
    struct spool_directory directory;
    uint8_t uuid[SPOOL_UUID_BYTES]; /* SUPER's, but never written again: workers read it */
    uint64_t next_counter;
    struct ring_op super_op;
    struct spool_super super_job; /* of the job that raises the id limit */
    const struct spool_owner *owner;
    void *owner_context;
    struct spool_restore *restore; /* while it runs */
    struct shard_task restore_task;
    bool restored;   /* earlier lives were handed over */
    bool incomplete; /* ... but for what the disk refused to give */
    struct spool_checkpoint checkpoint;
    uint32_t *old_journals; /* J segments of earlier lives, ascending */
    uint32_t old_journal_count;
    uint32_t journal_first;             /* of this life that may still be there */
    bool super_raises, super_publishes; /* what the write of SUPER in flight is for */
    struct spool_log d, j;
    struct spool_log r; /* the cold lane: copies of messages that outlived their segment */
    bool direct;
    struct spool_segment **segments; /* D, then R, ascending by number */
    uint32_t segment_count, segment_capacity;
    struct list_node idle_segments;
    uint32_t idle_segment_count;
    struct spool_live live;
    struct list_node
        dead_segments; /* oldest first; J is not durable far enough yet, or the job is busy */
    struct spool_reuse reuse;
    struct spool_relocate relocate;
    struct spool_scrub scrub;
    uint32_t exports;            /* being made: no segment goes */
    struct list_node hot_groups; /* oldest first, none with readers */
    uint64_t hot_bytes;
    struct list_node room_waiters;
    uint32_t uploads_committing;
    uint32_t readers, reads_in_flight;
    struct timer journal_timer;
    bool journal_failed;
    struct spool_counters counters;
    bool stopping, sealed, stopped;
    spool_stopped_fn *stopped_call;
    void *stopped_context;
    struct shard_task stop_task;
};

/* Asks again whether an ordered stop is complete, and a checkpoint may go on; called by whatever ends. */
void spool_stop_check(struct spool *spool);
void spool_room_check(struct spool *spool);

/* Called by spool_log.c: what waits for a group learns its fate. */
void spool_append_group_done(struct spool *spool, struct spool_group *group, int result);
void spool_journal_group_done(struct spool *spool, struct spool_group *group, int result);
void spool_journal_timer_fire(struct timer *timer);

/* Shared by append and upload: may `record_bytes` more gather? 0, -EAGAIN, -ENOSPC, -EIO. */
int spool_admit(struct spool *spool, uint64_t record_bytes, bool urgent);

/* One chunk of an upload. */
struct spool_chunk_ref {
    struct list_node node; /* of group->chunks until that is durable */
    struct spool_upload *upload;
    struct spool_chunk_entry entry; /* offset_16 is in the group until then */
    bool durable;
};
struct spool_upload {
    struct spool *spool;
    uint64_t id;
    uint64_t body_bytes;
    uint32_t body_crc;
    uint32_t chunk_count, chunk_capacity, chunks_waiting;
    struct spool_chunk_ref **chunks;
    int error;
    bool handed_over;            /* its chunks are held by the message now */
    struct spool_append *append; /* waits for the chunks */
    uint8_t *front;              /* its envelope, head and skip table */
    struct spool_record record;
    struct shard_task soon;
};
void spool_upload_chunk_done(struct spool_chunk_ref *ref, const struct spool_group *group,
                             int result);
void spool_upload_free(struct spool_upload *upload);
/* All chunks are durable, or one has failed, and its append waits: COMMIT at the end of this
 * tick, or the error. */
void spool_append_commit_soon(struct spool *spool, struct spool_upload *upload);
void spool_append_commit(struct spool *spool, struct spool_upload *upload);

/* ---- checkpoints on disk (spool_image.c) ----------------------------------------------------- */

#define SPOOL_IMAGE_HEADER_BYTES 64u
static_assert(SPOOL_IMAGE_HEADER_BYTES + SPOOL_IMAGE_PAYLOAD_MAX == SPOOL_IMAGE_BLOCK_BYTES,
              "a block is its header and its payload");

struct spool_image_header {
    uint32_t used_bytes; /* header and payload */
    uint64_t number;     /* of the checkpoint */
    uint32_t index;      /* of the block */
    uint32_t entry_count;
    bool last;
    uint64_t entries_so_far; /* this block's among them */
};
/* Writes the header of `block`, whose payload is in place, with the checksum over both. */
void spool_image_header_encode(const struct spool_image_header *header,
                               const uint8_t uuid[SPOOL_UUID_BYTES], uint8_t *block);
/* Is this block `index` of checkpoint `number`, and does all of it verify? */
bool spool_image_header_decode(struct slice block, const uint8_t uuid[SPOOL_UUID_BYTES],
                               uint64_t number, uint32_t index,
                               struct spool_image_header *ret_header);

/* ---- scanning (spool_scan.c) ---------------------------------------------------------------- */

/* Reads up to `size` bytes at `offset`; the count or -errno. */
typedef ssize_t spool_scan_read_fn(void *context, void *to, size_t size, uint64_t offset);

struct spool_scan_chain { /* goes from segment to segment of one stream */
    bool any;
    uint32_t segment; /* number of the last one scanned */
    uint64_t lsn;     /* of the last group whose header verified */
    uint32_t crc;
    uint64_t whole_lsn; /* of the last group that verified whole */
    uint32_t whole_crc;
    uint64_t highest_lsn;
    bool
        suspect; /* what came after whole_lsn does not verify and nothing yet says it was durable */
    bool suspect_trace; /* and it is a group of ours, not merely the unused rest of a segment */
    uint32_t suspect_records; /* of its known records */
    uint32_t suspect_segment; /* the place of the first of it */
    uint64_t suspect_offset;
};

struct spool_scan_events {
    void *context;
    /* A record whose header verifies. `front_ok`, `body_ok`: its sections do. `bytes` is borrowed
     * for the call. */
    void (*record)(void *context, uint32_t segment, uint64_t offset,
                   const struct spool_record *record, const uint8_t *bytes, bool front_ok,
                   bool body_ok);
    void (*note)(void *context, uint32_t segment, uint64_t offset,
                 const struct spool_journal_record *record, const uint8_t *bytes);
    /* What did not verify was damage (true) or a torn tail; NULL allowed. */
    void (*resolved)(void *context, uint32_t segment, bool damage);
};

struct spool_scan_result {
    struct spool_segment_header header;
    bool readable; /* the header verified and is of this spool, stream and number */
    bool refused;  /* of a format we do not know: nothing may be changed */
    uint32_t seed;
    bool read_error; /* some of it could not be read */
    uint64_t groups;
    uint64_t damaged_records;
    uint64_t torn_groups;
};
#define SPOOL_SCAN_WINDOW_BYTES (2u << 20)

/* The scan of one segment, step by step. */
struct spool_scan {
    char stream;
    uint32_t number;
    uint64_t size_bytes;
    spool_scan_read_fn *read;
    void *read_context;
    uint8_t *window; /* SPOOL_SCAN_WINDOW_BYTES of scratch memory */
    uint64_t window_offset;
    size_t window_bytes;
    struct spool_scan_chain *chain;
    const struct spool_scan_events *events;
    uint64_t offset; /* where the next step begins */
    bool cut;        /* its end was looked at */
    struct spool_scan_result result;
};
/* From `offset` on (0: all of it; otherwise where a group begins or the end) of a segment of `size_bytes`; the caller
 * has filled in stream, number, size_bytes, read, read_context, window, chain and events. */
void spool_scan_begin(struct spool_scan *scan, const uint8_t uuid[SPOOL_UUID_BYTES],
                      uint64_t offset);
/* One group, or a bit of what is none. False: the segment has ended. */
bool spool_scan_step(struct spool_scan *scan);
/* Scans one segment image of `size_bytes`. `window` is SPOOL_SCAN_WINDOW_BYTES of scratch
 * memory. */
void spool_scan_segment(const uint8_t uuid[SPOOL_UUID_BYTES], char stream, uint32_t number,
                        uint64_t size_bytes, spool_scan_read_fn *read, void *read_context,
                        uint8_t *window, struct spool_scan_chain *chain,
                        const struct spool_scan_events *events,
                        struct spool_scan_result *ret_result);
/* The stream ends here: what is suspect was a torn tail. */
void spool_scan_end(struct spool_scan_chain *chain, const struct spool_scan_events *events,
                    struct spool_scan_result *result);

/* qsort() that takes the NULL of an empty array. */
typedef int spool_compare_fn(const void *a, const void *b);
void spool_items_sort(void *items, size_t count, size_t item_bytes, spool_compare_fn *compare);

/* ---- opening (spool_open.c) ----------------------------------------------------------------- */

struct spool_recovered_segment {
    uint32_t number;
    uint64_t size_bytes;
};
struct spool_recovery_stream {
    struct spool_recovered_segment *segments; /* ascending */
    uint32_t count, capacity;
    uint32_t last_number; /* of all that were there, or that SUPER names */
    uint32_t *spares;
    uint32_t spare_count, spare_capacity, next_spare;
};
struct spool_recovery {
    struct spool_config config;
    char *path;
    struct spool_directory directory;
    struct spool_recovery_stream d, j, r;
    uint64_t next_counter;
    uint64_t next_checkpoint;
    bool direct;
};
uint64_t spool_journal_segment_bytes(const struct spool_config *config);
/* Job. Locks the directory and lists the segments. 0, or -errno with a sentence. */
int spool_recovery_create(const struct spool_config *config, struct buf *error,
                          struct spool_recovery **ret_recovery);
/* Job. Also asks whether O_DIRECT works. */
int spool_recovery_list_spares(struct spool_recovery *recovery);
int spool_recovery_add_spare(struct spool_recovery_stream *stream, uint32_t number);
/* Job. The next epoch and ids from next_counter on are ours, durable in SUPER; a first spare of each kind is there, or
 * the disk is full. */
int spool_recovery_reserve(struct spool_recovery *recovery);

/* ---- bringing back (spool_restore.c) -------------------------------------------------------- */

struct spool_restore;
/* Nothing of it is in flight any more, or there is none: what is left of it goes. */
bool spool_restore_end(struct spool *spool);

#endif
