/* Session: the brain of a client. Ids, deadlines, retries, the choice of the router.
 *
 * No I/O, no clock, no threads: time comes in as now_ms, what is to be done goes out as effects.
 * The shell (client.c, the bench, the simulator) owns one link for each router, feeds what happens
 * on it, and carries the effects out in their order.
 *
 *                    submit
 *                      |
 *                      v       flush: ids, token        answer
 *          .-------> QUEUED ---------------------> SENT --------> (done)
 *          |           ^                            | |
 *          | pause     | router silent or gone      | | refusal that may be retried
 *          | is over   '----------------------------' |
 *          '------------------ PAUSED <---------------'
 *
 *          QUEUED, SENT, PAUSED -- deadline or refusal --> (done), or DOUBTED when it is a write
 *          that may have happened: the user has heard INDOUBT, the id is kept while the window has
 *          room so that its outcome can be asked for.
 *
 * Invariants:
 * (1) The id (client_id, seq) of an operation is the same in every attempt, and so is its token:
 *     the highest ptime known before its first attempt. No write leaves without one: a record that a
 *     node has removed since would not be missed.
 * (2) A write is called not done only if every attempt that left was refused, without doubt.
 * (3) Every operation that was taken completes exactly once, at its deadline at the latest.
 * (4) ack_below never falls and never passes an operation that is neither answered nor given up.
 * (5) Per key, operations leave in the order in which they were submitted; one that is refused is
 *     retried only if no later operation on the key may have taken effect, and later ones wait. An
 *     atomic batch counts as one on every key of its hash tag; a read that any copy may answer has no
 *     order.
 *
 * What a link must promise: a frame arrives at most once; frames of one connection arrive in order;
 * nothing of the old connection arrives after a RESET (ZeroMQ over TCP does all that).
 *
 * Not thread-safe. Values in completions are views that end with the next session_message();
 * session_submit() and session_flush() leave them alone.
 */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"
#include "proto/limits.h"
#include "proto/message.h"

#define SESSION_TIMEOUT_DEFAULT_MS 5000
#define SESSION_ROUTERS_MAX 16
#define SESSION_PING_MS 200   /* between PINGs while an answer is awaited */
#define SESSION_SILENCE_MS 400 /* without any frame while one is awaited: the next router, please */
#define SESSION_SILENCE_MAX_MS 1600 /* the same after fruitless rounds over all routers */
#define SESSION_PAUSE_MIN_MS 5      /* before a retry; doubled each time, with jitter */
#define SESSION_PAUSE_MAX_MS 200
#define SESSION_TOKEN_AGE_MAX_MS 600000 /* an older ptime is refreshed before it is used */

struct session;

struct session_options {
    uint64_t client_id; /* random; never used by anyone else, never again */
    uint64_t seed;      /* of the jitter and of the first router */
    uint32_t timeout_ms;    /* of operations that give no deadline; 0: SESSION_TIMEOUT_DEFAULT_MS */
    uint32_t window;        /* unanswered operations, 1..CLIENT_WINDOW_MAX; 0: that maximum */
    uint32_t routers_count; /* 1..SESSION_ROUTERS_MAX; in effects and events routers are indexes */
    uint32_t role;          /* ROLE_CLIENT when 0 */
    const char *name;       /* for people, in HELLO; borrowed for the call; may be NULL */
};

struct session_operation {
    enum operation_kind kind;
    struct bytes key; /* KIND_SCAN: the cursor. KIND_RANGE, KIND_ATOMIC: any key with the tag */
    union {
        struct read_query read; /* KIND_READ */
        struct write write;
        struct outcome_query outcome;
        struct scan_query scan; /* KIND_SCAN, KIND_RANGE */
        struct bytes atomic;    /* KIND_ATOMIC: an AtomicBatch, packed */
    };
    bool whole; /* the caller waits for all that leave with it: one answer for all will do */
    uint64_t deadline_ms; /* on the clock of now_ms; 0: timeout_ms from now */
    void *user;           /* comes back in the completion */
};

struct session_completion {
    void *user;
    uint64_t seq; /* with the client id: the operation's id */
    enum status status;
    uint32_t flags; /* ANSWER_*; ANSWER_IN_DOUBT tells the third outcome */
    struct version version;
    struct bytes value; /* there is one when flags has ANSWER_VALUE */
};

enum session_effect_kind {
    SESSION_SEND,      /* frame to router; should the link refuse it, report the router as gone */
    SESSION_RESET,     /* close the link to router and connect anew; it is taken as not connected */
    SESSION_COMPLETED, /* tell the user */
};

struct session_effect {
    enum session_effect_kind kind;
    uint32_t router;
    struct buffer frame;
    struct session_completion completion;
};

/* Filled by the session, emptied by the shell after each call (session_effects_clear()). */
struct session_effects {
    struct session_effect *items;
    size_t count, capacity;
};

/* Counted since session_new(). */
struct session_counters {
    uint64_t submitted, completed, messages_sent;
    uint64_t retries;      /* of refused operations */
    uint64_t failovers;    /* changes of the router */
    uint64_t sent_again;   /* operations sent to another router, or to the same after it was gone */
    uint64_t late_answers; /* of operations that were completed already */
    uint64_t bad_frames;   /* that did not decode or were not expected; dropped */
};

/* Room for what one call on any session can produce. STATUS_NOMEMORY. */
enum status session_effects_init(struct session_effects *effects);
void session_effects_fini(struct session_effects *effects);
void session_effects_clear(struct session_effects *effects);

/* NULL when out of memory. */
struct session *session_new(const struct session_options *options);
/* Operations that are not complete are forgotten: nobody hears of them. */
void session_destroy(struct session **session_p);

/* Take an operation; inputs are copied. It leaves with the next session_flush(). *ret_seq (may be
 * NULL) is its number. STATUS_OK; STATUS_BUSY: the window is full, wait for a completion;
 * STATUS_USAGE (empty key), STATUS_TOOBIG (key or value), STATUS_NOMEMORY: not taken, and no
 * completion will come. */
enum status session_submit(struct session *s, uint64_t now_ms, const struct session_operation *op,
                           uint64_t *ret_seq);

/* A frame came from this router. */
void session_message(struct session *s, uint64_t now_ms, uint32_t router, struct bytes frame,
                     struct session_effects *effects);

/* The link to this router is, or is no longer, connected. All begin as not connected; saying the
 * same again changes nothing. */
void session_router_connected(struct session *s, uint64_t now_ms, uint32_t router, bool connected,
                              struct session_effects *effects);

/* Time has passed: deadlines, silence, PINGs, pauses that are over. */
void session_tick(struct session *s, uint64_t now_ms, struct session_effects *effects);

/* Send what has gathered, as few messages as the limits allow. Call it once at the end of a turn,
 * after the events and the tick. */
void session_flush(struct session *s, uint64_t now_ms, struct session_effects *effects);

/* When session_tick() (and then session_flush()) is wanted next; UINT64_MAX for never. */
uint64_t session_deadline(const struct session *s);

/* Operations taken and not completed; and how many more would be taken now. */
uint32_t session_pending(const struct session *s);
uint32_t session_room(const struct session *s);

/* Has the current router answered HELLO? */
bool session_ready(const struct session *s);
uint32_t session_router(const struct session *s);
uint64_t session_client_id(const struct session *s);
uint64_t session_ack_below(const struct session *s);
const struct session_counters *session_counters(const struct session *s);

/* What the routers said in HELLO_REPLY: largest value (0: not known yet). */
uint32_t session_value_size_max(const struct session *s);

/* Why operations may have been refused as a whole: the last REFUSED that a router sent; status is
 * STATUS_OK when there was none. */
const struct error *session_last_refusal(const struct session *s);

#endif
