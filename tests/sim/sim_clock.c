/* tests/sim/sim_clock.c - core/clock.h over virtual time and a seed.
 *
 * The monotonic clock is the world's own. The wall clock of each host may be wrong by an offset that the world moves
 * (an administrator, or NTP). Randomness is a stream of each process, so that one server's draws
 * do not change with what its neighbours do.
 */
#include "core/clock.h"

#include "tests/sim/sim_world.h"

uint64_t clock_monotonic_ns(void)
{
    /* Never 0: callers may use 0 as "no deadline". */
    return sim.now_ns + SECOND_NS;
}

uint64_t clock_wall_ns(void)
{
    int64_t offset = sim.process == NULL ? 0 : sim.process->host->wall_offset_ns;

    return (uint64_t)((int64_t)(SIM_WALL_START_S * SECOND_NS + sim.now_ns) + offset);
}

int32_t clock_zone_offset_s(int64_t wall_s)
{
    (void)wall_s;
    return 7 * 3600; /* Jakarta, without summer time */
}

static struct sim_random *stream(void)
{
    return sim.process == NULL ? &sim.random : &sim.process->random;
}

void random_bytes(void *to, size_t size)
{
    uint8_t *bytes = to;

    while (size > 0) {
        uint64_t word = sim_random_u64(stream());
        size_t count = MIN(size, sizeof(word));

        memcpy(bytes, &word, count);
        bytes += count;
        size -= count;
    }
}

uint64_t random_u64(void)
{
    return sim_random_u64(stream());
}

uint64_t random_below(uint64_t bound)
{
    ASSERT(bound > 0);
    return sim_random_below(stream(), bound);
}
