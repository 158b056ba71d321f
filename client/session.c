#include "client/session.h"

#include <stdlib.h>

#include "client/window.h"
#include "proto/base/arena.h"
#include "proto/base/ensure.h"
#include "proto/codec.h"

#define HELLO_PAUSE_MS 100 /* before a router that refused is greeted again */
#define TOKEN_PAUSE_MS 20  /* before a router that knows no ptime is asked again */

/* One call completes each operation of a window once and sends each once, at most; some more for
 * HELLO, PING and RESET. */
#define EFFECTS_MAX (2 * CLIENT_WINDOW_MAX + 8)

struct router {
    bool connected;
    uint64_t boot_id; /* 0: has not answered HELLO */
};

struct session {
    uint64_t client_id;
    uint32_t timeout_ms, role;
    char name[NAME_SIZE_MAX];

    struct router routers[SESSION_ROUTERS_MAX];
    uint32_t routers_count;

    /* The current router. */
    uint32_t current;
    bool greeted;      /* HELLO was sent on this connection */
    bool ready;        /* and answered */
    uint64_t hello_ms; /* no HELLO before */
    uint64_t heard_ms; /* the last frame, or when an answer began to be awaited */
    uint64_t ping_ms;  /* the last PING, or the same */
    uint64_t nonce;
    uint32_t silences; /* routers left in a row because they were silent */
    uint32_t operations_max, value_size_max;

    /* Of the cluster. */
    struct bytes cluster_id; /* views cluster_octets; empty: not known yet */
    uint8_t cluster_octets[sizeof(struct id128)];
    uint64_t ptime, ptime_ms; /* the highest, and when it was learnt */

    struct window window;
    struct session_counters counters;
    struct error refusal;
    struct arena arena;
};

enum status session_effects_init(struct session_effects *effects)
{
    *effects = (struct session_effects){.items = calloc(EFFECTS_MAX, sizeof *effects->items)};
    if (effects->items == NULL)
        return STATUS_NOMEMORY;
    effects->capacity = EFFECTS_MAX;
    for (size_t i = 0; i < effects->capacity; i++)
        buffer_init(&effects->items[i].frame, FRAME_BYTES_MAX);
    return STATUS_OK;
}

void session_effects_fini(struct session_effects *effects)
{
    for (size_t i = 0; i < effects->capacity; i++)
        buffer_fini(&effects->items[i].frame);
    free(effects->items);
    *effects = (struct session_effects){0};
}

void session_effects_clear(struct session_effects *effects)
{
    for (size_t i = 0; i < effects->count; i++)
        buffer_clear(&effects->items[i].frame);
    effects->count = 0;
}

struct session *session_new(const struct session_options *options)
{
    ENSURE(options->routers_count >= 1 && options->routers_count <= SESSION_ROUTERS_MAX);
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->client_id = options->client_id;
    s->timeout_ms = options->timeout_ms == 0 ? SESSION_TIMEOUT_DEFAULT_MS : options->timeout_ms;
    s->role = options->role == 0 ? ROLE_CLIENT : options->role;
    s->routers_count = options->routers_count;
    s->current = (uint32_t)(options->seed % options->routers_count);
    s->operations_max = MESSAGE_OPERATIONS_MAX;
    for (size_t i = 0; options->name != NULL && options->name[i] != 0 && i < NAME_SIZE_MAX - 1; i++)
        s->name[i] = options->name[i];
    window_init(&s->window, options, &s->counters);
    arena_init(&s->arena);
    return s;
}

void session_destroy(struct session **session_p)
{
    struct session *s = *session_p;
    if (s == NULL)
        return;
    window_fini(&s->window);
    arena_fini(&s->arena);
    free(s);
    *session_p = NULL;
}

enum status session_submit(struct session *s, uint64_t now_ms, const struct session_operation *op,
                           uint64_t *ret_seq)
{
    struct session_operation dated = *op;
    if (dated.deadline_ms == 0)
        dated.deadline_ms = now_ms + s->timeout_ms;
    return window_take(&s->window, now_ms, &dated, ret_seq);
}

/* ---- The router in use ---- */

/* Is a frame due from the current router? */
static bool awaiting(const struct session *s)
{
    return s->routers[s->current].connected && s->greeted &&
           (!s->ready || s->window.sent_count > 0);
}

/* What is sent from now on goes over a connection that knows nothing of us. */
static void use_router(struct session *s, uint64_t now_ms, uint32_t router)
{
    window_requeue(&s->window);
    if (router != s->current)
        s->counters.failovers++;
    s->current = router;
    s->greeted = s->ready = false;
    s->heard_ms = s->ping_ms = now_ms;
}

/* The next connected one, this one last; without any, simply the next. */
static uint32_t next_router(const struct session *s)
{
    for (uint32_t i = 1; i <= s->routers_count; i++) {
        uint32_t router = (s->current + i) % s->routers_count;
        if (s->routers[router].connected)
            return router;
    }
    return (s->current + 1) % s->routers_count;
}

/* Leave a router that is of no use: its connection too, so that nothing more comes from it and
 * nothing that it still holds in a queue reaches it later. */
static void abandon_router(struct session *s, uint64_t now_ms, struct session_effects *effects)
{
    window_effect(effects, SESSION_RESET)->router = s->current;
    s->routers[s->current] = (struct router){0};
    use_router(s, now_ms, next_router(s));
}

void session_router_connected(struct session *s, uint64_t now_ms, uint32_t router, bool connected,
                              struct session_effects *effects)
{
    (void)effects; /* what is to be sent leaves with the flush */
    ENSURE(router < s->routers_count);
    if (s->routers[router].connected == connected)
        return;
    s->routers[router] = (struct router){.connected = connected};
    if (!connected && router == s->current)
        use_router(s, now_ms, next_router(s));
    else if (connected && !s->routers[s->current].connected)
        use_router(s, now_ms, router);
    else if (connected && router == s->current)
        use_router(s, now_ms, router);
}

/* ---- Messages ---- */

static void learn_ptime(struct session *s, uint64_t now_ms, uint64_t ptime)
{
    if (ptime > s->ptime)
        s->ptime = ptime;
    s->ptime_ms = now_ms;
}

static void refuse(struct session *s, enum status status, struct bytes message)
{
    error_set(&s->refusal, status, "%.*s", (int)(message.size < 256 ? message.size : 256),
              message.size > 0 ? (const char *)message.data : "");
}

/* A router that cannot serve us is left, and greeted again only after a pause. */
static void on_unfit(struct session *s, uint64_t now_ms, enum status status, const char *why,
                     struct session_effects *effects)
{
    refuse(s, status, bytes_text(why));
    abandon_router(s, now_ms, effects);
    s->hello_ms = now_ms + HELLO_PAUSE_MS;
}

static bool same_cluster(struct session *s, struct bytes cluster_id)
{
    if (cluster_id.size == 0)
        return true;
    if (s->cluster_id.size == 0 && cluster_id.size == sizeof s->cluster_octets) {
        memcpy(s->cluster_octets, cluster_id.data, cluster_id.size);
        s->cluster_id = bytes_of(s->cluster_octets, sizeof s->cluster_octets);
    }
    return bytes_equal(s->cluster_id, cluster_id);
}

static enum status on_hello_reply(struct session *s, uint64_t now_ms, struct bytes frame,
                                  struct session_effects *effects)
{
    struct hello m;
    enum status status = codec_unpack_hello(frame, &s->arena, &m);
    if (status != STATUS_OK)
        return status;
    if (m.protocol_min > PROTOCOL_VERSION || m.protocol_max < PROTOCOL_VERSION) {
        on_unfit(s, now_ms, STATUS_UNSUPPORTED, "the router speaks another protocol version",
                 effects);
        return STATUS_OK;
    }
    if (!same_cluster(s, m.cluster_id)) {
        on_unfit(s, now_ms, STATUS_WRONGCLUSTER, "the router belongs to another cluster", effects);
        return STATUS_OK;
    }
    struct router *r = &s->routers[s->current];
    if (r->boot_id != 0 && r->boot_id != m.boot_id)
        window_requeue(&s->window); /* the process that had them is gone */
    r->boot_id = m.boot_id;
    learn_ptime(s, now_ms, m.ptime);
    s->operations_max = m.operations_max > 0 && m.operations_max < MESSAGE_OPERATIONS_MAX
                            ? m.operations_max
                            : MESSAGE_OPERATIONS_MAX;
    s->value_size_max = m.value_size_max;
    s->ready = true;
    s->silences = 0;
    return STATUS_OK;
}

/* Feed one element of an answer. */
static bool answer_element(struct session *s, uint64_t now_ms, const struct answer *m, size_t i,
                           bool current, bool settling, struct session_effects *effects)
{
    struct window_answer a = {
        .seq = m->ids[i],
        .status = status_from_wire(m->statuses[i]),
        .flags = m->flags[i],
        .version = {m->epochs[i], m->seqs[i]},
        .value = m->values[i],
        .current = current,
    };
    if (window_answer_settles(&a) != settling)
        return false;
    return window_answer(&s->window, now_ms, &a, effects);
}

static enum status on_answer(struct session *s, uint64_t now_ms, bool current, struct bytes frame,
                             struct session_effects *effects)
{
    struct answer m;
    enum status status = codec_unpack_answer(frame, &s->arena, &m);
    if (status != STATUS_OK)
        return status;
    if (m.owner != s->client_id)
        return STATUS_MALFORMED;
    learn_ptime(s, now_ms, m.ptime);
    for (size_t i = 0; i < m.count; i++)
        answer_element(s, now_ms, &m, i, current, true, effects);
    bool token_wanted = false;
    for (size_t i = m.count; i-- > 0;)
        if (answer_element(s, now_ms, &m, i, current, false, effects))
            token_wanted = true;
    if (token_wanted && current)
        s->greeted = s->ready = false;
    return STATUS_OK;
}

/* The router does not say what its refusal is about: of all that was sent nothing is certain. */
static enum status on_refused(struct session *s, uint64_t now_ms, struct bytes frame,
                              struct session_effects *effects)
{
    struct refused m;
    enum status status = codec_unpack_refused(frame, &s->arena, &m);
    if (status != STATUS_OK)
        return status;
    refuse(s, m.status, m.message);
    abandon_router(s, now_ms, effects);
    s->hello_ms = now_ms + HELLO_PAUSE_MS;
    return STATUS_OK;
}

static enum status on_pong(struct session *s, uint64_t now_ms, struct bytes frame)
{
    struct ping m;
    enum status status = codec_unpack_ping(frame, &s->arena, &m);
    if (status != STATUS_OK)
        return status;
    learn_ptime(s, now_ms, m.ptime);
    uint64_t boot_id = s->routers[s->current].boot_id;
    if (m.boot_id != 0 && boot_id != 0 && m.boot_id != boot_id)
        use_router(s, now_ms, s->current); /* started anew, faster than its link could tell */
    return STATUS_OK;
}

static enum status dispatch(struct session *s, uint64_t now_ms, uint32_t router, struct bytes frame,
                            struct session_effects *effects)
{
    enum message_kind kind;
    enum status status = codec_peek(frame, &kind);
    if (status != STATUS_OK)
        return status;
    bool current = router == s->current;
    if (kind == MESSAGE_ANSWER)
        return on_answer(s, now_ms, current, frame, effects);
    if (!current)
        return STATUS_OK;
    if (kind == MESSAGE_HELLO_REPLY)
        return on_hello_reply(s, now_ms, frame, effects);
    if (kind == MESSAGE_REFUSED)
        return on_refused(s, now_ms, frame, effects);
    if (kind == MESSAGE_PONG)
        return on_pong(s, now_ms, frame);
    return STATUS_MALFORMED;
}

void session_message(struct session *s, uint64_t now_ms, uint32_t router, struct bytes frame,
                     struct session_effects *effects)
{
    ENSURE(router < s->routers_count);
    if (dispatch(s, now_ms, router, frame, effects) != STATUS_OK)
        s->counters.bad_frames++;
    /* Whoever answers pings but never the HELLO has lost it: memory ran out there. */
    if (router == s->current && s->ready)
        s->heard_ms = now_ms;
}

/* ---- Time ---- */

static uint64_t silence_ms(const struct session *s)
{
    uint32_t rounds = s->silences / s->routers_count;
    uint64_t silence = (uint64_t)SESSION_SILENCE_MS << (rounds < 4 ? rounds : 4);
    return silence < SESSION_SILENCE_MAX_MS ? silence : SESSION_SILENCE_MAX_MS;
}

static void send_ping(struct session *s, uint64_t now_ms, struct session_effects *effects)
{
    struct ping m = {.nonce = ++s->nonce, .boot_id = s->client_id, .ptime = s->ptime};
    struct session_effect *effect = window_effect(effects, SESSION_SEND);
    effect->router = s->current;
    if (codec_pack_ping(MESSAGE_PING, &m, &effect->frame) != STATUS_OK)
        effects->count--;
    else
        s->counters.messages_sent++;
    s->ping_ms = now_ms;
}

void session_tick(struct session *s, uint64_t now_ms, struct session_effects *effects)
{
    if (awaiting(s) && now_ms >= s->heard_ms + silence_ms(s)) {
        s->silences++;
        abandon_router(s, now_ms, effects);
    }
    if (awaiting(s) && now_ms >= s->ping_ms + SESSION_PING_MS)
        send_ping(s, now_ms, effects);
    window_tick(&s->window, now_ms, s->ready, effects);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t session_deadline(const struct session *s)
{
    uint64_t deadline = window_deadline(&s->window);
    if (awaiting(s)) {
        deadline = earlier(deadline, s->heard_ms + silence_ms(s));
        deadline = earlier(deadline, s->ping_ms + SESSION_PING_MS);
    } else if (s->routers[s->current].connected && !s->greeted) {
        deadline = earlier(deadline, s->hello_ms);
    }
    return deadline;
}

/* ---- Sending ---- */

static void send_hello(struct session *s, uint64_t now_ms, struct session_effects *effects)
{
    struct hello m = {
        .protocol_min = PROTOCOL_VERSION,
        .protocol_max = PROTOCOL_VERSION,
        .role = s->role,
        .cluster_id = s->cluster_id,
        .boot_id = s->client_id,
        .ptime = s->ptime,
        .name = bytes_text(s->name),
        .software = bytes_text("libduet"),
        .operations_max = MESSAGE_OPERATIONS_MAX,
        .value_size_max = VALUE_SIZE_MAX,
    };
    struct session_effect *effect = window_effect(effects, SESSION_SEND);
    effect->router = s->current;
    if (codec_pack_hello(MESSAGE_HELLO, &m, &effect->frame) != STATUS_OK) {
        effects->count--;
        s->hello_ms = now_ms + HELLO_PAUSE_MS;
        return;
    }
    s->greeted = true;
    s->heard_ms = s->ping_ms = now_ms;
    s->counters.messages_sent++;
}

static void send_requests(struct session *s, uint64_t now_ms, struct session_effects *effects)
{
    struct window_cursor cursor = {0};
    if (s->window.sent_count == 0)
        s->heard_ms = s->ping_ms = now_ms;
    for (;;) {
        struct session_effect *effect = window_effect(effects, SESSION_SEND);
        effect->router = s->current;
        uint32_t count;
        enum status status = window_pack(&s->window, now_ms, s->ptime, s->operations_max, &cursor,
                                         &effect->frame, &count);
        if (status != STATUS_OK || count == 0) {
            effects->count--;
            return;
        }
        s->counters.messages_sent++;
    }
}

void session_flush(struct session *s, uint64_t now_ms, struct session_effects *effects)
{
    if (!s->routers[s->current].connected)
        return;
    /* A token must be younger than the completion records that it vouches for. */
    bool stale = s->ready && now_ms - s->ptime_ms > SESSION_TOKEN_AGE_MAX_MS;
    if (stale && s->window.queued_count > 0)
        s->greeted = s->ready = false;
    if (!s->greeted && now_ms >= s->hello_ms)
        send_hello(s, now_ms, effects);
    if (s->ready && s->window.queued_count > 0)
        send_requests(s, now_ms, effects);
    /* The router had not heard of any node that has ever served: what needs a token waits. */
    if (s->ready && s->ptime == 0 && s->window.queued_count > 0) {
        s->greeted = s->ready = false;
        s->hello_ms = now_ms + TOKEN_PAUSE_MS;
    }
}

/* ---- What the session knows ---- */

uint32_t session_pending(const struct session *s)
{
    return window_pending(&s->window);
}

uint32_t session_room(const struct session *s)
{
    return window_room(&s->window);
}

bool session_ready(const struct session *s)
{
    return s->ready;
}

uint32_t session_router(const struct session *s)
{
    return s->current;
}

uint64_t session_client_id(const struct session *s)
{
    return s->client_id;
}

uint64_t session_ack_below(const struct session *s)
{
    return s->window.ack_below;
}

const struct session_counters *session_counters(const struct session *s)
{
    return &s->counters;
}

uint32_t session_value_size_max(const struct session *s)
{
    return s->value_size_max;
}

const struct error *session_last_refusal(const struct session *s)
{
    return &s->refusal;
}
