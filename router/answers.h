/* Answers: what goes back to clients. Part of the coordinator (core.h).
 *
 * - answers_slot()       take a free slot
 * - answers_add()        an operation is answered
 * - answers_flush()      one message for each asker and for each complete whole request
 */
#ifndef ROUTER_ANSWERS_H
#define ROUTER_ANSWERS_H

#include "router/core.h"

struct result {
    enum status status;
    uint32_t flags;
    struct version version;
    struct bytes value; /* valid until the flush, unless the operation owns it already */
};

/* OPERATION_NONE when none is free. The operation is FREE and zeroed but for its generation. */
uint32_t answers_slot(struct coordinator *c);

/* The operation (in no list and no lane) is answered. */
void answers_add(struct coordinator *c, uint32_t index, const struct result *result);

/* Give the operation memory of its own for its answer; it is freed with the slot. */
void answers_own(struct coordinator *c, uint32_t index, uint8_t *owned, size_t size);

void answers_flush(struct coordinator *c);

/* Send count answers with one status at once, without slots: ids first_seq, first_seq + 1, ... */
void answers_refuse(struct coordinator *c, uint64_t source, uint64_t client_id, uint64_t first_seq,
                    size_t count, enum status status);

/* A frame that cannot be served as a whole. */
void answers_refused(struct coordinator *c, uint64_t source, enum status status, const char *text);

#endif
