#include "storage/store.h"

#include <stdlib.h>

#include "proto/base/ensure.h"

struct store {
    struct store_options options;
    struct table *table;
    struct table_reader *reader;
    bool reader_fresh; /* between refresh and release */

    struct overlay *live;
    struct overlay *frozen; /* NULL when no checkpoint runs */

    /* Raised when a frozen overlay goes: what a fetch read from the table before that may lack what
     * the overlay had, and the overlays no longer cover it. */
    uint64_t generation;
};

struct store *store_new(const struct store_options *options, struct table *table)
{
    ENSURE(table != NULL && options->overlay_bytes_max > 0);
    struct store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->options = *options;
    s->table = table;
    s->generation = 1;
    s->live = overlay_new();
    if (s->live == NULL || table->verbs->reader_new(table, &s->reader) != STATUS_OK)
        store_destroy(&s);
    return s;
}

void store_destroy(struct store **store_p)
{
    struct store *s = *store_p;
    if (s == NULL)
        return;
    if (s->reader != NULL) {
        store_turn_end(s);
        s->reader->verbs->reader_destroy(&s->reader);
    }
    overlay_destroy(&s->live);
    overlay_destroy(&s->frozen);
    free(s);
    *store_p = NULL;
}

void store_set_inline_reads(struct store *s, bool inline_reads)
{
    s->options.inline_reads = inline_reads;
}

void store_turn_end(struct store *s)
{
    overlay_tidy(s->live);
    if (!s->reader_fresh)
        return;
    s->reader->verbs->release(s->reader);
    s->reader_fresh = false;
}

/* A snapshot is taken at a turn's first read of the table, and serves for the whole turn. */
static enum status refresh(struct store *s)
{
    if (s->reader_fresh)
        return STATUS_OK;
    enum status status = s->reader->verbs->refresh(s->reader);
    s->reader_fresh = status == STATUS_OK;
    return status;
}

static bool overlays_get(const struct store *s, uint32_t slot, uint64_t digest, struct bytes key,
                         struct item *ret)
{
    if (overlay_get(s->live, slot, digest, key, ret))
        return true;
    return s->frozen != NULL && overlay_get(s->frozen, slot, digest, key, ret);
}

enum status store_get(struct store *s, uint32_t slot, uint64_t digest, struct bytes key,
                      struct item *ret, uint64_t *ret_generation)
{
    if (overlays_get(s, slot, digest, key, ret))
        return STATUS_OK;
    if (!s->options.inline_reads) {
        *ret_generation = s->generation;
        return STATUS_BUSY;
    }
    return store_get_now(s, slot, digest, key, ret);
}

enum status store_get_now(struct store *s, uint32_t slot, uint64_t digest, struct bytes key,
                          struct item *ret)
{
    if (overlays_get(s, slot, digest, key, ret))
        return STATUS_OK;
    enum status status = refresh(s);
    if (status != STATUS_OK)
        return status;
    return s->reader->verbs->get(s->reader, slot, digest, key, ret);
}

enum status store_fetched(struct store *s, uint64_t generation, uint32_t slot, uint64_t digest,
                          struct bytes key, const struct item *fetched, struct item *ret,
                          uint64_t *ret_generation)
{
    ENSURE(generation <= s->generation);
    if (overlays_get(s, slot, digest, key, ret))
        return STATUS_OK;
    if (generation != s->generation) {
        *ret_generation = s->generation;
        return STATUS_BUSY;
    }
    *ret = *fetched;
    return STATUS_OK;
}

enum status store_apply(struct store *s, uint32_t slot, uint64_t digest, struct bytes key,
                        const struct item *item)
{
    return overlay_put(s->live, slot, digest, key, item);
}

/* --- scan --- */

struct cursor {
    uint64_t digest;
    struct bytes key; /* empty: at or after digest */
};

static int compare_rows(const struct table_row *a, const struct table_row *b)
{
    if (a->digest != b->digest)
        return a->digest < b->digest ? -1 : 1;
    return bytes_compare(a->key, b->key);
}

static bool is_after(const struct table_row *row, const struct cursor *after)
{
    if (row->digest != after->digest)
        return row->digest > after->digest;
    return after->key.size == 0 || bytes_compare(row->key, after->key) > 0;
}

/* Rows of one slot, in order; taken one by one. */
struct rows {
    struct table_row *array; /* free() */
    size_t count, next;
};

static enum status rows_load(const struct overlay *o, uint32_t slot, const struct cursor *after,
                             struct rows *ret)
{
    *ret = (struct rows){0};
    if (o == NULL)
        return STATUS_OK;
    ret->array = overlay_sorted(o, slot, &ret->count);
    if (ret->array == NULL)
        return ret->count == 0 ? STATUS_OK : STATUS_NOMEMORY;
    while (ret->next < ret->count && !is_after(&ret->array[ret->next], after))
        ret->next++;
    return STATUS_OK;
}

static const struct table_row *rows_peek(const struct rows *r)
{
    return r->next < r->count ? &r->array[r->next] : NULL;
}

struct merge {
    struct rows live, frozen;
    table_row_fn *fn;
    void *arg;
    bool ended; /* fn wants no more */
};

/* The overlays' next row (the live one's where both have the key), or NULL. */
static const struct table_row *merge_peek(struct merge *m)
{
    const struct table_row *live = rows_peek(&m->live), *frozen = rows_peek(&m->frozen);
    if (live == NULL || frozen == NULL)
        return live != NULL ? live : frozen;
    int order = compare_rows(live, frozen);
    if (order == 0)
        m->frozen.next++;
    return order <= 0 ? live : frozen;
}

static void merge_take(struct merge *m, const struct table_row *row)
{
    if (row == rows_peek(&m->live))
        m->live.next++;
    else
        m->frozen.next++;
}

static void merge_give(struct merge *m, const struct table_row *row)
{
    if (row->item.present && !m->fn(m->arg, row))
        m->ended = true;
}

/* Give what the overlays have before `until` (NULL: all); true when they have its very key, too. */
static bool merge_overlays(struct merge *m, const struct table_row *until)
{
    const struct table_row *row;
    while (!m->ended && (row = merge_peek(m)) != NULL) {
        int order = until == NULL ? -1 : compare_rows(row, until);
        if (order > 0)
            return false;
        merge_take(m, row);
        merge_give(m, row);
        if (order == 0)
            return true;
    }
    return false;
}

static bool on_table_row(void *arg, const struct table_row *row)
{
    struct merge *m = arg;
    bool covered = merge_overlays(m, row);
    if (!covered && !m->ended)
        merge_give(m, row);
    return !m->ended;
}

enum status store_scan(struct store *s, uint32_t slot, uint64_t digest, struct bytes key,
                       table_row_fn *fn, void *arg)
{
    struct merge m = {.fn = fn, .arg = arg};
    struct cursor after = {digest, key};
    enum status status = refresh(s);
    if (status == STATUS_OK)
        status = rows_load(s->live, slot, &after, &m.live);
    if (status == STATUS_OK)
        status = rows_load(s->frozen, slot, &after, &m.frozen);
    if (status == STATUS_OK)
        status = s->reader->verbs->scan(s->reader, slot, digest, key, on_table_row, &m);
    if (status == STATUS_OK)
        merge_overlays(&m, NULL);
    free(m.live.array);
    free(m.frozen.array);
    return status;
}

/* The row of this very key, if it is there, comes first. False: fn wants no more, or *status tells. */
static bool range_first(struct store *s, struct table_row *row, table_row_fn *fn, void *arg,
                        enum status *status)
{
    *status = store_get_now(s, row->slot, row->digest, row->key, &row->item);
    return *status == STATUS_OK && (!row->item.present || fn(arg, row));
}

enum status store_range(struct store *s, uint32_t slot, uint64_t digest, struct bytes key,
                        table_row_fn *fn, void *arg)
{
    enum status status = STATUS_OK;
    /* No key is as long as such a bound: those at or above it are those above its beginning. */
    if (key.size > KEY_SIZE_MAX)
        key.size = KEY_SIZE_MAX;
    else if (key.size > 0) {
        struct table_row at = {.slot = slot, .digest = digest, .key = key};
        if (!range_first(s, &at, fn, arg, &status))
            return status;
    }
    return store_scan(s, slot, digest, key, fn, arg);
}

/* --- checkpoint --- */

bool store_checkpoint_due(const struct store *s)
{
    if (s->frozen != NULL)
        return false;
    if (overlay_bytes(s->live) > s->options.overlay_bytes_max)
        return true;
    uint64_t rows, bytes;
    s->table->verbs->count(s->table, &rows, &bytes);
    uint64_t entries = rows / 4;
    if (entries < s->options.overlay_entries_min)
        entries = s->options.overlay_entries_min;
    return overlay_count(s->live) > entries;
}

const struct overlay *store_freeze(struct store *s)
{
    if (s->frozen != NULL)
        return NULL;
    struct overlay *live = overlay_new();
    if (live == NULL)
        return NULL;
    s->frozen = s->live;
    s->live = live;
    return s->frozen;
}

void store_thaw(struct store *s)
{
    ENSURE(s->frozen != NULL);
    overlay_recycle(&s->frozen, s->live);
    s->generation++;
    /* The snapshot may be older than the checkpoint, which the overlay covered until now. */
    store_turn_end(s);
}

void store_count(const struct store *s, uint64_t *ret_entries, uint64_t *ret_bytes)
{
    *ret_entries = overlay_count(s->live);
    *ret_bytes = overlay_bytes(s->live);
    if (s->frozen == NULL)
        return;
    *ret_entries += overlay_count(s->frozen);
    *ret_bytes += overlay_bytes(s->frozen);
}
