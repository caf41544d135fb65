/* storage/spool_look.h - a first look at a spool, before a byte of it is changed.
 *
 * What a start should refuse, it should refuse for all spools before it has begun with any: a spool of a newer program, of
 * another user, of another number, a copy that is not whole. Damage inside of segments is no such thing: recovery sets it
 * aside and goes on.
 *
 * Shard: none; boot and tools. Blocks.
 */
#ifndef KILAT_STORAGE_SPOOL_LOOK_H
#define KILAT_STORAGE_SPOOL_LOOK_H

#include "storage/spool.h"

struct spool_look {
    bool exists; /* false: there is none, and one may be made */
    uint8_t uuid[SPOOL_UUID_BYTES];
    uint64_t epoch, sequence; /* of SUPER; the sequence grows with each of its writes */
    bool slot_damaged;        /* SUPER had a newer slot, perhaps: one of the two cannot be read */
    uint64_t segments;        /* D, R and J */
};

/* `owner_uid`: whose all of it has to be. 0, or -errno with one sentence in `error` that names the file. Writes nothing. */
int spool_look(const char *path, uint32_t number, uint32_t owner_uid, struct spool_look *ret_look,
               struct buf *error);

#endif
