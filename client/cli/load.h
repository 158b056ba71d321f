/* Load: many connections that ask, driven by a few threads.
 *
 * Each connection is a session with a link of its own, as if it were another program; a few threads
 * drive them all, for a background thread each would measure the scheduler.
 *
 * - Closed loop (rate 0): a connection sends `pipeline` operations at once and the next when all
 * are answered. Latency is that of the caller, from submitting to the completion.
 * - Open loop: operations are due at even times, whether earlier ones were answered or not; latency
 *   counts from when one was due, so that waiting for a turn is not left out (coordinated
 * omission).
 */
#ifndef CLIENT_CLI_LOAD_H
#define CLIENT_CLI_LOAD_H

#include <stdatomic.h>

#include "client/cli/zipf.h"
#include "client/options.h"
#include "proto/base/histogram.h"

#define LOAD_CONNECTIONS_MAX 4000
#define LOAD_THREADS_MAX     16
#define LOAD_KEYS_MAX        9999999999ull /* the digits of a key */

struct load_plan {
    struct duet_options options; /* the routers */
    uint64_t timeout_ms;
    uint64_t connections, pipeline, threads;
    uint64_t seconds, operations; /* until one is reached; 0: not a limit */
    uint64_t rate;                /* operations a second; 0: closed loop */
    uint64_t keys;
    bool fill;               /* writes, each key once, in order */
    uint32_t reads_per_1024; /* of what is not fill */
    bool zipfian;
    struct zipf zipf;
    uint64_t value_size_min, value_size_max;
    uint8_t *value; /* value_size_max bytes */

    /* Set while it runs. */
    atomic_ullong issued;
    atomic_ullong ready;    /* connections that a router has answered */
    atomic_ullong begin_ns; /* 0: not all are ready yet */
    atomic_bool failed;     /* give up */
    atomic_uint running;    /* threads */
};

struct load_sum {
    struct histogram reads, writes; /* ns */
    uint64_t not_found, failed, in_doubt;
    uint64_t behind; /* open loop: operations that were due and not even begun */
    uint64_t end_ns;
    enum status failure; /* the first */
};

/* Called now and then while it runs. */
typedef void load_watch(const struct load_plan *plan, void *arg);

/* Run it. STATUS_OK; STATUS_NOCONNECTION: not all connections were answered in time (plan->ready
 * were); STATUS_NOMEMORY: memory, threads or descriptors ran out. */
enum status load_run(struct load_plan *plan, struct load_sum *ret, load_watch *watch, void *arg);

#endif
