/* duet: the command line. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/cli/command.h"

#define TIMEOUT_MAX_MS 3600000
#define ROUTER_DEFAULT "tcp://127.0.0.1:7400"

static void print_help(FILE *to)
{
    fprintf(to, "duet %s: a distributed key-value store\n\n  duet COMMAND [WORDS] [FLAGS]\n\n",
            duet_version_text());
    for (size_t i = 0; i < COMMANDS_COUNT; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", commands[i].name, commands[i].words);
        fprintf(to, "  %-30s %s\n", left, commands[i].sentence);
    }
    fprintf(to, "  %-30s %s\n  %-30s %s\n\n", "help [COMMAND]", "show help", "version",
            "show the version");
    flags_print(to, FLAG_GLOBAL);
    fputs("\nExit code: 0 ok, 1 not found, 2 wrong use, 3 cannot connect, 4 timeout or in doubt,\n"
          "5 server error, 6 condition not met.\n",
          to);
}

static int unknown_command(const char *name)
{
    const char *names[COMMANDS_COUNT];
    for (size_t i = 0; i < COMMANDS_COUNT; i++)
        names[i] = commands[i].name;
    const char *similar = flags_similar(name, names, COMMANDS_COUNT);
    if (similar != NULL)
        return command_fail(DUET_USAGE, "unknown command '%s'; did you mean '%s'?", name, similar);
    return command_fail(DUET_USAGE, "unknown command '%s'; `duet help` lists them", name);
}

static int print_command_help(const char *name)
{
    const struct command *command = command_find(name);
    if (command == NULL)
        return unknown_command(name);
    printf("duet %s %s\n  %s\n\n%s%s", command->name, command->words, command->sentence,
           command->help, command->help[0] != 0 ? "\n" : "");
    flags_print(stdout, command->groups);
    flags_print(stdout, FLAG_GLOBAL);
    return 0;
}

/* The index of word among the count words, -1: none. */
static int index_of(const char *word, const char *const *words, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    return -1;
}

static int check_flags(struct context *c, const struct command *command)
{
    static const char *const outputs[] = {"auto", "table", "json", "jsonl", "raw", "hex"};
    static const char *const formats[] = {"raw", "hex", "base64"};
    int output = index_of(c->flags.output, outputs, 6);
    int format = index_of(c->flags.key_format, formats, 3);
    if (output < 0)
        return command_fail(DUET_USAGE, "-o '%s' is none of table, json, jsonl, raw, hex",
                            c->flags.output);
    if (format < 0)
        return command_fail(DUET_USAGE, "--key-format '%s' is none of raw, hex, base64",
                            c->flags.key_format);
    if (c->flags.timeout < 1 || c->flags.timeout > TIMEOUT_MAX_MS)
        return command_fail(DUET_USAGE, "--timeout: %llu is not from 1 to %d ms",
                            (unsigned long long)c->flags.timeout, TIMEOUT_MAX_MS);
    if ((c->flags.groups & ~(command->groups | FLAG_GLOBAL)) != 0)
        return command_fail(DUET_USAGE,
                            "a flag does not belong to '%s'; `duet help %s` lists those that do",
                            command->name, command->name);
    c->output = (enum command_output)output;
    c->key_format = (enum text_format)format;
    return 0;
}

static int check_words(const struct context *c, const struct command *command)
{
    bool few = c->words_count < command->words_min;
    bool many = command->words_max >= 0 && c->words_count > command->words_max;
    if (!few && !many)
        return 0;
    return command_fail(DUET_USAGE, "too %s words; write: duet %s %s", few ? "few" : "many",
                        command->name, command->words);
}

static int run(struct context *c, const struct command *command)
{
    const char *environment = getenv("DUET_ROUTERS");
    c->routers = c->flags.routers[0] != 0                     ? c->flags.routers
                 : environment != NULL && environment[0] != 0 ? environment
                                                              : ROUTER_DEFAULT;
    int code = check_flags(c, command);
    if (code == 0)
        code = check_words(c, command);
    if (code != 0)
        return code;
    code = command->run(c);
    duet_close(&c->client);
    if (fflush(stdout) != 0 && code == 0)
        code = errno == EPIPE ? 0 : command_fail(DUET_IO, "cannot write: %s", strerror(errno));
    return code;
}

static int run_words(struct context *c, int count, char **words)
{
    if (count == 0) {
        print_help(c->flags.help ? stdout : stderr);
        return c->flags.help ? 0 : 2;
    }
    if (strcmp(words[0], "help") == 0) {
        if (count > 1)
            return print_command_help(words[1]);
        print_help(stdout);
        return 0;
    }
    if (strcmp(words[0], "version") == 0) {
        printf("duet %s\n", duet_version_text());
        return 0;
    }
    if (c->flags.help)
        return print_command_help(words[0]);
    const struct command *command = command_find(words[0]);
    if (command == NULL)
        return unknown_command(words[0]);
    c->words_count = count - 1;
    c->words = words + 1;
    return run(c, command);
}

int main(int argc, char **argv)
{
    /* A reader that has gone, like head, is no accident: writes say so, and that is enough. */
    signal(SIGPIPE, SIG_IGN);
    struct context c = {0};
    struct error error;
    char **words = calloc((size_t)argc + 1, sizeof *words);
    int count;
    if (words == NULL)
        return command_fail(DUET_NOMEMORY, "out of memory");
    int code = flags_parse(argc, argv, &c.flags, words, &count, &error) == STATUS_OK
                   ? run_words(&c, count, words)
                   : command_fail(DUET_USAGE, "%s", error.message);
    free(words);
    return code;
}
