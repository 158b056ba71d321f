#include "client/cli/help.h"

#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "client/cli/style.h"

#define COMMAND_WIDTH 30
#define FLAG_WIDTH    26
#define RIGHT_MIN     30 /* columns that a sentence needs beside its name */
#define RIGHT_NARROW  8
#define LINE_SIZE_MAX 128

/* What stands on the left, and its sentence beside it, or below when there is no room. */
static void print_row(const char *left, int left_width, const char *sentence)
{
    int width = style_width(STDOUT_FILENO), indent = left_width + 3;
    bool narrow = width > 0 && width < indent + RIGHT_MIN;
    if (narrow)
        indent = RIGHT_NARROW;
    if (!narrow && strlen(left) <= (size_t)left_width)
        printf("  %-*s ", left_width, left);
    else
        printf("  %s\n%*s", left, indent, "");
    style_wrap(stdout, sentence, width, indent, indent);
}

static void print_flag(const struct flag_row *row)
{
    char left[96], right[192], name[FLAGS_LONG_SIZE], letter[8] = "    ";
    bool shown = flags_default_shown(row);
    if (row->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", row->letter);
    snprintf(left, sizeof left, "%s%s%s%s", letter, flags_long(row, name),
             row->value[0] != 0 ? "=" : "", row->value);
    snprintf(right, sizeof right, "%s%s%s%s", row->sentence, shown ? " [" : "",
             shown ? row->default_text : "", shown ? "]" : "");
    print_row(left, FLAG_WIDTH, right);
}

static void print_flags(unsigned groups)
{
    for (size_t i = 0; i < flags_rows_count; i++)
        if ((flags_rows[i].group & groups) != 0)
            print_flag(&flags_rows[i]);
}

/* Line by line: each keeps its indentation when it does not fit. */
static void print_text(const char *text)
{
    while (*text != 0) {
        char line[LINE_SIZE_MAX];
        int indent = (int)strspn(text, " ");
        int size = (int)strcspn(text + indent, "\n");
        snprintf(line, sizeof line, "%.*s", size, text + indent);
        printf("%*s", indent, "");
        style_wrap(stdout, line, style_width(STDOUT_FILENO), indent, indent);
        text += indent + size;
        text += *text == '\n';
    }
}

void help_all(void)
{
    printf("duet %s: a distributed key-value store\n\n  duet COMMAND [WORDS] [FLAGS]\n",
           duet_version_text());
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *command = &commands[i];
        char left[64];
        if (i == 0 || command->section != commands[i - 1].section)
            printf("\n%s\n", command_sections[command->section]);
        snprintf(left, sizeof left, "%s %s", command->name, command->words);
        print_row(left, COMMAND_WIDTH, command->sentence);
    }
    puts("\nFlags");
    print_flags(FLAG_GLOBAL);
    putchar('\n');
    print_text("Exit code: 0 ok, 1 not found, 2 wrong use, 3 cannot connect, 4 timeout or in\n"
               "doubt, 5 server error, 6 condition not met.\n");
}

void help_command(const struct command *command)
{
    char head[LINE_SIZE_MAX];
    int width = style_width(STDOUT_FILENO);
    snprintf(head, sizeof head, "duet %s %s", command->name, command->words);
    style_wrap(stdout, head, width, 6, 0);
    fputs("  ", stdout);
    style_wrap(stdout, command->sentence, width, 2, 2);
    putchar('\n');
    print_text(command->help);
    if (command->help[0] != 0)
        putchar('\n');
    print_flags(command->groups);
    if (command->groups != 0)
        putchar('\n');
    print_flags(FLAG_GLOBAL);
}

/* What people type who know other stores. */
static const char *translated(const char *name)
{
    static const char *const pairs[][2] = {
        {"cat", "get"},     {"decr", "incr"},   {"decrby", "incr"},     {"delete", "del"},
        {"dump", "export"}, {"exists", "get"},  {"health", "check"},    {"incrby", "incr"},
        {"info", "status"}, {"keys", "export"}, {"incrbyfloat", "add"}, {"list", "export"},
        {"load", "import"}, {"ls", "export"},   {"mset", "mput"},       {"pexpire", "expire"},
        {"pttl", "ttl"},    {"read", "get"},    {"remove", "del"},      {"restore", "import"},
        {"rm", "del"},      {"scan", "export"}, {"set", "put"},         {"shell", "repl"},
        {"unlink", "del"},  {"use", "context"}, {"write", "put"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strcasecmp(pairs[i][0], name) == 0)
            return pairs[i][1];
    for (size_t i = 0; i < commands_count; i++)
        if (strcasecmp(commands[i].name, name) == 0)
            return commands[i].name;
    return NULL;
}

int help_unknown(const char *name)
{
    const char **names = calloc(commands_count, sizeof *names);
    for (size_t i = 0; names != NULL && i < commands_count; i++)
        names[i] = commands[i].name;
    const char *similar = translated(name);
    if (similar == NULL && names != NULL)
        similar = flags_similar(name, names, commands_count);
    free(names);
    if (similar != NULL)
        return command_fail(DUET_USAGE, "unknown command '%s'; did you mean '%s'?", name, similar);
    return command_fail(DUET_USAGE, "unknown command '%s'; `duet help` lists them", name);
}

int help_run(struct context *c)
{
    if (c->words_count == 0) {
        help_all();
        return 0;
    }
    const struct command *command = command_find(c->words[0]);
    if (command == NULL)
        return help_unknown(c->words[0]);
    help_command(command);
    return 0;
}

int help_version(struct context *c)
{
    (void)c;
    printf("duet %s\n", duet_version_text());
    return 0;
}
