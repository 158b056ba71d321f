#include "storage/serve.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "proto/codec.h"
#include "storage/atomic.h"
#include "storage/confirm.h"
#include "storage/epoch.h"
#include "storage/hold.h"
#include "storage/known.h"
#include "storage/lapse.h"
#include "storage/lead.h"
#include "storage/lease.h"
#include "storage/mutate.h"
#include "storage/page.h"

#define TOKEN_AHEAD_MAX_MS 60000u /* a token further in the future than this is nonsense */

static uint32_t copies_flags(const struct replica *r)
{
    return ANSWER_SYNCED | replica_copies(r) << ANSWER_COPIES_SHIFT;
}

/* What the answer to a read says of itself, beside its copies. */
static uint32_t read_flags(const struct replica *r, const struct operation *op)
{
    switch (op->read.consistency) {
    case CONSISTENCY_LINEARIZABLE:
        return copies_flags(r);
    case CONSISTENCY_CONFIRM:
        return copies_flags(r) | ANSWER_CONFIRMED;
    case CONSISTENCY_ANY:
        return copies_flags(r) | ANSWER_ANY;
    }
    ENSURE_UNREACHABLE();
}

/* The expiry in place of the value. */
static void reply_expiry(struct core *c, struct replica *r, const struct operation *op,
                         const struct item *item)
{
    uint64_t now = lapse_now(c, r);
    struct expiry expiry = {item->expiry_ms, item->expiry_ms > now ? item->expiry_ms - now : 0};
    struct reply reply = {.status = STATUS_OK,
                          .flags = read_flags(r, op) | ANSWER_VALUE,
                          .version = item->version};
    buffer_clear(&c->scratch);
    if (codec_pack_expiry(&expiry, &c->scratch) != STATUS_OK) {
        core_fail(c, STATUS_NOMEMORY);
        return;
    }
    reply.value = buffer_view(&c->scratch);
    core_reply(c, op->asker, &reply);
}

static void reply_item(struct core *c, struct replica *r, const struct operation *op,
                       const struct item *item)
{
    if (op->read.part == READ_EXPIRY && item->present) {
        reply_expiry(c, r, op, item);
        return;
    }
    struct reply reply = {.status = item->present ? STATUS_OK : STATUS_NOTFOUND,
                          .flags = read_flags(r, op) | (item->present ? ANSWER_VALUE : 0),
                          .version = item->version,
                          .value = item->present ? item->value : BYTES_EMPTY};
    core_reply(c, op->asker, &reply);
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
    w->arrival = op->arrival;
    w->read = op->read;
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

/* op cannot be served now, or ever. */
static void put_off(struct core *c, struct replica *r, const struct operation *op,
                    enum status status)
{
    if (status == STATUS_UNAVAILABLE)
        hold_or_refuse(c, r, op);
    else
        core_refuse(c, op->asker, status);
}

/* Rules R1 and R5: without leases what is here may be old, unless all other members say that it is not. */
static bool put_off_unread(struct core *c, struct replica *r, const struct operation *op)
{
    bool confirm = op->read.consistency == CONSISTENCY_CONFIRM && !MUTANT(63);
    if (!epoch_member(r)) {
        hold_or_refuse(c, r, op);
        return true;
    }
    if ((!confirm && lease_holds(r, c->now_ms)) || confirm_done(r, op->arrival))
        return false;
    confirm_wait(c, r, op);
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

/* After a crash in the middle of a checkpoint the table may be ahead of what we know to be committed. Such
 * a row is committed, but what comes next would show what was before it. */
static bool ahead_of_commit(const struct replica *r, const struct item *item, bool dirty)
{
    if (item->present)
        return item->version.seq > r->commit.seq;
    return dirty && r->commit.seq < r->boot_last;
}

/* Rule R6: what is committed here, be it old; also where nobody leads, and whoever is waiting. */
static void serve_any(struct core *c, struct replica *r, const struct operation *op,
                      const struct item *cold)
{
    struct item item;
    const struct pending *p = pending_of_key(&c->pending, r->slot, op->digest, op->key);
    c->counters.reads++;
    c->counters.reads_any++;
    /* A disk that never had anything, or in the place of another one, is no copy. */
    if (r->promised_epoch == 0 || !known_met(c)) {
        core_refuse(c, op->asker, STATUS_ASKPRIMARY);
        return;
    }
    if (MUTANT(64) && p != NULL) {
        item = pending_item(p, op->key);
        reply_item(c, r, op, &item);
    } else if (committed_item(c, r, op, cold, &item)) {
        if (ahead_of_commit(r, &item, p != NULL))
            core_refuse(c, op->asker, STATUS_ASKPRIMARY);
        else
            reply_item(c, r, op, &item);
    }
}

/* A page of what is committed now; everything that came before op and is about its keys is. */
static void reply_page(struct core *c, struct replica *r, const struct operation *op)
{
    struct pending *wait;
    enum status status = page_make(c, r, op, &wait);
    if (c->failed != STATUS_OK)
        return;
    if (status != STATUS_OK) {
        put_off(c, r, op, status);
        return;
    }
    if (wait != NULL) {
        wait_for(c, wait, op->kind == KIND_SCAN ? WAIT_SCAN : WAIT_RANGE, op);
        return;
    }
    struct reply reply = {.status = STATUS_OK,
                          .flags = copies_flags(r) | ANSWER_VALUE,
                          .value = buffer_view(&c->scratch)};
    core_reply(c, op->asker, &reply);
}

/* The newest entry that a page has to wait for: a walk for all of the partition, a range for its tag. */
static struct pending *dirty_for(const struct core *c, const struct replica *r,
                                 const struct operation *op)
{
    if (op->kind == KIND_SCAN)
        return replica_pending(r, r->last.seq);
    return MUTANT(61) ? NULL : pending_of_digest(&c->pending, r->slot, op->digest);
}

static void serve_page(struct core *c, struct replica *r, const struct operation *op)
{
    if (put_off_unread(c, r, op))
        return;
    c->counters.reads++;
    struct pending *p = dirty_for(c, r, op);
    if (p != NULL)
        wait_to_read(c, r, p, op->kind == KIND_SCAN ? WAIT_SCAN : WAIT_RANGE, op);
    else
        reply_page(c, r, op);
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

/* Rule W8, where links were lost on the way: this node may have refused op once, and taken a later
 * write of the same client on the same key since; whoever sends op again cannot know that. */
static bool overtaken(const struct core *c, const struct replica *r, const struct operation *op,
                      const struct bytes *keys, size_t count)
{
    uint64_t hashes[ATOMIC_KEYS_MAX + 1];
    for (size_t i = 0; i < count; i++)
        hashes[i] = record_key_hash(keys[i]);
    hashes[count] = record_tag_hash(op->digest); /* an atomic batch */
    return completion_overtaken(r->completion, op->client, op->seq, hashes, count + 1) ||
           pending_overtaken(&c->pending, r->slot, op->client, op->seq, hashes, count + 1);
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

/* effect is the entry's, when it has one. */
static void entry_from(const struct operation *op, const struct mutate_outcome *m,
                       struct effect *effect, struct entry *ret)
{
    *ret = (struct entry){.kind = ENTRY_WRITE,
                          .status = m->status,
                          .client = op->client,
                          .client_seq = op->seq,
                          .ack_below = op->ack_below,
                          .key_hash = record_key_hash(op->key)};
    if (m->has_effect) {
        *effect = m->effect;
        effect->key = op->key;
        effect->digest = op->digest;
        ret->effects_count = 1;
        ret->effects = effect;
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
    struct effect effect;
    struct entry e;
    entry_from(op, m, &effect, &e);
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

/* What holds for every write before anybody looks at it. False: op was answered, or waits. */
static bool admitted(struct core *c, struct replica *r, const struct operation *op)
{
    c->counters.writes++;
    if (!r->leads && !MUTANT(31)) {
        hold_or_refuse(c, r, op);
        return false;
    }
    if (op->client == 0 || op->seq == 0) {
        core_refuse(c, op->asker, STATUS_MALFORMED);
        return false;
    }
    if (serve_known(c, r, op, op->client, op->seq))
        return false;
    /* The token first: what an EXPIRE has removed looks unknown, but may have been executed. */
    enum status status = token_status(c, r, op->ptime_token);
    if (status == STATUS_OK)
        status = log_status(c, r);
    if (status != STATUS_OK)
        put_off(c, r, op, status);
    return status == STATUS_OK;
}

static void serve_write(struct core *c, struct replica *r, const struct operation *op,
                        const struct item *cold)
{
    if (!admitted(c, r, op))
        return;
    if (overtaken(c, r, op, &op->key, 1)) {
        log_aborted(c, r, op, op->client, op->seq);
        return;
    }
    struct write w;
    arena_reset(&c->arena, 4 * op->body.size + 4096);
    enum status status = codec_unpack_write(op->body, &c->arena, &w);
    if (status == STATUS_OK && w.value.size > c->options.value_size_max)
        status = STATUS_TOOBIG;
    if (status != STATUS_OK) {
        core_refuse(c, op->asker, status);
        return;
    }
    struct item current = {.present = false};
    bool looks = w.precondition != PRECONDITION_NONE || w.mutation != MUTATION_PUT ||
                 w.want == WANT_OLD; /* a blind put does not */
    if (looks && !newest_item(c, r, op, cold, &current))
        return;
    if (current.expiry_ms == 0 || let_go(c, r, op, &current))
        judge_write(c, r, op, &w, &current);
}

/* ------------------------------------------------------------------ atomic batches */

/* Operations that wait for the table to be read for key come before: the table is read for them now. */
static bool serve_parked(struct core *c, struct replica *r, uint64_t digest, struct bytes key)
{
    struct cold_key *k = cold_find(&c->cold, r->slot, digest, key);
    struct cold_operation *parked;
    struct item item;
    if (k == NULL)
        return false;
    enum status status = store_get_now(c->store, r->slot, digest, key, &item);
    if (status != STATUS_OK)
        core_fail(c, status);
    while ((parked = cold_next(&c->cold, k)) != NULL) {
        if (c->failed == STATUS_OK && parked->operation.deadline_ms > c->now_ms)
            serve_operation(c, r, &parked->operation, &item);
        free(parked);
    }
    cold_end(&c->cold, &k); /* the fetch is under way, and nobody will know its ticket */
    return true;
}

/* Decode op, with nothing that waits before any of its keys. */
static enum status open_atomic(struct core *c, struct replica *r, const struct operation *op,
                               struct atomic *a)
{
    for (;;) {
        bool waited = false;
        arena_reset(&c->arena, 8 * op->body.size + (1u << 20));
        enum status status =
            atomic_open(a, op->key, op->body, c->options.value_size_max, &c->arena);
        for (size_t i = 0; status == STATUS_OK && i < a->count && !waited; i++)
            waited = serve_parked(c, r, op->digest, a->keys[i]);
        if (!waited || c->failed != STATUS_OK)
            return status; /* else the arena was used meanwhile: once more */
    }
}

/* The newest state of all keys that it looks at; those past their expiry go first. */
static enum status find_current(struct core *c, struct replica *r, const struct operation *op,
                                struct atomic *a)
{
    struct bytes due[ATOMIC_KEYS_MAX];
    uint32_t due_count = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < a->count && c->failed == STATUS_OK; i++) {
        struct item *item = &a->current[i];
        const struct pending *p =
            pending_of_key(&c->pending, r->slot, op->digest, a->keys[i]);
        if (!a->needs_current[i])
            continue;
        enum status status = STATUS_OK;
        if (p != NULL)
            *item = pending_item(p, a->keys[i]);
        else
            status = store_get_now(c->store, r->slot, op->digest, a->keys[i], item);
        if (status != STATUS_OK)
            core_fail(c, status);
        bytes += item->value.size;
        if (bytes > ATOMIC_READ_MAX)
            return STATUS_TOOBIG;
        if (!lapse_due(c, r, item))
            continue;
        due[due_count++] = a->keys[i];
        *item = (struct item){.present = false};
    }
    return lapse_log_all(c, r, op->digest, due, due_count);
}

/* The answer as the completion record keeps it: without values where they are too large. Memory of the
 * buffers. False: the node failed. */
static bool pack_answer(struct core *c, struct atomic *a, struct buffer *full, struct buffer *kept)
{
    struct atomic_answer small = a->answer;
    small.flags = NULL;
    small.values = NULL;
    small.dropped = true;
    if (codec_pack_atomic_answer(&a->answer, full) != STATUS_OK ||
        (full->size > RESULT_SIZE_MAX && codec_pack_atomic_answer(&small, kept) != STATUS_OK)) {
        core_fail(c, STATUS_NOMEMORY);
        return false;
    }
    ENSURE(kept->size <= RESULT_SIZE_MAX);
    return true;
}

static void log_atomic(struct core *c, struct replica *r, const struct operation *op,
                       struct atomic *a)
{
    struct buffer full, kept;
    buffer_init(&full, FRAME_BYTES_MAX);
    buffer_init(&kept, FRAME_BYTES_MAX);
    for (uint32_t i = 0; i < a->effects_count; i++)
        a->effects[i].digest = op->digest;
    if (pack_answer(c, a, &full, &kept)) {
        struct entry e = {.kind = ENTRY_WRITE,
                          .status = a->status,
                          .client = op->client,
                          .client_seq = op->seq,
                          .ack_below = op->ack_below,
                          .key_hash = record_tag_hash(op->digest),
                          .result_flags =
                              RESULT_HAS_VALUE | (kept.size > 0 ? RESULT_TRIMMED : 0),
                          .result = kept.size > 0 ? buffer_view(&kept) : buffer_view(&full),
                          .effects_count = a->effects_count,
                          .effects = a->effects};
        struct pending *p = lead_log(c, r, &e, op->ptime_token);
        if (p != NULL && kept.size > 0)
            keep_full_result(c, p, buffer_view(&full));
        if (p != NULL)
            wait_for(c, p, WAIT_WRITE, op);
    }
    buffer_fini(&full);
    buffer_fini(&kept);
}

/* One entry with all effects: one place in the log, one completion record, and a commit that shows them
 * together. */
static void serve_atomic(struct core *c, struct replica *r, const struct operation *op)
{
    struct atomic a;
    if (!admitted(c, r, op))
        return;
    enum status status = open_atomic(c, r, op, &a);
    if (hold_behind(c, r, op)) /* a read that waited for the table, and has to wait on */
        return;
    if (status == STATUS_OK && overtaken(c, r, op, a.keys, a.count)) {
        log_aborted(c, r, op, op->client, op->seq);
        return;
    }
    if (status == STATUS_OK)
        status = find_current(c, r, op, &a);
    if (c->failed != STATUS_OK)
        return;
    if (status != STATUS_OK) {
        core_refuse(c, op->asker, status);
        return;
    }
    atomic_judge(&a, lapse_now(c, r));
    if (a.status == STATUS_NOMEMORY)
        core_fail(c, STATUS_NOMEMORY);
    else
        log_atomic(c, r, op, &a);
    atomic_fini(&a);
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
    /* First behind a fetch of the key: what waits for it came before. Then behind what is held. */
    bool one_key = op->kind == KIND_READ || op->kind == KIND_WRITE;
    if (one_key && cold == NULL && cold_find(&c->cold, r->slot, op->digest, op->key) != NULL) {
        park(c, r, op, 0);
        return;
    }
    if (op->kind == KIND_READ && op->read.consistency == CONSISTENCY_ANY) {
        serve_any(c, r, op, cold);
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
    case KIND_ATOMIC:
        serve_atomic(c, r, op);
        return;
    case KIND_OUTCOME:
        serve_outcome(c, r, op);
        return;
    case KIND_SCAN:
    case KIND_RANGE:
        serve_page(c, r, op);
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

static uint32_t kind_of(enum waiter_kind kind)
{
    switch (kind) {
    case WAIT_READ:
        return KIND_READ;
    case WAIT_SCAN:
        return KIND_SCAN;
    case WAIT_RANGE:
        return KIND_RANGE;
    case WAIT_WRITE:
        break;
    }
    ENSURE_UNREACHABLE();
}

/* The read that waited as w. */
static struct operation operation_of(const struct waiter *w)
{
    return (struct operation){.asker = w->asker,
                              .kind = kind_of(w->kind),
                              .digest = w->digest,
                              .deadline_ms = w->deadline_ms,
                              .arrival = w->arrival,
                              .read = w->read,
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
    case WAIT_RANGE:
        op = operation_of(w);
        reply_page(c, r, &op);
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
