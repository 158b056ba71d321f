/* import and export: records as lines, in and out. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "client/cli/command.h"
#include "client/cli/progress.h"
#include "proto/limits.h"

enum line_format { LINE_TSV, LINE_JSONL };

#define COMPLAINTS_MAX 10     /* lines that are complained of one by one */
#define PLACES_MAX     4096   /* a power of two above what can be outstanding */
#define DRAIN_MAX_MS   600000 /* more than any operation's deadline */

static bool ends_with(const char *text, const char *end)
{
    size_t text_size = strlen(text), end_size = strlen(end);
    return text_size >= end_size && strcmp(text + text_size - end_size, end) == 0;
}

/* file may be NULL. 0, or the exit code. */
static int choose_format(const struct context *c, const char *file, enum line_format *ret)
{
    const char *name = c->flags.format;
    *ret = LINE_TSV;
    if (strcmp(name, "jsonl") == 0 || strcmp(name, "json") == 0)
        *ret = LINE_JSONL;
    else if (name[0] == 0 && file != NULL &&
             (ends_with(file, ".jsonl") || ends_with(file, ".json")))
        *ret = LINE_JSONL;
    else if (name[0] != 0 && strcmp(name, "tsv") != 0)
        return command_fail(DUET_USAGE, "--format: records are tsv or jsonl, not %s", name);
    return 0;
}

/* ---- Import ---- */

struct import;

/* Where an operation came from, for complaints. */
struct place {
    struct import *import;
    uint64_t line;
};

struct import {
    FILE *from;
    enum line_format format;
    struct progress progress;
    enum text_format key_format; /* of keys in tsv */
    struct buffer key, value;
    uint64_t line;
    struct place places[PLACES_MAX]; /* of the latest lines */

    /* Counted by callbacks, on the client's thread. */
    atomic_ullong stored, failed, in_doubt;
    atomic_int worst; /* exit code */
};

static void complain(struct import *im, uint64_t line, const char *what)
{
    unsigned long long earlier = atomic_load(&im->failed) + atomic_load(&im->in_doubt);
    if (earlier < COMPLAINTS_MAX)
        fprintf(stderr, "duet: line %llu: %s\n", (unsigned long long)line, what);
    else if (earlier == COMPLAINTS_MAX)
        fputs("duet: more lines failed; the sum comes at the end\n", stderr);
}

static void on_stored(const struct duet_result *result, void *user)
{
    struct place *place = user;
    struct import *im = place->import;
    enum duet_code code = duet_result_code(result);
    if (code == DUET_OK) {
        atomic_fetch_add(&im->stored, 1);
        return;
    }
    complain(im, place->line, duet_code_text(code));
    bool in_doubt = (duet_result_flags(result) & DUET_IN_DOUBT) != 0;
    atomic_fetch_add(in_doubt ? &im->in_doubt : &im->failed, 1);
    int own = command_exit_code(code, duet_result_flags(result));
    if (in_doubt || atomic_load(&im->worst) == 0)
        atomic_store(&im->worst, own);
}

static void reject(struct import *im, const char *what, int exit_code)
{
    complain(im, im->line, what);
    atomic_fetch_add(&im->failed, 1);
    if (atomic_load(&im->worst) == 0)
        atomic_store(&im->worst, exit_code);
}

/* NULL, or what is wrong with the line. */
static const char *parse_tsv(struct import *im, struct bytes line)
{
    const uint8_t *tab = line.size == 0 ? NULL : memchr(line.data, '\t', line.size);
    if (tab == NULL)
        return "no tab between key and value (--format tsv; the other one is jsonl)";
    struct bytes key = bytes_of(line.data, (size_t)(tab - line.data));
    struct bytes value = bytes_of(tab + 1, line.size - key.size - 1);
    enum status s = im->key_format == TEXT_RAW ? text_unescape(key, &im->key)
                                               : text_decode(im->key_format, key, &im->key);
    if (s == STATUS_USAGE && im->key_format != TEXT_RAW)
        return "the key is not in the format that --key-format says";
    if (s == STATUS_OK)
        s = text_unescape(value, &im->value);
    if (s == STATUS_USAGE)
        return "a backslash that is not part of \\t, \\n or \\\\";
    return s == STATUS_OK ? NULL : "key or value is too large";
}

static const char *parse_jsonl(struct import *im, struct bytes line)
{
    json_error_t error;
    json_t *object = json_loadb((const char *)line.data, line.size, JSON_ALLOW_NUL, &error);
    if (!json_is_object(object)) {
        json_decref(object);
        return "not a JSON object";
    }
    enum status s = text_json_get(object, "key", &im->key);
    if (s == STATUS_OK)
        s = text_json_get(object, "value", &im->value);
    json_decref(object);
    if (s == STATUS_NOTFOUND)
        return "\"key\" (or \"key64\") and \"value\" (or \"value64\") are needed";
    if (s == STATUS_USAGE)
        return "key and value must be strings; key64 and value64 base64";
    return s == STATUS_OK ? NULL : "key or value is too large";
}

static void import_line(struct context *c, struct import *im, struct bytes line)
{
    buffer_clear(&im->key);
    buffer_clear(&im->value);
    const char *wrong = im->format == LINE_TSV ? parse_tsv(im, line) : parse_jsonl(im, line);
    if (wrong != NULL) {
        reject(im, wrong, 2);
        return;
    }
    struct place *place = &im->places[im->line % PLACES_MAX];
    *place = (struct place){im, im->line};
    struct duet_operation op = {
        .kind = DUET_PUT, .key = command_slice(&im->key), .value = command_slice(&im->value)};
    struct duet_error error;
    if (duet_submit(c->client, &op, on_stored, place, &error) != DUET_OK)
        reject(im, error.message, command_exit_code(error.code, error.flags));
}

static int import_lines(struct context *c, struct import *im)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    while (!command_interrupted && (size = getline(&line, &capacity, im->from)) > 0) {
        im->line++;
        size_t kept = (size_t)size - (line[size - 1] == '\n' ? 1 : 0);
        if (kept > 0)
            import_line(c, im, bytes_of(line, kept));
        progress_add(&im->progress, (uint64_t)size);
    }
    free(line);
    if (command_interrupted)
        return command_fail(DUET_ABORTED, "stopped; lines up to %llu were sent",
                            (unsigned long long)im->line);
    if (ferror(im->from))
        return command_fail(DUET_IO, "cannot read: %s", strerror(errno));
    return 0;
}

/* For programs, on stdout; for people the progress has said it, unless something went wrong. */
static void report_import(const struct context *c, const struct import *im)
{
    if (command_json(c)) {
        json_t *object = json_object();
        json_object_set_new(object, "lines", json_integer((json_int_t)im->line));
        json_object_set_new(object, "acknowledged",
                            json_integer((json_int_t)atomic_load(&im->stored)));
        json_object_set_new(object, "failed", json_integer((json_int_t)atomic_load(&im->failed)));
        json_object_set_new(object, "in_doubt",
                            json_integer((json_int_t)atomic_load(&im->in_doubt)));
        command_print_json(c, object);
    }
    unsigned long long failed = atomic_load(&im->failed), doubt = atomic_load(&im->in_doubt);
    if (failed + doubt > 0)
        fprintf(stderr, "duet: %llu acknowledged, %llu failed, %llu in doubt\n",
                (unsigned long long)atomic_load(&im->stored), failed, doubt);
}

static int run_import(struct context *c, struct import *im)
{
    int exit_code = 0;
    if (command_client(c, &exit_code) == NULL)
        return exit_code;
    struct stat info;
    bool file = fstat(fileno(im->from), &info) == 0 && S_ISREG(info.st_mode);
    progress_begin(&im->progress, "imported", file ? (uint64_t)info.st_size : 0, c->flags.quiet);
    exit_code = import_lines(c, im);
    duet_drain(c->client, DRAIN_MAX_MS, NULL);
    im->progress.records = atomic_load(&im->stored);
    progress_end(&im->progress);
    report_import(c, im);
    return exit_code != 0 ? exit_code : atomic_load(&im->worst);
}

int transfer_import(struct context *c)
{
    const char *name = c->words_count > 0 ? c->words[0] : "-";
    if (strcmp(name, "-") == 0 && !command_stdin(c))
        return 2;
    struct import *im = calloc(1, sizeof *im);
    if (im == NULL)
        return command_fail(DUET_NOMEMORY, "out of memory");
    buffer_init(&im->key, 4 * KEY_SIZE_MAX);
    buffer_init(&im->value, VALUE_SIZE_MAX);
    int exit_code = choose_format(c, name, &im->format);
    im->key_format = c->key_format;
    if (exit_code == 0) {
        im->from = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
        exit_code = im->from != NULL
                        ? run_import(c, im)
                        : command_fail(DUET_USAGE, "cannot open '%s': %s", name, strerror(errno));
    }
    /* Before im goes, so do all callbacks into it. */
    command_disconnect(c);
    if (im->from != NULL && im->from != stdin)
        fclose(im->from);
    buffer_fini(&im->key);
    buffer_fini(&im->value);
    free(im);
    return exit_code;
}

/* ---- Export ---- */

static void print_record(const struct context *c, enum line_format format, struct bytes key,
                         struct bytes value)
{
    if (format == LINE_JSONL) {
        json_t *object = json_object();
        text_json_set(object, "key", key);
        text_json_set(object, "value", value);
        text_json_print(object, true, stdout);
        return;
    }
    if (c->key_format == TEXT_RAW)
        text_print_escaped(key, stdout);
    else
        text_print(c->key_format, key, stdout);
    putchar('\t');
    text_print_escaped(value, stdout);
    putchar('\n');
}

static int run_export(struct context *c, enum line_format format, struct duet_scan *scan)
{
    struct progress progress;
    struct duet_error error;
    struct duet_slice key, value;
    enum duet_code code;
    progress_begin(&progress, "exported", 0, c->flags.quiet);
    while ((code = duet_scan_next(scan, &key, &value, NULL, &error)) == DUET_OK) {
        print_record(c, format, command_bytes(key), command_bytes(value));
        progress_add(&progress, key.size + value.size);
        if (command_interrupted)
            return command_fail(DUET_ABORTED, "stopped; the export is incomplete");
        if (ferror(stdout))
            return errno == EPIPE ? 0 : command_fail(DUET_IO, "cannot write: %s", strerror(errno));
    }
    progress_end(&progress);
    if (code == DUET_NOTFOUND)
        return 0;
    command_fail(code, "the export is incomplete: %s", error.message);
    return command_exit_code(code, error.flags);
}

int transfer_export(struct context *c)
{
    enum line_format format;
    int exit_code = choose_format(c, NULL, &format);
    if (c->output == OUTPUT_JSONL)
        format = LINE_JSONL;
    if (exit_code != 0 || command_client(c, &exit_code) == NULL)
        return exit_code;
    struct duet_error error;
    struct duet_scan *scan = duet_scan_open(c->client, false, &error);
    if (scan == NULL)
        return command_fail(error.code, "%s", error.message);
    exit_code = run_export(c, format, scan);
    duet_scan_close(&scan);
    return exit_code;
}
