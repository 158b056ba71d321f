#include "storage/completion.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/random.h"
#include "tests/unit/failing_memory.h"

#define SAVED_MAX (16u << 20)

static struct entry entry_write(uint64_t client, uint64_t client_seq, uint64_t ack_below,
                                uint64_t ptime)
{
    static uint64_t seq;
    return (struct entry){
        .kind = ENTRY_WRITE,
        .epoch = 3,
        .seq = ++seq,
        .ptime = ptime,
        .client = client,
        .client_seq = client_seq,
        .ack_below = ack_below,
    };
}

static struct entry entry_expire(uint64_t horizon)
{
    return (struct entry){.kind = ENTRY_EXPIRE, .horizon = horizon, .ptime = horizon + 1};
}

static void apply(struct completion *c, struct entry e)
{
    assert_int_equal(completion_apply(c, &e), STATUS_OK);
}

static enum completion_answer find(const struct completion *c, uint64_t client, uint64_t seq)
{
    struct completion_record r;
    return completion_find(c, client, seq, &r);
}

static struct buffer save(const struct completion *c)
{
    struct buffer b;
    buffer_init(&b, SAVED_MAX);
    assert_int_equal(completion_save(c, &b), STATUS_OK);
    return b;
}

static struct completion *reload(const struct completion *c)
{
    struct buffer saved = save(c);
    struct completion *loaded = completion_new();
    assert_int_equal(completion_load(loaded, buffer_view(&saved)), STATUS_OK);
    buffer_fini(&saved);
    return loaded;
}

static void assert_same_bytes(const struct completion *a, const struct completion *b)
{
    struct buffer x = save(a), y = save(b);
    assert_true(bytes_equal(buffer_view(&x), buffer_view(&y)));
    buffer_fini(&x);
    buffer_fini(&y);
}

static void test_completion__a_write_is_found_with_its_answer(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    assert_int_equal(find(c, 7, 1), COMPLETION_UNKNOWN);
    struct entry e = entry_write(7, 1, 1, 1000);
    e.status = STATUS_CONDITION;
    e.result_flags = RESULT_HAS_VALUE;
    e.result = bytes_text("found this");
    apply(c, e);
    struct completion_record r;
    assert_int_equal(completion_find(c, 7, 1, &r), COMPLETION_FOUND);
    assert_int_equal(r.status, STATUS_CONDITION);
    assert_int_equal(r.version.epoch, 3);
    assert_int_equal(r.version.seq, e.seq);
    assert_int_equal(r.ptime, 1000);
    assert_int_equal(r.result_flags, RESULT_HAS_VALUE);
    assert_true(bytes_equal(r.result, e.result));
    assert_int_equal(find(c, 7, 2), COMPLETION_UNKNOWN);
    assert_int_equal(find(c, 8, 1), COMPLETION_UNKNOWN);
    completion_destroy(&c);
    assert_null(c);
}

static void test_completion__a_later_judged_write_on_the_same_key_overtakes(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    struct entry e = entry_write(7, 5, 1, 1000), aborted = entry_write(7, 9, 1, 1001);
    e.key_hash = 77;
    aborted.kind = ENTRY_ABORTED;
    aborted.status = STATUS_ABORTED;
    aborted.key_hash = 78;
    apply(c, e);
    apply(c, aborted);
    struct completion *loaded = reload(c);
    assert_true(completion_overtaken(loaded, 7, 4, (uint64_t[]){77}, 1));
    assert_false(completion_overtaken(loaded, 7, 4, (uint64_t[]){76}, 1)); /* another key */
    assert_false(completion_overtaken(loaded, 7, 4, (uint64_t[]){78}, 1)); /* never judged */
    assert_false(completion_overtaken(loaded, 7, 6, (uint64_t[]){77}, 1)); /* it is the later one */
    assert_true(completion_overtaken(loaded, 7, 4, (uint64_t[]){1, 77}, 2)); /* one of several */
    assert_false(completion_overtaken(loaded, 8, 4, (uint64_t[]){77}, 1)); /* another client */
    completion_destroy(&loaded);
    completion_destroy(&c);
}

static void test_completion__an_aborted_id_is_remembered_as_aborted(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    struct entry e = entry_write(7, 5, 1, 1000);
    e.kind = ENTRY_ABORTED;
    e.status = STATUS_ABORTED;
    apply(c, e);
    struct completion_record r;
    assert_int_equal(completion_find(c, 7, 5, &r), COMPLETION_FOUND);
    assert_int_equal(r.status, STATUS_ABORTED);
    completion_destroy(&c);
}

static void test_completion__what_falls_below_the_floor_is_stale(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    apply(c, entry_write(7, 1, 1, 1000));
    apply(c, entry_write(7, 2, 1, 1000));
    apply(c, entry_write(7, 4, 3, 1000));
    assert_int_equal(find(c, 7, 1), COMPLETION_STALE);
    assert_int_equal(find(c, 7, 2), COMPLETION_STALE);
    assert_int_equal(find(c, 7, 3), COMPLETION_UNKNOWN);
    assert_int_equal(find(c, 7, 4), COMPLETION_FOUND);
    /* A floor never falls: an older message may arrive later. */
    apply(c, entry_write(7, 5, 1, 1000));
    assert_int_equal(find(c, 7, 2), COMPLETION_STALE);
    completion_destroy(&c);
}

/* Mutant 54: the floor is all that tells a late duplicate from a new write. */
static void test_completion__a_floor_survives_save_and_load(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    apply(c, entry_write(7, 9, 9, 1000));
    struct completion *loaded = reload(c);
    assert_int_equal(find(loaded, 7, 8), COMPLETION_STALE);
    assert_int_equal(find(loaded, 7, 9), COMPLETION_FOUND);
    assert_same_bytes(c, loaded);
    completion_destroy(&c);
    completion_destroy(&loaded);
}

static void test_completion__the_first_entry_of_an_id_stays_its_answer(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    struct entry first = entry_write(7, 1, 1, 1000);
    apply(c, first);
    apply(c, entry_write(7, 1, 1, 1001));
    struct completion_record r;
    assert_int_equal(completion_find(c, 7, 1, &r), COMPLETION_FOUND);
    assert_int_equal(r.version.seq, first.seq);
    completion_destroy(&c);
}

static void test_completion__expire_removes_up_to_its_horizon(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    apply(c, entry_write(7, 1, 1, 1000));
    apply(c, entry_write(7, 2, 1, 1001));
    apply(c, entry_write(7, 3, 1, 1002));
    apply(c, entry_expire(1001));
    assert_int_equal(completion_horizon(c), 1001);
    assert_int_equal(find(c, 7, 1), COMPLETION_UNKNOWN);
    assert_int_equal(find(c, 7, 2), COMPLETION_UNKNOWN);
    assert_int_equal(find(c, 7, 3), COMPLETION_FOUND);
    apply(c, entry_expire(900));
    assert_int_equal(completion_horizon(c), 1001);
    completion_destroy(&c);
}

static void test_completion__a_client_is_forgotten_only_when_its_last_entry_expired(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    apply(c, entry_write(7, 5, 5, 1000));
    apply(c, entry_write(8, 5, 5, 1000));
    apply(c, entry_write(8, 6, 7, 1002)); /* leaves no record, and a floor of 7 */
    apply(c, entry_expire(1001));
    assert_int_equal(find(c, 7, 4), COMPLETION_UNKNOWN);
    assert_int_equal(find(c, 8, 4), COMPLETION_STALE);
    assert_int_equal(find(c, 8, 6), COMPLETION_STALE);
    apply(c, entry_expire(1002));
    assert_int_equal(find(c, 8, 6), COMPLETION_UNKNOWN);
    struct buffer saved = save(c);
    assert_int_equal(saved.size, 16);
    buffer_fini(&saved);
    completion_destroy(&c);
}

/* Hundreds of clients, so that many stand where another's search passes; every other one is to go. */
static void test_completion__all_that_expired_are_forgotten_and_the_others_found(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 20; round++) {
        struct completion *c = completion_new();
        const uint64_t first = 1 + round * 1000, clients = 180 + round;
        for (uint64_t i = 0; i < clients; i++)
            apply(c, entry_write(first + i, 5, 5, 1000 + i % 2));
        apply(c, entry_expire(1000));
        for (uint64_t i = 0; i < clients; i++)
            assert_int_equal(find(c, first + i, 4),
                             i % 2 == 0 ? COMPLETION_UNKNOWN : COMPLETION_STALE);
        apply(c, entry_expire(1001));
        struct buffer saved = save(c);
        assert_int_equal(saved.size, 16);
        buffer_fini(&saved);
        completion_destroy(&c);
    }
}

static void test_completion__entries_without_client_leave_nothing(void **state)
{
    (void)state;
    struct completion *c = completion_new(), *empty = completion_new();
    apply(c, (struct entry){.kind = ENTRY_EPOCH, .epoch = 4, .seq = 1, .ptime = 1000});
    apply(c, entry_write(0, 0, 0, 1000));
    assert_same_bytes(c, empty);
    completion_destroy(&c);
    completion_destroy(&empty);
}

static void test_completion__saved_bytes_do_not_tell_the_order_of_arrival(void **state)
{
    (void)state;
    struct entry entries[40];
    for (size_t i = 0; i < 40; i++)
        entries[i] = entry_write(1 + i % 8, 10 + i, 1, 1000 + i % 3);
    struct completion *a = completion_new(), *b = completion_new();
    for (size_t i = 0; i < 40; i++) {
        apply(a, entries[i]);
        apply(b, entries[(i * 17 + 5) % 40]);
    }
    assert_same_bytes(a, b);
    apply(a, entry_expire(1001));
    apply(b, entry_expire(1001));
    assert_same_bytes(a, b);
    completion_destroy(&a);
    completion_destroy(&b);
}

/* --- the horizon that is wanted --- */

static void test_completion__nothing_is_wanted_while_records_are_few_and_young(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    assert_int_equal(completion_horizon_wanted(c, 0), 0);
    assert_int_equal(completion_horizon_wanted(c, 1u << 30), 0);
    apply(c, entry_write(7, 1, 1, 1000));
    assert_int_equal(completion_horizon_wanted(c, 1000 + COMPLETION_AGE_MS), 0);
    completion_destroy(&c);
}

static void test_completion__records_go_after_an_hour_of_ptime(void **state)
{
    (void)state;
    uint64_t base = 1000000000;
    struct completion *c = completion_new();
    apply(c, entry_write(7, 1, 1, base));
    apply(c, entry_write(8, 1, 1, base + COMPLETION_AGE_MS));
    uint64_t now = base + 2 * (uint64_t)COMPLETION_AGE_MS;
    uint64_t wanted = completion_horizon_wanted(c, now);
    assert_int_equal(wanted, now - COMPLETION_AGE_MS);
    apply(c, entry_expire(wanted));
    assert_int_equal(find(c, 7, 1), COMPLETION_UNKNOWN);
    assert_int_equal(completion_horizon_wanted(c, now), 0);
    completion_destroy(&c);
}

/* Its client came again since: the record is the older of the two, also after a restart. */
static void test_completion__a_record_goes_after_an_hour_though_its_client_is_young(void **state)
{
    (void)state;
    uint64_t base = 1000000000, now = base + 2 * (uint64_t)COMPLETION_AGE_MS;
    struct completion *c = completion_new();
    apply(c, entry_write(7, 1, 1, base));
    apply(c, entry_write(7, 2, 1, now));
    struct completion *loaded = reload(c);
    assert_int_equal(completion_horizon_wanted(c, now), now - COMPLETION_AGE_MS);
    assert_int_equal(completion_horizon_wanted(loaded, now), now - COMPLETION_AGE_MS);
    apply(loaded, entry_expire(now - COMPLETION_AGE_MS));
    assert_int_equal(find(loaded, 7, 1), COMPLETION_UNKNOWN);
    assert_int_equal(find(loaded, 7, 2), COMPLETION_FOUND);
    completion_destroy(&c);
    completion_destroy(&loaded);
}

/* A client whose floor is all that is left of it goes after the hour, too. */
static void test_completion__a_bare_floor_is_asked_for_after_an_hour(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    apply(c, entry_write(7, 1, 2, 1000));
    uint64_t wanted = completion_horizon_wanted(c, 1000 + 2 * (uint64_t)COMPLETION_AGE_MS);
    assert_true(wanted >= 1000);
    apply(c, entry_expire(wanted));
    struct buffer saved = save(c);
    assert_int_equal(saved.size, 16);
    buffer_fini(&saved);
    completion_destroy(&c);
}

/* Clients that never acknowledge, or come once each, with large results: the bytes stay bounded,
 * an EXPIRE comes once in a while and not with every write, and the newest records are kept. */
static void memory_stays_bounded(uint64_t clients, size_t result_size)
{
    static const uint8_t result[RESULT_SIZE_MAX];
    struct completion *c = completion_new();
    uint64_t ptime = 1000, expires = 0;
    for (uint64_t i = 1; i <= 20000; i++) {
        ptime += i % 3 == 0;
        struct entry e = entry_write(1 + i % clients, i, 1, ptime);
        e.result_flags = result_size > 0 ? RESULT_HAS_VALUE : 0;
        e.result = bytes_of(result, result_size);
        apply(c, e);
        uint64_t wanted = completion_horizon_wanted(c, ptime);
        if (wanted == 0)
            continue;
        assert_true(wanted < ptime && wanted > completion_horizon(c));
        apply(c, entry_expire(wanted));
        assert_int_equal(completion_horizon_wanted(c, ptime), 0);
        expires++;
        struct buffer saved = save(c);
        assert_true(saved.size > COMPLETION_BYTES_MAX / 8);
        assert_true(saved.size < COMPLETION_BYTES_MAX);
        buffer_fini(&saved);
    }
    assert_true(expires > 10 && expires < 2000);
    assert_int_equal(find(c, 1 + 20000 % clients, 20000), COMPLETION_FOUND);
    completion_destroy(&c);
}

static void test_completion__bytes_stay_bounded_whatever_clients_do(void **state)
{
    (void)state;
    memory_stays_bounded(1, 0);
    memory_stays_bounded(10, 100);
    memory_stays_bounded(1000000, 0);
    memory_stays_bounded(1000000, RESULT_SIZE_MAX);
}

static void test_completion__bare_floors_of_many_clients_stay_bounded(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    uint64_t ptime = 1000, wanted;
    for (uint64_t i = 1; i <= 10000; i++) {
        apply(c, entry_write(i, 1, 2, ++ptime));
        if ((wanted = completion_horizon_wanted(c, ptime)) != 0)
            apply(c, entry_expire(wanted));
    }
    struct buffer saved = save(c);
    assert_true(saved.size < COMPLETION_BYTES_MAX);
    buffer_fini(&saved);
    completion_destroy(&c);
}

/* The EXPIRE that makes room must not lock everybody out: its own ptime is above its horizon. */
static void test_completion__the_wanted_horizon_lies_in_the_past(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    for (uint64_t i = 1; i <= 2000; i++)
        apply(c, entry_write(7, i, 1, 1000));
    assert_int_equal(completion_horizon_wanted(c, 1000), 999);
    assert_int_equal(completion_horizon_wanted(c, 1001), 1000);
    completion_destroy(&c);
}

/* --- against brute force --- */

#define MODEL_CLIENTS 6
#define MODEL_SEQS    40

struct model {
    uint64_t horizon;
    struct {
        bool known;
        uint64_t floor, ptime;
        bool has[MODEL_SEQS];
        struct entry entry[MODEL_SEQS];
    } clients[MODEL_CLIENTS];
};

static void model_expire(struct model *m, uint64_t horizon)
{
    m->horizon = horizon > m->horizon ? horizon : m->horizon;
    for (size_t i = 0; i < MODEL_CLIENTS; i++) {
        for (size_t seq = 0; seq < MODEL_SEQS; seq++)
            if (m->clients[i].entry[seq].ptime <= m->horizon)
                m->clients[i].has[seq] = false;
        if (m->clients[i].ptime <= m->horizon) {
            m->clients[i].known = false;
            m->clients[i].floor = m->clients[i].ptime = 0;
        }
    }
}

static void model_apply(struct model *m, const struct entry *e)
{
    if (e->kind == ENTRY_EXPIRE)
        model_expire(m, e->horizon);
    if (e->client == 0)
        return;
    size_t i = e->client - 1;
    m->clients[i].known = true;
    if (e->ptime > m->clients[i].ptime)
        m->clients[i].ptime = e->ptime;
    if (e->ack_below > m->clients[i].floor)
        m->clients[i].floor = e->ack_below;
    if (!m->clients[i].has[e->client_seq]) {
        m->clients[i].has[e->client_seq] = true;
        m->clients[i].entry[e->client_seq] = *e;
    }
    for (size_t seq = 0; seq < MODEL_SEQS && seq < m->clients[i].floor; seq++)
        m->clients[i].has[seq] = false;
}

static void assert_like_model(const struct completion *c, const struct model *m)
{
    assert_int_equal(completion_horizon(c), m->horizon);
    for (size_t i = 0; i < MODEL_CLIENTS; i++) {
        for (size_t seq = 0; seq < MODEL_SEQS; seq++) {
            struct completion_record r;
            enum completion_answer answer = completion_find(c, i + 1, seq, &r);
            if (m->clients[i].known && seq < m->clients[i].floor) {
                assert_int_equal(answer, COMPLETION_STALE);
            } else if (m->clients[i].has[seq]) {
                assert_int_equal(answer, COMPLETION_FOUND);
                assert_int_equal(r.version.seq, m->clients[i].entry[seq].seq);
                assert_true(bytes_equal(r.result, m->clients[i].entry[seq].result));
            } else {
                assert_int_equal(answer, COMPLETION_UNKNOWN);
            }
        }
    }
}

static struct entry random_entry(struct random *chance, uint64_t *ptime)
{
    static const uint8_t result[64] = "some sixty bytes of a result that is kept beside its record";
    /* ptime goes back now and then: it should not, but the state must follow the entries anyway. */
    *ptime += random_below(chance, 3);
    if (random_below(chance, 12) == 0)
        return entry_expire(*ptime - random_below(chance, 40));
    uint64_t back = random_below(chance, 20) == 0 ? random_below(chance, 20) : 0;
    struct entry e = entry_write(1 + random_below(chance, MODEL_CLIENTS),
                                 random_below(chance, MODEL_SEQS), 0, *ptime - back);
    if (random_below(chance, 4) == 0)
        e.ack_below = random_below(chance, MODEL_SEQS);
    if (random_below(chance, 8) == 0)
        e.kind = ENTRY_ABORTED;
    e.result_flags = RESULT_HAS_VALUE;
    e.result = bytes_of(result, random_below(chance, sizeof result));
    return e;
}

static void test_completion__random_entries_give_what_the_definition_says(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct random chance;
        random_init(&chance, seed);
        struct completion *c = completion_new(), *copy = completion_new();
        static struct model m;
        m = (struct model){0};
        uint64_t ptime = 1000;
        for (int step = 0; step < 300; step++) {
            struct entry e = random_entry(&chance, &ptime);
            apply(c, e);
            apply(copy, e);
            model_apply(&m, &e);
            assert_like_model(c, &m);
            if (random_below(&chance, 30) == 0) {
                struct completion *loaded = reload(copy);
                completion_destroy(&copy);
                copy = loaded;
            }
        }
        assert_like_model(copy, &m);
        assert_same_bytes(c, copy);
        assert_int_equal(completion_horizon_wanted(c, ptime + 10 * COMPLETION_AGE_MS),
                         completion_horizon_wanted(copy, ptime + 10 * COMPLETION_AGE_MS));
        completion_destroy(&c);
        completion_destroy(&copy);
    }
}

/* --- without memory --- */

static enum status apply_some(struct completion *c)
{
    enum status s = STATUS_OK;
    for (uint64_t i = 1; i <= 60 && s == STATUS_OK; i++) {
        struct entry e = entry_write(1 + i % 20, i, 1, 1000 + i);
        s = completion_apply(c, &e);
    }
    return s;
}

static enum status save_and_load(const struct completion *c)
{
    struct buffer saved;
    buffer_init(&saved, SAVED_MAX);
    struct completion *loaded = completion_new();
    enum status s = loaded == NULL ? STATUS_NOMEMORY : completion_save(c, &saved);
    if (s == STATUS_OK)
        s = completion_load(loaded, buffer_view(&saved));
    completion_destroy(&loaded);
    buffer_fini(&saved);
    return s;
}

static void test_completion__a_lack_of_memory_is_told_and_leaks_nothing(void **state)
{
    (void)state;
    bool failed = true;
    for (uint64_t after = 0; failed; after++) {
        struct completion *c = completion_new();
        failing_memory_arm(after);
        enum status s = apply_some(c);
        if (s == STATUS_OK)
            s = save_and_load(c);
        failed = failing_memory_disarm();
        assert_int_equal(s, failed ? STATUS_NOMEMORY : STATUS_OK);
        completion_destroy(&c);
    }
}

/* --- damaged bytes --- */

static void test_completion__a_truncated_or_longer_save_is_refused(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    for (uint64_t i = 1; i <= 20; i++)
        apply(c, entry_write(1 + i % 4, i, i > 10 ? 3 : 0, 1000 + i));
    struct buffer saved = save(c);
    for (size_t size = 0; size < saved.size; size++) {
        uint8_t *exact = malloc(size + 1); /* so that ASan sees a read beyond */
        memcpy(exact + 1, saved.data, size);
        struct completion *loaded = completion_new();
        assert_int_equal(completion_load(loaded, bytes_of(exact + 1, size)), STATUS_CORRUPT);
        completion_destroy(&loaded);
        free(exact);
    }
    assert_int_equal(buffer_append(&saved, bytes_text("x")), STATUS_OK);
    struct completion *loaded = completion_new();
    assert_int_equal(completion_load(loaded, buffer_view(&saved)), STATUS_CORRUPT);
    completion_destroy(&loaded);
    buffer_fini(&saved);
    completion_destroy(&c);
}

static void test_completion__flipped_bits_never_break_more_than_the_load(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    for (uint64_t i = 1; i <= 20; i++)
        apply(c, entry_write(1 + i % 4, i, i > 10 ? 3 : 0, 1000 + i));
    struct buffer saved = save(c);
    for (size_t bit = 0; bit < saved.size * 8; bit++) {
        saved.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct completion *loaded = completion_new();
        enum status s = completion_load(loaded, buffer_view(&saved));
        assert_true(s == STATUS_OK || s == STATUS_CORRUPT);
        if (s == STATUS_OK) {
            struct buffer again = save(loaded);
            assert_true(bytes_equal(buffer_view(&again), buffer_view(&saved)));
            buffer_fini(&again);
            apply(loaded, entry_expire(UINT64_MAX));
        }
        completion_destroy(&loaded);
        saved.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buffer_fini(&saved);
    completion_destroy(&c);
}

static void test_completion__a_save_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct completion *c = completion_new();
    apply(c, entry_write(7, 1, 1, 1000));
    struct buffer small;
    buffer_init(&small, 40);
    assert_int_equal(completion_save(c, &small), STATUS_TOOBIG);
    assert_int_equal(small.size, 0);
    buffer_fini(&small);
    completion_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_completion__a_write_is_found_with_its_answer),
        cmocka_unit_test(test_completion__a_later_judged_write_on_the_same_key_overtakes),
        cmocka_unit_test(test_completion__an_aborted_id_is_remembered_as_aborted),
        cmocka_unit_test(test_completion__what_falls_below_the_floor_is_stale),
        cmocka_unit_test(test_completion__a_floor_survives_save_and_load),
        cmocka_unit_test(test_completion__the_first_entry_of_an_id_stays_its_answer),
        cmocka_unit_test(test_completion__expire_removes_up_to_its_horizon),
        cmocka_unit_test(test_completion__a_client_is_forgotten_only_when_its_last_entry_expired),
        cmocka_unit_test(test_completion__all_that_expired_are_forgotten_and_the_others_found),
        cmocka_unit_test(test_completion__entries_without_client_leave_nothing),
        cmocka_unit_test(test_completion__saved_bytes_do_not_tell_the_order_of_arrival),
        cmocka_unit_test(test_completion__nothing_is_wanted_while_records_are_few_and_young),
        cmocka_unit_test(test_completion__records_go_after_an_hour_of_ptime),
        cmocka_unit_test(test_completion__a_record_goes_after_an_hour_though_its_client_is_young),
        cmocka_unit_test(test_completion__a_bare_floor_is_asked_for_after_an_hour),
        cmocka_unit_test(test_completion__bytes_stay_bounded_whatever_clients_do),
        cmocka_unit_test(test_completion__bare_floors_of_many_clients_stay_bounded),
        cmocka_unit_test(test_completion__the_wanted_horizon_lies_in_the_past),
        cmocka_unit_test(test_completion__random_entries_give_what_the_definition_says),
        cmocka_unit_test(test_completion__a_lack_of_memory_is_told_and_leaks_nothing),
        cmocka_unit_test(test_completion__a_truncated_or_longer_save_is_refused),
        cmocka_unit_test(test_completion__flipped_bits_never_break_more_than_the_load),
        cmocka_unit_test(test_completion__a_save_that_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
