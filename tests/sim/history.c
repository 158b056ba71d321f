#include "tests/sim/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "storage/record.h"
#include "tests/sim/texts.h"
#include "tests/sim/watch.h"
#include "tests/sim/world.h"

void history_fini(struct history *h)
{
    free(h->items);
    *h = (struct history){0};
}

size_t history_ask(struct history *h, uint32_t key, uint32_t client,
                   const struct checker_operation *op)
{
    if (h->count == h->capacity) {
        h->capacity = h->capacity == 0 ? 256 : 2 * h->capacity;
        h->items = realloc(h->items, h->capacity * sizeof *h->items);
        ENSURE(h->items != NULL);
    }
    h->items[h->count] = (struct history_item){.key = key, .client = client, .op = *op};
    h->items[h->count].op.invoked = ++h->moment;
    h->items[h->count].op.outcome = CHECKER_IN_DOUBT;
    h->open++;
    return h->count++;
}

/* Words. */

void history_key(uint32_t key, char to[static 32])
{
    /* Every third key shares its hash tag with others. */
    if (key % 3 == 0)
        snprintf(to, 32, "{tag%u}k%u", key % 4, key);
    else
        snprintf(to, 32, "key%u", key);
}

/* Hearing. */

static bool is_outcome(enum status status)
{
    return status == STATUS_OK || status == STATUS_NOTFOUND || status == STATUS_CONDITION ||
           status == STATUS_NOTNUMBER || status == STATUS_OVERFLOW;
}

static void take_answer(struct world *w, size_t number, const struct history_heard *heard)
{
    struct history_item *item = &w->history.items[number];
    struct checker_operation *op = &item->op;
    op->outcome = CHECKER_DONE;
    op->returned = ++w->history.moment;
    op->status = heard->status;
    op->version = heard->version;
    op->has_value = (heard->flags & ANSWER_VALUE) != 0;
    /* A result this large may not have been kept for a repeat. */
    if (!op->read && !op->has_value && w->knobs.value_size_max > RESULT_SIZE_MAX / 2)
        op->want = WANT_NOTHING;
    struct expiry expiry;
    if (op->of_expiry && op->has_value) {
        ENSURE(codec_unpack_expiry(heard->value, &expiry) == STATUS_OK);
        op->value_seen =
            (struct checker_value){.present = true, .number = true, .n = (int64_t)expiry.expiry_ms};
    } else if (op->has_value) {
        op->value_seen = texts_parse(heard->value);
    }
}

void history_hear(struct world *w, size_t number, const struct history_heard *heard)
{
    struct history_item *item = &w->history.items[number];
    if (item->ended) {
        world_fail(w, "I8", "client %u heard twice of its operation %" PRIu64, item->client,
                   item->seq);
        return;
    }
    item->ended = true;
    w->history.open--;
    if (heard->flags & ANSWER_IN_DOUBT) {
        item->op.outcome = item->op.read ? CHECKER_NOT_DONE : CHECKER_IN_DOUBT;
        w->reached[REACH_in_doubt] += !item->op.read;
        w->history.moment++;
    } else if (is_outcome(heard->status)) {
        take_answer(w, number, heard);
    } else {
        item->op.outcome = CHECKER_NOT_DONE;
        w->history.moment++;
    }
}

void history_settle(struct world *w, size_t number, const struct history_heard *heard)
{
    struct history_item *item = &w->history.items[number];
    if (!item->ended || item->op.outcome != CHECKER_IN_DOUBT)
        return; /* settled meanwhile, with the batch it belongs to */
    if (heard->flags & ANSWER_IN_DOUBT)
        return;
    if (heard->status == STATUS_ABORTED) {
        item->op.outcome = CHECKER_NOT_DONE;
        w->history.moment++;
        w->reached[REACH_aborted]++;
    } else if (is_outcome(heard->status)) {
        take_answer(w, number, heard);
        w->reached[REACH_settled]++;
        /* Its place among the session's operations was given up with its first completion. */
        item->op.session = 0;
    }
}

/* Judging. */

static int by_key(const void *a, const void *b)
{
    const struct history_item *const *x = a, *const *y = b;
    if ((*x)->key != (*y)->key)
        return (*x)->key < (*y)->key ? -1 : 1;
    return (*x)->op.invoked < (*y)->op.invoked ? -1 : (*x)->op.invoked > (*y)->op.invoked;
}

static void show_key(const struct checker_operation *ops, size_t count, size_t stuck)
{
    size_t first = stuck > 25 ? stuck - 25 : 0;
    for (size_t i = first; i < count && i < stuck + 25; i++) {
        char line[400];
        checker_describe(&ops[i], line, sizeof line);
        fprintf(stderr, "%s %s\n", i == stuck ? "  ->" : "    ", line);
    }
}

static void resolve(struct world *w, const struct history_item *const *items,
                    struct checker_operation *ops, size_t count)
{
    char name[32];
    history_key(items[0]->key, name);
    for (size_t i = 0; i < count; i++)
        if (ops[i].outcome == CHECKER_IN_DOUBT)
            watch_resolve(w->watch, items[i], bytes_text(name), &ops[i]);
}

static void judge_key(struct world *w, const struct history_item *const *items,
                      struct checker_operation *ops, size_t count)
{
    struct checker_result result;
    char name[32], line[400];
    history_key(items[0]->key, name);
    checker_judge(ops, count, 0, &result);
    if (result.verdict == CHECKER_UNDECIDED) {
        /* Too many writes in doubt: the watch knows what became of them. */
        w->undecided++;
        resolve(w, items, ops, count);
        checker_judge(ops, count, 0, &result);
    }
    if (result.verdict != CHECKER_BROKEN)
        return;
    checker_describe(&ops[result.stuck], line, sizeof line);
    world_fail(w, "I7", "the history of key %s is not linearizable; %zu operations fit, then: %s",
               name, result.reached, line);
    if (!w->quiet)
        show_key(ops, count, result.stuck);
}

/* A read of any copy need not be linearizable (the watch judges it), nor, where clocks run wrong, one that
 * goes by leases. */
static bool must_fit(const struct world *w, const struct history_item *item)
{
    bool leases_hold = w->knobs.clock_wrong_ppm <= CLOCK_WRONG_PPM;
    return !item->op.read || item->op.consistency == CONSISTENCY_CONFIRM ||
           (item->op.consistency == CONSISTENCY_LINEARIZABLE && leases_hold);
}

void history_judge(struct world *w)
{
    struct history *h = &w->history;
    const struct history_item **sorted = calloc(h->count + 1, sizeof *sorted);
    size_t lapses = watch_lapses_count(w->watch);
    struct checker_operation *ops = calloc(h->count + lapses + 1, sizeof *ops);
    ENSURE(sorted != NULL && ops != NULL);
    size_t judged = 0;
    for (size_t i = 0; i < h->count; i++)
        if (must_fit(w, &h->items[i]))
            sorted[judged++] = &h->items[i];
    qsort(sorted, judged, sizeof *sorted, by_key);
    for (size_t i = 0; i < judged && !w->failed;) {
        size_t count = 0, first = i;
        for (; i < judged && sorted[i]->key == sorted[first]->key; i++)
            ops[count++] = sorted[i]->op;
        char name[32];
        history_key(sorted[first]->key, name);
        count += watch_lapses(w->watch, bytes_text(name), ops + count, lapses);
        judge_key(w, &sorted[first], ops, count);
    }
    free(ops);
    free(sorted);
}
