#include "tests/sim/scenario.h"

#include <string.h>

#include "proto/base/ensure.h"
#include "proto/clustermap.h"
#include "proto/codec.h"
#include "storage/node.h"
#include "tests/lib/disk_sim.h"
#include "tests/sim/caller.h"
#include "tests/sim/gateway.h"
#include "tests/sim/machine.h"
#include "tests/sim/watch.h"

/* ---------------------------------------------------------------- verbs */

static struct machine *primary(struct world *w)
{
    return w->machines[w->map->partitions[0].primary];
}

static struct machine *replica(struct world *w)
{
    const struct clustermap_partition *p = &w->map->partitions[0];
    return w->machines[p->isr[p->isr[0] == p->primary]];
}

/* Every client makes up so many operations, from now on. */
static void work(struct world *w, uint32_t operations)
{
    for (uint32_t i = 0; i < w->knobs.clients; i++)
        caller_work(w->callers[i], operations);
}

static void work_and_wait(struct world *w, uint32_t first, uint32_t last, uint32_t operations)
{
    for (uint32_t i = first; i <= last; i++)
        caller_work(w->callers[i], operations);
    for (uint32_t i = first; i <= last; i++)
        while (!w->failed && (!caller_finished(w->callers[i]) || caller_pending(w->callers[i]) > 0))
            world_pass(w, 10);
}

static void two_nodes(struct knobs *k)
{
    k->nodes = 2;
    k->partitions = 1;
    k->reads_per_mille = 200;
    k->think_max_us = 4000;
}

/* Whole copies that living nodes have begun. */
static uint64_t copies_begun(const struct world *w)
{
    struct node_counters c;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->knobs.nodes; i++) {
        if (machine_node(w->machines[i]) == NULL)
            continue;
        node_count(machine_node(w->machines[i]), &c);
        sum += c.snapshots;
    }
    return sum;
}

static bool somebody_else_leads(const struct world *w, const struct machine *but)
{
    struct node_replica_view v;
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        if (w->machines[i] != but && machine_node(w->machines[i]) != NULL &&
            node_replica(machine_node(w->machines[i]), 0, &v) && v.primary && v.opened)
            return true;
    return false;
}

static uint32_t leader(const struct world *w)
{
    struct node_replica_view v;
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        if (machine_node(w->machines[i]) != NULL &&
            node_replica(machine_node(w->machines[i]), 0, &v) && v.primary && v.opened)
            return i;
    return 0;
}

/* ---------------------------------------------------------------- stories */

static void run_calm(struct world *w)
{
    work_and_wait(w, 0, w->knobs.clients - 1, 100);
}

/* Trap 5. The primary loses entries that its replica has; in the new epoch, on a bad link, it comes
 * to other entries at the same places. */
static void run_lost_tail(struct world *w)
{
    struct network_weather calm = w->knobs.weather[NETWORK_NODE], bad = calm;
    bad.datagrams = true;
    bad.loss_per_mille = 300;
    bad.late_per_mille = 300;
    bad.late_max_us = 150000;
    for (int round = 0; round < 6 && !w->failed; round++) {
        work(w, 80);
        world_pass(w, 20 + random_below(&w->random, 60));
        machine_stall(primary(w), 1000);
        world_pass(w, 5 + random_below(&w->random, 60));
        machine_end(primary(w), MACHINE_POWER);
        machine_stall(primary(w), 0);
        network_set_weather(w->network, NETWORK_NODE, &bad);
        world_pass(w, 1 + random_below(&w->random, 30));
        machine_boot(primary(w));
        world_pass(w, 1000);
        network_set_weather(w->network, NETWORK_NODE, &calm);
    }
}

/* Trap 37, rule F1. The primary stands still: another takes over. */
static void knobs_hang(struct knobs *k)
{
    two_nodes(k);
    k->nodes = 3; /* a majority of the voters goes on */
    k->keys = 30;
}

static void run_hang(struct world *w)
{
    struct machine *hung = primary(w);
    work_and_wait(w, 0, w->knobs.clients - 1, 20);
    machine_pause(hung, 6000);
    world_pass(w, 2000);
    if (!somebody_else_leads(w, hung))
        world_fail(w, "F1", "the primary has stood still for two seconds, and nobody took over");
    work(w, 20);
    world_pass(w, 3000);
}

/* Trap 66, rule F1. The primary lives, and its disk stands still: another takes over. */
static void run_stalled_disk(struct world *w)
{
    for (int round = 0; round < 4 && !w->failed; round++) {
        work_and_wait(w, 0, w->knobs.clients - 1, 20);
        struct machine *slow = w->machines[leader(w)];
        machine_stall(slow, 4000);
        work(w, 20);
        world_pass(w, 2000);
        if (!w->failed && !somebody_else_leads(w, slow))
            world_fail(w, "F1", "the primary's disk has stood still, and nobody took over");
        world_pass(w, 8000);
    }
}

/* Trap 47. The primary stands still again and again: reads go to the replica, but not those that
 * come behind a write of their connection. */
static void knobs_hung_primary(struct knobs *k)
{
    two_nodes(k);
    k->reads_per_mille = 500;
    k->deletes_per_mille = k->conditions_per_mille = 0;
    k->keys = 3;
    k->pipeline = 8;
    k->think_max_us = 20000;
    k->silence_ms = 50;
    k->deadline_min_ms = 2000;
}

static void run_hung_primary(struct world *w)
{
    for (int round = 0; round < 20 && !w->failed; round++) {
        /* In the middle of a burst, or already silent, with clean keys at the replica, when it comes. */
        bool silent_first = random_chance(&w->random, 500);
        if (silent_first) {
            machine_pause(primary(w), 200 + random_below(&w->random, 150));
            world_pass(w, 40 + random_below(&w->random, 100));
        }
        work(w, 30);
        if (!silent_first) {
            world_pass(w, random_below(&w->random, 4));
            machine_pause(primary(w), 150 + random_below(&w->random, 150));
        }
        world_pass(w, 600);
    }
}

/* Trap 25. A bit of the log flips while the node is down: it says so, and serves when it is mended.
 */
static void run_damage(struct world *w)
{
    work_and_wait(w, 0, w->knobs.clients - 1, 60);
    machine_end(replica(w), MACHINE_KILL);
    machine_damage_log(replica(w));
    machine_expect_refusal(replica(w), true);
    machine_boot(replica(w));
    if (w->failed)
        return;
    machine_damage_log(replica(w));
    machine_expect_refusal(replica(w), false);
    machine_boot(replica(w));
}

static void knobs_damage(struct knobs *k)
{
    two_nodes(k);
    k->segment_size = 1u << 20;
}

/* Trap 29. Requests come again when their completion records are long gone. */
static void knobs_late(struct knobs *k)
{
    two_nodes(k);
    k->increments_per_mille = 700;
    k->conditions_per_mille = 0;
    k->checkpoint_ms = 0;
}

/* The client that was idle reads something, and knows the new time. */
static void hear_of_the_time(struct world *w)
{
    struct checker_operation get = {.read = true};
    caller_ask(w->callers[0], 0, &get, 1000, NULL);
    world_pass(w, 100);
}

static void run_late_duplicate(struct world *w)
{
    w->capturing = true;
    work_and_wait(w, 0, 0, 30);
    w->capturing = false;
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        machine_set_clock(w->machines[i], 2 * 3600 * 1000);
    work_and_wait(w, 1, w->knobs.clients - 1, 30);
    world_pass(w, 2000);
    work_and_wait(w, 1, w->knobs.clients - 1, 30);
    world_deliver_again(w);
    world_pass(w, 500);
    hear_of_the_time(w);
}

/* Trap 45, rule X2. A write in doubt is asked about when its record is long gone. */
static void knobs_late_outcome(struct knobs *k)
{
    knobs_late(k);
    k->routers = 1;
    k->outcome_per_mille = 0;
}

static void run_late_outcome(struct world *w)
{
    struct checker_operation put = {.mutation = MUTATION_PUT,
                                    .value = {.present = true, .n = 900001}};
    size_t item;
    work_and_wait(w, 0, 0, 5);
    for (uint32_t i = 0; i < 3 && !w->failed; i++) {
        network_block(w->network, ENDPOINT_ROUTER(0), ENDPOINT_CLIENT(0), true);
        put.value.n++;
        caller_ask(w->callers[0], i, &put, 100, &item);
        world_pass(w, 150);
        network_block(w->network, ENDPOINT_ROUTER(0), ENDPOINT_CLIENT(0), false);
        for (uint32_t n = 0; n < w->knobs.nodes; n++)
            machine_set_clock(w->machines[n], 2 * 3600 * 1000);
        work_and_wait(w, 1, w->knobs.clients - 1, 10);
        world_pass(w, 2000);
        work_and_wait(w, 1, w->knobs.clients - 1, 10);
        hear_of_the_time(w);
        if (w->history.items[item].op.outcome == CHECKER_IN_DOUBT)
            caller_ask_outcome(w->callers[0], item);
        world_pass(w, 500);
    }
}

/* Trap 54. Requests that were answered, and whose answers were acknowledged, come again after the
 * node has restarted from a checkpoint. */
static void run_late_after_restart(struct world *w)
{
    w->capturing = true;
    work_and_wait(w, 0, w->knobs.clients - 1, 30);
    w->capturing = false;
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        machine_checkpoint(w->machines[i]);
    world_pass(w, 1000);
    for (uint32_t i = 0; i < w->knobs.nodes; i++) {
        machine_end(w->machines[i], MACHINE_POWER);
        machine_boot(w->machines[i]);
    }
    world_pass(w, 1000);
    work_and_wait(w, 0, 0, 5);
    world_deliver_again(w);
    world_pass(w, 500);
}

/* Trap 24, rule U4. Writes and syncs fail under load, again and again. */
static void run_bad_disk(struct world *w)
{
    for (int round = 0; round < 12 && !w->failed; round++) {
        struct machine *m = w->machines[random_below(&w->random, w->knobs.nodes)];
        struct disk_sim_faults *faults = machine_faults(m);
        uint32_t after = (uint32_t)random_range(&w->random, 1, 5);
        if (random_chance(&w->random, 500))
            faults->write_eio = after;
        else
            faults->sync_eio = after;
        work(w, 10);
        world_pass(w, 400);
        *faults = (struct disk_sim_faults){0};
        for (uint32_t i = 0; i < w->knobs.nodes; i++)
            if (!machine_alive(w->machines[i]))
                machine_boot(w->machines[i]);
    }
}

/* Traps 22 and 23, rules U7 and U2. A node comes back with an empty disk, or with an old image of its
 * own, and must end by itself; then it gets its own. */
static void knobs_wrong_disk(struct knobs *k)
{
    k->partitions = 1; /* the third node is nothing but a voter */
    k->keys = 30;
    k->think_max_us = 4000;
}

static void must_end(struct world *w, struct machine *m)
{
    for (int i = 0; i < 500 && !w->failed && machine_alive(m); i++)
        world_pass(w, 10);
    if (!w->failed && machine_alive(m))
        world_fail(w, "U7", "a node still lives, five seconds after it came with another disk");
}

/* A life that the image knows nothing of, and that all others have heard of. */
static void live_again(struct world *w, struct machine *m)
{
    machine_end(m, random_chance(&w->random, 500) ? MACHINE_KILL : MACHINE_POWER);
    machine_boot(m);
    world_pass(w, 2500);
}

static void come_with(struct world *w, struct machine *m, enum machine_disk which)
{
    machine_end(m, random_chance(&w->random, 500) ? MACHINE_KILL : MACHINE_POWER);
    world_pass(w, random_below(&w->random, 1500)); /* others took over, or not yet */
    machine_put_disk(m, which);
    machine_boot(m);
    work(w, (uint32_t)random_below(&w->random, 30));
    must_end(w, m);
    if (w->failed)
        return;
    machine_put_own_disk(m);
    machine_boot(m);
    work_and_wait(w, 0, w->knobs.clients - 1, 20);
}

static void run_wrong_disk(struct world *w)
{
    for (int round = 0; round < 4 && !w->failed; round++) {
        struct machine *m = w->machines[random_below(&w->random, w->knobs.nodes)];
        enum machine_disk which = random_chance(&w->random, 500) ? MACHINE_EMPTY : MACHINE_IMAGE;
        work_and_wait(w, 0, w->knobs.clients - 1, 20);
        world_pass(w, 2000);
        if (random_chance(&w->random, 500))
            machine_checkpoint(m);
        world_pass(w, random_below(&w->random, 1000));
        if (which == MACHINE_IMAGE) {
            machine_take_image(m);
            live_again(w, m);
        }
        come_with(w, m, which);
    }
}

/* Trap 21, rule U2. The only member that is left comes back with less than the register says. */
static void run_short_log(struct world *w)
{
    struct machine *last = primary(w), *other = replica(w);
    work_and_wait(w, 0, w->knobs.clients - 1, 20);
    world_pass(w, 2000);
    machine_take_image(last);
    work_and_wait(w, 0, w->knobs.clients - 1, 20);
    world_pass(w, 100);
    machine_end(other, MACHINE_KILL);
    world_pass(w, 1500);
    machine_end(last, MACHINE_POWER);
    machine_put_disk(last, MACHINE_IMAGE);
    machine_boot(last);
    must_end(w, last);
    if (w->failed)
        return;
    machine_put_own_disk(last);
    machine_boot(last);
    world_pass(w, 1000);
    machine_boot(other);
}

/* Trap 33, rule G2. A copy under way to a member that lacks much ends in a power cut. */
static void knobs_half_copy(struct knobs *k)
{
    two_nodes(k);
    k->nodes = 3;
    k->kept_bytes_max = 1;
    k->sync_min_us = k->sync_max_us = 2000;
}

/* Until somebody begins a copy, for two seconds at most. */
static void await_copy(struct world *w, uint64_t before)
{
    for (int i = 0; i < 2000 && !w->failed && copies_begun(w) == before; i++)
        world_pass(w, 1);
}

static void run_half_copy(struct world *w)
{
    for (int round = 0; round < 6 && !w->failed; round++) {
        struct machine *away = replica(w);
        machine_end(away, MACHINE_POWER);
        work_and_wait(w, 0, w->knobs.clients - 1, 20);
        world_pass(w, 300);
        uint64_t before = copies_begun(w);
        machine_boot(away);
        await_copy(w, before);
        world_pass(w, random_below(&w->random, 15));
        machine_end(away, MACHINE_POWER);
        world_pass(w, 10);
        machine_boot(away);
        world_pass(w, 3000);
    }
}

/* Trap 50, rule F2. Who took over dies before its epoch is open; the former primary is complete. */
static void knobs_dead_winner(struct knobs *k)
{
    two_nodes(k);
    k->nodes = 3;
    k->sync_min_us = k->sync_max_us = 10000; /* so that each step can be seen */
}

static bool has_won(struct machine *m)
{
    struct node_replica_view v;
    return machine_node(m) != NULL && node_replica(machine_node(m), 0, &v) && v.primary &&
           !v.opened;
}

static void run_dead_winner(struct world *w)
{
    struct machine *former = primary(w), *winner = replica(w);
    work_and_wait(w, 0, w->knobs.clients - 1, 20);
    world_pass(w, 2000);
    machine_pause(former, 700);
    for (int i = 0; i < 700 && !has_won(winner); i++)
        world_pass(w, 1);
    bool won = has_won(winner);
    machine_end(winner, MACHINE_KILL);
    world_pass(w, 5000);
    if (won && !somebody_else_leads(w, winner))
        world_fail(w, "F2", "who took over is dead, and a complete copy is locked out");
    machine_boot(winner);
}

/* Traps 52 and 53, rule L3. A member is left out, and nobody commits while it may read. Then the
 * primary dies as well: who takes over must wait for the leases of both. */
static void knobs_two_left_out(struct knobs *k)
{
    two_nodes(k);
    k->nodes = 4;
    k->copies = 3;
}

static void block_all(struct world *w, const struct machine *m, bool blocked)
{
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        for (uint32_t j = 0; j < w->knobs.nodes; j++)
            if (i != j && (w->machines[i] == m || w->machines[j] == m))
                network_block(w->network, ENDPOINT_NODE(i), ENDPOINT_NODE(j), blocked);
}

/* A member other than the primary and `but`. */
static struct machine *member_but(struct world *w, const struct machine *but)
{
    const struct clustermap_partition *p = &w->map->partitions[0];
    for (uint32_t i = p->isr_count; i-- > 0;) {
        struct machine *m = w->machines[p->isr[i]];
        if (m != but && m != primary(w) && (but != NULL || p->isr[i] == w->knobs.nodes - 1))
            return m;
    }
    return replica(w);
}

static uint64_t epoch_of(const struct machine *m)
{
    struct node_replica_view v = {0};
    if (machine_node(m) != NULL)
        node_replica(machine_node(m), 0, &v);
    return v.config_epoch;
}

static void run_two_left_out(struct world *w)
{
    /* The fourth node is one of the two, if that may be: it has no vote that would be missed. */
    struct machine *cut = member_but(w, NULL), *heir = member_but(w, cut);
    world_pass(w, 2000);
    for (int round = 0; round < 3 && !w->failed; round++) {
        uint64_t epoch = epoch_of(heir);
        work(w, 200);
        world_pass(w, 50);
        block_all(w, cut, true);
        for (int i = 0; i < 600 && epoch_of(heir) == epoch; i++)
            world_pass(w, 1);
        if (round > 0)
            machine_end(primary(w), MACHINE_KILL);
        world_pass(w, 1500);
        block_all(w, cut, false);
        if (round > 0)
            machine_boot(primary(w));
        world_pass(w, 8000);
    }
}

/* Trap 13, rule L4. The primary restarts, and leaves out a replica that still has its lease. */
static void knobs_forgotten_lease(struct knobs *k)
{
    knobs_hang(k);
    k->lease_replica_ms = 3000;
    k->weather[NETWORK_NODE].delay_min_us = 4000;
    k->weather[NETWORK_NODE].delay_max_us = 6000;
}

static uint64_t peers_up(const struct machine *m)
{
    struct node_counters c = {0};
    if (machine_node(m) != NULL)
        node_count(machine_node(m), &c);
    return c.peers_up;
}

/* It must hear of the replica, for it waits long for who was not heard of in its life; but only in the
 * next epoch, in which it gives no lease to who asks for one in the former; and not the other way. */
static void run_forgotten_lease(struct world *w)
{
    struct machine *restarts = primary(w), *cut = replica(w);
    world_pass(w, 4000);
    for (int round = 0; round < 4 && !w->failed; round++) {
        uint64_t epoch = epoch_of(restarts);
        work(w, 100);
        world_pass(w, 50);
        block_all(w, cut, true);
        machine_end(restarts, MACHINE_KILL);
        machine_boot(restarts);
        for (int i = 0; i < 1000 && epoch_of(restarts) <= epoch; i++)
            world_pass(w, 1);
        block_all(w, cut, false);
        for (int i = 0; i < 300 && peers_up(restarts) < w->knobs.nodes - 1; i++)
            world_pass(w, 1);
        block_all(w, cut, true);
        world_pass(w, 4000);
        block_all(w, cut, false);
        world_pass(w, 6000);
    }
}

static uint64_t grown_by(const struct machine *m)
{
    struct node_counters c = {0};
    if (machine_node(m) != NULL)
        node_count(machine_node(m), &c);
    return c.grown;
}

/* Trap 10, rule G1. A learner restarts while the register that makes it a member is on its
 * way: nothing may be committed without it until that is decided. */
static void run_doubtful_addition(struct world *w)
{
    struct machine *leads = primary(w), *learner = replica(w), *third = NULL;
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        if (w->machines[i] != leads && w->machines[i] != learner)
            third = w->machines[i];
    work_and_wait(w, 0, w->knobs.clients - 1, 20);
    for (int round = 0; round < 3 && !w->failed; round++) {
        machine_end(learner, MACHINE_KILL);
        work(w, 200);
        world_pass(w, 1500);
        uint64_t before = grown_by(leads);
        machine_boot(learner);
        for (int i = 0; i < 5000 && grown_by(leads) == before; i++)
            world_pass(w, 1);
        machine_stall(third, 400); /* without it there is no majority, for the learner is one of three */
        uint64_t epoch = epoch_of(leads);
        machine_end(learner, MACHINE_POWER);
        machine_boot(learner);
        work(w, 60);
        world_pass(w, 180); /* the primary hears of its new life */
        machine_end(learner, MACHINE_POWER);
        for (int i = 0; i < 1000 && epoch_of(leads) == epoch; i++)
            world_pass(w, 1);
        machine_boot(learner);
        world_pass(w, 5000);
    }
    for (uint32_t i = 0; i < w->knobs.clients; i++)
        caller_stop(w->callers[i]);
}

/* Trap 49, rule L1. Who was left out comes back over a link that loses much: leases must be about the
 * epoch that both have promised. */
static void knobs_bad_link(struct knobs *k)
{
    knobs_hang(k);
    k->weather[NETWORK_NODE].datagrams = true;
}

static void run_bad_link(struct world *w)
{
    struct machine *cut = replica(w);
    struct network_weather calm = w->knobs.weather[NETWORK_NODE], bad = calm;
    bad.loss_per_mille = 500;
    world_pass(w, 2000);
    for (int round = 0; round < 10 && !w->failed; round++) {
        work(w, 150);
        block_all(w, cut, true);
        world_pass(w, 300 + random_below(&w->random, 200));
        network_set_weather(w->network, NETWORK_NODE, &bad);
        block_all(w, cut, false);
        world_pass(w, 1000);
        network_set_weather(w->network, NETWORK_NODE, &calm);
        world_pass(w, 4000);
    }
    for (uint32_t i = 0; i < w->knobs.clients; i++)
        caller_stop(w->callers[i]);
}

/* Trap 36, rule W5. A member's disk stands still while a learner acknowledges. */
static void run_learner_ack(struct world *w)
{
    struct machine *away = replica(w), *slow = member_but(w, away);
    work_and_wait(w, 0, w->knobs.clients - 1, 20);
    for (int round = 0; round < 10 && !w->failed; round++) {
        machine_end(away, MACHINE_KILL);
        world_pass(w, 1200);
        work(w, 40);
        machine_boot(away);
        world_pass(w, 150 + random_below(&w->random, 300));
        machine_stall(slow, 250);
        world_pass(w, 8000);
    }
}

/* Trap 63, rule R5. Clocks run so wrong that leases are worth nothing. Who leads is cut off from the other
 * nodes, and one router from all but it: what is read there has to be confirmed, and cannot be. */
static void knobs_slow_clock(struct knobs *k)
{
    two_nodes(k);
    k->nodes = 3;
    k->keys = 2;
    k->reads_per_mille = 600;
    k->confirm_per_mille = 1000;
    k->clock_wrong_ppm = 400000;
    k->think_max_us = 8000;
    k->deadline_min_ms = 50;
    k->deadline_max_ms = 200;
}

/* The last router hears of this node only, the others of all but it. */
static void split_routers(struct world *w, uint32_t node, bool blocked)
{
    for (uint32_t r = 0; r < w->knobs.routers; r++)
        for (uint32_t i = 0; i < w->knobs.nodes; i++) {
            if ((r == w->knobs.routers - 1) == (i == node))
                continue;
            network_block(w->network, ENDPOINT_NODE(i), ENDPOINT_ROUTER(r), blocked);
            network_block(w->network, ENDPOINT_ROUTER(r), ENDPOINT_NODE(i), blocked);
        }
}

static void run_slow_clock(struct world *w)
{
    for (int round = 0; round < 6 && !w->failed; round++) {
        uint32_t cut = leader(w);
        work(w, 300);
        world_pass(w, 100);
        block_all(w, w->machines[cut], true);
        split_routers(w, cut, true);
        world_pass(w, 1500);
        split_routers(w, cut, false);
        block_all(w, w->machines[cut], false);
        world_pass(w, 4000);
    }
    for (uint32_t i = 0; i < w->knobs.clients; i++)
        caller_stop(w->callers[i]);
}

/* Trap 15, rule R4. Who leads stands still between two of its turns, and another has taken over when it goes
 * on: what comes to it then, by a router that has heard of nothing, it must not answer by the time that it
 * read before. */
static void knobs_stale_turn(struct knobs *k)
{
    two_nodes(k);
    k->nodes = 3;
    k->clients = 6;
    k->keys = 2;
    k->expiries_per_mille = 0;
}

static void ask_all_at(struct world *w, bool last_router, const struct checker_operation *op)
{
    for (uint32_t i = 0; i < w->knobs.clients; i++) {
        struct checker_operation own = *op;
        own.value.n += (int64_t)w->history.count;
        if ((caller_router(w->callers[i]) == w->knobs.routers - 1) == last_router)
            caller_ask(w->callers[i], 0, &own, 2000, NULL);
    }
}

static void run_stale_turn(struct world *w)
{
    const struct checker_operation get = {.read = true};
    const struct checker_operation put = {.mutation = MUTATION_PUT,
                                          .value = {.present = true, .n = 900001}};
    for (int round = 0; round < 5 && !w->failed; round++) {
        ask_all_at(w, false, &put);
        world_pass(w, 500 + random_below(&w->random, 1000));
        uint32_t cut = leader(w);
        split_routers(w, cut, true);
        block_all(w, w->machines[cut], true); /* or the same turn would tell it who leads now */
        machine_pause(w->machines[cut], 900);
        world_pass(w, 600);
        ask_all_at(w, false, &put);
        world_pass(w, 240);
        ask_all_at(w, true, &get); /* the router has asked nothing meanwhile, or it knows of the pause */
        world_pass(w, 1000);
        split_routers(w, cut, false);
        block_all(w, w->machines[cut], false);
        world_pass(w, 5000);
    }
}

/* Trap 17. Two members hear each other and no majority of the voters: nothing stops. */
static void knobs_no_voters(struct knobs *k)
{
    two_nodes(k);
    k->nodes = 4;
}

static void run_no_voters(struct world *w)
{
    const struct clustermap_partition *p = &w->map->partitions[0];
    work_and_wait(w, 0, w->knobs.clients - 1, 20);
    world_pass(w, 2000);
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        if (i != p->isr[0] && i != p->isr[1])
            block_all(w, w->machines[i], true);
    world_pass(w, 1000);
    uint64_t before = watch_committed(w->watch, 0);
    work_and_wait(w, 0, w->knobs.clients - 1, 20);
    if (!w->failed && watch_committed(w->watch, 0) < before + 20)
        world_fail(w, "W7", "without a majority of the voters two members took no writes");
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        block_all(w, w->machines[i], false);
}

/* Trap 67. Another node votes, alone, that has heard of no register since the beginning, or for long; and
 * then a member dies. */
static void knobs_new_voter(struct knobs *k)
{
    two_nodes(k);
    k->nodes = 4;
}

static void let_vote(struct world *w, uint32_t former, uint32_t next)
{
    struct buffer frame;
    buffer_init(&frame, 256);
    ENSURE(codec_pack_voters(&(struct voters_message){1, &next}, &frame) == STATUS_OK);
    machine_asked(w->machines[former], NETWORK_NOBODY, NETWORK_ROUTER, buffer_view(&frame));
    buffer_fini(&frame);
}

/* It is left out: that takes a swap of the partition's register. */
static void lose_replica(struct world *w)
{
    machine_end(replica(w), MACHINE_KILL);
    world_pass(w, 2000);
    uint64_t before = watch_committed(w->watch, 0);
    work_and_wait(w, 0, w->knobs.clients - 1, 20);
    if (!w->failed && watch_committed(w->watch, 0) < before + 20)
        world_fail(w, "I18", "with other voters a member that died was not left out");
    machine_boot(replica(w));
    world_pass(w, 6000);
}

static void run_new_voter(struct world *w)
{
    const struct clustermap_partition *p = &w->map->partitions[0];
    uint32_t former = 0, next = 0; /* the first of the three that vote at first */
    for (int round = 0; round < 3 && !w->failed; round++) {
        work_and_wait(w, 0, w->knobs.clients - 1, 20);
        world_pass(w, 2000);
        do
            next = (next + 1) % w->knobs.nodes;
        while (next == p->isr[0] || next == p->isr[1]);
        let_vote(w, former, next);
        world_pass(w, 4000);
        lose_replica(w);
        former = next;
    }
}

/* Trap 65, rule R5. As before, with clocks that are right, and answers that were given before the other
 * took over and come after: they are about reads that were asked before. */
static void knobs_late_answer(struct knobs *k)
{
    knobs_slow_clock(k);
    k->clock_wrong_ppm = CLOCK_WRONG_PPM;
    k->weather[NETWORK_NODE].datagrams = true;
}

static void run_late_answer(struct world *w)
{
    struct network_weather calm = w->knobs.weather[NETWORK_NODE], late = calm;
    late.late_per_mille = 300;
    late.late_max_us = 2500000;
    for (int round = 0; round < 6 && !w->failed; round++) {
        uint32_t cut = leader(w);
        work(w, 400);
        world_pass(w, 100);
        network_set_weather(w->network, NETWORK_NODE, &late);
        world_pass(w, 200);
        network_set_weather(w->network, NETWORK_NODE, &calm);
        for (uint32_t i = 0; i < w->knobs.nodes; i++)
            if (i != cut) /* what it says is lost; what the others said before may still come */
                network_block(w->network, ENDPOINT_NODE(cut), ENDPOINT_NODE(i), true);
        split_routers(w, cut, true);
        world_pass(w, 2500);
        split_routers(w, cut, false);
        block_all(w, w->machines[cut], false);
        world_pass(w, 4000);
    }
    for (uint32_t i = 0; i < w->knobs.clients; i++)
        caller_stop(w->callers[i]);
}

const struct scenario scenarios[] = {
    {"calm", "nothing goes wrong", NULL, run_calm},
    {"lost-tail", "the primary loses what its replica has, and the link is bad afterwards",
     two_nodes, run_lost_tail},
    {"hang", "a primary stands still, and heartbeats with it", knobs_hang, run_hang},
    {"hung-primary", "a primary stands still again and again", knobs_hung_primary,
     run_hung_primary},
    {"stalled-disk", "the disk of a primary stands still", knobs_hang, run_stalled_disk},
    {"damage", "a bit flips in the log of a node that is down", knobs_damage, run_damage},
    {"late-duplicate", "requests come again two hours later", knobs_late, run_late_duplicate},
    {"late-outcome", "a write in doubt is asked about two hours later", knobs_late_outcome,
     run_late_outcome},
    {"late-after-restart", "requests come again after a restart", knobs_late,
     run_late_after_restart},
    {"wrong-disk", "a node comes back with an empty disk, or an old one", knobs_wrong_disk,
     run_wrong_disk},
    {"short-log", "the last member comes back with an old disk", knobs_wrong_disk, run_short_log},
    {"half-copy", "the power fails while a whole copy is under way", knobs_half_copy,
     run_half_copy},
    {"dead-winner", "who took over dies before its epoch is open", knobs_dead_winner,
     run_dead_winner},
    {"two-left-out", "two members are left out, one after the other", knobs_two_left_out,
     run_two_left_out},
    {"forgotten-lease", "the primary restarts while its replica, cut off, has a lease",
     knobs_forgotten_lease, run_forgotten_lease},
    {"doubtful-addition", "a learner restarts while it becomes a member", knobs_dead_winner,
     run_doubtful_addition},
    {"bad-link", "who was left out comes back over a link that loses much", knobs_bad_link,
     run_bad_link},
    {"learner-ack", "a member's disk stands still while a learner acknowledges",
     knobs_two_left_out, run_learner_ack},
    {"slow-clock", "reads are confirmed where clocks run so wrong that leases are worth nothing",
     knobs_slow_clock, run_slow_clock},
    {"stale-turn", "who leads stands still between two turns", knobs_stale_turn, run_stale_turn},
    {"no-voters", "two members hear each other, and no majority of the voters", knobs_no_voters,
     run_no_voters},
    {"new-voter", "another node votes, and then a member dies", knobs_new_voter, run_new_voter},
    {"late-answer", "answers to who confirms reads come after another took over", knobs_late_answer,
     run_late_answer},
    {"bad-disk", "writes and syncs of the log fail", two_nodes, run_bad_disk},
};
const unsigned scenarios_count = sizeof scenarios / sizeof scenarios[0];

const struct scenario *scenario_find(const char *name)
{
    for (unsigned i = 0; i < scenarios_count; i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    return NULL;
}
