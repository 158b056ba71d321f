/* Gateway: a router's hands in the simulator. */
#ifndef TESTS_SIM_GATEWAY_H
#define TESTS_SIM_GATEWAY_H

#include "proto/base/bytes.h"
#include "tests/sim/network.h"

struct gateway;
struct world;

struct gateway *gateway_new(struct world *w, uint32_t index);
void gateway_destroy(struct gateway **g_p);

/* The process starts, with a new boot id; it ends, and remembers nothing. */
void gateway_boot(struct gateway *g);
void gateway_end(struct gateway *g);
bool gateway_alive(const struct gateway *g);
void gateway_pause(struct gateway *g, uint64_t ms);
void gateway_calm(struct gateway *g);

/* Handlers of the network. */
void gateway_asked(struct gateway *g, uint64_t source, struct bytes frame);
void gateway_answered(struct gateway *g, uint32_t socket, struct bytes frame);
void gateway_connected(struct gateway *g, uint32_t socket, bool connected);

/* What the process counted since it started, into world->reached; at its end by itself. */
void gateway_count(struct gateway *g);
/* Operations in flight in it. */
uint64_t gateway_slots_used(const struct gateway *g);

#endif
