#include "storage/fault.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static char words[4400]; /* ready before it happens: a handler can do next to nothing */

static void on_fault(int number)
{
    (void)number;
    ssize_t ignored = write(STDERR_FILENO, words, strlen(words));
    (void)ignored;
    _exit(EX_IOERR);
}

void fault_init(const char *path)
{
    snprintf(words, sizeof words,
             "duet-storage: cannot read '%s/data.mdb': the disk fails, or the file was cut short; "
             "the node ends. See `dmesg` for the disk; this node's data is on the other copies\n",
             path);
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGBUS, &action, NULL);
}
