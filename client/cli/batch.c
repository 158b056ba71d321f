/* The command `atomic`: writes on keys of one hash tag, read from lines, done as one. */
#include <errno.h>
#include <stdlib.h>

#include "client/cli/command.h"
#include "proto/limits.h"

#define LINE_SIZE_MAX (2 * VALUE_SIZE_MAX)
#define FIELDS_MAX    8

static const struct verb {
    const char *name;
    enum duet_kind kind;
    int arguments_min, arguments_max;
} verbs[] = {
    {"put", DUET_PUT, 1, 1}, {"del", DUET_DEL, 0, 0},       {"incr", DUET_INCR, 0, 1},
    {"add", DUET_ADD, 1, 1}, {"append", DUET_APPEND, 1, 1}, {"check", DUET_CHECK, 0, 0},
};

/* The operations that were read; their bytes lie in buffers of their own. */
struct batch {
    struct duet_operation ops[ATOMIC_KEYS_MAX];
    struct buffer fields[ATOMIC_KEYS_MAX][FIELDS_MAX];
    size_t count;
    uint64_t line;
};

static bool wrong(const struct batch *b, const char *what)
{
    command_fail(DUET_USAGE, "line %llu: %s", (unsigned long long)b->line, what);
    return false;
}

/* Split a line at its tabs. -1: printed why not. */
static int split(struct batch *b, struct bytes line, struct buffer fields[FIELDS_MAX])
{
    int count = 0;
    for (size_t from = 0, i = 0; i <= line.size; i++) {
        if (i < line.size && line.data[i] != '\t')
            continue;
        if (count == FIELDS_MAX) {
            wrong(b, "too many fields");
            return -1;
        }
        if (text_unescape(bytes_of(line.data + from, i - from), &fields[count++]) != STATUS_OK) {
            wrong(b, "a backslash stands for itself as \\\\, a tab as \\t, a newline as \\n");
            return -1;
        }
        from = i + 1;
    }
    return count;
}

static bool begins(struct bytes text, const char *with, struct bytes *ret_rest)
{
    size_t size = strlen(with);
    if (text.size < size || memcmp(text.data, with, size) != 0)
        return false;
    *ret_rest = bytes_of(text.data + size, text.size - size);
    return true;
}

/* "E.S" */
static bool parse_version(struct bytes text, struct duet_version *ret)
{
    char copy[48] = "";
    unsigned long long epoch, seq;
    char end;
    if (text.size >= sizeof copy)
        return false;
    memcpy(copy, text.data, text.size);
    if (sscanf(copy, "%llu.%llu%c", &epoch, &seq, &end) != 2)
        return false;
    *ret = (struct duet_version){epoch, seq};
    return true;
}

/* False: it is no condition, or no good one. */
static bool parse_condition(struct bytes field, struct duet_condition *ret)
{
    struct bytes rest;
    if (bytes_equal(field, bytes_text("if-absent")))
        ret->when = DUET_IF_ABSENT;
    else if (bytes_equal(field, bytes_text("if-present")))
        ret->when = DUET_IF_PRESENT;
    else if (begins(field, "if-value=", &rest))
        *ret = (struct duet_condition){.when = DUET_IF_VALUE,
                                       .value = duet_bytes(rest.data, rest.size)};
    else if (begins(field, "if-version=", &rest) && parse_version(rest, &ret->version))
        ret->when = DUET_IF_VERSION;
    else
        return false;
    return true;
}

static bool parse_argument(struct duet_operation *op, const struct buffer *field)
{
    char copy[32] = "";
    op->value = command_slice(field);
    if (op->kind != DUET_INCR)
        return true;
    char *end;
    if (field->size == 0 || field->size >= sizeof copy)
        return false;
    memcpy(copy, field->data, field->size);
    errno = 0;
    op->delta = strtoll(copy, &end, 10);
    op->value = duet_bytes(NULL, 0);
    return errno == 0 && *end == 0;
}

static const struct verb *verb_of(struct bytes name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (bytes_equal(name, bytes_text(verbs[i].name)))
            return &verbs[i];
    return NULL;
}

/* False: printed why. */
static bool parse(struct batch *b, struct buffer *fields, int count)
{
    struct duet_operation *op = &b->ops[b->count];
    const struct verb *verb = verb_of(buffer_view(&fields[0]));
    if (verb == NULL)
        return wrong(b, "begins with none of put, del, incr, add, append, check");
    if (count < 2 || fields[1].size == 0)
        return wrong(b, "has no key; fields are parted by tabs");
    *op = (struct duet_operation){.kind = verb->kind, .key = command_slice(&fields[1]), .delta = 1};
    int at = 2, arguments = 0;
    for (; at < count && arguments < verb->arguments_max; at++, arguments++) {
        struct duet_condition ignored = {0};
        bool may_end = arguments >= verb->arguments_min;
        if (may_end && parse_condition(buffer_view(&fields[at]), &ignored))
            break;
        if (!parse_argument(op, &fields[at]))
            return wrong(b, "the delta is no number of 64 bits");
    }
    if (arguments < verb->arguments_min)
        return wrong(b, "has no value");
    if (at < count && !parse_condition(buffer_view(&fields[at++]), &op->condition))
        return wrong(b, "ends with none of if-absent, if-present, if-value=V, if-version=E.S");
    return at == count || wrong(b, "goes on behind its condition");
}

/* False: printed why. */
static bool take_line(struct batch *b, struct bytes line)
{
    b->line++;
    if (line.size > 0 && line.data[line.size - 1] == '\n')
        line.size--;
    if (line.size == 0)
        return true;
    if (b->count == ATOMIC_KEYS_MAX)
        return wrong(b, "an atomic batch has at most 255 operations");
    struct buffer *fields = b->fields[b->count];
    for (int i = 0; i < FIELDS_MAX; i++)
        buffer_init(&fields[i], VALUE_SIZE_MAX);
    b->count++; /* its buffers are to be freed in any case */
    int count = split(b, line, fields);
    if (count < 0)
        return false;
    b->count--;
    bool good = parse(b, fields, count);
    b->count++;
    return good;
}

static bool read_lines(struct batch *b, FILE *from)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    bool good = true;
    while (good && (size = getline(&line, &capacity, from)) > 0)
        good = (size_t)size <= LINE_SIZE_MAX ? take_line(b, bytes_of(line, (size_t)size))
                                             : wrong(b, "is too long");
    free(line);
    if (good && ferror(from)) {
        command_fail(DUET_IO, "cannot read: %s", strerror(errno));
        return false;
    }
    if (good && b->count == 0)
        return wrong(b, "there is nothing to do");
    return good;
}

static void print_json(const struct context *c, const struct batch *b,
                       struct duet_result *const *results, enum duet_code code)
{
    json_t *object = json_object(), *list = json_array();
    json_object_set_new(object, "outcome", json_string(duet_code_name(code)));
    for (size_t i = 0; i < b->count && results[i] != NULL; i++) {
        json_t *one = json_object();
        text_json_set(one, "key", command_bytes(b->ops[i].key));
        json_object_set_new(one, "outcome",
                            json_string(duet_code_name(duet_result_code(results[i]))));
        json_array_append_new(list, one);
    }
    json_object_set_new(object, "operations", list);
    command_print_json(c, object);
}

/* Which ones stood in the way. */
static void print_failures(const struct batch *b, struct duet_result *const *results)
{
    for (size_t i = 0; i < b->count && results[i] != NULL; i++) {
        enum duet_code code = duet_result_code(results[i]);
        if (code == DUET_OK || code == DUET_NOTFOUND)
            continue;
        fputs("duet:   ", stderr);
        text_print_escaped(command_bytes(b->ops[i].key), stderr);
        fprintf(stderr, ": %s\n", duet_code_text(code));
    }
}

static int run(struct context *c, const struct batch *b)
{
    struct duet_result *results[ATOMIC_KEYS_MAX] = {NULL};
    struct duet_error error = {0};
    int exit_code;
    if (command_client(c, &exit_code) == NULL)
        return exit_code;
    enum duet_code code = duet_atomic(c->client, b->ops, b->count, results, &error);
    exit_code = code == DUET_OK ? 0 : command_exit_code(code, error.flags);
    if (code != DUET_OK) {
        command_fail(code, (error.flags & DUET_IN_DOUBT) != 0 ? "%s" : "nothing was changed: %s",
                     error.message);
        print_failures(b, results);
    }
    if (command_json(c))
        print_json(c, b, results, code);
    else if (code == DUET_OK && !c->flags.quiet)
        printf("ok %zu\n", b->count);
    for (size_t i = 0; i < b->count; i++)
        duet_result_free(&results[i]);
    return exit_code;
}

int batch_atomic(struct context *c)
{
    const char *name = c->words_count > 0 ? c->words[0] : "-";
    bool from_stdin = strcmp(name, "-") == 0;
    if (from_stdin && !command_stdin(c))
        return 2;
    FILE *from = from_stdin ? stdin : fopen(name, "r");
    if (from == NULL)
        return command_fail(DUET_USAGE, "cannot open %s: %s", name, strerror(errno));
    struct batch *b = calloc(1, sizeof *b);
    int exit_code = b == NULL ? command_fail(DUET_NOMEMORY, "out of memory") : 2;
    if (b != NULL && read_lines(b, from))
        exit_code = run(c, b);
    for (size_t i = 0; b != NULL && i < b->count; i++)
        for (int j = 0; j < FIELDS_MAX; j++)
            buffer_fini(&b->fields[i][j]);
    free(b);
    if (!from_stdin)
        fclose(from);
    return exit_code;
}
