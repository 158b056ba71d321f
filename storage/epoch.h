/* Epoch: who leads a partition and who must acknowledge its writes (design: rules F1-F6, L3, L4,
 * G1).
 *
 * The truth is the partition's register. A node that wants another configuration proposes it to the
 * registry; what is committed there is adopted by everybody who hears of it.
 *
 *   primary dead, or back in a new life         a member dead, or come back
 *          |  epoch_consider: the next epoch          |
 *          v                                          v
 *   register: epoch e+1, primary, isr, not opened, base = isr of the last opened epoch
 *          |  epoch_adopt: the primary promises e+1 (logged), then asks the members (lead.c)
 *          v
 *   all of isr have promised
 *          |  epoch_consider: the same, opened
 *          v
 *   register: epoch e+1, opened, base = isr      -> ENTRY_EPOCH is logged, writes are taken;
 *                                                   commits wait for the fence (lease.h)
 *
 * Rules: from an opened epoch any member of isr may propose a subset that contains itself (or, as
 * the primary, an addition that has everything); from an unopened one only a member of base, a
 * subset of base. The ISR is never empty. A primary never acts in an epoch that an earlier life of
 * it promised.
 */
#ifndef STORAGE_EPOCH_H
#define STORAGE_EPOCH_H

#include "storage/replica.h"
#include "storage/registry.h"

/* At start: the registry of this node. STATUS_OK, STATUS_NOMEMORY. */
enum status epoch_init(struct core *c);

/* The register of r's partition may have moved: take over what it says. */
void epoch_adopt(struct core *c, struct replica *r);
/* If the register says that our promised epoch is opened, it is: asked when either moved. */
void epoch_open_known(struct core *c, struct replica *r);
/* The whole map may have moved. */
void epoch_adopt_all(struct core *c);

/* Does r need another configuration? Asked when something happened to it, and now and then. */
void epoch_consider(struct core *c, struct replica *r);

/* Every now and then, and the end of the turn: registers that moved are told to all. */
void epoch_tick(struct core *c);
void epoch_flush(struct core *c);

/* This node is about to stop: what it leads goes to others, and others leave it out. */
void epoch_leave(struct core *c);
/* It stays after all. */
void epoch_stay(struct core *c);
/* Leaving has been done, as far as it can be. */
bool epoch_left(const struct core *c);

/* Is r a member of an epoch that is open, as far as we know? */
bool epoch_member(const struct replica *r);
/* May clean keys be read at r at now_ms? (R1) */
bool epoch_readable(const struct replica *r, uint64_t now_ms);

#endif
