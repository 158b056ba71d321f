#include "storage/replay.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"

#define WINDOW_SIZE   ((size_t)1 << 20)
#define PROGRESS_STEP (4u << 20)

/* A part of the file in memory. */
struct window {
    struct disk_file *file;
    uint64_t file_size;
    uint8_t *memory;
    size_t capacity, size;
    uint64_t offset;
};

/* One segment under way. */
struct reading {
    struct replay *replay;
    const struct replay_segment *segment;
    struct window window;
    uint64_t offset; /* of the next group */
    struct error *reterr;
};

static enum status window_fill(struct window *w, uint64_t offset, size_t size)
{
    size_t capacity = w->file_size < WINDOW_SIZE ? (size_t)w->file_size : WINDOW_SIZE;
    if (capacity < size)
        capacity = size;
    if (capacity > w->capacity) {
        uint8_t *grown = realloc(w->memory, capacity);
        if (grown == NULL)
            return STATUS_NOMEMORY;
        w->memory = grown;
        w->capacity = capacity;
    }
    w->offset = offset;
    w->size = 0;
    return w->file->verbs->read(w->file, offset, w->memory, w->capacity, &w->size);
}

/* Borrow size bytes at offset until the next call; STATUS_NOTFOUND when the file ends before. */
static enum status window_view(struct window *w, uint64_t offset, uint64_t size,
                               const uint8_t **ret)
{
    if (offset > w->file_size || size > w->file_size - offset)
        return STATUS_NOTFOUND;
    if (offset < w->offset || offset + size > w->offset + w->size) {
        enum status s = window_fill(w, offset, (size_t)size);
        if (s != STATUS_OK)
            return s;
        if (w->size < size)
            return STATUS_IO;
    }
    *ret = w->memory + (offset - w->offset);
    return STATUS_OK;
}

static enum status broken(const struct reading *g, enum status s, uint64_t offset, const char *what)
{
    return error_set(g->reterr, s, "segment %s, offset %" PRIu64 ": %s", g->segment->path, offset,
                     what);
}

/* Errors that are not about content. */
static enum status trouble(const struct reading *g, enum status s)
{
    return broken(g, s, g->offset, s == STATUS_NOMEMORY ? "out of memory" : "cannot be read");
}

static enum status reading_open(struct reading *g, struct replay *r, const struct replay_segment *s,
                                struct error *reterr)
{
    *g = (struct reading){.replay = r, .segment = s, .reterr = reterr};
    enum status opened = r->disk->verbs->open(r->disk, s->path, 0, &g->window.file, reterr);
    if (opened != STATUS_OK)
        return opened;
    opened = r->disk->verbs->size(g->window.file, &g->window.file_size);
    return opened == STATUS_OK ? STATUS_OK : trouble(g, opened);
}

static void reading_close(struct reading *g)
{
    if (g->window.file != NULL)
        g->replay->disk->verbs->close(&g->window.file);
    free(g->window.memory);
}

static enum status header_read(struct reading *g, struct replay_segment *s)
{
    const uint8_t *block;
    struct segment_header header;
    enum status got = window_view(&g->window, 0, DISK_ALIGNMENT, &block);
    if (got == STATUS_NOTFOUND)
        return broken(g, STATUS_CORRUPT, 0, "shorter than its header");
    if (got != STATUS_OK)
        return trouble(g, got);
    got = segment_header_decode(block, &header);
    if (got == STATUS_FORMAT)
        return broken(g, got, 0, "a format that this program does not read");
    if (got != STATUS_OK)
        return broken(g, got, 0, "damaged header");
    if (header.node_tag != g->replay->node_tag)
        return broken(g, STATUS_WRONGCLUSTER, 0, "belongs to another node or cluster");
    if (header.number != s->number || header.first_lsn == 0)
        return broken(g, STATUS_CORRUPT, 0, "the header is that of another segment");
    s->first_lsn = header.first_lsn;
    s->size = g->window.file_size;
    return STATUS_OK;
}

enum status replay_header(struct replay *r, struct replay_segment *s, struct error *reterr)
{
    struct reading g;
    enum status got = reading_open(&g, r, s, reterr);
    if (got == STATUS_OK)
        got = header_read(&g, s);
    reading_close(&g);
    return got;
}

/* STATUS_NOTFOUND: no good footer stands at the end of the file. */
static enum status footer_read(struct reading *g, struct segment_footer *ret)
{
    struct window *w = &g->window;
    const uint8_t *at;
    if (w->file_size < DISK_ALIGNMENT + SEGMENT_FOOTER_HEAD_SIZE)
        return STATUS_NOTFOUND;
    enum status got =
        window_view(w, w->file_size - SEGMENT_FOOTER_HEAD_SIZE, SEGMENT_FOOTER_HEAD_SIZE, &at);
    if (got != STATUS_OK)
        return got;
    if (!segment_footer_peek(at, g->segment->number, g->replay->node_tag, ret))
        return STATUS_NOTFOUND;
    uint64_t size = segment_footer_size(ret->count);
    if (size > w->file_size - DISK_ALIGNMENT || ret->groups_end > w->file_size - size)
        return STATUS_NOTFOUND;
    got = window_view(w, w->file_size - size, size, &at);
    if (got != STATUS_OK)
        return got;
    return segment_footer_verify(bytes_of(at, size), ret) ? STATUS_OK : STATUS_NOTFOUND;
}

/* A sealed segment's footer was durable before the next segment began. */
static enum status footer_check(struct reading *g, uint64_t *ret_end)
{
    struct segment_footer footer;
    enum status got = footer_read(g, &footer);
    uint64_t at = g->window.file_size - SEGMENT_FOOTER_HEAD_SIZE;
    if (got == STATUS_NOTFOUND)
        return broken(g, STATUS_CORRUPT, at, "damaged footer");
    if (got != STATUS_OK)
        return trouble(g, got);
    if (footer.last_lsn + 1 != g->segment->next_first_lsn)
        return broken(g, STATUS_CORRUPT, at, "footer and next segment disagree");
    *ret_end = footer.groups_end;
    return STATUS_OK;
}

enum status replay_skip(struct replay *r, const struct replay_segment *s, uint64_t *ret_end,
                        struct error *reterr)
{
    struct reading g;
    enum status got = reading_open(&g, r, s, reterr);
    if (got == STATUS_OK)
        got = footer_check(&g, ret_end);
    reading_close(&g);
    return got;
}

/* A good group of this segment at offset, whatever its lsn. STATUS_NOTFOUND: none. */
static enum status group_at(struct reading *g, uint64_t offset, struct segment_group *ret,
                            const uint8_t **ret_memory)
{
    struct window *w = &g->window;
    const uint8_t *at;
    enum status got = window_view(w, offset, SEGMENT_GROUP_HEADER_SIZE, &at);
    if (got != STATUS_OK)
        return got;
    if (!segment_group_peek(at, g->segment->number, g->replay->node_tag, ret))
        return STATUS_NOTFOUND;
    got = window_view(w, offset, ret->size, ret_memory);
    if (got != STATUS_OK)
        return got;
    return segment_group_verify(*ret_memory, ret) ? STATUS_OK : STATUS_NOTFOUND;
}

static enum status deliver(struct reading *g, struct bytes records, uint32_t count)
{
    struct replay *r = g->replay;
    struct record_view record;
    enum status got;
    for (; (got = record_next(&records, &record)) == STATUS_OK; count--, r->next_lsn++) {
        if (count == 0)
            break;
        if (r->next_lsn <= r->after)
            continue;
        r->records++;
        enum status taken = r->fn == NULL ? STATUS_OK : r->fn(r->arg, r->next_lsn, &record);
        if (taken != STATUS_OK) {
            if (g->reterr != NULL && g->reterr->status != taken)
                broken(g, taken, g->offset, "a record was refused");
            return taken;
        }
    }
    if (got != STATUS_NOTFOUND || count != 0)
        return broken(g, STATUS_CORRUPT, g->offset, "a good group with bad records");
    return STATUS_OK;
}

static void report(struct replay *r)
{
    if (r->progress == NULL || r->done - r->reported < PROGRESS_STEP)
        return;
    r->reported = r->done;
    r->progress(r->arg, r->done, r->total, r->records);
}

/* Read good groups until one is missing or the segment's last lsn is reached. */
static enum status groups_read(struct reading *g)
{
    struct replay *r = g->replay;
    for (;;) {
        struct segment_group group;
        const uint8_t *memory;
        if (g->segment->next_first_lsn != 0 && r->next_lsn >= g->segment->next_first_lsn)
            return STATUS_OK;
        enum status got = group_at(g, g->offset, &group, &memory);
        if (got == STATUS_NOTFOUND)
            return STATUS_OK;
        if (got != STATUS_OK)
            return trouble(g, got);
        if (group.first_lsn != r->next_lsn || group.durable_lsn + 1 != group.first_lsn)
            return broken(g, STATUS_CORRUPT, g->offset, "a good group out of order");
        struct bytes records =
            bytes_of(memory + SEGMENT_GROUP_HEADER_SIZE, group.size - SEGMENT_GROUP_HEADER_SIZE);
        got = deliver(g, records, group.count);
        if (got != STATUS_OK)
            return got;
        uint64_t size = segment_align(group.size);
        g->offset += size;
        r->done += size;
        report(r);
    }
}

/* Only one group is under way at a time, so nothing good can stand behind a torn one. */
static enum status nothing_behind(struct reading *g)
{
    if (MUTANT(25))
        return STATUS_OK;
    for (uint64_t at = g->offset + DISK_ALIGNMENT;; at += DISK_ALIGNMENT) {
        struct segment_group group;
        const uint8_t *memory;
        if (at + SEGMENT_GROUP_HEADER_SIZE > g->window.file_size)
            return STATUS_OK;
        enum status got = group_at(g, at, &group, &memory);
        if (got == STATUS_OK)
            return broken(g, STATUS_CORRUPT, g->offset, "damaged group, good ones behind it");
        if (got != STATUS_NOTFOUND)
            return trouble(g, got);
    }
}

/* The last segment ends at g->offset, or so it seems. */
static enum status tail_check(struct reading *g)
{
    struct segment_footer footer;
    if (g->replay->next_lsn <= g->replay->after)
        return broken(g, STATUS_CORRUPT, g->offset,
                      "damaged group or end of the log below the checkpoint's position");
    enum status got = footer_read(g, &footer);
    if (got == STATUS_OK && footer.last_lsn >= g->replay->next_lsn)
        return broken(g, STATUS_CORRUPT, g->offset, "damaged group in a sealed segment");
    if (got != STATUS_OK && got != STATUS_NOTFOUND)
        return trouble(g, got);
    return nothing_behind(g);
}

static enum status segment_read(struct reading *g, uint64_t *ret_end)
{
    const struct replay_segment *s = g->segment;
    enum status got;
    ENSURE(g->replay->next_lsn == s->first_lsn);
    if (s->next_first_lsn != 0 && (got = footer_check(g, ret_end)) != STATUS_OK)
        return got;
    g->offset = DISK_ALIGNMENT;
    got = groups_read(g);
    if (got != STATUS_OK)
        return got;
    if (s->next_first_lsn == 0)
        got = tail_check(g);
    else if (g->replay->next_lsn != s->next_first_lsn)
        got = broken(g, STATUS_CORRUPT, g->offset, "damaged group");
    else if (g->offset != *ret_end)
        got = broken(g, STATUS_CORRUPT, g->offset, "groups and footer disagree");
    *ret_end = g->offset;
    return got;
}

enum status replay_run(struct replay *r, const struct replay_segment *s, uint64_t *ret_end,
                       struct error *reterr)
{
    struct reading g;
    enum status got = reading_open(&g, r, s, reterr);
    if (got == STATUS_OK)
        got = segment_read(&g, ret_end);
    reading_close(&g);
    return got;
}
