#include "storage/retention.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "storage/disk.h"

static void lock(const struct retention *r)
{
    ENSURE(pthread_mutex_lock((pthread_mutex_t *)&r->mutex) == 0);
}

static void unlock(const struct retention *r)
{
    ENSURE(pthread_mutex_unlock((pthread_mutex_t *)&r->mutex) == 0);
}

void retention_init(struct retention *r, uint64_t size_min, uint64_t released_lsn)
{
    *r = (struct retention){.size_min = size_min, .released_lsn = released_lsn};
    ENSURE(pthread_mutex_init(&r->mutex, NULL) == 0);
}

void retention_fini(struct retention *r)
{
    ENSURE(pthread_mutex_destroy(&r->mutex) == 0);
    free(r->kept);
    r->kept = NULL;
}

static enum status grow(struct retention *r)
{
    if (r->count < r->capacity)
        return STATUS_OK;
    size_t capacity = r->capacity == 0 ? 16 : 2 * r->capacity;
    struct kept *grown = realloc(r->kept, capacity * sizeof *grown);
    if (grown == NULL)
        return STATUS_NOMEMORY;
    r->kept = grown;
    r->capacity = capacity;
    return STATUS_OK;
}

enum status retention_append(struct retention *r, const struct kept *k)
{
    lock(r);
    ENSURE(r->count == 0 || k->number == r->kept[r->count - 1].number + 1);
    enum status s = grow(r);
    if (s == STATUS_OK)
        r->kept[r->count++] = *k;
    unlock(r);
    return s;
}

void retention_use(struct retention *r, uint64_t used)
{
    lock(r);
    ENSURE(r->count > 0 && used <= r->kept[r->count - 1].size);
    r->kept[r->count - 1].used = used;
    unlock(r);
}

void retention_release(struct retention *r, uint64_t lsn)
{
    lock(r);
    if (lsn > r->released_lsn)
        r->released_lsn = lsn;
    unlock(r);
}

static bool oldest_is_free(const struct retention *r)
{
    if (r->count < 2 || r->kept[1].first_lsn > r->released_lsn + 1)
        return false;
    uint64_t size = 0;
    for (size_t i = 1; i + 1 < r->count; i++)
        size += r->kept[i].size;
    return size >= r->size_min;
}

bool retention_has_free(const struct retention *r)
{
    lock(r);
    bool found = oldest_is_free(r);
    unlock(r);
    return found;
}

bool retention_take_free(struct retention *r, struct kept *ret)
{
    lock(r);
    bool found = oldest_is_free(r);
    if (found) {
        *ret = r->kept[0];
        memmove(r->kept, r->kept + 1, --r->count * sizeof *r->kept);
    }
    unlock(r);
    return found;
}

/* Bytes of k's groups above lsn, as if all its records (below end_lsn) were of one size. */
static uint64_t size_above(const struct kept *k, uint64_t end_lsn, uint64_t lsn)
{
    uint64_t used = k->used - DISK_ALIGNMENT;
    if (lsn < k->first_lsn)
        return used;
    if (lsn + 1 >= end_lsn)
        return 0;
    return (uint64_t)((double)used * (double)(end_lsn - lsn - 1) /
                      (double)(end_lsn - k->first_lsn));
}

uint64_t retention_replay_size(const struct retention *r, uint64_t durable_lsn)
{
    uint64_t size = 0;
    lock(r);
    for (size_t i = 0; i < r->count; i++) {
        const struct kept *k = &r->kept[i];
        uint64_t end_lsn = i + 1 < r->count ? k[1].first_lsn : durable_lsn + 1;
        size += size_above(k, end_lsn, r->released_lsn);
    }
    unlock(r);
    return size;
}

void retention_count(const struct retention *r, uint64_t *ret_segments, uint64_t *ret_bytes)
{
    *ret_bytes = 0;
    lock(r);
    *ret_segments = r->count;
    for (size_t i = 0; i < r->count; i++)
        *ret_bytes += r->kept[i].size;
    unlock(r);
}
