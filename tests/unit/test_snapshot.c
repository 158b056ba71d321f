/* A whole copy for who was away for long: rule G2 of storage/README.md. */
#include "storage/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/codec.h"
#include "tests/lib/pair.h"
#include "tests/unit/trio.h"

static int open_trio(void **state)
{
    (void)state;
    trio_open(1); /* nothing is kept in memory */
    return 0;
}

/* The replica is left out, and `writes` to as many keys follow. */
static void miss_writes(unsigned writes)
{
    cut_off(replica, true);
    pair_run(&p, 1500);
    for (unsigned i = 0; i < writes; i++) {
        char key[32], value[3000];
        snprintf(key, sizeof key, "key%u", i);
        memset(value, 'x', sizeof value);
        struct write w = {.mutation = MUTATION_PUT, .value = bytes_of(value, sizeof value)};
        uint64_t token = pair_write(&p, primary, key, 9, ++written, &w);
        pair_run(&p, 5);
        assert_true(is_done(token));
    }
}

static void assert_same(void)
{
    struct buffer a, b;
    buffer_init(&a, (size_t)1 << 24);
    buffer_init(&b, (size_t)1 << 24);
    assert_int_equal(view(replica).commit_seq, view(primary).commit_seq);
    assert_true(view(replica).commit_hash == view(primary).commit_hash);
    assert_int_equal(node_completion_save(p.nodes[primary].node, 0, &a), STATUS_OK);
    assert_int_equal(node_completion_save(p.nodes[replica].node, 0, &b), STATUS_OK);
    assert_true(bytes_equal(buffer_view(&a), buffer_view(&b)));
    buffer_fini(&a);
    buffer_fini(&b);
}

static void assert_reads(unsigned writes)
{
    for (unsigned i = 0; i < writes; i++) {
        char key[32];
        snprintf(key, sizeof key, "key%u", i);
        uint64_t token = pair_read(&p, replica, key);
        pair_run(&p, 5);
        assert_true(is_done(token));
        assert_int_equal(pair_answer(&p, token)->value_size, 3000);
    }
}

static void test_snapshot__who_lacks_more_than_memory_gets_a_whole_copy(void **state)
{
    (void)state;
    uint32_t slot = view(replica).slot;
    miss_writes(100); /* more than a page */
    cut_off(replica, false);
    pair_run(&p, 2 * TRIO_SETTLED_MS);
    assert_true(counters(primary).snapshots > 0);
    assert_int_equal(counters(replica).copies_ended, 1);
    assert_true(view(replica).slot > slot);
    assert_true(has_member(primary, replica));
    assert_same();
    assert_reads(100);
}

/* In the middle: some pages are here, the copy is not whole. */
static void run_until_half(void)
{
    uint64_t before = counters(primary).snapshots;
    cut_off(replica, false);
    for (int i = 0; i < 3000 && counters(primary).snapshots == before; i++)
        pair_run(&p, 1);
    pair_run(&p, 6);
    assert_int_equal(counters(replica).copies_ended, 0);
}

static void test_snapshot__until_it_is_whole_the_former_slot_counts(void **state)
{
    (void)state;
    struct node_replica_view before = view(replica);
    miss_writes(100);
    for (int checkpointed = 0; checkpointed < 2; checkpointed++) {
        run_until_half();
        assert_int_equal(view(replica).slot, before.slot);
        assert_false(view(replica).in_isr);
        if (checkpointed)
            pair_checkpoint(&p, replica);
        pair_crash(&p, replica);
        pair_start(&p, replica);
        assert_int_equal(view(replica).slot, before.slot);
        assert_true(view(replica).last_seq >= before.commit_seq);
        assert_true(view(replica).last_seq < view(primary).commit_seq);
    }
    assert_true(counters(replica).copies_dropped > 0);
    pair_run(&p, 3 * TRIO_SETTLED_MS);
    assert_true(has_member(primary, replica));
    assert_same();
    assert_reads(100);
}

/* Found by the simulator, seed 727. */
static void test_snapshot__a_copy_under_way_is_no_acknowledgement(void **state)
{
    (void)state;
    miss_writes(100);
    run_until_half();
    p.disk_stopped[replica] = true;
    for (int i = 0; i < 2000; i++) {
        pair_run(&p, 1);
        assert_false(has_member(primary, replica));
    }
    uint64_t token = put_at(primary);
    pair_run(&p, 100);
    assert_true(is_done(token)); /* and it keeps nobody waiting */
    p.disk_stopped[replica] = false;
    pair_run(&p, 3 * TRIO_SETTLED_MS);
    assert_true(has_member(primary, replica));
    assert_same();
}

/* Writes go on while it is under way: the copy is fuzzy, the log mends it. */
static void test_snapshot__what_is_written_meanwhile_is_there(void **state)
{
    (void)state;
    miss_writes(100);
    cut_off(replica, false);
    for (int i = 0; i < 300; i++) {
        put_at(primary);
        pair_run(&p, 10);
    }
    pair_run(&p, 2 * TRIO_SETTLED_MS);
    assert_true(counters(replica).copies_ended > 0);
    assert_true(has_member(primary, replica));
    assert_same();
}

/* ---- Pages that are not as they should be ---- */

static struct bytes kept(struct bytes body, uint8_t to[static 1 << 16])
{
    assert_true(body.size <= 1 << 16);
    memcpy(to, body.data, body.size);
    return bytes_of(to, body.size);
}

/* What is sent in place of a page: m changed in the way that number says. False: there are no more. */
static bool spoil(struct snapshot_message *m, unsigned number, uint8_t *body)
{
    uint32_t rows_at = bytes_le32(body);
    switch (number) {
    case 0:
        m->body.size--;
        return true;
    case 1:
        m->body.size = 3;
        return true;
    case 2:
        m->body.size = 0;
        return true;
    case 3:
    case 4:
        bytes_put_le32(body, number == 3 ? 0 : UINT32_MAX);
        return true;
    case 5:
    case 6:
        if (rows_at + 8 <= m->body.size)
            memset(body + rows_at, number == 5 ? 0 : 0xff, 8);
        else
            m->body.size--;
        return true;
    case 7:
        m->epoch++;
        return true;
    case 8:
        m->sender = third;
        return true;
    case 9:
        m->incarnation++;
        return true;
    case 10:
        m->partition = 1000;
        return true;
    case 11:
        m->index += 5;
        return true;
    default:
        return false;
    }
}

/* Every way to spoil the page in frame, to the replica before the page itself comes. */
static void spoil_all(struct bytes frame)
{
    static uint8_t body[1 << 16];
    struct arena arena;
    struct snapshot_message m;
    struct buffer out;
    arena_init(&arena);
    for (unsigned number = 0;; number++) {
        arena_reset(&arena, 1 << 20);
        assert_int_equal(codec_unpack_snapshot(frame, &arena, &m), STATUS_OK);
        m.body = kept(m.body, body);
        if (!spoil(&m, number, body))
            break;
        buffer_init(&out, 1 << 20);
        assert_int_equal(codec_pack_snapshot(&m, &out), STATUS_OK);
        pair_peer(&p, replica, buffer_view(&out));
        buffer_fini(&out);
    }
    arena_fini(&arena);
}

static unsigned spoil_wire(void)
{
    unsigned count = 0;
    enum message_kind kind;
    for (size_t i = 0; i < p.wire_count; i++) {
        struct bytes frame = buffer_view(&p.wire[i].frame);
        if (p.wire[i].peer != replica || codec_peek(frame, &kind) != STATUS_OK ||
            kind != MESSAGE_SNAPSHOT)
            continue;
        struct buffer copy; /* what the replica answers may move the wire */
        buffer_init(&copy, 1 << 20);
        assert_int_equal(buffer_append(&copy, frame), STATUS_OK);
        spoil_all(buffer_view(&copy));
        buffer_fini(&copy);
        count++;
    }
    return count;
}

static void test_snapshot__pages_that_are_spoilt_do_no_harm(void **state)
{
    (void)state;
    unsigned spoilt = 0;
    miss_writes(100);
    uint64_t before = counters(replica).malformed;
    cut_off(replica, false);
    p.delay_ms = 3;
    for (int i = 0; i < 3000 && counters(replica).copies_ended == 0; i++) {
        pair_run(&p, 1);
        spoilt += spoil_wire();
    }
    assert_true(spoilt > 3 && counters(replica).malformed >= before + spoilt);
    pair_run(&p, 3 * TRIO_SETTLED_MS);
    assert_true(has_member(primary, replica));
    assert_same();
    assert_reads(100);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_snapshot__##name, open_trio, trio_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(who_lacks_more_than_memory_gets_a_whole_copy),
        CASE(until_it_is_whole_the_former_slot_counts),
        CASE(a_copy_under_way_is_no_acknowledgement),
        CASE(what_is_written_meanwhile_is_there),
        CASE(pages_that_are_spoilt_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
