#include "router/report.h"

#include <stdio.h>

#include "proto/codec.h"

#define NODE_VALUES    3
#define COUNTERS_COUNT (sizeof(struct coordinator_counters) / sizeof(uint64_t))
#define TEXT_SIZE_MAX  (ADDRESS_SIZE_MAX + 32)

const char *report_node_name(const struct coordinator *c, uint32_t node)
{
    if (node >= c->peers_count)
        return "";
    const struct peer *peer = &c->peers[node];
    if (peer->map_index != NODE_NONE && c->map->nodes[peer->map_index].name[0] != '\0')
        return c->map->nodes[peer->map_index].name;
    return peer->address;
}

static const struct {
    const char *name;
} counter_names[] = {
#define X(counter, words) {#counter},
    COORDINATOR_COUNTERS(X)
#undef X
};

_Static_assert(sizeof counter_names / sizeof counter_names[0] == COUNTERS_COUNT, "one name each");

static bool put(struct coordinator *c, struct status_message *m, const char *name, uint64_t value)
{
    size_t size = strlen(name);
    uint8_t *copy = arena_alloc(&c->scratch, size);
    if (copy == NULL)
        return false;
    memcpy(copy, name, size);
    m->names[m->count] = bytes_of(copy, size);
    m->values[m->count++] = value;
    return true;
}

static bool put_counters(struct coordinator *c, struct status_message *m)
{
    uint64_t values[COUNTERS_COUNT];
    memcpy(values, &c->counters, sizeof values);
    for (size_t i = 0; i < COUNTERS_COUNT; i++)
        if (!put(c, m, counter_names[i].name, values[i]))
            return false;
    return put(c, m, "map_version", c->map->version) && put(c, m, "ptime", c->ptime);
}

static bool put_node(struct coordinator *c, struct status_message *m, uint32_t node)
{
    const struct peer *peer = &c->peers[node];
    bool up = peer->health.state == HEALTH_ANSWERING;
    const uint64_t values[NODE_VALUES] = {up, up ? 0 : c->now_ms - peer->health.silent_since_ms,
                                          peer->sent.count};
    static const char *const endings[NODE_VALUES] = {"up", "silent_ms", "outstanding"};
    for (size_t i = 0; i < NODE_VALUES; i++) {
        char name[TEXT_SIZE_MAX];
        snprintf(name, sizeof name, "node.%s.%s", report_node_name(c, node), endings[i]);
        if (!put(c, m, name, values[i]))
            return false;
    }
    return true;
}

enum status report_pack(struct coordinator *c, struct buffer *out)
{
    size_t room = COUNTERS_COUNT + 2 + (size_t)NODE_VALUES * c->peers_count;
    arena_reset(&c->scratch, room * (TEXT_SIZE_MAX + 64));
    struct status_message m = {.name = bytes_text(c->name), .role = bytes_text("router")};
    m.names = arena_calloc(&c->scratch, room, sizeof *m.names);
    m.values = arena_calloc(&c->scratch, room, sizeof *m.values);
    if (m.names == NULL || m.values == NULL || !put_counters(c, &m))
        return STATUS_NOMEMORY;
    for (uint32_t node = 0; node < c->peers_count; node++)
        if (!put_node(c, &m, node))
            return STATUS_NOMEMORY;
    return codec_pack_status(&m, out);
}
