#include "tests/process/ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "tests/sim/texts.h"

#define SLOW_MS       1000
#define TAG_STEP      5u /* every so manieth key has a tag, */
#define TAG_SPAN      (TAG_STEP * LEDGER_TAG_KEYS) /* which is that of so many numbers */
#define SLOW_TOLD_MAX 10
#define PARTS_FILLING 60 /* short, so that answers with them are kept in full */

void ledger_init(struct ledger *l, const char *prefix, size_t items_max, size_t keys_max)
{
    memset(l, 0, sizeof *l);
    l->prefix = prefix;
    l->items_max = items_max;
    l->items = calloc(items_max, sizeof *l->items);
    l->glimpses = calloc(keys_max, sizeof *l->glimpses);
    ENSURE(l->items != NULL && l->glimpses != NULL);
    atomic_flag_clear(&l->glimpse_lock);
    atomic_flag_clear(&l->texts_lock);
    texts_filling(PARTS_FILLING);
}

void ledger_fini(struct ledger *l)
{
    texts_fini();
    free(l->items);
    free(l->glimpses);
}

/* ------------------------------------------------------------------ words */

enum ledger_key_kind ledger_key_kind(uint32_t key)
{
    return key < LEDGER_STILL_KEYS ? LEDGER_STILL : (enum ledger_key_kind)(key % 4);
}

size_t ledger_key(const struct ledger *l, uint32_t key, char to[static LEDGER_KEY_SIZE])
{
    const char *form = key % TAG_STEP == 0 ? "{%s-t%u}k%u" : "%s-k%u-%u";
    int size = snprintf(to, LEDGER_KEY_SIZE, form, l->prefix, key / TAG_SPAN, key);
    ENSURE(size > 0 && size < LEDGER_KEY_SIZE);
    return (size_t)size;
}

void ledger_tag(uint32_t key, uint32_t keys[static LEDGER_TAG_KEYS])
{
    for (uint32_t i = 0; i < LEDGER_TAG_KEYS; i++)
        keys[i] = key / TAG_SPAN * TAG_SPAN + TAG_STEP * i;
}

static void lock(atomic_flag *flag)
{
    while (atomic_flag_test_and_set_explicit(flag, memory_order_acquire))
        ;
}

static void unlock(atomic_flag *flag)
{
    atomic_flag_clear_explicit(flag, memory_order_release);
}

/* Most texts are short, one of 32 has some KiB, one of 1024 passes the table's chunk of 64 KiB. */
static size_t filling_size(int64_t n)
{
    uint64_t mixed = (uint64_t)n * 0x9e3779b97f4a7c15u >> 20;
    if (mixed % 1024 == 0)
        return 65536 + (mixed >> 10) % 100000;
    return mixed % 32 == 0 ? (mixed >> 10) % 6000 : (mixed >> 10) % 200;
}

static char filling(int64_t n, size_t i)
{
    return "abcdefghijklmnopqrstuvw"[(i + (size_t)n) % 23];
}

static char *part_print(struct ledger *l, struct checker_value v, size_t *ret_size)
{
    struct buffer text;
    buffer_init(&text, 1u << 20);
    lock(&l->texts_lock);
    texts_print(v, &text);
    unlock(&l->texts_lock);
    *ret_size = text.size;
    char *copy = malloc(text.size + 1);
    ENSURE(copy != NULL);
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    buffer_fini(&text);
    return copy;
}

static struct checker_value part_parse(struct ledger *l, struct bytes text)
{
    lock(&l->texts_lock);
    struct checker_value v = texts_parse(text);
    unlock(&l->texts_lock);
    return v;
}

struct checker_value ledger_part(struct ledger *l, const char *text)
{
    return part_parse(l, bytes_text(text));
}

char *ledger_value(struct ledger *l, uint32_t key, struct checker_value v, size_t *ret_size)
{
    if (ledger_key_kind(key) == LEDGER_PARTS)
        return part_print(l, v, ret_size);
    size_t fill = v.number ? 0 : filling_size(v.n);
    char *text = malloc(32 + fill);
    ENSURE(text != NULL);
    size_t head = (size_t)snprintf(text, 32, v.number ? "%" PRId64 : "v%" PRId64 ":", v.n);
    for (size_t i = 0; i < fill; i++)
        text[head + i] = filling(v.n, i);
    *ret_size = head + fill;
    return text;
}

/* False: nobody writes such a value. */
static bool value_parse(struct ledger *l, uint32_t key, struct duet_slice text,
                        struct checker_value *ret)
{
    if (ledger_key_kind(key) == LEDGER_PARTS) {
        *ret = part_parse(l, bytes_of(text.data, text.size));
        return true;
    }
    char head[32] = "", *end;
    const char *data = text.data;
    memcpy(head, data, text.size < sizeof head - 1 ? text.size : sizeof head - 1);
    *ret = (struct checker_value){.present = true, .number = head[0] != 'v'};
    ret->n = strtoll(head + !ret->number, &end, 10);
    size_t at = (size_t)(end - head);
    if (ret->number)
        return text.size > 0 && at == text.size;
    if (*end != ':' || text.size != ++at + filling_size(ret->n))
        return false;
    for (size_t i = 0; at + i < text.size; i++)
        if (data[at + i] != filling(ret->n, i))
            return false;
    return true;
}

/* ------------------------------------------------------------------ glimpses */

void ledger_glimpse(struct ledger *l, uint32_t key, struct ledger_glimpse *ret)
{
    lock(&l->glimpse_lock);
    *ret = l->glimpses[key];
    unlock(&l->glimpse_lock);
}

static void glimpse_note(struct ledger *l, const struct ledger_item *item)
{
    const struct checker_operation *op = &item->op;
    bool shows = op->read ? !op->of_expiry
                          : op->mutation == MUTATION_PUT || op->mutation == MUTATION_INCREMENT ||
                                (op->has_value && op->want == WANT_NEW);
    if (op->status != STATUS_OK || !shows)
        return;
    bool heard = op->has_value && (op->read || op->want == WANT_NEW);
    struct ledger_glimpse seen = {.value = heard ? op->value_seen : op->value,
                                  .version = op->version};
    lock(&l->glimpse_lock);
    l->glimpses[item->key] = seen;
    unlock(&l->glimpse_lock);
}

/* ------------------------------------------------------------------ figures */

static void raise(atomic_uint_fast64_t *max, uint64_t to)
{
    uint64_t had = atomic_load(max);
    while (had < to && !atomic_compare_exchange_weak(max, &had, to))
        ;
}

/* The first reads that should have been quick and were not: where to look in the logs. */
static void tell_slow(struct ledger *l, const struct ledger_item *item, const char *what,
                      uint64_t now)
{
    char key[LEDGER_KEY_SIZE];
    ledger_key(l, item->key, key);
    if (atomic_fetch_add(&l->slow_told, 1) < SLOW_TOLD_MAX)
        fprintf(stderr,
                "slow: a read of %s, which nobody changes, %s after %" PRIu64 " ms, at %.3f s\n",
                key, what, now - item->asked_ms, (double)(clock_wall_ms() % 3600000) / 1000);
}

static void figures_note(struct ledger *l, const struct ledger_item *item)
{
    bool read = item->op.read;
    uint64_t now = clock_now_ms();
    raise(read ? &l->read_ms_max : &l->write_ms_max, now - item->asked_ms);
    uint64_t last = atomic_exchange(read ? &l->read_last_ms : &l->write_last_ms, now);
    if (last != 0 && last < now)
        raise(read ? &l->read_gap_ms_max : &l->write_gap_ms_max, now - last);
    atomic_fetch_add(read ? &l->reads_done : &l->writes_done, 1);
    if (read && item->key < LEDGER_STILL_KEYS) {
        atomic_fetch_add(&l->still_done, 1);
        raise(&l->still_ms_max, now - item->asked_ms);
        if (now - item->asked_ms >= SLOW_MS)
            tell_slow(l, item, "was answered", now);
    }
}

/* ------------------------------------------------------------------ asking and hearing */

struct ledger_item *ledger_ask(struct ledger *l, uint32_t key, const struct checker_operation *op)
{
    size_t index = atomic_fetch_add(&l->items_count, 1);
    if (index >= l->items_max) {
        atomic_fetch_sub(&l->items_count, 1);
        return NULL;
    }
    uint_fast32_t keys = atomic_load(&l->keys_count);
    while (keys <= key && !atomic_compare_exchange_weak(&l->keys_count, &keys, key + 1))
        ;
    struct ledger_item *item = &l->items[index];
    item->key = key;
    item->op = *op;
    item->op.outcome = op->read ? CHECKER_NOT_DONE : CHECKER_IN_DOUBT;
    item->asked_ms = clock_now_ms();
    item->op.invoked = atomic_fetch_add(&l->moment, 1) + 1;
    return item;
}

void ledger_refuse(struct ledger *l, struct ledger_item *item)
{
    item->ended = true;
    item->op.outcome = CHECKER_NOT_DONE;
    atomic_fetch_add(item->op.read ? &l->reads_not_done : &l->writes_not_done, 1);
}

static bool is_outcome(enum duet_code code)
{
    return code == DUET_OK || code == DUET_NOTFOUND || code == DUET_CONDITION ||
           code == DUET_NOTNUMBER || code == DUET_OVERFLOW;
}

static void strange(struct ledger *l, const struct ledger_item *item, const char *what,
                    struct duet_slice text)
{
    char line[400], key[LEDGER_KEY_SIZE];
    checker_describe(&item->op, line, sizeof line);
    ledger_key(l, item->key, key);
    if (atomic_fetch_add(&l->strange, 1) < 20)
        fprintf(stderr, "strange: key %s: %s: %.*s (%zu bytes): %s\n", key, what,
                (int)(text.size < 60 ? text.size : 60), (const char *)text.data, text.size, line);
}

static void expiry_take(struct ledger *l, struct ledger_item *item,
                        const struct duet_result *result)
{
    struct duet_expiry expiry;
    struct checker_operation *op = &item->op;
    op->has_value = op->status == STATUS_OK;
    if (!op->has_value)
        return;
    if (!duet_result_expiry(result, &expiry))
        strange(l, item, "no expiry in the answer", duet_text(""));
    op->value_seen =
        (struct checker_value){.present = true, .number = true, .n = (int64_t)expiry.expiry_ms};
}

static void answer_take(struct ledger *l, struct ledger_item *item,
                        const struct duet_result *result)
{
    struct checker_operation *op = &item->op;
    struct duet_version version = duet_result_version(result);
    struct duet_slice text = duet_result_value(result);
    op->outcome = CHECKER_DONE;
    op->status = (enum status)duet_result_code(result);
    op->version = (struct version){version.epoch, version.seq};
    op->has_value = duet_result_has_value(result);
    if (op->of_expiry)
        expiry_take(l, item, result);
    else if (op->has_value && !value_parse(l, item->key, text, &op->value_seen))
        strange(l, item, "a value that nobody wrote", text);
    op->returned = atomic_fetch_add(&l->moment, 1) + 1;
    glimpse_note(l, item);
}

void ledger_hear(struct ledger *l, struct ledger_item *item, const struct duet_result *result)
{
    enum duet_code code = duet_result_code(result);
    bool doubt = (duet_result_flags(result) & DUET_IN_DOUBT) != 0;
    item->id = duet_result_id(result);
    if (item->ended)
        strange(l, item, "it was answered twice", duet_text(""));
    item->ended = true;
    if (doubt && item->op.read)
        strange(l, item, "a read in doubt", duet_text(""));
    if (is_outcome(code) && !doubt) {
        answer_take(l, item, result);
        figures_note(l, item);
        return;
    }
    item->op.outcome = doubt ? CHECKER_IN_DOUBT : CHECKER_NOT_DONE;
    item->doubted = doubt;
    atomic_fetch_add(doubt           ? &l->writes_doubted
                     : item->op.read ? &l->reads_not_done
                                     : &l->writes_not_done,
                     1);
    if (item->op.read && item->key < LEDGER_STILL_KEYS) {
        atomic_fetch_add(&l->still_not_done, 1);
        tell_slow(l, item, duet_code_name(code), clock_now_ms());
    }
}

void ledger_see(struct ledger *l, struct ledger_item *item, const struct duet_version *version,
                struct duet_slice value)
{
    struct checker_operation *op = &item->op;
    item->ended = true;
    op->outcome = CHECKER_DONE;
    op->status = version == NULL ? STATUS_NOTFOUND : STATUS_OK;
    op->has_value = version != NULL;
    if (version != NULL) {
        op->version = (struct version){version->epoch, version->seq};
        if (!value_parse(l, item->key, value, &op->value_seen))
            strange(l, item, "a value in a page that nobody wrote", value);
    }
    op->returned = atomic_fetch_add(&l->moment, 1) + 1;
    figures_note(l, item);
}

bool ledger_settle(struct ledger *l, struct ledger_item *item, const struct duet_result *result)
{
    enum duet_code code = duet_result_code(result);
    if (duet_result_flags(result) & DUET_IN_DOUBT)
        return false;
    if (code == DUET_ABORTED) {
        item->op.outcome = CHECKER_NOT_DONE;
        atomic_fetch_add(&l->settled_aborted, 1);
        return true;
    }
    if (!is_outcome(code))
        return false;
    /* Its place among the session's operations was given up with its first completion. */
    item->op.session = 0;
    answer_take(l, item, result);
    if (!item->op.has_value)
        item->op.want = WANT_NOTHING; /* large results are not kept for ever */
    atomic_fetch_add(&l->settled_done, 1);
    return true;
}

/* ------------------------------------------------------------------ judging */

static int by_key(const void *a, const void *b)
{
    const struct ledger_item *const *x = a, *const *y = b;
    if ((*x)->key != (*y)->key)
        return (*x)->key < (*y)->key ? -1 : 1;
    return (*x)->op.invoked < (*y)->op.invoked ? -1 : (*x)->op.invoked > (*y)->op.invoked;
}

static void show(const struct ledger *l, uint32_t key, const struct checker_operation *ops,
                 size_t count, const struct checker_result *result)
{
    char name[LEDGER_KEY_SIZE], line[400];
    ledger_key(l, key, name);
    fprintf(stderr,
            "key %s: not linearizable; %zu of %zu operations fit, then those marked do not\n", name,
            result->reached, count);
    for (size_t i = 0; i < count; i++) {
        checker_describe(&ops[i], line, sizeof line);
        fprintf(stderr, "%s %s\n", i == result->stuck ? "  ->" : "    ", line);
    }
}

static void judge_history(const struct ledger *l, uint32_t key, const struct checker_operation *ops,
                          size_t count, struct ledger_verdict *ret)
{
    struct checker_result result;
    checker_judge(ops, count, 0, &result);
    ret->keys++;
    ret->checker_steps += result.steps;
    if (result.verdict == CHECKER_GOOD)
        ret->good++;
    else if (result.verdict == CHECKER_UNDECIDED)
        ret->undecided++;
    else if (ret->broken++ < 5)
        show(l, key, ops, count, &result);
}

/* Each increment that was acknowledged counts once, each in doubt once or not at all; the last read
 * of the run must lie between. The checker knows this too; here it needs no trust in the checker.
 */
static void judge_counter(const struct ledger *l, uint32_t key, const struct checker_operation *ops,
                          size_t count, struct ledger_verdict *ret)
{
    int64_t least = 0, doubted = 0, last = 0;
    for (size_t i = 0; i < count; i++) {
        if (ops[i].read && ops[i].outcome == CHECKER_DONE)
            last = ops[i].has_value ? ops[i].value_seen.n : 0;
        else if (!ops[i].read && ops[i].outcome == CHECKER_DONE)
            least += ops[i].delta;
        else if (!ops[i].read && ops[i].outcome == CHECKER_IN_DOUBT)
            doubted += ops[i].delta;
    }
    ret->counters++;
    if (last >= least && last <= least + doubted)
        return;
    char name[LEDGER_KEY_SIZE];
    ledger_key(l, key, name);
    ret->counters_wrong++;
    fprintf(stderr,
            "counter %s: it is %" PRId64 "; %" PRId64 " were acknowledged and %" PRId64
            " are in doubt\n",
            name, last, least, doubted);
}

void ledger_judge(struct ledger *l, struct ledger_verdict *ret)
{
    size_t total = atomic_load(&l->items_count);
    const struct ledger_item **sorted = calloc(total + 1, sizeof *sorted);
    struct checker_operation *ops = calloc(total + 1, sizeof *ops);
    ENSURE(sorted != NULL && ops != NULL);
    *ret = (struct ledger_verdict){0};
    for (size_t i = 0; i < total; i++)
        sorted[i] = &l->items[i];
    qsort(sorted, total, sizeof *sorted, by_key);
    for (size_t i = 0; i < total;) {
        size_t count = 0;
        uint32_t key = sorted[i]->key;
        for (; i < total && sorted[i]->key == key; i++)
            ops[count++] = sorted[i]->op;
        judge_history(l, key, ops, count, ret);
        if (ledger_key_kind(key) == LEDGER_COUNTER)
            judge_counter(l, key, ops, count, ret);
    }
    free(ops);
    free(sorted);
}
