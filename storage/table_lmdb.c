/* The sorted table in LMDB: the only file that knows it.
 *
 * Three databases in one environment: "rows" (table.h has key and value), "chunks" (row key and a
 * big endian u32 number; the pieces of values above INLINE_MAX, whose row holds the u64 size
 * instead of the value), "blobs".
 *
 * Invariants:
 * (1) A row with ROW_CHUNKED has exactly the chunks 0 .. n-1 that its size asks for, all but the
 * last CHUNK_SIZE long; no other row has any. (2) A reader holds a snapshot only between refresh
 * and release: a forgotten one would keep every page that was freed since from being used again,
 * and the file would grow.
 */
#include "storage/table.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/ensure.h"

#define PREFIX_SIZE      12 /* slot and digest, big endian */
#define ROW_KEY_SIZE_MAX (PREFIX_SIZE + KEY_SIZE_MAX)
#define ROW_HEADER_SIZE  32
#define ROW_VERSION      1
#define ROW_CHUNKED      1u          /* row flags */
#define INLINE_MAX       (64u << 10) /* LMDB wants contiguous pages for what is larger than a page */
/* A chunk fills its 16 pages: the first begins with a header of 16 bytes. */
#define CHUNK_SIZE  (16u * 4096u - 16u)
#define READERS_MAX 126

_Static_assert(ROW_KEY_SIZE_MAX + 4 <= 511, "LMDB's limit for keys");

struct table_lmdb {
    struct table base;
    MDB_env *env;
    MDB_dbi rows, chunks, blobs;

    /* The transaction under way; touched by its thread only. */
    MDB_txn *txn;
    MDB_cursor *cursor; /* over rows: sorted puts mostly hit the page where it stands */
    bool has_chunks;    /* some row may have chunks */

    /* As of the last commit. */
    _Atomic uint64_t rows_count, bytes;
};

/* A value put together from chunks; lives until the reader's release. */
struct assembled {
    struct assembled *next;
    uint8_t data[];
};

struct reader_lmdb {
    struct table_reader base;
    struct table_lmdb *table;
    MDB_txn *txn;
    bool fresh;
    struct assembled *assembled;
};

static struct table_lmdb *lmdb_of(struct table *t)
{
    return (struct table_lmdb *)t;
}

static struct reader_lmdb *reader_of(struct table_reader *r)
{
    return (struct reader_lmdb *)r;
}

static enum status status_of(int rc)
{
    switch (rc) {
    case 0:
        return STATUS_OK;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
        return STATUS_FULL;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
        return STATUS_CORRUPT;
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
        return STATUS_FORMAT;
    case ENOMEM:
        return STATUS_NOMEMORY;
    case EBUSY:
    case EAGAIN:
        return STATUS_LOCKED;
    default:
        return STATUS_IO;
    }
}

static struct bytes bytes_from(MDB_val v)
{
    return bytes_of(v.mv_data, v.mv_size);
}

static MDB_val val_from(struct bytes b)
{
    return (MDB_val){b.size, (void *)(uintptr_t)b.data};
}

/* --- keys and rows --- */

struct row_key {
    size_t size;
    uint8_t data[ROW_KEY_SIZE_MAX + 4]; /* room for a chunk's number */
};

static void row_key_set(struct row_key *k, uint32_t slot, uint64_t digest, struct bytes key)
{
    ENSURE(key.size <= KEY_SIZE_MAX);
    bytes_put_be32(k->data, slot);
    bytes_put_be64(k->data + 4, digest);
    if (key.size > 0)
        memcpy(k->data + PREFIX_SIZE, key.data, key.size);
    k->size = PREFIX_SIZE + key.size;
}

static MDB_val row_key_val(struct row_key *k)
{
    return (MDB_val){k->size, k->data};
}

static MDB_val chunk_key_val(struct row_key *k, uint32_t number)
{
    bytes_put_be32(k->data + k->size, number);
    return (MDB_val){k->size + 4, k->data};
}

static uint32_t chunks_of(uint64_t value_size)
{
    return (uint32_t)((value_size + CHUNK_SIZE - 1) / CHUNK_SIZE);
}

static size_t chunk_size(uint64_t value_size, uint32_t number)
{
    uint64_t left = value_size - (uint64_t)number * CHUNK_SIZE;
    return left < CHUNK_SIZE ? (size_t)left : CHUNK_SIZE;
}

/* What a stored row says; value is the inline value. */
struct row_head {
    struct item item;
    uint64_t chunked_size; /* 0: inline */
};

static enum status row_head_get(MDB_val stored, struct row_head *ret)
{
    const uint8_t *at = stored.mv_data;
    if (stored.mv_size < ROW_HEADER_SIZE || at[0] != ROW_VERSION || (at[1] & ~ROW_CHUNKED) != 0)
        return STATUS_CORRUPT;
    *ret = (struct row_head){
        .item =
            {
                .present = true,
                .version = {bytes_le64(at + 8), bytes_le64(at + 16)},
                .expiry_ms = bytes_le64(at + 24),
                .value = bytes_of(at + ROW_HEADER_SIZE, stored.mv_size - ROW_HEADER_SIZE),
            },
    };
    if ((at[1] & ROW_CHUNKED) == 0)
        return STATUS_OK;
    if (ret->item.value.size != 8)
        return STATUS_CORRUPT;
    ret->chunked_size = bytes_le64(ret->item.value.data);
    bool holds = ret->chunked_size > INLINE_MAX && ret->chunked_size <= VALUE_SIZE_MAX;
    return holds ? STATUS_OK : STATUS_CORRUPT;
}

static void row_head_put(uint8_t *to, const struct item *item, unsigned flags)
{
    memset(to, 0, 8);
    to[0] = ROW_VERSION;
    to[1] = (uint8_t)flags;
    bytes_put_le64(to + 8, item->version.epoch);
    bytes_put_le64(to + 16, item->version.seq);
    bytes_put_le64(to + 24, item->expiry_ms);
}

/* --- readers --- */

static enum status lmdb_reader_new(struct table *t, struct table_reader **ret)
{
    struct reader_lmdb *r = calloc(1, sizeof *r);
    if (r == NULL)
        return STATUS_NOMEMORY;
    r->base.verbs = t->verbs;
    r->table = lmdb_of(t);
    int rc = mdb_txn_begin(r->table->env, NULL, MDB_RDONLY, &r->txn);
    if (rc != 0) {
        free(r);
        return status_of(rc);
    }
    mdb_txn_reset(r->txn);
    *ret = &r->base;
    return STATUS_OK;
}

static void drop_assembled(struct reader_lmdb *r)
{
    while (r->assembled != NULL) {
        struct assembled *a = r->assembled;
        r->assembled = a->next;
        free(a);
    }
}

static void lmdb_release(struct table_reader *reader)
{
    struct reader_lmdb *r = reader_of(reader);
    if (r->fresh)
        mdb_txn_reset(r->txn);
    r->fresh = false;
    drop_assembled(r);
}

static void lmdb_reader_destroy(struct table_reader **reader_p)
{
    if (*reader_p == NULL)
        return;
    struct reader_lmdb *r = reader_of(*reader_p);
    lmdb_release(*reader_p);
    mdb_txn_abort(r->txn);
    free(r);
    *reader_p = NULL;
}

static enum status lmdb_refresh(struct table_reader *reader)
{
    struct reader_lmdb *r = reader_of(reader);
    lmdb_release(reader);
    int rc = mdb_txn_renew(r->txn);
    r->fresh = rc == 0;
    return status_of(rc);
}

/* Read the chunks 0 .. n-1 of k, which hold size bytes together, to `to`. */
static enum status read_chunks(struct reader_lmdb *r, struct row_key *k, uint64_t size, uint8_t *to)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(r->txn, r->table->chunks, &cursor);
    if (rc != 0)
        return status_of(rc);
    enum status s = STATUS_OK;
    for (uint32_t i = 0; i < chunks_of(size) && s == STATUS_OK; i++) {
        MDB_val key = chunk_key_val(k, i), chunk;
        rc = mdb_cursor_get(cursor, &key, &chunk, MDB_SET);
        if (rc == MDB_NOTFOUND || (rc == 0 && chunk.mv_size != chunk_size(size, i)))
            s = STATUS_CORRUPT;
        else if (rc != 0)
            s = status_of(rc);
        else
            memcpy(to + (size_t)i * CHUNK_SIZE, chunk.mv_data, chunk.mv_size);
    }
    mdb_cursor_close(cursor);
    return s;
}

/* Turn a stored row into an item; a chunked value is put together in memory of the reader. */
static enum status item_get(struct reader_lmdb *r, struct row_key *k, MDB_val stored,
                            struct item *ret)
{
    struct row_head head;
    enum status s = row_head_get(stored, &head);
    if (s != STATUS_OK)
        return s;
    *ret = head.item;
    if (head.chunked_size == 0)
        return STATUS_OK;
    struct assembled *a = malloc(sizeof *a + (size_t)head.chunked_size);
    if (a == NULL)
        return STATUS_NOMEMORY;
    a->next = r->assembled;
    r->assembled = a;
    ret->value = bytes_of(a->data, (size_t)head.chunked_size);
    return read_chunks(r, k, head.chunked_size, a->data);
}

static enum status lmdb_get(struct table_reader *reader, uint32_t slot, uint64_t digest,
                            struct bytes key, struct item *ret)
{
    struct reader_lmdb *r = reader_of(reader);
    ENSURE(r->fresh && key.size > 0);
    struct row_key k;
    row_key_set(&k, slot, digest, key);
    MDB_val at = row_key_val(&k), stored;
    int rc = mdb_get(r->txn, r->table->rows, &at, &stored);
    if (rc == MDB_NOTFOUND) {
        *ret = (struct item){.present = false};
        return STATUS_OK;
    }
    return rc != 0 ? status_of(rc) : item_get(r, &k, stored, ret);
}

/* Give the row at key to fn; *ret_more is what fn says. */
static enum status scan_row(struct reader_lmdb *r, MDB_val key, MDB_val stored, table_row_fn *fn,
                            void *arg, bool *ret_more)
{
    const uint8_t *at = key.mv_data;
    if (key.mv_size <= PREFIX_SIZE || key.mv_size > ROW_KEY_SIZE_MAX)
        return STATUS_CORRUPT;
    struct table_row row = {
        .slot = bytes_be32(at),
        .digest = bytes_be64(at + 4),
        .key = bytes_of(at + PREFIX_SIZE, key.mv_size - PREFIX_SIZE),
    };
    struct row_key k;
    row_key_set(&k, row.slot, row.digest, row.key);
    struct assembled *before = r->assembled;
    r->assembled = NULL;
    enum status s = item_get(r, &k, stored, &row.item);
    *ret_more = s == STATUS_OK && fn(arg, &row);
    drop_assembled(r); /* a row lives as long as the call; a walk over large values needs one */
    r->assembled = before;
    return s;
}

static bool is_same(MDB_val a, MDB_val b)
{
    return bytes_equal(bytes_from(a), bytes_from(b));
}

static enum status lmdb_scan(struct table_reader *reader, uint32_t slot, uint64_t digest,
                             struct bytes key, table_row_fn *fn, void *arg)
{
    struct reader_lmdb *r = reader_of(reader);
    ENSURE(r->fresh);
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(r->txn, r->table->rows, &cursor);
    if (rc != 0)
        return status_of(rc);
    struct row_key from;
    row_key_set(&from, slot, digest, key);
    MDB_val at = row_key_val(&from), stored;
    rc = mdb_cursor_get(cursor, &at, &stored, MDB_SET_RANGE);
    if (rc == 0 && is_same(at, row_key_val(&from)))
        rc = mdb_cursor_get(cursor, &at, &stored, MDB_NEXT);
    enum status s = STATUS_OK;
    bool more = true;
    while (rc == 0 && s == STATUS_OK && more) {
        if (at.mv_size < 4 || bytes_be32(at.mv_data) != slot)
            break;
        s = scan_row(r, at, stored, fn, arg, &more);
        if (more)
            rc = mdb_cursor_get(cursor, &at, &stored, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (s != STATUS_OK)
        return s;
    return rc == MDB_NOTFOUND ? STATUS_OK : status_of(rc);
}

static enum status lmdb_blob_get(struct table_reader *reader, struct bytes name, struct bytes *ret)
{
    struct reader_lmdb *r = reader_of(reader);
    ENSURE(r->fresh);
    MDB_val at = val_from(name), stored;
    int rc = mdb_get(r->txn, r->table->blobs, &at, &stored);
    if (rc != 0)
        return rc == MDB_NOTFOUND ? STATUS_NOTFOUND : status_of(rc);
    *ret = bytes_from(stored);
    return STATUS_OK;
}

static enum status lmdb_blob_scan(struct table_reader *reader, table_blob_fn *fn, void *arg)
{
    struct reader_lmdb *r = reader_of(reader);
    ENSURE(r->fresh);
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(r->txn, r->table->blobs, &cursor);
    if (rc != 0)
        return status_of(rc);
    MDB_val name, value;
    while ((rc = mdb_cursor_get(cursor, &name, &value, MDB_NEXT)) == 0)
        if (!fn(arg, bytes_from(name), bytes_from(value)))
            break;
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? STATUS_OK : status_of(rc);
}

/* --- the writer --- */

static void lmdb_abort(struct table *t)
{
    struct table_lmdb *l = lmdb_of(t);
    if (l->txn == NULL)
        return;
    mdb_cursor_close(l->cursor);
    mdb_txn_abort(l->txn);
    l->txn = NULL;
    l->cursor = NULL;
}

static enum status lmdb_begin(struct table *t)
{
    struct table_lmdb *l = lmdb_of(t);
    ENSURE(l->txn == NULL);
    int rc = mdb_txn_begin(l->env, NULL, 0, &l->txn);
    if (rc != 0) {
        l->txn = NULL;
        return status_of(rc);
    }
    MDB_stat chunks;
    rc = mdb_cursor_open(l->txn, l->rows, &l->cursor);
    if (rc == 0)
        rc = mdb_stat(l->txn, l->chunks, &chunks);
    if (rc != 0) {
        lmdb_abort(t);
        return status_of(rc);
    }
    l->has_chunks = chunks.ms_entries > 0;
    return STATUS_OK;
}

/* Remove the chunks of the row that k has now, if any. */
static enum status remove_chunks(struct table_lmdb *l, struct row_key *k)
{
    if (!l->has_chunks)
        return STATUS_OK;
    MDB_val at = row_key_val(k), stored;
    int rc = mdb_cursor_get(l->cursor, &at, &stored, MDB_SET);
    if (rc != 0)
        return rc == MDB_NOTFOUND ? STATUS_OK : status_of(rc);
    struct row_head head;
    enum status s = row_head_get(stored, &head);
    for (uint32_t i = 0; s == STATUS_OK && i < chunks_of(head.chunked_size); i++) {
        MDB_val chunk = chunk_key_val(k, i);
        rc = mdb_del(l->txn, l->chunks, &chunk, NULL);
        s = rc == MDB_NOTFOUND ? STATUS_CORRUPT : status_of(rc);
    }
    return s;
}

static enum status put_chunks(struct table_lmdb *l, struct row_key *k, struct bytes value)
{
    l->has_chunks = true;
    for (uint32_t i = 0; i < chunks_of(value.size); i++) {
        MDB_val key = chunk_key_val(k, i);
        MDB_val chunk =
            val_from(bytes_of(value.data + (size_t)i * CHUNK_SIZE, chunk_size(value.size, i)));
        int rc = mdb_put(l->txn, l->chunks, &key, &chunk, 0);
        if (rc != 0)
            return status_of(rc);
    }
    return STATUS_OK;
}

/* Write the row itself: header and value, or header and the size of a chunked value. */
static enum status put_row(struct table_lmdb *l, struct row_key *k, const struct item *item,
                           bool chunked)
{
    size_t value_size = chunked ? 8 : item->value.size;
    MDB_val at = row_key_val(k), stored = {ROW_HEADER_SIZE + value_size, NULL};
    int rc = mdb_cursor_put(l->cursor, &at, &stored, MDB_RESERVE);
    if (rc != 0)
        return status_of(rc);
    uint8_t *to = stored.mv_data;
    row_head_put(to, item, chunked ? ROW_CHUNKED : 0);
    if (chunked)
        bytes_put_le64(to + ROW_HEADER_SIZE, item->value.size);
    else if (value_size > 0)
        memcpy(to + ROW_HEADER_SIZE, item->value.data, value_size);
    return STATUS_OK;
}

static enum status delete_row(struct table_lmdb *l, struct row_key *k)
{
    MDB_val at = row_key_val(k);
    int rc = mdb_cursor_get(l->cursor, &at, NULL, MDB_SET);
    if (rc == MDB_NOTFOUND)
        return STATUS_OK;
    return status_of(rc == 0 ? mdb_cursor_del(l->cursor, 0) : rc);
}

static enum status lmdb_put(struct table *t, const struct table_row *row)
{
    struct table_lmdb *l = lmdb_of(t);
    ENSURE(l->txn != NULL);
    ENSURE(row->key.size > 0 && row->item.value.size <= VALUE_SIZE_MAX);
    struct row_key k;
    row_key_set(&k, row->slot, row->digest, row->key);
    enum status s = remove_chunks(l, &k);
    if (s != STATUS_OK)
        return s;
    if (!row->item.present)
        return delete_row(l, &k);
    bool chunked = row->item.value.size > INLINE_MAX;
    s = put_row(l, &k, &row->item, chunked);
    return s == STATUS_OK && chunked ? put_chunks(l, &k, row->item.value) : s;
}

static enum status lmdb_blob_put(struct table *t, struct bytes name, struct bytes value)
{
    struct table_lmdb *l = lmdb_of(t);
    ENSURE(l->txn != NULL);
    ENSURE(name.size > 0);
    MDB_val at = val_from(name), stored = val_from(value);
    return status_of(mdb_put(l->txn, l->blobs, &at, &stored, 0));
}

static int pages_of(MDB_txn *txn, MDB_dbi dbi, uint64_t *ret_entries, uint64_t *bytes)
{
    MDB_stat stat;
    int rc = mdb_stat(txn, dbi, &stat);
    if (rc != 0)
        return rc;
    *ret_entries = stat.ms_entries;
    *bytes += (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages) *
              (uint64_t)stat.ms_psize;
    return 0;
}

/* Count within txn, so that the figures need no transaction of their own later. */
static int count_in(struct table_lmdb *l, MDB_txn *txn)
{
    uint64_t rows = 0, chunks = 0, bytes = 0;
    int rc = pages_of(txn, l->rows, &rows, &bytes);
    if (rc == 0)
        rc = pages_of(txn, l->chunks, &chunks, &bytes);
    atomic_store(&l->rows_count, rows);
    atomic_store(&l->bytes, bytes);
    return rc;
}

static enum status lmdb_commit(struct table *t)
{
    struct table_lmdb *l = lmdb_of(t);
    ENSURE(l->txn != NULL);
    int rc = count_in(l, l->txn);
    if (rc != 0) {
        lmdb_abort(t);
        return status_of(rc);
    }
    /* Whatever comes of it, the commit ends the transaction. */
    MDB_txn *txn = l->txn;
    mdb_cursor_close(l->cursor);
    l->cursor = NULL;
    l->txn = NULL;
    return status_of(mdb_txn_commit(txn));
}

static void lmdb_count(struct table *t, uint64_t *ret_rows, uint64_t *ret_bytes)
{
    *ret_rows = atomic_load(&lmdb_of(t)->rows_count);
    *ret_bytes = atomic_load(&lmdb_of(t)->bytes);
}

static void lmdb_destroy(struct table **table_p)
{
    if (*table_p == NULL)
        return;
    struct table_lmdb *l = lmdb_of(*table_p);
    lmdb_abort(*table_p);
    if (l->env != NULL)
        mdb_env_close(l->env);
    free(l);
    *table_p = NULL;
}

static const struct table_verbs lmdb_verbs = {
    .reader_new = lmdb_reader_new,
    .reader_destroy = lmdb_reader_destroy,
    .refresh = lmdb_refresh,
    .release = lmdb_release,
    .get = lmdb_get,
    .scan = lmdb_scan,
    .blob_get = lmdb_blob_get,
    .blob_scan = lmdb_blob_scan,
    .begin = lmdb_begin,
    .put = lmdb_put,
    .blob_put = lmdb_blob_put,
    .commit = lmdb_commit,
    .abort = lmdb_abort,
    .count = lmdb_count,
    .destroy = lmdb_destroy,
};

/* --- opening --- */

static int sync_directory(const char *directory, const char *below)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int at = openat(fd, below, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = at >= 0 && fsync(at) == 0 ? 0 : errno;
    if (at >= 0)
        close(at);
    close(fd);
    return rc;
}

static int open_environment(struct table_lmdb *l, const char *directory, uint64_t map_size)
{
    int rc = mdb_env_create(&l->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(l->env, map_size);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(l->env, 3);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(l->env, READERS_MAX);
    /* Keys are spread by their digest: reading ahead would only push out pages that are used. */
    if (rc == 0)
        rc = mdb_env_open(l->env, directory, MDB_NOTLS | MDB_NORDAHEAD, 0600);
    return rc;
}

static int open_databases(struct table_lmdb *l)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(l->env, NULL, 0, &txn);
    if (rc != 0)
        return rc;
    rc = mdb_dbi_open(txn, "rows", MDB_CREATE, &l->rows);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "chunks", MDB_CREATE, &l->chunks);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "blobs", MDB_CREATE, &l->blobs);
    if (rc == 0)
        rc = count_in(l, txn);
    if (rc == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

struct table *table_lmdb_open(const char *directory, uint64_t map_size, struct error *reterr)
{
    struct table_lmdb *l = calloc(1, sizeof *l);
    if (l == NULL) {
        error_set(reterr, STATUS_NOMEMORY, "open table '%s': out of memory", directory);
        return NULL;
    }
    l->base.verbs = &lmdb_verbs;
    int rc = mkdir(directory, 0700) == 0 || errno == EEXIST ? 0 : errno;
    if (rc == 0)
        rc = open_environment(l, directory, map_size);
    if (rc == 0)
        rc = open_databases(l);
    /* A new table's files must not vanish with the next power failure: the log is cut on the
     * strength of what they hold. */
    if (rc == 0)
        rc = sync_directory(directory, ".");
    if (rc == 0)
        rc = sync_directory(directory, "..");
    if (rc == 0)
        return &l->base;
    error_set(reterr, status_of(rc), "open table '%s': %s", directory, mdb_strerror(rc));
    struct table *t = &l->base;
    lmdb_destroy(&t);
    return NULL;
}
