/* Table in memory: the twin of table_lmdb.c behind storage/table.h, for the simulator and for
 * tests.
 *
 * What is committed stays until destroy, over table_mem_crash() too; readers see the state of their
 * last refresh, as with LMDB. The verbs may be called from several threads, like LMDB's.
 */
#ifndef TESTS_LIB_TABLE_MEM_H
#define TESTS_LIB_TABLE_MEM_H

#include "storage/table.h"

/* NULL: out of memory. Ends with its destroy verb. */
struct table *table_mem_new(void);
/* A second table in the same committed state. NULL: out of memory. */
struct table *table_mem_copy(const struct table *t);

/* The process dies: a transaction under way is lost, faults are disarmed. Readers must have been
 * destroyed or be destroyed later, as their owner likes. */
void table_mem_crash(struct table *t);

enum table_mem_fault {
    TABLE_MEM_READ,        /* refresh, get, scan, blob_get, blob_scan */
    TABLE_MEM_WRITE,       /* begin, put, blob_put */
    TABLE_MEM_COMMIT,      /* commit; nothing is committed */
    TABLE_MEM_COMMIT_DONE, /* commit reports the failure, but what it wrote is there */
};

/* After `after` more calls of that sort (0: at the next one) one fails with `status`. */
void table_mem_fail(struct table *t, enum table_mem_fault fault, uint64_t after,
                    enum status status);

/* Is such a failure still to come? */
bool table_mem_failing(const struct table *t);

/* Transactions committed so far. */
uint64_t table_mem_commits(const struct table *t);

#endif
