/* Calls: what the calls of the library share: an operation's translation, and waiting for it. */
#ifndef CLIENT_CALLS_H
#define CLIENT_CALLS_H

#include "client/client.h"

/* DUET_USAGE for what no operation can be. */
enum duet_code calls_check(const struct duet_operation *op, struct duet_error *reterr);
/* A write (not a get, an outcome) as it travels; views into op. */
struct write calls_write(const struct duet_operation *op);

/* Submit one operation and wait for it; timeout_ms 0: the client's. *ret_result (may be NULL) is the
 * caller's. */
enum duet_code calls_run(struct duet_client *client, const struct session_operation *op,
                         uint32_t timeout_ms, struct duet_result **ret_result,
                         struct duet_error *reterr);

/* The i-th operation about items; views into them. */
typedef struct duet_operation calls_nth_fn(const void *items, size_t i);

/* Submit count operations and wait for all. Their results are the caller's, NULL where one was not
 * taken. DUET_OK when each was answered (NOTFOUND is an answer), else the code of the first that was
 * not. */
enum duet_code calls_run_many(struct duet_client *client, calls_nth_fn *nth, const void *items,
                              size_t count, struct duet_result **ret_results,
                              struct duet_error *reterr);

#endif
