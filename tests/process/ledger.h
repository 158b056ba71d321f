/* Ledger: what a run asked the store and heard, and whether it can have been so.
 *
 * The keys of a run are numbered. An operation is entered before it is submitted and completed when
 * its answer comes; moments of one counter order all of that. At the end every key's history goes
 * through the checker of the simulator (tests/sim/checker.h), and counters are added up.
 *
 * - ledger_ask() / ledger_hear()   an operation leaves, its answer came
 * - ledger_settle()                what duet_outcome() told about a write in doubt
 * - ledger_judge()                 all keys, and the counters
 *
 * Asking, hearing and settling are thread-safe.
 */
#ifndef TESTS_PROCESS_LEDGER_H
#define TESTS_PROCESS_LEDGER_H

#include <stdatomic.h>

#include "client/duet.h"
#include "tests/sim/checker.h"

#define LEDGER_KEY_SIZE   64
#define LEDGER_STILL_KEYS 512

/* What is done to a key, by its number: see ledger_key_kind(). */
enum ledger_key_kind {
    LEDGER_COUNTER,  /* increments and gets only: its sum is checked as well */
    LEDGER_REGISTER, /* texts: puts, conditional puts, deletes */
    LEDGER_MIXED,    /* numbers and texts, increments, deletes, checks */
    LEDGER_PARTS,    /* short texts of texts.h: changes of a part of them, and expiries far ahead */
    LEDGER_STILL,    /* the first LEDGER_STILL_KEYS: written once, then read only */
};

struct ledger_item {
    uint32_t key;
    struct duet_id id;
    uint64_t asked_ms; /* CLOCK_BOOTTIME */
    bool ended;
    bool doubted; /* it was in doubt when its deadline came */
    struct checker_operation op;
};

/* The last value and version of a key that anybody saw: what conditions are made of. */
struct ledger_glimpse {
    struct checker_value value;
    struct version version;
};

struct ledger {
    const char *prefix; /* of every key, so that runs can share a cluster */
    struct ledger_item *items;
    size_t items_max;
    atomic_size_t items_count;
    atomic_uint_fast64_t moment;
    atomic_uint_fast64_t value_drawn; /* values of one run differ */
    atomic_uint_fast32_t keys_count;

    /* Figures. */
    atomic_uint_fast64_t reads_done, reads_not_done, writes_done, writes_not_done, writes_doubted;
    atomic_uint_fast64_t settled_done, settled_aborted;
    atomic_uint_fast64_t read_ms_max, write_ms_max;                /* of those that were done */
    atomic_uint_fast64_t still_done, still_not_done, still_ms_max; /* reads of still keys */
    atomic_uint_fast64_t read_gap_ms_max, write_gap_ms_max;
    atomic_uint_fast64_t read_last_ms, write_last_ms; /* moments of the last acknowledgement */
    atomic_uint_fast64_t slow_told;
    atomic_uint_fast64_t strange;    /* answers that may not be: unknown values or codes */
    struct ledger_glimpse *glimpses; /* by key; guarded by glimpse_lock */
    atomic_flag glimpse_lock;
    atomic_flag texts_lock; /* texts.h is of one thread */
};

void ledger_init(struct ledger *l, const char *prefix, size_t items_max, size_t keys_max);
void ledger_fini(struct ledger *l);

enum ledger_key_kind ledger_key_kind(uint32_t key);
/* The text of a key; every fifth shares its hash tag with its neighbours (ledger_tag()). */
size_t ledger_key(const struct ledger *l, uint32_t key, char to[static LEDGER_KEY_SIZE]);
/* The keys of one hash tag, of which key is one if it is of any; ascending. */
#define LEDGER_TAG_KEYS 8
void ledger_tag(uint32_t key, uint32_t keys[static LEDGER_TAG_KEYS]);
/* The text of a value of key, allocated. Texts have a filling, some of them a large one, so that cut or
 * mixed values are noticed. */
char *ledger_value(struct ledger *l, uint32_t key, struct checker_value v, size_t *ret_size);
/* The value that a text stands for: of LEDGER_PARTS only, where every text is one. */
struct checker_value ledger_part(struct ledger *l, const char *text);

void ledger_glimpse(struct ledger *l, uint32_t key, struct ledger_glimpse *ret);

/* Enter an operation that is about to be submitted. NULL: the ledger is full. */
struct ledger_item *ledger_ask(struct ledger *l, uint32_t key, const struct checker_operation *op);
/* It was not even taken. */
void ledger_refuse(struct ledger *l, struct ledger_item *item);
void ledger_hear(struct ledger *l, struct ledger_item *item, const struct duet_result *result);
/* A read whose answer was a part of a page: the key with this version and value, or version NULL: none.
 */
void ledger_see(struct ledger *l, struct ledger_item *item, const struct duet_version *version,
                struct duet_slice value);
/* False: still in doubt. */
bool ledger_settle(struct ledger *l, struct ledger_item *item, const struct duet_result *result);

struct ledger_verdict {
    size_t keys, good, broken, undecided;
    size_t counters, counters_wrong;
    uint64_t checker_steps;
};

/* Judge all keys; whatever is wrong is told on stderr. */
void ledger_judge(struct ledger *l, struct ledger_verdict *ret);

#endif
