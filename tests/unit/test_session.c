#include "client/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/arena.h"
#include "proto/codec.h"

/* A session, its time, and routers that are played by the test: what the session sent is kept as
 * one line for each message, what completed as one line for each operation. */
struct world {
    struct session *s;
    struct session_effects effects;
    struct arena arena;
    uint64_t now;
    char trace[16384];
    uint64_t ack_below, token;
    uint32_t deadline_ms;
};

#define CLIENT 77

static void say(struct world *w, const char *format, ...)
{
    size_t used = strlen(w->trace);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->trace + used, sizeof w->trace - used, format, args);
    va_end(args);
    assert_true(n >= 0 && used + (size_t)n < sizeof w->trace);
}

static const char *status_word(uint32_t s)
{
    return status_name((enum status)s);
}

static void note_request(struct world *w, uint32_t router, struct bytes frame)
{
    struct request m;
    assert_int_equal(codec_unpack_request(frame, &w->arena, &m), STATUS_OK);
    assert_true(m.client_id == CLIENT);
    w->ack_below = m.ack_below;
    w->token = m.ptime_token;
    w->deadline_ms = m.deadline_ms;
    say(w, "r%u<", router);
    for (size_t i = 0; i < m.count; i++)
        say(w, " %llu:%.*s", (unsigned long long)(m.first_seq + i), (int)m.keys[i].size,
            (const char *)m.keys[i].data);
    say(w, (m.flags & REQUEST_WHOLE) != 0 ? " whole\n" : "\n");
}

static void note_sent(struct world *w, uint32_t router, struct bytes frame)
{
    enum message_kind kind;
    assert_int_equal(codec_peek(frame, &kind), STATUS_OK);
    if (kind == MESSAGE_REQUEST)
        note_request(w, router, frame);
    else
        say(w, "r%u< %s\n", router,
            kind == MESSAGE_HELLO  ? "HELLO"
            : kind == MESSAGE_PING ? "PING"
                                   : "?");
}

static void note_completed(struct world *w, const struct session_completion *c)
{
    say(w, "%llu %s%s", (unsigned long long)c->seq, status_word(c->status),
        (c->flags & ANSWER_IN_DOUBT) ? " in doubt" : "");
    if (c->flags & ANSWER_VALUE)
        say(w, " '%.*s'", (int)c->value.size, (const char *)c->value.data);
    say(w, "\n");
}

static void carry_out(struct world *w)
{
    for (size_t i = 0; i < w->effects.count; i++) {
        struct session_effect *effect = &w->effects.items[i];
        if (effect->kind == SESSION_SEND)
            note_sent(w, effect->router, buffer_view(&effect->frame));
        else if (effect->kind == SESSION_RESET)
            say(w, "r%u reset\n", effect->router);
        else
            note_completed(w, &effect->completion);
    }
    session_effects_clear(&w->effects);
}

/* One turn of a shell, wait_ms later. */
static void turn(struct world *w, uint64_t wait_ms)
{
    w->now += wait_ms;
    session_tick(w->s, w->now, &w->effects);
    carry_out(w);
    session_flush(w->s, w->now, &w->effects);
    carry_out(w);
}

static void connected(struct world *w, uint32_t router, bool is)
{
    session_router_connected(w->s, w->now, router, is, &w->effects);
    carry_out(w);
}

static void feed(struct world *w, uint32_t router, struct buffer *frame)
{
    session_message(w->s, w->now, router, buffer_view(frame), &w->effects);
    carry_out(w);
    buffer_fini(frame);
}

static void hello_from(struct world *w, uint32_t router, uint64_t boot_id, uint64_t ptime,
                       const char *cluster)
{
    struct buffer frame;
    buffer_init(&frame, 4096);
    struct hello m = {.protocol_min = 1,
                      .protocol_max = 1,
                      .role = ROLE_ROUTER,
                      .boot_id = boot_id,
                      .ptime = ptime,
                      .cluster_id = bytes_of(cluster, 16)};
    assert_int_equal(codec_pack_hello(MESSAGE_HELLO_REPLY, &m, &frame), STATUS_OK);
    feed(w, router, &frame);
}

#define CLUSTER "0123456789abcdef"

static void hello(struct world *w, uint32_t router)
{
    hello_from(w, router, 100 + router, 1000, CLUSTER);
}

static void pong_from(struct world *w, uint32_t router, uint64_t boot_id)
{
    struct buffer frame;
    buffer_init(&frame, 4096);
    struct ping m = {.boot_id = boot_id, .ptime = 1000};
    assert_int_equal(codec_pack_ping(MESSAGE_PONG, &m, &frame), STATUS_OK);
    feed(w, router, &frame);
}

struct reply {
    uint64_t seq;
    enum status status;
    uint32_t flags;
    const char *value;
};

static void answers_to(struct world *w, uint64_t client, uint32_t router, size_t count,
                       const struct reply *replies)
{
    uint64_t ids[8], epochs[8] = {0}, seqs[8] = {0};
    uint32_t statuses[8], flags[8];
    struct bytes values[8];
    for (size_t i = 0; i < count; i++) {
        ids[i] = replies[i].seq;
        statuses[i] = replies[i].status;
        flags[i] = replies[i].flags | (replies[i].value != NULL ? ANSWER_VALUE : 0);
        values[i] = replies[i].value != NULL ? bytes_text(replies[i].value) : BYTES_EMPTY;
    }
    struct answer m = {client, 2000, count, ids, statuses, flags, epochs, seqs, values};
    struct buffer frame;
    buffer_init(&frame, 65536);
    assert_int_equal(codec_pack_answer(MESSAGE_ANSWER, &m, &frame), STATUS_OK);
    feed(w, router, &frame);
}

#define ANSWERS(w, router, ...)                                                                    \
    answers_to(w, CLIENT, router, sizeof((struct reply[]){__VA_ARGS__}) / sizeof(struct reply),    \
               (struct reply[]){__VA_ARGS__})

static enum status try_put(struct world *w, const char *key, uint32_t within_ms)
{
    struct session_operation op = {
        .kind = KIND_WRITE,
        .key = bytes_text(key),
        .write = {.mutation = MUTATION_PUT, .value = bytes_text("v")},
        .deadline_ms = within_ms == 0 ? 0 : w->now + within_ms,
    };
    return session_submit(w->s, w->now, &op, NULL);
}

static void put(struct world *w, const char *key)
{
    assert_int_equal(try_put(w, key, 0), STATUS_OK);
}

/* What is in it is the node's business. */
static void atomic(struct world *w, const char *key)
{
    struct session_operation op = {
        .kind = KIND_ATOMIC, .key = bytes_text(key), .atomic = bytes_text("batch")};
    assert_int_equal(session_submit(w->s, w->now, &op, NULL), STATUS_OK);
}

static void get(struct world *w, const char *key)
{
    struct session_operation op = {.kind = KIND_READ, .key = bytes_text(key)};
    assert_int_equal(session_submit(w->s, w->now, &op, NULL), STATUS_OK);
}

/* Compare what happened since the last EXPECT. */
#define EXPECT(w, lines)                                                                           \
    do {                                                                                           \
        assert_string_equal((w)->trace, lines);                                                    \
        (w)->trace[0] = 0;                                                                         \
    } while (0)

static struct world *world_new(uint32_t routers_count, uint32_t window)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->now = 1000000;
    w->s = session_new(&(struct session_options){.client_id = CLIENT,
                                                 .seed = (uint64_t)routers_count * 64,
                                                 .routers_count = routers_count,
                                                 .window = window,
                                                 .name = "test"});
    assert_non_null(w->s);
    assert_int_equal(session_effects_init(&w->effects), STATUS_OK);
    arena_init(&w->arena);
    return w;
}

/* Connected to all routers, greeted by router 0. */
static struct world *world_ready(uint32_t routers_count)
{
    struct world *w = world_new(routers_count, 0);
    for (uint32_t i = 0; i < routers_count; i++)
        connected(w, i, true);
    turn(w, 0);
    EXPECT(w, "r0< HELLO\n");
    hello(w, 0);
    return w;
}

static void world_end(struct world *w)
{
    session_destroy(&w->s);
    session_effects_fini(&w->effects);
    arena_fini(&w->arena);
    free(w);
}

/* ---- The usual way ---- */

static void test_session__operations_wait_for_hello_reply(void **state)
{
    (void)state;
    struct world *w = world_new(1, 0);
    put(w, "a");
    turn(w, 0);
    EXPECT(w, "");
    connected(w, 0, true);
    turn(w, 0);
    turn(w, 10);
    EXPECT(w, "r0< HELLO\n");
    hello(w, 0);
    turn(w, 0);
    EXPECT(w, "r0< 1:a\n");
    ANSWERS(w, 0, {1, STATUS_OK, 0, NULL});
    EXPECT(w, "1 OK\n");
    assert_int_equal(session_pending(w->s), 0);
    assert_true(session_deadline(w->s) == UINT64_MAX);
    world_end(w);
}

static void test_session__what_gathers_in_a_turn_leaves_as_one_message(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    get(w, "a");
    put(w, "b");
    turn(w, 0);
    EXPECT(w, "r0< 1:a 2:a 3:b\n");
    put(w, "c");
    turn(w, 0);
    EXPECT(w, "r0< 4:c\n");
    ANSWERS(w, 0, {2, STATUS_OK, 0, "v"}, {4, STATUS_OK, 0, NULL}, {1, STATUS_OK, 0, NULL});
    EXPECT(w, "2 OK 'v'\n4 OK\n1 OK\n");
    world_end(w);
}

static void test_session__a_message_holds_no_more_than_its_limit_of_bytes(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    size_t size = 1500000;
    char *value = calloc(1, size);
    assert_non_null(value);
    for (int i = 0; i < 5; i++) {
        struct session_operation op = {
            .kind = KIND_WRITE,
            .key = bytes_text("k"),
            .write = {.mutation = MUTATION_PUT, .value = bytes_of(value, size)},
        };
        assert_int_equal(session_submit(w->s, w->now, &op, NULL), STATUS_OK);
    }
    free(value);
    turn(w, 0);
    EXPECT(w, "r0< 1:k 2:k\nr0< 3:k 4:k\nr0< 5:k\n");
    world_end(w);
}

static void test_session__ack_below_is_the_lowest_that_is_not_answered(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    put(w, "b");
    put(w, "c");
    turn(w, 0);
    assert_true(w->ack_below == 1);
    ANSWERS(w, 0, {2, STATUS_OK, 0, NULL}, {3, STATUS_OK, 0, NULL});
    put(w, "d");
    turn(w, 0);
    assert_true(w->ack_below == 1);
    ANSWERS(w, 0, {1, STATUS_OK, 0, NULL});
    put(w, "e");
    turn(w, 0);
    assert_true(w->ack_below == 4);
    world_end(w);
}

static void test_session__a_full_window_is_busy(void **state)
{
    (void)state;
    struct world *w = world_new(1, 2);
    put(w, "a");
    put(w, "b");
    assert_int_equal(session_room(w->s), 0);
    assert_int_equal(try_put(w, "c", 0), STATUS_BUSY);
    connected(w, 0, true);
    turn(w, 0);
    hello(w, 0);
    turn(w, 0);
    ANSWERS(w, 0, {2, STATUS_OK, 0, NULL});
    assert_int_equal(try_put(w, "c", 0), STATUS_BUSY);
    ANSWERS(w, 0, {1, STATUS_OK, 0, NULL});
    assert_int_equal(session_room(w->s), 2);
    put(w, "c");
    world_end(w);
}

static void test_session__bad_operations_are_not_taken(void **state)
{
    (void)state;
    struct world *w = world_new(1, 0);
    assert_int_equal(try_put(w, "", 0), STATUS_USAGE);
    char key[KEY_SIZE_MAX + 2];
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = 0;
    assert_int_equal(try_put(w, key, 0), STATUS_TOOBIG);
    key[KEY_SIZE_MAX] = 0;
    assert_int_equal(try_put(w, key, 0), STATUS_OK);
    assert_int_equal(session_pending(w->s), 1);
    world_end(w);
}

static void test_session__the_router_gets_a_little_less_time_than_is_left(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    assert_int_equal(try_put(w, "a", 300), STATUS_OK);
    turn(w, 100);
    assert_int_equal(w->deadline_ms, 163); /* the router's deadline is the same in every attempt */
    assert_int_equal(try_put(w, "b", 5000), STATUS_OK);
    turn(w, 0);
    assert_int_equal(w->deadline_ms, 4900);
    assert_int_equal(try_put(w, "c", 1), STATUS_OK);
    turn(w, 0);
    assert_int_equal(w->deadline_ms, 1);
    world_end(w);
}

static void test_session__operations_of_unlike_deadlines_travel_apart(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    assert_int_equal(try_put(w, "a", 1000), STATUS_OK);
    assert_int_equal(try_put(w, "b", 1040), STATUS_OK);
    assert_int_equal(try_put(w, "c", 3000), STATUS_OK);
    turn(w, 0);
    EXPECT(w, "r0< 1:a 2:b\nr0< 3:c\n");
    world_end(w);
}

static void test_session__what_the_caller_waits_for_together_travels_together(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    struct session_operation op = {.kind = KIND_READ, .key = bytes_text("b"), .whole = true};
    put(w, "a");
    assert_int_equal(session_submit(w->s, w->now, &op, NULL), STATUS_OK);
    op.key = bytes_text("c");
    assert_int_equal(session_submit(w->s, w->now, &op, NULL), STATUS_OK);
    put(w, "d");
    turn(w, 0);
    EXPECT(w, "r0< 1:a\nr0< 2:b 3:c whole\nr0< 4:d\n");
    op.key = bytes_text("e"); /* one alone needs no flag */
    assert_int_equal(session_submit(w->s, w->now, &op, NULL), STATUS_OK);
    turn(w, 0);
    EXPECT(w, "r0< 5:e\n");
    world_end(w);
}

/* ---- The token ---- */

static void test_session__the_token_of_an_operation_stays_that_of_its_first_attempt(void **state)
{
    (void)state;
    struct world *w = world_ready(2);
    put(w, "a");
    put(w, "b");
    turn(w, 0);
    assert_true(w->token == 1000);
    ANSWERS(w, 0, {2, STATUS_OK, 0, NULL}); /* says 2000 */
    connected(w, 0, false);
    turn(w, 0);
    hello(w, 1);
    turn(w, 0);
    EXPECT(w, "r0< 1:a 2:b\n2 OK\nr1< HELLO\nr1< 1:a\n");
    assert_true(w->token == 1000);
    put(w, "c");
    turn(w, 0);
    assert_true(w->token == 2000);
    world_end(w);
}

static void test_session__without_a_token_it_asks_for_one_and_tries_again(void **state)
{
    (void)state;
    struct world *w = world_new(1, 0);
    connected(w, 0, true);
    turn(w, 0);
    hello_from(w, 0, 100, 0, CLUSTER);
    put(w, "a");
    get(w, "a");
    get(w, "b");
    turn(w, 0);
    assert_true(w->token == 0);
    EXPECT(w, "r0< HELLO\nr0< 3:b\n"); /* the write waits, and what is behind it */
    turn(w, 100);
    EXPECT(w, "r0< HELLO\n");
    hello_from(w, 0, 100, 0, CLUSTER);
    turn(w, 0);
    turn(w, 100);
    EXPECT(w, "r0< HELLO\n");
    hello_from(w, 0, 100, 3000, CLUSTER);
    turn(w, 0);
    EXPECT(w, "r0< 1:a 2:a\n");
    assert_true(w->token == 3000);
    ANSWERS(w, 0, {1, STATUS_NEEDTOKEN, ANSWER_RETRY, NULL}, {2, STATUS_BUSY, ANSWER_RETRY, NULL});
    turn(w, 0);
    EXPECT(w, "r0< HELLO\n");
    world_end(w);
}

static void test_session__a_cluster_that_never_served_is_unavailable(void **state)
{
    (void)state;
    struct world *w = world_new(1, 0);
    connected(w, 0, true);
    turn(w, 0);
    hello_from(w, 0, 100, 0, CLUSTER);
    put(w, "a");
    turn(w, 0);
    turn(w, 2 * SESSION_TIMEOUT_DEFAULT_MS);
    EXPECT(w, "r0< HELLO\n1 UNAVAILABLE\nr0< HELLO\n");
    world_end(w);
}

static void test_session__every_attempt_has_the_very_token_of_the_first(void **state)
{
    (void)state;
    struct world *w = world_ready(2);
    put(w, "a");
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_BUSY, ANSWER_RETRY, NULL}); /* says 2000 */
    put(w, "a");                                         /* held back: it has no token yet */
    put(w, "b");
    turn(w, 0);
    assert_true(w->token == 2000);
    connected(w, 0, false);
    turn(w, 0);
    hello_from(w, 1, 101, 3000, CLUSTER);
    turn(w, 2 * SESSION_PAUSE_MIN_MS);
    EXPECT(w, "r0< 1:a\nr0< 3:b\nr1< HELLO\nr1< 1:a 2:a\nr1< 3:b\n");
    assert_true(w->token == 2000);
    ANSWERS(w, 1, {1, STATUS_OK, 0, NULL});
    connected(w, 1, false);
    connected(w, 0, true);
    turn(w, 0);
    hello_from(w, 0, 100, 4000, CLUSTER);
    turn(w, 0);
    EXPECT(w, "1 OK\nr0< HELLO\nr0< 2:a\nr0< 3:b\n");
    assert_true(w->token == 2000);
    world_end(w);
}

static void test_session__an_old_token_is_refreshed_before_use(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    w->now += SESSION_TOKEN_AGE_MAX_MS + 1;
    put(w, "a");
    turn(w, 0);
    EXPECT(w, "r0< HELLO\n");
    hello_from(w, 0, 100, 5000, CLUSTER);
    turn(w, 0);
    EXPECT(w, "r0< 1:a\n");
    assert_true(w->token == 5000);
    world_end(w);
}

/* ---- Another router ---- */

static void test_session__a_silent_router_is_left_and_all_is_sent_again_in_order(void **state)
{
    (void)state;
    struct world *w = world_ready(2);
    put(w, "a");
    get(w, "b");
    put(w, "c");
    turn(w, 0);
    ANSWERS(w, 0, {2, STATUS_OK, 0, "v"});
    EXPECT(w, "r0< 1:a 2:b 3:c\n2 OK 'v'\n");
    turn(w, SESSION_PING_MS);
    EXPECT(w, "r0< PING\n");
    turn(w, SESSION_SILENCE_MS - SESSION_PING_MS);
    EXPECT(w, "r0 reset\nr1< HELLO\n");
    hello(w, 1);
    turn(w, 0);
    EXPECT(w, "r1< 1:a\nr1< 3:c\n");
    ANSWERS(w, 1, {1, STATUS_OK, 0, NULL}, {3, STATUS_OK, 0, NULL});
    EXPECT(w, "1 OK\n3 OK\n");
    assert_int_equal(session_counters(w->s)->failovers, 1);
    world_end(w);
}

static void test_session__a_read_is_not_sent_again_behind_its_own_later_write(void **state)
{
    (void)state;
    struct world *w = world_ready(2);
    get(w, "a");
    put(w, "a");
    get(w, "b");
    turn(w, 0);
    turn(w, SESSION_PING_MS);
    turn(w, SESSION_SILENCE_MS - SESSION_PING_MS);
    EXPECT(w, "r0< 1:a 2:a 3:b\nr0< PING\nr0 reset\n"
              "1 UNAVAILABLE\nr1< HELLO\n");
    hello(w, 1);
    turn(w, 0);
    EXPECT(w, "r1< 2:a 3:b\n");
    world_end(w);
}

static void test_session__a_router_that_answers_pings_is_kept(void **state)
{
    (void)state;
    struct world *w = world_ready(2);
    put(w, "a");
    turn(w, 0);
    for (int i = 0; i < 20; i++) {
        turn(w, SESSION_PING_MS);
        pong_from(w, 0, 100);
    }
    assert_int_equal(session_router(w->s), 0);
    assert_int_equal(session_counters(w->s)->failovers, 0);
    world_end(w);
}

static void test_session__a_router_started_anew_gets_everything_again(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    turn(w, 0);
    turn(w, SESSION_PING_MS);
    pong_from(w, 0, 999);
    turn(w, 0);
    EXPECT(w, "r0< 1:a\nr0< PING\nr0< HELLO\n");
    hello_from(w, 0, 999, 1000, CLUSTER);
    turn(w, 0);
    EXPECT(w, "r0< 1:a\n");
    world_end(w);
}

static void test_session__the_only_router_is_greeted_again_when_it_is_back(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    turn(w, 0);
    connected(w, 0, false);
    turn(w, 1000);
    EXPECT(w, "r0< 1:a\n");
    connected(w, 0, true);
    turn(w, 0);
    hello(w, 0);
    turn(w, 0);
    EXPECT(w, "r0< HELLO\nr0< 1:a\n");
    world_end(w);
}

static void test_session__a_refreshed_token_shows_a_new_process_too(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    put(w, "b");
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_NEEDTOKEN, ANSWER_RETRY, NULL});
    turn(w, 0);
    EXPECT(w, "r0< 1:a 2:b\nr0< HELLO\n");
    hello_from(w, 0, 999, 3000, CLUSTER);
    turn(w, 0);
    EXPECT(w, "r0< 2:b\n");
    world_end(w);
}

static void test_session__whichever_router_is_back_first_is_used(void **state)
{
    (void)state;
    struct world *w = world_ready(3);
    for (uint32_t i = 0; i < 3; i++)
        connected(w, i, false);
    put(w, "a");
    turn(w, 100);
    uint32_t back = session_router(w->s) == 1 ? 2 : 1;
    connected(w, back, true);
    turn(w, 0);
    hello(w, back);
    turn(w, 0);
    EXPECT(w, back == 1 ? "r1< HELLO\nr1< 1:a\n" : "r2< HELLO\nr2< 1:a\n");
    connected(w, 0, true);
    assert_int_equal(session_router(w->s), back);
    world_end(w);
}

/* How long the session waits for the router that it greets now. */
static uint64_t patience(struct world *w)
{
    uint32_t failovers = (uint32_t)session_counters(w->s)->failovers, waited = 0;
    uint32_t router = session_router(w->s);
    turn(w, 0);
    while (session_counters(w->s)->failovers == failovers) {
        turn(w, 100);
        waited += 100;
    }
    connected(w, router, true); /* it was reset */
    return waited;
}

static void test_session__patience_grows_while_all_are_silent_and_no_longer(void **state)
{
    (void)state;
    struct world *w = world_new(2, 0);
    connected(w, 0, true);
    connected(w, 1, true);
    const uint64_t expected[] = {400, 400, 800, 800, 1600, 1600, 1600, 1600, 1600};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_int_equal(patience(w), expected[i]);
    turn(w, 0);
    hello(w, session_router(w->s));
    put(w, "a");
    assert_int_equal(patience(w), 400);
    world_end(w);
}

static void test_session__a_router_that_does_not_answer_hello_is_left(void **state)
{
    (void)state;
    struct world *w = world_new(2, 0);
    connected(w, 0, true);
    connected(w, 1, true);
    turn(w, 0);
    EXPECT(w, "r0< HELLO\n");
    turn(w, SESSION_SILENCE_MS);
    EXPECT(w, "r0 reset\nr1< HELLO\n");
    world_end(w);
}

/* It had no memory for the reply, and lives on. */
static void test_session__a_router_that_answers_pings_but_not_hello_is_left(void **state)
{
    (void)state;
    struct world *w = world_new(2, 0);
    connected(w, 0, true);
    connected(w, 1, true);
    turn(w, 0);
    EXPECT(w, "r0< HELLO\n");
    turn(w, SESSION_PING_MS);
    EXPECT(w, "r0< PING\n");
    pong_from(w, 0, 100);
    turn(w, SESSION_SILENCE_MS - SESSION_PING_MS);
    EXPECT(w, "r0 reset\nr1< HELLO\n");
    world_end(w);
}

static void test_session__a_router_of_another_cluster_is_not_used(void **state)
{
    (void)state;
    struct world *w = world_ready(2);
    connected(w, 0, false);
    turn(w, 0);
    hello_from(w, 1, 101, 1000, "another cluster!");
    EXPECT(w, "r1< HELLO\nr1 reset\n");
    assert_false(session_ready(w->s));
    assert_int_equal(session_last_refusal(w->s)->status, STATUS_WRONGCLUSTER);
    world_end(w);
}

static void test_session__a_router_that_refuses_hello_is_not_asked_in_a_tight_loop(void **state)
{
    (void)state;
    struct world *w = world_new(1, 0);
    connected(w, 0, true);
    turn(w, 0);
    EXPECT(w, "r0< HELLO\n");
    struct buffer frame;
    buffer_init(&frame, 4096);
    struct refused m = {.status = STATUS_UNSUPPORTED, .message = bytes_text("too new")};
    assert_int_equal(codec_pack_refused(&m, &frame), STATUS_OK);
    feed(w, 0, &frame);
    connected(w, 0, true);
    turn(w, 0);
    EXPECT(w, "r0 reset\n");
    assert_string_equal(session_last_refusal(w->s)->message, "too new");
    assert_true(session_deadline(w->s) == w->now + 100);
    turn(w, 100);
    EXPECT(w, "r0< HELLO\n");
    world_end(w);
}

/* ---- Refusals ---- */

static void test_session__a_refusal_that_may_be_retried_is_retried_after_a_pause(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_BUSY, ANSWER_RETRY, NULL});
    turn(w, 0);
    EXPECT(w, "r0< 1:a\n");
    assert_true(session_deadline(w->s) > w->now);
    turn(w, 2 * SESSION_PAUSE_MIN_MS);
    EXPECT(w, "r0< 1:a\n");
    ANSWERS(w, 0, {1, STATUS_OK, 0, NULL});
    EXPECT(w, "1 OK\n");
    world_end(w);
}

static void test_session__a_final_refusal_is_told_at_once(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    put(w, "b");
    get(w, "c");
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_TOOBIG, 0, NULL}, {2, STATUS_CONDITION, 0, "old"},
            {3, STATUS_NOTFOUND, 0, NULL});
    EXPECT(w, "r0< 1:a 2:b 3:c\n2 CONDITION 'old'\n3 NOTFOUND\n1 TOOBIG\n");
    world_end(w);
}

static void test_session__a_write_whose_successor_was_sent_is_not_retried(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    put(w, "b");
    put(w, "a");
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_BUSY, ANSWER_RETRY, NULL}, {2, STATUS_BUSY, ANSWER_RETRY, NULL});
    EXPECT(w, "r0< 1:a 2:b 3:a\n1 BUSY\n");
    ANSWERS(w, 0, {3, STATUS_OK, 0, NULL});
    turn(w, 2 * SESSION_PAUSE_MIN_MS);
    EXPECT(w, "3 OK\nr0< 2:b\n");
    world_end(w);
}

static void test_session__an_answered_successor_forbids_the_retry_too(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    put(w, "a");
    turn(w, 0);
    ANSWERS(w, 0, {2, STATUS_OK, 0, NULL});
    ANSWERS(w, 0, {1, STATUS_BUSY, ANSWER_RETRY, NULL});
    EXPECT(w, "r0< 1:a 2:a\n2 OK\n1 BUSY\n");
    world_end(w);
}

static void test_session__writes_refused_together_are_retried_in_their_order(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    put(w, "a");
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_UNAVAILABLE, ANSWER_RETRY, NULL},
            {2, STATUS_UNAVAILABLE, ANSWER_RETRY, NULL});
    for (int i = 0; i < 2 * SESSION_PAUSE_MIN_MS; i++)
        turn(w, 1);
    assert_true(strcmp(w->trace, "r0< 1:a 2:a\nr0< 1:a 2:a\n") == 0 ||
                strcmp(w->trace, "r0< 1:a 2:a\nr0< 1:a\nr0< 2:a\n") == 0);
    world_end(w);
}

static void test_session__reads_may_be_retried_behind_reads(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    get(w, "a");
    get(w, "a");
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_BUSY, ANSWER_RETRY, NULL});
    turn(w, 2 * SESSION_PAUSE_MIN_MS);
    EXPECT(w, "r0< 1:a 2:a\nr0< 1:a\n");
    world_end(w);
}

static void test_session__successors_of_a_retried_operation_are_held_back(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_BUSY, ANSWER_RETRY, NULL});
    put(w, "a");
    put(w, "b");
    get(w, "a");
    turn(w, 0);
    EXPECT(w, "r0< 1:a\nr0< 3:b\n");
    turn(w, 2 * SESSION_PAUSE_MIN_MS);
    EXPECT(w, "r0< 1:a 2:a\nr0< 4:a\n");
    world_end(w);
}

static void test_session__a_read_of_any_copy_waits_for_no_other(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    struct session_operation any = {.kind = KIND_READ,
                                    .key = bytes_text("a"),
                                    .read = {READ_VALUE, CONSISTENCY_ANY}};
    put(w, "a");
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_BUSY, ANSWER_RETRY, NULL});
    get(w, "a");
    assert_int_equal(session_submit(w->s, w->now, &any, NULL), STATUS_OK);
    turn(w, 0);
    EXPECT(w, "r0< 1:a\nr0< 3:a\n");
    world_end(w);
}

static void test_session__a_batch_has_its_place_among_all_writes_of_its_tag(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "{t}a");
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_BUSY, ANSWER_RETRY, NULL});
    atomic(w, "{t}");
    put(w, "{t}b");
    put(w, "{u}a");
    turn(w, 0);
    EXPECT(w, "r0< 1:{t}a\nr0< 4:{u}a\n");
    turn(w, 2 * SESSION_PAUSE_MIN_MS);
    EXPECT(w, "r0< 1:{t}a 2:{t} 3:{t}b\n");
    /* A batch whose successor on any of its keys was sent is over; so is a write before a batch. */
    ANSWERS(w, 0, {1, STATUS_BUSY, ANSWER_RETRY, NULL}, {2, STATUS_OK, 0, NULL});
    EXPECT(w, "2 OK\n1 BUSY\n");
    atomic(w, "{t}");
    turn(w, 0);
    put(w, "{t}c");
    turn(w, 0);
    ANSWERS(w, 0, {5, STATUS_BUSY, ANSWER_RETRY, NULL});
    EXPECT(w, "r0< 5:{t}\nr0< 6:{t}c\n5 BUSY\n");
    world_end(w);
}

static void test_session__writes_of_a_tag_do_not_wait_for_each_other_without_a_batch(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "{t}a");
    put(w, "{t}b");
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_BUSY, ANSWER_RETRY, NULL}, {2, STATUS_OK, 0, NULL});
    EXPECT(w, "r0< 1:{t}a 2:{t}b\n2 OK\n");
    put(w, "{t}c");
    turn(w, 0);
    EXPECT(w, "r0< 3:{t}c\n");
    turn(w, 2 * SESSION_PAUSE_MIN_MS);
    EXPECT(w, "r0< 1:{t}a\n");
    world_end(w);
}

static void test_session__a_batch_is_in_doubt_as_a_write_is(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    atomic(w, "{t}");
    turn(w, 0);
    turn(w, SESSION_TIMEOUT_DEFAULT_MS);
    assert_non_null(strstr(w->trace, "1 INDOUBT in doubt\n"));
    w->trace[0] = 0;
    struct session_operation op = {.kind = KIND_ATOMIC, .key = bytes_text("{t}")};
    static uint8_t large[ATOMIC_BYTES_MAX + 1];
    op.atomic = bytes_of(large, sizeof large);
    assert_int_equal(session_submit(w->s, w->now, &op, NULL), STATUS_TOOBIG);
    world_end(w);
}

/* ---- Deadlines: done, not done, in doubt ---- */

static void test_session__at_its_deadline_a_sent_write_is_in_doubt_and_a_read_is_not(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    assert_int_equal(try_put(w, "a", 300), STATUS_OK);
    get(w, "b");
    turn(w, 0);
    pong_from(w, 0, 100);
    turn(w, 299);
    EXPECT(w, "r0< 1:a\nr0< 2:b\nr0< PING\n");
    turn(w, 1);
    EXPECT(w, "1 INDOUBT in doubt\n");
    for (int i = 0; i < 26; i++) {
        pong_from(w, 0, 100);
        turn(w, 190);
    }
    assert_non_null(strstr(w->trace, "2 TIMEOUT\n"));
    world_end(w);
}

static void test_session__a_write_that_never_left_is_not_done(void **state)
{
    (void)state;
    struct world *w = world_new(1, 0);
    put(w, "a");
    turn(w, SESSION_TIMEOUT_DEFAULT_MS);
    EXPECT(w, "1 NOCONNECTION\n");
    world_end(w);
}

static void test_session__a_write_of_which_all_attempts_were_refused_is_not_done(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    assert_int_equal(try_put(w, "a", 40), STATUS_OK);
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_UNAVAILABLE, ANSWER_RETRY, NULL});
    turn(w, 10);
    ANSWERS(w, 0, {1, STATUS_FULL, ANSWER_RETRY, NULL});
    EXPECT(w, "r0< 1:a\nr0< 1:a\n");
    w->now += 30;
    session_tick(w->s, w->now, &w->effects);
    carry_out(w);
    EXPECT(w, "1 FULL\n");
    world_end(w);
}

/* What the router refuses at its deadline is not sent once more, only to be in doubt at ours. */
static void test_session__a_refusal_that_comes_too_late_for_another_attempt_ends_it(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    assert_int_equal(try_put(w, "a", 80), STATUS_OK);
    turn(w, 0);
    turn(w, 70);
    ANSWERS(w, 0, {1, STATUS_UNAVAILABLE, ANSWER_RETRY, NULL});
    turn(w, 10);
    EXPECT(w, "r0< 1:a\n1 UNAVAILABLE\n");
    world_end(w);
}

static void test_session__what_could_only_leave_too_late_stays(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    assert_int_equal(try_put(w, "a", 800), STATUS_OK);
    assert_int_equal(try_put(w, "a", 1600), STATUS_OK);
    turn(w, 700);
    turn(w, 100);
    EXPECT(w, "1 TIMEOUT\nr0< 2:a\n"); /* the later one waits for it (5) */
    world_end(w);
}

/* Trap 46. */
static void test_session__busy_after_a_lost_attempt_is_in_doubt(void **state)
{
    (void)state;
    struct world *w = world_ready(2);
    put(w, "a");
    turn(w, 0);
    connected(w, 0, false);
    turn(w, 0);
    hello(w, 1);
    turn(w, 0);
    EXPECT(w, "r0< 1:a\nr1< HELLO\nr1< 1:a\n");
    ANSWERS(w, 1, {1, STATUS_BUSY, ANSWER_RETRY, NULL});
    turn(w, 1);
    turn(w, SESSION_TIMEOUT_DEFAULT_MS);
    EXPECT(w, "1 INDOUBT in doubt\n");
    world_end(w);
}

static void test_session__a_final_refusal_after_a_lost_attempt_is_in_doubt(void **state)
{
    (void)state;
    struct world *w = world_ready(2);
    put(w, "a");
    put(w, "b");
    turn(w, 0);
    connected(w, 0, false);
    turn(w, 0);
    hello(w, 1);
    turn(w, 0);
    ANSWERS(w, 1, {1, STATUS_TOOBIG, 0, NULL}, {2, STATUS_CONDITION, 0, NULL});
    EXPECT(w, "r0< 1:a 2:b\nr1< HELLO\nr1< 1:a 2:b\n2 CONDITION\n1 INDOUBT in doubt\n");
    world_end(w);
}

static void test_session__a_refusal_in_doubt_makes_the_write_doubtful_for_good(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    assert_int_equal(try_put(w, "a", 30), STATUS_OK);
    turn(w, 0);
    ANSWERS(w, 0, {1, STATUS_INDOUBT, ANSWER_RETRY | ANSWER_IN_DOUBT, NULL});
    turn(w, 10);
    ANSWERS(w, 0, {1, STATUS_BUSY, ANSWER_RETRY, NULL});
    EXPECT(w, "r0< 1:a\nr0< 1:a\n");
    w->now += 20;
    session_tick(w->s, w->now, &w->effects);
    carry_out(w);
    EXPECT(w, "1 INDOUBT in doubt\n");
    world_end(w);
}

static void test_session__an_operation_completes_once(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    assert_int_equal(try_put(w, "a", 30), STATUS_OK);
    turn(w, 0);
    turn(w, 30);
    EXPECT(w, "r0< 1:a\n1 INDOUBT in doubt\n");
    ANSWERS(w, 0, {1, STATUS_OK, 0, NULL}, {1, STATUS_OK, 0, NULL}, {9, STATUS_OK, 0, NULL});
    EXPECT(w, "");
    assert_int_equal(session_counters(w->s)->late_answers, 3);
    world_end(w);
}

static void test_session__an_id_in_doubt_is_kept_while_there_is_room(void **state)
{
    (void)state;
    struct world *w = world_new(1, 2);
    connected(w, 0, true);
    turn(w, 0);
    hello(w, 0);
    assert_int_equal(try_put(w, "a", 30), STATUS_OK);
    turn(w, 0);
    turn(w, 30);
    put(w, "b");
    turn(w, 0);
    assert_true(w->ack_below == 1);
    ANSWERS(w, 0, {2, STATUS_OK, 0, NULL});
    put(w, "c");
    turn(w, 0);
    assert_true(w->ack_below == 3);
    world_end(w);
}

static void test_session__a_former_routers_refusal_says_nothing_of_the_new_attempt(void **state)
{
    (void)state;
    struct world *w = world_ready(2);
    put(w, "a");
    put(w, "b");
    turn(w, 0);
    turn(w, SESSION_SILENCE_MS);
    hello(w, 1);
    turn(w, 0);
    EXPECT(w, "r0< 1:a 2:b\nr0 reset\nr1< HELLO\nr1< 1:a 2:b\n");
    ANSWERS(w, 0, {1, STATUS_BUSY, 0, NULL}, {2, STATUS_OK, 0, NULL});
    EXPECT(w, "2 OK\n");
    world_end(w);
}

/* ---- Nonsense ---- */

static void test_session__frames_that_make_no_sense_are_counted_and_dropped(void **state)
{
    (void)state;
    struct world *w = world_ready(1);
    put(w, "a");
    turn(w, 0);
    w->trace[0] = 0;
    const char *frames[] = {"", "\xd7", "\xd7\x01\x04", "hello", "\xd7\x01\x04\x00\xff\xff"};
    const size_t sizes[] = {0, 1, 3, 5, 6};
    for (size_t i = 0; i < 5; i++) {
        session_message(w->s, w->now, 0, bytes_of(frames[i], sizes[i]), &w->effects);
        carry_out(w);
    }
    struct reply ok = {1, STATUS_OK, 0, NULL};
    answers_to(w, CLIENT + 1, 0, 1, &ok);
    EXPECT(w, "");
    assert_int_equal(session_counters(w->s)->bad_frames, 6);
    assert_int_equal(session_pending(w->s), 1);
    world_end(w);
}

/* ---- Any order of anything ---- */

static uint64_t chaos(uint64_t *state, uint64_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (*state >> 33) % below;
}

static void random_answer(struct world *w, uint64_t *random, uint64_t submitted)
{
    const struct reply kinds[] = {
        {0, STATUS_OK, 0, NULL},
        {0, STATUS_BUSY, ANSWER_RETRY, NULL},
        {0, STATUS_NEEDTOKEN, ANSWER_RETRY, NULL},
        {0, STATUS_TOOBIG, 0, NULL},
        {0, STATUS_INDOUBT, ANSWER_RETRY | ANSWER_IN_DOUBT, NULL},
    };
    struct reply replies[4];
    for (size_t i = 0; i < 4; i++) {
        replies[i] = kinds[chaos(random, 5)];
        replies[i].seq = submitted < 20 ? chaos(random, 22) : submitted - 20 + chaos(random, 22);
    }
    answers_to(w, CLIENT, (uint32_t)chaos(random, 3), 4, replies);
}

static void random_event(struct world *w, uint64_t *random, uint64_t *submitted)
{
    const char *keys[] = {"a", "b", "c"};
    uint32_t router = (uint32_t)chaos(random, 3);
    switch (chaos(random, 12)) {
    case 0:
        connected(w, router, false);
        break;
    case 1:
    case 2:
        connected(w, router, true);
        break;
    case 3:
        hello(w, router);
        break;
    case 4:
        pong_from(w, router, 100 + chaos(random, 4));
        break;
    case 5:
    case 6:
        random_answer(w, random, *submitted);
        break;
    default:
        if (try_put(w, keys[chaos(random, 3)], 1 + (uint32_t)chaos(random, 500)) == STATUS_OK)
            (*submitted)++;
    }
    turn(w, chaos(random, 60));
}

static void
test_session__whatever_happens_each_operation_completes_once_by_its_deadline(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct world *w = world_new(3, 16);
        uint64_t random = seed, submitted = 0;
        for (int i = 0; i < 300; i++) {
            random_event(w, &random, &submitted);
            w->trace[0] = 0;
        }
        turn(w, 1000);
        assert_int_equal(session_pending(w->s), 0);
        assert_true(session_counters(w->s)->completed == submitted);
        assert_true(session_counters(w->s)->submitted == submitted);
        world_end(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session__operations_wait_for_hello_reply),
        cmocka_unit_test(test_session__what_gathers_in_a_turn_leaves_as_one_message),
        cmocka_unit_test(test_session__a_message_holds_no_more_than_its_limit_of_bytes),
        cmocka_unit_test(test_session__ack_below_is_the_lowest_that_is_not_answered),
        cmocka_unit_test(test_session__a_full_window_is_busy),
        cmocka_unit_test(test_session__bad_operations_are_not_taken),
        cmocka_unit_test(test_session__the_router_gets_a_little_less_time_than_is_left),
        cmocka_unit_test(test_session__operations_of_unlike_deadlines_travel_apart),
        cmocka_unit_test(test_session__what_the_caller_waits_for_together_travels_together),
        cmocka_unit_test(test_session__the_token_of_an_operation_stays_that_of_its_first_attempt),
        cmocka_unit_test(test_session__without_a_token_it_asks_for_one_and_tries_again),
        cmocka_unit_test(test_session__a_cluster_that_never_served_is_unavailable),
        cmocka_unit_test(test_session__every_attempt_has_the_very_token_of_the_first),
        cmocka_unit_test(test_session__an_old_token_is_refreshed_before_use),
        cmocka_unit_test(test_session__a_silent_router_is_left_and_all_is_sent_again_in_order),
        cmocka_unit_test(test_session__a_read_is_not_sent_again_behind_its_own_later_write),
        cmocka_unit_test(test_session__a_router_that_answers_pings_is_kept),
        cmocka_unit_test(test_session__a_router_started_anew_gets_everything_again),
        cmocka_unit_test(test_session__the_only_router_is_greeted_again_when_it_is_back),
        cmocka_unit_test(test_session__a_refreshed_token_shows_a_new_process_too),
        cmocka_unit_test(test_session__whichever_router_is_back_first_is_used),
        cmocka_unit_test(test_session__patience_grows_while_all_are_silent_and_no_longer),
        cmocka_unit_test(test_session__a_router_that_does_not_answer_hello_is_left),
        cmocka_unit_test(test_session__a_router_that_answers_pings_but_not_hello_is_left),
        cmocka_unit_test(test_session__a_router_of_another_cluster_is_not_used),
        cmocka_unit_test(test_session__a_router_that_refuses_hello_is_not_asked_in_a_tight_loop),
        cmocka_unit_test(test_session__a_refusal_that_may_be_retried_is_retried_after_a_pause),
        cmocka_unit_test(test_session__a_final_refusal_is_told_at_once),
        cmocka_unit_test(test_session__a_write_whose_successor_was_sent_is_not_retried),
        cmocka_unit_test(test_session__an_answered_successor_forbids_the_retry_too),
        cmocka_unit_test(test_session__writes_refused_together_are_retried_in_their_order),
        cmocka_unit_test(test_session__reads_may_be_retried_behind_reads),
        cmocka_unit_test(test_session__successors_of_a_retried_operation_are_held_back),
        cmocka_unit_test(test_session__a_read_of_any_copy_waits_for_no_other),
        cmocka_unit_test(test_session__a_batch_has_its_place_among_all_writes_of_its_tag),
        cmocka_unit_test(test_session__writes_of_a_tag_do_not_wait_for_each_other_without_a_batch),
        cmocka_unit_test(test_session__a_batch_is_in_doubt_as_a_write_is),
        cmocka_unit_test(test_session__at_its_deadline_a_sent_write_is_in_doubt_and_a_read_is_not),
        cmocka_unit_test(test_session__a_write_that_never_left_is_not_done),
        cmocka_unit_test(test_session__a_write_of_which_all_attempts_were_refused_is_not_done),
        cmocka_unit_test(test_session__a_refusal_that_comes_too_late_for_another_attempt_ends_it),
        cmocka_unit_test(test_session__what_could_only_leave_too_late_stays),
        cmocka_unit_test(test_session__busy_after_a_lost_attempt_is_in_doubt),
        cmocka_unit_test(test_session__a_final_refusal_after_a_lost_attempt_is_in_doubt),
        cmocka_unit_test(test_session__a_refusal_in_doubt_makes_the_write_doubtful_for_good),
        cmocka_unit_test(test_session__an_operation_completes_once),
        cmocka_unit_test(test_session__an_id_in_doubt_is_kept_while_there_is_room),
        cmocka_unit_test(test_session__a_former_routers_refusal_says_nothing_of_the_new_attempt),
        cmocka_unit_test(test_session__frames_that_make_no_sense_are_counted_and_dropped),
        cmocka_unit_test(
            test_session__whatever_happens_each_operation_completes_once_by_its_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
