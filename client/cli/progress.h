/* Progress: how far a long work is, on stderr when that is a terminal, and what it came to. */
#ifndef CLIENT_CLI_PROGRESS_H
#define CLIENT_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *verb; /* "imported" */
    bool shown;       /* while it runs */
    bool quiet;       /* not even at the end */
    uint64_t begin_ms, last_ms;
    uint64_t records, bytes;
    uint64_t total_bytes; /* 0: not known */
    double part;          /* done, 0 to 1, where bytes are not what counts; 0: not known */
};

void progress_begin(struct progress *p, const char *verb, uint64_t total_bytes, bool quiet);
/* Count one record of this many bytes. */
void progress_add(struct progress *p, uint64_t bytes);
/* So many records, and such a part of all (0 to 1; 0: not known), are done by now. */
void progress_part(struct progress *p, uint64_t records, double part);
/* Clear the line, print the sum and the rate. */
void progress_end(struct progress *p);

#endif
