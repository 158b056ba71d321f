/* Clock: the time of this machine, for shells only; cores get `now_ms` as an argument. */
#ifndef PROTO_BASE_CLOCK_H
#define PROTO_BASE_CLOCK_H

#include <stdint.h>

/* Milliseconds that never go back and count while suspended (CLOCK_BOOTTIME). */
uint64_t clock_now_ms(void);
/* The same clock in nanoseconds, for measurements. */
uint64_t clock_now_ns(void);
/* Milliseconds since 1970 (CLOCK_REALTIME): only for ptime and log lines. */
uint64_t clock_wall_ms(void);
/* A random number from the kernel; never 0. */
uint64_t clock_random64(void);

#endif
