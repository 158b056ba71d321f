/* Ask: one question to many processes at once, each over a link of its own. */
#ifndef CLIENT_CLI_ASK_H
#define CLIENT_CLI_ASK_H

#include "proto/base/buffer.h"
#include "proto/message.h"

struct ask {
    const char *address;
    struct bytes question; /* a frame */
    bool skip;             /* do not ask */

    /* Set by ask_all(). */
    bool answered;
    enum message_kind kind;
    struct buffer answer; /* a frame; the caller's to buffer_fini() */
    uint64_t elapsed_ns;  /* from the sending */
    struct error error;   /* when not answered: why */
};

/* Send each question once its link is connected, take the first frame that comes back. Returns when
 * all have answered or the time is over, which it is sooner once some have: how many have. */
size_t ask_all(struct ask *asks, size_t count, uint64_t timeout_ms);

#endif
