/* queue/queue_private.h - the inside of the queue, for the files of this folder.
 *
 * queue.c        the promise: submission, and the one task in which everything happens that calls the owner
 * part.c         its spools, and what each has in units
 * restore.c      what a spool brings back   restored.c     what follows when all is back
 * image.c        what a spool asks: for its checkpoint, before it moves a message
 * clock.c        whether the wall clock is to be believed
 * schedule.c     when an item may move, and when it has waited too long     wheel.c   seconds
 * destination.c  a recipient domain: its ready items, where its mail goes
 * site.c         a set of mail hosts as this shard sees it: slots
 * site_home.c    the same as its home shard sees it: who may have how many slots, back-off
 * attempt.c      one try                   outcome.c  its end
 * report.c       what failed for good      act.c      what operators do
 * view.c         what they ask             stop.c     the end
 * index.c        memory                    reason.c   texts         retry.c  the curve
 */
#ifndef KILAT_QUEUE_QUEUE_PRIVATE_H
#define KILAT_QUEUE_QUEUE_PRIVATE_H

#include "core/hash.h"
#include "queue/envelope.h"
#include "queue/index.h"
#include "queue/queue.h"

#define QUEUE_NAME_MAX 255      /* a domain (RFC 5321 4.5.3.1.2) or the name of a site */
#define QUEUE_REASON_MAX 512    /* of a text: as much as a spool keeps */
#define QUEUE_SITE_TEXT_MAX 200 /* of a site's reason on its way between shards */
/* Items moved in one tick by one cause, so that no backlog stops the others. */
#define QUEUE_BATCH 1024
#define QUEUE_ATTEMPTS_MAX 4096      /* in hand */
#define QUEUE_REPORTS_MAX 32         /* being made at the same time */
#define QUEUE_ASKS_MAX 256           /* resolve questions at the same time */
#define QUEUE_IDLE_DESTINATIONS 4096 /* without mail, kept for what is known about them */
#define QUEUE_LOCAL 0u               /* number of the destination "local" */

/* ---- reasons: interned texts with their status -------------------------------------------------- */

#define REASON_NONE 0u
struct reason {
    struct hash_node node;
    uint32_t number, references;
    uint32_t image_stamp; /* of the last checkpoint it stands in */
    uint8_t status[3];
    uint16_t size;
    uint8_t text[];
};
struct reasons {
    struct hash_table table;
    struct hash_key key;
    struct reason **by_number;
    uint32_t capacity, free_first, count;
};
int reasons_init(struct reasons *reasons);
void reasons_deinit(struct reasons *reasons);
/* One more reference on it. Never fails: beyond the bound, or without memory, only the status' class is kept. */
uint32_t reason_intern(struct reasons *reasons, const uint8_t status[3], struct slice text);
void reason_ref(struct reasons *reasons, uint32_t number);
void reason_unref(struct reasons *reasons, uint32_t number); /* accepts REASON_NONE */
struct slice reason_text(const struct reasons *reasons, uint32_t number);
const uint8_t *reason_status(const struct reasons *reasons, uint32_t number);
/* True the first time with this stamp. */
bool reason_stamp(const struct reasons *reasons, uint32_t number, uint32_t stamp);
void reason_unstamp(const struct reasons *reasons, uint32_t number);

/* ---- the wheel --------------------------------------------------------------------------------- */

#define WHEEL_LEVELS 4
#define WHEEL_BITS 6
#define WHEEL_SLOTS (1u << WHEEL_BITS)
struct wheel {
    struct item_list slots[WHEEL_LEVELS][WHEEL_SLOTS];
    uint64_t used[WHEEL_LEVELS];
    uint32_t now_s; /* all before and at it has been taken out */
    uint32_t count;
};
void wheel_init(struct wheel *wheel, uint32_t now_s);
void wheel_put(struct index *index, struct wheel *wheel, uint32_t item);
void wheel_remove(struct index *index, struct wheel *wheel, uint32_t item);
uint32_t
wheel_next_s(const struct wheel *wheel); /* nothing is due before this; UINT32_MAX: empty */
/* Moves up to `budget` items; those due at or before `now_s` to the end of `due`. True: there is more to do. */
bool wheel_advance(struct index *index, struct wheel *wheel, uint32_t now_s, uint32_t budget,
                   struct item_list *due);

/* ---- destinations and sites ---------------------------------------------------------------------- */

enum route_state {
    ROUTE_UNKNOWN, /* or no longer: to be asked for when there is mail */
    ROUTE_WANTED,  /* in the list of those to ask for */
    ROUTE_ASKED,   /* ops->resolve was called */
    ROUTE_KNOWN,   /* `site`, until route_until_ns */
    ROUTE_RESTING, /* no answer: asked again at route_until_ns */
    ROUTE_REFUSED, /* nowhere: what is ready fails with `reason` */
};

struct destination {
    struct queue *queue;
    struct hash_node hash_node;
    uint32_t number;
    uint32_t items; /* not done; with none it may be forgotten */
    bool idle;      /* in the list of those */
    struct item_list ready;
    enum route_state route;
    uint64_t route_until_ns;
    uint32_t failures; /* of asking, in a row */
    uint32_t reason;   /* of RESTING and REFUSED */
    struct site *site;
    struct list_node node; /* in one of: idle, asks, refused, its site's ring */
    struct timer timer;    /* RESTING */
    uint64_t stamp;        /* scratch of whoever walks a message's recipients: */
    uint32_t stamp_item, stamp_count;
    uint32_t image_stamp; /* of the last checkpoint it stands in */
    uint8_t name_size;
    uint8_t name[];
};

enum slot_state {
    SLOT_GRANTED,    /* to be connected */
    SLOT_CONNECTING, /* ops->connect has it; it will pull */
    SLOT_BUSY,       /* has pulled a message */
    SLOT_IDLE,       /* has pulled, and there was none */
    SLOT_WAKING,     /* to be told that there is more */
    SLOT_WOKEN,      /* ops->more has it; it will pull */
};

struct queue_slot {
    struct list_node node; /* of the site */
    struct list_node turn; /* in one of: site's idle, queue's connects, wakings, recalls */
    struct site *site;
    void *user;
    uint32_t messages, attempts; /* taken so far; in hand */
    enum slot_state state;
    bool greeted, recalled;
};

/* What a site tells its home shard; embedded in it, lent to the home while under way. */
struct site_request {
    struct shard_message message;
    struct site *site; /* the sender's, never looked into at home */
    struct queue *(*peer)(struct shard *shard);
    struct queue *sender; /* likewise, unless home is the same shard */
    uint32_t shard;
    struct slice name;
    uint32_t wanted, released, oldest_s;
    bool failed, succeeded, urgent;
    bool refused; /* home's answer: nobody there, or no memory */
    uint8_t status[3];
    uint8_t text_size;
    char text[QUEUE_SITE_TEXT_MAX];
};

struct site {
    struct queue *queue;
    struct hash_node hash_node;
    struct list_node dirty; /* in the queue's list of sites to look at */
    struct list_node ring;  /* destinations with ready items, whose turn it is first */
    uint32_t ready_count;   /* items of those destinations */
    uint32_t destinations;  /* that lead here, with mail or without */
    struct list_node slots, idle;
    uint32_t slot_count, idle_count;
    uint32_t pulling_count; /* slots that are about to take a message each */
    uint32_t greeted_count;
    uint32_t window; /* sessions this shard would use: grows with success, shrinks with failure */
    uint64_t grow_after_ns;    /* no further sessions before */
    uint64_t backoff_until_ns; /* as home says */
    uint32_t reason;           /* of the back-off */
    struct site_request request;
    bool lent;
    uint32_t told_wanted; /* slots that home knows we want */
    uint32_t released;    /* slots to give back with the next request */
    bool failed, succeeded, urgent;
    uint32_t fail_reason;
    uint8_t name_size;
    uint8_t name[];
};

struct site_home;
struct restore;
/* One shard's part of a site, at its home; embedded, lent to that shard while under way. */
struct site_share {
    struct shard_message message;
    struct site_home *home; /* never looked into at the other shard */
    struct queue *(*peer)(struct shard *shard);
    struct queue *sender;
    uint32_t shard, home_shard;
    bool lent;
    uint32_t held, wanted, recalled; /* slots it has, would like, was asked to give back */
    uint32_t oldest_s;               /* arrival of its oldest ready mail, as it last said */
    uint64_t granted_ns;
    uint32_t granting, recalling; /* to be told */
    bool tell;                    /* the back-off has changed */
    /* The letter itself: */
    struct slice name;
    uint32_t granted, recall, refused; /* refused: the other shard's answer */
    uint64_t backoff_until_ns;
    bool failing;
    uint8_t status[3];
    uint8_t text_size;
    char text[QUEUE_SITE_TEXT_MAX];
};

struct site_home {
    struct queue *queue;
    struct hash_node hash_node;
    struct timer timer;
    uint32_t held;
    uint64_t backoff_until_ns;
    uint32_t failures;
    uint8_t status[3];
    uint8_t text_size;
    char text[QUEUE_SITE_TEXT_MAX];
    uint8_t name_size;
    uint8_t name[QUEUE_NAME_MAX];
    uint32_t share_count;
    struct site_share shares[];
};

/* ---- attempts and reports ------------------------------------------------------------------------ */

#define ATTEMPT_ITEMS_MAX 100
struct attempt_item {
    uint32_t item;
    bool deferred;   /* something of it is to be tried again */
    uint32_t next_s; /* wall clock; of what was deferred */
};
enum attempt_mark { MARK_OPEN, MARK_DELIVERED, MARK_LATER, MARK_NEVER, MARK_IN_DOUBT };
struct attempt_unit {
    uint32_t unit;
    uint16_t item; /* index in attempt->items */
    uint8_t mark;  /* enum attempt_mark */
    uint32_t reason;
};
struct attempt_note { /* of outcomes that must be durable before anything follows from them */
    struct spool_note note;
    struct queue_attempt *attempt;
};
struct queue_attempt {
    struct queue *queue;
    struct queue_slot *slot; /* NULL: local, or the session is gone */
    struct list_node node;
    uint32_t entry;
    uint64_t id;
    struct queue_part *part; /* the spool it is in */
    struct attempt_item items[ATTEMPT_ITEMS_MAX];
    uint32_t item_count;
    struct spool_reader *reader;
    struct slice sender;
    bool opening, opened,
        loaded; /* inside spool_reader_open(); it has answered; recipients are known */
    int load_result;
    queue_loaded_fn *on_loaded;
    void *loaded_context;
    struct slice *recipients;
    struct attempt_unit *units;
    uint32_t count, capacity;
    queue_finished_fn *on_finished;
    void *finished_context;
    struct attempt_note *notes;
    struct attempt_note first_note; /* the usual case needs no memory */
    uint32_t notes_pending;
    int notes_result;
    struct queue_report *report; /* that took over the units that failed */
};

struct report_row {
    uint32_t reason; /* one reference */
    uint32_t item;
};
struct queue_report {
    struct queue *queue;
    struct queue_part *part;
    struct list_node node;
    uint32_t entry;
    uint64_t id;
    bool opening, answered; /* inside spool_reader_open(); it has answered */
    bool opened, called;    /* its units are known; ops->report has it */
    bool from_attempt;      /* rather than about one item that failed as a whole */
    int open_result;
    uint8_t outcome; /* enum spool_note_outcome */
    uint32_t item_count, capacity;
    uint32_t *items;         /* TRYING until the report is durable */
    uint32_t *deferred_s;    /* wall clock, of the items' other recipients; 0: none were put off */
    struct report_row *rows; /* beside info.units */
    struct queue_report_unit *units;
    struct queue_report_info info;
    struct spool_reader *reader;
};

/* ---- spools ----------------------------------------------------------------------------------------- */

enum part_state {
    PART_LOADING,    /* what it held before is being brought back */
    PART_REPORTING,  /* all is back: what reports have finished is finished now */
    PART_SCHEDULING, /* the messages of earlier lives are scheduled, some in each tick */
    PART_READY,
    PART_FAILED, /* it could not be read: nothing of it is attempted */
};
#define PART_ID_SHIFT 54 /* the bits above are the number of an id's spool */
/* One spool and what it holds. Its messages stand together in the index' order, since the high bits of
 * an id are the spool's number. */
struct queue_part {
    struct queue *queue;
    struct spool *spool;
    uint32_t number;
    enum part_state state;
    uint64_t first_id; /* the first of this life */
    uint32_t youngest; /* the last of its messages in the order */
    uint32_t aging;    /* the oldest one not looked at for expiry */
    /* Wall clock; of what it brought back: the newest record was made between these two. */
    uint32_t newest_from_s, newest_to_s;
    uint32_t messages, units, damaged_units;
    uint64_t unreadable_units; /* of envelopes that are none of ours: counted, not in the index */
    struct queue_conservation done; /* all but set_aside and queued */
    bool alarmed;
    struct restore *restore; /* NULL unless something is being brought back */
    bool imaging;
    uint32_t image_next, image_stamp;
    /* One message as it goes into an image; whole, because an image cannot wait for memory. */
    struct spool_image_item image_items[ENVELOPE_RECIPIENTS_MAX];
    uint8_t image_bits[(ENVELOPE_RECIPIENTS_MAX + 7) / 8];
};

struct queue_aside { /* to be put on hold when it is known */
    struct list_node node;
    uint64_t id;
    uint32_t reason;
};

struct queue_act { /* whose end somebody waits for */
    struct list_node
        node; /* of queue->acts, and of queue->acted when nothing is to be waited for */
    struct queue *queue;
    struct spool_note note;
    queue_acted_fn *acted;
    void *context;
    int result;
};

/* ---- the queue ------------------------------------------------------------------------------------ */

/* The end of all queues of a group: one that has nothing in hand sends its letter to shard 0, which sends all of them
 * back when it has one from each. Until then each goes on to answer the others. */
enum queue_quiet { QUIET_NOT, QUIET_SENT, QUIET_ALL };
struct queue_letter {
    struct shard_message message;
    struct queue *sender;
    struct queue *(*peer)(struct shard *shard);
    uint32_t shard;
    struct list_node node;
};

struct queue {
    struct shard *shard;
    struct queue_part *own; /* NULL before queue_add_spool() */
    struct queue_part **parts;
    uint32_t part_count;
    struct queue_config config;
    struct queue_ops ops;
    void *context;
    bool started, stopping;
    enum queue_quiet quiet;
    struct queue_letter letter;
    struct list_node letters; /* on shard 0: of those that are quiet */
    uint32_t letter_count;
    void (*stopped)(void *context);
    void *stopped_context;

    struct index index;
    struct reasons reasons;
    struct wheel wheel;
    struct timer timer; /* of wheel, expiry and the clock's doubt */
    struct shard_task task;
    struct item_list failing; /* FAILING and EXPIRING */
    struct list_node asides;  /* struct queue_aside */
    uint32_t aside_count;
    struct list_node acts, acted; /* struct queue_act: noted; to be told in the task */
    uint32_t image_stamp;         /* of the newest checkpoint */

    int64_t clock_offset_ns; /* wall less monotonic, the lowest: what ages are counted by */
    int64_t clock_seen_ns;   /* the same as it was when last looked at */
    bool clock_doubted;
    uint64_t clock_doubted_until_ns;

    struct hash_key key;
    struct destination **destinations; /* by number */
    uint32_t destination_capacity, destination_count;
    uint32_t destination_free_hint;
    struct hash_table destination_names;
    struct list_node idle_destinations; /* longest idle first */
    uint32_t idle_destination_count;
    struct list_node asks, refused;
    uint32_t asked_count;
    uint64_t stamp;
    bool local_ready;

    struct hash_table site_names, home_names;
    struct list_node dirty_sites;
    struct list_node connects, wakings, recalls;
    uint32_t slot_count;
    uint32_t lent_count; /* messages of ours on other shards */
    struct timer again_timer;

    struct list_node attempts, ended, free_attempts; /* ended: to be told so in the task */
    uint32_t attempt_count, free_attempt_count;
    struct list_node reports;
    uint32_t report_count;
    struct timer report_timer; /* armed: none could be made, so none is begun */

    struct buf scratch; /* an envelope being written */
    uint64_t no_space_until_ns;
    uint32_t state_counts[ITEM_STATES];
    uint32_t message_count;
    struct queue_counters totals; /* but for units: those are counted for each spool */
};

/* queue.c */
void queue_poke(struct queue *queue); /* something is to be done in the task */
/* The only writer of item->state: takes the item out of the list its state names and puts it into the next one. */
void item_enter(struct queue *queue, uint32_t item, enum item_state next);
void item_set_reason(struct queue *queue, uint32_t item, uint32_t reason); /* takes the reference */
/* One recipient is finished, in memory. Counted in `item`; the caller notes it and calls item_settle(). */
void unit_finish(struct queue *queue, uint32_t item, uint32_t unit);
/* After an attempt or a report: done, or back into the schedule at `next_wall_s` (0: now). May free the message. */
void item_settle(struct queue *queue, uint32_t item, uint32_t next_wall_s);
void message_free(struct queue *queue, uint32_t entry);
/* Its record cannot be read: set aside, counted, said loudly (QUEUE I20). */
void message_damaged(struct queue *queue, uint32_t entry, const uint32_t *items,
                     uint32_t item_count, int error);
/* In an attempt or a report; or it comes back from an earlier life and is not scheduled yet. */
bool message_in_hand(const struct queue *queue, uint32_t entry);
bool message_done(const struct queue *queue, uint32_t entry);
struct spool_location entry_location(const struct index_entry *entry);
/* Where each recipient goes; builds the items of `entry`. `states` may be NULL: all open; so may `ret_items`, which is
 * told the item of each recipient. 0 or -ENOMEM. */
struct recipient_source {
    const struct slice *array; /* or, when NULL: */
    struct slice envelope;
};
int message_build(struct queue *queue, uint32_t entry, const struct recipient_source *source,
                  uint32_t recipient_count, const struct spool_unit *states, uint32_t *ret_items);
void message_unbuild(struct queue *queue, uint32_t entry);
int message_note(struct queue *queue, uint64_t id, uint32_t first, uint32_t count, uint8_t outcome,
                 const uint8_t status[3]);
uint64_t queue_wall_s(const struct queue *queue);
uint32_t queue_mono_s(const struct queue *queue);

/* part.c */
struct queue_part *part_of(const struct queue *queue, uint64_t id); /* NULL: none of ours */
int part_get(struct queue *queue, uint32_t number, struct queue_part **ret_part);
void parts_deinit(struct queue *queue);
void part_insert(struct queue_part *part, uint32_t entry);
/* One that comes back. False: it has its place in the order later (restored.c). */
bool part_insert_near(struct queue_part *part, uint32_t entry, uint32_t near);
void part_placed(struct queue_part *part, uint32_t entry); /* it has its place now */
/* The last message in the order in front of this spool's. */
uint32_t part_front(const struct queue_part *part);
uint32_t part_first(const struct queue_part *part); /* INDEX_NONE: it has none */
/* It is about to be freed, and no cursor may stay on it. */
void part_removed(struct queue_part *part, uint32_t entry);
/* This place is not needed any more; all notes about it were given before. */
void part_release(struct queue_part *part, uint64_t id, const struct spool_location *location);
bool parts_journal_ok(const struct queue *queue);
void parts_check(struct queue *queue); /* an alarm when units do not add up */

/* restore.c */
extern const struct spool_owner queue_owner;
void restore_removed(struct queue_part *part, uint32_t entry);
void restore_free(struct queue_part *part);

/* restored.c */
void restore_run(struct queue_part *part);
void restore_sort(struct queue_part *part, uint32_t entry); /* again, one that is SORT */
bool restore_busy(const struct queue *queue);               /* something is being read */
void asides_deinit(struct queue *queue);

/* image.c */
void image_begin(void *context);
bool image_fill(void *context, struct spool_image *image);
void image_end(void *context);
int image_states(void *context, uint64_t id, const struct spool_location *location,
                 struct slice envelope, struct spool_unit *units, uint32_t unit_count,
                 bool *ret_held, struct slice *ret_reason);
void image_relocated(void *context, uint64_t id, const struct spool_location *from,
                     const struct spool_location *to);

/* clock.c */
void clock_init(struct queue *queue);
void clock_check(struct queue *queue); /* looks for a jump and for the end of a doubt */
/* The newest record of a spool was made between these two; 0: it has none. */
void clock_compare(struct queue *queue, uint32_t newest_from_s, uint32_t newest_to_s);
uint64_t clock_age_s(const struct queue *queue); /* wall clock as ages are counted */
bool clock_expired(const struct queue *queue, uint64_t expires_wall_s);
int64_t clock_offset_s(const struct queue *queue); /* wall clock less monotonic seconds, now */

/* schedule.c */
void item_schedule(struct queue *queue, uint32_t item, uint64_t next_wall_s);
void schedule_run(struct queue *queue);
void schedule_arm(struct queue *queue);
void schedule_fired(struct timer *timer);
bool message_expired(const struct queue *queue, const struct index_entry *entry);
void schedule_age_again(
    struct queue *queue); /* the age limit, or what is known of the time, is another one */

/* retry.c */
/* The wait before the next try, `tries` (1 or more) having failed in a row. */
uint64_t retry_delay_ms(uint32_t first_ms, uint32_t max_ms, uint32_t tries);

/* destination.c */
int destinations_init(struct queue *queue);
void destinations_deinit(struct queue *queue);
/* The one with this name in lower case, made when it is missing. 0 or -ENOMEM. */
int destination_get(struct queue *queue, struct slice name, struct destination **ret_destination);
/* Of an address, as message_build() assigns it: local or by domain. */
int destination_of_address(struct queue *queue, struct slice address,
                           struct destination **ret_destination);
struct destination *destination_find_address(struct queue *queue, struct slice address);
struct destination *destination_find(struct queue *queue, struct slice name);
struct slice destination_name(const struct destination *destination);
void destination_item_added(struct destination *destination);
void destination_item_done(struct destination *destination);
void destination_ready_push(struct destination *destination, uint32_t item, bool front);
void destination_ready_remove(struct destination *destination, uint32_t item);
/* Puts it where its state says: asked for, in its site's ring, among the idle ones. */
void destination_refresh(struct destination *destination);
void destination_retry(struct destination *destination); /* an operator wants it now */
void destinations_run(struct queue *queue);

/* site.c */
int sites_init(struct queue *queue);
void sites_deinit(struct queue *queue);
int site_get(struct queue *queue, struct slice name, struct site **ret_site);
void site_attach(struct site *site);
void site_detach(struct site *site); /* one destination less; may free it */
void site_touch(struct site *site);  /* look at it in the task */
void sites_touch_all(struct queue *queue);
void sites_run(struct queue *queue);
void site_retry(struct site *site);
void sites_recall_all(struct queue *queue);
struct slice site_name(const struct site *site);
bool site_resting(const struct site *site);
void site_request_back(struct shard *on, struct shard_message *message);
void site_share_arrive(struct shard *on, struct shard_message *message);
void queue_again(struct queue *queue); /* look at what could not begin after a second */

/* site_home.c */
void site_request_arrive(struct shard *on, struct shard_message *message);
void site_share_back(struct shard *on, struct shard_message *message);
void homes_configure(struct queue *queue);
void homes_deinit(struct queue *queue);
uint32_t home_shard(const struct queue *queue, struct slice name);
/* The queue that a message is for: `sender` on its own shard, else what `peer` says. NULL: none. */
struct queue *queue_of_message(struct shard *on, uint32_t from, struct queue *sender,
                               struct queue *(*peer)(struct shard *shard));
uint32_t text_copy(char *to, struct slice text);

/* attempt.c */
struct queue_attempt *attempt_begin(struct queue *queue, struct queue_slot *slot, uint32_t item);
void attempt_free(struct queue_attempt *attempt);
void attempts_deinit(struct queue *queue);
/* Assigns the recipients of an envelope to `items` of its message. Calls `each` for every open one. */
struct attempt_map {
    struct queue *queue;
    uint32_t entry;
    const struct attempt_item *items;
    uint32_t item_count;
};
typedef int attempt_map_fn(void *context, uint32_t unit, uint32_t item_index, struct slice address);
int attempt_map(const struct attempt_map *map, const struct envelope *envelope,
                attempt_map_fn *each, void *context);
/* Every recipient of an envelope, open or not, with the item it belongs to (INDEX_NONE: to none, so this is not the
 * message's envelope). */
typedef int message_units_fn(void *context, uint32_t unit, uint32_t item, struct slice address);
int message_units(struct queue *queue, uint32_t entry, const struct envelope *envelope,
                  message_units_fn *each, void *context);

/* outcome.c */
void attempts_run(struct queue *queue); /* tells those that have ended */

/* report.c */
void reports_run(struct queue *queue);
void report_pause_over(struct timer *timer);
void reports_deinit(struct queue *queue);
/* For the NEVER units of `attempt`; takes its reader. False: no room or memory, nothing happened. */
bool report_from_attempt(struct queue_attempt *attempt);
/* The report keeps `item` until it is durable; what else is open of it is tried again at `next_s` (wall clock). */
void report_defer(struct queue_report *report, uint32_t item, uint32_t next_s);
bool report_is_due(const struct queue *queue, uint32_t entry, struct slice sender);

/* stop.c */
void stop_check(struct queue *queue);

/* act.c */
void message_act_pending(struct queue *queue, uint32_t entry);
int message_hold(struct queue *queue, uint32_t entry); /* noted, lazily */
void acts_run(struct queue *queue);
void acts_deinit(struct queue *queue);

#endif
