/* Cold: operations on keys that are being fetched from the table. Those on the same key queue behind
 * the fetch in their order. Pure.
 */
#ifndef STORAGE_COLD_H
#define STORAGE_COLD_H

#include "storage/replies.h"

/* One client operation at this node. key and body are views. */
struct operation {
    struct asker asker;
    uint32_t kind; /* enum operation_kind */
    uint64_t digest;
    uint64_t client, seq, ack_below, ptime_token;
    uint64_t deadline_ms; /* absolute */
    uint64_t arrival;     /* rises from each to the next that came */
    struct read_query read; /* KIND_READ: the body */
    struct bytes key, body;
};

struct cold_operation {
    struct cold_operation *next;
    struct operation operation; /* its views point behind the struct */
};

struct cold_key {
    uint64_t ticket;
    uint32_t partition, slot;
    uint64_t digest;
    struct cold_operation *first, **last;
    uint64_t arrival_last; /* of the operation at *last */
    struct cold_key *next;   /* in its bucket */
    uint32_t key_size;
    uint8_t key[];
};

#define COLD_BUCKETS 1024u

struct cold {
    struct cold_key *buckets[COLD_BUCKETS]; /* by ticket: tickets carry the bucket in their low bits */
    uint64_t tickets;
    uint32_t keys_count, operations_count;
};

void cold_init(struct cold *c);
void cold_fini(struct cold *c);

/* The fetch under way for key, or NULL. */
struct cold_key *cold_find(const struct cold *c, uint32_t slot, uint64_t digest, struct bytes key);
/* Begin one: draws a ticket. NULL: out of memory. */
struct cold_key *cold_begin(struct cold *c, uint32_t partition, uint32_t slot, uint64_t digest,
                            struct bytes key);
/* Queue a copy of op, by arrival: one that was held meanwhile (hold.h) comes before what came later.
 * STATUS_OK or STATUS_NOMEMORY. */
enum status cold_park(struct cold *c, struct cold_key *k, const struct operation *op);
struct cold_key *cold_by_ticket(const struct cold *c, uint64_t ticket);
/* Take the oldest operation out; the caller frees it with free(). NULL: none left. */
struct cold_operation *cold_next(struct cold *c, struct cold_key *k);
/* Remove k, whose operations are all taken. */
void cold_end(struct cold *c, struct cold_key **k_p);

#endif
