/* Keys and values as text: what the CLI makes of the words and lines that people and programs give
 * it, and what it prints.
 *
 * Input: an octet that chooses a row of `forms`, then the bytes. Each row takes the bytes both
 * ways: as text that somebody wrote, and as data that is to be printed.
 */
#include <stdio.h>

#include "client/cli/line.h"
#include "tests/fuzz/fuzz.h"

#define OUT_SIZE_MAX ((size_t)16 << 20)

struct form {
    enum text_format key_format; /* how a word, or a TSV line's key, is written */
    bool line;
    enum line_format line_format;
    bool escaped; /* a word with escapes */
};

static const struct form forms[] = {
    {.key_format = TEXT_RAW},
    {.key_format = TEXT_HEX},
    {.key_format = TEXT_BASE64},
    {.escaped = true},
    {.line = true, .line_format = LINE_TSV, .key_format = TEXT_RAW},
    {.line = true, .line_format = LINE_TSV, .key_format = TEXT_HEX},
    {.line = true, .line_format = LINE_TSV, .key_format = TEXT_BASE64},
    {.line = true, .line_format = LINE_JSONL},
};

/* A stream into memory. */
struct printed {
    FILE *to;
    char *text;
    size_t size;
};

static void printed_open(struct printed *p)
{
    *p = (struct printed){0};
    p->to = open_memstream(&p->text, &p->size);
    ENSURE(p->to != NULL);
}

static struct bytes printed_close(struct printed *p)
{
    ENSURE(fclose(p->to) == 0);
    return bytes_of(p->text, p->size);
}

/* ---- Words ---- */

static enum status word_decode(const struct form *f, struct bytes text, struct buffer *out)
{
    return f->escaped ? text_unescape(text, out) : text_decode(f->key_format, text, out);
}

/* Any data can be printed, and comes back. */
static void word_print(const struct form *f, struct bytes data)
{
    struct printed p;
    struct buffer back;
    printed_open(&p);
    buffer_init(&back, OUT_SIZE_MAX);
    if (f->escaped)
        text_print_escaped(data, p.to);
    else
        text_print(f->key_format, data, p.to);
    struct bytes text = printed_close(&p);
    ENSURE(word_decode(f, text, &back) == STATUS_OK && bytes_equal(buffer_view(&back), data));
    ENSURE(!f->escaped || memchr(text.data, '\t', text.size) == NULL);
    ENSURE(!f->escaped || memchr(text.data, '\n', text.size) == NULL);
    buffer_fini(&back);
    free(p.text);
}

static void word(const struct form *f, struct bytes text)
{
    struct buffer out;
    buffer_init(&out, OUT_SIZE_MAX);
    enum status s = word_decode(f, text, &out);
    ENSURE(s == STATUS_OK || s == STATUS_USAGE);
    ENSURE(out.size <= text.size);
    if (s == STATUS_OK)
        word_print(f, buffer_view(&out));
    word_print(f, text);
    buffer_fini(&out);
}

/* ---- Lines ---- */

/* Any record can be printed on one line, and comes back. */
static void line_back(const struct form *f, struct bytes key, struct bytes value)
{
    struct printed p;
    struct buffer key_back, value_back;
    printed_open(&p);
    buffer_init(&key_back, OUT_SIZE_MAX);
    buffer_init(&value_back, OUT_SIZE_MAX);
    line_print(f->line_format, f->key_format, key, value, p.to);
    struct bytes text = printed_close(&p);
    ENSURE(text.size > 0 && memchr(text.data, '\n', text.size) == text.data + text.size - 1);
    text.size--;
    ENSURE(line_parse(f->line_format, f->key_format, text, &key_back, &value_back) == NULL);
    ENSURE(bytes_equal(buffer_view(&key_back), key));
    ENSURE(bytes_equal(buffer_view(&value_back), value));
    buffer_fini(&key_back);
    buffer_fini(&value_back);
    free(p.text);
}

static void line(const struct form *f, struct bytes text)
{
    struct buffer key, value;
    buffer_init(&key, OUT_SIZE_MAX);
    buffer_init(&value, OUT_SIZE_MAX);
    if (line_parse(f->line_format, f->key_format, text, &key, &value) == NULL)
        line_back(f, buffer_view(&key), buffer_view(&value));
    size_t half = text.size / 2;
    line_back(f, bytes_of(text.data, half), bytes_of(text.data + half, text.size - half));
    buffer_fini(&key);
    buffer_fini(&value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = bytes_of(data, size);
    const struct form *f = &forms[feed_octet(&rest) % (sizeof forms / sizeof forms[0])];
    uint8_t *copy = fuzz_copy(rest);
    if (f->line)
        line(f, bytes_of(copy, rest.size));
    else
        word(f, bytes_of(copy, rest.size));
    free(copy);
    return 0;
}
