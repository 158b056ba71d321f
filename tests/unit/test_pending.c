#include "storage/pending.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/failing_memory.h"

#define SLOT    3
#define KEYS    3000 /* each is written twice: the buckets double several times */
#define ENTRIES (2 * KEYS)

static uint64_t digest_of(uint64_t key)
{
    return key * 0x9e3779b97f4a7c15u;
}

/* The entry at seq: a put to key number (seq % KEYS), by client (seq % 7) + 1. */
static struct pending *entry_new(uint64_t seq)
{
    char key[16];
    snprintf(key, sizeof key, "key%llu", (unsigned long long)(seq % KEYS));
    struct effect effect = {.kind = EFFECT_PUT,
                            .digest = digest_of(seq % KEYS),
                            .key = bytes_text(key),
                            .value = bytes_text("value")};
    struct entry e = {.kind = ENTRY_WRITE,
                      .epoch = 1,
                      .seq = seq,
                      .client = seq % 7 + 1,
                      .client_seq = seq,
                      .key_hash = record_key_hash(bytes_text(key)),
                      .effects_count = 1,
                      .effects = &effect};
    struct buffer body;
    buffer_init(&body, 1 << 12);
    assert_int_equal(record_entry_encode(&e, &body), STATUS_OK);
    struct pending *p = pending_new(SLOT, record_entry_trim(buffer_view(&body)));
    assert_non_null(p);
    buffer_fini(&body);
    return p;
}

static struct pending *newest_of_key(const struct pending_index *x, uint64_t number)
{
    char key[16];
    snprintf(key, sizeof key, "key%llu", (unsigned long long)number);
    return pending_of_key(x, SLOT, digest_of(number), bytes_text(key));
}

static void link_all(struct pending_index *x, struct pending **entries)
{
    for (uint64_t seq = 0; seq < ENTRIES; seq++) {
        entries[seq] = entry_new(seq);
        pending_link(x, entries[seq]);
    }
}

static void unlink_all(struct pending_index *x, struct pending **entries)
{
    for (uint64_t seq = 0; seq < ENTRIES; seq++) {
        pending_unlink(x, entries[seq]);
        pending_destroy(&entries[seq]);
    }
    assert_int_equal(x->count, 0);
    assert_int_equal(x->bytes, 0);
}

static void assert_newest_found(const struct pending_index *x, struct pending **entries)
{
    for (uint64_t key = 0; key < KEYS; key++) {
        assert_ptr_equal(newest_of_key(x, key), entries[KEYS + key]);
        assert_ptr_equal(pending_of_digest(x, SLOT, digest_of(key)), entries[KEYS + key]);
    }
    for (uint64_t seq = 0; seq < ENTRIES; seq++)
        assert_ptr_equal(pending_of_client(x, SLOT, seq % 7 + 1, seq), entries[seq]);
}

static void test_pending__newest_stays_first_while_buckets_double(void **state)
{
    (void)state;
    static struct pending *entries[ENTRIES];
    struct pending_index x;
    assert_int_equal(pending_index_init(&x), STATUS_OK);
    const uint32_t buckets = x.buckets_count;
    link_all(&x, entries);
    assert_true(x.buckets_count > buckets && x.buckets_count <= PENDING_BUCKETS_MAX);
    assert_newest_found(&x, entries);
    assert_null(pending_of_key(&x, SLOT + 1, digest_of(0), bytes_text("key0")));
    assert_null(pending_of_client(&x, SLOT, 1, 1));
    for (uint64_t key = 0; key < KEYS; key++) { /* the older one is found when the newer goes */
        pending_unlink(&x, entries[KEYS + key]);
        assert_ptr_equal(newest_of_key(&x, key), entries[key]);
        pending_link(&x, entries[KEYS + key]);
    }
    unlink_all(&x, entries);
    pending_index_fini(&x);
}

static void test_pending__without_memory_to_grow_all_is_found(void **state)
{
    (void)state;
    static struct pending *entries[ENTRIES];
    struct pending_index x;
    assert_int_equal(pending_index_init(&x), STATUS_OK);
    const uint32_t buckets = x.buckets_count;
    for (uint64_t seq = 0; seq < ENTRIES; seq++) {
        entries[seq] = entry_new(seq);
        failing_memory_arm(seq % 2);
        pending_link(&x, entries[seq]);
        failing_memory_disarm();
    }
    assert_int_equal(x.buckets_count, buckets);
    assert_newest_found(&x, entries);
    unlink_all(&x, entries);
    pending_index_fini(&x);
}

static void test_pending__a_later_write_of_the_client_overtakes(void **state)
{
    (void)state;
    struct pending_index x;
    assert_int_equal(pending_index_init(&x), STATUS_OK);
    struct pending *p = entry_new(20);
    const uint64_t hash = p->entry.key_hash, other = hash + 1, client = p->entry.client;
    pending_link(&x, p);
    assert_true(pending_overtaken(&x, SLOT, client, 19, &hash, 1));
    assert_false(pending_overtaken(&x, SLOT, client, 20, &hash, 1));
    assert_false(pending_overtaken(&x, SLOT, client, 19, &other, 1));
    assert_false(pending_overtaken(&x, SLOT, client + 1, 19, &hash, 1));
    assert_false(pending_overtaken(&x, SLOT + 1, client, 19, &hash, 1));
    pending_unlink(&x, p);
    pending_destroy(&p);
    pending_index_fini(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pending__newest_stays_first_while_buckets_double),
        cmocka_unit_test(test_pending__without_memory_to_grow_all_is_found),
        cmocka_unit_test(test_pending__a_later_write_of_the_client_overtakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
