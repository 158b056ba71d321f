/* Confirm: reads that ask the other members rather than a clock (design: rule R5). Pure.
 *
 * What is committed here is the newest there is, if no epoch after ours has committed anything. None has
 * before all of its members promised it, and one of them at least is a member of our epoch (F2). So when
 * every other member of our epoch says, to a question that was sent after a read had come, that it has
 * promised nothing newer, then nothing that was acknowledged before that read is missing here. It does not
 * matter how long the answers take, nor what any clock shows.
 *
 *   read, arrival 17   A                                         B
 *     -------------->  | held (hold.h)                           |
 *                      | CONFIRM epoch 7, number 17 -----------> | has promised 7, and nothing since
 *                      | <---------- CONFIRMED epoch 7, number 17|
 *     <-------------   | all that arrived up to 17 is read
 *
 * Numbers are arrivals of operations, so that a question says for which reads it was asked, and late or
 * doubled answers do no harm. Of one partition one question is under way at a time; what comes meanwhile
 * waits for the next. Members are asked where the caller wants it so, and where a lease has run out though
 * its givers answer.
 */
#ifndef STORAGE_CONFIRM_H
#define STORAGE_CONFIRM_H

#include "storage/replica.h"

/* op, a read at a member, waits until all others were asked; at a replica it is sent to the primary when
 * one of them is not heard of. */
void confirm_wait(struct core *c, struct replica *r, const struct operation *op);
/* Has every other member confirmed our epoch since this arrival? */
bool confirm_done(const struct replica *r, uint64_t arrival);

/* sender asks about our partition. */
void confirm_asked(struct core *c, struct replica *r, uint32_t sender, uint64_t epoch,
                   uint64_t number);
/* sender has confirmed. */
void confirm_answered(struct core *c, struct replica *r, uint32_t sender, uint64_t epoch,
                      uint64_t number);

/* Another epoch: whatever was said is about the former one. */
void confirm_forget(struct replica *r);
/* End of turn: one question to each member, for all reads that wait. */
void confirm_flush(struct core *c, struct replica *r);

#endif
