#include "storage/maildir.h"

#include "core/assert.h"
#include "core/file.h"
#include "storage/maildir_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

/* One name from tmp/ to the user's eyes: "<id, 16 hex digits>.<unit>.<spool uuid, 32 hex digits>".
 * It is made of nothing but what the log knows, so that publishing and recovery need no memory of
 * their own, and it is unique for ever because ids are (QUEUE I23). Sorting by name is sorting by
 * age. */
#define ID_DIGITS 16
#define UUID_DIGITS 32
#define NAME_SIZE (ID_DIGITS + 1 + 10 + 1 + UUID_DIGITS + 1)
static_assert(NAME_SIZE - 1 <= 70, "the name is the UIDL as well (RFC 1939 7)");

static void name_of(const struct maildir_item *item, char name[NAME_SIZE])
{
    int at =
        snprintf(name, NAME_SIZE, "%0*" PRIx64 ".%" PRIu32 ".", ID_DIGITS, item->id, item->unit);

    for (size_t i = 0; i < sizeof(item->spool_uuid); i++)
        at += snprintf(name + at, NAME_SIZE - (size_t)at, "%02x", item->spool_uuid[i]);
}

static bool hex_value(struct slice digits, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (size_t i = 0; i < digits.size; i++) {
        uint8_t c = digits.data[i];

        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *ret_value = value;
    return true;
}

/* Exactly a name that name_of() makes, or false: other programs write to tmp/ too, and their files
 * are theirs. */
static bool name_parse(const char *name, struct maildir_item *ret_item)
{
    struct slice rest = slice_cstr(name);
    struct slice id = slice_split(&rest, '.');
    struct slice unit = slice_split(&rest, '.');
    char again[NAME_SIZE];
    uint64_t value;

    if (id.size != ID_DIGITS || !hex_value(id, &ret_item->id))
        return false;
    if (!slice_parse_u64(unit, UINT32_MAX, &value) || rest.size != UUID_DIGITS)
        return false;
    ret_item->unit = (uint32_t)value;
    for (size_t i = 0; i < sizeof(ret_item->spool_uuid); i++) {
        if (!hex_value(slice_first(slice_skip(rest, 2 * i), 2), &value))
            return false;
        ret_item->spool_uuid[i] = (uint8_t)value;
    }
    name_of(ret_item, again);
    return strcmp(again, name) == 0; /* a unit has one spelling, without leading zeros */
}

/* ---- directories --------------------------------------------------------------------------- */

/* Opens `name` below, after making it where it is missing and that is wanted. */
static int open_dir(int dir_fd, const char *name, bool make, int *ret_dir_fd)
{
    int r = file_open_dir(dir_fd, name, ret_dir_fd);

    if (r != -ENOENT || !make)
        return r;
    r = file_make_dir(dir_fd, name, 0700);
    if (r < 0 && r != -EEXIST) /* another job made it meanwhile */
        return r;
    return file_open_dir(dir_fd, name, ret_dir_fd);
}

static int open_account(int root_dir_fd, const char *directory, bool make, int *ret_dir_fd)
{
    struct slice rest = slice_cstr(directory);
    struct slice first = slice_split(&rest, '/');
    char name[MAILDIR_NAME_MAX + 1];
    int domain_fd, r;

    if (first.size == 0 || first.data[0] == '.' || !slice_to_cstr(first, name, sizeof(name)))
        return -EINVAL;
    if (first.size == strlen(directory))
        return open_dir(root_dir_fd, name, make, ret_dir_fd);
    if (rest.size == 0 || rest.data[0] == '.' || slice_find(rest, '/') != SIZE_MAX)
        return -EINVAL;
    r = open_dir(root_dir_fd, name, make, &domain_fd);
    if (r < 0)
        return r;
    r = slice_to_cstr(rest, name, sizeof(name)) ? open_dir(domain_fd, name, make, ret_dir_fd)
                                                : -EINVAL;
    (void)file_close(domain_fd); /* nothing was written through it */
    return r;
}

int maildir_dirs_open(int root_dir_fd, const char *directory, bool make,
                      struct maildir_dirs *ret_dirs)
{
    int r;

    *ret_dirs = (struct maildir_dirs){-1, -1, -1, -1};
    r = open_account(root_dir_fd, directory, make, &ret_dirs->account_fd);
    if (r == 0)
        r = open_dir(ret_dirs->account_fd, "tmp", make, &ret_dirs->tmp_fd);
    if (r == 0)
        r = open_dir(ret_dirs->account_fd, "cur", make, &ret_dirs->cur_fd);
    if (r == 0)
        r = open_dir(ret_dirs->account_fd, "new", make, &ret_dirs->new_fd);
    if (r < 0)
        maildir_dirs_close(ret_dirs);
    return r;
}

static void close_dir(int *fd)
{
    if (*fd >= 0)
        (void)file_close(*fd); /* a directory: nothing was written through it */
    *fd = -1;
}

void maildir_dirs_close(struct maildir_dirs *dirs)
{
    close_dir(&dirs->new_fd);
    close_dir(&dirs->cur_fd);
    close_dir(&dirs->tmp_fd);
    close_dir(&dirs->account_fd);
}

struct slice maildir_base_name(const char *name)
{
    struct slice whole = slice_cstr(name);

    return slice_first(whole, slice_find(whole, ':'));
}

struct find {
    struct slice base;
    char *name;
};

static int find_each(void *context, const char *name)
{
    struct find *find = context;

    if (!slice_equal(maildir_base_name(name), find->base))
        return 0;
    return slice_to_cstr(slice_cstr(name), find->name, MAILDIR_NAME_MAX + 1) ? 1 : 0;
}

int maildir_find(int dir_fd, struct slice base, char *ret_name)
{
    struct find find = {base, ret_name};

    return file_list(dir_fd, find_each, &find);
}

/* ---- step 1: written and durable ----------------------------------------------------------- */

/* ext4 and XFS (and tmpfs, which promises nothing) make everything durable in one syncfs: content,
 * the names in tmp/, directories just made. Of others we do not know it: FUSE before Linux 5.x, for
 * one, does nothing there. */
static bool one_sync_does(int root_dir_fd)
{
    struct file_system_info info;

    return file_system_info(root_dir_fd, &info) == 0 && info.kind != FILE_SYSTEM_OTHER;
}

static int write_pieces(int fd, const struct maildir_item *item)
{
    uint64_t offset = 0;

    for (uint32_t i = 0; i < item->piece_count; i++) {
        const struct iovec *piece = &item->pieces[i];
        int r = file_write_all(fd, slice_of(piece->iov_base, piece->iov_len), offset);

        if (r < 0)
            return r;
        offset += piece->iov_len;
    }
    return 0;
}

/* A file of that name is a try of ours that ended before its DONE. It is made anew rather than
 * opened: what lies there may be a FIFO or a second name of somebody's file by now. */
static int create_anew(int tmp_fd, const char *name, int *ret_fd)
{
    const uint32_t flags = FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE;
    int r = file_open(tmp_fd, name, flags, 0600, ret_fd);

    if (r != -EEXIST)
        return r;
    r = file_unlink(tmp_fd, name);
    return r < 0 ? r : file_open(tmp_fd, name, flags, 0600, ret_fd);
}

/* Each directory that the way from the root to the file leads through. */
static int sync_way(int root_dir_fd, const struct maildir_item *item,
                    const struct maildir_dirs *dirs)
{
    struct slice rest = slice_cstr(item->directory);
    struct slice first = slice_split(&rest, '/');
    char domain[MAILDIR_NAME_MAX + 1];
    int domain_fd, r;

    r = file_sync_dir(dirs->tmp_fd);
    if (r == 0)
        r = file_sync_dir(dirs->account_fd);
    if (r == 0 && first.size < strlen(item->directory)) {
        (void)slice_to_cstr(first, domain,
                            sizeof(domain)); /* fits: maildir_dirs_open() has used it */
        r = file_open_dir(root_dir_fd, domain, &domain_fd);
        if (r == 0) {
            r = file_sync_dir(domain_fd);
            (void)file_close(domain_fd); /* nothing was written through it */
        }
    }
    return r < 0 ? r : file_sync_dir(root_dir_fd);
}

static int write_item(int root_dir_fd, const struct maildir_item *item, bool sync_each)
{
    struct maildir_dirs dirs;
    char name[NAME_SIZE];
    int fd, r, closed;

    r = maildir_dirs_open(root_dir_fd, item->directory, true, &dirs);
    if (r < 0)
        return r;
    name_of(item, name);
    r = create_anew(dirs.tmp_fd, name, &fd);
    if (r == 0) {
        r = write_pieces(fd, item);
        if (r == 0 && sync_each)
            r = file_sync(fd);
        closed = file_close(fd); /* NFS tells of a full disk here */
        r = r < 0 ? r : closed;
        if (r == 0 && sync_each)
            r = sync_way(root_dir_fd, item, &dirs);
        if (r < 0)
            (void)file_unlink(dirs.tmp_fd,
                              name); /* best effort: the unit waits, so recovery removes it */
    }
    maildir_dirs_close(&dirs);
    return r;
}

static int unlink_item(int root_dir_fd, const struct maildir_item *item)
{
    struct maildir_dirs dirs;
    char name[NAME_SIZE];
    int r = maildir_dirs_open(root_dir_fd, item->directory, false, &dirs);

    if (r < 0)
        return r == -ENOENT ? 0 : r;
    name_of(item, name);
    r = file_unlink(dirs.tmp_fd, name);
    maildir_dirs_close(&dirs);
    return r == -ENOENT ? 0 : r;
}

/* A failed sync says nothing of whose bytes were lost, so nobody's are trusted. */
static void fail_all(int root_dir_fd, struct maildir_item *items, size_t count, int error)
{
    for (size_t i = 0; i < count; i++) {
        if (items[i].result < 0)
            continue;
        items[i].result = error;
        (void)unlink_item(root_dir_fd,
                          &items[i]); /* best effort: the unit waits, so recovery removes it */
    }
}

int maildir_batch_write(int root_dir_fd, struct maildir_item *items, size_t count)
{
    bool sync_each = !one_sync_does(root_dir_fd);
    size_t written = 0;
    int sync_fd, first_error = 0, r;

    /* A description of its own, opened before the first write: the kernel tells each description
     * once of an error since its opening, so no other job can consume ours (DESIGN 6). */
    r = file_open_dir(root_dir_fd, ".", &sync_fd);
    for (size_t i = 0; i < count; i++) {
        items[i].result = r < 0 ? r : write_item(root_dir_fd, &items[i], sync_each);
        if (items[i].result == 0)
            written++;
        else if (first_error == 0)
            first_error = items[i].result;
    }
    if (r < 0)
        return r;
    if (written > 0 && !sync_each) {
        r = file_sync_file_system(sync_fd);
        if (r < 0)
            fail_all(root_dir_fd, items, count, r);
    }
    (void)file_close(sync_fd); /* nothing was written through it */
    if (r < 0)
        return r;
    return written > 0 || count == 0 ? 0 : first_error;
}

/* ---- step 1 for a big one ------------------------------------------------------------------- */

void maildir_file_abort(int root_dir_fd, const struct maildir_item *item, struct maildir_file *file)
{
    if (file->fd < 0)
        return;
    (void)file_close(file->fd); /* what it could tell us no longer matters */
    file->fd = -1;
    (void)unlink_item(root_dir_fd, item); /* best effort: the unit waits, so recovery removes it */
}

int maildir_file_begin(int root_dir_fd, const struct maildir_item *item, struct maildir_file *file)
{
    struct maildir_dirs dirs;
    char name[NAME_SIZE];
    int r;

    *file = (struct maildir_file){.fd = -1};
    r = maildir_dirs_open(root_dir_fd, item->directory, true, &dirs);
    if (r < 0)
        return r;
    name_of(item, name);
    r = create_anew(dirs.tmp_fd, name, &file->fd);
    maildir_dirs_close(&dirs);
    return r;
}

int maildir_file_append(int root_dir_fd, const struct maildir_item *item, struct maildir_file *file,
                        struct slice bytes)
{
    int r = file_write_all(file->fd, bytes, file->bytes);

    file->bytes += bytes.size;
    if (r < 0)
        maildir_file_abort(root_dir_fd, item, file);
    return r;
}

int maildir_file_end(int root_dir_fd, const struct maildir_item *item, struct maildir_file *file)
{
    struct maildir_dirs dirs;
    int closed, r;

    r = file_sync(file->fd);
    if (r == 0)
        r = maildir_dirs_open(root_dir_fd, item->directory, false, &dirs);
    if (r == 0) {
        r = sync_way(root_dir_fd, item, &dirs);
        maildir_dirs_close(&dirs);
    }
    if (r < 0) {
        maildir_file_abort(root_dir_fd, item, file);
        return r;
    }
    closed = file_close(file->fd);
    file->fd = -1;
    if (closed < 0)
        (void)unlink_item(root_dir_fd, item); /* as above */
    return closed;
}

int maildir_batch_unlink(int root_dir_fd, struct maildir_item *items, size_t count)
{
    int first_error = 0;

    for (size_t i = 0; i < count; i++) {
        items[i].result = unlink_item(root_dir_fd, &items[i]);
        if (items[i].result < 0 && first_error == 0)
            first_error = items[i].result;
    }
    return first_error;
}

/* ---- step 3: visible ----------------------------------------------------------------------- */

/* 1 when the message was published before: it stands where users see it. */
static int stands_published(const struct maildir_dirs *dirs, const char *name)
{
    char found[MAILDIR_NAME_MAX + 1];
    struct file_info info;
    int r = file_info_at(dirs->new_fd, name, &info);

    if (r == 0)
        return 1;
    return r == -ENOENT ? maildir_find(dirs->cur_fd, slice_cstr(name), found) : r;
}

static int publish_item(int root_dir_fd, const struct maildir_item *item)
{
    struct maildir_dirs dirs;
    char name[NAME_SIZE];
    int r = maildir_dirs_open(root_dir_fd, item->directory, false, &dirs);

    if (r < 0)
        return r;
    name_of(item, name);
    r = file_rename(dirs.tmp_fd, name, dirs.new_fd, name);
    if (r == -ENOENT) {
        r = stands_published(&dirs, name);
        r = r == 0 ? -ENOENT : MIN(r, 0);
    }
    maildir_dirs_close(&dirs);
    return r;
}

int maildir_batch_publish(int root_dir_fd, struct maildir_item *items, size_t count)
{
    size_t published = 0;
    int first_error = 0;

    for (size_t i = 0; i < count; i++) {
        if (items[i].result < 0)
            continue;
        items[i].result = publish_item(root_dir_fd, &items[i]);
        if (items[i].result == 0)
            published++;
        else if (first_error == 0)
            first_error = items[i].result;
    }
    return published > 0 ? 0 : first_error;
}

/* ---- recovery ------------------------------------------------------------------------------ */

struct recovery {
    const uint8_t *spool_uuid;
    maildir_fate_fn *fate;
    void *context;
    int level_fd;                    /* the directory whose names are being walked */
    const struct maildir_dirs *dirs; /* while a tmp/ is walked */
    int published;
    int first_error; /* one broken account keeps nobody else's mail back */
};

static void remember(struct recovery *recovery, int r)
{
    if (r < 0 && recovery->first_error == 0)
        recovery->first_error = r;
}

/* What waits will be delivered again, under the same name, from the queue; the rest is DONE durably
 * and lacks only its rename. Should a file system that renames in two steps show it in both places,
 * the user's place wins. */
static int settle(struct recovery *recovery, const char *name, const struct maildir_item *item)
{
    const struct maildir_dirs *dirs = recovery->dirs;
    enum maildir_fate fate = recovery->fate(recovery->context, item->id, item->unit);
    int r;

    if (fate == MAILDIR_LEAVE)
        return 0;
    if (fate == MAILDIR_REMOVE)
        return file_unlink(dirs->tmp_fd, name);
    r = stands_published(dirs, name);
    if (r != 0)
        return r < 0 ? r : file_unlink(dirs->tmp_fd, name);
    r = file_rename(dirs->tmp_fd, name, dirs->new_fd, name);
    if (r == 0)
        recovery->published++;
    return r;
}

static int recover_file(void *context, const char *name)
{
    struct recovery *recovery = context;
    struct maildir_item item = {.directory = NULL};
    struct file_info info;
    int r;

    if (!name_parse(name, &item) ||
        memcmp(item.spool_uuid, recovery->spool_uuid, sizeof(item.spool_uuid)) != 0)
        return 0;
    r = file_info_at(recovery->dirs->tmp_fd, name, &info);
    if (r == 0 && S_ISREG(info.mode)) /* anything else is not of our making */
        r = settle(recovery, name, &item);
    if (r != -ENOENT)
        remember(recovery, r);
    return 0;
}

/* What is no directory, or a link to one, or has no tmp/, is no account. */
static bool is_absent(int r)
{
    return r == -ENOENT || r == -ENOTDIR || r == -ELOOP;
}

static bool has_tmp(struct recovery *recovery, const char *name)
{
    int account_fd, tmp_fd, r;

    r = file_open_dir(recovery->level_fd, name, &account_fd);
    if (r == 0) {
        r = file_open_dir(account_fd, "tmp", &tmp_fd);
        (void)file_close(account_fd); /* nothing was written through it */
    }
    if (r == 0)
        (void)file_close(tmp_fd); /* nor through this */
    if (!is_absent(r))
        remember(recovery, r);
    return r == 0;
}

static int recover_account(void *context, const char *name)
{
    struct recovery *recovery = context;
    struct maildir_dirs dirs;
    int r;

    if (name[0] == '.' || !has_tmp(recovery, name)) /* a reader's folders begin with a dot */
        return 0;
    r = maildir_dirs_open(recovery->level_fd, name, true, &dirs); /* a crash may leave tmp/ alone */
    if (r == 0) {
        recovery->dirs = &dirs;
        r = file_list(dirs.tmp_fd, recover_file, recovery);
        recovery->dirs = NULL;
        maildir_dirs_close(&dirs);
    }
    remember(recovery, r);
    return 0;
}

/* A directory of the root is an account ("penulis"), or a domain that holds some; a user may even
 * be called "tmp", so both are looked at. */
static int recover_top(void *context, const char *name)
{
    struct recovery *recovery = context;
    int root_dir_fd = recovery->level_fd, domain_fd, r;

    (void)recover_account(recovery, name); /* it remembers its error itself */
    r = file_open_dir(root_dir_fd, name, &domain_fd);
    if (is_absent(r))
        return 0;
    if (r == 0) {
        recovery->level_fd = domain_fd;
        r = file_list(domain_fd, recover_account, recovery);
        recovery->level_fd = root_dir_fd;
        (void)file_close(domain_fd); /* nothing was written through it */
    }
    remember(recovery, r);
    return 0;
}

int maildir_recover(int root_dir_fd, const uint8_t spool_uuid[16], maildir_fate_fn *fate,
                    void *context)
{
    struct recovery recovery = {
        .spool_uuid = spool_uuid, .fate = fate, .context = context, .level_fd = root_dir_fd};

    remember(&recovery, file_list(root_dir_fd, recover_top, &recovery));
    ASSERT(recovery.level_fd == root_dir_fd);
    return recovery.first_error < 0 ? recovery.first_error : recovery.published;
}
