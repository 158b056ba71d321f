/* The map of a directory: saved, loaded, damaged, of another cluster. */
#include "storage/map_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/lib/disk_sim.h"

struct fixture {
    struct disk *disk;
    struct clustermap *map, *other;
};

static void found(struct clustermap *map, uint8_t cluster)
{
    struct error error;
    memset(&map->cluster_id, cluster, sizeof map->cluster_id);
    map->partition_count = 16;
    map->copies = 2;
    map->isr_min = 1;
    map->nodes_count = 3;
    for (uint32_t i = 0; i < 3; i++) {
        struct clustermap_node *node = &map->nodes[i];
        memset(&node->id, (int)i + 1, sizeof node->id);
        node->weight = 100;
        snprintf(node->name, sizeof node->name, "n%u", i + 1);
        snprintf(node->address, sizeof node->address, "tcp://127.0.0.1:%u", 7500 + 3 * i);
    }
    assert_int_equal(clustermap_found(map, &error), STATUS_OK);
}

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){disk_sim_new(1), clustermap_new(), clustermap_new()};
    found(f.map, 0xcc);
    *state = &f;
    return f.disk == NULL || f.other == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->disk->verbs->destroy(&f->disk);
    clustermap_destroy(&f->map);
    clustermap_destroy(&f->other);
    return 0;
}

static void test_map_file__what_was_saved_is_loaded_after_a_power_cut(void **state)
{
    struct fixture *f = *state;
    struct error error;
    assert_int_equal(map_file_load(f->disk, f->other, &error), STATUS_NOTFOUND);
    assert_int_equal(map_file_save(f->disk, f->map, &error), STATUS_OK);
    f->map->nodes[1].disk = 9;
    f->map->nodes[1].version = 2;
    f->map->version++;
    assert_int_equal(map_file_save(f->disk, f->map, &error), STATUS_OK);
    disk_sim_crash(f->disk);
    assert_int_equal(map_file_load(f->disk, f->other, &error), STATUS_OK);
    assert_true(f->other->version == f->map->version);
    assert_true(f->other->nodes[1].disk == 9);
}

static void test_map_file__the_newer_of_file_and_map_wins(void **state)
{
    struct fixture *f = *state;
    struct error error;
    assert_int_equal(map_file_save(f->disk, f->map, &error), STATUS_OK);
    found(f->other, 0xcc);
    f->other->nodes[2].version = 5;
    f->other->version += 4;
    snprintf(f->other->nodes[2].address, ADDRESS_SIZE_MAX, "tcp://127.0.0.1:9999");
    assert_int_equal(map_file_load(f->disk, f->other, &error), STATUS_OK);
    assert_string_equal(f->other->nodes[2].address, "tcp://127.0.0.1:9999");
}

static void test_map_file__that_of_another_cluster_is_refused(void **state)
{
    struct fixture *f = *state;
    struct error error;
    assert_int_equal(map_file_save(f->disk, f->map, &error), STATUS_OK);
    found(f->other, 0xdd);
    assert_int_equal(map_file_load(f->disk, f->other, &error), STATUS_WRONGCLUSTER);
}

static void test_map_file__damage_is_found(void **state)
{
    struct fixture *f = *state;
    struct error error;
    struct disk_file *file;
    uint64_t size = 0;
    const uint8_t wrong = 0xa5;
    assert_int_equal(map_file_save(f->disk, f->map, &error), STATUS_OK);
    assert_int_equal(f->disk->verbs->open(f->disk, "map", 0, &file, &error), STATUS_OK);
    assert_int_equal(f->disk->verbs->size(file, &size), STATUS_OK);
    assert_int_equal(f->disk->verbs->write(file, size / 2, bytes_of(&wrong, 1)), STATUS_OK);
    f->disk->verbs->close(&file);
    assert_int_equal(map_file_load(f->disk, f->other, &error), STATUS_CORRUPT);
    assert_true(clustermap_empty(f->other));
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_map_file__##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_was_saved_is_loaded_after_a_power_cut),
        CASE(the_newer_of_file_and_map_wins),
        CASE(that_of_another_cluster_is_refused),
        CASE(damage_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
