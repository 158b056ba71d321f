#include <inttypes.h>
#include <stdio.h>

#include "tests/sim/world.h"

/* What a calm cluster looks like. */
void knobs_calm(struct knobs *k)
{
    *k = (struct knobs){
        .nodes = 3,
        .routers = 2,
        .clients = 4,
        .partitions = 4,
        .copies = 2,
        .pending_max = 1024,
        .waiters_max = 4096,
        .pending_bytes_max = 16u << 20,
        .kept_bytes_max = 16u << 20,
        .ask_primary_ms = 20,
        .lease_replica_ms = 700,
        .commit_note_ms = 1000,
        .segment_size = 64u << 10,
        .retention_size = 256u << 10,
        .overlay_entries_min = 1000,
        .overlay_bytes_max = 1u << 20,
        .sync_min_us = 100,
        .sync_max_us = 800,
        .turn_max_us = 100,
        .slots = 1024,
        .silence_ms = 100,
        .attempt_ms = 1000,
        .operations = 400,
        .window = 64,
        .pipeline = 4,
        .keys = 8,
        .reads_per_mille = 400,
        .deletes_per_mille = 100,
        .increments_per_mille = 300,
        .parts_per_mille = 200,
        .expiries_per_mille = 200,
        .conditions_per_mille = 250,
        .outcome_per_mille = 500,
        .think_max_us = 20000,
        .deadline_min_ms = 500,
        .deadline_max_ms = 3000,
        .value_size_max = 100,
        .clock_wrong_ppm = CLOCK_WRONG_PPM,
        .key_operations = 60,
        .down_max_ms = 1000,
        .block_max_ms = 2000,
        .pause_max_ms = 2000,
        .power_per_mille = 500,
    };
    for (int i = 0; i < NETWORK_CLASSES; i++)
        k->weather[i] = (struct network_weather){.delay_min_us = 50, .delay_max_us = 400};
}

static uint64_t maybe(struct random *r, uint32_t per_mille, uint64_t first, uint64_t last)
{
    return random_chance(r, per_mille) ? random_range(r, first, last) : 0;
}

static void draw_cluster(struct knobs *k, struct random *r)
{
    k->nodes = random_chance(r, 700) ? 3 : (uint32_t)random_range(r, 2, WORLD_NODES_MAX);
    k->routers = (uint32_t)random_range(r, 1, WORLD_ROUTERS_MAX);
    k->clients = (uint32_t)random_range(r, 2, 6);
    k->partitions = 1u << random_below(r, 4);
    k->copies = random_chance(r, 900) ? 2 : (uint32_t)random_range(r, 1, 3);
    if (k->copies > k->nodes)
        k->copies = k->nodes;
}

static void draw_sizes(struct knobs *k, struct random *r)
{
    if (random_chance(r, 300))
        k->pending_max = (uint32_t)random_range(r, 1, 16);
    if (random_chance(r, 150))
        k->waiters_max = (uint32_t)random_range(r, 4, 64);
    if (random_chance(r, 150))
        k->pending_bytes_max = random_range(r, 1, 20) * 1024;
    if (random_chance(r, 500))
        k->segment_size = random_range(r, 16, 64) * 512;
    if (random_chance(r, 400))
        k->retention_size = random_range(r, 0, 4) * k->segment_size;
    if (random_chance(r, 600))
        k->overlay_entries_min = random_range(r, 1, 60);
    k->cold_reads = random_chance(r, 400);
    k->commit_note_ms = random_chance(r, 500) ? 1000 : random_range(r, 20, 300);
    if (random_chance(r, 300))
        k->ask_primary_ms = random_range(r, 1, 200);
    k->sync_max_us = random_chance(r, 700) ? 800 : random_range(r, 1000, 40000);
    k->turn_max_us = random_chance(r, 700) ? 100 : random_range(r, 0, 3000);
    if (random_chance(r, 150))
        k->slots = (uint32_t)random_range(r, 16, 64);
    k->silence_ms = random_chance(r, 600) ? 100 : random_range(r, 20, 400);
    k->attempt_ms = random_chance(r, 600) ? 1000 : random_range(r, 60, 2000);
    k->value_size_max = random_chance(r, 800) ? (uint32_t)random_range(r, 0, 300)
                                              : (uint32_t)random_range(r, 300, 6000);
}

static void draw_workload(struct knobs *k, struct random *r)
{
    k->operations = (uint32_t)random_range(r, 150, 600);
    k->window = random_chance(r, 150) ? 1 : (uint32_t)random_range(r, 2, 64);
    k->pipeline = (uint32_t)random_spread(r, 1, 16);
    k->keys = (uint32_t)random_spread(r, 1, 24);
    k->key_operations = (uint32_t)random_range(r, 15, 90);
    k->reads_per_mille = (uint32_t)random_range(r, 100, 700);
    k->deletes_per_mille = (uint32_t)random_spread(r, 0, 400);
    k->increments_per_mille = random_chance(r, 300) ? 0 : (uint32_t)random_range(r, 0, 1000);
    k->conditions_per_mille = (uint32_t)random_spread(r, 0, 800);
    k->expiries_per_mille = random_chance(r, 500) ? 0 : (uint32_t)random_range(r, 0, 800);
    k->parts_per_mille = random_chance(r, 400) ? 0 : (uint32_t)random_range(r, 0, 800);
    k->outcome_per_mille = (uint32_t)random_range(r, 0, 1000);
    /* So that the work takes between one and twelve seconds. */
    k->think_max_us = random_range(r, 1000, 12000) * 8000 * k->clients / k->operations;
    k->deadline_min_ms = random_range(r, 50, 2000);
    k->deadline_max_ms = k->deadline_min_ms + random_range(r, 0, 4000);
}

static void draw_weather(struct knobs *k, struct random *r)
{
    for (int i = 0; i < NETWORK_CLASSES; i++) {
        struct network_weather *w = &k->weather[i];
        w->delay_max_us = random_chance(r, 600) ? 400 : random_spread(r, 500, 80000);
        /* A client's session counts on whole connections; so does a router where W8 is watched. */
        w->datagrams = (i == NETWORK_NODE && random_chance(r, 500)) ||
                       (i == NETWORK_ROUTER && random_chance(r, 200));
        w->loss_per_mille = (uint32_t)maybe(r, 500, 1, random_chance(r, 300) ? 300 : 30);
        w->double_per_mille = (uint32_t)maybe(r, 500, 1, 200);
        w->late_per_mille = (uint32_t)maybe(r, 500, 1, 100);
        w->late_max_us = random_spread(r, 1000, 8000000);
    }
}

static void draw_troubles(struct knobs *k, struct random *r)
{
    k->crash_node_ms = maybe(r, 600, 150, 3000);
    k->crash_router_ms = maybe(r, 300, 150, 3000);
    k->crash_all_ms = maybe(r, 200, 1000, 5000);
    k->pause_ms = maybe(r, 350, 150, 3000);
    k->block_ms = maybe(r, 450, 150, 3000);
    k->reset_ms = maybe(r, 450, 50, 2000);
    k->stall_ms = maybe(r, 250, 150, 3000);
    k->disk_error_ms = maybe(r, 250, 150, 2000);
    k->disk_full_ms = maybe(r, 200, 300, 3000);
    k->checkpoint_ms = maybe(r, 600, 50, 2000);
    k->clock_ms = maybe(r, 200, 200, 3000);
    k->leap_ms = maybe(r, 120, 500, 4000);
    k->down_max_ms = (uint32_t)random_spread(r, 20, 4000);
    k->block_max_ms = (uint32_t)random_spread(r, 50, 6000);
    k->pause_max_ms = (uint32_t)random_spread(r, 20, 6000);
    k->power_per_mille = (uint32_t)random_below(r, 1001);
    k->checkpoint_crash_per_mille = (uint32_t)maybe(r, 300, 1, 200);
    k->other_disk_ms = maybe(r, 100, 1000, 6000);
    k->voters_ms = maybe(r, 250, 100, 3000);
}

void knobs_draw(struct knobs *k, struct random *r)
{
    knobs_calm(k);
    draw_cluster(k, r);
    draw_sizes(k, r);
    draw_workload(k, r);
    draw_weather(k, r);
    draw_troubles(k, r);
    k->ranges_per_mille = random_chance(r, 400) ? 0 : (uint32_t)random_range(r, 0, 400);
    k->batches_per_mille = random_chance(r, 400) ? 0 : (uint32_t)random_range(r, 0, 500);
    k->confirm_per_mille = (uint32_t)maybe(r, 600, 1, 600);
    k->any_per_mille = (uint32_t)maybe(r, 500, 1, 400);
    if (random_chance(r, 100)) {
        k->clock_wrong_ppm = 400000;
        k->confirm_per_mille = (uint32_t)random_range(r, 500, 1000);
    }
}

static void print_weather(const char *name, const struct network_weather *w)
{
    printf("  %-8s delay %" PRIu64 "-%" PRIu64
           " us%s loss %u double %u late %u (of 1000, up to %" PRIu64 " ms)\n",
           name, w->delay_min_us, w->delay_max_us,
           w->datagrams ? " datagrams:" : " connections; if datagrams:", w->loss_per_mille,
           w->double_per_mille, w->late_per_mille, w->late_max_us / 1000);
}

void knobs_print(const struct knobs *k)
{
    printf("  nodes %u routers %u clients %u partitions %u copies %u\n", k->nodes, k->routers,
           k->clients, k->partitions, k->copies);
    printf("  pending %u (%" PRIu64 " bytes) waiters %u slots %u segment %" PRIu64
           " retention %" PRIu64 " overlay %" PRIu64 "%s sync %" PRIu64 "-%" PRIu64 " us\n",
           k->pending_max, k->pending_bytes_max, k->waiters_max, k->slots, k->segment_size,
           k->retention_size, k->overlay_entries_min, k->cold_reads ? " cold reads" : "",
           k->sync_min_us, k->sync_max_us);
    printf("  operations %u window %u pipeline %u keys %u deadlines %" PRIu64 "-%" PRIu64
           " ms value %u silence %" PRIu64 " ms attempt %" PRIu64 " ms\n",
           k->operations, k->window, k->pipeline, k->keys, k->deadline_min_ms, k->deadline_max_ms,
           k->value_size_max, k->silence_ms, k->attempt_ms);
    printf("  every (ms): crash %" PRIu64 " of routers %" PRIu64 " of all %" PRIu64
           " pause %" PRIu64 " cut %" PRIu64 " reset %" PRIu64 " stall %" PRIu64
           " disk error %" PRIu64 " full %" PRIu64 " checkpoint %" PRIu64 " clock %" PRIu64
           " leap %" PRIu64 " other disk %" PRIu64 " voters %" PRIu64 "\n",
           k->crash_node_ms, k->crash_router_ms, k->crash_all_ms, k->pause_ms, k->block_ms,
           k->reset_ms, k->stall_ms, k->disk_error_ms, k->disk_full_ms, k->checkpoint_ms,
           k->clock_ms, k->leap_ms, k->other_disk_ms, k->voters_ms);
    printf("  reads (of 1000): confirm %u any %u; clocks wrong by up to %u ppm\n",
           k->confirm_per_mille, k->any_per_mille, k->clock_wrong_ppm);
    print_weather("clients", &k->weather[NETWORK_CLIENT]);
    print_weather("routers", &k->weather[NETWORK_ROUTER]);
    print_weather("nodes", &k->weather[NETWORK_NODE]);
}
