/* Map: from two numbers to one, for the watchers. Grows without end, never forgets. */
#ifndef TESTS_SIM_MAP_H
#define TESTS_SIM_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/base/ensure.h"

struct map_entry {
    uint64_t a, b, value;
    bool used;
};

struct map {
    struct map_entry *entries;
    size_t count, capacity;
};

static inline void map_fini(struct map *m)
{
    free(m->entries);
    *m = (struct map){0};
}

static inline struct map_entry *map_place(struct map_entry *entries, size_t capacity, uint64_t a,
                                          uint64_t b)
{
    uint64_t hash = (a * 0x9e3779b97f4a7c15u) ^ (b * 0xc2b2ae3d27d4eb4fu);
    hash ^= hash >> 29;
    size_t at = (size_t)hash & (capacity - 1);
    while (entries[at].used && (entries[at].a != a || entries[at].b != b))
        at = (at + 1) & (capacity - 1);
    return &entries[at];
}

static inline void map_grow(struct map *m)
{
    size_t capacity = m->capacity == 0 ? 64 : 2 * m->capacity;
    struct map_entry *entries = calloc(capacity, sizeof *entries);
    ENSURE(entries != NULL);
    for (size_t i = 0; i < m->capacity; i++)
        if (m->entries[i].used)
            *map_place(entries, capacity, m->entries[i].a, m->entries[i].b) = m->entries[i];
    free(m->entries);
    m->entries = entries;
    m->capacity = capacity;
}

/* The value under (a, b); made with value when it is new. *ret_new says which. Valid until the next
 * call. */
static inline uint64_t *map_put(struct map *m, uint64_t a, uint64_t b, uint64_t value,
                                bool *ret_new)
{
    if ((m->count + 1) * 2 > m->capacity)
        map_grow(m);
    struct map_entry *e = map_place(m->entries, m->capacity, a, b);
    *ret_new = !e->used;
    if (!e->used) {
        *e = (struct map_entry){.a = a, .b = b, .value = value, .used = true};
        m->count++;
    }
    return &e->value;
}

/* NULL: not there. */
static inline const uint64_t *map_get(const struct map *m, uint64_t a, uint64_t b)
{
    if (m->count == 0)
        return NULL;
    const struct map_entry *e = map_place(m->entries, m->capacity, a, b);
    return e->used ? &e->value : NULL;
}

#endif
