/* What a client takes from routers: any frames, in any order, into the library's brain.
 *
 * Input: events. An octet, its low three bits say what, the others for whom; then what it needs.
 */
#include "client/session.h"
#include "proto/codec.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/rounds.h"

#define CLIENT_ID      0xc1
#define ROUTERS        2
#define OPERATIONS_MAX 32
#define TIMEOUT_MS     3000
#define EVENTS_MAX     64

#define FOR_A_TAG 16 /* added to whom: a range in place of a scan, a batch in place of a question */

enum event { FROM_ROUTER, LINK, TIME, READ, WRITE, OUTCOME, SCAN, ANSWER };

struct world {
    struct session *s;
    struct session_effects effects;
    struct arena arena;
    uint64_t now_ms;
    /* By the order in which they were taken. */
    bool completed[OPERATIONS_MAX];
    size_t operations_count, completed_count;
    /* Operations that a router owes the answer to. */
    uint64_t seqs[OPERATIONS_MAX];
    size_t seqs_count;
    uint64_t ack_below;
};

static volatile uint8_t touched;

/* Every byte of a view can be read. */
static void touch(struct bytes view)
{
    for (size_t i = 0; i < view.size; i++)
        touched = view.data[i];
}

static void on_completed(struct world *w, const struct session_completion *c)
{
    bool *completed = c->user;
    ENSURE(!*completed && (unsigned)c->status < STATUS_COUNT);
    *completed = true;
    w->completed_count++;
    if ((c->flags & ANSWER_VALUE) != 0)
        touch(c->value);
}

static void on_sent(struct world *w, struct bytes frame)
{
    struct request m;
    enum message_kind kind;
    ENSURE(rounds_frame(frame) && codec_peek(frame, &kind) == STATUS_OK);
    if (kind != MESSAGE_REQUEST)
        return;
    ENSURE(codec_unpack_request(frame, &w->arena, &m) == STATUS_OK && m.client_id == CLIENT_ID);
    ENSURE(m.ack_below >= w->ack_below && m.first_seq >= m.ack_below);
    w->ack_below = m.ack_below;
    for (size_t i = 0; i < m.count && w->seqs_count < OPERATIONS_MAX; i++)
        w->seqs[w->seqs_count++] = m.first_seq + i;
}

static void carry_out(struct world *w)
{
    for (size_t i = 0; i < w->effects.count; i++) {
        const struct session_effect *e = &w->effects.items[i];
        if (e->kind == SESSION_COMPLETED)
            on_completed(w, &e->completion);
        else if (e->kind == SESSION_SEND)
            on_sent(w, buffer_view(&e->frame));
    }
    session_effects_clear(&w->effects);
}

static void turn(struct world *w)
{
    session_tick(w->s, w->now_ms, &w->effects);
    carry_out(w);
    session_flush(w->s, w->now_ms, &w->effects);
    carry_out(w);
    ENSURE(session_pending(w->s) == w->operations_count - w->completed_count);
    ENSURE(session_ack_below(w->s) >= w->ack_below);
}

static void pass(struct world *w, uint64_t ms)
{
    for (uint64_t until_ms = w->now_ms + ms; w->now_ms < until_ms;) {
        uint64_t next_ms = session_deadline(w->s);
        w->now_ms = next_ms <= w->now_ms ? w->now_ms + 1 : next_ms < until_ms ? next_ms : until_ms;
        turn(w);
    }
}

static void message(struct world *w, uint32_t router, struct bytes frame)
{
    uint8_t *copy = fuzz_copy(frame);
    rounds_frame(frame);
    session_message(w->s, w->now_ms, router, bytes_of(copy, frame.size), &w->effects);
    free(copy);
    carry_out(w);
}

static void submit(struct world *w, struct session_operation *op)
{
    if (w->operations_count == OPERATIONS_MAX)
        return;
    op->user = &w->completed[w->operations_count];
    if (session_submit(w->s, w->now_ms, op, NULL) == STATUS_OK)
        w->operations_count++;
}

static void write(struct world *w, uint32_t mutation, struct bytes *rest)
{
    struct session_operation op = {.kind = KIND_WRITE, .key = feed_block(rest)};
    op.write.mutation = (enum mutation)(mutation % (MUTATION_SET_EXPIRY + 1));
    op.write.precondition = (enum precondition)(feed_octet(rest) % PRECONDITION_EXPIRY_AFTER);
    op.write.value = feed_block(rest);
    submit(w, &op);
}

/* A router answers all that it owes. */
static void answer(struct world *w, uint32_t router, struct bytes *rest)
{
    uint32_t statuses[OPERATIONS_MAX], flags[OPERATIONS_MAX];
    uint64_t zeros[OPERATIONS_MAX] = {0};
    struct bytes values[OPERATIONS_MAX];
    struct buffer out;
    uint32_t status = feed_octet(rest), all_flags = feed_short(rest);
    struct bytes value = feed_block(rest);
    for (size_t i = 0; i < OPERATIONS_MAX; i++) {
        statuses[i] = status;
        flags[i] = all_flags;
        values[i] = value;
    }
    struct answer m = {CLIENT_ID, 5, w->seqs_count, w->seqs, statuses, flags, zeros, zeros, values};
    buffer_init(&out, (size_t)4 << 20);
    ENSURE(codec_pack_answer(MESSAGE_ANSWER, &m, &out) == STATUS_OK);
    w->seqs_count = 0;
    message(w, router, buffer_view(&out));
    buffer_fini(&out);
}

static void step(struct world *w, struct bytes *rest)
{
    uint32_t octet = feed_octet(rest), whom = octet >> 3;
    struct session_operation op = {0};
    switch ((enum event)(octet & 7)) {
    case FROM_ROUTER:
        message(w, whom % ROUTERS, feed_block(rest));
        return;
    case LINK:
        session_router_connected(w->s, w->now_ms, whom % ROUTERS, (whom & 2) != 0, &w->effects);
        return;
    case TIME:
        pass(w, feed_short(rest) % 1000);
        return;
    case READ:
        op = (struct session_operation){.kind = KIND_READ, .key = feed_block(rest)};
        op.read.part = (enum read_part)(whom % 2);
        op.read.consistency = (enum consistency)(whom / 2 % 3);
        submit(w, &op);
        return;
    case WRITE:
        write(w, whom, rest);
        return;
    case OUTCOME:
        op.key = feed_block(rest);
        if (whom >= FOR_A_TAG) {
            op.kind = KIND_ATOMIC;
            op.atomic = feed_block(rest);
        } else {
            op.kind = KIND_OUTCOME;
            op.outcome = (struct outcome_query){CLIENT_ID, whom, 0};
        }
        submit(w, &op);
        return;
    case SCAN:
        op.key = feed_block(rest);
        op.kind = whom >= FOR_A_TAG ? KIND_RANGE : KIND_SCAN;
        op.scan.count_max = whom % FOR_A_TAG;
        if (op.kind == KIND_RANGE)
            op.scan.prefix = feed_block(rest);
        submit(w, &op);
        return;
    case ANSWER:
        answer(w, whom % ROUTERS, rest);
        return;
    }
}

static void world_init(struct world *w)
{
    struct session_options o = {.client_id = CLIENT_ID,
                                .seed = 1,
                                .timeout_ms = TIMEOUT_MS,
                                .window = OPERATIONS_MAX,
                                .routers_count = ROUTERS};
    *w = (struct world){.s = session_new(&o), .now_ms = 1000};
    ENSURE(w->s != NULL && session_effects_init(&w->effects) == STATUS_OK);
    arena_init(&w->arena);
    session_router_connected(w->s, w->now_ms, 0, true, &w->effects);
    turn(w);
}

static void world_fini(struct world *w)
{
    session_destroy(&w->s);
    session_effects_fini(&w->effects);
    arena_fini(&w->arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = bytes_of(data, size);
    struct world w;
    world_init(&w);
    for (unsigned i = 0; i < EVENTS_MAX && rest.size > 0; i++) {
        step(&w, &rest);
        turn(&w);
    }
    /* Whatever was said: each operation completes, once, at its deadline at the latest. */
    pass(&w, TIMEOUT_MS + 1);
    ENSURE(session_pending(w.s) == 0 && w.completed_count == w.operations_count);
    world_fini(&w);
    return 0;
}
