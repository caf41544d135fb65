/* The disk: a file system of one file, whose every write and flush goes into the recording. */
#define FUSE_USE_VERSION 314
#include "tests/crash/recorder.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define INODE_DISK 2
#define DISK_NAME "disk"
#define REQUEST_BYTES_MAX (1u << 20)
#define CACHED_S 3600.0 /* nothing about the file ever changes but its bytes */

struct disk {
    /* Two locks, so that an operation gets its number the moment it arrives, and not when those before it are done:
     * a later number would let a flush cover what was still being written when it was asked for. */
    pthread_mutex_t clock_lock; /* now */
    pthread_mutex_t lock; /* the files, and the order of the answers; clock_lock is taken inside */
    uint64_t now;
    uint64_t size_bytes, data_bytes;
    int image_fd, index_fd, data_fd;
    int ledger_fds[RECORDER_LEDGERS_MAX], ledger_count;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void write_whole(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;

    while (size > 0) {
        ssize_t written = write(fd, at, size);

        if (written <= 0)
            err(2, "writing the recording");
        at += written;
        size -= (size_t)written;
    }
}

/* The ledgers are measured and the number taken as one step. So what stands in them rests on operations with lower
 * numbers, and what an operation with a lower number rests on stands in them. */
static void arrive(struct disk *disk, enum recorder_kind kind, struct recorder_op *op)
{
    struct stat info;

    *op = (struct recorder_op){.kind = kind};
    pthread_mutex_lock(&disk->clock_lock);
    for (int i = 0; i < disk->ledger_count; i++) {
        if (fstat(disk->ledger_fds[i], &info) < 0)
            err(2, "a ledger");
        op->ledger_bytes[i] = (uint64_t)info.st_size;
    }
    op->arrived = ++disk->now;
    op->arrived_ns = now_ns();
    pthread_mutex_unlock(&disk->clock_lock);
}

/* With disk->lock held: the index is in the order of these numbers. */
static void record(struct disk *disk, struct recorder_op *op)
{
    pthread_mutex_lock(&disk->clock_lock);
    op->answered = ++disk->now;
    pthread_mutex_unlock(&disk->clock_lock);
    write_whole(disk->index_fd, op, sizeof(*op));
}

static void disk_write(fuse_req_t request, fuse_ino_t inode, const char *bytes, size_t size,
                       off_t offset, struct fuse_file_info *info)
{
    struct disk *disk = fuse_req_userdata(request);
    struct recorder_op op;

    (void)inode;
    (void)info;
    arrive(disk, RECORDER_WRITE, &op);
    op.offset = (uint64_t)offset;
    op.size = size;
    pthread_mutex_lock(&disk->lock);
    if (op.offset + size > disk->size_bytes ||
        pwrite(disk->image_fd, bytes, size, offset) != (ssize_t)size) {
        pthread_mutex_unlock(&disk->lock);
        fuse_reply_err(request, EIO);
        return;
    }
    op.data_at = disk->data_bytes;
    write_whole(disk->data_fd, bytes, size);
    disk->data_bytes += size;
    record(disk, &op);
    pthread_mutex_unlock(&disk->lock);
    fuse_reply_write(request, size);
}

static void disk_fsync(fuse_req_t request, fuse_ino_t inode, int data_only,
                       struct fuse_file_info *info)
{
    struct disk *disk = fuse_req_userdata(request);
    struct recorder_op op;

    (void)inode;
    (void)data_only;
    (void)info;
    arrive(disk, RECORDER_FLUSH, &op);
    pthread_mutex_lock(&disk->lock);
    record(disk, &op);
    pthread_mutex_unlock(&disk->lock);
    fuse_reply_err(request, 0);
}

static void disk_read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
                      struct fuse_file_info *info)
{
    struct disk *disk = fuse_req_userdata(request);
    char *bytes = malloc(size);
    ssize_t got = bytes == NULL ? -1 : pread(disk->image_fd, bytes, size, offset);

    (void)inode;
    (void)info;
    if (got < 0)
        fuse_reply_err(request, EIO);
    else
        fuse_reply_buf(request, bytes, (size_t)got);
    free(bytes);
}

static void describe(const struct disk *disk, fuse_ino_t inode, struct stat *ret_info)
{
    *ret_info = (struct stat){.st_ino = inode, .st_mode = S_IFDIR | 0700, .st_nlink = 2};
    if (inode == INODE_DISK) {
        ret_info->st_mode = S_IFREG | 0600;
        ret_info->st_nlink = 1;
        ret_info->st_size = (off_t)disk->size_bytes;
        ret_info->st_blocks = ret_info->st_size / 512;
    }
}

static void disk_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry = {
        .ino = INODE_DISK, .attr_timeout = CACHED_S, .entry_timeout = CACHED_S};

    if (parent != FUSE_ROOT_ID || strcmp(name, DISK_NAME) != 0) {
        fuse_reply_err(request, ENOENT);
        return;
    }
    describe(fuse_req_userdata(request), INODE_DISK, &entry.attr);
    fuse_reply_entry(request, &entry);
}

static void disk_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    struct stat about;

    (void)info;
    describe(fuse_req_userdata(request), inode, &about);
    fuse_reply_attr(request, &about, CACHED_S);
}

static void disk_open_file(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    if (inode != INODE_DISK) {
        fuse_reply_err(request, EISDIR);
        return;
    }
    info->direct_io =
        1; /* no page cache between the loop device and us: each of its writes is one of ours */
    fuse_reply_open(request, info);
}

static void disk_init(void *context, struct fuse_conn_info *connection)
{
    (void)context;
    connection->max_write = REQUEST_BYTES_MAX;
    connection->want |=
        connection->capable & FUSE_CAP_ASYNC_DIO; /* several writes at once, as disks have */
}

static const struct fuse_lowlevel_ops disk_ops = {
    .init = disk_init,
    .lookup = disk_lookup,
    .getattr = disk_getattr,
    .open = disk_open_file,
    .read = disk_read,
    .write = disk_write,
    .fsync = disk_fsync,
};

static void disk_begin(struct disk *disk, int argc, char **argv)
{
    struct stat info;

    disk->image_fd = recorder_open(argv[1], "image", O_RDWR);
    disk->index_fd = recorder_open(argv[1], "index", O_WRONLY | O_CREAT | O_TRUNC);
    disk->data_fd = recorder_open(argv[1], "data", O_WRONLY | O_CREAT | O_TRUNC);
    if (fstat(disk->image_fd, &info) < 0)
        err(2, "%s/image", argv[1]);
    disk->size_bytes = (uint64_t)info.st_size;
    for (int i = 3; i < argc; i++) {
        disk->ledger_fds[i - 3] = open(argv[i], O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
        if (disk->ledger_fds[i - 3] < 0)
            err(2, "%s", argv[i]);
    }
    disk->ledger_count = argc - 3;
    pthread_mutex_init(&disk->clock_lock, NULL);
    pthread_mutex_init(&disk->lock, NULL);
}

int recorder_disk(int argc, char **argv)
{
    static struct disk disk;
    char *options[] = {argv[0], NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, options);
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    struct fuse_session *session;
    int r;

    if (argc < 3 || argc > 3 + RECORDER_LEDGERS_MAX)
        errx(2, "disk: expected RECORDING MOUNT-POINT LEDGER...");
    prctl(PR_SET_PDEATHSIG,
          SIGTERM); /* a disk without its test would keep a loop device for ever */
    disk_begin(&disk, argc, argv);
    session = fuse_session_new(&args, &disk_ops, sizeof(disk_ops), &disk);
    if (session == NULL || config == NULL || fuse_set_signal_handlers(session) != 0 ||
        fuse_session_mount(session, argv[2]) != 0)
        errx(2, "%s: cannot mount the disk", argv[2]);
    /* The file system on this disk is mounted in the namespace we leave here. Were we its last process, we should have to
     * unmount what cannot be unmounted without us, and never end. */
    if (unshare(CLONE_NEWNS) < 0)
        err(2, "a mount namespace of its own");
    r = fuse_session_loop_mt(session, config);
    fuse_session_unmount(session);
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    fuse_loop_cfg_destroy(config);
    return r < 0 ? 1 : 0;
}
