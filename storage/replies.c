#include "storage/replies.h"

#include <stdlib.h>

#define HASH_NONFATAL_OOM 1 /* else it ends the process without a word */
#include <uthash.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"

#define VALUES_CAP (64u << 20) /* bytes of values answered in one turn before messages leave early */

/* One connection's answers of this turn; the arrays hold MESSAGE_OPERATIONS_MAX elements. */
struct replies_source {
    uint64_t id;
    struct answer answer;
    size_t bytes;
    bool is_touched;
    struct replies_source *next_touched;
    UT_hash_handle hh;
};

void replies_init(struct replies *r)
{
    *r = (struct replies){0};
    arena_init(&r->values);
    arena_reset(&r->values, VALUES_CAP);
}

static void source_destroy(struct replies_source *s)
{
    free(s->answer.ids);
    free(s);
}

void replies_fini(struct replies *r)
{
    struct replies_source *s, *next;
    HASH_ITER(hh, r->sources, s, next)
    {
        HASH_DEL(r->sources, s);
        source_destroy(s);
    }
    arena_fini(&r->values);
    r->touched = NULL;
}

/* All arrays of one answer in one piece of memory, widest elements first. */
static bool source_arrays(struct answer *a)
{
    size_t n = MESSAGE_OPERATIONS_MAX;
    size_t row = 3 * sizeof(uint64_t) + sizeof(struct bytes) + 2 * sizeof(uint32_t);
    uint64_t *memory = malloc(n * row);
    if (memory == NULL)
        return false;
    a->ids = memory;
    a->epochs = memory + n;
    a->seqs = memory + 2 * n;
    a->values = (struct bytes *)(void *)(memory + 3 * n);
    a->statuses = (uint32_t *)(void *)(a->values + n);
    a->flags = a->statuses + n;
    return true;
}

static struct replies_source *source_find(struct replies *r, uint64_t source)
{
    struct replies_source *s;
    HASH_FIND(hh, r->sources, &source, sizeof source, s);
    return s;
}

enum status replies_source(struct replies *r, uint64_t source, uint64_t router_boot)
{
    struct replies_source *s = source_find(r, source);
    if (s == NULL) {
        s = calloc(1, sizeof *s);
        if (s == NULL || !source_arrays(&s->answer)) {
            free(s);
            return STATUS_NOMEMORY;
        }
        s->id = source;
        HASH_ADD(hh, r->sources, id, sizeof s->id, s);
        if (s->hh.tbl == NULL) { /* uthash found no memory, and did not add it */
            source_destroy(s);
            return STATUS_NOMEMORY;
        }
    }
    s->answer.owner = router_boot;
    return STATUS_OK;
}

void replies_forget(struct replies *r, uint64_t source)
{
    struct replies_source *s = source_find(r, source);
    if (s == NULL)
        return;
    for (struct replies_source **at = &r->touched; *at != NULL; at = &(*at)->next_touched)
        if (*at == s) {
            *at = s->next_touched;
            break;
        }
    HASH_DEL(r->sources, s);
    source_destroy(s);
}

static enum status source_send(struct replies_source *s, uint64_t ptime, struct node_effects *out)
{
    if (s->answer.count == 0)
        return STATUS_OK;
    struct node_effect *effect = node_effects_add(out, NODE_SEND_SOURCE);
    if (effect == NULL)
        return STATUS_NOMEMORY;
    effect->source = s->id;
    s->answer.ptime = ptime;
    enum status status = codec_pack_answer(MESSAGE_RESULTS, &s->answer, &effect->frame);
    s->answer.count = 0;
    s->bytes = 0;
    return status;
}

static enum status send_all(struct replies *r, uint64_t ptime, struct node_effects *out)
{
    while (r->touched != NULL) {
        struct replies_source *s = r->touched;
        r->touched = s->next_touched;
        s->is_touched = false;
        enum status status = source_send(s, ptime, out);
        if (status != STATUS_OK)
            return status;
    }
    arena_reset(&r->values, VALUES_CAP);
    return STATUS_OK;
}

static uint32_t flags_of(const struct reply *reply)
{
    return reply->flags | (status_retry(reply->status) ? ANSWER_RETRY : 0) |
           (status_in_doubt(reply->status) ? ANSWER_IN_DOUBT : 0);
}

/* Copy value behind the answers of this turn; when there is no room, what has gathered leaves. */
static uint8_t *value_copy(struct replies *r, struct bytes value, uint64_t ptime,
                           struct node_effects *out)
{
    uint8_t *copy = arena_alloc(&r->values, value.size);
    if (copy == NULL) {
        if (send_all(r, ptime, out) != STATUS_OK)
            return NULL;
        copy = arena_alloc(&r->values, value.size);
    }
    if (copy != NULL)
        memcpy(copy, value.data, value.size);
    return copy;
}

enum status replies_add(struct replies *r, struct asker to, const struct reply *reply,
                        uint64_t ptime, struct node_effects *out)
{
    struct replies_source *s = source_find(r, to.source);
    if (s == NULL)
        return STATUS_OK;
    struct answer *a = &s->answer;
    if (a->count == MESSAGE_OPERATIONS_MAX ||
        (a->count > 0 && s->bytes + reply->value.size > MESSAGE_BYTES_MAX)) {
        enum status status = source_send(s, ptime, out);
        if (status != STATUS_OK)
            return status;
    }
    struct bytes value = BYTES_EMPTY;
    if (reply->value.size > 0) {
        value = bytes_of(value_copy(r, reply->value, ptime, out), reply->value.size);
        if (value.data == NULL)
            return STATUS_NOMEMORY;
    }
    size_t i = a->count++;
    a->ids[i] = to.token;
    a->statuses[i] = (uint32_t)reply->status;
    a->flags[i] = flags_of(reply);
    a->epochs[i] = reply->version.epoch;
    a->seqs[i] = reply->version.seq;
    a->values[i] = value;
    s->bytes += value.size;
    if (!s->is_touched) {
        s->is_touched = true;
        s->next_touched = r->touched;
        r->touched = s;
    }
    return STATUS_OK;
}

enum status replies_flush(struct replies *r, uint64_t ptime, struct node_effects *out)
{
    return send_all(r, ptime, out);
}

struct waiter *replies_waiter_new(struct replies *r, enum waiter_kind kind, struct asker asker,
                                  struct bytes key, struct bytes query)
{
    struct waiter *w = malloc(sizeof *w + key.size + query.size);
    if (w == NULL)
        return NULL;
    *w = (struct waiter){.kind = kind,
                         .asker = asker,
                         .key_size = (uint32_t)key.size,
                         .query_size = (uint32_t)query.size};
    if (key.size > 0)
        memcpy(w->bytes, key.data, key.size);
    if (query.size > 0)
        memcpy(w->bytes + key.size, query.data, query.size);
    r->waiting++;
    return w;
}

void replies_waiter_destroy(struct replies *r, struct waiter **w_p)
{
    ENSURE(r->waiting > 0);
    r->waiting--;
    free(*w_p);
    *w_p = NULL;
}
