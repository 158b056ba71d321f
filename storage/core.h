/* Core: what the parts of a node's brain share: options, map, store, indexes, this turn.
 *
 *   node.c     events to the parts, requests, recovery, checkpoints
 *   peers.c    the other nodes: heartbeats, incarnations, their messages
 *   known.c    which disk a node has: an empty one, or an old copy, is told
 *   membership.c which nodes there are, and which of them vote
 *   epoch.c    who leads a partition: proposals to the registry, and what came of them
 *   lease.c    who may read: grants between pairs of nodes
 *   serve.c    client operations at one replica: read, write, outcome, scan
 *   hold.c     operations that came between two epochs
 *   confirm.c  reads that ask the other members rather than a clock
 *   page.c     keys and values in order, as one answer
 *   lapse.c    keys past their expiry go
 *   lead.c     the primary's side of replication: epochs, APPEND, commit
 *   follow.c   the replica's side: promise, accept, truncate, acknowledge
 *   replica.c  one partition's log suffix and state: append, apply, replay, save
 *   snapshot.c a whole copy for a member that was away for long
 *   outbox.c   messages to peers, one per lane and turn
 */
#ifndef STORAGE_CORE_H
#define STORAGE_CORE_H

#include "storage/cold.h"
#include "storage/node.h"
#include "storage/outbox.h"
#include "storage/pending.h"
#include "storage/replies.h"

struct known;
struct replica;

/* What this node knows of another one. */
struct peer {
    uint64_t incarnation; /* 0: never heard of */
    uint64_t born_ms;     /* when we heard of it first, in that life */
    uint64_t heard_ms;    /* of the last heartbeat */
    uint64_t suspect_ms;  /* how long it may be silent: more, after it was suspected wrongly */
    uint64_t raised_ms;   /* when that was */
    uint64_t map_version;
    uint64_t map_asked_ms;
    uint64_t echo_ms; /* sent_ms of its newest heartbeat, for our next one */
    bool named;       /* that heartbeat was about some partition */
    bool up;          /* heard within suspect_ms */
    bool shares;      /* a partition with us, or registers: heartbeats go there */
    bool heartbeat_due; /* one at once: it would give a lease */
    bool leaving;     /* it is about to stop */
};

enum durable_kind {
    DURABLE_ENTRY,
    DURABLE_PROMISE,
    DURABLE_AGAIN,
    DURABLE_PAGE,   /* of a snapshot; number: the next one */
    DURABLE_SWITCH, /* the replica's slot takes over */
};

/* What became of a slot that holds no replica. */
enum { SLOT_LIVE, SLOT_DROPPED, SLOT_DROPPED_NEW /* its rows are still in the table */ };

/* What becomes true when the log is durable up to lsn; in lsn order. */
struct durable_item {
    uint64_t lsn;
    struct replica *replica; /* NULL: its slot was dropped */
    enum durable_kind kind;
    uint64_t number; /* ENTRY, AGAIN: seq. PROMISE: epoch */
};

struct durable_queue {
    struct durable_item *items; /* ring; capacity is a power of two */
    size_t head, count, capacity;
};

/* Where the walk for keys past their expiry is (lapse.h). */
struct lapse_sweep {
    uint32_t slot;   /* the partition's; 0: none yet */
    bool inside;     /* it is not through */
    bool seen;       /* an item with an expiry, since its beginning */
    uint64_t digest; /* of the last row looked at, and its key */
    uint32_t key_size;
    uint8_t key[KEY_SIZE_MAX];
};

/* The registers of cluster and nodes (membership.h). */
struct membership {
    bool news;              /* some of them moved through us: to be told to all */
    uint64_t joint_version; /* of the voters that `moved` is about */
    bool *moved;            /* by register: a majority of both sets has it */
};

#define HELD_DIGESTS 1024u

struct core {
    /* Fixed at start. */
    struct node_options options;
    struct clustermap *map;
    struct store *store;
    node_commit_fn *on_commit;
    void *on_commit_arg;

    /* Replicas of this node: by partition, by slot. NULL: none. */
    struct replica **by_partition;
    struct replica **by_slot; /* those that are being filled, too */
    uint8_t *slot_dropped;
    uint32_t slots_count, slots_capacity; /* slots 1..slots_count are given away */

    /* Shared between partitions. */
    struct pending_index pending;
    struct replies replies;
    struct cold cold;
    struct outbox outbox;
    struct durable_queue queue;
    struct registry *registry;
    uint64_t snapshots_drawn; /* ids of copies that we send */
    uint32_t snapshots_count; /* under way */
    uint32_t *news; /* partitions whose registers moved through us: to be told to all */
    uint32_t news_count;
    uint64_t arrivals; /* operations that came */
    uint32_t held_count; /* operations that are held (hold.h) */
    uint32_t held_digests[HELD_DIGESTS]; /* how many of them, by digest */
    uint64_t kept_bytes; /* of committed entries that are kept for members that lack them */
    struct membership membership;
    struct peer *peers;
    struct known *known; /* by node */
    bool known_changed;  /* since the last checkpoint */
    uint32_t peers_count; /* nodes of the map; peers and known have room for NODES_MAX */
    uint64_t next_lsn, durable_lsn;
    uint64_t synced_ms; /* when the disk moved last, or got something to do after it had nothing */
    uint64_t ptime_max; /* highest ptime of a committed entry known here */
    bool space_low;
    bool leaving; /* we are about to stop (epoch.h) */
    uint64_t started_ms;
    uint32_t lost_partition; /* of core_lost() */
    uint64_t lost_here, lost_there;
    uint64_t outlived_by; /* of core_outlived() */
    bool replaced;        /* core_replaced() */
    struct node_counters counters;
    struct lapse_sweep sweep;

    /* This turn. */
    uint64_t now_ms, wall_ms;
    uint64_t looked_ms; /* when peers_tick() looked last */
    struct node_effects *out;
    enum status failed; /* the first error that must end the process */
    struct replica **touched; /* replicas with something to send at the end of the turn */
    uint32_t touched_count;
    struct buffer scratch;  /* an entry's body while it is built */
    struct arena arena;     /* an operation while it is evaluated */
    struct arena frame;     /* the message that is being handled */
};

/* Remember the first error; returns it. */
enum status core_fail(struct core *c, enum status status);
/* This disk lacks what it once acknowledged for r, which others know to be committed: fail. */
void core_lost(struct core *c, const struct replica *r, uint64_t committed);
/* Others know this node with another disk: fail. */
void core_replaced(struct core *c);
/* Others have spoken with a later incarnation of this node: fail. */
void core_outlived(struct core *c, uint64_t incarnation);

/* Put a record into this turn's effects; returns its lsn (0 after core_fail()). */
uint64_t core_record(struct core *c, enum record_kind kind, uint32_t slot, struct bytes body);

/* replica_... will be told when lsn is durable (node.c). */
void core_when_durable(struct core *c, uint64_t lsn, struct replica *r, enum durable_kind kind,
                       uint64_t number);

/* r has something to send: it is asked at the end of the turn. */
void core_touch(struct core *c, struct replica *r);

/* Answer an operation. */
void core_reply(struct core *c, struct asker to, const struct reply *reply);
void core_refuse(struct core *c, struct asker to, enum status status);

/* Nonsense came: count it. */
void core_malformed(struct core *c);
/* What a codec_pack_ call said; packing fails only for want of memory. */
void core_packed(struct core *c, enum status status);

/* Does placement want a copy of p on node? */
bool core_assigned(const struct clustermap_partition *p, uint32_t node);
/* The replica in slot that acts for its partition; NULL: none, dropped, or not whole yet. */
struct replica *core_live(const struct core *c, uint32_t slot);
/* Make room for slot. False: out of memory, or beyond all bounds. */
bool core_slot_reserve(struct core *c, uint32_t slot);
/* Our replica of partition; NULL: none, or no such partition. */
struct replica *core_replica(const struct core *c, uint32_t partition);

/* Have the table read for k; generation is the store's. */
void core_fetch(struct core *c, const struct cold_key *k, uint64_t generation);

#endif
