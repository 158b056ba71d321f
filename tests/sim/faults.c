#include "tests/sim/faults.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "tests/lib/disk_sim.h"
#include "tests/sim/gateway.h"
#include "tests/sim/machine.h"
#include "tests/sim/world.h"

#define RETRY_BOOT_US 250000u

typedef void trouble_fn(struct faults *f);

struct trouble {
    trouble_fn *fn;
    uint64_t interval_ms;
};

#define TROUBLES_MAX 16

struct faults {
    struct world *world;
    struct random random;
    struct trouble troubles[TROUBLES_MAX];
    uint32_t count;
    bool disk_taken; /* a node runs on a disk that is not its own */
};

static struct machine *any_machine(struct faults *f)
{
    return f->world->machines[random_below(&f->random, f->world->knobs.nodes)];
}

static uint32_t any_endpoint(struct faults *f)
{
    const struct knobs *k = &f->world->knobs;
    uint64_t i = random_below(&f->random, k->nodes + k->routers);
    return (uint32_t)(i < k->nodes ? ENDPOINT_NODE(i) : ENDPOINT_ROUTER(i - k->nodes));
}

/* ---------------------------------------------------------------- processes */

static void boot_machine(void *arg, uint64_t index, uint64_t unused)
{
    struct faults *f = arg;
    struct machine *m = f->world->machines[index];
    (void)unused;
    if (machine_alive(m) || f->world->failed)
        return;
    if (!machine_boot(m))
        queue_add(&f->world->queue, RETRY_BOOT_US, boot_machine, f, index, 0);
}

static void boot_gateway(void *arg, uint64_t index, uint64_t unused)
{
    struct faults *f = arg;
    (void)unused;
    if (!gateway_alive(f->world->gateways[index]))
        gateway_boot(f->world->gateways[index]);
}

static uint64_t down_us(struct faults *f)
{
    return random_spread(&f->random, 1000, (uint64_t)f->world->knobs.down_max_ms * 1000 + 1000);
}

static void crash_machine(struct faults *f, uint32_t index)
{
    struct machine *m = f->world->machines[index];
    bool power = random_chance(&f->random, f->world->knobs.power_per_mille);
    if (power && random_chance(&f->random, 300)) {
        machine_end_writing(m); /* supervise() starts it again */
        return;
    }
    bool stop = random_chance(&f->random, 300);
    machine_end(m, power ? MACHINE_POWER : stop ? MACHINE_STOP : MACHINE_KILL);
    queue_add(&f->world->queue, down_us(f), boot_machine, f, index, 0);
}

static void crash_node(struct faults *f)
{
    crash_machine(f, (uint32_t)random_below(&f->random, f->world->knobs.nodes));
}

static void crash_all(struct faults *f)
{
    world_say(f->world, "--  everything goes down");
    for (uint32_t i = 0; i < f->world->knobs.nodes; i++)
        crash_machine(f, i);
}

static void crash_router(struct faults *f)
{
    uint64_t index = random_below(&f->random, f->world->knobs.routers);
    gateway_end(f->world->gateways[index]);
    queue_add(&f->world->queue, down_us(f), boot_gateway, f, index, 0);
}

static void pause_something(struct faults *f)
{
    const struct knobs *k = &f->world->knobs;
    uint64_t ms = random_spread(&f->random, 1, k->pause_max_ms);
    uint64_t i = random_below(&f->random, k->nodes + k->routers);
    world_say(f->world, "--  %s%llu stands still for %llu ms", i < k->nodes ? "n" : "r",
              (unsigned long long)(i < k->nodes ? i : i - k->nodes), (unsigned long long)ms);
    if (i < k->nodes)
        machine_pause(f->world->machines[i], ms);
    else
        gateway_pause(f->world->gateways[i - k->nodes], ms);
}

/* A process that ended by itself (a disk error) is started again by its supervisor. */
static void supervise(struct faults *f)
{
    for (uint32_t i = 0; i < f->world->knobs.nodes; i++)
        boot_machine(f, i, 0);
}

/* ---------------------------------------------------------------- network */

static void unblock(void *arg, uint64_t from, uint64_t to)
{
    struct faults *f = arg;
    network_block(f->world->network, (uint32_t)from, (uint32_t)to, false);
}

static void block_path(struct faults *f, uint32_t a, uint32_t b, uint64_t us)
{
    world_say(f->world, "--  %u > %u cut for %llu ms", a, b, (unsigned long long)us / 1000);
    network_block(f->world->network, a, b, true);
    queue_add(&f->world->queue, us, unblock, f, a, b);
}

static void block_something(struct faults *f)
{
    uint32_t a = any_endpoint(f), b = any_endpoint(f);
    uint64_t us = random_spread(&f->random, 1000, (uint64_t)f->world->knobs.block_max_ms * 1000);
    if (a == b)
        return;
    block_path(f, a, b, us);
    if (random_chance(&f->random, 500))
        block_path(f, b, a, us);
    /* Sometimes a is cut off from everybody. */
    for (uint32_t other = 0; other < NETWORK_ENDPOINTS_MAX && random_chance(&f->random, 950);
         other++)
        if (other != a && other != b && random_chance(&f->random, 300))
            block_path(f, a, other, us);
}

static void reset_something(struct faults *f)
{
    if (random_chance(&f->random, 700))
        network_reset_some(f->world->network);
    else
        network_reset_between(f->world->network, any_endpoint(f), any_endpoint(f));
}

/* ---------------------------------------------------------------- disks and clocks */

static void stall_disk(struct faults *f)
{
    machine_stall(any_machine(f), random_spread(&f->random, 1, 3000));
}

static void fail_disk(struct faults *f)
{
    struct disk_sim_faults *faults = machine_faults(any_machine(f));
    uint32_t after = (uint32_t)random_range(&f->random, 1, 20);
    switch (random_below(&f->random, 5)) {
    case 0:
        faults->write_eio = after;
        return;
    case 1:
        faults->sync_eio = after;
        return;
    case 2:
        faults->any_eio = after;
        return;
    case 3:
        faults->write_full = after;
        return;
    default:
        faults->directory_sync_eio = 1;
        return;
    }
}

static void free_disk(void *arg, uint64_t index, uint64_t unused)
{
    struct faults *f = arg;
    (void)unused;
    machine_limit_disk(f->world->machines[index], false);
}

static void fill_disk(struct faults *f)
{
    uint64_t index = random_below(&f->random, f->world->knobs.nodes);
    world_say(f->world, "--  the disk of n%llu is nearly full", (unsigned long long)index);
    machine_limit_disk(f->world->machines[index], true);
    queue_add(&f->world->queue, random_spread(&f->random, 100000, 5000000), free_disk, f, index, 0);
}

static void checkpoint(struct faults *f)
{
    machine_checkpoint(any_machine(f));
}

/* Wall clocks are wrong, and are set right or wrong. */
static void set_clock(struct faults *f)
{
    machine_set_clock(any_machine(f), (int64_t)random_range(&f->random, 0, 4000) - 2000);
}

/* Time goes by, as far as completion records are concerned. */
static void leap(struct faults *f)
{
    int64_t hours_ms = (int64_t)random_range(&f->random, 1, 3) * 3600 * 1000;
    world_say(f->world, "--  the wall clocks leap ahead");
    f->world->reached[REACH_leaps]++;
    for (uint32_t i = 0; i < f->world->knobs.nodes; i++)
        machine_set_clock(f->world->machines[i], hours_ms);
}

static void give_disk_back(struct faults *f, uint32_t index)
{
    struct machine *m = f->world->machines[index];
    machine_end(m, MACHINE_POWER);
    machine_put_own_disk(m);
    f->disk_taken = false;
}

static void disk_is_back(void *arg, uint64_t index, uint64_t unused)
{
    struct faults *f = arg;
    (void)unused;
    if (f->world->calm)
        return;
    give_disk_back(f, (uint32_t)index);
    boot_machine(f, index, 0);
}

/* An empty disk in the place of a node's own, for a while (rule U7). One at a time: two of three
 * voters without memory would take each other for the first. */
static void take_disk(struct faults *f)
{
    uint32_t index = (uint32_t)random_below(&f->random, f->world->knobs.nodes);
    struct machine *m = f->world->machines[index];
    /* While nobody has met its own disk, another one may be the first as well; and a node that dies
     * before it has heard of the disk would take the strange one for that. */
    if (f->disk_taken || f->world->starved || !machine_disk_recorded(f->world, index))
        return;
    f->disk_taken = true;
    machine_end(m, random_chance(&f->random, 500) ? MACHINE_KILL : MACHINE_POWER);
    machine_put_disk(m, MACHINE_EMPTY);
    boot_machine(f, index, 0);
    queue_add(&f->world->queue, random_spread(&f->random, 20000, 6000000), disk_is_back, f, index,
              0);
}

/* ---------------------------------------------------------------- voters */

/* As `duet admin voters` asks: one or three of the nodes are to vote. Who was asked may be dead, or
 * refuse, and the change may stop half way, until those are back that it needs. */
static void change_voters(struct faults *f)
{
    const struct knobs *k = &f->world->knobs;
    uint32_t nodes[WORLD_NODES_MAX];
    for (uint32_t i = 0; i < k->nodes; i++) {
        uint32_t at = (uint32_t)random_below(&f->random, i + 1);
        nodes[i] = nodes[at];
        nodes[at] = i;
    }
    uint32_t count = k->nodes >= 3 && random_chance(&f->random, 700) ? 3 : 1;
    struct buffer frame;
    buffer_init(&frame, 256);
    ENSURE(codec_pack_voters(&(struct voters_message){count, nodes}, &frame) == STATUS_OK);
    world_say(f->world, "--  %u are to vote: n%u ...", count, nodes[0]);
    machine_asked(any_machine(f), NETWORK_NOBODY, NETWORK_ROUTER, buffer_view(&frame));
    buffer_fini(&frame);
}

/* ---------------------------------------------------------------- the plan */

static void strike(void *arg, uint64_t index, uint64_t unused);

static void plan(struct faults *f, uint64_t index)
{
    uint64_t interval_us = f->troubles[index].interval_ms * 1000;
    queue_add(&f->world->queue, random_range(&f->random, 1, 2 * interval_us), strike, f, index, 0);
}

static void strike(void *arg, uint64_t index, uint64_t unused)
{
    struct faults *f = arg;
    (void)unused;
    if (f->world->calm)
        return;
    f->troubles[index].fn(f);
    plan(f, index);
}

static void add(struct faults *f, trouble_fn *fn, uint64_t interval_ms)
{
    if (interval_ms == 0)
        return;
    ENSURE(f->count < TROUBLES_MAX);
    f->troubles[f->count++] = (struct trouble){fn, interval_ms};
}

struct faults *faults_new(struct world *w)
{
    struct faults *f = calloc(1, sizeof *f);
    const struct knobs *k = &w->knobs;
    ENSURE(f != NULL);
    f->world = w;
    random_init(&f->random, w->seed * 5000011);
    add(f, crash_node, k->crash_node_ms);
    add(f, crash_all, k->crash_all_ms);
    add(f, crash_router, k->crash_router_ms);
    add(f, pause_something, k->pause_ms);
    add(f, block_something, k->block_ms);
    add(f, reset_something, k->reset_ms);
    add(f, stall_disk, k->stall_ms);
    add(f, fail_disk, k->disk_error_ms);
    add(f, fill_disk, k->disk_full_ms);
    add(f, checkpoint, k->checkpoint_ms);
    add(f, set_clock, k->clock_ms);
    add(f, leap, k->leap_ms);
    add(f, take_disk, k->other_disk_ms);
    add(f, change_voters, k->voters_ms);
    add(f, supervise, 500);
    return f;
}

void faults_destroy(struct faults **f_p)
{
    free(*f_p);
    *f_p = NULL;
}

void faults_start(struct faults *f)
{
    for (uint32_t i = 0; i < f->count; i++)
        plan(f, i);
}

void faults_calm(struct faults *f)
{
    struct world *w = f->world;
    w->calm = true;
    network_heal(w->network);
    for (uint32_t i = 0; i < w->knobs.nodes; i++) {
        if (machine_has_other_disk(w->machines[i]))
            give_disk_back(f, i);
        machine_calm(w->machines[i]);
        boot_machine(f, i, 0);
    }
    for (uint32_t i = 0; i < w->knobs.routers; i++) {
        gateway_calm(w->gateways[i]);
        boot_gateway(f, i, 0);
    }
}
