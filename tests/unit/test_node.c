/* The node's core: two nodes, each step by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/partition.h"
#include "storage/hold.h"
#include "tests/lib/pair.h"

#define PARTITIONS 8
#define SETTLED_MS 2500 /* after a start or a failure everything is as it should be again */

static struct pair p;

static struct write put(const char *value)
{
    return (struct write){.mutation = MUTATION_PUT, .value = bytes_text(value)};
}

static struct write increment(int64_t delta)
{
    return (struct write){.mutation = MUTATION_INCREMENT, .delta = delta, .want = WANT_NEW};
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

static int open_pair(void **state)
{
    (void)state;
    pair_init(&p, PARTITIONS, true);
    pair_run(&p, 300);
    return 0;
}

static int open_cold_pair(void **state)
{
    (void)state;
    pair_init(&p, PARTITIONS, false);
    pair_run(&p, 300);
    return 0;
}

static int close_pair(void **state)
{
    (void)state;
    pair_fini(&p);
    return 0;
}

static void test_node__every_partition_opens_once_both_are_there(void **state)
{
    (void)state;
    struct node_counters c;
    uint64_t open = 0;
    for (uint32_t i = 0; i < PAIR_NODES; i++) {
        node_count(p.nodes[i].node, &c);
        assert_int_equal(c.partitions_open, c.partitions_led);
        open += c.partitions_open;
    }
    assert_int_equal(open, PARTITIONS);
}

static void test_node__a_put_is_answered_and_read_at_both_copies(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("red");
    uint64_t token = pair_write(&p, 0, key, 9, 1, &w);
    assert_null(pair_answer(&p, token)); /* nothing is durable yet */
    pair_run(&p, 20);
    assert_status(token, STATUS_OK);
    assert_value(pair_read(&p, 0, key), "red");
    assert_value(pair_read(&p, 1, key), "red");
    assert_int_equal((pair_answer(&p, token)->flags & ANSWER_COPIES_MASK) >> ANSWER_COPIES_SHIFT, 2);
}

static void test_node__no_answer_before_both_disks_have_it(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("red");
    for (uint32_t stopped = 0; stopped < PAIR_NODES; stopped++) {
        p.disk_stopped[stopped] = true;
        uint64_t token = pair_write(&p, 0, key, 9, 1 + stopped, &w);
        pair_run(&p, 100);
        assert_null(pair_answer(&p, token));
        p.disk_stopped[stopped] = false;
        pair_run(&p, 20);
        assert_status(token, STATUS_OK);
    }
}

static void test_node__a_read_of_a_dirty_key_waits_and_sees_the_new_value(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("red");
    p.disk_stopped[1] = true;
    pair_write(&p, 0, key, 9, 1, &w);
    pair_run(&p, 5);
    uint64_t at_primary = pair_read(&p, 0, key), at_replica = pair_read(&p, 1, key);
    assert_null(pair_answer(&p, at_primary));
    assert_null(pair_answer(&p, at_replica));
    pair_run(&p, 60);
    assert_status(at_replica, STATUS_ASKPRIMARY); /* after a short bound */
    p.disk_stopped[1] = false;
    pair_run(&p, 20);
    assert_value(at_primary, "red");
}

static void test_node__a_repeated_increment_is_applied_once_and_answered_alike(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = increment(5);
    uint64_t first = pair_write(&p, 0, key, 9, 1, &w);
    uint64_t second = pair_write(&p, 0, key, 9, 1, &w); /* while it is pending */
    pair_run(&p, 20);
    uint64_t third = pair_write(&p, 0, key, 9, 1, &w); /* after it was committed */
    pair_run(&p, 20);
    assert_value(first, "5");
    assert_value(second, "5");
    assert_value(third, "5");
    assert_value(pair_read(&p, 0, key), "5");
}

static void test_node__a_failed_condition_keeps_its_answer(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("red"), absent = put("blue");
    absent.precondition = PRECONDITION_ABSENT;
    pair_write(&p, 0, key, 9, 1, &w);
    uint64_t refused = pair_write(&p, 0, key, 9, 2, &absent);
    pair_run(&p, 20);
    assert_status(refused, STATUS_CONDITION);
    struct write gone = {.mutation = MUTATION_DELETE};
    pair_write(&p, 0, key, 9, 3, &gone);
    pair_run(&p, 20);
    uint64_t again = pair_write(&p, 0, key, 9, 2, &absent); /* would hold now */
    pair_run(&p, 20);
    assert_status(again, STATUS_CONDITION);
    assert_status(pair_read(&p, 0, key), STATUS_NOTFOUND);
}

static void test_node__an_outcome_asked_for_cannot_become_untrue(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    uint64_t asked = pair_outcome(&p, 0, key, 9, 1, 0);
    pair_run(&p, 20);
    assert_status(asked, STATUS_ABORTED);
    struct write w = put("late");
    uint64_t late = pair_write(&p, 0, key, 9, 1, &w);
    pair_run(&p, 20);
    assert_status(late, STATUS_ABORTED);
    assert_status(pair_read(&p, 0, key), STATUS_NOTFOUND);
}

static void test_node__the_replica_sends_writes_to_the_primary(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("red");
    assert_status(pair_write(&p, 1, key, 9, 1, &w), STATUS_ASKPRIMARY);
}

static void test_node__a_replica_that_is_gone_is_left_out_and_comes_back(void **state)
{
    (void)state;
    char clean[32], dirty[32];
    struct node_replica_view v;
    pair_key(&p, 0, 0, clean);
    pair_key(&p, 0, 1, dirty);
    struct write w = put("red");
    pair_write(&p, 0, clean, 9, 1, &w);
    pair_run(&p, SETTLED_MS);
    pair_crash(&p, 1);
    uint64_t waits = pair_write(&p, 0, dirty, 9, 2, &w);
    pair_run(&p, 290); /* nobody is suspected yet */
    assert_null(pair_answer(&p, waits));
    assert_value(pair_read(&p, 0, clean), "red");
    pair_run(&p, 500); /* suspected, left out; its lease has run out */
    assert_status(waits, STATUS_OK);
    assert_int_equal(
        (pair_answer(&p, waits)->flags & ANSWER_COPIES_MASK) >> ANSWER_COPIES_SHIFT, 1);
    assert_value(pair_read(&p, 0, dirty), "red");
    pair_start(&p, 1);
    pair_run(&p, 2 * SETTLED_MS);
    assert_value(pair_read(&p, 1, dirty), "red");
    assert_true(node_replica(p.nodes[1].node,
                             partition_of(partition_digest(bytes_text(dirty)), PARTITIONS), &v));
    assert_true(v.in_isr);
}

/* Rule L3: the replica may read until its lease has run out; nothing is committed without it before. */
static void test_node__nothing_is_committed_while_one_that_was_left_out_may_read(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    uint32_t partition = partition_of(partition_digest(bytes_text(key)), PARTITIONS);
    struct write w = put("red"), w2 = put("green");
    pair_write(&p, 0, key, 9, 1, &w);
    pair_run(&p, SETTLED_MS);
    p.cut = true;
    uint64_t token = pair_write(&p, 0, key, 9, 2, &w2);
    bool both = false;
    for (int i = 0; i < 1500; i++) {
        pair_run(&p, 1);
        bool committed = pair_answer(&p, token) != NULL;
        both = both || (committed && node_readable(p.nodes[1].node, partition, p.now_ms));
    }
    assert_false(both);
    assert_status(token, STATUS_OK);
    assert_value(pair_read(&p, 0, key), "green");
    assert_status(pair_read(&p, 1, key), STATUS_ASKPRIMARY);
    p.cut = false;
    pair_run(&p, 2 * SETTLED_MS);
    assert_value(pair_read(&p, 1, key), "green");
}

/* Rule G2: what the primary had in memory for the replica went with its own restart. */
static void test_node__one_that_lacks_too_much_gets_a_whole_copy(void **state)
{
    (void)state;
    char key[32], text[32];
    struct node_counters c;
    pair_run(&p, SETTLED_MS);
    pair_crash(&p, 1);
    pair_run(&p, SETTLED_MS);
    for (unsigned i = 0; i < 60; i++) {
        snprintf(key, sizeof key, "x%u", i);
        snprintf(text, sizeof text, "v%u", i);
        struct write w = put(text);
        pair_write(&p, 0, key, 9, i + 1, &w);
    }
    pair_run(&p, SETTLED_MS); /* commit positions are noted */
    pair_checkpoint(&p, 0);
    pair_crash(&p, 0);
    pair_start(&p, 0);
    pair_start(&p, 1);
    pair_run(&p, 2 * SETTLED_MS);
    node_count(p.nodes[0].node, &c);
    assert_true(c.snapshots > 0);
    for (unsigned i = 0; i < 60; i++) {
        snprintf(key, sizeof key, "x%u", i);
        snprintf(text, sizeof text, "v%u", i);
        assert_value(pair_read(&p, 1, key), text);
    }
    pair_crash(&p, 1); /* and it is still there after a restart, from the log and from the table */
    pair_start(&p, 1);
    pair_checkpoint(&p, 1);
    pair_crash(&p, 1);
    pair_start(&p, 1);
    pair_run(&p, 2 * SETTLED_MS);
    snprintf(key, sizeof key, "x7");
    assert_value(pair_read(&p, 1, key), "v7");
}

static void test_node__with_the_primary_gone_clean_keys_are_read_at_the_replica(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("red");
    pair_write(&p, 0, key, 9, 1, &w);
    pair_run(&p, 20);
    pair_crash(&p, 0);
    pair_run(&p, 500);
    assert_value(pair_read(&p, 1, key), "red");
}

static void test_node__after_a_start_nothing_is_read_without_leases(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("red");
    pair_write(&p, 0, key, 9, 1, &w);
    pair_run(&p, SETTLED_MS);
    for (uint32_t node = 0; node < 2; node++) {
        pair_crash(&p, node);
        pair_start(&p, node);
        p.cut = true;
        uint64_t early = pair_read(&p, node, key);
        pair_run(&p, HOLD_MS + 20);
        assert_non_null(pair_answer(&p, early));
        assert_int_not_equal(pair_answer(&p, early)->status, STATUS_OK);
        p.cut = false;
        pair_run(&p, SETTLED_MS);
        assert_value(pair_read(&p, node, key), "red");
    }
}

static void test_node__what_was_never_used_is_not_shown_as_empty(void **state)
{
    (void)state;
    char key[32];
    static struct pair fresh; /* too large for the stack */
    pair_init(&fresh, 8, false);
    fresh.cut = true; /* founded, and the other one has not been heard of yet */
    pair_run(&fresh, 500);
    for (uint32_t led_by = 0; led_by < 2; led_by++) {
        pair_key(&fresh, led_by, 0, key);
        uint64_t token = pair_read(&fresh, 0, key);
        pair_run(&fresh, HOLD_MS + 20);
        const struct pair_answer *a = pair_answer(&fresh, token);
        assert_non_null(a);
        assert_int_not_equal(a->status, STATUS_OK);
        assert_int_not_equal(a->status, STATUS_NOTFOUND);
    }
    pair_fini(&fresh);
}

static void test_node__what_the_primary_lost_is_cut_off_at_the_replica(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("lost"), w2 = put("kept");
    p.disk_stopped[0] = true;
    pair_write(&p, 0, key, 9, 1, &w);
    pair_run(&p, 20); /* durable at the replica only */
    pair_crash(&p, 0);
    p.disk_stopped[0] = false;
    pair_start(&p, 0);
    pair_run(&p, SETTLED_MS);
    struct node_counters c;
    node_count(p.nodes[1].node, &c);
    assert_int_equal(c.truncated_entries, 1);
    uint64_t token = pair_write(&p, 0, key, 9, 2, &w2);
    pair_run(&p, 20);
    assert_status(token, STATUS_OK);
    assert_value(pair_read(&p, 1, key), "kept");
}

static void test_node__after_a_power_failure_everything_acknowledged_is_there(void **state)
{
    (void)state;
    char key[32], text[32];
    for (unsigned i = 0; i < 40; i++) {
        pair_key(&p, i % 2, i / 2, key);
        snprintf(text, sizeof text, "v%u", i);
        struct write w = put(text);
        uint64_t token = pair_write(&p, i % 2, key, 9, i + 1, &w);
        pair_run(&p, 10);
        assert_status(token, STATUS_OK);
        if (i == 20)
            pair_checkpoint(&p, 0);
    }
    pair_crash(&p, 0);
    pair_crash(&p, 1);
    pair_start(&p, 0);
    pair_start(&p, 1);
    pair_run(&p, SETTLED_MS);
    for (unsigned i = 0; i < 40; i++) {
        pair_key(&p, i % 2, i / 2, key);
        snprintf(text, sizeof text, "v%u", i);
        assert_value(pair_read(&p, 0, key), text);
        assert_value(pair_read(&p, 1, key), text);
    }
}

static void test_node__lost_appends_are_sent_again(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("red");
    p.drop_appends = true;
    uint64_t token = pair_write(&p, 0, key, 9, 1, &w);
    pair_run(&p, 150);
    assert_null(pair_answer(&p, token));
    p.drop_appends = false;
    pair_run(&p, 200);
    assert_status(token, STATUS_OK);
    assert_int_equal(pair_answers_to(&p, token), 1);
}

static void test_node__a_lost_word_of_the_commit_is_said_again(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("red");
    uint64_t token = pair_write(&p, 0, key, 9, 1, &w);
    while (pair_answer(&p, token) == NULL)
        pair_run(&p, 1);
    p.drop_appends = true; /* the commit position is on its way */
    pair_run(&p, 5);
    p.drop_appends = false;
    pair_run(&p, 300);
    assert_value(pair_read(&p, 1, key), "red");
}

/* Found by kills under load: keys of a restarted replica stayed dirty until the next write. */
static void test_node__a_replica_that_comes_back_hears_of_commits_without_a_write(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("red");
    uint64_t token = pair_write(&p, 0, key, 9, 1, &w);
    while (pair_answer(&p, token) == NULL)
        pair_run(&p, 1);
    pair_crash(&p, 1); /* it has the entry on its disk, and has not noted that it is committed */
    pair_start(&p, 1);
    pair_run(&p, SETTLED_MS);
    assert_value(pair_read(&p, 1, key), "red");
}

/* Found by sim seed 699: the first checkpoint came before the promise was durable and saved the old
 * one, the second one thought the slot unchanged and moved the position past the record. */
static void test_node__a_promise_survives_checkpoints_on_both_sides_of_its_sync(void **state)
{
    (void)state;
    struct node_replica_view before, after;
    char key[32];
    pair_key(&p, 0, 0, key);
    uint32_t partition = partition_of(partition_digest(bytes_text(key)), PARTITIONS);
    pair_run(&p, 1500); /* all commits are noted, so that nothing pins the log */
    pair_crash(&p, 1);
    pair_crash(&p, 0);
    pair_start(&p, 0);
    pair_checkpoint(&p, 0);
    pair_run(&p, 50);
    pair_checkpoint(&p, 0);
    assert_true(node_replica(p.nodes[0].node, partition, &before));
    pair_crash(&p, 0);
    pair_start(&p, 0);
    assert_true(node_replica(p.nodes[0].node, partition, &after));
    assert_true(before.promised_epoch > 1);
    assert_int_equal(after.promised_epoch, before.promised_epoch);
}

/* Found by a hundred kills: refused, overtaken, and sent again over another connection. */
static void test_node__a_write_that_a_later_one_of_its_client_overtook_is_aborted(void **state)
{
    (void)state;
    char key[32], other[32];
    pair_key(&p, 0, 0, key);
    pair_key(&p, 0, 1, other);
    struct write w = put("first"), w2 = put("second");
    uint64_t second = pair_write(&p, 0, key, 9, 2, &w2);
    uint64_t first = pair_write(&p, 0, key, 9, 1, &w); /* the second one is pending */
    pair_run(&p, 20);
    uint64_t again = pair_write(&p, 0, key, 9, 1, &w); /* the second one is committed */
    uint64_t elsewhere = pair_write(&p, 0, other, 9, 1, &w);
    struct write absent = put("third");
    absent.precondition = PRECONDITION_ABSENT;
    uint64_t fourth = pair_write(&p, 0, key, 9, 4, &absent); /* fails: an entry without effect */
    uint64_t third = pair_write(&p, 0, key, 9, 3, &w);
    pair_run(&p, 20);
    assert_status(fourth, STATUS_CONDITION);
    assert_status(third, STATUS_ABORTED);
    assert_status(second, STATUS_OK);
    assert_status(first, STATUS_ABORTED);
    assert_status(again, STATUS_ABORTED);
    assert_status(elsewhere, STATUS_OK);
    assert_value(pair_read(&p, 0, key), "second");
}

static void test_node__a_stuck_entry_is_logged_again_and_does_not_pin_the_log(void **state)
{
    (void)state;
    char key[32];
    struct checkpoint c = {0};
    struct node_effects out;
    pair_key(&p, 0, 0, key);
    struct write w = put("red");
    p.cut = true;
    uint64_t token = pair_write(&p, 0, key, 9, 1, &w);
    pair_run(&p, 10);
    uint64_t logged = p.nodes[0].appended;
    for (int i = 0; i < 3; i++) {
        pair_checkpoint(&p, 0);
        pair_run(&p, 10);
    }
    node_effects_init(&out);
    c.frozen = store_freeze(p.nodes[0].store);
    assert_int_equal(node_freeze(p.nodes[0].node, &c, &out), STATUS_OK);
    assert_true(c.lsn >= logged);
    checkpoint_fini(&c);
    store_thaw(p.nodes[0].store);
    pair_crash(&p, 0);
    node_effects_fini(&out);
    pair_start(&p, 0);
    p.cut = false;
    pair_run(&p, SETTLED_MS);
    uint64_t again = pair_write(&p, 0, key, 9, 1, &w);
    pair_run(&p, 20);
    assert_status(again, STATUS_OK);
    assert_null(pair_answer(&p, token));
    assert_value(pair_read(&p, 1, key), "red");
}

/* Found by sim seed 50: copies of old entries stood behind the first record of a younger one, and
 * recovery that began between the two lost the younger one. */
static void test_node__entries_logged_again_keep_their_order_in_the_log(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write one = increment(1);
    p.cut = true;
    pair_write(&p, 0, key, 9, 1, &one);
    pair_run(&p, 10);
    pair_checkpoint(&p, 0); /* the first entry is old from here on */
    pair_run(&p, 10);
    pair_write(&p, 0, key, 9, 2, &one);
    pair_run(&p, 10);
    pair_checkpoint(&p, 0);
    pair_run(&p, 10);
    pair_checkpoint(&p, 0);
    pair_crash(&p, 0); /* before what this checkpoint logged again is durable */
    p.cut = false;
    pair_start(&p, 0);
    pair_run(&p, SETTLED_MS);
    assert_value(pair_read(&p, 0, key), "2");
}

static void test_node__operations_on_a_cold_key_keep_their_order(void **state)
{
    (void)state;
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write one = increment(1);
    pair_write(&p, 0, key, 9, 1, &one);
    pair_run(&p, 20);
    pair_checkpoint(&p, 0);
    uint64_t read = pair_read(&p, 0, key);
    assert_value(read, "1");
    uint64_t second = pair_write(&p, 0, key, 9, 2, &one);
    uint64_t third = pair_write(&p, 0, key, 9, 3, &one);
    pair_run(&p, 20);
    assert_value(second, "2");
    assert_value(third, "3");
    struct node_counters c;
    node_count(p.nodes[0].node, &c);
    assert_true(c.fetches > 0);
}

/* A read waits for the table, its partition stops, another key with the same digest is held, and then
 * a write of the read's own key comes. (Found by tests/process/test_nemesis.py, SEED=5.) */
static void test_node__what_waits_for_the_table_goes_before_what_is_held_later(void **state)
{
    (void)state;
    char tag[32], key[48], twin[48];
    pair_key(&p, 0, 0, tag);
    snprintf(key, sizeof key, "{%s}1", tag);
    snprintf(twin, sizeof twin, "{%s}2", tag);
    struct write before = put("before"), after = put("after");
    pair_write(&p, 0, key, 9, 1, &before);
    pair_run(&p, 20);
    pair_checkpoint(&p, 0);
    p.nodes[0].fetches_stopped = true;
    uint64_t read = pair_read(&p, 0, key);
    p.cut = p.disk_stopped[0] = true;
    pair_run(&p, 450); /* no lease is left, and no register moves */
    uint64_t held = pair_write(&p, 0, twin, 9, 2, &before);
    uint64_t write = pair_write(&p, 0, key, 9, 3, &after);
    pair_fetch(&p, 0);
    assert_null(pair_answer(&p, read));
    p.disk_stopped[0] = false;
    pair_run(&p, SETTLED_MS);
    assert_value(read, "before");
    assert_status(held, STATUS_OK);
    assert_status(write, STATUS_OK);
}

/* Frames of every kind whose bodies do not decode: nobody answers as if they did, and all goes on. */
static void test_node__bodies_that_do_not_decode_change_nothing(void **state)
{
    (void)state;
    static const uint8_t bodies[][4] = {{0xff, 0xff, 0xff, 0xff}, {0x0a, 0x7f, 0, 0}, {0x08}, {0}};
    struct node_time time = {p.now_ms, PAIR_WALL_MS + p.now_ms};
    struct node_counters before, after;
    node_count(p.nodes[0].node, &before);
    for (unsigned kind = 1; kind <= MESSAGE_SNAPSHOT_ACK; kind++)
        for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
            uint8_t frame[8] = {PROTOCOL_MAGIC, PROTOCOL_VERSION, (uint8_t)kind};
            struct node_effects out;
            memcpy(frame + 4, bodies[i], 4);
            node_effects_init(&out);
            struct node_event event = {.source = 3, .frame = bytes_of(frame, i == 3 ? 4 : 8)};
            event.kind = NODE_REQUEST;
            assert_int_equal(node_step(p.nodes[0].node, &time, &event, &out), STATUS_OK);
            event.kind = NODE_PEER;
            assert_int_equal(node_step(p.nodes[0].node, &time, &event, &out), STATUS_OK);
            assert_int_equal(out.records_count, 0);
            node_effects_fini(&out);
        }
    node_count(p.nodes[0].node, &after);
    assert_true(after.malformed > before.malformed + 60);
    char key[32];
    pair_key(&p, 0, 0, key);
    struct write w = put("red");
    uint64_t token = pair_write(&p, 0, key, 9, 1, &w);
    pair_run(&p, 20);
    assert_status(token, STATUS_OK);
}

static void test_node__nonsense_is_refused_and_counted(void **state)
{
    (void)state;
    struct node_effects out;
    struct node_time time = {p.now_ms, 1};
    struct node_counters c;
    const char *frames[] = {"", "x", "\xd7\x01\x05", "\xd7\x01\x05\x00garbage", "\xd7\x09\x05\x00"};
    const size_t sizes[] = {0, 1, 3, 11, 4};
    node_effects_init(&out);
    for (int i = 0; i < 5; i++) {
        struct node_event event = {.kind = NODE_REQUEST,
                                   .source = 3,
                                   .frame = bytes_of(frames[i], sizes[i])};
        assert_int_equal(node_step(p.nodes[0].node, &time, &event, &out), STATUS_OK);
        event.kind = NODE_PEER;
        assert_int_equal(node_step(p.nodes[0].node, &time, &event, &out), STATUS_OK);
    }
    node_count(p.nodes[0].node, &c);
    assert_int_equal(c.malformed, 10);
    assert_int_equal(out.count, 5);
    node_effects_fini(&out);
}

/* What `duet status` shows of it. */
static void test_node__a_full_disk_is_counted_while_it_is_full(void **state)
{
    (void)state;
    struct node_effects out;
    struct node_time time = {p.now_ms, 1};
    struct node_counters c;
    node_effects_init(&out);
    for (int low = 1; low >= 0; low--) {
        struct node_event event = {.kind = NODE_SPACE, .low = low == 1};
        assert_int_equal(node_step(p.nodes[0].node, &time, &event, &out), STATUS_OK);
        node_count(p.nodes[0].node, &c);
        assert_int_equal(c.disk_full, low);
    }
    node_effects_fini(&out);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_node__##name, open_pair, close_pair)
#define COLD(name) cmocka_unit_test_setup_teardown(test_node__##name, open_cold_pair, close_pair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(every_partition_opens_once_both_are_there),
        CASE(a_full_disk_is_counted_while_it_is_full),
        CASE(a_put_is_answered_and_read_at_both_copies),
        CASE(no_answer_before_both_disks_have_it),
        CASE(a_read_of_a_dirty_key_waits_and_sees_the_new_value),
        CASE(a_repeated_increment_is_applied_once_and_answered_alike),
        CASE(a_failed_condition_keeps_its_answer),
        CASE(an_outcome_asked_for_cannot_become_untrue),
        CASE(the_replica_sends_writes_to_the_primary),
        CASE(a_replica_that_is_gone_is_left_out_and_comes_back),
        CASE(nothing_is_committed_while_one_that_was_left_out_may_read),
        CASE(one_that_lacks_too_much_gets_a_whole_copy),
        CASE(with_the_primary_gone_clean_keys_are_read_at_the_replica),
        CASE(what_the_primary_lost_is_cut_off_at_the_replica),
        CASE(after_a_power_failure_everything_acknowledged_is_there),
        CASE(lost_appends_are_sent_again),
        CASE(a_lost_word_of_the_commit_is_said_again),
        CASE(a_replica_that_comes_back_hears_of_commits_without_a_write),
        CASE(a_promise_survives_checkpoints_on_both_sides_of_its_sync),
        CASE(a_write_that_a_later_one_of_its_client_overtook_is_aborted),
        CASE(a_stuck_entry_is_logged_again_and_does_not_pin_the_log),
        CASE(entries_logged_again_keep_their_order_in_the_log),
        COLD(operations_on_a_cold_key_keep_their_order),
        COLD(what_waits_for_the_table_goes_before_what_is_held_later),
        CASE(after_a_start_nothing_is_read_without_leases),
        CASE(what_was_never_used_is_not_shown_as_empty),
        CASE(nonsense_is_refused_and_counted),
        CASE(bodies_that_do_not_decode_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
