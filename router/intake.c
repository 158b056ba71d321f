#include "router/intake.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "proto/partition.h"
#include "router/dispatch.h"
#include "router/report.h"

/* ---- Requests --------------------------------------------------------------------------------*/

/* A request that is being taken. */
struct taking {
    const struct request *m;
    uint64_t deadline_ms;
    struct asker *asker;
    struct parcel *parcel;
    uint8_t *to; /* where the next key goes in the parcel */
};

static void count_kinds(struct coordinator *c, const struct request *m)
{
    c->counters.requests++;
    c->counters.operations += m->count;
    for (size_t i = 0; i < m->count; i++) {
        c->counters.reads += m->kinds[i] == KIND_READ;
        c->counters.writes += message_writes(m->kinds[i]);
        c->counters.outcomes += m->kinds[i] == KIND_OUTCOME;
        c->counters.scans += m->kinds[i] == KIND_SCAN || m->kinds[i] == KIND_RANGE;
    }
}

static enum status check(const struct coordinator *c, const struct request *m, size_t i)
{
    return operation_check(m->kinds[i], m->keys[i], m->operations[i], c->options.value_size_max);
}

static struct bytes copy(struct taking *t, struct bytes from)
{
    struct bytes view = bytes_of(t->to, from.size);
    if (from.size > 0)
        memcpy(t->to, from.data, from.size);
    t->to += from.size;
    return view;
}

static void take_operation(struct coordinator *c, struct taking *t, size_t i)
{
    const struct request *m = t->m;
    uint32_t index = answers_slot(c);
    ENSURE(index != OPERATION_NONE);
    struct operation *op = &c->slots[index];
    op->parcel = t->parcel;
    op->asker = t->asker;
    t->parcel->operations_count++;
    t->asker->operations_count++;
    op->kind = (enum operation_kind)m->kinds[i];
    op->client_id = m->client_id;
    op->seq = m->first_seq + i;
    op->ack_below = m->ack_below;
    op->ptime_token = m->ptime_token;
    op->deadline_ms = t->deadline_ms;
    enum status s = check(c, m, i);
    if (s != STATUS_OK) {
        dispatch_invalid(c, index, s);
        return;
    }
    op->key = copy(t, m->keys[i]);
    op->body = copy(t, m->operations[i]);
    op->any_copy = operation_any_copy(op->kind, op->body);
    op->digest =
        op->kind == KIND_SCAN ? operation_cursor_digest(op->key) : partition_digest(op->key);
    dispatch_start(c, index);
}

/* Bytes that the first count operations need; what is not valid is not kept. */
static size_t parcel_size(const struct coordinator *c, const struct request *m, size_t count)
{
    size_t size = sizeof(struct parcel);
    for (size_t i = 0; i < count; i++)
        if (check(c, m, i) == STATUS_OK)
            size += m->keys[i].size + m->operations[i].size;
    return size;
}

static struct parcel *parcel_new(struct coordinator *c, const struct request *m, size_t count,
                                 bool whole, bool single)
{
    size_t size = parcel_size(c, m, count);
    if (c->counters.bytes_used + size > c->options.bytes_max)
        return NULL;
    struct parcel *parcel = malloc(size);
    if (parcel == NULL)
        return NULL;
    *parcel = (struct parcel){.size = size,
                              .whole = whole,
                              .single = single,
                              .unanswered_count = (uint32_t)count};
    operation_list_init(&parcel->answered);
    c->counters.bytes_used += size;
    return parcel;
}

static uint64_t deadline_of(const struct coordinator *c, const struct request *m)
{
    uint32_t deadline_ms = m->deadline_ms == 0 ? c->options.deadline_ms : m->deadline_ms;
    if (deadline_ms > c->options.deadline_max_ms)
        deadline_ms = c->options.deadline_max_ms;
    return c->now_ms + deadline_ms;
}

/* How many of the operations, from the front, can be taken now. */
static size_t room_for(struct coordinator *c, size_t count, bool whole)
{
    if (c->free_count < count)
        answers_flush(c); /* frees the slots of what is answered */
    if (c->free_count >= count)
        return count;
    return whole ? 0 : c->free_count;
}

static void take_request(struct coordinator *c, uint64_t source, const struct request *m,
                         bool whole, bool single)
{
    struct taking t = {.m = m, .deadline_ms = deadline_of(c, m)};
    size_t count = room_for(c, m->count, whole);
    if (count > 0) {
        t.parcel = parcel_new(c, m, count, whole, single);
        if (t.parcel == NULL)
            count = 0;
    }
    if (count > 0) {
        t.asker = askers_get(&c->askers, source, m->client_id);
        ENSURE(t.asker != NULL); /* as many as slots, and one of those is free */
        t.to = t.parcel->bytes;
    }
    for (size_t i = 0; i < count; i++)
        take_operation(c, &t, i);
    if (count == m->count)
        return;
    c->counters.busy += m->count - count;
    answers_refuse(c, source, m->client_id, m->first_seq + count, m->count - count, STATUS_BUSY);
}

static enum status request_message(struct coordinator *c, uint64_t source, bool delimiter,
                                   struct bytes frame)
{
    struct request m;
    enum status s = codec_unpack_request(frame, &c->scratch, &m);
    if (s != STATUS_OK)
        return s;
    bool whole = delimiter || (m.flags & REQUEST_WHOLE) != 0;
    count_kinds(c, &m);
    if (m.count > 0)
        take_request(c, source, &m, whole, delimiter);
    else if (whole)
        answers_refuse(c, source, m.client_id, m.first_seq, 0, STATUS_OK);
    return STATUS_OK;
}

/* ---- Small questions -------------------------------------------------------------------------*/

static struct effect *reply(struct coordinator *c, uint64_t source)
{
    struct effect *e = effects_add(c->out, EFFECT_SEND_CLIENT);
    if (e != NULL)
        e->source = source;
    return e;
}

static void keep_or_drop(struct coordinator *c, enum status packed)
{
    if (packed != STATUS_OK)
        effects_drop(c->out);
}

static void send_hello(struct coordinator *c, uint64_t source)
{
    struct effect *e = reply(c, source);
    if (e == NULL)
        return;
    struct hello m = {.protocol_min = PROTOCOL_VERSION,
                      .protocol_max = PROTOCOL_VERSION,
                      .role = ROLE_ROUTER,
                      .boot_id = c->options.boot_id,
                      .ptime = c->ptime,
                      .name = bytes_text(c->name),
                      .software = bytes_text("duet-router"),
                      .operations_max = MESSAGE_OPERATIONS_MAX,
                      .value_size_max = c->options.value_size_max};
    if (!clustermap_empty(c->map))
        m.cluster_id = bytes_of(c->map->cluster_id.octets, sizeof c->map->cluster_id.octets);
    keep_or_drop(c, codec_pack_hello(MESSAGE_HELLO_REPLY, &m, &e->frame));
}

static enum status hello_message(struct coordinator *c, uint64_t source, struct bytes frame)
{
    struct hello m;
    enum status s = codec_unpack_hello(frame, &c->scratch, &m);
    if (s != STATUS_OK)
        return s;
    struct bytes own = bytes_of(c->map->cluster_id.octets, sizeof c->map->cluster_id.octets);
    if (m.protocol_min > PROTOCOL_VERSION || m.protocol_max < PROTOCOL_VERSION) {
        c->counters.client_unsupported++;
        answers_refused(c, source, STATUS_UNSUPPORTED, "no protocol version in common");
    } else if (m.cluster_id.size > 0 && !clustermap_empty(c->map) &&
               !bytes_equal(m.cluster_id, own)) {
        answers_refused(c, source, STATUS_WRONGCLUSTER, "this router serves another cluster");
    } else {
        send_hello(c, source);
    }
    return STATUS_OK;
}

static enum status ping_message(struct coordinator *c, uint64_t source, struct bytes frame)
{
    struct ping m;
    enum status s = codec_unpack_ping(frame, &c->scratch, &m);
    if (s != STATUS_OK)
        return s;
    struct effect *e = reply(c, source);
    if (e == NULL)
        return STATUS_OK;
    m.boot_id = c->options.boot_id;
    m.ptime = c->ptime;
    m.map_version = c->map->version;
    keep_or_drop(c, codec_pack_ping(MESSAGE_PONG, &m, &e->frame));
    return STATUS_OK;
}

static enum status map_message(struct coordinator *c, uint64_t source, struct bytes frame)
{
    uint64_t version;
    enum status s = codec_unpack_map_request(frame, &c->scratch, &version);
    if (s != STATUS_OK)
        return s;
    if (clustermap_empty(c->map)) {
        answers_refused(c, source, STATUS_UNAVAILABLE,
                        "no storage node has answered this router yet: the map is not known");
        return STATUS_OK;
    }
    struct effect *e = reply(c, source);
    if (e != NULL)
        keep_or_drop(c, clustermap_pack(c->map, &e->frame));
    return STATUS_OK;
}

static enum status status_message(struct coordinator *c, uint64_t source)
{
    struct effect *e = reply(c, source);
    if (e != NULL)
        keep_or_drop(c, report_pack(c, &e->frame));
    return STATUS_OK;
}

static void unsupported(struct coordinator *c, uint64_t source, const char *text)
{
    c->counters.client_unsupported++;
    core_note(c, NOTE_CLIENT_UNSUPPORTED, NODE_NONE, source, 0);
    answers_refused(c, source, STATUS_UNSUPPORTED, text);
}

static void malformed(struct coordinator *c, uint64_t source, const char *text)
{
    c->counters.client_malformed++;
    core_note(c, NOTE_CLIENT_MALFORMED, NODE_NONE, source, 0);
    answers_refused(c, source, STATUS_MALFORMED, text);
}

static enum status handle(struct coordinator *c, uint64_t source, bool delimiter,
                          enum message_kind kind, struct bytes frame)
{
    switch ((uint32_t)kind) {
    case MESSAGE_REQUEST:
        return request_message(c, source, delimiter, frame);
    case MESSAGE_HELLO:
        return hello_message(c, source, frame);
    case MESSAGE_PING:
        return ping_message(c, source, frame);
    case MESSAGE_MAP_REQUEST:
        return map_message(c, source, frame);
    case MESSAGE_STATUS_REQUEST:
        return status_message(c, source);
    default: /* kinds of the wire that a client has no reason to send, known or not */
        unsupported(c, source, "a router does not take messages of this kind");
        return STATUS_OK;
    }
}

void intake_message(struct coordinator *c, uint64_t source, bool delimiter, struct bytes frame)
{
    enum message_kind kind;
    enum status s = codec_peek(frame, &kind);
    if (s == STATUS_UNSUPPORTED) {
        unsupported(c, source, "this router speaks another version of the protocol");
        return;
    }
    if (s != STATUS_OK) {
        malformed(c, source, "not a message of this protocol: it begins with other bytes");
        return;
    }
    s = handle(c, source, delimiter, kind, frame);
    if (s != STATUS_OK)
        malformed(c, source, "the message is cut short or does not decode");
}
