/* storage/spool_copy.h - makes a spool that goes on where another one ends: what a compaction writes to.
 *
 * Shard: none; for tools. Blocks.
 */
#ifndef KILAT_STORAGE_SPOOL_COPY_H
#define KILAT_STORAGE_SPOOL_COPY_H

#include "storage/spool_record.h"

/* Makes the directory `path` with a SUPER of the same uuid, number, epoch and ids as `like`, durable, and nothing else in
 * it; spool_open() finds a spool there whose messages may keep the ids they had. 0 or -errno (-EEXIST: it is there). */
int spool_copy_make(const char *path, const struct spool_super *like);

#endif
