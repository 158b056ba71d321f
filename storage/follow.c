#include "storage/follow.h"

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "storage/known.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void follow_promise(struct core *c, struct replica *r, uint64_t incarnation, uint64_t epoch)
{
    ENSURE(!r->leads);
    if (epoch != r->config_epoch || epoch < r->promised_epoch) {
        c->counters.stale_messages++;
        return;
    }
    if (MUTANT(7) && epoch > r->promised_epoch)
        replica_truncate(c, r, r->commit.seq + 1);
    if (epoch > r->promised_epoch)
        replica_promise(c, r, epoch);
    r->lead_incarnation = incarnation;
    r->promised_due = true;
    core_touch(c, r);
}

/* Rules W6 and R3: the primary's word, or, where we two are all members, what both disks have. A
 * learner may hear of commits before its own disk has them. */
static void try_commit(struct core *c, struct replica *r)
{
    uint64_t seq = r->lead_commit;
    bool two = r->in_isr && replica_copies(r) == 2;
    if (two && (!r->lead_waits || MUTANT(53))) {
        uint64_t both = MUTANT(3) ? r->durable_seq : smaller(r->durable_seq, r->lead_durable);
        if (both > seq)
            seq = both;
    }
    if (!MUTANT(5))
        seq = smaller(seq, r->verified_seq);
    seq = smaller(seq, r->in_isr ? r->last.seq : r->durable_seq);
    if (seq > r->commit.seq)
        replica_commit(c, r, seq);
}

void follow_durable(struct core *c, struct replica *r)
{
    if (smaller(r->verified_seq, r->durable_seq) > r->acked_seq)
        r->ack_due = true;
    try_commit(c, r);
    core_touch(c, r);
}

/* Take one entry that follows `prev` in the primary's log. False: nonsense. */
static bool accept(struct core *c, struct replica *r, struct bytes padded, struct position *prev)
{
    struct bytes body = record_entry_trim(padded);
    struct effect effects[ENTRY_EFFECTS_MAX];
    struct entry e;
    uint64_t hash, known;
    if (body.size == 0 || record_entry_decode(body, &e, effects) != STATUS_OK)
        return false;
    if (e.seq != prev->seq + 1 || e.prev_hash != prev->hash || e.epoch > r->promised_epoch)
        return false;
    hash = record_entry_hash(body, e.prev_hash);
    *prev = (struct position){e.epoch, e.seq, hash};
    if (e.seq < r->commit.seq)
        return true;
    if (replica_hash(r, e.seq, &known)) {
        if (known == hash)
            return true;
        if (e.seq <= r->commit.seq)
            return false; /* the primary contradicts what is committed: never follow */
        replica_truncate(c, r, e.seq);
    }
    if (replica_append(c, r, body) == NULL)
        return false;
    if (MUTANT(27))
        replica_remember(c, r, &e);
    return true;
}

/* Does the section continue something that we have? */
static bool fits(const struct replica *r, const struct follow_section *s)
{
    uint64_t known;
    if (s->prev_seq < r->commit.seq)
        return true; /* begins in what is committed, which both have */
    return replica_hash(r, s->prev_seq, &known) && known == s->prev_hash;
}

static void accept_all(struct core *c, struct replica *r, const struct follow_section *s)
{
    struct position at = {s->prev_epoch, s->prev_seq, s->prev_hash};
    for (size_t i = 0; i < s->entries_count && c->failed == STATUS_OK; i++) {
        if (accept(c, r, s->entries[i], &at))
            continue;
        c->counters.malformed++;
        break;
    }
    if (at.seq > r->verified_seq && at.seq <= r->last.seq)
        r->verified_seq = at.seq;
    /* What is new here is acknowledged once it is durable; what was sent again already is. */
    if (s->entries_count > 0 && (at.seq <= r->durable_seq || MUTANT(4)))
        r->ack_due = true;
}

void follow_append(struct core *c, struct replica *r, uint64_t incarnation,
                   const struct follow_section *s)
{
    if (r->leads || s->epoch != r->promised_epoch || incarnation != r->lead_incarnation) {
        c->counters.stale_messages++;
        return;
    }
    if ((s->flags & APPEND_LACKS) != 0) {
        if (s->commit_seq > r->last.seq)
            core_lost(c, r, s->commit_seq);
        return;
    }
    if (r->in_isr && s->commit_seq > r->last.seq) { /* all of the ISR had it on their disks */
        core_lost(c, r, s->commit_seq);
        return;
    }
    if (!r->opened && r->promise_durable == r->promised_epoch) {
        r->opened = true; /* nothing is sent before */
        r->opened_ms = c->now_ms;
    }
    if (s->durable_seq > r->lead_durable)
        r->lead_durable = s->durable_seq;
    r->lead_waits = (s->flags & APPEND_WAITS) != 0;
    r->ack_gap = !fits(r, s);
    if (r->ack_gap)
        c->counters.gaps++;
    else
        accept_all(c, r, s);
    r->ack_due = r->ack_due || r->ack_gap;
    if (s->commit_seq > r->lead_commit)
        r->lead_commit = s->commit_seq;
    try_commit(c, r);
    core_touch(c, r);
}

void follow_tick(struct core *c, struct replica *r)
{
    const struct pending *oldest = replica_pending(r, r->commit.seq + 1);
    bool waits = oldest != NULL && r->lead_incarnation != 0 &&
                 c->now_ms >= r->asked_ms + c->options.retransmit_ms &&
                 c->now_ms >= oldest->logged_ms + c->options.retransmit_ms;
    if (!waits)
        return;
    r->asked_ms = c->now_ms;
    r->ack_due = true;
    core_touch(c, r);
}

static void flush_promised(struct core *c, struct replica *r)
{
    struct outbox_promised p = {.partition = r->partition,
                                .epoch = r->promised_epoch,
                                .commit_epoch = r->commit.epoch,
                                .commit_seq = r->commit.seq,
                                .commit_hash = r->commit.hash,
                                .last_seq = r->last.seq};
    outbox_promised_add(&c->outbox, r->lead_node, &p);
    r->promised_due = false;
}

/* Rule W4: the smaller of what is durable and what this epoch verified; never "my last". */
static void flush_ack(struct core *c, struct replica *r)
{
    struct outbox_ack a = {.partition = r->partition, .epoch = r->promised_epoch};
    a.verified_seq = smaller(r->verified_seq, r->durable_seq);
    if (MUTANT(4))
        a.verified_seq = r->last.seq;
    if (a.verified_seq < r->commit.seq)
        a.verified_seq = r->commit.seq;
    a.flags = r->ack_gap ? ACK_GAP : 0;
    ENSURE(replica_hash(r, a.verified_seq, &a.hash));
    outbox_ack_add(&c->outbox, r->lead_node, &a);
    r->acked_seq = a.verified_seq;
    r->ack_due = r->ack_gap = false;
}

void follow_flush(struct core *c, struct replica *r)
{
    if (c->peers[r->lead_node].incarnation == 0)
        return;
    /* Nothing is acknowledged from a disk that may be in the place of another one (U7). */
    if (r->promised_due && r->promise_durable >= r->promised_epoch && known_met(c))
        flush_promised(c, r);
    if (r->ack_due && r->lead_incarnation != 0 && r->promise_durable >= r->promised_epoch)
        flush_ack(c, r);
}
