/* Trio: three nodes over one partition, for tests of who leads and who may read. What the tests of
 * epoch, lease and snapshot have in common. Include last, after cmocka. */
#ifndef TESTS_UNIT_TRIO_H
#define TESTS_UNIT_TRIO_H

#include "tests/lib/pair.h"

#define TRIO_SETTLED_MS 3000 /* after a start or a failure everything is as it should be again */

static struct pair p;
static uint32_t primary, replica, third; /* as placement wants it; third only votes */
static uint64_t written;                 /* seq of the newest write */

static inline void trio_open(uint64_t kept_bytes_max)
{
    pair_init_three(&p, 1, kept_bytes_max);
    const struct clustermap_partition *part = &p.nodes[0].map->partitions[0];
    primary = part->assigned[0];
    replica = part->assigned[1];
    third = 3 - primary - replica;
    written = 0;
    pair_run(&p, TRIO_SETTLED_MS);
}

static inline int trio_close(void **state)
{
    (void)state;
    pair_fini(&p);
    return 0;
}

static inline struct node_replica_view view(uint32_t node)
{
    struct node_replica_view v = {0};
    if (p.nodes[node].up)
        assert_true(node_replica(p.nodes[node].node, 0, &v));
    return v;
}

static inline struct node_counters counters(uint32_t node)
{
    struct node_counters c;
    node_count(p.nodes[node].node, &c);
    return c;
}

static inline bool leads(uint32_t node)
{
    struct node_replica_view v = view(node);
    return v.primary && v.opened;
}

/* Is `of` in the ISR, as node knows it? */
static inline bool has_member(uint32_t node, uint32_t of)
{
    struct node_replica_view v = view(node);
    for (uint32_t i = 0; i < v.isr_count; i++)
        if (v.isr[i] == of)
            return true;
    return false;
}

static inline bool readable(uint32_t node)
{
    return p.nodes[node].up && node_readable(p.nodes[node].node, 0, p.now_ms);
}

static inline void cut_off(uint32_t node, bool cut)
{
    p.deaf[node] = p.mute[node] = cut;
}

/* One more write, of key "key", at node. Its token. */
static inline uint64_t put_at(uint32_t node)
{
    char value[32];
    snprintf(value, sizeof value, "value %u", (unsigned)++written);
    struct write w = {.mutation = MUTATION_PUT, .value = bytes_text(value)};
    return pair_write(&p, node, "key", 9, written, &w);
}

static inline bool is_done(uint64_t token)
{
    const struct pair_answer *a = pair_answer(&p, token);
    return a != NULL && a->status == STATUS_OK;
}

#endif
