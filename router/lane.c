#include "router/lane.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"

bool lanes_init(struct lanes *l, struct operation *slots, uint32_t count, uint64_t seed)
{
    *l = (struct lanes){.slots = slots, .buckets_count = 1, .seed = seed};
    while (l->buckets_count < 2 * count)
        l->buckets_count *= 2;
    l->lanes = calloc(count, sizeof *l->lanes);
    l->buckets = malloc(l->buckets_count * sizeof *l->buckets);
    if (l->lanes == NULL || l->buckets == NULL)
        return false;
    for (uint32_t i = 0; i < l->buckets_count; i++)
        l->buckets[i] = LANE_NONE;
    for (uint32_t i = 0; i < count; i++)
        l->lanes[i].next = i + 1 < count ? i + 1 : LANE_NONE;
    l->free = 0;
    return true;
}

void lanes_fini(struct lanes *l)
{
    free(l->lanes);
    free(l->buckets);
    *l = (struct lanes){0};
}

static uint32_t bucket_of(const struct lanes *l, uint64_t source, uint64_t digest)
{
    /* A multiplication and two shifts stir every bit of both into the low ones. */
    uint64_t mixed = (digest ^ l->seed) + source * UINT64_C(0x9e3779b97f4a7c15);
    mixed ^= mixed >> 32;
    mixed *= UINT64_C(0xd6e8feb86659fd93);
    mixed ^= mixed >> 32;
    return (uint32_t)mixed & (l->buckets_count - 1);
}

static uint32_t find(const struct lanes *l, uint64_t source, uint64_t digest, uint32_t bucket)
{
    uint32_t i = l->buckets[bucket];
    while (i != LANE_NONE && (l->lanes[i].source != source || l->lanes[i].digest != digest))
        i = l->lanes[i].next;
    return i;
}

static uint32_t create(struct lanes *l, uint64_t source, uint64_t digest, uint32_t bucket)
{
    uint32_t i = l->free;
    ENSURE(i != LANE_NONE); /* as many lanes as slots */
    struct lane *lane = &l->lanes[i];
    l->free = lane->next;
    *lane = (struct lane){.source = source,
                          .digest = digest,
                          .head = OPERATION_NONE,
                          .tail = OPERATION_NONE,
                          .next = l->buckets[bucket]};
    l->buckets[bucket] = i;
    return i;
}

void lane_join(struct lanes *l, uint64_t source, uint32_t index)
{
    struct operation *op = &l->slots[index];
    uint32_t bucket = bucket_of(l, source, op->digest);
    uint32_t i = find(l, source, op->digest, bucket);
    if (i == LANE_NONE)
        i = create(l, source, op->digest, bucket);
    struct lane *lane = &l->lanes[i];
    op->lane = i;
    op->lane_next = OPERATION_NONE;
    op->lane_prev = lane->tail;
    if (lane->tail != OPERATION_NONE)
        l->slots[lane->tail].lane_next = index;
    else
        lane->head = index;
    lane->tail = index;
    lane->count++;
    lane->writes += operation_writes(op);
    op->position = ++lane->position_last;
}

void lane_leave(struct lanes *l, uint32_t index, bool executed)
{
    struct operation *op = &l->slots[index];
    struct lane *lane = &l->lanes[op->lane];
    ENSURE(lane->count > 0);
    if (op->lane_next != OPERATION_NONE)
        l->slots[op->lane_next].lane_prev = op->lane_prev;
    else
        lane->tail = op->lane_prev;
    if (op->lane_prev != OPERATION_NONE)
        l->slots[op->lane_prev].lane_next = op->lane_next;
    else
        lane->head = op->lane_next;
    lane->count--;
    lane->writes -= operation_writes(op);
    if (executed && op->position > lane->position_executed)
        lane->position_executed = op->position;
    if (executed && operation_writes(op) && op->position > lane->position_written)
        lane->position_written = op->position;
    uint32_t i = op->lane;
    op->lane = LANE_NONE;
    if (!lane->walking)
        lane_release(l, i);
}

void lane_release(struct lanes *l, uint32_t i)
{
    struct lane *lane = &l->lanes[i];
    if (lane->count > 0)
        return;
    ENSURE(lane->sent == 0);
    ENSURE(lane->waiting == 0);
    uint32_t *from = &l->buckets[bucket_of(l, lane->source, lane->digest)];
    while (*from != i)
        from = &l->lanes[*from].next;
    *from = lane->next;
    lane->next = l->free;
    l->free = i;
}

static struct lane *lane_of(struct lanes *l, uint32_t index)
{
    ENSURE(l->slots[index].lane != LANE_NONE);
    return &l->lanes[l->slots[index].lane];
}

void lane_sent(struct lanes *l, uint32_t index, uint64_t link)
{
    struct lane *lane = lane_of(l, index);
    if (lane->sent == 0)
        lane->mixed = false;
    else if (lane->link != link)
        lane->mixed = true;
    lane->link = link;
    lane->sent++;
}

void lane_unsent(struct lanes *l, uint32_t index)
{
    struct lane *lane = lane_of(l, index);
    ENSURE(lane->sent > 0);
    lane->sent--;
}

void lane_waiting(struct lanes *l, uint32_t index)
{
    lane_of(l, index)->waiting++;
}

void lane_unwaiting(struct lanes *l, uint32_t index)
{
    struct lane *lane = lane_of(l, index);
    ENSURE(lane->waiting > 0);
    lane->waiting--;
}

bool lane_clear(const struct lanes *l, uint32_t index, uint64_t link)
{
    const struct operation *op = &l->slots[index];
    const struct lane *lane = &l->lanes[op->lane];
    if (lane->count == 1)
        return true;
    bool writes = operation_writes(op);
    if (!writes && (lane->writes == 0 || MUTANT(47)))
        return true;
    return lane->waiting == 0 && (lane->sent == 0 || (!lane->mixed && lane->link == link));
}
