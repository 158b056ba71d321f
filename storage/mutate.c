#include "storage/mutate.h"

#include <stdio.h>

#include "proto/base/ensure.h"

/* Canonical decimal text only: what we would write ourselves. So a counter's text never changes
 * under an increment of 0, and equal numbers are equal values. */
static bool parse_number(struct bytes text, int64_t *ret)
{
    size_t i = 0;
    bool negative = text.size > 0 && text.data[0] == '-';
    if (negative)
        i = 1;
    size_t digits = text.size - i;
    if (digits == 0 || digits > 19 || (text.data[i] == '0' && text.size > 1))
        return false;
    uint64_t size = 0; /* 19 digits fit */
    for (; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        size = size * 10 + (uint64_t)(text.data[i] - '0');
    }
    if (size > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return false;
    *ret = negative ? (int64_t)(0 - size) : (int64_t)size;
    return true;
}

static bool version_equal(struct version a, struct version b)
{
    return a.epoch == b.epoch && a.seq == b.seq;
}

static bool condition_holds(const struct write *w, const struct item *current)
{
    switch (w->precondition) {
    case PRECONDITION_NONE:
        return true;
    case PRECONDITION_ABSENT:
        return !current->present;
    case PRECONDITION_PRESENT:
        return current->present;
    case PRECONDITION_VERSION:
        /* {0,0} is the version of a key that is not there. */
        return version_equal(w->expected,
                             current->present ? current->version : (struct version){0, 0});
    case PRECONDITION_VALUE:
        return current->present && bytes_equal(w->expected_value, current->value);
    }
    ENSURE_UNREACHABLE();
}

/* Numbers come from the wire: a newer client may know more of them than we do. */
static bool known(const struct write *w)
{
    return (unsigned)w->precondition <= PRECONDITION_VALUE &&
           (unsigned)w->mutation <= MUTATION_INCREMENT && (unsigned)w->want <= WANT_NEW;
}

static void put_value(struct mutate_outcome *ret, struct bytes value, uint64_t expiry_ms)
{
    ret->has_effect = true;
    ret->effect.kind = EFFECT_PUT;
    ret->effect.value = value;
    ret->effect.expiry_ms = expiry_ms;
}

static void increment(const struct write *w, const struct item *current, char *scratch,
                      struct mutate_outcome *ret)
{
    int64_t number = 0;
    if (current->present && !parse_number(current->value, &number)) {
        ret->status = STATUS_NOTNUMBER;
        return;
    }
    if (__builtin_add_overflow(number, w->delta, &number)) {
        ret->status = STATUS_OVERFLOW;
        return;
    }
    int size = snprintf(scratch, MUTATE_SCRATCH_SIZE, "%lld", (long long)number);
    ENSURE(size > 0 && size < MUTATE_SCRATCH_SIZE);
    put_value(ret, bytes_of(scratch, (size_t)size), current->present ? current->expiry_ms : 0);
}

static void apply_mutation(const struct write *w, const struct item *current, char *scratch,
                           struct mutate_outcome *ret)
{
    switch (w->mutation) {
    case MUTATION_NONE:
        return;
    case MUTATION_PUT:
        put_value(ret, w->value, 0);
        return;
    case MUTATION_PUT_KEEP_EXPIRY:
        put_value(ret, w->value, current->present ? current->expiry_ms : 0);
        return;
    case MUTATION_DELETE:
        ret->has_effect = current->present;
        ret->effect.kind = EFFECT_DELETE;
        ret->status = current->present ? STATUS_OK : STATUS_NOTFOUND;
        return;
    case MUTATION_INCREMENT:
        increment(w, current, scratch, ret);
        return;
    }
    ENSURE_UNREACHABLE();
}

static void give_result(struct mutate_outcome *ret, bool present, struct bytes value)
{
    ret->has_result = present;
    ret->result = present ? value : BYTES_EMPTY;
}

static void answer_wanted(const struct write *w, const struct item *current,
                          struct mutate_outcome *ret)
{
    /* What a failed condition found is worth more than nothing: the caller may try again with it.
     */
    bool old = w->want == WANT_OLD || ret->status == STATUS_CONDITION || !ret->has_effect;
    if (w->want == WANT_NOTHING)
        return;
    if (old)
        give_result(ret, current->present, current->value);
    else
        give_result(ret, ret->effect.kind == EFFECT_PUT, ret->effect.value);
}

void mutate(const struct write *w, const struct item *current,
            char scratch[static MUTATE_SCRATCH_SIZE], struct mutate_outcome *ret)
{
    *ret = (struct mutate_outcome){.status = STATUS_UNSUPPORTED};
    if (!known(w))
        return;
    ret->status = condition_holds(w, current) ? STATUS_OK : STATUS_CONDITION;
    if (ret->status == STATUS_OK)
        apply_mutation(w, current, scratch, ret);
    if (ret->status == STATUS_OK || ret->status == STATUS_CONDITION)
        answer_wanted(w, current, ret);
    ENSURE(!ret->has_effect || ret->status == STATUS_OK);
}
