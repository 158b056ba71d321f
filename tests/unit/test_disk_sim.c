#include "tests/lib/disk_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above. */
#include <cmocka.h>

static int set_up(void **state)
{
    *state = disk_sim_new(3);
    return 0;
}

static int tear_down(void **state)
{
    struct disk *disk = *state;
    disk->verbs->destroy(&disk);
    return 0;
}

static struct disk_file *open_file(struct disk *d, const char *name, unsigned flags)
{
    struct disk_file *f = NULL;
    assert_int_equal(d->verbs->open(d, name, flags, &f, NULL), STATUS_OK);
    return f;
}

static bool exists(struct disk *d, const char *name)
{
    struct disk_file *f = NULL;
    if (d->verbs->open(d, name, 0, &f, NULL) != STATUS_OK)
        return false;
    d->verbs->close(&f);
    return true;
}

static size_t content(struct disk *d, const char *name, uint8_t *to, size_t size)
{
    struct disk_file *f = open_file(d, name, 0);
    size_t got = 0;
    assert_int_equal(d->verbs->read(f, 0, to, size, &got), STATUS_OK);
    d->verbs->close(&f);
    return got;
}

/* A file "a" of four durable sectors of zeros. */
static struct disk_file *make_file(struct disk *d, unsigned flags)
{
    static _Alignas(512) uint8_t zeros[2048];
    struct disk_file *f = open_file(d, "a", DISK_CREATE | flags);
    assert_int_equal(d->verbs->write(f, 0, bytes_of(zeros, sizeof zeros)), STATUS_OK);
    assert_int_equal(d->verbs->sync(f), STATUS_OK);
    assert_int_equal(d->verbs->sync_directory(d, ""), STATUS_OK);
    return f;
}

static void fill(uint8_t *to, size_t size, uint8_t with)
{
    memset(to, with, size);
}

static void test_disk_sim__synced_writes_survive_a_crash(void **state)
{
    struct disk *d = *state;
    uint8_t back[2048];
    struct disk_file *f = make_file(d, 0);
    assert_int_equal(d->verbs->write(f, 100, bytes_text("hello")), STATUS_OK);
    assert_int_equal(d->verbs->sync(f), STATUS_OK);
    disk_sim_crash(d);
    d->verbs->close(&f);
    assert_int_equal(content(d, "a", back, sizeof back), 2048);
    assert_memory_equal(back + 100, "hello", 5);
}

/* Over many seeds every subset of the sectors is seen, and never half a sector. */
static void test_disk_sim__unsynced_sectors_survive_in_any_subset(void **state)
{
    (void)state;
    unsigned seen[16] = {0};
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct disk *d = disk_sim_new(seed);
        uint8_t data[2048], back[2048];
        fill(data, sizeof data, 1);
        struct disk_file *f = make_file(d, 0);
        assert_int_equal(d->verbs->write(f, 0, bytes_of(data, sizeof data)), STATUS_OK);
        disk_sim_crash(d);
        d->verbs->close(&f);
        assert_int_equal(content(d, "a", back, sizeof back), 2048);
        unsigned subset = 0;
        for (size_t i = 0; i < sizeof back; i++) {
            assert_int_equal(back[i], back[i / 512 * 512]);
            subset |= (unsigned)back[i] << i / 512;
        }
        seen[subset]++;
        d->verbs->destroy(&d);
    }
    for (unsigned i = 0; i < 16; i++)
        assert_true(seen[i] > 0);
}

static void test_disk_sim__direct_writes_are_durable_on_return(void **state)
{
    struct disk *d = *state;
    static _Alignas(512) uint8_t data[512];
    uint8_t back[2048];
    fill(data, sizeof data, 9);
    struct disk_file *f = make_file(d, DISK_DIRECT);
    assert_int_equal(d->verbs->write(f, 512, bytes_of(data, sizeof data)), STATUS_OK);
    disk_sim_crash(d);
    d->verbs->close(&f);
    assert_int_equal(content(d, "a", back, sizeof back), 2048);
    assert_int_equal(back[511], 0);
    assert_memory_equal(back + 512, data, 512);
}

static void test_disk_sim__names_without_directory_sync_may_be_lost(void **state)
{
    (void)state;
    unsigned created = 0, renamed = 0, removed = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct disk *d = disk_sim_new(seed);
        struct disk_file *f = make_file(d, 0);
        d->verbs->close(&f);
        f = open_file(d, "gone", DISK_CREATE);
        d->verbs->close(&f);
        assert_int_equal(d->verbs->sync_directory(d, ""), STATUS_OK);
        f = open_file(d, "new", DISK_CREATE);
        d->verbs->close(&f);
        assert_int_equal(d->verbs->rename(d, "a", "b"), STATUS_OK);
        assert_int_equal(d->verbs->remove(d, "gone"), STATUS_OK);
        disk_sim_crash(d);
        created += exists(d, "new");
        renamed += exists(d, "b");
        removed += !exists(d, "gone");
        assert_true(exists(d, "a") != exists(d, "b"));
        d->verbs->destroy(&d);
    }
    assert_true(created > 50 && created < 350);
    assert_true(renamed > 50 && renamed < 350);
    assert_true(removed > 50 && removed < 350);
}

static void test_disk_sim__directory_sync_keeps_names(void **state)
{
    struct disk *d = *state;
    struct disk_file *f = make_file(d, 0);
    d->verbs->close(&f);
    assert_int_equal(d->verbs->make_directory(d, "log"), STATUS_OK);
    assert_int_equal(d->verbs->sync_directory(d, ""), STATUS_OK);
    f = open_file(d, "log/x", DISK_CREATE);
    d->verbs->close(&f);
    assert_int_equal(d->verbs->sync_directory(d, "log"), STATUS_OK);
    assert_int_equal(d->verbs->rename(d, "a", "b"), STATUS_OK);
    assert_int_equal(d->verbs->sync_directory(d, ""), STATUS_OK);
    disk_sim_crash(d);
    assert_true(exists(d, "b") && exists(d, "log/x") && !exists(d, "a"));
}

static void test_disk_sim__a_lost_folder_takes_its_files_along(void **state)
{
    (void)state;
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct disk *d = disk_sim_new(seed);
        assert_int_equal(d->verbs->make_directory(d, "log"), STATUS_OK);
        struct disk_file *f = open_file(d, "log/x", DISK_CREATE);
        d->verbs->close(&f);
        assert_int_equal(d->verbs->sync_directory(d, "log"), STATUS_OK);
        disk_sim_crash(d);
        lost += !exists(d, "log/x");
        assert_true(exists(d, "log/x") == (d->verbs->sync_directory(d, "log") == STATUS_OK));
        d->verbs->destroy(&d);
    }
    assert_true(lost > 10 && lost < 90);
}

static void test_disk_sim__ignored_directory_syncs_lose_names(void **state)
{
    (void)state;
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct disk *d = disk_sim_new(seed);
        disk_sim_faults(d)->directory_sync_ignored = true;
        struct disk_file *f = make_file(d, 0);
        d->verbs->close(&f);
        disk_sim_crash(d);
        lost += !exists(d, "a");
        d->verbs->destroy(&d);
    }
    assert_true(lost > 10);
}

static void test_disk_sim__crash_closes_files_and_frees_the_lock(void **state)
{
    struct disk *d = *state;
    struct disk_file *f = make_file(d, 0);
    uint8_t byte;
    size_t got;
    uint64_t size;
    assert_int_equal(d->verbs->lock(d, NULL), STATUS_OK);
    assert_int_equal(d->verbs->lock(d, NULL), STATUS_LOCKED);
    disk_sim_crash(d);
    assert_int_equal(d->verbs->read(f, 0, &byte, 1, &got), STATUS_IO);
    assert_int_equal(d->verbs->write(f, 0, bytes_text("x")), STATUS_IO);
    assert_int_equal(d->verbs->sync(f), STATUS_IO);
    assert_int_equal(d->verbs->size(f, &size), STATUS_IO);
    d->verbs->close(&f);
    assert_int_equal(d->verbs->lock(d, NULL), STATUS_OK);
}

static void test_disk_sim__kill_keeps_the_cache_and_what_is_pending(void **state)
{
    struct disk *d = *state;
    uint8_t back[2048];
    struct disk_file *f = make_file(d, 0);
    assert_int_equal(d->verbs->write(f, 0, bytes_text("hello")), STATUS_OK);
    disk_sim_kill(d);
    assert_int_equal(d->verbs->sync(f), STATUS_IO);
    d->verbs->close(&f);
    content(d, "a", back, sizeof back);
    assert_memory_equal(back, "hello", 5);
    f = open_file(d, "a", 0);
    assert_int_equal(d->verbs->sync(f), STATUS_OK);
    disk_sim_crash(d);
    d->verbs->close(&f);
    content(d, "a", back, sizeof back);
    assert_memory_equal(back, "hello", 5);
}

/* The trap of replication.md, U4: after the error the cache shows what the disk does not have, and
 * the next sync succeeds without writing it. */
static void test_disk_sim__after_a_failed_sync_the_cache_lies(void **state)
{
    (void)state;
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct disk *d = disk_sim_new(seed);
        uint8_t back[2048];
        struct disk_file *f = make_file(d, 0);
        assert_int_equal(d->verbs->write(f, 0, bytes_text("hello")), STATUS_OK);
        disk_sim_faults(d)->sync_eio = 1;
        assert_int_equal(d->verbs->sync(f), STATUS_IO);
        assert_int_equal(d->verbs->sync(f), STATUS_OK);
        content(d, "a", back, sizeof back);
        assert_memory_equal(back, "hello", 5);
        disk_sim_crash(d);
        d->verbs->close(&f);
        content(d, "a", back, sizeof back);
        lost += back[0] != 'h';
        d->verbs->destroy(&d);
    }
    assert_true(lost > 10 && lost < 90);
}

static void test_disk_sim__faults_are_countdowns(void **state)
{
    struct disk *d = *state;
    struct disk_sim_faults *faults = disk_sim_faults(d);
    struct disk_file *f = make_file(d, 0);
    uint8_t byte;
    size_t got;
    faults->write_eio = 2;
    assert_int_equal(d->verbs->write(f, 0, bytes_text("x")), STATUS_OK);
    assert_int_equal(d->verbs->write(f, 0, bytes_text("x")), STATUS_IO);
    assert_int_equal(d->verbs->write(f, 0, bytes_text("x")), STATUS_OK);
    faults->read_eio = 1;
    assert_int_equal(d->verbs->read(f, 0, &byte, 1, &got), STATUS_IO);
    assert_int_equal(d->verbs->read(f, 0, &byte, 1, &got), STATUS_OK);
    faults->write_full = 1;
    assert_int_equal(d->verbs->write(f, 0, bytes_text("x")), STATUS_FULL);
    faults->name_eio = 1;
    assert_int_equal(d->verbs->rename(d, "a", "b"), STATUS_IO);
    faults->directory_sync_eio = 1;
    assert_int_equal(d->verbs->sync_directory(d, ""), STATUS_IO);
    faults->any_eio = 3;
    assert_int_equal(d->verbs->sync(f), STATUS_OK);
    assert_int_equal(d->verbs->sync_directory(d, ""), STATUS_OK);
    assert_int_equal(d->verbs->write(f, 0, bytes_text("x")), STATUS_IO);
    d->verbs->close(&f);
}

static void test_disk_sim__a_full_disk_refuses_to_grow_but_not_to_overwrite(void **state)
{
    struct disk *d = *state;
    uint64_t free_size, total;
    uint8_t data[1024] = {0};
    struct disk_file *f = make_file(d, 0);
    disk_sim_faults(d)->size_max = 2560;
    assert_int_equal(d->verbs->space(d, &free_size, &total), STATUS_OK);
    assert_int_equal(free_size, 512);
    assert_int_equal(total, 2560);
    assert_int_equal(d->verbs->write(f, 1024, bytes_of(data, 1024)), STATUS_OK);
    assert_int_equal(d->verbs->write(f, 2048, bytes_of(data, 512)), STATUS_OK);
    assert_int_equal(d->verbs->write(f, 2560, bytes_of(data, 1)), STATUS_FULL);
    d->verbs->close(&f);
    assert_int_equal(d->verbs->remove(d, "a"), STATUS_OK);
    assert_int_equal(d->verbs->space(d, &free_size, &total), STATUS_OK);
    assert_int_equal(free_size, 2560);
}

static void test_disk_sim__flipped_bits_stay(void **state)
{
    struct disk *d = *state;
    uint8_t back[2048];
    struct disk_file *f = make_file(d, 0);
    d->verbs->close(&f);
    disk_sim_corrupt(d, "a", 700);
    content(d, "a", back, sizeof back);
    uint8_t before = back[700];
    assert_int_equal(__builtin_popcount(before), 1);
    disk_sim_crash(d);
    content(d, "a", back, sizeof back);
    assert_int_equal(back[700], before);
}

/* Write A, sync, write B, sync: a cut may keep nothing, part of A, A, A and part of B, all; never B
 * without A. */
static void test_disk_sim__a_torn_sequence_keeps_its_order(void **state)
{
    (void)state;
    unsigned only_a = 0, both = 0, none = 0;
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct disk *d = disk_sim_new(seed);
        static _Alignas(512) uint8_t data[1024];
        uint8_t back[2048];
        fill(data, sizeof data, 7);
        struct disk_file *f = make_file(d, DISK_DIRECT);
        disk_sim_begin_torn_write(d, true);
        assert_int_equal(d->verbs->write(f, 0, bytes_of(data, 1024)), STATUS_OK);
        assert_int_equal(d->verbs->write(f, 1024, bytes_of(data, 1024)), STATUS_OK);
        disk_sim_crash(d);
        d->verbs->close(&f);
        content(d, "a", back, sizeof back);
        bool a = back[0] == 7 && back[512] == 7, b = back[1024] == 7 || back[1536] == 7;
        assert_true(a || !b);
        only_a += a && !b;
        both += a && b;
        none += back[0] == 0 && back[512] == 0;
        d->verbs->destroy(&d);
    }
    assert_true(only_a > 20 && both > 20 && none > 20);
}

static void test_disk_sim__a_torn_sequence_that_ends_is_durable(void **state)
{
    struct disk *d = *state;
    static _Alignas(512) uint8_t data[512];
    uint8_t back[2048];
    fill(data, sizeof data, 7);
    struct disk_file *f = make_file(d, DISK_DIRECT);
    disk_sim_begin_torn_write(d, true);
    assert_int_equal(d->verbs->write(f, 0, bytes_of(data, sizeof data)), STATUS_OK);
    assert_int_equal(d->verbs->rename(d, "a", "b"), STATUS_OK);
    assert_int_equal(d->verbs->sync_directory(d, ""), STATUS_OK);
    disk_sim_begin_torn_write(d, false);
    disk_sim_crash(d);
    d->verbs->close(&f);
    content(d, "b", back, sizeof back);
    assert_int_equal(back[0], 7);
}

static void test_disk_sim__one_seed_gives_one_outcome(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        uint8_t back[2][2048];
        for (unsigned run = 0; run < 2; run++) {
            struct disk *d = disk_sim_new(seed);
            uint8_t data[2048];
            fill(data, sizeof data, 1);
            struct disk_file *f = make_file(d, 0);
            assert_int_equal(d->verbs->write(f, 0, bytes_of(data, sizeof data)), STATUS_OK);
            disk_sim_crash(d);
            d->verbs->close(&f);
            content(d, "a", back[run], 2048);
            d->verbs->destroy(&d);
        }
        assert_memory_equal(back[0], back[1], 2048);
    }
}

static void test_disk_sim__files_come_and_go_without_growth(void **state)
{
    struct disk *d = *state;
    for (unsigned i = 0; i < 5000; i++) {
        struct disk_file *f = make_file(d, DISK_DIRECT);
        d->verbs->close(&f);
        assert_int_equal(d->verbs->remove(d, "a"), STATUS_OK);
        if (i % 100 == 0)
            disk_sim_crash(d);
        if (exists(d, "a"))
            assert_int_equal(d->verbs->remove(d, "a"), STATUS_OK);
        assert_int_equal(d->verbs->sync_directory(d, ""), STATUS_OK);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_disk_sim__synced_writes_survive_a_crash),
        CASE(test_disk_sim__unsynced_sectors_survive_in_any_subset),
        CASE(test_disk_sim__direct_writes_are_durable_on_return),
        CASE(test_disk_sim__names_without_directory_sync_may_be_lost),
        CASE(test_disk_sim__directory_sync_keeps_names),
        CASE(test_disk_sim__a_lost_folder_takes_its_files_along),
        CASE(test_disk_sim__ignored_directory_syncs_lose_names),
        CASE(test_disk_sim__crash_closes_files_and_frees_the_lock),
        CASE(test_disk_sim__kill_keeps_the_cache_and_what_is_pending),
        CASE(test_disk_sim__after_a_failed_sync_the_cache_lies),
        CASE(test_disk_sim__faults_are_countdowns),
        CASE(test_disk_sim__a_full_disk_refuses_to_grow_but_not_to_overwrite),
        CASE(test_disk_sim__flipped_bits_stay),
        CASE(test_disk_sim__a_torn_sequence_keeps_its_order),
        CASE(test_disk_sim__a_torn_sequence_that_ends_is_durable),
        CASE(test_disk_sim__one_seed_gives_one_outcome),
        CASE(test_disk_sim__files_come_and_go_without_growth),
    };
    return cmocka_run_group_tests_name("disk_sim", tests, NULL, NULL);
}
