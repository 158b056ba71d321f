/* Window: the operations of a session that are not answered, by number.
 *
 * Knows ids, tokens, deadlines, retries and the order per key; knows nothing of routers. Pure; a
 * part of the session, whose head has the picture and the invariants.
 *
 * - window_take()      a new operation: QUEUED
 * - window_pack()      what is QUEUED leaves: SENT
 * - window_answer()    one operation's answer: done, or PAUSED for a retry
 * - window_requeue()   nobody will answer what was SENT: QUEUED again, in doubt when a write; a
 *                      read with a later write behind it ends
 * - window_tick()      pauses end, deadlines pass
 */
#ifndef CLIENT_WINDOW_H
#define CLIENT_WINDOW_H

#include "client/session.h"

enum slot_state { SLOT_DONE, SLOT_QUEUED, SLOT_SENT, SLOT_PAUSED, SLOT_DOUBTED };

struct slot {
    /* Fixed when the operation is taken. */
    enum operation_kind kind;
    uint64_t seq;
    uint64_t key_hash; /* 0: no key, no order (scans, ranges, outcome queries, reads of any copy) */
    uint64_t tag_hash; /* of the key's hash tag: what an atomic batch is about */
    uint64_t deadline_ms;
    uint64_t leave_ms; /* the router's deadline: from then on it does not leave (again) */
    void *user;
    bool whole;            /* shares a message only with its like */
    struct buffer payload; /* the key, then the encoded operation */
    size_t key_size;

    /* Changes with each attempt. */
    enum slot_state state;
    uint64_t token;       /* the highest ptime known before the first attempt; 0: none yet */
    uint64_t resume_ms;   /* PAUSED until then */
    uint32_t pause_ms;    /* the last pause */
    enum status refusal;  /* of the last attempt, STATUS_OK: none */
    bool in_doubt;        /* an attempt of this write was neither answered nor refused */
    bool effective;       /* DONE: it may have taken effect */
};

struct window {
    struct slot slots[CLIENT_WINDOW_MAX]; /* of [ack_below, next_seq), at seq % CLIENT_WINDOW_MAX */
    uint32_t size;
    uint64_t client_id;
    uint64_t ack_below, next_seq;
    uint64_t unsent_seq; /* nothing below it is QUEUED */
    uint32_t queued_count, sent_count, paused_count;
    uint64_t expire_ms, resume_ms; /* no deadline, no pause ends before; UINT64_MAX: none */
    uint64_t random;
    struct session_counters *counters;

    /* Of the message that window_pack() builds. */
    uint32_t kinds[CLIENT_WINDOW_MAX];
    struct bytes keys[CLIENT_WINDOW_MAX], operations[CLIENT_WINDOW_MAX];
};

/* One element of an ANSWER. */
struct window_answer {
    uint64_t seq;
    enum status status;
    uint32_t flags;
    struct version version;
    struct bytes value;
    bool current; /* it comes from the router that the last attempt went to */
};

void window_init(struct window *w, const struct session_options *options,
                 struct session_counters *counters);
void window_fini(struct window *w);

/* As session_submit(); op's deadline is set. */
enum status window_take(struct window *w, uint64_t now_ms, const struct session_operation *op,
                        uint64_t *ret_seq);
uint32_t window_pending(const struct window *w);
uint32_t window_room(const struct window *w);

/* Pack the next REQUEST into out; *ret_count operations became SENT, 0: nothing (more) is to be
 * sent now. ptime is what the session knows. Begin with *cursor = 0 and go on with it until the
 * count is 0. STATUS_NOMEMORY: nothing was packed, what is QUEUED stays so. */
struct window_cursor {
    uint64_t seq;
    uint64_t blocked[16]; /* bits by key and tag: an operation there stays behind */
};
enum status window_pack(struct window *w, uint64_t now_ms, uint64_t ptime, uint32_t operations_max,
                        struct window_cursor *cursor, struct buffer *out, uint32_t *ret_count);

/* May complete the operation. Feed the refusals of one message last to first: then those that
 * follow each other on one key can all be retried. Returns whether the node wants a fresh token. */
bool window_answer(struct window *w, uint64_t now_ms, const struct window_answer *a,
                   struct session_effects *effects);
/* Will this answer end the operation's life whatever came before? */
bool window_answer_settles(const struct window_answer *a);

void window_requeue(struct window *w);

/* reachable: has a router answered HELLO? Decides between TIMEOUT and NOCONNECTION. */
void window_tick(struct window *w, uint64_t now_ms, bool reachable,
                 struct session_effects *effects);
/* When window_tick() is wanted. */
uint64_t window_deadline(const struct window *w);

/* The next unused effect; the caller of the session empties them often enough. */
struct session_effect *window_effect(struct session_effects *effects,
                                     enum session_effect_kind kind);

#endif
