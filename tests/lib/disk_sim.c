#include "tests/lib/disk_sim.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "tests/sim/random.h"

#define SECTOR    512u
#define NAME_SIZE 64u
#define NO_FILE   SIZE_MAX

struct content {
    uint8_t *data;
    size_t size, capacity;
};

/* A file or directory, known by its place in sim.inodes. */
struct inode {
    bool used, directory;
    struct content cache, durable;
};

struct name {
    char text[NAME_SIZE]; /* with its folder: "log/1.seg" */
    size_t inode;
};

struct names {
    struct name *rows;
    size_t count, capacity;
};

enum op_kind {
    OP_WRITE,         /* pending until a sync of its inode */
    OP_WRITE_DURABLE, /* DISK_DIRECT */
    OP_NAME,          /* take `from` away, let `to` mean inode; pending until a directory sync */
    OP_SYNC,
    OP_SYNC_DIRECTORY, /* of the folder in `to` */
};

struct op {
    enum op_kind kind;
    bool done; /* on the disk, or lost for good */
    size_t inode;
    uint64_t offset;
    struct bytes data; /* owned */
    char from[NAME_SIZE], to[NAME_SIZE];
};

struct sim_file {
    struct disk_file file;
    struct sim *sim;
    struct sim_file *next;
    size_t inode;
    bool direct, dead;
};

struct sim {
    struct disk disk;
    struct random random;
    struct disk_sim_faults faults;
    struct inode *inodes;
    size_t inodes_count, inodes_capacity;
    size_t inodes_gc_at; /* look for unused ones at this count */
    struct names cache, durable;
    struct op *ops; /* oldest first: all that is not yet on the disk */
    size_t ops_count, ops_capacity;
    struct sim_file *files; /* open ones */
    bool locked;
    bool torn;
    size_t torn_start; /* in ops */
};

static const struct disk_verbs sim_verbs;

static struct sim *sim_of(const struct disk *d)
{
    ENSURE(d != NULL && d->verbs == &sim_verbs);
    return (struct sim *)d;
}

static struct sim_file *file_of(struct disk_file *f)
{
    ENSURE(f != NULL && f->verbs == &sim_verbs);
    return (struct sim_file *)f;
}

static void *grow(void *memory, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return memory;
    *capacity = *capacity == 0 ? 16 : *capacity * 2;
    memory = realloc(memory, *capacity * size);
    ENSURE(memory != NULL);
    return memory;
}

static bool due(uint32_t *countdown)
{
    return *countdown > 0 && --*countdown == 0;
}

/* Both are counted, always. */
static bool fails(struct sim *s, uint32_t *countdown)
{
    bool own = due(countdown), any = due(&s->faults.any_eio);
    return own || any;
}

/* -- Contents --------------------------------------------------------------------------------- */

static void content_resize(struct content *c, size_t size)
{
    if (size > c->capacity) {
        c->capacity = size + size / 2;
        c->data = realloc(c->data, c->capacity);
        ENSURE(c->data != NULL);
    }
    if (size > c->size)
        memset(c->data + c->size, 0, size - c->size);
    c->size = size;
}

static void content_write(struct content *c, uint64_t offset, struct bytes data)
{
    if (data.size == 0)
        return;
    if (offset + data.size > c->size)
        content_resize(c, (size_t)offset + data.size);
    memcpy(c->data + offset, data.data, data.size);
}

static void content_copy(struct content *to, const struct content *from)
{
    to->size = 0;
    content_resize(to, from->size);
    if (from->size > 0)
        memcpy(to->data, from->data, from->size);
}

/* Each sector of the write arrives in per_mille of a thousand cases. */
static void content_tear(struct sim *s, struct content *c, const struct op *op, uint32_t per_mille)
{
    size_t at = 0;
    while (at < op->data.size) {
        size_t size = SECTOR - (size_t)((op->offset + at) % SECTOR);
        if (size > op->data.size - at)
            size = op->data.size - at;
        if (random_chance(&s->random, per_mille))
            content_write(c, op->offset + at, bytes_of(op->data.data + at, size));
        at += size;
    }
}

/* -- Names ------------------------------------------------------------------------------------ */

static size_t names_find(const struct names *n, const char *text)
{
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->rows[i].text, text) == 0)
            return n->rows[i].inode;
    return NO_FILE;
}

static void names_remove(struct names *n, const char *text)
{
    for (size_t i = 0; i < n->count; i++) {
        if (strcmp(n->rows[i].text, text) != 0)
            continue;
        /* The order is kept: list() must not depend on chance. */
        memmove(&n->rows[i], &n->rows[i + 1], (--n->count - i) * sizeof *n->rows);
        return;
    }
}

static void copy_name(char to[static NAME_SIZE], const char *from)
{
    ENSURE(strlen(from) < NAME_SIZE);
    strcpy(to, from);
}

static void names_set(struct names *n, const char *text, size_t inode)
{
    names_remove(n, text);
    n->rows = grow(n->rows, n->count, &n->capacity, sizeof *n->rows);
    copy_name(n->rows[n->count].text, text);
    n->rows[n->count++].inode = inode;
}

static void names_apply(struct names *n, const struct op *op)
{
    if (op->from[0] != '\0')
        names_remove(n, op->from);
    if (op->to[0] != '\0')
        names_set(n, op->to, op->inode);
}

static void names_copy(struct names *to, const struct names *from)
{
    to->count = 0;
    for (size_t i = 0; i < from->count; i++)
        names_set(to, from->rows[i].text, from->rows[i].inode);
}

/* Is text directly inside the folder ("" is the root)? */
static bool inside(const char *folder, const char *text)
{
    size_t size = strlen(folder);
    if (size > 0 && (strncmp(text, folder, size) != 0 || text[size] != '/'))
        return false;
    return strchr(text + (size > 0 ? size + 1 : 0), '/') == NULL;
}

/* Files of a folder whose own name was lost are lost too. */
static void names_drop_orphans(struct names *n)
{
    for (size_t i = n->count; i-- > 0;) {
        char folder[NAME_SIZE];
        copy_name(folder, n->rows[i].text);
        char *slash = strrchr(folder, '/');
        if (slash == NULL)
            continue;
        *slash = '\0';
        if (names_find(n, folder) == NO_FILE)
            names_remove(n, n->rows[i].text);
    }
}

/* -- Inodes ----------------------------------------------------------------------------------- */

static bool inode_in_use(const struct sim *s, size_t inode)
{
    for (size_t i = 0; i < s->cache.count; i++)
        if (s->cache.rows[i].inode == inode)
            return true;
    for (size_t i = 0; i < s->durable.count; i++)
        if (s->durable.rows[i].inode == inode)
            return true;
    for (size_t i = 0; i < s->ops_count; i++)
        if (s->ops[i].inode == inode)
            return true;
    for (const struct sim_file *f = s->files; f != NULL; f = f->next)
        if (f->inode == inode)
            return true;
    return false;
}

static void inode_free(struct inode *i)
{
    free(i->cache.data);
    free(i->durable.data);
    *i = (struct inode){0};
}

static void inodes_collect(struct sim *s)
{
    for (size_t i = 0; i < s->inodes_count; i++)
        if (s->inodes[i].used && !inode_in_use(s, i))
            inode_free(&s->inodes[i]);
}

static size_t inode_new(struct sim *s, bool directory)
{
    size_t at = 0;
    if (s->inodes_count >= s->inodes_gc_at) {
        inodes_collect(s);
        while (at < s->inodes_count && s->inodes[at].used)
            at++;
        if (at == s->inodes_count)
            s->inodes_gc_at *= 2;
    } else {
        at = s->inodes_count;
    }
    if (at == s->inodes_count) {
        s->inodes = grow(s->inodes, s->inodes_count, &s->inodes_capacity, sizeof *s->inodes);
        s->inodes_count++;
    }
    s->inodes[at] = (struct inode){.used = true, .directory = directory};
    return at;
}

/* Bytes of all files that have a name. */
static uint64_t used_size(const struct sim *s)
{
    uint64_t size = 0;
    for (size_t i = 0; i < s->cache.count; i++)
        size += s->inodes[s->cache.rows[i].inode].cache.size;
    return size;
}

/* -- What is on its way to the disk ----------------------------------------------------------- */

static void op_free(struct op *op)
{
    free((uint8_t *)op->data.data);
}

static struct op *op_push(struct sim *s, enum op_kind kind, size_t inode)
{
    s->ops = grow(s->ops, s->ops_count, &s->ops_capacity, sizeof *s->ops);
    struct op *op = &s->ops[s->ops_count++];
    *op = (struct op){.kind = kind, .inode = inode};
    return op;
}

static void op_apply(struct sim *s, struct op *op)
{
    if (op->kind == OP_NAME)
        names_apply(&s->durable, op);
    else if (op->kind == OP_WRITE || op->kind == OP_WRITE_DURABLE)
        content_write(&s->inodes[op->inode].durable, op->offset, op->data);
    op->done = true;
}

/* Does the sync make this pending one durable? */
static bool covers(const struct op *sync, const struct op *op)
{
    if (op->done)
        return false;
    if (sync->kind == OP_SYNC)
        return op->kind == OP_WRITE && op->inode == sync->inode;
    /* Older bytes must not come over newer ones later. */
    if (sync->kind == OP_WRITE_DURABLE)
        return op->kind == OP_WRITE && op->inode == sync->inode &&
               op->offset < sync->offset + sync->data.size &&
               sync->offset < op->offset + op->data.size;
    return op->kind == OP_NAME && inside(sync->to, op->to[0] != '\0' ? op->to : op->from);
}

/* Let the disk do the first count operations in order: syncs and durable writes take effect, the
 * others stay pending. */
static void ops_execute(struct sim *s, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct op *op = &s->ops[i];
        if (op->done || op->kind == OP_WRITE || op->kind == OP_NAME)
            continue;
        for (size_t before = 0; before < i; before++)
            if (covers(op, &s->ops[before]))
                op_apply(s, &s->ops[before]);
        op_apply(s, op);
    }
}

/* Forget what is done. */
static void ops_compact(struct sim *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->ops_count; i++) {
        if (s->ops[i].done)
            op_free(&s->ops[i]);
        else
            s->ops[kept++] = s->ops[i];
    }
    s->ops_count = kept;
}

/* Outside a torn write the disk is never behind. */
static void ops_settle(struct sim *s)
{
    if (s->torn)
        return;
    ops_execute(s, s->ops_count);
    ops_compact(s);
}

static void ops_clear(struct sim *s)
{
    for (size_t i = 0; i < s->ops_count; i++)
        op_free(&s->ops[i]);
    s->ops_count = 0;
}

/* -- Verbs ------------------------------------------------------------------------------------ */

static enum status sim_open(struct disk *disk, const char *name, unsigned flags,
                            struct disk_file **ret, struct error *reterr)
{
    struct sim *s = sim_of(disk);
    if (fails(s, &s->faults.open_eio))
        return error_set(reterr, STATUS_IO, "open '%s': injected error", name);
    size_t inode = names_find(&s->cache, name);
    bool create = (flags & DISK_CREATE) != 0;
    if (!create && inode == NO_FILE)
        return error_set(reterr, STATUS_NOTFOUND, "open '%s': no such file", name);
    if (create && inode != NO_FILE)
        return error_set(reterr, STATUS_IO, "open '%s': exists", name);
    if (create) {
        inode = inode_new(s, false);
        struct op *op = op_push(s, OP_NAME, inode);
        copy_name(op->to, name);
        names_apply(&s->cache, op);
    }
    ENSURE(!s->inodes[inode].directory);
    struct sim_file *f = calloc(1, sizeof *f);
    ENSURE(f != NULL);
    *f = (struct sim_file){
        .file.verbs = &sim_verbs,
        .sim = s,
        .next = s->files,
        .inode = inode,
        .direct = (flags & DISK_DIRECT) != 0,
    };
    s->files = f;
    *ret = &f->file;
    return STATUS_OK;
}

static void sim_close(struct disk_file **file_p)
{
    if (*file_p == NULL)
        return;
    struct sim_file *f = file_of(*file_p);
    struct sim_file **at = &f->sim->files;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    free(f);
    *file_p = NULL;
}

static enum status sim_size(struct disk_file *file, uint64_t *ret_size)
{
    struct sim_file *f = file_of(file);
    if (fails(f->sim, &f->sim->faults.size_eio) || f->dead)
        return STATUS_IO;
    *ret_size = f->sim->inodes[f->inode].cache.size;
    return STATUS_OK;
}

static enum status sim_read(struct disk_file *file, uint64_t offset, void *to, size_t size,
                            size_t *ret_size)
{
    struct sim_file *f = file_of(file);
    if (fails(f->sim, &f->sim->faults.read_eio) || f->dead)
        return STATUS_IO;
    const struct content *c = &f->sim->inodes[f->inode].cache;
    *ret_size = 0;
    if (offset >= c->size)
        return STATUS_OK;
    *ret_size = size < c->size - offset ? size : c->size - (size_t)offset;
    memcpy(to, c->data + offset, *ret_size);
    return STATUS_OK;
}

static bool would_fill(struct sim *s, const struct content *c, uint64_t end)
{
    return s->faults.size_max > 0 && end > c->size &&
           used_size(s) + (end - c->size) > s->faults.size_max;
}

static enum status sim_write(struct disk_file *file, uint64_t offset, struct bytes data)
{
    struct sim_file *f = file_of(file);
    struct sim *s = f->sim;
    struct inode *inode = &s->inodes[f->inode];
    ENSURE(!f->direct || (offset % DISK_ALIGNMENT == 0 && data.size % DISK_ALIGNMENT == 0 &&
                          (uintptr_t)data.data % DISK_ALIGNMENT == 0));
    if (f->dead)
        return STATUS_IO;
    bool failed = fails(s, &s->faults.write_eio), full = due(&s->faults.write_full);
    if (full || would_fill(s, &inode->cache, offset + data.size))
        return STATUS_FULL;
    content_write(&inode->cache, offset, data);
    struct op *op = op_push(s, f->direct ? OP_WRITE_DURABLE : OP_WRITE, f->inode);
    op->offset = offset;
    uint8_t *copy = malloc(data.size + 1);
    ENSURE(copy != NULL);
    if (data.size > 0)
        memcpy(copy, data.data, data.size);
    op->data = bytes_of(copy, data.size);
    if (failed) {
        content_tear(s, &inode->durable, op, 500);
        op->done = true;
    }
    ops_settle(s);
    return failed ? STATUS_IO : STATUS_OK;
}

/* The cache takes the pages for clean now; the disk has some of them. */
static void lose_pending(struct sim *s, size_t inode)
{
    for (size_t i = 0; i < s->ops_count; i++) {
        struct op *op = &s->ops[i];
        if (op->done || op->kind != OP_WRITE || op->inode != inode)
            continue;
        content_tear(s, &s->inodes[inode].durable, op, 500);
        op->done = true;
    }
}

static enum status sim_sync(struct disk_file *file)
{
    struct sim_file *f = file_of(file);
    struct sim *s = f->sim;
    if (f->dead)
        return STATUS_IO;
    if (fails(s, &s->faults.sync_eio)) {
        lose_pending(s, f->inode);
        return STATUS_IO;
    }
    op_push(s, OP_SYNC, f->inode);
    ops_settle(s);
    return STATUS_OK;
}

static enum status change_names(struct sim *s, const char *from, const char *to, size_t inode)
{
    struct op *op = op_push(s, OP_NAME, inode);
    copy_name(op->from, from);
    copy_name(op->to, to);
    names_apply(&s->cache, op);
    return STATUS_OK;
}

static enum status sim_rename(struct disk *disk, const char *from, const char *to)
{
    struct sim *s = sim_of(disk);
    if (fails(s, &s->faults.name_eio))
        return STATUS_IO;
    size_t inode = names_find(&s->cache, from);
    return inode == NO_FILE ? STATUS_NOTFOUND : change_names(s, from, to, inode);
}

static enum status sim_remove(struct disk *disk, const char *name)
{
    struct sim *s = sim_of(disk);
    if (fails(s, &s->faults.name_eio))
        return STATUS_IO;
    size_t inode = names_find(&s->cache, name);
    return inode == NO_FILE ? STATUS_NOTFOUND : change_names(s, name, "", inode);
}

static enum status sim_make_directory(struct disk *disk, const char *name)
{
    struct sim *s = sim_of(disk);
    if (fails(s, &s->faults.name_eio))
        return STATUS_IO;
    size_t inode = names_find(&s->cache, name);
    if (inode != NO_FILE)
        return s->inodes[inode].directory ? STATUS_OK : STATUS_IO;
    return change_names(s, "", name, inode_new(s, true));
}

static bool is_directory(const struct sim *s, const char *name)
{
    size_t inode = names_find(&s->cache, name);
    return name[0] == '\0' || (inode != NO_FILE && s->inodes[inode].directory);
}

static enum status sim_sync_directory(struct disk *disk, const char *name)
{
    struct sim *s = sim_of(disk);
    if (fails(s, &s->faults.directory_sync_eio))
        return STATUS_IO;
    if (!is_directory(s, name))
        return STATUS_NOTFOUND;
    if (s->faults.directory_sync_ignored)
        return STATUS_OK;
    struct op *op = op_push(s, OP_SYNC_DIRECTORY, NO_FILE);
    copy_name(op->to, name);
    ops_settle(s);
    return STATUS_OK;
}

static enum status sim_list(struct disk *disk, const char *directory, disk_name_fn *fn, void *arg)
{
    struct sim *s = sim_of(disk);
    if (!is_directory(s, directory))
        return STATUS_NOTFOUND;
    size_t skip = directory[0] == '\0' ? 0 : strlen(directory) + 1;
    for (size_t i = 0; i < s->cache.count; i++)
        if (inside(directory, s->cache.rows[i].text))
            fn(arg, s->cache.rows[i].text + skip);
    return STATUS_OK;
}

static enum status sim_lock(struct disk *disk, struct error *reterr)
{
    struct sim *s = sim_of(disk);
    if (s->locked)
        return error_set(reterr, STATUS_LOCKED, "the directory is in use by another process");
    s->locked = true;
    return STATUS_OK;
}

static enum status sim_space(struct disk *disk, uint64_t *ret_free, uint64_t *ret_total)
{
    const struct sim *s = sim_of(disk);
    uint64_t used = used_size(s);
    *ret_total = s->faults.size_max > 0 ? s->faults.size_max : (uint64_t)1 << 40;
    *ret_free = used < *ret_total ? *ret_total - used : 0;
    return STATUS_OK;
}

static void sim_destroy(struct disk **disk_p)
{
    if (*disk_p == NULL)
        return;
    struct sim *s = sim_of(*disk_p);
    for (struct sim_file *f = s->files, *next; f != NULL; f = next) {
        next = f->next;
        free(f);
    }
    ops_clear(s);
    free(s->ops);
    for (size_t i = 0; i < s->inodes_count; i++)
        inode_free(&s->inodes[i]);
    free(s->inodes);
    free(s->cache.rows);
    free(s->durable.rows);
    free(s);
    *disk_p = NULL;
}

static const struct disk_verbs sim_verbs = {
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .read = sim_read,
    .write = sim_write,
    .sync = sim_sync,
    .rename = sim_rename,
    .remove = sim_remove,
    .make_directory = sim_make_directory,
    .sync_directory = sim_sync_directory,
    .list = sim_list,
    .lock = sim_lock,
    .space = sim_space,
    .destroy = sim_destroy,
};

/* -- The simulator's door --------------------------------------------------------------------- */

struct disk *disk_sim_new(uint64_t seed)
{
    struct sim *s = calloc(1, sizeof *s);
    ENSURE(s != NULL);
    s->disk.verbs = &sim_verbs;
    s->inodes_gc_at = 64;
    random_init(&s->random, seed);
    return &s->disk;
}

struct disk_sim_faults *disk_sim_faults(struct disk *disk)
{
    return &sim_of(disk)->faults;
}

static void end_process(struct sim *s)
{
    for (struct sim_file *f = s->files; f != NULL; f = f->next)
        f->dead = true;
    s->locked = false;
    s->torn = false;
}

static void cache_forget(struct sim *s)
{
    names_drop_orphans(&s->durable);
    names_copy(&s->cache, &s->durable);
    for (size_t i = 0; i < s->inodes_count; i++)
        if (s->inodes[i].used)
            content_copy(&s->inodes[i].cache, &s->inodes[i].durable);
}

/* The power fails after the first `count` operations, during the next one. */
static void crash_after(struct sim *s, size_t count)
{
    ops_execute(s, count);
    if (count < s->ops_count && s->ops[count].kind == OP_WRITE_DURABLE)
        count++;
    /* Nothing, all, or something in between of what is pending. */
    uint32_t per_mille = (uint32_t)random_below(&s->random, 5) * 250;
    for (size_t i = 0; i < count; i++) {
        struct op *op = &s->ops[i];
        if (op->done)
            continue;
        if (op->kind == OP_NAME && random_chance(&s->random, per_mille))
            names_apply(&s->durable, op);
        else if (op->kind == OP_WRITE || op->kind == OP_WRITE_DURABLE)
            content_tear(s, &s->inodes[op->inode].durable, op, per_mille);
    }
    ops_clear(s);
    cache_forget(s);
    end_process(s);
    inodes_collect(s);
}

void disk_sim_crash(struct disk *disk)
{
    struct sim *s = sim_of(disk);
    size_t count = s->ops_count;
    if (s->torn)
        count -= (size_t)random_below(&s->random, s->ops_count - s->torn_start + 1);
    crash_after(s, count);
}

void disk_sim_crash_at(struct disk *disk, size_t torn_count)
{
    struct sim *s = sim_of(disk);
    ENSURE(s->torn && torn_count <= s->ops_count - s->torn_start);
    crash_after(s, s->torn_start + torn_count);
}

void disk_sim_kill(struct disk *disk)
{
    struct sim *s = sim_of(disk);
    end_process(s);
    ops_settle(s);
}

void disk_sim_begin_torn_write(struct disk *disk, bool on)
{
    struct sim *s = sim_of(disk);
    ENSURE(s->torn != on);
    s->torn = on;
    s->torn_start = s->ops_count;
    ops_settle(s);
}

size_t disk_sim_torn_count(const struct disk *disk)
{
    const struct sim *s = sim_of(disk);
    ENSURE(s->torn);
    return s->ops_count - s->torn_start;
}

void disk_sim_corrupt(struct disk *disk, const char *name, uint64_t offset)
{
    struct sim *s = sim_of(disk);
    size_t inode = names_find(&s->cache, name);
    ENSURE(inode != NO_FILE);
    struct inode *found = &s->inodes[inode];
    uint8_t bit = (uint8_t)(1u << random_below(&s->random, 8));
    ENSURE(offset < found->cache.size);
    found->cache.data[offset] ^= bit;
    if (offset < found->durable.size)
        found->durable.data[offset] ^= bit;
}

static void copy_ops(struct sim *to, const struct sim *from)
{
    for (size_t i = 0; i < from->ops_count; i++) {
        struct op *op = op_push(to, from->ops[i].kind, from->ops[i].inode);
        uint8_t *copy = malloc(from->ops[i].data.size + 1);
        ENSURE(copy != NULL);
        if (from->ops[i].data.size > 0)
            memcpy(copy, from->ops[i].data.data, from->ops[i].data.size);
        *op = from->ops[i];
        op->data.data = copy;
    }
}

struct disk *disk_sim_copy(const struct disk *disk, uint64_t seed)
{
    const struct sim *from = sim_of(disk);
    struct sim *s = sim_of(disk_sim_new(seed));
    s->faults = from->faults;
    s->torn = from->torn;
    s->torn_start = from->torn_start;
    s->inodes_gc_at = from->inodes_gc_at;
    for (size_t i = 0; i < from->inodes_count; i++) {
        s->inodes = grow(s->inodes, s->inodes_count, &s->inodes_capacity, sizeof *s->inodes);
        struct inode *to = &s->inodes[s->inodes_count++];
        *to = (struct inode){.used = from->inodes[i].used, .directory = from->inodes[i].directory};
        content_copy(&to->cache, &from->inodes[i].cache);
        content_copy(&to->durable, &from->inodes[i].durable);
    }
    names_copy(&s->cache, &from->cache);
    names_copy(&s->durable, &from->durable);
    copy_ops(s, from);
    return &s->disk;
}
