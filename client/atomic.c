/* Several writes on keys of one hash tag as one. */
#include <stdlib.h>

#include "client/calls.h"
#include "client/fault.h"
#include "proto/base/arena.h"
#include "proto/codec.h"
#include "proto/partition.h"

static struct bytes view(struct duet_slice slice)
{
    return bytes_of(slice.data, slice.size);
}

static enum duet_code check(const struct duet_operation *ops, size_t count,
                            struct duet_error *reterr)
{
    if (count == 0 || count > ATOMIC_KEYS_MAX)
        return fault_set(reterr, DUET_USAGE, "an atomic batch has 1 to %d operations",
                         ATOMIC_KEYS_MAX);
    for (size_t i = 0; i < count; i++) {
        enum duet_code code = calls_check(&ops[i], reterr);
        if (code != DUET_OK)
            return code;
        enum duet_kind kind = ops[i].kind;
        if (kind == DUET_GET || kind == DUET_GET_EXPIRY || kind == DUET_OUTCOME)
            return fault_set(reterr, DUET_USAGE,
                             "an atomic batch takes writes and checks (ask for old values with want)");
        if (!bytes_equal(partition_hash_tag(view(ops[i].key)),
                         partition_hash_tag(view(ops[0].key))))
            return fault_set(reterr, DUET_USAGE,
                             "the keys of an atomic batch need one hash tag, like {user7}:name and "
                             "{user7}:mail");
    }
    return DUET_OK;
}

/* Pack into out; parts is scratch, for the operations one behind the other. */
static enum status pack(const struct duet_operation *ops, size_t count, struct buffer *parts,
                        struct buffer *out)
{
    struct bytes keys[ATOMIC_KEYS_MAX], operations[ATOMIC_KEYS_MAX];
    size_t ends[ATOMIC_KEYS_MAX];
    for (size_t i = 0; i < count; i++) {
        struct write w = calls_write(&ops[i]);
        enum status status = codec_pack_write(&w, parts);
        if (status != STATUS_OK)
            return status;
        keys[i] = view(ops[i].key);
        ends[i] = parts->size;
    }
    for (size_t i = 0; i < count; i++) {
        size_t begin = i == 0 ? 0 : ends[i - 1];
        operations[i] = bytes_of(parts->data + begin, ends[i] - begin);
    }
    struct atomic_batch m = {.count = count, .keys = keys, .operations = operations};
    return codec_pack_atomic_batch(&m, out);
}

/* One operation's own result. NULL: out of memory. */
static struct duet_result *part_of(const struct duet_result *all, const struct atomic_answer *m,
                                   size_t i)
{
    struct bytes value = m->values[i];
    struct duet_result *part = malloc(sizeof *part + value.size + 1);
    if (part == NULL)
        return NULL;
    *part = *all;
    part->code = (enum duet_code)status_from_wire(m->statuses[i]);
    part->has_value = (m->flags[i] & ANSWER_VALUE) != 0;
    uint8_t *copy = (uint8_t *)(part + 1);
    if (value.size > 0)
        memcpy(copy, value.data, value.size);
    copy[value.size] = 0;
    part->value = duet_bytes(part->has_value ? copy : NULL, value.size);
    return part;
}

/* Give each its result; of an outcome that no part has an answer to (in doubt, refused) all get that. */
static enum duet_code give_results(const struct duet_result *all, size_t count,
                                   struct duet_result **ret_results, struct duet_error *reterr)
{
    struct arena arena;
    struct atomic_answer m = {.count = count};
    uint32_t statuses[ATOMIC_KEYS_MAX], flags[ATOMIC_KEYS_MAX] = {0};
    struct bytes values[ATOMIC_KEYS_MAX] = {BYTES_EMPTY};
    enum duet_code code = all->code;
    arena_init(&arena);
    arena_reset(&arena, 4 * all->value.size + (1u << 20));
    bool told = all->has_value && codec_unpack_atomic_answer(view(all->value), &arena, &m) ==
                                      STATUS_OK && m.count == count;
    for (size_t i = 0; i < count; i++)
        statuses[i] = (uint32_t)all->code;
    if (!told)
        m = (struct atomic_answer){count, statuses, flags, values, false};
    for (size_t i = 0; i < count; i++) {
        ret_results[i] = part_of(all, &m, i);
        if (ret_results[i] == NULL)
            code = fault_set(reterr, DUET_NOMEMORY, "out of memory: the batch has its outcome, but "
                                                    "a result cannot be told");
    }
    arena_fini(&arena);
    return code;
}

enum duet_code duet_atomic(struct duet_client *client, const struct duet_operation *ops,
                           size_t count, struct duet_result **ret_results,
                           struct duet_error *reterr)
{
    struct buffer parts, body;
    struct duet_result *all = NULL;
    if (ret_results != NULL)
        memset(ret_results, 0, count * sizeof *ret_results);
    enum duet_code code = check(ops, count, reterr);
    if (code != DUET_OK)
        return code;
    buffer_init(&parts, ATOMIC_BYTES_MAX);
    buffer_init(&body, ATOMIC_BYTES_MAX);
    enum status packed = pack(ops, count, &parts, &body);
    if (packed == STATUS_TOOBIG)
        code = fault_set(reterr, DUET_TOOBIG, "an atomic batch has at most %u bytes",
                         ATOMIC_BYTES_MAX);
    else if (packed != STATUS_OK)
        code = fault_set(reterr, DUET_NOMEMORY, "out of memory");
    if (code == DUET_OK) {
        struct session_operation op = {.kind = KIND_ATOMIC,
                                       .key = view(ops[0].key),
                                       .atomic = buffer_view(&body)};
        code = calls_run(client, &op, ops[0].timeout_ms, &all, reterr);
    }
    if (all != NULL && ret_results != NULL)
        code = give_results(all, count, ret_results, reterr);
    duet_result_free(&all);
    buffer_fini(&parts);
    buffer_fini(&body);
    return code;
}
