#include "router/answers.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"

/* What one answer takes in a message beside its value, at most. */
#define ANSWER_OVERHEAD 48

uint32_t answers_slot(struct coordinator *c)
{
    uint32_t index = c->free;
    if (index == OPERATION_NONE)
        return OPERATION_NONE;
    struct operation *op = &c->slots[index];
    c->free = op->next;
    c->free_count--;
    ENSURE(op->state == OPERATION_FREE);
    *op = (struct operation){.generation = op->generation, .lane = LANE_NONE, .node = NODE_NONE};
    if (++c->counters.slots_used > c->counters.slots_used_max)
        c->counters.slots_used_max = c->counters.slots_used;
    return index;
}

static void parcel_put(struct coordinator *c, struct parcel *parcel)
{
    ENSURE(parcel->operations_count > 0);
    if (--parcel->operations_count > 0)
        return;
    c->counters.bytes_used -= parcel->size;
    free(parcel);
}

static void slot_free(struct coordinator *c, uint32_t index)
{
    struct operation *op = &c->slots[index];
    ENSURE(op->lane == LANE_NONE);
    if (op->owned != NULL) {
        free(op->owned);
        c->counters.bytes_used -= op->owned_size;
    }
    op->owned = NULL;
    op->generation++; /* whatever still comes for it is late */
    parcel_put(c, op->parcel);
    asker_put(&c->askers, op->asker);
    operation_move(op, OPERATION_FREE);
    op->next = c->free;
    c->free = index;
    c->free_count++;
    c->counters.slots_used--;
}

void answers_own(struct coordinator *c, uint32_t index, uint8_t *owned, size_t size)
{
    struct operation *op = &c->slots[index];
    ENSURE(op->owned == NULL);
    op->owned = owned;
    op->owned_size = size;
    c->counters.bytes_used += size;
}

/* A read whose value cannot be kept says why; a write happened, and only its value is missing. */
static void drop_value(struct operation *op, enum status why)
{
    if (!operation_writes(op))
        op->status = why;
    op->flags &= ~ANSWER_VALUE;
    op->value = BYTES_EMPTY;
}

/* The answer leaves in a later turn, when the node's message is long gone: keep a copy. */
static void keep_value(struct coordinator *c, uint32_t index)
{
    struct operation *op = &c->slots[index];
    size_t size = op->value.size;
    if (op->parcel->answer_size + size > VALUE_SIZE_MAX)
        return drop_value(op, STATUS_TOOBIG);
    op->parcel->answer_size += size;
    if (size == 0 || op->owned != NULL)
        return;
    if (c->counters.bytes_used + size > c->options.bytes_max)
        return drop_value(op, STATUS_BUSY);
    uint8_t *copy = malloc(size);
    if (copy == NULL)
        return drop_value(op, STATUS_NOMEMORY);
    memcpy(copy, op->value.data, size);
    op->value.data = copy;
    answers_own(c, index, copy, size);
}

static uint32_t status_flags(const struct operation *op)
{
    uint32_t flags = op->flags & (ANSWER_SYNCED | ANSWER_VALUE | ANSWER_ANY | ANSWER_CONFIRMED |
                                  ANSWER_COPIES_MASK);
    if (status_retry(op->status))
        flags |= ANSWER_RETRY;
    if (status_in_doubt(op->status) && operation_writes(op))
        flags |= ANSWER_IN_DOUBT;
    return flags;
}

static void asker_answers(struct coordinator *c, struct asker *asker, uint32_t index)
{
    operation_list_append(c->slots, &asker->answered, index);
    if (asker->answering)
        return;
    asker->answering = true;
    asker->answering_next = c->answering;
    c->answering = asker;
}

/* What is answered leaves now, and the rest as it comes. */
static void parcel_split(struct coordinator *c, struct parcel *parcel)
{
    parcel->whole = false;
    while (parcel->answered.count > 0) {
        uint32_t index = parcel->answered.head;
        operation_list_remove(c->slots, &parcel->answered, index);
        asker_answers(c, c->slots[index].asker, index);
    }
}

static void parcel_answers(struct coordinator *c, struct parcel *parcel, uint32_t index)
{
    keep_value(c, index);
    operation_list_append(c->slots, &parcel->answered, index);
    ENSURE(parcel->unanswered_count > 0);
    if (--parcel->unanswered_count > 0)
        return;
    parcel->ready_next = c->ready;
    c->ready = parcel;
}

void answers_add(struct coordinator *c, uint32_t index, const struct result *result)
{
    struct operation *op = &c->slots[index];
    struct parcel *parcel = op->parcel;
    ENSURE(op->lane == LANE_NONE);
    operation_move(op, OPERATION_ANSWERED);
    op->status = result->status;
    op->flags = result->flags;
    op->version = result->version;
    op->value = result->value;
    c->counters.answers++;
    if (op->status == STATUS_INDOUBT && operation_writes(op))
        c->counters.in_doubt++;
    if (!parcel->single && parcel->answer_size + op->value.size > MESSAGE_BYTES_MAX)
        parcel_split(c, parcel);
    if (parcel->whole)
        parcel_answers(c, parcel, index);
    else
        asker_answers(c, op->asker, index);
}

static void send_answer(struct coordinator *c, uint64_t source, struct answer *a)
{
    a->ptime = c->ptime;
    struct effect *e = effects_add(c->out, EFFECT_SEND_CLIENT);
    if (e == NULL)
        return;
    e->source = source;
    if (codec_pack_answer(MESSAGE_ANSWER, a, &e->frame) != STATUS_OK) {
        effects_drop(c->out);
        return;
    }
    c->counters.answer_messages++;
}

static void put_answer(struct answer *a, const struct operation *op)
{
    size_t i = a->count++;
    a->ids[i] = op->seq;
    a->statuses[i] = op->status;
    a->flags[i] = status_flags(op);
    a->epochs[i] = op->version.epoch;
    a->seqs[i] = op->version.seq;
    a->values[i] = op->value;
}

static void slots_free(struct coordinator *c, struct operation_list *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t index = list->head;
        operation_list_remove(c->slots, list, index);
        slot_free(c, index);
    }
}

/* As many operations from the front of list as one message takes: pack them, free them. */
static void flush_message(struct coordinator *c, struct asker *asker, struct operation_list *list,
                          size_t size_max)
{
    struct answer *a = &c->answer;
    size_t size = 0;
    a->count = 0;
    for (uint32_t i = list->head; i != OPERATION_NONE; i = c->slots[i].next) {
        const struct operation *op = &c->slots[i];
        size += ANSWER_OVERHEAD + op->value.size;
        if (a->count == MESSAGE_OPERATIONS_MAX || (a->count > 0 && size > size_max))
            break;
        put_answer(a, op);
    }
    size_t count = a->count;
    ENSURE(count > 0);
    if (asker->gone) {
        c->counters.answers_dropped += count;
    } else {
        a->owner = asker->client_id;
        send_answer(c, asker->source, a);
    }
    slots_free(c, list, count);
}

static void flush_asker(struct coordinator *c, struct asker *asker)
{
    struct operation_list list = asker->answered;
    operation_list_init(&asker->answered);
    /* The asker goes with its last slot: count it once more while this runs. */
    asker->operations_count++;
    while (list.count > 0)
        flush_message(c, asker, &list, MESSAGE_BYTES_MAX);
    asker_put(&c->askers, asker);
}

static void flush_whole(struct coordinator *c, struct parcel *parcel)
{
    struct operation_list list = parcel->answered;
    ENSURE(list.count == parcel->operations_count);
    ENSURE(list.count <= MESSAGE_OPERATIONS_MAX);
    flush_message(c, c->slots[list.head].asker, &list, SIZE_MAX); /* the parcel goes with it */
    ENSURE(list.count == 0);
}

void answers_flush(struct coordinator *c)
{
    while (c->answering != NULL) {
        struct asker *asker = c->answering;
        c->answering = asker->answering_next;
        asker->answering = false;
        flush_asker(c, asker);
    }
    while (c->ready != NULL) {
        struct parcel *parcel = c->ready;
        c->ready = parcel->ready_next;
        flush_whole(c, parcel);
    }
    c->results_used = 0;
}

void answers_refuse(struct coordinator *c, uint64_t source, uint64_t client_id, uint64_t first_seq,
                    size_t count, enum status status)
{
    struct answer *a = &c->answer;
    ENSURE(count <= MESSAGE_OPERATIONS_MAX);
    a->owner = client_id;
    a->count = count;
    for (size_t i = 0; i < count; i++) {
        a->ids[i] = first_seq + i;
        a->statuses[i] = status;
        a->flags[i] = status_retry(status) ? ANSWER_RETRY : 0;
        a->epochs[i] = a->seqs[i] = 0;
        a->values[i] = BYTES_EMPTY;
    }
    c->counters.answers += count;
    send_answer(c, source, a);
}

void answers_refused(struct coordinator *c, uint64_t source, enum status status, const char *text)
{
    struct effect *e = effects_add(c->out, EFFECT_SEND_CLIENT);
    if (e == NULL)
        return;
    e->source = source;
    struct refused m = {.status = status,
                        .message = bytes_text(text),
                        .protocol_min = PROTOCOL_VERSION,
                        .protocol_max = PROTOCOL_VERSION};
    if (codec_pack_refused(&m, &e->frame) != STATUS_OK)
        effects_drop(c->out);
}
