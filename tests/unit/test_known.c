/* Whose disk is it: two nodes that are stepped by hand, one of which comes back with another disk.
 */
#include "storage/known.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/lib/pair.h"

#define PARTITIONS 8
#define SETTLED_MS 2500

static struct pair p;

static int open_pair(void **state)
{
    (void)state;
    pair_init(&p, PARTITIONS, true);
    return 0;
}

static int close_pair(void **state)
{
    (void)state;
    pair_fini(&p);
    return 0;
}

static uint64_t partitions_open(uint32_t node)
{
    struct node_counters c;
    node_count(p.nodes[node].node, &c);
    return c.partitions_open;
}

static void assert_ends(uint32_t node, const char *why)
{
    p.nodes[node].may_end = true;
    pair_start(&p, node);
    pair_run(&p, SETTLED_MS);
    assert_false(p.nodes[node].up);
    assert_non_null(strstr(p.nodes[node].why, why));
}

static void assert_all_open(uint32_t node)
{
    pair_run(&p, 2 * SETTLED_MS);
    assert_int_equal(partitions_open(node), PARTITIONS);
}

/* Node 0 is the only voter; it could decide alone. */
static void test_known__a_new_disk_leads_nothing_before_another_knows_it(void **state)
{
    (void)state;
    p.cut = true;
    pair_run(&p, 2 * SETTLED_MS);
    assert_int_equal(partitions_open(0) + partitions_open(1), 0);
    p.cut = false;
    pair_run(&p, SETTLED_MS);
    assert_int_equal(partitions_open(0) + partitions_open(1), PARTITIONS);
}

static void test_known__one_that_was_met_need_not_meet_again(void **state)
{
    (void)state;
    pair_run(&p, SETTLED_MS);
    for (int checkpointed = 0; checkpointed < 2; checkpointed++) {
        if (checkpointed)
            pair_checkpoint(&p, 0);
        pair_crash(&p, 0);
        pair_crash(&p, 1);
        pair_start(&p, 0);
        assert_all_open(0);
        pair_start(&p, 1);
        pair_run(&p, SETTLED_MS);
    }
}

static void test_known__a_node_with_an_empty_disk_ends(void **state)
{
    (void)state;
    for (uint32_t node = 0; node < PAIR_NODES; node++) {
        pair_fini(&p);
        pair_init(&p, PARTITIONS, true);
        pair_run(&p, SETTLED_MS);
        pair_crash(&p, node);
        pair_wipe(&p, node);
        assert_ends(node, "another disk");
        assert_true(p.nodes[!node].up);
    }
}

static void test_known__what_others_know_survives_their_restart(void **state)
{
    (void)state;
    pair_run(&p, SETTLED_MS);
    for (int checkpointed = 0; checkpointed < 2; checkpointed++) {
        if (checkpointed)
            pair_checkpoint(&p, 0);
        pair_crash(&p, 0);
        if (p.nodes[1].up)
            pair_crash(&p, 1);
        pair_wipe(&p, 1);
        pair_start(&p, 0);
        assert_ends(1, "another disk");
        assert_true(p.nodes[0].up);
    }
}

static void test_known__a_voter_with_an_empty_disk_does_not_decide_alone(void **state)
{
    (void)state;
    pair_run(&p, SETTLED_MS);
    pair_crash(&p, 0);
    pair_wipe(&p, 0);
    p.cut = true;
    pair_start(&p, 0);
    pair_run(&p, 2 * SETTLED_MS);
    assert_int_equal(partitions_open(0), 0);
    p.cut = false;
    p.nodes[0].may_end = true;
    pair_run(&p, SETTLED_MS);
    assert_false(p.nodes[0].up);
}

static void test_known__an_old_copy_of_the_disk_ends(void **state)
{
    (void)state;
    struct pair_image image;
    pair_run(&p, SETTLED_MS);
    pair_image_take(&p, 1, &image);
    pair_crash(&p, 1);
    pair_start(&p, 1); /* a life that the copy knows nothing of */
    pair_run(&p, SETTLED_MS);
    pair_crash(&p, 1);
    pair_image_put(&p, 1, &image);
    assert_ends(1, "later life");
    assert_true(p.nodes[0].up);
}

static void test_known__a_restart_on_the_same_disk_is_nothing_special(void **state)
{
    (void)state;
    pair_run(&p, SETTLED_MS);
    for (int i = 0; i < 5; i++) {
        pair_crash(&p, 1);
        pair_start(&p, 1);
        pair_run(&p, 50 * (unsigned)i);
    }
    pair_run(&p, 2 * SETTLED_MS);
    assert_int_equal(partitions_open(0) + partitions_open(1), PARTITIONS);
}

static void test_known__a_damaged_record_or_state_is_corrupt(void **state)
{
    (void)state;
    static const uint8_t zeros[64];
    struct error error;
    uint8_t body[24] = {NODES_MAX & 0xff, NODES_MAX >> 8}; /* no such node can be */
    struct record_view record = {.kind = RECORD_KNOWN, .body = bytes_of(body, sizeof body)};
    pair_crash(&p, 1);
    struct node *n = p.nodes[0].node;
    assert_int_equal(node_replay(n, 9, &record, &error), STATUS_CORRUPT);
    record.body.size = 23;
    assert_int_equal(node_replay(n, 9, &record, &error), STATUS_CORRUPT);
    for (size_t size = 0; size < sizeof zeros; size += 7)
        assert_int_equal(node_restore(n, 0, bytes_of(zeros, size), &error), STATUS_CORRUPT);
}

static void test_known__a_life_that_acted_is_remembered_however_short_it_was(void **state)
{
    (void)state;
    struct pair_image image;
    pair_run(&p, SETTLED_MS);
    pair_image_take(&p, 1, &image);
    pair_crash(&p, 1);
    pair_start(&p, 1);
    pair_run(&p, 400);
    pair_crash(&p, 1);
    pair_image_put(&p, 1, &image);
    assert_ends(1, "later life");
}

/* The newest map comes from anybody: nothing may be led or shown with an empty disk because of it. */
static void test_known__a_new_disk_leads_nothing_on_hearsay(void **state)
{
    (void)state;
    struct buffer frame;
    buffer_init(&frame, (size_t)1 << 20);
    pair_run(&p, SETTLED_MS);
    pair_crash(&p, 1);
    pair_crash(&p, 0);
    pair_start(&p, 0); /* it goes on alone; no register says how far it was (U2) */
    assert_all_open(0);
    for (uint32_t i = 0; i < p.nodes[0].map->nodes_count; i++)
        p.nodes[0].map->nodes[i].disk = 0; /* the map of a time when no disk was recorded */
    assert_int_equal(clustermap_pack(p.nodes[0].map, &frame), STATUS_OK);
    pair_crash(&p, 0);
    pair_wipe(&p, 0);
    pair_start(&p, 0);
    pair_peer(&p, 0, buffer_view(&frame));
    pair_run(&p, SETTLED_MS);
    assert_int_equal(partitions_open(0), 0);
    for (uint32_t i = 0; i < PARTITIONS; i++)
        assert_false(node_readable(p.nodes[0].node, i, p.now_ms));
    buffer_fini(&frame);
}

/* Whoever says so, and however little else it knows. */
static void test_known__a_register_with_another_disk_ends_the_node(void **state)
{
    (void)state;
    struct buffer frame;
    buffer_init(&frame, (size_t)1 << 20);
    pair_run(&p, SETTLED_MS);
    assert_int_equal(p.nodes[0].map->nodes[1].disk, p.nodes[1].disk);
    assert_int_equal(clustermap_pack_nodes(p.nodes[0].map, &frame), STATUS_OK);
    pair_crash(&p, 1);
    pair_wipe(&p, 1);
    p.nodes[1].may_end = true;
    p.cut = true;
    pair_start(&p, 1);
    pair_peer(&p, 1, buffer_view(&frame));
    assert_false(p.nodes[1].up);
    assert_non_null(strstr(p.nodes[1].why, "another disk"));
    buffer_fini(&frame);
}

/* It ends for what it lacks (U2), and was not heard of as a life of the node. */
static void test_known__a_copy_of_the_last_life_leaves_the_own_disk_welcome(void **state)
{
    (void)state;
    struct pair_image image, own;
    struct write put = {.mutation = MUTATION_PUT, .value = bytes_text("red")};
    char key[32];
    pair_run(&p, SETTLED_MS);
    pair_image_take(&p, 1, &image);
    pair_key(&p, 0, 0, key);
    pair_write(&p, 0, key, 1, 1, &put);
    pair_run(&p, SETTLED_MS);
    pair_crash(&p, 1);
    pair_image_take(&p, 1, &own);
    pair_image_put(&p, 1, &image);
    pair_run(&p, SETTLED_MS); /* it was left out, and that makes known what it has */
    assert_ends(1, "was acknowledged by it");
    pair_image_put(&p, 1, &own);
    p.nodes[1].may_end = false;
    pair_start(&p, 1);
    pair_run(&p, 3 * SETTLED_MS);
    assert_true(p.nodes[1].up);
    assert_int_equal(partitions_open(0) + partitions_open(1), PARTITIONS);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_known__##name, open_pair, close_pair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_new_disk_leads_nothing_before_another_knows_it),
        CASE(one_that_was_met_need_not_meet_again),
        CASE(a_node_with_an_empty_disk_ends),
        CASE(what_others_know_survives_their_restart),
        CASE(a_voter_with_an_empty_disk_does_not_decide_alone),
        CASE(an_old_copy_of_the_disk_ends),
        CASE(a_restart_on_the_same_disk_is_nothing_special),
        CASE(a_life_that_acted_is_remembered_however_short_it_was),
        CASE(a_new_disk_leads_nothing_on_hearsay),
        CASE(a_register_with_another_disk_ends_the_node),
        CASE(a_copy_of_the_last_life_leaves_the_own_disk_welcome),
        CASE(a_damaged_record_or_state_is_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
