/* storage/maildir_private.h - what delivery (maildir.c) and the mailbox (mailbox.c) share.
 *
 * Blocks, like all of core/file.h: worker jobs and boot only.
 */
#ifndef KILAT_STORAGE_MAILDIR_PRIVATE_H
#define KILAT_STORAGE_MAILDIR_PRIVATE_H

#include "storage/maildir.h"

#define MAILDIR_NAME_MAX 255 /* NAME_MAX of every file system we know */

/* The three directories of one account and the account's own; all are -1 or open. */
struct maildir_dirs {
    int account_fd;
    int new_fd;
    int cur_fd;
    int tmp_fd;
};

/* Opens `directory` ("user" or "domain/user") below the mail root. With `make` what is missing is
 * made first (0700). Returns 0 and the descriptors (owned: maildir_dirs_close()), or -errno and all
 * of them -1: -EINVAL for a name of more than two components, or one that begins with a dot. */
int maildir_dirs_open(int root_dir_fd, const char *directory, bool make,
                      struct maildir_dirs *ret_dirs);
void maildir_dirs_close(struct maildir_dirs *dirs);

/* The part of a file name that names the message: readers add their flags behind a colon. */
struct slice maildir_base_name(const char *name);

/* Looks for a file of that base name: `name[MAILDIR_NAME_MAX + 1]` takes the name found. 1 found, 0
 * not, or -errno. Walks the whole directory: for the rare case that a file is not where it was
 * seen. */
int maildir_find(int dir_fd, struct slice base, char *ret_name);

#endif
