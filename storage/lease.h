/* Lease: promises between pairs of nodes, in heartbeats (design: rules L1, L2, L5, R1). Pure.
 *
 * A grant of B to A for a partition says: until it runs out, B opens no commits in a configuration
 * that leaves A out. While A holds one from every other member of the opened epoch it has promised,
 * what it has committed is the newest there is, and it may answer reads of clean keys.
 *
 *   A                                                  B
 *   | heartbeat: sent_ms = t, p at epoch 7  ---------> |  B has promised 7, too:
 *   |                                                  |  granted_until = now + (1.021 L + 10 ms)
 *   | <--------- heartbeat: echo_ms = t, p at 7 granted|
 *   | lease_until = t + L                              |
 *
 * A counts from when it asked, B from when it heard: whatever the network does and whatever the
 * clocks do within 1 %, A stops before B goes on. Both must have promised the same epoch: when the
 * grant is given, and when it is counted.
 */
#ifndef STORAGE_LEASE_H
#define STORAGE_LEASE_H

#include "storage/replica.h"

/* Put what we ask of node, and what we grant it, into h. Arrays are c->arena's. */
void lease_ask(struct core *c, uint32_t node, struct heartbeat *h);
/* A heartbeat of a peer in its present incarnation. True: an answer at once would give somebody a
 * lease that he has not got yet. */
bool lease_heard(struct core *c, const struct heartbeat *h);

/* Has every other member of r's configuration granted a lease beyond now_ms? */
bool lease_holds(const struct replica *r, uint64_t now_ms);
/* Until when may a node that is no member of r's configuration still read? 0: none may. */
uint64_t lease_fence_ms(const struct replica *r);
/* What a restarted node has to wait until none of its forgotten grants can be alive (L4). */
uint64_t lease_longest_ms(const struct core *c);

#endif
