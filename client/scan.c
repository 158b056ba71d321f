/* Walks over the whole store and over one hash tag, counting and clearing. */
#include <stdlib.h>

#include "client/calls.h"
#include "client/fault.h"
#include "proto/base/arena.h"
#include "proto/codec.h"
#include "proto/partition.h"

#define PAGE_KEYS  1000
#define PAGE_BYTES (1u << 20)

/* Where the next page begins: for a walk a cursor, for a hash tag a bound. */
#define PLACE_SIZE_MAX (KEY_SIZE_MAX + 8)

struct duet_scan {
    struct duet_client *client;
    bool keys_only, over;
    struct arena arena; /* of the page */
    struct scan_page page;
    size_t next; /* index in the page */
    struct buffer place;

    /* Of a hash tag; else empty. */
    struct buffer tag, prefix, to;
};

static struct bytes view(struct duet_slice slice)
{
    return bytes_of(slice.data, slice.size);
}

static struct duet_slice slice(struct bytes b)
{
    return duet_bytes(b.data, b.size);
}

struct duet_scan *duet_scan_open(struct duet_client *client, bool keys_only,
                                 struct duet_error *reterr)
{
    struct duet_scan *scan = calloc(1, sizeof *scan);
    if (scan == NULL) {
        fault_set(reterr, DUET_NOMEMORY, "out of memory");
        return NULL;
    }
    scan->client = client;
    scan->keys_only = keys_only;
    arena_init(&scan->arena);
    buffer_init(&scan->place, PLACE_SIZE_MAX);
    buffer_init(&scan->tag, KEY_SIZE_MAX);
    buffer_init(&scan->prefix, KEY_SIZE_MAX);
    buffer_init(&scan->to, SCAN_BOUND_SIZE_MAX);
    return scan;
}

static bool keep(struct buffer *to, struct duet_slice from)
{
    return from.size <= to->size_max && buffer_append(to, view(from)) == STATUS_OK;
}

struct duet_scan *duet_range_open(struct duet_client *client, const struct duet_range *range,
                                  struct duet_error *reterr)
{
    if (range->tag.size == 0 || range->tag.size > KEY_SIZE_MAX ||
        range->prefix.size > KEY_SIZE_MAX || range->from.size > SCAN_BOUND_SIZE_MAX ||
        range->to.size > SCAN_BOUND_SIZE_MAX) {
        fault_set(reterr, DUET_USAGE, "a range needs a key with its hash tag, and bounds no longer "
                                      "than a key");
        return NULL;
    }
    struct duet_scan *scan = duet_scan_open(client, range->keys_only, reterr);
    if (scan == NULL)
        return NULL;
    if (!keep(&scan->tag, range->tag) || !keep(&scan->prefix, range->prefix) ||
        !keep(&scan->place, range->from) || !keep(&scan->to, range->to)) {
        fault_set(reterr, DUET_NOMEMORY, "out of memory");
        duet_scan_close(&scan);
    }
    return scan;
}

void duet_scan_close(struct duet_scan **scan_p)
{
    if (scan_p == NULL || *scan_p == NULL)
        return;
    arena_fini(&(*scan_p)->arena);
    buffer_fini(&(*scan_p)->place);
    buffer_fini(&(*scan_p)->tag);
    buffer_fini(&(*scan_p)->prefix);
    buffer_fini(&(*scan_p)->to);
    free(*scan_p);
    *scan_p = NULL;
}

static enum duet_code unpack_page(struct duet_scan *scan, struct duet_slice value,
                                  struct duet_error *reterr)
{
    scan->page = (struct scan_page){0};
    scan->next = 0;
    arena_reset(&scan->arena, 4 * value.size + (64u << 10));
    if (codec_unpack_scan_page(view(value), &scan->arena, &scan->page) != STATUS_OK)
        return fault_set(reterr, DUET_MALFORMED, "a page of the scan does not decode");
    struct bytes next = scan->page.next;
    buffer_clear(&scan->place);
    if (buffer_append(&scan->place, next) != STATUS_OK)
        return fault_set(reterr, DUET_MALFORMED, "the cursor of the scan is too long");
    scan->over = next.size == 0;
    return DUET_OK;
}

static enum duet_code fetch_page(struct duet_scan *scan, bool count_only,
                                 struct duet_error *reterr)
{
    bool range = scan->tag.size > 0;
    struct session_operation op = {.kind = range ? KIND_RANGE : KIND_SCAN,
                                   .key = buffer_view(range ? &scan->tag : &scan->place),
                                   .scan = {.keys_only = scan->keys_only,
                                            .count_only = count_only,
                                            .prefix = buffer_view(&scan->prefix),
                                            .to = buffer_view(&scan->to)}};
    if (range)
        op.scan.from = buffer_view(&scan->place);
    if (!count_only) {
        op.scan.count_max = PAGE_KEYS;
        op.scan.bytes_max = PAGE_BYTES;
    }
    struct duet_result *result;
    enum duet_code code = calls_run(scan->client, &op, 0, &result, reterr);
    if (code == DUET_OK && result == NULL)
        code = fault_set(reterr, DUET_NOMEMORY, "out of memory");
    if (code == DUET_OK)
        code = unpack_page(scan, result->value, reterr);
    duet_result_free(&result);
    return code;
}

enum duet_code duet_scan_next(struct duet_scan *scan, struct duet_slice *ret_key,
                              struct duet_slice *ret_value, struct duet_version *ret_version,
                              struct duet_error *reterr)
{
    while (scan->next == scan->page.count) {
        if (scan->over)
            return DUET_NOTFOUND;
        enum duet_code code = fetch_page(scan, false, reterr);
        if (code != DUET_OK)
            return code;
    }
    size_t i = scan->next++;
    if (ret_key != NULL)
        *ret_key = slice(scan->page.keys[i]);
    if (ret_value != NULL)
        *ret_value = slice(scan->page.values[i]);
    if (ret_version != NULL)
        *ret_version = (struct duet_version){scan->page.epochs[i], scan->page.seqs[i]};
    return DUET_OK;
}

/* ---- Counting ---- */

enum duet_code duet_scan_count(struct duet_scan *scan, uint64_t *count, struct duet_error *reterr)
{
    *count += scan->page.count - scan->next; /* what duet_scan_next() has not given yet */
    scan->next = scan->page.count;
    if (scan->over)
        return DUET_NOTFOUND;
    enum duet_code code = fetch_page(scan, true, reterr);
    if (code == DUET_OK)
        *count += scan->page.counted;
    return code;
}

double duet_scan_progress(const struct duet_scan *scan)
{
    if (scan->over)
        return 1;
    if (scan->tag.size > 0 || scan->place.size < 8)
        return 0;
    return (double)bytes_be64(scan->place.data) / 18446744073709551616.0;
}

enum duet_code duet_range_count(struct duet_client *client, const struct duet_range *range,
                                uint64_t *ret_count, struct duet_error *reterr)
{
    struct duet_error error = {0};
    struct duet_scan *scan = duet_range_open(client, range, &error);
    enum duet_code code = scan == NULL ? error.code : DUET_OK;
    *ret_count = 0;
    while (code == DUET_OK)
        code = duet_scan_count(scan, ret_count, &error);
    duet_scan_close(&scan);
    if (code == DUET_NOTFOUND)
        return DUET_OK;
    if (reterr != NULL)
        *reterr = error;
    return code;
}

/* ---- Clearing ---- */

/* Deletes the i-th key of the page, if it is still as it was shown. */
static struct duet_operation nth_delete(const void *items, size_t i)
{
    const struct scan_page *page = items;
    return (struct duet_operation){
        .kind = DUET_DEL,
        .key = slice(page->keys[i]),
        .condition = {.when = DUET_IF_VERSION, .version = {page->epochs[i], page->seqs[i]}}};
}

/* What the deletions of a page came to. One that somebody else has been at since is theirs. */
static enum duet_code settle(const struct duet_result *const *results, size_t count,
                             enum duet_code code, uint64_t *deleted)
{
    enum duet_code failed = DUET_OK;
    for (size_t i = count; i-- > 0;) {
        enum duet_code own = results[i] == NULL ? code : results[i]->code;
        if (own == DUET_OK)
            ++*deleted;
        else if (own != DUET_CONDITION && own != DUET_NOTFOUND)
            failed = own;
    }
    return failed;
}

enum duet_code duet_scan_clear(struct duet_scan *scan, uint64_t *deleted, struct duet_error *reterr)
{
    enum duet_code code = DUET_OK;
    if (scan->next == scan->page.count)
        code = scan->over ? DUET_NOTFOUND : fetch_page(scan, false, reterr);
    if (code != DUET_OK)
        return code;
    size_t count = scan->page.count;
    struct duet_result **results = calloc(count + 1, sizeof *results);
    if (results == NULL)
        return fault_set(reterr, DUET_NOMEMORY, "out of memory");
    scan->next = 0; /* what was deleted already is not found again */
    code = calls_run_many(scan->client, nth_delete, &scan->page, count, results, reterr);
    code = settle((const struct duet_result *const *)results, count, code, deleted);
    if (code == DUET_OK)
        scan->next = count;
    else
        client_explain(scan->client, code, 0, reterr);
    for (size_t i = 0; i < count; i++)
        duet_result_free(&results[i]);
    free(results);
    return code;
}

enum duet_code duet_range_clear(struct duet_client *client, const struct duet_range *range,
                                uint64_t *ret_deleted, struct duet_error *reterr)
{
    struct duet_range keys = *range;
    struct duet_error error = {0};
    keys.keys_only = true;
    struct duet_scan *scan = duet_range_open(client, &keys, &error);
    enum duet_code code = scan == NULL ? error.code : DUET_OK;
    *ret_deleted = 0;
    while (code == DUET_OK)
        code = duet_scan_clear(scan, ret_deleted, &error);
    duet_scan_close(&scan);
    if (code == DUET_NOTFOUND)
        return DUET_OK;
    if (reterr != NULL)
        *reterr = error;
    return code;
}
