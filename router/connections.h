/* Connections: the numbers that the coordinator knows the clients' connections by.
 *
 * A ROUTER socket does not tell when a connection ends. It is noticed when an answer cannot be
 * sent; a connection that said nothing for CONNECTIONS_IDLE_MS is forgotten too (should it speak
 * again, it gets a new number: nothing of it was in flight).
 */
#ifndef ROUTER_CONNECTIONS_H
#define ROUTER_CONNECTIONS_H

#include "proto/link.h"

#define CONNECTIONS_IDLE_MS 600000u

struct connections;

struct connection {
    struct link_peer peer;
    uint64_t source; /* its number, never used again */
    uint64_t used_ms;
    uint64_t complained_ms; /* when it was last in the log; 0: never */
};

/* NULL when out of memory. */
struct connections *connections_new(size_t count_max);
void connections_destroy(struct connections **c_p);

/* Borrow the connection of peer, made when it is new; valid until it is removed. NULL at the
 * limit or when out of memory. */
struct connection *connections_by_peer(struct connections *c, const struct link_peer *peer,
                                       uint64_t now_ms);
/* NULL when there is none of this number. */
struct connection *connections_by_source(struct connections *c, uint64_t source);
void connections_remove(struct connections *c, struct connection *connection);

/* Remove the connections that have been idle for long. */
void connections_sweep(struct connections *c, uint64_t now_ms);

size_t connections_count(const struct connections *c);

#endif
