/* Atomic batches, at two nodes stepped by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/codec.h"
#include "proto/partition.h"
#include "tests/lib/pair.h"

static struct pair p;
static char tag[34];        /* "{keyN}", led by node 0 */
static char names[300][48]; /* tag and a number */

static void open_with(bool store_inline)
{
    char key[32];
    pair_init(&p, 8, store_inline);
    pair_run(&p, 300);
    pair_key(&p, 0, 0, key);
    snprintf(tag, sizeof tag, "{%s}", key);
    for (unsigned i = 0; i < 300; i++)
        snprintf(names[i], sizeof names[i], "%s%u", tag, i);
}

static int open_pair(void **state)
{
    (void)state;
    open_with(true);
    return 0;
}

static int open_cold_pair(void **state)
{
    (void)state;
    open_with(false);
    return 0;
}

static int close_pair(void **state)
{
    (void)state;
    pair_fini(&p);
    return 0;
}

#define A names[0]
#define B names[1]
#define C names[2]

static const struct write delete = {.mutation = MUTATION_DELETE};

static struct write put(const char *value)
{
    return (struct write){.mutation = MUTATION_PUT, .value = bytes_text(value)};
}

static struct write put_if_absent(const char *value)
{
    struct write w = put(value);
    w.precondition = PRECONDITION_ABSENT;
    return w;
}

static void settle(void)
{
    pair_run(&p, 20);
}

static uint64_t ask(uint64_t seq, const char *const *keys, const struct write *writes, size_t count)
{
    return pair_atomic(&p, 0, 9, seq, keys, writes, count);
}

static uint64_t put_both(uint64_t seq, const char *a, const char *b)
{
    return ask(seq, (const char *const[]){A, B}, (struct write[]){put(a), put(b)}, 2);
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

static void assert_holds(const char *key, const char *value)
{
    for (uint32_t node = 0; node < PAIR_NODES; node++) {
        uint64_t token = pair_read(&p, node, key);
        settle();
        if (value == NULL)
            assert_status(token, STATUS_NOTFOUND);
        else
            assert_value(token, value);
    }
}

/* An answer as text: "OK(OK=red NOTFOUND)". */
static const char *answer_text(uint64_t token)
{
    static char text[2000];
    struct arena arena;
    struct atomic_answer m;
    const struct pair_answer *a = pair_answer(&p, token);
    assert_non_null(a);
    assert_true(a->flags & ANSWER_VALUE);
    arena_init(&arena);
    arena_reset(&arena, 1 << 20);
    assert_int_equal(codec_unpack_atomic_answer(bytes_of(a->value, a->value_size), &arena, &m),
                     STATUS_OK);
    char *at = text + sprintf(text, "%s(", status_name(a->status));
    for (size_t i = 0; i < m.count; i++) {
        at += sprintf(at, "%s%s", i > 0 ? " " : "", status_name((enum status)m.statuses[i]));
        if (m.flags[i] & ANSWER_VALUE)
            at += sprintf(at, "=%.*s", (int)m.values[i].size, (const char *)m.values[i].data);
    }
    sprintf(at, ")%s", m.dropped ? " dropped" : "");
    arena_fini(&arena);
    return text;
}

static void test_atomic__all_writes_of_a_batch_are_one_entry(void **state)
{
    (void)state;
    uint64_t token = put_both(1, "red", "blue");
    assert_null(pair_answer(&p, token));
    settle();
    assert_string_equal(answer_text(token), "OK(OK OK)");
    assert_holds(A, "red");
    assert_holds(B, "blue");
    const struct pair_answer *batch = pair_answer(&p, token);
    uint64_t a = pair_read(&p, 0, A), b = pair_read(&p, 0, B);
    assert_int_equal(pair_answer(&p, a)->version.seq, batch->version.seq);
    assert_int_equal(pair_answer(&p, b)->version.seq, batch->version.seq);
}

static void test_atomic__one_false_precondition_and_nothing_is_changed(void **state)
{
    (void)state;
    put_both(1, "red", "blue");
    settle();
    struct write change = put("green"), fails = put_if_absent("x");
    change.want = WANT_NEW;
    fails.want = WANT_OLD;
    uint64_t token = ask(2, (const char *const[]){C, A, B}, (struct write[]){put("new"), change, fails}, 3);
    settle();
    assert_string_equal(answer_text(token), "CONDITION(OK OK=red CONDITION=blue)");
    assert_holds(A, "red");
    assert_holds(B, "blue");
    assert_holds(C, NULL);
}

static void test_atomic__an_impossible_mutation_changes_nothing_either(void **state)
{
    (void)state;
    put_both(1, "red", "1");
    settle();
    struct write add = {.mutation = MUTATION_INCREMENT, .delta = 1};
    uint64_t token = ask(2, (const char *const[]){B, A}, (struct write[]){add, add}, 2);
    settle();
    assert_string_equal(answer_text(token), "NOTNUMBER(OK NOTNUMBER)");
    assert_holds(B, "1");
}

static void test_atomic__old_and_new_values_come_back_each_with_its_own(void **state)
{
    (void)state;
    put_both(1, "red", "1");
    settle();
    struct write old = put("green"), sum = {.mutation = MUTATION_INCREMENT, .delta = 4};
    old.want = WANT_OLD;
    sum.want = WANT_NEW;
    uint64_t token = ask(2, (const char *const[]){A, B, C}, (struct write[]){old, sum, delete}, 3);
    settle();
    assert_string_equal(answer_text(token), "OK(OK=red OK=5 NOTFOUND)");
    assert_holds(A, "green");
    assert_holds(B, "5");
}

static void test_atomic__each_is_judged_against_what_was_there_before(void **state)
{
    (void)state;
    put_both(1, "red", "blue");
    settle();
    struct write gone = delete, there = put("x");
    there.precondition = PRECONDITION_PRESENT;
    uint64_t first = ask(2, (const char *const[]){A, B}, (struct write[]){gone, there}, 2);
    /* The next one sees what the first will leave, committed or not. */
    uint64_t second = ask(3, (const char *const[]){A, C}, (struct write[]){put_if_absent("y"), put("z")}, 2);
    settle();
    assert_string_equal(answer_text(first), "OK(OK OK)");
    assert_string_equal(answer_text(second), "OK(OK OK)");
    assert_holds(A, "y");
    assert_holds(B, "x");
    assert_holds(C, "z");
}

static void test_atomic__a_repeat_gets_the_same_answer_and_changes_nothing(void **state)
{
    (void)state;
    struct write sum = {.mutation = MUTATION_INCREMENT, .delta = 4, .want = WANT_NEW};
    const char *const keys[] = {A, B};
    const struct write both[] = {sum, sum};
    uint64_t first = ask(1, keys, both, 2);
    uint64_t while_pending = ask(1, keys, both, 2);
    settle();
    uint64_t later = ask(1, keys, both, 2);
    uint64_t outcome = pair_outcome(&p, 0, A, 9, 1, 0);
    settle();
    assert_string_equal(answer_text(first), "OK(OK=4 OK=4)");
    assert_string_equal(answer_text(while_pending), "OK(OK=4 OK=4)");
    assert_string_equal(answer_text(later), "OK(OK=4 OK=4)");
    assert_string_equal(answer_text(outcome), "OK(OK=4 OK=4)");
    assert_holds(A, "4");
}

static void test_atomic__values_too_large_to_keep_are_missing_in_a_repeat_alone(void **state)
{
    (void)state;
    char large[700], expected[1500];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    struct write w = put(large);
    w.want = WANT_NEW;
    const char *const keys[] = {A, B};
    const struct write both[] = {w, w};
    uint64_t first = ask(1, keys, both, 2);
    settle();
    uint64_t later = ask(1, keys, both, 2);
    settle();
    snprintf(expected, sizeof expected, "OK(OK=%s OK=%s)", large, large);
    assert_string_equal(answer_text(first), expected);
    assert_string_equal(answer_text(later), "OK(OK OK) dropped");
}

static void test_atomic__every_key_of_it_is_dirty_until_the_commit(void **state)
{
    (void)state;
    put_both(1, "red", "blue");
    settle();
    p.disk_stopped[1] = true;
    put_both(2, "RED", "BLUE");
    pair_run(&p, 5);
    uint64_t a = pair_read(&p, 0, A), b = pair_read(&p, 0, B);
    struct scan_query q = {0};
    uint64_t page = pair_range(&p, 0, tag, &q);
    assert_null(pair_answer(&p, a));
    assert_null(pair_answer(&p, b));
    assert_null(pair_answer(&p, page));
    uint64_t at_replica = pair_read(&p, 1, B);
    pair_run(&p, 60);
    assert_status(at_replica, STATUS_ASKPRIMARY);
    p.disk_stopped[1] = false;
    settle();
    assert_value(a, "RED");
    assert_value(b, "BLUE");
}

static void test_atomic__what_the_power_leaves_of_it_is_all_or_nothing(void **state)
{
    (void)state;
    put_both(1, "red", "blue");
    settle();
    put_both(2, "RED", "BLUE"); /* on no disk */
    for (uint32_t node = 0; node < PAIR_NODES; node++)
        pair_crash(&p, node);
    for (uint32_t node = 0; node < PAIR_NODES; node++)
        pair_start(&p, node);
    pair_run(&p, 3000);
    assert_holds(A, "red");
    assert_holds(B, "blue");
    put_both(3, "RED", "BLUE");
    settle();
    pair_crash(&p, 0);
    pair_start(&p, 0);
    pair_run(&p, 3000);
    assert_holds(A, "RED");
    assert_holds(B, "BLUE");
}

static void test_atomic__keys_past_their_expiry_go_before_it(void **state)
{
    (void)state;
    struct write brief = put("red");
    brief.ttl_ms = 50;
    ask(1, (const char *const[]){A, B}, (struct write[]){brief, brief}, 2);
    settle();
    p.now_ms += 60;
    uint64_t token = ask(2, (const char *const[]){A, B, C},
                         (struct write[]){put_if_absent("new"), put_if_absent("new"), put("x")}, 3);
    settle();
    assert_string_equal(answer_text(token), "OK(OK OK OK)");
    assert_holds(A, "new");
    struct node_counters c;
    node_count(p.nodes[0].node, &c);
    assert_int_equal(c.lapses, 2);
    /* A batch that fails lets them go, too. */
    ask(3, (const char *const[]){A}, &brief, 1);
    settle();
    p.now_ms += 60;
    struct write present = put("y");
    present.precondition = PRECONDITION_PRESENT;
    token = ask(4, (const char *const[]){C, A}, (struct write[]){put("y"), present}, 2);
    settle();
    assert_string_equal(answer_text(token), "CONDITION(OK CONDITION)");
    assert_holds(A, NULL);
    assert_holds(C, "x");
}

static void test_atomic__a_batch_that_a_later_write_of_its_client_overtook_is_aborted(void **state)
{
    (void)state;
    struct write w = put("late");
    uint64_t other = pair_write(&p, 0, C, 9, 5, &w); /* on another key of the tag */
    uint64_t fine = put_both(4, "red", "blue");
    uint64_t single = pair_write(&p, 0, B, 9, 7, &w);
    uint64_t pending = put_both(6, "x", "x"); /* behind one that is under way */
    settle();
    assert_status(other, STATUS_OK);
    assert_status(fine, STATUS_OK);
    assert_status(single, STATUS_OK);
    assert_status(pending, STATUS_ABORTED);
    uint64_t committed = put_both(3, "x", "x"); /* behind committed ones */
    settle();
    assert_status(committed, STATUS_ABORTED);
    assert_holds(A, "red");
    assert_holds(B, "late");
}

static void test_atomic__a_write_that_a_later_batch_of_its_client_overtook_is_aborted(void **state)
{
    (void)state;
    struct write w = put("early");
    put_both(5, "red", "blue");
    uint64_t pending = pair_write(&p, 0, A, 9, 4, &w);
    settle();
    uint64_t committed = pair_write(&p, 0, A, 9, 3, &w);
    uint64_t batch = put_both(2, "x", "y");
    settle();
    assert_status(pending, STATUS_ABORTED);
    assert_status(committed, STATUS_ABORTED);
    assert_status(batch, STATUS_ABORTED);
    assert_holds(A, "red");
}

static void test_atomic__what_is_no_batch_of_one_tag_is_refused(void **state)
{
    (void)state;
    struct write two[] = {put("a"), put("b")};
    assert_status(ask(1, (const char *const[]){A, "stranger"}, two, 2), STATUS_USAGE);
    assert_status(ask(2, (const char *const[]){A, A}, two, 2), STATUS_USAGE);
    assert_status(ask(3, (const char *const[]){A, ""}, two, 2), STATUS_USAGE);
    assert_status(ask(4, (const char *const[]){A}, two, 0), STATUS_MALFORMED);
    assert_status(pair_atomic(&p, 1, 9, 5, (const char *const[]){A, B}, two, 2), STATUS_ASKPRIMARY);
    char large[KEY_SIZE_MAX + 2];
    memset(large, 'x', sizeof large - 1);
    memcpy(large, A, strlen(A));
    large[sizeof large - 1] = 0;
    assert_status(ask(6, (const char *const[]){A, large}, two, 2), STATUS_TOOBIG);
    settle();
    assert_holds(A, NULL);
}

static void test_atomic__the_largest_batch_is_one(void **state)
{
    (void)state;
    const char *keys[ATOMIC_KEYS_MAX];
    struct write writes[ATOMIC_KEYS_MAX];
    for (size_t i = 0; i < ATOMIC_KEYS_MAX; i++) {
        keys[i] = names[i];
        writes[i] = put("red");
    }
    uint64_t token = ask(1, keys, writes, ATOMIC_KEYS_MAX);
    settle();
    assert_status(token, STATUS_OK);
    assert_holds(names[ATOMIC_KEYS_MAX - 1], "red");
    struct node_counters c;
    node_count(p.nodes[0].node, &c);
    assert_int_equal(c.pending_entries, 0);
}

static void test_atomic__operations_that_wait_for_the_table_come_before(void **state)
{
    (void)state;
    put_both(1, "1", "1");
    settle();
    pair_checkpoint(&p, 0);
    settle();
    struct write add = {.mutation = MUTATION_INCREMENT, .delta = 10, .want = WANT_NEW};
    p.fetches_late = true;
    uint64_t cold = pair_write(&p, 0, B, 9, 2, &add);
    assert_true(p.fetch_held);
    uint64_t batch = ask(3, (const char *const[]){A, B}, (struct write[]){add, add}, 2);
    settle();
    assert_value(cold, "11");
    assert_string_equal(answer_text(batch), "OK(OK=11 OK=21)");
    struct node_counters c;
    node_count(p.nodes[0].node, &c);
    assert_true(c.fetches > 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_atomic__##name, open_pair, close_pair)
#define COLD(name) cmocka_unit_test_setup_teardown(test_atomic__##name, open_cold_pair, close_pair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(all_writes_of_a_batch_are_one_entry),
        CASE(one_false_precondition_and_nothing_is_changed),
        CASE(an_impossible_mutation_changes_nothing_either),
        CASE(old_and_new_values_come_back_each_with_its_own),
        CASE(each_is_judged_against_what_was_there_before),
        CASE(a_repeat_gets_the_same_answer_and_changes_nothing),
        CASE(values_too_large_to_keep_are_missing_in_a_repeat_alone),
        CASE(every_key_of_it_is_dirty_until_the_commit),
        CASE(what_the_power_leaves_of_it_is_all_or_nothing),
        CASE(keys_past_their_expiry_go_before_it),
        CASE(a_batch_that_a_later_write_of_its_client_overtook_is_aborted),
        CASE(a_write_that_a_later_batch_of_its_client_overtook_is_aborted),
        CASE(what_is_no_batch_of_one_tag_is_refused),
        CASE(the_largest_batch_is_one),
        COLD(operations_that_wait_for_the_table_come_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
