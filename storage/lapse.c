#include "storage/lapse.h"

#include "proto/base/ensure.h"
#include "storage/lead.h"

/* A step of the sweep: rows looked at, keys let go, partitions begun. */
#define SWEEP_ROWS_MAX       256u
#define SWEEP_KEYS_MAX       64u
#define SWEEP_PARTITIONS_MAX 16u

uint64_t lapse_now(const struct core *c, const struct replica *r)
{
    return r->ptime > c->wall_ms ? r->ptime : c->wall_ms;
}

bool lapse_due(const struct core *c, const struct replica *r, const struct item *item)
{
    return item->present && item->expiry_ms != 0 && item->expiry_ms <= lapse_now(c, r);
}

static enum status log_deletions(struct core *c, struct replica *r, struct effect *effects,
                                 uint32_t count, struct pending **ret)
{
    ENSURE(r->leads);
    *ret = NULL;
    if (!lead_writable(c, r))
        return STATUS_UNAVAILABLE;
    if (replica_full(c, r)) {
        c->counters.refused_busy++;
        return STATUS_BUSY;
    }
    struct entry e = {.kind = ENTRY_LAPSE,
                      .status = STATUS_OK,
                      .effects_count = count,
                      .effects = effects};
    *ret = lead_log(c, r, &e, 0);
    c->counters.lapses += count;
    return STATUS_OK;
}

enum status lapse_log(struct core *c, struct replica *r, uint64_t digest, struct bytes key,
                      struct pending **ret)
{
    struct effect effect = {.kind = EFFECT_DELETE, .digest = digest, .key = key};
    return log_deletions(c, r, &effect, 1, ret);
}

enum status lapse_log_all(struct core *c, struct replica *r, uint64_t digest,
                          const struct bytes *keys, uint32_t count)
{
    struct effect effects[ENTRY_EFFECTS_MAX];
    struct pending *ignored;
    ENSURE(count <= ENTRY_EFFECTS_MAX);
    for (uint32_t i = 0; i < count; i++)
        effects[i] = (struct effect){.kind = EFFECT_DELETE, .digest = digest, .key = keys[i]};
    return count == 0 ? STATUS_OK : log_deletions(c, r, effects, count, &ignored);
}

/* ------------------------------------------------------------------ the sweep */

/* What one look at a partition found. Keys are copied: logging reads no table, but needs the store. */
struct look {
    struct core *c;
    struct replica *r;
    uint32_t rows, rows_max;
    bool more; /* rows are left behind the last one */
    struct {
        uint64_t digest;
        uint32_t size;
        uint8_t key[KEY_SIZE_MAX];
    } due[SWEEP_KEYS_MAX];
    uint32_t due_count;
};

static bool look_at(void *arg, const struct table_row *row)
{
    struct look *l = arg;
    struct lapse_sweep *s = &l->c->sweep;
    if (l->rows == l->rows_max || l->due_count == SWEEP_KEYS_MAX) {
        l->more = true;
        return false;
    }
    l->rows++;
    s->digest = row->digest;
    s->key_size = (uint32_t)row->key.size;
    memcpy(s->key, row->key.data, row->key.size);
    if (row->item.expiry_ms != 0)
        s->seen = true;
    if (!lapse_due(l->c, l->r, &row->item))
        return true;
    l->due[l->due_count].digest = row->digest;
    l->due[l->due_count].size = s->key_size;
    memcpy(l->due[l->due_count++].key, row->key.data, row->key.size);
    return true;
}

/* A key that is dirty has a later state than the row: it is looked at in the next round. */
static void let_go(struct look *l)
{
    struct pending *ignored;
    for (uint32_t i = 0; i < l->due_count; i++) {
        struct bytes key = bytes_of(l->due[i].key, l->due[i].size);
        if (pending_of_key(&l->c->pending, l->r->slot, l->due[i].digest, key) != NULL)
            continue;
        if (lapse_log(l->c, l->r, l->due[i].digest, key, &ignored) != STATUS_OK)
            return;
    }
}

/* Look at the rows behind the cursor; false: the partition is through, or not to be swept any more. */
static bool sweep_partition(struct core *c, uint32_t *rows)
{
    struct lapse_sweep *s = &c->sweep;
    struct replica *r = core_live(c, s->slot);
    if (r == NULL || !lead_writable(c, r))
        return false;
    struct look look = {.c = c, .r = r, .rows_max = SWEEP_ROWS_MAX - *rows};
    enum status status =
        store_scan(c->store, r->slot, s->digest, bytes_of(s->key, s->key_size), look_at, &look);
    if (status != STATUS_OK) {
        core_fail(c, status);
        return false;
    }
    let_go(&look);
    *rows += look.rows;
    if (!look.more && !s->seen) {
        r->expiring = false;
        r->changed = true;
    }
    return look.more;
}

/* The next partition that may have something; false: there is none. */
static bool begin_next(struct core *c)
{
    struct lapse_sweep *s = &c->sweep;
    for (uint32_t i = 0; i < c->slots_count; i++) {
        s->slot = s->slot >= c->slots_count ? 1 : s->slot + 1;
        const struct replica *r = core_live(c, s->slot);
        if (r == NULL || !r->expiring || !lead_writable(c, r))
            continue;
        s->digest = 0;
        s->key_size = 0;
        s->seen = false;
        s->inside = true;
        return true;
    }
    return false;
}

void lapse_sweep(struct core *c)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < SWEEP_PARTITIONS_MAX && rows < SWEEP_ROWS_MAX; i++) {
        if (!c->sweep.inside && !begin_next(c))
            return;
        c->sweep.inside = sweep_partition(c, &rows) && c->failed == STATUS_OK;
    }
}

void lapse_note(struct core *c, struct replica *r)
{
    r->expiring = true;
    if (c->sweep.slot == r->slot)
        c->sweep.seen = true;
}
