/* Bytes: a view of memory that somebody else owns.
 *
 * The fields stand in this order so that an array of them has the layout of protobuf-c's binary
 * data (checked in codec.c): whole arrays cross that border without a copy.
 */
#ifndef PROTO_BASE_BYTES_H
#define PROTO_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    size_t size;
    const uint8_t *data;
};

#define BYTES_EMPTY ((struct bytes){0, NULL})

/* View a C string, without its final zero. */
static inline struct bytes bytes_text(const char *text)
{
    return (struct bytes){strlen(text), (const uint8_t *)text};
}

static inline struct bytes bytes_of(const void *data, size_t size)
{
    return (struct bytes){size, (const uint8_t *)data};
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Order by memcmp, the shorter first among equals: <0, 0, >0. */
static inline int bytes_compare(struct bytes a, struct bytes b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0)
        return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

/* Unaligned integers: little endian on the wire and on the disk, big endian inside table keys
 * so that memcmp orders them. */
static inline void bytes_put_le16(uint8_t *to, uint16_t v)
{
    to[0] = (uint8_t)v;
    to[1] = (uint8_t)(v >> 8);
}

static inline void bytes_put_le32(uint8_t *to, uint32_t v)
{
    bytes_put_le16(to, (uint16_t)v);
    bytes_put_le16(to + 2, (uint16_t)(v >> 16));
}

static inline void bytes_put_le64(uint8_t *to, uint64_t v)
{
    bytes_put_le32(to, (uint32_t)v);
    bytes_put_le32(to + 4, (uint32_t)(v >> 32));
}

static inline uint16_t bytes_le16(const uint8_t *from)
{
    return (uint16_t)(from[0] | (uint16_t)(from[1] << 8));
}

static inline uint32_t bytes_le32(const uint8_t *from)
{
    return (uint32_t)bytes_le16(from) | (uint32_t)bytes_le16(from + 2) << 16;
}

static inline uint64_t bytes_le64(const uint8_t *from)
{
    return (uint64_t)bytes_le32(from) | (uint64_t)bytes_le32(from + 4) << 32;
}

static inline void bytes_put_be32(uint8_t *to, uint32_t v)
{
    for (int i = 3; i >= 0; i--, v >>= 8)
        to[i] = (uint8_t)v;
}

static inline void bytes_put_be64(uint8_t *to, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        to[i] = (uint8_t)v;
}

static inline uint32_t bytes_be32(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

static inline uint64_t bytes_be64(const uint8_t *from)
{
    return (uint64_t)bytes_be32(from) << 32 | bytes_be32(from + 4);
}

#endif
