#include "core/channel.h"
#include <criterion/criterion.h>

Test(channel, keeps_order_and_says_when_full)
{
    struct channel *channel = NULL;
    struct shard_message messages[10];

    cr_assert_eq(channel_create(4, &channel), 0);
    cr_expect_null(channel_pop(channel));
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 4; i++)
            cr_expect(channel_push(channel, &messages[i]));
        cr_expect(!channel_push(channel, &messages[4]), "full");
        cr_expect_eq(channel_pop(channel), &messages[0]);
        cr_expect(channel_push(channel, &messages[5]));
        cr_expect(!channel_push(channel, &messages[6]));
        for (int i = 1; i < 4; i++)
            cr_expect_eq(channel_pop(channel), &messages[i]);
        cr_expect_eq(channel_pop(channel), &messages[5]);
        cr_expect_null(channel_pop(channel));
    }
    channel_destroy(&channel);
    cr_expect_null(channel);
    channel_destroy(&channel);
}
