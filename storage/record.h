/* Record: what stands in the log and travels in APPEND. Pure; formats are final.
 *
 * A framed record: {u32 size of the whole, u8 kind, u8 0, u16 0, u32 slot, u32 0} and the body;
 * little endian, padded with zeros to 8 bytes (size counts the padding; body size is inside the
 * body where it matters). `slot` is the local replica slot (0: the node itself) and differs between
 * nodes; the body of an ENTRY is the same bytes everywhere.
 *
 * Entry body, version 1:
 *   u8 1, u8 entry kind, u8 status, u8 effects count, u32 body size (without padding)
 *   u64 epoch, u64 seq, u64 prev_epoch, u64 prev_hash, u64 ptime, u64 client, u64 client_seq,
 *   u64 ack_below, u64 horizon, u64 key hash, u32 result flags, u32 result size, result bytes,
 *   then the effects: u8 kind, u8 0, u16 key size, u32 value size, u64 digest, u64 expiry,
 *   key bytes, value bytes. Effects are absolute; kinds for deltas are reserved.
 * chain hash: XXH3 64 of the body, seeded with prev_hash.
 */
#ifndef STORAGE_RECORD_H
#define STORAGE_RECORD_H

#include "proto/base/buffer.h"
#include "proto/limits.h"
#include "proto/message.h"

enum record_kind {
    RECORD_ENTRY = 1,
    RECORD_TRUNCATE = 2, /* u64 seq: entries of the slot at and above it are void */
    RECORD_PROMISE = 3,  /* u64 epoch */
    RECORD_COMMIT = 4,   /* u64 seq: committed up to there (lazy, a hint that saves dirty keys) */
    RECORD_REGISTER = 5, /* a step of the registry's acceptor (storage/acceptor.c) */
    RECORD_INSTALL = 6,  /* u32 partition, u32 0, u64 replica id: the slot holds this replica */
    RECORD_CLOSE = 7,    /* clean shutdown; nothing inside */
    RECORD_SNAPSHOT = 8, /* the slot begins to be filled: a saved state (storage/replica.c) */
    RECORD_ROWS = 9,     /* rows for it (storage/snapshot.c) */
    RECORD_SWITCH = 10,  /* it is whole and takes over its partition; the former slot is void */
    RECORD_DROP = 11,    /* the slot is void */
    RECORD_KNOWN = 12,   /* what this node knows of a node's disk (storage/known.c) */
};

#define RECORD_HEADER_SIZE 16
#define RECORD_SIZE_MAX (VALUE_SIZE_MAX * 2u + 65536u)

struct record_view {
    enum record_kind kind;
    uint32_t slot;
    struct bytes body; /* with padding; record_entry_decode() knows the true size */
};

/* Append one framed record. STATUS_OK, STATUS_NOMEMORY, STATUS_TOOBIG. */
enum status record_append(struct buffer *out, enum record_kind kind, uint32_t slot,
                          struct bytes body);
/* Take the first record off *rest. STATUS_OK; STATUS_NOTFOUND at the end; STATUS_CORRUPT. */
enum status record_next(struct bytes *rest, struct record_view *ret);

enum entry_kind {
    ENTRY_WRITE = 1,   /* a client's write; also a failed precondition (no effects) */
    ENTRY_EPOCH = 2,   /* first entry of an epoch; no effects, no client */
    ENTRY_ABORTED = 3, /* (client, client_seq) did not happen and never will */
    ENTRY_EXPIRE = 4,  /* completion records with ptime <= horizon go; no client */
    ENTRY_LAPSE = 5,   /* keys past their expiry go: deletions; no client */
};

enum effect_kind {
    EFFECT_PUT = 1,
    EFFECT_DELETE = 2,
    EFFECT_APPEND = 3,    /* reserved */
    EFFECT_SET_RANGE = 4, /* reserved */
};

struct effect {
    enum effect_kind kind;
    uint64_t digest;
    uint64_t expiry_ms; /* wall clock; 0: never */
    struct bytes key, value;
};

#define ENTRY_EFFECTS_MAX 255 /* of one entry; all of one hash tag, so with one digest */
#define RESULT_HAS_VALUE 1u   /* result flags */
#define RESULT_TRIMMED 2u     /* the value was too large to keep; with HAS_VALUE: as a whole */
#define RESULT_SIZE_MAX 1024  /* bytes of a result value that are kept */

struct entry {
    enum entry_kind kind;
    enum status status; /* the answer: OK, CONDITION, NOTFOUND (delete), NOTNUMBER, ... */
    uint64_t epoch, seq, prev_epoch, prev_hash;
    uint64_t ptime;
    uint64_t client, client_seq, ack_below;
    uint64_t horizon;
    /* record_key_hash() of the key that the client's operation is about, record_tag_hash() of an atomic
     * batch; 0: none */
    uint64_t key_hash;
    uint32_t result_flags;
    struct bytes result;
    uint32_t effects_count;
    struct effect *effects; /* borrowed */
};

/* Append the body (no frame, no padding). Same errors as record_append(). */
enum status record_entry_encode(const struct entry *e, struct buffer *out);
/* Views into body; ret->effects is room, which has a place for each of record_entry_effects() or for
 * ENTRY_EFFECTS_MAX. STATUS_OK, or STATUS_CORRUPT for anything that does not hold together. */
enum status record_entry_decode(struct bytes body, struct entry *ret, struct effect *room);
/* How many effects the body says it has, at most ENTRY_EFFECTS_MAX. */
uint32_t record_entry_effects(struct bytes body);
/* The true body (without padding) of a well-formed entry; used on both sides of the wire. */
struct bytes record_entry_trim(struct bytes body);
uint64_t record_entry_hash(struct bytes trimmed_body, uint64_t prev_hash);

/* XXH3 64, never 0: tells the operations of one client on one key from those on others. */
uint64_t record_key_hash(struct bytes key);
/* The same of all keys with this digest. */
uint64_t record_tag_hash(uint64_t digest);

/* Small bodies. */
enum status record_decode_u64(struct bytes body, uint64_t *ret);
struct install {
    uint32_t partition;
    uint64_t replica_id;
};
void record_encode_u64(uint8_t to[static 8], uint64_t value);
void record_encode_install(uint8_t to[static 16], const struct install *in);
enum status record_decode_install(struct bytes body, struct install *ret);

/* One key's committed (or pending) state. value is a view. */
struct item {
    bool present;
    struct version version; /* of its last write; {0,0} when never written or deleted */
    uint64_t expiry_ms;
    struct bytes value;
};

#endif
