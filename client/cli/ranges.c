/* Commands on the keys of one hash tag, or on all: scan, count, clear. */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "client/cli/progress.h"
#include "proto/limits.h"

/* What the words and flags say. */
struct selection {
    struct buffer tag, prefix, from, to;
    struct duet_range range; /* views */
    bool whole;              /* no tag was given: the whole store */
};

static void selection_init(struct selection *s)
{
    *s = (struct selection){0};
    buffer_init(&s->tag, 4 * KEY_SIZE_MAX);
    buffer_init(&s->prefix, 4 * KEY_SIZE_MAX);
    buffer_init(&s->from, 4 * KEY_SIZE_MAX);
    buffer_init(&s->to, 4 * KEY_SIZE_MAX);
}

static int selection_end(struct selection *s, int exit_code)
{
    buffer_fini(&s->tag);
    buffer_fini(&s->prefix);
    buffer_fini(&s->from);
    buffer_fini(&s->to);
    return exit_code;
}

static bool take_bound(const struct context *c, const char *word, struct buffer *to,
                       struct duet_slice *ret)
{
    if (word == NULL)
        return true;
    if (!command_key(c, word, to))
        return false;
    *ret = command_slice(to);
    return true;
}

/* False: printed why. */
static bool select_keys(struct context *c, struct selection *s, bool keys_only)
{
    const struct flags *f = &c->flags;
    bool bounds = f->prefix != NULL || f->from != NULL || f->to != NULL;
    s->whole = c->words_count == 0;
    s->range.keys_only = keys_only;
    if (s->whole && bounds) {
        command_fail(DUET_USAGE, "--prefix, --from and --to are for the keys of one hash tag; name a "
                                 "key that has it, {user7} for example");
        return false;
    }
    return (s->whole || take_bound(c, c->words[0], &s->tag, &s->range.tag)) &&
           take_bound(c, f->prefix, &s->prefix, &s->range.prefix) &&
           take_bound(c, f->from, &s->from, &s->range.from) &&
           take_bound(c, f->to, &s->to, &s->range.to);
}

/* NULL: printed why; *ret_exit says how to end. */
static struct duet_scan *open_scan(struct context *c, const struct selection *s, int *ret_exit)
{
    struct duet_error error;
    if (command_client(c, ret_exit) == NULL)
        return NULL;
    struct duet_scan *scan = s->whole
                                 ? duet_scan_open(c->client, s->range.keys_only, &error)
                                 : duet_range_open(c->client, &s->range, &error);
    if (scan == NULL)
        *ret_exit = command_fail(error.code, "%s", error.message);
    return scan;
}

/* ---- scan ---- */

static void print_row(const struct context *c, struct bytes key, struct bytes value)
{
    if (command_json(c)) {
        json_t *object = json_object();
        text_json_set(object, "key", key);
        if (!c->flags.keys_only)
            text_json_set(object, "value", value);
        text_json_print(object, true, stdout);
        return;
    }
    text_print_escaped(key, stdout);
    if (!c->flags.keys_only) {
        putchar('\t');
        text_print_escaped(value, stdout);
    }
    putchar('\n');
}

static int run_scan(struct context *c, struct duet_scan *scan)
{
    struct duet_slice key, value;
    struct duet_error error;
    enum duet_code code = DUET_OK;
    for (uint64_t i = 0; c->flags.limit == 0 || i < c->flags.limit; i++) {
        code = duet_scan_next(scan, &key, &value, NULL, &error);
        if (code != DUET_OK)
            break;
        print_row(c, command_bytes(key), command_bytes(value));
        if (ferror(stdout))
            return errno == EPIPE ? 0 : command_fail(DUET_IO, "cannot write: %s", strerror(errno));
    }
    if (code == DUET_OK || code == DUET_NOTFOUND)
        return 0;
    command_fail(code, "the scan is incomplete: %s", error.message);
    return command_exit_code(code, error.flags);
}

int ranges_scan(struct context *c)
{
    struct selection s;
    int exit_code = 2;
    selection_init(&s);
    struct duet_scan *scan =
        select_keys(c, &s, c->flags.keys_only) ? open_scan(c, &s, &exit_code) : NULL;
    if (scan != NULL)
        exit_code = run_scan(c, scan);
    duet_scan_close(&scan);
    return selection_end(&s, exit_code);
}

/* ---- count and clear ---- */

typedef enum duet_code step_fn(struct duet_scan *scan, uint64_t *sum, struct duet_error *reterr);

static int print_sum(struct context *c, const char *name, uint64_t sum)
{
    if (command_json(c)) {
        json_t *object = json_object();
        json_object_set_new(object, name, json_integer((json_int_t)sum));
        command_print_json(c, object);
    } else {
        printf("%" PRIu64 "\n", sum);
    }
    return 0;
}

/* Step by step to the end. What was done before an error is told, too. */
static int run_steps(struct context *c, struct duet_scan *scan, const char *name, step_fn *step)
{
    struct progress progress;
    struct duet_error error;
    enum duet_code code = DUET_OK;
    uint64_t sum = 0;
    progress_begin(&progress, name, 0, c->flags.quiet || isatty(STDERR_FILENO) == 0);
    while (code == DUET_OK) {
        code = step(scan, &sum, &error);
        progress_part(&progress, sum, duet_scan_progress(scan));
    }
    progress_end(&progress);
    if (code == DUET_NOTFOUND)
        return print_sum(c, name, sum);
    command_fail(code, "%s %" PRIu64 " keys, then: %s", name, sum, error.message);
    return command_exit_code(code, error.flags);
}

static int run_over(struct context *c, struct selection *s, const char *name, step_fn *step)
{
    int exit_code = 2;
    struct duet_scan *scan = open_scan(c, s, &exit_code);
    if (scan != NULL)
        exit_code = run_steps(c, scan, name, step);
    duet_scan_close(&scan);
    return exit_code;
}

int ranges_count(struct context *c)
{
    struct selection s;
    int exit_code = 2;
    selection_init(&s);
    if (select_keys(c, &s, true))
        exit_code = run_over(c, &s, "counted", duet_scan_count);
    return selection_end(&s, exit_code);
}

int ranges_clear(struct context *c)
{
    struct selection s;
    int exit_code = 2;
    selection_init(&s);
    if (!select_keys(c, &s, true))
        return selection_end(&s, exit_code);
    if (c->flags.yes)
        exit_code = run_over(c, &s, "deleted", duet_scan_clear);
    else
        exit_code = command_fail(DUET_USAGE, "this deletes %s; say --yes if you mean it",
                                 s.whole ? "every key of the store" : "these keys");
    return selection_end(&s, exit_code);
}
