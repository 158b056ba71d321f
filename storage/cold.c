#include "storage/cold.h"

#include <stdlib.h>

#include "proto/base/ensure.h"

void cold_init(struct cold *c)
{
    *c = (struct cold){0};
}

void cold_fini(struct cold *c)
{
    for (uint32_t i = 0; i < COLD_BUCKETS; i++)
        while (c->buckets[i] != NULL) {
            struct cold_key *k = c->buckets[i];
            struct cold_operation *op;
            while ((op = cold_next(c, k)) != NULL)
                free(op);
            cold_end(c, &k);
        }
}

static uint32_t bucket_of(uint32_t slot, uint64_t digest)
{
    return (uint32_t)(digest ^ digest >> 20 ^ slot) & (COLD_BUCKETS - 1);
}

struct cold_key *cold_find(const struct cold *c, uint32_t slot, uint64_t digest, struct bytes key)
{
    if (c->keys_count == 0)
        return NULL;
    struct cold_key *k = c->buckets[bucket_of(slot, digest)];
    for (; k != NULL; k = k->next)
        if (k->slot == slot && bytes_equal(bytes_of(k->key, k->key_size), key))
            return k;
    return NULL;
}

struct cold_key *cold_begin(struct cold *c, uint32_t partition, uint32_t slot, uint64_t digest,
                            struct bytes key)
{
    struct cold_key *k = malloc(sizeof *k + key.size);
    if (k == NULL)
        return NULL;
    uint32_t bucket = bucket_of(slot, digest);
    *k = (struct cold_key){.ticket = ++c->tickets * COLD_BUCKETS + bucket,
                           .partition = partition,
                           .slot = slot,
                           .digest = digest,
                           .key_size = (uint32_t)key.size,
                           .next = c->buckets[bucket]};
    memcpy(k->key, key.data, key.size);
    k->last = &k->first;
    c->buckets[bucket] = k;
    c->keys_count++;
    return k;
}

static void insert(struct cold_key *k, struct cold_operation *op)
{
    struct cold_operation **at = k->first == NULL ? &k->first : k->last;
    if (k->first != NULL && op->operation.arrival < k->arrival_last)
        at = &k->first;
    while (*at != NULL && (*at)->operation.arrival <= op->operation.arrival)
        at = &(*at)->next;
    op->next = *at;
    *at = op;
    if (op->next != NULL)
        return;
    k->last = &op->next;
    k->arrival_last = op->operation.arrival;
}

enum status cold_park(struct cold *c, struct cold_key *k, const struct operation *op)
{
    struct cold_operation *parked = malloc(sizeof *parked + op->key.size + op->body.size);
    if (parked == NULL)
        return STATUS_NOMEMORY;
    parked->next = NULL;
    parked->operation = *op;
    uint8_t *bytes = (uint8_t *)(parked + 1);
    memcpy(bytes, op->key.data, op->key.size);
    if (op->body.size > 0)
        memcpy(bytes + op->key.size, op->body.data, op->body.size);
    parked->operation.key = bytes_of(bytes, op->key.size);
    parked->operation.body = bytes_of(bytes + op->key.size, op->body.size);
    insert(k, parked);
    c->operations_count++;
    return STATUS_OK;
}

struct cold_key *cold_by_ticket(const struct cold *c, uint64_t ticket)
{
    struct cold_key *k = c->buckets[ticket & (COLD_BUCKETS - 1)];
    while (k != NULL && k->ticket != ticket)
        k = k->next;
    return k;
}

struct cold_operation *cold_next(struct cold *c, struct cold_key *k)
{
    struct cold_operation *op = k->first;
    if (op == NULL)
        return NULL;
    k->first = op->next;
    if (k->first == NULL)
        k->last = &k->first;
    c->operations_count--;
    return op;
}

void cold_end(struct cold *c, struct cold_key **k_p)
{
    struct cold_key *k = *k_p;
    ENSURE(k->first == NULL);
    struct cold_key **at = &c->buckets[k->ticket & (COLD_BUCKETS - 1)];
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    c->keys_count--;
    free(k);
    *k_p = NULL;
}
