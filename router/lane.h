/* Lane: the operations in flight of one connection on one key, in the order in which they came.
 *
 * Rule W8 needs it: operations of one connection on one key take effect in that order. (Keys with
 * the same 64-bit digest, those with one hash tag among them, share a lane: that holds back too
 * much, never too little.) A lane exists while an operation is in it.
 *
 * - lane_join() / lane_leave()
 * - lane_sent(), lane_waiting(), lane_unsent()   keep its counts
 * - lane_clear()     may an operation that has just joined go to this link at once?
 *
 * Pure. As many lanes as slots, made once.
 */
#ifndef ROUTER_LANE_H
#define ROUTER_LANE_H

#include "router/operation.h"

#define LANE_NONE UINT32_MAX

struct lane {
    uint64_t source, digest;
    uint32_t head, tail; /* linked through lane_next, lane_prev */
    uint32_t count;      /* operations in it */
    uint32_t writes;     /* of them, those that may change something */
    uint32_t sent, waiting; /* of them, by state */

    /* Where the sent ones went: node in the low half, its connection in the high half. Over one
     * link they arrive in order; mixed: they went over several. */
    uint64_t link;
    bool mixed;

    uint64_t position_last;     /* given to the last that joined */
    uint64_t position_executed; /* highest of those that left after a node may have executed them */
    uint64_t position_written;  /* the same of the writes among them */

    /* For whoever walks it. */
    bool walking, again;
    uint64_t round;

    uint32_t next; /* in its bucket, or free */
};

struct lanes {
    struct operation *slots;
    struct lane *lanes;
    uint32_t *buckets;
    uint32_t buckets_count; /* a power of two */
    uint32_t free;
    uint64_t seed; /* so that nobody can choose keys that fall into one bucket */
};

/* False when out of memory. slots are count operations, borrowed. */
bool lanes_init(struct lanes *l, struct operation *slots, uint32_t count, uint64_t seed);
void lanes_fini(struct lanes *l);

static inline uint64_t lane_link(uint32_t node, uint32_t connection)
{
    return (uint64_t)connection << 32 | node;
}

/* Put the operation at the end of its lane. */
void lane_join(struct lanes *l, uint64_t source, uint32_t index);
/* Take it out, from whatever place; executed: a node may have executed it. The lane goes with its
 * last operation, unless it is being walked: then lane_release() does it. */
void lane_leave(struct lanes *l, uint32_t index, bool executed);
void lane_release(struct lanes *l, uint32_t lane);

/* The operation, in a lane, went over link; began to wait; does so no more. */
void lane_sent(struct lanes *l, uint32_t index, uint64_t link);
void lane_unsent(struct lanes *l, uint32_t index);
void lane_waiting(struct lanes *l, uint32_t index);
void lane_unwaiting(struct lanes *l, uint32_t index);

/* True when nothing that came before may be overtaken by sending it over link now. */
bool lane_clear(const struct lanes *l, uint32_t index, uint64_t link);

#endif
