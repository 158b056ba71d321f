/* Counting router: a router in a thread, over real sockets, whose keys are counters. For tests of
 * libduet that are not about what a store does.
 */
#ifndef TESTS_LIB_COUNTING_ROUTER_H
#define TESTS_LIB_COUNTING_ROUTER_H

#include <stdbool.h>
#include <stdint.h>

#define COUNTING_ROUTER_KEYS 64 /* keys are the texts "0" to "63" */

struct counting_router;

/* NULL: no port, no memory. */
struct counting_router *counting_router_new(void);
void counting_router_destroy(struct counting_router **router_p);

/* "tcp://127.0.0.1:PORT" */
const char *counting_router_address(const struct counting_router *r);
/* While it holds, requests are left without an answer. Any thread. */
void counting_router_hold(struct counting_router *r, bool hold);
/* Every n-th operation is refused for now; 0: none. Any thread. */
void counting_router_refuse(struct counting_router *r, unsigned n);

#endif
