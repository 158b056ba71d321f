/* Bench: what a write costs in the brains of its two nodes: no socket, no disk, no thread. Three nodes
 * over tables in memory (tests/lib/pair.h); requests come and answers go as encoded messages.
 *
 *   bench_node [WRITES [CONNECTIONS [IN-FLIGHT [BATCH]]]]     default: 1000000 50 16 32
 *
 * Keys of 16 bytes, one in 100,000, values of 100. In a turn a node takes a request message of BATCH
 * operations on average, what the others sent it and what is durable. Prints CPU time of a write,
 * with that of the bench itself (packing requests, reading answers): for perf, and to compare with
 * itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "proto/partition.h"
#include "tests/lib/pair.h"
#include "tests/sim/random.h"

#define PARTITIONS 1024
#define KEYS 100000
#define KEY_SIZE 16
#define VALUE_SIZE 100
#define IN_FLIGHT_MAX 512
#define BATCH_MAX 256
#define BATCHES (BATCH_MAX * PAIR_NODES_MAX) /* all of a turn may be for one node */

struct key {
    char name[KEY_SIZE + 1];
    uint64_t digest;
};

struct client {
    uint64_t id, next, below; /* below: all operations below it are answered */
    bool answered[IN_FLIGHT_MAX]; /* by seq, cyclic: from below on */
};

/* A node's next request message. */
struct request_batch {
    size_t count;
    uint64_t tokens[BATCHES], digests[BATCHES], epochs[BATCHES], clients[BATCHES];
    uint64_t seqs[BATCHES], ack_belows[BATCHES], ptimes[BATCHES];
    uint32_t kinds[BATCHES], deadlines[BATCHES];
    struct bytes keys[BATCHES], operations[BATCHES];
};

struct bench {
    struct pair pair;
    struct key *keys;
    struct client *clients;
    unsigned connections, in_flight, batch;
    struct request_batch next[PAIR_NODES_MAX];
    struct buffer operation; /* the one that all send */
    struct node_effect *wire;
    size_t wire_count, wire_capacity;
    struct random random;
    uint64_t done;
    unsigned turn; /* whose it is to ask */
};

static struct node_time now(const struct bench *b)
{
    return (struct node_time){b->pair.now_ms, PAIR_WALL_MS + b->pair.now_ms};
}

static void answered(struct bench *b, uint64_t token)
{
    struct client *c = &b->clients[token >> 40];
    uint64_t seq = token & (((uint64_t)1 << 40) - 1);
    c->answered[seq % IN_FLIGHT_MAX] = true;
    while (c->below < c->next && c->answered[c->below % IN_FLIGHT_MAX])
        c->answered[c->below++ % IN_FLIGHT_MAX] = false;
    b->done++;
}

static void take_answer(struct bench *b, struct bytes frame)
{
    struct arena arena;
    struct answer a;
    enum message_kind kind;
    arena_init(&arena);
    ENSURE(codec_peek(frame, &kind) == STATUS_OK && kind == MESSAGE_RESULTS);
    ENSURE(codec_unpack_answer(frame, &arena, &a) == STATUS_OK);
    for (size_t i = 0; i < a.count; i++) {
        ENSURE(status_from_wire(a.statuses[i]) == STATUS_OK);
        answered(b, a.ids[i]);
    }
    arena_fini(&arena);
}

static void to_wire(struct bench *b, struct node_effect *e)
{
    if (b->wire_count == b->wire_capacity) {
        b->wire_capacity = b->wire_capacity == 0 ? 256 : 2 * b->wire_capacity;
        b->wire = realloc(b->wire, b->wire_capacity * sizeof *b->wire);
        ENSURE(b->wire != NULL);
    }
    b->wire[b->wire_count++] = *e;
    buffer_init(&e->frame, 1);
}

static void carry_out(struct bench *b, uint32_t node, struct node_effects *out)
{
    b->pair.nodes[node].appended += out->records_count;
    for (size_t i = 0; i < out->count; i++) {
        struct node_effect *e = &out->list[i];
        ENSURE(e->kind == NODE_SEND_SOURCE || e->kind == NODE_SEND_PEER);
        if (e->kind == NODE_SEND_SOURCE)
            take_answer(b, buffer_view(&e->frame));
        else
            to_wire(b, e);
    }
    node_effects_clear(out);
}

static void step(struct bench *b, uint32_t node, const struct node_event *event,
                 struct node_effects *out)
{
    struct node_time time = now(b);
    ENSURE(node_step(b->pair.nodes[node].node, &time, event, out) == STATUS_OK);
}

static void send_batch(struct bench *b, uint32_t node, struct node_effects *out)
{
    struct request_batch *r = &b->next[node];
    if (r->count == 0)
        return;
    struct batch m = {1, r->count, r->tokens, r->kinds, r->digests, r->epochs, r->clients, r->seqs,
                      r->ack_belows, r->ptimes, r->deadlines, r->keys, r->operations};
    struct buffer frame;
    buffer_init(&frame, 1 << 23);
    ENSURE(codec_pack_batch(&m, &frame) == STATUS_OK);
    struct node_event event = {.kind = NODE_REQUEST, .source = 1, .frame = buffer_view(&frame)};
    step(b, node, &event, out);
    buffer_fini(&frame);
    r->count = 0;
}

static void ask(struct bench *b, struct client *c)
{
    const struct key *key = &b->keys[random_next(&b->random) % KEYS];
    const struct clustermap *map = b->pair.nodes[0].map;
    uint32_t node = map->partitions[partition_of(key->digest, PARTITIONS)].primary;
    struct request_batch *r = &b->next[node];
    size_t i = r->count++;
    r->tokens[i] = (uint64_t)(c - b->clients) << 40 | c->next;
    r->kinds[i] = KIND_WRITE;
    r->digests[i] = key->digest;
    r->epochs[i] = r->ptimes[i] = 0;
    r->clients[i] = c->id;
    r->seqs[i] = c->next++;
    r->ack_belows[i] = c->below;
    r->deadlines[i] = 5000;
    r->keys[i] = bytes_of(key->name, KEY_SIZE);
    r->operations[i] = buffer_view(&b->operation);
}

/* The clients' turns go round, so that none is always the last. */
static void ask_all(struct bench *b)
{
    unsigned left = b->batch * PAIR_NODES_MAX;
    for (unsigned idle = 0; left > 0 && idle < b->connections; b->turn++) {
        struct client *c = &b->clients[b->turn % b->connections];
        idle = c->next - c->below < b->in_flight ? 0 : idle + 1;
        if (idle > 0)
            continue;
        ask(b, c);
        left--;
    }
}

static void deliver(struct bench *b, struct node_effects *outs)
{
    struct node_effect *arriving = b->wire;
    size_t count = b->wire_count;
    b->wire = NULL;
    b->wire_count = b->wire_capacity = 0;
    for (size_t i = 0; i < count; i++) {
        struct node_event event = {.kind = NODE_PEER, .frame = buffer_view(&arriving[i].frame)};
        step(b, arriving[i].peer, &event, &outs[arriving[i].peer]);
        buffer_fini(&arriving[i].frame);
    }
    free(arriving);
}

static void end_turn(struct bench *b, uint32_t node, struct node_effects *out)
{
    struct pair_node *n = &b->pair.nodes[node];
    struct node_time time = now(b);
    if (n->appended > n->durable) {
        n->durable = n->appended;
        struct node_event event = {.kind = NODE_DURABLE, .lsn = n->durable};
        step(b, node, &event, out);
    }
    ENSURE(node_flush(n->node, &time, out) == STATUS_OK);
    carry_out(b, node, out);
}

static void round_of_all(struct bench *b)
{
    struct node_effects outs[PAIR_NODES_MAX];
    b->pair.now_ms++;
    for (uint32_t i = 0; i < PAIR_NODES_MAX; i++)
        node_effects_init(&outs[i]);
    deliver(b, outs);
    ask_all(b);
    for (uint32_t i = 0; i < PAIR_NODES_MAX; i++) {
        send_batch(b, i, &outs[i]);
        end_turn(b, i, &outs[i]);
        node_effects_fini(&outs[i]);
    }
}

static void make(struct bench *b)
{
    static const uint8_t value[VALUE_SIZE] = "value";
    struct write w = {.mutation = MUTATION_PUT, .value = bytes_of(value, VALUE_SIZE)};
    pair_init_three(&b->pair, PARTITIONS, 0);
    pair_run(&b->pair, 3000); /* all epochs are open */
    b->pair.answers_count = 0;
    random_init(&b->random, 1);
    b->keys = calloc(KEYS, sizeof *b->keys);
    b->clients = calloc(b->connections, sizeof *b->clients);
    ENSURE(b->keys != NULL && b->clients != NULL);
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(b->keys[i].name, sizeof b->keys[i].name, "bench:%010u", i);
        b->keys[i].digest = partition_digest(bytes_of(b->keys[i].name, KEY_SIZE));
    }
    for (unsigned i = 0; i < b->connections; i++)
        b->clients[i] = (struct client){.id = random_next(&b->random) | 1, .next = 1, .below = 1};
    buffer_init(&b->operation, 1 << 20);
    ENSURE(codec_pack_write(&w, &b->operation) == STATUS_OK);
}

static unsigned argument(int argc, char **argv, int n, unsigned fallback, unsigned most)
{
    unsigned long value = argc > n ? strtoul(argv[n], NULL, 10) : fallback;
    ENSURE(value > 0 && value <= most);
    return (unsigned)value;
}

int main(int argc, char **argv)
{
    static struct bench b;
    unsigned writes = argument(argc, argv, 1, 1000000, UINT32_MAX);
    b.connections = argument(argc, argv, 2, 50, 4096);
    b.in_flight = argument(argc, argv, 3, 16, IN_FLIGHT_MAX - 1);
    b.batch = argument(argc, argv, 4, 32, BATCH_MAX);
    make(&b);
    while (b.done < writes / 4) /* all partitions know all clients */
        round_of_all(&b);
    uint64_t done = b.done;
    clock_t began = clock();
    while (b.done - done < writes)
        round_of_all(&b);
    double us = 1e6 * (double)(clock() - began) / CLOCKS_PER_SEC;
    printf("%.3f us a write\n", us / (double)(b.done - done));
    return 0;
}
