/* Lead: the primary's side of one partition (design: rules W2-W5, W7, F3, G1). Pure.
 *
 *   epoch_adopt: promise logged --durable--> PROMISE to members
 *        --all PROMISED, lead_promised--> epoch.c has it opened --lead_open--> ENTRY_EPOCH is logged,
 *                                         writes are taken; commits wait for the fence
 *   a member comes back in a new incarnation: lead_member_lost, PROMISE again, same epoch
 *   one that was left out comes back: it gets what it lacks like a member, and does not count
 */
#ifndef STORAGE_LEAD_H
#define STORAGE_LEAD_H

#include "storage/replica.h"

/* The epoch is opened. */
void lead_open(struct core *c, struct replica *r);

/* Can a write be committed now: opened, and every member in sync, up and making progress? */
bool lead_writable(const struct core *c, const struct replica *r);

/* Complete e (epoch, seq, chain, ptime >= token) and log it. NULL after core_fail(). */
struct pending *lead_log(struct core *c, struct replica *r, struct entry *e, uint64_t token);

/* The own log moved. */
void lead_durable(struct core *c, struct replica *r);
/* Does what node says of its log, that it ends at last_seq, show an old image of its disk, or an empty
 * one (U2)? It is told so, and will end. */
bool lead_lacks(struct core *c, struct replica *r, uint32_t node, uint64_t epoch,
                uint64_t last_seq);
/* node has promised epoch; its log is committed up to there and ends at last_seq. */
void lead_promised(struct core *c, struct replica *r, uint32_t node, uint64_t epoch,
                   const struct position *commit, uint64_t last_seq);
void lead_ack(struct core *c, struct replica *r, uint32_t node, uint64_t epoch, uint64_t seq,
              uint64_t hash, bool gap);

/* node restarted, or its link lost what we sent. */
void lead_member_lost(struct core *c, struct replica *r, uint32_t node);
/* Every now and then: send again what is not acknowledged, ask again, log EXPIRE. */
void lead_tick(struct core *c, struct replica *r);
/* End of turn: what is to be sent goes to the outbox. */
void lead_flush(struct core *c, struct replica *r);

#endif
