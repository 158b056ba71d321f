#include "client/cli/flags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct parsed {
    struct flags flags;
    char *words[16];
    int words_count;
    struct error error;
    enum status status;
};

static struct parsed parse(int argc, ...)
{
    char *argv[16] = {"duet"};
    struct parsed p = {0};
    va_list args;
    va_start(args, argc);
    for (int i = 1; i <= argc; i++)
        argv[i] = va_arg(args, char *);
    va_end(args);
    flags_default(&p.flags);
    p.status = flags_parse(argc + 1, argv, &p.flags, p.words, &p.words_count, &p.error);
    return p;
}

static void assert_error(struct parsed p, const char *part)
{
    assert_int_equal(p.status, STATUS_USAGE);
    if (strstr(p.error.message, part) == NULL)
        fail_msg("'%s' is not in '%s'", part, p.error.message);
}

static void test_flags__defaults_hold_until_something_is_given(void **state)
{
    (void)state;
    struct parsed p = parse(0);
    assert_int_equal(p.status, STATUS_OK);
    assert_int_equal(p.words_count, 0);
    assert_int_equal(p.flags.timeout, 5000);
    assert_string_equal(p.flags.output, "auto");
    assert_null(p.flags.if_value);
    assert_false(p.flags.quiet);
    assert_true(p.flags.given == 0);
}

static void test_flags__stand_anywhere_in_either_form(void **state)
{
    (void)state;
    struct parsed p = parse(8, "--timeout=7", "put", "-o", "json", "k", "--key_format", "hex", "v");
    assert_int_equal(p.status, STATUS_OK);
    assert_int_equal(p.words_count, 3);
    assert_string_equal(p.words[2], "v");
    assert_int_equal(p.flags.timeout, 7);
    assert_string_equal(p.flags.output, "json");
    assert_string_equal(p.flags.key_format, "hex");
    assert_null(flags_foreign(&p.flags, FLAG_GLOBAL));
    assert_string_equal(parse(1, "-ojson").flags.output, "json");
    assert_true(parse(2, "put", "--if-absent").flags.if_absent);
    assert_string_equal(parse(1, "--if-value=").flags.if_value, "");
}

static void test_flags__dashes_that_are_words_stay_words(void **state)
{
    (void)state;
    struct parsed p = parse(5, "incr", "-5", "-", "--", "-o");
    assert_int_equal(p.status, STATUS_OK);
    assert_int_equal(p.words_count, 4);
    assert_string_equal(p.words[1], "-5");
    assert_string_equal(p.words[2], "-");
    assert_string_equal(p.words[3], "-o");
}

static void test_flags__mistakes_are_explained(void **state)
{
    (void)state;
    assert_error(parse(1, "--timout=5"), "did you mean --timeout?");
    assert_error(parse(1, "--if-absnt"), "did you mean --if-absent?");
    assert_error(parse(1, "--colour"), "unknown flag '--colour'");
    assert_error(parse(1, "-z"), "unknown flag '-z'");
    assert_error(parse(1, "--timeout"), "needs a value (MS)");
    assert_error(parse(1, "--timeout=soon"), "'soon' is not a number");
    assert_error(parse(1, "--timeout=-1"), "not a number");
    assert_error(parse(1, "--timeout=99999999999999999999"), "not a number");
    assert_error(parse(1, "--quiet=yes"), "takes no value");
}

static void test_flags__that_belong_to_other_commands_are_found(void **state)
{
    (void)state;
    struct parsed p = parse(3, "get", "-q", "--if-absent");
    char name[FLAGS_LONG_SIZE];
    assert_null(flags_foreign(&p.flags, FLAG_GLOBAL | FLAG_CONDITION));
    assert_string_equal(flags_long(flags_foreign(&p.flags, FLAG_GLOBAL | FLAG_BENCH), name),
                        "--if-absent");
}

static void test_flags__with_choices_take_no_other_value(void **state)
{
    (void)state;
    assert_error(parse(1, "--output=xml"),
                 "--output: 'xml' is none of auto, table, json, jsonl, raw, hex");
    assert_error(parse(1, "-ojso"), "is none of");
    assert_error(parse(1, "-o|"), "is none of");
    assert_int_equal(flags_choice("a|bc|d", "bc"), 1);
    assert_int_equal(flags_choice("a|bc|d", "d"), 2);
    assert_int_equal(flags_choice("a|bc|d", "b"), -1);
    assert_int_equal(flags_choice("a|bc|d", ""), -1);
}

static void test_flags__similar_words_are_found(void **state)
{
    (void)state;
    const char *const words[] = {"get", "put", "status"};
    assert_string_equal(flags_similar("gte", words, 3), "get");
    assert_string_equal(flags_similar("staus", words, 3), "status");
    assert_null(flags_similar("frobnicate", words, 3));
    assert_null(flags_similar("", words, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags__defaults_hold_until_something_is_given),
        cmocka_unit_test(test_flags__stand_anywhere_in_either_form),
        cmocka_unit_test(test_flags__dashes_that_are_words_stay_words),
        cmocka_unit_test(test_flags__mistakes_are_explained),
        cmocka_unit_test(test_flags__that_belong_to_other_commands_are_found),
        cmocka_unit_test(test_flags__with_choices_take_no_other_value),
        cmocka_unit_test(test_flags__similar_words_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
