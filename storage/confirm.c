#include "storage/confirm.h"

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "storage/epoch.h"
#include "storage/hold.h"
#include "storage/known.h"

static bool all_up(const struct core *c, const struct replica *r)
{
    for (uint32_t i = 0; i < r->members_count; i++)
        if (r->members[i].in_isr && !c->peers[r->members[i].node].up)
            return false;
    return true;
}

void confirm_wait(struct core *c, struct replica *r, const struct operation *op)
{
    ENSURE(op->arrival > 0);
    if (!r->leads && !all_up(c, r)) {
        hold_or_refuse(c, r, op);
        return;
    }
    hold_until(c, r, op);
    if (op->arrival > r->confirm_wanted)
        r->confirm_wanted = op->arrival;
    core_touch(c, r);
}

bool confirm_done(const struct replica *r, uint64_t arrival)
{
    ENSURE(arrival > 0);
    for (uint32_t i = 0; i < r->members_count; i++)
        if (r->members[i].in_isr && r->members[i].confirmed < arrival)
            return false;
    return true;
}

void confirm_asked(struct core *c, struct replica *r, uint32_t sender, uint64_t epoch,
                   uint64_t number)
{
    /* A disk that may be in the place of another one says nothing (U7). */
    if (epoch == r->promised_epoch && replica_current(r) && known_met(c))
        outbox_confirm(&c->outbox, sender, MESSAGE_CONFIRMED, r->partition, epoch, number);
}

void confirm_answered(struct core *c, struct replica *r, uint32_t sender, uint64_t epoch,
                      uint64_t number)
{
    struct member *m = replica_member(r, sender);
    if (m == NULL || epoch != r->promised_epoch || !epoch_member(r) || number > c->arrivals) {
        c->counters.stale_messages++;
        return;
    }
    if (MUTANT(65))
        number = c->arrivals;
    if (number > m->confirmed)
        m->confirmed = number;
    if (r->confirm_number == 0 || !confirm_done(r, r->confirm_number))
        return;
    hold_release(c, r);
    core_touch(c, r);
}

void confirm_forget(struct replica *r)
{
    r->confirm_wanted = r->confirm_number = r->confirm_asked_ms = 0;
    for (uint32_t i = 0; i < r->members_count; i++)
        r->members[i].confirmed = 0;
}

static bool under_way(const struct core *c, const struct replica *r)
{
    return r->confirm_number != 0 && !confirm_done(r, r->confirm_number) &&
           c->now_ms < r->confirm_asked_ms + c->options.retransmit_ms;
}

void confirm_flush(struct core *c, struct replica *r)
{
    if (r->confirm_wanted == 0 || under_way(c, r))
        return;
    if (r->held == NULL || confirm_done(r, r->confirm_wanted) || !epoch_member(r)) {
        r->confirm_wanted = 0;
        return;
    }
    r->confirm_number = c->arrivals;
    r->confirm_asked_ms = c->now_ms;
    c->counters.confirms++;
    c->counters.confirms_unled += !r->leads;
    for (uint32_t i = 0; i < r->members_count; i++) {
        const struct member *m = &r->members[i];
        if (m->in_isr && c->peers[m->node].incarnation != 0)
            outbox_confirm(&c->outbox, m->node, MESSAGE_CONFIRM, r->partition, r->promised_epoch,
                           r->confirm_number);
    }
}
