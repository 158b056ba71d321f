#include "storage/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "storage/mutant.h"
#include "storage/replay.h"
#include "storage/segment.h"

#define DIRECTORY "log"
#define SPARE_NAME DIRECTORY "/spare.seg"
#define SPARE_TMP_NAME DIRECTORY "/spare.tmp"
#define REWRITE_TMP_NAME DIRECTORY "/rewrite.tmp"
#define NAME_SIZE 40
#define MEMORY_ALIGNMENT 4096u
#define ZEROS_SIZE (256u << 10)
#define IDLE_GROUPS_MAX 4
#define IDLE_CAPACITY_MAX (2 * LOG_GROUP_SIZE_MAX)
#define SPACE_LOW_SIZE (512ull << 20)

/* Written at the end of a segment's preparation and behind the rewritten groups. Not const, so that
 * it takes no room in the program's file. */
static _Alignas(4096) uint8_t zeros[ZEROS_SIZE];

/* Header room and records, in memory that O_DIRECT takes. */
struct log_group {
    struct log_group *next;
    uint64_t first_lsn;
    uint32_t count;
    size_t size, capacity; /* of memory; size counts the header's room */
    uint8_t *memory;
};

/* A segment that is in the log. */
struct kept {
    uint64_t number, first_lsn;
    uint64_t used; /* offset behind the last group */
    uint64_t size; /* of the file */
};

struct log {
    struct disk *disk;
    struct log_options options;
    size_t group_size_max;

    /* The loop thread's. (1) durable_lsn < under_way's lsns < gathered ones < next_lsn. */
    uint64_t next_lsn, durable_lsn;
    struct log_group *gathered_first, *gathered_last; /* oldest first */
    size_t gathered_size;
    struct log_group *under_way; /* taken, not yet done */
    struct log_group *idle;      /* memory for later */
    unsigned idle_count;
    bool space_low;

    /* The sync thread's: the open segment, and the next one. */
    struct disk_file *file;
    uint64_t number, offset, file_size;
    struct segment_slots slots;
    struct disk_file *spare;
    uint64_t spare_size; /* zeros written so far */
    bool spare_ready;    /* it has its name, and the directory is synced */

    /* Both threads', under the mutex. */
    pthread_mutex_t mutex;
    struct kept *kept; /* by number, the open one last */
    size_t kept_count, kept_capacity;
    uint64_t released_lsn;
    bool prepare_paused; /* the disk is too full to prepare a segment */
};

static void lock(const struct log *l)
{
    ENSURE(pthread_mutex_lock((pthread_mutex_t *)&l->mutex) == 0);
}

static void unlock(const struct log *l)
{
    ENSURE(pthread_mutex_unlock((pthread_mutex_t *)&l->mutex) == 0);
}

static void segment_name(char to[static NAME_SIZE], uint64_t number)
{
    snprintf(to, NAME_SIZE, DIRECTORY "/%010" PRIu64 ".seg", number);
}

static enum status sync_directory(struct log *l)
{
    return MUTANT(34) ? STATUS_OK : l->disk->verbs->sync_directory(l->disk, DIRECTORY);
}

/* -- Groups in memory: the loop thread -------------------------------------------------------- */

static void group_free(struct log_group *g)
{
    if (g == NULL)
        return;
    free(g->memory);
    free(g);
}

static bool group_grow(struct log_group *g, size_t need)
{
    size_t capacity = g->capacity == 0 ? MEMORY_ALIGNMENT : g->capacity;
    while (capacity < segment_align(need))
        capacity *= 2;
    if (capacity == g->capacity)
        return true;
    uint8_t *memory = aligned_alloc(MEMORY_ALIGNMENT, capacity);
    if (memory == NULL)
        return false;
    if (g->memory != NULL)
        memcpy(memory, g->memory, g->size);
    free(g->memory);
    g->memory = memory;
    g->capacity = capacity;
    return true;
}

static struct log_group *group_new(struct log *l)
{
    struct log_group *g = l->idle;
    if (g != NULL) {
        l->idle = g->next;
        l->idle_count--;
    } else {
        g = calloc(1, sizeof *g);
    }
    if (g == NULL)
        return NULL;
    g->next = NULL;
    g->count = 0;
    g->size = SEGMENT_GROUP_HEADER_SIZE;
    return g;
}

static void group_retire(struct log *l, struct log_group *g)
{
    if (g->capacity > IDLE_CAPACITY_MAX || l->idle_count == IDLE_GROUPS_MAX) {
        group_free(g);
        return;
    }
    g->next = l->idle;
    l->idle = g;
    l->idle_count++;
}

/* The group that takes size more bytes: the last one, or a new one behind it. */
static struct log_group *group_with_room(struct log *l, size_t size)
{
    struct log_group *g = l->gathered_last;
    if (g != NULL && (g->count == 0 || g->size + size <= l->group_size_max))
        return group_grow(g, g->size + size) ? g : NULL;
    g = group_new(l);
    if (g == NULL)
        return NULL;
    g->first_lsn = l->next_lsn;
    if (l->gathered_last == NULL)
        l->gathered_first = g;
    else
        l->gathered_last->next = g;
    l->gathered_last = g;
    return group_grow(g, g->size + size) ? g : NULL;
}

static enum status append_part(struct log *l, uint32_t count, struct bytes records)
{
    struct log_group *g = group_with_room(l, records.size);
    if (g == NULL)
        return STATUS_NOMEMORY;
    memcpy(g->memory + g->size, records.data, records.size);
    g->size += records.size;
    g->count += count;
    l->next_lsn += count;
    l->gathered_size += records.size;
    return STATUS_OK;
}

/* One record at a time, so that groups end between records. */
static enum status append_each(struct log *l, uint32_t count, struct bytes records)
{
    struct record_view record;
    while (count-- > 0) {
        struct bytes before = records;
        ENSURE(record_next(&records, &record) == STATUS_OK);
        enum status s = append_part(l, 1, bytes_of(before.data, before.size - records.size));
        if (s != STATUS_OK)
            return s;
    }
    ENSURE(records.size == 0);
    return STATUS_OK;
}

/* Where the gathering stood, to go back to. */
struct mark {
    struct log_group *last;
    size_t last_size, gathered_size;
    uint32_t last_count;
    uint64_t next_lsn;
};

static struct mark mark_of(const struct log *l)
{
    struct log_group *g = l->gathered_last;
    return (struct mark){g, g == NULL ? 0 : g->size, l->gathered_size, g == NULL ? 0 : g->count,
                         l->next_lsn};
}

static void mark_restore(struct log *l, const struct mark *m)
{
    struct log_group **rest = m->last == NULL ? &l->gathered_first : &m->last->next;
    while (*rest != NULL) {
        struct log_group *g = *rest;
        *rest = g->next;
        group_free(g);
    }
    l->gathered_last = m->last;
    if (m->last != NULL) {
        m->last->size = m->last_size;
        m->last->count = m->last_count;
    }
    l->gathered_size = m->gathered_size;
    l->next_lsn = m->next_lsn;
}

enum status log_append(struct log *l, uint64_t first, uint32_t count, struct bytes records)
{
    ENSURE(first == l->next_lsn);
    ENSURE((count == 0) == (records.size == 0));
    if (count == 0)
        return STATUS_OK;
    if (records.size > LOG_GATHERED_SIZE_MAX - l->gathered_size)
        return STATUS_NOMEMORY;
    struct mark before = mark_of(l);
    const struct log_group *last = l->gathered_last;
    size_t size = last == NULL ? SEGMENT_GROUP_HEADER_SIZE : last->size;
    enum status s = size + records.size <= l->group_size_max ? append_part(l, count, records)
                                                             : append_each(l, count, records);
    if (s != STATUS_OK)
        mark_restore(l, &before);
    return s;
}

struct log_group *log_group_take(struct log *l)
{
    struct log_group *g = l->gathered_first;
    if (g == NULL || l->under_way != NULL)
        return NULL;
    ENSURE(g->count > 0 && g->first_lsn == l->durable_lsn + 1);
    l->gathered_first = g->next;
    if (g->next == NULL)
        l->gathered_last = NULL;
    g->next = NULL;
    l->under_way = g;
    return g;
}

void log_group_done(struct log *l, struct log_group *g)
{
    ENSURE(g != NULL && g == l->under_way);
    l->under_way = NULL;
    l->durable_lsn += g->count;
    l->gathered_size -= g->size - SEGMENT_GROUP_HEADER_SIZE;
    ENSURE(l->durable_lsn < l->next_lsn);
    group_retire(l, g);
}

uint64_t log_next_lsn(const struct log *l)
{
    return l->next_lsn;
}

uint64_t log_durable_lsn(const struct log *l)
{
    return l->durable_lsn;
}

/* -- Segments that are kept: both threads ----------------------------------------------------- */

static enum status kept_append(struct log *l, const struct kept *k)
{
    lock(l);
    enum status s = STATUS_OK;
    if (l->kept_count == l->kept_capacity) {
        size_t capacity = l->kept_capacity == 0 ? 16 : 2 * l->kept_capacity;
        struct kept *grown = realloc(l->kept, capacity * sizeof *grown);
        if (grown != NULL) {
            l->kept = grown;
            l->kept_capacity = capacity;
        } else {
            s = STATUS_NOMEMORY;
        }
    }
    if (s == STATUS_OK)
        l->kept[l->kept_count++] = *k;
    unlock(l);
    return s;
}

/* (5): the oldest segment is wanted neither by recovery nor by retention. */
static bool oldest_is_free(const struct log *l)
{
    if (l->kept_count < 2 || l->kept[1].first_lsn > l->released_lsn + 1)
        return false;
    uint64_t size = 0;
    for (size_t i = 1; i + 1 < l->kept_count; i++)
        size += l->kept[i].size;
    return size >= l->options.retention_size;
}

static bool kept_has_free(const struct log *l)
{
    lock(l);
    bool found = oldest_is_free(l);
    unlock(l);
    return found;
}

/* Take the oldest segment off the list, if it may go. */
static bool kept_take_free(struct log *l, struct kept *ret)
{
    lock(l);
    bool found = oldest_is_free(l);
    if (found) {
        *ret = l->kept[0];
        memmove(l->kept, l->kept + 1, --l->kept_count * sizeof *l->kept);
    }
    unlock(l);
    return found;
}

void log_release(struct log *l, uint64_t lsn)
{
    ENSURE(lsn <= l->durable_lsn);
    lock(l);
    if (lsn > l->released_lsn)
        l->released_lsn = lsn;
    unlock(l);
}

/* Bytes of k at or below lsn, as if all records were of one size. */
static uint64_t kept_size_below(const struct kept *k, uint64_t end_lsn, uint64_t lsn)
{
    uint64_t used = k->used - DISK_ALIGNMENT;
    if (lsn < k->first_lsn)
        return 0;
    if (lsn + 1 >= end_lsn)
        return used;
    return (uint64_t)((double)used * (double)(lsn + 1 - k->first_lsn) /
                      (double)(end_lsn - k->first_lsn));
}

uint64_t log_replay_size(const struct log *l)
{
    uint64_t size = 0;
    lock(l);
    for (size_t i = 0; i < l->kept_count; i++) {
        const struct kept *k = &l->kept[i];
        uint64_t end = i + 1 < l->kept_count ? k[1].first_lsn : l->durable_lsn + 1;
        size += k->used - DISK_ALIGNMENT - kept_size_below(k, end, l->released_lsn);
    }
    unlock(l);
    return size;
}

void log_count(const struct log *l, uint64_t *ret_segments, uint64_t *ret_bytes)
{
    lock(l);
    *ret_segments = l->kept_count;
    *ret_bytes = 0;
    for (size_t i = 0; i < l->kept_count; i++)
        *ret_bytes += l->kept[i].size;
    unlock(l);
}

bool log_space_low(const struct log *l)
{
    return l->space_low;
}

enum status log_space_check(struct log *l)
{
    uint64_t free_size, total_size;
    enum status s = l->disk->verbs->space(l->disk, &free_size, &total_size);
    if (s != STATUS_OK)
        return s;
    l->space_low = free_size < SPACE_LOW_SIZE && free_size < total_size / 20;
    lock(l);
    if (free_size >= 2 * l->options.segment_size)
        l->prepare_paused = false;
    unlock(l);
    return STATUS_OK;
}

/* -- The next segment: the sync thread -------------------------------------------------------- */

static void spare_drop(struct log *l)
{
    if (l->spare != NULL)
        l->disk->verbs->close(&l->spare);
    l->spare_size = 0;
    l->spare_ready = false;
}

static enum status write_zeros(struct log *l, struct disk_file *f, uint64_t from, uint64_t to,
                               uint64_t *ret_end)
{
    uint64_t size = to - from < ZEROS_SIZE ? to - from : ZEROS_SIZE;
    enum status s = l->disk->verbs->write(f, from, bytes_of(zeros, (size_t)size));
    *ret_end = s == STATUS_OK ? from + size : from;
    return s;
}

/* The rename is synced before the file's old content is overwritten: else a crash could show the
 * old name with another segment's header. */
static enum status spare_recycle(struct log *l, const struct kept *k)
{
    const struct disk_verbs *v = l->disk->verbs;
    char name[NAME_SIZE];
    segment_name(name, k->number);
    enum status s = v->rename(l->disk, name, SPARE_NAME);
    if (s == STATUS_OK)
        s = sync_directory(l);
    if (s == STATUS_OK)
        s = v->open(l->disk, SPARE_NAME, DISK_DIRECT, &l->spare, NULL);
    if (s != STATUS_OK)
        return s;
    l->spare_size = k->size;
    l->spare_ready = true;
    return STATUS_OK;
}

static enum status spare_begin(struct log *l)
{
    struct kept k;
    l->spare_size = 0;
    if (kept_take_free(l, &k))
        return spare_recycle(l, &k);
    return l->disk->verbs->open(l->disk, SPARE_TMP_NAME, DISK_CREATE | DISK_DIRECT, &l->spare,
                                NULL);
}

/* All zeros are durable: the spare gets its name. */
static enum status spare_finish(struct log *l)
{
    enum status s = l->disk->verbs->rename(l->disk, SPARE_TMP_NAME, SPARE_NAME);
    if (s == STATUS_OK)
        s = sync_directory(l);
    l->spare_ready = s == STATUS_OK;
    return s;
}

static bool spare_holds(const struct log *l, uint64_t size)
{
    return l->spare_ready && l->spare_size >= size;
}

/* One step on the way to spare_holds(l, size). */
static enum status spare_step(struct log *l, uint64_t size)
{
    if (l->spare == NULL)
        return spare_begin(l);
    if (l->spare_size < size)
        return write_zeros(l, l->spare, l->spare_size, size, &l->spare_size);
    return spare_finish(l);
}

/* No room to prepare ahead: give back what was taken, and wait for better times. Only
 * log_group_write() must have its segment. */
static enum status prepare_pause(struct log *l)
{
    bool unfinished = !l->spare_ready;
    spare_drop(l);
    enum status s = unfinished ? l->disk->verbs->remove(l->disk, SPARE_TMP_NAME) : STATUS_OK;
    lock(l);
    l->prepare_paused = true;
    unlock(l);
    return s == STATUS_NOTFOUND ? STATUS_OK : s;
}

static bool prepare_wanted(struct log *l)
{
    if (spare_holds(l, l->options.segment_size))
        return kept_has_free(l);
    lock(l);
    bool wanted = !l->prepare_paused || oldest_is_free(l);
    unlock(l);
    return wanted;
}

/* A released segment beyond the one that is recycled. No directory sync: if the removal is lost, the
 * next log_open() repeats it. */
static enum status drop_oldest(struct log *l)
{
    struct kept k;
    char name[NAME_SIZE];
    if (!kept_take_free(l, &k))
        return STATUS_OK;
    segment_name(name, k.number);
    return l->disk->verbs->remove(l->disk, name);
}

enum status log_prepare(struct log *l, bool *ret_more)
{
    *ret_more = false;
    if (!prepare_wanted(l))
        return STATUS_OK;
    enum status s = spare_holds(l, l->options.segment_size)
                        ? drop_oldest(l)
                        : spare_step(l, l->options.segment_size);
    if (s == STATUS_FULL)
        s = prepare_pause(l);
    *ret_more = s == STATUS_OK && prepare_wanted(l);
    return s;
}

/* -- Writing: the sync thread ----------------------------------------------------------------- */

static enum status write_footer(struct log *l, uint32_t rows, uint64_t last_lsn)
{
    uint64_t size = segment_footer_size(rows);
    ENSURE(l->offset + size <= l->file_size);
    uint8_t *memory = aligned_alloc(MEMORY_ALIGNMENT,
                                    (size + MEMORY_ALIGNMENT - 1) & ~(MEMORY_ALIGNMENT - 1ull));
    if (memory == NULL)
        return STATUS_NOMEMORY;
    struct segment_footer footer = {
        .number = l->number,
        .node_tag = l->options.node_tag,
        .last_lsn = last_lsn,
        .groups_end = l->offset,
        .count = rows,
    };
    segment_footer_encode(memory, &footer, l->slots.rows);
    enum status s = l->disk->verbs->write(l->file, l->file_size - size, bytes_of(memory, size));
    free(memory);
    return s;
}

static enum status write_header(struct log *l, struct disk_file *f, uint64_t number,
                                uint64_t first_lsn)
{
    _Alignas(MEMORY_ALIGNMENT) uint8_t block[DISK_ALIGNMENT];
    struct segment_header header = {number, first_lsn, l->options.node_tag};
    segment_header_encode(block, &header);
    return l->disk->verbs->write(f, 0, bytes_of(block, sizeof block));
}

/* Give the spare its header and its name in the log, both durable before a group goes in. */
static enum status open_next(struct log *l, uint64_t first_lsn)
{
    char name[NAME_SIZE];
    segment_name(name, l->number + 1);
    enum status s = write_header(l, l->spare, l->number + 1, first_lsn);
    if (s == STATUS_OK)
        s = l->disk->verbs->rename(l->disk, SPARE_NAME, name);
    return s == STATUS_OK ? sync_directory(l) : s;
}

/* Seal the open segment and go on in the next one, which holds at least size bytes. rows: how many
 * rows of l->slots belong to the old one. */
static enum status roll(struct log *l, uint32_t rows, uint64_t first_lsn, uint64_t size)
{
    enum status s = write_footer(l, rows, first_lsn - 1);
    while (s == STATUS_OK && !spare_holds(l, size))
        s = spare_step(l, size);
    if (s == STATUS_OK)
        s = open_next(l, first_lsn);
    struct kept next = {l->number + 1, first_lsn, DISK_ALIGNMENT, l->spare_size};
    if (s == STATUS_OK)
        s = kept_append(l, &next);
    if (s != STATUS_OK)
        return s;
    l->disk->verbs->close(&l->file);
    l->file = l->spare;
    l->file_size = l->spare_size;
    l->number++;
    l->offset = DISK_ALIGNMENT;
    l->spare = NULL;
    l->spare_size = 0;
    l->spare_ready = false;
    segment_slots_clear(&l->slots);
    return drop_oldest(l);
}

/* Make sure that size bytes and the footer behind them fit into the open segment. */
static enum status make_room(struct log *l, const struct log_group *g, struct bytes records)
{
    uint32_t rows = l->slots.count, count;
    uint64_t size = segment_align(g->size);
    enum status s = segment_slots_reserve(&l->slots, records, &count);
    if (s != STATUS_OK)
        return s;
    ENSURE(count == g->count);
    if (l->offset + size + segment_footer_size(l->slots.count) <= l->file_size)
        return STATUS_OK;
    /* More rows than the group alone needs: enough. */
    uint64_t need = DISK_ALIGNMENT + size + segment_footer_size(l->slots.count);
    s = roll(l, rows, g->first_lsn, need < l->options.segment_size ? l->options.segment_size : need);
    return s == STATUS_OK ? segment_slots_reserve(&l->slots, records, &count) : s;
}

static enum status write_group(struct log *l, const struct log_group *g)
{
    size_t size = segment_align(g->size);
    enum status s = l->disk->verbs->write(l->file, l->offset, bytes_of(g->memory, size));
    if (s == STATUS_IO && MUTANT(24))
        s = l->disk->verbs->sync(l->file);
    return s;
}

enum status log_group_write(struct log *l, struct log_group *g)
{
    struct bytes records = bytes_of(g->memory + SEGMENT_GROUP_HEADER_SIZE,
                                    g->size - SEGMENT_GROUP_HEADER_SIZE);
    enum status s = make_room(l, g, records);
    if (s != STATUS_OK)
        return s;
    struct segment_group header = {
        .size = (uint32_t)g->size,
        .count = g->count,
        .first_lsn = g->first_lsn,
        .durable_lsn = g->first_lsn - 1,
        .number = l->number,
        .node_tag = l->options.node_tag,
    };
    segment_group_seal(g->memory, &header);
    memset(g->memory + g->size, 0, segment_align(g->size) - g->size);
    s = write_group(l, g);
    if (s != STATUS_OK)
        return s;
    segment_slots_add(&l->slots, records, l->offset);
    l->offset += segment_align(g->size);
    lock(l);
    l->kept[l->kept_count - 1].used = l->offset;
    unlock(l);
    return STATUS_OK;
}

/* -- Opening ---------------------------------------------------------------------------------- */

/* What the directory holds. */
struct listing {
    struct replay_segment *segments; /* sorted by number */
    size_t count, capacity;
    size_t first; /* those before it are no longer part of the log */
    bool spare, spare_tmp, rewrite_tmp;
    bool no_memory;
};

/* The number in a segment's name; 0: not a segment. */
static uint64_t number_of(const char *name)
{
    char again[NAME_SIZE];
    char *end;
    uint64_t number = strtoull(name, &end, 10);
    segment_name(again, number);
    return strcmp(again + sizeof DIRECTORY, name) == 0 ? number : 0;
}

static void listing_add(void *arg, const char *name)
{
    struct listing *list = arg;
    list->spare |= strcmp(name, SPARE_NAME + sizeof DIRECTORY) == 0;
    list->spare_tmp |= strcmp(name, SPARE_TMP_NAME + sizeof DIRECTORY) == 0;
    list->rewrite_tmp |= strcmp(name, REWRITE_TMP_NAME + sizeof DIRECTORY) == 0;
    uint64_t number = number_of(name);
    if (number == 0)
        return;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 16 : 2 * list->capacity;
        struct replay_segment *grown = realloc(list->segments, capacity * sizeof *grown);
        if (grown == NULL) {
            list->no_memory = true;
            return;
        }
        list->segments = grown;
        list->capacity = capacity;
    }
    list->segments[list->count++] = (struct replay_segment){.number = number};
}

static int by_number(const void *a, const void *b)
{
    const struct replay_segment *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* Segments in front of a gap were recycled, and the crash kept their names. */
static void find_gap(struct listing *list)
{
    size_t first = list->count == 0 ? 0 : list->count - 1;
    while (first > 0 && list->segments[first - 1].number + 1 == list->segments[first].number)
        first--;
    list->first = first;
}

static enum status listing_read(struct log *l, struct listing *list, struct error *reterr)
{
    const struct disk_verbs *v = l->disk->verbs;
    enum status s = v->make_directory(l->disk, DIRECTORY);
    if (s == STATUS_OK)
        s = v->sync_directory(l->disk, "");
    if (s == STATUS_OK)
        s = v->list(l->disk, DIRECTORY, listing_add, list);
    if (s == STATUS_OK && list->no_memory)
        s = STATUS_NOMEMORY;
    if (s != STATUS_OK)
        return error_set(reterr, s, "directory '%s': %s", DIRECTORY, status_text(s));
    if (list->count == 0)
        return STATUS_OK;
    qsort(list->segments, list->count, sizeof *list->segments, by_number);
    find_gap(list);
    return STATUS_OK;
}

static enum status remove_if(struct log *l, bool present, const char *name)
{
    return present ? l->disk->verbs->remove(l->disk, name) : STATUS_OK;
}

static enum status drop_before_gap(struct log *l, const struct listing *list)
{
    enum status s = STATUS_OK;
    for (size_t i = 0; i < list->first && s == STATUS_OK; i++) {
        char name[NAME_SIZE];
        segment_name(name, list->segments[i].number);
        s = l->disk->verbs->remove(l->disk, name);
    }
    return s;
}

/* Headers of all segments, and whether they follow each other. */
static enum status headers_read(struct replay *r, struct listing *list, struct error *reterr)
{
    for (size_t i = list->first; i < list->count; i++) {
        struct replay_segment *s = &list->segments[i];
        char name[NAME_SIZE];
        segment_name(name, s->number);
        s->name = name;
        enum status got = replay_header(r, s, reterr);
        s->name = NULL;
        if (got != STATUS_OK)
            return got;
        if (i == list->first)
            continue;
        if (s->first_lsn < s[-1].first_lsn)
            return error_set(reterr, STATUS_CORRUPT, "segment %s, offset 0: begins at record "
                             "%" PRIu64 ", the segment before it at %" PRIu64,
                             name, s->first_lsn, s[-1].first_lsn);
        s[-1].next_first_lsn = s->first_lsn;
    }
    return STATUS_OK;
}

static enum status begins_too_late(const struct listing *list, uint64_t after,
                                   struct error *reterr)
{
    const struct replay_segment *first = &list->segments[list->first];
    return error_set(reterr, STATUS_CORRUPT,
                     "segment " DIRECTORY "/%010" PRIu64 ".seg, offset 0: begins at record %" PRIu64
                     ", but the checkpoint ends at %" PRIu64 ": segments are missing",
                     first->number, first->first_lsn, after);
}

/* Verify and deliver one segment, and keep it. */
static enum status replay_one(struct log *l, struct replay *r, struct replay_segment *s,
                              struct error *reterr)
{
    char name[NAME_SIZE];
    segment_name(name, s->number);
    s->name = name;
    struct kept k = {s->number, s->first_lsn, DISK_ALIGNMENT, s->size};
    bool skip = s->next_first_lsn != 0 && s->next_first_lsn <= r->after + 1;
    r->next_lsn = s->first_lsn;
    enum status got = skip ? replay_skip(r, s, &k.used, reterr) : replay_run(r, s, &k.used, reterr);
    s->name = NULL;
    if (got != STATUS_OK)
        return got;
    got = kept_append(l, &k);
    return got == STATUS_OK ? got : error_set(reterr, got, "%s", status_text(got));
}

static uint64_t replay_total(const struct listing *list, uint64_t after)
{
    uint64_t total = 0;
    for (size_t i = list->first; i < list->count; i++) {
        const struct replay_segment *s = &list->segments[i];
        if (s->next_first_lsn == 0 || s->next_first_lsn > after + 1)
            total += s->size;
    }
    return total;
}

static enum status replay_all(struct log *l, struct replay *r, struct listing *list,
                              struct error *reterr)
{
    if (list->count == 0)
        return r->after == 0 ? STATUS_OK
                             : error_set(reterr, STATUS_CORRUPT,
                                         "directory '%s' is empty, but the checkpoint ends at "
                                         "record %" PRIu64,
                                         DIRECTORY, r->after);
    enum status s = headers_read(r, list, reterr);
    if (s != STATUS_OK)
        return s;
    if (list->segments[list->first].first_lsn > r->after + 1)
        return begins_too_late(list, r->after, reterr);
    r->total = replay_total(list, r->after);
    for (size_t i = list->first; i < list->count && s == STATUS_OK; i++)
        s = replay_one(l, r, &list->segments[i], reterr);
    if (s == STATUS_OK && r->progress != NULL)
        r->progress(r->arg, r->total, r->total, r->records);
    return s;
}

/* Copy the first `end` bytes of the last segment behind its new header; from is NULL for the first
 * segment of a new log. */
static enum status copy_groups(struct log *l, struct disk_file *from, struct disk_file *to,
                               uint64_t end)
{
    const struct disk_verbs *v = l->disk->verbs;
    size_t capacity = end < LOG_GROUP_SIZE_MAX ? (size_t)segment_align(end) : LOG_GROUP_SIZE_MAX;
    uint8_t *memory = aligned_alloc(DISK_ALIGNMENT, capacity);
    enum status s = memory == NULL ? STATUS_NOMEMORY : STATUS_OK;
    for (uint64_t at = DISK_ALIGNMENT; s == STATUS_OK && at < end;) {
        size_t size = end - at < capacity ? (size_t)(end - at) : capacity, got = 0;
        s = v->read(from, at, memory, size, &got);
        if (s == STATUS_OK && got < size)
            s = STATUS_IO;
        if (s == STATUS_OK)
            s = v->write(to, at, bytes_of(memory, size));
        at += size;
    }
    free(memory);
    return s;
}

static enum status fill_segment(struct log *l, const struct kept *k, struct disk_file *from,
                                struct disk_file *to)
{
    enum status s = write_header(l, to, k->number, k->first_lsn);
    if (s == STATUS_OK)
        s = copy_groups(l, from, to, k->used);
    for (uint64_t at = k->used; s == STATUS_OK && at < k->size;)
        s = write_zeros(l, to, at, k->size, &at);
    return s;
}

/* (4): a new file takes the place of the last segment, whole or not at all. */
static enum status rewrite_last(struct log *l, bool exists)
{
    const struct disk_verbs *v = l->disk->verbs;
    struct kept *k = &l->kept[l->kept_count - 1];
    struct disk_file *from = NULL;
    char name[NAME_SIZE];
    segment_name(name, k->number);
    if (k->size < l->options.segment_size)
        k->size = l->options.segment_size;
    k->size = segment_align(k->size);
    enum status s = v->open(l->disk, REWRITE_TMP_NAME, DISK_CREATE | DISK_DIRECT, &l->file, NULL);
    if (s == STATUS_OK && exists)
        s = v->open(l->disk, name, 0, &from, NULL);
    if (s == STATUS_OK)
        s = fill_segment(l, k, from, l->file);
    if (from != NULL)
        v->close(&from);
    if (s == STATUS_OK)
        s = v->rename(l->disk, REWRITE_TMP_NAME, name);
    if (s == STATUS_OK)
        s = sync_directory(l);
    l->number = k->number;
    l->offset = k->used;
    l->file_size = k->size;
    return s;
}

/* Rows of the footer for the groups that the open segment holds already. */
static enum status slots_restore(struct log *l)
{
    const struct disk_verbs *v = l->disk->verbs;
    size_t size = l->offset - DISK_ALIGNMENT, got = 0;
    uint8_t *memory = malloc(size + 1);
    if (memory == NULL)
        return STATUS_NOMEMORY;
    enum status s = v->read(l->file, DISK_ALIGNMENT, memory, size, &got);
    if (s == STATUS_OK && got < size)
        s = STATUS_IO;
    for (size_t at = 0; s == STATUS_OK && at < size;) {
        struct segment_group g;
        uint32_t count;
        if (!segment_group_peek(memory + at, l->number, l->options.node_tag, &g) ||
            g.size > size - at || !segment_group_verify(memory + at, &g)) {
            s = STATUS_CORRUPT;
            break;
        }
        struct bytes records = bytes_of(memory + at + SEGMENT_GROUP_HEADER_SIZE,
                                        g.size - SEGMENT_GROUP_HEADER_SIZE);
        s = segment_slots_reserve(&l->slots, records, &count);
        if (s == STATUS_OK)
            segment_slots_add(&l->slots, records, DISK_ALIGNMENT + at);
        at += segment_align(g.size);
    }
    free(memory);
    return s;
}

/* A spare from an earlier life is used again if it is large enough. */
static enum status spare_adopt(struct log *l)
{
    const struct disk_verbs *v = l->disk->verbs;
    enum status s = v->open(l->disk, SPARE_NAME, DISK_DIRECT, &l->spare, NULL);
    if (s == STATUS_OK)
        s = v->size(l->spare, &l->spare_size);
    if (s != STATUS_OK)
        return s;
    if (l->spare_size >= l->options.segment_size && l->spare_size % DISK_ALIGNMENT == 0) {
        l->spare_ready = true;
        return STATUS_OK;
    }
    spare_drop(l);
    return v->remove(l->disk, SPARE_NAME);
}

/* All is verified: from here on the directory is changed. */
static enum status settle(struct log *l, const struct replay *r, const struct listing *list)
{
    bool exists = list->count > 0;
    enum status s = STATUS_OK;
    if (!exists)
        s = kept_append(l, &(struct kept){1, 1, DISK_ALIGNMENT, l->options.segment_size});
    if (s == STATUS_OK)
        s = remove_if(l, list->spare_tmp, SPARE_TMP_NAME);
    if (s == STATUS_OK)
        s = remove_if(l, list->rewrite_tmp, REWRITE_TMP_NAME);
    if (s == STATUS_OK)
        s = drop_before_gap(l, list);
    if (s == STATUS_OK)
        s = rewrite_last(l, exists);
    if (s == STATUS_OK)
        s = slots_restore(l);
    if (s == STATUS_OK && list->spare)
        s = spare_adopt(l);
    l->next_lsn = exists ? r->next_lsn : 1;
    l->durable_lsn = l->next_lsn - 1;
    l->released_lsn = r->after;
    return s;
}

static enum status open_all(struct log *l, struct replay *r, struct error *reterr)
{
    struct listing list = {0};
    enum status s = listing_read(l, &list, reterr);
    if (s == STATUS_OK)
        s = replay_all(l, r, &list, reterr);
    if (s == STATUS_OK && (s = settle(l, r, &list)) != STATUS_OK)
        error_set(reterr, s, "rewrite the last segment in '%s': %s", DIRECTORY, status_text(s));
    free(list.segments);
    return s;
}

struct log *log_open(struct disk *disk, const struct log_options *options, uint64_t after,
                     log_record_fn *fn, log_progress_fn *progress, void *arg, struct error *reterr)
{
    ENSURE(options->segment_size >= LOG_SEGMENT_SIZE_MIN);
    ENSURE(options->segment_size % DISK_ALIGNMENT == 0);
    struct log *l = calloc(1, sizeof *l);
    if (l == NULL) {
        error_set(reterr, STATUS_NOMEMORY, "open the log: out of memory");
        return NULL;
    }
    l->disk = disk;
    l->options = *options;
    l->group_size_max = options->segment_size / 4 < LOG_GROUP_SIZE_MAX
                            ? (size_t)options->segment_size / 4
                            : LOG_GROUP_SIZE_MAX;
    ENSURE(pthread_mutex_init(&l->mutex, NULL) == 0);
    segment_slots_init(&l->slots);
    struct replay replay = {
        .disk = disk,
        .node_tag = options->node_tag,
        .after = after,
        .fn = fn,
        .progress = progress,
        .arg = arg,
    };
    if (reterr != NULL)
        *reterr = (struct error){0};
    if (open_all(l, &replay, reterr) != STATUS_OK)
        log_destroy(&l);
    return l;
}

void log_destroy(struct log **log_p)
{
    struct log *l = *log_p;
    if (l == NULL)
        return;
    struct log_group *lists[] = {l->gathered_first, l->idle};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (struct log_group *g = lists[i], *next; g != NULL; g = next) {
            next = g->next;
            group_free(g);
        }
    group_free(l->under_way);
    if (l->file != NULL)
        l->disk->verbs->close(&l->file);
    spare_drop(l);
    segment_slots_fini(&l->slots);
    free(l->kept);
    ENSURE(pthread_mutex_destroy(&l->mutex) == 0);
    free(l);
    *log_p = NULL;
}
