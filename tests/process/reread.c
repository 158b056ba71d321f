/* reread: reads all keys of a listing through the routers, again and again, and says how long the
 * slowest read took.
 *
 *   reread ROUTERS LISTING [WINDOW [RATE]]
 *
 * The listing is that of copies.c; versions are not looked at. Prints "at READS" ten times a
 * second; goes on until stdin ends and then to the end of the round. Exit code 0: every read was
 * answered, with the value of the listing.
 */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/duet.h"
#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "tests/process/listing.h"

struct counts {
    atomic_uint_fast64_t reads, wrong, unanswered, slowest_ms, asked;
    atomic_bool stopping;
};

struct flight {
    struct counts *counts;
    const struct listing_entry *entry;
    uint64_t asked_ms;
};

static bool right(const struct duet_result *result, const struct listing_entry *e)
{
    struct duet_slice value = duet_result_value(result);
    if (duet_result_code(result) == DUET_NOTFOUND)
        return !e->present;
    return e->present && value.size == e->value.size &&
           memcmp(value.data, e->value.data, value.size) == 0;
}

static void heard(const struct duet_result *result, void *user)
{
    struct flight *f = user;
    struct counts *c = f->counts;
    enum duet_code code = duet_result_code(result);
    uint64_t took_ms = clock_now_ms() - f->asked_ms, had = atomic_load(&c->slowest_ms);
    while (had < took_ms && !atomic_compare_exchange_weak(&c->slowest_ms, &had, took_ms))
        ;
    atomic_fetch_add(&c->reads, 1);
    if (code != DUET_OK && code != DUET_NOTFOUND)
        atomic_fetch_add(&c->unanswered, 1);
    else if (!right(result, f->entry))
        atomic_fetch_add(&c->wrong, 1);
    free(f);
}

static void read_one(struct duet_client *duet, struct counts *c, const struct listing_entry *e)
{
    struct duet_operation op = {.kind = DUET_GET};
    struct flight *f = malloc(sizeof *f);
    ENSURE(f != NULL);
    *f = (struct flight){c, e, clock_now_ms()};
    op.key = duet_bytes(e->key.data, e->key.size);
    if (duet_submit(duet, &op, heard, f, NULL) == DUET_OK)
        return;
    atomic_fetch_add(&c->unanswered, 1);
    free(f);
}

static void *watch(void *arg)
{
    struct counts *c = arg;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char line[64];
    while (poll(&input, 1, 100) == 0 || read(STDIN_FILENO, line, sizeof line) > 0) {
        printf("at %" PRIu64 "\n", atomic_load(&c->reads));
        fflush(stdout);
    }
    atomic_store(&c->stopping, true);
    return NULL;
}

static void read_all(struct duet_client *duet, struct counts *c, const struct listing *l,
                     uint64_t rate)
{
    uint64_t began_ms = clock_now_ms(), asked = 0;
    do {
        for (size_t i = 0; i < l->count; i++) {
            while (++asked > (clock_now_ms() - began_ms + 1) * rate / 1000)
                asked--, usleep(1000);
            read_one(duet, c, &l->entries[i]);
        }
    } while (!atomic_load(&c->stopping));
}

static struct duet_client *open_client(const char *routers, const char *window)
{
    struct duet_error error = {.message = "out of memory"};
    struct duet_options *o = duet_options_new();
    struct duet_client *duet = NULL;
    if (o != NULL && duet_options_set(o, "routers", routers, &error) == DUET_OK &&
        duet_options_set(o, "window", window, &error) == DUET_OK)
        duet = duet_open(o, &error);
    duet_options_free(&o);
    if (duet == NULL)
        printf("reread: %s\n", error.message);
    return duet;
}

int main(int argc, char **argv)
{
    struct counts c = {0};
    struct listing l;
    pthread_t watcher;
    const char *window = argc > 3 ? argv[3] : "32";
    uint64_t rate = argc > 4 ? strtoull(argv[4], NULL, 10) : 20000;
    if (argc < 3 || rate == 0 || !listing_read(&l, argv[2])) {
        printf("reread: ROUTERS LISTING [WINDOW [RATE]]\n");
        return 2;
    }
    struct duet_client *duet = open_client(argv[1], window);
    if (duet == NULL)
        return 3;
    ENSURE(pthread_create(&watcher, NULL, watch, &c) == 0);
    read_all(duet, &c, &l, rate);
    duet_drain(duet, 60000, NULL);
    duet_close(&duet);
    pthread_join(watcher, NULL);
    bool good = atomic_load(&c.wrong) == 0 && atomic_load(&c.unanswered) == 0;
    printf("%" PRIu64 " reads of %zu keys, slowest %" PRIu64 " ms, %" PRIu64
           " without answer, %" PRIu64 " wrong\n",
           atomic_load(&c.reads), l.count, atomic_load(&c.slowest_ms), atomic_load(&c.unanswered),
           atomic_load(&c.wrong));
    listing_fini(&l);
    return good ? 0 : 1;
}
