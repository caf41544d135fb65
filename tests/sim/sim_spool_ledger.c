/* tests/sim/sim_spool_ledger.c - what a recovery may answer, after all that the disk has done.
 *
 * On a disk that only dies or fails nothing promised may be missing. A recovery that met an error (EIO) may present less
 * than there is, if it says so; what it hid is there again when the disk works. Where bits flip, one flip costs one
 * record at most: a message, or one DONE (so that a message comes once more). Where a write went elsewhere, what it
 * should have carried and what it fell upon is excused. In no case does anything come back altered, and whatever
 * is missing was told (QUEUE I20), but for the last group of a stream that was never written: nothing is there to tell.
 */
#include "tests/sim/sim_spool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t errors_before[SPOOL_SHARDS_MAX]; /* of the disk, when the recovery began */
static uint32_t super_whole; /* a bit for each shard: both slots of its SUPER are good */
static bool beheaded
    [SPOOL_SHARDS_MAX]; /* a lie fell upon a segment's header: whatever goes there later is lost as well */
static bool amnesty[SPOOL_SHARDS_MAX];    /* of the recovery that runs */
static uint64_t hidden[SPOOL_SHARDS_MAX]; /* what it did not present and should have */

/* ---- content ---------------------------------------------------------------------------------- */

/* A word of splitmix64 for every eight bytes. */
void ledger_fill(uint8_t *to, size_t size, uint64_t id, enum part part, uint64_t offset)
{
    while (size > 0) {
        struct sim_random random = {.state = id * 31 + (uint64_t)part * 7919 + offset / 8};
        uint64_t word = sim_random_u64(&random) >> (8 * (offset % 8));
        size_t count = 8 - (size_t)(offset % 8);

        count = MIN(count, size);
        memcpy(to, &word, count);
        to += count;
        offset += count;
        size -= count;
    }
}

void ledger_expect(const struct entry *entry, struct slice got, enum part part, uint64_t offset)
{
    uint8_t *wanted = malloc(got.size + 1);

    ASSERT(wanted != NULL);
    ledger_fill(wanted, got.size, entry->id, part, offset);
    if (got.size > 0 && memcmp(wanted, got.data, got.size) != 0)
        sim_fail("message %llx: part %d is altered somewhere in %zu bytes from %llu",
                 (unsigned long long)entry->id, part, got.size, (unsigned long long)offset);
    free(wanted);
}

struct entry *ledger_find(uint64_t id)
{
    for (uint32_t i = 0; i < world.entry_count; i++)
        if (world.entries[i].id == id)
            return &world.entries[i];
    return NULL;
}

/* ---- damage ----------------------------------------------------------------------------------- */

/* True when the disk may be blamed for what was just seen of `entry`. */
static bool damage_explains(struct entry *entry)
{
    if (entry->hit || (world.mode == SPOOL_LIES && (entry->excused || beheaded[entry->shard]))) {
        entry->hit = true;
        return true;
    }
    if (world.mode != SPOOL_DECAYS || world.hits >= world.host->disk->flips)
        return false;
    entry->hit = true;
    world.hits++;
    return true;
}

static bool error_explains(uint32_t shard)
{
    return world.mode == SPOOL_FAILS && world.host->disk->errors_made > errors_before[shard];
}

void ledger_unreadable(struct entry *entry, int result)
{
    if (result == -EIO && world.mode == SPOOL_FAILS)
        return;
    if ((result == -EBADMSG || result == -EIO) && damage_explains(entry))
        return;
    sim_fail("message %llx cannot be read: %d", (unsigned long long)entry->id, result);
}

/* SUPER has two slots: one may be hit while both are good, which they are from the end of a recovery to the next. */
void ledger_flip(void)
{
    bool whole = super_whole == (1u << world.shards) - 1;
    struct sim_inode *inode;
    uint64_t offset;

    if (sim_disk_flip(world.host, SPOOL_DIRECTORY, whole ? NULL : "SUPER", &inode, &offset) &&
        inode->size == 2 * SIM_PAGE_BYTES) /* nothing else in a spool is so small */
        super_whole = 0;
}

/* The name of `inode` in its spool: which stream, which segment, whose. */
static bool segment_of(const struct sim_inode *inode, uint32_t *ret_shard, char *ret_stream,
                       uint32_t *ret_number)
{
    for (uint32_t shard = 0; shard < world.shards; shard++) {
        char path[128];
        const struct sim_inode *dir;

        snprintf(path, sizeof(path), SPOOL_DIRECTORY "/%04u", shard);
        dir = sim_disk_find(world.host, path);
        for (size_t i = 0; dir != NULL && i < dir->names.count; i++) {
            const char *name = dir->names.items[i].text;

            if (dir->names.items[i].inode != inode || name[1] != '-')
                continue;
            *ret_shard = shard;
            *ret_stream = name[0];
            *ret_number = (uint32_t)strtoul(name + 2, NULL, 16);
            return true;
        }
    }
    return false;
}

/* Which messages a write carried can be said only roughly: of D those that were on their way, of J those that were noted. */
static void on_lie(const struct sim_inode *meant, uint64_t meant_offset,
                   const struct sim_inode *hit, uint64_t hit_offset, size_t size)
{
    uint32_t shard, number;
    char stream;

    (void)meant_offset;
    if (!segment_of(meant, &shard, &stream, &number)) {
        sim_fail("a durable write that is none of a segment's");
        return;
    }
    beheaded[shard] |= hit != NULL && hit_offset == 0;
    if (stream == 'R')
        number |= SPOOL_COLD;
    for (uint32_t i = 0; i < world.entry_count; i++) {
        struct entry *entry = &world.entries[i];
        uint64_t at = entry->location.offset_16 * 16ull;
        bool noted = false, below;

        if (entry->shard != shard)
            continue;
        for (uint32_t u = 0; u < entry->unit_count; u++)
            noted |= entry->noted[u];
        below =
            hit != NULL && entry->location.segment == number &&
            (hit_offset == 0 || /* the header: without it nothing in the segment can be verified */
             (at < hit_offset + size && at + entry->location.record_bytes > hit_offset));
        if (stream == 'R' && entry->lives)
            entry->excused = true; /* it may be the one that was copied */
        if (stream != 'J' && below)
            entry->overwritten = true; /* what it was is not there, but that it was can be seen */
        if (stream == 'J')
            entry->excused |= noted || entry->state == ENTRY_REFUSED || entry->state == ENTRY_GONE;
        else
            entry->excused |=
                entry->state == ENTRY_BEGUN || entry->body_bytes > SPOOL_INLINE_BODY_MAX || below;
    }
}

void ledger_begin(void)
{
    sim_disk_lied = on_lie;
}

/* ---- recovery --------------------------------------------------------------------------------- */

void ledger_recovery_begins(uint32_t shard)
{
    for (uint32_t i = 0; i < world.entry_count; i++)
        if (world.entries[i].shard == shard)
            world.entries[i].recovered = false;
    errors_before[shard] = world.host->disk->errors_made;
    hidden[shard] = 0;
    amnesty[shard] = false;
    super_whole &= ~(1u << shard);
}

/* Without O_DIRECT a write-back that failed leaves in the page cache what is on no disk: it is seen until a cut of power
 * takes it. Everything else that a recovery has seen is durable from then on, promised or not. */
static bool cache_lies(void)
{
    return world.mode == SPOOL_FAILS && world.host->disk->refuses_direct;
}

void ledger_unit_found(struct entry *entry, uint32_t index, bool done)
{
    uint8_t *state = &entry->units[index];

    if (done && !entry->noted[index])
        sim_fail("message %llx: unit %u is done and nobody said so", (unsigned long long)entry->id,
                 index);
    if (!done && *state == UNIT_DONE) {
        if (!amnesty[entry->shard] && !error_explains(entry->shard) && !damage_explains(entry))
            sim_fail("message %llx: unit %u was durably done and waits again",
                     (unsigned long long)entry->id, index);
        hidden[entry->shard] += world.mode != SPOOL_LIES || entry->overwritten;
    }
    if (done && *state != UNIT_DONE)
        *state = cache_lies() ? UNIT_NOTED : UNIT_DONE;
    if (!done) /* a DONE that the disk would not give is there, and read, when it does */
        *state = *state == UNIT_DONE && error_explains(entry->shard) ? UNIT_NOTED : UNIT_WAITING;
}

/* A message that is over and is there again: its DONE or ABORT cannot be read. */
static bool may_return(struct entry *entry)
{
    if (amnesty[entry->shard])
        return true;
    if (!error_explains(entry->shard) && !damage_explains(entry))
        return false;
    hidden[entry->shard] += world.mode != SPOOL_LIES || entry->overwritten;
    return true;
}

struct entry *ledger_seen(const struct spool_recovered_message *message)
{
    struct entry *entry = ledger_find(message->id);

    if (entry == NULL) {
        sim_fail("message %llx is back from nowhere", (unsigned long long)message->id);
        return NULL;
    }
    if (message->envelope.size != entry->envelope_bytes ||
        message->head_bytes != entry->head_bytes || message->body_bytes != entry->body_bytes ||
        message->unit_count != entry->unit_count || message->flags != entry->flags) {
        sim_fail("message %llx: its sizes are altered", (unsigned long long)message->id);
        return NULL;
    }
    ledger_expect(entry, message->envelope, PART_ENVELOPE, 0);
    return entry;
}

void ledger_amnesty(uint32_t shard)
{
    amnesty[shard] = true;
    world.amnesties++;
}

void ledger_found(struct entry *entry)
{
    if (entry->state == ENTRY_GONE && !may_return(entry)) {
        sim_fail("message %llx was over and is back", (unsigned long long)entry->id);
        return;
    }
    if (entry->state != ENTRY_PROMISED)
        entry->state = cache_lies() || (entry->state == ENTRY_GONE && error_explains(entry->shard))
                           ? ENTRY_FOUND
                           : ENTRY_PROMISED;
    entry->recovered = true;
}

/* The first unit of a promised message that waits; UNITS_MAX: none. */
static uint32_t waiting_unit(const struct entry *entry)
{
    for (uint32_t u = 0; u < entry->unit_count; u++)
        if (entry->units[u] == UNIT_WAITING)
            return u;
    return UNITS_MAX;
}

static void settle_missing(struct entry *entry)
{
    bool promised = entry->state == ENTRY_PROMISED && waiting_unit(entry) != UNITS_MAX;

    if (promised && error_explains(entry->shard)) { /* set aside: the next recovery may find it */
        hidden[entry->shard]++;
        return;
    }
    if (!promised && error_explains(entry->shard))
        return; /* this recovery has not seen all, and decides nothing */
    if (promised && !damage_explains(entry))
        sim_fail("message %llx was promised, unit %u waits, and it is missing",
                 (unsigned long long)entry->id, waiting_unit(entry));
    hidden[entry->shard] += promised && (world.mode != SPOOL_LIES || entry->overwritten);
    world.doubts += entry->state != ENTRY_PROMISED;
    entry->state = ENTRY_GONE;
}

void ledger_recovery_ends(uint32_t shard, uint64_t told)
{
    for (uint32_t i = 0; i < world.entry_count; i++) {
        struct entry *entry = &world.entries[i];

        if (entry->shard == shard && entry->life < world.lives[shard] &&
            entry->state != ENTRY_GONE && !entry->recovered)
            settle_missing(entry);
    }
    super_whole |= 1u << shard;
    if (hidden[shard] > 0 && told == 0)
        sim_fail("%llu messages or results are hidden from this recovery, and it says nothing",
                 (unsigned long long)hidden[shard]);
}
