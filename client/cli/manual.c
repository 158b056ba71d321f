/* manual: the command table as a manual page, in mdoc(7). */
#include "client/cli/command.h"

#define MANUAL_DATE "November 25, 2026"

/* Text in which nothing is an instruction to the formatter. */
static void print_plain(const char *text, FILE *to)
{
    bool begins = true;
    for (; *text != 0; text++) {
        if (begins && (*text == '.' || *text == '\''))
            fputs("\\&", to);
        begins = *text == '\n';
        if (*text == '\\')
            fputs("\\e", to);
        else if (*text == '-')
            fputs("\\-", to);
        else
            putc(*text, to);
    }
}

/* An argument of a macro: in quotes, for it may have blanks and look like a macro itself. */
static void print_argument(const char *macro, const char *text, FILE *to)
{
    fprintf(to, " %s \"", macro);
    print_plain(text, to);
    putc('"', to);
}

static void print_flags(unsigned groups, FILE *to)
{
    fputs(".Bl -tag -width Ds\n", to);
    for (size_t i = 0; i < flags_rows_count; i++) {
        const struct flag_row *row = &flags_rows[i];
        char name[FLAGS_LONG_SIZE];
        if ((row->group & groups) == 0)
            continue;
        fputs(".It", to);
        if (row->letter != 0)
            fprintf(to, " Fl %c ,", row->letter);
        /* Fl puts one dash before the name. */
        print_argument("Fl", flags_long(row, name) + 1, to);
        if (row->value[0] != 0)
            print_argument("Ns = Ns Ar", row->value, to);
        putc('\n', to);
        print_plain(row->sentence, to);
        if (flags_default_shown(row)) {
            fputs(" (default ", to);
            print_plain(row->default_text, to);
            putc(')', to);
        }
        fputs("\n", to);
    }
    fputs(".El\n", to);
}

static void print_command(const struct command *command, FILE *to)
{
    fprintf(to, ".It Ic %s", command->name);
    if (command->words[0] != 0)
        print_argument("Ar", command->words, to);
    putc('\n', to);
    print_plain(command->sentence, to);
    fputs(".\n", to);
    if (command->help[0] != 0) {
        fputs(".Bd -literal\n", to);
        print_plain(command->help, to);
        fputs(".Ed\n", to);
    }
    if (command->groups != 0)
        print_flags(command->groups, to);
}

static void print_commands(FILE *to)
{
    for (size_t i = 0; i < commands_count; i++) {
        if (i == 0 || commands[i].section != commands[i - 1].section)
            fprintf(to, "%s.Ss %s\n.Bl -tag -width Ds\n", i == 0 ? "" : ".El\n",
                    command_sections[commands[i].section]);
        print_command(&commands[i], to);
    }
    fputs(".El\n", to);
}

static const char head[] =
    ".Sh NAME\n"
    ".Nm duet\n"
    ".Nd command line of the distributed key\\-value store Duet\n"
    ".Sh SYNOPSIS\n"
    ".Nm\n"
    ".Ar command\n"
    ".Op Ar words\n"
    ".Op Ar flags\n"
    ".Nm\n"
    ".Op Ar flags\n"
    ".Sh DESCRIPTION\n"
    "Without a command,\n"
    ".Nm\n"
    "reads commands: on a terminal with history and completion, otherwise as a script.\n"
    "Flags may stand anywhere; a word\n"
    ".Ql \\-\\-\n"
    "ends them.\n"
    "Data goes to standard output, everything else to standard error.\n"
    "A value of\n"
    ".Ql \\-\n"
    "is read from standard input.\n"
    ".Pp\n"
    "Every write is acknowledged when it is on the disk of every copy, and happens at most once.\n"
    "An operation is done, not done, or in doubt: no answer came before the deadline, and the\n"
    "write may or may not have happened.\n"
    ".Sh COMMANDS\n";

static const char middle[] = ".Sh OPTIONS\n"
                             "Every command takes these; others stand with their command.\n";

static const char tail[] = ".Sh ENVIRONMENT\n"
                           ".Bl -tag -width Ds\n"
                           ".It Ev DUET_ROUTERS\n"
                           "router addresses, when\n"
                           ".Fl \\-routers\n"
                           "is not given.\n"
                           ".It Ev DUET_READ\n"
                           "how keys are read, when\n"
                           ".Fl \\-read\n"
                           "is not given.\n"
                           ".It Ev XDG_CONFIG_HOME , XDG_STATE_HOME\n"
                           "where contexts and history lie, instead of the home folder.\n"
                           ".It Ev NO_COLOR\n"
                           "when set and not empty: no colours.\n"
                           ".El\n"
                           ".Sh FILES\n"
                           ".Bl -tag -width Ds -compact\n"
                           ".It Pa ~/.config/duet/contexts\n"
                           "named sets of routers.\n"
                           ".It Pa ~/.duet_history\n"
                           "lines of the interactive mode.\n"
                           ".El\n"
                           ".Sh EXIT STATUS\n"
                           ".Bl -tag -width Ds -compact\n"
                           ".It 0\nok\n"
                           ".It 1\nthere is no such key\n"
                           ".It 2\nwrong use\n"
                           ".It 3\ncannot connect\n"
                           ".It 4\ntimeout, or in doubt\n"
                           ".It 5\nan error of the server\n"
                           ".It 6\nthe condition is not met\n"
                           ".El\n"
                           ".Pp\n"
                           "A script ends with the code of its last command that failed.\n"
                           ".Sh EXAMPLES\n"
                           ".Bd -literal -offset indent\n"
                           "duet put apple red\n"
                           "duet get apple\n"
                           "duet put apple green \\-\\-if\\-version 4.17\n"
                           "tar c folder | duet put backup \\-\n"
                           "duet export \\-\\-format jsonl | gzip > all.jsonl.gz\n"
                           ".Ed\n";

int manual_run(struct context *c)
{
    (void)c;
    printf(".Dd " MANUAL_DATE "\n.Dt DUET 1\n.Os Duet %s\n%s", duet_version_text(), head);
    print_commands(stdout);
    fputs(middle, stdout);
    print_flags(FLAG_GLOBAL, stdout);
    fputs(tail, stdout);
    return 0;
}
