/* Gather: records on their way into the log, in memory, cut into groups that are written one at a
 * time. The loop thread's; a group that was taken is the sync thread's until gather_done().
 */
#ifndef STORAGE_GATHER_H
#define STORAGE_GATHER_H

#include "proto/base/bytes.h"
#include "proto/base/status.h"

/* Room for the group's header (segment.h), then records. */
struct log_group {
    struct log_group *next;
    uint64_t first_lsn;
    uint32_t count;
    size_t size, capacity; /* of memory; size counts the header's room */
    uint8_t *memory;       /* aligned as O_DIRECT wants it; capacity takes the padding too */
};

/* durable_lsn < lsns of under_way < lsns from first to last < next_lsn. */
struct gather {
    size_t group_size_max;
    uint64_t next_lsn, durable_lsn;
    struct log_group *first, *last; /* oldest first */
    size_t size;                    /* bytes of records that are not durable */
    struct log_group *under_way;    /* taken, not yet done */
    struct log_group *idle;         /* memory for later */
    unsigned idle_count;
};

void gather_init(struct gather *g, size_t group_size_max, uint64_t next_lsn);
void gather_fini(struct gather *g);

/* As log_append(), log_group_take(), log_group_done() (log.h). */
enum status gather_append(struct gather *g, uint64_t first, uint32_t count, struct bytes records);
struct log_group *gather_take(struct gather *g);
void gather_done(struct gather *g, struct log_group *group);

/* The records in a group. */
struct bytes gather_records(const struct log_group *group);

#endif
