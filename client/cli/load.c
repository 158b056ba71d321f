#define _GNU_SOURCE /* ppoll() */

#include "client/cli/load.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "client/cli/command.h"
#include "client/session.h"
#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "proto/link.h"

#define READY_MAX_MS 5000
#define IDLE_NS      5000000
#define CATCH_UP_NS  1000000000
#define WATCH_MS     100
#define KEY_PREFIX   "bench:"
#define KEY_DIGITS   10
#define KEY_SIZE     (sizeof KEY_PREFIX - 1 + KEY_DIGITS)

struct lane;

/* One operation in flight. */
struct flight {
    struct lane *lane;
    uint64_t begin_ns;
    bool write;
    struct flight *next; /* when free */
};

struct lane {
    struct session *session;
    struct link *link;
    const char *address;
    bool connected, ready;
    bool again;           /* there is a message that the link's descriptor may not tell of */
    uint64_t deadline_ms; /* of the session */
    struct flight *flights, *free_flights;
    uint64_t in_flight;
};

struct worker {
    struct load_plan *plan;
    uint64_t number; /* of this one among the plan's threads */
    pthread_t thread;
    struct link_context *context;
    struct session_effects effects;
    struct lane *lanes;
    struct pollfd *fds;
    size_t lanes_count;
    bool begun;   /* plan->begin_ns was seen */
    bool closing; /* open loop: nothing more begins */
    uint64_t random, in_flight;
    uint64_t due_count; /* open loop: operations begun */
    size_t due_lane;    /* which lane is next */
    struct load_sum sum;
};

static uint64_t draw(struct worker *w)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

/* ---- Operations ---- */

/* The number of the next operation, which begins at at_ns; false: enough. */
static bool next_number(struct worker *w, uint64_t at_ns, uint64_t *ret)
{
    struct load_plan *plan = w->plan;
    uint64_t begin_ns = atomic_load_explicit(&plan->begin_ns, memory_order_relaxed);
    if (begin_ns == 0 || command_interrupted ||
        (plan->seconds > 0 && at_ns >= begin_ns + plan->seconds * 1000000000))
        return false;
    *ret = atomic_fetch_add_explicit(&plan->issued, 1, memory_order_relaxed);
    return plan->operations == 0 || *ret < plan->operations;
}

/* Which key: drawn ranks are scattered, or the hot keys would be neighbours. */
static uint64_t draw_key(struct worker *w)
{
    const struct load_plan *plan = w->plan;
    uint64_t number = draw(w);
    if (!plan->zipfian)
        return (number >> 16) % plan->keys;
    uint64_t rank = zipf_rank(&plan->zipf, (double)(number >> 11) * 0x1p-53);
    rank = (rank + 1) * 0x9e3779b97f4a7c15u;
    return (rank ^ rank >> 29) % plan->keys;
}

static void write_key(char key[static KEY_SIZE], uint64_t number)
{
    memcpy(key, KEY_PREFIX, sizeof KEY_PREFIX - 1);
    for (size_t i = KEY_SIZE; i-- > sizeof KEY_PREFIX - 1; number /= 10)
        key[i] = (char)('0' + number % 10);
}

static struct bytes draw_value(struct worker *w)
{
    const struct load_plan *plan = w->plan;
    uint64_t spread = plan->value_size_max - plan->value_size_min;
    uint64_t size = plan->value_size_min + (spread == 0 ? 0 : (draw(w) >> 16) % (spread + 1));
    return bytes_of(plan->value, size);
}

/* begin_ns: from when the latency counts. */
static void submit(struct worker *w, struct lane *lane, uint64_t now_ns, uint64_t begin_ns,
                   uint64_t number)
{
    const struct load_plan *plan = w->plan;
    char key[KEY_SIZE];
    bool write = plan->fill || (draw(w) >> 32 & 1023) >= plan->reads_per_1024;
    write_key(key, plan->fill ? number : draw_key(w));
    struct flight *flight = lane->free_flights;
    lane->free_flights = flight->next;
    *flight = (struct flight){lane, begin_ns, write, NULL};
    struct session_operation op = {.kind = write ? KIND_WRITE : KIND_READ,
                                   .key = bytes_of(key, KEY_SIZE),
                                   .whole = plan->rate == 0,
                                   .user = flight};
    if (write)
        op.write = (struct write){.mutation = MUTATION_PUT, .value = draw_value(w)};
    ENSURE(session_submit(lane->session, now_ns / 1000000, &op, NULL) == STATUS_OK);
    lane->in_flight++;
    w->in_flight++;
}

/* A pipeline at once, and the next when all of it is answered: what a program does that sends many
 * and waits for all, and what redis-benchmark -P does. */
static void fill(struct worker *w, struct lane *lane, uint64_t now_ns)
{
    uint64_t number;
    if (lane->in_flight > 0 || w->plan->rate > 0)
        return;
    /* The window may be narrower than the pipeline for a while, when answers come out of order. */
    while (lane->free_flights != NULL && session_room(lane->session) > 0 &&
           next_number(w, now_ns, &number))
        submit(w, lane, now_ns, now_ns, number);
}

/* Open loop: when the next operation of this worker is due. */
static uint64_t due_ns(const struct worker *w, uint64_t begin_ns)
{
    double nth = (double)(w->due_count * w->plan->threads + w->number);
    return begin_ns + (uint64_t)(nth * 1e9 / (double)w->plan->rate);
}

/* The next lane with room; NULL: none has. */
static struct lane *free_lane(struct worker *w)
{
    for (size_t i = 0; i < w->lanes_count; i++) {
        struct lane *lane = &w->lanes[w->due_lane++ % w->lanes_count];
        if (lane->free_flights != NULL && session_room(lane->session) > 0)
            return lane;
    }
    return NULL;
}

/* Open loop: begin all that is due. What finds no room waits, and its latency grows meanwhile. */
static void begin_due(struct worker *w, uint64_t now_ns)
{
    uint64_t begin_ns = atomic_load_explicit(&w->plan->begin_ns, memory_order_relaxed);
    uint64_t end_ns = w->plan->seconds == 0 ? UINT64_MAX : begin_ns + w->plan->seconds * 1000000000;
    uint64_t number, due;
    if (begin_ns == 0 || w->closing)
        return;
    while ((due = due_ns(w, begin_ns)) <= now_ns && due < end_ns) {
        struct lane *lane = free_lane(w);
        if (lane == NULL || !next_number(w, due, &number))
            return;
        submit(w, lane, now_ns, due, number);
        lane->again = true;
        w->due_count++;
    }
}

/* How many were due before the end and have not begun. */
static uint64_t count_behind(const struct worker *w)
{
    const struct load_plan *plan = w->plan;
    if (plan->rate == 0 || plan->seconds == 0 || command_interrupted)
        return 0;
    double due = (double)plan->seconds * (double)plan->rate / (double)plan->threads;
    return due >= (double)w->due_count + 1 ? (uint64_t)due - w->due_count : 0;
}

static void complete(struct worker *w, const struct session_completion *done, uint64_t now_ns)
{
    struct flight *flight = done->user;
    flight->lane->in_flight--;
    w->in_flight--;
    if (done->status == STATUS_OK || done->status == STATUS_NOTFOUND)
        histogram_add(flight->write ? &w->sum.writes : &w->sum.reads, now_ns - flight->begin_ns);
    if (done->status == STATUS_NOTFOUND) {
        w->sum.not_found++;
    } else if (done->status != STATUS_OK) {
        w->sum.failed += (done->flags & ANSWER_IN_DOUBT) == 0;
        w->sum.in_doubt += (done->flags & ANSWER_IN_DOUBT) != 0;
        if (w->sum.failure == STATUS_OK)
            w->sum.failure = done->status;
    }
    flight->next = flight->lane->free_flights;
    flight->lane->free_flights = flight;
}

/* ---- The loop ---- */

static void reset(struct worker *w, struct lane *lane)
{
    link_destroy(&lane->link);
    lane->link = link_connect(w->context, LINK_CLIENT, lane->address, NULL);
    lane->connected = false;
}

static void carry_out(struct worker *w, struct lane *lane, uint64_t now_ns)
{
    for (size_t i = 0; i < w->effects.count; i++) {
        struct session_effect *effect = &w->effects.items[i];
        if (effect->kind == SESSION_COMPLETED)
            complete(w, &effect->completion, now_ns);
        else if (effect->kind == SESSION_RESET)
            reset(w, lane);
        else if (lane->link != NULL)
            link_send(lane->link, NULL, &effect->frame); /* lost: the session asks again */
    }
    session_effects_clear(&w->effects);
}

static bool receive(struct worker *w, struct lane *lane)
{
    struct link_peer peer;
    struct bytes frame;
    bool received = false;
    while (lane->link != NULL && link_recv(lane->link, &peer, &frame) == STATUS_OK) {
        uint64_t now_ns = clock_now_ns();
        session_message(lane->session, now_ns / 1000000, 0, frame, &w->effects);
        carry_out(w, lane, now_ns);
        received = true;
    }
    return received;
}

static void mind_link(struct worker *w, struct lane *lane, uint64_t now_ms)
{
    if (lane->link == NULL)
        reset(w, lane);
    bool connected = lane->link != NULL && link_connected(lane->link);
    if (connected != lane->connected) {
        lane->connected = connected;
        session_router_connected(lane->session, now_ms, 0, connected, &w->effects);
    }
    if (!lane->ready && session_ready(lane->session)) {
        lane->ready = true;
        atomic_fetch_add(&w->plan->ready, 1);
    }
}

static void turn(struct worker *w, struct lane *lane)
{
    bool received = receive(w, lane);
    uint64_t now_ns = clock_now_ns();
    if (!received)
        mind_link(w, lane, now_ns / 1000000);
    fill(w, lane, now_ns);
    session_tick(lane->session, now_ns / 1000000, &w->effects);
    session_flush(lane->session, now_ns / 1000000, &w->effects);
    carry_out(w, lane, now_ns);
    lane->again = lane->link != NULL && link_readable(lane->link);
    lane->deadline_ms = session_deadline(lane->session);
}

static uint64_t last_ns(const struct load_plan *plan, uint64_t begin_ns)
{
    return begin_ns + plan->seconds * 1000000000 + CATCH_UP_NS;
}

static bool over(struct worker *w, uint64_t now_ns)
{
    struct load_plan *plan = w->plan;
    if (atomic_load(&plan->failed))
        return true;
    uint64_t begin_ns = atomic_load(&plan->begin_ns);
    if (begin_ns == 0)
        return false;
    /* What is due at the end may still begin for a while; after that the rate is too high. */
    if (plan->rate > 0 && plan->seconds > 0 && now_ns >= last_ns(plan, begin_ns))
        w->closing = true;
    if (w->in_flight > 0)
        return false;
    if (w->closing)
        return true;
    bool issued = plan->operations > 0 && atomic_load(&plan->issued) >= plan->operations;
    if (command_interrupted || issued)
        return true;
    uint64_t end_ns = begin_ns + plan->seconds * 1000000000;
    if (plan->seconds == 0 || now_ns < end_ns)
        return false;
    return plan->rate == 0 || due_ns(w, begin_ns) >= end_ns;
}

/* How long nothing needs to be done unless something arrives. */
static uint64_t idle_ns(const struct worker *w, uint64_t now_ns)
{
    uint64_t begin_ns = atomic_load(&w->plan->begin_ns);
    if (w->plan->rate == 0 || begin_ns == 0)
        return IDLE_NS;
    uint64_t due = due_ns(w, begin_ns);
    uint64_t left = due > now_ns ? due - now_ns : 0;
    /* What is due already waits for room, which an answer makes. */
    return left == 0 || left > IDLE_NS ? IDLE_NS : left;
}

/* Look which links have something; wait for one unless a lane wants its turn anyway. Every empty
 * look into a ZeroMQ socket costs a system call, so only those that showed something are looked
 * into. */
static void poll_lanes(struct worker *w, uint64_t now_ns)
{
    uint64_t wait_ns = idle_ns(w, now_ns);
    for (size_t i = 0; i < w->lanes_count; i++) {
        struct lane *lane = &w->lanes[i];
        w->fds[i] =
            (struct pollfd){.fd = lane->link == NULL ? -1 : link_fd(lane->link), .events = POLLIN};
        if (lane->again)
            wait_ns = 0;
    }
    ppoll(w->fds, w->lanes_count, &(struct timespec){.tv_nsec = (long)wait_ns}, NULL);
}

static void turn_all(struct worker *w, uint64_t now_ms)
{
    bool begins = !w->begun && atomic_load(&w->plan->begin_ns) != 0;
    w->begun = w->begun || begins;
    for (size_t i = 0; i < w->lanes_count; i++) {
        struct lane *lane = &w->lanes[i];
        if (begins || lane->again || w->fds[i].revents != 0 || !lane->ready || !lane->connected ||
            now_ms >= lane->deadline_ms)
            turn(w, lane);
    }
}

static void *work(void *arg)
{
    struct worker *w = arg;
    uint64_t now_ns = clock_now_ns();
    while (!over(w, now_ns)) {
        poll_lanes(w, now_ns);
        now_ns = clock_now_ns();
        if (w->plan->rate > 0)
            begin_due(w, now_ns);
        turn_all(w, now_ns / 1000000);
        now_ns = clock_now_ns();
    }
    w->sum.end_ns = now_ns;
    w->sum.behind = count_behind(w);
    atomic_fetch_sub(&w->plan->running, 1);
    return NULL;
}

/* ---- Life ---- */

static bool lane_init(struct worker *w, struct lane *lane, uint64_t number)
{
    struct load_plan *plan = w->plan;
    struct session_options options = {.client_id = clock_random64(),
                                      .seed = clock_random64(),
                                      .timeout_ms = (uint32_t)plan->timeout_ms,
                                      .routers_count = 1,
                                      .name = "bench"};
    lane->address = plan->options.routers[number % plan->options.routers_count];
    lane->session = session_new(&options);
    lane->flights = calloc(plan->pipeline, sizeof *lane->flights);
    if (lane->session == NULL || lane->flights == NULL)
        return false;
    for (uint64_t i = plan->pipeline; i-- > 0;) {
        lane->flights[i].next = lane->free_flights;
        lane->free_flights = &lane->flights[i];
    }
    reset(w, lane);
    return lane->link != NULL;
}

static bool worker_init(struct worker *w, struct load_plan *plan, uint64_t number)
{
    *w = (struct worker){.plan = plan, .number = number, .random = clock_random64()};
    histogram_init(&w->sum.reads);
    histogram_init(&w->sum.writes);
    size_t count = (size_t)(plan->connections / plan->threads +
                            (number < plan->connections % plan->threads ? 1 : 0));
    w->context = link_context_new(1, true);
    w->lanes = calloc(count + 1, sizeof *w->lanes);
    w->fds = calloc(count + 1, sizeof *w->fds);
    if (w->context == NULL || w->lanes == NULL || w->fds == NULL ||
        session_effects_init(&w->effects) != STATUS_OK)
        return false;
    for (; w->lanes_count < count; w->lanes_count++)
        if (!lane_init(w, &w->lanes[w->lanes_count], w->lanes_count * plan->threads + number))
            return false;
    return true;
}

static void worker_fini(struct worker *w)
{
    for (size_t i = 0; w->lanes != NULL && i < w->lanes_count; i++) {
        link_destroy(&w->lanes[i].link);
        session_destroy(&w->lanes[i].session);
        free(w->lanes[i].flights);
    }
    link_context_destroy(&w->context);
    session_effects_fini(&w->effects);
    free(w->lanes);
    free(w->fds);
}

/* Begin once every connection is answered. False: some were not, in time. */
static bool begin_when_ready(struct load_plan *plan)
{
    uint64_t end_ms = clock_now_ms() + READY_MAX_MS;
    while (atomic_load(&plan->ready) < plan->connections) {
        if (clock_now_ms() >= end_ms || command_interrupted)
            return false;
        poll(NULL, 0, 5);
    }
    atomic_store(&plan->begin_ns, clock_now_ns());
    return true;
}

static void add_up(struct load_sum *sum, const struct load_sum *one)
{
    histogram_merge(&sum->reads, &one->reads);
    histogram_merge(&sum->writes, &one->writes);
    sum->not_found += one->not_found;
    sum->failed += one->failed;
    sum->in_doubt += one->in_doubt;
    sum->behind += one->behind;
    if (sum->failure == STATUS_OK)
        sum->failure = one->failure;
    if (one->end_ns > sum->end_ns)
        sum->end_ns = one->end_ns;
}

/* How many were started; fewer than all when one could not be. */
static uint64_t start_workers(struct load_plan *plan, struct worker *workers, uint64_t *ret_inited)
{
    uint64_t started = 0;
    *ret_inited = 0;
    for (; started < plan->threads; started++) {
        struct worker *w = &workers[started];
        *ret_inited = started + 1;
        if (!worker_init(w, plan, started))
            break;
        atomic_fetch_add(&plan->running, 1);
        if (pthread_create(&w->thread, NULL, work, w) != 0) {
            atomic_fetch_sub(&plan->running, 1);
            break;
        }
    }
    return started;
}

static enum status run(struct load_plan *plan, struct worker *workers, struct load_sum *ret,
                       load_watch *watch, void *arg)
{
    uint64_t inited, started = start_workers(plan, workers, &inited);
    enum status s = started < plan->threads   ? STATUS_NOMEMORY
                    : !begin_when_ready(plan) ? STATUS_NOCONNECTION
                                              : STATUS_OK;
    if (s != STATUS_OK)
        atomic_store(&plan->failed, true);
    while (s == STATUS_OK && atomic_load(&plan->running) > 0) {
        poll(NULL, 0, WATCH_MS);
        watch(plan, arg);
    }
    for (uint64_t i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        add_up(ret, &workers[i].sum);
    }
    for (uint64_t i = 0; i < inited; i++)
        worker_fini(&workers[i]);
    return s;
}

enum status load_run(struct load_plan *plan, struct load_sum *ret, load_watch *watch, void *arg)
{
    struct worker *workers = calloc(plan->threads, sizeof *workers);
    *ret = (struct load_sum){0};
    histogram_init(&ret->reads);
    histogram_init(&ret->writes);
    enum status s = workers == NULL ? STATUS_NOMEMORY : run(plan, workers, ret, watch, arg);
    free(workers);
    return s;
}
