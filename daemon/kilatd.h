/* daemon/kilatd.h - one server: everything hangs from struct kilatd, nothing is global, so that
 * several live in one process (the simulation runs them so).
 *
 * Life: kilatd_create() reads and checks, kilatd_start() binds, recovers and runs the shards,
 * kilatd_stop() asks for an orderly end from any thread or signal handler's thread, kilatd_join()
 * waits for it, kilatd_destroy() frees.
 */
#ifndef KILAT_DAEMON_KILATD_H
#define KILAT_DAEMON_KILATD_H

#include "daemon/settings.h"

struct kilatd;

/* Reads `config_path`; touches nothing else. 0, or -errno with one sentence: file, line, what was
 * expected. */
int kilatd_create(const char *config_path, struct kilatd **ret_kilatd, struct buf *error);
/* The same from a text in memory (the simulation). */
int kilatd_create_from_text(struct slice config, const char *name, struct kilatd **ret_kilatd,
                            struct buf *error);
const struct settings *kilatd_settings(const struct kilatd *kilatd);
/* How many descriptors this process may have: mail sessions are refused before the last ones are
 * gone, which are for kilatctl, outgoing mail and files. Not told: they count for nothing. Before
 * kilatd_start(). */
void kilatd_limit_descriptors(struct kilatd *kilatd, uint64_t count_max);
/* A fault of ours leaves a line in the log and in spool_directory/CRASHES (core/crash.h), and a message that two such lines
 * name is put on hold. For a process that is one server. Before kilatd_start(). */
void kilatd_catch_crashes(struct kilatd *kilatd);
/* Version and, when it was built in a repository, revision. */
const char *kilatd_build(void);
/* Opens and checks all that can be checked before anything is changed (`kilatd --check`). */
int kilatd_check(struct kilatd *kilatd, struct buf *error);
/* Binds, becomes its own user when root, recovers the spools, starts the shards; returns when they
 * accept. */
int kilatd_start(struct kilatd *kilatd, struct buf *error);
/* Shard: any. Stops accepting, lets sessions and attempts end (for at most `patience_ms`), flushes
 * and ends. */
void kilatd_stop(struct kilatd *kilatd, uint64_t patience_ms);
/* Shard: any. Reads the file again; what cannot change without a restart is refused and nothing
 * changes. The outcome is logged. */
void kilatd_reload(struct kilatd *kilatd);
/* `ended` runs once, on the last shard's thread, when all shards have let go of everything. Before
 * kilatd_start(). */
void kilatd_on_end(struct kilatd *kilatd, void (*ended)(void *context), void *context);
void kilatd_join(struct kilatd *kilatd);
void kilatd_destroy(struct kilatd **kilatd);

#endif
