/* Acceptor: what one voter has promised and accepted, for each register; and who votes.
 *
 * Half of the registry (registry.h); the invariants are numbered there. The acceptor judges and
 * logs, it does not answer: what acceptor_prepare() and acceptor_accept() agree to may be answered
 * once the register's lsn is durable.
 *
 * State only grows: promised and accepted ballots never fall, nor does the version of the voters. A
 * record that is replayed onto a state which holds it already changes nothing.
 *
 * Pure; not thread-safe.
 */
#ifndef STORAGE_ACCEPTOR_H
#define STORAGE_ACCEPTOR_H

#include "storage/registry.h"

/* A register's content, borrowed. */
struct acceptor_proposal {
    uint64_t version;
    struct registry_writer writer;
    struct bytes value; /* at most REGISTRY_VALUE_SIZE_MAX */
};

/* A register's content. Owns data. */
struct acceptor_value {
    uint64_t version;
    struct registry_writer writer;
    uint32_t size;
    uint8_t *data;
};

struct acceptor_register {
    struct ballot promised; /* not below accepted */
    struct ballot accepted; /* counter 0: nothing yet, value is the founding one */
    struct acceptor_value value;
    uint64_t lsn; /* of the last record about it, 0: none since the start */
};

struct acceptor {
    struct acceptor_register *registers;
    uint32_t count;
    struct registry_voters voters; /* obeyed */
    struct registry_voters coming; /* logged, not yet obeyed; version 0: none */
    uint64_t coming_lsn;
    bool changed; /* since the last acceptor_save() */
    /* Log a record; returns its lsn. */
    uint64_t (*log)(void *arg, struct bytes body);
    void *arg;
};

enum acceptor_verdict {
    ACCEPTOR_AGREES,
    ACCEPTOR_REFUSES, /* a higher ballot was promised */
    ACCEPTOR_FAILS,   /* out of memory; nothing changed */
};

/* STATUS_OK, STATUS_NOMEMORY. log and arg are to be set by the caller. */
enum status acceptor_init(struct acceptor *a, uint32_t count, const struct registry_voters *voters);
void acceptor_fini(struct acceptor *a);

/* Copies. False: out of memory, and nothing changed. */
bool acceptor_value_set(struct acceptor_value *v, const struct acceptor_proposal *p);
struct acceptor_proposal acceptor_value_view(const struct acceptor_value *v);
void acceptor_value_fini(struct acceptor_value *v);

/* Does nothing to a register that something was accepted for. STATUS_OK, STATUS_NOMEMORY. */
enum status acceptor_found(struct acceptor *a, uint32_t number, struct bytes value);

enum acceptor_verdict acceptor_prepare(struct acceptor *a, uint32_t number,
                                       const struct ballot *ballot);
enum acceptor_verdict acceptor_accept(struct acceptor *a, uint32_t number,
                                      const struct ballot *ballot,
                                      const struct acceptor_proposal *p);

/* Log a newer set of voters; an older one, or one that is known, is ignored. */
void acceptor_set_voters(struct acceptor *a, const struct registry_voters *voters);
/* Obey the coming set if its record is durable. True: the voters in force have changed. */
bool acceptor_obey(struct acceptor *a, uint64_t durable_lsn);

/* As registry_restore(), _replay() and _save(). */
enum status acceptor_restore(struct acceptor *a, struct bytes blob);
enum status acceptor_replay(struct acceptor *a, struct bytes body);
enum status acceptor_save(struct acceptor *a, struct buffer *out);

#endif
