/* Table suite: what every table behind storage/table.h must do. Both test files run all of it:
 * TABLE_SUITE(X) lists the cases, each a function suite_NAME(struct table *) on an empty table.
 */
#ifndef TESTS_UNIT_TABLE_SUITE_H
#define TESTS_UNIT_TABLE_SUITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/table.h"
#include "tests/sim/random.h"

#define TABLE_SUITE(X)                                                                             \
    X(an_empty_table_has_nothing)                                                                  \
    X(what_is_committed_is_read_back)                                                              \
    X(what_is_aborted_is_not_there)                                                                \
    X(a_reader_keeps_its_state_until_refresh)                                                      \
    X(values_of_every_size_come_back)                                                              \
    X(a_value_takes_the_place_of_one_of_another_size)                                              \
    X(values_stay_valid_until_release)                                                             \
    X(a_deleted_row_is_gone)                                                                       \
    X(a_scan_keeps_to_its_slot_and_order)                                                          \
    X(a_scan_begins_after_its_cursor)                                                              \
    X(a_scan_ends_when_told)                                                                       \
    X(blobs_are_kept_apart_from_rows)                                                              \
    X(rows_are_counted)                                                                            \
    X(random_transactions_read_like_a_plain_array)

static void suite_begin(struct table *t)
{
    assert_int_equal(t->verbs->begin(t), STATUS_OK);
}

static void suite_commit(struct table *t)
{
    assert_int_equal(t->verbs->commit(t), STATUS_OK);
}

static void suite_put(struct table *t, uint32_t slot, uint64_t digest, const char *key,
                      struct bytes value)
{
    struct table_row row = {slot,
                            digest,
                            bytes_text(key),
                            {.present = true, .version = {2, 9}, .expiry_ms = 77, .value = value}};
    assert_int_equal(t->verbs->put(t, &row), STATUS_OK);
}

static void suite_delete(struct table *t, uint32_t slot, uint64_t digest, const char *key)
{
    struct table_row row = {slot, digest, bytes_text(key), {.present = false}};
    assert_int_equal(t->verbs->put(t, &row), STATUS_OK);
}

static struct table_reader *suite_reader(struct table *t)
{
    struct table_reader *r = NULL;
    assert_int_equal(t->verbs->reader_new(t, &r), STATUS_OK);
    assert_int_equal(r->verbs->refresh(r), STATUS_OK);
    return r;
}

static void suite_refresh(struct table_reader *r)
{
    assert_int_equal(r->verbs->refresh(r), STATUS_OK);
}

static struct item suite_get(struct table_reader *r, uint32_t slot, uint64_t digest,
                             const char *key)
{
    struct item item;
    assert_int_equal(r->verbs->get(r, slot, digest, bytes_text(key), &item), STATUS_OK);
    return item;
}

static void suite_assert_text(struct table_reader *r, uint32_t slot, uint64_t digest,
                              const char *key, const char *text)
{
    struct item item = suite_get(r, slot, digest, key);
    assert_int_equal(item.present, text != NULL);
    if (text != NULL)
        assert_true(bytes_equal(item.value, bytes_text(text)));
}

static void suite_assert_count(struct table *t, uint64_t rows)
{
    uint64_t count, bytes;
    t->verbs->count(t, &count, &bytes);
    assert_int_equal(count, rows);
}

/* Text that shows slot, digest and key of each row scanned. */
struct suite_walk {
    char text[400];
    size_t rows_max;
};

static bool suite_on_row(void *arg, const struct table_row *row)
{
    struct suite_walk *w = arg;
    size_t used = strlen(w->text);
    assert_true(row->item.present);
    snprintf(w->text + used, sizeof w->text - used, "%u.%u.%.*s ", (unsigned)row->slot,
             (unsigned)row->digest, (int)row->key.size, (const char *)row->key.data);
    return --w->rows_max > 0;
}

static void suite_assert_scan(struct table_reader *r, uint32_t slot, uint64_t digest,
                              const char *key, size_t rows_max, const char *expected)
{
    struct suite_walk w = {.rows_max = rows_max};
    assert_int_equal(r->verbs->scan(r, slot, digest, bytes_text(key), suite_on_row, &w), STATUS_OK);
    assert_string_equal(w.text, expected);
}

static bool suite_on_blob(void *arg, struct bytes name, struct bytes value)
{
    struct suite_walk *w = arg;
    size_t used = strlen(w->text);
    snprintf(w->text + used, sizeof w->text - used, "%.*s=%.*s ", (int)name.size,
             (const char *)name.data, (int)value.size, (const char *)value.data);
    return --w->rows_max > 0;
}

/* --- the cases --- */

static void suite_an_empty_table_has_nothing(struct table *t)
{
    struct table_reader *r = suite_reader(t);
    suite_assert_text(r, 1, 7, "apple", NULL);
    suite_assert_scan(r, 1, 0, "", 100, "");
    struct bytes blob;
    assert_int_equal(r->verbs->blob_get(r, bytes_text("position"), &blob), STATUS_NOTFOUND);
    suite_assert_count(t, 0);
    r->verbs->reader_destroy(&r);
    assert_null(r);
}

static void suite_what_is_committed_is_read_back(struct table *t)
{
    suite_begin(t);
    suite_put(t, 1, 7, "apple", bytes_text("red"));
    suite_put(t, 2, 7, "apple", bytes_text(""));
    suite_put(t, 1, 8, "apple", bytes_text("yellow"));
    suite_commit(t);
    struct table_reader *r = suite_reader(t);
    struct item item = suite_get(r, 1, 7, "apple");
    assert_int_equal(item.version.epoch, 2);
    assert_int_equal(item.version.seq, 9);
    assert_int_equal(item.expiry_ms, 77);
    suite_assert_text(r, 1, 7, "apple", "red");
    suite_assert_text(r, 2, 7, "apple", "");
    suite_assert_text(r, 1, 8, "apple", "yellow");
    suite_assert_text(r, 1, 7, "apples", NULL);
    suite_assert_text(r, 3, 7, "apple", NULL);
    r->verbs->reader_destroy(&r);
}

static void suite_what_is_aborted_is_not_there(struct table *t)
{
    suite_begin(t);
    suite_put(t, 1, 7, "apple", bytes_text("red"));
    t->verbs->abort(t);
    suite_begin(t);
    suite_commit(t);
    struct table_reader *r = suite_reader(t);
    suite_assert_text(r, 1, 7, "apple", NULL);
    r->verbs->reader_destroy(&r);
}

static void suite_a_reader_keeps_its_state_until_refresh(struct table *t)
{
    suite_begin(t);
    suite_put(t, 1, 7, "apple", bytes_text("red"));
    suite_commit(t);
    struct table_reader *old = suite_reader(t);
    suite_begin(t);
    suite_put(t, 1, 7, "apple", bytes_text("green"));
    struct table_reader *early = suite_reader(t);
    suite_commit(t);
    struct table_reader *late = suite_reader(t);
    suite_assert_text(old, 1, 7, "apple", "red");
    suite_assert_text(early, 1, 7, "apple", "red");
    suite_assert_text(late, 1, 7, "apple", "green");
    suite_refresh(old);
    suite_assert_text(old, 1, 7, "apple", "green");
    old->verbs->release(old);
    old->verbs->release(old);
    suite_refresh(old);
    suite_assert_text(old, 1, 7, "apple", "green");
    old->verbs->reader_destroy(&old);
    early->verbs->reader_destroy(&early);
    late->verbs->reader_destroy(&late);
}

/* Around the sizes where table_lmdb.c begins to cut, and where a chunk is exactly full. */
static const size_t suite_sizes[] = {0,      1,      100,      4096,     65519,         65520,
                                     65521,  65535,  65536,    65537,    131039,        131040,
                                     131041, 200000, 1u << 20, 3u << 20, VALUE_SIZE_MAX};
#define SUITE_SIZES (sizeof suite_sizes / sizeof suite_sizes[0])

static uint8_t *suite_content(size_t size, unsigned salt)
{
    uint8_t *content = malloc(size + 1);
    assert_non_null(content);
    for (size_t i = 0; i < size; i++)
        content[i] = (uint8_t)((i * 2654435761u + salt) >> 13);
    return content;
}

static void suite_put_size(struct table *t, const char *key, size_t size, unsigned salt)
{
    uint8_t *content = suite_content(size, salt);
    suite_put(t, 1, 7, key, bytes_of(content, size));
    free(content);
}

static void suite_assert_size(struct table_reader *r, const char *key, size_t size, unsigned salt)
{
    uint8_t *content = suite_content(size, salt);
    struct item item = suite_get(r, 1, 7, key);
    assert_true(item.present);
    assert_true(bytes_equal(item.value, bytes_of(content, size)));
    free(content);
}

static void suite_values_of_every_size_come_back(struct table *t)
{
    for (size_t i = 0; i < SUITE_SIZES; i++) {
        char key[32];
        snprintf(key, sizeof key, "key-%zu", i);
        suite_begin(t);
        suite_put_size(t, key, suite_sizes[i], (unsigned)i);
        suite_commit(t);
    }
    struct table_reader *r = suite_reader(t);
    for (size_t i = 0; i < SUITE_SIZES; i++) {
        char key[32];
        snprintf(key, sizeof key, "key-%zu", i);
        suite_assert_size(r, key, suite_sizes[i], (unsigned)i);
    }
    r->verbs->reader_destroy(&r);
}

static void suite_a_value_takes_the_place_of_one_of_another_size(struct table *t)
{
    struct table_reader *r = suite_reader(t);
    for (size_t i = 0; i < SUITE_SIZES * 3; i++) {
        size_t size = suite_sizes[i * 7 % (SUITE_SIZES - 2)];
        suite_begin(t);
        suite_put_size(t, "apple", size, (unsigned)i);
        suite_put_size(t, "pear", 70000, 5);
        suite_commit(t);
        suite_refresh(r);
        suite_assert_size(r, "apple", size, (unsigned)i);
        suite_assert_size(r, "pear", 70000, 5);
        suite_assert_scan(r, 1, 0, "", 100, "1.7.apple 1.7.pear ");
    }
    r->verbs->reader_destroy(&r);
    suite_assert_count(t, 2);
}

static void suite_values_stay_valid_until_release(struct table *t)
{
    suite_begin(t);
    suite_put_size(t, "small", 10, 1);
    suite_put_size(t, "large", 100000, 2);
    suite_put_size(t, "other", 100000, 3);
    suite_commit(t);
    struct table_reader *r = suite_reader(t);
    struct item small = suite_get(r, 1, 7, "small"), large = suite_get(r, 1, 7, "large");
    suite_get(r, 1, 7, "other");
    for (int round = 0; round < 3; round++) {
        suite_begin(t);
        suite_delete(t, 1, 7, "small");
        suite_put_size(t, "large", 90000, 7);
        suite_commit(t);
    }
    uint8_t *small_content = suite_content(10, 1), *large_content = suite_content(100000, 2);
    assert_true(bytes_equal(small.value, bytes_of(small_content, 10)));
    assert_true(bytes_equal(large.value, bytes_of(large_content, 100000)));
    free(small_content);
    free(large_content);
    r->verbs->reader_destroy(&r);
}

static void suite_a_deleted_row_is_gone(struct table *t)
{
    suite_begin(t);
    suite_put(t, 1, 7, "apple", bytes_text("red"));
    suite_put_size(t, "large", 200000, 1);
    suite_commit(t);
    suite_begin(t);
    suite_delete(t, 1, 7, "apple");
    suite_delete(t, 1, 7, "large");
    suite_delete(t, 1, 7, "never there");
    suite_commit(t);
    struct table_reader *r = suite_reader(t);
    suite_assert_text(r, 1, 7, "apple", NULL);
    suite_assert_text(r, 1, 7, "large", NULL);
    suite_assert_scan(r, 1, 0, "", 100, "");
    suite_assert_count(t, 0);
    suite_begin(t);
    suite_put_size(t, "large", 150000, 2);
    suite_commit(t);
    suite_refresh(r);
    suite_assert_size(r, "large", 150000, 2);
    r->verbs->reader_destroy(&r);
}

static void suite_fill_for_scan(struct table *t)
{
    suite_begin(t);
    suite_put(t, 2, 5, "b", bytes_text("x"));
    suite_put(t, 2, 5, "a", bytes_text("x"));
    suite_put(t, 2, 5, "ab", bytes_text("x"));
    suite_put(t, 2, 300, "a", bytes_text("x"));
    suite_put(t, 2, 2, "z", bytes_text("x"));
    suite_put(t, 1, 9, "one", bytes_text("x"));
    suite_put(t, 3, 1, "three", bytes_text("x"));
    suite_put(t, 258, 1, "far", bytes_text("x"));
    suite_commit(t);
}

static void suite_a_scan_keeps_to_its_slot_and_order(struct table *t)
{
    suite_fill_for_scan(t);
    struct table_reader *r = suite_reader(t);
    suite_assert_scan(r, 2, 0, "", 100, "2.2.z 2.5.a 2.5.ab 2.5.b 2.300.a ");
    suite_assert_scan(r, 1, 0, "", 100, "1.9.one ");
    suite_assert_scan(r, 258, 0, "", 100, "258.1.far ");
    suite_assert_scan(r, 4, 0, "", 100, "");
    suite_assert_scan(r, 0, 0, "", 100, "");
    r->verbs->reader_destroy(&r);
}

static void suite_a_scan_begins_after_its_cursor(struct table *t)
{
    suite_fill_for_scan(t);
    struct table_reader *r = suite_reader(t);
    suite_assert_scan(r, 2, 5, "", 100, "2.5.a 2.5.ab 2.5.b 2.300.a ");
    suite_assert_scan(r, 2, 5, "a", 100, "2.5.ab 2.5.b 2.300.a ");
    suite_assert_scan(r, 2, 5, "aa", 100, "2.5.ab 2.5.b 2.300.a ");
    suite_assert_scan(r, 2, 5, "b", 100, "2.300.a ");
    suite_assert_scan(r, 2, 6, "", 100, "2.300.a ");
    suite_assert_scan(r, 2, 300, "a", 100, "");
    suite_assert_scan(r, 2, UINT64_MAX, "", 100, "");
    r->verbs->reader_destroy(&r);
}

static void suite_a_scan_ends_when_told(struct table *t)
{
    suite_fill_for_scan(t);
    struct table_reader *r = suite_reader(t);
    suite_assert_scan(r, 2, 0, "", 1, "2.2.z ");
    suite_assert_scan(r, 2, 0, "", 3, "2.2.z 2.5.a 2.5.ab ");
    r->verbs->reader_destroy(&r);
}

static void suite_blobs_are_kept_apart_from_rows(struct table *t)
{
    suite_begin(t);
    suite_put(t, 1, 7, "apple", bytes_text("red"));
    assert_int_equal(t->verbs->blob_put(t, bytes_text("b"), bytes_text("two")), STATUS_OK);
    assert_int_equal(t->verbs->blob_put(t, bytes_text("a"), bytes_text("one")), STATUS_OK);
    assert_int_equal(t->verbs->blob_put(t, bytes_text("c"), bytes_text("")), STATUS_OK);
    assert_int_equal(t->verbs->blob_put(t, bytes_text("b"), bytes_text("three")), STATUS_OK);
    suite_commit(t);
    struct table_reader *r = suite_reader(t);
    struct bytes blob;
    assert_int_equal(r->verbs->blob_get(r, bytes_text("b"), &blob), STATUS_OK);
    assert_true(bytes_equal(blob, bytes_text("three")));
    assert_int_equal(r->verbs->blob_get(r, bytes_text("apple"), &blob), STATUS_NOTFOUND);
    struct suite_walk w = {.rows_max = 100};
    assert_int_equal(r->verbs->blob_scan(r, suite_on_blob, &w), STATUS_OK);
    assert_string_equal(w.text, "a=one b=three c= ");
    w = (struct suite_walk){.rows_max = 2};
    assert_int_equal(r->verbs->blob_scan(r, suite_on_blob, &w), STATUS_OK);
    assert_string_equal(w.text, "a=one b=three ");
    suite_assert_count(t, 1);
    r->verbs->reader_destroy(&r);
}

static void suite_rows_are_counted(struct table *t)
{
    uint64_t rows, bytes, more_bytes;
    suite_begin(t);
    for (uint64_t i = 0; i < 1000; i++)
        suite_put_size(t, "large", 100 + i, 1);
    suite_put_size(t, "small", 10, 1);
    suite_commit(t);
    t->verbs->count(t, &rows, &bytes);
    assert_int_equal(rows, 2);
    suite_begin(t);
    suite_put_size(t, "huge", 3u << 20, 1);
    suite_assert_count(t, 2);
    suite_commit(t);
    t->verbs->count(t, &rows, &more_bytes);
    assert_int_equal(rows, 3);
    assert_true(more_bytes >= bytes + (3u << 20));
}

/* --- against a plain array --- */

#define SUITE_KEYS 60

struct suite_model {
    size_t sizes[SUITE_KEYS]; /* SIZE_MAX: not there */
    unsigned salts[SUITE_KEYS];
};

static uint32_t suite_slot(size_t i)
{
    return (uint32_t)(i % 3 + 1);
}

static const char *suite_key(size_t i, char to[static 32])
{
    snprintf(to, 32, "k%.*zu", (int)(i % 7) + 1, i);
    return to;
}

static bool suite_on_model_row(void *arg, const struct table_row *row)
{
    size_t *seen = arg;
    (void)row;
    (*seen)++;
    return true;
}

static void suite_assert_model(struct table_reader *r, const struct suite_model *m)
{
    size_t there = 0, seen = 0;
    for (size_t i = 0; i < SUITE_KEYS; i++) {
        char key[32];
        struct item item = suite_get(r, suite_slot(i), i / 4, suite_key(i, key));
        assert_int_equal(item.present, m->sizes[i] != SIZE_MAX);
        if (!item.present)
            continue;
        uint8_t *content = suite_content(m->sizes[i], m->salts[i]);
        assert_true(bytes_equal(item.value, bytes_of(content, m->sizes[i])));
        free(content);
        there++;
    }
    for (uint32_t slot = 1; slot <= 3; slot++)
        assert_int_equal(r->verbs->scan(r, slot, 0, BYTES_EMPTY, suite_on_model_row, &seen),
                         STATUS_OK);
    assert_int_equal(seen, there);
}

static void suite_random_transaction(struct table *t, struct random *chance, struct suite_model *m)
{
    struct suite_model before = *m;
    suite_begin(t);
    for (uint64_t n = random_below(chance, 20); n > 0; n--) {
        size_t i = random_below(chance, SUITE_KEYS);
        char key[32];
        m->salts[i] = (unsigned)random_below(chance, 1000);
        if (random_below(chance, 4) == 0) {
            m->sizes[i] = SIZE_MAX;
            suite_delete(t, suite_slot(i), i / 4, suite_key(i, key));
            continue;
        }
        m->sizes[i] = random_below(chance, random_below(chance, 5) == 0 ? 250000 : 300);
        uint8_t *content = suite_content(m->sizes[i], m->salts[i]);
        suite_put(t, suite_slot(i), i / 4, suite_key(i, key), bytes_of(content, m->sizes[i]));
        free(content);
    }
    if (random_below(chance, 5) == 0) {
        t->verbs->abort(t);
        *m = before;
    } else {
        suite_commit(t);
    }
}

static void suite_random_transactions_read_like_a_plain_array(struct table *t)
{
    struct random chance;
    random_init(&chance, 17);
    struct suite_model m;
    for (size_t i = 0; i < SUITE_KEYS; i++)
        m.sizes[i] = SIZE_MAX;
    struct table_reader *r = suite_reader(t);
    for (int round = 0; round < 60; round++) {
        suite_random_transaction(t, &chance, &m);
        suite_refresh(r);
        suite_assert_model(r, &m);
    }
    r->verbs->reader_destroy(&r);
}

#endif
