/* daemon/round.h - something that every shard does in turn, beginning and ending on shard 0.
 *
 * How new settings and accounts reach the shards, and how a question of kilatctl is put to all of them.
 * The round is lent to the shards until `finished`, which runs on shard 0.
 */
#ifndef KILAT_DAEMON_ROUND_H
#define KILAT_DAEMON_ROUND_H

#include "daemon/kilatd_private.h"

struct round {
    struct shard_message message;
    uint32_t at; /* private */
    /* Runs on each shard; calls round_go_on() when it is done, now or later. */
    void (*visit)(struct node *node, struct round *round);
    void (*finished)(struct node *node, struct round *round);
};

/* Shard: 0. `visit` and `finished` are set by the caller; the first visit is in a later tick. */
void round_begin(struct node *node, struct round *round);
/* Shard: the one that is visited, once per visit. */
void round_go_on(struct node *node, struct round *round);

#endif
