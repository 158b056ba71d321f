#include "proto/base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state)
{
    static struct arena arena;
    arena_init(&arena);
    *state = &arena;
    return 0;
}

static int teardown(void **state)
{
    arena_fini(*state);
    return 0;
}

static void test_arena__gives_nothing_before_the_first_reset(void **state)
{
    assert_null(arena_alloc(*state, 1));
}

static void test_arena__allocations_are_aligned_and_apart(void **state)
{
    struct arena *a = *state;
    uint8_t *all[200];
    arena_reset(a, 1 << 20);
    for (size_t i = 0; i < 200; i++) {
        all[i] = arena_alloc(a, i);
        assert_non_null(all[i]);
        assert_int_equal((uintptr_t)all[i] % 16, 0);
        memset(all[i], (int)i, i);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t k = 0; k < i; k++)
            assert_int_equal(all[i][k], i);
}

static void test_arena__allocations_of_nothing_are_different(void **state)
{
    arena_reset(*state, 64);
    void *first = arena_alloc(*state, 0);
    assert_non_null(first);
    assert_ptr_not_equal(first, arena_alloc(*state, 0));
}

static void test_arena__the_cap_is_reached_and_not_passed(void **state)
{
    arena_reset(*state, 160);
    for (int i = 0; i < 10; i++)
        assert_non_null(arena_alloc(*state, 9)); /* 16 with the rest of the line */
    assert_null(arena_alloc(*state, 1));
    assert_null(arena_alloc(*state, 0));
}

static void test_arena__one_allocation_may_take_the_whole_cap(void **state)
{
    arena_reset(*state, 5 << 20);
    assert_null(arena_alloc(*state, (5 << 20) + 1));
    uint8_t *all = arena_alloc(*state, 5 << 20);
    assert_non_null(all);
    memset(all, 1, 5 << 20);
}

static void test_arena__reset_gives_the_room_back(void **state)
{
    for (int i = 0; i < 100; i++) {
        arena_reset(*state, 100000);
        for (int k = 0; k < 1000; k++)
            assert_non_null(arena_alloc(*state, 100 - 4));
    }
}

static void test_arena__messages_of_one_size_settle_in_one_block(void **state)
{
    struct arena *a = *state;
    const struct arena_block *settled = NULL;
    for (int i = 0; i < 20; i++) {
        arena_reset(a, 1 << 20);
        for (int k = 0; k < 1000; k++)
            assert_non_null(arena_alloc(a, 100));
        if (i > 10)
            assert_ptr_equal(a->blocks, settled);
        settled = a->blocks;
    }
}

static void test_arena__a_very_large_block_is_not_kept(void **state)
{
    struct arena *a = *state;
    arena_reset(a, 8 << 20);
    assert_non_null(arena_alloc(a, 4 << 20));
    arena_reset(a, 8 << 20);
    assert_null(a->blocks);
    assert_non_null(arena_alloc(a, 10));
}

static void test_arena__huge_sizes_are_refused(void **state)
{
    arena_reset(*state, SIZE_MAX);
    assert_null(arena_alloc(*state, SIZE_MAX));
    assert_null(arena_alloc(*state, SIZE_MAX - 15));
    assert_null(arena_calloc(*state, SIZE_MAX / 2, 3));
    assert_null(arena_calloc(*state, (size_t)1 << 32, (size_t)1 << 32));
}

static void test_arena__calloc_zeroes_memory_that_was_used(void **state)
{
    arena_reset(*state, 4096);
    uint8_t *used = arena_alloc(*state, 1000);
    memset(used, 0xff, 1000);
    arena_reset(*state, 4096);
    const uint8_t *zeroed = arena_calloc(*state, 10, 100);
    assert_ptr_equal(zeroed, used);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(zeroed[i], 0);
}

static void test_arena__fini_may_come_twice_and_for_nothing(void **state)
{
    struct arena *a = *state;
    arena_reset(a, 4096);
    assert_non_null(arena_alloc(a, 100));
    arena_fini(a);
    arena_fini(a);
    arena_fini(NULL);
    assert_null(arena_alloc(a, 1));
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_arena__##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(gives_nothing_before_the_first_reset),
        CASE(allocations_are_aligned_and_apart),
        CASE(allocations_of_nothing_are_different),
        CASE(the_cap_is_reached_and_not_passed),
        CASE(one_allocation_may_take_the_whole_cap),
        CASE(reset_gives_the_room_back),
        CASE(messages_of_one_size_settle_in_one_block),
        CASE(a_very_large_block_is_not_kept),
        CASE(huge_sizes_are_refused),
        CASE(calloc_zeroes_memory_that_was_used),
        CASE(fini_may_come_twice_and_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
