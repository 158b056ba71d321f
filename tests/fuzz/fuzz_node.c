/* What a node takes from routers and from other nodes: any frames, in any order, into the brains of
 * two nodes that also talk to each other, as their code has it.
 *
 * Forged frames come from the other node by all that their receiver can see (sender, incarnations),
 * so they are looked at to the end. A node that finds its disk to be older than what others say
 * ends; here, too, and stays so.
 *
 * Input: events. An octet, its low three bits say what, the next says to which node; then what it
 * needs.
 */
#include <stdio.h>

#include "proto/codec.h"
#include "proto/partition.h"
#include "storage/node.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/rounds.h"
#include "tests/lib/table_mem.h"

#define NODES        2
#define PARTITIONS   4
#define EVENTS_MAX   48
#define WIRE_MAX     256
#define LOG_SIZE_MAX ((size_t)64 << 20)
#define WALL_MS      1700000000000u

enum event { REQUEST, PEER, FORGED, OPERATION, TIME, CUT, DISK, RESTART };

struct side {
    struct clustermap *map;
    struct table *table;
    struct store *store;
    struct node *node;
    uint64_t incarnation;
    enum status ended; /* STATUS_OK while it runs */
    bool disk_stopped;
    struct buffer log, memory; /* records that are durable, and those that are not */
    uint64_t durable, appended;
};

struct letter {
    uint32_t to;
    struct buffer frame;
};

struct world {
    struct side sides[NODES];
    uint64_t now_ms, tokens;
    bool cut;
    struct letter wire[WIRE_MAX];
    size_t wire_count;
};

static struct clustermap *map_new(void)
{
    struct clustermap *map = clustermap_new();
    struct error error;
    ENSURE(map != NULL);
    map->partition_count = PARTITIONS;
    map->copies = NODES;
    map->isr_min = 1;
    map->nodes_count = NODES;
    map->cluster_id.octets[0] = 7;
    for (uint32_t i = 0; i < NODES; i++) {
        struct clustermap_node *n = &map->nodes[i];
        n->id.octets[0] = (uint8_t)(i + 1);
        n->weight = 100;
        snprintf(n->name, sizeof n->name, "n%u", i + 1);
        snprintf(n->host, sizeof n->host, "n%u", i + 1);
        snprintf(n->address, sizeof n->address, "tcp://127.0.0.1:%u", 7500 + 3 * i);
    }
    ENSURE(clustermap_found(map, &error) == STATUS_OK);
    return map;
}

static struct node_time time_of(const struct world *w)
{
    return (struct node_time){w->now_ms, WALL_MS + w->now_ms};
}

/* A node logs what it can read again. */
static void keep_records(struct side *s, const struct node_effects *out)
{
    struct bytes rest = buffer_view(&out->records);
    struct record_view record;
    struct entry entry;
    struct effect room[ENTRY_EFFECTS_MAX];
    uint32_t count = 0;
    for (; record_next(&rest, &record) == STATUS_OK; count++)
        if (record.kind == RECORD_ENTRY)
            ENSURE(record_entry_decode(record.body, &entry, room) == STATUS_OK);
    ENSURE(rest.size == 0 && count == out->records_count);
    ENSURE(count == 0 || out->records_first == s->appended + 1);
    ENSURE(buffer_append(&s->memory, buffer_view(&out->records)) == STATUS_OK);
    s->appended += count;
}

static void post(struct world *w, struct node_effect *e)
{
    if (w->cut || w->wire_count == WIRE_MAX)
        return;
    struct letter *to = &w->wire[w->wire_count++];
    *to = (struct letter){e->peer, e->frame};
    buffer_init(&e->frame, 1);
}

static void carry_out(struct world *w, uint32_t node, enum status status, struct node_effects *out)
{
    struct side *s = &w->sides[node];
    /* Neither disk nor memory fails here. */
    ENSURE(status == STATUS_OK || status == STATUS_CORRUPT);
    if (status != STATUS_OK) {
        s->ended = status;
        return;
    }
    keep_records(s, out);
    for (size_t i = 0; i < out->count; i++) {
        ENSURE(out->list[i].kind != NODE_FETCH && rounds_frame(buffer_view(&out->list[i].frame)));
        if (out->list[i].kind == NODE_SEND_PEER)
            post(w, &out->list[i]);
    }
}

/* Invariant (3). */
static void check(const struct side *s)
{
    struct node_replica_view r;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        if (node_replica(s->node, p, &r))
            ENSURE(r.commit_seq <= r.verified_seq && r.verified_seq <= r.last_seq);
}

static void step(struct world *w, uint32_t node, const struct node_event *event)
{
    struct side *s = &w->sides[node];
    struct node_effects out;
    struct node_time time = time_of(w);
    if (s->ended != STATUS_OK)
        return;
    node_effects_init(&out);
    carry_out(w, node, node_step(s->node, &time, event, &out), &out);
    node_effects_fini(&out);
    if (s->ended == STATUS_OK)
        check(s);
}

static void flush(struct world *w, uint32_t node)
{
    struct side *s = &w->sides[node];
    struct node_effects out;
    struct node_time time = time_of(w);
    if (s->ended != STATUS_OK)
        return;
    node_effects_init(&out);
    carry_out(w, node, node_flush(s->node, &time, &out), &out);
    node_effects_fini(&out);
}

static void make_durable(struct world *w, uint32_t node)
{
    struct side *s = &w->sides[node];
    if (s->disk_stopped || s->appended == s->durable)
        return;
    ENSURE(buffer_append(&s->log, buffer_view(&s->memory)) == STATUS_OK);
    buffer_clear(&s->memory);
    s->durable = s->appended;
    step(w, node, &(struct node_event){.kind = NODE_DURABLE, .lsn = s->durable});
}

static void deliver(struct world *w)
{
    struct letter letters[WIRE_MAX];
    size_t count = w->wire_count;
    memcpy(letters, w->wire, count * sizeof letters[0]);
    w->wire_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (letters[i].to < NODES)
            step(w, letters[i].to,
                 &(struct node_event){.kind = NODE_PEER, .frame = buffer_view(&letters[i].frame)});
        buffer_fini(&letters[i].frame);
    }
}

static void pass(struct world *w, uint64_t ms, uint64_t step_ms)
{
    for (uint64_t i = 0; i < ms; i += step_ms) {
        w->now_ms += step_ms;
        deliver(w);
        for (uint32_t node = 0; node < NODES; node++) {
            make_durable(w, node);
            flush(w, node);
        }
    }
}

/* What a node logged, it can read again, whatever it was told when it did. */
static void side_start(struct world *w, uint32_t node)
{
    struct side *s = &w->sides[node];
    struct store_options store = {64 << 20, 1 << 20, true};
    struct node_options o;
    struct error error = {.status = STATUS_OK};
    struct node_effects out;
    struct node_time time = time_of(w);
    struct bytes rest = buffer_view(&s->log);
    struct record_view record;
    node_options_init(&o);
    o.index = node;
    o.incarnation = ++s->incarnation;
    o.value_size_max = 65536;
    s->map = map_new();
    s->table = table_mem_new();
    s->store = store_new(&store, s->table);
    s->node = node_new(&o, s->map, s->store);
    ENSURE(s->node != NULL);
    for (uint64_t lsn = 1; record_next(&rest, &record) == STATUS_OK; lsn++)
        ENSURE(node_replay(s->node, lsn, &record, &error) == STATUS_OK);
    node_effects_init(&out);
    enum status started = node_start(s->node, &time, s->durable + 1, &out, &error);
    ENSURE(started == STATUS_OK);
    carry_out(w, node, started, &out);
    node_effects_fini(&out);
}

static void side_stop(struct side *s)
{
    node_destroy(&s->node);
    store_destroy(&s->store);
    clustermap_destroy(&s->map);
    s->table->verbs->destroy(&s->table);
    buffer_clear(&s->memory);
    s->appended = s->durable;
}

static void restart(struct world *w, uint32_t node)
{
    if (w->sides[node].ended != STATUS_OK)
        return;
    side_stop(&w->sides[node]);
    side_start(w, node);
}

/* Give the frame the sender and the incarnations that its receiver expects. */
static void forge(const struct world *w, uint32_t to, struct bytes frame, struct buffer *out)
{
    struct arena arena;
    enum message_kind kind;
    uint32_t from = 1 - to;
    uint64_t here = w->sides[to].incarnation, there = w->sides[from].incarnation;
    arena_init(&arena);
#define codec_pack_confirm(m, out) codec_pack_confirm(kind, m, out)
#define FORGE(name)                                                                                \
    do {                                                                                           \
        struct name m;                                                                             \
        if (codec_unpack_##name(frame, &arena, &m) != STATUS_OK)                                   \
            break;                                                                                 \
        m.sender = from;                                                                           \
        m.incarnation = there;                                                                     \
        m.target_incarnation = here;                                                               \
        ENSURE(codec_pack_##name(&m, out) == STATUS_OK);                                           \
    } while (0)
    if (codec_peek(frame, &kind) == STATUS_OK) {
        FORGE(heartbeat);
        FORGE(promise);
        FORGE(promised);
        FORGE(append);
        FORGE(ack);
        FORGE(confirm);
    }
#undef FORGE
#undef codec_pack_confirm
    arena_fini(&arena);
}

/* Make body the entry behind the one whose seq and hash are given, as far as the chain goes. */
static void chain_entry(struct bytes *body, uint64_t epoch, uint64_t *seq, uint64_t *hash,
                        struct arena *bodies)
{
    struct entry e;
    struct effect room[ENTRY_EFFECTS_MAX];
    struct buffer out;
    if (record_entry_decode(*body, &e, room) != STATUS_OK)
        return;
    e.epoch = e.epoch < epoch ? e.epoch : epoch;
    e.seq = ++*seq;
    e.prev_hash = *hash;
    buffer_init(&out, LOG_SIZE_MAX);
    ENSURE(record_entry_encode(&e, &out) == STATUS_OK);
    *hash = record_entry_hash(buffer_view(&out), e.prev_hash);
    uint8_t *copy = arena_alloc(bodies, out.size);
    ENSURE(copy != NULL);
    memcpy(copy, out.data, out.size);
    *body = bytes_of(copy, out.size);
    buffer_fini(&out);
}

/* Have each section go on where the receiver is: a primary with any content, and no mistake in
 * form. A section stays as it is where the receiver has no replica. */
static void chain(const struct node *node, struct append *m, struct arena *bodies)
{
    struct bytes *entry = m->entries;
    for (size_t i = 0; i < m->count; i++) {
        struct node_replica_view r;
        uint64_t hash;
        bool known = node_replica(node, m->partitions[i], &r) &&
                     node_entry_hash(node, m->partitions[i], r.last_seq, &hash);
        uint64_t seq = known ? r.last_seq : 0;
        if (known) {
            m->epochs[i] = r.promised_epoch;
            m->prev_seqs[i] = r.last_seq;
            m->prev_hashes[i] = hash;
            m->commit_seqs[i] %= r.last_seq + 1;
        }
        for (uint32_t k = 0; k < m->entry_counts[i]; k++, entry++)
            if (known)
                chain_entry(entry, r.promised_epoch, &seq, &hash, bodies);
    }
}

static void chained(struct world *w, uint32_t to, struct bytes frame, struct buffer *out)
{
    struct arena arena, bodies;
    struct append m;
    arena_init(&arena);
    arena_init(&bodies);
    arena_reset(&bodies, LOG_SIZE_MAX);
    if (codec_unpack_append(frame, &arena, &m) == STATUS_OK) {
        m.sender = 1 - to;
        m.incarnation = w->sides[1 - to].incarnation;
        m.target_incarnation = w->sides[to].incarnation;
        chain(w->sides[to].node, &m, &bodies);
        ENSURE(codec_pack_append(&m, out) == STATUS_OK);
    }
    arena_fini(&arena);
    arena_fini(&bodies);
}

static void frame_to(struct world *w, uint32_t node, enum node_event_kind kind, struct bytes frame)
{
    uint8_t *copy = fuzz_copy(frame);
    rounds_frame(frame);
    step(w, node,
         &(struct node_event){.kind = kind, .source = 1, .frame = bytes_of(copy, frame.size)});
    free(copy);
}

static void forged(struct world *w, uint32_t node, bool in_chain, struct bytes frame)
{
    struct buffer out;
    buffer_init(&out, LOG_SIZE_MAX);
    if (in_chain)
        chained(w, node, frame, &out);
    else
        forge(w, node, frame, &out);
    if (out.size > 0)
        frame_to(w, node, NODE_PEER, buffer_view(&out));
    buffer_fini(&out);
}

/* One operation as a router would send it. */
static void operation(struct world *w, uint32_t node, uint32_t kind, struct bytes *rest)
{
    uint64_t token = ++w->tokens, client = 1 + feed_octet(rest) % 2, seq = feed_octet(rest);
    uint64_t ack_below = feed_octet(rest), ptime_token = 1, epoch = 0;
    uint32_t deadline_ms = 1000;
    struct bytes key = feed_block(rest), body = feed_block(rest);
    uint64_t digest = partition_digest(key);
    struct buffer out;
    struct batch m = {1,    1,          &token,       &kind,        &digest, &epoch, &client,
                      &seq, &ack_below, &ptime_token, &deadline_ms, &key,    &body};
    buffer_init(&out, LOG_SIZE_MAX);
    ENSURE(codec_pack_batch(&m, &out) == STATUS_OK);
    frame_to(w, node, NODE_REQUEST, buffer_view(&out));
    buffer_fini(&out);
}

static void event(struct world *w, struct bytes *rest)
{
    uint32_t octet = feed_octet(rest), node = octet >> 3 & 1, more = octet >> 4;
    switch ((enum event)(octet & 7)) {
    case REQUEST:
        frame_to(w, node, NODE_REQUEST, feed_block(rest));
        return;
    case PEER:
        frame_to(w, node, NODE_PEER, feed_block(rest));
        return;
    case FORGED:
        forged(w, node, (more & 1) != 0, feed_block(rest));
        return;
    case OPERATION:
        operation(w, node, KIND_READ + more % KIND_LAST, rest);
        return;
    case TIME:
        pass(w, more * 20, 10);
        return;
    case CUT:
        w->cut = !w->cut;
        return;
    case DISK:
        w->sides[node].disk_stopped = !w->sides[node].disk_stopped;
        return;
    case RESTART:
        restart(w, node);
        return;
    }
}

static void world_init(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->now_ms = 1000;
    for (uint32_t i = 0; i < NODES; i++) {
        buffer_init(&w->sides[i].log, LOG_SIZE_MAX);
        buffer_init(&w->sides[i].memory, LOG_SIZE_MAX);
        side_start(w, i);
    }
    pass(w, 20, 1);
}

static void world_fini(struct world *w)
{
    for (size_t i = 0; i < w->wire_count; i++)
        buffer_fini(&w->wire[i].frame);
    for (uint32_t i = 0; i < NODES; i++) {
        side_stop(&w->sides[i]);
        buffer_fini(&w->sides[i].log);
        buffer_fini(&w->sides[i].memory);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    struct bytes rest = bytes_of(data, size);
    world_init(&w);
    for (unsigned i = 0; i < EVENTS_MAX && rest.size > 0; i++) {
        event(&w, &rest);
        pass(&w, 2, 1);
    }
    for (uint32_t i = 0; i < NODES; i++)
        restart(&w, i);
    pass(&w, 20, 1);
    world_fini(&w);
    return 0;
}
