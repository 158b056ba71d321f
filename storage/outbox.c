#include "storage/outbox.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "storage/replies.h"

#define N OUTBOX_SECTIONS_MAX
#define ENTRIES_MAX 4096

/* The messages that gather, each with its arrays of N elements. */
struct outbox_peer {
    uint64_t target;
    bool used;
    struct promise promise;
    struct promised promised;
    struct append append;
    struct ack ack;
    struct confirm confirm, confirmed;
    size_t append_bytes;
    uint64_t *memory;
};

/* Arrays of 64-bit elements in all of them, and of 32-bit ones. */
#define WIDE_ARRAYS (1 + 5 + 6 + 3 + 2 + 2)
#define NARROW_ARRAYS (1 + 1 + 3 + 2 + 1 + 1)

static uint64_t *wide(uint64_t **next)
{
    uint64_t *array = *next;
    *next += N;
    return array;
}

static uint32_t *narrow(uint64_t **next)
{
    uint32_t *array = (uint32_t *)(void *)*next;
    *next += N / 2;
    return array;
}

/* Memory comes with the first message: most nodes of a large cluster never talk to each other. */
static bool peer_arrays(struct outbox_peer *p)
{
    size_t words = WIDE_ARRAYS * N + NARROW_ARRAYS * N / 2;
    p->memory = malloc(words * sizeof(uint64_t) + ENTRIES_MAX * sizeof(struct bytes));
    if (p->memory == NULL)
        return false;
    uint64_t *next = p->memory;
    p->promise.epochs = wide(&next);
    p->promised.epochs = wide(&next);
    p->promised.commit_epochs = wide(&next);
    p->promised.commit_seqs = wide(&next);
    p->promised.commit_hashes = wide(&next);
    p->promised.last_seqs = wide(&next);
    p->append.epochs = wide(&next);
    p->append.prev_epochs = wide(&next);
    p->append.prev_seqs = wide(&next);
    p->append.prev_hashes = wide(&next);
    p->append.commit_seqs = wide(&next);
    p->append.durable_seqs = wide(&next);
    p->ack.epochs = wide(&next);
    p->ack.verified_seqs = wide(&next);
    p->ack.hashes = wide(&next);
    p->confirm.epochs = wide(&next);
    p->confirm.numbers = wide(&next);
    p->confirmed.epochs = wide(&next);
    p->confirmed.numbers = wide(&next);
    p->promise.partitions = narrow(&next);
    p->promised.partitions = narrow(&next);
    p->append.partitions = narrow(&next);
    p->append.flags = narrow(&next);
    p->append.entry_counts = narrow(&next);
    p->ack.partitions = narrow(&next);
    p->ack.flags = narrow(&next);
    p->confirm.partitions = narrow(&next);
    p->confirmed.partitions = narrow(&next);
    p->append.entries = (struct bytes *)(void *)next;
    return true;
}

enum status outbox_init(struct outbox *o, uint32_t peers_count, uint32_t self, uint64_t incarnation)
{
    *o = (struct outbox){.peers_count = peers_count, .self = self, .incarnation = incarnation};
    o->peers = calloc(peers_count == 0 ? 1 : peers_count, sizeof *o->peers);
    return o->peers == NULL ? STATUS_NOMEMORY : STATUS_OK;
}

void outbox_fini(struct outbox *o)
{
    for (uint32_t i = 0; o->peers != NULL && i < o->peers_count; i++)
        free(o->peers[i].memory);
    free(o->peers);
    o->peers = NULL;
}

void outbox_set_target(struct outbox *o, uint32_t peer, uint64_t incarnation)
{
    o->peers[peer].target = incarnation;
}

static struct outbox_peer *peer_of(struct outbox *o, uint32_t peer)
{
    ENSURE(peer < o->peers_count && peer != o->self);
    struct outbox_peer *p = &o->peers[peer];
    if (!p->used && !peer_arrays(p)) {
        o->failed = STATUS_NOMEMORY;
        return NULL;
    }
    p->used = true;
    return p;
}

struct buffer *outbox_frame(struct outbox *o, uint32_t peer, enum node_lane lane)
{
    struct node_effect *e = node_effects_add(o->out, NODE_SEND_PEER);
    if (e == NULL) {
        o->failed = STATUS_NOMEMORY;
        return NULL;
    }
    e->peer = peer;
    e->lane = lane;
    return &e->frame;
}

static void note(struct outbox *o, enum status packed)
{
    if (packed != STATUS_OK)
        o->failed = packed;
}

/* Sender, incarnation and target stand in every message. */
#define SEND(o, peer, p, message, lane, pack)                                                      \
    do {                                                                                           \
        struct buffer *frame = outbox_frame(o, peer, lane);                                        \
        (p)->message.sender = (o)->self;                                                           \
        (p)->message.incarnation = (o)->incarnation;                                               \
        (p)->message.target_incarnation = (p)->target;                                             \
        if (frame != NULL)                                                                         \
            note(o, pack(&(p)->message, frame));                                                   \
        (p)->message.count = 0;                                                                    \
    } while (0)

static void send_append(struct outbox *o, uint32_t peer, struct outbox_peer *p)
{
    p->append.ptime = o->ptime;
    SEND(o, peer, p, append, LANE_APPEND, codec_pack_append);
    p->append.entries_count = 0;
    p->append_bytes = 0;
}

void outbox_section(struct outbox *o, uint32_t peer, const struct outbox_section *s)
{
    struct outbox_peer *p = peer_of(o, peer);
    if (p == NULL)
        return;
    struct append *a = &p->append;
    if (a->count == N || p->append_bytes >= OUTBOX_BYTES_MAX || a->entries_count >= ENTRIES_MAX / 2)
        send_append(o, peer, p);
    size_t i = a->count++;
    a->partitions[i] = s->partition;
    a->epochs[i] = s->epoch;
    a->prev_epochs[i] = s->prev_epoch;
    a->prev_seqs[i] = s->prev_seq;
    a->prev_hashes[i] = s->prev_hash;
    a->commit_seqs[i] = s->commit_seq;
    a->durable_seqs[i] = s->durable_seq;
    a->flags[i] = s->flags;
    a->entry_counts[i] = 0;
}

bool outbox_entry(struct outbox *o, uint32_t peer, struct bytes entry)
{
    struct outbox_peer *p = peer_of(o, peer);
    if (p == NULL)
        return false;
    struct append *a = &p->append;
    ENSURE(a->count > 0);
    bool first = a->entries_count == 0;
    if (a->entries_count == ENTRIES_MAX ||
        (!first && p->append_bytes + entry.size > OUTBOX_BYTES_MAX))
        return false;
    a->entries[a->entries_count++] = entry;
    a->entry_counts[a->count - 1]++;
    p->append_bytes += entry.size;
    return true;
}

void outbox_promise(struct outbox *o, uint32_t peer, uint32_t partition, uint64_t epoch)
{
    struct outbox_peer *p = peer_of(o, peer);
    if (p == NULL)
        return;
    if (p->promise.count == N)
        SEND(o, peer, p, promise, LANE_CONTROL, codec_pack_promise);
    size_t i = p->promise.count++;
    p->promise.partitions[i] = partition;
    p->promise.epochs[i] = epoch;
}

void outbox_promised_add(struct outbox *o, uint32_t peer, const struct outbox_promised *in)
{
    struct outbox_peer *p = peer_of(o, peer);
    if (p == NULL)
        return;
    if (p->promised.count == N)
        SEND(o, peer, p, promised, LANE_CONTROL, codec_pack_promised);
    size_t i = p->promised.count++;
    p->promised.partitions[i] = in->partition;
    p->promised.epochs[i] = in->epoch;
    p->promised.commit_epochs[i] = in->commit_epoch;
    p->promised.commit_seqs[i] = in->commit_seq;
    p->promised.commit_hashes[i] = in->commit_hash;
    p->promised.last_seqs[i] = in->last_seq;
}

void outbox_ack_add(struct outbox *o, uint32_t peer, const struct outbox_ack *in)
{
    struct outbox_peer *p = peer_of(o, peer);
    if (p == NULL)
        return;
    if (p->ack.count == N)
        SEND(o, peer, p, ack, LANE_APPEND, codec_pack_ack);
    size_t i = p->ack.count++;
    p->ack.partitions[i] = in->partition;
    p->ack.epochs[i] = in->epoch;
    p->ack.verified_seqs[i] = in->verified_seq;
    p->ack.hashes[i] = in->hash;
    p->ack.flags[i] = in->flags;
}

static enum status pack_confirm(const struct confirm *m, struct buffer *out)
{
    return codec_pack_confirm(MESSAGE_CONFIRM, m, out);
}

static enum status pack_confirmed(const struct confirm *m, struct buffer *out)
{
    return codec_pack_confirm(MESSAGE_CONFIRMED, m, out);
}

static void send_confirms(struct outbox *o, uint32_t peer, struct outbox_peer *p)
{
    if (p->confirm.count > 0)
        SEND(o, peer, p, confirm, LANE_CONTROL, pack_confirm);
    if (p->confirmed.count > 0)
        SEND(o, peer, p, confirmed, LANE_CONTROL, pack_confirmed);
}

void outbox_confirm(struct outbox *o, uint32_t peer, enum message_kind kind, uint32_t partition,
                    uint64_t epoch, uint64_t number)
{
    struct outbox_peer *p = peer_of(o, peer);
    if (p == NULL)
        return;
    struct confirm *m = kind == MESSAGE_CONFIRM ? &p->confirm : &p->confirmed;
    if (m->count == N)
        send_confirms(o, peer, p);
    size_t i = m->count++;
    m->partitions[i] = partition;
    m->epochs[i] = epoch;
    m->numbers[i] = number;
}

enum status outbox_flush(struct outbox *o)
{
    for (uint32_t i = 0; i < o->peers_count; i++) {
        struct outbox_peer *p = &o->peers[i];
        if (!p->used)
            continue;
        if (p->promise.count > 0)
            SEND(o, i, p, promise, LANE_CONTROL, codec_pack_promise);
        if (p->promised.count > 0)
            SEND(o, i, p, promised, LANE_CONTROL, codec_pack_promised);
        send_confirms(o, i, p);
        if (p->append.count > 0)
            send_append(o, i, p);
        if (p->ack.count > 0)
            SEND(o, i, p, ack, LANE_APPEND, codec_pack_ack);
    }
    return o->failed;
}
