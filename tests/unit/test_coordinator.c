#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/base/ensure.h"
#include "proto/clustermap.h"
#include "proto/codec.h"
#include "proto/partition.h"
#include "router/coordinator.h"

/* A world: one coordinator, nodes that the test plays, clients that the test plays, virtual time.
 *
 * Nodes n0, n1, ... answer pings, HELLO and questions about the map by themselves while they are
 * `alive`; operations are answered by the test. What happens is written down line by line; P is the
 * primary of the operation's key, R its other copy. */

#define NODES        3
#define ATTEMPTS_MAX 4096
#define TRACE_SIZE   16384

struct attempt {
    uint32_t node;
    uint64_t token, seq, client_id, ptime_token, ack_below;
    uint32_t kind;
    char key[64];
    bool answered;
};

struct world {
    struct coordinator *c;
    struct coordinator_options options;
    struct effects effects;
    struct clustermap *map;
    uint64_t now_ms;
    uint64_t ptime;
    bool alive[NODES], seen_map[NODES];
    uint64_t boot[NODES];
    uint32_t resets[NODES], connects[NODES];
    struct attempt attempts[ATTEMPTS_MAX];
    size_t attempts_count;
    size_t client_messages_count, batches_count;
    char trace[TRACE_SIZE];
    size_t trace_size;
    struct buffer out;
    struct arena arena;
    uint8_t last_value[4096];
    size_t last_value_size;
    struct refused last_refused;
    char last_refused_text[256];
    uint32_t last_flags;
};

static const char *const addresses[NODES] = {"tcp://127.0.0.1:7500", "tcp://127.0.0.1:7503",
                                             "tcp://127.0.0.1:7506"};

static void say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct world *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->trace + w->trace_size, TRACE_SIZE - w->trace_size, format, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < TRACE_SIZE - w->trace_size);
    w->trace_size += (size_t)n;
}

static void forget(struct world *w)
{
    w->trace_size = 0;
    w->trace[0] = '\0';
}

#define TRACE(w, expected)                                                                         \
    do {                                                                                           \
        assert_string_equal((w)->trace, expected);                                                 \
        forget(w);                                                                                 \
    } while (0)

static uint32_t primary_of(struct world *w, const char *key)
{
    uint64_t digest = partition_digest(bytes_text(key));
    return w->map->partitions[partition_of(digest, w->map->partition_count)].primary;
}

static const char *kind_word(uint32_t kind)
{
    static const char *const words[] = {"?", "get", "put", "outcome", "scan", "range", "atomic"};
    return kind <= KIND_ATOMIC ? words[kind] : "?";
}

static void found_map(struct world *w, uint32_t partition_count)
{
    w->map = clustermap_new();
    w->map->cluster_id.octets[0] = 7;
    w->map->partition_count = partition_count;
    w->map->copies = 2;
    w->map->isr_min = 1;
    w->map->nodes_count = NODES;
    for (uint32_t i = 0; i < NODES; i++) {
        struct clustermap_node *n = &w->map->nodes[i];
        n->id.octets[0] = (uint8_t)(i + 1);
        snprintf(n->name, sizeof n->name, "n%u", i);
        snprintf(n->host, sizeof n->host, "h%u", i);
        snprintf(n->address, sizeof n->address, "%s", addresses[i]);
        n->weight = 1;
    }
    struct error error = {0};
    if (clustermap_found(w->map, &error) != STATUS_OK)
        fail_msg("%s", error.message);
}

static void to_node(struct world *w, uint32_t node)
{
    coordinator_node_message(w->c, w->now_ms, node, buffer_view(&w->out), &w->effects);
    buffer_clear(&w->out);
}

static void play_node(struct world *w, uint32_t node, struct bytes frame);
static void play_client(struct world *w, uint64_t source, struct bytes frame);

/* Carry out the effects; what they cause is carried out as well. */
static void carry_out(struct world *w)
{
    struct effects done = w->effects;
    effects_init(&w->effects);
    for (size_t i = 0; i < done.count; i++) {
        struct effect *e = &done.items[i];
        switch (e->kind) {
        case EFFECT_SEND_CLIENT:
            play_client(w, e->source, buffer_view(&e->frame));
            break;
        case EFFECT_SEND_NODE:
            play_node(w, e->node, buffer_view(&e->frame));
            break;
        case EFFECT_CONNECT_NODE:
            w->connects[e->node]++;
            break;
        case EFFECT_RESET_NODE:
            w->resets[e->node]++;
            say(w, "[%3d] reset n%u\n", (int)w->now_ms, e->node);
            break;
        case EFFECT_NOTE:
            break;
        }
    }
    effects_fini(&done);
    if (w->effects.count > 0)
        carry_out(w);
}

/* The end of a loop's turn. */
static void turn(struct world *w)
{
    do {
        coordinator_flush(w->c, w->now_ms, &w->effects);
        carry_out(w);
        coordinator_flush(w->c, w->now_ms, &w->effects);
    } while (w->effects.count > 0);
}

/* Let time pass, step by step. */
static void pass(struct world *w, uint64_t until_ms)
{
    assert_true(until_ms >= w->now_ms);
    for (;;) {
        uint64_t next_ms = coordinator_deadline(w->c);
        if (next_ms > until_ms)
            break;
        if (next_ms > w->now_ms)
            w->now_ms = next_ms;
        coordinator_tick(w->c, w->now_ms, &w->effects);
        turn(w);
    }
    w->now_ms = until_ms;
}

static void play_batch(struct world *w, uint32_t node, struct bytes frame)
{
    struct batch b;
    assert_int_equal(codec_unpack_batch(frame, &w->arena, &b), STATUS_OK);
    assert_int_equal(b.router_boot, w->options.boot_id);
    w->batches_count++;
    for (size_t i = 0; i < b.count; i++) {
        assert_true(w->attempts_count < ATTEMPTS_MAX);
        struct attempt *a = &w->attempts[w->attempts_count++];
        *a = (struct attempt){.node = node,
                              .token = b.tokens[i],
                              .seq = b.seqs[i],
                              .client_id = b.client_ids[i],
                              .ptime_token = b.ptime_tokens[i],
                              .ack_below = b.ack_belows[i],
                              .kind = b.kinds[i]};
        if (b.kinds[i] == KIND_SCAN) {
            say(w, "[%3d] r > n%u scan %016llx #%llu\n", (int)w->now_ms, node,
                (unsigned long long)b.digests[i], (unsigned long long)b.seqs[i]);
            continue;
        }
        memcpy(a->key, b.keys[i].data, b.keys[i].size < 63 ? b.keys[i].size : 63);
        assert_int_equal(b.digests[i], partition_digest(b.keys[i]));
        say(w, "[%3d] r > %s %s %s #%llu\n", (int)w->now_ms,
            primary_of(w, a->key) == node ? "P" : "R", kind_word(a->kind), a->key,
            (unsigned long long)a->seq);
    }
}

static void play_node(struct world *w, uint32_t node, struct bytes frame)
{
    enum message_kind kind;
    assert_int_equal(codec_peek(frame, &kind), STATUS_OK);
    if (kind == MESSAGE_BATCH) {
        play_batch(w, node, frame);
        return;
    }
    if (!w->alive[node])
        return;
    if (kind == MESSAGE_PING) {
        struct ping m;
        assert_int_equal(codec_unpack_ping(frame, &w->arena, &m), STATUS_OK);
        m.boot_id = w->boot[node];
        m.ptime = w->ptime;
        m.map_version = w->map->version;
        codec_pack_ping(MESSAGE_PONG, &m, &w->out);
    } else if (kind == MESSAGE_HELLO) {
        struct hello m = {.protocol_min = 1, .protocol_max = 1, .role = ROLE_NODE};
        m.boot_id = w->boot[node];
        m.ptime = w->ptime;
        m.cluster_id = bytes_of(w->map->cluster_id.octets, 16);
        codec_pack_hello(MESSAGE_HELLO_REPLY, &m, &w->out);
    } else if (kind == MESSAGE_MAP_REQUEST) {
        w->seen_map[node] = true;
        clustermap_pack(w->map, &w->out);
    } else {
        fail_msg("unexpected kind %d to a node", kind);
    }
    to_node(w, node);
}

static void play_client(struct world *w, uint64_t source, struct bytes frame)
{
    enum message_kind kind;
    assert_int_equal(codec_peek(frame, &kind), STATUS_OK);
    w->client_messages_count++;
    if (kind == MESSAGE_ANSWER) {
        struct answer a;
        assert_int_equal(codec_unpack_answer(frame, &w->arena, &a), STATUS_OK);
        for (size_t i = 0; i < a.count; i++) {
            say(w, "[%3d] r > c%llu #%llu %s\n", (int)w->now_ms, (unsigned long long)source,
                (unsigned long long)a.ids[i], status_name(status_from_wire(a.statuses[i])));
            w->last_flags = a.flags[i];
            w->last_value_size = a.values[i].size;
            if (a.values[i].size > 0 && a.values[i].size <= sizeof w->last_value)
                memcpy(w->last_value, a.values[i].data, a.values[i].size);
        }
    } else if (kind == MESSAGE_REFUSED) {
        assert_int_equal(codec_unpack_refused(frame, &w->arena, &w->last_refused), STATUS_OK);
        snprintf(w->last_refused_text, sizeof w->last_refused_text, "%.*s",
                 (int)w->last_refused.message.size, (const char *)w->last_refused.message.data);
        say(w, "[%3d] r > c%llu REFUSED %s\n", (int)w->now_ms, (unsigned long long)source,
            status_name(w->last_refused.status));
    } else {
        say(w, "[%3d] r > c%llu kind %d\n", (int)w->now_ms, (unsigned long long)source, (int)kind);
    }
}

static void connect_node(struct world *w, uint32_t node)
{
    coordinator_node_connected(w->c, w->now_ms, node, true, &w->effects);
    turn(w);
}

static void disconnect_node(struct world *w, uint32_t node)
{
    coordinator_node_connected(w->c, w->now_ms, node, false, &w->effects);
    turn(w);
}

static struct world *world_new(struct coordinator_options options)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    buffer_init(&w->out, FRAME_BYTES_MAX);
    arena_init(&w->arena);
    effects_init(&w->effects);
    found_map(w, 8);
    options.name = "r1";
    options.boot_id = 99;
    options.seeds_count = NODES;
    for (uint32_t i = 0; i < NODES; i++) {
        options.seeds[i] = addresses[i];
        w->alive[i] = true;
        w->boot[i] = 1000 + i;
    }
    w->options = options;
    w->c = coordinator_new(&options);
    assert_non_null(w->c);
    return w;
}

/* Everything is connected and known, at time 0. */
static struct world *world_started_with(struct coordinator_options options)
{
    struct world *w = world_new(options);
    pass(w, 0);
    for (uint32_t i = 0; i < NODES; i++)
        connect_node(w, i);
    pass(w, 0);
    for (uint32_t i = 0; i < NODES; i++)
        assert_false(coordinator_node_silent(w->c, i));
    TRACE(w, "");
    return w;
}

static struct world *world_started(void)
{
    return world_started_with(coordinator_defaults);
}

static void world_destroy(struct world *w)
{
    coordinator_destroy(&w->c);
    clustermap_destroy(&w->map);
    effects_fini(&w->effects);
    buffer_fini(&w->out);
    arena_fini(&w->arena);
    free(w);
}

/* A key whose primary is node; another one for each number. */
static const char *key_on(struct world *w, uint32_t node, unsigned number)
{
    static char keys[8][32];
    static unsigned next;
    char *key = keys[next++ % 8];
    for (unsigned i = 0;; i++) {
        snprintf(key, 32, "key%u", i);
        if (primary_of(w, key) == node && number-- == 0)
            return key;
    }
}

struct ask {
    uint32_t kind;
    const char *key;
};

static void ask_request(struct world *w, uint64_t source, bool delimiter, struct request *m)
{
    assert_int_equal(codec_pack_request(m, &w->out), STATUS_OK);
    coordinator_client_message(w->c, w->now_ms, source, delimiter, buffer_view(&w->out),
                               &w->effects);
    buffer_clear(&w->out);
}

#define ASKS_MAX 64

/* Operations of client id 1000 + source. */
static void ask_many(struct world *w, uint64_t source, uint64_t first_seq, uint32_t deadline_ms,
                     const struct ask *asks, size_t count)
{
    uint32_t kinds[ASKS_MAX];
    struct bytes keys[ASKS_MAX], operations[ASKS_MAX];
    assert_true(count <= ASKS_MAX);
    for (size_t i = 0; i < count; i++) {
        kinds[i] = asks[i].kind;
        keys[i] = bytes_text(asks[i].key);
        operations[i] = BYTES_EMPTY;
    }
    struct request m = {.client_id = 1000 + source,
                        .first_seq = first_seq,
                        .deadline_ms = deadline_ms,
                        .count = count,
                        .kinds = kinds,
                        .keys = keys,
                        .operations = operations};
    ask_request(w, source, false, &m);
}

static void put(struct world *w, uint64_t source, uint64_t seq, const char *key)
{
    ask_many(w, source, seq, 0, &(struct ask){KIND_WRITE, key}, 1);
}

static void get(struct world *w, uint64_t source, uint64_t seq, const char *key)
{
    ask_many(w, source, seq, 0, &(struct ask){KIND_READ, key}, 1);
}

static struct attempt *newest(struct world *w, uint64_t seq)
{
    for (size_t i = w->attempts_count; i-- > 0;)
        if (w->attempts[i].seq == seq)
            return &w->attempts[i];
    fail_msg("no attempt of #%llu", (unsigned long long)seq);
    return NULL;
}

static void answer_value(struct world *w, const struct attempt *a, enum status status,
                         struct bytes value)
{
    uint64_t token = a->token, epoch = 1, seq = a->seq;
    uint32_t number = status, flags = value.size > 0 ? ANSWER_VALUE : 0;
    struct answer m = {.owner = w->options.boot_id,
                       .ptime = w->ptime,
                       .count = 1,
                       .ids = &token,
                       .statuses = &number,
                       .flags = &flags,
                       .epochs = &epoch,
                       .seqs = &seq,
                       .values = &value};
    assert_int_equal(codec_pack_answer(MESSAGE_RESULTS, &m, &w->out), STATUS_OK);
    to_node(w, a->node);
}

/* The node answers the newest attempt of #seq; the turn is still open. */
static void answer(struct world *w, uint64_t seq, enum status status)
{
    answer_value(w, newest(w, seq), status, BYTES_EMPTY);
}

/* ---- Start -----------------------------------------------------------------------------------*/

static void test_coordinator__seeds_are_connected_at_the_first_tick(void **state)
{
    (void)state;
    struct world *w = world_new(coordinator_defaults);
    assert_int_equal(coordinator_deadline(w->c), 0);
    coordinator_tick(w->c, 0, &w->effects);
    assert_int_equal(w->effects.count, NODES);
    for (uint32_t i = 0; i < NODES; i++) {
        assert_int_equal(w->effects.items[i].kind, EFFECT_CONNECT_NODE);
        assert_int_equal(w->effects.items[i].node, i);
        assert_string_equal(w->effects.items[i].address, addresses[i]);
    }
    world_destroy(w);
}

static void test_coordinator__one_seed_is_enough_to_learn_all_nodes(void **state)
{
    (void)state;
    struct coordinator_options options = coordinator_defaults;
    struct world *w = world_new(options);
    coordinator_destroy(&w->c);
    w->options.seeds_count = 1;
    w->c = coordinator_new(&w->options);
    pass(w, 0);
    assert_int_equal(w->connects[1] + w->connects[2], 0);
    connect_node(w, 0);
    assert_int_equal(w->connects[1], 1);
    assert_int_equal(w->connects[2], 1);
    assert_string_equal(coordinator_node_name(w->c, 2), "n2");
    world_destroy(w);
}

static void test_coordinator__operations_wait_until_the_map_is_known(void **state)
{
    (void)state;
    struct world *w = world_new(coordinator_defaults);
    pass(w, 5);
    put(w, 1, 1, "apple");
    turn(w);
    TRACE(w, "");
    pass(w, 20);
    for (uint32_t i = 0; i < NODES; i++)
        connect_node(w, i);
    pass(w, 20);
    TRACE(w, "[ 20] r > P put apple #1\n");
    world_destroy(w);
}

/* ---- The normal path -------------------------------------------------------------------------*/

static void test_coordinator__a_put_goes_to_the_primary_and_its_answer_to_the_client(void **state)
{
    (void)state;
    struct world *w = world_started();
    put(w, 1, 7, "apple");
    turn(w);
    answer(w, 7, STATUS_OK);
    turn(w);
    TRACE(w, "[  0] r > P put apple #7\n"
             "[  0] r > c1 #7 OK\n");
    assert_int_equal(coordinator_counters(w->c)->slots_used, 0);
    assert_int_equal(coordinator_counters(w->c)->bytes_used, 0);
    world_destroy(w);
}

static void
test_coordinator__one_turn_makes_one_batch_per_node_and_one_answer_per_client_id(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *a = key_on(w, 0, 0), *b = key_on(w, 0, 1);
    put(w, 1, 1, a);
    put(w, 1, 2, b);
    put(w, 2, 3, a);
    turn(w);
    assert_int_equal(w->batches_count, 1);
    answer(w, 1, STATUS_OK);
    answer(w, 2, STATUS_OK);
    answer(w, 3, STATUS_OK);
    turn(w);
    assert_int_equal(w->client_messages_count, 2);
    world_destroy(w);
}

static void test_coordinator__values_of_many_results_in_one_turn_stay_whole(void **state)
{
    (void)state;
    struct world *w = world_started();
    for (uint64_t seq = 1; seq <= 40; seq++)
        get(w, 1, seq, "apple");
    turn(w);
    for (uint64_t seq = 1; seq <= 40; seq++) {
        char text[16];
        snprintf(text, sizeof text, "value %02u", (unsigned)seq);
        answer_value(w, newest(w, seq), STATUS_OK, bytes_text(text));
    }
    turn(w);
    assert_memory_equal(w->last_value, "value 40", 8);
    assert_int_equal(w->last_flags & ANSWER_VALUE, ANSWER_VALUE);
    assert_int_equal(coordinator_counters(w->c)->answers, 40);
    world_destroy(w);
}

static void test_coordinator__a_late_or_doubled_result_is_counted_and_dropped(void **state)
{
    (void)state;
    struct world *w = world_started();
    put(w, 1, 1, "apple");
    turn(w);
    struct attempt first = *newest(w, 1);
    answer_value(w, &first, STATUS_OK, BYTES_EMPTY);
    answer_value(w, &first, STATUS_OK, BYTES_EMPTY);
    turn(w);
    put(w, 1, 2, "apple"); /* takes the same slot */
    turn(w);
    answer_value(w, &first, STATUS_UNAVAILABLE, BYTES_EMPTY);
    turn(w);
    assert_int_equal(coordinator_counters(w->c)->late, 2);
    TRACE(w, "[  0] r > P put apple #1\n"
             "[  0] r > c1 #1 OK\n"
             "[  0] r > P put apple #2\n");
    world_destroy(w);
}

static void test_coordinator__a_result_for_another_router_is_dropped(void **state)
{
    (void)state;
    struct world *w = world_started();
    put(w, 1, 1, "apple");
    turn(w);
    w->options.boot_id = 98;
    answer(w, 1, STATUS_OK);
    w->options.boot_id = 99;
    turn(w);
    assert_int_equal(coordinator_counters(w->c)->late, 1);
    TRACE(w, "[  0] r > P put apple #1\n");
    world_destroy(w);
}

/* ---- Limits and bad input --------------------------------------------------------------------*/

static void test_coordinator__bad_operations_are_refused_one_by_one(void **state)
{
    (void)state;
    struct world *w = world_started();
    char long_key[KEY_SIZE_MAX + 2];
    memset(long_key, 'k', sizeof long_key - 1);
    long_key[sizeof long_key - 1] = '\0';
    const struct ask asks[] = {{KIND_READ, "apple"},
                               {KIND_READ, ""},
                               {KIND_READ, long_key},
                               {KIND_SCAN, "short"},
                               {KIND_WRITE, "apple"}};
    ask_many(w, 1, 1, 0, asks, 5);
    turn(w);
    TRACE(w, "[  0] r > P get apple #1\n"
             "[  0] r > P put apple #5\n"
             "[  0] r > c1 #2 USAGE\n"
             "[  0] r > c1 #3 TOOBIG\n"
             "[  0] r > c1 #4 USAGE\n");
    world_destroy(w);
}

static void test_coordinator__a_value_that_is_too_large_is_refused(void **state)
{
    (void)state;
    struct coordinator_options options = coordinator_defaults;
    options.value_size_max = 1000;
    struct world *w = world_started_with(options);
    uint8_t *large = calloc(1, 10000);
    uint32_t kind = KIND_WRITE;
    struct bytes key = bytes_text("apple"), operation = bytes_of(large, 10000);
    struct request m = {.client_id = 5,
                        .first_seq = 1,
                        .count = 1,
                        .kinds = &kind,
                        .keys = &key,
                        .operations = &operation};
    ask_request(w, 1, false, &m);
    turn(w);
    TRACE(w, "[  0] r > c1 #1 TOOBIG\n");
    free(large);
    world_destroy(w);
}

static void test_coordinator__beyond_the_slots_operations_are_busy_at_once(void **state)
{
    (void)state;
    struct coordinator_options options = coordinator_defaults;
    options.slots = 2;
    struct world *w = world_started_with(options);
    const struct ask asks[] = {{KIND_READ, "a"}, {KIND_READ, "b"}, {KIND_READ, "c"}};
    ask_many(w, 1, 1, 0, asks, 3);
    carry_out(w);
    TRACE(w, "[  0] r > c1 #3 BUSY\n");
    assert_int_equal(w->last_flags, ANSWER_RETRY);
    turn(w);
    answer(w, 1, STATUS_OK);
    /* The slot of an answered operation is free within the turn. */
    get(w, 1, 4, "d");
    turn(w);
    assert_int_equal(coordinator_counters(w->c)->busy, 1);
    assert_int_equal(coordinator_counters(w->c)->slots_used_max, 2);
    world_destroy(w);
}

static void test_coordinator__beyond_the_bytes_a_request_is_busy(void **state)
{
    (void)state;
    struct coordinator_options options = coordinator_defaults;
    options.bytes_max = 10;
    struct world *w = world_started_with(options);
    get(w, 1, 1, "apple");
    turn(w);
    TRACE(w, "[  0] r > c1 #1 BUSY\n");
    assert_int_equal(coordinator_counters(w->c)->slots_used, 0);
    world_destroy(w);
}

static void client_frame(struct world *w, const void *data, size_t size)
{
    coordinator_client_message(w->c, w->now_ms, 1, false, bytes_of(data, size), &w->effects);
    turn(w);
}

static void test_coordinator__malformed_and_foreign_frames_are_refused_in_words(void **state)
{
    (void)state;
    struct world *w = world_started();
    client_frame(w, "", 0);
    client_frame(w, "GET / HTTP/1.1", 14);
    client_frame(w, "\xD7\x01\x03\x00\xff\xff\xff", 7);
    client_frame(w, "\xD7\x02\x03\x00", 4);
    client_frame(w, "\xD7\x01\x23\x00", 4); /* APPEND */
    TRACE(w, "[  0] r > c1 REFUSED MALFORMED\n"
             "[  0] r > c1 REFUSED MALFORMED\n"
             "[  0] r > c1 REFUSED MALFORMED\n"
             "[  0] r > c1 REFUSED UNSUPPORTED\n"
             "[  0] r > c1 REFUSED UNSUPPORTED\n");
    assert_int_equal(w->last_refused.protocol_min, PROTOCOL_VERSION);
    assert_int_equal(w->last_refused.protocol_max, PROTOCOL_VERSION);
    assert_true(strlen(w->last_refused_text) > 10);
    assert_int_equal(coordinator_counters(w->c)->client_malformed, 3);
    assert_int_equal(coordinator_counters(w->c)->client_unsupported, 2);
    world_destroy(w);
}

static void test_coordinator__an_atomic_batch_is_not_taken_for_a_plain_one(void **state)
{
    (void)state;
    struct world *w = world_started();
    uint32_t kind = KIND_READ;
    struct bytes key = bytes_text("apple"), none = BYTES_EMPTY;
    struct request m = {.client_id = 5,
                        .first_seq = 1,
                        .flags = 2,
                        .count = 1,
                        .kinds = &kind,
                        .keys = &key,
                        .operations = &none};
    ask_request(w, 1, false, &m);
    turn(w);
    TRACE(w, "[  0] r > c1 REFUSED MALFORMED\n");
    world_destroy(w);
}

static void test_coordinator__nonsense_from_a_node_is_counted_and_is_no_sign_of_life(void **state)
{
    (void)state;
    struct world *w = world_started();
    get(w, 1, 1, key_on(w, 0, 0));
    turn(w);
    w->alive[0] = false;
    for (unsigned t = 10; t <= 90; t += 10) {
        pass(w, t);
        coordinator_node_message(w->c, w->now_ms, 0, bytes_text("nonsense"), &w->effects);
        turn(w);
    }
    pass(w, 110);
    assert_int_equal(w->resets[0], 1);
    assert_int_equal(coordinator_counters(w->c)->node_malformed, 9);
    world_destroy(w);
}

/* Frames of every kind whose bodies do not decode, from both sides. */
static void test_coordinator__bodies_that_do_not_decode_change_nothing(void **state)
{
    (void)state;
    static const uint8_t bodies[][4] = {{0xff, 0xff, 0xff, 0xff}, {0x0a, 0x7f, 0, 0}, {0x08}, {0}};
    struct world *w = world_started();
    for (unsigned kind = 1; kind <= MESSAGE_SNAPSHOT_ACK; kind++)
        for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
            uint8_t frame[8] = {PROTOCOL_MAGIC, PROTOCOL_VERSION, (uint8_t)kind};
            memcpy(frame + 4, bodies[i], 4);
            struct bytes all = bytes_of(frame, i == 3 ? 4 : 8);
            coordinator_client_message(w->c, w->now_ms, 1, false, all, &w->effects);
            coordinator_node_message(w->c, w->now_ms, 0, all, &w->effects);
            effects_clear(&w->effects);
        }
    const struct coordinator_counters *n = coordinator_counters(w->c);
    assert_true(n->client_malformed >= 10 && n->node_malformed >= 10);
    assert_int_equal(n->slots_used, 0);
    world_destroy(w);
}

/* ---- Whole requests --------------------------------------------------------------------------*/

static void test_coordinator__a_req_client_hears_once_when_all_is_answered(void **state)
{
    (void)state;
    struct world *w = world_started();
    uint32_t kinds[3] = {KIND_READ, KIND_READ, KIND_READ};
    struct bytes keys[3] = {bytes_text("a"), bytes_text("b"), bytes_text("")};
    struct bytes none[3] = {BYTES_EMPTY, BYTES_EMPTY, BYTES_EMPTY};
    struct request m = {.client_id = 5,
                        .first_seq = 1,
                        .count = 3,
                        .kinds = kinds,
                        .keys = keys,
                        .operations = none};
    ask_request(w, 1, true, &m);
    turn(w);
    forget(w);
    answer_value(w, newest(w, 2), STATUS_OK, bytes_text("red"));
    turn(w);
    TRACE(w, "");
    answer_value(w, newest(w, 1), STATUS_OK, bytes_text("green"));
    turn(w);
    assert_int_equal(w->client_messages_count, 1);
    TRACE(w, "[  0] r > c1 #3 USAGE\n"
             "[  0] r > c1 #2 OK\n"
             "[  0] r > c1 #1 OK\n");
    assert_memory_equal(w->last_value, "green", 5);
    assert_int_equal(coordinator_counters(w->c)->bytes_used, 0);
    world_destroy(w);
}

static void test_coordinator__a_whole_request_without_room_is_busy_as_a_whole(void **state)
{
    (void)state;
    struct coordinator_options options = coordinator_defaults;
    options.slots = 2;
    struct world *w = world_started_with(options);
    uint32_t kinds[3] = {KIND_READ, KIND_READ, KIND_READ};
    struct bytes keys[3] = {bytes_text("a"), bytes_text("b"), bytes_text("c")};
    struct bytes none[3] = {BYTES_EMPTY, BYTES_EMPTY, BYTES_EMPTY};
    struct request m = {.client_id = 5,
                        .first_seq = 1,
                        .flags = REQUEST_WHOLE,
                        .count = 3,
                        .kinds = kinds,
                        .keys = keys,
                        .operations = none};
    ask_request(w, 1, false, &m);
    turn(w);
    TRACE(w, "[  0] r > c1 #1 BUSY\n[  0] r > c1 #2 BUSY\n[  0] r > c1 #3 BUSY\n");
    world_destroy(w);
}

/* A client that can take several answers gets them where one would be too large. */
static void test_coordinator__what_is_too_large_for_one_answer_comes_in_several(void **state)
{
    (void)state;
    struct world *w = world_started();
    uint32_t kinds[3] = {KIND_READ, KIND_READ, KIND_READ};
    struct bytes keys[3] = {bytes_text("a"), bytes_text("b"), bytes_text("c")};
    struct bytes none[3] = {BYTES_EMPTY, BYTES_EMPTY, BYTES_EMPTY};
    struct request m = {.client_id = 5,
                        .first_seq = 1,
                        .flags = REQUEST_WHOLE,
                        .count = 3,
                        .kinds = kinds,
                        .keys = keys,
                        .operations = none};
    size_t size = MESSAGE_BYTES_MAX / 2 + 1;
    uint8_t *large = calloc(1, size);
    ask_request(w, 1, false, &m);
    turn(w);
    forget(w);
    answer_value(w, newest(w, 1), STATUS_OK, bytes_of(large, size));
    turn(w);
    TRACE(w, "");
    answer_value(w, newest(w, 2), STATUS_OK, bytes_of(large, size));
    turn(w);
    assert_int_equal(coordinator_counters(w->c)->answers, 2);
    assert_int_equal(w->client_messages_count, 2);
    answer_value(w, newest(w, 3), STATUS_OK, bytes_text("small"));
    turn(w);
    assert_int_equal(w->client_messages_count, 3);
    assert_memory_equal(w->last_value, "small", 5);
    assert_int_equal(coordinator_counters(w->c)->bytes_used, 0);
    free(large);
    world_destroy(w);
}

/* ---- Silence ---------------------------------------------------------------------------------*/

static void test_coordinator__a_read_goes_to_the_other_copy_when_the_primary_is_silent(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    get(w, 1, 1, key);
    turn(w);
    w->alive[0] = false;
    pass(w, 99);
    assert_int_equal(w->resets[0], 0);
    pass(w, 100);
    answer(w, 1, STATUS_OK);
    turn(w);
    char expected[256];
    snprintf(expected, sizeof expected,
             "[  0] r > P get %s #1\n[100] reset n0\n[100] r > R get %s #1\n[100] r > c1 #1 OK\n",
             key, key);
    TRACE(w, expected);
    /* The next one does not try the silent node first. */
    get(w, 1, 2, key);
    turn(w);
    snprintf(expected, sizeof expected, "[100] r > R get %s #2\n", key);
    TRACE(w, expected);
    world_destroy(w);
}

static void test_coordinator__a_node_that_answers_anything_is_not_silent(void **state)
{
    (void)state;
    struct world *w = world_started();
    get(w, 1, 1, key_on(w, 0, 0)); /* never answered, but pings are */
    turn(w);
    forget(w);
    pass(w, 400);
    assert_int_equal(w->resets[0], 0);
    assert_int_equal(coordinator_counters(w->c)->node_silences, 0);
    world_destroy(w);
}

static void test_coordinator__writes_wait_for_the_primary_and_go_again_in_order(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    put(w, 1, 1, key);
    turn(w);
    put(w, 1, 2, key);
    turn(w);
    forget(w);
    w->alive[0] = false;
    pass(w, 300);
    put(w, 1, 3, key);
    turn(w);
    TRACE(w, "[100] reset n0\n");
    w->alive[0] = true;
    connect_node(w, 0);
    pass(w, 300);
    char expected[256];
    snprintf(expected, sizeof expected,
             "[300] r > P put %s #1\n[300] r > P put %s #2\n[300] r > P put %s #3\n", key, key,
             key);
    TRACE(w, expected);
    assert_int_equal(w->resets[0], 1);
    world_destroy(w);
}

static void test_coordinator__a_lost_connection_is_silence_at_once_and_needs_no_reset(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    get(w, 1, 1, key);
    put(w, 2, 2, key);
    turn(w);
    forget(w);
    pass(w, 10);
    disconnect_node(w, 0);
    char expected[256];
    snprintf(expected, sizeof expected, "[ 10] r > R get %s #1\n", key);
    TRACE(w, expected);
    assert_int_equal(w->resets[0], 0);
    pass(w, 60);
    connect_node(w, 0);
    pass(w, 60);
    snprintf(expected, sizeof expected, "[ 60] r > P put %s #2\n", key);
    TRACE(w, expected);
    world_destroy(w);
}

static void test_coordinator__a_restarted_node_gets_again_what_its_predecessor_had(void **state)
{
    (void)state;
    struct world *w = world_started();
    put(w, 1, 1, key_on(w, 0, 0));
    turn(w);
    w->boot[0] = 2000; /* and the shell did not notice the lost connection */
    forget(w);
    pass(w, 60);
    assert_int_equal(coordinator_counters(w->c)->node_restarts, 1);
    assert_int_equal(coordinator_counters(w->c)->repeats, 1);
    assert_int_equal(w->attempts_count, 2);
    assert_int_equal(w->attempts[0].seq, w->attempts[1].seq);
    world_destroy(w);
}

static void test_coordinator__an_attempt_without_answer_is_repeated_with_the_same_ids(void **state)
{
    (void)state;
    struct world *w = world_started();
    put(w, 1, 9, "apple");
    turn(w);
    pass(w, 600);
    TRACE(w, "[  0] r > P put apple #9\n"
             "[500] r > P put apple #9\n");
    struct attempt first = w->attempts[0];
    answer_value(w, &first, STATUS_OK, BYTES_EMPTY); /* says nothing about the second one */
    turn(w);
    TRACE(w, "");
    answer(w, 9, STATUS_OK);
    turn(w);
    TRACE(w, "[600] r > c1 #9 OK\n");
    world_destroy(w);
}

static void test_coordinator__a_long_pause_of_the_router_itself_makes_no_node_silent(void **state)
{
    (void)state;
    struct world *w = world_started();
    get(w, 1, 1, "apple");
    turn(w);
    w->now_ms = 5000 - 1; /* the process stood still */
    coordinator_tick(w->c, w->now_ms, &w->effects);
    turn(w);
    assert_int_equal(coordinator_counters(w->c)->node_silences, 0);
    world_destroy(w);
}

/* ---- Order (W8) ------------------------------------------------------------------------------*/

static void
test_coordinator__a_read_does_not_overtake_a_write_on_its_way_to_another_copy(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    put(w, 1, 1, key);
    get(w, 1, 2, key);
    get(w, 2, 3, key); /* another connection has no such order */
    turn(w);
    forget(w);
    w->alive[0] = false;
    pass(w, 150);
    char expected[256];
    snprintf(expected, sizeof expected, "[100] reset n0\n[100] r > R get %s #3\n", key);
    TRACE(w, expected);
    w->alive[0] = true;
    connect_node(w, 0);
    pass(w, 150);
    snprintf(expected, sizeof expected, "[150] r > P put %s #1\n[150] r > P get %s #2\n", key, key);
    TRACE(w, expected);
    world_destroy(w);
}

static void test_coordinator__successors_of_a_refused_write_are_held_back(void **state)
{
    (void)state;
    struct world *w = world_started();
    put(w, 1, 1, "apple");
    turn(w);
    answer(w, 1, STATUS_UNAVAILABLE);
    put(w, 1, 2, "apple");
    get(w, 1, 3, "apple");
    put(w, 2, 4, "apple");
    turn(w);
    TRACE(w, "[  0] r > P put apple #1\n"
             "[  0] r > P put apple #4\n");
    pass(w, 5);
    TRACE(w, "[  5] r > P put apple #1\n"
             "[  5] r > P put apple #2\n"
             "[  5] r > P get apple #3\n");
    world_destroy(w);
}

static void test_coordinator__a_refused_write_that_was_overtaken_is_not_sent_again(void **state)
{
    (void)state;
    struct world *w = world_started();
    put(w, 1, 1, "apple");
    put(w, 1, 2, "apple");
    turn(w);
    forget(w);
    answer(w, 1, STATUS_BUSY);
    turn(w);
    pass(w, 50);
    TRACE(w, ""); /* #2 may have been refused as well */
    answer(w, 2, STATUS_OK);
    turn(w);
    TRACE(w, "[ 50] r > c1 #2 OK\n"
             "[ 50] r > c1 #1 BUSY\n");
    assert_int_equal(w->last_flags, ANSWER_RETRY);
    world_destroy(w);
}

static void test_coordinator__writes_that_were_all_refused_go_again_in_order(void **state)
{
    (void)state;
    struct world *w = world_started();
    put(w, 1, 1, "apple");
    put(w, 1, 2, "apple");
    turn(w);
    forget(w);
    answer(w, 1, STATUS_BUSY);
    answer(w, 2, STATUS_BUSY);
    turn(w);
    pass(w, 5);
    TRACE(w, "[  5] r > P put apple #1\n"
             "[  5] r > P put apple #2\n");
    world_destroy(w);
}

static void
test_coordinator__a_refused_write_ends_when_its_successor_may_have_happened(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    put(w, 1, 1, key);
    put(w, 1, 2, key);
    turn(w);
    answer(w, 1, STATUS_UNAVAILABLE);
    turn(w);
    forget(w);
    disconnect_node(w, 0); /* nobody knows what became of #2 */
    TRACE(w, "[  0] r > c1 #1 UNAVAILABLE\n");
    world_destroy(w);
}

/* Found by kills under load, and by sim seed 306: the read was sent again behind the write. */
static void test_coordinator__a_refused_read_never_sees_its_connections_later_write(void **state)
{
    (void)state;
    struct world *w = world_started();
    get(w, 1, 1, "apple");
    put(w, 1, 2, "apple");
    turn(w);
    forget(w);
    answer(w, 1, STATUS_UNAVAILABLE);
    turn(w);
    pass(w, 50);
    TRACE(w, ""); /* #2 may have been refused as well */
    answer(w, 2, STATUS_OK);
    turn(w);
    TRACE(w, "[ 50] r > c1 #2 OK\n"
             "[ 50] r > c1 #1 UNAVAILABLE\n");
    assert_int_equal(w->last_flags, ANSWER_RETRY);
    world_destroy(w);
}

static void test_coordinator__a_read_without_answer_is_not_repeated_behind_a_write(void **state)
{
    (void)state;
    struct world *w = world_started();
    get(w, 1, 1, "apple");
    put(w, 1, 2, "apple");
    turn(w);
    forget(w);
    answer(w, 2, STATUS_OK);
    turn(w);
    pass(w, 600);
    TRACE(w, "[  0] r > c1 #2 OK\n");
    world_destroy(w);
}

/* ---- Refusals and deadlines ------------------------------------------------------------------*/

static void test_coordinator__a_refused_operation_is_tried_again_with_growing_pauses(void **state)
{
    (void)state;
    struct world *w = world_started();
    put(w, 1, 1, "apple");
    turn(w);
    static const uint64_t times_ms[] = {5, 15, 35, 75, 155, 315, 515};
    for (unsigned i = 0; i < 7; i++) {
        answer(w, 1, STATUS_UNAVAILABLE);
        turn(w);
        pass(w, times_ms[i]);
    }
    TRACE(w, "[  0] r > P put apple #1\n"
             "[  5] r > P put apple #1\n"
             "[ 15] r > P put apple #1\n"
             "[ 35] r > P put apple #1\n"
             "[ 75] r > P put apple #1\n"
             "[155] r > P put apple #1\n"
             "[315] r > P put apple #1\n"
             "[515] r > P put apple #1\n");
    world_destroy(w);
}

static void
test_coordinator__at_the_deadline_a_write_that_was_only_refused_is_not_done(void **state)
{
    (void)state;
    struct world *w = world_started();
    ask_many(w, 1, 1, 20, &(struct ask){KIND_WRITE, "apple"}, 1);
    turn(w);
    answer(w, 1, STATUS_UNAVAILABLE);
    turn(w);
    pass(w, 5);
    answer(w, 1, STATUS_BUSY);
    turn(w);
    forget(w);
    pass(w, 14);
    coordinator_node_connected(w->c, 14, 0, false, &w->effects);
    coordinator_node_connected(w->c, 14, 1, false, &w->effects);
    coordinator_node_connected(w->c, 14, 2, false, &w->effects);
    turn(w);
    pass(w, 100);
    TRACE(w, "[ 20] r > c1 #1 BUSY\n");
    assert_int_equal(w->last_flags, ANSWER_RETRY);
    world_destroy(w);
}

static void test_coordinator__at_the_deadline_a_write_with_an_open_attempt_is_in_doubt(void **state)
{
    (void)state;
    struct world *w = world_started();
    ask_many(w, 1, 1, 20, &(struct ask){KIND_WRITE, "apple"}, 1);
    turn(w);
    pass(w, 19);
    TRACE(w, "[  0] r > P put apple #1\n");
    pass(w, 20);
    TRACE(w, "[ 20] r > c1 #1 INDOUBT\n");
    assert_int_equal(w->last_flags, ANSWER_RETRY | ANSWER_IN_DOUBT);
    answer(w, 1, STATUS_OK);
    turn(w);
    TRACE(w, "");
    assert_int_equal(coordinator_counters(w->c)->late, 1);
    world_destroy(w);
}

static void test_coordinator__a_batch_is_one_operation_of_its_tag_and_in_doubt_as_a_whole(void **state)
{
    (void)state;
    struct world *w = world_started();
    ask_many(w, 1, 1, 20, &(struct ask){KIND_ATOMIC, "{apple}"}, 1);
    ask_many(w, 1, 2, 40, &(struct ask){KIND_WRITE, "{apple}1"}, 1);
    turn(w);
    TRACE(w, "[  0] r > P atomic {apple} #1\n"
             "[  0] r > P put {apple}1 #2\n");
    assert_int_equal(coordinator_counters(w->c)->slots_used, 2);
    assert_int_equal(coordinator_counters(w->c)->writes, 2);
    answer(w, 1, STATUS_BUSY); /* it cannot go again: the later one may have been done */
    turn(w);
    pass(w, 20);
    TRACE(w, "[ 20] r > c1 #1 BUSY\n");
    ask_many(w, 1, 3, 20, &(struct ask){KIND_ATOMIC, "{apple}"}, 1);
    turn(w);
    forget(w);
    pass(w, 40);
    assert_int_equal(w->last_flags, ANSWER_RETRY | ANSWER_IN_DOUBT);
    assert_int_equal(coordinator_counters(w->c)->in_doubt, 2);
    world_destroy(w);
}

static void test_coordinator__a_refusal_after_a_lost_attempt_leaves_a_write_in_doubt(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    ask_many(w, 1, 1, 200, &(struct ask){KIND_WRITE, key}, 1);
    turn(w);
    disconnect_node(w, 0);
    connect_node(w, 0);
    pass(w, 1);
    assert_int_equal(w->attempts_count, 2);
    answer(w, 1, STATUS_BUSY);
    turn(w);
    disconnect_node(w, 0);
    forget(w);
    pass(w, 300);
    TRACE(w, "[200] r > c1 #1 INDOUBT\n");
    world_destroy(w);
}

static void
test_coordinator__a_final_refusal_after_a_lost_attempt_leaves_a_write_in_doubt(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    put(w, 1, 1, key);
    turn(w);
    disconnect_node(w, 0);
    connect_node(w, 0);
    pass(w, 1);
    forget(w);
    answer(w, 1, STATUS_FULL);
    turn(w);
    TRACE(w, "[  1] r > c1 #1 INDOUBT\n");
    world_destroy(w);
}

static void test_coordinator__a_write_that_never_left_is_not_done_at_its_deadline(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    disconnect_node(w, 0);
    ask_many(w, 1, 1, 20, &(struct ask){KIND_WRITE, key}, 1);
    ask_many(w, 1, 2, 21, &(struct ask){KIND_OUTCOME, key}, 1);
    turn(w);
    pass(w, 30);
    TRACE(w, "[ 20] r > c1 #1 UNAVAILABLE\n"
             "[ 21] r > c1 #2 INDOUBT\n");
    world_destroy(w);
}

static void test_coordinator__a_read_without_answer_times_out(void **state)
{
    (void)state;
    struct world *w = world_started();
    ask_many(w, 1, 1, 20, &(struct ask){KIND_READ, "apple"}, 1);
    turn(w);
    forget(w);
    pass(w, 30);
    TRACE(w, "[ 20] r > c1 #1 TIMEOUT\n");
    assert_int_equal(w->last_flags, ANSWER_RETRY);
    world_destroy(w);
}

static void test_coordinator__a_write_that_was_not_executed_gets_the_newest_token(void **state)
{
    (void)state;
    struct world *w = world_started();
    put(w, 1, 1, "apple"); /* no node has told a ptime yet */
    turn(w);
    assert_int_equal(newest(w, 1)->ptime_token, 0);
    w->ptime = 5000;
    answer(w, 1, STATUS_NEEDTOKEN);
    turn(w);
    assert_int_equal(w->attempts_count, 2);
    assert_int_equal(newest(w, 1)->ptime_token, 5000);
    /* From then on the token stays: it must have been known before the first attempt. */
    w->ptime = 6000;
    answer(w, 1, STATUS_BUSY);
    turn(w);
    pass(w, 5);
    assert_int_equal(newest(w, 1)->ptime_token, 5000);
    world_destroy(w);
}

static void test_coordinator__wrong_epoch_asks_for_the_map_and_tries_again(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    put(w, 1, 1, key);
    turn(w);
    uint32_t p = partition_of(partition_digest(bytes_text(key)), w->map->partition_count);
    uint32_t former = w->map->partitions[p].primary;
    clustermap_set_epoch(w->map, p, 2);
    w->map->partitions[p].primary = w->map->partitions[p].isr[1];
    forget(w);
    memset(w->seen_map, 0, sizeof w->seen_map);
    answer(w, 1, STATUS_WRONGEPOCH);
    turn(w);
    assert_true(w->seen_map[former]);
    char expected[64];
    snprintf(expected, sizeof expected, "[  0] r > P put %s #1\n", key);
    TRACE(w, expected);
    assert_int_not_equal(newest(w, 1)->node, former);
    world_destroy(w);
}

static void test_coordinator__a_copy_that_sends_to_the_primary_is_followed(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    disconnect_node(w, 0);
    get(w, 1, 1, key);
    turn(w);
    connect_node(w, 0);
    pass(w, 0);
    forget(w);
    answer(w, 1, STATUS_ASKPRIMARY);
    turn(w);
    char expected[64];
    snprintf(expected, sizeof expected, "[  0] r > P get %s #1\n", key);
    TRACE(w, expected);
    world_destroy(w);
}

static void test_coordinator__a_read_that_the_primary_cannot_answer_asks_the_other_copy(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    get(w, 1, 1, key);
    turn(w);
    uint32_t primary = newest(w, 1)->node;
    answer(w, 1, STATUS_UNAVAILABLE);
    turn(w);
    uint32_t other = newest(w, 1)->node;
    assert_int_not_equal(other, primary);
    answer(w, 1, STATUS_ASKPRIMARY); /* once there and back at once, then with pauses */
    turn(w);
    assert_int_equal(newest(w, 1)->node, primary);
    forget(w);
    answer(w, 1, STATUS_UNAVAILABLE);
    turn(w);
    TRACE(w, "");
    pass(w, 1000);
    assert_int_equal(newest(w, 1)->node, other);
    world_destroy(w);
}

/* ---- Reads of any copy -----------------------------------------------------------------------*/

/* Rule (6). */
static void ask_any(struct world *w, uint64_t source, uint64_t seq, const char *key)
{
    struct buffer body;
    buffer_init(&body, 100);
    const struct read_query q = {READ_VALUE, CONSISTENCY_ANY};
    assert_int_equal(codec_pack_read_query(&q, &body), STATUS_OK);
    uint32_t kind = KIND_READ;
    struct bytes k = bytes_text(key), operation = buffer_view(&body);
    struct request m = {.client_id = 1000 + source,
                        .first_seq = seq,
                        .count = 1,
                        .kinds = &kind,
                        .keys = &k,
                        .operations = &operation};
    ask_request(w, source, false, &m);
    buffer_fini(&body);
}

static void test_coordinator__reads_of_any_copy_spread_over_all_members(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    ask_any(w, 1, 1, key);
    ask_any(w, 1, 2, key);
    turn(w);
    assert_int_not_equal(newest(w, 1)->node, newest(w, 2)->node);
    assert_int_equal(coordinator_counters(w->c)->any_copy, 2);
    assert_int_equal(coordinator_counters(w->c)->elsewhere, 0);
    world_destroy(w);
}

static void test_coordinator__a_read_of_any_copy_waits_for_no_write(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    disconnect_node(w, 0);
    put(w, 1, 1, key);
    ask_any(w, 1, 2, key);
    get(w, 1, 3, key);
    turn(w);
    char expected[64];
    snprintf(expected, sizeof expected, "[  0] r > R get %s #2\n", key);
    TRACE(w, expected);
    world_destroy(w);
}

static void test_coordinator__a_read_of_any_copy_goes_on_when_one_is_silent_or_refuses(void **state)
{
    (void)state;
    struct world *w = world_started();
    const char *key = key_on(w, 0, 0);
    ask_any(w, 1, 1, key);
    turn(w);
    uint32_t first = newest(w, 1)->node;
    w->alive[first] = false;
    pass(w, 100);
    uint32_t second = newest(w, 1)->node;
    assert_int_not_equal(second, first);
    answer(w, 1, STATUS_OK);
    turn(w);
    ask_any(w, 1, 2, key);
    turn(w);
    assert_int_equal(newest(w, 2)->node, second); /* the silent one is not tried first */
    w->alive[first] = true;
    connect_node(w, first);
    pass(w, 200);
    answer(w, 2, STATUS_ASKPRIMARY);
    turn(w);
    assert_int_equal(newest(w, 2)->node, first);
    forget(w);
    answer(w, 2, STATUS_ASKPRIMARY); /* all were asked: the next round has to wait */
    turn(w);
    TRACE(w, "");
    world_destroy(w);
}

static void test_coordinator__an_answer_says_how_the_read_was_made_sure_of(void **state)
{
    (void)state;
    struct world *w = world_started();
    uint64_t epoch = 1, seq = 1, token;
    uint32_t status = STATUS_NOTFOUND, flags = ANSWER_ANY | ANSWER_CONFIRMED | 0x40u;
    ask_any(w, 1, 1, key_on(w, 0, 0));
    turn(w);
    token = newest(w, 1)->token;
    struct bytes none = BYTES_EMPTY;
    struct answer m = {.owner = w->options.boot_id,
                       .count = 1,
                       .ids = &token,
                       .statuses = &status,
                       .flags = &flags,
                       .epochs = &epoch,
                       .seqs = &seq,
                       .values = &none};
    assert_int_equal(codec_pack_answer(MESSAGE_RESULTS, &m, &w->out), STATUS_OK);
    to_node(w, newest(w, 1)->node);
    turn(w);
    assert_int_equal(w->last_flags, ANSWER_ANY | ANSWER_CONFIRMED);
    world_destroy(w);
}

/* ---- Scans -----------------------------------------------------------------------------------*/

static struct bytes page(struct world *w, const char *key, const char *next, struct buffer *to)
{
    struct bytes k = key == NULL ? BYTES_EMPTY : bytes_text(key), v = bytes_text("v");
    uint64_t epoch = 1, seq = 1;
    struct scan_page m = {.count = key != NULL,
                          .keys = &k,
                          .values = &v,
                          .epochs = &epoch,
                          .seqs = &seq,
                          .next = bytes_text(next)};
    (void)w;
    buffer_clear(to);
    assert_int_equal(codec_pack_scan_page(&m, to), STATUS_OK);
    return buffer_view(to);
}

static struct scan_page last_page(struct world *w)
{
    struct scan_page m;
    arena_reset(&w->arena, 1 << 20);
    assert_int_equal(
        codec_unpack_scan_page(bytes_of(w->last_value, w->last_value_size), &w->arena, &m),
        STATUS_OK);
    return m;
}

static void test_coordinator__a_scan_goes_on_in_the_next_partition(void **state)
{
    (void)state;
    struct world *w = world_started();
    struct buffer b;
    buffer_init(&b, 1 << 20);
    ask_many(w, 1, 1, 0, &(struct ask){KIND_SCAN, ""}, 1);
    turn(w);
    answer_value(w, newest(w, 1), STATUS_OK, page(w, "apple", "", &b));
    turn(w);
    struct scan_page m = last_page(w);
    assert_int_equal(m.count, 1);
    assert_int_equal(m.next.size, 8);
    assert_int_equal(bytes_be64(m.next.data), UINT64_C(1) << 61); /* the second of eight */
    assert_int_equal(coordinator_counters(w->c)->bytes_used, 0);
    buffer_fini(&b);
    world_destroy(w);
}

static void test_coordinator__a_page_inside_a_partition_is_passed_on_as_it_is(void **state)
{
    (void)state;
    struct world *w = world_started();
    struct buffer b;
    buffer_init(&b, 1 << 20);
    ask_many(w, 1, 1, 0, &(struct ask){KIND_SCAN, ""}, 1);
    turn(w);
    answer_value(w, newest(w, 1), STATUS_OK, page(w, "apple", "12345678apple", &b));
    turn(w);
    struct scan_page m = last_page(w);
    assert_true(bytes_equal(m.next, bytes_text("12345678apple")));
    buffer_fini(&b);
    world_destroy(w);
}

static void test_coordinator__a_scan_skips_empty_partitions_by_itself_and_ends(void **state)
{
    (void)state;
    struct world *w = world_started();
    struct buffer b;
    buffer_init(&b, 1 << 20);
    ask_many(w, 1, 1, 0, &(struct ask){KIND_SCAN, ""}, 1);
    turn(w);
    for (unsigned p = 0; p < 8; p++) {
        assert_int_equal(w->client_messages_count, 0);
        assert_int_equal(w->attempts_count, p + 1);
        answer_value(w, newest(w, 1), STATUS_OK, page(w, NULL, "", &b));
        turn(w);
    }
    assert_int_equal(w->client_messages_count, 1);
    struct scan_page m = last_page(w);
    assert_int_equal(m.next.size, 0);
    assert_int_equal(m.count, 0);
    buffer_fini(&b);
    world_destroy(w);
}

static void test_coordinator__a_walk_that_counts_counts_in_all_partitions(void **state)
{
    (void)state;
    struct world *w = world_started();
    struct buffer b;
    buffer_init(&b, 1 << 20);
    assert_int_equal(codec_pack_scan_page(&(struct scan_page){.counted = 3}, &b), STATUS_OK);
    ask_many(w, 1, 1, 0, &(struct ask){KIND_SCAN, ""}, 1);
    turn(w);
    answer_value(w, newest(w, 1), STATUS_OK, buffer_view(&b));
    turn(w);
    struct scan_page m = last_page(w);
    assert_int_equal(m.counted, 3);
    assert_int_equal(m.next.size, 8);
    buffer_fini(&b);
    world_destroy(w);
}

static void test_coordinator__a_range_ends_with_its_tag_and_keeps_its_place_among_writes(void **state)
{
    (void)state;
    struct world *w = world_started();
    struct buffer b;
    buffer_init(&b, 1 << 20);
    put(w, 1, 1, "{apple}:1");
    ask_many(w, 1, 2, 0, &(struct ask){KIND_RANGE, "{apple}"}, 1);
    put(w, 1, 3, "{apple}:2");
    turn(w);
    TRACE(w, "[  0] r > P put {apple}:1 #1\n"
             "[  0] r > P range {apple} #2\n"
             "[  0] r > P put {apple}:2 #3\n");
    answer_value(w, newest(w, 2), STATUS_OK, page(w, "{apple}:1", "", &b));
    turn(w);
    struct scan_page m = last_page(w);
    assert_int_equal(m.count, 1);
    assert_int_equal(m.next.size, 0); /* not the next partition */
    buffer_fini(&b);
    world_destroy(w);
}

/* ---- Clients that leave, small questions -----------------------------------------------------*/

static void test_coordinator__what_is_in_flight_for_a_client_that_left_ends_in_silence(void **state)
{
    (void)state;
    struct world *w = world_started();
    put(w, 1, 1, "apple");
    turn(w);
    forget(w);
    coordinator_client_gone(w->c, 1);
    answer(w, 1, STATUS_OK);
    turn(w);
    TRACE(w, "");
    assert_int_equal(coordinator_counters(w->c)->answers_dropped, 1);
    assert_int_equal(coordinator_counters(w->c)->slots_used, 0);
    world_destroy(w);
}

static void test_coordinator__hello_ping_map_and_status_are_answered(void **state)
{
    (void)state;
    struct world *w = world_started();
    struct hello hello = {.protocol_min = 1, .protocol_max = 3, .role = ROLE_CLIENT};
    codec_pack_hello(MESSAGE_HELLO, &hello, &w->out);
    client_frame(w, w->out.data, w->out.size);
    buffer_clear(&w->out);
    codec_pack_ping(MESSAGE_PING, &(struct ping){.nonce = 5}, &w->out);
    client_frame(w, w->out.data, w->out.size);
    buffer_clear(&w->out);
    codec_pack_map_request(0, &w->out);
    client_frame(w, w->out.data, w->out.size);
    buffer_clear(&w->out);
    codec_pack_status_request(&w->out);
    client_frame(w, w->out.data, w->out.size);
    buffer_clear(&w->out);
    TRACE(w, "[  0] r > c1 kind 2\n"
             "[  0] r > c1 kind 9\n"
             "[  0] r > c1 kind 11\n"
             "[  0] r > c1 kind 13\n");
    world_destroy(w);
}

static void
test_coordinator__a_client_of_a_later_protocol_or_another_cluster_is_refused(void **state)
{
    (void)state;
    struct world *w = world_started();
    struct hello hello = {.protocol_min = 2, .protocol_max = 3, .role = ROLE_CLIENT};
    codec_pack_hello(MESSAGE_HELLO, &hello, &w->out);
    client_frame(w, w->out.data, w->out.size);
    buffer_clear(&w->out);
    uint8_t other[16] = {9};
    hello = (struct hello){.protocol_min = 1,
                           .protocol_max = 1,
                           .role = ROLE_CLIENT,
                           .cluster_id = bytes_of(other, 16)};
    codec_pack_hello(MESSAGE_HELLO, &hello, &w->out);
    client_frame(w, w->out.data, w->out.size);
    buffer_clear(&w->out);
    TRACE(w, "[  0] r > c1 REFUSED UNSUPPORTED\n"
             "[  0] r > c1 REFUSED WRONGCLUSTER\n");
    world_destroy(w);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_coordinator__seeds_are_connected_at_the_first_tick),
    cmocka_unit_test(test_coordinator__one_seed_is_enough_to_learn_all_nodes),
    cmocka_unit_test(test_coordinator__operations_wait_until_the_map_is_known),
    cmocka_unit_test(test_coordinator__a_put_goes_to_the_primary_and_its_answer_to_the_client),
    cmocka_unit_test(
        test_coordinator__one_turn_makes_one_batch_per_node_and_one_answer_per_client_id),
    cmocka_unit_test(test_coordinator__values_of_many_results_in_one_turn_stay_whole),
    cmocka_unit_test(test_coordinator__a_late_or_doubled_result_is_counted_and_dropped),
    cmocka_unit_test(test_coordinator__a_result_for_another_router_is_dropped),
    cmocka_unit_test(test_coordinator__bad_operations_are_refused_one_by_one),
    cmocka_unit_test(test_coordinator__a_value_that_is_too_large_is_refused),
    cmocka_unit_test(test_coordinator__beyond_the_slots_operations_are_busy_at_once),
    cmocka_unit_test(test_coordinator__beyond_the_bytes_a_request_is_busy),
    cmocka_unit_test(test_coordinator__malformed_and_foreign_frames_are_refused_in_words),
    cmocka_unit_test(test_coordinator__an_atomic_batch_is_not_taken_for_a_plain_one),
    cmocka_unit_test(test_coordinator__nonsense_from_a_node_is_counted_and_is_no_sign_of_life),
    cmocka_unit_test(test_coordinator__bodies_that_do_not_decode_change_nothing),
    cmocka_unit_test(test_coordinator__a_req_client_hears_once_when_all_is_answered),
    cmocka_unit_test(test_coordinator__a_whole_request_without_room_is_busy_as_a_whole),
    cmocka_unit_test(test_coordinator__what_is_too_large_for_one_answer_comes_in_several),
    cmocka_unit_test(
        test_coordinator__a_read_goes_to_the_other_copy_when_the_primary_is_silent),
    cmocka_unit_test(test_coordinator__a_node_that_answers_anything_is_not_silent),
    cmocka_unit_test(test_coordinator__writes_wait_for_the_primary_and_go_again_in_order),
    cmocka_unit_test(test_coordinator__a_lost_connection_is_silence_at_once_and_needs_no_reset),
    cmocka_unit_test(test_coordinator__a_restarted_node_gets_again_what_its_predecessor_had),
    cmocka_unit_test(test_coordinator__an_attempt_without_answer_is_repeated_with_the_same_ids),
    cmocka_unit_test(test_coordinator__a_long_pause_of_the_router_itself_makes_no_node_silent),
    cmocka_unit_test(
        test_coordinator__a_read_does_not_overtake_a_write_on_its_way_to_another_copy),
    cmocka_unit_test(test_coordinator__successors_of_a_refused_write_are_held_back),
    cmocka_unit_test(test_coordinator__a_refused_write_that_was_overtaken_is_not_sent_again),
    cmocka_unit_test(test_coordinator__a_refused_read_never_sees_its_connections_later_write),
    cmocka_unit_test(test_coordinator__a_read_without_answer_is_not_repeated_behind_a_write),
    cmocka_unit_test(test_coordinator__writes_that_were_all_refused_go_again_in_order),
    cmocka_unit_test(
        test_coordinator__a_refused_write_ends_when_its_successor_may_have_happened),
    cmocka_unit_test(test_coordinator__a_refused_operation_is_tried_again_with_growing_pauses),
    cmocka_unit_test(
        test_coordinator__at_the_deadline_a_write_that_was_only_refused_is_not_done),
    cmocka_unit_test(
        test_coordinator__at_the_deadline_a_write_with_an_open_attempt_is_in_doubt),
    cmocka_unit_test(
        test_coordinator__a_batch_is_one_operation_of_its_tag_and_in_doubt_as_a_whole),
    cmocka_unit_test(test_coordinator__a_refusal_after_a_lost_attempt_leaves_a_write_in_doubt),
    cmocka_unit_test(
        test_coordinator__a_final_refusal_after_a_lost_attempt_leaves_a_write_in_doubt),
    cmocka_unit_test(test_coordinator__a_write_that_never_left_is_not_done_at_its_deadline),
    cmocka_unit_test(test_coordinator__a_read_without_answer_times_out),
    cmocka_unit_test(test_coordinator__a_write_that_was_not_executed_gets_the_newest_token),
    cmocka_unit_test(test_coordinator__wrong_epoch_asks_for_the_map_and_tries_again),
    cmocka_unit_test(test_coordinator__a_copy_that_sends_to_the_primary_is_followed),
    cmocka_unit_test(test_coordinator__a_read_that_the_primary_cannot_answer_asks_the_other_copy),
    cmocka_unit_test(test_coordinator__reads_of_any_copy_spread_over_all_members),
    cmocka_unit_test(test_coordinator__a_read_of_any_copy_waits_for_no_write),
    cmocka_unit_test(test_coordinator__a_read_of_any_copy_goes_on_when_one_is_silent_or_refuses),
    cmocka_unit_test(test_coordinator__an_answer_says_how_the_read_was_made_sure_of),
    cmocka_unit_test(test_coordinator__a_scan_goes_on_in_the_next_partition),
    cmocka_unit_test(test_coordinator__a_page_inside_a_partition_is_passed_on_as_it_is),
    cmocka_unit_test(test_coordinator__a_scan_skips_empty_partitions_by_itself_and_ends),
    cmocka_unit_test(test_coordinator__a_walk_that_counts_counts_in_all_partitions),
    cmocka_unit_test(
        test_coordinator__a_range_ends_with_its_tag_and_keeps_its_place_among_writes),
    cmocka_unit_test(
        test_coordinator__what_is_in_flight_for_a_client_that_left_ends_in_silence),
    cmocka_unit_test(test_coordinator__hello_ping_map_and_status_are_answered),
    cmocka_unit_test(
        test_coordinator__a_client_of_a_later_protocol_or_another_cluster_is_refused),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
