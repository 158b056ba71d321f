/* Watch: the promises of the system, each checked while the simulation runs.
 *
 * The watch sees what no process sees: every record that a node hands to its log and up to where
 * the disk holds it, every commit, every frame. From that it keeps the truth: which entries are
 * committed, and what would survive a crash of each node.
 *
 *   I1  an epoch of a partition is led by one node, in one incarnation
 *   I2  a promise that left a node is there after its restart; promises never fall
 *   I3  at its commit an entry is on the disk of every member, and stays there
 *   I4  the same (epoch, seq) has the same chain hash wherever it shows
 *   I5  what is committed at a position never changes
 *   I6  what is answered is committed
 *   I8  a client's operation has at most one committed entry, and all answers to it are its
 *   I13 at rest all copies are equal, completion records included
 *   I14 commit <= verified <= last, commit <= durable
 *   I19 bounds hold
 *   I21 nothing is acknowledged after a failed sync (machine.c tells the watch of failures)
 *   I22 an operation that was called not done is never committed (routers may die at any time)
 *
 * Linearizability (I7) is the history's, liveness (I18) the world's.
 */
#ifndef TESTS_SIM_WATCH_H
#define TESTS_SIM_WATCH_H

#include "proto/clustermap.h"
#include "storage/node.h"
#include "tests/sim/checker.h"
#include "tests/sim/network.h"

struct world;
struct watch;

struct watch *watch_new(struct world *w, const struct clustermap *map);
void watch_destroy(struct watch **watch_p);

/* A node handed framed records to its log, the first with lsn first. */
void watch_records(struct watch *x, uint32_t node, uint64_t first, struct bytes records);
/* Its disk holds everything up to lsn. */
void watch_durable(struct watch *x, uint32_t node, uint64_t lsn);
/* A write or a sync of its log failed: nothing may become durable in this life. */
void watch_disk_failed(struct watch *x, uint32_t node);
/* It has recovered: its log goes on at next_lsn, all before is durable. */
void watch_recovered(struct watch *x, uint32_t node, const struct node *n, uint64_t next_lsn);
/* It runs on another disk than its own: what happens to that one is no news of what was promised and
 * acknowledged, and must lead to nothing. What it commits and answers is still judged. */
void watch_look_away(struct watch *x, uint32_t node, bool away);
/* node_on_commit()'s callback, for one node. */
void watch_commit(struct watch *x, uint32_t node, uint32_t partition,
                  const struct node_replica_view *v, const struct entry *e, uint64_t hash);
/* After a turn. */
void watch_turn(struct watch *x, uint32_t node, const struct node *n);
/* A frame is being sent. */
void watch_frame(struct watch *x, uint32_t from, uint32_t to, struct bytes frame);

/* At rest: compare the copies that two nodes have of a partition (I13). */
void watch_compare(struct watch *x, uint32_t partition, uint32_t a, const struct node *node_a,
                   struct store *store_a, uint32_t b, const struct node *node_b,
                   struct store *store_b);
/* At the end: what the clients heard against what was committed (I6, I8, I22). */
void watch_judge(struct watch *x);
/* R7: the lapses of this key that are committed, as writes of its history; at most max. Their number. */
size_t watch_lapses(const struct watch *x, struct bytes key, struct checker_operation *to, size_t max);
/* Of all keys. */
size_t watch_lapses_count(const struct watch *x);

/* What became of a client's write in doubt, for a history that cannot be judged without: op, item's on
 * key, is NOT_DONE, or DONE at some time, with the status and version of its entry. */
struct history_item;
void watch_resolve(const struct watch *x, const struct history_item *item, struct bytes key,
                   struct checker_operation *op);

/* Highest committed position of a partition, as far as anybody knows. */
/* Are all copies that placement wants members of their partitions, as far as any node has shown? */
bool watch_full(const struct watch *x);
uint64_t watch_committed(const struct watch *x, uint32_t partition);

#endif
