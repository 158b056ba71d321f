/* Blobs in the table: "position" holds the u64 lsn; "state" + slot (big endian u32) + place (0 or
 * 1) holds a state of the slot; "place" + slot holds one byte, the place that counts.
 *
 * A checkpoint writes states to the places that do not count, and turns the places over in the one
 * transaction that moves the position. So recovery never sees states of a checkpoint that did not
 * end, whether this one's or one's that ended early long ago.
 */
#include "storage/checkpoint.h"

#include <stdlib.h>

#include "proto/base/arena.h"
#include "proto/base/ensure.h"

#define POSITION_NAME   "position"
#define STATE_NAME_SIZE 10
#define PLACE_NAME      "place"
#define PLACE_NAME_SIZE 9

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

/* --- dropped slots --- */

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

/* Keys of rows that are about to go. */
struct doomed {
    struct arena arena;
    struct table_row *rows;
    size_t count, count_max;
    bool failed;
};

static bool doom(void *arg, const struct table_row *row)
{
    struct doomed *d = arg;
    uint8_t *key = arena_alloc(&d->arena, row->key.size);
    if (key == NULL) {
        d->failed = true;
        return false;
    }
    memcpy(key, row->key.data, row->key.size);
    d->rows[d->count++] = (struct table_row){.slot = row->slot,
                                             .digest = row->digest,
                                             .key = bytes_of(key, row->key.size)};
    return d->count < d->count_max;
}

/* Find the next rows of slot. */
static enum status doom_some(struct transaction *t, uint32_t slot, struct doomed *d)
{
    enum status s;
    struct table_reader *r = open_reader(t->table, &s);
    if (r == NULL)
        return s;
    d->count = 0;
    arena_reset(&d->arena, d->count_max * (KEY_SIZE_MAX + 16u));
    s = r->verbs->scan(r, slot, 0, BYTES_EMPTY, doom, d);
    r->verbs->reader_destroy(&r);
    return d->failed ? STATUS_NOMEMORY : s;
}

/* One transaction after another, so that log syncs get their turn. */
static enum status erase_slot(struct transaction *t, uint32_t slot)
{
    struct doomed d = {.count_max = t->count_max};
    enum status s = transaction_commit(t);
    arena_init(&d.arena);
    d.rows = calloc(d.count_max, sizeof *d.rows);
    if (d.rows == NULL)
        s = STATUS_NOMEMORY;
    do {
        if (s == STATUS_OK)
            s = doom_some(t, slot, &d);
        for (size_t i = 0; s == STATUS_OK && i < d.count; i++)
            s = put_row(t, &d.rows[i]);
        if (s == STATUS_OK)
            s = transaction_commit(t);
    } while (s == STATUS_OK && d.count > 0);
    free(d.rows);
    arena_fini(&d.arena);
    return s;
}

/* --- states --- */

static struct bytes state_name(uint8_t to[static STATE_NAME_SIZE], uint32_t slot, uint8_t place)
{
    memcpy(to, "state", 5);
    bytes_put_be32(to + 5, slot);
    to[9] = place;
    return bytes_of(to, STATE_NAME_SIZE);
}

static struct bytes place_name(uint8_t to[static PLACE_NAME_SIZE], uint32_t slot)
{
    memcpy(to, PLACE_NAME, 5);
    bytes_put_be32(to + 5, slot);
    return bytes_of(to, PLACE_NAME_SIZE);
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

/* The place that does not count. */
static enum status free_place(struct table_reader *r, uint32_t slot, uint8_t *ret_place)
{
    uint8_t name[PLACE_NAME_SIZE];
    struct bytes blob;
    *ret_place = 0;
    enum status s = r->verbs->blob_get(r, place_name(name, slot), &blob);
    if (s == STATUS_NOTFOUND)
        return STATUS_OK;
    if (s != STATUS_OK)
        return s;
    if (blob.size != 1 || blob.data[0] > 1)
        return STATUS_CORRUPT;
    *ret_place = blob.data[0] == 0 ? 1 : 0;
    return STATUS_OK;
}

static enum status put_state(struct transaction *t, const struct checkpoint_state *state,
                             uint8_t place)
{
    uint8_t name[STATE_NAME_SIZE];
    enum status s = transaction_begin(t);
    if (s == STATUS_OK)
        s = t->table->verbs->blob_put(t->table, state_name(name, state->slot, place), state->blob);
    return s == STATUS_OK ? transaction_count(t, state->blob.size) : s;
}

/* Fill places with where each state went. */
static enum status put_states(struct transaction *t, const struct checkpoint *c, uint8_t *places)
{
    enum status s;
    struct table_reader *r = open_reader(t->table, &s);
    if (r == NULL)
        return s;
    uint64_t position;
    s = get_position(r, &position);
    ENSURE(s != STATUS_OK || c->lsn >= position);
    for (size_t i = 0; s == STATUS_OK && i < c->states_count; i++) {
        s = free_place(r, c->states[i].slot, &places[i]);
        if (s == STATUS_OK)
            s = put_state(t, &c->states[i], places[i]);
    }
    r->verbs->reader_destroy(&r);
    return s == STATUS_OK ? transaction_commit(t) : s;
}

/* One transaction: from here on the new states and the new position count. */
static enum status put_position(struct transaction *t, const struct checkpoint *c,
                                const uint8_t *places)
{
    struct table *table = t->table;
    enum status s = transaction_begin(t);
    for (size_t i = 0; s == STATUS_OK && i < c->states_count; i++) {
        uint8_t name[PLACE_NAME_SIZE];
        s = table->verbs->blob_put(table, place_name(name, c->states[i].slot),
                                   bytes_of(&places[i], 1));
    }
    uint8_t blob[8];
    record_encode_u64(blob, c->lsn);
    if (s == STATUS_OK)
        s = table->verbs->blob_put(table, bytes_text(POSITION_NAME), bytes_of(blob, sizeof blob));
    return s == STATUS_OK ? transaction_commit(t) : s;
}

enum status checkpoint_run(struct table *table, const struct checkpoint *c,
                           bool (*between)(void *arg), void *arg)
{
    ENSURE(c->frozen != NULL);
    struct transaction t = {.table = table,
                            .count_max = c->chunk == 0 ? CHECKPOINT_CHUNK : c->chunk,
                            .between = between,
                            .arg = arg};
    uint8_t *places = malloc(c->states_count + 1);
    enum status s = places == NULL ? STATUS_NOMEMORY : put_rows(&t, c->frozen);
    for (size_t i = 0; s == STATUS_OK && i < c->drops_count; i++)
        s = erase_slot(&t, c->drops[i]);
    if (s == STATUS_OK)
        s = put_states(&t, c, places);
    if (s == STATUS_OK)
        s = put_position(&t, c, places);
    if (t.open)
        table->verbs->abort(table);
    free(places);
    return s;
}

void checkpoint_fini(struct checkpoint *c)
{
    if (c == NULL)
        return;
    free(c->states);
    free(c->drops);
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

struct walk {
    struct table_reader *reader;
    checkpoint_state_fn *fn;
    void *arg;
    enum status status;
};

static bool on_blob(void *arg, struct bytes name, struct bytes value)
{
    struct walk *w = arg;
    if (name.size != PLACE_NAME_SIZE || memcmp(name.data, PLACE_NAME, 5) != 0)
        return true;
    uint32_t slot = bytes_be32(name.data + 5);
    uint8_t state[STATE_NAME_SIZE];
    struct bytes blob;
    w->status = STATUS_NOTFOUND;
    if (value.size == 1)
        w->status =
            w->reader->verbs->blob_get(w->reader, state_name(state, slot, value.data[0]), &blob);
    if (w->status == STATUS_OK)
        w->status = w->fn(w->arg, slot, blob);
    else if (w->status == STATUS_NOTFOUND)
        w->status = STATUS_CORRUPT;
    return w->status == STATUS_OK;
}

enum status checkpoint_states(struct table *table, checkpoint_state_fn *fn, void *arg)
{
    struct walk w = {.fn = fn, .arg = arg};
    w.reader = open_reader(table, &w.status);
    if (w.reader == NULL)
        return w.status;
    enum status s = w.reader->verbs->blob_scan(w.reader, on_blob, &w);
    w.reader->verbs->reader_destroy(&w.reader);
    return s == STATUS_OK ? w.status : s;
}
