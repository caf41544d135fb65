/* queue/queue.h - what we have promised to deliver: messages, destinations, sites, schedule,
 * retries.
 *
 * One queue per shard, over one spool of its own, to which new mail goes, and over those it has
 * adopted (a message's spool is the high bits of its id). It decides what to try and when, and what
 * an outcome means for the promise; it speaks neither SMTP nor DNS: it asks through struct
 * queue_ops.
 *
 * Words: a *unit* is one recipient of a message (its index in the envelope). A *destination* is a
 * recipient domain (lower case), or "local" for all mailboxes of ours. A *site* is a set of
 * destinations with one MX set; its sessions are limited, and the limit is leased between shards by
 * the site's home shard. A *slot* is one session's right to exist. An *attempt* is one message with
 * those of its units that go to one site, in the hands of one session.
 *
 * The flow: queue_submit() -> durable -> units become ready at their destination -> ops->resolve
 * (once, then cached as long as the owner says) -> the site wants slots -> ops->connect -> the
 * session pulls: queue_slot_take(), load, outcomes, finish; pulls again; with nothing left the slot
 * is idle until ops->more, or is returned.
 *
 * Shard: owner, every call. Callbacks of ops run from the shard's tasks, never inside a call of the
 * owner's.
 */
#ifndef KILAT_QUEUE_QUEUE_H
#define KILAT_QUEUE_QUEUE_H

#include "core/shard.h"
#include "storage/spool_owner.h"

struct queue;
struct queue_slot;
struct queue_attempt;
struct queue_report;

/* IN_DOUBT: the final dot was sent and its answer never came. Like LATER, but marked as such, and put
 * on hold when the settings say so. */
enum queue_outcome { QUEUE_DELIVERED, QUEUE_LATER, QUEUE_NEVER, QUEUE_IN_DOUBT };

struct queue_ops {
    /* Is mail for this domain (lower case; empty: <postmaster>) delivered to our own mailboxes? At
     * once. */
    bool (*is_local)(void *context, struct slice domain);
    /* Where does `name` go? Answer with queue_resolved() or queue_unresolved(), now or later. */
    void (*resolve)(void *context, uint32_t destination, struct slice name);
    /* A slot was granted: open a session and pull with queue_slot_take(), or give up with
     * queue_slot_failed(). */
    void (*connect)(void *context, struct queue_slot *slot);
    /* An idle slot has mail again: pull. */
    void (*more)(void *context, struct queue_slot *slot);
    /* The home shard wants the slot back: finish the transaction in hand, close the session,
     * queue_slot_return(). */
    void (*recall)(void *context, struct queue_slot *slot);
    /* Local mail is ready: pull with queue_take_local() until it returns NULL. */
    void (*local)(void *context);
    /* Units have failed for good (or expired) and their sender is to be told: submit a report made
     * of it, then queue_report_done(). Never called for a report or for an empty sender. */
    void (*report)(void *context, struct queue_report *report);
    /* All that a spool held is known (0), or -errno with a sentence: none of it will be attempted.
     * From here on queue_unit_open() tells the truth about it. May be NULL. */
    void (*restored)(void *context, struct spool *spool, int result,
                     const struct spool_report *report, struct slice error);
    /* The queue of `shard`, asked on that shard when a message of another shard's queue arrives
     * there; NULL: none (any more). As an op NULL: shards do not talk, and each takes its part of the
     * limits. */
    struct queue *(*peer)(struct shard *shard);
};

struct queue_config {
    uint32_t retry_first_ms, retry_max_ms; /* doubling from first to max, +- 10 % jitter */
    uint64_t expire_ms;                    /* from arrival to giving up: days */
    uint32_t site_sessions_max;            /* over all shards */
    uint32_t site_messages_max;            /* per session, then a new one */
    uint32_t site_recipients_max; /* per attempt: at most 100 by RFC 5321 4.5.3.1.8's minimum */
    uint32_t site_backoff_first_ms, site_backoff_max_ms; /* of a whole site that failed */
    uint32_t messages_max; /* in this queue; beyond it -EAGAIN at submission */
    bool in_doubt_hold;    /* mail in doubt is held, otherwise sent again */
};

/* 0 or -ENOMEM. Takes neither spool (added as the own one) nor shard. `config` is copied. */
int queue_create(struct shard *shard, struct spool *spool_or_null,
                 const struct queue_config *config, const struct queue_ops *ops, void *context,
                 struct queue **ret_queue);
/* A spool that runs (spool_start()): the queue becomes the owner of its messages, and spool_restore()
 * may follow at once. `own`: new mail goes there; one of a queue's spools, others are adopted ones.
 * Before or after queue_start(). 0 or -ENOMEM. */
int queue_add_spool(struct queue *queue, struct spool *spool, bool own);
/* Begin. New messages are delivered at once, those that a spool is still bringing back when it has
 * done so. */
void queue_start(struct queue *queue);
/* Before a spool is restored, or at any time: the message (named by a crash, say) is put on hold, with
 * this reason, as soon as it is known. At most 64 are remembered. 0, -ENOMEM, -ENOSPC. */
int queue_set_aside(struct queue *queue, uint64_t id, struct slice reason);
/* Takes new values (reload). */
void queue_configure(struct queue *queue, const struct queue_config *config);
/* Starts nothing new (drain for a stop): sessions are called back by ops->recall, attempts and
 * reports in hand go on. `stopped` runs when none of them is left and no slot is held, here and in the
 * queues of all other shards, which are to be stopped as well: until then they give each other back
 * what they were lent. */
void queue_stop(struct queue *queue, void (*stopped)(void *context), void *context);
/* Instead of a stop, when a start has failed: it calls nobody any more. Its spools, which may still be
 * read, or write a checkpoint at their end, go on to speak to it until they have stopped. */
void queue_abandon(struct queue *queue);
/* After its spools have stopped, or before they were added. */
void queue_destroy(struct queue **queue);

/* ---- accepting ------------------------------------------------------------------------------- */

struct queue_submission;
typedef void queue_submitted_fn(struct queue_submission *submission);
struct queue_submission {           /* the caller's, filled in before the call; lent until `done` */
    struct slice sender;            /* empty: <> */
    const struct slice *recipients; /* local-part@domain, or "postmaster" */
    uint32_t recipient_count;       /* 1..10000 */
    struct slice client, helo;      /* kept in the envelope: who gave it to us */
    struct slice head;              /* our Received field */
    const struct iovec *body;
    uint32_t body_pieces;
    struct spool_upload *upload;  /* instead of body */
    uint8_t flags;                /* enum spool_flags */
    uint8_t durability;           /* enum spool_durability */
    uint64_t id;                  /* queue_next_id(): named in Received before the call */
    uint64_t report_of;           /* of a report: the message it reports on, */
    const uint32_t *report_units; /* and its units; borrowed for the call */
    uint32_t report_unit_count;
    queue_submitted_fn
        *done; /* later tick; result 0: durable and in the queue. Else -errno: not accepted */
    int result;
    struct spool_append append; /* private */
    struct queue *queue;        /* private */
    uint32_t entry;             /* private */
};
uint64_t queue_next_id(struct queue *queue);
/* For a report: an id of the spool that holds the message it reports on, so that recovery finds both
 * together. */
uint64_t queue_next_report_id(struct queue *queue, uint64_t report_of);
/* The spool that a message of this queue is in (for a reader, a maildir's uuid); NULL: none of ours. */
struct spool *queue_spool(const struct queue *queue, uint64_t id);
/* Copies body and envelope within the call. 0: `done` follows; else as spool_append(), nothing
 * happened. */
int queue_submit(struct queue *queue, struct queue_submission *submission);
/* 0, -ENOSPC or -EAGAIN: would a message be accepted now? For MAIL. */
int queue_admits(const struct queue *queue);

/* ---- where it goes --------------------------------------------------------------------------- */

/* `site` names the MX set (the owner's own text, at most 255 octets); valid for `ttl_ms`, then
 * resolve is asked again before the next attempt. */
void queue_resolved(struct queue *queue, uint32_t destination, struct slice site, uint64_t ttl_ms);
/* Nowhere: QUEUE_LATER (its units wait and resolve is asked again) or QUEUE_NEVER (they fail). */
void queue_unresolved(struct queue *queue, uint32_t destination, enum queue_outcome outcome,
                      const uint8_t status[3], struct slice text);

/* ---- sessions -------------------------------------------------------------------------------- */

struct slice queue_slot_site(const struct queue_slot *slot);
void queue_slot_set_user(struct queue_slot *slot, void *user);
void *queue_slot_user(const struct queue_slot *slot);
/* The next message for this site, or NULL: the slot is now idle (ops->more may follow), or its
 * site_messages_max is reached (`*ret_retire` true: close and return it). */
struct queue_attempt *queue_slot_take(struct queue_slot *slot, bool *ret_retire);
/* The session is closed in order. Frees the slot. No attempt may be in hand. */
void queue_slot_return(struct queue_slot *slot);
/* The session could not be made or the host as a whole is not well (all MX tried): the site backs
 * off. Frees the slot. */
void queue_slot_failed(struct queue_slot *slot, const uint8_t status[3], struct slice text);
/* A session was greeted: ends the site's back-off. */
void queue_slot_succeeded(struct queue_slot *slot);

/* The next local message with all its local units, or NULL: none, or the next one is larger than
 * `bytes_max` (head and body; UINT64_MAX takes any). */
struct queue_attempt *queue_take_local(struct queue *queue, uint64_t bytes_max);

/* ---- an attempt ------------------------------------------------------------------------------ */

typedef void queue_loaded_fn(struct queue_attempt *attempt, void *context, int result);
/* Brings envelope and body within reach: runs before the call returns when hot. On failure the
 * owner calls queue_attempt_finish() without outcomes; the queue sets the message aside (damaged)
 * or tries later. */
void queue_attempt_load(struct queue_attempt *attempt, queue_loaded_fn *loaded, void *context);
uint64_t queue_attempt_id(const struct queue_attempt *attempt);
uint64_t
queue_attempt_bytes(const struct queue_attempt *attempt); /* head and body; before load too */
struct slice
queue_attempt_sender(const struct queue_attempt *attempt); /* after load; borrowed until finish */
uint32_t queue_attempt_count(const struct queue_attempt *attempt); /* recipients of this attempt */
const struct slice *queue_attempt_recipients(const struct queue_attempt *attempt);
uint32_t queue_attempt_unit(const struct queue_attempt *attempt,
                            uint32_t index);                        /* index in the envelope */
uint32_t queue_attempt_number(const struct queue_attempt *attempt); /* 1 for the first */
struct spool_reader *queue_attempt_reader(const struct queue_attempt *attempt);
void queue_attempt_outcome(struct queue_attempt *attempt, uint32_t index,
                           enum queue_outcome outcome, const uint8_t status[3], struct slice text);
/* The body could not be read to its end. -EBADMSG, -EIO: queue_attempt_finish() sets aside what was not delivered; any
 * other error means nothing, and the message is tried again. */
void queue_attempt_damaged(struct queue_attempt *attempt, int error);
typedef void queue_finished_fn(void *context, int result);
/* Ends the attempt: what has no outcome is QUEUE_LATER with "attempt given up". Delivered units are
 * noted lazily; with `durable` they are flushed, and it runs when the notes are on disk (0) or are
 * not (-errno: then nothing was finished and the units are tried again). Frees the attempt (with
 * `durable`: before it runs). While a load is under way this gives it up: `loaded` does not run. */
void queue_attempt_finish(struct queue_attempt *attempt, queue_finished_fn *durable, void *context);

/* ---- reports --------------------------------------------------------------------------------- */

struct queue_report_unit {
    uint32_t unit;
    struct slice address;
    uint8_t status[3];
    struct slice text;
};
struct queue_report_info {
    uint64_t id; /* of the failed message */
    struct slice sender;
    uint32_t arrival_s;
    bool expired;
    const struct queue_report_unit *units;
    uint32_t unit_count;
    struct spool_reader *reader; /* for the headers */
};
const struct queue_report_info *
queue_report_info(const struct queue_report *report); /* borrowed until done */
/* 0: a report is durable (or none is due after all); -errno: try again later. Frees the report. */
void queue_report_done(struct queue_report *report, int result);

/* ---- what people ask (answers at once, from memory)
 * ---------------------------------------------- */

enum queue_state {
    QUEUE_STATE_READY,
    QUEUE_STATE_WAITING,
    QUEUE_STATE_TRYING,
    QUEUE_STATE_HELD,
    QUEUE_STATE_DAMAGED
};
struct queue_view {
    uint64_t id;
    enum queue_state state;
    uint32_t arrival_s, attempts, units_open;
    uint64_t size_bytes;
    struct slice destination; /* of its first open unit; "local" */
    struct slice site;        /* empty while unknown */
    uint64_t next_wall_s; /* next try of the message or of its site, whichever is later; 0: now */
    uint64_t expires_wall_s;
    struct slice reason; /* why it is still here, one line */
    bool
        in_doubt; /* its last attempt ended between the final dot and the answer: it may have arrived */
};
/* Calls `each` for ids above `after_id` in order, at most `count` times; returns how many.
 * `destination` empty: all. */
typedef void queue_view_fn(void *context, const struct queue_view *view);
uint32_t queue_list(struct queue *queue, uint64_t after_id, struct slice destination,
                    uint32_t count, queue_view_fn *each, void *context);
bool queue_show(struct queue *queue, uint64_t id, struct queue_view *ret_view);
/* The open recipients with reasons need the envelope: */
bool queue_locate(struct queue *queue, uint64_t id, struct spool_location *ret_location);
bool queue_unit_open(struct queue *queue, uint64_t id,
                     uint32_t unit); /* for maildir_recover(): still waiting? */

enum queue_action { QUEUE_HOLD, QUEUE_RELEASE, QUEUE_RETRY, QUEUE_REMOVE, QUEUE_BOUNCE };
/* 0: it is so now, and `acted` (unless NULL) runs in a later tick, when that would survive a crash
 * (result 0), or is not certain to (-errno: the journal could not be written). Without `acted` it is
 * noted lazily. -ENOENT no such message; -EBUSY an attempt is in hand (or its spool is being read): it
 * happens when that is over; -EAGAIN its spool is being read; -EALREADY; -EPERM: to be retried it must
 * be released first; -EIO: the journal takes no notes; -ENOMEM. With these `acted` does not run. */
typedef void queue_acted_fn(void *context, int result);
int queue_act(struct queue *queue, uint64_t id, enum queue_action action, queue_acted_fn *acted,
              void *context);

struct queue_counters {
    /* Of messages: accepted, generated, recovered, damaged. Of units: all others. At any time
     * accepted_units + generated_units + recovered_units
     *     = delivered + bounced + expired + removed + units, over all spools: queue_conservation(). */
    uint64_t accepted, generated, recovered, damaged;
    uint64_t in_doubt; /* units, each time */
    uint64_t delivered, deferred, bounced, expired, removed;
    uint64_t accepted_units, generated_units, recovered_units, delivered_units;
    /* Now: messages and units in the queue; the states count a message once per destination. */
    uint32_t messages, units, held, ready, waiting, trying;
    uint32_t destinations, sites, sessions;
    uint32_t restoring; /* items that are not scheduled yet */
    uint64_t index_bytes;
    /* The wall clock is not believed: nothing expires and nothing bounces until queue_clock_accept(), or
     * for so many more seconds. */
    bool clock_doubted;
    uint32_t clock_doubted_s;
    uint64_t clock_jumps; /* of more than an hour, while running */
};
void queue_counters(const struct queue *queue, struct queue_counters *ret_counters);

/* Nothing is ever lost, in recipients, of one spool since its start:
 *     accepted + generated + recovered
 *         = delivered + bounced + expired + removed + moved + set_aside + queued
 * `difference` is the left side less the right one; another value than 0 is a fault of ours, and is
 * said loudly, once. 0 or -ENOENT. */
struct queue_conservation {
    uint64_t accepted, generated, recovered;
    uint64_t delivered, bounced, expired, removed, moved;
    uint64_t set_aside; /* now: their record cannot be read */
    uint64_t queued;    /* now: all others */
    int64_t difference;
};
int queue_conservation(struct queue *queue, uint32_t spool_number,
                       struct queue_conservation *ret_conservation);
/* The numbers of its spools, ascending calls from 0; false behind the last one. */
bool queue_spool_number(const struct queue *queue, uint32_t nth, uint32_t *ret_number);

/* An operator has looked at the wall clock: it is right. */
void queue_clock_accept(struct queue *queue);

/* Sites as they stand on this shard, for `kilatctl status`. */
struct queue_site_view {
    struct slice name;
    uint32_t sessions, sessions_max, ready;
    uint64_t backoff_until_wall_s;
    struct slice reason;
};
typedef void queue_site_fn(void *context, const struct queue_site_view *view);
void queue_sites(struct queue *queue, queue_site_fn *each, void *context);

#endif
