#include "proto/base/notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

/* The watchdog is fed so often within its time that a turn that comes late does no harm. */
#define FEEDS 4

static uint64_t feed_every_ms; /* 0: no watchdog */
static uint64_t feed_due_ms = UINT64_MAX;

void notify_init(void)
{
    uint64_t watchdog_us;
    feed_every_ms = 0;
    feed_due_ms = UINT64_MAX;
    if (sd_watchdog_enabled(0, &watchdog_us) <= 0)
        return;
    feed_every_ms = watchdog_us / 1000 / FEEDS;
    feed_due_ms = 0;
}

/* The words before the status are the protocol's; a line break in the status would end it. */
static void say(const char *words, const char *format, va_list args)
{
    char status[NOTIFY_SIZE_MAX];
    vsnprintf(status, sizeof status, format, args);
    for (char *c = status; *c != '\0'; c++)
        if (*c == '\n')
            *c = ' ';
    (void)sd_notifyf(0, "%sSTATUS=%s", words, status);
}

void notify_starting(const char *format, ...)
{
    char words[64];
    va_list args;
    snprintf(words, sizeof words, "EXTEND_TIMEOUT_USEC=%llu\n", NOTIFY_EXTEND_MS * 1000ull);
    va_start(args, format);
    say(words, format, args);
    va_end(args);
}

void notify_ready(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("READY=1\n", format, args);
    va_end(args);
}

void notify_status(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("", format, args);
    va_end(args);
}

void notify_turn(uint64_t now_ms)
{
    if (now_ms < feed_due_ms)
        return;
    feed_due_ms = now_ms + feed_every_ms;
    (void)sd_notify(0, "WATCHDOG=1");
}

void notify_stopping(void)
{
    (void)sd_notify(0, "STOPPING=1\nSTATUS=stopping");
}
