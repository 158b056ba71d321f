#include "storage/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above. */
#include <cmocka.h>

#include "storage/record.h"

static void print_bytes(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        printf("0x%02x,%s", bytes[i], i % 12 == 11 ? "\n" : " ");
    printf("\n");
}

static void assert_bytes(const uint8_t *bytes, const uint8_t *expected, size_t size)
{
    if (memcmp(bytes, expected, size) != 0)
        print_bytes(bytes, size);
    assert_memory_equal(bytes, expected, size);
}

/* The format is final: disks in the field hold these bytes. */
static void test_segment__header_stands_as_documented(void **state)
{
    (void)state;
    uint8_t block[DISK_ALIGNMENT];
    struct segment_header h = {0x0102030405060708, 7, 0xa1a2a3a4a5a6a7a8}, back;
    segment_header_encode(block, &h);
    static const uint8_t expected[48] = {
        0x44, 0x53, 0x65, 0x67, 0x01, 0x00, 0x00, 0x00, 0x08, 0x07, 0x06, 0x05,
        0x04, 0x03, 0x02, 0x01, 0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0xa8, 0xa7, 0xa6, 0xa5, 0xa4, 0xa3, 0xa2, 0xa1, 0xc2, 0x4c, 0x84, 0xd2,
        0xdf, 0x6c, 0xb7, 0x9f, 0x4e, 0x71, 0x24, 0x73, 0x18, 0xcb, 0x3d, 0x9d,
    };
    assert_bytes(block, expected, sizeof expected);
    for (size_t i = sizeof expected; i < sizeof block; i++)
        assert_int_equal(block[i], 0);
    assert_int_equal(segment_header_decode(block, &back), STATUS_OK);
    assert_true(back.number == h.number && back.first_lsn == 7 && back.node_tag == h.node_tag);
}

static void test_segment__every_damaged_byte_of_a_header_is_found(void **state)
{
    (void)state;
    uint8_t block[DISK_ALIGNMENT];
    struct segment_header h = {1, 2, 3}, back;
    segment_header_encode(block, &h);
    for (size_t i = 0; i < sizeof block; i++) {
        block[i] ^= 0x10;
        assert_int_equal(segment_header_decode(block, &back), STATUS_CORRUPT);
        block[i] ^= 0x10;
    }
}

/* Two entries of slot 5 and one of slot 9, a promise of slot 8. */
static void fill_records(struct buffer *out)
{
    static const uint64_t positions[][3] = {{5, 2, 40}, {9, 1, 7}, {5, 3, 41}};
    uint8_t body[24] = {0};
    for (size_t i = 0; i < 3; i++) {
        bytes_put_le64(body + 8, positions[i][1]);
        bytes_put_le64(body + 16, positions[i][2]);
        assert_int_equal(record_append(out, RECORD_ENTRY, (uint32_t)positions[i][0],
                                       bytes_of(body, sizeof body)),
                         STATUS_OK);
    }
    assert_int_equal(record_append(out, RECORD_PROMISE, 8, bytes_of(body, 8)), STATUS_OK);
}

static void test_segment__group_stands_as_documented(void **state)
{
    (void)state;
    uint8_t memory[SEGMENT_GROUP_HEADER_SIZE + 8] = {0};
    struct segment_group g = {.size = sizeof memory,
                              .count = 2,
                              .first_lsn = 10,
                              .durable_lsn = 9,
                              .number = 3,
                              .node_tag = 4},
                         back;
    memcpy(memory + SEGMENT_GROUP_HEADER_SIZE, "records.", 8);
    segment_group_seal(memory, &g);
    static const uint8_t expected[72] = {
        0x44, 0x47, 0x72, 0x70, 0x48, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x0a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x5c, 0x8a, 0xcc, 0xe7, 0xa1, 0x88, 0x05, 0x22, 0xa3, 0x44, 0x02, 0x29,
        0x26, 0xb6, 0xd9, 0x0c, 0x72, 0x65, 0x63, 0x6f, 0x72, 0x64, 0x73, 0x2e,
    };
    assert_bytes(memory, expected, sizeof expected);
    assert_true(segment_group_peek(memory, 3, 4, &back));
    assert_true(back.size == g.size && back.count == 2 && back.first_lsn == 10);
    assert_true(back.durable_lsn == 9 && back.number == 3 && back.node_tag == 4);
    assert_true(segment_group_verify(memory, &back));
    assert_false(segment_group_peek(memory, 2, 4, &back));
    assert_false(segment_group_peek(memory, 3, 5, &back));
}

static void test_segment__every_damaged_byte_of_a_group_is_found(void **state)
{
    (void)state;
    uint8_t memory[SEGMENT_GROUP_HEADER_SIZE + 8] = {0};
    struct segment_group g = {.size = sizeof memory, .count = 1, .number = 3, .node_tag = 4}, back;
    segment_group_seal(memory, &g);
    for (size_t i = 0; i < sizeof memory; i++) {
        memory[i] ^= 0x10;
        bool good = segment_group_peek(memory, 3, 4, &back) && back.size <= sizeof memory &&
                    segment_group_verify(memory, &back);
        assert_false(good);
        memory[i] ^= 0x10;
    }
    assert_true(segment_group_verify(memory, &g));
}

static void test_segment__slots_gather_positions_of_entries_only(void **state)
{
    (void)state;
    struct segment_slots s;
    struct buffer records;
    uint32_t count;
    segment_slots_init(&s);
    buffer_init(&records, 4096);
    fill_records(&records);
    assert_int_equal(segment_slots_reserve(&s, buffer_view(&records), &count), STATUS_OK);
    assert_int_equal(count, 4);
    assert_int_equal(s.count, 2);
    segment_slots_add(&s, buffer_view(&records), 512);
    segment_slots_add(&s, buffer_view(&records), 1024);
    assert_int_equal(s.rows[0].slot, 5);
    assert_true(s.rows[0].first_seq == 40 && s.rows[0].last_seq == 41);
    assert_true(s.rows[0].first_epoch == 2 && s.rows[0].last_epoch == 3);
    assert_int_equal(s.rows[0].offset, 512);
    assert_int_equal(s.rows[1].slot, 9);
    segment_slots_clear(&s);
    assert_int_equal(s.count, 0);
    struct bytes damaged = bytes_of(records.data, records.size - 8);
    assert_int_equal(segment_slots_reserve(&s, damaged, &count), STATUS_CORRUPT);
    buffer_fini(&records);
    segment_slots_fini(&s);
}

static void test_segment__many_slots_are_found_again(void **state)
{
    (void)state;
    struct segment_slots s;
    struct buffer record;
    uint8_t body[24] = {0};
    uint32_t count;
    segment_slots_init(&s);
    buffer_init(&record, 4096);
    for (uint32_t i = 0; i < 40000; i++) {
        uint32_t slot = i % 20000 * 1024;
        buffer_clear(&record);
        bytes_put_le64(body + 16, i);
        assert_int_equal(record_append(&record, RECORD_ENTRY, slot, bytes_of(body, 24)), STATUS_OK);
        assert_int_equal(segment_slots_reserve(&s, buffer_view(&record), &count), STATUS_OK);
        segment_slots_add(&s, buffer_view(&record), 512);
    }
    assert_int_equal(s.count, 20000);
    for (uint32_t i = 0; i < 20000; i++) {
        assert_int_equal(s.rows[i].slot, i * 1024);
        assert_true(s.rows[i].first_seq == i && s.rows[i].last_seq == i + 20000);
    }
    buffer_fini(&record);
    segment_slots_fini(&s);
}

static void test_segment__every_damaged_byte_of_a_footer_is_found(void **state)
{
    (void)state;
    struct segment_slot rows[30] = {{.slot = 1, .last_seq = 8}};
    struct segment_footer f = {3, 4, 99, 4096, 30}, back;
    size_t size = segment_footer_size(30);
    assert_int_equal(size, 1536);
    uint8_t *memory = malloc(size);
    segment_footer_encode(memory, &f, rows);
    uint8_t *head = memory + size - SEGMENT_FOOTER_HEAD_SIZE;
    assert_true(segment_footer_peek(head, 3, 4, &back));
    assert_true(back.last_lsn == 99 && back.groups_end == 4096 && back.count == 30);
    assert_true(segment_footer_verify(bytes_of(memory, size), &back));
    for (size_t i = 0; i < size; i++) {
        memory[i] ^= 0x10;
        bool good = segment_footer_peek(head, 3, 4, &back) && back.count == 30 &&
                    segment_footer_verify(bytes_of(memory, size), &back);
        assert_false(good);
        memory[i] ^= 0x10;
    }
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment__header_stands_as_documented),
        cmocka_unit_test(test_segment__every_damaged_byte_of_a_header_is_found),
        cmocka_unit_test(test_segment__group_stands_as_documented),
        cmocka_unit_test(test_segment__every_damaged_byte_of_a_group_is_found),
        cmocka_unit_test(test_segment__slots_gather_positions_of_entries_only),
        cmocka_unit_test(test_segment__many_slots_are_found_again),
        cmocka_unit_test(test_segment__every_damaged_byte_of_a_footer_is_found),
    };
    return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
