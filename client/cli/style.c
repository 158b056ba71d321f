#include "client/cli/style.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int style_width(void)
{
    struct winsize size;
    if (!isatty(STDOUT_FILENO))
        return 0;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return STYLE_WIDTH_DEFAULT;
    return size.ws_col;
}

static bool colours(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && (no == NULL || no[0] == 0) && term != NULL && term[0] != 0 &&
           strcmp(term, "dumb") != 0;
}

const char *style_begin(enum style style)
{
    static const char *const codes[] = {"", "\033[1m", "\033[32m", "\033[1;31m"};
    return colours() ? codes[style] : "";
}

const char *style_end(void)
{
    return colours() ? "\033[0m" : "";
}

void style_wrap(const char *text, int width, int indent, int used)
{
    int column = used;
    while (*text != 0) {
        int size = (int)strcspn(text, " ");
        if (width > 0 && column > indent && column + 1 + size > width) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > used) {
            putchar(' ');
            column++;
        }
        printf("%.*s", size, text);
        column += size;
        text += size;
        text += strspn(text, " ");
    }
    putchar('\n');
}
