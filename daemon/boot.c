/* What happens before the shards run: directories, listeners, and becoming somebody without rights. */
#include "daemon/kilatd_private.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/assert.h"
#include "core/file.h"

#define BOOT_BACKLOG 1024

/* ---- listeners ---------------------------------------------------------------------------------- */

static int boot_listen_list(struct kilatd *kilatd, const struct setting_list *list,
                            enum listener_kind kind, struct buf *error)
{
    for (size_t i = 0; i < list->count; i++) {
        struct netaddr address;
        uint32_t at = kilatd->listen_count;
        if (at == KILATD_LISTENERS_MAX) {
            buf_printf(error, "more than %d listeners", KILATD_LISTENERS_MAX);
            return -E2BIG;
        }
        if (!netaddr_parse(slice_cstr(list->items[i]), 0, &address))
            ASSERT(false); /* the table's check has seen it */
        kilatd->listen_kinds[at] = kind;
        for (uint32_t shard = 0; shard < kilatd->shard_count; shard++) {
            int r = ring_listen(&address, BOOT_BACKLOG, 0, &kilatd->listen_fds[shard][at]);
            if (r < 0) {
                buf_printf(error, "cannot listen on %s: %s%s", list->items[i], strerror(-r),
                           r == -EACCES ? " (ports below 1024 need root or CAP_NET_BIND_SERVICE)"
                                        : "");
                return r;
            }
        }
        kilatd->listen_count++;
    }
    return 0;
}

int boot_listen(struct kilatd *kilatd, struct buf *error)
{
    const struct settings *settings = &kilatd->generation->settings;
    int r = boot_listen_list(kilatd, &settings->smtp_listen, LISTENER_SMTP, error);

    if (r == 0)
        r = boot_listen_list(kilatd, &settings->smtp_listen_cached, LISTENER_SMTP_CACHED, error);
    if (r == 0)
        r = boot_listen_list(kilatd, &settings->pop3_listen, LISTENER_POP3, error);
    return r;
}

void boot_close_listeners(struct kilatd *kilatd)
{
    for (uint32_t shard = 0; shard < KILATD_SHARDS_MAX; shard++)
        for (uint32_t i = 0; i < KILATD_LISTENERS_MAX; i++)
            if (kilatd->listen_fds[shard][i] >= 0) {
                ring_close(kilatd->listen_fds[shard][i]);
                kilatd->listen_fds[shard][i] = -1;
            }
}

/* ---- who we become -------------------------------------------------------------------------------- */

struct boot_user {
    uid_t uid;
    gid_t gid;
    char name[64]; /* empty for a number without an entry */
};

/* "kilat", "kilat:mail", "1001", "1001:1001": a numeric uid will do without an entry in passwd. */
static int boot_find_user(const char *text, struct boot_user *user, struct buf *error)
{
    struct slice rest = slice_cstr(text);
    struct slice name = slice_split(&rest, ':');
    const struct passwd *entry;
    const struct group *group;
    uint64_t number;
    char group_name[64];

    *user = (struct boot_user){0};
    if (!slice_to_cstr(name, user->name, sizeof(user->name)) || name.size == 0) {
        buf_printf(error, "user: expected a name or a number, got \"%s\"", text);
        return -EINVAL;
    }
    if (slice_parse_u64(name, UINT32_MAX - 1, &number)) {
        entry = getpwuid((uid_t)number);
        user->uid = (uid_t)number;
        user->gid = entry == NULL ? (gid_t)number : entry->pw_gid;
        user->name[0] = 0;
    } else {
        entry = getpwnam(user->name);
        if (entry == NULL) {
            buf_printf(error,
                       "user: there is no user \"%s\" on this host (adduser --system --group %s)",
                       user->name, user->name);
            return -ENOENT;
        }
        user->uid = entry->pw_uid;
        user->gid = entry->pw_gid;
    }
    if (rest.size > 0 && slice_parse_u64(rest, UINT32_MAX - 1, &number)) {
        user->gid = (gid_t)number;
    } else if (rest.size > 0) {
        group = slice_to_cstr(rest, group_name, sizeof(group_name)) ? getgrnam(group_name) : NULL;
        if (group == NULL) {
            buf_printf(error, "user: there is no group \"%.*s\" on this host", SLICE_ARG(rest));
            return -ENOENT;
        }
        user->gid = group->gr_gid;
    }
    if (user->uid == 0) {
        buf_append_cstr(error, "user: the server does not run as root; name another user");
        return -EPERM;
    }
    return 0;
}

int boot_become_user(const struct kilatd *kilatd, struct buf *error)
{
    struct boot_user user;
    int r;

    if (geteuid() == 0) {
        r = boot_find_user(kilatd->generation->settings.user, &user, error);
        if (r < 0)
            return r;
        if (setgroups(0, NULL) < 0 || setresgid(user.gid, user.gid, user.gid) < 0 ||
            setresuid(user.uid, user.uid, user.uid) < 0) {
            r = -errno;
            buf_printf(error, "cannot become user %u: %s", (unsigned)user.uid, strerror(-r));
            return r;
        }
        ASSERT(setuid(0) < 0); /* there is no way back */
    }
    /* No exec of ours or of an intruder's gains rights from here on. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        r = -errno;
        buf_printf(error, "no_new_privs cannot be set: %s", strerror(-r));
        return r;
    }
    return 0;
}

/* ---- directories ------------------------------------------------------------------------------------ */

/* The name of a directory is as durable as its parent's sync, and whoever made it may have been killed before that. A
 * parent that we may not read is not one in which we have made a name. */
static int boot_sync_parent(const char *path)
{
    struct slice parent = slice_of(path, slice_find_last(slice_cstr(path), '/'));
    char text[4096];
    int fd, r;

    if (!slice_to_cstr(parent.size == 0 ? SLICE("/") : parent, text, sizeof(text)))
        return -ENAMETOOLONG;
    r = file_open_dir_path(text, &fd);
    if (r < 0)
        return r == -EACCES ? 0 : r;
    r = file_sync_dir(fd);
    (void)file_close(fd);
    return r;
}

/* An empty directory of root's was made for us; anything else that is not ours is somebody's. */
static int boot_see_name(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "lost+found") != 0;
}

static int boot_directory_owner(const char *path, int fd, const struct boot_user *owner,
                                struct buf *error)
{
    uint32_t uid = owner == NULL ? geteuid() : owner->uid;
    struct file_info info;
    int r = file_info(fd, &info);

    if (r < 0 || info.uid == uid)
        return r;
    if (owner != NULL && info.uid == 0 && file_list(fd, boot_see_name, NULL) == 0)
        return file_set_owner(fd, owner->uid, owner->gid);
    buf_printf(error,
               "%s: belongs to user %u, and the server is user %u (chown -R %u %s); nothing was "
               "changed",
               path, info.uid, uid, uid, path);
    return -EPERM;
}

static int boot_directory(const char *path, const struct boot_user *owner, struct buf *error)
{
    int fd = -1, r;

    r = file_make_dir_path(path, 0700);
    if (r == 0)
        r = file_open_dir_path(path, &fd);
    if (r == 0)
        r = boot_directory_owner(path, fd, owner, error);
    if (r == 0)
        r = boot_sync_parent(path);
    if (fd >= 0)
        (void)file_close(fd);
    if (r == -ENOENT)
        buf_printf(error, "%s: the directory it should be in does not exist (mkdir -p)", path);
    else if (r < 0 && error->size == 0)
        buf_printf(error, "%s: cannot be made or used: %s", path, strerror(-r));
    return r;
}

/* One server per spool directory, known before anything is listened on: a second one would otherwise take
 * some of the first one's connections until it meets the lock of a spool. */
static int boot_lock(struct kilatd *kilatd, const struct boot_user *owner, struct buf *error)
{
    const char *path = kilatd->generation->settings.spool_directory;
    char text[16] = "";
    int32_t pid;
    int dir_fd, r;

    r = file_open_dir_path(path, &dir_fd);
    if (r < 0)
        return r;
    r = file_open(dir_fd, "LOCK", FILE_READ | FILE_WRITE | FILE_CREATE, 0600, &kilatd->lock_fd);
    (void)file_close(dir_fd); /* nothing was written through it */
    if (r == 0)
        r = file_lock(kilatd->lock_fd, &pid);
    if (r == -EAGAIN) {
        (void)file_read_some(kilatd->lock_fd, text, sizeof(text) - 1,
                             0); /* for the sentence only */
        buf_printf(error, "%s: is in use by process %s", path, text);
        return r;
    }
    if (r == 0 && owner != NULL)
        r = file_set_owner(kilatd->lock_fd, owner->uid, owner->gid);
    if (r == 0)
        r = file_truncate(kilatd->lock_fd, 0);
    if (r == 0) {
        int size = snprintf(text, sizeof(text), "%d", (int)getpid());
        r = file_write_all(kilatd->lock_fd, slice_of(text, (size_t)size), 0);
    }
    if (r < 0)
        buf_printf(error, "%s/LOCK: cannot be made or locked: %s", path, strerror(-r));
    return r;
}

int boot_directories(struct kilatd *kilatd, struct buf *error)
{
    const struct settings *settings = &kilatd->generation->settings;
    struct boot_user user, *owner = NULL;
    int r = 0;

    if (geteuid() == 0) {
        r = boot_find_user(settings->user, &user, error);
        owner = &user;
    }
    if (r == 0)
        r = boot_directory(settings->spool_directory, owner, error);
    if (r == 0)
        r = boot_lock(kilatd, owner, error);
    if (r == 0)
        r = boot_spools(kilatd, owner == NULL ? geteuid() : owner->uid, error);
    if (r == 0)
        r = boot_directory(settings->mail_directory, owner, error);
    return r;
}
