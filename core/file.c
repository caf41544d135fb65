#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

/* A system call that a signal interrupted before it did anything is made again. */
#define RETRY(call)                                                                                \
    ({                                                                                             \
        long retry_result;                                                                         \
        do {                                                                                       \
            retry_result = (long)(call);                                                           \
        } while (retry_result < 0 && errno == EINTR);                                              \
        retry_result < 0 ? -(long)errno : retry_result;                                            \
    })

static int open_flags(uint32_t flags)
{
    int result = O_CLOEXEC | O_NOCTTY;

    if (flags & FILE_WRITE)
        result |= flags & FILE_READ ? O_RDWR : O_WRONLY;
    if (flags & FILE_CREATE)
        result |= O_CREAT;
    if (flags & FILE_EXCLUSIVE)
        result |= O_EXCL;
    if (flags & FILE_DIRECT)
        result |= O_DIRECT;
    if (flags & FILE_APPEND)
        result |= O_APPEND;
    if (flags & FILE_TRUNCATE)
        result |= O_TRUNC;
    return result;
}

/* One component: what the kernel would resolve further is not a name of ours. */
static bool is_name(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, "..") != 0;
}

static int open_beneath(int dir_fd, const char *name, int flags, uint32_t mode, int *ret_fd)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned int)flags,
        .mode = flags & O_CREAT ? mode : 0, /* the kernel refuses a mode that is of no use */
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long r;

    if (!is_name(name))
        return -EINVAL;
    /* -EAGAIN: a rename elsewhere in the tree raced with the walk (openat2(2)). */
    do {
        r = RETRY(syscall(SYS_openat2, dir_fd, name, &how, sizeof(how)));
    } while (r == -EAGAIN);
    /* Under valgrind, which does not know openat2(2). A name is one component (is_name), so that no
     * link may be its last one is all there is to resolve. */
    if (r == -ENOSYS)
        r = RETRY(openat(dir_fd, name, (int)how.flags | O_NOFOLLOW, (mode_t)how.mode));
    if (r < 0)
        return (int)r;
    *ret_fd = (int)r;
    return 0;
}

/* ---- paths of the administrator -------------------------------------------------------------- */

int file_open_path(const char *path, uint32_t flags, uint32_t mode, int *ret_fd)
{
    long r = RETRY(open(path, open_flags(flags), mode));

    if (r < 0)
        return (int)r;
    *ret_fd = (int)r;
    return 0;
}

int file_open_dir_path(const char *path, int *ret_dir_fd)
{
    long r = RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));

    if (r < 0)
        return (int)r;
    *ret_dir_fd = (int)r;
    return 0;
}

int file_make_dir_path(const char *path, uint32_t mode)
{
    struct stat info;
    long r = RETRY(mkdir(path, mode));

    if (r != -EEXIST)
        return (int)r;
    r = RETRY(stat(path, &info));
    if (r < 0)
        return (int)r;
    return S_ISDIR(info.st_mode) ? 0 : -ENOTDIR;
}

/* ---- names below a directory ----------------------------------------------------------------- */

int file_open(int dir_fd, const char *name, uint32_t flags, uint32_t mode, int *ret_fd)
{
    return open_beneath(dir_fd, name, open_flags(flags), mode, ret_fd);
}

int file_open_dir(int dir_fd, const char *name, int *ret_dir_fd)
{
    return open_beneath(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, ret_dir_fd);
}

int file_make_dir(int dir_fd, const char *name, uint32_t mode)
{
    return is_name(name) ? (int)RETRY(mkdirat(dir_fd, name, mode)) : -EINVAL;
}

int file_close(int fd)
{
    /* Never again after EINTR: Linux has closed it, and the number may be somebody else's by now.
     */
    if (close(fd) < 0 && errno != EINTR)
        return -errno;
    return 0;
}

int file_rename(int from_dir_fd, const char *from, int to_dir_fd, const char *to)
{
    if (!is_name(from) || !is_name(to))
        return -EINVAL;
    return (int)RETRY(renameat(from_dir_fd, from, to_dir_fd, to));
}

int file_rename_new(int from_dir_fd, const char *from, int to_dir_fd, const char *to)
{
    if (!is_name(from) || !is_name(to))
        return -EINVAL;
    return (int)RETRY(renameat2(from_dir_fd, from, to_dir_fd, to, RENAME_NOREPLACE));
}

int file_unlink(int dir_fd, const char *name)
{
    return is_name(name) ? (int)RETRY(unlinkat(dir_fd, name, 0)) : -EINVAL;
}

int file_remove_dir(int dir_fd, const char *name)
{
    return is_name(name) ? (int)RETRY(unlinkat(dir_fd, name, AT_REMOVEDIR)) : -EINVAL;
}

/* ---- content --------------------------------------------------------------------------------- */

ssize_t file_read_some(int fd, void *to, size_t size, uint64_t offset)
{
    size_t done = 0;

    while (done < size) {
        long r = RETRY(pread(fd, (uint8_t *)to + done, size - done, (off_t)(offset + done)));

        if (r < 0)
            return r;
        if (r == 0)
            break;
        done += (size_t)r;
    }
    return (ssize_t)done;
}

int file_read_all(int fd, void *to, size_t size, uint64_t offset)
{
    ssize_t r = file_read_some(fd, to, size, offset);

    if (r < 0)
        return (int)r;
    return (size_t)r == size ? 0 : -ENODATA;
}

int file_write_all(int fd, struct slice bytes, uint64_t offset)
{
    while (bytes.size > 0) {
        long r = RETRY(pwrite(fd, bytes.data, bytes.size, (off_t)offset));

        if (r < 0)
            return (int)r;
        if (r == 0)
            return -EIO; /* no file system does this; without progress there must be an end */
        bytes = slice_skip(bytes, (size_t)r);
        offset += (uint64_t)r;
    }
    return 0;
}

int file_truncate(int fd, uint64_t size_bytes)
{
    return (int)RETRY(ftruncate(fd, (off_t)size_bytes));
}

/* A failed sync is not tried again: the kernel tells of a lost page once, the second call would
 * succeed. */
int file_sync(int fd)
{
    return fsync(fd) < 0 ? -errno : 0;
}

int file_sync_data(int fd)
{
    return fdatasync(fd) < 0 ? -errno : 0;
}

int file_sync_dir(int dir_fd)
{
    return file_sync(dir_fd);
}

int file_sync_file_system(int fd)
{
    return syncfs(fd) < 0 ? -errno : 0;
}

/* ---- what is known about a file -------------------------------------------------------------- */

static void info_of(const struct stat *from, struct file_info *ret_info)
{
    *ret_info = (struct file_info){
        .size_bytes = (uint64_t)from->st_size,
        .modified_ns = (uint64_t)from->st_mtim.tv_sec * SECOND_NS + (uint64_t)from->st_mtim.tv_nsec,
        .inode = from->st_ino,
        .mode = from->st_mode,
        .uid = from->st_uid,
        .gid = from->st_gid,
        .links = (uint32_t)from->st_nlink,
    };
}

int file_info(int fd, struct file_info *ret_info)
{
    struct stat info;
    long r = RETRY(fstat(fd, &info));

    if (r < 0)
        return (int)r;
    info_of(&info, ret_info);
    return 0;
}

int file_info_at(int dir_fd, const char *name, struct file_info *ret_info)
{
    struct stat info;
    long r;

    if (!is_name(name))
        return -EINVAL;
    r = RETRY(fstatat(dir_fd, name, &info, AT_SYMLINK_NOFOLLOW));
    if (r < 0)
        return (int)r;
    info_of(&info, ret_info);
    return 0;
}

int file_set_owner(int fd, uint32_t uid, uint32_t gid)
{
    return (int)RETRY(fchown(fd, uid, gid));
}

int file_list(int dir_fd, file_each_fn *each, void *context)
{
    DIR *dir;
    int fd, r;

    /* A description of its own, so that two walks do not share one position. */
    r = open_beneath(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, &fd);
    if (r < 0)
        return r;
    dir = fdopendir(fd);
    if (dir == NULL) {
        r = -errno;
        (void)file_close(fd); /* nothing was written */
        return r;
    }
    for (;;) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(dir);
        if (entry == NULL) {
            r = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        r = each(context, entry->d_name);
        if (r != 0)
            break;
    }
    (void)closedir(dir); /* nothing was written */
    return r;
}

int file_lock(int fd, int32_t *ret_pid)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    long r = RETRY(fcntl(fd, F_OFD_SETLK, &lock));

    if (r == -EACCES)
        r = -EAGAIN; /* fcntl(2) allows either */
    if (r != -EAGAIN || ret_pid == NULL)
        return (int)r;
    *ret_pid = 0;
    lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
    /* The kernel says -1 for a lock that belongs to a description: it may be shared by processes.
     */
    if (RETRY(fcntl(fd, F_OFD_GETLK, &lock)) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0)
        *ret_pid = lock.l_pid;
    return -EAGAIN;
}

int file_system_info(int fd, struct file_system_info *ret_info)
{
    struct statfs info;
    uint64_t unit;
    long r = RETRY(fstatfs(fd, &info));

    if (r < 0)
        return (int)r;
    unit = (uint64_t)(info.f_frsize > 0 ? info.f_frsize : info.f_bsize);
    *ret_info = (struct file_system_info){
        .kind = FILE_SYSTEM_OTHER,
        .total_bytes = info.f_blocks * unit,
        .free_bytes = info.f_bavail * unit,
    };
    switch ((unsigned long)info.f_type) {
    case EXT4_SUPER_MAGIC:
        ret_info->kind = FILE_SYSTEM_EXT4;
        strcpy(ret_info->name, "ext4");
        break;
    case XFS_SUPER_MAGIC:
        ret_info->kind = FILE_SYSTEM_XFS;
        strcpy(ret_info->name, "xfs");
        break;
    case TMPFS_MAGIC:
        ret_info->kind = FILE_SYSTEM_TMPFS;
        strcpy(ret_info->name, "tmpfs");
        break;
    default:
        (void)snprintf(ret_info->name, sizeof(ret_info->name), "0x%lx",
                       (unsigned long)info.f_type & 0xfffffffful);
        break;
    }
    return 0;
}
