#include "bench/histogram.h"

#include <math.h>

static_assert(HISTOGRAM_VALUE_MAX == (1ull << 40) - 1, "as the header says");

void histogram_init(struct histogram *histogram)
{
    *histogram = (struct histogram){.min = UINT64_MAX};
}

/* In bucket b a part is 2^b wide. Of every bucket but the first only the upper half is used, because
 * the lower half would say again what the bucket before says better. */
static size_t part_of(uint64_t value)
{
    unsigned int bits = 64 - (unsigned int)__builtin_clzll(value | 1);
    unsigned int bucket = bits > HISTOGRAM_PART_BITS ? bits - HISTOGRAM_PART_BITS : 0;

    return (size_t)bucket * HISTOGRAM_HALF + (size_t)(value >> bucket);
}

/* The largest value that falls into the part. */
static uint64_t part_end(size_t part)
{
    size_t bucket = part < 2 * HISTOGRAM_HALF ? 0 : part / HISTOGRAM_HALF - 1;
    uint64_t in_bucket = part - bucket * HISTOGRAM_HALF;

    return ((in_bucket + 1) << bucket) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    histogram->total++;
    histogram->sum += value;
    histogram->min = MIN(histogram->min, value);
    histogram->max = MAX(histogram->max, value);
    histogram->counts[part_of(MIN(value, HISTOGRAM_VALUE_MAX))]++;
}

void histogram_add(struct histogram *to, const struct histogram *from)
{
    to->total += from->total;
    to->sum += from->sum;
    to->min = MIN(to->min, from->min);
    to->max = MAX(to->max, from->max);
    for (size_t i = 0; i < HISTOGRAM_PARTS; i++)
        to->counts[i] += from->counts[i];
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    uint64_t wanted = (uint64_t)ceil((double)histogram->total * percent / 100);
    uint64_t seen = 0;

    if (histogram->total == 0)
        return 0;
    wanted = MIN(MAX(wanted, 1), histogram->total);
    for (size_t i = 0; i < HISTOGRAM_PARTS; i++) {
        seen += histogram->counts[i];
        if (seen >= wanted)
            return i == HISTOGRAM_PARTS - 1 ? histogram->max : MIN(part_end(i), histogram->max);
    }
    return histogram->max;
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->total == 0 ? 0 : (double)histogram->sum / (double)histogram->total;
}
