#include "proto/clustermap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/codec.h"

#define OUT_SIZE_MAX (8u << 20)

struct fixture {
    struct clustermap *map, *other;
    struct arena arena;
    struct buffer out;
};

static int setup(void **state)
{
    static struct fixture f;
    f.map = clustermap_new();
    f.other = clustermap_new();
    arena_init(&f.arena);
    buffer_init(&f.out, OUT_SIZE_MAX);
    *state = &f;
    return f.map == NULL || f.other == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    clustermap_destroy(&f->map);
    clustermap_destroy(&f->other);
    arena_fini(&f->arena);
    buffer_fini(&f->out);
    return 0;
}

static struct id128 id_of(uint8_t octet)
{
    struct id128 id;
    memset(&id, octet, sizeof id);
    return id;
}

/* What a caller fills in before clustermap_found(). */
static void describe(struct clustermap *map, uint32_t nodes_count)
{
    map->cluster_id = id_of(0xcc);
    map->partition_count = 64;
    map->copies = 2;
    map->isr_min = 1;
    map->nodes_count = nodes_count;
    for (uint32_t i = 0; i < nodes_count; i++) {
        struct clustermap_node *node = &map->nodes[i];
        node->id = id_of((uint8_t)(i + 1));
        node->weight = 1;
        snprintf(node->name, sizeof node->name, "n%u", i + 1);
        snprintf(node->address, sizeof node->address, "tcp://127.0.0.1:%u", 7500 + 3 * i);
    }
}

static void found(struct clustermap *map, uint32_t nodes_count)
{
    struct error error;
    describe(map, nodes_count);
    assert_int_equal(clustermap_found(map, &error), STATUS_OK);
}

/* The map as a message; lives in the fixture's arena. */
static struct map_message message_of(struct fixture *f, const struct clustermap *map)
{
    struct map_message m;
    buffer_clear(&f->out);
    assert_int_equal(clustermap_pack(map, &f->out), STATUS_OK);
    assert_int_equal(codec_unpack_map(buffer_view(&f->out), &f->arena, &m), STATUS_OK);
    return m;
}

static struct reg *register_of(struct map_message *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (bytes_equal(m->registers[i].name, bytes_text(name)))
            return &m->registers[i];
    fail();
    return NULL;
}

static void assert_same(const struct clustermap *a, const struct clustermap *b)
{
    assert_true(a->version == b->version);
    assert_true(a->cluster_version == b->cluster_version);
    assert_memory_equal(&a->cluster_id, &b->cluster_id, sizeof a->cluster_id);
    assert_int_equal(a->partition_count, b->partition_count);
    assert_int_equal(a->copies, b->copies);
    assert_int_equal(a->isr_min, b->isr_min);
    assert_int_equal(a->nodes_count, b->nodes_count);
    assert_memory_equal(a->nodes, b->nodes, sizeof a->nodes);
    assert_memory_equal(a->partitions, b->partitions, a->partition_count * sizeof *a->partitions);
}

/* ---- The first map -------------------------------------------------------------------------- */

static void test_clustermap__a_new_map_is_empty(void **state)
{
    struct fixture *f = *state;
    assert_true(clustermap_empty(f->map));
    assert_true(f->map->version == 0);
    assert_int_equal(clustermap_node_by_name(f->map, "n1"), UINT32_MAX);
    assert_int_equal(message_of(f, f->map).count, 0);
}

static void test_clustermap__found_places_all_partitions(void **state)
{
    struct fixture *f = *state;
    found(f->map, 3);
    assert_false(clustermap_empty(f->map));
    assert_true(f->map->version == 1 + 3 + 64);
    for (uint32_t p = 0; p < 64; p++) {
        const struct clustermap_partition *partition = &f->map->partitions[p];
        assert_true(partition->version == 1);
        assert_true(partition->epoch == 0);
        assert_true(partition->opened);
        assert_int_equal(partition->isr_count, 2);
        assert_int_equal(partition->assigned_count, 2);
        assert_int_equal(partition->primary, partition->isr[0]);
        assert_int_not_equal(partition->isr[0], partition->isr[1]);
        assert_memory_equal(partition->isr, partition->assigned, sizeof partition->isr);
        assert_true(partition->replica_ids[0] != partition->replica_ids[1]);
        assert_true(partition->replica_ids[0] != 0);
        for (uint32_t q = 0; q < p; q++)
            assert_true(f->map->partitions[q].replica_ids[0] != partition->replica_ids[0]);
    }
}

static void test_clustermap__found_twice_gives_the_same(void **state)
{
    struct fixture *f = *state;
    found(f->map, 5);
    found(f->other, 5);
    assert_same(f->map, f->other);
    /* In another cluster replicas have other ids. */
    struct clustermap *third = clustermap_new();
    describe(third, 5);
    third->cluster_id = id_of(0xdd);
    assert_int_equal(clustermap_found(third, NULL), STATUS_OK);
    assert_int_equal(third->partitions[7].isr[1], f->map->partitions[7].isr[1]);
    assert_true(third->partitions[7].replica_ids[1] != f->map->partitions[7].replica_ids[1]);
    clustermap_destroy(&third);
    assert_null(third);
}

static void test_clustermap__nodes_on_one_host_do_not_share_a_partition(void **state)
{
    struct fixture *f = *state;
    describe(f->map, 4);
    for (int i = 0; i < 4; i++)
        snprintf(f->map->nodes[i].host, NAME_SIZE_MAX, "host%d", i / 2);
    assert_int_equal(clustermap_found(f->map, NULL), STATUS_OK);
    for (uint32_t p = 0; p < 64; p++)
        assert_int_not_equal(f->map->partitions[p].isr[0] / 2, f->map->partitions[p].isr[1] / 2);
}

static void test_clustermap__a_node_without_a_host_label_is_its_own_host(void **state)
{
    struct fixture *f = *state;
    describe(f->map, 3);
    for (int i = 0; i < 2; i++)
        snprintf(f->map->nodes[i].host, NAME_SIZE_MAX, "same");
    assert_int_equal(clustermap_found(f->map, NULL), STATUS_OK);
    for (uint32_t p = 0; p < 64; p++) /* one copy on n1 or n2, the other on n3 */
        assert_true(f->map->partitions[p].isr[0] == 2 || f->map->partitions[p].isr[1] == 2);
}

static void test_clustermap__racks_keep_copies_apart(void **state)
{
    struct fixture *f = *state;
    describe(f->map, 6);
    for (int i = 0; i < 6; i++)
        snprintf(f->map->nodes[i].rack, NAME_SIZE_MAX, "rack%d", i / 3);
    assert_int_equal(clustermap_found(f->map, NULL), STATUS_OK);
    for (uint32_t p = 0; p < 64; p++)
        assert_int_not_equal(f->map->partitions[p].isr[0] / 3, f->map->partitions[p].isr[1] / 3);
}

static void test_clustermap__what_cannot_be_founded_is_refused_with_a_reason(void **state)
{
    (void)state;
    struct error error;

#define REFUSED(statement, words)                                                                  \
    do {                                                                                           \
        struct clustermap *map = clustermap_new();                                                 \
        describe(map, 3);                                                                          \
        statement;                                                                                 \
        assert_int_equal(clustermap_found(map, &error), STATUS_CONFIG);                            \
        assert_string_equal(error.message, words);                                                 \
        assert_true(clustermap_empty(map));                                                        \
        assert_true(map->version == 0);                                                            \
        clustermap_destroy(&map);                                                                  \
    } while (0)

    REFUSED(map->partition_count = 100, "100 partitions: must be a power of two up to 16384");
    REFUSED(map->partition_count = 0, "0 partitions: must be a power of two up to 16384");
    REFUSED(map->partition_count = 32768, "32768 partitions: must be a power of two up to 16384");
    REFUSED(map->copies = 0, "0 copies: must be 1 to 5");
    REFUSED(map->copies = 6, "6 copies: must be 1 to 5");
    REFUSED(map->isr_min = 3, "isr_min is 3: must be 1 to the 2 copies");
    REFUSED(map->isr_min = 0, "isr_min is 0: must be 1 to the 2 copies");
    REFUSED(map->nodes_count = 0, "0 nodes: must be 1 to 1024");
    REFUSED(map->nodes[0].weight = map->nodes[1].weight = map->nodes[2].weight = 0,
            "0 nodes with weight: isr_min asks for 1");
    REFUSED(snprintf(map->nodes[2].name, NAME_SIZE_MAX, "n1"), "two nodes have the name 'n1'");
    REFUSED(map->nodes[1].name[0] = 0, "node 1 has no name");
    REFUSED(map->nodes[1].address[0] = 0, "node 'n2' has no address");
    REFUSED(memcpy(map->nodes[1].address, map->nodes[0].address, ADDRESS_SIZE_MAX),
            "nodes 'n1' and 'n2' want the same ports: tcp://127.0.0.1:7500 and tcp://127.0.0.1:7500; "
            "each takes three, from its own on");
    REFUSED(map->nodes[2].id = map->nodes[1].id, "nodes 'n2' and 'n3' have one id");
}

/* ---- Joining -------------------------------------------------------------------------------- */

static void test_clustermap__an_empty_map_takes_a_whole_one(void **state)
{
    struct fixture *f = *state;
    found(f->map, 3);
    f->map->partitions[3].state = 2;
    f->map->nodes[1].incarnation = 77;
    snprintf(f->map->nodes[1].rack, NAME_SIZE_MAX, "k1");
    clustermap_set_epoch(f->map, 9, 4);
    struct map_message m = message_of(f, f->map);
    assert_int_equal(m.count, 1 + 3 + 64);
    bool changed = false;
    assert_int_equal(clustermap_join(f->other, &m, &changed), STATUS_OK);
    assert_true(changed);
    assert_same(f->other, f->map);
    assert_int_equal(clustermap_join(f->other, &m, &changed), STATUS_OK);
    assert_false(changed);
    assert_same(f->other, f->map);
}

static void test_clustermap__the_largest_map_fits_one_message(void **state)
{
    struct fixture *f = *state;
    found(f->map, 1); /* a small one, to be replaced */
    clustermap_destroy(&f->map);
    f->map = clustermap_new();
    describe(f->map, 3);
    f->map->partition_count = PARTITIONS_MAX;
    assert_int_equal(clustermap_found(f->map, NULL), STATUS_OK);
    for (uint32_t i = 3; i < NODES_MAX; i++) {
        struct clustermap_node *node = &f->map->nodes[i];
        *node = (struct clustermap_node){.version = 1, .id = id_of(1)};
        memset(node->name, 'n', NAME_SIZE_MAX - 1);
        memset(node->host, 'h', NAME_SIZE_MAX - 1);
        memset(node->rack, 'r', NAME_SIZE_MAX - 1);
        memset(node->address, 'a', ADDRESS_SIZE_MAX - 1);
    }
    f->map->nodes_count = NODES_MAX;
    f->map->version += NODES_MAX - 3;
    for (uint32_t p = 0; p < PARTITIONS_MAX; p++) {
        struct clustermap_partition *partition = &f->map->partitions[p];
        partition->isr_count = partition->assigned_count = COPIES_MAX;
        for (uint32_t i = 0; i < COPIES_MAX; i++) {
            partition->isr[i] = partition->assigned[i] = NODES_MAX - 1 - i;
            partition->replica_ids[i] = UINT64_MAX;
        }
        partition->primary = NODES_MAX - 1;
    }
    struct map_message m = message_of(f, f->map);
    bool changed;
    assert_int_equal(clustermap_join(f->other, &m, &changed), STATUS_OK);
    assert_same(f->other, f->map);
}

static void test_clustermap__the_newer_register_wins_on_both_sides(void **state)
{
    struct fixture *f = *state;
    found(f->map, 3);
    found(f->other, 3);
    clustermap_set_epoch(f->map, 1, 5);
    clustermap_set_epoch(f->other, 1, 4);
    clustermap_set_epoch(f->other, 2, 6);
    bool changed;
    struct map_message m = message_of(f, f->map);
    assert_int_equal(clustermap_join(f->other, &m, &changed), STATUS_OK);
    assert_true(changed);
    assert_true(f->other->partitions[1].epoch == 5);
    assert_true(f->other->partitions[2].epoch == 6);
    assert_true(f->other->partitions[2].opened);
    assert_int_equal(clustermap_join(f->other, &m, &changed), STATUS_OK);
    assert_false(changed);
    m = message_of(f, f->other);
    assert_int_equal(clustermap_join(f->map, &m, &changed), STATUS_OK);
    assert_true(changed);
    assert_same(f->map, f->other);
}

static void test_clustermap__a_message_of_one_register_is_enough_later(void **state)
{
    struct fixture *f = *state;
    found(f->map, 3);
    found(f->other, 3);
    clustermap_set_epoch(f->other, 63, 8);
    struct map_message m = message_of(f, f->other);
    struct map_message one = {1, register_of(&m, "partition/63")};
    bool changed;
    assert_int_equal(clustermap_join(f->map, &one, &changed), STATUS_OK);
    assert_true(changed);
    assert_same(f->map, f->other);
}

static void test_clustermap__a_later_node_joins(void **state)
{
    struct fixture *f = *state;
    found(f->map, 3);
    found(f->other, 3);
    f->other->nodes[6] = (struct clustermap_node){
        .version = 4, .id = id_of(7), .name = "n7", .address = "tcp://127.0.0.1:7600"};
    f->other->nodes_count = 7;
    f->other->version += 4;
    struct map_message m = message_of(f, f->other);
    bool changed;
    assert_int_equal(clustermap_join(f->map, &m, &changed), STATUS_OK);
    assert_same(f->map, f->other);
    assert_int_equal(clustermap_node_by_name(f->map, "n7"), 6);
    assert_int_equal(clustermap_node_by_id(f->map, id_of(7)), 6);
    assert_int_equal(clustermap_node_by_id(f->map, id_of(0)), UINT32_MAX);
    assert_int_equal(clustermap_node_by_name(f->map, ""), UINT32_MAX); /* indexes 3 to 5 are free */
}

static void test_clustermap__another_clusters_map_is_refused(void **state)
{
    struct fixture *f = *state;
    found(f->map, 3);
    describe(f->other, 3);
    f->other->cluster_id = id_of(0xdd);
    assert_int_equal(clustermap_found(f->other, NULL), STATUS_OK);
    clustermap_set_epoch(f->other, 0, 5);
    const uint64_t version = f->map->version;
    struct map_message m = message_of(f, f->other);
    bool changed;
    assert_int_equal(clustermap_join(f->map, &m, &changed), STATUS_WRONGCLUSTER);
    assert_false(changed);
    assert_true(f->map->version == version);
    assert_true(f->map->partitions[0].epoch == 0);
}

static void test_clustermap__an_empty_map_takes_nothing_less_than_a_whole_one(void **state)
{
    struct fixture *f = *state;
    found(f->map, 3);
    struct map_message whole = message_of(f, f->map);
    bool changed;
    for (size_t without = 0; without < whole.count; without++) {
        struct reg left = whole.registers[without];
        whole.registers[without] = whole.registers[whole.count - 1];
        struct map_message m = {whole.count - 1, whole.registers};
        assert_int_equal(clustermap_join(f->other, &m, &changed), STATUS_MALFORMED);
        assert_true(clustermap_empty(f->other));
        assert_true(f->other->version == 0);
        assert_int_equal(f->other->nodes_count, 0);
        whole.registers[without] = left;
    }
    assert_int_equal(clustermap_join(f->other, &(struct map_message){0}, &changed),
                     STATUS_MALFORMED);
    assert_int_equal(clustermap_join(f->other, &whole, &changed), STATUS_OK);
}

/* ---- Bad registers -------------------------------------------------------------------------- */

/* Join a newer register with this name and value into a founded map that must not change, together
 * with a good one. */
static void assert_refused(struct fixture *f, const char *name, struct bytes value)
{
    struct clustermap *map = clustermap_new(), *newer = clustermap_new();
    found(map, 3);
    found(newer, 3);
    clustermap_set_epoch(newer, 5, 9);
    struct map_message m = message_of(f, newer);
    struct reg registers[] = {*register_of(&m, "partition/5"), {bytes_text(name), 100, value}};
    bool changed;
    assert_int_equal(clustermap_join(map, &(struct map_message){2, registers}, &changed),
                     STATUS_MALFORMED);
    assert_false(changed);
    assert_true(map->partitions[5].epoch == 0);
    assert_true(map->version == 1 + 3 + 64);
    clustermap_destroy(&map);
    clustermap_destroy(&newer);
}

static void assert_partition_refused(struct fixture *f, const struct partition_value *value)
{
    struct buffer part;
    buffer_init(&part, 4096);
    assert_int_equal(codec_pack_partition_value(value, &part), STATUS_OK);
    assert_refused(f, "partition/6", buffer_view(&part));
    buffer_fini(&part);
}

static void test_clustermap__one_bad_register_refuses_the_whole_message(void **state)
{
    struct fixture *f = *state;
    assert_refused(f, "partition/6", bytes_text("nonsense"));
    assert_refused(f, "partition/6", BYTES_EMPTY); /* no primary in an empty set */
    assert_refused(f, "node/1", bytes_text("nonsense"));
    assert_refused(f, "node/1", BYTES_EMPTY);
    assert_refused(f, "cluster", bytes_text("nonsense"));
}

static void test_clustermap__register_names_out_of_bounds_are_refused(void **state)
{
    struct fixture *f = *state;
    const char *names[] = {
        "partition/64",    "partition/-1", "partition/",
        "partition/ 1",    "partition/01", "partition/1x",
        "node/1024",       "node/",        "node/99999999999999999999",
        "node/4294967297",
    };
    struct clustermap *map = clustermap_new();
    found(map, 3);
    struct map_message m = message_of(f, map);
    struct bytes node = register_of(&m, "node/0")->value;
    struct bytes partition = register_of(&m, "partition/0")->value;
    struct buffer values[2];
    for (int i = 0; i < 2; i++) {
        buffer_init(&values[i], 4096);
        assert_int_equal(buffer_append(&values[i], i == 0 ? node : partition), STATUS_OK);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_refused(f, names[i], buffer_view(&values[names[i][0] == 'p']));
    buffer_fini(&values[0]);
    buffer_fini(&values[1]);
    clustermap_destroy(&map);
}

static void test_clustermap__partitions_of_unknown_or_doubled_nodes_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct partition_value unknown = {.primary = 3, .isr_count = 1, .isr = (uint32_t[]){3}};
    assert_partition_refused(f, &unknown);
    const struct partition_value unknown_assigned = {.primary = 0,
                                                     .isr_count = 1,
                                                     .isr = (uint32_t[]){0},
                                                     .assigned_count = 1,
                                                     .assigned = (uint32_t[]){3}};
    assert_partition_refused(f, &unknown_assigned);
    const struct partition_value doubled = {
        .primary = 1, .isr_count = 2, .isr = (uint32_t[]){1, 1}};
    assert_partition_refused(f, &doubled);
    const struct partition_value stranger = {
        .primary = 2, .isr_count = 2, .isr = (uint32_t[]){0, 1}};
    assert_partition_refused(f, &stranger);
}

static void test_clustermap__the_number_of_partitions_never_changes(void **state)
{
    struct fixture *f = *state;
    struct buffer part;
    buffer_init(&part, 4096);
    struct id128 id = id_of(0xcc);
    struct cluster_value value = {
        .cluster_id = bytes_of(&id, sizeof id),
        .partition_count = 128,
        .copies = 2,
        .isr_min = 1,
    };
    assert_int_equal(codec_pack_cluster_value(&value, &part), STATUS_OK);
    assert_refused(f, "cluster", buffer_view(&part));
    /* The other fields do. */
    found(f->map, 3);
    value.partition_count = 64;
    value.copies = 3;
    buffer_clear(&part);
    assert_int_equal(codec_pack_cluster_value(&value, &part), STATUS_OK);
    struct reg one = {bytes_text("cluster"), 2, buffer_view(&part)};
    bool changed;
    assert_int_equal(clustermap_join(f->map, &(struct map_message){1, &one}, &changed), STATUS_OK);
    assert_true(changed);
    assert_int_equal(f->map->copies, 3);
    assert_true(f->map->version == 1 + 3 + 64 + 1);
    buffer_fini(&part);
}

static void test_clustermap__registers_of_a_later_version_are_skipped(void **state)
{
    struct fixture *f = *state;
    found(f->map, 3);
    struct reg one = {bytes_text("quota/7"), 5, bytes_text("?")};
    bool changed;
    assert_int_equal(clustermap_join(f->map, &(struct map_message){1, &one}, &changed), STATUS_OK);
    assert_false(changed);
}

/* ---- Epochs --------------------------------------------------------------------------------- */

static void test_clustermap__set_epoch_makes_a_newer_register(void **state)
{
    struct fixture *f = *state;
    found(f->map, 3);
    const uint64_t version = f->map->version;
    clustermap_set_epoch(f->map, 7, 3);
    assert_true(f->map->partitions[7].version == 4);
    assert_true(f->map->version == version + 3);
    assert_true(f->map->partitions[7].epoch == 3);
    assert_true(f->map->partitions[7].opened);
    assert_true(f->map->partitions[6].version == 1);
    clustermap_set_epoch(f->map, 7, 3);
    assert_true(f->map->partitions[7].version == 5);
    assert_true(f->map->version == version + 4);
}

/* After a restart the primary has the first map again. What it says of its next epoch must win over
 * what others remember of the ones before; each epoch is said once. */
static void test_clustermap__a_restarted_primarys_register_wins(void **state)
{
    struct fixture *f = *state;
    found(f->map, 3);
    found(f->other, 3);
    clustermap_set_epoch(f->other, 7, 1);
    clustermap_set_epoch(f->other, 7, 2);
    clustermap_set_epoch(f->map, 7, 3);
    struct map_message m = message_of(f, f->map);
    bool changed;
    assert_int_equal(clustermap_join(f->other, &m, &changed), STATUS_OK);
    assert_true(changed);
    assert_true(f->other->partitions[7].epoch == 3);
}

/* ---- One register --------------------------------------------------------------------------- */

static void test_clustermap__voters_to_come_travel_with_the_register(void **state)
{
    struct fixture *f = *state;
    bool changed;
    found(f->map, 4);
    found(f->other, 4);
    const struct clustermap_voters joint = {
        .count = 3, .next_count = 1, .nodes = {0, 1, 2}, .next = {3}};
    assert_int_equal(clustermap_encode_cluster(f->map, &joint, &f->out), STATUS_OK);
    assert_int_equal(clustermap_take(f->map, "cluster", 2, buffer_view(&f->out), &changed),
                     STATUS_OK);
    assert_true(changed);
    buffer_clear(&f->out);
    assert_int_equal(clustermap_pack_nodes(f->map, &f->out), STATUS_OK);
    struct map_message m;
    assert_int_equal(codec_unpack_map(buffer_view(&f->out), &f->arena, &m), STATUS_OK);
    assert_int_equal(m.count, 1 + 4);
    assert_int_equal(clustermap_join(f->other, &m, &changed), STATUS_OK);
    assert_memory_equal(&f->other->voters, &joint, sizeof joint);
    assert_true(f->other->version == f->map->version);
}

static void test_clustermap__a_nodes_register_is_taken_if_it_is_newer(void **state)
{
    struct fixture *f = *state;
    bool changed;
    found(f->map, 3);
    struct clustermap_node node = f->map->nodes[1];
    node.disk = 77;
    assert_int_equal(clustermap_encode_node(&node, &f->out), STATUS_OK);
    assert_int_equal(clustermap_take(f->map, "node/1", 1, buffer_view(&f->out), &changed),
                     STATUS_OK);
    assert_false(changed);
    assert_int_equal(clustermap_take(f->map, "node/1", 2, buffer_view(&f->out), &changed),
                     STATUS_OK);
    assert_true(changed);
    assert_true(f->map->nodes[1].disk == 77 && f->map->nodes[1].version == 2);
    assert_string_equal(f->map->nodes[1].name, "n2");
    assert_int_equal(clustermap_take(f->map, "node/1", 3, BYTES_EMPTY, &changed),
                     STATUS_MALFORMED);
}

static void test_clustermap__an_address_leaves_room_for_two_more_ports(void **state)
{
    static const char *const good[] = {"tcp://127.0.0.1:7500", "tcp://h:1", "tcp://[::1]:65533"};
    static const char *const bad[] = {"",           "127.0.0.1:7500", "tcp://h",        "tcp://h:",
                                      "tcp://:75",  "tcp://h:0",      "tcp://h:65534",  "tcp://h:7x",
                                      "tcp://h:-1", "tcp://\"h:75",   "tcp://h:99999999999"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(clustermap_address_good(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(clustermap_address_good(bad[i]));
}

static void test_clustermap__nodes_of_one_host_need_three_ports_each(void **state)
{
    (void)state;
    assert_true(clustermap_addresses_meet("tcp://h:7500", "tcp://h:7500"));
    assert_true(clustermap_addresses_meet("tcp://h:7500", "tcp://h:7502"));
    assert_true(clustermap_addresses_meet("tcp://h:10001", "tcp://h:9999"));
    assert_false(clustermap_addresses_meet("tcp://h:7500", "tcp://h:7503"));
    assert_false(clustermap_addresses_meet("tcp://h:7503", "tcp://h:7500"));
    assert_false(clustermap_addresses_meet("tcp://h:7500", "tcp://i:7500"));
    assert_false(clustermap_addresses_meet("tcp://h:7500", "tcp://host:7500"));
}

static void test_clustermap__what_is_newer_of_the_nodes_shows_in_their_version(void **state)
{
    struct fixture *f = *state;
    found(f->map, 3);
    uint64_t version = clustermap_nodes_version(f->map);
    clustermap_set_epoch(f->map, 7, 3);
    assert_true(clustermap_nodes_version(f->map) == version);
    f->map->nodes[2].version++;
    assert_true(clustermap_nodes_version(f->map) == version + 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_clustermap__##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_new_map_is_empty),
        CASE(found_places_all_partitions),
        CASE(found_twice_gives_the_same),
        CASE(nodes_on_one_host_do_not_share_a_partition),
        CASE(a_node_without_a_host_label_is_its_own_host),
        CASE(racks_keep_copies_apart),
        CASE(what_cannot_be_founded_is_refused_with_a_reason),
        CASE(an_empty_map_takes_a_whole_one),
        CASE(the_largest_map_fits_one_message),
        CASE(the_newer_register_wins_on_both_sides),
        CASE(a_message_of_one_register_is_enough_later),
        CASE(a_later_node_joins),
        CASE(another_clusters_map_is_refused),
        CASE(an_empty_map_takes_nothing_less_than_a_whole_one),
        CASE(one_bad_register_refuses_the_whole_message),
        CASE(register_names_out_of_bounds_are_refused),
        CASE(partitions_of_unknown_or_doubled_nodes_are_refused),
        CASE(the_number_of_partitions_never_changes),
        CASE(registers_of_a_later_version_are_skipped),
        CASE(set_epoch_makes_a_newer_register),
        CASE(a_restarted_primarys_register_wins),
        CASE(an_address_leaves_room_for_two_more_ports),
        CASE(nodes_of_one_host_need_three_ports_each),
        CASE(what_is_newer_of_the_nodes_shows_in_their_version),
        CASE(voters_to_come_travel_with_the_register),
        CASE(a_nodes_register_is_taken_if_it_is_newer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
