#include "core/file.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A directory of its own for each test: they run side by side. */
static int new_dir(char path[64])
{
    int dir_fd = -1;

    strcpy(path, "/tmp/kilat-file-XXXXXX");
    cr_assert_not_null(mkdtemp(path));
    cr_assert_eq(file_open_dir_path(path, &dir_fd), 0);
    return dir_fd;
}

static int remove_one(void *context, const char *name)
{
    int dir_fd = *(int *)context;

    if (file_unlink(dir_fd, name) == -EISDIR)
        (void)file_remove_dir(dir_fd, name);
    return 0;
}

static void remove_dir(int dir_fd, const char *path)
{
    (void)file_list(dir_fd, remove_one, &dir_fd);
    (void)file_close(dir_fd);
    (void)rmdir(path);
}

static int make(int dir_fd, const char *name)
{
    int fd = -1;

    cr_assert_eq(file_open(dir_fd, name, FILE_READ | FILE_WRITE | FILE_CREATE, 0600, &fd), 0);
    return fd;
}

Test(file, writes_and_reads_back)
{
    char path[64], text[8];
    int dir_fd = new_dir(path);
    int fd = make(dir_fd, "a");
    struct file_info info;

    cr_expect_eq(file_write_all(fd, SLICE("hello"), 3), 0);
    cr_expect_eq(file_read_all(fd, text, 5, 3), 0);
    cr_expect_arr_eq(text, "hello", 5);
    cr_expect_eq(file_read_all(fd, text, 6, 3), -ENODATA, "one byte more than there is");
    cr_expect_eq(file_read_some(fd, text, 8, 6), 2);
    cr_expect_eq(file_read_some(fd, text, 8, 100), 0);
    cr_expect_eq(file_info(fd, &info), 0);
    cr_expect_eq(info.size_bytes, 8);
    cr_expect_eq(info.links, 1);
    cr_expect_eq(info.mode & 07777, 0600);
    cr_expect_eq(file_truncate(fd, 4), 0);
    cr_expect_eq(file_sync(fd), 0);
    cr_expect_eq(file_sync_data(fd), 0);
    cr_expect_eq(file_sync_dir(dir_fd), 0);
    cr_expect_eq(file_info_at(dir_fd, "a", &info), 0);
    cr_expect_eq(info.size_bytes, 4);
    cr_expect_eq(file_close(fd), 0);
    cr_expect_eq(file_close(fd), -EBADF);
    remove_dir(dir_fd, path);
}

Test(file, never_follows_a_link_and_never_leaves_its_directory)
{
    static const char *const bad_names[] = {"", "..", "../x", "a/b", "/etc/passwd", "./a"};
    char path[64];
    int dir_fd = new_dir(path);
    int fd = make(dir_fd, "real");
    struct file_info info;

    cr_assert_eq(symlinkat("real", dir_fd, "link"), 0);
    cr_assert_eq(symlinkat("/", dir_fd, "root"), 0);
    (void)file_close(fd);
    cr_expect_eq(file_open(dir_fd, "link", FILE_READ, 0, &fd), -ELOOP);
    cr_expect_eq(file_open(dir_fd, "link", FILE_WRITE | FILE_CREATE, 0600, &fd), -ELOOP);
    cr_expect_eq(file_open_dir(dir_fd, "root", &fd), -ELOOP);
    cr_expect_eq(file_info_at(dir_fd, "link", &info), 0);
    cr_expect(S_ISLNK(info.mode), "told about the link itself");
    for (size_t i = 0; i < ARRAY_SIZE(bad_names); i++) {
        const char *name = bad_names[i];

        cr_expect_eq(file_open(dir_fd, name, FILE_READ, 0, &fd), -EINVAL, "%s", name);
        cr_expect_eq(file_open_dir(dir_fd, name, &fd), -EINVAL, "%s", name);
        cr_expect_eq(file_unlink(dir_fd, name), -EINVAL, "%s", name);
        cr_expect_eq(file_make_dir(dir_fd, name, 0700), -EINVAL, "%s", name);
        cr_expect_eq(file_remove_dir(dir_fd, name), -EINVAL, "%s", name);
        cr_expect_eq(file_rename(dir_fd, "real", dir_fd, name), -EINVAL, "%s", name);
        cr_expect_eq(file_rename_new(dir_fd, name, dir_fd, "x"), -EINVAL, "%s", name);
        cr_expect_eq(file_info_at(dir_fd, name, &info), -EINVAL, "%s", name);
    }
    remove_dir(dir_fd, path);
}

Test(file, creates_exclusively_and_renames_without_replacing)
{
    char path[64];
    int dir_fd = new_dir(path);
    int fd = make(dir_fd, "a");
    int other;

    (void)file_close(fd);
    fd = make(dir_fd, "b");
    (void)file_close(fd);
    cr_expect_eq(file_open(dir_fd, "a", FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE, 0600, &other),
                 -EEXIST);
    cr_expect_eq(file_open(dir_fd, "none", FILE_READ, 0, &other), -ENOENT);
    cr_expect_eq(file_rename_new(dir_fd, "a", dir_fd, "b"), -EEXIST);
    cr_expect_eq(file_rename_new(dir_fd, "a", dir_fd, "c"), 0);
    cr_expect_eq(file_rename(dir_fd, "c", dir_fd, "b"), 0);
    cr_expect_eq(file_unlink(dir_fd, "c"), -ENOENT);
    cr_expect_eq(file_make_dir(dir_fd, "d", 0700), 0);
    cr_expect_eq(file_make_dir(dir_fd, "d", 0700), -EEXIST);
    cr_expect_eq(file_unlink(dir_fd, "d"), -EISDIR);
    cr_expect_eq(file_remove_dir(dir_fd, "d"), 0);
    remove_dir(dir_fd, path);
}

static int count_one(void *context, const char *name)
{
    (void)name;
    ++*(int *)context;
    return 0;
}

static int stop_at_first(void *context, const char *name)
{
    (void)context;
    (void)name;
    return 42;
}

Test(file, lists_all_names_each_time_from_the_start)
{
    char path[64];
    int dir_fd = new_dir(path);

    for (int i = 0; i < 500; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "f%d", i);
        (void)file_close(make(dir_fd, name));
    }
    for (int i = 0; i < 2; i++) {
        int count = 0;

        cr_expect_eq(file_list(dir_fd, count_one, &count), 0);
        cr_expect_eq(count, 500);
    }
    cr_expect_eq(file_list(dir_fd, stop_at_first, NULL), 42);
    remove_dir(dir_fd, path);
}

Test(file, a_lock_belongs_to_the_description)
{
    char path[64];
    int dir_fd = new_dir(path);
    int first = make(dir_fd, "lock");
    int second = make(dir_fd, "lock");
    int32_t pid = -7;

    cr_expect_eq(file_lock(first, NULL), 0);
    cr_expect_eq(file_lock(first, NULL), 0, "again by the same is no conflict");
    cr_expect_eq(file_lock(second, NULL), -EAGAIN, "also within one process");
    cr_expect_eq(file_lock(second, &pid), -EAGAIN);
    cr_expect_eq(pid, 0, "the kernel does not say whose a description is");
    (void)file_close(first);
    cr_expect_eq(file_lock(second, NULL), 0);
    (void)file_close(second);
    remove_dir(dir_fd, path);
}

Test(file, paths_of_the_administrator)
{
    char path[64], inner[96];
    int dir_fd = new_dir(path);
    int fd;

    (void)snprintf(inner, sizeof(inner), "%s/d", path);
    cr_expect_eq(file_make_dir_path(inner, 0700), 0);
    cr_expect_eq(file_make_dir_path(inner, 0700), 0, "there already");
    (void)file_close(make(dir_fd, "f"));
    (void)snprintf(inner, sizeof(inner), "%s/f", path);
    cr_expect_eq(file_make_dir_path(inner, 0700), -ENOTDIR);
    cr_expect_eq(file_open_dir_path(inner, &fd), -ENOTDIR);
    cr_expect_eq(file_open_path("/nonexistent/x", FILE_READ, 0, &fd), -ENOENT);
    cr_assert_eq(file_open_path(inner, FILE_READ, 0, &fd), 0);
    cr_expect_eq(file_write_all(fd, SLICE("x"), 0), -EBADF);
    (void)file_close(fd);
    remove_dir(dir_fd, path);
}

Test(file, tells_the_file_system)
{
    struct file_system_info info;
    int fd;

    cr_assert_eq(file_open_dir_path("/proc", &fd), 0);
    cr_expect_eq(file_system_info(fd, &info), 0);
    cr_expect_eq(info.kind, FILE_SYSTEM_OTHER);
    cr_expect_str_eq(info.name, "0x9fa0");
    (void)file_close(fd);
    if (file_open_dir_path("/dev/shm", &fd) == 0) {
        cr_expect_eq(file_system_info(fd, &info), 0);
        cr_expect_eq(info.kind, FILE_SYSTEM_TMPFS);
        cr_expect_gt(info.total_bytes, 0);
        (void)file_close(fd);
    }
    cr_expect_eq(file_system_info(-1, &info), -EBADF);
}
