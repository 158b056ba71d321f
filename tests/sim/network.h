/* Network: virtual connections between processes, as ZeroMQ makes them, and their troubles.
 *
 * Every process is an endpoint. A *socket* is the dialing end (a DEALER): it connects in the
 * background, again and again, and tells its process when it is or is not connected. Each time it
 * succeeds there is a new *source*: the number that the listening process (a ROUTER) knows the
 * connection by, never used twice. Frames sent while a socket is not connected are refused, as with
 * ZMQ_IMMEDIATE; frames to a source that is gone, too.
 *
 * Within one connection frames arrive in order and whole. What a class of links suffers is chosen
 * per class: delay, and for those that may lose their order (`datagrams`) loss, doubling and
 * overtaking as well. Whatever the class: a path may be blocked in one direction (frames wait, and
 * the connection breaks when it takes too long), connections may be reset (what is on its way is
 * lost), processes may die (frames that left may still arrive).
 */
#ifndef TESTS_SIM_NETWORK_H
#define TESTS_SIM_NETWORK_H

#include "proto/base/bytes.h"
#include "proto/base/status.h"
#include "tests/sim/queue.h"
#include "tests/sim/random.h"

#define NETWORK_ENDPOINTS_MAX 32

enum network_class { NETWORK_CLIENT, NETWORK_ROUTER, NETWORK_NODE, NETWORK_CLASSES };

struct network_weather {
    uint64_t delay_min_us, delay_max_us; /* one way */
    bool datagrams;                      /* loss, doubling, overtaking */
    uint32_t loss_per_mille, double_per_mille;
    uint32_t late_per_mille; /* datagrams: comes up to late_max_us later */
    uint64_t late_max_us;
};

/* What the processes hear. frame is borrowed for the call. */
struct network_handlers {
    void *arg;
    /* A frame came on the socket that endpoint dialed. */
    void (*answered)(void *arg, uint32_t endpoint, uint32_t socket, struct bytes frame);
    /* A frame came from a source to the listening endpoint. */
    void (*asked)(void *arg, uint32_t endpoint, uint64_t source, enum network_class class,
                  struct bytes frame);
    void (*connected)(void *arg, uint32_t endpoint, uint32_t socket, bool connected);
    /* Every frame that is taken for sending; for watchers. */
    void (*taken)(void *arg, uint32_t from, uint32_t to, enum network_class class,
                  struct bytes frame);
};

struct network;

struct network *network_new(struct queue *queue, uint64_t seed,
                            const struct network_handlers *handlers);
void network_destroy(struct network **network_p);

void network_set_weather(struct network *n, enum network_class class,
                         const struct network_weather *weather);

/* The process at endpoint begins to listen, or is dead. Death breaks its connections: the other
 * ends notice soon (quick), or when their heartbeats fail. Its own sockets are gone with it. */
void network_process_up(struct network *n, uint32_t endpoint);
void network_process_dead(struct network *n, uint32_t endpoint, bool quick);

/* A new socket of endpoint from, to the process at endpoint to. */
uint32_t network_dial(struct network *n, uint32_t from, uint32_t to, enum network_class class);
/* Close the socket. What it has sent may still arrive; nothing comes back. */
void network_hang_up(struct network *n, uint32_t socket);

/* Copies. STATUS_OK, or STATUS_BUSY: not connected. */
enum status network_ask(struct network *n, uint32_t socket, struct bytes frame);
/* Copies. STATUS_OK, or STATUS_NOCONNECTION: source is gone. */
#define NETWORK_NOBODY UINT64_MAX /* a source that has no connection */
enum status network_answer(struct network *n, uint64_t source, struct bytes frame);

/* Frames between two endpoints wait (connections) or are lost (datagrams) while blocked. */
void network_block(struct network *n, uint32_t from, uint32_t to, bool blocked);
/* Break one connection at random, or all between two endpoints; sockets dial again. */
void network_reset_some(struct network *n);
void network_reset_between(struct network *n, uint32_t a, uint32_t b);
/* All paths open, nothing lost or late from now on. */
void network_heal(struct network *n);

struct network_counters {
    uint64_t frames, lost, doubled, late, resets, refused;
};
const struct network_counters *network_counters(const struct network *n);

#endif
