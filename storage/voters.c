#include "storage/voters.h"

#include "proto/base/mutant.h"

/* Bits of the places that node has among nodes. */
static uint32_t places(const uint32_t *nodes, uint32_t count, uint32_t node)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < count; i++)
        bits |= (uint32_t)(nodes[i] == node) << i;
    return bits;
}

static bool distinct(const uint32_t *nodes, uint32_t count)
{
    if (count > REGISTRY_VOTERS_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (nodes[i] >= NODES_MAX || places(nodes, count, nodes[i]) != 1u << i)
            return false;
    return true;
}

bool voters_hold(const struct registry_voters *v)
{
    return v->count > 0 && distinct(v->nodes, v->count) && distinct(v->next, v->next_count);
}

uint32_t voters_all(const struct registry_voters *v,
                    uint32_t ret_nodes[static 2 * REGISTRY_VOTERS_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < v->count; i++)
        ret_nodes[count++] = v->nodes[i];
    for (uint32_t i = 0; i < v->next_count; i++)
        if (places(v->nodes, v->count, v->next[i]) == 0)
            ret_nodes[count++] = v->next[i];
    return count;
}

bool voters_has(const struct registry_voters *v, uint32_t node)
{
    return (places(v->nodes, v->count, node) | places(v->next, v->next_count, node)) != 0;
}

void voters_count(const struct registry_voters *v, uint32_t node, struct voters_answered *answered)
{
    answered->nodes |= places(v->nodes, v->count, node);
    answered->next |= places(v->next, v->next_count, node);
}

static bool majority(uint32_t answered, uint32_t count)
{
    return (uint32_t)__builtin_popcount(answered) > count / 2;
}

bool voters_majority(const struct registry_voters *v, const struct voters_answered *answered)
{
    if (v->next_count == 0)
        return majority(answered->nodes, v->count);
    return (majority(answered->nodes, v->count) || MUTANT(42)) &&
           majority(answered->next, v->next_count);
}
