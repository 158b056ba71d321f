/* Health: does a node answer?
 *
 * Only what the node's own loop sends counts as life: a connection, or the heartbeat of the
 * transport, says nothing about a process that hangs. A node is silent while its DEALER is not
 * connected, and from the moment that something was outstanding for silence_ms and nothing at all
 * came meanwhile, until the next thing comes.
 *
 *                  health_connected            health_heard
 *      APART -------------------------> SILENT ------------> ANSWERING
 *        ^                                |  ^                  |   |
 *        '-------- health_apart ----------'  '-- health_tick ---'   |
 *        '------------------------ health_apart --------------------'
 *
 * Pure; in the caller's memory.
 */
#ifndef ROUTER_HEALTH_H
#define ROUTER_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

enum health_state { HEALTH_APART, HEALTH_SILENT, HEALTH_ANSWERING };

struct health_limits {
    uint32_t silence_ms, ping_ms, idle_ping_ms;
};

struct health {
    enum health_state state;
    bool pinged;              /* a ping is on its way */
    uint64_t quiet_since_ms;  /* from here on silence counts, when something is outstanding */
    uint64_t ping_at_ms;      /* the next ping, not before */
    uint64_t silent_since_ms; /* meaningful unless ANSWERING */
};

enum health_advice {
    HEALTH_FINE,
    HEALTH_PING,   /* send a ping */
    HEALTH_SILENCE /* it has just fallen silent */
};

void health_init(struct health *h, uint64_t now_ms);

void health_connected(struct health *h, uint64_t now_ms);
/* True when it was ANSWERING until now. */
bool health_apart(struct health *h, uint64_t now_ms);
/* Something came. True when that ended a silence; *ret_silent_ms is its length. */
bool health_heard(struct health *h, uint64_t now_ms, uint64_t *ret_silent_ms);
/* A ping was answered (beside health_heard()). */
void health_ponged(struct health *h);
/* What was idle has something outstanding from now on. */
void health_busy(struct health *h, uint64_t now_ms, const struct health_limits *limits);
/* The caller itself stood still: nobody else is to blame for the silence meanwhile. */
void health_forgive(struct health *h, uint64_t now_ms);

/* outstanding: an answer (other than to a ping) is awaited. After HEALTH_PING the ping counts as
 * sent. */
enum health_advice health_tick(struct health *h, uint64_t now_ms, bool outstanding,
                               const struct health_limits *limits);
/* When health_tick() is next wanted; UINT64_MAX for never. */
uint64_t health_next(const struct health *h, bool outstanding, const struct health_limits *limits);

#endif
