/* Options of duet-storage: one table; see proto/base/option.h. */
#ifndef STORAGE_OPTIONS_H
#define STORAGE_OPTIONS_H

#include "proto/base/option.h"

/* clang-format off */
#define STORAGE_OPTIONS(X)                                                                         \
    /* kind  name            default            min max         unit   sentence */                 \
    X(TEXT, cluster,         "",                0, 4096,        "",    "the cluster file, the same on every node; a node that joined has none") \
    X(TEXT, name,            "",                0, 63,          "",    "which node of the cluster this is") \
    X(TEXT, dir,             "",                0, 4096,        "",    "the directory that holds this node's data") \
    X(TEXT, listen,          "",                0, 127,         "",    "tcp://HOST:PORT where this node listens, if that is not what the cluster file says, or no longer") \
    X(TEXT, join,            "",                0, 127,         "",    "tcp://HOST:PORT of any node of a cluster: become a node of it. Only the first start looks at it") \
    X(UINT, weight,          "0",               0, 1000000,     "",    "--join: this node's weight; 0: it holds no data, but may vote") \
    X(TEXT, host,            "",                0, 63,          "",    "--join: the host that this node is on; its name unless given") \
    X(FLAG, insecure,        "0",               0, 1,           "",    "allow an address that is not loopback, without any protection") \
    X(UINT, segment_size,    "64",              1, 1024,        "MiB", "one log segment") \
    X(UINT, log_retention,   "4096",            0, 1048576,     "MiB", "checkpointed log that is kept for peers") \
    X(UINT, replay_max,      "1024",            8, 65536,       "MiB", "log that recovery may have to replay before a checkpoint is due") \
    X(UINT, overlay_size,    "256",             1, 65536,       "MiB", "committed data in memory before a checkpoint is due") \
    X(UINT, overlay_entries, "262144",          1000, 100000000, "",   "committed keys in memory before a checkpoint is due") \
    X(UINT, table_size,      "1048576",         64, 16777216,   "MiB", "largest table; only an address range is reserved") \
    X(UINT, memory,          "0",               0, 16777216,    "MiB", "memory for this node; 0: what the machine has. A table above half of it is read by threads") \
    X(UINT, fetch_threads,   "4",               1, 64,          "",    "threads that read a large table") \
    X(UINT, value_size_max,  "1048576",         1, 16777216,    "byte", "largest value taken") \
    X(UINT, pending_size,    "256",             1, 65536,       "MiB", "uncommitted writes in memory; beyond it the answer is BUSY") \
    X(UINT, waiters,         "131072",          16, 10000000,   "",    "operations waiting in the node; beyond it the answer is BUSY") \
    X(UINT, suspect,         "300",             50, 10000,      "ms",  "a node that was silent for so long is missing") \
    X(UINT, stall,           "1000",            50, 60000,      "ms",  "so is one that acknowledges nothing of what it was sent for so long (a slow disk)") \
    X(UINT, lease_primary,   "400",             50, 1000,       "ms",  "a primary reads on for so long without news from its replicas; bounds the wait for writes after its death") \
    X(UINT, lease_replica,   "700",             50, 1000,       "ms",  "the same of a replica; bounds the wait for writes after its death") \
    X(UINT, kept_size,       "256",             1, 65536,       "MiB", "committed writes kept in memory for copies that are away") \
    X(UINT, leave,           "5000",            0, 600000,      "ms",  "after SIGTERM, how long handing over to others may take; a second SIGTERM ends it") \
    X(FLAG, batch,           "1",               0, 1,           "",    "wait for a turn on busy processors (SCHED_BATCH): more work a turn, fewer switches") \
    X(UINT, log_level,       "1",               0, 3,           "",    "0 debug, 1 info, 2 warn, 3 error") \
    X(TEXT, config,          "",                0, 4096,        "",    "read these options from a file") \
    X(COMMAND, found,        "0",               0, 1,           "",    "print the cluster file of a new cluster and leave") \
    X(COMMAND, check_config, "0",               0, 1,           "",    "check options and cluster file and leave") \
    X(COMMAND, dump_config,  "0",               0, 1,           "",    "print the options in force as a configuration file and leave") \
    X(COMMAND, help,         "0",               0, 1,           "",    "print this and leave") \
    X(COMMAND, version,      "0",               0, 1,           "",    "print the version and leave") \
    X(TEXT, nodes,           "",                0, 65536,       "",    "--found: name=tcp://HOST:PORT[,...]") \
    X(TEXT, hosts,           "",                0, 65536,       "",    "--found: name=HOST[,...]; copies of a key go to different hosts") \
    X(TEXT, weights,         "",                0, 65536,       "",    "--found: name=WEIGHT[,...]; 100 unless given") \
    X(UINT, partitions,      "1024",            1, 16384,       "",    "--found: partitions, a power of two, for ever") \
    X(UINT, copies,          "2",               1, 5,           "",    "--found: nodes that hold each key")
/* clang-format on */

struct storage_options {
    STORAGE_OPTIONS(OPTION_FIELD)
};

#endif
