/* Clients are found by a hash, their records lie sorted by seq: a window of records is short, and
 * the newest comes last. Two lists, of records and of clients, are ordered by ptime, so that an
 * EXPIRE costs what it removes.
 *
 * Invariants:
 * (1) A client's records are strictly ascending in seq and none is below its floor.
 * (2) A client's ptime is not below that of any of its records: whoever forgets the client has
 *     removed all of them.
 * (3) bytes is the sum of the costs of all clients and records.
 *
 * Why a client may be forgotten, floor and all, when its last applied entry is at or below the
 * horizon: its late duplicates carry tokens that are not above that entry's ptime, and what carries
 * such a token is not executed (rule X2).
 */
#include "storage/completion.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"

#define SAVED_VERSION     1
#define SAVED_HEADER_SIZE 16
#define SAVED_CLIENT_SIZE 32
#define SAVED_RECORD_SIZE 56
#define BUCKETS_MIN       16
#define BYTES_WANTED      (COMPLETION_BYTES_MAX / 4 * 3)
/* Old records wait for company, so that an idle partition logs few EXPIREs. */
#define AGE_SLACK_MS (COMPLETION_AGE_MS / 8)

struct age {
    struct age *older, *newer;
    uint64_t ptime;
};

struct age_list {
    struct age *oldest, *newest;
};

struct client {
    struct age age; /* ptime of the last applied entry; first, so that an age is its client */
    uint64_t id;
    uint64_t floor;
    struct client *hash_next;
    struct record **records; /* ascending in seq */
    size_t count, capacity;
};

struct record {
    struct age age; /* first, so that an age is its record */
    struct client *client;
    uint64_t seq;
    uint64_t key_hash;
    struct version version;
    uint32_t status;
    uint32_t result_flags;
    uint32_t result_size;
    uint8_t result[];
};

/* What one costs, with its share of arrays and of the allocator. */
#define CLIENT_COST (sizeof(struct client) + 32)
#define RECORD_COST (sizeof(struct record) + 24)

struct completion {
    uint64_t horizon;
    struct client **buckets; /* a power of two of them; none while there are no clients */
    size_t buckets_count, clients_count, records_count;
    struct age_list clients, records;
    size_t bytes;
};

/* --- lists by age --- */

static void age_link_after(struct age_list *list, struct age *older, struct age *a)
{
    a->older = older;
    a->newer = older == NULL ? list->oldest : older->newer;
    *(a->older == NULL ? &list->oldest : &a->older->newer) = a;
    *(a->newer == NULL ? &list->newest : &a->newer->older) = a;
}

/* ptime hardly ever goes back, so the place is at the newest end or near it. */
static void age_link(struct age_list *list, struct age *a)
{
    struct age *older = list->newest;
    while (older != NULL && older->ptime > a->ptime)
        older = older->older;
    age_link_after(list, older, a);
}

static void age_unlink(struct age_list *list, struct age *a)
{
    *(a->older == NULL ? &list->oldest : &a->older->newer) = a->newer;
    *(a->newer == NULL ? &list->newest : &a->newer->older) = a->older;
}

static int compare_ages(const void *a, const void *b)
{
    uint64_t x = (*(struct age *const *)a)->ptime, y = (*(struct age *const *)b)->ptime;
    return x < y ? -1 : x > y;
}

/* Sort a list that was linked in any order; scratch has room for its members. */
static void age_sort(struct age_list *list, struct age **scratch)
{
    size_t count = 0;
    for (struct age *a = list->oldest; a != NULL; a = a->newer)
        scratch[count++] = a;
    qsort(scratch, count, sizeof *scratch, compare_ages);
    *list = (struct age_list){NULL, NULL};
    for (size_t i = 0; i < count; i++)
        age_link_after(list, list->newest, scratch[i]);
}

/* --- clients --- */

struct completion *completion_new(void)
{
    return calloc(1, sizeof(struct completion));
}

static void client_free(struct client *cl)
{
    for (size_t i = 0; i < cl->count; i++)
        free(cl->records[i]);
    free(cl->records);
    free(cl);
}

void completion_destroy(struct completion **c_p)
{
    struct completion *c = *c_p;
    if (c == NULL)
        return;
    for (struct age *a = c->clients.oldest, *newer; a != NULL; a = newer) {
        newer = a->newer;
        client_free((struct client *)a);
    }
    free(c->buckets);
    free(c);
    *c_p = NULL;
}

/* Ids are random numbers, but nobody promises that of all their bits. */
static size_t bucket_of(const struct completion *c, uint64_t id)
{
    return (size_t)((id * 0x9e3779b97f4a7c15u) >> 32) & (c->buckets_count - 1);
}

static struct client *client_find(const struct completion *c, uint64_t id)
{
    if (c->buckets_count == 0)
        return NULL;
    struct client *cl = c->buckets[bucket_of(c, id)];
    while (cl != NULL && cl->id != id)
        cl = cl->hash_next;
    return cl;
}

static void client_link(struct completion *c, struct client *cl)
{
    struct client **bucket = &c->buckets[bucket_of(c, cl->id)];
    cl->hash_next = *bucket;
    *bucket = cl;
}

static bool reserve_buckets(struct completion *c)
{
    if (c->clients_count < c->buckets_count)
        return true;
    size_t count = c->buckets_count == 0 ? BUCKETS_MIN : c->buckets_count * 2;
    struct client **grown = calloc(count, sizeof(struct client *));
    if (grown == NULL)
        return false;
    free(c->buckets);
    c->buckets = grown;
    c->buckets_count = count;
    for (struct age *a = c->clients.oldest; a != NULL; a = a->newer)
        client_link(c, (struct client *)a);
    return true;
}

/* Not yet linked by age: that is the caller's. */
static struct client *client_add(struct completion *c, uint64_t id, uint64_t ptime)
{
    struct client *cl = reserve_buckets(c) ? calloc(1, sizeof *cl) : NULL;
    if (cl == NULL)
        return NULL;
    cl->id = id;
    cl->age.ptime = ptime;
    client_link(c, cl);
    c->clients_count++;
    c->bytes += CLIENT_COST;
    return cl;
}

/* Its records are gone already (invariant 2). */
static void client_forget(struct completion *c, struct client *cl)
{
    ENSURE(cl->count == 0);
    struct client **link = &c->buckets[bucket_of(c, cl->id)];
    while (*link != cl)
        link = &(*link)->hash_next;
    *link = cl->hash_next;
    age_unlink(&c->clients, &cl->age);
    c->clients_count--;
    c->bytes -= CLIENT_COST;
    client_free(cl);
}

/* --- records --- */

/* Index of the first record at or above seq. */
static size_t record_index(const struct client *cl, uint64_t seq)
{
    size_t low = 0, high = cl->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (cl->records[middle]->seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Remove records [from, to) of cl. */
static void records_remove(struct completion *c, struct client *cl, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        struct record *r = cl->records[i];
        age_unlink(&c->records, &r->age);
        c->bytes -= RECORD_COST + r->result_size;
        c->records_count--;
        free(r);
    }
    if (to > from && to < cl->count)
        memmove(&cl->records[from], &cl->records[to], (cl->count - to) * sizeof *cl->records);
    cl->count -= to - from;
}

static bool reserve_record(struct client *cl)
{
    if (cl->count < cl->capacity)
        return true;
    size_t capacity = cl->capacity == 0 ? 2 : cl->capacity * 2;
    struct record **grown = realloc(cl->records, capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    cl->records = grown;
    cl->capacity = capacity;
    return true;
}

/* Insert a copy of what is known about (cl, seq) at index. Not yet linked by age. NULL: no memory.
 */
static struct record *record_insert(struct completion *c, struct client *cl, size_t index,
                                    uint64_t seq, const struct completion_record *known)
{
    struct record *r = reserve_record(cl) ? malloc(sizeof *r + known->result.size) : NULL;
    if (r == NULL)
        return NULL;
    r->client = cl;
    r->seq = seq;
    r->key_hash = known->key_hash;
    r->version = known->version;
    r->status = (uint32_t)known->status;
    r->result_flags = known->result_flags;
    r->result_size = (uint32_t)known->result.size;
    if (known->result.size > 0)
        memcpy(r->result, known->result.data, known->result.size);
    memmove(&cl->records[index + 1], &cl->records[index],
            (cl->count - index) * sizeof(struct record *));
    cl->records[index] = r;
    cl->count++;
    r->age.ptime = known->ptime;
    c->records_count++;
    c->bytes += RECORD_COST + r->result_size;
    return r;
}

static struct completion_record known_of(const struct record *r)
{
    return (struct completion_record){
        .status = (enum status)r->status,
        .version = r->version,
        .ptime = r->age.ptime,
        .result_flags = r->result_flags,
        .result = bytes_of(r->result, r->result_size),
    };
}

/* --- applying --- */

static void expire(struct completion *c, uint64_t horizon)
{
    if (horizon > c->horizon)
        c->horizon = horizon;
    while (c->records.oldest != NULL && c->records.oldest->ptime <= c->horizon) {
        struct record *r = (struct record *)c->records.oldest;
        size_t index = record_index(r->client, r->seq);
        records_remove(c, r->client, index, index + 1);
    }
    while (c->clients.oldest != NULL && c->clients.oldest->ptime <= c->horizon)
        client_forget(c, (struct client *)c->clients.oldest);
}

static void client_touch(struct completion *c, struct client *cl, uint64_t ptime)
{
    if (ptime <= cl->age.ptime)
        return;
    age_unlink(&c->clients, &cl->age);
    cl->age.ptime = ptime;
    age_link(&c->clients, &cl->age);
}

static void raise_floor(struct completion *c, struct client *cl, uint64_t floor)
{
    if (floor <= cl->floor)
        return;
    cl->floor = floor;
    records_remove(c, cl, 0, record_index(cl, floor));
}

static struct client *client_of(struct completion *c, const struct entry *e)
{
    struct client *cl = client_find(c, e->client);
    if (cl != NULL)
        return cl;
    cl = client_add(c, e->client, e->ptime);
    if (cl != NULL)
        age_link(&c->clients, &cl->age);
    return cl;
}

static enum status apply_client_entry(struct completion *c, const struct entry *e)
{
    struct client *cl = client_of(c, e);
    if (cl == NULL)
        return STATUS_NOMEMORY;
    client_touch(c, cl, e->ptime);
    raise_floor(c, cl, e->ack_below);
    size_t index = record_index(cl, e->client_seq);
    bool known = index < cl->count && cl->records[index]->seq == e->client_seq;
    if (known || e->client_seq < cl->floor)
        return STATUS_OK; /* the first entry of an id is its answer */
    struct completion_record known_now = {
        .status = e->status,
        .version = {e->epoch, e->seq},
        .key_hash = e->key_hash,
        .ptime = e->ptime,
        .result_flags = e->result_flags,
        .result = e->result,
    };
    struct record *r = record_insert(c, cl, index, e->client_seq, &known_now);
    if (r == NULL)
        return STATUS_NOMEMORY;
    age_link(&c->records, &r->age);
    return STATUS_OK;
}

enum status completion_apply(struct completion *c, const struct entry *e)
{
    switch (e->kind) {
    case ENTRY_WRITE:
    case ENTRY_ABORTED:
        return e->client == 0 ? STATUS_OK : apply_client_entry(c, e);
    case ENTRY_EXPIRE:
        expire(c, e->horizon);
        return STATUS_OK;
    case ENTRY_EPOCH:
    case ENTRY_LAPSE:
        return STATUS_OK;
    }
    ENSURE_UNREACHABLE();
}

enum completion_answer completion_find(const struct completion *c, uint64_t client, uint64_t seq,
                                       struct completion_record *ret)
{
    const struct client *cl = client_find(c, client);
    if (cl == NULL)
        return COMPLETION_UNKNOWN;
    if (seq < cl->floor)
        return COMPLETION_STALE;
    size_t index = record_index(cl, seq);
    if (index == cl->count || cl->records[index]->seq != seq)
        return COMPLETION_UNKNOWN;
    *ret = known_of(cl->records[index]);
    return COMPLETION_FOUND;
}

/* --- the horizon --- */

static bool among(uint64_t hash, const uint64_t *hashes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (hashes[i] == hash)
            return true;
    return false;
}

bool completion_overtaken(const struct completion *c, uint64_t client, uint64_t seq,
                          const uint64_t *key_hashes, size_t count)
{
    const struct client *cl = client_find(c, client);
    for (size_t i = cl == NULL ? 0 : cl->count; i > 0 && cl->records[i - 1]->seq > seq; i--) {
        const struct record *r = cl->records[i - 1];
        if (r->status != STATUS_ABORTED && among(r->key_hash, key_hashes, count))
            return true;
    }
    return false;
}

uint64_t completion_horizon(const struct completion *c)
{
    return c->horizon;
}

/* The ptime up to which clients and records must go until at most bytes_max are left. */
static uint64_t horizon_for_bytes(const struct completion *c, size_t bytes_max)
{
    const struct age *cl = c->clients.oldest, *r = c->records.oldest;
    uint64_t horizon = 0;
    size_t bytes = c->bytes;
    while (bytes > bytes_max && (cl != NULL || r != NULL)) {
        if (r != NULL && (cl == NULL || r->ptime <= cl->ptime)) {
            horizon = r->ptime;
            bytes -= RECORD_COST + ((const struct record *)r)->result_size;
            r = r->newer;
        } else {
            horizon = cl->ptime;
            bytes -= CLIENT_COST;
            cl = cl->newer;
        }
    }
    return horizon;
}

static uint64_t horizon_for_age(const struct completion *c, uint64_t ptime_now)
{
    /* A client's ptime is not below its records', so the oldest record tells, or a lone client. */
    uint64_t oldest = UINT64_MAX;
    if (c->records.oldest != NULL)
        oldest = c->records.oldest->ptime;
    if (c->clients.oldest != NULL && c->clients.oldest->ptime < oldest)
        oldest = c->clients.oldest->ptime;
    bool due = ptime_now > COMPLETION_AGE_MS + AGE_SLACK_MS &&
               oldest < ptime_now - COMPLETION_AGE_MS - AGE_SLACK_MS;
    return due ? ptime_now - COMPLETION_AGE_MS : 0;
}

uint64_t completion_horizon_wanted(const struct completion *c, uint64_t ptime_now)
{
    uint64_t wanted = horizon_for_age(c, ptime_now);
    if (c->bytes > COMPLETION_BYTES_MAX) {
        uint64_t horizon = horizon_for_bytes(c, BYTES_WANTED);
        /* Below the present, so that the EXPIRE's own ptime is a token above the horizon. */
        if (horizon >= ptime_now)
            horizon = ptime_now == 0 ? 0 : ptime_now - 1;
        if (horizon > wanted)
            wanted = horizon;
    }
    return wanted > c->horizon ? wanted : 0;
}

/* --- saving: {u32 version, u32 clients, u64 horizon}; for each client, by id: {u64 id, u64 floor,
 * u64 ptime, u32 records, u32 0}; for each of its records, by seq: {u64 seq, u64 epoch, u64 entry
 * seq, u64 ptime, u32 status, u32 result flags, u32 result size, u32 0, result} --- */

static int compare_clients(const void *a, const void *b)
{
    uint64_t x = (*(struct client *const *)a)->id, y = (*(struct client *const *)b)->id;
    return x < y ? -1 : x > y;
}

static struct client **sorted_clients(const struct completion *c)
{
    struct client **sorted = malloc((c->clients_count + 1) * sizeof(struct client *));
    if (sorted == NULL)
        return NULL;
    size_t count = 0;
    for (struct age *a = c->clients.oldest; a != NULL; a = a->newer)
        sorted[count++] = (struct client *)a;
    ENSURE(count == c->clients_count);
    qsort(sorted, count, sizeof(struct client *), compare_clients);
    return sorted;
}

static size_t saved_size(const struct client *cl)
{
    size_t size = SAVED_CLIENT_SIZE + cl->count * SAVED_RECORD_SIZE;
    for (size_t i = 0; i < cl->count; i++)
        size += cl->records[i]->result_size;
    return size;
}

static uint8_t *save_record(uint8_t *to, const struct record *r)
{
    bytes_put_le64(to, r->seq);
    bytes_put_le64(to + 8, r->version.epoch);
    bytes_put_le64(to + 16, r->version.seq);
    bytes_put_le64(to + 24, r->age.ptime);
    bytes_put_le32(to + 32, r->status);
    bytes_put_le32(to + 36, r->result_flags);
    bytes_put_le32(to + 40, r->result_size);
    bytes_put_le32(to + 44, 0);
    bytes_put_le64(to + 48, r->key_hash);
    memcpy(to + SAVED_RECORD_SIZE, r->result, r->result_size);
    return to + SAVED_RECORD_SIZE + r->result_size;
}

static void save_client(uint8_t *to, const struct client *cl)
{
    bytes_put_le64(to, cl->id);
    bytes_put_le64(to + 8, cl->floor);
    bytes_put_le64(to + 16, cl->age.ptime);
    bytes_put_le32(to + 24, (uint32_t)cl->count);
    bytes_put_le32(to + 28, 0);
    to += SAVED_CLIENT_SIZE;
    for (size_t i = 0; i < cl->count; i++)
        to = save_record(to, cl->records[i]);
}

enum status completion_save(const struct completion *c, struct buffer *out)
{
    struct client **sorted = sorted_clients(c);
    if (sorted == NULL)
        return STATUS_NOMEMORY;
    size_t size = SAVED_HEADER_SIZE;
    for (size_t i = 0; i < c->clients_count; i++)
        size += saved_size(sorted[i]);
    bool room = size <= out->size_max - out->size;
    uint8_t *to = room ? buffer_reserve(out, size) : NULL;
    if (to != NULL) {
        bytes_put_le32(to, SAVED_VERSION);
        bytes_put_le32(to + 4, (uint32_t)c->clients_count);
        bytes_put_le64(to + 8, c->horizon);
        to += SAVED_HEADER_SIZE;
        for (size_t i = 0; i < c->clients_count; to += saved_size(sorted[i++]))
            save_client(to, sorted[i]);
    }
    free(sorted);
    return to != NULL ? STATUS_OK : room ? STATUS_NOMEMORY : STATUS_TOOBIG;
}

static bool take(struct bytes *rest, size_t size, const uint8_t **ret)
{
    if (size > rest->size)
        return false;
    *ret = rest->data;
    *rest = bytes_of(rest->data + size, rest->size - size);
    return true;
}

static enum status load_record(struct completion *c, struct client *cl, struct bytes *rest)
{
    const uint8_t *from, *result;
    if (!take(rest, SAVED_RECORD_SIZE, &from))
        return STATUS_CORRUPT;
    uint64_t seq = bytes_le64(from);
    uint32_t status = bytes_le32(from + 32), result_size = bytes_le32(from + 40);
    struct completion_record r = {
        .status = (enum status)status,
        .version = {bytes_le64(from + 8), bytes_le64(from + 16)},
        .ptime = bytes_le64(from + 24),
        .key_hash = bytes_le64(from + 48),
        .result_flags = bytes_le32(from + 36),
    };
    if (status >= STATUS_COUNT || bytes_le32(from + 44) != 0 || r.ptime > cl->age.ptime ||
        !take(rest, result_size, &result))
        return STATUS_CORRUPT;
    if (seq < cl->floor || (cl->count > 0 && seq <= cl->records[cl->count - 1]->seq))
        return STATUS_CORRUPT;
    r.result = bytes_of(result, result_size);
    struct record *added = record_insert(c, cl, cl->count, seq, &r);
    if (added == NULL)
        return STATUS_NOMEMORY;
    age_link_after(&c->records, c->records.newest, &added->age);
    return STATUS_OK;
}

static enum status load_client(struct completion *c, struct bytes *rest, uint64_t *last_id)
{
    const uint8_t *from;
    if (!take(rest, SAVED_CLIENT_SIZE, &from) || bytes_le32(from + 28) != 0)
        return STATUS_CORRUPT;
    uint64_t id = bytes_le64(from);
    if (id <= *last_id) /* ids are not 0, so this holds for the first, too */
        return STATUS_CORRUPT;
    *last_id = id;
    struct client *cl = client_add(c, id, bytes_le64(from + 16));
    if (cl == NULL)
        return STATUS_NOMEMORY;
    age_link_after(&c->clients, c->clients.newest, &cl->age);
    cl->floor = MUTANT(54) ? 0 : bytes_le64(from + 8);
    enum status s = STATUS_OK;
    for (uint32_t i = bytes_le32(from + 24); i > 0 && s == STATUS_OK; i--)
        s = load_record(c, cl, rest);
    return s;
}

static enum status sort_by_age(struct completion *c)
{
    size_t count = c->clients_count > c->records_count ? c->clients_count : c->records_count;
    struct age **scratch = malloc((count + 1) * sizeof(struct age *));
    if (scratch == NULL)
        return STATUS_NOMEMORY;
    age_sort(&c->clients, scratch);
    age_sort(&c->records, scratch);
    free(scratch);
    return STATUS_OK;
}

enum status completion_load(struct completion *c, struct bytes saved)
{
    ENSURE(c->clients_count == 0 && c->horizon == 0);
    const uint8_t *from;
    if (!take(&saved, SAVED_HEADER_SIZE, &from) || bytes_le32(from) != SAVED_VERSION)
        return STATUS_CORRUPT;
    c->horizon = bytes_le64(from + 8);
    enum status s = STATUS_OK;
    uint64_t last_id = 0;
    for (uint32_t i = bytes_le32(from + 4); i > 0 && s == STATUS_OK; i--)
        s = load_client(c, &saved, &last_id);
    if (s == STATUS_OK && saved.size != 0)
        s = STATUS_CORRUPT;
    return s == STATUS_OK ? sort_by_age(c) : s;
}
