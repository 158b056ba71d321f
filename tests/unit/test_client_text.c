#include "client/cli/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* What print writes, as a string of the caller's. */
static char *printed(void (*print)(struct bytes, FILE *), struct bytes data)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    assert_non_null(to);
    print(data, to);
    fclose(to);
    return text;
}

static void print_hex(struct bytes data, FILE *to)
{
    text_print(TEXT_HEX, data, to);
}

static void print_base64(struct bytes data, FILE *to)
{
    text_print(TEXT_BASE64, data, to);
}

static void assert_decodes(enum text_format format, const char *text, struct bytes expected)
{
    struct buffer out;
    buffer_init(&out, 1000);
    assert_int_equal(text_decode(format, bytes_text(text), &out), STATUS_OK);
    assert_true(bytes_equal(buffer_view(&out), expected));
    buffer_fini(&out);
}

static void assert_refuses(enum text_format format, const char *text)
{
    struct buffer out;
    buffer_init(&out, 1000);
    assert_int_equal(text_decode(format, bytes_text(text), &out), STATUS_USAGE);
    buffer_fini(&out);
}

/* RFC 4648, section 10. */
static void test_text__base64_is_that_of_the_rfc(void **state)
{
    (void)state;
    const char *vectors[][2] = {{"", ""},
                                {"f", "Zg=="},
                                {"fo", "Zm8="},
                                {"foo", "Zm9v"},
                                {"foob", "Zm9vYg=="},
                                {"fooba", "Zm9vYmE="},
                                {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        char *text = printed(print_base64, bytes_text(vectors[i][0]));
        assert_string_equal(text, vectors[i][1]);
        free(text);
        assert_decodes(TEXT_BASE64, vectors[i][1], bytes_text(vectors[i][0]));
    }
    assert_decodes(TEXT_BASE64, "Zg", bytes_text("f"));
    assert_decodes(TEXT_BASE64, "-_-_", bytes_of("\xfb\xff\xbf", 3)); /* the alphabet of URLs */
    assert_refuses(TEXT_BASE64, "Z");
    assert_refuses(TEXT_BASE64, "Zg=a");
    assert_refuses(TEXT_BASE64, "Z g");
}

static void test_text__hex_reads_both_cases_and_writes_one(void **state)
{
    (void)state;
    struct bytes octets = bytes_of("\x00\xab\xff", 3);
    char *text = printed(print_hex, octets);
    assert_string_equal(text, "00abff");
    free(text);
    assert_decodes(TEXT_HEX, "00aBFf", octets);
    assert_decodes(TEXT_HEX, "", BYTES_EMPTY);
    assert_refuses(TEXT_HEX, "0");
    assert_refuses(TEXT_HEX, "0g");
    assert_refuses(TEXT_HEX, "0x00");
}

static void test_text__escapes_come_back_as_they_were(void **state)
{
    (void)state;
    const struct bytes cases[] = {BYTES_EMPTY, bytes_text("plain"), bytes_text("\t\n\\"),
                                  bytes_text("a\tb\nc\\d\\t"), bytes_of("\0\r\xff\t\0", 5)};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = NULL;
        size_t size = 0;
        FILE *to = open_memstream(&text, &size);
        text_print_escaped(cases[i], to);
        fclose(to);
        assert_int_equal(text_escaped_size(cases[i]), size);
        assert_null(memchr(text, '\t', size));
        assert_null(memchr(text, '\n', size));
        struct buffer out;
        buffer_init(&out, 1000);
        assert_int_equal(text_unescape(bytes_of(text, size), &out), STATUS_OK);
        assert_true(bytes_equal(buffer_view(&out), cases[i]));
        buffer_fini(&out);
        free(text);
    }
}

static void test_text__other_escapes_are_refused(void **state)
{
    (void)state;
    const char *cases[] = {"\\", "a\\", "\\x", "\\\\\\", "\\\t", "\\\n"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer out;
        buffer_init(&out, 1000);
        assert_int_equal(text_unescape(bytes_text(cases[i]), &out), STATUS_USAGE);
        buffer_fini(&out);
    }
}

static void test_text__json_takes_any_bytes(void **state)
{
    (void)state;
    const struct bytes cases[] = {BYTES_EMPTY, bytes_text("gr\xc3\xbcn"), bytes_of("\0\x01", 2),
                                  bytes_of("\xff", 1), bytes_of("a\xc3", 2)};
    const bool utf8[] = {true, true, true, false, false};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *object = json_object();
        text_json_set(object, "value", cases[i]);
        assert_int_equal(json_object_get(object, "value") != NULL, utf8[i]);
        assert_int_equal(json_object_get(object, "value64") != NULL, !utf8[i]);
        struct buffer out;
        buffer_init(&out, 1000);
        assert_int_equal(text_json_get(object, "value", &out), STATUS_OK);
        assert_true(bytes_equal(buffer_view(&out), cases[i]));
        assert_int_equal(text_json_get(object, "key", &out), STATUS_NOTFOUND);
        json_object_set_new(object, "key", json_integer(5));
        assert_int_equal(text_json_get(object, "key", &out), STATUS_USAGE);
        buffer_fini(&out);
        json_decref(object);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text__base64_is_that_of_the_rfc),
        cmocka_unit_test(test_text__hex_reads_both_cases_and_writes_one),
        cmocka_unit_test(test_text__escapes_come_back_as_they_were),
        cmocka_unit_test(test_text__other_escapes_are_refused),
        cmocka_unit_test(test_text__json_takes_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
