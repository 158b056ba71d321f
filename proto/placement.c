/* How it is done.
 *
 * Each partition has a cost at each node: -log2(u) / weight, where u in (0, 1) is drawn from
 * SHA-256(partition, node id). The lowest costs win; a node then wins in proportion to its weight,
 * and a node that comes or goes changes no order among the others.
 *
 * The bound on load is kept by deferred acceptance: partitions ask at the nodes where they cost
 * least; a node that was asked too often keeps those that cost least there and turns the others
 * away, which ask elsewhere. The result does not depend on the order of asking, and a change at
 * one node spreads only as far as nodes are full.
 *
 * A partition is led where it costs least; while a node leads too many, leadership is handed on
 * along the shortest chain of shared partitions that ends at a node with room.
 *
 * All arithmetic is on integers. Inside, nodes with weight are "seats", in the order of their ids,
 * so that the caller's order does not matter.
 */
#include "proto/placement.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/partition.h"

#define NONE UINT32_MAX
#define SHARE_BITS 20 /* shares are fixed-point numbers with so many bits below the point */
#define LOG_BITS 32   /* and so are logarithms */
#define COST_SHIFT 25 /* of a logarithm, before it is divided by the weight */

struct seat {
    struct id128 id;
    uint32_t index; /* in the caller's array */
    uint32_t weight;
    uint32_t host, rack; /* numbers from 0 up; a host is in one rack */

    uint64_t share;                       /* copies due to it, fixed-point */
    uint32_t copies_count, copies_max;    /* those it has, and the bound */
    uint32_t *held;                       /* copies_count partitions, room for copies_max */
    uint32_t primaries_count, primaries_max;
};

/* The copies of one partition, as seats. */
struct spread {
    uint32_t count;
    uint32_t seats[COPIES_MAX];
};

struct placement {
    uint32_t seats_count, hosts_count, racks_count;
    uint32_t partition_count;
    uint32_t copies;                           /* of each partition */
    uint32_t host_copies_max, rack_copies_max; /* of each partition on one host, in one rack */
    struct seat *seats;
    uint32_t *rack_of_host;
    uint64_t *costs;        /* by cell() */
    bool *turned_away;      /* by cell(): the seat does not want the partition */
    struct spread *spreads; /* of each partition */
    uint32_t *held;         /* memory of all seats' held */
};

static size_t cell(const struct placement *pl, uint32_t partition, uint32_t seat)
{
    return (size_t)partition * pl->seats_count + seat;
}

/* ---- Costs -----------------------------------------------------------------------------------*/

/* -log2(h / 2^64), fixed-point, above 0. Squaring a number in [1, 2) doubles its logarithm:
 * whether the square reaches 2 is the logarithm's next bit. */
static uint64_t minus_log2(uint64_t h)
{
    if (h == 0)
        h = 1;
    unsigned zeros = (unsigned)__builtin_clzll(h);
    uint64_t x = h << zeros; /* in [1, 2), with 63 bits below the point */
    uint64_t fraction = 0;
    for (int i = 0; i < LOG_BITS; i++) {
        unsigned __int128 square = (unsigned __int128)x * x >> 63;
        unsigned bit = (unsigned)(square >> 64);
        x = (uint64_t)(square >> bit);
        fraction = fraction << 1 | bit;
    }
    return ((uint64_t)(zeros + 1) << LOG_BITS) - fraction;
}

static uint64_t cost_of(uint32_t partition, const struct seat *seat)
{
    uint8_t input[4 + sizeof seat->id], sha256[32];
    bytes_put_be32(input, partition);
    memcpy(input + 4, &seat->id, sizeof seat->id);
    partition_sha256(bytes_of(input, sizeof input), sha256);
    return (minus_log2(bytes_be64(sha256)) << COST_SHIFT) / seat->weight;
}

static void fill_costs(struct placement *pl)
{
    for (uint32_t p = 0; p < pl->partition_count; p++)
        for (uint32_t s = 0; s < pl->seats_count; s++)
            pl->costs[cell(pl, p, s)] = cost_of(p, &pl->seats[s]);
}

/* Does partition cost less at seat a than at seat b? */
static bool cheaper_at(const struct placement *pl, uint32_t partition, uint32_t a, uint32_t b)
{
    uint64_t cost_a = pl->costs[cell(pl, partition, a)];
    uint64_t cost_b = pl->costs[cell(pl, partition, b)];
    return cost_a != cost_b ? cost_a < cost_b : a < b;
}

/* ---- Hosts and racks -------------------------------------------------------------------------*/

/* Give hosts and racks numbers from 0 up. A host's rack is that of its first seat. */
static void number_domains(struct placement *pl, const struct placement_node *nodes)
{
    for (uint32_t i = 0; i < pl->seats_count; i++) {
        const struct placement_node *node = &nodes[pl->seats[i].index];
        uint32_t host = NONE, rack = NONE;
        for (uint32_t j = 0; j < i; j++) {
            const struct placement_node *other = &nodes[pl->seats[j].index];
            if (host == NONE && other->host == node->host)
                host = pl->seats[j].host;
            if (rack == NONE && other->rack == node->rack)
                rack = pl->seats[j].rack;
        }
        if (host == NONE) {
            host = pl->hosts_count++;
            pl->rack_of_host[host] = rack == NONE ? pl->racks_count++ : rack;
        }
        pl->seats[i].host = host;
        pl->seats[i].rack = pl->rack_of_host[host];
    }
}

/* The smallest limit for which sum(min(limit, sizes[i])) reaches need. */
static uint32_t smallest_limit(const uint32_t *sizes, uint32_t sizes_count, uint32_t need)
{
    for (uint32_t limit = 1; limit <= COPIES_MAX; limit++) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < sizes_count; i++)
            sum += sizes[i] < limit ? sizes[i] : limit;
        if (sum >= need)
            return limit;
    }
    ENSURE_UNREACHABLE();
}

/* Spread copies as widely as there are hosts for it, then as widely as there are racks. */
static void limit_domains(struct placement *pl)
{
    uint32_t sizes[NODES_MAX] = {0}, rack_sizes[NODES_MAX] = {0};
    for (uint32_t i = 0; i < pl->seats_count; i++)
        sizes[pl->seats[i].host]++;
    pl->host_copies_max = smallest_limit(sizes, pl->hosts_count, pl->copies);
    for (uint32_t h = 0; h < pl->hosts_count; h++)
        rack_sizes[pl->rack_of_host[h]] +=
            sizes[h] < pl->host_copies_max ? sizes[h] : pl->host_copies_max;
    pl->rack_copies_max = smallest_limit(rack_sizes, pl->racks_count, pl->copies);
}

/* ---- Shares ----------------------------------------------------------------------------------*/

/* What each seat, host and rack gets when a weight of 1 gets rate. */
struct filling {
    uint64_t seats[NODES_MAX], hosts[NODES_MAX], racks[NODES_MAX];
    uint64_t total;
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A seat cannot hold more than each partition once, a host or rack no more than its limit. */
static void fill(const struct placement *pl, unsigned __int128 rate, struct filling *ret)
{
    *ret = (struct filling){0};
    const uint64_t all = (uint64_t)pl->partition_count << SHARE_BITS;
    for (uint32_t i = 0; i < pl->seats_count; i++) {
        unsigned __int128 wanted = rate * pl->seats[i].weight >> 32;
        ret->seats[i] = wanted < all ? (uint64_t)wanted : all;
        ret->hosts[pl->seats[i].host] += ret->seats[i];
    }
    for (uint32_t h = 0; h < pl->hosts_count; h++)
        ret->racks[pl->rack_of_host[h]] += least(ret->hosts[h], all * pl->host_copies_max);
    for (uint32_t r = 0; r < pl->racks_count; r++)
        ret->total += least(ret->racks[r], all * pl->rack_copies_max);
}

static uint64_t scaled(uint64_t value, uint64_t part, uint64_t whole)
{
    return part >= whole ? value : (uint64_t)((unsigned __int128)value * part / whole);
}

/* The seats' fair shares: by weight, as far as hosts and racks allow, and together all copies. */
static void set_shares(struct placement *pl, struct filling *f)
{
    const uint64_t all = (uint64_t)pl->partition_count << SHARE_BITS;
    unsigned __int128 low = 0, high = (unsigned __int128)all << 32;
    while (low < high) {
        unsigned __int128 middle = low + (high - low) / 2;
        fill(pl, middle, f);
        if (f->total >= all * pl->copies)
            high = middle;
        else
            low = middle + 1;
    }
    fill(pl, high, f);
    for (uint32_t i = 0; i < pl->seats_count; i++) {
        struct seat *seat = &pl->seats[i];
        uint64_t host = least(f->hosts[seat->host], all * pl->host_copies_max);
        seat->share = scaled(f->seats[i], host, f->hosts[seat->host]);
        seat->share =
            scaled(seat->share, all * pl->rack_copies_max, f->racks[seat->rack]);
    }
}

/* The most that a share allows: 5 % more, or one more. */
static uint32_t bound(uint64_t share, uint32_t partition_count)
{
    uint64_t percent = share + share / 20;
    uint64_t one = share + (1u << SHARE_BITS);
    return (uint32_t)least((percent > one ? percent : one) >> SHARE_BITS, partition_count);
}

/* ---- Copies ----------------------------------------------------------------------------------*/

/* May partition get a copy at seat s, if the copy at seat except (or NONE) were not there? */
static bool fits(const struct placement *pl, uint32_t partition, uint32_t s, uint32_t except)
{
    const struct spread *spread = &pl->spreads[partition];
    uint32_t same_host = 0, same_rack = 0;
    for (uint32_t i = 0; i < spread->count; i++) {
        const uint32_t other = spread->seats[i];
        if (other == except)
            continue;
        if (other == s)
            return false;
        same_host += pl->seats[other].host == pl->seats[s].host;
        same_rack += pl->seats[other].rack == pl->seats[s].rack;
    }
    return same_host < pl->host_copies_max && same_rack < pl->rack_copies_max;
}

/* The seat where partition asks next; NONE when all that fit have turned it away. */
static uint32_t next_seat(const struct placement *pl, uint32_t partition)
{
    uint32_t best = NONE;
    for (uint32_t s = 0; s < pl->seats_count; s++) {
        if (pl->turned_away[cell(pl, partition, s)])
            continue;
        if (best != NONE && !cheaper_at(pl, partition, s, best))
            continue;
        if (fits(pl, partition, s, NONE))
            best = s;
    }
    return best;
}

static void spread_add(struct spread *spread, uint32_t s)
{
    ENSURE(spread->count < COPIES_MAX);
    spread->seats[spread->count++] = s;
}

static void spread_remove(struct spread *spread, uint32_t s)
{
    uint32_t i = 0;
    while (spread->seats[i] != s)
        i++;
    ENSURE(i < spread->count);
    spread->seats[i] = spread->seats[--spread->count];
}

/* Where in seat s's held the partition stands that costs most there. */
static uint32_t dearest_held(const struct placement *pl, uint32_t s)
{
    const struct seat *seat = &pl->seats[s];
    uint32_t dearest = 0;
    for (uint32_t i = 1; i < seat->copies_count; i++) {
        uint64_t cost = pl->costs[cell(pl, seat->held[i], s)];
        uint64_t most = pl->costs[cell(pl, seat->held[dearest], s)];
        if (cost > most || (cost == most && seat->held[i] > seat->held[dearest]))
            dearest = i;
    }
    return dearest;
}

/* Seat s takes partition. Returns the partition that it turns away for that; NONE when it has room.
 */
static uint32_t accept(struct placement *pl, uint32_t partition, uint32_t s)
{
    struct seat *seat = &pl->seats[s];
    if (seat->copies_count < seat->copies_max) {
        seat->held[seat->copies_count++] = partition;
        spread_add(&pl->spreads[partition], s);
        return NONE;
    }
    uint32_t at = dearest_held(pl, s);
    uint32_t dearest = seat->held[at];
    uint64_t cost = pl->costs[cell(pl, partition, s)];
    uint64_t most = pl->costs[cell(pl, dearest, s)];
    if (cost > most || (cost == most && partition > dearest)) {
        pl->turned_away[cell(pl, partition, s)] = true;
        return partition;
    }
    pl->turned_away[cell(pl, dearest, s)] = true;
    spread_remove(&pl->spreads[dearest], s);
    spread_add(&pl->spreads[partition], s);
    seat->held[at] = partition;
    return dearest;
}

/* Let partition, and whoever is turned away for it, ask until all have their copies or nobody is
 * left to ask. */
static void ask(struct placement *pl, uint32_t partition)
{
    while (partition != NONE && pl->spreads[partition].count < pl->copies) {
        uint32_t s = next_seat(pl, partition);
        if (s == NONE)
            return;
        uint32_t turned_away = accept(pl, partition, s);
        if (turned_away != NONE)
            partition = turned_away;
    }
}

/* ---- What is left ----------------------------------------------------------------------------*/

/* A copy that makes room: partition moves from one seat to another. */
struct move {
    uint32_t partition, from, to;
};

/* All seats that fit partition are full, though others have room: find a copy of another partition
 * to move from the ones to the others. The cheapest; false when there is none. */
static bool find_move(const struct placement *pl, uint32_t partition, struct move *ret)
{
    uint64_t least_cost = UINT64_MAX;
    for (uint32_t q = 0; q < pl->partition_count; q++) {
        for (uint32_t i = 0; i < pl->spreads[q].count; i++) {
            uint32_t from = pl->spreads[q].seats[i];
            if (q == partition || !fits(pl, partition, from, NONE))
                continue;
            for (uint32_t to = 0; to < pl->seats_count; to++) {
                if (pl->seats[to].copies_count >= pl->seats[to].copies_max ||
                    pl->costs[cell(pl, q, to)] >= least_cost || !fits(pl, q, to, from))
                    continue;
                least_cost = pl->costs[cell(pl, q, to)];
                *ret = (struct move){q, from, to};
            }
        }
    }
    return least_cost != UINT64_MAX;
}

/* The seat that fits partition and is least above its bound. */
static uint32_t least_crowded(const struct placement *pl, uint32_t partition)
{
    uint32_t best = NONE;
    int64_t best_excess = INT64_MAX;
    for (uint32_t s = 0; s < pl->seats_count; s++) {
        int64_t excess = (int64_t)pl->seats[s].copies_count - pl->seats[s].copies_max;
        if (excess < best_excess && fits(pl, partition, s, NONE)) {
            best = s;
            best_excess = excess;
        }
    }
    ENSURE(best != NONE);
    return best;
}

/* From here on held is no longer kept. */
static void place_left_over(struct placement *pl, uint32_t partition)
{
    while (pl->spreads[partition].count < pl->copies) {
        uint32_t s = least_crowded(pl, partition);
        struct move move;
        if (pl->seats[s].copies_count >= pl->seats[s].copies_max &&
            find_move(pl, partition, &move)) {
            spread_remove(&pl->spreads[move.partition], move.from);
            spread_add(&pl->spreads[move.partition], move.to);
            pl->seats[move.from].copies_count--;
            pl->seats[move.to].copies_count++;
            s = move.from;
        }
        spread_add(&pl->spreads[partition], s);
        pl->seats[s].copies_count++;
    }
}

static void place_copies(struct placement *pl)
{
    for (uint32_t p = 0; p < pl->partition_count; p++)
        ask(pl, p);
    /* Whoever was turned away while another's chain ran asks for itself again. */
    bool again = true;
    while (again) {
        again = false;
        for (uint32_t p = 0; p < pl->partition_count; p++) {
            if (pl->spreads[p].count == pl->copies || next_seat(pl, p) == NONE)
                continue;
            ask(pl, p);
            again = true;
        }
    }
    for (uint32_t p = 0; p < pl->partition_count; p++)
        place_left_over(pl, p);
}

/* ---- Primaries -------------------------------------------------------------------------------*/

static void sort_spread(const struct placement *pl, uint32_t partition)
{
    struct spread *spread = &pl->spreads[partition];
    for (uint32_t i = 1; i < spread->count; i++) {
        uint32_t s = spread->seats[i], at = i;
        for (; at > 0 && cheaper_at(pl, partition, s, spread->seats[at - 1]); at--)
            spread->seats[at] = spread->seats[at - 1];
        spread->seats[at] = s;
    }
}

/* The leader stands first, the others in the order of their costs. */
static void lead(struct placement *pl, uint32_t partition, uint32_t s)
{
    struct spread *spread = &pl->spreads[partition];
    sort_spread(pl, partition);
    uint32_t at = 0;
    while (spread->seats[at] != s)
        at++;
    ENSURE(at < spread->count);
    memmove(spread->seats + 1, spread->seats, at * sizeof spread->seats[0]);
    spread->seats[0] = s;
}

/* A search over seats, from one that leads too many to one with room. */
struct search {
    uint32_t queue[NODES_MAX];
    uint32_t queue_count;
    uint32_t from[NODES_MAX]; /* the seat that would hand on to this one; NONE: not seen yet */
    uint32_t via[NODES_MAX];  /* the partition that it would hand on */
    uint32_t first[NODES_MAX]; /* the first partition that a seat leads; NONE: none */
    uint32_t *next;           /* of each partition: the next one with the same leader */
};

static void search_start(const struct placement *pl, struct search *search, uint32_t start)
{
    for (uint32_t s = 0; s < pl->seats_count; s++)
        search->from[s] = search->first[s] = NONE;
    for (uint32_t p = pl->partition_count; p-- > 0;) {
        uint32_t leader = pl->spreads[p].seats[0];
        search->next[p] = search->first[leader];
        search->first[leader] = p;
    }
    search->queue[0] = start;
    search->queue_count = 1;
    search->from[start] = start;
}

/* The nearest seat with room that the start can reach; NONE when there is none. */
static uint32_t search_room(const struct placement *pl, struct search *search)
{
    for (uint32_t head = 0; head < search->queue_count; head++) {
        uint32_t s = search->queue[head];
        for (uint32_t p = search->first[s]; p != NONE; p = search->next[p]) {
            for (uint32_t i = 1; i < pl->spreads[p].count; i++) {
                uint32_t t = pl->spreads[p].seats[i];
                if (search->from[t] != NONE)
                    continue;
                search->from[t] = s;
                search->via[t] = p;
                if (pl->seats[t].primaries_count < pl->seats[t].primaries_max)
                    return t;
                search->queue[search->queue_count++] = t;
            }
        }
    }
    return NONE;
}

/* Take one partition off seat s. False when no chain leads to a seat with room. */
static bool hand_on(struct placement *pl, struct search *search, uint32_t s)
{
    search_start(pl, search, s);
    uint32_t t = search_room(pl, search);
    if (t == NONE)
        return false;
    pl->seats[t].primaries_count++;
    pl->seats[s].primaries_count--;
    for (; t != s; t = search->from[t])
        lead(pl, search->via[t], t);
    return true;
}

static void place_primaries(struct placement *pl, struct search *search)
{
    for (uint32_t p = 0; p < pl->partition_count; p++) {
        sort_spread(pl, p);
        pl->seats[pl->spreads[p].seats[0]].primaries_count++;
    }
    for (uint32_t s = 0; s < pl->seats_count; s++)
        while (pl->seats[s].primaries_count > pl->seats[s].primaries_max)
            if (!hand_on(pl, search, s))
                break;
}

/* ---- The whole -------------------------------------------------------------------------------*/

static int seat_compare(const void *a, const void *b)
{
    const struct seat *left = a, *right = b;
    int order = memcmp(&left->id, &right->id, sizeof left->id);
    return order != 0 ? order : (left->index > right->index) - (left->index < right->index);
}

static void seats_of(struct placement *pl, const struct placement_node *nodes, uint32_t nodes_count)
{
    for (uint32_t i = 0; i < nodes_count; i++)
        if (nodes[i].weight > 0)
            pl->seats[pl->seats_count++] =
                (struct seat){.id = nodes[i].id, .index = i, .weight = nodes[i].weight};
    qsort(pl->seats, pl->seats_count, sizeof *pl->seats, seat_compare);
}

/* False when out of memory. */
static bool bound_seats(struct placement *pl)
{
    struct filling *filling = malloc(sizeof *filling);
    if (filling == NULL)
        return false;
    set_shares(pl, filling);
    free(filling);
    size_t held = 0;
    for (uint32_t s = 0; s < pl->seats_count; s++) {
        struct seat *seat = &pl->seats[s];
        seat->copies_max = bound(seat->share, pl->partition_count);
        seat->primaries_max = bound(seat->share / pl->copies, pl->partition_count);
        held += seat->copies_max;
    }
    pl->held = calloc(held, sizeof *pl->held);
    if (pl->held == NULL)
        return false;
    for (uint32_t s = 0, at = 0; s < pl->seats_count; at += pl->seats[s++].copies_max)
        pl->seats[s].held = pl->held + at;
    return true;
}

static enum status compute(struct placement *pl)
{
    const size_t cells = (size_t)pl->partition_count * pl->seats_count;
    struct search *search = malloc(sizeof *search);
    uint32_t *next = calloc(pl->partition_count, sizeof *next);
    pl->costs = malloc(cells * sizeof *pl->costs);
    pl->turned_away = calloc(cells, sizeof *pl->turned_away);
    pl->spreads = calloc(pl->partition_count, sizeof *pl->spreads);
    enum status s = STATUS_NOMEMORY;
    if (search != NULL && next != NULL && pl->costs != NULL && pl->turned_away != NULL &&
        pl->spreads != NULL && bound_seats(pl)) {
        search->next = next;
        fill_costs(pl);
        place_copies(pl);
        place_primaries(pl, search);
        s = STATUS_OK;
    }
    free(search);
    free(next);
    return s;
}

static void fill_rows(const struct placement *pl, struct placement_row *rows)
{
    for (uint32_t p = 0; p < pl->partition_count; p++) {
        rows[p] = (struct placement_row){.count = pl->spreads[p].count};
        for (uint32_t i = 0; i < rows[p].count; i++)
            rows[p].nodes[i] = pl->seats[pl->spreads[p].seats[i]].index;
    }
}

enum status placement_compute(const struct placement_node *nodes, uint32_t nodes_count,
                              uint32_t partition_count, uint32_t copies,
                              struct placement_row *rows)
{
    ENSURE(nodes_count <= NODES_MAX);
    ENSURE(partition_count >= 1 && partition_count <= PARTITIONS_MAX);
    ENSURE(copies >= 1 && copies <= COPIES_MAX);
    struct placement pl = {.partition_count = partition_count};
    pl.seats = calloc(nodes_count + 1, sizeof *pl.seats);
    pl.rack_of_host = calloc(nodes_count + 1, sizeof *pl.rack_of_host);
    enum status s = STATUS_NOMEMORY;
    if (pl.seats != NULL && pl.rack_of_host != NULL) {
        seats_of(&pl, nodes, nodes_count);
        pl.copies = copies < pl.seats_count ? copies : pl.seats_count;
        s = STATUS_CONFIG;
    }
    if (s == STATUS_CONFIG && pl.seats_count > 0) {
        number_domains(&pl, nodes);
        limit_domains(&pl);
        s = compute(&pl);
    }
    if (s == STATUS_OK)
        fill_rows(&pl, rows);
    free(pl.seats);
    free(pl.rack_of_host);
    free(pl.costs);
    free(pl.turned_away);
    free(pl.spreads);
    free(pl.held);
    return s;
}
