#include "storage/atomic.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "proto/codec.h"
#include "proto/partition.h"

/* Does judging w need what is there? A blind put does not look. */
static bool looks(const struct write *w)
{
    return w->precondition != PRECONDITION_NONE || w->mutation != MUTATION_PUT ||
           w->want != WANT_NOTHING;
}

/* ------------------------------------------------------------------ what came */

static int compare_keys(const void *a, const void *b)
{
    return bytes_compare(*(const struct bytes *)a, *(const struct bytes *)b);
}

/* Two writes on one key would have an order, and one of them would not be judged against what was there
 * before. */
static bool all_different(const struct atomic *a)
{
    struct bytes sorted[ATOMIC_KEYS_MAX];
    memcpy(sorted, a->keys, a->count * sizeof *sorted);
    qsort(sorted, a->count, sizeof *sorted, compare_keys);
    for (size_t i = 1; i < a->count; i++)
        if (bytes_equal(sorted[i - 1], sorted[i]))
            return false;
    return true;
}

static enum status check_keys(const struct atomic *a, struct bytes tag)
{
    for (size_t i = 0; i < a->count; i++) {
        if (a->keys[i].size > KEY_SIZE_MAX)
            return STATUS_TOOBIG;
        if (a->keys[i].size == 0 || !bytes_equal(partition_hash_tag(a->keys[i]), tag))
            return STATUS_USAGE;
    }
    return all_different(a) ? STATUS_OK : STATUS_USAGE;
}

static enum status open_writes(struct atomic *a, const struct atomic_batch *batch)
{
    for (size_t i = 0; i < a->count; i++) {
        enum status status = codec_unpack_write(batch->operations[i], a->arena, &a->writes[i]);
        if (status != STATUS_OK)
            return status;
        if (a->writes[i].value.size > a->value_size_max)
            return STATUS_TOOBIG;
        a->needs_current[i] = looks(&a->writes[i]);
    }
    return STATUS_OK;
}

static bool make_room(struct atomic *a)
{
    struct atomic_answer *answer = &a->answer;
    a->writes = arena_calloc(a->arena, a->count, sizeof *a->writes);
    a->needs_current = arena_calloc(a->arena, a->count, sizeof *a->needs_current);
    a->current = arena_calloc(a->arena, a->count, sizeof *a->current);
    a->effects = arena_calloc(a->arena, a->count, sizeof *a->effects);
    answer->statuses = arena_calloc(a->arena, a->count, sizeof *answer->statuses);
    answer->flags = arena_calloc(a->arena, a->count, sizeof *answer->flags);
    answer->values = arena_calloc(a->arena, a->count, sizeof *answer->values);
    answer->count = a->count;
    return a->writes != NULL && a->needs_current != NULL && a->current != NULL &&
           a->effects != NULL && answer->statuses != NULL && answer->flags != NULL &&
           answer->values != NULL;
}

enum status atomic_open(struct atomic *a, struct bytes key, struct bytes body,
                        uint32_t value_size_max, struct arena *arena)
{
    struct atomic_batch batch;
    *a = (struct atomic){.arena = arena, .value_size_max = value_size_max};
    if (codec_unpack_atomic_batch(body, arena, &batch) != STATUS_OK)
        return STATUS_MALFORMED;
    a->count = batch.count;
    a->keys = batch.keys;
    enum status status = check_keys(a, partition_hash_tag(key));
    if (status == STATUS_OK && !make_room(a))
        status = STATUS_NOMEMORY;
    return status == STATUS_OK ? open_writes(a, &batch) : status;
}

/* ------------------------------------------------------------------ judging */

/* A deletion of what is not there has done what it was to do. */
static bool is_failure(enum status status)
{
    return status != STATUS_OK && status != STATUS_NOTFOUND && !MUTANT(60);
}

static void answer_value(struct atomic *a, size_t i, bool present, struct bytes value)
{
    a->answer.flags[i] = present ? ANSWER_VALUE : 0;
    a->answer.values[i] = present ? value : BYTES_EMPTY;
}

/* Nothing is changed: those that asked for a value hear what was found. */
static void answer_found(struct atomic *a)
{
    for (size_t i = 0; i < a->count; i++)
        if (a->writes[i].want != WANT_NOTHING)
            answer_value(a, i, a->current[i].present, a->current[i].value);
}

static void take_effects(struct atomic *a, const struct mutate_outcome *outcomes)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < a->count; i++) {
        const struct mutate_outcome *m = &outcomes[i];
        answer_value(a, i, m->has_result, m->result);
        if (!m->has_effect)
            continue;
        a->effects[a->effects_count] = m->effect;
        a->effects[a->effects_count++].key = a->keys[i];
        bytes += m->effect.value.size;
    }
    if (bytes <= VALUE_SIZE_MAX)
        return;
    a->effects_count = 0; /* values grew beyond what one entry holds */
    a->status = STATUS_OVERFLOW;
    answer_found(a);
}

/* Values that do not travel in one answer are left out. */
static void drop_large(struct atomic *a)
{
    size_t size = 0;
    for (size_t i = 0; i < a->count; i++)
        size += a->answer.values[i].size;
    if (size <= ATOMIC_BYTES_MAX)
        return;
    a->answer.flags = NULL;
    a->answer.values = NULL;
    a->answer.dropped = true;
}

void atomic_judge(struct atomic *a, uint64_t now_ms)
{
    struct mutate_outcome *outcomes = arena_calloc(a->arena, a->count, sizeof *outcomes);
    a->works = arena_calloc(a->arena, a->count, sizeof *a->works);
    a->status = outcomes == NULL || a->works == NULL ? STATUS_NOMEMORY : STATUS_OK;
    for (size_t i = 0; i < a->count && a->status != STATUS_NOMEMORY; i++) {
        mutate_work_init(&a->works[i], a->value_size_max, now_ms);
        mutate(&a->writes[i], &a->current[i], &a->works[i], &outcomes[i]);
        a->answer.statuses[i] = outcomes[i].status;
        if (outcomes[i].status == STATUS_NOMEMORY ||
            (a->status == STATUS_OK && is_failure(outcomes[i].status)))
            a->status = outcomes[i].status;
    }
    if (a->status == STATUS_NOMEMORY)
        return;
    if (a->status == STATUS_OK)
        take_effects(a, outcomes);
    else
        answer_found(a);
    drop_large(a);
}

void atomic_fini(struct atomic *a)
{
    for (size_t i = 0; a->works != NULL && i < a->count; i++)
        mutate_work_fini(&a->works[i]);
    a->works = NULL;
}
