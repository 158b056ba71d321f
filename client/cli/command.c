#include "client/cli/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/limits.h"

#define CONNECT_WAIT_MS 2000 /* a router that listens answers within this time */

#define VALUE_HELP                                                                                 \
    "VALUE is taken as it is; - reads it from stdin, to the last byte.\n"                          \
    "A key has 1 to 480 bytes, a value up to 1 MiB unless the nodes allow more.\n"

const struct command commands[COMMANDS_COUNT] = {
    {"get", "KEY", "print the value of a key", 1, 1, 0, keys_get,
     "On a terminal a newline follows the value; elsewhere, and with -o raw, nothing does.\n"},
    {"put", "KEY VALUE", "store a value", 2, 2, FLAG_CONDITION | FLAG_EXPIRY, keys_put, VALUE_HELP},
    {"del", "KEY", "delete a key", 1, 1, FLAG_CONDITION, keys_del, ""},
    {"incr", "KEY [DELTA]", "add to a number (default 1), print the sum", 1, 2, 0, keys_incr,
     "The value is a decimal 64-bit integer; a key that does not exist counts as 0.\n"},
    {"cas", "KEY EXPECTED NEW", "store NEW if the value is EXPECTED", 3, 3, 0, keys_cas,
     VALUE_HELP},
    {"add", "KEY NUMBER", "add a decimal number exactly, print the sum", 2, 2, 0, keys_add,
     "A number is [-]digits[.digits] with at most 34 digits, like the sum; a key that does not exist\n"
     "counts as 0. The sum is written as short as possible.\n"},
    {"append", "KEY VALUE", "put a value behind what is there", 2, 2, FLAG_CONDITION, keys_append,
     VALUE_HELP},
    {"setrange", "KEY OFFSET VALUE", "put a value over what is there, from a byte on", 3, 3,
     FLAG_CONDITION, keys_setrange, "A gap is filled with zero bytes.\n" VALUE_HELP},
    {"getset", "KEY VALUE", "store a value, print the one before", 2, 2, FLAG_CONDITION, keys_getset,
     "When there was none, nothing is printed, and the command ends with 0 all the same.\n"
     VALUE_HELP},
    {"getdel", "KEY", "delete a key, print the value that it had", 1, 1, FLAG_CONDITION, keys_getdel,
     ""},
    {"expire", "KEY TIME", "let a key go after a time", 2, 2,
     FLAG_CONDITION | FLAG_EXPIRY_CONDITION, keys_expire,
     "TIME is 500ms, 10s, 5m, 2h, 7d; a number alone is seconds. The primary's clock counts.\n"},
    {"persist", "KEY", "take away a key's expiry", 1, 1, FLAG_CONDITION, keys_persist, ""},
    {"ttl", "KEY", "print how long a key still has, in ms", 1, 1, 0, keys_ttl,
     "Prints 'none' when it has no expiry.\n"},
    {"mget", "KEY...", "print the values of many keys", 1, -1, 0, keys_mget,
     "One line for each: key, tab, value, with \\t \\n \\\\ for tab, newline and backslash.\n"},
    {"mput", "KEY VALUE [KEY VALUE]...", "store many values, each on its own", 2, -1, 0, keys_mput,
     ""},
    {"scan", "[TAG]", "print the keys of one hash tag in order, or all keys", 0, 1,
     FLAG_RANGE | FLAG_SCAN, ranges_scan,
     "TAG is any key that has the hash tag; '{user7}' will do. A line is key, tab, value, as in mget.\n"
     "A page of up to 1000 keys shows one moment. Without TAG: all keys of the store, as in export.\n"},
    {"count", "[TAG]", "print how many keys a hash tag has, or the store", 0, 1, FLAG_RANGE,
     ranges_count,
     "Of a hash tag with up to 100,000 keys the number is that of one moment; else keys that come and\n"
     "go meanwhile may be missed.\n"},
    {"clear", "[TAG]", "delete the keys of one hash tag, or all keys", 0, 1, FLAG_RANGE | FLAG_CLEAR,
     ranges_clear,
     "Needs --yes. Prints how many went. A key that is written meanwhile may stay.\n"},
    {"atomic", "[FILE]", "do several writes of one hash tag as one, or none of them", 0, 1, 0,
     batch_atomic,
     "A line of FILE, or of stdin, is one of these, with tabs between the fields:\n"
     "  put KEY VALUE    del KEY    incr KEY [DELTA]    add KEY NUMBER    append KEY VALUE    check KEY\n"
     "and at its end, perhaps: if-absent, if-present, if-value=VALUE, if-version=E.S\n"
     "Tab, newline and backslash in a field are written \\t \\n \\\\. All keys need one hash tag, as in\n"
     "{user7}:name and {user7}:mail. Does one condition not hold, nothing is changed.\n"},
    {"import", "[FILE]", "store the records of a file or of stdin", 0, 1, FLAG_TRANSFER,
     transfer_import,
     "tsv:   a line is key, tab, value; in both, tab, newline and backslash are written \\t \\n "
     "\\\\\n"
     "jsonl: a line is {\"key\": \"...\", \"value\": \"...\"}; what is not UTF-8 is written in "
     "base64 as\n"
     "       \"key64\", \"value64\"\n"
     "Without --format the name's end decides (.jsonl, .json), otherwise tsv.\n"},
    {"export", "", "print all records", 0, 0, FLAG_TRANSFER, transfer_export,
     "The formats are those of import. The order is that of the keys' SHA-256. It is no snapshot:\n"
     "what is written meanwhile may or may not be seen.\n"},
    {"where", "KEY", "show which nodes hold a key", 1, 1, 0, cluster_where, ""},
    {"status", "", "show the cluster: what works, what does not, what to do", 0, 0, 0,
     cluster_status, "Ends with 0 only if all is well.\n"},
    {"ping", "", "ask each router whether it is there", 0, 0, 0, cluster_ping, ""},
    {"bench", "", "measure throughput and latency", 0, 0, FLAG_BENCH, bench_run,
     "A closed loop: each connection sends --pipeline operations and waits for all. The keys are\n"
     "bench:000000000 and following; run --mix fill first to read what exists.\n"},
};

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMANDS_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

int command_exit_code(enum duet_code code, uint32_t flags)
{
    return (flags & DUET_IN_DOUBT) != 0 ? 4 : status_exit_code((enum status)code);
}

int command_fail(enum duet_code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fputs("duet: ", stderr);
    vfprintf(stderr, format, args);
    putc('\n', stderr);
    va_end(args);
    return command_exit_code(code, 0);
}

static struct duet_client *open_client(struct context *c, struct duet_error *reterr)
{
    struct duet_options *options = duet_options_new();
    if (options == NULL)
        return NULL;
    char timeout_ms[24];
    snprintf(timeout_ms, sizeof timeout_ms, "%llu", (unsigned long long)c->flags.timeout);
    struct duet_client *client = NULL;
    if (duet_options_set(options, "routers", c->routers, reterr) == DUET_OK &&
        duet_options_set(options, "timeout_ms", timeout_ms, reterr) == DUET_OK &&
        duet_options_set(options, "name", "duet", reterr) == DUET_OK)
        client = duet_open(options, reterr);
    duet_options_free(&options);
    return client;
}

struct duet_client *command_client(struct context *c, int *ret_exit)
{
    if (c->client != NULL)
        return c->client;
    struct duet_error error = {.code = DUET_NOMEMORY, .message = "out of memory"};
    c->client = open_client(c, &error);
    if (c->client == NULL) {
        *ret_exit = command_fail(error.code, "%s", error.message);
        return NULL;
    }
    uint64_t wait_ms = c->flags.timeout < CONNECT_WAIT_MS ? c->flags.timeout : CONNECT_WAIT_MS;
    if (duet_connect(c->client, (uint32_t)wait_ms, &error) == DUET_OK)
        return c->client;
    *ret_exit = command_fail(error.code, "%s", error.message);
    return NULL;
}

bool command_key(const struct context *c, const char *word, struct buffer *out)
{
    const char *formats[] = {"raw", "hex", "base64"};
    buffer_clear(out);
    enum status s = text_decode(c->key_format, bytes_text(word), out);
    if (s == STATUS_OK && out->size > 0 && out->size <= KEY_SIZE_MAX)
        return true;
    if (s == STATUS_USAGE)
        command_fail(DUET_USAGE, "key '%s' is not %s (--key-format)", word, formats[c->key_format]);
    else if (s == STATUS_OK && out->size == 0)
        command_fail(DUET_USAGE, "the key is empty; a key has 1 to %d bytes", KEY_SIZE_MAX);
    else
        command_fail(DUET_TOOBIG, "the key is longer than %d bytes", KEY_SIZE_MAX);
    return false;
}

static bool read_stdin(struct buffer *out)
{
    uint8_t block[65536];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, block, sizeof block);
        if (n == 0)
            return true;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            command_fail(DUET_IO, "cannot read stdin: %s", strerror(errno));
            return false;
        }
        if (buffer_append(out, bytes_of(block, (size_t)n)) != STATUS_OK)
            break;
    }
    command_fail(DUET_TOOBIG, "the value is larger than %d bytes", VALUE_SIZE_MAX);
    return false;
}

bool command_value(const char *word, struct buffer *out)
{
    buffer_clear(out);
    if (strcmp(word, "-") == 0)
        return read_stdin(out);
    if (buffer_append(out, bytes_text(word)) == STATUS_OK)
        return true;
    command_fail(DUET_TOOBIG, "the value is larger than %d bytes", VALUE_SIZE_MAX);
    return false;
}

void command_print_json(const struct context *c, json_t *object)
{
    text_json_print(object, c->output == OUTPUT_JSONL, stdout);
}

const char *command_version(struct duet_version v, char *text)
{
    snprintf(text, 48, "%llu.%llu", (unsigned long long)v.epoch, (unsigned long long)v.seq);
    return text;
}
