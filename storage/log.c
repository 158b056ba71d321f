#include "storage/log.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "storage/folder.h"
#include "storage/gather.h"
#include "storage/replay.h"
#include "storage/retention.h"
#include "storage/segment.h"
#include "storage/spare.h"

#define MEMORY_ALIGNMENT 4096u
#define SPACE_LOW_SIZE   (512ull << 20)

struct log {
    struct disk *disk;
    struct log_options options;

    struct gather gather; /* the loop thread's */
    bool space_low;       /* the loop thread's */

    struct retention retention;  /* both threads' */
    _Atomic bool prepare_paused; /* both threads': the disk is too full to prepare a segment */

    /* The sync thread's: the open segment and the next one. */
    struct disk_file *file;
    uint64_t number, offset, file_size;
    struct segment_slots slots;
    struct spare spare;
};

/* -- The loop thread -------------------------------------------------------------------------- */

uint64_t log_next_lsn(const struct log *l)
{
    return l->gather.next_lsn;
}

uint64_t log_durable_lsn(const struct log *l)
{
    return l->gather.durable_lsn;
}

enum status log_append(struct log *l, uint64_t first, uint32_t count, struct bytes records)
{
    return gather_append(&l->gather, first, count, records);
}

struct log_group *log_group_take(struct log *l)
{
    return gather_take(&l->gather);
}

void log_group_done(struct log *l, struct log_group *g)
{
    gather_done(&l->gather, g);
}

void log_release(struct log *l, uint64_t lsn)
{
    ENSURE(lsn <= l->gather.durable_lsn);
    retention_release(&l->retention, lsn);
}

uint64_t log_replay_size(const struct log *l)
{
    return retention_replay_size(&l->retention, l->gather.durable_lsn);
}

void log_count(const struct log *l, uint64_t *ret_segments, uint64_t *ret_bytes)
{
    retention_count(&l->retention, ret_segments, ret_bytes);
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
    if (free_size >= 2 * l->options.segment_size)
        l->prepare_paused = false;
    return STATUS_OK;
}

/* -- Preparing: the sync thread --------------------------------------------------------------- */

/* One step on the way to a spare of size bytes; the first one prefers to recycle. */
static enum status prepare_step(struct log *l, uint64_t size)
{
    struct kept k;
    char path[FOLDER_PATH_SIZE];
    if (l->spare.file != NULL)
        return spare_step(&l->spare, size);
    if (!retention_take_free(&l->retention, &k))
        return spare_begin(&l->spare, NULL, 0);
    folder_segment_path(path, k.number);
    return spare_begin(&l->spare, path, k.size);
}

static bool prepare_wanted(const struct log *l)
{
    bool spare = spare_holds(&l->spare, l->options.segment_size);
    return (!spare && !l->prepare_paused) || retention_has_free(&l->retention);
}

/* A released segment beyond the one that is recycled. No directory sync: if the removal is lost,
 * the next log_open() does it again, or keeps the segment. */
static enum status drop_oldest(struct log *l)
{
    struct kept k;
    char path[FOLDER_PATH_SIZE];
    if (!retention_take_free(&l->retention, &k))
        return STATUS_OK;
    folder_segment_path(path, k.number);
    return l->disk->verbs->remove(l->disk, path);
}

enum status log_prepare(struct log *l, bool *ret_more)
{
    *ret_more = false;
    if (!prepare_wanted(l))
        return STATUS_OK;
    enum status s = spare_holds(&l->spare, l->options.segment_size)
                        ? drop_oldest(l)
                        : prepare_step(l, l->options.segment_size);
    if (s == STATUS_FULL) {
        /* Give back what was taken and wait for better times: only log_group_write() must have its
         * segment. */
        l->prepare_paused = true;
        s = spare_abandon(&l->spare);
    }
    *ret_more = s == STATUS_OK && prepare_wanted(l);
    return s;
}

/* -- Writing: the sync thread ----------------------------------------------------------------- */

static uint8_t *aligned_memory(uint64_t size)
{
    return aligned_alloc(MEMORY_ALIGNMENT,
                         (size + MEMORY_ALIGNMENT - 1) / MEMORY_ALIGNMENT * MEMORY_ALIGNMENT);
}

static enum status write_footer(struct log *l, uint32_t rows, uint64_t last_lsn)
{
    uint64_t size = segment_footer_size(rows);
    ENSURE(l->offset + size <= l->file_size);
    uint8_t *memory = aligned_memory(size);
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

/* Give the spare its header and its place in the log, both durable before a group goes in. */
static enum status open_next(struct log *l, uint64_t first_lsn)
{
    struct kept next = {l->number + 1, first_lsn, DISK_ALIGNMENT, l->spare.size};
    char path[FOLDER_PATH_SIZE];
    folder_segment_path(path, next.number);
    enum status s = write_header(l, l->spare.file, next.number, first_lsn);
    if (s == STATUS_OK)
        s = l->disk->verbs->rename(l->disk, FOLDER_SPARE, path);
    if (s == STATUS_OK)
        s = folder_sync(l->disk);
    if (s == STATUS_OK)
        s = retention_append(&l->retention, &next);
    if (s != STATUS_OK)
        return s;
    l->disk->verbs->close(&l->file);
    l->file = spare_take(&l->spare, &l->file_size);
    l->number = next.number;
    l->offset = DISK_ALIGNMENT;
    segment_slots_clear(&l->slots);
    return STATUS_OK;
}

/* Seal the open segment and go on in the next one, which gets at least size bytes. rows: how many
 * rows of l->slots belong to the old one. */
static enum status roll(struct log *l, uint32_t rows, uint64_t first_lsn, uint64_t size)
{
    enum status s = write_footer(l, rows, first_lsn - 1);
    while (s == STATUS_OK && !spare_holds(&l->spare, size))
        s = prepare_step(l, size);
    if (s == STATUS_OK)
        s = open_next(l, first_lsn);
    return s == STATUS_OK ? drop_oldest(l) : s;
}

/* Make sure that the group and the footer behind it fit into the open segment. */
static enum status make_room(struct log *l, const struct log_group *g)
{
    uint32_t rows = l->slots.count, count;
    enum status s = segment_slots_reserve(&l->slots, gather_records(g), &count);
    if (s != STATUS_OK)
        return s;
    ENSURE(count == g->count);
    uint64_t need = segment_align(g->size) + segment_footer_size(l->slots.count);
    if (l->offset + need <= l->file_size)
        return STATUS_OK;
    /* For a new segment need is too much, since the rows of the old one are counted: no harm. */
    need += DISK_ALIGNMENT;
    if (need < l->options.segment_size)
        need = l->options.segment_size;
    s = roll(l, rows, g->first_lsn, need);
    return s == STATUS_OK ? segment_slots_reserve(&l->slots, gather_records(g), &count) : s;
}

static void seal(const struct log *l, struct log_group *g)
{
    struct segment_group header = {
        .size = (uint32_t)g->size,
        .count = g->count,
        .first_lsn = g->first_lsn,
        .durable_lsn = g->first_lsn - 1, /* (2) */
        .number = l->number,
        .node_tag = l->options.node_tag,
    };
    segment_group_seal(g->memory, &header);
    memset(g->memory + g->size, 0, segment_align(g->size) - g->size);
}

enum status log_group_write(struct log *l, struct log_group *g)
{
    enum status s = make_room(l, g);
    if (s != STATUS_OK)
        return s;
    seal(l, g);
    uint64_t size = segment_align(g->size);
    s = l->disk->verbs->write(l->file, l->offset, bytes_of(g->memory, size));
    if (s == STATUS_IO && MUTANT(24))
        s = l->disk->verbs->sync(l->file);
    if (s != STATUS_OK)
        return s;
    segment_slots_add(&l->slots, gather_records(g), l->offset);
    l->offset += size;
    retention_use(&l->retention, l->offset);
    return STATUS_OK;
}

/* -- Opening: what the folder holds ----------------------------------------------------------- */

struct opening {
    struct log *log;
    struct folder folder;
    size_t first;                    /* in folder.numbers: those before it are behind a gap */
    struct replay_segment *segments; /* like folder.numbers from first on */
    size_t count;
    struct replay replay;
    struct kept last; /* of the last segment */
    struct error *reterr;
};

static enum status words(const struct opening *o, enum status s, const char *doing)
{
    return error_set(o->reterr, s, "%s '" FOLDER_NAME "': %s", doing, status_text(s));
}

/* Segments before a gap were recycled or removed, and a crash kept their names. If they were
 * wanted, begins_in_time() finds out. */
static enum status find_segments(struct opening *o)
{
    const uint64_t *numbers = o->folder.numbers;
    size_t first = o->folder.count == 0 ? 0 : o->folder.count - 1;
    while (first > 0 && numbers[first - 1] + 1 == numbers[first])
        first--;
    o->first = first;
    o->count = o->folder.count - first;
    o->segments = calloc(o->count + 1, sizeof *o->segments);
    if (o->segments == NULL)
        return words(o, STATUS_NOMEMORY, "open folder");
    for (size_t i = 0; i < o->count; i++) {
        o->segments[i].number = numbers[first + i];
        folder_segment_path(o->segments[i].path, numbers[first + i]);
    }
    return STATUS_OK;
}

/* Headers of all segments, and whether they follow each other. */
static enum status read_headers(struct opening *o)
{
    for (size_t i = 0; i < o->count; i++) {
        struct replay_segment *s = &o->segments[i];
        enum status got = replay_header(&o->replay, s, o->reterr);
        if (got != STATUS_OK)
            return got;
        if (i == 0)
            continue;
        if (s->first_lsn < s[-1].first_lsn)
            return error_set(o->reterr, STATUS_CORRUPT,
                             "segment %s, offset 0: begins at record %" PRIu64
                             ", the segment before it at %" PRIu64,
                             s->path, s->first_lsn, s[-1].first_lsn);
        s[-1].next_first_lsn = s->first_lsn;
    }
    return STATUS_OK;
}

/* Does the log reach back to the checkpoint's position? */
static enum status begins_in_time(const struct opening *o)
{
    uint64_t after = o->replay.after;
    if (o->count == 0 && after > 0)
        return error_set(o->reterr, STATUS_CORRUPT,
                         "folder '" FOLDER_NAME "' is empty, but the checkpoint ends at record "
                         "%" PRIu64,
                         after);
    if (o->count > 0 && o->segments[0].first_lsn > after + 1)
        return error_set(o->reterr, STATUS_CORRUPT,
                         "segment %s, offset 0: begins at record %" PRIu64
                         ", but the checkpoint ends at %" PRIu64 ": segments are missing",
                         o->segments[0].path, o->segments[0].first_lsn, after);
    return STATUS_OK;
}

/* True when no record of a sealed segment is wanted. */
static bool below(const struct opening *o, const struct replay_segment *s)
{
    return s->next_first_lsn != 0 && s->next_first_lsn <= o->replay.after + 1;
}

/* Verify and deliver one segment; the last one is not kept before it is rewritten. */
static enum status replay_one(struct opening *o, const struct replay_segment *s)
{
    struct kept k = {s->number, s->first_lsn, DISK_ALIGNMENT, s->size};
    enum status got;
    o->replay.next_lsn = s->first_lsn;
    if (below(o, s))
        got = replay_skip(&o->replay, s, &k.used, o->reterr);
    else
        got = replay_run(&o->replay, s, &k.used, o->reterr);
    if (got != STATUS_OK)
        return got;
    if (s->next_first_lsn == 0) {
        o->last = k;
        return STATUS_OK;
    }
    got = retention_append(&o->log->retention, &k);
    return got == STATUS_OK ? got : words(o, got, "open folder");
}

static enum status replay_all(struct opening *o)
{
    struct replay *r = &o->replay;
    enum status s = STATUS_OK;
    for (size_t i = 0; i < o->count; i++)
        if (!below(o, &o->segments[i]))
            r->total += o->segments[i].size;
    for (size_t i = 0; i < o->count && s == STATUS_OK; i++)
        s = replay_one(o, &o->segments[i]);
    if (s == STATUS_OK && r->progress != NULL)
        r->progress(r->arg, r->total, r->total, r->records);
    return s;
}

/* -- Opening: what is changed, after all is verified ------------------------------------------ */

static enum status remove_if(struct log *l, bool present, const char *path)
{
    return present ? l->disk->verbs->remove(l->disk, path) : STATUS_OK;
}

static enum status remove_remains(struct opening *o)
{
    struct log *l = o->log;
    enum status s = remove_if(l, o->folder.spare_tmp, FOLDER_SPARE_TMP);
    if (s == STATUS_OK)
        s = remove_if(l, o->folder.rewrite_tmp, FOLDER_REWRITE_TMP);
    for (size_t i = 0; i < o->first && s == STATUS_OK; i++) {
        char path[FOLDER_PATH_SIZE];
        folder_segment_path(path, o->folder.numbers[i]);
        s = l->disk->verbs->remove(l->disk, path);
    }
    return s;
}

/* Copy the groups, which end at offset `end`. */
static enum status copy_groups(struct log *l, struct disk_file *from, struct disk_file *to,
                               uint64_t end)
{
    const struct disk_verbs *v = l->disk->verbs;
    size_t capacity = end < LOG_GROUP_SIZE_MAX ? (size_t)end : LOG_GROUP_SIZE_MAX;
    uint8_t *memory = aligned_memory(capacity);
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

/* The file that the last segment is written into: the spare, which has its zeros already (or an older
 * segment, whose groups carry another number), or a new one. *ret_path is its name until it is whole. */
static enum status rewrite_begin(struct log *l, struct kept *k, const char **ret_path)
{
    *ret_path = FOLDER_REWRITE_TMP;
    if (!spare_holds(&l->spare, k->size))
        return l->disk->verbs->open(l->disk, FOLDER_REWRITE_TMP, DISK_CREATE | DISK_DIRECT, &l->file,
                                    NULL);
    *ret_path = FOLDER_SPARE;
    l->file = spare_take(&l->spare, &k->size);
    return STATUS_OK;
}

/* from is NULL for the first segment of a new log. */
static enum status fill_segment(struct log *l, const struct kept *k, struct disk_file *from,
                                bool zeros)
{
    enum status s = write_header(l, l->file, k->number, k->first_lsn);
    if (s == STATUS_OK && from != NULL)
        s = copy_groups(l, from, l->file, k->used);
    for (uint64_t at = k->used; zeros && s == STATUS_OK && at < k->size;)
        s = spare_write_zeros(l->disk, l->file, at, k->size, &at);
    return s;
}

/* (4): another file takes the place of the last segment, whole or not at all. It stays open. */
static enum status rewrite_last(struct opening *o)
{
    struct log *l = o->log;
    const struct disk_verbs *v = l->disk->verbs;
    struct kept *k = &o->last;
    struct disk_file *from = NULL;
    const char *written;
    char path[FOLDER_PATH_SIZE];
    folder_segment_path(path, k->number);
    k->size = segment_align(k->size);
    if (k->size < l->options.segment_size)
        k->size = l->options.segment_size;
    enum status s = rewrite_begin(l, k, &written);
    if (s == STATUS_OK && o->count > 0)
        s = v->open(l->disk, path, 0, &from, NULL);
    if (s == STATUS_OK)
        s = fill_segment(l, k, from, strcmp(written, FOLDER_SPARE) != 0);
    if (from != NULL)
        v->close(&from);
    if (s == STATUS_OK)
        s = v->rename(l->disk, written, path);
    if (s == STATUS_OK)
        s = folder_sync(l->disk);
    l->number = k->number;
    l->offset = k->used;
    l->file_size = k->size;
    return s == STATUS_OK ? retention_append(&l->retention, k) : s;
}

/* The rows for one group that the rewritten segment holds. *ret_size: with padding. */
static enum status restore_group(struct log *l, struct bytes rest, uint64_t offset,
                                 uint64_t *ret_size)
{
    struct segment_group g;
    uint32_t count;
    if (!segment_group_peek(rest.data, l->number, l->options.node_tag, &g) || g.size > rest.size ||
        !segment_group_verify(rest.data, &g))
        return STATUS_CORRUPT;
    struct bytes records =
        bytes_of(rest.data + SEGMENT_GROUP_HEADER_SIZE, g.size - SEGMENT_GROUP_HEADER_SIZE);
    enum status s = segment_slots_reserve(&l->slots, records, &count);
    if (s == STATUS_OK)
        segment_slots_add(&l->slots, records, offset);
    *ret_size = segment_align(g.size);
    return s;
}

/* A file that lost bytes behind its last group may have no room for its footer, which then makes it
 * longer. */
static void make_room_for_footer(struct log *l)
{
    uint64_t end = l->offset + segment_footer_size(l->slots.count);
    if (l->file_size < end)
        l->file_size = end;
}

/* Read the rewritten segment once more: the rows of its footer, and whether the copy is good. */
static enum status restore_slots(struct log *l)
{
    size_t size = (size_t)l->offset, got = 0;
    uint8_t *memory = malloc(size);
    if (memory == NULL)
        return STATUS_NOMEMORY;
    enum status s = l->disk->verbs->read(l->file, 0, memory, size, &got);
    if (s == STATUS_OK && got < size)
        s = STATUS_IO;
    for (uint64_t at = DISK_ALIGNMENT, step; s == STATUS_OK && at < size; at += step) {
        step = DISK_ALIGNMENT;
        s = restore_group(l, bytes_of(memory + at, size - at), at, &step);
    }
    free(memory);
    return s;
}

static enum status settle(struct opening *o)
{
    struct log *l = o->log;
    if (o->count == 0) {
        o->last = (struct kept){1, 1, DISK_ALIGNMENT, l->options.segment_size};
        o->replay.next_lsn = 1;
    }
    enum status s = remove_remains(o);
    if (s == STATUS_OK && o->folder.spare)
        s = spare_adopt(&l->spare, l->options.segment_size);
    if (s == STATUS_OK)
        s = rewrite_last(o);
    if (s == STATUS_OK)
        s = restore_slots(l);
    if (s != STATUS_OK)
        return words(o, s, "rewrite the last segment in");
    make_room_for_footer(l);
    l->gather.next_lsn = o->replay.next_lsn;
    l->gather.durable_lsn = o->replay.next_lsn - 1;
    return STATUS_OK;
}

static enum status open_all(struct opening *o)
{
    enum status s = folder_read(&o->folder, o->log->disk);
    if (s != STATUS_OK)
        return words(o, s, "open folder");
    s = find_segments(o);
    if (s == STATUS_OK)
        s = read_headers(o);
    if (s == STATUS_OK)
        s = begins_in_time(o);
    if (s == STATUS_OK)
        s = replay_all(o);
    return s == STATUS_OK ? settle(o) : s;
}

static struct log *new_log(struct disk *disk, const struct log_options *options, uint64_t after)
{
    ENSURE(options->segment_size >= LOG_SEGMENT_SIZE_MIN);
    ENSURE(options->segment_size % DISK_ALIGNMENT == 0);
    struct log *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    uint64_t group_size_max = options->segment_size / 4; /* little is left over at its end */
    if (group_size_max > LOG_GROUP_SIZE_MAX)
        group_size_max = LOG_GROUP_SIZE_MAX;
    l->disk = disk;
    l->options = *options;
    gather_init(&l->gather, (size_t)group_size_max, 1);
    retention_init(&l->retention, options->retention_size, after);
    segment_slots_init(&l->slots);
    spare_init(&l->spare, disk);
    return l;
}

struct log *log_open(struct disk *disk, const struct log_options *options, uint64_t after,
                     log_record_fn *fn, log_progress_fn *progress, void *arg, struct error *reterr)
{
    struct opening o = {
        .log = new_log(disk, options, after),
        .replay = {.disk = disk,
                   .node_tag = options->node_tag,
                   .after = after,
                   .fn = fn,
                   .progress = progress,
                   .arg = arg},
        .reterr = reterr,
    };
    if (reterr != NULL)
        *reterr = (struct error){0};
    if (o.log == NULL) {
        words(&o, STATUS_NOMEMORY, "open folder");
        return NULL;
    }
    folder_init(&o.folder);
    if (open_all(&o) != STATUS_OK)
        log_destroy(&o.log);
    folder_fini(&o.folder);
    free(o.segments);
    return o.log;
}

void log_destroy(struct log **log_p)
{
    struct log *l = *log_p;
    if (l == NULL)
        return;
    gather_fini(&l->gather);
    retention_fini(&l->retention);
    segment_slots_fini(&l->slots);
    spare_fini(&l->spare);
    if (l->file != NULL)
        l->disk->verbs->close(&l->file);
    free(l);
    *log_p = NULL;
}
