#include "proto/base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_buffer__appended_bytes_are_there_in_order(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 1000);
    for (uint8_t i = 0; i < 250; i++) {
        assert_int_equal(buffer_append(&b, bytes_of((uint8_t[]){i, i, i}, 3)), STATUS_OK);
    }
    assert_int_equal(buffer_view(&b).size, 750);
    for (size_t i = 0; i < 750; i++)
        assert_int_equal(buffer_view(&b).data[i], i / 3);
    buffer_fini(&b);
}

static void test_buffer__the_ceiling_is_reached_and_not_passed(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 300); /* more than the first capacity, no power of two */
    assert_non_null(buffer_reserve(&b, 299));
    assert_int_equal(buffer_append(&b, bytes_text("ab")), STATUS_TOOBIG);
    assert_null(buffer_reserve(&b, 2));
    assert_null(buffer_reserve(&b, SIZE_MAX));
    assert_int_equal(b.size, 299);
    assert_int_equal(buffer_append(&b, bytes_text("a")), STATUS_OK);
    assert_int_equal(buffer_append(&b, bytes_text("a")), STATUS_TOOBIG);
    assert_int_equal(b.size, 300);
    assert_true(b.capacity <= 300);
    buffer_fini(&b);
}

static void test_buffer__nothing_can_be_appended_to_a_full_one(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 1);
    assert_int_equal(buffer_append(&b, bytes_text("a")), STATUS_OK);
    assert_int_equal(buffer_append(&b, BYTES_EMPTY), STATUS_OK);
    assert_int_equal(b.size, 1);
    buffer_fini(&b);
}

static void test_buffer__clear_keeps_the_memory(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 1000);
    const uint8_t *at = buffer_reserve(&b, 700);
    buffer_clear(&b);
    assert_int_equal(b.size, 0);
    assert_ptr_equal(buffer_reserve(&b, 700), at);
    buffer_fini(&b);
}

static void test_buffer__take_gives_the_content_and_leaves_it_usable(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 10);
    assert_int_equal(buffer_append(&b, bytes_text("apple")), STATUS_OK);
    uint8_t *taken;
    assert_int_equal(buffer_take(&b, &taken), 5);
    assert_memory_equal(taken, "apple", 5);
    free(taken);
    assert_int_equal(b.size, 0);
    assert_int_equal(buffer_append(&b, bytes_text("0123456789")), STATUS_OK);
    assert_int_equal(buffer_append(&b, bytes_text("0")), STATUS_TOOBIG);
    buffer_fini(&b);
    buffer_fini(&b);
    buffer_fini(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buffer__appended_bytes_are_there_in_order),
        cmocka_unit_test(test_buffer__the_ceiling_is_reached_and_not_passed),
        cmocka_unit_test(test_buffer__nothing_can_be_appended_to_a_full_one),
        cmocka_unit_test(test_buffer__clear_keeps_the_memory),
        cmocka_unit_test(test_buffer__take_gives_the_content_and_leaves_it_usable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
