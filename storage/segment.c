#define XXH_STATIC_LINKING_ONLY /* a hash state on the stack */

#include "storage/segment.h"

#include <stdlib.h>
#include <xxhash.h>

#include "proto/base/ensure.h"
#include "storage/record.h"

#define HEADER_MAGIC       0x67655344u /* "DSeg" */
#define GROUP_MAGIC        0x70724744u /* "DGrp" */
#define FOOTER_MAGIC       0x746f4644u /* "DFot" */
#define CHECKSUM_SIZE      16u
#define HEADER_CHECKSUM_AT 32u
#define GROUP_CHECKSUM_AT  48u
#define FOOTER_CHECKSUM_AT 48u
#define SLOTS_CAPACITY_MIN 64u

/* XXH3 128 of data with the 16 bytes at `at` taken as zeros. */
static void checksum(struct bytes data, size_t at, uint8_t to[static CHECKSUM_SIZE])
{
    static const uint8_t zeros[CHECKSUM_SIZE];
    ENSURE(at + CHECKSUM_SIZE <= data.size);
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, data.data, at);
    XXH3_128bits_update(&state, zeros, sizeof zeros);
    size_t rest = at + CHECKSUM_SIZE;
    XXH3_128bits_update(&state, data.data + rest, data.size - rest);
    XXH128_hash_t hash = XXH3_128bits_digest(&state);
    bytes_put_le64(to, hash.low64);
    bytes_put_le64(to + 8, hash.high64);
}

static bool checksum_holds(struct bytes data, size_t at)
{
    uint8_t expected[CHECKSUM_SIZE];
    checksum(data, at, expected);
    return memcmp(data.data + at, expected, sizeof expected) == 0;
}

void segment_header_encode(uint8_t to[static DISK_ALIGNMENT], const struct segment_header *h)
{
    memset(to, 0, DISK_ALIGNMENT);
    bytes_put_le32(to, HEADER_MAGIC);
    bytes_put_le32(to + 4, SEGMENT_FORMAT);
    bytes_put_le64(to + 8, h->number);
    bytes_put_le64(to + 16, h->first_lsn);
    bytes_put_le64(to + 24, h->node_tag);
    checksum(bytes_of(to, DISK_ALIGNMENT), HEADER_CHECKSUM_AT, to + HEADER_CHECKSUM_AT);
}

enum status segment_header_decode(const uint8_t from[static DISK_ALIGNMENT],
                                  struct segment_header *ret)
{
    if (bytes_le32(from) != HEADER_MAGIC ||
        !checksum_holds(bytes_of(from, DISK_ALIGNMENT), HEADER_CHECKSUM_AT))
        return STATUS_CORRUPT;
    if (bytes_le32(from + 4) != SEGMENT_FORMAT)
        return STATUS_FORMAT;
    *ret = (struct segment_header){
        .number = bytes_le64(from + 8),
        .first_lsn = bytes_le64(from + 16),
        .node_tag = bytes_le64(from + 24),
    };
    return STATUS_OK;
}

void segment_group_seal(uint8_t *memory, const struct segment_group *g)
{
    ENSURE(g->size > SEGMENT_GROUP_HEADER_SIZE && g->count > 0);
    bytes_put_le32(memory, GROUP_MAGIC);
    bytes_put_le32(memory + 4, g->size);
    bytes_put_le32(memory + 8, g->count);
    bytes_put_le32(memory + 12, 0);
    bytes_put_le64(memory + 16, g->first_lsn);
    bytes_put_le64(memory + 24, g->durable_lsn);
    bytes_put_le64(memory + 32, g->number);
    bytes_put_le64(memory + 40, g->node_tag);
    checksum(bytes_of(memory, g->size), GROUP_CHECKSUM_AT, memory + GROUP_CHECKSUM_AT);
}

bool segment_group_peek(const uint8_t from[static SEGMENT_GROUP_HEADER_SIZE], uint64_t number,
                        uint64_t node_tag, struct segment_group *ret)
{
    if (bytes_le32(from) != GROUP_MAGIC)
        return false;
    *ret = (struct segment_group){
        .size = bytes_le32(from + 4),
        .count = bytes_le32(from + 8),
        .first_lsn = bytes_le64(from + 16),
        .durable_lsn = bytes_le64(from + 24),
        .number = bytes_le64(from + 32),
        .node_tag = bytes_le64(from + 40),
    };
    return ret->number == number && ret->node_tag == node_tag && ret->count > 0 &&
           ret->size > SEGMENT_GROUP_HEADER_SIZE;
}

bool segment_group_verify(const uint8_t *memory, const struct segment_group *g)
{
    return checksum_holds(bytes_of(memory, g->size), GROUP_CHECKSUM_AT);
}

void segment_slots_init(struct segment_slots *s)
{
    *s = (struct segment_slots){0};
}

void segment_slots_fini(struct segment_slots *s)
{
    free(s->rows);
    free(s->index);
    *s = (struct segment_slots){0};
}

void segment_slots_clear(struct segment_slots *s)
{
    s->count = 0;
    if (s->index != NULL)
        memset(s->index, 0, 2 * (size_t)s->capacity * sizeof *s->index);
}

/* Where slot stands in the index, or the empty place where it would. */
static uint32_t *index_of(const struct segment_slots *s, uint32_t slot)
{
    uint32_t mask = 2 * s->capacity - 1;
    uint32_t at = (slot * 0x9e3779b1u) >> 7 & mask;
    while (s->index[at] != 0 && s->rows[s->index[at] - 1].slot != slot)
        at = (at + 1) & mask;
    return &s->index[at];
}

static enum status slots_grow(struct segment_slots *s)
{
    uint32_t capacity = s->capacity == 0 ? SLOTS_CAPACITY_MIN : 2 * s->capacity;
    if (capacity > SEGMENT_SLOTS_MAX)
        return STATUS_NOMEMORY;
    uint32_t *index = calloc(2 * (size_t)capacity, sizeof *index);
    struct segment_slot *rows = realloc(s->rows, capacity * sizeof *rows);
    if (rows != NULL)
        s->rows = rows;
    if (index == NULL || rows == NULL) {
        free(index);
        return STATUS_NOMEMORY;
    }
    free(s->index);
    s->index = index;
    s->capacity = capacity;
    for (uint32_t i = 0; i < s->count; i++)
        *index_of(s, s->rows[i].slot) = i + 1;
    return STATUS_OK;
}

/* Epoch and seq of an entry, read from their fixed places (record.h). */
static bool entry_position(const struct record_view *record, uint64_t *ret_epoch, uint64_t *ret_seq)
{
    if (record->kind != RECORD_ENTRY || record->body.size < 24)
        return false;
    *ret_epoch = bytes_le64(record->body.data + 8);
    *ret_seq = bytes_le64(record->body.data + 16);
    return true;
}

static enum status slots_reserve_one(struct segment_slots *s, uint32_t slot)
{
    if (s->count == s->capacity) {
        enum status grown = slots_grow(s);
        if (grown != STATUS_OK)
            return grown;
    }
    uint32_t *at = index_of(s, slot);
    if (*at != 0)
        return STATUS_OK;
    s->rows[s->count] = (struct segment_slot){
        .slot = slot,
        .first_seq = UINT64_MAX,
        .first_epoch = UINT64_MAX,
        .offset = UINT64_MAX,
    };
    *at = ++s->count;
    return STATUS_OK;
}

enum status segment_slots_reserve(struct segment_slots *s, struct bytes records,
                                  uint32_t *ret_count)
{
    struct record_view record;
    enum status found, made = STATUS_OK;
    uint64_t epoch, seq;
    *ret_count = 0;
    while (made == STATUS_OK && (found = record_next(&records, &record)) == STATUS_OK) {
        ++*ret_count;
        if (entry_position(&record, &epoch, &seq))
            made = slots_reserve_one(s, record.slot);
    }
    if (made != STATUS_OK)
        return made;
    return found == STATUS_NOTFOUND ? STATUS_OK : found;
}

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void segment_slots_add(struct segment_slots *s, struct bytes records, uint64_t offset)
{
    struct record_view record;
    uint64_t epoch, seq;
    while (record_next(&records, &record) == STATUS_OK) {
        if (!entry_position(&record, &epoch, &seq))
            continue;
        uint32_t at = *index_of(s, record.slot);
        ENSURE(at != 0);
        struct segment_slot *row = &s->rows[at - 1];
        row->first_seq = min64(row->first_seq, seq);
        row->last_seq = max64(row->last_seq, seq);
        row->first_epoch = min64(row->first_epoch, epoch);
        row->last_epoch = max64(row->last_epoch, epoch);
        row->offset = min64(row->offset, offset);
    }
}

uint64_t segment_footer_size(uint32_t count)
{
    return segment_align(SEGMENT_FOOTER_HEAD_SIZE + (uint64_t)count * SEGMENT_FOOTER_ROW_SIZE);
}

static void row_encode(uint8_t *to, const struct segment_slot *row)
{
    bytes_put_le32(to, row->slot);
    bytes_put_le32(to + 4, 0);
    bytes_put_le64(to + 8, row->first_seq);
    bytes_put_le64(to + 16, row->last_seq);
    bytes_put_le64(to + 24, row->first_epoch);
    bytes_put_le64(to + 32, row->last_epoch);
    bytes_put_le64(to + 40, row->offset);
}

void segment_footer_encode(uint8_t *to, const struct segment_footer *f,
                           const struct segment_slot *rows)
{
    size_t size = segment_footer_size(f->count);
    memset(to, 0, size);
    uint8_t *head = to + size - SEGMENT_FOOTER_HEAD_SIZE;
    uint8_t *row = head - (size_t)f->count * SEGMENT_FOOTER_ROW_SIZE;
    for (uint32_t i = 0; i < f->count; i++, row += SEGMENT_FOOTER_ROW_SIZE)
        row_encode(row, &rows[i]);
    bytes_put_le32(head, FOOTER_MAGIC);
    bytes_put_le32(head + 4, f->count);
    bytes_put_le64(head + 8, f->last_lsn);
    bytes_put_le64(head + 16, f->groups_end);
    bytes_put_le64(head + 24, f->number);
    bytes_put_le64(head + 32, f->node_tag);
    size_t at = size - SEGMENT_FOOTER_HEAD_SIZE + FOOTER_CHECKSUM_AT;
    checksum(bytes_of(to, size), at, to + at);
}

bool segment_footer_peek(const uint8_t from[static SEGMENT_FOOTER_HEAD_SIZE], uint64_t number,
                         uint64_t node_tag, struct segment_footer *ret)
{
    if (bytes_le32(from) != FOOTER_MAGIC)
        return false;
    *ret = (struct segment_footer){
        .count = bytes_le32(from + 4),
        .last_lsn = bytes_le64(from + 8),
        .groups_end = bytes_le64(from + 16),
        .number = bytes_le64(from + 24),
        .node_tag = bytes_le64(from + 32),
    };
    return ret->number == number && ret->node_tag == node_tag && ret->count <= SEGMENT_SLOTS_MAX;
}

bool segment_footer_verify(struct bytes whole, const struct segment_footer *f)
{
    ENSURE(whole.size == segment_footer_size(f->count));
    return checksum_holds(whole, whole.size - SEGMENT_FOOTER_HEAD_SIZE + FOOTER_CHECKSUM_AT);
}
