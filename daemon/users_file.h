/* daemon/users_file.h - the accounts file: the passwd-file format that Dovecot reads too.
 *
 * A line: name@domain:{CRYPT}$y$...:uid:gid:gecos:home:shell:extra - what follows the password is
 * ignored. A hash without
 * "{...}" is crypt(3) as well. Lines that begin with "#" and empty ones are skipped. Names are
 * compared without case. The mailbox of an account is "domain/name" below the mail root, made of
 * the file's own (lower-cased, LDH-checked) text, never of an address. Over core/ alone (with
 * libcrypt), so that cli/ may include it. Blocks: a job or a program's boot.
 */
#ifndef KILAT_DAEMON_USERS_FILE_H
#define KILAT_DAEMON_USERS_FILE_H

#include "core/buf.h"
#include "core/hash.h"

struct users_account {
    struct hash_node node; /* private */
    char *name;            /* "penulis@debianindonesia.test", lower case */
    char *hash;            /* for crypt_r(3) */
    char *directory;       /* "debianindonesia.test/penulis" */
};

/* Immutable once read: any shard may look things up; replaced as a whole. */
struct users_table {
    struct hash_key key;
    struct hash_table accounts;
    size_t count;
};

/* 0 with a table (owned), or -errno with a sentence (file, line, what was expected); a file that
 * does not end with a newline is half-written: -EINVAL. */
int users_file_read(const char *path, struct users_table **ret_table, struct buf *error);
int users_file_parse(struct slice text, const char *name, struct users_table **ret_table,
                     struct buf *error);
void users_table_destroy(struct users_table **table);
/* NULL: no such account. */
const struct users_account *users_table_find(const struct users_table *table, struct slice name);

/* Burns the same time for any hash and for none (NULL: a fixed dummy hash). True only for a match.
 * Blocks ~40 ms: a RING_JOB_HASH job. */
bool users_password_matches(const char *hash_or_null, struct slice password);
/* Adds or replaces the account by writing a new file beside it, syncing and renaming; yescrypt. 0
 * or -errno with a sentence. */
int users_file_set(const char *path, struct slice name, struct slice password, struct buf *error);
int users_file_remove(const char *path, struct slice name, struct buf *error);

#endif
