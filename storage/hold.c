#include "storage/hold.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "storage/serve.h"

/* One operation; the views of its copy point behind the struct. */
struct held {
    struct held *next;
    uint64_t since_ms;
    struct operation operation;
};

static uint32_t *waiting_at(struct core *c, uint64_t digest)
{
    return &c->held_digests[digest % HELD_DIGESTS];
}

static bool is_ours(const struct core *c, const struct replica *r)
{
    return c->map->partitions[r->partition].primary == c->options.index;
}

static void refuse(struct core *c, const struct replica *r, const struct operation *op)
{
    c->counters.refused_unavailable++;
    core_refuse(c, op->asker, is_ours(c, r) ? STATUS_UNAVAILABLE : STATUS_ASKPRIMARY);
}

static struct held *copy(const struct core *c, const struct operation *op)
{
    struct held *h = malloc(sizeof *h + op->key.size + op->body.size);
    if (h == NULL)
        return NULL;
    uint8_t *bytes = (uint8_t *)(h + 1);
    *h = (struct held){.since_ms = c->now_ms, .operation = *op};
    if (op->key.size > 0)
        memcpy(bytes, op->key.data, op->key.size);
    if (op->body.size > 0)
        memcpy(bytes + op->key.size, op->body.data, op->body.size);
    h->operation.key = bytes_of(bytes, op->key.size);
    h->operation.body = bytes_of(bytes + op->key.size, op->body.size);
    return h;
}

/* In the order of arrival: an operation that waited for the table first comes before what came
 * later. */
static void insert(struct replica *r, struct held *h)
{
    struct held **at = &r->held;
    if (r->held_last != NULL && r->held_last->operation.arrival <= h->operation.arrival)
        at = &r->held_last->next;
    while (*at != NULL && (*at)->operation.arrival <= h->operation.arrival)
        at = &(*at)->next;
    h->next = *at;
    *at = h;
    if (h->next == NULL)
        r->held_last = h;
}

void hold_until(struct core *c, struct replica *r, const struct operation *op)
{
    if (c->held_count >= c->options.waiters_max) {
        c->counters.refused_busy++;
        core_refuse(c, op->asker, STATUS_BUSY);
        return;
    }
    struct held *h = copy(c, op);
    if (h == NULL) {
        core_fail(c, STATUS_NOMEMORY);
        return;
    }
    if (r->releasing_since_ms != 0) /* it is tried again, and has waited before */
        h->since_ms = r->releasing_since_ms;
    insert(r, h);
    c->held_count++;
    ++*waiting_at(c, op->digest);
}

void hold_or_refuse(struct core *c, struct replica *r, const struct operation *op)
{
    if (is_ours(c, r))
        hold_until(c, r, op);
    else
        refuse(c, r, op);
}

bool hold_behind(struct core *c, struct replica *r, const struct operation *op)
{
    if (r->held == NULL || *waiting_at(c, op->digest) == 0)
        return false;
    const struct held *h = r->held;
    while (h != NULL && h->operation.arrival < op->arrival && h->operation.digest != op->digest)
        h = h->next;
    if (h == NULL || h->operation.arrival >= op->arrival)
        return false;
    hold_until(c, r, op);
    return true;
}

static struct held *take_all(struct core *c, struct replica *r)
{
    struct held *list = r->held;
    for (const struct held *h = list; h != NULL; h = h->next) {
        c->held_count--;
        --*waiting_at(c, h->operation.digest);
    }
    r->held = r->held_last = NULL;
    return list;
}

void hold_release(struct core *c, struct replica *r)
{
    if (r->held == NULL || r->releasing_since_ms != 0)
        return;
    bool over = c->now_ms >= r->held->since_ms + HOLD_MS;
    struct held *next;
    for (struct held *h = take_all(c, r); h != NULL; h = next) {
        next = h->next;
        r->releasing_since_ms = h->since_ms;
        if (c->failed == STATUS_OK && h->operation.deadline_ms > c->now_ms)
            serve_operation(c, r, &h->operation, NULL);
        free(h);
    }
    r->releasing_since_ms = 0;
    for (struct held *h = over ? take_all(c, r) : NULL; h != NULL; h = next) {
        next = h->next;
        refuse(c, r, &h->operation);
        free(h);
    }
}

void hold_drop(struct core *c, struct replica *r)
{
    struct held *next;
    for (struct held *h = take_all(c, r); h != NULL; h = next) {
        next = h->next;
        core_refuse(c, h->operation.asker, STATUS_ASKPRIMARY);
        free(h);
    }
}

void hold_forget(struct core *c, struct replica *r)
{
    struct held *next;
    for (struct held *h = take_all(c, r); h != NULL; h = next) {
        next = h->next;
        free(h);
    }
}
