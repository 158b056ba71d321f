#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "router/wheel.h"

static struct wheel w;

static int setup(void **state)
{
    (void)state;
    return wheel_init(&w, 64) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    wheel_fini(&w);
    return 0;
}

static void test_wheel__an_empty_wheel_never_rings(void **state)
{
    (void)state;
    assert_int_equal(wheel_next(&w), UINT64_MAX);
    assert_int_equal(wheel_pop(&w, 1000000), WHEEL_NONE);
}

static void test_wheel__a_timer_rings_at_its_time_and_once(void **state)
{
    (void)state;
    wheel_set(&w, 7, 100);
    assert_int_equal(wheel_next(&w), 100);
    assert_int_equal(wheel_pop(&w, 99), WHEEL_NONE);
    assert_int_equal(wheel_pop(&w, 100), 7);
    assert_int_equal(wheel_pop(&w, 100), WHEEL_NONE);
}

static void test_wheel__a_time_that_has_passed_rings_at_once(void **state)
{
    (void)state;
    wheel_pop(&w, 500);
    wheel_set(&w, 1, 20);
    assert_int_equal(wheel_next(&w), 500);
    assert_int_equal(wheel_pop(&w, 500), 1);
}

static void test_wheel__moving_and_cancelling(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        wheel_set(&w, i, 10);
    wheel_set(&w, 1, 20);
    wheel_cancel(&w, 3);
    wheel_cancel(&w, 3);
    unsigned rung = 0;
    for (uint32_t i; (i = wheel_pop(&w, 10)) != WHEEL_NONE; rung++)
        assert_true(i == 0 || i == 2);
    assert_int_equal(rung, 2);
    assert_int_equal(wheel_pop(&w, 20), 1);
    assert_int_equal(wheel_next(&w), UINT64_MAX);
}

static void test_wheel__timers_beyond_the_span_ring_at_their_time_too(void **state)
{
    (void)state;
    const uint64_t far_ms = 10 * WHEEL_SPAN_MS + 17;
    wheel_set(&w, 1, far_ms);
    wheel_set(&w, 2, WHEEL_SPAN_MS);
    assert_int_equal(wheel_pop(&w, WHEEL_SPAN_MS - 1), WHEEL_NONE);
    assert_int_equal(wheel_pop(&w, WHEEL_SPAN_MS), 2);
    for (uint64_t now_ms = wheel_next(&w); now_ms < far_ms; now_ms = wheel_next(&w))
        assert_int_equal(wheel_pop(&w, now_ms), WHEEL_NONE);
    assert_int_equal(wheel_next(&w), far_ms);
    assert_int_equal(wheel_pop(&w, far_ms), 1);
}

static void test_wheel__a_leap_of_time_rings_what_one_span_holds_in_order(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10; i++)
        wheel_set(&w, 9 - i, 4000 - 400 * (uint64_t)i);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(wheel_pop(&w, 1000000), i);
    assert_int_equal(wheel_pop(&w, 1000000), WHEEL_NONE);
}

/* Against a plain array, over several spans. */
static void test_wheel__agrees_with_a_plain_list(void **state)
{
    (void)state;
    uint64_t due_ms[64], random = 88172645463325252, now_ms = 0;
    for (uint32_t i = 0; i < 64; i++)
        due_ms[i] = UINT64_MAX;
    for (unsigned step = 0; step < 20000; step++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint32_t index = (uint32_t)(random >> 20) % 64;
        if (random % 5 == 0) {
            wheel_cancel(&w, index);
            due_ms[index] = UINT64_MAX;
        } else {
            due_ms[index] = now_ms + (random >> 30) % 9000;
            wheel_set(&w, index, due_ms[index]);
        }
        now_ms += (random >> 50) % 40;
        for (uint32_t i; (i = wheel_pop(&w, now_ms)) != WHEEL_NONE;) {
            assert_true(due_ms[i] <= now_ms);
            due_ms[i] = UINT64_MAX;
        }
        uint64_t first_ms = UINT64_MAX;
        for (uint32_t i = 0; i < 64; i++)
            first_ms = due_ms[i] < first_ms ? due_ms[i] : first_ms;
        assert_true(first_ms > now_ms);
        assert_true(wheel_next(&w) <= first_ms && wheel_next(&w) > now_ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_wheel__an_empty_wheel_never_rings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wheel__a_timer_rings_at_its_time_and_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_wheel__a_time_that_has_passed_rings_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_wheel__moving_and_cancelling, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wheel__timers_beyond_the_span_ring_at_their_time_too,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_wheel__a_leap_of_time_rings_what_one_span_holds_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wheel__agrees_with_a_plain_list, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
