#include "client/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_options__the_environment_sets_what_it_names(void **state)
{
    (void)state;
    struct duet_options *options = duet_options_new();
    assert_non_null(options);
    unsetenv("DUET_NAME");
    setenv("DUET_ROUTERS", "127.0.0.1:1, tcp://127.0.0.1:2", 1);
    setenv("DUET_TIMEOUT_MS", "77", 1);
    setenv("DUET_WINDOW", "5", 1);
    assert_int_equal(duet_options_environment(options, NULL), DUET_OK);
    assert_int_equal(options->routers_count, 2);
    assert_string_equal(options->routers[0], "tcp://127.0.0.1:1");
    assert_int_equal(options->timeout_ms, 77);
    assert_int_equal(options->window, 5);
    assert_string_equal(options->name, "");
    duet_options_free(&options);
}

static void test_options__a_bad_environment_changes_nothing(void **state)
{
    (void)state;
    struct duet_options *options = duet_options_new();
    struct duet_error error;
    setenv("DUET_ROUTERS", "127.0.0.1:5", 1);
    setenv("DUET_TIMEOUT_MS", "soon", 1);
    assert_int_equal(duet_options_environment(options, &error), DUET_CONFIG);
    assert_non_null(strstr(error.message, "timeout_ms: 'soon'"));
    assert_string_equal(options->routers[0], "tcp://127.0.0.1:7400");
    duet_options_free(&options);
}

static void test_options__a_read_is_one_of_three(void **state)
{
    (void)state;
    struct duet_options *options = duet_options_new();
    struct duet_error error;
    assert_int_equal(options->read, DUET_READ_LINEARIZABLE);
    assert_int_equal(duet_options_set(options, "read", "confirm", NULL), DUET_OK);
    assert_int_equal(options->read, DUET_READ_CONFIRM);
    assert_int_equal(duet_options_set(options, "read", "some", &error), DUET_CONFIG);
    assert_non_null(strstr(error.message, "none of linearizable, confirm, any"));
    setenv("DUET_ROUTERS", "127.0.0.1:5", 1);
    setenv("DUET_TIMEOUT_MS", "77", 1);
    setenv("DUET_READ", "any", 1);
    assert_int_equal(duet_options_environment(options, NULL), DUET_OK);
    assert_int_equal(options->read, DUET_READ_ANY);
    unsetenv("DUET_READ");
    duet_options_free(&options);
}

static void test_options__the_loop_is_a_threads_or_the_callers(void **state)
{
    (void)state;
    struct duet_options *options = duet_options_new();
    struct duet_error error;
    assert_false(options->by_caller);
    assert_int_equal(duet_options_set(options, "loop", "caller", NULL), DUET_OK);
    assert_true(options->by_caller);
    assert_int_equal(duet_options_set(options, "loop", "cell", &error), DUET_CONFIG);
    assert_non_null(strstr(error.message, "neither thread nor caller"));
    assert_true(options->by_caller);
    assert_int_equal(duet_options_set(options, "loop", "thread", NULL), DUET_OK);
    assert_false(options->by_caller);
    duet_options_free(&options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options__the_environment_sets_what_it_names),
        cmocka_unit_test(test_options__a_bad_environment_changes_nothing),
        cmocka_unit_test(test_options__a_read_is_one_of_three),
        cmocka_unit_test(test_options__the_loop_is_a_threads_or_the_callers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
