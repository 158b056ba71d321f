#include "tests/lib/table_mem.h"

#include "tests/unit/table_suite.h"

#define CASE(name)                                                                                 \
    static void test_table_mem__##name(void **state)                                               \
    {                                                                                              \
        (void)state;                                                                               \
        struct table *t = table_mem_new();                                                         \
        suite_##name(t);                                                                           \
        t->verbs->destroy(&t);                                                                     \
        assert_null(t);                                                                            \
    }
TABLE_SUITE(CASE)

static void test_table_mem__a_crash_loses_what_was_not_committed(void **state)
{
    (void)state;
    struct table *t = table_mem_new();
    suite_begin(t);
    suite_put(t, 1, 7, "apple", bytes_text("red"));
    suite_commit(t);
    suite_begin(t);
    suite_put(t, 1, 7, "apple", bytes_text("green"));
    suite_put(t, 1, 7, "pear", bytes_text("green"));
    table_mem_crash(t);
    struct table_reader *r = suite_reader(t);
    suite_assert_text(r, 1, 7, "apple", "red");
    suite_assert_text(r, 1, 7, "pear", NULL);
    r->verbs->reader_destroy(&r);
    assert_int_equal(table_mem_commits(t), 1);
    t->verbs->destroy(&t);
}

static void test_table_mem__a_call_fails_when_its_count_is_down(void **state)
{
    (void)state;
    struct table *t = table_mem_new();
    struct table_row row = {1, 7, bytes_text("apple"), {.present = true}};
    table_mem_fail(t, TABLE_MEM_WRITE, 2, STATUS_FULL);
    suite_begin(t);
    assert_int_equal(t->verbs->put(t, &row), STATUS_OK);
    assert_int_equal(t->verbs->put(t, &row), STATUS_FULL);
    assert_int_equal(t->verbs->put(t, &row), STATUS_OK);
    t->verbs->abort(t);
    struct table_reader *r = suite_reader(t);
    table_mem_fail(t, TABLE_MEM_READ, 0, STATUS_IO);
    struct item item;
    assert_int_equal(r->verbs->get(r, 1, 7, bytes_text("apple"), &item), STATUS_IO);
    assert_int_equal(r->verbs->get(r, 1, 7, bytes_text("apple"), &item), STATUS_OK);
    table_mem_fail(t, TABLE_MEM_READ, 0, STATUS_IO);
    table_mem_crash(t);
    assert_int_equal(r->verbs->get(r, 1, 7, bytes_text("apple"), &item), STATUS_OK);
    r->verbs->reader_destroy(&r);
    t->verbs->destroy(&t);
}

static void test_table_mem__a_failed_commit_has_happened_or_not(void **state)
{
    (void)state;
    struct table *t = table_mem_new();
    table_mem_fail(t, TABLE_MEM_COMMIT, 0, STATUS_IO);
    suite_begin(t);
    suite_put(t, 1, 7, "apple", bytes_text("red"));
    assert_int_equal(t->verbs->commit(t), STATUS_IO);
    t->verbs->abort(t);
    table_mem_fail(t, TABLE_MEM_COMMIT_DONE, 0, STATUS_IO);
    suite_begin(t);
    suite_put(t, 1, 7, "pear", bytes_text("green"));
    assert_int_equal(t->verbs->commit(t), STATUS_IO);
    struct table_reader *r = suite_reader(t);
    suite_assert_text(r, 1, 7, "apple", NULL);
    suite_assert_text(r, 1, 7, "pear", "green");
    r->verbs->reader_destroy(&r);
    t->verbs->destroy(&t);
}

static void test_table_mem__a_copy_has_what_was_committed_and_goes_its_own_way(void **state)
{
    (void)state;
    struct table *t = table_mem_new();
    struct bytes blob;
    suite_begin(t);
    suite_put(t, 1, 7, "apple", bytes_text("red"));
    assert_int_equal(t->verbs->blob_put(t, bytes_text("place"), bytes_text("here")), STATUS_OK);
    suite_commit(t);
    suite_begin(t);
    suite_put(t, 1, 7, "pear", bytes_text("green"));
    struct table *copy = table_mem_copy(t);
    suite_commit(t);
    suite_begin(copy);
    suite_put(copy, 1, 7, "apple", bytes_text("brown"));
    suite_commit(copy);
    struct table_reader *r = suite_reader(t), *of_copy = suite_reader(copy);
    suite_assert_text(r, 1, 7, "apple", "red");
    suite_assert_text(of_copy, 1, 7, "apple", "brown");
    suite_assert_text(of_copy, 1, 7, "pear", NULL);
    assert_int_equal(of_copy->verbs->blob_get(of_copy, bytes_text("place"), &blob), STATUS_OK);
    assert_true(bytes_equal(blob, bytes_text("here")));
    r->verbs->reader_destroy(&r);
    of_copy->verbs->reader_destroy(&of_copy);
    t->verbs->destroy(&t);
    copy->verbs->destroy(&copy);
}

#define LISTED(name) cmocka_unit_test(test_table_mem__##name),

int main(void)
{
    const struct CMUnitTest tests[] = {
        TABLE_SUITE(LISTED) cmocka_unit_test(test_table_mem__a_crash_loses_what_was_not_committed),
        cmocka_unit_test(test_table_mem__a_call_fails_when_its_count_is_down),
        cmocka_unit_test(test_table_mem__a_failed_commit_has_happened_or_not),
        cmocka_unit_test(
            test_table_mem__a_copy_has_what_was_committed_and_goes_its_own_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
