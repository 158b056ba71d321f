/* The proposer's half, and how it meets the acceptor (acceptor.h).
 *
 *   registry_read, registry_swap
 *        |  round_start                    no majority in time, or refused: registry_tick
 *        v                                 starts a round with a higher ballot
 *    PREPARING  ----- a majority promised: choose ----->  ACCEPTING
 *        ^                                                    |
 *        '------------- registry_tick ------------------------+
 *                                                             |  a majority accepted
 *                                                             v
 *                                                       host->ended
 *
 * Our own acceptor is asked like any other, without a message: its answer waits in the same queue
 * until its record is durable.
 */
#include "storage/registry.h"

#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/base/mutant.h"
#include "storage/acceptor.h"
#include "storage/ballot.h"
#include "storage/steps.h"
#include "storage/voters.h"

#define RETRY_MIN_MS 20
#define RETRY_MAX_MS 500
/* Answers that wait for the disk. Beyond it they are lost, and asked for again. */
#define WAITING_BYTES_MAX (64u << 20)
/* A ticket holds the register in its lower bits. */
#define TICKET_SHIFT 16
_Static_assert(REGISTERS_MAX <= 1 << TICKET_SHIFT, "a register fits a ticket");
/* Rounds count from 1; a number near the end of 64 bits is nonsense, and what follows it would
 * wrap. */
#define COUNTER_MAX (UINT64_MAX / 2)
#define LEAP_MAX    16 /* the power of two by which a proposer leaps at most */

enum phase { PREPARING, ACCEPTING };

struct operation {
    /* Fixed at the start. */
    uint64_t ticket;
    uint32_t number;
    bool is_swap;
    uint64_t expected;          /* swap */
    struct acceptor_value ours; /* swap: what is to be written, with our name */

    uint32_t place; /* in registry.active */

    /* The round. Its ballot was never used before. */
    struct ballot ballot;
    enum phase phase;
    struct voters_answered answered; /* of this phase */
    uint64_t retry_ms;
    uint32_t timeouts, refusals; /* rounds that ended so: how far we back off */
    bool refused;                /* this round, by somebody */
    struct ballot seen_ballot;   /* PREPARING: the highest accepted that was answered ... */
    struct acceptor_value seen;  /* ... and its value */
    bool writes;                 /* ACCEPTING: ours, else seen */
};

/* An answer of our acceptor that waits for the disk. */
struct waiting {
    uint64_t lsn;
    enum registry_kind kind;
    uint32_t node;
    uint32_t number;
    struct ballot ballot;
};

struct registry {
    struct registry_options options;
    struct registry_host host;
    struct acceptor acceptor;
    struct steps steps;

    struct buffer waiting; /* of struct waiting, oldest first */
    size_t waiting_first;  /* elements before it have left */
    uint64_t durable_lsn;

    struct operation **operations; /* by register; NULL: none of ours is under way */
    struct operation **active;     /* the same, dense */
    uint32_t active_count;
    uint64_t *counters; /* by register: no ballot counter up to this is to be used again */
    uint64_t nonce;     /* of the last operation */
    uint64_t deadline_ms;
};

/* ---- Life ----------------------------------------------------------------------------------- */

static bool registry_arrays(struct registry *r)
{
    size_t count = r->options.registers_count;
    r->operations = calloc(count, sizeof *r->operations);
    r->active = calloc(count, sizeof *r->active);
    r->counters = calloc(count, sizeof *r->counters);
    return r->operations != NULL && r->active != NULL && r->counters != NULL;
}

struct registry *registry_new(const struct registry_options *options,
                              const struct registry_host *host,
                              const struct registry_voters *voters)
{
    ENSURE(options->self < NODES_MAX);
    struct registry *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->options = *options;
    if (r->options.retry_min_ms == 0)
        r->options.retry_min_ms = RETRY_MIN_MS;
    if (r->options.retry_max_ms == 0)
        r->options.retry_max_ms = RETRY_MAX_MS;
    ENSURE(r->options.retry_min_ms <= r->options.retry_max_ms);
    r->host = *host;
    r->deadline_ms = UINT64_MAX;
    buffer_init(&r->waiting, WAITING_BYTES_MAX);
    enum status acceptor = acceptor_init(&r->acceptor, options->registers_count, voters);
    enum status steps = steps_init(&r->steps);
    if (!registry_arrays(r) || acceptor != STATUS_OK || steps != STATUS_OK)
        registry_destroy(&r);
    if (r == NULL)
        return NULL;
    r->acceptor.log = host->log;
    r->acceptor.arg = host->arg;
    r->steps.send = host->send;
    r->steps.arg = host->arg;
    return r;
}

static void operation_destroy(struct operation **op_p)
{
    acceptor_value_fini(&(*op_p)->ours);
    acceptor_value_fini(&(*op_p)->seen);
    free(*op_p);
    *op_p = NULL;
}

void registry_destroy(struct registry **r_p)
{
    struct registry *r = r_p == NULL ? NULL : *r_p;
    if (r == NULL)
        return;
    for (uint32_t i = 0; i < r->active_count; i++)
        operation_destroy(&r->active[i]);
    free(r->operations);
    free(r->active);
    free(r->counters);
    buffer_fini(&r->waiting);
    steps_fini(&r->steps);
    acceptor_fini(&r->acceptor);
    free(r);
    *r_p = NULL;
}

enum status registry_found(struct registry *r, uint32_t number, struct bytes value)
{
    return acceptor_found(&r->acceptor, number, value);
}

enum status registry_restore(struct registry *r, struct bytes blob)
{
    return acceptor_restore(&r->acceptor, blob);
}

enum status registry_replay(struct registry *r, struct bytes body)
{
    return acceptor_replay(&r->acceptor, body);
}

enum status registry_save(struct registry *r, struct buffer *out)
{
    return acceptor_save(&r->acceptor, out);
}

bool registry_changed(const struct registry *r)
{
    return r->acceptor.changed;
}

/* ---- Voters --------------------------------------------------------------------------------- */

bool registry_is_voter(const struct registry *r, uint32_t node)
{
    return voters_has(&r->acceptor.voters, node);
}

void registry_voters(const struct registry *r, struct registry_voters *ret)
{
    *ret = r->acceptor.voters;
}

void registry_set_voters(struct registry *r, const struct registry_voters *voters)
{
    acceptor_set_voters(&r->acceptor, voters);
}

/* ---- Answers of our acceptor ---------------------------------------------------------------- */

static void on_answer(struct registry *r, uint64_t now_ms, uint32_t from, const struct step *step);

static void say(struct registry *r, uint64_t now_ms, uint32_t to, const struct step *step)
{
    if (to == r->options.self)
        on_answer(r, now_ms, to, step);
    else
        steps_add(&r->steps, to, r->acceptor.voters.version, step);
}

static void refuse(struct registry *r, uint64_t now_ms, uint32_t to, uint32_t number,
                   const struct ballot *ballot)
{
    /* A refusal binds nobody: it need not wait for the disk. */
    say(r, now_ms, to,
        &(struct step){.kind = REGISTRY_REFUSED,
                       .number = number,
                       .ballot = *ballot,
                       .accepted = r->acceptor.registers[number].promised});
}

/* Whatever the acceptor agreed to is durable. */
static void answer(struct registry *r, uint64_t now_ms, const struct waiting *w)
{
    const struct acceptor_register *reg = &r->acceptor.registers[w->number];
    struct step step = {.kind = w->kind, .number = w->number, .ballot = w->ballot};
    if (w->kind == REGISTRY_PREPARED) {
        /* The register may have gone on meanwhile, to what is not durable. */
        if (ballot_compare(&reg->promised, &w->ballot) != 0) {
            refuse(r, now_ms, w->node, w->number, &w->ballot);
            return;
        }
        /* The proposer is at its second step already. */
        if (ballot_compare(&reg->accepted, &w->ballot) == 0)
            return;
        step.accepted = reg->accepted;
        step.content = acceptor_value_view(&reg->value);
    }
    say(r, now_ms, w->node, &step);
}

/* What has left takes the room of at most as much that waits. */
static void waiting_compact(struct registry *r)
{
    size_t gone = r->waiting_first * sizeof(struct waiting);
    if (gone * 2 < r->waiting.size)
        return;
    r->waiting.size -= gone;
    if (r->waiting.size > 0)
        memmove(r->waiting.data, r->waiting.data + gone, r->waiting.size);
    r->waiting_first = 0;
}

/* Our own answers take the queue in any case, so that no question is answered while it is asked. */
static void answer_when_durable(struct registry *r, uint64_t now_ms, const struct waiting *w)
{
    bool durable = w->lsn <= r->durable_lsn || (MUTANT(41) && w->kind == REGISTRY_PREPARED);
    if (durable && w->node != r->options.self) {
        answer(r, now_ms, w);
        return;
    }
    if (r->waiting_first > 0)
        waiting_compact(r);
    (void)buffer_append(&r->waiting, bytes_of(w, sizeof *w));
}

/* PREPARE or ACCEPT, from another node or from ourselves. */
static void on_question(struct registry *r, uint64_t now_ms, uint32_t from, const struct step *step)
{
    struct acceptor *a = &r->acceptor;
    enum acceptor_verdict verdict =
        step->kind == REGISTRY_PREPARE
            ? acceptor_prepare(a, step->number, &step->ballot)
            : acceptor_accept(a, step->number, &step->ballot, &step->content);
    if (verdict == ACCEPTOR_REFUSES)
        refuse(r, now_ms, from, step->number, &step->ballot);
    if (verdict != ACCEPTOR_AGREES)
        return;
    const struct waiting w = {
        .lsn = a->registers[step->number].lsn,
        .kind = step->kind == REGISTRY_PREPARE ? REGISTRY_PREPARED : REGISTRY_ACCEPTED,
        .node = from,
        .number = step->number,
        .ballot = step->ballot,
    };
    answer_when_durable(r, now_ms, &w);
}

/* ---- Rounds --------------------------------------------------------------------------------- */

/* Ask all voters. */
static void ask(struct registry *r, uint64_t now_ms, const struct step *step)
{
    uint32_t nodes[2 * REGISTRY_VOTERS_MAX];
    uint32_t count = voters_all(&r->acceptor.voters, nodes);
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i] == r->options.self)
            on_question(r, now_ms, nodes[i], step);
        else
            steps_add(&r->steps, nodes[i], r->acceptor.voters.version, step);
    }
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Between a half and one and a half of retry_min_ms, doubled `failures` times. It depends on the
 * moment, not on the register: what was started together stays together, in one message. */
static uint64_t delay_ms(const struct registry *r, uint64_t now_ms, uint32_t failures)
{
    uint64_t delay = r->options.retry_min_ms;
    while (failures-- > 0 && delay < r->options.retry_max_ms)
        delay *= 2;
    if (delay > r->options.retry_max_ms)
        delay = r->options.retry_max_ms;
    uint64_t jitter = mix(mix(r->options.random + now_ms) + delay) % (delay + 1);
    return delay / 2 + jitter;
}

static void retry_at(struct registry *r, struct operation *op, uint64_t at_ms)
{
    op->retry_ms = at_ms;
    if (at_ms < r->deadline_ms)
        r->deadline_ms = at_ms;
}

static void round_start(struct registry *r, uint64_t now_ms, struct operation *op)
{
    /* Above all that we have used or seen; the acceptor next door saves us a refusal. Who is
     * refused again and again leaps: while it backed off, a busy proposer went on from what it was
     * shown. */
    uint64_t promised = r->acceptor.registers[op->number].promised.counter;
    uint64_t *counter = &r->counters[op->number];
    uint32_t leap = op->refusals < LEAP_MAX ? op->refusals : LEAP_MAX;
    *counter = (*counter > promised ? *counter : promised) + (UINT64_C(1) << leap);
    op->ballot = (struct ballot){
        .counter = *counter,
        .node = r->options.self,
        /* What an earlier incarnation of us used is forgotten; invariant (3). */
        .incarnation = MUTANT(40) ? 0 : r->options.incarnation,
    };
    op->phase = PREPARING;
    op->answered = (struct voters_answered){0};
    op->refused = false;
    op->seen_ballot = (struct ballot){0};
    op->seen.version = 0;
    op->seen.size = 0;
    op->seen.writer = (struct registry_writer){0};
    retry_at(r, op, now_ms + delay_ms(r, now_ms, op->timeouts + op->refusals));
    ask(r, now_ms,
        &(struct step){.kind = REGISTRY_PREPARE, .number = op->number, .ballot = op->ballot});
}

static bool is_ours(const struct operation *op)
{
    const struct registry_writer *a = &op->seen.writer, *b = &op->ours.writer;
    return op->is_swap && a->node == b->node && a->incarnation == b->incarnation &&
           a->nonce == b->nonce;
}

/* The operation leaves before the host hears: it may start the next one. */
static void end(struct registry *r, struct operation *op)
{
    bool done = !op->is_swap || op->writes || is_ours(op);
    const struct acceptor_value *v = op->writes ? &op->ours : &op->seen;
    r->operations[op->number] = NULL;
    r->active[op->place] = r->active[--r->active_count];
    r->active[op->place]->place = op->place;
    r->host.ended(r->host.arg, op->ticket, op->number, done ? REGISTRY_DONE : REGISTRY_CONFLICT,
                  v->version, bytes_of(v->data, v->size));
    operation_destroy(&op);
}

/* A majority has promised: nothing can be committed below our ballot any more, and what was is the
 * highest that was seen. It goes on as it is, unless we are to change it. It is not current before
 * a majority has accepted it: so far a minority may hold it. */
static void choose(struct registry *r, uint64_t now_ms, struct operation *op)
{
    op->writes = op->is_swap && op->seen.version == op->expected;
    op->phase = ACCEPTING;
    op->answered = (struct voters_answered){0};
    if (MUTANT(16) && !op->writes) {
        end(r, op);
        return;
    }
    retry_at(r, op, now_ms + delay_ms(r, now_ms, op->timeouts + op->refusals));
    ask(r, now_ms,
        &(struct step){.kind = REGISTRY_ACCEPT,
                       .number = op->number,
                       .ballot = op->ballot,
                       .content = acceptor_value_view(op->writes ? &op->ours : &op->seen)});
}

/* False: out of memory, the promise does not count. */
static bool note_seen(struct operation *op, const struct step *step)
{
    int order = ballot_compare(&step->accepted, &op->seen_ballot);
    /* Not every voter need have been founded: the later founding value counts. */
    if (order < 0 || (order == 0 && step->content.version <= op->seen.version))
        return true;
    if (!acceptor_value_set(&op->seen, &step->content))
        return false;
    op->seen_ballot = step->accepted;
    return true;
}

static void on_refused(struct registry *r, uint64_t now_ms, struct operation *op,
                       const struct ballot *promised)
{
    if (promised->counter > r->counters[op->number])
        r->counters[op->number] = promised->counter;
    if (op->refused)
        return;
    /* The round goes on meanwhile: the others may be a majority. The first refusal says as a rule
     * that we had not heard of others' rounds, and we go on at once; the next ones, that we
     * collide. */
    op->refused = true;
    uint64_t at_ms = op->refusals == 0 ? now_ms : now_ms + delay_ms(r, now_ms, op->refusals - 1);
    op->refusals++;
    if (at_ms < op->retry_ms)
        retry_at(r, op, at_ms);
}

static void on_answer(struct registry *r, uint64_t now_ms, uint32_t from, const struct step *step)
{
    struct operation *op = r->operations[step->number];
    if (op == NULL || ballot_compare(&step->ballot, &op->ballot) != 0)
        return;
    const struct registry_voters *v = &r->acceptor.voters;
    if (step->kind == REGISTRY_REFUSED) {
        on_refused(r, now_ms, op, &step->accepted);
    } else if (step->kind == REGISTRY_PREPARED && op->phase == PREPARING) {
        if (!note_seen(op, step))
            return;
        voters_count(v, from, &op->answered);
        if (voters_majority(v, &op->answered))
            choose(r, now_ms, op);
    } else if (step->kind == REGISTRY_ACCEPTED && op->phase == ACCEPTING) {
        voters_count(v, from, &op->answered);
        if (voters_majority(v, &op->answered))
            end(r, op);
    }
}

/* ---- Operations ----------------------------------------------------------------------------- */

static uint64_t start(struct registry *r, uint64_t now_ms, struct operation *op)
{
    op->place = r->active_count;
    r->active[r->active_count++] = op;
    r->operations[op->number] = op;
    round_start(r, now_ms, op);
    return op->ticket;
}

/* NULL: one is under way already, or out of memory. */
static struct operation *operation_new(struct registry *r, uint32_t number)
{
    ENSURE(number < r->options.registers_count);
    struct operation *op = registry_busy(r, number) ? NULL : calloc(1, sizeof *op);
    if (op == NULL)
        return NULL;
    op->ticket = ++r->nonce << TICKET_SHIFT | number;
    op->number = number;
    return op;
}

uint64_t registry_read(struct registry *r, uint64_t now_ms, uint32_t number)
{
    struct operation *op = operation_new(r, number);
    return op == NULL ? 0 : start(r, now_ms, op);
}

uint64_t registry_swap(struct registry *r, uint64_t now_ms, uint32_t number,
                       uint64_t expected_version, struct bytes value)
{
    struct operation *op = operation_new(r, number);
    if (op == NULL)
        return 0;
    op->is_swap = true;
    op->expected = expected_version;
    const struct acceptor_proposal ours = {
        .version = expected_version + 1,
        .writer = {r->options.self, r->options.incarnation, op->ticket},
        .value = value,
    };
    if (!acceptor_value_set(&op->ours, &ours)) {
        operation_destroy(&op);
        return 0;
    }
    return start(r, now_ms, op);
}

void registry_give_up(struct registry *r, uint64_t ticket)
{
    uint64_t number = ticket & ((1u << TICKET_SHIFT) - 1);
    ENSURE(number < r->options.registers_count);
    struct operation *op = r->operations[number];
    if (op == NULL || op->ticket != ticket)
        return;
    r->operations[number] = NULL;
    r->active[op->place] = r->active[--r->active_count];
    r->active[op->place]->place = op->place;
    operation_destroy(&op);
}

bool registry_busy(const struct registry *r, uint32_t number)
{
    ENSURE(number < r->options.registers_count);
    return r->operations[number] != NULL;
}

/* ---- Events --------------------------------------------------------------------------------- */

static bool is_question(uint32_t kind)
{
    return kind == REGISTRY_PREPARE || kind == REGISTRY_ACCEPT;
}

static bool step_holds(const struct registry *r, uint32_t from, const struct step *s)
{
    if (s->kind < REGISTRY_PREPARE || s->kind > REGISTRY_REFUSED)
        return false;
    if (s->number >= r->options.registers_count || s->content.value.size > REGISTRY_VALUE_SIZE_MAX)
        return false;
    if (s->ballot.counter == 0 || s->ballot.counter > COUNTER_MAX ||
        s->accepted.counter > COUNTER_MAX)
        return false;
    /* A proposer speaks for itself; an answer goes to whom it concerns. */
    return s->ballot.node == (is_question(s->kind) ? from : r->options.self);
}

enum status registry_message(struct registry *r, uint64_t now_ms, uint32_t from,
                             const struct registry_message *m)
{
    for (size_t i = 0; i < m->count; i++) {
        struct step step = steps_of(m, i);
        if (!step_holds(r, from, &step))
            return STATUS_MALFORMED;
    }
    for (size_t i = 0; i < m->count; i++) {
        struct step step = steps_of(m, i);
        uint64_t ours = r->acceptor.voters.version;
        if (!is_question(step.kind))
            on_answer(r, now_ms, from, &step);
        else if (m->voters_version < ours)
            refuse(r, now_ms, from, step.number, &step.ballot);
        else if (m->voters_version == ours && registry_is_voter(r, r->options.self))
            on_question(r, now_ms, from, &step);
        /* A question of a newer set waits until we know that set: it will be asked again. */
    }
    return STATUS_OK;
}

/* Each round began under the old rules: again, under the new ones. */
static void restart_all(struct registry *r, uint64_t now_ms)
{
    for (uint32_t i = 0; i < r->active_count; i++)
        round_start(r, now_ms, r->active[i]);
}

void registry_durable(struct registry *r, uint64_t now_ms, uint64_t lsn)
{
    if (lsn > r->durable_lsn)
        r->durable_lsn = lsn;
    while (r->waiting_first < r->waiting.size / sizeof(struct waiting)) {
        struct waiting w; /* copied: answers may bring new questions, and the queue may move */
        memcpy(&w, r->waiting.data + r->waiting_first * sizeof w, sizeof w);
        if (w.lsn > r->durable_lsn)
            break;
        r->waiting_first++;
        answer(r, now_ms, &w);
    }
    if (r->acceptor.coming.version == 0 || r->acceptor.coming_lsn > r->durable_lsn)
        return;
    registry_flush(r); /* what was said under the old set leaves under its name */
    if (acceptor_obey(&r->acceptor, r->durable_lsn))
        restart_all(r, now_ms);
}

void registry_tick(struct registry *r, uint64_t now_ms)
{
    if (now_ms < r->deadline_ms)
        return;
    r->deadline_ms = UINT64_MAX;
    for (uint32_t i = 0; i < r->active_count; i++) {
        struct operation *op = r->active[i];
        if (now_ms >= op->retry_ms) {
            op->timeouts += !op->refused;
            round_start(r, now_ms, op);
        } else if (op->retry_ms < r->deadline_ms) {
            r->deadline_ms = op->retry_ms;
        }
    }
}

uint64_t registry_deadline(const struct registry *r)
{
    return r->deadline_ms;
}

void registry_flush(struct registry *r)
{
    steps_flush(&r->steps, r->acceptor.voters.version);
}
