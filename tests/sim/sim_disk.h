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

/* ---- faults (sim_disk_fault.c) ---------------------------------------------------------------- */

/* What can be answered with EIO. */
enum sim_io {
    SIM_IO_OPEN,
    SIM_IO_CREATE,
    SIM_IO_READ,
    SIM_IO_WRITE, /* told at once, as O_DIRECT does; any part may have landed */
    SIM_IO_WRITEBACK, /* of a buffered write: nobody is told before the next sync, and each descriptor once */
    SIM_IO_SYNC, /* what was dirty is lost although the page cache calls it clean */
    SIM_IO_SYNC_DIR,
    SIM_IO_RENAME,
    SIM_IO_UNLINK,
    SIM_IO_LIST,
    SIM_IO_KINDS
};

/* How the disk of one host behaves at the moment; per mille unless the name says otherwise. All 0: as it should. */
struct sim_disk_faults {
    uint32_t error[SIM_IO_KINDS];
    uint32_t short_write; /* a ring's write moves fewer bytes than it was given */
    uint32_t stall;       /* a durable write or a sync takes seconds */
    uint32_t
        flush_us; /* ... and each of them that much at least: a disk without a cache to trust */
    uint32_t misdirected;    /* a durable write lands elsewhere and says it has completed */
    uint32_t lost;           /* a durable write says it has completed and nothing was written */
    uint64_t capacity_bytes; /* of written blocks; 0: more than anybody fills */
};

struct sim_page {
    uint8_t *now;   /* NULL: zeros */
    uint8_t *safe;  /* NULL: zeros */
    uint8_t dirty;  /* one bit a sector where they differ, or may */
    uint8_t lost;   /* likewise, but no sync will ever carry it over: a write-back that failed */
    bool allocated; /* takes space */
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
    uint32_t opens;         /* open file descriptions */
    uint64_t errors;        /* write-backs that failed; each description tells each once */
    bool named_after_crash; /* scratch of sim_disk_crash() */
};

/* One open file description. */
struct sim_open {
    struct sim_inode *inode;
    struct sim_process *process;
    uint32_t flags; /* FILE_* */
    bool locked;
    uint64_t errors_told, disk_errors_told;
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
    struct sim_disk_faults faults;
    bool refuses_direct; /* O_DIRECT is -EINVAL */
    uint32_t tear_bytes; /* what a power cut keeps or not as a whole: 512, or 4096 */
    uint64_t errors;     /* as in the inodes, for syncfs */
    uint64_t used_bytes;
    uint64_t errors_made, refused_full, flips, lies; /* counters */
};

/* ---- sim_disk.c ------------------------------------------------------------------------------- */

struct sim_inode *sim_inode_create(struct sim_disk *disk, bool is_dir, uint32_t mode);
void sim_inode_read(const struct sim_inode *inode, void *to, size_t size, uint64_t offset);
void sim_inode_write(struct sim_inode *inode, const void *data, size_t size, uint64_t offset);
void sim_inode_truncate(struct sim_inode *inode, uint64_t size);
void sim_inode_sync(struct sim_inode *inode);
/* Of what is dirty some is carried over and the rest will never be; the files' errors grow by one. */
void sim_inode_sync_fails(struct sim_inode *inode);
/* Nobody has it open and no name leads to it: its space is free. */
void sim_inode_release(struct sim_inode *inode);
/* Whether the blocks from `offset` to the end of `size` bytes are there, or are now. */
bool sim_inode_allocate(struct sim_inode *inode, uint64_t offset, size_t size);
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
void sim_disk_sync_all_fails(struct sim_disk *disk); /* names stay as volatile as they were */

/* ---- sim_disk_fault.c ------------------------------------------------------------------------- */

/* Draws whether this operation fails, and counts it. */
bool sim_disk_fails(struct sim_disk *disk, enum sim_io io);
/* What a durable write or a sync takes longer than on a good day. */
uint64_t sim_disk_flush_ns(const struct sim_disk *disk);
/* A failed or abandoned write of `size` bytes: nothing, a beginning, or any part of it landed. */
void sim_disk_write_partly(struct sim_inode *inode, const void *data, size_t size, uint64_t offset,
                           bool durable, bool torn);
/* One bit of a file below `path`, but of none called `spared`, where something was written, is no longer what it was, now and after every crash.
 * False: there is nothing. */
bool sim_disk_flip(struct sim_host *host, const char *path, const char *spared,
                   struct sim_inode **ret_inode, uint64_t *ret_offset);
/* Whose turn it is to be written over by a misdirected write, and where; NULL: told to nobody. */
struct sim_inode *sim_disk_elsewhere(struct sim_inode *inode, size_t size, uint64_t *offset);
/* A lie was told about a write. The world that allows lies must know. */
extern void (*sim_disk_lied)(const struct sim_inode *meant, uint64_t meant_offset,
                             const struct sim_inode *hit, uint64_t hit_offset, size_t size);
/* ---- a chosen crash (sim_exhaust.c) ---- */

#define SIM_CHOICES_MAX 64
/* What becomes of each thing that is not durable, one after the other: writes in flight, changes of names, files. */
struct sim_choice {
    uint8_t digits[SIM_CHOICES_MAX];
    uint32_t next;
};
extern struct sim_choice *sim_choice; /* NULL: the dice decide */
uint32_t sim_choice_take(void);

enum { SIM_GONE, SIM_WHOLE, SIM_PARTLY, SIM_SIZE_ONLY };
/* How many outcomes each of them has, in that order; at most SIM_CHOICES_MAX of them. The count. */
uint32_t sim_disk_choices(struct sim_host *host, bool power, uint8_t radixes[SIM_CHOICES_MAX]);
/* Of everything on it, now and after a cut of power. */
uint64_t sim_disk_hash(const struct sim_disk *disk);
/* Asked before each change; true: the world ends here for this process, and the caller goes no further. */
extern bool (*sim_disk_point)(struct sim_host *host);

/* Some errors of every kind, a slow disk, a full one: by the world's dice. */
void sim_disk_faults_choose(struct sim_disk_faults *ret_faults);

/* ---- for worlds: an administrator's hand, durable at once ------------------------------------- */

/* Like `mkdir -p`. */
struct sim_inode *sim_disk_make_dirs(struct sim_host *host, const char *path);
void sim_disk_write_file(struct sim_host *host, const char *path, struct slice content);
/* NULL: not there. */
struct sim_inode *sim_disk_find(struct sim_host *host, const char *path);

#endif
