#include "proto/base/arena.h"

#include <sanitizer/asan_interface.h> /* its macros are empty in builds without a sanitizer */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/ensure.h"

#define ALIGNMENT      ((size_t)16)
#define BLOCK_SIZE_MIN ((size_t)4096)
#define BLOCK_SIZE_MAX ((size_t)1 << 20)

/* A reset keeps one block up to this size. A larger one came from a rare large message; kept, it
 * would stay with each arena for good. */
#define KEEP_SIZE_MAX ((size_t)1 << 20)

/* Under AddressSanitizer, which gcc and clang tell in different ways, a gap that nobody may touch
 * follows each allocation. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GAP_SIZE ALIGNMENT
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define GAP_SIZE ALIGNMENT
#endif
#ifndef GAP_SIZE
#define GAP_SIZE ((size_t)0)
#endif

struct arena_block {
    struct arena_block *next; /* older */
    size_t size;              /* of octets */
    size_t used;
    size_t unused; /* keeps octets aligned */
    uint8_t octets[];
};

_Static_assert(sizeof(struct arena_block) % ALIGNMENT == 0, "octets are aligned");

static void block_free(struct arena_block *block)
{
    ASAN_UNPOISON_MEMORY_REGION(block->octets, block->size);
    free(block);
}

static void blocks_free(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *next = block->next;
        block_free(block);
        block = next;
    }
}

void arena_init(struct arena *a)
{
    *a = (struct arena){0};
}

void arena_fini(struct arena *a)
{
    if (a == NULL)
        return;
    blocks_free(a->blocks);
    *a = (struct arena){0};
}

void arena_reset(struct arena *a, size_t cap)
{
    struct arena_block *kept = a->blocks;
    if (kept != NULL) {
        /* The newest is the largest as a rule: after a few messages of one size, one block holds
         * a whole message and nothing is allocated any more. */
        blocks_free(kept->next);
        kept->next = NULL;
        kept->used = 0;
        ASAN_POISON_MEMORY_REGION(kept->octets, kept->size);
        if (kept->size > KEEP_SIZE_MAX) {
            block_free(kept);
            kept = NULL;
        }
    }
    *a = (struct arena){.blocks = kept, .cap = cap};
}

/* A new block with room for need: twice the size of the one before, within bounds. */
static struct arena_block *block_new(struct arena *a, size_t need)
{
    size_t size = a->blocks == NULL ? BLOCK_SIZE_MIN : a->blocks->size * 2;
    if (size > BLOCK_SIZE_MAX)
        size = BLOCK_SIZE_MAX;
    if (size < need)
        size = need;
    struct arena_block *block = malloc(sizeof *block + size);
    if (block == NULL)
        return NULL;
    *block = (struct arena_block){.next = a->blocks, .size = size};
    ASAN_POISON_MEMORY_REGION(block->octets, block->size);
    a->blocks = block;
    return block;
}

void *arena_alloc(struct arena *a, size_t size)
{
    ENSURE(a->used <= a->cap);
    if (size > a->cap - a->used)
        return NULL;
    if (size > SIZE_MAX / 2)
        return NULL;
    size_t rounded = ((size == 0 ? 1 : size) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (rounded > a->cap - a->used)
        return NULL;
    size_t taken = rounded + GAP_SIZE;
    struct arena_block *block = a->blocks;
    if (block == NULL || taken > block->size - block->used)
        block = block_new(a, taken);
    if (block == NULL)
        return NULL;
    void *at = block->octets + block->used;
    block->used += taken;
    a->used += rounded;
    ASAN_UNPOISON_MEMORY_REGION(at, size);
    return at;
}

void *arena_calloc(struct arena *a, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    void *at = arena_alloc(a, total);
    if (at != NULL)
        memset(at, 0, total);
    return at;
}
