/* Lapse: keys past their expiry go (design: rule R7). Pure.
 *
 * An item whose expiry has passed by its partition's time is neither shown nor taken for absent by a
 * look at a clock: the primary logs its deletion (ENTRY_LAPSE), and absence is answered when that is
 * committed; a replica sends the asker to the primary. So all copies lose a key at one place in the
 * log, whatever their clocks say, and what a reader saw absent stays so.
 *
 * The partition's time is the primary's wall clock, and never behind the ptime of its log.
 */
#ifndef STORAGE_LAPSE_H
#define STORAGE_LAPSE_H

#include "storage/replica.h"

/* ms since 1970. */
uint64_t lapse_now(const struct core *c, const struct replica *r);
/* Is item there, and past its expiry? */
bool lapse_due(const struct core *c, const struct replica *r, const struct item *item);

/* At the primary, of a key whose newest state is due: log its deletion. STATUS_OK: *ret is the entry,
 * or the node failed; STATUS_UNAVAILABLE, STATUS_BUSY: nothing can be logged now. */
enum status lapse_log(struct core *c, struct replica *r, uint64_t digest, struct bytes key,
                      struct pending **ret);
/* The same of several keys with one digest, at most ENTRY_EFFECTS_MAX, by one entry. */
enum status lapse_log_all(struct core *c, struct replica *r, uint64_t digest,
                          const struct bytes *keys, uint32_t count);

/* Go on with the slow walk over the partitions that are led here and have keys with an expiry: what
 * nobody touches goes, too. A step costs a bounded number of rows; call it every heartbeat. */
void lapse_sweep(struct core *c);
/* An item with an expiry was applied: the partition is to be swept. */
void lapse_note(struct core *c, struct replica *r);

#endif
