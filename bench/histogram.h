/* bench/histogram.h - how often each latency came, kept to three significant digits.
 *
 * The layout of HdrHistogram: values fall into buckets, each twice as wide as the one before and cut
 * into the same number of equal parts, so that every value up to HISTOGRAM_VALUE_MAX is kept with
 * a relative error below 1 in 1024 and recording is a handful of instructions:
 *
 *     value             0 .. 2047   2048 .. 4095   4096 .. 8191   ...
 *     width of a part       1            2              4         ...
 *     parts               2048         1024           1024        ...
 *
 * One flat struct without pointers, so it may lie in memory that two processes share. Units are the
 * caller's (here always nanoseconds).
 */
#ifndef KILAT_BENCH_HISTOGRAM_H
#define KILAT_BENCH_HISTOGRAM_H

#include "core/defs.h"

#define HISTOGRAM_PART_BITS 11 /* 2048 parts: three digits */
#define HISTOGRAM_HALF (1u << (HISTOGRAM_PART_BITS - 1))
#define HISTOGRAM_BUCKETS 30
/* 2^40 - 1 ns: over 18 minutes, longer than any wait of a load. */
#define HISTOGRAM_VALUE_MAX ((1ull << (HISTOGRAM_PART_BITS + HISTOGRAM_BUCKETS - 1)) - 1)
#define HISTOGRAM_PARTS ((HISTOGRAM_BUCKETS + 1) * HISTOGRAM_HALF)

struct histogram {
    uint64_t total;
    uint64_t min; /* UINT64_MAX when empty */
    uint64_t max;
    uint64_t sum;
    uint64_t counts[HISTOGRAM_PARTS];
};

void histogram_init(struct histogram *histogram);
/* A value above HISTOGRAM_VALUE_MAX is counted as that one; `max` keeps what it was. */
void histogram_record(struct histogram *histogram, uint64_t value);
void histogram_add(struct histogram *to, const struct histogram *from);
/* The smallest recorded value (as the upper end of its part, but not above `max`) that at least
 * `percent` of all values do not exceed; 0 when empty. 0 gives the smallest, 100 the largest. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);
double histogram_mean(const struct histogram *histogram); /* 0 when empty */

#endif
