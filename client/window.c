#include "client/window.h"

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "proto/codec.h"
#include "proto/partition.h"

/* Leaves room for the rest of a message. */
#define PAYLOAD_SIZE_MAX (FRAME_BYTES_MAX - (64u << 10))
#define PAYLOAD_KEPT_MAX 1024 /* a slot keeps memory up to this size for its next operation */
#define CURSOR_SIZE_MAX  (KEY_SIZE_MAX + 8)

/* The router's deadline comes before ours, for all attempts, so that what it says then (refused, and
 * so not done) is here in time; ours could only say that a write is in doubt. An eighth of the
 * operation's time, but not more than this. */
#define MARGIN_MAX_MS 100

/* Operations share a message, and so its deadline, when theirs are this near to each other. */
#define DEADLINE_SPREAD_MS 50

void window_init(struct window *w, const struct session_options *options,
                 struct session_counters *counters)
{
    *w = (struct window){.client_id = options->client_id,
                         .size = options->window == 0 ? CLIENT_WINDOW_MAX : options->window,
                         .ack_below = 1,
                         .next_seq = 1,
                         .unsent_seq = 1,
                         .expire_ms = UINT64_MAX,
                         .resume_ms = UINT64_MAX,
                         .random = options->seed | 1,
                         .counters = counters};
    ENSURE(w->size >= 1 && w->size <= CLIENT_WINDOW_MAX);
    for (size_t i = 0; i < CLIENT_WINDOW_MAX; i++)
        buffer_init(&w->slots[i].payload, PAYLOAD_SIZE_MAX);
}

void window_fini(struct window *w)
{
    for (size_t i = 0; i < CLIENT_WINDOW_MAX; i++)
        buffer_fini(&w->slots[i].payload);
}

static struct slot *slot_of(struct window *w, uint64_t seq)
{
    return &w->slots[seq % CLIENT_WINDOW_MAX];
}

static bool slot_live(const struct slot *slot)
{
    return slot->state == SLOT_QUEUED || slot->state == SLOT_SENT || slot->state == SLOT_PAUSED;
}

static uint32_t *count_of(struct window *w, enum slot_state state)
{
    switch (state) {
    case SLOT_QUEUED:
        return &w->queued_count;
    case SLOT_SENT:
        return &w->sent_count;
    case SLOT_PAUSED:
        return &w->paused_count;
    case SLOT_DONE:
    case SLOT_DOUBTED:
        return NULL;
    }
    ENSURE_UNREACHABLE();
}

/* The only place that writes a slot's state. */
static void slot_move(struct window *w, struct slot *slot, enum slot_state state)
{
    uint32_t *from = count_of(w, slot->state), *to = count_of(w, state);
    if (from != NULL) {
        ENSURE(*from > 0);
        (*from)--;
    }
    if (to != NULL)
        (*to)++;
    if (state == SLOT_QUEUED && slot->seq < w->unsent_seq)
        w->unsent_seq = slot->seq;
    slot->state = state;
}

/* FNV-1a; never 0. Two keys with one hash only wait for each other without need. */
static uint64_t hash_of(struct bytes key)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ key.data[i]) * 0x100000001b3u;
    return hash == 0 ? 1 : hash;
}

/* xorshift64: jitter needs no more. */
static uint64_t draw(struct window *w, uint64_t below)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random % below;
}

uint32_t window_pending(const struct window *w)
{
    return w->queued_count + w->sent_count + w->paused_count;
}

/* (4): over what is answered or given up, never further. */
static void advance(struct window *w)
{
    while (w->ack_below < w->next_seq && slot_of(w, w->ack_below)->state == SLOT_DONE)
        w->ack_below++;
    if (w->unsent_seq < w->ack_below)
        w->unsent_seq = w->ack_below;
}

uint32_t window_room(const struct window *w)
{
    uint32_t used = (uint32_t)(w->next_seq - w->ack_below);
    if (used < w->size)
        return w->size - used;
    return w->slots[w->ack_below % CLIENT_WINDOW_MAX].state == SLOT_DOUBTED ? 1 : 0;
}

/* Make room for one more by forgetting the oldest id in doubt, if that is what is in the way. */
static bool make_room(struct window *w)
{
    if (window_room(w) == 0)
        return false;
    if (w->next_seq - w->ack_below == w->size) {
        slot_move(w, slot_of(w, w->ack_below), SLOT_DONE);
        advance(w);
    }
    return true;
}

static enum status check_sizes(const struct session_operation *op)
{
    if (op->kind == KIND_SCAN)
        return op->key.size > CURSOR_SIZE_MAX ? STATUS_TOOBIG : STATUS_OK;
    if (op->key.size == 0)
        return STATUS_USAGE;
    if (op->key.size > KEY_SIZE_MAX)
        return STATUS_TOOBIG;
    if (op->kind == KIND_ATOMIC && op->atomic.size > ATOMIC_BYTES_MAX)
        return STATUS_TOOBIG;
    if (op->kind == KIND_WRITE &&
        (op->write.value.size > VALUE_SIZE_MAX || op->write.expected_value.size > VALUE_SIZE_MAX))
        return STATUS_TOOBIG;
    return STATUS_OK;
}

static enum status encode(const struct session_operation *op, struct buffer *out)
{
    buffer_clear(out);
    enum status s = buffer_append(out, op->key);
    if (s != STATUS_OK)
        return s;
    switch (op->kind) {
    case KIND_READ:
        if (op->read.part == READ_VALUE && op->read.consistency == CONSISTENCY_LINEARIZABLE)
            return STATUS_OK;
        return codec_pack_read_query(&op->read, out);
    case KIND_WRITE:
        return codec_pack_write(&op->write, out);
    case KIND_ATOMIC:
        return buffer_append(out, op->atomic);
    case KIND_OUTCOME:
        return codec_pack_outcome_query(&op->outcome, out);
    case KIND_SCAN:
    case KIND_RANGE:
        return codec_pack_scan_query(&op->scan, out);
    }
    ENSURE_UNREACHABLE();
}

/* Rule X3: a question carries the token that the write asked about was sent with. Of one that is
 * not in the window nothing is known. */
static uint64_t token_sent_with(struct window *w, const struct outcome_query *q)
{
    bool ours = q->client_id == w->client_id && q->seq >= w->ack_below && q->seq < w->next_seq;
    return ours ? slot_of(w, q->seq)->token : 0;
}

/* The router's deadline. */
static uint64_t leave_before(uint64_t now_ms, uint64_t deadline_ms)
{
    uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    return deadline_ms - (left_ms / 8 < MARGIN_MAX_MS ? left_ms / 8 : MARGIN_MAX_MS);
}

enum status window_take(struct window *w, uint64_t now_ms, const struct session_operation *user_op,
                        uint64_t *ret_seq)
{
    struct session_operation copy = *user_op, *op = &copy;
    enum status s = check_sizes(op);
    if (s != STATUS_OK)
        return s;
    if (op->kind == KIND_OUTCOME)
        op->outcome.ptime_token = token_sent_with(w, &op->outcome);
    if (!make_room(w))
        return STATUS_BUSY;
    struct slot *slot = slot_of(w, w->next_seq);
    s = encode(op, &slot->payload);
    if (s != STATUS_OK)
        return s;
    bool any = op->kind == KIND_READ && op->read.consistency == CONSISTENCY_ANY;
    bool ordered = (op->kind == KIND_READ && !any) || message_writes(op->kind);
    *slot = (struct slot){.kind = op->kind,
                          .seq = w->next_seq++,
                          .key_hash = ordered ? hash_of(op->key) : 0,
                          .tag_hash = ordered ? hash_of(partition_hash_tag(op->key)) : 0,
                          .deadline_ms = op->deadline_ms,
                          .leave_ms = leave_before(now_ms, op->deadline_ms),
                          .user = op->user,
                          .whole = op->whole,
                          .payload = slot->payload,
                          .key_size = op->key.size};
    slot_move(w, slot, SLOT_QUEUED);
    if (slot->deadline_ms < w->expire_ms)
        w->expire_ms = slot->deadline_ms;
    if (ret_seq != NULL)
        *ret_seq = slot->seq;
    w->counters->submitted++;
    return STATUS_OK;
}

/* ---- Completion ---- */

struct session_effect *window_effect(struct session_effects *effects, enum session_effect_kind kind)
{
    ENSURE(effects->count < effects->capacity);
    struct session_effect *effect = &effects->items[effects->count++];
    effect->kind = kind;
    return effect;
}

/* (3): the operation's only completion. */
static void complete(struct window *w, struct slot *slot, const struct window_answer *a,
                     enum slot_state end, struct session_effects *effects)
{
    ENSURE(slot_live(slot));
    struct session_effect *effect = window_effect(effects, SESSION_COMPLETED);
    effect->completion = (struct session_completion){
        .user = slot->user,
        .seq = slot->seq,
        .status = a->status,
        .flags = a->flags,
        .version = a->version,
        .value = a->value,
    };
    slot_move(w, slot, end);
    slot->user = NULL;
    if (slot->payload.capacity > PAYLOAD_KEPT_MAX)
        buffer_fini(&slot->payload);
    w->counters->completed++;
    advance(w);
}

/* Not answered by a result: not done with this status, or in doubt. (2) */
static void give_up(struct window *w, struct slot *slot, enum status status, bool in_doubt,
                    struct session_effects *effects)
{
    bool doubted = in_doubt && message_writes(slot->kind);
    if (doubted)
        status = STATUS_INDOUBT;
    struct window_answer a = {
        .status = status,
        .flags = doubted                ? ANSWER_IN_DOUBT
                 : status_retry(status) ? ANSWER_RETRY
                                        : 0,
    };
    slot->effective = doubted;
    complete(w, slot, &a, doubted ? SLOT_DOUBTED : SLOT_DONE, effects);
}

/* Are these what a node says when it has carried out a write, or found that it cannot be? */
static bool is_result(enum status status)
{
    return status == STATUS_OK || status == STATUS_NOTFOUND || status == STATUS_CONDITION ||
           status == STATUS_NOTNUMBER || status == STATUS_OVERFLOW || status == STATUS_ABORTED;
}

bool window_answer_settles(const struct window_answer *a)
{
    return is_result(a->status) && (a->flags & (ANSWER_RETRY | ANSWER_IN_DOUBT)) == 0;
}

/* ---- Refusals ---- */

/* Is there a key that both are about? */
static bool share_key(const struct slot *a, const struct slot *b)
{
    if (a->kind == KIND_ATOMIC || b->kind == KIND_ATOMIC)
        return a->tag_hash == b->tag_hash;
    return a->key_hash == b->key_hash;
}

/* (5): has a later operation on the same key perhaps taken effect, one of the two being a write? */
static bool overtaken(struct window *w, const struct slot *slot)
{
    if (slot->key_hash == 0)
        return false;
    for (uint64_t seq = slot->seq + 1; seq < w->next_seq; seq++) {
        const struct slot *later = slot_of(w, seq);
        bool conflict = message_writes(slot->kind) || message_writes(later->kind);
        bool effective = later->state == SLOT_SENT || later->in_doubt || later->effective;
        if (conflict && effective && share_key(slot, later))
            return true;
    }
    return false;
}

/* False: after the pause there would be no time left for another attempt. */
static bool pause_slot(struct window *w, struct slot *slot, uint64_t now_ms)
{
    uint32_t pause_ms = slot->pause_ms == 0 ? SESSION_PAUSE_MIN_MS : slot->pause_ms * 2;
    slot->pause_ms = pause_ms < SESSION_PAUSE_MAX_MS ? pause_ms : SESSION_PAUSE_MAX_MS;
    slot->resume_ms = now_ms + slot->pause_ms / 2 + 1 + draw(w, slot->pause_ms / 2 + 1);
    if (slot->resume_ms >= slot->leave_ms)
        return false;
    if (slot->resume_ms < w->resume_ms)
        w->resume_ms = slot->resume_ms;
    slot_move(w, slot, SLOT_PAUSED);
    w->counters->retries++;
    return true;
}

/* The last attempt came to nothing, or (in doubt) perhaps to something. */
static void refused(struct window *w, struct slot *slot, uint64_t now_ms,
                    const struct window_answer *a, struct session_effects *effects)
{
    bool write = message_writes(slot->kind);
    if (write && ((a->flags & ANSWER_IN_DOUBT) != 0 || status_in_doubt(a->status)))
        slot->in_doubt = true;
    slot->refusal = a->status;
    bool again = (a->flags & ANSWER_RETRY) != 0 && !overtaken(w, slot);
    if (!again || !pause_slot(w, slot, now_ms))
        give_up(w, slot, a->status, slot->in_doubt && !MUTANT(46), effects);
}

bool window_answer(struct window *w, uint64_t now_ms, const struct window_answer *a,
                   struct session_effects *effects)
{
    bool known = a->seq >= w->ack_below && a->seq < w->next_seq;
    struct slot *slot = slot_of(w, a->seq);
    if (!known || !slot_live(slot)) {
        w->counters->late_answers++;
        return false;
    }
    ENSURE(slot->seq == a->seq);
    if (window_answer_settles(a)) {
        slot->effective = true;
        complete(w, slot, a, SLOT_DONE, effects);
        return false;
    }
    /* What a former router refuses says nothing of the attempt that is on its way now. */
    if (!a->current || slot->state != SLOT_SENT) {
        w->counters->late_answers++;
        return false;
    }
    if (!message_writes(slot->kind) && (a->flags & ANSWER_RETRY) == 0) {
        complete(w, slot, a, SLOT_DONE, effects);
        return false;
    }
    refused(w, slot, now_ms, a, effects);
    return a->status == STATUS_NEEDTOKEN;
}

/* A read sees what is there when it is carried out: sent again, it could show a later write of ours
 * that went out with it. It ends, as not done, at the next tick. */
static void end_read(struct window *w, struct slot *slot)
{
    slot->refusal = STATUS_UNAVAILABLE;
    slot->deadline_ms = w->expire_ms = 0;
    slot->resume_ms = UINT64_MAX;
    slot_move(w, slot, SLOT_PAUSED);
}

void window_requeue(struct window *w)
{
    for (uint64_t seq = w->ack_below; w->sent_count > 0; seq++) {
        ENSURE(seq < w->next_seq);
        struct slot *slot = slot_of(w, seq);
        if (slot->state != SLOT_SENT)
            continue;
        if (slot->kind == KIND_READ && overtaken(w, slot)) {
            end_read(w, slot);
            continue;
        }
        if (message_writes(slot->kind))
            slot->in_doubt = true;
        slot_move(w, slot, SLOT_QUEUED);
        w->counters->sent_again++;
    }
}

/* ---- Time ---- */

static void expire(struct window *w, struct slot *slot, bool reachable,
                   struct session_effects *effects)
{
    bool in_doubt = slot->state == SLOT_SENT || (slot->in_doubt && !MUTANT(46));
    enum status status = slot->refusal;
    if (status == STATUS_OK || slot->state == SLOT_SENT)
        status = reachable ? STATUS_TIMEOUT : STATUS_NOCONNECTION;
    give_up(w, slot, status, in_doubt, effects);
}

void window_tick(struct window *w, uint64_t now_ms, bool reachable, struct session_effects *effects)
{
    if (now_ms < w->expire_ms && now_ms < w->resume_ms)
        return;
    w->expire_ms = w->resume_ms = UINT64_MAX;
    for (uint64_t seq = w->ack_below; seq < w->next_seq; seq++) {
        struct slot *slot = slot_of(w, seq);
        if (slot_live(slot) && slot->deadline_ms <= now_ms)
            expire(w, slot, reachable, effects);
        else if (slot->state == SLOT_PAUSED && slot->resume_ms <= now_ms)
            slot_move(w, slot, SLOT_QUEUED);
        if (slot_live(slot) && slot->deadline_ms < w->expire_ms)
            w->expire_ms = slot->deadline_ms;
        if (slot->state == SLOT_PAUSED && slot->resume_ms < w->resume_ms)
            w->resume_ms = slot->resume_ms;
    }
}

uint64_t window_deadline(const struct window *w)
{
    if (window_pending(w) == 0)
        return UINT64_MAX;
    return w->expire_ms < w->resume_ms ? w->expire_ms : w->resume_ms;
}

/* ---- Packing ---- */

/* Places in `blocked`: of a key, of a tag that something behind is in the way of, of a tag whose atomic
 * batch is. */
#define BEHIND_ANY   UINT64_C(0x9e3779b97f4a7c15)
#define BEHIND_BATCH UINT64_C(0xd6e8feb86659fd93)

static uint64_t *place(struct window_cursor *cursor, uint64_t hash, uint64_t *ret_bit)
{
    *ret_bit = UINT64_C(1) << (hash & 63);
    return &cursor->blocked[hash >> 6 & 15];
}

static void set(struct window_cursor *cursor, uint64_t hash)
{
    uint64_t bit;
    *place(cursor, hash, &bit) |= bit;
}

static bool is_set(struct window_cursor *cursor, uint64_t hash)
{
    uint64_t bit;
    return (*place(cursor, hash, &bit) & bit) != 0;
}

/* slot stays behind: so does what comes after it on its key. */
static void block(struct window_cursor *cursor, const struct slot *slot)
{
    set(cursor, slot->tag_hash ^ BEHIND_ANY);
    if (slot->kind == KIND_ATOMIC)
        set(cursor, slot->tag_hash ^ BEHIND_BATCH);
    else
        set(cursor, slot->key_hash);
}

static bool blocked(struct window_cursor *cursor, const struct slot *slot)
{
    if (slot->kind == KIND_ATOMIC)
        return is_set(cursor, slot->tag_hash ^ BEHIND_ANY);
    return is_set(cursor, slot->key_hash) || is_set(cursor, slot->tag_hash ^ BEHIND_BATCH);
}

/* May this one leave now? Not so late that only our deadline could end it. (1): no write without a
 * token. (5): not while an earlier one on its key waits. */
static bool may_leave(struct window_cursor *cursor, uint64_t now_ms, uint64_t ptime,
                      struct slot *slot)
{
    bool late = now_ms >= slot->leave_ms;
    bool tokenless = message_writes(slot->kind) && slot->token == 0 && ptime == 0;
    if (slot->state == SLOT_QUEUED && tokenless)
        slot->refusal = STATUS_UNAVAILABLE; /* the cluster has never served anything */
    bool waits = slot->state == SLOT_PAUSED || (slot->state == SLOT_QUEUED && late) || tokenless;
    if (slot->key_hash == 0)
        return slot->state == SLOT_QUEUED && !late;
    /* A batch that stays behind for one of its keys is in the way of those on the others. */
    waits = waits || (slot->state == SLOT_QUEUED && blocked(cursor, slot));
    if (waits)
        block(cursor, slot);
    return slot->state == SLOT_QUEUED && !waits;
}

struct run {
    uint64_t first_seq, deadline_ms, leave_ms, token;
    size_t size;
    uint32_t count;
    bool whole;
};

/* Does slot fit behind the run in one message: like deadline, same token, same wish, sizes? */
static bool fits(const struct run *run, const struct slot *slot, uint32_t operations_max)
{
    if (run->count == 0)
        return true;
    uint64_t low = slot->deadline_ms < run->deadline_ms ? slot->deadline_ms : run->deadline_ms;
    uint64_t high = slot->deadline_ms < run->deadline_ms ? run->deadline_ms : slot->deadline_ms;
    return run->count < operations_max &&
           run->size + slot->payload.size <= MESSAGE_BYTES_MAX - (64u << 10) &&
           slot->whole == run->whole && slot->token == run->token && high - low <= DEADLINE_SPREAD_MS;
}

static void add(struct window *w, struct run *run, const struct slot *slot)
{
    struct bytes payload = buffer_view(&slot->payload);
    if (run->count == 0)
        *run = (struct run){slot->seq, slot->deadline_ms, slot->leave_ms, slot->token, 0, 0, slot->whole};
    ENSURE(slot->seq == run->first_seq + run->count);
    w->kinds[run->count] = slot->kind;
    w->keys[run->count] = bytes_of(payload.data, slot->key_size);
    w->operations[run->count] =
        slot->key_size == payload.size
            ? BYTES_EMPTY
            : bytes_of(payload.data + slot->key_size, payload.size - slot->key_size);
    run->count++;
    run->size += payload.size + 16;
    if (slot->deadline_ms > run->deadline_ms)
        run->deadline_ms = slot->deadline_ms;
    if (slot->leave_ms < run->leave_ms)
        run->leave_ms = slot->leave_ms;
}

/* Gather consecutive numbers that may leave, from the cursor on. */
static struct run gather(struct window *w, uint64_t now_ms, uint64_t ptime,
                         uint32_t operations_max, struct window_cursor *cursor)
{
    struct run run = {0};
    for (; cursor->seq < w->next_seq; cursor->seq++) {
        struct slot *slot = slot_of(w, cursor->seq);
        if (!may_leave(cursor, now_ms, ptime, slot)) {
            if (run.count > 0)
                break;
            continue;
        }
        /* What has none yet may as well take that of the message: it is older, not newer. */
        if (slot->token == 0)
            slot->token = run.count > 0 ? run.token : ptime;
        if (!fits(&run, slot, operations_max))
            break;
        add(w, &run, slot);
    }
    return run;
}

/* After a whole pass only what is held back is QUEUED; it is looked at when something is PAUSED. */
static void begin_pass(const struct window *w, struct window_cursor *cursor)
{
    *cursor = (struct window_cursor){.seq = w->paused_count > 0 ? w->ack_below : w->unsent_seq};
}

enum status window_pack(struct window *w, uint64_t now_ms, uint64_t ptime, uint32_t operations_max,
                        struct window_cursor *cursor, struct buffer *out, uint32_t *ret_count)
{
    *ret_count = 0;
    if (w->queued_count == 0) {
        w->unsent_seq = w->next_seq;
        return STATUS_OK;
    }
    if (cursor->seq == 0)
        begin_pass(w, cursor);
    struct run run = gather(w, now_ms, ptime, operations_max, cursor);
    if (run.count == 0)
        return STATUS_OK;
    struct request m = {.client_id = w->client_id,
                        .first_seq = run.first_seq,
                        .ack_below = w->ack_below,
                        .ptime_token = run.token,
                        .deadline_ms = run.leave_ms - now_ms < UINT32_MAX
                                           ? (uint32_t)(run.leave_ms - now_ms)
                                           : UINT32_MAX,
                        .flags = run.whole && run.count > 1 ? REQUEST_WHOLE : 0,
                        .count = run.count,
                        .kinds = w->kinds,
                        .keys = w->keys,
                        .operations = w->operations};
    enum status s = codec_pack_request(&m, out);
    if (s != STATUS_OK)
        return s;
    for (uint32_t i = 0; i < run.count; i++)
        slot_move(w, slot_of(w, run.first_seq + i), SLOT_SENT);
    *ret_count = run.count;
    return STATUS_OK;
}
