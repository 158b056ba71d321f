/* Node: the brain of duet-storage. Events in, effects out; no I/O, no clock, no threads.
 *
 * Life: node_new(); recovery: node_restore() for every checkpointed state, node_replay() for every
 * later record of the log; node_start(). Then, turn after turn: node_step() for each event,
 * node_flush() at the end of the turn (it builds one message per peer and per router), and the shell
 * carries the effects out: first appends `records` to the log and submits a group, then sends.
 * Everything that has to wait for the disk waits inside the core for NODE_DURABLE, so all effects of
 * a turn may leave at once.
 *
 * Invariants (storage/README.md explains; tests refer to the numbers):
 * (1) promised_epoch never falls, and is durable before it is answered or used.
 * (2) No ACK covers an entry that is not durable here or not verified in the ACK's epoch.
 * (3) applied <= commit <= verified <= last, and commit <= durable.
 * (4) Committed: durable at every member of the ISR. Nothing committed is ever truncated.
 * (5) A node never acts as primary in an epoch that an earlier incarnation of it promised.
 * (6) A write is answered only when committed, and with what its completion record says.
 */
#ifndef STORAGE_NODE_H
#define STORAGE_NODE_H

#include "proto/clustermap.h"
#include "storage/checkpoint.h"
#include "storage/store.h"

struct node;

struct node_time {
    uint64_t now_ms;  /* monotone, counts in suspend */
    uint64_t wall_ms; /* since 1970, for ptime */
};

struct node_options {
    uint32_t index;       /* in the cluster map */
    uint64_t incarnation; /* raised and synced before node_start() */
    uint64_t former;      /* the incarnation before */
    uint64_t disk;        /* of the directory (identity.h); not 0 */
    const char *address;  /* where it listens; NULL: as the map says. Borrowed for the node's life */
    uint64_t boot_id;     /* random */
    uint64_t heartbeat_ms;  /* 100 */
    uint64_t suspect_ms;    /* 300: a peer that was silent for so long is missing */
    uint64_t stall_ms;      /* 1000: one that talks, but acknowledges nothing for so long, too */
    uint64_t retransmit_ms; /* 100: without progress, send again */
    uint64_t ask_primary_ms; /* 20: how long a read of a dirty key waits at a replica */
    uint64_t commit_note_ms; /* 1000: how often commit positions are noted in the log */
    uint64_t lease_primary_ms; /* 400: how long a primary may read without news from its replicas */
    uint64_t lease_replica_ms; /* 700: the same of a replica */
    uint64_t lease_former_ms; /* the longest that former lives of this disk have granted */
    uint64_t kept_bytes_max; /* of committed entries kept in memory for members that lack them */
    uint64_t random;        /* seed of the jitter between proposers */
    uint32_t pending_max;   /* uncommitted entries per partition; beyond: BUSY */
    uint64_t pending_bytes_max; /* of all partitions; beyond: BUSY */
    uint32_t waiters_max;   /* operations that wait inside the node; beyond: BUSY */
    uint32_t value_size_max;
};

/* The defaults above; index, incarnation, former, disk and boot_id zero. */
void node_options_init(struct node_options *o);

enum node_event_kind {
    NODE_REQUEST,     /* frame from source (a router, an admin) on the requests socket */
    NODE_SOURCE_GONE, /* the shell forgot source: drop what would be sent there */
    NODE_PEER,        /* frame from another node, control or append lane */
    NODE_DURABLE,     /* the log is durable up to lsn */
    NODE_FETCHED,     /* a FETCH came back */
    NODE_SPACE,       /* low tells whether writes must be refused for lack of disk space */
    NODE_LEAVE,       /* stop soon: hand over what can be; see node_left() */
};

struct node_event {
    enum node_event_kind kind;
    uint64_t source;     /* NODE_REQUEST, NODE_SOURCE_GONE: the shell's number for the connection */
    struct bytes frame;  /* NODE_REQUEST, NODE_PEER */
    uint64_t lsn;        /* NODE_DURABLE */
    uint64_t ticket, generation; /* NODE_FETCHED */
    const struct item *item;     /* NODE_FETCHED */
    bool low;                    /* NODE_SPACE */
};

enum node_lane { LANE_CONTROL, LANE_APPEND }; /* each its own connection to the peer */

enum node_effect_kind {
    NODE_SEND_SOURCE, /* frame to source */
    NODE_SEND_PEER,   /* frame to node peer on lane */
    NODE_FETCH,       /* read (slot, digest, key) from the table, answer with NODE_FETCHED */
};

struct node_effect {
    enum node_effect_kind kind;
    uint64_t source;
    uint32_t peer;
    enum node_lane lane;
    struct buffer frame; /* owned; FETCH: the key */
    uint64_t ticket, generation, digest;
    uint32_t slot;
};

/* Filled by node calls, emptied by the shell with node_effects_clear(). */
struct node_effects {
    struct node_effect *list;
    size_t count, capacity;
    struct buffer records;  /* framed, to be appended to the log as they are */
    uint64_t records_first; /* lsn of the first of them */
    uint32_t records_count;
};

void node_effects_init(struct node_effects *out);
void node_effects_fini(struct node_effects *out);
void node_effects_clear(struct node_effects *out);
/* Room for one more effect, for the core's parts; NULL: out of memory. */
struct node_effect *node_effects_add(struct node_effects *out, enum node_effect_kind kind);

/* map (joined with what peers know as time goes) and store are borrowed for the node's life.
 * NULL: out of memory. */
struct node *node_new(const struct node_options *options, struct clustermap *map,
                      struct store *store);
void node_destroy(struct node **node_p);

/* Recovery. STATUS_OK; STATUS_CORRUPT: reterr says what does not fit; STATUS_NOMEMORY. */
enum status node_restore(struct node *n, uint32_t slot, struct bytes blob, struct error *reterr);
enum status node_replay(struct node *n, uint64_t lsn, const struct record_view *record,
                        struct error *reterr);
/* All records are in: next_lsn is the log's. Replicas that this node should have and never had are
 * created; epochs of partitions led here begin. STATUS_CORRUPT when the log ended in something that
 * cannot be. */
enum status node_start(struct node *n, const struct node_time *time, uint64_t next_lsn,
                       struct node_effects *out, struct error *reterr);

/* Feed one event. STATUS_OK always, except STATUS_IO, STATUS_CORRUPT, STATUS_NOMEMORY: the process
 * must end at once, without sending anything more (storage/README.md, U4). */
enum status node_step(struct node *n, const struct node_time *time, const struct node_event *event,
                      struct node_effects *out);
/* End of a turn: timers, then everything that was gathered leaves as messages. Same errors. */
enum status node_flush(struct node *n, const struct node_time *time, struct node_effects *out);
/* Why a step failed, when it was not log, table or memory: what is missing on this disk. Empty: it was
 * one of those. */
void node_failure(const struct node *n, char to[static 256]);
/* When node_flush() next has something to do without an event; UINT64_MAX: never. */
uint64_t node_deadline(const struct node *n);
/* After NODE_LEAVE: it leads nothing that another could lead, and nobody waits for its
 * acknowledgements. */
bool node_left(const struct node *n);

/* Notes all commit positions in the log, for a clean shutdown or before a checkpoint. */
enum status node_note_commits(struct node *n, struct node_effects *out);

/* A checkpoint begins: fill states and lsn of c (frozen is the caller's, from store_freeze() in the
 * same turn, after node_flush()). Entries that were pending for long are appended to the log again,
 * so that they do not pin it: those records are in out. */
enum status node_freeze(struct node *n, struct checkpoint *c, struct node_effects *out);

/* Has this node anything to say to another one: a partition that both keep, or registers? */
bool node_talks_to(const struct node *n, uint32_t node);

/* For status and tests. */
struct node_counters {
    uint64_t reads_any; /* of the reads, those of whatever is committed here */
    uint64_t confirms, confirms_unled; /* rounds of questions for reads; of them, by a replica */
    uint64_t operations, reads, writes, duplicates, refused_unavailable, refused_busy, refused_full;
    uint64_t malformed, stale_messages, retransmits, gaps, truncated_entries, commits, fetches;
    uint64_t lapses; /* keys past their expiry that were let go */
    uint64_t adrift; /* members that came back and lacked more than memory holds */
    uint64_t snapshots; /* whole copies that were begun for them */
    uint64_t copies_ended, copies_dropped; /* whole copies here: that took over, that did not */
    uint64_t caught_up; /* members that came back and lacked no more than memory holds */
    uint64_t takeovers; /* epochs proposed in place of a primary that is missing */
    uint64_t takeovers_unopened; /* of these and the next, from an epoch that never opened (F2) */
    uint64_t left_out;   /* epochs proposed without a member that is missing */
    uint64_t new_lives;  /* epochs proposed after a restart (F6) */
    uint64_t collisions; /* proposals that found another's in their place */
    uint64_t fenced;     /* times that a commit had to wait for the leases of who was left out */
    uint64_t additions, additions_dropped, grown; /* begun; given up; epochs with a member more */
    uint64_t hand_backs; /* epochs that gave leadership to whom placement wants */
    uint64_t hand_overs; /* epochs that gave leadership away because our disk stood still */
    uint64_t met;        /* our disk became known to enough others */
    uint64_t disks_refused; /* heartbeats of a node with another disk, or of an old life */
    uint64_t voters_joint, voters_changed; /* changes of the voters that began, and ended, by us */
    uint64_t peers_up, partitions_led, partitions_open, partitions_dirty, pending_entries;
    uint64_t leaving, left; /* 0 or 1: it is asked to leave; it has (node_left()) */
    uint64_t disk_full; /* 1: writes are refused until there is room */
};
void node_count(const struct node *n, struct node_counters *ret);

/* What one replica looks like, for tests, checkers and status. False: no replica of partition here. */
struct node_replica_view {
    uint32_t slot;
    bool primary, opened, in_isr;
    uint64_t config_epoch; /* of the register that it acts on */
    uint64_t promised_epoch;
    uint64_t commit_epoch, commit_seq, commit_hash;
    uint64_t last_seq, durable_seq, verified_seq;
    uint32_t isr_count;
    uint32_t isr[COPIES_MAX]; /* of the same register */
};
bool node_replica(const struct node *n, uint32_t partition, struct node_replica_view *ret);
/* Would reads of clean keys of partition be answered here at now_ms? */
bool node_readable(const struct node *n, uint32_t partition, uint64_t now_ms);

/* Chain hash of the entry at seq if it is still in memory (commit position or above). */
bool node_entry_hash(const struct node *n, uint32_t partition, uint64_t seq, uint64_t *ret_hash);
/* Bytes of the completion state of partition, for comparing copies. */
enum status node_completion_save(const struct node *n, uint32_t partition, struct buffer *out);
/* Checkers: called for every entry that becomes committed here, in order. NULL: none. */
typedef void node_commit_fn(void *arg, uint32_t partition, const struct entry *e, uint64_t hash);
void node_on_commit(struct node *n, node_commit_fn *fn, void *arg);

#endif
