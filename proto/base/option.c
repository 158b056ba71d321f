#include "proto/base/option.h"

#include <ctype.h>
#include <czmq.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/ensure.h"

#define FILE_SIZE_MAX        (1u << 20)
#define OPTION_NAME_SIZE_MAX 64

extern char **environ; /* POSIX leaves its declaration to the program */

/* Later wins over earlier. */
enum origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_FLAG };

static const char *const origin_names[] = {
    [ORIGIN_DEFAULT] = "default",
    [ORIGIN_FILE] = "file",
    [ORIGIN_ENVIRONMENT] = "environment",
    [ORIGIN_FLAG] = "flag",
};

struct setting {
    char *text; /* in force */
    enum origin origin;
    char *staged; /* from the source that is being read; NULL for none */
};

struct option_set {
    const struct option_row *rows;
    size_t count;
    uint8_t *values;
    struct setting *settings; /* one for each row */
};

/* ---- values -------------------------------------------------------------------------------- */

static bool parse_uint(const char *text, uint64_t *ret)
{
    if (!isdigit((unsigned char)text[0]))
        return false;
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    *ret = number;
    return errno == 0 && *end == '\0';
}

static bool parse_flag(const char *text, bool *ret)
{
    static const char *const words[] = {"0", "1", "no", "yes", "false", "true", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret = i % 2 == 1;
            return true;
        }
    }
    return false;
}

/* Can ZPL carry it? It has two kinds of quotes and no escapes. */
static bool text_writable(const char *text)
{
    for (const char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    return strchr(text, '"') == NULL || strchr(text, '\'') == NULL;
}

static const char *space_unit(const struct option_row *row)
{
    return row->unit[0] == '\0' ? "" : " ";
}

/* Is text a value for row? where names the place in the error: "flag --x", "n1.conf: x". */
static enum status value_check(const struct option_row *row, const char *where, const char *text,
                               struct error *reterr)
{
    uint64_t number;
    bool flag;
    switch (row->kind) {
    case OPTION_UINT:
        if (parse_uint(text, &number) && number >= row->min && number <= row->max)
            return STATUS_OK;
        return error_set(reterr, STATUS_CONFIG,
                         "%s is '%.40s'; it takes a number from %llu to %llu%s%s", where, text,
                         (unsigned long long)row->min, (unsigned long long)row->max,
                         space_unit(row), row->unit);
    case OPTION_FLAG:
    case OPTION_COMMAND:
        if (parse_flag(text, &flag))
            return STATUS_OK;
        return error_set(reterr, STATUS_CONFIG, "%s is '%.40s'; it takes 1 or 0", where, text);
    case OPTION_TEXT:
        if (strlen(text) > row->max)
            return error_set(reterr, STATUS_CONFIG, "%s is %zu bytes long; it takes %llu at most",
                             where, strlen(text), (unsigned long long)row->max);
        if (!text_writable(text))
            return error_set(reterr, STATUS_CONFIG,
                             "%s holds control characters or both kinds of quotes", where);
        return STATUS_OK;
    }
    ENSURE_UNREACHABLE();
}

/* Write the text in force into the process's struct. It was checked when it was staged. */
static void value_store(struct option_set *set, size_t index)
{
    const struct option_row *row = &set->rows[index];
    const char *text = set->settings[index].text;
    uint8_t *field = set->values + row->offset;
    uint64_t number = 0;
    bool flag = false;
    switch (row->kind) {
    case OPTION_UINT:
        ENSURE(parse_uint(text, &number));
        memcpy(field, &number, sizeof number);
        return;
    case OPTION_FLAG:
    case OPTION_COMMAND:
        ENSURE(parse_flag(text, &flag));
        memcpy(field, &flag, sizeof flag);
        return;
    case OPTION_TEXT:
        memcpy(field, &text, sizeof text);
        return;
    }
    ENSURE_UNREACHABLE();
}

/* ---- names --------------------------------------------------------------------------------- */

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Letters to insert, delete or replace to turn a into b; both at most OPTION_NAME_SIZE_MAX long. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[OPTION_NAME_SIZE_MAX + 1];
    size_t b_size = strlen(b);
    for (size_t j = 0; j <= b_size; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b_size; j++) {
            size_t above = row[j + 1];
            row[j + 1] = smallest(above + 1, row[j] + 1, diagonal + (a[i] != b[j]));
            diagonal = above;
        }
    }
    return row[b_size];
}

/* The option whose name is nearest to a name that does not exist; NULL when none is near. */
static const char *nearest(const struct option_set *set, const char *name)
{
    size_t size = strlen(name);
    if (size > OPTION_NAME_SIZE_MAX)
        return NULL;
    size_t best = size / 3 + 2;
    const char *found = NULL;
    for (size_t i = 0; i < set->count; i++) {
        size_t distance = edit_distance(name, set->rows[i].name);
        if (distance < best) {
            best = distance;
            found = set->rows[i].name;
        }
    }
    return found;
}

static const struct option_row *find(const struct option_set *set, const char *name)
{
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->rows[i].name, name) == 0)
            return &set->rows[i];
    return NULL;
}

static enum status unknown_name(const struct option_set *set, enum status s, const char *where,
                                const char *name, struct error *reterr)
{
    const char *near = nearest(set, name);
    if (near == NULL)
        return error_set(reterr, s, "%.200s: no such option", where);
    return error_set(reterr, s, "%.200s: no such option; did you mean %s?", where, near);
}

/* ---- staging: a source is taken whole or not at all ---------------------------------------- */

static void staging_drop(struct option_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        free(set->settings[i].staged);
        set->settings[i].staged = NULL;
    }
}

static enum status staging_add(struct option_set *set, const struct option_row *row,
                               const char *where, const char *text, struct error *reterr)
{
    enum status s = value_check(row, where, text, reterr);
    if (s != STATUS_OK)
        return s;
    struct setting *setting = &set->settings[row - set->rows];
    free(setting->staged);
    setting->staged = strdup(text);
    return setting->staged != NULL ? STATUS_OK
                                   : error_set(reterr, STATUS_NOMEMORY, "out of memory");
}

static void staging_take(struct option_set *set, enum origin origin)
{
    for (size_t i = 0; i < set->count; i++) {
        struct setting *setting = &set->settings[i];
        if (setting->staged == NULL || origin < setting->origin)
            continue;
        free(setting->text);
        setting->text = setting->staged;
        setting->staged = NULL;
        setting->origin = origin;
        value_store(set, i);
    }
    staging_drop(set);
}

static enum status staging_end(struct option_set *set, enum origin origin, enum status s)
{
    if (s == STATUS_OK)
        staging_take(set, origin);
    else
        staging_drop(set);
    return s;
}

/* ---- life cycle ---------------------------------------------------------------------------- */

struct option_set *option_new(const struct option_row *rows, size_t count, void *values)
{
    struct option_set *set = calloc(1, sizeof *set);
    struct setting *settings = calloc(count + 1, sizeof *settings);
    if (set == NULL || settings == NULL) {
        free(set);
        free(settings);
        return NULL;
    }
    *set = (struct option_set){rows, count, values, settings};
    for (size_t i = 0; i < count; i++) {
        struct error wrong;
        ENSURE(strlen(rows[i].name) <= OPTION_NAME_SIZE_MAX);
        if (staging_add(set, &rows[i], rows[i].name, rows[i].default_text, &wrong) != STATUS_OK) {
            ENSURE(wrong.status == STATUS_NOMEMORY); /* a default must obey its own row */
            option_destroy(&set);
            return NULL;
        }
    }
    staging_take(set, ORIGIN_DEFAULT);
    return set;
}

void option_destroy(struct option_set **set_p)
{
    struct option_set *set = *set_p;
    if (set == NULL)
        return;
    for (size_t i = 0; i < set->count; i++) {
        free(set->settings[i].text);
        free(set->settings[i].staged);
    }
    free(set->settings);
    free(set);
    *set_p = NULL;
}

/* ---- file ---------------------------------------------------------------------------------- */

/* The whole file as a C string into *ret_text, which the caller frees. */
static enum status file_load(const char *path, char **ret_text, struct error *reterr)
{
    *ret_text = NULL;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return error_set(reterr, STATUS_IO, "cannot open '%s': %s", path, strerror(errno));
    char *text = malloc(FILE_SIZE_MAX + 1);
    size_t size = text == NULL ? 0 : fread(text, 1, FILE_SIZE_MAX + 1, file);
    bool failed = ferror(file) != 0;
    int reason = errno;
    fclose(file);
    enum status s = STATUS_OK;
    if (text == NULL)
        s = error_set(reterr, STATUS_NOMEMORY, "out of memory");
    else if (failed)
        s = error_set(reterr, STATUS_IO, "cannot read '%s': %s", path, strerror(reason));
    else if (size > FILE_SIZE_MAX || memchr(text, '\0', size) != NULL)
        s = error_set(reterr, STATUS_CONFIG, "'%s' is not a configuration file", path);
    if (s != STATUS_OK) {
        free(text);
        return s;
    }
    text[size] = '\0';
    *ret_text = text;
    return STATUS_OK;
}

/* What is wrong with one line of ZPL, as far as options need it; NULL when nothing is. */
static const char *line_fault(const char *line, size_t size)
{
    size_t at = strspn(line, " \t\r");
    if (at >= size || line[at] == '#')
        return NULL;
    if (at > 0)
        return "begins with spaces; there are no sections, each line begins with a name";
    while (at < size && (isalnum((unsigned char)line[at]) || line[at] == '_' || line[at] == '-'))
        at++;
    size_t name_size = at;
    at += strspn(line + at, " \t");
    if (name_size == 0 || at >= size || line[at] != '=')
        return "is not of the form `name = value`";
    at += 1 + strspn(line + at + 1, " \t\r");
    if (at >= size || line[at] == '#')
        return "has no value; write \"\" for an empty one";
    if (line[at] != '"' && line[at] != '\'')
        return NULL;
    const char *end = memchr(line + at + 1, line[at], size - at - 1);
    if (end == NULL)
        return "has a quote that does not end";
    at = (size_t)(end - line) + 1;
    at += strspn(line + at, " \t\r");
    return at >= size || line[at] == '#' ? NULL : "goes on after the closing quote";
}

/* zconfig says only on stdout where a file is wrong; so look first. */
static enum status lines_check(const char *path, const char *text, struct error *reterr)
{
    for (unsigned number = 1; *text != '\0'; number++) {
        size_t size = strcspn(text, "\n");
        const char *fault = line_fault(text, size);
        if (fault != NULL)
            return error_set(reterr, STATUS_CONFIG, "%.150s: line %u %s", path, number, fault);
        text += size + (text[size] == '\n');
    }
    return STATUS_OK;
}

static enum status file_stage(struct option_set *set, const char *path, zconfig_t *item,
                              struct error *reterr)
{
    char where[256];
    const char *name = zconfig_name(item);
    snprintf(where, sizeof where, "%.150s: %.64s", path, name);
    const struct option_row *row = find(set, name);
    if (row == NULL)
        return unknown_name(set, STATUS_CONFIG, where, name, reterr);
    if (row->kind == OPTION_COMMAND)
        return error_set(reterr, STATUS_CONFIG, "%s: only a flag, not for a file", where);
    if (set->settings[row - set->rows].staged != NULL)
        return error_set(reterr, STATUS_CONFIG, "%s: given twice", where);
    return staging_add(set, row, where, zconfig_value(item), reterr);
}

enum status option_read_file(struct option_set *set, const char *path, struct error *reterr)
{
    char *text;
    enum status s = file_load(path, &text, reterr);
    if (s == STATUS_OK)
        s = lines_check(path, text, reterr);
    if (s != STATUS_OK) {
        free(text);
        return s;
    }
    zconfig_t *root = zconfig_str_load(text);
    free(text);
    if (root == NULL)
        return error_set(reterr, STATUS_CONFIG, "'%s' is not ZPL", path);
    for (zconfig_t *item = zconfig_child(root); item != NULL && s == STATUS_OK;
         item = zconfig_next(item))
        s = file_stage(set, path, item, reterr);
    zconfig_destroy(&root);
    return staging_end(set, ORIGIN_FILE, s);
}

/* ---- environment --------------------------------------------------------------------------- */

/* One "NAME=value" of the environment, which begins with the prefix. */
static enum status environment_stage(struct option_set *set, const char *variable,
                                     size_t prefix_size, struct error *reterr)
{
    size_t variable_size = strcspn(variable, "=");
    char where[256], name[OPTION_NAME_SIZE_MAX + 1];
    snprintf(where, sizeof where, "environment variable %.*s", (int)variable_size, variable);
    size_t size = variable_size - prefix_size;
    if (size > OPTION_NAME_SIZE_MAX)
        return error_set(reterr, STATUS_CONFIG, "%.200s: no such option", where);
    for (size_t i = 0; i < size; i++)
        name[i] = (char)tolower((unsigned char)variable[prefix_size + i]);
    name[size] = '\0';
    const struct option_row *row = find(set, name);
    if (row == NULL && strncmp(variable, "DUET_ROUTERS=", 13) == 0)
        return STATUS_OK;
    if (row == NULL)
        return unknown_name(set, STATUS_CONFIG, where, name, reterr);
    if (row->kind == OPTION_COMMAND)
        return error_set(reterr, STATUS_CONFIG, "%s: only a flag, not for the environment", where);
    return staging_add(set, row, where, variable + variable_size + 1, reterr);
}

enum status option_read_environment(struct option_set *set, const char *prefix,
                                    struct error *reterr)
{
    size_t prefix_size = strlen(prefix);
    enum status s = STATUS_OK;
    for (char **variable = environ; *variable != NULL && s == STATUS_OK; variable++)
        if (strncmp(*variable, prefix, prefix_size) == 0 && strchr(*variable, '=') != NULL)
            s = environment_stage(set, *variable, prefix_size, reterr);
    return staging_end(set, ORIGIN_ENVIRONMENT, s);
}

/* ---- flags --------------------------------------------------------------------------------- */

/* Stage argv[*at], which begins with "--", and move *at past it and its value. */
static enum status flag_stage(struct option_set *set, int argc, char **argv, int *at,
                              struct error *reterr)
{
    const char *flag = argv[(*at)++];
    size_t size = strcspn(flag + 2, "=");
    const char *text = flag[2 + size] == '=' ? flag + 3 + size : NULL;
    char where[256], name[OPTION_NAME_SIZE_MAX + 1];
    snprintf(where, sizeof where, "flag --%.*s", (int)(size < 200 ? size : 200), flag + 2);
    if (size > OPTION_NAME_SIZE_MAX)
        return error_set(reterr, STATUS_USAGE, "%s: no such option", where);
    for (size_t i = 0; i < size; i++)
        name[i] = flag[2 + i];
    for (size_t i = 0; i < size; i++)
        if (name[i] == '-')
            name[i] = '_';
    name[size] = '\0';
    const struct option_row *row = find(set, name);
    if (row == NULL)
        return unknown_name(set, STATUS_USAGE, where, name, reterr);
    if (text == NULL && (row->kind == OPTION_FLAG || row->kind == OPTION_COMMAND))
        text = "1";
    /* A flag in the place of a value is more likely a forgotten value. */
    if (text == NULL && *at < argc && strncmp(argv[*at], "--", 2) != 0)
        text = argv[(*at)++];
    if (text == NULL)
        return error_set(reterr, STATUS_USAGE, "%s needs a value: %s", where, row->sentence);
    enum status s = staging_add(set, row, where, text, reterr);
    if (s != STATUS_CONFIG)
        return s;
    if (reterr != NULL)
        reterr->status = STATUS_USAGE;
    return STATUS_USAGE;
}

enum status option_read_flags(struct option_set *set, int argc, char **argv, char **ret_rest,
                              int *ret_rest_count, struct error *reterr)
{
    enum status s = STATUS_OK;
    bool ended = false;
    *ret_rest_count = 0;
    for (int at = 1; at < argc && s == STATUS_OK;) {
        const char *word = argv[at];
        if (ended || word[0] != '-' || word[1] == '\0') {
            ret_rest[(*ret_rest_count)++] = argv[at++];
        } else if (strcmp(word, "--") == 0) {
            ended = true;
            at++;
        } else if (word[1] != '-') {
            s = error_set(reterr, STATUS_USAGE, "flag %.100s: flags begin with two dashes", word);
        } else {
            s = flag_stage(set, argc, argv, &at, reterr);
        }
    }
    return staging_end(set, ORIGIN_FLAG, s);
}

/* ---- output -------------------------------------------------------------------------------- */

static const char *flag_argument(const struct option_row *row)
{
    switch (row->kind) {
    case OPTION_UINT:
        return "=N";
    case OPTION_TEXT:
        return "=TEXT";
    case OPTION_FLAG:
    case OPTION_COMMAND:
        return "";
    }
    ENSURE_UNREACHABLE();
}

/* "1..65536 MiB, default 4096": what a value may be. */
static void print_range(const struct option_row *row, FILE *to)
{
    switch (row->kind) {
    case OPTION_UINT:
        fprintf(to, "%llu..%llu%s%s, default %s", (unsigned long long)row->min,
                (unsigned long long)row->max, space_unit(row), row->unit, row->default_text);
        return;
    case OPTION_FLAG:
        fprintf(to, "0 or 1, default %s", row->default_text);
        return;
    case OPTION_TEXT:
        fprintf(to, "at most %llu bytes, default \"%s\"", (unsigned long long)row->max,
                row->default_text);
        return;
    case OPTION_COMMAND:
        return;
    }
    ENSURE_UNREACHABLE();
}

void option_print_help(const struct option_set *set, FILE *to)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct option_row *row = &set->rows[i];
        char flag[OPTION_NAME_SIZE_MAX + 16];
        int size = snprintf(flag, sizeof flag, "--%s%s", row->name, flag_argument(row));
        for (int j = 2; j < size; j++)
            if (flag[j] == '_')
                flag[j] = '-';
        fprintf(to, "  %-28s %s", flag, row->sentence);
        if (row->kind != OPTION_COMMAND) {
            fputs(" (", to);
            print_range(row, to);
            fputc(')', to);
        }
        fputc('\n', to);
    }
}

void option_dump(const struct option_set *set, FILE *to)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct option_row *row = &set->rows[i];
        const struct setting *setting = &set->settings[i];
        if (row->kind == OPTION_COMMAND)
            continue;
        fprintf(to, "# %s; ", row->sentence);
        print_range(row, to);
        const char *quote = "";
        if (row->kind == OPTION_TEXT)
            quote = strchr(setting->text, '"') == NULL ? "\"" : "'";
        fprintf(to, "\n%s = %s%s%s # %s\n", row->name, quote, setting->text, quote,
                origin_names[setting->origin]);
    }
}
