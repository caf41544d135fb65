#include "storage/spool_copy.h"
#include "storage/spool_private.h"

#include "core/buf.h"
#include "core/clock.h"

#include <errno.h>
#include <stdlib.h>

#define SUPER_NAME "SUPER"
#define SUPER_NEW_NAME "SUPER.new"
#define LOCK_NAME "LOCK"
#define SPARE_NAME "spare"
#define PID_TEXT_SIZE 16

/* ---- the two slots -------------------------------------------------------------------------- */

/* The slot that counts, as it stands there, and whether the other one was written and does not verify. */
static int slots_read(int dir_fd, struct spool_super *ret_super, bool *ret_lost)
{
    static const uint8_t never_written[SPOOL_BLOCK_BYTES];
    uint8_t slots[2][SPOOL_BLOCK_BYTES] = {0};
    struct spool_super slot;
    bool found = false;
    ssize_t got;
    int fd;
    int r = file_open(dir_fd, SUPER_NAME, FILE_READ, 0, &fd);

    if (r < 0)
        return r;
    got = file_read_some(fd, slots, sizeof(slots), 0);
    (void)file_close(fd); /* nothing was written */
    if (got < 0)
        return (int)got;
    *ret_lost = (size_t)got < sizeof(slots);
    for (int i = 0; i < 2; i++) {
        if (!spool_super_decode(slots[i], &slot)) {
            *ret_lost = *ret_lost || memcmp(slots[i], never_written, SPOOL_BLOCK_BYTES) != 0;
        } else if (!found || slot.sequence > ret_super->sequence) {
            *ret_super = slot;
            found = true;
        }
    }
    return found ? 0 : -EBADMSG;
}

/* A slot that was written and does not verify was perhaps the newer one: then an epoch and ids were given out that the
 * other slot does not know of, at most those that one write makes known. They are left out, since no id and no LSN may be
 * used twice (QUEUE I23). */
static void super_skip_lost(struct spool_super *super)
{
    super->epoch++;
    super->id_limit += SPOOL_ID_GAP;
}

int spool_super_read(int dir_fd, struct spool_super *ret_super)
{
    bool lost;
    int r = slots_read(dir_fd, ret_super, &lost);

    if (r == 0 && lost)
        super_skip_lost(ret_super);
    return r;
}

static int slot_write(int dir_fd, const struct spool_super *super)
{
    uint8_t slot[SPOOL_BLOCK_BYTES];
    int fd;
    int r = file_open(dir_fd, SUPER_NAME, FILE_WRITE, 0, &fd);

    if (r < 0)
        return r;
    spool_super_encode(super, slot);
    r = file_write_all(fd, slice_of(slot, sizeof(slot)), super->sequence % 2 * SPOOL_BLOCK_BYTES);
    if (r == 0)
        r = file_sync_data(fd);
    (void)file_close(fd); /* synced, or r says why not */
    return r;
}

/* Does the slot that counts, of `sequence`, still stand there? */
static bool slot_stands(int dir_fd, uint64_t sequence)
{
    uint8_t block[SPOOL_BLOCK_BYTES];
    struct spool_super slot;
    int fd;
    int r = file_open(dir_fd, SUPER_NAME, FILE_READ, 0, &fd);

    if (r < 0)
        return true; /* the write will say what is wrong */
    r = file_read_all(fd, block, sizeof(block), sequence % 2 * SPOOL_BLOCK_BYTES);
    (void)file_close(fd); /* only read */
    return r == 0 && spool_super_decode(block, &slot) && slot.sequence == sequence;
}

int spool_super_write(int dir_fd, struct spool_super *super)
{
    struct spool_super next = *super;
    int r;

    /* Into the other slot; but never over the only good one: where the newer one has decayed, it is the one that is
     * written, so that a cut while it is leaves the older; and then that one, so that they are one write apart again. */
    if (!slot_stands(dir_fd, super->sequence)) {
        next.sequence += 2;
        r = slot_write(dir_fd, &next);
        if (r < 0)
            return r;
    }
    next.sequence++;
    r = slot_write(dir_fd, &next);
    if (r ==
        0) /* after an error the same slot is written again: the other one is the only good one */
        super->sequence = next.sequence;
    return r;
}

/* Two things may be wrong with what was read. The newer slot may be in the page cache only (its writer was killed before
 * the sync, or the sync failed): then a cut while the other one is written would take both, so it is written
 * once more where it stands. And what a lost slot may have reserved is written at once as used, so that the two slots
 * never differ by more than one write. */
static int super_settle(struct spool_directory *directory)
{
    struct spool_super *super = &directory->super;
    int r = slot_write(directory->dir_fd, super);

    if (r < 0 || !directory->super_lost)
        return r;
    super_skip_lost(super);
    return spool_super_write(directory->dir_fd, super);
}

/* The file, then its name: a crash before leaves no SUPER, so that the next start makes another
 * spool. */
static int super_create(int dir_fd, struct spool_super *super)
{
    uint8_t slots[2 * SPOOL_BLOCK_BYTES] = {0};
    int fd;
    int r = file_open(dir_fd, SUPER_NEW_NAME, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, 0600, &fd);

    if (r < 0)
        return r;
    spool_super_encode(super, slots + super->sequence % 2 * SPOOL_BLOCK_BYTES);
    super->sequence++; /* both slots are good from the beginning */
    spool_super_encode(super, slots + super->sequence % 2 * SPOOL_BLOCK_BYTES);
    r = file_write_all(fd, slice_of(slots, sizeof(slots)), 0);
    if (r == 0)
        r = file_sync(fd);
    (void)file_close(fd); /* synced, or r says why not */
    if (r == 0)
        r = file_rename(dir_fd, SUPER_NEW_NAME, dir_fd, SUPER_NAME);
    if (r == 0)
        r = file_sync_dir(dir_fd);
    return r;
}

/* ---- what may be opened --------------------------------------------------------------------- */

static int file_system_check(const struct spool_config *config, int dir_fd, struct buf *error)
{
    struct file_system_info info;
    int r = file_system_info(dir_fd, &info);

    if (r < 0) {
        buf_printf(error, "%s: cannot ask for its file system: %s", config->path, strerror(-r));
        return r;
    }
    if (config->force_file_system || info.kind == FILE_SYSTEM_EXT4 || info.kind == FILE_SYSTEM_XFS)
        return 0;
    if (info.kind == FILE_SYSTEM_TMPFS)
        buf_printf(error,
                   "%s: is on tmpfs, which forgets all mail when the machine stops; put the spool "
                   "on ext4 or "
                   "XFS, or force it (force_file_system)",
                   config->path);
    else
        buf_printf(error,
                   "%s: is on a file system (%s) that is not known to keep what was synced and to "
                   "overwrite in "
                   "place; put the spool on ext4 or XFS, or force it (force_file_system)",
                   config->path, info.name);
    return -EMEDIUMTYPE;
}

static int format_check(const struct spool_config *config, const struct spool_super *super,
                        struct buf *error)
{
    const struct spool_features *features = &super->features;

    if (spool_features_check(features) != SPOOL_FORMAT_KNOWN) {
        buf_printf(error,
                   "%s: has format %u.%u with features incompat 0x%x, ro_compat 0x%x; this program "
                   "knows %u.%u and "
                   "none of them: nothing was changed, use the newer program",
                   config->path, features->major, features->minor, features->incompat,
                   features->ro_compat, SPOOL_MAJOR, SPOOL_MINOR);
        return -EPROTONOSUPPORT;
    }
    if (super->number != config->number) {
        buf_printf(error, "%s: is spool number %u, not %u", config->path, super->number,
                   config->number);
        return -EINVAL;
    }
    return 0;
}

static int has_segment(void *context, const char *name)
{
    uint32_t number;

    (void)context;
    return spool_segment_name_parse(name, 'D', &number) ||
           spool_segment_name_parse(name, 'R', &number) ||
           spool_segment_name_parse(name, 'J', &number);
}

/* 0: read and known. 1: there is none, and there may be a new one. */
static int super_open(const struct spool_config *config, struct spool_directory *directory,
                      struct buf *error)
{
    int r = slots_read(directory->dir_fd, &directory->super, &directory->super_lost);

    if (r == 0)
        return format_check(config, &directory->super, error);
    if (r == -EBADMSG) {
        buf_printf(error, "%s: both slots of SUPER are damaged", config->path);
        return r;
    }
    if (r == -ENOENT)
        r = file_list(directory->dir_fd, has_segment, NULL);
    else
        buf_printf(error, "%s: cannot read SUPER: %s", config->path, strerror(-r));
    if (r == 0)
        return 1;
    if (r > 0) {
        buf_printf(error, "%s: has segments but no SUPER", config->path);
        r = -EBADMSG;
    } else if (error->size == 0) {
        buf_printf(error, "%s: cannot be listed: %s", config->path, strerror(-r));
    }
    return r;
}

static int lock_take(const struct spool_config *config, struct spool_directory *directory,
                     struct buf *error)
{
    char text[PID_TEXT_SIZE];
    int32_t pid = 0;
    int r = file_open(directory->dir_fd, LOCK_NAME, FILE_READ | FILE_WRITE | FILE_CREATE, 0600,
                      &directory->lock_fd);

    if (r < 0) {
        buf_printf(error, "%s: cannot open LOCK: %s", config->path, strerror(-r));
        return r;
    }
    r = file_lock(directory->lock_fd, &pid);
    if (r == -EAGAIN) {
        /* The kernel does not tell who holds such a lock; its holder has written it down. */
        ssize_t got = file_read_some(directory->lock_fd, text, sizeof(text) - 1, 0);
        uint64_t number = 0;

        if (got > 0 && slice_parse_u64(slice_trim(slice_of(text, (size_t)got)), INT32_MAX, &number))
            pid = (int32_t)number;
        if (pid != 0)
            buf_printf(error, "%s: is in use by process %d", config->path, (int)pid);
        else
            buf_printf(error, "%s: is in use by another process", config->path);
        return -EBUSY;
    }
    if (r < 0) {
        buf_printf(error, "%s: cannot lock LOCK: %s", config->path, strerror(-r));
        return r;
    }
    return 0;
}

/* For the sentence above only, so no error here matters. */
static void lock_sign(const struct spool_config *config, const struct spool_directory *directory)
{
    struct buf text;

    buf_init(&text, PID_TEXT_SIZE);
    if (config->owner_pid != 0)
        buf_printf(&text, "%d ", (int)config->owner_pid);
    (void)file_truncate(directory->lock_fd, 0);
    (void)file_write_all(directory->lock_fd, buf_slice(&text), 0);
    buf_deinit(&text);
}

/* ---- opening and making --------------------------------------------------------------------- */

/* The name of a directory made here is as good as its parent's sync. */
static int parent_sync(const char *path)
{
    char *parent = strdup(path);
    char *slash;
    int fd, r;

    if (parent == NULL)
        return -ENOMEM;
    slash = strrchr(parent, '/');
    if (slash == NULL)
        strcpy(parent, ".");
    else
        slash[slash == parent ? 1 : 0] = '\0';
    r = file_open_dir_path(parent, &fd);
    free(parent);
    if (r < 0)
        return r;
    r = file_sync_dir(fd);
    (void)file_close(fd);
    return r;
}

static int directory_make(const struct spool_config *config, struct spool_directory *directory)
{
    int r = file_make_dir_path(config->path, 0700);

    return r == 0 ? file_open_dir_path(config->path, &directory->dir_fd) : r;
}

static int spool_make(const struct spool_config *config, struct spool_directory *directory)
{
    struct spool_super *super = &directory->super;
    int r;

    /* Also for a directory that was there: whoever made it may have been killed before its sync. */
    r = parent_sync(config->path);
    if (r < 0)
        return r;
    *super = (struct spool_super){
        .features = {.major = SPOOL_MAJOR, .minor = SPOOL_MINOR},
        .number = config->number,
        .id_limit = 1, /* 0 is no id: callers may mean none by it */
        .created_s = clock_wall_ns() / SECOND_NS,
    };
    random_bytes(super->uuid, sizeof(super->uuid));
    directory->fresh = true;
    return super_create(directory->dir_fd, super);
}

static int spare_open(struct spool_directory *directory)
{
    int r = file_make_dir(directory->dir_fd, SPARE_NAME, 0700);

    if (r == 0)
        r = file_sync_dir(directory->dir_fd);
    if (r < 0 && r != -EEXIST)
        return r;
    return file_open_dir(directory->dir_fd, SPARE_NAME, &directory->spare_fd);
}

/* SUPER is looked at before the lock is taken as well: a spool of a newer program is left without
 * a trace of ours. */
static int directory_enter(const struct spool_config *config, struct spool_directory *directory,
                           struct buf *error)
{
    int r = file_system_check(config, directory->dir_fd, error);

    if (r == 0)
        r = super_open(config, directory, error);
    if (r < 0)
        return r;
    r = lock_take(config, directory, error);
    if (r == 0)
        r = super_open(config, directory, error);
    if (r < 0)
        return r;
    lock_sign(config, directory);
    r = r == 1 ? spool_make(config, directory) : super_settle(directory);
    if (r == 0)
        r = spare_open(directory);
    if (r < 0)
        buf_printf(error, "%s: cannot make what a spool needs: %s", config->path, strerror(-r));
    return r;
}

int spool_directory_open(const struct spool_config *config, struct spool_directory *directory,
                         struct buf *error)
{
    int r;

    *directory = (struct spool_directory){.dir_fd = -1, .spare_fd = -1, .lock_fd = -1};
    r = file_open_dir_path(config->path, &directory->dir_fd);
    if (r == -ENOENT)
        r = directory_make(config, directory);
    if (r < 0) {
        buf_printf(error, "%s: cannot be opened as a directory: %s", config->path, strerror(-r));
        return r;
    }
    r = directory_enter(config, directory, error);
    if (r < 0)
        spool_directory_close(directory);
    return r;
}

void spool_directory_close(struct spool_directory *directory)
{
    int *fds[] = {&directory->spare_fd, &directory->dir_fd, &directory->lock_fd};

    /* The lock last: with it goes the right to touch anything. */
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        if (*fds[i] >= 0)
            (void)file_close(*fds[i]);
        *fds[i] = -1;
    }
}

/* ---- a spool that goes on where another one ends ---------------------------------------------- */

int spool_copy_make(const char *path, const struct spool_super *like)
{
    struct spool_super super = *like;
    int fd;
    int r = file_open_dir_path(path, &fd);

    if (r == 0)
        (void)file_close(fd);
    if (r != -ENOENT)
        return r == 0 ? -EEXIST : r;
    r = file_make_dir_path(path, 0700);
    if (r == 0)
        r = parent_sync(path);
    if (r == 0)
        r = file_open_dir_path(path, &fd);
    if (r < 0)
        return r;
    /* Above all that was written there: nobody takes it for an older state of the same spool. */
    super.sequence += 2;
    super.newest = super.older = (struct spool_super_checkpoint){0};
    r = super_create(fd, &super);
    (void)file_close(fd); /* synced, or r says why not */
    return r;
}
