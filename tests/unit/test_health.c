#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "router/health.h"

static const struct health_limits limits = {.silence_ms = 100, .ping_ms = 50, .idle_ping_ms = 1000};

static struct health answering(uint64_t now_ms)
{
    struct health h;
    uint64_t silent_ms;
    health_init(&h, now_ms);
    health_connected(&h, now_ms);
    health_heard(&h, now_ms, &silent_ms);
    return h;
}

static void test_health__connected_is_not_yet_answering(void **state)
{
    (void)state;
    struct health h;
    uint64_t silent_ms;
    health_init(&h, 10);
    assert_int_equal(h.state, HEALTH_APART);
    assert_int_equal(health_next(&h, true, &limits), UINT64_MAX);
    health_connected(&h, 20);
    assert_int_equal(h.state, HEALTH_SILENT);
    assert_int_equal(health_next(&h, false, &limits), 20);
    assert_int_equal(health_tick(&h, 20, false, &limits), HEALTH_PING);
    assert_true(health_heard(&h, 25, &silent_ms));
    assert_int_equal(silent_ms, 15);
    assert_int_equal(h.state, HEALTH_ANSWERING);
    assert_false(health_heard(&h, 26, &silent_ms));
}

static void
test_health__nothing_for_silence_ms_while_something_is_outstanding_is_silence(void **state)
{
    (void)state;
    struct health h = answering(0);
    health_tick(&h, 0, false, &limits);
    health_ponged(&h);
    health_busy(&h, 500, &limits);
    assert_int_equal(health_tick(&h, 599, true, &limits), HEALTH_PING);
    assert_int_equal(health_tick(&h, 600, true, &limits), HEALTH_SILENCE);
    assert_int_equal(h.state, HEALTH_SILENT);
    assert_int_equal(h.silent_since_ms, 500);
}

static void test_health__anything_that_comes_puts_silence_off(void **state)
{
    (void)state;
    struct health h = answering(0);
    uint64_t silent_ms;
    health_busy(&h, 0, &limits);
    health_heard(&h, 90, &silent_ms);
    assert_int_not_equal(health_tick(&h, 150, true, &limits), HEALTH_SILENCE);
    assert_int_equal(health_tick(&h, 190, true, &limits), HEALTH_SILENCE);
}

static void test_health__an_idle_node_is_never_silent_but_is_pinged_now_and_then(void **state)
{
    (void)state;
    struct health h = answering(0);
    assert_int_equal(health_tick(&h, 0, false, &limits), HEALTH_PING);
    health_ponged(&h);
    assert_int_equal(health_next(&h, false, &limits), 1000);
    assert_int_equal(health_tick(&h, 999, false, &limits), HEALTH_FINE);
    assert_int_equal(health_tick(&h, 1000, false, &limits), HEALTH_PING);
}

static void test_health__an_idle_ping_without_answer_is_silence(void **state)
{
    (void)state;
    struct health h = answering(0);
    assert_int_equal(health_tick(&h, 1000, false, &limits), HEALTH_PING);
    assert_int_equal(health_next(&h, false, &limits), 1100);
    assert_int_equal(health_tick(&h, 1099, false, &limits), HEALTH_FINE);
    assert_int_equal(health_tick(&h, 1100, false, &limits), HEALTH_SILENCE);
}

static void test_health__work_brings_the_next_ping_forward(void **state)
{
    (void)state;
    struct health h = answering(0);
    health_tick(&h, 0, false, &limits);
    health_ponged(&h);
    health_busy(&h, 200, &limits);
    assert_int_equal(health_next(&h, true, &limits), 250);
}

static void test_health__new_work_does_not_excuse_an_unanswered_ping(void **state)
{
    (void)state;
    struct health h = answering(0);
    assert_int_equal(health_tick(&h, 1000, false, &limits), HEALTH_PING);
    health_busy(&h, 1090, &limits);
    assert_int_equal(health_tick(&h, 1100, true, &limits), HEALTH_SILENCE);
}

static void test_health__a_silent_node_is_pinged_until_it_answers(void **state)
{
    (void)state;
    struct health h = answering(0);
    health_busy(&h, 0, &limits);
    assert_int_equal(health_tick(&h, 100, true, &limits), HEALTH_SILENCE);
    assert_int_equal(health_tick(&h, 100, false, &limits), HEALTH_PING);
    assert_int_equal(health_tick(&h, 149, false, &limits), HEALTH_FINE);
    assert_int_equal(health_tick(&h, 150, false, &limits), HEALTH_PING);
    assert_int_equal(health_tick(&h, 5000, false, &limits), HEALTH_PING);
    assert_int_equal(h.state, HEALTH_SILENT);
}

static void test_health__a_lost_connection_is_silence_from_that_moment(void **state)
{
    (void)state;
    struct health h = answering(0);
    uint64_t silent_ms;
    assert_true(health_apart(&h, 70));
    assert_false(health_apart(&h, 80));
    health_connected(&h, 90);
    health_heard(&h, 100, &silent_ms);
    assert_int_equal(silent_ms, 30);
}

static void test_health__who_stood_still_himself_blames_nobody(void **state)
{
    (void)state;
    struct health h = answering(0);
    health_busy(&h, 0, &limits);
    health_forgive(&h, 3000);
    assert_int_not_equal(health_tick(&h, 3000, true, &limits), HEALTH_SILENCE);
    assert_int_equal(health_tick(&h, 3100, true, &limits), HEALTH_SILENCE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health__connected_is_not_yet_answering),
        cmocka_unit_test(
            test_health__nothing_for_silence_ms_while_something_is_outstanding_is_silence),
        cmocka_unit_test(test_health__anything_that_comes_puts_silence_off),
        cmocka_unit_test(test_health__an_idle_node_is_never_silent_but_is_pinged_now_and_then),
        cmocka_unit_test(test_health__an_idle_ping_without_answer_is_silence),
        cmocka_unit_test(test_health__work_brings_the_next_ping_forward),
        cmocka_unit_test(test_health__new_work_does_not_excuse_an_unanswered_ping),
        cmocka_unit_test(test_health__a_silent_node_is_pinged_until_it_answers),
        cmocka_unit_test(test_health__a_lost_connection_is_silence_from_that_moment),
        cmocka_unit_test(test_health__who_stood_still_himself_blames_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
