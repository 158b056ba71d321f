/* The public calls, built on client_submit(). */
#include "client/calls.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/fault.h"
#include "proto/base/ensure.h"
#include "proto/codec.h"

/* ---- Results ---- */

static struct duet_result *result_dup(const struct duet_result *from)
{
    struct duet_result *result = malloc(sizeof *result + from->value.size + 1);
    if (result == NULL)
        return NULL;
    *result = *from;
    uint8_t *value = (uint8_t *)(result + 1);
    if (from->value.size > 0)
        memcpy(value, from->value.data, from->value.size);
    value[from->value.size] = 0;
    result->value.data = from->has_value ? value : NULL;
    return result;
}

void duet_result_free(struct duet_result **result_p)
{
    if (result_p == NULL)
        return;
    free(*result_p);
    *result_p = NULL;
}

enum duet_code duet_result_code(const struct duet_result *result)
{
    return result->code;
}

uint32_t duet_result_flags(const struct duet_result *result)
{
    return result->flags;
}

struct duet_slice duet_result_value(const struct duet_result *result)
{
    return result->value;
}

bool duet_result_has_value(const struct duet_result *result)
{
    return result->has_value;
}

bool duet_result_expiry(const struct duet_result *result, struct duet_expiry *ret)
{
    struct expiry expiry;
    struct bytes value = bytes_of(result->value.data, result->value.size);
    if (!result->has_value || codec_unpack_expiry(value, &expiry) != STATUS_OK)
        return false;
    *ret = (struct duet_expiry){expiry.expiry_ms, expiry.left_ms};
    return true;
}

struct duet_version duet_result_version(const struct duet_result *result)
{
    return result->version;
}

uint32_t duet_result_copies(const struct duet_result *result)
{
    return result->copies;
}

enum duet_read duet_result_read(const struct duet_result *result)
{
    return result->read;
}

struct duet_id duet_result_id(const struct duet_result *result)
{
    return result->id;
}

/* ---- Public operation to the session's ---- */

static struct bytes view(struct duet_slice slice)
{
    return bytes_of(slice.data, slice.size);
}

static_assert((int)DUET_IF_ABSENT == (int)PRECONDITION_ABSENT, "when");
static_assert((int)DUET_IF_PRESENT == (int)PRECONDITION_PRESENT, "when");
static_assert((int)DUET_IF_VERSION == (int)PRECONDITION_VERSION, "when");
static_assert((int)DUET_IF_VALUE == (int)PRECONDITION_VALUE, "when");
static_assert((int)DUET_IF_NO_EXPIRY == (int)PRECONDITION_EXPIRY_NONE, "when");
static_assert((int)DUET_IF_EXPIRY == (int)PRECONDITION_EXPIRY_SET, "when");
static_assert((int)DUET_IF_LATER == (int)PRECONDITION_EXPIRY_BEFORE, "when");
static_assert((int)DUET_IF_EARLIER == (int)PRECONDITION_EXPIRY_AFTER, "when");
static_assert((int)DUET_WANT_OLD == (int)WANT_OLD && (int)DUET_WANT_NEW == (int)WANT_NEW, "want");

static enum mutation mutation_of(const struct duet_operation *op)
{
    switch (op->kind) {
    case DUET_PUT:
        return op->keep_expiry ? MUTATION_PUT_KEEP_EXPIRY : MUTATION_PUT;
    case DUET_DEL:
        return MUTATION_DELETE;
    case DUET_INCR:
        return MUTATION_INCREMENT;
    case DUET_APPEND:
        return MUTATION_APPEND;
    case DUET_SET_RANGE:
        return MUTATION_SET_RANGE;
    case DUET_ADD:
        return MUTATION_INCREMENT_DECIMAL;
    case DUET_EXPIRE:
        return MUTATION_SET_EXPIRY;
    case DUET_CHECK:
    case DUET_GET:
    case DUET_GET_EXPIRY:
    case DUET_OUTCOME:
        return MUTATION_NONE;
    }
    return MUTATION_NONE;
}

struct write calls_write(const struct duet_operation *op)
{
    return (struct write){
        .precondition = (enum precondition)op->condition.when,
        .mutation = mutation_of(op),
        .want = (enum want)op->want,
        .value = view(op->value),
        .delta = op->delta,
        .expected = {op->condition.version.epoch, op->condition.version.seq},
        .expected_value = view(op->condition.value),
        .offset = op->offset,
        .expiry_ms = op->expiry_ms,
        .ttl_ms = op->ttl_ms,
    };
}

static enum consistency consistency_of(enum duet_read read)
{
    switch (read) {
    case DUET_READ_CONFIRM:
        return CONSISTENCY_CONFIRM;
    case DUET_READ_ANY:
        return CONSISTENCY_ANY;
    case DUET_READ_DEFAULT:
    case DUET_READ_LINEARIZABLE:
        break;
    }
    return CONSISTENCY_LINEARIZABLE;
}

static struct session_operation translate(const struct duet_client *client,
                                          const struct duet_operation *op)
{
    struct session_operation to = {.key = view(op->key)};
    if (op->kind == DUET_GET || op->kind == DUET_GET_EXPIRY) {
        to.kind = KIND_READ;
        to.read.part = op->kind == DUET_GET ? READ_VALUE : READ_EXPIRY;
        to.read.consistency =
            consistency_of(op->read == DUET_READ_DEFAULT ? client_read(client) : op->read);
    } else if (op->kind == DUET_OUTCOME) {
        to.kind = KIND_OUTCOME;
        to.outcome = (struct outcome_query){.client_id = op->id.client, .seq = op->id.seq};
    } else {
        to.kind = KIND_WRITE;
        to.write = calls_write(op);
    }
    return to;
}

static bool known(const struct duet_operation *op)
{
    return op->kind >= DUET_GET && op->kind <= DUET_GET_EXPIRY &&
           (unsigned)op->condition.when <= DUET_IF_EARLIER &&
           (unsigned)op->want <= DUET_WANT_NEW && (unsigned)op->read <= DUET_READ_ANY;
}

enum duet_code calls_check(const struct duet_operation *op, struct duet_error *reterr)
{
    if (!known(op))
        return fault_set(reterr, DUET_USAGE, "unknown kind, condition, want or read in the operation");
    if ((op->ttl_ms != 0) + (op->expiry_ms != 0) + op->keep_expiry > 1)
        return fault_set(reterr, DUET_USAGE, "give ttl_ms, expiry_ms or keep_expiry, not several");
    return DUET_OK;
}

enum duet_code duet_submit(struct duet_client *client, const struct duet_operation *op,
                           duet_callback *callback, void *user, struct duet_error *reterr)
{
    enum duet_code code = calls_check(op, reterr);
    if (code != DUET_OK)
        return code;
    struct session_operation to = translate(client, op);
    return client_submit(client, &to, op->timeout_ms, op->nowait, callback, user, reterr);
}

/* ---- Waiting ---- */

/* One call waits for its operations; each fills its place. */
struct call {
    sem_t done; /* posted once for each operation */
};

struct place {
    struct call *call;
    bool wanted, writes;        /* is the result wanted; may the operation change something */
    struct duet_result *result; /* NULL: not wanted, or out of memory */
    enum duet_code code;
    uint32_t flags;
};

static void call_init(struct call *call)
{
    ENSURE(sem_init(&call->done, 0, 0) == 0);
}

static void call_fini(struct call *call)
{
    sem_destroy(&call->done);
}

static void call_wait(struct call *call, size_t count)
{
    for (size_t i = 0; i < count; i++)
        while (sem_wait(&call->done) != 0)
            ENSURE(errno == EINTR);
}

static void on_done(const struct duet_result *result, void *user)
{
    struct place *place = user;
    place->code = result->code;
    place->flags = result->flags;
    place->result = place->wanted ? result_dup(result) : NULL;
    if (place->wanted && place->result == NULL) {
        /* Nobody will learn what the answer was. */
        place->code = DUET_NOMEMORY;
        place->flags |= place->writes ? DUET_IN_DOUBT : DUET_RETRYABLE;
    }
    ENSURE(sem_post(&place->call->done) == 0);
}

static enum duet_code refuse_own_thread(struct duet_error *reterr)
{
    return client_refuse_wait(reterr);
}

enum duet_code calls_run(struct duet_client *client, const struct session_operation *op,
                         uint32_t timeout_ms, struct duet_result **ret_result,
                         struct duet_error *reterr)
{
    if (ret_result != NULL)
        *ret_result = NULL;
    if (client_is_own_thread(client))
        return refuse_own_thread(reterr);
    struct call call;
    call_init(&call);
    struct place place = {
        .call = &call, .wanted = ret_result != NULL, .writes = op->kind == KIND_WRITE};
    enum duet_code code = client_submit(client, op, timeout_ms, false, on_done, &place, reterr);
    if (code == DUET_OK) {
        call_wait(&call, 1);
        code = place.code;
        if (code != DUET_OK)
            client_explain(client, code, place.flags, reterr);
    }
    call_fini(&call);
    if (ret_result != NULL)
        *ret_result = place.result;
    return code;
}

static enum duet_code run_public(struct duet_client *client, const struct duet_operation *op,
                                 struct duet_result **ret_result, struct duet_error *reterr)
{
    enum duet_code code = calls_check(op, reterr);
    if (ret_result != NULL)
        *ret_result = NULL;
    if (code != DUET_OK)
        return code;
    struct session_operation to = translate(client, op);
    return calls_run(client, &to, op->timeout_ms, ret_result, reterr);
}

enum duet_code duet_execute(struct duet_client *client, const struct duet_operation *op,
                            struct duet_result **ret_result, struct duet_error *reterr)
{
    return run_public(client, op, ret_result, reterr);
}

enum duet_code duet_get(struct duet_client *client, struct duet_slice key,
                        struct duet_result **ret_result, struct duet_error *reterr)
{
    struct duet_operation op = {.kind = DUET_GET, .key = key};
    return run_public(client, &op, ret_result, reterr);
}

/* A write that is conditional wants to know what stood in its way. */
static void add_condition(struct duet_operation *op, const struct duet_condition *condition)
{
    if (condition == NULL || condition->when == DUET_ALWAYS)
        return;
    op->condition = *condition;
    op->want = DUET_WANT_OLD;
}

enum duet_code duet_put(struct duet_client *client, struct duet_slice key, struct duet_slice value,
                        const struct duet_condition *condition, struct duet_result **ret_result,
                        struct duet_error *reterr)
{
    struct duet_operation op = {.kind = DUET_PUT, .key = key, .value = value};
    add_condition(&op, condition);
    return run_public(client, &op, ret_result, reterr);
}

enum duet_code duet_del(struct duet_client *client, struct duet_slice key,
                        const struct duet_condition *condition, struct duet_result **ret_result,
                        struct duet_error *reterr)
{
    struct duet_operation op = {.kind = DUET_DEL, .key = key};
    add_condition(&op, condition);
    return run_public(client, &op, ret_result, reterr);
}

enum duet_code duet_cas(struct duet_client *client, struct duet_slice key,
                        struct duet_slice expected, struct duet_slice value,
                        struct duet_result **ret_result, struct duet_error *reterr)
{
    struct duet_condition condition = {.when = DUET_IF_VALUE, .value = expected};
    return duet_put(client, key, value, &condition, ret_result, reterr);
}

enum duet_code duet_incr(struct duet_client *client, struct duet_slice key, int64_t delta,
                         int64_t *ret_sum, struct duet_result **ret_result,
                         struct duet_error *reterr)
{
    struct duet_operation op = {
        .kind = DUET_INCR, .key = key, .delta = delta, .want = DUET_WANT_NEW};
    struct duet_result *result;
    enum duet_code code = run_public(client, &op, &result, reterr);
    /* Behind a value of ours stands a zero byte. */
    if (code == DUET_OK && ret_sum != NULL && result->has_value)
        *ret_sum = strtoll(result->value.data, NULL, 10);
    if (ret_result != NULL)
        *ret_result = result;
    else
        duet_result_free(&result);
    return code;
}

enum duet_code duet_add(struct duet_client *client, struct duet_slice key, struct duet_slice number,
                        struct duet_result **ret_result, struct duet_error *reterr)
{
    struct duet_operation op = {
        .kind = DUET_ADD, .key = key, .value = number, .want = DUET_WANT_NEW};
    return run_public(client, &op, ret_result, reterr);
}

enum duet_code duet_append(struct duet_client *client, struct duet_slice key,
                           struct duet_slice value, struct duet_result **ret_result,
                           struct duet_error *reterr)
{
    struct duet_operation op = {.kind = DUET_APPEND, .key = key, .value = value};
    return run_public(client, &op, ret_result, reterr);
}

enum duet_code duet_set_range(struct duet_client *client, struct duet_slice key, uint64_t offset,
                              struct duet_slice value, struct duet_result **ret_result,
                              struct duet_error *reterr)
{
    struct duet_operation op = {
        .kind = DUET_SET_RANGE, .key = key, .value = value, .offset = offset};
    return run_public(client, &op, ret_result, reterr);
}

enum duet_code duet_get_del(struct duet_client *client, struct duet_slice key,
                            struct duet_result **ret_result, struct duet_error *reterr)
{
    struct duet_operation op = {.kind = DUET_DEL, .key = key, .want = DUET_WANT_OLD};
    return run_public(client, &op, ret_result, reterr);
}

enum duet_code duet_expire(struct duet_client *client, struct duet_slice key, uint64_t ttl_ms,
                           uint64_t expiry_ms, const struct duet_condition *condition,
                           struct duet_result **ret_result, struct duet_error *reterr)
{
    struct duet_operation op = {
        .kind = DUET_EXPIRE, .key = key, .ttl_ms = ttl_ms, .expiry_ms = expiry_ms};
    add_condition(&op, condition);
    return run_public(client, &op, ret_result, reterr);
}

enum duet_code duet_get_expiry(struct duet_client *client, struct duet_slice key,
                               struct duet_expiry *ret, struct duet_error *reterr)
{
    struct duet_operation op = {.kind = DUET_GET_EXPIRY, .key = key};
    struct duet_result *result;
    enum duet_code code = run_public(client, &op, &result, reterr);
    *ret = (struct duet_expiry){0, 0};
    if (code == DUET_OK && !duet_result_expiry(result, ret))
        code = fault_set(reterr, DUET_MALFORMED, "the expiry in the answer does not decode");
    duet_result_free(&result);
    return code;
}

enum duet_code duet_outcome(struct duet_client *client, struct duet_id id, struct duet_slice key,
                            struct duet_result **ret_result, struct duet_error *reterr)
{
    struct duet_operation op = {.kind = DUET_OUTCOME, .key = key, .id = id};
    return run_public(client, &op, ret_result, reterr);
}

/* ---- Many ---- */

/* What was not taken completes here, in its place. */
static void submit_nth(struct duet_client *client, const struct duet_operation *op,
                       struct place *place)
{
    struct duet_error error;
    if (duet_submit(client, op, on_done, place, &error) == DUET_OK)
        return;
    struct duet_result untaken = {.code = error.code, .flags = error.flags};
    on_done(&untaken, place);
}

static bool answered(const struct place *place)
{
    return place->code == DUET_OK || place->code == DUET_NOTFOUND;
}

enum duet_code calls_run_many(struct duet_client *client, calls_nth_fn *nth, const void *items,
                              size_t count, struct duet_result **ret_results,
                              struct duet_error *reterr)
{
    if (client_is_own_thread(client))
        return refuse_own_thread(reterr);
    struct place *places = calloc(count + 1, sizeof *places);
    if (places == NULL)
        return fault_set(reterr, DUET_NOMEMORY, "out of memory");
    struct call call;
    call_init(&call);
    for (size_t i = 0; i < count; i++) {
        struct duet_operation op = nth(items, i);
        places[i].call = &call;
        places[i].wanted = true;
        places[i].writes = op.kind != DUET_GET;
        submit_nth(client, &op, &places[i]);
    }
    call_wait(&call, count);
    call_fini(&call);
    size_t failed = count;
    for (size_t i = count; i-- > 0;) {
        if (!answered(&places[i]))
            failed = i;
        ret_results[i] = places[i].result;
    }
    enum duet_code code = DUET_OK;
    if (failed < count)
        code = client_explain(client, places[failed].code, places[failed].flags, reterr);
    free(places);
    return code;
}

static struct duet_operation nth_get(const void *items, size_t i)
{
    const struct duet_slice *keys = items;
    return (struct duet_operation){.kind = DUET_GET, .key = keys[i]};
}

enum duet_code duet_mget(struct duet_client *client, const struct duet_slice *keys, size_t count,
                         struct duet_result **ret_results, struct duet_error *reterr)
{
    memset(ret_results, 0, count * sizeof *ret_results);
    return calls_run_many(client, nth_get, keys, count, ret_results, reterr);
}

static struct duet_operation nth_put(const void *items, size_t i)
{
    const struct duet_pair *pairs = items;
    return (struct duet_operation){.kind = DUET_PUT, .key = pairs[i].key, .value = pairs[i].value};
}

enum duet_code duet_mput(struct duet_client *client, const struct duet_pair *pairs, size_t count,
                         struct duet_result **ret_results, struct duet_error *reterr)
{
    memset(ret_results, 0, count * sizeof *ret_results);
    return calls_run_many(client, nth_put, pairs, count, ret_results, reterr);
}
