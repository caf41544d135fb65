#include "core/ring.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef UNAME26
#define UNAME26 0x0020000
#endif
#define REAL_SYSCTL "/proc/sys/kernel/io_uring_disabled"

static void put(const char *dir, const char *name, const char *text)
{
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

/* As if /proc/sys/kernel held these two; NULL for one that is not there. */
static int probe_with(const char *disabled, const char *group, char *text, size_t size)
{
    char dir[] = "/tmp/kilat-probe-XXXXXX";
    char path[128];
    int r;

    cr_assert_not_null(mkdtemp(dir));
    if (disabled != NULL)
        put(dir, "io_uring_disabled", disabled);
    if (group != NULL)
        put(dir, "io_uring_group", group);
    (void)snprintf(path, sizeof(path), "%s/io_uring_disabled", dir);
    r = ring_probe(path, text, size);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/io_uring_group", dir);
    (void)unlink(path);
    (void)rmdir(dir);
    return r;
}

Test(ring_probe, says_yes_where_rings_can_be_had)
{
    char text[512];

    cr_expect_eq(ring_probe(REAL_SYSCTL, text, sizeof(text)), 0, "%s", text);
    cr_expect_eq(probe_with("0\n", "-1\n", text, sizeof(text)), 0, "%s", text);
    cr_expect_eq(probe_with(NULL, NULL, text, sizeof(text)), 0, "before Linux 6.6: %s", text);
}

Test(ring_probe, names_the_sysctl_that_forbids_it_to_all)
{
    char text[512];

    cr_expect_eq(probe_with("2\n", "-1\n", text, sizeof(text)), -EPERM);
    cr_expect_not_null(strstr(text, "kernel.io_uring_disabled is 2"), "%s", text);
    cr_expect_not_null(strstr(text, "sysctl -w kernel.io_uring_disabled=0"), "%s", text);
}

Test(ring_probe, names_the_sysctl_that_forbids_it_to_the_unprivileged)
{
    char text[512];

    if (geteuid() != 0)
        cr_skip_test("the trap is that root still may");
    cr_expect_eq(probe_with("1\n", "-1\n", text, sizeof(text)), -EPERM);
    cr_expect_not_null(strstr(text, "kernel.io_uring_disabled is 1"), "%s", text);
    cr_expect_not_null(strstr(text, "kernel.io_uring_group"), "%s", text);
    cr_expect_eq(probe_with("1\n", "1234\n", text, sizeof(text)), 0,
                 "root may, and a group is there for later: %s", text);
}

Test(ring_probe, refuses_an_old_kernel)
{
    char text[512];

    cr_assert_geq(personality(UNAME26), 0);
    cr_expect_eq(ring_probe(REAL_SYSCTL, text, sizeof(text)), -EOPNOTSUPP);
    cr_expect_not_null(strstr(text, "Linux 2.6."), "%s", text);
    cr_expect_not_null(strstr(text, "6.1 or newer"), "%s", text);
}

Test(ring_probe, names_the_limit_of_locked_memory)
{
    const struct rlimit none = {0, 0};
    char text[512];

    if (geteuid() != 0)
        cr_skip_test("another user's account of locked memory is needed, not one in use");
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    cr_assert_eq(setuid(60123), 0); /* root is not counted */
    cr_expect_eq(ring_probe(REAL_SYSCTL, text, sizeof(text)), -ENOMEM);
    cr_expect_not_null(strstr(text, "RLIMIT_MEMLOCK"), "%s", text);
    cr_expect_not_null(strstr(text, "LimitMEMLOCK="), "%s", text);
}

/* 64 KiB were the default for long; the full ring with its buffers wants three times as much. */
Test(ring_probe, makes_do_with_little_locked_memory)
{
    const struct rlimit little = {64 * KIB, 64 * KIB};
    const struct ring_params params = {.entries = 0};
    struct ring *ring = NULL;

    if (geteuid() != 0)
        cr_skip_test("another user's account of locked memory is needed, not one in use");
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &little), 0);
    cr_assert_eq(setuid(60124), 0);
    cr_assert_eq(ring_create(&params, &ring), 0);
    cr_expect_gt(ring_buffers_total(ring), 0);
    ring_destroy(&ring);
}

Test(ring_probe, cuts_its_sentence_to_the_room_it_gets)
{
    char text[20];

    cr_expect_eq(probe_with("2\n", NULL, text, sizeof(text)), -EPERM);
    cr_expect_eq(strlen(text), sizeof(text) - 1);
}

Test(ring_probe, a_ring_describes_itself)
{
    const struct ring_params params = {.entries = 64, .buffer_count = 16};
    struct ring *ring = NULL;

    cr_assert_eq(ring_create(&params, &ring), 0);
    cr_expect_not_null(strstr(ring_features(ring)->text, "SINGLE_ISSUER DEFER_TASKRUN"));
    cr_expect_not_null(strstr(ring_features(ring)->text, "ring 64/512, buffers 16 x 8192"));
    cr_expect_lt(strlen(ring_features(ring)->text), sizeof(ring_features(ring)->text) - 1);
    ring_destroy(&ring);
    cr_expect_null(ring);
}
