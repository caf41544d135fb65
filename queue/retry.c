#include "queue/queue_private.h"

#include "core/assert.h"
#include "core/clock.h"

/* Doubling, so that a short outage costs little and a long one few tries; jitter, so that what failed together does not
 * come back together. */
#define RETRY_JITTER_PERCENT 10

uint64_t retry_delay_ms(uint32_t first_ms, uint32_t max_ms, uint32_t tries)
{
    uint64_t delay_ms = first_ms;
    uint64_t jitter_ms;

    ASSERT(tries > 0);
    for (uint32_t i = 1; i < tries && delay_ms < max_ms; i++)
        delay_ms *= 2;
    delay_ms = MIN(delay_ms, (uint64_t)max_ms);
    jitter_ms = delay_ms * RETRY_JITTER_PERCENT / 100;
    return delay_ms - jitter_ms + random_below(2 * jitter_ms + 1);
}
