/* Machine: a storage node's hands in the simulator: disk, table, log, store, clock, and the turns
 * of its loop. Disk and table survive the process; everything else is made anew at each boot.
 *
 * Turns are those of storage/loop.c: all events, node_flush(), care (checkpoint, space), records to
 * the log, a group to the disk, then the messages. A group's write takes virtual time; a crash
 * meanwhile leaves any part of it.
 */
#ifndef TESTS_SIM_MACHINE_H
#define TESTS_SIM_MACHINE_H

#include "proto/base/bytes.h"
#include "proto/clustermap.h"
#include "tests/sim/network.h"

struct disk_sim_faults;
struct machine;
struct node;
struct node_counters;
struct store;
struct world;

/* The cluster's first map, as every node's cluster file has it. */
struct clustermap *machine_map(const struct world *w);

struct machine *machine_new(struct world *w, uint32_t index);
void machine_destroy(struct machine **m_p);

/* Start the process: recover, then serve. False: it could not (an injected error); try again. */
bool machine_boot(struct machine *m);
enum machine_end {
    MACHINE_STOP,  /* as after SIGTERM: the log is closed first */
    MACHINE_KILL,  /* the process ends, the cache stays */
    MACHINE_POWER, /* the machine stops: what is not synced may be lost */
};
void machine_end(struct machine *m, enum machine_end how);
/* Lose power in the middle of the next group's write. */
void machine_end_writing(struct machine *m);
bool machine_alive(const struct machine *m);
uint64_t machine_lives(const struct machine *m);

/* Handlers of the network. */
void machine_asked(struct machine *m, uint64_t source, enum network_class class,
                   struct bytes frame);

/* Troubles. */
void machine_pause(struct machine *m, uint64_t ms);         /* SIGSTOP, for so long */
void machine_stall(struct machine *m, uint64_t ms);         /* the disk takes its time */
void machine_checkpoint(struct machine *m);                 /* as if it were due */
void machine_set_clock(struct machine *m, int64_t step_ms); /* the wall clock jumps */
/* What its wall clock shows, alive or not. */
uint64_t machine_wall_ms(const struct machine *m);
struct disk_sim_faults *machine_faults(struct machine *m);
/* The file system is this full (bytes), 0: it has room. */
void machine_limit_disk(struct machine *m, bool limited);
void machine_calm(struct machine *m);
/* Flip a bit in the log that lies well below its end; again: back. Only while the process is dead.
 */
void machine_damage_log(struct machine *m);
/* Another disk in the place of its own: an empty one, or what its own had at the time of
 * machine_take_image() (which may come at any time). Only while the process is dead. With it the
 * node must end by itself once others tell it (rule U7); watchers look away from it. */
enum machine_disk { MACHINE_EMPTY, MACHINE_IMAGE };
void machine_take_image(struct machine *m);
void machine_put_disk(struct machine *m, enum machine_disk which);
/* Its own again; nothing happens if it has that. Only while the process is dead. */
void machine_put_own_disk(struct machine *m);
/* Does a register say, as far as any process knows, which disk this node has? */
bool machine_disk_recorded(const struct world *w, uint32_t index);
bool machine_has_other_disk(const struct machine *m);
/* The next boots must be refused, for the log is damaged (true), or must succeed. */
void machine_expect_refusal(struct machine *m, bool expected);

/* Views; NULL while the process is not alive. */
const struct node *machine_node(const struct machine *m);
struct store *machine_store(struct machine *m);
/* What the process counted since it started, into world->reached; at its end by itself. */
void machine_count(struct machine *m);
/* Bytes of log kept, for the bounds. */
/* May the process answer reads of clean keys of partition at this very moment? */
bool machine_readable(struct machine *m, uint32_t partition);
uint64_t machine_log_size(const struct machine *m);

#endif
