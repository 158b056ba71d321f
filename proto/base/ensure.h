/* Ensure: what must be true in our own code.
 *
 * ENSURE(cond) prints the condition and the place and aborts, in every build; NDEBUG does not
 * touch it. Only our own mistakes are ENSUREd: what the network, the disk or a user does wrong is
 * an enum status.
 */
#ifndef PROTO_BASE_ENSURE_H
#define PROTO_BASE_ENSURE_H

_Noreturn void ensure_failed(const char *condition, const char *file, int line);

#define ENSURE(condition)                                                                         \
    (__builtin_expect(!!(condition), 1) ? (void)0 : ensure_failed(#condition, __FILE__, __LINE__))

#define ENSURE_UNREACHABLE() ensure_failed("unreachable", __FILE__, __LINE__)

#endif
