/* duet: the command line. */
#include <signal.h>
#include <stdlib.h>

#include "client/cli/invoke.h"

int main(int argc, char **argv)
{
    /* A reader that has gone, like head, is no accident: writes say so, and that is enough. */
    signal(SIGPIPE, SIG_IGN);
    struct context c = {0};
    struct flags flags;
    flags_default(&flags);
    int code = invoke_words(&c, &flags, argc, argv);
    command_disconnect(&c);
    free(c.entry);
    return code;
}
