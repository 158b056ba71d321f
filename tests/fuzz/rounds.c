#include "tests/fuzz/rounds.h"

#include "proto/codec.h"
#include "proto/limits.h"
#include "tests/fuzz/fuzz.h"

#define OUT_SIZE_MAX ((size_t)64 << 20)
#define ALLOWANCE    ((size_t)2 << 20) /* codec.h: the cap is 4 x frame size + 2 MiB */
#define UNTOUCHED    0xa5

/* Decodes `in` and encodes it into out, if there is one. `in` is gone when it encodes. */
typedef enum status again_fn(enum message_kind kind, uint8_t **in, size_t size, struct arena *arena,
                             struct buffer *out);

static void drop(uint8_t **in)
{
    free(*in);
    *in = NULL;
}

static bool untouched(const void *at, size_t size)
{
    const uint8_t *octets = at;
    for (size_t i = 0; i < size; i++)
        if (octets[i] != UNTOUCHED)
            return false;
    return true;
}

#define AGAIN(name, type, unpack, pack)                                                            \
    static enum status again_##name(enum message_kind kind, uint8_t **in, size_t size,             \
                                    struct arena *arena, struct buffer *out)                       \
    {                                                                                              \
        (void)kind;                                                                                \
        (void)arena;                                                                               \
        type m;                                                                                    \
        memset(&m, UNTOUCHED, sizeof m);                                                           \
        struct bytes frame = bytes_of(*in, size);                                                  \
        enum status s = unpack;                                                                    \
        ENSURE(s == STATUS_OK || (s == STATUS_MALFORMED && untouched(&m, sizeof m)));              \
        drop(in);                                                                                  \
        if (s == STATUS_OK)                                                                        \
            ENSURE(pack == STATUS_OK);                                                             \
        return s;                                                                                  \
    }
#define AGAIN_FRAME(name)                                                                          \
    AGAIN(name, struct name, codec_unpack_##name(frame, arena, &m), codec_pack_##name(&m, out))
#define AGAIN_EITHER(name)                                                                         \
    AGAIN(name, struct name, codec_unpack_##name(frame, arena, &m),                                \
          codec_pack_##name(kind, &m, out))
#define AGAIN_SMALL(name)                                                                          \
    AGAIN(name, struct name, codec_unpack_##name(frame, &m), codec_pack_##name(&m, out))

AGAIN_EITHER(hello)
AGAIN_EITHER(answer)
AGAIN_EITHER(ping)
AGAIN_FRAME(request)
AGAIN_FRAME(batch)
AGAIN_FRAME(refused)
AGAIN_FRAME(heartbeat)
AGAIN_FRAME(promise)
AGAIN_FRAME(promised)
AGAIN_FRAME(append)
AGAIN_FRAME(ack)
AGAIN(confirm, struct confirm, codec_unpack_confirm(frame, arena, &m),
      codec_pack_confirm(kind, &m, out))
AGAIN(map_request, uint64_t, codec_unpack_map_request(frame, arena, &m),
      codec_pack_map_request(m, out))
AGAIN(map, struct map_message, codec_unpack_map(frame, arena, &m), codec_pack_map(&m, out))
AGAIN(status, struct status_message, codec_unpack_status(frame, arena, &m),
      codec_pack_status(&m, out))

/* Parts. */
AGAIN_FRAME(write)
AGAIN_FRAME(scan_page)
AGAIN_FRAME(cluster_value)
AGAIN_FRAME(node_value)
AGAIN_FRAME(partition_value)
AGAIN_SMALL(expiry)
AGAIN_SMALL(outcome_query)
AGAIN_FRAME(scan_query)
AGAIN_FRAME(atomic_batch)
AGAIN_FRAME(atomic_answer)
AGAIN_SMALL(read_query)

static again_fn *const frames[] = {
    [MESSAGE_HELLO] = again_hello,
    [MESSAGE_HELLO_REPLY] = again_hello,
    [MESSAGE_REQUEST] = again_request,
    [MESSAGE_ANSWER] = again_answer,
    [MESSAGE_BATCH] = again_batch,
    [MESSAGE_RESULTS] = again_answer,
    [MESSAGE_REFUSED] = again_refused,
    [MESSAGE_PING] = again_ping,
    [MESSAGE_PONG] = again_ping,
    [MESSAGE_MAP_REQUEST] = again_map_request,
    [MESSAGE_MAP] = again_map,
    [MESSAGE_STATUS] = again_status,
    [MESSAGE_CONFIRM] = again_confirm,
    [MESSAGE_CONFIRMED] = again_confirm,
    [MESSAGE_HEARTBEAT] = again_heartbeat,
    [MESSAGE_PROMISE] = again_promise,
    [MESSAGE_PROMISED] = again_promised,
    [MESSAGE_APPEND] = again_append,
    [MESSAGE_ACK] = again_ack,
};

static again_fn *frame_again(enum message_kind kind)
{
    return (size_t)kind < sizeof frames / sizeof frames[0] ? frames[kind] : NULL;
}

/* Decode a copy of `in` into an arena of its own, with the cap that a part may count on. */
static enum status once(again_fn *again, enum message_kind kind, struct bytes in,
                        struct buffer *out)
{
    struct arena arena;
    uint8_t *copy = fuzz_copy(in);
    arena_init(&arena);
    arena_reset(&arena, 4 * in.size + ALLOWANCE);
    enum status s = again(kind, &copy, in.size, &arena, out);
    ENSURE(arena.used <= arena.cap && arena.cap == 4 * in.size + ALLOWANCE);
    arena_fini(&arena);
    return s;
}

static bool stable(again_fn *again, enum message_kind kind, struct bytes in)
{
    struct buffer first, second;
    buffer_init(&first, OUT_SIZE_MAX);
    buffer_init(&second, OUT_SIZE_MAX);
    bool decodes = once(again, kind, in, &first) == STATUS_OK;
    if (decodes) {
        ENSURE(once(again, kind, buffer_view(&first), &second) == STATUS_OK);
        ENSURE(bytes_equal(buffer_view(&first), buffer_view(&second)));
    }
    buffer_fini(&first);
    buffer_fini(&second);
    return decodes;
}

static void operations(const uint32_t *kinds, const struct bytes *list, size_t count)
{
    static again_fn *const parts[] = {
        [KIND_READ] = again_read_query,
        [KIND_WRITE] = again_write,
        [KIND_OUTCOME] = again_outcome_query,
        [KIND_SCAN] = again_scan_query,
        [KIND_RANGE] = again_scan_query,
        [KIND_ATOMIC] = again_atomic_batch,
    };
    for (size_t i = 0; i < count; i++) {
        ENSURE(kinds[i] >= KIND_READ && kinds[i] <= KIND_LAST);
        stable(parts[kinds[i]], 0, list[i]);
    }
}

static void values(const struct answer *m)
{
    for (size_t i = 0; i < m->count; i++) {
        stable(again_scan_page, 0, m->values[i]);
        stable(again_atomic_answer, 0, m->values[i]);
        stable(again_expiry, 0, m->values[i]);
    }
}

static void registers(const struct map_message *m)
{
    for (size_t i = 0; i < m->count; i++) {
        stable(again_cluster_value, 0, m->registers[i].value);
        stable(again_node_value, 0, m->registers[i].value);
        stable(again_partition_value, 0, m->registers[i].value);
    }
}

/* What stands inside the messages that carry more than numbers. */
static void inside(enum message_kind kind, struct bytes frame)
{
    struct arena arena;
    union {
        struct request request;
        struct answer answer;
        struct batch batch;
        struct map_message map;
    } m;
    arena_init(&arena);
    if (kind == MESSAGE_REQUEST && codec_unpack_request(frame, &arena, &m.request) == STATUS_OK)
        operations(m.request.kinds, m.request.operations, m.request.count);
    if (kind == MESSAGE_BATCH && codec_unpack_batch(frame, &arena, &m.batch) == STATUS_OK)
        operations(m.batch.kinds, m.batch.operations, m.batch.count);
    if ((kind == MESSAGE_ANSWER || kind == MESSAGE_RESULTS) &&
        codec_unpack_answer(frame, &arena, &m.answer) == STATUS_OK)
        values(&m.answer);
    if (kind == MESSAGE_MAP && codec_unpack_map(frame, &arena, &m.map) == STATUS_OK)
        registers(&m.map);
    arena_fini(&arena);
}

bool rounds_frame(struct bytes frame)
{
    enum message_kind kind;
    if (codec_peek(frame, &kind) != STATUS_OK)
        return false;
    again_fn *again = frame_again(kind);
    if (again == NULL || !stable(again, kind, frame))
        return false;
    inside(kind, frame);
    return true;
}
