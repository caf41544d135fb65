/* cli/spool_lock.h - what a command that writes to a stopped spool holds meanwhile: the locks that a server takes, and the
 * rights of the user the spool belongs to, so that a server finds its own files afterwards. */
#ifndef KILAT_CLI_SPOOL_LOCK_H
#define KILAT_CLI_SPOOL_LOCK_H

#include <stdbool.h>

struct spool_lock {
    int fds[2]; /* of the spool_directory, of the spool */
    bool as_owner;
};

/* For the spool at `path`. With `own` also the lock of the spool itself, which spool_open() takes otherwise. False with a
 * sentence that names who holds it; nothing is changed then. */
bool spool_lock_take(const char *path, bool own, struct spool_lock *lock);
void spool_lock_release(struct spool_lock *lock);
/* Opens a file with the rights of the caller, not of the owner. -1 with errno. */
int spool_lock_open_as_caller(const struct spool_lock *lock, const char *path, int flags);

#endif
