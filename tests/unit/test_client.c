#include "client/duet.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/codec.h"
#include "proto/limits.h"
#include "proto/link.h"
#include "storage/mutate.h"

/* A router in a thread, over real sockets, that keeps a few keys itself. */
#define KEYS_MAX  64
#define PAGE_KEYS 3

#define FAKE_NOW_MS 1000000u /* its clock stands still */

struct stored {
    char key[32], value[64];
    size_t key_size, value_size;
    uint64_t seq, expiry_ms;
};

struct fake {
    struct link_context *context;
    struct link *link;
    char address[64];
    pthread_t thread;
    atomic_bool stopping;
    atomic_bool silent;   /* says nothing at all */
    atomic_bool holding;  /* answers everything but requests */
    atomic_uint refusals; /* so many operations are refused first */
    atomic_uint requests, operations;

    struct stored entries[KEYS_MAX];
    size_t entries_count;
    uint64_t seq;
    struct arena arena;
    struct buffer out, page;
};

static struct stored *entry_of(struct fake *f, struct bytes key)
{
    for (size_t i = 0; i < f->entries_count; i++)
        if (bytes_equal(bytes_of(f->entries[i].key, f->entries[i].key_size), key))
            return &f->entries[i];
    return NULL;
}

static struct bytes value_of(const struct stored *e)
{
    return bytes_of(e->value, e->value_size);
}

struct outcome {
    enum status status;
    uint32_t flags;
    uint64_t seq;
    struct bytes value;
};

static struct stored *set(struct fake *f, struct bytes key, struct bytes value)
{
    struct stored *e = entry_of(f, key);
    if (e == NULL) {
        assert_true(f->entries_count < KEYS_MAX && key.size < sizeof e->key);
        e = &f->entries[f->entries_count++];
        memcpy(e->key, key.data, key.size);
        e->key_size = key.size;
    }
    assert_true(value.size < sizeof e->value);
    memset(e->value, 0, sizeof e->value);
    if (value.size > 0)
        memcpy(e->value, value.data, value.size);
    e->value_size = value.size;
    e->seq = ++f->seq;
    return e;
}

static struct outcome write_one(struct fake *f, struct bytes key, struct bytes part)
{
    struct write w;
    if (codec_unpack_write(part, &f->arena, &w) != STATUS_OK)
        return (struct outcome){.status = STATUS_MALFORMED};
    struct stored *e = entry_of(f, key);
    struct item current = {.present = e != NULL,
                           .version = {e != NULL, e != NULL ? e->seq : 0},
                           .expiry_ms = e != NULL ? e->expiry_ms : 0,
                           .value = e != NULL ? value_of(e) : BYTES_EMPTY};
    struct mutate_work work;
    struct mutate_outcome m;
    mutate_work_init(&work, sizeof e->value, FAKE_NOW_MS);
    mutate(&w, &current, &work, &m);
    struct outcome outcome = {m.status, 2u << ANSWER_COPIES_SHIFT, 0, BYTES_EMPTY};
    buffer_clear(&f->page);
    if (m.has_result) {
        assert_int_equal(buffer_append(&f->page, m.result), STATUS_OK);
        outcome.flags |= ANSWER_VALUE;
        outcome.value = buffer_view(&f->page);
    }
    if (m.has_effect && m.effect.kind == EFFECT_PUT)
        set(f, key, m.effect.value)->expiry_ms = m.effect.expiry_ms;
    else if (m.has_effect)
        *e = f->entries[--f->entries_count];
    outcome.seq = m.has_effect && m.effect.kind == EFFECT_PUT ? f->seq : ++f->seq;
    mutate_work_fini(&work);
    return outcome;
}

/* The cursor is the number of keys seen, in one octet. */
static struct outcome scan_one(struct fake *f, struct bytes cursor, struct bytes part)
{
    struct scan_query q;
    assert_int_equal(codec_unpack_scan_query(part, &f->arena, &q), STATUS_OK);
    size_t from = cursor.size == 0 ? 0 : cursor.data[0], count = 0;
    struct bytes keys[PAGE_KEYS], values[PAGE_KEYS];
    uint64_t epochs[PAGE_KEYS], seqs[PAGE_KEYS];
    for (; from + count < f->entries_count && count < PAGE_KEYS; count++) {
        struct stored *e = &f->entries[from + count];
        keys[count] = bytes_of(e->key, e->key_size);
        values[count] = value_of(e);
        epochs[count] = 1;
        seqs[count] = e->seq;
    }
    uint8_t next = (uint8_t)(from + count);
    struct scan_page page = {.count = count,
                             .keys = keys,
                             .values = values,
                             .epochs = epochs,
                             .seqs = seqs};
    if (next < f->entries_count)
        page.next = bytes_of(&next, 1);
    if (q.count_only) {
        page.counted = page.count;
        page.count = 0;
    }
    buffer_clear(&f->page);
    assert_int_equal(codec_pack_scan_page(&page, &f->page), STATUS_OK);
    return (struct outcome){STATUS_OK, ANSWER_VALUE, 0, buffer_view(&f->page)};
}

/* Keys were put in the order of their bytes, and all have one hash tag. */
static struct outcome range_one(struct fake *f, struct bytes part)
{
    struct scan_query q;
    assert_int_equal(codec_unpack_scan_query(part, &f->arena, &q), STATUS_OK);
    struct bytes keys[PAGE_KEYS], values[PAGE_KEYS];
    uint64_t epochs[PAGE_KEYS] = {1, 1, 1}, seqs[PAGE_KEYS];
    struct scan_page page = {.keys = keys, .values = values, .epochs = epochs, .seqs = seqs};
    char next[40];
    for (size_t i = 0; i < f->entries_count; i++) {
        const struct stored *e = &f->entries[i];
        struct bytes key = bytes_of(e->key, e->key_size);
        if (bytes_compare(key, q.from) < 0 ||
            (q.to.size > 0 && bytes_compare(key, q.to) >= 0))
            continue;
        if (page.count + page.counted == PAGE_KEYS) {
            page.next = bytes_of(next, strlen(next) + 1);
            break;
        }
        snprintf(next, sizeof next, "%.*s", (int)e->key_size, e->key);
        if (q.count_only) {
            page.counted++;
            continue;
        }
        keys[page.count] = key;
        values[page.count] = q.keys_only ? BYTES_EMPTY : value_of(e);
        seqs[page.count++] = e->seq;
    }
    buffer_clear(&f->page);
    assert_int_equal(codec_pack_scan_page(&page, &f->page), STATUS_OK);
    return (struct outcome){STATUS_OK, ANSWER_VALUE, 0, buffer_view(&f->page)};
}

/* A batch of which the second one fails when the first one puts "fail". */
static struct outcome atomic_one(struct fake *f, struct bytes part)
{
    struct atomic_batch batch;
    struct write first;
    assert_int_equal(codec_unpack_atomic_batch(part, &f->arena, &batch), STATUS_OK);
    assert_int_equal(batch.count, 2);
    assert_int_equal(codec_unpack_write(batch.operations[0], &f->arena, &first), STATUS_OK);
    bool fails = bytes_equal(first.value, bytes_text("fail"));
    uint32_t statuses[] = {STATUS_OK, fails ? STATUS_CONDITION : STATUS_NOTFOUND};
    uint32_t flags[] = {ANSWER_VALUE, 0};
    struct bytes values[] = {bytes_text("was"), BYTES_EMPTY};
    for (size_t i = 0; i < batch.count && !fails; i++)
        write_one(f, batch.keys[i], batch.operations[i]);
    struct atomic_answer answer = {2, statuses, flags, values, false};
    buffer_clear(&f->page);
    assert_int_equal(codec_pack_atomic_answer(&answer, &f->page), STATUS_OK);
    return (struct outcome){fails ? STATUS_CONDITION : STATUS_OK, ANSWER_VALUE, f->seq,
                            buffer_view(&f->page)};
}

static struct outcome do_one(struct fake *f, uint32_t kind, struct bytes key, struct bytes part)
{
    if (atomic_load(&f->refusals) > 0) {
        atomic_fetch_sub(&f->refusals, 1);
        return (struct outcome){.status = STATUS_BUSY, .flags = ANSWER_RETRY};
    }
    if (kind == KIND_WRITE)
        return write_one(f, key, part);
    if (kind == KIND_SCAN)
        return scan_one(f, key, part);
    if (kind == KIND_RANGE)
        return range_one(f, part);
    if (kind == KIND_ATOMIC)
        return atomic_one(f, part);
    if (kind == KIND_OUTCOME)
        return (struct outcome){.status = STATUS_ABORTED};
    struct stored *e = entry_of(f, key);
    if (e == NULL)
        return (struct outcome){.status = STATUS_NOTFOUND};
    struct read_query what;
    assert_int_equal(codec_unpack_read_query(part, &what), STATUS_OK);
    static const uint32_t says[] = {0, ANSWER_CONFIRMED, ANSWER_ANY};
    if (what.part == READ_VALUE)
        return (struct outcome){STATUS_OK, ANSWER_VALUE | says[what.consistency], e->seq,
                                value_of(e)};
    struct expiry expiry = {e->expiry_ms, e->expiry_ms == 0 ? 0 : e->expiry_ms - FAKE_NOW_MS};
    buffer_clear(&f->page);
    assert_int_equal(codec_pack_expiry(&expiry, &f->page), STATUS_OK);
    return (struct outcome){STATUS_OK, ANSWER_VALUE, e->seq, buffer_view(&f->page)};
}

/* Waits while more answers than ZeroMQ's queue takes are on their way to a client that is slower:
 * dropped ones would be in doubt, which is not what these tests are about. */
static void answer_one(struct fake *f, const struct link_peer *peer, const struct answer *a)
{
    for (;;) {
        assert_int_equal(codec_pack_answer(MESSAGE_ANSWER, a, &f->out), STATUS_OK);
        if (link_send(f->link, peer, &f->out) != STATUS_BUSY || atomic_load(&f->stopping))
            return;
        usleep(200);
    }
}

/* Values point into the entries, so each operation is answered by a message of its own. */
static void on_request(struct fake *f, const struct link_peer *peer, struct bytes frame)
{
    struct request m;
    assert_int_equal(codec_unpack_request(frame, &f->arena, &m), STATUS_OK);
    atomic_fetch_add(&f->requests, 1);
    atomic_fetch_add(&f->operations, (unsigned)m.count);
    for (size_t i = 0; i < m.count; i++) {
        struct outcome o = do_one(f, m.kinds[i], m.keys[i], m.operations[i]);
        uint64_t id = m.first_seq + i, epoch = 1;
        uint32_t status = o.status;
        struct answer a = {m.client_id, 5, 1, &id, &status, &o.flags, &epoch, &o.seq, &o.value};
        answer_one(f, peer, &a);
    }
}

static void on_frame(struct fake *f, const struct link_peer *peer, struct bytes frame)
{
    enum message_kind kind;
    if (atomic_load(&f->silent) || codec_peek(frame, &kind) != STATUS_OK)
        return;
    struct hello hello = {
        .protocol_min = 1, .protocol_max = 1, .role = ROLE_ROUTER, .boot_id = 9, .ptime = 5};
    struct ping pong = {.boot_id = 9, .ptime = 5};
    if (kind == MESSAGE_HELLO) {
        assert_int_equal(codec_pack_hello(MESSAGE_HELLO_REPLY, &hello, &f->out), STATUS_OK);
        link_send(f->link, peer, &f->out);
    } else if (kind == MESSAGE_PING) {
        assert_int_equal(codec_pack_ping(MESSAGE_PONG, &pong, &f->out), STATUS_OK);
        link_send(f->link, peer, &f->out);
    } else if (kind == MESSAGE_REQUEST && !atomic_load(&f->holding)) {
        on_request(f, peer, frame);
    }
}

static void *fake_main(void *arg)
{
    struct fake *f = arg;
    while (!atomic_load(&f->stopping)) {
        struct link_peer peer;
        struct bytes frame;
        bool any = false;
        while (link_recv(f->link, &peer, &frame) == STATUS_OK) {
            on_frame(f, &peer, frame);
            any = true;
        }
        if (!any)
            usleep(200);
    }
    return NULL;
}

static struct fake *fake_new(void)
{
    struct fake *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->context = link_context_new(1, false);
    arena_init(&f->arena);
    buffer_init(&f->out, FRAME_BYTES_MAX);
    buffer_init(&f->page, FRAME_BYTES_MAX);
    for (int i = 0; i < 100 && f->link == NULL; i++) {
        snprintf(f->address, sizeof f->address, "tcp://127.0.0.1:%d",
                 10000 + (int)(clock_random64() % 20000));
        f->link = link_bind(f->context, LINK_ROUTER_CLIENTS, f->address, NULL);
    }
    assert_non_null(f->link);
    assert_int_equal(pthread_create(&f->thread, NULL, fake_main, f), 0);
    return f;
}

static void fake_destroy(struct fake *f)
{
    atomic_store(&f->stopping, true);
    pthread_join(f->thread, NULL);
    link_destroy(&f->link);
    link_context_destroy(&f->context);
    arena_fini(&f->arena);
    buffer_fini(&f->out);
    buffer_fini(&f->page);
    free(f);
}

static struct duet_client *open_to(const char *routers, const char *timeout_ms)
{
    struct duet_error error;
    struct duet_options *options = duet_options_new();
    assert_int_equal(duet_options_set(options, "routers", routers, &error), DUET_OK);
    assert_int_equal(duet_options_set(options, "timeout_ms", timeout_ms, &error), DUET_OK);
    struct duet_client *client = duet_open(options, &error);
    assert_non_null(client);
    duet_options_free(&options);
    return client;
}

static void assert_slice(struct duet_slice slice, const char *text)
{
    assert_int_equal(slice.size, strlen(text));
    assert_memory_equal(slice.data, text, slice.size);
}

/* ---- The cases ---- */

static void test_client__what_was_put_is_got(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    struct duet_result *result;
    assert_int_equal(duet_put(c, duet_text("apple"), duet_text("red"), NULL, &result, &error),
                     DUET_OK);
    assert_int_equal(duet_result_copies(result), 2);
    assert_true(duet_result_version(result).seq == 1);
    assert_true(duet_result_id(result).seq == 1);
    duet_result_free(&result);
    assert_null(result);
    assert_int_equal(duet_get(c, duet_text("apple"), &result, &error), DUET_OK);
    assert_slice(duet_result_value(result), "red");
    assert_string_equal(duet_result_value(result).data, "red"); /* a zero byte stands behind */
    duet_result_free(&result);
    assert_int_equal(duet_get(c, duet_text("pear"), &result, &error), DUET_NOTFOUND);
    assert_false(duet_result_has_value(result));
    assert_string_equal(error.message, "no such key");
    duet_result_free(&result);
    duet_close(&c);
    assert_null(c);
    fake_destroy(f);
}

static void test_client__conditions_increments_and_deletes_work(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    struct duet_result *result;
    struct duet_condition absent = {.when = DUET_IF_ABSENT};
    int64_t sum = 0;
    assert_int_equal(duet_put(c, duet_text("a"), duet_text("1"), &absent, NULL, &error), DUET_OK);
    assert_int_equal(duet_put(c, duet_text("a"), duet_text("2"), &absent, &result, &error),
                     DUET_CONDITION);
    assert_slice(duet_result_value(result), "1");
    duet_result_free(&result);
    assert_int_equal(duet_incr(c, duet_text("a"), -5, &sum, NULL, &error), DUET_OK);
    assert_int_equal(sum, -4);
    assert_int_equal(duet_cas(c, duet_text("a"), duet_text("-4"), duet_text("x"), NULL, &error),
                     DUET_OK);
    assert_int_equal(duet_cas(c, duet_text("a"), duet_text("-4"), duet_text("y"), NULL, &error),
                     DUET_CONDITION);
    assert_int_equal(duet_del(c, duet_text("a"), NULL, NULL, &error), DUET_OK);
    assert_int_equal(duet_del(c, duet_text("a"), NULL, NULL, &error), DUET_NOTFOUND);
    struct duet_id id = {1, 1};
    assert_int_equal(duet_outcome(c, id, duet_text("a"), NULL, &error), DUET_ABORTED);
    duet_close(&c);
    fake_destroy(f);
}

static void assert_value(struct duet_client *c, const char *key, const char *expected)
{
    struct duet_result *result;
    assert_int_equal(duet_get(c, duet_text(key), &result, NULL), DUET_OK);
    assert_slice(duet_result_value(result), expected);
    duet_result_free(&result);
}

static void test_client__parts_of_values_change(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    struct duet_result *result;
    assert_int_equal(duet_append(c, duet_text("a"), duet_text("ab"), NULL, &error), DUET_OK);
    assert_int_equal(duet_append(c, duet_text("a"), duet_text("cd"), NULL, &error), DUET_OK);
    assert_value(c, "a", "abcd");
    assert_int_equal(duet_set_range(c, duet_text("a"), 1, duet_text("X"), NULL, &error), DUET_OK);
    assert_value(c, "a", "aXcd");
    assert_int_equal(duet_set_range(c, duet_text("a"), 5000000, duet_text("X"), NULL, &error),
                     DUET_OVERFLOW);
    assert_int_equal(duet_add(c, duet_text("d"), duet_text("0.1"), NULL, &error), DUET_OK);
    assert_int_equal(duet_add(c, duet_text("d"), duet_text("0.20"), &result, &error), DUET_OK);
    assert_slice(duet_result_value(result), "0.3");
    duet_result_free(&result);
    assert_int_equal(duet_add(c, duet_text("a"), duet_text("1"), NULL, &error), DUET_NOTNUMBER);
    assert_int_equal(duet_get_del(c, duet_text("d"), &result, &error), DUET_OK);
    assert_slice(duet_result_value(result), "0.3");
    duet_result_free(&result);
    assert_int_equal(duet_get_del(c, duet_text("d"), NULL, &error), DUET_NOTFOUND);
    duet_close(&c);
    fake_destroy(f);
}

static void test_client__expiries_are_set_and_read(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    struct duet_expiry expiry;
    struct duet_condition later = {.when = DUET_IF_LATER}, earlier = {.when = DUET_IF_EARLIER};
    struct duet_slice a = duet_text("a");
    assert_int_equal(duet_expire(c, a, 5000, 0, NULL, NULL, &error), DUET_NOTFOUND);
    assert_int_equal(duet_put(c, a, duet_text("1"), NULL, NULL, &error), DUET_OK);
    assert_int_equal(duet_get_expiry(c, a, &expiry, &error), DUET_OK);
    assert_int_equal(expiry.expiry_ms, 0);
    assert_int_equal(duet_expire(c, a, 5000, 0, NULL, NULL, &error), DUET_OK);
    assert_int_equal(duet_get_expiry(c, a, &expiry, &error), DUET_OK);
    assert_int_equal(expiry.expiry_ms, FAKE_NOW_MS + 5000);
    assert_int_equal(expiry.left_ms, 5000);
    assert_int_equal(duet_expire(c, a, 0, FAKE_NOW_MS + 4000, &later, NULL, &error), DUET_CONDITION);
    assert_int_equal(duet_expire(c, a, 0, FAKE_NOW_MS + 4000, &earlier, NULL, &error), DUET_OK);
    struct duet_operation op = {
        .kind = DUET_PUT, .key = a, .value = duet_text("2"), .keep_expiry = true};
    assert_int_equal(duet_execute(c, &op, NULL, &error), DUET_OK);
    assert_int_equal(duet_get_expiry(c, a, &expiry, &error), DUET_OK);
    assert_int_equal(expiry.left_ms, 4000);
    op.ttl_ms = 7;
    assert_int_equal(duet_execute(c, &op, NULL, &error), DUET_USAGE); /* keep, or 7 ms? */
    op.keep_expiry = false;
    assert_int_equal(duet_execute(c, &op, NULL, &error), DUET_OK);
    assert_int_equal(duet_get_expiry(c, a, &expiry, &error), DUET_OK);
    assert_int_equal(expiry.left_ms, 7);
    assert_int_equal(duet_get_expiry(c, duet_text("none"), &expiry, &error), DUET_NOTFOUND);
    duet_close(&c);
    fake_destroy(f);
}

static enum duet_read read_as(struct duet_client *c, enum duet_read how)
{
    struct duet_operation op = {.kind = DUET_GET, .key = duet_text("a"), .read = how};
    struct duet_result *result;
    assert_int_equal(duet_execute(c, &op, &result, NULL), DUET_OK);
    enum duet_read said = duet_result_read(result);
    duet_result_free(&result);
    return said;
}

static void test_client__reads_are_as_the_operation_says_or_else_the_client(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_options *options = duet_options_new();
    assert_int_equal(duet_options_set(options, "routers", f->address, NULL), DUET_OK);
    struct duet_client *usual = duet_open(options, NULL);
    assert_int_equal(duet_options_set(options, "read", "any", NULL), DUET_OK);
    struct duet_client *any = duet_open(options, NULL);
    assert_int_equal(duet_put(usual, duet_text("a"), duet_text("1"), NULL, NULL, NULL), DUET_OK);
    assert_int_equal(read_as(usual, DUET_READ_DEFAULT), DUET_READ_LINEARIZABLE);
    assert_int_equal(read_as(usual, DUET_READ_CONFIRM), DUET_READ_CONFIRM);
    assert_int_equal(read_as(usual, DUET_READ_ANY), DUET_READ_ANY);
    assert_int_equal(read_as(any, DUET_READ_DEFAULT), DUET_READ_ANY);
    assert_int_equal(read_as(any, DUET_READ_LINEARIZABLE), DUET_READ_LINEARIZABLE);
    struct duet_operation op = {.kind = DUET_GET, .key = duet_text("a"), .read = (enum duet_read)4};
    assert_int_equal(duet_execute(any, &op, NULL, NULL), DUET_USAGE);
    duet_close(&usual);
    duet_close(&any);
    duet_options_free(&options);
    fake_destroy(f);
}

static void test_client__any_operation_can_be_waited_for(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    struct duet_result *result;
    struct duet_operation op = {.kind = DUET_PUT,
                                .key = duet_text("a"),
                                .value = duet_text("1"),
                                .want = DUET_WANT_OLD};
    assert_int_equal(duet_execute(c, &op, &result, &error), DUET_OK);
    assert_false(duet_result_has_value(result));
    duet_result_free(&result);
    op.value = duet_text("2");
    assert_int_equal(duet_execute(c, &op, &result, &error), DUET_OK);
    assert_slice(duet_result_value(result), "1");
    duet_result_free(&result);
    op = (struct duet_operation){
        .kind = DUET_APPEND, .key = duet_text("a"), .value = duet_text("3"), .want = DUET_WANT_NEW};
    assert_int_equal(duet_execute(c, &op, &result, &error), DUET_OK);
    assert_slice(duet_result_value(result), "23");
    duet_result_free(&result);
    op.kind = (enum duet_kind)99;
    assert_int_equal(duet_execute(c, &op, NULL, &error), DUET_USAGE);
    duet_close(&c);
    fake_destroy(f);
}

static void test_client__many_keys_come_in_the_order_asked_for(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    struct duet_pair pairs[] = {{duet_text("a"), duet_text("1")},
                                {duet_text("b"), duet_text("2")},
                                {duet_text("c"), duet_text("3")}};
    struct duet_slice keys[] = {duet_text("c"), duet_text("none"), duet_text(""), duet_text("a")};
    struct duet_result *results[4];
    assert_int_equal(duet_mput(c, pairs, 3, results, &error), DUET_OK);
    for (int i = 0; i < 3; i++)
        duet_result_free(&results[i]);
    assert_int_equal(duet_mget(c, keys, 4, results, &error), DUET_USAGE); /* the empty key */
    assert_slice(duet_result_value(results[0]), "3");
    assert_int_equal(duet_result_code(results[1]), DUET_NOTFOUND);
    assert_int_equal(duet_result_code(results[2]), DUET_USAGE);
    assert_slice(duet_result_value(results[3]), "1");
    for (int i = 0; i < 4; i++)
        duet_result_free(&results[i]);
    duet_close(&c);
    fake_destroy(f);
}

static void test_client__a_scan_walks_over_all_pages(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    struct duet_slice key, value;
    char name[16];
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "k%d", i);
        assert_int_equal(duet_put(c, duet_text(name), duet_text(name), NULL, NULL, &error),
                         DUET_OK);
    }
    struct duet_scan *scan = duet_scan_open(c, false, &error);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(duet_scan_next(scan, &key, &value, NULL, &error), DUET_OK);
        snprintf(name, sizeof name, "k%d", i);
        assert_slice(key, name);
        assert_slice(value, name);
    }
    assert_int_equal(duet_scan_next(scan, &key, &value, NULL, &error), DUET_NOTFOUND);
    assert_int_equal(duet_scan_next(scan, NULL, NULL, NULL, NULL), DUET_NOTFOUND);
    duet_scan_close(&scan);
    assert_null(scan);
    duet_close(&c);
    fake_destroy(f);
}

static void put_five(struct duet_client *c)
{
    char name[16];
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "{t}%d", i);
        assert_int_equal(duet_put(c, duet_text(name), duet_text(name), NULL, NULL, NULL), DUET_OK);
    }
}

static void test_client__a_range_goes_through_all_pages_in_order(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    struct duet_slice key, value;
    put_five(c);
    struct duet_range range = {.tag = duet_text("{t}"), .from = duet_text("{t}1")};
    struct duet_scan *scan = duet_range_open(c, &range, &error);
    for (int i = 1; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "{t}%d", i);
        assert_int_equal(duet_scan_next(scan, &key, &value, NULL, &error), DUET_OK);
        assert_slice(key, name);
        assert_slice(value, name);
        assert_true(duet_scan_progress(scan) == (i < 4 ? 0 : 1));
    }
    assert_int_equal(duet_scan_next(scan, &key, &value, NULL, &error), DUET_NOTFOUND);
    duet_scan_close(&scan);
    assert_null(duet_range_open(c, &(struct duet_range){.prefix = duet_text("{t}")}, &error));
    assert_int_equal(error.code, DUET_USAGE);
    duet_close(&c);
    fake_destroy(f);
}

static void test_client__keys_are_counted_without_being_sent(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    uint64_t count = 99;
    put_five(c);
    struct duet_range range = {.tag = duet_text("{t}"), .to = duet_text("{t}4")};
    assert_int_equal(duet_range_count(c, &range, &count, &error), DUET_OK);
    assert_int_equal(count, 4);
    struct duet_scan *scan = duet_scan_open(c, true, &error);
    assert_int_equal(duet_scan_next(scan, NULL, NULL, NULL, &error), DUET_OK);
    count = 0;
    while (duet_scan_count(scan, &count, &error) == DUET_OK)
        ;
    assert_int_equal(count, 4); /* one was given already */
    duet_scan_close(&scan);
    duet_close(&c);
    fake_destroy(f);
}

static void test_client__clearing_leaves_what_was_written_since(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    uint64_t deleted = 0;
    put_five(c);
    struct duet_range range = {.tag = duet_text("{t}"), .keys_only = true};
    struct duet_scan *scan = duet_range_open(c, &range, &error);
    assert_int_equal(duet_scan_next(scan, NULL, NULL, NULL, &error), DUET_OK); /* a page is here */
    assert_int_equal(duet_put(c, duet_text("{t}1"), duet_text("new"), NULL, NULL, &error), DUET_OK);
    assert_int_equal(duet_scan_clear(scan, &deleted, &error), DUET_OK);
    assert_int_equal(deleted, 2);
    duet_scan_close(&scan);
    struct duet_result *result;
    assert_int_equal(duet_get(c, duet_text("{t}1"), &result, &error), DUET_OK);
    duet_result_free(&result);
    assert_int_equal(duet_range_clear(c, &range, &deleted, &error), DUET_OK);
    assert_int_equal(deleted, 3);
    duet_close(&c);
    fake_destroy(f);
}

static void test_client__an_atomic_batch_tells_of_each_and_of_all(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    struct duet_result *results[2];
    struct duet_operation ops[] = {
        {.kind = DUET_PUT, .key = duet_text("{t}a"), .value = duet_text("v"), .want = DUET_WANT_OLD},
        {.kind = DUET_DEL, .key = duet_text("{t}b")}};
    assert_int_equal(duet_atomic(c, ops, 2, results, &error), DUET_OK);
    assert_int_equal(duet_result_code(results[0]), DUET_OK);
    assert_slice(duet_result_value(results[0]), "was");
    assert_int_equal(duet_result_code(results[1]), DUET_NOTFOUND);
    assert_false(duet_result_has_value(results[1]));
    assert_int_equal(duet_result_id(results[0]).seq, duet_result_id(results[1]).seq);
    duet_result_free(&results[0]);
    duet_result_free(&results[1]);
    ops[0].value = duet_text("fail");
    assert_int_equal(duet_atomic(c, ops, 2, results, &error), DUET_CONDITION);
    assert_int_equal(error.code, DUET_CONDITION);
    assert_int_equal(duet_result_code(results[0]), DUET_OK);
    assert_int_equal(duet_result_code(results[1]), DUET_CONDITION);
    duet_result_free(&results[0]);
    duet_result_free(&results[1]);
    atomic_store(&f->refusals, 1000000);
    ops[0].timeout_ms = 50;
    assert_int_equal(duet_atomic(c, ops, 2, results, &error), DUET_BUSY);
    assert_int_equal(duet_result_code(results[1]), DUET_BUSY);
    duet_result_free(&results[0]);
    duet_result_free(&results[1]);
    duet_close(&c);
    fake_destroy(f);
}

static void test_client__what_cannot_be_a_batch_is_not_sent(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "5000");
    struct duet_error error;
    struct duet_result *results[2];
    struct duet_operation ops[] = {{.kind = DUET_PUT, .key = duet_text("{t}a")},
                                   {.kind = DUET_DEL, .key = duet_text("{u}b")}};
    assert_int_equal(duet_atomic(c, ops, 2, results, &error), DUET_USAGE);
    assert_null(results[0]);
    assert_int_equal(duet_atomic(c, ops, 0, NULL, &error), DUET_USAGE);
    ops[1] = (struct duet_operation){.kind = DUET_GET, .key = duet_text("{t}b")};
    assert_int_equal(duet_atomic(c, ops, 2, results, &error), DUET_USAGE);
    void *large = calloc(1, ATOMIC_BYTES_MAX);
    ops[0].value = duet_bytes(large, ATOMIC_BYTES_MAX);
    assert_int_equal(duet_atomic(c, ops, 1, results, &error), DUET_TOOBIG);
    assert_int_equal(atomic_load(&f->operations), 0);
    free(large);
    duet_close(&c);
    fake_destroy(f);
}

static void count_ok(const struct duet_result *result, void *user)
{
    if (duet_result_code(result) == DUET_OK)
        atomic_fetch_add((atomic_uint *)user, 1);
}

static void test_client__what_gathers_travels_together(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "20000");
    struct duet_error error;
    atomic_uint done = 0;
    assert_int_equal(duet_connect(c, 5000, &error), DUET_OK);
    struct duet_operation op = {.kind = DUET_PUT, .key = duet_text("k"), .value = duet_text("v")};
    for (int i = 0; i < 5000; i++)
        assert_int_equal(duet_submit(c, &op, count_ok, &done, &error), DUET_OK);
    assert_int_equal(duet_drain(c, 20000, &error), DUET_OK);
    assert_int_equal(atomic_load(&done), 5000);
    assert_int_equal(atomic_load(&f->operations), 5000);
    assert_true(atomic_load(&f->requests) < 2500);
    duet_close(&c);
    fake_destroy(f);
}

static void *increment_often(void *arg)
{
    struct duet_client *c = arg;
    for (int i = 0; i < 200; i++)
        if (duet_incr(c, duet_text("n"), 1, NULL, NULL, NULL) != DUET_OK)
            return arg;
    return NULL;
}

static void test_client__threads_may_share_it(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "20000");
    pthread_t threads[8];
    void *failed;
    int64_t sum = 0;
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, increment_often, c), 0);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(duet_incr(c, duet_text("n"), 0, &sum, NULL, NULL), DUET_OK);
    assert_int_equal(sum, 1600);
    duet_close(&c);
    fake_destroy(f);
}

static void test_client__refusals_are_tried_again(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "20000");
    struct duet_client_info info;
    atomic_store(&f->refusals, 3);
    assert_int_equal(duet_put(c, duet_text("a"), duet_text("1"), NULL, NULL, NULL), DUET_OK);
    duet_client_info(c, &info);
    assert_true(info.connected && info.retries == 3 && info.completed == 1);
    assert_string_equal(info.router, f->address);
    duet_close(&c);
    fake_destroy(f);
}

static void test_client__a_silent_router_is_left_for_another(void **state)
{
    (void)state;
    struct fake *silent = fake_new(), *good = fake_new();
    atomic_store(&silent->silent, true);
    char routers[160];
    snprintf(routers, sizeof routers, "%s, %s", silent->address, good->address);
    for (int i = 0; i < 3; i++) { /* which one is first is drawn */
        struct duet_client *c = open_to(routers, "20000");
        assert_int_equal(duet_put(c, duet_text("a"), duet_text("1"), NULL, NULL, NULL), DUET_OK);
        struct duet_client_info info;
        duet_client_info(c, &info);
        assert_string_equal(info.router, good->address);
        duet_close(&c);
    }
    fake_destroy(silent);
    fake_destroy(good);
}

static void test_client__without_a_router_it_says_so(void **state)
{
    (void)state;
    struct duet_error error;
    struct duet_client *c = open_to("tcp://127.0.0.1:1", "100");
    assert_int_equal(duet_connect(c, 10, &error), DUET_NOCONNECTION);
    assert_non_null(strstr(error.message, "tcp://127.0.0.1:1"));
    assert_int_equal(duet_put(c, duet_text("a"), duet_text("1"), NULL, NULL, &error),
                     DUET_NOCONNECTION);
    assert_int_equal(error.flags, DUET_RETRYABLE);
    duet_close(&c);
}

static void test_client__an_unanswered_write_is_in_doubt(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    atomic_store(&f->holding, true);
    struct duet_client *c = open_to(f->address, "300");
    struct duet_error error;
    assert_int_equal(duet_connect(c, 5000, &error), DUET_OK);
    assert_int_equal(duet_put(c, duet_text("a"), duet_text("1"), NULL, NULL, &error), DUET_INDOUBT);
    assert_int_equal(error.flags, DUET_IN_DOUBT);
    assert_int_equal(duet_get(c, duet_text("a"), NULL, &error), DUET_TIMEOUT);
    duet_close(&c);
    fake_destroy(f);
}

static void remember(const struct duet_result *result, void *user)
{
    *(enum duet_code *)user = duet_result_code(result);
}

static void test_client__closing_completes_what_is_outstanding(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    atomic_store(&f->holding, true);
    struct duet_client *c = open_to(f->address, "60000");
    assert_int_equal(duet_connect(c, 5000, NULL), DUET_OK);
    enum duet_code put = DUET_OK, get = DUET_OK;
    struct duet_operation op = {.kind = DUET_PUT, .key = duet_text("k")};
    assert_int_equal(duet_submit(c, &op, remember, &put, NULL), DUET_OK);
    op.kind = DUET_GET;
    assert_int_equal(duet_submit(c, &op, remember, &get, NULL), DUET_OK);
    while (atomic_load(&f->requests) == 0 && duet_drain(c, 50, NULL) != DUET_OK)
        if (clock_random64() % 4 == 0)
            break; /* it has left, or has not: both are fine */
    duet_close(&c);
    assert_true(put == DUET_INDOUBT || put == DUET_TIMEOUT || put == DUET_NOCONNECTION);
    assert_true(get == DUET_TIMEOUT || get == DUET_NOCONNECTION);
    fake_destroy(f);
}

static void test_client__a_full_window_is_busy_for_those_who_do_not_wait(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    atomic_store(&f->holding, true);
    struct duet_client *c = open_to(f->address, "60000");
    struct duet_error error;
    struct duet_operation op = {.kind = DUET_PUT, .key = duet_text("k"), .nowait = true};
    for (int i = 0; i < CLIENT_WINDOW_MAX; i++)
        assert_int_equal(duet_submit(c, &op, NULL, NULL, &error), DUET_OK);
    assert_int_equal(duet_submit(c, &op, NULL, NULL, &error), DUET_BUSY);
    assert_int_equal(error.flags, DUET_RETRYABLE);
    duet_close(&c);
    fake_destroy(f);
}

struct nested {
    struct duet_client *c;
    atomic_uint left;
    enum duet_code sync;
};

/* Submits the next from inside of the callback, and tries what is forbidden there. */
static void next_one(const struct duet_result *result, void *user)
{
    struct nested *n = user;
    (void)result;
    n->sync = duet_get(n->c, duet_text("k"), NULL, NULL);
    struct duet_operation op = {.kind = DUET_GET, .key = duet_text("k")};
    if (atomic_fetch_sub(&n->left, 1) > 1)
        duet_submit(n->c, &op, next_one, n, NULL);
}

static void test_client__callbacks_may_submit_but_not_wait(void **state)
{
    (void)state;
    struct fake *f = fake_new();
    struct duet_client *c = open_to(f->address, "20000");
    struct nested n = {.c = c, .left = 100};
    struct duet_operation op = {.kind = DUET_GET, .key = duet_text("k")};
    assert_int_equal(duet_submit(c, &op, next_one, &n, NULL), DUET_OK);
    assert_int_equal(duet_drain(c, 20000, NULL), DUET_OK);
    assert_int_equal(atomic_load(&n.left), 0);
    assert_int_equal(n.sync, DUET_USAGE);
    duet_close(&c);
    fake_destroy(f);
}

static void test_client__wrong_options_are_explained(void **state)
{
    (void)state;
    struct duet_error error;
    struct duet_options *options = duet_options_new();
    assert_int_equal(duet_options_set(options, "color", "red", &error), DUET_CONFIG);
    assert_non_null(strstr(error.message, "timeout_ms"));
    assert_int_equal(duet_options_set(options, "timeout_ms", "0", &error), DUET_CONFIG);
    assert_int_equal(duet_options_set(options, "timeout_ms", "5x", &error), DUET_CONFIG);
    assert_int_equal(duet_options_set(options, "timeout_ms", "-5", &error), DUET_CONFIG);
    assert_int_equal(duet_options_set(options, "window", "513", &error), DUET_CONFIG);
    assert_int_equal(duet_options_set(options, "routers", "", &error), DUET_CONFIG);
    assert_int_equal(duet_options_set(options, "routers", "localhost", &error), DUET_CONFIG);
    assert_int_equal(duet_options_set(options, "routers", "tcp://localhost", &error), DUET_CONFIG);
    assert_int_equal(duet_options_set(options, "routers", "127.0.0.1:1 127.0.0.1:2", NULL),
                     DUET_OK);
    duet_options_free(&options);
    duet_options_free(&options);
    duet_options_free(NULL);
}

static void test_client__an_empty_or_long_key_is_not_taken(void **state)
{
    (void)state;
    struct duet_error error;
    struct duet_result *result;
    struct duet_client *c = open_to("127.0.0.1:1", "50");
    char key[KEY_SIZE_MAX + 1] = {1};
    assert_int_equal(duet_get(c, duet_text(""), &result, &error), DUET_USAGE);
    assert_null(result);
    assert_int_equal(error.flags, DUET_FATAL);
    assert_int_equal(duet_get(c, duet_bytes(key, sizeof key), &result, &error), DUET_TOOBIG);
    assert_null(result);
    duet_close(&c);
    duet_close(&c);
    duet_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client__what_was_put_is_got),
        cmocka_unit_test(test_client__conditions_increments_and_deletes_work),
        cmocka_unit_test(test_client__parts_of_values_change),
        cmocka_unit_test(test_client__expiries_are_set_and_read),
        cmocka_unit_test(test_client__reads_are_as_the_operation_says_or_else_the_client),
        cmocka_unit_test(test_client__any_operation_can_be_waited_for),
        cmocka_unit_test(test_client__many_keys_come_in_the_order_asked_for),
        cmocka_unit_test(test_client__a_scan_walks_over_all_pages),
        cmocka_unit_test(test_client__a_range_goes_through_all_pages_in_order),
        cmocka_unit_test(test_client__keys_are_counted_without_being_sent),
        cmocka_unit_test(test_client__clearing_leaves_what_was_written_since),
        cmocka_unit_test(test_client__an_atomic_batch_tells_of_each_and_of_all),
        cmocka_unit_test(test_client__what_cannot_be_a_batch_is_not_sent),
        cmocka_unit_test(test_client__what_gathers_travels_together),
        cmocka_unit_test(test_client__threads_may_share_it),
        cmocka_unit_test(test_client__refusals_are_tried_again),
        cmocka_unit_test(test_client__a_silent_router_is_left_for_another),
        cmocka_unit_test(test_client__without_a_router_it_says_so),
        cmocka_unit_test(test_client__an_unanswered_write_is_in_doubt),
        cmocka_unit_test(test_client__closing_completes_what_is_outstanding),
        cmocka_unit_test(test_client__a_full_window_is_busy_for_those_who_do_not_wait),
        cmocka_unit_test(test_client__callbacks_may_submit_but_not_wait),
        cmocka_unit_test(test_client__wrong_options_are_explained),
        cmocka_unit_test(test_client__an_empty_or_long_key_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
