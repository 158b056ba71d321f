/* What a router takes from clients and from nodes: any frames, in any order, into its brain. The
 * nodes beside it answer as they should unless the input speaks for them.
 *
 * Input: events. An octet, its low three bits say what, the others for whom; then what it needs.
 */
#include <stdio.h>

#include "proto/clustermap.h"
#include "proto/codec.h"
#include "router/coordinator.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/rounds.h"

#define NODES           2
#define SLOTS           16
#define BYTES_MAX       65536
#define DEADLINE_MAX_MS 500
#define EVENTS_MAX      64

enum event {
    FROM_CLIENT,
    FROM_NODE,
    RESULTS,
    TIME,
    LINK,
    CLIENT_GONE,
    CLIENT_SLOW,
    FROM_CLIENT_REQ,
};

static const char *const addresses[NODES] = {"tcp://127.0.0.1:7500", "tcp://127.0.0.1:7503"};

struct world {
    struct coordinator *c;
    struct effects effects;
    uint64_t now_ms;
    struct buffer out;
    struct arena arena;
    /* Operations that a node owes the answer to. */
    uint64_t tokens[NODES][SLOTS];
    size_t tokens_count[NODES];
};

static struct clustermap *map_new(void)
{
    struct clustermap *map = clustermap_new();
    ENSURE(map != NULL);
    map->cluster_id.octets[0] = 7;
    map->partition_count = 4;
    map->copies = NODES;
    map->isr_min = 1;
    map->nodes_count = NODES;
    for (uint32_t i = 0; i < NODES; i++) {
        struct clustermap_node *n = &map->nodes[i];
        n->id.octets[0] = (uint8_t)(i + 1);
        n->weight = 1;
        snprintf(n->name, sizeof n->name, "n%u", i);
        snprintf(n->host, sizeof n->host, "h%u", i);
        snprintf(n->address, sizeof n->address, "%s", addresses[i]);
    }
    struct error error;
    ENSURE(clustermap_found(map, &error) == STATUS_OK);
    return map;
}

static const struct clustermap *the_map(void)
{
    static struct clustermap *map;
    if (map == NULL)
        map = map_new();
    return map;
}

static void from_node(struct world *w, uint32_t node)
{
    coordinator_node_message(w->c, w->now_ms, node, buffer_view(&w->out), &w->effects);
    buffer_clear(&w->out);
}

static void node_owes(struct world *w, uint32_t node, struct bytes frame)
{
    struct batch m;
    ENSURE(codec_unpack_batch(frame, &w->arena, &m) == STATUS_OK);
    for (size_t i = 0; i < m.count; i++)
        if (w->tokens_count[node] < SLOTS)
            w->tokens[node][w->tokens_count[node]++] = m.tokens[i];
}

static void play_node(struct world *w, uint32_t node, struct bytes frame)
{
    enum message_kind kind;
    struct ping ping;
    struct hello hello = {.protocol_min = 1, .protocol_max = 1, .role = ROLE_NODE, .ptime = 1};
    hello.boot_id = node + 1;
    hello.cluster_id = bytes_of(the_map()->cluster_id.octets, 16);
    ENSURE(codec_peek(frame, &kind) == STATUS_OK);
    if (kind == MESSAGE_BATCH) {
        node_owes(w, node, frame);
        return;
    }
    if (kind == MESSAGE_PING) {
        ENSURE(codec_unpack_ping(frame, &w->arena, &ping) == STATUS_OK);
        ping.boot_id = node + 1;
        ping.map_version = the_map()->version;
        ENSURE(codec_pack_ping(MESSAGE_PONG, &ping, &w->out) == STATUS_OK);
    } else if (kind == MESSAGE_HELLO) {
        ENSURE(codec_pack_hello(MESSAGE_HELLO_REPLY, &hello, &w->out) == STATUS_OK);
    } else {
        ENSURE(kind == MESSAGE_MAP_REQUEST);
        ENSURE(clustermap_pack(the_map(), &w->out) == STATUS_OK);
    }
    from_node(w, node);
}

static void carry_out(struct world *w)
{
    struct effects done = w->effects;
    effects_init(&w->effects);
    for (size_t i = 0; i < done.count; i++) {
        const struct effect *e = &done.items[i];
        bool message = e->kind == EFFECT_SEND_CLIENT || e->kind == EFFECT_SEND_NODE;
        ENSURE(!message || rounds_frame(buffer_view(&e->frame)));
        if (e->kind == EFFECT_SEND_NODE && e->node < NODES)
            play_node(w, e->node, buffer_view(&e->frame));
        else if (e->kind == EFFECT_CONNECT_NODE || e->kind == EFFECT_RESET_NODE)
            coordinator_node_connected(w->c, w->now_ms, e->node, true, &w->effects);
    }
    effects_fini(&done);
}

static void check(struct world *w)
{
    const struct coordinator_counters *n = coordinator_counters(w->c);
    ENSURE(n->slots_used <= SLOTS && n->bytes_used <= BYTES_MAX);
    ENSURE(n->answers <= n->operations);
}

static void turn(struct world *w)
{
    for (unsigned rounds = 0; rounds < 8; rounds++) {
        coordinator_flush(w->c, w->now_ms, &w->effects);
        if (w->effects.count == 0)
            break;
        carry_out(w);
    }
    check(w);
}

/* Let time pass, as the loop would. */
static void pass(struct world *w, uint64_t ms)
{
    for (uint64_t until_ms = w->now_ms + ms; w->now_ms < until_ms;) {
        uint64_t next_ms = coordinator_deadline(w->c);
        w->now_ms = next_ms <= w->now_ms ? w->now_ms + 1 : next_ms < until_ms ? next_ms : until_ms;
        coordinator_tick(w->c, w->now_ms, &w->effects);
        turn(w);
    }
}

static void client_message(struct world *w, uint64_t source, bool delimiter, struct bytes frame)
{
    uint8_t *copy = fuzz_copy(frame);
    rounds_frame(frame);
    coordinator_client_message(w->c, w->now_ms, source, delimiter, bytes_of(copy, frame.size),
                               &w->effects);
    free(copy);
}

/* The frame stays until the turn is over: answers borrow from it no longer than that. */
static void node_message(struct world *w, uint32_t node, struct bytes frame)
{
    uint8_t *copy = fuzz_copy(frame);
    rounds_frame(frame);
    coordinator_node_message(w->c, w->now_ms, node, bytes_of(copy, frame.size), &w->effects);
    free(copy);
    turn(w);
}

/* The node answers all that it owes. */
static void results(struct world *w, uint32_t node, uint32_t status, uint32_t flags,
                    struct bytes value)
{
    uint32_t statuses[SLOTS], all_flags[SLOTS];
    uint64_t zeros[SLOTS] = {0};
    struct bytes values[SLOTS];
    struct answer m = {.owner = 0xb007, .ptime = 2, .count = w->tokens_count[node]};
    for (size_t i = 0; i < SLOTS; i++) {
        statuses[i] = status;
        all_flags[i] = flags;
        values[i] = value;
    }
    m.ids = w->tokens[node];
    m.statuses = statuses;
    m.flags = all_flags;
    m.epochs = m.seqs = zeros;
    m.values = values;
    ENSURE(codec_pack_answer(MESSAGE_RESULTS, &m, &w->out) == STATUS_OK);
    w->tokens_count[node] = 0;
    from_node(w, node);
}

static void step(struct world *w, struct bytes *rest)
{
    uint32_t octet = feed_octet(rest), whom = octet >> 3;
    switch ((enum event)(octet & 7)) {
    case FROM_CLIENT:
    case FROM_CLIENT_REQ:
        client_message(w, 1 + whom % 4, (octet & 7) == FROM_CLIENT_REQ, feed_block(rest));
        return;
    case FROM_NODE:
        node_message(w, whom % NODES, feed_block(rest));
        return;
    case RESULTS: {
        uint32_t status = feed_octet(rest), flags = feed_short(rest);
        results(w, whom % NODES, status, flags, feed_block(rest));
        return;
    }
    case TIME:
        pass(w, feed_short(rest) % 1000);
        return;
    case LINK:
        coordinator_node_connected(w->c, w->now_ms, whom % NODES, (whom & 2) != 0, &w->effects);
        return;
    case CLIENT_GONE:
        coordinator_client_gone(w->c, 1 + whom % 4);
        return;
    case CLIENT_SLOW:
        coordinator_client_slow(w->c, 1 + whom % 4);
        return;
    }
}

static void world_init(struct world *w)
{
    struct coordinator_options o = coordinator_defaults;
    o.name = "r1";
    o.boot_id = 0xb007;
    o.slots = SLOTS;
    o.bytes_max = BYTES_MAX;
    o.value_size_max = 4096;
    o.deadline_ms = DEADLINE_MAX_MS / 2;
    o.deadline_max_ms = DEADLINE_MAX_MS;
    o.seeds_count = NODES;
    for (uint32_t i = 0; i < NODES; i++)
        o.seeds[i] = addresses[i];
    *w = (struct world){.c = coordinator_new(&o), .now_ms = 1000};
    ENSURE(w->c != NULL);
    effects_init(&w->effects);
    arena_init(&w->arena);
    buffer_init(&w->out, (size_t)1 << 22);
    pass(w, 10);
    ENSURE(!clustermap_empty(coordinator_map(w->c)));
}

static void world_fini(struct world *w)
{
    coordinator_destroy(&w->c);
    effects_fini(&w->effects);
    arena_fini(&w->arena);
    buffer_fini(&w->out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = bytes_of(data, size);
    struct world w;
    world_init(&w);
    for (unsigned i = 0; i < EVENTS_MAX && rest.size > 0; i++) {
        step(&w, &rest);
        turn(&w);
    }
    /* Whatever was said: each operation ends at its deadline. */
    pass(&w, DEADLINE_MAX_MS + 1);
    ENSURE(coordinator_counters(w.c)->slots_used == 0);
    ENSURE(coordinator_counters(w.c)->bytes_used == 0);
    world_fini(&w);
    return 0;
}
