#include "storage/decimal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NINES_34 "9999999999999999999999999999999999"
#define ZEROS_33 "000000000000000000000000000000000"

static struct decimal parsed(const char *text)
{
    struct decimal d;
    if (!decimal_parse(bytes_text(text), &d))
        fail_msg("'%s' is not taken for a number", text);
    return d;
}

static void assert_text(const struct decimal *d, const char *expected)
{
    char text[DECIMAL_TEXT_MAX + 1] = {0};
    text[decimal_print(d, text)] = 0;
    assert_string_equal(text, expected);
}

static void assert_sum(const char *a, const char *b, const char *expected)
{
    struct decimal x = parsed(a), y = parsed(b), sum;
    assert_true(decimal_add(&x, &y, &sum));
    assert_text(&sum, expected);
    assert_true(decimal_add(&y, &x, &sum));
    assert_text(&sum, expected);
}

static void assert_canonical(const char *text, const char *expected)
{
    struct decimal d = parsed(text);
    assert_text(&d, expected);
}

static void test_decimal__equal_numbers_have_one_text(void **state)
{
    (void)state;
    assert_canonical("0", "0");
    assert_canonical("-0", "0");
    assert_canonical("-0.000", "0");
    assert_canonical("007", "7");
    assert_canonical("1.50", "1.5");
    assert_canonical("1.00", "1");
    assert_canonical("-00.10", "-0.1");
    assert_canonical("120", "120");
    assert_canonical("0.0000000000000000000000000000000001", "0.0000000000000000000000000000000001");
    assert_canonical("-" NINES_34, "-" NINES_34);
    assert_canonical("-0." NINES_34, "-0." NINES_34);
    assert_canonical(ZEROS_33 "00001." ZEROS_33 "00000", "1");
}

static void test_decimal__other_texts_are_no_numbers(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",     "-",    ".",         ".5",           "5.",      "1.-5", "+1",  "1e3", " 1",
        "1 ",   "1..2", "1.2.3",     "0x1",          "--1",     "1,5",  "NaN", "inf", "1" ZEROS_33 "0",
        "1.5a", "a",    "0.00" NINES_34, NINES_34 ".1", "1." NINES_34, "-.1",
    };
    struct decimal d;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (decimal_parse(bytes_text(texts[i]), &d))
            fail_msg("'%s' is taken for a number", texts[i]);
}

static void test_decimal__sums_are_exact(void **state)
{
    (void)state;
    assert_sum("0.1", "0.2", "0.3");
    assert_sum("1.5", "-1.5", "0");
    assert_sum("10", "-0.01", "9.99");
    assert_sum("-10", "0.01", "-9.99");
    assert_sum("0.01", "-10", "-9.99");
    assert_sum("-1", "-2.5", "-3.5");
    assert_sum("999.999", "0.001", "1000");
    assert_sum("1" ZEROS_33, "-1", "999999999999999999999999999999999");
    assert_sum("1" ZEROS_33, "1", "1000000000000000000000000000000001");
    assert_sum("0." ZEROS_33 "1", "0." ZEROS_33 "9", "0." "000000000000000000000000000000001");
}

static void test_decimal__a_sum_of_more_than_34_digits_is_refused(void **state)
{
    (void)state;
    struct decimal a = parsed(NINES_34), one = parsed("1"), small = parsed("0.1"), sum;
    assert_false(decimal_add(&a, &one, &sum));
    assert_false(decimal_add(&a, &small, &sum));
    a = parsed("-" NINES_34);
    assert_true(decimal_add(&a, &one, &sum));
    a = parsed("-0." NINES_34);
    assert_true(decimal_add(&a, &a, &sum) == false); /* -1.99..98 has 35 */
    assert_false(decimal_add(&a, &(struct decimal){.negative = true, .digits = {[34] = 5}}, &sum));
}

/* Against the machine's own 64-bit integers, shifted by three places. */
static void test_decimal__sums_agree_with_integers(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        long long n[2];
        struct decimal d[2], sum;
        char text[64];
        for (int j = 0; j < 2; j++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            n[j] = (long long)(random >> (random & 31)) % 1000000000000000 * ((random & 64) ? 1 : -1);
            snprintf(text, sizeof text, "%s%lld.%03lld", n[j] < 0 ? "-" : "",
                     llabs(n[j]) / 1000, llabs(n[j]) % 1000);
            d[j] = parsed(text);
        }
        assert_true(decimal_add(&d[0], &d[1], &sum));
        long long total = n[0] + n[1];
        snprintf(text, sizeof text, "%s%lld.%03lld", total < 0 ? "-" : "", llabs(total) / 1000,
                 llabs(total) % 1000);
        struct decimal expected = parsed(text);
        assert_memory_equal(&sum, &expected, sizeof sum);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decimal__equal_numbers_have_one_text),
        cmocka_unit_test(test_decimal__other_texts_are_no_numbers),
        cmocka_unit_test(test_decimal__sums_are_exact),
        cmocka_unit_test(test_decimal__a_sum_of_more_than_34_digits_is_refused),
        cmocka_unit_test(test_decimal__sums_agree_with_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
