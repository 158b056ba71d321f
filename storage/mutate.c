#include "storage/mutate.h"

#include <stdio.h>

#include "proto/base/ensure.h"

void mutate_work_init(struct mutate_work *work, uint32_t value_size_max, uint64_t now_ms)
{
    work->value_size_max = value_size_max;
    work->now_ms = now_ms;
    buffer_init(&work->grown, VALUE_SIZE_MAX);
}

void mutate_work_fini(struct mutate_work *work)
{
    buffer_fini(&work->grown);
}

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

static uint64_t expiry_of(const struct item *current)
{
    return current->present ? current->expiry_ms : 0;
}

/* The expiry that w asks for; 0: none. */
static uint64_t new_expiry(const struct write *w, uint64_t now_ms)
{
    if (w->ttl_ms == 0)
        return w->expiry_ms;
    return w->ttl_ms < UINT64_MAX - now_ms ? now_ms + w->ttl_ms : UINT64_MAX;
}

/* No expiry is a time without end, after every other. */
static bool is_before(uint64_t expiry_ms, uint64_t other_ms)
{
    return expiry_ms != 0 && (other_ms == 0 || expiry_ms < other_ms);
}

static bool condition_holds(const struct write *w, const struct item *current, uint64_t now_ms)
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
    case PRECONDITION_EXPIRY_NONE:
        return current->present && current->expiry_ms == 0;
    case PRECONDITION_EXPIRY_SET:
        return current->present && current->expiry_ms != 0;
    case PRECONDITION_EXPIRY_BEFORE:
        return current->present && is_before(current->expiry_ms, new_expiry(w, now_ms));
    case PRECONDITION_EXPIRY_AFTER:
        return current->present && is_before(new_expiry(w, now_ms), current->expiry_ms);
    }
    ENSURE_UNREACHABLE();
}

/* Numbers come from the wire: a newer client may know more of them than we do. */
static bool known(const struct write *w)
{
    return (unsigned)w->precondition <= PRECONDITION_EXPIRY_AFTER &&
           (unsigned)w->mutation <= MUTATION_SET_EXPIRY && (unsigned)w->want <= WANT_NEW;
}

static void put_value(struct mutate_outcome *ret, struct bytes value, uint64_t expiry_ms)
{
    ret->has_effect = true;
    ret->effect.kind = EFFECT_PUT;
    ret->effect.value = value;
    ret->effect.expiry_ms = expiry_ms;
}

static void increment(const struct write *w, const struct item *current, struct mutate_work *work,
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
    int size = snprintf(work->text, sizeof work->text, "%lld", (long long)number);
    ENSURE(size > 0 && size < (int)sizeof work->text);
    put_value(ret, bytes_of(work->text, (size_t)size), expiry_of(current));
}

static void increment_decimal(const struct write *w, const struct item *current,
                              struct mutate_work *work, struct mutate_outcome *ret)
{
    struct decimal number = {0}, delta, sum;
    if ((current->present && !decimal_parse(current->value, &number)) ||
        !decimal_parse(w->value, &delta)) {
        ret->status = STATUS_NOTNUMBER;
        return;
    }
    if (!decimal_add(&number, &delta, &sum)) {
        ret->status = STATUS_OVERFLOW;
        return;
    }
    put_value(ret, bytes_of(work->text, decimal_print(&sum, work->text)), expiry_of(current));
}

/* The value that stands there with w's value over it from offset on. */
static void lay_over(const struct write *w, const struct item *current, uint64_t offset,
                     struct mutate_work *work, struct mutate_outcome *ret)
{
    struct bytes old = current->present ? current->value : BYTES_EMPTY;
    if (offset > work->value_size_max || w->value.size > work->value_size_max - offset) {
        ret->status = STATUS_OVERFLOW;
        return;
    }
    size_t end = (size_t)offset + w->value.size;
    size_t size = end > old.size ? end : old.size;
    uint8_t *to = buffer_reserve(&work->grown, size);
    if (to == NULL && size > 0) {
        ret->status = STATUS_NOMEMORY;
        return;
    }
    if (old.size > 0)
        memcpy(to, old.data, old.size);
    if (size > old.size)
        memset(to + old.size, 0, size - old.size);
    if (w->value.size > 0)
        memcpy(to + offset, w->value.data, w->value.size);
    put_value(ret, bytes_of(to, size), expiry_of(current));
}

static void apply_mutation(const struct write *w, const struct item *current,
                           struct mutate_work *work, struct mutate_outcome *ret)
{
    switch (w->mutation) {
    case MUTATION_NONE:
        return;
    case MUTATION_PUT:
        put_value(ret, w->value, new_expiry(w, work->now_ms));
        return;
    case MUTATION_PUT_KEEP_EXPIRY:
        put_value(ret, w->value, expiry_of(current));
        return;
    case MUTATION_DELETE:
        ret->has_effect = current->present;
        ret->effect.kind = EFFECT_DELETE;
        ret->status = current->present ? STATUS_OK : STATUS_NOTFOUND;
        return;
    case MUTATION_INCREMENT:
        increment(w, current, work, ret);
        return;
    case MUTATION_INCREMENT_DECIMAL:
        increment_decimal(w, current, work, ret);
        return;
    case MUTATION_APPEND:
        lay_over(w, current, current->present ? current->value.size : 0, work, ret);
        return;
    case MUTATION_SET_RANGE:
        if (w->value.size > 0) /* nothing over nothing: not even a gap is made */
            lay_over(w, current, w->offset, work, ret);
        return;
    case MUTATION_SET_EXPIRY:
        if (current->present)
            put_value(ret, current->value, new_expiry(w, work->now_ms));
        else
            ret->status = STATUS_NOTFOUND;
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

void mutate(const struct write *w, const struct item *current, struct mutate_work *work,
            struct mutate_outcome *ret)
{
    *ret = (struct mutate_outcome){.status = STATUS_UNSUPPORTED};
    if (!known(w))
        return;
    ret->status = condition_holds(w, current, work->now_ms) ? STATUS_OK : STATUS_CONDITION;
    if (ret->status == STATUS_OK)
        apply_mutation(w, current, work, ret);
    if (ret->status == STATUS_OK || ret->status == STATUS_CONDITION)
        answer_wanted(w, current, ret);
    ENSURE(!ret->has_effect || ret->status == STATUS_OK);
}
