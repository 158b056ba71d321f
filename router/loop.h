/* Loop: the router's hands. Sockets, clock, log lines; everything else is the coordinator's.
 *
 * A turn: read all sockets (a bounded number of messages each), let time pass, flush, send.
 */
#ifndef ROUTER_LOOP_H
#define ROUTER_LOOP_H

#include "router/options.h"

struct loop;

/* Binds and prepares; connections to nodes begin with loop_run(). signal_fd is a signalfd: when it
 * is readable the loop ends. options are borrowed. NULL: reterr says why (address in use, not
 * loopback without --insecure, ...). */
struct loop *loop_new(const struct router_options *options, int signal_fd, struct error *reterr);
void loop_destroy(struct loop **loop_p);

/* Returns when a signal came. */
void loop_run(struct loop *loop);

/* Check what the table of options cannot: addresses, and values that depend on each other.
 * STATUS_OK, STATUS_USAGE or STATUS_CONFIG. */
enum status loop_check(const struct router_options *options, struct error *reterr);

#endif
