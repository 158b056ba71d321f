/* Serve: client operations at one replica (design: rules W1, W2, R2, R3, X1-X4). Pure. */
#ifndef STORAGE_SERVE_H
#define STORAGE_SERVE_H

#include "storage/replica.h"

/* Answer op now, or make it wait for a commit or a fetch. cold is NULL, or what the table says of
 * its key, for an operation that waited for that. */
void serve_operation(struct core *c, struct replica *r, const struct operation *op,
                     const struct item *cold);

/* The table was read for the key of k: evaluate what queued behind it, in order. */
void serve_fetched(struct core *c, struct replica *r, struct cold_key *k, uint64_t generation,
                   const struct item *fetched);

/* The slot of k is void: whatever waits for its table is told to ask elsewhere. */
void serve_dropped(struct core *c, struct cold_key *k);

/* p was applied (committed), or cut off: answer its waiters. */
void serve_committed(struct core *c, struct replica *r, struct pending *p);
void serve_abandoned(struct core *c, struct replica *r, struct pending *p);

/* Reads that wait at what is no primary's copy: they are sent to the primary. */
void serve_refuse_readers(struct core *c, struct replica *r);
/* Reads that waited too long at a replica are sent to the primary; what is past its deadline is
 * forgotten (the router has answered it). */
void serve_expire(struct core *c, struct replica *r);

#endif
