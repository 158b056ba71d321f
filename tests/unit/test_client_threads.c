/* Ten threads, one client: everything that duet.h calls thread-safe, at the same time. Worth most
 * under ThreadSanitizer (tests/run tsan). */
#include "client/duet.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/lib/counting_router.h"

#define THREADS    10
#define ROUNDS     100
#define REFUSE_NTH 97
#define KEYS       7 /* fewer than threads, so that they meet */

struct shared {
    struct duet_client *client;
    atomic_uint done;        /* increments */
    atomic_uint not_done;    /* refused when a later one on the key had taken effect already */
    atomic_uint called_back;
    atomic_uint failures; /* anything else that went wrong in a thread */
};

static struct duet_client *open_to(const struct counting_router *r, const char *loop)
{
    struct duet_error error;
    struct duet_options *options = duet_options_new();
    assert_non_null(options);
    assert_int_equal(duet_options_set(options, "routers", counting_router_address(r), &error),
                     DUET_OK);
    assert_int_equal(duet_options_set(options, "timeout_ms", "60000", &error), DUET_OK);
    assert_int_equal(duet_options_set(options, "loop", loop, &error), DUET_OK);
    struct duet_client *client = duet_open(options, &error);
    assert_non_null(client);
    duet_options_free(&options);
    return client;
}

static void count_outcome(struct shared *s, enum duet_code code)
{
    atomic_fetch_add(code == DUET_OK     ? &s->done
                     : code == DUET_BUSY ? &s->not_done
                                         : &s->failures,
                     1);
}

static void count(const struct duet_result *result, void *user)
{
    struct shared *s = user;
    count_outcome(s, duet_result_code(result));
    atomic_fetch_add(&s->called_back, 1);
}

static void expect(struct shared *s, bool good)
{
    if (!good)
        atomic_fetch_add(&s->failures, 1);
}

/* One increment that waits, one that does not, and calls that only look. */
static void one_round(struct shared *s, int i)
{
    struct duet_error error;
    struct duet_result *result;
    struct duet_client_info info;
    char name[8];
    snprintf(name, sizeof name, "%d", i % KEYS);
    count_outcome(s, duet_incr(s->client, duet_text(name), 1, NULL, NULL, &error));
    struct duet_operation op = {.kind = DUET_INCR, .key = duet_text(name), .delta = 1};
    expect(s, duet_submit(s->client, &op, count, s, &error) == DUET_OK);
    name[0] = 'x'; /* what was handed in is ours again */
    enum duet_code code = duet_get(s->client, duet_text("0"), &result, &error);
    expect(s, code == DUET_OK ? duet_result_value(result).size > 0 : code == DUET_BUSY);
    duet_result_free(&result);
    duet_client_info(s->client, &info);
    expect(s, info.connected && info.submitted >= info.completed);
}

static void *many_rounds(void *arg)
{
    struct shared *s = arg;
    struct duet_slice keys[KEYS] = {duet_text("0"), duet_text("1"), duet_text("2"), duet_text("3"),
                                    duet_text("4"), duet_text("5"), duet_text("6")};
    struct duet_result *results[KEYS];
    for (int i = 0; i < ROUNDS; i++)
        one_round(s, i);
    enum duet_code code = duet_mget(s->client, keys, KEYS, results, NULL);
    expect(s, code == DUET_OK || code == DUET_BUSY);
    for (int i = 0; i < KEYS; i++)
        duet_result_free(&results[i]);
    expect(s, duet_connect(s->client, 60000, NULL) == DUET_OK);
    expect(s, duet_drain(s->client, 60000, NULL) == DUET_OK);
    return NULL;
}

static int64_t sum_of_all(struct duet_client *client)
{
    int64_t sum = 0, one;
    for (int i = 0; i < KEYS; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d", i);
        assert_int_equal(duet_incr(client, duet_text(name), 0, &one, NULL, NULL), DUET_OK);
        sum += one;
    }
    return sum;
}

static void test_client_threads__ten_threads_share_one_client(void **state)
{
    (void)state;
    struct counting_router *r = counting_router_new();
    assert_non_null(r);
    counting_router_refuse(r, REFUSE_NTH); /* some retries, too */
    struct shared s = {.client = open_to(r, "thread")};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many_rounds, &s), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(duet_drain(s.client, 60000, NULL), DUET_OK);
    assert_int_equal(atomic_load(&s.failures), 0);
    assert_int_equal(atomic_load(&s.called_back), THREADS * ROUNDS);
    /* Each once, or not at all and said so. */
    assert_int_equal(atomic_load(&s.done) + atomic_load(&s.not_done), 2 * THREADS * ROUNDS);
    assert_int_equal(sum_of_all(s.client), atomic_load(&s.done));
    assert_true(atomic_load(&s.not_done) <= 4 * THREADS * ROUNDS / REFUSE_NTH);
    duet_close(&s.client);
    counting_router_destroy(&r);
}

static void *submit_many(void *arg)
{
    struct shared *s = arg;
    struct duet_operation op = {.kind = DUET_INCR, .key = duet_text("5"), .delta = 1};
    for (int i = 0; i < ROUNDS;) {
        enum duet_code code = duet_submit(s->client, &op, count, s, NULL);
        i += code == DUET_OK;
        expect(s, code == DUET_OK || code == DUET_BUSY);
        if (code == DUET_BUSY)
            poll(NULL, 0, 1);
    }
    return NULL;
}

/* Nine threads submit; the tenth, this one, has the loop. */
static void test_client_threads__a_client_without_a_thread_takes_from_all(void **state)
{
    (void)state;
    struct counting_router *r = counting_router_new();
    assert_non_null(r);
    struct shared s = {.client = open_to(r, "caller")};
    pthread_t threads[THREADS - 1];
    struct pollfd watched = {.fd = duet_client_fd(s.client), .events = POLLIN};
    for (int i = 0; i < THREADS - 1; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &s), 0);
    while (atomic_load(&s.called_back) < (THREADS - 1) * ROUNDS) {
        assert_int_equal(poll(&watched, 1, 60000), 1); /* never forgotten */
        assert_int_equal(duet_client_dispatch(s.client, NULL), DUET_OK);
    }
    for (int i = 0; i < THREADS - 1; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&s.failures), 0);
    assert_int_equal(atomic_load(&s.done), (THREADS - 1) * ROUNDS);
    duet_close(&s.client);
    counting_router_destroy(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_threads__ten_threads_share_one_client),
        cmocka_unit_test(test_client_threads__a_client_without_a_thread_takes_from_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
