/* load: clients that read and write through the routers while others break things, and judge what
 * they heard.
 *
 *   load --routers tcp://127.0.0.1:7400,tcp://127.0.0.1:7401 [--clients 8] [--operations 40000]
 *        [--rate 4000] [--pauses 1] [--until-stop] [--final FILE] ...
 *
 * Prints a line "at OPERATIONS READS WRITES" ten times a second, so that whoever drives it knows
 * where it stands; with --until-stop it goes on until a line (or the end) comes on stdin, and then
 * until it has made --operations. Then it asks what became of the writes in doubt, reads every key,
 * and judges: see ledger.h. Exit code 0 when all of it is as promised.
 */
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "tests/process/ledger.h"

#define CLIENTS_MAX     64
#define ROUTERS_MAX     16
#define KEYS_ACTIVE     96 /* keys in use at a time; they move on, so that histories stay short */
#define KEY_OPERATIONS  50 /* a key's operations, in the mean */
#define BURST_MAX       64
#define DOUBT_TRIES_MAX 8
#define DOUBT_ASK_MS    10000
#define OPEN_MAX        256 /* an id can be asked for while it is in the window of 512 */
#define SETTLE_MS       120000
#define READ_BURST      8
#define READ_PAUSE_MS   8
#define BATCH_MAX       4
#define TAGS_PAUSE_MS   5
#define EXPIRY_AHEAD_MS 86400000u

struct settings {
    const char *routers, *prefix, *final;
    uint32_t clients, readers, window, timeout_ms, key_operations;
    uint32_t pauses; /* readers, and the client for hash tags, pause so many times as long */
    uint64_t operations, rate, seed;
    bool until_stop;
};

/* One client and the thread that feeds it. Its operations are numbered as they are submitted; those
 * that are open, or in doubt and not settled, are marked in a ring. */
struct loader {
    struct run *run;
    uint32_t index;
    struct duet_client *duet;
    pthread_t thread;
    uint64_t random;

    pthread_mutex_t lock;
    bool open[OPEN_MAX];
    uint64_t submitted, open_lowest;
    struct flight *doubts; /* to be asked for */
};

struct run {
    struct settings settings;
    struct ledger ledger;
    struct loader loaders[CLIENTS_MAX + 1];
    atomic_bool stopping;
    atomic_uint_fast64_t doubts_unsettled;
    atomic_uint_fast64_t batches, pages; /* that were done */
    uint32_t passed, failed;

    /* Of the last reads. */
    FILE *final; /* the listing, or NULL */
    uint64_t final_until_ms;
    atomic_uint_fast32_t unread;
};

/* Context of one operation on its way, and of the question for its outcome. */
struct flight {
    struct loader *loader;
    struct ledger_item *item;
    uint64_t number, question; /* its own, and that of the question */
    uint32_t tries;
    struct flight *next;
};

static uint64_t draw(struct loader *c)
{
    /* xorshift64* */
    c->random ^= c->random >> 12;
    c->random ^= c->random << 25;
    c->random ^= c->random >> 27;
    return c->random * 0x2545f4914f6cdd1du;
}

static bool chance(struct loader *c, uint32_t percent)
{
    return draw(c) % 100 < percent;
}

/* ------------------------------------------------------------------ what to ask */

static struct checker_value value_fresh(struct loader *c, bool number)
{
    uint64_t n = atomic_fetch_add(&c->run->ledger.value_drawn, 1) + 1;
    return (struct checker_value){.present = true, .number = number, .n = (int64_t)n};
}

/* A condition made of what was seen last; it often holds. */
static void condition_choose(struct loader *c, uint32_t key, struct checker_operation *op)
{
    struct ledger_glimpse seen;
    ledger_glimpse(&c->run->ledger, key, &seen);
    if (!seen.value.present) {
        op->precondition = PRECONDITION_ABSENT;
    } else if (chance(c, 40)) {
        op->precondition = PRECONDITION_VERSION;
        op->expected = seen.version;
    } else if (chance(c, 60)) {
        op->precondition = PRECONDITION_VALUE;
        op->expected_value = seen.value;
    } else {
        op->precondition = chance(c, 50) ? PRECONDITION_PRESENT : PRECONDITION_ABSENT;
    }
}

static void increment_choose(struct loader *c, struct checker_operation *op)
{
    op->mutation = MUTATION_INCREMENT;
    op->delta = 1 + (int64_t)(draw(c) % 5);
    op->want = WANT_NEW;
}

/* So far ahead that no key goes by it while the load runs; the simulator lets keys go. */
static void expiry_choose(struct loader *c, struct checker_operation *op)
{
    if (chance(c, 20))
        return;
    if (chance(c, 50)) {
        op->expiry = EXPIRY_SOME;
        op->ttl_ms = EXPIRY_AHEAD_MS + draw(c) % EXPIRY_AHEAD_MS;
    } else {
        op->expiry = (int64_t)(clock_wall_ms() + EXPIRY_AHEAD_MS + draw(c) % EXPIRY_AHEAD_MS);
    }
}

/* What a change of a part brings; small, so that answers fit the completion records. */
static void part_choose(struct loader *c, struct checker_operation *op)
{
    static const enum mutation mutations[] = {MUTATION_APPEND, MUTATION_SET_RANGE,
                                              MUTATION_INCREMENT_DECIMAL};
    char text[32];
    uint64_t n = draw(c) % 1000;
    op->mutation = mutations[draw(c) % 3];
    if (op->mutation == MUTATION_INCREMENT_DECIMAL)
        snprintf(text, sizeof text, "%s%" PRIu64 ".%02" PRIu64, n & 1 ? "-" : "", n / 100, n % 100);
    else
        snprintf(text, sizeof text, "%s%" PRIu64, n & 1 ? "" : "R", n / 10);
    op->offset = op->mutation == MUTATION_SET_RANGE ? draw(c) % 30 : 0;
    op->value = ledger_part(&c->run->ledger, text);
}

static void parts_choose(struct loader *c, uint32_t key, struct checker_operation *op)
{
    uint64_t what = draw(c) % 100;
    op->want = (enum want)(draw(c) % 3);
    if (what < 45) {
        part_choose(c, op);
    } else if (what < 60) {
        op->mutation = MUTATION_SET_EXPIRY;
        expiry_choose(c, op);
    } else if (what < 70) {
        op->mutation = MUTATION_DELETE;
    } else if (what < 80) {
        increment_choose(c, op);
    } else {
        op->mutation = chance(c, 25) ? MUTATION_PUT_KEEP_EXPIRY : MUTATION_PUT;
        op->value = value_fresh(c, chance(c, 60));
        if (op->mutation == MUTATION_PUT && chance(c, 40))
            expiry_choose(c, op);
    }
    if (chance(c, 25))
        condition_choose(c, key, op);
    else if (chance(c, 10))
        op->precondition = chance(c, 50) ? PRECONDITION_EXPIRY_NONE : PRECONDITION_EXPIRY_SET;
}

static void change_choose(struct loader *c, uint32_t key, bool numbers,
                          struct checker_operation *op)
{
    if (chance(c, 12)) {
        op->mutation = MUTATION_DELETE;
        return;
    }
    op->mutation = MUTATION_PUT;
    op->value = value_fresh(c, numbers && chance(c, 70));
    if (chance(c, 50))
        condition_choose(c, key, op);
}

static struct checker_operation operation_choose(struct loader *c, uint32_t key)
{
    struct checker_operation op = {.session = c->index + 1};
    enum ledger_key_kind kind = ledger_key_kind(key);
    op.read = chance(c, 35);
    op.of_expiry = op.read && kind == LEDGER_PARTS && chance(c, 30);
    if (op.read)
        return op;
    if (kind == LEDGER_PARTS)
        parts_choose(c, key, &op);
    else if (kind == LEDGER_COUNTER || (kind == LEDGER_MIXED && chance(c, 40)))
        increment_choose(c, &op);
    else if (kind == LEDGER_MIXED && chance(c, 10))
        condition_choose(c, key, &op); /* no mutation: a check */
    else
        change_choose(c, key, kind == LEDGER_MIXED, &op);
    return op;
}

/* ------------------------------------------------------------------ asking */

static enum duet_kind kind_of(const struct checker_operation *op)
{
    if (op->read)
        return op->of_expiry ? DUET_GET_EXPIRY : DUET_GET;
    switch (op->mutation) {
    case MUTATION_NONE:
        return DUET_CHECK;
    case MUTATION_PUT:
    case MUTATION_PUT_KEEP_EXPIRY:
        return DUET_PUT;
    case MUTATION_DELETE:
        return DUET_DEL;
    case MUTATION_INCREMENT:
        return DUET_INCR;
    case MUTATION_INCREMENT_DECIMAL:
        return DUET_ADD;
    case MUTATION_APPEND:
        return DUET_APPEND;
    case MUTATION_SET_RANGE:
        return DUET_SET_RANGE;
    case MUTATION_SET_EXPIRY:
        return DUET_EXPIRE;
    }
    ENSURE_UNREACHABLE();
}

static uint64_t number_take(struct loader *c)
{
    pthread_mutex_lock(&c->lock);
    uint64_t taken = c->submitted++;
    c->open[taken % OPEN_MAX] = true;
    pthread_mutex_unlock(&c->lock);
    return taken;
}

static void number_close(struct loader *c, uint64_t closed)
{
    pthread_mutex_lock(&c->lock);
    c->open[closed % OPEN_MAX] = false;
    while (c->open_lowest < c->submitted && !c->open[c->open_lowest % OPEN_MAX])
        c->open_lowest++;
    pthread_mutex_unlock(&c->lock);
}

/* Numbers that may be taken; questions for outcomes need some, too. */
static uint32_t numbers_left(struct loader *c)
{
    pthread_mutex_lock(&c->lock);
    uint32_t used = (uint32_t)(c->submitted - c->open_lowest);
    pthread_mutex_unlock(&c->lock);
    return used < OPEN_MAX ? OPEN_MAX - used : 0;
}

static void heard(const struct duet_result *result, void *user)
{
    struct flight *f = user;
    struct loader *c = f->loader;
    ledger_hear(&c->run->ledger, f->item, result);
    if (!f->item->doubted) {
        number_close(c, f->number);
        free(f);
        return;
    }
    pthread_mutex_lock(&c->lock);
    f->next = c->doubts;
    c->doubts = f;
    pthread_mutex_unlock(&c->lock);
}

/* An operation as it is asked, and what is behind its slices. */
struct asked {
    struct duet_operation o;
    char key[LEDGER_KEY_SIZE], *value, *expected;
};

static void asked_make(struct loader *c, const struct ledger_item *item, struct asked *a)
{
    struct ledger *l = &c->run->ledger;
    const struct checker_operation *op = &item->op;
    *a = (struct asked){.o = {.kind = kind_of(op), .delta = op->delta, .offset = op->offset}};
    struct duet_operation *o = &a->o;
    o->key = duet_bytes(a->key, ledger_key(l, item->key, a->key));
    o->want = (enum duet_want)op->want;
    o->ttl_ms = op->expiry == EXPIRY_SOME ? op->ttl_ms : 0;
    o->expiry_ms = op->expiry > 0 ? (uint64_t)op->expiry : 0;
    o->keep_expiry = op->mutation == MUTATION_PUT_KEEP_EXPIRY;
    o->condition.when = (enum duet_when)op->precondition;
    o->condition.version = (struct duet_version){op->expected.epoch, op->expected.seq};
    if (op->value.present)
        o->value.data = a->value = ledger_value(l, item->key, op->value, &o->value.size);
    if (op->expected_value.present)
        o->condition.value.data = a->expected =
            ledger_value(l, item->key, op->expected_value, &o->condition.value.size);
}

static void asked_free(struct asked *a)
{
    free(a->value);
    free(a->expected);
}

static void submit(struct loader *c, struct ledger_item *item)
{
    struct asked a;
    struct flight *f = malloc(sizeof *f);
    ENSURE(f != NULL);
    *f = (struct flight){.loader = c, .item = item, .number = number_take(c)};
    asked_make(c, item, &a);
    if (duet_submit(c->duet, &a.o, heard, f, NULL) != DUET_OK) {
        ledger_refuse(&c->run->ledger, item);
        number_close(c, f->number);
        free(f);
    }
    asked_free(&a);
}

/* ------------------------------------------------------------------ doubts */

static void doubt_end(struct flight *f, bool settled)
{
    if (!settled)
        atomic_fetch_add(&f->loader->run->doubts_unsettled, 1);
    number_close(f->loader, f->number);
    free(f);
}

static void doubt_heard(const struct duet_result *result, void *user)
{
    struct flight *f = user;
    struct loader *c = f->loader;
    number_close(c, f->question);
    bool settled = ledger_settle(&c->run->ledger, f->item, result);
    enum duet_code code = duet_result_code(result);
    if (settled || ++f->tries == DOUBT_TRIES_MAX || code == DUET_STALE || code == DUET_TOOOLD) {
        if (!settled)
            fprintf(stderr,
                    "unsettled: asked %u times what became of write %" PRIu64 ", number "
                    "%" PRIu64 " of a client that is at %" PRIu64 ": %s\n",
                    f->tries, f->item->id.seq, f->number, f->question, duet_code_name(code));
        doubt_end(f, settled);
        return;
    }
    pthread_mutex_lock(&c->lock);
    f->next = c->doubts;
    c->doubts = f;
    pthread_mutex_unlock(&c->lock);
}

static void doubts_ask(struct loader *c)
{
    char key[LEDGER_KEY_SIZE];
    pthread_mutex_lock(&c->lock);
    struct flight *f = c->doubts, *next;
    c->doubts = NULL;
    pthread_mutex_unlock(&c->lock);
    for (; f != NULL; f = next) {
        struct duet_operation o = {
            .kind = DUET_OUTCOME, .id = f->item->id, .timeout_ms = DOUBT_ASK_MS};
        next = f->next;
        o.key = duet_bytes(key, ledger_key(&c->run->ledger, f->item->key, key));
        f->question = number_take(c);
        if (duet_submit(c->duet, &o, doubt_heard, f, NULL) == DUET_OK)
            continue;
        number_close(c, f->question);
        doubt_end(f, false);
    }
}

static void settle_all(struct loader *c)
{
    uint64_t until_ms = clock_now_ms() + SETTLE_MS;
    while (duet_drain(c->duet, SETTLE_MS, NULL) == DUET_OK && numbers_left(c) < OPEN_MAX &&
           clock_now_ms() < until_ms)
        doubts_ask(c);
}

/* ------------------------------------------------------------------ loading */

static void sleep_until(uint64_t when_ms)
{
    uint64_t now = clock_now_ms();
    if (when_ms <= now)
        return;
    struct timespec t = {(time_t)((when_ms - now) / 1000),
                         (long)((when_ms - now) % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static bool enough(const struct run *run)
{
    return atomic_load(&run->ledger.items_count) >= run->settings.operations &&
           atomic_load(&run->stopping);
}

/* One of the keys in use. */
static uint32_t key_choose(struct loader *c)
{
    size_t at = atomic_load(&c->run->ledger.items_count);
    return LEDGER_STILL_KEYS +
           (uint32_t)(at / c->run->settings.key_operations + draw(c) % KEYS_ACTIVE);
}

/* False: the ledger is full. */
static bool burst(struct loader *c, uint32_t count)
{
    struct ledger *l = &c->run->ledger;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = key_choose(c);
        struct checker_operation op = operation_choose(c, key);
        struct ledger_item *item = ledger_ask(l, key, &op);
        if (item == NULL)
            return false;
        submit(c, item);
    }
    return true;
}

/* In bursts, so that much is in flight whenever something breaks, at the rate asked for; time lost
 * while operations hang is not made up for. */
static void *feed(void *arg)
{
    struct loader *c = arg;
    const struct settings *s = &c->run->settings;
    uint64_t due_ms = clock_now_ms();
    while (!enough(c->run)) {
        doubts_ask(c);
        if (numbers_left(c) < 2 * BURST_MAX) {
            sleep_until(clock_now_ms() + 2);
            continue;
        }
        uint32_t count = 1 + (uint32_t)(draw(c) % BURST_MAX);
        if (!burst(c, count))
            break;
        uint64_t now = clock_now_ms();
        due_ms = (due_ms < now ? now : due_ms) + count * 1000 * s->clients / s->rate;
        sleep_until(due_ms);
    }
    settle_all(c);
    return NULL;
}

/* Where nothing was changed, those that did not fail were checks. */
static void batch_hear(struct loader *c, struct ledger_item *item, enum duet_code all,
                       struct duet_result *part)
{
    if (part == NULL) {
        item->ended = true; /* not even taken */
        ledger_refuse(&c->run->ledger, item);
        return;
    }
    if (all != DUET_OK && duet_result_code(part) == DUET_OK) {
        item->op.mutation = MUTATION_NONE;
        item->op.delta = 0;
    }
    ledger_hear(&c->run->ledger, item, part);
    duet_result_free(&part);
}

/* Several keys of a hash tag at once. */
static bool batch(struct loader *c, const uint32_t *tag)
{
    struct ledger_item *items[BATCH_MAX];
    struct asked asked[BATCH_MAX];
    struct duet_operation ops[BATCH_MAX];
    struct duet_result *parts[BATCH_MAX];
    size_t count = 0;
    for (uint32_t i = (uint32_t)(draw(c) % 3); i < LEDGER_TAG_KEYS && count < BATCH_MAX;
         i += 1 + (uint32_t)(draw(c) % 3)) {
        struct checker_operation op = {.read = true};
        while (op.read)
            op = operation_choose(c, tag[i]);
        op.want = WANT_NOTHING;
        op.session = 0;
        items[count] = ledger_ask(&c->run->ledger, tag[i], &op);
        if (items[count] == NULL)
            break;
        asked_make(c, items[count], &asked[count]);
        ops[count] = asked[count].o;
        count++;
    }
    enum duet_code code = duet_atomic(c->duet, ops, count, parts, NULL);
    atomic_fetch_add(&c->run->batches, code == DUET_OK);
    for (size_t i = 0; i < count; i++) {
        batch_hear(c, items[i], code, parts[i]);
        asked_free(&asked[i]);
    }
    return count > 0;
}

/* The item of the row's key; NULL: it is none of them. */
static struct ledger_item *item_of_row(struct loader *c, struct ledger_item **items,
                                       struct duet_slice row)
{
    char key[LEDGER_KEY_SIZE];
    for (uint32_t i = 0; i < LEDGER_TAG_KEYS; i++) {
        size_t size = ledger_key(&c->run->ledger, items[i]->key, key);
        if (size == row.size && memcmp(key, row.data, size) == 0)
            return items[i];
    }
    return NULL;
}

/* A page of a hash tag is a read of each of its keys; what it does not show is not there. */
static bool page(struct loader *c, const uint32_t *tag)
{
    struct ledger *l = &c->run->ledger;
    struct ledger_item *items[LEDGER_TAG_KEYS];
    struct checker_operation op = {.read = true};
    char key[LEDGER_KEY_SIZE];
    for (uint32_t i = 0; i < LEDGER_TAG_KEYS; i++)
        if ((items[i] = ledger_ask(l, tag[i], &op)) == NULL)
            return false;
    struct duet_range range = {.tag = duet_bytes(key, ledger_key(l, tag[0], key))};
    struct duet_scan *scan = duet_range_open(c->duet, &range, NULL);
    struct duet_slice name, value;
    struct duet_version version;
    enum duet_code code;
    while ((code = duet_scan_next(scan, &name, &value, &version, NULL)) == DUET_OK) {
        struct ledger_item *item = item_of_row(c, items, name);
        if (item != NULL)
            ledger_see(l, item, &version, value);
    }
    for (uint32_t i = 0; i < LEDGER_TAG_KEYS; i++) {
        if (!items[i]->ended && code == DUET_NOTFOUND)
            ledger_see(l, items[i], NULL, duet_text(""));
        else if (!items[i]->ended)
            ledger_refuse(l, items[i]);
    }
    duet_scan_close(&scan);
    atomic_fetch_add(&c->run->pages, code == DUET_NOTFOUND);
    return true;
}

/* A client of its own for what is done to several keys of one hash tag at once. */
static void *tags(void *arg)
{
    struct loader *c = arg;
    bool room = true;
    while (room && !enough(c->run)) {
        uint32_t tag[LEDGER_TAG_KEYS];
        ledger_tag(key_choose(c), tag);
        if (tag[0] >= LEDGER_STILL_KEYS)
            room = chance(c, 70) ? batch(c, tag) : page(c, tag);
        sleep_until(clock_now_ms() + c->run->settings.pauses * TAGS_PAUSE_MS);
    }
    return NULL;
}

/* A client of its own for keys that nobody changes: their reads must go on whatever breaks. */
static void *read_still(void *arg)
{
    struct loader *c = arg;
    const struct checker_operation op = {.read = true, .session = c->index + 1};
    while (!enough(c->run)) {
        for (uint32_t i = 0; i < READ_BURST && numbers_left(c) > 0; i++) {
            uint32_t key = (uint32_t)(draw(c) % LEDGER_STILL_KEYS);
            struct ledger_item *item = ledger_ask(&c->run->ledger, key, &op);
            if (item == NULL)
                break;
            submit(c, item);
        }
        sleep_until(clock_now_ms() + c->run->settings.pauses * READ_PAUSE_MS);
    }
    settle_all(c);
    return NULL;
}

static bool write_still(struct run *run)
{
    struct loader *c = &run->loaders[0];
    for (uint32_t key = 0; key < LEDGER_STILL_KEYS; key++) {
        struct checker_operation op = {.mutation = MUTATION_PUT, .value = value_fresh(c, false)};
        while (numbers_left(c) == 0)
            sleep_until(clock_now_ms() + 1);
        submit(c, ledger_ask(&run->ledger, key, &op));
    }
    return duet_drain(c->duet, SETTLE_MS, NULL) == DUET_OK &&
           atomic_load(&run->ledger.writes_done) == LEDGER_STILL_KEYS;
}

/* ------------------------------------------------------------------ starting and stopping */

/* The list of routers, beginning with another one for each client. */
static void routers_rotate(const char *list, uint32_t by, char *to, size_t size)
{
    char copy[2048], *save = NULL, *names[ROUTERS_MAX];
    uint32_t count = 0;
    snprintf(copy, sizeof copy, "%s", list);
    for (char *name = strtok_r(copy, ",", &save); name != NULL && count < ROUTERS_MAX;
         name = strtok_r(NULL, ",", &save))
        names[count++] = name;
    ENSURE(count > 0);
    size_t used = 0;
    for (uint32_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(to + used, size - used, "%s%s", i == 0 ? "" : ",",
                                 names[(i + by) % count]);
}

static bool loader_open(struct loader *c, struct run *run, uint32_t index)
{
    char routers[2048], number[32];
    struct duet_error error = {.message = "out of memory"};
    struct duet_options *o = duet_options_new();
    *c = (struct loader){.run = run, .index = index};
    c->random = (run->settings.seed + index + 1) * 0x9e3779b97f4a7c15u;
    pthread_mutex_init(&c->lock, NULL);
    routers_rotate(run->settings.routers, index, routers, sizeof routers);
    bool good = o != NULL && duet_options_set(o, "routers", routers, &error) == DUET_OK;
    snprintf(number, sizeof number, "%u", run->settings.window);
    good = good && duet_options_set(o, "window", number, &error) == DUET_OK;
    snprintf(number, sizeof number, "%u", run->settings.timeout_ms);
    good = good && duet_options_set(o, "timeout_ms", number, &error) == DUET_OK;
    c->duet = good ? duet_open(o, &error) : NULL;
    duet_options_free(&o);
    if (c->duet == NULL)
        fprintf(stderr, "load: %s\n", error.message);
    return c->duet != NULL;
}

static void watch_stdin(struct run *run, bool *open)
{
    char line[64];
    struct pollfd input = {.fd = *open ? STDIN_FILENO : -1, .events = POLLIN};
    if (poll(&input, 1, 100) <= 0 || !(input.revents & (POLLIN | POLLHUP)))
        return;
    ssize_t got = read(STDIN_FILENO, line, sizeof line);
    *open = got > 0;
    atomic_store(&run->stopping, true);
}

static void drive(struct run *run)
{
    struct ledger *l = &run->ledger;
    bool open = run->settings.until_stop;
    atomic_store(&run->stopping, !run->settings.until_stop);
    while (!enough(run)) {
        watch_stdin(run, &open);
        printf("at %zu %" PRIu64 " %" PRIu64 "\n", atomic_load(&l->items_count),
               atomic_load(&l->reads_done), atomic_load(&l->writes_done));
        fflush(stdout);
    }
}

static uint32_t loaders_count(const struct run *run)
{
    return run->settings.clients + run->settings.readers + 1; /* that of tags() */
}

static void load(struct run *run)
{
    for (uint32_t i = 0; i < loaders_count(run); i++)
        ENSURE(pthread_create(&run->loaders[i].thread, NULL,
                              i < run->settings.clients    ? feed
                              : i + 1 < loaders_count(run) ? read_still
                                                           : tags,
                              &run->loaders[i]) == 0);
    drive(run);
    printf("at the end: asking for what is in doubt\n");
    fflush(stdout);
    for (uint32_t i = 0; i < loaders_count(run); i++)
        pthread_join(run->loaders[i].thread, NULL);
}

/* ------------------------------------------------------------------ the last reads */

static void hex(FILE *to, struct duet_slice text)
{
    for (size_t i = 0; i < text.size; i++)
        fprintf(to, "%02x", ((const unsigned char *)text.data)[i]);
}

static void final_note(FILE *to, struct duet_slice key, const struct duet_result *result)
{
    struct duet_version version = duet_result_version(result);
    bool present = duet_result_code(result) == DUET_OK;
    flockfile(to);
    hex(to, key);
    fprintf(to, "\t%" PRIu64 "\t%" PRIu64 "\t", present ? version.epoch : 0,
            present ? version.seq : 0);
    if (present)
        hex(to, duet_result_value(result));
    fprintf(to, "%s\n", present ? "" : "-");
    funlockfile(to);
}

/* Read one key until it is answered; part of its history, as any other read. */
static bool final_read(struct loader *c, uint32_t key)
{
    struct run *run = c->run;
    char name[LEDGER_KEY_SIZE];
    struct checker_operation op = {.read = true};
    struct duet_slice text = duet_bytes(name, ledger_key(&run->ledger, key, name));
    bool done = false;
    while (!done && clock_now_ms() < run->final_until_ms) {
        struct duet_result *result = NULL;
        struct ledger_item *item = ledger_ask(&run->ledger, key, &op);
        ENSURE(item != NULL);
        duet_get(c->duet, text, &result, NULL);
        if (result == NULL)
            ledger_refuse(&run->ledger, item);
        else
            ledger_hear(&run->ledger, item, result);
        done = item->op.outcome == CHECKER_DONE;
        if (done && run->final != NULL)
            final_note(run->final, text, result);
        duet_result_free(&result);
    }
    return done;
}

/* Every loader reads its share of the keys, one after the other. */
static void *final_share(void *arg)
{
    struct loader *c = arg;
    uint32_t keys = (uint32_t)atomic_load(&c->run->ledger.keys_count);
    for (uint32_t key = c->index; key < keys; key += c->run->settings.clients)
        if (!final_read(c, key))
            atomic_fetch_add(&c->run->unread, 1);
    return NULL;
}

static void final_reads(struct run *run)
{
    if (run->settings.final != NULL)
        ENSURE((run->final = fopen(run->settings.final, "we")) != NULL);
    run->final_until_ms = clock_now_ms() + SETTLE_MS;
    for (uint32_t i = 0; i < run->settings.clients; i++)
        ENSURE(pthread_create(&run->loaders[i].thread, NULL, final_share, &run->loaders[i]) == 0);
    for (uint32_t i = 0; i < run->settings.clients; i++)
        pthread_join(run->loaders[i].thread, NULL);
    if (run->final != NULL)
        fclose(run->final);
}

/* ------------------------------------------------------------------ the report */

static void expect(struct run *run, bool good, const char *what)
{
    printf("%s %s\n", good ? "ok    " : "FAILED", what);
    run->passed += good;
    run->failed += !good;
}

static void print_figures(struct run *run, size_t asked, const struct ledger_verdict *v,
                          uint64_t ms)
{
    struct ledger *l = &run->ledger;
    uint64_t retries = 0, failovers = 0;
    for (uint32_t i = 0; i < loaders_count(run); i++) {
        struct duet_client_info info;
        duet_client_info(run->loaders[i].duet, &info);
        retries += info.retries;
        failovers += info.failovers;
    }
    printf("figures {\"operations\": %zu, \"seconds\": %.1f, \"reads\": %" PRIu64
           ", \"reads_not_done\": %" PRIu64 ", \"writes\": %" PRIu64
           ", \"writes_not_done\": %" PRIu64 ", \"in_doubt\": %" PRIu64
           ", \"settled_done\": %" PRIu64 ", \"settled_aborted\": %" PRIu64
           ", \"unsettled\": %" PRIu64,
           asked, (double)ms / 1000, atomic_load(&l->reads_done), atomic_load(&l->reads_not_done),
           atomic_load(&l->writes_done), atomic_load(&l->writes_not_done),
           atomic_load(&l->writes_doubted), atomic_load(&l->settled_done),
           atomic_load(&l->settled_aborted), atomic_load(&run->doubts_unsettled));
    printf(", \"still_reads\": %" PRIu64 ", \"still_not_done\": %" PRIu64
           ", \"still_ms_max\": %" PRIu64,
           atomic_load(&l->still_done), atomic_load(&l->still_not_done),
           atomic_load(&l->still_ms_max));
    printf(", \"read_gap_ms\": %" PRIu64 ", \"write_gap_ms\": %" PRIu64
           ", \"read_ms_max\": %" PRIu64 ", \"write_ms_max\": %" PRIu64
           ", \"keys\": %zu, \"checker_steps\": %" PRIu64
           ", \"undecided\": %zu, \"retries\": %" PRIu64 ", \"failovers\": %" PRIu64 "}\n",
           atomic_load(&l->read_gap_ms_max), atomic_load(&l->write_gap_ms_max),
           atomic_load(&l->read_ms_max), atomic_load(&l->write_ms_max), v->keys, v->checker_steps,
           v->undecided, retries, failovers);
}

/* Each operation that this load knows was done at least once. */
static bool all_done(const struct ledger *l, size_t asked)
{
    bool done[MUTATION_SET_EXPIRY + 1] = {false}, read_expiry = false;
    for (size_t i = 0; i < asked; i++) {
        const struct checker_operation *op = &l->items[i].op;
        bool good = op->outcome == CHECKER_DONE && op->status == STATUS_OK;
        read_expiry = read_expiry || (good && op->of_expiry);
        done[op->mutation] = done[op->mutation] || (good && !op->read);
    }
    for (unsigned m = MUTATION_NONE; m <= MUTATION_SET_EXPIRY; m++)
        read_expiry = read_expiry && done[m];
    return read_expiry;
}

static void judge(struct run *run, size_t asked, uint64_t ms)
{
    struct ledger *l = &run->ledger;
    struct ledger_verdict v;
    final_reads(run);
    uint64_t doubted = atomic_load(&l->writes_doubted), unended = 0;
    for (size_t i = 0; i < asked; i++)
        unended += !l->items[i].ended;
    ledger_judge(l, &v);
    uint64_t writes = atomic_load(&l->writes_done) + atomic_load(&l->writes_not_done) + doubted;
    print_figures(run, asked, &v, ms);
    expect(run, asked >= run->settings.operations, "as many operations as asked for");
    expect(run, all_done(l, asked) && atomic_load(&run->batches) > 0 && atomic_load(&run->pages) > 0,
           "every operation was among them; batches and pages, too");
    expect(run, unended == 0, "every operation ended, once");
    expect(run, atomic_load(&run->unread) == 0, "every key could be read at the end");
    expect(run, atomic_load(&l->strange) == 0, "no value that nobody wrote, no odd answer");
    expect(run, v.broken == 0, "every key's history is linearizable");
    expect(run, v.undecided * 100 <= v.keys, "the checker came to an end with 99 % of the keys");
    expect(run, v.counters > 0 && v.counters_wrong == 0, "every increment counted exactly once");
    expect(run, doubted * 20 <= writes, "at most 5 % of the writes were in doubt");
    expect(run, atomic_load(&run->doubts_unsettled) == 0, "every doubt was settled afterwards");
}

/* ------------------------------------------------------------------ main */

static const struct option flags[] = {{"routers", 1, NULL, 'r'},
                                      {"clients", 1, NULL, 'c'},
                                      {"readers", 1, NULL, 'e'},
                                      {"operations", 1, NULL, 'n'},
                                      {"rate", 1, NULL, 'R'},
                                      {"window", 1, NULL, 'w'},
                                      {"key-operations", 1, NULL, 'k'},
                                      {"timeout", 1, NULL, 't'},
                                      {"seed", 1, NULL, 's'},
                                      {"prefix", 1, NULL, 'p'},
                                      {"final", 1, NULL, 'f'},
                                      {"pauses", 1, NULL, 'P'},
                                      {"until-stop", 0, NULL, 'u'},
                                      {NULL, 0, NULL, 0}};

static bool number(const char *text, uint64_t max, uint64_t *ret)
{
    char *end;
    *ret = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *ret > 0 && *ret <= max;
}

static bool setting(struct settings *s, int flag, const char *text)
{
    uint64_t n = 0;
    if (flag == 'r' || flag == 'p' || flag == 'f') {
        *(flag == 'r' ? &s->routers : flag == 'p' ? &s->prefix : &s->final) = text;
        return true;
    }
    if (flag == 'u')
        return s->until_stop = true;
    if (flag == '?' || !number(text, flag == 'c' || flag == 'e' ? CLIENTS_MAX / 2 : 100000000, &n))
        return false;
    if (flag == 'n' || flag == 'R' || flag == 's')
        *(flag == 'n' ? &s->operations : flag == 'R' ? &s->rate : &s->seed) = n;
    else
        *(flag == 'c'   ? &s->clients
          : flag == 'e' ? &s->readers
          : flag == 'w' ? &s->window
          : flag == 'k' ? &s->key_operations
          : flag == 'P' ? &s->pauses
                        : &s->timeout_ms) = (uint32_t)n;
    return true;
}

static bool settings_read(struct settings *s, int argc, char **argv)
{
    *s = (struct settings){.routers = "tcp://127.0.0.1:7400",
                           .prefix = "load",
                           .clients = 8,
                           .readers = 2,
                           .window = 512,
                           .timeout_ms = 5000,
                           .operations = 40000,
                           .rate = 5000,
                           .seed = clock_random64(),
                           .key_operations = KEY_OPERATIONS,
                           .pauses = 1};
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;)
        if (!setting(s, flag, optarg))
            return false;
    return optind == argc;
}

int main(int argc, char **argv)
{
    static struct run run;
    if (!settings_read(&run.settings, argc, argv)) {
        fprintf(stderr, "load: bad options; see the head of tests/process/load.c\n");
        return 2;
    }
    size_t items_max = run.settings.operations * 2 + 6000000;
    ledger_init(&run.ledger, run.settings.prefix, items_max,
                LEDGER_STILL_KEYS + items_max / run.settings.key_operations + KEYS_ACTIVE + 1);
    for (uint32_t i = 0; i < loaders_count(&run); i++)
        if (!loader_open(&run.loaders[i], &run, i))
            return 3;
    printf("seed %" PRIu64 "\n", run.settings.seed);
    if (!write_still(&run)) {
        fprintf(stderr, "load: the first %d keys could not be written\n", LEDGER_STILL_KEYS);
        return 3;
    }
    uint64_t began = clock_now_ms();
    load(&run);
    judge(&run, atomic_load(&run.ledger.items_count), clock_now_ms() - began);
    for (uint32_t i = 0; i < loaders_count(&run); i++)
        duet_close(&run.loaders[i].duet);
    ledger_fini(&run.ledger);
    printf("%u passed, %u failed\n", run.passed, run.failed);
    return run.failed == 0 ? 0 : 1;
}
