/* Registry world: a few nodes with nothing but a registry, under a virtual clock, and everything
 * that may go wrong between and in them. A seed draws it all and repeats it.
 *
 *   registry_world_run(seed, false, &r)   r.failure says which promise was broken; empty: none
 *   registry_world_run(seed, true, &r)    a schedule that looks at restarts alone
 *
 * Messages go through the codec; they are lost, doubled, late and out of order. Nodes lose what was
 * logged and not yet durable. Proposers collide; voters change by the joint step, and each node
 * hears of it when it hears of it. Then the troubles stop, and everything has to end.
 *
 * Checked, for each register: a version has one value; each value was written once, onto the
 * version that its swap named; what begins after something ended never sees less (with the former
 * this is linearizability); a swap that was told DONE is in the chain; nothing hangs in the calm.
 */
#ifndef TESTS_UNIT_REGISTRY_WORLD_H
#define TESTS_UNIT_REGISTRY_WORLD_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "storage/registry.h"
#include "tests/sim/random.h"

#define WORLD_NODES_MAX      7
#define WORLD_REGISTERS_MAX  30
#define WORLD_VERSIONS_MAX   2000
#define WORLD_OPERATIONS_MAX 6000
#define WORLD_CALM_US        30000000u /* an operation that has not ended by then hangs */

struct registry_world_result {
    char failure[200]; /* empty: all promises were kept */
    uint64_t reads, swaps_done, conflicts, in_doubt, crashes, changes, frames, lost;
};

enum event_kind {
    EVENT_FRAME,
    EVENT_SYNCED,
    EVENT_TICK,
    EVENT_CLIENT,
    EVENT_CRASH,
    EVENT_POWER,
    EVENT_RESTART,
    EVENT_CUT,
    EVENT_GOSSIP,
    EVENT_CHANGER,
};

struct event {
    uint64_t at_us, order;
    enum event_kind kind;
    uint32_t node, from;
    uint64_t incarnation; /* of the node that it is for; frames come whatever it is */
    uint64_t lsn;
    uint8_t *frame;
    size_t frame_size;
};

struct world_record {
    uint8_t *data;
    size_t size;
};

struct world_node {
    struct registry *registry; /* NULL: down */
    uint64_t incarnation;
    uint64_t cut_until_us;
    uint64_t tick_us;                    /* the TICK that is queued */
    uint64_t known[WORLD_REGISTERS_MAX]; /* versions that it has heard of, for its swaps */
    uint32_t unfinished;                 /* bits: registers that it was at when it went down */
    /* The disk. A record's lsn is its place, from 1. */
    struct world_record *log;
    size_t log_count, log_durable, log_capacity;
    bool syncing;
    struct buffer saved;
    size_t saved_at; /* records that the blob stands for */
    bool has_saved;
};

struct world_operation {
    uint32_t node, number;
    uint64_t incarnation, ticket;
    bool is_swap, ended;
    uint64_t expected;
    uint64_t floor; /* the highest version that anybody had been told when it began */
};

enum changer_state { CHANGER_READ, CHANGER_REWRITE, CHANGER_SWAP };

struct world {
    struct random random;
    struct registry_world_result *result;
    uint64_t now_us, orders;
    struct event *heap;
    size_t heap_count, heap_capacity;

    uint32_t nodes_count, registers_count;
    uint32_t proposers_count; /* nodes below it have clients */
    struct world_node nodes[WORLD_NODES_MAX];
    struct registry_voters founding;
    struct registry_voters voters; /* the newest that anybody has been told */

    struct world_operation
        operations[WORLD_OPERATIONS_MAX + 1]; /* from 1: the number is the value */
    uint32_t operations_count, open;
    uint64_t floors[WORLD_REGISTERS_MAX];
    uint64_t chains[WORLD_REGISTERS_MAX][WORLD_VERSIONS_MAX]; /* value + 1; 0: not seen */

    /* What the seed has drawn. */
    uint32_t loss, doubles, late, power;
    uint64_t delay_us, late_us, sync_us, think_us, crash_us, cut_us, gossip_us, change_us;
    uint64_t calm_at_us;
    uint32_t operations_max;
    bool calm;

    /* Who changes the voters. */
    uint32_t changer;
    enum changer_state changer_state;
    uint64_t changer_started_us, changer_version;
    uint32_t changer_open, changer_operation;
    uint32_t rewritten; /* bits of registers */
};

/* ---- Small things --------------------------------------------------------------------------- */

static void world_fail(struct world *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void world_fail(struct world *w, const char *format, ...)
{
    if (w->result->failure[0] != 0)
        return;
    va_list arguments;
    va_start(arguments, format);
    int used =
        snprintf(w->result->failure, sizeof w->result->failure, "at %" PRIu64 " us: ", w->now_us);
    vsnprintf(w->result->failure + used, sizeof w->result->failure - (size_t)used, format,
              arguments);
    va_end(arguments);
}

static uint64_t world_ms(const struct world *w)
{
    return w->now_us / 1000;
}

static bool event_before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void event_push(struct world *w, struct event e)
{
    if (w->heap_count == w->heap_capacity) {
        w->heap_capacity = w->heap_capacity * 2 + 64;
        w->heap = realloc(w->heap, w->heap_capacity * sizeof *w->heap);
        ENSURE(w->heap != NULL);
    }
    e.order = w->orders++;
    size_t i = w->heap_count++;
    for (; i > 0 && event_before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct event event_pop(struct world *w)
{
    struct event first = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_count)
            break;
        if (child + 1 < w->heap_count && event_before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (event_before(&last, &w->heap[child]))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return first;
}

static void event_in(struct world *w, enum event_kind kind, uint32_t node, uint64_t in_us)
{
    event_push(w, (struct event){.at_us = w->now_us + in_us,
                                 .kind = kind,
                                 .node = node,
                                 .incarnation = w->nodes[node].incarnation});
}

/* ---- Values: 8 bytes of the operation's number; the voters behind it in the cluster register - */

#define WORLD_VALUE_SIZE_MAX (8 + sizeof(struct registry_voters))

static struct bytes value_of(const struct world *w, uint32_t number, uint64_t operation,
                             const struct registry_voters *voters,
                             uint8_t to[static REGISTRY_VALUE_SIZE_MAX])
{
    (void)w;
    bytes_put_le64(to, operation);
    if (number == REGISTRY_CLUSTER) {
        memcpy(to + 8, voters, sizeof *voters);
        return bytes_of(to, 8 + sizeof *voters);
    }
    size_t size = operation % 16 == 5 ? REGISTRY_VALUE_SIZE_MAX : 8 + operation % 40;
    memset(to + 8, (int)operation, size - 8);
    return bytes_of(to, size);
}

static bool is_founded(uint32_t number)
{
    return number % 2 == 0;
}

static uint64_t first_version(uint32_t number)
{
    return is_founded(number) ? 1 : 0;
}

/* ---- What is told, judged ------------------------------------------------------------------- */

/* The operation that made this value; 0: the founding one, or none. */
static uint64_t world_value_judge(struct world *w, uint32_t number, uint64_t version,
                                  struct bytes value)
{
    if (version == 0) {
        if (value.size != 0 || is_founded(number))
            world_fail(w, "register %u: a value at version 0", number);
        return 0;
    }
    uint64_t made = value.size < 8 ? UINT64_MAX : bytes_le64(value.data);
    if (made > w->operations_count) {
        world_fail(w, "register %u: a value that nobody wrote", number);
        return 0;
    }
    uint8_t expected[REGISTRY_VALUE_SIZE_MAX];
    if (number != REGISTRY_CLUSTER &&
        !bytes_equal(value, value_of(w, number, made, NULL, expected)))
        world_fail(w, "register %u: the value of %" PRIu64 " is damaged", number, made);
    const struct world_operation *op = &w->operations[made];
    bool fits = made == 0 ? version == 1 && is_founded(number)
                          : op->is_swap && op->number == number && op->expected + 1 == version;
    if (!fits)
        world_fail(w, "register %u: value %" PRIu64 " stands at version %" PRIu64, number, made,
                   version);
    return made;
}

static void world_told(struct world *w, uint32_t number, uint64_t version, uint64_t made)
{
    if (version >= WORLD_VERSIONS_MAX) {
        world_fail(w, "register %u: version %" PRIu64, number, version);
        return;
    }
    uint64_t *seen = &w->chains[number][version];
    if (*seen != 0 && *seen != made + 1)
        world_fail(w, "register %u version %" PRIu64 " has two values, %" PRIu64 " and %" PRIu64,
                   number, version, *seen - 1, made);
    *seen = made + 1;
    if (version > w->floors[number])
        w->floors[number] = version;
}

static void world_end_judge(struct world *w, const struct world_operation *op, uint64_t made,
                            enum registry_outcome outcome, uint64_t version)
{
    uint64_t self = (uint64_t)(op - w->operations);
    if (version < op->floor)
        world_fail(w, "register %u: %" PRIu64 " was told after %" PRIu64, op->number, version,
                   op->floor);
    if (!op->is_swap && outcome != REGISTRY_DONE)
        world_fail(w, "a read that conflicts");
    if (op->is_swap && outcome == REGISTRY_CONFLICT && version == op->expected)
        world_fail(w, "a conflict at the version that was expected");
    if (op->is_swap && outcome == REGISTRY_DONE && (made != self || version <= op->floor))
        world_fail(w, "register %u: swap %" PRIu64 " is called done at %" PRIu64 " of %" PRIu64,
                   op->number, self, version, made);
    if (!op->is_swap)
        w->result->reads++;
    else if (outcome == REGISTRY_DONE)
        w->result->swaps_done++;
    else
        w->result->conflicts++;
}

static struct world_operation *world_find(struct world *w, uint32_t node, uint64_t ticket)
{
    for (uint32_t i = w->operations_count; i > 0; i--) {
        struct world_operation *op = &w->operations[i];
        if (op->node == node && op->ticket == ticket &&
            op->incarnation == w->nodes[node].incarnation)
            return op->ended ? NULL : op;
    }
    return NULL;
}

static void world_changer_ended(struct world *w, const struct world_operation *op, bool done);

/* ---- A node's hands ------------------------------------------------------------------------- */

struct world_arg {
    struct world *world;
    uint32_t node;
};

static struct world_arg world_args[WORLD_NODES_MAX];

static void on_ended(void *arg, uint64_t ticket, uint32_t number, enum registry_outcome outcome,
                     uint64_t version, struct bytes value)
{
    struct world *w = ((struct world_arg *)arg)->world;
    uint32_t node = ((struct world_arg *)arg)->node;
    struct world_operation *op = world_find(w, node, ticket);
    if (op == NULL || op->number != number) {
        world_fail(w, "an operation ended that was not under way");
        return;
    }
    uint64_t made = world_value_judge(w, number, version, value);
    world_end_judge(w, op, made, outcome, version);
    world_told(w, number, version, made);
    op->ended = true;
    w->open--;
    w->nodes[node].known[number] = version;
    if (number == REGISTRY_CLUSTER && value.size == WORLD_VALUE_SIZE_MAX) {
        struct registry_voters voters;
        memcpy(&voters, value.data + 8, sizeof voters);
        if (voters.version > w->voters.version)
            w->voters = voters;
        registry_set_voters(w->nodes[node].registry, &voters);
    }
    if (op - w->operations == w->changer_operation || w->changer_state == CHANGER_REWRITE)
        world_changer_ended(w, op, outcome == REGISTRY_DONE);
}

static uint64_t on_log(void *arg, struct bytes body)
{
    struct world *w = ((struct world_arg *)arg)->world;
    struct world_node *n = &w->nodes[((struct world_arg *)arg)->node];
    if (n->log_count == n->log_capacity) {
        n->log_capacity = n->log_capacity * 2 + 64;
        n->log = realloc(n->log, n->log_capacity * sizeof *n->log);
        ENSURE(n->log != NULL);
    }
    size_t padded = (body.size + 7) & ~(size_t)7; /* as the log does */
    uint8_t *data = calloc(1, padded);
    ENSURE(data != NULL);
    memcpy(data, body.data, body.size);
    n->log[n->log_count++] = (struct world_record){data, padded};
    return n->log_count;
}

static void world_transmit(struct world *w, uint32_t from, uint32_t to, struct bytes frame)
{
    uint64_t delay = random_below(&w->random, w->delay_us + 1);
    if (random_chance(&w->random, w->late))
        delay = random_below(&w->random, w->late_us + 1);
    struct event e = {.at_us = w->now_us + delay, .kind = EVENT_FRAME, .node = to, .from = from};
    e.frame = malloc(frame.size);
    ENSURE(e.frame != NULL);
    memcpy(e.frame, frame.data, frame.size);
    e.frame_size = frame.size;
    event_push(w, e);
}

static bool world_is_cut(const struct world *w, uint32_t node)
{
    return w->nodes[node].cut_until_us > w->now_us;
}

static void on_send(void *arg, uint32_t node, const struct registry_message *m)
{
    struct world *w = ((struct world_arg *)arg)->world;
    uint32_t from = ((struct world_arg *)arg)->node;
    struct registry_message filled = *m;
    filled.sender = from;
    filled.incarnation = w->nodes[from].incarnation;
    struct buffer frame;
    buffer_init(&frame, 4u << 20);
    ENSURE(codec_pack_registry(&filled, &frame) == STATUS_OK);
    w->result->frames++;
    bool lost =
        random_chance(&w->random, w->loss) || world_is_cut(w, from) || world_is_cut(w, node);
    w->result->lost += lost;
    if (!lost)
        world_transmit(w, from, node, buffer_view(&frame));
    if (random_chance(&w->random, w->doubles))
        world_transmit(w, from, node, buffer_view(&frame));
    buffer_fini(&frame);
}

/* The end of a node's turn. */
static void world_turn_end(struct world *w, uint32_t node)
{
    struct world_node *n = &w->nodes[node];
    registry_flush(n->registry);
    if (!n->syncing && n->log_count > n->log_durable) {
        n->syncing = true;
        /* Who only answers has the better disk: then questions go on before the asker's own answer.
         */
        uint64_t sync_us = node < w->proposers_count ? w->sync_us : 200;
        event_push(w, (struct event){.at_us = w->now_us + random_spread(&w->random, 50, sync_us),
                                     .kind = EVENT_SYNCED,
                                     .node = node,
                                     .incarnation = n->incarnation,
                                     .lsn = n->log_count});
    }
    /* What was said must not depend on what the disk does not have: the power fails here. */
    if (node < w->proposers_count && n->log_count > n->log_durable &&
        random_chance(&w->random, w->power))
        event_in(w, EVENT_POWER, node, 0);
    uint64_t deadline = registry_deadline(n->registry);
    if (deadline == UINT64_MAX || deadline * 1000 >= n->tick_us)
        return;
    n->tick_us = deadline * 1000;
    uint64_t in_us = n->tick_us > w->now_us ? n->tick_us - w->now_us : 0;
    event_in(w, EVENT_TICK, node, in_us);
}

/* ---- Nodes come and go ---------------------------------------------------------------------- */

static void world_recover(struct world *w, uint32_t node)
{
    struct world_node *n = &w->nodes[node];
    uint8_t value[REGISTRY_VALUE_SIZE_MAX];
    for (uint32_t i = 0; i < w->registers_count; i++)
        if (is_founded(i))
            ENSURE(registry_found(n->registry, i, value_of(w, i, 0, &w->founding, value)) ==
                   STATUS_OK);
    size_t from = 0;
    if (n->has_saved) {
        if (registry_restore(n->registry, buffer_view(&n->saved)) != STATUS_OK)
            world_fail(w, "a saved blob that does not restore");
        /* What the blob holds already may be replayed on top of it. */
        from = (size_t)random_range(&w->random, 0, n->saved_at);
    }
    for (size_t i = from; i < n->log_count; i++)
        if (registry_replay(n->registry, bytes_of(n->log[i].data, n->log[i].size)) != STATUS_OK)
            world_fail(w, "a record that does not replay");
}

static void world_start(struct world *w, uint32_t node)
{
    struct world_node *n = &w->nodes[node];
    world_args[node] = (struct world_arg){w, node};
    n->incarnation++;
    n->tick_us = UINT64_MAX;
    n->syncing = false;
    const struct registry_options options = {
        .self = node,
        .incarnation = n->incarnation,
        .registers_count = w->registers_count,
        .random = random_next(&w->random),
    };
    const struct registry_host host = {&world_args[node], on_log, on_send, on_ended};
    n->registry = registry_new(&options, &host, &w->founding);
    ENSURE(n->registry != NULL);
    world_recover(w, node);
    event_in(w, EVENT_CLIENT, node,
             n->unfinished != 0 ? 0 : random_below(&w->random, w->think_us + 1));
    event_in(w, EVENT_GOSSIP, node, random_below(&w->random, w->gossip_us + 1));
}

static void world_crash(struct world *w, uint32_t node)
{
    struct world_node *n = &w->nodes[node];
    registry_destroy(&n->registry);
    w->result->crashes++;
    /* Of what was not yet durable a part may have reached the disk all the same. */
    size_t kept = (size_t)random_range(&w->random, n->log_durable, n->log_count);
    if (random_chance(&w->random, 700))
        kept = n->log_durable;
    while (n->log_count > kept)
        free(n->log[--n->log_count].data);
    n->log_durable = n->log_count;
    if (n->saved_at > n->log_count)
        n->saved_at = n->log_count;
    for (uint32_t i = 1; i <= w->operations_count; i++) {
        struct world_operation *op = &w->operations[i];
        if (op->node == node && op->incarnation == n->incarnation && !op->ended) {
            op->ended = true;
            w->open--;
            w->result->in_doubt++;
            n->unfinished |= 1u << op->number;
        }
    }
}

static void world_save(struct world *w, uint32_t node)
{
    struct world_node *n = &w->nodes[node];
    buffer_clear(&n->saved);
    if (registry_save(n->registry, &n->saved) != STATUS_OK || registry_changed(n->registry))
        world_fail(w, "a registry that cannot be saved");
    n->has_saved = true;
    n->saved_at = n->log_count;
}

/* ---- Operations ----------------------------------------------------------------------------- */

/* The operation's number, or 0: not started. */
static uint32_t world_operate(struct world *w, uint32_t node, uint32_t number, bool is_swap,
                              uint64_t expected, const struct registry_voters *voters)
{
    struct world_node *n = &w->nodes[node];
    ENSURE(w->operations_count < WORLD_OPERATIONS_MAX);
    if (registry_busy(n->registry, number))
        return 0;
    uint32_t self = ++w->operations_count;
    struct world_operation *op = &w->operations[self];
    *op = (struct world_operation){.node = node,
                                   .number = number,
                                   .incarnation = n->incarnation,
                                   .is_swap = is_swap,
                                   .expected = expected,
                                   .floor = w->floors[number]};
    uint8_t value[REGISTRY_VALUE_SIZE_MAX];
    w->open++;
    op->ticket = is_swap ? registry_swap(n->registry, world_ms(w), number, expected,
                                         value_of(w, number, self, voters, value))
                         : registry_read(n->registry, world_ms(w), number);
    ENSURE(op->ticket != 0);
    return self;
}

static void world_client(struct world *w, uint32_t node)
{
    struct world_node *n = &w->nodes[node];
    event_in(w, EVENT_CLIENT, node, random_below(&w->random, 2 * w->think_us + 1));
    if (w->calm || w->operations_count >= w->operations_max || node >= w->proposers_count)
        return;
    /* Who is back takes up what it was at, with another value: its old questions are still on the
     * way. */
    for (uint32_t i = 1; i < w->registers_count; i++)
        if ((n->unfinished & 1u << i) != 0)
            world_operate(w, node, i, true, n->known[i], NULL);
    n->unfinished = 0;
    for (uint64_t i = random_range(&w->random, 1, 3); i > 0; i--) {
        uint32_t number = (uint32_t)random_below(&w->random, w->registers_count);
        bool is_swap = number != REGISTRY_CLUSTER && random_chance(&w->random, 600);
        uint64_t expected = n->known[number];
        if (random_chance(&w->random, 50))
            expected = random_below(&w->random, expected + 3);
        world_operate(w, node, number, is_swap, expected, NULL);
    }
    if (random_chance(&w->random, 20) && w->operations_count > 0) {
        struct world_operation *op = &w->operations[w->operations_count];
        if (op->node == node && !op->ended && op->incarnation == n->incarnation) {
            registry_give_up(n->registry, op->ticket);
            op->ended = true;
            w->open--;
            w->result->in_doubt++;
        }
    }
    if (random_chance(&w->random, 100))
        world_save(w, node);
}

/* ---- Voters change -------------------------------------------------------------------------- */

static void world_voters_draw(struct world *w, uint32_t nodes[static REGISTRY_VOTERS_MAX],
                              uint32_t *ret_count)
{
    uint32_t all[WORLD_NODES_MAX];
    uint32_t most = w->nodes_count < REGISTRY_VOTERS_MAX ? w->nodes_count : REGISTRY_VOTERS_MAX;
    *ret_count = 1 + 2 * (uint32_t)random_below(&w->random, (most + 1) / 2);
    for (uint32_t i = 0; i < w->nodes_count; i++)
        all[i] = i;
    for (uint32_t i = 0; i < *ret_count; i++) {
        uint32_t other = (uint32_t)random_range(&w->random, i, w->nodes_count - 1);
        nodes[i] = all[other];
        all[other] = all[i];
    }
}

static void world_changer_swap(struct world *w)
{
    struct registry_voters v = w->voters;
    v.version++;
    if (v.next_count > 0) {
        memcpy(v.nodes, v.next, sizeof v.nodes);
        v.count = v.next_count;
        v.next_count = 0;
        memset(v.next, 0, sizeof v.next);
    } else {
        world_voters_draw(w, v.next, &v.next_count);
    }
    w->changer_operation = world_operate(w, w->changer, REGISTRY_CLUSTER, true,
                                         w->nodes[w->changer].known[REGISTRY_CLUSTER], &v);
}

/* One of the changer's operations has ended: on to the next state. */
static void world_changer_ended(struct world *w, const struct world_operation *op, bool done)
{
    uint32_t self = (uint32_t)(op - w->operations);
    if (op->node != w->changer || op->incarnation != w->nodes[w->changer].incarnation)
        return;
    if (w->changer_state == CHANGER_REWRITE) {
        /* Only what began after the joint set was obeyed counts. */
        if (!op->is_swap && self >= w->changer_operation && w->changer_operation != 0)
            w->rewritten |= 1u << op->number;
        return;
    }
    w->changer_operation = 0;
    if (w->changer_state == CHANGER_SWAP && done)
        w->result->changes++;
    w->changer_state = CHANGER_READ;
    if (done && w->voters.next_count > 0) {
        w->changer_state = CHANGER_REWRITE;
        w->rewritten = 0;
    }
}

static void world_changer_rewrite(struct world *w)
{
    struct registry_voters obeyed;
    registry_voters(w->nodes[w->changer].registry, &obeyed);
    if (obeyed.version != w->voters.version || obeyed.next_count == 0) {
        w->changer_operation = 0;
        if (obeyed.version > w->voters.version || w->voters.next_count == 0)
            w->changer_state = CHANGER_READ;
        return;
    }
    if (w->changer_operation == 0) {
        w->rewritten = 0;
        w->changer_operation = w->operations_count + 1;
    }
    if (w->rewritten == (1u << w->registers_count) - 1) {
        w->changer_state = CHANGER_SWAP;
        world_changer_swap(w);
        return;
    }
    for (uint32_t i = 0; i < w->registers_count; i++)
        if ((w->rewritten & 1u << i) == 0)
            world_operate(w, w->changer, i, false, 0, NULL);
}

static void world_changer(struct world *w)
{
    event_in(w, EVENT_CHANGER, 0, 1 + random_below(&w->random, w->calm ? 20000 : w->change_us));
    struct world_node *n = &w->nodes[w->changer];
    const struct world_operation *op = &w->operations[w->changer_operation];
    bool lost = n->registry == NULL || n->incarnation != w->changer_version;
    if (lost || w->now_us > w->changer_started_us + 3000000) {
        /* Another one takes over; what was begun is found in the register. */
        w->changer = (uint32_t)random_below(&w->random, w->nodes_count);
        n = &w->nodes[w->changer];
        w->changer_started_us = w->now_us;
        w->changer_version = n->incarnation;
        w->changer_state = CHANGER_READ;
        w->changer_operation = 0;
    }
    if (n->registry == NULL || w->operations_count > WORLD_OPERATIONS_MAX - 1000)
        return;
    if (w->changer_state == CHANGER_REWRITE)
        world_changer_rewrite(w);
    else if (w->changer_operation != 0 && !op->ended)
        return;
    else if (!w->calm && w->changer_state == CHANGER_READ && w->voters.next_count == 0 &&
             n->known[REGISTRY_CLUSTER] == w->floors[REGISTRY_CLUSTER]) {
        w->changer_state = CHANGER_SWAP;
        world_changer_swap(w);
    } else {
        w->changer_state = CHANGER_READ;
        w->changer_operation = world_operate(w, w->changer, REGISTRY_CLUSTER, false, 0, NULL);
    }
    world_turn_end(w, w->changer);
}

/* ---- Events --------------------------------------------------------------------------------- */

static void world_frame(struct world *w, const struct event *e)
{
    struct world_node *n = &w->nodes[e->node];
    struct arena arena;
    struct registry_message m;
    if (n->registry == NULL || world_is_cut(w, e->node))
        return;
    arena_init(&arena);
    if (codec_unpack_registry(bytes_of(e->frame, e->frame_size), &arena, &m) != STATUS_OK ||
        registry_message(n->registry, world_ms(w), e->from, &m) != STATUS_OK)
        world_fail(w, "a message that is not understood");
    arena_fini(&arena);
    world_turn_end(w, e->node);
}

static void world_synced(struct world *w, const struct event *e)
{
    struct world_node *n = &w->nodes[e->node];
    n->syncing = false;
    n->log_durable = e->lsn;
    registry_durable(n->registry, world_ms(w), e->lsn);
    world_turn_end(w, e->node);
}

static void world_trouble(struct world *w, const struct event *e)
{
    struct world_node *n = &w->nodes[e->node];
    if (e->kind == EVENT_RESTART) {
        if (n->registry == NULL)
            world_start(w, e->node);
        return;
    }
    uint32_t node = (uint32_t)random_below(&w->random, w->nodes_count);
    uint64_t every_us = e->kind == EVENT_CRASH ? w->crash_us : w->cut_us;
    if (w->calm)
        return;
    event_in(w, e->kind, 0, random_below(&w->random, 2 * every_us));
    if (e->kind == EVENT_CUT) {
        w->nodes[node].cut_until_us = w->now_us + random_below(&w->random, 400000);
    } else if (w->nodes[node].registry != NULL) {
        world_crash(w, node);
        event_in(w, EVENT_RESTART, node, random_spread(&w->random, 100, 500000));
    }
}

static void world_event(struct world *w, const struct event *e)
{
    struct world_node *n = &w->nodes[e->node];
    bool gone = n->registry == NULL || n->incarnation != e->incarnation;
    switch (e->kind) {
    case EVENT_FRAME:
        world_frame(w, e);
        return;
    case EVENT_CRASH:
    case EVENT_RESTART:
    case EVENT_CUT:
        world_trouble(w, e);
        return;
    case EVENT_CHANGER:
        world_changer(w);
        return;
    case EVENT_SYNCED:
        if (!gone)
            world_synced(w, e);
        return;
    case EVENT_POWER:
        if (gone)
            return;
        world_crash(w, e->node);
        event_in(w, EVENT_RESTART, e->node, random_spread(&w->random, 50, 3000));
        return;
    case EVENT_TICK:
        if (gone)
            return;
        n->tick_us = UINT64_MAX;
        registry_tick(n->registry, world_ms(w));
        break;
    case EVENT_CLIENT:
        if (gone)
            return;
        world_client(w, e->node);
        break;
    case EVENT_GOSSIP:
        if (gone)
            return;
        event_in(w, EVENT_GOSSIP, e->node, random_below(&w->random, w->gossip_us + 1) + 1000);
        if (!world_is_cut(w, e->node))
            registry_set_voters(n->registry, &w->voters);
        break;
    }
    world_turn_end(w, e->node);
}

static void world_run_until(struct world *w, uint64_t until_us, bool until_idle)
{
    while (w->heap_count > 0 && w->heap[0].at_us < until_us && w->result->failure[0] == 0) {
        if (until_idle && w->open == 0)
            return;
        struct event e = event_pop(w);
        w->now_us = e.at_us;
        world_event(w, &e);
        free(e.frame);
    }
}

/* ---- A seed's world ------------------------------------------------------------------------- */

static void world_draw(struct world *w)
{
    struct random *r = &w->random;
    w->nodes_count = w->proposers_count = (uint32_t)random_range(r, 1, WORLD_NODES_MAX);
    w->loss = random_chance(r, 600) ? (uint32_t)random_spread(r, 1, 300) : 0;
    w->doubles = random_chance(r, 500) ? (uint32_t)random_spread(r, 1, 200) : 0;
    w->late = random_chance(r, 500) ? (uint32_t)random_spread(r, 1, 100) : 0;
    w->power = random_chance(r, 500) ? (uint32_t)random_spread(r, 1, 100) : 0;
    w->delay_us = random_spread(r, 200, 30000);
    w->late_us = random_spread(r, 1000, 2000000);
    w->sync_us = random_spread(r, 100, 40000);
    w->think_us = random_spread(r, 500, 60000);
    w->crash_us = random_chance(r, 700) ? random_spread(r, 5000, 1000000) : 0;
    w->cut_us = random_chance(r, 400) ? random_spread(r, 100000, 1000000) : 0;
    w->gossip_us = random_spread(r, 1000, 500000);
    w->change_us = random_chance(r, 500) ? random_spread(r, 2000, 60000) : 0;
    /* A few that are fought over; or many, with the first ballots of each, in a world of its own: a
     * change of the voters rewrites them all. */
    uint32_t registers_max = w->change_us == 0 && random_chance(r, 400) ? WORLD_REGISTERS_MAX : 6;
    w->registers_count = (uint32_t)random_range(r, 2, registers_max);
    w->operations_max = (uint32_t)random_range(r, 50, 250);
    w->calm_at_us = random_range(r, 1000000, 5000000);
    w->founding.version = 1;
    world_voters_draw(w, w->founding.nodes, &w->founding.count);
    w->voters = w->founding;
}

/* One proposer, whose power fails again and again while its questions are on the way. */
static void world_draw_restarts(struct world *w)
{
    struct random *r = &w->random;
    w->nodes_count = (uint32_t)random_range(r, 3, WORLD_NODES_MAX);
    w->founding.count = 3;
    for (uint32_t i = 0; i < 3; i++)
        w->founding.nodes[i] = i;
    w->voters = w->founding;
    w->proposers_count = 1;
    w->registers_count = (uint32_t)random_range(r, 2, 6);
    w->loss = (uint32_t)random_range(r, 50, 400);
    w->power = (uint32_t)random_range(r, 10, 80);
    w->delay_us = random_range(r, 500, 3000);
    w->sync_us = random_range(r, 2000, 20000);
    w->think_us = 10000;
    w->late = 200;
    w->late_us = 20000;
    w->change_us = w->crash_us = w->cut_us = 0;
}

static void world_begin(struct world *w)
{
    for (uint32_t i = 0; i < w->registers_count; i++)
        if (is_founded(i))
            world_told(w, i, 1, 0);
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        buffer_init(&w->nodes[i].saved, 1u << 20);
        for (uint32_t k = 0; k < w->registers_count; k++)
            w->nodes[i].known[k] = first_version(k);
        world_start(w, i);
    }
    if (w->crash_us > 0)
        event_in(w, EVENT_CRASH, 0, random_below(&w->random, 2 * w->crash_us));
    if (w->cut_us > 0)
        event_in(w, EVENT_CUT, 0, random_below(&w->random, 2 * w->cut_us));
    if (w->change_us > 0)
        event_in(w, EVENT_CHANGER, 0, random_below(&w->random, w->change_us));
}

/* The troubles end: all that is under way has to end too, and then everybody reads the same. */
static void world_calm(struct world *w)
{
    w->calm = true;
    w->loss = w->doubles = w->late = w->power = 0;
    w->delay_us = 1000;
    w->sync_us = 2000;
    w->gossip_us = 50000;
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        w->nodes[i].cut_until_us = 0;
        if (w->nodes[i].registry == NULL)
            world_start(w, i);
    }
    world_run_until(w, w->now_us + WORLD_CALM_US, true);
    if (w->open > 0)
        world_fail(w, "%u operations hang", w->open);
    for (uint32_t node = 0; node < w->nodes_count && w->result->failure[0] == 0; node++) {
        for (uint32_t i = 0; i < w->registers_count; i++)
            world_operate(w, node, i, false, 0, NULL);
        world_turn_end(w, node);
    }
    world_run_until(w, w->now_us + WORLD_CALM_US, true);
    if (w->open > 0)
        world_fail(w, "%u reads hang at the end", w->open);
}

static void world_fini(struct world *w)
{
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        struct world_node *n = &w->nodes[i];
        registry_destroy(&n->registry);
        buffer_fini(&n->saved);
        while (n->log_count > 0)
            free(n->log[--n->log_count].data);
        free(n->log);
    }
    while (w->heap_count > 0)
        free(w->heap[--w->heap_count].frame);
    free(w->heap);
}

static void registry_world_run(uint64_t seed, bool restarts, struct registry_world_result *ret)
{
    struct world *w = calloc(1, sizeof *w);
    ENSURE(w != NULL);
    *ret = (struct registry_world_result){.failure = ""};
    w->result = ret;
    random_init(&w->random, seed);
    world_draw(w);
    if (restarts)
        world_draw_restarts(w);
    world_begin(w);
    world_run_until(w, w->calm_at_us, false);
    if (ret->failure[0] == 0)
        world_calm(w);
    world_fini(w);
    free(w);
}

#endif
