/* Loop: the hands of duet-storage: sockets, clock, log, table. One thread owns everything here.
 *
 * A turn: read all that has come, step all, one group to the log, send all.
 */
#ifndef STORAGE_LOOP_H
#define STORAGE_LOOP_H

#include "proto/clustermap.h"
#include "storage/disk.h"
#include "storage/log.h"
#include "storage/node.h"
#include "storage/options.h"
#include "storage/table.h"

struct loop;

/* What main has opened and recovered; borrowed for the loop's life. */
struct loop_parts {
    const struct storage_options *options;
    struct clustermap *map;
    uint32_t index; /* of this node */
    const char *address; /* where it listens */
    struct disk *disk;   /* where the map is saved */
    struct store *store;
    struct table *table;
    struct log *log;
    struct node *node;
    int signal_fd; /* SIGTERM and SIGINT end the loop */
};

/* Bind and connect. NULL: reterr (address not loopback without --insecure, port in use, ...). */
struct loop *loop_new(const struct loop_parts *parts, struct error *reterr);
void loop_destroy(struct loop **loop_p);

/* Serve until a signal comes (STATUS_OK, the log is closed cleanly) or until the disk fails (then
 * the process must end at once; reterr says what failed). */
enum status loop_run(struct loop *l, struct error *reterr);

#endif
