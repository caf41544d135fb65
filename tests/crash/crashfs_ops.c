/* What the kernel asks for. Each operation is one step under the lock; a sync becomes effective after the delay. */
#include "tests/crash/crashfs.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define CONTROL_INODE UINT64_C(0x7fffffff) /* no address of a node */
#define CONTROL_TEXT_MAX 512

static struct crashfs *enter(fuse_req_t request)
{
    struct crashfs *fs = fuse_req_userdata(request);

    pthread_mutex_lock(&fs->lock);
    return fs;
}

static void leave(struct crashfs *fs)
{
    pthread_mutex_unlock(&fs->lock);
}

/* Keeps a request for the cut, which answers it. */
static void hold(struct crashfs *fs, fuse_req_t request)
{
    struct crashfs_held *held = malloc(sizeof(*held));

    if (held == NULL)
        errx(2, "out of memory");
    *held = (struct crashfs_held){.next = fs->held, .request = request};
    fs->held = held;
}

/* Counts an operation. False when it does not happen: it waits for the cut, or was answered with the wanted error. A write
 * and a sync have more to do when they fail: they look at `ret_failed`, where it is not NULL, and answer themselves. */
static bool begins(struct crashfs *fs, fuse_req_t request, enum crashfs_kind kind, bool *ret_failed)
{
    if (ret_failed != NULL)
        *ret_failed = false;
    if (fs->dead && kind != CRASHFS_READ) {
        fuse_reply_err(request, EIO);
        return false;
    }
    if (kind != CRASHFS_READ) {
        if (fs->until_frozen == 0) {
            hold(fs, request);
            return false;
        }
        fs->operations++;
        if (fs->until_frozen != UINT64_MAX)
            fs->until_frozen--;
    }
    if (fs->fail_in[kind] == 0 || --fs->fail_in[kind] > 0)
        return true;
    fs->failed++;
    if (ret_failed != NULL) {
        *ret_failed = true;
        return true;
    }
    fuse_reply_err(request, EIO);
    return false;
}

/* Lets the delay of a sync pass, without the lock. False when everything froze or was cut meanwhile. */
static bool delay(struct crashfs *fs, fuse_req_t request)
{
    uint64_t cuts = fs->cuts;

    if (fs->delay_us == 0)
        return true;
    leave(fs);
    usleep(fs->delay_us);
    pthread_mutex_lock(&fs->lock);
    if (fs->cuts != cuts) {
        fuse_reply_err(request, EIO);
        return false;
    }
    if (fs->until_frozen == 0) {
        hold(fs, request);
        return false;
    }
    return true;
}

static struct stat describe(const struct crashfs_node *node)
{
    struct stat about = node->about;

    about.st_ino = node->inode;
    about.st_nlink = S_ISDIR(about.st_mode) ? 2 : node->name != NULL;
    about.st_size = (off_t)node->size;
    about.st_blocks = (off_t)(node->charged_blocks * (CRASHFS_BLOCK / 512));
    about.st_blksize = CRASHFS_BLOCK;
    about.st_atim = about.st_ctim = about.st_mtim;
    return about;
}

static struct stat describe_control(void)
{
    return (struct stat){
        .st_ino = CONTROL_INODE, .st_mode = S_IFREG | 0600, .st_nlink = 1, .st_size = 0};
}

/* Nothing is ever cached, so the kernel believes nothing of before a cut. */
static struct fuse_entry_param entry_of(struct crashfs_node *node)
{
    node->lookups++;
    return (struct fuse_entry_param){.ino = (fuse_ino_t)node, .attr = describe(node)};
}

static void on_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct crashfs *fs = enter(request);
    const struct crashfs_name *found;

    if (parent == FUSE_ROOT_ID && strcmp(name, CRASHFS_CONTROL) == 0) {
        struct fuse_entry_param entry = {.ino = CONTROL_INODE, .attr = describe_control()};

        fuse_reply_entry(request, &entry);
    } else {
        found = crashfs_find(fs, crashfs_node_of(fs, parent), name);
        if (found == NULL || found->now == NULL) {
            fuse_reply_err(request, ENOENT);
        } else {
            struct fuse_entry_param entry = entry_of(found->now);

            fuse_reply_entry(request, &entry);
        }
    }
    leave(fs);
}

static void on_forget(fuse_req_t request, fuse_ino_t number, uint64_t lookups)
{
    struct crashfs *fs = enter(request);

    if (number != FUSE_ROOT_ID && number != CONTROL_INODE) {
        struct crashfs_node *node = crashfs_node_of(fs, number);

        node->lookups -= lookups;
        crashfs_node_settle(fs, node);
    }
    fuse_reply_none(request);
    leave(fs);
}

static void on_getattr(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    struct crashfs *fs = enter(request);
    struct stat about =
        number == CONTROL_INODE ? describe_control() : describe(crashfs_node_of(fs, number));

    (void)info;
    fuse_reply_attr(request, &about, 0);
    leave(fs);
}

/* Owner, mode and times are durable at once: nothing rests on them. */
static void on_setattr(fuse_req_t request, fuse_ino_t number, struct stat *wanted, int which,
                       struct fuse_file_info *info)
{
    struct crashfs *fs = enter(request);
    struct stat about = describe_control();
    int r = 0;

    (void)info;
    if (number != CONTROL_INODE) {
        struct crashfs_node *node = crashfs_node_of(fs, number);

        if (!begins(fs, request, CRASHFS_OTHER, NULL)) {
            leave(fs);
            return;
        }
        if (which & FUSE_SET_ATTR_MODE)
            node->about.st_mode =
                (node->about.st_mode & S_IFMT) | (wanted->st_mode & ~(mode_t)S_IFMT);
        if (which & FUSE_SET_ATTR_UID)
            node->about.st_uid = wanted->st_uid;
        if (which & FUSE_SET_ATTR_GID)
            node->about.st_gid = wanted->st_gid;
        if (which & FUSE_SET_ATTR_MTIME)
            node->about.st_mtim = wanted->st_mtim;
        if (which & FUSE_SET_ATTR_SIZE)
            r = crashfs_resize(fs, node, (size_t)wanted->st_size);
        about = describe(node);
    }
    if (r < 0)
        fuse_reply_err(request, -r);
    else
        fuse_reply_attr(request, &about, 0);
    leave(fs);
}

/* --- names ------------------------------------------------------------------------------------ */

/* Makes a node under a name that leads nowhere yet; NULL when that was answered. */
static struct crashfs_node *make(struct crashfs *fs, fuse_req_t request, fuse_ino_t parent,
                                 const char *name, mode_t mode)
{
    const struct fuse_ctx *who = fuse_req_ctx(request);
    struct crashfs_node *dir = crashfs_node_of(fs, parent), *node;
    const struct crashfs_name *found = crashfs_find(fs, dir, name);

    if (strlen(name) > NAME_MAX || (found != NULL && found->now != NULL)) {
        fuse_reply_err(request, strlen(name) > NAME_MAX ? ENAMETOOLONG : EEXIST);
        return NULL;
    }
    if (crashfs_free_blocks(fs) == 0) {
        fuse_reply_err(request, ENOSPC);
        return NULL;
    }
    node = crashfs_node_create(fs, mode, who->uid, who->gid);
    crashfs_point(fs, dir, name, node);
    return node;
}

static void on_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct crashfs *fs = enter(request);
    struct crashfs_node *node = begins(fs, request, CRASHFS_OTHER, NULL)
                                    ? make(fs, request, parent, name, S_IFDIR | (mode & 07777))
                                    : NULL;

    if (node != NULL) {
        struct fuse_entry_param entry = entry_of(node);

        fuse_reply_entry(request, &entry);
    }
    leave(fs);
}

static void on_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *info)
{
    struct crashfs *fs = enter(request);
    struct crashfs_node *node = begins(fs, request, CRASHFS_OPEN, NULL)
                                    ? make(fs, request, parent, name, S_IFREG | (mode & 07777))
                                    : NULL;

    if (node != NULL) {
        struct fuse_entry_param entry = entry_of(node);

        node->opens++;
        info->direct_io = 1;
        fuse_reply_create(request, &entry, info);
    }
    leave(fs);
}

static void take_away(fuse_req_t request, fuse_ino_t parent, const char *name, bool of_dir)
{
    struct crashfs *fs = enter(request);
    struct crashfs_node *dir = crashfs_node_of(fs, parent);
    const struct crashfs_name *found = crashfs_find(fs, dir, name);

    if (begins(fs, request, CRASHFS_OTHER, NULL)) {
        if (found == NULL || found->now == NULL) {
            fuse_reply_err(request, ENOENT);
        } else if (of_dir && !crashfs_is_empty(found->now)) {
            fuse_reply_err(request, ENOTEMPTY);
        } else {
            crashfs_point(fs, dir, name, NULL);
            fuse_reply_err(request, 0);
        }
    }
    leave(fs);
}

static void on_unlink(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    take_away(request, parent, name, false);
}

static void on_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    take_away(request, parent, name, true);
}

static void on_rename(fuse_req_t request, fuse_ino_t parent, const char *name,
                      fuse_ino_t new_parent, const char *new_name, unsigned int flags)
{
    struct crashfs *fs = enter(request);
    struct crashfs_node *from = crashfs_node_of(fs, parent), *to = crashfs_node_of(fs, new_parent);
    const struct crashfs_name *old = crashfs_find(fs, from, name);
    const struct crashfs_name *there = crashfs_find(fs, to, new_name);

    if (begins(fs, request, CRASHFS_RENAME, NULL)) {
        if (old == NULL || old->now == NULL) {
            fuse_reply_err(request, ENOENT);
        } else if ((flags & RENAME_NOREPLACE) && there != NULL && there->now != NULL) {
            fuse_reply_err(request, EEXIST);
        } else if (flags & ~(unsigned int)RENAME_NOREPLACE) {
            fuse_reply_err(request, EINVAL);
        } else {
            crashfs_point(fs, to, new_name, old->now);
            if (old != there)
                crashfs_point(fs, from, name, NULL);
            fuse_reply_err(request, 0);
        }
    }
    leave(fs);
}

static void on_readdir(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
                       struct fuse_file_info *info)
{
    struct crashfs *fs = enter(request);
    char *listing = malloc(size);
    size_t used = 0;

    (void)info;
    if (listing == NULL)
        errx(2, "out of memory");
    for (const struct crashfs_name *name = crashfs_node_of(fs, number)->first; name != NULL;
         name = name->next_in_dir) {
        struct stat about;
        size_t needed;

        if (name->now == NULL || name->serial <= (uint64_t)offset)
            continue;
        about = describe(name->now);
        needed = fuse_add_direntry(request, listing + used, size - used, name->name, &about,
                                   (off_t)name->serial);
        if (needed > size - used)
            break;
        used += needed;
    }
    fuse_reply_buf(request, listing, used);
    free(listing);
    leave(fs);
}

static void on_fsyncdir(fuse_req_t request, fuse_ino_t number, int data_only,
                        struct fuse_file_info *info)
{
    struct crashfs *fs = enter(request);

    (void)data_only;
    (void)info;
    if (begins(fs, request, CRASHFS_SYNCDIR, NULL) && delay(fs, request)) {
        crashfs_sync_names(fs, crashfs_node_of(fs, number));
        fuse_reply_err(request, 0);
    }
    leave(fs);
}

/* --- files ------------------------------------------------------------------------------------ */

static void on_open(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    struct crashfs *fs = enter(request);

    info->direct_io = 1; /* no page cache: what is read is what we have */
    if (number == CONTROL_INODE) {
        fuse_reply_open(request, info);
    } else if (begins(fs, request, CRASHFS_OPEN, NULL)) {
        struct crashfs_node *node = crashfs_node_of(fs, number);

        node->opens++;
        if (info->flags & O_TRUNC)
            (void)crashfs_resize(fs, node, 0);
        fuse_reply_open(request, info);
    }
    leave(fs);
}

static void on_release(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    struct crashfs *fs = enter(request);

    (void)info;
    if (number != CONTROL_INODE) {
        struct crashfs_node *node = crashfs_node_of(fs, number);

        node->opens--;
        crashfs_node_settle(fs, node);
    }
    fuse_reply_err(request, 0);
    leave(fs);
}

static void on_read(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    struct crashfs *fs = enter(request);
    char text[CONTROL_TEXT_MAX];

    (void)info;
    if (number == CONTROL_INODE) {
        fuse_reply_buf(request, text,
                       offset == 0 ? crashfs_control_read(fs, text, sizeof(text)) : 0);
    } else if (begins(fs, request, CRASHFS_READ, NULL)) {
        const struct crashfs_node *node = crashfs_node_of(fs, number);
        size_t left = (uint64_t)offset < node->size ? node->size - (size_t)offset : 0;

        fuse_reply_buf(request, left == 0 ? NULL : node->now + offset, size < left ? size : left);
    }
    leave(fs);
}

/* A write that fails has left some of its sectors. */
static void fail_write(struct crashfs *fs, struct crashfs_node *file, const char *bytes,
                       size_t size, size_t offset)
{
    for (size_t done = 0; done < size; done += CRASHFS_SECTOR)
        if (crashfs_random(fs) % 2 == 0)
            (void)crashfs_write(fs, file, bytes + done,
                                size - done < CRASHFS_SECTOR ? size - done : CRASHFS_SECTOR,
                                offset + done);
}

static void on_write(fuse_req_t request, fuse_ino_t number, const char *bytes, size_t size,
                     off_t offset, struct fuse_file_info *info)
{
    struct crashfs *fs = enter(request);
    struct crashfs_node *file = crashfs_node_of(fs, number);
    bool failed = false;
    ssize_t written;
    int r;

    if (number == CONTROL_INODE) {
        r = crashfs_control_write(fs, bytes, size);
        if (r < 0)
            fuse_reply_err(request, -r);
        else
            fuse_reply_write(request, size);
    } else if (begins(fs, request, CRASHFS_WRITE, &failed)) {
        if (failed) {
            fail_write(fs, file, bytes, size, (size_t)offset);
            fuse_reply_err(request, EIO);
            leave(fs);
            return;
        }
        written = crashfs_write(fs, file, bytes, size, (size_t)offset);
        if (written < 0) {
            fuse_reply_err(request, (int)-written);
        } else if (!(info->flags & O_DSYNC)) {
            fuse_reply_write(request, (size_t)written);
        } else if (delay(fs, request)) { /* O_SYNC has the bit of O_DSYNC */
            crashfs_sync_data(file, (size_t)offset, (size_t)offset + (size_t)written);
            fuse_reply_write(request, (size_t)written);
        }
    }
    leave(fs);
}

static void on_fsync(fuse_req_t request, fuse_ino_t number, int data_only,
                     struct fuse_file_info *info)
{
    struct crashfs *fs = enter(request);
    struct crashfs_node *file = crashfs_node_of(fs, number);
    bool failed = false;

    (void)data_only;
    (void)info;
    if (number == CONTROL_INODE) {
        fuse_reply_err(request, 0);
    } else if (begins(fs, request, CRASHFS_SYNC, &failed) && delay(fs, request)) {
        if (failed)
            crashfs_forget_dirty(file);
        else
            crashfs_sync_data(file, 0, SIZE_MAX);
        fuse_reply_err(request, failed ? EIO : 0);
    }
    leave(fs);
}

static void on_statfs(fuse_req_t request, fuse_ino_t number)
{
    struct crashfs *fs = enter(request);
    struct statvfs about = {
        .f_bsize = CRASHFS_BLOCK, .f_frsize = CRASHFS_BLOCK, .f_namemax = NAME_MAX};

    (void)number;
    about.f_blocks = fs->space_blocks;
    about.f_bfree = about.f_bavail = crashfs_free_blocks(fs);
    about.f_files = about.f_ffree = UINT32_MAX;
    fuse_reply_statfs(request, &about);
    leave(fs);
}

static void on_init(void *context, struct fuse_conn_info *connection)
{
    (void)context;
    connection->max_write = CRASHFS_REQUEST_MAX;
    connection->want &= ~(unsigned int)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ);
}

const struct fuse_lowlevel_ops crashfs_ops = {
    .init = on_init,
    .lookup = on_lookup,
    .forget = on_forget,
    .getattr = on_getattr,
    .setattr = on_setattr,
    .mkdir = on_mkdir,
    .create = on_create,
    .unlink = on_unlink,
    .rmdir = on_rmdir,
    .rename = on_rename,
    .readdir = on_readdir,
    .fsyncdir = on_fsyncdir,
    .open = on_open,
    .release = on_release,
    .read = on_read,
    .write = on_write,
    .fsync = on_fsync,
    .statfs = on_statfs,
};
