#include "storage/maildir.h"

#include "core/assert.h"
#include "core/file.h"
#include "core/hash.h"
#include "storage/maildir_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define LOCK_NAME                                                                                  \
    ".kilat-lock"        /* begins with a dot: no Maildir reader takes it for a folder or mail */
#define UID_BYTES_MAX 70 /* RFC 1939 7 */
#define UID_HASH_SIZE 33 /* 32 hex digits and the NUL */
#define MESSAGES_MAX 1000000u /* about 150 MB of names: beyond it the rest comes after a QUIT */

struct entry {
    char *name; /* owned; a hashed uid stands behind its NUL */
    uint64_t size_bytes;
    uint64_t modified_ns;
    uint16_t base_bytes; /* of the name, before the colon */
    bool hashed;
    bool in_cur;
};

struct mailbox {
    struct maildir_dirs dirs;
    int lock_fd;
    struct entry *entries;
    uint32_t count;
    uint32_t capacity;
    uint32_t skipped;
    bool scanning_cur;
};

static struct slice entry_base(const struct entry *entry)
{
    return slice_of(entry->name, entry->base_bytes);
}

static struct slice entry_uid(const struct entry *entry)
{
    return entry->hashed ? slice_cstr(entry->name + strlen(entry->name) + 1) : entry_base(entry);
}

/* RFC 1939 7: one to 70 characters in the range 0x21 to 0x7E. */
static bool is_uid(struct slice name)
{
    if (name.size == 0 || name.size > UID_BYTES_MAX)
        return false;
    return slice_is_printable(name) && slice_find(name, ' ') == SIZE_MAX;
}

/* The keys are constants, because the uid must be the same after every restart. 128 bits, so that
 * names of other programs do not meet by chance; whoever can choose file names in a mailbox owns it
 * already. */
static void hash_uid(struct slice base, char uid[UID_HASH_SIZE])
{
    static const struct hash_key first = {0x6b696c61742d7569u, 1},
                                 second = {0x6b696c61742d7569u, 2};

    (void)snprintf(uid, UID_HASH_SIZE, "%016" PRIx64 "%016" PRIx64, hash_bytes(&first, base),
                   hash_bytes(&second, base));
}

/* ---- scanning ------------------------------------------------------------------------------ */

static int reserve(struct mailbox *mailbox)
{
    uint32_t capacity = MAX(mailbox->capacity * 2, 64u);
    struct entry *entries;

    if (mailbox->count < mailbox->capacity)
        return 0;
    entries = realloc(mailbox->entries, capacity * sizeof(*entries));
    if (entries == NULL)
        return -ENOMEM;
    mailbox->entries = entries;
    mailbox->capacity = capacity;
    return 0;
}

static int add_entry(struct mailbox *mailbox, const char *name, const struct file_info *info)
{
    struct slice base = maildir_base_name(name);
    size_t name_size = strlen(name) + 1;
    bool hashed = !is_uid(base);
    char *copy;
    int r = reserve(mailbox);

    if (r < 0)
        return r;
    copy = malloc(name_size + (hashed ? UID_HASH_SIZE : 0));
    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, name, name_size);
    if (hashed)
        hash_uid(base, copy + name_size);
    mailbox->entries[mailbox->count++] = (struct entry){
        .name = copy,
        .size_bytes = info->size_bytes,
        .modified_ns = info->modified_ns,
        .base_bytes = (uint16_t)base.size,
        .hashed = hashed,
        .in_cur = mailbox->scanning_cur,
    };
    return 0;
}

static int scan_each(void *context, const char *name)
{
    struct mailbox *mailbox = context;
    struct file_info info;
    int r;

    if (name[0] == '.' || strlen(name) > MAILDIR_NAME_MAX) /* a reader's own files */
        return 0;
    r = file_info_at(mailbox->scanning_cur ? mailbox->dirs.cur_fd : mailbox->dirs.new_fd, name,
                     &info);
    if (r < 0)
        return r == -ENOENT ? 0 : r; /* a reader was faster */
    if (!S_ISREG(info.mode) || mailbox->count == MESSAGES_MAX) {
        mailbox->skipped++;
        return 0;
    }
    return add_entry(mailbox, name, &info);
}

static int by_uid(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    struct slice x = entry_uid(left), y = entry_uid(right);
    int r = memcmp(x.data, y.data, MIN(x.size, y.size));

    if (r == 0 && x.size != y.size)
        r = x.size < y.size ? -1 : 1;
    return r != 0 ? r : (int)right->in_cur - (int)left->in_cur; /* cur first: it was seen later */
}

static int by_age(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;

    if (left->modified_ns != right->modified_ns)
        return left->modified_ns < right->modified_ns ? -1 : 1;
    return by_uid(a, b);
}

/* A message that a reader moved from new/ to cur/ between the two walks was seen twice: the later
 * sight counts. */
static void drop_doubles(struct mailbox *mailbox)
{
    uint32_t kept = 0;

    qsort(mailbox->entries, mailbox->count, sizeof(struct entry), by_uid);
    for (uint32_t i = 0; i < mailbox->count; i++) {
        struct entry *entry = &mailbox->entries[i];

        if (kept > 0 && slice_equal(entry_uid(&mailbox->entries[kept - 1]), entry_uid(entry)))
            free(entry->name);
        else
            mailbox->entries[kept++] = *entry;
    }
    mailbox->count = kept;
}

/* new/ before cur/, since messages move in that direction: none is missed. */
static int scan(struct mailbox *mailbox)
{
    int r = file_list(mailbox->dirs.new_fd, scan_each, mailbox);

    if (r < 0)
        return r;
    mailbox->scanning_cur = true;
    r = file_list(mailbox->dirs.cur_fd, scan_each, mailbox);
    if (r < 0)
        return r;
    if (mailbox->count == 0)
        return 0;
    drop_doubles(mailbox);
    qsort(mailbox->entries, mailbox->count, sizeof(struct entry), by_age);
    return 0;
}

/* ---- opening and closing ------------------------------------------------------------------- */

static int lock(struct mailbox *mailbox)
{
    int r = file_open(mailbox->dirs.account_fd, LOCK_NAME, FILE_READ | FILE_WRITE | FILE_CREATE,
                      0600, &mailbox->lock_fd);

    if (r < 0) {
        mailbox->lock_fd = -1;
        return r;
    }
    /* Each open makes a description of its own, so two sessions of this process exclude each other
     * as well. */
    r = file_lock(mailbox->lock_fd, NULL);
    return r == -EAGAIN ? -EBUSY : r;
}

int mailbox_open(int root_dir_fd, const char *directory, struct mailbox **ret_mailbox)
{
    struct mailbox *mailbox = calloc(1, sizeof(*mailbox));
    int r;

    if (mailbox == NULL)
        return -ENOMEM;
    mailbox->lock_fd = -1;
    r = maildir_dirs_open(root_dir_fd, directory, true, &mailbox->dirs);
    if (r == 0)
        r = lock(mailbox);
    if (r == 0)
        r = scan(mailbox);
    if (r < 0)
        mailbox_close(&mailbox);
    else
        *ret_mailbox = mailbox;
    return r;
}

void mailbox_close(struct mailbox **mailbox)
{
    struct mailbox *m = *mailbox;

    if (m == NULL)
        return;
    for (uint32_t i = 0; i < m->count; i++)
        free(m->entries[i].name);
    free(m->entries);
    /* The file stays: unlinking it would let a third session lock another file of that name. */
    if (m->lock_fd >= 0)
        (void)file_close(m->lock_fd); /* nothing was written; this is what releases the lock */
    maildir_dirs_close(&m->dirs);
    free(m);
    *mailbox = NULL;
}

uint32_t mailbox_count(const struct mailbox *mailbox)
{
    return mailbox->count;
}

uint32_t mailbox_skipped_count(const struct mailbox *mailbox)
{
    return mailbox->skipped;
}

struct mailbox_message mailbox_message(const struct mailbox *mailbox, uint32_t index)
{
    ASSERT(index < mailbox->count);
    return (struct mailbox_message){.size_bytes = mailbox->entries[index].size_bytes,
                                    .uid = entry_uid(&mailbox->entries[index])};
}

/* ---- one message --------------------------------------------------------------------------- */

/* The file was not where it was seen: a reader gave it another flag, or moved it to cur/. Returns 0
 * and its new name in `name` and directory, -ENOENT when it is gone, or -errno. */
static int find_again(const struct mailbox *mailbox, const struct entry *entry, char *name,
                      int *ret_dir_fd)
{
    int r = maildir_find(mailbox->dirs.cur_fd, entry_base(entry), name);

    *ret_dir_fd = mailbox->dirs.cur_fd;
    if (r == 0) {
        r = maildir_find(mailbox->dirs.new_fd, entry_base(entry), name);
        *ret_dir_fd = mailbox->dirs.new_fd;
    }
    return r == 0 ? -ENOENT : MIN(r, 0);
}

/* Looked at before it is opened, because opening a FIFO waits for its writer; and again afterwards.
 */
static int open_regular(int dir_fd, const char *name, int *ret_fd, uint64_t *ret_size_bytes)
{
    struct file_info info;
    int fd, r;

    r = file_info_at(dir_fd, name, &info);
    if (r == 0 && !S_ISREG(info.mode))
        r = -EACCES;
    if (r == 0)
        r = file_open(dir_fd, name, FILE_READ, 0, &fd);
    if (r < 0)
        return r;
    r = file_info(fd, &info);
    if (r == 0 && !S_ISREG(info.mode))
        r = -EACCES;
    if (r < 0) {
        (void)file_close(fd); /* nothing was written */
        return r;
    }
    *ret_fd = fd;
    *ret_size_bytes = info.size_bytes;
    return 0;
}

int mailbox_open_message(struct mailbox *mailbox, uint32_t index, int *ret_fd,
                         uint64_t *ret_size_bytes)
{
    const struct entry *entry;
    char name[MAILDIR_NAME_MAX + 1];
    int dir_fd, r;

    ASSERT(index < mailbox->count);
    entry = &mailbox->entries[index];
    dir_fd = entry->in_cur ? mailbox->dirs.cur_fd : mailbox->dirs.new_fd;
    r = open_regular(dir_fd, entry->name, ret_fd, ret_size_bytes);
    if (r != -ENOENT)
        return r;
    r = find_again(mailbox, entry, name, &dir_fd);
    return r < 0 ? r : open_regular(dir_fd, name, ret_fd, ret_size_bytes);
}

/* ---- deleting ------------------------------------------------------------------------------ */

/* Where a rename is two steps on disk, a power cut leaves a message in tmp/ as well. Deleted here alone, it would be published
 * once more by a recovery that is still walking, since sessions do not wait for that. */
static int delete_leftover(const struct mailbox *mailbox, const struct entry *entry)
{
    char name[MAILDIR_NAME_MAX + 1];
    int r;

    (void)slice_to_cstr(entry_base(entry), name, sizeof(name)); /* fits: it is a part of a name */
    r = file_unlink(mailbox->dirs.tmp_fd, name);
    return r == -ENOENT ? 0 : r;
}

static int delete_entry(const struct mailbox *mailbox, const struct entry *entry)
{
    char name[MAILDIR_NAME_MAX + 1];
    int dir_fd = entry->in_cur ? mailbox->dirs.cur_fd : mailbox->dirs.new_fd;
    int r = delete_leftover(mailbox, entry);

    if (r < 0)
        return r;
    r = file_unlink(dir_fd, entry->name);
    if (r != -ENOENT)
        return r;
    r = find_again(mailbox, entry, name, &dir_fd);
    if (r == 0)
        r = file_unlink(dir_fd, name);
    return r == -ENOENT ? 0 : r;
}

/* tmp/ is synced as well: where a rename is two steps on disk, a message fetched and deleted could
 * otherwise come back there, and recovery would publish it a second time. */
static int sync_dirs(const struct mailbox *mailbox)
{
    int r = file_sync_dir(mailbox->dirs.new_fd);

    if (r == 0)
        r = file_sync_dir(mailbox->dirs.cur_fd);
    return r < 0 ? r : file_sync_dir(mailbox->dirs.tmp_fd);
}

int mailbox_delete(struct mailbox *mailbox, const uint8_t *deleted, uint32_t *ret_deleted_count)
{
    uint32_t count = 0;
    int first_error = 0, r;

    *ret_deleted_count = 0;
    for (uint32_t i = 0; i < mailbox->count; i++) {
        if (!(deleted[i / 8] & 1u << i % 8))
            continue;
        r = delete_entry(mailbox, &mailbox->entries[i]);
        if (r == 0)
            count++;
        else if (first_error == 0)
            first_error = r;
    }
    if (count > 0) {
        r = sync_dirs(mailbox);
        if (r < 0)
            return r;
    }
    *ret_deleted_count = count;
    return first_error;
}
