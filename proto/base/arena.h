/* Arena: many small allocations, freed together, under a hard cap.
 *
 * One arena serves one message at a time: arena_reset() before each. Not thread-safe.
 */
#ifndef PROTO_BASE_ARENA_H
#define PROTO_BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first; a reset keeps the newest, if it is not large */
    size_t used;                /* bytes handed out since the last reset */
    size_t cap;                 /* arena_alloc() fails beyond it */
};

void arena_init(struct arena *a);
void arena_fini(struct arena *a);

/* Forget all allocations and set the cap, in bytes, for those to come. */
void arena_reset(struct arena *a, size_t cap);

/* 16-byte aligned, not zeroed. NULL beyond the cap or out of memory. */
void *arena_alloc(struct arena *a, size_t size);

/* arena_alloc() of count elements, zeroed; NULL also when count * size overflows. */
void *arena_calloc(struct arena *a, size_t count, size_t size);

#endif
