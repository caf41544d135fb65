/* tests/crash/crashfs.h - a strict file system in memory: after a cut there is nothing on it that was not synced.
 *
 * File content becomes durable by fsync, fdatasync, or a write with O_DSYNC or RWF_DSYNC; names by an fsync of their
 * directory. A cut drops the rest, keeps it, or keeps some of it: any sectors of 512 bytes, any names. One thing a cut
 * never does, as no file system with a journal does it: a rename that took the old name away has made the new one.
 *
 * The file .crash in the root, in no listing, takes commands and tells the state, a word and a number a line:
 *     freeze N          after N more operations that change or sync anything, such operations wait
 *     cut FATE SEED     none, some or all of what is not durable survives; what waits, and what still comes from a process
 *                       that is ending, is answered EIO
 *     go                it is gone, all goes on
 *     fail KIND N       the N-th next operation of a kind (open, read, write, sync, syncdir, rename) ends with EIO
 *     space BYTES       so many bytes are free from now on; "space max" for as many as memory has
 *     delay US          a sync and a durable write take so long
 * A failed sync drops what it was to write, as Linux does: it stays to be seen until the cut, and no later sync saves it.
 *
 * Without libfuse knowing it, the kernel hands on neither syncfs nor an fsync for O_DSYNC; the latter's flag comes with
 * the write.
 */
#ifndef KILAT_TESTS_CRASHFS_H
#define KILAT_TESTS_CRASHFS_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRASHFS_SECTOR 512u
#define CRASHFS_BLOCK 4096u /* what space is counted in */
#define CRASHFS_CONTROL ".crash"
#define CRASHFS_REQUEST_MAX (1u << 20)

enum crashfs_fate { CRASHFS_NONE, CRASHFS_SOME, CRASHFS_ALL };

/* A name in a directory: what it leads to now, and after a cut. One of the two at least. */
struct crashfs_name {
    struct crashfs_name *next_in_dir, *previous_in_dir, *next_in_hash;
    struct crashfs_node *dir, *now, *durable;
    uint64_t serial; /* its place in a listing */
    bool pending;    /* on the directory's list of what a sync has to look at */
    struct crashfs_name *next_pending;
    char name[NAME_MAX + 1];
};

struct crashfs_node {
    struct crashfs_node *next, *previous; /* all nodes */
    uint64_t inode;
    struct stat about;         /* mode, owner, times; the size is below */
    struct crashfs_name *name; /* where it is now: there are no hard links */
    uint32_t names;            /* that lead here, now or after a cut */
    uint64_t lookups;          /* the kernel's */
    uint32_t opens;
    uint64_t charged_blocks;
    /* A file: what is read, what a cut leaves, and which sectors differ and may still be synced. */
    char *now, *durable;
    uint8_t *dirty;
    size_t size, durable_size, capacity;
    /* A directory. */
    struct crashfs_name *first, *last, *pending;
};

enum crashfs_kind {
    CRASHFS_OPEN,
    CRASHFS_READ,
    CRASHFS_WRITE,
    CRASHFS_SYNC,
    CRASHFS_SYNCDIR,
    CRASHFS_RENAME,
    CRASHFS_OTHER,
    CRASHFS_KINDS
};

struct crashfs_held {
    struct crashfs_held *next;
    fuse_req_t request;
};

struct crashfs {
    pthread_mutex_t lock;
    struct crashfs_node *root, *nodes;
    struct crashfs_name *hash[4096];
    uint64_t next_inode, next_serial;
    uint64_t used_blocks, space_blocks;
    uint32_t delay_us;
    uint64_t random;
    /* Freezing: operations left until then (UINT64_MAX: never), what waits, how many cuts there were. */
    uint64_t until_frozen, operations, cuts;
    struct crashfs_held *held;
    bool dead;                               /* from a cut to `go` */
    bool cutting;                            /* no node is freed meanwhile */
    uint64_t fail_in[CRASHFS_KINDS], failed; /* 0: no fault is wanted */
};

uint64_t crashfs_random(struct crashfs *fs);

/* crashfs_tree.c: names and nodes. All with fs->lock held. */
struct crashfs_node *crashfs_node_of(struct crashfs *fs, fuse_ino_t number);
struct crashfs_node *crashfs_node_create(struct crashfs *fs, mode_t mode, uid_t uid, gid_t gid);
/* Frees what neither a name nor the kernel leads to; corrects what it is charged. */
void crashfs_node_settle(struct crashfs *fs, struct crashfs_node *node);
struct crashfs_name *crashfs_find(struct crashfs *fs, const struct crashfs_node *dir,
                                  const char *name);
/* Makes the name lead to `node`; NULL takes it away. */
void crashfs_point(struct crashfs *fs, struct crashfs_node *dir, const char *name,
                   struct crashfs_node *node);
bool crashfs_is_empty(const struct crashfs_node *dir);
void crashfs_sync_names(struct crashfs *fs, struct crashfs_node *dir);
void crashfs_cut(struct crashfs *fs, enum crashfs_fate fate, uint64_t seed);

/* crashfs_data.c: the content of files. With fs->lock held. */
/* Bytes written, or -ENOSPC. */
ssize_t crashfs_write(struct crashfs *fs, struct crashfs_node *file, const char *bytes, size_t size,
                      size_t offset);
int crashfs_resize(struct crashfs *fs, struct crashfs_node *file, size_t size);
/* The range [from, to) is durable now, and so is the size. */
void crashfs_sync_data(struct crashfs_node *file, size_t from, size_t to);
void crashfs_forget_dirty(struct crashfs_node *file);
void crashfs_cut_data(struct crashfs *fs, struct crashfs_node *file, enum crashfs_fate fate);
void crashfs_charge(struct crashfs *fs, struct crashfs_node *node);
size_t crashfs_free_blocks(const struct crashfs *fs);

/* crashfs_control.c: the file .crash. With fs->lock held. */
size_t crashfs_control_read(const struct crashfs *fs, char *text, size_t size);
/* 0 or -EINVAL. */
int crashfs_control_write(struct crashfs *fs, const char *text, size_t size);

extern const struct fuse_lowlevel_ops crashfs_ops; /* crashfs_ops.c */

#endif
