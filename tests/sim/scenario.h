/* Scenario: directed schedules, for what random ones reach rarely. Each is a short story told with
 * the world's verbs, and ends in the same second phase as every run. */
#ifndef TESTS_SIM_SCENARIO_H
#define TESTS_SIM_SCENARIO_H

#include "tests/sim/world.h"

struct scenario {
    const char *name;
    const char *sentence;           /* what happens */
    void (*knobs)(struct knobs *k); /* changes to knobs_calm(); may be NULL */
    void (*run)(struct world *w);   /* after world_start(); before world_calm() */
};

extern const struct scenario scenarios[];
extern const unsigned scenarios_count;

/* NULL: no such name. */
const struct scenario *scenario_find(const char *name);

#endif
