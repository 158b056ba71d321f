#include "client/cli/style.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_wrapped(const char *text, int width, int indent, int used, const char *lines)
{
    char *written = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&written, &size);
    assert_non_null(to);
    style_wrap(to, text, width, indent, used);
    fclose(to);
    assert_string_equal(written, lines);
    free(written);
}

static void test_style__lines_break_between_words_and_are_indented(void **state)
{
    (void)state;
    assert_wrapped("one two three", 0, 2, 2, "one two three\n");
    assert_wrapped("one two three", 9, 2, 2, "one two\n  three\n");
    assert_wrapped("one two three", 8, 2, 2, "one\n  two\n  three\n");
    assert_wrapped("one two", 9, 0, 6, "one\ntwo\n");
    assert_wrapped("", 9, 2, 2, "\n");
}

static void test_style__what_does_not_fit_anywhere_stays_whole(void **state)
{
    (void)state;
    assert_wrapped("a tcp://127.0.0.1:7400 b", 8, 2, 2, "a\n  tcp://127.0.0.1:7400\n  b\n");
    assert_wrapped("toolongfromthestart", 8, 2, 2, "toolongfromthestart\n");
}

/* A key is shown as it is: 'a  b' is another one than 'a b'. */
static void test_style__blanks_inside_of_a_line_are_kept(void **state)
{
    (void)state;
    assert_wrapped("no such key: 'a  b '", 80, 6, 6, "no such key: 'a  b '\n");
}

static void test_style__what_is_no_terminal_has_no_width(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(style_width(ends[1]), 0);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_style__lines_break_between_words_and_are_indented),
        cmocka_unit_test(test_style__what_does_not_fit_anywhere_stays_whole),
        cmocka_unit_test(test_style__blanks_inside_of_a_line_are_kept),
        cmocka_unit_test(test_style__what_is_no_terminal_has_no_width),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
