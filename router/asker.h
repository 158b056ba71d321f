/* Asker: one client id on one connection, while operations of it are in flight.
 *
 * What was answered in one turn gathers here, so that it leaves as one message.
 *
 * - askers_get()      the asker of (source, client id), made when there is none
 * - asker_put()       one operation less; the asker goes with its last one
 * - askers_gone()     a connection is gone
 *
 * Pure. As many askers as slots, made once.
 */
#ifndef ROUTER_ASKER_H
#define ROUTER_ASKER_H

#include "router/operation.h"

struct asker {
    uint64_t source, client_id;
    uint32_t operations_count; /* slots that name it */
    bool gone;                 /* nobody listens any more */

    struct operation_list answered; /* to leave with the next flush */
    struct asker *answering_next;   /* in the coordinator's list of those with answers */
    bool answering;

    struct asker *next; /* in its bucket, or free */
};

struct askers {
    struct asker *askers;
    struct asker **buckets;
    uint32_t buckets_count; /* a power of two */
    struct asker *free;
    uint64_t seed;
};

/* False when out of memory. */
bool askers_init(struct askers *a, uint32_t count, uint64_t seed);
void askers_fini(struct askers *a);

/* Never NULL while fewer than `count` operations are in flight. */
struct asker *askers_get(struct askers *a, uint64_t source, uint64_t client_id);
void asker_put(struct askers *a, struct asker *asker);

/* Mark all askers of source; true when there was one. */
bool askers_gone(struct askers *a, uint64_t source);

#endif
