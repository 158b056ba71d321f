#include "client/cli/flags.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORD_SIZE_MAX 32

enum flag_kind { FLAG_KIND_TEXT, FLAG_KIND_UINT, FLAG_KIND_BOOL };

struct flag_row {
    enum flag_kind kind;
    const char *name;
    char letter;
    const char *default_text;
    unsigned group;
    const char *value, *sentence;
    size_t offset;
};

static const struct flag_row rows[] = {
#define X(kind, name, letter, def, group, value, sentence)                                         \
    {FLAG_KIND_##kind, #name, letter, def, group, value, sentence, offsetof(struct flags, name)},
    CLI_FLAGS(X)
#undef X
};
#define ROWS_COUNT (sizeof rows / sizeof *rows)

/* Levenshtein's distance of two short words. */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_SIZE_MAX + 1];
    size_t a_size = strnlen(a, WORD_SIZE_MAX), b_size = strnlen(b, WORD_SIZE_MAX);
    for (size_t j = 0; j <= b_size; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t changed = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t inserted = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = changed < inserted ? changed : inserted;
        }
    }
    return row[b_size];
}

const char *flags_similar(const char *word, const char *const *candidates, size_t count)
{
    const char *best = NULL;
    size_t best_distance = 3;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, candidates[i]);
        if (d < best_distance && d < strlen(candidates[i])) {
            best = candidates[i];
            best_distance = d;
        }
    }
    return best;
}

static enum status set_uint(const struct flag_row *row, void *to, const char *text,
                            struct error *reterr)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || text[0] == '-')
        return error_set(reterr, STATUS_USAGE, "--%s: '%s' is not a number", row->name, text);
    *(uint64_t *)to = number;
    return STATUS_OK;
}

static enum status set_flag(const struct flag_row *row, struct flags *flags, const char *text,
                            struct error *reterr)
{
    void *to = (char *)flags + row->offset;
    switch (row->kind) {
    case FLAG_KIND_TEXT:
        *(const char **)to = text;
        return STATUS_OK;
    case FLAG_KIND_UINT:
        return set_uint(row, to, text, reterr);
    case FLAG_KIND_BOOL:
        *(bool *)to = text != NULL;
        return STATUS_OK;
    }
    return STATUS_OK;
}

static void set_defaults(struct flags *flags)
{
    *flags = (struct flags){0};
    for (size_t i = 0; i < ROWS_COUNT; i++)
        if (rows[i].kind != FLAG_KIND_BOOL)
            set_flag(&rows[i], flags, rows[i].default_text, NULL);
}

/* Do the first size bytes of text spell the name, '-' and '_' being the same? */
static bool spells(const char *text, size_t size, const char *name)
{
    if (strlen(name) != size)
        return false;
    for (size_t i = 0; i < size; i++)
        if ((text[i] == '-' ? '_' : text[i]) != name[i])
            return false;
    return true;
}

static const struct flag_row *find_long(const char *text, size_t size)
{
    for (size_t i = 0; i < ROWS_COUNT; i++)
        if (spells(text, size, rows[i].name))
            return &rows[i];
    return NULL;
}

static const struct flag_row *find_short(char letter)
{
    for (size_t i = 0; i < ROWS_COUNT; i++)
        if (rows[i].letter == letter)
            return &rows[i];
    return NULL;
}

static enum status unknown(const char *arg, size_t size, struct error *reterr)
{
    const char *names[ROWS_COUNT];
    for (size_t i = 0; i < ROWS_COUNT; i++)
        names[i] = rows[i].name;
    char word[WORD_SIZE_MAX + 1] = {0};
    for (size_t i = 2; i < size && i - 2 < WORD_SIZE_MAX; i++)
        word[i - 2] = arg[i] == '-' ? '_' : arg[i];
    const char *similar = arg[1] == '-' ? flags_similar(word, names, ROWS_COUNT) : NULL;
    if (similar == NULL)
        return error_set(reterr, STATUS_USAGE, "unknown flag '%.*s'; see duet help", (int)size,
                         arg);
    char dashed[WORD_SIZE_MAX + 1] = {0};
    for (size_t i = 0; similar[i] != 0; i++)
        dashed[i] = similar[i] == '_' ? '-' : similar[i];
    return error_set(reterr, STATUS_USAGE, "unknown flag '%.*s'; did you mean --%s?", (int)size,
                     arg, dashed);
}

/* A word that begins with a dash and yet is no flag. */
static bool is_word(const char *arg)
{
    return arg[0] != '-' || arg[1] == 0 || (arg[1] >= '0' && arg[1] <= '9');
}

/* Read the flag at argv[*i], and its value which may be the next one. */
static enum status parse_one(int argc, char **argv, int *i, struct flags *flags,
                             struct error *reterr)
{
    char *arg = argv[*i];
    bool is_long = arg[1] == '-';
    size_t size = is_long ? strcspn(arg, "=") : 2;
    const struct flag_row *row = is_long ? find_long(arg + 2, size - 2) : find_short(arg[1]);
    if (row == NULL)
        return unknown(arg, is_long ? size : strlen(arg), reterr);
    flags->groups |= row->group;
    const char *value = NULL;
    if (arg[size] != 0)
        value = arg + size + (arg[size] == '=' ? 1 : 0);
    if (row->kind == FLAG_KIND_BOOL) {
        if (value != NULL)
            return error_set(reterr, STATUS_USAGE, "%.*s takes no value", (int)size, arg);
        return set_flag(row, flags, "", reterr);
    }
    if (value == NULL && *i + 1 < argc)
        value = argv[++*i];
    if (value == NULL)
        return error_set(reterr, STATUS_USAGE, "%.*s needs a value (%s)", (int)size, arg,
                         row->value);
    return set_flag(row, flags, value, reterr);
}

enum status flags_parse(int argc, char **argv, struct flags *flags, char **words,
                        int *ret_words_count, struct error *reterr)
{
    set_defaults(flags);
    *ret_words_count = 0;
    bool ended = false;
    for (int i = 1; i < argc; i++) {
        if (!ended && strcmp(argv[i], "--") == 0) {
            ended = true;
        } else if (ended || is_word(argv[i])) {
            words[(*ret_words_count)++] = argv[i];
        } else {
            enum status s = parse_one(argc, argv, &i, flags, reterr);
            if (s != STATUS_OK)
                return s;
        }
    }
    return STATUS_OK;
}

void flags_print(FILE *to, unsigned groups)
{
    for (size_t i = 0; i < ROWS_COUNT; i++) {
        const struct flag_row *row = &rows[i];
        if ((row->group & groups) == 0)
            continue;
        char left[64];
        int used = row->letter != 0 ? snprintf(left, sizeof left, "-%c, --", row->letter)
                                    : snprintf(left, sizeof left, "    --");
        for (const char *c = row->name; *c != 0; c++)
            left[used++] = *c == '_' ? '-' : *c;
        snprintf(left + used, sizeof left - (size_t)used, "%s%s", row->value[0] != 0 ? "=" : "",
                 row->value);
        bool shown =
            row->kind != FLAG_KIND_BOOL && row->default_text != NULL && row->default_text[0] != 0;
        fprintf(to, "  %-26s %s%s%s%s\n", left, row->sentence, shown ? " [" : "",
                shown ? row->default_text : "", shown ? "]" : "");
    }
}
