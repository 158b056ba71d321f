#include "client/cli/zipf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define DRAWS 400000

static double exact_zeta(uint64_t n, double theta)
{
    double sum = 0;
    for (uint64_t i = 1; i <= n; i++)
        sum += pow((double)i, -theta);
    return sum;
}

static void test_zipf__the_sum_is_right_without_adding_it_up(void **state)
{
    (void)state;
    const double thetas[] = {0.01, 0.5, 0.99};
    for (int i = 0; i < 3; i++) {
        struct zipf z;
        for (uint64_t n = 1; n <= 3000000; n = n * 7 + 1) {
            zipf_init(&z, n, thetas[i]);
            double exact = exact_zeta(n, thetas[i]);
            assert_true(fabs(z.zeta - exact) < 1e-9 * exact);
        }
    }
}

/* Ranks from evenly spaced numbers: how often each comes is its probability. The method is exact
 * for the first two and near for the others. */
static void test_zipf__ranks_come_as_often_as_they_should(void **state)
{
    (void)state;
    const uint64_t keys = 1000;
    struct zipf z;
    zipf_init(&z, keys, 0.99);
    uint64_t *counts = calloc(keys, sizeof *counts);
    for (uint64_t i = 0; i < DRAWS; i++)
        counts[zipf_rank(&z, ((double)i + 0.5) / DRAWS)]++;
    for (uint64_t rank = 0; rank < 2; rank++) {
        double expected = DRAWS * pow((double)rank + 1, -0.99) / z.zeta;
        assert_true(fabs((double)counts[rank] - expected) < 3);
    }
    /* In tens, from the tenth on. */
    for (uint64_t first = 10; first < keys; first *= 2) {
        double seen = 0, expected = 0;
        for (uint64_t rank = first; rank < 2 * first && rank < keys; rank++) {
            seen += (double)counts[rank];
            expected += DRAWS * pow((double)rank + 1, -0.99) / z.zeta;
        }
        assert_true(fabs(seen - expected) < 0.1 * expected);
    }
    free(counts);
}

static void test_zipf__few_keys_and_the_ends_stay_inside(void **state)
{
    (void)state;
    for (uint64_t keys = 1; keys < 5; keys++) {
        struct zipf z;
        zipf_init(&z, keys, 0.99);
        assert_int_equal(zipf_rank(&z, 0), 0);
        for (int i = 0; i < 1000; i++)
            assert_true(zipf_rank(&z, i / 1000.0) < keys);
        assert_true(zipf_rank(&z, 1 - 0x1p-53) < keys);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zipf__the_sum_is_right_without_adding_it_up),
        cmocka_unit_test(test_zipf__ranks_come_as_often_as_they_should),
        cmocka_unit_test(test_zipf__few_keys_and_the_ends_stay_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
