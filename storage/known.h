/* Known: the disks of the nodes, as this node's own disk remembers them (design: rule U7).
 *
 * A disk has an identity, drawn at random when its directory was empty, and an incarnation that is
 * raised at each start (identity.h). Every node logs which disk and which incarnation it heard of
 * from each other one, and says so in its heartbeats once that is durable. So a node that comes
 * back with an empty directory, or with an old copy of its own, is told, and ends; and until then
 * nobody takes its heartbeats.
 *
 * A copy of the very life that was heard of last looks like the node's next life; it is found out by
 * what it lacks (rule U2), as soon as it hears of the registers or of a promise. So that its own
 * directory is still welcome then, a life is remembered only when it acts, or has gone on for a while.
 *
 * A disk that is new must not vote or lead before it is certain that it replaces none: it does
 * nothing with registers until so many nodes have it on their disks that some of those who know a
 * former one would be among them ("met"). This is once in a disk's life; it is logged.
 */
#ifndef STORAGE_KNOWN_H
#define STORAGE_KNOWN_H

#include "proto/message.h"
#include "storage/core.h"

/* Of one node. */
struct known {
    uint64_t disk;        /* 0: never heard of */
    uint64_t incarnation; /* the latest. Of ourselves: 1 when met */
    uint64_t lsn;         /* of the record that says so */
    bool knows_us;        /* its disk has ours; told in this life */
};

/* At start, before anything is restored. STATUS_OK, STATUS_NOMEMORY. */
enum status known_init(struct core *c);
void known_fini(struct core *c);

/* Append the saved state. STATUS_OK, STATUS_NOMEMORY. */
enum status known_save(const struct core *c, struct buffer *out);
/* Take it off the beginning of *blob. STATUS_OK, STATUS_CORRUPT. */
enum status known_restore(struct core *c, struct bytes *blob);
enum status known_replay(struct core *c, struct bytes body);

/* A heartbeat of a node of this cluster: may the rest of it be believed? May fail the core (this
 * disk is not the one that others know). */
bool known_heard(struct core *c, const struct heartbeat *h);
/* A register says so: whatever else was heard before was not its own disk. */
void known_recorded(struct core *c, uint32_t node, uint64_t disk);
/* A message of node, in the incarnation that was heard of, binds us: remember it. */
void known_acts(struct core *c, uint32_t node);
/* What a heartbeat to node says about disks. */
void known_tell(const struct core *c, uint32_t node, struct heartbeat *h);
/* May this node vote and propose? */
bool known_met(const struct core *c);

#endif
