#include "queue/queue_private.h"

/* Is the wall clock to be believed? What it says decides whose time is over, so a wrong one would return all mail to its
 * senders in one night. It is doubted when it jumps by more than an hour while the server runs, and at a start when it
 * says a time before the newest record or two days behind it: then mail is accepted and delivered, but nothing expires
 * and nothing is reported as failed until an operator accepts the clock or a day has passed.
 *
 * A smaller step expires nothing early either. A message knows the wall clock of its arrival only, so its age is counted
 * by the monotonic clock from the lowest that the wall clock has stood at against it: later by the size of the steps, never
 * too early. */
#define CLOCK_JUMP_NS ((int64_t)HOUR_NS)
#define CLOCK_DOUBT_NS (24 * HOUR_NS)
#define CLOCK_GAP_S (48ull * 3600)
#define CLOCK_SLACK_S 60 /* a step by ntpd at a restart is no reason */

static int64_t offset_ns(const struct queue *queue)
{
    return (int64_t)queue->shard->wall_ns - (int64_t)queue->shard->now_ns;
}

int64_t clock_offset_s(const struct queue *queue)
{
    int64_t offset = offset_ns(queue), second = (int64_t)SECOND_NS;

    return offset >= 0 ? offset / second : -((-offset + second - 1) / second);
}

void clock_init(struct queue *queue)
{
    queue->clock_offset_ns = offset_ns(queue);
    queue->clock_seen_ns = queue->clock_offset_ns;
}

uint64_t clock_age_s(const struct queue *queue)
{
    int64_t wall_ns = (int64_t)queue->shard->now_ns + queue->clock_offset_ns;

    return wall_ns < 0 ? 0 : (uint64_t)wall_ns / SECOND_NS;
}

bool clock_expired(const struct queue *queue, uint64_t expires_wall_s)
{
    return !queue->clock_doubted && clock_age_s(queue) > expires_wall_s;
}

static void doubt(struct queue *queue, const char *why, int64_t seconds)
{
    queue->clock_doubted = true;
    queue->clock_doubted_until_ns = queue->shard->now_ns + CLOCK_DOUBT_NS;
    log_event(queue->shard->log, LOG_WARNING, "queue.clock.doubted", log_cstr("reason", why),
              log_i64("seconds", seconds),
              log_cstr("until", "kilatctl clock accept, or a day has passed"));
    queue_poke(queue);
}

/* Ages count from what the clock says now; what was passed over meanwhile is looked at again. */
static void believe(struct queue *queue, const char *why)
{
    queue->clock_offset_ns = offset_ns(queue);
    queue->clock_seen_ns = queue->clock_offset_ns;
    if (!queue->clock_doubted)
        return;
    queue->clock_doubted = false;
    log_event(queue->shard->log, LOG_NOTICE, "queue.clock.believed", log_cstr("reason", why));
    schedule_age_again(queue);
    queue_poke(queue);
}

void clock_check(struct queue *queue)
{
    int64_t offset = offset_ns(queue);
    int64_t jump = offset - queue->clock_seen_ns;

    queue->clock_seen_ns = offset;
    queue->clock_offset_ns = MIN(queue->clock_offset_ns, offset);
    if (jump > CLOCK_JUMP_NS || jump < -CLOCK_JUMP_NS) {
        queue->totals.clock_jumps++;
        doubt(queue, "the wall clock has jumped", jump / (int64_t)SECOND_NS);
    } else if (queue->clock_doubted && queue->shard->now_ns >= queue->clock_doubted_until_ns) {
        believe(queue, "a day has passed");
    }
}

void clock_compare(struct queue *queue, uint32_t newest_from_s, uint32_t newest_to_s)
{
    uint64_t wall_s = queue_wall_s(queue);

    if (newest_to_s == 0 || queue->clock_doubted)
        return;
    if (wall_s + CLOCK_SLACK_S < newest_from_s)
        doubt(queue, "the wall clock is behind the newest record",
              (int64_t)newest_from_s - (int64_t)wall_s);
    else if (wall_s > newest_to_s + CLOCK_GAP_S)
        doubt(queue, "the wall clock is more than 48 hours ahead of the newest record",
              (int64_t)wall_s - (int64_t)newest_to_s);
}

void queue_clock_accept(struct queue *queue)
{
    believe(queue, "accepted by an operator");
}
