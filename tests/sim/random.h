/* Random: the simulator's only source of chance. One seed gives one stream on every machine. */
#ifndef TESTS_SIM_RANDOM_H
#define TESTS_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t random_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Mixed, for the streams of neighbouring seeds would be each other's, one step on. */
static inline void random_init(struct random *r, uint64_t seed)
{
    r->state = random_mix(random_mix(seed + 0x1234567u) + seed);
}

/* A 64-bit number (splitmix64). */
static inline uint64_t random_next(struct random *r)
{
    return random_mix(r->state += 0x9e3779b97f4a7c15u);
}

/* 0 .. bound - 1; bound is not 0. */
static inline uint64_t random_below(struct random *r, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)random_next(r) * bound) >> 64);
}

/* first .. last, both included. */
static inline uint64_t random_range(struct random *r, uint64_t first, uint64_t last)
{
    return first + random_below(r, last - first + 1);
}

/* True in per_mille of a thousand cases. */
static inline bool random_chance(struct random *r, uint32_t per_mille)
{
    return random_below(r, 1000) < per_mille;
}

/* Mostly small, sometimes up to max: min + an exponentially spread part. */
static inline uint64_t random_spread(struct random *r, uint64_t min, uint64_t max)
{
    if (max <= min)
        return min;
    uint64_t span = max - min;
    unsigned shift = (unsigned)random_below(r, 8);
    return min + random_below(r, (span >> shift) + 1);
}

#endif
