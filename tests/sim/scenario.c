#include "tests/sim/scenario.h"

#include <string.h>

#include "tests/sim/machine.h"

static void run_nothing(struct world *w)
{
    world_pass(w, 500);
}

const struct scenario scenarios[] = {
    {"calm", "nothing goes wrong, nobody asks", NULL, run_nothing},
};
const unsigned scenarios_count = sizeof scenarios / sizeof scenarios[0];

const struct scenario *scenario_find(const char *name)
{
    for (unsigned i = 0; i < scenarios_count; i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    return NULL;
}
