/* redis_gaps: what gaps.c measures, of Redis Cluster.
 *
 *   redis_gaps PORTS KEYS PACE-MS TIMEOUT-MS      PORTS: all nodes' at 127.0.0.1, "7000,7001,..."
 *
 * One SET on each of KEYS keys gap:w:0.. under way, and one GET on each of as many keys gap:r:0..
 *
 * As good as a client of Redis Cluster can be: it has one connection to each node and sends each
 * operation to the master of its slot; a redirection is followed at once; what is refused or lost
 * with its connection is tried again after RETRY_MS until the deadline (a SET may be repeated).
 * When something hangs, it asks one node after the other which masters there are, and what hangs at
 * a node that is none any more goes to the new one. (A usual client would first wait for a time
 * limit.) Reads are asked of masters: what replicas show may be old. No WAIT: a SET is acknowledged
 * when it is on the master's disk.
 *
 * Commands on stdin: see meter.h. Ends with stdin.
 */
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "tests/bench/meter.h"

#define NODES_MAX   16
#define SLOTS       16384
#define QUEUE_MAX   4096 /* commands of one connection without an answer */
#define MS          ((uint64_t)1000000)
#define RETRY_MS    5
#define HANG_MS     50 /* this long without an answer: ask who the masters are */
#define ASK_MS      25 /* between two such questions */
#define CONNECT_MS  25 /* between two tries to connect to a node */
#define WAIT_MS_MAX 1000
#define NOBODY      UINT32_MAX
#define QUESTION    UINT32_MAX /* in a queue: CLUSTER SLOTS, no probe */

/* One key and its operation. */
struct probe {
    char key[32];
    bool write;
    uint32_t index; /* in its meter */
    uint16_t slot;
    uint64_t number;     /* counts the operations */
    uint64_t began_ns;   /* the operation; 0: none is under way */
    uint64_t due_ns;     /* the next attempt, or operation */
    uint32_t node;       /* that has the attempt; NOBODY: none has */
    uint32_t attempt;    /* the answer to an earlier one is no answer */
    uint64_t attempt_ns; /* when it was sent */
    bool maybe;          /* an attempt was lost: it may have been executed */
};

struct queued {
    uint32_t probe, attempt;
};

struct node {
    int port;
    redisContext *redis; /* NULL: not connected */
    uint64_t connect_ns; /* not before */
    struct queued queue[QUEUE_MAX];
    uint32_t head, tail;
};

static struct meters meters;
static struct node nodes[NODES_MAX];
static uint32_t nodes_count;
static uint32_t master_of_slot[SLOTS];
static struct probe probes[2 * METER_KEYS_MAX];
static uint32_t probes_count, ask_next;
static uint64_t pace_ns, timeout_ns, ask_ns;

/* CRC-16/XMODEM, as Redis Cluster's specification has it. */
static uint16_t crc16(const char *text)
{
    uint16_t crc = 0;
    for (; *text != 0; text++) {
        crc ^= (uint16_t)((uint8_t)*text << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

static struct meter *meter_of(const struct probe *p)
{
    return p->write ? &meters.writes : &meters.reads;
}

/* ---- Connections ---- */

/* The attempt came to nothing; another one follows. */
static void retry(struct probe *p, uint64_t due_ns)
{
    p->node = NOBODY;
    p->attempt++;
    p->due_ns = due_ns;
}

static void lose(struct node *n, uint64_t now_ns)
{
    redisFree(n->redis);
    n->redis = NULL;
    n->connect_ns = now_ns + CONNECT_MS * MS;
    for (; n->head != n->tail; n->head++) {
        struct queued q = n->queue[n->head % QUEUE_MAX];
        if (q.probe == QUESTION || probes[q.probe].attempt != q.attempt)
            continue;
        probes[q.probe].maybe = true;
        retry(&probes[q.probe], now_ns + RETRY_MS * MS);
    }
}

static bool reach(struct node *n, uint64_t now_ns)
{
    if (n->redis != NULL || now_ns < n->connect_ns)
        return n->redis != NULL;
    n->connect_ns = now_ns + CONNECT_MS * MS;
    n->redis = redisConnect("127.0.0.1", n->port); /* loopback: it does not wait */
    if (n->redis == NULL || n->redis->err != 0) {
        redisFree(n->redis);
        n->redis = NULL;
        return false;
    }
    fcntl(n->redis->fd, F_SETFL, O_NONBLOCK);
    return true;
}

/* False: it was not sent. */
static bool send_command(struct node *n, const char *text, struct queued what, uint64_t now_ns)
{
    if (!reach(n, now_ns) || n->tail - n->head == QUEUE_MAX)
        return false;
    size_t size = strlen(text);
    if (write(n->redis->fd, text, size) != (ssize_t)size) {
        lose(n, now_ns);
        return false;
    }
    n->queue[n->tail++ % QUEUE_MAX] = what;
    return true;
}

/* ---- Operations ---- */

static void attempt(uint32_t index, uint64_t now_ns)
{
    struct probe *p = &probes[index];
    char text[160], value[32];
    if (p->began_ns == 0) {
        p->began_ns = now_ns;
        p->maybe = false;
        p->number++;
    }
    int digits = snprintf(value, sizeof value, "%llu", (unsigned long long)p->number);
    if (p->write)
        snprintf(text, sizeof text, "*3\r\n$3\r\nSET\r\n$%zu\r\n%.31s\r\n$%d\r\n%.31s\r\n",
                 strlen(p->key), p->key, digits, value);
    else
        snprintf(text, sizeof text, "*2\r\n$3\r\nGET\r\n$%zu\r\n%.31s\r\n", strlen(p->key),
                 p->key);
    uint32_t node = master_of_slot[p->slot];
    if (!send_command(&nodes[node], text, (struct queued){index, p->attempt}, now_ns)) {
        p->due_ns = now_ns + RETRY_MS * MS;
        return;
    }
    p->node = node;
    p->attempt_ns = now_ns;
}

static void end(struct probe *p, uint64_t now_ns)
{
    p->began_ns = 0;
    retry(p, now_ns + pace_ns);
}

static void give_up(struct probe *p, uint64_t now_ns)
{
    if (p->write && (p->maybe || p->node != NOBODY))
        meter_of(p)->in_doubt++;
    else
        meter_of(p)->failed++;
    end(p, now_ns);
}

/* ---- Answers ---- */

static void set_master(uint32_t from, uint32_t to, int port)
{
    for (uint32_t i = 0; i < nodes_count; i++)
        for (uint32_t slot = from; nodes[i].port == port && slot <= to && slot < SLOTS; slot++)
            master_of_slot[slot] = i;
}

static void learn_masters(const redisReply *reply)
{
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
        redisReply **range = reply->element[i]->element;
        set_master((uint32_t)range[0]->integer, (uint32_t)range[1]->integer,
                   (int)range[2]->element[1]->integer);
    }
}

/* "MOVED 3999 127.0.0.1:6381" */
static bool moved(const char *text)
{
    const char *port = strrchr(text, ':');
    unsigned slot;
    if (sscanf(text, "MOVED %u ", &slot) != 1 || port == NULL)
        return false;
    set_master(slot, slot, atoi(port + 1));
    return true;
}

static void on_reply(struct queued q, const redisReply *reply, uint64_t now_ns)
{
    if (q.probe == QUESTION) {
        learn_masters(reply);
        return;
    }
    struct probe *p = &probes[q.probe];
    if (p->attempt != q.attempt)
        return;
    if (reply->type == REDIS_REPLY_ERROR) {
        retry(p, moved(reply->str) ? now_ns : now_ns + RETRY_MS * MS);
    } else if (reply->type == REDIS_REPLY_NIL) {
        meter_of(p)->failed++; /* all keys are there */
        end(p, now_ns);
    } else {
        meter_acknowledge(meter_of(p), p->index, now_ns);
        end(p, now_ns);
    }
}

static void receive(struct node *n, uint64_t now_ns)
{
    static char block[1 << 16];
    ssize_t size = read(n->redis->fd, block, sizeof block);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0 || redisReaderFeed(n->redis->reader, block, (size_t)size) != REDIS_OK) {
        lose(n, now_ns);
        return;
    }
    void *reply = NULL;
    while (redisReaderGetReply(n->redis->reader, &reply) == REDIS_OK && reply != NULL) {
        ENSURE(n->head != n->tail);
        on_reply(n->queue[n->head++ % QUEUE_MAX], reply, now_ns);
        freeReplyObject(reply);
    }
}

/* ---- Time ---- */

static void ask_masters(uint64_t now_ns)
{
    if (now_ns < ask_ns)
        return;
    ask_ns = now_ns + ASK_MS * MS;
    send_command(&nodes[ask_next++ % nodes_count], "*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n",
                 (struct queued){QUESTION, 0}, now_ns);
}

/* Returns when this probe wants to be looked at again. */
static uint64_t advance(uint32_t index, uint64_t now_ns)
{
    struct probe *p = &probes[index];
    if (p->began_ns != 0 && now_ns - p->began_ns >= timeout_ns)
        give_up(p, now_ns);
    if (p->began_ns != 0 && now_ns - p->began_ns >= HANG_MS * MS) {
        ask_masters(now_ns);
        if (p->node != NOBODY && p->node != master_of_slot[p->slot]) {
            p->maybe = true;
            retry(p, now_ns);
        }
    }
    if (p->node == NOBODY && p->due_ns <= now_ns)
        attempt(index, now_ns);
    return p->node == NOBODY ? p->due_ns : now_ns + RETRY_MS * MS;
}

static uint64_t advance_all(uint64_t now_ns)
{
    uint64_t next_ns = now_ns + WAIT_MS_MAX * MS;
    for (uint32_t i = 0; i < probes_count; i++) {
        uint64_t wanted_ns = advance(i, now_ns);
        if (wanted_ns < next_ns)
            next_ns = wanted_ns;
    }
    return next_ns;
}

static void run(void)
{
    struct pollfd fds[NODES_MAX + 1];
    for (;;) {
        uint64_t now_ns = clock_now_ns(), next_ns = advance_all(now_ns);
        for (uint32_t i = 0; i < nodes_count; i++)
            fds[i] = (struct pollfd){.fd = nodes[i].redis != NULL ? nodes[i].redis->fd : -1,
                                     .events = POLLIN};
        fds[nodes_count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
        int wait_ms = next_ns > now_ns ? (int)((next_ns - now_ns) / MS) + 1 : 1;
        poll(fds, nodes_count + 1, wait_ms);
        uint64_t wanted_ns = now_ns + (uint64_t)wait_ms * MS, woken_ns = clock_now_ns();
        if (woken_ns > wanted_ns && woken_ns - wanted_ns > meters.late_ns)
            meters.late_ns = woken_ns - wanted_ns;
        for (uint32_t i = 0; i < nodes_count; i++)
            if (fds[i].revents != 0 && nodes[i].redis != NULL)
                receive(&nodes[i], woken_ns);
        if (fds[nodes_count].revents != 0 && !meter_obey(&meters))
            return;
    }
}

/* ---- Start ---- */

static void read_ports(char *list)
{
    for (char *word = strtok(list, ","); word != NULL; word = strtok(NULL, ",")) {
        ENSURE(nodes_count < NODES_MAX);
        nodes[nodes_count++].port = atoi(word);
    }
    ENSURE(nodes_count > 0);
}

static void add_probes(uint32_t keys, uint64_t now_ns)
{
    meter_init(&meters.writes, keys, now_ns);
    meter_init(&meters.reads, keys, now_ns);
    for (uint32_t i = 0; i < 2 * keys; i++) {
        struct probe *p = &probes[probes_count++];
        *p = (struct probe){.write = i < keys,
                            .index = i % keys,
                            .node = NOBODY,
                            .due_ns = now_ns + pace_ns * i / (2 * keys)};
        snprintf(p->key, sizeof p->key, "gap:%c:%u", p->write ? 'w' : 'r', p->index);
        p->slot = crc16(p->key) % SLOTS;
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: redis_gaps PORTS KEYS PACE-MS TIMEOUT-MS\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    read_ports(argv[1]);
    pace_ns = (uint64_t)atoi(argv[3]) * MS;
    timeout_ns = (uint64_t)atoi(argv[4]) * MS;
    add_probes((uint32_t)atoi(argv[2]), clock_now_ns());
    run();
    return 0;
}
