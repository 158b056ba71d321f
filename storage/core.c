#include "storage/core.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "storage/replica.h"

#define SLOTS_MAX (1u << 20) /* ever given away on one disk */

enum status core_fail(struct core *c, enum status status)
{
    ENSURE(status != STATUS_OK);
    if (c->failed == STATUS_OK)
        c->failed = status;
    return c->failed;
}

void core_lost(struct core *c, const struct replica *r, uint64_t committed)
{
    if (c->failed != STATUS_OK)
        return;
    c->lost_partition = r->partition;
    c->lost_here = r->last.seq;
    c->lost_there = committed;
    core_fail(c, STATUS_CORRUPT);
}

void core_replaced(struct core *c)
{
    c->replaced = true;
    core_fail(c, STATUS_WRONGCLUSTER);
}

void core_outlived(struct core *c, uint64_t incarnation)
{
    if (c->failed != STATUS_OK)
        return;
    c->outlived_by = incarnation;
    core_fail(c, STATUS_CORRUPT);
}

uint64_t core_record(struct core *c, enum record_kind kind, uint32_t slot, struct bytes body)
{
    struct node_effects *out = c->out;
    if (out->records_count == 0)
        out->records_first = c->next_lsn;
    if (c->durable_lsn + 1 == c->next_lsn)
        c->synced_ms = c->now_ms;
    enum status status = record_append(&out->records, kind, slot, body);
    if (status != STATUS_OK) {
        core_fail(c, STATUS_NOMEMORY);
        return 0;
    }
    out->records_count++;
    return c->next_lsn++;
}

static bool queue_grow(struct durable_queue *q)
{
    size_t capacity = q->capacity == 0 ? 1024 : q->capacity * 2;
    struct durable_item *items = malloc(capacity * sizeof *items);
    if (items == NULL)
        return false;
    for (size_t i = 0; i < q->count; i++)
        items[i] = q->items[(q->head + i) & (q->capacity - 1)];
    free(q->items);
    *q = (struct durable_queue){.items = items, .count = q->count, .capacity = capacity};
    return true;
}

void core_when_durable(struct core *c, uint64_t lsn, struct replica *r, enum durable_kind kind,
                       uint64_t number)
{
    struct durable_queue *q = &c->queue;
    if (c->failed != STATUS_OK)
        return;
    if (q->count == q->capacity && !queue_grow(q)) {
        core_fail(c, STATUS_NOMEMORY);
        return;
    }
    q->items[(q->head + q->count++) & (q->capacity - 1)] =
        (struct durable_item){.lsn = lsn, .replica = r, .kind = kind, .number = number};
}

void core_touch(struct core *c, struct replica *r)
{
    if (r->touched)
        return;
    r->touched = true;
    c->touched[c->touched_count++] = r;
}

void core_reply(struct core *c, struct asker to, const struct reply *reply)
{
    enum status status = replies_add(&c->replies, to, reply, c->ptime_max, c->out);
    if (status != STATUS_OK)
        core_fail(c, STATUS_NOMEMORY);
}

void core_refuse(struct core *c, struct asker to, enum status status)
{
    struct reply reply = {.status = status};
    core_reply(c, to, &reply);
}

void core_fetch(struct core *c, const struct cold_key *k, uint64_t generation)
{
    struct node_effect *e = node_effects_add(c->out, NODE_FETCH);
    if (e == NULL || buffer_append(&e->frame, bytes_of(k->key, k->key_size)) != STATUS_OK) {
        core_fail(c, STATUS_NOMEMORY);
        return;
    }
    e->ticket = k->ticket;
    e->generation = generation;
    e->slot = k->slot;
    e->digest = k->digest;
    c->counters.fetches++;
}

void core_malformed(struct core *c)
{
    c->counters.malformed++;
}

void core_packed(struct core *c, enum status status)
{
    if (status != STATUS_OK)
        core_fail(c, STATUS_NOMEMORY);
}

bool core_assigned(const struct clustermap_partition *p, uint32_t node)
{
    for (uint32_t i = 0; i < p->assigned_count; i++)
        if (p->assigned[i] == node)
            return true;
    return false;
}

struct replica *core_live(const struct core *c, uint32_t slot)
{
    struct replica *r = c->by_slot[slot];
    return r == NULL || r->installing ? NULL : r;
}

bool core_slot_reserve(struct core *c, uint32_t slot)
{
    if (slot >= SLOTS_MAX)
        return false;
    if (slot < c->slots_capacity)
        return true;
    uint32_t capacity = c->slots_capacity == 0 ? 64 : c->slots_capacity;
    while (capacity <= slot)
        capacity *= 2;
    struct replica **by_slot = realloc(c->by_slot, capacity * sizeof *by_slot);
    if (by_slot != NULL)
        c->by_slot = by_slot;
    uint8_t *dropped = realloc(c->slot_dropped, capacity);
    if (dropped != NULL)
        c->slot_dropped = dropped;
    if (by_slot == NULL || dropped == NULL)
        return false;
    for (uint32_t i = c->slots_capacity; i < capacity; i++) {
        by_slot[i] = NULL;
        dropped[i] = SLOT_LIVE;
    }
    c->slots_capacity = capacity;
    return true;
}

struct replica *core_replica(const struct core *c, uint32_t partition)
{
    return partition < c->map->partition_count ? c->by_partition[partition] : NULL;
}
