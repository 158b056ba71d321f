#include "router/operation.h"

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "proto/codec.h"
#include "proto/limits.h"

#define CURSOR_DIGEST_SIZE 8

/* What an encoded operation may take beside its value: the other fields, and a small value to
 * compare with. The node, which decodes it, judges the value itself. */
#define BODY_SLACK_SIZE 4096

#define BIT(state) (1u << (state))

static const uint8_t operation_moves[] = {
    [OPERATION_FREE] = BIT(OPERATION_SENT) | BIT(OPERATION_WAITING) | BIT(OPERATION_ANSWERED),
    [OPERATION_SENT] = BIT(OPERATION_WAITING) | BIT(OPERATION_ANSWERED),
    [OPERATION_WAITING] = BIT(OPERATION_SENT) | BIT(OPERATION_ANSWERED),
    [OPERATION_ANSWERED] = BIT(OPERATION_FREE),
};

void operation_move(struct operation *op, enum operation_state to)
{
    ENSURE((operation_moves[op->state] & BIT(to)) != 0);
    op->state = to;
}

void operation_list_init(struct operation_list *l)
{
    *l = (struct operation_list){OPERATION_NONE, OPERATION_NONE, 0};
}

void operation_list_append(struct operation *slots, struct operation_list *l, uint32_t index)
{
    struct operation *op = &slots[index];
    op->next = OPERATION_NONE;
    op->prev = l->tail;
    if (l->tail != OPERATION_NONE)
        slots[l->tail].next = index;
    else
        l->head = index;
    l->tail = index;
    l->count++;
}

void operation_list_remove(struct operation *slots, struct operation_list *l, uint32_t index)
{
    struct operation *op = &slots[index];
    ENSURE(l->count > 0);
    if (op->next != OPERATION_NONE)
        slots[op->next].prev = op->prev;
    else
        l->tail = op->prev;
    if (op->prev != OPERATION_NONE)
        slots[op->prev].next = op->next;
    else
        l->head = op->next;
    l->count--;
}

bool operation_writes(const struct operation *op)
{
    return message_writes(op->kind) || op->kind == KIND_OUTCOME;
}

bool operation_executed_maybe(const struct operation *op)
{
    ENSURE(op->refused_count <= op->attempts_count);
    return op->refused_count < op->attempts_count;
}

enum verdict operation_verdict(enum status s)
{
    switch (s) {
    case STATUS_OK:
    case STATUS_NOTFOUND:
    case STATUS_CONDITION:
    case STATUS_NOTNUMBER:
    case STATUS_OVERFLOW:
    case STATUS_ABORTED:
    case STATUS_INDOUBT:
    case STATUS_STALE:
    case STATUS_TOOOLD:
    /* What is in the operation itself: no other attempt can have come to anything else, for a node
     * looks for the operation's record first. */
    case STATUS_MALFORMED:
    case STATUS_TOOBIG:
        return VERDICT_ANSWER;
    case STATUS_WRONGEPOCH:
    case STATUS_ASKPRIMARY:
        return VERDICT_REDIRECT;
    case STATUS_BUSY:
    case STATUS_UNAVAILABLE:
    case STATUS_NEEDTOKEN:
    case STATUS_NOMEMORY:
    case STATUS_NOCONNECTION:
        return VERDICT_PAUSE;
    case STATUS_FULL:
    case STATUS_TIMEOUT:
    case STATUS_UNSUPPORTED:
    case STATUS_FORMAT:
    case STATUS_IO:
    case STATUS_CORRUPT:
    case STATUS_LOCKED:
    case STATUS_CONFIG:
    case STATUS_USAGE:
    case STATUS_WRONGCLUSTER:
        return VERDICT_REFUSED;
    case STATUS_COUNT:
        break;
    }
    ENSURE_UNREACHABLE();
}

void operation_refused(struct operation *op, enum status s)
{
    ENSURE(s != STATUS_OK);
    op->refused_count++;
    ENSURE(op->refused_count <= op->attempts_count);
    op->refusal = s;
    op->refused_last = true;
}

uint32_t operation_pause(struct operation *op, uint32_t pause_min_ms, uint32_t pause_max_ms)
{
    uint32_t pause_ms = op->pause_ms == 0 ? pause_min_ms : op->pause_ms * 2;
    op->pause_ms = pause_ms > pause_max_ms ? pause_max_ms : pause_ms;
    return op->pause_ms;
}

/* What the last refusal says to the client: matters between router and nodes are not its business.
 */
static enum status client_refusal(const struct operation *op)
{
    bool internal = op->refusal == STATUS_WRONGEPOCH || op->refusal == STATUS_ASKPRIMARY;
    return internal ? STATUS_UNAVAILABLE : op->refusal;
}

enum status operation_failure(const struct operation *op)
{
    bool not_done = !operation_executed_maybe(op);
    if (MUTANT(46) && op->refused_count > 0)
        not_done = true;
    if (MUTANT(32))
        not_done = true;
    switch (op->kind) {
    case KIND_READ:
    case KIND_SCAN:
    case KIND_RANGE:
        return not_done && op->refusal != STATUS_OK ? client_refusal(op) : STATUS_TIMEOUT;
    case KIND_WRITE:
    case KIND_ATOMIC:
        if (!not_done)
            return STATUS_INDOUBT;
        return op->refusal != STATUS_OK ? client_refusal(op) : STATUS_UNAVAILABLE;
    case KIND_OUTCOME:
        /* The write that was asked about is as unknown as before. */
        return STATUS_INDOUBT;
    }
    ENSURE_UNREACHABLE();
}

bool operation_any_copy(uint32_t kind, struct bytes body)
{
    struct read_query q;
    return kind == KIND_READ && body.size > 0 && codec_unpack_read_query(body, &q) == STATUS_OK &&
           q.consistency == CONSISTENCY_ANY;
}

uint64_t operation_cursor_digest(struct bytes cursor)
{
    if (cursor.size == 0)
        return 0;
    ENSURE(cursor.size >= CURSOR_DIGEST_SIZE);
    return bytes_be64(cursor.data);
}

static enum status check_cursor(struct bytes cursor)
{
    if (cursor.size == 0)
        return STATUS_OK;
    if (cursor.size < CURSOR_DIGEST_SIZE)
        return STATUS_USAGE;
    return cursor.size > CURSOR_DIGEST_SIZE + KEY_SIZE_MAX ? STATUS_TOOBIG : STATUS_OK;
}

enum status operation_check(uint32_t kind, struct bytes key, struct bytes body,
                            uint32_t value_size_max)
{
    if (kind < KIND_READ || kind > KIND_LAST)
        return STATUS_UNSUPPORTED;
    size_t body_max = kind == KIND_ATOMIC ? ATOMIC_BYTES_MAX : value_size_max + BODY_SLACK_SIZE;
    if (body.size > body_max)
        return STATUS_TOOBIG;
    if (kind == KIND_SCAN)
        return check_cursor(key);
    if (key.size == 0)
        return STATUS_USAGE;
    return key.size > KEY_SIZE_MAX ? STATUS_TOOBIG : STATUS_OK;
}
