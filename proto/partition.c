/* The digest functions that need no context of their own on the heap were deprecated in OpenSSL
 * 3.0; asking for the interface of 1.1 brings them without warnings. They are what is wanted here:
 * no state between calls, and no look-up of an algorithm per key. */
#define OPENSSL_API_COMPAT 0x10100000L

#include "proto/partition.h"

#include <openssl/sha.h>

#include "proto/base/ensure.h"
#include "proto/limits.h"

_Static_assert(SHA256_DIGEST_LENGTH == 32, "SHA-256 has 32 bytes");

void partition_sha256(struct bytes data, uint8_t ret[static 32])
{
    SHA256_CTX context;
    int ok = SHA256_Init(&context);
    if (data.size > 0)
        ok &= SHA256_Update(&context, data.data, data.size);
    ok &= SHA256_Final(ret, &context);
    ENSURE(ok == 1);
}

uint64_t partition_digest(struct bytes key)
{
    uint8_t sha256[32];
    partition_sha256(partition_hash_tag(key), sha256);
    return bytes_be64(sha256);
}

uint32_t partition_of(uint64_t digest, uint32_t count)
{
    ENSURE(count >= 1 && count <= PARTITIONS_MAX);
    ENSURE((count & (count - 1)) == 0);
    unsigned bits = (unsigned)__builtin_ctz(count);
    return bits == 0 ? 0 : (uint32_t)(digest >> (64 - bits));
}
