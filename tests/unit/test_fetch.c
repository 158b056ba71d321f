#include "storage/fetch.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/table_mem.h"

struct fixture {
    struct table *table;
    struct fetch *fetch;
    int event_fd;
};

static struct fixture new_fixture(unsigned threads, size_t queue_max)
{
    struct fixture f = {.table = table_mem_new(),
                        .event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    f.fetch = fetch_new(f.table, threads, queue_max, f.event_fd);
    assert_non_null(f.fetch);
    return f;
}

static void fini_fixture(struct fixture *f)
{
    fetch_destroy(&f->fetch);
    assert_null(f->fetch);
    f->table->verbs->destroy(&f->table);
    close(f->event_fd);
}

static struct bytes key_of(uint64_t i, char to[static 32])
{
    int size = snprintf(to, 32, "key-%u", (unsigned)i);
    return bytes_of(to, (size_t)size);
}

/* Keys 0 .. count-1; the value of key i is i % 3000 bytes of i % 251. */
static void fill(struct table *t, uint64_t count)
{
    uint8_t value[3000];
    assert_int_equal(t->verbs->begin(t), STATUS_OK);
    for (uint64_t i = 0; i < count; i++) {
        char key[32];
        memset(value, (int)(i % 251), sizeof value);
        struct table_row row = {.slot = 4, .digest = i, .key = key_of(i, key)};
        row.item = (struct item){
            .present = true, .version = {1, i}, .value = bytes_of(value, i % sizeof value)};
        assert_int_equal(t->verbs->put(t, &row), STATUS_OK);
    }
    assert_int_equal(t->verbs->commit(t), STATUS_OK);
}

static enum status submit(struct fetch *f, uint64_t i)
{
    char key[32];
    struct fetch_request q = {
        .ticket = i + 1000, .generation = i + 5, .slot = 4, .digest = i, .key = key_of(i, key)};
    enum status s = fetch_submit(f, &q);
    memset(key, 'x', sizeof key); /* it was copied */
    return s;
}

static void wait_event(int event_fd)
{
    struct pollfd p = {.fd = event_fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, -1), 1);
    uint64_t count;
    assert_int_equal(read(event_fd, &count, sizeof count), sizeof count);
}

/* Wait for the next answer. */
static struct fetch_answer take(struct fixture *f)
{
    struct fetch_answer a;
    while (fetch_take(f->fetch, &a) != STATUS_OK)
        wait_event(f->event_fd);
    return a;
}

static void assert_answer(struct fetch_answer *a, uint64_t count)
{
    uint64_t i = a->ticket - 1000;
    assert_int_equal(a->generation, i + 5);
    assert_int_equal(a->status, STATUS_OK);
    assert_int_equal(a->item.present, i < count);
    if (i < count) {
        assert_int_equal(a->item.version.seq, i);
        assert_int_equal(a->item.value.size, i % 3000);
        for (size_t at = 0; at < a->item.value.size; at++)
            assert_int_equal(a->item.value.data[at], i % 251);
    }
    fetch_answer_fini(a);
    assert_null(a->memory);
}

static void test_fetch__an_answer_carries_what_the_table_has(void **state)
{
    (void)state;
    struct fixture f = new_fixture(1, 4);
    struct fetch_answer a;
    assert_int_equal(fetch_take(f.fetch, &a), STATUS_NOTFOUND);
    fill(f.table, 10);
    assert_int_equal(submit(f.fetch, 9), STATUS_OK);
    a = take(&f);
    assert_answer(&a, 10);
    assert_int_equal(submit(f.fetch, 10), STATUS_OK);
    a = take(&f);
    assert_answer(&a, 10);
    assert_int_equal(fetch_take(f.fetch, &a), STATUS_NOTFOUND);
    fini_fixture(&f);
}

static void test_fetch__every_request_is_answered_once(void **state)
{
    (void)state;
    const uint64_t count = 4000;
    struct fixture f = new_fixture(3, 500);
    fill(f.table, count - 100);
    uint8_t *seen = calloc(count, 1);
    uint64_t submitted = 0, answered = 0;
    while (answered < count) {
        while (submitted < count && submit(f.fetch, submitted) == STATUS_OK)
            submitted++;
        struct fetch_answer a = take(&f);
        assert_int_equal(seen[a.ticket - 1000]++, 0);
        assert_answer(&a, count - 100);
        answered++;
    }
    struct fetch_answer a;
    assert_int_equal(fetch_take(f.fetch, &a), STATUS_NOTFOUND);
    free(seen);
    fini_fixture(&f);
}

/* What was not taken counts as under way, so that answers do not pile up either. */
static void test_fetch__a_full_queue_is_busy(void **state)
{
    (void)state;
    struct fixture f = new_fixture(2, 3);
    fill(f.table, 10);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(submit(f.fetch, i), STATUS_OK);
    assert_int_equal(submit(f.fetch, 3), STATUS_BUSY);
    struct fetch_answer a = take(&f);
    assert_answer(&a, 10);
    assert_int_equal(submit(f.fetch, 3), STATUS_OK);
    assert_int_equal(submit(f.fetch, 4), STATUS_BUSY);
    fini_fixture(&f);
}

static void test_fetch__an_error_of_the_table_is_answered(void **state)
{
    (void)state;
    struct fixture f = new_fixture(1, 3);
    fill(f.table, 10);
    table_mem_fail(f.table, TABLE_MEM_READ, 0, STATUS_IO); /* refresh */
    assert_int_equal(submit(f.fetch, 1), STATUS_OK);
    struct fetch_answer a = take(&f);
    assert_int_equal(a.status, STATUS_IO);
    assert_int_equal(a.ticket, 1001);
    assert_int_equal(a.generation, 6);
    fetch_answer_fini(&a);
    table_mem_fail(f.table, TABLE_MEM_READ, 1, STATUS_CORRUPT); /* get */
    assert_int_equal(submit(f.fetch, 1), STATUS_OK);
    a = take(&f);
    assert_int_equal(a.status, STATUS_CORRUPT);
    assert_false(a.item.present);
    fetch_answer_fini(&a);
    fini_fixture(&f);
}

static void test_fetch__a_request_sees_what_was_committed_before_it(void **state)
{
    (void)state;
    struct fixture f = new_fixture(2, 3);
    for (uint64_t count = 1; count < 200; count++) {
        fill(f.table, count);
        assert_int_equal(submit(f.fetch, count - 1), STATUS_OK);
        struct fetch_answer a = take(&f);
        assert_answer(&a, count);
    }
    fini_fixture(&f);
}

/* The leak checker of the sanitizer build looks at what is left. */
static void test_fetch__destroy_frees_what_is_under_way(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct fixture f = new_fixture(3, 100);
        fill(f.table, 50);
        for (uint64_t i = 0; i < 100; i++)
            assert_int_equal(submit(f.fetch, i), STATUS_OK);
        if (round % 2 == 0)
            wait_event(f.event_fd);
        fini_fixture(&f);
    }
    fetch_destroy(&(struct fetch *){NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fetch__an_answer_carries_what_the_table_has),
        cmocka_unit_test(test_fetch__every_request_is_answered_once),
        cmocka_unit_test(test_fetch__a_full_queue_is_busy),
        cmocka_unit_test(test_fetch__an_error_of_the_table_is_answered),
        cmocka_unit_test(test_fetch__a_request_sees_what_was_committed_before_it),
        cmocka_unit_test(test_fetch__destroy_frees_what_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
