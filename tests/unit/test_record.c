#include "storage/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/random.h"

static struct buffer new_buffer(void)
{
    struct buffer b;
    buffer_init(&b, RECORD_SIZE_MAX * 2);
    return b;
}

static struct effect put_effects[2]; /* of entry_put(); room for one more */
static struct effect room[ENTRY_EFFECTS_MAX];

static struct entry entry_put(void)
{
    put_effects[0] = (struct effect){.kind = EFFECT_PUT,
                                     .digest = 0x1122334455667788,
                                     .expiry_ms = 9,
                                     .key = bytes_text("apple"),
                                     .value = bytes_text("red")};
    return (struct entry){
        .kind = ENTRY_WRITE,
        .status = STATUS_OK,
        .epoch = 0x0102030405060708,
        .seq = 2,
        .prev_epoch = 3,
        .prev_hash = 4,
        .ptime = 5,
        .client = 6,
        .client_seq = 7,
        .ack_below = 8,
        .key_hash = 10,
        .result_flags = RESULT_HAS_VALUE,
        .result = bytes_text("old"),
        .effects_count = 1,
        .effects = put_effects,
    };
}

static void assert_same_entry(const struct entry *a, const struct entry *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->seq, b->seq);
    assert_int_equal(a->prev_epoch, b->prev_epoch);
    assert_int_equal(a->prev_hash, b->prev_hash);
    assert_int_equal(a->ptime, b->ptime);
    assert_int_equal(a->client, b->client);
    assert_int_equal(a->client_seq, b->client_seq);
    assert_int_equal(a->ack_below, b->ack_below);
    assert_int_equal(a->horizon, b->horizon);
    assert_int_equal(a->key_hash, b->key_hash);
    assert_int_equal(a->result_flags, b->result_flags);
    assert_true(bytes_equal(a->result, b->result));
    assert_int_equal(a->effects_count, b->effects_count);
    for (uint32_t i = 0; i < a->effects_count; i++) {
        assert_int_equal(a->effects[i].kind, b->effects[i].kind);
        assert_int_equal(a->effects[i].digest, b->effects[i].digest);
        assert_int_equal(a->effects[i].expiry_ms, b->effects[i].expiry_ms);
        assert_true(bytes_equal(a->effects[i].key, b->effects[i].key));
        assert_true(bytes_equal(a->effects[i].value, b->effects[i].value));
    }
}

/* The format is final: these bytes stand on disks and travel between versions. */
static void test_record__an_entry_has_the_bytes_that_the_header_tells(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        1,    1,    0,    1,    131,  0,    0,    0, /* version, kind, status, effects, size */
        8,    7,    6,    5,    4,    3,    2,    1, /* epoch */
        2,    0,    0,    0,    0,    0,    0,    0, /* seq */
        3,    0,    0,    0,    0,    0,    0,    0, /* prev_epoch */
        4,    0,    0,    0,    0,    0,    0,    0, /* prev_hash */
        5,    0,    0,    0,    0,    0,    0,    0, /* ptime */
        6,    0,    0,    0,    0,    0,    0,    0, /* client */
        7,    0,    0,    0,    0,    0,    0,    0, /* client_seq */
        8,    0,    0,    0,    0,    0,    0,    0, /* ack_below */
        0,    0,    0,    0,    0,    0,    0,    0, /* horizon */
        10,   0,    0,    0,    0,    0,    0,    0, /* key hash */
        1,    0,    0,    0,    3,    0,    0,    0,    'o', 'l', 'd', /* result */
        1,    0,    5,    0,    3,    0,    0,    0,    /* effect: kind, 0, key size, value size */
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* digest */
        9,    0,    0,    0,    0,    0,    0,    0,    /* expiry */
        'a',  'p',  'p',  'l',  'e',  'r',  'e',  'd',
    };
    struct entry e = entry_put();
    struct buffer b = new_buffer();
    assert_int_equal(record_entry_encode(&e, &b), STATUS_OK);
    assert_int_equal(b.size, sizeof expected);
    assert_memory_equal(b.data, expected, sizeof expected);
    buffer_fini(&b);
}

static void test_record__a_frame_has_the_bytes_that_the_header_tells(void **state)
{
    (void)state;
    static const uint8_t expected[] = {32,  0,   0,   0, 3, 0,   0,   0,   4,   3,   2,
                                       1,   0,   0,   0, 0, 'b', 'o', 'd', 'y', ' ', 'b',
                                       'o', 'd', 'y', 0, 0, 0,   0,   0,   0,   0};
    struct buffer b = new_buffer();
    assert_int_equal(record_append(&b, RECORD_PROMISE, 0x01020304, bytes_text("body body")),
                     STATUS_OK);
    assert_int_equal(b.size, sizeof expected);
    assert_memory_equal(b.data, expected, sizeof expected);
    buffer_fini(&b);
}

static void test_record__records_come_off_in_order(void **state)
{
    (void)state;
    struct buffer b = new_buffer();
    assert_int_equal(record_append(&b, RECORD_ENTRY, 5, bytes_text("eight888")), STATUS_OK);
    assert_int_equal(record_append(&b, RECORD_CLOSE, 0, BYTES_EMPTY), STATUS_OK);
    struct bytes rest = buffer_view(&b);
    struct record_view r;
    assert_int_equal(record_next(&rest, &r), STATUS_OK);
    assert_int_equal(r.kind, RECORD_ENTRY);
    assert_int_equal(r.slot, 5);
    assert_true(bytes_equal(r.body, bytes_text("eight888")));
    assert_int_equal(record_next(&rest, &r), STATUS_OK);
    assert_int_equal(r.kind, RECORD_CLOSE);
    assert_int_equal(r.body.size, 0);
    assert_int_equal(record_next(&rest, &r), STATUS_NOTFOUND);
    buffer_fini(&b);
}

static void test_record__a_record_that_does_not_fit_changes_nothing(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 40);
    assert_int_equal(record_append(&b, RECORD_ENTRY, 1, bytes_text("123456789")), STATUS_OK);
    assert_int_equal(record_append(&b, RECORD_CLOSE, 1, BYTES_EMPTY), STATUS_TOOBIG);
    struct entry e = entry_put();
    assert_int_equal(record_entry_encode(&e, &b), STATUS_TOOBIG);
    assert_int_equal(b.size, 32);
    buffer_fini(&b);
    uint8_t *large = calloc(1, RECORD_SIZE_MAX);
    b = new_buffer();
    assert_int_equal(
        record_append(&b, RECORD_ENTRY, 1, bytes_of(large, RECORD_SIZE_MAX - RECORD_HEADER_SIZE)),
        STATUS_OK);
    assert_int_equal(record_append(&b, RECORD_ENTRY, 1,
                                   bytes_of(large, RECORD_SIZE_MAX - RECORD_HEADER_SIZE + 1)),
                     STATUS_TOOBIG);
    buffer_fini(&b);
    free(large);
}

static enum status encode_status(const struct entry *e)
{
    struct buffer b = new_buffer();
    enum status s = record_entry_encode(e, &b);
    assert_true(s == STATUS_OK || b.size == 0);
    buffer_fini(&b);
    return s;
}

static void test_record__what_is_beyond_a_limit_is_not_encoded(void **state)
{
    (void)state;
    uint8_t *large = calloc(1, VALUE_SIZE_MAX + 1);
    struct entry e = entry_put();
    e.effects[0].value = bytes_of(large, VALUE_SIZE_MAX);
    assert_int_equal(encode_status(&e), STATUS_OK);
    e.effects[0].value.size++;
    assert_int_equal(encode_status(&e), STATUS_TOOBIG);
    e = entry_put();
    e.effects[0].key = bytes_of(large, KEY_SIZE_MAX);
    assert_int_equal(encode_status(&e), STATUS_OK);
    e.effects[0].key.size++;
    assert_int_equal(encode_status(&e), STATUS_TOOBIG);
    e = entry_put();
    e.result = bytes_of(large, RESULT_SIZE_MAX);
    assert_int_equal(encode_status(&e), STATUS_OK);
    e.result.size++;
    assert_int_equal(encode_status(&e), STATUS_TOOBIG);
    free(large);
}

static void test_record__every_kind_of_entry_comes_back(void **state)
{
    (void)state;
    struct entry entries[] = {
        entry_put(),
        {.kind = ENTRY_WRITE, .status = STATUS_CONDITION, .seq = 1, .client = 1},
        {.kind = ENTRY_WRITE,
         .client = 1,
         .effects_count = 2,
         .effects = (struct effect[]){{.kind = EFFECT_DELETE, .key = bytes_text("a")},
                                      {.kind = EFFECT_PUT, .key = bytes_text("b")}}},
        {.kind = ENTRY_EPOCH, .epoch = 4, .seq = 9},
        {.kind = ENTRY_LAPSE,
         .epoch = 4,
         .seq = 9,
         .effects_count = 1,
         .effects = (struct effect[]){
             {.kind = EFFECT_DELETE, .digest = 3, .key = bytes_text("pear")}}},
        {.kind = ENTRY_ABORTED, .status = STATUS_ABORTED, .client = 1, .client_seq = 2},
        {.kind = ENTRY_EXPIRE, .horizon = UINT64_MAX},
        {.kind = ENTRY_WRITE, .client = 1, .result_flags = RESULT_HAS_VALUE | RESULT_TRIMMED},
    };
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        struct buffer b = new_buffer();
        struct entry e;
        assert_int_equal(record_entry_encode(&entries[i], &b), STATUS_OK);
        assert_int_equal(record_entry_decode(buffer_view(&b), &e, room), STATUS_OK);
        assert_same_entry(&entries[i], &e);
        buffer_fini(&b);
    }
}

static void test_record__a_framed_entry_decodes_with_its_padding(void **state)
{
    (void)state;
    struct entry e = entry_put(), back;
    struct buffer body = new_buffer(), framed = new_buffer();
    assert_int_equal(record_entry_encode(&e, &body), STATUS_OK);
    assert_int_equal(record_append(&framed, RECORD_ENTRY, 3, buffer_view(&body)), STATUS_OK);
    struct bytes rest = buffer_view(&framed);
    struct record_view r;
    assert_int_equal(record_next(&rest, &r), STATUS_OK);
    assert_int_equal(r.body.size, 136);
    assert_int_equal(record_entry_decode(r.body, &back, room), STATUS_OK);
    assert_same_entry(&e, &back);
    assert_true(bytes_equal(record_entry_trim(r.body), buffer_view(&body)));
    assert_int_equal(record_entry_hash(record_entry_trim(r.body), 11),
                     record_entry_hash(buffer_view(&body), 11));
    buffer_fini(&framed);
    buffer_fini(&body);
}

static void test_record__the_hash_depends_on_the_entry_and_on_all_before(void **state)
{
    (void)state;
    struct entry e = entry_put();
    struct buffer a = new_buffer(), b = new_buffer();
    assert_int_equal(record_entry_encode(&e, &a), STATUS_OK);
    e.effects[0].value = bytes_text("Red");
    assert_int_equal(record_entry_encode(&e, &b), STATUS_OK);
    uint64_t hash = record_entry_hash(buffer_view(&a), 1);
    assert_true(hash != record_entry_hash(buffer_view(&b), 1));
    assert_true(hash != record_entry_hash(buffer_view(&a), 2));
    assert_int_equal(hash, record_entry_hash(buffer_view(&a), 1));
    buffer_fini(&a);
    buffer_fini(&b);
}

static void test_record__the_largest_batch_comes_back_and_one_of_two_tags_does_not(void **state)
{
    (void)state;
    struct effect effects[ENTRY_EFFECTS_MAX];
    char keys[ENTRY_EFFECTS_MAX][8];
    for (unsigned i = 0; i < ENTRY_EFFECTS_MAX; i++) {
        snprintf(keys[i], sizeof keys[i], "{t}%u", i);
        effects[i] = (struct effect){.kind = i % 2 == 0 ? EFFECT_PUT : EFFECT_DELETE,
                                     .digest = 5,
                                     .key = bytes_text(keys[i])};
    }
    struct entry e = {.kind = ENTRY_WRITE,
                      .client = 1,
                      .effects_count = ENTRY_EFFECTS_MAX,
                      .effects = effects},
                 back;
    struct buffer b = new_buffer();
    assert_int_equal(record_entry_encode(&e, &b), STATUS_OK);
    assert_int_equal(record_entry_effects(buffer_view(&b)), ENTRY_EFFECTS_MAX);
    assert_int_equal(record_entry_decode(buffer_view(&b), &back, room), STATUS_OK);
    assert_same_entry(&e, &back);
    b.data[96 + 8] ^= 1; /* the first effect's digest */
    assert_int_equal(record_entry_decode(buffer_view(&b), &back, room), STATUS_CORRUPT);
    buffer_fini(&b);
}

static void test_record__a_tags_hash_is_no_keys_hash(void **state)
{
    (void)state;
    uint8_t octets[8];
    bytes_put_le64(octets, 77);
    assert_true(record_tag_hash(77) != record_key_hash(bytes_of(octets, 8)));
    assert_true(record_tag_hash(77) != record_tag_hash(78));
}

static void test_record__small_bodies_come_back(void **state)
{
    (void)state;
    uint8_t to[16];
    uint64_t number;
    struct install in = {.partition = 1023, .replica_id = UINT64_MAX - 1}, back;
    record_encode_u64(to, 0x0102030405060708);
    assert_int_equal(record_decode_u64(bytes_of(to, 8), &number), STATUS_OK);
    assert_int_equal(number, 0x0102030405060708);
    assert_int_equal(record_decode_u64(bytes_of(to, 7), &number), STATUS_CORRUPT);
    assert_int_equal(record_decode_u64(bytes_of(to, 16), &number), STATUS_CORRUPT);
    record_encode_install(to, &in);
    assert_int_equal(record_decode_install(bytes_of(to, 16), &back), STATUS_OK);
    assert_int_equal(back.partition, in.partition);
    assert_int_equal(back.replica_id, in.replica_id);
    assert_int_equal(record_decode_install(bytes_of(to, 15), &back), STATUS_CORRUPT);
    to[5] = 1;
    assert_int_equal(record_decode_install(bytes_of(to, 16), &back), STATUS_CORRUPT);
}

/* --- damaged bytes --- */

/* A copy that ends where its memory ends, so that ASan sees a read beyond. */
static uint8_t *exact_copy(struct bytes b)
{
    uint8_t *copy = malloc(b.size == 0 ? 1 : b.size);
    assert_non_null(copy);
    if (b.size > 0)
        memcpy(copy, b.data, b.size);
    return copy;
}

static enum status decode_copy(struct bytes b)
{
    struct entry e;
    uint8_t *copy = exact_copy(b);
    enum status s = record_entry_decode(bytes_of(copy, b.size), &e, room);
    struct bytes trimmed = record_entry_trim(bytes_of(copy, b.size));
    assert_true(trimmed.size <= b.size);
    /* What decodes is exactly what we would have written. */
    if (s == STATUS_OK) {
        struct buffer again = new_buffer();
        assert_int_equal(record_entry_encode(&e, &again), STATUS_OK);
        assert_true(bytes_equal(buffer_view(&again), trimmed));
        buffer_fini(&again);
    }
    free(copy);
    return s;
}

static void test_record__a_truncated_or_longer_entry_is_corrupt(void **state)
{
    (void)state;
    struct entry e = entry_put();
    struct buffer b = new_buffer();
    assert_int_equal(record_entry_encode(&e, &b), STATUS_OK);
    for (size_t size = 0; size < b.size; size++)
        assert_int_equal(decode_copy(bytes_of(b.data, size)), STATUS_CORRUPT);
    for (unsigned more = 0; more < 8; more++) {
        assert_int_equal(decode_copy(buffer_view(&b)), STATUS_OK);
        assert_int_equal(buffer_append(&b, bytes_of("", 1)), STATUS_OK);
    }
    assert_int_equal(decode_copy(buffer_view(&b)), STATUS_CORRUPT);
    b.size--;
    b.data[b.size - 1] = 1;
    assert_int_equal(decode_copy(buffer_view(&b)), STATUS_CORRUPT);
    buffer_fini(&b);
}

static void test_record__flipped_bits_never_break_more_than_the_entry(void **state)
{
    (void)state;
    struct entry e = entry_put();
    e.effects_count = 2;
    e.effects[1] = (struct effect){
        .kind = EFFECT_DELETE, .digest = e.effects[0].digest, .key = bytes_text("pear")};
    struct buffer b = new_buffer();
    assert_int_equal(record_entry_encode(&e, &b), STATUS_OK);
    for (size_t bit = 0; bit < b.size * 8; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        decode_copy(buffer_view(&b));
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    struct random chance;
    random_init(&chance, 5);
    for (int round = 0; round < 30000; round++) {
        struct buffer damaged = new_buffer();
        assert_int_equal(buffer_append(&damaged, buffer_view(&b)), STATUS_OK);
        for (uint64_t n = 1 + random_below(&chance, 4); n > 0; n--)
            damaged.data[random_below(&chance, damaged.size)] = (uint8_t)random_next(&chance);
        decode_copy(bytes_of(damaged.data, random_chance(&chance, 500)
                                               ? damaged.size
                                               : random_below(&chance, damaged.size)));
        buffer_fini(&damaged);
    }
    buffer_fini(&b);
}

/* Each is a byte that an entry of ours never has. */
static void test_record__an_entry_that_we_would_not_write_is_corrupt(void **state)
{
    (void)state;
    const struct {
        size_t at;
        uint8_t byte;
    } cases[] = {
        {0, 0},              /* version */
        {0, 2},              /* version */
        {1, 0},              /* kind */
        {1, 6},              /* kind */
        {1, ENTRY_LAPSE},    /* with client and a value */
        {1, ENTRY_EPOCH},    /* with client and effect */
        {1, ENTRY_ABORTED},  /* with effect */
        {2, STATUS_COUNT},   /* status */
        {3, 0},              /* effects fewer than there are */
        {3, 2},              /* more */
        {3, 5},              /* more than we can hold */
        {88, 0},             /* result without its flag */
        {88, 5},             /* flag that nobody knows */
        {92, 2},             /* result size */
        {99, 0},             /* effect kind */
        {99, EFFECT_DELETE}, /* with a value */
        {99, EFFECT_APPEND}, /* reserved */
        {100, 1},             /* zero byte */
        {101, 0},             /* no key */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct entry e = entry_put();
        struct buffer b = new_buffer();
        assert_int_equal(record_entry_encode(&e, &b), STATUS_OK);
        b.data[cases[i].at] = cases[i].byte;
        if (decode_copy(buffer_view(&b)) != STATUS_CORRUPT)
            fail_msg("byte %zu = %u is taken", cases[i].at, cases[i].byte);
        buffer_fini(&b);
    }
}

static void test_record__damaged_frames_are_corrupt(void **state)
{
    (void)state;
    struct buffer b = new_buffer();
    assert_int_equal(record_append(&b, RECORD_COMMIT, 1, bytes_text("12345678")), STATUS_OK);
    for (size_t size = 1; size < b.size; size++) {
        uint8_t *copy = exact_copy(bytes_of(b.data, size));
        struct bytes rest = bytes_of(copy, size);
        struct record_view r;
        assert_int_equal(record_next(&rest, &r), STATUS_CORRUPT);
        free(copy);
    }
    const struct {
        size_t at;
        uint8_t byte;
    } cases[] = {{0, 0}, {0, 8}, {0, 23}, {0, 32}, {3, 0xff},
                 {4, 0}, {4, 13}, {5, 1},  {7, 1},  {12, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *copy = exact_copy(buffer_view(&b));
        copy[cases[i].at] = cases[i].byte;
        struct bytes rest = bytes_of(copy, b.size);
        struct record_view r;
        assert_int_equal(record_next(&rest, &r), STATUS_CORRUPT);
        assert_int_equal(rest.size, b.size);
        free(copy);
    }
    buffer_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record__an_entry_has_the_bytes_that_the_header_tells),
        cmocka_unit_test(test_record__a_frame_has_the_bytes_that_the_header_tells),
        cmocka_unit_test(test_record__records_come_off_in_order),
        cmocka_unit_test(test_record__a_record_that_does_not_fit_changes_nothing),
        cmocka_unit_test(test_record__what_is_beyond_a_limit_is_not_encoded),
        cmocka_unit_test(test_record__every_kind_of_entry_comes_back),
        cmocka_unit_test(test_record__a_framed_entry_decodes_with_its_padding),
        cmocka_unit_test(test_record__the_hash_depends_on_the_entry_and_on_all_before),
        cmocka_unit_test(test_record__the_largest_batch_comes_back_and_one_of_two_tags_does_not),
        cmocka_unit_test(test_record__a_tags_hash_is_no_keys_hash),
        cmocka_unit_test(test_record__small_bodies_come_back),
        cmocka_unit_test(test_record__a_truncated_or_longer_entry_is_corrupt),
        cmocka_unit_test(test_record__flipped_bits_never_break_more_than_the_entry),
        cmocka_unit_test(test_record__an_entry_that_we_would_not_write_is_corrupt),
        cmocka_unit_test(test_record__damaged_frames_are_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
