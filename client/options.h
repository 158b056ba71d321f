/* Options: what a client was told, checked. */
#ifndef CLIENT_OPTIONS_H
#define CLIENT_OPTIONS_H

#include "client/duet.h"
#include "client/session.h"

struct duet_options {
    char routers[SESSION_ROUTERS_MAX][ADDRESS_SIZE_MAX];
    uint32_t routers_count;
    uint32_t timeout_ms, window;
    enum duet_read read; /* not DEFAULT */
    char name[NAME_SIZE_MAX];
    bool by_caller; /* no thread: the caller's loop dispatches */
};

void options_default(struct duet_options *options);

#endif
