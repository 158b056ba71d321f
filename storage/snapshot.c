#include "storage/snapshot.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "proto/codec.h"
#include "storage/hold.h"

#define UNDER_WAY_MAX   8u /* copies at a time, so that heartbeats and writes keep their pace */
#define PAGE_BYTES      (128u << 10) /* of rows in one message, unless one row is larger */
#define RESEND_MS       300u
#define BODY_HEAD_SIZE  8u
#define ROW_HEAD_SIZE   40u
#define STATE_HEAD_SIZE 16u

/* A copy on its way to one member. */
struct snapshot {
    uint64_t id;
    uint64_t commit_seq; /* of the state that it began with */
    uint32_t index;      /* of the message that is on its way */
    uint64_t sent_ms;
    bool last;                    /* that one ends the copy */
    uint64_t digest, next_digest; /* the page begins behind this row, the next one behind that */
    struct buffer key, next_key;
};

/* ------------------------------------------------------------------ rows */

/* Bodies of SNAPSHOT and ROWS records, little endian: u32 size of the whole and u32 0, for records
 * are padded; then a saved state (replica.c), or for each row {u32 key size, u32 value size, u64
 * digest, u64 epoch, u64 seq, u64 expiry, key, value}. */
static bool head_put(struct buffer *to)
{
    uint8_t *at = buffer_reserve(to, BODY_HEAD_SIZE);
    if (at != NULL)
        bytes_put_le64(at, 0);
    return at != NULL;
}

static void head_end(struct buffer *body)
{
    bytes_put_le32(body->data, (uint32_t)body->size);
}

/* What is inside; false: it does not hold together. */
static bool inside_of(struct bytes body, struct bytes *ret)
{
    if (body.size < BODY_HEAD_SIZE || bytes_le32(body.data) < BODY_HEAD_SIZE ||
        bytes_le32(body.data) > body.size)
        return false;
    *ret = bytes_of(body.data + BODY_HEAD_SIZE, bytes_le32(body.data) - BODY_HEAD_SIZE);
    return true;
}

static enum status rows_put(struct buffer *to, const struct table_row *row)
{
    uint8_t *at = buffer_reserve(to, ROW_HEAD_SIZE);
    if (at == NULL)
        return STATUS_NOMEMORY;
    bytes_put_le32(at, (uint32_t)row->key.size);
    bytes_put_le32(at + 4, (uint32_t)row->item.value.size);
    bytes_put_le64(at + 8, row->digest);
    bytes_put_le64(at + 16, row->item.version.epoch);
    bytes_put_le64(at + 24, row->item.version.seq);
    bytes_put_le64(at + 32, row->item.expiry_ms);
    enum status status = buffer_append(to, row->key);
    return status == STATUS_OK ? buffer_append(to, row->item.value) : status;
}

/* Take the first row off *rest. False: it does not hold together. */
static bool rows_next(struct bytes *rest, struct table_row *ret)
{
    if (rest->size < ROW_HEAD_SIZE)
        return false;
    const uint8_t *at = rest->data;
    size_t key_size = bytes_le32(at), value_size = bytes_le32(at + 4);
    if (key_size == 0 || key_size > KEY_SIZE_MAX || value_size > VALUE_SIZE_MAX ||
        rest->size - ROW_HEAD_SIZE < key_size + value_size)
        return false;
    *ret =
        (struct table_row){.digest = bytes_le64(at + 8),
                           .key = bytes_of(at + ROW_HEAD_SIZE, key_size),
                           .item = {.present = true,
                                    .version = {bytes_le64(at + 16), bytes_le64(at + 24)},
                                    .expiry_ms = bytes_le64(at + 32),
                                    .value = bytes_of(at + ROW_HEAD_SIZE + key_size, value_size)}};
    size_t size = ROW_HEAD_SIZE + key_size + value_size;
    *rest = bytes_of(at + size, rest->size - size);
    return true;
}

static enum status rows_apply(struct core *c, uint32_t slot, struct bytes body)
{
    struct table_row row;
    struct bytes rest;
    if (!inside_of(body, &rest))
        return STATUS_CORRUPT;
    while (rest.size > 0) {
        if (!rows_next(&rest, &row))
            return STATUS_CORRUPT;
        enum status status = store_apply(c->store, slot, row.digest, row.key, &row.item);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static bool rows_valid(struct bytes body)
{
    struct table_row row;
    struct bytes rest;
    if (!inside_of(body, &rest))
        return false;
    while (rest.size > 0)
        if (!rows_next(&rest, &row))
            return false;
    return true;
}

/* ------------------------------------------------------------------ the primary */

void snapshot_end(struct core *c, struct member *m)
{
    struct snapshot *s = m->snapshot;
    if (s == NULL)
        return;
    buffer_fini(&s->key);
    buffer_fini(&s->next_key);
    free(s);
    m->snapshot = NULL;
    ENSURE(c->snapshots_count > 0);
    c->snapshots_count--;
}

static bool begin(struct core *c, struct replica *r, struct member *m)
{
    struct snapshot *s = calloc(1, sizeof *s);
    if (s == NULL)
        return false; /* it is tried again */
    s->id = ++c->snapshots_drawn;
    s->commit_seq = r->commit.seq;
    buffer_init(&s->key, KEY_SIZE_MAX);
    buffer_init(&s->next_key, KEY_SIZE_MAX);
    m->snapshot = s;
    /* What follows the state is kept from now on. */
    m->acked_seq = r->commit.seq;
    m->next_seq = r->commit.seq + 1;
    c->snapshots_count++;
    c->counters.snapshots++;
    return true;
}

struct page {
    struct buffer *body;
    struct snapshot *snapshot;
    bool more, failed;
};

static bool page_row(void *arg, const struct table_row *row)
{
    struct page *p = arg;
    struct snapshot *s = p->snapshot;
    size_t size = ROW_HEAD_SIZE + row->key.size + row->item.value.size;
    if (p->body->size > BODY_HEAD_SIZE && p->body->size + size > PAGE_BYTES) {
        p->more = true;
        return false;
    }
    s->next_digest = row->digest;
    buffer_clear(&s->next_key);
    p->failed =
        buffer_append(&s->next_key, row->key) != STATUS_OK || rows_put(p->body, row) != STATUS_OK;
    return !p->failed;
}

static enum status build_page(struct core *c, struct replica *r, struct snapshot *s,
                              struct buffer *body)
{
    struct page p = {.body = body, .snapshot = s};
    s->next_digest = s->digest;
    buffer_clear(&s->next_key);
    if (buffer_append(&s->next_key, buffer_view(&s->key)) != STATUS_OK)
        return STATUS_NOMEMORY;
    enum status status =
        store_scan(c->store, r->slot, s->digest, buffer_view(&s->key), page_row, &p);
    if (status == STATUS_OK && p.failed)
        status = STATUS_NOMEMORY;
    s->last = !p.more;
    return status;
}

/* The message number s->index: the state, or the page that begins at the cursor. */
static void send(struct core *c, struct replica *r, struct member *m)
{
    struct snapshot *s = m->snapshot;
    struct buffer body;
    buffer_init(&body, RECORD_SIZE_MAX);
    enum status status = head_put(&body) ? STATUS_OK : STATUS_NOMEMORY;
    if (status == STATUS_OK)
        status = s->index == 0 ? replica_save(r, &body) : build_page(c, r, s, &body);
    if (status == STATUS_OK)
        head_end(&body);
    if (status != STATUS_OK) {
        core_fail(c, status);
        buffer_fini(&body);
        return;
    }
    struct snapshot_message out = {.sender = c->options.index,
                                   .incarnation = c->options.incarnation,
                                   .target_incarnation = c->peers[m->node].incarnation,
                                   .partition = r->partition,
                                   .epoch = r->promised_epoch,
                                   .id = s->id,
                                   .index = s->index,
                                   .last = s->index > 0 && s->last,
                                   .body = buffer_view(&body)};
    struct buffer *frame = outbox_frame(&c->outbox, m->node, LANE_APPEND);
    if (frame != NULL)
        core_packed(c, codec_pack_snapshot(&out, frame));
    s->sent_ms = c->now_ms;
    buffer_fini(&body);
}

void snapshot_care(struct core *c, struct replica *r, struct member *m)
{
    bool wanted = r->leads && r->opened && m->adrift && m->synced && c->peers[m->node].up;
    if (!wanted)
        return;
    if (m->snapshot == NULL && c->snapshots_count < UNDER_WAY_MAX && begin(c, r, m)) {
        send(c, r, m);
    } else if (m->snapshot != NULL && c->now_ms >= m->snapshot->sent_ms + RESEND_MS) {
        /* The state is that of its moment: a copy that has not begun yet begins anew. */
        if (m->snapshot->index == 0)
            snapshot_end(c, m);
        else
            send(c, r, m);
    }
}

static void next_page(struct snapshot *s)
{
    struct buffer key = s->key;
    s->index++;
    s->digest = s->index == 1 ? 0 : s->next_digest;
    if (s->index > 1) {
        s->key = s->next_key;
        s->next_key = key;
    }
}

void snapshot_acked(struct core *c, struct replica *r, struct member *m,
                    const struct snapshot_ack *a)
{
    struct snapshot *s = m->snapshot;
    if (s == NULL || a->id != s->id || a->epoch != r->promised_epoch)
        return;
    if (a->next == 0) { /* it does not know this copy (any more) */
        snapshot_end(c, m);
    } else if (a->done) {
        uint64_t from = s->commit_seq;
        snapshot_end(c, m);
        m->adrift = false;
        m->acked_seq = from;
        m->next_seq = from + 1;
        m->progress_ms = c->now_ms;
        core_touch(c, r);
    } else if (a->next == s->index + 1 && !(s->index > 0 && s->last)) {
        next_page(s);
        send(c, r, m);
    }
}

/* ------------------------------------------------------------------ the learner */

static void acknowledge(struct core *c, const struct replica *r, uint64_t id, uint32_t next,
                        bool done)
{
    struct snapshot_ack a = {.sender = c->options.index,
                             .incarnation = c->options.incarnation,
                             .target_incarnation = c->peers[r->lead_node].incarnation,
                             .partition = r->partition,
                             .epoch = r->promised_epoch,
                             .id = id,
                             .next = next,
                             .done = done};
    struct buffer *frame = outbox_frame(&c->outbox, r->lead_node, LANE_APPEND);
    if (frame != NULL)
        core_packed(c, codec_pack_snapshot_ack(&a, frame));
}

/* Whoever still waits for r to become durable, or to be flushed, forgets it. */
static void forget(struct core *c, const struct replica *r)
{
    struct durable_queue *q = &c->queue;
    for (size_t i = 0; i < q->count; i++) {
        struct durable_item *item = &q->items[(q->head + i) & (q->capacity - 1)];
        if (item->replica == r)
            item->replica = NULL;
    }
    for (uint32_t i = 0; i < c->touched_count; i++)
        if (c->touched[i] == r)
            c->touched[i] = NULL;
}

void snapshot_drop(struct core *c, struct replica **r_p)
{
    struct replica *r = *r_p;
    *r_p = NULL;
    if (r == NULL)
        return;
    replica_abandon(c, r);
    hold_drop(c, r);
    forget(c, r);
    c->by_slot[r->slot] = NULL; /* which may be *r_p */
    c->slot_dropped[r->slot] = SLOT_DROPPED_NEW;
    if (c->by_partition[r->partition] == r)
        c->by_partition[r->partition] = NULL;
    replica_destroy(c, &r);
}

static void log_drop(struct core *c, struct replica **r_p)
{
    core_record(c, RECORD_DROP, (*r_p)->slot, BYTES_EMPTY);
    snapshot_drop(c, r_p);
}

void snapshot_give_up(struct core *c, struct replica *r)
{
    if (r->successor == NULL || r->successor->install_ended)
        return;
    c->counters.copies_dropped++;
    log_drop(c, &r->successor);
}

/* A slot that is not whole yet, from a saved state. */
static enum status begin_slot(struct core *c, uint32_t slot, struct bytes state,
                              struct replica **ret)
{
    if (state.size < STATE_HEAD_SIZE)
        return STATUS_CORRUPT;
    uint32_t partition = bytes_le32(state.data + 4);
    if (partition >= c->map->partition_count || slot == 0 || !core_slot_reserve(c, slot))
        return partition >= c->map->partition_count || slot == 0 ? STATUS_CORRUPT : STATUS_NOMEMORY;
    struct replica *r =
        replica_new(c, partition, slot, clustermap_replica_id(c->map, partition, c->options.index));
    if (r == NULL)
        return STATUS_NOMEMORY;
    enum status status = replica_restore(c, r, state);
    if (MUTANT(28)) {
        completion_destroy(&r->completion);
        r->completion = completion_new();
    }
    if (status != STATUS_OK) {
        replica_destroy(c, &r);
        return status;
    }
    r->installing = true;
    c->by_slot[slot] = r;
    if (c->slots_count < slot)
        c->slots_count = slot;
    *ret = r;
    return STATUS_OK;
}

static void take_state(struct core *c, struct replica *r, const struct snapshot_message *m)
{
    struct replica *next = NULL;
    struct bytes state;
    if (!inside_of(m->body, &state)) {
        core_malformed(c);
        return;
    }
    if (r->successor != NULL)
        snapshot_give_up(c, r);
    uint32_t slot = c->slots_count + 1;
    enum status status = begin_slot(c, slot, state, &next);
    if (status == STATUS_CORRUPT) {
        core_malformed(c);
        return;
    }
    if (status != STATUS_OK) {
        core_fail(c, status);
        return;
    }
    if (MUTANT(35))
        core_record(c, RECORD_DROP, r->slot, BYTES_EMPTY);
    uint64_t lsn = core_record(c, RECORD_SNAPSHOT, slot, m->body);
    next->install_id = m->id;
    next->install_next = 1;
    r->successor = next;
    core_when_durable(c, lsn, next, DURABLE_PAGE, 1);
}

static void take_rows(struct core *c, struct replica *r, const struct snapshot_message *m)
{
    struct replica *next = r->successor;
    if (!rows_valid(m->body)) {
        core_malformed(c);
        return;
    }
    uint64_t lsn = core_record(c, RECORD_ROWS, next->slot, m->body);
    enum status status = rows_apply(c, next->slot, m->body);
    if (status != STATUS_OK) {
        core_fail(c, status);
        return;
    }
    next->install_next++;
    if (!m->last) {
        core_when_durable(c, lsn, next, DURABLE_PAGE, next->install_next);
        return;
    }
    lsn = core_record(c, RECORD_SWITCH, next->slot, BYTES_EMPTY);
    next->install_ended = true;
    core_when_durable(c, lsn, next, DURABLE_SWITCH, 0);
}

void snapshot_take(struct core *c, struct replica *r, const struct snapshot_message *m)
{
    bool fits = !r->leads && !r->in_isr && replica_current(r) && m->epoch == r->promised_epoch &&
                m->sender == r->lead_node && m->incarnation == r->lead_incarnation;
    struct replica *next = r->successor;
    if (!fits) {
        c->counters.stale_messages++;
        return;
    }
    bool known = next != NULL && next->install_id == m->id;
    if (m->index == 0 && !known) {
        if (r->switched_id == m->id)
            acknowledge(c, r, m->id, 1, true);
        else
            take_state(c, r, m);
    } else if (!known) {
        acknowledge(c, r, m->id, r->switched_id == m->id, r->switched_id == m->id);
    } else if (m->index == next->install_next && !next->install_ended) {
        take_rows(c, r, m);
    } else {
        c->counters.stale_messages++;
    }
}

void snapshot_durable(struct core *c, struct replica *next, uint64_t page)
{
    const struct replica *r = c->by_partition[next->partition];
    if (r != NULL && r->successor == next && !next->install_ended)
        acknowledge(c, r, next->install_id, (uint32_t)page, false);
}

/* What the new slot's replica has to know of the world is what the former one knew. */
static void take_over(const struct replica *from, struct replica *to)
{
    to->config_version = from->config_version;
    to->config_epoch = from->config_epoch;
    to->lead_node = from->lead_node;
    to->leads = from->leads;
    to->in_isr = from->in_isr;
    to->opened = from->opened;
    to->opened_ms = from->opened_ms;
    to->boot_promised = from->boot_promised;
    to->lead_incarnation = from->lead_incarnation;
    memcpy(to->members, from->members, sizeof to->members);
}

void snapshot_switched(struct core *c, struct replica *next)
{
    struct replica *r = c->by_partition[next->partition];
    ENSURE(next->installing && r != NULL && r->successor == next);
    ENSURE(r->promised_epoch == next->promised_epoch);
    take_over(r, next);
    r->successor = NULL;
    snapshot_drop(c, &r);
    next->installing = false;
    next->switched_id = next->install_id;
    next->changed = true;
    c->by_partition[next->partition] = next;
    c->counters.copies_ended++;
    acknowledge(c, next, next->install_id, next->install_next, true);
    core_touch(c, next);
}

/* ------------------------------------------------------------------ recovery */

static void replay_switch(struct core *c, struct replica *next)
{
    struct replica *former = c->by_partition[next->partition];
    if (former != NULL)
        snapshot_drop(c, &former);
    next->installing = false;
    next->changed = true;
    c->by_partition[next->partition] = next;
}

enum status snapshot_restore(struct core *c, uint32_t slot, struct bytes state)
{
    struct replica *r;
    return begin_slot(c, slot, state, &r);
}

enum status snapshot_replay(struct core *c, const struct record_view *record)
{
    struct replica *r = NULL;
    struct bytes state;
    if (!core_slot_reserve(c, record->slot))
        return STATUS_NOMEMORY;
    r = c->by_slot[record->slot];
    /* What the checkpoint already knew of this slot is newer. */
    bool too_early = MUTANT(35) && record->kind == RECORD_DROP;
    if (c->slot_dropped[record->slot] != SLOT_LIVE || (r != NULL && !r->installing && !too_early))
        return STATUS_OK;
    switch ((int)record->kind) {
    case RECORD_SNAPSHOT:
        if (r != NULL)
            return STATUS_OK;
        return inside_of(record->body, &state) ? begin_slot(c, record->slot, state, &r)
                                               : STATUS_CORRUPT;
    case RECORD_ROWS:
        return r == NULL ? STATUS_CORRUPT : rows_apply(c, record->slot, record->body);
    case RECORD_SWITCH:
        if (r == NULL)
            return STATUS_CORRUPT;
        replay_switch(c, r);
        return STATUS_OK;
    default:
        snapshot_drop(c, &r);
        return STATUS_OK;
    }
}

void snapshot_drop_unfinished(struct core *c)
{
    for (uint32_t slot = 1; slot <= c->slots_count; slot++) {
        if (c->by_slot[slot] == NULL || !c->by_slot[slot]->installing)
            continue;
        c->counters.copies_dropped++;
        if (MUTANT(33))
            replay_switch(c, c->by_slot[slot]);
        else
            log_drop(c, &c->by_slot[slot]);
    }
}
