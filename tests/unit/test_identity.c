#include "storage/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above. */
#include <cmocka.h>

#include "tests/lib/disk_sim.h"

static const struct id128 cluster_a = {{0xaa, 1}}, cluster_b = {{0xbb, 2}};
static const struct id128 node_a = {{0x0a, 3}}, node_b = {{0x0b, 4}};

static int set_up(void **state)
{
    *state = disk_sim_new(5);
    return 0;
}

static int tear_down(void **state)
{
    struct disk *disk = *state;
    disk->verbs->destroy(&disk);
    return 0;
}

static void test_identity__new_directory_boots_as_the_first_incarnation(void **state)
{
    struct identity id;
    struct error error;
    assert_int_equal(identity_load(*state, &id, &error), STATUS_NOTFOUND);
    assert_int_equal(identity_boot(*state, cluster_a, node_a, 0, 11, &id, &error), STATUS_OK);
    assert_int_equal(id.incarnation, 1);
    assert_int_equal(id.format, IDENTITY_FORMAT);
    assert_memory_equal(id.cluster_id.octets, cluster_a.octets, 16);
    assert_memory_equal(id.node_id.octets, node_a.octets, 16);
}

static void test_identity__everything_comes_back(void **state)
{
    struct identity id = {.cluster_id = cluster_a,
                          .node_id = node_b,
                          .disk = 77,
                          .incarnation = UINT64_MAX - 1,
                          .longest_lease_ms = 700,
                          .format = IDENTITY_FORMAT},
                    back;
    assert_int_equal(identity_save(*state, &id, NULL), STATUS_OK);
    assert_int_equal(identity_load(*state, &back, NULL), STATUS_OK);
    assert_memory_equal(back.cluster_id.octets, id.cluster_id.octets, 16);
    assert_memory_equal(back.node_id.octets, id.node_id.octets, 16);
    assert_int_equal(back.disk, 77);
    assert_int_equal(back.incarnation, id.incarnation);
    assert_int_equal(back.longest_lease_ms, 700);
    assert_int_equal(back.format, IDENTITY_FORMAT);
}

static void test_identity__an_old_copy_does_not_repeat_an_incarnation(void **state)
{
    struct disk *disk = *state;
    struct identity id;
    assert_int_equal(identity_boot(disk, cluster_a, node_a, 5000, 11, &id, NULL), STATUS_OK);
    assert_int_equal(id.incarnation, 5000);
    assert_int_equal(identity_boot(disk, cluster_a, node_a, 9000, 11, &id, NULL), STATUS_OK);
    assert_int_equal(id.incarnation, 9000);
    assert_int_equal(identity_boot(disk, cluster_a, node_a, 7000, 11, &id, NULL), STATUS_OK);
    assert_int_equal(id.incarnation, 9001); /* a clock that was set back */
}

static void test_identity__every_boot_raises_the_incarnation(void **state)
{
    struct disk *disk = *state;
    struct identity id;
    for (uint64_t boot = 1; boot <= 20; boot++) {
        assert_int_equal(identity_boot(disk, cluster_a, node_a, 0, 10 + boot, &id, NULL),
                         STATUS_OK);
        assert_int_equal(id.incarnation, boot);
        assert_int_equal(id.former, boot - 1);
        assert_int_equal(id.disk, 11); /* drawn once */
        disk_sim_crash(disk);
    }
}

static void test_identity__another_cluster_or_node_is_refused(void **state)
{
    struct identity id;
    struct error error;
    assert_int_equal(identity_boot(*state, cluster_a, node_a, 0, 11, &id, NULL), STATUS_OK);
    assert_int_equal(identity_boot(*state, cluster_b, node_a, 0, 11, &id, &error), STATUS_WRONGCLUSTER);
    assert_non_null(strstr(error.message, "cluster aa01"));
    assert_non_null(strstr(error.message, "cluster bb02"));
    assert_int_equal(identity_boot(*state, cluster_a, node_b, 0, 11, &id, &error), STATUS_WRONGCLUSTER);
    assert_non_null(strstr(error.message, "node 0a03"));
    assert_non_null(strstr(error.message, "node 0b04"));
    /* A refused boot leaves no trace. */
    assert_int_equal(identity_load(*state, &id, NULL), STATUS_OK);
    assert_int_equal(id.incarnation, 1);
}

static void test_identity__data_without_identity_is_refused(void **state)
{
    struct disk *disk = *state;
    static const char *const names[] = {"log/x", "table/x"};
    struct identity id;
    struct error error;
    struct disk_file *file;
    assert_int_equal(disk->verbs->make_directory(disk, "log"), STATUS_OK);
    assert_int_equal(disk->verbs->make_directory(disk, "table"), STATUS_OK);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(disk->verbs->open(disk, names[i], DISK_CREATE, &file, NULL), STATUS_OK);
        disk->verbs->close(&file);
        assert_int_equal(identity_boot(disk, cluster_a, node_a, 0, 11, &id, &error), STATUS_CORRUPT);
        assert_non_null(strstr(error.message, i == 0 ? "'log'" : "'table'"));
        assert_int_equal(disk->verbs->remove(disk, names[i]), STATUS_OK);
    }
    assert_int_equal(identity_boot(disk, cluster_a, node_a, 0, 11, &id, &error), STATUS_OK);
}

static size_t read_text(struct disk *disk, char to[static 1024])
{
    struct disk_file *file;
    size_t size;
    assert_int_equal(disk->verbs->open(disk, "identity", 0, &file, NULL), STATUS_OK);
    assert_int_equal(disk->verbs->read(file, 0, to, 1024, &size), STATUS_OK);
    disk->verbs->close(&file);
    return size;
}

static void write_text(struct disk *disk, const char *text, size_t size)
{
    struct disk_file *file;
    enum status s = disk->verbs->remove(disk, "identity");
    assert_true(s == STATUS_OK || s == STATUS_NOTFOUND);
    assert_int_equal(disk->verbs->open(disk, "identity", DISK_CREATE, &file, NULL), STATUS_OK);
    assert_int_equal(disk->verbs->write(file, 0, bytes_of(text, size)), STATUS_OK);
    disk->verbs->close(&file);
}

static void test_identity__every_damaged_byte_is_found(void **state)
{
    struct disk *disk = *state;
    struct identity id = {.cluster_id = cluster_a,
                          .node_id = node_a,
                          .disk = 7,
                          .incarnation = 12,
                          .format = IDENTITY_FORMAT};
    char text[1024];
    assert_int_equal(identity_save(disk, &id, NULL), STATUS_OK);
    size_t size = read_text(disk, text);
    for (size_t i = 0; i < size; i++) {
        text[i] ^= 1;
        write_text(disk, text, size);
        text[i] ^= 1;
        enum status s = identity_load(disk, &id, NULL);
        assert_true(s == STATUS_CORRUPT || s == STATUS_FORMAT);
    }
    for (size_t i = 0; i < size; i++) {
        write_text(disk, text, i);
        assert_int_equal(identity_load(disk, &id, NULL), STATUS_CORRUPT);
    }
    text[size] = '\n';
    write_text(disk, text, size + 1);
    assert_int_equal(identity_load(disk, &id, NULL), STATUS_CORRUPT);
}

static void test_identity__a_newer_format_is_named(void **state)
{
    struct error error;
    struct identity id;
    write_text(*state, "format 2\nwhatever\n", 18);
    assert_int_equal(identity_load(*state, &id, &error), STATUS_FORMAT);
    assert_non_null(strstr(error.message, "format 2"));
}

/* Wherever the power fails, the directory is the old one or the new one, and no incarnation that a
 * boot returned is given again. */
static void test_identity__a_crash_at_any_point_leaves_old_or_new(void **state)
{
    struct disk *disk = *state;
    struct identity id;
    assert_int_equal(identity_boot(disk, cluster_a, node_a, 0, 11, &id, NULL), STATUS_OK);
    disk_sim_begin_torn_write(disk, true);
    assert_int_equal(identity_boot(disk, cluster_a, node_a, 0, 11, &id, NULL), STATUS_OK);
    assert_int_equal(id.incarnation, 2);
    size_t count = disk_sim_torn_count(disk);
    assert_true(count >= 5);
    for (size_t cut = 0; cut <= count; cut++)
        for (uint64_t seed = 0; seed < 20; seed++) {
            struct disk *copy = disk_sim_copy(disk, seed);
            disk_sim_crash_at(copy, cut);
            assert_int_equal(identity_boot(copy, cluster_a, node_a, 0, 11, &id, NULL), STATUS_OK);
            assert_true(id.incarnation == 3 || (id.incarnation == 2 && cut < count));
            copy->verbs->destroy(&copy);
        }
}

static void test_identity__every_failing_call_is_told(void **state)
{
    (void)state;
    struct identity id;
    enum status s = STATUS_IO;
    uint32_t nth = 1;
    for (; s != STATUS_OK; nth++) {
        struct disk *disk = disk_sim_new(nth);
        assert_int_equal(identity_boot(disk, cluster_a, node_a, 0, 11, &id, NULL), STATUS_OK);
        disk_sim_faults(disk)->any_eio = nth;
        struct error error = {0};
        s = identity_boot(disk, cluster_a, node_a, 0, 11, &id, &error);
        disk_sim_faults(disk)->any_eio = 0;
        if (s != STATUS_OK) {
            assert_int_equal(s, STATUS_IO);
            assert_int_equal(error.status, STATUS_IO);
        }
        disk_sim_crash(disk);
        assert_int_equal(identity_boot(disk, cluster_a, node_a, 0, 11, &id, NULL), STATUS_OK);
        assert_true(id.incarnation >= 2);
        disk->verbs->destroy(&disk);
    }
    assert_true(nth > 7);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_identity__new_directory_boots_as_the_first_incarnation),
        CASE(test_identity__everything_comes_back),
        CASE(test_identity__an_old_copy_does_not_repeat_an_incarnation),
        CASE(test_identity__every_boot_raises_the_incarnation),
        CASE(test_identity__another_cluster_or_node_is_refused),
        CASE(test_identity__data_without_identity_is_refused),
        CASE(test_identity__every_damaged_byte_is_found),
        CASE(test_identity__a_newer_format_is_named),
        CASE(test_identity__a_crash_at_any_point_leaves_old_or_new),
        CASE(test_identity__every_failing_call_is_told),
    };
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
