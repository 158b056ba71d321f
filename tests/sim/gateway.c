#include "tests/sim/gateway.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "router/coordinator.h"
#include "tests/sim/memory.h"
#include "tests/sim/world.h"

#define NODES_KNOWN_MAX 32
#define NO_SOCKET       UINT32_MAX

enum arrival_kind { ARRIVAL_ASKED, ARRIVAL_GONE, ARRIVAL_ANSWERED, ARRIVAL_CONNECTED };

struct arrival {
    enum arrival_kind kind;
    uint64_t source;
    uint32_t socket;
    bool connected;
    struct bytes frame;
    uint8_t *memory;
};

struct gateway {
    struct world *world;
    struct random random;
    uint32_t index;
    struct world_clock clock;

    /* The process. */
    uint64_t life;
    struct coordinator *coordinator;
    struct effects effects;
    uint32_t sockets[NODES_KNOWN_MAX];   /* by the coordinator's node number */
    uint32_t endpoints[NODES_KNOWN_MAX]; /* likewise */
    struct arrival *arrivals;
    size_t arrivals_count, arrivals_capacity;
    bool turn_due;
    uint64_t timer_us, paused_until_us;
};

static void turn(void *arg, uint64_t life, uint64_t unused);

static uint64_t now_ms(const struct gateway *g)
{
    return world_clock_ms(g->world, &g->clock);
}

struct gateway *gateway_new(struct world *w, uint32_t index)
{
    struct gateway *g = calloc(1, sizeof *g);
    ENSURE(g != NULL);
    g->world = w;
    g->index = index;
    random_init(&g->random, w->seed * 2000003 + index);
    world_clock_draw(&g->clock, &g->random);
    return g;
}

static void arrivals_clear(struct gateway *g)
{
    for (size_t i = 0; i < g->arrivals_count; i++)
        free(g->arrivals[i].memory);
    g->arrivals_count = 0;
}

static void forget(struct gateway *g)
{
    g->life++;
    if (g->coordinator != NULL) {
        coordinator_destroy(&g->coordinator);
        effects_fini(&g->effects);
    }
    arrivals_clear(g);
    g->turn_due = false;
    g->timer_us = g->paused_until_us = 0;
}

void gateway_destroy(struct gateway **g_p)
{
    struct gateway *g = *g_p;
    if (g == NULL)
        return;
    forget(g);
    free(g->arrivals);
    free(g);
    *g_p = NULL;
}

static void wake(struct gateway *g)
{
    if (g->turn_due)
        return;
    g->turn_due = true;
    queue_add(&g->world->queue, random_below(&g->random, g->world->knobs.turn_max_us + 1), turn, g,
              g->life, 0);
}

void gateway_boot(struct gateway *g)
{
    static const char *const seeds[] = {"tcp://n0:7500", "tcp://n1:7500", "tcp://n2:7500",
                                        "tcp://n3:7500"};
    const struct knobs *k = &g->world->knobs;
    char name[8];
    ENSURE(g->coordinator == NULL);
    snprintf(name, sizeof name, "r%u", g->index);
    struct coordinator_options options = coordinator_defaults;
    options.name = name;
    options.boot_id = random_next(&g->random) | 1;
    options.slots = k->slots;
    options.silence_ms = (uint32_t)k->silence_ms;
    options.attempt_ms = (uint32_t)k->attempt_ms;
    options.seeds_count = (uint32_t)random_range(&g->random, 1, k->nodes);
    for (uint32_t i = 0; i < options.seeds_count; i++)
        options.seeds[i] = seeds[(i + g->index) % k->nodes];
    g->life++;
    /* Whoever starts it tries again. */
    do {
        memory_work();
        g->coordinator = coordinator_new(&options);
        memory_rest();
    } while (g->coordinator == NULL);
    effects_init(&g->effects);
    for (uint32_t i = 0; i < NODES_KNOWN_MAX; i++)
        g->sockets[i] = NO_SOCKET;
    network_process_up(g->world->network, ENDPOINT_ROUTER(g->index));
    world_say(g->world, "r%u  starts", g->index);
    wake(g);
}

void gateway_end(struct gateway *g)
{
    if (g->coordinator == NULL)
        return;
    world_say(g->world, "r%u  is killed", g->index);
    g->world->reached[REACH_router_deaths]++;
    gateway_count(g);
    forget(g);
    network_process_dead(g->world->network, ENDPOINT_ROUTER(g->index),
                         random_chance(&g->random, 700));
}

bool gateway_alive(const struct gateway *g)
{
    return g->coordinator != NULL;
}

void gateway_pause(struct gateway *g, uint64_t ms)
{
    g->paused_until_us = g->world->queue.now_us + ms * 1000;
}

void gateway_calm(struct gateway *g)
{
    g->paused_until_us = 0;
}

void gateway_count(struct gateway *g)
{
    uint64_t *reached = g->world->reached;
    if (g->coordinator == NULL)
        return;
    const struct coordinator_counters *c = coordinator_counters(g->coordinator);
    reached[REACH_repeats] += c->repeats;
    reached[REACH_elsewhere] += c->elsewhere;
    reached[REACH_held] += c->held;
    reached[REACH_late_results] += c->late;
    reached[REACH_silences] += c->node_silences;
}

uint64_t gateway_slots_used(const struct gateway *g)
{
    return g->coordinator == NULL ? 0 : coordinator_counters(g->coordinator)->slots_used;
}

/* Arrivals. */

static struct arrival *arrival_add(struct gateway *g, enum arrival_kind kind, struct bytes frame)
{
    if (g->arrivals_count == g->arrivals_capacity) {
        g->arrivals_capacity = g->arrivals_capacity == 0 ? 64 : 2 * g->arrivals_capacity;
        g->arrivals = realloc(g->arrivals, g->arrivals_capacity * sizeof *g->arrivals);
        ENSURE(g->arrivals != NULL);
    }
    struct arrival *a = &g->arrivals[g->arrivals_count++];
    *a = (struct arrival){.kind = kind, .memory = malloc(frame.size + 1)};
    ENSURE(a->memory != NULL);
    if (frame.size > 0)
        memcpy(a->memory, frame.data, frame.size);
    a->frame = bytes_of(a->memory, frame.size);
    wake(g);
    return a;
}

void gateway_asked(struct gateway *g, uint64_t source, struct bytes frame)
{
    if (g->coordinator != NULL)
        arrival_add(g, ARRIVAL_ASKED, frame)->source = source;
}

void gateway_answered(struct gateway *g, uint32_t socket, struct bytes frame)
{
    if (g->coordinator != NULL)
        arrival_add(g, ARRIVAL_ANSWERED, frame)->socket = socket;
}

void gateway_connected(struct gateway *g, uint32_t socket, bool connected)
{
    if (g->coordinator == NULL)
        return;
    struct arrival *a = arrival_add(g, ARRIVAL_CONNECTED, BYTES_EMPTY);
    a->socket = socket;
    a->connected = connected;
}

/* The coordinator's number for a socket; NO_SOCKET when it was closed meanwhile. */
static uint32_t node_of(const struct gateway *g, uint32_t socket)
{
    for (uint32_t i = 0; i < NODES_KNOWN_MAX; i++)
        if (g->sockets[i] == socket)
            return i;
    return NO_SOCKET;
}

static void take(struct gateway *g, uint64_t now, const struct arrival *a)
{
    uint32_t node = node_of(g, a->socket);
    switch (a->kind) {
    case ARRIVAL_ASKED:
        coordinator_client_message(g->coordinator, now, a->source, false, a->frame, &g->effects);
        return;
    case ARRIVAL_GONE:
        coordinator_client_gone(g->coordinator, a->source);
        return;
    case ARRIVAL_ANSWERED:
        if (node != NO_SOCKET)
            coordinator_node_message(g->coordinator, now, node, a->frame, &g->effects);
        return;
    case ARRIVAL_CONNECTED:
        if (node != NO_SOCKET)
            coordinator_node_connected(g->coordinator, now, node, a->connected, &g->effects);
        return;
    }
}

/* Effects. */

static uint32_t endpoint_of(const char *address)
{
    unsigned node;
    ENSURE(sscanf(address, "tcp://n%u:7500", &node) == 1 && node < WORLD_NODES_MAX);
    return ENDPOINT_NODE(node);
}

static void connect_node(struct gateway *g, const struct effect *e)
{
    ENSURE(e->node < NODES_KNOWN_MAX);
    if (g->sockets[e->node] != NO_SOCKET)
        network_hang_up(g->world->network, g->sockets[e->node]);
    g->endpoints[e->node] = endpoint_of(e->address);
    g->sockets[e->node] = network_dial(g->world->network, ENDPOINT_ROUTER(g->index),
                                       g->endpoints[e->node], NETWORK_ROUTER);
}

static void carry_out(struct gateway *g, uint64_t now)
{
    for (size_t i = 0; i < g->effects.count; i++) {
        const struct effect e = g->effects.items[i];
        struct bytes frame = buffer_view(&e.frame);
        switch (e.kind) {
        case EFFECT_SEND_CLIENT:
            if (network_answer(g->world->network, e.source, frame) != STATUS_OK)
                arrival_add(g, ARRIVAL_GONE, BYTES_EMPTY)->source = e.source;
            break;
        case EFFECT_SEND_NODE:
            ENSURE(e.node < NODES_KNOWN_MAX && g->sockets[e.node] != NO_SOCKET);
            if (network_ask(g->world->network, g->sockets[e.node], frame) != STATUS_OK)
                gateway_connected(g, g->sockets[e.node], false);
            break;
        case EFFECT_CONNECT_NODE:
        case EFFECT_RESET_NODE:
            connect_node(g, &e);
            break;
        case EFFECT_NOTE:
            break;
        }
    }
    (void)now;
    effects_clear(&g->effects);
    if (g->world->starved) { /* what a loop would have kept is asked for again */
        effects_fini(&g->effects);
        effects_init(&g->effects);
    }
}

static void on_timer(void *arg, uint64_t life, uint64_t at_us)
{
    struct gateway *g = arg;
    if (g->life != life || g->timer_us != at_us)
        return;
    g->timer_us = 0;
    wake(g);
}

static void set_timer(struct gateway *g, uint64_t now)
{
    uint64_t due = coordinator_deadline(g->coordinator);
    if (due == UINT64_MAX)
        return;
    uint64_t delay_us = due <= now ? 100 : (due - now) * 1000;
    uint64_t at_us = g->world->queue.now_us + delay_us;
    if (g->timer_us != 0 && g->timer_us <= at_us)
        return;
    g->timer_us = at_us;
    queue_add(&g->world->queue, delay_us, on_timer, g, g->life, at_us);
}

static void turn(void *arg, uint64_t life, uint64_t unused)
{
    struct gateway *g = arg;
    (void)unused;
    if (g->life != life)
        return;
    uint64_t now_us = g->world->queue.now_us;
    if (g->paused_until_us > now_us) {
        queue_add(&g->world->queue, g->paused_until_us - now_us, turn, g, life, 0);
        return;
    }
    g->turn_due = false;
    uint64_t now = now_ms(g);
    memory_work();
    for (size_t i = 0; i < g->arrivals_count; i++)
        take(g, now, &g->arrivals[i]);
    if (coordinator_deadline(g->coordinator) <= now)
        coordinator_tick(g->coordinator, now, &g->effects);
    coordinator_flush(g->coordinator, now, &g->effects);
    memory_rest();
    arrivals_clear(g);
    carry_out(g, now);
    if (gateway_slots_used(g) > g->world->knobs.slots) /* I19 */
        world_fail(g->world, "I19", "router %u has %" PRIu64 " operations in flight", g->index,
                   gateway_slots_used(g));
    set_timer(g, now);
}
