/* The hash grows by one bucket at a time (linear hashing), so that no put ever stands still for a
 * rehash. Entries lie in blocks and are named by 32-bit references, and a whole overlay is dropped
 * by freeing its blocks: the loop does not walk a million entries after a checkpoint.
 *
 * Invariants:
 * (1) Every entry is in exactly one bucket's chain and one slot's chain.
 * (2) A reference stays valid until its entry moves, which only overlay_put() of the same key does.
 * (3) A value above INLINE_MAX is allocated apart, in the list of such values, and the entry holds
 *     the pointer to it.
 */
#include "storage/overlay.h"

#include <stdlib.h>
#include <xxhash.h>

#include "proto/base/ensure.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

#define UNIT              8u /* bytes; references and sizes count in units */
#define BLOCK_UNITS_SHIFT 16
#define BLOCK_UNITS       (1u << BLOCK_UNITS_SHIFT)
#define BLOCK_SIZE        ((size_t)BLOCK_UNITS * UNIT)
#define BLOCKS_MAX        (1u << (32 - BLOCK_UNITS_SHIFT))
#define INLINE_MAX        2048u /* value bytes inside an entry; larger ones are allocated apart */
#define BUCKETS_MIN       16u
#define SLOTS_MIN         16u
#define TIDY_SIZE         (1u << 20) /* bytes that overlay_tidy() frees in a call */
#define VALUE_SIZE_BITS   25

_Static_assert(VALUE_SIZE_MAX < 1u << VALUE_SIZE_BITS, "a value's size fits its field");

struct entry_head {
    uint64_t digest;
    uint64_t epoch, seq;           /* the item's version */
    uint32_t hash_next;            /* references; 0 ends the chain */
    uint32_t slot_next, slot_prev; /* of the same slot; slot_prev 0: the first */
    uint32_t slot;
    uint32_t value_size : VALUE_SIZE_BITS;
    uint32_t present : 1;
    uint32_t has_expiry : 1; /* eight more bytes between key and value */
    uint16_t key_size;
    uint16_t units; /* of the whole entry */
    uint8_t data[]; /* key, expiry when there is one, value or a pointer to it */
};

/* A value allocated apart; in a ring with all others of its overlay. */
struct apart {
    struct apart *previous, *next;
    size_t size;
    uint8_t data[];
};

struct slot_head {
    uint32_t slot;
    uint32_t first; /* 0: this place is free */
    uint64_t count;
};

#define HEAD_SIZE offsetof(struct entry_head, data)
#define UNITS_MAX ((HEAD_SIZE + KEY_SIZE_MAX + 8 + INLINE_MAX) / UNIT + 1)

struct overlay {
    uint8_t **blocks;
    uint32_t blocks_count, blocks_capacity;
    uint32_t used_units;                /* of the newest block */
    uint32_t free_first[UNITS_MAX + 1]; /* left by entries that moved, by size in units */

    uint32_t *buckets; /* buckets_count in use, room for buckets_capacity */
    uint32_t buckets_count, buckets_capacity;
    uint32_t buckets_round; /* the power of two at or below buckets_count */

    struct slot_head *slots; /* open addressing, at most half full */
    uint32_t slots_count, slots_capacity;

    uint64_t count;
    struct apart apart;   /* ends of the ring of values allocated apart */
    uint64_t apart_bytes; /* in it */

    /* From overlays that were recycled. */
    uint8_t **spares; /* blocks to be used before new ones */
    uint32_t spares_count;
    struct apart garbage; /* ends of a ring of values to be freed */
};

static struct entry_head *entry_of(const struct overlay *o, uint32_t ref)
{
    return (struct entry_head *)(o->blocks[ref >> BLOCK_UNITS_SHIFT] +
                                 (size_t)(ref & (BLOCK_UNITS - 1)) * UNIT);
}

static uint8_t *value_area(struct entry_head *e)
{
    return e->data + e->key_size + (e->has_expiry ? 8 : 0);
}

static bool is_apart(size_t value_size)
{
    return value_size > INLINE_MAX;
}

static struct apart *apart_of(struct entry_head *e)
{
    struct apart *pointer;
    memcpy(&pointer, value_area(e), sizeof pointer);
    return pointer;
}

static uint8_t *value_of(struct entry_head *e)
{
    return is_apart(e->value_size) ? apart_of(e)->data : value_area(e);
}

/* --- values allocated apart --- */

static void ring_init(struct apart *ring)
{
    ring->previous = ring->next = ring;
}

static void ring_add(struct apart *ring, struct apart *a)
{
    a->previous = ring;
    a->next = ring->next;
    a->next->previous = ring->next = a;
}

static void ring_remove(struct apart *a)
{
    a->previous->next = a->next;
    a->next->previous = a->previous;
}

/* All of `from` goes to `ring`. */
static void ring_join(struct apart *ring, struct apart *from)
{
    if (from->next == from)
        return;
    from->previous->next = ring->next;
    ring->next->previous = from->previous;
    ring->next = from->next;
    from->next->previous = ring;
    ring_init(from);
}

/* Free at least size bytes, or all. */
static void ring_free(struct apart *ring, size_t size)
{
    for (size_t freed = 0; ring->next != ring && freed < size;) {
        struct apart *a = ring->next;
        freed += a->size;
        ring_remove(a);
        free(a);
    }
}

static struct apart *apart_new(struct overlay *o, struct bytes value)
{
    struct apart *a = malloc(sizeof *a + value.size);
    if (a == NULL)
        return NULL;
    a->size = value.size;
    memcpy(a->data, value.data, value.size);
    ring_add(&o->apart, a);
    o->apart_bytes += a->size;
    return a;
}

static void apart_free(struct overlay *o, struct apart *a)
{
    if (a == NULL)
        return;
    o->apart_bytes -= a->size;
    ring_remove(a);
    free(a);
}

/* --- life --- */

struct overlay *overlay_new(void)
{
    struct overlay *o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    ring_init(&o->apart);
    ring_init(&o->garbage);
    o->buckets = calloc(BUCKETS_MIN, sizeof *o->buckets);
    o->slots = calloc(SLOTS_MIN, sizeof *o->slots);
    o->buckets_count = o->buckets_capacity = o->buckets_round = BUCKETS_MIN;
    o->slots_capacity = SLOTS_MIN;
    if (o->buckets == NULL || o->slots == NULL)
        overlay_destroy(&o);
    return o;
}

void overlay_destroy(struct overlay **overlay_p)
{
    struct overlay *o = *overlay_p;
    if (o == NULL)
        return;
    ring_free(&o->apart, SIZE_MAX);
    ring_free(&o->garbage, SIZE_MAX);
    for (uint32_t i = 0; i < o->blocks_count; i++)
        free(o->blocks[i]);
    for (uint32_t i = 0; i < o->spares_count; i++)
        free(o->spares[i]);
    free(o->blocks);
    free(o->spares);
    free(o->buckets);
    free(o->slots);
    free(o);
    *overlay_p = NULL;
}

/* A view that outlives its overlay is a mistake that the sanitizer shall see. */
static void poison(struct overlay *o)
{
    for (uint32_t i = 0; i < o->blocks_count; i++)
        ASAN_POISON_MEMORY_REGION(o->blocks[i], BLOCK_SIZE);
    for (struct apart *a = o->apart.next; a != &o->apart; a = a->next)
        ASAN_POISON_MEMORY_REGION(a->data, a->size);
}

/* Blocks that were spare for the whole life of an overlay are more than is needed: they become
 * garbage, each a "value" of its own. */
static void discard_spares(struct overlay *from, struct apart *garbage)
{
    while (from->spares_count > 0) {
        struct apart *a = (struct apart *)from->spares[--from->spares_count];
        ASAN_UNPOISON_MEMORY_REGION(a, sizeof *a);
        a->size = BLOCK_SIZE - sizeof *a;
        ring_add(garbage, a);
    }
}

void overlay_recycle(struct overlay **from_p, struct overlay *into)
{
    struct overlay *from = *from_p;
    uint32_t count = into->spares_count + from->blocks_count;
    uint8_t **spares = count == 0 ? NULL : realloc(into->spares, count * sizeof *spares);
    if (spares != NULL) {
        poison(from);
        memcpy(spares + into->spares_count, from->blocks, from->blocks_count * sizeof *spares);
        into->spares = spares;
        into->spares_count = count;
        from->blocks_count = 0;
        ring_join(&into->garbage, &from->apart);
    }
    discard_spares(from, &into->garbage);
    ring_join(&into->garbage, &from->garbage);
    overlay_destroy(from_p);
}

void overlay_tidy(struct overlay *o)
{
    ring_free(&o->garbage, TIDY_SIZE);
}

/* --- hash chains --- */

static uint64_t hash_of(uint32_t slot, struct bytes key)
{
    return XXH3_64bits_withSeed(key.data, key.size, slot);
}

/* One more bit of the hash counts where a round's bucket has been split already. */
static uint32_t bucket_of(const struct overlay *o, uint64_t hash)
{
    uint32_t bucket = (uint32_t)hash & (2 * o->buckets_round - 1);
    return bucket < o->buckets_count ? bucket : bucket & (o->buckets_round - 1);
}

static bool is_key(struct entry_head *e, uint32_t slot, uint64_t digest, struct bytes key)
{
    return e->digest == digest && e->slot == slot && e->key_size == key.size &&
           memcmp(e->data, key.data, key.size) == 0;
}

/* The link (bucket or hash_next) that names the entry of key; its value is 0 when there is none. */
static uint32_t *find_link(const struct overlay *o, uint64_t hash, uint32_t slot, uint64_t digest,
                           struct bytes key)
{
    uint32_t *link = &o->buckets[bucket_of(o, hash)];
    while (*link != 0 && !is_key(entry_of(o, *link), slot, digest, key))
        link = &entry_of(o, *link)->hash_next;
    return link;
}

static bool reserve_bucket(struct overlay *o)
{
    if (o->buckets_count < o->buckets_capacity)
        return true;
    uint32_t capacity = o->buckets_capacity * 2;
    uint32_t *grown = realloc(o->buckets, (size_t)capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    o->buckets = grown;
    o->buckets_capacity = capacity;
    return true;
}

/* Add one bucket and move to it what belongs there from the one it is split from. */
static void split_bucket(struct overlay *o)
{
    uint32_t added = o->buckets_count++;
    uint32_t *from = &o->buckets[added & (o->buckets_round - 1)];
    uint32_t *to = &o->buckets[added];
    *to = 0;
    while (*from != 0) {
        struct entry_head *e = entry_of(o, *from);
        uint64_t hash = hash_of(e->slot, bytes_of(e->data, e->key_size));
        if (bucket_of(o, hash) != added) {
            from = &e->hash_next;
            continue;
        }
        uint32_t moved = *from;
        *from = e->hash_next;
        e->hash_next = *to;
        *to = moved;
    }
    if (o->buckets_count == 2 * o->buckets_round)
        o->buckets_round = o->buckets_count;
}

/* --- slot chains --- */

static struct slot_head *slot_find(const struct overlay *o, uint32_t slot)
{
    uint32_t mask = o->slots_capacity - 1;
    uint32_t i = (slot * 2654435761u >> 7) & mask;
    while (o->slots[i].first != 0 && o->slots[i].slot != slot)
        i = (i + 1) & mask;
    return &o->slots[i];
}

static bool reserve_slot(struct overlay *o)
{
    if (2 * (o->slots_count + 1) <= o->slots_capacity)
        return true;
    struct overlay grown = *o;
    grown.slots_capacity = o->slots_capacity * 2;
    grown.slots = calloc(grown.slots_capacity, sizeof *grown.slots);
    if (grown.slots == NULL)
        return false;
    for (uint32_t i = 0; i < o->slots_capacity; i++)
        if (o->slots[i].first != 0)
            *slot_find(&grown, o->slots[i].slot) = o->slots[i];
    free(o->slots);
    *o = grown;
    return true;
}

static void slot_link(struct overlay *o, uint32_t ref)
{
    struct entry_head *e = entry_of(o, ref);
    struct slot_head *head = slot_find(o, e->slot);
    if (head->first == 0) {
        *head = (struct slot_head){.slot = e->slot};
        o->slots_count++;
    } else {
        entry_of(o, head->first)->slot_prev = ref;
    }
    e->slot_prev = 0;
    e->slot_next = head->first;
    head->first = ref;
    head->count++;
}

/* The entry moved here from elsewhere: its neighbours name it anew. */
static void slot_relink(struct overlay *o, uint32_t ref)
{
    struct entry_head *e = entry_of(o, ref);
    if (e->slot_next != 0)
        entry_of(o, e->slot_next)->slot_prev = ref;
    if (e->slot_prev != 0)
        entry_of(o, e->slot_prev)->slot_next = ref;
    else
        slot_find(o, e->slot)->first = ref;
}

/* --- memory --- */

static bool add_block(struct overlay *o)
{
    if (o->blocks_count == BLOCKS_MAX)
        return false;
    if (o->blocks_count == o->blocks_capacity) {
        uint32_t capacity = o->blocks_capacity == 0 ? 8 : o->blocks_capacity * 2;
        uint8_t **grown = realloc(o->blocks, capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        o->blocks = grown;
        o->blocks_capacity = capacity;
    }
    uint8_t *block = o->spares_count > 0 ? o->spares[--o->spares_count] : malloc(BLOCK_SIZE);
    if (block == NULL)
        return false;
    ASAN_UNPOISON_MEMORY_REGION(block, BLOCK_SIZE);
    o->blocks[o->blocks_count++] = block;
    /* Reference 0 means none: the first block's first unit stays unused. */
    o->used_units = o->blocks_count == 1 ? 1 : 0;
    return true;
}

/* A reference to units of memory, 0 when out of memory. A free piece begins with the next one's. */
static uint32_t take_units(struct overlay *o, uint32_t units)
{
    ENSURE(units <= UNITS_MAX);
    uint32_t ref = o->free_first[units];
    if (ref != 0) {
        memcpy(&o->free_first[units], entry_of(o, ref), sizeof ref);
        return ref;
    }
    if ((o->blocks_count == 0 || o->used_units + units > BLOCK_UNITS) && !add_block(o))
        return 0;
    ref = (o->blocks_count - 1) << BLOCK_UNITS_SHIFT | o->used_units;
    o->used_units += units;
    return ref;
}

static void give_units(struct overlay *o, uint32_t ref)
{
    uint32_t units = entry_of(o, ref)->units;
    memcpy(entry_of(o, ref), &o->free_first[units], sizeof ref);
    o->free_first[units] = ref;
}

static uint32_t units_for(struct bytes key, const struct item *item)
{
    size_t area = is_apart(item->value.size) ? sizeof(struct apart *) : item->value.size;
    size_t size = HEAD_SIZE + key.size + (item->expiry_ms != 0 ? 8 : 0) + area;
    return (uint32_t)((size + UNIT - 1) / UNIT);
}

/* --- put and get --- */

/* Write the item into e, whose key is there and whose size fits. apart: memory for a value that is
 * too large to lie inside, else NULL. */
static void set_item(struct entry_head *e, const struct item *item, struct apart *apart)
{
    e->epoch = item->version.epoch;
    e->seq = item->version.seq;
    e->value_size = (uint32_t)item->value.size & ((1u << VALUE_SIZE_BITS) - 1);
    e->present = item->present;
    e->has_expiry = item->expiry_ms != 0;
    if (e->has_expiry)
        bytes_put_le64(e->data + e->key_size, item->expiry_ms);
    if (apart != NULL)
        memcpy(value_area(e), &apart, sizeof apart);
    else if (item->value.size > 0)
        memcpy(value_area(e), item->value.data, item->value.size);
}

static enum status insert(struct overlay *o, uint64_t hash, uint32_t slot, uint64_t digest,
                          struct bytes key, const struct item *item, struct apart *apart)
{
    uint32_t units = units_for(key, item);
    if (!reserve_bucket(o) || !reserve_slot(o))
        return STATUS_NOMEMORY;
    uint32_t ref = take_units(o, units);
    if (ref == 0)
        return STATUS_NOMEMORY;
    struct entry_head *e = entry_of(o, ref);
    e->digest = digest;
    e->slot = slot;
    e->key_size = (uint16_t)key.size;
    e->units = (uint16_t)units;
    memcpy(e->data, key.data, key.size);
    set_item(e, item, apart);
    uint32_t *bucket = &o->buckets[bucket_of(o, hash)];
    e->hash_next = *bucket;
    *bucket = ref;
    slot_link(o, ref);
    if (++o->count > o->buckets_count)
        split_bucket(o);
    return STATUS_OK;
}

/* The entry needs another size: move it, and let its neighbours know. */
static struct entry_head *move(struct overlay *o, uint32_t *link, uint32_t units)
{
    uint32_t old_ref = *link;
    uint32_t ref = take_units(o, units);
    if (ref == 0)
        return NULL;
    struct entry_head *old = entry_of(o, old_ref);
    struct entry_head *e = entry_of(o, ref);
    memcpy(e, old, HEAD_SIZE);
    memcpy(e->data, old->data, old->key_size);
    e->units = (uint16_t)units;
    *link = ref;
    slot_relink(o, ref);
    give_units(o, old_ref);
    return e;
}

static enum status replace(struct overlay *o, uint32_t *link, const struct item *item,
                           struct apart *apart)
{
    struct entry_head *e = entry_of(o, *link);
    uint32_t units = units_for(bytes_of(e->data, e->key_size), item);
    struct apart *old = is_apart(e->value_size) ? apart_of(e) : NULL;
    if (units != e->units)
        e = move(o, link, units);
    if (e == NULL)
        return STATUS_NOMEMORY;
    set_item(e, item, apart);
    apart_free(o, old);
    return STATUS_OK;
}

enum status overlay_put(struct overlay *o, uint32_t slot, uint64_t digest, struct bytes key,
                        const struct item *item)
{
    ENSURE(key.size > 0 && key.size <= KEY_SIZE_MAX);
    ENSURE(item->value.size <= VALUE_SIZE_MAX);
    struct apart *apart = is_apart(item->value.size) ? apart_new(o, item->value) : NULL;
    if (apart == NULL && is_apart(item->value.size))
        return STATUS_NOMEMORY;
    uint64_t hash = hash_of(slot, key);
    uint32_t *link = find_link(o, hash, slot, digest, key);
    enum status s = *link != 0 ? replace(o, link, item, apart)
                               : insert(o, hash, slot, digest, key, item, apart);
    if (s != STATUS_OK)
        apart_free(o, apart);
    return s;
}

static struct item item_of(struct entry_head *e)
{
    return (struct item){
        .present = e->present,
        .version = {e->epoch, e->seq},
        .expiry_ms = e->has_expiry ? bytes_le64(e->data + e->key_size) : 0,
        .value = bytes_of(value_of(e), e->value_size),
    };
}

bool overlay_get(const struct overlay *o, uint32_t slot, uint64_t digest, struct bytes key,
                 struct item *ret)
{
    uint32_t ref = *find_link(o, hash_of(slot, key), slot, digest, key);
    if (ref == 0)
        return false;
    *ret = item_of(entry_of(o, ref));
    return true;
}

/* --- sorted rows --- */

static int compare_slots(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

uint32_t *overlay_slots(const struct overlay *o, size_t *ret_count)
{
    *ret_count = o->slots_count;
    uint32_t *slots = *ret_count == 0 ? NULL : malloc(*ret_count * sizeof *slots);
    if (slots == NULL)
        return NULL;
    size_t count = 0;
    for (uint32_t i = 0; i < o->slots_capacity; i++)
        if (o->slots[i].first != 0)
            slots[count++] = o->slots[i].slot;
    ENSURE(count == *ret_count);
    qsort(slots, count, sizeof *slots, compare_slots);
    return slots;
}

/* What a sort moves: small, and the digest nearly always decides. */
struct sorting {
    uint64_t digest;
    struct entry_head *entry;
};

static int compare_entries(const void *a, const void *b)
{
    const struct sorting *x = a, *y = b;
    if (x->digest != y->digest)
        return x->digest < y->digest ? -1 : 1;
    return bytes_compare(bytes_of(x->entry->data, x->entry->key_size),
                         bytes_of(y->entry->data, y->entry->key_size));
}

static struct table_row row_of(struct entry_head *e)
{
    return (struct table_row){
        .slot = e->slot,
        .digest = e->digest,
        .key = bytes_of(e->data, e->key_size),
        .item = item_of(e),
    };
}

/* Write the rows of one slot to `to` and return their number; scratch has room for as many. */
static size_t sort_slot(const struct overlay *o, uint32_t slot, struct sorting *scratch,
                        struct table_row *to)
{
    const struct slot_head *head = slot_find(o, slot);
    size_t count = 0;
    for (uint32_t ref = head->first; ref != 0; ref = entry_of(o, ref)->slot_next)
        scratch[count++] = (struct sorting){entry_of(o, ref)->digest, entry_of(o, ref)};
    ENSURE(count == head->count);
    qsort(scratch, count, sizeof *scratch, compare_entries);
    for (size_t i = 0; i < count; i++)
        to[i] = row_of(scratch[i].entry);
    return count;
}

/* False: out of memory. */
static bool sort_slots(const struct overlay *o, uint32_t slot, struct sorting *scratch,
                       struct table_row *to)
{
    if (slot != UINT32_MAX) {
        sort_slot(o, slot, scratch, to);
        return true;
    }
    size_t slots_count;
    uint32_t *slots = overlay_slots(o, &slots_count);
    for (size_t i = 0; slots != NULL && i < slots_count; i++)
        to += sort_slot(o, slots[i], scratch, to);
    bool done = slots != NULL;
    free(slots);
    return done;
}

struct table_row *overlay_sorted(const struct overlay *o, uint32_t slot, size_t *ret_count)
{
    *ret_count = slot == UINT32_MAX ? o->count : slot_find(o, slot)->count;
    if (*ret_count == 0)
        return NULL;
    struct sorting *scratch = malloc(*ret_count * sizeof *scratch);
    struct table_row *rows = malloc(*ret_count * sizeof *rows);
    if (scratch == NULL || rows == NULL || !sort_slots(o, slot, scratch, rows)) {
        free(rows);
        rows = NULL;
    }
    free(scratch);
    return rows;
}

uint64_t overlay_count(const struct overlay *o)
{
    return o->count;
}

uint64_t overlay_bytes(const struct overlay *o)
{
    uint64_t units = o->used_units;
    if (o->blocks_count > 1)
        units += (uint64_t)(o->blocks_count - 1) * BLOCK_UNITS;
    return units * UNIT + o->apart_bytes + (uint64_t)o->buckets_capacity * sizeof *o->buckets +
           (uint64_t)o->slots_capacity * sizeof *o->slots;
}
