#include "storage/lead.h"

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "storage/epoch.h"
#include "storage/lapse.h"
#include "storage/lease.h"
#include "storage/serve.h"
#include "storage/snapshot.h"

/* Must it acknowledge what is to be committed? (W5: the ISR, and an addition that is under way) */
static bool required(const struct member *m)
{
    return m->in_isr || m->adding;
}

/* Until when nothing may be committed: a node that was left out may still read (L3). */
static uint64_t fence_ms(const struct replica *r)
{
    return MUTANT(11) ? 0 : lease_fence_ms(r);
}

/* The oldest entry is not committed though it was logged long ago, and no fence is in its way. */
static bool stalled(const struct core *c, const struct replica *r)
{
    const struct pending *oldest = replica_pending(r, r->commit.seq + 1);
    if (oldest == NULL)
        return false;
    uint64_t since = oldest->logged_ms, fence = fence_ms(r);
    if (since < r->opened_ms)
        since = r->opened_ms;
    if (since < fence)
        since = fence;
    return c->now_ms >= since + c->options.stall_ms;
}

/* Mutant 17. */
static bool hears_no_majority(const struct core *c)
{
    const struct clustermap_voters *v = &c->map->voters;
    uint32_t up = 0;
    for (uint32_t i = 0; i < v->count; i++)
        up += v->nodes[i] == c->options.index || c->peers[v->nodes[i]].up;
    return up <= v->count / 2;
}

bool lead_writable(const struct core *c, const struct replica *r)
{
    if ((!r->leads && !MUTANT(31)) || !r->opened || r->handing_over || stalled(c, r))
        return false;
    if (MUTANT(17) && hears_no_majority(c))
        return false;
    for (uint32_t i = 0; i < r->members_count; i++) {
        const struct member *m = &r->members[i];
        if (required(m) && (!m->synced || !c->peers[m->node].up))
            return false;
    }
    return true;
}

struct pending *lead_log(struct core *c, struct replica *r, struct entry *e, uint64_t token)
{
    e->epoch = r->promised_epoch;
    e->seq = r->last.seq + 1;
    e->prev_epoch = r->last.epoch;
    e->prev_hash = r->last.hash;
    /* Not below the token: a record that a horizon removes has ptime <= horizon, and then the token
     * of every attempt is, too. */
    e->ptime = lapse_now(c, r);
    if (e->ptime < token)
        e->ptime = token;
    buffer_clear(&c->scratch);
    if (record_entry_encode(e, &c->scratch) != STATUS_OK) {
        core_fail(c, STATUS_NOMEMORY);
        return NULL;
    }
    core_touch(c, r);
    return replica_append(c, r, buffer_view(&c->scratch));
}

void lead_open(struct core *c, struct replica *r)
{
    ENSURE(r->leads && r->opened);
    /* Its commit proves the whole suffix, and cuts off what a member has beyond it. */
    struct entry first = {.kind = ENTRY_EPOCH};
    lead_log(c, r, &first, 0);
    for (uint32_t i = 0; i < c->peers_count; i++)
        c->peers[i].heartbeat_due = true; /* leases in the new epoch */
}

/* Mutant 36: is there a learner that has more than m? */
static bool stands_in(const struct replica *r, const struct member *m)
{
    for (uint32_t i = 0; i < r->members_count; i++)
        if (!r->members[i].in_isr && r->members[i].synced && r->members[i].acked_seq > m->acked_seq)
            return true;
    return false;
}

static void try_commit(struct core *c, struct replica *r)
{
    uint64_t seq = r->durable_seq;
    if (!r->opened)
        return;
    if (c->now_ms < fence_ms(r)) {
        c->counters.fenced += seq > r->commit.seq;
        return;
    }
    for (uint32_t i = 0; i < r->members_count; i++) {
        const struct member *m = &r->members[i];
        if (!required(m) || (MUTANT(8) && !c->peers[m->node].up))
            continue;
        if (MUTANT(36) && stands_in(r, m))
            continue;
        if (!m->synced || m->adrift)
            return;
        if (m->acked_seq < seq)
            seq = m->acked_seq;
    }
    if (seq <= r->commit.seq)
        return;
    replica_commit(c, r, seq);
    if (r->commit_due_ms == 0)
        r->commit_due_ms = c->now_ms + 1;
    core_touch(c, r);
}

void lead_durable(struct core *c, struct replica *r)
{
    try_commit(c, r);
    core_touch(c, r);
}

/* Commit what the member knows to be committed; false: our logs cannot both be right. */
static bool adopt_commit(struct core *c, struct replica *r, const struct position *commit)
{
    uint64_t hash;
    if (commit->seq < r->commit.seq)
        return true;
    if (!replica_hash(r, commit->seq, &hash) || hash != commit->hash)
        return false;
    replica_commit(c, r, commit->seq);
    return true;
}

/* What we have does not join what it has: only a whole copy helps. */
static void set_adrift(struct core *c, struct replica *r, struct member *m)
{
    m->adrift = true;
    c->counters.additions_dropped += m->adding && r->ticket == 0;
    if (r->ticket == 0)
        m->adding = false;
    c->counters.adrift++;
}

/* Where to begin for a node that was left out: what it has from us, or may have, is told by its
 * commit and its last entry; what it lacks must be in our memory. */
static void begin_learner(struct core *c, struct replica *r, struct member *m,
                          const struct position *commit, uint64_t last_seq)
{
    m->acked_seq = commit->seq;
    m->granted_until_ms = 0; /* it knows that it is out: nothing is read there any more */
    if (commit->seq + 1 >= r->kept_seq)
        m->next_seq = commit->seq + 1;
    else if (last_seq + 1 >= r->kept_seq)
        m->next_seq = r->kept_seq;
    else
        set_adrift(c, r, m);
    c->counters.caught_up += !m->adrift;
}

bool lead_lacks(struct core *c, struct replica *r, uint32_t node, uint64_t epoch,
                uint64_t last_seq)
{
    const struct member *m = replica_member(r, node);
    if (m == NULL || m->synced || epoch != r->promised_epoch || !replica_current(r) ||
        last_seq >= m->had_seq)
        return false;
    struct outbox_section s = {.partition = r->partition,
                               .epoch = r->promised_epoch,
                               .commit_seq = m->had_seq,
                               .flags = APPEND_LACKS};
    outbox_section(&c->outbox, node, &s);
    return true;
}

void lead_promised(struct core *c, struct replica *r, uint32_t node, uint64_t epoch,
                   const struct position *commit, uint64_t last_seq)
{
    struct member *m = replica_member(r, node);
    if (m == NULL || m->synced || epoch != r->promised_epoch || !replica_current(r))
        return;
    if (commit->seq > r->last.seq) { /* whatever is committed was on this disk */
        core_lost(c, r, commit->seq);
        return;
    }
    if (!adopt_commit(c, r, commit)) {
        c->counters.gaps++;
        return;
    }
    m->synced = true;
    m->progress_ms = c->now_ms;
    m->owed_ms = 0;
    m->told_commit = m->told_durable = 0;
    if (m->in_isr) {
        m->acked_seq = commit->seq;
        m->next_seq = r->commit.seq + 1;
    } else {
        begin_learner(c, r, m, commit, last_seq);
    }
    r->commit_due_ms = c->now_ms; /* it must not wait for the next write to hear of the commit */
    core_touch(c, r);
    epoch_consider(c, r);
}

/* From behind what it has acknowledged; what is not in memory any more, it has. */
static void send_again(struct core *c, struct replica *r, struct member *m)
{
    uint64_t from = m->acked_seq + 1;
    c->counters.gaps++;
    if (m->in_isr && from <= r->commit.seq)
        from = r->commit.seq + 1;
    m->next_seq = from < r->kept_seq ? r->kept_seq : from;
    m->progress_ms = c->now_ms;
}

void lead_ack(struct core *c, struct replica *r, uint32_t node, uint64_t epoch, uint64_t seq,
              uint64_t hash, bool gap)
{
    struct member *m = replica_member(r, node);
    uint64_t known;
    if (m == NULL || !m->synced || m->adrift || epoch != r->promised_epoch || seq > r->last.seq)
        return;
    if (seq + 1 >= r->kept_seq && (!replica_hash(r, seq, &known) || known != hash)) {
        c->counters.gaps++;
        return;
    }
    if (seq > m->acked_seq) {
        m->acked_seq = seq;
        m->progress_ms = c->now_ms;
        if (m->next_seq <= seq)
            m->next_seq = seq + 1;
        m->owed_ms = m->next_seq > seq + 1 ? c->now_ms : 0;
        try_commit(c, r);
        if (!m->in_isr)
            epoch_consider(c, r);
    } else if (seq <= r->commit.seq) {
        /* It says again what we know: it has not heard of the commit. */
        m->told_commit = 0;
        r->commit_due_ms = c->now_ms;
    }
    if (gap && !m->in_isr && m->acked_seq + 1 < r->kept_seq)
        set_adrift(c, r, m);
    else if (gap && m->next_seq > m->acked_seq + 1)
        send_again(c, r, m);
    core_touch(c, r);
}

void lead_member_lost(struct core *c, struct replica *r, uint32_t node)
{
    struct member *m = replica_member(r, node);
    if (m == NULL)
        return;
    m->synced = m->adrift = false;
    snapshot_end(c, m);
    m->asked_ms = 0;
    m->since_ms = c->now_ms;
    m->back_off_ms = 0; /* it may have been mended */
    /* Else it stays required until the register has moved (G1). */
    if (m->adding && (r->ticket == 0 || MUTANT(10))) {
        m->adding = false;
        c->counters.additions_dropped++;
    }
    core_touch(c, r);
}

/* Completion records that are too old, or too many, go by a logged entry, so that they go on every
 * copy at the same place. */
static void expire_records(struct core *c, struct replica *r)
{
    uint64_t horizon = completion_horizon_wanted(r->completion, lapse_now(c, r));
    if (horizon == 0 || horizon <= completion_horizon(r->completion) || !lead_writable(c, r))
        return;
    if (r->expire_seq > r->commit.seq) /* one under way is applied first */
        return;
    struct entry e = {.kind = ENTRY_EXPIRE, .horizon = horizon};
    if (lead_log(c, r, &e, 0) != NULL)
        r->expire_seq = r->last.seq;
}

void lead_tick(struct core *c, struct replica *r)
{
    for (uint32_t i = 0; i < r->members_count; i++) {
        struct member *m = &r->members[i];
        bool late = c->now_ms >= m->progress_ms + c->options.retransmit_ms;
        snapshot_care(c, r, m);
        if (!m->synced) {
            core_touch(c, r);
        } else if (late && !m->adrift && m->next_seq > m->acked_seq + 1) {
            c->counters.retransmits++;
            send_again(c, r, m);
            core_touch(c, r);
        }
    }
    try_commit(c, r); /* a fence may be over */
    replica_forget_kept(c, r, false);
    expire_records(c, r);
}

/* Where the log stands before seq: what an APPEND that begins with seq must match. */
static struct position position_before(const struct replica *r, uint64_t seq)
{
    if (seq == r->last.seq + 1)
        return r->last;
    const struct pending *p = replica_entry(r, seq);
    ENSURE(p != NULL);
    return (struct position){p->entry.prev_epoch, seq - 1, p->entry.prev_hash};
}

/* No more than this is on its way to one member, so that a queue never holds a whole catch-up. */
static uint64_t window_end(const struct core *c, const struct replica *r, const struct member *m)
{
    uint64_t has = m->acked_seq + 1 < r->kept_seq ? r->kept_seq - 1 : m->acked_seq;
    return has + c->options.pending_max + 1;
}

static void send_section(struct core *c, struct replica *r, struct member *m)
{
    bool adding = false;
    for (uint32_t i = 0; i < r->members_count; i++)
        adding = adding || r->members[i].adding;
    if (m->next_seq < r->kept_seq)
        m->next_seq = r->kept_seq;
    struct position prev = position_before(r, m->next_seq);
    struct outbox_section s = {.partition = r->partition,
                               .epoch = r->promised_epoch,
                               .prev_epoch = prev.epoch,
                               .prev_seq = prev.seq,
                               .prev_hash = prev.hash,
                               .commit_seq = r->commit.seq,
                               .durable_seq = r->durable_seq,
                               .flags = adding || c->now_ms < fence_ms(r) ? APPEND_WAITS : 0};
    if (m->next_seq <= m->acked_seq + 1)
        m->progress_ms = c->now_ms;
    if (m->owed_ms == 0 && m->next_seq <= r->last.seq)
        m->owed_ms = c->now_ms; /* sending it again does not move that */
    outbox_section(&c->outbox, m->node, &s);
    for (; m->next_seq <= r->last.seq && m->next_seq <= window_end(c, r, m); m->next_seq++) {
        const struct pending *p = replica_entry(r, m->next_seq);
        if (!outbox_entry(&c->outbox, m->node, bytes_of(p->body, p->body_size)))
            break;
    }
    m->told_commit = r->commit.seq;
    m->told_durable = r->durable_seq;
}

static void flush_member(struct core *c, struct replica *r, struct member *m, bool commit_due)
{
    const struct peer *peer = &c->peers[m->node];
    if (peer->incarnation == 0)
        return;
    if (!m->synced) {
        bool ask = m->asked_ms == 0 || c->now_ms >= m->asked_ms + c->options.retransmit_ms;
        if (replica_current(r) && ask && (m->in_isr || r->opened)) {
            outbox_promise(&c->outbox, m->node, r->partition, r->promised_epoch);
            m->asked_ms = c->now_ms;
        }
        return;
    }
    if (r->opened && !m->in_isr && m->acked_seq + 1 < r->kept_seq && m->next_seq < r->kept_seq)
        set_adrift(c, r, m); /* there was no room to keep what it lacks */
    if (!r->opened || m->adrift)
        return;
    bool more = m->next_seq <= r->last.seq && m->next_seq <= window_end(c, r, m);
    if (more || (commit_due && m->told_commit < r->commit.seq))
        send_section(c, r, m);
    if (m->next_seq <= r->last.seq && m->next_seq <= window_end(c, r, m))
        core_touch(c, r); /* the message was full; the rest goes in the next turn */
}

void lead_flush(struct core *c, struct replica *r)
{
    bool commit_due = r->commit_due_ms != 0 && c->now_ms >= r->commit_due_ms;
    for (uint32_t i = 0; i < r->members_count; i++)
        flush_member(c, r, &r->members[i], commit_due);
    if (commit_due)
        r->commit_due_ms = 0;
}
