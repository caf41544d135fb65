/* core/file.h - what a worker job, or a program at boot, does with files: blocking, part of the
 * door.
 *
 * Replaced as a whole in simulation, where a crash can fall between any two of these calls and
 * forgets what was not synced: file content without file_sync(), names without file_sync_dir().
 *
 * Names are single components below a directory descriptor, made from our own ids: never from what
 * a peer sent. Symbolic links are never followed (openat2 with RESOLVE_BENEATH |
 * RESOLVE_NO_SYMLINKS). Shard: never on a shard's thread while it runs; jobs (ring_job) and boot
 * only. Errors: 0 or -errno, as the kernel said it; nothing is left behind on failure.
 */
#ifndef KILAT_CORE_FILE_H
#define KILAT_CORE_FILE_H

#include "core/slice.h"
#include <sys/types.h>

struct file_info {
    uint64_t size_bytes;
    uint64_t modified_ns; /* wall clock */
    uint64_t inode;
    uint32_t mode; /* as st_mode */
    uint32_t uid;
    uint32_t gid;
    uint32_t links;
};

#define FILE_READ 0x01u
#define FILE_WRITE 0x02u
#define FILE_CREATE 0x04u    /* made when missing */
#define FILE_EXCLUSIVE 0x08u /* with FILE_CREATE: -EEXIST when there */
#define FILE_DIRECT 0x10u    /* O_DIRECT; -EINVAL where the file system refuses it */
#define FILE_APPEND 0x20u
#define FILE_TRUNCATE 0x40u

/* Any path, from the settings of the administrator (links are followed here, and only here). */
int file_open_dir_path(const char *path, int *ret_dir_fd);
int file_open_path(const char *path, uint32_t flags, uint32_t mode, int *ret_fd);
/* `mkdir -p` for the last component only; an existing directory is 0. */
int file_make_dir_path(const char *path, uint32_t mode);

int file_open(int dir_fd, const char *name, uint32_t flags, uint32_t mode, int *ret_fd);
int file_open_dir(int dir_fd, const char *name, int *ret_dir_fd);
int file_make_dir(int dir_fd, const char *name, uint32_t mode); /* -EEXIST when there */
int file_close(int fd);

/* All `size` bytes or -errno; a file that ends before is -ENODATA. */
int file_read_all(int fd, void *to, size_t size, uint64_t offset);
/* As many as there are, up to `size`: the count, or -errno. */
ssize_t file_read_some(int fd, void *to, size_t size, uint64_t offset);
int file_write_all(int fd, struct slice bytes, uint64_t offset);
int file_truncate(int fd, uint64_t size_bytes);

int file_sync(int fd);         /* fsync */
int file_sync_data(int fd);    /* fdatasync */
int file_sync_dir(int dir_fd); /* the names in it */
int file_sync_file_system(
    int fd); /* syncfs: everything of that file system, errors since `fd` was opened */

int file_rename(int from_dir_fd, const char *from, int to_dir_fd,
                const char *to); /* replaces `to` */
/* -EEXIST when `to` is there. */
int file_rename_new(int from_dir_fd, const char *from, int to_dir_fd, const char *to);
int file_unlink(int dir_fd, const char *name);
int file_remove_dir(int dir_fd, const char *name);
int file_info(int fd, struct file_info *ret_info);
int file_info_at(int dir_fd, const char *name, struct file_info *ret_info);
int file_set_owner(int fd, uint32_t uid, uint32_t gid);

/* Calls `each` for every name but "." and "..", in no order; a value other than 0 ends the walk and
 * is returned. The directory may change meanwhile. */
typedef int file_each_fn(void *context, const char *name);
int file_list(int dir_fd, file_each_fn *each, void *context);

/* An exclusive open-file-description lock, held until `fd` is closed; -EAGAIN: another holds it,
 * and
 * `*ret_pid` (may be NULL) is that process or 0. */
int file_lock(int fd, int32_t *ret_pid);

enum file_system_kind { FILE_SYSTEM_EXT4, FILE_SYSTEM_XFS, FILE_SYSTEM_TMPFS, FILE_SYSTEM_OTHER };
struct file_system_info {
    enum file_system_kind kind;
    char name[16]; /* "ext4", "tmpfs", ..., or the magic number in hex */
    uint64_t total_bytes;
    uint64_t free_bytes; /* for an unprivileged process */
};
int file_system_info(int fd, struct file_system_info *ret_info);

#endif
