/* storage/spool_checkpoint_private.h - the jobs of a checkpoint (spool_checkpoint_file.c), for spool_checkpoint.c alone.
 *
 * They touch the descriptor, the block in hand and the names in struct spool_checkpoint, which the shard leaves alone
 * meanwhile. */
#ifndef KILAT_STORAGE_SPOOL_CHECKPOINT_PRIVATE_H
#define KILAT_STORAGE_SPOOL_CHECKPOINT_PRIVATE_H

#include "storage/spool_private.h"

/* The block in hand to its place; the first makes the file. */
int spool_checkpoint_write_job(struct ring_op *op);
/* The file, then its name. */
int spool_checkpoint_sync_job(struct ring_op *op);
/* Some blocks: 0: go on; 1: all that were written verify. */
int spool_checkpoint_verify_job(struct ring_op *op);
/* Closes the file and takes it away. */
int spool_checkpoint_abandon_job(struct ring_op *op);
/* The oldest file goes, and J segments that nobody needs. */
int spool_checkpoint_clean_job(struct ring_op *op);

#endif
