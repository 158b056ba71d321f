/* The public calls over a client that is played here: client_submit() answers at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/client.h"
#include "proto/codec.h"
#include "tests/unit/failing_memory.h"

#define ROUNDS_MAX 20

enum duet_code __wrap_client_submit(struct duet_client *c, const struct session_operation *op,
                                    uint32_t timeout_ms, bool nowait, duet_callback *callback,
                                    void *user, struct duet_error *reterr);

bool __wrap_client_is_own_thread(const struct duet_client *c);

static struct buffer page, expiry;
static unsigned submitted;

static struct duet_slice answer_to(const struct session_operation *op)
{
    if (op->kind == KIND_SCAN)
        return duet_bytes(page.data, page.size);
    if (op->kind == KIND_READ && op->read.part == READ_EXPIRY)
        return duet_bytes(expiry.data, expiry.size);
    return duet_text("7");
}

enum duet_code __wrap_client_submit(struct duet_client *c, const struct session_operation *op,
                                    uint32_t timeout_ms, bool nowait, duet_callback *callback,
                                    void *user, struct duet_error *reterr)
{
    (void)c;
    (void)timeout_ms;
    (void)nowait;
    (void)reterr;
    struct duet_result result = {.code = DUET_OK, .has_value = true, .value = answer_to(op)};
    submitted++;
    callback(&result, user);
    return DUET_OK;
}

enum duet_read __wrap_client_read(const struct duet_client *c);

enum duet_read __wrap_client_read(const struct duet_client *c)
{
    (void)c;
    return DUET_READ_LINEARIZABLE;
}

bool __wrap_client_is_own_thread(const struct duet_client *c)
{
    (void)c;
    return false;
}

static int set_up(void **state)
{
    (void)state;
    struct bytes keys[] = {bytes_text("a"), bytes_text("b")};
    uint64_t zeros[] = {0, 0};
    struct scan_page p = {.count = 2,
                          .keys = keys,
                          .values = keys,
                          .epochs = zeros,
                          .seqs = zeros,
                          .next = bytes_text("12345678b")};
    buffer_init(&page, 1000);
    buffer_init(&expiry, 1000);
    assert_int_equal(codec_pack_scan_page(&p, &page), STATUS_OK);
    assert_int_equal(codec_pack_expiry(&(struct expiry){9, 8}, &expiry), STATUS_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buffer_fini(&page);
    buffer_fini(&expiry);
    return 0;
}

/* No call looks into it. */
static struct duet_client *const client = (struct duet_client *)&submitted;

/* What one call left behind. */
struct left {
    struct duet_result *results[2];
    struct duet_error error;
    int64_t sum;
    struct duet_expiry expiry;
};

#define KEY   duet_text("k")
#define VALUE duet_text("v")
#define CALL(name, ...)                                                                            \
    static enum duet_code call_##name(struct left *l)                                              \
    {                                                                                              \
        return __VA_ARGS__;                                                                        \
    }

static const struct duet_slice two_keys[] = {{"a", 1}, {"b", 1}};
static const struct duet_pair two_pairs[] = {{{"a", 1}, {"1", 1}}, {{"b", 1}, {"2", 1}}};
static const struct duet_condition absent = {.when = DUET_IF_ABSENT};

CALL(get, duet_get(client, KEY, l->results, &l->error))
CALL(get_expiry, duet_get_expiry(client, KEY, &l->expiry, &l->error))
CALL(outcome, duet_outcome(client, (struct duet_id){1, 2}, KEY, l->results, &l->error))
CALL(mget, duet_mget(client, two_keys, 2, l->results, &l->error))
CALL(put, duet_put(client, KEY, VALUE, NULL, l->results, &l->error))
CALL(put_alone, duet_put(client, KEY, VALUE, NULL, NULL, &l->error))
CALL(put_if, duet_put(client, KEY, VALUE, &absent, l->results, &l->error))
CALL(del, duet_del(client, KEY, NULL, l->results, &l->error))
CALL(cas, duet_cas(client, KEY, VALUE, VALUE, l->results, &l->error))
CALL(incr, duet_incr(client, KEY, 1, &l->sum, NULL, &l->error))
CALL(incr_result, duet_incr(client, KEY, 1, NULL, l->results, &l->error))
CALL(add, duet_add(client, KEY, duet_text("1.5"), l->results, &l->error))
CALL(append, duet_append(client, KEY, VALUE, l->results, &l->error))
CALL(set_range, duet_set_range(client, KEY, 3, VALUE, l->results, &l->error))
CALL(get_del, duet_get_del(client, KEY, l->results, &l->error))
CALL(expire, duet_expire(client, KEY, 5, 0, NULL, l->results, &l->error))
CALL(mput, duet_mput(client, two_pairs, 2, l->results, &l->error))

static enum duet_code call_scan(struct left *l)
{
    struct duet_slice key, value;
    struct duet_scan *scan = duet_scan_open(client, false, &l->error);
    if (scan == NULL)
        return l->error.code;
    enum duet_code code = DUET_OK;
    for (int i = 0; i < 5 && code == DUET_OK; i++) /* more than two pages */
        code = duet_scan_next(scan, &key, &value, NULL, &l->error);
    duet_scan_close(&scan);
    return code;
}

static enum duet_code call_options(struct left *l)
{
    struct duet_options *options = duet_options_new();
    if (options == NULL)
        return DUET_NOMEMORY;
    enum duet_code code = duet_options_set(options, "routers", "tcp://127.0.0.1:1", &l->error);
    duet_options_free(&options);
    return code;
}

enum sort { READS, WRITES, OPENS };

static const struct scenario {
    const char *name;
    enum duet_code (*call)(struct left *l);
    enum sort sort;
    unsigned results, allocations; /* at least */
} scenarios[] = {
    {"get", call_get, READS, 1, 1},
    {"get_expiry", call_get_expiry, READS, 0, 1},
    {"outcome", call_outcome, READS, 1, 1},
    {"mget", call_mget, READS, 2, 3},
    {"put", call_put, WRITES, 1, 1},
    {"put without a result", call_put_alone, WRITES, 0, 0},
    {"put on condition", call_put_if, WRITES, 1, 1},
    {"del", call_del, WRITES, 1, 1},
    {"cas", call_cas, WRITES, 1, 1},
    {"incr", call_incr, WRITES, 0, 1},
    {"incr with a result", call_incr_result, WRITES, 1, 1},
    {"add", call_add, WRITES, 1, 1},
    {"append", call_append, WRITES, 1, 1},
    {"set_range", call_set_range, WRITES, 1, 1},
    {"get_del", call_get_del, WRITES, 1, 1},
    {"expire", call_expire, WRITES, 1, 1},
    {"mput", call_mput, WRITES, 2, 3},
    {"scan", call_scan, OPENS, 0, 4},
    {"options", call_options, OPENS, 0, 1},
};

static void check_failed(const struct scenario *s, enum duet_code code, const struct left *l)
{
    /* An arena tells the codec no more than that there is no room. */
    if (s->call == call_scan && code == DUET_MALFORMED)
        return;
    assert_int_equal(code, DUET_NOMEMORY);
    if (s->sort == OPENS)
        return;
    assert_int_equal(l->error.code, DUET_NOMEMORY);
    /* What was sent may have happened. */
    bool doubt = s->sort == WRITES && submitted > 0;
    assert_int_equal((l->error.flags & DUET_IN_DOUBT) != 0, doubt);
}

static void check_done(const struct scenario *s, enum duet_code code, const struct left *l)
{
    assert_int_equal(code, DUET_OK);
    for (unsigned i = 0; i < s->results; i++)
        assert_non_null(l->results[i]);
    if (s->call == call_incr)
        assert_int_equal(l->sum, 7);
}

static void run_scenario(const struct scenario *s)
{
    bool failed = true;
    uint64_t after = 0;
    for (; failed; after++) {
        struct left l = {0};
        assert_true(after < ROUNDS_MAX);
        submitted = 0;
        failing_memory_arm(after);
        enum duet_code code = s->call(&l);
        failed = failing_memory_disarm();
        if (failed)
            check_failed(s, code, &l);
        else
            check_done(s, code, &l);
        duet_result_free(&l.results[0]);
        duet_result_free(&l.results[1]);
    }
    if (after - 1 < s->allocations)
        fail_msg("%s: only %u allocations were failed", s->name, (unsigned)after - 1);
}

/* Each call once more for each of its allocations. Leaks are AddressSanitizer's to see. */
static void test_calls__any_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        run_scenario(&scenarios[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls__any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
