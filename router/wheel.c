#include "router/wheel.h"

#include <stdlib.h>

#include "proto/base/ensure.h"

#define WORDS (WHEEL_SPAN_MS / 64)

bool wheel_init(struct wheel *w, uint32_t count)
{
    w->at_ms = 0;
    w->count = count;
    w->timers = calloc(count, sizeof *w->timers);
    for (uint32_t i = 0; i < WHEEL_SPAN_MS; i++)
        w->buckets[i] = WHEEL_NONE;
    for (uint32_t i = 0; i < WORDS; i++)
        w->filled[i] = 0;
    if (w->timers == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++)
        w->timers[i].bucket = WHEEL_NONE;
    return true;
}

void wheel_fini(struct wheel *w)
{
    free(w->timers);
    w->timers = NULL;
}

void wheel_cancel(struct wheel *w, uint32_t index)
{
    ENSURE(index < w->count);
    struct wheel_timer *t = &w->timers[index];
    if (t->bucket == WHEEL_NONE)
        return;
    if (t->next != WHEEL_NONE)
        w->timers[t->next].prev = t->prev;
    if (t->prev != WHEEL_NONE)
        w->timers[t->prev].next = t->next;
    else
        w->buckets[t->bucket] = t->next;
    if (w->buckets[t->bucket] == WHEEL_NONE)
        w->filled[t->bucket / 64] &= ~(UINT64_C(1) << (t->bucket % 64));
    t->bucket = WHEEL_NONE;
}

void wheel_set(struct wheel *w, uint32_t index, uint64_t due_ms)
{
    wheel_cancel(w, index);
    uint64_t last_ms = w->at_ms + WHEEL_SPAN_MS - 1;
    uint64_t when_ms = due_ms < w->at_ms ? w->at_ms : due_ms > last_ms ? last_ms : due_ms;
    uint32_t bucket = (uint32_t)(when_ms % WHEEL_SPAN_MS);
    struct wheel_timer *t = &w->timers[index];
    t->due_ms = due_ms;
    t->bucket = bucket;
    t->prev = WHEEL_NONE;
    t->next = w->buckets[bucket];
    if (t->next != WHEEL_NONE)
        w->timers[t->next].prev = index;
    w->buckets[bucket] = index;
    w->filled[bucket / 64] |= UINT64_C(1) << (bucket % 64);
}

uint64_t wheel_next(const struct wheel *w)
{
    uint32_t start = (uint32_t)(w->at_ms % WHEEL_SPAN_MS);
    /* The start's word is looked at twice: first its bits from start on, last those before. */
    for (uint32_t i = 0; i <= WORDS; i++) {
        uint32_t word = (start / 64 + i) % WORDS;
        uint64_t bits = w->filled[word];
        uint64_t from_start = UINT64_MAX << (start % 64);
        if (i == 0)
            bits &= from_start;
        else if (i == WORDS)
            bits &= ~from_start;
        if (bits != 0) {
            uint32_t bucket = word * 64 + (uint32_t)__builtin_ctzll(bits);
            return w->at_ms + (bucket - start + WHEEL_SPAN_MS) % WHEEL_SPAN_MS;
        }
    }
    return UINT64_MAX;
}

uint32_t wheel_pop(struct wheel *w, uint64_t now_ms)
{
    for (;;) {
        uint64_t next_ms = wheel_next(w);
        if (next_ms > now_ms) {
            /* All buckets up to now_ms are empty, so the span may begin there. */
            if (now_ms > w->at_ms)
                w->at_ms = now_ms;
            return WHEEL_NONE;
        }
        w->at_ms = next_ms;
        uint32_t index = w->buckets[next_ms % WHEEL_SPAN_MS];
        uint64_t due_ms = w->timers[index].due_ms;
        wheel_cancel(w, index);
        if (due_ms <= now_ms)
            return index;
        wheel_set(w, index, due_ms);
    }
}
