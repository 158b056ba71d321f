/* The checker is judged itself: by a thousand histories of a store that is right, by histories of
 * stores that are wrong in a known way, and by brute force for small ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/checker.h"
#include "tests/sim/random.h"
#include "tests/sim/texts.h"

#define OPERATIONS_MAX 600

/* A store with one key, written down once more and differently, that serves random sessions. */
struct plan {
    size_t count;
    unsigned sessions; /* concurrent ones */
    unsigned pipeline; /* operations one session has under way */
    uint32_t doubt_per_mille;
    bool clients;        /* writes keep their order, those in doubt too */
    bool versions;       /* answers carry them */
    unsigned increments; /* of ten writes */
};

struct history {
    struct checker_operation ops[OPERATIONS_MAX];
    uint64_t point[OPERATIONS_MAX]; /* when it took effect, 0: never */
    size_t count;
};

static struct checker_value text_value(int64_t n)
{
    return (struct checker_value){.present = true, .n = n};
}

static void ask(struct random *r, const struct plan *plan, size_t i, struct checker_operation *op)
{
    memset(op, 0, sizeof *op);
    op->read = random_chance(r, 400);
    if (op->read)
        return;
    op->want = (enum want)random_below(r, 3);
    op->precondition =
        random_chance(r, 500) ? PRECONDITION_NONE : (enum precondition)random_below(r, 5);
    op->mutation = random_chance(r, 150) ? MUTATION_DELETE : MUTATION_PUT;
    if (random_below(r, 10) < plan->increments) {
        op->mutation = MUTATION_INCREMENT;
        op->delta = (int64_t)random_range(r, 1, 3);
    }
    if (op->mutation == MUTATION_PUT) {
        op->value = text_value((int64_t)i + 1);
        op->value.number = plan->increments > 0 && random_chance(r, 800);
    }
}

/* Intervals: each session keeps at most `pipeline` operations under way, answered in order of their
 * points, which are in order of invocation. */
static void lay_out(struct random *r, const struct plan *plan, struct history *h)
{
    uint64_t busy_until[16][4] = {{0}}, last_point[16] = {0};
    h->count = plan->count;
    for (size_t i = 0; i < h->count; i++) {
        struct checker_operation *op = &h->ops[i];
        ask(r, plan, i, op);
        size_t session = random_below(r, plan->sessions);
        uint64_t *slot = &busy_until[session][random_below(r, plan->pipeline)];
        uint64_t start = *slot + 1 + random_below(r, 20);
        if (start < (uint64_t)i * 4)
            start = (uint64_t)i * 4;
        /* A session's operations are numbered in the order in which they are asked. */
        for (size_t j = i; j-- > 0;)
            if (h->ops[j].session == session + 1) {
                start = start > h->ops[j].invoked ? start : h->ops[j].invoked + 1;
                break;
            }
        op->session = session + 1;
        op->client = plan->clients ? session + 1 : 0;
        op->invoked = start;
        uint64_t point = start + random_below(r, 30);
        if (point <= last_point[session])
            point = last_point[session] + 1;
        last_point[session] = point;
        op->returned = point + random_below(r, 30);
        *slot = op->returned;
        h->point[i] = point;
        op->outcome = CHECKER_DONE;
        if (random_chance(r, plan->doubt_per_mille)) {
            op->outcome = CHECKER_IN_DOUBT;
            uint64_t later = plan->clients ? 0 : random_below(r, 200);
            h->point[i] = random_chance(r, 500) ? 0 : point + later;
        }
    }
}

struct register_now {
    struct checker_value value;
    struct version version;
};

static void answer_write(const struct plan *plan, struct checker_operation *op,
                         struct register_now *now, struct version place)
{
    struct checker_value before = now->value;
    bool same_version = before.present && now->version.seq == op->expected.seq;
    bool same_value = before.present && op->expected_value.present &&
                      before.n == op->expected_value.n &&
                      before.number == op->expected_value.number;
    bool holds = op->precondition == PRECONDITION_NONE ||
                 (op->precondition == PRECONDITION_ABSENT && !before.present) ||
                 (op->precondition == PRECONDITION_PRESENT && before.present) ||
                 (op->precondition == PRECONDITION_VERSION && same_version) ||
                 (op->precondition == PRECONDITION_VALUE && same_value);
    op->status = holds ? STATUS_OK : STATUS_CONDITION;
    if (holds && op->mutation == MUTATION_DELETE && !before.present)
        op->status = STATUS_NOTFOUND;
    if (holds && op->mutation == MUTATION_INCREMENT && before.present && !before.number)
        op->status = STATUS_NOTNUMBER;
    if (op->status == STATUS_OK) {
        if (op->mutation == MUTATION_PUT)
            now->value = op->value;
        if (op->mutation == MUTATION_DELETE)
            now->value = (struct checker_value){0};
        if (op->mutation == MUTATION_INCREMENT)
            now->value =
                (struct checker_value){.present = true,
                                       .number = true,
                                       .n = (before.present ? before.n : 0) + op->delta};
        now->version = place;
    }
    op->version = plan->versions ? place : (struct version){0};
    bool failed = op->status == STATUS_CONDITION;
    if (op->want != WANT_NOTHING && (failed || op->status == STATUS_OK)) {
        op->value_seen = failed || op->want == WANT_OLD ? before : now->value;
        op->has_value = op->value_seen.present;
    }
}

static void answer_read(const struct plan *plan, struct checker_operation *op,
                        const struct register_now *now)
{
    op->status = now->value.present ? STATUS_OK : STATUS_NOTFOUND;
    op->has_value = now->value.present;
    op->value_seen = now->value;
    if (plan->versions && now->value.present)
        op->version = now->version;
}

/* Let the operations take effect in the order of their points. */
static void serve(struct random *r, const struct plan *plan, struct history *h)
{
    struct register_now now = {0};
    for (uint64_t seq = 1;; seq++) {
        size_t next = SIZE_MAX;
        for (size_t i = 0; i < h->count; i++)
            if (h->point[i] != 0 && (next == SIZE_MAX || h->point[i] < h->point[next]))
                next = i;
        if (next == SIZE_MAX)
            return;
        struct checker_operation *op = &h->ops[next];
        h->point[next] = 0;
        /* Conditions that sometimes hold: on what is there now, or on something else. */
        op->expected = random_chance(r, 600) && now.value.present
                           ? now.version
                           : (struct version){1, seq > 3 ? seq - 3 : 100000};
        op->expected_value =
            random_chance(r, 600) && now.value.present ? now.value : text_value(-5);
        if (op->read)
            answer_read(plan, op, &now);
        else
            answer_write(plan, op, &now, (struct version){1, seq});
        if (op->outcome == CHECKER_IN_DOUBT) {
            op->version = (struct version){0};
            op->has_value = false;
            op->returned = 0;
        }
    }
}

static void make(struct random *r, const struct plan *plan, struct history *h)
{
    memset(h, 0, sizeof *h);
    lay_out(r, plan, h);
    serve(r, plan, h);
    /* What never happened may have had any condition. */
    for (size_t i = 0; i < h->count; i++)
        if (!h->ops[i].expected_value.present)
            h->ops[i].expected_value = text_value(-5);
}

static bool changes(const struct checker_operation *op)
{
    return !op->read && op->outcome == CHECKER_DONE && op->status == STATUS_OK &&
           op->mutation != MUTATION_NONE;
}

/* Writes of a client in the order of their asking. */
static bool client_allows(const struct history *h, const bool *used, size_t i)
{
    const struct checker_operation *op = &h->ops[i];
    for (size_t j = 0; j < h->count; j++) {
        const struct checker_operation *other = &h->ops[j];
        if (op->read || op->client == 0 || other->client != op->client || !changes(other))
            continue;
        bool missing = other->invoked < op->invoked && !used[j];
        bool overtaken = other->invoked > op->invoked && used[j];
        if (overtaken || (missing && changes(op)))
            return false;
    }
    return true;
}

/* Brute force: try every order that time and sessions allow. */
static bool may_be_next(const struct history *h, const bool *used, size_t i)
{
    const struct checker_operation *op = &h->ops[i];
    for (size_t j = 0; j < h->count; j++) {
        const struct checker_operation *other = &h->ops[j];
        if (j == i || used[j] || other->outcome != CHECKER_DONE)
            continue;
        if (other->returned < op->invoked)
            return false;
        if (op->outcome == CHECKER_DONE && other->session == op->session && op->session != 0 &&
            other->invoked < op->invoked && !(op->read && other->read))
            return false;
    }
    return client_allows(h, used, i);
}

static bool brute_force(const struct history *h, bool *used, struct checker_state state)
{
    bool all = true;
    for (size_t i = 0; i < h->count; i++)
        all &= used[i] || h->ops[i].outcome != CHECKER_DONE;
    if (all)
        return true;
    for (size_t i = 0; i < h->count; i++) {
        struct checker_state after = state;
        if (used[i] || h->ops[i].outcome == CHECKER_NOT_DONE || !may_be_next(h, used, i) ||
            !checker_step(&h->ops[i], &after))
            continue;
        used[i] = true;
        bool found = brute_force(h, used, after);
        used[i] = false;
        if (found)
            return true;
    }
    return false;
}

static enum checker_verdict judge(const struct history *h)
{
    struct checker_result result;
    checker_judge(h->ops, h->count, 0, &result);
    return result.verdict;
}

static void show(const struct history *h)
{
    for (size_t i = 0; i < h->count; i++) {
        char line[400];
        checker_describe(&h->ops[i], line, sizeof line);
        print_message("%zu %s\n", i, line);
    }
}

/* Break an answer at random; often, but not always, nothing fits any more. */
static void damage(struct random *r, struct history *h)
{
    struct checker_operation *op = &h->ops[random_below(r, h->count)];
    struct checker_operation *other = &h->ops[random_below(r, h->count)];
    switch (random_below(r, 6)) {
    case 0:
        op->value_seen.n += 1;
        break;
    case 1:
        op->status = op->status == STATUS_OK ? STATUS_CONDITION : STATUS_OK;
        break;
    case 2:
        op->value_seen = other->value_seen;
        op->version = other->version;
        break;
    case 3:
        op->outcome = CHECKER_NOT_DONE;
        break;
    case 4:
        op->invoked = other->invoked;
        if (op->returned < op->invoked)
            op->returned = op->invoked + 1;
        break;
    default:
        op->version.seq = other->version.seq;
        break;
    }
}

static struct plan random_plan(struct random *r, size_t count_max)
{
    return (struct plan){
        .count = random_range(r, 1, count_max),
        .sessions = (unsigned)random_range(r, 1, 12),
        .pipeline = (unsigned)random_range(r, 1, 3),
        .doubt_per_mille = random_chance(r, 400) ? 0 : (uint32_t)random_below(r, 60),
        .clients = random_chance(r, 500),
        .versions = random_chance(r, 700),
        .increments = (unsigned)random_below(r, 10),
    };
}

static void test_checker__a_thousand_good_histories_are_good(void **state)
{
    (void)state;
    static struct history h;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        struct random r;
        random_init(&r, seed);
        struct plan plan = random_plan(&r, 200);
        make(&r, &plan, &h);
        if (judge(&h) != CHECKER_GOOD) {
            show(&h);
            fail_msg("seed %d: a good history was refused (verdict %d)", (int)seed, (int)judge(&h));
        }
    }
}

static void test_checker__brute_force_agrees_on_small_histories(void **state)
{
    (void)state;
    static struct history h;
    unsigned broken = 0, good = 0;
    for (uint64_t seed = 1; seed <= 6000; seed++) {
        struct random r;
        random_init(&r, seed);
        struct plan plan = random_plan(&r, 8);
        plan.doubt_per_mille *= 6;
        make(&r, &plan, &h);
        for (uint64_t i = random_below(&r, 3); i > 0; i--)
            damage(&r, &h);
        bool used[OPERATIONS_MAX] = {false};
        bool expected = brute_force(&h, used, (struct checker_state){0});
        expected ? good++ : broken++;
        if (judge(&h) != (expected ? CHECKER_GOOD : CHECKER_BROKEN)) {
            show(&h);
            fail_msg("seed %d: brute force says %s", (int)seed, expected ? "good" : "broken");
        }
    }
    assert_true(broken > 1000);
    assert_true(good > 1000);
}

/* A history of plain puts and gets, and one thing wrong in it. */
typedef bool break_fn(struct random *r, struct history *h);

static bool break_stale_read(struct random *r, struct history *h)
{
    /* A read that began after a write was answered shows what that write replaced. */
    for (size_t tries = 0; tries < 2000; tries++) {
        struct checker_operation *read = &h->ops[random_below(r, h->count)];
        const struct checker_operation *older = &h->ops[random_below(r, h->count)];
        const struct checker_operation *newer = &h->ops[random_below(r, h->count)];
        if (!read->read || read->outcome != CHECKER_DONE || older->read || newer->read ||
            older->outcome != CHECKER_DONE || newer->outcome != CHECKER_DONE ||
            older->returned >= newer->invoked || newer->returned >= read->invoked ||
            older->mutation != MUTATION_PUT || older->status != STATUS_OK ||
            newer->mutation != MUTATION_PUT || newer->status != STATUS_OK)
            continue;
        read->status = STATUS_OK;
        read->has_value = true;
        read->value_seen = older->value;
        read->version = older->version;
        return true;
    }
    return false;
}

static bool break_lost_write(struct random *r, struct history *h)
{
    /* A put that was answered and read is missing. */
    for (size_t tries = 0; tries < 2000; tries++) {
        struct checker_operation *put = &h->ops[random_below(r, h->count)];
        const struct checker_operation *read = &h->ops[random_below(r, h->count)];
        if (put->read || put->mutation != MUTATION_PUT || put->status != STATUS_OK || !read->read ||
            read->outcome != CHECKER_DONE || !read->has_value ||
            read->value_seen.n != put->value.n || read->value_seen.number != put->value.number)
            continue;
        put->outcome = CHECKER_NOT_DONE;
        return true;
    }
    return false;
}

static bool break_unwritten_value(struct random *r, struct history *h)
{
    struct checker_operation *read = &h->ops[random_below(r, h->count)];
    if (!read->read || read->outcome != CHECKER_DONE)
        return false;
    read->status = STATUS_OK;
    read->has_value = true;
    read->value_seen = text_value(777777);
    return true;
}

static bool break_version_order(struct random *r, struct history *h)
{
    /* Two writes, one after the other in time, with versions in the other order. */
    for (size_t tries = 0; tries < 2000; tries++) {
        struct checker_operation *a = &h->ops[random_below(r, h->count)];
        struct checker_operation *b = &h->ops[random_below(r, h->count)];
        if (a->read || b->read || a->outcome != CHECKER_DONE || b->outcome != CHECKER_DONE ||
            a->returned >= b->invoked || a->version.seq == 0 || b->version.seq == 0)
            continue;
        struct version v = a->version;
        a->version = b->version;
        b->version = v;
        return true;
    }
    return false;
}

static void expect_broken(break_fn *fn, struct plan plan)
{
    static struct history h;
    unsigned made = 0;
    for (uint64_t seed = 1; made < 250 && seed < 5000; seed++) {
        struct random r;
        random_init(&r, seed);
        plan.count = random_range(&r, 20, 150);
        plan.sessions = (unsigned)random_range(&r, 2, 8);
        make(&r, &plan, &h);
        if (!fn(&r, &h))
            continue;
        made++;
        if (judge(&h) != CHECKER_BROKEN) {
            show(&h);
            fail_msg("seed %d: a broken history was taken for good", (int)seed);
        }
    }
    assert_int_equal(made, 250);
}

static void test_checker__a_stale_read_is_found(void **state)
{
    (void)state;
    expect_broken(break_stale_read, (struct plan){.pipeline = 1, .versions = true});
    expect_broken(break_stale_read, (struct plan){.pipeline = 1, .doubt_per_mille = 20});
}

static void test_checker__a_lost_write_is_found(void **state)
{
    (void)state;
    expect_broken(break_lost_write, (struct plan){.pipeline = 2, .versions = true});
}

static void test_checker__a_value_that_nobody_wrote_is_found(void **state)
{
    (void)state;
    expect_broken(break_unwritten_value,
                  (struct plan){.pipeline = 2, .versions = true, .doubt_per_mille = 20});
}

static void test_checker__versions_against_the_time_are_found(void **state)
{
    (void)state;
    expect_broken(break_version_order,
                  (struct plan){.pipeline = 1, .versions = true, .increments = 5});
}

static struct checker_operation increment(uint64_t invoked, uint64_t returned, int64_t seen)
{
    return (struct checker_operation){.mutation = MUTATION_INCREMENT,
                                      .delta = 1,
                                      .want = WANT_NEW,
                                      .invoked = invoked,
                                      .outcome = CHECKER_DONE,
                                      .returned = returned,
                                      .status = STATUS_OK,
                                      .has_value = true,
                                      .value_seen = {.present = true, .number = true, .n = seen}};
}

static void test_checker__a_doubled_increment_is_found(void **state)
{
    (void)state;
    struct history h = {.count = 3};
    h.ops[0] = increment(1, 2, 1);
    h.ops[1] = increment(3, 4, 2);
    h.ops[2] = increment(5, 6, 3);
    assert_int_equal(judge(&h), CHECKER_GOOD);
    h.ops[2].value_seen.n = 4;
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    /* An increment in doubt explains it, once. */
    h.count = 4;
    h.ops[3] = increment(2, 0, 0);
    h.ops[3].outcome = CHECKER_IN_DOUBT;
    assert_int_equal(judge(&h), CHECKER_GOOD);
    h.ops[2].value_seen.n = 5;
    assert_int_equal(judge(&h), CHECKER_BROKEN);
}

static struct checker_operation change(enum mutation mutation, uint64_t at, const char *value,
                                       const char *seen)
{
    return (struct checker_operation){.mutation = mutation,
                                      .value = texts_parse(bytes_text(value)),
                                      .want = WANT_NEW,
                                      .invoked = at,
                                      .outcome = CHECKER_DONE,
                                      .returned = at + 1,
                                      .status = STATUS_OK,
                                      .has_value = true,
                                      .value_seen = texts_parse(bytes_text(seen))};
}

static void test_checker__changes_of_a_part_are_followed(void **state)
{
    (void)state;
    struct history h = {.count = 4};
    h.ops[0] = change(MUTATION_APPEND, 1, "12", "12");
    h.ops[1] = change(MUTATION_APPEND, 3, "3", "123");
    h.ops[2] = change(MUTATION_INCREMENT_DECIMAL, 5, "-0.5", "122.5");
    h.ops[3] = change(MUTATION_SET_RANGE, 7, "R", "12R.5");
    h.ops[3].offset = 2;
    assert_int_equal(judge(&h), CHECKER_GOOD);
    /* A doubled append. */
    h.count = 2;
    h.ops[1].value_seen = texts_parse(bytes_text("1233"));
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    /* One that is in doubt explains it. */
    h.count = 3;
    h.ops[2] = change(MUTATION_APPEND, 2, "3", "");
    h.ops[2].outcome = CHECKER_IN_DOUBT;
    assert_int_equal(judge(&h), CHECKER_GOOD);
    /* A set range that was lost. */
    h.count = 2;
    h.ops[0] = change(MUTATION_SET_RANGE, 1, "ab", "ab");
    h.ops[1] = change(MUTATION_SET_RANGE, 3, "c", "c");
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.ops[1].value_seen = texts_parse(bytes_text("cb"));
    assert_int_equal(judge(&h), CHECKER_GOOD);
    texts_fini();
}

static struct checker_operation put_until(uint64_t at, int64_t n, int64_t expiry)
{
    return (struct checker_operation){.mutation = MUTATION_PUT,
                                      .value = text_value(n),
                                      .expiry = expiry,
                                      .invoked = at,
                                      .returned = at + 1};
}

static struct checker_operation read_at(uint64_t at, int64_t n)
{
    return (struct checker_operation){.read = true,
                                      .invoked = at,
                                      .returned = at + 1,
                                      .status = n == 0 ? STATUS_NOTFOUND : STATUS_OK,
                                      .has_value = n != 0,
                                      .value_seen = text_value(n)};
}

static struct checker_operation lapse_at(uint64_t at, int64_t at_ms)
{
    return (struct checker_operation){.lapse = true,
                                      .mutation = MUTATION_DELETE,
                                      .at_ms = at_ms,
                                      .invoked = at,
                                      .returned = at + 1};
}

static void test_checker__a_key_goes_by_a_lapse_and_only_then(void **state)
{
    (void)state;
    struct history h = {.count = 4};
    h.ops[0] = put_until(1, 1, 1000);
    h.ops[1] = read_at(3, 1);
    h.ops[2] = lapse_at(5, 1000);
    h.ops[3] = read_at(7, 0);
    assert_int_equal(judge(&h), CHECKER_GOOD);
    h.ops[2].at_ms = 999; /* too early */
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.ops[2].at_ms = 1000;
    h.ops[0].expiry = 0; /* it had none */
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.ops[0].expiry = EXPIRY_SOME; /* nobody knows which */
    assert_int_equal(judge(&h), CHECKER_GOOD);
    h.ops[0].expiry = 1000;
    h.ops[3] = read_at(7, 1); /* there again after it went */
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.count = 2;
    h.ops[1] = read_at(3, 0); /* gone without a lapse */
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.ops[1] = read_at(3, 1); /* shown though all clocks were past it */
    h.ops[1].clocks_ms = 1000;
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.ops[1].clocks_ms = 999;
    assert_int_equal(judge(&h), CHECKER_GOOD);
}

static void test_checker__expiries_are_followed(void **state)
{
    (void)state;
    struct history h = {.count = 4};
    h.ops[0] = put_until(1, 1, EXPIRY_SOME);
    h.ops[1] = read_at(3, 1);
    h.ops[1].of_expiry = true;
    h.ops[1].value_seen = (struct checker_value){.present = true, .number = true, .n = 500};
    h.ops[2] = (struct checker_operation){.mutation = MUTATION_SET_EXPIRY,
                                          .expiry = 700,
                                          .precondition = PRECONDITION_EXPIRY_BEFORE,
                                          .invoked = 5,
                                          .returned = 6};
    h.ops[3] = h.ops[1];
    h.ops[3].value_seen.n = 700;
    h.ops[3].invoked = 7;
    h.ops[3].returned = 8;
    assert_int_equal(judge(&h), CHECKER_GOOD);
    h.ops[3].value_seen.n = 500; /* lost */
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.ops[3].value_seen.n = 700;
    h.ops[2].precondition = PRECONDITION_EXPIRY_AFTER; /* 500 is not after 700 */
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.ops[2].precondition = PRECONDITION_EXPIRY_NONE;
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.ops[2] = (struct checker_operation){.mutation = MUTATION_PUT_KEEP_EXPIRY,
                                          .value = text_value(2),
                                          .invoked = 5,
                                          .returned = 6};
    h.ops[3].value_seen.n = 500;
    assert_int_equal(judge(&h), CHECKER_GOOD);
    h.ops[2].mutation = MUTATION_PUT; /* clears it */
    assert_int_equal(judge(&h), CHECKER_BROKEN);
}

static void test_checker__a_read_before_the_sessions_own_write_is_found(void **state)
{
    (void)state;
    struct history h = {.count = 2};
    h.ops[0] = (struct checker_operation){.mutation = MUTATION_PUT,
                                          .value = text_value(1),
                                          .session = 1,
                                          .invoked = 1,
                                          .returned = 10};
    h.ops[1] = (struct checker_operation){
        .read = true, .session = 1, .invoked = 2, .returned = 9, .status = STATUS_NOTFOUND};
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.ops[1].session = 2;
    assert_int_equal(judge(&h), CHECKER_GOOD);
}

static void test_checker__a_write_in_doubt_after_a_later_one_of_its_client_is_found(void **state)
{
    (void)state;
    struct history h = {.count = 3};
    h.ops[0] = (struct checker_operation){.mutation = MUTATION_PUT,
                                          .value = text_value(1),
                                          .client = 1,
                                          .invoked = 1,
                                          .outcome = CHECKER_IN_DOUBT};
    h.ops[1] = (struct checker_operation){
        .mutation = MUTATION_PUT, .value = text_value(2), .client = 1, .invoked = 2, .returned = 3};
    h.ops[2] = (struct checker_operation){
        .read = true, .invoked = 4, .returned = 5, .has_value = true, .value_seen = text_value(1)};
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.ops[0].client = 2;
    assert_int_equal(judge(&h), CHECKER_GOOD);
}

static void test_checker__a_version_that_nobody_heard_is_bounded_by_its_neighbours(void **state)
{
    (void)state;
    struct history h = {.count = 4};
    h.ops[0] = (struct checker_operation){.mutation = MUTATION_PUT,
                                          .value = text_value(1),
                                          .invoked = 1,
                                          .returned = 2,
                                          .version = {1, 1}};
    h.ops[1] = (struct checker_operation){.mutation = MUTATION_PUT,
                                          .value = text_value(2),
                                          .invoked = 3,
                                          .outcome = CHECKER_IN_DOUBT};
    h.ops[2] = (struct checker_operation){.mutation = MUTATION_PUT,
                                          .value = text_value(3),
                                          .precondition = PRECONDITION_ABSENT,
                                          .invoked = 5,
                                          .returned = 6,
                                          .status = STATUS_CONDITION,
                                          .version = {1, 5}};
    h.ops[3] = (struct checker_operation){.read = true,
                                          .invoked = 7,
                                          .returned = 8,
                                          .status = STATUS_OK,
                                          .has_value = true,
                                          .value_seen = text_value(2),
                                          .version = {1, 3}};
    assert_int_equal(judge(&h), CHECKER_GOOD);
    h.ops[3].version.seq = 1;
    assert_int_equal(judge(&h), CHECKER_BROKEN);
    h.ops[3].version.seq = 7; /* it came after the failed put, too */
    assert_int_equal(judge(&h), CHECKER_GOOD);
}

static void test_checker__a_long_history_takes_few_steps(void **state)
{
    (void)state;
    static struct history h;
    struct random r;
    random_init(&r, 99);
    struct plan plan = {.count = OPERATIONS_MAX,
                        .sessions = 12,
                        .pipeline = 3,
                        .versions = true,
                        .increments = 4,
                        .doubt_per_mille = 10};
    make(&r, &plan, &h);
    struct checker_result result;
    checker_judge(h.ops, h.count, 0, &result);
    assert_int_equal(result.verdict, CHECKER_GOOD);
    assert_true(result.steps < 200u * OPERATIONS_MAX);
}

static void test_checker__gives_up_honestly(void **state)
{
    (void)state;
    struct history h = {.count = 3};
    h.ops[0] = increment(1, 2, 1);
    h.ops[1] = increment(3, 4, 2);
    h.ops[2] = increment(5, 6, 3);
    struct checker_result result;
    checker_judge(h.ops, h.count, 1, &result);
    assert_int_equal(result.verdict, CHECKER_UNDECIDED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checker__a_doubled_increment_is_found),
        cmocka_unit_test(test_checker__changes_of_a_part_are_followed),
        cmocka_unit_test(test_checker__a_key_goes_by_a_lapse_and_only_then),
        cmocka_unit_test(test_checker__expiries_are_followed),
        cmocka_unit_test(test_checker__a_read_before_the_sessions_own_write_is_found),
        cmocka_unit_test(test_checker__a_write_in_doubt_after_a_later_one_of_its_client_is_found),
        cmocka_unit_test(test_checker__a_version_that_nobody_heard_is_bounded_by_its_neighbours),
        cmocka_unit_test(test_checker__a_thousand_good_histories_are_good),
        cmocka_unit_test(test_checker__brute_force_agrees_on_small_histories),
        cmocka_unit_test(test_checker__a_stale_read_is_found),
        cmocka_unit_test(test_checker__a_lost_write_is_found),
        cmocka_unit_test(test_checker__a_value_that_nobody_wrote_is_found),
        cmocka_unit_test(test_checker__versions_against_the_time_are_found),
        cmocka_unit_test(test_checker__a_long_history_takes_few_steps),
        cmocka_unit_test(test_checker__gives_up_honestly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
