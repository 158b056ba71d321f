/* Voting: `duet admin voters`: makes the nodes of a list the voters, and waits until they are. */
#ifndef CLIENT_CLI_VOTING_H
#define CLIENT_CLI_VOTING_H

#include "client/cli/command.h"

/* list: names with commas between them. Returns the exit code; prints. */
int voting_change(const struct context *c, const char *list);

#endif
