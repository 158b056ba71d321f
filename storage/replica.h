/* Replica: one partition's copy on this node: its log suffix, its committed state, its role.
 *
 *   completion, store: applied up to `commit`     pending ring: (commit, last]
 *
 *   entries  ... | applied .............. commit | pending ........................... last |
 *                                                  durable_seq: on our disk up to here
 *                                                  verified_seq (replica): sent or confirmed by the
 *                                                  primary of the promised epoch up to here
 *
 * Who leads, and who must acknowledge, stands in the partition's register (epoch.h).
 */
#ifndef STORAGE_REPLICA_H
#define STORAGE_REPLICA_H

#include "storage/completion.h"
#include "storage/core.h"

struct position {
    uint64_t epoch, seq, hash;
};

#define EPOCH_VECTOR_MAX 64 /* newest epochs kept: (epoch, first seq) */

/* Another node that keeps this partition, or should. */
struct member {
    uint32_t node;
    bool in_isr; /* of the configuration that we know */

    /* The primary's view of it. */
    bool synced;          /* has promised our epoch in its present incarnation; we know its log */
    bool adding;          /* not in the ISR yet, but its ACK is required from now on (G1) */
    bool adrift;          /* the entries that it lacks are no longer in our memory */
    uint64_t mark_seq;    /* adding: once it has that, the ISR may take it */
    uint64_t adding_ms;   /* since when */
    uint64_t since_ms;    /* it is in the ISR, or out of it */
    uint64_t joined_ms;   /* when it came into the ISR */
    uint64_t owed_ms;     /* since when an ACK is owed; moves with every one; 0: none is */
    uint64_t back_off_ms; /* after it was left out: not taken again before since_ms + this */
    uint64_t asked_ms;    /* when PROMISE was sent last */
    uint64_t next_seq;    /* to be sent next */
    uint64_t acked_seq;   /* durable and verified there */
    uint64_t had_seq;     /* committed while it was in the ISR: it had that on its disk */
    uint64_t progress_ms; /* of the last ACK that moved, or of the first entry sent after it */
    uint64_t told_commit, told_durable; /* what the last section said */

    /* Leases (lease.h); our own clock. */
    uint64_t lease_until_ms;   /* it has granted us one until then */
    uint64_t granted_until_ms; /* we have granted it one until then */
    uint64_t granted_epoch;    /* of the newest grant */
    uint64_t asks_epoch;       /* that its newest heartbeat named; 0: none */
    uint64_t asks_ms;          /* when that came */

    uint64_t confirmed; /* operations that had arrived when it was asked, and knew of no newer epoch (R5) */

    struct snapshot *snapshot; /* a copy on its way to it; NULL: none */
};

struct replica {
    /* Who it is. */
    uint32_t partition, slot;
    uint64_t replica_id;

    /* The configuration that we know: partition's register in the map, adopted (epoch.h). It counts
     * only once its epoch is promised; what we have promised is never below it for long. */
    uint64_t config_version, config_epoch;
    uint32_t lead_node; /* node index of the primary */
    bool leads;         /* that is us, in an epoch that no earlier life of ours has promised */
    bool in_isr;        /* we are */
    uint32_t members_count; /* without ourselves: all that keep the partition, or should */
    struct member members[COPIES_MAX - 1];
    uint64_t boot_promised; /* epoch that was promised when this process started */
    uint64_t boot_last;     /* and where the log ended */
    uint64_t ticket;        /* of the proposal under way; 0: none */
    uint64_t suspected_ms; /* since when the primary is missing; 0: it is there */

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
    uint64_t kept_seq; /* committed entries from here on are kept for members that lack them; usually
                          commit + 1: none */
    uint64_t durable_seq;
    uint64_t promise_durable; /* highest epoch whose promise is on the disk */

    /* The primary's. */
    bool opened; /* the promised epoch is, as far as we know; also the replica's */
    uint64_t opened_ms;
    bool handing_over; /* no new writes: leadership is about to move */
    uint64_t expire_seq;    /* of the newest EXPIRE that was logged */
    uint64_t commit_due_ms; /* tell the others the commit position by then; 0: they know */

    /* The replica's. */
    uint64_t lead_incarnation; /* that got our promise; 0: none since boot */
    uint64_t verified_seq;
    uint64_t lead_commit, lead_durable; /* newest the primary said in this epoch */
    bool lead_waits; /* it said that commits wait for an addition, or for a fence */
    bool ack_due, ack_gap, promised_due;
    uint64_t acked_seq;     /* of the last ACK in this epoch */
    uint64_t asked_ms;      /* when an ACK was repeated last */
    uint64_t reader_due_ms; /* a read waits here and must be answered by then; 0: none */

    /* Reads that are confirmed by all members (confirm.h); numbers are arrivals of operations. */
    uint64_t confirm_wanted; /* of the newest that waits; 0: none does */
    uint64_t confirm_number; /* of the question that is under way; 0: none since this epoch began */
    uint64_t confirm_asked_ms;

    /* A whole copy on its way here (snapshot.h). */
    struct replica *successor; /* the slot that it fills; NULL: none */
    bool installing;           /* this is such a slot, and not whole yet */
    bool install_ended;        /* SWITCH is in the log */
    uint64_t install_id;
    uint32_t install_next;     /* the message that is to come */
    uint64_t switched_id;      /* of the copy that this slot was filled from; 0: none in this life */

    /* Operations that wait for the epoch to open, or for a member to be left out (hold.h). */
    struct held *held, *held_last;
    uint64_t releasing_since_ms; /* of the one that is being tried again; 0: none is */

    /* Bookkeeping. */
    bool touched;
    bool changed;          /* since the last checkpoint */
    bool expiring;         /* there may be items with an expiry (lapse.h) */
    uint64_t noted_commit; /* in the log, or in the table */
    uint64_t again_until;  /* last lsn of copies under way (replica_log_again); 0: none */
    uint64_t orphan_seq;   /* replay: entries from here on did not chain; 0: none */
};

/* NULL: out of memory. Members come from the map; the role comes with epoch_adopt(). */
struct replica *replica_new(struct core *c, uint32_t partition, uint32_t slot, uint64_t replica_id);
void replica_destroy(struct core *c, struct replica **r_p);

/* The pending entry at seq; NULL outside (commit, last]. */
struct pending *replica_pending(const struct replica *r, uint64_t seq);
/* The same in [kept_seq, last]. */
struct pending *replica_entry(const struct replica *r, uint64_t seq);
/* Hash of the entry at seq: in [kept_seq - 1, last]. False outside. */
bool replica_hash(const struct replica *r, uint64_t seq, uint64_t *ret);
/* The member that runs on node; NULL: none, or ourselves. */
struct member *replica_member(struct replica *r, uint32_t node);
/* Copies that the configuration asks for an acknowledgement. */
uint32_t replica_copies(const struct replica *r);
/* Committed entries that no member lacks any more go; all of them when forced. */
void replica_forget_kept(struct core *c, struct replica *r, bool all);
/* Can r act in the configuration it knows? Not while that is older than its promise. */
static inline bool replica_current(const struct replica *r)
{
    return r->config_epoch == r->promised_epoch && r->promise_durable == r->promised_epoch;
}
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
/* The same for all of them, without a record: the replica is about to go. */
void replica_abandon(struct core *c, struct replica *r);
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
/* What a checkpoint keeps of a slot that is void, and how it is told from the others. */
enum status replica_save_dropped(struct buffer *out);
bool replica_saved_dropped(struct bytes blob);
bool replica_saved_installing(struct bytes blob);
enum status replica_replay_entry(struct core *c, struct replica *r, uint64_t lsn,
                                 struct bytes body);
void replica_replay_truncate(struct core *c, struct replica *r, uint64_t seq);
void replica_replay_commit(struct core *c, struct replica *r, uint64_t seq);

#endif
