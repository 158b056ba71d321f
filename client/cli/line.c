#include "client/cli/line.h"

static const char *parse_tsv(enum text_format key_format, struct bytes line, struct buffer *key,
                             struct buffer *value)
{
    const uint8_t *tab = line.size == 0 ? NULL : memchr(line.data, '\t', line.size);
    if (tab == NULL)
        return "no tab between key and value (--format tsv; the other one is jsonl)";
    struct bytes before = bytes_of(line.data, (size_t)(tab - line.data));
    struct bytes behind = bytes_of(tab + 1, line.size - before.size - 1);
    enum status s =
        key_format == TEXT_RAW ? text_unescape(before, key) : text_decode(key_format, before, key);
    if (s == STATUS_USAGE && key_format != TEXT_RAW)
        return "the key is not in the format that --key-format says";
    if (s == STATUS_OK)
        s = text_unescape(behind, value);
    if (s == STATUS_USAGE)
        return "a backslash that is not part of \\t, \\n or \\\\";
    return s == STATUS_OK ? NULL : "key or value is too large";
}

static const char *parse_jsonl(struct bytes line, struct buffer *key, struct buffer *value)
{
    json_error_t error;
    json_t *object = json_loadb((const char *)line.data, line.size, JSON_ALLOW_NUL, &error);
    if (!json_is_object(object)) {
        json_decref(object);
        return "not a JSON object";
    }
    enum status s = text_json_get(object, "key", key);
    if (s == STATUS_OK)
        s = text_json_get(object, "value", value);
    json_decref(object);
    if (s == STATUS_NOTFOUND)
        return "\"key\" (or \"key64\") and \"value\" (or \"value64\") are needed";
    if (s == STATUS_USAGE)
        return "key and value must be strings; key64 and value64 base64";
    return s == STATUS_OK ? NULL : "key or value is too large";
}

const char *line_parse(enum line_format format, enum text_format key_format, struct bytes line,
                       struct buffer *key, struct buffer *value)
{
    buffer_clear(key);
    buffer_clear(value);
    return format == LINE_TSV ? parse_tsv(key_format, line, key, value)
                              : parse_jsonl(line, key, value);
}

void line_print(enum line_format format, enum text_format key_format, struct bytes key,
                struct bytes value, FILE *to)
{
    if (format == LINE_JSONL) {
        json_t *object = json_object();
        text_json_set(object, "key", key);
        text_json_set(object, "value", value);
        text_json_print(object, true, to);
        return;
    }
    if (key_format == TEXT_RAW)
        text_print_escaped(key, to);
    else
        text_print(key_format, key, to);
    putc('\t', to);
    text_print_escaped(value, to);
    putc('\n', to);
}
