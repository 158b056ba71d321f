/* Peers: the other nodes: who is there, in which incarnation, and what they say. Pure.
 *
 * Heartbeats go to the nodes that share a partition, or the registers, with this one. A message counts only when it comes
 * from the incarnation that is known of its sender and is meant for ours.
 */
#ifndef STORAGE_PEERS_H
#define STORAGE_PEERS_H

#include "storage/core.h"

/* With whom are partitions or registers shared? At start, and when the map has changed. */
void peers_find(struct core *c);

/* A frame from another node, whatever its kind. */
void peers_message(struct core *c, struct bytes frame);

/* Send a heartbeat to each, or only to those that one at once helps. */
void peers_heartbeats(struct core *c, bool all);
/* One that was silent for suspect_ms is down. When that may be next; UINT64_MAX: never. */
void peers_tick(struct core *c);
uint64_t peers_deadline(const struct core *c);

#endif
