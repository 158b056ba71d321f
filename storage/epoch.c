#include "storage/epoch.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "proto/codec.h"
#include "storage/confirm.h"
#include "storage/hold.h"
#include "storage/known.h"
#include "storage/lead.h"
#include "storage/lease.h"
#include "storage/membership.h"
#include "storage/serve.h"
#include "storage/snapshot.h"

#define RANK_WAIT_MS    150u  /* the n-th survivor waits n times this for the first to act */
#define UNHEARD_MS      3000u /* a node that was not heard of since our start is waited for */
#define UNSYNCED_MS     1000u /* a member that answers heartbeats but does not promise is left out */
#define ADDING_MS       500u  /* an addition that holds up commits for so long is given up */
#define NEAR_ENTRIES    64u   /* a learner that lacks no more is near enough to be added */
#define BACK_OFF_MIN_MS 500u
#define BACK_OFF_MAX_MS 64000u
#define BACK_OFF_FORGET 10u   /* times of it, as a member, after which the past does not count */
#define HAND_BACK_MS    1000u /* an epoch is open for so long before its leadership moves on */
#define VALUE_MAX       1024u

/* A set of nodes, in order. */
struct group {
    uint32_t count;
    uint32_t nodes[COPIES_MAX];
};

static const struct clustermap_partition *config_of(const struct core *c, const struct replica *r)
{
    return &c->map->partitions[r->partition];
}

static bool contains(const uint32_t *nodes, uint32_t count, uint32_t node)
{
    for (uint32_t i = 0; i < count; i++)
        if (nodes[i] == node)
            return true;
    return false;
}

/* It is about to stop. */
static bool leaves(const struct core *c, uint32_t node)
{
    return node == c->options.index ? c->leaving : c->peers[node].leaving;
}

/* Rule L4: whatever a former life of this node has granted has run out. */
static bool settled(const struct core *c)
{
    return c->now_ms >= c->started_ms + lease_longest_ms(c) || MUTANT(13);
}

/* ------------------------------------------------------------------ proposing */

static void submit(struct core *c, struct replica *r, const struct clustermap_partition *next)
{
    struct buffer value;
    buffer_init(&value, VALUE_MAX);
    if (clustermap_encode_partition(next, &value) != STATUS_OK) {
        core_fail(c, STATUS_NOMEMORY);
    } else {
        r->ticket = registry_swap(c->registry, c->now_ms, REGISTRY_PARTITION(r->partition),
                                  r->config_version, buffer_view(&value));
    }
    buffer_fini(&value);
}

/* The next epoch, with these members. What the last opened epoch knew stays its base (F2). */
static void propose_next(struct core *c, struct replica *r, const struct group *isr,
                         uint32_t primary)
{
    const struct clustermap_partition *now = config_of(c, r);
    struct clustermap_partition next = *now;
    if (isr->count < c->map->isr_min || isr->count == 0)
        return;
    ENSURE(contains(isr->nodes, isr->count, primary));
    next.epoch = now->epoch + 1;
    next.opened = false;
    next.primary = primary;
    if (now->opened) {
        next.base_count = now->isr_count;
        memcpy(next.base, now->isr, sizeof next.base);
    }
    next.isr_count = isr->count;
    for (uint32_t i = 0; i < isr->count; i++) {
        next.isr[i] = isr->nodes[i];
        next.replica_ids[i] = clustermap_replica_id(c->map, r->partition, isr->nodes[i]);
    }
    if (r->leads && r->opened) {
        next.beacon_epoch = r->commit.epoch;
        next.beacon_seq = r->commit.seq;
    }
    submit(c, r, &next);
}

static void propose_open(struct core *c, struct replica *r)
{
    struct clustermap_partition next = *config_of(c, r);
    next.opened = true;
    next.base_count = next.isr_count;
    memcpy(next.base, next.isr, sizeof next.base);
    submit(c, r, &next);
}

/* ------------------------------------------------------------------ who is missing */

/* It gets what we send and does not acknowledge it, or does not promise. */
static bool hangs(const struct core *c, const struct replica *r, const struct member *m)
{
    if (!r->leads || !m->in_isr)
        return false;
    if (!m->synced)
        return r->promise_durable == r->promised_epoch && c->now_ms >= m->since_ms + UNSYNCED_MS;
    return r->opened && m->acked_seq < r->last.seq && m->owed_ms != 0 &&
           c->now_ms >= m->owed_ms + c->options.stall_ms;
}

static bool missing(const struct core *c, struct replica *r, uint32_t node)
{
    if (node == c->options.index || !settled(c))
        return false;
    /* Who has not been heard of in this life may only be slower to start. */
    if (c->peers[node].incarnation == 0 && c->now_ms < c->started_ms + UNHEARD_MS)
        return false;
    if (!c->peers[node].up)
        return true;
    const struct member *m = replica_member(r, node);
    return m != NULL && hangs(c, r, m);
}

static struct group without_missing(const struct core *c, struct replica *r, const struct group *of)
{
    struct group g = {0};
    for (uint32_t i = 0; i < of->count; i++)
        if (!missing(c, r, of->nodes[i]))
            g.nodes[g.count++] = of->nodes[i];
    return g;
}

/* ------------------------------------------------------------------ growing, moving back */

/* One member more, when it has everything (G1). */
static bool grow(struct core *c, struct replica *r, struct member *m)
{
    const struct clustermap_partition *now = config_of(c, r);
    struct group isr = {.count = now->isr_count};
    if (!m->adding || !m->synced || m->adrift || m->acked_seq < m->mark_seq ||
        now->isr_count >= COPIES_MAX)
        return false;
    memcpy(isr.nodes, now->isr, sizeof isr.nodes);
    isr.nodes[isr.count++] = m->node;
    propose_next(c, r, &isr, c->options.index);
    c->counters.grown += r->ticket != 0;
    return r->ticket != 0;
}

static bool any_adding(const struct replica *r)
{
    for (uint32_t i = 0; i < r->members_count; i++)
        if (r->members[i].adding)
            return true;
    return false;
}

/* From now on its acknowledgement counts; nothing is committed that it lacks. */
static void begin_adding(struct core *c, struct replica *r, struct member *m)
{
    if (!m->synced || m->adrift || !c->peers[m->node].up || leaves(c, m->node) || any_adding(r) ||
        c->now_ms < m->since_ms + m->back_off_ms || m->acked_seq + NEAR_ENTRIES < r->last.seq)
        return;
    c->counters.additions++;
    m->adding = true;
    m->adding_ms = c->now_ms;
    m->mark_seq = MUTANT(9) ? m->acked_seq : r->last.seq;
    core_touch(c, r);
}

static void consider_growth(struct core *c, struct replica *r)
{
    for (uint32_t i = 0; i < r->members_count && r->ticket == 0; i++) {
        struct member *m = &r->members[i];
        if (m->in_isr)
            continue;
        if (grow(c, r, m))
            return;
        bool late = m->adding && c->now_ms >= m->adding_ms + ADDING_MS;
        if (late || !c->peers[m->node].up) {
            c->counters.additions_dropped += m->adding;
            m->adding = false;
        } else if (!m->adding) {
            begin_adding(c, r, m);
        }
    }
}

/* Who is to lead after us; NULL: nobody can. Placement's order decides. */
static const struct member *heir(const struct core *c, struct replica *r)
{
    const struct clustermap_partition *now = config_of(c, r);
    for (uint32_t i = 0; i < now->assigned_count; i++) {
        const struct member *m = replica_member(r, now->assigned[i]);
        if (m != NULL && m->in_isr && m->synced && c->peers[m->node].up && !leaves(c, m->node))
            return m;
    }
    return NULL;
}

/* Is there somebody who may become an heir? */
static bool heir_to_come(const struct core *c, const struct replica *r)
{
    for (uint32_t i = 0; i < r->members_count; i++)
        if (c->peers[r->members[i].node].up && !leaves(c, r->members[i].node))
            return true;
    return false;
}

/* We are about to stop: the heir gets it, without us if that may be. */
static void consider_leaving(struct core *c, struct replica *r)
{
    const struct clustermap_partition *now = config_of(c, r);
    const struct member *m = heir(c, r);
    struct group isr = {0};
    r->handing_over = m != NULL;
    if (m == NULL)
        consider_growth(c, r);
    if (m == NULL || replica_pending_count(r) > 0)
        return;
    for (uint32_t i = 0; i < now->isr_count; i++)
        if (now->isr[i] != c->options.index || now->isr_count <= c->map->isr_min)
            isr.nodes[isr.count++] = now->isr[i];
    propose_next(c, r, &isr, m->node);
}

/* A member is about to stop: nobody has to wait for it to be missed. */
static bool consider_departures(struct core *c, struct replica *r)
{
    const struct clustermap_partition *now = config_of(c, r);
    struct group isr = {0};
    for (uint32_t i = 0; i < now->isr_count; i++)
        if (!leaves(c, now->isr[i]))
            isr.nodes[isr.count++] = now->isr[i];
    if (isr.count == now->isr_count || isr.count < c->map->isr_min)
        return false;
    propose_next(c, r, &isr, c->options.index);
    return true;
}

/* Leadership goes to whom placement names first. Writes under way are finished before. */
static void consider_hand_back(struct core *c, struct replica *r)
{
    const struct clustermap_partition *now = config_of(c, r);
    uint32_t first = now->assigned_count == 0 ? c->options.index : now->assigned[0];
    const struct member *m = first == c->options.index ? NULL : replica_member(r, first);
    bool wanted = m != NULL && m->in_isr && m->synced && c->peers[first].up && !leaves(c, first) &&
                  !any_adding(r) && c->now_ms >= r->opened_ms + HAND_BACK_MS;
    r->handing_over = wanted;
    if (!wanted || replica_pending_count(r) > 0 || r->ticket != 0)
        return;
    struct group isr = {.count = now->isr_count};
    memcpy(isr.nodes, now->isr, sizeof isr.nodes);
    propose_next(c, r, &isr, first);
    c->counters.hand_backs += r->ticket != 0;
}

/* ------------------------------------------------------------------ our own disk */

/* F1. Half the time after which a member is left out that does not acknowledge: nobody else sees it. */
static bool disk_stalls(const struct core *c)
{
    return c->durable_lsn + 1 < c->next_lsn && c->now_ms >= c->synced_ms + c->options.stall_ms / 2 &&
           !MUTANT(66);
}

/* The first in placement's order whose disk goes on: it has what ours has not. NULL: none has. */
static const struct member *ahead_of_us(const struct core *c, struct replica *r)
{
    const struct clustermap_partition *now = config_of(c, r);
    for (uint32_t i = 0; i < now->assigned_count; i++) {
        const struct member *m = replica_member(r, now->assigned[i]);
        if (m != NULL && m->in_isr && m->synced && m->acked_seq > r->durable_seq &&
            c->peers[m->node].up && !leaves(c, m->node))
            return m;
    }
    return NULL;
}

/* Nothing is committed while our own disk stands still: another leads, and without us. What is under
 * way it has, or it was never committed. */
static bool consider_stall(struct core *c, struct replica *r)
{
    const struct clustermap_partition *now = config_of(c, r);
    struct group isr = {0};
    if (!disk_stalls(c) || now->isr_count <= c->map->isr_min)
        return false;
    const struct member *m = ahead_of_us(c, r);
    if (m == NULL)
        return false;
    for (uint32_t i = 0; i < now->isr_count; i++)
        if (now->isr[i] != c->options.index)
            isr.nodes[isr.count++] = now->isr[i];
    propose_next(c, r, &isr, m->node);
    c->counters.hand_overs += r->ticket != 0;
    return true;
}

/* ------------------------------------------------------------------ considering */

/* Who may be in the next epoch: a subset of these (F2). */
static struct group allowed(const struct clustermap_partition *p)
{
    struct group g = {.count = p->opened ? p->isr_count : p->base_count};
    memcpy(g.nodes, p->opened ? p->isr : p->base, sizeof g.nodes);
    if (MUTANT(50)) {
        g.count = p->isr_count;
        memcpy(g.nodes, p->isr, sizeof g.nodes);
    }
    if (MUTANT(20)) {
        g.count = p->assigned_count;
        memcpy(g.nodes, p->assigned, sizeof g.nodes);
    }
    return g;
}

static bool all_promised(const struct replica *r)
{
    for (uint32_t i = 0; i < r->members_count; i++)
        if (r->members[i].in_isr && !r->members[i].synced)
            return false;
    return true;
}

static bool any_missing(const struct core *c, struct replica *r)
{
    for (uint32_t i = 0; i < r->members_count; i++)
        if (r->members[i].in_isr && missing(c, r, r->members[i].node))
            return true;
    return false;
}

static void count_proposal(struct core *c, const struct replica *r, uint64_t *counter)
{
    if (r->ticket == 0)
        return;
    (*counter)++;
    c->counters.takeovers_unopened += !config_of(c, r)->opened;
}

/* We are the primary of the register. */
static void consider_leading(struct core *c, struct replica *r)
{
    const struct clustermap_partition *now = config_of(c, r);
    struct group g = allowed(now);
    bool old_life = !r->leads; /* F6 */
    if (old_life || any_missing(c, r)) {
        if (!contains(g.nodes, g.count, c->options.index))
            return;
        g = without_missing(c, r, &g);
        propose_next(c, r, &g, c->options.index);
        count_proposal(c, r, old_life ? &c->counters.new_lives : &c->counters.left_out);
        return;
    }
    if (!now->opened) {
        if (replica_current(r) && all_promised(r) && (settled(c) || r->boot_promised == 0))
            propose_open(c, r);
        return;
    }
    if (!r->opened || consider_stall(c, r))
        return;
    if (c->leaving) {
        consider_leaving(c, r);
    } else if (!consider_departures(c, r)) {
        consider_growth(c, r);
        consider_hand_back(c, r);
    }
}

/* Somebody else is; is he there? */
static void consider_following(struct core *c, struct replica *r)
{
    const struct clustermap_partition *now = config_of(c, r);
    struct group g = allowed(now);
    if (!contains(g.nodes, g.count, c->options.index) || !missing(c, r, now->primary)) {
        r->suspected_ms = 0;
        return;
    }
    if (r->suspected_ms == 0)
        r->suspected_ms = c->now_ms;
    g = without_missing(c, r, &g);
    uint32_t rank = 0;
    for (uint32_t i = 0; i < now->assigned_count && now->assigned[i] != c->options.index; i++)
        rank += contains(g.nodes, g.count, now->assigned[i]);
    if (c->now_ms < r->suspected_ms + rank * RANK_WAIT_MS)
        return;
    propose_next(c, r, &g, c->options.index);
    count_proposal(c, r, &c->counters.takeovers);
}

void epoch_consider(struct core *c, struct replica *r)
{
    if (r->ticket != 0 || c->failed != STATUS_OK || !known_met(c))
        return;
    if (config_of(c, r)->primary == c->options.index)
        consider_leading(c, r);
    else
        consider_following(c, r);
}

/* ------------------------------------------------------------------ adopting */

/* m was left out, after it was a member for member_ms: the shorter that was in relation, the longer
 * it waits. */
static void back_off(struct member *m, uint64_t member_ms)
{
    if (m->back_off_ms == 0 || member_ms > BACK_OFF_FORGET * m->back_off_ms)
        m->back_off_ms = BACK_OFF_MIN_MS;
    else if (m->back_off_ms < BACK_OFF_MAX_MS)
        m->back_off_ms *= 2;
}

/* opened: our former epoch was. joins: we were no member of it. */
static void enter_member(struct core *c, const struct replica *r,
                         const struct clustermap_partition *p, struct member *m, bool opened,
                         bool joins)
{
    bool was = m->in_isr;
    if (was && opened && r->commit.seq > m->had_seq)
        m->had_seq = r->commit.seq;
    m->in_isr = contains(p->isr, p->isr_count, m->node);
    m->adding = m->synced = m->adrift = false;
    snapshot_end(c, m);
    m->asked_ms = m->owed_ms = 0;
    uint64_t member_ms = c->now_ms - m->joined_ms;
    if (!was && m->in_isr)
        m->joined_ms = c->now_ms;
    if (was != m->in_isr || m->in_isr)
        m->since_ms = c->now_ms;
    if (was && !m->in_isr)
        back_off(m, member_ms);
    m->lease_until_ms = 0; /* it was about another epoch */
    /* A newcomer has granted nobody anything, but those before it have, and may be gone by the time
     * that it decides alone: it waits as if it had. */
    uint64_t until = c->now_ms + lease_longest_ms(c);
    if (joins && !m->in_isr && m->granted_until_ms < until)
        m->granted_until_ms = until;
    if (MUTANT(52) && !was)
        m->granted_until_ms = 0;
}

/* An epoch that we had not heard of. */
static void enter(struct core *c, struct replica *r, const struct clustermap_partition *p)
{
    bool joins = !r->in_isr && contains(p->isr, p->isr_count, c->options.index);
    bool opened = r->opened && r->in_isr;
    r->config_epoch = p->epoch;
    r->lead_node = p->primary;
    r->in_isr = contains(p->isr, p->isr_count, c->options.index);
    /* F6; and a disk that is new here knows nothing of what it promised (U7). */
    r->leads = p->primary == c->options.index && known_met(c) &&
               (p->epoch > r->boot_promised || MUTANT(43));
    r->opened = r->handing_over = false;
    r->lead_incarnation = r->suspected_ms = 0;
    for (uint32_t i = 0; i < r->members_count; i++)
        enter_member(c, r, p, &r->members[i], opened, joins);
    confirm_forget(r);
    if (r->in_isr && p->beacon_seq > r->last.seq && !MUTANT(21)) { /* U2: it was on this disk */
        core_lost(c, r, p->beacon_seq);
        return;
    }
    if (!r->leads)
        serve_refuse_readers(c, r);
    replica_forget_kept(c, r, !r->leads);
    if (r->leads && p->epoch > r->promised_epoch)
        replica_promise(c, r, p->epoch);
    core_touch(c, r);
}

void epoch_adopt(struct core *c, struct replica *r)
{
    const struct clustermap_partition *p = config_of(c, r);
    if (p->version == r->config_version)
        return;
    if (p->epoch > r->config_epoch || r->config_version == 0)
        enter(c, r, p);
    r->config_version = p->version;
    epoch_open_known(c, r);
    epoch_consider(c, r);
    hold_release(c, r);
}

void epoch_open_known(struct core *c, struct replica *r)
{
    const struct clustermap_partition *p = config_of(c, r);
    if (r->opened || !p->opened || p->epoch != r->config_epoch || !replica_current(r) ||
        c->failed != STATUS_OK)
        return;
    r->opened = true;
    r->opened_ms = c->now_ms;
    if (r->leads)
        lead_open(c, r);
    hold_release(c, r);
}

static void set_leaving(struct core *c, bool leaving)
{
    c->leaving = leaving;
    for (uint32_t i = 0; i < c->peers_count; i++)
        c->peers[i].heartbeat_due = true;
    epoch_tick(c);
}

void epoch_leave(struct core *c)
{
    set_leaving(c, true);
}

void epoch_stay(struct core *c)
{
    set_leaving(c, false);
}

/* Does somebody wait for us? Who leads is to leave us out, or to take over; when he cannot, or
 * leaves, too, there is nothing to wait for. */
static bool left(const struct core *c, struct replica *r)
{
    const struct clustermap_partition *now = config_of(c, r);
    if (r->ticket != 0)
        return false;
    if (now->primary == c->options.index)
        return !heir_to_come(c, r);
    return !contains(now->isr, now->isr_count, c->options.index) || !c->peers[now->primary].up ||
           leaves(c, now->primary) || now->isr_count <= c->map->isr_min;
}

bool epoch_left(const struct core *c)
{
    for (uint32_t slot = 1; slot <= c->slots_count; slot++)
        if (core_live(c, slot) != NULL && !left(c, core_live(c, slot)))
            return false;
    return c->leaving;
}

void epoch_adopt_all(struct core *c)
{
    for (uint32_t slot = 1; slot <= c->slots_count && c->failed == STATUS_OK; slot++)
        if (core_live(c, slot) != NULL)
            epoch_adopt(c, core_live(c, slot));
}

/* ------------------------------------------------------------------ the registry */

static void add_news(struct core *c, uint32_t partition)
{
    for (uint32_t i = c->news_count; i-- > 0;)
        if (c->news[i] == partition)
            return;
    if (c->news_count < c->map->partition_count)
        c->news[c->news_count++] = partition;
}

/* Whatever the outcome: the register says what is, and it may be what we wanted. */
static void on_ended(void *arg, uint64_t ticket, uint32_t number, enum registry_outcome outcome,
                     uint64_t version, struct bytes value)
{
    struct core *c = arg;
    bool changed = false;
    c->counters.collisions += outcome == REGISTRY_CONFLICT;
    membership_moved(c, number);
    if (number < REGISTRY_PARTITION(0)) {
        membership_ended(c, number, version, value);
        return;
    }
    uint32_t partition = number - REGISTRY_PARTITION(0);
    ENSURE(number >= REGISTRY_PARTITION(0) && partition < c->map->partition_count);
    enum status status =
        clustermap_take_partition(c->map, partition, version, value, &changed);
    if (status != STATUS_OK) {
        core_fail(c, status == STATUS_NOMEMORY ? status : STATUS_CORRUPT);
        return;
    }
    if (changed)
        add_news(c, partition);
    struct replica *r = c->by_partition[partition];
    if (r == NULL)
        return;
    if (r->ticket == ticket)
        r->ticket = 0;
    epoch_adopt(c, r);
}

static uint64_t on_log(void *arg, struct bytes body)
{
    return core_record(arg, RECORD_REGISTER, 0, body);
}

static void on_send(void *arg, uint32_t node, const struct registry_message *m)
{
    struct core *c = arg;
    if (node >= c->peers_count || c->peers[node].incarnation == 0)
        return;
    struct registry_message full = *m;
    full.sender = c->options.index;
    full.incarnation = c->options.incarnation;
    full.target_incarnation = c->peers[node].incarnation;
    struct buffer *frame = outbox_frame(&c->outbox, node, LANE_CONTROL);
    if (frame != NULL)
        core_packed(c, codec_pack_registry(&full, frame));
}

static enum status found_all(struct core *c)
{
    struct buffer value;
    enum status status = STATUS_OK;
    buffer_init(&value, VALUE_MAX);
    for (uint32_t p = 0; status == STATUS_OK && p < c->map->partition_count; p++) {
        if (c->map->partitions[p].version != 1) /* the map is that of a former life */
            continue;
        buffer_clear(&value);
        status = clustermap_encode_partition(&c->map->partitions[p], &value);
        if (status == STATUS_OK)
            status = registry_found(c->registry, REGISTRY_PARTITION(p), buffer_view(&value));
    }
    buffer_fini(&value);
    return status;
}

enum status epoch_init(struct core *c)
{
    struct registry_options options = {.self = c->options.index,
                                       .incarnation = c->options.incarnation,
                                       .registers_count =
                                           REGISTRY_PARTITION(c->map->partition_count),
                                       .random = c->options.random,
                                       .retry_min_ms = 20,
                                       .retry_max_ms = 500};
    struct registry_host host = {c, on_log, on_send, on_ended};
    struct registry_voters voters = membership_voters_of(c->map);
    c->news = calloc(c->map->partition_count, sizeof *c->news);
    c->registry = registry_new(&options, &host, &voters);
    return c->news == NULL || c->registry == NULL ? STATUS_NOMEMORY : found_all(c);
}

void epoch_tick(struct core *c)
{
    for (uint32_t slot = 1; slot <= c->slots_count; slot++)
        if (core_live(c, slot) != NULL)
            epoch_consider(c, core_live(c, slot));
}

void epoch_flush(struct core *c)
{
    registry_tick(c->registry, c->now_ms);
    registry_flush(c->registry);
    if (c->news_count == 0)
        return;
    for (uint32_t i = 0; i < c->peers_count; i++) {
        if (i == c->options.index || c->peers[i].incarnation == 0 || !c->peers[i].up)
            continue;
        struct buffer *frame = outbox_frame(&c->outbox, i, LANE_CONTROL);
        if (frame != NULL)
            core_packed(c, clustermap_pack_partitions(c->map, c->news, c->news_count, frame));
    }
    c->news_count = 0;
}

bool epoch_member(const struct replica *r)
{
    /* The founding epoch, 0, is nobody's: an empty disk would show that nothing is there. */
    return r->promised_epoch > 0 && r->in_isr && r->opened && replica_current(r);
}

bool epoch_readable(const struct replica *r, uint64_t now_ms)
{
    return epoch_member(r) && lease_holds(r, now_ms);
}
