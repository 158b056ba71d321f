#include "proto/partition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/limits.h"

/* From Python's hashlib: sha256(key)[:8], and its first 10 bits. */
static void test_partition__digests_are_those_of_sha256(void **state)
{
    (void)state;
    uint8_t high[128]; /* 0x80 to 0xff */
    for (size_t i = 0; i < sizeof high; i++)
        high[i] = (uint8_t)(128 + i);
    const struct {
        struct bytes key;
        uint64_t digest;
        uint32_t of_1024;
    } vectors[] = {
        {BYTES_EMPTY, 0xe3b0c44298fc1c14, 910},
        {bytes_text("a"), 0xca978112ca1bbdca, 810},
        {bytes_text("apple"), 0x3a7bd3e2360a3d29, 233},
        {bytes_text("user:1001"), 0x486bab3d69f62dd8, 289},
        {bytes_text("tag"), 0x2a1073a6e67f0e5f, 168},
        {bytes_of(high, sizeof high), 0x60ae23ee1dd9974d, 386},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        uint64_t digest = partition_digest(vectors[i].key);
        assert_true(digest == vectors[i].digest);
        assert_int_equal(partition_of(digest, 1024), vectors[i].of_1024);
    }
    uint8_t sha256[32];
    partition_sha256(bytes_text("abc"), sha256);
    assert_memory_equal(sha256,
                        "\xba\x78\x16\xbf\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23"
                        "\xb0\x03\x61\xa3\x96\x17\x7a\x9c\xb4\x10\xff\x61\xf2\x00\x15\xad",
                        32);
}

static void test_partition__the_hash_tag_is_what_stands_in_the_first_braces(void **state)
{
    (void)state;
    const struct {
        const char *key, *tag;
    } rules[] = {
        {"plain", "plain"},
        {"{tag}", "tag"},
        {"{tag}:a", "tag"},
        {"a:{tag}:b", "tag"},
        {"a{}b", "a{}b"},         /* nothing between: the whole key */
        {"a{}{tag}", "a{}{tag}"}, /* only the first braces count */
        {"a{tag", "a{tag"},       /* never closed */
        {"a}tag{", "a}tag{"},     /* closed before it opens */
        {"}{tag}", "tag"},        /* an earlier } is nothing */
        {"{a}{b}", "a"},
        {"{{a}}", "{a"}, /* from the first { to the first } after it */
        {"{", "{"},
        {"}", "}"},
        {"{}", "{}"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        struct bytes tag = partition_hash_tag(bytes_text(rules[i].key));
        assert_int_equal(tag.size, strlen(rules[i].tag));
        assert_memory_equal(tag.data, rules[i].tag, tag.size);
        assert_true(partition_digest(bytes_text(rules[i].key)) ==
                        partition_digest(bytes_text(rules[i].tag)) ||
                    strchr(rules[i].tag, '{') != NULL);
    }
    assert_int_equal(partition_hash_tag(BYTES_EMPTY).size, 0);
}

static void test_partition__zero_bytes_are_bytes_like_others(void **state)
{
    (void)state;
    struct bytes tag = partition_hash_tag(bytes_of("a\0{b\0c}", 7));
    assert_int_equal(tag.size, 3);
    assert_memory_equal(tag.data, "b\0c", 3);
}

static void test_partition__the_leading_bits_choose(void **state)
{
    (void)state;
    assert_int_equal(partition_of(UINT64_MAX, 1), 0);
    assert_int_equal(partition_of(0, 1), 0);
    assert_int_equal(partition_of((uint64_t)1 << 63, 2), 1);
    assert_int_equal(partition_of(((uint64_t)1 << 63) - 1, 2), 0);
    assert_int_equal(partition_of(UINT64_MAX, PARTITIONS_MAX), PARTITIONS_MAX - 1);
    /* Doubling the count splits each partition in two. */
    for (uint64_t d = 1; d != 0; d *= 3) {
        if (d > UINT64_MAX / 3)
            break;
        assert_int_equal(partition_of(d, 1024), partition_of(d, 2048) / 2);
    }
}

static void test_partition__keys_spread_evenly(void **state)
{
    (void)state;
    enum { PARTITIONS = 256, KEYS = 256 * 200 };
    static uint32_t counts[PARTITIONS];
    for (int i = 0; i < KEYS; i++) {
        char key[32];
        int size = snprintf(key, sizeof key, "user:%d", i);
        counts[partition_of(partition_digest(bytes_of(key, (size_t)size)), PARTITIONS)]++;
    }
    for (int i = 0; i < PARTITIONS; i++) /* 200 +- 5 sigma */
        assert_in_range(counts[i], 130, 270);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partition__digests_are_those_of_sha256),
        cmocka_unit_test(test_partition__the_hash_tag_is_what_stands_in_the_first_braces),
        cmocka_unit_test(test_partition__zero_bytes_are_bytes_like_others),
        cmocka_unit_test(test_partition__the_leading_bits_choose),
        cmocka_unit_test(test_partition__keys_spread_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
