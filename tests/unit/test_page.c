/* Pages of one hash tag, at two nodes stepped by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/codec.h"
#include "proto/partition.h"
#include "tests/lib/pair.h"

static struct pair p;
static uint64_t seq; /* of client 9 */
static char tag[34]; /* "{keyN}", led by node 0 */

static int open_pair(void **state)
{
    (void)state;
    char key[32];
    pair_init(&p, 8, true);
    pair_run(&p, 300);
    pair_key(&p, 0, 0, key);
    snprintf(tag, sizeof tag, "{%s}", key);
    return 0;
}

static int close_pair(void **state)
{
    (void)state;
    pair_fini(&p);
    return 0;
}

static uint64_t write_key(const char *tail, const struct write *w)
{
    char key[64];
    snprintf(key, sizeof key, "%s%s", tag, tail);
    return pair_write(&p, 0, key, 9, ++seq, w);
}

static void put(const char *tail, const char *value)
{
    struct write w = {.mutation = MUTATION_PUT, .value = bytes_text(value)};
    write_key(tail, &w);
}

static void settle(void)
{
    pair_run(&p, 20);
}

static void assert_status(uint64_t token, enum status status)
{
    const struct pair_answer *a = pair_answer(&p, token);
    assert_non_null(a);
    assert_string_equal(status_name(a->status), status_name(status));
}

/* What a page shows, as text: "a=red b=blue >next 3". */
static const char *page_text(uint64_t token)
{
    static char text[400];
    struct arena arena;
    struct scan_page m;
    assert_status(token, STATUS_OK);
    const struct pair_answer *a = pair_answer(&p, token);
    arena_init(&arena);
    arena_reset(&arena, 1 << 20);
    assert_int_equal(codec_unpack_scan_page(bytes_of(a->value, a->value_size), &arena, &m),
                     STATUS_OK);
    char *at = text;
    *at = 0;
    for (size_t i = 0; i < m.count; i++) {
        assert_true(m.keys[i].size > strlen(tag) && m.seqs[i] > 0);
        at += sprintf(at, "%s%.*s=%.*s", i > 0 ? " " : "", (int)(m.keys[i].size - strlen(tag)),
                      (const char *)m.keys[i].data + strlen(tag), (int)m.values[i].size,
                      (const char *)m.values[i].data);
    }
    if (m.next.size > 0) {
        assert_int_equal(m.next.data[m.next.size - 1], 0);
        at += sprintf(at, " >%.*s", (int)(m.next.size - 1 - strlen(tag)),
                      (const char *)m.next.data + strlen(tag));
    }
    if (m.counted > 0)
        sprintf(at, "#%u", (unsigned)m.counted);
    arena_fini(&arena);
    return text;
}

static struct bytes bound(const char *tail)
{
    static char memory[4][64];
    static unsigned next;
    char *to = memory[next++ % 4];
    return bytes_of(to, (size_t)snprintf(to, 64, "%s%s", tag, tail));
}

static void test_page__the_keys_of_a_tag_come_in_order_and_no_others(void **state)
{
    (void)state;
    struct scan_query q = {0};
    char stranger[32];
    put("b", "2");
    put("a", "1");
    put("c", "3");
    pair_key(&p, 0, 1, stranger);
    pair_write(&p, 0, stranger, 9, ++seq, &(struct write){.mutation = MUTATION_PUT});
    settle();
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "a=1 b=2 c=3");
    assert_string_equal(page_text(pair_range(&p, 1, tag, &q)), "a=1 b=2 c=3"); /* the replica */
    pair_checkpoint(&p, 0);
    settle();
    put("b", "two");
    settle();
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "a=1 b=two c=3");
}

static void test_page__bounds_and_prefix_hold(void **state)
{
    (void)state;
    for (const char *tail = "abcde"; *tail != 0; tail++) {
        put((char[]){*tail, 0}, "");
        put((char[]){*tail, 'x', 0}, "");
    }
    settle();
    struct scan_query q = {.from = bound("b"), .to = bound("c")};
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "b= bx=");
    q = (struct scan_query){.prefix = bound("d")};
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "d= dx=");
    q = (struct scan_query){.prefix = bound("d"), .from = bound("da")};
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "dx=");
    q = (struct scan_query){.prefix = bound("b"), .from = bound("c")};
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "");
    q = (struct scan_query){.prefix = bound("c"), .from = bound("a")};
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "c= cx=");
    q = (struct scan_query){.to = bound("ax")};
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "a=");
}

static void test_page__pages_follow_each_other_without_a_gap(void **state)
{
    (void)state;
    put("a", "1");
    put("a\001", "2");
    put("b", "3");
    settle();
    struct scan_query q = {.count_max = 1};
    uint64_t token = pair_range(&p, 0, tag, &q);
    assert_string_equal(page_text(token), "a=1 >a");
    char next[64];
    q.from = bytes_of(next, (size_t)snprintf(next, sizeof next, "%sa", tag) + 1);
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "a\001=2 >a\001");
    q.bytes_max = 1;
    q.count_max = 0;
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "a\001=2 >a\001");
    q.from = bound("b");
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "b=3"); /* it is known to be the last */
}

static void test_page__a_count_brings_a_number_alone(void **state)
{
    (void)state;
    struct scan_query q = {.count_only = true};
    uint8_t cursor[8];
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "");
    put("a", "1");
    put("b", "2");
    put("c", "3");
    settle();
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "#3");
    q.count_max = 2;
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), " >b#2");
    q.from = bound("b");
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "#2");
    q = (struct scan_query){.count_only = true};
    bytes_put_be64(cursor, partition_digest(bytes_text(tag)));
    assert_string_equal(page_text(pair_scan(&p, 0, bytes_of(cursor, 8), &q)), "#3"); /* a walk */
}

static void test_page__a_dirty_key_of_the_tag_is_waited_for(void **state)
{
    (void)state;
    struct scan_query q = {0};
    put("a", "1");
    settle();
    p.disk_stopped[1] = true;
    put("b", "2");
    pair_run(&p, 5);
    uint64_t at_primary = pair_range(&p, 0, tag, &q), at_replica = pair_range(&p, 1, tag, &q);
    assert_null(pair_answer(&p, at_primary));
    assert_null(pair_answer(&p, at_replica));
    pair_run(&p, 60);
    assert_status(at_replica, STATUS_ASKPRIMARY);
    assert_null(pair_answer(&p, at_primary));
    p.disk_stopped[1] = false;
    settle();
    assert_string_equal(page_text(at_primary), "a=1 b=2");
}

static void test_page__what_is_dirty_elsewhere_is_not(void **state)
{
    (void)state;
    struct scan_query q = {0};
    uint32_t partition = partition_of(partition_digest(bytes_text(tag)), 8);
    char key[32];
    put("a", "1");
    settle();
    for (unsigned n = 1;; n++) {
        pair_key(&p, 0, n, key);
        if (partition_of(partition_digest(bytes_text(key)), 8) == partition)
            break;
    }
    p.disk_stopped[1] = true;
    pair_write(&p, 0, key, 9, ++seq, &(struct write){.mutation = MUTATION_PUT});
    pair_run(&p, 5);
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "a=1");
}

static void test_page__keys_past_their_expiry_go_first(void **state)
{
    (void)state;
    struct scan_query q = {0};
    struct write w = {.mutation = MUTATION_PUT, .ttl_ms = 50};
    put("a", "1");
    write_key("b", &w);
    put("c", "3");
    settle();
    p.now_ms += 60;
    assert_status(pair_range(&p, 1, tag, &q), STATUS_ASKPRIMARY);
    uint64_t token = pair_range(&p, 0, tag, &q);
    assert_null(pair_answer(&p, token));
    settle();
    assert_string_equal(page_text(token), "a=1 c=3");
}

static void test_page__another_tag_with_the_same_digest_is_passed_over(void **state)
{
    (void)state;
    struct scan_query q = {0};
    struct write w = {.mutation = MUTATION_PUT};
    put("a", "1");
    put("z", "3");
    p.digest = partition_digest(bytes_text(tag));
    pair_write(&p, 0, "{made on purpose}", 9, ++seq, &w);
    pair_write(&p, 0, "~", 9, ++seq, &w);
    settle();
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "a=1 z=3");
    q.count_only = true;
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "#2");
}

static void test_page__values_that_do_not_travel_count_towards_its_size(void **state)
{
    (void)state;
    static char large[1000001];
    struct scan_query q = {.count_only = true};
    memset(large, 'x', sizeof large - 1);
    for (unsigned i = 0; i < 40; i++) {
        char tail[8];
        snprintf(tail, sizeof tail, "%02u", i);
        put(tail, large);
        settle();
    }
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), " >33#34");
    q.from = bound("34");
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "#6");
    q = (struct scan_query){.keys_only = true, .from = bound("03")};
    assert_non_null(strstr(page_text(pair_range(&p, 0, tag, &q)), "36= >36"));
}

static void test_page__rows_are_copied_while_the_table_has_them(void **state)
{
    (void)state;
    struct scan_query q = {0};
    put("a", "1");
    put("b", "2");
    settle();
    for (uint32_t node = 0; node < PAIR_NODES; node++)
        pair_checkpoint(&p, node); /* the twin in memory spoils a row after the call */
    settle();
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "a=1 b=2");
}

static void test_page__what_belongs_to_a_range_is_refused_in_a_walk(void **state)
{
    (void)state;
    uint8_t cursor[8];
    bytes_put_be64(cursor, partition_digest(bytes_text(tag)));
    struct scan_query q = {.prefix = bytes_text("a")};
    assert_status(pair_scan(&p, 0, bytes_of(cursor, 8), &q), STATUS_MALFORMED);
    q = (struct scan_query){.to = bytes_text("a")};
    assert_status(pair_scan(&p, 0, bytes_of(cursor, 8), &q), STATUS_MALFORMED);
    assert_status(pair_range(&p, 0, "", &q), STATUS_USAGE);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_page__##name, open_pair, close_pair)

static void test_page__what_is_no_cursor_is_refused_and_what_is_too_much_is_cut(void **state)
{
    (void)state;
    static const uint8_t zeros[8 + KEY_SIZE_MAX + 1];
    struct scan_query q = {0};
    for (size_t size = 1; size < 8; size++)
        assert_status(pair_scan(&p, 0, bytes_of(zeros, size), &q), STATUS_MALFORMED);
    assert_status(pair_scan(&p, 0, bytes_of(zeros, sizeof zeros), &q), STATUS_MALFORMED);
    assert_status(pair_scan(&p, 0, bytes_of(zeros, sizeof zeros - 1), &q), STATUS_OK);
    put("a", "1");
    put("b", "2");
    settle();
    q.count_max = q.bytes_max = UINT32_MAX;
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "a=1 b=2");
    q.count_only = true;
    assert_string_equal(page_text(pair_range(&p, 0, tag, &q)), "#2");
    q = (struct scan_query){.to = bound("b")};
    assert_status(pair_scan(&p, 0, bytes_of(zeros, 8), &q), STATUS_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_keys_of_a_tag_come_in_order_and_no_others),
        CASE(bounds_and_prefix_hold),
        CASE(pages_follow_each_other_without_a_gap),
        CASE(a_count_brings_a_number_alone),
        CASE(a_dirty_key_of_the_tag_is_waited_for),
        CASE(what_is_dirty_elsewhere_is_not),
        CASE(keys_past_their_expiry_go_first),
        CASE(another_tag_with_the_same_digest_is_passed_over),
        CASE(values_that_do_not_travel_count_towards_its_size),
        CASE(rows_are_copied_while_the_table_has_them),
        CASE(what_belongs_to_a_range_is_refused_in_a_walk),
        CASE(what_is_no_cursor_is_refused_and_what_is_too_much_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
