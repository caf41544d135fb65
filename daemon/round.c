#include "daemon/round.h"

#include "core/assert.h"

static void round_deliver(struct shard *on, struct shard_message *message)
{
    struct round *round = CONTAINER_OF(message, struct round, message);
    struct node *node = on->user;

    if (round->at == on->count) {
        ASSERT(node->rounds > 0);
        node->rounds--;
        node_check_empty(node);
        round->finished(node, round);
        return;
    }
    ASSERT(round->at == on->index);
    round->visit(node, round);
}

void round_go_on(struct node *node, struct round *round)
{
    ASSERT(round->at == node->shard->index);
    round->at++;
    shard_send(node->shard, round->at == node->shard->count ? 0 : round->at, &round->message);
}

void round_begin(struct node *node, struct round *round)
{
    ASSERT(node->shard->index == 0);
    round->message.deliver = round_deliver;
    round->at = 0;
    node->rounds++; /* the shards stay until it is over, or a visit would find nobody */
    shard_send(node->shard, 0, &round->message);
}
