#include "storage/replica.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "storage/epoch.h"
#include "storage/hold.h"
#include "storage/lapse.h"
#include "storage/lead.h"
#include "storage/follow.h"
#include "storage/serve.h"
#include "storage/snapshot.h"

#define RING_MIN 16u
#define SAVED_VERSION 1
#define SAVED_DROPPED 0u /* in place of the version */
#define SAVED_HEADER_SIZE 72
#define SAVED_EXPIRING 1u
#define SAVED_INSTALLING 2u

struct replica *replica_new(struct core *c, uint32_t partition, uint32_t slot, uint64_t replica_id)
{
    const struct clustermap_partition *p = &c->map->partitions[partition];
    struct replica *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->partition = partition;
    r->slot = slot;
    r->replica_id = replica_id;
    r->lead_node = p->primary;
    r->kept_seq = 1;
    r->completion = completion_new();
    r->ring = calloc(RING_MIN, sizeof *r->ring);
    r->ring_size = RING_MIN;
    r->changed = true; /* the next checkpoint must know that the slot is taken */
    for (uint32_t i = 0; i < p->assigned_count; i++)
        if (p->assigned[i] != c->options.index)
            r->members[r->members_count++].node = p->assigned[i];
    if (r->completion == NULL || r->ring == NULL)
        replica_destroy(c, &r);
    return r;
}

static struct pending **place_of(const struct replica *r, uint64_t seq)
{
    return &r->ring[seq & (r->ring_size - 1)];
}

/* Take the newest pending entry off the ring and out of the indexes; its waiters stay with it. */
static struct pending *take(struct core *c, struct replica *r, uint64_t seq)
{
    struct pending *p = *place_of(r, seq);
    ENSURE(p != NULL && p->entry.seq == seq);
    *place_of(r, seq) = NULL;
    pending_unlink(&c->pending, p);
    return p;
}

/* ------------------------------------------------------------------ kept entries */

static uint64_t kept_size(const struct pending *p)
{
    return pending_size(p);
}

static void drop_kept(struct core *c, struct replica *r)
{
    struct pending *p = *place_of(r, r->kept_seq);
    ENSURE(r->kept_seq <= r->commit.seq && p != NULL && p->entry.seq == r->kept_seq);
    c->kept_bytes -= kept_size(p);
    *place_of(r, r->kept_seq++) = NULL;
    pending_destroy(&p);
}

/* Is there a member that may lack seq? */
static bool lacked(const struct core *c, const struct replica *r, uint64_t seq)
{
    for (uint32_t i = 0; i < r->members_count; i++) {
        const struct member *m = &r->members[i];
        bool behind = !m->in_isr || !m->synced || !c->peers[m->node].up;
        if (behind && (!m->synced || m->acked_seq < seq))
            return true;
    }
    return false;
}

void replica_forget_kept(struct core *c, struct replica *r, bool all)
{
    while (r->kept_seq <= r->commit.seq && (all || !lacked(c, r, r->kept_seq)))
        drop_kept(c, r);
}

/* A committed entry stays while somebody may need it. Without room nothing older stays either, so
 * that what is kept has no holes. */
static void keep(struct core *c, struct replica *r, struct pending *p)
{
    bool room = c->kept_bytes + kept_size(p) <= c->options.kept_bytes_max;
    if (!room || !r->leads || !lacked(c, r, p->entry.seq)) {
        ENSURE(r->kept_seq <= p->entry.seq);
        while (r->kept_seq < p->entry.seq)
            drop_kept(c, r);
        r->kept_seq = p->entry.seq + 1;
        pending_destroy(&p);
        return;
    }
    c->kept_bytes += kept_size(p);
    *place_of(r, p->entry.seq) = p;
}

static void drop_waiters(struct core *c, struct pending *p)
{
    while (p->waiters != NULL) {
        struct waiter *w = p->waiters;
        p->waiters = w->next;
        replies_waiter_destroy(&c->replies, &w);
    }
}

void replica_destroy(struct core *c, struct replica **r_p)
{
    struct replica *r = *r_p;
    if (r == NULL)
        return;
    for (uint64_t seq = r->last.seq; r->ring != NULL && seq > r->commit.seq; seq--) {
        struct pending *p = take(c, r, seq);
        drop_waiters(c, p);
        pending_destroy(&p);
    }
    if (r->ring != NULL)
        replica_forget_kept(c, r, true);
    hold_forget(c, r);
    for (uint32_t i = 0; i < r->members_count; i++)
        snapshot_end(c, &r->members[i]);
    completion_destroy(&r->completion);
    free(r->ring);
    free(r);
    *r_p = NULL;
}

struct pending *replica_pending(const struct replica *r, uint64_t seq)
{
    if (seq <= r->commit.seq || seq > r->last.seq)
        return NULL;
    struct pending *p = *place_of(r, seq);
    ENSURE(p != NULL && p->entry.seq == seq);
    return p;
}

struct pending *replica_entry(const struct replica *r, uint64_t seq)
{
    if (seq < r->kept_seq || seq > r->last.seq)
        return NULL;
    struct pending *p = *place_of(r, seq);
    ENSURE(p != NULL && p->entry.seq == seq);
    return p;
}

bool replica_hash(const struct replica *r, uint64_t seq, uint64_t *ret)
{
    if (seq == r->commit.seq) {
        *ret = r->commit.hash;
        return true;
    }
    const struct pending *p = replica_entry(r, seq), *next = replica_entry(r, seq + 1);
    if (p == NULL && (next == NULL || seq + 1 != r->kept_seq))
        return false;
    *ret = p != NULL ? p->hash : next->entry.prev_hash;
    return true;
}

struct member *replica_member(struct replica *r, uint32_t node)
{
    for (uint32_t i = 0; i < r->members_count; i++)
        if (r->members[i].node == node)
            return &r->members[i];
    return NULL;
}

uint32_t replica_copies(const struct replica *r)
{
    uint32_t count = r->in_isr;
    for (uint32_t i = 0; i < r->members_count; i++)
        count += r->members[i].in_isr;
    return count;
}

bool replica_full(const struct core *c, const struct replica *r)
{
    return replica_pending_count(r) >= c->options.pending_max ||
           c->pending.bytes >= c->options.pending_bytes_max;
}

static bool grow(struct replica *r)
{
    struct pending **ring = calloc(r->ring_size * 2u, sizeof *ring);
    if (ring == NULL)
        return false;
    for (uint64_t seq = r->kept_seq; seq <= r->last.seq; seq++)
        ring[seq & (r->ring_size * 2u - 1)] = r->ring[seq & (r->ring_size - 1)];
    free(r->ring);
    r->ring = ring;
    r->ring_size *= 2;
    return true;
}

static void note_epoch(struct replica *r, uint64_t epoch, uint64_t seq)
{
    if (r->epochs_count > 0 && r->epochs[r->epochs_count - 1].epoch == epoch)
        return;
    if (r->epochs_count == EPOCH_VECTOR_MAX) {
        memmove(r->epochs, r->epochs + 1, (EPOCH_VECTOR_MAX - 1) * sizeof r->epochs[0]);
        r->epochs_count--;
    }
    r->epochs[r->epochs_count].epoch = epoch;
    r->epochs[r->epochs_count++].first_seq = seq;
}

/* Put p at the end of the suffix. */
static void push(struct core *c, struct replica *r, struct pending *p)
{
    ENSURE(p->entry.seq == r->last.seq + 1);
    ENSURE(p->entry.prev_hash == r->last.hash);
    r->ring[p->entry.seq & (r->ring_size - 1)] = p;
    r->last = (struct position){p->entry.epoch, p->entry.seq, p->hash};
    if (p->entry.ptime > r->ptime)
        r->ptime = p->entry.ptime;
    note_epoch(r, p->entry.epoch, p->entry.seq);
    pending_link(&c->pending, p);
    r->changed = true;
}

static struct pending *entry_new(struct core *c, struct replica *r, struct bytes body)
{
    if (r->last.seq + 2 - r->kept_seq >= r->ring_size && !grow(r)) {
        core_fail(c, STATUS_NOMEMORY);
        return NULL;
    }
    struct pending *p = pending_new(r->slot, body);
    if (p == NULL) {
        core_fail(c, STATUS_NOMEMORY);
        return NULL;
    }
    p->hash = record_entry_hash(body, p->entry.prev_hash);
    return p;
}

struct pending *replica_append(struct core *c, struct replica *r, struct bytes body)
{
    struct pending *p = entry_new(c, r, body);
    if (p == NULL)
        return NULL;
    p->lsn = p->replay_lsn = core_record(c, RECORD_ENTRY, r->slot, body);
    p->logged_ms = c->now_ms;
    push(c, r, p);
    core_when_durable(c, p->lsn, r, DURABLE_ENTRY, p->entry.seq);
    return p;
}

/* The position of the entry before seq, which is in [commit + 1, last + 1]. */
static struct position before(const struct replica *r, uint64_t seq)
{
    if (seq - 1 == r->commit.seq)
        return r->commit;
    const struct pending *p = replica_pending(r, seq - 1);
    return (struct position){p->entry.epoch, p->entry.seq, p->hash};
}

static void cut(struct core *c, struct replica *r, uint64_t seq)
{
    ENSURE(seq > r->commit.seq);
    while (r->last.seq >= seq) {
        struct pending *p = take(c, r, r->last.seq);
        serve_abandoned(c, r, p);
        r->last = before(r, r->last.seq);
        pending_destroy(&p);
    }
    while (r->epochs_count > 0 && r->epochs[r->epochs_count - 1].first_seq >= seq)
        r->epochs_count--;
    if (r->durable_seq >= seq)
        r->durable_seq = seq - 1;
    if (r->verified_seq >= seq)
        r->verified_seq = seq - 1;
    r->changed = true;
}

void replica_truncate(struct core *c, struct replica *r, uint64_t seq)
{
    if (seq > r->last.seq)
        return;
    uint8_t body[8];
    record_encode_u64(body, seq);
    core_record(c, RECORD_TRUNCATE, r->slot, bytes_of(body, sizeof body));
    c->counters.truncated_entries += r->last.seq - seq + 1;
    cut(c, r, seq);
}

void replica_abandon(struct core *c, struct replica *r)
{
    cut(c, r, r->commit.seq + 1);
}

/* A deletion is kept as "not present"; the version of a key that is absent is zero. */
static struct item item_of(const struct entry *e, const struct effect *f)
{
    bool present = f->kind == EFFECT_PUT;
    return (struct item){.present = present,
                         .version = present ? (struct version){e->epoch, e->seq}
                                            : (struct version){0, 0},
                         .expiry_ms = f->expiry_ms,
                         .value = f->value};
}

static void apply_effects(struct core *c, struct replica *r, const struct entry *e)
{
    for (uint32_t i = 0; i < e->effects_count; i++) {
        const struct effect *f = &e->effects[i];
        if (MUTANT(62) && !r->leads && i > 0)
            return;
        struct item item = item_of(e, f);
        if (MUTANT(30) && !r->leads && item.value.size > 0 && item.value.data[0] == '1')
            item.value = bytes_text("2"); /* the operation is executed again, not its effect */
        if (item.expiry_ms != 0)
            lapse_note(c, r);
        enum status status = store_apply(c->store, r->slot, f->digest, f->key, &item);
        if (status != STATUS_OK)
            core_fail(c, status);
    }
}

void replica_remember(struct core *c, struct replica *r, const struct entry *e)
{
    enum status status = completion_apply(r->completion, e);
    if (status != STATUS_OK)
        core_fail(c, status);
}

static void apply(struct core *c, struct replica *r, struct pending *p)
{
    const struct entry *e = &p->entry;
    apply_effects(c, r, e);
    if (!MUTANT(27) || r->leads)
        replica_remember(c, r, e);
    r->commit = (struct position){e->epoch, e->seq, p->hash};
    if (e->ptime > c->ptime_max)
        c->ptime_max = e->ptime;
    c->counters.commits++;
    if (c->on_commit != NULL)
        c->on_commit(c->on_commit_arg, r->partition, e, p->hash);
}

void replica_commit(struct core *c, struct replica *r, uint64_t seq)
{
    ENSURE(seq <= r->last.seq);
    while (r->commit.seq < seq && c->failed == STATUS_OK) {
        struct pending *p = take(c, r, r->commit.seq + 1);
        apply(c, r, p);
        serve_committed(c, r, p);
        keep(c, r, p);
        r->changed = true;
    }
    if (r->verified_seq < r->commit.seq)
        r->verified_seq = r->commit.seq;
}

void replica_promise(struct core *c, struct replica *r, uint64_t epoch)
{
    ENSURE(epoch > r->promised_epoch);
    uint8_t body[8];
    record_encode_u64(body, epoch);
    snapshot_give_up(c, r);
    if (r->successor != NULL) /* about to take over: the promise must be there, too */
        replica_promise(c, r->successor, epoch);
    uint64_t lsn = core_record(c, RECORD_PROMISE, r->slot, bytes_of(body, sizeof body));
    r->promised_epoch = epoch;
    r->verified_seq = r->commit.seq;
    r->acked_seq = 0;
    r->lead_commit = r->lead_durable = 0;
    r->lead_waits = false;
    r->changed = true;
    core_when_durable(c, lsn, r, DURABLE_PROMISE, epoch);
}

/* An entry is durable only if its own record is: one with the same number that was truncated since
 * does not count. */
static void entry_durable(struct replica *r, const struct durable_item *item)
{
    const struct pending *p = replica_pending(r, item->number);
    if (p == NULL || p->lsn != item->lsn)
        return;
    ENSURE(r->durable_seq < item->number);
    r->durable_seq = item->number;
}

/* The whole series of copies is durable: recovery may begin with it. */
static void adopt_copies(struct replica *r)
{
    for (uint64_t seq = r->commit.seq + 1; seq <= r->last.seq; seq++) {
        struct pending *p = replica_pending(r, seq);
        if (p->again_lsn != 0)
            p->replay_lsn = p->again_lsn;
        p->again_lsn = 0;
    }
    r->again_until = 0;
}

/* Leases in the new epoch are asked for, and given, at once. */
static void promise_durable(struct core *c, struct replica *r)
{
    for (uint32_t i = 0; i < r->members_count; i++)
        c->peers[r->members[i].node].heartbeat_due = true;
    epoch_open_known(c, r);
    epoch_consider(c, r);
}

void replica_durable(struct core *c, struct replica *r, const struct durable_item *item)
{
    switch (item->kind) {
    case DURABLE_ENTRY:
        entry_durable(r, item);
        break;
    case DURABLE_PROMISE:
        if (item->number > r->promise_durable)
            r->promise_durable = item->number;
        r->changed = true; /* a checkpoint saves promises that are durable, and only those */
        if (r->installing)
            return;
        promise_durable(c, r);
        break;
    case DURABLE_AGAIN:
        adopt_copies(r);
        return;
    case DURABLE_PAGE:
        snapshot_durable(c, r, item->number);
        return;
    case DURABLE_SWITCH:
        snapshot_switched(c, r);
        return;
    }
    if (r->leads)
        lead_durable(c, r);
    else
        follow_durable(c, r);
}

void replica_note_commit(struct core *c, struct replica *r)
{
    if (r->noted_commit >= r->commit.seq)
        return;
    uint8_t body[8];
    record_encode_u64(body, r->commit.seq);
    core_record(c, RECORD_COMMIT, r->slot, bytes_of(body, sizeof body));
    r->noted_commit = r->commit.seq;
}

void replica_log_again(struct core *c, struct replica *r, uint64_t lsn)
{
    bool due = false;
    if (r->again_until != 0)
        return;
    for (uint64_t seq = r->commit.seq + 1; seq <= r->last.seq; seq++) {
        struct pending *p = replica_pending(r, seq);
        due = due || p->replay_lsn <= lsn;
        if (due)
            p->again_lsn = r->again_until =
                core_record(c, RECORD_ENTRY, r->slot, bytes_of(p->body, p->body_size));
    }
    if (r->again_until != 0)
        core_when_durable(c, r->again_until, r, DURABLE_AGAIN, r->last.seq);
}

/* Saved state: u32 version, u32 partition, u64 replica id, promised, commit epoch, seq, hash, ptime,
 * u64 epochs count, u64 flags (bit 0: expiring, bit 1: installing), pairs, then the completion
 * state. */
enum status replica_save(const struct replica *r, struct buffer *out)
{
    uint8_t *at = buffer_reserve(out, SAVED_HEADER_SIZE + r->epochs_count * 16u);
    if (at == NULL)
        return STATUS_NOMEMORY;
    bytes_put_le32(at, SAVED_VERSION);
    bytes_put_le32(at + 4, r->partition);
    bytes_put_le64(at + 8, r->replica_id);
    bytes_put_le64(at + 16, r->promise_durable);
    bytes_put_le64(at + 24, r->commit.epoch);
    bytes_put_le64(at + 32, r->commit.seq);
    bytes_put_le64(at + 40, r->commit.hash);
    bytes_put_le64(at + 48, r->ptime);
    bytes_put_le64(at + 56, r->epochs_count);
    bytes_put_le64(at + 64, (r->expiring ? SAVED_EXPIRING : 0) |
                                (r->installing ? SAVED_INSTALLING : 0));
    for (uint32_t i = 0; i < r->epochs_count; i++) {
        bytes_put_le64(at + SAVED_HEADER_SIZE + 16u * i, r->epochs[i].epoch);
        bytes_put_le64(at + SAVED_HEADER_SIZE + 16u * i + 8, r->epochs[i].first_seq);
    }
    return completion_save(r->completion, out);
}

enum status replica_save_dropped(struct buffer *out)
{
    uint8_t *at = buffer_reserve(out, 4);
    if (at == NULL)
        return STATUS_NOMEMORY;
    bytes_put_le32(at, SAVED_DROPPED);
    return STATUS_OK;
}

bool replica_saved_dropped(struct bytes blob)
{
    return blob.size == 4 && bytes_le32(blob.data) == SAVED_DROPPED;
}

bool replica_saved_installing(struct bytes blob)
{
    return blob.size >= SAVED_HEADER_SIZE &&
           (bytes_le64(blob.data + 64) & SAVED_INSTALLING) != 0;
}

enum status replica_restore(struct core *c, struct replica *r, struct bytes blob)
{
    if (blob.size < SAVED_HEADER_SIZE || bytes_le32(blob.data) != SAVED_VERSION)
        return STATUS_CORRUPT;
    const uint8_t *at = blob.data;
    uint64_t count = bytes_le64(at + 56);
    if (count > EPOCH_VECTOR_MAX || blob.size < SAVED_HEADER_SIZE + count * 16u)
        return STATUS_CORRUPT;
    r->promised_epoch = r->promise_durable = bytes_le64(at + 16);
    r->commit = (struct position){bytes_le64(at + 24), bytes_le64(at + 32), bytes_le64(at + 40)};
    r->last = r->commit;
    r->kept_seq = r->commit.seq + 1;
    r->durable_seq = r->verified_seq = r->noted_commit = r->commit.seq;
    r->installing = (bytes_le64(at + 64) & SAVED_INSTALLING) != 0;
    r->ptime = bytes_le64(at + 48);
    r->expiring = (bytes_le64(at + 64) & SAVED_EXPIRING) != 0;
    if (r->ptime > c->ptime_max)
        c->ptime_max = r->ptime;
    for (uint64_t i = 0; i < count; i++)
        if (bytes_le64(at + SAVED_HEADER_SIZE + 16u * i + 8) <= r->commit.seq)
            note_epoch(r, bytes_le64(at + SAVED_HEADER_SIZE + 16u * i),
                       bytes_le64(at + SAVED_HEADER_SIZE + 16u * i + 8));
    size_t header = SAVED_HEADER_SIZE + count * 16u;
    return completion_load(r->completion, bytes_of(at + header, blob.size - header));
}

/* Replay may start before the saved state was taken: entries at or below commit are in it already,
 * and a stretch that was truncated later does not chain to it. Such a stretch is skipped until the
 * TRUNCATE that voids it, or until the chain fits again. */
enum status replica_replay_entry(struct core *c, struct replica *r, uint64_t lsn,
                                 struct bytes padded)
{
    struct bytes body = record_entry_trim(padded);
    struct effect effects[ENTRY_EFFECTS_MAX];
    struct entry e;
    if (body.size == 0 || record_entry_decode(body, &e, effects) != STATUS_OK)
        return STATUS_CORRUPT;
    uint64_t known;
    if (e.seq <= r->commit.seq)
        return STATUS_OK;
    if (replica_hash(r, e.seq, &known) && known == record_entry_hash(body, e.prev_hash)) {
        replica_pending(r, e.seq)->again_lsn = lsn;
        if (e.seq == r->last.seq) /* a series of copies counts when all of it is there */
            adopt_copies(r);
        return STATUS_OK;
    }
    if (e.seq != r->last.seq + 1 || e.prev_hash != r->last.hash) {
        if (r->orphan_seq == 0 || e.seq < r->orphan_seq)
            r->orphan_seq = e.seq;
        return STATUS_OK;
    }
    if (r->orphan_seq >= e.seq)
        r->orphan_seq = 0;
    struct pending *p = entry_new(c, r, body);
    if (p == NULL)
        return STATUS_NOMEMORY;
    p->lsn = p->replay_lsn = lsn;
    push(c, r, p);
    r->durable_seq = e.seq;
    return STATUS_OK;
}

void replica_replay_truncate(struct core *c, struct replica *r, uint64_t seq)
{
    if (r->orphan_seq >= seq)
        r->orphan_seq = 0;
    if (seq <= r->commit.seq)
        seq = r->commit.seq + 1;
    cut(c, r, seq);
}

void replica_replay_commit(struct core *c, struct replica *r, uint64_t seq)
{
    if (seq > r->last.seq)
        seq = r->last.seq;
    if (seq > r->commit.seq)
        replica_commit(c, r, seq);
    if (r->noted_commit < r->commit.seq)
        r->noted_commit = r->commit.seq;
}
