#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/clustermap.h"
#include "proto/partition.h"
#include "storage/node.h"
#include "tests/sim/caller.h"
#include "tests/sim/faults.h"
#include "tests/sim/gateway.h"
#include "tests/sim/machine.h"
#include "tests/sim/memory.h"
#include "tests/sim/texts.h"
#include "tests/sim/transcript.h"
#include "tests/sim/watch.h"

#define SAFETY_MAX_MS                                                                              \
    120000u                    /* of virtual time: then the operations that are left stay unasked  \
                                */
#define SERVES_AGAIN_MS 10000u /* I18 */
#define FULL_AGAIN_MS 120000u  /* I18: all copies are members again */
#define REST_MS         5000u  /* then all copies are equal */
#define PROBE_KEYS      5000000u /* keys from here on are the world's own */

/* ---------------------------------------------------------------- words */

void world_fail(struct world *w, const char *invariant, const char *format, ...)
{
    va_list args;
    if (w->failed)
        return;
    w->failed = true;
    snprintf(w->invariant, sizeof w->invariant, "%s", invariant);
    va_start(args, format);
    vsnprintf(w->failure, sizeof w->failure, format, args);
    va_end(args);
    world_say(w, "!!  %s: %s", w->invariant, w->failure);
}

void world_say(struct world *w, const char *format, ...)
{
    va_list args;
    if (!w->tracing)
        return;
    printf("[%9.3f] ", (double)w->queue.now_us / 1000.0);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

void world_note(struct world *w, uint64_t tag, struct bytes data)
{
    uint64_t hash = w->trace_hash ^ (tag * 0x9e3779b97f4a7c15u) ^ w->queue.now_us;
    for (size_t i = 0; i < data.size; i++)
        hash = (hash ^ data.data[i]) * 0x100000001b3u;
    w->trace_hash = hash;
}

/* ---------------------------------------------------------------- the network's handlers */

static void on_answered(void *arg, uint32_t endpoint, uint32_t socket, struct bytes frame)
{
    struct world *w = arg;
    if (endpoint >= ENDPOINT_CLIENT(0))
        caller_answered(w->callers[endpoint - ENDPOINT_CLIENT(0)], socket, frame);
    else if (endpoint >= ENDPOINT_ROUTER(0))
        gateway_answered(w->gateways[endpoint - ENDPOINT_ROUTER(0)], socket, frame);
}

static void capture(struct world *w, uint32_t node, uint64_t source, struct bytes frame)
{
    w->captured = realloc(w->captured, (w->captured_count + 1) * sizeof *w->captured);
    ENSURE(w->captured != NULL);
    struct captured *c = &w->captured[w->captured_count++];
    *c = (struct captured){.node = node, .source = source};
    buffer_init(&c->frame, 1u << 24);
    ENSURE(buffer_append(&c->frame, frame) == STATUS_OK);
}

void world_deliver_again(struct world *w)
{
    for (size_t i = 0; i < w->captured_count; i++) {
        const struct captured *c = &w->captured[i];
        world_say(w, "--  a request of long ago comes to n%u", c->node);
        machine_asked(w->machines[c->node], c->source, NETWORK_ROUTER, buffer_view(&c->frame));
    }
}

static void on_asked(void *arg, uint32_t endpoint, uint64_t source, enum network_class class,
                     struct bytes frame)
{
    struct world *w = arg;
    if (endpoint >= ENDPOINT_ROUTER(0))
        gateway_asked(w->gateways[endpoint - ENDPOINT_ROUTER(0)], source, frame);
    else
        machine_asked(w->machines[endpoint], source, class, frame);
    if (w->capturing && class == NETWORK_ROUTER)
        capture(w, endpoint, source, frame);
}

static void on_connected(void *arg, uint32_t endpoint, uint32_t socket, bool connected)
{
    struct world *w = arg;
    if (endpoint >= ENDPOINT_CLIENT(0))
        caller_connected(w->callers[endpoint - ENDPOINT_CLIENT(0)], socket, connected);
    else if (endpoint >= ENDPOINT_ROUTER(0))
        gateway_connected(w->gateways[endpoint - ENDPOINT_ROUTER(0)], socket, connected);
}

static const char *endpoint_name(uint32_t endpoint, char to[static 12])
{
    if (endpoint >= ENDPOINT_CLIENT(0))
        snprintf(to, 12, "c%u", (endpoint - ENDPOINT_CLIENT(0)) & 15);
    else if (endpoint >= ENDPOINT_ROUTER(0))
        snprintf(to, 12, "r%u", (endpoint - ENDPOINT_ROUTER(0)) & 15);
    else
        snprintf(to, 12, "n%u", endpoint & 15);
    return to;
}

static void say_frame(struct world *w, uint32_t from, uint32_t to, struct bytes frame)
{
    char line[1000], a[12], b[12];
    transcript_frame(frame, line, sizeof line);
    world_say(w, "%s > %s  %s", endpoint_name(from, a), endpoint_name(to, b), line);
}

static void on_taken(void *arg, uint32_t from, uint32_t to, enum network_class class,
                     struct bytes frame)
{
    struct world *w = arg;
    (void)class;
    world_note(w, from * 64u + to, frame);
    if (w->tracing)
        say_frame(w, from, to, frame);
    watch_frame(w->watch, from, to, frame);
}

/* ---------------------------------------------------------------- life */

static void build(struct world *w)
{
    const struct knobs *k = &w->knobs;
    const struct network_handlers handlers = {.arg = w,
                                              .answered = on_answered,
                                              .asked = on_asked,
                                              .connected = on_connected,
                                              .taken = on_taken};
    w->network = network_new(&w->queue, random_next(&w->random), &handlers);
    for (int i = 0; i < NETWORK_CLASSES; i++)
        network_set_weather(w->network, (enum network_class)i, &k->weather[i]);
    texts_filling(k->value_size_max);
    w->map = machine_map(w);
    w->watch = watch_new(w, w->map);
    for (uint32_t i = 0; i < k->nodes; i++)
        w->machines[i] = machine_new(w, i);
    for (uint32_t i = 0; i < k->routers; i++)
        w->gateways[i] = gateway_new(w, i);
    for (uint32_t i = 0; i < k->clients; i++)
        w->callers[i] = caller_new(w, i);
    w->faults = faults_new(w);
}

static struct world *world_begin(uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);
    ENSURE(w != NULL);
    w->seed = seed;
    random_init(&w->random, seed);
    queue_init(&w->queue);
    return w;
}

struct world *world_new(uint64_t seed, uint32_t operations)
{
    struct world *w = world_begin(seed);
    knobs_draw(&w->knobs, &w->random);
    if (operations != 0)
        w->knobs.operations = operations;
    build(w);
    return w;
}

struct world *world_new_with(uint64_t seed, const struct knobs *knobs)
{
    struct world *w = world_begin(seed);
    w->knobs = *knobs;
    build(w);
    return w;
}

void world_destroy(struct world **w_p)
{
    struct world *w = *w_p;
    if (w == NULL)
        return;
    for (uint32_t i = 0; i < WORLD_CLIENTS_MAX; i++)
        caller_destroy(&w->callers[i]);
    for (uint32_t i = 0; i < WORLD_ROUTERS_MAX; i++)
        gateway_destroy(&w->gateways[i]);
    for (uint32_t i = 0; i < WORLD_NODES_MAX; i++)
        machine_destroy(&w->machines[i]);
    faults_destroy(&w->faults);
    watch_destroy(&w->watch);
    clustermap_destroy(&w->map);
    network_destroy(&w->network);
    queue_fini(&w->queue);
    history_fini(&w->history);
    for (size_t i = 0; i < w->captured_count; i++)
        buffer_fini(&w->captured[i].frame);
    free(w->captured);
    texts_fini();
    free(w);
    *w_p = NULL;
}

void world_pass(struct world *w, uint64_t ms)
{
    uint64_t until_us = w->queue.now_us + ms * 1000;
    while (!w->failed && queue_run(&w->queue, until_us))
        ;
}

void world_start(struct world *w)
{
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        machine_boot(w->machines[i]);
    for (uint32_t i = 0; i < w->knobs.routers; i++)
        gateway_boot(w->gateways[i]);
    for (uint32_t i = 0; i < w->knobs.clients; i++)
        caller_start(w->callers[i]);
}

/* ---------------------------------------------------------------- safety */

static bool all_finished(const struct world *w)
{
    for (uint32_t i = 0; i < w->knobs.clients; i++)
        if (!caller_finished(w->callers[i]) || caller_pending(w->callers[i]) > 0)
            return false;
    return true;
}

static void run_safety(struct world *w)
{
    const struct knobs *k = &w->knobs;
    for (uint32_t i = 0; i < k->clients; i++)
        caller_work(w->callers[i], k->operations / k->clients + 1);
    faults_start(w->faults);
    while (!w->failed && world_now_ms(w) < SAFETY_MAX_MS && !all_finished(w))
        world_pass(w, 100);
    for (uint32_t i = 0; i < k->clients; i++)
        caller_stop(w->callers[i]);
}

/* ---------------------------------------------------------------- liveness */

/* I18: every operation ends, at its deadline at the latest. */
static void wait_for_clients(struct world *w)
{
    uint64_t until_ms = world_now_ms(w) + w->knobs.deadline_max_ms + 4000;
    while (!w->failed && world_now_ms(w) < until_ms && !all_finished(w))
        world_pass(w, 50);
    for (size_t i = 0; i < w->history.count && !w->failed; i++)
        if (!w->history.items[i].ended)
            world_fail(w, "I18", "client %u was never told of its operation %" PRIu64,
                       w->history.items[i].client, w->history.items[i].seq);
}

/* A key of the world's own in this partition. */
static uint32_t key_in(const struct world *w, uint32_t partition)
{
    for (uint32_t key = PROBE_KEYS;; key++) {
        char name[32];
        history_key(key, name);
        if (partition_of(partition_digest(bytes_text(name)), w->knobs.partitions) == partition)
            return key;
    }
}

/* Ask, and wait: the world's own operations must succeed. Returns the history's number. */
static size_t ask_and_wait(struct world *w, uint32_t key, const struct checker_operation *op)
{
    size_t item = 0;
    struct caller *c = w->callers[key % w->knobs.clients];
    /* An outcome query may be under way, in a window of one. */
    for (int i = 0; i < 1000 && !w->failed && caller_pending(c) > 0; i++)
        world_pass(w, 10);
    if (!w->failed && !caller_ask(c, key, op, SERVES_AGAIN_MS, &item))
        world_fail(w, "I18", "a client's window is full though nothing is under way");
    while (!w->failed && !w->history.items[item].ended)
        world_pass(w, 10);
    return item;
}

static bool is_done(const struct world *w, size_t item)
{
    return w->failed || w->history.items[item].op.outcome == CHECKER_DONE;
}

/* I18: within ten seconds every partition serves reads and writes. */
static void probe(struct world *w)
{
    for (uint32_t p = 0; p < w->knobs.partitions && !w->failed; p++) {
        uint32_t key = key_in(w, p);
        struct checker_operation put = {
            .mutation = MUTATION_PUT,
            .value = {.present = true, .n = (int64_t)w->history.count + 1}};
        struct checker_operation get = {.read = true};
        size_t wrote = ask_and_wait(w, key, &put);
        /* A client that was idle while the wall clocks leapt is too late with its first write (rule
         * X2), and knows the time from the answer. */
        for (uint64_t i = 0; i < w->reached[REACH_leaps] && i < 3 && !is_done(w, wrote); i++)
            wrote = ask_and_wait(w, key, &put);
        size_t read = w->failed ? 0 : ask_and_wait(w, key, &get);
        if (!w->failed && (!is_done(w, wrote) || !is_done(w, read)))
            world_fail(w, "I18", "partition %u does not serve ten seconds after the faults ended",
                       p);
    }
}

/* I18: whoever was left out comes back. */
static void wait_for_full_isr(struct world *w)
{
    uint64_t until_ms = world_now_ms(w) + FULL_AGAIN_MS;
    while (!w->failed && !watch_full(w->watch) && world_now_ms(w) < until_ms)
        world_pass(w, 100);
    if (!w->failed && !watch_full(w->watch))
        world_fail(w, "I18", "two minutes after the faults ended a copy is still left out");
}

static bool at_rest(const struct world *w)
{
    for (uint32_t p = 0; p < w->knobs.partitions; p++) {
        const struct clustermap_partition *part = &w->map->partitions[p];
        struct node_replica_view first = {0}, v;
        for (uint32_t i = 0; i < part->isr_count; i++) {
            const struct node *n = machine_node(w->machines[part->isr[i]]);
            if (n == NULL || !node_replica(n, p, &v) || v.commit_seq != v.last_seq)
                return false;
            if (i > 0 && (v.commit_seq != first.commit_seq || v.commit_hash != first.commit_hash))
                return false;
            first = v;
        }
    }
    return true;
}

/* I13 */
static void compare_copies(struct world *w)
{
    uint64_t until_ms = world_now_ms(w) + REST_MS;
    while (!w->failed && !at_rest(w) && world_now_ms(w) < until_ms)
        world_pass(w, 20);
    if (!w->failed && !at_rest(w))
        world_fail(w, "I18", "the copies do not come to the same position at rest");
    for (uint32_t p = 0; p < w->knobs.partitions && !w->failed; p++) {
        const struct clustermap_partition *part = &w->map->partitions[p];
        for (uint32_t i = 1; i < part->isr_count; i++) {
            struct machine *a = w->machines[part->isr[0]], *b = w->machines[part->isr[i]];
            watch_compare(w->watch, p, part->isr[0], machine_node(a), machine_store(a),
                          part->isr[i], machine_node(b), machine_store(b));
        }
    }
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Every key once more: whatever was acknowledged is there. */
static void read_all(struct world *w)
{
    size_t count = w->history.count;
    uint32_t *keys = calloc(count + 1, sizeof *keys);
    struct checker_operation get = {.read = true}, expiry = {.read = true, .of_expiry = true};
    ENSURE(keys != NULL);
    for (size_t i = 0; i < count; i++)
        keys[i] = w->history.items[i].key;
    qsort(keys, count, sizeof *keys, compare_numbers);
    for (size_t i = 0; i < count && !w->failed; i++) {
        if (i > 0 && keys[i] == keys[i - 1])
            continue;
        size_t item = ask_and_wait(w, keys[i], &get);
        if (!w->failed && w->history.items[item].op.outcome != CHECKER_DONE)
            world_fail(w, "I18", "a key cannot be read when all is calm");
        if (!w->failed && w->knobs.expiries_per_mille > 0)
            ask_and_wait(w, keys[i], &expiry);
    }
    free(keys);
}

/* What a walk shows, and what the reads of all keys have shown. */
struct walk {
    const struct world *world;
    size_t first;       /* of the history's items that show it */
    uint64_t keys, sum; /* of hashes: order does not matter */
};

/* Has the key of this read of an expiry one, or did it have one that passed since its value was read,
 * just before? */
static bool had_expiry(const struct history_item *expiry)
{
    const struct history_item *value = expiry - 1;
    if (!expiry->op.has_value)
        return value->key == expiry->key && value->op.has_value;
    return expiry->op.value_seen.n != 0;
}

/* What has an expiry may go between the reads and the walk. */
static bool may_go(const struct walk *walk, struct bytes key)
{
    const struct history *h = &walk->world->history;
    for (size_t i = walk->first; i < h->count; i++) {
        char name[32];
        if (!h->items[i].op.of_expiry || !had_expiry(&h->items[i]))
            continue;
        history_key(h->items[i].key, name);
        if (bytes_equal(bytes_text(name), key))
            return true;
    }
    return false;
}

static uint64_t row_hash(struct bytes key, struct bytes value)
{
    return partition_digest(key) * 31 + partition_digest(value.size > 0 ? value : key);
}

static void walk_row(void *arg, struct bytes key, struct bytes value)
{
    struct walk *walk = arg;
    if (may_go(walk, key))
        return;
    walk->keys++;
    walk->sum += row_hash(key, value);
}

/* The last read of every key, which came when all was calm. */
static struct walk expected_walk(struct world *w, size_t first)
{
    struct walk expected = {.world = w, .first = first};
    for (size_t i = first; i < w->history.count; i++) {
        const struct history_item *item = &w->history.items[i];
        struct buffer value;
        char name[32];
        if (!item->op.has_value || item->op.of_expiry)
            continue;
        buffer_init(&value, 1u << 20);
        history_key(item->key, name);
        texts_print(item->op.value_seen, &value);
        walk_row(&expected, bytes_text(name), buffer_view(&value));
        buffer_fini(&value);
    }
    return expected;
}

/* A walk over the store by cursor shows each key that is there, once. */
static void walk_all(struct world *w, size_t first)
{
    bool ended;
    struct walk expected = expected_walk(w, first), seen = {.world = w, .first = first};
    struct caller *c = w->callers[0];
    caller_walk(c, walk_row, &seen, &ended);
    while (!w->failed && !ended)
        world_pass(w, 10);
    if (!w->failed && !caller_walked(c))
        world_fail(w, "I18", "a walk over the store ends early when all is calm");
    if (!w->failed && (seen.keys != expected.keys || seen.sum != expected.sum))
        world_fail(
            w, "I7", "a walk over the store shows %" PRIu64 " keys, reads have shown %" PRIu64 "%s",
            seen.keys, expected.keys, seen.keys == expected.keys ? ", with other values" : "");
}

/* The power fails everywhere at once: all that was acknowledged comes back. */
static void power_cut(struct world *w)
{
    world_say(w, "--  the power fails everywhere");
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        machine_end(w->machines[i], MACHINE_POWER);
    world_pass(w, 100);
    for (uint32_t i = 0; i < w->knobs.nodes && !w->failed; i++)
        machine_boot(w->machines[i]);
}

/* I19: the log is bounded once it could be recycled. */
static void check_logs(struct world *w)
{
    const struct knobs *k = &w->knobs;
    for (int round = 0; round < 3 && !w->failed; round++) {
        for (uint32_t i = 0; i < k->nodes; i++)
            machine_checkpoint(w->machines[i]);
        world_pass(w, 1500);
    }
    for (uint32_t i = 0; i < k->nodes && !w->failed; i++) {
        uint64_t size = machine_log_size(w->machines[i]);
        uint64_t bound = k->retention_size + 12 * k->segment_size;
        if (size > bound)
            world_fail(w, "I19", "node %u keeps %" PRIu64 " bytes of log, the bound is %" PRIu64, i,
                       size, bound);
    }
    for (uint32_t i = 0; i < k->routers && !w->failed; i++)
        if (gateway_slots_used(w->gateways[i]) != 0)
            world_fail(w, "I19", "router %u has %" PRIu64 " operations in flight, at rest", i,
                       gateway_slots_used(w->gateways[i]));
}

void world_calm(struct world *w)
{
    world_say(w, "--  calm");
    faults_calm(w->faults);
    wait_for_clients(w);
    probe(w);
    wait_for_full_isr(w);
    compare_copies(w);
    if (!w->failed)
        check_logs(w);
    if (!w->failed)
        power_cut(w);
    size_t first = w->history.count;
    if (!w->failed)
        read_all(w);
    if (!w->failed)
        walk_all(w, first);
    wait_for_full_isr(w);
    compare_copies(w);
    if (!w->failed)
        watch_judge(w->watch);
    if (!w->failed)
        history_judge(w);
}

static void count_network(struct world *w)
{
    const struct network_counters *n = network_counters(w->network);
    w->reached[REACH_frames_lost] += n->lost;
    w->reached[REACH_frames_doubled] += n->doubled;
    w->reached[REACH_frames_late] += n->late;
    w->reached[REACH_connections_lost] += n->resets;
}

static void count_history(struct world *w)
{
    for (size_t i = 0; i < w->history.count; i++) {
        const struct checker_operation *op = &w->history.items[i].op;
        w->reached[REACH_conditions_failed] +=
            op->outcome == CHECKER_DONE && op->status == STATUS_CONDITION;
        w->reached[REACH_expiries] += op->outcome == CHECKER_DONE && op->of_expiry && op->has_value;
        w->reached[REACH_parts] += op->outcome == CHECKER_DONE && op->status == STATUS_OK &&
                                   !op->read && op->mutation >= MUTATION_INCREMENT_DECIMAL;
        w->reached[REACH_not_numbers] +=
            op->outcome == CHECKER_DONE && op->status == STATUS_NOTNUMBER;
    }
}

void world_count(struct world *w)
{
    w->reached[REACH_wrong_clocks] += w->knobs.clock_wrong_ppm > CLOCK_WRONG_PPM;
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        machine_count(w->machines[i]);
    for (uint32_t i = 0; i < w->knobs.routers; i++)
        gateway_count(w->gateways[i]);
    for (uint32_t i = 0; i < w->knobs.clients; i++)
        caller_count(w->callers[i]);
    count_network(w);
    count_history(w);
}

bool world_run(struct world *w)
{
    world_start(w);
    if (w->starved)
        memory_starve(w->seed);
    run_safety(w);
    memory_feed();
    if (!w->failed)
        world_calm(w);
    return !w->failed;
}
