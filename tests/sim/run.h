/* Run: one world in a process of its own, so that whatever it does (an ENSURE, a sanitizer's
 * report) is a result. */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/reach.h"

struct run_order {
    uint64_t seed;
    const char *scenario; /* NULL: the seed's random world */
    uint32_t operations;  /* 0: the seed's own choice */
    unsigned mutant;
    bool starved; /* memory runs out now and then (memory.h) */
    bool tracing;
    bool quiet; /* nothing is printed */
};

struct run_result {
    bool failed;
    char invariant[16]; /* "ENSURE" when the process died */
    char failure[400];
    uint64_t trace_hash, operations, in_doubt, events, simulated_ms;
    uint32_t undecided;
    uint64_t reached[REACH_COUNT];
};

/* In this process. */
void run_here(const struct run_order *order, struct run_result *ret);

/* Several at a time: called for the results in the order of orders. Return false to stop early. */
typedef bool run_done_fn(void *arg, const struct run_order *order, const struct run_result *result);
typedef bool run_next_fn(void *arg, struct run_order *ret); /* false: no more */
void run_many(unsigned jobs, run_next_fn *next, run_done_fn *done, void *arg);

#endif
