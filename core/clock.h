/* core/clock.h - time and randomness; replaced as a whole in simulation (part of the door).
 *
 * A shard reads the clock once per tick (shard_now_ns()); only programs and worker jobs call these.
 * Shard: any. Cannot fail: random_bytes() stops the process when the kernel gives none at boot.
 */
#ifndef KILAT_CORE_CLOCK_H
#define KILAT_CORE_CLOCK_H

#include "core/defs.h"

uint64_t clock_monotonic_ns(void);
/* Nanoseconds since 1970-01-01 UTC; may jump either way. */
uint64_t clock_wall_ns(void);
/* Local time zone's offset from UTC at `wall_s`, in seconds (for Date and Received fields). */
int32_t clock_zone_offset_s(int64_t wall_s);
/* Secure randomness: DNS ids and ports, jitter, keys of hash tables, names of files. */
void random_bytes(void *to, size_t size);
uint64_t random_u64(void);
/* Uniform in 0..bound-1; `bound` > 0. */
uint64_t random_below(uint64_t bound);

#endif
