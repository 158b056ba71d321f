#include "proto/base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_bytes__equal_looks_at_size_and_content(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_text("ab"), bytes_of("abc", 2)));
    assert_false(bytes_equal(bytes_text("ab"), bytes_text("abc")));
    assert_false(bytes_equal(bytes_text("ab"), bytes_text("ac")));
    assert_true(bytes_equal(BYTES_EMPTY, bytes_of("abc", 0)));
    assert_false(bytes_equal(BYTES_EMPTY, bytes_text("a")));
    assert_false(bytes_equal(bytes_of("a\0b", 3), bytes_of("a\0c", 3)));
}

static void test_bytes__compare_orders_as_memcmp_and_the_shorter_first(void **state)
{
    (void)state;
    const struct bytes sorted[] = {
        BYTES_EMPTY,      bytes_of("\0", 1), bytes_text("a"),    bytes_of("a\0", 2),
        bytes_text("ab"), bytes_text("b"),   bytes_text("\x7f"), bytes_text("\xff"),
    };
    const int count = sizeof sorted / sizeof *sorted;
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < count; k++) {
            int order = bytes_compare(sorted[i], sorted[k]);
            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
        }
    }
}

static void test_bytes__integers_have_the_written_order(void **state)
{
    (void)state;
    uint8_t at[9] = {0}; /* one byte off: unaligned */
    bytes_put_le16(at + 1, 0x8182);
    assert_memory_equal(at + 1, "\x82\x81", 2);
    assert_int_equal(bytes_le16(at + 1), 0x8182);
    bytes_put_le32(at + 1, 0x81828384);
    assert_memory_equal(at + 1, "\x84\x83\x82\x81", 4);
    assert_int_equal(bytes_le32(at + 1), 0x81828384);
    bytes_put_le64(at + 1, 0x8182838485868788);
    assert_memory_equal(at + 1, "\x88\x87\x86\x85\x84\x83\x82\x81", 8);
    assert_true(bytes_le64(at + 1) == 0x8182838485868788);
    bytes_put_be32(at + 1, 0x81828384);
    assert_memory_equal(at + 1, "\x81\x82\x83\x84", 4);
    assert_int_equal(bytes_be32(at + 1), 0x81828384);
    bytes_put_be64(at + 1, 0x8182838485868788);
    assert_memory_equal(at + 1, "\x81\x82\x83\x84\x85\x86\x87\x88", 8);
    assert_true(bytes_be64(at + 1) == 0x8182838485868788);
}

static void test_bytes__big_endian_integers_sort_by_memcmp(void **state)
{
    (void)state;
    const uint64_t sorted[] = {0, 1, 255, 256, UINT32_MAX, (uint64_t)UINT32_MAX + 1, UINT64_MAX};
    for (size_t i = 1; i < sizeof sorted / sizeof *sorted; i++) {
        uint8_t low[8], high[8];
        bytes_put_be64(low, sorted[i - 1]);
        bytes_put_be64(high, sorted[i]);
        assert_true(memcmp(low, high, 8) < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes__equal_looks_at_size_and_content),
        cmocka_unit_test(test_bytes__compare_orders_as_memcmp_and_the_shorter_first),
        cmocka_unit_test(test_bytes__integers_have_the_written_order),
        cmocka_unit_test(test_bytes__big_endian_integers_sort_by_memcmp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
