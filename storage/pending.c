#include "storage/pending.h"

#include <stdlib.h>

#include "proto/base/ensure.h"

enum status pending_index_init(struct pending_index *x)
{
    *x = (struct pending_index){0};
    x->by_key = calloc(PENDING_BUCKETS, sizeof *x->by_key);
    x->by_client = calloc(PENDING_BUCKETS, sizeof *x->by_client);
    if (x->by_key != NULL && x->by_client != NULL)
        return STATUS_OK;
    pending_index_fini(x);
    return STATUS_NOMEMORY;
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
    ENSURE((*p_p)->key_link == NULL && (*p_p)->client_link == NULL);
    free((*p_p)->full_result);
    free(*p_p);
    *p_p = NULL;
}

static uint32_t key_bucket(uint32_t slot, uint64_t digest)
{
    /* Partitions share the leading bits of the digest, so the low ones spread. */
    return (uint32_t)(digest ^ slot * 2654435761u) & (PENDING_BUCKETS - 1);
}

/* All of one client's entries in a slot stand in one chain: they are few, a window at most. */
static uint32_t client_bucket(uint32_t slot, uint64_t client)
{
    uint64_t mixed = (client + slot) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(mixed >> 32) & (PENDING_BUCKETS - 1);
}

static void link_key(struct pending **head, struct pending *p)
{
    p->key_next = *head;
    if (p->key_next != NULL)
        p->key_next->key_link = &p->key_next;
    p->key_link = head;
    *head = p;
}

static void link_client(struct pending **head, struct pending *p)
{
    p->client_next = *head;
    if (p->client_next != NULL)
        p->client_next->client_link = &p->client_next;
    p->client_link = head;
    *head = p;
}

void pending_link(struct pending_index *x, struct pending *p)
{
    const struct entry *e = &p->entry;
    if (e->effects_count > 0)
        link_key(&x->by_key[key_bucket(p->slot, e->effects[0].digest)], p);
    if (e->client != 0)
        link_client(&x->by_client[client_bucket(p->slot, e->client)], p);
    x->count++;
    x->bytes += pending_size(p);
}

void pending_unlink(struct pending_index *x, struct pending *p)
{
    if (p->key_link != NULL) {
        *p->key_link = p->key_next;
        if (p->key_next != NULL)
            p->key_next->key_link = p->key_link;
        p->key_link = NULL;
    }
    if (p->client_link != NULL) {
        *p->client_link = p->client_next;
        if (p->client_next != NULL)
            p->client_next->client_link = p->client_link;
        p->client_link = NULL;
    }
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
    struct pending *p = x->by_key[key_bucket(slot, digest)];
    for (; p != NULL; p = p->key_next)
        if (p->slot == slot && effect_on(p, key) != NULL)
            return p;
    return NULL;
}

struct pending *pending_of_digest(const struct pending_index *x, uint32_t slot, uint64_t digest)
{
    struct pending *p = x->by_key[key_bucket(slot, digest)];
    for (; p != NULL; p = p->key_next)
        if (p->slot == slot && p->entry.effects[0].digest == digest)
            return p;
    return NULL;
}

struct pending *pending_of_client(const struct pending_index *x, uint32_t slot, uint64_t client,
                                  uint64_t seq)
{
    struct pending *p = x->by_client[client_bucket(slot, client)];
    for (; p != NULL; p = p->client_next)
        if (p->slot == slot && p->entry.client == client && p->entry.client_seq == seq)
            return p;
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
    const struct pending *p = x->by_client[client_bucket(slot, client)];
    for (; p != NULL; p = p->client_next)
        if (p->slot == slot && p->entry.client == client && p->entry.client_seq > seq &&
            p->entry.kind == ENTRY_WRITE && among(p->entry.key_hash, key_hashes, count))
            return true;
    return false;
}

const struct effect *pending_effect(const struct pending *p, struct bytes key)
{
    const struct effect *f = effect_on(p, key);
    ENSURE(f != NULL);
    return f;
}
