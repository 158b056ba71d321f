/* Who votes: changes of the voters of three nodes, two of which keep a copy of the partition. */
#include "storage/membership.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/codec.h"
#include "tests/lib/pair.h"
#include "tests/unit/trio.h"

#define CHANGED_MS 1000

static const uint32_t all[] = {0, 1, 2};

static int open_trio(void **state)
{
    (void)state;
    trio_open(0);
    return 0;
}

static void ask(uint32_t node, const uint32_t *voters, size_t count)
{
    pair_voters(&p, node, voters, count);
    pair_run(&p, CHANGED_MS);
}

/* What was answered last refuses, and says this. */
static void assert_refused(enum status status, const char *words)
{
    struct arena arena;
    struct refused m;
    arena_init(&arena);
    assert_int_equal(codec_unpack_refused(buffer_view(&p.said), &arena, &m), STATUS_OK);
    assert_int_equal(m.status, status);
    char text[300];
    snprintf(text, sizeof text, "%.*s", (int)m.message.size, (const char *)m.message.data);
    assert_non_null(strstr(text, words));
    arena_fini(&arena);
}

static void assert_voters(uint32_t node, const uint32_t *voters, uint32_t count)
{
    const struct clustermap_voters *v = &p.nodes[node].map->voters;
    assert_int_equal(v->next_count, 0);
    assert_int_equal(v->count, count);
    assert_memory_equal(v->nodes, voters, count * sizeof *voters);
}

static void test_membership__the_disks_of_all_nodes_are_recorded(void **state)
{
    (void)state;
    for (uint32_t at = 0; at < 3; at++)
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(p.nodes[at].map->nodes[i].disk, p.nodes[i].disk);
}

static void test_membership__voters_change_and_all_hear_of_it(void **state)
{
    (void)state;
    const uint32_t one[] = {1};
    ask(2, one, 1);
    for (uint32_t i = 0; i < 3; i++)
        assert_voters(i, one, 1);
    ask(1, all, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_voters(i, all, 3);
}

/* Registers move by the new voters alone, and by none of the former ones. */
static void test_membership__who_votes_no_more_is_not_needed(void **state)
{
    (void)state;
    const uint32_t one[] = {replica};
    ask(third, one, 1);
    assert_voters(replica, one, 1);
    pair_crash(&p, third);
    pair_crash(&p, primary);
    pair_run(&p, TRIO_SETTLED_MS);
    assert_true(leads(replica));
    uint64_t token = put_at(replica);
    pair_run(&p, 100);
    assert_true(is_done(token));
}

/* And those who do are: two of three are gone, so nobody takes over. */
static void test_membership__who_votes_now_is_needed(void **state)
{
    (void)state;
    const uint32_t one[] = {third};
    ask(primary, one, 1);
    pair_crash(&p, third);
    pair_crash(&p, primary);
    pair_run(&p, TRIO_SETTLED_MS);
    assert_false(leads(replica));
    pair_start(&p, third);
    pair_run(&p, TRIO_SETTLED_MS);
    assert_true(leads(replica));
}

static void test_membership__voters_are_remembered_over_a_restart(void **state)
{
    (void)state;
    const uint32_t one[] = {third};
    ask(primary, one, 1);
    for (int checkpointed = 0; checkpointed < 2; checkpointed++) {
        if (checkpointed)
            pair_checkpoint(&p, third);
        pair_crash(&p, third);
        p.cut = true;
        pair_start(&p, third);
        assert_voters(third, one, 1);
        p.cut = false;
        pair_run(&p, TRIO_SETTLED_MS);
    }
}

/* Who asked for the change dies as soon as it is begun; those to come end it. */
static void test_membership__a_change_is_ended_by_those_who_are_to_come(void **state)
{
    (void)state;
    const uint32_t one[] = {replica};
    pair_voters(&p, third, one, 1);
    while (p.nodes[replica].map->voters.next_count == 0)
        pair_run(&p, 1);
    pair_crash(&p, third);
    pair_run(&p, CHANGED_MS);
    assert_voters(replica, one, 1);
    assert_voters(primary, one, 1);
}

/* From the first step on the old ones alone decide nothing, nor do the new ones. */
static void test_membership__in_between_a_majority_of_both_is_needed(void **state)
{
    (void)state;
    const uint32_t one[] = {replica};
    pair_voters(&p, third, one, 1);
    while (p.nodes[replica].map->voters.next_count == 0)
        pair_run(&p, 1);
    pair_crash(&p, third);
    pair_crash(&p, primary);
    pair_run(&p, TRIO_SETTLED_MS);
    assert_int_equal(p.nodes[replica].map->voters.next_count, 1);
    assert_false(leads(replica));
    pair_start(&p, third);
    pair_run(&p, TRIO_SETTLED_MS);
    assert_voters(replica, one, 1);
    assert_true(leads(replica));
}

static void test_membership__asking_again_for_what_is_changes_nothing(void **state)
{
    (void)state;
    const uint32_t turned[] = {2, 0, 1};
    uint64_t version = p.nodes[0].map->cluster_version;
    ask(0, turned, 3);
    assert_int_equal(p.nodes[0].map->cluster_version, version);
    assert_voters(0, all, 3);
}

static void test_membership__what_cannot_be_is_refused_with_the_reason(void **state)
{
    (void)state;
    const uint32_t two[] = {0, 1}, twice[] = {0, 1, 1}, unknown[] = {0, 1, 7}, one[] = {1};
    ask(0, two, 2);
    assert_refused(STATUS_USAGE, "1, 3 or 5");
    ask(0, twice, 3);
    assert_refused(STATUS_USAGE, "named twice");
    ask(0, unknown, 3);
    assert_refused(STATUS_USAGE, "no node");
    ask(0, one, 1);
    pair_crash(&p, 2);
    pair_run(&p, CHANGED_MS);
    ask(0, all, 3);
    assert_refused(STATUS_WRONGEPOCH, "n1 does not vote");
    ask(1, all, 3);
    assert_refused(STATUS_UNAVAILABLE, "n3 is not there");
    assert_voters(1, one, 1);
}

static void test_membership__without_a_majority_the_change_is_refused(void **state)
{
    (void)state;
    const uint32_t one[] = {0};
    pair_crash(&p, 1);
    pair_crash(&p, 2);
    pair_run(&p, CHANGED_MS);
    ask(0, one, 1);
    assert_refused(STATUS_UNAVAILABLE, "a majority of the present voters");
    assert_voters(0, all, 3);
}

/* As a process asks that is to be a node. Its number, UINT32_MAX: it was not taken in. */
static uint32_t join(uint32_t node, const char *name, const char *address, uint8_t id)
{
    struct clustermap_node self = {.disk = 77, .weight = 5};
    struct buffer value, frame;
    memset(&self.id, id, sizeof self.id);
    snprintf(self.name, sizeof self.name, "%s", name);
    snprintf(self.address, sizeof self.address, "%s", address);
    buffer_init(&value, 4096);
    buffer_init(&frame, 4096);
    assert_int_equal(clustermap_encode_node(&self, &value), STATUS_OK);
    assert_int_equal(codec_pack_join(buffer_view(&value), &frame), STATUS_OK);
    pair_ask(&p, node, buffer_view(&frame));
    buffer_fini(&value);
    buffer_fini(&frame);
    pair_run(&p, CHANGED_MS);
    return clustermap_node_by_id(p.nodes[node].map, self.id);
}

static void test_membership__a_node_joins_and_all_hear_of_it(void **state)
{
    (void)state;
    assert_int_equal(join(1, "n4", "tcp://127.0.0.1:9000", 0x44), 3);
    assert_int_equal(join(2, "n5", "tcp://127.0.0.1:9003", 0x55), 4);
    for (uint32_t i = 0; i < 3; i++) {
        const struct clustermap *map = p.nodes[i].map;
        assert_int_equal(map->nodes_count, 5);
        assert_string_equal(map->nodes[3].name, "n4");
        assert_string_equal(map->nodes[4].address, "tcp://127.0.0.1:9003");
        assert_true(map->nodes[4].disk == 77 && map->nodes[4].weight == 5);
    }
}

static void test_membership__who_asks_again_has_the_same_number(void **state)
{
    (void)state;
    assert_int_equal(join(1, "n4", "tcp://127.0.0.1:9000", 0x44), 3);
    assert_int_equal(join(2, "n4", "tcp://127.0.0.1:9000", 0x44), 3);
    assert_int_equal(p.nodes[0].map->nodes_count, 4);
}

static void test_membership__nobody_joins_under_anothers_name_or_address(void **state)
{
    (void)state;
    assert_int_equal(join(1, "n2", "tcp://127.0.0.1:9000", 0x44), UINT32_MAX);
    assert_refused(STATUS_USAGE, "the name n2 is in use");
    assert_int_equal(join(1, "n4", p.nodes[0].map->nodes[2].address, 0x44), UINT32_MAX);
    assert_refused(STATUS_USAGE, "meet those of node n3");
    assert_int_equal(join(1, "n4", "nowhere", 0x44), UINT32_MAX);
    assert_refused(STATUS_USAGE, "tcp://HOST:PORT");
}

/* Two ask two nodes at the same moment for the same number. */
static void test_membership__two_who_join_at_once_have_two_numbers(void **state)
{
    (void)state;
    cut_off(1, true);
    assert_int_equal(join(1, "n5", "tcp://127.0.0.1:9003", 0x55), UINT32_MAX);
    assert_int_equal(join(2, "n4", "tcp://127.0.0.1:9000", 0x44), 3);
    cut_off(1, false);
    pair_run(&p, CHANGED_MS);
    assert_int_equal(join(1, "n5", "tcp://127.0.0.1:9003", 0x55), 4);
    assert_int_equal(p.nodes[0].map->nodes_count, 5);
}

/* What was known of nodes beyond the cluster file is known after a restart. */
static void test_membership__who_has_joined_is_known_over_a_restart(void **state)
{
    (void)state;
    assert_int_equal(join(1, "n4", "tcp://127.0.0.1:9000", 0x44), 3);
    for (int checkpointed = 0; checkpointed < 2; checkpointed++) {
        if (checkpointed)
            pair_checkpoint(&p, 0);
        pair_crash(&p, 0);
        pair_start(&p, 0);
        pair_run(&p, TRIO_SETTLED_MS);
        assert_int_equal(p.nodes[0].map->nodes_count, 4);
    }
}

static void test_membership__heartbeats_bring_a_new_address_into_the_register(void **state)
{
    (void)state;
    const char *moved = "tcp://127.0.0.1:9900";
    pair_crash(&p, third);
    p.address[third] = moved;
    pair_start(&p, third);
    p.deaf[third] = true; /* nothing comes where it was */
    pair_run(&p, CHANGED_MS);
    assert_string_equal(p.nodes[primary].map->nodes[third].address, moved);
    assert_string_equal(p.nodes[replica].map->nodes[third].address, moved);
    p.deaf[third] = false;
    pair_run(&p, CHANGED_MS);
    assert_string_equal(p.nodes[third].map->nodes[third].address, moved);
    assert_true(p.nodes[third].map->nodes[third].disk == p.nodes[third].disk);
}

static void test_membership__who_votes_alone_writes_its_address_itself(void **state)
{
    (void)state;
    const char *moved = "tcp://127.0.0.1:9900";
    const uint32_t one[] = {third};
    ask(primary, one, 1);
    pair_crash(&p, third);
    p.address[third] = moved;
    pair_start(&p, third);
    pair_run(&p, CHANGED_MS);
    assert_string_equal(p.nodes[primary].map->nodes[third].address, moved);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_membership__##name, open_trio, trio_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_disks_of_all_nodes_are_recorded),
        CASE(voters_change_and_all_hear_of_it),
        CASE(who_votes_no_more_is_not_needed),
        CASE(who_votes_now_is_needed),
        CASE(voters_are_remembered_over_a_restart),
        CASE(a_change_is_ended_by_those_who_are_to_come),
        CASE(in_between_a_majority_of_both_is_needed),
        CASE(asking_again_for_what_is_changes_nothing),
        CASE(what_cannot_be_is_refused_with_the_reason),
        CASE(without_a_majority_the_change_is_refused),
        CASE(a_node_joins_and_all_hear_of_it),
        CASE(who_asks_again_has_the_same_number),
        CASE(nobody_joins_under_anothers_name_or_address),
        CASE(two_who_join_at_once_have_two_numbers),
        CASE(who_has_joined_is_known_over_a_restart),
        CASE(heartbeats_bring_a_new_address_into_the_register),
        CASE(who_votes_alone_writes_its_address_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
