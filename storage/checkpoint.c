/* Blobs in the table: "position" holds the u64 lsn; "state" + slot (big endian u32) + place (0 or
 * 1) holds a u64 lsn and the slot's state as of it.
 *
 * Invariants:
 * (1) A slot's state is the one of its places with the highest lsn that is not above the position.
 * (2) A checkpoint writes a slot's other place only, so that (1) changes for all slots in the one
 *     transaction that moves the position.
 */
#include "storage/checkpoint.h"

#include <stdlib.h>

#include "proto/base/ensure.h"

#define POSITION_NAME     "position"
#define STATE_NAME        "state"
#define STATE_NAME_SIZE   10
#define STATE_HEADER_SIZE 8

struct transaction {
    struct table *table;
    bool open;
    size_t count, bytes; /* put into it so far */
    size_t count_max;
    bool (*between)(void *arg);
    void *arg;
};

static enum status transaction_begin(struct transaction *t)
{
    if (t->open)
        return STATUS_OK;
    enum status s = t->table->verbs->begin(t->table);
    t->open = s == STATUS_OK;
    t->count = t->bytes = 0;
    return s;
}

static enum status transaction_commit(struct transaction *t)
{
    if (!t->open)
        return STATUS_OK;
    t->open = false;
    enum status s = t->table->verbs->commit(t->table);
    if (s == STATUS_OK && t->between != NULL && !t->between(t->arg))
        return STATUS_ABORTED;
    return s;
}

/* One more row or blob of that size was put. */
static enum status transaction_count(struct transaction *t, size_t size)
{
    t->bytes += size;
    bool full = ++t->count >= t->count_max || t->bytes >= CHECKPOINT_CHUNK_BYTES;
    return full ? transaction_commit(t) : STATUS_OK;
}

/* --- rows --- */

static enum status put_row(struct transaction *t, const struct table_row *row)
{
    enum status s = transaction_begin(t);
    if (s == STATUS_OK)
        s = t->table->verbs->put(t->table, row);
    return s == STATUS_OK ? transaction_count(t, row->key.size + row->item.value.size) : s;
}

static enum status put_slot(struct transaction *t, const struct overlay *frozen, uint32_t slot)
{
    size_t count;
    struct table_row *rows = overlay_sorted(frozen, slot, &count);
    enum status s = rows == NULL && count > 0 ? STATUS_NOMEMORY : STATUS_OK;
    for (size_t i = 0; s == STATUS_OK && i < count; i++)
        s = put_row(t, &rows[i]);
    free(rows);
    return s;
}

static enum status put_rows(struct transaction *t, const struct overlay *frozen)
{
    size_t count;
    uint32_t *slots = overlay_slots(frozen, &count);
    enum status s = slots == NULL && count > 0 ? STATUS_NOMEMORY : STATUS_OK;
    for (size_t i = 0; s == STATUS_OK && i < count; i++)
        s = put_slot(t, frozen, slots[i]);
    free(slots);
    return s;
}

/* --- states --- */

static struct bytes state_name(uint8_t to[static STATE_NAME_SIZE], uint32_t slot, unsigned place)
{
    memcpy(to, STATE_NAME, 5);
    bytes_put_be32(to + 5, slot);
    to[9] = (uint8_t)place;
    return bytes_of(to, STATE_NAME_SIZE);
}

static enum status get_position(struct table_reader *r, uint64_t *ret_lsn)
{
    struct bytes blob;
    *ret_lsn = 0;
    enum status s = r->verbs->blob_get(r, bytes_text(POSITION_NAME), &blob);
    if (s == STATUS_NOTFOUND)
        return STATUS_OK;
    return s == STATUS_OK ? record_decode_u64(blob, ret_lsn) : s;
}

/* The lsn of a slot's place; 0 when the place is empty. */
static enum status get_state_lsn(struct table_reader *r, uint32_t slot, unsigned place,
                                 uint64_t *ret_lsn)
{
    uint8_t name[STATE_NAME_SIZE];
    struct bytes blob;
    *ret_lsn = 0;
    enum status s = r->verbs->blob_get(r, state_name(name, slot, place), &blob);
    if (s == STATUS_NOTFOUND)
        return STATUS_OK;
    if (s == STATUS_OK && blob.size < STATE_HEADER_SIZE)
        return STATUS_CORRUPT;
    if (s == STATUS_OK)
        *ret_lsn = bytes_le64(blob.data);
    return s;
}

/* The place that does not count at position, or would hold the same anyway. */
static enum status choose_place(struct table_reader *r, uint32_t slot, uint64_t position,
                                uint64_t lsn, unsigned *ret_place)
{
    uint64_t first, second;
    enum status s = get_state_lsn(r, slot, 0, &first);
    if (s == STATUS_OK)
        s = get_state_lsn(r, slot, 1, &second);
    if (s != STATUS_OK)
        return s;
    bool first_counts =
        first != 0 && first <= position && (second == 0 || second > position || second <= first);
    *ret_place = first_counts && first != lsn ? 1 : 0;
    if (second == lsn)
        *ret_place = 1;
    return STATUS_OK;
}

static enum status put_state(struct transaction *t, struct table_reader *r, uint64_t position,
                             uint64_t lsn, const struct checkpoint_state *state)
{
    unsigned place;
    enum status s = choose_place(r, state->slot, position, lsn, &place);
    if (s != STATUS_OK)
        return s;
    struct bytes blob = {STATE_HEADER_SIZE + state->blob.size, NULL};
    uint8_t *memory = malloc(blob.size);
    if (memory == NULL)
        return STATUS_NOMEMORY;
    bytes_put_le64(memory, lsn);
    if (state->blob.size > 0)
        memcpy(memory + STATE_HEADER_SIZE, state->blob.data, state->blob.size);
    blob.data = memory;
    uint8_t name[STATE_NAME_SIZE];
    s = transaction_begin(t);
    if (s == STATUS_OK)
        s = t->table->verbs->blob_put(t->table, state_name(name, state->slot, place), blob);
    free(memory);
    return s == STATUS_OK ? transaction_count(t, blob.size) : s;
}

/* A reader that is refreshed already; NULL: *ret_status. */
static struct table_reader *open_reader(struct table *table, enum status *ret_status)
{
    struct table_reader *r = NULL;
    *ret_status = table->verbs->reader_new(table, &r);
    if (*ret_status == STATUS_OK)
        *ret_status = r->verbs->refresh(r);
    if (*ret_status != STATUS_OK && r != NULL)
        r->verbs->reader_destroy(&r);
    return r;
}

static enum status put_states(struct transaction *t, const struct checkpoint *c)
{
    enum status s;
    struct table_reader *r = open_reader(t->table, &s);
    if (r == NULL)
        return s;
    uint64_t position;
    s = get_position(r, &position);
    ENSURE(s != STATUS_OK || c->lsn >= position);
    for (size_t i = 0; s == STATUS_OK && i < c->states_count; i++)
        s = put_state(t, r, position, c->lsn, &c->states[i]);
    r->verbs->reader_destroy(&r);
    return s == STATUS_OK ? transaction_commit(t) : s;
}

static enum status put_position(struct transaction *t, uint64_t lsn)
{
    uint8_t blob[8];
    record_encode_u64(blob, lsn);
    enum status s = transaction_begin(t);
    if (s == STATUS_OK)
        s = t->table->verbs->blob_put(t->table, bytes_text(POSITION_NAME),
                                      bytes_of(blob, sizeof blob));
    return s == STATUS_OK ? transaction_commit(t) : s;
}

enum status checkpoint_run(struct table *table, const struct checkpoint *c,
                           bool (*between)(void *arg), void *arg)
{
    ENSURE(c->frozen != NULL && c->lsn > 0);
    struct transaction t = {.table = table,
                            .count_max = c->chunk == 0 ? CHECKPOINT_CHUNK : c->chunk,
                            .between = between,
                            .arg = arg};
    enum status s = put_rows(&t, c->frozen);
    if (s == STATUS_OK)
        s = put_states(&t, c);
    if (s == STATUS_OK)
        s = put_position(&t, c->lsn);
    if (t.open)
        table->verbs->abort(table);
    return s;
}

void checkpoint_fini(struct checkpoint *c)
{
    if (c == NULL)
        return;
    free(c->states);
    free(c->states_memory);
    *c = (struct checkpoint){0};
}

/* --- recovery --- */

enum status checkpoint_position(struct table *table, uint64_t *ret_lsn)
{
    enum status s;
    struct table_reader *r = open_reader(table, &s);
    if (r == NULL)
        return s;
    s = get_position(r, ret_lsn);
    r->verbs->reader_destroy(&r);
    return s;
}

/* A walk over the blobs; a slot's places follow each other. */
struct walk {
    checkpoint_state_fn *fn;
    void *arg;
    uint64_t position;
    enum status status;
    bool pending; /* slot, lsn and blob are the best so far */
    uint32_t slot;
    uint64_t lsn;
    struct bytes blob;
};

static void walk_give(struct walk *w)
{
    if (w->pending && w->status == STATUS_OK)
        w->status = w->fn(w->arg, w->slot, w->blob);
    w->pending = false;
}

static bool on_blob(void *arg, struct bytes name, struct bytes value)
{
    struct walk *w = arg;
    if (name.size != STATE_NAME_SIZE || memcmp(name.data, STATE_NAME, 5) != 0)
        return true;
    if (value.size < STATE_HEADER_SIZE || name.data[9] > 1) {
        w->status = STATUS_CORRUPT;
        return false;
    }
    uint32_t slot = bytes_be32(name.data + 5);
    uint64_t lsn = bytes_le64(value.data);
    if (w->pending && w->slot != slot)
        walk_give(w);
    if (lsn > w->position || (w->pending && lsn <= w->lsn))
        return w->status == STATUS_OK;
    w->pending = true;
    w->slot = slot;
    w->lsn = lsn;
    w->blob = bytes_of(value.data + STATE_HEADER_SIZE, value.size - STATE_HEADER_SIZE);
    return w->status == STATUS_OK;
}

enum status checkpoint_states(struct table *table, checkpoint_state_fn *fn, void *arg)
{
    struct walk w = {.fn = fn, .arg = arg};
    struct table_reader *r = open_reader(table, &w.status);
    if (r == NULL)
        return w.status;
    enum status s = get_position(r, &w.position);
    if (s == STATUS_OK)
        s = r->verbs->blob_scan(r, on_blob, &w);
    if (s == STATUS_OK)
        walk_give(&w);
    r->verbs->reader_destroy(&r);
    return s == STATUS_OK ? w.status : s;
}
