/* Pending: log entries that are not committed yet, and the two questions asked of them: is this key
 * dirty, and is this (client, seq) already under way.
 *
 * One index per node; each replica keeps its own entries in order (replica.h). Pure.
 */
#ifndef STORAGE_PENDING_H
#define STORAGE_PENDING_H

#include "storage/record.h"

struct waiter;

/* A place in a chain of the index. at is NULL outside: an entry has no key without an effect, and not
 * every one has a client. */
struct pending_link {
    struct pending_link *next, **at;
};

struct pending {
    /* Newest first. All keys of an entry have one digest, so that they stand in one chain. */
    struct pending_link by_key, by_client;

    uint32_t slot;
    uint64_t hash;       /* chain hash including this entry */
    uint64_t lsn;        /* of its record in the log */
    uint64_t replay_lsn; /* recovery may start after anything below this; moves when logged again */
    uint64_t again_lsn;  /* of a copy that is not counted yet; 0: none (replica_log_again) */
    uint64_t logged_ms;  /* when it was appended here */

    struct waiter *waiters; /* answered when it commits, newest first */
    uint8_t *full_result;   /* owned: the result when it is larger than what the record keeps */
    uint32_t full_result_size;

    struct entry entry; /* decoded; views into body */
    uint32_t body_size;
    uint8_t *body; /* behind the effects */
    struct effect effects[];
};

/* Memory that it takes. */
static inline uint64_t pending_size(const struct pending *p)
{
    return sizeof *p + p->entry.effects_count * sizeof(struct effect) + p->body_size;
}

/* There are eight buckets for an entry or more, up to here: they double, and all entries move, a
 * millisecond or two at most. No more than that: few buckets stay in the processor's cache. */
#define PENDING_BUCKETS_MAX 65536u

struct pending_index {
    struct pending_link **by_key, **by_client;
    uint32_t buckets_count; /* of each; a power of two */
    uint64_t count, bytes;
};

/* STATUS_OK or STATUS_NOMEMORY. */
enum status pending_index_init(struct pending_index *x);
void pending_index_fini(struct pending_index *x);

/* Make one from a trimmed entry body (copied). NULL: out of memory, or the body does not decode. */
struct pending *pending_new(uint32_t slot, struct bytes body);
void pending_destroy(struct pending **p_p);

void pending_link(struct pending_index *x, struct pending *p);
void pending_unlink(struct pending_index *x, struct pending *p);

/* The newest entry with an effect on key; NULL: the key is clean. */
struct pending *pending_of_key(const struct pending_index *x, uint32_t slot, uint64_t digest,
                               struct bytes key);
/* The newest entry with an effect on any key with this digest, of one hash tag therefore; or NULL. */
struct pending *pending_of_digest(const struct pending_index *x, uint32_t slot, uint64_t digest);
struct pending *pending_of_client(const struct pending_index *x, uint32_t slot, uint64_t client,
                                  uint64_t seq);
/* Is a write of client with a higher seq on one of the keys under way, whether it has an effect or not? */
bool pending_overtaken(const struct pending_index *x, uint32_t slot, uint64_t client, uint64_t seq,
                       const uint64_t *key_hashes, size_t count);
/* The effect of p on key; ENSUREs that there is one. */
const struct effect *pending_effect(const struct pending *p, struct bytes key);

#endif
