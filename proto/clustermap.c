#include "proto/clustermap.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "proto/partition.h"
#include "proto/placement.h"

#define NONE                   UINT32_MAX
#define REGISTER_NAME_SIZE_MAX 24
#define PORTS_OF_A_NODE        3 /* requests, peers, bulk */
#define PORT_MAX               (65535 - PORTS_OF_A_NODE + 1)
#define VALUE_BYTES_MAX        1024               /* of one register */
#define ARENA_CAP              ((size_t)64 << 10) /* for one register's value */

struct clustermap *clustermap_new(void)
{
    return calloc(1, sizeof(struct clustermap));
}

void clustermap_destroy(struct clustermap **map_p)
{
    if (map_p == NULL || *map_p == NULL)
        return;
    free((*map_p)->partitions);
    free(*map_p);
    *map_p = NULL;
}

/* ---- The first map ---------------------------------------------------------------------------*/

static bool id_equal(struct id128 a, struct id128 b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static enum status check_counts(const struct clustermap *map, struct error *reterr)
{
    uint32_t count = map->partition_count;
    if (count == 0 || count > PARTITIONS_MAX || (count & (count - 1)) != 0)
        return error_set(reterr, STATUS_CONFIG, "%u partitions: must be a power of two up to %u",
                         count, PARTITIONS_MAX);
    if (map->copies == 0 || map->copies > COPIES_MAX)
        return error_set(reterr, STATUS_CONFIG, "%u copies: must be 1 to %u", map->copies,
                         COPIES_MAX);
    if (map->isr_min == 0 || map->isr_min > map->copies)
        return error_set(reterr, STATUS_CONFIG, "isr_min is %u: must be 1 to the %u copies",
                         map->isr_min, map->copies);
    if (map->nodes_count == 0 || map->nodes_count > NODES_MAX)
        return error_set(reterr, STATUS_CONFIG, "%u nodes: must be 1 to %u", map->nodes_count,
                         NODES_MAX);
    uint32_t holders = 0;
    for (uint32_t i = 0; i < map->nodes_count; i++)
        holders += map->nodes[i].weight > 0;
    if (holders < map->isr_min)
        return error_set(reterr, STATUS_CONFIG, "%u nodes with weight: isr_min asks for %u",
                         holders, map->isr_min);
    return STATUS_OK;
}

static enum status check_node(const struct clustermap *map, uint32_t i, struct error *reterr)
{
    const struct clustermap_node *node = &map->nodes[i];
    if (node->name[0] == 0)
        return error_set(reterr, STATUS_CONFIG, "node %u has no name", i);
    if (node->address[0] == 0)
        return error_set(reterr, STATUS_CONFIG, "node '%s' has no address", node->name);
    for (uint32_t j = 0; j < i; j++) {
        const struct clustermap_node *other = &map->nodes[j];
        if (strcmp(other->name, node->name) == 0)
            return error_set(reterr, STATUS_CONFIG, "two nodes have the name '%s'", node->name);
        if (clustermap_addresses_meet(other->address, node->address))
            return error_set(reterr, STATUS_CONFIG,
                             "nodes '%s' and '%s' want the same ports: %s and %s; each takes three, "
                             "from its own on",
                             other->name, node->name, other->address, node->address);
        if (id_equal(other->id, node->id))
            return error_set(reterr, STATUS_CONFIG, "nodes '%s' and '%s' have one id", other->name,
                             node->name);
    }
    return STATUS_OK;
}

/* Numbers for placement: equal hosts, equal numbers. A node without a host label is a host of its
 * own; nodes without a rack label are in one rack. */
static void domains_of(const struct clustermap *map, struct placement_node *nodes)
{
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        nodes[i].host = nodes[i].rack = i;
        for (uint32_t j = i; j-- > 0;) {
            if (map->nodes[i].host[0] != 0 && strcmp(map->nodes[i].host, map->nodes[j].host) == 0)
                nodes[i].host = nodes[j].host;
            if (strcmp(map->nodes[i].rack, map->nodes[j].rack) == 0)
                nodes[i].rack = nodes[j].rack;
        }
    }
}

static enum status place(const struct clustermap *map, struct placement_row *rows)
{
    struct placement_node *nodes = calloc(map->nodes_count, sizeof *nodes);
    if (nodes == NULL)
        return STATUS_NOMEMORY;
    domains_of(map, nodes);
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        nodes[i].id = map->nodes[i].id;
        nodes[i].weight = map->nodes[i].weight;
    }
    enum status s =
        placement_compute(nodes, map->nodes_count, map->partition_count, map->copies, rows);
    free(nodes);
    return s;
}

uint64_t clustermap_replica_id(const struct clustermap *map, uint32_t partition, uint32_t node)
{
    uint8_t input[sizeof(struct id128) * 2 + 4], sha256[32];
    memcpy(input, &map->cluster_id, sizeof map->cluster_id);
    bytes_put_be32(input + sizeof map->cluster_id, partition);
    memcpy(input + sizeof map->cluster_id + 4, &map->nodes[node].id, sizeof(struct id128));
    partition_sha256(bytes_of(input, sizeof input), sha256);
    return bytes_be64(sha256);
}

static void partition_found(const struct clustermap *map, uint32_t p,
                            const struct placement_row *row, struct clustermap_partition *ret)
{
    *ret = (struct clustermap_partition){
        .version = 1,
        .opened = true,
        .primary = row->nodes[0],
        .base_count = row->count,
        .isr_count = row->count,
        .assigned_count = row->count,
    };
    for (uint32_t i = 0; i < row->count; i++) {
        ret->isr[i] = ret->base[i] = ret->assigned[i] = row->nodes[i];
        ret->replica_ids[i] = clustermap_replica_id(map, p, row->nodes[i]);
    }
}

enum status clustermap_found(struct clustermap *map, struct error *reterr)
{
    ENSURE(clustermap_empty(map));
    enum status s = check_counts(map, reterr);
    for (uint32_t i = 0; s == STATUS_OK && i < map->nodes_count; i++)
        s = check_node(map, i, reterr);
    if (s != STATUS_OK)
        return s;
    struct placement_row *rows = calloc(map->partition_count, sizeof *rows);
    struct clustermap_partition *partitions = calloc(map->partition_count, sizeof *partitions);
    s = rows == NULL || partitions == NULL ? STATUS_NOMEMORY : place(map, rows);
    if (s != STATUS_OK) {
        free(rows);
        free(partitions);
        return error_set(reterr, s, "cannot place partitions: %s", status_text(s));
    }
    for (uint32_t p = 0; p < map->partition_count; p++)
        partition_found(map, p, &rows[p], &partitions[p]);
    free(rows);
    for (uint32_t i = 0; i < map->nodes_count; i++)
        map->nodes[i].version = 1;
    map->partitions = partitions;
    map->voters = (struct clustermap_voters){.count = map->nodes_count >= 3 ? 3 : 1};
    for (uint32_t i = 0; i < map->voters.count; i++)
        map->voters.nodes[i] = i;
    map->cluster_version = 1;
    map->version = 1 + (uint64_t)map->nodes_count + map->partition_count;
    return STATUS_OK;
}

/* ---- Joining ---------------------------------------------------------------------------------*/

enum register_kind { REGISTER_UNKNOWN, REGISTER_CLUSTER, REGISTER_NODE, REGISTER_PARTITION };

/* The number after prefix in name, NONE when name is another or the number is not a plain one
 * below limit. */
static uint32_t name_number(struct bytes name, const char *prefix, uint32_t limit)
{
    struct bytes start = bytes_text(prefix);
    if (name.size <= start.size || memcmp(name.data, start.data, start.size) != 0)
        return NONE;
    if (name.data[start.size] == '0' && name.size > start.size + 1)
        return NONE;
    uint32_t number = 0;
    for (size_t i = start.size; i < name.size; i++) {
        if (name.data[i] < '0' || name.data[i] > '9')
            return NONE;
        number = number * 10 + (name.data[i] - (uint32_t)'0');
        if (number >= limit)
            return NONE;
    }
    return number;
}

static bool name_starts(struct bytes name, const char *prefix)
{
    struct bytes start = bytes_text(prefix);
    return name.size >= start.size && memcmp(name.data, start.data, start.size) == 0;
}

/* A join under way: what the message holds that is newer than ours, checked and then taken. */
struct join {
    struct clustermap *map;
    const struct map_message *message;
    struct arena arena;
    bool founding;            /* ours is empty: the message must be whole */
    struct id128 cluster_id;  /* ours, or the message's */
    uint32_t partition_count; /* the same */
    bool known[NODES_MAX];    /* nodes that will be in the map */
    bool *placed;             /* founding: partitions that will be in the map */
};

static enum register_kind kind_of(struct bytes name)
{
    if (bytes_equal(name, bytes_text("cluster")))
        return REGISTER_CLUSTER;
    if (name_starts(name, "node/"))
        return REGISTER_NODE;
    if (name_starts(name, "partition/"))
        return REGISTER_PARTITION;
    return REGISTER_UNKNOWN;
}

static void copy_text(char *to, struct bytes text)
{
    memcpy(to, text.data, text.size);
    to[text.size] = 0;
}

static enum status decode_node(struct join *join, const struct reg *r, struct clustermap_node *ret)
{
    struct node_value value;
    arena_reset(&join->arena, ARENA_CAP);
    if (codec_unpack_node_value(r->value, &join->arena, &value) != STATUS_OK)
        return STATUS_MALFORMED;
    *ret = (struct clustermap_node){
        .version = r->version,
        .weight = value.weight,
        .state = value.state,
        .incarnation = value.incarnation,
        .disk = value.disk,
    };
    memcpy(&ret->id, value.node_id.data, sizeof ret->id);
    copy_text(ret->name, value.name);
    copy_text(ret->address, value.address);
    copy_text(ret->host, value.host);
    copy_text(ret->rack, value.rack);
    return STATUS_OK;
}

/* Are they different from each other, and all of them nodes that we know? */
static bool members_valid(const struct join *join, const uint32_t *members, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!join->known[members[i]])
            return false;
        for (size_t j = 0; j < i; j++)
            if (members[j] == members[i])
                return false;
    }
    return true;
}

static bool contains(const uint32_t *members, size_t count, uint32_t member)
{
    for (size_t i = 0; i < count; i++)
        if (members[i] == member)
            return true;
    return false;
}

static enum status decode_partition(struct join *join, const struct reg *r,
                                    struct clustermap_partition *ret)
{
    struct partition_value value;
    arena_reset(&join->arena, ARENA_CAP);
    if (codec_unpack_partition_value(r->value, &join->arena, &value) != STATUS_OK)
        return STATUS_MALFORMED;
    if (!members_valid(join, value.isr, value.isr_count) ||
        !members_valid(join, value.assigned, value.assigned_count) ||
        !members_valid(join, value.base, value.base_count) ||
        !contains(value.isr, value.isr_count, value.primary))
        return STATUS_MALFORMED;
    *ret = (struct clustermap_partition){
        .version = r->version,
        .epoch = value.epoch,
        .opened = value.opened,
        .primary = value.primary,
        .isr_count = (uint32_t)value.isr_count,
        .assigned_count = (uint32_t)value.assigned_count,
        .base_count = (uint32_t)value.base_count,
        .beacon_epoch = value.beacon_epoch,
        .beacon_seq = value.beacon_seq,
        .state = value.state,
    };
    for (uint32_t i = 0; i < ret->base_count; i++)
        ret->base[i] = value.base[i];
    for (uint32_t i = 0; i < ret->isr_count; i++) {
        ret->isr[i] = value.isr[i];
        ret->replica_ids[i] = value.isr_replica_ids == NULL ? 0 : value.isr_replica_ids[i];
    }
    for (uint32_t i = 0; i < ret->assigned_count; i++)
        ret->assigned[i] = value.assigned[i];
    return STATUS_OK;
}

/* Whose message is it? Sets cluster_id and partition_count when ours is empty. */
static enum status check_cluster(struct join *join)
{
    bool known = !join->founding;
    for (size_t i = 0; i < join->message->count; i++) {
        const struct reg *r = &join->message->registers[i];
        if (kind_of(r->name) != REGISTER_CLUSTER)
            continue;
        struct cluster_value value;
        arena_reset(&join->arena, ARENA_CAP);
        if (codec_unpack_cluster_value(r->value, &join->arena, &value) != STATUS_OK)
            return STATUS_MALFORMED;
        if (!known) {
            memcpy(&join->cluster_id, value.cluster_id.data, sizeof join->cluster_id);
            join->partition_count = value.partition_count;
            known = true;
        }
        if (memcmp(&join->cluster_id, value.cluster_id.data, sizeof join->cluster_id) != 0)
            return STATUS_WRONGCLUSTER;
        if (value.partition_count != join->partition_count || r->version == 0)
            return STATUS_MALFORMED;
    }
    return known ? STATUS_OK : STATUS_MALFORMED;
}

static enum status check_nodes(struct join *join)
{
    for (uint32_t i = 0; i < join->map->nodes_count; i++)
        join->known[i] = join->map->nodes[i].version > 0;
    for (size_t i = 0; i < join->message->count; i++) {
        const struct reg *r = &join->message->registers[i];
        if (kind_of(r->name) != REGISTER_NODE)
            continue;
        uint32_t n = name_number(r->name, "node/", NODES_MAX);
        if (n == NONE)
            return STATUS_MALFORMED;
        struct clustermap_node node;
        if (r->version > join->map->nodes[n].version) {
            if (decode_node(join, r, &node) != STATUS_OK)
                return STATUS_MALFORMED;
            join->known[n] = true;
        }
    }
    return STATUS_OK;
}

static uint64_t partition_version(const struct join *join, uint32_t p)
{
    return join->founding ? 0 : join->map->partitions[p].version;
}

static enum status check_partitions(struct join *join)
{
    uint32_t placed_count = 0;
    for (size_t i = 0; i < join->message->count; i++) {
        const struct reg *r = &join->message->registers[i];
        if (kind_of(r->name) != REGISTER_PARTITION)
            continue;
        uint32_t p = name_number(r->name, "partition/", join->partition_count);
        if (p == NONE)
            return STATUS_MALFORMED;
        if (r->version <= partition_version(join, p))
            continue;
        struct clustermap_partition partition;
        if (decode_partition(join, r, &partition) != STATUS_OK)
            return STATUS_MALFORMED;
        placed_count += !join->placed[p];
        join->placed[p] = true;
    }
    if (join->founding && placed_count != join->partition_count)
        return STATUS_MALFORMED;
    return STATUS_OK;
}

static void take_cluster(struct join *join, const struct reg *r)
{
    struct clustermap *map = join->map;
    struct cluster_value value;
    if (r->version <= map->cluster_version)
        return;
    arena_reset(&join->arena, ARENA_CAP);
    enum status s = codec_unpack_cluster_value(r->value, &join->arena, &value);
    ENSURE(s == STATUS_OK);
    map->version += r->version - map->cluster_version;
    map->cluster_version = r->version;
    map->cluster_id = join->cluster_id;
    map->partition_count = join->partition_count;
    map->copies = value.copies;
    map->isr_min = value.isr_min;
    map->voters = (struct clustermap_voters){.count = (uint32_t)value.voters_count,
                                             .next_count = (uint32_t)value.next_count};
    for (uint32_t i = 0; i < map->voters.count; i++)
        map->voters.nodes[i] = value.voters[i];
    for (uint32_t i = 0; i < map->voters.next_count; i++)
        map->voters.next[i] = value.next[i];
}

static void take_node(struct join *join, const struct reg *r)
{
    struct clustermap *map = join->map;
    uint32_t n = name_number(r->name, "node/", NODES_MAX);
    uint64_t old_version = map->nodes[n].version;
    if (r->version <= old_version)
        return;
    enum status s = decode_node(join, r, &map->nodes[n]);
    ENSURE(s == STATUS_OK);
    map->version += r->version - old_version;
    if (map->nodes_count <= n)
        map->nodes_count = n + 1;
}

static void take_partition(struct join *join, const struct reg *r)
{
    struct clustermap *map = join->map;
    uint32_t p = name_number(r->name, "partition/", join->partition_count);
    uint64_t old_version = map->partitions[p].version;
    if (r->version <= old_version)
        return;
    enum status s = decode_partition(join, r, &map->partitions[p]);
    ENSURE(s == STATUS_OK);
    map->version += r->version - old_version;
}

static void take(struct join *join)
{
    for (size_t i = 0; i < join->message->count; i++) {
        const struct reg *r = &join->message->registers[i];
        switch (kind_of(r->name)) {
        case REGISTER_UNKNOWN: /* of a later version */
            break;
        case REGISTER_CLUSTER:
            take_cluster(join, r);
            break;
        case REGISTER_NODE:
            take_node(join, r);
            break;
        case REGISTER_PARTITION:
            take_partition(join, r);
            break;
        }
    }
}

/* Memory for the partitions, when the map has none yet, and for the check. */
static bool join_prepare(struct join *join, struct clustermap_partition **ret_partitions)
{
    join->placed = calloc(join->partition_count, sizeof *join->placed);
    *ret_partitions = NULL;
    if (join->founding)
        *ret_partitions = calloc(join->partition_count, sizeof **ret_partitions);
    return join->placed != NULL && (!join->founding || *ret_partitions != NULL);
}

/* What does not decode although there is memory is the value's fault. The arena keeps its first block,
 * and a value takes no more. */
static enum status memory_first(struct join *join)
{
    arena_reset(&join->arena, ARENA_CAP);
    return arena_alloc(&join->arena, 1) == NULL ? STATUS_NOMEMORY : STATUS_OK;
}

static enum status join_run(struct join *join)
{
    struct clustermap_partition *partitions = NULL;
    enum status s = memory_first(join);
    if (s == STATUS_OK)
        s = check_cluster(join);
    if (s == STATUS_OK)
        s = check_nodes(join);
    if (s == STATUS_OK && !join_prepare(join, &partitions))
        s = STATUS_NOMEMORY;
    if (s == STATUS_OK)
        s = check_partitions(join);
    if (s != STATUS_OK) {
        free(partitions);
        return s;
    }
    if (join->founding)
        join->map->partitions = partitions;
    take(join);
    return STATUS_OK;
}

enum status clustermap_join(struct clustermap *map, const struct map_message *m, bool *ret_changed)
{
    struct join *join = calloc(1, sizeof *join);
    if (join == NULL)
        return STATUS_NOMEMORY;
    join->map = map;
    join->message = m;
    join->founding = clustermap_empty(map);
    join->cluster_id = map->cluster_id;
    join->partition_count = map->partition_count;
    arena_init(&join->arena);
    const uint64_t version = map->version;
    enum status s = join_run(join);
    *ret_changed = map->version != version;
    arena_fini(&join->arena);
    free(join->placed);
    free(join);
    return s;
}

enum status clustermap_take(struct clustermap *map, const char *name, uint64_t version,
                            struct bytes value, bool *ret_changed)
{
    struct reg r = {bytes_text(name), version, value};
    ENSURE(!clustermap_empty(map));
    *ret_changed = false;
    return clustermap_join(map, &(struct map_message){1, &r}, ret_changed);
}

enum status clustermap_take_partition(struct clustermap *map, uint32_t p, uint64_t version,
                                      struct bytes value, bool *ret_changed)
{
    struct join join = {.map = map, .partition_count = map->partition_count};
    struct clustermap_partition partition;
    struct reg r = {.version = version, .value = value};
    ENSURE(!clustermap_empty(map) && p < map->partition_count);
    *ret_changed = false;
    if (version <= map->partitions[p].version)
        return STATUS_OK;
    for (uint32_t i = 0; i < map->nodes_count; i++)
        join.known[i] = map->nodes[i].version > 0;
    arena_init(&join.arena);
    enum status s = memory_first(&join);
    if (s == STATUS_OK)
        s = decode_partition(&join, &r, &partition);
    arena_fini(&join.arena);
    if (s != STATUS_OK)
        return s;
    map->version += version - map->partitions[p].version;
    map->partitions[p] = partition;
    *ret_changed = true;
    return STATUS_OK;
}

/* ---- Packing ---------------------------------------------------------------------------------*/

/* A MAP message in the making. Values are kept as offsets until all are there, for the buffer
 * moves when it grows. */
struct packing {
    size_t count, count_max;
    struct reg *registers;
    char (*names)[REGISTER_NAME_SIZE_MAX];
    size_t *starts; /* of the values, in values */
    struct buffer values;
};

static enum status packing_init(struct packing *packing, size_t count_max)
{
    *packing = (struct packing){
        .count_max = count_max,
        .registers = calloc(count_max, sizeof *packing->registers),
        .names = calloc(count_max, sizeof *packing->names),
        .starts = calloc(count_max + 1, sizeof *packing->starts),
    };
    buffer_init(&packing->values, count_max * VALUE_BYTES_MAX);
    if (packing->registers == NULL || packing->names == NULL || packing->starts == NULL)
        return STATUS_NOMEMORY;
    return STATUS_OK;
}

static void packing_fini(struct packing *packing)
{
    free(packing->registers);
    free(packing->names);
    free(packing->starts);
    buffer_fini(&packing->values);
}

/* The value of this register is what is appended to values next. Returns where to put its name. */
static char *packing_add(struct packing *packing, uint64_t version)
{
    ENSURE(packing->count < packing->count_max);
    packing->starts[packing->count] = packing->values.size;
    packing->registers[packing->count].version = version;
    return packing->names[packing->count++];
}

enum status clustermap_encode_cluster(const struct clustermap *map,
                                      const struct clustermap_voters *voters, struct buffer *out)
{
    struct clustermap_voters v = *voters;
    return codec_pack_cluster_value(
        &(struct cluster_value){
            .cluster_id = bytes_of(&map->cluster_id, sizeof map->cluster_id),
            .partition_count = map->partition_count,
            .copies = map->copies,
            .isr_min = map->isr_min,
            .voters_count = v.count,
            .voters = v.nodes,
            .next_count = v.next_count,
            .next = v.next,
        },
        out);
}

static enum status pack_cluster(const struct clustermap *map, struct packing *packing)
{
    if (map->cluster_version == 0)
        return STATUS_OK;
    snprintf(packing_add(packing, map->cluster_version), REGISTER_NAME_SIZE_MAX, "cluster");
    return clustermap_encode_cluster(map, &map->voters, &packing->values);
}

enum status clustermap_encode_node(const struct clustermap_node *node, struct buffer *out)
{
    return codec_pack_node_value(
        &(struct node_value){
            .node_id = bytes_of(&node->id, sizeof node->id),
            .name = bytes_text(node->name),
            .address = bytes_text(node->address),
            .host = bytes_text(node->host),
            .rack = bytes_text(node->rack),
            .weight = node->weight,
            .state = node->state,
            .incarnation = node->incarnation,
            .disk = node->disk,
        },
        out);
}

static enum status pack_node(const struct clustermap *map, uint32_t i, struct packing *packing)
{
    const struct clustermap_node *node = &map->nodes[i];
    if (node->version == 0)
        return STATUS_OK;
    snprintf(packing_add(packing, node->version), REGISTER_NAME_SIZE_MAX, "node/%u", i);
    return clustermap_encode_node(node, &packing->values);
}

enum status clustermap_encode_partition(const struct clustermap_partition *from, struct buffer *out)
{
    struct clustermap_partition partition = *from;
    return codec_pack_partition_value(
        &(struct partition_value){
            .epoch = partition.epoch,
            .opened = partition.opened,
            .primary = partition.primary,
            .state = partition.state,
            .isr_count = partition.isr_count,
            .isr = partition.isr,
            .isr_replica_ids = partition.replica_ids,
            .assigned_count = partition.assigned_count,
            .assigned = partition.assigned,
            .base_count = partition.base_count,
            .base = partition.base,
            .beacon_epoch = partition.beacon_epoch,
            .beacon_seq = partition.beacon_seq,
        },
        out);
}

static enum status pack_partition(const struct clustermap *map, uint32_t p, struct packing *packing)
{
    const struct clustermap_partition *partition = &map->partitions[p];
    snprintf(packing_add(packing, partition->version), REGISTER_NAME_SIZE_MAX, "partition/%u", p);
    return clustermap_encode_partition(partition, &packing->values);
}

static enum status pack_nodes(const struct clustermap *map, struct packing *packing)
{
    enum status s = pack_cluster(map, packing);
    for (uint32_t i = 0; s == STATUS_OK && i < map->nodes_count; i++)
        s = pack_node(map, i, packing);
    return s;
}

static enum status pack_registers(const struct clustermap *map, struct packing *packing)
{
    enum status s = pack_nodes(map, packing);
    for (uint32_t p = 0; s == STATUS_OK && !clustermap_empty(map) && p < map->partition_count; p++)
        s = pack_partition(map, p, packing);
    return s;
}

/* All registers are in: they become one message. */
static enum status packing_end(struct packing *packing, struct buffer *out)
{
    packing->starts[packing->count] = packing->values.size;
    for (size_t i = 0; i < packing->count; i++) {
        packing->registers[i].name = bytes_text(packing->names[i]);
        packing->registers[i].value = bytes_of(packing->values.data + packing->starts[i],
                                               packing->starts[i + 1] - packing->starts[i]);
    }
    return codec_pack_map(&(struct map_message){packing->count, packing->registers}, out);
}

enum status clustermap_pack(const struct clustermap *map, struct buffer *out)
{
    struct packing packing;
    enum status s = packing_init(&packing, 1 + (size_t)map->nodes_count + map->partition_count);
    if (s == STATUS_OK)
        s = pack_registers(map, &packing);
    if (s == STATUS_OK)
        s = packing_end(&packing, out);
    packing_fini(&packing);
    return s;
}

enum status clustermap_pack_nodes(const struct clustermap *map, struct buffer *out)
{
    struct packing packing;
    enum status s = packing_init(&packing, 1 + (size_t)map->nodes_count);
    if (s == STATUS_OK)
        s = pack_nodes(map, &packing);
    if (s == STATUS_OK)
        s = packing_end(&packing, out);
    packing_fini(&packing);
    return s;
}

/* The cluster's register goes along: it says which cluster this is. */
enum status clustermap_pack_partitions(const struct clustermap *map, const uint32_t *partitions,
                                       size_t count, struct buffer *out)
{
    struct packing packing;
    ENSURE(!clustermap_empty(map));
    enum status s = packing_init(&packing, 1 + count);
    if (s == STATUS_OK)
        s = pack_cluster(map, &packing);
    for (size_t i = 0; s == STATUS_OK && i < count; i++)
        s = pack_partition(map, partitions[i], &packing);
    if (s == STATUS_OK)
        s = packing_end(&packing, out);
    packing_fini(&packing);
    return s;
}

/* ---- Lookups and changes ---------------------------------------------------------------------*/

void clustermap_set_epoch(struct clustermap *map, uint32_t p, uint64_t epoch)
{
    ENSURE(!clustermap_empty(map) && p < map->partition_count);
    struct clustermap_partition *partition = &map->partitions[p];
    ENSURE(epoch >= partition->epoch);
    partition->epoch = epoch;
    partition->opened = true;
    /* A primary that restarted may not have seen its own last register yet; epochs never repeat, so
     * a version above the epoch is above every version that it gave before. */
    uint64_t version = partition->version > epoch ? partition->version + 1 : epoch + 1;
    map->version += version - partition->version;
    partition->version = version;
}

bool clustermap_address_good(const char *address)
{
    const char *colon = strrchr(address, ':');
    uint32_t port = 0;
    for (const char *c = address; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == '"')
            return false;
    if (strncmp(address, "tcp://", 6) != 0 || colon <= address + 6)
        return false;
    for (const char *c = colon + 1; *c != '\0'; c++) {
        if (*c < '0' || *c > '9' || port > PORT_MAX)
            return false;
        port = port * 10 + (uint32_t)(*c - '0');
    }
    return port > 0 && port <= PORT_MAX;
}

bool clustermap_addresses_meet(const char *a, const char *b)
{
    const char *x = strrchr(a, ':'), *y = strrchr(b, ':');
    if (x == NULL || y == NULL || x - a != y - b || strncmp(a, b, (size_t)(x - a)) != 0)
        return false;
    return labs(strtol(x + 1, NULL, 10) - strtol(y + 1, NULL, 10)) < PORTS_OF_A_NODE;
}

uint64_t clustermap_nodes_version(const struct clustermap *map)
{
    uint64_t sum = map->cluster_version;
    for (uint32_t i = 0; i < map->nodes_count; i++)
        sum += map->nodes[i].version;
    return sum;
}

uint32_t clustermap_node_by_name(const struct clustermap *map, const char *name)
{
    for (uint32_t i = 0; i < map->nodes_count; i++)
        if (map->nodes[i].version > 0 && strcmp(map->nodes[i].name, name) == 0)
            return i;
    return NONE;
}

uint32_t clustermap_node_by_id(const struct clustermap *map, struct id128 id)
{
    for (uint32_t i = 0; i < map->nodes_count; i++)
        if (map->nodes[i].version > 0 && id_equal(map->nodes[i].id, id))
            return i;
    return NONE;
}
