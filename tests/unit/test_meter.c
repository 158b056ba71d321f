/* meter: gaps of each key, counted from acknowledgement to acknowledgement. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/meter.h"

#define MS 1000000ull

static void test_meter__the_longest_gap_of_each_key(void **state)
{
    (void)state;
    struct meter m;
    meter_init(&m, 2, 10 * MS);
    meter_acknowledge(&m, 0, 15 * MS);
    meter_acknowledge(&m, 0, 45 * MS);
    meter_acknowledge(&m, 0, 50 * MS);
    meter_acknowledge(&m, 1, 20 * MS);
    assert_int_equal(m.gap_ns[0], 30 * MS);
    assert_int_equal(m.gap_ns[1], 10 * MS);
    assert_int_equal(meter_worst_ns(&m), 30 * MS);
    assert_int_equal(m.acknowledged, 4);
}

static void test_meter__a_gap_over_a_mark_counts_in_full_when_it_ends(void **state)
{
    (void)state;
    struct meter m;
    meter_init(&m, 2, 0);
    meter_acknowledge(&m, 0, 300 * MS);
    meter_acknowledge(&m, 1, 300 * MS);
    meter_acknowledge(&m, 1, 310 * MS);
    m.failed = m.in_doubt = 1;
    meter_mark(&m);
    assert_int_equal(meter_worst_ns(&m), 0);
    assert_int_equal(meter_open_ns(&m, 350 * MS), 50 * MS);
    assert_int_equal(m.acknowledged + m.failed + m.in_doubt, 0);
    meter_acknowledge(&m, 0, 400 * MS);
    assert_int_equal(meter_worst_ns(&m), 100 * MS);
    assert_int_equal(meter_open_ns(&m, 400 * MS), 90 * MS);
}

static void test_meter__prints_what_it_counted(void **state)
{
    (void)state;
    struct meter m;
    char *text = NULL;
    size_t size = 0;
    meter_init(&m, 2, 0);
    meter_acknowledge(&m, 1, 25 * MS);
    m.failed = 3;
    m.in_doubt = 4;
    FILE *to = open_memstream(&text, &size);
    meter_print(&m, 30 * MS, to);
    fclose(to);
    assert_string_equal(text, "{\"worst_ms\": 25.0, \"open_ms\": 30.0, \"acknowledged\": 1, "
                              "\"failed\": 3, \"in_doubt\": 4, \"gaps_ms\": [0.0, 25.0]}");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meter__the_longest_gap_of_each_key),
        cmocka_unit_test(test_meter__a_gap_over_a_mark_counts_in_full_when_it_ends),
        cmocka_unit_test(test_meter__prints_what_it_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
