/* storage/spool_inspect.h - looks into a spool, running, stopped or copied, without changing a byte of it.
 *
 * The parser is the one of recovery (spool_scan.c). No lock is taken and nothing is made: a spool on a read-only disk
 * can be looked at. Of a running server it sees a moment that may be some milliseconds wide: J is read before D, so what
 * was finished meanwhile shows as unfinished, never the other way round; the group being written shows as a torn tail.
 *
 * Shard: none; for tools and tests. Blocks.
 */
#ifndef KILAT_STORAGE_SPOOL_INSPECT_H
#define KILAT_STORAGE_SPOOL_INSPECT_H

#include "storage/spool_record.h"

struct spool_inspect;

/* Where something stands. */
struct spool_inspect_place {
    char stream; /* 'D', 'R', 'J', or 'C' (a checkpoint) */
    uint32_t segment;
    uint64_t offset;
};

struct spool_inspect_segment {
    char stream;
    uint32_t number;
    uint64_t size_bytes;
    struct spool_segment_header header; /* valid when `readable` */
    bool readable, read_error;
    uint64_t groups, records;
};

/* Any of them may be NULL. What they are given is borrowed for the call. */
struct spool_inspect_events {
    void *context;
    /* A record whose header verifies; `front_ok` and `body_ok` say the same of its sections. */
    void (*record)(void *context, const struct spool_inspect_place *place,
                   const struct spool_record *record, const uint8_t *bytes, bool front_ok,
                   bool body_ok);
    void (*note)(void *context, const struct spool_inspect_place *place,
                 const struct spool_journal_record *record, struct slice text);
    /* Bytes that were acknowledged and do not verify, or (`torn`) a write that never completed. */
    void (*damage)(void *context, const struct spool_inspect_place *place, bool torn,
                   const char *what);
    void (*segment)(void *context, const struct spool_inspect_segment *segment); /* at its end */
};

struct spool_inspect_totals {
    uint64_t segments, spares, bytes, groups, records, notes;
    uint64_t damaged, torn; /* places told by `damage` */
    uint64_t messages;      /* unfinished and readable */
    uint64_t held;          /* of those */
    uint64_t open_units;    /* recipients of those that still wait */
    uint64_t finished;      /* messages that are still on disk, though done or aborted */
    uint64_t unreadable;    /* unfinished, and not to be presented */
};

/* Opens the directory and reads SUPER. 0 or -errno with one sentence in `error`: no spool, both slots damaged, a format
 * this program may not even read. */
int spool_inspect_open(const char *path, struct spool_inspect **ret_inspect, struct buf *error);
void spool_inspect_close(struct spool_inspect **inspect); /* accepts NULL */
const struct spool_super *spool_inspect_super(const struct spool_inspect *inspect);

/* Reads all segments once and tells what is in them. 0 or -errno with one sentence; -EPROTONOSUPPORT: a segment of a
 * newer format. */
int spool_inspect_scan(struct spool_inspect *inspect, const struct spool_inspect_events *events,
                       struct buf *error);

/* One unfinished message. Another value than 0 ends it and is returned. */
typedef int spool_inspect_fn(void *context, const struct spool_recovered_message *message);

/* After the scan: every message that is not finished, in order of id, as recovery would present it. Another value than
 * 0 of `each` ends it and is returned. */
int spool_inspect_messages(struct spool_inspect *inspect, spool_inspect_fn *each, void *context);

/* Head and body of a message as they are sent (skips left out), in pieces, every byte verified before it is handed
 * out. 0, -EBADMSG, -errno, or what `piece` returned if that is not 0. */
typedef int spool_inspect_piece_fn(void *context, struct slice piece);
int spool_inspect_read(struct spool_inspect *inspect, const struct spool_location *location,
                       spool_inspect_piece_fn *piece, void *context);

/* What the scan has counted; the messages only after spool_inspect_messages(). */
const struct spool_inspect_totals *spool_inspect_totals(const struct spool_inspect *inspect);

#endif
