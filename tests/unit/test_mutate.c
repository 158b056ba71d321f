#include "storage/mutate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SIZE_MAX_HERE 1000 /* of a value */
#define NOW_MS        50

static struct mutate_work work;

static const struct item absent = {.present = false};

static struct item item_text(const char *text)
{
    return (struct item){
        .present = true, .version = {4, 17}, .expiry_ms = 99, .value = bytes_text(text)};
}

static struct mutate_outcome judge(struct write w, struct item current)
{
    struct mutate_outcome o;
    mutate_work_fini(&work);
    memset(&work, 'x', sizeof work);
    mutate_work_init(&work, SIZE_MAX_HERE, NOW_MS);
    mutate(&w, &current, &work, &o);
    return o;
}

static void assert_put(const struct mutate_outcome *o, const char *value, uint64_t expiry_ms)
{
    assert_int_equal(o->status, STATUS_OK);
    assert_true(o->has_effect);
    assert_int_equal(o->effect.kind, EFFECT_PUT);
    assert_true(bytes_equal(o->effect.value, bytes_text(value)));
    assert_int_equal(o->effect.expiry_ms, expiry_ms);
}

static void assert_result(const struct mutate_outcome *o, const char *value)
{
    assert_int_equal(o->has_result, value != NULL);
    if (value != NULL)
        assert_true(bytes_equal(o->result, bytes_text(value)));
    else
        assert_int_equal(o->result.size, 0);
}

static void test_mutate__a_put_clears_the_expiry_and_another_keeps_it(void **state)
{
    (void)state;
    struct write put = {.mutation = MUTATION_PUT, .value = bytes_text("red")};
    struct write keep = {.mutation = MUTATION_PUT_KEEP_EXPIRY, .value = bytes_text("red")};
    struct mutate_outcome o = judge(put, item_text("green"));
    assert_put(&o, "red", 0);
    assert_result(&o, NULL);
    o = judge(put, absent);
    assert_put(&o, "red", 0);
    o = judge(keep, item_text("green"));
    assert_put(&o, "red", 99);
    o = judge(keep, (struct item){.present = false, .expiry_ms = 99});
    assert_put(&o, "red", 0);
}

static void test_mutate__a_delete_of_nothing_has_no_effect(void **state)
{
    (void)state;
    struct write w = {.mutation = MUTATION_DELETE, .want = WANT_OLD};
    struct mutate_outcome o = judge(w, item_text("green"));
    assert_int_equal(o.status, STATUS_OK);
    assert_true(o.has_effect);
    assert_int_equal(o.effect.kind, EFFECT_DELETE);
    assert_int_equal(o.effect.value.size, 0);
    assert_result(&o, "green");
    o = judge(w, absent);
    assert_int_equal(o.status, STATUS_NOTFOUND);
    assert_false(o.has_effect);
    assert_result(&o, NULL);
}

static void test_mutate__want_chooses_between_old_and_new(void **state)
{
    (void)state;
    struct write w = {.mutation = MUTATION_PUT, .value = bytes_text("red")};
    w.want = WANT_OLD;
    struct mutate_outcome o = judge(w, item_text("green"));
    assert_result(&o, "green");
    o = judge(w, absent);
    assert_result(&o, NULL);
    w.want = WANT_NEW;
    o = judge(w, item_text("green"));
    assert_result(&o, "red");
    w.mutation = MUTATION_DELETE;
    o = judge(w, item_text("green"));
    assert_result(&o, NULL);
    w.mutation = MUTATION_NONE;
    o = judge(w, item_text("green"));
    assert_int_equal(o.status, STATUS_OK);
    assert_false(o.has_effect);
    assert_result(&o, "green");
}

static enum status status_of(enum precondition p, struct version expected, const char *value,
                             struct item current)
{
    struct write w = {.precondition = p,
                      .mutation = MUTATION_PUT,
                      .value = bytes_text("new"),
                      .expected = expected,
                      .expected_value = bytes_text(value)};
    struct mutate_outcome o = judge(w, current);
    assert_int_equal(o.has_effect, o.status == STATUS_OK);
    return o.status;
}

static void test_mutate__preconditions_hold_or_not(void **state)
{
    (void)state;
    const struct version none = {0, 0}, right = {4, 17}, later = {4, 18}, other = {5, 17};
    struct item here = item_text("green");
    assert_int_equal(status_of(PRECONDITION_NONE, none, "", here), STATUS_OK);
    assert_int_equal(status_of(PRECONDITION_NONE, none, "", absent), STATUS_OK);
    assert_int_equal(status_of(PRECONDITION_ABSENT, none, "", here), STATUS_CONDITION);
    assert_int_equal(status_of(PRECONDITION_ABSENT, none, "", absent), STATUS_OK);
    assert_int_equal(status_of(PRECONDITION_PRESENT, none, "", here), STATUS_OK);
    assert_int_equal(status_of(PRECONDITION_PRESENT, none, "", absent), STATUS_CONDITION);
    assert_int_equal(status_of(PRECONDITION_VERSION, right, "", here), STATUS_OK);
    assert_int_equal(status_of(PRECONDITION_VERSION, later, "", here), STATUS_CONDITION);
    assert_int_equal(status_of(PRECONDITION_VERSION, other, "", here), STATUS_CONDITION);
    assert_int_equal(status_of(PRECONDITION_VERSION, none, "", here), STATUS_CONDITION);
    assert_int_equal(status_of(PRECONDITION_VERSION, right, "", absent), STATUS_CONDITION);
    assert_int_equal(status_of(PRECONDITION_VALUE, none, "green", here), STATUS_OK);
    assert_int_equal(status_of(PRECONDITION_VALUE, none, "greener", here), STATUS_CONDITION);
    assert_int_equal(status_of(PRECONDITION_VALUE, none, "", here), STATUS_CONDITION);
    assert_int_equal(status_of(PRECONDITION_VALUE, none, "", absent), STATUS_CONDITION);
    assert_int_equal(status_of(PRECONDITION_VALUE, none, "", item_text("")), STATUS_OK);
}

/* The overlay remembers the version at which a key was deleted; {0,0} means absent all the same. */
static void test_mutate__the_version_of_a_deleted_key_is_zero(void **state)
{
    (void)state;
    struct item deleted = {.present = false, .version = {4, 17}};
    const struct version none = {0, 0}, of_delete = {4, 17};
    assert_int_equal(status_of(PRECONDITION_VERSION, none, "", deleted), STATUS_OK);
    assert_int_equal(status_of(PRECONDITION_VERSION, of_delete, "", deleted), STATUS_CONDITION);
}

static void test_mutate__a_failed_condition_gives_what_it_found_if_wanted(void **state)
{
    (void)state;
    struct write w = {
        .precondition = PRECONDITION_ABSENT, .mutation = MUTATION_PUT, .value = bytes_text("red")};
    struct mutate_outcome o = judge(w, item_text("green"));
    assert_result(&o, NULL);
    w.want = WANT_OLD;
    o = judge(w, item_text("green"));
    assert_result(&o, "green");
    w.want = WANT_NEW;
    o = judge(w, item_text("green"));
    assert_int_equal(o.status, STATUS_CONDITION);
    assert_result(&o, "green");
    w.precondition = PRECONDITION_PRESENT;
    o = judge(w, absent);
    assert_int_equal(o.status, STATUS_CONDITION);
    assert_result(&o, NULL);
}

static struct mutate_outcome increment(const char *text, int64_t delta)
{
    struct write w = {.mutation = MUTATION_INCREMENT, .want = WANT_NEW, .delta = delta};
    return judge(w, text == NULL ? absent : item_text(text));
}

static void assert_increment(const char *text, int64_t delta, const char *expected)
{
    struct mutate_outcome o = increment(text, delta);
    assert_put(&o, expected, text == NULL ? 0 : 99);
    assert_result(&o, expected);
}

static void test_mutate__increments_add_within_64_bits(void **state)
{
    (void)state;
    assert_increment(NULL, 5, "5");
    assert_increment(NULL, 0, "0");
    assert_increment("0", -1, "-1");
    assert_increment("41", 1, "42");
    assert_increment("-7", 7, "0");
    assert_increment("9223372036854775806", 1, "9223372036854775807");
    assert_increment("-9223372036854775807", -1, "-9223372036854775808");
    assert_increment("-9223372036854775808", INT64_MAX, "-1");
    assert_increment("9223372036854775807", INT64_MIN, "-1");
    assert_increment(NULL, INT64_MIN, "-9223372036854775808");
}

static void test_mutate__an_increment_beyond_64_bits_overflows(void **state)
{
    (void)state;
    assert_int_equal(increment("9223372036854775807", 1).status, STATUS_OVERFLOW);
    assert_int_equal(increment("-9223372036854775808", -1).status, STATUS_OVERFLOW);
    assert_int_equal(increment("-1", INT64_MIN).status, STATUS_OVERFLOW);
    assert_false(increment("9223372036854775807", 1).has_effect);
    assert_false(increment("9223372036854775807", 1).has_result);
}

static void test_mutate__only_plain_decimal_text_is_a_number(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "-",
        "+1",
        "01",
        "-0",
        "-01",
        " 1",
        "1 ",
        "1a",
        "0x10",
        "1.0",
        "1e3",
        "--1",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999",
        "18446744073709551616",
        "1\n",
        "00",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct mutate_outcome o = increment(texts[i], 1);
        if (o.status != STATUS_NOTNUMBER)
            fail_msg("'%s' is taken for a number", texts[i]);
        assert_false(o.has_effect);
        assert_false(o.has_result);
    }
}

static struct mutate_outcome grow(enum mutation mutation, uint64_t offset, const char *value,
                                  struct item current)
{
    return judge((struct write){.mutation = mutation,
                                .want = WANT_NEW,
                                .offset = offset,
                                .value = bytes_text(value)},
                 current);
}

static void test_mutate__append_puts_behind_what_is_there(void **state)
{
    (void)state;
    struct mutate_outcome o = grow(MUTATION_APPEND, 0, "er", item_text("green"));
    assert_put(&o, "greener", 99);
    assert_result(&o, "greener");
    o = grow(MUTATION_APPEND, 0, "red", absent);
    assert_put(&o, "red", 0);
    o = grow(MUTATION_APPEND, 0, "", item_text("green"));
    assert_put(&o, "green", 99);
    o = grow(MUTATION_APPEND, 0, "", absent);
    assert_put(&o, "", 0);
    o = grow(MUTATION_APPEND, 7, "er", item_text("green"));
    assert_put(&o, "greener", 99);
}

static void test_mutate__set_range_lays_over_and_fills_gaps(void **state)
{
    (void)state;
    struct mutate_outcome o = grow(MUTATION_SET_RANGE, 1, "ai", item_text("green"));
    assert_put(&o, "gaien", 99);
    o = grow(MUTATION_SET_RANGE, 4, "dy", item_text("green"));
    assert_put(&o, "greedy", 99);
    o = grow(MUTATION_SET_RANGE, 0, "b", absent);
    assert_put(&o, "b", 0);
    o = grow(MUTATION_SET_RANGE, 6, "er", item_text("green"));
    assert_int_equal(o.effect.value.size, 8);
    assert_memory_equal(o.effect.value.data, "green\0er", 8);
    o = grow(MUTATION_SET_RANGE, 2, "x", absent);
    assert_memory_equal(o.effect.value.data, "\0\0x", 3);
    o = grow(MUTATION_SET_RANGE, 100, "", item_text("green"));
    assert_int_equal(o.status, STATUS_OK);
    assert_false(o.has_effect);
    assert_result(&o, "green");
}

static void test_mutate__no_value_grows_beyond_its_limit(void **state)
{
    (void)state;
    static char filled[SIZE_MAX_HERE + 1];
    memset(filled, 'f', SIZE_MAX_HERE);
    assert_int_equal(grow(MUTATION_APPEND, 0, filled, absent).status, STATUS_OK);
    assert_int_equal(grow(MUTATION_APPEND, 0, filled, item_text("1")).status, STATUS_OVERFLOW);
    assert_int_equal(grow(MUTATION_SET_RANGE, SIZE_MAX_HERE - 1, "1", absent).status, STATUS_OK);
    assert_int_equal(grow(MUTATION_SET_RANGE, SIZE_MAX_HERE, "1", absent).status, STATUS_OVERFLOW);
    assert_int_equal(grow(MUTATION_SET_RANGE, UINT64_MAX, "1", absent).status, STATUS_OVERFLOW);
    assert_false(grow(MUTATION_SET_RANGE, UINT64_MAX, "1", absent).has_effect);
}

static void test_mutate__decimal_increments_are_exact_and_canonical(void **state)
{
    (void)state;
    struct mutate_outcome o = grow(MUTATION_INCREMENT_DECIMAL, 0, "0.2", item_text("0.10"));
    assert_put(&o, "0.3", 99);
    assert_result(&o, "0.3");
    o = grow(MUTATION_INCREMENT_DECIMAL, 0, "-1.50", absent);
    assert_put(&o, "-1.5", 0);
    o = grow(MUTATION_INCREMENT_DECIMAL, 0, "1", item_text("green"));
    assert_int_equal(o.status, STATUS_NOTNUMBER);
    o = grow(MUTATION_INCREMENT_DECIMAL, 0, "green", item_text("1"));
    assert_int_equal(o.status, STATUS_NOTNUMBER);
    assert_false(o.has_effect);
    o = grow(MUTATION_INCREMENT_DECIMAL, 0, "0.1", item_text("1000000000000000000000000000000000"));
    assert_int_equal(o.status, STATUS_OVERFLOW);
    assert_false(o.has_effect);
}

/* item_text() has the expiry 99; it is 50. */
static void test_mutate__an_expiry_is_set_kept_and_cleared(void **state)
{
    (void)state;
    struct write w = {.mutation = MUTATION_PUT, .value = bytes_text("red"), .ttl_ms = 10};
    struct mutate_outcome o = judge(w, item_text("green"));
    assert_put(&o, "red", 60);
    w = (struct write){.mutation = MUTATION_PUT, .value = bytes_text("red"), .expiry_ms = 77};
    o = judge(w, absent);
    assert_put(&o, "red", 77);
    w = (struct write){.mutation = MUTATION_SET_EXPIRY, .expiry_ms = 77, .want = WANT_OLD};
    o = judge(w, item_text("green"));
    assert_put(&o, "green", 77);
    assert_result(&o, "green");
    o = judge(w, absent);
    assert_int_equal(o.status, STATUS_NOTFOUND);
    assert_false(o.has_effect);
    w = (struct write){.mutation = MUTATION_SET_EXPIRY};
    o = judge(w, item_text("green"));
    assert_put(&o, "green", 0);
    w = (struct write){.mutation = MUTATION_SET_EXPIRY, .ttl_ms = UINT64_MAX};
    o = judge(w, item_text("green"));
    assert_put(&o, "green", UINT64_MAX);
}

static enum status expiry_status(enum precondition p, uint64_t expiry_ms, uint64_t current_ms)
{
    struct item current = item_text("green");
    current.expiry_ms = current_ms;
    struct write w = {
        .precondition = p, .mutation = MUTATION_SET_EXPIRY, .expiry_ms = expiry_ms};
    assert_int_equal(judge(w, absent).status, STATUS_CONDITION);
    return judge(w, current).status;
}

static void test_mutate__conditions_on_the_expiry_hold_or_not(void **state)
{
    (void)state;
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_NONE, 70, 0), STATUS_OK);
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_NONE, 70, 80), STATUS_CONDITION);
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_SET, 70, 80), STATUS_OK);
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_SET, 70, 0), STATUS_CONDITION);
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_BEFORE, 90, 80), STATUS_OK);
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_BEFORE, 80, 80), STATUS_CONDITION);
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_BEFORE, 0, 80), STATUS_OK);
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_BEFORE, 90, 0), STATUS_CONDITION);
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_AFTER, 70, 80), STATUS_OK);
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_AFTER, 80, 80), STATUS_CONDITION);
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_AFTER, 70, 0), STATUS_OK);
    assert_int_equal(expiry_status(PRECONDITION_EXPIRY_AFTER, 0, 80), STATUS_CONDITION);
}

static void test_mutate__numbers_of_a_newer_client_are_refused(void **state)
{
    (void)state;
    struct item here = item_text("1");
    struct mutate_outcome o = judge((struct write){.mutation = (enum mutation)13}, here);
    assert_int_equal(o.status, STATUS_UNSUPPORTED);
    o = judge((struct write){.precondition = (enum precondition)10}, here);
    assert_int_equal(o.status, STATUS_UNSUPPORTED);
    o = judge((struct write){.want = (enum want)3}, here);
    assert_int_equal(o.status, STATUS_UNSUPPORTED);
    assert_false(o.has_effect);
    assert_false(o.has_result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutate__a_put_clears_the_expiry_and_another_keeps_it),
        cmocka_unit_test(test_mutate__a_delete_of_nothing_has_no_effect),
        cmocka_unit_test(test_mutate__want_chooses_between_old_and_new),
        cmocka_unit_test(test_mutate__preconditions_hold_or_not),
        cmocka_unit_test(test_mutate__the_version_of_a_deleted_key_is_zero),
        cmocka_unit_test(test_mutate__a_failed_condition_gives_what_it_found_if_wanted),
        cmocka_unit_test(test_mutate__increments_add_within_64_bits),
        cmocka_unit_test(test_mutate__an_increment_beyond_64_bits_overflows),
        cmocka_unit_test(test_mutate__only_plain_decimal_text_is_a_number),
        cmocka_unit_test(test_mutate__append_puts_behind_what_is_there),
        cmocka_unit_test(test_mutate__set_range_lays_over_and_fills_gaps),
        cmocka_unit_test(test_mutate__no_value_grows_beyond_its_limit),
        cmocka_unit_test(test_mutate__decimal_increments_are_exact_and_canonical),
        cmocka_unit_test(test_mutate__an_expiry_is_set_kept_and_cleared),
        cmocka_unit_test(test_mutate__conditions_on_the_expiry_hold_or_not),
        cmocka_unit_test(test_mutate__numbers_of_a_newer_client_are_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mutate_work_fini(&work);
    return failed;
}
