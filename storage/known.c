#include "storage/known.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"

/* The record, and each node in the saved state: u32 node, u32 0, u64 disk, u64 incarnation. The
 * saved state: u32 count, u32 0, then the nodes. */
#define KNOWN_SIZE 24u
#define HEAD_SIZE  8u

#define GOES_ON_MS 1000u /* a life that did nothing but live is remembered after so long */

enum status known_init(struct core *c)
{
    c->known = calloc(NODES_MAX, sizeof *c->known);
    return c->known == NULL ? STATUS_NOMEMORY : STATUS_OK;
}

void known_fini(struct core *c)
{
    free(c->known);
    c->known = NULL;
}

static void encode(const struct core *c, uint32_t node, uint8_t to[static KNOWN_SIZE])
{
    bytes_put_le32(to, node);
    bytes_put_le32(to + 4, 0);
    bytes_put_le64(to + 8, c->known[node].disk);
    bytes_put_le64(to + 16, c->known[node].incarnation);
}

static enum status decode(struct core *c, const uint8_t *at)
{
    uint32_t node = bytes_le32(at);
    if (node >= NODES_MAX)
        return STATUS_CORRUPT;
    c->known[node] = (struct known){.disk = bytes_le64(at + 8), .incarnation = bytes_le64(at + 16)};
    return STATUS_OK;
}

enum status known_save(const struct core *c, struct buffer *out)
{
    uint8_t *at = buffer_reserve(out, HEAD_SIZE + c->peers_count * KNOWN_SIZE);
    if (at == NULL)
        return STATUS_NOMEMORY;
    bytes_put_le32(at, c->peers_count);
    bytes_put_le32(at + 4, 0);
    for (uint32_t i = 0; i < c->peers_count; i++)
        encode(c, i, at + HEAD_SIZE + i * KNOWN_SIZE);
    return STATUS_OK;
}

enum status known_restore(struct core *c, struct bytes *blob)
{
    uint32_t count = blob->size < HEAD_SIZE ? 0 : bytes_le32(blob->data);
    if (count == 0 || count > NODES_MAX || blob->size < HEAD_SIZE + count * KNOWN_SIZE)
        return STATUS_CORRUPT;
    for (uint32_t i = 0; i < count; i++)
        if (decode(c, blob->data + HEAD_SIZE + i * KNOWN_SIZE) != STATUS_OK)
            return STATUS_CORRUPT;
    size_t size = HEAD_SIZE + count * KNOWN_SIZE;
    *blob = bytes_of(blob->data + size, blob->size - size);
    return STATUS_OK;
}

enum status known_replay(struct core *c, struct bytes body)
{
    return body.size < KNOWN_SIZE ? STATUS_CORRUPT : decode(c, body.data);
}

static void note(struct core *c, uint32_t node, uint64_t disk, uint64_t incarnation)
{
    uint8_t body[KNOWN_SIZE];
    struct known *k = &c->known[node];
    k->disk = disk;
    k->incarnation = incarnation;
    encode(c, node, body);
    k->lsn = core_record(c, RECORD_KNOWN, 0, bytes_of(body, sizeof body));
    c->known_changed = true;
}

/* ------------------------------------------------------------------ meeting */

static bool alone_votes(const struct core *c)
{
    const struct clustermap_voters *v = &c->map->voters;
    return v->next_count == 0 && v->count == 1 && v->nodes[0] == c->options.index;
}

bool known_met(const struct core *c)
{
    bool nobody_else = alone_votes(c) && c->peers_count == 1;
    return c->known[c->options.index].incarnation > 0 || nobody_else || MUTANT(22);
}

/* How many of these have our disk on theirs? */
static uint32_t count_knowing(const struct core *c, const uint32_t *nodes, uint32_t count)
{
    uint32_t knowing = 0;
    for (uint32_t i = 0; i < count; i++)
        knowing += nodes[i] < c->peers_count && c->known[nodes[i]].knows_us;
    return knowing;
}

/* Those who know a former disk are a majority of the voters, too. Who votes alone asks anybody. */
static bool enough(const struct core *c)
{
    const struct clustermap_voters *v = &c->map->voters;
    bool anybody = false;
    for (uint32_t i = 0; i < c->peers_count; i++)
        anybody = anybody || c->known[i].knows_us;
    if (alone_votes(c))
        return anybody;
    return count_knowing(c, v->nodes, v->count) > v->count / 2 &&
           (v->next_count == 0 || count_knowing(c, v->next, v->next_count) > v->next_count / 2);
}

static void consider_met(struct core *c)
{
    if (known_met(c) || !enough(c))
        return;
    c->counters.met++;
    note(c, c->options.index, c->options.disk, 1);
}

/* ------------------------------------------------------------------ heartbeats */

bool known_heard(struct core *c, const struct heartbeat *h)
{
    struct known *k = &c->known[h->sender];
    bool other_disk = h->target_disk != 0 && h->target_disk != c->options.disk;
    bool unknown_life = h->target_disk == c->options.disk && h->target_seen > c->options.former &&
                        h->target_seen != c->options.incarnation;
    if (other_disk && !MUTANT(22)) {
        core_replaced(c);
        return false;
    }
    if (unknown_life && !MUTANT(23)) {
        core_outlived(c, h->target_seen);
        return false;
    }
    bool strange = k->disk != 0 && k->disk != h->disk && !MUTANT(22);
    bool old = k->disk == h->disk && k->incarnation > h->former &&
               k->incarnation != h->incarnation && !MUTANT(23);
    if (strange || old) {
        c->counters.disks_refused++;
        return false;
    }
    const struct peer *peer = &c->peers[h->sender];
    bool goes_on =
        h->incarnation == peer->incarnation && c->now_ms >= peer->born_ms + GOES_ON_MS;
    if (k->disk != h->disk || (goes_on && k->incarnation < h->incarnation))
        note(c, h->sender, h->disk, h->incarnation);
    k->knows_us = h->target_disk == c->options.disk;
    consider_met(c);
    return true;
}

void known_recorded(struct core *c, uint32_t node, uint64_t disk)
{
    if (c->known[node].disk != disk)
        note(c, node, disk, 0);
}

void known_acts(struct core *c, uint32_t node)
{
    const struct known *k = &c->known[node];
    if (k->incarnation < c->peers[node].incarnation)
        note(c, node, k->disk, c->peers[node].incarnation);
}

void known_tell(const struct core *c, uint32_t node, struct heartbeat *h)
{
    const struct known *k = &c->known[node];
    h->disk = c->options.disk;
    h->former = c->options.former;
    if (k->lsn <= c->durable_lsn) {
        h->target_disk = k->disk;
        h->target_seen = k->incarnation;
    }
}
