/* Operation: one client's operation on its way through the router.
 *
 *               request
 *                  |  taken into a slot
 *                  v
 *                FREE
 *                  |  may go              .---------------------- may go ----------------.
 *                  +----------------> SENT                                               |
 *                  |                    |  | refused for now, node silent or restarted,  |
 *                  |                    |  | no answer in attempt_ms                     |
 *                  |  must wait         |  v                                             |
 *                  +--------------------)-> WAITING -------------------------------------'
 *                  |                    |     |
 *                  |  not valid         |     | deadline, or may not be tried again
 *                  v                    v     v
 *               ANSWERED <-- answer, refusal for good, deadline
 *                  |  the client's message is packed
 *                  v
 *                FREE
 *
 * SENT      one attempt is on its way (or in the node's next batch); its slot and generation are on
 *           the wire.
 * WAITING   nothing is on its way; successors on the same key are held back.
 * ANSWERED  the result is known and leaves with the next flush; a later one is counted and dropped.
 *
 * Rule X4: a write is *not done* only if every attempt that left was refused
 * (refused_count == attempts_count); otherwise, without an answer, it is in doubt.
 *
 * Pure; operations live in the coordinator's array of slots and are named by their index in it.
 */
#ifndef ROUTER_OPERATION_H
#define ROUTER_OPERATION_H

#include "proto/base/bytes.h"
#include "proto/base/status.h"
#include "proto/message.h"

#define OPERATION_NONE UINT32_MAX
#define NODE_NONE UINT32_MAX

struct asker;
struct parcel;

enum operation_state { OPERATION_FREE, OPERATION_SENT, OPERATION_WAITING, OPERATION_ANSWERED };

struct operation {
    /* Fixed when the request arrives. key and body lie in the parcel. */
    struct parcel *parcel;
    struct asker *asker;
    enum operation_kind kind;
    uint64_t client_id, seq, ack_below;
    uint64_t deadline_ms;
    uint64_t digest;
    struct bytes key, body;
    bool any_copy; /* a read that any copy may answer, in no order with others (R6) */
    uint8_t cursor[8]; /* the key of a scan that goes on in a later partition by itself */
    uint32_t partitions_skipped;

    /* Grows with the attempts; refused_count <= attempts_count. */
    enum operation_state state;
    uint64_t ptime_token;     /* may change as long as no attempt may have been executed */
    uint32_t generation;      /* of the slot: another one in each attempt */
    uint32_t attempts_count;  /* that left */
    uint32_t refused_count;   /* of them, answered as not executed */
    enum status refusal;      /* the last one; STATUS_OK: there was none */
    bool refused_last;        /* the newest attempt was refused, rather than lost */
    bool redirected;          /* waits for a newer map, or for its pause */
    uint32_t pause_ms;        /* the last pause; the next one is longer */
    uint64_t ready_ms;        /* WAITING: not before */
    uint32_t node;            /* SENT: where to */

    /* The answer. value is borrowed until the flush, or it is `owned`. */
    enum status status;
    uint32_t flags;
    struct version version;
    struct bytes value;
    uint8_t *owned;
    size_t owned_size;

    /* Links. An operation is in one list at a time: free, sent of a node, waiting, answered. */
    uint32_t next, prev;
    uint32_t lane, lane_next, lane_prev; /* lane.h; OPERATION_NONE: in no lane */
    uint64_t position;                   /* in its lane */
};

/* Operations in order, linked through next and prev. */
struct operation_list {
    uint32_t head, tail;
    uint32_t count;
};

void operation_list_init(struct operation_list *l);
void operation_list_append(struct operation *slots, struct operation_list *l, uint32_t index);
void operation_list_remove(struct operation *slots, struct operation_list *l, uint32_t index);

/* The only function that writes `state`; the move must be in the drawing. */
void operation_move(struct operation *op, enum operation_state to);

/* May it change something? OUTCOME may: it makes sure that a write never happens. */
bool operation_writes(const struct operation *op);

/* Was there an attempt that was not refused, so that a node may have executed it? */
bool operation_executed_maybe(const struct operation *op);

/* What a node's status means for an operation. */
enum verdict {
    VERDICT_ANSWER,   /* it is the answer */
    VERDICT_REDIRECT, /* not executed: the map was older, or another copy must answer */
    VERDICT_PAUSE,    /* not executed: try again after a pause */
    VERDICT_REFUSED,  /* not executed, and trying again is of no use */
};
enum verdict operation_verdict(enum status s);

/* Count a refusal of the newest attempt. */
void operation_refused(struct operation *op, enum status s);

/* The pause before the next attempt: it doubles from pause_min_ms to pause_max_ms. */
uint32_t operation_pause(struct operation *op, uint32_t pause_min_ms, uint32_t pause_max_ms);

/* What to say when it ends without an answer. */
enum status operation_failure(const struct operation *op);

/* Check what a client sent. key is the cursor for a scan. STATUS_OK, STATUS_USAGE, STATUS_TOOBIG or
 * STATUS_UNSUPPORTED. */
enum status operation_check(uint32_t kind, struct bytes key, struct bytes body,
                            uint32_t value_size_max);

/* Is it a read that any copy may answer? */
bool operation_any_copy(uint32_t kind, struct bytes body);

/* The first 8 bytes of a scan's cursor; 0 for an empty one. */
uint64_t operation_cursor_digest(struct bytes cursor);

#endif
