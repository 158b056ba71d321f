/* Operations between two epochs, and planned stops: two nodes that are stepped by hand. */
#include "storage/hold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/partition.h"
#include "tests/lib/pair.h"

#define PARTITIONS 8
#define SETTLED_MS 2500

static struct pair p;

static int open_pair(void **state)
{
    (void)state;
    pair_init(&p, PARTITIONS, true);
    pair_run(&p, SETTLED_MS);
    return 0;
}

static int close_pair(void **state)
{
    (void)state;
    pair_fini(&p);
    return 0;
}

static uint64_t put(uint32_t node, const char *key, uint64_t seq, const char *value)
{
    struct write w = {.mutation = MUTATION_PUT, .value = bytes_text(value)};
    return pair_write(&p, node, key, 9, seq, &w);
}

static void assert_status(uint64_t token, enum status status)
{
    const struct pair_answer *a = pair_answer(&p, token);
    assert_non_null(a);
    assert_string_equal(status_name(a->status), status_name(status));
}

static void assert_value(uint64_t token, const char *value)
{
    assert_status(token, STATUS_OK);
    const struct pair_answer *a = pair_answer(&p, token);
    assert_int_equal(a->value_size, strlen(value));
    assert_memory_equal(a->value, value, a->value_size);
}

static uint64_t led_by(uint32_t node)
{
    struct node_counters c;
    node_count(p.nodes[node].node, &c);
    return c.partitions_led;
}

static uint64_t peers_up(uint32_t node)
{
    struct node_counters c;
    node_count(p.nodes[node].node, &c);
    return c.peers_up;
}

/* The replica is dead, and known to be: nothing can be logged until it is left out. */
static void lose_replica(void)
{
    pair_crash(&p, 1);
    pair_run(&p, 305);
}

static void test_hold__writes_wait_for_a_member_to_be_left_out(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    pair_crash(&p, 0);
    pair_start(&p, 0); /* it must not decide before its forgotten leases have run out */
    uint64_t token = put(0, key, 1, "red");
    pair_run(&p, HOLD_MS / 2);
    assert_null(pair_answer(&p, token));
    pair_run(&p, HOLD_MS);
    assert_non_null(pair_answer(&p, token));
    pair_run(&p, SETTLED_MS);
    token = put(0, key, 2, "green");
    pair_run(&p, 20);
    assert_status(token, STATUS_OK);
}

static void test_hold__what_is_held_goes_on_in_order(void **state)
{
    (void)state;
    char key[32], text[8];
    uint64_t tokens[6];
    pair_key(&p, 0, 0, key);
    lose_replica();
    for (uint64_t i = 0; i < 6; i++) {
        snprintf(text, sizeof text, "v%u", (unsigned)i);
        tokens[i] = put(0, key, i + 1, text);
    }
    uint64_t read = pair_read(&p, 0, key); /* behind them on the same key */
    pair_run(&p, SETTLED_MS);
    for (uint64_t i = 0; i < 6; i++)
        assert_status(tokens[i], STATUS_OK);
    for (uint64_t i = 1; i < 6; i++)
        assert_true(pair_answer(&p, tokens[i])->version.seq >
                    pair_answer(&p, tokens[i - 1])->version.seq);
    assert_value(read, "v5");
}

static void test_hold__all_are_refused_together(void **state)
{
    (void)state;
    char key[32];
    uint64_t tokens[3];
    pair_key(&p, 0, 0, key);
    uint32_t partition = partition_of(partition_digest(bytes_text(key)), PARTITIONS);
    pair_crash(&p, 1);
    pair_crash(&p, 0);
    pair_start(&p, 0);
    p.disk_stopped[0] = true; /* no promise becomes durable: the epoch cannot open */
    for (uint64_t i = 0; i < 3; i++) {
        tokens[i] = put(0, key, i + 1, "red");
        pair_run(&p, 100);
    }
    for (uint64_t i = 0; i < 3; i++)
        assert_null(pair_answer(&p, tokens[i]));
    pair_run(&p, HOLD_MS - 250);
    for (uint64_t i = 0; i < 3; i++)
        assert_status(tokens[i], STATUS_UNAVAILABLE);
    struct node_replica_view v;
    assert_true(node_replica(p.nodes[0].node, partition, &v));
    assert_int_equal(v.last_seq, v.commit_seq); /* nothing was logged */
}

static void test_hold__another_primary_is_named_when_there_is_one(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    assert_status(put(1, key, 1, "red"), STATUS_ASKPRIMARY);
}

static void test_leave__the_other_one_leads_and_nobody_is_refused(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 1, 0, key);
    pair_leave(&p, 1);
    assert_false(node_left(p.nodes[1].node));
    uint64_t first = put(1, key, 1, "red");
    pair_run(&p, 200);
    assert_true(node_left(p.nodes[1].node));
    assert_int_equal(led_by(0), PARTITIONS);
    assert_int_equal(led_by(1), 0);
    const struct pair_answer *a = pair_answer(&p, first);
    assert_non_null(a);
    assert_true(a->status == STATUS_OK || a->status == STATUS_ASKPRIMARY);
    pair_crash(&p, 1); /* it ends; nobody waits for it */
    uint64_t second = put(0, key, 2, "green");
    pair_run(&p, 20);
    assert_status(second, STATUS_OK);
    assert_value(pair_read(&p, 0, key), "green");
}

static void test_leave__one_that_stays_after_all_is_taken_back(void **state)
{
    (void)state;
    uint64_t led = led_by(1);
    assert_true(led > 0);
    pair_leave(&p, 1);
    pair_run(&p, 200);
    assert_int_equal(led_by(1), 0);
    pair_stay(&p, 1);
    pair_run(&p, 2 * SETTLED_MS);
    assert_int_equal(led_by(1), led);
}

static void test_leave__the_last_one_waits_for_nobody(void **state)
{
    (void)state;
    lose_replica();
    pair_run(&p, SETTLED_MS);
    pair_leave(&p, 0);
    pair_run(&p, 10);
    assert_true(node_left(p.nodes[0].node));
}

static void test_leave__two_that_leave_at_once_do_not_wait_for_each_other(void **state)
{
    (void)state;
    pair_leave(&p, 0);
    pair_leave(&p, 1);
    pair_run(&p, 50);
    assert_true(node_left(p.nodes[0].node));
    assert_true(node_left(p.nodes[1].node));
}

static void test_leave__it_waits_for_one_that_catches_up(void **state)
{
    (void)state;
    char key[32];
    lose_replica();
    pair_run(&p, SETTLED_MS);
    for (unsigned i = 0; i < 50; i++) {
        pair_key(&p, 0, i, key);
        put(0, key, i + 1, "red");
    }
    pair_start(&p, 1);
    while (peers_up(0) == 0)
        pair_run(&p, 1); /* heard of, no member yet */
    pair_leave(&p, 0);
    assert_false(node_left(p.nodes[0].node));
    pair_run(&p, 2 * SETTLED_MS);
    assert_true(node_left(p.nodes[0].node));
    assert_int_equal(led_by(1), PARTITIONS);
    assert_value(pair_read(&p, 1, key), "red");
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_##name, open_pair, close_pair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(hold__writes_wait_for_a_member_to_be_left_out),
        CASE(hold__what_is_held_goes_on_in_order),
        CASE(hold__all_are_refused_together),
        CASE(hold__another_primary_is_named_when_there_is_one),
        CASE(leave__the_other_one_leads_and_nobody_is_refused),
        CASE(leave__one_that_stays_after_all_is_taken_back),
        CASE(leave__the_last_one_waits_for_nobody),
        CASE(leave__two_that_leave_at_once_do_not_wait_for_each_other),
        CASE(leave__it_waits_for_one_that_catches_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
