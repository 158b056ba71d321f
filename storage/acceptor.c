/* The log's records, little endian. Each begins with
 *
 *   u8 kind, u8 0, u16 size of the value, u32 register, u64 version of the voters in force
 *
 * and goes on with
 *
 *   PROMISE    {u64 counter, u64 incarnation, u32 node, u32 0} the ballot
 *   ACCEPTANCE the ballot as above; u64 version of the value;
 *              {u64 nonce, u64 incarnation, u32 node, u32 0} its writer; its bytes
 *   VOTERS     u32 count, u32 next count, then so many nodes of both, u32 each. The version of the
 *              header is that of this set; register and size are 0.
 *
 * The log pads bodies with zeros to 8 bytes. A saved blob is u32 1 (its format), u32 count, and so
 * many records, each as u32 size and body: replaying them gives the state.
 */
#include "storage/acceptor.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "storage/ballot.h"
#include "storage/voters.h"

#define BLOB_FORMAT      1
#define BLOB_HEADER_SIZE 8
#define HEADER_SIZE      16
#define BALLOT_SIZE      24
#define PROMISE_SIZE     (HEADER_SIZE + BALLOT_SIZE)
#define ACCEPTANCE_SIZE  (PROMISE_SIZE + 32) /* and the value */
#define VOTERS_SIZE      (HEADER_SIZE + 8)   /* and the nodes */
#define RECORD_MAX       (ACCEPTANCE_SIZE + REGISTRY_VALUE_SIZE_MAX)

enum step { STEP_PROMISE = 1, STEP_ACCEPTANCE = 2, STEP_VOTERS = 3 };

enum status acceptor_init(struct acceptor *a, uint32_t count, const struct registry_voters *voters)
{
    ENSURE(count > 0 && count <= REGISTRY_REGISTERS_MAX);
    ENSURE(voters_hold(voters));
    *a = (struct acceptor){.count = count, .voters = *voters};
    a->registers = calloc(count, sizeof *a->registers);
    return a->registers == NULL ? STATUS_NOMEMORY : STATUS_OK;
}

void acceptor_fini(struct acceptor *a)
{
    for (uint32_t i = 0; a->registers != NULL && i < a->count; i++)
        acceptor_value_fini(&a->registers[i].value);
    free(a->registers);
    a->registers = NULL;
}

bool acceptor_value_set(struct acceptor_value *v, const struct acceptor_proposal *p)
{
    ENSURE(p->value.size <= REGISTRY_VALUE_SIZE_MAX);
    if (p->value.size > 0) {
        uint8_t *data = realloc(v->data, p->value.size);
        if (data == NULL)
            return false;
        memcpy(data, p->value.data, p->value.size);
        v->data = data;
    }
    v->version = p->version;
    v->writer = p->writer;
    v->size = (uint32_t)p->value.size;
    return true;
}

struct acceptor_proposal acceptor_value_view(const struct acceptor_value *v)
{
    return (struct acceptor_proposal){v->version, v->writer, bytes_of(v->data, v->size)};
}

void acceptor_value_fini(struct acceptor_value *v)
{
    free(v->data);
    *v = (struct acceptor_value){0};
}

enum status acceptor_found(struct acceptor *a, uint32_t number, struct bytes value)
{
    ENSURE(number < a->count);
    struct acceptor_register *reg = &a->registers[number];
    if (reg->accepted.counter > 0)
        return STATUS_OK;
    const struct acceptor_proposal p = {.version = 1, .value = value};
    return acceptor_value_set(&reg->value, &p) ? STATUS_OK : STATUS_NOMEMORY;
}

/* ---- Records -------------------------------------------------------------------------------- */

static void put_header(uint8_t *at, enum step step, size_t value_size, uint32_t number,
                       uint64_t voters_version)
{
    at[0] = (uint8_t)step;
    at[1] = 0;
    bytes_put_le16(at + 2, (uint16_t)value_size);
    bytes_put_le32(at + 4, number);
    bytes_put_le64(at + 8, voters_version);
}

static void put_origin(uint8_t *at, uint64_t count, uint64_t incarnation, uint32_t node)
{
    bytes_put_le64(at, count);
    bytes_put_le64(at + 8, incarnation);
    bytes_put_le32(at + 16, node);
    bytes_put_le32(at + 20, 0);
}

static struct bytes promise_record(const struct acceptor *a, uint32_t number,
                                   uint8_t to[static RECORD_MAX])
{
    const struct ballot *b = &a->registers[number].promised;
    put_header(to, STEP_PROMISE, 0, number, a->voters.version);
    put_origin(to + HEADER_SIZE, b->counter, b->incarnation, b->node);
    return bytes_of(to, PROMISE_SIZE);
}

static struct bytes acceptance_record(const struct acceptor *a, uint32_t number,
                                      uint8_t to[static RECORD_MAX])
{
    const struct acceptor_register *reg = &a->registers[number];
    const struct ballot *b = &reg->accepted;
    const struct acceptor_value *v = &reg->value;
    put_header(to, STEP_ACCEPTANCE, v->size, number, a->voters.version);
    put_origin(to + HEADER_SIZE, b->counter, b->incarnation, b->node);
    bytes_put_le64(to + PROMISE_SIZE, v->version);
    put_origin(to + PROMISE_SIZE + 8, v->writer.nonce, v->writer.incarnation, v->writer.node);
    if (v->size > 0)
        memcpy(to + ACCEPTANCE_SIZE, v->data, v->size);
    return bytes_of(to, ACCEPTANCE_SIZE + v->size);
}

static struct bytes voters_record(const struct registry_voters *v, uint8_t to[static RECORD_MAX])
{
    put_header(to, STEP_VOTERS, 0, 0, v->version);
    bytes_put_le32(to + HEADER_SIZE, v->count);
    bytes_put_le32(to + HEADER_SIZE + 4, v->next_count);
    uint8_t *at = to + VOTERS_SIZE;
    for (uint32_t i = 0; i < v->count; i++, at += 4)
        bytes_put_le32(at, v->nodes[i]);
    for (uint32_t i = 0; i < v->next_count; i++, at += 4)
        bytes_put_le32(at, v->next[i]);
    return bytes_of(to, (size_t)(at - to));
}

static uint64_t log_record(struct acceptor *a, struct bytes body)
{
    a->changed = true;
    return a->log(a->arg, body);
}

/* ---- Judging -------------------------------------------------------------------------------- */

enum acceptor_verdict acceptor_prepare(struct acceptor *a, uint32_t number,
                                       const struct ballot *ballot)
{
    struct acceptor_register *reg = &a->registers[number];
    int order = ballot_compare(ballot, &reg->promised);
    if (order < 0)
        return ACCEPTOR_REFUSES;
    if (order == 0)
        return ACCEPTOR_AGREES; /* the message came twice */
    uint8_t record[RECORD_MAX];
    reg->promised = *ballot;
    reg->lsn = log_record(a, promise_record(a, number, record));
    return ACCEPTOR_AGREES;
}

enum acceptor_verdict acceptor_accept(struct acceptor *a, uint32_t number,
                                      const struct ballot *ballot,
                                      const struct acceptor_proposal *p)
{
    struct acceptor_register *reg = &a->registers[number];
    if (ballot_compare(ballot, &reg->promised) < 0)
        return ACCEPTOR_REFUSES;
    if (ballot_compare(ballot, &reg->accepted) == 0)
        return ACCEPTOR_AGREES; /* the message came twice; a ballot has one value */
    if (!acceptor_value_set(&reg->value, p))
        return ACCEPTOR_FAILS;
    uint8_t record[RECORD_MAX];
    reg->promised = reg->accepted = *ballot;
    reg->lsn = log_record(a, acceptance_record(a, number, record));
    return ACCEPTOR_AGREES;
}

/* ---- Voters --------------------------------------------------------------------------------- */

void acceptor_set_voters(struct acceptor *a, const struct registry_voters *voters)
{
    ENSURE(voters_hold(voters));
    if (voters->version <= a->voters.version || voters->version <= a->coming.version)
        return;
    uint8_t record[RECORD_MAX];
    a->coming = *voters;
    a->coming_lsn = log_record(a, voters_record(voters, record));
}

bool acceptor_obey(struct acceptor *a, uint64_t durable_lsn)
{
    if (a->coming.version == 0 || a->coming_lsn > durable_lsn)
        return false;
    a->voters = a->coming;
    a->coming.version = 0;
    return true;
}

/* ---- Replay --------------------------------------------------------------------------------- */

/* The record's own size is known; the rest is the log's padding. */
static bool size_holds(struct bytes body, size_t size)
{
    if (body.size < size || body.size - size >= 8)
        return false;
    for (size_t i = size; i < body.size; i++)
        if (body.data[i] != 0)
            return false;
    return true;
}

static struct ballot get_ballot(const uint8_t *at)
{
    return (struct ballot){bytes_le64(at), bytes_le32(at + 16), bytes_le64(at + 8)};
}

static enum status replay_acceptance(struct acceptor_register *reg, struct bytes body)
{
    const uint8_t *at = body.data;
    size_t size = bytes_le16(at + 2);
    if (size > REGISTRY_VALUE_SIZE_MAX || !size_holds(body, ACCEPTANCE_SIZE + size))
        return STATUS_CORRUPT;
    struct ballot ballot = get_ballot(at + HEADER_SIZE);
    if (ballot_compare(&ballot, &reg->accepted) <= 0)
        return STATUS_OK;
    at += PROMISE_SIZE;
    const struct acceptor_proposal p = {
        .version = bytes_le64(at),
        .writer = {bytes_le32(at + 24), bytes_le64(at + 16), bytes_le64(at + 8)},
        .value = bytes_of(at + 32, size),
    };
    if (!acceptor_value_set(&reg->value, &p))
        return STATUS_NOMEMORY;
    reg->accepted = ballot;
    if (ballot_compare(&ballot, &reg->promised) > 0)
        reg->promised = ballot;
    return STATUS_OK;
}

static enum status replay_promise(struct acceptor_register *reg, struct bytes body)
{
    if (!size_holds(body, PROMISE_SIZE))
        return STATUS_CORRUPT;
    struct ballot ballot = get_ballot(body.data + HEADER_SIZE);
    if (ballot_compare(&ballot, &reg->promised) > 0)
        reg->promised = ballot;
    return STATUS_OK;
}

static enum status replay_voters(struct acceptor *a, struct bytes body)
{
    if (body.size < VOTERS_SIZE)
        return STATUS_CORRUPT;
    struct registry_voters v = {
        .version = bytes_le64(body.data + 8),
        .count = bytes_le32(body.data + HEADER_SIZE),
        .next_count = bytes_le32(body.data + HEADER_SIZE + 4),
    };
    if (v.count > REGISTRY_VOTERS_MAX || v.next_count > REGISTRY_VOTERS_MAX ||
        !size_holds(body, VOTERS_SIZE + 4 * (size_t)(v.count + v.next_count)))
        return STATUS_CORRUPT;
    const uint8_t *at = body.data + VOTERS_SIZE;
    for (uint32_t i = 0; i < v.count; i++, at += 4)
        v.nodes[i] = bytes_le32(at);
    for (uint32_t i = 0; i < v.next_count; i++, at += 4)
        v.next[i] = bytes_le32(at);
    if (!voters_hold(&v))
        return STATUS_CORRUPT;
    if (v.version > a->voters.version)
        a->voters = v;
    return STATUS_OK;
}

enum status acceptor_replay(struct acceptor *a, struct bytes body)
{
    if (body.size < HEADER_SIZE || body.data[1] != 0)
        return STATUS_CORRUPT;
    a->changed = true;
    if (body.data[0] == STEP_VOTERS)
        return replay_voters(a, body);
    uint32_t number = bytes_le32(body.data + 4);
    /* What was done under a set of voters comes after the record of the set. */
    if (number >= a->count || bytes_le64(body.data + 8) > a->voters.version ||
        body.size < PROMISE_SIZE)
        return STATUS_CORRUPT;
    if (body.data[0] == STEP_PROMISE)
        return replay_promise(&a->registers[number], body);
    if (body.data[0] == STEP_ACCEPTANCE)
        return replay_acceptance(&a->registers[number], body);
    return STATUS_CORRUPT;
}

/* ---- The saved blob ------------------------------------------------------------------------- */

struct saving {
    struct buffer *out;
    uint32_t count;
    bool failed;
};

static void save_record(struct saving *s, struct bytes body)
{
    uint8_t *at = s->failed ? NULL : buffer_reserve(s->out, 4 + body.size);
    s->failed = at == NULL;
    if (at == NULL)
        return;
    bytes_put_le32(at, (uint32_t)body.size);
    memcpy(at + 4, body.data, body.size);
    s->count++;
}

static void save_register(const struct acceptor *a, uint32_t number, struct saving *s)
{
    const struct acceptor_register *reg = &a->registers[number];
    uint8_t record[RECORD_MAX];
    if (reg->accepted.counter > 0)
        save_record(s, acceptance_record(a, number, record));
    if (ballot_compare(&reg->promised, &reg->accepted) > 0)
        save_record(s, promise_record(a, number, record));
}

enum status acceptor_save(struct acceptor *a, struct buffer *out)
{
    size_t before = out->size;
    struct saving s = {.out = out};
    uint8_t record[RECORD_MAX];
    if (buffer_reserve(out, BLOB_HEADER_SIZE) == NULL)
        return STATUS_NOMEMORY;
    /* The records that the blob stands for may hold a set that is not obeyed yet. */
    save_record(&s, voters_record(a->coming.version != 0 ? &a->coming : &a->voters, record));
    for (uint32_t i = 0; i < a->count; i++)
        save_register(a, i, &s);
    if (s.failed) {
        out->size = before;
        return STATUS_NOMEMORY;
    }
    bytes_put_le32(out->data + before, BLOB_FORMAT);
    bytes_put_le32(out->data + before + 4, s.count);
    a->changed = false;
    return STATUS_OK;
}

enum status acceptor_restore(struct acceptor *a, struct bytes blob)
{
    if (blob.size < BLOB_HEADER_SIZE || bytes_le32(blob.data) != BLOB_FORMAT)
        return STATUS_CORRUPT;
    uint32_t count = bytes_le32(blob.data + 4);
    struct bytes rest = bytes_of(blob.data + BLOB_HEADER_SIZE, blob.size - BLOB_HEADER_SIZE);
    for (; count > 0; count--) {
        if (rest.size < 4)
            return STATUS_CORRUPT;
        size_t size = bytes_le32(rest.data);
        if (size > rest.size - 4)
            return STATUS_CORRUPT;
        enum status s = acceptor_replay(a, bytes_of(rest.data + 4, size));
        if (s != STATUS_OK)
            return s;
        rest = bytes_of(rest.data + 4 + size, rest.size - 4 - size);
    }
    a->changed = false;
    return rest.size == 0 ? STATUS_OK : STATUS_CORRUPT;
}
