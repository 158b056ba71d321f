#include "storage/gather.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above. */
#include <cmocka.h>

#include "storage/log.h"
#include "storage/segment.h"

#define RECORD 32u /* bytes of one record here */

static enum status append(struct gather *g, uint32_t count)
{
    struct buffer out;
    buffer_init(&out, 1u << 20);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(record_append(&out, RECORD_COMMIT, 1, bytes_text("twelve bytes")),
                         STATUS_OK);
    assert_int_equal(out.size, count * RECORD);
    enum status s = gather_append(g, g->next_lsn, count, buffer_view(&out));
    buffer_fini(&out);
    return s;
}

static void test_gather__appends_share_a_group_up_to_its_size(void **state)
{
    (void)state;
    struct gather g;
    gather_init(&g, SEGMENT_GROUP_HEADER_SIZE + 4 * RECORD, 100);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(append(&g, 2), STATUS_OK);
    struct log_group *group = gather_take(&g);
    assert_int_equal(group->first_lsn, 100);
    assert_int_equal(group->count, 4);
    assert_int_equal(gather_records(group).size, 4 * RECORD);
    assert_null(gather_take(&g));
    gather_done(&g, group);
    assert_int_equal(g.durable_lsn, 103);
    group = gather_take(&g);
    assert_int_equal(group->first_lsn, 104);
    assert_int_equal(group->count, 2);
    gather_done(&g, group);
    assert_null(gather_take(&g));
    assert_int_equal(g.size, 0);
    gather_fini(&g);
}

static void test_gather__one_large_append_is_cut_between_records(void **state)
{
    (void)state;
    struct gather g;
    gather_init(&g, SEGMENT_GROUP_HEADER_SIZE + 4 * RECORD + 5, 1);
    assert_int_equal(append(&g, 11), STATUS_OK);
    static const uint32_t counts[] = {4, 4, 3};
    for (size_t i = 0; i < 3; i++) {
        struct log_group *group = gather_take(&g);
        assert_int_equal(group->count, counts[i]);
        gather_done(&g, group);
    }
    assert_int_equal(g.durable_lsn, 11);
    gather_fini(&g);
}

static void test_gather__a_record_beyond_the_group_size_goes_alone(void **state)
{
    (void)state;
    struct gather g;
    gather_init(&g, SEGMENT_GROUP_HEADER_SIZE + RECORD / 2, 1);
    assert_int_equal(append(&g, 2), STATUS_OK);
    struct log_group *group = gather_take(&g);
    assert_int_equal(group->count, 1);
    gather_done(&g, group);
    group = gather_take(&g);
    assert_int_equal(group->count, 1);
    gather_fini(&g);
}

static void test_gather__memory_is_aligned_and_takes_the_padding(void **state)
{
    (void)state;
    struct gather g;
    gather_init(&g, 1u << 20, 1);
    for (uint32_t i = 0; i < 200; i++) {
        assert_int_equal(append(&g, 1 + i % 7), STATUS_OK);
        assert_int_equal((uintptr_t)g.last->memory % 4096, 0);
        assert_true(g.last->capacity >= segment_align(g.last->size));
    }
    gather_fini(&g);
}

static void test_gather__at_the_ceiling_nothing_is_taken(void **state)
{
    (void)state;
    struct gather g;
    gather_init(&g, 1u << 20, 1);
    assert_int_equal(append(&g, 3), STATUS_OK);
    size_t size = LOG_GATHERED_SIZE_MAX - 2 * RECORD;
    uint8_t *record = malloc(16);
    assert_int_equal(gather_append(&g, 4, 1, bytes_of(record, size)), STATUS_NOMEMORY);
    free(record);
    assert_int_equal(g.next_lsn, 4);
    assert_int_equal(g.size, 3 * RECORD);
    assert_int_equal(append(&g, 1), STATUS_OK);
    gather_fini(&g);
}

/* The linker puts this in front of aligned_alloc(): a countdown, 0 is off. */
static unsigned fail_after;
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    if (fail_after > 0 && --fail_after == 0)
        return NULL;
    return __real_aligned_alloc(alignment, size);
}

static void test_gather__out_of_memory_leaves_what_was_there(void **state)
{
    (void)state;
    unsigned nth = 1;
    for (enum status s = STATUS_NOMEMORY; s != STATUS_OK; nth++) {
        struct gather g;
        gather_init(&g, 5000, 1);
        assert_int_equal(append(&g, 2), STATUS_OK);
        fail_after = nth;
        s = append(&g, 600);
        fail_after = 0;
        if (s != STATUS_OK) {
            assert_int_equal(s, STATUS_NOMEMORY);
            assert_int_equal(g.next_lsn, 3);
            assert_int_equal(g.size, 2 * RECORD);
            assert_int_equal(append(&g, 600), STATUS_OK);
        }
        uint64_t lsn = 1;
        for (struct log_group *group; (group = gather_take(&g)) != NULL; gather_done(&g, group)) {
            assert_int_equal(group->first_lsn, lsn);
            assert_int_equal(gather_records(group).size, group->count * RECORD);
            lsn += group->count;
        }
        assert_int_equal(lsn, 603);
        gather_fini(&g);
    }
    assert_true(nth > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather__appends_share_a_group_up_to_its_size),
        cmocka_unit_test(test_gather__one_large_append_is_cut_between_records),
        cmocka_unit_test(test_gather__a_record_beyond_the_group_size_goes_alone),
        cmocka_unit_test(test_gather__memory_is_aligned_and_takes_the_padding),
        cmocka_unit_test(test_gather__at_the_ceiling_nothing_is_taken),
        cmocka_unit_test(test_gather__out_of_memory_leaves_what_was_there),
    };
    return cmocka_run_group_tests_name("gather", tests, NULL, NULL);
}
