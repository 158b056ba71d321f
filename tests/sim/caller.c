#include "tests/sim/caller.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/session.h"
#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "tests/sim/machine.h"
#include "tests/sim/memory.h"
#include "tests/sim/texts.h"
#include "tests/sim/world.h"

#define OUTCOME_TIMEOUT_MS 3000
#define WALK_TIMEOUT_MS    10000

/* What a completion belongs to: an item of the history, or a question about one. */
struct ticket {
    size_t item;
    uint32_t count; /* of a batch, or of a range: so many items, from this one on */
    bool outcome, page, range;
};

struct caller {
    struct world *world;
    struct random random;
    uint32_t index;
    struct world_clock clock;
    struct session *session;
    struct session_effects effects;
    uint32_t sockets[WORLD_ROUTERS_MAX];
    uint64_t timer_us;
    bool acting;         /* effects are being carried out */
    uint64_t connection; /* raised whenever one is lost: order is kept within one (W8) */

    uint32_t wanted;                              /* operations still to be made up */
    uint32_t under_way;                           /* of them, asked and not heard of */
    bool thinking;                                /* the next one is due at some time */
    struct ticket tickets[CLIENT_WINDOW_MAX + 1]; /* user pointers point here */
    bool ticket_used[CLIENT_WINDOW_MAX + 1];
    caller_row_fn *row; /* of the walk under way */
    void *row_arg;
    bool *walk_ended, walked;
    struct buffer cursor;
    bool page_due;
    size_t doubts[CLIENT_WINDOW_MAX]; /* items whose outcome is to be asked for */
    size_t doubts_count;
};

static uint64_t now_ms(const struct caller *c)
{
    return world_clock_ms(c->world, &c->clock);
}

struct caller *caller_new(struct world *w, uint32_t index)
{
    struct caller *c = calloc(1, sizeof *c);
    ENSURE(c != NULL);
    c->world = w;
    c->index = index;
    random_init(&c->random, w->seed * 3000017 + index);
    world_clock_draw(&c->clock, &c->random, CLOCK_WRONG_PPM);
    struct session_options options = {.client_id = random_next(&c->random) | 1,
                                      .seed = random_next(&c->random),
                                      .window = w->knobs.window,
                                      .routers_count = w->knobs.routers};
    c->session = session_new(&options);
    ENSURE(c->session != NULL);
    ENSURE(session_effects_init(&c->effects) == STATUS_OK);
    buffer_init(&c->cursor, 4096);
    return c;
}

void caller_destroy(struct caller **c_p)
{
    struct caller *c = *c_p;
    if (c == NULL)
        return;
    session_destroy(&c->session);
    session_effects_fini(&c->effects);
    buffer_fini(&c->cursor);
    free(c);
    *c_p = NULL;
}

uint32_t caller_router(const struct caller *c)
{
    return session_router(c->session);
}

uint32_t caller_pending(const struct caller *c)
{
    return session_pending(c->session);
}

void caller_count(struct caller *c)
{
    const struct session_counters *s = session_counters(c->session);
    c->world->reached[REACH_failovers] += s->failovers;
    c->world->reached[REACH_sent_again] += s->sent_again;
}

bool caller_finished(const struct caller *c)
{
    return c->wanted == 0;
}

/* ---------------------------------------------------------------- the session's hands */

static void think(struct caller *c);
static void ask_outcome(struct caller *c, size_t item);
static void ask_page(struct caller *c);

/* Operations of one number take effect in the order of their asking, where the links keep it. */
static uint64_t session_number(const struct caller *c)
{
    if (c->world->knobs.weather[NETWORK_ROUTER].datagrams)
        return 0;
    return c->connection << 8 | session_router(c->session) << 4 | (c->index + 1);
}

static void take_page(struct caller *c, const struct session_completion *done)
{
    struct arena arena;
    struct scan_page page;
    arena_init(&arena);
    arena_reset(&arena, 64u << 20);
    *c->walk_ended = true;
    if (done->status == STATUS_OK &&
        codec_unpack_scan_page(done->value, &arena, &page) == STATUS_OK) {
        c->world->reached[REACH_pages]++;
        for (size_t i = 0; i < page.count; i++)
            c->row(c->row_arg, page.keys[i], page.values[i]);
        buffer_clear(&c->cursor);
        ENSURE(buffer_append(&c->cursor, page.next) == STATUS_OK);
        c->page_due = page.next.size > 0;
        c->walked = page.next.size == 0;
        *c->walk_ended = !c->page_due;
    }
    arena_fini(&arena);
}

/* ---------------------------------------------------------------- several keys */

static bool is_failure(enum status status)
{
    return status != STATUS_OK && status != STATUS_NOTFOUND;
}

/* What was heard of one of a batch. Where nothing was changed, those that did not fail were checks. */
static void hear_part(struct caller *c, const struct ticket *t, uint32_t i,
                      const struct history_heard *all, const struct atomic_answer *m)
{
    struct history_item *item = &c->world->history.items[t->item + i];
    struct history_heard heard = {.status = (enum status)m->statuses[i],
                                  .flags = (all->flags & ~ANSWER_VALUE) | m->flags[i],
                                  .version = all->version,
                                  .value = m->values[i]};
    item->batch_status = all->status;
    if (m->dropped)
        item->op.want = WANT_NOTHING;
    if (all->status != STATUS_OK && heard.status == STATUS_OK)
        item->op.mutation = MUTATION_NONE;
    if (t->outcome)
        history_settle(c->world, t->item + i, &heard);
    else
        history_hear(c->world, t->item + i, &heard);
}

/* All, or nothing and then why. */
static void check_together(struct caller *c, enum status all, const struct atomic_answer *m)
{
    bool fails = false, explained = all == STATUS_OK;
    for (size_t i = 0; i < m->count; i++) {
        fails = fails || is_failure((enum status)m->statuses[i]);
        explained = explained || m->statuses[i] == (uint32_t)all;
    }
    if (fails == (all == STATUS_OK) || !explained)
        world_fail(c->world, "I7", "client %u hears %s of an atomic batch whose parts do not say so",
                   c->index, status_name(all));
    c->world->reached[all == STATUS_OK ? REACH_batches : REACH_batches_failed]++;
    c->world->reached[REACH_batches_dropped] += m->dropped;
}

static void hear_batch(struct caller *c, const struct ticket *t, const struct history_heard *heard)
{
    struct arena arena;
    struct atomic_answer m;
    arena_init(&arena);
    arena_reset(&arena, 16u << 20);
    bool told = (heard->flags & ANSWER_VALUE) != 0 &&
                codec_unpack_atomic_answer(heard->value, &arena, &m) == STATUS_OK &&
                m.count == t->count;
    if (told)
        check_together(c, heard->status, &m);
    for (uint32_t i = 0; i < t->count; i++) {
        if (told)
            hear_part(c, t, i, heard, &m);
        else if (t->outcome)
            history_settle(c->world, t->item + i, heard);
        else
            history_hear(c->world, t->item + i, heard);
    }
    arena_fini(&arena);
}

/* A key that the page does not tell of was not asked for after all. */
static void hear_row(struct caller *c, size_t number, const struct scan_page *m)
{
    char name[32];
    struct history_heard heard = {.status = STATUS_NOTFOUND};
    history_key(c->world->history.items[number].key, name);
    if (m->next.size > 0 && bytes_compare(bytes_text(name), m->next) >= 0)
        heard.status = STATUS_UNAVAILABLE;
    for (size_t i = 0; i < m->count; i++)
        if (bytes_equal(m->keys[i], bytes_text(name)))
            heard = (struct history_heard){.status = STATUS_OK,
                                           .flags = ANSWER_VALUE,
                                           .version = {m->epochs[i], m->seqs[i]},
                                           .value = m->values[i]};
    history_hear(c->world, number, &heard);
}

static void hear_range(struct caller *c, const struct ticket *t, const struct history_heard *heard)
{
    struct arena arena;
    struct scan_page m;
    arena_init(&arena);
    arena_reset(&arena, 16u << 20);
    bool told = heard->status == STATUS_OK &&
                codec_unpack_scan_page(heard->value, &arena, &m) == STATUS_OK;
    for (uint32_t i = 0; i < t->count; i++) {
        if (told)
            hear_row(c, t->item + i, &m);
        else
            history_hear(c->world, t->item + i, heard);
    }
    arena_fini(&arena);
}

/* Rule R6: the answer to a read says how it was made sure of. */
static void check_says_how(struct caller *c, const struct checker_operation *op,
                           const struct session_completion *done)
{
    uint32_t says = done->flags & (ANSWER_ANY | ANSWER_CONFIRMED), is = 0;
    bool answered = done->status == STATUS_OK || done->status == STATUS_NOTFOUND;
    if (op->read && answered && op->consistency == CONSISTENCY_ANY)
        is = ANSWER_ANY;
    if (op->read && answered && op->consistency == CONSISTENCY_CONFIRM)
        is = ANSWER_CONFIRMED;
    if (says != is)
        world_fail(c->world, "R6", "client %u hears flags %x of its operation %" PRIu64, c->index,
                   done->flags, done->seq);
}

static void completed(struct caller *c, const struct session_completion *done)
{
    struct ticket *t = done->user;
    struct ticket ticket = *t;
    struct history_heard heard = {.status = done->status,
                                  .flags = done->flags,
                                  .version = done->version,
                                  .value = done->value};
    c->ticket_used[t - c->tickets] = false;
    uint8_t words[32];
    bytes_put_le64(words, c->index);
    bytes_put_le64(words + 8, done->seq);
    bytes_put_le64(words + 16, (uint64_t)done->status << 32 | done->flags);
    bytes_put_le64(words + 24, done->version.seq);
    world_note(c->world, 2, bytes_of(words, sizeof words));
    world_say(c->world, "c%u  %" PRIu64 "%s: %s%s (%" PRIu64 ",%" PRIu64 ") %.*s", c->index,
              done->seq, ticket.outcome ? " (outcome)" : "", status_name(done->status),
              done->flags & ANSWER_IN_DOUBT ? " in doubt" : "", done->version.epoch,
              done->version.seq, done->flags & ANSWER_VALUE ? (int)(done->value.size % 40) : 0,
              (const char *)done->value.data);
    if (ticket.page) {
        take_page(c, done);
        return;
    }
    if (ticket.outcome) {
        if (ticket.count > 0)
            hear_batch(c, &ticket, &heard);
        else
            history_settle(c->world, ticket.item, &heard);
        return;
    }
    if (c->under_way > 0)
        c->under_way--;
    if (ticket.range) {
        hear_range(c, &ticket, &heard);
        think(c);
        return;
    }
    check_says_how(c, &c->world->history.items[ticket.item].op, done);
    for (uint32_t i = 0; i == 0 || i < ticket.count; i++) {
        struct history_item *item = &c->world->history.items[ticket.item + i];
        if (item->op.session != session_number(c))
            item->op.session = 0;
    }
    if (ticket.count > 0)
        hear_batch(c, &ticket, &heard);
    else
        history_hear(c->world, ticket.item, &heard);
    if (c->world->history.items[ticket.item].op.outcome == CHECKER_IN_DOUBT &&
        random_chance(&c->random, c->world->knobs.outcome_per_mille) &&
        c->doubts_count < CLIENT_WINDOW_MAX)
        c->doubts[c->doubts_count++] = ticket.item;
    think(c);
}

static void reset(struct caller *c, uint32_t router)
{
    c->connection++;
    network_hang_up(c->world->network, c->sockets[router]);
    c->sockets[router] = network_dial(c->world->network, ENDPOINT_CLIENT(c->index),
                                      ENDPOINT_ROUTER(router), NETWORK_CLIENT);
}

/* A refused frame is reported after the others are carried out. */
static uint32_t carry_out(struct caller *c)
{
    uint32_t refused = 0;
    for (size_t i = 0; i < c->effects.count; i++) {
        struct session_effect *e = &c->effects.items[i];
        switch (e->kind) {
        case SESSION_SEND:
            if (network_ask(c->world->network, c->sockets[e->router], buffer_view(&e->frame)) !=
                STATUS_OK)
                refused |= 1u << e->router;
            break;
        case SESSION_RESET:
            refused &= ~(1u << e->router);
            reset(c, e->router);
            break;
        case SESSION_COMPLETED:
            completed(c, &e->completion);
            break;
        }
    }
    session_effects_clear(&c->effects);
    return refused;
}

static void on_timer(void *arg, uint64_t at_us, uint64_t unused);

static void lose(struct caller *c, uint32_t router)
{
    c->connection++;
    memory_work();
    session_router_connected(c->session, now_ms(c), router, false, &c->effects);
    memory_rest();
}

static void set_timer(struct caller *c)
{
    uint64_t due = session_deadline(c->session), now = now_ms(c);
    if (due == UINT64_MAX)
        return;
    uint64_t delay_us = due <= now ? 100 : (due - now) * 1000;
    uint64_t at_us = c->world->queue.now_us + delay_us;
    if (c->timer_us != 0 && c->timer_us <= at_us)
        return;
    c->timer_us = at_us;
    queue_add(&c->world->queue, delay_us, on_timer, c, at_us, 0);
}

/* After every event: what the session wants done, the end of its turn, its next deadline. */
static void act(struct caller *c)
{
    if (c->acting)
        return;
    c->acting = true;
    for (bool again = true; again;) {
        uint32_t refused = carry_out(c);
        while (c->doubts_count > 0)
            ask_outcome(c, c->doubts[--c->doubts_count]);
        if (c->page_due)
            ask_page(c);
        memory_work();
        session_flush(c->session, now_ms(c), &c->effects);
        memory_rest();
        refused |= carry_out(c);
        again = refused != 0;
        for (uint32_t r = 0; r < c->world->knobs.routers; r++)
            if (refused >> r & 1)
                lose(c, r);
    }
    c->acting = false;
    set_timer(c);
}

static void on_timer(void *arg, uint64_t at_us, uint64_t unused)
{
    struct caller *c = arg;
    (void)unused;
    if (c->timer_us != at_us)
        return;
    c->timer_us = 0;
    memory_work();
    session_tick(c->session, now_ms(c), &c->effects);
    memory_rest();
    act(c);
}

static uint32_t router_of(const struct caller *c, uint32_t socket)
{
    for (uint32_t r = 0; r < c->world->knobs.routers; r++)
        if (c->sockets[r] == socket)
            return r;
    return UINT32_MAX;
}

void caller_answered(struct caller *c, uint32_t socket, struct bytes frame)
{
    uint32_t router = router_of(c, socket);
    if (router == UINT32_MAX)
        return;
    memory_work();
    session_message(c->session, now_ms(c), router, frame, &c->effects);
    memory_rest();
    act(c);
}

void caller_connected(struct caller *c, uint32_t socket, bool connected)
{
    uint32_t router = router_of(c, socket);
    if (router == UINT32_MAX)
        return;
    c->connection += !connected;
    memory_work();
    session_router_connected(c->session, now_ms(c), router, connected, &c->effects);
    memory_rest();
    act(c);
}

/* ---------------------------------------------------------------- asking */

static struct ticket *ticket_new(struct caller *c, size_t item, bool outcome)
{
    for (size_t i = 0; i <= CLIENT_WINDOW_MAX; i++) {
        if (c->ticket_used[i])
            continue;
        c->ticket_used[i] = true;
        c->tickets[i] = (struct ticket){.item = item, .outcome = outcome};
        return &c->tickets[i];
    }
    return NULL;
}

/* The write as it travels; values' memory is *value and *expected. */
static struct write write_of(const struct checker_operation *op, struct buffer *value,
                             struct buffer *expected)
{
    buffer_init(value, 1u << 20);
    buffer_init(expected, 1u << 20);
    if (op->value.present)
        texts_print(op->value, value);
    if (op->expected_value.present)
        texts_print(op->expected_value, expected);
    return (struct write){.precondition = op->precondition,
                          .mutation = op->mutation,
                          .want = op->want,
                          .value = buffer_view(value),
                          .delta = op->delta,
                          .offset = op->offset,
                          .expiry_ms = op->expiry > 0 ? (uint64_t)op->expiry : 0,
                          .ttl_ms = op->ttl_ms,
                          .expected = op->expected,
                          .expected_value = buffer_view(expected)};
}

/* What no node's clock is behind, now and later; 0 where they jump back. */
static int64_t clocks_ms(const struct world *w)
{
    uint64_t lowest = UINT64_MAX;
    for (uint32_t i = 0; i < w->knobs.nodes; i++)
        if (machine_wall_ms(w->machines[i]) < lowest)
            lowest = machine_wall_ms(w->machines[i]);
    return w->knobs.clock_ms == 0 ? (int64_t)lowest : 0;
}

/* Put an operation that was submitted into the history. */
static size_t note_asked(struct caller *c, uint32_t key, const struct checker_operation *op,
                         uint64_t seq, uint64_t timeout_ms)
{
    size_t number = history_ask(&c->world->history, key, c->index, op);
    struct history_item *item = &c->world->history.items[number];
    char name[32], line[400];
    item->client_id = session_client_id(c->session);
    item->seq = seq;
    item->op.session = session_number(c);
    item->op.client = c->index + 1;
    item->op.clocks_ms = op->read ? clocks_ms(c->world) : 0;
    item->deadline_ms = world_now_ms(c->world) + timeout_ms + timeout_ms / 50;
    if (c->world->tracing) {
        history_key(key, name);
        checker_describe(&item->op, line, sizeof line);
        world_say(c->world, "c%u  %" PRIu64 " %s: %s", c->index, seq, name, line);
    }
    return number;
}

/* Submit; false: the window is full. */
static bool submit(struct caller *c, const struct session_operation *asked, uint64_t *ret_seq)
{
    uint64_t failures = memory_failures();
    memory_work();
    enum status status = session_submit(c->session, now_ms(c), asked, ret_seq);
    memory_rest();
    if (status == STATUS_OK)
        return true;
    ENSURE(status == STATUS_BUSY ||
           (status == STATUS_NOMEMORY && memory_failures() != failures));
    c->ticket_used[(struct ticket *)asked->user - c->tickets] = false;
    return false;
}

static void pack_batch(const uint32_t *keys, const struct checker_operation *ops, uint32_t count,
                       struct buffer *out)
{
    char names[CALLER_BATCH_MAX][32];
    struct bytes views[CALLER_BATCH_MAX], parts[CALLER_BATCH_MAX];
    struct buffer packed[CALLER_BATCH_MAX];
    for (uint32_t i = 0; i < count; i++) {
        struct buffer value, expected;
        struct write w = write_of(&ops[i], &value, &expected);
        buffer_init(&packed[i], 1u << 20);
        ENSURE(codec_pack_write(&w, &packed[i]) == STATUS_OK);
        buffer_fini(&value);
        buffer_fini(&expected);
        history_key(keys[i], names[i]);
        views[i] = bytes_text(names[i]);
        parts[i] = buffer_view(&packed[i]);
    }
    struct atomic_batch m = {.count = count, .keys = views, .operations = parts};
    buffer_init(out, 4u << 20);
    ENSURE(codec_pack_atomic_batch(&m, out) == STATUS_OK);
    for (uint32_t i = 0; i < count; i++)
        buffer_fini(&packed[i]);
}

bool caller_ask_batch(struct caller *c, const uint32_t *keys, struct checker_operation *ops,
                      uint32_t count, uint64_t timeout_ms)
{
    struct buffer body;
    char name[32];
    uint64_t seq;
    ENSURE(count > 0 && count <= CALLER_BATCH_MAX);
    struct ticket *ticket =
        session_room(c->session) == 0 ? NULL : ticket_new(c, c->world->history.count, false);
    if (ticket == NULL)
        return false;
    ticket->count = count;
    history_key(keys[0], name);
    pack_batch(keys, ops, count, &body);
    struct session_operation asked = {.kind = KIND_ATOMIC,
                                      .key = bytes_text(name),
                                      .atomic = buffer_view(&body),
                                      .deadline_ms = now_ms(c) + timeout_ms,
                                      .user = ticket};
    bool taken = submit(c, &asked, &seq);
    buffer_fini(&body);
    for (uint32_t i = 0; taken && i < count; i++) {
        size_t number = note_asked(c, keys[i], &ops[i], seq, timeout_ms);
        c->world->history.items[number].batch_first = ticket->item;
        c->world->history.items[number].batch_count = count;
    }
    if (taken)
        act(c);
    return taken;
}

bool caller_ask(struct caller *c, uint32_t key, const struct checker_operation *op,
                uint64_t timeout_ms, size_t *ret_item)
{
    char name[32];
    struct buffer value, expected;
    uint64_t seq;
    if (session_room(c->session) == 0)
        return false;
    struct ticket *ticket = ticket_new(c, 0, false);
    if (ticket == NULL)
        return false;
    history_key(key, name);
    struct session_operation asked = {.kind = op->read ? KIND_READ : KIND_WRITE,
                                      .key = bytes_text(name),
                                      .deadline_ms = now_ms(c) + timeout_ms,
                                      .user = ticket};
    struct write write = write_of(op, &value, &expected);
    if (!op->read)
        asked.write = write;
    else
        asked.read = (struct read_query){op->of_expiry ? READ_EXPIRY : READ_VALUE, op->consistency};
    bool taken = submit(c, &asked, &seq);
    buffer_fini(&value);
    buffer_fini(&expected);
    if (!taken)
        return false;
    ticket->item = note_asked(c, key, op, seq, timeout_ms);
    if (ret_item != NULL)
        *ret_item = ticket->item;
    act(c);
    return true;
}

/* What became of it? */
static void ask_outcome(struct caller *c, size_t number)
{
    const struct history_item *item = &c->world->history.items[number];
    char name[32];
    history_key(item->key, name);
    struct ticket *ticket = ticket_new(c, number, true);
    if (ticket == NULL)
        return;
    ticket->count = item->batch_count;
    if (item->batch_count > 0)
        ticket->item = item->batch_first;
    struct session_operation asked = {.kind = KIND_OUTCOME,
                                      .key = bytes_text(name),
                                      .outcome = {.client_id = item->client_id, .seq = item->seq},
                                      .deadline_ms = now_ms(c) + OUTCOME_TIMEOUT_MS,
                                      .user = ticket};
    if (session_submit(c->session, now_ms(c), &asked, NULL) != STATUS_OK)
        c->ticket_used[ticket - c->tickets] = false;
}

void caller_ask_outcome(struct caller *c, size_t item)
{
    ask_outcome(c, item);
    act(c);
}

static void ask_page(struct caller *c)
{
    struct ticket *ticket = ticket_new(c, 0, false);
    ENSURE(ticket != NULL);
    ticket->page = true;
    c->page_due = false;
    struct session_operation asked = {
        .kind = KIND_SCAN,
        .key = buffer_view(&c->cursor),
        .scan = {.count_max = (uint32_t)random_range(&c->random, 1, 20)},
        .deadline_ms = now_ms(c) + WALK_TIMEOUT_MS,
        .user = ticket};
    ENSURE(session_submit(c->session, now_ms(c), &asked, NULL) == STATUS_OK);
}

void caller_walk(struct caller *c, caller_row_fn *fn, void *arg, bool *ret_ended)
{
    c->row = fn;
    c->row_arg = arg;
    c->walk_ended = ret_ended;
    c->walked = *ret_ended = false;
    buffer_clear(&c->cursor);
    c->page_due = true;
    act(c);
}

bool caller_walked(const struct caller *c)
{
    return c->walked;
}

/* ---------------------------------------------------------------- the workload */

/* The newest thing that was seen of a key, to make conditions that hold now and then. */
static const struct history_item *recent(const struct caller *c, uint32_t key)
{
    const struct history *h = &c->world->history;
    for (size_t i = h->count, tries = 60; i-- > 0 && tries-- > 0;)
        if (h->items[i].key == key && h->items[i].op.outcome == CHECKER_DONE &&
            h->items[i].op.version.seq != 0 && h->items[i].op.status == STATUS_OK)
            return &h->items[i];
    return NULL;
}

static void add_condition(struct caller *c, uint32_t key, struct checker_operation *op)
{
    const struct history_item *seen = recent(c, key);
    bool expiries = c->world->knobs.expiries_per_mille > 0;
    op->precondition = (enum precondition)random_range(
        &c->random, 1, expiries ? PRECONDITION_EXPIRY_AFTER : PRECONDITION_VALUE);
    if (op->precondition == PRECONDITION_VERSION) {
        op->expected = seen == NULL ? (struct version){1, 1} : seen->op.version;
        return;
    }
    op->expected_value = (struct checker_value){.present = true, .n = 1};
    if (seen != NULL && seen->op.has_value)
        op->expected_value = seen->op.value_seen;
    else if (seen != NULL && seen->op.mutation == MUTATION_PUT)
        op->expected_value = seen->op.value;
}

/* A change of a part of the value; small, so that answers fit the completion records. */
static void change_part(struct caller *c, struct checker_operation *op)
{
    char text[16];
    unsigned long long n = random_below(&c->random, 1000);
    op->mutation = (enum mutation)random_range(&c->random, MUTATION_INCREMENT_DECIMAL,
                                               MUTATION_SET_RANGE);
    if (op->mutation == MUTATION_INCREMENT_DECIMAL)
        snprintf(text, sizeof text, "%s%llu.%02llu", n & 1 ? "-" : "", n / 100, n % 100);
    else
        snprintf(text, sizeof text, n & 1 ? "%llu" : "R%llu", n / 10);
    op->offset = op->mutation == MUTATION_SET_RANGE ? random_below(&c->random, 30) : 0;
    op->value = texts_parse(bytes_text(text));
}

/* Soon, now and then long ago or never, by the clock of some node or after a time. */
static void add_expiry(struct caller *c, struct checker_operation *op)
{
    if (random_chance(&c->random, 200))
        return;
    if (random_chance(&c->random, 500)) {
        op->expiry = EXPIRY_SOME;
        op->ttl_ms = random_spread(&c->random, 1, 5000);
        return;
    }
    op->expiry = (int64_t)machine_wall_ms(c->world->machines[0]) - 300 +
                 (int64_t)random_spread(&c->random, 1, 5000);
}

static enum consistency draw_consistency(struct caller *c)
{
    const struct knobs *k = &c->world->knobs;
    if (random_chance(&c->random, k->any_per_mille))
        return CONSISTENCY_ANY;
    bool confirm = random_chance(&c->random, k->confirm_per_mille);
    return confirm ? CONSISTENCY_CONFIRM : CONSISTENCY_LINEARIZABLE;
}

static struct checker_operation make_up(struct caller *c, uint32_t key)
{
    const struct knobs *k = &c->world->knobs;
    struct checker_operation op = {.read = random_chance(&c->random, k->reads_per_mille)};
    bool expires = random_chance(&c->random, k->expiries_per_mille);
    op.of_expiry = op.read && expires && random_chance(&c->random, 300);
    if (op.read && k->confirm_per_mille + k->any_per_mille > 0)
        op.consistency = draw_consistency(c);
    if (op.read)
        return op;
    op.mutation = random_chance(&c->random, 100) ? MUTATION_PUT_KEEP_EXPIRY : MUTATION_PUT;
    if (random_chance(&c->random, k->deletes_per_mille))
        op.mutation = MUTATION_DELETE;
    else if (random_chance(&c->random, k->increments_per_mille))
        op.mutation = MUTATION_INCREMENT;
    else if (random_chance(&c->random, k->parts_per_mille))
        change_part(c, &op);
    else if (expires && random_chance(&c->random, 300))
        op.mutation = MUTATION_SET_EXPIRY;
    if (expires && (op.mutation == MUTATION_PUT || op.mutation == MUTATION_SET_EXPIRY))
        add_expiry(c, &op);
    if (random_chance(&c->random, k->conditions_per_mille))
        add_condition(c, key, &op);
    if (op.precondition != PRECONDITION_NONE && op.precondition < PRECONDITION_EXPIRY_BEFORE &&
        random_chance(&c->random, 100))
        op.mutation = MUTATION_NONE;
    if (op.mutation == MUTATION_PUT || op.mutation == MUTATION_PUT_KEEP_EXPIRY)
        op.value = (struct checker_value){.present = true,
                                          .number = k->increments_per_mille > 0 &&
                                                    random_chance(&c->random, 800),
                                          .n = (int64_t)c->world->history.count + 1};
    if (op.mutation == MUTATION_INCREMENT)
        op.delta = (int64_t)random_range(&c->random, 1, 5);
    op.want = (enum want)random_below(&c->random, 3);
    return op;
}

/* Keys live for a while, then others take their place: histories stay short. */
static uint32_t pick_key(struct caller *c)
{
    const struct knobs *k = &c->world->knobs;
    uint64_t generation = c->world->history.count / ((uint64_t)k->keys * k->key_operations);
    return (uint32_t)(generation * k->keys + random_below(&c->random, k->keys));
}

/* Others of the hash tag of key, which then is the first of them (history_key()). */
static uint32_t pick_tag(struct caller *c, uint32_t key, uint32_t keys[static CALLER_BATCH_MAX])
{
    uint32_t count = (uint32_t)random_range(&c->random, 1, CALLER_BATCH_MAX);
    for (uint32_t i = 0; i < count; i++)
        keys[i] = key - key % 3 + 12 * i;
    return count;
}

static bool ask_batch(struct caller *c, uint32_t key, uint64_t timeout_ms)
{
    uint32_t keys[CALLER_BATCH_MAX];
    struct checker_operation ops[CALLER_BATCH_MAX];
    uint32_t count = pick_tag(c, key, keys);
    for (uint32_t i = 0; i < count; i++) {
        do
            ops[i] = make_up(c, keys[i]);
        while (ops[i].read);
        if (ops[i].mutation == MUTATION_PUT || ops[i].mutation == MUTATION_PUT_KEEP_EXPIRY)
            ops[i].value.n += i; /* no two puts have one value */
        if (key % 3 == 0) /* so much that not all of it is kept for who asks again */
            ops[i].want = WANT_NEW;
    }
    return caller_ask_batch(c, keys, ops, count, timeout_ms);
}

/* Of some of the tag's keys the answer is a read in their histories; the watch judges it as a whole. */
static bool ask_range(struct caller *c, uint32_t key, uint64_t timeout_ms)
{
    uint32_t keys[CALLER_BATCH_MAX];
    uint32_t count = pick_tag(c, key, keys);
    char name[32], from[32], to[32];
    uint64_t seq;
    struct ticket *ticket =
        session_room(c->session) == 0 ? NULL : ticket_new(c, c->world->history.count, false);
    if (ticket == NULL)
        return false;
    history_key(keys[0], name);
    history_key(keys[0] + 12 * (uint32_t)random_below(&c->random, 6), from);
    history_key(keys[0] + 12 * (uint32_t)random_below(&c->random, 6), to);
    struct session_operation asked = {
        .kind = KIND_RANGE,
        .key = bytes_of(name, (size_t)(strchr(name, '}') + 1 - name)),
        .scan = {.count_max = (uint32_t)random_below(&c->random, 6),
                 .keys_only = random_chance(&c->random, 100),
                 .count_only = random_chance(&c->random, 150)},
        .deadline_ms = now_ms(c) + timeout_ms,
        .user = ticket};
    bool whole = random_chance(&c->random, 700);
    if (!whole && random_chance(&c->random, 500))
        asked.scan.from = bytes_text(from);
    if (!whole && random_chance(&c->random, 500))
        asked.scan.to = bytes_text(to);
    if (random_chance(&c->random, 200))
        asked.scan.prefix = asked.key;
    ticket->range = true;
    if (whole && !asked.scan.keys_only && !asked.scan.count_only)
        ticket->count = count;
    if (!submit(c, &asked, &seq))
        return false;
    struct checker_operation get = {.read = true};
    for (uint32_t i = 0; i < ticket->count; i++) {
        size_t number = note_asked(c, keys[i], &get, seq, timeout_ms);
        c->world->history.items[number].op.session = 0; /* it has no order with the others */
    }
    act(c);
    return true;
}

static bool ask_something(struct caller *c, uint32_t key, uint64_t timeout_ms)
{
    const struct knobs *k = &c->world->knobs;
    struct checker_operation op = make_up(c, key);
    if (op.read && op.consistency == CONSISTENCY_LINEARIZABLE &&
        random_chance(&c->random, k->ranges_per_mille))
        return ask_range(c, key, timeout_ms);
    if (!op.read && random_chance(&c->random, k->batches_per_mille))
        return ask_batch(c, key, timeout_ms);
    return caller_ask(c, key, &op, timeout_ms, NULL);
}

static void on_thought(void *arg, uint64_t unused, uint64_t unused_too)
{
    struct caller *c = arg;
    const struct knobs *k = &c->world->knobs;
    (void)unused;
    (void)unused_too;
    c->thinking = false;
    if (c->wanted == 0)
        return;
    uint32_t burst = (uint32_t)random_range(&c->random, 1, k->pipeline);
    uint32_t key = pick_key(c);
    while (burst-- > 0 && c->under_way < k->pipeline && c->wanted > 0) {
        uint64_t timeout_ms = random_range(&c->random, k->deadline_min_ms, k->deadline_max_ms);
        c->under_way++;
        c->wanted--;
        if (!ask_something(c, key, timeout_ms)) {
            c->under_way--;
            c->wanted++;
            break;
        }
        if (!random_chance(&c->random, 700))
            key = pick_key(c);
    }
    think(c);
}

static void think(struct caller *c)
{
    if (c->thinking || c->wanted == 0)
        return;
    c->thinking = true;
    queue_add(&c->world->queue, 1 + random_spread(&c->random, 0, c->world->knobs.think_max_us),
              on_thought, c, 0, 0);
}

void caller_start(struct caller *c)
{
    for (uint32_t r = 0; r < c->world->knobs.routers; r++)
        c->sockets[r] = network_dial(c->world->network, ENDPOINT_CLIENT(c->index),
                                     ENDPOINT_ROUTER(r), NETWORK_CLIENT);
    set_timer(c);
}

void caller_work(struct caller *c, uint32_t operations)
{
    c->wanted += operations;
    think(c);
}

void caller_stop(struct caller *c)
{
    c->wanted = 0;
}
