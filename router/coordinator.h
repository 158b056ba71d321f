/* Coordinator: the router's brain. Clients' requests in, nodes' batches out, and back.
 *
 * It remembers nothing that must survive. It holds the operations in flight in a fixed number of
 * slots, groups what is going to one node (or to one client) in one turn of the loop into one
 * message, notices which nodes answer, and sends again what may be sent again. router/README.md
 * draws the life of a request and gives the rules of order and retry.
 *
 * Pure: no socket, clock, file, log or thread. `now_ms` is any clock that never goes back. A client
 * is a number that the caller chose for its connection (`source`) and never uses twice. A node is a
 * number that the coordinator chose and announces with EFFECT_CONNECT_NODE (the seeds are
 * 0, 1, ... in the order given). Frames passed in are borrowed for the call.
 *
 * One turn of the loop:
 *
 *   coordinator_client_message(), coordinator_node_message(), ...   for all that came
 *   coordinator_tick()           when coordinator_deadline() is reached
 *   coordinator_flush()          once, at the end
 *   carry out the effects, effects_clear(); a frame to a node that cannot be sent:
 *   coordinator_node_connected(..., false, ...)
 */
#ifndef ROUTER_COORDINATOR_H
#define ROUTER_COORDINATOR_H

#include "proto/base/bytes.h"
#include "proto/base/status.h"
#include "proto/limits.h"
#include "router/effects.h"

#define COORDINATOR_SEEDS_MAX 16
#define COORDINATOR_NODES_MAX (NODES_MAX + COORDINATOR_SEEDS_MAX)

struct clustermap;
struct coordinator;

struct coordinator_options {
    const char *name;                         /* copied */
    uint64_t boot_id;                         /* random, drawn at process start; not 0 */
    uint32_t slots;                           /* operations in flight, beyond: BUSY */
    uint64_t bytes_max;                       /* in flight: keys, operations, held answers */
    uint32_t value_size_max;                  /* bytes */
    uint32_t deadline_ms, deadline_max_ms;    /* of a request that gives none; the longest one */
    uint32_t silence_ms;                      /* no answer for so long: the node is silent */
    uint32_t ping_ms;                         /* between pings while something is outstanding */
    uint32_t idle_ping_ms;                    /* between pings while nothing is */
    uint32_t attempt_ms;                      /* no answer though the node answers: again */
    uint32_t pause_min_ms, pause_max_ms;      /* between attempts after a refusal */
    uint32_t seeds_count;
    const char *seeds[COORDINATOR_SEEDS_MAX]; /* addresses "tcp://HOST:PORT"; copied */
};

/* Every field but name, boot_id and the seeds. */
extern const struct coordinator_options coordinator_defaults;

/* What STATUS shows. Words for people stand beside the name. */
/* clang-format off */
#define COORDINATOR_COUNTERS(X)                                                                    \
    X(requests,            "requests taken from clients")                                          \
    X(operations,          "operations in them")                                                   \
    X(reads,               "operations by kind")                                                   \
    X(writes,              "")                                                                     \
    X(outcomes,            "")                                                                     \
    X(scans,               "")                                                                     \
    X(answers,             "operations answered")                                                  \
    X(answer_messages,     "messages to clients that carried them")                                \
    X(batch_messages,      "messages to nodes")                                                    \
    X(batch_operations,    "operations in them, repeats counted")                                  \
    X(repeats,             "attempts after the first")                                             \
    X(refusals,            "attempts that a node refused")                                         \
    X(late,                "results that came after their operation was answered, or twice")       \
    X(busy,                "operations refused because a limit of this router was reached")        \
    X(invalid,             "operations refused because of what they said")                         \
    X(deadlines,           "operations that met their deadline")                                   \
    X(in_doubt,            "writes answered as in doubt")                                          \
    X(held,                "operations that waited for an earlier one on the same key")            \
    X(elsewhere,           "reads sent to another copy because the primary was silent")            \
    X(any_copy,            "reads sent to any copy, as their clients asked for")                   \
    X(client_malformed,    "messages from clients that do not decode")                             \
    X(client_unsupported,  "messages from clients of another version or an unknown kind")          \
    X(client_gone,         "clients that left while operations were in flight")                    \
    X(client_slow,         "messages dropped because a client did not take them")                  \
    X(answers_dropped,     "operations answered after their client was gone")                      \
    X(node_malformed,      "messages from nodes that do not decode or do not belong here")         \
    X(node_refused,        "messages that a node refused as a whole")                              \
    X(node_silences,       "times that a node fell silent")                                        \
    X(node_restarts,       "times that a node came back as a new process")                         \
    X(map_changes,         "times that a newer register was learnt")                               \
    X(slots_used,          "operations in flight now")                                             \
    X(slots_used_max,      "most operations in flight so far")                                     \
    X(bytes_used,          "bytes of keys, operations and held answers in flight now")
/* clang-format on */

struct coordinator_counters {
#define X(name, words) uint64_t name;
    COORDINATOR_COUNTERS(X)
#undef X
};

/* NULL when out of memory. The first coordinator_tick() asks for the seeds' connections. */
struct coordinator *coordinator_new(const struct coordinator_options *options);
void coordinator_destroy(struct coordinator **c_p);

/* One frame from a client. delimiter: it is a REQ socket, which gets one answer a request. */
void coordinator_client_message(struct coordinator *c, uint64_t now_ms, uint64_t source,
                                bool delimiter, struct bytes frame, struct effects *effects);
/* The client's connection is gone: what is in flight for it ends without an answer. */
void coordinator_client_gone(struct coordinator *c, uint64_t source);
/* A frame to this client was dropped because it did not take it (it keeps its state). */
void coordinator_client_slow(struct coordinator *c, uint64_t source);

/* One frame from a node. */
void coordinator_node_message(struct coordinator *c, uint64_t now_ms, uint32_t node,
                              struct bytes frame, struct effects *effects);
/* The DEALER to a node is connected, or is not: tell every change, and a frame that was not taken.
 * A new DEALER (CONNECT_NODE, RESET_NODE) counts as not connected until the caller says so. */
void coordinator_node_connected(struct coordinator *c, uint64_t now_ms, uint32_t node,
                                bool connected, struct effects *effects);

/* Let time pass: deadlines, retries, silences, pings. */
void coordinator_tick(struct coordinator *c, uint64_t now_ms, struct effects *effects);
/* When coordinator_tick() is next wanted; UINT64_MAX for never. */
uint64_t coordinator_deadline(const struct coordinator *c);

/* End of the turn: one BATCH for each node, one ANSWER for each (source, client id). */
void coordinator_flush(struct coordinator *c, uint64_t now_ms, struct effects *effects);

/* Borrow: valid until the next call. */
const struct coordinator_counters *coordinator_counters(const struct coordinator *c);
const struct clustermap *coordinator_map(const struct coordinator *c);
/* For log lines: the node's name as the map has it, else its address; "" for an unknown number. */
const char *coordinator_node_name(const struct coordinator *c, uint32_t node);
bool coordinator_node_silent(const struct coordinator *c, uint32_t node);

#endif
