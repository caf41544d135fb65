#include "core/clock.h"

#include "core/assert.h"
#include <errno.h>
#include <sys/random.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec now;
    int r = clock_gettime(id, &now);

    ASSERT(r == 0); /* both clocks exist on every Linux */
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

uint64_t clock_monotonic_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

int32_t clock_zone_offset_s(int64_t wall_s)
{
    time_t at = (time_t)wall_s;
    struct tm local;

    if (localtime_r(&at, &local) == NULL)
        return 0;
    return (int32_t)local.tm_gmtoff;
}

void random_bytes(void *to, size_t size)
{
    uint8_t *at = to;

    while (size > 0) {
        ssize_t got = getrandom(at, size, 0);

        if (got < 0 && errno == EINTR)
            continue;
        ASSERT(got > 0); /* ids and keys that can be guessed are worse than no server */
        at += got;
        size -= (size_t)got;
    }
}

uint64_t random_u64(void)
{
    uint64_t value;

    random_bytes(&value, sizeof(value));
    return value;
}

uint64_t random_below(uint64_t bound)
{
    uint64_t skewed, value;

    ASSERT(bound > 0);
    skewed =
        (UINT64_MAX - bound + 1) % bound; /* 2^64 mod bound: the values that would favour some */
    do {
        value = random_u64();
    } while (value < skewed);
    return value % bound;
}
