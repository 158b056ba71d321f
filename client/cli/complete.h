/* Complete: what may stand where the cursor is, from the command table. The interactive mode's half
 * of what bash.c writes for bash. */
#ifndef CLIENT_CLI_COMPLETE_H
#define CLIENT_CLI_COMPLETE_H

#include "client/cli/words.h"

#define COMPLETE_MAX      256
#define COMPLETE_SIZE_MAX 16384

struct complete {
    size_t count;
    const char *items[COMPLETE_MAX]; /* whole words that begin with what stands there */
    const char *current;             /* the word under the cursor, "" when it has not begun */
    char hint[256];                  /* how the command is written; "" when there is none yet */
    size_t used;
    char storage[COMPLETE_SIZE_MAX]; /* of the items */
};

/* words: the line up to the cursor, split. ret borrows from it. */
void complete_words(const struct words *words, struct complete *ret);

/* How many bytes all items have in common. */
size_t complete_common(const struct complete *complete);

#endif
