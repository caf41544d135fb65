/* daemon/node_spools.h - the spools of one shard: its own, to which new mail goes, and those it has adopted because their
 * number has no shard any more.
 *
 * Life of one: opened and started at boot (milliseconds), accepting from then on; RECOVERING while what it held is brought
 * back beside the running server; MAILBOXES while a job publishes or removes what an earlier life left between the log and
 * the mailboxes; READY. ON_HOLD instead: it is older than its marker (daemon/marker.h), and nothing of what it holds is read
 * until it is accepted. FAILED: it could not be brought back, and what it holds waits for the next start.
 *
 * Shard: owner; opening at boot.
 */
#ifndef KILAT_DAEMON_NODE_SPOOLS_H
#define KILAT_DAEMON_NODE_SPOOLS_H

#include "daemon/kilatd_private.h"
#include "storage/spool_export.h"

enum node_spool_state {
    NODE_SPOOL_ON_HOLD,
    NODE_SPOOL_RECOVERING,
    NODE_SPOOL_MAILBOXES,
    NODE_SPOOL_READY,
    NODE_SPOOL_FAILED
};

struct node_leftover;
struct node_spool {
    struct node *node;
    const struct kilatd_spool *found;
    struct spool *spool;
    enum node_spool_state state;
    bool own;
    uint64_t first_id; /* of this life */
    struct spool_report report;
    uint64_t began_ns, took_us; /* the bringing back */
    char sentence[300];         /* why it is on hold, or has failed */
    bool stopped;

    /* Of the mailboxes: */
    struct ring_op walk;
    bool walking, listed, restored;
    int walked; /* result of the last walk */
    struct node_leftover *leftovers;
    size_t leftover_count, leftover_capacity;

    /* Of the marker: */
    struct ring_op mark;
    bool marking;
    struct marker marker; /* being written, or written last */
    void (*marked)(struct node_spool *spool, int result);
    void (*accepted)(struct node_spool *spool, int result);
    void *accepted_context;

    /* Of messages over which the server has ended twice: */
    struct ring_op aside;
    struct buf aside_lines;
    bool setting_aside;

    /* Of a copy that is made: */
    struct spool_export *copy;
    struct ring_op copy_mark;
    bool copying;
    char *copy_path; /* the directory it is made in */
    struct marker copy_marker;
    uint64_t copy_bytes;
    void (*copied)(struct node_spool *spool, int result);
    void *copied_context;
};

void node_spools_init(struct node *node); /* before anything of the node may fail */
/* Opens all that the shard has; node->start_error says what could not be done. 0 or -errno. */
int node_spools_open(struct node *node);
/* The queue has started: brings back what they held. */
void node_spools_restore(struct node *node);
/* Of queue_ops. */
void node_spools_restored(void *node, struct spool *spool, int result,
                          const struct spool_report *report, struct slice error);
/* Files in the mailboxes' tmp/ are being settled: no local delivery begins meanwhile. */
bool node_spools_settling(const struct node *node);
/* Jobs are under way. */
bool node_spools_busy(const struct node *node);
/* The server ends: copies are given up. */
void node_spools_end(struct node *node);
/* Stops all, then writes their markers a last time; `stopped` runs when that is done. */
void node_spools_stop(struct node *node, void (*stopped)(struct node *node));
void node_spools_destroy(struct node *node);

/* The spool of that number, if it is this shard's; NULL. */
struct node_spool *node_spools_find(struct node *node, uint32_t number);
/* Ends ON_HOLD; `accepted` runs later, when the marker says so, and what it held is being brought back then. 0 or -EALREADY. */
int node_spool_accept(struct node_spool *spool,
                      void (*accepted)(struct node_spool *spool, int result), void *context);
/* Makes the copy `directory`/NNNN, with a marker beside it that keeps it on hold wherever it is started. `copied` runs
 * later. 0, -EALREADY: one is being made; -ENOMEM. */
int node_spool_copy(struct node_spool *spool, struct slice directory,
                    void (*copied)(struct node_spool *spool, int result), void *context);
const char *node_spool_state_name(enum node_spool_state state);

#endif
