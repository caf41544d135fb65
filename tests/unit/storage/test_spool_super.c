#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static struct spool_super super_read_again(const struct world *world, int *ret_error)
{
    struct spool_super super = {0};
    int fd;

    cr_assert_eq(file_open_dir_path(world->dir, &fd), 0);
    *ret_error = spool_super_read(fd, &super);
    (void)file_close(fd);
    return super;
}

/* Goal: no id and no epoch is used twice, also when the newer slot of SUPER is lost to a flipped bit or a cut file.
 * Method: two openings write both slots; then one of them is broken in each way, and what is read has to leave out what
 * the broken one had given away. */
Test(spool_super, what_a_lost_slot_gave_away_is_left_out)
{
    struct world *world = world_create();
    struct spool_super newest, super;
    char path[600];
    int error;

    for (int i = 0; i < 3; i++) {
        world_open(world);
        world_close(world);
    }
    newest = super_read_again(world, &error);
    cr_assert_eq(error, 0);
    for (int slot = 0; slot < 2; slot++) {
        struct world *broken = world_crash(world);

        flip(broken->dir, "SUPER", (uint64_t)slot * SPOOL_BLOCK_BYTES + 70, 1);
        super = super_read_again(broken, &error);
        cr_expect_eq(error, 0);
        cr_expect_geq(super.epoch, newest.epoch, "slot %d", slot);
        cr_expect_geq(super.id_limit, newest.id_limit, "slot %d", slot);
        world_destroy(broken);
    }
    path_of(world, "SUPER", path, sizeof(path));
    cr_assert_eq(truncate(path, SPOOL_BLOCK_BYTES + 100), 0);
    super = super_read_again(world, &error);
    cr_expect_eq(error, 0);
    cr_expect_geq(super.epoch, newest.epoch);
    cr_expect_geq(super.id_limit, newest.id_limit);
    /* Less would do, but a checksum may happen to end with the zero that is read behind the end. */
    cr_assert_eq(truncate(path, SPOOL_BLOCK_BYTES / 2), 0);
    (void)super_read_again(world, &error);
    cr_expect_eq(error, -EBADMSG);
    world_destroy(world);
}
