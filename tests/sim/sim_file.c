/* tests/sim/sim_file.c - core/file.h and the file operations of core/ring.h over the simulated disk.
 *
 * Each call of core/file.h first lets time pass: its process may be killed there, or its host lose power, and then
 * the call never happened. What it does afterwards happens at once. Writes through the ring happen at their
 * completion; a kill before it leaves all or a beginning of them, a power cut any sectors.
 */
#include "core/file.h"

#include "core/ring.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define DIRECT_ALIGNMENT 4096

/* ---- time, and the chance to die --------------------------------------------------------------- */

static void spend(uint64_t low_ns, uint64_t high_ns)
{
    struct sim_process *process = sim.process;

    ASSERT(process != NULL && sim.fiber != NULL);
    process->file_calls++;
    if (process->file_calls == process->file_calls_until)
        sim_process_kill(process); /* does not return */
    if (sim_chance(sim.faults.slow_disk))
        high_ns += 500 * MS_NS;
    sim_sleep(sim_between(low_ns, high_ns));
}

static void spend_call(void)
{
    spend(1000, 30000);
}

static void spend_sync(void)
{
    uint64_t more_ns = sim_disk_flush_ns(sim.process->host->disk);

    spend(100000 + more_ns, 3000000 + more_ns);
}

/* What changes the disk begins here. */
static bool fails(enum sim_io io)
{
    if (sim_disk_point != NULL && io != SIM_IO_OPEN && io != SIM_IO_READ && io != SIM_IO_LIST &&
        io != SIM_IO_WRITEBACK && sim_disk_point(sim.process->host))
        sim_wait(UINT64_MAX); /* for ever */
    return sim_disk_fails(sim.process->host->disk, io);
}

/* A name needs a block now and then; one that is made needs an inode. */
static bool full_for_a_name(const struct sim_disk *disk, bool made)
{
    return disk->faults.capacity_bytes != 0 &&
           disk->used_bytes + SIM_PAGE_BYTES > disk->faults.capacity_bytes &&
           (made || sim_chance(100));
}

/* ---- descriptors ------------------------------------------------------------------------------ */

static struct sim_open *open_of(int fd)
{
    return sim_fd_object(sim.process, fd, SIM_FD_FILE);
}

/* NULL: not an open directory. */
static struct sim_inode *dir_of(int fd)
{
    struct sim_open *open = open_of(fd);

    return open != NULL && open->inode->is_dir ? open->inode : NULL;
}

static int open_inode(struct sim_inode *inode, uint32_t flags, int *ret_fd)
{
    struct sim_open *open = calloc(1, sizeof(*open));
    int fd;

    ASSERT(open != NULL);
    *open = (struct sim_open){.inode = inode,
                              .process = sim.process,
                              .flags = flags,
                              .errors_told = inode->errors,
                              .disk_errors_told = inode->disk->errors};
    fd = sim_fd_take(sim.process, SIM_FD_FILE, open);
    if (fd < 0) {
        free(open);
        return fd;
    }
    inode->opens++;
    if ((flags & FILE_TRUNCATE) != 0)
        sim_inode_truncate(inode, 0);
    *ret_fd = fd;
    return 0;
}

void sim_disk_fd_closed(struct sim_fd *fd)
{
    struct sim_open *open = fd->object;

    if (open->locked && open->inode->lock == open)
        open->inode->lock = NULL;
    open->inode->opens--;
    sim_inode_release(open->inode);
    free(open);
}

int file_close(int fd)
{
    struct sim_open *open = open_of(fd);

    if (open == NULL)
        return -EBADF;
    sim_disk_fd_closed(&sim.process->fds[fd]);
    sim.process->fds[fd] = (struct sim_fd){.kind = SIM_FD_NONE};
    return 0;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static int open_at(struct sim_inode *dir, const char *name, uint32_t flags, uint32_t mode,
                   int *ret_fd)
{
    struct sim_inode *inode = sim_names_find(&dir->names, name);

    if (inode != NULL && (flags & FILE_EXCLUSIVE) != 0)
        return -EEXIST;
    if (inode == NULL && (flags & FILE_CREATE) == 0)
        return -ENOENT;
    if (fails(inode == NULL ? SIM_IO_CREATE : SIM_IO_OPEN))
        return -EIO;
    if (inode == NULL && full_for_a_name(dir->disk, true))
        return -ENOSPC;
    if (inode == NULL) {
        inode = sim_inode_create(dir->disk, false, mode);
        sim_disk_change(dir->disk, dir, name, inode, NULL, NULL, NULL);
    }
    if (inode->is_dir && (flags & (FILE_WRITE | FILE_APPEND)) != 0)
        return -EISDIR;
    if ((flags & FILE_DIRECT) != 0 && dir->disk->refuses_direct)
        return -EINVAL;
    sim_trace_text("file.open", slice_cstr(name));
    return open_inode(inode, flags, ret_fd);
}

static bool name_is_one_component(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

int file_open(int dir_fd, const char *name, uint32_t flags, uint32_t mode, int *ret_fd)
{
    struct sim_inode *dir;

    spend_call();
    dir = dir_of(dir_fd);
    if (dir == NULL)
        return open_of(dir_fd) == NULL ? -EBADF : -ENOTDIR;
    ASSERT(name_is_one_component(name));
    return open_at(dir, name, flags, mode, ret_fd);
}

int file_open_dir(int dir_fd, const char *name, int *ret_dir_fd)
{
    struct sim_inode *dir, *inode;

    spend_call();
    dir = dir_of(dir_fd);
    if (dir == NULL)
        return -EBADF;
    inode = strcmp(name, ".") == 0 ? dir : sim_names_find(&dir->names, name);
    if (inode == NULL)
        return -ENOENT;
    if (fails(SIM_IO_OPEN))
        return -EIO;
    return inode->is_dir ? open_inode(inode, FILE_READ, ret_dir_fd) : -ENOTDIR;
}

/* The directory a path's last component is in, and that component. */
static int path_parent(const char *path, struct sim_inode **ret_dir, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    char parent[1024];

    if (slash == NULL)
        return -ENOENT; /* a simulated process has no working directory */
    snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
    *ret_dir = sim_disk_find(sim.process->host, parent);
    *ret_name = slash + 1;
    if (*ret_dir == NULL)
        return -ENOENT;
    return (*ret_dir)->is_dir ? 0 : -ENOTDIR;
}

int file_open_dir_path(const char *path, int *ret_dir_fd)
{
    struct sim_inode *inode;

    spend_call();
    inode = sim_disk_find(sim.process->host, path);
    if (inode == NULL)
        return -ENOENT;
    if (fails(SIM_IO_OPEN))
        return -EIO;
    return inode->is_dir ? open_inode(inode, FILE_READ, ret_dir_fd) : -ENOTDIR;
}

int file_open_path(const char *path, uint32_t flags, uint32_t mode, int *ret_fd)
{
    struct sim_inode *dir;
    const char *name;
    int r;

    spend_call();
    r = path_parent(path, &dir, &name);
    return r < 0 ? r : open_at(dir, name, flags, mode, ret_fd);
}

static int make_dir(struct sim_inode *dir, const char *name, uint32_t mode)
{
    if (sim_names_find(&dir->names, name) != NULL)
        return -EEXIST;
    if (fails(SIM_IO_CREATE))
        return -EIO;
    if (full_for_a_name(dir->disk, true))
        return -ENOSPC;
    sim_disk_change(dir->disk, dir, name, sim_inode_create(dir->disk, true, mode), NULL, NULL,
                    NULL);
    return 0;
}

int file_make_dir_path(const char *path, uint32_t mode)
{
    struct sim_inode *dir;
    const char *name;
    char trimmed[1024];
    size_t size = strlen(path);
    int r;

    spend_call();
    while (size > 1 && path[size - 1] == '/')
        size--;
    snprintf(trimmed, sizeof(trimmed), "%.*s", (int)size, path);
    r = path_parent(trimmed, &dir, &name);
    if (r < 0)
        return r;
    r = make_dir(dir, name, mode);
    if (r == -EEXIST)
        return sim_names_find(&dir->names, name)->is_dir ? 0 : -ENOTDIR;
    return r;
}

int file_make_dir(int dir_fd, const char *name, uint32_t mode)
{
    struct sim_inode *dir;

    spend_call();
    dir = dir_of(dir_fd);
    if (dir == NULL)
        return -EBADF;
    ASSERT(name_is_one_component(name));
    return make_dir(dir, name, mode);
}

/* ---- content ---------------------------------------------------------------------------------- */

static bool is_aligned(const struct sim_open *open, const void *memory, size_t size,
                       uint64_t offset)
{
    return (open->flags & FILE_DIRECT) == 0 ||
           ((uintptr_t)memory % DIRECT_ALIGNMENT == 0 && size % DIRECT_ALIGNMENT == 0 &&
            offset % DIRECT_ALIGNMENT == 0);
}

static ssize_t read_now(const struct sim_open *open, void *to, size_t size, uint64_t offset)
{
    const struct sim_inode *inode = open->inode;

    if (inode->is_dir)
        return -EISDIR;
    if (!is_aligned(open, to, size, offset))
        return -EINVAL;
    if (sim_disk_fails(inode->disk, SIM_IO_READ))
        return -EIO;
    if (offset >= inode->size)
        return 0;
    size = (size_t)MIN(size, inode->size - offset);
    sim_inode_read(inode, to, size, offset);
    return (ssize_t)size;
}

ssize_t file_read_some(int fd, void *to, size_t size, uint64_t offset)
{
    struct sim_open *open;

    spend_call();
    open = open_of(fd);
    return open == NULL ? -EBADF : read_now(open, to, size, offset);
}

int file_read_all(int fd, void *to, size_t size, uint64_t offset)
{
    ssize_t count = file_read_some(fd, to, size, offset);

    if (count < 0)
        return (int)count;
    return (size_t)count == size ? 0 : -ENODATA;
}

int file_write_all(int fd, struct slice bytes, uint64_t offset)
{
    struct sim_open *open;

    spend(2000, 20000 + bytes.size);
    open = open_of(fd);
    if (open == NULL || (open->flags & (FILE_WRITE | FILE_APPEND)) == 0)
        return -EBADF;
    if (!is_aligned(open, bytes.data, bytes.size, offset))
        return -EINVAL;
    if ((open->flags & FILE_APPEND) != 0)
        offset = open->inode->size;
    sim_trace("file.write", open->inode->number, offset, bytes.size);
    if (bytes.size == 0)
        return 0;
    if (fails(SIM_IO_WRITE)) {
        sim_disk_write_partly(open->inode, bytes.data, bytes.size, offset, false, false);
        return -EIO;
    }
    if (!sim_inode_allocate(open->inode, offset, bytes.size)) {
        uint64_t half = bytes.size / 2 / SIM_PAGE_BYTES * SIM_PAGE_BYTES;

        if (half > 0 && sim_inode_allocate(open->inode, offset, half)) /* what fitted is there */
            sim_inode_write(open->inode, bytes.data, half, offset);
        return -ENOSPC;
    }
    sim_inode_write(open->inode, bytes.data, bytes.size, offset);
    if ((open->flags & FILE_DIRECT) == 0 && fails(SIM_IO_WRITEBACK))
        sim_inode_sync_fails(open->inode); /* whoever syncs is told */
    return 0;
}

int file_truncate(int fd, uint64_t size_bytes)
{
    struct sim_open *open;

    spend_call();
    open = open_of(fd);
    if (open == NULL)
        return -EBADF;
    if (size_bytes < open->inode->size)
        sim_inode_truncate(open->inode, size_bytes);
    open->inode->size = size_bytes;
    return 0;
}

/* ---- durability ------------------------------------------------------------------------------- */

/* What a write-back could not do is told once to each description, and then forgotten (errseq_t in Linux). */
static int sync_now(struct sim_open *open)
{
    struct sim_inode *inode = open->inode;

    if (sim.process != NULL ? fails(SIM_IO_SYNC) : sim_disk_fails(inode->disk, SIM_IO_SYNC))
        sim_inode_sync_fails(inode);
    else
        sim_inode_sync(inode);
    if (open->errors_told == inode->errors)
        return 0;
    open->errors_told = inode->errors;
    return -EIO;
}

int file_sync(int fd)
{
    struct sim_open *open;

    spend_sync();
    open = open_of(fd);
    if (open == NULL)
        return -EBADF;
    sim_trace("file.sync", open->inode->number, open->inode->size, 0);
    return sync_now(open);
}

int file_sync_data(int fd)
{
    return file_sync(fd);
}

int file_sync_dir(int dir_fd)
{
    struct sim_inode *dir;

    spend_sync();
    dir = dir_of(dir_fd);
    if (dir == NULL)
        return -EBADF;
    if (fails(SIM_IO_SYNC_DIR))
        return -EIO;
    sim_trace("file.sync_dir", dir->number, 0, 0);
    sim_disk_sync_dir(dir);
    return 0;
}

int file_sync_file_system(int fd)
{
    struct sim_open *open;

    spend_sync();
    open = open_of(fd);
    if (open == NULL)
        return -EBADF;
    sim_trace("file.sync_all", 0, 0, 0);
    if (fails(SIM_IO_SYNC))
        sim_disk_sync_all_fails(open->inode->disk);
    else
        sim_disk_sync_all(open->inode->disk);
    if (open->disk_errors_told == open->inode->disk->errors)
        return 0;
    open->disk_errors_told = open->inode->disk->errors;
    return -EIO;
}

/* ---- names ------------------------------------------------------------------------------------ */

static int rename_at(int from_dir_fd, const char *from, int to_dir_fd, const char *to, bool replace)
{
    struct sim_inode *from_dir, *to_dir, *inode;

    spend_call();
    from_dir = dir_of(from_dir_fd);
    to_dir = dir_of(to_dir_fd);
    if (from_dir == NULL || to_dir == NULL)
        return -EBADF;
    ASSERT(name_is_one_component(from) && name_is_one_component(to));
    inode = sim_names_find(&from_dir->names, from);
    if (inode == NULL)
        return -ENOENT;
    if (!replace && sim_names_find(&to_dir->names, to) != NULL)
        return -EEXIST;
    if (fails(SIM_IO_RENAME))
        return -EIO;
    if (full_for_a_name(from_dir->disk, false))
        return -ENOSPC;
    sim_trace_text("file.rename", slice_cstr(to));
    sim_disk_change(from_dir->disk, from_dir, from, NULL, to_dir, to, inode);
    return 0;
}

int file_rename(int from_dir_fd, const char *from, int to_dir_fd, const char *to)
{
    return rename_at(from_dir_fd, from, to_dir_fd, to, true);
}

int file_rename_new(int from_dir_fd, const char *from, int to_dir_fd, const char *to)
{
    return rename_at(from_dir_fd, from, to_dir_fd, to, false);
}

static int remove_name(int dir_fd, const char *name, bool is_dir)
{
    struct sim_inode *dir, *inode;

    spend_call();
    dir = dir_of(dir_fd);
    if (dir == NULL)
        return -EBADF;
    inode = sim_names_find(&dir->names, name);
    if (inode == NULL)
        return -ENOENT;
    if (inode->is_dir != is_dir)
        return is_dir ? -ENOTDIR : -EISDIR;
    if (is_dir && inode->names.count > 0)
        return -ENOTEMPTY;
    if (fails(SIM_IO_UNLINK))
        return -EIO;
    sim_trace_text("file.unlink", slice_cstr(name));
    sim_disk_change(dir->disk, dir, name, NULL, NULL, NULL, NULL);
    return 0;
}

int file_unlink(int dir_fd, const char *name)
{
    return remove_name(dir_fd, name, false);
}

int file_remove_dir(int dir_fd, const char *name)
{
    return remove_name(dir_fd, name, true);
}

/* ---- looking ---------------------------------------------------------------------------------- */

static void info_of(const struct sim_inode *inode, struct file_info *ret_info)
{
    *ret_info = (struct file_info){
        .size_bytes = inode->size,
        .modified_ns = inode->modified_ns,
        .inode = inode->number,
        .mode = inode->mode | (inode->is_dir ? S_IFDIR : S_IFREG),
        .uid = inode->uid,
        .gid = inode->gid,
        .links = inode->links,
    };
}

int file_info(int fd, struct file_info *ret_info)
{
    struct sim_open *open;

    spend_call();
    open = open_of(fd);
    if (open == NULL)
        return -EBADF;
    info_of(open->inode, ret_info);
    return 0;
}

int file_info_at(int dir_fd, const char *name, struct file_info *ret_info)
{
    struct sim_inode *dir, *inode;

    spend_call();
    dir = dir_of(dir_fd);
    if (dir == NULL)
        return -EBADF;
    inode = sim_names_find(&dir->names, name);
    if (inode == NULL)
        return -ENOENT;
    info_of(inode, ret_info);
    return 0;
}

int file_set_owner(int fd, uint32_t uid, uint32_t gid)
{
    struct sim_open *open = open_of(fd);

    if (open == NULL)
        return -EBADF;
    open->inode->uid = uid;
    open->inode->gid = gid;
    return 0;
}

/* In no order, as promised: every call draws another one. */
int file_list(int dir_fd, file_each_fn *each, void *context)
{
    struct sim_inode *dir;
    struct sim_name *names;
    size_t count;
    int r = 0;

    spend_call();
    dir = dir_of(dir_fd);
    if (dir == NULL)
        return -EBADF;
    if (fails(SIM_IO_LIST))
        return -EIO;
    count = dir->names.count;
    names = malloc((count + 1) * sizeof(*names));
    ASSERT(names != NULL);
    if (count > 0)
        memcpy(names, dir->names.items, count * sizeof(*names));
    for (size_t i = 0; i < count && r == 0; i++) {
        size_t other = (size_t)sim_between(i, count - 1);
        struct sim_name name = names[other];

        names[other] = names[i];
        names[i] = name;
        r = each(context, name.text);
    }
    free(names);
    return r;
}

int file_lock(int fd, int32_t *ret_pid)
{
    struct sim_open *open;

    spend_call();
    open = open_of(fd);
    if (open == NULL)
        return -EBADF;
    if (open->inode->lock != NULL && open->inode->lock != open) {
        if (ret_pid != NULL)
            *ret_pid = open->inode->lock->process->pid;
        return -EAGAIN;
    }
    open->inode->lock = open;
    open->locked = true;
    return 0;
}

int file_system_info(int fd, struct file_system_info *ret_info)
{
    const struct sim_open *open = open_of(fd);
    struct sim_disk *disk;
    uint64_t total;

    if (open == NULL)
        return -EBADF;
    disk = open->inode->disk;
    total = disk->faults.capacity_bytes == 0 ? 64 * GIB : disk->faults.capacity_bytes;
    *ret_info = (struct file_system_info){.kind = FILE_SYSTEM_EXT4,
                                          .name = "ext4",
                                          .total_bytes = total,
                                          .free_bytes = total - MIN(total, disk->used_bytes)};
    return 0;
}

/* ---- the ring's file operations ---------------------------------------------------------------- */

/* Memory that was lent must not change meanwhile: the real kernel may read it at any moment. */
static uint64_t content_hash(const struct sim_request *request)
{
    return sim_hash_bytes(1, request->to, request->size);
}

static uint64_t disk_latency_ns(const struct sim_disk *disk, bool durable)
{
    uint64_t low = durable ? 20000 + sim_disk_flush_ns(disk) : 20000;
    uint64_t high = !durable                  ? 80000
                    : sim.faults.disk_us == 0 ? 400000
                                              : sim.faults.disk_us * US_NS;

    if (sim_chance(sim.faults.slow_disk))
        high += 500 * MS_NS;
    return sim_between(low, low + high);
}

static void read_completes(struct sim_event *event)
{
    struct sim_request *request = CONTAINER_OF(event, struct sim_request, event);
    ssize_t count = read_now(request->object, request->to, request->size, request->offset);

    sim_trace("ring.read", request->offset, (uint64_t)count, 0);
    sim_request_end(request, (int32_t)count, NULL);
}

void ring_read(struct ring *ring, struct ring_op *op, int fd, void *to, size_t size,
               uint64_t offset)
{
    struct sim_open *open = open_of(fd);
    struct sim_request *request = sim_request_begin(ring, op, open, NULL);

    ASSERT(open != NULL);
    request->to = to;
    request->size = size;
    request->offset = offset;
    sim_event_arm(&request->event, sim.now_ns + disk_latency_ns(open->inode->disk, false),
                  read_completes);
}

/* The disk has said that it is done, and lied. */
static void write_lies(struct sim_request *request, bool elsewhere)
{
    struct sim_inode *meant = ((struct sim_open *)request->object)->inode, *hit = NULL;
    uint64_t offset = request->offset;

    if (elsewhere)
        hit = sim_disk_elsewhere(meant, request->size, &offset);
    meant->disk->lies++;
    sim_trace("disk.lie", meant->number, request->offset, hit == NULL ? 0 : offset);
    if (hit != NULL && sim_inode_allocate(hit, offset, request->size)) {
        sim_inode_write(hit, request->to, request->size, offset);
        sim_inode_sync_range(hit, offset, request->size, 1000);
    }
    if (sim_disk_lied != NULL)
        sim_disk_lied(meant, request->offset, hit, offset, request->size);
}

/* What a write comes to: its bytes, fewer, or -errno. */
static int32_t write_now(struct sim_request *request)
{
    struct sim_inode *inode = ((struct sim_open *)request->object)->inode;
    struct sim_disk *disk = inode->disk;
    size_t size = request->size;

    if (sim_disk_fails(disk, SIM_IO_WRITE)) {
        sim_disk_write_partly(inode, request->to, size, request->offset, request->durable, true);
        return -EIO;
    }
    if (!sim_inode_allocate(inode, request->offset, size))
        return -ENOSPC;
    if (request->durable && sim_chance(disk->faults.lost)) {
        write_lies(request, false);
        return (int32_t)size;
    }
    if (request->durable && sim_chance(disk->faults.misdirected)) {
        write_lies(request, true);
        return (int32_t)size;
    }
    if (sim_chance(disk->faults.short_write))
        size = (size_t)sim_between(0, (size - 1) / SIM_SECTOR_BYTES) * SIM_SECTOR_BYTES;
    if (size == 0)
        return -EIO;
    sim_inode_write(inode, request->to, size, request->offset);
    if (request->durable)
        sim_inode_sync_range(inode, request->offset, size, 1000);
    return (int32_t)size;
}

static void write_completes(struct sim_event *event)
{
    struct sim_request *request = CONTAINER_OF(event, struct sim_request, event);
    const struct sim_open *open = request->object;
    int32_t result;

    ASSERT(request->content_hash == content_hash(request));
    if (sim_disk_point != NULL && sim_disk_point(open->inode->disk->host))
        return; /* it stays in flight */
    sim_trace("ring.write", open->inode->number, request->offset, request->content_hash);
    result = write_now(request);
    if (result != (int32_t)request->size)
        sim_trace("ring.write.failed", open->inode->number, (uint64_t)result, 0);
    sim_request_end(request, result, NULL);
}

static void write_refused(struct sim_event *event)
{
    sim_request_end(CONTAINER_OF(event, struct sim_request, event), -EINVAL, NULL);
}

void ring_write(struct ring *ring, struct ring_op *op, int fd, struct slice bytes, uint64_t offset,
                bool durable)
{
    struct sim_open *open = open_of(fd);
    struct sim_request *request = sim_request_begin(ring, op, open, NULL);

    ASSERT(open != NULL && bytes.size > 0);
    request->to = (void *)bytes.data;
    request->size = bytes.size;
    request->offset = offset;
    request->durable = durable;
    if (!is_aligned(open, bytes.data, bytes.size, offset)) {
        sim_event_arm(&request->event, sim.now_ns + 1000, write_refused);
        return;
    }
    request->content_hash = content_hash(request);
    request->is_write = true;
    sim_event_arm(&request->event, sim.now_ns + disk_latency_ns(open->inode->disk, durable),
                  write_completes);
}

static void sync_completes(struct sim_event *event)
{
    struct sim_request *request = CONTAINER_OF(event, struct sim_request, event);
    struct sim_open *open = request->object;

    if (sim_disk_point != NULL && sim_disk_point(open->inode->disk->host))
        return;
    sim_trace("ring.sync", open->inode->number, 0, 0);
    sim_request_end(request, sync_now(open), NULL);
}

void ring_sync(struct ring *ring, struct ring_op *op, int fd)
{
    struct sim_open *open = open_of(fd);
    struct sim_request *request = sim_request_begin(ring, op, open, NULL);

    ASSERT(open != NULL);
    sim_event_arm(&request->event, sim.now_ns + disk_latency_ns(open->inode->disk, true) + 100000,
                  sync_completes);
}

void sim_disk_request_abandon(struct sim_request *request, bool power)
{
    struct sim_open *open = request->object;

    /* The kernel finishes or drops what was in flight before anybody can open the file again. */
    if (request->is_write)
        sim_disk_write_partly(open->inode, request->to, request->size, request->offset,
                              request->durable, power);
}
