/* Follow: the replica's side of one partition (design: rules W4, W6, R3). Pure. */
#ifndef STORAGE_FOLLOW_H
#define STORAGE_FOLLOW_H

#include "storage/replica.h"

/* One section of an APPEND; entries are bodies as in record.h. */
struct follow_section {
    uint64_t epoch;
    uint64_t prev_epoch, prev_seq, prev_hash;
    uint64_t commit_seq, durable_seq;
    uint32_t flags;
    size_t entries_count;
    const struct bytes *entries;
};

/* The primary (incarnation) asks for a promise: answered once it is durable. */
void follow_promise(struct core *c, struct replica *r, uint64_t incarnation, uint64_t epoch);
void follow_append(struct core *c, struct replica *r, uint64_t incarnation,
                   const struct follow_section *s);
/* The own log moved. */
void follow_durable(struct core *c, struct replica *r);
/* Every now and then: what is dirty for long may only lack the word that it is committed. */
void follow_tick(struct core *c, struct replica *r);
/* End of turn: acknowledgement and promise go to the outbox. */
void follow_flush(struct core *c, struct replica *r);

#endif
