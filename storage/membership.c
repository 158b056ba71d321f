#include "storage/membership.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "storage/known.h"
#include "storage/peers.h"
#include "storage/voters.h"

#define VALUE_MAX     REGISTRY_VALUE_SIZE_MAX
#define NAME_TEXT_MAX 24

static uint32_t registers_count(const struct core *c)
{
    return REGISTRY_PARTITION(c->map->partition_count);
}

struct registry_voters membership_voters_of(const struct clustermap *map)
{
    struct registry_voters v = {.version = map->cluster_version,
                                .count = map->voters.count,
                                .next_count = map->voters.next_count};
    memcpy(v.nodes, map->voters.nodes, sizeof v.nodes);
    memcpy(v.next, map->voters.next, sizeof v.next);
    return v;
}

static bool there(const struct core *c, uint32_t node)
{
    return node == c->options.index || (node < c->peers_count && c->peers[node].up);
}

/* ------------------------------------------------------------------ life */

/* What the first map says is version 1 of each register. */
static enum status found(struct core *c, uint32_t number, uint64_t version, struct buffer *value)
{
    if (version != 1)
        return STATUS_OK;
    return registry_found(c->registry, number, buffer_view(value));
}

static enum status found_all(struct core *c)
{
    struct buffer value;
    buffer_init(&value, VALUE_MAX);
    enum status status = clustermap_encode_cluster(c->map, &c->map->voters, &value);
    if (status == STATUS_OK)
        status = found(c, REGISTRY_CLUSTER, c->map->cluster_version, &value);
    for (uint32_t i = 0; status == STATUS_OK && i < c->map->nodes_count; i++) {
        buffer_clear(&value);
        if (c->map->nodes[i].version == 0)
            continue;
        status = clustermap_encode_node(&c->map->nodes[i], &value);
        if (status == STATUS_OK)
            status = found(c, REGISTRY_NODE(i), c->map->nodes[i].version, &value);
    }
    buffer_fini(&value);
    return status;
}

enum status membership_init(struct core *c)
{
    c->membership.moved = calloc(registers_count(c), sizeof *c->membership.moved);
    return c->membership.moved == NULL ? STATUS_NOMEMORY : found_all(c);
}

void membership_fini(struct core *c)
{
    free(c->membership.moved);
    c->membership.moved = NULL;
}

void membership_start(struct core *c)
{
    struct registry_voters v;
    struct clustermap *map = c->map;
    registry_voters(c->registry, &v);
    if (v.version < map->cluster_version)
        membership_adopt(c);
    if (v.version <= map->cluster_version)
        return;
    map->version += v.version - map->cluster_version;
    map->cluster_version = v.version;
    map->voters = (struct clustermap_voters){.count = v.count, .next_count = v.next_count};
    memcpy(map->voters.nodes, v.nodes, sizeof v.nodes);
    memcpy(map->voters.next, v.next, sizeof v.next);
    peers_find(c);
}

/* ------------------------------------------------------------------ what the map says */

/* What a register says of a disk is certain (known.h). */
static void adopt_disks(struct core *c)
{
    for (uint32_t i = 0; i < c->peers_count; i++) {
        uint64_t disk = c->map->nodes[i].disk;
        if (disk == 0 || MUTANT(22))
            continue;
        if (i != c->options.index)
            known_recorded(c, i, disk);
        else if (disk != c->options.disk)
            core_replaced(c);
    }
}

void membership_adopt(struct core *c)
{
    struct registry_voters v = membership_voters_of(c->map);
    c->peers_count = c->map->nodes_count;
    if (voters_hold(&v))
        registry_set_voters(c->registry, &v);
    peers_find(c);
    adopt_disks(c);
}

/* ------------------------------------------------------------------ registers */

static void swap(struct core *c, uint32_t number, uint64_t version, const struct buffer *value)
{
    if (registry_busy(c->registry, number))
        return;
    (void)registry_swap(c->registry, c->now_ms, number, version, buffer_view(value));
}

static void swap_voters(struct core *c, const struct clustermap_voters *voters)
{
    struct buffer value;
    buffer_init(&value, VALUE_MAX);
    if (clustermap_encode_cluster(c->map, voters, &value) != STATUS_OK)
        core_fail(c, STATUS_NOMEMORY);
    else
        swap(c, REGISTRY_CLUSTER, c->map->cluster_version, &value);
    buffer_fini(&value);
}

static void swap_node(struct core *c, uint32_t index, const struct clustermap_node *node)
{
    struct buffer value;
    buffer_init(&value, VALUE_MAX);
    if (clustermap_encode_node(node, &value) != STATUS_OK)
        core_fail(c, STATUS_NOMEMORY);
    else
        swap(c, REGISTRY_NODE(index), node->version, &value);
    buffer_fini(&value);
}

/* Does the register have another address of ours? */
static bool has_moved(const struct core *c)
{
    return c->options.address != NULL &&
           strcmp(c->map->nodes[c->options.index].address, c->options.address) != 0;
}

/* Our own register says what is ours. */
static void publish(struct core *c)
{
    struct clustermap_node self = c->map->nodes[c->options.index];
    if (self.disk == c->options.disk && !has_moved(c))
        return;
    self.disk = c->options.disk;
    if (has_moved(c))
        snprintf(self.address, sizeof self.address, "%s", c->options.address);
    swap_node(c, c->options.index, &self);
}

void membership_tell(const struct core *c, struct heartbeat *h)
{
    if (has_moved(c))
        h->address = bytes_text(c->options.address);
}

void membership_address(struct core *c, uint32_t node, struct bytes address)
{
    struct clustermap_node its = c->map->nodes[node];
    if (!known_met(c) || !registry_is_voter(c->registry, c->options.index) ||
        bytes_equal(bytes_text(its.address), address))
        return;
    memcpy(its.address, address.data, address.size);
    its.address[address.size] = '\0';
    if (clustermap_address_good(its.address))
        swap_node(c, node, &its);
    else
        core_malformed(c);
}

void membership_ended(struct core *c, uint32_t number, uint64_t version, struct bytes value)
{
    char name[NAME_TEXT_MAX] = "cluster";
    bool changed = false;
    ENSURE(number < REGISTRY_PARTITION(0));
    if (version == 0) /* nobody has this number yet */
        return;
    if (number != REGISTRY_CLUSTER)
        snprintf(name, sizeof name, "node/%u", number - REGISTRY_NODE(0));
    enum status status = clustermap_take(c->map, name, version, value, &changed);
    if (status != STATUS_OK) {
        core_fail(c, status == STATUS_NOMEMORY ? status : STATUS_CORRUPT);
        return;
    }
    c->membership.news = c->membership.news || changed;
    if (changed)
        membership_adopt(c);
    if (changed && number == REGISTRY_CLUSTER) {
        c->counters.voters_joint += c->map->voters.next_count > 0;
        c->counters.voters_changed += c->map->voters.next_count == 0;
    }
}

void membership_flush(struct core *c)
{
    if (!c->membership.news)
        return;
    c->membership.news = false;
    for (uint32_t i = 0; i < c->peers_count; i++) {
        if (i == c->options.index || !c->peers[i].up)
            continue;
        struct buffer *frame = outbox_frame(&c->outbox, i, LANE_CONTROL);
        if (frame != NULL)
            core_packed(c, clustermap_pack_nodes(c->map, frame));
    }
}

/* ------------------------------------------------------------------ from joint to new */

void membership_moved(struct core *c, uint32_t number)
{
    struct registry_voters v;
    struct membership *m = &c->membership;
    registry_voters(c->registry, &v);
    if (v.version != m->joint_version)
        memset(m->moved, 0, registers_count(c) * sizeof *m->moved);
    m->joint_version = v.version;
    /* What has ended began under the set that is obeyed now, or began again when that came. */
    m->moved[number] = v.next_count > 0;
}

/* Reads what has not been read. True: all has been. */
static bool read_range(struct core *c, uint32_t first, uint32_t count)
{
    bool all = true;
    for (uint32_t number = first; number < first + count; number++) {
        if (c->membership.moved[number])
            continue;
        all = false;
        if (!registry_busy(c->registry, number))
            (void)registry_read(c->registry, c->now_ms, number);
    }
    return all;
}

/* Every register that may have a value. Nodes take the lowest number that is free: behind the first
 * that has none there is nothing. */
static bool read_all(struct core *c)
{
    uint32_t nodes = c->map->nodes_count < NODES_MAX ? c->map->nodes_count + 1 : NODES_MAX;
    bool cluster = read_range(c, REGISTRY_CLUSTER, 1);
    bool others = read_range(c, REGISTRY_NODE(0), nodes);
    return read_range(c, REGISTRY_PARTITION(0), c->map->partition_count) && cluster && others;
}

static uint32_t driver(const struct core *c)
{
    for (uint32_t i = 0; i < c->map->voters.next_count; i++)
        if (there(c, c->map->voters.next[i]))
            return c->map->voters.next[i];
    return UINT32_MAX;
}

static void go_on(struct core *c)
{
    struct registry_voters v;
    const struct clustermap_voters *now = &c->map->voters;
    registry_voters(c->registry, &v);
    if (now->next_count == 0 || v.version != c->map->cluster_version ||
        driver(c) != c->options.index)
        return;
    if (c->membership.joint_version == v.version && (MUTANT(67) || read_all(c))) {
        struct clustermap_voters next = {.count = now->next_count};
        memcpy(next.nodes, now->next, sizeof next.nodes);
        swap_voters(c, &next);
        return;
    }
    if (c->membership.joint_version != v.version && !registry_busy(c->registry, REGISTRY_CLUSTER))
        (void)registry_read(c->registry, c->now_ms, REGISTRY_CLUSTER);
}

void membership_tick(struct core *c)
{
    if (c->failed != STATUS_OK || !known_met(c))
        return;
    publish(c);
    go_on(c);
}

/* ------------------------------------------------------------------ what is asked for */

/* words for the node with this index. */
static const char *name_of(const struct core *c, uint32_t node)
{
    return c->map->nodes[node].name;
}

static bool among(const uint32_t *nodes, uint32_t count, uint32_t node)
{
    for (uint32_t i = 0; i < count; i++)
        if (nodes[i] == node)
            return true;
    return false;
}

static uint32_t count_there(const struct core *c, const uint32_t *nodes, uint32_t count)
{
    uint32_t is_there = 0;
    for (uint32_t i = 0; i < count; i++)
        is_there += there(c, nodes[i]);
    return is_there;
}

static enum status say(char *words, enum status status, const char *format, const char *name)
{
    snprintf(words, MEMBERSHIP_WORDS_MAX, format, name);
    return status;
}

/* Is it a set of voters at all? */
static enum status check_set(const struct core *c, const struct voters_message *m, char *words)
{
    if (m->count != 1 && m->count != 3 && m->count != 5)
        return say(words, STATUS_USAGE, "%s", "1, 3 or 5 nodes vote, so that a majority is clear");
    for (uint32_t i = 0; i < m->count; i++) {
        uint32_t node = m->nodes[i];
        if (node >= c->map->nodes_count || c->map->nodes[node].version == 0)
            return say(words, STATUS_USAGE, "%s", "there is no node with one of these numbers");
        if (among(m->nodes, i, node))
            return say(words, STATUS_USAGE, "node %s is named twice", name_of(c, node));
    }
    return STATUS_OK;
}

/* Can it be done now? */
static enum status check_there(const struct core *c, const struct voters_message *m, char *words)
{
    const struct clustermap_voters *now = &c->map->voters;
    uint32_t count = (uint32_t)m->count;
    for (uint32_t i = 0; i < count; i++)
        if (!among(now->nodes, now->count, m->nodes[i]) && !there(c, m->nodes[i]))
            return say(words, STATUS_UNAVAILABLE,
                       "node %s is not there: a node that is to vote must run",
                       name_of(c, m->nodes[i]));
    if (count_there(c, now->nodes, now->count) <= now->count / 2)
        return say(words, STATUS_UNAVAILABLE, "%s",
                   "a majority of the present voters is not there: start one of them");
    if (count_there(c, m->nodes, count) <= count / 2)
        return say(words, STATUS_UNAVAILABLE, "%s",
                   "a majority of those that are to vote is not there: start one of them");
    for (uint32_t i = 0; i < c->map->nodes_count; i++)
        if (c->map->nodes[i].version > 0 && c->map->nodes[i].disk == 0)
            return say(words, STATUS_UNAVAILABLE,
                       "node %s has not been there yet: its disk must be known before others vote",
                       name_of(c, i));
    return STATUS_OK;
}

static bool same_set(const struct clustermap_voters *now, const struct voters_message *m)
{
    if (now->count != m->count)
        return false;
    for (uint32_t i = 0; i < now->count; i++)
        if (!among(m->nodes, (uint32_t)m->count, now->nodes[i]))
            return false;
    return true;
}

enum status membership_voters(struct core *c, const struct voters_message *m,
                              char words[static MEMBERSHIP_WORDS_MAX])
{
    struct clustermap_voters next = c->map->voters;
    enum status status = check_set(c, m, words);
    if (status != STATUS_OK)
        return status;
    /* A change that is under way ends first. */
    if (next.next_count > 0 || same_set(&next, m))
        return STATUS_OK;
    if (!known_met(c) || !registry_is_voter(c->registry, c->options.index))
        return say(words, STATUS_WRONGEPOCH, "node %s does not vote", name_of(c, c->options.index));
    status = check_there(c, m, words);
    if (status != STATUS_OK)
        return status;
    next.next_count = (uint32_t)m->count;
    for (uint32_t i = 0; i < next.next_count; i++)
        next.next[i] = m->nodes[i];
    swap_voters(c, &next);
    return STATUS_OK;
}

/* ------------------------------------------------------------------ joining */

static void node_of(const struct node_value *m, struct clustermap_node *ret)
{
    *ret = (struct clustermap_node){.weight = m->weight, .disk = m->disk};
    memcpy(&ret->id, m->node_id.data, sizeof ret->id);
    memcpy(ret->name, m->name.data, m->name.size);
    memcpy(ret->address, m->address.data, m->address.size);
    if (m->host.size > 0)
        memcpy(ret->host, m->host.data, m->host.size);
}

/* Nobody else may have its name or its address. */
static enum status check_free(const struct core *c, const struct clustermap_node *node, char *words)
{
    for (uint32_t i = 0; i < c->map->nodes_count; i++) {
        const struct clustermap_node *other = &c->map->nodes[i];
        if (other->version == 0)
            continue;
        if (strcmp(other->name, node->name) == 0)
            return say(words, STATUS_USAGE, "the name %s is in use by another node of this cluster",
                       node->name);
        if (clustermap_addresses_meet(other->address, node->address))
            return say(words, STATUS_USAGE,
                       "its ports (three, from that of its address on) meet those of node %s",
                       other->name);
    }
    return STATUS_OK;
}

enum status membership_join(struct core *c, const struct node_value *m,
                            char words[static MEMBERSHIP_WORDS_MAX])
{
    struct clustermap_node node;
    node_of(m, &node);
    if (clustermap_node_by_id(c->map, node.id) != UINT32_MAX)
        return STATUS_OK;
    enum status status = check_free(c, &node, words);
    if (status != STATUS_OK)
        return status;
    if (m->disk == 0 || !clustermap_address_good(node.address))
        return say(words, STATUS_USAGE, "%s",
                   "a node that joins has a disk, and an address tcp://HOST:PORT");
    if (!known_met(c))
        return say(words, STATUS_BUSY, "node %s knows no others yet", name_of(c, c->options.index));
    if (c->map->nodes_count == NODES_MAX)
        return say(words, STATUS_TOOBIG, "%s", "the cluster has as many nodes as there can be");
    swap_node(c, c->map->nodes_count, &node);
    return STATUS_OK;
}
