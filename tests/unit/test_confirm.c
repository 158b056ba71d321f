/* Reads that are confirmed by all members, and reads of any copy: rules R5 and R6 of storage/README.md. */
#include "storage/confirm.h"

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
    put_at(primary);
    pair_run(&p, 100);
    return 0;
}

static uint64_t ask(uint32_t node, enum consistency how)
{
    return pair_read_query(&p, node, "key", &(struct read_query){READ_VALUE, how});
}

static bool answered(uint64_t token)
{
    return pair_answer(&p, token) != NULL;
}

static void assert_shows(uint64_t token, const char *value, uint32_t says)
{
    const struct pair_answer *a = pair_answer(&p, token);
    assert_non_null(a);
    assert_int_equal(a->status, STATUS_OK);
    assert_int_equal(a->value_size, strlen(value));
    assert_memory_equal(a->value, value, a->value_size);
    assert_int_equal(a->flags & (ANSWER_ANY | ANSWER_CONFIRMED), says);
}

static void assert_refused(uint64_t token, enum status status)
{
    const struct pair_answer *a = pair_answer(&p, token);
    assert_non_null(a);
    assert_string_equal(status_name(a->status), status_name(status));
}

static void test_confirm__one_question_is_about_all_reads_that_wait(void **state)
{
    (void)state;
    uint64_t tokens[20];
    p.delay_ms = 20;
    for (int i = 0; i < 20; i++)
        tokens[i] = ask(primary, CONSISTENCY_CONFIRM); /* each is a turn of its own */
    pair_run(&p, 30);
    assert_false(answered(tokens[0]));
    pair_run(&p, 15);
    assert_shows(tokens[0], "value 1", ANSWER_CONFIRMED);
    assert_false(answered(tokens[1]));
    pair_run(&p, 45);
    for (int i = 0; i < 20; i++)
        assert_shows(tokens[i], "value 1", ANSWER_CONFIRMED);
    assert_int_equal(counters(primary).confirms, 2);
}

static void test_confirm__a_lease_is_not_enough(void **state)
{
    (void)state;
    cut_off(replica, true);
    uint64_t trusting = ask(primary, CONSISTENCY_LINEARIZABLE);
    uint64_t confirmed = ask(primary, CONSISTENCY_CONFIRM);
    pair_run(&p, 100);
    assert_true(readable(primary));
    assert_shows(trusting, "value 1", 0);
    assert_false(answered(confirmed));
    pair_run(&p, 500); /* the silent one is left out, and nobody is left to be asked */
    assert_false(has_member(primary, replica));
    assert_shows(confirmed, "value 1", ANSWER_CONFIRMED);
}

static void test_confirm__who_knows_of_a_newer_epoch_does_not_confirm(void **state)
{
    (void)state;
    p.mute[primary] = true; /* it hears all, and nobody hears it */
    pair_run(&p, 1000);
    assert_true(leads(replica));
    p.mute[primary] = false;
    p.deaf[primary] = true; /* it may ask, and hears of nothing new */
    uint64_t token = ask(primary, CONSISTENCY_CONFIRM);
    pair_run(&p, 1000);
    const struct pair_answer *a = pair_answer(&p, token);
    assert_true(a == NULL || a->status != STATUS_OK);
}

/* Late and doubled answers are about reads that came before their question. */
static void test_confirm__an_answer_is_about_what_came_before_its_question(void **state)
{
    (void)state;
    p.delay_ms = 30;
    uint64_t first = ask(primary, CONSISTENCY_CONFIRM);
    pair_run(&p, 40);
    uint64_t second = ask(primary, CONSISTENCY_CONFIRM);
    pair_run(&p, 25);
    assert_shows(first, "value 1", ANSWER_CONFIRMED);
    assert_false(answered(second));
    pair_run(&p, 60);
    assert_shows(second, "value 1", ANSWER_CONFIRMED);
    assert_int_equal(counters(primary).confirms, 2);
}

static void test_confirm__a_later_write_does_not_show(void **state)
{
    (void)state;
    p.delay_ms = 20;
    uint64_t token = ask(primary, CONSISTENCY_CONFIRM);
    uint64_t written_later = put_at(primary);
    pair_run(&p, 200);
    assert_shows(token, "value 1", ANSWER_CONFIRMED);
    assert_true(is_done(written_later));
}

static void test_confirm__a_question_that_was_lost_is_asked_again(void **state)
{
    (void)state;
    p.mute[replica] = true;
    uint64_t token = ask(primary, CONSISTENCY_CONFIRM);
    pair_run(&p, 50);
    p.mute[replica] = false;
    assert_false(answered(token));
    pair_run(&p, 150);
    assert_shows(token, "value 1", ANSWER_CONFIRMED);
    assert_true(counters(primary).confirms > 1);
}

/* A node that stood still has lost its leases, and the others answer: it asks them, also as a replica. */
static void test_confirm__where_leases_ran_out_the_members_are_asked(void **state)
{
    (void)state;
    p.now_ms += 2000;
    assert_false(readable(replica));
    uint64_t token = ask(replica, CONSISTENCY_LINEARIZABLE);
    pair_run(&p, 5);
    assert_shows(token, "value 1", 0);
    assert_int_equal(counters(replica).confirms_unled, 1);
}

static void test_confirm__a_replica_that_misses_somebody_names_the_primary(void **state)
{
    (void)state;
    cut_off(replica, true);
    pair_run(&p, 350); /* its lease still holds */
    uint64_t token = ask(replica, CONSISTENCY_CONFIRM);
    pair_run(&p, 2);
    assert_refused(token, STATUS_ASKPRIMARY);
}

/* R6 */
static void test_any__the_copy_that_is_left_goes_on_and_says_so(void **state)
{
    (void)state;
    pair_crash(&p, primary);
    pair_crash(&p, third);
    pair_run(&p, 2000);
    assert_false(readable(replica));
    uint64_t any = ask(replica, CONSISTENCY_ANY), other = ask(replica, CONSISTENCY_LINEARIZABLE);
    pair_run(&p, 2);
    assert_shows(any, "value 1", ANSWER_ANY);
    assert_refused(other, STATUS_ASKPRIMARY);
    assert_int_equal(counters(replica).reads_any, 1);
}

static void test_any__what_is_not_committed_does_not_show(void **state)
{
    (void)state;
    p.mute[replica] = true; /* it gets the entry, and nobody hears that it has it */
    put_at(primary);
    pair_run(&p, 20);
    uint64_t at_primary = ask(primary, CONSISTENCY_ANY), at_replica = ask(replica, CONSISTENCY_ANY);
    pair_run(&p, 2);
    assert_shows(at_primary, "value 1", ANSWER_ANY);
    const struct pair_answer *a = pair_answer(&p, at_replica);
    assert_non_null(a); /* a replica of two may know the commit already */
    assert_int_equal(a->status, STATUS_OK);
}

static void test_any__it_waits_for_nothing_that_is_held(void **state)
{
    (void)state;
    cut_off(replica, true);
    pair_run(&p, 310);
    uint64_t held = put_at(primary); /* while the member is left out */
    uint64_t any = ask(primary, CONSISTENCY_ANY);
    pair_run(&p, 2);
    assert_false(is_done(held));
    assert_shows(any, "value 1", ANSWER_ANY);
}

static void test_any__an_empty_disk_is_no_copy(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        pair_crash(&p, i);
    pair_wipe(&p, replica);
    pair_start(&p, replica);
    pair_run(&p, 1000);
    uint64_t token = ask(replica, CONSISTENCY_ANY);
    pair_run(&p, 2);
    assert_refused(token, STATUS_ASKPRIMARY);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_##name, open_trio, trio_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(confirm__one_question_is_about_all_reads_that_wait),
        CASE(confirm__a_lease_is_not_enough),
        CASE(confirm__who_knows_of_a_newer_epoch_does_not_confirm),
        CASE(confirm__an_answer_is_about_what_came_before_its_question),
        CASE(confirm__a_later_write_does_not_show),
        CASE(confirm__a_question_that_was_lost_is_asked_again),
        CASE(confirm__where_leases_ran_out_the_members_are_asked),
        CASE(confirm__a_replica_that_misses_somebody_names_the_primary),
        CASE(any__the_copy_that_is_left_goes_on_and_says_so),
        CASE(any__what_is_not_committed_does_not_show),
        CASE(any__it_waits_for_nothing_that_is_held),
        CASE(any__an_empty_disk_is_no_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
