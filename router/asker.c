#include "router/asker.h"

#include <stdlib.h>

#include "proto/base/ensure.h"

bool askers_init(struct askers *a, uint32_t count, uint64_t seed)
{
    *a = (struct askers){.buckets_count = 1, .seed = seed};
    while (a->buckets_count < 2 * count)
        a->buckets_count *= 2;
    a->askers = calloc(count, sizeof *a->askers);
    a->buckets = calloc(a->buckets_count, sizeof(struct asker *));
    if (a->askers == NULL || a->buckets == NULL)
        return false;
    for (uint32_t i = count; i-- > 0;) {
        a->askers[i].next = a->free;
        a->free = &a->askers[i];
    }
    return true;
}

void askers_fini(struct askers *a)
{
    free(a->askers);
    free(a->buckets);
    *a = (struct askers){0};
}

/* By source alone, so that all askers of one source are found together. */
static struct asker **bucket_of(struct askers *a, uint64_t source)
{
    uint64_t mixed = (source ^ a->seed) * UINT64_C(0x9e3779b97f4a7c15);
    return &a->buckets[(uint32_t)(mixed >> 32) & (a->buckets_count - 1)];
}

struct asker *askers_get(struct askers *a, uint64_t source, uint64_t client_id)
{
    struct asker **bucket = bucket_of(a, source);
    for (struct asker *asker = *bucket; asker != NULL; asker = asker->next)
        if (asker->source == source && asker->client_id == client_id)
            return asker;
    struct asker *asker = a->free;
    if (asker == NULL)
        return NULL;
    a->free = asker->next;
    *asker = (struct asker){.source = source, .client_id = client_id, .next = *bucket};
    operation_list_init(&asker->answered);
    *bucket = asker;
    return asker;
}

void asker_put(struct askers *a, struct asker *asker)
{
    ENSURE(asker->operations_count > 0);
    if (--asker->operations_count > 0)
        return;
    ENSURE(asker->answered.count == 0);
    ENSURE(!asker->answering);
    struct asker **from = bucket_of(a, asker->source);
    while (*from != asker)
        from = &(*from)->next;
    *from = asker->next;
    asker->next = a->free;
    a->free = asker;
}

bool askers_gone(struct askers *a, uint64_t source)
{
    bool found = false;
    for (struct asker *asker = *bucket_of(a, source); asker != NULL; asker = asker->next) {
        if (asker->source == source) {
            asker->gone = true;
            found = true;
        }
    }
    return found;
}
