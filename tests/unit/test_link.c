#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <poll.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/base/clock.h"
#include "proto/limits.h"
#include "proto/link.h"

#define WAIT_MS 10000 /* a wait that ends here is a failure; nothing is measured with it */

static struct link_context *context;
static void *raw_context; /* for sockets that do what link.c never does */
static struct link *server;
static struct link *l; /* the other end */
static void *raws[2];  /* sockets of raw_context; closed by teardown, also after a failure */
static int raws_count;
static char address[ADDRESS_SIZE_MAX];
static struct link_peer peer;
static struct bytes frame;
static struct error err;
static struct buffer out;

/* Bind server to a free port below the range from which the kernel takes ports for clients. */
static void bind_somewhere(enum link_use use)
{
    for (int tries = 0; server == NULL && tries < 1000; tries++) {
        snprintf(address, sizeof address, "tcp://127.0.0.1:%u",
                 (unsigned)(10000 + clock_random64() % 20000));
        server = link_bind(context, use, address, &err);
    }
    assert_non_null(server);
}

static int setup(void **state)
{
    (void)state;
    context = link_context_new(1, false);
    raw_context = zmq_ctx_new();
    buffer_init(&out, FRAME_BYTES_MAX + 1024);
    bind_somewhere(LINK_NODE_REQUESTS);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    link_destroy(&l);
    link_destroy(&server);
    link_destroy(&server);
    while (raws_count > 0)
        zmq_close(raws[--raws_count]);
    link_context_destroy(&context);
    link_context_destroy(&context);
    zmq_ctx_term(raw_context);
    buffer_fini(&out);
    return 0;
}

static void wait_connected(struct link *dealer)
{
    for (int waited = 0; !link_connected(dealer); waited++) {
        assert_true(waited < WAIT_MS);
        poll(NULL, 0, 1);
    }
}

static enum status wait_recv(struct link *at)
{
    for (int waited = 0; waited < WAIT_MS; waited++) {
        enum status s = link_recv(at, &peer, &frame);
        if (s != STATUS_NOTFOUND)
            return s;
        poll(NULL, 0, 1);
    }
    return STATUS_NOTFOUND;
}

static enum status send_text(struct link *from, const struct link_peer *to, const char *text)
{
    assert_int_equal(buffer_append(&out, bytes_text(text)), STATUS_OK);
    enum status s = link_send(from, to, &out);
    assert_int_equal(out.size, 0);
    return s;
}

static void assert_frame(const char *text)
{
    assert_int_equal(frame.size, strlen(text));
    assert_memory_equal(frame.data, text, frame.size);
}

static void connect_dealer(void)
{
    l = link_connect(context, LINK_ROUTER_TO_NODE, address, &err);
    assert_non_null(l);
    wait_connected(l);
}

static void *connect_raw(int type, const char *id)
{
    void *socket = zmq_socket(raw_context, type);
    assert_true(socket != NULL && raws_count < 2);
    raws[raws_count++] = socket;
    int linger = 0, timeout = WAIT_MS;
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout, sizeof timeout);
    if (id != NULL)
        zmq_setsockopt(socket, ZMQ_ROUTING_ID, id, strlen(id));
    assert_int_equal(zmq_connect(socket, address), 0);
    return socket;
}

static void test_link__dealer_and_router_talk_both_ways(void **state)
{
    (void)state;
    connect_dealer();
    assert_int_equal(send_text(l, NULL, "question"), STATUS_OK);
    assert_int_equal(wait_recv(server), STATUS_OK);
    assert_frame("question");
    assert_true(peer.size > 0);
    assert_int_equal(peer.delimiter, 0);
    assert_int_equal(send_text(server, &peer, "answer"), STATUS_OK);
    assert_int_equal(wait_recv(l), STATUS_OK);
    assert_frame("answer");
    struct link_peer nobody = {0};
    assert_memory_equal(&peer, &nobody, sizeof peer);
    assert_int_equal(link_recv(l, &peer, &frame), STATUS_NOTFOUND);
}

static void test_link__req_client_is_answered_with_its_delimiter(void **state)
{
    (void)state;
    void *req = connect_raw(ZMQ_REQ, NULL);
    zmq_send(req, "question", 8, 0);
    assert_int_equal(wait_recv(server), STATUS_OK);
    assert_frame("question");
    assert_int_equal(peer.delimiter, 1);
    assert_int_equal(send_text(server, &peer, "answer"), STATUS_OK);
    char got[16];
    assert_int_equal(zmq_recv(req, got, sizeof got, 0), 6);
    assert_memory_equal(got, "answer", 6);
}

/* The next message is whole: nothing of the bad one is left in the socket. */
static void test_link__extra_frames_are_dropped_with_their_message(void **state)
{
    (void)state;
    void *raw = connect_raw(ZMQ_DEALER, NULL);
    zmq_send(raw, "one", 3, ZMQ_SNDMORE);
    for (int i = 0; i < 100; i++)
        zmq_send(raw, "more", 4, ZMQ_SNDMORE);
    zmq_send(raw, "last", 4, 0);
    zmq_send(raw, "", 0, ZMQ_SNDMORE);
    zmq_send(raw, "two", 3, ZMQ_SNDMORE);
    zmq_send(raw, "extra", 5, 0);
    zmq_send(raw, "good", 4, 0);
    assert_int_equal(wait_recv(server), STATUS_MALFORMED);
    assert_true(peer.size > 0);
    assert_int_equal(frame.size, 0);
    assert_int_equal(wait_recv(server), STATUS_MALFORMED);
    assert_int_equal(peer.delimiter, 1);
    assert_int_equal(wait_recv(server), STATUS_OK);
    assert_frame("good");
}

static void test_link__delimiter_without_payload_is_malformed(void **state)
{
    (void)state;
    void *raw = connect_raw(ZMQ_DEALER, NULL);
    zmq_send(raw, "", 0, 0);
    zmq_send(raw, "", 0, ZMQ_SNDMORE);
    zmq_send(raw, "", 0, 0);
    assert_int_equal(wait_recv(server), STATUS_MALFORMED);
    /* An empty payload is one; the codec refuses it with an answer. */
    assert_int_equal(wait_recv(server), STATUS_OK);
    assert_int_equal(frame.size, 0);
}

static void test_link__too_long_routing_id_is_malformed_and_cannot_be_answered(void **state)
{
    (void)state;
    void *longest = connect_raw(ZMQ_DEALER, "0123456789abcdef0123456789abcdef");
    zmq_send(longest, "fits", 4, 0);
    assert_int_equal(wait_recv(server), STATUS_OK);
    assert_int_equal(peer.size, LINK_PEER_SIZE_MAX);
    void *longer = connect_raw(ZMQ_DEALER, "0123456789abcdef0123456789abcdefX");
    zmq_send(longer, "not", 3, ZMQ_SNDMORE);
    zmq_send(longer, "more", 4, 0);
    assert_int_equal(wait_recv(server), STATUS_MALFORMED);
    assert_int_equal(peer.size, 0);
    assert_int_equal(send_text(server, &peer, "lost"), STATUS_NOCONNECTION);
    assert_int_equal(link_recv(server, &peer, &frame), STATUS_NOTFOUND);
}

static void test_link__send_to_a_peer_that_left_says_so(void **state)
{
    (void)state;
    connect_dealer();
    assert_int_equal(send_text(l, NULL, "hello"), STATUS_OK);
    assert_int_equal(wait_recv(server), STATUS_OK);
    struct link_peer gone = peer;
    link_destroy(&l);
    enum status s = STATUS_OK;
    for (int waited = 0; s == STATUS_OK && waited < WAIT_MS; waited++, poll(NULL, 0, 1))
        s = send_text(server, &gone, "answer");
    assert_int_equal(s, STATUS_NOCONNECTION);
}

static void test_link__slow_peer_makes_sends_busy_and_never_blocks_others(void **state)
{
    (void)state;
    static const uint8_t block[8192];
    void *slow = connect_raw(ZMQ_DEALER, NULL);
    zmq_send(slow, "hello", 5, 0);
    assert_int_equal(wait_recv(server), STATUS_OK);
    struct link_peer slow_peer = peer;
    enum status s = STATUS_OK;
    for (int i = 0; s == STATUS_OK && i < 100000; i++) {
        assert_int_equal(buffer_append(&out, bytes_of(block, sizeof block)), STATUS_OK);
        s = link_send(server, &slow_peer, &out);
        assert_int_equal(out.size, 0);
    }
    assert_int_equal(s, STATUS_BUSY);
    connect_dealer();
    assert_int_equal(send_text(l, NULL, "question"), STATUS_OK);
    assert_int_equal(wait_recv(server), STATUS_OK);
    assert_int_equal(send_text(server, &peer, "answer"), STATUS_OK);
    assert_int_equal(wait_recv(l), STATUS_OK);
    assert_frame("answer");
}

/* Hold a port on which nobody listens; address names it. */
static int reserve_port(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0);
    for (int tries = 0; tries < 1000; tries++) {
        unsigned port = (unsigned)(10000 + clock_random64() % 20000);
        to.sin_port = htons((uint16_t)port);
        snprintf(address, sizeof address, "tcp://127.0.0.1:%u", port);
        if (bind(fd, (struct sockaddr *)&to, sizeof to) == 0)
            return fd;
    }
    fail_msg("no free port");
    return -1;
}

/* A node that comes back must not get what was meant for its former life. */
static void test_link__nothing_is_queued_for_a_node_that_is_not_there(void **state)
{
    (void)state;
    link_destroy(&server);
    int reserved = reserve_port();
    l = link_connect(context, LINK_ROUTER_TO_NODE, address, &err);
    assert_non_null(l);
    assert_false(link_connected(l));
    assert_int_equal(send_text(l, NULL, "early"), STATUS_BUSY);
    close(reserved);
    for (int tries = 0; server == NULL && tries < 100; tries++, poll(NULL, 0, 10))
        server = link_bind(context, LINK_NODE_REQUESTS, address, &err);
    assert_non_null(server);
    wait_connected(l);
    assert_int_equal(send_text(l, NULL, "late"), STATUS_OK);
    assert_int_equal(wait_recv(server), STATUS_OK);
    assert_frame("late");
}

/* Sizes around libzmq's inline messages and around the border of sending without a copy. */
static void test_link__frames_of_all_sizes_arrive_unchanged(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 32, 33, 34, 255, 256, 65535, 65536, 65537, 4u << 20};
    connect_dealer();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *to = buffer_reserve(&out, sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++)
            to[j] = (uint8_t)(j * 31 + i);
        assert_int_equal(link_send(l, NULL, &out), STATUS_OK);
        assert_int_equal(out.size, 0);
        assert_int_equal(wait_recv(server), STATUS_OK);
        assert_int_equal(frame.size, sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++)
            if (frame.data[j] != (uint8_t)(j * 31 + i))
                fail_msg("byte %zu of %zu", j, sizes[i]);
    }
}

static void test_link__frame_beyond_the_ceiling_never_arrives_and_others_do(void **state)
{
    (void)state;
    void *raw = connect_raw(ZMQ_DEALER, NULL);
    uint8_t *huge = calloc(1, FRAME_BYTES_MAX + 1);
    zmq_send(raw, "hello", 5, 0);
    assert_int_equal(wait_recv(server), STATUS_OK);
    struct link_peer culprit = peer;
    zmq_send(raw, huge, FRAME_BYTES_MAX + 1, 0);
    enum status s = STATUS_OK;
    for (int waited = 0; s == STATUS_OK && waited < WAIT_MS; waited++, poll(NULL, 0, 1))
        s = send_text(server, &culprit, "still there?");
    assert_int_equal(s, STATUS_NOCONNECTION);
    assert_int_equal(link_recv(server, &peer, &frame), STATUS_NOTFOUND);
    connect_dealer();
    assert_int_equal(send_text(l, NULL, "question"), STATUS_OK);
    assert_int_equal(wait_recv(server), STATUS_OK);
    assert_frame("question");
    free(huge);
}

/* As a loop does: before sleeping ask the link, then wait on the fd and look. */
static void await_readable(struct link *of)
{
    struct pollfd wait = {.fd = link_fd(of), .events = POLLIN};
    bool there = link_readable(of);
    for (int turns = 0; !there; turns++) {
        assert_true(turns < 100);
        assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
        there = link_look(of).readable;
    }
}

static void test_link__fd_wakes_for_a_message(void **state)
{
    (void)state;
    connect_dealer();
    while (link_recv(server, &peer, &frame) != STATUS_NOTFOUND)
        ;
    assert_int_equal(send_text(l, NULL, "question"), STATUS_OK);
    await_readable(server);
    assert_int_equal(link_recv(server, &peer, &frame), STATUS_OK);
    assert_false(link_readable(server));
}

/* A look or a send can swallow the edge; then the descriptor says nothing, and the link must. */
static void test_link__what_the_fd_may_not_tell_the_link_does(void **state)
{
    (void)state;
    connect_dealer();
    assert_int_equal(send_text(l, NULL, "first"), STATUS_OK);
    await_readable(server);
    assert_true(link_readable(server)); /* looked at already, still there */
    assert_int_equal(link_recv(server, &peer, &frame), STATUS_OK);
    struct link_peer asker = peer;
    assert_int_equal(link_recv(server, &peer, &frame), STATUS_NOTFOUND);
    for (int i = 0; i < 20; i++) {
        struct pollfd wait = {.fd = link_fd(server), .events = POLLIN};
        assert_int_equal(send_text(l, NULL, "next"), STATUS_OK);
        assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
        usleep(3000); /* libzmq looks for news in a send when it has not for a million cycles */
        assert_int_equal(send_text(server, &asker, "answer"), STATUS_OK);
        await_readable(server);
        assert_int_equal(link_recv(server, &peer, &frame), STATUS_OK);
        assert_int_equal(link_recv(server, &peer, &frame), STATUS_NOTFOUND);
        assert_false(link_readable(server));
    }
}

static void test_link__port_in_use_says_what_to_do(void **state)
{
    (void)state;
    assert_null(link_bind(context, LINK_ROUTER_CLIENTS, address, &err));
    assert_int_equal(err.status, STATUS_LOCKED);
    assert_non_null(strstr(err.message, address));
    assert_non_null(strstr(err.message, "in use by another process"));
    assert_non_null(strstr(err.message, "choose another port"));
}

static void test_link__wrong_addresses_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",          "127.0.0.1:7400",        "tcp://127.0.0.1",     "tcp://127.0.0.1:",
        "tcp://",    "tcp://127.0.0.1:99999", "tcp://127.0.0.1:-1",  "tcp://127.0.0.1:0",
        "foo://x:1", "tcp://127.0.0.1:12x",   "tcp://127.0.0.1: 80", "udp://127.0.0.1:7400",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_null(link_bind(context, LINK_ROUTER_CLIENTS, wrong[i], &err));
        assert_int_equal(err.status, STATUS_CONFIG);
        assert_non_null(strstr(err.message, "write tcp://HOST:PORT"));
        assert_null(link_connect(context, LINK_CLIENT, wrong[i], &err));
        assert_int_equal(err.status, STATUS_CONFIG);
        assert_null(link_connect(context, LINK_CLIENT, wrong[i], NULL));
    }
    assert_null(link_bind(context, LINK_ROUTER_CLIENTS, "tcp://no-such-host:7400", &err));
    assert_non_null(strstr(err.message, "an IP address is needed"));
    assert_null(link_bind(context, LINK_ROUTER_CLIENTS, "tcp://192.0.2.1:7400", &err));
    assert_non_null(strstr(err.message, "no such address"));
}

static void test_link__process_seeds_random_and_library_leaves_it_alone(void **state)
{
    (void)state;
    srandom(1);
    long first = random();
    srandom(1);
    struct link_context *library = link_context_new(1, true);
    assert_non_null(library);
    assert_int_equal(random(), first);
    link_context_destroy(&library);
    srandom(1);
    struct link_context *process = link_context_new(1, false);
    assert_int_not_equal(random(), first);
    link_context_destroy(&process);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_link__dealer_and_router_talk_both_ways),
        TEST(test_link__req_client_is_answered_with_its_delimiter),
        TEST(test_link__extra_frames_are_dropped_with_their_message),
        TEST(test_link__delimiter_without_payload_is_malformed),
        TEST(test_link__too_long_routing_id_is_malformed_and_cannot_be_answered),
        TEST(test_link__send_to_a_peer_that_left_says_so),
        TEST(test_link__slow_peer_makes_sends_busy_and_never_blocks_others),
        TEST(test_link__nothing_is_queued_for_a_node_that_is_not_there),
        TEST(test_link__frames_of_all_sizes_arrive_unchanged),
        TEST(test_link__frame_beyond_the_ceiling_never_arrives_and_others_do),
        TEST(test_link__fd_wakes_for_a_message),
        TEST(test_link__what_the_fd_may_not_tell_the_link_does),
        TEST(test_link__port_in_use_says_what_to_do),
        TEST(test_link__wrong_addresses_are_refused_with_a_reason),
        TEST(test_link__process_seeds_random_and_library_leaves_it_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
