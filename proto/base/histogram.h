/* Histogram: counts of durations with a relative error below 2 %, in fixed memory (HdrHistogram's
 * idea: linear buckets inside powers of two). Not thread-safe; merge per-thread ones. */
#ifndef PROTO_BASE_HISTOGRAM_H
#define PROTO_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t count, sum, min, max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_init(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The value at or below which `per_10000`/10000 of the samples lie (5000 median, 9990 p99.9);
 * 0 when empty. */
uint64_t histogram_quantile(const struct histogram *h, uint32_t per_10000);

#endif
