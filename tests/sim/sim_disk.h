/* tests/sim/sim_disk.h - the disk of a simulated host: what programs see now, and what a power cut would leave.
 *
 * Content: every file has two faces, cut into sectors of 512 bytes. A write changes the first; file_sync(),
 * file_sync_data(), file_sync_file_system() and durable writes carry it to the second. A power cut keeps a
 * random part of the sectors that were not carried over; a size that was not synced may be the old or the new one.
 * Names: creations, renames and removals are changes in a journal of the file system, in order. file_sync_dir()
 * makes those of one directory durable, and with each change all earlier ones of the directories it
 * touches, since a rename is one change of two directories. A power cut keeps none of the rest, a prefix of it, or a
 * random part closed under that rule.
 */
#ifndef KILAT_SIM_DISK_H
#define KILAT_SIM_DISK_H

#include "tests/sim/sim_world.h"

#define SIM_SECTOR_BYTES 512
#define SIM_PAGE_BYTES 4096
#define SIM_NAME_SIZE 256

struct sim_page {
    uint8_t *now;  /* NULL: zeros */
    uint8_t *safe; /* NULL: zeros */
    uint8_t dirty; /* one bit a sector where they differ, or may */
};

struct sim_inode;
struct sim_name {
    char text[SIM_NAME_SIZE];
    struct sim_inode *inode;
};
struct sim_names {
    struct sim_name *items;
    size_t count, capacity;
};

struct sim_open;
struct sim_inode {
    uint64_t number;
    bool is_dir;
    uint32_t mode, uid, gid;
    uint64_t modified_ns;
    struct sim_disk *disk;
    struct list_node node; /* in the disk, in order of creation */
    struct sim_page *pages;
    size_t page_count;
    uint64_t size, safe_size;
    struct sim_names names, safe_names;
    uint32_t links; /* names that lead here now */
    struct sim_open *lock;
    bool named_after_crash; /* scratch of sim_disk_crash() */
};

/* One open file description. */
struct sim_open {
    struct sim_inode *inode;
    struct sim_process *process;
    uint32_t flags; /* FILE_* */
    bool locked;
};

/* What one system call did to names; applied whole or not at all. */
struct sim_change {
    struct list_node node;
    struct sim_inode *dirs[2];
    char names[2][SIM_NAME_SIZE];
    struct sim_inode *inodes[2]; /* NULL: the name is gone */
    uint32_t count;
    bool chosen; /* scratch */
};

struct sim_disk {
    struct sim_host *host;
    struct sim_inode *root;
    struct list_node inodes;
    struct list_node changes; /* not durable yet, in order */
    uint64_t next_number;
    uint64_t power_cuts;
};

/* ---- sim_disk.c ------------------------------------------------------------------------------- */

struct sim_inode *sim_inode_create(struct sim_disk *disk, bool is_dir, uint32_t mode);
void sim_inode_read(const struct sim_inode *inode, void *to, size_t size, uint64_t offset);
void sim_inode_write(struct sim_inode *inode, const void *data, size_t size, uint64_t offset);
void sim_inode_truncate(struct sim_inode *inode, uint64_t size);
void sim_inode_sync(struct sim_inode *inode);
/* A part of a write reaches the disk although nobody waited for it. */
void sim_inode_sync_range(struct sim_inode *inode, uint64_t offset, size_t size,
                          uint32_t per_mille);

struct sim_inode *sim_names_find(const struct sim_names *names, const char *text);
/* Changes names now and notes the change. `second_dir` NULL: one name only. */
void sim_disk_change(struct sim_disk *disk, struct sim_inode *dir, const char *name,
                     struct sim_inode *inode, struct sim_inode *second_dir, const char *second_name,
                     struct sim_inode *second_inode);
void sim_disk_sync_dir(struct sim_inode *dir);
void sim_disk_sync_all(struct sim_disk *disk);

/* ---- for worlds: an administrator's hand, durable at once ------------------------------------- */

/* Like `mkdir -p`. */
struct sim_inode *sim_disk_make_dirs(struct sim_host *host, const char *path);
void sim_disk_write_file(struct sim_host *host, const char *path, struct slice content);
/* NULL: not there. */
struct sim_inode *sim_disk_find(struct sim_host *host, const char *path);

#endif
