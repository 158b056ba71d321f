#include "storage/checkpoint.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/store.h"
#include "tests/lib/table_mem.h"
#include "tests/sim/random.h"
#include "tests/unit/failing_memory.h"

/* --- a log of operations, whose effect and states are a function of the lsn --- */

#define SLOTS     9
#define KEYS      150
#define FIRST_LSN 300
#define LAST_LSN  900

static uint8_t content[300];

static struct table_row operation(uint64_t lsn, char key[static 32])
{
    struct random chance;
    random_init(&chance, lsn);
    size_t i = random_below(&chance, KEYS);
    int size = snprintf(key, 32, "key-%zu", i);
    bool present = !random_chance(&chance, 200);
    return (struct table_row){
        .slot = (uint32_t)(1 + i % SLOTS),
        .digest = i / 4,
        .key = bytes_of(key, (size_t)size),
        .item = {.present = present,
                 .version = {1, lsn},
                 .value = bytes_of(content, present ? random_below(&chance, sizeof content) : 0)},
    };
}

static void replay(struct overlay *o, uint64_t from, uint64_t to)
{
    for (uint64_t lsn = from; lsn <= to; lsn++) {
        char key[32];
        struct table_row row = operation(lsn, key);
        assert_int_equal(overlay_put(o, row.slot, row.digest, row.key, &row.item), STATUS_OK);
    }
}

/* The lsn of the slot's last operation up to lsn; 0: none. */
static uint64_t state_at(uint32_t slot, uint64_t lsn)
{
    for (; lsn > 0; lsn--) {
        char key[32];
        if (operation(lsn, key).slot == slot)
            break;
    }
    return lsn;
}

/* States of the slots that changed in (after, lsn]; each is its number, many times over. */
#define STATE_SIZE 64

static struct checkpoint make_checkpoint(const struct overlay *frozen, uint64_t after, uint64_t lsn)
{
    struct checkpoint c = {.frozen = frozen, .lsn = lsn, .chunk = 7};
    c.states = calloc(SLOTS, sizeof *c.states);
    c.states_memory = malloc(SLOTS * STATE_SIZE);
    for (uint32_t slot = 1; slot <= SLOTS; slot++) {
        uint64_t changed = state_at(slot, lsn);
        if (changed <= after)
            continue;
        uint8_t *blob = c.states_memory + c.states_count * STATE_SIZE;
        for (size_t i = 0; i < STATE_SIZE; i += 8)
            bytes_put_le64(blob + i, changed);
        c.states[c.states_count++] = (struct checkpoint_state){slot, bytes_of(blob, STATE_SIZE)};
    }
    return c;
}

struct states_check {
    uint64_t position;
    uint32_t last_slot;
    size_t count;
};

static enum status on_state(void *arg, uint32_t slot, struct bytes blob)
{
    struct states_check *check = arg;
    assert_true(slot > check->last_slot);
    check->last_slot = slot;
    check->count++;
    assert_int_equal(blob.size, STATE_SIZE);
    uint64_t expected = state_at(slot, check->position);
    for (size_t i = 0; i < STATE_SIZE; i += 8)
        if (bytes_le64(blob.data + i) != expected)
            fail_msg("slot %u: not its state at %u", slot, (unsigned)check->position);
    return STATUS_OK;
}

static void assert_states(struct table *t, uint64_t position)
{
    struct states_check check = {.position = position};
    size_t expected = 0;
    for (uint32_t slot = 1; slot <= SLOTS; slot++)
        expected += state_at(slot, position) != 0;
    assert_int_equal(checkpoint_states(t, on_state, &check), STATUS_OK);
    assert_int_equal(check.count, expected);
}

static uint64_t position_of(struct table *t)
{
    uint64_t position = 99;
    assert_int_equal(checkpoint_position(t, &position), STATUS_OK);
    return position;
}

/* What a store shows over the table and over what replay put into its overlay. */
static void assert_content(struct store *s, uint64_t lsn)
{
    static const struct table_row nothing;
    struct table_row expected[KEYS];
    for (size_t i = 0; i < KEYS; i++)
        expected[i] = nothing;
    char key[32];
    for (uint64_t i = 1; i <= lsn; i++) {
        struct table_row row = operation(i, key);
        expected[strtoul(key + 4, NULL, 10)] = row;
    }
    for (size_t i = 0; i < KEYS; i++) {
        struct item item;
        uint64_t generation;
        int size = snprintf(key, sizeof key, "key-%zu", i);
        assert_int_equal(store_get(s, (uint32_t)(1 + i % SLOTS), i / 4, bytes_of(key, (size_t)size),
                                   &item, &generation),
                         STATUS_OK);
        assert_int_equal(item.present, expected[i].item.present);
        if (!item.present)
            continue;
        assert_int_equal(item.version.seq, expected[i].item.version.seq);
        assert_true(bytes_equal(item.value, expected[i].item.value));
    }
}

static void replay_store(struct store *s, uint64_t from, uint64_t to)
{
    for (uint64_t lsn = from; lsn <= to; lsn++) {
        char key[32];
        struct table_row row = operation(lsn, key);
        assert_int_equal(store_apply(s, row.slot, row.digest, row.key, &row.item), STATUS_OK);
    }
}

/* As after a restart: everything from the table and from the log behind its position. */
static void assert_recovers(struct table *t, uint64_t position, uint64_t last)
{
    assert_int_equal(position_of(t), position);
    assert_states(t, position);
    struct store_options options = {.overlay_bytes_max = 1u << 30, .inline_reads = true};
    struct store *s = store_new(&options, t);
    replay_store(s, position + 1, last);
    assert_content(s, last);
    store_destroy(&s);
}

static enum status run(struct table *t, uint64_t after, uint64_t lsn, bool (*between)(void *),
                       void *arg)
{
    struct overlay *o = overlay_new();
    replay(o, after + 1, lsn);
    struct checkpoint c = make_checkpoint(o, after, lsn);
    enum status s = checkpoint_run(t, &c, between, arg);
    checkpoint_fini(&c);
    assert_null(c.states);
    overlay_destroy(&o);
    return s;
}

static struct table *table_with_first_checkpoint(void)
{
    struct table *t = table_mem_new();
    assert_int_equal(run(t, 0, FIRST_LSN, NULL, NULL), STATUS_OK);
    return t;
}

static bool countdown(void *arg)
{
    unsigned *left = arg;
    return --*left > 0;
}

static void test_checkpoint__a_new_table_has_position_0_and_no_states(void **state)
{
    (void)state;
    struct table *t = table_mem_new();
    assert_int_equal(position_of(t), 0);
    assert_states(t, 0);
    t->verbs->destroy(&t);
}

static void test_checkpoint__what_was_frozen_is_in_the_table(void **state)
{
    (void)state;
    struct table *t = table_with_first_checkpoint();
    assert_recovers(t, FIRST_LSN, FIRST_LSN);
    assert_int_equal(run(t, FIRST_LSN, LAST_LSN, NULL, NULL), STATUS_OK);
    assert_recovers(t, LAST_LSN, LAST_LSN);
    t->verbs->destroy(&t);
}

static void test_checkpoint__an_empty_one_moves_the_position(void **state)
{
    (void)state;
    struct table *t = table_with_first_checkpoint();
    uint64_t commits = table_mem_commits(t);
    struct overlay *o = overlay_new();
    struct checkpoint c = {.frozen = o, .lsn = FIRST_LSN + 1};
    assert_int_equal(checkpoint_run(t, &c, NULL, NULL), STATUS_OK);
    assert_int_equal(position_of(t), FIRST_LSN + 1);
    assert_int_equal(table_mem_commits(t), commits + 1);
    overlay_destroy(&o);
    t->verbs->destroy(&t);
}

static void test_checkpoint__many_rows_go_out_in_several_transactions(void **state)
{
    (void)state;
    struct table *t = table_mem_new();
    struct overlay *o = overlay_new();
    for (size_t i = 0; i < 2 * CHECKPOINT_CHUNK + 1; i++) {
        char key[32];
        int size = snprintf(key, sizeof key, "key-%zu", i);
        struct item item = {.present = true};
        assert_int_equal(overlay_put(o, 1, i, bytes_of(key, (size_t)size), &item), STATUS_OK);
    }
    struct checkpoint c = {.frozen = o, .lsn = 1};
    assert_int_equal(checkpoint_run(t, &c, NULL, NULL), STATUS_OK);
    assert_int_equal(table_mem_commits(t), 4); /* rows, rows, the last row, position */
    uint64_t rows, bytes;
    t->verbs->count(t, &rows, &bytes);
    assert_int_equal(rows, 2 * CHECKPOINT_CHUNK + 1);
    overlay_destroy(&o);
    t->verbs->destroy(&t);
}

static void test_checkpoint__large_values_go_out_in_several_transactions(void **state)
{
    (void)state;
    static const uint8_t large[CHECKPOINT_CHUNK_BYTES / 2];
    struct table *t = table_mem_new();
    struct overlay *o = overlay_new();
    for (size_t i = 0; i < 5; i++) {
        struct item item = {.present = true, .value = bytes_of(large, sizeof large)};
        assert_int_equal(overlay_put(o, 1, i, bytes_text("key"), &item), STATUS_OK);
    }
    struct checkpoint c = {.frozen = o, .lsn = 1};
    assert_int_equal(checkpoint_run(t, &c, NULL, NULL), STATUS_OK);
    assert_int_equal(table_mem_commits(t), 4);
    overlay_destroy(&o);
    t->verbs->destroy(&t);
}

static void test_checkpoint__a_crash_between_transactions_loses_nothing(void **state)
{
    (void)state;
    enum status s = STATUS_ABORTED;
    unsigned stop = 0;
    while (s != STATUS_OK) {
        struct table *t = table_with_first_checkpoint();
        unsigned left = ++stop;
        s = run(t, FIRST_LSN, LAST_LSN, countdown, &left);
        assert_true(s == STATUS_OK || s == STATUS_ABORTED);
        bool whole = position_of(t) == LAST_LSN;
        table_mem_crash(t);
        assert_recovers(t, whole ? LAST_LSN : FIRST_LSN, LAST_LSN);
        if (whole)
            assert_int_equal(left, s == STATUS_OK); /* stopped, if at all, after the last one */
        /* And the next one, from wherever this one left the table. */
        assert_int_equal(run(t, position_of(t), LAST_LSN + 40, NULL, NULL), STATUS_OK);
        assert_recovers(t, LAST_LSN + 40, LAST_LSN + 40);
        t->verbs->destroy(&t);
    }
    assert_true(stop > 15);
}

/* Two in a row that end early, at the same and at different lsns. */
static void test_checkpoint__several_crashes_in_a_row_lose_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct random chance;
        random_init(&chance, seed);
        struct table *t = table_with_first_checkpoint();
        uint64_t last = FIRST_LSN;
        for (int round = 0; round < 6; round++) {
            uint64_t position = position_of(t);
            last += random_below(&chance, 3) * 40;
            unsigned left = 1 + (unsigned)random_below(&chance, 20);
            if (last > position)
                run(t, position, last, countdown, &left);
            table_mem_crash(t);
            assert_recovers(t, position_of(t), last);
        }
        t->verbs->destroy(&t);
    }
}

static void test_checkpoint__an_error_of_the_table_ends_it_with_the_old_position(void **state)
{
    (void)state;
    for (enum table_mem_fault fault = TABLE_MEM_READ; fault <= TABLE_MEM_COMMIT; fault++) {
        enum status s = STATUS_FULL;
        for (uint64_t after = 0; s != STATUS_OK; after += fault == TABLE_MEM_WRITE ? 7 : 1) {
            struct table *t = table_with_first_checkpoint();
            table_mem_fail(t, fault, after, STATUS_FULL);
            s = run(t, FIRST_LSN, LAST_LSN, NULL, NULL);
            table_mem_crash(t);
            if (s != STATUS_OK) {
                assert_int_equal(s, STATUS_FULL);
                assert_recovers(t, FIRST_LSN, LAST_LSN);
            }
            t->verbs->destroy(&t);
        }
    }
}

static void test_checkpoint__a_lack_of_memory_ends_it_with_the_old_position(void **state)
{
    (void)state;
    bool failed = true;
    for (uint64_t after = 0; failed; after += 5) {
        struct table *t = table_with_first_checkpoint();
        struct overlay *o = overlay_new();
        replay(o, FIRST_LSN + 1, LAST_LSN);
        struct checkpoint c = make_checkpoint(o, FIRST_LSN, LAST_LSN);
        failing_memory_arm(after);
        enum status s = checkpoint_run(t, &c, NULL, NULL);
        failed = failing_memory_disarm();
        assert_int_equal(s, failed ? STATUS_NOMEMORY : STATUS_OK);
        checkpoint_fini(&c);
        overlay_destroy(&o);
        table_mem_crash(t);
        assert_recovers(t, failed ? FIRST_LSN : LAST_LSN, LAST_LSN);
        t->verbs->destroy(&t);
    }
}

static enum status refuse(void *arg, uint32_t slot, struct bytes blob)
{
    (void)slot;
    (void)blob;
    return --*(int *)arg > 0 ? STATUS_OK : STATUS_FORMAT;
}

static void test_checkpoint__an_error_of_the_caller_ends_the_walk(void **state)
{
    (void)state;
    struct table *t = table_with_first_checkpoint();
    for (int calls = 1; calls <= SLOTS; calls++) {
        int left = calls;
        assert_int_equal(checkpoint_states(t, refuse, &left), STATUS_FORMAT);
        assert_int_equal(left, 0);
    }
    t->verbs->destroy(&t);
}

static void put_blob(struct table *t, struct bytes name, struct bytes value)
{
    assert_int_equal(t->verbs->begin(t), STATUS_OK);
    assert_int_equal(t->verbs->blob_put(t, name, value), STATUS_OK);
    assert_int_equal(t->verbs->commit(t), STATUS_OK);
}

static void test_checkpoint__damaged_states_are_corrupt(void **state)
{
    (void)state;
    const struct bytes place = bytes_of("place\0\0\0\2", 9);
    struct table *t = table_with_first_checkpoint();
    int left = 100;
    assert_int_equal(checkpoint_states(t, refuse, &left), STATUS_OK);
    put_blob(t, place, bytes_of("\1", 1)); /* where nothing is */
    assert_int_equal(checkpoint_states(t, refuse, &left), STATUS_CORRUPT);
    put_blob(t, place, bytes_of("\0\0", 2));
    assert_int_equal(checkpoint_states(t, refuse, &left), STATUS_CORRUPT);
    assert_int_equal(run(t, FIRST_LSN, LAST_LSN, NULL, NULL), STATUS_CORRUPT);
    put_blob(t, place, bytes_of("\0", 1));
    assert_int_equal(checkpoint_states(t, refuse, &left), STATUS_OK);
    put_blob(t, bytes_text("position"), bytes_text("seven b"));
    uint64_t position;
    assert_int_equal(checkpoint_position(t, &position), STATUS_CORRUPT);
    assert_int_equal(run(t, FIRST_LSN, LAST_LSN, NULL, NULL), STATUS_CORRUPT);
    t->verbs->destroy(&t);
}

static enum status on_text_state(void *arg, uint32_t slot, struct bytes blob)
{
    char *text = arg;
    size_t used = strlen(text);
    snprintf(text + used, 64 - used, "%u=%.*s ", slot, (int)blob.size, (const char *)blob.data);
    return STATUS_OK;
}

/* Replay positions need not rise from one checkpoint to the next: an old pending entry holds them
 * back, and a restart makes entries pending again. What an unfinished checkpoint left behind must
 * not count when a later one passes its position. */
static void test_checkpoint__states_of_an_unfinished_one_never_count(void **state)
{
    (void)state;
    struct table *t = table_mem_new();
    struct overlay *o = overlay_new();
    char seen[64] = "";
    struct checkpoint_state first = {7, bytes_text("first")}, lost = {7, bytes_text("lost")};
    struct checkpoint_state second = {7, bytes_text("second")}, other = {8, bytes_text("other")};
    struct checkpoint c = {.frozen = o, .lsn = 100, .states = &first, .states_count = 1};
    assert_int_equal(checkpoint_run(t, &c, NULL, NULL), STATUS_OK);
    unsigned left = 1;
    c = (struct checkpoint){.frozen = o, .lsn = 150, .states = &lost, .states_count = 1};
    assert_int_equal(checkpoint_run(t, &c, countdown, &left), STATUS_ABORTED);
    c = (struct checkpoint){.frozen = o, .lsn = 100, .states = &second, .states_count = 1};
    assert_int_equal(checkpoint_run(t, &c, NULL, NULL), STATUS_OK);
    c = (struct checkpoint){.frozen = o, .lsn = 160, .states = &other, .states_count = 1};
    assert_int_equal(checkpoint_run(t, &c, NULL, NULL), STATUS_OK);
    assert_int_equal(checkpoint_states(t, on_text_state, seen), STATUS_OK);
    assert_string_equal(seen, "7=second 8=other ");
    overlay_destroy(&o);
    t->verbs->destroy(&t);
}

/* --- the thread --- */

struct threaded {
    struct table *table;
    struct overlay *frozen;
    struct checkpointer *checkpointer;
    int event_fd;
};

static struct threaded new_threaded(void)
{
    struct threaded f = {.table = table_mem_new(),
                         .frozen = overlay_new(),
                         .event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    replay(f.frozen, 1, FIRST_LSN);
    f.checkpointer = checkpointer_new(f.table, f.event_fd);
    assert_non_null(f.checkpointer);
    return f;
}

static void start(struct threaded *f)
{
    struct checkpoint c = make_checkpoint(f->frozen, 0, FIRST_LSN);
    checkpointer_start(f->checkpointer, &c);
    assert_null(c.states);
}

static void fini_threaded(struct threaded *f)
{
    checkpointer_destroy(&f->checkpointer);
    assert_null(f->checkpointer);
    overlay_destroy(&f->frozen);
    f->table->verbs->destroy(&f->table);
    close(f->event_fd);
}

static void wait_event(int event_fd)
{
    struct pollfd p = {.fd = event_fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, -1), 1);
    uint64_t count;
    assert_int_equal(read(event_fd, &count, sizeof count), sizeof count);
}

static void test_checkpoint__the_thread_tells_when_one_has_ended(void **state)
{
    (void)state;
    struct threaded f = new_threaded();
    uint64_t lsn = 0;
    assert_int_equal(checkpointer_ended(f.checkpointer, &lsn), STATUS_NOTFOUND);
    for (int round = 0; round < 3; round++) {
        start(&f);
        wait_event(f.event_fd);
        assert_int_equal(checkpointer_ended(f.checkpointer, &lsn), STATUS_OK);
        assert_int_equal(lsn, FIRST_LSN);
        assert_int_equal(checkpointer_ended(f.checkpointer, &lsn), STATUS_NOTFOUND);
    }
    assert_recovers(f.table, FIRST_LSN, FIRST_LSN);
    fini_threaded(&f);
}

static void test_checkpoint__the_thread_tells_an_error(void **state)
{
    (void)state;
    struct threaded f = new_threaded();
    table_mem_fail(f.table, TABLE_MEM_COMMIT, 1, STATUS_IO);
    start(&f);
    wait_event(f.event_fd);
    uint64_t lsn;
    assert_int_equal(checkpointer_ended(f.checkpointer, &lsn), STATUS_IO);
    assert_int_equal(position_of(f.table), 0);
    fini_threaded(&f);
}

/* Whatever it has done by then, the table is as after a crash. */
static void test_checkpoint__the_thread_stops_in_the_middle(void **state)
{
    (void)state;
    struct threaded f = new_threaded();
    start(&f);
    checkpointer_destroy(&f.checkpointer);
    table_mem_crash(f.table);
    assert_recovers(f.table, position_of(f.table), FIRST_LSN);
    fini_threaded(&f);
}

int main(void)
{
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 2654435761u >> 13);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoint__a_new_table_has_position_0_and_no_states),
        cmocka_unit_test(test_checkpoint__what_was_frozen_is_in_the_table),
        cmocka_unit_test(test_checkpoint__an_empty_one_moves_the_position),
        cmocka_unit_test(test_checkpoint__many_rows_go_out_in_several_transactions),
        cmocka_unit_test(test_checkpoint__large_values_go_out_in_several_transactions),
        cmocka_unit_test(test_checkpoint__a_crash_between_transactions_loses_nothing),
        cmocka_unit_test(test_checkpoint__several_crashes_in_a_row_lose_nothing),
        cmocka_unit_test(test_checkpoint__an_error_of_the_table_ends_it_with_the_old_position),
        cmocka_unit_test(test_checkpoint__a_lack_of_memory_ends_it_with_the_old_position),
        cmocka_unit_test(test_checkpoint__an_error_of_the_caller_ends_the_walk),
        cmocka_unit_test(test_checkpoint__damaged_states_are_corrupt),
        cmocka_unit_test(test_checkpoint__states_of_an_unfinished_one_never_count),
        cmocka_unit_test(test_checkpoint__the_thread_tells_when_one_has_ended),
        cmocka_unit_test(test_checkpoint__the_thread_tells_an_error),
        cmocka_unit_test(test_checkpoint__the_thread_stops_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
