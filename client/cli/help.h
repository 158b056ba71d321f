/* Help: the command table as text for people. */
#ifndef CLIENT_CLI_HELP_H
#define CLIENT_CLI_HELP_H

#include "client/cli/command.h"

/* Help on stdout: of all commands, and of one. */
void help_all(void);
void help_command(const struct command *command);

/* Say that there is no such command, and which one was perhaps meant. Returns the exit code. */
int help_unknown(const char *name);

#endif
