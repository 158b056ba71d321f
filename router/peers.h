/* Peers: the nodes. Connections, health, the map. Part of the coordinator (core.h).
 *
 * A peer is numbered when its address is first heard of: on the command line (a seed), or in the
 * map. A seed whose address is not the map's word for word stays a peer of its own, for questions
 * about the map only.
 */
#ifndef ROUTER_PEERS_H
#define ROUTER_PEERS_H

#include "router/core.h"

/* Its number; NODE_NONE when there is no room. */
uint32_t peers_add(struct coordinator *c, const char *address);

/* May operations be sent to it? */
bool peers_usable(const struct coordinator *c, uint32_t node);

void peers_message(struct coordinator *c, uint32_t node, struct bytes frame);
void peers_connected(struct coordinator *c, uint32_t node, bool connected);
void peers_timer(struct coordinator *c, uint32_t node, uint64_t due_ms);

/* In each turn: ask once more for the connections for which there was no memory. */
void peers_flush(struct coordinator *c);

/* The first operation is put on its way to a node to which none was. */
void peers_busy(struct coordinator *c, uint32_t node);

/* The node knows better where things are. */
void peers_ask_map(struct coordinator *c, uint32_t node);

#endif
