/* Completion: the exactly-once records of one partition. Pure; state follows from applied entries
 * alone, so it is the same on every copy (design: rules X1, X2).
 *
 * For every client id: a floor (highest ack_below applied) and the records of its seqs at or above
 * the floor. A record goes when the floor passes it, or when its ptime <= horizon. The horizon is
 * raised only by an applied ENTRY_EXPIRE.
 *
 * - completion_apply()     an entry became committed (any kind; entries without client only count
 *                          for the horizon)
 * - completion_find()      what is known about (client, seq)
 * - completion_horizon_wanted()   should the primary log an ENTRY_EXPIRE, and up to which ptime
 * - completion_save() / completion_load()    the whole state as bytes, for checkpoints and snapshots
 *
 * Memory: at most COMPLETION_BYTES_MAX per partition counting records and kept results; when more,
 * completion_horizon_wanted() asks for the horizon that brings it back to three quarters. A client
 * with no records left and a floor older than the horizon is forgotten.
 */
#ifndef STORAGE_COMPLETION_H
#define STORAGE_COMPLETION_H

#include "proto/base/buffer.h"
#include "storage/record.h"

#define COMPLETION_BYTES_MAX (64u << 10)
#define COMPLETION_AGE_MS (3600u * 1000u) /* records live an hour of ptime */

struct completion;

struct completion_record {
    enum status status;
    struct version version; /* of the entry */
    uint64_t key_hash;      /* of the operation's key */
    uint64_t ptime;
    uint32_t result_flags; /* RESULT_* */
    struct bytes result;   /* valid until the next completion_apply() */
};

enum completion_answer {
    COMPLETION_UNKNOWN, /* not seen, and the floor is not above it: execute, if the token allows */
    COMPLETION_FOUND,
    COMPLETION_STALE,   /* below the client's floor: answered or given up long ago */
};

struct completion *completion_new(void);
void completion_destroy(struct completion **c_p);

/* STATUS_OK or STATUS_NOMEMORY (then the process must end: the state would differ between copies). */
enum status completion_apply(struct completion *c, const struct entry *e);
enum completion_answer completion_find(const struct completion *c, uint64_t client, uint64_t seq,
                                       struct completion_record *ret);
/* Has an operation of client with a higher seq on one of these keys been judged already? (ABORTED ones
 * were not.) Then the one with seq has lost its place and must not be executed any more. */
bool completion_overtaken(const struct completion *c, uint64_t client, uint64_t seq,
                          const uint64_t *key_hashes, size_t count);
/* Highest ptime whose records were removed by a logged EXPIRE; 0: none. */
uint64_t completion_horizon(const struct completion *c);
/* The horizon that an ENTRY_EXPIRE should carry now, or 0 for none. ptime_now is the partition's. */
uint64_t completion_horizon_wanted(struct completion *c, uint64_t ptime_now);

/* Deterministic: equal states give equal bytes, whatever the order of arrival. */
enum status completion_save(const struct completion *c, struct buffer *out);
/* Into a new, empty c. STATUS_OK, STATUS_CORRUPT, STATUS_NOMEMORY. */
enum status completion_load(struct completion *c, struct bytes saved);

#endif
