/* daemon/local_late.h - letters that are DONE and could not be made visible just then.
 *
 * Once DONE is durable nobody else looks after a file in tmp/ before the next start; a server without a free
 * descriptor for a moment must not hide letters until then. Each shard's renames that failed are tried again until they
 * succeed or their file is gone. Shard: owner.
 */
#ifndef KILAT_DAEMON_LOCAL_LATE_H
#define KILAT_DAEMON_LOCAL_LATE_H

#include "daemon/kilatd_private.h"
#include "storage/maildir.h"

struct local_late;
/* 0 or -ENOMEM. */
int local_late_create(struct node *node, struct local_late **ret_late);
/* Not while local_late_busy(). Accepts NULL, clears the pointer. */
void local_late_destroy(struct local_late **late);
/* Copies what it needs of `file`. Too many, or no memory: left to the next start. */
void local_late_add(struct local_late *late, const struct maildir_item *file);
/* A job is under way; it ends by itself, and during the orderly end none follows. */
bool local_late_busy(const struct local_late *late);

#endif
