/* tests/unit/queue/world.h - a queue, or several, in a world that a test can see all of.
 *
 * Takes the place, when linking, of core/shard.c's messages and tasks and of the spool: time moves only when the test
 * says so, a spool is a table in memory that can be told to fail, and the owner's side follows the test's rules:
 *
 *     a domain   "*.never" is nowhere for good, "*.later" cannot be looked up, all others lead to a site, which is the
 *                part of the name behind the first dot ("a.mx" and "b.mx" share the site "mx"); "home" is local
 *     a site     is up unless it is named in `down`; a session takes message after message
 *     a mailbox  "never..." is refused for good (5.1.1), "later..." for now (4.2.0), "doubt..." never answers the final dot
 *                while `in_doubt` is set, all others take the mail
 */
#ifndef KILAT_TESTS_UNIT_QUEUE_WORLD_H
#define KILAT_TESTS_UNIT_QUEUE_WORLD_H

#include "queue/queue_private.h"

#define WORLD_SHARDS_MAX 4
#define WORLD_MESSAGES_MAX 65536 /* and as many ids */
#define WORLD_UNITS_MAX 512
#define WORLD_BLOCKS_MAX 16

struct world_message { /* as the spool has it */
    uint64_t id;
    uint8_t *envelope;
    size_t envelope_size;
    uint32_t unit_count, arrival_s;
    uint64_t body_bytes;
    uint32_t record_bytes;
    uint8_t flags;
    bool durable, held;
    bool unreadable;          /* to this version of the queue */
    uint32_t live, cold_live; /* how often each of its places is needed */
    bool cold, cold_held;     /* it has a copy in the cold lane, and what that says */
    uint32_t cold_place;
    struct spool_unit cold_units[WORLD_UNITS_MAX];
    char cold_reason[128];
    bool in_doubt[WORLD_UNITS_MAX];
    uint8_t outcome[WORLD_UNITS_MAX]; /* 0: open, else enum spool_note_outcome + 1 */
    struct spool_unit units[WORLD_UNITS_MAX];
    char reason[128];
};

struct world_note {
    struct spool_recovered_note note;
    char text[128];
};

struct spool {
    struct world *world;
    const struct spool_owner *owner;
    void *owner_context;
    uint64_t next_id;
    struct world_note *journal; /* what is durable, in order */
    uint32_t note_count, note_capacity;
    uint32_t earlier_messages, earlier_notes, earlier_cold; /* of the lives before this one */
    bool checkpoint;
    uint32_t checkpoint_messages, checkpoint_notes, checkpoint_cold; /* c_d, c_j, c_r */
    uint32_t cold_places[WORLD_MESSAGES_MAX]; /* of the copies in the cold lane: which message */
    uint32_t cold_count;
    struct spool_image blocks[WORLD_BLOCKS_MAX];
    uint32_t block_count;
    struct world_message *messages[WORLD_MESSAGES_MAX];
    uint32_t message_count;
    uint32_t place_of[WORLD_MESSAGES_MAX]; /* by id */
    struct list_node appends;              /* written, not durable yet */
    struct list_node notes;                /* whose durability is waited for */
    struct list_node openings;             /* of readers */
    int append_error;                      /* of the call */
    int group_error;                       /* of the write */
    int note_error;                        /* of the call */
    int flush_error;                       /* of the write */
    bool journal_lost;
    int ready_error; /* what spool_ready() says */
    bool unchecked;  /* its places are not looked through after each step */
    bool losing;     /* what is noted from now on will not survive the crash */
    bool manual;     /* appends and notes wait for world_complete() */
    bool cold;       /* readers open in a later tick */
    uint64_t damaged_id;
    int open_error;
    uint32_t readers_open, defers;
    uint32_t last_defer_s;
};

struct world_session {
    struct list_node node;
    struct world *world;
    uint32_t shard;
    struct queue_slot *slot;
    struct queue_attempt *attempt;
    bool idle;
};

struct world {
    struct shard shards[WORLD_SHARDS_MAX];
    struct queue *queues[WORLD_SHARDS_MAX];
    struct spool spools[WORLD_SHARDS_MAX];
    uint32_t shard_count;
    struct list_node letters; /* between shards */
    struct queue_config config;
    struct list_node sessions;
    const char *down;
    bool keep;       /* sessions keep what they have taken in hand */
    bool no_answers; /* resolve questions are not answered */
    bool keep_reports;
    bool no_local; /* local mail is left standing */
    bool unload;   /* sessions give attempts up without loading them */
    int report_error;
    struct queue_report *report; /* the last one kept */
    uint64_t ttl_ms;
    uint32_t resolves, connects, failures, taken, recalls, mores, reports, local_calls;
    uint32_t session_count, session_peak, retired;
    uint32_t stopped, task_runs;
    int submit_result; /* of the last submission */
    char order[512];   /* the first letter of the sender of each message taken */
    uint32_t attempt_units, attempt_number; /* of the last attempt loaded */
    char report_text[256];
    uint8_t report_status[3];
    uint32_t report_units;
    uint64_t report_of;
    bool report_expired;
    uint32_t restored; /* spools that are back */
    int restored_result;
    bool in_doubt; /* a recipient "doubt..." ends so, otherwise it is delivered */
};

struct world *world_create(uint32_t shard_count);
void world_start(struct world *world);
struct world *world_started(void);    /* one shard, running */
void world_stop(struct world *world); /* asks all queues to stop */
/* Stops all queues, checks what must hold at the end, frees. */
void world_destroy(struct world *world);
/* All queues are gone as by a crash, and come back from what the spools hold: the checkpoint, if there is one, and what
 * stands behind it. world_reopen() only opens; then world_bring_back() and world_bring_end() for each spool. */
void world_crash(struct world *world);
void world_recover(struct world *world);
void world_reopen(struct world *world);
void world_bring_back(struct world *world, uint32_t shard);
void world_bring_end(struct world *world, uint32_t shard, int result);
/* A checkpoint, whole or block by block (true: there is more). */
void world_checkpoint(struct world *world, uint32_t shard);
void world_checkpoint_begin(struct world *world, uint32_t shard);
bool world_checkpoint_block(struct world *world, uint32_t shard);
void world_checkpoint_end(struct world *world, uint32_t shard);
/* Copies a message to the cold lane, if the queue says that it may be. */
void world_relocate(struct world *world, uint64_t id);
/* One spool is adopted by the queue of another shard, whose own one is gone. */
void world_alone(struct world *world); /* between world_crash() and world_reopen(): fewer shards */
void world_adopt(struct world *world, uint32_t shard, uint32_t spool);

/* Until nothing moves at this moment; checks every queue afterwards. */
void world_run(struct world *world);
void world_advance(struct world *world, uint64_t ms);
uint32_t world_now_s(const struct world *world);
void world_check(struct world *world);

/* `recipients` separated by spaces; a sender "" is <>. Returns the id, 0 when the call was refused. Runs. */
uint64_t world_submit(struct world *world, uint32_t shard, const char *sender,
                      const char *recipients);
uint64_t world_submit_report(struct world *world, uint32_t shard, const char *recipients,
                             uint64_t report_of, const uint32_t *units, uint32_t unit_count);
void world_complete(struct world *world, uint32_t shard);
struct world_message *world_message(struct world *world, uint64_t id);

/* world_spool.c, for world.c */
void world_spool_crash(struct spool *spool);
void world_spool_free(struct spool *spool);
bool world_spool_step(struct spool *spool);
void world_spool_check(struct spool *spool, struct queue *queue);

/* Outcome of a unit on disk: 0 open, 'd' delivered, 'b' bounced, 'e' expired, 'r' removed. */
char world_outcome(struct world *world, uint64_t id, uint32_t unit);

struct world_session *world_session(struct world *world, uint32_t index);
void world_session_finish(struct world_session *session); /* what is in hand, by the rules */
void world_session_close(struct world_session *session);
void world_finish_all(struct world *world); /* until no session has anything in hand; then runs */

struct queue_counters world_counters(struct world *world);
struct queue_view world_view(struct world *world, uint64_t id);

#endif
