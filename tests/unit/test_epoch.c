/* Who leads a partition: rules F1, F2, F6, G1 of storage/README.md. */
#include "storage/epoch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/lib/pair.h"
#include "tests/unit/trio.h"

static int open_trio(void **state)
{
    (void)state;
    trio_open(0);
    return 0;
}

static void test_epoch__who_is_silent_for_300_ms_is_left_out_and_not_before(void **state)
{
    (void)state;
    cut_off(replica, true);
    pair_run(&p, 199); /* the last heartbeat may be a hundred old */
    assert_true(has_member(primary, replica));
    pair_run(&p, 150);
    assert_false(has_member(primary, replica));
    pair_run(&p, 100);
    assert_true(leads(primary));
}

static void test_epoch__who_acknowledges_nothing_for_a_second_is_left_out(void **state)
{
    (void)state;
    p.disk_stopped[replica] = true;
    uint64_t token = put_at(primary);
    pair_run(&p, 990);
    assert_true(has_member(primary, replica));
    assert_null(pair_answer(&p, token));
    pair_run(&p, 1200);
    assert_false(has_member(primary, replica));
    assert_true(is_done(token));
}

/* F1. It hands over to who has what it cannot make durable; nothing is lost, and it comes back. */
static void test_epoch__a_primary_whose_disk_stands_still_hands_over(void **state)
{
    (void)state;
    p.disk_stopped[primary] = true;
    uint64_t token = put_at(primary);
    pair_run(&p, 450);
    assert_true(leads(primary));
    pair_run(&p, 300);
    assert_true(leads(replica));
    assert_false(has_member(replica, primary));
    assert_int_equal(counters(primary).hand_overs, 1);
    pair_run(&p, 600); /* its lease */
    uint64_t later = put_at(replica);
    pair_run(&p, 50);
    assert_true(is_done(later));
    p.disk_stopped[primary] = false;
    pair_run(&p, 2 * TRIO_SETTLED_MS);
    assert_true(is_done(token));
    assert_true(leads(primary));
}

static void test_epoch__where_all_disks_stand_still_nobody_hands_over(void **state)
{
    (void)state;
    p.disk_stopped[primary] = p.disk_stopped[replica] = true;
    uint64_t token = put_at(primary);
    pair_run(&p, 900);
    assert_true(leads(primary));
    assert_int_equal(counters(primary).hand_overs, 0);
    p.disk_stopped[primary] = p.disk_stopped[replica] = false;
    pair_run(&p, 50);
    assert_true(is_done(token));
}

/* While the process stood still, the disk went on, and nobody had said so yet. */
static void test_epoch__an_own_pause_is_no_stall_of_the_disk(void **state)
{
    (void)state;
    put_at(primary);
    p.now_ms += 5000;
    pair_run(&p, 20);
    assert_int_equal(counters(primary).hand_overs, 0);
}

static void test_epoch__a_member_takes_over_from_a_dead_primary(void **state)
{
    (void)state;
    uint64_t epoch = view(primary).config_epoch;
    pair_crash(&p, primary);
    pair_run(&p, 199); /* the last heartbeat may be a hundred old */
    assert_false(leads(replica));
    pair_run(&p, 500);
    assert_true(leads(replica));
    assert_true(view(replica).config_epoch > epoch);
    assert_false(has_member(replica, primary));
}

/* F2. It has been left out, and may lack what was written since. */
static void test_epoch__who_was_left_out_never_takes_over(void **state)
{
    (void)state;
    cut_off(replica, true);
    pair_run(&p, 1000);
    uint64_t token = put_at(primary);
    pair_run(&p, 100);
    assert_true(is_done(token));
    pair_crash(&p, primary);
    cut_off(replica, false);
    for (int i = 0; i < 8000; i++) {
        pair_run(&p, 1);
        assert_false(view(replica).primary);
    }
    pair_start(&p, primary);
    pair_run(&p, 2 * TRIO_SETTLED_MS);
    assert_true(leads(primary));
}

/* F2. Who won is dead before its epoch was open: the ISR of the one before may go on, too. */
static void test_epoch__a_complete_copy_is_not_locked_out_by_a_winner_that_died(void **state)
{
    (void)state;
    cut_off(primary, true);
    for (int i = 0; i < 1000 && !(view(replica).primary && !view(replica).opened); i++)
        pair_run(&p, 1);
    assert_true(view(replica).primary);
    assert_false(view(replica).opened);
    pair_crash(&p, replica);
    cut_off(primary, false);
    pair_run(&p, TRIO_SETTLED_MS);
    assert_true(leads(primary));
}

/* F6. Its replica may hold entries of that epoch which the primary has lost. */
static void test_epoch__a_restarted_primary_takes_the_next_epoch(void **state)
{
    (void)state;
    uint64_t epoch = view(primary).config_epoch;
    pair_crash(&p, primary);
    pair_start(&p, primary);
    for (int i = 0; i < TRIO_SETTLED_MS; i++) {
        pair_run(&p, 1);
        if (view(primary).primary)
            assert_true(view(primary).promised_epoch > epoch);
    }
    assert_true(leads(primary));
}

/* The replica is away, and lacks `writes` when it comes back; its back-off is over. */
static void miss_writes(int writes)
{
    cut_off(replica, true);
    pair_run(&p, 1500);
    for (int i = 0; i < writes; i++) {
        uint64_t token = put_at(primary);
        pair_run(&p, 5);
        assert_true(is_done(token));
    }
    cut_off(replica, false);
}

/* Until the replica is being added, that is, the primary waits for its disk. */
static void run_until_added(void)
{
    uint64_t before = counters(primary).additions;
    for (int i = 0; i < 5000 && counters(primary).additions == before; i++)
        pair_run(&p, 1);
    assert_true(counters(primary).additions > before);
}

/* G1 */
static void test_epoch__a_learner_is_no_member_before_it_has_everything(void **state)
{
    (void)state;
    miss_writes(20);
    for (int i = 0; i < 2000 && view(replica).promised_epoch != view(primary).promised_epoch; i++)
        pair_run(&p, 1);
    p.disk_stopped[replica] = true; /* it gets all, and has nothing */
    for (int i = 0; i < 3000; i++) {
        pair_run(&p, 1);
        if (has_member(primary, replica))
            assert_true(view(replica).durable_seq >= view(primary).commit_seq);
    }
    assert_true(counters(primary).additions_dropped > 0);
    p.disk_stopped[replica] = false;
    pair_run(&p, TRIO_SETTLED_MS);
    assert_true(has_member(primary, replica));
}

/* G1. From that moment on; but not for long. */
static void test_epoch__while_a_member_is_added_its_acknowledgement_is_required(void **state)
{
    (void)state;
    miss_writes(20);
    for (int i = 0; i < 2000 && view(replica).promised_epoch != view(primary).promised_epoch; i++)
        pair_run(&p, 1);
    p.disk_stopped[replica] = true;
    run_until_added();
    uint64_t token = put_at(primary);
    pair_run(&p, 300);
    assert_null(pair_answer(&p, token));
    pair_run(&p, 400);
    assert_true(is_done(token));
}

static void test_epoch__leadership_comes_back_to_whom_placement_wants(void **state)
{
    (void)state;
    pair_crash(&p, primary);
    pair_run(&p, TRIO_SETTLED_MS);
    assert_true(leads(replica));
    pair_start(&p, primary);
    pair_run(&p, 2 * TRIO_SETTLED_MS);
    assert_true(leads(primary));
    assert_true(has_member(primary, replica));
    assert_int_equal(counters(replica).hand_backs, 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_epoch__##name, open_trio, trio_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(who_is_silent_for_300_ms_is_left_out_and_not_before),
        CASE(who_acknowledges_nothing_for_a_second_is_left_out),
        CASE(a_primary_whose_disk_stands_still_hands_over),
        CASE(where_all_disks_stand_still_nobody_hands_over),
        CASE(an_own_pause_is_no_stall_of_the_disk),
        CASE(a_member_takes_over_from_a_dead_primary),
        CASE(who_was_left_out_never_takes_over),
        CASE(a_complete_copy_is_not_locked_out_by_a_winner_that_died),
        CASE(a_restarted_primary_takes_the_next_epoch),
        CASE(a_learner_is_no_member_before_it_has_everything),
        CASE(while_a_member_is_added_its_acknowledgement_is_required),
        CASE(leadership_comes_back_to_whom_placement_wants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
