#include "tests/sim/transcript.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "proto/codec.h"

/* Text that grows in the caller's memory, and is cut where that ends. */
struct text {
    char *to;
    size_t size, used;
};

static void __attribute__((format(printf, 2, 3))) put(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int wrote = vsnprintf(t->to + t->used, t->size - t->used, format, args);
    va_end(args);
    if (wrote > 0)
        t->used += (size_t)wrote;
    if (t->used >= t->size)
        t->used = t->size - 1;
}

static const char *kind_of(uint32_t kind)
{
    static const char *const names[] = {"?",    "read",  "write", "outcome",
                                        "scan", "range", "atomic"};
    return names[kind <= KIND_LAST ? kind : 0];
}

static void show_request(struct text *t, const struct request *m)
{
    put(t, "REQUEST below=%" PRIu64 " token=%" PRIu64, m->ack_below, m->ptime_token);
    for (size_t i = 0; i < m->count; i++)
        put(t, " %" PRIu64 ":%s:%.*s", m->first_seq + i, kind_of(m->kinds[i]), (int)m->keys[i].size,
            (const char *)m->keys[i].data);
}

static void show_answer(struct text *t, const char *name, const struct answer *m)
{
    put(t, "%s", name);
    for (size_t i = 0; i < m->count; i++)
        put(t, " %" PRIx64 ":%s%s(%" PRIu64 ",%" PRIu64 ")", m->ids[i],
            status_name(status_from_wire(m->statuses[i])), m->flags[i] & ANSWER_IN_DOUBT ? "?" : "",
            m->epochs[i], m->seqs[i]);
}

static void show_batch(struct text *t, const struct batch *m)
{
    put(t, "BATCH");
    for (size_t i = 0; i < m->count; i++)
        put(t, " %" PRIx64 "=%04" PRIx64 "/%" PRIu64 ":%s:%.*s", m->tokens[i],
            m->client_ids[i] & 0xffff, m->seqs[i], kind_of(m->kinds[i]), (int)m->keys[i].size,
            (const char *)m->keys[i].data);
}

static void show_append(struct text *t, const struct append *m)
{
    put(t, "APPEND inc=%" PRIu64, m->incarnation);
    for (size_t i = 0; i < m->count; i++)
        put(t,
            " [p%u e=%" PRIu64 " prev=(%" PRIu64 ",%" PRIu64 ") +%u commit=%" PRIu64
            " durable=%" PRIu64 "]",
            m->partitions[i], m->epochs[i], m->prev_epochs[i], m->prev_seqs[i], m->entry_counts[i],
            m->commit_seqs[i], m->durable_seqs[i]);
}

static void show_ack(struct text *t, const struct ack *m)
{
    put(t, "ACK inc=%" PRIu64, m->incarnation);
    for (size_t i = 0; i < m->count; i++)
        put(t, " [p%u e=%" PRIu64 " verified=%" PRIu64 "%s]", m->partitions[i], m->epochs[i],
            m->verified_seqs[i], m->flags[i] & ACK_GAP ? " gap" : "");
}

static void show_promise(struct text *t, const struct promise *m)
{
    put(t, "PROMISE inc=%" PRIu64 " of %" PRIu64, m->incarnation, m->target_incarnation);
    for (size_t i = 0; i < m->count; i++)
        put(t, " [p%u e=%" PRIu64 "]", m->partitions[i], m->epochs[i]);
}

static void show_promised(struct text *t, const struct promised *m)
{
    put(t, "PROMISED inc=%" PRIu64, m->incarnation);
    for (size_t i = 0; i < m->count; i++)
        put(t, " [p%u e=%" PRIu64 " commit=(%" PRIu64 ",%" PRIu64 ") last=%" PRIu64 "]",
            m->partitions[i], m->epochs[i], m->commit_epochs[i], m->commit_seqs[i],
            m->last_seqs[i]);
}

static void show_confirms(struct text *t, const char *name, const struct confirm *m)
{
    put(t, "%s inc=%" PRIu64, name, m->incarnation);
    for (size_t i = 0; i < m->count; i++)
        put(t, " [p%u e=%" PRIu64 " number=%" PRIu64 "]", m->partitions[i], m->epochs[i],
            m->numbers[i]);
}

static void show_map(struct text *t, const struct map_message *m)
{
    struct arena arena;
    arena_init(&arena);
    put(t, "MAP");
    for (size_t i = 0; i < m->count; i++) {
        struct partition_value v;
        arena_reset(&arena, 4096);
        if (m->registers[i].name.size < 10 || m->registers[i].name.data[0] != 'p' ||
            codec_unpack_partition_value(m->registers[i].value, &arena, &v) != STATUS_OK)
            continue;
        put(t, " [p%.*s v%" PRIu64 " e=%" PRIu64 "%s n%u of", (int)m->registers[i].name.size - 10,
            (const char *)m->registers[i].name.data + 10, m->registers[i].version, v.epoch,
            v.opened ? "" : " not opened", v.primary);
        for (size_t j = 0; j < v.isr_count; j++)
            put(t, " n%u", v.isr[j]);
        put(t, "]");
    }
    arena_fini(&arena);
}

static void show_snapshot(struct text *t, const struct snapshot_message *m)
{
    put(t, "SNAPSHOT inc=%" PRIu64 " [p%u e=%" PRIu64 " copy %" PRIu64 " message %u%s, %zu bytes]",
        m->incarnation, m->partition, m->epoch, m->id, m->index, m->last ? ", the last" : "",
        m->body.size);
}

static void show_snapshot_ack(struct text *t, const struct snapshot_ack *m)
{
    put(t, "SNAPSHOT_ACK inc=%" PRIu64 " [p%u e=%" PRIu64 " copy %" PRIu64 " next %u%s]",
        m->incarnation, m->partition, m->epoch, m->id, m->next, m->done ? " done" : "");
}

static void show_heartbeat(struct text *t, const struct heartbeat *m)
{
    put(t, "HEARTBEAT inc=%" PRIu64 " of %" PRIu64 " map=%" PRIu64, m->incarnation,
        m->target_incarnation, m->map_version);
    for (size_t i = 0; i < m->count; i++)
        put(t, "%s p%u:%" PRIu64,
            i == 0 && m->granted_count > 0 ? " grants" : i == m->granted_count ? " asks" : "",
            m->partitions[i], m->epochs[i]);
}

static void show_steps(struct text *t, const struct registry_message *m)
{
    static const char *const words[] = {"?",      "PREPARE",  "PREPARED",
                                        "ACCEPT", "ACCEPTED", "REFUSED"};
    put(t, "REGISTRY voters=%" PRIu64, m->voters_version);
    for (size_t i = 0; i < m->count; i++)
        put(t, " %s %u ballot (%" PRIu64 ",%u,%" PRIu64 ") version %" PRIu64, words[m->kinds[i]],
            m->registers[i], m->ballots[i].counter, m->ballots[i].node, m->ballots[i].incarnation,
            m->versions[i]);
}

/* Unpack as type, and show it when that worked. */
#define SHOW(type, unpack, show)                                                                   \
    do {                                                                                           \
        struct type m;                                                                             \
        if (unpack(frame, arena, &m) == STATUS_OK)                                                 \
            show(t, &m);                                                                           \
    } while (0)

static void show_results(struct text *t, const struct answer *m)
{
    show_answer(t, "RESULTS", m);
}

static void show_answers(struct text *t, const struct answer *m)
{
    show_answer(t, "ANSWER", m);
}

static void show_confirm(struct text *t, const struct confirm *m)
{
    show_confirms(t, "CONFIRM", m);
}

static void show_confirmed(struct text *t, const struct confirm *m)
{
    show_confirms(t, "CONFIRMED", m);
}

static void show(struct text *t, enum message_kind kind, struct bytes frame, struct arena *arena)
{
    if (kind == MESSAGE_REQUEST)
        SHOW(request, codec_unpack_request, show_request);
    else if (kind == MESSAGE_ANSWER)
        SHOW(answer, codec_unpack_answer, show_answers);
    else if (kind == MESSAGE_RESULTS)
        SHOW(answer, codec_unpack_answer, show_results);
    else if (kind == MESSAGE_BATCH)
        SHOW(batch, codec_unpack_batch, show_batch);
    else if (kind == MESSAGE_APPEND)
        SHOW(append, codec_unpack_append, show_append);
    else if (kind == MESSAGE_ACK)
        SHOW(ack, codec_unpack_ack, show_ack);
    else if (kind == MESSAGE_PROMISE)
        SHOW(promise, codec_unpack_promise, show_promise);
    else if (kind == MESSAGE_PROMISED)
        SHOW(promised, codec_unpack_promised, show_promised);
    else if (kind == MESSAGE_CONFIRM)
        SHOW(confirm, codec_unpack_confirm, show_confirm);
    else if (kind == MESSAGE_CONFIRMED)
        SHOW(confirm, codec_unpack_confirm, show_confirmed);
    else if (kind == MESSAGE_HEARTBEAT)
        SHOW(heartbeat, codec_unpack_heartbeat, show_heartbeat);
    else if (kind == MESSAGE_MAP)
        SHOW(map_message, codec_unpack_map, show_map);
    else if (kind == MESSAGE_REGISTRY)
        SHOW(registry_message, codec_unpack_registry, show_steps);
    else if (kind == MESSAGE_SNAPSHOT)
        SHOW(snapshot_message, codec_unpack_snapshot, show_snapshot);
    else if (kind == MESSAGE_SNAPSHOT_ACK)
        SHOW(snapshot_ack, codec_unpack_snapshot_ack, show_snapshot_ack);
    else
        put(t, "kind %d", (int)kind);
}

void transcript_frame(struct bytes frame, char *to, size_t size)
{
    struct text t = {.to = to, .size = size};
    struct arena arena;
    enum message_kind kind;
    to[0] = 0;
    arena_init(&arena);
    if (codec_peek(frame, &kind) == STATUS_OK)
        show(&t, kind, frame, &arena);
    arena_fini(&arena);
}
