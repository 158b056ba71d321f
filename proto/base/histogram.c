#include "proto/base/histogram.h"

#include <string.h>

#include "proto/base/ensure.h"

/* Values below 2 * SUB count exactly. Above, each power of two is cut into SUB equal buckets, so a
 * bucket is at most 1/SUB of its lower edge wide: 1.6 %. */
#define SUB (1u << HISTOGRAM_SUB_BITS)

static uint32_t bucket_of(uint64_t value)
{
    if (value < SUB)
        return (uint32_t)value;
    uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    /* value >> shift lies in SUB..2 * SUB: the bucket inside the power of two, plus SUB. */
    return shift * SUB + (uint32_t)(value >> shift);
}

/* The largest value that lands in bucket. */
static uint64_t bucket_top(uint32_t bucket)
{
    if (bucket < 2 * SUB)
        return bucket;
    uint32_t shift = bucket / SUB - 1;
    uint64_t first = (uint64_t)(bucket - shift * SUB) << shift;
    return first + (((uint64_t)1 << shift) - 1);
}

void histogram_init(struct histogram *h)
{
    memset(h, 0, sizeof *h);
    h->min = UINT64_MAX;
}

void histogram_add(struct histogram *h, uint64_t value)
{
    uint32_t bucket = bucket_of(value);
    ENSURE(bucket < HISTOGRAM_BUCKETS);
    h->buckets[bucket]++;
    h->count++;
    h->sum += value;
    h->min = value < h->min ? value : h->min;
    h->max = value > h->max ? value : h->max;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    into->sum += from->sum;
    into->min = from->min < into->min ? from->min : into->min;
    into->max = from->max > into->max ? from->max : into->max;
}

/* The number of samples that must lie at or below the answer: per_10000 of count, rounded up and
 * at least one. Split so that no product overflows. */
static uint64_t rank_of(uint64_t count, uint32_t per_10000)
{
    uint64_t whole = count / 10000 * per_10000;
    uint64_t rest = (count % 10000 * per_10000 + 9999) / 10000;
    return whole + rest == 0 ? 1 : whole + rest;
}

uint64_t histogram_quantile(const struct histogram *h, uint32_t per_10000)
{
    ENSURE(per_10000 <= 10000);
    if (h->count == 0)
        return 0;
    uint64_t rank = rank_of(h->count, per_10000);
    uint64_t seen = 0;
    uint32_t bucket = 0;
    for (; bucket < HISTOGRAM_BUCKETS - 1; bucket++) {
        seen += h->buckets[bucket];
        if (seen >= rank)
            break;
    }
    uint64_t top = bucket_top(bucket);
    if (top < h->min)
        return h->min;
    return top < h->max ? top : h->max;
}
