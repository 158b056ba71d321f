/* Clustermap: the cluster as registers joined by version.
 *
 * Each register stands alone ("cluster", "node/<i>", "partition/<p>"); whoever holds two maps takes
 * the newer of each register. Pure: no I/O. Not thread-safe.
 *
 * - clustermap_new() / clustermap_destroy()
 * - clustermap_found()      a first map: nodes given, partitions placed (epoch 0)
 * - clustermap_join()       take what is newer from a MAP message
 * - clustermap_message()    the whole map as a MAP message
 * - lookups: by partition, by node
 */
#ifndef PROTO_CLUSTERMAP_H
#define PROTO_CLUSTERMAP_H

#include "proto/base/arena.h"
#include "proto/base/buffer.h"
#include "proto/limits.h"
#include "proto/message.h"

struct clustermap_node {
    uint64_t version; /* of the register; 0: this index is not used */
    struct id128 id;
    char name[NAME_SIZE_MAX], host[NAME_SIZE_MAX], rack[NAME_SIZE_MAX];
    char address[ADDRESS_SIZE_MAX]; /* "tcp://HOST:PORT" */
    uint32_t weight, state;
    uint64_t incarnation;
    uint64_t disk; /* of its directory, 0: not recorded */
};

struct clustermap_partition {
    uint64_t version;
    uint64_t epoch;
    bool opened;                  /* all of isr have promised the epoch: it may read and commit */
    uint32_t primary;             /* node index */
    uint32_t isr_count;
    uint32_t isr[COPIES_MAX];     /* node indexes, the primary among them */
    uint64_t replica_ids[COPIES_MAX]; /* of isr, same order */
    uint32_t assigned_count;
    uint32_t assigned[COPIES_MAX];
    uint32_t base_count;
    uint32_t base[COPIES_MAX];    /* isr of the last epoch that was opened */
    uint64_t beacon_epoch, beacon_seq; /* everything up to there is committed */
    uint32_t state;
};

/* Who keeps the registers, as node indexes; and who is to: next_count 0: no change is under way. */
struct clustermap_voters {
    uint32_t count, next_count;
    uint32_t nodes[VOTERS_MAX], next[VOTERS_MAX];
};

struct clustermap {
    uint64_t version; /* sum of all registers' versions: differs when anything differs */
    uint64_t cluster_version;
    struct id128 cluster_id;
    uint32_t partition_count, copies, isr_min;
    struct clustermap_voters voters;
    uint32_t nodes_count; /* highest used index + 1 */
    struct clustermap_node nodes[NODES_MAX];
    struct clustermap_partition *partitions; /* partition_count of them, or NULL when empty */
};

/* An empty map (version 0, no partitions); NULL when out of memory. */
struct clustermap *clustermap_new(void);
void clustermap_destroy(struct clustermap **map_p);

/* Make the first map of a cluster: m->nodes[0..nodes_count) and cluster_id, partition_count,
 * copies, isr_min are filled in by the caller, this places the partitions, gives each replica an id
 * (drawn from SHA-256(cluster id, partition, node id): the same on every node), takes the first three
 * nodes as voters (the first alone when there are fewer) and sets all register versions to 1. STATUS_OK, STATUS_CONFIG (bad counts, duplicate names or ids; reterr says which),
 * STATUS_NOMEMORY. */
enum status clustermap_found(struct clustermap *map, struct error *reterr);

/* Take every register of m that is newer than ours. *ret_changed says whether any was.
 * STATUS_MALFORMED: a register does not decode or is out of bounds; STATUS_WRONGCLUSTER: another
 * cluster id (ours is not empty); in both cases nothing was taken. */
enum status clustermap_join(struct clustermap *map, const struct map_message *m, bool *ret_changed);

/* Append the whole map as one MAP frame to out. */
enum status clustermap_pack(const struct clustermap *map, struct buffer *out);
/* The same with the registers of these partitions only. */
enum status clustermap_pack_partitions(const struct clustermap *map, const uint32_t *partitions,
                                       size_t count, struct buffer *out);

/* The same without any partition's register: the cluster and its nodes. */
enum status clustermap_pack_nodes(const struct clustermap *map, struct buffer *out);

/* One register's value as bytes, appended to out: that of the cluster, with these voters, and of a
 * node. */
enum status clustermap_encode_cluster(const struct clustermap *map,
                                      const struct clustermap_voters *voters, struct buffer *out);
enum status clustermap_encode_node(const struct clustermap_node *node, struct buffer *out);
/* And back: taken if version is above ours (*ret_changed). name is "cluster" or "node/<index>". Same
 * errors as clustermap_join(); the map is not empty. */
enum status clustermap_take(struct clustermap *map, const char *name, uint64_t version,
                            struct bytes value, bool *ret_changed);

/* One partition's register: its value as bytes, appended to out; and back: taken if version is above
 * ours (*ret_changed). Same errors as clustermap_join(); the map is not empty. */
enum status clustermap_encode_partition(const struct clustermap_partition *partition,
                                        struct buffer *out);
enum status clustermap_take_partition(struct clustermap *map, uint32_t p, uint64_t version,
                                      struct bytes value, bool *ret_changed);

/* The id of node's replica of a partition, drawn from SHA-256(cluster id, partition, node id). */
uint64_t clustermap_replica_id(const struct clustermap *map, uint32_t partition, uint32_t node);

static inline bool clustermap_empty(const struct clustermap *map)
{
    return map->partitions == NULL;
}

/* Is it "tcp://HOST:PORT", with room for the two ports above it, and can stand in a cluster file? */
bool clustermap_address_good(const char *address);
/* Would nodes at these addresses, both good, want the same port of one host? Each takes three, from its
 * own on. Hosts are compared as text. */
bool clustermap_addresses_meet(const char *a, const char *b);

/* Sum of the versions of the registers of the cluster and its nodes: differs when one differs. */
uint64_t clustermap_nodes_version(const struct clustermap *map);

/* Set partition p to epoch (opened), under a version that is higher than before and than epoch. For
 * tests. */
void clustermap_set_epoch(struct clustermap *map, uint32_t p, uint64_t epoch);

/* Index of the node with this name, or with this id; UINT32_MAX when there is none. */
uint32_t clustermap_node_by_name(const struct clustermap *map, const char *name);
uint32_t clustermap_node_by_id(const struct clustermap *map, struct id128 id);

#endif
