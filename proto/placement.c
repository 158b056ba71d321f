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

#define NONE          UINT32_MAX
#define SHARE_BITS    20 /* shares are fixed-point numbers with so many bits below the point */
#define LOG_BITS      32 /* and so are logarithms */
#define COST_SHIFT    25 /* of a logarithm, before it is divided by the weight */
#define SEARCH_BUDGET ((uint64_t)1 << 28) /* steps, see find_move() */

enum level { HOST, RACK, LEVELS_COUNT };

struct seat {
    struct id128 id;
    uint32_t index; /* in the caller's array */
    uint32_t weight;
    uint32_t domains[LEVELS_COUNT]; /* its host and rack: numbers from 0 up */

    uint64_t share;                    /* copies due to it, fixed-point */
    uint32_t copies_count, copies_max; /* those it has, and the bound */
    uint32_t *held;                    /* copies_count partitions, room for copies_max */
    uint32_t primaries_count, primaries_max;
};

/* How the copies of one partition spread over hosts, or over racks: at least floor in each (or as
 * many as it has room for), at most limit in one, and as many as limit in at most full_max. With
 * enough hosts that is one copy on each of any hosts; with two hosts, three copies are two and one.
 */
struct rule {
    uint32_t floor, limit, full_max;
};

static const struct rule no_rule = {0, COPIES_MAX, COPIES_MAX};

/* The copies of one partition, as seats. */
struct spread {
    uint32_t count;
    uint32_t seats[COPIES_MAX];
};

struct placement {
    uint32_t seats_count;
    uint32_t partition_count;
    uint32_t copies; /* of each partition */
    struct seat *seats;

    uint32_t domains_count[LEVELS_COUNT];
    uint32_t *sizes[LEVELS_COUNT]; /* of each domain: the copies of one partition it has room for */
    uint32_t *rack_of_host;
    struct rule rules[LEVELS_COUNT];

    uint64_t *costs;        /* by cell() */
    bool *turned_away;      /* by cell(): the seat does not want the partition */
    struct spread *spreads; /* of each partition */
    uint32_t *held;         /* memory of all seats' held */
    uint64_t search_budget; /* see find_move() */
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
                host = pl->seats[j].domains[HOST];
            if (rack == NONE && other->rack == node->rack)
                rack = pl->seats[j].domains[RACK];
        }
        if (host == NONE) {
            host = pl->domains_count[HOST]++;
            pl->rack_of_host[host] = rack == NONE ? pl->domains_count[RACK]++ : rack;
        }
        pl->seats[i].domains[HOST] = host;
        pl->seats[i].domains[RACK] = pl->rack_of_host[host];
    }
}

static uint32_t lesser(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t sum_within(const uint32_t *sizes, uint32_t count, uint32_t limit)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += lesser(sizes[i], limit);
    return sum;
}

/* The rule that spreads copies over domains of these sizes as evenly as possible. */
static struct rule rule_for(const uint32_t *sizes, uint32_t count, uint32_t copies)
{
    uint32_t limit = 1;
    while (sum_within(sizes, count, limit) < copies)
        limit++;
    ENSURE(limit <= COPIES_MAX);
    return (struct rule){limit - 1, limit, copies - sum_within(sizes, count, limit - 1)};
}

static void set_rules(struct placement *pl)
{
    for (uint32_t i = 0; i < pl->seats_count; i++)
        pl->sizes[HOST][pl->seats[i].domains[HOST]]++;
    pl->rules[HOST] = rule_for(pl->sizes[HOST], pl->domains_count[HOST], pl->copies);
    for (uint32_t h = 0; h < pl->domains_count[HOST]; h++)
        pl->sizes[RACK][pl->rack_of_host[h]] += lesser(pl->sizes[HOST][h], pl->rules[HOST].limit);
    /* With fewer hosts than copies all hosts have some, so all racks have. Two rules that both have
     * a floor could contradict each other. */
    pl->rules[RACK] = pl->rules[HOST].limit > 1
                          ? no_rule
                          : rule_for(pl->sizes[RACK], pl->domains_count[RACK], pl->copies);
}

/* ---- Shares ----------------------------------------------------------------------------------*/

/* What seats, hosts and racks would hold if each weight of 1 held rate (fixed-point, with 32 bits
 * more than a share). */
struct filling {
    uint64_t sums[LEVELS_COUNT][NODES_MAX]; /* before the rule bounds them */
    uint64_t total;
    unsigned __int128 rates[LEVELS_COUNT][NODES_MAX]; /* found for each domain */
};

static uint64_t all_partitions(const struct placement *pl)
{
    return (uint64_t)pl->partition_count << SHARE_BITS;
}

/* A seat holds each partition at most once. */
static uint64_t seat_share(const struct placement *pl, const struct seat *seat,
                           unsigned __int128 rate)
{
    unsigned __int128 wanted = rate * seat->weight >> 32;
    return wanted < all_partitions(pl) ? (uint64_t)wanted : all_partitions(pl);
}

/* What the rule makes of a domain's sum. */
static uint64_t bounded(const struct placement *pl, enum level level, uint32_t domain, uint64_t sum)
{
    const uint32_t size = pl->sizes[level][domain];
    uint64_t low = all_partitions(pl) * lesser(pl->rules[level].floor, size);
    uint64_t high = all_partitions(pl) * lesser(pl->rules[level].limit, size);
    return sum < low ? low : sum > high ? high : sum;
}

static void fill(const struct placement *pl, unsigned __int128 rate, struct filling *f)
{
    memset(f->sums, 0, sizeof f->sums);
    f->total = 0;
    for (uint32_t i = 0; i < pl->seats_count; i++)
        f->sums[HOST][pl->seats[i].domains[HOST]] += seat_share(pl, &pl->seats[i], rate);
    for (uint32_t h = 0; h < pl->domains_count[HOST]; h++)
        f->sums[RACK][pl->rack_of_host[h]] += bounded(pl, HOST, h, f->sums[HOST][h]);
    for (uint32_t r = 0; r < pl->domains_count[RACK]; r++)
        f->total += bounded(pl, RACK, r, f->sums[RACK][r]);
}

/* The smallest rate that fills *sum, a field of f, to target. */
static unsigned __int128 rate_for(const struct placement *pl, struct filling *f,
                                  const uint64_t *sum, uint64_t target)
{
    unsigned __int128 low = 0, high = (unsigned __int128)all_partitions(pl) << 32;
    while (low < high) {
        unsigned __int128 middle = low + (high - low) / 2;
        fill(pl, middle, f);
        if (*sum >= target)
            high = middle;
        else
            low = middle + 1;
    }
    return high;
}

/* Set the rate of a domain: that of its parent, unless the rule bounds it. */
static void set_rate(const struct placement *pl, struct filling *f, enum level level,
                     uint32_t domain, unsigned __int128 parent_rate)
{
    fill(pl, parent_rate, f);
    uint64_t sum = f->sums[level][domain];
    uint64_t target = bounded(pl, level, domain, sum);
    f->rates[level][domain] =
        sum == target ? parent_rate : rate_for(pl, f, &f->sums[level][domain], target);
}

/* The seats' fair shares: by weight as far as hosts and racks allow, together all copies. */
static void set_shares(struct placement *pl, struct filling *f)
{
    unsigned __int128 rate = rate_for(pl, f, &f->total, all_partitions(pl) * pl->copies);
    for (uint32_t r = 0; r < pl->domains_count[RACK]; r++)
        set_rate(pl, f, RACK, r, rate);
    for (uint32_t h = 0; h < pl->domains_count[HOST]; h++)
        set_rate(pl, f, HOST, h, f->rates[RACK][pl->rack_of_host[h]]);
    for (uint32_t i = 0; i < pl->seats_count; i++) {
        struct seat *seat = &pl->seats[i];
        seat->share = seat_share(pl, seat, f->rates[HOST][seat->domains[HOST]]);
    }
}

/* The most that a share allows: 5 % more, or one more. */
static uint32_t bound(uint64_t share, uint32_t partition_count)
{
    uint64_t percent = share + share / 20;
    uint64_t one = share + (1u << SHARE_BITS);
    uint64_t most = (percent > one ? percent : one) >> SHARE_BITS;
    return most < partition_count ? (uint32_t)most : partition_count;
}

/* ---- Copies ----------------------------------------------------------------------------------*/

static uint32_t domain_of(const struct placement *pl, enum level level, uint32_t s)
{
    return pl->seats[s].domains[level];
}

/* Members of spread in the domain, not counting seat except. */
static uint32_t members_in(const struct placement *pl, const struct spread *spread,
                           enum level level, uint32_t domain, uint32_t except)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < spread->count; i++)
        count += spread->seats[i] != except && domain_of(pl, level, spread->seats[i]) == domain;
    return count;
}

/* In how many other domains than s's has spread as many members as the rule's limit? */
static uint32_t other_full(const struct placement *pl, const struct spread *spread,
                           enum level level, uint32_t s, uint32_t except)
{
    uint32_t members = 0;
    for (uint32_t i = 0; i < spread->count; i++) {
        uint32_t domain = domain_of(pl, level, spread->seats[i]);
        if (spread->seats[i] != except && domain != domain_of(pl, level, s))
            members += members_in(pl, spread, level, domain, except) == pl->rules[level].limit;
    }
    return members / pl->rules[level].limit;
}

static bool rule_allows(const struct placement *pl, const struct spread *spread, enum level level,
                        uint32_t s, uint32_t except)
{
    const struct rule *rule = &pl->rules[level];
    uint32_t count = members_in(pl, spread, level, domain_of(pl, level, s), except) + 1;
    if (count != rule->limit)
        return count < rule->limit;
    return rule->limit == 1 || other_full(pl, spread, level, s, except) < rule->full_max;
}

static bool member(const struct spread *spread, uint32_t s)
{
    for (uint32_t i = 0; i < spread->count; i++)
        if (spread->seats[i] == s)
            return true;
    return false;
}

/* May partition get a copy at seat s, if the one at seat except (or NONE) were not there? */
static bool fits(const struct placement *pl, uint32_t partition, uint32_t s, uint32_t except)
{
    const struct spread *spread = &pl->spreads[partition];
    return !member(spread, s) && rule_allows(pl, spread, HOST, s, except) &&
           rule_allows(pl, spread, RACK, s, except);
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
 * to move from the ones to the others. The cheapest; false when there is none, or when the search
 * has cost too much already: where hosts and racks leave no choice, it would be repeated for each
 * partition. */
static bool find_move(struct placement *pl, uint32_t partition, struct move *ret)
{
    uint64_t least_cost = UINT64_MAX;
    for (uint32_t q = 0; q < pl->partition_count; q++) {
        for (uint32_t i = 0; i < pl->spreads[q].count && pl->search_budget > 0; i++) {
            uint32_t from = pl->spreads[q].seats[i];
            pl->search_budget--;
            if (q == partition || !fits(pl, partition, from, NONE))
                continue;
            for (uint32_t to = 0; to < pl->seats_count; to++) {
                pl->search_budget -= pl->search_budget > 0;
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

/* The seat that is least above its bound, of those that fit partition. */
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
    ENSURE(best != NONE); /* the rules are such that each spread that is too small can grow */
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
    uint32_t from[NODES_MAX];  /* the seat that would hand on to this one; NONE: not seen yet */
    uint32_t via[NODES_MAX];   /* the partition that it would hand on */
    uint32_t first[NODES_MAX]; /* the first partition that a seat leads; NONE: none */
    uint32_t *next;            /* of each partition: the next one with the same leader */
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

static bool alloc_seats(struct placement *pl, uint32_t nodes_count)
{
    pl->seats = calloc(nodes_count, sizeof *pl->seats);
    pl->rack_of_host = calloc(nodes_count, sizeof *pl->rack_of_host);
    pl->sizes[HOST] = calloc(nodes_count, sizeof *pl->sizes[HOST]);
    pl->sizes[RACK] = calloc(nodes_count, sizeof *pl->sizes[RACK]);
    return pl->seats != NULL && pl->rack_of_host != NULL && pl->sizes[HOST] != NULL &&
           pl->sizes[RACK] != NULL;
}

static void placement_fini(struct placement *pl)
{
    free(pl->seats);
    free(pl->rack_of_host);
    free(pl->sizes[HOST]);
    free(pl->sizes[RACK]);
    free(pl->costs);
    free(pl->turned_away);
    free(pl->spreads);
    free(pl->held);
}

enum status placement_compute(const struct placement_node *nodes, uint32_t nodes_count,
                              uint32_t partition_count, uint32_t copies, struct placement_row *rows)
{
    ENSURE(nodes_count <= NODES_MAX);
    ENSURE(partition_count >= 1 && partition_count <= PARTITIONS_MAX);
    ENSURE(copies >= 1 && copies <= COPIES_MAX);
    if (nodes_count == 0)
        return STATUS_CONFIG;
    struct placement pl = {.partition_count = partition_count, .search_budget = SEARCH_BUDGET};
    enum status s = STATUS_NOMEMORY;
    if (alloc_seats(&pl, nodes_count)) {
        seats_of(&pl, nodes, nodes_count);
        pl.copies = lesser(copies, pl.seats_count);
        s = pl.seats_count == 0 ? STATUS_CONFIG : STATUS_OK;
    }
    if (s == STATUS_OK) {
        number_domains(&pl, nodes);
        set_rules(&pl);
        s = compute(&pl);
    }
    if (s == STATUS_OK)
        fill_rows(&pl, rows);
    placement_fini(&pl);
    return s;
}
