#include "tests/sim/checker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "storage/mutate.h"
#include "tests/sim/texts.h"

#define STEPS_MAX_DEFAULT 2000000u
#define NONE              SIZE_MAX

static int version_compare(struct version a, struct version b)
{
    if (a.epoch != b.epoch)
        return a.epoch < b.epoch ? -1 : 1;
    return a.seq < b.seq ? -1 : a.seq > b.seq;
}

static bool version_known(struct version v)
{
    return v.epoch != 0 || v.seq != 0;
}

static bool value_equal(struct checker_value a, struct checker_value b)
{
    if (!a.present || !b.present)
        return a.present == b.present;
    return a.number == b.number && a.made == b.made && a.n == b.n;
}

/* The rules of one key.
 *
 * A write in doubt leaves a version behind that nobody has heard: state.version is zero while
 * something is there. It lies above `last` of that moment, and `last` is kept for that: whoever
 * shows the version later must show one above it. */

static bool version_fits(const struct checker_state *s, struct version v)
{
    if (version_known(s->version))
        return version_compare(s->version, v) == 0;
    return version_compare(v, s->unheard_above) > 0 &&
           (!version_known(s->unheard_below) || version_compare(v, s->unheard_below) < 0);
}

static void bind_version(struct checker_state *s, struct version v)
{
    s->version = v;
    s->unheard_above = s->unheard_below = (struct version){0};
    if (version_compare(v, s->last) > 0)
        s->last = v;
}

static bool seen_fits(const struct checker_operation *op, struct checker_value expected)
{
    if (op->has_value)
        return expected.present && value_equal(op->value_seen, expected);
    return !expected.present;
}

/* Is the expiry the one seen? One that was not known is, from then on. */
static bool expiry_fits(const struct checker_operation *op, struct checker_state *s)
{
    int64_t seen = op->value_seen.n;
    if (s->expiry == EXPIRY_SOME && seen > 0)
        s->expiry = seen;
    return s->expiry == seen;
}

static bool step_read(const struct checker_operation *op, struct checker_state *s)
{
    if (op->status == STATUS_NOTFOUND)
        return !s->value.present;
    if (!s->value.present || !op->has_value)
        return false;
    if (op->of_expiry ? !expiry_fits(op, s) : !value_equal(op->value_seen, s->value))
        return false;
    if (s->expiry > 0 && op->clocks_ms >= s->expiry)
        return false;
    if (!version_known(op->version))
        return true;
    if (!version_fits(s, op->version))
        return false;
    if (!version_known(s->version))
        bind_version(s, op->version);
    return true;
}

enum truth { TRUTH_NO, TRUTH_YES, TRUTH_EITHER };

static enum truth is_before(int64_t expiry, int64_t other)
{
    if (expiry == 0)
        return TRUTH_NO;
    if (other == 0)
        return TRUTH_YES;
    if (expiry == EXPIRY_SOME || other == EXPIRY_SOME)
        return TRUTH_EITHER;
    return expiry < other ? TRUTH_YES : TRUTH_NO;
}

static enum truth precondition_holds(const struct checker_operation *op,
                                     const struct checker_state *s)
{
    switch (op->precondition) {
    case PRECONDITION_NONE:
        return TRUTH_YES;
    case PRECONDITION_ABSENT:
        return s->value.present ? TRUTH_NO : TRUTH_YES;
    case PRECONDITION_PRESENT:
        return s->value.present ? TRUTH_YES : TRUTH_NO;
    case PRECONDITION_VALUE:
        return s->value.present && value_equal(s->value, op->expected_value) ? TRUTH_YES : TRUTH_NO;
    case PRECONDITION_VERSION:
        if (!s->value.present || !version_fits(s, op->expected))
            return TRUTH_NO;
        return version_known(s->version) ? TRUTH_YES : TRUTH_EITHER;
    case PRECONDITION_EXPIRY_NONE:
        return s->value.present && s->expiry == 0 ? TRUTH_YES : TRUTH_NO;
    case PRECONDITION_EXPIRY_SET:
        return s->value.present && s->expiry != 0 ? TRUTH_YES : TRUTH_NO;
    case PRECONDITION_EXPIRY_BEFORE:
        return s->value.present ? is_before(s->expiry, op->expiry) : TRUTH_NO;
    case PRECONDITION_EXPIRY_AFTER:
        return s->value.present ? is_before(op->expiry, s->expiry) : TRUTH_NO;
    }
    ENSURE_UNREACHABLE();
}

/* Those that change a part of a value are written down once, for the store and for us: what is
 * checked here is when they take effect. (test_mutate.c has what they do.) */
static enum status change_part(const struct checker_operation *op, struct checker_value *value)
{
    struct buffer old, operand;
    struct mutate_work work;
    struct mutate_outcome m;
    buffer_init(&old, 1u << 24);
    buffer_init(&operand, 1u << 24);
    if (value->present)
        texts_print(*value, &old);
    texts_print(op->value, &operand);
    struct item current = {.present = value->present, .value = buffer_view(&old)};
    struct write w = {
        .mutation = op->mutation, .value = buffer_view(&operand), .offset = op->offset};
    mutate_work_init(&work, VALUE_SIZE_MAX_DEFAULT, 0);
    mutate(&w, &current, &work, &m);
    if (m.has_effect)
        *value = texts_parse(m.effect.value);
    mutate_work_fini(&work);
    buffer_fini(&old);
    buffer_fini(&operand);
    return m.status;
}

/* The expiry after a mutation that was done, of a value that is present then. */
static int64_t expiry_after(const struct checker_operation *op, const struct checker_state *before)
{
    if (op->mutation == MUTATION_PUT || op->mutation == MUTATION_SET_EXPIRY)
        return op->expiry;
    return before->value.present ? before->expiry : 0;
}

/* What the mutation makes of value: the answer's status, and the value after. */
static enum status mutation_apply(const struct checker_operation *op, struct checker_value *value)
{
    int64_t sum;
    switch (op->mutation) {
    case MUTATION_NONE:
        return STATUS_OK;
    case MUTATION_PUT:
    case MUTATION_PUT_KEEP_EXPIRY:
        *value = op->value;
        return STATUS_OK;
    case MUTATION_DELETE:
        if (!value->present)
            return STATUS_NOTFOUND;
        *value = (struct checker_value){0};
        return STATUS_OK;
    case MUTATION_INCREMENT:
        if (value->present && !value->number)
            return STATUS_NOTNUMBER;
        if (__builtin_add_overflow(value->present ? value->n : 0, op->delta, &sum))
            return STATUS_OVERFLOW;
        *value = (struct checker_value){.present = true, .number = true, .n = sum};
        return STATUS_OK;
    case MUTATION_INCREMENT_DECIMAL:
    case MUTATION_APPEND:
    case MUTATION_SET_RANGE:
        return change_part(op, value);
    case MUTATION_SET_EXPIRY:
        return value->present ? STATUS_OK : STATUS_NOTFOUND;
    }
    ENSURE_UNREACHABLE();
}

/* An entry took its place in the log; with an effect when `wrote`. */
static void take_place(struct checker_state *s, struct version v, bool wrote)
{
    if (version_known(v) && s->value.present && !version_known(s->version) &&
        !version_known(s->unheard_below))
        s->unheard_below = v;
    if (version_known(v))
        s->last = v;
    if (!wrote)
        return;
    bool unheard = s->value.present && !version_known(v);
    s->version = s->value.present ? v : (struct version){0};
    s->unheard_above = unheard ? s->last : (struct version){0};
    s->unheard_below = (struct version){0};
}

static bool step_doubt(const struct checker_operation *op, struct checker_state *s)
{
    if (precondition_holds(op, s) == TRUTH_NO || op->mutation == MUTATION_NONE)
        return false;
    struct checker_value after = s->value;
    if (mutation_apply(op, &after) != STATUS_OK)
        return false;
    s->expiry = after.present ? expiry_after(op, s) : 0;
    s->value = after;
    take_place(s, (struct version){0}, true);
    return true;
}

/* Did the write hear the value that it asked for? */
static bool want_fits(const struct checker_operation *op, struct checker_value before,
                      struct checker_value after)
{
    if (op->want == WANT_NOTHING)
        return true;
    bool failed = op->status == STATUS_CONDITION;
    if (!failed && op->status != STATUS_OK)
        return true;
    return seen_fits(op, failed || op->want == WANT_OLD ? before : after);
}

static bool step_write(const struct checker_operation *op, struct checker_state *s)
{
    if (version_known(op->version) && version_compare(op->version, s->last) <= 0)
        return false;
    if (op->lapse && (s->expiry == 0 || s->expiry > op->at_ms))
        return false;
    enum truth holds = precondition_holds(op, s);
    struct checker_value before = s->value, after = s->value;
    bool wrote = false;
    if (op->status == STATUS_CONDITION) {
        if (holds == TRUTH_YES)
            return false;
    } else {
        if (holds == TRUTH_NO || mutation_apply(op, &after) != op->status)
            return false;
        if (holds == TRUTH_EITHER && op->precondition == PRECONDITION_VERSION)
            bind_version(s, op->expected);
        wrote = op->status == STATUS_OK && op->mutation != MUTATION_NONE;
    }
    if (!want_fits(op, before, after))
        return false;
    if (wrote)
        s->expiry = after.present ? expiry_after(op, s) : 0;
    s->value = after;
    take_place(s, op->version, wrote);
    return true;
}

bool checker_step(const struct checker_operation *op, struct checker_state *state)
{
    ENSURE(op->outcome != CHECKER_NOT_DONE);
    if (op->outcome == CHECKER_IN_DOUBT)
        return !op->read && step_doubt(op, state);
    return op->read ? step_read(op, state) : step_write(op, state);
}

/* The search.
 *
 * Operations that must be ordered stand in a list of events (calls and returns) in time order;
 * those in doubt in an array of their own. At each point any call before the first return may come
 * next, or any operation in doubt that was invoked before it. */

struct event {
    size_t op;
    uint64_t at;
    bool is_return;
    size_t previous, next; /* in the list; its head is the event 0, which is no operation's */
};

struct node_of { /* one operation that must be ordered, or is in doubt */
    struct checker_operation op;
    size_t origin;      /* index in the caller's array */
    size_t call, reply; /* events; NONE when in doubt */
    size_t before;      /* the operation of the same session asked before it, or NONE */
    /* Of a write: the nearest writes of its client that are done and were asked before and after.
     */
    size_t write_before, write_after;
    size_t rank; /* among the writes with versions; NONE */
    uint64_t zobrist;
    bool ordered;
};

struct frame {
    size_t op;
    struct checker_state before;
    bool forced; /* no need to try anything else in its place */
};

struct search {
    struct node_of *nodes;
    size_t nodes_count;
    size_t *doubts; /* nodes in doubt, by time of invocation */
    size_t doubts_count;
    struct event *events;
    size_t events_count;
    struct frame *frames;
    size_t depth;
    struct checker_state state;
    size_t must_left, ranked; /* operations to order; writes with versions ordered so far */
    uint64_t set;             /* of what is ordered, hashed */
    uint64_t (*memo)[2];
    size_t memo_count, memo_capacity;
};

/* Where to look for the next candidate: an event of the list, then the doubts. */
struct cursor {
    size_t event;
    size_t doubt;
    bool in_doubts;
    uint64_t limit; /* in_doubts: only those invoked before it */
};

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count == 0 ? 1 : count, size);
    ENSURE(memory != NULL);
    return memory;
}

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t state_hash(const struct checker_state *s, uint64_t salt)
{
    const uint64_t words[] = {
        s->value.present,    s->value.number,         s->value.made,
        (uint64_t)s->value.n, s->version.epoch,       s->version.seq,
        s->last.epoch,       s->last.seq,             s->unheard_above.epoch,
        s->unheard_above.seq, s->unheard_below.epoch, s->unheard_below.seq,
        (uint64_t)s->expiry,
    };
    uint64_t hash = salt;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        hash = mix(hash ^ words[i]);
    return hash;
}

static bool memo_place(uint64_t (*memo)[2], size_t capacity, const uint64_t key[2])
{
    size_t at = key[0] & (capacity - 1);
    while (memo[at][0] != 0 || memo[at][1] != 0) {
        if (memo[at][0] == key[0] && memo[at][1] == key[1])
            return false;
        at = (at + 1) & (capacity - 1);
    }
    memo[at][0] = key[0];
    memo[at][1] = key[1];
    return true;
}

static void memo_grow(struct search *s)
{
    size_t capacity = s->memo_capacity == 0 ? 256 : s->memo_capacity * 2;
    uint64_t(*memo)[2] = allocate(capacity, sizeof *memo);
    for (size_t i = 0; i < s->memo_capacity; i++)
        if (s->memo[i][0] != 0 || s->memo[i][1] != 0)
            memo_place(memo, capacity, s->memo[i]);
    free(s->memo);
    s->memo = memo;
    s->memo_capacity = capacity;
}

/* False: this set of ordered operations was in this state before. */
static bool memo_add(struct search *s, uint64_t set, const struct checker_state *state)
{
    if ((s->memo_count + 1) * 2 > s->memo_capacity)
        memo_grow(s);
    uint64_t key[2] = {state_hash(state, set), state_hash(state, mix(set)) | 1};
    bool added = memo_place(s->memo, s->memo_capacity, key);
    s->memo_count += added;
    return added;
}

static void unlink_event(struct search *s, size_t event)
{
    struct event *e = &s->events[event];
    s->events[e->previous].next = e->next;
    if (e->next != NONE)
        s->events[e->next].previous = e->previous;
}

static void relink_event(struct search *s, size_t event)
{
    struct event *e = &s->events[event];
    s->events[e->previous].next = event;
    if (e->next != NONE)
        s->events[e->next].previous = event;
}

static void toggle(struct search *s, struct node_of *n, bool ordered)
{
    n->ordered = ordered;
    s->set ^= n->zobrist;
    if (n->rank != NONE)
        s->ranked += ordered ? 1 : (size_t)-1;
    if (n->call == NONE)
        return;
    s->must_left += ordered ? (size_t)-1 : 1;
    if (ordered) {
        unlink_event(s, n->call);
        unlink_event(s, n->reply);
    } else {
        relink_event(s, n->reply);
        relink_event(s, n->call);
    }
}

/* Has the session's order been kept: for a read everything up to the write before it, for a write
 * also the reads since? */
static bool session_allows(const struct search *s, const struct node_of *n)
{
    for (size_t i = n->before; i != NONE; i = s->nodes[i].before) {
        const struct node_of *earlier = &s->nodes[i];
        bool matters = !n->op.read || !earlier->op.read;
        if (matters && !earlier->ordered)
            return false;
        if (!earlier->op.read)
            return true;
    }
    return true;
}

/* Did it change something, as far as anybody heard? */
static bool is_done_write(const struct node_of *n)
{
    return n->call != NONE && !n->op.read && n->op.status == STATUS_OK &&
           n->op.mutation != MUTATION_NONE;
}

static bool may_come_next(const struct search *s, const struct node_of *n)
{
    if (n->ordered || !session_allows(s, n))
        return false;
    if (n->write_before != NONE && !s->nodes[n->write_before].ordered && is_done_write(n))
        return false;
    if (n->write_after != NONE && s->nodes[n->write_after].ordered)
        return false;
    return n->rank == NONE || n->rank == s->ranked;
}

static uint64_t first_return(const struct search *s)
{
    for (size_t e = s->events[0].next; e != NONE; e = s->events[e].next)
        if (s->events[e].is_return)
            return s->events[e].at;
    return UINT64_MAX;
}

static struct cursor cursor_start(const struct search *s)
{
    return (struct cursor){.event = s->events[0].next};
}

/* The next operation to try, or NONE. */
static size_t cursor_next(const struct search *s, struct cursor *c)
{
    while (!c->in_doubts) {
        const struct event *e = &s->events[c->event];
        if (e->is_return) {
            c->in_doubts = true;
            c->limit = first_return(s);
            break;
        }
        c->event = e->next;
        if (may_come_next(s, &s->nodes[e->op]))
            return e->op;
    }
    while (c->doubt < s->doubts_count) {
        size_t op = s->doubts[c->doubt++];
        if (s->nodes[op].op.invoked > c->limit)
            break;
        if (may_come_next(s, &s->nodes[op]))
            return op;
    }
    return NONE;
}

/* Continue after op, which was just taken back. */
static struct cursor cursor_after(const struct search *s, size_t op)
{
    const struct node_of *n = &s->nodes[op];
    if (n->call != NONE)
        return (struct cursor){.event = s->events[n->call].next};
    size_t at = 0;
    while (s->doubts[at] != op)
        at++;
    return (struct cursor){.in_doubts = true, .doubt = at + 1, .limit = first_return(s)};
}

static bool same_state(const struct checker_state *a, const struct checker_state *b)
{
    return value_equal(a->value, b->value) && a->expiry == b->expiry && version_compare(a->version, b->version) == 0 &&
           version_compare(a->last, b->last) == 0 &&
           version_compare(a->unheard_above, b->unheard_above) == 0 &&
           version_compare(a->unheard_below, b->unheard_below) == 0;
}

/* Order op next if it fits and leads somewhere new. */
static bool try_operation(struct search *s, size_t op)
{
    struct node_of *n = &s->nodes[op];
    struct checker_state after = s->state;
    if (!checker_step(&n->op, &after) || !memo_add(s, s->set ^ n->zobrist, &after))
        return false;
    /* What can change nothing may always come as early as it fits. */
    bool pure = n->op.read || n->op.mutation == MUTATION_NONE || n->op.status != STATUS_OK;
    bool forced = n->call != NONE && pure && same_state(&s->state, &after);
    s->frames[s->depth++] = (struct frame){.op = op, .before = s->state, .forced = forced};
    s->state = after;
    toggle(s, n, true);
    return true;
}

/* Take back the newest operation that another one could replace. False: there is none. */
static bool back_up(struct search *s, struct cursor *c)
{
    while (s->depth > 0) {
        struct frame *f = &s->frames[--s->depth];
        toggle(s, &s->nodes[f->op], false);
        s->state = f->before;
        if (f->forced)
            continue;
        *c = cursor_after(s, f->op);
        return true;
    }
    return false;
}

static void note_progress(struct search *s, size_t must_count, struct checker_result *ret)
{
    if (must_count - s->must_left <= ret->reached && ret->reached != 0)
        return;
    ret->reached = must_count - s->must_left;
    for (size_t e = s->events[0].next; e != NONE; e = s->events[e].next) {
        if (s->events[e].is_return) {
            ret->stuck = s->nodes[s->events[e].op].origin;
            return;
        }
    }
}

static void search_run(struct search *s, uint64_t steps_max, struct checker_result *ret)
{
    size_t must_count = s->must_left;
    struct cursor cursor = cursor_start(s);
    note_progress(s, must_count, ret);
    while (s->must_left > 0) {
        if (ret->steps++ >= steps_max) {
            ret->verdict = CHECKER_UNDECIDED;
            return;
        }
        size_t op = cursor_next(s, &cursor);
        if (op == NONE) {
            if (!back_up(s, &cursor)) {
                ret->verdict = CHECKER_BROKEN;
                return;
            }
        } else if (try_operation(s, op)) {
            note_progress(s, must_count, ret);
            cursor = cursor_start(s);
        }
    }
    ret->verdict = CHECKER_GOOD;
}

/* Preparation. */

static int compare_events(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    if (x->is_return != y->is_return)
        return x->is_return ? 1 : -1; /* at the same time: they overlap */
    return x->op < y->op ? -1 : x->op > y->op;
}

static void prepare_events(struct search *s)
{
    s->events = allocate(2 * s->nodes_count + 1, sizeof *s->events);
    size_t count = 1;
    for (size_t i = 0; i < s->nodes_count; i++) {
        const struct checker_operation *op = &s->nodes[i].op;
        if (op->outcome != CHECKER_DONE)
            continue;
        s->events[count++] = (struct event){.op = i, .at = op->invoked};
        s->events[count++] = (struct event){.op = i, .at = op->returned, .is_return = true};
        s->must_left++;
    }
    qsort(s->events + 1, count - 1, sizeof *s->events, compare_events);
    for (size_t e = 0; e < count; e++) {
        s->events[e].previous = e == 0 ? NONE : e - 1;
        s->events[e].next = e + 1 == count ? NONE : e + 1;
        if (e > 0 && s->events[e].is_return)
            s->nodes[s->events[e].op].reply = e;
        else if (e > 0)
            s->nodes[s->events[e].op].call = e;
    }
    s->events_count = count;
}

struct sorted {
    size_t op;
    uint64_t session, at;
    struct version version;
};

static int compare_sessions(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    if (x->session != y->session)
        return x->session < y->session ? -1 : 1;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op;
}

static int compare_versions(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    int order = version_compare(x->version, y->version);
    return order != 0 ? order : (x->op < y->op ? -1 : x->op > y->op);
}

static void prepare_sessions(struct search *s, struct sorted *sorted)
{
    size_t count = 0;
    for (size_t i = 0; i < s->nodes_count; i++)
        if (s->nodes[i].call != NONE && s->nodes[i].op.session != 0 &&
            s->nodes[i].op.returned != UINT64_MAX)
            sorted[count++] = (struct sorted){
                .op = i, .session = s->nodes[i].op.session, .at = s->nodes[i].op.invoked};
    qsort(sorted, count, sizeof *sorted, compare_sessions);
    for (size_t i = 1; i < count; i++)
        if (sorted[i].session == sorted[i - 1].session)
            s->nodes[sorted[i].op].before = sorted[i - 1].op;
}

static void prepare_clients(struct search *s, struct sorted *sorted)
{
    size_t count = 0;
    for (size_t i = 0; i < s->nodes_count; i++)
        if (!s->nodes[i].op.read && s->nodes[i].op.client != 0)
            sorted[count++] = (struct sorted){
                .op = i, .session = s->nodes[i].op.client, .at = s->nodes[i].op.invoked};
    qsort(sorted, count, sizeof *sorted, compare_sessions);
    size_t last = NONE;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && sorted[i].session != sorted[i - 1].session)
            last = NONE;
        s->nodes[sorted[i].op].write_before = last;
        if (is_done_write(&s->nodes[sorted[i].op]))
            last = sorted[i].op;
    }
    last = NONE;
    for (size_t i = count; i-- > 0;) {
        if (i + 1 < count && sorted[i].session != sorted[i + 1].session)
            last = NONE;
        s->nodes[sorted[i].op].write_after = last;
        if (is_done_write(&s->nodes[sorted[i].op]))
            last = sorted[i].op;
    }
}

static void prepare_ranks(struct search *s, struct sorted *sorted)
{
    size_t count = 0;
    for (size_t i = 0; i < s->nodes_count; i++)
        if (s->nodes[i].call != NONE && !s->nodes[i].op.read &&
            version_known(s->nodes[i].op.version))
            sorted[count++] = (struct sorted){.op = i, .version = s->nodes[i].op.version};
    qsort(sorted, count, sizeof *sorted, compare_versions);
    for (size_t i = 0; i < count; i++)
        s->nodes[sorted[i].op].rank = i;
}

static bool is_put(const struct checker_operation *op)
{
    return !op->read && (op->mutation == MUTATION_PUT || op->mutation == MUTATION_PUT_KEEP_EXPIRY);
}

/* Does it make a value of the one before? */
static bool is_derived(const struct checker_operation *op)
{
    return !op->read && op->mutation >= MUTATION_INCREMENT;
}

/* A put in doubt whose value was read, and which nobody else wrote, did happen, and with the
 * version that the read showed. Numbers may also come from increments. */
static void resolve_doubt(struct search *s, struct node_of *doubt, bool increments)
{
    const struct node_of *shown = NULL;
    if (!is_put(&doubt->op) || (doubt->op.value.number && increments))
        return;
    for (size_t i = 0; i < s->nodes_count; i++) {
        const struct node_of *n = &s->nodes[i];
        if (n != doubt && is_put(&n->op) && value_equal(n->op.value, doubt->op.value))
            return;
        if (n->op.outcome == CHECKER_DONE && n->op.read && n->op.has_value &&
            version_known(n->op.version) && value_equal(n->op.value_seen, doubt->op.value))
            shown = n;
    }
    if (shown == NULL)
        return;
    doubt->op.outcome = CHECKER_DONE;
    doubt->op.status = STATUS_OK;
    doubt->op.returned = UINT64_MAX;
    doubt->op.version = shown->op.version;
    doubt->op.want = WANT_NOTHING;
}

static void resolve_doubts(struct search *s)
{
    bool increments = false;
    for (size_t i = 0; i < s->nodes_count; i++) {
        increments |= is_derived(&s->nodes[i].op);
        /* It gives a value another version. */
        if (!s->nodes[i].op.read && s->nodes[i].op.mutation == MUTATION_SET_EXPIRY)
            return;
    }
    for (size_t i = 0; i < s->nodes_count; i++)
        if (s->nodes[i].op.outcome == CHECKER_IN_DOUBT)
            resolve_doubt(s, &s->nodes[i], increments);
}

static void prepare_doubts(struct search *s, struct sorted *sorted)
{
    size_t count = 0;
    for (size_t i = 0; i < s->nodes_count; i++)
        if (s->nodes[i].op.outcome == CHECKER_IN_DOUBT)
            sorted[count++] = (struct sorted){.op = i, .at = s->nodes[i].op.invoked};
    qsort(sorted, count, sizeof *sorted, compare_sessions);
    s->doubts = allocate(count, sizeof *s->doubts);
    s->doubts_count = count;
    for (size_t i = 0; i < count; i++)
        s->doubts[i] = sorted[i].op;
}

static void prepare(struct search *s, const struct checker_operation *operations, size_t count)
{
    s->nodes = allocate(count, sizeof *s->nodes);
    for (size_t i = 0; i < count; i++) {
        const struct checker_operation *op = &operations[i];
        if (op->outcome == CHECKER_NOT_DONE || (op->outcome == CHECKER_IN_DOUBT && op->read))
            continue;
        s->nodes[s->nodes_count] = (struct node_of){.op = *op,
                                                    .origin = i,
                                                    .call = NONE,
                                                    .reply = NONE,
                                                    .before = NONE,
                                                    .write_before = NONE,
                                                    .write_after = NONE,
                                                    .rank = NONE};
        s->nodes[s->nodes_count].zobrist = mix(s->nodes_count * 2654435761u + 17);
        s->nodes_count++;
    }
    resolve_doubts(s);
    struct sorted *sorted = allocate(s->nodes_count, sizeof *sorted);
    prepare_events(s);
    prepare_sessions(s, sorted);
    prepare_clients(s, sorted);
    prepare_ranks(s, sorted);
    prepare_doubts(s, sorted);
    free(sorted);
    s->frames = allocate(s->nodes_count + 1, sizeof *s->frames);
}

void checker_judge(const struct checker_operation *operations, size_t count, uint64_t steps_max,
                   struct checker_result *ret)
{
    struct search s = {0};
    *ret = (struct checker_result){.verdict = CHECKER_GOOD};
    prepare(&s, operations, count);
    if (s.must_left > 0)
        search_run(&s, steps_max == 0 ? STEPS_MAX_DEFAULT : steps_max, ret);
    free(s.nodes);
    free(s.doubts);
    free(s.events);
    free(s.frames);
    free(s.memo);
}

/* Words. */

static int describe_value(struct checker_value v, char *to, size_t size)
{
    if (!v.present)
        return snprintf(to, size, "-");
    return snprintf(to, size, "%s%" PRId64, v.made ? "made" : v.number ? "" : "x", v.n);
}

static const char *mutation_name(enum mutation m)
{
    switch (m) {
    case MUTATION_NONE:
        return "check";
    case MUTATION_PUT:
        return "put";
    case MUTATION_PUT_KEEP_EXPIRY:
        return "put-keep";
    case MUTATION_DELETE:
        return "delete";
    case MUTATION_INCREMENT:
        return "increment";
    case MUTATION_INCREMENT_DECIMAL:
        return "add";
    case MUTATION_APPEND:
        return "append";
    case MUTATION_SET_RANGE:
        return "set-range";
    case MUTATION_SET_EXPIRY:
        return "set-expiry";
    }
    return "?";
}

static void describe_condition(const struct checker_operation *op, char *to, size_t size)
{
    char value[32];
    describe_value(op->expected_value, value, sizeof value);
    to[0] = 0;
    if (op->precondition == PRECONDITION_ABSENT)
        snprintf(to, size, " if absent");
    if (op->precondition == PRECONDITION_PRESENT)
        snprintf(to, size, " if present");
    static const char *const of_expiry[] = {"without expiry", "with expiry", "later", "earlier"};
    if (op->precondition >= PRECONDITION_EXPIRY_NONE)
        snprintf(to, size, " if %s", of_expiry[op->precondition - PRECONDITION_EXPIRY_NONE]);
    if (op->precondition == PRECONDITION_VALUE)
        snprintf(to, size, " if value is %s", value);
    if (op->precondition == PRECONDITION_VERSION)
        snprintf(to, size, " if version is (%" PRIu64 ",%" PRIu64 ")", op->expected.epoch,
                 op->expected.seq);
}

void checker_describe(const struct checker_operation *op, char *to, size_t size)
{
    char condition[80], argument[64] = "", seen[32], returned[32] = "...";
    describe_condition(op, condition, sizeof condition);
    if (!op->read && op->value.present)
        describe_value(op->value, argument, sizeof argument);
    else if (!op->read && op->mutation == MUTATION_INCREMENT)
        snprintf(argument, sizeof argument, "%" PRId64, op->delta);
    if (op->expiry != 0)
        snprintf(argument + strlen(argument), sizeof argument - strlen(argument), " until %" PRId64,
                 op->expiry);
    describe_value(op->has_value ? op->value_seen : (struct checker_value){0}, seen, sizeof seen);
    if (op->outcome == CHECKER_DONE && op->returned != UINT64_MAX)
        snprintf(returned, sizeof returned, "%" PRIu64, op->returned);
    snprintf(to, size,
             "[%" PRIu64 " - %s] session %" PRIu64 " %s %s%s -> %s %s version (%" PRIu64 ",%" PRIu64
             ") value %s",
             op->invoked, returned, op->session, op->lapse       ? "lapse"
             : op->of_expiry ? "get-expiry"
             : op->read      ? "get"
                             : mutation_name(op->mutation),
             argument, condition,
             op->outcome == CHECKER_DONE       ? "done"
             : op->outcome == CHECKER_NOT_DONE ? "not done"
                                               : "in doubt",
             op->outcome == CHECKER_DONE ? status_name(op->status) : "", op->version.epoch,
             op->version.seq, seen);
}
