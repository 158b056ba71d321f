/* Report: the router's STATUS message, from the table of counters and the nodes. Part of the
 * coordinator (core.h).
 */
#ifndef ROUTER_REPORT_H
#define ROUTER_REPORT_H

#include "router/core.h"

/* Append the frame to out. */
enum status report_pack(struct coordinator *c, struct buffer *out);

/* The node's name in the map, else its address. */
const char *report_node_name(const struct coordinator *c, uint32_t node);

#endif
