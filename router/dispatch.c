#include "router/dispatch.h"

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "proto/codec.h"
#include "proto/partition.h"
#include "router/peers.h"

/* What one operation takes in a batch beside key and body, at most. */
#define BATCH_OVERHEAD 96

/* Attempts wait longer and longer for their answer, up to attempt_ms << this. */
#define ATTEMPT_SHIFT_MAX 4

/* A scan that finds nothing goes on in the next partition by itself, so many times. */
#define PARTITIONS_SKIPPED_MAX 64

/* ---- Where to --------------------------------------------------------------------------------*/

static uint32_t peer_usable(const struct coordinator *c, uint32_t map_index)
{
    uint32_t node = map_index < NODES_MAX ? c->peer_of[map_index] : NODE_NONE;
    return node != NODE_NONE && peers_usable(c, node) ? node : NODE_NONE;
}

static const struct clustermap_partition *partition_for(const struct coordinator *c,
                                                        const struct operation *op)
{
    return &c->map->partitions[partition_of(op->digest, c->map->partition_count)];
}

static uint32_t usable_among(const struct coordinator *c, const uint32_t *nodes, uint32_t count,
                             uint32_t first)
{
    uint32_t node = NODE_NONE;
    for (uint32_t i = 0; i < count && node == NODE_NONE; i++)
        node = peer_usable(c, nodes[(first + i) % count]);
    return node;
}

/* Rule (6): the members first, then whoever has or had a copy. Each attempt begins with another one, and the
 * first is drawn by the operation's number, so that readers spread. */
static uint32_t choose_any(const struct coordinator *c, const struct operation *op)
{
    const struct clustermap_partition *p = partition_for(c, op);
    uint32_t first = (uint32_t)op->seq + op->attempts_count;
    uint32_t member = usable_among(c, p->isr, p->isr_count, first);
    uint32_t copy = usable_among(c, p->assigned, p->assigned_count, first);
    bool members_tried = copy != NODE_NONE && op->attempts_count >= p->isr_count;
    return member == NODE_NONE || members_tried ? copy : member;
}

/* Rule (1); NODE_NONE while no node that may answer does. A read that the primary cannot answer now
 * asks another copy next. */
static uint32_t choose(const struct coordinator *c, const struct operation *op)
{
    if (clustermap_empty(c->map))
        return NODE_NONE;
    if (op->any_copy)
        return choose_any(c, op);
    const struct clustermap_partition *p = partition_for(c, op);
    uint32_t primary = peer_usable(c, p->primary), node = primary;
    if (operation_writes(op))
        return node;
    if (op->refusal == STATUS_UNAVAILABLE && op->node == primary)
        node = NODE_NONE;
    for (uint32_t i = 0; i < p->isr_count && node == NODE_NONE; i++)
        if (p->isr[i] != p->primary)
            node = peer_usable(c, p->isr[i]);
    return node != NODE_NONE ? node : primary;
}

static bool is_primary(const struct coordinator *c, const struct operation *op, uint32_t node)
{
    uint32_t primary = partition_for(c, op)->primary;
    return primary < NODES_MAX && c->peer_of[primary] == node;
}

static uint64_t link_to(const struct coordinator *c, uint32_t node)
{
    return lane_link(node, c->peers[node].connection);
}

/* ---- Moving between states -------------------------------------------------------------------*/

/* Out of the list of its state, before it moves on. */
static void leave_list(struct coordinator *c, uint32_t index)
{
    struct operation *op = &c->slots[index];
    if (op->state == OPERATION_SENT) {
        struct peer *peer = &c->peers[op->node];
        if (peer->unflushed == index)
            peer->unflushed = op->next;
        operation_list_remove(c->slots, &peer->sent, index);
        if (op->lane != LANE_NONE)
            lane_unsent(&c->lanes, index);
    } else if (op->state == OPERATION_WAITING) {
        operation_list_remove(c->slots, &c->waiting, index);
        if (op->lane != LANE_NONE)
            lane_unwaiting(&c->lanes, index);
    }
}

static void start_waiting(struct coordinator *c, uint32_t index, uint64_t ready_ms)
{
    struct operation *op = &c->slots[index];
    leave_list(c, index);
    operation_move(op, OPERATION_WAITING);
    operation_list_append(c->slots, &c->waiting, index);
    if (op->lane != LANE_NONE)
        lane_waiting(&c->lanes, index);
    op->ready_ms = ready_ms;
    bool pauses = ready_ms > c->now_ms && ready_ms < op->deadline_ms;
    wheel_set(&c->wheel, index, pauses ? ready_ms : op->deadline_ms);
}

static uint64_t attempt_end_ms(const struct coordinator *c, const struct operation *op)
{
    uint32_t shift = op->attempts_count;
    if (shift > ATTEMPT_SHIFT_MAX)
        shift = ATTEMPT_SHIFT_MAX;
    uint64_t end_ms = c->now_ms + ((uint64_t)c->options.attempt_ms << shift);
    return end_ms < op->deadline_ms ? end_ms : op->deadline_ms;
}

static void send(struct coordinator *c, uint32_t index, uint32_t node)
{
    struct operation *op = &c->slots[index];
    struct peer *peer = &c->peers[node];
    leave_list(c, index);
    operation_move(op, OPERATION_SENT);
    op->node = node;
    op->redirected = false;
    bool first = peer->sent.count == 0;
    operation_list_append(c->slots, &peer->sent, index);
    if (peer->unflushed == OPERATION_NONE)
        peer->unflushed = index;
    if (!peer->batching) {
        peer->batching = true;
        c->batching[c->batching_count++] = node;
    }
    if (op->lane != LANE_NONE)
        lane_sent(&c->lanes, index, link_to(c, node));
    if (op->any_copy)
        c->counters.any_copy++;
    else if (!operation_writes(op) && !is_primary(c, op, node))
        c->counters.elsewhere++;
    wheel_set(&c->wheel, index, attempt_end_ms(c, op));
    if (first)
        peers_busy(c, node);
}

static void walk_lane(struct coordinator *c, uint32_t lane);

/* Is an earlier one late that is sent again from now on? A read counts when it was answered. */
static bool executed(const struct operation *op, enum status s)
{
    if (operation_writes(op))
        return operation_executed_maybe(op);
    return (s == STATUS_OK || s == STATUS_NOTFOUND) && !MUTANT(47);
}

/* The operation is answered; what was held back behind it may go. */
static void finish(struct coordinator *c, uint32_t index, const struct result *result)
{
    struct operation *op = &c->slots[index];
    leave_list(c, index);
    wheel_cancel(&c->wheel, index);
    uint32_t lane = op->lane;
    bool waiting = false;
    if (lane != LANE_NONE) {
        waiting = c->lanes.lanes[lane].waiting > 0;
        lane_leave(&c->lanes, index, executed(op, result->status));
    }
    answers_add(c, index, result);
    if (waiting)
        walk_lane(c, lane);
}

static void fail(struct coordinator *c, uint32_t index)
{
    finish(c, index, &(struct result){.status = operation_failure(&c->slots[index])});
}

/* ---- Order: rules (2) and (4) ----------------------------------------------------------------*/

/* What a walk along a lane has passed. */
struct passed {
    bool waiting, sent, write, mixed;
    uint64_t link;
};

static void pass_sent(struct coordinator *c, struct passed *p, const struct operation *op)
{
    uint64_t link = link_to(c, op->node);
    if (p->sent && p->link != link)
        p->mixed = true;
    p->sent = true;
    p->link = link;
    p->write = p->write || operation_writes(op);
}

/* Would another attempt be executed at a later place in the order than the first one? A write is known
 * by its id when it is sent again after it was lost; a read sees what is there then. */
static bool loses_its_place(const struct operation *op)
{
    return operation_writes(op) ? op->refused_last : op->attempts_count > 0;
}

/* Rule (4): an operation that a later one has, or may have, overtaken is over; for a read only later
 * writes count. A write that was lost together with later ones is not, for the node took them in
 * order. */
static bool overtaken(const struct coordinator *c, const struct operation *op)
{
    const struct lane *lane = &c->lanes.lanes[op->lane];
    uint64_t executed = operation_writes(op) ? lane->position_executed : lane->position_written;
    if (executed > op->position)
        return true;
    if (!loses_its_place(op))
        return false;
    for (uint32_t i = op->lane_next; i != OPERATION_NONE; i = c->slots[i].lane_next) {
        const struct operation *later = &c->slots[i];
        if (later->state == OPERATION_WAITING && operation_writes(later) &&
            operation_executed_maybe(later))
            return true;
    }
    return false;
}

/* An operation whose successors are on their way has to wait: they may be refused as well (then all
 * are sent again in order) or not (then it is over). */
static bool successors_sent(const struct coordinator *c, const struct operation *op)
{
    for (uint32_t i = op->lane_next; i != OPERATION_NONE; i = c->slots[i].lane_next) {
        const struct operation *later = &c->slots[i];
        if (later->state == OPERATION_SENT && (operation_writes(op) || operation_writes(later)))
            return true;
    }
    return false;
}

/* Where a waiting operation may go now, behind what was passed; NODE_NONE: nowhere. */
static uint32_t may_go(const struct coordinator *c, const struct operation *op,
                       const struct passed *p)
{
    if (c->now_ms < op->ready_ms)
        return NODE_NONE;
    uint32_t node = choose(c, op);
    if (node == NODE_NONE)
        return NODE_NONE;
    if (op->lane != LANE_NONE && loses_its_place(op) && successors_sent(c, op))
        return NODE_NONE;
    bool writes = operation_writes(op);
    if (!writes && (!p->write || MUTANT(47)))
        return node;
    if (writes && p->waiting)
        return NODE_NONE;
    if (p->sent && (p->mixed || p->link != link_to(c, node)))
        return NODE_NONE;
    return node;
}

/* A read can end without any harm, long before its deadline: the client may ask again. */
static void end_overtaken(struct coordinator *c, uint32_t index)
{
    const struct operation *op = &c->slots[index];
    if (operation_writes(op) || op->refusal != STATUS_OK)
        fail(c, index);
    else
        finish(c, index, &(struct result){.status = STATUS_UNAVAILABLE});
}

static void walk_once(struct coordinator *c, struct lane *lane)
{
    struct passed p = {0};
    uint32_t next;
    for (uint32_t i = lane->head; i != OPERATION_NONE && lane->waiting > 0; i = next) {
        struct operation *op = &c->slots[i];
        next = op->lane_next;
        if (op->state == OPERATION_SENT) {
            pass_sent(c, &p, op);
            continue;
        }
        ENSURE(op->state == OPERATION_WAITING);
        if (overtaken(c, op)) {
            end_overtaken(c, i);
            continue;
        }
        uint32_t node = may_go(c, op, &p);
        if (node != NODE_NONE) {
            send(c, i, node);
            pass_sent(c, &p, op);
        } else if (operation_writes(op)) {
            return; /* nothing may overtake a write */
        } else {
            p.waiting = true;
        }
    }
}

/* Send what may go, in order. An operation that ends on the way asks for another walk. */
static void walk_lane(struct coordinator *c, uint32_t index)
{
    struct lane *lane = &c->lanes.lanes[index];
    if (lane->walking) {
        lane->again = true;
        return;
    }
    lane->round = c->round;
    lane->walking = true;
    do {
        lane->again = false;
        walk_once(c, lane);
    } while (lane->again);
    lane->walking = false;
    lane_release(&c->lanes, index);
}

/* A waiting operation may be able to go. */
static void try(struct coordinator *c, uint32_t index)
{
    struct operation *op = &c->slots[index];
    ENSURE(op->state == OPERATION_WAITING);
    if (op->lane != LANE_NONE) {
        walk_lane(c, op->lane);
        return;
    }
    uint32_t node = may_go(c, op, &(struct passed){0});
    if (node != NODE_NONE)
        send(c, index, node);
}

/* ---- Events ----------------------------------------------------------------------------------*/

void dispatch_start(struct coordinator *c, uint32_t index)
{
    struct operation *op = &c->slots[index];
    uint32_t node = choose(c, op);
    bool clear = true;
    /* A walk is about all keys: it has no order with operations on one of them. */
    if (op->kind != KIND_SCAN && !op->any_copy) {
        lane_join(&c->lanes, op->asker->source, index);
        if (node != NODE_NONE)
            clear = lane_clear(&c->lanes, index, link_to(c, node));
    }
    if (!clear)
        c->counters.held++;
    if (node != NODE_NONE && clear)
        send(c, index, node);
    else
        start_waiting(c, index, c->now_ms);
}

void dispatch_invalid(struct coordinator *c, uint32_t index, enum status status)
{
    ENSURE(c->slots[index].state == OPERATION_FREE);
    c->counters.invalid++;
    answers_add(c, index, &(struct result){.status = status});
}

/* The cursor for the partition after the one that cursor's digest belongs to; false: it is the
 * last one. */
static bool next_partition(const struct coordinator *c, const struct operation *op,
                           uint8_t cursor[static 8])
{
    uint32_t count = c->map->partition_count;
    uint32_t next = partition_of(op->digest, count) + 1;
    if (next >= count)
        return false;
    unsigned bits = (unsigned)__builtin_ctz(count);
    bytes_put_be64(cursor, (uint64_t)next << (64 - bits));
    return true;
}

/* The last page of a partition is not the end of the walk: put the next partition's cursor into it.
 * A page without keys is not worth an answer: ask the next partition instead. True when the
 * operation goes on by itself. */
static bool turn_page(struct coordinator *c, uint32_t index, struct result *result)
{
    struct operation *op = &c->slots[index];
    struct scan_page page;
    uint8_t cursor[8];
    arena_reset(&c->scratch, 16 * result->value.size + (64u << 10));
    if (codec_unpack_scan_page(result->value, &c->scratch, &page) != STATUS_OK) {
        c->counters.node_malformed++;
        *result = (struct result){.status = STATUS_CORRUPT};
        return false;
    }
    if (page.next.size > 0 || !next_partition(c, op, cursor))
        return false;
    if (page.count == 0 && page.counted == 0 && op->partitions_skipped < PARTITIONS_SKIPPED_MAX) {
        op->partitions_skipped++;
        memcpy(op->cursor, cursor, sizeof cursor);
        op->key = bytes_of(op->cursor, sizeof op->cursor);
        op->digest = bytes_be64(cursor);
        start_waiting(c, index, c->now_ms);
        try(c, index);
        return true;
    }
    page.next = bytes_of(cursor, sizeof cursor);
    struct buffer packed;
    buffer_init(&packed, FRAME_BYTES_MAX);
    if (codec_pack_scan_page(&page, &packed) != STATUS_OK) {
        *result = (struct result){.status = STATUS_NOMEMORY};
        return false;
    }
    uint8_t *owned;
    size_t size = buffer_take(&packed, &owned);
    answers_own(c, index, owned, size);
    result->value = bytes_of(owned, size);
    return false;
}

/* The node did not execute the operation; it may be tried again, there or elsewhere. */
static void retry(struct coordinator *c, uint32_t index, enum verdict verdict)
{
    struct operation *op = &c->slots[index];
    uint32_t asked = op->node;
    uint64_t ready_ms = c->now_ms;
    bool primary_silent = peer_usable(c, partition_for(c, op)->primary) == NODE_NONE;
    if (verdict == VERDICT_REDIRECT && (is_primary(c, op, asked) || primary_silent))
        peers_ask_map(c, asked);
    /* Another copy that may know better, or a token that can be filled in: at once. */
    bool first = op->attempts_count == 1;
    bool elsewhere = (verdict == VERDICT_REDIRECT || first) && choose(c, op) != asked;
    if (op->any_copy)
        elsewhere = elsewhere && op->attempts_count < partition_for(c, op)->assigned_count;
    bool token = op->refusal == STATUS_NEEDTOKEN && op->ptime_token == 0 && c->ptime > 0;
    if (op->pause_ms > 0 || (!elsewhere && !token))
        ready_ms += operation_pause(op, c->options.pause_min_ms, c->options.pause_max_ms);
    op->redirected = verdict == VERDICT_REDIRECT;
    start_waiting(c, index, ready_ms);
    try(c, index);
}

static void take_result(struct coordinator *c, uint32_t index, struct result *result)
{
    struct operation *op = &c->slots[index];
    enum verdict verdict = operation_verdict(result->status);
    switch (verdict) {
    case VERDICT_ANSWER:
        if (op->kind != KIND_SCAN || result->status != STATUS_OK || !turn_page(c, index, result))
            finish(c, index, result);
        return;
    case VERDICT_REFUSED:
        c->counters.refusals++;
        operation_refused(op, result->status);
        fail(c, index);
        return;
    case VERDICT_REDIRECT:
    case VERDICT_PAUSE:
        c->counters.refusals++;
        operation_refused(op, result->status);
        retry(c, index, verdict);
        return;
    }
    ENSURE_UNREACHABLE();
}

void dispatch_result(struct coordinator *c, uint32_t node, uint64_t token,
                     const struct result *result)
{
    uint32_t index = (uint32_t)token;
    uint32_t generation = (uint32_t)(token >> 32);
    if (index >= c->options.slots) {
        c->counters.node_malformed++;
        return;
    }
    struct operation *op = &c->slots[index];
    /* A token names one attempt; the answer to an earlier one says nothing about this one. */
    if (op->state != OPERATION_SENT || op->generation != generation || op->node != node) {
        c->counters.late++;
        return;
    }
    op->generation++; /* a second answer to the same attempt is late, too */
    struct result copy = *result;
    take_result(c, index, &copy);
}

/* The node answers, but not this: ask again, unless that could overtake a successor. */
static void attempt_over(struct coordinator *c, uint32_t index)
{
    struct operation *op = &c->slots[index];
    bool over = op->lane != LANE_NONE && (overtaken(c, op) || successors_sent(c, op));
    if (over) {
        wheel_set(&c->wheel, index, op->deadline_ms);
        return;
    }
    start_waiting(c, index, c->now_ms);
    try(c, index);
}

void dispatch_timer(struct coordinator *c, uint32_t index)
{
    struct operation *op = &c->slots[index];
    ENSURE(op->state == OPERATION_SENT || op->state == OPERATION_WAITING);
    if (c->now_ms >= op->deadline_ms) {
        c->counters.deadlines++;
        fail(c, index);
    } else if (op->state == OPERATION_SENT) {
        attempt_over(c, index);
    } else {
        /* What it waits for from now on is an event, not a time. */
        wheel_set(&c->wheel, index, op->deadline_ms);
        try(c, index);
    }
}

void dispatch_lose(struct coordinator *c, uint32_t node)
{
    struct peer *peer = &c->peers[node];
    peer->connection++;
    while (peer->sent.count > 0)
        start_waiting(c, peer->sent.head, c->now_ms);
    ENSURE(peer->unflushed == OPERATION_NONE);
    dispatch_wake(c, false);
}

void dispatch_wake(struct coordinator *c, bool map_changed)
{
    c->round++;
    /* Whatever is tried may leave the list, and others with it: always take the first and put it
     * to the end, as often as there were operations at the beginning. */
    for (uint32_t left = c->waiting.count; left > 0 && c->waiting.count > 0; left--) {
        uint32_t index = c->waiting.head;
        struct operation *op = &c->slots[index];
        operation_list_remove(c->slots, &c->waiting, index);
        operation_list_append(c->slots, &c->waiting, index);
        if (map_changed && op->redirected)
            op->ready_ms = c->now_ms;
        if (op->lane == LANE_NONE || c->lanes.lanes[op->lane].round != c->round)
            try(c, index);
    }
}

/* ---- Batches ---------------------------------------------------------------------------------*/

static void put_attempt(struct coordinator *c, struct batch *b, uint32_t index)
{
    struct operation *op = &c->slots[index];
    /* Rule X2: the token is what was known before the first attempt that may be executed. */
    if (op->ptime_token == 0 && !operation_executed_maybe(op))
        op->ptime_token = c->ptime;
    if (op->attempts_count > 0)
        c->counters.repeats++;
    op->attempts_count++;
    op->refused_last = false;
    op->generation++;
    size_t i = b->count++;
    b->tokens[i] = (uint64_t)op->generation << 32 | index;
    b->kinds[i] = op->kind;
    b->digests[i] = op->digest;
    b->epochs[i] = partition_for(c, op)->epoch;
    b->client_ids[i] = op->client_id;
    b->seqs[i] = op->seq;
    b->ack_belows[i] = op->ack_below;
    b->ptime_tokens[i] = op->ptime_token;
    b->deadlines_ms[i] = op->deadline_ms > c->now_ms ? (uint32_t)(op->deadline_ms - c->now_ms) : 1;
    b->keys[i] = op->key;
    b->operations[i] = op->body;
}

/* One message with as many unflushed operations of the node as it takes. */
static void flush_batch(struct coordinator *c, uint32_t node)
{
    struct peer *peer = &c->peers[node];
    struct batch *b = &c->batch;
    size_t size = 0;
    b->count = 0;
    while (peer->unflushed != OPERATION_NONE && b->count < MESSAGE_OPERATIONS_MAX) {
        const struct operation *op = &c->slots[peer->unflushed];
        size += BATCH_OVERHEAD + op->key.size + op->body.size;
        if (b->count > 0 && size > MESSAGE_BYTES_MAX)
            break;
        put_attempt(c, b, peer->unflushed);
        peer->unflushed = op->next;
    }
    if (b->count == 0)
        return;
    struct effect *e = effects_add(c->out, EFFECT_SEND_NODE);
    if (e == NULL)
        return; /* lost like any message; the attempts' time runs */
    e->node = node;
    if (codec_pack_batch(b, &e->frame) != STATUS_OK) {
        effects_drop(c->out);
        return;
    }
    c->counters.batch_messages++;
    c->counters.batch_operations += b->count;
}

void dispatch_flush(struct coordinator *c)
{
    while (c->batching_count > 0) {
        uint32_t node = c->batching[--c->batching_count];
        c->peers[node].batching = false;
        while (c->peers[node].unflushed != OPERATION_NONE)
            flush_batch(c, node);
    }
}
