/* storage/spool_export.h - a consistent copy of a spool that runs.
 *
 * Segments are only ever appended to, so a copy is a moment of the spool if nothing that it needs goes meanwhile and the
 * order is right: what SUPER says is read first and written last; messages (D, R) are copied before what became of them
 * (J), so that nothing is finished in the copy whose end is not in it. While a copy is made no segment is used again or
 * removed: the spool grows by what arrives. A copy that was given up has no SUPER, and no server starts on it.
 *
 * Shard: owner; the files are copied by jobs of some megabytes.
 */
#ifndef KILAT_STORAGE_SPOOL_EXPORT_H
#define KILAT_STORAGE_SPOOL_EXPORT_H

#include "storage/spool.h"

struct spool_export;
/* `bytes`: of the files made (zeros are left out of them). Frees the copy. */
typedef void spool_export_fn(void *context, int result, uint64_t bytes);

/* Copies to the directory `path`, which is made and has to be new (its parent has to exist). 0: `done` follows; -ENOMEM.
 * The spool may not be stopped before `done`. */
int spool_export_begin(struct spool *spool, const char *path, spool_export_fn *done, void *context,
                       struct spool_export **ret_export);
/* `done` comes soon, with -ECANCELED unless it is over. */
void spool_export_cancel(struct spool_export *copy);

#endif
