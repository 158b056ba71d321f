/* Keys past their expiry, in two nodes that are stepped by hand. */
#include "storage/lapse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/codec.h"
#include "proto/partition.h"
#include "tests/lib/pair.h"

#define PARTITIONS 8
#define SETTLED_MS 2500 /* after a start or a failure everything is as it should be again */

static struct pair p;
static uint64_t last_seq;

static int open_pair(void **state)
{
    (void)state;
    last_seq = 0;
    pair_init(&p, PARTITIONS, true);
    pair_run(&p, 300);
    return 0;
}

static int close_pair(void **state)
{
    (void)state;
    pair_fini(&p);
    return 0;
}

static void assert_status(uint64_t token, enum status status)
{
    const struct pair_answer *a = pair_answer(&p, token);
    assert_non_null(a);
    assert_string_equal(status_name(a->status), status_name(status));
}

static uint64_t write_now(const char *key, struct write w)
{
    return pair_write(&p, 0, key, 9, ++last_seq, &w);
}

/* A key led by node 0 that goes after ttl_ms. */
static void put_for(const char *key, uint64_t ttl_ms)
{
    struct write w = {.mutation = MUTATION_PUT, .value = bytes_text("red"), .ttl_ms = ttl_ms};
    uint64_t token = write_now(key, w);
    pair_run(&p, 10);
    assert_status(token, STATUS_OK);
}

/* The node's sweep would let it go: this node has nobody who waits. */
static uint64_t lapses(uint32_t node)
{
    struct node_counters c;
    node_count(p.nodes[node].node, &c);
    return c.lapses;
}

static void test_lapse__a_key_is_there_until_its_expiry_and_then_goes_by_the_log(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    put_for(key, 30);
    assert_status(pair_read(&p, 0, key), STATUS_OK);
    assert_status(pair_read(&p, 1, key), STATUS_OK);
    p.now_ms += 25;
    p.disk_stopped[1] = true;
    assert_status(pair_read(&p, 1, key), STATUS_ASKPRIMARY);
    uint64_t token = pair_read(&p, 0, key);
    assert_null(pair_answer(&p, token)); /* absence is not committed yet */
    assert_int_equal(lapses(0), 1);
    p.disk_stopped[1] = false;
    pair_run(&p, 10);
    assert_status(token, STATUS_NOTFOUND);
    assert_status(pair_read(&p, 1, key), STATUS_NOTFOUND);
    assert_int_equal(lapses(0) + lapses(1), 1);
}

static void test_lapse__the_primarys_clock_decides(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    put_for(key, 100000);
    p.wall_skew_ms[1] = 200000; /* the replica's clock is ahead */
    assert_status(pair_read(&p, 1, key), STATUS_ASKPRIMARY);
    assert_status(pair_read(&p, 0, key), STATUS_OK);
    pair_run(&p, 300);
    assert_int_equal(lapses(0) + lapses(1), 0);
    p.wall_skew_ms[0] = 200000; /* the primary's, too */
    p.wall_skew_ms[1] = 0;
    uint64_t token = pair_read(&p, 0, key);
    pair_run(&p, 10);
    assert_status(token, STATUS_NOTFOUND);
    assert_status(pair_read(&p, 1, key), STATUS_NOTFOUND); /* though its own says otherwise */
}

static void test_lapse__the_time_of_a_partition_never_goes_back(void **state)
{
    (void)state;
    char key[32], other[32];
    pair_key(&p, 0, 0, key);
    pair_key(&p, 0, 0, other);
    p.wall_skew_ms[0] = 50000;
    put_for(key, 1000);
    p.wall_skew_ms[0] = 52000;
    struct write w = {.mutation = MUTATION_NONE, .precondition = PRECONDITION_ABSENT};
    write_now(key, w);
    pair_run(&p, 10);
    p.wall_skew_ms[0] = 0;
    put_for(key, 1000);
    uint64_t token = pair_read_part(&p, 0, key, READ_EXPIRY);
    struct expiry e;
    const struct pair_answer *a = pair_answer(&p, token);
    assert_int_equal(codec_unpack_expiry(bytes_of(a->value, a->value_size), &e), STATUS_OK);
    assert_true(e.expiry_ms > PAIR_WALL_MS + p.now_ms + 52000 && e.left_ms <= 1000);
}

/* Its own entry has no effect; without one of the key's, a copy could show the key again. */
static void test_lapse__a_write_without_effect_lets_the_key_go_first(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    put_for(key, 30);
    p.now_ms += 25;
    struct write w = {.mutation = MUTATION_PUT,
                      .precondition = PRECONDITION_PRESENT,
                      .value = bytes_text("green")};
    uint64_t token = write_now(key, w);
    pair_run(&p, 10);
    assert_status(token, STATUS_CONDITION);
    p.wall_skew_ms[1] = -100000;
    assert_status(pair_read(&p, 1, key), STATUS_NOTFOUND);
    assert_int_equal(lapses(0), 1);
}

static void test_lapse__an_increment_after_it_begins_at_nothing(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = {
        .mutation = MUTATION_INCREMENT, .delta = 5, .want = WANT_NEW, .value = BYTES_EMPTY};
    write_now(key, w);
    write_now(key, (struct write){.mutation = MUTATION_SET_EXPIRY, .ttl_ms = 30});
    pair_run(&p, 10);
    p.now_ms += 25;
    uint64_t token = write_now(key, w);
    pair_run(&p, 10);
    assert_status(token, STATUS_OK);
    assert_memory_equal(pair_answer(&p, token)->value, "5", 1);
    token = pair_read_part(&p, 0, key, READ_EXPIRY);
    assert_status(token, STATUS_OK);
    assert_int_equal(pair_answer(&p, token)->value_size, 0); /* no expiry: an empty message */
}

/* W8: what a client reads before it writes does not show what it wrote. */
static void test_lapse__a_read_of_a_dirty_key_shows_what_it_came_for(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    put_for(key, 30);
    p.disk_stopped[1] = true;
    p.now_ms += 25;
    uint64_t read = pair_read(&p, 0, key);
    write_now(key, (struct write){.mutation = MUTATION_PUT, .value = bytes_text("green")});
    p.disk_stopped[1] = false;
    pair_run(&p, 10);
    assert_status(read, STATUS_NOTFOUND);
    assert_status(pair_read(&p, 0, key), STATUS_OK);
}

static void test_lapse__without_the_primary_nothing_can_be_said(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    pair_run(&p, SETTLED_MS);
    put_for(key, 200);
    pair_run(&p, 20);
    pair_crash(&p, 0);
    assert_status(pair_read(&p, 1, key), STATUS_OK);
    pair_run(&p, 300); /* past its expiry, and the replica's lease has not run out */
    assert_status(pair_read(&p, 1, key), STATUS_ASKPRIMARY);
    assert_int_equal(lapses(1), 0);
}

static void test_lapse__one_that_is_left_of_two_goes_on_letting_keys_go(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    pair_run(&p, SETTLED_MS);
    put_for(key, 1000);
    pair_crash(&p, 1);
    pair_run(&p, 500);
    assert_status(pair_read(&p, 0, key), STATUS_OK);
    pair_run(&p, 1000);
    assert_status(pair_read(&p, 0, key), STATUS_NOTFOUND);
    assert_int_equal(lapses(0), 1);
    pair_start(&p, 1);
    pair_run(&p, 2 * SETTLED_MS);
    assert_status(pair_read(&p, 1, key), STATUS_NOTFOUND);
}

static void test_lapse__what_nobody_touches_goes_by_the_sweep(void **state)
{
    (void)state;
    char key[32];
    for (unsigned i = 0; i < 100; i++) {
        pair_key(&p, 0, i, key);
        put_for(key, i < 90 ? 2000 : 1000000);
    }
    assert_int_equal(lapses(0), 0);
    pair_run(&p, 5000);
    assert_int_equal(lapses(0), 90);
    pair_key(&p, 0, 0, key);
    assert_status(pair_read(&p, 1, key), STATUS_NOTFOUND);
    pair_key(&p, 0, 99, key);
    assert_status(pair_read(&p, 1, key), STATUS_OK);
}

/* That a partition has keys with an expiry is part of what a checkpoint saves. */
static void test_lapse__the_sweep_goes_on_after_a_restart(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    put_for(key, 3000);
    for (uint32_t node = 0; node < PAIR_NODES; node++)
        pair_checkpoint(&p, node);
    pair_run(&p, 300);
    for (uint32_t node = 0; node < PAIR_NODES; node++) {
        pair_checkpoint(&p, node); /* the entry itself is not replayed any more */
        pair_run(&p, 20);
    }
    pair_crash(&p, 0);
    pair_start(&p, 0);
    pair_run(&p, 5000);
    assert_int_equal(lapses(0), 1);
    assert_status(pair_read(&p, 1, key), STATUS_NOTFOUND);
}

static void test_lapse__a_page_of_a_walk_has_none_that_is_past_its_expiry(void **state)
{
    (void)state;
    char key[32];
    struct scan_query q = {.count_max = 100};
    struct arena arena;
    struct scan_page page;
    arena_init(&arena);
    pair_key(&p, 0, 0, key);
    put_for(key, 30);
    uint8_t cursor[8];
    bytes_put_be64(cursor, partition_digest(bytes_text(key)));
    p.now_ms += 25;
    assert_status(pair_scan(&p, 1, bytes_of(cursor, 8), &q), STATUS_ASKPRIMARY);
    uint64_t token = pair_scan(&p, 0, bytes_of(cursor, 8), &q);
    assert_null(pair_answer(&p, token));
    pair_run(&p, 10);
    assert_status(token, STATUS_OK);
    const struct pair_answer *a = pair_answer(&p, token);
    arena_reset(&arena, 1 << 20);
    assert_int_equal(codec_unpack_scan_page(bytes_of(a->value, a->value_size), &arena, &page),
                     STATUS_OK);
    assert_int_equal(page.count, 0);
    assert_int_equal(lapses(0), 1);
    arena_fini(&arena);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_lapse__##name, open_pair, close_pair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_key_is_there_until_its_expiry_and_then_goes_by_the_log),
        CASE(the_primarys_clock_decides),
        CASE(the_time_of_a_partition_never_goes_back),
        CASE(a_write_without_effect_lets_the_key_go_first),
        CASE(an_increment_after_it_begins_at_nothing),
        CASE(a_read_of_a_dirty_key_shows_what_it_came_for),
        CASE(without_the_primary_nothing_can_be_said),
        CASE(one_that_is_left_of_two_goes_on_letting_keys_go),
        CASE(what_nobody_touches_goes_by_the_sweep),
        CASE(the_sweep_goes_on_after_a_restart),
        CASE(a_page_of_a_walk_has_none_that_is_past_its_expiry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
