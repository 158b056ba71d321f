#define _GNU_SOURCE /* nftw */
#include <ftw.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/table_suite.h"

#define MAP_SIZE (1ull << 30)

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/duet-table-XXXXXX");
    return mkdtemp(directory) == NULL;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int remove_directory(void **state)
{
    (void)state;
    return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct table *open_table(void)
{
    struct error error = {0};
    struct table *t = table_lmdb_open(directory, MAP_SIZE, &error);
    if (t == NULL)
        fail_msg("%s", error.message);
    return t;
}

#define CASE(name)                                                                                 \
    static void test_table_lmdb__##name(void **state)                                              \
    {                                                                                              \
        (void)state;                                                                               \
        struct table *t = open_table();                                                            \
        suite_##name(t);                                                                           \
        t->verbs->destroy(&t);                                                                     \
        assert_null(t);                                                                            \
    }
TABLE_SUITE(CASE)

static void test_table_lmdb__what_is_committed_is_there_after_opening_again(void **state)
{
    (void)state;
    struct table *t = open_table();
    suite_begin(t);
    suite_put(t, 1, 7, "apple", bytes_text("red"));
    suite_put_size(t, "large", 300000, 4);
    assert_int_equal(t->verbs->blob_put(t, bytes_text("position"), bytes_text("12")), STATUS_OK);
    suite_commit(t);
    suite_begin(t);
    suite_put(t, 1, 7, "pear", bytes_text("green"));
    t->verbs->destroy(&t);
    t = open_table();
    suite_assert_count(t, 2);
    struct table_reader *r = suite_reader(t);
    suite_assert_text(r, 1, 7, "apple", "red");
    suite_assert_text(r, 1, 7, "pear", NULL);
    suite_assert_size(r, "large", 300000, 4);
    struct bytes blob;
    assert_int_equal(r->verbs->blob_get(r, bytes_text("position"), &blob), STATUS_OK);
    assert_true(bytes_equal(blob, bytes_text("12")));
    r->verbs->reader_destroy(&r);
    t->verbs->destroy(&t);
}

/* --- with LMDB's own hands --- */

struct raw {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi rows, chunks;
};

static void raw_open(struct raw *w)
{
    assert_int_equal(mdb_env_create(&w->env), 0);
    assert_int_equal(mdb_env_set_maxdbs(w->env, 3), 0);
    assert_int_equal(mdb_env_set_mapsize(w->env, MAP_SIZE), 0);
    assert_int_equal(mdb_env_open(w->env, directory, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(w->env, NULL, 0, &w->txn), 0);
    assert_int_equal(mdb_dbi_open(w->txn, "rows", 0, &w->rows), 0);
    assert_int_equal(mdb_dbi_open(w->txn, "chunks", 0, &w->chunks), 0);
}

static void raw_close(struct raw *w)
{
    assert_int_equal(mdb_txn_commit(w->txn), 0);
    mdb_env_close(w->env);
}

static void put_and_close(const char *key, size_t size)
{
    struct table *t = open_table();
    suite_begin(t);
    suite_put_size(t, key, size, 1);
    suite_commit(t);
    t->verbs->destroy(&t);
}

/* slot 1, digest 7, "k" */
static const uint8_t raw_key[] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 'k'};

static void test_table_lmdb__a_row_has_the_bytes_that_the_header_tells(void **state)
{
    (void)state;
    put_and_close("k", 3);
    struct raw w;
    raw_open(&w);
    MDB_val key = {sizeof raw_key, (void *)(uintptr_t)raw_key}, stored;
    assert_int_equal(mdb_get(w.txn, w.rows, &key, &stored), 0);
    uint8_t expected[35] = {1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0,
                            0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 77};
    uint8_t *content = suite_content(3, 1);
    memcpy(expected + 32, content, 3);
    free(content);
    assert_int_equal(stored.mv_size, sizeof expected);
    assert_memory_equal(stored.mv_data, expected, sizeof expected);
    raw_close(&w);
}

static uint64_t count_chunks(void)
{
    struct raw w;
    MDB_stat stat;
    raw_open(&w);
    assert_int_equal(mdb_stat(w.txn, w.chunks, &stat), 0);
    raw_close(&w);
    return stat.ms_entries;
}

static void test_table_lmdb__no_chunk_is_left_behind(void **state)
{
    (void)state;
    put_and_close("k", 1u << 20);
    assert_int_equal(count_chunks(), 17);
    put_and_close("k", 70000);
    assert_int_equal(count_chunks(), 2);
    put_and_close("k", 65536);
    assert_int_equal(count_chunks(), 0);
    put_and_close("k", 65537);
    struct table *t = open_table();
    suite_begin(t);
    suite_delete(t, 1, 7, "k");
    suite_commit(t);
    t->verbs->destroy(&t);
    assert_int_equal(count_chunks(), 0);
}

static void assert_get_is_corrupt(void)
{
    struct table *t = open_table();
    struct table_reader *r = suite_reader(t);
    struct item item;
    size_t seen = 0;
    assert_int_equal(r->verbs->get(r, 1, 7, bytes_text("k"), &item), STATUS_CORRUPT);
    assert_int_equal(r->verbs->scan(r, 1, 0, BYTES_EMPTY, suite_on_model_row, &seen),
                     STATUS_CORRUPT);
    assert_int_equal(seen, 0);
    r->verbs->reader_destroy(&r);
    t->verbs->destroy(&t);
}

static void test_table_lmdb__a_chunk_that_is_missing_or_of_another_size_is_corruption(void **state)
{
    (void)state;
    put_and_close("k", 200000);
    uint8_t chunk_key[sizeof raw_key + 4] = {0};
    memcpy(chunk_key, raw_key, sizeof raw_key);
    chunk_key[sizeof raw_key + 3] = 2;
    struct raw w;
    raw_open(&w);
    MDB_val key = {sizeof chunk_key, chunk_key};
    assert_int_equal(mdb_del(w.txn, w.chunks, &key, NULL), 0);
    raw_close(&w);
    assert_get_is_corrupt();
    MDB_val other = {70000, suite_content(70000, 1)};
    for (size_t size = 70000; size > 60000; size -= 9000) { /* too long, then too short */
        other.mv_size = size;
        raw_open(&w);
        assert_int_equal(mdb_put(w.txn, w.chunks, &key, &other, 0), 0);
        raw_close(&w);
        assert_get_is_corrupt();
    }
    free(other.mv_data);
}

static void put_raw_row(const uint8_t *row, size_t size)
{
    put_and_close("k", 10);
    struct raw w;
    raw_open(&w);
    MDB_val key = {sizeof raw_key, (void *)(uintptr_t)raw_key};
    MDB_val stored = {size, (void *)(uintptr_t)row};
    assert_int_equal(mdb_put(w.txn, w.rows, &key, &stored, 0), 0);
    raw_close(&w);
}

static void test_table_lmdb__a_row_that_does_not_hold_together_is_corruption(void **state)
{
    (void)state;
    uint8_t row[40] = {1};
    put_raw_row(row, 31);
    assert_get_is_corrupt();
    row[0] = 2;
    put_raw_row(row, 40);
    assert_get_is_corrupt();
    row[0] = 1;
    row[1] = 2;
    put_raw_row(row, 40);
    assert_get_is_corrupt();
    row[1] = 1; /* chunked, and its size is 0 */
    put_raw_row(row, 40);
    assert_get_is_corrupt();
    row[39] = 0xff; /* chunked, and its size is beyond any limit */
    put_raw_row(row, 40);
    assert_get_is_corrupt();
}

static void test_table_lmdb__a_file_of_something_else_is_refused(void **state)
{
    (void)state;
    char path[100];
    snprintf(path, sizeof path, "%s/data.mdb", directory);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 20000; i++)
        fputc('x', f);
    fclose(f);
    struct error error = {0};
    assert_null(table_lmdb_open(directory, MAP_SIZE, &error));
    assert_int_equal(error.status, STATUS_FORMAT);
    assert_non_null(strstr(error.message, directory));
}

static void test_table_lmdb__a_directory_that_cannot_be_made_is_an_error(void **state)
{
    (void)state;
    char path[100];
    snprintf(path, sizeof path, "%s/no/such", directory);
    struct error error = {0};
    assert_null(table_lmdb_open(path, MAP_SIZE, &error));
    assert_int_equal(error.status, STATUS_IO);
    assert_null(table_lmdb_open(path, MAP_SIZE, NULL));
}

static void test_table_lmdb__a_full_map_is_told_as_full(void **state)
{
    (void)state;
    struct table *t = table_lmdb_open(directory, 1u << 20, NULL);
    suite_begin(t);
    uint8_t *content = suite_content(50000, 1);
    enum status s = STATUS_OK;
    for (unsigned i = 0; s == STATUS_OK && i < 100; i++) {
        char key[32];
        struct table_row row = {1,
                                7,
                                bytes_text(suite_key(i, key)),
                                {.present = true, .value = bytes_of(content, 50000)}};
        s = t->verbs->put(t, &row);
    }
    free(content);
    assert_int_equal(s, STATUS_FULL);
    t->verbs->abort(t);
    suite_assert_count(t, 0);
    t->verbs->destroy(&t);
}

#define ONE(name)                                                                                  \
    cmocka_unit_test_setup_teardown(test_table_lmdb__##name, make_directory, remove_directory)
#define LISTED(name) ONE(name),

int main(void)
{
    const struct CMUnitTest tests[] = {
        TABLE_SUITE(LISTED) ONE(what_is_committed_is_there_after_opening_again),
        ONE(a_row_has_the_bytes_that_the_header_tells),
        ONE(no_chunk_is_left_behind),
        ONE(a_chunk_that_is_missing_or_of_another_size_is_corruption),
        ONE(a_row_that_does_not_hold_together_is_corruption),
        ONE(a_file_of_something_else_is_refused),
        ONE(a_directory_that_cannot_be_made_is_an_error),
        ONE(a_full_map_is_told_as_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
