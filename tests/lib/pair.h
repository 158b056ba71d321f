/* Pair: two nodes (or three) over tables in memory, and a wire and a disk that the test controls; for
 * unit tests of the node's core. One partition per node leads: see pair_key(). Two nodes have one
 * voter, node 0; three have three. The simulator does the same with faults; here each step is the
 * test's. */
#ifndef TESTS_LIB_PAIR_H
#define TESTS_LIB_PAIR_H

#include "proto/clustermap.h"
#include "storage/node.h"

#define PAIR_NODES 2 /* of pair_init() */
#define PAIR_NODES_MAX 3
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
    struct pair_node nodes[PAIR_NODES_MAX];
    uint32_t count;
    uint64_t now_ms;
    int64_t wall_skew_ms[PAIR_NODES_MAX]; /* how wrong each wall clock is */
    bool cut;          /* nothing passes between the nodes */
    bool deaf[PAIR_NODES_MAX]; /* nothing comes to it from the others */
    bool mute[PAIR_NODES_MAX]; /* nothing of what it sends arrives */
    uint64_t delay_ms; /* of what is sent from now on; at least one */
    bool disk_stopped[PAIR_NODES_MAX]; /* nothing becomes durable */
    bool drop_appends; /* the append lane loses everything */
    bool fetches_late; /* one fetch at a time comes back with the next pair_run(), not at once */
    bool fetch_held;
    uint32_t fetch_node;
    struct node_effect fetch;
    struct node_effect *wire; /* on its way: to node `peer` */
    size_t wire_count, wire_capacity;
    struct pair_answer answers[PAIR_ANSWERS_MAX];
    size_t answers_count;
    struct buffer said; /* the last frame to whom pair_ask() asked for */
    uint64_t token;
    uint64_t digest; /* not 0: that of all that is sent, whatever its key */
    uint32_t partitions;
    bool store_inline;
    const char *address[PAIR_NODES_MAX]; /* from the next start on; NULL: the map's */
    uint64_t kept_bytes_max; /* 0: the node's default */
};

void pair_init(struct pair *p, uint32_t partitions, bool store_inline);
/* Three nodes, inline reads. kept_bytes_max 0: the node's default. */
void pair_init_three(struct pair *p, uint32_t partitions, uint64_t kept_bytes_max);
void pair_fini(struct pair *p);
void pair_start(struct pair *p, uint32_t node);
/* kill -9, and power: what was not durable is gone. */
void pair_crash(struct pair *p, uint32_t node);
/* It is asked to stop soon, as by SIGTERM; and to stay after all, as by `duet admin undrain`. */
void pair_leave(struct pair *p, uint32_t node);
void pair_stay(struct pair *p, uint32_t node);
/* A frame from an admin comes to node; what it answers is p->said at once. */
void pair_ask(struct pair *p, uint32_t node, struct bytes frame);
/* As `duet admin voters` asks. */
void pair_voters(struct pair *p, uint32_t node, const uint32_t *voters, size_t count);
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
/* Deliver a frame to node as if another node had sent it. */
void pair_peer(struct pair *p, uint32_t node, struct bytes frame);
/* A key whose partition is led by node; n-th of them. Returns its size. */
size_t pair_key(const struct pair *p, uint32_t node, unsigned n, char to[static 32]);
/* Send one operation to node; returns its token. */
uint64_t pair_read(struct pair *p, uint32_t node, const char *key);
uint64_t pair_write(struct pair *p, uint32_t node, const char *key, uint64_t client, uint64_t seq,
                    const struct write *w);
uint64_t pair_outcome(struct pair *p, uint32_t node, const char *key, uint64_t client,
                      uint64_t seq, uint64_t ptime_token);
/* A batch about the tag of keys[0]. */
uint64_t pair_atomic(struct pair *p, uint32_t node, uint64_t client, uint64_t seq,
                     const char *const *keys, const struct write *writes, size_t count);
/* A read that says what of, and how; of something else than the value; a page of a walk (cursor: see data.proto). */
uint64_t pair_read_query(struct pair *p, uint32_t node, const char *key,
                         const struct read_query *q);
uint64_t pair_read_part(struct pair *p, uint32_t node, const char *key, enum read_part part);
uint64_t pair_scan(struct pair *p, uint32_t node, struct bytes cursor,
                   const struct scan_query *q);
/* A page of the tag of key. */
uint64_t pair_range(struct pair *p, uint32_t node, const char *key, const struct scan_query *q);
/* The answer to token; NULL: none yet. The newest when there were several. */
const struct pair_answer *pair_answer(const struct pair *p, uint64_t token);
size_t pair_answers_to(const struct pair *p, uint64_t token);
void pair_checkpoint(struct pair *p, uint32_t node);
/* Fetches go on, those that wait first. */
void pair_fetch(struct pair *p, uint32_t node);

#endif
