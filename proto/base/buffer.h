/* Buffer: memory that grows up to a ceiling which it has from birth.
 *
 * - buffer_init() / buffer_fini()
 * - buffer_reserve()   room for size more bytes, contiguous; NULL beyond the ceiling
 * - buffer_append()    copy bytes to the end
 * - buffer_clear()     forget the content, keep the memory
 * - buffer_take()      give the memory away
 *
 * Not thread-safe. Out of memory is treated like the ceiling.
 */
#ifndef PROTO_BASE_BUFFER_H
#define PROTO_BASE_BUFFER_H

#include "proto/base/bytes.h"
#include "proto/base/status.h"

struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
    size_t size_max; /* never grows beyond this */
};

void buffer_init(struct buffer *b, size_t size_max);
void buffer_fini(struct buffer *b);

/* Return where the next size bytes go and count them as content; NULL (nothing changed) when that
 * would pass size_max or memory is out. The pointer is valid until the next call on b. */
uint8_t *buffer_reserve(struct buffer *b, size_t size);

/* Copy data to the end. STATUS_TOOBIG beyond size_max, STATUS_NOMEMORY; then nothing changed. */
enum status buffer_append(struct buffer *b, struct bytes data);

static inline void buffer_clear(struct buffer *b)
{
    b->size = 0;
}

/* Borrow the content, valid until the next call on b. */
static inline struct bytes buffer_view(const struct buffer *b)
{
    return (struct bytes){b->size, b->data};
}

/* Give the content: the caller frees *ret_data with free(); b is empty afterwards and usable. */
size_t buffer_take(struct buffer *b, uint8_t **ret_data);

#endif
