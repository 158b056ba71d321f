#include "router/health.h"

void health_init(struct health *h, uint64_t now_ms)
{
    *h =
        (struct health){.state = HEALTH_APART, .quiet_since_ms = now_ms, .silent_since_ms = now_ms};
}

void health_connected(struct health *h, uint64_t now_ms)
{
    if (h->state != HEALTH_APART)
        return;
    h->state = HEALTH_SILENT;
    h->pinged = false;
    h->quiet_since_ms = now_ms;
    h->ping_at_ms = now_ms;
}

bool health_apart(struct health *h, uint64_t now_ms)
{
    bool answered = h->state == HEALTH_ANSWERING;
    if (answered)
        h->silent_since_ms = now_ms;
    h->state = HEALTH_APART;
    h->pinged = false;
    return answered;
}

bool health_heard(struct health *h, uint64_t now_ms, uint64_t *ret_silent_ms)
{
    h->quiet_since_ms = now_ms;
    *ret_silent_ms = 0;
    if (h->state == HEALTH_ANSWERING)
        return false;
    h->state = HEALTH_ANSWERING;
    *ret_silent_ms = now_ms - h->silent_since_ms;
    return true;
}

void health_ponged(struct health *h)
{
    h->pinged = false;
}

void health_busy(struct health *h, uint64_t now_ms, const struct health_limits *limits)
{
    if (!h->pinged)
        h->quiet_since_ms = now_ms;
    if (h->ping_at_ms > now_ms + limits->ping_ms)
        h->ping_at_ms = now_ms + limits->ping_ms;
}

void health_forgive(struct health *h, uint64_t now_ms)
{
    h->quiet_since_ms = now_ms;
}

enum health_advice health_tick(struct health *h, uint64_t now_ms, bool outstanding,
                               const struct health_limits *limits)
{
    if (h->state == HEALTH_APART)
        return HEALTH_FINE;
    if (h->state == HEALTH_ANSWERING && (outstanding || h->pinged) &&
        now_ms >= h->quiet_since_ms + limits->silence_ms) {
        h->state = HEALTH_SILENT;
        h->silent_since_ms = h->quiet_since_ms;
        h->ping_at_ms = now_ms;
        return HEALTH_SILENCE;
    }
    if (now_ms < h->ping_at_ms)
        return HEALTH_FINE;
    /* A ping is the first thing outstanding: silence counts from it. */
    if (!outstanding && !h->pinged)
        h->quiet_since_ms = now_ms;
    h->pinged = true;
    bool often = outstanding || h->state == HEALTH_SILENT;
    h->ping_at_ms = now_ms + (often ? limits->ping_ms : limits->idle_ping_ms);
    return HEALTH_PING;
}

uint64_t health_next(const struct health *h, bool outstanding, const struct health_limits *limits)
{
    if (h->state == HEALTH_APART)
        return UINT64_MAX;
    uint64_t next_ms = h->ping_at_ms;
    uint64_t silence_ms = h->quiet_since_ms + limits->silence_ms;
    if (h->state == HEALTH_ANSWERING && (outstanding || h->pinged) && silence_ms < next_ms)
        next_ms = silence_ms;
    return next_ms;
}
