/* Membership: which nodes there are and which of them vote: the registers of the cluster and of its
 * nodes. Pure.
 *
 * A node writes what is its own into its register: its disk, once that is known to enough others
 * (known.h), and its address. Whoever comes with another disk afterwards is not that node. Who comes
 * with another address cannot be answered there yet: its heartbeats name it, and the voters write it.
 * A node that joins takes the lowest number that is free, by a swap of that node's register.
 *
 *   voters A      `duet admin voters`, asked of one of A: who is to come is there, and every node's
 *      |          disk is in its register, so that those to come know it
 *      v
 *   joint A, B    from here on each round needs a majority of A and one of B. The first of B that is
 *      |          there reads every register, which writes it to both
 *      v
 *   voters B      the same node, when all of these reads have ended
 *
 * Each arrow is a swap of the cluster's register. A node obeys the set of voters that it knows to be
 * committed once that is durable (registry.h); it hears of it as of any other register.
 */
#ifndef STORAGE_MEMBERSHIP_H
#define STORAGE_MEMBERSHIP_H

#include "storage/core.h"
#include "storage/registry.h"

#define MEMBERSHIP_WORDS_MAX 256

/* The map's voters as the registry has them. */
struct registry_voters membership_voters_of(const struct clustermap *map);

/* After epoch_init(). STATUS_OK, STATUS_NOMEMORY. */
enum status membership_init(struct core *c);
void membership_fini(struct core *c);
/* All records are in: the voters that were obeyed may be newer than the map. */
void membership_start(struct core *c);

/* The map has changed: what is new in it is obeyed. */
void membership_adopt(struct core *c);
/* An operation on a register of ours has ended, whichever register. */
void membership_moved(struct core *c, uint32_t number);
/* The same, of the cluster or of a node: this is its value. */
void membership_ended(struct core *c, uint32_t number, uint64_t version, struct bytes value);
/* What our heartbeats say about us. */
void membership_tell(const struct core *c, struct heartbeat *h);
/* A heartbeat of node says that it listens there. */
void membership_address(struct core *c, uint32_t node, struct bytes address);

/* With each heartbeat: what is under way goes on. */
void membership_tick(struct core *c);
/* End of a turn: what has moved is told to all. */
void membership_flush(struct core *c);

/* Make these nodes the voters: take the next step. STATUS_OK: under way, or done; the map tells. Else
 * the reason is in words. */
enum status membership_voters(struct core *c, const struct voters_message *m,
                              char words[static MEMBERSHIP_WORDS_MAX]);

/* Take in who asks: take the next step. STATUS_OK: under way, or done; the map tells. Else the reason
 * is in words. */
enum status membership_join(struct core *c, const struct node_value *m,
                            char words[static MEMBERSHIP_WORDS_MAX]);

#endif
