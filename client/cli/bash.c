/* bash: the command table as a completion script for bash. It needs no other package. */
#include "client/cli/command.h"

#define NAMES "words=$(\"${COMP_WORDS[0]}\" context list -o raw 2>/dev/null) ;;\n"

static void print_commands(FILE *to)
{
    for (size_t i = 0; i < commands_count; i++)
        fprintf(to, "%s%s", i == 0 ? "" : " ", commands[i].name);
}

static void print_words(const char *choices, FILE *to)
{
    for (; *choices != 0; choices++)
        putc(*choices == '|' ? ' ' : *choices, to);
}

/* Both names of a flag as a pattern of case. */
static void print_pattern(const struct flag_row *row, FILE *to)
{
    char name[FLAGS_LONG_SIZE];
    if (row->letter != 0)
        fprintf(to, "-%c | ", row->letter);
    fputs(flags_long(row, name), to);
}

static void print_flags(unsigned groups, FILE *to)
{
    char name[FLAGS_LONG_SIZE];
    for (size_t i = 0; i < flags_rows_count; i++)
        if ((flags_rows[i].group & groups) != 0)
            fprintf(to, " %s", flags_long(&flags_rows[i], name));
}

static void print_flags_with_value(FILE *to)
{
    const char *between = "        ";
    for (size_t i = 0; i < flags_rows_count; i++) {
        if (flags_rows[i].kind == FLAG_KIND_BOOL)
            continue;
        fputs(between, to);
        print_pattern(&flags_rows[i], to);
        between = " | ";
    }
    fputs(") flag=$word ;;\n", to);
}

static void print_choices_of_flags(FILE *to)
{
    for (size_t i = 0; i < flags_rows_count; i++) {
        bool names = strcmp(flags_rows[i].value, "NAME") == 0;
        if (!names && strchr(flags_rows[i].value, '|') == NULL)
            continue;
        fputs("        ", to);
        print_pattern(&flags_rows[i], to);
        if (names) {
            fputs(") " NAMES, to);
            continue;
        }
        fputs(") words=\"", to);
        print_words(flags_rows[i].value, to);
        fputs("\" ;;\n", to);
    }
}

static void print_flags_of_commands(FILE *to)
{
    for (size_t i = 0; i < commands_count; i++) {
        if (commands[i].groups == 0)
            continue;
        fprintf(to, "        %s) words+=\"", commands[i].name);
        print_flags(commands[i].groups, to);
        fputs("\" ;;\n", to);
    }
}

static void print_words_of_commands(FILE *to)
{
    for (size_t i = 0; i < commands_count; i++) {
        struct command_word word;
        const char *at = commands[i].words;
        for (int place = 0; command_word_next(&at, &word); place++) {
            fprintf(to, "        %s:%d) ", commands[i].name, place);
            if (word.literal) {
                fputs("words=\"", to);
                print_words(word.text, to);
                fputs("\" ;;\n", to);
            } else if (strcmp(word.text, "COMMAND") == 0) {
                fputs("words=$commands ;;\n", to);
            } else if (strcmp(word.text, "NAME") == 0) {
                fputs(NAMES, to);
            } else if (strcmp(word.text, "FILE") == 0) {
                fputs("files=1 ;;\n", to);
            } else {
                fputs(";;\n", to);
            }
        }
    }
}

int bash_run(struct context *c)
{
    (void)c;
    fputs("# Completion of duet(1) for bash; printed by `duet completion bash`.\n"
          "_duet()\n{\n"
          "    local commands=\"",
          stdout);
    print_commands(stdout);
    fputs(
        "\"\n"
        "    local current=${COMP_WORDS[COMP_CWORD]} command= flag= words= files= word i count=0\n"
        "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "        word=${COMP_WORDS[i]}\n"
        "        # bash takes --flag=value apart at the sign.\n"
        "        if [[ -n $flag ]]; then [[ $word == \"=\" ]] || flag=; continue; fi\n"
        "        case $word in\n",
        stdout);
    print_flags_with_value(stdout);
    fputs("        -?*) ;;\n"
          "        *) if [[ -z $command ]]; then command=$word; else count=$((count + 1)); fi ;;\n"
          "        esac\n"
          "    done\n"
          "    [[ -n $flag && $current == \"=\" ]] && current=\n"
          "    if [[ -n $flag ]]; then\n"
          "        case $flag in\n",
          stdout);
    print_choices_of_flags(stdout);
    fputs("        esac\n"
          "    elif [[ $current == -* ]]; then\n"
          "        words=\"",
          stdout);
    print_flags(FLAG_GLOBAL, stdout);
    fputs("\"\n        case $command in\n", stdout);
    print_flags_of_commands(stdout);
    fputs("        esac\n"
          "    elif [[ -z $command ]]; then\n"
          "        words=$commands\n"
          "    else\n"
          "        case $command:$count in\n",
          stdout);
    print_words_of_commands(stdout);
    fputs("        esac\n"
          "    fi\n"
          "    if [[ -n $files ]]; then\n"
          "        compopt -o filenames 2>/dev/null\n"
          "        mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
          "    else\n"
          "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
          "    fi\n"
          "}\n"
          "complete -F _duet duet\n",
          stdout);
    return 0;
}
