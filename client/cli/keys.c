/* Commands on single keys, and on a few. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "proto/limits.h"

/* What a command on one key holds while it runs. */
struct work {
    struct buffer key, value, other;
    struct duet_result *result;
    struct duet_error error;
};

static void work_init(struct work *w)
{
    *w = (struct work){0};
    buffer_init(&w->key, 4 * KEY_SIZE_MAX);
    buffer_init(&w->value, VALUE_SIZE_MAX);
    buffer_init(&w->other, VALUE_SIZE_MAX);
}

static int work_end(struct work *w, int exit_code)
{
    buffer_fini(&w->key);
    buffer_fini(&w->value);
    buffer_fini(&w->other);
    duet_result_free(&w->result);
    return exit_code;
}

static json_t *json_key(struct bytes key)
{
    json_t *object = json_object();
    text_json_set(object, "key", key);
    return object;
}

static void json_version(json_t *object, struct duet_version v)
{
    char text[48];
    if (v.epoch != 0 || v.seq != 0)
        json_object_set_new(object, "version", json_string(command_version(v, text)));
}

/* Where a read was not the usual one, its answer says so. */
static const char *read_word(const struct duet_result *result)
{
    switch (duet_result_read(result)) {
    case DUET_READ_ANY:
        return "any";
    case DUET_READ_CONFIRM:
        return "confirm";
    case DUET_READ_DEFAULT:
    case DUET_READ_LINEARIZABLE:
        break;
    }
    return "";
}

static void json_read(json_t *object, const struct duet_result *result)
{
    if (read_word(result)[0] != 0)
        json_object_set_new(object, "read", json_string(read_word(result)));
}

static void print_key(const struct context *c, struct bytes key)
{
    if (c->key_format == TEXT_RAW)
        text_print_escaped(key, stdout);
    else
        text_print(c->key_format, key, stdout);
}

#define KEY_WIDTH_MAX 40 /* of a table's column; a longer key pushes its value to the right */

/* Columns that print_key() takes, at most KEY_WIDTH_MAX. */
static int key_width(const struct context *c, struct bytes key)
{
    size_t size = c->key_format == TEXT_RAW   ? text_escaped_size(key)
                  : c->key_format == TEXT_HEX ? 2 * key.size
                                              : (key.size + 2) / 3 * 4;
    return size < KEY_WIDTH_MAX ? (int)size : KEY_WIDTH_MAX;
}

/* Begin a table of these keys; returns how wide their column is. */
static int print_head(const struct context *c, const struct buffer *keys, size_t count)
{
    int width = (int)sizeof "KEY" - 1;
    for (size_t i = 0; i < count; i++)
        if (key_width(c, buffer_view(&keys[i])) > width)
            width = key_width(c, buffer_view(&keys[i]));
    printf("%-12s %-*s  VALUE\n", "VERSION", width, "KEY");
    return width;
}

static void print_row(const struct context *c, struct bytes key, const struct duet_result *result,
                      int width)
{
    char version[48], text[64];
    snprintf(text, sizeof text, "%s %s", command_version(duet_result_version(result), version),
             read_word(result));
    printf("%-12s ", text);
    print_key(c, key);
    printf("%*s  ", width > key_width(c, key) ? width - key_width(c, key) : 0, "");
    text_print_escaped(command_bytes(duet_result_value(result)), stdout);
    putchar('\n');
}

static void print_value(const struct context *c, struct bytes value)
{
    text_print(c->output == OUTPUT_HEX ? TEXT_HEX : TEXT_RAW, value, stdout);
    if (c->output == OUTPUT_HEX || c->output == OUTPUT_TABLE ||
        (c->output == OUTPUT_AUTO && isatty(STDOUT_FILENO)))
        putchar('\n');
}

/* Behind a number: it is a line, unless exact bytes are wanted. */
static const char *line_end(const struct context *c)
{
    return c->output == OUTPUT_RAW ? "" : "\n";
}

#define SHOWN_MAX 60 /* bytes of a value in a message */

static bool printable(struct bytes value)
{
    for (size_t i = 0; i < value.size; i++)
        if (value.data[i] < ' ' || value.data[i] > '~')
            return false;
    return value.size <= SHOWN_MAX;
}

/* Why a condition does not hold: what stands there, or how to see it. (The version in such an
 * answer is that of the attempt, not of the key.) */
static void report_condition(const struct context *c, const struct work *w)
{
    struct bytes value = {0};
    if (w->result != NULL && duet_result_has_value(w->result))
        value = command_bytes(duet_result_value(w->result));
    if (c->flags.if_version[0] != 0)
        command_fail(DUET_CONDITION, "%s; `duet get -o table` shows the key's version",
                     w->error.message);
    else if ((c->command->groups & FLAG_EXPIRY_CONDITION) != 0)
        command_fail(DUET_CONDITION, "%s; `duet ttl` shows the key's expiry", w->error.message);
    else if (value.data == NULL)
        command_fail(DUET_CONDITION, "%s; there is no such key", w->error.message);
    else if (printable(value))
        command_fail(DUET_CONDITION, "%s; the value is '%.*s'", w->error.message, (int)value.size,
                     (const char *)value.data);
    else
        command_fail(DUET_CONDITION, "%s; the value has %zu bytes", w->error.message, value.size);
}

/* What to do about an outcome: the first row that fits. */
static const char *advice(const struct context *c, enum duet_code code)
{
    static const struct {
        const char *command; /* NULL: any */
        enum duet_code code;
        const char *words;
    } rows[] = {
        {"incr", DUET_NOTNUMBER,
         "incr adds to 64-bit integers, `duet add` to decimal numbers, and `duet get` shows what "
         "is there"},
        {"incr", DUET_OVERFLOW, "nothing changed; `duet add` has room for 34 digits"},
        {NULL, DUET_NOTNUMBER, "`duet get` shows what is there"},
        {"add", DUET_OVERFLOW, "nothing changed; there is room for 34 digits"},
        {NULL, DUET_OVERFLOW, "nothing changed; the nodes' option value_size_max is the limit"},
        {NULL, DUET_TIMEOUT, "`duet status` tells what does not answer, --timeout MS waits longer"},
        {NULL, DUET_BUSY, "nothing changed; try again, with less at once"},
        {NULL, DUET_FULL, "nothing changed; `duet status` tells whose disk it is"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].code == code &&
            (rows[i].command == NULL || strcmp(rows[i].command, c->command->name) == 0))
            return rows[i].words;
    return NULL;
}

/* One line: what happened, to which key, what to do. */
static void report_words(const struct context *c, const struct work *w)
{
    const char *todo = advice(c, w->error.code);
    struct bytes key = buffer_view(&w->key);
    if (w->error.code == DUET_CONDITION)
        report_condition(c, w);
    else if (w->error.code == DUET_NOTFOUND && printable(key))
        command_fail(w->error.code, "%s: '%.*s'", w->error.message, (int)key.size,
                     (const char *)key.data);
    else
        command_fail(w->error.code, "%s%s%s", w->error.message, todo != NULL ? "; " : "",
                     todo != NULL ? todo : "");
}

/* The outcome of a failed operation, for people on stderr and for programs on stdout. */
static int report_failure(const struct context *c, const struct work *w)
{
    enum duet_code code = w->error.code;
    if (command_json(c)) {
        json_t *object = json_key(buffer_view(&w->key));
        json_object_set_new(object, "error", json_string(duet_code_name(code)));
        json_object_set_new(object, "message", json_string(w->error.message));
        json_object_set_new(object, "in_doubt",
                            json_boolean((w->error.flags & DUET_IN_DOUBT) != 0));
        if (w->result != NULL && duet_result_has_value(w->result))
            text_json_set(object, "value", command_bytes(duet_result_value(w->result)));
        if (w->result != NULL)
            json_read(object, w->result);
        command_print_json(c, object);
    } else {
        report_words(c, w);
    }
    return command_exit_code(code, w->error.flags);
}

static int report_write(const struct context *c, const struct work *w)
{
    if (w->error.code != DUET_OK || w->result == NULL)
        return report_failure(c, w);
    char text[48];
    struct duet_version v = duet_result_version(w->result);
    if (command_json(c)) {
        json_t *object = json_key(buffer_view(&w->key));
        json_version(object, v);
        json_object_set_new(object, "copies", json_integer(duet_result_copies(w->result)));
        command_print_json(c, object);
    } else if (!c->flags.quiet && c->output != OUTPUT_RAW) {
        printf("ok %s\n", command_version(v, text));
    }
    return 0;
}

int keys_get(struct context *c)
{
    struct work w;
    work_init(&w);
    int exit_code = 2;
    if (!command_key(c, c->words[0], &w.key) || command_client(c, &exit_code) == NULL)
        return work_end(&w, exit_code);
    if (duet_get(c->client, command_slice(&w.key), &w.result, &w.error) != DUET_OK)
        return work_end(&w, report_failure(c, &w));
    struct bytes value = command_bytes(duet_result_value(w.result));
    if (command_json(c)) {
        json_t *object = json_key(buffer_view(&w.key));
        text_json_set(object, "value", value);
        json_version(object, duet_result_version(w.result));
        json_read(object, w.result);
        command_print_json(c, object);
    } else if (c->output == OUTPUT_TABLE) {
        print_row(c, buffer_view(&w.key), w.result, print_head(c, &w.key, 1));
    } else {
        print_value(c, value);
    }
    return work_end(&w, 0);
}

/* "E.S" */
static bool parse_version(const char *text, struct duet_version *ret)
{
    char *end;
    errno = 0;
    ret->epoch = strtoull(text, &end, 10);
    if (end == text || *end != '.')
        return false;
    const char *seq = end + 1;
    ret->seq = strtoull(seq, &end, 10);
    return end != seq && *end == 0 && errno == 0 && strchr(text, '-') == NULL;
}

/* 0, or the exit code. */
static int condition(const struct context *c, struct duet_condition *ret)
{
    const struct flags *f = &c->flags;
    *ret = (struct duet_condition){DUET_ALWAYS, {0, 0}, {NULL, 0}};
    int given = f->if_absent + f->if_present + (f->if_version[0] != 0) + (f->if_value != NULL) +
                f->if_no_expiry + f->if_expiry + f->if_later + f->if_earlier;
    if (given > 1)
        return command_fail(DUET_USAGE, "give one condition (--if-...), not %d", given);
    if (f->if_absent)
        ret->when = DUET_IF_ABSENT;
    if (f->if_present)
        ret->when = DUET_IF_PRESENT;
    if (f->if_no_expiry)
        ret->when = DUET_IF_NO_EXPIRY;
    if (f->if_expiry)
        ret->when = DUET_IF_EXPIRY;
    if (f->if_later)
        ret->when = DUET_IF_LATER;
    if (f->if_earlier)
        ret->when = DUET_IF_EARLIER;
    if (f->if_value != NULL)
        *ret = (struct duet_condition){DUET_IF_VALUE, {0, 0}, duet_text(f->if_value)};
    if (f->if_version[0] == 0)
        return 0;
    ret->when = DUET_IF_VERSION;
    if (parse_version(f->if_version, &ret->version))
        return 0;
    return command_fail(
        DUET_USAGE,
        "--if-version: '%s' is not a version; one looks like 4.17, and get -o table shows it",
        f->if_version);
}

int keys_del(struct context *c)
{
    struct work w;
    struct duet_condition when;
    work_init(&w);
    int exit_code = condition(c, &when);
    if (exit_code != 0)
        return work_end(&w, exit_code);
    exit_code = 2;
    if (!command_key(c, c->words[0], &w.key) || command_client(c, &exit_code) == NULL)
        return work_end(&w, exit_code);
    w.error.code = duet_del(c->client, command_slice(&w.key), &when, &w.result, &w.error);
    return work_end(&w, report_write(c, &w));
}

static bool parse_delta(const char *text, int64_t *ret)
{
    char *end;
    errno = 0;
    *ret = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == 0;
}

int keys_incr(struct context *c)
{
    struct work w;
    int64_t delta = 1, sum = 0;
    if (c->words_count > 1 && !parse_delta(c->words[1], &delta))
        return command_fail(DUET_USAGE,
                            "DELTA '%s' is not a 64-bit integer; `duet add` takes decimal numbers",
                            c->words[1]);
    work_init(&w);
    int exit_code = 2;
    if (!command_key(c, c->words[0], &w.key) || command_client(c, &exit_code) == NULL)
        return work_end(&w, exit_code);
    enum duet_code code =
        duet_incr(c->client, command_slice(&w.key), delta, &sum, &w.result, &w.error);
    if (code != DUET_OK || w.result == NULL)
        return work_end(&w, report_failure(c, &w));
    if (command_json(c)) {
        json_t *object = json_key(buffer_view(&w.key));
        json_object_set_new(object, "value", json_integer(sum));
        json_version(object, duet_result_version(w.result));
        command_print_json(c, object);
    } else {
        printf("%lld%s", (long long)sum, line_end(c));
    }
    return work_end(&w, 0);
}

int keys_cas(struct context *c)
{
    struct work w;
    work_init(&w);
    int exit_code = 2;
    if (!command_key(c, c->words[0], &w.key) || !command_value(c, c->words[1], &w.other) ||
        !command_value(c, c->words[2], &w.value) || command_client(c, &exit_code) == NULL)
        return work_end(&w, exit_code);
    w.error.code = duet_cas(c->client, command_slice(&w.key), command_slice(&w.other),
                            command_slice(&w.value), &w.result, &w.error);
    return work_end(&w, report_write(c, &w));
}

/* ---- Writes, in general ---- */

/* The value that came back, or nothing; with a version as JSON. */
static int report_value(const struct context *c, const struct work *w)
{
    if (w->error.code != DUET_OK || w->result == NULL)
        return report_failure(c, w);
    if (command_json(c)) {
        json_t *object = json_key(buffer_view(&w->key));
        if (duet_result_has_value(w->result))
            text_json_set(object, "value", command_bytes(duet_result_value(w->result)));
        json_version(object, duet_result_version(w->result));
        command_print_json(c, object);
    } else if (duet_result_has_value(w->result)) {
        print_value(c, command_bytes(duet_result_value(w->result)));
    }
    return 0;
}

/* The same of a value that is a number. */
static int report_number(const struct context *c, const struct work *w)
{
    if (w->error.code != DUET_OK || w->result == NULL || command_json(c))
        return report_value(c, w);
    text_print(TEXT_RAW, command_bytes(duet_result_value(w->result)), stdout);
    fputs(line_end(c), stdout);
    return 0;
}

typedef int report_fn(const struct context *c, const struct work *w);

/* One write with the conditions of the flags: op's kind, want and offset are given; the value is
 * the word at value_word (0: none). */
static int run_write(struct context *c, struct duet_operation *op, int value_word,
                     report_fn *report)
{
    struct work w;
    work_init(&w);
    int exit_code = condition(c, &op->condition);
    if (exit_code != 0)
        return work_end(&w, exit_code);
    exit_code = 2;
    if (!command_key(c, c->words[0], &w.key) ||
        (value_word > 0 && !command_value(c, c->words[value_word], &w.value)) ||
        command_client(c, &exit_code) == NULL)
        return work_end(&w, exit_code);
    op->key = command_slice(&w.key);
    op->value = command_slice(&w.value);
    if (op->condition.when != DUET_ALWAYS && op->want == DUET_WANT_NOTHING)
        op->want = DUET_WANT_OLD; /* to show what stood in the way */
    w.error.code = duet_execute(c->client, op, &w.result, &w.error);
    return work_end(&w, report(c, &w));
}

/* 500ms, 10s, 5m, 2h, 7d; a number alone is seconds. */
static bool parse_time(const char *text, uint64_t *ret_ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || text[0] == '-' || number == 0)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(end, units[i].unit) == 0)
            return !__builtin_mul_overflow(number, units[i].ms, ret_ms);
    return false;
}

static int time_or_fail(const char *name, const char *text, uint64_t *ret_ms)
{
    if (parse_time(text, ret_ms))
        return 0;
    return command_fail(DUET_USAGE,
                        "%s: '%s' is not a time; one is more than 0 and looks like 500ms, 10s, 5m, "
                        "2h or 7d",
                        name, text);
}

int keys_put(struct context *c)
{
    struct duet_operation op = {.kind = DUET_PUT};
    const struct flags *f = &c->flags;
    if ((f->ttl != NULL) + (f->expire_at != 0) + f->keep_ttl > 1)
        return command_fail(DUET_USAGE, "give one of --ttl, --expire-at and --keep-ttl");
    int exit_code = f->ttl == NULL ? 0 : time_or_fail("--ttl", f->ttl, &op.ttl_ms);
    if (exit_code != 0)
        return exit_code;
    op.expiry_ms = f->expire_at;
    op.keep_expiry = f->keep_ttl;
    return run_write(c, &op, 1, report_write);
}

int keys_expire(struct context *c)
{
    struct duet_operation op = {.kind = DUET_EXPIRE};
    int exit_code = time_or_fail("TIME", c->words[1], &op.ttl_ms);
    return exit_code != 0 ? exit_code : run_write(c, &op, 0, report_write);
}

int keys_persist(struct context *c)
{
    struct duet_operation op = {.kind = DUET_EXPIRE};
    return run_write(c, &op, 0, report_write);
}

int keys_ttl(struct context *c)
{
    struct work w;
    struct duet_expiry expiry;
    work_init(&w);
    int exit_code = 2;
    if (!command_key(c, c->words[0], &w.key) || command_client(c, &exit_code) == NULL)
        return work_end(&w, exit_code);
    struct duet_operation op = {.kind = DUET_GET_EXPIRY, .key = command_slice(&w.key)};
    if (duet_execute(c->client, &op, &w.result, &w.error) != DUET_OK ||
        !duet_result_expiry(w.result, &expiry))
        return work_end(&w, report_failure(c, &w));
    if (command_json(c)) {
        json_t *object = json_key(buffer_view(&w.key));
        bool has = expiry.expiry_ms != 0;
        json_object_set_new(object, "expiry_ms",
                            has ? json_integer((json_int_t)expiry.expiry_ms) : json_null());
        json_object_set_new(object, "left_ms",
                            has ? json_integer((json_int_t)expiry.left_ms) : json_null());
        json_read(object, w.result);
        command_print_json(c, object);
    } else if (expiry.expiry_ms == 0) {
        printf("none%s", line_end(c));
    } else {
        printf("%llu%s", (unsigned long long)expiry.left_ms, line_end(c));
    }
    return work_end(&w, 0);
}

/* [-]digits[.digits] */
static bool is_decimal(const char *text)
{
    const char *at = text + (text[0] == '-');
    size_t whole = strspn(at, "0123456789");
    at += whole;
    size_t part = *at == '.' ? strspn(at + 1, "0123456789") : 1;
    at += *at == '.' ? part + 1 : 0;
    return whole > 0 && part > 0 && *at == 0;
}

int keys_add(struct context *c)
{
    if (!is_decimal(c->words[1]))
        return command_fail(
            DUET_USAGE, "NUMBER '%s' is not a decimal number; one looks like -12.50", c->words[1]);
    struct duet_operation op = {.kind = DUET_ADD, .want = DUET_WANT_NEW};
    return run_write(c, &op, 1, report_number);
}

int keys_append(struct context *c)
{
    struct duet_operation op = {.kind = DUET_APPEND};
    return run_write(c, &op, 1, report_write);
}

int keys_setrange(struct context *c)
{
    char *end;
    errno = 0;
    struct duet_operation op = {.kind = DUET_SET_RANGE};
    op.offset = strtoull(c->words[1], &end, 10);
    if (errno != 0 || end == c->words[1] || *end != 0 || c->words[1][0] == '-')
        return command_fail(DUET_USAGE, "OFFSET '%s' is not a number of bytes; the first one is 0",
                            c->words[1]);
    return run_write(c, &op, 2, report_write);
}

int keys_getset(struct context *c)
{
    struct duet_operation op = {.kind = DUET_PUT, .want = DUET_WANT_OLD};
    return run_write(c, &op, 1, report_value);
}

int keys_getdel(struct context *c)
{
    struct duet_operation op = {.kind = DUET_DEL, .want = DUET_WANT_OLD};
    return run_write(c, &op, 0, report_value);
}

/* ---- Many ---- */

/* Words as bytes, all in one buffer, and the results. */
struct many {
    size_t count;
    struct buffer *keys; /* count of them */
    struct duet_result **results;
    struct duet_error error;
};

static bool many_init(struct many *m, const struct context *c, size_t count, size_t stride)
{
    *m = (struct many){.count = count};
    m->keys = calloc(count, sizeof *m->keys);
    m->results = calloc(count, sizeof(struct duet_result *));
    if (m->keys == NULL || m->results == NULL) {
        command_fail(DUET_NOMEMORY, "out of memory");
        return false;
    }
    for (size_t i = 0; i < count; i++)
        buffer_init(&m->keys[i], 4 * KEY_SIZE_MAX);
    for (size_t i = 0; i < count; i++)
        if (!command_key(c, c->words[i * stride], &m->keys[i]))
            return false;
    return true;
}

static int many_end(struct many *m, int exit_code)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->keys != NULL)
            buffer_fini(&m->keys[i]);
        if (m->results != NULL)
            duet_result_free(&m->results[i]);
    }
    free(m->keys);
    free(m->results);
    return exit_code;
}

static enum duet_code code_of(const struct duet_result *result)
{
    return result == NULL ? DUET_NOMEMORY : duet_result_code(result);
}

static uint32_t flags_of(const struct duet_result *result)
{
    return result == NULL ? 0 : duet_result_flags(result);
}

static json_t *json_one(const struct many *m, size_t i)
{
    const struct duet_result *result = m->results[i];
    enum duet_code code = code_of(result);
    json_t *object = json_key(buffer_view(&m->keys[i]));
    if (code == DUET_OK && duet_result_has_value(result))
        text_json_set(object, "value", command_bytes(duet_result_value(result)));
    if (code != DUET_OK)
        json_object_set_new(object, "error", json_string(duet_code_name(code)));
    else
        json_version(object, duet_result_version(result));
    if (result != NULL)
        json_read(object, result);
    return object;
}

/* width: of the column of keys, when there is one. */
static void print_one_value(const struct context *c, const struct many *m, size_t i, int width)
{
    struct bytes value = command_bytes(duet_result_value(m->results[i]));
    if (c->output == OUTPUT_TABLE) {
        print_row(c, buffer_view(&m->keys[i]), m->results[i], width);
        return;
    }
    if (c->output == OUTPUT_RAW || c->output == OUTPUT_HEX) {
        text_print(c->output == OUTPUT_HEX ? TEXT_HEX : TEXT_RAW, value, stdout);
    } else {
        print_key(c, buffer_view(&m->keys[i]));
        putchar('\t');
        text_print_escaped(value, stdout);
    }
    putchar('\n');
}

/* Failures go to stderr one by one; the first that is worse than "not found" decides the exit. */
static int report_many(const struct context *c, const struct many *m, bool values)
{
    int exit_code = 0;
    json_t *list = json_array();
    int width = values && c->output == OUTPUT_TABLE ? print_head(c, m->keys, m->count) : 0;
    for (size_t i = 0; i < m->count; i++) {
        enum duet_code code = code_of(m->results[i]);
        int own = command_exit_code(code, flags_of(m->results[i]));
        if (own != 0 && exit_code <= 1)
            exit_code = own;
        if (command_json(c))
            json_array_append_new(list, json_one(m, i));
        else if (code != DUET_OK)
            command_fail(code, "%.*s: %s", (int)m->keys[i].size, (char *)m->keys[i].data,
                         duet_code_text(code));
        else if (values)
            print_one_value(c, m, i, width);
    }
    if (command_json(c))
        command_print_json_list(c, list);
    else
        json_decref(list);
    return exit_code;
}

int keys_mget(struct context *c)
{
    struct many m = {0};
    int exit_code = 2;
    size_t count = (size_t)c->words_count;
    struct duet_slice *keys = calloc(count, sizeof *keys);
    if (keys != NULL && many_init(&m, c, count, 1) && command_client(c, &exit_code) != NULL) {
        for (size_t i = 0; i < count; i++)
            keys[i] = command_slice(&m.keys[i]);
        duet_mget(c->client, keys, count, m.results, &m.error);
        exit_code = report_many(c, &m, true);
    }
    free(keys);
    return many_end(&m, exit_code);
}

int keys_mput(struct context *c)
{
    struct many m = {0};
    int exit_code = 2;
    if (c->words_count % 2 != 0)
        return command_fail(DUET_USAGE, "the last key has no value; write: duet mput %s",
                            c->command->words);
    size_t count = (size_t)c->words_count / 2;
    struct duet_pair *pairs = calloc(count, sizeof *pairs);
    if (pairs != NULL && many_init(&m, c, count, 2) && command_client(c, &exit_code) != NULL) {
        for (size_t i = 0; i < count; i++)
            pairs[i] =
                (struct duet_pair){command_slice(&m.keys[i]), duet_text(c->words[2 * i + 1])};
        duet_mput(c->client, pairs, count, m.results, &m.error);
        exit_code = report_many(c, &m, false);
        if (exit_code == 0 && !c->flags.quiet && !command_json(c))
            printf("ok %zu\n", count);
    }
    free(pairs);
    return many_end(&m, exit_code);
}
