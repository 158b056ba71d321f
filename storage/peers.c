#include "storage/peers.h"

#include "proto/codec.h"
#include "storage/confirm.h"
#include "storage/epoch.h"
#include "storage/follow.h"
#include "storage/known.h"
#include "storage/lead.h"
#include "storage/lease.h"
#include "storage/membership.h"
#include "storage/serve.h"
#include "storage/snapshot.h"

#define SUSPECT_TIMES_MAX 5u     /* the most that suspicion is put off, in times of suspect_ms */
#define RAISED_MS         60000u /* and for how long */

/* Everybody talks to the voters. Are we one of these? */
static bool find_voters(struct core *c, const uint32_t *nodes, uint32_t count)
{
    bool voter = false;
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i] < c->peers_count)
            c->peers[nodes[i]].shares = true;
        voter = voter || nodes[i] == c->options.index;
    }
    return voter;
}

void peers_find(struct core *c)
{
    for (uint32_t i = 0; i < c->peers_count; i++)
        if (c->peers[i].suspect_ms == 0)
            c->peers[i].suspect_ms = c->options.suspect_ms;
    for (uint32_t p = 0; p < c->map->partition_count; p++) {
        const struct clustermap_partition *part = &c->map->partitions[p];
        if (!core_assigned(part, c->options.index))
            continue;
        for (uint32_t i = 0; i < part->assigned_count; i++)
            c->peers[part->assigned[i]].shares = true;
    }
    bool voter = find_voters(c, c->map->voters.nodes, c->map->voters.count);
    voter = find_voters(c, c->map->voters.next, c->map->voters.next_count) || voter;
    for (uint32_t i = 0; i < c->peers_count; i++)
        c->peers[i].shares = (c->peers[i].shares || voter) && i != c->options.index;
}

/* node has restarted: what it was sent or had promised in memory is gone. */
static void peer_restarted(struct core *c, uint32_t node, uint64_t incarnation)
{
    c->peers[node].incarnation = incarnation;
    c->peers[node].born_ms = c->now_ms;
    c->peers[node].echo_ms = 0;
    outbox_set_target(&c->outbox, node, incarnation);
    for (uint32_t slot = 1; slot <= c->slots_count; slot++) {
        struct replica *r = core_live(c, slot);
        if (r != NULL && r->leads)
            lead_member_lost(c, r, node);
        else if (r != NULL && r->lead_node == node)
            core_touch(c, r);
    }
}

/* Is a message from (sender, incarnation) to `target` for us, and not from an earlier life? */
static bool peer_current(struct core *c, uint32_t sender, uint64_t incarnation, uint64_t target)
{
    bool ours = sender < c->peers_count && sender != c->options.index &&
                target == c->options.incarnation && incarnation != 0 &&
                incarnation == c->peers[sender].incarnation;
    if (!ours)
        c->counters.stale_messages++;
    return ours;
}

/* It was silent for so long, and lives: a machine that is short of processors or has a slow
 * network. Were it suspected each time, leadership would move to and fro, and the work of moving it
 * would make the machine slower still. What was silent for long, hung, and would have been
 * suspected anyhow. */
static void suspected_wrongly(struct core *c, struct peer *peer)
{
    uint64_t silent_ms = c->now_ms - peer->heard_ms, wanted_ms = silent_ms + silent_ms / 2;
    if (wanted_ms > SUSPECT_TIMES_MAX * c->options.suspect_ms)
        return;
    peer->raised_ms = c->now_ms;
    if (peer->suspect_ms < wanted_ms)
        peer->suspect_ms = wanted_ms;
}

/* Touch all partitions shared with a node that came back: there may be much to say. */
static void peer_up(struct core *c, uint32_t node)
{
    c->peers[node].up = true;
    for (uint32_t slot = 1; slot <= c->slots_count; slot++)
        if (core_live(c, slot) != NULL)
            core_touch(c, core_live(c, slot));
}

static void peer_down(struct core *c, uint32_t node)
{
    c->peers[node].up = false;
    for (uint32_t slot = 1; slot <= c->slots_count; slot++) {
        struct replica *r = core_live(c, slot);
        if (r != NULL)
            epoch_consider(c, r);
    }
}

/* Maps that differ are joined: each side pushes its own, now and then, until they agree. */
static void push_map(struct core *c, uint32_t node)
{
    struct peer *peer = &c->peers[node];
    if (peer->map_asked_ms != 0 && c->now_ms < peer->map_asked_ms + c->options.suspect_ms)
        return;
    peer->map_asked_ms = c->now_ms;
    struct buffer *frame = outbox_frame(&c->outbox, node, LANE_CONTROL);
    if (frame != NULL)
        core_packed(c, clustermap_pack(c->map, frame));
}

static void on_heartbeat(struct core *c, struct bytes frame)
{
    struct heartbeat h;
    if (codec_unpack_heartbeat(frame, &c->frame, &h) != STATUS_OK || h.sender >= c->peers_count ||
        h.sender == c->options.index) {
        core_malformed(c);
        return;
    }
    struct peer *peer = &c->peers[h.sender];
    bool same_cluster = bytes_equal(h.cluster_id, bytes_of(c->map->cluster_id.octets, 16)) &&
                        bytes_equal(h.node_id, bytes_of(c->map->nodes[h.sender].id.octets, 16));
    if (!same_cluster || h.incarnation < peer->incarnation || h.incarnation == 0 || h.disk == 0 ||
        !known_heard(c, &h)) {
        c->counters.stale_messages++;
        return;
    }
    if (h.incarnation > peer->incarnation)
        peer_restarted(c, h.sender, h.incarnation);
    else if (!peer->up)
        suspected_wrongly(c, peer);
    peer->heard_ms = c->now_ms;
    if (h.address.size > 0)
        membership_address(c, h.sender, h.address);
    if (!peer->up)
        peer_up(c, h.sender);
    if (lease_heard(c, &h))
        peer->heartbeat_due = true;
    if (h.map_version != c->map->version)
        push_map(c, h.sender);
}

static void on_promise(struct core *c, struct bytes frame)
{
    struct promise m;
    if (codec_unpack_promise(frame, &c->frame, &m) != STATUS_OK) {
        core_malformed(c);
        return;
    }
    if (!peer_current(c, m.sender, m.incarnation, m.target_incarnation))
        return;
    for (size_t i = 0; i < m.count; i++) {
        struct replica *r = core_replica(c, m.partitions[i]);
        if (r != NULL && !r->leads && r->lead_node == m.sender)
            follow_promise(c, r, m.incarnation, m.epochs[i]);
        else
            c->counters.stale_messages++;
    }
}

/* Who lacks something in one partition is believed in none. */
static bool any_lacks(struct core *c, const struct promised *m)
{
    bool lacks = false;
    for (size_t i = 0; i < m->count; i++) {
        struct replica *r = core_replica(c, m->partitions[i]);
        if (r != NULL && r->leads)
            lacks |= lead_lacks(c, r, m->sender, m->epochs[i], m->last_seqs[i]);
    }
    return lacks;
}

static void on_promised(struct core *c, struct bytes frame)
{
    struct promised m;
    if (codec_unpack_promised(frame, &c->frame, &m) != STATUS_OK) {
        core_malformed(c);
        return;
    }
    if (!peer_current(c, m.sender, m.incarnation, m.target_incarnation) || any_lacks(c, &m))
        return;
    for (size_t i = 0; i < m.count; i++) {
        struct replica *r = core_replica(c, m.partitions[i]);
        struct position commit = {m.commit_epochs[i], m.commit_seqs[i], m.commit_hashes[i]};
        if (r != NULL && r->leads)
            lead_promised(c, r, m.sender, m.epochs[i], &commit, m.last_seqs[i]);
        else
            c->counters.stale_messages++;
        const struct member *member = r == NULL ? NULL : replica_member(r, m.sender);
        if (member != NULL && member->synced)
            known_acts(c, m.sender);
    }
}

static void on_append(struct core *c, struct bytes frame)
{
    struct append m;
    if (codec_unpack_append(frame, &c->frame, &m) != STATUS_OK) {
        core_malformed(c);
        return;
    }
    if (!peer_current(c, m.sender, m.incarnation, m.target_incarnation))
        return;
    known_acts(c, m.sender);
    size_t begin = 0;
    for (size_t i = 0; i < m.count && c->failed == STATUS_OK; i++) {
        struct replica *r = core_replica(c, m.partitions[i]);
        struct follow_section s = {.epoch = m.epochs[i],
                                   .prev_epoch = m.prev_epochs[i],
                                   .prev_seq = m.prev_seqs[i],
                                   .prev_hash = m.prev_hashes[i],
                                   .commit_seq = m.commit_seqs[i],
                                   .durable_seq = m.durable_seqs[i],
                                   .flags = m.flags[i],
                                   .entries_count = m.entry_counts[i],
                                   .entries = m.entries_count == 0 ? NULL : m.entries + begin};
        begin += m.entry_counts[i];
        if (r != NULL && r->lead_node == m.sender)
            follow_append(c, r, m.incarnation, &s);
        else
            c->counters.stale_messages++;
    }
}

static void on_ack(struct core *c, struct bytes frame)
{
    struct ack m;
    if (codec_unpack_ack(frame, &c->frame, &m) != STATUS_OK) {
        core_malformed(c);
        return;
    }
    if (!peer_current(c, m.sender, m.incarnation, m.target_incarnation))
        return;
    for (size_t i = 0; i < m.count && c->failed == STATUS_OK; i++) {
        struct replica *r = core_replica(c, m.partitions[i]);
        if (r != NULL && r->leads)
            lead_ack(c, r, m.sender, m.epochs[i], m.verified_seqs[i], m.hashes[i],
                     (m.flags[i] & ACK_GAP) != 0);
        else
            c->counters.stale_messages++;
    }
}

static void on_confirm(struct core *c, struct bytes frame, bool answer)
{
    struct confirm m;
    if (codec_unpack_confirm(frame, &c->frame, &m) != STATUS_OK) {
        core_malformed(c);
        return;
    }
    if (!peer_current(c, m.sender, m.incarnation, m.target_incarnation))
        return;
    for (size_t i = 0; i < m.count && c->failed == STATUS_OK; i++) {
        struct replica *r = core_replica(c, m.partitions[i]);
        if (r == NULL)
            c->counters.stale_messages++;
        else if (answer)
            confirm_answered(c, r, m.sender, m.epochs[i], m.numbers[i]);
        else
            confirm_asked(c, r, m.sender, m.epochs[i], m.numbers[i]);
    }
}

static void on_map(struct core *c, struct bytes frame)
{
    struct map_message m;
    bool changed = false;
    if (codec_unpack_map(frame, &c->frame, &m) != STATUS_OK ||
        clustermap_join(c->map, &m, &changed) != STATUS_OK)
        core_malformed(c);
    if (!changed)
        return;
    membership_adopt(c);
    epoch_adopt_all(c);
}

static void on_snapshot(struct core *c, struct bytes frame)
{
    struct snapshot_message m;
    if (codec_unpack_snapshot(frame, &c->frame, &m) != STATUS_OK) {
        core_malformed(c);
        return;
    }
    struct replica *r = core_replica(c, m.partition);
    if (peer_current(c, m.sender, m.incarnation, m.target_incarnation) && r != NULL)
        snapshot_take(c, r, &m);
}

static void on_snapshot_ack(struct core *c, struct bytes frame)
{
    struct snapshot_ack m;
    if (codec_unpack_snapshot_ack(frame, &c->frame, &m) != STATUS_OK) {
        core_malformed(c);
        return;
    }
    if (!peer_current(c, m.sender, m.incarnation, m.target_incarnation))
        return;
    struct replica *r = core_replica(c, m.partition);
    struct member *member = r == NULL ? NULL : replica_member(r, m.sender);
    if (member != NULL)
        snapshot_acked(c, r, member, &m);
}

/* Does it speak as a voter? A proposer binds nobody: its ballots are its life's own. */
static bool answers(const struct registry_message *m)
{
    for (size_t i = 0; i < m->count; i++)
        if (m->kinds[i] == REGISTRY_PREPARED || m->kinds[i] == REGISTRY_ACCEPTED)
            return true;
    return false;
}

static void on_registry(struct core *c, struct bytes frame)
{
    struct registry_message m;
    if (codec_unpack_registry(frame, &c->frame, &m) != STATUS_OK) {
        core_malformed(c);
        return;
    }
    if (!peer_current(c, m.sender, m.incarnation, m.target_incarnation))
        return;
    if (!known_met(c)) {
        c->counters.stale_messages++;
        return;
    }
    if (answers(&m))
        known_acts(c, m.sender);
    enum status status = registry_message(c->registry, c->now_ms, m.sender, &m);
    if (status == STATUS_MALFORMED)
        core_malformed(c);
    else if (status != STATUS_OK)
        core_fail(c, status);
}

void peers_message(struct core *c, struct bytes frame)
{
    enum message_kind kind;
    if (codec_peek(frame, &kind) != STATUS_OK)
        core_malformed(c);
    else if (kind == MESSAGE_APPEND)
        on_append(c, frame);
    else if (kind == MESSAGE_ACK)
        on_ack(c, frame);
    else if (kind == MESSAGE_HEARTBEAT)
        on_heartbeat(c, frame);
    else if (kind == MESSAGE_PROMISE)
        on_promise(c, frame);
    else if (kind == MESSAGE_PROMISED)
        on_promised(c, frame);
    else if (kind == MESSAGE_REGISTRY)
        on_registry(c, frame);
    else if (kind == MESSAGE_SNAPSHOT)
        on_snapshot(c, frame);
    else if (kind == MESSAGE_SNAPSHOT_ACK)
        on_snapshot_ack(c, frame);
    else if (kind == MESSAGE_CONFIRM || kind == MESSAGE_CONFIRMED)
        on_confirm(c, frame, kind == MESSAGE_CONFIRMED);
    else if (kind == MESSAGE_MAP)
        on_map(c, frame);
    else
        core_malformed(c);
}

static void send_heartbeat(struct core *c, uint32_t node)
{
    struct heartbeat h = {.sender = c->options.index,
                          .incarnation = c->options.incarnation,
                          .target_incarnation = c->peers[node].incarnation,
                          .cluster_id = bytes_of(c->map->cluster_id.octets, 16),
                          .node_id = bytes_of(c->map->nodes[c->options.index].id.octets, 16),
                          .map_version = c->map->version,
                          .ptime = c->ptime_max};
    c->peers[node].heartbeat_due = false;
    arena_reset(&c->arena, (size_t)4 << 20);
    known_tell(c, node, &h);
    membership_tell(c, &h);
    lease_ask(c, node, &h);
    struct buffer *frame = outbox_frame(&c->outbox, node, LANE_CONTROL);
    if (frame != NULL)
        core_packed(c, codec_pack_heartbeat(&h, frame));
}

void peers_heartbeats(struct core *c, bool all)
{
    for (uint32_t i = 0; i < c->peers_count; i++) {
        struct peer *peer = &c->peers[i];
        if (peer->shares && (all || peer->heartbeat_due))
            send_heartbeat(c, i);
        peer->heartbeat_due = false;
    }
}

uint64_t peers_deadline(const struct core *c)
{
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < c->peers_count; i++)
        if (c->peers[i].up && c->peers[i].heard_ms + c->peers[i].suspect_ms < due)
            due = c->peers[i].heard_ms + c->peers[i].suspect_ms;
    return due;
}

/* While we stood still ourselves, nobody could be heard, nor what the disk had done. */
static void forgive_own_pause(struct core *c)
{
    uint64_t passed_ms = c->now_ms - c->looked_ms;
    /* The loop comes round with each heartbeat at least. */
    bool paused = c->looked_ms != 0 && passed_ms > c->options.heartbeat_ms * 3 / 2;
    c->looked_ms = c->now_ms;
    if (paused)
        c->synced_ms = c->now_ms;
    for (uint32_t i = 0; paused && i < c->peers_count; i++)
        if (c->peers[i].up && c->peers[i].heard_ms + passed_ms <= c->now_ms)
            c->peers[i].heard_ms += passed_ms;
}

void peers_tick(struct core *c)
{
    forgive_own_pause(c);
    for (uint32_t i = 0; i < c->peers_count; i++) {
        struct peer *peer = &c->peers[i];
        if (peer->suspect_ms > c->options.suspect_ms && c->now_ms >= peer->raised_ms + RAISED_MS)
            peer->suspect_ms = c->options.suspect_ms;
        if (peer->up && c->now_ms >= peer->heard_ms + peer->suspect_ms)
            peer_down(c, i);
    }
}
