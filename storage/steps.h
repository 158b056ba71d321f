/* Steps: what the registry has to say to each node gathers here and leaves as one message for each
 * (more beyond REGISTRY_STEPS_MAX steps or STEPS_BYTES_MAX of values).
 *
 * A step that finds no memory is lost, as any message may be. Pure; not thread-safe.
 */
#ifndef STORAGE_STEPS_H
#define STORAGE_STEPS_H

#include "storage/acceptor.h"

#define STEPS_BYTES_MAX (1u << 20)

struct step {
    enum registry_kind kind;
    uint32_t number;
    struct ballot ballot, accepted;
    struct acceptor_proposal content;
};

struct steps_peer;

struct steps {
    struct steps_peer *peers[NODES_MAX]; /* NULL: nothing was ever said to it */
    uint32_t busy[NODES_MAX];            /* the nodes that something is gathered for */
    uint32_t busy_count;
    struct registry_message message; /* the arrays of the message that is being sent */
    void (*send)(void *arg, uint32_t node, const struct registry_message *m);
    void *arg;
};

/* STATUS_OK, STATUS_NOMEMORY. send and arg are to be set by the caller. */
enum status steps_init(struct steps *s);
void steps_fini(struct steps *s);

/* Copies the value. voters_version stands in the message if this step makes it leave. */
void steps_add(struct steps *s, uint32_t node, uint64_t voters_version, const struct step *step);
/* All that has gathered leaves. */
void steps_flush(struct steps *s, uint64_t voters_version);

/* Element i of m. */
struct step steps_of(const struct registry_message *m, size_t i);

#endif
