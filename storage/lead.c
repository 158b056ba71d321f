#include "storage/lead.h"

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "storage/serve.h"

void lead_begin(struct core *c, struct replica *r)
{
    ENSURE(r->leads);
    /* Rule F6: an epoch of an earlier incarnation may have entries out there that this log lost. */
    if (MUTANT(43) && r->promised_epoch > 0)
        r->promise_durable = r->promised_epoch;
    else
        replica_promise(c, r, r->promised_epoch + 1);
    core_touch(c, r);
}

static struct member *member_of(struct replica *r, uint32_t node)
{
    for (uint32_t i = 0; i < r->members_count; i++)
        if (r->members[i].node == node)
            return &r->members[i];
    return NULL;
}

/* The oldest entry is not committed though it was logged long ago. */
static bool stalled(const struct core *c, const struct replica *r)
{
    const struct pending *oldest = replica_pending(r, r->commit.seq + 1);
    return oldest != NULL && c->now_ms >= oldest->logged_ms + c->options.suspect_ms;
}

bool lead_writable(const struct core *c, const struct replica *r)
{
    if (!r->opened || stalled(c, r))
        return false;
    for (uint32_t i = 0; i < r->members_count; i++)
        if (!r->members[i].synced || !c->peers[r->members[i].node].up)
            return false;
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
    e->ptime = r->ptime > c->wall_ms ? r->ptime : c->wall_ms;
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

/* All members have promised and our own promise is durable: the epoch may be used. */
static void try_open(struct core *c, struct replica *r)
{
    if (r->opened || r->promise_durable < r->promised_epoch)
        return;
    for (uint32_t i = 0; i < r->members_count; i++)
        if (!r->members[i].synced)
            return;
    r->opened = r->met = true;
    clustermap_set_epoch(c->map, r->partition, r->promised_epoch);
    /* Its commit proves the whole suffix, and cuts off what a member has beyond it. */
    struct entry first = {.kind = ENTRY_EPOCH};
    lead_log(c, r, &first, 0);
}

static void try_commit(struct core *c, struct replica *r)
{
    uint64_t seq = r->durable_seq;
    for (uint32_t i = 0; i < r->members_count; i++) {
        const struct member *m = &r->members[i];
        if (!m->synced)
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
    try_open(c, r);
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

void lead_promised(struct core *c, struct replica *r, uint32_t node, uint64_t epoch,
                   const struct position *commit)
{
    struct member *m = member_of(r, node);
    if (m == NULL || m->synced)
        return;
    if (epoch > r->promised_epoch) { /* our disk forgot an epoch that was used */
        r->opened = false;
        for (uint32_t i = 0; i < r->members_count; i++)
            r->members[i].synced = false;
        replica_promise(c, r, epoch + 1);
        core_touch(c, r);
        return;
    }
    if (epoch < r->promised_epoch)
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
    m->acked_seq = commit->seq;
    m->next_seq = r->commit.seq + 1;
    m->progress_ms = c->now_ms;
    m->told_commit = m->told_durable = 0;
    r->commit_due_ms = c->now_ms; /* it must not wait for the next write to hear of the commit */
    try_open(c, r);
    core_touch(c, r);
}

void lead_ack(struct core *c, struct replica *r, uint32_t node, uint64_t epoch, uint64_t seq,
              uint64_t hash, bool gap)
{
    struct member *m = member_of(r, node);
    uint64_t known;
    if (m == NULL || !m->synced || epoch != r->promised_epoch || seq > r->last.seq)
        return;
    if (seq >= r->commit.seq && (!replica_hash(r, seq, &known) || known != hash)) {
        c->counters.gaps++;
        return;
    }
    if (seq > m->acked_seq) {
        m->acked_seq = seq;
        m->progress_ms = c->now_ms;
        if (m->next_seq <= seq)
            m->next_seq = seq + 1;
        try_commit(c, r);
    } else if (seq <= r->commit.seq) {
        /* It says again what we know: it has not heard of the commit. */
        m->told_commit = 0;
        r->commit_due_ms = c->now_ms;
    }
    if (gap && m->next_seq > m->acked_seq + 1) {
        c->counters.gaps++;
        m->next_seq = (m->acked_seq > r->commit.seq ? m->acked_seq : r->commit.seq) + 1;
        m->progress_ms = c->now_ms;
    }
    core_touch(c, r);
}

void lead_member_lost(struct core *c, struct replica *r, uint32_t node)
{
    struct member *m = member_of(r, node);
    if (m == NULL)
        return;
    m->synced = false;
    m->asked_ms = 0;
    serve_refuse_readers(c, r, STATUS_UNAVAILABLE);
    core_touch(c, r);
}

/* Completion records that are too old, or too many, go by a logged entry, so that they go on every
 * copy at the same place. */
static void expire_records(struct core *c, struct replica *r)
{
    uint64_t now = r->ptime > c->wall_ms ? r->ptime : c->wall_ms;
    uint64_t horizon = completion_horizon_wanted(r->completion, now);
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
        if (!m->synced) {
            core_touch(c, r);
        } else if (late && m->next_seq > m->acked_seq + 1 && m->next_seq > r->commit.seq + 1) {
            c->counters.retransmits++;
            m->next_seq = (m->acked_seq > r->commit.seq ? m->acked_seq : r->commit.seq) + 1;
            m->progress_ms = c->now_ms;
            core_touch(c, r);
        }
    }
    if (stalled(c, r))
        serve_refuse_readers(c, r, STATUS_UNAVAILABLE);
    expire_records(c, r);
}

/* Where the log stands before seq: what an APPEND that begins with seq must match. */
static struct position position_before(const struct replica *r, uint64_t seq)
{
    const struct pending *p = replica_pending(r, seq - 1);
    if (p == NULL)
        return r->commit;
    return (struct position){p->entry.epoch, p->entry.seq, p->hash};
}

static void send_section(struct core *c, struct replica *r, struct member *m)
{
    if (m->next_seq <= r->commit.seq)
        m->next_seq = r->commit.seq + 1;
    struct position prev = position_before(r, m->next_seq);
    struct outbox_section s = {.partition = r->partition,
                               .epoch = r->promised_epoch,
                               .prev_epoch = prev.epoch,
                               .prev_seq = prev.seq,
                               .prev_hash = prev.hash,
                               .commit_seq = r->commit.seq,
                               .durable_seq = r->durable_seq};
    if (m->next_seq == m->acked_seq + 1)
        m->progress_ms = c->now_ms;
    outbox_section(&c->outbox, m->node, &s);
    for (; m->next_seq <= r->last.seq; m->next_seq++) {
        const struct pending *p = replica_pending(r, m->next_seq);
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
        if (r->promise_durable == r->promised_epoch && ask) {
            outbox_promise(&c->outbox, m->node, r->partition, r->promised_epoch);
            m->asked_ms = c->now_ms;
        }
        return;
    }
    if (r->opened && (m->next_seq <= r->last.seq || (commit_due && m->told_commit < r->commit.seq)))
        send_section(c, r, m);
    if (m->next_seq <= r->last.seq)
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
