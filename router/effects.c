#include "router/effects.h"

#include <stdlib.h>

#include "proto/base/ensure.h"

/* What a cleared item may keep: frames of this size are reused turn after turn. */
#define FRAME_KEPT_SIZE_MAX ((size_t)64 << 10)
#define FRAMES_KEPT_MAX     ((size_t)256)
#define CAPACITY_MIN        ((size_t)16)

void effects_init(struct effects *e)
{
    *e = (struct effects){0};
}

void effects_fini(struct effects *e)
{
    for (size_t i = 0; i < e->capacity; i++)
        buffer_fini(&e->items[i].frame);
    free(e->items);
    *e = (struct effects){0};
}

static bool effects_grow(struct effects *e)
{
    size_t capacity = e->capacity == 0 ? CAPACITY_MIN : e->capacity * 2;
    struct effect *items = realloc(e->items, capacity * sizeof *items);
    if (items == NULL)
        return false;
    for (size_t i = e->capacity; i < capacity; i++)
        buffer_init(&items[i].frame, FRAME_BYTES_MAX);
    e->items = items;
    e->capacity = capacity;
    return true;
}

struct effect *effects_add(struct effects *e, enum effect_kind kind)
{
    ENSURE(e->count <= e->capacity);
    if (e->count == e->capacity && !effects_grow(e))
        return NULL;
    struct effect *item = &e->items[e->count++];
    ENSURE(item->frame.size == 0);
    item->kind = kind;
    item->source = 0;
    item->node = 0;
    item->address[0] = '\0';
    item->note = 0;
    item->amount = 0;
    return item;
}

void effects_drop(struct effects *e)
{
    ENSURE(e->count > 0);
    buffer_clear(&e->items[--e->count].frame);
}

void effects_clear(struct effects *e)
{
    for (size_t i = 0; i < e->count; i++) {
        struct buffer *frame = &e->items[i].frame;
        if (i < FRAMES_KEPT_MAX && frame->capacity <= FRAME_KEPT_SIZE_MAX) {
            buffer_clear(frame);
        } else {
            buffer_fini(frame);
            buffer_init(frame, FRAME_BYTES_MAX);
        }
    }
    e->count = 0;
}
