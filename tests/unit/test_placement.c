#include "proto/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/partition.h"

/* The placement in test_placement__the_result_does_not_drift. It belongs to the protocol, as long
 * as nodes compute their first map each by itself. */
#define GOLDEN 0x68830f76af566b7f

static struct placement_node nodes[NODES_MAX];
static struct placement_row rows[PARTITIONS_MAX], rows_after[PARTITIONS_MAX];

/* count nodes with ids drawn from name, each on a host of its own, weight 1. */
static void make_nodes(uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++) {
        char text[64];
        uint8_t sha256[32];
        snprintf(text, sizeof text, "%s %u", name, i);
        partition_sha256(bytes_text(text), sha256);
        nodes[i] = (struct placement_node){.host = i, .weight = 1};
        memcpy(&nodes[i].id, sha256, sizeof nodes[i].id);
    }
}

static void compute(uint32_t count, uint32_t partitions, uint32_t copies, struct placement_row *to)
{
    assert_int_equal(placement_compute(nodes, count, partitions, copies, to), STATUS_OK);
}

/* ---- Spread --------------------------------------------------------------------------------- */

struct spread {
    uint32_t copies[NODES_MAX], primaries[NODES_MAX];
    uint32_t copies_min, copies_max, primaries_min, primaries_max;
};

static void widen(uint32_t value, uint32_t *min, uint32_t *max)
{
    *min = value < *min ? value : *min;
    *max = value > *max ? value : *max;
}

static struct spread spread_of(uint32_t count, uint32_t partitions, const struct placement_row *of)
{
    struct spread s = {.copies_min = UINT32_MAX, .primaries_min = UINT32_MAX};
    for (uint32_t p = 0; p < partitions; p++) {
        s.primaries[of[p].nodes[0]]++;
        for (uint32_t i = 0; i < of[p].count; i++)
            s.copies[of[p].nodes[i]]++;
    }
    for (uint32_t i = 0; i < count; i++) {
        widen(s.copies[i], &s.copies_min, &s.copies_max);
        widen(s.primaries[i], &s.primaries_min, &s.primaries_max);
    }
    return s;
}

static bool within(uint32_t value, double share)
{
    return value <= share * 1.05 + 1e-6 || value <= share + 1 + 1e-6;
}

/* Copies moved, and primaries changed, between two placements. */
struct movement {
    uint32_t copies, primaries;
};

static bool holds(const struct placement_row *row, uint32_t node)
{
    for (uint32_t i = 0; i < row->count; i++)
        if (row->nodes[i] == node)
            return true;
    return false;
}

static struct movement movement_of(uint32_t partitions)
{
    struct movement m = {0};
    for (uint32_t p = 0; p < partitions; p++) {
        for (uint32_t i = 0; i < rows_after[p].count; i++)
            m.copies += !holds(&rows[p], rows_after[p].nodes[i]);
        m.primaries += rows_after[p].nodes[0] != rows[p].nodes[0];
    }
    return m;
}

/* A row names different nodes, all with weight, as many as there can be. */
static void check_rows(uint32_t count, uint32_t partitions, uint32_t copies)
{
    uint32_t holders = 0;
    for (uint32_t i = 0; i < count; i++)
        holders += nodes[i].weight > 0;
    for (uint32_t p = 0; p < partitions; p++) {
        assert_int_equal(rows[p].count, copies < holders ? copies : holders);
        for (uint32_t i = 0; i < rows[p].count; i++) {
            assert_true(rows[p].nodes[i] < count);
            assert_true(nodes[rows[p].nodes[i]].weight > 0);
            for (uint32_t k = 0; k < i; k++)
                assert_int_not_equal(rows[p].nodes[i], rows[p].nodes[k]);
        }
    }
}

/* How many different hosts (racks) hold copies of the row. */
static uint32_t hosts_of(const struct placement_row *row)
{
    uint32_t different = 0;
    for (uint32_t i = 0; i < row->count; i++) {
        bool seen = false;
        for (uint32_t k = 0; k < i; k++)
            seen = seen || nodes[row->nodes[k]].host == nodes[row->nodes[i]].host;
        different += !seen;
    }
    return different;
}

static uint32_t racks_of(const struct placement_row *row)
{
    uint32_t different = 0;
    for (uint32_t i = 0; i < row->count; i++) {
        bool seen = false;
        for (uint32_t k = 0; k < i; k++)
            seen = seen || nodes[row->nodes[k]].rack == nodes[row->nodes[i]].rack;
        different += !seen;
    }
    return different;
}

static void print_spread(const char *what, const struct spread *s, double copies, double primaries)
{
    print_message("    %-26s copies %u..%u (fair %.1f), primaries %u..%u (fair %.1f)\n", what,
                  s->copies_min, s->copies_max, copies, s->primaries_min, s->primaries_max,
                  primaries);
}

/* ---- Equal nodes ---------------------------------------------------------------------------- */

static void test_placement__equal_nodes_get_equal_shares(void **state)
{
    (void)state;
    for (uint32_t copies = 1; copies <= 3; copies++) {
        for (uint32_t count = copies; count <= 130; count += count < 12 ? 1 : 9) {
            make_nodes(count, "equal");
            compute(count, 1024, copies, rows);
            check_rows(count, 1024, copies);
            struct spread s = spread_of(count, 1024, rows);
            assert_true(within(s.copies_max, 1024.0 * copies / count));
            assert_true(within(s.primaries_max, 1024.0 / count));
        }
    }
}

static void test_placement__spread_and_movement_of_3_10_and_100_nodes(void **state)
{
    (void)state;
    /* Copies that may move when a node joins: what the new one must get, and what full nodes pass
     * on. */
    const struct {
        uint32_t count, moved_max;
    } sizes[] = {{3, 540}, {10, 220}, {100, 60}};
    print_message("    1024 partitions, 2 copies\n");
    for (int i = 0; i < 3; i++) {
        uint32_t count = sizes[i].count;
        make_nodes(count + 1, "node");
        compute(count, 1024, 2, rows);
        struct spread s = spread_of(count, 1024, rows);
        char what[32];
        snprintf(what, sizeof what, "%u nodes", count);
        print_spread(what, &s, 2048.0 / count, 1024.0 / count);
        assert_true(within(s.copies_max, 2048.0 / count));
        assert_true(within(s.primaries_max, 1024.0 / count));
        compute(count + 1, 1024, 2, rows_after);
        struct movement m = movement_of(1024);
        print_message("      one more: %u copies move (no fewer than %.1f for equal shares), "
                      "%u partitions get another primary\n",
                      m.copies, 2048.0 / (count + 1), m.primaries);
        assert_true(m.copies <= sizes[i].moved_max);
    }
}

static void test_placement__a_node_that_leaves_moves_little_else(void **state)
{
    (void)state;
    make_nodes(10, "leaves");
    compute(10, 1024, 2, rows);
    struct spread before = spread_of(10, 1024, rows);
    compute(9, 1024, 2, rows_after);
    struct movement m = movement_of(1024);
    assert_in_range(m.copies, before.copies[9], before.copies[9] + 40);
}

static void test_placement__two_nodes_hold_everything_and_share_the_lead(void **state)
{
    (void)state;
    make_nodes(2, "two");
    compute(2, 1024, 2, rows);
    struct spread s = spread_of(2, 1024, rows);
    assert_int_equal(s.copies_min, 1024);
    assert_true(within(s.primaries_max, 512));
}

static void test_placement__many_partitions_on_many_nodes(void **state)
{
    (void)state;
    make_nodes(200, "many");
    compute(200, PARTITIONS_MAX, 3, rows);
    check_rows(200, PARTITIONS_MAX, 3);
    struct spread s = spread_of(200, PARTITIONS_MAX, rows);
    assert_true(within(s.copies_max, PARTITIONS_MAX * 3.0 / 200));
    assert_true(within(s.primaries_max, PARTITIONS_MAX / 200.0));
}

static void test_placement__fewer_partitions_than_nodes(void **state)
{
    (void)state;
    make_nodes(50, "few");
    for (uint32_t partitions = 1; partitions <= 16; partitions *= 2) {
        compute(50, partitions, 2, rows);
        check_rows(50, partitions, 2);
        struct spread s = spread_of(50, partitions, rows);
        assert_true(within(s.copies_max, partitions * 2 / 50.0));
        assert_int_equal(s.primaries_max, 1);
    }
}

/* ---- Weights -------------------------------------------------------------------------------- */

static void test_placement__shares_follow_weights(void **state)
{
    (void)state;
    make_nodes(10, "weights");
    uint32_t total = 0;
    for (uint32_t i = 0; i < 10; i++)
        total += nodes[i].weight = i % 4 * 100; /* 0, 100, 200, 300 */
    compute(10, 1024, 2, rows);
    check_rows(10, 1024, 2);
    struct spread s = spread_of(10, 1024, rows);
    print_message("    1024 partitions, 2 copies, 10 nodes of weight 0, 100, 200, 300\n");
    for (uint32_t i = 0; i < 10; i++) {
        double fair = 2048.0 * nodes[i].weight / total;
        assert_true(within(s.copies[i], fair));
        assert_true(s.copies[i] >= fair * 0.8);
        assert_true(nodes[i].weight == 0 ? s.primaries[i] == 0 : within(s.primaries[i], fair / 2));
        if (i < 4)
            print_message("      weight %3u: copies %u (fair %.1f), primaries %u (fair %.1f)\n",
                          nodes[i].weight, s.copies[i], fair, s.primaries[i], fair / 2);
    }
}

static void test_placement__only_the_proportion_of_weights_counts(void **state)
{
    (void)state;
    make_nodes(7, "proportion");
    compute(7, 256, 2, rows);
    for (uint32_t i = 0; i < 7; i++)
        nodes[i].weight = 1 << 20;
    compute(7, 256, 2, rows_after);
    struct movement m = movement_of(256);
    assert_int_equal(m.copies, 0);
}

/* One node has more weight than it could ever hold: the others share the rest evenly. */
static void test_placement__a_giant_holds_each_partition_once(void **state)
{
    (void)state;
    make_nodes(5, "giant");
    nodes[2].weight = UINT32_MAX;
    compute(5, 1024, 2, rows);
    check_rows(5, 1024, 2);
    struct spread s = spread_of(5, 1024, rows);
    assert_int_equal(s.copies[2], 1024);
    for (uint32_t i = 0; i < 5; i++)
        assert_true(i == 2 || within(s.copies[i], 256));
}

/* ---- Hosts and racks ------------------------------------------------------------------------ */

static void test_placement__copies_are_on_different_hosts_and_racks(void **state)
{
    (void)state;
    make_nodes(24, "racks");
    for (uint32_t i = 0; i < 24; i++) {
        nodes[i].host = 1000 + i % 12; /* two nodes on each of 12 hosts, */
        nodes[i].rack = 77 + i % 4;    /* three hosts in each of 4 racks */
    }
    for (uint32_t copies = 2; copies <= 4; copies++) {
        compute(24, 1024, copies, rows);
        check_rows(24, 1024, copies);
        for (uint32_t p = 0; p < 1024; p++)
            assert_int_equal(racks_of(&rows[p]), copies);
        struct spread s = spread_of(24, 1024, rows);
        if (copies == 2)
            print_spread("24 nodes, 12 hosts, 4 racks", &s, 2048 / 24.0, 1024 / 24.0);
        assert_true(within(s.copies_max, 1024.0 * copies / 24));
        assert_true(within(s.primaries_max, 1024.0 / 24));
    }
    /* More copies than racks: all racks, and still different hosts. */
    compute(24, 1024, 5, rows);
    for (uint32_t p = 0; p < 1024; p++) {
        assert_int_equal(racks_of(&rows[p]), 4);
        assert_int_equal(hosts_of(&rows[p]), 5);
    }
}

/* Three hosts with 1, 1 and 4 nodes: the large one cannot hold two copies of a partition, so each
 * gets what hosts allow, and inside the large one nodes share evenly. */
static void test_placement__a_crowded_host_takes_one_copy_each(void **state)
{
    (void)state;
    make_nodes(6, "crowded");
    for (uint32_t i = 2; i < 6; i++)
        nodes[i].host = 2;
    compute(6, 1024, 2, rows);
    for (uint32_t p = 0; p < 1024; p++)
        assert_int_equal(hosts_of(&rows[p]), 2);
    struct spread s = spread_of(6, 1024, rows);
    for (uint32_t i = 0; i < 6; i++) {
        assert_true(within(s.copies[i], i < 2 ? 512 : 256));
        assert_true(within(s.primaries[i], i < 2 ? 256 : 128));
    }
}

static void test_placement__three_copies_on_two_hosts_use_both(void **state)
{
    (void)state;
    make_nodes(6, "two hosts");
    for (uint32_t i = 0; i < 6; i++)
        nodes[i].host = i % 2;
    compute(6, 1024, 3, rows);
    check_rows(6, 1024, 3);
    for (uint32_t p = 0; p < 1024; p++)
        assert_int_equal(hosts_of(&rows[p]), 2);
    struct spread s = spread_of(6, 1024, rows);
    assert_true(within(s.copies_max, 512));
}

static uint64_t random_next(uint64_t *seed)
{
    *seed += 0x9e3779b97f4a7c15;
    uint64_t z = *seed;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Any clusters: hosts are spread over as far as there are enough, and whenever no host or rack has
 * more weight than it may hold, the bound holds. */
static void test_placement__random_clusters_keep_the_rules(void **state)
{
    (void)state;
    uint64_t seed = 7;
    uint32_t bounded = 0;
    for (int round = 0; round < 400; round++) {
        char name[32];
        snprintf(name, sizeof name, "random %d", round);
        uint32_t count = 1 + (uint32_t)(random_next(&seed) % 30);
        uint32_t hosts = 1 + (uint32_t)(random_next(&seed) % count);
        uint32_t racks = 1 + (uint32_t)(random_next(&seed) % hosts);
        uint32_t copies = 1 + (uint32_t)(random_next(&seed) % 4);
        uint32_t weight_max = round % 2 == 0 ? 1 : 5;
        uint32_t partitions = 1u << random_next(&seed) % 10;
        make_nodes(count, name);
        uint32_t total = 0;
        uint32_t host_weights[30] = {0}, rack_weights[30] = {0};
        for (uint32_t i = 0; i < count; i++) {
            nodes[i].host = (uint32_t)(random_next(&seed) % hosts);
            nodes[i].rack = nodes[i].host % racks;
            nodes[i].weight = 1 + (uint32_t)(random_next(&seed) % weight_max);
            host_weights[nodes[i].host] += nodes[i].weight;
            rack_weights[nodes[i].rack] += nodes[i].weight;
            total += nodes[i].weight;
        }
        compute(count, partitions, copies, rows);
        check_rows(count, partitions, copies);

        uint32_t placed = rows[0].count, hosts_used = 0, racks_used = 0;
        bool possible = true; /* do shares by weight fit hosts and racks? */
        for (uint32_t i = 0; i < 30; i++) {
            hosts_used += host_weights[i] > 0;
            racks_used += rack_weights[i] > 0;
            possible = possible && host_weights[i] * placed <= total;
            possible = possible && (rack_weights[i] * placed <= total || racks == 1);
        }
        for (uint32_t p = 0; p < partitions; p++) {
            uint32_t expected = placed < hosts_used ? placed : hosts_used;
            assert_int_equal(hosts_of(&rows[p]), expected);
            expected = placed < racks_used ? placed : racks_used;
            assert_int_equal(racks_of(&rows[p]), expected);
        }
        if (!possible)
            continue;
        bounded++;
        struct spread s = spread_of(count, partitions, rows);
        for (uint32_t i = 0; i < count; i++) {
            double fair = (double)partitions * placed * nodes[i].weight / total;
            assert_true(within(s.copies[i], fair));
            assert_true(within(s.primaries[i], fair / placed));
        }
    }
    assert_in_range(bounded, 50, 400);
}

/* ---- The same everywhere -------------------------------------------------------------------- */

static void test_placement__the_order_of_nodes_does_not_matter(void **state)
{
    (void)state;
    enum { COUNT = 17 };
    make_nodes(COUNT, "order");
    for (uint32_t i = 0; i < COUNT; i++) {
        nodes[i].weight = 1 + i % 3;
        nodes[i].host = i / 2;
    }
    compute(COUNT, 512, 3, rows);
    for (uint32_t i = 0; i < COUNT / 2; i++) {
        struct placement_node other = nodes[i];
        nodes[i] = nodes[COUNT - 1 - i];
        nodes[COUNT - 1 - i] = other;
    }
    compute(COUNT, 512, 3, rows_after);
    for (uint32_t p = 0; p < 512; p++)
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(rows[p].nodes[i], COUNT - 1 - rows_after[p].nodes[i]);
}

/* Other machines and later versions must place the same. */
static void test_placement__the_result_does_not_drift(void **state)
{
    (void)state;
    make_nodes(10, "golden");
    for (uint32_t i = 0; i < 10; i++) {
        nodes[i].weight = 1 + i % 3;
        nodes[i].host = i / 2;
        nodes[i].rack = i / 4;
    }
    compute(10, 1024, 3, rows);
    static uint8_t octets[1024 * 3];
    for (size_t i = 0; i < sizeof octets; i++)
        octets[i] = (uint8_t)rows[i / 3].nodes[i % 3];
    uint8_t sha256[32];
    partition_sha256(bytes_of(octets, sizeof octets), sha256);
    if (bytes_be64(sha256) != GOLDEN)
        print_error("now 0x%016llx\n", (unsigned long long)bytes_be64(sha256));
    assert_true(bytes_be64(sha256) == GOLDEN);
}

static void test_placement__without_weight_there_is_no_placement(void **state)
{
    (void)state;
    make_nodes(3, "weightless");
    nodes[0].weight = nodes[1].weight = nodes[2].weight = 0;
    assert_int_equal(placement_compute(nodes, 3, 16, 2, rows), STATUS_CONFIG);
    assert_int_equal(placement_compute(nodes, 0, 16, 2, rows), STATUS_CONFIG);
    nodes[1].weight = 1;
    compute(3, 16, 2, rows);
    check_rows(3, 16, 2);
    assert_int_equal(rows[15].nodes[0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placement__equal_nodes_get_equal_shares),
        cmocka_unit_test(test_placement__spread_and_movement_of_3_10_and_100_nodes),
        cmocka_unit_test(test_placement__a_node_that_leaves_moves_little_else),
        cmocka_unit_test(test_placement__two_nodes_hold_everything_and_share_the_lead),
        cmocka_unit_test(test_placement__many_partitions_on_many_nodes),
        cmocka_unit_test(test_placement__fewer_partitions_than_nodes),
        cmocka_unit_test(test_placement__shares_follow_weights),
        cmocka_unit_test(test_placement__only_the_proportion_of_weights_counts),
        cmocka_unit_test(test_placement__a_giant_holds_each_partition_once),
        cmocka_unit_test(test_placement__copies_are_on_different_hosts_and_racks),
        cmocka_unit_test(test_placement__a_crowded_host_takes_one_copy_each),
        cmocka_unit_test(test_placement__three_copies_on_two_hosts_use_both),
        cmocka_unit_test(test_placement__random_clusters_keep_the_rules),
        cmocka_unit_test(test_placement__the_order_of_nodes_does_not_matter),
        cmocka_unit_test(test_placement__the_result_does_not_drift),
        cmocka_unit_test(test_placement__without_weight_there_is_no_placement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
