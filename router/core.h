/* Core: what the parts of the coordinator share. Only coordinator.c, intake.c, dispatch.c,
 * answers.c, peers.c and report.c include it.
 *
 *   client frame -> intake -> dispatch -> (BATCH)   -> node
 *   client       <- answers <- dispatch <- peers    <- node frame
 *
 * - intake    what clients say: checks, slots, the small questions
 * - dispatch  which operation goes where and when; rules of order and retry
 * - peers     the nodes: connections, health, map
 * - answers   what goes back to clients; slots end here
 * - report    STATUS
 */
#ifndef ROUTER_CORE_H
#define ROUTER_CORE_H

#include "proto/base/arena.h"
#include "proto/clustermap.h"
#include "router/asker.h"
#include "router/coordinator.h"
#include "router/health.h"
#include "router/lane.h"
#include "router/operation.h"
#include "router/wheel.h"

/* Answers borrow their values from the node's message that brought them, until the flush. After so
 * many messages in one turn the answers leave early. */
#define CORE_RESULTS_MAX 16

/* The keys and operations of one request, in one piece of memory, shared by its slots. */
struct parcel {
    uint32_t operations_count; /* slots that name it */
    size_t size;

    /* One answer for all of them: it leaves when the last one is answered. What becomes too large
     * for one message is whole no longer, unless the client can take but one (a REQ socket). */
    bool whole, single;
    uint32_t unanswered_count;
    size_t answer_size;
    struct operation_list answered;
    struct parcel *ready_next;

    uint8_t bytes[];
};

/* One node, or one seed of which it is not known yet which node it is. */
struct peer {
    char address[ADDRESS_SIZE_MAX];
    uint32_t map_index; /* NODE_NONE: not in the map */
    uint64_t boot_id;   /* 0: not known yet */
    bool foreign;       /* of another cluster */
    struct health health;
    uint32_t connection;         /* raised whenever what was on its way may be lost */
    struct operation_list sent;  /* in the order in which they are sent */
    uint32_t unflushed;          /* the first of them that is not yet in a batch */
    bool batching;               /* in the coordinator's list of those */
    bool map_asked;
    uint64_t map_asked_ms;
    bool connection_owed; /* the shell has not been told to connect: there was no memory */
    enum effect_kind connection_kind;
};

struct coordinator {
    struct coordinator_options options;
    char name[NAME_SIZE_MAX];
    struct health_limits health_limits;
    struct coordinator_counters counters;

    /* Of the call that is going on. */
    uint64_t now_ms;
    struct effects *out;

    bool started;
    uint64_t ptime; /* highest of a committed entry that any node told */
    uint64_t pings_count;
    uint64_t round; /* of dispatch_wake() */

    struct operation *slots;
    uint32_t free, free_count; /* slots, linked through next; the last one freed is warmest */
    struct operation_list waiting;
    struct lanes lanes;
    struct askers askers;
    struct wheel wheel; /* slots first, then peers */

    struct asker *answering;      /* have answers for the next flush */
    struct parcel *ready;         /* whole ones that are complete */

    struct peer *peers;
    uint32_t peers_count;
    uint32_t connections_owed; /* of the peers */
    uint32_t batching[COORDINATOR_NODES_MAX]; /* peers that have unflushed operations */
    uint32_t batching_count;

    struct clustermap *map;
    uint32_t peer_of[NODES_MAX]; /* by index in the map */

    struct arena scratch;                   /* of the message that is being read */
    struct arena results[CORE_RESULTS_MAX]; /* of results whose answers have not left */
    uint32_t results_used;

    /* Room for building one message. */
    struct batch batch;
    struct answer answer;
};

static inline void core_note(struct coordinator *c, enum effect_note note, uint32_t node,
                             uint64_t source, uint64_t amount)
{
    struct effect *e = effects_add(c->out, EFFECT_NOTE);
    if (e == NULL)
        return;
    e->note = note;
    e->node = node;
    e->source = source;
    e->amount = amount;
}

#endif
