#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

#include "proto/base/option.h"

#define TEST_OPTIONS(X)                                                                            \
    X(TEXT, name, "", 0, 8, "", "this node's name")                                                \
    X(TEXT, listen, "tcp://127.0.0.1:7400", 0, 128, "", "where clients connect")                   \
    X(UINT, log_bytes, "4096", 1, 65536, "MiB", "log kept for peers")                              \
    X(UINT, seed, "0", 0, UINT64_MAX, "", "any number")                                            \
    X(FLAG, insecure, "0", 0, 1, "", "listen beyond loopback without keys")                        \
    X(COMMAND, check_config, "0", 0, 1, "", "read the configuration and leave")

struct options {
    TEST_OPTIONS(OPTION_FIELD)
};
#define ROW(...) OPTION_ROW(struct options, __VA_ARGS__)
static const struct option_row rows[] = {TEST_OPTIONS(ROW)};

static struct options o;
static struct option_set *set;
static struct error err;
static char path[] = "/tmp/duet-test-option-XXXXXX";
static char *rest[16];
static int rest_count;

static int setup(void **state)
{
    (void)state;
    memset(&o, 0xee, sizeof o);
    memset(&err, 0, sizeof err);
    set = option_new(rows, sizeof rows / sizeof rows[0], &o);
    return set == NULL;
}

static int teardown(void **state)
{
    (void)state;
    option_destroy(&set);
    option_destroy(&set);
    return 0;
}

static enum status read_text(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return option_read_file(set, path, &err);
}

static enum status read_flags(int argc, const char **argv)
{
    char *words[16] = {(char *)(uintptr_t) "program"};
    for (int i = 0; i < argc; i++)
        words[i + 1] = (char *)(uintptr_t)argv[i];
    return option_read_flags(set, argc + 1, words, rest, &rest_count, &err);
}

#define FLAGS(...)                                                                                 \
    read_flags((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),                      \
               (const char *[]){__VA_ARGS__})

static void assert_says(const char *part)
{
    if (strstr(err.message, part) == NULL)
        fail_msg("'%s' does not say '%s'", err.message, part);
}

static void test_option__defaults_fill_the_struct(void **state)
{
    (void)state;
    assert_string_equal(o.name, "");
    assert_string_equal(o.listen, "tcp://127.0.0.1:7400");
    assert_int_equal(o.log_bytes, 4096);
    assert_false(o.insecure);
    assert_false(o.check_config);
}

static void test_option__file_sets_values_of_all_kinds(void **state)
{
    (void)state;
    assert_int_equal(read_text("# comment\n\nname = n1 # mine\nlisten=\"tcp://[::1]:1 # %s\"\n"
                               "log_bytes = 8\r\ninsecure = yes\nseed = 18446744073709551615"),
                     STATUS_OK);
    assert_string_equal(o.name, "n1");
    assert_string_equal(o.listen, "tcp://[::1]:1 # %s");
    assert_int_equal(o.log_bytes, 8);
    assert_true(o.seed == UINT64_MAX);
    assert_true(o.insecure);
}

static void test_option__empty_text_can_be_written_in_a_file(void **state)
{
    (void)state;
    assert_int_equal(read_text("listen = \"\"\n"), STATUS_OK);
    assert_string_equal(o.listen, "");
}

static void test_option__unknown_name_in_file_suggests_the_near_one(void **state)
{
    (void)state;
    assert_int_equal(read_text("log_byte = 7\n"), STATUS_CONFIG);
    assert_says("log_byte: no such option; did you mean log_bytes?");
    assert_says(path);
    assert_int_equal(read_text("completely_else = 7\n"), STATUS_CONFIG);
    assert_says("no such option");
    assert_null(strstr(err.message, "did you mean"));
}

static void test_option__broken_lines_are_named_by_number(void **state)
{
    (void)state;
    assert_int_equal(read_text("name = n1\nlog bytes = 7\n"), STATUS_CONFIG);
    assert_says("line 2 is not of the form");
    assert_int_equal(read_text("section\n    name = n1\n"), STATUS_CONFIG);
    assert_says("line 1 is not of the form");
    assert_int_equal(read_text("seed = 1\n    name = n1\n"), STATUS_CONFIG);
    assert_says("line 2 begins with spaces");
    assert_int_equal(read_text("name = \"n1\n"), STATUS_CONFIG);
    assert_says("quote that does not end");
    assert_int_equal(read_text("name = \"n1\" x\n"), STATUS_CONFIG);
    assert_says("goes on after the closing quote");
    assert_int_equal(read_text("name =\n"), STATUS_CONFIG);
    assert_says("has no value");
}

static void test_option__name_given_twice_in_a_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(read_text("seed = 1\nseed = 2\n"), STATUS_CONFIG);
    assert_says("seed: given twice");
}

static void test_option__nothing_of_a_wrong_source_is_taken(void **state)
{
    (void)state;
    assert_int_equal(read_text("name = n1\nseed = 5\nlog_bytes = 0\n"), STATUS_CONFIG);
    assert_int_equal(FLAGS("--name=n2", "--seed", "7", "--wrong"), STATUS_USAGE);
    assert_string_equal(o.name, "");
    assert_int_equal(o.seed, 0);
    assert_int_equal(read_text("listen = x\n"), STATUS_OK);
    assert_string_equal(o.name, "");
}

static void test_option__missing_file_and_directory_and_binary_are_told_apart(void **state)
{
    (void)state;
    assert_int_equal(option_read_file(set, "/no/such/file", &err), STATUS_IO);
    assert_says("/no/such/file");
    assert_int_equal(option_read_file(set, "/tmp", &err), STATUS_IO);
    assert_int_equal(option_read_file(set, "/dev/zero", &err), STATUS_CONFIG);
    assert_says("not a configuration file");
}

static void test_option__numbers_outside_their_range_are_refused_with_range_and_unit(void **state)
{
    (void)state;
    const char *wrong[] = {
        "0", "65537", "-1", "+1", "", "7x", " 7", "0x10", "18446744073709551616", "1e3"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "--log-bytes=%s", wrong[i]);
        assert_int_equal(FLAGS(flag), STATUS_USAGE);
        assert_int_equal(err.status, STATUS_USAGE);
        assert_says("takes a number from 1 to 65536 MiB");
    }
    assert_int_equal(FLAGS("--seed=18446744073709551616"), STATUS_USAGE);
    assert_int_equal(FLAGS("--log-bytes=65536"), STATUS_OK);
    assert_int_equal(FLAGS("--log-bytes=1"), STATUS_OK);
    assert_int_equal(o.log_bytes, 1);
}

static void test_option__text_beyond_its_length_is_refused(void **state)
{
    (void)state;
    assert_int_equal(FLAGS("--name=12345678"), STATUS_OK);
    assert_int_equal(FLAGS("--name=123456789"), STATUS_USAGE);
    assert_says("9 bytes long; it takes 8");
    assert_int_equal(FLAGS("--name=a\nb"), STATUS_USAGE);
    assert_int_equal(FLAGS("--name=a\"'b"), STATUS_USAGE);
    assert_string_equal(o.name, "12345678");
}

static void test_option__flags_take_dashes_underscores_equals_and_spaces(void **state)
{
    (void)state;
    assert_int_equal(FLAGS("--log-bytes", "5", "--name", "n1", "--insecure", "--listen=x"),
                     STATUS_OK);
    assert_int_equal(o.log_bytes, 5);
    assert_string_equal(o.name, "n1");
    assert_true(o.insecure);
    assert_int_equal(FLAGS("--log_bytes=6", "--insecure=0", "--check-config"), STATUS_OK);
    assert_int_equal(o.log_bytes, 6);
    assert_false(o.insecure);
    assert_true(o.check_config);
    assert_int_equal(rest_count, 0);
}

static void test_option__what_is_no_flag_is_left_in_order(void **state)
{
    (void)state;
    assert_int_equal(FLAGS("put", "--seed", "1", "key", "-", "--insecure", "value", "--", "--x"),
                     STATUS_OK);
    assert_int_equal(rest_count, 5);
    const char *expected[] = {"put", "key", "-", "value", "--x"};
    for (int i = 0; i < 5; i++)
        assert_string_equal(rest[i], expected[i]);
}

static void test_option__wrong_flags_are_usage_errors(void **state)
{
    (void)state;
    assert_int_equal(FLAGS("--sed=1"), STATUS_USAGE);
    assert_says("flag --sed: no such option; did you mean seed?");
    assert_int_equal(FLAGS("--seed"), STATUS_USAGE);
    assert_says("flag --seed needs a value");
    assert_int_equal(FLAGS("--name", "--insecure"), STATUS_USAGE);
    assert_says("flag --name needs a value");
    assert_int_equal(FLAGS("-s"), STATUS_USAGE);
    assert_says("two dashes");
    assert_int_equal(FLAGS("--insecure=maybe"), STATUS_USAGE);
    assert_says("takes 1 or 0");
    char longest[300] = "--";
    memset(longest + 2, 'x', sizeof longest - 3);
    assert_int_equal(FLAGS(longest), STATUS_USAGE);
}

static void test_option__environment_sets_and_refuses_like_a_file(void **state)
{
    (void)state;
    setenv("DUETTEST_LOG_BYTES", "12", 1);
    setenv("DUET_ROUTERS", "tcp://127.0.0.1:7400", 1);
    assert_int_equal(option_read_environment(set, "DUETTEST_", &err), STATUS_OK);
    assert_int_equal(o.log_bytes, 12);
    assert_int_equal(option_read_environment(set, "DUET_", &err), STATUS_OK);
    setenv("DUETTEST_LOG_BYTE", "12", 1);
    assert_int_equal(option_read_environment(set, "DUETTEST_", &err), STATUS_CONFIG);
    assert_says("environment variable DUETTEST_LOG_BYTE: no such option; did you mean log_bytes?");
    unsetenv("DUETTEST_LOG_BYTE");
    setenv("DUETTEST_CHECK_CONFIG", "1", 1);
    assert_int_equal(option_read_environment(set, "DUETTEST_", &err), STATUS_CONFIG);
    unsetenv("DUETTEST_CHECK_CONFIG");
    unsetenv("DUETTEST_LOG_BYTES");
    unsetenv("DUET_ROUTERS");
}

static void test_option__flag_beats_environment_beats_file_in_any_order_of_reading(void **state)
{
    (void)state;
    setenv("DUETTEST_SEED", "2", 1);
    setenv("DUETTEST_LOG_BYTES", "2", 1);
    assert_int_equal(FLAGS("--seed=3"), STATUS_OK);
    assert_int_equal(option_read_environment(set, "DUETTEST_", &err), STATUS_OK);
    assert_int_equal(read_text("seed = 1\nlog_bytes = 1\nname = file\n"), STATUS_OK);
    assert_int_equal(o.seed, 3);
    assert_int_equal(o.log_bytes, 2);
    assert_string_equal(o.name, "file");
    unsetenv("DUETTEST_SEED");
    unsetenv("DUETTEST_LOG_BYTES");
}

static char *dump(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    assert_non_null(to);
    option_dump(set, to);
    fclose(to);
    return text;
}

static void test_option__dump_is_read_back_and_names_origins(void **state)
{
    (void)state;
    assert_int_equal(read_text("name = a\n"), STATUS_OK);
    assert_int_equal(FLAGS("--log-bytes=9", "--listen=x \"y\" # z ", "--check-config"), STATUS_OK);
    char *text = dump();
    assert_non_null(strstr(text, "name = \"a\" # file\n"));
    assert_non_null(strstr(text, "log_bytes = 9 # flag\n"));
    assert_non_null(strstr(text, "seed = 0 # default\n"));
    assert_null(strstr(text, "check_config"));
    option_destroy(&set);
    set = option_new(rows, sizeof rows / sizeof rows[0], &o);
    assert_int_equal(read_text(text), STATUS_OK);
    assert_string_equal(o.name, "a");
    assert_string_equal(o.listen, "x \"y\" # z ");
    assert_int_equal(o.log_bytes, 9);
    free(text);
}

static void test_option__command_in_a_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(read_text("check_config = 1\n"), STATUS_CONFIG);
    assert_says("only a flag");
}

static void test_option__help_lists_every_row_with_range_unit_and_default(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    option_print_help(set, to);
    fclose(to);
    assert_non_null(strstr(text, "--log-bytes=N"));
    assert_non_null(strstr(text, "log kept for peers (1..65536 MiB, default 4096)\n"));
    assert_non_null(strstr(text, "--check-config"));
    assert_non_null(strstr(text, "--insecure"));
    free(text);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_option__defaults_fill_the_struct),
        TEST(test_option__file_sets_values_of_all_kinds),
        TEST(test_option__empty_text_can_be_written_in_a_file),
        TEST(test_option__unknown_name_in_file_suggests_the_near_one),
        TEST(test_option__broken_lines_are_named_by_number),
        TEST(test_option__name_given_twice_in_a_file_is_refused),
        TEST(test_option__nothing_of_a_wrong_source_is_taken),
        TEST(test_option__missing_file_and_directory_and_binary_are_told_apart),
        TEST(test_option__numbers_outside_their_range_are_refused_with_range_and_unit),
        TEST(test_option__text_beyond_its_length_is_refused),
        TEST(test_option__flags_take_dashes_underscores_equals_and_spaces),
        TEST(test_option__what_is_no_flag_is_left_in_order),
        TEST(test_option__wrong_flags_are_usage_errors),
        TEST(test_option__environment_sets_and_refuses_like_a_file),
        TEST(test_option__flag_beats_environment_beats_file_in_any_order_of_reading),
        TEST(test_option__dump_is_read_back_and_names_origins),
        TEST(test_option__command_in_a_file_is_refused),
        TEST(test_option__help_lists_every_row_with_range_unit_and_default),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
