/* Every committed state is an image: sorted arrays of rows that are never changed. A transaction
 * works on a copy, a commit makes it the newest image, a refresh takes a reference to the newest.
 */
#include "tests/lib/table_mem.h"

#include <pthread.h>
#include <stdlib.h>

#include "proto/base/ensure.h"

#define PREFIX_SIZE  12 /* slot and digest, big endian */
#define FAULTS_COUNT (TABLE_MEM_COMMIT_DONE + 1)

struct mem_row {
    unsigned refs; /* images that hold it */
    struct version version;
    uint64_t expiry_ms;
    size_t key_size, value_size;
    uint8_t data[]; /* key, value */
};

struct mem_map {
    struct mem_row **rows; /* ascending by key */
    size_t count, capacity;
};

struct image {
    unsigned refs; /* readers, the table itself */
    struct mem_map rows, blobs;
    uint64_t bytes; /* of keys and values of rows */
};

struct fault {
    bool armed;
    uint64_t after;
    enum status status;
};

struct table_mem {
    struct table base;
    pthread_mutex_t mutex; /* over all references, newest, faults and commits */
    struct image *newest;
    struct image *draft; /* of the transaction under way, else NULL */
    struct fault faults[FAULTS_COUNT];
    uint64_t commits;
};

struct reader_mem {
    struct table_reader base;
    struct table_mem *table;
    struct image *image; /* between refresh and release */
};

static struct table_mem *mem_of(const struct table *t)
{
    return (struct table_mem *)t;
}

static struct reader_mem *reader_of(struct table_reader *r)
{
    return (struct reader_mem *)r;
}

/* --- faults --- */

static enum status fault_check(struct table_mem *m, enum table_mem_fault which)
{
    pthread_mutex_lock(&m->mutex);
    struct fault *f = &m->faults[which];
    enum status s = STATUS_OK;
    if (f->armed && f->after-- == 0) {
        f->armed = false;
        s = f->status;
    }
    pthread_mutex_unlock(&m->mutex);
    return s;
}

bool table_mem_failing(const struct table *t)
{
    const struct table_mem *m = (const struct table_mem *)t;
    for (unsigned i = 0; i < FAULTS_COUNT; i++)
        if (m->faults[i].armed)
            return true;
    return false;
}

void table_mem_fail(struct table *t, enum table_mem_fault fault, uint64_t after, enum status status)
{
    struct table_mem *m = mem_of(t);
    pthread_mutex_lock(&m->mutex);
    m->faults[fault] = (struct fault){true, after, status};
    pthread_mutex_unlock(&m->mutex);
}

/* --- maps --- */

static struct bytes key_of(const struct mem_row *row)
{
    return bytes_of(row->data, row->key_size);
}

static struct bytes value_of(const struct mem_row *row)
{
    return bytes_of(row->data + row->key_size, row->value_size);
}

/* Index of the first row at or above key. */
static size_t map_index(const struct mem_map *map, struct bytes key)
{
    size_t low = 0, high = map->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (bytes_compare(key_of(map->rows[middle]), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct mem_row *map_find(const struct mem_map *map, struct bytes key)
{
    size_t i = map_index(map, key);
    return i < map->count && bytes_equal(key_of(map->rows[i]), key) ? map->rows[i] : NULL;
}

static void row_unref(struct mem_row *row)
{
    if (--row->refs == 0)
        free(row);
}

static void map_remove(struct mem_map *map, struct bytes key)
{
    size_t i = map_index(map, key);
    ENSURE(i < map->count);
    row_unref(map->rows[i]);
    map->count--;
    memmove(&map->rows[i], &map->rows[i + 1], (map->count - i) * sizeof(struct mem_row *));
}

static bool map_insert(struct mem_map *map, struct mem_row *row)
{
    if (map->count == map->capacity) {
        size_t capacity = map->capacity * 2 + 8;
        struct mem_row **grown = realloc(map->rows, capacity * sizeof(struct mem_row *));
        if (grown == NULL)
            return false;
        map->rows = grown;
        map->capacity = capacity;
    }
    size_t i = map_index(map, key_of(row));
    memmove(&map->rows[i + 1], &map->rows[i], (map->count - i) * sizeof(struct mem_row *));
    map->rows[i] = row;
    map->count++;
    return true;
}

static bool map_copy(const struct mem_map *from, struct mem_map *ret)
{
    ret->rows = malloc((from->count + 1) * sizeof(struct mem_row *));
    if (ret->rows == NULL)
        return false;
    ret->count = from->count;
    ret->capacity = from->count + 1;
    for (size_t i = 0; i < from->count; i++) {
        ret->rows[i] = from->rows[i];
        ret->rows[i]->refs++;
    }
    return true;
}

static void map_fini(struct mem_map *map)
{
    for (size_t i = 0; i < map->count; i++)
        row_unref(map->rows[i]);
    free(map->rows);
}

/* --- images; the mutex is held --- */

static void image_unref(struct image *image)
{
    if (image == NULL || --image->refs > 0)
        return;
    map_fini(&image->rows);
    map_fini(&image->blobs);
    free(image);
}

static struct image *image_copy(const struct image *from)
{
    struct image *image = calloc(1, sizeof *image);
    if (image == NULL)
        return NULL;
    image->refs = 1;
    image->bytes = from->bytes;
    if (map_copy(&from->rows, &image->rows) && map_copy(&from->blobs, &image->blobs))
        return image;
    image_unref(image);
    return NULL;
}

/* --- readers --- */

static enum status mem_reader_new(struct table *t, struct table_reader **ret)
{
    struct reader_mem *r = calloc(1, sizeof *r);
    if (r == NULL)
        return STATUS_NOMEMORY;
    r->base.verbs = t->verbs;
    r->table = mem_of(t);
    *ret = &r->base;
    return STATUS_OK;
}

static void mem_release(struct table_reader *reader)
{
    struct reader_mem *r = reader_of(reader);
    pthread_mutex_lock(&r->table->mutex);
    image_unref(r->image);
    r->image = NULL;
    pthread_mutex_unlock(&r->table->mutex);
}

static void mem_reader_destroy(struct table_reader **reader_p)
{
    if (*reader_p == NULL)
        return;
    mem_release(*reader_p);
    free(*reader_p);
    *reader_p = NULL;
}

static enum status mem_refresh(struct table_reader *reader)
{
    struct reader_mem *r = reader_of(reader);
    enum status s = fault_check(r->table, TABLE_MEM_READ);
    if (s != STATUS_OK)
        return s;
    pthread_mutex_lock(&r->table->mutex);
    image_unref(r->image);
    r->image = r->table->newest;
    r->image->refs++;
    pthread_mutex_unlock(&r->table->mutex);
    return STATUS_OK;
}

static struct bytes row_key(uint8_t to[static PREFIX_SIZE + KEY_SIZE_MAX], uint32_t slot,
                            uint64_t digest, struct bytes key)
{
    ENSURE(key.size <= KEY_SIZE_MAX);
    bytes_put_be32(to, slot);
    bytes_put_be64(to + 4, digest);
    if (key.size > 0)
        memcpy(to + PREFIX_SIZE, key.data, key.size);
    return bytes_of(to, PREFIX_SIZE + key.size);
}

static struct item item_of(const struct mem_row *row)
{
    return (struct item){
        .present = true,
        .version = row->version,
        .expiry_ms = row->expiry_ms,
        .value = value_of(row),
    };
}

static enum status mem_get(struct table_reader *reader, uint32_t slot, uint64_t digest,
                           struct bytes key, struct item *ret)
{
    struct reader_mem *r = reader_of(reader);
    ENSURE(r->image != NULL);
    enum status s = fault_check(r->table, TABLE_MEM_READ);
    if (s != STATUS_OK)
        return s;
    uint8_t memory[PREFIX_SIZE + KEY_SIZE_MAX];
    const struct mem_row *row = map_find(&r->image->rows, row_key(memory, slot, digest, key));
    *ret = row == NULL ? (struct item){.present = false} : item_of(row);
    return STATUS_OK;
}

/* A row lives as long as the call, as table.h says: afterwards its bytes are others. */
static bool give_row(const struct table_row *row, table_row_fn *fn, void *arg)
{
    size_t size = row->key.size + row->item.value.size;
    /* The simulator takes memory away from the node that scans; it does not mean us. */
    uint8_t *copy = malloc(size + 1);
    while (copy == NULL)
        copy = malloc(size + 1);
    struct table_row given = *row;
    memcpy(copy, row->key.data, row->key.size);
    if (row->item.value.size > 0)
        memcpy(copy + row->key.size, row->item.value.data, row->item.value.size);
    given.key = bytes_of(copy, row->key.size);
    given.item.value = bytes_of(copy + row->key.size, row->item.value.size);
    bool more = fn(arg, &given);
    memset(copy, 0xdb, size);
    free(copy);
    return more;
}

static enum status mem_scan(struct table_reader *reader, uint32_t slot, uint64_t digest,
                            struct bytes key, table_row_fn *fn, void *arg)
{
    struct reader_mem *r = reader_of(reader);
    ENSURE(r->image != NULL);
    enum status s = fault_check(r->table, TABLE_MEM_READ);
    if (s != STATUS_OK)
        return s;
    uint8_t memory[PREFIX_SIZE + KEY_SIZE_MAX];
    struct bytes from = row_key(memory, slot, digest, key);
    const struct mem_map *map = &r->image->rows;
    for (size_t i = map_index(map, from); i < map->count; i++) {
        struct bytes here = key_of(map->rows[i]);
        if (bytes_be32(here.data) != slot)
            break;
        if (key.size > 0 && bytes_equal(here, from))
            continue;
        struct table_row row = {slot, bytes_be64(here.data + 4),
                                bytes_of(here.data + PREFIX_SIZE, here.size - PREFIX_SIZE),
                                item_of(map->rows[i])};
        if (!give_row(&row, fn, arg))
            break;
    }
    return STATUS_OK;
}

static enum status mem_blob_get(struct table_reader *reader, struct bytes name, struct bytes *ret)
{
    struct reader_mem *r = reader_of(reader);
    ENSURE(r->image != NULL);
    enum status s = fault_check(r->table, TABLE_MEM_READ);
    if (s != STATUS_OK)
        return s;
    const struct mem_row *row = map_find(&r->image->blobs, name);
    if (row == NULL)
        return STATUS_NOTFOUND;
    *ret = value_of(row);
    return STATUS_OK;
}

static enum status mem_blob_scan(struct table_reader *reader, table_blob_fn *fn, void *arg)
{
    struct reader_mem *r = reader_of(reader);
    ENSURE(r->image != NULL);
    enum status s = fault_check(r->table, TABLE_MEM_READ);
    const struct mem_map *map = &r->image->blobs;
    for (size_t i = 0; s == STATUS_OK && i < map->count; i++)
        if (!fn(arg, key_of(map->rows[i]), value_of(map->rows[i])))
            break;
    return s;
}

/* --- the writer --- */

static enum status mem_begin(struct table *t)
{
    struct table_mem *m = mem_of(t);
    ENSURE(m->draft == NULL);
    enum status s = fault_check(m, TABLE_MEM_WRITE);
    if (s != STATUS_OK)
        return s;
    pthread_mutex_lock(&m->mutex);
    m->draft = image_copy(m->newest);
    pthread_mutex_unlock(&m->mutex);
    return m->draft == NULL ? STATUS_NOMEMORY : STATUS_OK;
}

/* The draft alone is changed without the mutex; its rows' references are everybody's. */
static enum status draft_set(struct table_mem *m, struct mem_map *map, struct bytes key,
                             const struct item *item)
{
    struct mem_row *row = malloc(sizeof *row + key.size + item->value.size);
    if (row == NULL)
        return STATUS_NOMEMORY;
    *row = (struct mem_row){1, item->version, item->expiry_ms, key.size, item->value.size};
    memcpy(row->data, key.data, key.size);
    if (item->value.size > 0)
        memcpy(row->data + key.size, item->value.data, item->value.size);
    pthread_mutex_lock(&m->mutex);
    bool done = map_insert(map, row);
    pthread_mutex_unlock(&m->mutex);
    if (done)
        return STATUS_OK;
    free(row);
    return STATUS_NOMEMORY;
}

static void draft_remove(struct table_mem *m, struct mem_map *map, struct bytes key)
{
    pthread_mutex_lock(&m->mutex);
    if (map_find(map, key) != NULL)
        map_remove(map, key);
    pthread_mutex_unlock(&m->mutex);
}

static enum status mem_put(struct table *t, const struct table_row *row)
{
    struct table_mem *m = mem_of(t);
    ENSURE(m->draft != NULL);
    ENSURE(row->key.size > 0);
    enum status s = fault_check(m, TABLE_MEM_WRITE);
    if (s != STATUS_OK)
        return s;
    uint8_t memory[PREFIX_SIZE + KEY_SIZE_MAX];
    struct bytes key = row_key(memory, row->slot, row->digest, row->key);
    const struct mem_row *old = map_find(&m->draft->rows, key);
    if (old != NULL)
        m->draft->bytes -= old->key_size + old->value_size;
    draft_remove(m, &m->draft->rows, key);
    if (!row->item.present)
        return STATUS_OK;
    m->draft->bytes += key.size + row->item.value.size;
    return draft_set(m, &m->draft->rows, key, &row->item);
}

static enum status mem_blob_put(struct table *t, struct bytes name, struct bytes value)
{
    struct table_mem *m = mem_of(t);
    ENSURE(m->draft != NULL);
    ENSURE(name.size > 0);
    enum status s = fault_check(m, TABLE_MEM_WRITE);
    if (s != STATUS_OK)
        return s;
    draft_remove(m, &m->draft->blobs, name);
    return draft_set(m, &m->draft->blobs, name, &(struct item){.value = value});
}

static void mem_abort(struct table *t)
{
    struct table_mem *m = mem_of(t);
    pthread_mutex_lock(&m->mutex);
    image_unref(m->draft);
    m->draft = NULL;
    pthread_mutex_unlock(&m->mutex);
}

static void make_newest(struct table_mem *m)
{
    pthread_mutex_lock(&m->mutex);
    image_unref(m->newest);
    m->newest = m->draft;
    m->draft = NULL;
    m->commits++;
    pthread_mutex_unlock(&m->mutex);
}

static enum status mem_commit(struct table *t)
{
    struct table_mem *m = mem_of(t);
    ENSURE(m->draft != NULL);
    enum status s = fault_check(m, TABLE_MEM_COMMIT);
    if (s != STATUS_OK) {
        mem_abort(t);
        return s;
    }
    make_newest(m);
    return fault_check(m, TABLE_MEM_COMMIT_DONE);
}

static void mem_count(struct table *t, uint64_t *ret_rows, uint64_t *ret_bytes)
{
    struct table_mem *m = mem_of(t);
    pthread_mutex_lock(&m->mutex);
    *ret_rows = m->newest->rows.count;
    *ret_bytes = m->newest->bytes;
    pthread_mutex_unlock(&m->mutex);
}

static void mem_destroy(struct table **table_p)
{
    if (*table_p == NULL)
        return;
    struct table_mem *m = mem_of(*table_p);
    mem_abort(*table_p);
    image_unref(m->newest);
    pthread_mutex_destroy(&m->mutex);
    free(m);
    *table_p = NULL;
}

static const struct table_verbs mem_verbs = {
    .reader_new = mem_reader_new,
    .reader_destroy = mem_reader_destroy,
    .refresh = mem_refresh,
    .release = mem_release,
    .get = mem_get,
    .scan = mem_scan,
    .blob_get = mem_blob_get,
    .blob_scan = mem_blob_scan,
    .begin = mem_begin,
    .put = mem_put,
    .blob_put = mem_blob_put,
    .commit = mem_commit,
    .abort = mem_abort,
    .count = mem_count,
    .destroy = mem_destroy,
};

struct table *table_mem_new(void)
{
    struct table_mem *m = calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    m->base.verbs = &mem_verbs;
    m->newest = calloc(1, sizeof *m->newest);
    if (m->newest == NULL) {
        free(m);
        return NULL;
    }
    m->newest->refs = 1;
    ENSURE(pthread_mutex_init(&m->mutex, NULL) == 0);
    return &m->base;
}

/* Rows of their own: references to shared ones would need both tables' mutexes. */
static bool map_clone(const struct mem_map *from, struct mem_map *to)
{
    for (size_t i = 0; i < from->count; i++) {
        size_t size = sizeof **from->rows + from->rows[i]->key_size + from->rows[i]->value_size;
        struct mem_row *row = malloc(size);
        if (row == NULL)
            return false;
        memcpy(row, from->rows[i], size);
        row->refs = 1;
        if (!map_insert(to, row)) {
            free(row);
            return false;
        }
    }
    return true;
}

struct table *table_mem_copy(const struct table *t)
{
    struct table_mem *from = mem_of(t);
    struct table *copy = table_mem_new();
    if (copy == NULL)
        return NULL;
    struct image *image = mem_of(copy)->newest;
    pthread_mutex_lock(&from->mutex);
    bool done = map_clone(&from->newest->rows, &image->rows) &&
                map_clone(&from->newest->blobs, &image->blobs);
    image->bytes = from->newest->bytes;
    pthread_mutex_unlock(&from->mutex);
    if (!done)
        mem_destroy(&copy);
    return copy;
}

void table_mem_crash(struct table *t)
{
    mem_abort(t);
    memset(mem_of(t)->faults, 0, sizeof mem_of(t)->faults);
}

uint64_t table_mem_commits(const struct table *t)
{
    return mem_of(t)->commits;
}
