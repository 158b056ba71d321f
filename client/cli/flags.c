#include "client/cli/flags.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_SIZE_MAX 32

const struct flag_row flags_rows[] = {
#define X(kind, name, letter, def, group, value, sentence)                                         \
    {FLAG_KIND_##kind, #name, letter, def, group, value, sentence, offsetof(struct flags, name)},
    CLI_FLAGS(X)
#undef X
};
#define ROWS_COUNT (sizeof flags_rows / sizeof *flags_rows)
const size_t flags_rows_count = ROWS_COUNT;

_Static_assert(ROWS_COUNT <= 64, "one bit each in flags.given");

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
        if (d < best_distance && d < strlen(candidates[i]) && d < strlen(word)) {
            best = candidates[i];
            best_distance = d;
        }
    }
    return best;
}

int flags_choice(const char *choices, const char *text)
{
    size_t size = strlen(text);
    for (int i = 0;; i++) {
        size_t part = strcspn(choices, "|");
        if (part == size && memcmp(choices, text, size) == 0)
            return i;
        if (choices[part] == 0)
            return -1;
        choices += part + 1;
    }
}

const char *flags_choices(const char *choices, char *text)
{
    size_t used = 0;
    for (const char *c = choices; *c != 0 && used + 3 < FLAGS_CHOICES_SIZE; c++) {
        text[used++] = *c == '|' ? ',' : *c;
        if (*c == '|')
            text[used++] = ' ';
    }
    text[used] = 0;
    return text;
}

static enum status wrong_choice(const struct flag_row *row, const char *text, struct error *reterr)
{
    char list[FLAGS_CHOICES_SIZE], name[FLAGS_LONG_SIZE];
    return error_set(reterr, STATUS_USAGE, "%s: '%s' is none of %s", flags_long(row, name), text,
                     flags_choices(row->value, list));
}

static enum status set_uint(const struct flag_row *row, void *to, const char *text,
                            struct error *reterr)
{
    char *end, name[FLAGS_LONG_SIZE];
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || text[0] == '-')
        return error_set(reterr, STATUS_USAGE, "%s: '%s' is not a number; write %s=%s, %s",
                         flags_long(row, name), text, name, row->value, row->sentence);
    *(uint64_t *)to = number;
    return STATUS_OK;
}

static enum status set_flag(const struct flag_row *row, struct flags *flags, const char *text,
                            struct error *reterr)
{
    void *to = (char *)flags + row->offset;
    switch (row->kind) {
    case FLAG_KIND_TEXT:
        if (strchr(row->value, '|') != NULL && flags_choice(row->value, text) < 0)
            return wrong_choice(row, text, reterr);
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

void flags_default(struct flags *flags)
{
    *flags = (struct flags){0};
    for (size_t i = 0; i < ROWS_COUNT; i++) {
        const struct flag_row *row = &flags_rows[i];
        if (row->kind == FLAG_KIND_TEXT)
            *(const char **)((char *)flags + row->offset) = row->default_text;
        else if (row->kind == FLAG_KIND_UINT)
            set_flag(row, flags, row->default_text, NULL);
    }
}

const char *flags_long(const struct flag_row *row, char *text)
{
    size_t used = (size_t)snprintf(text, FLAGS_LONG_SIZE, "--%s", row->name);
    for (size_t i = 2; i < used && i < FLAGS_LONG_SIZE; i++)
        text[i] = text[i] == '_' ? '-' : text[i];
    return text;
}

const struct flag_row *flags_foreign(const struct flags *flags, unsigned groups)
{
    for (size_t i = 0; i < ROWS_COUNT; i++)
        if ((flags->given >> i & 1) != 0 && (flags_rows[i].group & groups) == 0)
            return &flags_rows[i];
    return NULL;
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
        if (spells(text, size, flags_rows[i].name))
            return &flags_rows[i];
    return NULL;
}

static const struct flag_row *find_short(char letter)
{
    for (size_t i = 0; i < ROWS_COUNT; i++)
        if (flags_rows[i].letter == letter)
            return &flags_rows[i];
    return NULL;
}

static enum status unknown(const char *arg, size_t size, struct error *reterr)
{
    const char *names[ROWS_COUNT];
    for (size_t i = 0; i < ROWS_COUNT; i++)
        names[i] = flags_rows[i].name;
    char word[WORD_SIZE_MAX + 1] = {0};
    for (size_t i = 2; i < size && i - 2 < WORD_SIZE_MAX; i++)
        word[i - 2] = arg[i] == '-' ? '_' : arg[i];
    const char *similar = arg[1] == '-' ? flags_similar(word, names, ROWS_COUNT) : NULL;
    if (similar == NULL)
        return error_set(reterr, STATUS_USAGE,
                         "unknown flag '%.*s'; `duet help COMMAND` lists the flags, and a word "
                         "that begins with - stands behind --",
                         (int)size, arg);
    char name[FLAGS_LONG_SIZE];
    return error_set(reterr, STATUS_USAGE, "unknown flag '%.*s'; did you mean %s?", (int)size, arg,
                     flags_long(find_long(similar, strlen(similar)), name));
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
    flags->given |= UINT64_C(1) << (row - flags_rows);
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
        return error_set(reterr, STATUS_USAGE, "%.*s needs a value (%s): %s", (int)size, arg,
                         row->value, row->sentence);
    return set_flag(row, flags, value, reterr);
}

enum status flags_parse(int argc, char **argv, struct flags *flags, char **words,
                        int *ret_words_count, struct error *reterr)
{
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

bool flags_default_shown(const struct flag_row *row)
{
    return row->kind != FLAG_KIND_BOOL && row->default_text != NULL && row->default_text[0] != 0 &&
           strcmp(row->default_text, "0") != 0;
}
