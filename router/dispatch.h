/* Dispatch: which operation goes where, and when. Part of the coordinator (core.h).
 *
 * Rules (router/README.md explains; tests refer to the numbers):
 * (1) A write goes to the partition's primary. So does a read, unless the primary is silent; then
 *     it goes to another in-sync copy.
 * (2) Operations of one connection on one key take effect in the order sent (lane.h): one that
 *     would overtake an earlier one waits, unless both are reads.
 * (3) What was on its way to a node that fell silent, or came back as another process, is sent
 *     again with the same ids, in the same order per key: reads at once to another copy, writes
 *     when the primary answers again.
 * (4) A refused write is sent again only if no later operation of its lane may have been executed;
 *     if one may, the client hears the refusal (or, after an attempt that was lost, of the doubt).
 *     Nor is a read that was refused or lost, when that operation is a write: it would show it.
 * (5) At the deadline the client hears what operation_failure() says (rule X4).
 * (6) A read that any copy may answer goes to any, and to another one when that is silent or refuses; it
 *     has no order with other operations.
 */
#ifndef ROUTER_DISPATCH_H
#define ROUTER_DISPATCH_H

#include "router/answers.h"

/* A new operation, FREE and valid: it goes or waits. */
void dispatch_start(struct coordinator *c, uint32_t index);

/* The operation needs no node: it is answered with status. FREE, in no lane. */
void dispatch_invalid(struct coordinator *c, uint32_t index, enum status status);

/* A node's result for a token. */
void dispatch_result(struct coordinator *c, uint32_t node, uint64_t token,
                     const struct result *result);

/* The time that the operation waited for has come. */
void dispatch_timer(struct coordinator *c, uint32_t index);

/* Whatever is on its way to the node may be lost. */
void dispatch_lose(struct coordinator *c, uint32_t node);

/* A node answers again, or the map changed: look at everything that waits. */
void dispatch_wake(struct coordinator *c, bool map_changed);

/* One BATCH, or several, for each node that something goes to. */
void dispatch_flush(struct coordinator *c);

#endif
