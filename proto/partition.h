/* Partition: key -> hash tag -> SHA-256 -> partition. The only file with OpenSSL's digest.
 *
 * The digest of a key is the first 8 bytes, big endian, of SHA-256 over its hash tag: the bytes
 * between the first '{' and the first '}' after it, when there is at least one between them; else
 * the whole key. The partition is the leading log2(count) bits of the digest.
 */
#ifndef PROTO_PARTITION_H
#define PROTO_PARTITION_H

#include "proto/base/bytes.h"

/* Borrow the part of key that is hashed. (Here, so that who needs it alone is not linked with OpenSSL.) */
static inline struct bytes partition_hash_tag(struct bytes key)
{
    if (key.size == 0)
        return key;
    const uint8_t *end = key.data + key.size;
    const uint8_t *open = (const uint8_t *)memchr(key.data, '{', key.size);
    if (open == NULL)
        return key;
    const uint8_t *tag = open + 1;
    const uint8_t *close = (const uint8_t *)memchr(tag, '}', (size_t)(end - tag));
    if (close == NULL || close == tag)
        return key;
    return bytes_of(tag, (size_t)(close - tag));
}

/* Thread-safe: no state between calls. */
uint64_t partition_digest(struct bytes key);

/* SHA-256 of data into ret[32], for placement and identities. */
void partition_sha256(struct bytes data, uint8_t ret[static 32]);

/* count is a power of two, 1..PARTITIONS_MAX. */
uint32_t partition_of(uint64_t digest, uint32_t count);

#endif
