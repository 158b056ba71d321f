/* Store: committed data of this node: the overlays (what is not yet in the table) over the table.
 *
 * The loop thread owns it; the frozen overlay is shared, read-only, with the checkpoint.
 *
 *   get/scan -> live overlay -> frozen overlay (while a checkpoint runs) -> table
 *   apply    -> live overlay
 *
 * A checkpoint: store_freeze() makes the live overlay the frozen one and starts a new live one;
 * checkpoint_run() (checkpoint.h) writes it to the table, in another thread; store_thaw() drops it.
 */
#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H

#include "storage/overlay.h"
#include "storage/table.h"

struct store;

struct store_options {
    uint64_t overlay_bytes_max;   /* due for a checkpoint beyond this (default 256 MiB) */
    uint64_t overlay_entries_min; /* ... or at max(this, a fourth of the table's rows) entries */
    bool inline_reads;            /* false: table reads are answered LATER by fetch threads */
};

struct store *store_new(const struct store_options *options, struct table *table);
void store_destroy(struct store **store_p);

/* May change at run time: the shell judges table size against the memory limit. */
void store_set_inline_reads(struct store *s, bool inline_reads);

/* The committed state of key. STATUS_OK: ret (present or not; value valid until the next
 * store_apply(), store_freeze(), store_thaw() or store_turn_end()). STATUS_BUSY: ask fetch threads
 * (FETCH with *ret_generation). STATUS_IO, STATUS_CORRUPT: the process must end. */
enum status store_get(struct store *s, uint32_t slot, uint64_t digest, struct bytes key,
                      struct item *ret, uint64_t *ret_generation);

/* The same, from the table if need be, however long that takes: for operations on several keys, which
 * are too rare to wait for each key in turn. Never STATUS_BUSY. */
enum status store_get_now(struct store *s, uint32_t slot, uint64_t digest, struct bytes key,
                          struct item *ret);

/* A FETCH issued with generation came back with fetched (what the table said). STATUS_OK: *item is
 * the committed state (overlays win). STATUS_BUSY: a checkpoint ended meanwhile, fetch again with
 * *ret_generation. */
enum status store_fetched(struct store *s, uint64_t generation, uint32_t slot, uint64_t digest,
                          struct bytes key, const struct item *fetched, struct item *ret,
                          uint64_t *ret_generation);

/* Put a committed effect (item->present false: deleted). Copies. STATUS_OK or STATUS_NOMEMORY (the
 * process must end). */
enum status store_apply(struct store *s, uint32_t slot, uint64_t digest, struct bytes key,
                        const struct item *item);

/* Committed rows of slot in table order after (digest, key) as in table.h; overlays merged,
 * deleted keys left out. Reads the table inline. */
enum status store_scan(struct store *s, uint32_t slot, uint64_t digest, struct bytes key,
                       table_row_fn *fn, void *arg);

/* The same from (digest, key) on, with that very key if it is there. key may be one byte longer than a
 * key can be: a bound. */
enum status store_range(struct store *s, uint32_t slot, uint64_t digest, struct bytes key,
                        table_row_fn *fn, void *arg);

/* End of a loop turn: table readers are released, so that no snapshot grows old. */
void store_turn_end(struct store *s);

bool store_checkpoint_due(const struct store *s);
/* Live becomes frozen; NULL when one is frozen already. Borrowed until store_thaw(). */
const struct overlay *store_freeze(struct store *s);
void store_thaw(struct store *s);

/* For gauges and flow control: entries and bytes in the overlays; bytes_max as configured. */
void store_count(const struct store *s, uint64_t *ret_entries, uint64_t *ret_bytes);

#endif
