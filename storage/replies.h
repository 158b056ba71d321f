/* Replies: answers to routers, gathered per connection and sent once a turn; and the operations that
 * wait for a commit before they can be answered. Pure.
 */
#ifndef STORAGE_REPLIES_H
#define STORAGE_REPLIES_H

#include "proto/base/arena.h"
#include "proto/message.h"
#include "storage/node.h"

/* Where an answer goes: the connection and the slot token that the router gave. */
struct asker {
    uint64_t source, token;
};

enum waiter_kind { WAIT_WRITE, WAIT_READ, WAIT_SCAN, WAIT_RANGE };

/* An operation inside the node that waits for an entry's commit. */
struct waiter {
    struct waiter *next;
    enum waiter_kind kind;
    struct asker asker;
    uint64_t since_ms, deadline_ms;
    uint64_t digest;      /* READ, SCAN, RANGE */
    uint64_t arrival;
    struct read_query read;
    uint32_t key_size;    /* READ, RANGE: the key. SCAN: the cursor. Then the query */
    uint32_t query_size;
    uint8_t bytes[];
};

struct reply {
    enum status status;
    uint32_t flags; /* ANSWER_SYNCED, ANSWER_VALUE, copies; RETRY and IN_DOUBT are added here */
    struct version version;
    struct bytes value; /* copied */
};

struct replies {
    struct replies_source *sources; /* uthash */
    struct replies_source *touched; /* answers to be sent this turn */
    struct arena values;            /* of this turn's answers */
    uint32_t waiting;
};

void replies_init(struct replies *r);
void replies_fini(struct replies *r);

/* A batch came from source: remember the router's boot id, which its answers carry. STATUS_OK or
 * STATUS_NOMEMORY. */
enum status replies_source(struct replies *r, uint64_t source, uint64_t router_boot);
void replies_forget(struct replies *r, uint64_t source);

/* Add one answer; a source that was forgotten is skipped. ptime: the highest committed. A message
 * that is full leaves at once, into out. STATUS_OK, STATUS_NOMEMORY. */
enum status replies_add(struct replies *r, struct asker to, const struct reply *reply,
                        uint64_t ptime, struct node_effects *out);
enum status replies_flush(struct replies *r, uint64_t ptime, struct node_effects *out);

/* Waiters are counted against waiters_max by the caller (r->waiting). NULL: out of memory. */
struct waiter *replies_waiter_new(struct replies *r, enum waiter_kind kind, struct asker asker,
                                  struct bytes key, struct bytes query);
void replies_waiter_destroy(struct replies *r, struct waiter **w_p);

#endif
