#include "storage/lease.h"

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"

/* How long whoever holds a lease on r may count on it: the primary's are short, for they bound the
 * wait for writes after its death; a replica's are long enough to read on until it has taken over. */
static uint64_t span_ms(const struct core *c, const struct replica *r, uint32_t holder)
{
    return holder == r->lead_node ? c->options.lease_primary_ms : c->options.lease_replica_ms;
}

/* The same for a lease of ours that giver has granted: by its options, should they differ. */
static uint64_t own_span_ms(const struct core *c, const struct replica *r,
                            const struct heartbeat *giver)
{
    uint64_t own = span_ms(c, r, c->options.index);
    uint64_t its = c->options.index == r->lead_node ? giver->lease_primary_ms
                                                    : giver->lease_replica_ms;
    return own < its ? own : its;
}

/* What the giver waits for a lease of span: clocks may differ by 1 % on each side. */
static uint64_t wait_ms(uint64_t span)
{
    return span + span * 21 / 1000 + 10;
}

uint64_t lease_longest_ms(const struct core *c)
{
    uint64_t a = c->options.lease_primary_ms, b = c->options.lease_replica_ms;
    uint64_t longest = a > b ? a : b;
    if (longest < c->options.lease_former_ms)
        longest = c->options.lease_former_ms;
    return wait_ms(longest);
}

/* Has r an epoch that leases may be about? */
static bool promised(const struct replica *r)
{
    return r->promised_epoch > 0 && r->promise_durable == r->promised_epoch;
}

/* A member that does not take what we send will be left out soon: it gets no more leases (F1). */
static bool falls_behind(const struct core *c, const struct replica *r, const struct member *m)
{
    return r->leads && m->synced && m->next_seq > m->acked_seq + 1 &&
           c->now_ms >= m->progress_ms + c->options.stall_ms / 2;
}

static bool may_grant(const struct core *c, const struct replica *r, const struct member *m)
{
    if (MUTANT(49) && !m->in_isr)
        return promised(r) && m->asks_epoch != 0;
    return promised(r) && r->config_epoch == r->promised_epoch && m->in_isr &&
           m->asks_epoch == r->promised_epoch && !falls_behind(c, r, m);
}

static void give(struct core *c, struct replica *r, struct member *m)
{
    uint64_t until = m->asks_ms + wait_ms(span_ms(c, r, m->node));
    if (until > m->granted_until_ms && !(MUTANT(49) && !m->in_isr))
        m->granted_until_ms = until;
    m->granted_epoch = r->promised_epoch;
}

void lease_ask(struct core *c, uint32_t node, struct heartbeat *h)
{
    uint32_t *partitions = arena_calloc(&c->arena, c->slots_count + 1u, sizeof *partitions);
    uint64_t *epochs = arena_calloc(&c->arena, c->slots_count + 1u, sizeof *epochs);
    if (partitions == NULL || epochs == NULL) {
        core_fail(c, STATUS_NOMEMORY);
        return;
    }
    h->partitions = partitions;
    h->epochs = epochs;
    for (int round = 0; round < 2; round++) {
        for (uint32_t slot = 1; slot <= c->slots_count; slot++) {
            struct replica *r = core_live(c, slot);
            struct member *m = r == NULL ? NULL : replica_member(r, node);
            if (m == NULL || !promised(r) || may_grant(c, r, m) != (round == 0))
                continue;
            if (round == 0)
                give(c, r, m);
            partitions[h->count] = r->partition;
            bool old = MUTANT(49) && round == 0;
            epochs[h->count++] = old ? m->asks_epoch : r->promised_epoch;
        }
        if (round == 0)
            h->granted_count = h->count;
    }
    h->lease_primary_ms = (uint32_t)c->options.lease_primary_ms;
    h->lease_replica_ms = (uint32_t)c->options.lease_replica_ms;
    h->leaving = c->leaving;
    h->sent_ms = c->now_ms;
    h->echo_ms = c->peers[node].echo_ms;
}

/* What a peer named before and does not name now, it has not promised. */
static void forget_asks(struct core *c, uint32_t node)
{
    for (uint32_t slot = 1; slot <= c->slots_count; slot++) {
        struct replica *r = core_live(c, slot);
        struct member *m = r == NULL ? NULL : replica_member(r, node);
        if (m != NULL)
            m->asks_epoch = 0;
    }
}

/* A grant counts if the epoch is still the one that we asked for. */
static void count(struct core *c, struct replica *r, struct member *m, uint64_t epoch,
                  const struct heartbeat *giver)
{
    uint64_t until = (MUTANT(12) ? c->now_ms : giver->echo_ms) + own_span_ms(c, r, giver);
    if (promised(r) && epoch == r->promised_epoch && r->config_epoch == epoch &&
        until > m->lease_until_ms)
        m->lease_until_ms = until;
}

bool lease_heard(struct core *c, const struct heartbeat *h)
{
    bool news = false, counts = h->echo_ms != 0 && h->target_incarnation == c->options.incarnation;
    if (h->sent_ms < c->peers[h->sender].echo_ms) /* overtaken by a later one */
        return false;
    c->peers[h->sender].leaving = h->leaving;
    if (h->count > 0 || c->peers[h->sender].named)
        forget_asks(c, h->sender);
    c->peers[h->sender].named = h->count > 0;
    for (size_t i = 0; i < h->count; i++) {
        struct replica *r = core_replica(c, h->partitions[i]);
        struct member *m = r == NULL ? NULL : replica_member(r, h->sender);
        if (m == NULL)
            continue;
        m->asks_epoch = h->epochs[i];
        m->asks_ms = c->now_ms;
        if (counts && i < h->granted_count)
            count(c, r, m, h->epochs[i], h);
        news = news || (may_grant(c, r, m) && m->granted_epoch != r->promised_epoch);
    }
    c->peers[h->sender].echo_ms = h->sent_ms;
    return news;
}

bool lease_holds(const struct replica *r, uint64_t now_ms)
{
    for (uint32_t i = 0; i < r->members_count; i++)
        if (r->members[i].in_isr && now_ms >= r->members[i].lease_until_ms)
            return false;
    return true;
}

uint64_t lease_fence_ms(const struct replica *r)
{
    uint64_t until = 0;
    for (uint32_t i = 0; i < r->members_count; i++)
        if (!r->members[i].in_isr && r->members[i].granted_until_ms > until)
            until = r->members[i].granted_until_ms;
    return until;
}
