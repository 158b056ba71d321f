#include "tests/lib/pair.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "proto/partition.h"
#include "tests/lib/table_mem.h"

static struct clustermap *map_new(uint32_t nodes, uint32_t partitions)
{
    struct clustermap *map = clustermap_new();
    struct error error;
    map->partition_count = partitions;
    map->copies = 2;
    map->isr_min = 1;
    map->nodes_count = nodes;
    map->cluster_id.octets[0] = 7;
    for (uint32_t i = 0; i < nodes; i++) {
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

static void open_nodes(struct pair *p, uint32_t count)
{
    p->count = count;
    p->now_ms = 1000;
    for (uint32_t i = 0; i < p->count; i++) {
        p->nodes[i].table = table_mem_new();
        p->nodes[i].disk = 1000 + i;
        buffer_init(&p->nodes[i].log, (size_t)1 << 30);
        buffer_init(&p->nodes[i].memory, (size_t)1 << 30);
        pair_start(p, i);
    }
}

void pair_init(struct pair *p, uint32_t partitions, bool store_inline)
{
    memset(p, 0, sizeof *p);
    buffer_init(&p->said, (size_t)1 << 20);
    p->partitions = partitions;
    p->store_inline = store_inline;
    open_nodes(p, PAIR_NODES);
}

void pair_init_three(struct pair *p, uint32_t partitions, uint64_t kept_bytes_max)
{
    memset(p, 0, sizeof *p);
    buffer_init(&p->said, (size_t)1 << 20);
    p->partitions = partitions;
    p->store_inline = true;
    p->kept_bytes_max = kept_bytes_max;
    open_nodes(p, 3);
}

static void wire_clear(struct pair *p)
{
    for (size_t i = 0; i < p->wire_count; i++)
        buffer_fini(&p->wire[i].frame);
    p->wire_count = 0;
}

static void node_down(struct pair_node *n)
{
    node_destroy(&n->node);
    store_destroy(&n->store);
    clustermap_destroy(&n->map);
    n->up = false;
}

static void fetches_forget(struct pair_node *n)
{
    while (n->fetches_count > 0)
        buffer_fini(&n->fetches[--n->fetches_count].frame);
}

void pair_fini(struct pair *p)
{
    if (p->fetch_held)
        buffer_fini(&p->fetch.frame);
    wire_clear(p);
    free(p->wire);
    buffer_fini(&p->said);
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->nodes[i].up)
            node_down(&p->nodes[i]);
        fetches_forget(&p->nodes[i]);
        p->nodes[i].table->verbs->destroy(&p->nodes[i].table);
        buffer_fini(&p->nodes[i].log);
        buffer_fini(&p->nodes[i].memory);
    }
}

void pair_crash(struct pair *p, uint32_t node)
{
    struct pair_node *n = &p->nodes[node];
    node_down(n);
    fetches_forget(n);
    buffer_clear(&n->memory);
    n->appended = n->durable;
    table_mem_crash(n->table);
}

void pair_wipe(struct pair *p, uint32_t node)
{
    struct pair_node *n = &p->nodes[node];
    ENSURE(!n->up);
    n->table->verbs->destroy(&n->table);
    n->table = table_mem_new();
    buffer_clear(&n->log);
    n->durable = n->appended = n->incarnation = 0;
    n->disk += 1000;
}

void pair_image_take(const struct pair *p, uint32_t node, struct pair_image *ret)
{
    const struct pair_node *n = &p->nodes[node];
    buffer_init(&ret->log, (size_t)1 << 30);
    ENSURE(buffer_append(&ret->log, buffer_view(&n->log)) == STATUS_OK);
    ret->durable = n->durable;
    ret->incarnation = n->incarnation;
}

void pair_image_put(struct pair *p, uint32_t node, struct pair_image *image)
{
    struct pair_node *n = &p->nodes[node];
    ENSURE(!n->up);
    buffer_fini(&n->log);
    n->log = image->log;
    n->durable = n->appended = image->durable;
    n->incarnation = image->incarnation;
}

static struct node_time time_of(const struct pair *p, uint32_t node)
{
    return (struct node_time){p->now_ms,
                              PAIR_WALL_MS + p->now_ms + (uint64_t)p->wall_skew_ms[node]};
}

static void on_answer(struct pair *p, struct bytes frame)
{
    struct arena arena;
    struct answer a;
    enum message_kind kind;
    arena_init(&arena);
    ENSURE(codec_peek(frame, &kind) == STATUS_OK);
    if (kind != MESSAGE_RESULTS) { /* to pair_ask() */
        arena_fini(&arena);
        buffer_clear(&p->said);
        ENSURE(buffer_append(&p->said, frame) == STATUS_OK);
        return;
    }
    ENSURE(codec_unpack_answer(frame, &arena, &a) == STATUS_OK);
    for (size_t i = 0; i < a.count; i++) {
        ENSURE(p->answers_count < PAIR_ANSWERS_MAX);
        struct pair_answer *to = &p->answers[p->answers_count++];
        *to = (struct pair_answer){.token = a.ids[i],
                                   .status = status_from_wire(a.statuses[i]),
                                   .flags = a.flags[i],
                                   .version = {a.epochs[i], a.seqs[i]},
                                   .value_size = a.values[i].size};
        ENSURE(to->value_size <= PAIR_VALUE_MAX);
        if (to->value_size > 0)
            memcpy(to->value, a.values[i].data, to->value_size);
    }
    arena_fini(&arena);
}

static void keep_on_wire(struct pair *p, struct node_effect *e)
{
    if (p->wire_count == p->wire_capacity) {
        p->wire_capacity = p->wire_capacity == 0 ? 64 : p->wire_capacity * 2;
        p->wire = realloc(p->wire, p->wire_capacity * sizeof *p->wire);
        ENSURE(p->wire != NULL);
    }
    p->wire[p->wire_count++] = *e;
    buffer_init(&e->frame, 1);
}

/* On the wire `source` is the sender, and `ticket` when it arrives. */
static void to_wire(struct pair *p, uint32_t node, struct node_effect *e)
{
    if (e->peer >= p->count) /* a node that is in the map, but not here */
        return buffer_fini(&e->frame);
    e->source = node;
    e->ticket = p->now_ms + p->delay_ms;
    keep_on_wire(p, e);
}

static void fetch(struct pair_node *n, const struct node_effect *e, const struct node_time *time,
                  struct node_effects *next)
{
    struct table_reader *reader;
    struct item item;
    ENSURE(n->table->verbs->reader_new(n->table, &reader) == STATUS_OK);
    ENSURE(n->table->verbs->refresh(reader) == STATUS_OK);
    ENSURE(n->table->verbs->get(reader, e->slot, e->digest, buffer_view(&e->frame), &item) ==
           STATUS_OK);
    struct node_event event = {.kind = NODE_FETCHED,
                               .ticket = e->ticket,
                               .generation = e->generation,
                               .item = &item};
    ENSURE(node_step(n->node, time, &event, next) == STATUS_OK);
    n->table->verbs->release(reader);
    n->table->verbs->reader_destroy(&reader);
}

static void fetch_later(struct pair_node *n, struct node_effect *e)
{
    ENSURE(n->fetches_count < PAIR_FETCHES_MAX);
    n->fetches[n->fetches_count++] = *e;
    buffer_init(&e->frame, 1);
}

static void keep_records(struct pair_node *n, const struct node_effects *out)
{
    if (out->records_count == 0)
        return;
    ENSURE(out->records_first == n->appended + 1);
    ENSURE(buffer_append(&n->memory, buffer_view(&out->records)) == STATUS_OK);
    n->appended += out->records_count;
}

static void hold(struct pair *p, uint32_t node, struct node_effect *e)
{
    p->fetch_held = true;
    p->fetch_node = node;
    p->fetch = *e;
    buffer_init(&e->frame, 1);
}

/* Carry effects out; a fetch comes back at once, unless it is held, and may have effects of its own. */
static void carry(struct pair *p, uint32_t node, struct node_effects *out)
{
    struct pair_node *n = &p->nodes[node];
    struct node_time time = time_of(p, node);
    struct node_effects next;
    node_effects_init(&next);
    keep_records(n, out);
    for (size_t i = 0; i < out->count; i++) {
        struct node_effect *e = &out->list[i];
        if (e->kind == NODE_SEND_SOURCE)
            on_answer(p, buffer_view(&e->frame));
        else if (e->kind == NODE_SEND_PEER)
            to_wire(p, node, e);
        else if (p->fetches_late && !p->fetch_held)
            hold(p, node, e);
        else if (n->fetches_stopped)
            fetch_later(n, e);
        else
            fetch(n, e, &time, &next);
    }
    node_effects_clear(out);
    if (next.count > 0 || next.records_count > 0)
        carry(p, node, &next);
    node_effects_fini(&next);
}

/* False: it has ended by itself, as it may. */
static bool goes_on(struct pair *p, uint32_t node, enum status status)
{
    struct pair_node *n = &p->nodes[node];
    if (status == STATUS_OK)
        return true;
    ENSURE(n->may_end);
    node_failure(n->node, n->why);
    pair_crash(p, node);
    return false;
}

static void step(struct pair *p, uint32_t node, const struct node_event *event)
{
    struct node_effects out;
    struct node_time time = time_of(p, node);
    node_effects_init(&out);
    if (goes_on(p, node, node_step(p->nodes[node].node, &time, event, &out)))
        carry(p, node, &out);
    node_effects_fini(&out);
}

void pair_fetch(struct pair *p, uint32_t node)
{
    struct pair_node *n = &p->nodes[node];
    struct node_time time = time_of(p, node);
    struct node_effects out;
    node_effects_init(&out);
    n->fetches_stopped = false;
    for (size_t i = 0; i < n->fetches_count; i++)
        fetch(n, &n->fetches[i], &time, &out);
    fetches_forget(n);
    carry(p, node, &out);
    node_effects_fini(&out);
}

static enum status restore(void *arg, uint32_t slot, struct bytes blob)
{
    struct error error;
    return node_restore(arg, slot, blob, &error);
}

void pair_start(struct pair *p, uint32_t node)
{
    struct pair_node *n = &p->nodes[node];
    struct store_options store = {64 << 20, 1 << 20, p->store_inline};
    struct node_options o;
    struct error error = {.status = STATUS_OK};
    struct node_effects out;
    struct node_time time = time_of(p, node);
    uint64_t after, lsn = 0;
    node_options_init(&o);
    o.index = node;
    /* As identity_boot() does: never one that others may know. */
    o.former = n->incarnation;
    n->incarnation = n->incarnation < p->now_ms ? p->now_ms : n->incarnation + 1;
    o.incarnation = n->incarnation;
    o.disk = n->disk;
    o.address = p->address[node];
    if (p->kept_bytes_max > 0)
        o.kept_bytes_max = p->kept_bytes_max;
    n->map = map_new(p->count, p->partitions);
    n->store = store_new(&store, n->table);
    n->node = node_new(&o, n->map, n->store);
    ENSURE(checkpoint_position(n->table, &after) == STATUS_OK);
    ENSURE(checkpoint_states(n->table, restore, n->node) == STATUS_OK);
    struct bytes rest = buffer_view(&n->log);
    struct record_view record;
    while (record_next(&rest, &record) == STATUS_OK)
        if (++lsn > after)
            ENSURE(node_replay(n->node, lsn, &record, &error) == STATUS_OK);
    node_effects_init(&out);
    ENSURE(node_start(n->node, &time, n->durable + 1, &out, &error) == STATUS_OK);
    n->up = true;
    carry(p, node, &out);
    node_effects_fini(&out);
}

void pair_leave(struct pair *p, uint32_t node)
{
    struct node_event event = {.kind = NODE_LEAVE};
    step(p, node, &event);
}

void pair_stay(struct pair *p, uint32_t node)
{
    struct buffer frame;
    buffer_init(&frame, 256);
    ENSURE(codec_pack_drain(false, &frame) == STATUS_OK);
    pair_ask(p, node, buffer_view(&frame));
    buffer_fini(&frame);
}

void pair_ask(struct pair *p, uint32_t node, struct bytes frame)
{
    struct node_event event = {.kind = NODE_REQUEST, .source = 1, .frame = frame};
    step(p, node, &event);
}

void pair_voters(struct pair *p, uint32_t node, const uint32_t *voters, size_t count)
{
    uint32_t nodes[VOTERS_MAX];
    struct buffer frame;
    ENSURE(count <= VOTERS_MAX);
    memcpy(nodes, voters, count * sizeof *nodes);
    buffer_init(&frame, 256);
    ENSURE(codec_pack_voters(&(struct voters_message){count, nodes}, &frame) == STATUS_OK);
    pair_ask(p, node, buffer_view(&frame));
    buffer_fini(&frame);
}

static void make_durable(struct pair *p, uint32_t node)
{
    struct pair_node *n = &p->nodes[node];
    if (p->disk_stopped[node] || n->appended == n->durable)
        return;
    ENSURE(buffer_append(&n->log, buffer_view(&n->memory)) == STATUS_OK);
    buffer_clear(&n->memory);
    n->durable = n->appended;
    struct node_event event = {.kind = NODE_DURABLE, .lsn = n->durable};
    step(p, node, &event);
}

static void deliver(struct pair *p)
{
    struct node_effect *wire = p->wire;
    size_t count = p->wire_count;
    p->wire = NULL;
    p->wire_count = p->wire_capacity = 0;
    for (size_t i = 0; i < count; i++) {
        if (wire[i].ticket > p->now_ms) {
            keep_on_wire(p, &wire[i]);
            continue;
        }
        bool lost = p->cut || !p->nodes[wire[i].peer].up || p->deaf[wire[i].peer] ||
                    p->mute[wire[i].source] || (p->drop_appends && wire[i].lane == LANE_APPEND);
        struct node_event event = {.kind = NODE_PEER, .frame = buffer_view(&wire[i].frame)};
        if (!lost)
            step(p, wire[i].peer, &event);
        buffer_fini(&wire[i].frame);
    }
    free(wire);
}

void pair_peer(struct pair *p, uint32_t node, struct bytes frame)
{
    struct node_event event = {.kind = NODE_PEER, .frame = frame};
    step(p, node, &event);
}

static void flush(struct pair *p, uint32_t node)
{
    struct node_effects out;
    struct node_time time = time_of(p, node);
    node_effects_init(&out);
    if (goes_on(p, node, node_flush(p->nodes[node].node, &time, &out)))
        carry(p, node, &out);
    node_effects_fini(&out);
}

static void release_fetch(struct pair *p)
{
    struct node_effects next;
    struct node_time time = time_of(p, p->fetch_node);
    if (!p->fetch_held)
        return;
    p->fetch_held = false;
    node_effects_init(&next);
    if (p->nodes[p->fetch_node].up) {
        fetch(&p->nodes[p->fetch_node], &p->fetch, &time, &next);
        carry(p, p->fetch_node, &next);
    }
    node_effects_fini(&next);
    buffer_fini(&p->fetch.frame);
}

void pair_run(struct pair *p, uint64_t ms)
{
    release_fetch(p);
    for (uint64_t i = 0; i < ms; i++) {
        p->now_ms++;
        deliver(p);
        for (uint32_t node = 0; node < p->count; node++) {
            if (!p->nodes[node].up)
                continue;
            make_durable(p, node);
            if (p->nodes[node].up)
                flush(p, node);
        }
    }
}

size_t pair_key(const struct pair *p, uint32_t node, unsigned n, char to[static 32])
{
    for (unsigned i = 0;; i++) {
        int size = snprintf(to, 32, "key%u", i);
        uint32_t part = partition_of(partition_digest(bytes_text(to)), p->partitions);
        const struct pair_node *any = p->nodes[0].up ? &p->nodes[0] : &p->nodes[1];
        if (any->map->partitions[part].primary == node && n-- == 0)
            return (size_t)size;
    }
}

static uint64_t send(struct pair *p, uint32_t node, uint32_t kind, struct bytes key_bytes,
                     uint64_t client, uint64_t seq, struct bytes body)
{
    uint64_t token = ++p->token, digest, zero = 0;
    uint32_t deadline = 5000;
    digest = kind == KIND_SCAN ? bytes_be64(key_bytes.data) : partition_digest(key_bytes);
    if (p->digest != 0)
        digest = p->digest;
    struct batch b = {.router_boot = 1,
                      .count = 1,
                      .tokens = &token,
                      .kinds = &kind,
                      .digests = &digest,
                      .epochs = &zero,
                      .client_ids = &client,
                      .seqs = &seq,
                      .ack_belows = &zero,
                      .ptime_tokens = &zero,
                      .deadlines_ms = &deadline,
                      .keys = &key_bytes,
                      .operations = &body};
    struct buffer frame;
    buffer_init(&frame, 1 << 23);
    ENSURE(codec_pack_batch(&b, &frame) == STATUS_OK);
    struct node_event event = {.kind = NODE_REQUEST, .source = 1, .frame = buffer_view(&frame)};
    step(p, node, &event);
    buffer_fini(&frame);
    flush(p, node);
    return token;
}

uint64_t pair_read(struct pair *p, uint32_t node, const char *key)
{
    return send(p, node, KIND_READ, bytes_text(key), 0, 0, BYTES_EMPTY);
}

uint64_t pair_write(struct pair *p, uint32_t node, const char *key, uint64_t client, uint64_t seq,
                    const struct write *w)
{
    struct buffer body;
    buffer_init(&body, 1 << 20);
    ENSURE(codec_pack_write(w, &body) == STATUS_OK);
    uint64_t token = send(p, node, KIND_WRITE, bytes_text(key), client, seq, buffer_view(&body));
    buffer_fini(&body);
    return token;
}

uint64_t pair_read_query(struct pair *p, uint32_t node, const char *key,
                         const struct read_query *q)
{
    struct buffer body;
    buffer_init(&body, 1 << 10);
    ENSURE(codec_pack_read_query(q, &body) == STATUS_OK);
    uint64_t token = send(p, node, KIND_READ, bytes_text(key), 0, 0, buffer_view(&body));
    buffer_fini(&body);
    return token;
}

uint64_t pair_read_part(struct pair *p, uint32_t node, const char *key, enum read_part part)
{
    return pair_read_query(p, node, key, &(struct read_query){.part = part});
}

uint64_t pair_scan(struct pair *p, uint32_t node, struct bytes cursor, const struct scan_query *q)
{
    struct buffer body;
    buffer_init(&body, 1 << 10);
    ENSURE(codec_pack_scan_query(q, &body) == STATUS_OK);
    uint64_t token = send(p, node, KIND_SCAN, cursor, 0, 0, buffer_view(&body));
    buffer_fini(&body);
    return token;
}

uint64_t pair_atomic(struct pair *p, uint32_t node, uint64_t client, uint64_t seq,
                     const char *const *keys, const struct write *writes, size_t count)
{
    struct bytes names[ATOMIC_KEYS_MAX], operations[ATOMIC_KEYS_MAX];
    struct buffer packed[ATOMIC_KEYS_MAX], body;
    ENSURE(count <= ATOMIC_KEYS_MAX);
    for (size_t i = 0; i < count; i++) {
        buffer_init(&packed[i], 1 << 20);
        ENSURE(codec_pack_write(&writes[i], &packed[i]) == STATUS_OK);
        names[i] = bytes_text(keys[i]);
        operations[i] = buffer_view(&packed[i]);
    }
    struct atomic_batch m = {.count = count, .keys = names, .operations = operations};
    buffer_init(&body, 1 << 22);
    ENSURE(codec_pack_atomic_batch(&m, &body) == STATUS_OK);
    uint64_t token =
        send(p, node, KIND_ATOMIC, bytes_text(keys[0]), client, seq, buffer_view(&body));
    buffer_fini(&body);
    for (size_t i = 0; i < count; i++)
        buffer_fini(&packed[i]);
    return token;
}

uint64_t pair_range(struct pair *p, uint32_t node, const char *key, const struct scan_query *q)
{
    struct buffer body;
    buffer_init(&body, 1 << 12);
    ENSURE(codec_pack_scan_query(q, &body) == STATUS_OK);
    uint64_t token = send(p, node, KIND_RANGE, bytes_text(key), 0, 0, buffer_view(&body));
    buffer_fini(&body);
    return token;
}

uint64_t pair_outcome(struct pair *p, uint32_t node, const char *key, uint64_t client, uint64_t seq,
                      uint64_t ptime_token)
{
    struct outcome_query q = {client, seq, ptime_token};
    struct buffer body;
    buffer_init(&body, 1 << 10);
    ENSURE(codec_pack_outcome_query(&q, &body) == STATUS_OK);
    uint64_t token = send(p, node, KIND_OUTCOME, bytes_text(key), 0, 0, buffer_view(&body));
    buffer_fini(&body);
    return token;
}

const struct pair_answer *pair_answer(const struct pair *p, uint64_t token)
{
    for (size_t i = p->answers_count; i > 0; i--)
        if (p->answers[i - 1].token == token)
            return &p->answers[i - 1];
    return NULL;
}

size_t pair_answers_to(const struct pair *p, uint64_t token)
{
    size_t count = 0;
    for (size_t i = 0; i < p->answers_count; i++)
        count += p->answers[i].token == token;
    return count;
}

void pair_checkpoint(struct pair *p, uint32_t node)
{
    struct pair_node *n = &p->nodes[node];
    struct checkpoint c = {0};
    struct node_effects out;
    node_effects_init(&out);
    c.frozen = store_freeze(n->store);
    ENSURE(c.frozen != NULL);
    ENSURE(node_freeze(n->node, &c, &out) == STATUS_OK);
    carry(p, node, &out);
    ENSURE(checkpoint_run(n->table, &c, NULL, NULL) == STATUS_OK);
    checkpoint_fini(&c);
    store_thaw(n->store);
    node_effects_fini(&out);
}
