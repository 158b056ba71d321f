/* copies: are all copies of these keys the same?
 *
 *   copies CLUSTER-FILE LISTING
 *
 * Each node that holds a copy of a key of the listing (listing.h)
 * is asked for the key itself, past the routers, and must answer exactly that.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "proto/link.h"
#include "proto/partition.h"
#include "storage/cluster_file.h"
#include "tests/process/listing.h"

#define BATCH_MAX       64
#define BATCH_BYTES_MAX (1u << 20)
#define ANSWER_MS       20000 /* without any answer that is new */
#define BATCH_MS        3000  /* then what is missing is asked for again: its link was lost */
#define COMPLAINTS_MAX  20

/* What one node said of one entry. */
struct said {
    bool answered, present;
    struct version version;
    struct bytes value;
};

struct work {
    struct clustermap *map;
    struct listing_entry *entries;
    uint64_t *digests; /* of their keys */
    size_t count;
    struct said *said[COPIES_MAX]; /* by the copy's place in the partition's list */
    struct link_context *context;
    struct arena arena;
    uint64_t boot, complaints;
};

/* ------------------------------------------------------------------ asking a node */

static const struct clustermap_partition *partition_of_entry(const struct work *w, size_t i)
{
    return &w->map->partitions[partition_of(w->digests[i], w->map->partition_count)];
}

/* The place of node among the copies of entry i; COPIES_MAX: it has none. */
static uint32_t copy_of(const struct work *w, size_t i, uint32_t node)
{
    const struct clustermap_partition *p = partition_of_entry(w, i);
    for (uint32_t copy = 0; copy < p->isr_count; copy++)
        if (p->isr[copy] == node)
            return copy;
    return COPIES_MAX;
}

/* Fill a batch with entries from *next on that node has and did not answer yet. */
static size_t batch_pack(struct work *w, uint32_t node, size_t *next, struct buffer *out)
{
    uint64_t tokens[BATCH_MAX], digests[BATCH_MAX];
    uint32_t kinds[BATCH_MAX], deadlines[BATCH_MAX];
    struct bytes keys[BATCH_MAX];
    struct batch b = {.router_boot = w->boot,
                      .tokens = tokens,
                      .kinds = kinds,
                      .digests = digests,
                      .deadlines_ms = deadlines,
                      .keys = keys};
    size_t bytes = 0;
    for (; *next < w->count && b.count < BATCH_MAX && bytes < BATCH_BYTES_MAX; (*next)++) {
        uint32_t copy = copy_of(w, *next, node);
        if (copy == COPIES_MAX || w->said[copy][*next].answered)
            continue;
        tokens[b.count] = *next;
        kinds[b.count] = KIND_READ;
        digests[b.count] = w->digests[*next];
        deadlines[b.count] = 2000;
        keys[b.count++] = w->entries[*next].key;
        bytes += w->entries[*next].value.size;
    }
    ENSURE(b.count == 0 || codec_pack_batch(&b, out) == STATUS_OK);
    return b.count;
}

static void answer_take(struct work *w, uint32_t node, const struct answer *a, size_t i)
{
    size_t index = a->ids[i];
    uint32_t copy = index < w->count ? copy_of(w, index, node) : COPIES_MAX;
    if (copy == COPIES_MAX || (a->statuses[i] != STATUS_OK && a->statuses[i] != STATUS_NOTFOUND))
        return; /* a refusal: it is asked again */
    uint8_t *value = malloc(a->values[i].size + 1);
    ENSURE(value != NULL);
    if (a->values[i].size > 0)
        memcpy(value, a->values[i].data, a->values[i].size);
    w->said[copy][index] = (struct said){.answered = true,
                                         .present = a->statuses[i] == STATUS_OK,
                                         .version = {a->epochs[i], a->seqs[i]},
                                         .value = bytes_of(value, a->values[i].size)};
}

/* Wait for as many answers as were asked for. */
static void answers_wait(struct work *w, uint32_t node, struct link *link, size_t wanted,
                         uint64_t until_ms)
{
    struct link_peer peer;
    struct bytes frame;
    struct answer a;
    uint64_t now_ms = clock_now_ms();
    if (until_ms > now_ms + BATCH_MS)
        until_ms = now_ms + BATCH_MS;
    while (wanted > 0 && clock_now_ms() < until_ms) {
        if (link_recv(link, &peer, &frame) != STATUS_OK) {
            usleep(200);
            continue;
        }
        if (codec_unpack_answer(frame, &w->arena, &a) != STATUS_OK || a.owner != w->boot)
            continue;
        for (size_t i = 0; i < a.count; i++)
            answer_take(w, node, &a, i);
        wanted -= a.count < wanted ? a.count : wanted;
    }
}

static void node_pass(struct work *w, uint32_t node, struct link *link, uint64_t until_ms)
{
    struct buffer out;
    size_t next = 0, count;
    buffer_init(&out, FRAME_BYTES_MAX);
    while ((count = batch_pack(w, node, &next, &out)) > 0) {
        while (!link_connected(link) && clock_now_ms() < until_ms)
            usleep(1000);
        if (link_send(link, NULL, &out) == STATUS_OK)
            answers_wait(w, node, link, count, until_ms);
        buffer_clear(&out);
    }
    buffer_fini(&out);
}

static size_t unanswered(const struct work *w, uint32_t node)
{
    size_t open = 0;
    for (size_t i = 0; i < w->count; i++) {
        uint32_t copy = copy_of(w, i, node);
        open += copy < COPIES_MAX && !w->said[copy][i].answered;
    }
    return open;
}

static size_t node_ask(struct work *w, uint32_t node)
{
    struct error error;
    struct link *link =
        link_connect(w->context, LINK_ROUTER_TO_NODE, w->map->nodes[node].address, &error);
    ENSURE(link != NULL);
    uint64_t until_ms = clock_now_ms() + ANSWER_MS;
    size_t open = unanswered(w, node);
    while (open > 0 && clock_now_ms() < until_ms) {
        node_pass(w, node, link, until_ms);
        size_t before = open;
        open = unanswered(w, node);
        if (open < before)
            until_ms = clock_now_ms() + ANSWER_MS;
    }
    link_destroy(&link);
    return open;
}

/* ------------------------------------------------------------------ comparing */

static void complain(struct work *w, size_t i, uint32_t copy, const char *what)
{
    const struct listing_entry *e = &w->entries[i];
    const struct said *s = &w->said[copy][i];
    if (w->complaints++ >= COMPLAINTS_MAX)
        return;
    printf("key %.*s at %s: %s: it has version %" PRIu64 ".%" PRIu64 " (%zu bytes%s), expected "
           "%" PRIu64 ".%" PRIu64 " (%zu bytes%s)\n",
           (int)e->key.size, (const char *)e->key.data,
           w->map->nodes[partition_of_entry(w, i)->isr[copy]].name, what, s->version.epoch,
           s->version.seq, s->value.size, s->present ? "" : ", absent", e->version.epoch,
           e->version.seq, e->value.size, e->present ? "" : ", absent");
}

static const char *difference(const struct listing_entry *e, const struct said *s)
{
    if (!s->answered)
        return "no answer";
    if (e->present != s->present)
        return "presence differs";
    if (e->present && (e->version.epoch != s->version.epoch || e->version.seq != s->version.seq))
        return "version differs";
    return e->present && !bytes_equal(e->value, s->value) ? "value differs" : NULL;
}

static size_t compare(struct work *w)
{
    size_t compared = 0;
    for (size_t i = 0; i < w->count; i++) {
        struct listing_entry *e = &w->entries[i];
        bool any = e->present && e->version.epoch == 0;
        if (any && w->said[0][i].answered)
            e->version = w->said[0][i].version; /* then all must be like the first */
        for (uint32_t copy = 0; copy < partition_of_entry(w, i)->isr_count; copy++, compared++) {
            const char *what = difference(e, &w->said[copy][i]);
            if (what != NULL)
                complain(w, i, copy, what);
        }
    }
    return compared;
}

static void work_fini(struct work *w)
{
    for (uint32_t copy = 0; copy < COPIES_MAX; copy++) {
        for (size_t i = 0; i < w->count; i++)
            free((void *)w->said[copy][i].value.data);
        free(w->said[copy]);
    }
    free(w->digests);
    arena_fini(&w->arena);
    link_context_destroy(&w->context);
    clustermap_destroy(&w->map);
}

int main(int argc, char **argv)
{
    struct work w = {.map = clustermap_new(), .boot = clock_random64()};
    struct error error = {.status = STATUS_OK};
    struct listing listing;
    if (argc != 3 || cluster_file_read(argv[1], w.map, &error) != STATUS_OK ||
        !listing_read(&listing, argv[2])) {
        printf("copies: bad arguments, cluster file or listing %s\n", error.message);
        return 2;
    }
    w.entries = listing.entries;
    w.count = listing.count;
    w.digests = calloc(w.count, sizeof *w.digests);
    ENSURE(w.digests != NULL);
    for (size_t i = 0; i < w.count; i++)
        w.digests[i] = partition_digest(w.entries[i].key);
    for (uint32_t copy = 0; copy < COPIES_MAX; copy++)
        ENSURE((w.said[copy] = calloc(w.count, sizeof *w.said[copy])) != NULL);
    w.context = link_context_new(1, false);
    arena_init(&w.arena);
    for (uint32_t node = 0; node < w.map->nodes_count; node++)
        node_ask(&w, node);
    size_t compared = compare(&w);
    printf("%zu keys, %zu copies compared, %" PRIu64 " differ\n", w.count, compared, w.complaints);
    work_fini(&w);
    listing_fini(&listing);
    return w.complaints == 0 && compared > 0 ? 0 : 1;
}
