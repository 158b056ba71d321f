#include "client/cli/words.h"

#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

struct reader {
    const char *at, *end;
    char *to; /* where the next byte of a word goes */
    const char *wrong;
};

/* The inside of quotes; at stands behind the opening one. */
static void read_quoted(struct reader *r, char quote)
{
    while (r->at < r->end && *r->at != quote) {
        bool escapes = quote == '"' && *r->at == '\\' && r->at + 1 < r->end &&
                       strchr("\"\\$", r->at[1]) != NULL;
        r->at += escapes;
        *r->to++ = *r->at++;
    }
    if (r->at == r->end)
        r->wrong = quote == '"' ? "a \" is not closed; where the sign itself is meant, write \\\""
                                : "a ' is not closed; where the sign itself is meant, write \\'";
    else
        r->at++;
}

static void read_word(struct reader *r)
{
    while (r->at < r->end && !is_blank(*r->at)) {
        char c = *r->at++;
        if (c == '\'' || c == '"') {
            read_quoted(r, c);
        } else if (c != '\\') {
            *r->to++ = c;
        } else if (r->at < r->end) {
            *r->to++ = *r->at++;
        } else {
            r->wrong = "a backslash stands at the end; where the sign itself is meant, write two";
        }
    }
    *r->to++ = 0;
}

const char *words_split(struct words *words, const char *line, size_t size)
{
    *words = (struct words){0};
    /* A word takes at most as many bytes as in the line, and one for its end. */
    words->storage = malloc(2 * size + 8);
    words->items = calloc(size / 2 + 3, sizeof *words->items);
    if (words->storage == NULL || words->items == NULL)
        return "out of memory";
    struct reader r = {line, line + size, words->storage, NULL};
    if (memchr(line, 0, size) != NULL)
        r.wrong = "a line with a zero byte; write such keys with --key-format";
    words->items[words->count++] = "duet";
    while (r.wrong == NULL) {
        words->open = false;
        while (r.at < r.end && is_blank(*r.at))
            r.at++;
        if (r.at == r.end || *r.at == '#')
            break;
        words->items[words->count++] = r.to;
        read_word(&r);
        words->open = true;
        if (r.at == r.end)
            break;
    }
    return r.wrong;
}

void words_fini(struct words *words)
{
    free(words->storage);
    free(words->items);
    *words = (struct words){0};
}
