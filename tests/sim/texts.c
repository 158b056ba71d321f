#include "tests/sim/texts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"

#define BUCKETS 4096u

struct made {
    struct made *next; /* in the bucket */
    int64_t n;
    size_t size;
    uint8_t text[];
};

static struct made *buckets[BUCKETS];
static struct made **list;
static size_t count, capacity;
static uint32_t filling_max;

void texts_filling(uint32_t size_max)
{
    filling_max = size_max;
}

void texts_fini(void)
{
    for (size_t i = 0; i < count; i++)
        free(list[i]);
    free(list);
    list = NULL;
    count = capacity = 0;
    memset(buckets, 0, sizeof buckets);
}

static size_t filling_size(int64_t n)
{
    uint64_t mixed = (uint64_t)n * 0x9e3779b97f4a7c15u;
    return filling_max == 0 ? 0 : (size_t)((mixed >> 32) % filling_max) >> (mixed & 7);
}

static uint8_t filling(int64_t n, size_t i)
{
    return (uint8_t) "abcdefghijklmnopqrstuvw"[(i + (size_t)n) % 23];
}

void texts_print(struct checker_value v, struct buffer *to)
{
    char head[32];
    ENSURE(v.present);
    if (v.made) {
        ENSURE(buffer_append(to, bytes_of(list[v.n]->text, list[v.n]->size)) == STATUS_OK);
        return;
    }
    int size = snprintf(head, sizeof head, v.number ? "%" PRId64 : "x%" PRId64 ":", v.n);
    ENSURE(buffer_append(to, bytes_of(head, (size_t)size)) == STATUS_OK);
    for (size_t i = 0; !v.number && i < filling_size(v.n); i++) {
        uint8_t one = filling(v.n, i);
        ENSURE(buffer_append(to, bytes_of(&one, 1)) == STATUS_OK);
    }
}

/* Is text what v prints? */
static bool prints(struct checker_value v, struct bytes text)
{
    struct buffer printed;
    buffer_init(&printed, 1u << 24);
    texts_print(v, &printed);
    bool same = bytes_equal(buffer_view(&printed), text);
    buffer_fini(&printed);
    return same;
}

static struct made *keep(struct bytes text, struct made **bucket)
{
    struct made *m = malloc(sizeof *m + text.size);
    ENSURE(m != NULL);
    *m = (struct made){.next = *bucket, .n = (int64_t)count, .size = text.size};
    if (text.size > 0)
        memcpy(m->text, text.data, text.size);
    *bucket = m;
    if (count == capacity) {
        capacity = capacity == 0 ? 64 : 2 * capacity;
        list = realloc(list, capacity * sizeof *list);
        ENSURE(list != NULL);
    }
    return list[count++] = m;
}

static struct checker_value made_of(struct bytes text)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < text.size; i++)
        hash = (hash ^ text.data[i]) * 0x100000001b3u;
    struct made **bucket = &buckets[(hash >> 32) % BUCKETS], *m = *bucket;
    while (m != NULL && !bytes_equal(bytes_of(m->text, m->size), text))
        m = m->next;
    if (m == NULL)
        m = keep(text, bucket);
    return (struct checker_value){.present = true, .n = m->n, .made = true};
}

struct checker_value texts_parse(struct bytes text)
{
    char head[32] = "", *end;
    size_t size = text.size < sizeof head - 1 ? text.size : sizeof head - 1;
    if (size > 0)
        memcpy(head, text.data, size);
    struct checker_value v = {.present = true, .number = head[0] != 'x'};
    v.n = strtoll(head + !v.number, &end, 10);
    return prints(v, text) ? v : made_of(text);
}
