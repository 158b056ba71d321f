#include "storage/gather.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "storage/log.h"
#include "storage/segment.h"

#define MEMORY_ALIGNMENT 4096u
#define IDLE_GROUPS_MAX 4
#define IDLE_CAPACITY_MAX (2 * LOG_GROUP_SIZE_MAX)

void gather_init(struct gather *g, size_t group_size_max, uint64_t next_lsn)
{
    ENSURE(next_lsn > 0);
    *g = (struct gather){
        .group_size_max = group_size_max,
        .next_lsn = next_lsn,
        .durable_lsn = next_lsn - 1,
    };
}

static void group_free(struct log_group *group)
{
    if (group == NULL)
        return;
    free(group->memory);
    free(group);
}

static void free_list(struct log_group *first)
{
    while (first != NULL) {
        struct log_group *next = first->next;
        group_free(first);
        first = next;
    }
}

void gather_fini(struct gather *g)
{
    free_list(g->first);
    free_list(g->idle);
    group_free(g->under_way);
    *g = (struct gather){0};
}

struct bytes gather_records(const struct log_group *group)
{
    return bytes_of(group->memory + SEGMENT_GROUP_HEADER_SIZE,
                    group->size - SEGMENT_GROUP_HEADER_SIZE);
}

static bool group_grow(struct log_group *group, size_t need)
{
    size_t capacity = group->capacity == 0 ? MEMORY_ALIGNMENT : group->capacity;
    while (capacity < segment_align(need))
        capacity *= 2;
    if (capacity == group->capacity)
        return true;
    uint8_t *memory = aligned_alloc(MEMORY_ALIGNMENT, capacity);
    if (memory == NULL)
        return false;
    if (group->memory != NULL)
        memcpy(memory, group->memory, group->size);
    free(group->memory);
    group->memory = memory;
    group->capacity = capacity;
    return true;
}

static struct log_group *group_new(struct gather *g)
{
    struct log_group *group = g->idle;
    if (group != NULL) {
        g->idle = group->next;
        g->idle_count--;
    } else {
        group = calloc(1, sizeof *group);
    }
    if (group == NULL)
        return NULL;
    group->next = NULL;
    group->count = 0;
    group->size = SEGMENT_GROUP_HEADER_SIZE;
    group->first_lsn = g->next_lsn;
    return group;
}

static void group_retire(struct gather *g, struct log_group *group)
{
    if (group->capacity > IDLE_CAPACITY_MAX || g->idle_count == IDLE_GROUPS_MAX) {
        group_free(group);
        return;
    }
    group->next = g->idle;
    g->idle = group;
    g->idle_count++;
}

/* The group that takes size more bytes: the last one, or a new one behind it. */
static struct log_group *group_with_room(struct gather *g, size_t size)
{
    struct log_group *group = g->last;
    if (group == NULL || group->size + size > g->group_size_max) {
        group = group_new(g);
        if (group == NULL)
            return NULL;
        if (g->last == NULL)
            g->first = group;
        else
            g->last->next = group;
        g->last = group;
    }
    return group_grow(group, group->size + size) ? group : NULL;
}

static enum status append_part(struct gather *g, uint32_t count, struct bytes records)
{
    struct log_group *group = group_with_room(g, records.size);
    if (group == NULL)
        return STATUS_NOMEMORY;
    memcpy(group->memory + group->size, records.data, records.size);
    group->size += records.size;
    group->count += count;
    g->next_lsn += count;
    g->size += records.size;
    return STATUS_OK;
}

/* One record at a time, so that groups end between records. */
static enum status append_each(struct gather *g, uint32_t count, struct bytes records)
{
    struct record_view record;
    while (count-- > 0) {
        struct bytes before = records;
        ENSURE(record_next(&records, &record) == STATUS_OK);
        enum status s = append_part(g, 1, bytes_of(before.data, before.size - records.size));
        if (s != STATUS_OK)
            return s;
    }
    ENSURE(records.size == 0);
    return STATUS_OK;
}

/* Where the gathering stood, to go back to when memory runs out. */
struct mark {
    struct log_group *last;
    size_t last_size, size;
    uint32_t last_count;
    uint64_t next_lsn;
};

static struct mark mark_of(const struct gather *g)
{
    return (struct mark){
        .last = g->last,
        .last_size = g->last == NULL ? 0 : g->last->size,
        .last_count = g->last == NULL ? 0 : g->last->count,
        .size = g->size,
        .next_lsn = g->next_lsn,
    };
}

static void mark_restore(struct gather *g, const struct mark *m)
{
    struct log_group **rest = m->last == NULL ? &g->first : &m->last->next;
    free_list(*rest);
    *rest = NULL;
    g->last = m->last;
    if (m->last != NULL) {
        m->last->size = m->last_size;
        m->last->count = m->last_count;
    }
    g->size = m->size;
    g->next_lsn = m->next_lsn;
}

enum status gather_append(struct gather *g, uint64_t first, uint32_t count, struct bytes records)
{
    ENSURE(first == g->next_lsn);
    ENSURE((count == 0) == (records.size == 0));
    if (count == 0)
        return STATUS_OK;
    if (records.size > LOG_GATHERED_SIZE_MAX - g->size)
        return STATUS_NOMEMORY;
    struct mark before = mark_of(g);
    size_t size = g->last == NULL ? SEGMENT_GROUP_HEADER_SIZE : g->last->size;
    enum status s = size + records.size <= g->group_size_max ? append_part(g, count, records)
                                                             : append_each(g, count, records);
    if (s != STATUS_OK)
        mark_restore(g, &before);
    return s;
}

struct log_group *gather_take(struct gather *g)
{
    struct log_group *group = g->first;
    if (group == NULL || g->under_way != NULL)
        return NULL;
    ENSURE(group->count > 0 && group->first_lsn == g->durable_lsn + 1);
    g->first = group->next;
    if (group->next == NULL)
        g->last = NULL;
    group->next = NULL;
    g->under_way = group;
    return group;
}

void gather_done(struct gather *g, struct log_group *group)
{
    ENSURE(group != NULL && group == g->under_way);
    g->under_way = NULL;
    g->durable_lsn += group->count;
    g->size -= group->size - SEGMENT_GROUP_HEADER_SIZE;
    ENSURE(g->durable_lsn < g->next_lsn);
    group_retire(g, group);
}
