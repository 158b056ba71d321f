#include "proto/base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* clang-format off */
/* Wire numbers are the protocol. This table repeats them, so that a change in one place is seen. */
static const struct {
    uint32_t wire;
    const char *name;
    char retry, doubt;
    int exit_code, http;
} contract[] = {
    {0, "OK", 'n', 'n', 0, 200},           {1, "NOTFOUND", 'n', 'n', 1, 404},
    {2, "CONDITION", 'n', 'n', 6, 412},    {3, "WRONGEPOCH", 'y', 'n', 5, 503},
    {4, "BUSY", 'y', 'n', 5, 429},         {5, "UNAVAILABLE", 'y', 'n', 5, 503},
    {6, "INDOUBT", 'y', 'y', 4, 504},      {7, "MALFORMED", 'n', 'n', 2, 400},
    {8, "TOOBIG", 'n', 'n', 2, 413},       {9, "STALE", 'n', 'y', 5, 409},
    {10, "NEEDTOKEN", 'y', 'n', 5, 503},   {11, "TOOOLD", 'n', 'y', 4, 504},
    {12, "ASKPRIMARY", 'y', 'n', 5, 503},  {13, "FULL", 'y', 'n', 5, 503},
    {14, "ABORTED", 'n', 'n', 5, 409},     {15, "UNSUPPORTED", 'n', 'n', 5, 400},
    {16, "NOTNUMBER", 'n', 'n', 5, 409},   {17, "OVERFLOW", 'n', 'n', 5, 409},
    {18, "TIMEOUT", 'y', 'n', 4, 504},     {19, "FORMAT", 'n', 'n', 5, 500},
    {20, "IO", 'n', 'n', 5, 500},          {21, "CORRUPT", 'n', 'n', 5, 500},
    {22, "LOCKED", 'n', 'n', 5, 500},      {23, "CONFIG", 'n', 'n', 2, 500},
    {24, "NOMEMORY", 'y', 'n', 5, 503},    {25, "NOCONNECTION", 'y', 'n', 3, 503},
    {26, "USAGE", 'n', 'n', 2, 400},       {27, "WRONGCLUSTER", 'n', 'n', 5, 409},
};
/* clang-format on */

static void test_status__the_table_is_the_contract(void **state)
{
    (void)state;
    assert_int_equal(sizeof contract / sizeof *contract, STATUS_COUNT);
    for (size_t i = 0; i < STATUS_COUNT; i++) {
        enum status s = status_from_wire(contract[i].wire);
        assert_int_equal(s, i);
        assert_string_equal(status_name(s), contract[i].name);
        assert_int_equal(status_retry(s), contract[i].retry == 'y');
        assert_int_equal(status_in_doubt(s), contract[i].doubt == 'y');
        assert_int_equal(status_exit_code(s), contract[i].exit_code);
        assert_int_equal(status_http(s), contract[i].http);
        assert_true(strlen(status_text(s)) > 1);
    }
}

static void test_status__a_number_of_a_later_version_is_unsupported(void **state)
{
    (void)state;
    assert_int_equal(status_from_wire(STATUS_COUNT), STATUS_UNSUPPORTED);
    assert_int_equal(status_from_wire(UINT32_MAX), STATUS_UNSUPPORTED);
    assert_string_equal(status_text((enum status)12345), "unknown status");
    assert_int_equal(status_exit_code((enum status) - 1), 5);
}

static void test_status__error_set_returns_what_it_says(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(error_set(&error, STATUS_FORMAT, "version %u, reads %u", 3, 2), STATUS_FORMAT);
    assert_int_equal(error.status, STATUS_FORMAT);
    assert_string_equal(error.message, "version 3, reads 2");
    assert_int_equal(error_set(NULL, STATUS_IO, "nobody listens"), STATUS_IO);
}

static void test_status__error_wrap_puts_context_in_front(void **state)
{
    (void)state;
    struct error error;
    error_set(&error, STATUS_FORMAT, "version 3, reads 2");
    assert_int_equal(error_wrap(&error, "open log '%s'", "/x"), STATUS_FORMAT);
    assert_int_equal(error_wrap(&error, "start node"), STATUS_FORMAT);
    assert_string_equal(error.message, "start node: open log '/x': version 3, reads 2");
}

static void test_status__error_wrap_cuts_what_is_too_long(void **state)
{
    (void)state;
    struct error error;
    error_set(&error, STATUS_IO, "inner");
    for (int i = 0; i < 100; i++) {
        assert_int_equal(error_wrap(&error, "level %d", i), STATUS_IO);
        assert_true(strlen(error.message) < ERROR_MESSAGE_SIZE);
    }
    assert_memory_equal(error.message, "level 99: level 98: ", 20);
    char longer[2 * ERROR_MESSAGE_SIZE];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(error_wrap(&error, "%s", longer), STATUS_IO);
    assert_int_equal(strlen(error.message), ERROR_MESSAGE_SIZE - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status__the_table_is_the_contract),
        cmocka_unit_test(test_status__a_number_of_a_later_version_is_unsupported),
        cmocka_unit_test(test_status__error_set_returns_what_it_says),
        cmocka_unit_test(test_status__error_wrap_puts_context_in_front),
        cmocka_unit_test(test_status__error_wrap_cuts_what_is_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
