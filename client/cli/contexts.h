/* Contexts: sets of routers with a name, in a file of the user's.
 *
 * $XDG_CONFIG_HOME/duet/contexts, else ~/.config/duet/contexts; a line is NAME = ROUTERS, perhaps with
 * read=any or read=confirm behind them, which is how its keys are read; the line
 * "current = NAME" says which one is in use, # begins a comment. Edits keep the other lines as they
 * are and take effect at once or not at all.
 */
#ifndef CLIENT_CLI_CONTEXTS_H
#define CLIENT_CLI_CONTEXTS_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/status.h"

#define CONTEXTS_NAME_SIZE    64
#define CONTEXTS_ROUTERS_SIZE 2304 /* all the addresses that a client takes */
#define CONTEXTS_DEFAULT      "default" /* no context: the address that needs none */

struct contexts_entry {
    char name[CONTEXTS_NAME_SIZE];
    char routers[CONTEXTS_ROUTERS_SIZE];
    char read[16]; /* "": the context does not say */
};

#define CONTEXTS_READS "linearizable|confirm|any"

/* The context with this name, or the one in use when name is NULL. STATUS_OK; STATUS_NOTFOUND: none
 * is in use (no error is set); STATUS_CONFIG: there is no such one, or the file is wrong. */
enum status contexts_find(const char *name, struct contexts_entry *ret, struct error *reterr);

/* Entry number index (from 0). False: there are fewer, or the file cannot be read. */
bool contexts_entry(size_t index, struct contexts_entry *ret, bool *ret_current);

#endif
