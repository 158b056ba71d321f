/* What one write touches lies close together, for a partition is hardly ever in the cache when its turn
 * comes: clients stand in one array by hash (linear probing), each with its records sorted by seq: a
 * window of records is short, and the newest comes last. Nothing is ordered by age: an EXPIRE looks
 * at everything, and there is one for a quarter of all records, or an hour.
 *
 * Invariants:
 * (1) A client's records are strictly ascending in seq and none is below its floor.
 * (2) A client's ptime is not below that of any of its records: whoever forgets the client has
 *     removed all of them.
 * (3) bytes is the sum of the costs of all clients and records.
 * (4) No ptime of a client or record is below oldest.
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
#define PLACES_MIN        16
#define BYTES_WANTED      (COMPLETION_BYTES_MAX / 4 * 3)
/* Old records wait for company, so that an idle partition logs few EXPIREs. */
#define AGE_SLACK_MS (COMPLETION_AGE_MS / 8)

struct record {
    uint64_t seq;
    uint64_t key_hash;
    struct version version;
    uint64_t ptime;
    uint32_t status;
    uint32_t result_flags;
    uint32_t result_size;
    uint8_t *result; /* owned; NULL: none */
};

struct client {
    uint64_t id; /* 0: this place is free */
    uint64_t floor;
    uint64_t ptime; /* of the last applied entry */
    uint32_t count, capacity;
    struct record *records; /* ascending in seq */
};

/* What one costs, with its share of free places and of the allocator. */
#define CLIENT_COST (2 * sizeof(struct client))
#define RECORD_COST (sizeof(struct record) + 32)

struct completion {
    struct client *places; /* by hash of the id; none while there are no clients */
    size_t places_count;   /* a power of two; at most three quarters are taken */
    size_t clients_count, records_count;
    size_t bytes;
    uint64_t horizon;
    uint64_t oldest; /* a bound; see (4) */
};

/* --- clients --- */

struct completion *completion_new(void)
{
    struct completion *c = calloc(1, sizeof *c);
    if (c != NULL)
        c->oldest = UINT64_MAX;
    return c;
}

static void client_clear(struct client *cl)
{
    for (uint32_t i = 0; i < cl->count; i++)
        free(cl->records[i].result);
    free(cl->records);
    *cl = (struct client){.id = 0};
}

void completion_destroy(struct completion **c_p)
{
    struct completion *c = *c_p;
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->places_count; i++)
        client_clear(&c->places[i]);
    free(c->places);
    free(c);
    *c_p = NULL;
}

/* Where the search for id begins. Ids are random numbers, but nobody promises that of all their bits. */
static size_t home_of(const struct completion *c, uint64_t id)
{
    return (size_t)((id * 0x9e3779b97f4a7c15u) >> 32) & (c->places_count - 1);
}

/* The place of id, or the free one where it would be put. There are places. */
static struct client *place_of(const struct completion *c, uint64_t id)
{
    size_t i = home_of(c, id);
    while (c->places[i].id != 0 && c->places[i].id != id)
        i = (i + 1) & (c->places_count - 1);
    return &c->places[i];
}

static struct client *client_find(const struct completion *c, uint64_t id)
{
    struct client *cl = c->places_count == 0 ? NULL : place_of(c, id);
    return cl == NULL || cl->id == 0 ? NULL : cl;
}

static bool reserve_place(struct completion *c)
{
    if ((c->clients_count + 1) * 4 <= c->places_count * 3)
        return true;
    struct completion grown = {.places_count =
                                   c->places_count == 0 ? PLACES_MIN : c->places_count * 2};
    grown.places = calloc(grown.places_count, sizeof *grown.places);
    if (grown.places == NULL)
        return false;
    for (size_t i = 0; i < c->places_count; i++)
        if (c->places[i].id != 0)
            *place_of(&grown, c->places[i].id) = c->places[i];
    free(c->places);
    c->places = grown.places;
    c->places_count = grown.places_count;
    return true;
}

static void note_age(struct completion *c, uint64_t ptime)
{
    if (ptime < c->oldest)
        c->oldest = ptime;
}

/* It must not be there yet. */
static struct client *client_add(struct completion *c, uint64_t id, uint64_t ptime)
{
    if (!reserve_place(c))
        return NULL;
    struct client *cl = place_of(c, id);
    *cl = (struct client){.id = id, .ptime = ptime};
    note_age(c, ptime);
    c->clients_count++;
    c->bytes += CLIENT_COST;
    return cl;
}

/* Its records are gone already (invariant 2). The gap is closed by what a search would have passed it
 * for: one from further on may come to its place. */
static void client_forget(struct completion *c, struct client *cl)
{
    ENSURE(cl->count == 0);
    client_clear(cl);
    c->clients_count--;
    c->bytes -= CLIENT_COST;
    const size_t mask = c->places_count - 1;
    size_t gap = (size_t)(cl - c->places);
    for (size_t i = (gap + 1) & mask; c->places[i].id != 0; i = (i + 1) & mask) {
        size_t home = home_of(c, c->places[i].id);
        if (((i - home) & mask) < ((i - gap) & mask))
            continue;
        c->places[gap] = c->places[i];
        c->places[i] = (struct client){.id = 0};
        gap = i;
    }
}

/* --- records --- */

/* Index of the first record at or above seq. */
static uint32_t record_index(const struct client *cl, uint64_t seq)
{
    uint32_t low = 0, high = cl->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (cl->records[middle].seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void record_clear(struct completion *c, struct record *r)
{
    c->bytes -= RECORD_COST + r->result_size;
    c->records_count--;
    free(r->result);
}

/* Remove the first records of cl. */
static void records_remove(struct completion *c, struct client *cl, uint32_t count)
{
    if (count == 0)
        return;
    for (uint32_t i = 0; i < count; i++)
        record_clear(c, &cl->records[i]);
    cl->count -= count;
    memmove(cl->records, cl->records + count, cl->count * sizeof *cl->records);
}

static bool reserve_record(struct client *cl)
{
    if (cl->count < cl->capacity)
        return true;
    uint32_t capacity = cl->capacity == 0 ? 1 : cl->capacity * 2;
    struct record *grown = realloc(cl->records, capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    cl->records = grown;
    cl->capacity = capacity;
    return true;
}

static bool copy_result(struct bytes result, uint8_t **ret)
{
    *ret = result.size == 0 ? NULL : malloc(result.size);
    if (*ret != NULL)
        memcpy(*ret, result.data, result.size);
    return result.size == 0 || *ret != NULL;
}

/* Insert a copy of what is known about (cl, seq) at index. False: no memory. */
static bool record_insert(struct completion *c, struct client *cl, uint32_t index, uint64_t seq,
                          const struct completion_record *known)
{
    uint8_t *result;
    if (!reserve_record(cl) || !copy_result(known->result, &result))
        return false;
    memmove(&cl->records[index + 1], &cl->records[index],
            (cl->count - index) * sizeof *cl->records);
    cl->records[index] = (struct record){.seq = seq,
                                         .key_hash = known->key_hash,
                                         .version = known->version,
                                         .ptime = known->ptime,
                                         .status = (uint32_t)known->status,
                                         .result_flags = known->result_flags,
                                         .result_size = (uint32_t)known->result.size,
                                         .result = result};
    cl->count++;
    note_age(c, known->ptime);
    c->records_count++;
    c->bytes += RECORD_COST + known->result.size;
    return true;
}

static struct completion_record known_of(const struct record *r)
{
    return (struct completion_record){
        .status = (enum status)r->status,
        .version = r->version,
        .key_hash = r->key_hash,
        .ptime = r->ptime,
        .result_flags = r->result_flags,
        .result = bytes_of(r->result, r->result_size),
    };
}

/* --- applying --- */

/* Remove the records of cl that are not above the horizon. */
static void records_expire(struct completion *c, struct client *cl)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < cl->count; i++) {
        if (cl->records[i].ptime <= c->horizon) {
            record_clear(c, &cl->records[i]);
        } else {
            note_age(c, cl->records[i].ptime);
            cl->records[kept++] = cl->records[i];
        }
    }
    cl->count = kept;
}

static void expire(struct completion *c, uint64_t horizon)
{
    if (horizon > c->horizon)
        c->horizon = horizon;
    c->oldest = UINT64_MAX;
    /* What comes to the place of a client that goes is looked at in turn: again, if it comes round the
     * end. */
    for (size_t i = 0; i < c->places_count;) {
        struct client *cl = &c->places[i];
        records_expire(c, cl);
        if (cl->id != 0 && cl->ptime <= c->horizon) {
            client_forget(c, cl);
            continue;
        }
        if (cl->id != 0)
            note_age(c, cl->ptime);
        i++;
    }
}

static void raise_floor(struct completion *c, struct client *cl, uint64_t floor)
{
    if (floor <= cl->floor)
        return;
    cl->floor = floor;
    records_remove(c, cl, record_index(cl, floor));
}

static enum status apply_client_entry(struct completion *c, const struct entry *e)
{
    struct client *cl = client_find(c, e->client);
    if (cl == NULL)
        cl = client_add(c, e->client, e->ptime);
    if (cl == NULL)
        return STATUS_NOMEMORY;
    if (e->ptime > cl->ptime)
        cl->ptime = e->ptime;
    raise_floor(c, cl, e->ack_below);
    uint32_t index = record_index(cl, e->client_seq);
    bool known = index < cl->count && cl->records[index].seq == e->client_seq;
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
    return record_insert(c, cl, index, e->client_seq, &known_now) ? STATUS_OK : STATUS_NOMEMORY;
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
    uint32_t index = record_index(cl, seq);
    if (index == cl->count || cl->records[index].seq != seq)
        return COMPLETION_UNKNOWN;
    *ret = known_of(&cl->records[index]);
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
    for (uint32_t i = cl == NULL ? 0 : cl->count; i > 0 && cl->records[i - 1].seq > seq; i--) {
        const struct record *r = &cl->records[i - 1];
        if (r->status != STATUS_ABORTED && among(r->key_hash, key_hashes, count))
            return true;
    }
    return false;
}

uint64_t completion_horizon(const struct completion *c)
{
    return c->horizon;
}

struct aged {
    uint64_t ptime;
    size_t cost;
};

static int compare_ages(const void *a, const void *b)
{
    uint64_t x = ((const struct aged *)a)->ptime, y = ((const struct aged *)b)->ptime;
    return x < y ? -1 : x > y;
}

static size_t list_ages(const struct completion *c, struct aged *list)
{
    size_t count = 0;
    for (size_t i = 0; i < c->places_count; i++) {
        const struct client *cl = &c->places[i];
        if (cl->id == 0)
            continue;
        list[count++] = (struct aged){cl->ptime, CLIENT_COST};
        for (uint32_t k = 0; k < cl->count; k++)
            list[count++] =
                (struct aged){cl->records[k].ptime, RECORD_COST + cl->records[k].result_size};
    }
    return count;
}

/* The ptime up to which clients and records must go until at most bytes_max are left; 0 when there
 * is no memory to find it. */
static uint64_t horizon_for_bytes(const struct completion *c, size_t bytes_max)
{
    struct aged *list = calloc(c->clients_count + c->records_count, sizeof *list);
    uint64_t horizon = 0;
    if (list == NULL)
        return 0;
    size_t count = list_ages(c, list), bytes = c->bytes;
    qsort(list, count, sizeof *list, compare_ages);
    for (size_t i = 0; i < count && bytes > bytes_max; i++) {
        horizon = list[i].ptime;
        bytes -= list[i].cost;
    }
    free(list);
    return horizon;
}

static void find_oldest(struct completion *c)
{
    c->oldest = UINT64_MAX;
    for (size_t i = 0; i < c->places_count; i++) {
        const struct client *cl = &c->places[i];
        if (cl->id != 0)
            note_age(c, cl->ptime);
        for (uint32_t k = 0; k < cl->count; k++)
            note_age(c, cl->records[k].ptime);
    }
}

static uint64_t horizon_for_age(struct completion *c, uint64_t ptime_now)
{
    if (ptime_now <= COMPLETION_AGE_MS + AGE_SLACK_MS)
        return 0;
    const uint64_t due = ptime_now - COMPLETION_AGE_MS - AGE_SLACK_MS;
    if (c->oldest < due) /* what made it so may be gone */
        find_oldest(c);
    return c->oldest < due ? ptime_now - COMPLETION_AGE_MS : 0;
}

uint64_t completion_horizon_wanted(struct completion *c, uint64_t ptime_now)
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
    for (size_t i = 0; i < c->places_count; i++)
        if (c->places[i].id != 0)
            sorted[count++] = &c->places[i];
    ENSURE(count == c->clients_count);
    qsort(sorted, count, sizeof(struct client *), compare_clients);
    return sorted;
}

static size_t saved_size(const struct client *cl)
{
    size_t size = SAVED_CLIENT_SIZE + cl->count * SAVED_RECORD_SIZE;
    for (uint32_t i = 0; i < cl->count; i++)
        size += cl->records[i].result_size;
    return size;
}

static uint8_t *save_record(uint8_t *to, const struct record *r)
{
    bytes_put_le64(to, r->seq);
    bytes_put_le64(to + 8, r->version.epoch);
    bytes_put_le64(to + 16, r->version.seq);
    bytes_put_le64(to + 24, r->ptime);
    bytes_put_le32(to + 32, r->status);
    bytes_put_le32(to + 36, r->result_flags);
    bytes_put_le32(to + 40, r->result_size);
    bytes_put_le32(to + 44, 0);
    bytes_put_le64(to + 48, r->key_hash);
    if (r->result_size > 0)
        memcpy(to + SAVED_RECORD_SIZE, r->result, r->result_size);
    return to + SAVED_RECORD_SIZE + r->result_size;
}

static void save_client(uint8_t *to, const struct client *cl)
{
    bytes_put_le64(to, cl->id);
    bytes_put_le64(to + 8, cl->floor);
    bytes_put_le64(to + 16, cl->ptime);
    bytes_put_le32(to + 24, cl->count);
    bytes_put_le32(to + 28, 0);
    to += SAVED_CLIENT_SIZE;
    for (uint32_t i = 0; i < cl->count; i++)
        to = save_record(to, &cl->records[i]);
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
    if (status >= STATUS_COUNT || bytes_le32(from + 44) != 0 || r.ptime > cl->ptime ||
        !take(rest, result_size, &result))
        return STATUS_CORRUPT;
    if (seq < cl->floor || (cl->count > 0 && seq <= cl->records[cl->count - 1].seq))
        return STATUS_CORRUPT;
    r.result = bytes_of(result, result_size);
    return record_insert(c, cl, cl->count, seq, &r) ? STATUS_OK : STATUS_NOMEMORY;
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
    cl->floor = MUTANT(54) ? 0 : bytes_le64(from + 8);
    enum status s = STATUS_OK;
    for (uint32_t i = bytes_le32(from + 24); i > 0 && s == STATUS_OK; i--)
        s = load_record(c, cl, rest);
    return s;
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
    return s;
}
