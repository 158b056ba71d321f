#include "storage/serve.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "proto/codec.h"
#include "storage/epoch.h"
#include "storage/hold.h"
#include "storage/lapse.h"
#include "storage/lead.h"
#include "storage/mutate.h"

#define SCAN_COUNT_DEFAULT 1000u
#define SCAN_COUNT_MAX 10000u
#define SCAN_BYTES_DEFAULT (1u << 20)
#define TOKEN_AHEAD_MAX_MS 60000u /* a token further in the future than this is nonsense */

static uint32_t copies_flags(const struct replica *r)
{
    return ANSWER_SYNCED | replica_copies(r) << ANSWER_COPIES_SHIFT;
}

/* The expiry in place of the value. */
static void reply_expiry(struct core *c, struct replica *r, struct asker to,
                         const struct item *item)
{
    uint64_t now = lapse_now(c, r);
    struct expiry expiry = {item->expiry_ms, item->expiry_ms > now ? item->expiry_ms - now : 0};
    struct reply reply = {.status = STATUS_OK,
                          .flags = copies_flags(r) | ANSWER_VALUE,
                          .version = item->version};
    buffer_clear(&c->scratch);
    if (codec_pack_expiry(&expiry, &c->scratch) != STATUS_OK) {
        core_fail(c, STATUS_NOMEMORY);
        return;
    }
    reply.value = buffer_view(&c->scratch);
    core_reply(c, to, &reply);
}

static void reply_item(struct core *c, struct replica *r, const struct operation *op,
                       const struct item *item)
{
    enum read_part part = READ_VALUE;
    struct asker to = op->asker;
    if (op->body.size > 0 && codec_unpack_read_query(op->body, &part) != STATUS_OK) {
        core_refuse(c, to, STATUS_MALFORMED);
        return;
    }
    if (part == READ_EXPIRY && item->present) {
        reply_expiry(c, r, to, item);
        return;
    }
    struct reply reply = {.status = item->present ? STATUS_OK : STATUS_NOTFOUND,
                          .flags = copies_flags(r) | (item->present ? ANSWER_VALUE : 0),
                          .version = item->version,
                          .value = item->present ? item->value : BYTES_EMPTY};
    core_reply(c, to, &reply);
}

/* ------------------------------------------------------------------ waiting */

static struct waiter *wait_for(struct core *c, struct pending *p, enum waiter_kind kind,
                               const struct operation *op)
{
    if (c->replies.waiting >= c->options.waiters_max) {
        c->counters.refused_busy++;
        core_refuse(c, op->asker, STATUS_BUSY);
        return NULL;
    }
    bool reads = kind != WAIT_WRITE;
    struct waiter *w = replies_waiter_new(&c->replies, kind, op->asker,
                                          reads ? op->key : BYTES_EMPTY,
                                          reads ? op->body : BYTES_EMPTY);
    if (w == NULL) {
        core_fail(c, STATUS_NOMEMORY);
        return NULL;
    }
    w->since_ms = c->now_ms;
    w->deadline_ms = op->deadline_ms;
    w->digest = op->digest;
    w->next = p->waiters;
    p->waiters = w;
    return w;
}

/* A read of something dirty waits for p's commit; at a replica not for long. */
static void wait_to_read(struct core *c, struct replica *r, struct pending *p,
                         enum waiter_kind kind, const struct operation *op)
{
    if (wait_for(c, p, kind, op) != NULL && !r->leads && r->reader_due_ms == 0)
        r->reader_due_ms = c->now_ms + c->options.ask_primary_ms;
}

/* Queue op behind a fetch of its key. */
static void park(struct core *c, struct replica *r, const struct operation *op, uint64_t generation)
{
    struct cold_key *k = cold_find(&c->cold, r->slot, op->digest, op->key);
    if (c->cold.operations_count >= c->options.waiters_max) {
        c->counters.refused_busy++;
        core_refuse(c, op->asker, STATUS_BUSY);
        return;
    }
    if (k == NULL) {
        k = cold_begin(&c->cold, r->partition, r->slot, op->digest, op->key);
        if (k == NULL) {
            core_fail(c, STATUS_NOMEMORY);
            return;
        }
        core_fetch(c, k, generation);
    }
    enum status status = cold_park(&c->cold, k, op);
    if (status != STATUS_OK)
        core_fail(c, status);
}

/* The committed state of op's key. False: op was parked or the node failed. */
static bool committed_item(struct core *c, struct replica *r, const struct operation *op,
                           const struct item *cold, struct item *ret)
{
    if (cold != NULL) {
        *ret = *cold;
        return true;
    }
    uint64_t generation;
    enum status status = store_get(c->store, r->slot, op->digest, op->key, ret, &generation);
    if (status == STATUS_OK)
        return true;
    if (status == STATUS_BUSY)
        park(c, r, op, generation);
    else
        core_fail(c, status);
    return false;
}

/* ------------------------------------------------------------------ reads */

/* Rule R1: without leases what is here may be old. */
static bool put_off_unread(struct core *c, struct replica *r, const struct operation *op)
{
    if (epoch_readable(r, c->now_ms))
        return false;
    hold_or_refuse(c, r, op);
    return true;
}

/* Rule R7: what is past its expiry is dirty. The primary logs that it goes, and the asker hears of its
 * absence when that is committed. */
static void read_lapsed(struct core *c, struct replica *r, const struct operation *op)
{
    struct pending *p;
    if (!r->leads) {
        core_refuse(c, op->asker, STATUS_ASKPRIMARY);
        return;
    }
    enum status status = lapse_log(c, r, op->digest, op->key, &p);
    if (status == STATUS_UNAVAILABLE)
        hold_or_refuse(c, r, op);
    else if (status != STATUS_OK)
        core_refuse(c, op->asker, status);
    else if (p != NULL)
        wait_for(c, p, WAIT_READ, op);
}

/* The state that a pending entry leaves op's key in. */
static struct item pending_item(const struct pending *p, struct bytes key)
{
    const struct effect *f = pending_effect(p, key);
    if (f->kind != EFFECT_PUT)
        return (struct item){.present = false};
    return (struct item){.present = true,
                         .version = {p->entry.epoch, p->entry.seq},
                         .expiry_ms = f->expiry_ms,
                         .value = f->value};
}

/* A dirty key: the read waits for the newest entry on it, and is answered with what that leaves, not with
 * what comes later (W8). An expiry counts if it has passed now. */
static void read_dirty(struct core *c, struct replica *r, const struct operation *op,
                       struct pending *p)
{
    struct item item = pending_item(p, op->key);
    if (MUTANT(1) && !r->leads)
        reply_item(c, r, op, &item);
    else if (item.expiry_ms != 0 && lapse_due(c, r, &item) && !MUTANT(48))
        read_lapsed(c, r, op);
    else
        wait_to_read(c, r, p, WAIT_READ, op);
}

static void read_clean(struct core *c, struct replica *r, const struct operation *op,
                       const struct item *cold)
{
    struct item item;
    if (!committed_item(c, r, op, cold, &item))
        return;
    bool lapsed = item.expiry_ms != 0 && lapse_due(c, r, &item);
    if (lapsed && MUTANT(48))
        item = (struct item){.present = false};
    if (lapsed && !MUTANT(48))
        read_lapsed(c, r, op);
    else
        reply_item(c, r, op, &item);
}

static void serve_read(struct core *c, struct replica *r, const struct operation *op,
                       const struct item *cold)
{
    if (put_off_unread(c, r, op))
        return;
    struct pending *p = pending_of_key(&c->pending, r->slot, op->digest, op->key);
    c->counters.reads++;
    if (p != NULL && !(MUTANT(2) && r->leads))
        read_dirty(c, r, op, p);
    else
        read_clean(c, r, op, cold);
}

#define PAGE_LAPSED_MAX 256u /* keys past their expiry that one look at a page lets go */

/* A key past its expiry; memory of the page's arena. */
struct lapsed {
    uint64_t digest;
    struct bytes key;
};

struct page {
    struct core *core;
    struct replica *replica;
    struct lapsed *lapsed; /* none of them is in the page */
    size_t lapsed_count;
    struct scan_page page;
    struct arena *arena;
    const struct scan_query *query;
    size_t bytes, count_max, bytes_max;
    uint64_t last_digest;
    bool more;
};

/* False: no more of them. */
static bool page_lapsed(struct page *g, const struct table_row *row)
{
    if (g->lapsed == NULL)
        g->lapsed = arena_calloc(g->arena, PAGE_LAPSED_MAX, sizeof *g->lapsed);
    uint8_t *key = arena_alloc(g->arena, row->key.size);
    if (g->lapsed == NULL || key == NULL)
        core_fail(g->core, STATUS_NOMEMORY);
    if (g->core->failed != STATUS_OK || g->lapsed_count == PAGE_LAPSED_MAX)
        return false;
    memcpy(key, row->key.data, row->key.size);
    g->lapsed[g->lapsed_count++] =
        (struct lapsed){row->digest, bytes_of(key, row->key.size)};
    return true;
}

static bool page_row(void *arg, const struct table_row *row)
{
    struct page *g = arg;
    struct scan_page *p = &g->page;
    if (row->item.expiry_ms != 0 && lapse_due(g->core, g->replica, &row->item))
        return page_lapsed(g, row);
    size_t size = row->key.size + (g->query->keys_only ? 0 : row->item.value.size);
    if (p->count == g->count_max || (p->count > 0 && g->bytes + size > g->bytes_max)) {
        g->more = true;
        return false;
    }
    p->keys[p->count] = row->key;
    p->values[p->count] = g->query->keys_only ? BYTES_EMPTY : row->item.value;
    p->epochs[p->count] = row->item.version.epoch;
    p->seqs[p->count] = row->item.version.seq;
    p->count++;
    g->bytes += size;
    g->last_digest = row->digest;
    return true;
}

static bool page_init(struct page *g, struct core *c, struct replica *r,
                      const struct scan_query *q)
{
    struct arena *arena = &c->arena;
    *g = (struct page){.core = c, .replica = r, .arena = arena, .query = q};
    g->count_max = q->count_max == 0 ? SCAN_COUNT_DEFAULT : q->count_max;
    if (g->count_max > SCAN_COUNT_MAX)
        g->count_max = SCAN_COUNT_MAX;
    g->bytes_max = q->bytes_max == 0 ? SCAN_BYTES_DEFAULT : q->bytes_max;
    if (g->bytes_max > MESSAGE_BYTES_MAX / 2)
        g->bytes_max = MESSAGE_BYTES_MAX / 2;
    g->page.keys = arena_calloc(arena, g->count_max, sizeof *g->page.keys);
    g->page.values = arena_calloc(arena, g->count_max, sizeof *g->page.values);
    g->page.epochs = arena_calloc(arena, g->count_max, sizeof *g->page.epochs);
    g->page.seqs = arena_calloc(arena, g->count_max, sizeof *g->page.seqs);
    return g->page.keys != NULL && g->page.values != NULL && g->page.epochs != NULL &&
           g->page.seqs != NULL;
}

/* The cursor of the page after this one: digest and key of its last row. */
static struct bytes page_next(struct page *g)
{
    struct bytes last = g->page.keys[g->page.count - 1];
    uint8_t *cursor = arena_alloc(g->arena, 8 + last.size);
    if (cursor == NULL)
        return BYTES_EMPTY;
    bytes_put_be64(cursor, g->last_digest);
    memcpy(cursor + 8, last.data, last.size);
    return bytes_of(cursor, 8 + last.size);
}

static void reply_page(struct core *c, struct replica *r, struct asker to, struct page *g)
{
    if (g->more)
        g->page.next = page_next(g);
    buffer_clear(&c->scratch);
    if (codec_pack_scan_page(&g->page, &c->scratch) != STATUS_OK) {
        core_fail(c, STATUS_NOMEMORY);
        return;
    }
    struct reply reply = {.status = STATUS_OK,
                          .flags = copies_flags(r) | ANSWER_VALUE,
                          .value = buffer_view(&c->scratch)};
    core_reply(c, to, &reply);
}

/* Rule R7: a page is made when the keys past their expiry that it came by are gone. */
static void page_let_go(struct core *c, struct replica *r, const struct operation *op,
                        const struct page *g)
{
    struct pending *p;
    enum status status = r->leads ? STATUS_OK : STATUS_ASKPRIMARY;
    for (size_t i = 0; i < g->lapsed_count && status == STATUS_OK; i++) {
        const struct lapsed *l = &g->lapsed[i];
        if (pending_of_key(&c->pending, r->slot, l->digest, l->key) == NULL)
            status = lapse_log(c, r, l->digest, l->key, &p);
    }
    if (status != STATUS_OK) {
        core_refuse(c, op->asker, status);
        return;
    }
    struct pending *last = replica_pending(r, r->last.seq);
    if (c->failed != STATUS_OK)
        return;
    ENSURE(last != NULL); /* each of them is dirty now */
    wait_for(c, last, WAIT_SCAN, op);
}

/* One page of r, all of whose received entries are committed. */
static void scan_page(struct core *c, struct replica *r, const struct operation *op)
{
    struct scan_query query;
    struct bytes cursor = op->key, key = BYTES_EMPTY;
    if (codec_unpack_scan_query(op->body, &query) != STATUS_OK ||
        (cursor.size > 0 && (cursor.size < 8 || cursor.size > 8 + KEY_SIZE_MAX))) {
        core_refuse(c, op->asker, STATUS_MALFORMED);
        return;
    }
    uint64_t digest = op->digest;
    if (cursor.size >= 8) {
        digest = bytes_be64(cursor.data);
        key = bytes_of(cursor.data + 8, cursor.size - 8);
    }
    struct page page;
    arena_reset(&c->arena, 1u << 20);
    if (!page_init(&page, c, r, &query)) {
        core_fail(c, STATUS_NOMEMORY);
        return;
    }
    enum status status = store_scan(c->store, r->slot, digest, key, page_row, &page);
    if (status != STATUS_OK)
        core_fail(c, status);
    else if (page.lapsed_count > 0)
        page_let_go(c, r, op, &page);
    else
        reply_page(c, r, op->asker, &page);
}

static void serve_scan(struct core *c, struct replica *r, const struct operation *op)
{
    if (put_off_unread(c, r, op))
        return;
    c->counters.reads++;
    struct pending *last = replica_pending(r, r->last.seq);
    if (last != NULL)
        wait_to_read(c, r, last, WAIT_SCAN, op);
    else
        scan_page(c, r, op);
}

/* ------------------------------------------------------------------ writes */

static void reply_record(struct core *c, struct replica *r, struct asker to,
                         const struct completion_record *record)
{
    struct reply reply = {
        .status = record->status,
        .flags = copies_flags(r) | (record->result_flags & RESULT_HAS_VALUE ? ANSWER_VALUE : 0),
        .version = record->version,
        .value = record->result};
    core_reply(c, to, &reply);
}

/* Answer from an entry: the whole result if it is still here, else what the record kept. */
static void reply_entry(struct core *c, struct replica *r, struct asker to,
                        const struct pending *p)
{
    const struct entry *e = &p->entry;
    struct completion_record record = {.status = e->status,
                                       .version = {e->epoch, e->seq},
                                       .result_flags = e->result_flags,
                                       .result = e->result};
    if (p->full_result != NULL) {
        record.result_flags |= RESULT_HAS_VALUE;
        record.result = bytes_of(p->full_result, p->full_result_size);
    }
    reply_record(c, r, to, &record);
}

/* Is (client, seq) known? True: op was answered, or waits for the entry that answers it. */
static bool serve_known(struct core *c, struct replica *r, const struct operation *op,
                        uint64_t client, uint64_t seq)
{
    struct completion_record record;
    switch (completion_find(r->completion, client, seq, &record)) {
    case COMPLETION_FOUND:
        c->counters.duplicates++;
        reply_record(c, r, op->asker, &record);
        return true;
    case COMPLETION_STALE:
        core_refuse(c, op->asker, STATUS_STALE);
        return true;
    case COMPLETION_UNKNOWN:
        break;
    }
    struct pending *p = pending_of_client(&c->pending, r->slot, client, seq);
    if (p == NULL)
        return false;
    c->counters.duplicates++;
    if (MUTANT(26))
        reply_entry(c, r, op->asker, p);
    else
        wait_for(c, p, WAIT_WRITE, op);
    return true;
}

/* Rule X2: an unknown id may be executed only if its token shows that its record cannot have been
 * removed already. */
static enum status token_status(const struct core *c, const struct replica *r, uint64_t token)
{
    uint64_t horizon = completion_horizon(r->completion);
    if (MUTANT(29))
        return STATUS_OK;
    if (token > c->wall_ms + TOKEN_AHEAD_MAX_MS)
        return STATUS_NEEDTOKEN;
    if (token > horizon)
        return STATUS_OK;
    if (token == 0)
        return horizon == 0 ? STATUS_OK : STATUS_NEEDTOKEN;
    return STATUS_TOOOLD;
}

/* May anything be logged now? */
static enum status log_status(struct core *c, struct replica *r)
{
    if (!lead_writable(c, r))
        return STATUS_UNAVAILABLE;
    if (c->space_low) {
        c->counters.refused_full++;
        return STATUS_FULL;
    }
    if (replica_full(c, r) || c->replies.waiting >= c->options.waiters_max) {
        c->counters.refused_busy++;
        return STATUS_BUSY;
    }
    return STATUS_OK;
}

/* op cannot be logged now, or ever. */
static void put_off(struct core *c, struct replica *r, const struct operation *op,
                    enum status status)
{
    if (status == STATUS_UNAVAILABLE)
        hold_or_refuse(c, r, op);
    else
        core_refuse(c, op->asker, status);
}

/* Rule W8, where links were lost on the way: this node may have refused op once, and taken a later
 * write of the same client on the same key since; whoever sends op again cannot know that. */
static bool overtaken(const struct core *c, const struct replica *r, const struct operation *op)
{
    uint64_t key_hash = record_key_hash(op->key);
    return completion_overtaken(r->completion, op->client, op->seq, key_hash) ||
           pending_overtaken(&c->pending, r->slot, op->client, op->seq, key_hash);
}

/* From its commit on, (client, seq) never happens. */
static void log_aborted(struct core *c, struct replica *r, const struct operation *op,
                        uint64_t client, uint64_t seq)
{
    struct entry e = {.kind = ENTRY_ABORTED,
                      .key_hash = record_key_hash(op->key),
                      .status = STATUS_ABORTED,
                      .client = client,
                      .client_seq = seq};
    struct pending *p = lead_log(c, r, &e, op->ptime_token);
    if (p != NULL)
        wait_for(c, p, WAIT_WRITE, op);
}

/* A blind put does not look at what is there. */
static bool needs_current(const struct write *w)
{
    return w->precondition != PRECONDITION_NONE || w->mutation != MUTATION_PUT ||
           w->want == WANT_OLD;
}

/* The newest state of op's key, committed or not. False: op was parked. */
static bool newest_item(struct core *c, struct replica *r, const struct operation *op,
                        const struct item *cold, struct item *ret)
{
    const struct pending *p = pending_of_key(&c->pending, r->slot, op->digest, op->key);
    if (p == NULL)
        return committed_item(c, r, op, cold, ret);
    *ret = pending_item(p, op->key);
    return true;
}

static void entry_from(const struct operation *op, const struct mutate_outcome *m,
                       struct entry *ret)
{
    *ret = (struct entry){.kind = ENTRY_WRITE,
                          .status = m->status,
                          .client = op->client,
                          .client_seq = op->seq,
                          .ack_below = op->ack_below,
                          .key_hash = record_key_hash(op->key)};
    if (m->has_effect) {
        ret->effects_count = 1;
        ret->effects[0] = m->effect;
        ret->effects[0].key = op->key;
        ret->effects[0].digest = op->digest;
    }
    if (m->has_result && m->result.size <= RESULT_SIZE_MAX) {
        ret->result_flags = RESULT_HAS_VALUE;
        ret->result = m->result;
    } else if (m->has_result) {
        ret->result_flags = RESULT_TRIMMED;
    }
}

static void keep_full_result(struct core *c, struct pending *p, struct bytes result)
{
    p->full_result = malloc(result.size);
    if (p->full_result == NULL) {
        core_fail(c, STATUS_NOMEMORY);
        return;
    }
    memcpy(p->full_result, result.data, result.size);
    p->full_result_size = (uint32_t)result.size;
}

/* Log effect and result, wait for the commit. */
static void log_outcome(struct core *c, struct replica *r, const struct operation *op,
                        const struct mutate_outcome *m)
{
    struct entry e;
    entry_from(op, m, &e);
    if (MUTANT(44) && !m->has_effect) {
        struct reply reply = {.status = m->status, .flags = copies_flags(r)};
        core_reply(c, op->asker, &reply);
        return;
    }
    struct pending *p = lead_log(c, r, &e, op->ptime_token);
    if (p == NULL)
        return;
    if (e.result_flags & RESULT_TRIMMED)
        keep_full_result(c, p, m->result);
    wait_for(c, p, WAIT_WRITE, op);
}

static void judge_write(struct core *c, struct replica *r, const struct operation *op,
                        const struct write *w, const struct item *current)
{
    struct mutate_work work;
    struct mutate_outcome m;
    mutate_work_init(&work, c->options.value_size_max, lapse_now(c, r));
    mutate(w, current, &work, &m);
    if (m.status == STATUS_NOMEMORY)
        core_fail(c, m.status);
    else
        log_outcome(c, r, op, &m);
    mutate_work_fini(&work);
}

/* A write that finds a key past its expiry finds it absent, and by a log entry before its own; for its
 * own may have no effect, and then a copy could still show the key. False: op was refused. */
static bool let_go(struct core *c, struct replica *r, const struct operation *op,
                   struct item *current)
{
    struct pending *ignored;
    if (!lapse_due(c, r, current))
        return true;
    enum status status = lapse_log(c, r, op->digest, op->key, &ignored);
    *current = (struct item){.present = false};
    if (status != STATUS_OK)
        core_refuse(c, op->asker, status);
    return status == STATUS_OK && c->failed == STATUS_OK;
}

static void serve_write(struct core *c, struct replica *r, const struct operation *op,
                        const struct item *cold)
{
    c->counters.writes++;
    if (!r->leads) {
        hold_or_refuse(c, r, op);
        return;
    }
    if (op->client == 0 || op->seq == 0) {
        core_refuse(c, op->asker, STATUS_MALFORMED);
        return;
    }
    if (serve_known(c, r, op, op->client, op->seq))
        return;
    /* The token first: what an EXPIRE has removed looks unknown, but may have been executed. */
    enum status status = token_status(c, r, op->ptime_token);
    if (status == STATUS_OK)
        status = log_status(c, r);
    if (status == STATUS_OK && overtaken(c, r, op)) {
        log_aborted(c, r, op, op->client, op->seq);
        return;
    }
    struct write w;
    arena_reset(&c->arena, 4 * op->body.size + 4096);
    if (status == STATUS_OK)
        status = codec_unpack_write(op->body, &c->arena, &w);
    if (status == STATUS_OK && w.value.size > c->options.value_size_max)
        status = STATUS_TOOBIG;
    if (status != STATUS_OK) {
        put_off(c, r, op, status);
        return;
    }
    struct item current = {.present = false};
    if (needs_current(&w) && !newest_item(c, r, op, cold, &current))
        return;
    if (current.expiry_ms == 0 || let_go(c, r, op, &current))
        judge_write(c, r, op, &w, &current);
}

/* ------------------------------------------------------------------ outcomes */

#define TOKEN_OLDEST 1 /* of a write whose token is not known: before every horizon but none */

/* Rule X3: "not applied" is said only after it can no longer become untrue, and only if the write's
 * own token shows that its record, had there been one, would still be here. */
static void serve_outcome(struct core *c, struct replica *r, const struct operation *op)
{
    struct outcome_query q;
    if (codec_unpack_outcome_query(op->body, &q) != STATUS_OK || q.client_id == 0 || q.seq == 0) {
        core_refuse(c, op->asker, STATUS_MALFORMED);
        return;
    }
    if (!r->leads) {
        hold_or_refuse(c, r, op);
        return;
    }
    if (serve_known(c, r, op, q.client_id, q.seq))
        return;
    enum status status = token_status(c, r, q.ptime_token == 0 ? TOKEN_OLDEST : q.ptime_token);
    if (MUTANT(45) && status == STATUS_OK)
        status = STATUS_ABORTED;
    if (status == STATUS_OK)
        status = log_status(c, r);
    if (status != STATUS_OK) {
        put_off(c, r, op, status);
        return;
    }
    log_aborted(c, r, op, q.client_id, q.seq);
}

/* ------------------------------------------------------------------ the door */

void serve_operation(struct core *c, struct replica *r, const struct operation *op,
                     const struct item *cold)
{
    bool scan = op->kind == KIND_SCAN;
    if (!scan && (op->key.size == 0 || op->key.size > KEY_SIZE_MAX)) {
        core_refuse(c, op->asker, op->key.size == 0 ? STATUS_USAGE : STATUS_TOOBIG);
        return;
    }
    /* First behind a fetch of the key, then behind what is held: what waits for the fetch came before,
     * and is held before this when it cannot be served then. (hold_behind() is also about other keys
     * with this digest; those need not come first.) */
    bool one_key = op->kind == KIND_READ || op->kind == KIND_WRITE;
    if (one_key && cold == NULL && cold_find(&c->cold, r->slot, op->digest, op->key) != NULL) {
        park(c, r, op, 0);
        return;
    }
    if (hold_behind(c, r, op))
        return;
    switch (op->kind) {
    case KIND_READ:
        serve_read(c, r, op, cold);
        return;
    case KIND_WRITE:
        serve_write(c, r, op, cold);
        return;
    case KIND_OUTCOME:
        serve_outcome(c, r, op);
        return;
    case KIND_SCAN:
        serve_scan(c, r, op);
        return;
    }
    core_refuse(c, op->asker, STATUS_UNSUPPORTED);
}

void serve_fetched(struct core *c, struct replica *r, struct cold_key *k, uint64_t generation,
                   const struct item *fetched)
{
    struct item item;
    uint64_t again;
    enum status status =
        store_fetched(c->store, generation, k->slot, k->digest, bytes_of(k->key, k->key_size),
                      fetched, &item, &again);
    if (status == STATUS_BUSY) {
        core_fetch(c, k, again);
        return;
    }
    if (status != STATUS_OK) {
        core_fail(c, status);
        return;
    }
    struct cold_operation *op;
    while ((op = cold_next(&c->cold, k)) != NULL) {
        if (c->failed == STATUS_OK && op->operation.deadline_ms > c->now_ms)
            serve_operation(c, r, &op->operation, &item);
        free(op);
    }
    cold_end(&c->cold, &k);
}

void serve_dropped(struct core *c, struct cold_key *k)
{
    struct cold_operation *op;
    while ((op = cold_next(&c->cold, k)) != NULL) {
        core_refuse(c, op->operation.asker, STATUS_ASKPRIMARY);
        free(op);
    }
    cold_end(&c->cold, &k);
}

/* The read that waited as w. */
static struct operation operation_of(const struct waiter *w)
{
    return (struct operation){.asker = w->asker,
                              .kind = w->kind == WAIT_SCAN ? KIND_SCAN : KIND_READ,
                              .digest = w->digest,
                              .deadline_ms = w->deadline_ms,
                              .key = bytes_of(w->bytes, w->key_size),
                              .body = bytes_of(w->bytes + w->key_size, w->query_size)};
}

static void answer_read(struct core *c, struct replica *r, const struct operation *op)
{
    struct item item;
    uint64_t generation;
    /* It was applied a moment ago, so an overlay has it. */
    if (store_get(c->store, r->slot, op->digest, op->key, &item, &generation) != STATUS_OK) {
        core_fail(c, STATUS_CORRUPT);
        return;
    }
    reply_item(c, r, op, &item);
}

static void answer_waiter(struct core *c, struct replica *r, struct pending *p, struct waiter *w)
{
    struct operation op;
    switch (w->kind) {
    case WAIT_WRITE:
        reply_entry(c, r, w->asker, p);
        return;
    case WAIT_SCAN:
        op = operation_of(w);
        scan_page(c, r, &op);
        return;
    case WAIT_READ:
        op = operation_of(w);
        answer_read(c, r, &op);
        return;
    }
    ENSURE_UNREACHABLE();
}

/* Oldest first. */
static struct waiter *reversed(struct waiter *w)
{
    struct waiter *out = NULL;
    while (w != NULL) {
        struct waiter *next = w->next;
        w->next = out;
        out = w;
        w = next;
    }
    return out;
}

void serve_committed(struct core *c, struct replica *r, struct pending *p)
{
    struct waiter *w = reversed(p->waiters);
    p->waiters = NULL;
    while (w != NULL) {
        struct waiter *next = w->next;
        answer_waiter(c, r, p, w);
        replies_waiter_destroy(&c->replies, &w);
        w = next;
    }
}

void serve_abandoned(struct core *c, struct replica *r, struct pending *p)
{
    (void)r;
    while (p->waiters != NULL) {
        struct waiter *w = p->waiters;
        p->waiters = w->next;
        core_refuse(c, w->asker, w->kind == WAIT_WRITE ? STATUS_INDOUBT : STATUS_ASKPRIMARY);
        replies_waiter_destroy(&c->replies, &w);
    }
}

typedef bool verdict_fn(const struct core *c, const struct replica *r, const struct waiter *w,
                        enum status *ret);

/* Take out every waiter that judge says goes; STATUS_OK as the verdict: without an answer. */
static void sweep(struct core *c, struct replica *r, verdict_fn *judge, enum status status)
{
    for (uint64_t seq = r->commit.seq + 1; seq <= r->last.seq; seq++) {
        struct waiter **at = &replica_pending(r, seq)->waiters;
        while (*at != NULL) {
            struct waiter *w = *at;
            enum status verdict = status;
            if (!judge(c, r, w, &verdict)) {
                at = &w->next;
                continue;
            }
            *at = w->next;
            if (verdict != STATUS_OK)
                core_refuse(c, w->asker, verdict);
            replies_waiter_destroy(&c->replies, &w);
        }
    }
}

static bool is_reader(const struct core *c, const struct replica *r, const struct waiter *w,
                      enum status *ret)
{
    (void)c, (void)r, (void)ret;
    return w->kind != WAIT_WRITE;
}

void serve_refuse_readers(struct core *c, struct replica *r)
{
    if (c->replies.waiting > 0)
        sweep(c, r, is_reader, STATUS_ASKPRIMARY);
}

static bool is_over(const struct core *c, const struct replica *r, const struct waiter *w,
                    enum status *ret)
{
    bool late = c->now_ms >= w->deadline_ms;
    bool reader = !r->leads && w->kind != WAIT_WRITE;
    *ret = late ? STATUS_OK : STATUS_ASKPRIMARY;
    return late || (reader && c->now_ms >= w->since_ms + c->options.ask_primary_ms);
}

static bool find_reader(const struct replica *r, uint64_t *ret_since)
{
    for (uint64_t seq = r->commit.seq + 1; seq <= r->last.seq; seq++)
        for (const struct waiter *w = replica_pending(r, seq)->waiters; w != NULL; w = w->next)
            if (w->kind != WAIT_WRITE) {
                *ret_since = w->since_ms;
                return true;
            }
    return false;
}

void serve_expire(struct core *c, struct replica *r)
{
    uint64_t since;
    sweep(c, r, is_over, STATUS_OK);
    r->reader_due_ms = 0;
    if (!r->leads && find_reader(r, &since))
        r->reader_due_ms = since + c->options.ask_primary_ms;
}
