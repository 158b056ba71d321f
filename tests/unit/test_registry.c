#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/failing_memory.h"
#include "tests/unit/registry_world.h"

#define SEEDS     300
#define REGISTERS 1100
#define FOUNDED   2 /* the register that has a founding value; 1 has none */
#define HANDS     5
#define SENT_MAX  64

/* ---- Registries in the hand: what they say and log waits for the test ------------------------ */

struct sent {
    uint32_t to;
    struct buffer frame;
};

struct hand {
    struct registry *r;
    struct sent sent[SENT_MAX];
    size_t sent_count;
    struct world_record records[5 * REGISTERS];
    size_t logged;
    size_t ended;
    uint64_t ticket, version;
    enum registry_outcome outcome;
    char value[64];
};

static struct hand hands[HANDS];
static uint64_t now_ms;

static const struct registry_voters one = {.version = 1, .count = 1, .nodes = {0}};
static const struct registry_voters three = {.version = 1, .count = 3, .nodes = {0, 1, 2}};

static uint64_t hand_log(void *arg, struct bytes body)
{
    struct hand *h = arg;
    assert_true(h->logged < sizeof h->records / sizeof *h->records);
    size_t padded = (body.size + 7) & ~(size_t)7;
    uint8_t *data = __real_calloc(1, padded);
    memcpy(data, body.data, body.size);
    h->records[h->logged++] = (struct world_record){data, padded};
    return h->logged;
}

static void hand_send(void *arg, uint32_t node, const struct registry_message *m)
{
    struct hand *h = arg;
    assert_true(node < HANDS && h != &hands[node]);
    assert_true(h->sent_count < SENT_MAX);
    struct sent *s = &h->sent[h->sent_count++];
    s->to = node;
    buffer_init(&s->frame, 8u << 20);
    bool armed = failing_armed;
    failing_armed = false;
    assert_int_equal(codec_pack_registry(m, &s->frame), STATUS_OK);
    failing_armed = armed;
}

static void hand_ended(void *arg, uint64_t ticket, uint32_t number, enum registry_outcome outcome,
                       uint64_t version, struct bytes value)
{
    struct hand *h = arg;
    (void)number;
    h->ended++;
    h->ticket = ticket;
    h->outcome = outcome;
    h->version = version;
    snprintf(h->value, sizeof h->value, "%.*s", (int)value.size,
             value.size == 0 ? "" : (const char *)value.data);
}

static struct registry *hand_new(uint32_t node, uint64_t incarnation,
                                 const struct registry_voters *voters)
{
    const struct registry_options options = {
        .self = node, .incarnation = incarnation, .registers_count = REGISTERS, .random = node};
    const struct registry_host host = {&hands[node], hand_log, hand_send, hand_ended};
    return registry_new(&options, &host, voters);
}

static void hand_begin(uint32_t node, uint64_t incarnation, const struct registry_voters *voters)
{
    struct hand *h = &hands[node];
    h->r = hand_new(node, incarnation, voters);
    assert_non_null(h->r);
    assert_int_equal(registry_found(h->r, FOUNDED, bytes_text("founded")), STATUS_OK);
}

static int setup(void **state)
{
    (void)state;
    memset(hands, 0, sizeof hands);
    now_ms = 1000;
    for (uint32_t i = 0; i < HANDS; i++)
        hand_begin(i, 1, &three);
    return 0;
}

static void sent_clear(struct hand *h)
{
    while (h->sent_count > 0)
        buffer_fini(&h->sent[--h->sent_count].frame);
}

static void hand_end(struct hand *h)
{
    registry_destroy(&h->r);
    sent_clear(h);
    while (h->logged > 0)
        free(h->records[--h->logged].data);
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < HANDS; i++)
        hand_end(&hands[i]);
    return 0;
}

/* All hands hold a registry of these voters. */
static void again_with(const struct registry_voters *voters)
{
    for (uint32_t i = 0; i < HANDS; i++) {
        hand_end(&hands[i]);
        hand_begin(i, 1, voters);
    }
}

static void sync(uint32_t node)
{
    registry_durable(hands[node].r, now_ms, hands[node].logged);
    registry_flush(hands[node].r);
}

static enum status hear(uint32_t from, uint32_t to, struct bytes frame)
{
    struct arena arena;
    struct registry_message m;
    arena_init(&arena);
    bool armed = failing_armed;
    failing_armed = false;
    assert_int_equal(codec_unpack_registry(frame, &arena, &m), STATUS_OK);
    failing_armed = armed;
    enum status s = registry_message(hands[to].r, now_ms, from, &m);
    arena_fini(&arena);
    registry_flush(hands[to].r);
    return s;
}

/* What from has said to `to` so far: lost, or heard. Returns how many messages. */
static size_t pass(uint32_t from, uint32_t to, bool lost)
{
    struct hand *h = &hands[from];
    size_t count = 0, kept = 0;
    registry_flush(h->r);
    struct sent passed[SENT_MAX];
    for (size_t i = 0; i < h->sent_count; i++) {
        if (h->sent[i].to == to)
            passed[count++] = h->sent[i];
        else
            h->sent[kept++] = h->sent[i];
    }
    h->sent_count = kept;
    for (size_t i = 0; i < count; i++) {
        if (!lost)
            assert_int_equal(hear(from, to, buffer_view(&passed[i].frame)), STATUS_OK);
        buffer_fini(&passed[i].frame);
    }
    return count;
}

/* Everything that is said is heard, everything that is logged is durable, until nothing is left to
 * be done now. */
static void settle(void)
{
    for (bool busy = true; busy;) {
        busy = false;
        for (uint32_t i = 0; i < HANDS; i++) {
            registry_tick(hands[i].r, now_ms);
            sync(i);
            for (uint32_t k = 0; k < HANDS; k++)
                busy |= i != k && pass(i, k, false) > 0;
            busy |= hands[i].sent_count > 0;
        }
    }
    for (uint32_t i = 0; i < HANDS; i++)
        sync(i);
}

/* The only message that from has for `to`: its only step, or the first of many. */
static struct registry_message *said(uint32_t from, uint32_t to)
{
    static struct arena arena;
    static struct registry_message m;
    static bool ready;
    const struct sent *found = NULL;
    if (!ready)
        arena_init(&arena);
    ready = true;
    for (size_t i = 0; i < hands[from].sent_count; i++) {
        if (hands[from].sent[i].to != to)
            continue;
        assert_null(found);
        found = &hands[from].sent[i];
    }
    if (found == NULL)
        return NULL;
    arena_fini(&arena);
    arena_init(&arena);
    assert_int_equal(codec_unpack_registry(buffer_view(&found->frame), &arena, &m), STATUS_OK);
    return &m;
}

static void assert_ended(uint32_t node, enum registry_outcome outcome, uint64_t version,
                         const char *value)
{
    assert_int_equal(hands[node].ended, 1);
    assert_int_equal(hands[node].outcome, outcome);
    assert_int_equal(hands[node].version, version);
    assert_string_equal(hands[node].value, value);
    hands[node].ended = 0;
}

static void read_settled(uint32_t node, uint32_t number, uint64_t version, const char *value)
{
    assert_int_not_equal(registry_read(hands[node].r, now_ms, number), 0);
    settle();
    assert_ended(node, REGISTRY_DONE, version, value);
}

static uint64_t swap(uint32_t node, uint32_t number, uint64_t expected, const char *value)
{
    uint64_t ticket = registry_swap(hands[node].r, now_ms, number, expected, bytes_text(value));
    assert_int_not_equal(ticket, 0);
    registry_flush(hands[node].r);
    return ticket;
}

/* The next round of node's operations. */
static void retry(uint32_t node)
{
    now_ms = registry_deadline(hands[node].r);
    assert_true(now_ms != UINT64_MAX);
    registry_tick(hands[node].r, now_ms);
    registry_flush(hands[node].r);
}

/* A question by hand, as node 3 or 4 would ask it. */
static void question(uint32_t from, uint32_t to, enum registry_kind kind, uint64_t counter,
                     uint64_t voters_version)
{
    struct ballot ballot = {counter, from, 1};
    struct registry_writer writer = {from, 1, counter};
    struct bytes value = bytes_text("by hand");
    uint64_t version = 1;
    uint32_t kinds = kind, number = 1;
    const struct registry_message m = {.sender = from,
                                       .voters_version = voters_version,
                                       .count = 1,
                                       .kinds = &kinds,
                                       .registers = &number,
                                       .ballots = &ballot,
                                       .accepted = &(struct ballot){0},
                                       .versions = &version,
                                       .writers = &writer,
                                       .values = &value};
    assert_int_equal(registry_message(hands[to].r, now_ms, from, &m), STATUS_OK);
    registry_flush(hands[to].r);
}

static void assert_said(uint32_t from, uint32_t to, enum registry_kind kind)
{
    const struct registry_message *m = said(from, to);
    assert_non_null(m);
    assert_int_equal(m->count, 1);
    assert_int_equal(m->kinds[0], kind);
    pass(from, to, true);
}

/* ---- Operations ------------------------------------------------------------------------------ */

static void test_registry__a_voter_alone_ends_only_what_is_durable(void **state)
{
    (void)state;
    again_with(&one);
    uint64_t ticket = swap(0, 1, 0, "red");
    assert_int_equal(hands[0].ended, 0);
    registry_durable(hands[0].r, now_ms, 0);
    assert_int_equal(hands[0].ended, 0);
    sync(0); /* the promise */
    assert_int_equal(hands[0].ended, 0);
    assert_int_equal(hands[0].logged, 2);
    sync(0); /* the acceptance */
    assert_int_equal(hands[0].ticket, ticket);
    assert_ended(0, REGISTRY_DONE, 1, "red");
    assert_false(registry_busy(hands[0].r, 1));
}

static void test_registry__what_was_never_written_is_its_founding_value(void **state)
{
    (void)state;
    read_settled(4, FOUNDED, 1, "founded");
    read_settled(4, 1, 0, "");
    swap(3, FOUNDED, 1, "red");
    settle();
    assert_ended(3, REGISTRY_DONE, 2, "red");
    /* Founding again, as after a restart, changes nothing. */
    assert_int_equal(registry_found(hands[0].r, FOUNDED, bytes_text("founded")), STATUS_OK);
    read_settled(0, FOUNDED, 2, "red");
}

/* Whether it answers first or last. */
static void test_registry__a_voter_that_was_not_founded_does_not_matter(void **state)
{
    (void)state;
    for (uint32_t first = 0; first < 2; first++) {
        again_with(&three);
        registry_destroy(&hands[0].r);
        hands[0].r = hand_new(0, 1, &three);
        assert_int_not_equal(registry_read(hands[3].r, now_ms, FOUNDED), 0);
        for (uint32_t i = 0; i < 2; i++) {
            pass(3, first ^ i, false);
            sync(first ^ i);
            pass(first ^ i, 3, false);
        }
        settle();
        assert_ended(3, REGISTRY_DONE, 1, "founded");
    }
}

static void test_registry__one_operation_of_ours_at_a_time(void **state)
{
    (void)state;
    assert_int_not_equal(registry_read(hands[3].r, now_ms, 1), 0);
    assert_true(registry_busy(hands[3].r, 1));
    assert_int_equal(registry_read(hands[3].r, now_ms, 1), 0);
    assert_int_equal(registry_swap(hands[3].r, now_ms, 1, 0, bytes_text("red")), 0);
    assert_false(registry_busy(hands[3].r, FOUNDED));
    settle();
    assert_ended(3, REGISTRY_DONE, 0, "");
}

/* Invariant (6): what made the version move is itself written to a majority before it is told. */
static void test_registry__a_conflict_is_told_once_its_value_is_committed(void **state)
{
    (void)state;
    swap(3, 1, 0, "red");
    settle();
    assert_ended(3, REGISTRY_DONE, 1, "red");
    swap(4, 1, 0, "blue");
    for (uint32_t i = 0; i < 3; i++) {
        pass(4, i, false);
        sync(i);
        pass(i, 4, false);
    }
    assert_int_equal(hands[4].ended, 0);
    const struct registry_message *m = said(4, 0);
    assert_int_equal(m->kinds[0], REGISTRY_ACCEPT);
    assert_int_equal(m->versions[0], 1);
    assert_true(bytes_equal(m->values[0], bytes_text("red")));
    settle();
    assert_ended(4, REGISTRY_CONFLICT, 1, "red");
}

/* Node 3's value reached one voter; a read that sees it must not be told before a majority has it.
 */
static void test_registry__a_value_of_a_minority_is_committed_before_it_is_told(void **state)
{
    (void)state;
    uint64_t ticket = swap(3, 1, 0, "red");
    for (uint32_t i = 0; i < 2; i++) {
        pass(3, i, false);
        sync(i);
        pass(i, 3, false);
    }
    pass(3, 0, false); /* ACCEPT, to one of them only */
    pass(3, 1, true);
    pass(3, 2, true);
    registry_give_up(hands[3].r, ticket);
    settle();
    assert_int_not_equal(registry_read(hands[4].r, now_ms, 1), 0);
    for (uint32_t i = 0; i < 2; i++) {
        pass(4, i, false);
        sync(i);
        pass(i, 4, false);
    }
    assert_int_equal(hands[4].ended, 0);
    settle();
    assert_ended(4, REGISTRY_DONE, 1, "red");
    assert_int_equal(hands[3].ended, 0);
    read_settled(2, 1, 1, "red");
}

/* All answers to the second step are lost. */
static void test_registry__a_swap_finds_its_own_value_and_is_done(void **state)
{
    (void)state;
    swap(3, 1, 0, "red");
    for (uint32_t i = 0; i < 3; i++) {
        pass(3, i, false);
        sync(i);
        pass(i, 3, false);
    }
    for (uint32_t i = 0; i < 3; i++) {
        pass(3, i, false);
        sync(i);
        pass(i, 3, true);
    }
    assert_int_equal(hands[3].ended, 0);
    retry(3);
    settle();
    assert_ended(3, REGISTRY_DONE, 1, "red");
    read_settled(4, 1, 1, "red");
}

static void test_registry__a_swap_that_was_overtaken_is_a_conflict(void **state)
{
    (void)state;
    swap(3, 1, 0, "red");
    for (uint32_t i = 0; i < 3; i++)
        pass(3, i, true);
    swap(4, 1, 0, "blue");
    settle();
    assert_ended(4, REGISTRY_DONE, 1, "blue");
    retry(3);
    settle();
    assert_ended(3, REGISTRY_CONFLICT, 1, "blue");
}

static void test_registry__what_is_given_up_does_not_end(void **state)
{
    (void)state;
    uint64_t ticket = swap(3, 1, 0, "red");
    registry_give_up(hands[3].r, ticket + (1u << 16)); /* of no operation */
    assert_true(registry_busy(hands[3].r, 1));
    registry_give_up(hands[3].r, ticket);
    assert_false(registry_busy(hands[3].r, 1));
    settle();
    assert_int_equal(hands[3].ended, 0);
    read_settled(3, 1, 0, "");
    registry_give_up(hands[3].r, ticket);
}

/* ---- Ballots --------------------------------------------------------------------------------- */

/* Invariant (3), and the pace: doubling, with a jitter of half of it. */
static void test_registry__each_round_has_a_higher_ballot_and_waits_longer(void **state)
{
    (void)state;
    swap(3, 1, 0, "red");
    uint64_t counter = 0, base = 20;
    for (int round = 0; round < 12; round++) {
        const struct registry_message *m = said(3, 0);
        assert_int_equal(m->kinds[0], REGISTRY_PREPARE);
        assert_true(m->ballots[0].counter > counter);
        assert_int_equal(m->ballots[0].node, 3);
        assert_int_equal(m->ballots[0].incarnation, 1);
        counter = m->ballots[0].counter;
        assert_in_range(registry_deadline(hands[3].r) - now_ms, base / 2, base / 2 + base);
        base = base * 2 > 500 ? 500 : base * 2;
        for (uint32_t i = 0; i < 3; i++)
            pass(3, i, true);
        retry(3);
    }
    settle();
    assert_ended(3, REGISTRY_DONE, 1, "red");
    /* A wake-up may be left over, but only one. */
    registry_tick(hands[3].r, now_ms + 10000);
    assert_true(registry_deadline(hands[3].r) == UINT64_MAX);
}

static void test_registry__who_is_refused_goes_above_what_was_shown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        question(4, i, REGISTRY_PREPARE, 1000, 1);
    swap(3, 1, 0, "red");
    for (uint32_t i = 0; i < 3; i++) {
        pass(3, i, false);
        pass(i, 3, false); /* a refusal does not wait for the disk */
    }
    assert_int_equal(registry_deadline(hands[3].r), now_ms);
    retry(3);
    assert_true(said(3, 0)->ballots[0].counter > 1000);
    settle();
    assert_ended(3, REGISTRY_DONE, 1, "red");
}

/* Who is refused again and again backs off, and leaps: otherwise it would never catch up with a
 * proposer that goes on in between. */
static void test_registry__who_is_refused_again_backs_off_and_leaps(void **state)
{
    (void)state;
    swap(3, 1, 0, "red");
    uint64_t base = 20;
    for (uint64_t round = 0; round < 20; round++) {
        uint64_t counter = said(3, 0)->ballots[0].counter;
        for (uint32_t i = 0; i < 3; i++) {
            question(4, i, REGISTRY_PREPARE, counter + 100, 1);
            sync(i);
            pass(i, 4, true);
            pass(3, i, false);
            pass(i, 3, false);
        }
        if (round > 0) {
            assert_in_range(registry_deadline(hands[3].r) - now_ms, base / 2, base / 2 + base);
            base = base * 2 > 500 ? 500 : base * 2;
        }
        retry(3);
        uint64_t leap = 1u << (round + 1 < 16 ? round + 1 : 16);
        assert_int_equal(said(3, 0)->ballots[0].counter, counter + 100 + leap);
    }
    settle();
    assert_ended(3, REGISTRY_DONE, 1, "red");
}

/* A single refusal does not end a round that has a majority. */
static void test_registry__one_refusal_does_not_stop_a_majority(void **state)
{
    (void)state;
    question(4, 0, REGISTRY_PREPARE, 1000, 1);
    swap(3, 1, 0, "red");
    for (int step = 0; step < 2; step++) {
        for (uint32_t i = 0; i < 3; i++) {
            pass(3, i, false);
            sync(i);
            pass(i, 3, false);
        }
    }
    assert_ended(3, REGISTRY_DONE, 1, "red");
}

static void test_registry__answers_to_an_older_ballot_are_ignored(void **state)
{
    (void)state;
    swap(3, 1, 0, "red");
    for (uint32_t i = 0; i < 3; i++)
        pass(3, i, false);
    retry(3);
    for (uint32_t i = 0; i < 3; i++) {
        pass(3, i, true);
        sync(i);
        pass(i, 3, false);
    }
    assert_null(said(3, 0)); /* no ACCEPT */
    retry(3);
    settle();
    assert_ended(3, REGISTRY_DONE, 1, "red");
}

static void test_registry__an_answer_that_comes_twice_counts_once(void **state)
{
    (void)state;
    swap(3, 1, 0, "red");
    pass(3, 0, false);
    sync(0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(hear(0, 3, buffer_view(&hands[0].sent[0].frame)), STATUS_OK);
    assert_int_equal(pass(3, 0, true), 0);
    settle();
    assert_ended(3, REGISTRY_DONE, 1, "red");
}

/* ---- The acceptor ---------------------------------------------------------------------------- */

/* Invariant (4) */
static void test_registry__nothing_is_answered_before_it_is_durable(void **state)
{
    (void)state;
    question(3, 0, REGISTRY_PREPARE, 5, 1);
    assert_null(said(0, 3));
    question(3, 0, REGISTRY_PREPARE, 5, 1); /* once more: it waits, too, and is not logged again */
    assert_null(said(0, 3));
    assert_int_equal(hands[0].logged, 1);
    sync(0);
    assert_int_equal(said(0, 3)->count, 2);
    pass(0, 3, true);
    question(3, 0, REGISTRY_PREPARE, 5, 1);
    assert_said(0, 3, REGISTRY_PREPARED);
    question(3, 0, REGISTRY_ACCEPT, 5, 1);
    assert_null(said(0, 3));
    sync(0);
    assert_said(0, 3, REGISTRY_ACCEPTED);
    question(3, 0, REGISTRY_ACCEPT, 5, 1);
    assert_said(0, 3, REGISTRY_ACCEPTED);
    assert_int_equal(hands[0].logged, 2);
    question(3, 0, REGISTRY_ACCEPT, 4, 1);
    assert_said(0, 3, REGISTRY_REFUSED);
    assert_int_equal(hands[0].logged, 2);
}

/* The promise became durable, but what was accepted under a higher ballot has not. */
static void test_registry__a_promise_that_was_overtaken_is_not_answered(void **state)
{
    (void)state;
    question(3, 0, REGISTRY_PREPARE, 5, 1);
    question(4, 0, REGISTRY_ACCEPT, 6, 1);
    registry_durable(hands[0].r, now_ms, 1);
    registry_flush(hands[0].r);
    assert_said(0, 3, REGISTRY_REFUSED);
    assert_null(said(0, 4));
    sync(0);
    assert_said(0, 4, REGISTRY_ACCEPTED);
}

/* Its proposer is beyond the promise, and what it accepted since is not durable. */
static void test_registry__a_promise_that_was_used_is_not_answered(void **state)
{
    (void)state;
    question(3, 0, REGISTRY_PREPARE, 5, 1);
    question(3, 0, REGISTRY_ACCEPT, 5, 1);
    registry_durable(hands[0].r, now_ms, 1);
    registry_flush(hands[0].r);
    assert_null(said(0, 3));
    sync(0);
    assert_said(0, 3, REGISTRY_ACCEPTED);
}

static void restart(uint32_t node, struct bytes blob, size_t from, size_t to)
{
    struct hand *h = &hands[node];
    registry_destroy(&h->r);
    hand_begin(node, 2, &three);
    if (blob.size > 0)
        assert_int_equal(registry_restore(h->r, blob), STATUS_OK);
    for (size_t i = from; i < to; i++)
        assert_int_equal(registry_replay(h->r, bytes_of(h->records[i].data, h->records[i].size)),
                         STATUS_OK);
}

static void assert_remembers(uint32_t node)
{
    question(4, node, REGISTRY_PREPARE, 6, 1); /* the promise was 7 */
    assert_said(node, 4, REGISTRY_REFUSED);
    question(4, node, REGISTRY_PREPARE, 9, 1);
    sync(node);
    const struct registry_message *m = said(node, 4);
    assert_int_equal(m->kinds[0], REGISTRY_PREPARED);
    assert_int_equal(m->accepted[0].counter, 5);
    assert_int_equal(m->versions[0], 1);
    assert_int_equal(m->writers[0].nonce, 5);
    assert_true(bytes_equal(m->values[0], bytes_text("by hand")));
    pass(node, 4, true);
}

static void test_registry__an_acceptor_remembers_over_a_restart(void **state)
{
    (void)state;
    question(4, 0, REGISTRY_ACCEPT, 5, 1);
    question(4, 0, REGISTRY_PREPARE, 7, 1);
    restart(0, BYTES_EMPTY, 0, 2);
    assert_remembers(0);
}

/* With nothing to replay, with all of it again, and with what came after the blob. */
static void test_registry__a_saved_blob_restores(void **state)
{
    (void)state;
    struct buffer blob;
    buffer_init(&blob, 1 << 20);
    assert_false(registry_changed(hands[0].r));
    question(4, 0, REGISTRY_ACCEPT, 5, 1);
    assert_true(registry_changed(hands[0].r));
    assert_int_equal(registry_save(hands[0].r, &blob), STATUS_OK);
    assert_false(registry_changed(hands[0].r));
    question(4, 0, REGISTRY_PREPARE, 7, 1);
    restart(0, buffer_view(&blob), 1, 2);
    assert_true(registry_changed(hands[0].r));
    buffer_clear(&blob);
    assert_int_equal(registry_save(hands[0].r, &blob), STATUS_OK);
    assert_remembers(0);
    for (size_t from = 0; from <= 2; from++) {
        restart(0, buffer_view(&blob), from, 2);
        assert_int_equal(registry_changed(hands[0].r), from < 2);
        assert_remembers(0);
    }
    buffer_fini(&blob);
}

/* A log may be replayed that ends before what the blob holds. */
static void test_registry__older_records_do_not_undo_a_blob(void **state)
{
    (void)state;
    static const struct registry_voters second = {.version = 2, .count = 1, .nodes = {3}};
    struct registry_voters v;
    struct buffer blob;
    buffer_init(&blob, 1 << 20);
    question(4, 0, REGISTRY_PREPARE, 2, 1);
    question(4, 0, REGISTRY_ACCEPT, 3, 1);
    question(4, 0, REGISTRY_ACCEPT, 5, 1);
    question(4, 0, REGISTRY_PREPARE, 7, 1);
    assert_int_equal(registry_save(hands[0].r, &blob), STATUS_OK);
    restart(0, buffer_view(&blob), 0, 2);
    assert_remembers(0);
    /* A set that was logged and is not yet obeyed is in the blob, too. */
    registry_set_voters(hands[0].r, &second);
    buffer_clear(&blob);
    assert_int_equal(registry_save(hands[0].r, &blob), STATUS_OK);
    restart(0, buffer_view(&blob), 0, 0);
    registry_voters(hands[0].r, &v);
    assert_int_equal(v.version, 2);
    assert_int_equal(v.nodes[0], 3);
    buffer_fini(&blob);
}

static void test_registry__a_blob_for_which_there_is_no_room_is_not_begun(void **state)
{
    (void)state;
    struct buffer blob;
    question(4, 0, REGISTRY_ACCEPT, 5, 1);
    for (size_t room = 5; room < 120; room++) {
        buffer_init(&blob, room);
        assert_int_equal(buffer_append(&blob, bytes_text("abc")), STATUS_OK);
        assert_int_equal(registry_save(hands[0].r, &blob), STATUS_NOMEMORY);
        assert_int_equal(blob.size, 3);
        assert_true(registry_changed(hands[0].r));
        buffer_fini(&blob);
    }
}

static enum status replayed(bool is_blob, const uint8_t *data, size_t size)
{
    struct registry *r = hand_new(0, 2, &three);
    uint8_t *exact = malloc(size + 1); /* ends where the sanitizer sees it */
    memcpy(exact, data, size);
    struct bytes bytes = bytes_of(exact, size);
    enum status s = is_blob ? registry_restore(r, bytes) : registry_replay(r, bytes);
    free(exact);
    registry_destroy(&r);
    return s;
}

static void test_registry__what_was_damaged_does_not_replay(void **state)
{
    (void)state;
    static const struct registry_voters joint = {
        .version = 2, .count = 3, .next_count = 3, .nodes = {0, 1, 2}, .next = {1, 2, 3}};
    struct buffer blob;
    buffer_init(&blob, 1 << 20);
    question(4, 0, REGISTRY_ACCEPT, 5, 1);
    question(4, 0, REGISTRY_PREPARE, 7, 1);
    registry_set_voters(hands[0].r, &joint);
    assert_int_equal(registry_save(hands[0].r, &blob), STATUS_OK);
    for (size_t size = 0; size <= blob.size; size++)
        assert_int_equal(replayed(true, blob.data, size),
                         size == blob.size ? STATUS_OK : STATUS_CORRUPT);
    assert_int_equal(hands[0].logged, 3);
    for (size_t i = 0; i < 3; i++) {
        struct world_record *record = &hands[0].records[i];
        assert_int_equal(replayed(false, record->data, record->size), STATUS_OK);
        for (size_t size = 0; size + 8 <= record->size; size++)
            assert_int_equal(replayed(false, record->data, size), STATUS_CORRUPT);
        for (int kind = 0; kind < 5; kind += 4) { /* unknown ones */
            uint8_t was = record->data[0];
            record->data[0] = (uint8_t)kind;
            assert_int_equal(replayed(false, record->data, record->size), STATUS_CORRUPT);
            record->data[0] = was;
        }
    }
    /* A register that is none; what was done under voters that nothing tells of. */
    uint8_t *promise = hands[0].records[1].data;
    bytes_put_le32(promise + 4, REGISTERS);
    assert_int_equal(replayed(false, promise, hands[0].records[1].size), STATUS_CORRUPT);
    bytes_put_le32(promise + 4, 1);
    bytes_put_le64(promise + 8, 2);
    assert_int_equal(replayed(false, promise, hands[0].records[1].size), STATUS_CORRUPT);
    /* Voters: nobody, and one twice. */
    uint8_t *voters = hands[0].records[2].data;
    bytes_put_le32(voters + 24, 1);
    assert_int_equal(replayed(false, voters, hands[0].records[2].size), STATUS_CORRUPT);
    buffer_fini(&blob);
}

/* ---- Voters ---------------------------------------------------------------------------------- */

/* Invariant (5) */
static void test_registry__questions_of_other_sets_are_refused_or_wait(void **state)
{
    (void)state;
    static const struct registry_voters second = {.version = 2, .count = 3, .nodes = {0, 1, 3}};
    question(4, 0, REGISTRY_PREPARE, 5, 2);
    sync(0);
    assert_null(said(0, 4));
    registry_set_voters(hands[0].r, &second);
    question(4, 0, REGISTRY_PREPARE, 5, 2);
    sync(0); /* now it is obeyed */
    assert_null(said(0, 4));
    question(4, 0, REGISTRY_PREPARE, 5, 2);
    sync(0);
    assert_said(0, 4, REGISTRY_PREPARED);
    question(4, 0, REGISTRY_PREPARE, 6, 1);
    assert_int_equal(said(0, 4)->voters_version, 2);
    assert_said(0, 4, REGISTRY_REFUSED);
    question(4, 2, REGISTRY_PREPARE, 5, 1);
    sync(2);
    assert_said(2, 4, REGISTRY_PREPARED);
    registry_set_voters(hands[2].r, &second);
    sync(2);
    question(4, 2, REGISTRY_PREPARE, 6, 2); /* no voter any more */
    sync(2);
    assert_null(said(2, 4));
}

static void test_registry__a_set_is_obeyed_once_durable_and_never_given_back(void **state)
{
    (void)state;
    static const struct registry_voters second = {.version = 2, .count = 1, .nodes = {3}};
    struct registry_voters v;
    registry_set_voters(hands[0].r, &second);
    registry_set_voters(hands[0].r, &second);
    assert_int_equal(hands[0].logged, 1);
    registry_voters(hands[0].r, &v);
    assert_int_equal(v.version, 1);
    assert_true(registry_is_voter(hands[0].r, 1));
    sync(0);
    registry_voters(hands[0].r, &v);
    assert_int_equal(v.version, 2);
    assert_false(registry_is_voter(hands[0].r, 1));
    assert_true(registry_is_voter(hands[0].r, 3));
    registry_set_voters(hands[0].r, &three);
    sync(0);
    restart(0, BYTES_EMPTY, 0, hands[0].logged);
    registry_voters(hands[0].r, &v);
    assert_int_equal(v.version, 2);
    assert_int_equal(v.nodes[0], 3);
}

static void set_voters(const struct registry_voters *v)
{
    for (uint32_t i = 0; i < HANDS; i++) {
        registry_set_voters(hands[i].r, v);
        sync(i);
    }
}

/* Voters 0 1 2 become 2 3 4: in between neither set is enough alone. */
static void test_registry__a_joint_set_needs_a_majority_of_both(void **state)
{
    (void)state;
    static const struct registry_voters joint = {
        .version = 2, .count = 3, .next_count = 3, .nodes = {0, 1, 2}, .next = {2, 3, 4}};
    set_voters(&joint);
    for (uint32_t silent = 0; silent <= 3; silent += 3) {
        swap(2, 1, silent / 3, "red");
        for (int round = 0; round < 3; round++) {
            for (uint32_t i = 0; i < HANDS; i++) {
                pass(2, i, i == silent || i == silent + 1);
                sync(i);
                if (i != 2)
                    pass(i, 2, false);
            }
        }
        assert_int_equal(hands[2].ended, 0);
        retry(2);
        for (int round = 0; round < 4; round++) {
            for (uint32_t i = 0; i < HANDS; i++) {
                pass(2, i, i == silent); /* one of each is enough beside 2 */
                sync(i);
                if (i != 2)
                    pass(i, 2, false);
            }
        }
        assert_ended(2, REGISTRY_DONE, silent / 3 + 1, "red");
    }
}

static void test_registry__what_is_under_way_begins_again_with_new_voters(void **state)
{
    (void)state;
    static const struct registry_voters joint = {
        .version = 2, .count = 3, .next_count = 1, .nodes = {0, 1, 2}, .next = {4}};
    swap(3, 1, 0, "red");
    pass(3, 0, false);
    uint64_t counter = said(3, 1)->ballots[0].counter;
    pass(3, 1, true);
    pass(3, 2, true);
    set_voters(&joint);
    assert_true(said(3, 4)->ballots[0].counter > counter);
    assert_int_equal(said(3, 4)->voters_version, 2);
    settle();
    assert_ended(3, REGISTRY_DONE, 1, "red");
}

/* What was asked under a set leaves under its name, and what is asked again under the new one's. */
static void test_registry__questions_keep_the_name_of_their_set(void **state)
{
    (void)state;
    static const struct registry_voters second = {.version = 2, .count = 3, .nodes = {0, 1, 2}};
    assert_int_not_equal(registry_read(hands[3].r, now_ms, 1), 0);
    registry_set_voters(hands[3].r, &second);
    registry_durable(hands[3].r, now_ms, hands[3].logged);
    assert_int_equal(said(3, 0)->voters_version, 1);
    for (uint32_t i = 0; i < 3; i++)
        pass(3, i, true);
    set_voters(&second);
    settle();
    assert_int_equal(hands[3].ended, 0); /* lost */
    retry(3);
    assert_int_equal(said(3, 0)->voters_version, 2);
    settle();
    assert_ended(3, REGISTRY_DONE, 0, "");
}

/* ---- Many at once ---------------------------------------------------------------------------- */

static void test_registry__many_registers_take_one_message_for_each_peer_and_step(void **state)
{
    (void)state;
    enum { COUNT = 1024 };
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_not_equal(
            registry_swap(hands[0].r, now_ms, 10 + i, 0, bytes_text("sixty bytes or so")), 0);
    for (int step = 0; step < 2; step++) {
        registry_flush(hands[0].r);
        assert_int_equal(said(0, 1)->count, COUNT);
        assert_int_equal(said(0, 2)->count, COUNT);
        assert_int_equal(hands[0].sent_count, 2);
        for (uint32_t i = 1; i < 3; i++)
            pass(0, i, false);
        sync(0);
        for (uint32_t i = 1; i < 3; i++) {
            sync(i);
            assert_int_equal(said(i, 0)->count, COUNT);
            pass(i, 0, false);
        }
    }
    assert_int_equal(hands[0].ended, COUNT);
    assert_int_equal(hands[0].sent_count, 0);
    /* They go on together when they are lost together. */
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_not_equal(registry_read(hands[0].r, now_ms, 10 + i), 0);
    pass(0, 1, true);
    pass(0, 2, true);
    retry(0);
    assert_int_equal(said(0, 1)->count, COUNT);
}

static void test_registry__what_is_too_much_for_one_message_takes_more(void **state)
{
    (void)state;
    enum { COUNT = 1090 };
    static uint8_t octets[REGISTRY_VALUE_SIZE_MAX];
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_not_equal(registry_swap(hands[3].r, now_ms, 1 + i, i + 1 == FOUNDED ? 1 : 0,
                                           bytes_of(octets, sizeof octets)),
                             0);
    for (size_t step = 1; step <= 2; step++) {
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(pass(3, i, false), step);
        for (uint32_t i = 0; i < 3; i++) {
            sync(i);
            pass(i, 3, false);
        }
    }
    assert_int_equal(hands[3].ended, COUNT);
}

/* ---- What may not be ------------------------------------------------------------------------- */

static void test_registry__a_malformed_message_does_nothing(void **state)
{
    (void)state;
    static const uint8_t octets[REGISTRY_VALUE_SIZE_MAX + 1];
    for (int wrong = 0; wrong < 8; wrong++) {
        uint32_t kinds[] = {REGISTRY_PREPARE, REGISTRY_PREPARE}, numbers[] = {1, 1};
        struct ballot ballots[] = {{5, 3, 1}, {6, 3, 1}}, accepted[2] = {{0}};
        uint64_t versions[2] = {0};
        struct registry_writer writers[2] = {{0}};
        struct bytes values[2] = {{0}};
        kinds[1] = wrong == 1 ? 0 : wrong == 2 ? 6 : wrong == 3 ? REGISTRY_PREPARED : kinds[1];
        numbers[1] = wrong == 4 ? REGISTERS : 1;
        values[1] = bytes_of(octets, wrong == 5 ? sizeof octets : 0);
        ballots[1].counter = wrong == 6 ? 0 : wrong == 7 ? UINT64_MAX : 6;
        const struct registry_message m = {.count = 2,
                                           .voters_version = 1,
                                           .kinds = kinds,
                                           .registers = numbers,
                                           .ballots = ballots,
                                           .accepted = accepted,
                                           .versions = versions,
                                           .writers = writers,
                                           .values = values};
        size_t before = hands[0].logged;
        assert_int_equal(registry_message(hands[0].r, now_ms, wrong == 0 ? 4 : 3, &m),
                         STATUS_MALFORMED);
        assert_int_equal(hands[0].logged, before);
    }
}

/* Wherever memory runs out once, the operation ends all the same. */
static void test_registry__memory_that_runs_out_is_like_a_lost_message(void **state)
{
    (void)state;
    bool failed = true;
    uint64_t failures = 0;
    for (uint64_t after = 0; failed; after++) {
        again_with(&three);
        uint64_t ticket = 0;
        failing_memory_arm(after);
        while (ticket == 0)
            ticket = registry_swap(hands[0].r, now_ms, 1, 0, bytes_text("red"));
        for (int round = 0; round < 5 && hands[0].ended == 0; round++) {
            for (uint32_t i = 1; i < 3; i++) {
                pass(0, i, false);
                sync(i);
                pass(i, 0, false);
            }
            sync(0);
        }
        failed = failing_memory_disarm();
        failures += failed;
        while (hands[0].ended == 0) {
            retry(0);
            settle();
        }
        assert_ended(0, REGISTRY_DONE, 1, "red");
    }
    assert_true(failures > 10);
}

static void test_registry__one_that_finds_no_memory_is_not_made(void **state)
{
    (void)state;
    struct registry *r = NULL;
    for (uint64_t after = 0; r == NULL; after++) {
        failing_memory_arm(after);
        r = hand_new(0, 1, &three);
        assert_int_equal(failing_memory_disarm(), r == NULL);
        assert_true(after < 20);
    }
    failing_memory_arm(0);
    assert_int_equal(registry_found(r, FOUNDED, bytes_text("founded")), STATUS_NOMEMORY);
    failing_memory_disarm();
    registry_destroy(&r);
    assert_null(r);
    registry_destroy(&r);
}

/* ---- Random worlds --------------------------------------------------------------------------- */

static void add(struct registry_world_result *sum, const struct registry_world_result *r)
{
    sum->reads += r->reads;
    sum->swaps_done += r->swaps_done;
    sum->conflicts += r->conflicts;
    sum->in_doubt += r->in_doubt;
    sum->crashes += r->crashes;
    sum->changes += r->changes;
    sum->frames += r->frames;
    sum->lost += r->lost;
}

static struct registry_world_result run_worlds(bool restarts)
{
    struct registry_world_result sum = {.failure = ""};
    const char *seeds = getenv("DUET_REGISTRY_SEEDS");
    uint64_t last = seeds == NULL ? SEEDS : strtoull(seeds, NULL, 10);
    for (uint64_t seed = 1; seed <= last; seed++) {
        struct registry_world_result r;
        registry_world_run(seed, restarts, &r);
        if (r.failure[0] != 0)
            print_error("seed %" PRIu64 ": %s\n", seed, r.failure);
        assert_string_equal(r.failure, "");
        add(&sum, &r);
    }
    print_message("%" PRIu64 " reads, %" PRIu64 " swaps done, %" PRIu64 " conflicts, %" PRIu64
                  " in doubt, %" PRIu64 " crashes, %" PRIu64 " changes of voters, %" PRIu64
                  " messages (%" PRIu64 " lost)\n",
                  sum.reads, sum.swaps_done, sum.conflicts, sum.in_doubt, sum.crashes, sum.changes,
                  sum.frames, sum.lost);
    return sum;
}

static void test_registry__random_worlds_keep_all_promises(void **state)
{
    (void)state;
    struct registry_world_result r = run_worlds(false);
    /* The test would be blind if little happened. */
    assert_true(r.reads > SEEDS && r.swaps_done > SEEDS && r.conflicts > SEEDS);
    assert_true(r.in_doubt > SEEDS && r.crashes > SEEDS && r.changes > SEEDS && r.lost > SEEDS);
}

static void test_registry__a_proposer_whose_power_fails_keeps_all_promises(void **state)
{
    (void)state;
    struct registry_world_result r = run_worlds(true);
    assert_true(r.swaps_done > SEEDS && r.in_doubt > SEEDS && r.crashes > SEEDS);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_registry__##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_voter_alone_ends_only_what_is_durable),
        CASE(what_was_never_written_is_its_founding_value),
        CASE(a_voter_that_was_not_founded_does_not_matter),
        CASE(one_operation_of_ours_at_a_time),
        CASE(a_conflict_is_told_once_its_value_is_committed),
        CASE(a_value_of_a_minority_is_committed_before_it_is_told),
        CASE(a_swap_finds_its_own_value_and_is_done),
        CASE(a_swap_that_was_overtaken_is_a_conflict),
        CASE(what_is_given_up_does_not_end),
        CASE(each_round_has_a_higher_ballot_and_waits_longer),
        CASE(who_is_refused_goes_above_what_was_shown),
        CASE(who_is_refused_again_backs_off_and_leaps),
        CASE(one_refusal_does_not_stop_a_majority),
        CASE(answers_to_an_older_ballot_are_ignored),
        CASE(an_answer_that_comes_twice_counts_once),
        CASE(nothing_is_answered_before_it_is_durable),
        CASE(a_promise_that_was_overtaken_is_not_answered),
        CASE(a_promise_that_was_used_is_not_answered),
        CASE(an_acceptor_remembers_over_a_restart),
        CASE(a_saved_blob_restores),
        CASE(older_records_do_not_undo_a_blob),
        CASE(a_blob_for_which_there_is_no_room_is_not_begun),
        CASE(what_was_damaged_does_not_replay),
        CASE(questions_of_other_sets_are_refused_or_wait),
        CASE(a_set_is_obeyed_once_durable_and_never_given_back),
        CASE(a_joint_set_needs_a_majority_of_both),
        CASE(what_is_under_way_begins_again_with_new_voters),
        CASE(questions_keep_the_name_of_their_set),
        CASE(many_registers_take_one_message_for_each_peer_and_step),
        CASE(what_is_too_much_for_one_message_takes_more),
        CASE(a_malformed_message_does_nothing),
        CASE(memory_that_runs_out_is_like_a_lost_message),
        CASE(one_that_finds_no_memory_is_not_made),
        cmocka_unit_test(test_registry__random_worlds_keep_all_promises),
        cmocka_unit_test(test_registry__a_proposer_whose_power_fails_keeps_all_promises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
