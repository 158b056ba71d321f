#include "router/coordinator.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "router/answers.h"
#include "router/dispatch.h"
#include "router/intake.h"
#include "router/peers.h"
#include "router/report.h"

const struct coordinator_options coordinator_defaults = {
    .slots = ROUTER_SLOTS_DEFAULT,
    .bytes_max = UINT64_C(256) << 20,
    .value_size_max = VALUE_SIZE_MAX_DEFAULT,
    .deadline_ms = 5000,
    .deadline_max_ms = 60000,
    .silence_ms = 100,
    .ping_ms = 50,
    .idle_ping_ms = 1000,
    .attempt_ms = 500,
    .pause_min_ms = 5,
    .pause_max_ms = 200,
};

/* ---- Life ------------------------------------------------------------------------------------*/

static void check_options(const struct coordinator_options *o)
{
    ENSURE(o->boot_id != 0);
    ENSURE(o->slots > 0 && o->slots < OPERATION_NONE - COORDINATOR_NODES_MAX);
    ENSURE(o->seeds_count > 0 && o->seeds_count <= COORDINATOR_SEEDS_MAX);
    ENSURE(o->deadline_ms > 0 && o->deadline_ms <= o->deadline_max_ms);
    ENSURE(o->silence_ms > 0 && o->ping_ms > 0 && o->idle_ping_ms > 0 && o->attempt_ms > 0);
    ENSURE(o->pause_min_ms > 0 && o->pause_min_ms <= o->pause_max_ms);
    ENSURE(o->value_size_max <= VALUE_SIZE_MAX);
}

static bool new_batch(struct batch *b)
{
    const size_t n = MESSAGE_OPERATIONS_MAX;
    b->tokens = calloc(n, sizeof *b->tokens);
    b->kinds = calloc(n, sizeof *b->kinds);
    b->digests = calloc(n, sizeof *b->digests);
    b->epochs = calloc(n, sizeof *b->epochs);
    b->client_ids = calloc(n, sizeof *b->client_ids);
    b->seqs = calloc(n, sizeof *b->seqs);
    b->ack_belows = calloc(n, sizeof *b->ack_belows);
    b->ptime_tokens = calloc(n, sizeof *b->ptime_tokens);
    b->deadlines_ms = calloc(n, sizeof *b->deadlines_ms);
    b->keys = calloc(n, sizeof *b->keys);
    b->operations = calloc(n, sizeof *b->operations);
    return b->tokens != NULL && b->kinds != NULL && b->digests != NULL && b->epochs != NULL &&
           b->client_ids != NULL && b->seqs != NULL && b->ack_belows != NULL &&
           b->ptime_tokens != NULL && b->deadlines_ms != NULL && b->keys != NULL &&
           b->operations != NULL;
}

static void free_batch(struct batch *b)
{
    free(b->tokens);
    free(b->kinds);
    free(b->digests);
    free(b->epochs);
    free(b->client_ids);
    free(b->seqs);
    free(b->ack_belows);
    free(b->ptime_tokens);
    free(b->deadlines_ms);
    free(b->keys);
    free(b->operations);
}

static bool new_answer(struct answer *a)
{
    const size_t n = MESSAGE_OPERATIONS_MAX;
    a->ids = calloc(n, sizeof *a->ids);
    a->statuses = calloc(n, sizeof *a->statuses);
    a->flags = calloc(n, sizeof *a->flags);
    a->epochs = calloc(n, sizeof *a->epochs);
    a->seqs = calloc(n, sizeof *a->seqs);
    a->values = calloc(n, sizeof *a->values);
    return a->ids != NULL && a->statuses != NULL && a->flags != NULL && a->epochs != NULL &&
           a->seqs != NULL && a->values != NULL;
}

static void free_answer(struct answer *a)
{
    free(a->ids);
    free(a->statuses);
    free(a->flags);
    free(a->epochs);
    free(a->seqs);
    free(a->values);
}

static bool new_slots(struct coordinator *c)
{
    uint32_t count = c->options.slots;
    c->slots = calloc(count, sizeof *c->slots);
    if (c->slots == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        c->slots[i].next = i + 1 < count ? i + 1 : OPERATION_NONE;
        c->slots[i].lane = LANE_NONE;
    }
    c->free = 0;
    c->free_count = count;
    operation_list_init(&c->waiting);
    return lanes_init(&c->lanes, c->slots, count, c->options.boot_id) &&
           askers_init(&c->askers, count, c->options.boot_id) &&
           wheel_init(&c->wheel, count + COORDINATOR_NODES_MAX);
}

static bool new_peers(struct coordinator *c)
{
    for (uint32_t i = 0; i < NODES_MAX; i++)
        c->peer_of[i] = NODE_NONE;
    c->map = clustermap_new();
    c->peers = calloc(COORDINATOR_NODES_MAX, sizeof *c->peers);
    if (c->map == NULL || c->peers == NULL)
        return false;
    /* Only the addresses; peers_add() asks for the connections when time begins. */
    for (uint32_t i = 0; i < c->options.seeds_count; i++) {
        snprintf(c->peers[i].address, sizeof c->peers[i].address, "%s", c->options.seeds[i]);
        c->options.seeds[i] = NULL; /* the caller's */
    }
    return true;
}

struct coordinator *coordinator_new(const struct coordinator_options *options)
{
    check_options(options);
    struct coordinator *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->options = *options;
    snprintf(c->name, sizeof c->name, "%s", options->name != NULL ? options->name : "");
    c->options.name = c->name;
    c->health_limits = (struct health_limits){.silence_ms = options->silence_ms,
                                              .ping_ms = options->ping_ms,
                                              .idle_ping_ms = options->idle_ping_ms};
    arena_init(&c->scratch);
    for (size_t i = 0; i < CORE_RESULTS_MAX; i++)
        arena_init(&c->results[i]);
    c->batch.router_boot = options->boot_id;
    if (!new_slots(c) || !new_peers(c) || !new_batch(&c->batch) || !new_answer(&c->answer))
        coordinator_destroy(&c);
    return c;
}

/* What is in flight holds memory of its own. */
static void free_slots(struct coordinator *c)
{
    for (uint32_t i = 0; c->slots != NULL && i < c->options.slots; i++) {
        struct operation *op = &c->slots[i];
        if (op->state == OPERATION_FREE)
            continue;
        free(op->owned);
        if (--op->parcel->operations_count == 0)
            free(op->parcel);
    }
    free(c->slots);
}

void coordinator_destroy(struct coordinator **c_p)
{
    struct coordinator *c = *c_p;
    if (c == NULL)
        return;
    free_slots(c);
    lanes_fini(&c->lanes);
    askers_fini(&c->askers);
    wheel_fini(&c->wheel);
    clustermap_destroy(&c->map);
    free(c->peers);
    free_batch(&c->batch);
    free_answer(&c->answer);
    arena_fini(&c->scratch);
    for (size_t i = 0; i < CORE_RESULTS_MAX; i++)
        arena_fini(&c->results[i]);
    free(c);
    *c_p = NULL;
}

/* ---- Doors -----------------------------------------------------------------------------------*/

static void start(struct coordinator *c)
{
    c->started = true;
    /* Nothing is in the wheel yet: this only tells it the time. */
    uint32_t popped = wheel_pop(&c->wheel, c->now_ms);
    ENSURE(popped == WHEEL_NONE);
    for (uint32_t i = 0; i < c->options.seeds_count; i++) {
        char address[ADDRESS_SIZE_MAX];
        memcpy(address, c->peers[i].address, sizeof address);
        peers_add(c, address);
    }
}

static void enter(struct coordinator *c, uint64_t now_ms, struct effects *effects)
{
    ENSURE(now_ms >= c->now_ms);
    c->now_ms = now_ms;
    c->out = effects;
    if (!c->started)
        start(c);
}

void coordinator_client_message(struct coordinator *c, uint64_t now_ms, uint64_t source,
                                bool delimiter, struct bytes frame, struct effects *effects)
{
    enter(c, now_ms, effects);
    intake_message(c, source, delimiter, frame);
}

void coordinator_client_gone(struct coordinator *c, uint64_t source)
{
    if (askers_gone(&c->askers, source))
        c->counters.client_gone++;
}

void coordinator_client_slow(struct coordinator *c, uint64_t source)
{
    (void)source;
    c->counters.client_slow++;
}

void coordinator_node_message(struct coordinator *c, uint64_t now_ms, uint32_t node,
                              struct bytes frame, struct effects *effects)
{
    enter(c, now_ms, effects);
    peers_message(c, node, frame);
}

void coordinator_node_connected(struct coordinator *c, uint64_t now_ms, uint32_t node,
                                bool connected, struct effects *effects)
{
    enter(c, now_ms, effects);
    peers_connected(c, node, connected);
}

void coordinator_tick(struct coordinator *c, uint64_t now_ms, struct effects *effects)
{
    enter(c, now_ms, effects);
    for (;;) {
        uint32_t timer = wheel_pop(&c->wheel, now_ms);
        if (timer == WHEEL_NONE)
            return;
        if (timer < c->options.slots)
            dispatch_timer(c, timer);
        else
            peers_timer(c, timer - c->options.slots, wheel_due(&c->wheel, timer));
    }
}

uint64_t coordinator_deadline(const struct coordinator *c)
{
    return c->started ? wheel_next(&c->wheel) : 0;
}

void coordinator_flush(struct coordinator *c, uint64_t now_ms, struct effects *effects)
{
    enter(c, now_ms, effects);
    peers_flush(c);
    dispatch_flush(c);
    answers_flush(c);
}

const struct coordinator_counters *coordinator_counters(const struct coordinator *c)
{
    return &c->counters;
}

const struct clustermap *coordinator_map(const struct coordinator *c)
{
    return c->map;
}

const char *coordinator_node_name(const struct coordinator *c, uint32_t node)
{
    return report_node_name(c, node);
}

bool coordinator_node_silent(const struct coordinator *c, uint32_t node)
{
    return node >= c->peers_count || !peers_usable(c, node);
}
