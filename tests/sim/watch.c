#include "tests/sim/watch.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "proto/partition.h"
#include "tests/sim/machine.h"
#include "tests/sim/map.h"
#include "tests/sim/world.h"

#define CHANGE_KEY_MAX 32 /* of the workload's keys */

/* What is known of a committed entry. */
struct truth {
    uint64_t epoch, hash; /* epoch 0: not committed, as far as known */
    enum entry_kind kind;
    enum status status;
    uint64_t client, client_seq;
    size_t changes_first;   /* its effects, in the list of changes */
    uint32_t changes_count;
    bool has_result;
    uint64_t result_hash;
};

/* One effect of a committed entry. */
struct change {
    uint32_t partition;
    uint64_t seq;
    bool present; /* it leaves a value */
    uint64_t expiry_ms, key_hash, value_hash;
    size_t key_size;
    char key[CHANGE_KEY_MAX];
};

struct truths {
    struct truth *list; /* by seq */
    size_t capacity;
    uint64_t highest;
};

/* What a node's log holds for one partition, in log order. */
struct logged {
    uint64_t lsn, seq, epoch, hash;
    bool truncates; /* entries at and above seq are void */
};

struct disk_log {
    struct logged *list;
    size_t count, capacity;
};

struct node_watch {
    struct disk_log *logs;   /* by partition */
    uint64_t *promised;      /* by partition: highest that was answered (I2) */
    uint64_t *promised_seen; /* by partition: highest that the replica showed */
    uint64_t *committed;     /* by partition: what was at the end of its last turn (R6) */
    uint32_t *partition_of_slot;
    size_t slots_capacity;
    uint64_t durable_lsn;
    bool disk_failed;
    bool away; /* it runs on another disk: all above is about its own */
    uint64_t recovered_pending; /* entries that recovery found, and nobody said were committed */
};

struct bound {
    size_t size;
    char text[CHANGE_KEY_MAX + 1];
};

struct range {
    struct bound tag, prefix, from, to;
    bool count_only, keys_only;
};

/* An operation that a router sent to a node. */
struct asked {
    enum operation_kind kind;
    bool part; /* a read of something else than the value */
    bool any;  /* a read of any copy */
    struct range *range; /* what a RANGE asks for */
    uint64_t committed;  /* of its partition, when it was sent */
    uint64_t client, seq;
    uint32_t partition;
    uint64_t key_hash;
};

/* A key that went because of its expiry. */
struct lapse {
    uint64_t key_hash, moment;
    struct version version;
    uint64_t ptime;
};

/* The newest configuration of a partition that any node has shown. */
struct config {
    uint64_t epoch;
    uint32_t isr_count;
    uint32_t isr[COPIES_MAX];
};

struct watch {
    struct world *world;
    struct lapse *lapses;
    size_t lapses_count, lapses_capacity;
    struct change *changes; /* in the order of each partition's log */
    size_t changes_count, changes_capacity;
    const struct clustermap *map;
    struct truths *truths; /* by partition */
    struct config *configs; /* by partition */
    struct node_watch nodes[WORLD_NODES_MAX];
    struct map hashes;     /* (partition and epoch, seq) -> chain hash (I4) */
    struct map leaders;    /* (partition, epoch) -> node and incarnation (I1) */
    struct map operations; /* (client, seq) -> partition and seq of its entry (I8) */
    struct map tokens;     /* (router boot, token) -> index of asked */
    struct asked *asked;
    size_t asked_count, asked_capacity;
    struct arena arena;
};

static uint64_t hash_bytes(struct bytes b)
{
    uint64_t hash = 0xcbf29ce484222325u ^ b.size;
    for (size_t i = 0; i < b.size; i++)
        hash = (hash ^ b.data[i]) * 0x100000001b3u;
    return hash;
}

static void *grow(void *memory, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return memory;
    size_t larger = *capacity == 0 ? 64 : 2 * *capacity;
    while (larger <= count)
        larger *= 2;
    memory = realloc(memory, larger * size);
    ENSURE(memory != NULL);
    memset((uint8_t *)memory + *capacity * size, 0, (larger - *capacity) * size);
    *capacity = larger;
    return memory;
}

struct watch *watch_new(struct world *w, const struct clustermap *map)
{
    struct watch *x = calloc(1, sizeof *x);
    ENSURE(x != NULL);
    x->world = w;
    x->map = map;
    arena_init(&x->arena);
    uint32_t partitions = map->partition_count;
    x->truths = calloc(partitions, sizeof *x->truths);
    x->configs = calloc(partitions, sizeof *x->configs);
    ENSURE(x->truths != NULL && x->configs != NULL);
    for (uint32_t i = 0; i < WORLD_NODES_MAX; i++) {
        struct node_watch *n = &x->nodes[i];
        n->logs = calloc(partitions, sizeof *n->logs);
        n->promised = calloc(partitions, sizeof *n->promised);
        n->promised_seen = calloc(partitions, sizeof *n->promised_seen);
        n->committed = calloc(partitions, sizeof *n->committed);
        ENSURE(n->logs != NULL && n->promised != NULL && n->promised_seen != NULL &&
               n->committed != NULL);
    }
    return x;
}

void watch_destroy(struct watch **watch_p)
{
    struct watch *x = *watch_p;
    if (x == NULL)
        return;
    for (uint32_t p = 0; p < x->map->partition_count; p++)
        free(x->truths[p].list);
    for (uint32_t i = 0; i < WORLD_NODES_MAX; i++) {
        for (uint32_t p = 0; p < x->map->partition_count; p++)
            free(x->nodes[i].logs[p].list);
        free(x->nodes[i].logs);
        free(x->nodes[i].promised);
        free(x->nodes[i].promised_seen);
        free(x->nodes[i].committed);
        free(x->nodes[i].partition_of_slot);
    }
    free(x->truths);
    free(x->configs);
    for (size_t i = 0; i < x->asked_count; i++)
        free(x->asked[i].range);
    free(x->asked);
    free(x->changes);
    free(x->lapses);
    map_fini(&x->hashes);
    map_fini(&x->leaders);
    map_fini(&x->operations);
    map_fini(&x->tokens);
    arena_fini(&x->arena);
    free(x);
    *watch_p = NULL;
}

/* The truth at a position; an empty one when nothing is committed there. */
static const struct truth *truth_at(const struct watch *x, uint32_t partition, uint64_t seq)
{
    static const struct truth nothing = {0};
    const struct truths *t = &x->truths[partition];
    return seq < t->capacity ? &t->list[seq] : &nothing;
}

static void note_config(struct watch *x, uint32_t partition, const struct node_replica_view *v)
{
    struct config *config = &x->configs[partition];
    if (v->config_epoch <= config->epoch && config->isr_count > 0)
        return;
    *config = (struct config){.epoch = v->config_epoch, .isr_count = v->isr_count};
    memcpy(config->isr, v->isr, sizeof config->isr);
}

bool watch_full(const struct watch *x)
{
    for (uint32_t p = 0; p < x->map->partition_count; p++)
        if (x->configs[p].isr_count < x->map->partitions[p].assigned_count)
            return false;
    return true;
}

/* Must node hold what is committed, as far as anybody knows? */
static bool is_member(const struct watch *x, uint32_t partition, uint32_t node)
{
    const struct config *config = &x->configs[partition];
    for (uint32_t i = 0; i < config->isr_count; i++)
        if (config->isr[i] == node)
            return true;
    return false;
}

uint64_t watch_committed(const struct watch *x, uint32_t partition)
{
    return x->truths[partition].highest;
}

/* I4 */
static void check_same_hash(struct watch *x, uint32_t node, uint32_t partition, uint64_t epoch,
                            uint64_t seq, uint64_t hash)
{
    bool is_new;
    const uint64_t *known =
        map_put(&x->hashes, (uint64_t)partition << 40 | epoch, seq, hash, &is_new);
    if (*known != hash)
        world_fail(x->world, "I4",
                   "partition %u (%" PRIu64 ",%" PRIu64 ") has hash %016" PRIx64
                   " on node %u and had %016" PRIx64 " before",
                   partition, epoch, seq, hash, node, *known);
}

/* ---------------------------------------------------------------- disks */

static void log_add(struct disk_log *l, struct logged item)
{
    l->list = grow(l->list, l->count, &l->capacity, sizeof *l->list);
    l->list[l->count++] = item;
}

static void note_entry(struct watch *x, uint32_t node, uint64_t lsn, uint32_t partition,
                       struct bytes body)
{
    struct effect effects[ENTRY_EFFECTS_MAX];
    struct entry e;
    if (record_entry_decode(body, &e, effects) != STATUS_OK) {
        world_fail(x->world, "I4", "node %u logs an entry that does not decode", node);
        return;
    }
    uint64_t hash = record_entry_hash(record_entry_trim(body), e.prev_hash);
    check_same_hash(x, node, partition, e.epoch, e.seq, hash);
    log_add(&x->nodes[node].logs[partition],
            (struct logged){.lsn = lsn, .seq = e.seq, .epoch = e.epoch, .hash = hash});
}

static void note_record(struct watch *x, uint32_t node, uint64_t lsn,
                        const struct record_view *record)
{
    struct node_watch *n = &x->nodes[node];
    uint64_t seq;
    struct install in;
    if (record->slot == 0)
        return;
    n->partition_of_slot = grow(n->partition_of_slot, record->slot, &n->slots_capacity,
                                sizeof *n->partition_of_slot);
    if (record->kind == RECORD_INSTALL && record_decode_install(record->body, &in) == STATUS_OK)
        n->partition_of_slot[record->slot] = in.partition;
    if (record->kind == RECORD_SNAPSHOT && record->body.size >= 16)
        n->partition_of_slot[record->slot] = bytes_le32(record->body.data + 12);
    uint32_t partition = n->partition_of_slot[record->slot];
    if (record->kind == RECORD_ENTRY)
        note_entry(x, node, lsn, partition, record->body);
    if (record->kind == RECORD_TRUNCATE && record_decode_u64(record->body, &seq) == STATUS_OK)
        log_add(&n->logs[partition], (struct logged){.lsn = lsn, .seq = seq, .truncates = true});
}

void watch_records(struct watch *x, uint32_t node, uint64_t first, struct bytes records)
{
    struct record_view record;
    if (x->nodes[node].away)
        return;
    for (uint64_t lsn = first; record_next(&records, &record) == STATUS_OK; lsn++)
        note_record(x, node, lsn, &record);
}

void watch_durable(struct watch *x, uint32_t node, uint64_t lsn)
{
    struct node_watch *n = &x->nodes[node];
    if (n->away)
        return;
    if (lsn > n->durable_lsn && n->disk_failed)
        world_fail(x->world, "I21",
                   "node %u takes record %" PRIu64 " for durable after a write or sync failed",
                   node, lsn);
    n->durable_lsn = lsn;
}

void watch_disk_failed(struct watch *x, uint32_t node)
{
    x->nodes[node].disk_failed = !x->nodes[node].away;
}

void watch_look_away(struct watch *x, uint32_t node, bool away)
{
    x->nodes[node].away = away;
}

/* Would the entry survive a crash of node now? */
static bool disk_holds(const struct node_watch *n, uint32_t partition, uint64_t seq, uint64_t hash)
{
    const struct disk_log *l = &n->logs[partition];
    for (size_t i = l->count; i-- > 0;) {
        const struct logged *item = &l->list[i];
        if (item->lsn > n->durable_lsn)
            continue;
        if (item->truncates && item->seq <= seq)
            return false;
        if (!item->truncates && item->seq == seq)
            return item->hash == hash;
    }
    return false;
}

/* I3: what is committed must be in the recovered replica. */
static void check_recovered(struct watch *x, uint32_t node, const struct node *n,
                            uint32_t partition, const struct node_replica_view *view)
{
    uint64_t hash, highest = watch_committed(x, partition);
    if (!is_member(x, partition, node))
        return;
    if (view->last_seq < highest) {
        world_fail(x->world, "I3",
                   "node %u recovered partition %u up to %" PRIu64 ", committed is %" PRIu64, node,
                   partition, view->last_seq, highest);
        return;
    }
    for (uint64_t seq = view->commit_seq; seq <= highest; seq++) {
        const struct truth *t = truth_at(x, partition, seq);
        if (t->epoch == 0)
            continue;
        if (!node_entry_hash(n, partition, seq, &hash) || hash != t->hash)
            world_fail(x->world, "I3",
                       "node %u recovered partition %u with another entry at %" PRIu64
                       " than the committed one",
                       node, partition, seq);
    }
}

/* I2 */
static void check_promise(struct watch *x, uint32_t node, uint32_t partition, uint64_t promised)
{
    struct node_watch *n = &x->nodes[node];
    if (promised < n->promised[partition])
        world_fail(x->world, "I2",
                   "node %u forgot its promise of epoch %" PRIu64
                   " of partition %u: it has %" PRIu64,
                   node, n->promised[partition], partition, promised);
}

void watch_recovered(struct watch *x, uint32_t node, const struct node *n, uint64_t next_lsn)
{
    struct node_watch *watched = &x->nodes[node];
    if (watched->away)
        return;
    watched->durable_lsn = next_lsn - 1;
    watched->disk_failed = false;
    watched->recovered_pending = 0;
    for (uint32_t p = 0; p < x->map->partition_count; p++) {
        struct disk_log *l = &watched->logs[p];
        while (l->count > 0 && l->list[l->count - 1].lsn >= next_lsn)
            l->count--;
        watched->promised_seen[p] = watched->committed[p] = 0;
        struct node_replica_view view;
        if (!node_replica(n, p, &view)) {
            if (watch_committed(x, p) > 0 && watched->promised[p] > 0 && is_member(x, p, node))
                world_fail(x->world, "I3", "node %u lost its replica of partition %u", node, p);
            continue;
        }
        watched->recovered_pending += view.last_seq - view.commit_seq;
        watched->committed[p] = view.commit_seq;
        check_promise(x, node, p, view.promised_epoch);
        check_recovered(x, node, n, p, &view);
    }
}

/* ---------------------------------------------------------------- commits */

static void note_change(struct watch *x, uint32_t partition, uint64_t seq, const struct effect *f)
{
    struct change c = {.partition = partition,
                       .seq = seq,
                       .present = f->kind == EFFECT_PUT,
                       .expiry_ms = f->expiry_ms,
                       .key_hash = hash_bytes(f->key),
                       .value_hash = hash_bytes(f->value),
                       .key_size = f->key.size};
    ENSURE(f->key.size <= sizeof c.key);
    memcpy(c.key, f->key.data, f->key.size);
    x->changes = grow(x->changes, x->changes_count, &x->changes_capacity, sizeof *x->changes);
    x->changes[x->changes_count++] = c;
}

/* What the entry did to the key; NULL: nothing. */
static const struct change *change_of(const struct watch *x, const struct truth *t,
                                      uint64_t key_hash)
{
    for (uint32_t i = 0; i < t->changes_count; i++)
        if (x->changes[t->changes_first + i].key_hash == key_hash)
            return &x->changes[t->changes_first + i];
    return NULL;
}

static struct truth truth_of(struct watch *x, uint32_t partition, const struct entry *e,
                             uint64_t hash)
{
    struct truth t = {.epoch = e->epoch,
                      .hash = hash,
                      .kind = e->kind,
                      .status = e->status,
                      .client = e->client,
                      .client_seq = e->client_seq,
                      .changes_first = x->changes_count,
                      .changes_count = e->effects_count,
                      .has_result = e->result_flags == RESULT_HAS_VALUE};
    for (uint32_t i = 0; i < e->effects_count; i++)
        note_change(x, partition, e->seq, &e->effects[i]);
    if (t.has_result)
        t.result_hash = hash_bytes(e->result);
    return t;
}

/* I3, at the moment of the commit. */
static void check_members_hold(struct watch *x, uint32_t node, uint32_t partition,
                               const struct node_replica_view *v, const struct entry *e,
                               uint64_t hash)
{
    for (uint32_t i = 0; i < v->isr_count; i++)
        if (!disk_holds(&x->nodes[v->isr[i]], partition, e->seq, hash))
            world_fail(x->world, "I3",
                       "node %u takes partition %u (%" PRIu64 ",%" PRIu64
                       ") for committed, but it is not on the disk of node %u",
                       node, partition, e->epoch, e->seq, v->isr[i]);
}

/* I8, entries */
static void check_once(struct watch *x, uint32_t partition, const struct entry *e)
{
    bool is_new;
    if (e->client == 0)
        return;
    uint64_t place = (uint64_t)partition << 40 | e->seq;
    const uint64_t *known = map_put(&x->operations, e->client, e->client_seq, place, &is_new);
    if (*known != place)
        world_fail(x->world, "I8",
                   "operation %" PRIu64 " of client %016" PRIx64
                   " is committed twice: partition %u at %" PRIu64 " and at %" PRIu64,
                   e->client_seq, e->client, partition, *known & 0xffffffffffu, e->seq);
}

/* R7: a key goes only after its expiry, and the log says when. */
static void note_lapse(struct watch *x, uint32_t partition, const struct entry *e, struct bytes key)
{
    struct lapse l = {.key_hash = hash_bytes(key),
                      .moment = ++x->world->history.moment,
                      .version = {e->epoch, e->seq},
                      .ptime = e->ptime};
    const struct change *before = NULL;
    for (uint64_t seq = e->seq; seq-- > 0 && before == NULL;)
        before = change_of(x, truth_at(x, partition, seq), l.key_hash);
    if (before == NULL || !before->present || before->expiry_ms == 0 ||
        before->expiry_ms > e->ptime)
        world_fail(x->world, "R7",
                   "partition %u lets a key go at %" PRIu64 " that is not past its expiry", partition,
                   e->seq);
    x->lapses = grow(x->lapses, x->lapses_count, &x->lapses_capacity, sizeof *x->lapses);
    x->lapses[x->lapses_count++] = l;
    x->world->reached[REACH_lapses]++;
}

size_t watch_lapses_count(const struct watch *x)
{
    return x->lapses_count;
}

size_t watch_lapses(const struct watch *x, struct bytes key, struct checker_operation *to, size_t max)
{
    uint64_t key_hash = hash_bytes(key);
    size_t count = 0;
    for (size_t i = 0; i < x->lapses_count && count < max; i++) {
        const struct lapse *l = &x->lapses[i];
        if (l->key_hash == key_hash)
            to[count++] = (struct checker_operation){.lapse = true,
                                                     .mutation = MUTATION_DELETE,
                                                     .at_ms = (int64_t)l->ptime,
                                                     .outcome = CHECKER_DONE,
                                                     .returned = l->moment,
                                                     .status = STATUS_OK,
                                                     .version = l->version};
    }
    return count;
}

/* I9, I10: nothing is committed in a configuration while a node that it leaves out may still answer
 * reads from an older one. */
static void check_fence(struct watch *x, uint32_t node, uint32_t partition,
                        const struct node_replica_view *v)
{
    bool leases_hold = x->world->knobs.clock_wrong_ppm <= CLOCK_WRONG_PPM;
    for (uint32_t i = 0; i < x->world->knobs.nodes && leases_hold; i++) {
        bool member = false;
        for (uint32_t j = 0; j < v->isr_count; j++)
            member = member || v->isr[j] == i;
        if (!member && machine_readable(x->world->machines[i], partition))
            world_fail(x->world, "I9",
                       "node %u commits partition %u in epoch %" PRIu64
                       ", which leaves out node %u, and that may still read",
                       node, partition, v->config_epoch, i);
    }
}

void watch_commit(struct watch *x, uint32_t node, uint32_t partition,
                  const struct node_replica_view *v, const struct entry *e, uint64_t hash)
{
    struct truths *t = &x->truths[partition];
    const struct truth *known = truth_at(x, partition, e->seq);
    if (known->epoch != 0) {
        if (known->hash != hash || known->epoch != e->epoch) /* I5 */
            world_fail(x->world, "I5",
                       "node %u commits another entry at partition %u position %" PRIu64
                       ": (%" PRIu64 ") %016" PRIx64 " after (%" PRIu64 ") %016" PRIx64,
                       node, partition, e->seq, e->epoch, hash, known->epoch, known->hash);
        return;
    }
    check_same_hash(x, node, partition, e->epoch, e->seq, hash);
    note_config(x, partition, v);
    check_members_hold(x, node, partition, v, e, hash);
    check_fence(x, node, partition, v);
    check_once(x, partition, e);
    x->world->reached[REACH_expires] += e->kind == ENTRY_EXPIRE;
    if (e->seq > t->highest + 1)
        world_fail(x->world, "I5", "node %u commits partition %u at %" PRIu64 " after %" PRIu64,
                   node, partition, e->seq, t->highest);
    t->list = grow(t->list, e->seq, &t->capacity, sizeof *t->list);
    t->list[e->seq] = truth_of(x, partition, e, hash);
    if (e->seq > t->highest)
        t->highest = e->seq;
    for (uint32_t i = 0; e->kind == ENTRY_LAPSE && i < e->effects_count; i++)
        note_lapse(x, partition, e, e->effects[i].key);
}

/* ---------------------------------------------------------------- turns */

/* I14, I2 */
void watch_turn(struct watch *x, uint32_t node, const struct node *n)
{
    struct node_counters counters;
    uint64_t pending = 0;
    if (x->nodes[node].away)
        return;
    for (uint32_t p = 0; p < x->map->partition_count; p++) {
        struct node_replica_view v;
        if (!node_replica(n, p, &v))
            continue;
        uint64_t verified = v.primary ? v.last_seq : v.verified_seq;
        note_config(x, p, &v);
        if (v.commit_seq > verified || verified > v.last_seq || v.commit_seq > v.durable_seq ||
            v.durable_seq > v.last_seq)
            world_fail(x->world, "I14",
                       "node %u partition %u: commit %" PRIu64 ", verified %" PRIu64
                       ", durable %" PRIu64 ", last %" PRIu64,
                       node, p, v.commit_seq, verified, v.durable_seq, v.last_seq);
        if (v.promised_epoch < x->nodes[node].promised_seen[p])
            world_fail(x->world, "I2", "node %u partition %u: its promise fell to %" PRIu64, node,
                       p, v.promised_epoch);
        if (v.commit_seq < x->nodes[node].committed[p])
            world_fail(x->world, "I17", "node %u partition %u: its commit fell to %" PRIu64, node, p,
                       v.commit_seq);
        x->nodes[node].committed[p] = v.commit_seq;
        x->nodes[node].promised_seen[p] = v.promised_epoch;
        pending += v.last_seq - v.commit_seq;
    }
    node_count(n, &counters);
    /* I19: what is not committed is bounded (EPOCH, EXPIRE and ABORTED entries come on top). */
    uint64_t bound = (uint64_t)x->map->partition_count * (x->world->knobs.pending_max + 64u) +
                     x->nodes[node].recovered_pending;
    if (counters.pending_entries > bound || pending > bound)
        world_fail(x->world, "I19",
                   "node %u has %" PRIu64 " entries pending, the bound is %" PRIu64, node, pending,
                   bound);
}

/* ---------------------------------------------------------------- frames */

/* I1 */
static void check_append(struct watch *x, const struct append *m)
{
    for (size_t i = 0; i < m->count; i++) {
        bool is_new;
        uint64_t who = (uint64_t)m->sender << 48 | m->incarnation;
        const uint64_t *known = map_put(&x->leaders, m->partitions[i], m->epochs[i], who, &is_new);
        if (*known != who)
            world_fail(x->world, "I1",
                       "partition %u epoch %" PRIu64 " is led by node %u in incarnation %" PRIu64
                       " after node %" PRIu64 " in incarnation %" PRIu64,
                       m->partitions[i], m->epochs[i], m->sender, m->incarnation, *known >> 48,
                       *known & 0xffffffffffffu);
    }
}

static void note_promised(struct watch *x, const struct promised *m)
{
    if (x->nodes[m->sender].away)
        return;
    for (size_t i = 0; i < m->count; i++) {
        uint64_t *promised = &x->nodes[m->sender].promised[m->partitions[i]];
        if (m->epochs[i] > *promised)
            *promised = m->epochs[i];
    }
}

static struct bound bound_of(struct bytes b)
{
    struct bound bound = {.size = b.size};
    ENSURE(b.size <= sizeof bound.text);
    memcpy(bound.text, b.size == 0 ? "" : (const char *)b.data, b.size);
    return bound;
}

static struct range *range_of(struct bytes key, struct bytes body)
{
    struct arena arena;
    struct scan_query q;
    struct range *r = calloc(1, sizeof *r);
    ENSURE(r != NULL);
    arena_init(&arena);
    arena_reset(&arena, 1u << 16);
    ENSURE(codec_unpack_scan_query(body, &arena, &q) == STATUS_OK);
    *r = (struct range){.tag = bound_of(partition_hash_tag(key)),
                        .prefix = bound_of(q.prefix),
                        .from = bound_of(q.from),
                        .to = bound_of(q.to),
                        .count_only = q.count_only,
                        .keys_only = q.keys_only};
    arena_fini(&arena);
    return r;
}

static void note_batch(struct watch *x, const struct batch *m)
{
    for (size_t i = 0; i < m->count; i++) {
        struct asked a = {.kind = (enum operation_kind)m->kinds[i],
                          .client = m->client_ids[i],
                          .seq = m->seqs[i],
                          .key_hash = hash_bytes(m->keys[i])};
        struct outcome_query q;
        struct read_query read = {READ_VALUE, CONSISTENCY_LINEARIZABLE};
        bool is_new;
        if (a.kind == KIND_READ && m->operations[i].size > 0)
            ENSURE(codec_unpack_read_query(m->operations[i], &read) == STATUS_OK);
        a.part = read.part != READ_VALUE;
        a.any = read.consistency == CONSISTENCY_ANY;
        if (a.kind == KIND_RANGE)
            a.range = range_of(m->keys[i], m->operations[i]);
        if (m->keys[i].size > 0)
            a.partition = partition_of(partition_digest(m->keys[i]), x->map->partition_count);
        a.committed = x->truths[a.partition].highest;
        if (a.kind == KIND_OUTCOME &&
            codec_unpack_outcome_query(m->operations[i], &q) == STATUS_OK) {
            a.client = q.client_id;
            a.seq = q.seq;
        }
        x->asked = grow(x->asked, x->asked_count, &x->asked_capacity, sizeof *x->asked);
        x->asked[x->asked_count] = a;
        *map_put(&x->tokens, m->router_boot, m->tokens[i], 0, &is_new) = x->asked_count++;
    }
}

struct heard {
    enum status status;
    uint32_t flags;
    struct version version;
    struct bytes value;
};

static bool version_same(struct version a, uint64_t epoch, uint64_t seq)
{
    return a.epoch == epoch && a.seq == seq;
}

/* I6 and I8: the answer to a write must be what its committed entry says. */
static void check_write_answer(struct watch *x, uint32_t node, const struct asked *a,
                               const struct heard *h)
{
    const uint64_t *place = map_get(&x->operations, a->client, a->seq);
    if (place == NULL) {
        world_fail(x->world, "I6",
                   "node %u answers %s to operation %" PRIu64 " of client %016" PRIx64
                   ", which is not committed",
                   node, status_name(h->status), a->seq, a->client);
        return;
    }
    uint64_t seq = *place & 0xffffffffffu;
    const struct truth *t = truth_at(x, (uint32_t)(*place >> 40), seq);
    bool value_fits =
        !(h->flags & ANSWER_VALUE) || !t->has_result || hash_bytes(h->value) == t->result_hash;
    if (t->status != h->status || !version_same(h->version, t->epoch, seq) || !value_fits)
        world_fail(x->world, "I8",
                   "node %u answers %s (%" PRIu64 ",%" PRIu64 ") to operation %" PRIu64
                   " of client %016" PRIx64 ", committed is %s (%" PRIu64 ",%" PRIu64 ")%s",
                   node, status_name(h->status), h->version.epoch, h->version.seq, a->seq,
                   a->client, status_name(t->status), t->epoch, seq,
                   value_fits ? "" : ", another value");
}

/* I6: what a read shows must be committed. */
static void check_read_answer(struct watch *x, uint32_t node, const struct asked *a,
                              const struct heard *h)
{
    const struct truth *t = truth_at(x, a->partition, h->version.seq);
    const struct change *c = change_of(x, t, a->key_hash);
    if (t->epoch == 0 || t->epoch != h->version.epoch || c == NULL || !c->present ||
        (!a->part && c->value_hash != hash_bytes(h->value)))
        world_fail(x->world, "I6",
                   "node %u shows version (%" PRIu64 ",%" PRIu64
                   ") of a key of partition %u, which is not committed so",
                   node, h->version.epoch, h->version.seq, a->partition);
}

/* Is this what the change left of its key (NULL: nobody has written it)? */
static bool left_so(const struct change *c, const struct heard *h)
{
    if (h->status == STATUS_NOTFOUND)
        return c == NULL || !c->present;
    return c != NULL && c->present && c->seq == h->version.seq;
}

/* R6: a read of any copy shows what is committed there: between what was at the end of the node's last
 * turn, so that no copy goes back, and now. */
static void check_any_answer(struct watch *x, uint32_t node, const struct asked *a,
                             const struct heard *h)
{
    const struct node *n = machine_node(x->world->machines[node]);
    struct node_replica_view v;
    uint64_t low = x->nodes[node].committed[a->partition];
    const struct change *newest = NULL;
    bool fits = false;
    if (x->nodes[node].away || n == NULL || !node_replica(n, a->partition, &v))
        return;
    for (size_t i = 0; i < x->changes_count; i++) {
        const struct change *c = &x->changes[i];
        if (c->partition != a->partition || c->key_hash != a->key_hash)
            continue;
        fits = fits || (c->seq > low && left_so(newest, h));
        if (c->seq > v.commit_seq)
            break;
        newest = c;
    }
    fits = fits || left_so(newest, h);
    x->world->reached[REACH_reads_any]++;
    x->world->reached[REACH_reads_old] += v.commit_seq < x->truths[a->partition].highest;
    if (!fits)
        world_fail(x->world, "R6",
                   "node %u shows %s (%" PRIu64 ",%" PRIu64
                   ") of a key of partition %u, and has committed up to %" PRIu64
                   " (%" PRIu64 " before this turn)",
                   node, status_name(h->status), h->version.epoch, h->version.seq, a->partition,
                   v.commit_seq, low);
}

static bool is_final(enum status s)
{
    return s == STATUS_OK || s == STATUS_NOTFOUND || s == STATUS_CONDITION ||
           s == STATUS_NOTNUMBER || s == STATUS_OVERFLOW || s == STATUS_ABORTED;
}

static struct bytes view_of(const struct bound *b)
{
    return bytes_of(b->text, b->size);
}

/* Is the key one that the page must tell of? */
static bool in_page(const struct range *r, struct bytes next, const struct change *c)
{
    struct bytes key = bytes_of(c->key, c->key_size), prefix = view_of(&r->prefix);
    return bytes_equal(partition_hash_tag(key), view_of(&r->tag)) && key.size >= prefix.size &&
           bytes_equal(bytes_of(key.data, prefix.size), prefix) &&
           bytes_compare(key, view_of(&r->from)) >= 0 &&
           (r->to.size == 0 || bytes_compare(key, view_of(&r->to)) < 0) &&
           (next.size == 0 || bytes_compare(key, next) < 0);
}

/* Does row i of the page show what this change left? */
static bool shows(const struct range *r, const struct scan_page *m, size_t i, const struct change *c)
{
    return bytes_equal(m->keys[i], bytes_of(c->key, c->key_size)) && m->seqs[i] == c->seq &&
           (r->keys_only || hash_bytes(m->values[i]) == c->value_hash);
}

static bool shown(const struct range *r, const struct scan_page *m, const struct change *c)
{
    for (size_t i = 0; i < m->count; i++)
        if (shows(r, m, i, c))
            return true;
    return false;
}

/* How far the committed log has been followed, for one page. */
struct moment {
    const struct change **newest; /* of each key that the page is about */
    size_t keys_count;
    size_t present, fitting; /* of them: there; there, and shown so */
};

static void follow_change(struct moment *at, const struct range *r, const struct scan_page *m,
                          const struct change *c)
{
    size_t i = 0;
    while (i < at->keys_count && at->newest[i]->key_hash != c->key_hash)
        i++;
    if (i == at->keys_count) {
        at->keys_count++;
    } else if (at->newest[i]->present) {
        at->present--;
        at->fitting -= shown(r, m, at->newest[i]);
    }
    at->newest[i] = c;
    if (c->present) {
        at->present++;
        at->fitting += shown(r, m, c);
    }
}

static bool fits_moment(const struct moment *at, const struct range *r, const struct scan_page *m)
{
    if (r->count_only)
        return at->present == m->counted && m->count == 0;
    return at->present == m->count && at->fitting == m->count;
}

/* Was there a place in the log, not before what was committed when the page was asked for, where all keys
 * stood as it shows them? A page that shows a part of an atomic batch, or one key older than another, finds
 * none. */
static bool was_a_moment(const struct watch *x, const struct asked *a, const struct scan_page *m)
{
    struct moment at = {.newest = calloc(x->changes_count + 1, sizeof *at.newest)};
    ENSURE(at.newest != NULL);
    uint64_t seq = 0;
    bool fits = false;
    for (size_t i = 0; i < x->changes_count && !fits; i++) {
        const struct change *c = &x->changes[i];
        if (c->partition != a->partition || !in_page(a->range, m->next, c))
            continue;
        fits = c->seq != seq && c->seq > a->committed && fits_moment(&at, a->range, m);
        seq = c->seq;
        if (!fits)
            follow_change(&at, a->range, m, c);
    }
    fits = fits || fits_moment(&at, a->range, m);
    free(at.newest);
    return fits;
}

static void check_page(struct watch *x, uint32_t node, const struct asked *a, struct bytes value)
{
    struct arena arena;
    struct scan_page m;
    arena_init(&arena);
    arena_reset(&arena, 1u << 16);
    bool ok = codec_unpack_scan_page(value, &arena, &m) == STATUS_OK;
    for (size_t i = 1; ok && i < m.count; i++)
        ok = bytes_compare(m.keys[i - 1], m.keys[i]) < 0;
    if (!ok || !was_a_moment(x, a, &m))
        world_fail(x->world, "I7",
                   "node %u shows a page of a hash tag of partition %u that was never so", node,
                   a->partition);
    x->world->reached[REACH_ranges]++;
    x->world->reached[REACH_range_rest] += ok && m.next.size > 0;
    arena_fini(&arena);
}

static void check_results(struct watch *x, uint32_t node, const struct answer *m)
{
    for (size_t i = 0; i < m->count; i++) {
        struct heard h = {.status = status_from_wire(m->statuses[i]),
                          .flags = m->flags[i],
                          .version = {m->epochs[i], m->seqs[i]},
                          .value = m->values[i]};
        const uint64_t *index = map_get(&x->tokens, m->owner, m->ids[i]);
        if (index == NULL) {
            world_fail(x->world, "I8", "node %u answers a token that was never sent", node);
            continue;
        }
        const struct asked *a = &x->asked[*index];
        x->world->reached[REACH_too_old] += h.status == STATUS_TOOOLD;
        if ((message_writes(a->kind) || a->kind == KIND_OUTCOME) && is_final(h.status))
            check_write_answer(x, node, a, &h);
        if (a->kind == KIND_READ && h.status == STATUS_OK)
            check_read_answer(x, node, a, &h);
        if (a->any && (h.status == STATUS_OK || h.status == STATUS_NOTFOUND))
            check_any_answer(x, node, a, &h);
        if (a->kind == KIND_RANGE && h.status == STATUS_OK &&
            x->world->knobs.clock_wrong_ppm <= CLOCK_WRONG_PPM)
            check_page(x, node, a, h.value);
    }
}

static void watch_node_frame(struct watch *x, uint32_t node, enum message_kind kind,
                             struct bytes frame)
{
    struct append append;
    struct promised promised;
    struct answer answer;
    if (kind == MESSAGE_APPEND && codec_unpack_append(frame, &x->arena, &append) == STATUS_OK)
        check_append(x, &append);
    if (kind == MESSAGE_PROMISED && codec_unpack_promised(frame, &x->arena, &promised) == STATUS_OK)
        note_promised(x, &promised);
    if (kind == MESSAGE_RESULTS && codec_unpack_answer(frame, &x->arena, &answer) == STATUS_OK)
        check_results(x, node, &answer);
}

void watch_frame(struct watch *x, uint32_t from, uint32_t to, struct bytes frame)
{
    enum message_kind kind;
    struct batch batch;
    (void)to;
    if (codec_peek(frame, &kind) != STATUS_OK) {
        world_fail(x->world, "I20", "endpoint %u sends a frame without a prefix", from);
        return;
    }
    if (from < WORLD_NODES_MAX)
        watch_node_frame(x, from, kind, frame);
    if (kind == MESSAGE_BATCH && codec_unpack_batch(frame, &x->arena, &batch) == STATUS_OK)
        note_batch(x, &batch);
}

/* ---------------------------------------------------------------- at rest */

static bool gather_row(void *arg, const struct table_row *row)
{
    struct buffer *to = arg;
    uint64_t head[6] = {row->digest,           row->key.size,       row->item.version.epoch,
                        row->item.version.seq, row->item.expiry_ms, row->item.value.size};
    ENSURE(buffer_append(to, bytes_of(head, sizeof head)) == STATUS_OK);
    ENSURE(buffer_append(to, row->key) == STATUS_OK);
    ENSURE(buffer_append(to, row->item.value) == STATUS_OK);
    return true;
}

static void gather(struct watch *x, uint32_t partition, const struct node *n, struct store *store,
                   struct buffer *rows, struct buffer *records)
{
    struct node_replica_view v;
    buffer_init(rows, (size_t)1 << 30);
    buffer_init(records, (size_t)1 << 30);
    if (!node_replica(n, partition, &v)) {
        world_fail(x->world, "I13", "a member of partition %u has no replica of it", partition);
        return;
    }
    ENSURE(store_scan(store, v.slot, 0, BYTES_EMPTY, gather_row, rows) == STATUS_OK);
    ENSURE(node_completion_save(n, partition, records) == STATUS_OK);
    store_turn_end(store);
}

void watch_compare(struct watch *x, uint32_t partition, uint32_t a, const struct node *node_a,
                   struct store *store_a, uint32_t b, const struct node *node_b,
                   struct store *store_b)
{
    struct buffer rows[2], records[2];
    gather(x, partition, node_a, store_a, &rows[0], &records[0]);
    gather(x, partition, node_b, store_b, &rows[1], &records[1]);
    if (!bytes_equal(buffer_view(&rows[0]), buffer_view(&rows[1])))
        world_fail(x->world, "I13", "the rows of partition %u differ between nodes %u and %u",
                   partition, a, b);
    if (!bytes_equal(buffer_view(&records[0]), buffer_view(&records[1])))
        world_fail(x->world, "I13",
                   "the completion records of partition %u differ between nodes %u and %u",
                   partition, a, b);
    for (int i = 0; i < 2; i++) {
        buffer_fini(&rows[i]);
        buffer_fini(&records[i]);
    }
}

static void judge_item(struct watch *x, const struct history_item *item)
{
    const uint64_t *place = map_get(&x->operations, item->client_id, item->seq);
    const struct truth *t =
        place == NULL ? NULL : truth_at(x, (uint32_t)(*place >> 40), *place & 0xffffffffffu);
    bool happened = t != NULL && t->kind == ENTRY_WRITE;
    if (item->op.outcome == CHECKER_NOT_DONE && happened)
        world_fail(x->world, "I22",
                   "client %u heard that operation %" PRIu64
                   " was not done, but it is committed (%s)",
                   item->client, item->seq, status_name(t->status));
    if (item->op.outcome == CHECKER_DONE && !happened)
        world_fail(x->world, "I6",
                   "client %u heard that operation %" PRIu64 " was done, but it is not committed",
                   item->client, item->seq);
    enum status heard = item->batch_count > 0 ? item->batch_status : item->op.status;
    if (item->op.outcome == CHECKER_DONE && happened &&
        (t->status != heard ||
         !version_same(item->op.version, t->epoch, *place & 0xffffffffffu)))
        world_fail(x->world, "I8",
                   "client %u heard %s (%" PRIu64 ",%" PRIu64 ") of operation %" PRIu64
                   ", committed is %s",
                   item->client, status_name(heard), item->op.version.epoch,
                   item->op.version.seq, item->seq, status_name(t->status));
}

void watch_resolve(const struct watch *x, const struct history_item *item, struct bytes key,
                   struct checker_operation *op)
{
    const uint64_t *place = map_get(&x->operations, item->client_id, item->seq);
    op->outcome = CHECKER_NOT_DONE;
    if (place == NULL)
        return;
    uint64_t at = *place & 0xffffffffffu;
    const struct truth *t = truth_at(x, (uint32_t)(*place >> 40), at);
    if (t->kind != ENTRY_WRITE)
        return;
    /* The entry has one status for all of a batch: on this key it had an effect, or did not matter. */
    if (item->batch_count > 0 && change_of(x, t, hash_bytes(key)) == NULL)
        return;
    op->outcome = CHECKER_DONE;
    op->returned = UINT64_MAX;
    op->status = t->status;
    op->version = (struct version){t->epoch, at};
    op->want = WANT_NOTHING;
}

void watch_judge(struct watch *x)
{
    const struct history *h = &x->world->history;
    for (size_t i = 0; i < h->count && !x->world->failed; i++)
        if (!h->items[i].op.read && h->items[i].seq != 0)
            judge_item(x, &h->items[i]);
}
