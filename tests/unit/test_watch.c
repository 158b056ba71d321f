/* Clients without a thread: one descriptor, and turns that the caller makes. */
#include "client/watch.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/duet.h"
#include "proto/link.h"
#include "tests/lib/counting_router.h"

#define SOON_MS  60000 /* a machine may be slow; what never comes is what fails */
#define LATER_MS 1000

static bool readable(int fd, int wait_ms)
{
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    return poll(&watched, 1, wait_ms) == 1;
}

static void test_watch__shows_links_wake_up_and_time(void **state)
{
    (void)state;
    struct watch w;
    uint64_t one = 1;
    int wake_fd = eventfd(0, EFD_NONBLOCK), link_fd = eventfd(0, EFD_NONBLOCK);
    assert_true(watch_init(&w, wake_fd));
    assert_true(watch_add(&w, 5, link_fd));
    assert_false(readable(w.epoll_fd, 0));
    assert_int_equal(write(link_fd, &one, sizeof one), sizeof one);
    assert_true(readable(w.epoll_fd, 0));
    assert_int_equal(watch_take(&w), 1 << 5);
    watch_remove(&w, link_fd);
    assert_false(readable(w.epoll_fd, 0));
    assert_int_equal(write(wake_fd, &one, sizeof one), sizeof one);
    assert_true(readable(w.epoll_fd, 0));
    assert_int_equal(watch_take(&w), 0);
    assert_false(readable(w.epoll_fd, 0)); /* taken */
    watch_arm(&w, 0);
    assert_true(readable(w.epoll_fd, SOON_MS));
    assert_int_equal(watch_take(&w), 0);
    assert_false(readable(w.epoll_fd, 0));
    watch_arm(&w, 20);
    assert_true(readable(w.epoll_fd, SOON_MS));
    watch_arm(&w, -1);
    assert_false(readable(w.epoll_fd, 0));
    watch_fini(&w);
    close(link_fd);
    close(wake_fd);
}

static struct duet_client *open_at(const char *routers, const char *timeout_ms)
{
    struct duet_options *options = duet_options_new();
    assert_int_equal(duet_options_set(options, "routers", routers, NULL), DUET_OK);
    assert_int_equal(duet_options_set(options, "timeout_ms", timeout_ms, NULL), DUET_OK);
    assert_int_equal(duet_options_set(options, "loop", "caller", NULL), DUET_OK);
    struct duet_client *c = duet_open(options, NULL);
    assert_non_null(c);
    duet_options_free(&options);
    return c;
}

struct answer_of {
    struct duet_client *client;
    bool came;
    enum duet_code code, inside; /* of the operation; of a dispatch inside of the callback */
    int64_t value;
};

static void remember(const struct duet_result *result, void *user)
{
    struct answer_of *a = user;
    a->came = true;
    a->code = duet_result_code(result);
    struct duet_slice value = duet_result_value(result);
    char text[32] = ""; /* a value that a callback sees ends without a zero byte */
    assert_true(value.size < sizeof text);
    if (value.size > 0)
        memcpy(text, value.data, value.size);
    a->value = strtoll(text, NULL, 10);
    a->inside = duet_client_dispatch(a->client, NULL);
    struct duet_client *same = a->client;
    duet_close(&same); /* does nothing in a callback */
    assert_non_null(same);
}

static void turn_until_answered(struct answer_of *a)
{
    while (!a->came) {
        assert_true(readable(duet_client_fd(a->client), SOON_MS));
        assert_int_equal(duet_client_dispatch(a->client, NULL), DUET_OK);
    }
}

static void test_watch__callbacks_come_in_the_callers_turns(void **state)
{
    (void)state;
    struct counting_router *r = counting_router_new();
    struct duet_client *c = open_at(counting_router_address(r), "60000");
    struct duet_operation op = {
        .kind = DUET_INCR, .key = duet_text("1"), .delta = 3, .want = DUET_WANT_NEW};
    for (int i = 1; i <= 20; i++) {
        struct answer_of a = {.client = c};
        assert_int_equal(duet_submit(c, &op, remember, &a, NULL), DUET_OK);
        assert_false(a.came);
        turn_until_answered(&a);
        assert_int_equal(a.code, DUET_OK);
        assert_int_equal(a.value, 3 * i);
        assert_int_equal(a.inside, DUET_USAGE);
    }
    duet_close(&c);
    assert_null(c);
    counting_router_destroy(&r);
}

static void test_watch__deadlines_need_no_other_timer(void **state)
{
    (void)state;
    struct counting_router *r = counting_router_new();
    counting_router_hold(r, true);
    struct duet_client *c = open_at(counting_router_address(r), "100");
    struct answer_of a = {.client = c};
    struct duet_operation op = {.kind = DUET_GET, .key = duet_text("1")};
    assert_int_equal(duet_submit(c, &op, remember, &a, NULL), DUET_OK);
    turn_until_answered(&a);
    assert_true(a.code == DUET_TIMEOUT || a.code == DUET_NOCONNECTION);
    duet_close(&c);
    counting_router_destroy(&r);
}

/* Its sockets are closed and made anew: the descriptor follows. */
static void test_watch__a_silent_router_is_left_for_another(void **state)
{
    (void)state;
    struct counting_router *silent = counting_router_new(), *good = counting_router_new();
    char routers[160];
    counting_router_hold(silent, true);
    snprintf(routers, sizeof routers, "%s,%s,tcp://127.0.0.1:1", counting_router_address(silent),
             counting_router_address(good));
    for (int i = 0; i < 3; i++) { /* which one is first is drawn */
        struct duet_client *c = open_at(routers, "2000");
        struct answer_of a = {.client = c};
        struct duet_operation op = {.kind = DUET_GET, .key = duet_text("1")};
        assert_int_equal(duet_submit(c, &op, remember, &a, NULL), DUET_OK);
        turn_until_answered(&a);
        duet_close(&c);
    }
    counting_router_destroy(&silent);
    counting_router_destroy(&good);
}

static void test_watch__calls_that_wait_are_refused(void **state)
{
    (void)state;
    struct duet_client *c = open_at("tcp://127.0.0.1:1", "60000");
    struct duet_error error;
    struct duet_operation op = {.kind = DUET_GET, .key = duet_text("1")};
    struct duet_slice key = duet_text("1");
    struct duet_result *result;
    assert_int_equal(duet_get(c, key, &result, &error), DUET_USAGE);
    assert_non_null(strstr(error.message, "loop = caller"));
    assert_int_equal(error.flags, DUET_FATAL);
    assert_int_equal(duet_mget(c, &key, 1, &result, NULL), DUET_USAGE);
    assert_int_equal(duet_connect(c, 1, NULL), DUET_USAGE);
    assert_int_equal(duet_drain(c, 1, NULL), DUET_USAGE);
    int taken = 0;
    while (duet_submit(c, &op, NULL, NULL, &error) == DUET_OK)
        taken++;
    assert_int_equal(error.code, DUET_BUSY);
    assert_int_equal(taken, 512);
    duet_close(&c);
}

static void test_watch__closing_completes_what_is_outstanding(void **state)
{
    (void)state;
    struct duet_client *c = open_at("tcp://127.0.0.1:1", "60000");
    struct answer_of a = {.client = c};
    struct duet_operation op = {.kind = DUET_PUT, .key = duet_text("1")};
    assert_int_equal(duet_submit(c, &op, remember, &a, NULL), DUET_OK);
    duet_close(&c);
    assert_true(a.came);
    assert_int_equal(a.code, DUET_NOCONNECTION);
}

static void test_watch__a_client_with_a_thread_has_no_descriptor(void **state)
{
    (void)state;
    struct duet_client *c = duet_open(NULL, NULL);
    assert_non_null(c);
    assert_int_equal(duet_client_fd(c), -1);
    assert_int_equal(duet_client_dispatch(c, NULL), DUET_USAGE);
    duet_close(&c);
}

/* Link_recv() as the client's turn calls it: that it finds nothing is told only when the answer
 * that is awaited has come after all. */
static _Thread_local struct answer_of *awaited;
static _Thread_local int missed;

enum status __real_link_recv(struct link *l, struct link_peer *ret_peer, struct bytes *ret_frame);
enum status __wrap_link_recv(struct link *l, struct link_peer *ret_peer, struct bytes *ret_frame);

enum status __wrap_link_recv(struct link *l, struct link_peer *ret_peer, struct bytes *ret_frame)
{
    enum status s = __real_link_recv(l, ret_peer, ret_frame);
    if (s == STATUS_NOTFOUND && awaited != NULL && !awaited->came &&
        readable(link_fd(l), LATER_MS)) {
        awaited = NULL;
        missed++;
    }
    return s;
}

/* Else the client would sleep on until its next ping, for 200 ms. */
static void test_watch__an_answer_behind_the_last_look_is_told(void **state)
{
    (void)state;
    struct counting_router *r = counting_router_new();
    struct duet_client *c = open_at(counting_router_address(r), "60000");
    struct duet_operation op = {.kind = DUET_INCR, .key = duet_text("1"), .delta = 1};
    for (int i = 0; i < 100000 && missed < 5; i++) {
        struct answer_of a = {.client = c};
        int missed_before = missed;
        assert_int_equal(duet_submit(c, &op, remember, &a, NULL), DUET_OK);
        awaited = i == 0 ? NULL : &a; /* the first connects */
        while (!a.came && missed == missed_before) {
            assert_true(readable(duet_client_fd(c), SOON_MS));
            assert_int_equal(duet_client_dispatch(c, NULL), DUET_OK);
        }
        awaited = NULL;
        assert_true(a.came || readable(duet_client_fd(c), 20));
        turn_until_answered(&a);
    }
    assert_int_equal(missed, 5);
    duet_close(&c);
    counting_router_destroy(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watch__shows_links_wake_up_and_time),
        cmocka_unit_test(test_watch__callbacks_come_in_the_callers_turns),
        cmocka_unit_test(test_watch__deadlines_need_no_other_timer),
        cmocka_unit_test(test_watch__a_silent_router_is_left_for_another),
        cmocka_unit_test(test_watch__calls_that_wait_are_refused),
        cmocka_unit_test(test_watch__closing_completes_what_is_outstanding),
        cmocka_unit_test(test_watch__a_client_with_a_thread_has_no_descriptor),
        cmocka_unit_test(test_watch__an_answer_behind_the_last_look_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
