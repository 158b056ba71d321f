#include "storage/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/checkpoint.h"
#include "tests/lib/table_mem.h"
#include "tests/sim/random.h"
#include "tests/unit/failing_memory.h"

static const struct store_options options = {
    .overlay_bytes_max = 1u << 20, .overlay_entries_min = 100, .inline_reads = true};

struct fixture {
    struct table *table;
    struct store *store;
    uint64_t lsn;
};

static struct fixture new_fixture(void)
{
    struct fixture f = {.table = table_mem_new()};
    f.store = store_new(&options, f.table);
    assert_non_null(f.store);
    return f;
}

static void fini_fixture(struct fixture *f)
{
    store_destroy(&f->store);
    assert_null(f->store);
    f->table->verbs->destroy(&f->table);
}

static void apply_text(struct store *s, const char *key, const char *text)
{
    struct item item = {
        .present = text != NULL, .version = {1, 1}, .value = bytes_text(text == NULL ? "" : text)};
    assert_int_equal(store_apply(s, 1, 7, bytes_text(key), &item), STATUS_OK);
}

static void assert_item(const struct item *item, const char *text)
{
    assert_int_equal(item->present, text != NULL);
    if (text != NULL)
        assert_true(bytes_equal(item->value, bytes_text(text)));
}

static void assert_text(struct store *s, const char *key, const char *text)
{
    struct item item;
    uint64_t generation;
    assert_int_equal(store_get(s, 1, 7, bytes_text(key), &item, &generation), STATUS_OK);
    assert_item(&item, text);
}

static void write_frozen(struct fixture *f, const struct overlay *frozen)
{
    struct checkpoint c = {.frozen = frozen, .lsn = ++f->lsn};
    assert_int_equal(checkpoint_run(f->table, &c, NULL, NULL), STATUS_OK);
}

static void checkpoint(struct fixture *f)
{
    const struct overlay *frozen = store_freeze(f->store);
    assert_non_null(frozen);
    write_frozen(f, frozen);
    store_thaw(f->store);
}

static void test_store__a_key_is_read_from_where_it_is(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    assert_text(f.store, "apple", NULL);
    apply_text(f.store, "apple", "live");
    assert_text(f.store, "apple", "live");
    const struct overlay *frozen = store_freeze(f.store);
    assert_text(f.store, "apple", "live");
    apply_text(f.store, "pear", "live");
    write_frozen(&f, frozen);
    assert_text(f.store, "apple", "live");
    store_thaw(f.store);
    assert_text(f.store, "apple", "live");
    assert_text(f.store, "pear", "live");
    apply_text(f.store, "apple", "newer");
    assert_text(f.store, "apple", "newer");
    fini_fixture(&f);
}

static void test_store__a_deleted_key_hides_what_the_table_has(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    apply_text(f.store, "apple", "red");
    checkpoint(&f);
    apply_text(f.store, "apple", NULL);
    assert_text(f.store, "apple", NULL);
    store_freeze(f.store);
    assert_text(f.store, "apple", NULL);
    apply_text(f.store, "apple", "green");
    assert_text(f.store, "apple", "green");
    fini_fixture(&f);
}

/* The reader of this turn saw the table before the checkpoint; the overlay that knew better goes.
 */
static void test_store__thaw_lets_go_of_the_old_snapshot(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    apply_text(f.store, "apple", "red");
    const struct overlay *frozen = store_freeze(f.store);
    assert_text(f.store, "pear", NULL); /* takes the snapshot */
    write_frozen(&f, frozen);
    store_thaw(f.store);
    assert_text(f.store, "apple", "red");
    fini_fixture(&f);
}

static void test_store__one_turn_reads_one_snapshot(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    assert_text(f.store, "apple", NULL);
    struct table_row row = {
        1, 7, bytes_text("apple"), {.present = true, .value = bytes_text("red")}};
    assert_int_equal(f.table->verbs->begin(f.table), STATUS_OK);
    assert_int_equal(f.table->verbs->put(f.table, &row), STATUS_OK);
    assert_int_equal(f.table->verbs->commit(f.table), STATUS_OK);
    assert_text(f.store, "apple", NULL);
    store_turn_end(f.store);
    store_turn_end(f.store);
    assert_text(f.store, "apple", "red");
    fini_fixture(&f);
}

/* --- fetches --- */

static void test_store__only_the_table_needs_a_fetch(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    struct item item;
    uint64_t generation = 0;
    apply_text(f.store, "apple", "red");
    store_set_inline_reads(f.store, false);
    assert_text(f.store, "apple", "red");
    assert_int_equal(store_get(f.store, 1, 7, bytes_text("pear"), &item, &generation), STATUS_BUSY);
    assert_true(generation != 0);
    struct item fetched = {.present = true, .value = bytes_text("from the table")};
    assert_int_equal(
        store_fetched(f.store, generation, 1, 7, bytes_text("pear"), &fetched, &item, &generation),
        STATUS_OK);
    assert_item(&item, "from the table");
    store_set_inline_reads(f.store, true);
    assert_text(f.store, "pear", NULL);
    fini_fixture(&f);
}

static void test_store__what_was_applied_during_a_fetch_wins(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    struct item item, fetched = {.present = true, .value = bytes_text("old")};
    uint64_t generation;
    store_set_inline_reads(f.store, false);
    assert_int_equal(store_get(f.store, 1, 7, bytes_text("pear"), &item, &generation), STATUS_BUSY);
    apply_text(f.store, "pear", "new");
    assert_int_equal(
        store_fetched(f.store, generation, 1, 7, bytes_text("pear"), &fetched, &item, &generation),
        STATUS_OK);
    assert_item(&item, "new");
    store_freeze(f.store);
    assert_int_equal(
        store_fetched(f.store, generation, 1, 7, bytes_text("pear"), &fetched, &item, &generation),
        STATUS_OK);
    assert_item(&item, "new");
    fini_fixture(&f);
}

/* Fetch asked, key written, checkpoint begun and ended: neither the fetched item nor the overlays
 * have the write. */
static void test_store__a_fetch_from_before_a_checkpoint_is_asked_again(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    struct item item, fetched = {.present = false};
    uint64_t generation, again = 0;
    store_set_inline_reads(f.store, false);
    assert_int_equal(store_get(f.store, 1, 7, bytes_text("pear"), &item, &generation), STATUS_BUSY);
    apply_text(f.store, "pear", "new");
    checkpoint(&f);
    assert_int_equal(
        store_fetched(f.store, generation, 1, 7, bytes_text("pear"), &fetched, &item, &again),
        STATUS_BUSY);
    assert_true(again > generation);
    fetched = (struct item){.present = true, .value = bytes_text("new")};
    assert_int_equal(
        store_fetched(f.store, again, 1, 7, bytes_text("pear"), &fetched, &item, &generation),
        STATUS_OK);
    assert_item(&item, "new");
    fini_fixture(&f);
}

/* --- when a checkpoint is due --- */

static void fill(struct store *s, size_t count, size_t value_size)
{
    static const uint8_t value[20000];
    assert_true(value_size <= sizeof value);
    for (size_t i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof key, "key-%zu", i);
        struct item item = {.present = true, .value = bytes_of(value, value_size)};
        assert_int_equal(store_apply(s, (uint32_t)(i % 7), i, bytes_text(key), &item), STATUS_OK);
    }
}

static void test_store__a_checkpoint_is_due_by_entries_or_bytes(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    assert_false(store_checkpoint_due(f.store));
    fill(f.store, 100, 10);
    assert_false(store_checkpoint_due(f.store));
    fill(f.store, 101, 10);
    assert_true(store_checkpoint_due(f.store));
    store_freeze(f.store);
    fill(f.store, 101, 10);
    assert_false(store_checkpoint_due(f.store));
    assert_null(store_freeze(f.store));
    store_thaw(f.store);
    assert_true(store_checkpoint_due(f.store));
    fini_fixture(&f);
    f = new_fixture();
    fill(f.store, 60, 20000);
    assert_true(store_checkpoint_due(f.store));
    fini_fixture(&f);
}

static void test_store__a_large_table_is_written_less_often(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    fill(f.store, 2000, 10);
    checkpoint(&f);
    fill(f.store, 500, 10);
    assert_false(store_checkpoint_due(f.store));
    fill(f.store, 501, 10);
    assert_true(store_checkpoint_due(f.store));
    fini_fixture(&f);
}

static void test_store__both_overlays_are_counted(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    uint64_t entries, bytes, bytes_before;
    fill(f.store, 50, 100);
    store_count(f.store, &entries, &bytes_before);
    assert_int_equal(entries, 50);
    assert_true(bytes_before > 5000);
    store_freeze(f.store);
    fill(f.store, 10, 100);
    store_count(f.store, &entries, &bytes);
    assert_int_equal(entries, 60);
    assert_true(bytes > bytes_before);
    store_thaw(f.store);
    store_count(f.store, &entries, &bytes);
    assert_int_equal(entries, 10);
    fini_fixture(&f);
}

/* --- trouble --- */

static void test_store__the_tables_errors_are_passed_on(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    struct item item;
    uint64_t generation;
    table_mem_fail(f.table, TABLE_MEM_READ, 0, STATUS_IO); /* refresh */
    assert_int_equal(store_get(f.store, 1, 7, bytes_text("a"), &item, &generation), STATUS_IO);
    table_mem_fail(f.table, TABLE_MEM_READ, 1, STATUS_CORRUPT); /* get */
    assert_int_equal(store_get(f.store, 1, 7, bytes_text("a"), &item, &generation), STATUS_CORRUPT);
    table_mem_fail(f.table, TABLE_MEM_READ, 0, STATUS_IO); /* scan; refreshed already */
    assert_int_equal(store_scan(f.store, 1, 0, BYTES_EMPTY, NULL, NULL), STATUS_IO);
    fini_fixture(&f);
}

static bool count_row(void *arg, const struct table_row *row)
{
    *(size_t *)arg += row->item.present;
    return true;
}

static void test_store__a_lack_of_memory_is_told_and_leaks_nothing(void **state)
{
    (void)state;
    bool failed = true;
    for (uint64_t after = 0; failed; after++) {
        struct table *t = table_mem_new();
        size_t seen = 0;
        failing_memory_arm(after);
        struct store *s = store_new(&options, t);
        struct item item = {.present = true};
        enum status status = s == NULL ? STATUS_NOMEMORY : STATUS_OK;
        if (status == STATUS_OK)
            status = store_apply(s, 1, 1, bytes_text("apple"), &item);
        if (status == STATUS_OK && store_freeze(s) == NULL)
            status = STATUS_NOMEMORY;
        if (status == STATUS_OK)
            status = store_apply(s, 1, 1, bytes_text("pear"), &item);
        if (status == STATUS_OK)
            status = store_scan(s, 1, 0, BYTES_EMPTY, count_row, &seen);
        failed = failing_memory_disarm();
        assert_int_equal(status, failed ? STATUS_NOMEMORY : STATUS_OK);
        assert_int_equal(seen, failed ? 0 : 2);
        store_destroy(&s);
        t->verbs->destroy(&t);
    }
}

/* --- against a plain map --- */

#define KEYS  120
#define SLOTS 3

struct model {
    struct {
        bool present;
        uint64_t seq;
        size_t value_size;
    } keys[KEYS];
};

static uint8_t model_value[300];

static uint32_t slot_of(size_t i)
{
    return (uint32_t)(i % SLOTS);
}

static uint64_t digest_of(size_t i)
{
    return i / 8; /* several keys share one */
}

static struct bytes key_of(size_t i, char to[static 32])
{
    int size = snprintf(to, 32, "k%.*zu", (int)(i % 5) + 1, i);
    return bytes_of(to, (size_t)size);
}

static void assert_same_item(const struct item *item, const struct model *m, size_t i)
{
    assert_int_equal(item->present, m->keys[i].present);
    if (!item->present)
        return;
    assert_int_equal(item->version.seq, m->keys[i].seq);
    assert_int_equal(item->value.size, m->keys[i].value_size);
}

static void assert_gets(struct store *s, const struct model *m)
{
    for (size_t i = 0; i < KEYS; i++) {
        char text[32];
        struct item item;
        uint64_t generation;
        assert_int_equal(
            store_get(s, slot_of(i), digest_of(i), key_of(i, text), &item, &generation), STATUS_OK);
        assert_same_item(&item, m, i);
    }
}

struct page {
    const struct model *model;
    size_t left, seen;
    uint32_t slot;
    bool has_last;
    uint64_t digest;
    size_t key_size;
    char key[32];
};

static size_t model_find(const struct table_row *row)
{
    for (size_t i = 0; i < KEYS; i++) {
        char text[32];
        if (slot_of(i) == row->slot && digest_of(i) == row->digest &&
            bytes_equal(key_of(i, text), row->key))
            return i;
    }
    fail_msg("a row that nobody wrote");
    return 0;
}

static bool on_row(void *arg, const struct table_row *row)
{
    struct page *p = arg;
    assert_true(p->left > 0);
    assert_int_equal(row->slot, p->slot);
    if (p->has_last) {
        struct bytes last = bytes_of(p->key, p->key_size);
        assert_true(row->digest > p->digest ||
                    (row->digest == p->digest && bytes_compare(row->key, last) > 0));
    }
    assert_true(row->item.present);
    assert_same_item(&row->item, p->model, model_find(row));
    p->has_last = true;
    p->digest = row->digest;
    p->key_size = row->key.size;
    memcpy(p->key, row->key.data, row->key.size);
    p->seen++;
    return --p->left > 0;
}

/* Walk every slot in pages of page_size; each key that is there is seen once. */
static void assert_scan(struct store *s, const struct model *m, size_t page_size)
{
    size_t there = 0, seen = 0;
    for (size_t i = 0; i < KEYS; i++)
        there += m->keys[i].present;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        struct page p = {.model = m, .slot = slot};
        do {
            p.left = page_size;
            struct bytes after = p.has_last ? bytes_of(p.key, p.key_size) : BYTES_EMPTY;
            char copy[32];
            memcpy(copy, p.key, sizeof copy);
            after.data = p.has_last ? (const uint8_t *)copy : NULL;
            assert_int_equal(store_scan(s, slot, p.digest, after, on_row, &p), STATUS_OK);
        } while (p.left == 0);
        seen += p.seen;
    }
    assert_int_equal(seen, there);
}

static void random_apply(struct store *s, struct model *m, struct random *chance, uint64_t seq)
{
    size_t i = random_below(chance, KEYS);
    char text[32];
    m->keys[i].present = !random_chance(chance, 250);
    m->keys[i].seq = seq;
    m->keys[i].value_size = m->keys[i].present ? random_below(chance, sizeof model_value) : 0;
    struct item item = {.present = m->keys[i].present,
                        .version = {1, seq},
                        .value = bytes_of(model_value, m->keys[i].value_size)};
    assert_int_equal(store_apply(s, slot_of(i), digest_of(i), key_of(i, text), &item), STATUS_OK);
}

/* Checkpoints begin and end at any time between writes and reads, and a turn ends now and then. */
static void random_run(uint64_t seed)
{
    struct random chance;
    random_init(&chance, seed);
    struct fixture f = new_fixture();
    struct model m = {0};
    const struct overlay *frozen = NULL;
    bool written = false;
    for (uint64_t step = 1; step <= 600; step++) {
        random_apply(f.store, &m, &chance, step);
        if (random_chance(&chance, 60))
            assert_gets(f.store, &m);
        if (random_chance(&chance, 60))
            assert_scan(f.store, &m, 1 + random_below(&chance, 30));
        if (random_chance(&chance, 100))
            store_turn_end(f.store);
        if (frozen == NULL && random_chance(&chance, 40)) {
            frozen = store_freeze(f.store);
        } else if (frozen != NULL && !written && random_chance(&chance, 60)) {
            write_frozen(&f, frozen);
            written = true;
        } else if (written && random_chance(&chance, 60)) {
            store_thaw(f.store);
            frozen = NULL;
            written = false;
        }
    }
    assert_gets(f.store, &m);
    assert_scan(f.store, &m, KEYS);
    fini_fixture(&f);
}

static void test_store__random_writes_and_checkpoints_read_like_a_plain_map(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++)
        random_run(seed);
}

struct seen {
    char keys[64];
    size_t left;
};

static bool note_key(void *arg, const struct table_row *row)
{
    struct seen *seen = arg;
    size_t size = strlen(seen->keys);
    assert_true(size + row->key.size < sizeof seen->keys);
    memcpy(seen->keys + size, row->key.data, row->key.size);
    return --seen->left > 0;
}

static const char *range(struct store *s, struct bytes from, size_t left)
{
    static struct seen seen;
    seen = (struct seen){.left = left};
    assert_int_equal(store_range(s, 1, 7, from, note_key, &seen), STATUS_OK);
    return seen.keys;
}

static void test_store__a_range_begins_with_its_bound_wherever_that_lies(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    for (const char *key = "acegi"; *key != 0; key++)
        apply_text(f.store, (char[]){*key, 0}, "1");
    write_frozen(&f, store_freeze(f.store));
    store_thaw(f.store);
    apply_text(f.store, "d", "1");
    assert_non_null(store_freeze(f.store));
    apply_text(f.store, "f", "1");
    apply_text(f.store, "g", NULL);
    assert_string_equal(range(f.store, BYTES_EMPTY, 9), "acdefi");
    assert_string_equal(range(f.store, bytes_text("c"), 9), "cdefi"); /* the table */
    assert_string_equal(range(f.store, bytes_text("d"), 9), "defi");  /* frozen */
    assert_string_equal(range(f.store, bytes_text("f"), 9), "fi");    /* live */
    assert_string_equal(range(f.store, bytes_text("g"), 9), "i");     /* deleted */
    assert_string_equal(range(f.store, bytes_of("c", 2), 9), "defi"); /* right behind c */
    assert_string_equal(range(f.store, bytes_text("c"), 1), "c");
    store_thaw(f.store);
    fini_fixture(&f);
}

static void test_store__a_bound_may_be_longer_than_any_key(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    char key[KEY_SIZE_MAX + 2] = {0};
    memset(key, 'b', KEY_SIZE_MAX);
    apply_text(f.store, "a", "1");
    apply_text(f.store, key, "1");
    apply_text(f.store, "c", "1");
    struct seen seen = {.left = 1};
    assert_int_equal(
        store_range(f.store, 1, 7, bytes_of(key, KEY_SIZE_MAX + 1), note_key, &seen), STATUS_OK);
    assert_string_equal(seen.keys, "c");
    fini_fixture(&f);
}

static void test_store__the_tables_errors_in_a_range_are_passed_on(void **state)
{
    (void)state;
    struct fixture f = new_fixture();
    struct seen seen = {.left = 9};
    table_mem_fail(f.table, TABLE_MEM_READ, 1, STATUS_IO); /* refresh, get */
    assert_int_equal(store_range(f.store, 1, 7, bytes_text("a"), note_key, &seen), STATUS_IO);
    fini_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store__a_key_is_read_from_where_it_is),
        cmocka_unit_test(test_store__a_deleted_key_hides_what_the_table_has),
        cmocka_unit_test(test_store__thaw_lets_go_of_the_old_snapshot),
        cmocka_unit_test(test_store__one_turn_reads_one_snapshot),
        cmocka_unit_test(test_store__only_the_table_needs_a_fetch),
        cmocka_unit_test(test_store__what_was_applied_during_a_fetch_wins),
        cmocka_unit_test(test_store__a_fetch_from_before_a_checkpoint_is_asked_again),
        cmocka_unit_test(test_store__a_checkpoint_is_due_by_entries_or_bytes),
        cmocka_unit_test(test_store__a_large_table_is_written_less_often),
        cmocka_unit_test(test_store__both_overlays_are_counted),
        cmocka_unit_test(test_store__the_tables_errors_are_passed_on),
        cmocka_unit_test(test_store__a_range_begins_with_its_bound_wherever_that_lies),
        cmocka_unit_test(test_store__a_bound_may_be_longer_than_any_key),
        cmocka_unit_test(test_store__the_tables_errors_in_a_range_are_passed_on),
        cmocka_unit_test(test_store__a_lack_of_memory_is_told_and_leaks_nothing),
        cmocka_unit_test(test_store__random_writes_and_checkpoints_read_like_a_plain_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
