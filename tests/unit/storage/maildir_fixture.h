/* maildir_fixture.h - a mail root of its own for each test, and a kernel that fails on demand. */
#ifndef KILAT_TESTS_MAILDIR_FIXTURE_H
#define KILAT_TESTS_MAILDIR_FIXTURE_H

#include "core/file.h"
#include "storage/maildir.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct fixture {
    char path[64];
    int root_fd;
};

static inline void fixture_open(struct fixture *fixture)
{
    strcpy(fixture->path, "/tmp/kilat-maildir-XXXXXX");
    cr_assert_not_null(mkdtemp(fixture->path));
    cr_assert_eq(file_open_dir_path(fixture->path, &fixture->root_fd), 0);
}

static inline int remove_each(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void fixture_close(struct fixture *fixture)
{
    (void)file_close(fixture->root_fd);
    (void)nftw(fixture->path, remove_each, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void path_of(const struct fixture *fixture, const char *below, char path[512])
{
    (void)snprintf(path, 512, "%s/%s", fixture->path, below);
}

/* How many names, and the last one seen, in a directory below the root; -1: there is none. */
static inline int names_in(const struct fixture *fixture, const char *below, char name[256])
{
    char path[512];
    struct dirent *entry;
    int count = 0;
    DIR *dir;

    path_of(fixture, below, path);
    dir = opendir(path);
    if (dir == NULL)
        return -1;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        count++;
        if (name != NULL)
            (void)snprintf(name, 256, "%s", entry->d_name);
    }
    (void)closedir(dir);
    return count;
}

/* Makes a file with this content and this time; directories must exist. */
static inline void put(const struct fixture *fixture, const char *below, const char *content,
                       time_t modified_s)
{
    struct timespec times[2] = {{.tv_sec = modified_s}, {.tv_sec = modified_s}};
    char path[512];
    int fd;

    path_of(fixture, below, path);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert_geq(fd, 0, "%s", path);
    cr_assert_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    cr_assert_eq(futimens(fd, times), 0);
    cr_assert_eq(close(fd), 0);
}

static inline void make_maildir(const struct fixture *fixture, const char *directory)
{
    static const char *const parts[] = {"", "/new", "/cur", "/tmp"};

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        char below[256], path[512];

        (void)snprintf(below, sizeof(below), "%s%s", directory, parts[i]);
        path_of(fixture, below, path);
        (void)mkdir(path, 0700);
    }
}

/* From here on the kernel answers this system call of this process (each test has one) with EIO. */
static inline void fail_call(unsigned int call)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = ARRAY_SIZE(filter), .filter = filter};

    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

#endif
