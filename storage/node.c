#include "storage/node.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "proto/partition.h"
#include "storage/confirm.h"
#include "storage/core.h"
#include "storage/epoch.h"
#include "storage/follow.h"
#include "storage/hold.h"
#include "storage/known.h"
#include "storage/lapse.h"
#include "storage/lead.h"
#include "storage/membership.h"
#include "storage/peers.h"
#include "storage/serve.h"
#include "storage/snapshot.h"

#define BODY_SIZE_MAX (RECORD_SIZE_MAX)
#define TICK_MS 10u /* how often timers are looked at while something is under way */

struct node {
    struct core core;
    uint64_t heartbeat_due_ms;
    uint64_t tick_due_ms;
    uint64_t note_due_ms;
    uint64_t freeze_lsn; /* durable at the last freeze: what was pending then is logged again */
    bool started;
};

void node_options_init(struct node_options *o)
{
    *o = (struct node_options){.heartbeat_ms = 100,
                               .suspect_ms = 300,
                               .stall_ms = 1000,
                               .retransmit_ms = 100,
                               .ask_primary_ms = 20,
                               .lease_primary_ms = 400,
                               .lease_replica_ms = 700,
                               .kept_bytes_max = 256u << 20,
                               .commit_note_ms = 1000,
                               .pending_max = 8192,
                               .pending_bytes_max = 256u << 20,
                               .waiters_max = 131072,
                               .value_size_max = VALUE_SIZE_MAX_DEFAULT};
}

/* ------------------------------------------------------------------ effects */

void node_effects_init(struct node_effects *out)
{
    *out = (struct node_effects){0};
    buffer_init(&out->records, (size_t)1 << 30);
}

struct node_effect *node_effects_add(struct node_effects *out, enum node_effect_kind kind)
{
    if (out->count == out->capacity) {
        size_t capacity = out->capacity == 0 ? 16 : out->capacity * 2;
        struct node_effect *grown = realloc(out->list, capacity * sizeof *grown);
        if (grown == NULL)
            return NULL;
        out->list = grown;
        out->capacity = capacity;
    }
    struct node_effect *e = &out->list[out->count++];
    *e = (struct node_effect){.kind = kind};
    buffer_init(&e->frame, FRAME_BYTES_MAX);
    return e;
}

void node_effects_clear(struct node_effects *out)
{
    for (size_t i = 0; i < out->count; i++)
        buffer_fini(&out->list[i].frame);
    out->count = 0;
    buffer_clear(&out->records);
    out->records_count = 0;
}

void node_effects_fini(struct node_effects *out)
{
    node_effects_clear(out);
    free(out->list);
    buffer_fini(&out->records);
    *out = (struct node_effects){0};
}

/* ------------------------------------------------------------------ life */

struct node *node_new(const struct node_options *options, struct clustermap *map,
                      struct store *store)
{
    ENSURE(options->index < map->nodes_count);
    struct node *n = calloc(1, sizeof *n);
    if (n == NULL)
        return NULL;
    struct core *c = &n->core;
    uint32_t partitions = map->partition_count;
    c->options = *options;
    c->map = map;
    c->store = store;
    c->next_lsn = 1;
    c->by_partition = calloc(partitions, sizeof(void *));
    c->touched = calloc(partitions * 2u, sizeof(void *));
    c->peers_count = map->nodes_count;
    c->peers = calloc(NODES_MAX, sizeof *c->peers);
    c->snapshots_drawn = options->boot_id; /* so that no id of an earlier life comes again */
    arena_init(&c->frame);
    arena_init(&c->arena);
    buffer_init(&c->scratch, BODY_SIZE_MAX);
    replies_init(&c->replies);
    cold_init(&c->cold);
    bool ok = c->by_partition != NULL && core_slot_reserve(c, partitions) && c->touched != NULL &&
              c->peers != NULL && pending_index_init(&c->pending) == STATUS_OK &&
              outbox_init(&c->outbox, NODES_MAX, options->index, options->incarnation) ==
                  STATUS_OK;
    ok = ok && known_init(c) == STATUS_OK && epoch_init(c) == STATUS_OK &&
         membership_init(c) == STATUS_OK;
    if (!ok)
        node_destroy(&n);
    else
        peers_find(c);
    return n;
}

void node_destroy(struct node **n_p)
{
    struct node *n = *n_p;
    if (n == NULL)
        return;
    struct core *c = &n->core;
    for (uint32_t slot = 1; c->by_slot != NULL && slot <= c->slots_count; slot++)
        replica_destroy(c, &c->by_slot[slot]);
    cold_fini(&c->cold);
    pending_index_fini(&c->pending);
    replies_fini(&c->replies);
    outbox_fini(&c->outbox);
    arena_fini(&c->frame);
    arena_fini(&c->arena);
    buffer_fini(&c->scratch);
    free(c->queue.items);
    free(c->by_partition);
    free(c->by_slot);
    free(c->slot_dropped);
    free(c->touched);
    free(c->peers);
    known_fini(c);
    membership_fini(c);
    registry_destroy(&c->registry);
    free(c->news);
    free(n);
    *n_p = NULL;
}

void node_on_commit(struct node *n, node_commit_fn *fn, void *arg)
{
    n->core.on_commit = fn;
    n->core.on_commit_arg = arg;
}

/* ------------------------------------------------------------------ recovery */

/* The replica in slot, made when it is new. NULL: reterr. */
static struct replica *replica_in(struct core *c, uint32_t slot, const struct install *in,
                                  struct error *reterr)
{
    if (slot == 0 || in->partition >= c->map->partition_count || !core_slot_reserve(c, slot)) {
        error_set(reterr, STATUS_CORRUPT, "slot %u holds partition %u, which cannot be", slot,
                  in->partition);
        return NULL;
    }
    struct replica *r = c->by_slot[slot];
    if (c->slots_count < slot)
        c->slots_count = slot;
    if (r != NULL && r->partition == in->partition)
        return r;
    if (r != NULL || c->by_partition[in->partition] != NULL ||
        !core_assigned(&c->map->partitions[in->partition], c->options.index)) {
        error_set(reterr, STATUS_CORRUPT, "slot %u for partition %u contradicts the cluster file",
                  slot, in->partition);
        return NULL;
    }
    r = replica_new(c, in->partition, slot, in->replica_id);
    if (r == NULL) {
        error_set(reterr, STATUS_NOMEMORY, "out of memory for partition %u", in->partition);
        return NULL;
    }
    c->by_slot[slot] = c->by_partition[in->partition] = r;
    return r;
}

static enum status restore_dropped(struct core *c, uint32_t slot, struct error *reterr)
{
    if (!core_slot_reserve(c, slot))
        return error_set(reterr, STATUS_NOMEMORY, "out of memory for slot %u", slot);
    c->slot_dropped[slot] = SLOT_DROPPED;
    if (c->slots_count < slot)
        c->slots_count = slot;
    return STATUS_OK;
}

static enum status restore_installing(struct core *c, uint32_t slot, struct bytes blob,
                                      struct error *reterr)
{
    enum status status = snapshot_restore(c, slot, blob);
    return status == STATUS_OK ? STATUS_OK
                               : error_set(reterr, status, "the saved state of slot %u, which was "
                                                           "being filled: %s",
                                           slot, status_text(status));
}

enum status node_restore(struct node *n, uint32_t slot, struct bytes blob, struct error *reterr)
{
    struct error inner = {.status = STATUS_OK};
    if (slot == 0) {
        enum status shared = known_restore(&n->core, &blob);
        if (shared == STATUS_OK)
            shared = registry_restore(n->core.registry, blob);
        return shared == STATUS_OK
                   ? STATUS_OK
                   : error_set(reterr, shared, "the saved registers: %s", status_text(shared));
    }
    if (replica_saved_dropped(blob))
        return restore_dropped(&n->core, slot, reterr);
    if (blob.size < 16)
        return error_set(reterr, STATUS_CORRUPT, "the saved state of slot %u is too short", slot);
    if (replica_saved_installing(blob))
        return restore_installing(&n->core, slot, blob, reterr);
    struct install in = {bytes_le32(blob.data + 4), bytes_le64(blob.data + 8)};
    struct replica *r = replica_in(&n->core, slot, &in, &inner);
    if (r == NULL)
        return error_set(reterr, inner.status, "%s", inner.message);
    enum status status = replica_restore(&n->core, r, blob);
    if (status != STATUS_OK)
        return error_set(reterr, status, "the saved state of slot %u: %s", slot,
                         status_text(status));
    r->changed = false;
    return STATUS_OK;
}

static enum status replay_install(struct core *c, const struct record_view *record,
                                  struct error *reterr)
{
    struct install in;
    struct error inner = {.status = STATUS_OK};
    if (record_decode_install(record->body, &in) != STATUS_OK)
        return error_set(reterr, STATUS_CORRUPT, "an INSTALL record does not decode");
    if (replica_in(c, record->slot, &in, &inner) == NULL)
        return error_set(reterr, inner.status, "%s", inner.message);
    return STATUS_OK;
}

static enum status replay_shared(struct core *c, uint64_t lsn, const struct record_view *record,
                                 struct error *reterr)
{
    enum status status = record->kind == RECORD_KNOWN
                             ? known_replay(c, record->body)
                             : registry_replay(c->registry, record->body);
    if (status == STATUS_OK)
        return STATUS_OK;
    return error_set(reterr, status, "record %llu of the registers: %s", (unsigned long long)lsn,
                     status_text(status));
}

static enum status replay_snapshot(struct core *c, uint64_t lsn, const struct record_view *record,
                                   struct error *reterr)
{
    enum status status = snapshot_replay(c, record);
    if (status == STATUS_OK)
        return STATUS_OK;
    return error_set(reterr, status, "record %llu, of the copy in slot %u: %s",
                     (unsigned long long)lsn, record->slot, status_text(status));
}

static enum status replay_number(struct core *c, struct replica *r,
                                 const struct record_view *record)
{
    uint64_t number;
    if (record_decode_u64(record->body, &number) != STATUS_OK)
        return STATUS_CORRUPT;
    if (record->kind == RECORD_TRUNCATE)
        replica_replay_truncate(c, r, number);
    else if (record->kind == RECORD_COMMIT)
        replica_replay_commit(c, r, number);
    else if (number > r->promised_epoch)
        r->promised_epoch = r->promise_durable = number;
    return c->failed;
}

enum status node_replay(struct node *n, uint64_t lsn, const struct record_view *record,
                        struct error *reterr)
{
    struct core *c = &n->core;
    if (record->kind == RECORD_CLOSE)
        return STATUS_OK;
    if (record->kind == RECORD_REGISTER || record->kind == RECORD_KNOWN)
        return replay_shared(c, lsn, record, reterr);
    if (record->kind >= RECORD_SNAPSHOT)
        return replay_snapshot(c, lsn, record, reterr);
    bool dropped = record->slot < c->slots_capacity && c->slot_dropped[record->slot] != SLOT_LIVE;
    if (dropped)
        return STATUS_OK;
    if (record->kind == RECORD_INSTALL)
        return replay_install(c, record, reterr);
    struct replica *r = record->slot < c->slots_capacity ? c->by_slot[record->slot] : NULL;
    if (r == NULL)
        return error_set(reterr, STATUS_CORRUPT, "record %llu is for slot %u, which is not known",
                         (unsigned long long)lsn, record->slot);
    enum status status = record->kind == RECORD_ENTRY
                             ? replica_replay_entry(c, r, lsn, record->body)
                             : replay_number(c, r, record);
    if (status != STATUS_OK)
        return error_set(reterr, status, "record %llu of slot %u: %s", (unsigned long long)lsn,
                         record->slot, status_text(status));
    r->changed = true;
    return STATUS_OK;
}

static void begin_turn(struct node *n, const struct node_time *time, struct node_effects *out)
{
    struct core *c = &n->core;
    c->now_ms = time->now_ms;
    c->wall_ms = time->wall_ms;
    c->out = out;
    c->outbox.out = out;
    c->outbox.ptime = c->ptime_max;
}

/* Replicas that the map gives us and that never were on this disk. */
static enum status install_missing(struct core *c)
{
    for (uint32_t p = 0; p < c->map->partition_count; p++) {
        const struct clustermap_partition *part = &c->map->partitions[p];
        if (c->by_partition[p] != NULL || !core_assigned(part, c->options.index))
            continue;
        struct install in = {.partition = p,
                             .replica_id = clustermap_replica_id(c->map, p, c->options.index)};
        uint8_t body[16];
        record_encode_install(body, &in);
        uint32_t slot = c->slots_count + 1;
        if (replica_in(c, slot, &in, NULL) == NULL)
            return STATUS_NOMEMORY;
        core_record(c, RECORD_INSTALL, slot, bytes_of(body, sizeof body));
    }
    return c->failed;
}

/* Slots are given away in order, so none may be missing; and every suffix must chain. */
static enum status check_replayed(const struct core *c, struct error *reterr)
{
    for (uint32_t slot = 1; slot <= c->slots_count; slot++) {
        const struct replica *r = c->by_slot[slot];
        if (r == NULL && c->slot_dropped[slot] == SLOT_LIVE)
            return error_set(reterr, STATUS_CORRUPT, "slot %u is neither in table nor log", slot);
        if (r != NULL && r->orphan_seq != 0)
            return error_set(reterr, STATUS_CORRUPT,
                             "the log of slot %u ends in entries that do not chain (from %llu)",
                             slot, (unsigned long long)r->orphan_seq);
    }
    return STATUS_OK;
}

enum status node_start(struct node *n, const struct node_time *time, uint64_t next_lsn,
                       struct node_effects *out, struct error *reterr)
{
    struct core *c = &n->core;
    ENSURE(!n->started);
    ENSURE(c->options.incarnation > 0);
    n->started = true;
    c->next_lsn = next_lsn;
    c->durable_lsn = next_lsn - 1;
    n->freeze_lsn = 0;
    begin_turn(n, time, out);
    c->started_ms = time->now_ms;
    if (check_replayed(c, reterr) != STATUS_OK)
        return STATUS_CORRUPT;
    if (install_missing(c) != STATUS_OK)
        return error_set(reterr, c->failed == STATUS_OK ? STATUS_NOMEMORY : c->failed,
                         "cannot make the replicas of this node");
    membership_start(c);
    snapshot_drop_unfinished(c);
    for (uint32_t slot = 1; slot <= c->slots_count; slot++)
        if (c->by_slot[slot] != NULL) {
            c->by_slot[slot]->boot_promised = c->by_slot[slot]->promised_epoch;
            c->by_slot[slot]->boot_last = c->by_slot[slot]->last.seq;
        }
    epoch_adopt_all(c);
    n->heartbeat_due_ms = n->tick_due_ms = time->now_ms;
    n->note_due_ms = time->now_ms + c->options.commit_note_ms;
    return c->failed == STATUS_OK ? STATUS_OK
                                  : error_set(reterr, c->failed, "%s", status_text(c->failed));
}

/* ------------------------------------------------------------------ requests */

/* A frame to source: ready to be packed into. NULL after a failure. */
static struct buffer *frame_to(struct core *c, uint64_t source)
{
    struct node_effect *e = node_effects_add(c->out, NODE_SEND_SOURCE);
    if (e == NULL) {
        core_fail(c, STATUS_NOMEMORY);
        return NULL;
    }
    e->source = source;
    return &e->frame;
}

static void say_refused(struct core *c, uint64_t source, enum status status, const char *words)
{
    struct refused refused = {.status = status,
                              .message = bytes_text(words),
                              .protocol_min = PROTOCOL_VERSION,
                              .protocol_max = PROTOCOL_VERSION};
    struct buffer *frame = frame_to(c, source);
    if (frame != NULL)
        core_packed(c, codec_pack_refused(&refused, frame));
}

/* Nonsense: counted, too. */
static void refuse_frame(struct core *c, uint64_t source, enum status status, const char *words)
{
    core_malformed(c);
    say_refused(c, source, status, words);
}

static void serve_one(struct core *c, const struct batch *b, size_t i, uint64_t source)
{
    struct operation op = {.asker = {source, b->tokens[i]},
                           .kind = b->kinds[i],
                           .digest = b->digests[i],
                           .client = b->client_ids[i],
                           .seq = b->seqs[i],
                           .ack_below = b->ack_belows[i],
                           .ptime_token = b->ptime_tokens[i],
                           .deadline_ms = c->now_ms + b->deadlines_ms[i],
                           .arrival = ++c->arrivals,
                           .key = b->keys[i],
                           .body = b->operations[i]};
    struct replica *r = c->by_partition[partition_of(op.digest, c->map->partition_count)];
    c->counters.operations++;
    if (op.kind == KIND_READ && op.body.size > 0 &&
        codec_unpack_read_query(op.body, &op.read) != STATUS_OK)
        core_refuse(c, op.asker, STATUS_MALFORMED);
    else if (r == NULL)
        core_refuse(c, op.asker, STATUS_WRONGEPOCH);
    else
        serve_operation(c, r, &op, NULL);
}

static void on_batch(struct node *n, uint64_t source, struct bytes frame)
{
    struct core *c = &n->core;
    struct batch b;
    if (codec_unpack_batch(frame, &c->frame, &b) != STATUS_OK) {
        refuse_frame(c, source, STATUS_MALFORMED, "the BATCH does not decode");
        return;
    }
    if (replies_source(&c->replies, source, b.router_boot) != STATUS_OK) {
        core_fail(c, STATUS_NOMEMORY);
        return;
    }
    for (size_t i = 0; i < b.count && c->failed == STATUS_OK; i++)
        serve_one(c, &b, i, source);
}

static void on_hello(struct node *n, uint64_t source, struct bytes frame)
{
    struct core *c = &n->core;
    struct hello in;
    if (codec_unpack_hello(frame, &c->frame, &in) != STATUS_OK) {
        refuse_frame(c, source, STATUS_MALFORMED, "the HELLO does not decode");
        return;
    }
    if (in.protocol_min > PROTOCOL_VERSION || in.protocol_max < PROTOCOL_VERSION) {
        refuse_frame(c, source, STATUS_UNSUPPORTED, "no protocol version in common");
        return;
    }
    const struct clustermap_node *self = &c->map->nodes[c->options.index];
    struct hello hello = {.protocol_min = PROTOCOL_VERSION,
                          .protocol_max = PROTOCOL_VERSION,
                          .role = ROLE_NODE,
                          .cluster_id = bytes_of(c->map->cluster_id.octets, 16),
                          .boot_id = c->options.boot_id,
                          .ptime = c->ptime_max,
                          .name = bytes_text(self->name),
                          .software = bytes_text("duet-storage"),
                          .operations_max = MESSAGE_OPERATIONS_MAX,
                          .value_size_max = c->options.value_size_max};
    struct buffer *reply = frame_to(c, source);
    if (reply != NULL)
        core_packed(c, codec_pack_hello(MESSAGE_HELLO_REPLY, &hello, reply));
}

static void on_ping(struct node *n, uint64_t source, struct bytes frame)
{
    struct core *c = &n->core;
    struct ping ping;
    if (codec_unpack_ping(frame, &c->frame, &ping) != STATUS_OK) {
        refuse_frame(c, source, STATUS_MALFORMED, "the PING does not decode");
        return;
    }
    ping.boot_id = c->options.boot_id;
    ping.ptime = c->ptime_max;
    ping.map_version = c->map->version;
    struct buffer *reply = frame_to(c, source);
    if (reply != NULL)
        core_packed(c, codec_pack_ping(MESSAGE_PONG, &ping, reply));
}

static void on_map_request(struct core *c, uint64_t source)
{
    struct buffer *reply = frame_to(c, source);
    if (reply != NULL)
        core_packed(c, clustermap_pack(c->map, reply));
}

#define COUNTERS(X)                                                                                \
    X(operations) X(reads) X(reads_any) X(confirms) X(confirms_unled) X(writes) X(duplicates)      \
    X(refused_unavailable) X(refused_busy) X(refused_full) X(malformed) X(stale_messages)          \
    X(retransmits) X(gaps) X(truncated_entries) X(commits) X(fetches) X(lapses) X(adrift)          \
    X(snapshots) X(copies_ended) X(copies_dropped) X(caught_up) X(takeovers)                       \
    X(takeovers_unopened) X(left_out) X(new_lives) X(collisions) X(fenced) X(additions)            \
    X(additions_dropped) X(grown) X(hand_backs) X(hand_overs) X(met) X(disks_refused)              \
    X(voters_joint) X(voters_changed) X(peers_up) X(partitions_led) X(partitions_open)             \
    X(partitions_dirty) X(pending_entries) X(disk_full) X(leaving) X(left)

static void on_status_request(struct node *n, uint64_t source)
{
    struct core *c = &n->core;
    struct node_counters counters;
    node_count(n, &counters);
    struct bytes names[] = {
#define X(name) bytes_text(#name),
        COUNTERS(X)
#undef X
    };
    uint64_t values[] = {
#define X(name) counters.name,
        COUNTERS(X)
#undef X
    };
    struct status_message m = {.name = bytes_text(c->map->nodes[c->options.index].name),
                               .role = bytes_text("node"),
                               .count = sizeof values / sizeof values[0],
                               .names = names,
                               .values = values};
    struct buffer *reply = frame_to(c, source);
    if (reply != NULL)
        core_packed(c, codec_pack_status(&m, reply));
}

static void on_drain(struct node *n, uint64_t source, struct bytes frame)
{
    struct core *c = &n->core;
    bool drained;
    if (codec_unpack_drain(frame, &c->frame, &drained) != STATUS_OK) {
        refuse_frame(c, source, STATUS_MALFORMED, "the DRAIN does not decode");
        return;
    }
    if (drained)
        epoch_leave(c);
    else
        epoch_stay(c);
    on_status_request(n, source);
}

static void on_voters(struct core *c, uint64_t source, struct bytes frame)
{
    char words[MEMBERSHIP_WORDS_MAX];
    struct voters_message m;
    if (codec_unpack_voters(frame, &c->frame, &m) != STATUS_OK) {
        refuse_frame(c, source, STATUS_MALFORMED, "the VOTERS does not decode");
        return;
    }
    enum status status = membership_voters(c, &m, words);
    if (status != STATUS_OK) {
        say_refused(c, source, status, words);
        return;
    }
    struct buffer *reply = frame_to(c, source);
    if (reply != NULL)
        core_packed(c, clustermap_pack_nodes(c->map, reply));
}

static void on_join(struct core *c, uint64_t source, struct bytes frame)
{
    char words[MEMBERSHIP_WORDS_MAX];
    struct node_value m;
    if (codec_unpack_join(frame, &c->frame, &m) != STATUS_OK) {
        refuse_frame(c, source, STATUS_MALFORMED, "the JOIN does not decode");
        return;
    }
    enum status status = membership_join(c, &m, words);
    if (status != STATUS_OK)
        say_refused(c, source, status, words);
    else
        on_map_request(c, source);
}

static void on_request(struct node *n, uint64_t source, struct bytes frame)
{
    struct core *c = &n->core;
    enum message_kind kind;
    enum status status = codec_peek(frame, &kind);
    if (status == STATUS_UNSUPPORTED) {
        refuse_frame(c, source, status, "this node speaks another protocol version");
        return;
    }
    if (status != STATUS_OK) {
        refuse_frame(c, source, STATUS_MALFORMED, "not a Duet message");
        return;
    }
    if (kind == MESSAGE_BATCH)
        on_batch(n, source, frame);
    else if (kind == MESSAGE_HELLO)
        on_hello(n, source, frame);
    else if (kind == MESSAGE_PING)
        on_ping(n, source, frame);
    else if (kind == MESSAGE_MAP_REQUEST)
        on_map_request(c, source);
    else if (kind == MESSAGE_STATUS_REQUEST)
        on_status_request(n, source);
    else if (kind == MESSAGE_DRAIN)
        on_drain(n, source, frame);
    else if (kind == MESSAGE_VOTERS)
        on_voters(c, source, frame);
    else if (kind == MESSAGE_JOIN)
        on_join(c, source, frame);
    else
        refuse_frame(c, source, STATUS_UNSUPPORTED, "a node does not take this kind of message");
}

/* ------------------------------------------------------------------ turns */

static void on_durable(struct core *c, uint64_t lsn)
{
    struct durable_queue *q = &c->queue;
    ENSURE(lsn < c->next_lsn);
    if (lsn > c->durable_lsn) {
        c->durable_lsn = lsn;
        c->synced_ms = c->now_ms;
    }
    registry_durable(c->registry, c->now_ms, lsn);
    while (q->count > 0 && q->items[q->head].lsn <= lsn && c->failed == STATUS_OK) {
        struct durable_item item = q->items[q->head];
        q->head = (q->head + 1) & (q->capacity - 1);
        q->count--;
        if (item.replica != NULL)
            replica_durable(c, item.replica, &item);
    }
}

static void on_fetched(struct core *c, const struct node_event *event)
{
    struct cold_key *k = cold_by_ticket(&c->cold, event->ticket);
    if (k == NULL)
        return;
    if (core_live(c, k->slot) != NULL)
        serve_fetched(c, core_live(c, k->slot), k, event->generation, event->item);
    else
        serve_dropped(c, k);
}

enum status node_step(struct node *n, const struct node_time *time, const struct node_event *event,
                      struct node_effects *out)
{
    struct core *c = &n->core;
    ENSURE(n->started);
    begin_turn(n, time, out);
    switch (event->kind) {
    case NODE_REQUEST:
        on_request(n, event->source, event->frame);
        break;
    case NODE_SOURCE_GONE:
        replies_forget(&c->replies, event->source);
        break;
    case NODE_PEER:
        peers_message(c, event->frame);
        break;
    case NODE_DURABLE:
        on_durable(c, event->lsn);
        break;
    case NODE_FETCHED:
        on_fetched(c, event);
        break;
    case NODE_SPACE:
        c->space_low = event->low;
        break;
    case NODE_LEAVE:
        epoch_leave(c);
        break;
    }
    return c->failed;
}

void node_failure(const struct node *n, char to[static 256])
{
    const struct core *c = &n->core;
    to[0] = '\0';
    if (c->lost_there > 0)
        snprintf(to, 256,
                 "partition %u ends at entry %llu on this disk, but entry %llu was acknowledged by it: "
                 "the directory is empty, or an old copy; start the node with its own",
                 c->lost_partition, (unsigned long long)c->lost_here,
                 (unsigned long long)c->lost_there);
    if (c->replaced)
        snprintf(to, 256,
                 "others know this node with another disk: the directory was empty, or is not its "
                 "own; start the node with its own");
    if (c->outlived_by > 0)
        snprintf(to, 256,
                 "others know a later life of this node (incarnation %llu, this one is %llu): the "
                 "directory is an old copy, or in use twice; start the node with its own",
                 (unsigned long long)c->outlived_by, (unsigned long long)c->options.incarnation);
}

static void tick_replica(struct node *n, struct replica *r)
{
    struct core *c = &n->core;
    if (r->leads)
        lead_tick(c, r);
    else
        follow_tick(c, r);
    hold_release(c, r);
    if (r->reader_due_ms != 0 && c->now_ms >= r->reader_due_ms)
        serve_expire(c, r);
    if (c->now_ms >= n->note_due_ms) {
        replica_note_commit(c, r);
        serve_expire(c, r);
    }
}

static void tick(struct node *n)
{
    struct core *c = &n->core;
    for (uint32_t slot = 1; slot <= c->slots_count; slot++)
        if (core_live(c, slot) != NULL)
            tick_replica(n, core_live(c, slot));
    if (c->now_ms >= n->note_due_ms)
        n->note_due_ms = c->now_ms + c->options.commit_note_ms;
    n->tick_due_ms = c->now_ms + TICK_MS;
}

static void flush_touched(struct core *c)
{
    uint32_t count = c->touched_count;
    c->touched_count = 0;
    /* A flush may touch its replica again, for the next turn: that goes to a place already read. */
    for (uint32_t i = 0; i < count; i++) {
        struct replica *r = c->touched[i];
        if (r == NULL)
            continue;
        r->touched = false;
        if (r->leads)
            lead_flush(c, r);
        else
            follow_flush(c, r);
        confirm_flush(c, r);
        if (r->leads && r->commit_due_ms != 0)
            core_touch(c, r);
    }
}

enum status node_flush(struct node *n, const struct node_time *time, struct node_effects *out)
{
    struct core *c = &n->core;
    begin_turn(n, time, out);
    peers_tick(c);
    bool beat = c->now_ms >= n->heartbeat_due_ms;
    if (beat) {
        epoch_tick(c);
        membership_tick(c);
        lapse_sweep(c);
    }
    if (c->now_ms >= n->tick_due_ms)
        tick(n);
    peers_heartbeats(c, beat);
    if (beat)
        n->heartbeat_due_ms = c->now_ms + c->options.heartbeat_ms;
    epoch_flush(c);
    membership_flush(c);
    flush_touched(c);
    if (outbox_flush(&c->outbox) != STATUS_OK)
        core_fail(c, STATUS_NOMEMORY);
    if (replies_flush(&c->replies, c->ptime_max, out) != STATUS_OK)
        core_fail(c, STATUS_NOMEMORY);
    store_turn_end(c->store);
    return c->failed;
}

uint64_t node_deadline(const struct node *n)
{
    const struct core *c = &n->core;
    uint64_t due = n->heartbeat_due_ms, suspect = peers_deadline(c);
    uint64_t registry = registry_deadline(c->registry);
    if (suspect < due)
        due = suspect;
    if (registry < due)
        due = registry;
    if (c->touched_count > 0)
        return c->now_ms + 1;
    bool busy = c->pending.count > 0 || c->replies.waiting > 0 || c->held_count > 0;
    if (busy && n->tick_due_ms < due)
        due = n->tick_due_ms;
    return due;
}

bool node_left(const struct node *n)
{
    return epoch_left(&n->core);
}

enum status node_note_commits(struct node *n, struct node_effects *out)
{
    n->core.out = out;
    for (uint32_t slot = 1; slot <= n->core.slots_count; slot++)
        if (core_live(&n->core, slot) != NULL)
            replica_note_commit(&n->core, n->core.by_slot[slot]);
    return n->core.failed;
}

/* ------------------------------------------------------------------ checkpoints */

/* Replay has to begin where everything before is in the table or void: at the oldest entry that is
 * still pending, and never past what is durable. */
static uint64_t replay_position(const struct core *c)
{
    uint64_t lsn = c->durable_lsn;
    for (uint32_t slot = 1; slot <= c->slots_count; slot++) {
        const struct replica *r = core_live(c, slot);
        for (uint64_t seq = r == NULL ? 1 : r->commit.seq + 1; r != NULL && seq <= r->last.seq; seq++)
            if (replica_pending(r, seq)->replay_lsn <= lsn)
                lsn = replica_pending(r, seq)->replay_lsn - 1;
    }
    return lsn;
}

static enum status save_states(struct core *c, struct checkpoint *ck)
{
    struct buffer memory;
    buffer_init(&memory, (size_t)4 << 30);
    ck->states = calloc(c->slots_count + 2u, sizeof *ck->states);
    if (ck->states == NULL)
        return STATUS_NOMEMORY;
    size_t *ends = calloc(c->slots_count + 2u, sizeof *ends);
    ck->drops = calloc(c->slots_count + 1u, sizeof *ck->drops);
    enum status status = ends == NULL || ck->drops == NULL ? STATUS_NOMEMORY : STATUS_OK;
    if (status == STATUS_OK && (registry_changed(c->registry) || c->known_changed)) {
        status = known_save(c, &memory);
        if (status == STATUS_OK)
            status = registry_save(c->registry, &memory);
        c->known_changed = false;
        ends[ck->states_count++] = memory.size; /* slot 0 */
    }
    for (uint32_t slot = 1; status == STATUS_OK && slot <= c->slots_count; slot++) {
        struct replica *r = c->by_slot[slot];
        bool dropped = c->slot_dropped[slot] == SLOT_DROPPED_NEW;
        if (dropped)
            c->slot_dropped[slot] = SLOT_DROPPED;
        if (!dropped && (r == NULL || !r->changed))
            continue;
        status = dropped ? replica_save_dropped(&memory) : replica_save(r, &memory);
        ck->states[ck->states_count].slot = slot;
        ends[ck->states_count++] = memory.size;
        if (dropped)
            ck->drops[ck->drops_count++] = slot;
        else
            r->changed = r->installing || replica_pending_count(r) > 0;
    }
    buffer_take(&memory, &ck->states_memory);
    for (size_t i = 0, at = 0; ends != NULL && i < ck->states_count; at = ends[i++])
        ck->states[i].blob = bytes_of(ck->states_memory + at, ends[i] - at);
    free(ends);
    return status;
}

enum status node_freeze(struct node *n, struct checkpoint *ck, struct node_effects *out)
{
    struct core *c = &n->core;
    c->out = out;
    ck->lsn = replay_position(c);
    enum status status = save_states(c, ck);
    if (status != STATUS_OK)
        return core_fail(c, status);
    for (uint32_t slot = 1; slot <= c->slots_count; slot++)
        if (core_live(c, slot) != NULL)
            replica_log_again(c, c->by_slot[slot], n->freeze_lsn);
    n->freeze_lsn = c->durable_lsn;
    return c->failed;
}

/* ------------------------------------------------------------------ views */

void node_count(const struct node *n, struct node_counters *ret)
{
    const struct core *c = &n->core;
    *ret = c->counters;
    ret->pending_entries = c->pending.count;
    ret->leaving = c->leaving;
    ret->left = epoch_left(c);
    ret->disk_full = c->space_low;
    for (uint32_t i = 0; i < c->peers_count; i++)
        ret->peers_up += c->peers[i].up;
    for (uint32_t slot = 1; slot <= c->slots_count; slot++) {
        const struct replica *r = core_live(c, slot);
        if (r == NULL)
            continue;
        ret->partitions_led += r->leads && r->opened;
        ret->partitions_open += r->leads && lead_writable(c, r);
        ret->partitions_dirty += replica_pending_count(r) > 0;
    }
}

bool node_replica(const struct node *n, uint32_t partition, struct node_replica_view *ret)
{
    const struct replica *r = core_replica(&n->core, partition);
    if (r == NULL)
        return false;
    *ret = (struct node_replica_view){.slot = r->slot,
                                      .primary = r->leads,
                                      .in_isr = r->in_isr,
                                      .config_epoch = r->config_epoch,
                                      .opened = r->opened,
                                      .promised_epoch = r->promised_epoch,
                                      .commit_epoch = r->commit.epoch,
                                      .commit_seq = r->commit.seq,
                                      .commit_hash = r->commit.hash,
                                      .last_seq = r->last.seq,
                                      .durable_seq = r->durable_seq,
                                      .verified_seq = r->verified_seq};
    if (r->in_isr)
        ret->isr[ret->isr_count++] = n->core.options.index;
    for (uint32_t i = 0; i < r->members_count; i++)
        if (r->members[i].in_isr)
            ret->isr[ret->isr_count++] = r->members[i].node;
    return true;
}

bool node_talks_to(const struct node *n, uint32_t node)
{
    return node < n->core.peers_count && n->core.peers[node].shares;
}

bool node_readable(const struct node *n, uint32_t partition, uint64_t now_ms)
{
    const struct replica *r = core_replica(&n->core, partition);
    return r != NULL && epoch_readable(r, now_ms);
}

bool node_entry_hash(const struct node *n, uint32_t partition, uint64_t seq, uint64_t *ret_hash)
{
    const struct replica *r = core_replica(&n->core, partition);
    return r != NULL && replica_hash(r, seq, ret_hash);
}

enum status node_completion_save(const struct node *n, uint32_t partition, struct buffer *out)
{
    const struct replica *r = core_replica(&n->core, partition);
    return r == NULL ? STATUS_NOTFOUND : completion_save(r->completion, out);
}
