/* Checkpoint: empties a frozen overlay into the table, in chunks, away from the loop.
 *
 * Order (recovery depends on it): all rows, sorted, in transactions of at most CHECKPOINT_CHUNK rows
 * or CHECKPOINT_CHUNK_BYTES; then the rows of dropped slots go; then the slot states; then, in the last transaction, the log position.
 * A crash anywhere leaves the old position, the states that came with it (each slot has two places;
 * which one counts changes with the position) and rows that replay overwrites with the same values.
 *
 * checkpoint_run() is plain blocking code on frozen data: a thread calls it in production, the
 * simulator and tests call it directly.
 */
#ifndef STORAGE_CHECKPOINT_H
#define STORAGE_CHECKPOINT_H

#include "storage/overlay.h"

#define CHECKPOINT_CHUNK 5000
#define CHECKPOINT_CHUNK_BYTES (4u << 20)

struct checkpoint_state {
    uint32_t slot;     /* 0: the node's own state (its map) */
    struct bytes blob; /* what node_restore() reads back */
};

struct checkpoint {
    const struct overlay *frozen;
    uint64_t lsn;                     /* replay starts after this record */
    struct checkpoint_state *states;  /* of all slots that changed since the last checkpoint */
    size_t states_count;
    uint8_t *states_memory;           /* behind the blobs */
    uint32_t *drops;                  /* slots whose rows go */
    size_t drops_count;
    size_t chunk;                     /* rows or states a transaction; 0: CHECKPOINT_CHUNK */
};

/* Write c to table; c->lsn is not below the table's position. STATUS_OK; STATUS_IO, STATUS_FULL,
 * STATUS_CORRUPT, STATUS_NOMEMORY (the process must end). `between`, when not NULL, is called after
 * each transaction; it returns false to stop there: STATUS_ABORTED. */
enum status checkpoint_run(struct table *table, const struct checkpoint *c,
                           bool (*between)(void *arg), void *arg);
void checkpoint_fini(struct checkpoint *c);

/* What recovery reads: the position (0: never checkpointed) and every slot's state as of it, slots
 * ascending. blob is valid during the call; not STATUS_OK ends the walk and is returned. */
enum status checkpoint_position(struct table *table, uint64_t *ret_lsn);
typedef enum status checkpoint_state_fn(void *arg, uint32_t slot, struct bytes blob);
enum status checkpoint_states(struct table *table, checkpoint_state_fn *fn, void *arg);

/* The thread: one checkpoint at a time. fd is readable (eventfd) when one has ended. */
struct checkpointer;
struct checkpointer *checkpointer_new(struct table *table, int event_fd);
void checkpointer_destroy(struct checkpointer **c_p);
/* Takes *c over. ENSUREs that none is running. */
void checkpointer_start(struct checkpointer *k, struct checkpoint *c);
/* STATUS_OK: ended well (call store_thaw()), STATUS_NOTFOUND: none ended; else the error. */
enum status checkpointer_ended(struct checkpointer *k, uint64_t *ret_lsn);

#endif
