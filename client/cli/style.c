#include "client/cli/style.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int style_width(int fd)
{
    struct winsize size;
    if (!isatty(fd))
        return 0;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
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

void style_wrap(FILE *to, const char *text, int width, int indent, int used)
{
    int column = used;
    while (*text != 0) {
        int blanks = (int)strspn(text, " ");
        int size = (int)strcspn(text + blanks, " ");
        if (width > 0 && column > indent && column + blanks + size > width) {
            fprintf(to, "\n%*s", indent, "");
            column = indent;
            blanks = 0;
            text += strspn(text, " ");
        }
        fprintf(to, "%.*s", blanks + size, text);
        column += blanks + size;
        text += blanks + size;
    }
    putc('\n', to);
}
