/* History: what the clients asked and heard, and whether it can have been so.
 *
 * - history_ask()     an operation leaves a client
 * - history_hear()    its completion came
 * - history_settle()  an outcome query told what became of a write in doubt
 * - history_judge()   all keys through the checker
 */
#ifndef TESTS_SIM_HISTORY_H
#define TESTS_SIM_HISTORY_H

#include "proto/base/buffer.h"
#include "tests/sim/checker.h"

struct world;

struct history_item {
    uint32_t key; /* number; history_key() has the text */
    uint32_t client;
    uint64_t client_id, seq; /* the operation's id */
    struct checker_operation op;
    /* One of batch_count that were asked as one, from batch_first on; 0: it was asked alone. */
    size_t batch_first;
    uint32_t batch_count;
    enum status batch_status; /* DONE: of all together */
    bool ended;
    uint64_t deadline_ms; /* in the client's clock: it must have ended by then */
};

struct history {
    struct history_item *items;
    size_t count, capacity;
    uint64_t moment; /* orders all events of the run */
    size_t open;     /* asked and not ended */
};

void history_fini(struct history *h);
/* op: what was asked. Returns the item's number. */
size_t history_ask(struct history *h, uint32_t key, uint32_t client,
                   const struct checker_operation *op);

struct history_heard {
    enum status status;
    uint32_t flags;
    struct version version;
    struct bytes value;
};

/* world_fail() when the answer is none that may be given. */
void history_hear(struct world *w, size_t item, const struct history_heard *heard);
void history_settle(struct world *w, size_t item, const struct history_heard *heard);

/* I7, key by key. */
void history_judge(struct world *w);

/* The text of a key. */
void history_key(uint32_t key, char to[static 32]);

#endif
