/* Wheel: one timer for each of a fixed number of indexes.
 *
 * A bucket for each of the next WHEEL_SPAN_MS milliseconds; what is due later waits in the last of
 * them and is sorted in again when its bucket comes. Setting, moving and cancelling cost the same
 * however many timers run.
 *
 * - wheel_init() / wheel_fini()
 * - wheel_set() / wheel_cancel()
 * - wheel_pop()      the next index whose time has come
 * - wheel_next()     when wheel_pop() is next worth a call
 *
 * Pure. Time never goes back.
 */
#ifndef ROUTER_WHEEL_H
#define ROUTER_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#define WHEEL_SPAN_MS 4096 /* a power of two */
#define WHEEL_NONE UINT32_MAX

struct wheel_timer {
    uint64_t due_ms;
    uint32_t next, prev;
    uint32_t bucket; /* WHEEL_NONE: not running */
};

struct wheel {
    uint64_t at_ms; /* all buckets before this moment are empty */
    uint32_t count;
    struct wheel_timer *timers; /* count of them */
    uint32_t buckets[WHEEL_SPAN_MS]; /* first timer */
    uint64_t filled[WHEEL_SPAN_MS / 64]; /* a bit for each bucket that has one */
};

/* False when out of memory. */
bool wheel_init(struct wheel *w, uint32_t count);
void wheel_fini(struct wheel *w);

/* Let index be due at due_ms, whether it was running or not. */
void wheel_set(struct wheel *w, uint32_t index, uint64_t due_ms);
void wheel_cancel(struct wheel *w, uint32_t index);

/* Stop and return an index that is due at now_ms; WHEEL_NONE when there is no more. */
uint32_t wheel_pop(struct wheel *w, uint64_t now_ms);

/* UINT64_MAX: no timer is running. May be earlier than the first timer, by whole spans only. */
uint64_t wheel_next(const struct wheel *w);

/* When index is (or last was) due. */
static inline uint64_t wheel_due(const struct wheel *w, uint32_t index)
{
    return w->timers[index].due_ms;
}

#endif
