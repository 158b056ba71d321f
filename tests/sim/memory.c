#include "tests/sim/memory.h"

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/ensure.h"
#include "tests/sim/random.h"

#define MEAN_BITS_MIN 7
#define MEAN_BITS_MAX 14

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

/* volatile: the compiler knows what malloc() does, and that it does not look here. */
static volatile bool working;
static volatile uint64_t left, mean, failures;
static struct random source;

static void draw(void)
{
    left = random_below(&source, 2 * mean);
}

void memory_starve(uint64_t seed)
{
    random_init(&source, seed * 3000017);
    mean = 1u << random_range(&source, MEAN_BITS_MIN, MEAN_BITS_MAX);
    draw();
}

void memory_feed(void)
{
    mean = 0;
}

void memory_work(void)
{
    ENSURE(!working);
    working = true;
}

void memory_rest(void)
{
    ENSURE(working);
    working = false;
}

uint64_t memory_failures(void)
{
    return failures;
}

static bool fails_now(void)
{
    if (!working || mean == 0)
        return false;
    if (left > 0) {
        left--;
        return false;
    }
    draw();
    failures++;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *at, size_t size)
{
    return fails_now() ? NULL : __real_realloc(at, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails_now() ? NULL : __real_aligned_alloc(alignment, size);
}
