/* tests/sim/sim_spool.h - the ledger of the world of spools: what was promised, and what a recovery may answer. */
#ifndef KILAT_SIM_SPOOL_H
#define KILAT_SIM_SPOOL_H

#include "storage/spool_owner.h"
#include "tests/sim/sim_disk.h"

#define SPOOL_DIRECTORY "/var/spool/kilat"
#define SPOOL_SHARDS_MAX 2
#define ENTRIES_MAX 3000
#define UNITS_MAX 4

/* How the disk is meant in this world. */
enum spool_mode {
    SPOOL_DIES, /* it only loses what was not durable */
    SPOOL_FAILS, /* ... and says EIO, ENOSPC, moves fewer bytes, stalls: nothing may be missing in the end */
    SPOOL_DECAYS, /* ... and bits flip: no more is missing than was hit, and it is told */
    SPOOL_LIES,   /* ... and writes land elsewhere or nowhere */
};

enum entry_state {
    ENTRY_BEGUN,
    ENTRY_PROMISED,
    ENTRY_REFUSED, /* answered with an error after it was on its way: it may be there until a recovery says no */
    ENTRY_FOUND, /* not promised, and a recovery has found it on a disk that fails */
    ENTRY_GONE
};
enum unit_state { UNIT_WAITING, UNIT_NOTED, UNIT_DONE };

struct entry {
    uint64_t id;
    enum entry_state state;
    uint32_t shard;
    uint32_t unit_count;
    uint8_t units[UNITS_MAX];
    bool noted
        [UNITS_MAX]; /* a DONE was handed over once: a recovery may find it again after an error hid it */
    uint32_t envelope_bytes, head_bytes;
    uint64_t body_bytes;
    uint8_t flags;
    uint32_t life;        /* in which it was begun, of its shard */
    bool lives;           /* this life's owner knows it */
    bool open[UNITS_MAX]; /* ... and what it knows of its units */
    bool chunked;
    bool recovered;   /* in the recovery that runs */
    bool overwritten; /* by a misdirected write */
    bool excused;     /* the disk lied about it, or wrote over it */
    bool hit;         /* missing, unreadable or undone by damage: counted once */
    struct spool_location location;
};

struct spool_world {
    struct sim_host *host;
    struct sim_process *process;
    enum spool_mode mode;
    uint32_t shards;
    struct entry entries[ENTRIES_MAX];
    uint32_t entry_count;
    uint32_t lives[SPOOL_SHARDS_MAX]; /* how often each shard was started */
    uint64_t trouble_ns;
    uint64_t kills, power_cuts, recoveries, refused_starts, reads, refused, hot, doubts, hits;
    uint64_t checkpoints, copies, entries_read, amnesties;
};
extern struct spool_world world;

/* ---- content ---- */

enum part { PART_ENVELOPE, PART_HEAD, PART_BODY };
/* Byte `offset` of a part follows from the id. */
void ledger_fill(uint8_t *to, size_t size, uint64_t id, enum part part, uint64_t offset);
void ledger_expect(const struct entry *entry, struct slice got, enum part part, uint64_t offset);
struct entry *ledger_find(uint64_t id);

/* ---- recovery ---- */

void ledger_recovery_begins(uint32_t shard);
/* A message of a log, perhaps finished by a later record. NULL: it is none of ours, and the world has failed. */
struct entry *ledger_seen(const struct spool_recovered_message *message);
/* It is unfinished. */
void ledger_found(struct entry *entry);
void ledger_unit_found(struct entry *entry, uint32_t index, bool done);
/* All that is there was found. `told`: how many records it says are damaged, or groups cut off. */
void ledger_recovery_ends(uint32_t shard, uint64_t told);
/* No checkpoint could be read, so what was finished long ago may be back. */
void ledger_amnesty(uint32_t shard);

/* ---- damage ---- */

/* A reader answered `result` to somebody who wants this entry. */
void ledger_unreadable(struct entry *entry, int result);
/* Something flips. */
void ledger_flip(void);
void ledger_begin(void);

#endif
