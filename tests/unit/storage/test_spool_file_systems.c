#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

/* Mounts `type` over the world's directory, in a mount namespace of this test's own process. */
static void mount_over(struct world *world, const char *type, const char *options)
{
    if (unshare(CLONE_NEWNS) != 0)
        cr_skip("no mount namespace without privileges");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        /* In a chroot "/" is no mount point; the directory is made one instead. */
        cr_assert_eq(errno, EINVAL);
        cr_assert_eq(mount(world->dir, world->dir, NULL, MS_BIND, NULL), 0);
        cr_assert_eq(mount(NULL, world->dir, NULL, MS_PRIVATE, NULL), 0);
    }
    cr_assert_eq(mount("none", world->dir, type, 0, options), 0);
}

static void unmount(struct world *world)
{
    cr_assert_eq(umount2(world->dir, MNT_DETACH), 0);
    (void)umount2(world->dir, MNT_DETACH); /* what mount_over() put below it, if it did */
}

/* Goal: where O_DIRECT is refused the promise is kept by write and fdatasync. */
Test(spool_file_systems, ramfs_has_no_direct_io)
{
    struct world *world = world_create();
    struct spool_counters counters;
    struct posting *posting;
    static uint8_t body[100000];

    mount_over(world, "ramfs", NULL);
    world->config.hot_bytes_max = 0;
    fill_body(body, sizeof(body), 1);
    world_open(world);
    spool_counters(world->spool, &counters);
    cr_assert(!counters.direct);
    posting = post(world, 1, body, 60000);
    for (int life = 0; life < 2; life++) {
        uint8_t *read;
        size_t size;
        bool hot;

        cr_assert_eq(read_back(world, &posting->append.location, &read, &size, &hot), 0);
        cr_assert_eq(size, 60000);
        cr_assert_eq(memcmp(read, body, size), 0);
        free(read);
        world_close(world);
        world_open(world);
        cr_assert_eq(world->message_count, 1);
    }
    world_close(world);
    unmount(world);
    world_destroy(world);
}

Test(spool_file_systems, a_file_system_nobody_knows_is_refused_unless_forced)
{
    struct world *world = world_create();

    mount_over(world, "ramfs", NULL);
    world->config.force_file_system = false;
    cr_assert_eq(world_recover(world), -EMEDIUMTYPE);
    cr_assert(strstr(world->error, "ext4") != NULL && strstr(world->error, "force") != NULL, "%s",
              world->error);
    cr_assert_neq(access(world->dir, F_OK), -1);
    unmount(world);
    world_destroy(world);
}

Test(spool_file_systems, tmpfs_is_refused_unless_forced)
{
    struct world *world = world_create();

    mount_over(world, "tmpfs", NULL);
    world->config.force_file_system = false;
    cr_assert_eq(world_recover(world), -EMEDIUMTYPE);
    cr_assert(strstr(world->error, "tmpfs") != NULL && strstr(world->error, "force") != NULL, "%s",
              world->error);
    world->config.force_file_system = true;
    world_open(world);
    (void)post(world, 1, "hello", 5);
    world_close(world);
    world_open(world);
    cr_assert_eq(world->message_count, 1);
    world_close(world);
    unmount(world);
    world_destroy(world);
}

static void make_ballast(const struct world *world)
{
    static uint8_t block[65536];
    char path[600];
    int fd;

    path_of(world, "ballast", path, sizeof(path));
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    for (int i = 0; i < 128; i++) /* 8 MiB: a spare of D and one of J */
        cr_assert_eq(write(fd, block, sizeof(block)), (ssize_t)sizeof(block));
    (void)close(fd);
}

/* Posts until one is refused, which must be for want of space. Returns how many were taken. */
static uint32_t post_until_full(struct world *world, const uint8_t *body, size_t size)
{
    for (uint32_t accepted = 0;; accepted++) {
        struct posting *posting = posting_create(world, 1, body, size);
        int r = posting_begin(world, posting);

        if (r == 0) {
            world_until(world, &posting->done);
            r = posting->append.result;
        }
        if (r < 0) {
            cr_assert_eq(r, -ENOSPC);
            return accepted;
        }
        cr_assert_lt(accepted, 1000);
    }
}

/* Ticks until an append is taken again, and durable. */
static void post_when_possible(struct world *world, const uint8_t *body, size_t size)
{
    struct posting *posting = posting_create(world, 1, body, size);

    world->late = false;
    shard_timer_arm(&world->shard, &world->guard, 60000);
    while (posting_begin(world, posting) < 0) {
        world_tick(world);
        cr_assert(!world->late, "refused for a minute");
    }
    world_until(world, &posting->done);
    cr_assert_eq(posting->append.result, 0);
}

/* Goal: a full disk is answered before the promise, never after; what is in the spool can go on
 * being noted; and service returns when space does. */
Test(spool_file_systems, a_full_disk)
{
    struct world *world = world_create();
    static uint8_t body[60000];
    struct posting *posting;
    uint32_t accepted;
    char path[600];

    mount_over(world, "tmpfs", "size=24m");
    world_open(world);
    posting = post(world, 1, "first", 5);
    make_ballast(world);
    accepted = post_until_full(world, body, sizeof(body));
    cr_assert_gt(accepted, 30);
    cr_assert(spool_journal_ok(world->spool));
    cr_assert_eq(spool_note(world->spool, &(struct spool_note){.kind = SPOOL_NOTE_DONE,
                                                               .id = posting->append.id,
                                                               .unit_count = 1}),
                 0);
    path_of(world, "ballast", path, sizeof(path));
    cr_assert_eq(unlink(path), 0);
    post_when_possible(world, body, sizeof(body));
    world_close(world);
    world_open(world);
    cr_assert_eq(world->message_count, accepted + 1);
    cr_assert_eq(world->report.damaged_records, 0);
    world_close(world);
    unmount(world);
    world_destroy(world);
}

/* Goal: J is used again after a checkpoint, so there must be room for one, however full the disk is: a spare goes. */
Test(spool_file_systems, a_checkpoint_finds_room_on_a_full_disk)
{
    struct world *world = world_create();
    char fill[1400], name[600];

    mount_over(world, "tmpfs", "size=40m");
    world->keeps = true;
    world_open(world);
    for (int i = 0; i < 20; i++)
        (void)post(world, 1, "hello", 5);
    while (world->spool->d.maker.spare_count == 0 || world->spool->j.maker.spare_count < 2)
        world_tick(world);
    (void)snprintf(fill, sizeof(fill), "dd if=/dev/zero of=%s/fill bs=4k 2>/dev/null || true",
                   world->dir);
    cr_assert_eq(system(fill), 0);
    cr_assert_eq(world_checkpoint(world), -ENOSPC);
    while (world->spool->d.maker.op.in_flight)
        world_tick(world);
    cr_assert_eq(world_checkpoint(world), 0);
    path_of(world, "fill", name, sizeof(name));
    cr_assert_eq(unlink(name), 0);
    world_close(world);
    unmount(world);
    world_destroy(world);
}

/* Goal: a spool can be opened, and drained, on a disk that has no room for a spare segment. */
Test(spool_file_systems, a_start_on_a_full_disk)
{
    struct world *world = world_create();
    static uint8_t body[60000];
    char path[600], from[1400];

    mount_over(world, "tmpfs", "size=20m");
    world_open(world);
    (void)post(world, 1, "hello", 5);
    world_close(world);
    path_of(world, "spare", path, sizeof(path));
    (void)snprintf(from, sizeof(from),
                   "rm -f %s/*; dd if=/dev/zero of=%s/fill bs=64k 2>/dev/null || true", path,
                   world->dir);
    cr_assert_eq(system(from), 0);
    world_open(world);
    cr_assert_eq(world->message_count, 1);
    (void)post_until_full(world, body, sizeof(body));
    path_of(world, "fill", path, sizeof(path));
    cr_assert_eq(unlink(path), 0);
    post_when_possible(world, body, sizeof(body));
    world_close(world);
    unmount(world);
    world_destroy(world);
}
