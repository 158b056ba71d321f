/* Caller: a client: a session, its hands, and the workload that it makes up. */
#ifndef TESTS_SIM_CALLER_H
#define TESTS_SIM_CALLER_H

#include "proto/base/bytes.h"
#include "tests/sim/network.h"

struct caller;
struct checker_operation;
struct world;

struct caller *caller_new(struct world *w, uint32_t index);
void caller_destroy(struct caller **c_p);

/* Connect to the routers. */
void caller_start(struct caller *c);
/* Make up operations, this many. */
void caller_work(struct caller *c, uint32_t operations);
/* No more of its own operations. */
void caller_stop(struct caller *c);

/* Ask one operation, outside of the workload. False: its window is full. *ret_item (may be NULL) is
 * its number in the history. */
bool caller_ask(struct caller *c, uint32_t key, const struct checker_operation *op,
                uint64_t timeout_ms, size_t *ret_item);

#define CALLER_BATCH_MAX 4

/* Several writes as one, all on keys of one hash tag. False: its window is full. */
bool caller_ask_batch(struct caller *c, const uint32_t *keys, struct checker_operation *ops,
                      uint32_t count, uint64_t timeout_ms);

/* What became of this item, which is in doubt? */
void caller_ask_outcome(struct caller *c, size_t item);

/* Walk over the whole store, page by page. fn is called for each key. *ret_ended becomes true at
 * the end, or when a page fails. */
typedef void caller_row_fn(void *arg, struct bytes key, struct bytes value);
void caller_walk(struct caller *c, caller_row_fn *fn, void *arg, bool *ret_ended);
/* Did the last walk come to the end? */
bool caller_walked(const struct caller *c);

/* The router that it uses. */
uint32_t caller_router(const struct caller *c);
/* Operations that were asked and not heard of. */
uint32_t caller_pending(const struct caller *c);
/* Has it asked all that it was to ask? */
bool caller_finished(const struct caller *c);

/* What the session counted, into world->reached. */
void caller_count(struct caller *c);

/* Handlers of the network. */
void caller_answered(struct caller *c, uint32_t socket, struct bytes frame);
void caller_connected(struct caller *c, uint32_t socket, bool connected);

#endif
