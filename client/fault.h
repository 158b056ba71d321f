/* Fault: a struct duet_error, filled.
 *
 * The public codes are those of proto/base/status.h; fault.c proves it at compile time.
 */
#ifndef CLIENT_FAULT_H
#define CLIENT_FAULT_H

#include "client/duet.h"
#include "proto/base/status.h"

/* DUET_RETRYABLE, DUET_FATAL, DUET_IN_DOUBT of an outcome; answer_flags are ANSWER_* or 0. */
uint32_t fault_flags(enum status s, uint32_t answer_flags);

/* Fill reterr (may be NULL) and return code. */
enum duet_code fault_set(struct duet_error *reterr, enum duet_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
