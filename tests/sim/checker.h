/* Checker: is the history of one key linearizable?
 *
 * All guarantees of the store are per key, so a history is split by key first (the caller does it).
 * An operation has an interval [invoked, returned] in some clock that orders all events of the run.
 *
 *   DONE      the caller heard what came of it; it took effect once inside its interval
 *   NOT_DONE  the caller heard that it had no effect: it is left out
 *   IN_DOUBT  nobody knows: it took effect once after it was invoked (at any time), or never
 *
 * Versions prune the search. All versions that a key's writes return are positions in one log, so
 * writes take effect in the order of their versions, and a read that returns a version shows that
 * write. Nothing breaks where a version is missing (zero); the search is just longer.
 *
 * Operations of one session (not 0) on the key take effect in the order in which they were invoked
 * (design rule W8), those in doubt excepted; reads that follow each other without a write between
 * them may overtake each other.
 *
 * Writes of one client (not 0) that change the key do so in the order in which they were invoked,
 * whatever connections they took; one in doubt before all later ones that did, or never.
 *
 * A key with an expiry goes by a `lapse`, which is taken from the log: it may not come before the expiry,
 * and without one the key does not go. A read that shows a key after its expiry is wrong, too, when no
 * clock was behind it.
 *
 * The search is Wing and Gong's with Lowe's memory of visited states. With few concurrent
 * operations and versions it is close to linear.
 */
#ifndef TESTS_SIM_CHECKER_H
#define TESTS_SIM_CHECKER_H

#include <stddef.h>

#include "proto/message.h"

enum checker_outcome { CHECKER_DONE, CHECKER_NOT_DONE, CHECKER_IN_DOUBT };

/* What a key holds: nothing, a number (decimal text), or another text known by its number; `made`: one
 * that texts.h keeps. */
struct checker_value {
    bool present, number;
    int64_t n;
    bool made;
};

/* An expiry: 0 none, EXPIRY_SOME one that nobody knows (the primary added a time to its clock), else ms. */
#define EXPIRY_SOME INT64_C(-1)

struct checker_operation {
    /* What was asked. */
    bool read; /* a get; else a write */
    enum consistency consistency; /* a read: how; what is not linearizable is not judged here */
    bool of_expiry;   /* a read: of the expiry; value_seen is it */
    int64_t expiry;   /* of a put or a set-expiry */
    uint64_t ttl_ms;  /* with EXPIRY_SOME */
    /* Not asked: the store let the key go. The log has it: version, and its ptime in `at_ms`. */
    bool lapse;
    int64_t at_ms;
    int64_t clocks_ms; /* a read: when it was asked, no clock of a node was behind this; 0: not known */
    enum precondition precondition;
    enum mutation mutation;
    struct checker_value value;          /* of a put, append, set range or decimal increment */
    int64_t delta;                       /* of an increment */
    uint64_t offset;                     /* of a set range */
    struct version expected;             /* PRECONDITION_VERSION */
    struct checker_value expected_value; /* PRECONDITION_VALUE */
    enum want want;
    uint64_t session, client;
    uint64_t invoked;

    /* What was heard. */
    enum checker_outcome outcome;
    uint64_t returned;      /* DONE only */
    enum status status;     /* OK, CONDITION, NOTFOUND, NOTNUMBER, OVERFLOW */
    struct version version; /* of the write's entry; of what a read shows; 0: not known */
    bool has_value;         /* value_seen is what a read or a want returned */
    struct checker_value value_seen;
};

enum checker_verdict {
    CHECKER_GOOD,
    CHECKER_BROKEN,
    CHECKER_UNDECIDED, /* steps_max was not enough */
};

struct checker_result {
    enum checker_verdict verdict;
    uint64_t steps; /* states tried */
    size_t reached; /* most DONE operations that any attempt could order */
    size_t stuck;   /* BROKEN: index of an operation that could not be ordered then */
};

/* Judge operations[0..count), in any order. steps_max bounds the search (0: a default). */
void checker_judge(const struct checker_operation *operations, size_t count, uint64_t steps_max,
                   struct checker_result *ret);

/* The rules of one key, shared with the brute force of the checker's own tests. */
struct checker_state {
    struct checker_value value;
    int64_t expiry;         /* of the value */
    struct version version; /* of the value; zero: not known, or absent */
    struct version last;    /* highest version that took its place */
    /* When something is there whose version nobody has heard: it lies between these two (zero:
     * no bound). */
    struct version unheard_above, unheard_below;
};

/* Let op take effect in *state. False: what it heard does not fit. For an operation in doubt also
 * false when it would change nothing. */
bool checker_step(const struct checker_operation *op, struct checker_state *state);

/* One line for a report. */
void checker_describe(const struct checker_operation *op, char *to, size_t size);

#endif
