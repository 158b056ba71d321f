#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "proto/limits.h"
#include "router/operation.h"

static struct operation attempted(enum operation_kind kind, uint32_t attempts, uint32_t refused,
                                  enum status refusal)
{
    return (struct operation){
        .kind = kind, .attempts_count = attempts, .refused_count = refused, .refusal = refusal};
}

/* ---- How it ends: rule X4 --------------------------------------------------------------------*/

static void test_operation__a_write_is_not_done_only_if_every_attempt_was_refused(void **state)
{
    (void)state;
    struct operation op = attempted(KIND_WRITE, 0, 0, STATUS_OK);
    assert_int_equal(operation_failure(&op), STATUS_UNAVAILABLE);
    op = attempted(KIND_WRITE, 2, 2, STATUS_BUSY);
    assert_int_equal(operation_failure(&op), STATUS_BUSY);
    op = attempted(KIND_WRITE, 2, 1, STATUS_BUSY);
    assert_int_equal(operation_failure(&op), STATUS_INDOUBT);
    op = attempted(KIND_WRITE, 1, 0, STATUS_OK);
    assert_int_equal(operation_failure(&op), STATUS_INDOUBT);
    op = attempted(KIND_ATOMIC, 2, 1, STATUS_BUSY);
    assert_int_equal(operation_failure(&op), STATUS_INDOUBT);
    op = attempted(KIND_ATOMIC, 2, 2, STATUS_BUSY);
    assert_int_equal(operation_failure(&op), STATUS_BUSY);
}

static void test_operation__a_read_changes_nothing_and_is_never_in_doubt(void **state)
{
    (void)state;
    struct operation op = attempted(KIND_READ, 2, 1, STATUS_BUSY);
    assert_int_equal(operation_failure(&op), STATUS_TIMEOUT);
    op = attempted(KIND_READ, 2, 2, STATUS_UNAVAILABLE);
    assert_int_equal(operation_failure(&op), STATUS_UNAVAILABLE);
    op = attempted(KIND_SCAN, 0, 0, STATUS_OK);
    assert_int_equal(operation_failure(&op), STATUS_TIMEOUT);
    op = attempted(KIND_RANGE, 1, 1, STATUS_UNAVAILABLE);
    assert_int_equal(operation_failure(&op), STATUS_UNAVAILABLE);
}

static void test_operation__a_question_for_an_outcome_without_answer_leaves_the_doubt(void **state)
{
    (void)state;
    struct operation op = attempted(KIND_OUTCOME, 1, 1, STATUS_BUSY);
    assert_int_equal(operation_failure(&op), STATUS_INDOUBT);
}

static void test_operation__a_client_does_not_hear_of_maps_and_primaries(void **state)
{
    (void)state;
    struct operation op = attempted(KIND_READ, 1, 1, STATUS_ASKPRIMARY);
    assert_int_equal(operation_failure(&op), STATUS_UNAVAILABLE);
    op = attempted(KIND_WRITE, 1, 1, STATUS_WRONGEPOCH);
    assert_int_equal(operation_failure(&op), STATUS_UNAVAILABLE);
}

/* ---- What a node says ------------------------------------------------------------------------*/

static void test_operation__every_status_has_a_verdict(void **state)
{
    (void)state;
    for (unsigned s = 0; s < STATUS_COUNT; s++)
        operation_verdict((enum status)s);
}

static void test_operation__what_was_executed_is_an_answer_and_what_was_not_is_none(void **state)
{
    (void)state;
    static const enum status answers[] = {STATUS_OK,        STATUS_NOTFOUND, STATUS_CONDITION,
                                          STATUS_NOTNUMBER, STATUS_OVERFLOW, STATUS_ABORTED,
                                          STATUS_INDOUBT,   STATUS_STALE,    STATUS_TOOOLD};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        assert_int_equal(operation_verdict(answers[i]), VERDICT_ANSWER);
    assert_int_equal(operation_verdict(STATUS_WRONGEPOCH), VERDICT_REDIRECT);
    assert_int_equal(operation_verdict(STATUS_ASKPRIMARY), VERDICT_REDIRECT);
    assert_int_equal(operation_verdict(STATUS_BUSY), VERDICT_PAUSE);
    assert_int_equal(operation_verdict(STATUS_UNAVAILABLE), VERDICT_PAUSE);
    assert_int_equal(operation_verdict(STATUS_NEEDTOKEN), VERDICT_PAUSE);
    assert_int_equal(operation_verdict(STATUS_TOOBIG), VERDICT_ANSWER);
    assert_int_equal(operation_verdict(STATUS_MALFORMED), VERDICT_ANSWER);
    assert_int_equal(operation_verdict(STATUS_FULL), VERDICT_REFUSED);
}

static void test_operation__whatever_leaves_a_doubt_counts_as_an_answer(void **state)
{
    (void)state;
    /* A refusal that were in doubt would count as "not done". */
    for (unsigned s = 0; s < STATUS_COUNT; s++)
        if (status_in_doubt((enum status)s))
            assert_int_equal(operation_verdict((enum status)s), VERDICT_ANSWER);
}

static void test_operation__pauses_double_up_to_their_limit(void **state)
{
    (void)state;
    struct operation op = {0};
    static const uint32_t pauses_ms[] = {5, 10, 20, 40, 50, 50};
    for (size_t i = 0; i < sizeof pauses_ms / sizeof pauses_ms[0]; i++)
        assert_int_equal(operation_pause(&op, 5, 50), pauses_ms[i]);
}

/* ---- What a client says ----------------------------------------------------------------------*/

static uint8_t octets[VALUE_SIZE_MAX_DEFAULT + 8192];

static void test_operation__keys_and_bodies_have_their_limits(void **state)
{
    (void)state;
    struct bytes key = bytes_of(octets, KEY_SIZE_MAX), longer = bytes_of(octets, KEY_SIZE_MAX + 1);
    struct bytes none = BYTES_EMPTY, large = bytes_of(octets, 1000 + 4096),
                 larger = bytes_of(octets, 1000 + 4097);
    assert_int_equal(operation_check(KIND_READ, key, none, 1000), STATUS_OK);
    assert_int_equal(operation_check(KIND_READ, longer, none, 1000), STATUS_TOOBIG);
    assert_int_equal(operation_check(KIND_READ, none, none, 1000), STATUS_USAGE);
    assert_int_equal(operation_check(KIND_WRITE, key, large, 1000), STATUS_OK);
    assert_int_equal(operation_check(KIND_WRITE, key, larger, 1000), STATUS_TOOBIG);
    assert_int_equal(operation_check(0, key, none, 1000), STATUS_UNSUPPORTED);
    assert_int_equal(operation_check(KIND_LAST + 1, key, none, 1000), STATUS_UNSUPPORTED);
    assert_int_equal(operation_check(UINT32_MAX, key, none, 1000), STATUS_UNSUPPORTED);
}

static void test_operation__a_cursor_is_empty_or_begins_with_a_digest(void **state)
{
    (void)state;
    struct bytes batch = bytes_of(octets, 1000 + 4097);
    assert_int_equal(operation_check(KIND_ATOMIC, bytes_text("k"), batch, 1000), STATUS_OK);
    batch.size = ATOMIC_BYTES_MAX; /* only its size is looked at */
    assert_int_equal(operation_check(KIND_ATOMIC, bytes_text("k"), batch, 1000), STATUS_OK);
    batch.size++;
    assert_int_equal(operation_check(KIND_ATOMIC, bytes_text("k"), batch, 1000), STATUS_TOOBIG);
    assert_int_equal(operation_check(KIND_RANGE, BYTES_EMPTY, BYTES_EMPTY, 1000), STATUS_USAGE);
    assert_int_equal(operation_check(KIND_RANGE, bytes_text("{t}"), BYTES_EMPTY, 1000), STATUS_OK);
    assert_int_equal(operation_check(KIND_SCAN, BYTES_EMPTY, BYTES_EMPTY, 1000), STATUS_OK);
    assert_int_equal(operation_check(KIND_SCAN, bytes_of(octets, 7), BYTES_EMPTY, 1000),
                     STATUS_USAGE);
    assert_int_equal(operation_check(KIND_SCAN, bytes_of(octets, 8), BYTES_EMPTY, 1000), STATUS_OK);
    assert_int_equal(
        operation_check(KIND_SCAN, bytes_of(octets, 8 + KEY_SIZE_MAX + 1), BYTES_EMPTY, 1000),
        STATUS_TOOBIG);
    assert_int_equal(operation_cursor_digest(BYTES_EMPTY), 0);
    assert_int_equal(operation_cursor_digest(bytes_text("\1\2\3\4\5\6\7\10key")),
                     0x0102030405060708);
}

/* ---- Lists -----------------------------------------------------------------------------------*/

static void test_operation__lists_keep_their_order_whatever_is_removed(void **state)
{
    (void)state;
    for (uint32_t removed = 0; removed < 4; removed++) {
        struct operation slots[4] = {0};
        struct operation_list l;
        operation_list_init(&l);
        for (uint32_t i = 0; i < 4; i++)
            operation_list_append(slots, &l, i);
        operation_list_remove(slots, &l, removed);
        uint32_t seen = 0, last = 0;
        for (uint32_t i = l.head; i != OPERATION_NONE; i = slots[i].next, seen++) {
            assert_int_not_equal(i, removed);
            assert_true(seen == 0 || i > last);
            last = i;
        }
        assert_int_equal(seen, 3);
        assert_int_equal(l.count, 3);
        assert_int_equal(l.tail, last);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operation__a_write_is_not_done_only_if_every_attempt_was_refused),
        cmocka_unit_test(test_operation__a_read_changes_nothing_and_is_never_in_doubt),
        cmocka_unit_test(test_operation__a_question_for_an_outcome_without_answer_leaves_the_doubt),
        cmocka_unit_test(test_operation__a_client_does_not_hear_of_maps_and_primaries),
        cmocka_unit_test(test_operation__every_status_has_a_verdict),
        cmocka_unit_test(test_operation__what_was_executed_is_an_answer_and_what_was_not_is_none),
        cmocka_unit_test(test_operation__whatever_leaves_a_doubt_counts_as_an_answer),
        cmocka_unit_test(test_operation__pauses_double_up_to_their_limit),
        cmocka_unit_test(test_operation__keys_and_bodies_have_their_limits),
        cmocka_unit_test(test_operation__a_cursor_is_empty_or_begins_with_a_digest),
        cmocka_unit_test(test_operation__lists_keep_their_order_whatever_is_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
