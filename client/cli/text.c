#include "client/cli/text.h"

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int digit_of(const char *digits, uint8_t c)
{
    const char *at = c == 0 ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

static int hex_value(uint8_t c)
{
    return digit_of(hex_digits, c >= 'A' && c <= 'F' ? (uint8_t)(c + 32) : c);
}

static enum status decode_hex(struct bytes text, struct buffer *out)
{
    if (text.size % 2 != 0)
        return STATUS_USAGE;
    for (size_t i = 0; i < text.size; i += 2) {
        int high = hex_value(text.data[i]), low = hex_value(text.data[i + 1]);
        if (high < 0 || low < 0)
            return STATUS_USAGE;
        uint8_t octet = (uint8_t)(high << 4 | low);
        enum status s = buffer_append(out, bytes_of(&octet, 1));
        if (s != STATUS_OK)
            return s;
    }
    return STATUS_OK;
}

/* Both alphabets, with or without '=' at the end. */
static int base64_value(uint8_t c)
{
    return digit_of(base64_digits, c == '-' ? '+' : c == '_' ? '/' : c);
}

static enum status decode_base64(struct bytes text, struct buffer *out)
{
    while (text.size > 0 && text.data[text.size - 1] == '=')
        text.size--;
    uint32_t bits = 0;
    unsigned bits_count = 0;
    for (size_t i = 0; i < text.size; i++) {
        int value = base64_value(text.data[i]);
        if (value < 0 || text.size % 4 == 1)
            return STATUS_USAGE;
        bits = bits << 6 | (uint32_t)value;
        bits_count += 6;
        if (bits_count < 8)
            continue;
        bits_count -= 8;
        uint8_t octet = (uint8_t)(bits >> bits_count);
        enum status s = buffer_append(out, bytes_of(&octet, 1));
        if (s != STATUS_OK)
            return s;
    }
    return STATUS_OK;
}

enum status text_decode(enum text_format format, struct bytes text, struct buffer *out)
{
    switch (format) {
    case TEXT_RAW:
        return buffer_append(out, text);
    case TEXT_HEX:
        return decode_hex(text, out);
    case TEXT_BASE64:
        return decode_base64(text, out);
    }
    return STATUS_USAGE;
}

/* Four digits for up to three octets. */
static void encode_group(const uint8_t *data, size_t size, char to[4])
{
    uint32_t bits = (uint32_t)data[0] << 16 | (size > 1 ? (uint32_t)data[1] << 8 : 0) |
                    (size > 2 ? data[2] : 0);
    to[0] = base64_digits[bits >> 18];
    to[1] = base64_digits[bits >> 12 & 63];
    to[2] = size > 1 ? base64_digits[bits >> 6 & 63] : '=';
    to[3] = size > 2 ? base64_digits[bits & 63] : '=';
}

static void print_base64(struct bytes data, FILE *to)
{
    for (size_t i = 0; i < data.size; i += 3) {
        char group[4];
        encode_group(data.data + i, data.size - i, group);
        fwrite(group, 1, 4, to);
    }
}

static void print_hex(struct bytes data, FILE *to)
{
    for (size_t i = 0; i < data.size; i++) {
        putc(hex_digits[data.data[i] >> 4], to);
        putc(hex_digits[data.data[i] & 15], to);
    }
}

/* fwrite() wants a pointer even for nothing. */
static void print_raw(const uint8_t *data, size_t size, FILE *to)
{
    if (size > 0)
        fwrite(data, 1, size, to);
}

void text_print(enum text_format format, struct bytes data, FILE *to)
{
    switch (format) {
    case TEXT_RAW:
        print_raw(data.data, data.size, to);
        return;
    case TEXT_HEX:
        print_hex(data, to);
        return;
    case TEXT_BASE64:
        print_base64(data, to);
        return;
    }
}

/* The letter behind the backslash, 0: none is needed. */
static char escape_of(uint8_t c)
{
    return c == '\t' ? 't' : c == '\n' ? 'n' : c == '\\' ? '\\' : 0;
}

void text_print_escaped(struct bytes data, FILE *to)
{
    if (data.size == 0)
        return;
    size_t begin = 0;
    for (size_t i = 0; i < data.size; i++) {
        char escape = escape_of(data.data[i]);
        if (escape == 0)
            continue;
        print_raw(data.data + begin, i - begin, to);
        putc('\\', to);
        putc(escape, to);
        begin = i + 1;
    }
    print_raw(data.data + begin, data.size - begin, to);
}

size_t text_escaped_size(struct bytes data)
{
    size_t size = data.size;
    for (size_t i = 0; i < data.size; i++)
        size += escape_of(data.data[i]) != 0;
    return size;
}

enum status text_unescape(struct bytes data, struct buffer *out)
{
    while (data.size > 0) {
        const uint8_t *backslash = memchr(data.data, '\\', data.size);
        size_t plain = backslash == NULL ? data.size : (size_t)(backslash - data.data);
        enum status s = buffer_append(out, bytes_of(data.data, plain));
        if (s != STATUS_OK || backslash == NULL)
            return s;
        if (plain + 1 == data.size)
            return STATUS_USAGE;
        uint8_t letter = backslash[1];
        uint8_t c = letter == 't' ? '\t' : letter == 'n' ? '\n' : letter;
        if (escape_of(c) != (char)letter)
            return STATUS_USAGE;
        s = buffer_append(out, bytes_of(&c, 1));
        if (s != STATUS_OK)
            return s;
        data = bytes_of(backslash + 2, data.size - plain - 2);
    }
    return STATUS_OK;
}

/* ---- JSON ---- */

static json_t *json_base64(struct bytes data)
{
    size_t size = (data.size + 2) / 3 * 4;
    char *text = malloc(size + 1);
    if (text == NULL)
        return NULL;
    for (size_t i = 0, o = 0; i < data.size; i += 3, o += 4)
        encode_group(data.data + i, data.size - i, text + o);
    json_t *string = json_stringn(text, size);
    free(text);
    return string;
}

void text_json_set(json_t *object, const char *name, struct bytes data)
{
    json_t *string = json_stringn(data.size > 0 ? (const char *)data.data : "", data.size);
    if (string != NULL) { /* UTF-8 */
        json_object_set_new(object, name, string);
        return;
    }
    char name64[32];
    snprintf(name64, sizeof name64, "%s64", name);
    json_object_set_new(object, name64, json_base64(data));
}

enum status text_json_get(const json_t *object, const char *name, struct buffer *out)
{
    char name64[32];
    snprintf(name64, sizeof name64, "%s64", name);
    const json_t *plain = json_object_get(object, name), *coded = json_object_get(object, name64);
    const json_t *string = plain != NULL ? plain : coded;
    if (string == NULL)
        return STATUS_NOTFOUND;
    if (!json_is_string(string))
        return STATUS_USAGE;
    struct bytes text = bytes_of(json_string_value(string), json_string_length(string));
    return text_decode(plain != NULL ? TEXT_RAW : TEXT_BASE64, text, out);
}

void text_json_print(json_t *object, bool compact, FILE *to)
{
    json_dumpf(object, to, JSON_REAL_PRECISION(9) | (compact ? JSON_COMPACT : JSON_INDENT(2)));
    putc('\n', to);
    json_decref(object);
}
