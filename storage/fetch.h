/* Fetch: reader threads for cold keys, so that a page fault never stalls the loop. */
#ifndef STORAGE_FETCH_H
#define STORAGE_FETCH_H

#include "storage/table.h"

struct fetch;

struct fetch_request {
    uint64_t ticket;     /* echoed */
    uint64_t generation; /* echoed */
    uint32_t slot;
    uint64_t digest;
    struct bytes key; /* copied */
};

struct fetch_answer {
    uint64_t ticket, generation;
    enum status status; /* of the table's get */
    struct item item;   /* views into memory that fetch_answer_fini() frees */
    uint8_t *memory;
};

/* event_fd becomes readable when answers are there. queue_max bounds the requests under way. */
struct fetch *fetch_new(struct table *table, unsigned threads, size_t queue_max, int event_fd);
void fetch_destroy(struct fetch **f_p);
/* STATUS_OK, or STATUS_BUSY when the queue is full. */
enum status fetch_submit(struct fetch *f, const struct fetch_request *request);
/* STATUS_OK, or STATUS_NOTFOUND. */
enum status fetch_take(struct fetch *f, struct fetch_answer *ret);
void fetch_answer_fini(struct fetch_answer *a);

#endif
