#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/histogram.h"

static struct histogram h, other;

static int setup(void **state)
{
    (void)state;
    histogram_init(&h);
    histogram_init(&other);
    return 0;
}

static void test_histogram__empty_answers_zero(void **state)
{
    (void)state;
    assert_int_equal(histogram_quantile(&h, 0), 0);
    assert_int_equal(histogram_quantile(&h, 5000), 0);
    assert_int_equal(histogram_quantile(&h, 10000), 0);
}

static void test_histogram__one_sample_is_every_quantile(void **state)
{
    (void)state;
    histogram_add(&h, 123456789);
    assert_int_equal(histogram_quantile(&h, 0), 123456789);
    assert_int_equal(histogram_quantile(&h, 5000), 123456789);
    assert_int_equal(histogram_quantile(&h, 10000), 123456789);
}

static void test_histogram__small_values_are_exact(void **state)
{
    (void)state;
    for (uint64_t v = 1; v <= 100; v++)
        histogram_add(&h, v);
    for (uint32_t percent = 1; percent <= 100; percent++)
        assert_int_equal(histogram_quantile(&h, percent * 100), percent);
    assert_int_equal(h.count, 100);
    assert_int_equal(h.sum, 5050);
}

/* The answer lies at the sample or above it, never by more than 2 %, for all sizes of numbers. */
static void test_histogram__error_stays_below_two_percent_up_to_the_largest_number(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        for (uint64_t nudge = 0; nudge < 3; nudge++) {
            uint64_t value = ((uint64_t)1 << bit) - 1 + nudge;
            value += (value >> 1) * (nudge == 1);
            histogram_init(&h);
            histogram_add(&h, value);
            histogram_add(&h, UINT64_MAX);
            uint64_t answer = histogram_quantile(&h, 5000);
            assert_true(answer >= value);
            assert_true(answer - value <= value / 50);
        }
    }
    assert_true(histogram_quantile(&h, 10000) == UINT64_MAX);
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Against sorting, over samples of very different sizes. */
static void test_histogram__quantiles_agree_with_a_sorted_array(void **state)
{
    (void)state;
    static uint64_t samples[19997];
    uint64_t seed = 88172645463325252u;
    for (size_t i = 0; i < 19997; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        samples[i] = seed >> (seed % 60);
        histogram_add(&h, samples[i]);
    }
    qsort(samples, 19997, sizeof samples[0], compare);
    for (uint32_t per_10000 = 1; per_10000 <= 10000; per_10000++) {
        uint64_t exact = samples[((uint64_t)per_10000 * 19997 + 9999) / 10000 - 1];
        uint64_t answer = histogram_quantile(&h, per_10000);
        assert_true(answer >= exact);
        assert_true(answer - exact <= exact / 50);
    }
}

static void test_histogram__merged_equals_one_that_saw_everything(void **state)
{
    (void)state;
    static struct histogram all;
    histogram_init(&all);
    for (uint64_t v = 1; v < 5000; v++) {
        histogram_add(v % 3 == 0 ? &h : &other, v * v);
        histogram_add(&all, v * v);
    }
    histogram_merge(&h, &other);
    assert_memory_equal(&h, &all, sizeof all);
}

static void test_histogram__merging_an_empty_one_changes_nothing(void **state)
{
    (void)state;
    histogram_add(&h, 7);
    histogram_merge(&h, &other);
    assert_int_equal(h.min, 7);
    assert_int_equal(h.max, 7);
    assert_int_equal(h.count, 1);
    histogram_merge(&other, &h);
    assert_memory_equal(&h, &other, sizeof h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_histogram__empty_answers_zero, setup),
        cmocka_unit_test_setup(test_histogram__one_sample_is_every_quantile, setup),
        cmocka_unit_test_setup(test_histogram__small_values_are_exact, setup),
        cmocka_unit_test_setup(
            test_histogram__error_stays_below_two_percent_up_to_the_largest_number, setup),
        cmocka_unit_test_setup(test_histogram__quantiles_agree_with_a_sorted_array, setup),
        cmocka_unit_test_setup(test_histogram__merged_equals_one_that_saw_everything, setup),
        cmocka_unit_test_setup(test_histogram__merging_an_empty_one_changes_nothing, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
