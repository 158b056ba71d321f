/* Replica: one partition's copy on this node: its log suffix, its committed state, its role.
 *
 *   completion, store: applied up to `commit`     pending ring: (commit, last]
 *
 *   entries  ... | applied .............. commit | pending ........................... last |
 *                                                  durable_seq: on our disk up to here
 *                                                  verified_seq (replica): sent or confirmed by the
 *                                                  primary of the promised epoch up to here
 *
 * Under one fixed membership `lead` and the members never change; which epoch it is does, at every
 * boot of the primary.
 */
#ifndef STORAGE_REPLICA_H
#define STORAGE_REPLICA_H

#include "storage/completion.h"
#include "storage/core.h"

struct position {
    uint64_t epoch, seq, hash;
};

#define EPOCH_VECTOR_MAX 64 /* newest epochs kept: (epoch, first seq) */

/* The primary's view of one other member. */
struct member {
    uint32_t node;
    bool synced;          /* has promised our epoch in its present incarnation; we know its log */
    uint64_t asked_ms;    /* when PROMISE was sent last */
    uint64_t next_seq;    /* to be sent next */
    uint64_t acked_seq;   /* durable and verified there */
    uint64_t progress_ms; /* of the last ACK that moved, or of the first entry sent after it */
    uint64_t told_commit, told_durable; /* what the last section said */
};

struct replica {
    /* Who it is. */
    uint32_t partition, slot;
    uint64_t replica_id;
    uint32_t lead_node; /* node index of the primary */
    bool leads;         /* that is us */
    uint32_t members_count; /* without ourselves */
    struct member members[COPIES_MAX - 1];

    /* Survives a crash. */
    uint64_t promised_epoch;
    struct position commit, last;
    uint64_t ptime; /* highest of all entries here */
    struct completion *completion;
    uint32_t epochs_count;
    struct { uint64_t epoch, first_seq; } epochs[EPOCH_VECTOR_MAX];

    /* The suffix; entry at seq stands in ring[seq & (ring_size - 1)]. */
    struct pending **ring;
    uint32_t ring_size;
    uint64_t durable_seq;
    uint64_t promise_durable; /* highest epoch whose promise is on the disk */

    /* The primary's. */
    bool opened;         /* all members promised, our own promise is durable */
    uint64_t expire_seq;    /* of the newest EXPIRE that was logged */
    uint64_t commit_due_ms; /* tell the others the commit position by then; 0: they know */

    /* The replica's. */
    uint64_t lead_incarnation; /* that got our promise; 0: none since boot */
    uint64_t verified_seq;
    uint64_t lead_durable; /* newest the primary said in this epoch */
    bool lead_addition;    /* it said that an addition is pending */
    bool ack_due, ack_gap, promised_due;
    uint64_t acked_seq;     /* of the last ACK in this epoch */
    uint64_t asked_ms;      /* when an ACK was repeated last */
    uint64_t reader_due_ms; /* a read waits here and must be answered by then; 0: none */

    /* Bookkeeping. */
    bool met; /* since this start: what the pair knows to be committed is in our log */
    bool touched;
    bool changed;          /* since the last checkpoint */
    bool expiring;         /* there may be items with an expiry (lapse.h) */
    uint64_t noted_commit; /* in the log, or in the table */
    uint64_t again_until;  /* last lsn of copies under way (replica_log_again); 0: none */
    uint64_t orphan_seq;   /* replay: entries from here on did not chain; 0: none */
};

/* NULL: out of memory. Role and members come from the map. */
struct replica *replica_new(struct core *c, uint32_t partition, uint32_t slot, uint64_t replica_id);
void replica_destroy(struct core *c, struct replica **r_p);

/* The pending entry at seq; NULL outside (commit, last]. */
struct pending *replica_pending(const struct replica *r, uint64_t seq);
/* Hash of the entry at seq: in [commit, last]. False outside. */
bool replica_hash(const struct replica *r, uint64_t seq, uint64_t *ret);
static inline uint64_t replica_pending_count(const struct replica *r)
{
    return r->last.seq - r->commit.seq;
}
bool replica_full(const struct core *c, const struct replica *r);

/* Log an entry body that continues the log (its seq is last + 1 and its prev_hash our last hash).
 * Returns it, or NULL after core_fail(). */
struct pending *replica_append(struct core *c, struct replica *r, struct bytes body);
/* Forget entries at and above seq (> commit), with a record. Their waiters hear
 * ASKPRIMARY (reads) or INDOUBT (writes). */
void replica_truncate(struct core *c, struct replica *r, uint64_t seq);
/* Keep the completion record of an entry; part of replica_commit(). */
void replica_remember(struct core *c, struct replica *r, const struct entry *e);
/* Apply everything up to seq (<= last): data, completion records, waiters. */
void replica_commit(struct core *c, struct replica *r, uint64_t seq);
/* The promise of epoch goes to the log; verified starts again at commit. */
void replica_promise(struct core *c, struct replica *r, uint64_t epoch);
/* A record that was waited for is durable. */
void replica_durable(struct core *c, struct replica *r, const struct durable_item *item);
/* Note the commit position in the log when it moved since. */
void replica_note_commit(struct core *c, struct replica *r);
/* When a pending entry was logged at or below lsn: append it and all that are pending behind it again,
 * so that recovery may start after lsn. The copies count only once all of them are durable: recovery
 * must meet entries in the order of their seqs. */
void replica_log_again(struct core *c, struct replica *r, uint64_t lsn);

/* Recovery. */
enum status replica_restore(struct core *c, struct replica *r, struct bytes blob);
enum status replica_save(const struct replica *r, struct buffer *out);
enum status replica_replay_entry(struct core *c, struct replica *r, uint64_t lsn,
                                 struct bytes body);
void replica_replay_truncate(struct core *c, struct replica *r, uint64_t seq);
void replica_replay_commit(struct core *c, struct replica *r, uint64_t seq);

#endif
