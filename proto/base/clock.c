#include "proto/base/clock.h"

#include <errno.h>
#include <stddef.h>
#include <sys/random.h>
#include <time.h>

#include "proto/base/ensure.h"

static uint64_t read_ns(clockid_t id)
{
    struct timespec now;
    ENSURE(clock_gettime(id, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_now_ms(void)
{
    return read_ns(CLOCK_BOOTTIME) / 1000000;
}

uint64_t clock_now_ns(void)
{
    return read_ns(CLOCK_BOOTTIME);
}

uint64_t clock_wall_ms(void)
{
    return read_ns(CLOCK_REALTIME) / 1000000;
}

uint64_t clock_random64(void)
{
    uint64_t number = 0;
    while (number == 0) {
        /* Up to 256 bytes come whole or not at all; only a signal before the kernel's pool is
         * ready can interrupt. */
        ssize_t got = getrandom(&number, sizeof number, 0);
        if (got < 0) {
            ENSURE(errno == EINTR);
            number = 0;
            continue;
        }
        ENSURE(got == sizeof number);
    }
    return number;
}
