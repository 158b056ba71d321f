/* Options of duet-router: one table; see proto/base/option.h. */
#ifndef ROUTER_OPTIONS_H
#define ROUTER_OPTIONS_H

#include "proto/base/option.h"

/* clang-format off */
#define ROUTER_OPTIONS(X)                                                                          \
    /* kind  name            default                 min max         unit   sentence */            \
    X(TEXT, listen,          "tcp://127.0.0.1:7400", 0, 127,         "",    "where clients connect") \
    X(TEXT, nodes,           "",                     0, 2047,        "",    "storage nodes to learn the cluster from: tcp://HOST:PORT[,...], one that answers is enough") \
    X(TEXT, name,            "router",               0, 63,          "",    "this router's name in logs and status") \
    X(FLAG, insecure,        "0",                    0, 1,           "",    "allow an address that is not loopback, without any protection") \
    X(UINT, slots,           "65536",                16, 1048576,    "",    "operations in flight; beyond it the answer is BUSY") \
    X(UINT, flight_size,     "256",                  1, 65536,       "MiB", "keys, values and held answers in flight; beyond it the answer is BUSY") \
    X(UINT, value_size_max,  "1048576",              1, 16777216,    "byte", "largest value taken; the nodes' option of this name must not be smaller") \
    X(UINT, deadline,        "5000",                 1, 600000,      "ms",  "how long an operation may take whose request does not say") \
    X(UINT, deadline_max,    "60000",                1, 600000,      "ms",  "how long a request may allow its operations to take") \
    X(UINT, silence,         "100",                  10, 10000,      "ms",  "a node that owes answers and says nothing for so long is silent: reads go elsewhere") \
    X(UINT, ping,            "50",                   5, 5000,        "ms",  "between pings to a node that owes answers or is silent") \
    X(UINT, idle_ping,       "1000",                 10, 60000,      "ms",  "between pings to a node that owes nothing") \
    X(UINT, attempt,         "500",                  20, 60000,      "ms",  "an operation is sent again when its node answers others but not this for so long") \
    X(UINT, pause_min,       "5",                    1, 10000,       "ms",  "pause after a refusal; doubled each time") \
    X(UINT, pause_max,       "200",                  1, 60000,       "ms",  "longest pause after a refusal") \
    X(UINT, connections_max, "65536",                16, 1048576,    "",    "client connections remembered; beyond it new ones are not heard") \
    X(UINT, io_threads,      "1",                    1, 16,          "",    "ZeroMQ's threads for network traffic") \
    X(FLAG, batch,           "1",                    0, 1,           "",    "wait for a turn on busy processors (SCHED_BATCH): more work a turn, fewer switches") \
    X(UINT, log_level,       "1",                    0, 3,           "",    "0 debug, 1 info, 2 warn, 3 error") \
    X(TEXT, config,          "",                     0, 4096,        "",    "read these options from a file") \
    X(COMMAND, check_config, "0",                    0, 1,           "",    "check the options and leave") \
    X(COMMAND, dump_config,  "0",                    0, 1,           "",    "print the options in force as a configuration file and leave") \
    X(COMMAND, help,         "0",                    0, 1,           "",    "print this and leave") \
    X(COMMAND, version,      "0",                    0, 1,           "",    "print the version and leave")
/* clang-format on */

struct router_options {
    ROUTER_OPTIONS(OPTION_FIELD)
};

#endif
