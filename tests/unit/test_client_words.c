#include "client/cli/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The words of line, each in <>, and what is wrong behind a "!". */
static const char *split(const char *line)
{
    static char text[512];
    struct words words;
    const char *wrong = words_split(&words, line, strlen(line));
    size_t used = 0;
    text[0] = 0;
    assert_string_equal(words.items[0], "duet");
    for (int i = 1; i < words.count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "<%s>", words.items[i]);
    assert_null(words.items[words.count]);
    if (wrong != NULL)
        snprintf(text + used, sizeof text - used, "!%s", wrong);
    words_fini(&words);
    return text;
}

static void test_words__are_parted_by_blanks(void **state)
{
    (void)state;
    assert_string_equal(split(""), "");
    assert_string_equal(split(" \t\r\n"), "");
    assert_string_equal(split("get apple"), "<get><apple>");
    assert_string_equal(split("  get\tapple  \n"), "<get><apple>");
}

static void test_words__keep_what_stands_in_quotes(void **state)
{
    (void)state;
    assert_string_equal(split("put a 'red  and \"green\"\\'"), "<put><a><red  and \"green\"\\>");
    assert_string_equal(split("\"a \\\"b\\\" \\\\ \\$ \\n\""), "<a \"b\" \\ $ \\n>");
    assert_string_equal(split("a'b c'd\"e f\"g"), "<ab cde fg>");
    assert_string_equal(split("'' \"\""), "<><>");
    assert_string_equal(split("a\\ b \\' \\\\"), "<a b><'><\\>");
}

static void test_words__end_at_a_comment(void **state)
{
    (void)state;
    assert_string_equal(split("# all"), "");
    assert_string_equal(split("get a#b # c"), "<get><a#b>");
    assert_string_equal(split("get '#'"), "<get><#>");
}

static void test_words__say_what_is_not_closed_and_keep_what_is_there(void **state)
{
    (void)state;
    assert_string_equal(
        split("put a 'b c"),
        "<put><a><b c>!a ' is not closed; where the sign itself is meant, write \\'");
    assert_string_equal(
        split("put \"b \\\""),
        "<put><b \">!a \" is not closed; where the sign itself is meant, write \\\"");
    assert_string_equal(
        split("a\\"),
        "<a>!a backslash stands at the end; where the sign itself is meant, write two");
    struct words words;
    assert_non_null(words_split(&words, "a\0b", 3));
    assert_int_equal(words.count, 1);
    words_fini(&words);
}

static void test_words__know_whether_the_last_one_may_grow(void **state)
{
    (void)state;
    const struct {
        const char *line;
        bool open;
    } cases[] = {{"", false}, {"get", true}, {"get ", false}, {"get 'a b", true}, {"# x", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct words words;
        words_split(&words, cases[i].line, strlen(cases[i].line));
        assert_int_equal(words.open, cases[i].open);
        words_fini(&words);
    }
}

/* As many words as can be in a line, and as long: under AddressSanitizer the sizes are checked. */
static void test_words__fit_however_many_there_are(void **state)
{
    (void)state;
    char line[1001];
    for (size_t size = 0; size < sizeof line; size++) {
        memset(line, 'x', size);
        for (size_t i = 1; i < size; i += 2)
            line[i] = ' ';
        struct words words;
        assert_null(words_split(&words, line, size));
        assert_int_equal(words.count, 1 + (size + 1) / 2);
        words_fini(&words);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words__are_parted_by_blanks),
        cmocka_unit_test(test_words__keep_what_stands_in_quotes),
        cmocka_unit_test(test_words__end_at_a_comment),
        cmocka_unit_test(test_words__say_what_is_not_closed_and_keep_what_is_there),
        cmocka_unit_test(test_words__know_whether_the_last_one_may_grow),
        cmocka_unit_test(test_words__fit_however_many_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
