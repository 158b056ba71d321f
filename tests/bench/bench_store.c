/* Bench: reads, writes, walks and checkpoints of a store over the table in LMDB.
 *
 *   bench_store [DIRECTORY [KEYS [SLOTS]]]     default: a new folder in /tmp, 300000 keys, 340
 * slots
 *
 * Keys of 16 bytes, values of 100. Figures are CPU time of the calling thread; compare them with
 * each other, not with other machines. "empty call" is the loop around a get with nothing in the
 * store.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "storage/checkpoint.h"
#include "storage/store.h"
#include "tests/sim/random.h"

#define VALUE_SIZE 100
#define TURN_READS 64 /* reads of the table in one loop turn */

struct bench {
    struct table *table;
    struct store *store;
    size_t keys, slots;
    uint64_t lsn;
};

static uint64_t cpu_ns(void)
{
    struct timespec now;
    ENSURE(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct name {
    uint32_t slot;
    uint64_t digest;
    char key[17];
};

/* The i-th key: digest spread like SHA-256's, the slot its leading bits. */
static struct name name_of(const struct bench *b, size_t i)
{
    struct random r;
    random_init(&r, i);
    struct name n = {.digest = random_next(&r)};
    n.slot = (uint32_t)(((unsigned __int128)n.digest * b->slots) >> 64) + 1;
    snprintf(n.key, sizeof n.key, "key%013zu", i % 10000000000000u);
    return n;
}

static void put(struct bench *b, size_t i, uint64_t seq)
{
    static const uint8_t value[VALUE_SIZE] = "value";
    struct name n = name_of(b, i);
    struct item item = {.present = true, .version = {1, seq}, .value = bytes_of(value, VALUE_SIZE)};
    ENSURE(store_apply(b->store, n.slot, n.digest, bytes_of(n.key, 16), &item) == STATUS_OK);
}

static void print(const char *what, uint64_t ns, size_t count)
{
    printf("%-44s %8.0f ns each  %10zu times\n", what, (double)ns / (double)count, count);
}

/* Keys [first, first + count) in random order. */
static void bench_get(struct bench *b, const char *what, size_t first, size_t count, bool present)
{
    struct random chance;
    random_init(&chance, 1);
    size_t reads = 500000, found = 0;
    uint64_t began = cpu_ns();
    for (size_t i = 0; i < reads; i++) {
        struct name n = name_of(b, first + random_below(&chance, count));
        struct item item;
        uint64_t generation;
        ENSURE(store_get(b->store, n.slot, n.digest, bytes_of(n.key, 16), &item, &generation) ==
               STATUS_OK);
        found += item.present;
        if (i % TURN_READS == 0)
            store_turn_end(b->store);
    }
    print(what, cpu_ns() - began, reads);
    ENSURE(found == (present ? reads : 0));
}

static void bench_put(struct bench *b, const char *what, size_t first, size_t count)
{
    uint64_t began = cpu_ns(), slowest = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t one = i % 16 == 0 ? clock_now_ns() : 0;
        put(b, first + i, 1);
        if (one != 0 && clock_now_ns() - one > slowest)
            slowest = clock_now_ns() - one;
    }
    print(what, cpu_ns() - began, count);
    printf("%-44s %8.0f us\n", "  slowest put seen", (double)slowest / 1000);
}

static bool on_row(void *arg, const struct table_row *row)
{
    size_t *seen = arg;
    *seen += row->item.present;
    return true;
}

static void bench_scan(struct bench *b, const char *what)
{
    size_t seen = 0;
    uint64_t began = cpu_ns();
    for (uint32_t slot = 1; slot <= b->slots; slot++)
        ENSURE(store_scan(b->store, slot, 0, BYTES_EMPTY, on_row, &seen) == STATUS_OK);
    store_turn_end(b->store);
    print(what, cpu_ns() - began, seen);
}

static void bench_checkpoint(struct bench *b, const char *what)
{
    struct checkpoint c = {.frozen = store_freeze(b->store), .lsn = ++b->lsn};
    ENSURE(c.frozen != NULL);
    size_t count = overlay_count(c.frozen);
    uint64_t began = cpu_ns(), began_wall = clock_now_ns();
    ENSURE(checkpoint_run(b->table, &c, NULL, NULL) == STATUS_OK);
    print(what, cpu_ns() - began, count);
    printf("%-44s %8.0f ns\n", "  wall time a key",
           (double)(clock_now_ns() - began_wall) / (double)count);
    began = cpu_ns();
    store_thaw(b->store);
    printf("%-44s %8.1f ms\n", "  thaw, in the loop", (double)(cpu_ns() - began) / 1e6);
}

static void print_overlay(const struct bench *b)
{
    uint64_t entries, bytes;
    store_count(b->store, &entries, &bytes);
    printf("%-44s %8.1f bytes beside key and value\n", "  overlay entry",
           (double)bytes / (double)entries - 16 - VALUE_SIZE);
}

static void run(struct bench *b)
{
    bench_get(b, "get, nothing there (empty call)", 0, b->keys, false);
    bench_put(b, "put into the overlay, new keys", 0, b->keys);
    print_overlay(b);
    bench_put(b, "put into the overlay, same keys", 0, b->keys);
    bench_get(b, "get from the overlay", 0, b->keys, true);
    bench_scan(b, "scan of the overlay, a row");
    bench_checkpoint(b, "checkpoint of new keys, a key");
    bench_get(b, "get from the table", 0, b->keys, true);
    bench_get(b, "get of an absent key from the table", b->keys, b->keys, false);
    bench_scan(b, "scan of the table, a row");
    bench_put(b, "put of every fourth key", 0, b->keys / 4);
    bench_checkpoint(b, "checkpoint of old keys, a key");
    uint64_t rows, bytes;
    b->table->verbs->count(b->table, &rows, &bytes);
    printf("%-44s %8.1f bytes a row\n", "table", (double)bytes / (double)rows);
}

int main(int argc, char **argv)
{
    char made[] = "/tmp/bench-store-XXXXXX";
    const char *directory = argc > 1 ? argv[1] : mkdtemp(made);
    struct bench b = {.keys = argc > 2 ? strtoul(argv[2], NULL, 10) : 300000,
                      .slots = argc > 3 ? strtoul(argv[3], NULL, 10) : 340};
    struct error error = {0};
    char path[300];
    ENSURE(directory != NULL && b.keys > 0 && b.slots > 0);
    snprintf(path, sizeof path, "%s/table", directory);
    b.table = table_lmdb_open(path, (uint64_t)64 << 30, &error);
    if (b.table == NULL) {
        fprintf(stderr, "bench_store: %s\n", error.message);
        return 1;
    }
    struct store_options options = {.overlay_bytes_max = (uint64_t)1 << 40, .inline_reads = true};
    b.store = store_new(&options, b.table);
    ENSURE(b.store != NULL);
    run(&b);
    store_destroy(&b.store);
    b.table->verbs->destroy(&b.table);
    for (int i = 0; argc <= 1 && i < 3; i++) {
        static const char *const names[] = {"table/data.mdb", "table/lock.mdb", "table"};
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        remove(path);
    }
    return argc <= 1 ? rmdir(directory) : 0;
}
