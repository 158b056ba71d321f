/* Duet: the client library of the key-value store. This header is the manual.
 *
 * In ten lines:
 *
 *     struct duet_error error;
 *     struct duet_client *duet = duet_open(NULL, &error);           // tcp://127.0.0.1:7400
 *     if (duet == NULL)
 *         return fail(error.message);
 *     duet_put(duet, duet_text("apple"), duet_text("red"), NULL, NULL, &error);
 *     struct duet_result *result;
 *     if (duet_get(duet, duet_text("apple"), &result, &error) == DUET_OK)
 *         use(duet_result_value(result));
 *     duet_result_free(&result);
 *     duet_close(&duet);
 *
 * Outcomes. Every operation ends in one of three ways, told apart by code and flags:
 * - done: DUET_OK, and the answers that a store gives when it did what was asked (DUET_NOTFOUND of
 *   a get, DUET_CONDITION when a condition does not hold);
 * - not done: any other code without DUET_IN_DOUBT. Nothing changed, nothing will. With
 *   DUET_RETRYABLE it makes sense to try again later; the library has tried until the deadline;
 * - in doubt: DUET_IN_DOUBT is set. No answer came; the write may or may not have happened, and may
 *   still happen. duet_outcome() asks what became of it. Only writes are ever in doubt.
 *
 * Every write has an id and is applied at most once, however often the library has to send it: to
 * another router when one is silent, or again when it was refused for now. Operations of one client
 * on one key take effect in the order in which they were submitted; where a lost router or node leaves
 * no way to keep that order, the earlier one ends as not done (a write with DUET_ABORTED). Reads of one
 * key that are under way together, without a write between them, have no order among themselves.
 *
 * Threads. A client may be used by any number of threads; each has one thread of its own for the
 * network. A synchronous call waits for its answer; duet_submit() does not, its callback is called
 * on the client's thread. Synchronous calls must not be made from a callback (DUET_USAGE). Every
 * function says which it is: thread-safe (any number of threads at once, on the same client), or
 * one thread at a time (on the same object). No client may be used in a child after fork().
 *
 * Your own loop. A client that was opened with the option `loop` = caller has no thread: watch
 * duet_client_fd() for reading with poll, epoll, libuv or what you have, and call
 * duet_client_dispatch() when it is readable; callbacks are called there. Calls that wait are
 * DUET_USAGE on such a client, at any place; duet_submit() is thread-safe all the same.
 *
 * Memory. What you hand in is copied before a call returns. A duet_result is yours until
 * duet_result_free(), its value lives as long as it does. Every free and close takes the address of
 * a pointer, accepts NULL, and leaves NULL. `reterr` may always be NULL.
 *
 * The library installs no signal handlers, registers nothing with atexit, prints nothing.
 */
#ifndef DUET_H
#define DUET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; duet_version_text() tells that of the library. */
#define DUET_VERSION_MAJOR 0
#define DUET_VERSION_MINOR 1 /* up to 1.0 it may change the interface */
#define DUET_VERSION_PATCH 0 /* never changes the interface */

#if defined(__GNUC__)
/* Stands before everything that the library shows. */
#define DUET_API __attribute__((visibility("default")))
#else
#define DUET_API
#endif

/* ---- Words ---- */

/* The outcome of an operation or call. Numbers are those of the wire and never change. */
enum duet_code {
    DUET_OK = 0,
    DUET_NOTFOUND = 1,      /* there is no such key */
    DUET_CONDITION = 2,     /* the condition does not hold */
    DUET_WRONGEPOCH = 3,    /* between processes: another map */
    DUET_BUSY = 4,          /* too much in flight */
    DUET_UNAVAILABLE = 5,   /* a copy that is needed does not answer */
    DUET_INDOUBT = 6,       /* the write may or may not have happened */
    DUET_MALFORMED = 7,     /* a message that does not decode */
    DUET_TOOBIG = 8,        /* key, value or message is larger than the limit */
    DUET_STALE = 9,         /* the id was given up already */
    DUET_NEEDTOKEN = 10,    /* between processes: a fresh token is needed */
    DUET_TOOOLD = 11,       /* too old to know whether it happened */
    DUET_ASKPRIMARY = 12,   /* between processes: only the primary can tell */
    DUET_FULL = 13,         /* a disk is nearly full, writes are refused */
    DUET_ABORTED = 14,      /* it did not happen and never will */
    DUET_UNSUPPORTED = 15,  /* an older version is at the other end */
    DUET_NOTNUMBER = 16,    /* increment of a value that is no 64-bit integer, or no decimal number */
    DUET_OVERFLOW = 17,     /* the sum has too many digits, or the value would grow beyond its limit */
    DUET_TIMEOUT = 18,      /* no answer before the deadline; nothing changed */
    DUET_FORMAT = 19,       /* a format that this version does not read */
    DUET_IO = 20,           /* input or output failed */
    DUET_CORRUPT = 21,      /* stored data is damaged */
    DUET_LOCKED = 22,       /* in use by another process */
    DUET_CONFIG = 23,       /* an option is wrong */
    DUET_NOMEMORY = 24,
    DUET_NOCONNECTION = 25, /* no router answers */
    DUET_USAGE = 26,        /* wrong use of the library: empty key, call from a callback */
    DUET_WRONGCLUSTER = 27, /* the router belongs to another cluster than before */
};

#define DUET_RETRYABLE 1u /* the same may succeed later */
#define DUET_FATAL 2u     /* it will never succeed like this */
#define DUET_IN_DOUBT 4u  /* the write may or may not have happened */

/* How a read is made sure of. */
enum duet_read {
    DUET_READ_DEFAULT = 0, /* as the client's option `read` says */
    /* The newest acknowledged write. */
    DUET_READ_LINEARIZABLE = 1,
    /* The same, without trust in any clock: all copies are asked. It takes a round trip more. */
    DUET_READ_CONFIRM = 2,
    /* What is committed at any one copy that answers, also while writes are not possible. It may be old,
     * is never uncommitted, and has no order with the client's other operations; a key past its expiry
     * may still show. */
    DUET_READ_ANY = 3,
};

/* Bytes that somebody else owns. */
struct duet_slice {
    const void *data; /* may be NULL when size is 0 */
    size_t size;      /* in bytes */
};

/* A view of size bytes; nothing is copied. Thread-safe. */
static inline struct duet_slice duet_bytes(const void *data, size_t size)
{
    struct duet_slice slice = {data, size};
    return slice;
}

/* A view of text without its final zero byte. Thread-safe. */
static inline struct duet_slice duet_text(const char *text)
{
    return duet_bytes(text, strlen(text));
}

/* The version of a key: it grows with every write. Both 0: none. */
struct duet_version {
    uint64_t epoch; /* grows when the key's primary changes or starts anew */
    uint64_t seq;   /* grows with every write of the key's partition */
};

/* When a key goes. */
struct duet_expiry {
    uint64_t expiry_ms; /* since 1970; 0: none */
    uint64_t left_ms;   /* by the node's clock */
};

/* The id of a write, for duet_outcome(): unique in all time. */
struct duet_id {
    uint64_t client; /* drawn at random for each client */
    uint64_t seq;    /* counts the client's operations */
};

/* Why something failed; on the caller's stack. */
struct duet_error {
    enum duet_code code; /* as the call returned it */
    uint32_t flags;      /* DUET_RETRYABLE, DUET_FATAL, DUET_IN_DOUBT; at most one of them */
    char message[256]; /* for people: what is wrong and, where there is something, what to do */
};

/* Words for a code, like "no such key". Thread-safe. */
DUET_API const char *duet_code_text(enum duet_code code);
/* The name of a code, like "NOTFOUND". Thread-safe. */
DUET_API const char *duet_code_name(enum duet_code code);
/* The version of the library, like "0.1.0". Thread-safe. */
DUET_API const char *duet_version_text(void);

/* ---- Options ---- */

/* What a client is told when it is opened. */
struct duet_options;

/* Defaults; NULL when out of memory. Thread-safe. */
DUET_API struct duet_options *duet_options_new(void);
/* Clients that were opened with them stay as they are. One thread at a time. */
DUET_API void duet_options_free(struct duet_options **options_p);

/* Set one option:
 *
 *   routers     "tcp://127.0.0.1:7400"  addresses, separated by commas or spaces, at most 16; a
 *                                       client uses one at a time and goes to the next when needed
 *   timeout_ms  "5000"                  1..3600000, for operations that give none
 *   window      "512"                   1..512, unanswered operations; counted from the oldest one,
 *                                       so one that waits for its partition holds up all others
 *                                       when so many have come after it
 *   name        ""                      shown in the routers' logs
 *   loop        "thread"                or "caller": no thread, see duet_client_dispatch()
 *   read        "linearizable"          or "confirm" or "any" (enum duet_read): of reads of keys that
 *                                       give none; walks and counts are linearizable always
 *
 * DUET_CONFIG: an unknown name or a bad value; nothing changed. One thread at a time. */
DUET_API enum duet_code duet_options_set(struct duet_options *options, const char *name,
                                         const char *value, struct duet_error *reterr);
/* Set what the environment says: DUET_ROUTERS, DUET_TIMEOUT_MS, DUET_WINDOW, DUET_NAME, DUET_READ, where
 * they are set. DUET_CONFIG: a bad value; nothing changed. One thread at a time, and while nobody
 * changes the environment. */
DUET_API enum duet_code duet_options_environment(struct duet_options *options,
                                                 struct duet_error *reterr);

/* ---- A client ---- */

/* A user of one cluster, with a window of operations that are under way. */
struct duet_client;

/* A client; options (NULL: defaults) are copied. Connects in the background: operations may be
 * submitted at once. NULL: reterr says why. Thread-safe. */
DUET_API struct duet_client *duet_open(const struct duet_options *options,
                                       struct duet_error *reterr);

/* Completes what is not complete as at its deadline (not done, or in doubt), and frees. Not while
 * another thread still uses the client; from a callback of the client it does nothing. One thread
 * at a time. */
DUET_API void duet_close(struct duet_client **client_p);

/* Wait until a router has answered. DUET_OK or DUET_NOCONNECTION. Nobody must call it; it is for
 * programs that want to say early and clearly that nobody is there. Thread-safe. */
DUET_API enum duet_code duet_connect(struct duet_client *client, uint32_t timeout_ms,
                                     struct duet_error *reterr);

/* Wait until nothing is outstanding: every callback has returned. DUET_OK or DUET_TIMEOUT.
 * Thread-safe. */
DUET_API enum duet_code duet_drain(struct duet_client *client, uint32_t timeout_ms,
                                   struct duet_error *reterr);

/* What a client is doing, at this moment. */
struct duet_client_info {
    bool connected;            /* a router has answered and is in use */
    char router[128];          /* its address */
    uint64_t client_id;        /* as in the ids of its writes */
    uint32_t pending;          /* operations without an answer */
    uint64_t submitted;        /* operations taken */
    uint64_t completed;        /* operations whose outcome is known, or given up */
    uint64_t retries;          /* refusals that were tried again */
    uint64_t failovers;        /* changes of the router */
};
/* Fill ret. Thread-safe. */
DUET_API void duet_client_info(struct duet_client *client, struct duet_client_info *ret);

/* The descriptor of a client with the option `loop` = caller: readable when duet_client_dispatch()
 * wants to be called, for the network, for a time that has come, or for what another thread has
 * submitted. It is the client's: do not read or close it, and stop watching it before duet_close().
 * -1: the client has a thread. Thread-safe. */
DUET_API int duet_client_fd(const struct duet_client *client);

/* One turn of a client with the option `loop` = caller: receive, call callbacks, send. Never waits.
 * Harmless when nothing is to be done. Call it once after submitting, too, if the loop is not about
 * to look at the descriptor anyway. DUET_OK; DUET_USAGE: the client has a thread, or this is one of
 * its callbacks. One thread at a time. */
DUET_API enum duet_code duet_client_dispatch(struct duet_client *client,
                                             struct duet_error *reterr);

/* ---- Results ---- */

/* The answer to one operation. It never changes: any number of threads may read it. */
struct duet_result;

/* A result of your own, not that of a callback. One thread at a time. */
DUET_API void duet_result_free(struct duet_result **result_p);
/* Outcome of this operation. Thread-safe. */
DUET_API enum duet_code duet_result_code(const struct duet_result *result);
/* DUET_RETRYABLE, DUET_FATAL, DUET_IN_DOUBT; 0 when the code is DUET_OK. Thread-safe. */
DUET_API uint32_t duet_result_flags(const struct duet_result *result);
/* The value; {NULL, 0} when there is none. Behind the value of a result that you own stands a zero
 * byte, which size does not count. Thread-safe. */
DUET_API struct duet_slice duet_result_value(const struct duet_result *result);
/* Is there a value, be it an empty one? Thread-safe. */
DUET_API bool duet_result_has_value(const struct duet_result *result);
/* The expiry that a DUET_GET_EXPIRY found. False: the result has none. Thread-safe. */
DUET_API bool duet_result_expiry(const struct duet_result *result, struct duet_expiry *ret);
/* The version that was read or written; without meaning unless the code is DUET_OK. Thread-safe.
 */
DUET_API struct duet_version duet_result_version(const struct duet_result *result);
/* Copies that hold a write, 0: not told. Thread-safe. */
DUET_API uint32_t duet_result_copies(const struct duet_result *result);
/* How a read was made sure of, as its answer says; without meaning of a write. Thread-safe. */
DUET_API enum duet_read duet_result_read(const struct duet_result *result);
/* The id of the operation. Thread-safe. */
DUET_API struct duet_id duet_result_id(const struct duet_result *result);

/* ---- Operations that wait ---- */

/* What must hold for a write to happen. */
enum duet_when {
    DUET_ALWAYS = 0,     /* nothing */
    DUET_IF_ABSENT = 1,  /* the key does not exist */
    DUET_IF_PRESENT = 2, /* the key exists */
    DUET_IF_VERSION = 3, /* the key has this version */
    DUET_IF_VALUE = 4,   /* the key has this value */
    DUET_IF_NO_EXPIRY = 5, /* the key is there, without an expiry */
    DUET_IF_EXPIRY = 6,    /* the key is there, with one */
    DUET_IF_LATER = 7,     /* the operation's expiry is later than the key's (none is the latest) */
    DUET_IF_EARLIER = 8,   /* the operation's expiry is earlier than the key's */
};

/* A condition with what it compares to. */
struct duet_condition {
    enum duet_when when;         /* which of them */
    struct duet_version version; /* DUET_IF_VERSION */
    struct duet_slice value;     /* DUET_IF_VALUE */
};

/* Read a key. As all calls of this part it returns the operation's code and, where ret_result is
 * not NULL, its result (NULL when the operation was not even taken: bad use, out of memory); reterr
 * is filled unless DUET_OK. DUET_NOMEMORY of a write with DUET_IN_DOUBT: it was answered, but the
 * answer could not be kept. Thread-safe. */
DUET_API enum duet_code duet_get(struct duet_client *client, struct duet_slice key,
                                 struct duet_result **ret_result, struct duet_error *reterr);

/* Write a key. condition may be NULL. When it does not hold: DUET_CONDITION, and the result has the
 * value that stands there, if any. Thread-safe. */
DUET_API enum duet_code duet_put(struct duet_client *client, struct duet_slice key,
                                 struct duet_slice value, const struct duet_condition *condition,
                                 struct duet_result **ret_result, struct duet_error *reterr);

/* Delete a key. DUET_NOTFOUND: there was nothing to delete. Thread-safe. */
DUET_API enum duet_code duet_del(struct duet_client *client, struct duet_slice key,
                                 const struct duet_condition *condition,
                                 struct duet_result **ret_result, struct duet_error *reterr);

/* Add delta to a decimal 64-bit integer; an absent key counts as 0. ret_sum may be NULL.
 * Thread-safe. */
DUET_API enum duet_code duet_incr(struct duet_client *client, struct duet_slice key, int64_t delta,
                                  int64_t *ret_sum, struct duet_result **ret_result,
                                  struct duet_error *reterr);

/* Add a decimal number, exactly: [-]digits[.digits], at most 34 digits, like the value and the sum; an
 * absent key counts as 0. The result's value is the sum, written as short as possible ("0.3").
 * Thread-safe. */
DUET_API enum duet_code duet_add(struct duet_client *client, struct duet_slice key,
                                 struct duet_slice number, struct duet_result **ret_result,
                                 struct duet_error *reterr);

/* Put value behind what is there; an absent key counts as empty. Thread-safe. */
DUET_API enum duet_code duet_append(struct duet_client *client, struct duet_slice key,
                                    struct duet_slice value, struct duet_result **ret_result,
                                    struct duet_error *reterr);

/* Put value over what is there, from offset (bytes) on; a gap before it is filled with zero bytes. An
 * empty value changes nothing. Thread-safe. */
DUET_API enum duet_code duet_set_range(struct duet_client *client, struct duet_slice key,
                                       uint64_t offset, struct duet_slice value,
                                       struct duet_result **ret_result,
                                       struct duet_error *reterr);

/* Delete, and get what was there as the result's value. DUET_NOTFOUND: there was nothing. (As with
 * every value that a write returns, one above 1 KiB may be missing where the answer had to be sent
 * again.) Thread-safe. */
DUET_API enum duet_code duet_get_del(struct duet_client *client, struct duet_slice key,
                                     struct duet_result **ret_result, struct duet_error *reterr);

/* Compare and set: put value if the key's value is expected. Thread-safe. */
DUET_API enum duet_code duet_cas(struct duet_client *client, struct duet_slice key,
                                 struct duet_slice expected, struct duet_slice value,
                                 struct duet_result **ret_result, struct duet_error *reterr);

/* What became of the write with this id on this key? DUET_ABORTED: it did not happen and never
 * will; otherwise the write's own outcome. An id can be asked for while it is among the client's
 * last `window` operations (option, 512); after that DUET_STALE, or DUET_TOOOLD when the nodes have
 * removed records meanwhile (both: in doubt for good). Thread-safe. */
DUET_API enum duet_code duet_outcome(struct duet_client *client, struct duet_id id,
                                     struct duet_slice key, struct duet_result **ret_result,
                                     struct duet_error *reterr);

/* Many keys at once, each on its own (no atomicity): ret_results has room for count pointers, each
 * to be freed; they stand in the order of the keys. Returns DUET_OK when every key has an answer
 * (of duet_mget() DUET_NOTFOUND is one), otherwise the code of the first that has not.
 * Thread-safe. */
DUET_API enum duet_code duet_mget(struct duet_client *client, const struct duet_slice *keys,
                                  size_t count, struct duet_result **ret_results,
                                  struct duet_error *reterr);
/* What duet_mput() writes. */
struct duet_pair {
    struct duet_slice key;   /* 1 to 480 bytes */
    struct duet_slice value; /* up to the cluster's limit, 1 MiB unless set otherwise */
};
/* Write many keys at once; as duet_mget(). Thread-safe. */
DUET_API enum duet_code duet_mput(struct duet_client *client, const struct duet_pair *pairs,
                                  size_t count, struct duet_result **ret_results,
                                  struct duet_error *reterr);

/* ---- Operations that do not wait ---- */

/* What an operation does; as the calls of these names do. */
enum duet_kind {
    DUET_GET = 1,
    DUET_PUT = 2,
    DUET_DEL = 3,
    DUET_INCR = 4,
    DUET_CHECK = 5, /* no change: is the condition true? */
    DUET_OUTCOME = 6,
    DUET_APPEND = 7,
    DUET_SET_RANGE = 8, /* value, offset */
    DUET_ADD = 9,       /* value: the number */
    DUET_EXPIRE = 10,   /* ttl_ms or expiry_ms; both 0: clear */
    DUET_GET_EXPIRY = 11, /* duet_result_expiry() has it */
};

/* What the result's value is, of a write. */
enum duet_want { DUET_WANT_NOTHING = 0, DUET_WANT_OLD = 1, DUET_WANT_NEW = 2 };

/* An operation. What its kind does not use is zero. */
struct duet_operation {
    enum duet_kind kind;             /* what it does */
    struct duet_slice key;           /* of all kinds */
    struct duet_slice value;         /* DUET_PUT, DUET_APPEND, DUET_SET_RANGE; DUET_ADD: the number */
    int64_t delta;                   /* DUET_INCR */
    uint64_t offset;                 /* DUET_SET_RANGE, in bytes */
    uint64_t ttl_ms;                 /* DUET_PUT, DUET_EXPIRE: from now on; 0: not given */
    uint64_t expiry_ms;              /* the same as a point in time, since 1970; 0: not given */
    bool keep_expiry;                /* DUET_PUT: the key's own, instead of ttl_ms or expiry_ms */
    struct duet_condition condition; /* of writes */
    enum duet_want want;             /* of writes */
    struct duet_id id;               /* DUET_OUTCOME */
    uint32_t timeout_ms;             /* 0: the client's */
    bool nowait;                     /* DUET_BUSY rather than waiting while the window is full */
    enum duet_read read;             /* DUET_GET, DUET_GET_EXPIRY */
};

/* Called once on the client's thread (or in duet_client_dispatch(), duet_close()), with no lock
 * held. result ends with the callback. Do not block: all operations of this client wait meanwhile.
 */
typedef void duet_callback(const struct duet_result *result, void *user);

/* Submit. Waits while the window is full (that is the back-pressure), unless op->nowait or when
 * called from a callback, or when the client has no thread: then DUET_BUSY. Not DUET_OK: not taken,
 * there will be no callback. callback may be NULL. What gathers while the client's thread is at
 * work leaves as one message. Thread-safe. */
DUET_API enum duet_code duet_submit(struct duet_client *client, const struct duet_operation *op,
                                    duet_callback *callback, void *user,
                                    struct duet_error *reterr);

/* Expiry. A key past its expiry is gone, by the clock of the node that leads its partition; a write that
 * keeps the key keeps the expiry, except a put, which clears it unless it brings one or asks to keep
 * it (duet_execute() with ttl_ms, expiry_ms or keep_expiry).
 *
 * Let the key go ttl_ms from now on, or at expiry_ms (since 1970); of the two the one that is not 0, and
 * with both 0 never: an expiry is cleared. DUET_NOTFOUND: there is no such key. Thread-safe. */
DUET_API enum duet_code duet_expire(struct duet_client *client, struct duet_slice key,
                                    uint64_t ttl_ms, uint64_t expiry_ms,
                                    const struct duet_condition *condition,
                                    struct duet_result **ret_result, struct duet_error *reterr);
/* When will the key go? Thread-safe. */
DUET_API enum duet_code duet_get_expiry(struct duet_client *client, struct duet_slice key,
                                        struct duet_expiry *ret, struct duet_error *reterr);

/* Any operation, and wait for it. With op->want the result's value is what was there before or after;
 * when the condition does not hold, what is there. Thread-safe. */
DUET_API enum duet_code duet_execute(struct duet_client *client, const struct duet_operation *op,
                                     struct duet_result **ret_result, struct duet_error *reterr);

/* ---- A walk over the whole store ---- */

/* A walk. Every key that exists during the whole walk comes exactly once; a key that is written or
 * deleted meanwhile comes as it was or is. The order is that of the keys' digests. */
struct duet_scan;

/* Begin a walk. keys_only: values stay empty. NULL: out of memory. Thread-safe. */
DUET_API struct duet_scan *duet_scan_open(struct duet_client *client, bool keys_only,
                                          struct duet_error *reterr);
/* The next key. DUET_NOTFOUND: the walk is over. Slices end with the next call on the walk; each
 * ret_ may be NULL. After another code the same call may be made again: nothing is skipped. One
 * thread at a time on one walk. */
DUET_API enum duet_code duet_scan_next(struct duet_scan *scan, struct duet_slice *ret_key,
                                       struct duet_slice *ret_value,
                                       struct duet_version *ret_version,
                                       struct duet_error *reterr);
/* End a walk, before its client is closed. One thread at a time. */
DUET_API void duet_scan_close(struct duet_scan **scan_p);

/* Go a page further, count its keys, and forget them: *count grows by them. DUET_NOTFOUND: that was
 * all of them. What one page counts (up to 100,000 keys) is exact at one moment. One thread at a
 * time on one walk. */
DUET_API enum duet_code duet_scan_count(struct duet_scan *scan, uint64_t *count,
                                        struct duet_error *reterr);

/* Go a page further and delete its keys, each unless somebody has written it since; *deleted grows by
 * those that went. DUET_NOTFOUND: that was all of them. Keys that are written while a walk clears may
 * survive it. After another code the same call may be made again: nothing is skipped. One thread at
 * a time on one walk. */
DUET_API enum duet_code duet_scan_clear(struct duet_scan *scan, uint64_t *deleted,
                                        struct duet_error *reterr);

/* How much of a walk over the whole store is done, 0 to 1; of one over a hash tag 0, and 1 at the end.
 * One thread at a time on one walk. */
DUET_API double duet_scan_progress(const struct duet_scan *scan);

/* ---- The keys of one hash tag ---- */

/* Keys with one hash tag (the bytes between the first { and the } behind it) live together, ordered by
 * their bytes. Those that begin with prefix and lie in [from, to): */
struct duet_range {
    struct duet_slice tag;      /* any key with the hash tag; "{user7}" will do */
    struct duet_slice prefix;   /* of the whole key, "{user7}:mail:" for example */
    struct duet_slice from, to; /* whole keys; {NULL, 0}: no bound */
    bool keys_only;             /* values stay empty */
};

/* A walk over them in order, for the calls on walks above. All that one page shows (up to 1000 keys or a
 * megabyte) stood there at one moment, and no write that was answered before is missing; what is written
 * between two pages may show in the later one. range is copied. NULL: reterr says why.
 * Thread-safe. */
DUET_API struct duet_scan *duet_range_open(struct duet_client *client,
                                           const struct duet_range *range,
                                           struct duet_error *reterr);

/* Their number: exact for up to 100,000 keys, see duet_scan_count(). Thread-safe. */
DUET_API enum duet_code duet_range_count(struct duet_client *client,
                                         const struct duet_range *range, uint64_t *ret_count,
                                         struct duet_error *reterr);

/* Delete them, see duet_scan_clear(). *ret_deleted is right after an error, too. Thread-safe. */
DUET_API enum duet_code duet_range_clear(struct duet_client *client,
                                         const struct duet_range *range, uint64_t *ret_deleted,
                                         struct duet_error *reterr);

/* Several writes and checks as one, on different keys with one hash tag: all of them, or nothing. At
 * most 255, and 4 MiB. Each is judged against what was there before the batch. When a condition does not
 * hold (DUET_CONDITION) or a value cannot be changed so (DUET_NOTNUMBER, DUET_OVERFLOW), nothing is
 * changed, and the code is that of the first that failed; deleting what is not there fails nothing. No
 * reader sees a part of it. It counts as one operation: one place in the window, one id, in doubt as a
 * whole. ops[0].timeout_ms is the batch's.
 *
 * ret_results may be NULL, or has room for count pointers, each to be freed: the operations' own codes and,
 * with op->want, values; where nothing was changed, what was found. NULL: bad use, out of memory.
 * Thread-safe. */
DUET_API enum duet_code duet_atomic(struct duet_client *client, const struct duet_operation *ops,
                                    size_t count, struct duet_result **ret_results,
                                    struct duet_error *reterr);

#ifdef __cplusplus
}
#endif

#endif
