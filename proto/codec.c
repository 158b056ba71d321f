#include "proto/codec.h"

#include <protobuf-c/protobuf-c.h>

#include "proto/base/ensure.h"
#include "proto/cluster.pb-c.h"
#include "proto/data.pb-c.h"
#include "proto/limits.h"

/* The cap of an unpacked message: 4 x frame size + this. The largest legitimate messages of many
 * tiny elements set it: protobuf-c takes 40 to 80 bytes of notes for each `bytes` or message on the
 * wire, and arrays that were left out come back as zeros. */
#define ALLOWANCE ((size_t)2 << 20)

#define TEXT_SIZE_MAX       1024 /* of texts for people: names of programs, messages */
#define STATUS_VALUES_MAX   4096
#define NODE_STATE_MAX      4
#define PARTITION_STATE_MAX 3
#define ID_SIZE             sizeof(struct id128)

/* Arrays of bytes cross between us and protobuf-c by a cast. Both sides are compiled apart, so no
 * compiler sees one memory under two types. */
_Static_assert(sizeof(struct bytes) == sizeof(ProtobufCBinaryData), "same size");
_Static_assert(offsetof(struct bytes, size) == offsetof(ProtobufCBinaryData, len), "same place");
_Static_assert(offsetof(struct bytes, data) == offsetof(ProtobufCBinaryData, data), "same place");

/* Results is packed and unpacked as an Answer with another descriptor. */
#define SAME_PLACE(answer_field, results_field)                                                    \
    _Static_assert(offsetof(Duet__V1__Answer, answer_field) ==                                     \
                       offsetof(Duet__V1__Results, results_field),                                 \
                   "Answer and Results have one layout")
SAME_PLACE(client_id, router_boot);
SAME_PLACE(ptime, ptime);
SAME_PLACE(n_op_seqs, n_tokens);
SAME_PLACE(op_seqs, tokens);
SAME_PLACE(n_statuses, n_statuses);
SAME_PLACE(statuses, statuses);
SAME_PLACE(n_flags, n_flags);
SAME_PLACE(flags, flags);
SAME_PLACE(n_epochs, n_epochs);
SAME_PLACE(epochs, epochs);
SAME_PLACE(n_seqs, n_seqs);
SAME_PLACE(seqs, seqs);
SAME_PLACE(n_values, n_values);
SAME_PLACE(values, values);
_Static_assert(sizeof(Duet__V1__Answer) == sizeof(Duet__V1__Results), "one layout");

/* ---- Packing ---------------------------------------------------------------------------------*/

static ProtobufCBinaryData binary(struct bytes b)
{
    return (ProtobufCBinaryData){b.size, (uint8_t *)b.data};
}

static ProtobufCBinaryData *binaries(struct bytes *array)
{
    return (ProtobufCBinaryData *)array;
}

/* How many elements of an array go on the wire: none when all are zero, for the reader restores
 * them. */
static size_t packed32(const uint32_t *array, size_t count)
{
    for (size_t i = 0; array != NULL && i < count; i++)
        if (array[i] != 0)
            return count;
    return 0;
}

static size_t packed64(const uint64_t *array, size_t count)
{
    for (size_t i = 0; array != NULL && i < count; i++)
        if (array[i] != 0)
            return count;
    return 0;
}

static size_t packed_bytes(const struct bytes *array, size_t count)
{
    for (size_t i = 0; array != NULL && i < count; i++)
        if (array[i].size != 0)
            return count;
    return 0;
}

static uint8_t *reserve(struct buffer *out, size_t size, enum status *ret_status)
{
    if (size > out->size_max - out->size) {
        *ret_status = STATUS_TOOBIG;
        return NULL;
    }
    uint8_t *at = buffer_reserve(out, size);
    *ret_status = at == NULL ? STATUS_NOMEMORY : STATUS_OK;
    return at;
}

static enum status pack_frame(enum message_kind kind, const ProtobufCMessage *m, struct buffer *out)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    enum status s;
    uint8_t *at = reserve(out, MESSAGE_PREFIX_SIZE + size, &s);
    if (at == NULL)
        return s;
    at[0] = PROTOCOL_MAGIC;
    at[1] = PROTOCOL_VERSION;
    at[2] = (uint8_t)kind;
    at[3] = 0;
    size_t written = protobuf_c_message_pack(m, at + MESSAGE_PREFIX_SIZE);
    ENSURE(written == size);
    return STATUS_OK;
}

static enum status pack_part(const ProtobufCMessage *m, struct buffer *out)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    if (size == 0)
        return STATUS_OK;
    enum status s;
    uint8_t *at = reserve(out, size, &s);
    if (at == NULL)
        return s;
    size_t written = protobuf_c_message_pack(m, at);
    ENSURE(written == size);
    return STATUS_OK;
}

/* Memory for what protobuf-c wants otherwise than we hold it (texts with a final zero, arrays of
 * pointers). Only messages that are rare need it. */
static void scratch_init(struct arena *scratch)
{
    arena_init(scratch);
    arena_reset(scratch, SIZE_MAX);
}

/* Copy text with a final zero; NULL when out of memory. It ends at its first zero byte. */
static char *scratch_text(struct arena *scratch, struct bytes text)
{
    char *copy = arena_alloc(scratch, text.size + 1);
    if (copy == NULL)
        return NULL;
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    return copy;
}

/* ---- Unpacking -------------------------------------------------------------------------------*/

static void *on_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void on_free(void *arena, void *pointer)
{
    (void)arena;
    (void)pointer;
}

static void *unpack_part(struct bytes part, const ProtobufCMessageDescriptor *descriptor,
                         struct arena *arena)
{
    ProtobufCAllocator allocator = {on_alloc, on_free, arena};
    return protobuf_c_message_unpack(descriptor, &allocator, part.size, part.data);
}

/* NULL when frame is not of this kind or does not decode. */
static void *unpack_frame(struct bytes frame, enum message_kind kind,
                          const ProtobufCMessageDescriptor *descriptor, struct arena *arena)
{
    enum message_kind found;
    if (frame.size > FRAME_BYTES_MAX || codec_peek(frame, &found) != STATUS_OK || found != kind)
        return NULL;
    arena_reset(arena, 4 * frame.size + ALLOWANCE);
    struct bytes part =
        bytes_of(frame.data + MESSAGE_PREFIX_SIZE, frame.size - MESSAGE_PREFIX_SIZE);
    return unpack_part(part, descriptor, arena);
}

/* The arrays of one message: each has `count` elements, or none and then it becomes zeros. */
struct arrays {
    struct arena *arena;
    size_t count;
    bool ok; /* false as soon as one does not fit */
};

static struct arrays arrays_of(struct arena *arena, size_t count, size_t count_max)
{
    return (struct arrays){arena, count, count <= count_max};
}

static void *arrays_take(struct arrays *a, size_t count, void *array, size_t element_size)
{
    if (!a->ok)
        return NULL;
    if (count == 0 && a->count != 0)
        array = arena_calloc(a->arena, a->count, element_size);
    else
        a->ok = count == a->count;
    a->ok = a->ok && (array != NULL || a->count == 0);
    return array;
}

static uint32_t *take32(struct arrays *a, size_t count, uint32_t *array)
{
    return arrays_take(a, count, array, sizeof *array);
}

static uint64_t *take64(struct arrays *a, size_t count, uint64_t *array)
{
    return arrays_take(a, count, array, sizeof *array);
}

static struct bytes *take_bytes(struct arrays *a, size_t count, ProtobufCBinaryData *array)
{
    return arrays_take(a, count, array, sizeof *array);
}

static struct bytes view(ProtobufCBinaryData data)
{
    return bytes_of(data.data, data.len);
}

static bool all_below(const uint32_t *array, size_t count, uint32_t limit)
{
    for (size_t i = 0; i < count; i++)
        if (array[i] >= limit)
            return false;
    return true;
}

static bool kinds_valid(const uint32_t *kinds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (kinds[i] < KIND_READ || kinds[i] > KIND_LAST)
            return false;
    return true;
}

static bool id_or_none(struct bytes id)
{
    return id.size == 0 || id.size == ID_SIZE;
}

enum status codec_peek(struct bytes frame, enum message_kind *ret_kind)
{
    if (frame.size < MESSAGE_PREFIX_SIZE || frame.data[0] != PROTOCOL_MAGIC || frame.data[2] == 0)
        return STATUS_MALFORMED;
    if (frame.data[1] != PROTOCOL_VERSION) {
        *ret_kind = (enum message_kind)frame.data[2];
        return STATUS_UNSUPPORTED;
    }
    /* A flag changes how the frame is to be read; this version knows none. */
    if (frame.data[3] != 0)
        return STATUS_MALFORMED;
    *ret_kind = (enum message_kind)frame.data[2];
    return STATUS_OK;
}

/* ---- Sessions --------------------------------------------------------------------------------*/

enum status codec_pack_hello(enum message_kind kind, const struct hello *m, struct buffer *out)
{
    ENSURE(kind == MESSAGE_HELLO || kind == MESSAGE_HELLO_REPLY);
    ENSURE(id_or_none(m->cluster_id));
    struct arena scratch;
    scratch_init(&scratch);
    Duet__V1__Hello p = DUET__V1__HELLO__INIT;
    p.protocol_min = m->protocol_min;
    p.protocol_max = m->protocol_max;
    p.features = m->features;
    p.role = m->role;
    p.cluster_id = binary(m->cluster_id);
    p.boot_id = m->boot_id;
    p.ptime = m->ptime;
    p.name = scratch_text(&scratch, m->name);
    p.software = scratch_text(&scratch, m->software);
    p.operations_max = m->operations_max;
    p.value_size_max = m->value_size_max;
    enum status s = STATUS_NOMEMORY;
    if (p.name != NULL && p.software != NULL)
        s = pack_frame(kind, &p.base, out);
    arena_fini(&scratch);
    return s;
}

enum status codec_unpack_hello(struct bytes frame, struct arena *arena, struct hello *ret)
{
    enum message_kind kind;
    if (codec_peek(frame, &kind) != STATUS_OK)
        return STATUS_MALFORMED;
    if (kind != MESSAGE_HELLO && kind != MESSAGE_HELLO_REPLY)
        return STATUS_MALFORMED;
    const Duet__V1__Hello *p = unpack_frame(frame, kind, &duet__v1__hello__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct hello m = {
        .protocol_min = p->protocol_min,
        .protocol_max = p->protocol_max,
        .features = p->features,
        .role = p->role,
        .cluster_id = view(p->cluster_id),
        .boot_id = p->boot_id,
        .ptime = p->ptime,
        .name = bytes_text(p->name),
        .software = bytes_text(p->software),
        .operations_max = p->operations_max,
        .value_size_max = p->value_size_max,
    };
    bool ok = m.role >= ROLE_CLIENT && m.role <= ROLE_ADMIN && m.protocol_min <= m.protocol_max &&
              id_or_none(m.cluster_id) && m.name.size <= TEXT_SIZE_MAX &&
              m.software.size <= TEXT_SIZE_MAX;
    if (!ok)
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

enum status codec_pack_refused(const struct refused *m, struct buffer *out)
{
    struct arena scratch;
    scratch_init(&scratch);
    Duet__V1__Refused p = DUET__V1__REFUSED__INIT;
    p.status = (uint32_t)m->status;
    p.message = scratch_text(&scratch, m->message);
    p.protocol_min = m->protocol_min;
    p.protocol_max = m->protocol_max;
    enum status s = p.message == NULL ? STATUS_NOMEMORY : pack_frame(MESSAGE_REFUSED, &p.base, out);
    arena_fini(&scratch);
    return s;
}

enum status codec_unpack_refused(struct bytes frame, struct arena *arena, struct refused *ret)
{
    const Duet__V1__Refused *p =
        unpack_frame(frame, MESSAGE_REFUSED, &duet__v1__refused__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct bytes message = bytes_text(p->message);
    if (message.size > TEXT_SIZE_MAX)
        return STATUS_MALFORMED;
    *ret = (struct refused){
        .status = status_from_wire(p->status),
        .message = message,
        .protocol_min = p->protocol_min,
        .protocol_max = p->protocol_max,
    };
    return STATUS_OK;
}

enum status codec_pack_ping(enum message_kind kind, const struct ping *m, struct buffer *out)
{
    ENSURE(kind == MESSAGE_PING || kind == MESSAGE_PONG);
    Duet__V1__Ping p = DUET__V1__PING__INIT;
    p.nonce = m->nonce;
    p.boot_id = m->boot_id;
    p.ptime = m->ptime;
    p.map_version = m->map_version;
    return pack_frame(kind, &p.base, out);
}

enum status codec_unpack_ping(struct bytes frame, struct arena *arena, struct ping *ret)
{
    enum message_kind kind;
    if (codec_peek(frame, &kind) != STATUS_OK || (kind != MESSAGE_PING && kind != MESSAGE_PONG))
        return STATUS_MALFORMED;
    const Duet__V1__Ping *p = unpack_frame(frame, kind, &duet__v1__ping__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    *ret = (struct ping){
        .nonce = p->nonce,
        .boot_id = p->boot_id,
        .ptime = p->ptime,
        .map_version = p->map_version,
    };
    return STATUS_OK;
}

/* ---- Operations and answers ------------------------------------------------------------------*/

enum status codec_pack_request(const struct request *m, struct buffer *out)
{
    ENSURE(m->count <= MESSAGE_OPERATIONS_MAX);
    Duet__V1__Request p = DUET__V1__REQUEST__INIT;
    p.client_id = m->client_id;
    p.first_seq = m->first_seq;
    p.ack_below = m->ack_below;
    p.ptime_token = m->ptime_token;
    p.deadline_ms = m->deadline_ms;
    p.flags = m->flags;
    p.n_kinds = m->count;
    p.kinds = m->kinds;
    p.n_keys = packed_bytes(m->keys, m->count);
    p.keys = binaries(m->keys);
    p.n_operations = packed_bytes(m->operations, m->count);
    p.operations = binaries(m->operations);
    return pack_frame(MESSAGE_REQUEST, &p.base, out);
}

enum status codec_unpack_request(struct bytes frame, struct arena *arena, struct request *ret)
{
    const Duet__V1__Request *p =
        unpack_frame(frame, MESSAGE_REQUEST, &duet__v1__request__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_kinds, MESSAGE_OPERATIONS_MAX);
    struct request m = {
        .client_id = p->client_id,
        .first_seq = p->first_seq,
        .ack_below = p->ack_below,
        .ptime_token = p->ptime_token,
        .deadline_ms = p->deadline_ms,
        .flags = p->flags,
        .count = p->n_kinds,
        .kinds = p->kinds,
        .keys = take_bytes(&a, p->n_keys, p->keys),
        .operations = take_bytes(&a, p->n_operations, p->operations),
    };
    if (!a.ok || !kinds_valid(m.kinds, m.count))
        return STATUS_MALFORMED;
    /* A flag that we do not know would be a promise that we do not keep. */
    if ((m.flags & ~REQUEST_WHOLE) != 0)
        return STATUS_MALFORMED;
    if (m.first_seq > UINT64_MAX - MESSAGE_OPERATIONS_MAX)
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

enum status codec_pack_answer(enum message_kind kind, const struct answer *m, struct buffer *out)
{
    ENSURE(kind == MESSAGE_ANSWER || kind == MESSAGE_RESULTS);
    ENSURE(m->count <= MESSAGE_OPERATIONS_MAX);
    Duet__V1__Answer p = DUET__V1__ANSWER__INIT;
    if (kind == MESSAGE_RESULTS)
        p.base.descriptor = &duet__v1__results__descriptor;
    p.client_id = m->owner;
    p.ptime = m->ptime;
    p.n_op_seqs = m->count;
    p.op_seqs = m->ids;
    p.n_statuses = packed32(m->statuses, m->count);
    p.statuses = m->statuses;
    p.n_flags = packed32(m->flags, m->count);
    p.flags = m->flags;
    p.n_epochs = packed64(m->epochs, m->count);
    p.epochs = m->epochs;
    p.n_seqs = packed64(m->seqs, m->count);
    p.seqs = m->seqs;
    p.n_values = packed_bytes(m->values, m->count);
    p.values = binaries(m->values);
    return pack_frame(kind, &p.base, out);
}

enum status codec_unpack_answer(struct bytes frame, struct arena *arena, struct answer *ret)
{
    enum message_kind kind;
    if (codec_peek(frame, &kind) != STATUS_OK)
        return STATUS_MALFORMED;
    if (kind != MESSAGE_ANSWER && kind != MESSAGE_RESULTS)
        return STATUS_MALFORMED;
    const Duet__V1__Answer *p = unpack_frame(
        frame, kind,
        kind == MESSAGE_ANSWER ? &duet__v1__answer__descriptor : &duet__v1__results__descriptor,
        arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_op_seqs, MESSAGE_OPERATIONS_MAX);
    struct answer m = {
        .owner = p->client_id,
        .ptime = p->ptime,
        .count = p->n_op_seqs,
        .ids = p->op_seqs,
        .statuses = take32(&a, p->n_statuses, p->statuses),
        .flags = take32(&a, p->n_flags, p->flags),
        .epochs = take64(&a, p->n_epochs, p->epochs),
        .seqs = take64(&a, p->n_seqs, p->seqs),
        .values = take_bytes(&a, p->n_values, p->values),
    };
    if (!a.ok)
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

enum status codec_pack_batch(const struct batch *m, struct buffer *out)
{
    ENSURE(m->count <= MESSAGE_OPERATIONS_MAX);
    Duet__V1__Batch p = DUET__V1__BATCH__INIT;
    p.router_boot = m->router_boot;
    p.n_tokens = m->count;
    p.tokens = m->tokens;
    p.n_kinds = packed32(m->kinds, m->count);
    p.kinds = m->kinds;
    p.n_digests = packed64(m->digests, m->count);
    p.digests = m->digests;
    p.n_epochs = packed64(m->epochs, m->count);
    p.epochs = m->epochs;
    p.n_client_ids = packed64(m->client_ids, m->count);
    p.client_ids = m->client_ids;
    p.n_seqs = packed64(m->seqs, m->count);
    p.seqs = m->seqs;
    p.n_ack_belows = packed64(m->ack_belows, m->count);
    p.ack_belows = m->ack_belows;
    p.n_ptime_tokens = packed64(m->ptime_tokens, m->count);
    p.ptime_tokens = m->ptime_tokens;
    p.n_deadlines_ms = packed32(m->deadlines_ms, m->count);
    p.deadlines_ms = m->deadlines_ms;
    p.n_keys = packed_bytes(m->keys, m->count);
    p.keys = binaries(m->keys);
    p.n_operations = packed_bytes(m->operations, m->count);
    p.operations = binaries(m->operations);
    return pack_frame(MESSAGE_BATCH, &p.base, out);
}

enum status codec_unpack_batch(struct bytes frame, struct arena *arena, struct batch *ret)
{
    const Duet__V1__Batch *p =
        unpack_frame(frame, MESSAGE_BATCH, &duet__v1__batch__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_tokens, MESSAGE_OPERATIONS_MAX);
    struct batch m = {
        .router_boot = p->router_boot,
        .count = p->n_tokens,
        .tokens = p->tokens,
        .kinds = take32(&a, p->n_kinds, p->kinds),
        .digests = take64(&a, p->n_digests, p->digests),
        .epochs = take64(&a, p->n_epochs, p->epochs),
        .client_ids = take64(&a, p->n_client_ids, p->client_ids),
        .seqs = take64(&a, p->n_seqs, p->seqs),
        .ack_belows = take64(&a, p->n_ack_belows, p->ack_belows),
        .ptime_tokens = take64(&a, p->n_ptime_tokens, p->ptime_tokens),
        .deadlines_ms = take32(&a, p->n_deadlines_ms, p->deadlines_ms),
        .keys = take_bytes(&a, p->n_keys, p->keys),
        .operations = take_bytes(&a, p->n_operations, p->operations),
    };
    if (!a.ok || !kinds_valid(m.kinds, m.count))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

/* ---- The parts of operations and answers -----------------------------------------------------*/

/* A field that we do not know in something that we are asked to do: not to be done by half. */
static bool understood(const ProtobufCMessage *m)
{
    return m->n_unknown_fields == 0;
}

enum status codec_pack_write(const struct write *m, struct buffer *out)
{
    Duet__V1__Operation p = DUET__V1__OPERATION__INIT;
    p.precondition = m->precondition;
    p.mutation = m->mutation;
    p.want = m->want;
    p.value = binary(m->value);
    p.delta = m->delta;
    p.expected_epoch = m->expected.epoch;
    p.expected_seq = m->expected.seq;
    p.expected_value = binary(m->expected_value);
    p.offset = m->offset;
    p.expiry_ms = m->expiry_ms;
    p.ttl_ms = m->ttl_ms;
    return pack_part(&p.base, out);
}

enum status codec_unpack_write(struct bytes part, struct arena *arena, struct write *ret)
{
    const Duet__V1__Operation *p = unpack_part(part, &duet__v1__operation__descriptor, arena);
    if (p == NULL || !understood(&p->base))
        return STATUS_MALFORMED;
    if (p->precondition > PRECONDITION_EXPIRY_AFTER || p->mutation > MUTATION_SET_EXPIRY ||
        p->want > WANT_NEW)
        return STATUS_MALFORMED;
    *ret = (struct write){
        .precondition = (enum precondition)p->precondition,
        .mutation = (enum mutation)p->mutation,
        .want = (enum want)p->want,
        .value = view(p->value),
        .delta = p->delta,
        .expected = {p->expected_epoch, p->expected_seq},
        .expected_value = view(p->expected_value),
        .offset = p->offset,
        .expiry_ms = p->expiry_ms,
        .ttl_ms = p->ttl_ms,
    };
    return STATUS_OK;
}

enum status codec_pack_atomic_batch(const struct atomic_batch *m, struct buffer *out)
{
    ENSURE(m->count <= ATOMIC_KEYS_MAX);
    Duet__V1__AtomicBatch p = DUET__V1__ATOMIC_BATCH__INIT;
    p.n_keys = m->count;
    p.keys = binaries(m->keys);
    p.n_operations = packed_bytes(m->operations, m->count);
    p.operations = binaries(m->operations);
    return pack_part(&p.base, out);
}

enum status codec_unpack_atomic_batch(struct bytes part, struct arena *arena,
                                      struct atomic_batch *ret)
{
    const Duet__V1__AtomicBatch *p =
        unpack_part(part, &duet__v1__atomic_batch__descriptor, arena);
    if (p == NULL || !understood(&p->base) || p->n_keys == 0)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_keys, ATOMIC_KEYS_MAX);
    struct atomic_batch m = {.count = p->n_keys,
                             .keys = take_bytes(&a, p->n_keys, p->keys),
                             .operations = take_bytes(&a, p->n_operations, p->operations)};
    if (!a.ok)
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

enum status codec_pack_atomic_answer(const struct atomic_answer *m, struct buffer *out)
{
    ENSURE(m->count <= ATOMIC_KEYS_MAX);
    Duet__V1__AtomicAnswer p = DUET__V1__ATOMIC_ANSWER__INIT;
    p.n_statuses = m->count;
    p.statuses = m->statuses;
    p.n_flags = packed32(m->flags, m->count);
    p.flags = m->flags;
    p.n_values = packed_bytes(m->values, m->count);
    p.values = binaries(m->values);
    p.dropped = m->dropped;
    return pack_part(&p.base, out);
}

enum status codec_unpack_atomic_answer(struct bytes part, struct arena *arena,
                                       struct atomic_answer *ret)
{
    const Duet__V1__AtomicAnswer *p =
        unpack_part(part, &duet__v1__atomic_answer__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_statuses, ATOMIC_KEYS_MAX);
    struct atomic_answer m = {.count = p->n_statuses,
                              .statuses = take32(&a, p->n_statuses, p->statuses),
                              .flags = take32(&a, p->n_flags, p->flags),
                              .values = take_bytes(&a, p->n_values, p->values),
                              .dropped = p->dropped != 0};
    if (!a.ok)
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

/* Parts of a few numbers are unpacked on the stack. */
struct small {
    _Alignas(16) uint8_t octets[1024];
    size_t used;
};

static void *small_alloc(void *data, size_t size)
{
    struct small *small = data;
    if (size > sizeof small->octets - small->used)
        return NULL;
    void *at = small->octets + small->used;
    small->used += (size + 15) / 16 * 16;
    return at;
}

static void *unpack_small(struct bytes part, const ProtobufCMessageDescriptor *descriptor,
                          struct small *small)
{
    small->used = 0;
    ProtobufCAllocator allocator = {small_alloc, on_free, small};
    return protobuf_c_message_unpack(descriptor, &allocator, part.size, part.data);
}

/* A linearizable read of the value packs to nothing, as a read without a query. */
enum status codec_pack_read_query(const struct read_query *m, struct buffer *out)
{
    Duet__V1__ReadQuery p = DUET__V1__READ_QUERY__INIT;
    p.part = m->part;
    p.consistency = m->consistency;
    return pack_part(&p.base, out);
}

enum status codec_unpack_read_query(struct bytes part, struct read_query *ret)
{
    struct small small;
    const Duet__V1__ReadQuery *p = unpack_small(part, &duet__v1__read_query__descriptor, &small);
    if (p == NULL || !understood(&p->base) || p->part > READ_EXPIRY ||
        p->consistency > CONSISTENCY_ANY)
        return STATUS_MALFORMED;
    *ret = (struct read_query){(enum read_part)p->part, (enum consistency)p->consistency};
    return STATUS_OK;
}

enum status codec_pack_expiry(const struct expiry *m, struct buffer *out)
{
    Duet__V1__Expiry p = DUET__V1__EXPIRY__INIT;
    p.expiry_ms = m->expiry_ms;
    p.left_ms = m->left_ms;
    return pack_part(&p.base, out);
}

enum status codec_unpack_expiry(struct bytes part, struct expiry *ret)
{
    struct small small;
    const Duet__V1__Expiry *p = unpack_small(part, &duet__v1__expiry__descriptor, &small);
    if (p == NULL)
        return STATUS_MALFORMED;
    *ret = (struct expiry){p->expiry_ms, p->left_ms};
    return STATUS_OK;
}

enum status codec_pack_outcome_query(const struct outcome_query *m, struct buffer *out)
{
    Duet__V1__OutcomeQuery p = DUET__V1__OUTCOME_QUERY__INIT;
    p.client_id = m->client_id;
    p.seq = m->seq;
    p.ptime_token = m->ptime_token;
    return pack_part(&p.base, out);
}

enum status codec_unpack_outcome_query(struct bytes part, struct outcome_query *ret)
{
    struct small small;
    const Duet__V1__OutcomeQuery *p =
        unpack_small(part, &duet__v1__outcome_query__descriptor, &small);
    if (p == NULL || !understood(&p->base))
        return STATUS_MALFORMED;
    *ret = (struct outcome_query){p->client_id, p->seq, p->ptime_token};
    return STATUS_OK;
}

enum status codec_pack_scan_query(const struct scan_query *m, struct buffer *out)
{
    Duet__V1__ScanQuery p = DUET__V1__SCAN_QUERY__INIT;
    p.count_max = m->count_max;
    p.bytes_max = m->bytes_max;
    p.keys_only = m->keys_only;
    p.count_only = m->count_only;
    p.prefix = binary(m->prefix);
    p.from = binary(m->from);
    p.to = binary(m->to);
    return pack_part(&p.base, out);
}

enum status codec_unpack_scan_query(struct bytes part, struct arena *arena, struct scan_query *ret)
{
    const Duet__V1__ScanQuery *p = unpack_part(part, &duet__v1__scan_query__descriptor, arena);
    if (p == NULL || !understood(&p->base))
        return STATUS_MALFORMED;
    if (p->prefix.len > KEY_SIZE_MAX || p->from.len > SCAN_BOUND_SIZE_MAX ||
        p->to.len > SCAN_BOUND_SIZE_MAX)
        return STATUS_MALFORMED;
    *ret = (struct scan_query){
        .count_max = p->count_max,
        .bytes_max = p->bytes_max,
        .keys_only = p->keys_only != 0,
        .count_only = p->count_only != 0,
        .prefix = view(p->prefix),
        .from = view(p->from),
        .to = view(p->to),
    };
    return STATUS_OK;
}

enum status codec_pack_scan_page(const struct scan_page *m, struct buffer *out)
{
    ENSURE(m->count <= SCAN_PAGE_KEYS_MAX);
    Duet__V1__ScanPage p = DUET__V1__SCAN_PAGE__INIT;
    p.n_keys = m->count;
    p.keys = binaries(m->keys);
    p.n_values = packed_bytes(m->values, m->count);
    p.values = binaries(m->values);
    p.n_epochs = packed64(m->epochs, m->count);
    p.epochs = m->epochs;
    p.n_seqs = packed64(m->seqs, m->count);
    p.seqs = m->seqs;
    p.next = binary(m->next);
    p.counted = m->counted;
    return pack_part(&p.base, out);
}

enum status codec_unpack_scan_page(struct bytes part, struct arena *arena, struct scan_page *ret)
{
    if (part.size > FRAME_BYTES_MAX)
        return STATUS_MALFORMED;
    const size_t room = 4 * part.size + ALLOWANCE;
    if (arena->cap - arena->used < room)
        arena->cap = arena->used + room;
    const Duet__V1__ScanPage *p = unpack_part(part, &duet__v1__scan_page__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_keys, SCAN_PAGE_KEYS_MAX);
    struct scan_page m = {
        .count = p->n_keys,
        .keys = take_bytes(&a, p->n_keys, p->keys),
        .values = take_bytes(&a, p->n_values, p->values),
        .epochs = take64(&a, p->n_epochs, p->epochs),
        .seqs = take64(&a, p->n_seqs, p->seqs),
        .next = view(p->next),
        .counted = p->counted,
    };
    for (size_t i = 0; a.ok && i < m.count; i++)
        a.ok = m.keys[i].size >= 1 && m.keys[i].size <= KEY_SIZE_MAX;
    /* The cursor: digest and key; or a bound. */
    if (!a.ok || m.next.size > sizeof(uint64_t) + KEY_SIZE_MAX)
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

/* ---- The map ---------------------------------------------------------------------------------*/

enum status codec_pack_map_request(uint64_t map_version, struct buffer *out)
{
    Duet__V1__MapRequest p = DUET__V1__MAP_REQUEST__INIT;
    p.map_version = map_version;
    return pack_frame(MESSAGE_MAP_REQUEST, &p.base, out);
}

enum status codec_unpack_map_request(struct bytes frame, struct arena *arena, uint64_t *ret)
{
    const Duet__V1__MapRequest *p =
        unpack_frame(frame, MESSAGE_MAP_REQUEST, &duet__v1__map_request__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    *ret = p->map_version;
    return STATUS_OK;
}

/* NULL when out of memory. */
static Duet__V1__Register **scratch_registers(struct arena *scratch, const struct map_message *m)
{
    Duet__V1__Register **list = arena_calloc(scratch, m->count, sizeof *list);
    for (size_t i = 0; list != NULL && i < m->count; i++) {
        Duet__V1__Register *p = arena_alloc(scratch, sizeof *p);
        char *name = scratch_text(scratch, m->registers[i].name);
        if (p == NULL || name == NULL)
            return NULL;
        duet__v1__register__init(p);
        p->name = name;
        p->version = m->registers[i].version;
        p->value = binary(m->registers[i].value);
        list[i] = p;
    }
    return list;
}

enum status codec_pack_map(const struct map_message *m, struct buffer *out)
{
    ENSURE(m->count <= REGISTERS_MAX);
    struct arena scratch;
    scratch_init(&scratch);
    Duet__V1__Map p = DUET__V1__MAP__INIT;
    p.n_registers = m->count;
    p.registers = scratch_registers(&scratch, m);
    enum status s = p.registers == NULL ? STATUS_NOMEMORY : pack_frame(MESSAGE_MAP, &p.base, out);
    arena_fini(&scratch);
    return s;
}

enum status codec_unpack_map(struct bytes frame, struct arena *arena, struct map_message *ret)
{
    const Duet__V1__Map *p = unpack_frame(frame, MESSAGE_MAP, &duet__v1__map__descriptor, arena);
    if (p == NULL || p->n_registers > REGISTERS_MAX)
        return STATUS_MALFORMED;
    struct map_message m = {
        .count = p->n_registers,
        .registers = arena_calloc(arena, p->n_registers, sizeof *m.registers),
    };
    if (m.registers == NULL)
        return STATUS_MALFORMED;
    for (size_t i = 0; i < m.count; i++) {
        const Duet__V1__Register *r = p->registers[i];
        m.registers[i] = (struct reg){bytes_text(r->name), r->version, view(r->value)};
        if (m.registers[i].name.size == 0 || m.registers[i].name.size >= NAME_SIZE_MAX)
            return STATUS_MALFORMED;
    }
    *ret = m;
    return STATUS_OK;
}

static bool power_of_two(uint32_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

static bool cluster_value_valid(const struct cluster_value *m)
{
    return m->cluster_id.size == ID_SIZE && power_of_two(m->partition_count) &&
           m->partition_count <= PARTITIONS_MAX && m->copies >= 1 && m->copies <= COPIES_MAX &&
           m->isr_min >= 1 && m->isr_min <= m->copies && m->voters_count <= VOTERS_MAX &&
           m->next_count <= VOTERS_MAX && all_below(m->voters, m->voters_count, NODES_MAX) &&
           all_below(m->next, m->next_count, NODES_MAX);
}

enum status codec_pack_cluster_value(const struct cluster_value *m, struct buffer *out)
{
    ENSURE(cluster_value_valid(m));
    Duet__V1__ClusterValue p = DUET__V1__CLUSTER_VALUE__INIT;
    p.cluster_id = binary(m->cluster_id);
    p.partition_count = m->partition_count;
    p.copies = m->copies;
    p.isr_min = m->isr_min;
    p.n_voters = m->voters_count;
    p.voters = m->voters;
    p.n_next_voters = m->next_count;
    p.next_voters = m->next;
    return pack_part(&p.base, out);
}

enum status codec_unpack_cluster_value(struct bytes part, struct arena *arena,
                                       struct cluster_value *ret)
{
    const Duet__V1__ClusterValue *p =
        unpack_part(part, &duet__v1__cluster_value__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct cluster_value m = {
        .cluster_id = view(p->cluster_id),
        .partition_count = p->partition_count,
        .copies = p->copies,
        .isr_min = p->isr_min,
        .voters_count = p->n_voters,
        .voters = p->voters,
        .next_count = p->n_next_voters,
        .next = p->next_voters,
    };
    if (!cluster_value_valid(&m))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

static bool node_value_valid(const struct node_value *m)
{
    return m->node_id.size == ID_SIZE && m->name.size >= 1 && m->name.size < NAME_SIZE_MAX &&
           m->address.size >= 1 && m->address.size < ADDRESS_SIZE_MAX &&
           m->host.size < NAME_SIZE_MAX && m->rack.size < NAME_SIZE_MAX &&
           m->state <= NODE_STATE_MAX;
}

enum status codec_pack_node_value(const struct node_value *m, struct buffer *out)
{
    ENSURE(node_value_valid(m));
    struct arena scratch;
    scratch_init(&scratch);
    Duet__V1__NodeValue p = DUET__V1__NODE_VALUE__INIT;
    p.node_id = binary(m->node_id);
    p.name = scratch_text(&scratch, m->name);
    p.address = scratch_text(&scratch, m->address);
    p.host = scratch_text(&scratch, m->host);
    p.rack = scratch_text(&scratch, m->rack);
    p.weight = m->weight;
    p.state = m->state;
    p.incarnation = m->incarnation;
    p.disk = m->disk;
    enum status s = STATUS_NOMEMORY;
    if (p.name != NULL && p.address != NULL && p.host != NULL && p.rack != NULL)
        s = pack_part(&p.base, out);
    arena_fini(&scratch);
    return s;
}

enum status codec_unpack_node_value(struct bytes part, struct arena *arena, struct node_value *ret)
{
    const Duet__V1__NodeValue *p = unpack_part(part, &duet__v1__node_value__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct node_value m = {
        .node_id = view(p->node_id),
        .name = bytes_text(p->name),
        .address = bytes_text(p->address),
        .host = bytes_text(p->host),
        .rack = bytes_text(p->rack),
        .weight = p->weight,
        .state = p->state,
        .incarnation = p->incarnation,
        .disk = p->disk,
    };
    if (!node_value_valid(&m))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

static bool partition_value_valid(const struct partition_value *m)
{
    return m->primary < NODES_MAX && m->state <= PARTITION_STATE_MAX &&
           m->isr_count <= COPIES_MAX && m->assigned_count <= COPIES_MAX &&
           m->base_count <= COPIES_MAX && all_below(m->isr, m->isr_count, NODES_MAX) &&
           all_below(m->assigned, m->assigned_count, NODES_MAX) &&
           all_below(m->base, m->base_count, NODES_MAX);
}

enum status codec_pack_partition_value(const struct partition_value *m, struct buffer *out)
{
    ENSURE(partition_value_valid(m));
    Duet__V1__PartitionValue p = DUET__V1__PARTITION_VALUE__INIT;
    p.epoch = m->epoch;
    p.opened = m->opened;
    p.primary = m->primary;
    p.n_isr = m->isr_count;
    p.isr = m->isr;
    p.n_isr_replica_ids = m->isr_replica_ids == NULL ? 0 : m->isr_count;
    p.isr_replica_ids = m->isr_replica_ids;
    p.n_assigned = m->assigned_count;
    p.assigned = m->assigned;
    p.state = m->state;
    p.n_base_members = m->base_count;
    p.base_members = m->base;
    p.beacon_epoch = m->beacon_epoch;
    p.beacon_seq = m->beacon_seq;
    return pack_part(&p.base, out);
}

enum status codec_unpack_partition_value(struct bytes part, struct arena *arena,
                                         struct partition_value *ret)
{
    const Duet__V1__PartitionValue *p =
        unpack_part(part, &duet__v1__partition_value__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct partition_value m = {
        .epoch = p->epoch,
        .opened = p->opened != 0,
        .primary = p->primary,
        .state = p->state,
        .isr_count = p->n_isr,
        .assigned_count = p->n_assigned,
        .isr = p->isr,
        .isr_replica_ids = p->n_isr_replica_ids == 0 ? NULL : p->isr_replica_ids,
        .assigned = p->assigned,
        .base_count = p->n_base_members,
        .base = p->base_members,
        .beacon_epoch = p->beacon_epoch,
        .beacon_seq = p->beacon_seq,
    };
    if (p->n_isr_replica_ids != 0 && p->n_isr_replica_ids != p->n_isr)
        return STATUS_MALFORMED;
    if (!partition_value_valid(&m))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

/* ---- Drain -----------------------------------------------------------------------------------*/

enum status codec_pack_drain(bool drained, struct buffer *out)
{
    Duet__V1__Drain p = DUET__V1__DRAIN__INIT;
    p.drained = drained;
    return pack_frame(MESSAGE_DRAIN, &p.base, out);
}

enum status codec_unpack_drain(struct bytes frame, struct arena *arena, bool *ret_drained)
{
    const Duet__V1__Drain *p =
        unpack_frame(frame, MESSAGE_DRAIN, &duet__v1__drain__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    *ret_drained = p->drained != 0;
    return STATUS_OK;
}

/* ---- Voters ----------------------------------------------------------------------------------*/

static bool voters_valid(const struct voters_message *m)
{
    return m->count >= 1 && m->count <= VOTERS_MAX && all_below(m->nodes, m->count, NODES_MAX);
}

enum status codec_pack_voters(const struct voters_message *m, struct buffer *out)
{
    ENSURE(voters_valid(m));
    Duet__V1__Voters p = DUET__V1__VOTERS__INIT;
    p.n_nodes = m->count;
    p.nodes = m->nodes;
    return pack_frame(MESSAGE_VOTERS, &p.base, out);
}

enum status codec_unpack_voters(struct bytes frame, struct arena *arena,
                                struct voters_message *ret)
{
    const Duet__V1__Voters *p =
        unpack_frame(frame, MESSAGE_VOTERS, &duet__v1__voters__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct voters_message m = {.count = p->n_nodes, .nodes = p->nodes};
    if (!voters_valid(&m))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

enum status codec_pack_join(struct bytes node, struct buffer *out)
{
    Duet__V1__Join p = DUET__V1__JOIN__INIT;
    p.node = binary(node);
    return pack_frame(MESSAGE_JOIN, &p.base, out);
}

enum status codec_unpack_join(struct bytes frame, struct arena *arena, struct node_value *ret)
{
    const Duet__V1__Join *p =
        unpack_frame(frame, MESSAGE_JOIN, &duet__v1__join__descriptor, arena);
    return p == NULL ? STATUS_MALFORMED : codec_unpack_node_value(view(p->node), arena, ret);
}

/* ---- Status ----------------------------------------------------------------------------------*/

enum status codec_pack_status_request(struct buffer *out)
{
    enum status s;
    uint8_t *at = reserve(out, MESSAGE_PREFIX_SIZE, &s);
    if (at == NULL)
        return s;
    at[0] = PROTOCOL_MAGIC;
    at[1] = PROTOCOL_VERSION;
    at[2] = MESSAGE_STATUS_REQUEST;
    at[3] = 0;
    return STATUS_OK;
}

/* NULL when out of memory. */
static char **scratch_names(struct arena *scratch, const struct status_message *m)
{
    char **names = arena_calloc(scratch, m->count, sizeof *names);
    for (size_t i = 0; names != NULL && i < m->count; i++) {
        names[i] = scratch_text(scratch, m->names[i]);
        if (names[i] == NULL)
            return NULL;
    }
    return names;
}

enum status codec_pack_status(const struct status_message *m, struct buffer *out)
{
    ENSURE(m->count <= STATUS_VALUES_MAX);
    struct arena scratch;
    scratch_init(&scratch);
    Duet__V1__Status p = DUET__V1__STATUS__INIT;
    p.name = scratch_text(&scratch, m->name);
    p.role = scratch_text(&scratch, m->role);
    p.n_names = m->count;
    p.names = scratch_names(&scratch, m);
    p.n_values = m->count;
    p.values = m->values;
    enum status s = STATUS_NOMEMORY;
    if (p.name != NULL && p.role != NULL && p.names != NULL)
        s = pack_frame(MESSAGE_STATUS, &p.base, out);
    arena_fini(&scratch);
    return s;
}

enum status codec_unpack_status(struct bytes frame, struct arena *arena, struct status_message *ret)
{
    const Duet__V1__Status *p =
        unpack_frame(frame, MESSAGE_STATUS, &duet__v1__status__descriptor, arena);
    if (p == NULL || p->n_names > STATUS_VALUES_MAX || p->n_values != p->n_names)
        return STATUS_MALFORMED;
    struct status_message m = {
        .name = bytes_text(p->name),
        .role = bytes_text(p->role),
        .count = p->n_names,
        .names = arena_calloc(arena, p->n_names, sizeof *m.names),
        .values = p->values,
    };
    if (m.names == NULL || m.name.size > TEXT_SIZE_MAX || m.role.size > TEXT_SIZE_MAX)
        return STATUS_MALFORMED;
    for (size_t i = 0; i < m.count; i++) {
        m.names[i] = bytes_text(p->names[i]);
        if (m.names[i].size > TEXT_SIZE_MAX)
            return STATUS_MALFORMED;
    }
    *ret = m;
    return STATUS_OK;
}

/* ---- Node to node ----------------------------------------------------------------------------*/

enum status codec_pack_heartbeat(const struct heartbeat *m, struct buffer *out)
{
    ENSURE(m->sender < NODES_MAX);
    ENSURE(m->count <= PARTITIONS_MAX && m->granted_count <= m->count);
    ENSURE(id_or_none(m->cluster_id) && id_or_none(m->node_id));
    Duet__V1__Heartbeat p = DUET__V1__HEARTBEAT__INIT;
    p.sender = m->sender;
    p.incarnation = m->incarnation;
    p.target_incarnation = m->target_incarnation;
    p.cluster_id = binary(m->cluster_id);
    p.node_id = binary(m->node_id);
    p.map_version = m->map_version;
    p.ptime = m->ptime;
    p.disk = m->disk;
    p.address = binary(m->address);
    p.former = m->former;
    p.target_disk = m->target_disk;
    p.target_seen = m->target_seen;
    p.lease_primary_ms = m->lease_primary_ms;
    p.lease_replica_ms = m->lease_replica_ms;
    p.leaving = m->leaving;
    p.sent_ms = m->sent_ms;
    p.echo_ms = m->echo_ms;
    p.granted = (uint32_t)m->granted_count;
    p.n_partitions = m->count;
    p.partitions = m->partitions;
    p.n_epochs = packed64(m->epochs, m->count);
    p.epochs = m->epochs;
    return pack_frame(MESSAGE_HEARTBEAT, &p.base, out);
}

enum status codec_unpack_heartbeat(struct bytes frame, struct arena *arena, struct heartbeat *ret)
{
    const Duet__V1__Heartbeat *p =
        unpack_frame(frame, MESSAGE_HEARTBEAT, &duet__v1__heartbeat__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_partitions, PARTITIONS_MAX);
    struct heartbeat m = {
        .sender = p->sender,
        .incarnation = p->incarnation,
        .target_incarnation = p->target_incarnation,
        .cluster_id = view(p->cluster_id),
        .node_id = view(p->node_id),
        .map_version = p->map_version,
        .ptime = p->ptime,
        .disk = p->disk,
        .address = view(p->address),
        .former = p->former,
        .target_disk = p->target_disk,
        .target_seen = p->target_seen,
        .lease_primary_ms = p->lease_primary_ms,
        .lease_replica_ms = p->lease_replica_ms,
        .leaving = p->leaving != 0,
        .sent_ms = p->sent_ms,
        .echo_ms = p->echo_ms,
        .count = p->n_partitions,
        .granted_count = p->granted,
        .partitions = p->partitions,
        .epochs = take64(&a, p->n_epochs, p->epochs),
    };
    if (!a.ok || m.sender >= NODES_MAX || !id_or_none(m.cluster_id) || !id_or_none(m.node_id) ||
        m.address.size >= ADDRESS_SIZE_MAX || m.granted_count > m.count || !all_below(m.partitions, m.count, PARTITIONS_MAX))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

enum status codec_pack_promise(const struct promise *m, struct buffer *out)
{
    ENSURE(m->sender < NODES_MAX && m->count <= PARTITIONS_MAX);
    Duet__V1__Promise p = DUET__V1__PROMISE__INIT;
    p.sender = m->sender;
    p.incarnation = m->incarnation;
    p.target_incarnation = m->target_incarnation;
    p.n_partitions = m->count;
    p.partitions = m->partitions;
    p.n_epochs = packed64(m->epochs, m->count);
    p.epochs = m->epochs;
    return pack_frame(MESSAGE_PROMISE, &p.base, out);
}

enum status codec_unpack_promise(struct bytes frame, struct arena *arena, struct promise *ret)
{
    const Duet__V1__Promise *p =
        unpack_frame(frame, MESSAGE_PROMISE, &duet__v1__promise__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_partitions, PARTITIONS_MAX);
    struct promise m = {
        .sender = p->sender,
        .incarnation = p->incarnation,
        .target_incarnation = p->target_incarnation,
        .count = p->n_partitions,
        .partitions = p->partitions,
        .epochs = take64(&a, p->n_epochs, p->epochs),
    };
    if (!a.ok || m.sender >= NODES_MAX || !all_below(m.partitions, m.count, PARTITIONS_MAX))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

enum status codec_pack_confirm(enum message_kind kind, const struct confirm *m, struct buffer *out)
{
    ENSURE(kind == MESSAGE_CONFIRM || kind == MESSAGE_CONFIRMED);
    ENSURE(m->sender < NODES_MAX && m->count <= PARTITIONS_MAX);
    Duet__V1__Confirm p = DUET__V1__CONFIRM__INIT;
    p.sender = m->sender;
    p.incarnation = m->incarnation;
    p.target_incarnation = m->target_incarnation;
    p.n_partitions = m->count;
    p.partitions = m->partitions;
    p.n_epochs = packed64(m->epochs, m->count);
    p.epochs = m->epochs;
    p.n_numbers = packed64(m->numbers, m->count);
    p.numbers = m->numbers;
    return pack_frame(kind, &p.base, out);
}

enum status codec_unpack_confirm(struct bytes frame, struct arena *arena, struct confirm *ret)
{
    enum message_kind kind;
    if (codec_peek(frame, &kind) != STATUS_OK ||
        (kind != MESSAGE_CONFIRM && kind != MESSAGE_CONFIRMED))
        return STATUS_MALFORMED;
    const Duet__V1__Confirm *p = unpack_frame(frame, kind, &duet__v1__confirm__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_partitions, PARTITIONS_MAX);
    struct confirm m = {
        .sender = p->sender,
        .incarnation = p->incarnation,
        .target_incarnation = p->target_incarnation,
        .count = p->n_partitions,
        .partitions = p->partitions,
        .epochs = take64(&a, p->n_epochs, p->epochs),
        .numbers = take64(&a, p->n_numbers, p->numbers),
    };
    if (!a.ok || m.sender >= NODES_MAX || !all_below(m.partitions, m.count, PARTITIONS_MAX))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

enum status codec_pack_promised(const struct promised *m, struct buffer *out)
{
    ENSURE(m->sender < NODES_MAX && m->count <= PARTITIONS_MAX);
    Duet__V1__Promised p = DUET__V1__PROMISED__INIT;
    p.sender = m->sender;
    p.incarnation = m->incarnation;
    p.target_incarnation = m->target_incarnation;
    p.n_partitions = m->count;
    p.partitions = m->partitions;
    p.n_epochs = packed64(m->epochs, m->count);
    p.epochs = m->epochs;
    p.n_commit_epochs = packed64(m->commit_epochs, m->count);
    p.commit_epochs = m->commit_epochs;
    p.n_commit_seqs = packed64(m->commit_seqs, m->count);
    p.commit_seqs = m->commit_seqs;
    p.n_commit_hashes = packed64(m->commit_hashes, m->count);
    p.commit_hashes = m->commit_hashes;
    p.n_last_seqs = packed64(m->last_seqs, m->count);
    p.last_seqs = m->last_seqs;
    return pack_frame(MESSAGE_PROMISED, &p.base, out);
}

enum status codec_unpack_promised(struct bytes frame, struct arena *arena, struct promised *ret)
{
    const Duet__V1__Promised *p =
        unpack_frame(frame, MESSAGE_PROMISED, &duet__v1__promised__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_partitions, PARTITIONS_MAX);
    struct promised m = {
        .sender = p->sender,
        .incarnation = p->incarnation,
        .target_incarnation = p->target_incarnation,
        .count = p->n_partitions,
        .partitions = p->partitions,
        .epochs = take64(&a, p->n_epochs, p->epochs),
        .commit_epochs = take64(&a, p->n_commit_epochs, p->commit_epochs),
        .commit_seqs = take64(&a, p->n_commit_seqs, p->commit_seqs),
        .commit_hashes = take64(&a, p->n_commit_hashes, p->commit_hashes),
        .last_seqs = take64(&a, p->n_last_seqs, p->last_seqs),
    };
    if (!a.ok || m.sender >= NODES_MAX || !all_below(m.partitions, m.count, PARTITIONS_MAX))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

/* Do the sections' entry counts add up to the entries that are there? */
static bool entries_add_up(const struct append *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->count; i++)
        sum += m->entry_counts[i];
    return sum == m->entries_count;
}

enum status codec_pack_append(const struct append *m, struct buffer *out)
{
    ENSURE(m->sender < NODES_MAX && m->count <= PARTITIONS_MAX);
    ENSURE(m->entry_counts == NULL ? m->entries_count == 0 : entries_add_up(m));
    Duet__V1__Append p = DUET__V1__APPEND__INIT;
    p.sender = m->sender;
    p.incarnation = m->incarnation;
    p.target_incarnation = m->target_incarnation;
    p.ptime = m->ptime;
    p.n_partitions = m->count;
    p.partitions = m->partitions;
    p.n_epochs = packed64(m->epochs, m->count);
    p.epochs = m->epochs;
    p.n_prev_epochs = packed64(m->prev_epochs, m->count);
    p.prev_epochs = m->prev_epochs;
    p.n_prev_seqs = packed64(m->prev_seqs, m->count);
    p.prev_seqs = m->prev_seqs;
    p.n_prev_hashes = packed64(m->prev_hashes, m->count);
    p.prev_hashes = m->prev_hashes;
    p.n_commit_seqs = packed64(m->commit_seqs, m->count);
    p.commit_seqs = m->commit_seqs;
    p.n_durable_seqs = packed64(m->durable_seqs, m->count);
    p.durable_seqs = m->durable_seqs;
    p.n_flags = packed32(m->flags, m->count);
    p.flags = m->flags;
    p.n_entry_counts = packed32(m->entry_counts, m->count);
    p.entry_counts = m->entry_counts;
    p.n_entries = m->entries_count;
    p.entries = binaries(m->entries);
    return pack_frame(MESSAGE_APPEND, &p.base, out);
}

enum status codec_unpack_append(struct bytes frame, struct arena *arena, struct append *ret)
{
    const Duet__V1__Append *p =
        unpack_frame(frame, MESSAGE_APPEND, &duet__v1__append__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_partitions, PARTITIONS_MAX);
    struct append m = {
        .sender = p->sender,
        .incarnation = p->incarnation,
        .target_incarnation = p->target_incarnation,
        .ptime = p->ptime,
        .count = p->n_partitions,
        .partitions = p->partitions,
        .epochs = take64(&a, p->n_epochs, p->epochs),
        .prev_epochs = take64(&a, p->n_prev_epochs, p->prev_epochs),
        .prev_seqs = take64(&a, p->n_prev_seqs, p->prev_seqs),
        .prev_hashes = take64(&a, p->n_prev_hashes, p->prev_hashes),
        .commit_seqs = take64(&a, p->n_commit_seqs, p->commit_seqs),
        .durable_seqs = take64(&a, p->n_durable_seqs, p->durable_seqs),
        .flags = take32(&a, p->n_flags, p->flags),
        .entry_counts = take32(&a, p->n_entry_counts, p->entry_counts),
        .entries_count = p->n_entries,
        .entries = (struct bytes *)p->entries,
    };
    if (!a.ok || m.sender >= NODES_MAX || !all_below(m.partitions, m.count, PARTITIONS_MAX))
        return STATUS_MALFORMED;
    if (!entries_add_up(&m))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

enum status codec_pack_ack(const struct ack *m, struct buffer *out)
{
    ENSURE(m->sender < NODES_MAX && m->count <= PARTITIONS_MAX);
    Duet__V1__Ack p = DUET__V1__ACK__INIT;
    p.sender = m->sender;
    p.incarnation = m->incarnation;
    p.target_incarnation = m->target_incarnation;
    p.n_partitions = m->count;
    p.partitions = m->partitions;
    p.n_epochs = packed64(m->epochs, m->count);
    p.epochs = m->epochs;
    p.n_verified_seqs = packed64(m->verified_seqs, m->count);
    p.verified_seqs = m->verified_seqs;
    p.n_hashes = packed64(m->hashes, m->count);
    p.hashes = m->hashes;
    p.n_flags = packed32(m->flags, m->count);
    p.flags = m->flags;
    return pack_frame(MESSAGE_ACK, &p.base, out);
}

enum status codec_unpack_ack(struct bytes frame, struct arena *arena, struct ack *ret)
{
    const Duet__V1__Ack *p = unpack_frame(frame, MESSAGE_ACK, &duet__v1__ack__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_partitions, PARTITIONS_MAX);
    struct ack m = {
        .sender = p->sender,
        .incarnation = p->incarnation,
        .target_incarnation = p->target_incarnation,
        .count = p->n_partitions,
        .partitions = p->partitions,
        .epochs = take64(&a, p->n_epochs, p->epochs),
        .verified_seqs = take64(&a, p->n_verified_seqs, p->verified_seqs),
        .hashes = take64(&a, p->n_hashes, p->hashes),
        .flags = take32(&a, p->n_flags, p->flags),
    };
    if (!a.ok || m.sender >= NODES_MAX || !all_below(m.partitions, m.count, PARTITIONS_MAX))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

/* ---- The registry: ballots and writers cross the wire field by field --------------------------*/

/* One array of structs as three arrays. ballot {counter, node, incarnation}; writer {nonce, node,
 * incarnation}. */
struct columns {
    uint64_t *numbers;
    uint32_t *nodes;
    uint64_t *incarnations;
};

/* False: out of memory. */
static bool columns_init(struct columns *c, size_t count, struct arena *scratch)
{
    c->numbers = arena_calloc(scratch, count, sizeof *c->numbers);
    c->nodes = arena_calloc(scratch, count, sizeof *c->nodes);
    c->incarnations = arena_calloc(scratch, count, sizeof *c->incarnations);
    return c->numbers != NULL && c->nodes != NULL && c->incarnations != NULL;
}

static bool ballots_split(const struct ballot *ballots, size_t count, struct arena *scratch,
                          struct columns *ret)
{
    if (!columns_init(ret, count, scratch))
        return false;
    for (size_t i = 0; ballots != NULL && i < count; i++) {
        ret->numbers[i] = ballots[i].counter;
        ret->nodes[i] = ballots[i].node;
        ret->incarnations[i] = ballots[i].incarnation;
    }
    return true;
}

static bool writers_split(const struct registry_writer *writers, size_t count,
                          struct arena *scratch, struct columns *ret)
{
    if (!columns_init(ret, count, scratch))
        return false;
    for (size_t i = 0; writers != NULL && i < count; i++) {
        ret->numbers[i] = writers[i].nonce;
        ret->nodes[i] = writers[i].node;
        ret->incarnations[i] = writers[i].incarnation;
    }
    return true;
}

/* NULL: out of memory, or a node that cannot be. */
static struct ballot *ballots_join(const struct arrays *a, const struct columns *c)
{
    struct ballot *ballots = arena_calloc(a->arena, a->count, sizeof *ballots);
    if (ballots == NULL || !all_below(c->nodes, a->count, NODES_MAX))
        return NULL;
    for (size_t i = 0; i < a->count; i++)
        ballots[i] = (struct ballot){c->numbers[i], c->nodes[i], c->incarnations[i]};
    return ballots;
}

static struct registry_writer *writers_join(const struct arrays *a, const struct columns *c)
{
    struct registry_writer *writers = arena_calloc(a->arena, a->count, sizeof *writers);
    if (writers == NULL || !all_below(c->nodes, a->count, NODES_MAX))
        return NULL;
    for (size_t i = 0; i < a->count; i++)
        writers[i] = (struct registry_writer){c->nodes[i], c->incarnations[i], c->numbers[i]};
    return writers;
}

static enum status pack_registry(const struct registry_message *m, struct arena *scratch,
                                 struct buffer *out)
{
    struct columns ballots, accepted, writers;
    if (!ballots_split(m->ballots, m->count, scratch, &ballots) ||
        !ballots_split(m->accepted, m->count, scratch, &accepted) ||
        !writers_split(m->writers, m->count, scratch, &writers))
        return STATUS_NOMEMORY;
    Duet__V1__Registry p = DUET__V1__REGISTRY__INIT;
    p.sender = m->sender;
    p.incarnation = m->incarnation;
    p.target_incarnation = m->target_incarnation;
    p.voters_version = m->voters_version;
    p.n_kinds = m->count;
    p.kinds = m->kinds;
    p.n_registers = packed32(m->registers, m->count);
    p.registers = m->registers;
    p.n_values = packed_bytes(m->values, m->count);
    p.values = binaries(m->values);
    p.n_versions = packed64(m->versions, m->count);
    p.versions = m->versions;
    p.n_ballot_counters = packed64(ballots.numbers, m->count);
    p.ballot_counters = ballots.numbers;
    p.n_ballot_nodes = packed32(ballots.nodes, m->count);
    p.ballot_nodes = ballots.nodes;
    p.n_ballot_incarnations = packed64(ballots.incarnations, m->count);
    p.ballot_incarnations = ballots.incarnations;
    p.n_accepted_counters = packed64(accepted.numbers, m->count);
    p.accepted_counters = accepted.numbers;
    p.n_accepted_nodes = packed32(accepted.nodes, m->count);
    p.accepted_nodes = accepted.nodes;
    p.n_accepted_incarnations = packed64(accepted.incarnations, m->count);
    p.accepted_incarnations = accepted.incarnations;
    p.n_writer_nodes = packed32(writers.nodes, m->count);
    p.writer_nodes = writers.nodes;
    p.n_writer_incarnations = packed64(writers.incarnations, m->count);
    p.writer_incarnations = writers.incarnations;
    p.n_writer_nonces = packed64(writers.numbers, m->count);
    p.writer_nonces = writers.numbers;
    return pack_frame(MESSAGE_REGISTRY, &p.base, out);
}

enum status codec_pack_registry(const struct registry_message *m, struct buffer *out)
{
    ENSURE(m->sender < NODES_MAX && m->count <= REGISTRY_STEPS_MAX);
    struct arena scratch;
    scratch_init(&scratch);
    enum status s = pack_registry(m, &scratch, out);
    arena_fini(&scratch);
    return s;
}

static bool registry_valid(const struct registry_message *m)
{
    if (m->sender >= NODES_MAX || !all_below(m->registers, m->count, REGISTERS_MAX))
        return false;
    for (size_t i = 0; i < m->count; i++) {
        if (m->kinds[i] < REGISTRY_PREPARE || m->kinds[i] > REGISTRY_REFUSED)
            return false;
        if (m->ballots[i].counter == 0 || m->values[i].size > REGISTRY_VALUE_SIZE_MAX)
            return false;
    }
    return true;
}

enum status codec_unpack_registry(struct bytes frame, struct arena *arena,
                                  struct registry_message *ret)
{
    const Duet__V1__Registry *p =
        unpack_frame(frame, MESSAGE_REGISTRY, &duet__v1__registry__descriptor, arena);
    if (p == NULL)
        return STATUS_MALFORMED;
    struct arrays a = arrays_of(arena, p->n_kinds, REGISTRY_STEPS_MAX);
    struct columns ballots = {
        .numbers = take64(&a, p->n_ballot_counters, p->ballot_counters),
        .nodes = take32(&a, p->n_ballot_nodes, p->ballot_nodes),
        .incarnations = take64(&a, p->n_ballot_incarnations, p->ballot_incarnations),
    };
    struct columns accepted = {
        .numbers = take64(&a, p->n_accepted_counters, p->accepted_counters),
        .nodes = take32(&a, p->n_accepted_nodes, p->accepted_nodes),
        .incarnations = take64(&a, p->n_accepted_incarnations, p->accepted_incarnations),
    };
    struct columns writers = {
        .numbers = take64(&a, p->n_writer_nonces, p->writer_nonces),
        .nodes = take32(&a, p->n_writer_nodes, p->writer_nodes),
        .incarnations = take64(&a, p->n_writer_incarnations, p->writer_incarnations),
    };
    struct registry_message m = {
        .sender = p->sender,
        .incarnation = p->incarnation,
        .target_incarnation = p->target_incarnation,
        .voters_version = p->voters_version,
        .count = p->n_kinds,
        .kinds = p->kinds,
        .registers = take32(&a, p->n_registers, p->registers),
        .versions = take64(&a, p->n_versions, p->versions),
        .values = take_bytes(&a, p->n_values, p->values),
    };
    if (!a.ok)
        return STATUS_MALFORMED;
    m.ballots = ballots_join(&a, &ballots);
    m.accepted = ballots_join(&a, &accepted);
    m.writers = writers_join(&a, &writers);
    if (m.ballots == NULL || m.accepted == NULL || m.writers == NULL || !registry_valid(&m))
        return STATUS_MALFORMED;
    *ret = m;
    return STATUS_OK;
}

enum status codec_pack_snapshot(const struct snapshot_message *m, struct buffer *out)
{
    ENSURE(m->sender < NODES_MAX && m->partition < PARTITIONS_MAX);
    Duet__V1__Snapshot p = DUET__V1__SNAPSHOT__INIT;
    p.sender = m->sender;
    p.incarnation = m->incarnation;
    p.target_incarnation = m->target_incarnation;
    p.partition = m->partition;
    p.epoch = m->epoch;
    p.id = m->id;
    p.index = m->index;
    p.last = m->last;
    p.body = binary(m->body);
    return pack_frame(MESSAGE_SNAPSHOT, &p.base, out);
}

enum status codec_unpack_snapshot(struct bytes frame, struct arena *arena,
                                  struct snapshot_message *ret)
{
    const Duet__V1__Snapshot *p =
        unpack_frame(frame, MESSAGE_SNAPSHOT, &duet__v1__snapshot__descriptor, arena);
    if (p == NULL || p->sender >= NODES_MAX || p->partition >= PARTITIONS_MAX)
        return STATUS_MALFORMED;
    *ret = (struct snapshot_message){
        .sender = p->sender,
        .incarnation = p->incarnation,
        .target_incarnation = p->target_incarnation,
        .partition = p->partition,
        .epoch = p->epoch,
        .id = p->id,
        .index = p->index,
        .last = p->last != 0,
        .body = view(p->body),
    };
    return STATUS_OK;
}

enum status codec_pack_snapshot_ack(const struct snapshot_ack *m, struct buffer *out)
{
    ENSURE(m->sender < NODES_MAX && m->partition < PARTITIONS_MAX);
    Duet__V1__SnapshotAck p = DUET__V1__SNAPSHOT_ACK__INIT;
    p.sender = m->sender;
    p.incarnation = m->incarnation;
    p.target_incarnation = m->target_incarnation;
    p.partition = m->partition;
    p.epoch = m->epoch;
    p.id = m->id;
    p.next = m->next;
    p.done = m->done;
    return pack_frame(MESSAGE_SNAPSHOT_ACK, &p.base, out);
}

enum status codec_unpack_snapshot_ack(struct bytes frame, struct arena *arena,
                                      struct snapshot_ack *ret)
{
    const Duet__V1__SnapshotAck *p =
        unpack_frame(frame, MESSAGE_SNAPSHOT_ACK, &duet__v1__snapshot_ack__descriptor, arena);
    if (p == NULL || p->sender >= NODES_MAX || p->partition >= PARTITIONS_MAX)
        return STATUS_MALFORMED;
    *ret = (struct snapshot_ack){
        .sender = p->sender,
        .incarnation = p->incarnation,
        .target_incarnation = p->target_incarnation,
        .partition = p->partition,
        .epoch = p->epoch,
        .id = p->id,
        .next = p->next,
        .done = p->done != 0,
    };
    return STATUS_OK;
}
