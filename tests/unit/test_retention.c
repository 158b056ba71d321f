#include "storage/retention.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above. */
#include <cmocka.h>

#define SIZE 1000u

/* Four segments of ten records each, the last one open. */
static void fill(struct retention *r, uint64_t size_min)
{
    retention_init(r, size_min, 0);
    for (uint64_t i = 0; i < 4; i++) {
        struct kept k = {i + 1, i * 10 + 1, 912, SIZE};
        assert_int_equal(retention_append(r, &k), STATUS_OK);
    }
}

static void test_retention__a_segment_is_free_when_all_of_it_is_released(void **state)
{
    (void)state;
    struct retention r;
    struct kept k;
    fill(&r, 0);
    assert_false(retention_has_free(&r));
    retention_release(&r, 9);
    assert_false(retention_take_free(&r, &k));
    retention_release(&r, 10);
    assert_true(retention_has_free(&r));
    assert_true(retention_take_free(&r, &k));
    assert_int_equal(k.number, 1);
    assert_false(retention_has_free(&r));
    retention_fini(&r);
}

static void test_retention__the_open_segment_is_never_free(void **state)
{
    (void)state;
    struct retention r;
    struct kept k;
    fill(&r, 0);
    retention_release(&r, 1000);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_true(retention_take_free(&r, &k));
        assert_int_equal(k.number, i);
    }
    assert_false(retention_take_free(&r, &k));
    retention_fini(&r);
}

static void test_retention__sealed_bytes_are_kept(void **state)
{
    (void)state;
    struct retention r;
    struct kept k;
    fill(&r, 2 * SIZE);
    retention_release(&r, 1000);
    assert_true(retention_take_free(&r, &k)); /* two sealed ones stay */
    assert_false(retention_take_free(&r, &k));
    retention_fini(&r);
}

static void test_retention__a_release_never_goes_back(void **state)
{
    (void)state;
    struct retention r;
    fill(&r, 0);
    retention_release(&r, 25);
    retention_release(&r, 5);
    assert_true(retention_has_free(&r));
    retention_fini(&r);
}

static void test_retention__replay_size_is_estimated_inside_a_segment(void **state)
{
    (void)state;
    struct retention r;
    fill(&r, 0);
    assert_int_equal(retention_replay_size(&r, 40), 4 * 400);
    retention_release(&r, 10);
    assert_int_equal(retention_replay_size(&r, 40), 3 * 400);
    retention_release(&r, 15);
    assert_int_equal(retention_replay_size(&r, 40), 2 * 400 + 200);
    retention_release(&r, 40);
    assert_int_equal(retention_replay_size(&r, 40), 0);
    retention_fini(&r);
}

static void test_retention__segments_and_bytes_are_counted(void **state)
{
    (void)state;
    struct retention r;
    uint64_t segments, bytes;
    fill(&r, 0);
    retention_use(&r, 950);
    retention_count(&r, &segments, &bytes);
    assert_int_equal(segments, 4);
    assert_int_equal(bytes, 4 * SIZE);
    retention_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retention__a_segment_is_free_when_all_of_it_is_released),
        cmocka_unit_test(test_retention__the_open_segment_is_never_free),
        cmocka_unit_test(test_retention__sealed_bytes_are_kept),
        cmocka_unit_test(test_retention__a_release_never_goes_back),
        cmocka_unit_test(test_retention__replay_size_is_estimated_inside_a_segment),
        cmocka_unit_test(test_retention__segments_and_bytes_are_counted),
    };
    return cmocka_run_group_tests_name("retention", tests, NULL, NULL);
}
