#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "router/lane.h"

#define COUNT 256

static struct operation slots[COUNT];
static struct lanes lanes;

static int setup(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < COUNT; i++)
        slots[i] = (struct operation){.kind = KIND_WRITE, .digest = 1, .lane = LANE_NONE};
    return lanes_init(&lanes, slots, COUNT, 5) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static void join(uint64_t source, uint32_t index, enum operation_kind kind, uint64_t digest)
{
    slots[index].kind = kind;
    slots[index].digest = digest;
    lane_join(&lanes, source, index);
}

static void test_lane__one_lane_for_each_connection_and_digest(void **state)
{
    (void)state;
    join(1, 0, KIND_WRITE, 10);
    join(1, 1, KIND_WRITE, 10);
    join(1, 2, KIND_WRITE, 11);
    join(2, 3, KIND_WRITE, 10);
    assert_int_equal(slots[0].lane, slots[1].lane);
    assert_int_not_equal(slots[0].lane, slots[2].lane);
    assert_int_not_equal(slots[0].lane, slots[3].lane);
    assert_true(slots[1].position > slots[0].position);
}

static void test_lane__an_operation_alone_is_clear(void **state)
{
    (void)state;
    join(1, 0, KIND_WRITE, 10);
    assert_true(lane_clear(&lanes, 0, lane_link(3, 0)));
}

static void test_lane__over_one_link_operations_follow_each_other(void **state)
{
    (void)state;
    join(1, 0, KIND_WRITE, 10);
    lane_sent(&lanes, 0, lane_link(3, 0));
    join(1, 1, KIND_READ, 10);
    assert_true(lane_clear(&lanes, 1, lane_link(3, 0)));
    assert_false(lane_clear(&lanes, 1, lane_link(4, 0))); /* another node */
    assert_false(lane_clear(&lanes, 1, lane_link(3, 1))); /* the same, but another connection */
}

static void test_lane__nothing_passes_a_waiting_write(void **state)
{
    (void)state;
    join(1, 0, KIND_WRITE, 10);
    lane_waiting(&lanes, 0);
    join(1, 1, KIND_READ, 10);
    assert_false(lane_clear(&lanes, 1, lane_link(3, 0)));
}

static void test_lane__reads_pass_reads(void **state)
{
    (void)state;
    join(1, 0, KIND_READ, 10);
    lane_waiting(&lanes, 0);
    join(1, 1, KIND_READ, 10);
    assert_true(lane_clear(&lanes, 1, lane_link(3, 0)));
    lane_sent(&lanes, 1, lane_link(3, 0));
    join(1, 2, KIND_READ, 10);
    assert_true(lane_clear(&lanes, 2, lane_link(4, 0)));
}

static void test_lane__a_write_does_not_pass_reads_on_several_links(void **state)
{
    (void)state;
    join(1, 0, KIND_READ, 10);
    lane_sent(&lanes, 0, lane_link(3, 0));
    join(1, 1, KIND_READ, 10);
    lane_sent(&lanes, 1, lane_link(4, 0));
    join(1, 2, KIND_WRITE, 10);
    assert_false(lane_clear(&lanes, 2, lane_link(4, 0)));
}

static void test_lane__what_left_after_it_may_have_been_executed_is_remembered(void **state)
{
    (void)state;
    join(1, 0, KIND_WRITE, 10);
    join(1, 1, KIND_WRITE, 10);
    join(1, 2, KIND_WRITE, 10);
    uint32_t lane = slots[0].lane;
    uint64_t position = slots[1].position;
    lane_leave(&lanes, 2, false);
    assert_int_equal(lanes.lanes[lane].position_executed, 0);
    lane_leave(&lanes, 1, true);
    assert_int_equal(lanes.lanes[lane].position_executed, position);
    assert_true(slots[0].position < position);
}

static void test_lane__lanes_are_as_many_as_slots_and_come_back(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < COUNT; i++)
            join(i % 7, i, KIND_READ, 1000 * round + i);
        for (uint32_t i = 0; i < COUNT; i++) {
            uint32_t index = (i * 37) % COUNT;
            lane_leave(&lanes, index, true);
            assert_int_equal(slots[index].lane, LANE_NONE);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_lane__one_lane_for_each_connection_and_digest),
        TEST(test_lane__an_operation_alone_is_clear),
        TEST(test_lane__over_one_link_operations_follow_each_other),
        TEST(test_lane__nothing_passes_a_waiting_write),
        TEST(test_lane__reads_pass_reads),
        TEST(test_lane__a_write_does_not_pass_reads_on_several_links),
        TEST(test_lane__what_left_after_it_may_have_been_executed_is_remembered),
        TEST(test_lane__lanes_are_as_many_as_slots_and_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
