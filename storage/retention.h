/* Retention: which segments are in the log, and which of them may go.
 *
 * The loop thread releases and counts, the sync thread appends and takes: all verbs may be called
 * by any thread.
 */
#ifndef STORAGE_RETENTION_H
#define STORAGE_RETENTION_H

#include <pthread.h>

#include "proto/base/bytes.h"
#include "proto/base/status.h"

/* A segment in the log. */
struct kept {
    uint64_t number, first_lsn;
    uint64_t used; /* offset behind the last group */
    uint64_t size; /* of the file */
};

struct retention {
    pthread_mutex_t mutex;
    struct kept *kept; /* by number, the open one last */
    size_t count, capacity;
    uint64_t size_min; /* bytes of sealed segments to keep */
    uint64_t released_lsn;
};

void retention_init(struct retention *r, uint64_t size_min, uint64_t released_lsn);
void retention_fini(struct retention *r);

/* k is the open segment from now on. STATUS_OK, STATUS_NOMEMORY. */
enum status retention_append(struct retention *r, const struct kept *k);
/* The open segment is used up to there. */
void retention_use(struct retention *r, uint64_t used);
/* Records at or below lsn are in the table. */
void retention_release(struct retention *r, uint64_t lsn);

/* True when the oldest segment is below the released position and the sealed ones behind it hold at
 * least size_min bytes. */
bool retention_has_free(const struct retention *r);
/* Take that segment off the list. */
bool retention_take_free(struct retention *r, struct kept *ret);

/* As log_replay_size() and log_count(). */
uint64_t retention_replay_size(const struct retention *r, uint64_t durable_lsn);
void retention_count(const struct retention *r, uint64_t *ret_segments, uint64_t *ret_bytes);

#endif
