#include "tests/sim/network.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/ensure.h"

#define NOTHING       UINT32_MAX
#define REDIAL_MIN_US 20000
#define REDIAL_MAX_US 1000000
#define BREAK_MIN_US  300000 /* a blocked connection with frames waiting breaks after so long */
#define BREAK_MAX_US  4000000
#define HEARTBEAT_US  1500000 /* until the other end of a dead machine's connection notices */

enum direction { ASKING, ANSWERING };

/* A frame under way. */
struct parcel {
    uint8_t *data;
    size_t size;
    uint32_t session; /* NOTHING: this element is free */
    enum direction direction;
    uint32_t next; /* waiting behind a blocked path, or free */
};

struct lane {
    uint64_t last_at_us;           /* the next frame arrives after it */
    uint32_t waiting, waiting_end; /* frames that a blocked path holds up */
};

/* One connection, from established to broken. */
struct session {
    uint32_t socket, from, to;
    enum network_class class;
    bool broken;   /* nothing can be sent any more */
    bool drop[2];  /* what is still under way in this direction is lost */
    bool breaking; /* it will break unless the path opens */
    struct lane lanes[2];
};

struct socket {
    uint32_t from, to;
    enum network_class class;
    bool closed;
    bool told;        /* what the process believes: connected? */
    uint32_t session; /* or NOTHING */
    uint32_t attempts;
};

struct network {
    struct queue *queue;
    struct random random;
    struct network_handlers handlers;
    struct network_weather weather[NETWORK_CLASSES];
    bool up[NETWORK_ENDPOINTS_MAX];
    bool blocked[NETWORK_ENDPOINTS_MAX][NETWORK_ENDPOINTS_MAX];
    struct socket *sockets;
    uint32_t sockets_count, sockets_capacity;
    struct session *sessions;
    uint32_t sessions_count, sessions_capacity;
    struct parcel *parcels;
    uint32_t parcels_count, parcels_capacity, parcels_free;
    struct network_counters counters;
};

static void *grown(void *memory, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity)
        return memory;
    *capacity = *capacity == 0 ? 64 : 2 * *capacity;
    memory = realloc(memory, *capacity * size);
    ENSURE(memory != NULL);
    return memory;
}

struct network *network_new(struct queue *queue, uint64_t seed,
                            const struct network_handlers *handlers)
{
    struct network *n = calloc(1, sizeof *n);
    ENSURE(n != NULL);
    n->queue = queue;
    random_init(&n->random, seed);
    n->handlers = *handlers;
    n->parcels_free = NOTHING;
    return n;
}

void network_destroy(struct network **network_p)
{
    struct network *n = *network_p;
    if (n == NULL)
        return;
    for (uint32_t i = 0; i < n->parcels_count; i++)
        free(n->parcels[i].data);
    free(n->parcels);
    free(n->sessions);
    free(n->sockets);
    free(n);
    *network_p = NULL;
}

void network_set_weather(struct network *n, enum network_class class,
                         const struct network_weather *weather)
{
    n->weather[class] = *weather;
}

static uint64_t delay_us(struct network *n, enum network_class class)
{
    const struct network_weather *w = &n->weather[class];
    return random_spread(&n->random, w->delay_min_us, w->delay_max_us);
}

/* Parcels. */

static uint32_t parcel_new(struct network *n, uint32_t session, enum direction direction,
                           struct bytes frame)
{
    uint32_t i = n->parcels_free;
    if (i != NOTHING) {
        n->parcels_free = n->parcels[i].next;
    } else {
        n->parcels = grown(n->parcels, n->parcels_count, &n->parcels_capacity, sizeof *n->parcels);
        i = n->parcels_count++;
    }
    uint8_t *data = malloc(frame.size == 0 ? 1 : frame.size);
    ENSURE(data != NULL);
    memcpy(data, frame.data, frame.size);
    n->parcels[i] = (struct parcel){.data = data,
                                    .size = frame.size,
                                    .session = session,
                                    .direction = direction,
                                    .next = NOTHING};
    return i;
}

static void parcel_free(struct network *n, uint32_t i)
{
    free(n->parcels[i].data);
    n->parcels[i] = (struct parcel){.session = NOTHING, .next = n->parcels_free};
    n->parcels_free = i;
}

static void drop_waiting(struct network *n, struct lane *lane)
{
    while (lane->waiting != NOTHING) {
        uint32_t i = lane->waiting;
        lane->waiting = n->parcels[i].next;
        parcel_free(n, i);
        n->counters.lost++;
    }
    lane->waiting_end = NOTHING;
}

/* Sockets and sessions. */

static void socket_tell(struct network *n, uint32_t socket, bool connected)
{
    struct socket *s = &n->sockets[socket];
    if (s->closed || s->told == connected)
        return;
    s->told = connected;
    n->handlers.connected(n->handlers.arg, s->from, socket, connected);
}

static bool path_open(const struct network *n, uint32_t a, uint32_t b)
{
    return !n->blocked[a][b] && !n->blocked[b][a];
}

static void dial(void *arg, uint64_t socket, uint64_t unused);

static void redial(struct network *n, uint32_t socket)
{
    struct socket *s = &n->sockets[socket];
    uint64_t max = (uint64_t)REDIAL_MIN_US << (s->attempts < 6 ? s->attempts : 6);
    s->attempts++;
    queue_add(n->queue, random_range(&n->random, REDIAL_MIN_US / 2, max), dial, n, socket, 0);
}

static void dial(void *arg, uint64_t socket, uint64_t unused)
{
    (void)unused;
    struct network *n = arg;
    struct socket *s = &n->sockets[socket];
    if (s->closed || s->session != NOTHING)
        return;
    if (!n->up[s->to] || !path_open(n, s->from, s->to)) {
        redial(n, (uint32_t)socket);
        return;
    }
    n->sessions = grown(n->sessions, n->sessions_count, &n->sessions_capacity, sizeof *n->sessions);
    s->session = n->sessions_count++;
    s->attempts = 0;
    struct lane empty = {.waiting = NOTHING, .waiting_end = NOTHING};
    n->sessions[s->session] = (struct session){.socket = (uint32_t)socket,
                                               .from = s->from,
                                               .to = s->to,
                                               .class = s->class,
                                               .lanes = {empty, empty}};
    socket_tell(n, (uint32_t)socket, true);
}

static void notice(void *arg, uint64_t socket, uint64_t session)
{
    struct network *n = arg;
    struct socket *s = &n->sockets[socket];
    if (s->closed || s->session != session)
        return;
    s->session = NOTHING;
    socket_tell(n, (uint32_t)socket, false);
    redial(n, (uint32_t)socket);
}

/* The connection is no more; its socket hears of it in notice_us. keep: what was asked may arrive.
 */
static void session_break(struct network *n, uint32_t session, uint64_t notice_us, bool keep)
{
    struct session *s = &n->sessions[session];
    if (s->broken)
        return;
    s->broken = true;
    s->drop[ASKING] |= !keep;
    s->drop[ANSWERING] = true;
    if (!keep)
        drop_waiting(n, &s->lanes[ASKING]);
    drop_waiting(n, &s->lanes[ANSWERING]);
    n->counters.resets++;
    queue_add(n->queue, notice_us, notice, n, s->socket, session);
}

void network_process_up(struct network *n, uint32_t endpoint)
{
    ENSURE(endpoint < NETWORK_ENDPOINTS_MAX);
    n->up[endpoint] = true;
}

void network_process_dead(struct network *n, uint32_t endpoint, bool quick)
{
    n->up[endpoint] = false;
    for (uint32_t i = 0; i < n->sockets_count; i++)
        if (n->sockets[i].from == endpoint && !n->sockets[i].closed)
            network_hang_up(n, i);
    for (uint32_t i = 0; i < n->sessions_count; i++) {
        struct session *s = &n->sessions[i];
        if (s->to != endpoint)
            continue;
        s->drop[ASKING] = true;
        drop_waiting(n, &s->lanes[ASKING]);
        if (s->broken)
            continue;
        /* Answers that left the machine may still arrive, until the other end notices. */
        s->broken = true;
        s->drop[ANSWERING] |= random_chance(&n->random, 500);
        uint64_t notice_us = quick ? random_below(&n->random, 2000) : HEARTBEAT_US;
        queue_add(n->queue, notice_us, notice, n, s->socket, i);
    }
}

uint32_t network_dial(struct network *n, uint32_t from, uint32_t to, enum network_class class)
{
    ENSURE(from < NETWORK_ENDPOINTS_MAX && to < NETWORK_ENDPOINTS_MAX);
    n->sockets = grown(n->sockets, n->sockets_count, &n->sockets_capacity, sizeof *n->sockets);
    uint32_t socket = n->sockets_count++;
    n->sockets[socket] =
        (struct socket){.from = from, .to = to, .class = class, .session = NOTHING};
    queue_add(n->queue, 2 * delay_us(n, class), dial, n, socket, 0);
    return socket;
}

void network_hang_up(struct network *n, uint32_t socket)
{
    struct socket *s = &n->sockets[socket];
    if (s->closed)
        return;
    s->closed = true;
    if (s->session != NOTHING)
        session_break(n, s->session, 0, random_chance(&n->random, 700));
    s->session = NOTHING;
}

/* Frames. */

static void arrive(void *arg, uint64_t parcel, uint64_t unused);

static void schedule(struct network *n, uint32_t parcel)
{
    struct parcel *p = &n->parcels[parcel];
    struct session *s = &n->sessions[p->session];
    struct lane *lane = &s->lanes[p->direction];
    const struct network_weather *w = &n->weather[s->class];
    uint64_t at = n->queue->now_us + delay_us(n, s->class);
    if (!w->datagrams) {
        at = at > lane->last_at_us ? at : lane->last_at_us;
        lane->last_at_us = at;
    } else if (random_chance(&n->random, w->late_per_mille)) {
        at += random_below(&n->random, w->late_max_us);
        n->counters.late++;
    }
    queue_add(n->queue, at - n->queue->now_us, arrive, n, parcel, 0);
}

static void send(struct network *n, uint32_t session, enum direction direction, struct bytes frame)
{
    struct session *s = &n->sessions[session];
    const struct network_weather *w = &n->weather[s->class];
    uint32_t from = direction == ASKING ? s->from : s->to;
    uint32_t to = direction == ASKING ? s->to : s->from;
    n->counters.frames++;
    n->handlers.taken(n->handlers.arg, from, to, s->class, frame);
    if (w->datagrams && random_chance(&n->random, w->loss_per_mille)) {
        n->counters.lost++;
        return;
    }
    schedule(n, parcel_new(n, session, direction, frame));
    /* A doubled request would be one more attempt that its sender does not know of. */
    bool may_double = s->class == NETWORK_NODE || direction == ANSWERING;
    if (w->datagrams && may_double && random_chance(&n->random, w->double_per_mille)) {
        n->counters.doubled++;
        schedule(n, parcel_new(n, session, direction, frame));
    }
}

enum status network_ask(struct network *n, uint32_t socket, struct bytes frame)
{
    const struct socket *s = &n->sockets[socket];
    ENSURE(!s->closed);
    if (s->session == NOTHING || !s->told) {
        n->counters.refused++;
        return STATUS_BUSY;
    }
    if (!n->sessions[s->session].broken) {
        send(n, s->session, ASKING, frame);
        return STATUS_OK;
    }
    /* The other end is gone without our notice: the frame is lost. A process that has come back in
     * its place says that it does not know the connection. */
    n->counters.lost++;
    if (n->up[s->to] && path_open(n, s->from, s->to))
        queue_add(n->queue, 2 * delay_us(n, s->class), notice, n, socket, s->session);
    return STATUS_OK;
}

enum status network_answer(struct network *n, uint64_t source, struct bytes frame)
{
    ENSURE(source < n->sessions_count);
    if (n->sessions[source].broken) {
        n->counters.refused++;
        return STATUS_NOCONNECTION;
    }
    send(n, (uint32_t)source, ANSWERING, frame);
    return STATUS_OK;
}

/* A path that stays blocked breaks the connection. */
static void give_up(void *arg, uint64_t session, uint64_t unused)
{
    (void)unused;
    struct network *n = arg;
    struct session *s = &n->sessions[session];
    if (!s->breaking)
        return;
    s->breaking = false;
    session_break(n, (uint32_t)session, 0, false);
}

static void hold_up(struct network *n, uint32_t parcel)
{
    struct parcel *p = &n->parcels[parcel];
    struct session *s = &n->sessions[p->session];
    struct lane *lane = &s->lanes[p->direction];
    if (lane->waiting == NOTHING)
        lane->waiting = parcel;
    else
        n->parcels[lane->waiting_end].next = parcel;
    lane->waiting_end = parcel;
    if (s->breaking)
        return;
    s->breaking = true;
    queue_add(n->queue, random_range(&n->random, BREAK_MIN_US, BREAK_MAX_US), give_up, n,
              p->session, 0);
}

static void arrive(void *arg, uint64_t parcel, uint64_t unused)
{
    (void)unused;
    struct network *n = arg;
    struct parcel *p = &n->parcels[parcel];
    struct session s = n->sessions[p->session];
    bool asking = p->direction == ASKING;
    uint32_t from = asking ? s.from : s.to, to = asking ? s.to : s.from;
    bool datagrams = n->weather[s.class].datagrams;
    bool blocked = n->blocked[from][to] || s.lanes[p->direction].waiting != NOTHING;
    if (s.drop[p->direction] || (blocked && datagrams) ||
        (!asking && (n->sockets[s.socket].closed || n->sockets[s.socket].session != p->session))) {
        n->counters.lost++;
        parcel_free(n, (uint32_t)parcel);
        return;
    }
    if (blocked) {
        hold_up(n, (uint32_t)parcel);
        return;
    }
    /* The handler may send: the parcel's memory must not move under it. */
    uint8_t *data = p->data;
    struct bytes frame = {p->size, data};
    uint32_t session = p->session;
    p->data = NULL;
    parcel_free(n, (uint32_t)parcel);
    if (asking)
        n->handlers.asked(n->handlers.arg, to, session, s.class, frame);
    else
        n->handlers.answered(n->handlers.arg, to, s.socket, frame);
    free(data);
}

/* At once: frames that are still under way must not overtake those that waited. */
static void release_waiting(struct network *n, uint32_t session, enum direction direction)
{
    struct lane *lane = &n->sessions[session].lanes[direction];
    uint32_t i = lane->waiting;
    lane->waiting = lane->waiting_end = NOTHING;
    while (i != NOTHING) {
        uint32_t next = n->parcels[i].next;
        n->parcels[i].next = NOTHING;
        arrive(n, i, 0);
        i = next;
    }
}

void network_block(struct network *n, uint32_t from, uint32_t to, bool blocked)
{
    n->blocked[from][to] = blocked;
    if (blocked)
        return;
    for (uint32_t i = 0; i < n->sessions_count; i++) {
        struct session *s = &n->sessions[i];
        if (s->from == from && s->to == to)
            release_waiting(n, i, ASKING);
        if (s->from == to && s->to == from)
            release_waiting(n, i, ANSWERING);
        if (s->lanes[ASKING].waiting == NOTHING && s->lanes[ANSWERING].waiting == NOTHING)
            s->breaking = false;
    }
}

void network_reset_some(struct network *n)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < n->sessions_count; i++)
        open += !n->sessions[i].broken;
    if (open == 0)
        return;
    uint64_t pick = random_below(&n->random, open);
    for (uint32_t i = 0; i < n->sessions_count; i++) {
        if (n->sessions[i].broken || pick-- > 0)
            continue;
        session_break(n, i, random_below(&n->random, 3000), random_chance(&n->random, 300));
        return;
    }
}

void network_reset_between(struct network *n, uint32_t a, uint32_t b)
{
    for (uint32_t i = 0; i < n->sessions_count; i++) {
        const struct session *s = &n->sessions[i];
        if ((s->from == a && s->to == b) || (s->from == b && s->to == a))
            session_break(n, i, random_below(&n->random, 3000), false);
    }
}

void network_heal(struct network *n)
{
    for (uint32_t a = 0; a < NETWORK_ENDPOINTS_MAX; a++)
        for (uint32_t b = 0; b < NETWORK_ENDPOINTS_MAX; b++)
            if (n->blocked[a][b])
                network_block(n, a, b, false);
    for (int i = 0; i < NETWORK_CLASSES; i++) {
        n->weather[i].loss_per_mille = n->weather[i].double_per_mille = 0;
        n->weather[i].late_per_mille = 0;
        if (n->weather[i].delay_max_us > 20000)
            n->weather[i].delay_max_us = 20000;
        if (n->weather[i].delay_min_us > n->weather[i].delay_max_us)
            n->weather[i].delay_min_us = n->weather[i].delay_max_us;
    }
}

const struct network_counters *network_counters(const struct network *n)
{
    return &n->counters;
}
