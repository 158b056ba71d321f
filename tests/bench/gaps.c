/* gaps: for how long does a key take no writes, or give no answer, when something breaks?
 *
 *   gaps ROUTERS KEYS PACE-MS TIMEOUT-MS
 *
 * Keeps one put on each of KEYS keys gap:w:0.. under way, the next PACE-MS after the last one
 * ended, and likewise one get on each of as many keys gap:r:0.., which nobody writes and which must
 * be there. TIMEOUT-MS is the deadline of each. ROUTERS is a list; the reads begin with its last
 * one.
 *
 * Four keys share a client: its window counts from its oldest operation, so keys that wait for
 * their partition would soon hold up all the others of one client, and the gap of those would be
 * its own.
 *
 * Commands on stdin: see meter.h. Ends with stdin.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/duet.h"
#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "tests/bench/meter.h"

#define WAIT_MS_MAX 1000
#define CLIENT_KEYS 4
#define CLIENTS_MAX (METER_KEYS_MAX / CLIENT_KEYS)
#define BUSY_NS     1000000u /* pause when the window is full */

/* One key and its operation. */
struct probe {
    struct side *side;
    uint32_t key;
    bool busy;
    uint64_t due_ns; /* of the next one, unless busy */
    uint64_t number;
};

/* The writes, or the reads: clients with their keys. */
struct side {
    struct duet_client *clients[CLIENTS_MAX];
    bool stale[CLIENTS_MAX]; /* wants to be dispatched */
    uint32_t clients_count;
    struct meter *meter;
    enum duet_kind kind;
    struct probe probes[METER_KEYS_MAX];
};

static struct meters meters;
static struct side writes, reads;
static uint64_t pace_ns;
static uint32_t timeout_ms;

static void fail(const char *what, const struct duet_error *error)
{
    fprintf(stderr, "gaps: %s: %s\n", what, error->message);
    exit(1);
}

static void on_answer(const struct duet_result *result, void *user)
{
    struct probe *p = user;
    struct meter *m = p->side->meter;
    uint64_t now_ns = clock_now_ns();
    p->busy = false;
    p->due_ns = now_ns + pace_ns;
    if (duet_result_code(result) == DUET_OK)
        meter_acknowledge(m, p->key, now_ns);
    else if (duet_result_flags(result) & DUET_IN_DOUBT)
        m->in_doubt++;
    else if (m->failed++ == 0)
        fprintf(stderr, "gaps: key %u: %s\n", p->key, duet_code_name(duet_result_code(result)));
}

static void begin(struct probe *p, uint64_t now_ns)
{
    char key[32], value[32];
    snprintf(key, sizeof key, "gap:%c:%u", p->side->kind == DUET_PUT ? 'w' : 'r', p->key);
    snprintf(value, sizeof value, "%llu", (unsigned long long)++p->number);
    struct duet_operation op = {
        .kind = p->side->kind, .key = duet_text(key), .timeout_ms = timeout_ms};
    if (op.kind == DUET_PUT)
        op.value = duet_text(value);
    struct duet_error error;
    enum duet_code code =
        duet_submit(p->side->clients[p->key / CLIENT_KEYS], &op, on_answer, p, &error);
    if (code != DUET_OK && code != DUET_BUSY)
        fail("submit", &error);
    p->busy = code == DUET_OK;
    p->due_ns = now_ns + BUSY_NS;
    p->side->stale[p->key / CLIENT_KEYS] = true;
}

/* Submit what is due and have it sent. Returns when the next is due. */
static uint64_t advance(struct side *s, uint64_t now_ns)
{
    struct duet_error error;
    for (uint32_t i = 0; i < s->meter->keys_count; i++)
        if (!s->probes[i].busy && s->probes[i].due_ns <= now_ns)
            begin(&s->probes[i], now_ns);
    for (uint32_t i = 0; i < s->clients_count; i++) {
        if (s->stale[i] && duet_client_dispatch(s->clients[i], &error) != DUET_OK)
            fail("dispatch", &error);
        s->stale[i] = false;
    }
    uint64_t next_ns = UINT64_MAX;
    for (uint32_t i = 0; i < s->meter->keys_count; i++)
        if (!s->probes[i].busy && s->probes[i].due_ns < next_ns)
            next_ns = s->probes[i].due_ns;
    return next_ns;
}

static struct duet_client *open_client(const char *routers)
{
    struct duet_error error;
    struct duet_options *options = duet_options_new();
    ENSURE(options != NULL);
    if (duet_options_set(options, "routers", routers, &error) != DUET_OK ||
        duet_options_set(options, "loop", "caller", &error) != DUET_OK)
        fail("options", &error);
    struct duet_client *duet = duet_open(options, &error);
    duet_options_free(&options);
    if (duet == NULL)
        fail("open", &error);
    return duet;
}

static void open_side(struct side *s, struct meter *m, enum duet_kind kind, const char *routers)
{
    s->meter = m;
    s->kind = kind;
    s->clients_count = (m->keys_count + CLIENT_KEYS - 1) / CLIENT_KEYS;
    for (uint32_t i = 0; i < s->clients_count; i++)
        s->clients[i] = open_client(routers);
    /* The first ones are spread over one pace, so that they do not march in step for ever. */
    for (uint32_t i = 0; i < m->keys_count; i++)
        s->probes[i] = (struct probe){
            .side = s, .key = i, .due_ns = clock_now_ns() + pace_ns * i / m->keys_count};
}

static void close_side(struct side *s)
{
    for (uint32_t i = 0; i < s->clients_count; i++)
        duet_close(&s->clients[i]);
}

/* "a,b,c" to "c,a,b". */
static void turn_round(const char *routers, char *to, size_t size)
{
    const char *comma = strrchr(routers, ',');
    if (comma == NULL)
        snprintf(to, size, "%s", routers);
    else
        snprintf(to, size, "%s,%.*s", comma + 1, (int)(comma - routers), routers);
}

static nfds_t watch(const struct side *s, struct pollfd *fds)
{
    for (uint32_t i = 0; i < s->clients_count; i++)
        fds[i] = (struct pollfd){.fd = duet_client_fd(s->clients[i]), .events = POLLIN};
    return s->clients_count;
}

static void see(struct side *s, const struct pollfd *fds)
{
    for (uint32_t i = 0; i < s->clients_count; i++)
        s->stale[i] = fds[i].revents != 0;
}

static void run(void)
{
    struct pollfd fds[1 + 2 * CLIENTS_MAX] = {{.fd = 0, .events = POLLIN}};
    nfds_t count = 1;
    count += watch(&writes, fds + count);
    count += watch(&reads, fds + count);
    for (;;) {
        uint64_t now_ns = clock_now_ns();
        uint64_t a_ns = advance(&writes, now_ns), b_ns = advance(&reads, now_ns);
        uint64_t next_ns = a_ns < b_ns ? a_ns : b_ns;
        uint64_t left_ns = next_ns > now_ns ? next_ns - now_ns : 0;
        int wait_ms =
            left_ns < WAIT_MS_MAX * 1000000ull ? (int)(left_ns / 1000000) + 1 : WAIT_MS_MAX;
        poll(fds, count, wait_ms);
        uint64_t wanted_ns = now_ns + (uint64_t)wait_ms * 1000000, woken_ns = clock_now_ns();
        if (woken_ns > wanted_ns && woken_ns - wanted_ns > meters.late_ns)
            meters.late_ns = woken_ns - wanted_ns;
        see(&writes, fds + 1);
        see(&reads, fds + 1 + writes.clients_count);
        if (fds[0].revents != 0 && !meter_obey(&meters))
            return;
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: gaps ROUTERS KEYS PACE-MS TIMEOUT-MS\n");
        return 2;
    }
    char other_way[1024];
    turn_round(argv[1], other_way, sizeof other_way);
    pace_ns = (uint64_t)atoi(argv[3]) * 1000000;
    timeout_ms = (uint32_t)atoi(argv[4]);
    meter_init(&meters.writes, (uint32_t)atoi(argv[2]), clock_now_ns());
    meter_init(&meters.reads, (uint32_t)atoi(argv[2]), clock_now_ns());
    open_side(&writes, &meters.writes, DUET_PUT, argv[1]);
    open_side(&reads, &meters.reads, DUET_GET, other_way);
    run();
    close_side(&writes);
    close_side(&reads);
    return 0;
}
