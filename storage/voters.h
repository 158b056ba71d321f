/* Voters: sets of voters and their majorities (struct registry_voters, registry.h). Pure. */
#ifndef STORAGE_VOTERS_H
#define STORAGE_VOTERS_H

#include "storage/registry.h"

/* Who has answered: a bit for each place in nodes and next. */
struct voters_answered {
    uint32_t nodes, next;
};

/* Is it a set? Somebody votes, nobody twice, and nobody who cannot be. */
bool voters_hold(const struct registry_voters *v);
/* All voters, those of both sets once. Returns their number. */
uint32_t voters_all(const struct registry_voters *v,
                    uint32_t ret_nodes[static 2 * REGISTRY_VOTERS_MAX]);
bool voters_has(const struct registry_voters *v, uint32_t node);
/* Nobody but a voter counts. */
void voters_count(const struct registry_voters *v, uint32_t node, struct voters_answered *answered);
/* A majority; of both sets while the voters change. */
bool voters_majority(const struct registry_voters *v, const struct voters_answered *answered);

#endif
