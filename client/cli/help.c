#include "client/cli/help.h"

#include <stdlib.h>

#define LEFT_WIDTH 30

void help_all(FILE *to)
{
    fprintf(to, "duet %s: a distributed key-value store\n\n  duet COMMAND [WORDS] [FLAGS]\n",
            duet_version_text());
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *command = &commands[i];
        char left[64];
        if (i == 0 || command->section != commands[i - 1].section)
            fprintf(to, "\n%s\n", command_sections[command->section]);
        int used = snprintf(left, sizeof left, "%s %s", command->name, command->words);
        /* What is wide gets a line of its own. */
        if (used <= LEFT_WIDTH)
            fprintf(to, "  %-*s %s\n", LEFT_WIDTH, left, command->sentence);
        else
            fprintf(to, "  %s\n%*s%s\n", left, LEFT_WIDTH + 3, "", command->sentence);
    }
    fputs("\nFlags\n", to);
    flags_print(to, FLAG_GLOBAL);
    fputs("\nExit code: 0 ok, 1 not found, 2 wrong use, 3 cannot connect, 4 timeout or in doubt,\n"
          "5 server error, 6 condition not met.\n",
          to);
}

void help_command(const struct command *command, FILE *to)
{
    fprintf(to, "duet %s %s\n  %s\n\n%s%s", command->name, command->words, command->sentence,
            command->help, command->help[0] != 0 ? "\n" : "");
    flags_print(to, command->groups);
    flags_print(to, FLAG_GLOBAL);
}

int help_unknown(const char *name)
{
    const char **names = calloc(commands_count, sizeof *names);
    for (size_t i = 0; names != NULL && i < commands_count; i++)
        names[i] = commands[i].name;
    const char *similar = names == NULL ? NULL : flags_similar(name, names, commands_count);
    free(names);
    if (similar != NULL)
        return command_fail(DUET_USAGE, "unknown command '%s'; did you mean '%s'?", name, similar);
    return command_fail(DUET_USAGE, "unknown command '%s'; `duet help` lists them", name);
}

int help_run(struct context *c)
{
    if (c->words_count == 0) {
        help_all(stdout);
        return 0;
    }
    const struct command *command = command_find(c->words[0]);
    if (command == NULL)
        return help_unknown(c->words[0]);
    help_command(command, stdout);
    return 0;
}

int help_version(struct context *c)
{
    (void)c;
    printf("duet %s\n", duet_version_text());
    return 0;
}
