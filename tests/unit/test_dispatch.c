#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/clustermap.h"
#include "proto/codec.h"
#include "proto/partition.h"
#include "router/coordinator.h"

/* Random worlds: nodes that crash, freeze, refuse and lose connections, against the rules of
 * router/dispatch.h. Nodes are played by a model that applies each (client, seq) once; every copy
 * sees every applied write at once. The promises that are checked:
 *
 * (a) every operation is answered exactly once, at its deadline at the latest;
 * (b) a write that was called not done is never applied, not even later;
 * (c) writes of one connection on one key are applied in the order sent (unless in doubt);
 * (d) a read sees every earlier write of its connection on its key (unless in doubt);
 * (e) a read sees no later write of its connection on its key.
 *
 * Exempt from (c) and (d) is a write whose refusal got lost with its connection: the router sends
 * it again, and cannot know that a later one was taken meanwhile (router/README.md, limits). */

#define NODES          3
#define SOURCES        4
#define KEYS           6
#define OPERATIONS_MAX 600
#define FRAMES_MAX     4096
#define DEADLINE_MS    400
#define SLOTS          512
#define GENERATIONS    256 /* of a slot: more than any world uses */

#ifdef DUET_MUTANTS
unsigned mutant;
#endif

struct asked {
    uint64_t source;
    unsigned key;
    uint32_t kind;
    uint64_t deadline_ms;
    unsigned answers;
    enum status status;
    uint64_t applied_at;    /* 0: never; writes */
    uint64_t seen_at;       /* reads: when the node executed the attempt that was answered */
    uint64_t seen_token;    /* of that attempt */
    unsigned refused;       /* attempts that a node refused */
    unsigned refused_heard; /* of them, those that the router heard of */
};

/* An attempt that a node saw. */
struct seen {
    uint64_t token, seq, executed_at;
};

/* A frame on its way; connection tells which DEALER carried it. */
struct travelling {
    uint8_t *data;
    size_t size;
    uint64_t at_ms;
    unsigned connection;
};

struct queue {
    struct travelling frames[FRAMES_MAX];
    size_t first, count;
};

struct model_node {
    bool up, frozen, connected;
    unsigned connection; /* of the DEALER that the router has now */
    uint64_t boot, since_ms;
    struct queue in, out;
    enum status mood; /* what it answers to writes, and now and then to reads */
};

struct world {
    uint64_t random;
    struct coordinator *c;
    struct effects effects;
    struct clustermap *map;
    struct model_node nodes[NODES];
    uint64_t now_ms, clock;
    struct asked asked[OPERATIONS_MAX + 1]; /* by seq, from 1 */
    struct seen seen[SLOTS][GENERATIONS];   /* by slot and generation, modulo */
    uint64_t seq_last;
    struct arena arena;
    struct buffer frame;
    char key_names[KEYS][16];
};

static uint32_t draw(struct world *w, uint32_t below)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (uint32_t)((w->random >> 11) % below);
}

/* ---- Links -----------------------------------------------------------------------------------*/

static void push(struct world *w, struct queue *q, struct bytes frame, unsigned connection)
{
    assert_true(q->count < FRAMES_MAX);
    struct travelling *t = &q->frames[(q->first + q->count++) % FRAMES_MAX];
    uint64_t at_ms = w->now_ms + draw(w, 4);
    if (q->count > 1) { /* in order, as TCP does */
        const struct travelling *last = &q->frames[(q->first + q->count - 2) % FRAMES_MAX];
        at_ms = at_ms < last->at_ms ? last->at_ms : at_ms;
    }
    *t = (struct travelling){malloc(frame.size), frame.size, at_ms, connection};
    memcpy(t->data, frame.data, frame.size);
}

static struct travelling *peek(struct world *w, struct queue *q)
{
    if (q->count == 0 || q->frames[q->first].at_ms > w->now_ms)
        return NULL;
    return &q->frames[q->first];
}

static void pop(struct queue *q)
{
    free(q->frames[q->first].data);
    q->first = (q->first + 1) % FRAMES_MAX;
    q->count--;
}

static void drain(struct queue *q)
{
    while (q->count > 0)
        pop(q);
}

/* ---- Nodes -----------------------------------------------------------------------------------*/

static void node_says(struct world *w, struct model_node *n, unsigned connection)
{
    if (connection == n->connection && n->connected)
        push(w, &n->out, buffer_view(&w->frame), connection);
    buffer_clear(&w->frame);
}

static bool leads(struct world *w, uint32_t node, uint64_t digest)
{
    return w->map->partitions[partition_of(digest, w->map->partition_count)].primary == node;
}

static struct seen *seen_of(struct world *w, uint64_t token)
{
    return &w->seen[(uint32_t)token][(token >> 32) % GENERATIONS];
}

static enum status execute(struct world *w, uint32_t node, const struct batch *b, size_t i)
{
    struct model_node *n = &w->nodes[node];
    uint64_t seq = b->seqs[i];
    struct asked *a = &w->asked[seq];
    w->clock++;
    *seen_of(w, b->tokens[i]) = (struct seen){b->tokens[i], seq, w->clock};
    if (b->kinds[i] == KIND_READ) {
        if (n->mood != STATUS_OK && draw(w, 3) == 0)
            return leads(w, node, b->digests[i]) ? n->mood : STATUS_ASKPRIMARY;
        return STATUS_OK;
    }
    assert_true(leads(w, node, b->digests[i])); /* rule (1) */
    if (a->applied_at != 0)
        return STATUS_OK;
    if (n->mood != STATUS_OK) {
        a->refused++;
        return n->mood;
    }
    a->applied_at = w->clock;
    return STATUS_OK;
}

static void node_batch(struct world *w, uint32_t node, struct bytes frame, unsigned connection)
{
    struct batch b;
    uint64_t ids[MESSAGE_OPERATIONS_MAX], zeros[MESSAGE_OPERATIONS_MAX] = {0};
    uint32_t statuses[MESSAGE_OPERATIONS_MAX];
    static struct bytes values[MESSAGE_OPERATIONS_MAX];
    assert_int_equal(codec_unpack_batch(frame, &w->arena, &b), STATUS_OK);
    struct answer m = {.owner = 99,
                       .ptime = 1,
                       .ids = ids,
                       .statuses = statuses,
                       .flags = (uint32_t *)zeros,
                       .epochs = zeros,
                       .seqs = zeros,
                       .values = values};
    for (size_t i = 0; i < b.count; i++) {
        enum status s = execute(w, node, &b, i);
        if (draw(w, 200) == 0)
            continue; /* an answer that never comes, from a node that is well */
        ids[m.count] = b.tokens[i];
        statuses[m.count++] = s;
    }
    codec_pack_answer(MESSAGE_RESULTS, &m, &w->frame);
    node_says(w, &w->nodes[node], connection);
}

static void node_hears(struct world *w, uint32_t node, struct bytes frame, unsigned connection)
{
    struct model_node *n = &w->nodes[node];
    enum message_kind kind;
    assert_int_equal(codec_peek(frame, &kind), STATUS_OK);
    if (kind == MESSAGE_BATCH) {
        node_batch(w, node, frame, connection);
        return;
    }
    if (kind == MESSAGE_PING) {
        struct ping m = {.boot_id = n->boot, .map_version = w->map->version};
        codec_pack_ping(MESSAGE_PONG, &m, &w->frame);
    } else if (kind == MESSAGE_HELLO) {
        struct hello m = {
            .protocol_min = 1, .protocol_max = 1, .role = ROLE_NODE, .boot_id = n->boot};
        codec_pack_hello(MESSAGE_HELLO_REPLY, &m, &w->frame);
    } else {
        assert_int_equal(kind, MESSAGE_MAP_REQUEST);
        clustermap_pack(w->map, &w->frame);
    }
    node_says(w, n, connection);
}

static void set_connected(struct world *w, uint32_t node, bool connected)
{
    struct model_node *n = &w->nodes[node];
    n->connected = connected;
    if (connected)
        n->connection++;
    coordinator_node_connected(w->c, w->now_ms, node, connected, &w->effects);
}

/* One step of a node's life. */
static void node_lives(struct world *w, uint32_t node, bool calm)
{
    struct model_node *n = &w->nodes[node];
    uint32_t fate = calm ? 1000 : draw(w, 1000);
    uint64_t age_ms = w->now_ms - n->since_ms;
    if (n->up && fate < 4) { /* crash */
        n->up = n->frozen = false;
        n->since_ms = w->now_ms;
        drain(&n->in);
        drain(&n->out);
        if (n->connected)
            set_connected(w, node, false);
    } else if (n->up && fate < 8) {
        n->frozen = true;
        n->since_ms = w->now_ms;
    } else if (n->up && fate < 12 && n->connected) { /* the connection breaks */
        drain(&n->out);
        if (draw(w, 2) == 0) /* what was under way may have arrived, or not */
            drain(&n->in);
        set_connected(w, node, false);
    } else if (fate < 40) {
        static const enum status moods[] = {STATUS_BUSY, STATUS_UNAVAILABLE, STATUS_WRONGEPOCH,
                                            STATUS_OK};
        n->mood = moods[draw(w, 4)];
    } else if (fate < 60) {
        n->mood = STATUS_OK;
    }
    if (calm)
        n->mood = STATUS_OK;
    if (!n->up && (calm || age_ms > 30 + draw(w, 300))) {
        n->up = true;
        n->boot++;
    }
    if (n->frozen && (calm || age_ms > 30 + draw(w, 300)))
        n->frozen = false;
    if (n->up && !n->frozen && !n->connected && draw(w, 20) == 0)
        set_connected(w, node, true);
}

/* The router hears this frame: note the refusals in it, and what its reads have seen. */
static void heard(struct world *w, struct bytes frame)
{
    enum message_kind kind;
    struct answer m;
    if (codec_peek(frame, &kind) != STATUS_OK || kind != MESSAGE_RESULTS)
        return;
    assert_int_equal(codec_unpack_answer(frame, &w->arena, &m), STATUS_OK);
    for (size_t i = 0; i < m.count; i++) {
        const struct seen *seen = seen_of(w, m.ids[i]);
        struct asked *a = &w->asked[seen->seq];
        if (seen->token != m.ids[i])
            continue;
        if (m.statuses[i] != STATUS_OK) {
            a->refused_heard++;
        } else if (a->seen_token < m.ids[i]) { /* an older attempt's result is late */
            a->seen_token = m.ids[i];
            a->seen_at = seen->executed_at;
        }
    }
}

static void node_works(struct world *w, uint32_t node)
{
    struct model_node *n = &w->nodes[node];
    struct travelling *t;
    while (n->up && !n->frozen && (t = peek(w, &n->in)) != NULL) {
        node_hears(w, node, bytes_of(t->data, t->size), t->connection);
        pop(&n->in);
    }
    while ((t = peek(w, &n->out)) != NULL) {
        if (n->connected && t->connection == n->connection) {
            heard(w, bytes_of(t->data, t->size));
            coordinator_node_message(w->c, w->now_ms, node, bytes_of(t->data, t->size),
                                     &w->effects);
        }
        pop(&n->out);
    }
}

/* ---- Clients ---------------------------------------------------------------------------------*/

static void client_asks(struct world *w)
{
    uint32_t count = 1 + draw(w, 5), kinds[5];
    struct bytes keys[5], operations[5] = {{0}};
    uint64_t source = 1 + draw(w, SOURCES);
    if (w->seq_last + count > OPERATIONS_MAX)
        return;
    struct request m = {.client_id = source,
                        .first_seq = w->seq_last + 1,
                        .deadline_ms = DEADLINE_MS,
                        .count = count,
                        .kinds = kinds,
                        .keys = keys,
                        .operations = operations};
    for (uint32_t i = 0; i < count; i++) {
        struct asked *a = &w->asked[++w->seq_last];
        *a = (struct asked){.source = source,
                            .key = draw(w, KEYS),
                            .kind = draw(w, 2) ? KIND_READ : KIND_WRITE,
                            .deadline_ms = w->now_ms + DEADLINE_MS};
        kinds[i] = a->kind;
        keys[i] = bytes_text(w->key_names[a->key]);
    }
    codec_pack_request(&m, &w->frame);
    coordinator_client_message(w->c, w->now_ms, source, draw(w, 8) == 0, buffer_view(&w->frame),
                               &w->effects);
    buffer_clear(&w->frame);
}

static void client_hears(struct world *w, uint64_t source, struct bytes frame)
{
    struct answer m;
    assert_int_equal(codec_unpack_answer(frame, &w->arena, &m), STATUS_OK);
    for (size_t i = 0; i < m.count; i++) {
        struct asked *a = &w->asked[m.ids[i]];
        assert_int_equal(a->source, source);
        assert_int_equal(a->answers++, 0); /* (a) */
        a->status = status_from_wire(m.statuses[i]);
    }
}

/* ---- The world -------------------------------------------------------------------------------*/

static void carry_out(struct world *w)
{
    for (size_t i = 0; i < w->effects.count; i++) {
        struct effect *e = &w->effects.items[i];
        struct model_node *n = e->node < NODES ? &w->nodes[e->node] : NULL;
        switch (e->kind) {
        case EFFECT_SEND_CLIENT:
            client_hears(w, e->source, buffer_view(&e->frame));
            break;
        case EFFECT_SEND_NODE:
            if (n->connected)
                push(w, &n->in, buffer_view(&e->frame), n->connection);
            else
                coordinator_node_connected(w->c, w->now_ms, e->node, false, &w->effects);
            break;
        case EFFECT_RESET_NODE:
            n->connected = false; /* a frozen node still has what its kernel took */
            drain(&n->out);
            break;
        case EFFECT_CONNECT_NODE:
        case EFFECT_NOTE:
            break;
        }
    }
    effects_clear(&w->effects);
}

static void turn(struct world *w, bool calm)
{
    w->now_ms++;
    for (uint32_t i = 0; i < NODES; i++)
        node_lives(w, i, calm);
    for (uint32_t i = 0; i < NODES; i++)
        node_works(w, i);
    if (!calm && draw(w, 4) == 0)
        client_asks(w);
    if (coordinator_deadline(w->c) <= w->now_ms)
        coordinator_tick(w->c, w->now_ms, &w->effects);
    do {
        coordinator_flush(w->c, w->now_ms, &w->effects);
        carry_out(w);
    } while (w->effects.count > 0);
}

static void found_map(struct world *w)
{
    w->map = clustermap_new();
    w->map->cluster_id.octets[0] = 7;
    w->map->partition_count = 8;
    w->map->copies = 2;
    w->map->isr_min = 1;
    w->map->nodes_count = NODES;
    for (uint32_t i = 0; i < NODES; i++) {
        struct clustermap_node *n = &w->map->nodes[i];
        n->id.octets[0] = (uint8_t)(i + 1);
        snprintf(n->name, sizeof n->name, "n%u", i);
        snprintf(n->host, sizeof n->host, "h%u", i);
        snprintf(n->address, sizeof n->address, "tcp://127.0.0.1:750%u", 3 * i);
        n->weight = 1;
    }
    assert_int_equal(clustermap_found(w->map, NULL), STATUS_OK);
}

static struct world *world_new(uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);
    struct coordinator_options o = coordinator_defaults;
    w->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    effects_init(&w->effects);
    arena_init(&w->arena);
    buffer_init(&w->frame, FRAME_BYTES_MAX);
    found_map(w);
    o.boot_id = 99;
    o.slots = SLOTS;
    o.attempt_ms = 60;
    o.seeds_count = NODES;
    for (uint32_t i = 0; i < NODES; i++) {
        o.seeds[i] = w->map->nodes[i].address;
        w->nodes[i] = (struct model_node){.up = true, .boot = 10 * i + 1};
    }
    for (unsigned i = 0; i < KEYS; i++)
        snprintf(w->key_names[i], sizeof w->key_names[i], "key%u", i);
    w->c = coordinator_new(&o);
    return w;
}

static void world_destroy(struct world *w)
{
    for (uint32_t i = 0; i < NODES; i++) {
        drain(&w->nodes[i].in);
        drain(&w->nodes[i].out);
    }
    coordinator_destroy(&w->c);
    clustermap_destroy(&w->map);
    effects_fini(&w->effects);
    arena_fini(&w->arena);
    buffer_fini(&w->frame);
    free(w);
}

/* (e) */
static bool saw_later_write(const struct world *w, uint64_t seq)
{
    const struct asked *read = &w->asked[seq];
    for (uint64_t later = seq + 1; later <= w->seq_last; later++) {
        const struct asked *a = &w->asked[later];
        if (a->source == read->source && a->key == read->key && a->kind == KIND_WRITE &&
            a->applied_at != 0 && a->applied_at < read->seen_at)
            return true;
    }
    return false;
}

/* What went wrong, or NULL. */
static const char *judge(const struct world *w)
{
    for (uint64_t seq = 1; seq <= w->seq_last; seq++) {
        const struct asked *a = &w->asked[seq];
        bool open = a->status == STATUS_INDOUBT;
        if (a->answers != 1)
            return "(a) an operation was not answered";
        if (a->kind == KIND_WRITE && a->status == STATUS_OK && a->applied_at == 0)
            return "a write was answered that was not applied";
        if (a->kind == KIND_WRITE && a->status != STATUS_OK && !open && a->applied_at != 0)
            return "(b) a write that was called not done was applied";
        if (a->kind == KIND_READ && a->status == STATUS_OK && saw_later_write(w, seq))
            return "(e) a read saw a later write";
        if (a->kind != KIND_WRITE || open || a->applied_at == 0 || a->refused != a->refused_heard)
            continue;
        for (uint64_t later = seq + 1; later <= w->seq_last; later++) {
            const struct asked *b = &w->asked[later];
            if (b->source != a->source || b->key != a->key)
                continue;
            if (b->kind == KIND_WRITE && b->applied_at != 0 && b->applied_at < a->applied_at)
                return "(c) writes changed their order";
            if (b->kind == KIND_READ && b->status == STATUS_OK && b->seen_at < a->applied_at)
                return "(d) a read overtook a write";
        }
    }
    return NULL;
}

static const char *run(uint64_t seed, struct coordinator_counters *ret_counters)
{
    struct world *w = world_new(seed);
    for (unsigned i = 0; i < 1500; i++)
        turn(w, false);
    for (unsigned i = 0; i < 2 * DEADLINE_MS; i++)
        turn(w, true);
    const char *wrong = judge(w);
    *ret_counters = *coordinator_counters(w->c);
    if (wrong == NULL && (ret_counters->slots_used != 0 || ret_counters->bytes_used != 0))
        wrong = "something stayed in flight";
    world_destroy(w);
    return wrong;
}

#define SEEDS 150

static void test_dispatch__random_worlds_keep_the_promises(void **state)
{
    (void)state;
    struct coordinator_counters sum = {0}, c;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        const char *wrong = run(seed, &c);
        if (wrong != NULL)
            fail_msg("seed %u: %s", (unsigned)seed, wrong);
        sum.repeats += c.repeats;
        sum.held += c.held;
        sum.elsewhere += c.elsewhere;
        sum.in_doubt += c.in_doubt;
        sum.node_silences += c.node_silences;
        sum.node_restarts += c.node_restarts;
        sum.late += c.late;
    }
    /* The worlds reach what they are about. */
    assert_true(sum.repeats > 100 && sum.held > 100 && sum.elsewhere > 100);
    assert_true(sum.in_doubt > 10 && sum.late > 10);
    assert_true(sum.node_silences > 100 && sum.node_restarts > 10);
}

#ifdef DUET_MUTANTS
static unsigned seeds_to_find(unsigned number)
{
    struct coordinator_counters c;
    mutant = number;
    unsigned seed = 1;
    while (seed <= SEEDS && run(seed, &c) == NULL)
        seed++;
    mutant = 0;
    return seed;
}

static void test_dispatch__the_mutants_of_the_router_are_found(void **state)
{
    (void)state;
    static const unsigned numbers[] = {32, 46, 47};
    for (size_t i = 0; i < 3; i++) {
        unsigned seeds = seeds_to_find(numbers[i]);
        print_message("mutant %u: found by seed %u\n", numbers[i], seeds);
        assert_true(seeds <= SEEDS);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dispatch__random_worlds_keep_the_promises),
#ifdef DUET_MUTANTS
        cmocka_unit_test(test_dispatch__the_mutants_of_the_router_are_found),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
