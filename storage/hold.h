/* Hold: operations that came while their partition was between two epochs, or waits for a member
 * that is about to be left out. They wait here, for a moment, rather than be refused: a refusal
 * would have to travel to the router and back, and what was sent behind it might be taken
 * meanwhile, so that it could not go again (W8). Pure.
 *
 * Nothing that is held was logged. Each goes on in the order in which it came, when the partition
 * takes it again, or is sent elsewhere when another node leads; all of a partition are refused
 * together when the oldest has waited for HOLD_MS.
 */
#ifndef STORAGE_HOLD_H
#define STORAGE_HOLD_H

#include "storage/replica.h"

#define HOLD_MS 400u /* less than the time after which a router asks again */

/* op cannot be served now, though this node is or becomes the primary: hold it, or refuse it as
 * UNAVAILABLE (or ASKPRIMARY) when there is nothing to wait for. */
void hold_or_refuse(struct core *c, struct replica *r, const struct operation *op);
/* op waits for something else, which ends in hold_release(). */
void hold_until(struct core *c, struct replica *r, const struct operation *op);
/* Must op wait behind one of its hash tag that came before it and is held? Then it is held. */
bool hold_behind(struct core *c, struct replica *r, const struct operation *op);

/* Something has changed, or time has passed: try again what is held. */
void hold_release(struct core *c, struct replica *r);
/* r goes: all are told to ask elsewhere. */
void hold_drop(struct core *c, struct replica *r);
/* The process ends: without an answer. */
void hold_forget(struct core *c, struct replica *r);

#endif
