#include "proto/base/buffer.h"

#include <stdlib.h>

#include "proto/base/ensure.h"

#define CAPACITY_MIN 256

void buffer_init(struct buffer *b, size_t size_max)
{
    ENSURE(size_max > 0);
    *b = (struct buffer){.size_max = size_max};
}

void buffer_fini(struct buffer *b)
{
    if (b == NULL)
        return;
    free(b->data);
    *b = (struct buffer){.size_max = b->size_max};
}

/* The next power of two that holds need, but no more than the ceiling. */
static size_t capacity_for(const struct buffer *b, size_t need)
{
    size_t capacity = b->capacity < CAPACITY_MIN ? CAPACITY_MIN : b->capacity;
    while (capacity < need)
        capacity *= 2;
    return capacity < b->size_max ? capacity : b->size_max;
}

uint8_t *buffer_reserve(struct buffer *b, size_t size)
{
    ENSURE(b->size <= b->size_max);
    if (size > b->size_max - b->size)
        return NULL;
    size_t need = b->size + size;
    if (need > b->capacity || b->data == NULL) {
        size_t capacity = capacity_for(b, need);
        uint8_t *grown = realloc(b->data, capacity);
        if (grown == NULL)
            return NULL;
        b->data = grown;
        b->capacity = capacity;
    }
    uint8_t *at = b->data + b->size;
    b->size = need;
    return at;
}

enum status buffer_append(struct buffer *b, struct bytes data)
{
    if (data.size == 0)
        return STATUS_OK;
    if (data.size > b->size_max - b->size)
        return STATUS_TOOBIG;
    uint8_t *at = buffer_reserve(b, data.size);
    if (at == NULL)
        return STATUS_NOMEMORY;
    memcpy(at, data.data, data.size);
    return STATUS_OK;
}

size_t buffer_take(struct buffer *b, uint8_t **ret_data)
{
    size_t size = b->size;
    *ret_data = b->data;
    *b = (struct buffer){.size_max = b->size_max};
    return size;
}
