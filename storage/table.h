/* Table: the sorted table behind the overlay. Behind a few verbs, so that the tests have a twin in
 * memory (tests/lib/table_mem.c); table_lmdb.c is the only file that knows LMDB.
 *
 * A table key is slot (4 bytes, big endian), digest (8 bytes, big endian), key: a partition's range
 * is contiguous, keys of one hash tag lie together. A row is {u8 version 1, u8 flags, u16 0, u32 0,
 * u64 epoch, u64 seq, u64 expiry_ms, value}; table_lmdb.c keeps values above 64 KiB in chunks.
 * Beside the rows there are blobs under short names (slot states, positions).
 *
 * Threads: one writer at a time (the checkpoint thread); get, blob and scan from any thread, each
 * thread with its own struct table_reader. What was committed survives a crash.
 */
#ifndef STORAGE_TABLE_H
#define STORAGE_TABLE_H

#include "storage/record.h"

struct table;
struct table_reader;

struct table_row {
    uint32_t slot;
    uint64_t digest;
    struct bytes key;
    struct item item; /* present false: delete */
};

/* Return false to end the scan. row is valid during the call. */
typedef bool table_row_fn(void *arg, const struct table_row *row);
typedef bool table_blob_fn(void *arg, struct bytes name, struct bytes value);

struct table_verbs {
    /* A reader sees the newest committed state from each table_refresh() on. */
    enum status (*reader_new)(struct table *t, struct table_reader **ret);
    void (*reader_destroy)(struct table_reader **reader_p);
    /* Between refresh and release all calls on r see one state; values stay valid. Keep it short. */
    enum status (*refresh)(struct table_reader *r);
    void (*release)(struct table_reader *r);
    /* STATUS_OK (ret->present tells), STATUS_IO, STATUS_CORRUPT. ret->value is a view until release. */
    enum status (*get)(struct table_reader *r, uint32_t slot, uint64_t digest, struct bytes key,
                       struct item *ret);
    /* Rows of slot after (digest, key), in order; key empty: at or after digest. */
    enum status (*scan)(struct table_reader *r, uint32_t slot, uint64_t digest, struct bytes key,
                        table_row_fn *fn, void *arg);
    /* STATUS_NOTFOUND when there is none; *ret is a view until release. */
    enum status (*blob_get)(struct table_reader *r, struct bytes name, struct bytes *ret);
    /* In the order of names. */
    enum status (*blob_scan)(struct table_reader *r, table_blob_fn *fn, void *arg);

    /* One transaction: begin, puts, commit (durable on return) or abort. Any error: abort, and the
     * process ends. */
    enum status (*begin)(struct table *t);
    enum status (*put)(struct table *t, const struct table_row *row);
    enum status (*blob_put)(struct table *t, struct bytes name, struct bytes value);
    enum status (*commit)(struct table *t);
    void (*abort)(struct table *t);

    /* For gauges: rows and bytes used by them. */
    void (*count)(struct table *t, uint64_t *ret_rows, uint64_t *ret_bytes);
    void (*destroy)(struct table **table_p);
};

struct table {
    const struct table_verbs *verbs;
};

struct table_reader {
    const struct table_verbs *verbs;
};

/* Open or make the table in directory. map_size is a sparse reservation. NULL: reterr. */
struct table *table_lmdb_open(const char *directory, uint64_t map_size, struct error *reterr);

#endif
