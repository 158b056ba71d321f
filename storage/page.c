#include "storage/page.h"

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "proto/partition.h"
#include "storage/lapse.h"

#define KEYS_DEFAULT  1000u
#define BYTES_DEFAULT (1u << 20)
#define BYTES_MAX     (MESSAGE_BYTES_MAX / 2)
#define LAPSED_MAX    256u        /* keys past their expiry that one look at a page lets go */
#define TOUCHED_MAX   (32u << 20) /* bytes of rows that one look may read; a row more, at most */

/* Rows, and the bytes of a page and of one value; the arrays of a page. */
#define ARENA_CAP (BYTES_MAX + VALUE_SIZE_MAX + (4u << 20))

/* A key past its expiry; memory of the page's arena. */
struct lapsed {
    uint64_t digest;
    struct bytes key;
};

struct page {
    struct core *core;
    struct replica *replica;
    struct arena *arena;
    struct scan_query query;

    /* Where it begins: after (digest, key), or, where `at` is set, with that key. */
    uint64_t digest;
    struct bytes key;
    bool at;
    struct bytes tag; /* of a RANGE; empty: a SCAN */

    /* What has come. */
    struct scan_page page;
    size_t bytes, count_max, bytes_max, touched;
    uint64_t last_digest;  /* of the newest row in it; and its key */
    size_t last_size;
    uint8_t last[KEY_SIZE_MAX];
    bool more;
    struct lapsed *lapsed; /* none of them is in the page */
    size_t lapsed_count;
};

static struct bytes copied(struct page *g, struct bytes from)
{
    if (from.size == 0)
        return BYTES_EMPTY;
    uint8_t *to = arena_alloc(g->arena, from.size);
    if (to == NULL) {
        core_fail(g->core, STATUS_NOMEMORY);
        return BYTES_EMPTY;
    }
    memcpy(to, from.data, from.size);
    return bytes_of(to, from.size);
}

/* ------------------------------------------------------------------ which rows */

static bool begins_with(struct bytes key, struct bytes prefix)
{
    return key.size >= prefix.size && bytes_equal(bytes_of(key.data, prefix.size), prefix);
}

/* Is row behind the last one that may come? */
static bool beyond(const struct page *g, const struct table_row *row)
{
    const struct scan_query *q = &g->query;
    if (g->tag.size == 0)
        return false;
    if (row->digest != g->digest || (q->to.size > 0 && bytes_compare(row->key, q->to) >= 0))
        return true;
    /* Rows begin at the prefix, and keys with it lie together. */
    return !begins_with(row->key, q->prefix);
}

/* Two tags with one digest are possible, and can be made on purpose. */
static bool of_other_tag(const struct page *g, const struct table_row *row)
{
    return g->tag.size > 0 && !bytes_equal(partition_hash_tag(row->key), g->tag);
}

/* False: no more of them. */
static bool add_lapsed(struct page *g, const struct table_row *row)
{
    if (g->lapsed == NULL)
        g->lapsed = arena_calloc(g->arena, LAPSED_MAX, sizeof *g->lapsed);
    if (g->lapsed == NULL)
        core_fail(g->core, STATUS_NOMEMORY);
    if (g->core->failed != STATUS_OK || g->lapsed_count == LAPSED_MAX)
        return false;
    g->lapsed[g->lapsed_count++] = (struct lapsed){row->digest, copied(g, row->key)};
    return true;
}

/* ------------------------------------------------------------------ what goes into it */

static bool is_full(const struct page *g, size_t size)
{
    size_t count = g->query.count_only ? g->page.counted : g->page.count;
    if (count == 0)
        return false;
    return count == g->count_max || g->bytes + size > g->bytes_max || g->touched > TOUCHED_MAX;
}

static void put_row(struct page *g, const struct table_row *row)
{
    struct scan_page *p = &g->page;
    struct bytes key = copied(g, row->key);
    p->keys[p->count] = key;
    p->values[p->count] = g->query.keys_only ? BYTES_EMPTY : copied(g, row->item.value);
    p->epochs[p->count] = row->item.version.epoch;
    p->seqs[p->count] = row->item.version.seq;
    p->count++;
}

static size_t travelling(const struct page *g, const struct table_row *row)
{
    if (g->query.count_only)
        return 0;
    return row->key.size + (g->query.keys_only ? 0 : row->item.value.size);
}

/* The cursor or bound behind the last row. Memory of the arena. */
static struct bytes behind(struct page *g)
{
    bool range = g->tag.size > 0;
    size_t head = range ? 0 : 8;
    size_t size = head + g->last_size + (range ? 1 : 0);
    uint8_t *next = arena_calloc(g->arena, 1, size);
    if (next == NULL) {
        core_fail(g->core, STATUS_NOMEMORY);
        return BYTES_EMPTY;
    }
    if (!range)
        bytes_put_be64(next, g->last_digest);
    memcpy(next + head, g->last, g->last_size); /* with a zero behind it, the least key after it */
    return bytes_of(next, size);
}

static bool on_row(void *arg, const struct table_row *row)
{
    struct page *g = arg;
    if (beyond(g, row))
        return false;
    if (of_other_tag(g, row))
        return true;
    if (row->item.expiry_ms != 0 && lapse_due(g->core, g->replica, &row->item))
        return add_lapsed(g, row);
    size_t size = travelling(g, row);
    if (is_full(g, size)) {
        g->more = true;
        return false;
    }
    if (g->query.count_only)
        g->page.counted++;
    else
        put_row(g, row);
    g->bytes += size;
    g->touched += row->key.size + row->item.value.size;
    g->last_digest = row->digest;
    g->last_size = row->key.size;
    memcpy(g->last, row->key.data, row->key.size);
    return g->core->failed == STATUS_OK;
}

/* ------------------------------------------------------------------ where it begins */

static enum status begin_scan(struct page *g, const struct operation *op)
{
    struct bytes cursor = op->key;
    const struct scan_query *q = &g->query;
    if (q->prefix.size > 0 || q->from.size > 0 || q->to.size > 0)
        return STATUS_MALFORMED;
    if (cursor.size > 0 && (cursor.size < 8 || cursor.size > 8 + KEY_SIZE_MAX))
        return STATUS_MALFORMED;
    g->digest = op->digest;
    if (cursor.size >= 8) {
        g->digest = bytes_be64(cursor.data);
        g->key = bytes_of(cursor.data + 8, cursor.size - 8);
    }
    return STATUS_OK;
}

static void begin_range(struct page *g, const struct operation *op)
{
    const struct scan_query *q = &g->query;
    g->digest = op->digest;
    g->tag = partition_hash_tag(op->key);
    g->key = bytes_compare(q->from, q->prefix) > 0 ? q->from : q->prefix;
    g->at = true;
}

static enum status begin(struct page *g, const struct operation *op)
{
    arena_reset(g->arena, ARENA_CAP);
    if (codec_unpack_scan_query(op->body, g->arena, &g->query) != STATUS_OK)
        return STATUS_MALFORMED;
    const struct scan_query *q = &g->query;
    size_t count_max = q->count_only ? SCAN_COUNT_MAX : SCAN_PAGE_KEYS_MAX;
    size_t count_default = q->count_only ? SCAN_COUNT_MAX : KEYS_DEFAULT;
    g->count_max = q->count_max == 0 ? count_default : q->count_max;
    if (g->count_max > count_max)
        g->count_max = count_max;
    g->bytes_max = q->bytes_max == 0 ? BYTES_DEFAULT : q->bytes_max;
    if (g->bytes_max > BYTES_MAX)
        g->bytes_max = BYTES_MAX;
    if (op->kind == KIND_SCAN)
        return begin_scan(g, op);
    begin_range(g, op);
    return STATUS_OK;
}

static bool make_room(struct page *g)
{
    struct scan_page *p = &g->page;
    if (g->query.count_only)
        return true;
    p->keys = arena_calloc(g->arena, g->count_max, sizeof *p->keys);
    p->values = arena_calloc(g->arena, g->count_max, sizeof *p->values);
    p->epochs = arena_calloc(g->arena, g->count_max, sizeof *p->epochs);
    p->seqs = arena_calloc(g->arena, g->count_max, sizeof *p->seqs);
    return p->keys != NULL && p->values != NULL && p->epochs != NULL && p->seqs != NULL;
}

/* ------------------------------------------------------------------ the door */

static enum status pack(struct page *g)
{
    struct core *c = g->core;
    if (g->more)
        g->page.next = behind(g);
    buffer_clear(&c->scratch);
    if (c->failed == STATUS_OK && codec_pack_scan_page(&g->page, &c->scratch) != STATUS_OK)
        core_fail(c, STATUS_NOMEMORY);
    return STATUS_OK;
}

/* Rule R7: the page is made when the keys past their expiry that it came by are gone. */
static enum status let_go(struct page *g, struct pending **ret_wait)
{
    struct core *c = g->core;
    struct replica *r = g->replica;
    enum status status = r->leads ? STATUS_OK : STATUS_ASKPRIMARY;
    for (size_t i = 0; i < g->lapsed_count && status == STATUS_OK; i++) {
        struct pending *ignored;
        const struct lapsed *l = &g->lapsed[i];
        if (pending_of_key(&c->pending, r->slot, l->digest, l->key) == NULL)
            status = lapse_log(c, r, l->digest, l->key, &ignored);
    }
    if (status != STATUS_OK || c->failed != STATUS_OK)
        return status;
    *ret_wait = replica_pending(r, r->last.seq);
    ENSURE(*ret_wait != NULL); /* each of them is dirty now */
    return STATUS_OK;
}

enum status page_make(struct core *c, struct replica *r, const struct operation *op,
                      struct pending **ret_wait)
{
    struct page g = {.core = c, .replica = r, .arena = &c->arena};
    *ret_wait = NULL;
    enum status status = begin(&g, op);
    if (status != STATUS_OK)
        return status;
    status = make_room(&g) ? STATUS_OK : STATUS_NOMEMORY;
    if (status == STATUS_OK && g.at)
        status = store_range(c->store, r->slot, g.digest, g.key, on_row, &g);
    else if (status == STATUS_OK)
        status = store_scan(c->store, r->slot, g.digest, g.key, on_row, &g);
    if (status != STATUS_OK)
        core_fail(c, status);
    if (c->failed != STATUS_OK)
        return STATUS_OK;
    return g.lapsed_count > 0 ? let_go(&g, ret_wait) : pack(&g);
}
