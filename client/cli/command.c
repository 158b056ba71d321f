#include "client/cli/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/cli/style.h"
#include "proto/limits.h"

#define CONNECT_WAIT_MS 2000 /* a router that listens answers within this time */
#define QUIET_WAIT_MS   300  /* when nobody has asked for anything yet */

#define MESSAGE_SIZE_MAX 2048 /* what is longer is cut off */

#define VALUE_TOOBIG "the value is larger than %d bytes; spread it over several keys"

#define VALUE_HELP                                                                                 \
    "VALUE is taken as it is; - reads it from stdin, to the last byte.\n"                          \
    "A key has 1 to 480 bytes, a value up to 1 MiB unless the nodes allow more.\n"

#define READ_HELP                                                                                  \
    "--read linearizable: the newest acknowledged write. --read confirm: the same,\n"              \
    "without trust in any clock, for one more round trip. --read any: what one copy\n"             \
    "has, perhaps old, also while no write is possible; -o json and -o table say so.\n"

const char *const command_sections[SECTIONS_COUNT] = {"Keys", "Many keys", "The cluster",
                                                      "This program"};

const struct command commands[] = {
    {SECTION_KEYS, "get", "KEY", "print the value of a key", FLAG_READ, OUTPUTS_ALL, keys_get,
     "On a terminal a newline follows the value; elsewhere, and with -o raw, nothing\n"
     "does.\n" READ_HELP},
    {SECTION_KEYS, "put", "KEY VALUE", "store a value", FLAG_CONDITION | FLAG_EXPIRY, OUTPUTS_ALL,
     keys_put, VALUE_HELP},
    {SECTION_KEYS, "del", "KEY", "delete a key", FLAG_CONDITION, OUTPUTS_ALL, keys_del, ""},
    {SECTION_KEYS, "incr", "KEY [DELTA]", "add to a number (default 1), print the sum", 0,
     OUTPUTS_ALL, keys_incr,
     "The value is a decimal 64-bit integer; a key that does not exist counts as 0.\n"},
    {SECTION_KEYS, "add", "KEY NUMBER", "add a decimal number exactly, print the sum", 0,
     OUTPUTS_ALL, keys_add,
     "A number is [-]digits[.digits] with at most 34 digits, like the sum; a key that\n"
     "does not exist counts as 0. The sum is written as short as possible.\n"},
    {SECTION_KEYS, "cas", "KEY EXPECTED NEW", "store NEW if the value is EXPECTED", 0, OUTPUTS_ALL,
     keys_cas, VALUE_HELP},
    {SECTION_KEYS, "append", "KEY VALUE", "put a value behind what is there", FLAG_CONDITION,
     OUTPUTS_ALL, keys_append, VALUE_HELP},
    {SECTION_KEYS, "setrange", "KEY OFFSET VALUE", "put a value over what is there, from a byte on",
     FLAG_CONDITION, OUTPUTS_ALL, keys_setrange, "A gap is filled with zero bytes.\n" VALUE_HELP},
    {SECTION_KEYS, "getset", "KEY VALUE", "store a value, print the one before", FLAG_CONDITION,
     OUTPUTS_ALL, keys_getset,
     "When there was none, nothing is printed, and the command ends with 0 all the\n"
     "same.\n" VALUE_HELP},
    {SECTION_KEYS, "getdel", "KEY", "delete a key, print the value that it had", FLAG_CONDITION,
     OUTPUTS_ALL, keys_getdel, ""},
    {SECTION_KEYS, "expire", "KEY TIME", "let a key go after a time",
     FLAG_CONDITION | FLAG_EXPIRY_CONDITION, OUTPUTS_ALL, keys_expire,
     "TIME is 500ms, 10s, 5m, 2h, 7d; a number alone is seconds. The primary's clock\n"
     "counts.\n"},
    {SECTION_KEYS, "persist", "KEY", "take away a key's expiry", FLAG_CONDITION, OUTPUTS_ALL,
     keys_persist, ""},
    {SECTION_KEYS, "ttl", "KEY", "print how long a key still has, in ms", FLAG_READ, OUTPUTS_ALL,
     keys_ttl, "Prints 'none' when it has no expiry.\n"},

    {SECTION_MANY, "mget", "KEY...", "print the values of many keys", FLAG_READ, OUTPUTS_ALL, keys_mget,
     "One line for each: key, tab, value, with \\t \\n \\\\ for tab, newline and\n"
     "backslash.\n" READ_HELP},
    {SECTION_MANY, "mput", "KEY VALUE [KEY VALUE]...", "store many values, each on its own", 0,
     OUTPUTS_ALL, keys_mput, ""},
    {SECTION_MANY, "scan", "[TAG]", "print the keys of one hash tag in order, or all keys",
     FLAG_RANGE | FLAG_SCAN, OUTPUTS_REPORT, ranges_scan,
     "TAG is any key that has the hash tag; '{user7}' will do. A line is key, tab,\n"
     "value, as in mget. A page of up to 1000 keys shows one moment. Without TAG: all\n"
     "keys of the store, as in export.\n"},
    {SECTION_MANY, "count", "[TAG]", "print how many keys a hash tag has, or the store", FLAG_RANGE,
     OUTPUTS_REPORT, ranges_count,
     "Of a hash tag with up to 100,000 keys the number is that of one moment; else\n"
     "keys that come and go meanwhile may be missed.\n"},
    {SECTION_MANY, "clear", "[TAG]", "delete the keys of one hash tag, or all keys",
     FLAG_RANGE | FLAG_CLEAR, OUTPUTS_REPORT, ranges_clear,
     "Needs --yes. Prints how many went. A key that is written meanwhile may stay.\n"},
    {SECTION_MANY, "atomic", "[FILE]", "do several writes of one hash tag as one, or none of them",
     0, OUTPUTS_REPORT, batch_atomic,
     "A line of FILE, or of stdin, is one of these, with tabs between the fields:\n"
     "  put KEY VALUE    del KEY      incr KEY [DELTA]    add KEY NUMBER\n"
     "  append KEY VALUE              check KEY\n"
     "and at its end, perhaps: if-absent, if-present, if-value=VALUE, if-version=E.S\n"
     "Tab, newline and backslash in a field are written \\t \\n \\\\. All keys need one\n"
     "hash tag, as in {user7}:name and {user7}:mail. Does one condition not hold,\n"
     "nothing is changed.\n"},
    {SECTION_MANY, "import", "[FILE]", "store the records of a file or of stdin", FLAG_TRANSFER,
     OUTPUTS_REPORT, transfer_import,
     "tsv:   a line is key, tab, value; in both, tab, newline and backslash are\n"
     "       written \\t \\n \\\\\n"
     "jsonl: a line is {\"key\": \"...\", \"value\": \"...\"}; what is not UTF-8 is\n"
     "       written in base64 as \"key64\", \"value64\"\n"
     "Without --format the name's end decides (.jsonl, .json), otherwise tsv.\n"},
    {SECTION_MANY, "export", "", "print all records", FLAG_TRANSFER,
     OUTPUTS_TEXT | 1u << OUTPUT_JSONL, transfer_export,
     "The formats are those of import. The order is that of the keys' SHA-256. It is\n"
     "no snapshot: what is written meanwhile may or may not be seen.\n"},

    {SECTION_CLUSTER, "status", "", "show the cluster: what works, what does not, what to do", 0,
     OUTPUTS_REPORT, screen_run,
     "Asks every router that is named and every node, each by itself. What is wrong\n"
     "stands last, with what to do about it. Ends with 0 only if all is well.\n"},
    {SECTION_CLUSTER, "explain", "KEY", "show everything about the place of a key", 0,
     OUTPUTS_REPORT, cluster_explain,
     "Hash tag, digest, partition, epoch, primary and copies with their addresses,\n"
     "the key's version, and which routers say so. The key is read, as get does it.\n"},
    {SECTION_CLUSTER, "where", "KEY", "show which nodes hold a key", 0, OUTPUTS_REPORT,
     cluster_where, "The map's answer alone; nothing is read. See explain.\n"},
    {SECTION_CLUSTER, "check", "", "report the cluster's health to a monitor", FLAG_CHECK,
     OUTPUTS_TEXT, check_run,
     "nagios:     one line with performance data; ends with 0 ok, 1 warning\n"
     "            (something is down, nobody is refused), 2 critical, 3 unknown\n"
     "prometheus: metrics as text, for the textfile collector; ends as status does\n"},
    {SECTION_CLUSTER, "ping", "", "ask each router whether it is there", FLAG_PING, OUTPUTS_REPORT,
     ping_run, "Answered by the loop that serves. Ends with 3 when one does not answer.\n"},
    {SECTION_CLUSTER, "admin", "drain|undrain|voters NODE",
     "take a node out of service, and back; say which nodes vote", 0,
     OUTPUTS_REPORT, admin_run,
     "drain: what the node leads is handed to other nodes, and no write waits for it\n"
     "any more; then it may be stopped, and nobody notices. It holds until undrain, or\n"
     "until the node's process ends. A plain SIGTERM does the same before it ends.\n"
     "voters: one, three or five nodes, with commas between them, keep the registers\n"
     "that say who leads; a majority of them must be there for leadership to move.\n"
     "The command ends when these do, and no others. So one that votes and is gone\n"
     "for good, or is to go, is replaced:\n"
     "  duet admin voters n1,n2,n4\n"},
    {SECTION_CLUSTER, "bench", "", "measure throughput and latency", FLAG_BENCH, OUTPUTS_REPORT,
     bench_run,
     "Closed loop: each connection sends --pipeline operations at once and the next\n"
     "when all are answered. With --rate an open loop: operations are due at even\n"
     "times, --pipeline is how many may be in flight on a connection, and latency\n"
     "counts from when an operation was due. The keys are bench:0000000000 and\n"
     "following (16 bytes); run --mix fill first to read what exists. ^C ends it\n"
     "early, with figures.\n"},

    {SECTION_SELF, "help", "[COMMAND]", "show help, of one command or of all", 0, OUTPUTS_TEXT,
     help_run, ""},
    {SECTION_SELF, "version", "", "show the version", 0, OUTPUTS_TEXT, help_version, ""},
    {SECTION_SELF, "context", "[list|add|use|remove] [NAME] [ROUTERS]",
     "name sets of routers, and choose one", FLAG_READ, OUTPUTS_REPORT | 1u << OUTPUT_RAW, contexts_run,
     "  duet context add prod tcp://10.0.0.1:7400,tcp://10.0.0.2:7400\n"
     "  duet context add near tcp://127.0.0.1:7400 --read any   how its keys are read\n"
     "  duet context use prod         from now on; `use default` ends it\n"
     "  duet get apple --context prod this once\n"
     "Kept in $XDG_CONFIG_HOME/duet/contexts, else ~/.config/duet/contexts. Routers\n"
     "come from --routers, else --context, DUET_ROUTERS, the context in use,\n"
     "tcp://127.0.0.1:7400.\n"},
    {SECTION_SELF, "completion", "bash", "print the completion script of a shell", 0, OUTPUTS_TEXT,
     bash_run, "For this shell only:  . <(duet completion bash)\n"},
    {SECTION_SELF, "manual", "", "print the manual page, for man(1)", 0, OUTPUTS_TEXT, manual_run,
     "To read it:  duet manual | man -l -\n"},
    {SECTION_SELF, "repl", "", "read commands from the terminal, or a script from stdin", 0,
     OUTPUTS_ALL, repl_run,
     "The same as no command at all. A line is split as a shell does it, with quotes;\n"
     "# begins a comment; quit ends. Flags of the program's own line hold for all\n"
     "commands. On a terminal Tab completes and shows how a command is written; lines\n"
     "are kept in ~/.duet_history, or in $XDG_STATE_HOME/duet/history. A script goes\n"
     "on after a mistake, and ends with the exit code of the last command that failed.\n"},
};
const size_t commands_count = sizeof commands / sizeof *commands;

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < commands_count; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* The pattern is ours and flat: "KEY VALUE [KEY VALUE]...", "list|use [NAME]". */
bool command_word_next(const char **pattern, struct command_word *ret)
{
    const char *at = *pattern + strspn(*pattern, " ");
    size_t size = strcspn(at, " ");
    *ret = (struct command_word){0};
    if (size == 0)
        return false;
    const char *end = at + size, *close = strchr(at, ']'), *open = strchr(at, '[');
    /* Inside of brackets when one closes before the next opens, or opens right here. */
    ret->optional = *at == '[' || (close != NULL && (open == NULL || close < open));
    const char *tail = ret->optional && close != NULL ? close + 1 : end - (size > 3 ? 3 : size);
    ret->repeated = strncmp(tail, "...", 3) == 0;
    at += *at == '[';
    size_t used = strcspn(at, " ].");
    snprintf(ret->text, sizeof ret->text, "%.*s", (int)used, at);
    ret->literal = ret->text[0] >= 'a' && ret->text[0] <= 'z';
    *pattern = end;
    return true;
}

void command_words_range(const struct command *command, int *ret_min, int *ret_max)
{
    struct command_word word;
    bool repeated = false;
    int optional = 0;
    *ret_min = 0;
    for (const char *at = command->words; command_word_next(&at, &word);) {
        *ret_min += !word.optional;
        optional += word.optional;
        repeated = repeated || word.repeated;
    }
    *ret_max = repeated ? -1 : *ret_min + optional;
}

int command_exit_code(enum duet_code code, uint32_t flags)
{
    return (flags & DUET_IN_DOUBT) != 0 ? 4 : status_exit_code((enum status)code);
}

volatile sig_atomic_t command_interrupted;

static void on_interrupt(int number)
{
    (void)number;
    if (command_interrupted)
        _exit(130);
    command_interrupted = 1;
}

void command_catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
}

static uint64_t script_line; /* 0: not in a script */

void command_at_line(uint64_t number)
{
    script_line = number;
}

int command_fail(enum duet_code code, const char *format, ...)
{
    char line[32] = "", text[MESSAGE_SIZE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (script_line > 0)
        snprintf(line, sizeof line, "line %llu: ", (unsigned long long)script_line);
    fflush(stdout);
    int used = fprintf(stderr, "duet: %s", line);
    style_wrap(stderr, text, style_width(STDERR_FILENO), 6, used);
    return command_exit_code(code, 0);
}

int command_fail_routers(const struct context *c, enum duet_code code, const char *message)
{
    bool addresses = code == DUET_NOCONNECTION || code == DUET_CONFIG || code == DUET_USAGE;
    if (addresses && c->name != NULL)
        return command_fail(code, "%s (the address is that of context '%s')", message, c->name);
    if (!addresses || c->source == NULL)
        return command_fail(code, "%s", message);
    return command_fail(code, "%s (the address is %s)", message, c->source);
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
        (c->read[0] == 0 || duet_options_set(options, "read", c->read, reterr) == DUET_OK) &&
        duet_options_set(options, "name", "duet", reterr) == DUET_OK)
        client = duet_open(options, reterr);
    duet_options_free(&options);
    return client;
}

/* Settings differ from line to line in the interactive mode: a client serves those that it was
 * opened with. */
static bool client_fits(struct context *c)
{
    char settings[4096];
    snprintf(settings, sizeof settings, "%llu %s %s", (unsigned long long)c->flags.timeout, c->read,
             c->routers);
    if (c->client != NULL && c->client_for != NULL && strcmp(c->client_for, settings) == 0)
        return true;
    command_disconnect(c);
    c->client_for = strdup(settings);
    return false;
}

void command_disconnect(struct context *c)
{
    duet_close(&c->client);
    free(c->client_for);
    c->client_for = NULL;
}

struct duet_client *command_client(struct context *c, int *ret_exit)
{
    if (client_fits(c))
        return c->client;
    struct duet_error error = {.code = DUET_NOMEMORY, .message = "out of memory"};
    c->client = open_client(c, &error);
    if (c->client == NULL) {
        *ret_exit = command_fail_routers(c, error.code, error.message);
        return NULL;
    }
    uint64_t wait_ms = c->quiet_connect ? QUIET_WAIT_MS : CONNECT_WAIT_MS;
    if (wait_ms > c->flags.timeout)
        wait_ms = c->flags.timeout;
    if (duet_connect(c->client, (uint32_t)wait_ms, &error) == DUET_OK)
        return c->client;
    if (!c->quiet_connect)
        *ret_exit = command_fail_routers(c, error.code, error.message);
    command_disconnect(c);
    return NULL;
}

bool command_key(const struct context *c, const char *word, struct buffer *out)
{
    static const char *const formats[] = {
        "raw", "hex: two digits for each byte, without 0x",
        "base64: `base64 -w0` writes it, with letters, digits, +, / and = at the end"};
    buffer_clear(out);
    enum status s = text_decode(c->key_format, bytes_text(word), out);
    if (s == STATUS_OK && out->size > 0 && out->size <= KEY_SIZE_MAX)
        return true;
    if (s == STATUS_USAGE)
        command_fail(DUET_USAGE, "key '%s' is not %s", word, formats[c->key_format]);
    else if (s == STATUS_OK && out->size == 0)
        command_fail(DUET_USAGE, "the key is empty; a key has 1 to %d bytes", KEY_SIZE_MAX);
    else
        command_fail(DUET_TOOBIG,
                     "the key is longer than %d bytes; take a shorter one, or a digest",
                     KEY_SIZE_MAX);
    return false;
}

static bool read_stdin(struct buffer *out)
{
    uint8_t block[65536];
    if (isatty(STDIN_FILENO))
        fputs("type the value; ^D on a line of its own ends it\n", stderr);
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
    command_fail(DUET_TOOBIG, VALUE_TOOBIG, VALUE_SIZE_MAX);
    return false;
}

bool command_stdin(const struct context *c)
{
    if (c->stdin_taken)
        command_fail(DUET_USAGE, "stdin is where the commands come from; nothing else can be read");
    return !c->stdin_taken;
}

bool command_value(const struct context *c, const char *word, struct buffer *out)
{
    buffer_clear(out);
    if (strcmp(word, "-") == 0)
        return command_stdin(c) && read_stdin(out);
    if (buffer_append(out, bytes_text(word)) == STATUS_OK)
        return true;
    command_fail(DUET_TOOBIG, VALUE_TOOBIG, VALUE_SIZE_MAX);
    return false;
}

void command_print_json(const struct context *c, json_t *object)
{
    text_json_print(object, c->output == OUTPUT_JSONL, stdout);
}

void command_print_json_list(const struct context *c, json_t *array)
{
    size_t i;
    json_t *object;
    if (c->output != OUTPUT_JSONL) {
        text_json_print(array, false, stdout);
        return;
    }
    json_array_foreach(array, i, object) text_json_print(json_incref(object), true, stdout);
    json_decref(array);
}

const char *command_version(struct duet_version v, char *text)
{
    snprintf(text, 48, "%llu.%llu", (unsigned long long)v.epoch, (unsigned long long)v.seq);
    return text;
}
