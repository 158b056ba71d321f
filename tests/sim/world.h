/* World: one simulated cluster with its clients, its disks, its network and its troubles.
 *
 * One seed draws everything: knobs, troubles, the workload, every delay. The processes are the very
 * cores of the product; machine, gateway and caller are their hands.
 *
 *   caller (session) --- gateway (coordinator) --- machine (node, log, store) --- machine
 *
 * Two phases. Safety: faults come and go while clients work. Liveness: the faults end, and within a
 * bounded time everything must be served, answered, and equal on all copies.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "tests/sim/history.h"
#include "tests/sim/network.h"
#include "tests/sim/queue.h"
#include "tests/sim/random.h"
#include "tests/sim/reach.h"

#define WORLD_NODES_MAX   4
#define WORLD_ROUTERS_MAX 3
#define WORLD_CLIENTS_MAX 8

/* Endpoints in the network. */
#define ENDPOINT_NODE(i)   (i)
#define ENDPOINT_ROUTER(i) (8u + (i))
#define ENDPOINT_CLIENT(i) (16u + (i))

struct machine;
struct gateway;
struct caller;
struct clustermap;
struct faults;
struct watch;

#define CLOCK_WRONG_PPM 10000 /* what the design allows */

/* Everything that differs between runs. Zero: that trouble is off. */
struct knobs {
    /* The cluster. */
    uint32_t nodes, routers, clients, partitions, copies;
    /* The node. */
    uint32_t pending_max, waiters_max;
    uint64_t kept_bytes_max; /* of committed entries, for members that come back */
    uint64_t pending_bytes_max, ask_primary_ms, commit_note_ms;
    uint64_t lease_replica_ms;
    uint64_t segment_size, retention_size;
    uint64_t overlay_entries_min, overlay_bytes_max;
    bool cold_reads; /* the table is read LATER, by fetches */
    uint64_t sync_min_us, sync_max_us;
    uint64_t turn_max_us; /* a turn's time */
    /* The router. */
    uint32_t slots;
    uint64_t silence_ms, attempt_ms;
    /* The clients. */
    uint32_t operations; /* of all clients together */
    uint32_t window, pipeline, keys;
    uint32_t confirm_per_mille, any_per_mille; /* of the reads, those that ask for it */
    uint32_t reads_per_mille, deletes_per_mille, increments_per_mille, conditions_per_mille;
    uint32_t expiries_per_mille;
    uint32_t parts_per_mille; /* appends, set ranges, decimal increments */
    uint32_t ranges_per_mille;  /* of the reads, those of a whole hash tag */
    uint32_t batches_per_mille; /* of the writes, those of several keys at once */
    uint32_t outcome_per_mille; /* of the writes in doubt, ask what became of them */
    uint64_t think_max_us, deadline_min_ms, deadline_max_ms;
    uint32_t value_size_max;
    uint32_t key_operations; /* then a fresh key takes its place */
    uint32_t clock_wrong_ppm; /* the nodes' monotone clocks; above CLOCK_WRONG_PPM leases are void */
    /* The weather of the network, by class of links. */
    struct network_weather weather[NETWORK_CLASSES];
    /* Troubles: mean time between them, in ms. */
    uint64_t crash_node_ms, crash_router_ms, crash_all_ms, pause_ms, block_ms, reset_ms;
    uint64_t stall_ms, disk_error_ms, disk_full_ms, checkpoint_ms, clock_ms, leap_ms;
    uint64_t other_disk_ms, voters_ms;
    uint32_t down_max_ms, block_max_ms, pause_max_ms;
    uint32_t power_per_mille;            /* of the crashes, lose what is not synced */
    uint32_t checkpoint_crash_per_mille; /* of the checkpoint's steps */
};

struct captured {
    uint32_t node;
    uint64_t source;
    struct buffer frame;
};

struct world {
    uint64_t seed;
    struct random random;
    struct knobs knobs;
    struct queue queue;
    struct network *network;
    struct watch *watch;
    struct clustermap *map; /* the first one, as in every node's cluster file */
    struct history history;
    struct faults *faults;
    struct machine *machines[WORLD_NODES_MAX];
    struct gateway *gateways[WORLD_ROUTERS_MAX];
    struct caller *callers[WORLD_CLIENTS_MAX];

    /* Requests that came to nodes while `capturing`, for scenarios that deliver them again. */
    bool capturing;
    struct captured *captured;
    size_t captured_count;

    bool calm; /* the second phase: no new troubles */
    bool tracing;
    uint64_t trace_hash; /* of everything that was sent and answered */
    uint64_t reached[REACH_COUNT];
    uint32_t undecided; /* keys whose history the checker gave up on */
    bool quiet;         /* a failure prints no details */
    bool starved;       /* until the calm memory runs out now and then */
    bool failed;
    char invariant[16];
    char failure[2000];
};

/* A world for a seed; operations 0: the seed's own choice. */
struct world *world_new(uint64_t seed, uint32_t operations);
/* The same with given knobs, and without random troubles: for directed scenarios. */
struct world *world_new_with(uint64_t seed, const struct knobs *knobs);
void world_destroy(struct world **w_p);

/* What a calm cluster looks like: the knobs that scenarios start from. */
void knobs_calm(struct knobs *k);
/* A random mixture. */
void knobs_draw(struct knobs *k, struct random *r);
void knobs_print(const struct knobs *k);

/* Run both phases; false: world->failure says what happened. */
bool world_run(struct world *w);
/* Let time pass, until a failure at most. */
void world_pass(struct world *w, uint64_t ms);
/* The second phase alone: end all troubles, everything must be served, answered, and equal. */
void world_calm(struct world *w);
/* Start all processes and wait until the cluster serves. */
void world_start(struct world *w);

/* A promise of the system is broken. The first one counts. */
void world_fail(struct world *w, const char *invariant, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Deliver every captured request once more. */
void world_deliver_again(struct world *w);
/* One line of the run, when tracing. */
void world_say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* At the end: what the processes counted goes to reached. */
void world_count(struct world *w);
/* Into the trace hash. */
void world_note(struct world *w, uint64_t tag, struct bytes data);

/* A process's clock: its own beginning, and its rate, wrong by up to wrong_ppm. */
struct world_clock {
    int64_t rate_ppm, offset_ms;
};

static inline void world_clock_draw(struct world_clock *c, struct random *r, uint32_t wrong_ppm)
{
    c->rate_ppm = (int64_t)random_range(r, 0, 2u * wrong_ppm) - (int64_t)wrong_ppm;
    c->offset_ms = (int64_t)random_range(r, 1000, 100000);
}

static inline uint64_t world_clock_ms(const struct world *w, const struct world_clock *c)
{
    int64_t now_us = (int64_t)w->queue.now_us;
    return (uint64_t)((now_us + now_us * c->rate_ppm / 1000000) / 1000 + c->offset_ms);
}

static inline uint64_t world_now_ms(const struct world *w)
{
    return w->queue.now_us / 1000;
}

#endif
