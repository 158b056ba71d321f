/* Fuzz: what the targets share.
 *
 * A target is one file, fuzz_NAME.c, with one function that libFuzzer calls over and over, and that
 * replay.c calls once for each file of corpus/NAME. What must hold is ENSUREd: not only "it does
 * not crash", but what the headers promise.
 *
 * Inputs that are a sequence of events are read front to back with feed_*(): whatever the bytes
 * are, they mean something, and what is missing at the end reads as zeros.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdlib.h>

#include "proto/base/bytes.h"
#include "proto/base/ensure.h"

/* Always returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline struct bytes feed_bytes(struct bytes *rest, size_t size)
{
    struct bytes taken = {size < rest->size ? size : rest->size, rest->data};
    *rest = (struct bytes){rest->size - taken.size, rest->data + taken.size};
    return taken;
}

static inline uint32_t feed_octet(struct bytes *rest)
{
    struct bytes taken = feed_bytes(rest, 1);
    return taken.size == 0 ? 0 : taken.data[0];
}

/* Two bytes, little endian. */
static inline uint32_t feed_short(struct bytes *rest)
{
    uint32_t low = feed_octet(rest);
    return low | feed_octet(rest) << 8;
}

/* Two bytes of size, then so many bytes. */
static inline struct bytes feed_block(struct bytes *rest)
{
    return feed_bytes(rest, feed_short(rest));
}

/* A copy in memory of exactly its size, so that a sanitizer sees a read beside it; free(). */
static inline uint8_t *fuzz_copy(struct bytes from)
{
    uint8_t *copy = malloc(from.size == 0 ? 1 : from.size);
    ENSURE(copy != NULL);
    if (from.size > 0)
        memcpy(copy, from.data, from.size);
    return copy;
}

#endif
