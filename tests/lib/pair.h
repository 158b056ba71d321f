/* Pair: two nodes over tables in memory, and a wire and a disk that the test controls; for unit
 * tests of the node's core. One partition per node leads: see pair_key(). The simulator does the
 * same with faults; here each step is the test's. */
#ifndef TESTS_LIB_PAIR_H
#define TESTS_LIB_PAIR_H

#include "proto/clustermap.h"
#include "storage/node.h"

#define PAIR_NODES 2
#define PAIR_ANSWERS_MAX 4096
#define PAIR_VALUE_MAX 4096
#define PAIR_FETCHES_MAX 8
#define PAIR_WALL_MS 1700000000000u /* the wall clock where now_ms is 0 */

struct pair_answer {
    uint64_t token;
    enum status status;
    uint32_t flags;
    struct version version;
    size_t value_size;
    uint8_t value[PAIR_VALUE_MAX];
};

struct pair_node {
    bool up;
    struct clustermap *map;
    struct table *table;
    struct store *store;
    struct node *node;
    uint64_t incarnation, disk; /* storage/identity.h */
    bool may_end;  /* it may end by itself: then it is down, and why is what it said */
    char why[256];
    struct buffer log; /* records that are durable */
    struct buffer memory; /* records appended, not durable */
    uint64_t durable, appended;
    bool fetches_stopped; /* what is fetched from the table waits; see pair_fetch() */
    struct node_effect fetches[PAIR_FETCHES_MAX];
    size_t fetches_count;
};

struct pair {
    struct pair_node nodes[PAIR_NODES];
    uint64_t now_ms;
    int64_t wall_skew_ms[PAIR_NODES]; /* how wrong each wall clock is */
    bool cut;          /* nothing passes between the nodes */
    bool disk_stopped[PAIR_NODES]; /* nothing becomes durable */
    bool drop_appends; /* the append lane loses everything */
    struct node_effect *wire; /* on its way: to node `peer` */
    size_t wire_count, wire_capacity;
    struct pair_answer answers[PAIR_ANSWERS_MAX];
    size_t answers_count;
    uint64_t token;
    uint32_t partitions;
    bool store_inline;
};

void pair_init(struct pair *p, uint32_t partitions, bool store_inline);
void pair_fini(struct pair *p);
void pair_start(struct pair *p, uint32_t node);
/* kill -9, and power: what was not durable is gone. */
void pair_crash(struct pair *p, uint32_t node);
/* Its directory is lost: the next start is one with an empty disk. It is down. */
void pair_wipe(struct pair *p, uint32_t node);
/* A copy of its directory as it is; none was checkpointed. And its return: it is down. */
struct pair_image {
    struct buffer log;
    uint64_t durable, incarnation;
};
void pair_image_take(const struct pair *p, uint32_t node, struct pair_image *ret);
void pair_image_put(struct pair *p, uint32_t node, struct pair_image *image);
/* Turns of both nodes until ms have passed (1 ms a step) . */
void pair_run(struct pair *p, uint64_t ms);
/* A key whose partition is led by node; n-th of them. Returns its size. */
size_t pair_key(const struct pair *p, uint32_t node, unsigned n, char to[static 32]);
/* Send one operation to node; returns its token. */
uint64_t pair_read(struct pair *p, uint32_t node, const char *key);
uint64_t pair_write(struct pair *p, uint32_t node, const char *key, uint64_t client, uint64_t seq,
                    const struct write *w);
uint64_t pair_outcome(struct pair *p, uint32_t node, const char *key, uint64_t client,
                      uint64_t seq, uint64_t ptime_token);
/* A read of something else than the value; a page of a walk (cursor: see data.proto). */
uint64_t pair_read_part(struct pair *p, uint32_t node, const char *key, enum read_part part);
uint64_t pair_scan(struct pair *p, uint32_t node, struct bytes cursor,
                   const struct scan_query *q);
/* The answer to token; NULL: none yet. The newest when there were several. */
const struct pair_answer *pair_answer(const struct pair *p, uint64_t token);
size_t pair_answers_to(const struct pair *p, uint64_t token);
void pair_checkpoint(struct pair *p, uint32_t node);
/* Fetches go on, those that wait first. */
void pair_fetch(struct pair *p, uint32_t node);

#endif
