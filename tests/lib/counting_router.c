#include "tests/lib/counting_router.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "proto/limits.h"
#include "proto/link.h"

struct counting_router {
    struct link_context *context;
    struct link *link;
    char address[64];
    pthread_t thread;
    atomic_bool stopping, holding;
    atomic_uint refuse_nth;

    int64_t counters[COUNTING_ROUTER_KEYS];
    uint64_t seq, operations;
    struct arena arena;
    struct buffer out;
};

struct outcome {
    uint32_t status, flags;
    uint64_t seq;
    char text[24];
};

static struct outcome do_one(struct counting_router *r, uint32_t kind, struct bytes key,
                             struct bytes part)
{
    struct outcome o = {.status = STATUS_OK, .flags = ANSWER_VALUE};
    unsigned nth = atomic_load(&r->refuse_nth);
    if (nth != 0 && ++r->operations % nth == 0)
        return (struct outcome){.status = STATUS_BUSY, .flags = ANSWER_RETRY};
    char name[8] = {0};
    ENSURE(key.size < sizeof name);
    memcpy(name, key.data, key.size);
    int64_t *counter = &r->counters[atoi(name) % COUNTING_ROUTER_KEYS];
    struct write w = {.mutation = MUTATION_NONE};
    if (kind == KIND_WRITE)
        ENSURE(codec_unpack_write(part, &r->arena, &w) == STATUS_OK);
    if (w.mutation == MUTATION_INCREMENT)
        *counter += w.delta;
    o.seq = ++r->seq;
    snprintf(o.text, sizeof o.text, "%lld", (long long)*counter);
    return o;
}

/* An operation that is dropped because the client is slow would be in doubt, so wait. */
static void answer_one(struct counting_router *r, const struct link_peer *peer,
                       const struct answer *a)
{
    do {
        ENSURE(codec_pack_answer(MESSAGE_ANSWER, a, &r->out) == STATUS_OK);
        if (link_send(r->link, peer, &r->out) != STATUS_BUSY)
            return;
        usleep(200);
    } while (!atomic_load(&r->stopping));
}

static void on_request(struct counting_router *r, const struct link_peer *peer, struct bytes frame)
{
    struct request m;
    ENSURE(codec_unpack_request(frame, &r->arena, &m) == STATUS_OK);
    for (size_t i = 0; i < m.count; i++) {
        struct outcome o = do_one(r, m.kinds[i], m.keys[i], m.operations[i]);
        struct bytes value = bytes_text(o.text);
        uint64_t id = m.first_seq + i, epoch = 1;
        struct answer a = {m.client_id, 5, 1, &id, &o.status, &o.flags, &epoch, &o.seq, &value};
        answer_one(r, peer, &a);
    }
}

static void on_frame(struct counting_router *r, const struct link_peer *peer, struct bytes frame)
{
    enum message_kind kind;
    struct hello hello = {
        .protocol_min = 1, .protocol_max = 1, .role = ROLE_ROUTER, .boot_id = 9, .ptime = 5};
    struct ping pong = {.boot_id = 9, .ptime = 5};
    ENSURE(codec_peek(frame, &kind) == STATUS_OK);
    if (kind == MESSAGE_HELLO) {
        ENSURE(codec_pack_hello(MESSAGE_HELLO_REPLY, &hello, &r->out) == STATUS_OK);
        link_send(r->link, peer, &r->out);
    } else if (kind == MESSAGE_PING) {
        ENSURE(codec_pack_ping(MESSAGE_PONG, &pong, &r->out) == STATUS_OK);
        link_send(r->link, peer, &r->out);
    } else if (kind == MESSAGE_REQUEST && !atomic_load(&r->holding)) {
        on_request(r, peer, frame);
    }
}

static void *router_main(void *arg)
{
    struct counting_router *r = arg;
    while (!atomic_load(&r->stopping)) {
        struct link_peer peer;
        struct bytes frame;
        bool any = false;
        for (; link_recv(r->link, &peer, &frame) == STATUS_OK; any = true)
            on_frame(r, &peer, frame);
        if (!any)
            usleep(200);
    }
    return NULL;
}

struct counting_router *counting_router_new(void)
{
    struct counting_router *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->context = link_context_new(1, false);
    arena_init(&r->arena);
    buffer_init(&r->out, FRAME_BYTES_MAX);
    for (int i = 0; r->context != NULL && r->link == NULL && i < 100; i++) {
        snprintf(r->address, sizeof r->address, "tcp://127.0.0.1:%d",
                 10000 + (int)(clock_random64() % 20000));
        r->link = link_bind(r->context, LINK_ROUTER_CLIENTS, r->address, NULL);
    }
    if (r->link != NULL && pthread_create(&r->thread, NULL, router_main, r) == 0)
        return r;
    link_destroy(&r->link);
    link_context_destroy(&r->context);
    free(r);
    return NULL;
}

void counting_router_destroy(struct counting_router **router_p)
{
    struct counting_router *r = *router_p;
    if (r == NULL)
        return;
    atomic_store(&r->stopping, true);
    pthread_join(r->thread, NULL);
    link_destroy(&r->link);
    link_context_destroy(&r->context);
    arena_fini(&r->arena);
    buffer_fini(&r->out);
    free(r);
    *router_p = NULL;
}

const char *counting_router_address(const struct counting_router *r)
{
    return r->address;
}

void counting_router_hold(struct counting_router *r, bool hold)
{
    atomic_store(&r->holding, hold);
}

void counting_router_refuse(struct counting_router *r, unsigned n)
{
    atomic_store(&r->refuse_nth, n);
}
