#include "tests/sim/queue.h"

#include <stdlib.h>

#include "proto/base/ensure.h"

void queue_init(struct queue *q)
{
    *q = (struct queue){0};
}

void queue_fini(struct queue *q)
{
    free(q->heap);
    *q = (struct queue){0};
}

static bool before(const struct queue_item *a, const struct queue_item *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void swap(struct queue *q, size_t i, size_t j)
{
    struct queue_item item = q->heap[i];
    q->heap[i] = q->heap[j];
    q->heap[j] = item;
}

static void sift_up(struct queue *q, size_t i)
{
    while (i > 0 && before(&q->heap[i], &q->heap[(i - 1) / 2])) {
        swap(q, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
}

static void sift_down(struct queue *q, size_t i)
{
    for (;;) {
        size_t least = i, left = 2 * i + 1, right = 2 * i + 2;
        if (left < q->count && before(&q->heap[left], &q->heap[least]))
            least = left;
        if (right < q->count && before(&q->heap[right], &q->heap[least]))
            least = right;
        if (least == i)
            return;
        swap(q, i, least);
        i = least;
    }
}

void queue_add(struct queue *q, uint64_t delay_us, queue_fn *fn, void *arg, uint64_t a, uint64_t b)
{
    ENSURE(fn != NULL);
    if (q->count == q->capacity) {
        q->capacity = q->capacity == 0 ? 256 : 2 * q->capacity;
        q->heap = realloc(q->heap, q->capacity * sizeof *q->heap);
        ENSURE(q->heap != NULL);
    }
    q->heap[q->count] = (struct queue_item){
        .at_us = q->now_us + delay_us, .order = q->order++, .fn = fn, .arg = arg, .a = a, .b = b};
    sift_up(q, q->count++);
}

bool queue_run(struct queue *q, uint64_t until_us)
{
    if (q->count == 0 || q->heap[0].at_us > until_us) {
        if (q->now_us < until_us)
            q->now_us = until_us;
        return false;
    }
    struct queue_item item = q->heap[0];
    q->heap[0] = q->heap[--q->count];
    sift_down(q, 0);
    ENSURE(item.at_us >= q->now_us);
    q->now_us = item.at_us;
    q->ran++;
    item.fn(item.arg, item.a, item.b);
    return true;
}
