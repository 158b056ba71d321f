/* Invoke: from words to a command that has run. The command line and each line of the interactive
 * mode come through here. */
#ifndef CLIENT_CLI_INVOKE_H
#define CLIENT_CLI_INVOKE_H

#include "client/cli/command.h"

/* Run what argv[1] and following say: flags over those of base, the command, its words. c keeps its
 * client for the next call. Returns the exit code; mistakes are printed. */
int invoke_words(struct context *c, const struct flags *base, int argc, char **argv);

/* Set c->routers (and c->name) and c->read as flags, environment and contexts say. 0, or the exit
 * code. */
int invoke_routers(struct context *c);

#endif
