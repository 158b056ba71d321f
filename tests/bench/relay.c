/* Relay: what ZeroMQ and two cores can do at most in Duet's shape: client, router, three nodes; SHA-256
 * placement and batches as in Duet, but no protobuf, no limits, no replica, no disk.
 *
 *   relay CONNECTIONS PIPELINE SECONDS     prints operations per second and the median latency
 *
 * A client connection sends PIPELINE keys as one message and waits for all answers. The router
 * gathers one message per node and turn, and one per connection and turn on the way back.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "proto/base/histogram.h"
#include "proto/link.h"
#include "proto/partition.h"

#define NODES 3
#define KEY_SIZE 16
#define VALUE_SIZE 100
#define CONNECTIONS_MAX 1024
#define ASK_SIZE (8 + KEY_SIZE)   /* token, key */
#define TELL_SIZE (8 + VALUE_SIZE) /* token, value */

static char front_address[64], node_addresses[NODES][64];

static void wait_readable(struct link **links, unsigned count)
{
    zmq_pollitem_t items[NODES + 1];
    for (unsigned i = 0; i < count; i++) {
        if (link_readable(links[i]))
            return;
        items[i] = (zmq_pollitem_t){.fd = link_fd(links[i]), .events = ZMQ_POLLIN};
    }
    zmq_poll(items, (int)count, 50);
}

static void node(unsigned n)
{
    struct error error;
    struct link_context *context = link_context_new(1, false);
    struct link *l = link_bind(context, LINK_NODE_REQUESTS, node_addresses[n], &error);
    struct link_peer peer;
    struct bytes frame;
    struct buffer out;
    uint8_t value[VALUE_SIZE] = {0};
    ENSURE(l != NULL);
    buffer_init(&out, 64 << 20);
    for (;;) {
        wait_readable(&l, 1);
        while (link_recv(l, &peer, &frame) == STATUS_OK) {
            for (size_t at = 0; at + ASK_SIZE <= frame.size; at += ASK_SIZE) {
                uint8_t *to = buffer_reserve(&out, TELL_SIZE);
                memcpy(to, frame.data + at, 8);
                memcpy(to + 8, value, VALUE_SIZE);
            }
            link_send(l, &peer, &out);
        }
    }
}

struct front {
    struct link *links[NODES + 1]; /* the clients' first */
    struct buffer to_node[NODES], to_client[CONNECTIONS_MAX];
    struct link_peer clients[CONNECTIONS_MAX];
    unsigned clients_count;
};

static unsigned client_of(struct front *f, const struct link_peer *peer, const uint8_t *token)
{
    unsigned i = bytes_le32(token);
    ENSURE(i < CONNECTIONS_MAX);
    f->clients[i] = *peer;
    if (i >= f->clients_count)
        f->clients_count = i + 1;
    return i;
}

static void front_asks(struct front *f)
{
    struct link_peer peer;
    struct bytes frame;
    while (link_recv(f->links[0], &peer, &frame) == STATUS_OK) {
        client_of(f, &peer, frame.data);
        for (size_t at = 0; at + ASK_SIZE <= frame.size; at += ASK_SIZE) {
            uint64_t digest = partition_digest(bytes_of(frame.data + at + 8, KEY_SIZE));
            struct buffer *out = &f->to_node[partition_of(digest, 1024) % NODES];
            buffer_append(out, bytes_of(frame.data + at, ASK_SIZE));
        }
    }
    for (unsigned n = 0; n < NODES; n++)
        if (f->to_node[n].size > 0)
            link_send(f->links[n + 1], NULL, &f->to_node[n]);
}

static void front_tells(struct front *f)
{
    struct link_peer peer;
    struct bytes frame;
    for (unsigned n = 0; n < NODES; n++)
        while (link_recv(f->links[n + 1], &peer, &frame) == STATUS_OK)
            for (size_t at = 0; at + TELL_SIZE <= frame.size; at += TELL_SIZE)
                buffer_append(&f->to_client[bytes_le32(frame.data + at)],
                              bytes_of(frame.data + at, TELL_SIZE));
    for (unsigned i = 0; i < f->clients_count; i++)
        if (f->to_client[i].size > 0)
            link_send(f->links[0], &f->clients[i], &f->to_client[i]);
}

static void front(void)
{
    static struct front f;
    struct error error;
    struct link_context *context = link_context_new(1, false);
    f.links[0] = link_bind(context, LINK_ROUTER_CLIENTS, front_address, &error);
    for (unsigned n = 0; n < NODES; n++) {
        f.links[n + 1] = link_connect(context, LINK_ROUTER_TO_NODE, node_addresses[n], &error);
        buffer_init(&f.to_node[n], 64 << 20);
        while (!link_connected(f.links[n + 1]))
            usleep(1000);
    }
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        buffer_init(&f.to_client[i], 64 << 20);
    for (;;) {
        wait_readable(f.links, NODES + 1);
        front_asks(&f);
        front_tells(&f);
    }
}

struct connection {
    struct link *link;
    uint32_t waiting;
    uint64_t sent_ns;
};

static void ask(struct connection *c, uint32_t index, uint32_t pipeline, uint64_t *seed)
{
    struct buffer out;
    buffer_init(&out, 64 << 20);
    for (uint32_t i = 0; i < pipeline; i++) {
        uint8_t *to = buffer_reserve(&out, ASK_SIZE);
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        bytes_put_le32(to, index);
        bytes_put_le32(to + 4, i);
        bytes_put_le64(to + 8, *seed);
        bytes_put_le64(to + 16, *seed >> 7);
    }
    c->waiting = pipeline;
    c->sent_ns = clock_now_ns();
    while (link_send(c->link, NULL, &out) != STATUS_OK)
        usleep(1000);
    buffer_fini(&out);
}

static void client(uint32_t connections, uint32_t pipeline, double seconds)
{
    static struct connection c[CONNECTIONS_MAX];
    static struct histogram latency;
    zmq_pollitem_t items[CONNECTIONS_MAX];
    struct error error;
    struct link_context *context = link_context_new(1, true);
    struct link_peer peer;
    struct bytes frame;
    uint64_t seed = 1, operations = 0, began, now;
    histogram_init(&latency);
    for (uint32_t i = 0; i < connections; i++) {
        c[i].link = link_connect(context, LINK_CLIENT, front_address, &error);
        items[i] = (zmq_pollitem_t){.fd = link_fd(c[i].link), .events = ZMQ_POLLIN};
        while (!link_connected(c[i].link))
            usleep(1000);
    }
    began = clock_now_ns();
    for (uint32_t i = 0; i < connections; i++)
        ask(&c[i], i, pipeline, &seed);
    while ((now = clock_now_ns()) < began + (uint64_t)(seconds * 1e9)) {
        bool any = false;
        for (uint32_t i = 0; i < connections; i++)
            while (link_recv(c[i].link, &peer, &frame) == STATUS_OK) {
                any = true;
                operations += frame.size / TELL_SIZE;
                c[i].waiting -= (uint32_t)(frame.size / TELL_SIZE);
                if (c[i].waiting > 0)
                    continue;
                histogram_add(&latency, clock_now_ns() - c[i].sent_ns);
                ask(&c[i], i, pipeline, &seed);
            }
        if (!any)
            zmq_poll(items, (int)connections, 1);
    }
    printf("%.0f operations/s, median %.0f us\n", (double)operations * 1e9 / (double)(now - began),
           (double)histogram_quantile(&latency, 5000) / 1000);
}

static pid_t start(void (*body)(unsigned), unsigned n)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    body(n);
    _exit(0);
}

static void front_body(unsigned n)
{
    (void)n;
    front();
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: relay CONNECTIONS PIPELINE SECONDS\n");
        return 2;
    }
    unsigned connections = (unsigned)atoi(argv[1]), pipeline = (unsigned)atoi(argv[2]);
    ENSURE(connections >= 1 && connections <= CONNECTIONS_MAX && pipeline >= 1);
    unsigned base = 20000 + (unsigned)getpid() % 10000;
    snprintf(front_address, sizeof front_address, "tcp://127.0.0.1:%u", base);
    for (unsigned n = 0; n < NODES; n++)
        snprintf(node_addresses[n], sizeof node_addresses[n], "tcp://127.0.0.1:%u", base + 1 + n);
    pid_t pids[NODES + 1];
    for (unsigned n = 0; n < NODES; n++)
        pids[n] = start(node, n);
    pids[NODES] = start(front_body, 0);
    usleep(300000);
    client(connections, pipeline, atof(argv[3]));
    for (unsigned i = 0; i <= NODES; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    return 0;
}
