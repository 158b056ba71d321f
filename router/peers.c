#include "router/peers.h"

#include <stdio.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "router/dispatch.h"

/* A question about the map that was not answered for so long is asked again. */
#define MAP_ASKED_MS 200

static bool outstanding(const struct peer *peer)
{
    return peer->sent.count > 0;
}

static void arm(struct coordinator *c, uint32_t node)
{
    const struct peer *peer = &c->peers[node];
    uint64_t next_ms = health_next(&peer->health, outstanding(peer), &c->health_limits);
    uint32_t timer = c->options.slots + node;
    if (next_ms == UINT64_MAX)
        wheel_cancel(&c->wheel, timer);
    else
        wheel_set(&c->wheel, timer, next_ms);
}

static struct effect *send_to(struct coordinator *c, uint32_t node)
{
    struct effect *e = effects_add(c->out, EFFECT_SEND_NODE);
    if (e != NULL)
        e->node = node;
    return e;
}

/* Tell the shell where to connect; kind is CONNECT_NODE or RESET_NODE. */
static void ask_connection(struct coordinator *c, uint32_t node, enum effect_kind kind)
{
    struct peer *peer = &c->peers[node];
    struct effect *e = effects_add(c->out, kind);
    c->connections_owed -= peer->connection_owed;
    peer->connection_owed = e == NULL;
    peer->connection_kind = kind;
    c->connections_owed += peer->connection_owed;
    if (e == NULL)
        return; /* no memory; nobody else would ever ask: see peers_flush() */
    e->node = node;
    snprintf(e->address, sizeof e->address, "%s", peer->address);
}

void peers_flush(struct coordinator *c)
{
    for (uint32_t node = 0; c->connections_owed > 0 && node < c->peers_count; node++)
        if (c->peers[node].connection_owed)
            ask_connection(c, node, c->peers[node].connection_kind);
}

uint32_t peers_add(struct coordinator *c, const char *address)
{
    if (c->peers_count == COORDINATOR_NODES_MAX)
        return NODE_NONE;
    uint32_t node = c->peers_count++;
    struct peer *peer = &c->peers[node];
    *peer = (struct peer){.map_index = NODE_NONE, .unflushed = OPERATION_NONE};
    snprintf(peer->address, sizeof peer->address, "%s", address);
    operation_list_init(&peer->sent);
    health_init(&peer->health, c->now_ms);
    ask_connection(c, node, EFFECT_CONNECT_NODE);
    return node;
}

bool peers_usable(const struct coordinator *c, uint32_t node)
{
    const struct peer *peer = &c->peers[node];
    return peer->health.state == HEALTH_ANSWERING && !peer->foreign;
}

void peers_busy(struct coordinator *c, uint32_t node)
{
    health_busy(&c->peers[node].health, c->now_ms, &c->health_limits);
    arm(c, node);
}

void peers_ask_map(struct coordinator *c, uint32_t node)
{
    struct peer *peer = &c->peers[node];
    if (peer->map_asked && c->now_ms < peer->map_asked_ms + MAP_ASKED_MS)
        return;
    struct effect *e = send_to(c, node);
    if (e == NULL)
        return;
    if (codec_pack_map_request(c->map->version, &e->frame) != STATUS_OK) {
        effects_drop(c->out);
        return;
    }
    peer->map_asked = true;
    peer->map_asked_ms = c->now_ms;
}

static void send_hello(struct coordinator *c, uint32_t node)
{
    struct effect *e = send_to(c, node);
    if (e == NULL)
        return;
    struct hello m = {.protocol_min = PROTOCOL_VERSION,
                      .protocol_max = PROTOCOL_VERSION,
                      .role = ROLE_ROUTER,
                      .boot_id = c->options.boot_id,
                      .ptime = c->ptime,
                      .name = bytes_text(c->name),
                      .software = bytes_text("duet-router"),
                      .operations_max = MESSAGE_OPERATIONS_MAX,
                      .value_size_max = c->options.value_size_max};
    if (!clustermap_empty(c->map))
        m.cluster_id = bytes_of(c->map->cluster_id.octets, sizeof c->map->cluster_id.octets);
    if (codec_pack_hello(MESSAGE_HELLO, &m, &e->frame) != STATUS_OK)
        effects_drop(c->out);
}

static void send_ping(struct coordinator *c, uint32_t node)
{
    struct effect *e = send_to(c, node);
    if (e == NULL)
        return;
    struct ping m = {.nonce = ++c->pings_count,
                     .boot_id = c->options.boot_id,
                     .ptime = c->ptime,
                     .map_version = c->map->version};
    if (codec_pack_ping(MESSAGE_PING, &m, &e->frame) != STATUS_OK)
        effects_drop(c->out);
}

static void fell_silent(struct coordinator *c, uint32_t node)
{
    c->counters.node_silences++;
    core_note(c, NOTE_NODE_SILENT, node, 0, c->peers[node].sent.count);
}

void peers_connected(struct coordinator *c, uint32_t node, bool connected)
{
    if (node >= c->peers_count)
        return;
    struct peer *peer = &c->peers[node];
    if (connected) {
        if (peer->health.state != HEALTH_APART)
            return;
        health_connected(&peer->health, c->now_ms);
        send_hello(c, node);
        if (clustermap_empty(c->map))
            peers_ask_map(c, node);
    } else {
        if (peer->health.state == HEALTH_APART)
            return;
        if (health_apart(&peer->health, c->now_ms))
            fell_silent(c, node);
        peer->map_asked = false;
        dispatch_lose(c, node);
    }
    arm(c, node);
}

/* While operations wait for a node that is silent, others may know who has taken over. */
static void ask_others(struct coordinator *c)
{
    for (uint32_t node = 0; node < c->peers_count; node++)
        if (c->waiting.count > 0 && peers_usable(c, node))
            peers_ask_map(c, node);
}

void peers_timer(struct coordinator *c, uint32_t node, uint64_t due_ms)
{
    struct peer *peer = &c->peers[node];
    /* This process was late itself: what the nodes sent meanwhile may not have been read yet. */
    if (c->now_ms > due_ms + c->options.ping_ms)
        health_forgive(&peer->health, c->now_ms);
    switch (health_tick(&peer->health, c->now_ms, outstanding(peer), &c->health_limits)) {
    case HEALTH_FINE:
        break;
    case HEALTH_PING:
        send_ping(c, node);
        if (peer->health.state == HEALTH_SILENT)
            ask_others(c);
        if (clustermap_empty(c->map))
            peers_ask_map(c, node);
        break;
    case HEALTH_SILENCE:
        /* Whatever waits in the DEALER's queue would be delivered long after: empty it. */
        fell_silent(c, node);
        health_apart(&peer->health, c->now_ms);
        peer->map_asked = false;
        ask_connection(c, node, EFFECT_RESET_NODE);
        dispatch_lose(c, node);
        break;
    }
    arm(c, node);
}

/* ---- What nodes say --------------------------------------------------------------------------*/

static void learn_ptime(struct coordinator *c, uint64_t ptime)
{
    if (ptime > c->ptime)
        c->ptime = ptime;
}

/* Another process than before: it knows nothing of what was on its way to the former one. */
static void learn_boot(struct coordinator *c, uint32_t node, uint64_t boot_id)
{
    struct peer *peer = &c->peers[node];
    bool restarted = peer->boot_id != 0 && peer->boot_id != boot_id;
    peer->boot_id = boot_id;
    if (!restarted)
        return;
    c->counters.node_restarts++;
    core_note(c, NOTE_NODE_RESTARTED, node, 0, peer->sent.count);
    dispatch_lose(c, node);
}

static void set_foreign(struct coordinator *c, uint32_t node, bool foreign)
{
    struct peer *peer = &c->peers[node];
    if (foreign && !peer->foreign)
        core_note(c, NOTE_NODE_FOREIGN, node, 0, 0);
    peer->foreign = foreign;
}

static uint32_t find(const struct coordinator *c, const char *address)
{
    for (uint32_t node = 0; node < c->peers_count; node++)
        if (strcmp(c->peers[node].address, address) == 0)
            return node;
    return NODE_NONE;
}

/* Give each node of the map its peer, by address. */
static void adopt_nodes(struct coordinator *c)
{
    for (uint32_t i = 0; i < c->map->nodes_count; i++) {
        const char *address = c->map->nodes[i].address;
        uint32_t node = c->peer_of[i];
        if (c->map->nodes[i].version == 0 || address[0] == '\0')
            continue;
        if (node != NODE_NONE && strcmp(c->peers[node].address, address) == 0)
            continue;
        if (node != NODE_NONE)
            c->peers[node].map_index = NODE_NONE;
        node = find(c, address);
        if (node == NODE_NONE)
            node = peers_add(c, address);
        c->peer_of[i] = node;
        if (node != NODE_NONE)
            c->peers[node].map_index = i;
    }
}

static void take_map(struct coordinator *c, uint32_t node, const struct map_message *m)
{
    bool changed = false;
    bool first = clustermap_empty(c->map);
    c->peers[node].map_asked = false;
    enum status s = clustermap_join(c->map, m, &changed);
    if (s == STATUS_WRONGCLUSTER) {
        set_foreign(c, node, true);
        return;
    }
    if (s != STATUS_OK) {
        c->counters.node_malformed++;
        core_note(c, NOTE_NODE_MALFORMED, node, 0, 0);
        return;
    }
    if (!changed)
        return;
    c->counters.map_changes++;
    adopt_nodes(c);
    if (!clustermap_empty(c->map))
        core_note(c, first ? NOTE_MAP_FIRST : NOTE_MAP_CHANGED, node, 0, c->map->version);
    dispatch_wake(c, true);
}

static void take_hello(struct coordinator *c, uint32_t node, const struct hello *m)
{
    bool known = !clustermap_empty(c->map) && m->cluster_id.size > 0;
    struct bytes own = bytes_of(c->map->cluster_id.octets, sizeof c->map->cluster_id.octets);
    set_foreign(c, node, known && !bytes_equal(m->cluster_id, own));
    if (!c->peers[node].foreign)
        learn_ptime(c, m->ptime);
    learn_boot(c, node, m->boot_id);
}

static void take_pong(struct coordinator *c, uint32_t node, const struct ping *m)
{
    health_ponged(&c->peers[node].health);
    if (!c->peers[node].foreign)
        learn_ptime(c, m->ptime);
    learn_boot(c, node, m->boot_id);
    if (m->map_version > c->map->version)
        peers_ask_map(c, node);
}

static void take_results(struct coordinator *c, uint32_t node, const struct answer *m)
{
    if (m->owner != c->options.boot_id) {
        c->counters.late += m->count;
        return;
    }
    learn_ptime(c, m->ptime);
    for (size_t i = 0; i < m->count; i++) {
        struct result r = {.status = status_from_wire(m->statuses[i]),
                           .flags = m->flags[i],
                           .version = {m->epochs[i], m->seqs[i]},
                           .value = m->values[i]};
        dispatch_result(c, node, m->ids[i], &r);
    }
}

static enum status results_message(struct coordinator *c, uint32_t node, struct bytes frame)
{
    struct answer m;
    if (c->results_used == CORE_RESULTS_MAX)
        answers_flush(c);
    struct arena *arena = &c->results[c->results_used];
    enum status s = codec_unpack_answer(frame, arena, &m);
    if (s != STATUS_OK)
        return s;
    c->results_used++;
    take_results(c, node, &m);
    return STATUS_OK;
}

static enum status hello_message(struct coordinator *c, uint32_t node, struct bytes frame)
{
    struct hello m;
    enum status s = codec_unpack_hello(frame, &c->scratch, &m);
    if (s == STATUS_OK)
        take_hello(c, node, &m);
    return s;
}

static enum status pong_message(struct coordinator *c, uint32_t node, struct bytes frame)
{
    struct ping m;
    enum status s = codec_unpack_ping(frame, &c->scratch, &m);
    if (s == STATUS_OK)
        take_pong(c, node, &m);
    return s;
}

static enum status map_message(struct coordinator *c, uint32_t node, struct bytes frame)
{
    struct map_message m;
    enum status s = codec_unpack_map(frame, &c->scratch, &m);
    if (s == STATUS_OK)
        take_map(c, node, &m);
    return s;
}

static enum status refused_message(struct coordinator *c, struct bytes frame)
{
    struct refused m;
    enum status s = codec_unpack_refused(frame, &c->scratch, &m);
    if (s == STATUS_OK)
        c->counters.node_refused++;
    return s;
}

static enum status handle(struct coordinator *c, uint32_t node, struct bytes frame)
{
    enum message_kind kind;
    enum status s = codec_peek(frame, &kind);
    if (s != STATUS_OK)
        return s;
    switch ((uint32_t)kind) {
    case MESSAGE_RESULTS:
        return results_message(c, node, frame);
    case MESSAGE_HELLO_REPLY:
        return hello_message(c, node, frame);
    case MESSAGE_PONG:
        return pong_message(c, node, frame);
    case MESSAGE_MAP:
        return map_message(c, node, frame);
    case MESSAGE_REFUSED:
        return refused_message(c, frame);
    default: /* kinds of the wire that a node has no reason to send here, known or not */
        return STATUS_UNSUPPORTED;
    }
}

void peers_message(struct coordinator *c, uint32_t node, struct bytes frame)
{
    if (node >= c->peers_count)
        return;
    struct peer *peer = &c->peers[node];
    enum status s = handle(c, node, frame);
    if (s != STATUS_OK) {
        c->counters.node_malformed++;
        core_note(c, NOTE_NODE_MALFORMED, node, 0, 0);
        return; /* nothing that a node of ours would say: no sign of life */
    }
    uint64_t silent_ms;
    if (health_heard(&peer->health, c->now_ms, &silent_ms)) {
        core_note(c, NOTE_NODE_BACK, node, 0, silent_ms);
        dispatch_wake(c, false);
        arm(c, node);
    }
}
