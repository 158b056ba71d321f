#include "client/cli/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_range(const char *words, int min, int max)
{
    struct command command = {.words = words};
    int ret_min, ret_max;
    command_words_range(&command, &ret_min, &ret_max);
    if (ret_min != min || ret_max != max)
        fail_msg("'%s' takes %d to %d words", words, ret_min, ret_max);
}

static void test_command__the_pattern_tells_how_many_words(void **state)
{
    (void)state;
    assert_range("", 0, 0);
    assert_range("KEY", 1, 1);
    assert_range("KEY VALUE", 2, 2);
    assert_range("KEY [DELTA]", 1, 2);
    assert_range("KEY...", 1, -1);
    assert_range("[KEY]...", 0, -1);
    assert_range("KEY VALUE [KEY VALUE]...", 2, -1);
    assert_range("list|use [NAME] [ROUTERS]", 1, 3);
}

static void test_command__the_pattern_is_read_word_by_word(void **state)
{
    (void)state;
    struct command_word word;
    const char *at = "list|use [NAME] FILE...";
    assert_true(command_word_next(&at, &word));
    assert_string_equal(word.text, "list|use");
    assert_true(word.literal && !word.optional && !word.repeated);
    assert_true(command_word_next(&at, &word));
    assert_string_equal(word.text, "NAME");
    assert_true(word.optional && !word.literal && !word.repeated);
    assert_true(command_word_next(&at, &word));
    assert_string_equal(word.text, "FILE");
    assert_true(word.repeated && !word.optional);
    assert_false(command_word_next(&at, &word));
}

/* Help prints a title where the section changes: a row out of place would print one twice. */
static void test_command__the_table_is_in_the_order_of_its_sections(void **state)
{
    (void)state;
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *c = &commands[i];
        assert_true(c->section < SECTIONS_COUNT);
        assert_true(i == 0 || commands[i - 1].section <= c->section);
        assert_ptr_equal(command_find(c->name), c);
        assert_non_null(c->run);
        assert_true(c->sentence[0] != 0 && c->sentence[strlen(c->sentence) - 1] != '.');
        size_t size = strlen(c->help);
        assert_true(size == 0 || c->help[size - 1] == '\n');
    }
    assert_null(command_find("frobnicate"));
}

/* The narrowest usual terminal has 80 columns, and the manual page prints help as it stands. */
static void test_command__help_fits_a_terminal(void **state)
{
    (void)state;
    for (size_t i = 0; i < commands_count; i++)
        for (const char *line = commands[i].help; *line != 0; line += strcspn(line, "\n") + 1)
            if (strcspn(line, "\n") > 80)
                fail_msg("help of %s: %.40s...", commands[i].name, line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command__the_pattern_tells_how_many_words),
        cmocka_unit_test(test_command__the_pattern_is_read_word_by_word),
        cmocka_unit_test(test_command__the_table_is_in_the_order_of_its_sections),
        cmocka_unit_test(test_command__help_fits_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
