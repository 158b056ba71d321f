#include "storage/overlay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/random.h"
#include "tests/unit/failing_memory.h"

#define MODEL_KEYS 300

static struct random chance;

static struct item item_text(const char *text, uint64_t seq)
{
    return (struct item){.present = true, .version = {1, seq}, .value = bytes_text(text)};
}

static void put_text(struct overlay *o, uint32_t slot, const char *key, const char *text,
                     uint64_t seq)
{
    struct item item = item_text(text, seq);
    assert_int_equal(overlay_put(o, slot, 7, bytes_text(key), &item), STATUS_OK);
}

static void assert_text(const struct overlay *o, uint32_t slot, const char *key, const char *text)
{
    struct item item;
    assert_true(overlay_get(o, slot, 7, bytes_text(key), &item));
    assert_true(item.present);
    assert_true(bytes_equal(item.value, bytes_text(text)));
}

static void test_overlay__get_finds_what_was_put_last(void **state)
{
    (void)state;
    struct overlay *o = overlay_new();
    struct item item;
    assert_false(overlay_get(o, 1, 7, bytes_text("apple"), &item));
    put_text(o, 1, "apple", "red", 1);
    put_text(o, 1, "apple", "green as grass, and longer than before", 2);
    assert_text(o, 1, "apple", "green as grass, and longer than before");
    put_text(o, 1, "apple", "", 3);
    assert_text(o, 1, "apple", "");
    assert_int_equal(overlay_count(o), 1);
    overlay_destroy(&o);
    assert_null(o);
    overlay_destroy(&o);
}

static void test_overlay__slots_and_digests_are_told_apart(void **state)
{
    (void)state;
    struct overlay *o = overlay_new();
    put_text(o, 1, "apple", "one", 1);
    put_text(o, 2, "apple", "two", 1);
    assert_text(o, 1, "apple", "one");
    assert_text(o, 2, "apple", "two");
    struct item item;
    assert_false(overlay_get(o, 1, 8, bytes_text("apple"), &item));
    assert_false(overlay_get(o, 3, 7, bytes_text("apple"), &item));
    assert_false(overlay_get(o, 1, 7, bytes_text("appl"), &item));
    /* Enough of them that many share a bucket. */
    for (uint32_t slot = 10; slot < 500; slot++) {
        assert_false(overlay_get(o, slot, 7, bytes_text("apple"), &item));
        put_text(o, slot, "apple", "other", slot);
    }
    for (uint32_t slot = 10; slot < 500; slot++) {
        assert_true(overlay_get(o, slot, 7, bytes_text("apple"), &item));
        assert_int_equal(item.version.seq, slot);
    }
    overlay_destroy(&o);
}

static void test_overlay__a_deleted_key_is_here_and_not_present(void **state)
{
    (void)state;
    struct overlay *o = overlay_new();
    put_text(o, 1, "apple", "red", 1);
    struct item gone = {.present = false, .version = {1, 2}};
    assert_int_equal(overlay_put(o, 1, 7, bytes_text("apple"), &gone), STATUS_OK);
    struct item item;
    assert_true(overlay_get(o, 1, 7, bytes_text("apple"), &item));
    assert_false(item.present);
    assert_int_equal(item.version.seq, 2);
    assert_int_equal(item.value.size, 0);
    overlay_destroy(&o);
}

/* --- against a plain array --- */

struct model_row {
    uint32_t slot;
    char key[32];
    bool known;
    struct item item;
    uint8_t *value;
};

static uint64_t digest_of(const struct model_row *r)
{
    return (uint64_t)(r->key[0]) * 0x9e3779b97f4a7c15u;
}

static size_t random_size(void)
{
    switch (random_below(&chance, 8)) {
    case 0:
        return 0;
    case 1:
        return 1000 + random_below(&chance, 50);
    case 2:
        return random_below(&chance, 200000);
    default:
        return random_below(&chance, 60);
    }
}

static void model_put(struct model_row *r)
{
    free(r->value);
    size_t size = random_below(&chance, 5) == 0 ? 0 : random_size();
    r->value = malloc(size + 1);
    memset(r->value, (int)random_below(&chance, 256), size + 1);
    r->known = true;
    r->item = (struct item){
        .present = random_below(&chance, 6) != 0,
        .version = {random_below(&chance, 4), random_below(&chance, UINT64_MAX)},
        .expiry_ms = random_below(&chance, 3) == 0 ? random_below(&chance, UINT64_MAX) : 0,
        .value = bytes_of(r->value, size),
    };
    if (!r->item.present)
        r->item.value.size = 0;
}

static void assert_same_item(const struct item *a, const struct item *b)
{
    assert_int_equal(a->present, b->present);
    assert_int_equal(a->version.epoch, b->version.epoch);
    assert_int_equal(a->version.seq, b->version.seq);
    assert_int_equal(a->expiry_ms, b->expiry_ms);
    assert_true(bytes_equal(a->value, b->value));
}

static void assert_same(const struct overlay *o, const struct model_row *rows)
{
    uint64_t known = 0;
    for (size_t i = 0; i < MODEL_KEYS; i++) {
        struct item item;
        bool here =
            overlay_get(o, rows[i].slot, digest_of(&rows[i]), bytes_text(rows[i].key), &item);
        assert_int_equal(here, rows[i].known);
        if (here)
            assert_same_item(&item, &rows[i].item);
        known += here;
    }
    assert_int_equal(overlay_count(o), known);
}

static int compare_rows(const struct table_row *a, const struct table_row *b)
{
    if (a->slot != b->slot)
        return a->slot < b->slot ? -1 : 1;
    if (a->digest != b->digest)
        return a->digest < b->digest ? -1 : 1;
    return bytes_compare(a->key, b->key);
}

static const struct model_row *model_find(const struct model_row *rows, const struct table_row *r)
{
    for (size_t i = 0; i < MODEL_KEYS; i++)
        if (rows[i].slot == r->slot && bytes_equal(bytes_text(rows[i].key), r->key))
            return &rows[i];
    return NULL;
}

static void assert_sorted(const struct overlay *o, const struct model_row *rows, uint32_t slot)
{
    size_t count, known = 0;
    struct table_row *sorted = overlay_sorted(o, slot, &count);
    for (size_t i = 0; i < MODEL_KEYS; i++)
        known += rows[i].known && (slot == UINT32_MAX || slot == rows[i].slot);
    assert_int_equal(count, known);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            assert_true(compare_rows(&sorted[i - 1], &sorted[i]) < 0);
        const struct model_row *r = model_find(rows, &sorted[i]);
        assert_non_null(r);
        assert_int_equal(sorted[i].digest, digest_of(r));
        assert_same_item(&sorted[i].item, &r->item);
    }
    free(sorted);
}

static void test_overlay__random_puts_read_like_a_plain_array(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        random_init(&chance, seed);
        struct overlay *o = overlay_new();
        struct model_row rows[MODEL_KEYS] = {0};
        for (size_t i = 0; i < MODEL_KEYS; i++) {
            rows[i].slot = i % 3 == 0 ? (uint32_t)i * 0x10000001u : (uint32_t)(i % 5);
            snprintf(rows[i].key, sizeof rows[i].key, "%c%.*zu", (int)('a' + i % 7),
                     (int)(1 + i % 12), i);
        }
        for (int step = 0; step < 1500; step++) {
            struct model_row *r = &rows[random_below(&chance, MODEL_KEYS)];
            model_put(r);
            assert_int_equal(overlay_put(o, r->slot, digest_of(r), bytes_text(r->key), &r->item),
                             STATUS_OK);
            if (step % 250 == 0)
                assert_same(o, rows);
        }
        assert_same(o, rows);
        assert_sorted(o, rows, UINT32_MAX);
        for (uint32_t slot = 0; slot < 6; slot++)
            assert_sorted(o, rows, slot);
        overlay_destroy(&o);
        for (size_t i = 0; i < MODEL_KEYS; i++)
            free(rows[i].value);
    }
}

/* Wherever memory runs out, a put has happened or not, and nothing else has changed. */
static void test_overlay__a_put_without_memory_changes_nothing(void **state)
{
    (void)state;
    static struct model_row rows[MODEL_KEYS];
    bool failed = true;
    for (uint64_t after = 0; failed; after++) {
        random_init(&chance, 3);
        memset(rows, 0, sizeof rows);
        struct overlay *o = overlay_new();
        for (size_t i = 0; i < MODEL_KEYS; i++) {
            rows[i].slot = (uint32_t)i;
            snprintf(rows[i].key, sizeof rows[i].key, "key-%u", (unsigned)i);
        }
        failing_memory_arm(after);
        for (int step = 0; step < 400; step++) {
            struct model_row before = rows[random_below(&chance, MODEL_KEYS)], after_put;
            struct model_row *r = &rows[before.slot];
            after_put = before;
            after_put.value = NULL;
            bool was_done = failing_done;
            failing_armed = false;
            model_put(&after_put);
            failing_armed = true;
            enum status s =
                overlay_put(o, r->slot, digest_of(r), bytes_text(r->key), &after_put.item);
            assert_int_equal(s, failing_done && !was_done ? STATUS_NOMEMORY : STATUS_OK);
            free(s == STATUS_OK ? before.value : after_put.value);
            if (s == STATUS_OK)
                *r = after_put;
        }
        failed = failing_memory_disarm();
        assert_same(o, rows);
        assert_sorted(o, rows, UINT32_MAX);
        overlay_destroy(&o);
        for (size_t i = 0; i < MODEL_KEYS; i++)
            free(rows[i].value);
    }
}

static void test_overlay__reading_without_memory_is_told(void **state)
{
    (void)state;
    for (uint64_t after = 0; after < 3; after++) {
        failing_memory_arm(after);
        struct overlay *o = overlay_new();
        assert_true(failing_memory_disarm());
        assert_null(o);
    }
    struct overlay *o = overlay_new(), *from = overlay_new();
    put_text(o, 1, "apple", "red", 1);
    put_text(from, 1, "pear", "green", 1);
    size_t count;
    for (uint64_t after = 0; after < 3; after++) {
        failing_memory_arm(after);
        assert_null(overlay_sorted(o, UINT32_MAX, &count));
        assert_true(failing_memory_disarm());
        assert_int_equal(count, 1);
    }
    failing_memory_arm(0);
    assert_null(overlay_slots(o, &count));
    assert_int_equal(count, 1);
    failing_memory_arm(0);
    overlay_recycle(&from, o); /* frees what it cannot keep */
    assert_true(failing_memory_disarm());
    assert_null(from);
    assert_text(o, 1, "apple", "red");
    overlay_destroy(&o);
}

static void test_overlay__an_entry_costs_at_most_64_bytes_beside_key_and_value(void **state)
{
    (void)state;
    for (size_t count = 100; count <= 300000; count *= 7) {
        struct overlay *o = overlay_new();
        uint64_t content = 0;
        uint64_t room = 64 * 64 + 512; /* of 64 slots, and what an empty one has */
        for (size_t i = 0; i < count; i++) {
            char key[32];
            uint8_t value[100] = {0};
            struct item item = {.present = true, .version = {1, i}, .value = {i % 100, value}};
            int size = snprintf(key, sizeof key, "key-%zu", i);
            assert_int_equal(overlay_put(o, (uint32_t)(i % 64), i * 0x9e3779b97f4a7c15u,
                                         bytes_of(key, (size_t)size), &item),
                             STATUS_OK);
            content += (uint64_t)size + i % 100;
        }
        assert_true(overlay_bytes(o) > content);
        assert_true(overlay_bytes(o) <= content + count * 64 + room);
        overlay_destroy(&o);
    }
}

/* A counter that grows digit by digit, and a value that grows and shrinks, do not pile up. */
static void test_overlay__overwriting_one_key_keeps_its_memory(void **state)
{
    (void)state;
    struct overlay *o = overlay_new();
    static uint8_t value[9000];
    for (int round = 0; round < 200; round++) {
        for (size_t size = 0; size < sizeof value; size += 100) {
            struct item item = {.present = true, .version = {1, 1}, .value = {size, value}};
            assert_int_equal(overlay_put(o, 1, 7, bytes_text("hot"), &item), STATUS_OK);
        }
    }
    assert_int_equal(overlay_count(o), 1);
    assert_true(overlay_bytes(o) < 128 * 1024);
    overlay_destroy(&o);
}

static void fill(struct overlay *o, size_t count, size_t value_size)
{
    static const uint8_t value[100000];
    for (size_t i = 0; i < count; i++) {
        char key[32];
        struct item item = {.present = true, .version = {1, i}, .value = {value_size, value}};
        int size = snprintf(key, sizeof key, "key-%zu", i);
        assert_int_equal(overlay_put(o, 1, 7, bytes_of(key, (size_t)size), &item), STATUS_OK);
    }
}

/* One overlay after the other lives in the memory of the one before; sizes change meanwhile, so
 * that there are spare blocks and values to be freed. Leaks are the sanitizer's to find. */
static void test_overlay__recycled_memory_serves_the_next_one(void **state)
{
    (void)state;
    struct overlay *live = overlay_new();
    for (size_t round = 0; round < 12; round++) {
        fill(live, round % 4 == 0 ? 20000 : 500, round % 3 == 0 ? 50 : 5000);
        struct overlay *frozen = live;
        live = overlay_new();
        fill(live, 20, 30);
        fill(live, 3, 100000);
        overlay_recycle(&frozen, live);
        assert_null(frozen);
        fill(live, 600, 200);
        struct item item;
        assert_int_equal(overlay_count(live), 600);
        assert_true(overlay_get(live, 1, 7, bytes_text("key-19"), &item));
        assert_int_equal(item.value.size, 200);
        assert_true(overlay_bytes(live) < 600 * 400);
        for (size_t i = 0; i < round * 10; i++)
            overlay_tidy(live);
    }
    overlay_destroy(&live);
}

static void test_overlay__an_empty_one_has_no_rows(void **state)
{
    (void)state;
    struct overlay *o = overlay_new();
    size_t count = 1;
    assert_null(overlay_sorted(o, UINT32_MAX, &count));
    assert_int_equal(count, 0);
    assert_null(overlay_sorted(o, 3, &count));
    assert_int_equal(count, 0);
    overlay_destroy(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overlay__an_empty_one_has_no_rows),
        cmocka_unit_test(test_overlay__get_finds_what_was_put_last),
        cmocka_unit_test(test_overlay__slots_and_digests_are_told_apart),
        cmocka_unit_test(test_overlay__a_deleted_key_is_here_and_not_present),
        cmocka_unit_test(test_overlay__random_puts_read_like_a_plain_array),
        cmocka_unit_test(test_overlay__overwriting_one_key_keeps_its_memory),
        cmocka_unit_test(test_overlay__recycled_memory_serves_the_next_one),
        cmocka_unit_test(test_overlay__a_put_without_memory_changes_nothing),
        cmocka_unit_test(test_overlay__reading_without_memory_is_told),
        cmocka_unit_test(test_overlay__an_entry_costs_at_most_64_bytes_beside_key_and_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
