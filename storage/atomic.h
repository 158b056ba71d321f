/* Atomic: several writes on keys of one hash tag, judged as one. Pure.
 *
 *   atomic_open()   decode, and check what can be checked without looking at any value
 *   (the caller fills in `current` where `needs_current` asks for it)
 *   atomic_judge()  each of them against what is there; all together: one status, effects, answer
 *   atomic_fini()
 *
 * Memory is the arena's that was given to atomic_open(), and of the items that the caller brought.
 */
#ifndef STORAGE_ATOMIC_H
#define STORAGE_ATOMIC_H

#include "proto/base/arena.h"
#include "storage/mutate.h"

/* Bytes of values that one batch may look at: they are in memory at one time. */
#define ATOMIC_READ_MAX (64u << 20)

struct atomic {
    struct arena *arena;
    uint32_t value_size_max;
    size_t count;
    struct bytes *keys;
    struct write *writes;
    bool *needs_current;
    struct item *current; /* not past their expiry; absent at first */

    /* After atomic_judge(). */
    enum status status; /* OK, or that of the first that failed; NOMEMORY: nothing was judged */
    uint32_t effects_count;
    struct effect *effects; /* their digest is the caller's to fill in */
    struct atomic_answer answer;
    struct mutate_work *works;
};

/* body is an AtomicBatch about the hash tag of key. STATUS_OK; STATUS_MALFORMED; STATUS_USAGE: a key of
 * another tag, empty, or twice; STATUS_TOOBIG: a key or a value; STATUS_NOMEMORY. */
enum status atomic_open(struct atomic *a, struct bytes key, struct bytes body,
                        uint32_t value_size_max, struct arena *arena);
void atomic_judge(struct atomic *a, uint64_t now_ms);
void atomic_fini(struct atomic *a);

#endif
