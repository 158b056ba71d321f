/* bench: a closed loop over many connections: each sends `pipeline` operations and waits for all.
 *
 * Each connection is a session with a link of its own, as if it were another program; a few threads
 * drive them all, for a background thread each would measure the scheduler. Latency is that of the
 * caller: from submitting to the completion, queueing in the client included.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "client/cli/command.h"
#include "client/options.h"
#include "client/session.h"
#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "proto/base/histogram.h"
#include "proto/link.h"

#define CONNECTIONS_MAX 4000
#define THREADS_MAX     16
#define READY_MAX_MS    5000
#define SECONDS_DEFAULT 10
#define IDLE_MS         5
#define KEY_TEXT_SIZE   40

enum mix { MIX_READ, MIX_WRITE, MIX_MIXED, MIX_FILL };
static const char *const mix_names[] = {"read", "write", "mixed", "fill"};

/* The same for all threads. */
struct plan {
    const struct context *c;
    struct duet_options options; /* the routers */
    enum mix mix;
    uint64_t connections, pipeline, threads, keys, operations, value_size;
    uint64_t seconds;
    uint8_t *value;

    atomic_ullong issued;
    atomic_ullong ready;    /* connections that a router has answered */
    atomic_ullong begin_ns; /* 0: not all are ready yet */
    atomic_bool failed;     /* give up */
};

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
    struct plan *plan;
    pthread_t thread;
    struct link_context *context;
    struct session_effects effects;
    struct lane *lanes;
    struct pollfd *fds;
    size_t lanes_count;
    bool begun; /* plan->begin_ns was seen */
    uint64_t random, in_flight, end_ns;
    struct histogram reads, writes;
    uint64_t not_found, failed, in_doubt;
    enum status failure; /* the first */
};

static uint64_t draw(struct worker *w)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

/* ---- Operations ---- */

/* The number of the next operation; false: enough. */
static bool next_number(struct worker *w, uint64_t now_ns, uint64_t *ret)
{
    struct plan *plan = w->plan;
    uint64_t begin_ns = atomic_load_explicit(&plan->begin_ns, memory_order_relaxed);
    if (begin_ns == 0 || (plan->seconds > 0 && now_ns >= begin_ns + plan->seconds * 1000000000))
        return false;
    *ret = atomic_fetch_add_explicit(&plan->issued, 1, memory_order_relaxed);
    return plan->operations == 0 || *ret < plan->operations;
}

static bool is_write(struct worker *w)
{
    enum mix mix = w->plan->mix;
    return mix == MIX_WRITE || mix == MIX_FILL || (mix == MIX_MIXED && (draw(w) >> 32 & 1) != 0);
}

static void submit(struct worker *w, struct lane *lane, uint64_t now_ns, uint64_t number)
{
    const struct plan *plan = w->plan;
    char key[KEY_TEXT_SIZE];
    uint64_t k = plan->mix == MIX_FILL ? number : (draw(w) >> 16) % plan->keys;
    snprintf(key, sizeof key, "bench:%09llu", (unsigned long long)k);
    struct flight *flight = lane->free_flights;
    lane->free_flights = flight->next;
    *flight = (struct flight){lane, now_ns, is_write(w), NULL};
    struct session_operation op = {.kind = flight->write ? KIND_WRITE : KIND_READ,
                                   .key = bytes_text(key),
                                   .whole = true,
                                   .user = flight};
    if (flight->write)
        op.write = (struct write){.mutation = MUTATION_PUT,
                                  .value = bytes_of(plan->value, plan->value_size)};
    ENSURE(session_submit(lane->session, now_ns / 1000000, &op, NULL) == STATUS_OK);
    lane->in_flight++;
    w->in_flight++;
}

/* A pipeline at once, and the next when all of it is answered: what a program does that sends many
 * and waits for all, and what redis-benchmark -P does. */
static void fill(struct worker *w, struct lane *lane, uint64_t now_ns)
{
    uint64_t number;
    if (lane->in_flight > 0)
        return;
    /* The window may be narrower than the pipeline for a while, when answers come out of order. */
    while (lane->free_flights != NULL && session_room(lane->session) > 0 &&
           next_number(w, now_ns, &number))
        submit(w, lane, now_ns, number);
}

static void complete(struct worker *w, const struct session_completion *done, uint64_t now_ns)
{
    struct flight *flight = done->user;
    flight->lane->in_flight--;
    w->in_flight--;
    if (done->status == STATUS_OK || done->status == STATUS_NOTFOUND)
        histogram_add(flight->write ? &w->writes : &w->reads, now_ns - flight->begin_ns);
    if (done->status == STATUS_NOTFOUND) {
        w->not_found++;
    } else if (done->status != STATUS_OK) {
        w->failed += (done->flags & ANSWER_IN_DOUBT) == 0;
        w->in_doubt += (done->flags & ANSWER_IN_DOUBT) != 0;
        if (w->failure == STATUS_OK)
            w->failure = done->status;
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

static bool over(struct worker *w, uint64_t now_ns)
{
    struct plan *plan = w->plan;
    if (atomic_load(&plan->failed))
        return true;
    uint64_t begin_ns = atomic_load(&plan->begin_ns);
    if (begin_ns == 0 || w->in_flight > 0)
        return false;
    bool issued = plan->operations > 0 && atomic_load(&plan->issued) >= plan->operations;
    return issued || (plan->seconds > 0 && now_ns >= begin_ns + plan->seconds * 1000000000);
}

/* Look which links have something; wait for one unless a lane wants its turn anyway. Every empty
 * look into a ZeroMQ socket costs a system call, so only those that showed something are looked
 * into. */
static void poll_lanes(struct worker *w)
{
    int wait_ms = IDLE_MS;
    for (size_t i = 0; i < w->lanes_count; i++) {
        struct lane *lane = &w->lanes[i];
        w->fds[i] =
            (struct pollfd){.fd = lane->link == NULL ? -1 : link_fd(lane->link), .events = POLLIN};
        if (lane->again)
            wait_ms = 0;
    }
    poll(w->fds, w->lanes_count, wait_ms);
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
        poll_lanes(w);
        turn_all(w, clock_now_ns() / 1000000);
        now_ns = clock_now_ns();
    }
    w->end_ns = now_ns;
    return NULL;
}

/* ---- Life ---- */

static bool lane_init(struct worker *w, struct lane *lane, uint64_t number)
{
    struct plan *plan = w->plan;
    struct session_options options = {.client_id = clock_random64(),
                                      .seed = clock_random64(),
                                      .timeout_ms = (uint32_t)plan->c->flags.timeout,
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

static bool worker_init(struct worker *w, struct plan *plan, uint64_t number)
{
    *w = (struct worker){.plan = plan, .random = clock_random64()};
    histogram_init(&w->reads);
    histogram_init(&w->writes);
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
static bool begin_when_ready(struct plan *plan)
{
    uint64_t end_ms = clock_now_ms() + READY_MAX_MS;
    while (atomic_load(&plan->ready) < plan->connections) {
        if (clock_now_ms() >= end_ms)
            return false;
        poll(NULL, 0, 5);
    }
    atomic_store(&plan->begin_ns, clock_now_ns());
    return true;
}

/* ---- Figures ---- */

static const struct {
    const char *name;
    uint32_t per_10000;
} quantiles[] = {{"p50", 5000}, {"p90", 9000}, {"p99", 9900}, {"p999", 9990}, {"max", 10000}};

static json_t *latency_json(const struct histogram *h)
{
    json_t *object = json_object();
    json_object_set_new(object, "count", json_integer((json_int_t)h->count));
    json_object_set_new(object, "mean",
                        json_real((double)h->sum / (double)(h->count + (h->count == 0)) / 1e3));
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        json_object_set_new(object, quantiles[i].name,
                            json_real((double)histogram_quantile(h, quantiles[i].per_10000) / 1e3));
    return object;
}

static void print_json(const struct plan *plan, const struct worker *sum, double seconds)
{
    uint64_t count = sum->reads.count + sum->writes.count;
    json_t *object = json_object(), *latency = json_object();
    json_object_set_new(object, "mix", json_string(mix_names[plan->mix]));
    json_object_set_new(object, "connections", json_integer((json_int_t)plan->connections));
    json_object_set_new(object, "pipeline", json_integer((json_int_t)plan->pipeline));
    json_object_set_new(object, "keys", json_integer((json_int_t)plan->keys));
    json_object_set_new(object, "value_size", json_integer((json_int_t)plan->value_size));
    json_object_set_new(object, "seconds", json_real(seconds));
    json_object_set_new(object, "operations", json_integer((json_int_t)count));
    json_object_set_new(object, "operations_per_second", json_real((double)count / seconds));
    json_object_set_new(object, "not_found", json_integer((json_int_t)sum->not_found));
    json_object_set_new(object, "failed", json_integer((json_int_t)sum->failed));
    json_object_set_new(object, "in_doubt", json_integer((json_int_t)sum->in_doubt));
    json_object_set_new(latency, "read", latency_json(&sum->reads));
    json_object_set_new(latency, "write", latency_json(&sum->writes));
    json_object_set_new(object, "latency_us", latency);
    command_print_json(plan->c, object);
}

static void print_latency(const char *name, const struct histogram *h)
{
    if (h->count == 0)
        return;
    printf("%-6s", name);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        printf("  %s %.3f", quantiles[i].name,
               (double)histogram_quantile(h, quantiles[i].per_10000) / 1e6);
    puts(" ms");
}

static void print_table(const struct plan *plan, const struct worker *sum, double seconds)
{
    uint64_t count = sum->reads.count + sum->writes.count;
    printf("%s: %llu connections x %llu in flight, %llu keys, values of %llu bytes\n",
           mix_names[plan->mix], (unsigned long long)plan->connections,
           (unsigned long long)plan->pipeline, (unsigned long long)plan->keys,
           (unsigned long long)plan->value_size);
    printf("%llu operations in %.2f s: %.0f/s; %llu not found, %llu failed, %llu in doubt\n",
           (unsigned long long)count, seconds, (double)count / seconds,
           (unsigned long long)sum->not_found, (unsigned long long)sum->failed,
           (unsigned long long)sum->in_doubt);
    print_latency("read", &sum->reads);
    print_latency("write", &sum->writes);
}

static void add_up(struct worker *sum, const struct worker *w)
{
    histogram_merge(&sum->reads, &w->reads);
    histogram_merge(&sum->writes, &w->writes);
    sum->not_found += w->not_found;
    sum->failed += w->failed;
    sum->in_doubt += w->in_doubt;
    if (sum->failure == STATUS_OK)
        sum->failure = w->failure;
    if (w->end_ns > sum->end_ns)
        sum->end_ns = w->end_ns;
}

static int report(struct plan *plan, const struct worker *workers)
{
    struct worker *sum = calloc(1, sizeof *sum);
    if (sum == NULL)
        return command_fail(DUET_NOMEMORY, "out of memory");
    histogram_init(&sum->reads);
    histogram_init(&sum->writes);
    for (uint64_t i = 0; i < plan->threads; i++)
        add_up(sum, &workers[i]);
    double seconds = (double)(sum->end_ns - atomic_load(&plan->begin_ns)) / 1e9;
    if (command_json(plan->c))
        print_json(plan, sum, seconds);
    else
        print_table(plan, sum, seconds);
    int exit_code = 0;
    if (sum->failure != STATUS_OK)
        exit_code = command_fail((enum duet_code)sum->failure, "the first failure was: %s",
                                 status_text(sum->failure));
    free(sum);
    return exit_code;
}

static int run(struct plan *plan, struct worker *workers)
{
    uint64_t started = 0;
    bool good = true;
    for (; good && started < plan->threads; started++) {
        struct worker *w = &workers[started];
        good = worker_init(w, plan, started) && pthread_create(&w->thread, NULL, work, w) == 0;
        if (!good)
            break;
    }
    bool begun = good && begin_when_ready(plan);
    if (!begun)
        atomic_store(&plan->failed, true);
    for (uint64_t i = 0; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    int exit_code = begun  ? report(plan, workers)
                    : good ? command_fail(DUET_NOCONNECTION,
                                          "only %llu of %llu connections were answered at %s",
                                          atomic_load(&plan->ready),
                                          (unsigned long long)plan->connections, plan->c->routers)
                           : command_fail(DUET_NOMEMORY, "cannot start: out of memory, threads or "
                                                         "files (ulimit -n)");
    for (uint64_t i = 0; i < started + !good; i++)
        worker_fini(&workers[i]);
    return exit_code;
}

static int check(const char *flag, uint64_t value, uint64_t max)
{
    if (value >= 1 && value <= max)
        return 0;
    return command_fail(DUET_USAGE, "--%s: %llu is not from 1 to %llu", flag,
                        (unsigned long long)value, (unsigned long long)max);
}

static int make_plan(struct context *c, struct plan *plan)
{
    const struct flags *f = &c->flags;
    struct duet_error error;
    *plan = (struct plan){.c = c,
                          .connections = f->connections,
                          .pipeline = f->pipeline,
                          .threads = f->threads,
                          .keys = f->keys,
                          .operations = f->operations,
                          .seconds = f->seconds,
                          .value_size = f->value_size};
    options_default(&plan->options);
    if (duet_options_set(&plan->options, "routers", c->routers, &error) != DUET_OK)
        return command_fail(error.code, "%s", error.message);
    while (plan->mix <= MIX_FILL && strcmp(f->mix, mix_names[plan->mix]) != 0)
        plan->mix++;
    if (plan->mix > MIX_FILL)
        return command_fail(DUET_USAGE, "--mix '%s' is none of read, write, mixed, fill", f->mix);
    if (plan->mix == MIX_FILL)
        plan->operations = plan->keys;
    else if (plan->operations == 0 && plan->seconds == 0)
        plan->seconds = SECONDS_DEFAULT;
    int exit_code = check("connections", f->connections, CONNECTIONS_MAX);
    exit_code = exit_code != 0 ? exit_code : check("pipeline", f->pipeline, CLIENT_WINDOW_MAX);
    exit_code = exit_code != 0 ? exit_code : check("threads", f->threads, THREADS_MAX);
    exit_code = exit_code != 0 ? exit_code : check("keys", f->keys, 999999999);
    return exit_code != 0 ? exit_code : check("value-size", f->value_size + 1, VALUE_SIZE_MAX);
}

int bench_run(struct context *c)
{
    struct plan plan;
    int exit_code = make_plan(c, &plan);
    if (exit_code != 0)
        return exit_code;
    struct worker *workers = calloc(plan.threads, sizeof *workers);
    plan.value = malloc(plan.value_size + 1);
    if (workers != NULL && plan.value != NULL) {
        for (size_t i = 0; i < plan.value_size; i++)
            plan.value[i] = (uint8_t)('a' + clock_random64() % 26);
        exit_code = run(&plan, workers);
    } else {
        exit_code = command_fail(DUET_NOMEMORY, "out of memory");
    }
    free(workers);
    free(plan.value);
    return exit_code;
}
