#include "client/cli/line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct buffer key, value;
    char *printed;
};

static void set_up(struct fixture *f)
{
    *f = (struct fixture){0};
    buffer_init(&f->key, 64);
    buffer_init(&f->value, 64);
}

static void tear_down(struct fixture *f)
{
    buffer_fini(&f->key);
    buffer_fini(&f->value);
    free(f->printed);
}

static void assert_takes(struct fixture *f, enum line_format format, enum text_format key_format,
                         const char *line, const char *key, const char *value)
{
    const char *wrong = line_parse(format, key_format, bytes_text(line), &f->key, &f->value);
    if (wrong != NULL)
        fail_msg("'%s': %s", line, wrong);
    assert_true(bytes_equal(buffer_view(&f->key), bytes_text(key)));
    assert_true(bytes_equal(buffer_view(&f->value), bytes_text(value)));
}

static void assert_refuses(struct fixture *f, enum line_format format, enum text_format key_format,
                           const char *line, const char *words)
{
    const char *wrong = line_parse(format, key_format, bytes_text(line), &f->key, &f->value);
    assert_non_null(wrong);
    if (strstr(wrong, words) == NULL)
        fail_msg("'%s' does not say '%s'", wrong, words);
}

static const char *print(struct fixture *f, enum line_format format, enum text_format key_format,
                         struct bytes key, struct bytes value)
{
    size_t size;
    free(f->printed);
    FILE *to = open_memstream(&f->printed, &size);
    assert_non_null(to);
    line_print(format, key_format, key, value, to);
    fclose(to);
    return f->printed;
}

static void test_line__tsv_is_key_tab_value_with_escapes(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    assert_takes(&f, LINE_TSV, TEXT_RAW, "apple\tred", "apple", "red");
    assert_takes(&f, LINE_TSV, TEXT_RAW, "a\\tb\t\\\\\\n\tc", "a\tb", "\\\n\tc");
    assert_takes(&f, LINE_TSV, TEXT_RAW, "\t", "", "");
    assert_refuses(&f, LINE_TSV, TEXT_RAW, "apple red", "no tab");
    assert_refuses(&f, LINE_TSV, TEXT_RAW, "a\\x\tred", "a backslash");
    assert_refuses(&f, LINE_TSV, TEXT_RAW, "a\tred\\", "a backslash");
    tear_down(&f);
}

static void test_line__keys_of_tsv_may_be_hex_or_base64(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    assert_takes(&f, LINE_TSV, TEXT_HEX, "6162\tred", "ab", "red");
    assert_takes(&f, LINE_TSV, TEXT_BASE64, "YWI=\tred", "ab", "red");
    assert_refuses(&f, LINE_TSV, TEXT_HEX, "616\tred", "--key-format");
    assert_refuses(&f, LINE_TSV, TEXT_HEX, "61\tre\\d", "a backslash");
    tear_down(&f);
}

static void test_line__jsonl_is_an_object_with_key_and_value(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    assert_takes(&f, LINE_JSONL, TEXT_RAW, "{\"key\":\"apple\",\"value64\":\"cmVk\"}", "apple",
                 "red");
    assert_refuses(&f, LINE_JSONL, TEXT_RAW, "[1]", "not a JSON object");
    assert_refuses(&f, LINE_JSONL, TEXT_RAW, "{\"key\":\"apple\"", "not a JSON object");
    assert_refuses(&f, LINE_JSONL, TEXT_RAW, "{\"key\":\"apple\"}", "are needed");
    assert_refuses(&f, LINE_JSONL, TEXT_RAW, "{\"key\":1,\"value\":\"\"}", "must be strings");
    tear_down(&f);
}

static void test_line__beyond_the_ceilings_is_too_large(void **state)
{
    (void)state;
    struct fixture f;
    char line[200] = {0};
    memset(line, 'k', 65);
    memcpy(line + 65, "\tv", 3);
    set_up(&f);
    assert_refuses(&f, LINE_TSV, TEXT_RAW, line, "too large");
    assert_takes(&f, LINE_TSV, TEXT_RAW, line + 64, "k", "v"); /* the next one is not in its way */
    tear_down(&f);
}

static void test_line__what_is_printed_is_what_is_parsed(void **state)
{
    (void)state;
    struct fixture f;
    struct bytes key = bytes_of("a\t\n\\", 4), value = bytes_of("\xff\0", 2);
    set_up(&f);
    assert_string_equal(print(&f, LINE_TSV, TEXT_HEX, key, bytes_text("v\n")), "61090a5c\tv\\n\n");
    assert_string_equal(print(&f, LINE_TSV, TEXT_RAW, key, bytes_text("v")), "a\\t\\n\\\\\tv\n");
    assert_string_equal(print(&f, LINE_JSONL, TEXT_RAW, key, value),
                        "{\"key\":\"a\\t\\n\\\\\",\"value64\":\"/wA=\"}\n");
    assert_null(line_parse(LINE_JSONL, TEXT_RAW, bytes_of(f.printed, strlen(f.printed) - 1), &f.key,
                           &f.value));
    assert_true(bytes_equal(buffer_view(&f.key), key));
    assert_true(bytes_equal(buffer_view(&f.value), value));
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line__tsv_is_key_tab_value_with_escapes),
        cmocka_unit_test(test_line__keys_of_tsv_may_be_hex_or_base64),
        cmocka_unit_test(test_line__jsonl_is_an_object_with_key_and_value),
        cmocka_unit_test(test_line__beyond_the_ceilings_is_too_large),
        cmocka_unit_test(test_line__what_is_printed_is_what_is_parsed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
