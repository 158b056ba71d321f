#include "client/cli/invoke.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/cli/help.h"

#define TIMEOUT_MAX_MS 3600000
#define ROUTER_DEFAULT "tcp://127.0.0.1:7400"

/* How keys are read: flags, environment, the context that gave the routers. 0, or the exit code. */
static int choose_read(struct context *c)
{
    const char *environment = getenv("DUET_READ");
    char list[FLAGS_CHOICES_SIZE];
    c->read = c->name != NULL ? c->entry->read : "";
    if (environment != NULL && environment[0] != 0)
        c->read = environment;
    if (c->flags.read[0] != 0)
        c->read = c->flags.read;
    if (c->read[0] == 0 || flags_choice(CONTEXTS_READS, c->read) >= 0)
        return 0;
    return command_fail(DUET_CONFIG, "DUET_READ: '%s' is none of %s", c->read,
                        flags_choices(CONTEXTS_READS, list));
}

/* Flags, environment, file, default. 0, or the exit code. */
static int find_routers(struct context *c)
{
    const char *environment = getenv("DUET_ROUTERS");
    struct error error;
    c->name = NULL;
    c->source = NULL;
    if (c->entry == NULL)
        c->entry = calloc(1, sizeof *c->entry);
    if (c->entry == NULL)
        return command_fail(DUET_NOMEMORY, "out of memory");
    if (c->flags.routers[0] != 0) {
        c->routers = c->flags.routers;
        return 0;
    }
    bool named = c->flags.context[0] != 0;
    c->routers = ROUTER_DEFAULT;
    c->source = "the default; --routers, DUET_ROUTERS or `duet context` set another";
    if (strcmp(c->flags.context, CONTEXTS_DEFAULT) == 0)
        return 0;
    if (!named && environment != NULL && environment[0] != 0) {
        c->routers = environment;
        c->source = "given by DUET_ROUTERS";
        return 0;
    }
    enum status s = contexts_find(named ? c->flags.context : NULL, c->entry, &error);
    if (s == STATUS_NOTFOUND)
        return 0;
    if (s != STATUS_OK)
        return command_fail(DUET_CONFIG, "%s", error.message);
    c->routers = c->entry->routers;
    c->name = c->entry->name;
    c->source = NULL;
    return 0;
}

int invoke_routers(struct context *c)
{
    c->read = "";
    int code = find_routers(c);
    return code != 0 ? code : choose_read(c);
}

static int check_output(const struct context *c, const struct command *command)
{
    char list[64] = {0};
    if ((command->outputs >> c->output & 1) != 0)
        return 0;
    for (int i = OUTPUT_TABLE; i <= OUTPUT_HEX; i++) {
        static const char *const names[] = {"auto", "table", "json", "jsonl", "raw", "hex"};
        size_t used = strlen(list);
        if ((command->outputs >> i & 1) != 0)
            snprintf(list + used, sizeof list - used, "%s%s", used > 0 ? ", " : "", names[i]);
    }
    return command_fail(DUET_USAGE, "'%s' cannot print %s; it prints: %s", command->name,
                        c->flags.output, list);
}

static int check_flags(struct context *c, const struct command *command)
{
    c->output = (enum command_output)flags_choice("auto|table|json|jsonl|raw|hex", c->flags.output);
    c->key_format = (enum text_format)flags_choice("raw|hex|base64", c->flags.key_format);
    if (c->flags.timeout < 1 || c->flags.timeout > TIMEOUT_MAX_MS)
        return command_fail(DUET_USAGE, "--timeout: %llu is not in range; it is 1 to %d ms",
                            (unsigned long long)c->flags.timeout, TIMEOUT_MAX_MS);
    char name[FLAGS_LONG_SIZE];
    const struct flag_row *foreign = flags_foreign(&c->flags, command->groups | FLAG_GLOBAL);
    if (foreign != NULL)
        return command_fail(DUET_USAGE,
                            "%s does not belong to '%s'; `duet help %s` lists the flags that do",
                            flags_long(foreign, name), command->name, command->name);
    return check_output(c, command);
}

static int check_words(const struct context *c, const struct command *command)
{
    int min, max;
    command_words_range(command, &min, &max);
    bool few = c->words_count < min;
    if (!few && (max < 0 || c->words_count <= max))
        return 0;
    bool blanks = !few && command->words[0] != 0;
    return command_fail(DUET_USAGE, "%s: too %s words; write: duet %s%s%s%s", command->name,
                        few ? "few" : "many", command->name, command->words[0] != 0 ? " " : "",
                        command->words, blanks ? " (a word with blanks stands in quotes)" : "");
}

/* Words of which only certain ones may stand in a place. */
static int check_literals(const struct context *c, const struct command *command)
{
    struct command_word word;
    char list[FLAGS_CHOICES_SIZE];
    const char *at = command->words;
    for (int i = 0; i < c->words_count && command_word_next(&at, &word); i++)
        if (word.literal && flags_choice(word.text, c->words[i]) < 0)
            return command_fail(DUET_USAGE, "%s: '%s' is none of %s; `duet help %s` tells more",
                                command->name, c->words[i], flags_choices(word.text, list),
                                command->name);
    return 0;
}

/* Has all been written that was printed? A reader that has gone, like head, is no accident. */
static int check_written(void)
{
    struct pollfd fd = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    int cause = errno;
    clearerr(stdout);
    if (cause == EPIPE || (poll(&fd, 1, 0) > 0 && (fd.revents & POLLERR) != 0))
        return 0;
    return command_fail(DUET_IO, "cannot write: %s", strerror(cause));
}

static int run(struct context *c, const struct command *command)
{
    int code = check_flags(c, command);
    if (code == 0)
        code = check_words(c, command);
    if (code == 0)
        code = check_literals(c, command);
    /* A context that is wrong must not keep anybody from setting it right. */
    if (code == 0 && command->section != SECTION_SELF)
        code = invoke_routers(c);
    if (code != 0)
        return code;
    errno = 0;
    c->command = command;
    code = command->run(c);
    int failed = check_written();
    return code == 0 ? failed : code;
}

static int run_words(struct context *c, int count, char **words)
{
    if (count == 0 && c->flags.help) {
        help_all();
        return 0;
    }
    const struct command *command = command_find(count == 0 ? "repl" : words[0]);
    if (command == NULL)
        return help_unknown(words[0]);
    if (c->flags.help) {
        help_command(command);
        return 0;
    }
    c->words_count = count == 0 ? 0 : count - 1;
    c->words = words + 1;
    return run(c, command);
}

int invoke_words(struct context *c, const struct flags *base, int argc, char **argv)
{
    struct error error;
    int count;
    char **words = calloc((size_t)argc + 1, sizeof *words);
    if (words == NULL)
        return command_fail(DUET_NOMEMORY, "out of memory");
    c->flags = *base;
    c->flags.given = 0;
    int code = flags_parse(argc, argv, &c->flags, words, &count, &error) == STATUS_OK
                   ? run_words(c, count, words)
                   : command_fail(DUET_USAGE, "%s", error.message);
    free(words);
    return code;
}
