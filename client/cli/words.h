/* Words: a line as a shell would split it.
 *
 * Blanks part words; 'quotes' keep all as it is; in "double quotes" a backslash keeps only a quote, a
 * backslash or a dollar sign from its meaning; outside of quotes a backslash keeps the next byte. A
 * word that begins with # and all behind it is a comment. Nothing is expanded. Pure.
 */
#ifndef CLIENT_CLI_WORDS_H
#define CLIENT_CLI_WORDS_H

#include <stdbool.h>
#include <stddef.h>

struct words {
    int count;
    char **items;  /* count of them, then NULL; items[0] is "duet", as in argv */
    char *storage; /* where they stand */
    bool open;     /* the last one could still grow: no blank follows it */
};

/* Split line. NULL when it went well, otherwise what is wrong with it (then, too, words holds what
 * came before, with an open quote taken as closed: completion wants that). words is to be given to
 * words_fini() in either case. */
const char *words_split(struct words *words, const char *line, size_t size);
void words_fini(struct words *words);

#endif
