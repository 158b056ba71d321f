/* Style: what the terminal can do. */
#ifndef CLIENT_CLI_STYLE_H
#define CLIENT_CLI_STYLE_H

#include <stdbool.h>
#include <stdio.h>

#define STYLE_WIDTH_DEFAULT 80

enum style { STYLE_PLAIN, STYLE_BOLD, STYLE_GOOD, STYLE_BAD };

/* Columns of the terminal behind fd; 0: it is none, lines may be as long as they like. */
int style_width(int fd);

/* What to print before text in this style, and style_end() behind it: "" unless stdout is a
 * terminal that has colours, and NO_COLOR is not set. */
const char *style_begin(enum style style);
const char *style_end(void);

/* Print text in lines of at most width columns (0: one line), the second and following ones behind
 * indent blanks; the cursor stands at column used already. A word that is longer than a line stays
 * whole, and so do blanks inside of a line. Ends with a newline. */
void style_wrap(FILE *to, const char *text, int width, int indent, int used);

#endif
