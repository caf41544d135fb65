#include "cli/spool_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"

#define PID_TEXT_SIZE 16

/* Locks DIR/LOCK, when there is one. -1 in `*ret_fd` when there is none: nobody has used it yet. */
static bool lock_one(const char *dir, int *ret_fd)
{
    char text[PID_TEXT_SIZE] = "";
    int dir_fd, r;

    *ret_fd = -1;
    r = file_open_dir_path(dir, &dir_fd);
    if (r == 0) {
        r = file_open(dir_fd, "LOCK", FILE_READ | FILE_WRITE, 0, ret_fd);
        (void)file_close(dir_fd); /* nothing was written through it */
        if (r == -ENOENT)
            return true;
    }
    if (r == 0)
        r = file_lock(*ret_fd, NULL);
    if (r == 0)
        return true;
    if (r == -EAGAIN) {
        ssize_t got =
            file_read_some(*ret_fd, text, sizeof(text) - 1, 0); /* for the sentence only */

        text[got > 0 ? strspn(text, "0123456789") : 0] = 0;
        fprintf(stderr,
                "kilatctl: %s: is in use by process %s; stop it first: nothing was changed\n", dir,
                text[0] != 0 ? text : "(unknown)");
    } else {
        fprintf(stderr, "kilatctl: %s/LOCK: cannot be locked: %s\n", dir, strerror(-r));
    }
    if (*ret_fd >= 0)
        (void)file_close(*ret_fd);
    *ret_fd = -1;
    return false;
}

/* The group first: without root's rights it could not be changed any more. */
static bool become_owner(const char *path, struct spool_lock *lock)
{
    struct stat info;

    if (geteuid() != 0)
        return true;
    if (stat(path, &info) == 0 && info.st_uid == 0)
        return true;
    if (stat(path, &info) == 0 && setegid(info.st_gid) == 0 && seteuid(info.st_uid) == 0) {
        lock->as_owner = true;
        return true;
    }
    fprintf(stderr, "kilatctl: %s: its owner's rights cannot be taken: %s\n", path,
            strerror(errno));
    return false;
}

bool spool_lock_take(const char *path, bool own, struct spool_lock *lock)
{
    char *above = NULL;
    bool fine;

    *lock = (struct spool_lock){.fds = {-1, -1}};
    if (asprintf(&above, "%s/..", path) < 0)
        return false;
    fine = become_owner(path, lock) && lock_one(above, &lock->fds[0]) &&
           (!own || lock_one(path, &lock->fds[1]));
    free(above);
    if (!fine)
        spool_lock_release(lock);
    return fine;
}

void spool_lock_release(struct spool_lock *lock)
{
    for (int i = 1; i >= 0; i--) {
        if (lock->fds[i] >= 0)
            (void)file_close(lock->fds[i]);
        lock->fds[i] = -1;
    }
    if (lock->as_owner && (seteuid(0) < 0 || setegid(0) < 0))
        abort(); /* it was ours a moment ago */
    lock->as_owner = false;
}

int spool_lock_open_as_caller(const struct spool_lock *lock, const char *path, int flags)
{
    uid_t owner = geteuid();
    int fd, error;

    if (lock->as_owner && seteuid(0) < 0)
        return -1;
    fd = open(path, flags | O_CLOEXEC);
    error = errno;
    if (lock->as_owner && seteuid(owner) < 0)
        abort();
    errno = error;
    return fd;
}
