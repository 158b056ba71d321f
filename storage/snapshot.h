/* Snapshot: a whole copy of one partition, for a member that lacks more than the primary's memory
 * holds (design: rule G2). Pure.
 *
 *   primary                                        learner
 *   | SNAPSHOT 0: state at commit s (positions,       new slot; SNAPSHOT record
 *   |   completion records) -----------------------> |
 *   | <---------------------- SNAPSHOT_ACK next=1 -- |  once that is durable
 *   | SNAPSHOT 1: rows, as they are now -----------> |  ROWS record, rows to the store
 *   |                ...                             |
 *   | SNAPSHOT n: the last rows -------------------> |  ROWS, then SWITCH: the new slot takes over,
 *   | <---------------------- SNAPSHOT_ACK done ---- |  the former one is void
 *   | APPEND from s + 1 ---------------------------> |
 *
 * The copy is fuzzy: rows are read while writes go on, each page at a later commit. All entries
 * behind s follow and are applied again over it; they are absolute and in order, so that the copy
 * is whole once it has what was committed when its last page was read. It counts as a member only
 * later than that (epoch.c adds nobody who lacks anything).
 *
 * Until SWITCH is durable the former slot is what this node has of the partition. A crash before it
 * leaves a slot that is not whole: it is dropped at the next start.
 */
#ifndef STORAGE_SNAPSHOT_H
#define STORAGE_SNAPSHOT_H

#include "storage/replica.h"

struct snapshot;

/* The primary: begin, if not too many are under way; send again what was not acknowledged. */
void snapshot_care(struct core *c, struct replica *r, struct member *m);
void snapshot_acked(struct core *c, struct replica *r, struct member *m,
                    const struct snapshot_ack *a);
/* Give up what is under way to m, if anything is. */
void snapshot_end(struct core *c, struct member *m);

/* The learner's partition gets a new epoch: a copy that has not ended is of no use any more. */
void snapshot_give_up(struct core *c, struct replica *r);

/* The learner: one message; what was logged for it is durable. */
void snapshot_take(struct core *c, struct replica *r, const struct snapshot_message *m);
void snapshot_durable(struct core *c, struct replica *r, uint64_t next);
void snapshot_switched(struct core *c, struct replica *r);

/* Recovery: what a checkpoint kept of a slot that was not whole; then the records. */
enum status snapshot_restore(struct core *c, uint32_t slot, struct bytes state);
enum status snapshot_replay(struct core *c, const struct record_view *record);
/* At start: slots that are not whole go. */
void snapshot_drop_unfinished(struct core *c);

/* The slot of r is void from now on: waiters hear so, r is gone. */
void snapshot_drop(struct core *c, struct replica **r_p);

#endif
