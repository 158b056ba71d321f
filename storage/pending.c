#include "storage/pending.h"

#include <stdlib.h>

#include "proto/base/ensure.h"

/* A chain that must be passed costs more than a bucket. */
#define BUCKETS_EACH 8u
#define BUCKETS_MIN  1024u

static struct pending *of_key(struct pending_link *l)
{
    return (struct pending *)((uint8_t *)l - offsetof(struct pending, by_key));
}

static struct pending *of_client(struct pending_link *l)
{
    return (struct pending *)((uint8_t *)l - offsetof(struct pending, by_client));
}

static bool buckets_new(uint32_t count, struct pending_link ***ret_key,
                        struct pending_link ***ret_client)
{
    *ret_key = calloc(count, sizeof **ret_key);
    *ret_client = calloc(count, sizeof **ret_client);
    if (*ret_key != NULL && *ret_client != NULL)
        return true;
    free(*ret_key);
    free(*ret_client);
    return false;
}

enum status pending_index_init(struct pending_index *x)
{
    *x = (struct pending_index){0};
    if (!buckets_new(BUCKETS_MIN, &x->by_key, &x->by_client)) {
        *x = (struct pending_index){0};
        return STATUS_NOMEMORY;
    }
    x->buckets_count = BUCKETS_MIN;
    return STATUS_OK;
}

void pending_index_fini(struct pending_index *x)
{
    free(x->by_key);
    free(x->by_client);
    *x = (struct pending_index){0};
}

struct pending *pending_new(uint32_t slot, struct bytes body)
{
    size_t head = sizeof(struct pending) + record_entry_effects(body) * sizeof(struct effect);
    struct pending *p = malloc(head + body.size);
    if (p == NULL)
        return NULL;
    *p = (struct pending){.slot = slot, .body_size = (uint32_t)body.size};
    p->body = (uint8_t *)p + head;
    memcpy(p->body, body.data, body.size);
    if (record_entry_decode(bytes_of(p->body, body.size), &p->entry, p->effects) != STATUS_OK) {
        free(p);
        return NULL;
    }
    return p;
}

void pending_destroy(struct pending **p_p)
{
    if (p_p == NULL || *p_p == NULL)
        return;
    ENSURE((*p_p)->by_key.at == NULL && (*p_p)->by_client.at == NULL);
    free((*p_p)->full_result);
    free(*p_p);
    *p_p = NULL;
}

/* Partitions share the leading bits of the digest, so the low ones spread. */
static uint32_t key_hash(uint32_t slot, uint64_t digest)
{
    return (uint32_t)(digest ^ slot * 2654435761u);
}

/* All of one client's entries in a slot stand in one chain: they are few, a window at most. */
static uint32_t client_hash(uint32_t slot, uint64_t client)
{
    uint64_t mixed = (client + slot) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(mixed >> 32);
}

static struct pending_link *keys_like(const struct pending_index *x, uint32_t slot, uint64_t digest)
{
    return x->by_key[key_hash(slot, digest) & (x->buckets_count - 1)];
}

static struct pending_link *clients_like(const struct pending_index *x, uint32_t slot,
                                         uint64_t client)
{
    return x->by_client[client_hash(slot, client) & (x->buckets_count - 1)];
}

static void link_at(struct pending_link **at, struct pending_link *l)
{
    l->next = *at;
    if (l->next != NULL)
        l->next->at = &l->next;
    l->at = at;
    *at = l;
}

static void unlink_it(struct pending_link *l)
{
    if (l->at == NULL)
        return;
    *l->at = l->next;
    if (l->next != NULL)
        l->next->at = l->at;
    *l = (struct pending_link){NULL, NULL};
}

static uint32_t hash_by_key(struct pending_link *l)
{
    const struct pending *p = of_key(l);
    return key_hash(p->slot, p->entry.effects[0].digest);
}

static uint32_t hash_by_client(struct pending_link *l)
{
    const struct pending *p = of_client(l);
    return client_hash(p->slot, p->entry.client);
}

/* Move the chain at from to the two buckets that its entries now belong to; their order stays. */
static void split(struct pending_link *from, struct pending_link **low, struct pending_link **high,
                  uint32_t bit, uint32_t (*hash)(struct pending_link *))
{
    for (struct pending_link *l = from, *next; l != NULL; l = next) {
        struct pending_link ***end = (hash(l) & bit) == 0 ? &low : &high;
        next = l->next;
        l->at = *end;
        l->next = NULL;
        **end = l;
        *end = &l->next;
    }
}

/* Twice the buckets. Without memory for them the chains stay as long as they are. */
static void grow(struct pending_index *x)
{
    const uint32_t count = x->buckets_count;
    struct pending_link **by_key, **by_client;
    if (count >= PENDING_BUCKETS_MAX || !buckets_new(2 * count, &by_key, &by_client))
        return;
    for (uint32_t i = 0; i < count; i++) {
        split(x->by_key[i], &by_key[i], &by_key[count + i], count, hash_by_key);
        split(x->by_client[i], &by_client[i], &by_client[count + i], count, hash_by_client);
    }
    free(x->by_key);
    free(x->by_client);
    x->by_key = by_key;
    x->by_client = by_client;
    x->buckets_count = 2 * count;
}

void pending_link(struct pending_index *x, struct pending *p)
{
    const struct entry *e = &p->entry;
    if (x->count * BUCKETS_EACH >= x->buckets_count)
        grow(x);
    const uint32_t mask = x->buckets_count - 1;
    if (e->effects_count > 0)
        link_at(&x->by_key[hash_by_key(&p->by_key) & mask], &p->by_key);
    if (e->client != 0)
        link_at(&x->by_client[hash_by_client(&p->by_client) & mask], &p->by_client);
    x->count++;
    x->bytes += pending_size(p);
}

void pending_unlink(struct pending_index *x, struct pending *p)
{
    unlink_it(&p->by_key);
    unlink_it(&p->by_client);
    ENSURE(x->count > 0);
    x->count--;
    x->bytes -= pending_size(p);
}

/* A key comes at most once in an entry. */
static const struct effect *effect_on(const struct pending *p, struct bytes key)
{
    const struct entry *e = &p->entry;
    for (uint32_t i = 0; i < e->effects_count; i++)
        if (bytes_equal(e->effects[i].key, key))
            return &e->effects[i];
    return NULL;
}

struct pending *pending_of_key(const struct pending_index *x, uint32_t slot, uint64_t digest,
                               struct bytes key)
{
    for (struct pending_link *l = keys_like(x, slot, digest); l != NULL; l = l->next) {
        struct pending *p = of_key(l);
        if (p->slot == slot && effect_on(p, key) != NULL)
            return p;
    }
    return NULL;
}

struct pending *pending_of_digest(const struct pending_index *x, uint32_t slot, uint64_t digest)
{
    for (struct pending_link *l = keys_like(x, slot, digest); l != NULL; l = l->next) {
        struct pending *p = of_key(l);
        if (p->slot == slot && p->entry.effects[0].digest == digest)
            return p;
    }
    return NULL;
}

struct pending *pending_of_client(const struct pending_index *x, uint32_t slot, uint64_t client,
                                  uint64_t seq)
{
    for (struct pending_link *l = clients_like(x, slot, client); l != NULL; l = l->next) {
        struct pending *p = of_client(l);
        if (p->slot == slot && p->entry.client == client && p->entry.client_seq == seq)
            return p;
    }
    return NULL;
}

static bool among(uint64_t hash, const uint64_t *hashes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (hashes[i] == hash)
            return true;
    return false;
}

bool pending_overtaken(const struct pending_index *x, uint32_t slot, uint64_t client, uint64_t seq,
                       const uint64_t *key_hashes, size_t count)
{
    for (struct pending_link *l = clients_like(x, slot, client); l != NULL; l = l->next) {
        const struct pending *p = of_client(l);
        if (p->slot == slot && p->entry.client == client && p->entry.client_seq > seq &&
            p->entry.kind == ENTRY_WRITE && among(p->entry.key_hash, key_hashes, count))
            return true;
    }
    return false;
}

const struct effect *pending_effect(const struct pending *p, struct bytes key)
{
    const struct effect *f = effect_on(p, key);
    ENSURE(f != NULL);
    return f;
}
