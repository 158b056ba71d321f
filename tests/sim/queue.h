/* Queue: what will happen, in the order of virtual time. Equal times: in the order of adding, so
 * that a run is the same every time. */
#ifndef TESTS_SIM_QUEUE_H
#define TESTS_SIM_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef void queue_fn(void *arg, uint64_t a, uint64_t b);

struct queue_item {
    uint64_t at_us, order;
    queue_fn *fn;
    void *arg;
    uint64_t a, b;
};

struct queue {
    struct queue_item *heap;
    size_t count, capacity;
    uint64_t now_us;
    uint64_t order; /* of the next item */
    uint64_t ran;   /* items that have happened */
};

void queue_init(struct queue *q);
void queue_fini(struct queue *q);

/* Call fn(arg, a, b) in delay_us. */
void queue_add(struct queue *q, uint64_t delay_us, queue_fn *fn, void *arg, uint64_t a, uint64_t b);

/* Let the next thing happen, and the clock stand at its time. False: nothing is left, or it lies
 * beyond until_us (then the clock stands there). */
bool queue_run(struct queue *q, uint64_t until_us);

#endif
