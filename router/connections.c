#include "router/connections.h"

#include <stdlib.h>
#include <uthash.h>

struct entry {
    struct connection connection; /* first: the address of one is that of the other */
    UT_hash_handle by_peer, by_source;
};

struct connections {
    struct entry *by_peer, *by_source;
    size_t count_max;
    uint64_t sources_drawn;
};

struct connections *connections_new(size_t count_max)
{
    struct connections *c = calloc(1, sizeof *c);
    if (c != NULL)
        c->count_max = count_max;
    return c;
}

static void entry_remove(struct connections *c, struct entry *e)
{
    HASH_DELETE(by_peer, c->by_peer, e);
    HASH_DELETE(by_source, c->by_source, e);
    free(e);
}

void connections_destroy(struct connections **c_p)
{
    struct connections *c = *c_p;
    struct entry *e, *next;
    if (c == NULL)
        return;
    HASH_ITER(by_source, c->by_source, e, next)
    {
        entry_remove(c, e);
    }
    free(c);
    *c_p = NULL;
}

struct connection *connections_by_peer(struct connections *c, const struct link_peer *peer,
                                       uint64_t now_ms)
{
    struct entry *e;
    HASH_FIND(by_peer, c->by_peer, peer, sizeof *peer, e);
    if (e == NULL) {
        if (connections_count(c) >= c->count_max)
            return NULL;
        e = calloc(1, sizeof *e);
        if (e == NULL)
            return NULL;
        e->connection.peer = *peer;
        e->connection.source = ++c->sources_drawn;
        HASH_ADD(by_peer, c->by_peer, connection.peer, sizeof e->connection.peer, e);
        HASH_ADD(by_source, c->by_source, connection.source, sizeof e->connection.source, e);
    }
    e->connection.used_ms = now_ms;
    return &e->connection;
}

struct connection *connections_by_source(struct connections *c, uint64_t source)
{
    struct entry *e;
    HASH_FIND(by_source, c->by_source, &source, sizeof source, e);
    return e == NULL ? NULL : &e->connection;
}

void connections_remove(struct connections *c, struct connection *connection)
{
    entry_remove(c, (struct entry *)(void *)connection);
}

void connections_sweep(struct connections *c, uint64_t now_ms)
{
    struct entry *e, *next;
    HASH_ITER(by_source, c->by_source, e, next)
    {
        if (now_ms >= e->connection.used_ms + CONNECTIONS_IDLE_MS)
            entry_remove(c, e);
    }
}

size_t connections_count(const struct connections *c)
{
    return HASH_CNT(by_source, c->by_source);
}
