/* Client: the thread of a client, its sockets, and the way in for operations.
 *
 * - duet_open(), duet_close() and friends: see duet.h
 * - client_submit()     the one way in; calls.c builds the public calls on it
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "client/duet.h"
#include "client/session.h"

/* A result in somebody's memory. Results that the user owns have their value behind them. */
struct duet_result {
    enum duet_code code;
    uint32_t flags; /* DUET_* */
    uint32_t copies;
    bool has_value;
    enum duet_read read;
    struct duet_version version;
    struct duet_id id;
    struct duet_slice value;
};

/* As duet_submit(). */
enum duet_code client_submit(struct duet_client *c, const struct session_operation *op,
                             uint32_t timeout_ms, bool nowait, duet_callback *callback, void *user,
                             struct duet_error *reterr);

/* Is this the thread of c, or has c none, so that waiting for c would never end? */
bool client_is_own_thread(const struct duet_client *c);
/* DUET_USAGE, with the words for a call that would wait there. */
enum duet_code client_refuse_wait(struct duet_error *reterr);

/* How it reads when an operation does not say. */
enum duet_read client_read(const struct duet_client *c);

/* Tell in reterr (may be NULL) what an operation's outcome means; returns code. */
enum duet_code client_explain(struct duet_client *c, enum duet_code code, uint32_t flags,
                              struct duet_error *reterr);

#endif
