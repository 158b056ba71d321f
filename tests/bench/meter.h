/* Meter: the longest time between two acknowledged operations of one key, for the probers gaps.c
 * and redis_gaps.c, which keep one operation of each key under way.
 *
 * A gap ends with an acknowledgement and counts from the one before it, also when a mark lies
 * between the two; what has not ended yet is told as open. Not thread-safe. Times in nanoseconds.
 */
#ifndef TESTS_BENCH_METER_H
#define TESTS_BENCH_METER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define METER_KEYS_MAX 256

/* Of operations of one kind; what counts is what came since the last mark. */
struct meter {
    uint32_t keys_count;
    uint64_t acknowledged, failed, in_doubt;  /* operations that ended in each way */
    uint64_t acknowledged_ns[METER_KEYS_MAX]; /* when, the last time, of each key */
    uint64_t gap_ns[METER_KEYS_MAX];          /* the longest of each key */
};

/* Nothing was asked yet; the first gap of each key counts from now_ns. */
void meter_init(struct meter *m, uint32_t keys_count, uint64_t now_ns);

/* An operation on key was acknowledged. */
void meter_acknowledge(struct meter *m, uint32_t key, uint64_t now_ns);

/* Begin anew: gaps and counts so far are forgotten. */
void meter_mark(struct meter *m);

/* The longest gap of all keys that has ended. */
uint64_t meter_worst_ns(const struct meter *m);

/* The longest time that a key is without an acknowledgement by now. */
uint64_t meter_open_ns(const struct meter *m, uint64_t now_ns);

/* Print `{"worst_ms": ..., "open_ms": ..., "acknowledged": ..., "failed": ..., "in_doubt": ...,
 * "gaps_ms": [of each key]}`, without a line end. */
void meter_print(const struct meter *m, uint64_t now_ns, FILE *to);

/* The meters of a prober: what its driver asks for on stdin. */
struct meters {
    struct meter writes, reads;
    uint64_t late_ns; /* the prober itself was woken so much later than it wanted to be */
};

/* Take a command from stdin, which is readable, and answer on stdout with one line of JSON: "look",
 * or "mark", which begins anew after its answer. False: stdin has ended. */
bool meter_obey(struct meters *all);

#endif
