#include "storage/record.h"

#include <xxhash.h>

#include "proto/base/ensure.h"

#define ENTRY_VERSION      1
#define ENTRY_HEADER_SIZE  96
#define EFFECT_HEADER_SIZE 24
#define TAG_HASH_SEED      0x746167u /* other hashes than those of keys of eight bytes */
#define RESULT_FLAGS       (RESULT_HAS_VALUE | RESULT_TRIMMED)

_Static_assert(ENTRY_HEADER_SIZE + RESULT_SIZE_MAX +
                       ENTRY_EFFECTS_MAX * (EFFECT_HEADER_SIZE + KEY_SIZE_MAX) + VALUE_SIZE_MAX <
                   RECORD_SIZE_MAX - RECORD_HEADER_SIZE - 8,
               "the largest entry of one value, or of an atomic batch, fits a record");

static size_t padded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

static bool all_zero(struct bytes b)
{
    for (size_t i = 0; i < b.size; i++)
        if (b.data[i] != 0)
            return false;
    return true;
}

enum status record_append(struct buffer *out, enum record_kind kind, uint32_t slot,
                          struct bytes body)
{
    ENSURE(kind >= RECORD_ENTRY && kind <= RECORD_KNOWN);
    if (body.size > RECORD_SIZE_MAX - RECORD_HEADER_SIZE)
        return STATUS_TOOBIG;
    size_t size = RECORD_HEADER_SIZE + padded(body.size);
    if (size > RECORD_SIZE_MAX || size > out->size_max - out->size)
        return STATUS_TOOBIG;
    uint8_t *at = buffer_reserve(out, size);
    if (at == NULL)
        return STATUS_NOMEMORY;
    memset(at, 0, RECORD_HEADER_SIZE);
    bytes_put_le32(at, (uint32_t)size);
    at[4] = (uint8_t)kind;
    bytes_put_le32(at + 8, slot);
    at += RECORD_HEADER_SIZE;
    if (body.size > 0)
        memcpy(at, body.data, body.size);
    memset(at + body.size, 0, padded(body.size) - body.size);
    return STATUS_OK;
}

enum status record_next(struct bytes *rest, struct record_view *ret)
{
    if (rest->size == 0)
        return STATUS_NOTFOUND;
    if (rest->size < RECORD_HEADER_SIZE)
        return STATUS_CORRUPT;
    const uint8_t *at = rest->data;
    size_t size = bytes_le32(at);
    if (size < RECORD_HEADER_SIZE || size > RECORD_SIZE_MAX || size % 8 != 0 || size > rest->size)
        return STATUS_CORRUPT;
    if (at[4] < RECORD_ENTRY || at[4] > RECORD_KNOWN)
        return STATUS_CORRUPT;
    if (!all_zero(bytes_of(at + 5, 3)) || !all_zero(bytes_of(at + 12, 4)))
        return STATUS_CORRUPT;
    *ret = (struct record_view){
        .kind = (enum record_kind)at[4],
        .slot = bytes_le32(at + 8),
        .body = bytes_of(at + RECORD_HEADER_SIZE, size - RECORD_HEADER_SIZE),
    };
    *rest = bytes_of(at + size, rest->size - size);
    return STATUS_OK;
}

static bool all_deletions(const struct entry *e)
{
    for (uint32_t i = 0; i < e->effects_count; i++)
        if (e->effects[i].kind != EFFECT_DELETE)
            return false;
    return true;
}

/* Effects of one entry are of one hash tag: the pending index has one chain for them. */
static bool one_digest(const struct entry *e)
{
    for (uint32_t i = 1; i < e->effects_count; i++)
        if (e->effects[i].digest != e->effects[0].digest)
            return false;
    return true;
}

/* What the kinds allow, the same for those who write and those who read. */
static bool kind_holds(const struct entry *e)
{
    switch (e->kind) {
    case ENTRY_WRITE:
        return one_digest(e);
    case ENTRY_LAPSE:
        return e->effects_count > 0 && e->client == 0 && all_deletions(e) && one_digest(e);
    case ENTRY_ABORTED:
        return e->effects_count == 0 && e->client != 0;
    case ENTRY_EPOCH:
    case ENTRY_EXPIRE:
        return e->effects_count == 0 && e->client == 0;
    }
    return false;
}

static bool result_holds(const struct entry *e)
{
    if ((e->result_flags & ~RESULT_FLAGS) != 0 || e->result.size > RESULT_SIZE_MAX)
        return false;
    return e->result.size == 0 || (e->result_flags & RESULT_HAS_VALUE) != 0;
}

static bool effect_holds(const struct effect *f)
{
    if (f->kind != EFFECT_PUT && f->kind != EFFECT_DELETE)
        return false;
    if (f->key.size == 0 || f->key.size > KEY_SIZE_MAX || f->value.size > VALUE_SIZE_MAX)
        return false;
    return f->kind == EFFECT_PUT || f->value.size == 0;
}

static size_t effect_size(const struct effect *f)
{
    return EFFECT_HEADER_SIZE + f->key.size + f->value.size;
}

/* Where the next field goes or comes from, in both directions. */
static uint8_t *put_bytes(uint8_t *at, struct bytes b)
{
    if (b.size > 0)
        memcpy(at, b.data, b.size);
    return at + b.size;
}

static uint8_t *put_effect(uint8_t *at, const struct effect *f)
{
    at[0] = (uint8_t)f->kind;
    at[1] = 0;
    bytes_put_le16(at + 2, (uint16_t)f->key.size);
    bytes_put_le32(at + 4, (uint32_t)f->value.size);
    bytes_put_le64(at + 8, f->digest);
    bytes_put_le64(at + 16, f->expiry_ms);
    at = put_bytes(at + EFFECT_HEADER_SIZE, f->key);
    return put_bytes(at, f->value);
}

static uint8_t *put_entry_header(uint8_t *at, const struct entry *e, size_t size)
{
    at[0] = ENTRY_VERSION;
    at[1] = (uint8_t)e->kind;
    at[2] = (uint8_t)e->status;
    at[3] = (uint8_t)e->effects_count;
    bytes_put_le32(at + 4, (uint32_t)size);
    const uint64_t words[] = {e->epoch,  e->seq,        e->prev_epoch, e->prev_hash, e->ptime,
                              e->client, e->client_seq, e->ack_below,  e->horizon,   e->key_hash};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        bytes_put_le64(at + 8 + 8 * i, words[i]);
    bytes_put_le32(at + 88, e->result_flags);
    bytes_put_le32(at + 92, (uint32_t)e->result.size);
    return at + ENTRY_HEADER_SIZE;
}

enum status record_entry_encode(const struct entry *e, struct buffer *out)
{
    ENSURE(kind_holds(e));
    ENSURE(e->effects_count <= ENTRY_EFFECTS_MAX && (unsigned)e->status < STATUS_COUNT);
    ENSURE((e->result_flags & ~RESULT_FLAGS) == 0);
    if (!result_holds(e))
        return STATUS_TOOBIG;
    size_t size = ENTRY_HEADER_SIZE + e->result.size;
    for (uint32_t i = 0; i < e->effects_count; i++) {
        ENSURE(e->effects[i].key.size > 0);
        if (!effect_holds(&e->effects[i]))
            return STATUS_TOOBIG;
        size += effect_size(&e->effects[i]);
    }
    if (size > RECORD_SIZE_MAX - RECORD_HEADER_SIZE || size > out->size_max - out->size)
        return STATUS_TOOBIG;
    uint8_t *at = buffer_reserve(out, size);
    if (at == NULL)
        return STATUS_NOMEMORY;
    at = put_bytes(put_entry_header(at, e, size), e->result);
    for (uint32_t i = 0; i < e->effects_count; i++)
        at = put_effect(at, &e->effects[i]);
    return STATUS_OK;
}

/* The size that the body says it has; 0 when that cannot be. */
static size_t true_size(struct bytes body)
{
    if (body.size < ENTRY_HEADER_SIZE)
        return 0;
    size_t size = bytes_le32(body.data + 4);
    return size < ENTRY_HEADER_SIZE || size > body.size ? 0 : size;
}

static void get_entry_header(const uint8_t *at, struct entry *ret)
{
    *ret = (struct entry){
        .kind = (enum entry_kind)at[1],
        .status = (enum status)at[2],
        .epoch = bytes_le64(at + 8),
        .seq = bytes_le64(at + 16),
        .prev_epoch = bytes_le64(at + 24),
        .prev_hash = bytes_le64(at + 32),
        .ptime = bytes_le64(at + 40),
        .client = bytes_le64(at + 48),
        .client_seq = bytes_le64(at + 56),
        .ack_below = bytes_le64(at + 64),
        .horizon = bytes_le64(at + 72),
        .key_hash = bytes_le64(at + 80),
        .result_flags = bytes_le32(at + 88),
        .effects_count = at[3],
    };
}

static bool take(struct bytes *rest, size_t size, struct bytes *ret)
{
    if (size > rest->size)
        return false;
    *ret = bytes_of(rest->data, size);
    *rest = bytes_of(rest->data + size, rest->size - size);
    return true;
}

static bool get_effect(struct bytes *rest, struct effect *ret)
{
    struct bytes header;
    if (!take(rest, EFFECT_HEADER_SIZE, &header) || header.data[1] != 0)
        return false;
    ret->kind = (enum effect_kind)header.data[0];
    ret->digest = bytes_le64(header.data + 8);
    ret->expiry_ms = bytes_le64(header.data + 16);
    return take(rest, bytes_le16(header.data + 2), &ret->key) &&
           take(rest, bytes_le32(header.data + 4), &ret->value) && effect_holds(ret);
}

uint32_t record_entry_effects(struct bytes body)
{
    return body.size < ENTRY_HEADER_SIZE ? 0 : body.data[3];
}

enum status record_entry_decode(struct bytes body, struct entry *ret, struct effect *room)
{
    size_t size = true_size(body);
    if (size == 0 || body.size - size >= 8 ||
        !all_zero(bytes_of(body.data + size, body.size - size)))
        return STATUS_CORRUPT;
    if (body.data[0] != ENTRY_VERSION || body.data[2] >= STATUS_COUNT)
        return STATUS_CORRUPT;
    get_entry_header(body.data, ret);
    ret->effects = room;
    struct bytes rest = bytes_of(body.data + ENTRY_HEADER_SIZE, size - ENTRY_HEADER_SIZE);
    if (!take(&rest, bytes_le32(body.data + 92), &ret->result))
        return STATUS_CORRUPT;
    for (uint32_t i = 0; i < ret->effects_count; i++)
        if (!get_effect(&rest, &room[i]))
            return STATUS_CORRUPT;
    return rest.size == 0 && kind_holds(ret) && result_holds(ret) ? STATUS_OK : STATUS_CORRUPT;
}

struct bytes record_entry_trim(struct bytes body)
{
    /* A body that does not hold together stays as it is: record_entry_decode() refuses it. */
    size_t size = true_size(body);
    return size == 0 ? body : bytes_of(body.data, size);
}

uint64_t record_key_hash(struct bytes key)
{
    uint64_t hash = XXH3_64bits(key.data, key.size);
    return hash == 0 ? 1 : hash;
}

uint64_t record_tag_hash(uint64_t digest)
{
    uint8_t octets[8];
    bytes_put_le64(octets, digest);
    uint64_t hash = XXH3_64bits_withSeed(octets, sizeof octets, TAG_HASH_SEED);
    return hash == 0 ? 1 : hash;
}

uint64_t record_entry_hash(struct bytes trimmed_body, uint64_t prev_hash)
{
    ENSURE(trimmed_body.size == true_size(trimmed_body));
    return XXH3_64bits_withSeed(trimmed_body.data, trimmed_body.size, prev_hash);
}

enum status record_decode_u64(struct bytes body, uint64_t *ret)
{
    if (body.size != 8)
        return STATUS_CORRUPT;
    *ret = bytes_le64(body.data);
    return STATUS_OK;
}

void record_encode_u64(uint8_t to[static 8], uint64_t value)
{
    bytes_put_le64(to, value);
}

void record_encode_install(uint8_t to[static 16], const struct install *in)
{
    bytes_put_le32(to, in->partition);
    bytes_put_le32(to + 4, 0);
    bytes_put_le64(to + 8, in->replica_id);
}

enum status record_decode_install(struct bytes body, struct install *ret)
{
    if (body.size != 16 || bytes_le32(body.data + 4) != 0)
        return STATUS_CORRUPT;
    ret->partition = bytes_le32(body.data);
    ret->replica_id = bytes_le64(body.data + 8);
    return STATUS_OK;
}
