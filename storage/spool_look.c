#include "storage/spool_look.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/file.h"
#include "storage/spool_private.h"

#define LOOK_PATH_SIZE 4096

struct look {
    const char *path;
    int dir_fd;
    uint32_t number, owner_uid;
    bool has_super;
    struct spool_super super;
    struct spool_look *found;
    struct buf *error;
};

static int look_refuse(struct look *look, int error, const char *what, const char *format, ...)
    KILAT_PRINTF(4, 5);

static int look_refuse(struct look *look, int error, const char *what, const char *format, ...)
{
    va_list args;

    buf_printf(look->error, "%s%s%s: ", look->path, what[0] == 0 ? "" : "/", what);
    va_start(args, format);
    buf_vprintf(look->error, format, args);
    va_end(args);
    buf_append_cstr(look->error, "; nothing was changed");
    return error;
}

/* ---- whose it is ------------------------------------------------------------------------------- */

static int look_rights(struct look *look, const char *name, const struct file_info *info,
                       uint32_t needed)
{
    if (info->uid != look->owner_uid)
        return look_refuse(look, -EPERM, name,
                           "belongs to user %u, and the server is user %u (chown -R %u %s)",
                           info->uid, look->owner_uid, look->owner_uid, look->path);
    if ((info->mode & needed) != needed)
        return look_refuse(look, -EACCES, name,
                           "has mode %04o, which keeps its own user out (chmod u+rw%s)",
                           info->mode & 07777, needed == 0700 ? "x" : "");
    return 0;
}

static bool look_is_segment(const char *name, char *ret_stream)
{
    uint32_t number;

    for (const char *stream = "DRJ"; *stream != 0; stream++)
        if (spool_segment_name_parse(name, *stream, &number)) {
            *ret_stream = *stream;
            return true;
        }
    return false;
}

static int look_directory(struct look *look)
{
    struct file_info info;
    int r = file_open_dir_path(look->path, &look->dir_fd);

    if (r == -ENOENT)
        return 0;
    if (r == -ENOTDIR)
        return look_refuse(look, r, "", "is no directory");
    if (r == 0)
        r = file_info(look->dir_fd, &info);
    if (r == 0)
        return look_rights(look, "", &info, 0700);
    return look_refuse(look, r, "", "cannot be opened: %s", strerror(-r));
}

/* ---- whether it is whole ------------------------------------------------------------------------- */

/* A header that cannot be read is damage, and not for us to judge. */
static int look_segment(struct look *look, const char *name, char stream)
{
    uint8_t block[SPOOL_BLOCK_BYTES];
    struct spool_segment_header header;
    int fd, r = file_open(look->dir_fd, name, FILE_READ, 0, &fd);

    if (r < 0)
        return look_refuse(look, r, name, "cannot be opened: %s", strerror(-r));
    r = file_read_all(fd, block, sizeof(block), 0);
    (void)file_close(fd); /* nothing was written */
    if (r < 0 || !spool_segment_header_decode(block, &header))
        return 0;
    if (spool_features_check(&header.features) != SPOOL_FORMAT_KNOWN)
        return look_refuse(look, -EPROTONOSUPPORT, name,
                           "was written by a newer program (format %u.%u, incompat 0x%x, ro_compat "
                           "0x%x); use that one",
                           header.features.major, header.features.minor, header.features.incompat,
                           header.features.ro_compat);
    if (header.stream != stream || memcmp(header.uuid, look->super.uuid, SPOOL_UUID_BYTES) != 0)
        return look_refuse(look, -EBADMSG, name,
                           "belongs to another spool than SUPER beside it: two copies were mixed");
    return 0;
}

static int look_name(void *context, const char *name)
{
    struct look *look = context;
    struct file_info info;
    char stream = 0;
    bool spare, segment = look_is_segment(name, &stream);
    int r;

    spare = strcmp(name, "spare") == 0;
    if (!segment && !spare && strcmp(name, "SUPER") != 0 && strcmp(name, "LOCK") != 0)
        return 0;
    r = file_info_at(look->dir_fd, name, &info);
    if (r == -ENOENT)
        return 0; /* gone meanwhile */
    if (r < 0)
        return look_refuse(look, r, name, "cannot be looked at: %s", strerror(-r));
    if (spare ? !S_ISDIR(info.mode) : !S_ISREG(info.mode))
        return look_refuse(look, -EINVAL, name, "is no %s", spare ? "directory" : "regular file");
    r = look_rights(look, name, &info, spare ? 0700 : 0600);
    if (r < 0 || !segment)
        return r;
    look->found->segments++;
    if (!look->has_super)
        return look_refuse(
            look, -EBADMSG, "",
            "has segments but no SUPER: a copy that is not whole, copy it again (or kilatctl "
            "spool export)");
    return look_segment(look, name, stream);
}

static int look_format(struct look *look)
{
    const struct spool_features *features = &look->super.features;

    if (spool_features_check(features) != SPOOL_FORMAT_KNOWN)
        return look_refuse(look, -EPROTONOSUPPORT, "",
                           "was written by a newer program (format %u.%u, incompat 0x%x, ro_compat "
                           "0x%x; this one knows %u.%u); use that one",
                           features->major, features->minor, features->incompat,
                           features->ro_compat, SPOOL_MAJOR, SPOOL_MINOR);
    if (look->super.number != look->number)
        return look_refuse(look, -EINVAL, "", "is spool number %u, and its name says %u",
                           look->super.number, look->number);
    return 0;
}

/* Both slots are written in turn, so after a first start both are there. */
static bool look_slot_damaged(const struct look *look)
{
    uint8_t slots[2 * SPOOL_BLOCK_BYTES];
    struct spool_super slot;
    bool damaged = false;
    int fd, r = file_open(look->dir_fd, "SUPER", FILE_READ, 0, &fd);

    if (r == 0) {
        r = file_read_all(fd, slots, sizeof(slots), 0);
        (void)file_close(fd); /* nothing was written */
    }
    for (int i = 0; i < 2 && r == 0; i++)
        damaged |= !spool_super_decode(slots + (size_t)i * SPOOL_BLOCK_BYTES, &slot);
    return damaged;
}

static int look_super(struct look *look)
{
    int r = spool_super_read(look->dir_fd, &look->super);

    if (r == -ENOENT)
        return 0;
    if (r == -EBADMSG)
        return look_refuse(look, r, "SUPER",
                           "cannot be read, neither of its slots is whole: damaged, or a copy that "
                           "is not whole");
    if (r < 0)
        return look_refuse(look, r, "SUPER", "cannot be read: %s", strerror(-r));
    look->has_super = true;
    look->found->exists = true;
    memcpy(look->found->uuid, look->super.uuid, SPOOL_UUID_BYTES);
    look->found->epoch = look->super.epoch;
    look->found->sequence = look->super.sequence;
    look->found->slot_damaged = look_slot_damaged(look);
    return look_format(look);
}

int spool_look(const char *path, uint32_t number, uint32_t owner_uid, struct spool_look *ret_look,
               struct buf *error)
{
    struct look look = {.path = path,
                        .dir_fd = -1,
                        .number = number,
                        .owner_uid = owner_uid,
                        .found = ret_look,
                        .error = error};
    int r;

    *ret_look = (struct spool_look){0};
    r = look_directory(&look);
    if (r == 0 && look.dir_fd >= 0)
        r = look_super(&look);
    if (r == 0 && look.dir_fd >= 0)
        r = file_list(look.dir_fd, look_name, &look);
    if (look.dir_fd >= 0)
        (void)file_close(look.dir_fd);
    if (r < 0 && error->size == 0)
        buf_printf(error, "%s: cannot be looked through: %s", path, strerror(-r));
    return r;
}
