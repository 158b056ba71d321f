/* Failing memory: the Nth allocation of the code under test fails. For tests that are linked with
 * --wrap (CMakeLists.txt lists them); what cmocka allocates is not touched.
 *
 *   failing_memory_arm(3);      the fourth allocation from now fails, those after it do not
 *   failing_memory_disarm();    true when it has failed
 */
#ifndef TESTS_UNIT_FAILING_MEMORY_H
#define TESTS_UNIT_FAILING_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);

/* volatile: the compiler knows what malloc() does, and that it does not look here. */
static volatile bool failing_armed;
static volatile bool failing_done;
static volatile uint64_t failing_left;

static void failing_memory_arm(uint64_t after)
{
    failing_armed = true;
    failing_done = false;
    failing_left = after;
}

static bool failing_memory_disarm(void)
{
    failing_armed = false;
    return failing_done;
}

static bool failing_now(void)
{
    if (!failing_armed || failing_done || failing_left-- > 0)
        return false;
    failing_done = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return failing_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return failing_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *at, size_t size)
{
    return failing_now() ? NULL : __real_realloc(at, size);
}

#endif
