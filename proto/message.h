/* Message: what is said, as plain structs; codec.h turns them into frames and back.
 *
 * A struct's arrays are borrowed: from an arena after codec_unpack_*, from whoever built it before
 * codec_pack_*. Field meanings and units stand in data.proto and cluster.proto. Operations of one
 * message stand at the same index of its arrays; after an unpack every array has `count` elements
 * (arrays that were left out on the wire arrive as zeros).
 */
#ifndef PROTO_MESSAGE_H
#define PROTO_MESSAGE_H

#include "proto/base/bytes.h"
#include "proto/base/status.h"

#define PROTOCOL_MAGIC 0xD7
#define PROTOCOL_VERSION 1
#define MESSAGE_PREFIX_SIZE 4

enum message_kind {
    MESSAGE_HELLO = 1,
    MESSAGE_HELLO_REPLY = 2,
    MESSAGE_REQUEST = 3,
    MESSAGE_ANSWER = 4,
    MESSAGE_BATCH = 5,
    MESSAGE_RESULTS = 6,
    MESSAGE_REFUSED = 7,
    MESSAGE_PING = 8,
    MESSAGE_PONG = 9,
    MESSAGE_MAP_REQUEST = 10,
    MESSAGE_MAP = 11,
    MESSAGE_STATUS_REQUEST = 12,
    MESSAGE_STATUS = 13,
    MESSAGE_DRAIN = 14,
    MESSAGE_VOTERS = 15,
    MESSAGE_JOIN = 16,
    MESSAGE_CONFIRM = 17,
    MESSAGE_CONFIRMED = 18,
    MESSAGE_HEARTBEAT = 32,
    MESSAGE_PROMISE = 33,
    MESSAGE_PROMISED = 34,
    MESSAGE_APPEND = 35,
    MESSAGE_ACK = 36,
    MESSAGE_REGISTRY = 37,
    MESSAGE_SNAPSHOT = 38,
    MESSAGE_SNAPSHOT_ACK = 39,
};

enum role { ROLE_CLIENT = 1, ROLE_ROUTER = 2, ROLE_NODE = 3, ROLE_ADMIN = 4 };

struct id128 {
    uint8_t octets[16];
};

struct hello {
    uint32_t protocol_min, protocol_max;
    uint64_t features;
    uint32_t role;
    struct bytes cluster_id; /* 16 bytes or none */
    uint64_t boot_id;
    uint64_t ptime;
    struct bytes name, software;
    uint32_t operations_max, value_size_max;
};

enum operation_kind {
    KIND_READ = 1,
    KIND_WRITE = 2,
    KIND_OUTCOME = 3,
    KIND_SCAN = 4,
    KIND_RANGE = 5,
    KIND_ATOMIC = 6,
};
#define KIND_LAST KIND_ATOMIC

/* May it change a key, and is it known by its id therefore? */
static inline bool message_writes(uint32_t kind)
{
    return kind == KIND_WRITE || kind == KIND_ATOMIC;
}

enum precondition {
    PRECONDITION_NONE = 0,
    PRECONDITION_ABSENT = 1,
    PRECONDITION_PRESENT = 2,
    PRECONDITION_VERSION = 3,
    PRECONDITION_VALUE = 4,
    PRECONDITION_EXPIRY_NONE = 5,
    PRECONDITION_EXPIRY_SET = 6,
    PRECONDITION_EXPIRY_BEFORE = 7,
    PRECONDITION_EXPIRY_AFTER = 8,
};
enum mutation {
    MUTATION_NONE = 0,
    MUTATION_PUT = 1,
    MUTATION_PUT_KEEP_EXPIRY = 2,
    MUTATION_DELETE = 3,
    MUTATION_INCREMENT = 4,
    MUTATION_INCREMENT_DECIMAL = 5,
    MUTATION_APPEND = 6,
    MUTATION_SET_RANGE = 7,
    MUTATION_SET_EXPIRY = 8,
};
enum want { WANT_NOTHING = 0, WANT_OLD = 1, WANT_NEW = 2 };

/* The version of a key: the position of its last write. Ordered by epoch, then seq. */
struct version {
    uint64_t epoch, seq;
};

/* A write as it travels in `operations`. */
struct write {
    enum precondition precondition;
    enum mutation mutation;
    enum want want;
    struct bytes value;
    int64_t delta;
    struct version expected;
    struct bytes expected_value;
    uint64_t offset;
    uint64_t expiry_ms, ttl_ms; /* ttl_ms goes first; both 0: none */
};

enum read_part { READ_VALUE = 0, READ_EXPIRY = 1 };
enum consistency {
    CONSISTENCY_LINEARIZABLE = 0,
    CONSISTENCY_CONFIRM = 1,
    CONSISTENCY_ANY = 2,
};

struct read_query {
    enum read_part part;
    enum consistency consistency;
};

struct expiry {
    uint64_t expiry_ms, left_ms;
};

/* Each of operations is a write, packed. */
struct atomic_batch {
    size_t count;
    struct bytes *keys, *operations;
};

struct atomic_answer {
    size_t count;
    uint32_t *statuses, *flags; /* flags: ANSWER_VALUE or 0 */
    struct bytes *values;
    bool dropped; /* the values were not kept */
};

struct outcome_query {
    uint64_t client_id, seq;
    uint64_t ptime_token; /* of the write asked about, 0: not known */
};

struct scan_query {
    uint32_t count_max, bytes_max;
    bool keys_only, count_only;
    struct bytes prefix, from, to; /* KIND_RANGE */
};

struct scan_page {
    size_t count;
    struct bytes *keys, *values;
    uint64_t *epochs, *seqs;
    struct bytes next;
    uint64_t counted;
};

#define REQUEST_WHOLE 1u /* flags: one Answer for all operations */

struct request {
    uint64_t client_id, first_seq, ack_below, ptime_token;
    uint32_t deadline_ms, flags;
    size_t count;
    uint32_t *kinds;
    struct bytes *keys, *operations;
};

/* Flags of one operation's answer. */
#define ANSWER_RETRY 0x01u
#define ANSWER_IN_DOUBT 0x02u
#define ANSWER_SYNCED 0x04u
#define ANSWER_VALUE 0x08u
#define ANSWER_ANY 0x10u       /* a read: of one copy, it may be old */
#define ANSWER_CONFIRMED 0x20u /* a read: all members of the epoch were asked */
#define ANSWER_COPIES_SHIFT 8
#define ANSWER_COPIES_MASK 0xf00u

/* Answer (router to client; ids are op_seqs) and Results (node to router; ids are tokens) have the
 * same shape. */
struct answer {
    uint64_t owner; /* Answer: client_id. Results: router_boot */
    uint64_t ptime;
    size_t count;
    uint64_t *ids;
    uint32_t *statuses, *flags;
    uint64_t *epochs, *seqs;
    struct bytes *values;
};

struct batch {
    uint64_t router_boot;
    size_t count;
    uint64_t *tokens;
    uint32_t *kinds;
    uint64_t *digests, *epochs, *client_ids, *seqs, *ack_belows, *ptime_tokens;
    uint32_t *deadlines_ms;
    struct bytes *keys, *operations;
};

struct refused {
    enum status status;
    struct bytes message;
    uint32_t protocol_min, protocol_max;
};

struct ping {
    uint64_t nonce, boot_id, ptime, map_version;
};

struct reg { /* `register` is a word of C */
    struct bytes name;
    uint64_t version;
    struct bytes value;
};

struct map_message {
    size_t count;
    struct reg *registers;
};

struct cluster_value {
    struct bytes cluster_id;
    uint32_t partition_count, copies, isr_min;
    size_t voters_count, next_count;
    uint32_t *voters, *next; /* next: to come, while they change */
};

struct voters_message {
    size_t count;
    uint32_t *nodes;
};

struct node_value {
    struct bytes node_id, name, address, host, rack;
    uint32_t weight, state;
    uint64_t incarnation, disk;
};

struct partition_value {
    uint64_t epoch;
    bool opened;
    uint32_t primary, state;
    size_t isr_count, assigned_count;
    uint32_t *isr;
    uint64_t *isr_replica_ids; /* isr_count of them, or NULL */
    uint32_t *assigned;
    size_t base_count;
    uint32_t *base;
    uint64_t beacon_epoch, beacon_seq;
};

struct status_message {
    struct bytes name, role;
    size_t count;
    struct bytes *names;
    uint64_t *values;
};

struct heartbeat {
    uint32_t sender;
    uint64_t incarnation, target_incarnation;
    struct bytes cluster_id, node_id;
    uint64_t map_version, ptime;
    uint64_t disk, former, target_disk, target_seen;
    struct bytes address; /* empty: as the register has it */
    uint32_t lease_primary_ms, lease_replica_ms;
    bool leaving;
    uint64_t sent_ms, echo_ms;
    size_t count, granted_count; /* the first granted_count of them are granted */
    uint32_t *partitions;
    uint64_t *epochs;
};

struct promise {
    uint32_t sender;
    uint64_t incarnation, target_incarnation;
    size_t count;
    uint32_t *partitions;
    uint64_t *epochs;
};

/* CONFIRM and CONFIRMED: the partitions that are asked about, and those of them of which no newer epoch
 * is known. */
struct confirm {
    uint32_t sender;
    uint64_t incarnation, target_incarnation;
    size_t count;
    uint32_t *partitions;
    uint64_t *epochs, *numbers; /* numbers are the asker's, and echoed */
};

struct promised {
    uint32_t sender;
    uint64_t incarnation, target_incarnation;
    size_t count;
    uint32_t *partitions;
    uint64_t *epochs, *commit_epochs, *commit_seqs, *commit_hashes, *last_seqs;
};

#define APPEND_LACKS 2u /* the receiver acknowledged up to commit, and has it no more */
#define APPEND_WAITS 1u /* for an addition or a fence: two disks do not make a commit */

struct append {
    uint32_t sender;
    uint64_t incarnation, target_incarnation, ptime;
    size_t count; /* sections */
    uint32_t *partitions;
    uint64_t *epochs, *prev_epochs, *prev_seqs, *prev_hashes, *commit_seqs, *durable_seqs;
    uint32_t *flags, *entry_counts;
    size_t entries_count; /* the sum of entry_counts, checked by the codec */
    struct bytes *entries;
};

/* One step of a round of the registry on one register (storage/registry.h). */
enum registry_kind {
    REGISTRY_PREPARE = 1,  /* ballot */
    REGISTRY_PREPARED = 2, /* ballot; what was accepted: accepted ballot, version, writer, value */
    REGISTRY_ACCEPT = 3,   /* ballot, version, writer, value */
    REGISTRY_ACCEPTED = 4, /* ballot */
    REGISTRY_REFUSED = 5,  /* ballot that was asked; accepted: the higher ballot that was promised */
};

/* Ordered by counter, then node, then incarnation; counter 0: none. */
struct ballot {
    uint64_t counter;
    uint32_t node;
    uint64_t incarnation; /* of the proposer */
};

/* Who made a value: a proposer knows its own again. */
struct registry_writer {
    uint32_t node;
    uint64_t incarnation, nonce;
};

struct registry_message {
    uint32_t sender;
    uint64_t incarnation, target_incarnation;
    uint64_t voters_version;
    size_t count;
    uint32_t *kinds, *registers;
    struct ballot *ballots, *accepted;
    uint64_t *versions;
    struct registry_writer *writers;
    struct bytes *values;
};

/* One message of a whole copy of a partition (storage/snapshot.h). */
struct snapshot_message {
    uint32_t sender;
    uint64_t incarnation, target_incarnation;
    uint32_t partition;
    uint64_t epoch, id;
    uint32_t index;
    bool last;
    struct bytes body;
};

struct snapshot_ack {
    uint32_t sender;
    uint64_t incarnation, target_incarnation;
    uint32_t partition;
    uint64_t epoch, id;
    uint32_t next; /* the message that is wanted; 0: this copy is not known */
    bool done;
};

#define ACK_GAP 1u

struct ack {
    uint32_t sender;
    uint64_t incarnation, target_incarnation;
    size_t count;
    uint32_t *partitions;
    uint64_t *epochs, *verified_seqs, *hashes;
    uint32_t *flags;
};

#endif
