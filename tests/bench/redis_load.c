/* redis_load: load for Redis Cluster, in the shape of `duet bench`.
 *
 *   redis_load PORT fill|read|write CONNECTIONS PIPELINE SECONDS KEYS VALUE-SIZE
 *
 * Each connection belongs to one master and asks for keys of that master, as a client does that
 * gathers by node: PIPELINE of them at once, the next when all are answered. (A client that spreads
 * one pipeline over all masters would need a WAIT at each of them.) Keys are those of
 * `duet bench`, drawn evenly. Writes are closed by one WAIT 1 0 for the whole pipeline: it answers
 * once a replica has them. Latency is from sending a pipeline to its last answer.
 *
 * Prints one object of JSON. redis-benchmark cannot do this: it has no WAIT per pipeline.
 */
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "proto/base/buffer.h"
#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "proto/base/histogram.h"

#define MASTERS_MAX     16
#define CONNECTIONS_MAX 1000
#define SLOTS           16384
#define KEY_SIZE        16
#define OUT_SIZE_MAX    (64u << 20)
#define WAIT_COMMAND    "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n"

enum mix { MIX_FILL, MIX_READ, MIX_WRITE };

struct master {
    char host[64];
    int port;
    uint32_t *keys; /* the numbers of the keys that it holds */
    size_t keys_count;
    size_t next; /* fill */
};

struct connection {
    redisContext *redis;
    struct master *master;
    struct buffer out;
    size_t sent;
    unsigned waiting;
    uint64_t begin_ns;
    uint32_t operations; /* in the pipeline under way */
};

static struct master masters[MASTERS_MAX];
static size_t masters_count;
static uint8_t master_of_slot[SLOTS];
static struct connection connections[CONNECTIONS_MAX];
static struct histogram latency;
static enum mix mix;
static uint32_t pipeline;
static size_t value_size;
static char *value;
static uint64_t seed = 88172645463325252u, operations, failed, unreplicated;
static long long last_integer;

/* ---- Keys and slots ---- */

/* CRC-16/XMODEM, as Redis Cluster's specification has it. */
static uint16_t crc16(const char *data, size_t size)
{
    static uint16_t table[256];
    if (table[1] == 0)
        for (unsigned i = 0; i < 256; i++) {
            uint16_t c = (uint16_t)(i << 8);
            for (int bit = 0; bit < 8; bit++)
                c = (uint16_t)(c & 0x8000 ? c << 1 ^ 0x1021 : c << 1);
            table[i] = c;
        }
    uint16_t crc = 0;
    for (size_t i = 0; i < size; i++)
        crc = (uint16_t)(crc << 8 ^ table[(crc >> 8 ^ (uint8_t)data[i]) & 255]);
    return crc;
}

static void write_key(char key[static KEY_SIZE], uint64_t number)
{
    memcpy(key, "bench:", 6);
    for (int i = KEY_SIZE; i-- > 6; number /= 10)
        key[i] = (char)('0' + number % 10);
}

static struct master *find_master(const char *host, int port)
{
    for (size_t i = 0; i < masters_count; i++)
        if (masters[i].port == port && strcmp(masters[i].host, host) == 0)
            return &masters[i];
    ENSURE(masters_count < MASTERS_MAX);
    struct master *m = &masters[masters_count++];
    snprintf(m->host, sizeof m->host, "%s", host);
    m->port = port;
    return m;
}

static void learn_slots(int port)
{
    redisContext *redis = redisConnect("127.0.0.1", port);
    if (redis == NULL || redis->err != 0) {
        fprintf(stderr, "redis_load: no Redis at port %d\n", port);
        exit(3);
    }
    redisReply *reply = redisCommand(redis, "CLUSTER SLOTS");
    ENSURE(reply != NULL && reply->type == REDIS_REPLY_ARRAY);
    for (size_t i = 0; i < reply->elements; i++) {
        redisReply **range = reply->element[i]->element;
        struct master *m =
            find_master(range[2]->element[0]->str, (int)range[2]->element[1]->integer);
        for (long long slot = range[0]->integer; slot <= range[1]->integer; slot++)
            master_of_slot[slot] = (uint8_t)(m - masters);
    }
    freeReplyObject(reply);
    redisFree(redis);
    ENSURE(masters_count > 0);
}

static void share_keys(uint64_t count)
{
    char key[KEY_SIZE];
    for (size_t i = 0; i < masters_count; i++) {
        masters[i].keys = malloc((count + 1) * sizeof(uint32_t));
        ENSURE(masters[i].keys != NULL);
    }
    for (uint64_t number = 0; number < count; number++) {
        write_key(key, number);
        struct master *m = &masters[master_of_slot[crc16(key, KEY_SIZE) % SLOTS]];
        m->keys[m->keys_count++] = (uint32_t)number;
    }
}

/* ---- Replies: counted, not kept ---- */

static void *on_string(const redisReadTask *task, char *text, size_t size)
{
    if (task->type == REDIS_REPLY_ERROR && failed++ == 0)
        fprintf(stderr, "redis_load: %.*s\n", (int)size, text);
    return connections;
}

static void *on_array(const redisReadTask *task, int size)
{
    (void)task;
    (void)size;
    return connections;
}

static void *on_integer(const redisReadTask *task, long long number)
{
    (void)task;
    last_integer = number;
    return connections;
}

static void *on_nil(const redisReadTask *task)
{
    (void)task;
    failed++; /* all keys are there */
    return connections;
}

static void on_free(void *reply)
{
    (void)reply;
}

static redisReplyObjectFunctions functions = {.createString = on_string,
                                              .createArray = on_array,
                                              .createInteger = on_integer,
                                              .createNil = on_nil,
                                              .freeObject = on_free};

/* ---- Pipelines ---- */

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void append_command(struct connection *c, uint32_t number)
{
    char text[160], key[KEY_SIZE];
    write_key(key, number);
    int size = mix == MIX_READ
                   ? snprintf(text, sizeof text, "*2\r\n$3\r\nGET\r\n$%d\r\n%.*s\r\n", KEY_SIZE,
                              KEY_SIZE, key)
                   : snprintf(text, sizeof text, "*3\r\n$3\r\nSET\r\n$%d\r\n%.*s\r\n$%zu\r\n",
                              KEY_SIZE, KEY_SIZE, key, value_size);
    ENSURE(buffer_append(&c->out, bytes_of(text, (size_t)size)) == STATUS_OK);
    if (mix != MIX_READ) {
        ENSURE(buffer_append(&c->out, bytes_of(value, value_size)) == STATUS_OK);
        ENSURE(buffer_append(&c->out, bytes_of("\r\n", 2)) == STATUS_OK);
    }
}

/* False: nothing is left to fill. */
static bool next_key(struct master *m, uint32_t *ret)
{
    if (mix != MIX_FILL)
        *ret = m->keys[(draw() >> 16) % m->keys_count];
    else if (m->next == m->keys_count)
        return false;
    else
        *ret = m->keys[m->next++];
    return true;
}

static void flush(struct connection *c)
{
    while (c->sent < c->out.size) {
        ssize_t n = write(c->redis->fd, c->out.data + c->sent, c->out.size - c->sent);
        if (n > 0) {
            c->sent += (size_t)n;
            continue;
        }
        ENSURE(errno == EAGAIN);
        struct pollfd fd = {.fd = c->redis->fd, .events = POLLOUT};
        poll(&fd, 1, 100);
    }
}

static bool begin(struct connection *c)
{
    uint32_t number;
    buffer_clear(&c->out);
    c->sent = 0;
    for (c->operations = 0; c->operations < pipeline && next_key(c->master, &number);
         c->operations++)
        append_command(c, number);
    if (c->operations == 0)
        return false;
    if (mix != MIX_READ)
        ENSURE(buffer_append(&c->out, bytes_text(WAIT_COMMAND)) == STATUS_OK);
    c->waiting = c->operations + (mix != MIX_READ);
    c->begin_ns = clock_now_ns();
    flush(c);
    return true;
}

/* True: the pipeline is answered. */
static bool take_replies(struct connection *c)
{
    static char block[1 << 18];
    ssize_t n = read(c->redis->fd, block, sizeof block);
    ENSURE(n > 0 || (n < 0 && errno == EAGAIN));
    if (n > 0)
        ENSURE(redisReaderFeed(c->redis->reader, block, (size_t)n) == REDIS_OK);
    for (;;) {
        void *reply = NULL;
        ENSURE(redisReaderGetReply(c->redis->reader, &reply) == REDIS_OK);
        if (reply == NULL)
            return c->waiting == 0;
        ENSURE(c->waiting > 0);
        c->waiting--;
    }
}

static void finish(struct connection *c)
{
    operations += c->operations;
    histogram_add(&latency, clock_now_ns() - c->begin_ns);
    if (mix != MIX_READ && last_integer < 1)
        unreplicated += c->operations;
}

static int connect_all(uint32_t count)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (uint32_t i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        c->master = &masters[i % masters_count];
        c->redis = redisConnect(c->master->host, c->master->port);
        ENSURE(c->redis != NULL && c->redis->err == 0);
        c->redis->reader->fn = &functions;
        fcntl(c->redis->fd, F_SETFL, O_NONBLOCK);
        buffer_init(&c->out, OUT_SIZE_MAX);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        ENSURE(epoll_ctl(epoll, EPOLL_CTL_ADD, c->redis->fd, &event) == 0);
    }
    return epoll;
}

/* Returns how long it took. */
static uint64_t run(int epoll, uint32_t count, uint64_t seconds)
{
    struct epoll_event events[64];
    uint64_t begin_ns = clock_now_ns(), now_ns = begin_ns;
    uint64_t end_ns = begin_ns + seconds * 1000000000;
    uint32_t busy = 0;
    for (uint32_t i = 0; i < count; i++)
        busy += begin(&connections[i]);
    while (busy > 0) {
        int ready = epoll_wait(epoll, events, 64, 30000);
        if (ready <= 0) {
            fprintf(stderr, "redis_load: no answer for 30 s\n");
            exit(4);
        }
        now_ns = clock_now_ns();
        for (int i = 0; i < ready; i++) {
            struct connection *c = &connections[events[i].data.u32];
            if (c->waiting == 0 || !take_replies(c))
                continue;
            finish(c);
            if ((mix != MIX_FILL && now_ns >= end_ns) || !begin(c))
                busy--;
        }
    }
    return clock_now_ns() - begin_ns;
}

static enum mix mix_of(const char *word)
{
    return strcmp(word, "fill") == 0 ? MIX_FILL : strcmp(word, "read") == 0 ? MIX_READ : MIX_WRITE;
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: redis_load PORT fill|read|write CONNECTIONS PIPELINE SECONDS KEYS "
                        "VALUE-SIZE\n");
        return 2;
    }
    uint32_t count = (uint32_t)atoi(argv[3]);
    mix = mix_of(argv[2]);
    pipeline = (uint32_t)atoi(argv[4]);
    value_size = (size_t)atoi(argv[7]);
    value = malloc(value_size + 1);
    ENSURE(value != NULL && count >= 1 && count <= CONNECTIONS_MAX && pipeline >= 1);
    memset(value, 'x', value_size);
    seed ^= clock_random64() | 1;
    learn_slots(atoi(argv[1]));
    share_keys((uint64_t)atoll(argv[6]));
    histogram_init(&latency);
    uint64_t took_ns = run(connect_all(count), count, (uint64_t)atoll(argv[5]));
    printf("{\"operations\": %llu, \"operations_per_second\": %.1f, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"failed\": %llu, \"unreplicated\": %llu, \"masters\": %zu}\n",
           (unsigned long long)operations, (double)operations * 1e9 / (double)took_ns,
           (double)histogram_quantile(&latency, 5000) / 1e3,
           (double)histogram_quantile(&latency, 9900) / 1e3, (unsigned long long)failed,
           (unsigned long long)unreplicated, masters_count);
    return failed + unreplicated == 0 ? 0 : 5;
}
