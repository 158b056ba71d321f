/* Who may read: rules L1, L3, L4, R1 of storage/README.md. */
#include "storage/lease.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/lib/pair.h"
#include "tests/unit/trio.h"

#define PRIMARY_MS 400 /* the defaults of node_options_init() */
#define REPLICA_MS 700

static int open_trio(void **state)
{
    (void)state;
    trio_open(0);
    return 0;
}

static void test_lease__both_members_read_and_nobody_else(void **state)
{
    (void)state;
    struct node_replica_view v;
    assert_true(readable(primary));
    assert_true(readable(replica));
    assert_false(node_replica(p.nodes[third].node, 0, &v));
    assert_false(readable(third));
}

/* L1. However long the answers were under way. */
static void test_lease__a_lease_counts_from_when_it_was_asked_for(void **state)
{
    (void)state;
    p.delay_ms = 120;
    pair_run(&p, TRIO_SETTLED_MS);
    assert_true(readable(primary));
    /* Whatever was answered by now was asked for two ways ago. */
    cut_off(replica, true);
    pair_run(&p, PRIMARY_MS - 2 * p.delay_ms + 10);
    assert_false(readable(primary));
    pair_run(&p, REPLICA_MS - PRIMARY_MS);
    assert_false(readable(replica));
}

static void test_lease__a_replica_reads_on_longer_than_a_primary(void **state)
{
    (void)state;
    cut_off(replica, true);
    pair_run(&p, 280);
    assert_true(readable(primary));
    pair_run(&p, 220);
    assert_true(readable(replica));
    pair_run(&p, REPLICA_MS - 500);
    assert_false(readable(replica));
}

/* L1. Both sides must have promised the same epoch. */
static void test_lease__there_is_none_about_another_epoch(void **state)
{
    (void)state;
    pair_crash(&p, primary);
    pair_run(&p, TRIO_SETTLED_MS);
    assert_true(leads(replica));
    p.disk_stopped[primary] = true; /* it promises nothing new */
    pair_start(&p, primary);
    for (int i = 0; i < TRIO_SETTLED_MS; i++) {
        pair_run(&p, 1);
        assert_false(readable(primary));
    }
}

/* Time passes, with writes at whoever takes them; nothing is committed that leaves out `cut` while
 * that may still read (L3). The number of entries that were committed without it. */
static uint64_t commits_without(uint32_t cut, uint64_t ms)
{
    uint64_t commits = 0, before = view(primary).commit_seq;
    for (uint64_t i = 0; i < ms; i++) {
        if (i % 20 == 0)
            put_at(primary);
        pair_run(&p, 1);
        struct node_replica_view v = view(primary);
        if (v.commit_seq > before && !has_member(primary, cut)) {
            assert_false(readable(cut));
            commits += v.commit_seq - before;
        }
        before = v.commit_seq;
    }
    return commits;
}

static void test_lease__nothing_is_committed_while_who_was_left_out_may_read(void **state)
{
    (void)state;
    cut_off(replica, true);
    assert_true(commits_without(replica, 2000) > 0);
}

/* L4. What the former life granted is forgotten, and waited for. The new one hears of the replica
 * once, in the next epoch (in which it gives no lease to who asks for one in the former). */
static void test_lease__a_restart_waits_for_the_leases_of_its_former_life(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        uint64_t epoch = view(primary).config_epoch;
        pair_run(&p, 20 * round); /* another place between two heartbeats */
        cut_off(replica, true);
        pair_crash(&p, primary);
        pair_start(&p, primary);
        for (int i = 0; i < 1000 && view(primary).promised_epoch == epoch; i++)
            pair_run(&p, 1);
        p.mute[replica] = false;
        for (int i = 0; i < 200 && counters(primary).peers_up < 2; i++)
            pair_run(&p, 1);
        p.mute[replica] = true;
        assert_true(commits_without(replica, 2000) > 0);
        cut_off(replica, false);
        pair_run(&p, 3 * TRIO_SETTLED_MS);
        assert_true(readable(replica));
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_lease__##name, open_trio, trio_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(both_members_read_and_nobody_else),
        CASE(a_lease_counts_from_when_it_was_asked_for),
        CASE(a_replica_reads_on_longer_than_a_primary),
        CASE(there_is_none_about_another_epoch),
        CASE(nothing_is_committed_while_who_was_left_out_may_read),
        CASE(a_restart_waits_for_the_leases_of_its_former_life),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
