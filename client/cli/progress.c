#include "client/cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "proto/base/clock.h"

#define INTERVAL_MS 200

void progress_begin(struct progress *p, const char *verb, uint64_t total_bytes, bool quiet)
{
    *p = (struct progress){.verb = verb, .quiet = quiet, .total_bytes = total_bytes};
    p->shown = !quiet && isatty(STDERR_FILENO) != 0;
    p->begin_ms = p->last_ms = clock_now_ms();
}

static double seconds_of(const struct progress *p, uint64_t now_ms)
{
    return (double)(now_ms - p->begin_ms + 1) / 1000;
}

static void show(const struct progress *p, uint64_t now_ms)
{
    double seconds = seconds_of(p, now_ms);
    double part = p->part;
    fprintf(stderr, "\r%s %llu, ", p->verb, (unsigned long long)p->records);
    if (p->bytes > 0)
        fprintf(stderr, "%.1f MB, ", (double)p->bytes / 1e6);
    fprintf(stderr, "%.0f/s", (double)p->records / seconds);
    if (p->total_bytes > 0 && p->bytes <= p->total_bytes)
        part = (double)p->bytes / (double)p->total_bytes;
    if (part > 0)
        fprintf(stderr, ", %.0f %%, %.0f s left", part * 100, seconds / part - seconds);
    fputs("\033[K", stderr);
}

void progress_add(struct progress *p, uint64_t bytes)
{
    p->records++;
    p->bytes += bytes;
    /* The clock is asked now and then only. */
    if (!p->shown || p->records % 64 != 0)
        return;
    uint64_t now_ms = clock_now_ms();
    if (now_ms - p->last_ms < INTERVAL_MS)
        return;
    p->last_ms = now_ms;
    show(p, now_ms);
}

void progress_part(struct progress *p, uint64_t records, double part)
{
    uint64_t now_ms = p->shown ? clock_now_ms() : 0;
    p->records = records;
    p->part = part;
    if (!p->shown || now_ms - p->last_ms < INTERVAL_MS)
        return;
    p->last_ms = now_ms;
    show(p, now_ms);
}

void progress_end(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    if (p->quiet)
        return;
    double seconds = seconds_of(p, clock_now_ms());
    fprintf(stderr, "%s %llu records", p->verb, (unsigned long long)p->records);
    if (p->bytes > 0)
        fprintf(stderr, ", %.1f MB", (double)p->bytes / 1e6);
    fprintf(stderr, " in %.1f s (%.0f/s)\n", seconds, (double)p->records / seconds);
}
