#include "client/cli/survey.h"

#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>

#include "client/options.h"
#include "proto/base/clock.h"
#include "proto/codec.h"

#define WAIT_MAX_MS 1500 /* a healthy process answers these questions in a few milliseconds */

/* ---- Asking ---- */

static uint64_t wait_ms(const struct context *c)
{
    return c->flags.timeout < WAIT_MAX_MS ? c->flags.timeout : WAIT_MAX_MS;
}

static void pack_question(enum message_kind kind, struct buffer *out)
{
    struct ping ping = {.nonce = 1};
    buffer_init(out, 256);
    if (kind == MESSAGE_PING)
        codec_pack_ping(MESSAGE_PING, &ping, out);
    else if (kind == MESSAGE_MAP_REQUEST)
        codec_pack_map_request(0, out);
    else
        codec_pack_status_request(out);
}

/* Ask every router the same, but not those of which is known (may be NULL) that they are down. asks
 * has room for SESSION_ROUTERS_MAX. 0, or the exit code. The answers, and *ret_options which the
 * addresses point into, are the caller's to free. */
static int ask_all_routers(const struct context *c, enum message_kind kind,
                           const struct survey *known, struct ask *asks, size_t *ret_count,
                           struct duet_options **ret_options)
{
    struct duet_error error;
    struct buffer question;
    struct duet_options *options = duet_options_new();
    *ret_count = 0;
    *ret_options = options;
    if (options == NULL)
        return command_fail(DUET_NOMEMORY, "out of memory");
    if (duet_options_set(options, "routers", c->routers, &error) != DUET_OK)
        return command_fail_routers(c, error.code, error.message);
    pack_question(kind, &question);
    *ret_count = options->routers_count;
    for (size_t i = 0; i < *ret_count; i++)
        asks[i] = (struct ask){.address = options->routers[i],
                               .question = buffer_view(&question),
                               .skip = known != NULL && i < known->routers_count &&
                                       !known->routers[i].up};
    ask_all(asks, *ret_count, wait_ms(c));
    buffer_fini(&question);
    return 0;
}

static void asks_fini(struct ask *asks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buffer_fini(&asks[i].answer);
}

/* ---- The map ---- */

/* Take what an answer says of the map; others are passed over. */
static void join_map(struct clustermap *map, const struct ask *a, struct arena *arena)
{
    struct map_message m;
    bool changed;
    if (a->answered && a->kind == MESSAGE_MAP &&
        codec_unpack_map(buffer_view(&a->answer), arena, &m) == STATUS_OK)
        clustermap_join(map, &m, &changed);
}

/* The words of a REFUSED answer, "" for any other. */
static const char *refusal_of(const struct ask *a, struct arena *arena, char *text, size_t size)
{
    struct refused m;
    text[0] = 0;
    if (a->answered && a->kind == MESSAGE_REFUSED &&
        codec_unpack_refused(buffer_view(&a->answer), arena, &m) == STATUS_OK)
        snprintf(text, size, "%.*s", (int)m.message.size, (const char *)m.message.data);
    return text;
}

/* NULL, and why in refusal when a router said it, when nobody tells. */
static struct clustermap *map_of(const struct ask *asks, size_t count, char *refusal, size_t size)
{
    struct arena arena;
    arena_init(&arena);
    struct clustermap *map = clustermap_new();
    refusal[0] = 0;
    for (size_t i = 0; map != NULL && i < count; i++) {
        join_map(map, &asks[i], &arena);
        if (refusal[0] == 0)
            refusal_of(&asks[i], &arena, refusal, size);
    }
    if (map != NULL && clustermap_empty(map))
        clustermap_destroy(&map);
    arena_fini(&arena);
    return map;
}

/* As survey_map(), without words. */
static struct clustermap *fetch_map(const struct context *c, const struct survey *known,
                                    char *refusal, size_t size)
{
    struct ask asks[SESSION_ROUTERS_MAX];
    size_t count;
    struct duet_options *options;
    struct clustermap *map = NULL;
    if (ask_all_routers(c, MESSAGE_MAP_REQUEST, known, asks, &count, &options) == 0)
        map = map_of(asks, count, refusal, size);
    asks_fini(asks, count);
    duet_options_free(&options);
    return map;
}

struct clustermap *survey_map(const struct context *c, int *ret_exit)
{
    char refusal[256] = "", words[ERROR_MESSAGE_SIZE];
    struct clustermap *map = fetch_map(c, NULL, refusal, sizeof refusal);
    *ret_exit = 0;
    snprintf(words, sizeof words,
             "no router answers at %s; is one running there, and is the address right?",
             c->routers);
    if (map == NULL)
        *ret_exit = refusal[0] != 0 ? command_fail(DUET_UNAVAILABLE, "%s", refusal)
                                    : command_fail_routers(c, DUET_NOCONNECTION, words);
    return map;
}

/* ---- The processes ---- */

static bool text_is(struct bytes text, const char *word)
{
    return bytes_equal(text, bytes_text(word));
}

static void process_fini(struct survey_process *p)
{
    p->status = (struct status_message){0};
    arena_fini(&p->arena);
}

/* What an answer to STATUS_REQUEST says; it must come from a process of this role. */
static void read_status(const struct ask *a, const char *role, struct survey_process *ret)
{
    *ret = (struct survey_process){.address = a->address, .elapsed_ns = a->elapsed_ns};
    arena_init(&ret->arena);
    struct bytes frame = buffer_view(&a->answer), found;
    ret->answered = a->answered;
    if (!a->answered) {
        snprintf(ret->wrong, sizeof ret->wrong, "%s", a->error.message);
    } else if (codec_unpack_status(frame, &ret->arena, &ret->status) == STATUS_OK) {
        found = ret->status.role;
        ret->up = text_is(found, role);
        if (!ret->up)
            snprintf(ret->wrong, sizeof ret->wrong, "is a %.*s, not a %s", (int)found.size,
                     (const char *)found.data, role);
    } else if (refusal_of(a, &ret->arena, ret->wrong, sizeof ret->wrong)[0] == 0) {
        snprintf(ret->wrong, sizeof ret->wrong, "answers, but not in Duet's protocol");
    }
    if (!ret->up)
        process_fini(ret);
}

static int ask_routers(const struct context *c, struct survey *s, struct survey_process *ret)
{
    struct ask asks[SESSION_ROUTERS_MAX];
    struct duet_options *options;
    size_t count;
    int exit_code = ask_all_routers(c, MESSAGE_STATUS_REQUEST, s, asks, &count, &options);
    if (exit_code != 0) {
        duet_options_free(&options);
        return exit_code;
    }
    s->routers_count = count;
    for (size_t i = 0; i < s->routers_count; i++)
        read_status(&asks[i], "router", &ret[i]);
    asks_fini(asks, s->routers_count);
    duet_options_free(&s->options);
    s->options = options;
    return 0;
}

static void ask_nodes(const struct context *c, struct survey *s)
{
    uint32_t count = s->map->nodes_count;
    struct buffer question;
    struct ask *asks = calloc(count + 1, sizeof *asks);
    s->nodes = calloc(count + 1, sizeof *s->nodes);
    pack_question(MESSAGE_STATUS_REQUEST, &question);
    if (asks != NULL && s->nodes != NULL) {
        for (uint32_t i = 0; i < count; i++)
            asks[i] = (struct ask){.address = s->map->nodes[i].address,
                                   .question = buffer_view(&question)};
        ask_all(asks, count, wait_ms(c));
        for (uint32_t i = 0; i < count; i++)
            read_status(&asks[i], "node", &s->nodes[i]);
        asks_fini(asks, count);
    }
    buffer_fini(&question);
    free(asks);
}

static uint64_t sum_of(const struct survey_process *routers, size_t count, const char *name)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += survey_value(&routers[i], name);
    return sum;
}

/* Ask the routers a second time: what happened between is the rate. The second answers are those
 * that are shown. */
static void take_rates(const struct context *c, struct survey *s, uint64_t first_ms)
{
    uint64_t reads = sum_of(s->routers, s->routers_count, "reads");
    uint64_t writes = sum_of(s->routers, s->routers_count, "writes");
    uint64_t passed_ms = clock_now_ms() - first_ms;
    if (passed_ms < SURVEY_RATE_MS)
        poll(NULL, 0, (int)(SURVEY_RATE_MS - passed_ms));
    struct survey_process again[SESSION_ROUTERS_MAX];
    if (ask_routers(c, s, again) != 0)
        return;
    uint64_t reads_now = sum_of(again, s->routers_count, "reads");
    uint64_t writes_now = sum_of(again, s->routers_count, "writes");
    for (size_t i = 0; i < s->routers_count; i++) {
        process_fini(&s->routers[i]);
        s->routers[i] = again[i];
    }
    /* A router that was started anew between counts from 0. */
    if (reads_now < reads || writes_now < writes)
        return;
    s->seconds = (double)(clock_now_ms() - first_ms) / 1000;
    s->reads = reads_now - reads;
    s->writes = writes_now - writes;
}

static bool any_up(const struct survey *s)
{
    for (size_t i = 0; i < s->routers_count; i++)
        if (s->routers[i].up)
            return true;
    return false;
}

int survey_take(const struct context *c, bool rates, struct survey *s)
{
    char refusal[256];
    *s = (struct survey){0};
    uint64_t first_ms = clock_now_ms();
    int exit_code = ask_routers(c, s, s->routers);
    if (exit_code != 0 || !any_up(s))
        return exit_code;
    s->map = fetch_map(c, s, refusal, sizeof refusal);
    if (s->map != NULL)
        ask_nodes(c, s);
    if (rates)
        take_rates(c, s, first_ms);
    return 0;
}

void survey_fini(struct survey *s)
{
    for (size_t i = 0; i < s->routers_count; i++)
        process_fini(&s->routers[i]);
    for (uint32_t i = 0; s->nodes != NULL && i < s->map->nodes_count; i++)
        process_fini(&s->nodes[i]);
    free(s->nodes);
    duet_options_free(&s->options);
    clustermap_destroy(&s->map);
}

uint64_t survey_value(const struct survey_process *process, const char *name)
{
    for (size_t i = 0; i < process->status.count; i++)
        if (text_is(process->status.names[i], name))
            return process->status.values[i];
    return 0;
}

bool survey_reaches(const struct survey_process *router, const struct clustermap_node *node)
{
    char name[NAME_SIZE_MAX + 16];
    snprintf(name, sizeof name, "node.%s.up", node->name);
    return survey_value(router, name) != 0;
}

/* ---- Problems ---- */

static void problem(json_t *problems, const char *todo, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What is wrong (and what follows from it), and what to do. */
static void problem(json_t *problems, const char *todo, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    json_t *object = json_object();
    json_object_set_new(object, "what", json_string(what));
    json_object_set_new(object, "todo", json_string(todo));
    json_array_append_new(problems, object);
}

static void router_problems(const struct survey *s, json_t *problems)
{
    for (size_t i = 0; i < s->routers_count; i++) {
        const struct survey_process *r = &s->routers[i];
        uint64_t version = survey_value(r, "map_version");
        if (!r->up)
            problem(problems,
                    r->answered ? "give the address of a router instead"
                    : any_up(s) ? "start it, or take its address out of the routers"
                                : "start it; or is the address wrong? --routers, DUET_ROUTERS or "
                                  "`duet context` set it",
                    "router %s %s", r->address, r->wrong);
        else if (s->map == NULL)
            problem(problems, "start the nodes; is the router's option `nodes` right?",
                    "router %s does not know the cluster yet: no node has answered it", r->address);
        else if (version < s->map->version)
            problem(problems, "wait a few seconds; if it stays so, restart the router",
                    "router %s has an older map (%llu, the newest is %llu)", r->address,
                    (unsigned long long)version, (unsigned long long)s->map->version);
    }
}

/* How many routers are up, and how many of them reach the node. */
static size_t count_reaching(const struct survey *s, uint32_t node, size_t *ret_up)
{
    size_t reaching = 0;
    *ret_up = 0;
    for (size_t i = 0; i < s->routers_count; i++) {
        *ret_up += s->routers[i].up;
        reaching += s->routers[i].up && survey_reaches(&s->routers[i], &s->map->nodes[node]);
    }
    return reaching;
}

static void node_problems(const struct survey *s, uint32_t i, json_t *problems)
{
    const struct clustermap_node *node = &s->map->nodes[i];
    const struct survey_process *p = &s->nodes[i];
    size_t up, reaching = count_reaching(s, i, &up);
    if (!p->up && reaching == 0)
        problem(problems, "start it",
                "node %s at %s %s; its keys have a copy less",
                node->name, node->address, p->wrong);
    else if (reaching < up)
        problem(problems, "check the network between them",
                "%zu of %zu routers do not reach node %s at %s", up - reaching, up, node->name,
                node->address);
    else if (!p->up)
        problem(problems, "nothing, unless you expect to reach it from here",
                "node %s at %s %s here, but the routers reach it", node->name, node->address,
                p->wrong);
    if (survey_value(p, "leaving") != 0)
        problem(problems, "when the work on it is done, `duet admin undrain` it, or start it anew",
                "node %s is %s", node->name,
                survey_value(p, "left") != 0 ? "drained: it leads nothing, and its keys have a copy less"
                                             : "being drained, or about to stop");
    if (survey_value(p, "disk_full") != 0)
        problem(problems, "give it room: move other files away, or enlarge the disk",
                "the disk of node %s is nearly full; writes to its keys are refused", node->name);
}

/* Those that take writes; *ret_certain is false when a node was not heard that is there. */
static uint64_t count_writable(const struct survey *s, bool *ret_certain)
{
    uint64_t open = 0;
    *ret_certain = s->nodes != NULL;
    for (uint32_t i = 0; s->nodes != NULL && i < s->map->nodes_count; i++) {
        size_t up;
        open += survey_value(&s->nodes[i], "partitions_open");
        if (s->map->nodes[i].version > 0 && !s->nodes[i].up && count_reaching(s, i, &up) > 0)
            *ret_certain = false;
    }
    return open;
}

/* Those with a copy that is not in sync. */
static uint64_t count_lacking(const struct survey *s)
{
    uint64_t count = 0;
    for (uint32_t p = 0; p < s->map->partition_count; p++)
        count += s->map->partitions[p].isr_count < s->map->partitions[p].assigned_count;
    return count;
}

static void partition_problems(const struct survey *s, json_t *problems)
{
    bool certain;
    uint64_t open = count_writable(s, &certain), all = s->map->partition_count;
    uint64_t lacking = count_lacking(s);
    if (certain && open < all)
        problem(problems,
                "wait a second; if it stays so, start the nodes that are missing: both copies of a "
                "key may be down, or most of the nodes that vote",
                "%llu of %llu partitions take no writes at the moment",
                (unsigned long long)(all - open), (unsigned long long)all);
    if (lacking > 0)
        problem(problems,
                "start the node that is missing; if none is, nothing: a node that came back catches up",
                "%llu of %llu partitions have a copy less than they should",
                (unsigned long long)lacking, (unsigned long long)all);
}

static void voter_problems(const struct survey *s, json_t *problems)
{
    if (s->map->voters.next_count > 0)
        problem(problems,
                "wait; it goes on while a majority of the former voters and one of the new ones is "
                "there",
                "other nodes are to vote: the change is under way");
}

static json_t *find_problems(const struct survey *s)
{
    json_t *problems = json_array();
    router_problems(s, problems);
    for (uint32_t i = 0; s->nodes != NULL && i < s->map->nodes_count; i++)
        if (s->map->nodes[i].version > 0)
            node_problems(s, i, problems);
    if (s->map != NULL)
        partition_problems(s, problems);
    if (s->map != NULL)
        voter_problems(s, problems);
    return problems;
}

/* ---- The report ---- */

static void set_count(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static void copy_counts(json_t *object, const struct survey_process *p, const char *const *names,
                        size_t count)
{
    for (size_t i = 0; p->up && i < count; i++)
        set_count(object, names[i], survey_value(p, names[i]));
}

static json_t *process_json(const struct survey_process *p)
{
    json_t *object = json_object();
    json_object_set_new(object, "address", json_string(p->address));
    json_object_set_new(object, "up", json_boolean(p->up));
    if (!p->up)
        json_object_set_new(object, "error", json_string(p->wrong));
    else
        json_object_set_new(object, "answered_in_ms", json_real((double)p->elapsed_ns / 1e6));
    return object;
}

static json_t *routers_json(const struct survey *s)
{
    static const char *const names[] = {"map_version", "operations", "reads",     "writes",
                                        "busy",        "in_doubt",   "deadlines", "repeats"};
    json_t *list = json_array();
    for (size_t i = 0; i < s->routers_count; i++) {
        const struct survey_process *p = &s->routers[i];
        json_t *object = process_json(p);
        if (p->up) {
            text_json_set(object, "name", p->status.name);
            set_count(object, "in_flight", survey_value(p, "slots_used"));
        }
        copy_counts(object, p, names, sizeof names / sizeof *names);
        json_array_append_new(list, object);
    }
    return list;
}

static json_t *nodes_json(const struct survey *s)
{
    static const char *const names[] = {"partitions_led", "partitions_open", "operations",
                                        "commits",        "pending_entries", "disk_full",
                                        "peers_up"};
    json_t *list = json_array();
    for (uint32_t i = 0; s->nodes != NULL && i < s->map->nodes_count; i++) {
        size_t up, reaching;
        if (s->map->nodes[i].version == 0)
            continue;
        reaching = count_reaching(s, i, &up);
        json_t *object = process_json(&s->nodes[i]);
        json_object_set_new(object, "name", json_string(s->map->nodes[i].name));
        json_object_set_new(object, "up", json_boolean(s->nodes[i].up || reaching > 0));
        set_count(object, "routers_reaching", reaching);
        copy_counts(object, &s->nodes[i], names, sizeof names / sizeof *names);
        json_array_append_new(list, object);
    }
    return list;
}

/* The names of these nodes. */
static json_t *names_json(const struct survey *s, const uint32_t *nodes, uint32_t count)
{
    json_t *names = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(names, json_string(s->map->nodes[nodes[i]].name));
    return names;
}

static json_t *cluster_json(const struct survey *s)
{
    char id[2 * sizeof(struct id128) + 1];
    for (size_t i = 0; i < sizeof(struct id128); i++)
        snprintf(id + 2 * i, 3, "%02x", s->map->cluster_id.octets[i]);
    bool certain;
    uint64_t open = count_writable(s, &certain);
    json_t *object = json_object();
    json_object_set_new(object, "id", json_string(id));
    set_count(object, "partitions", s->map->partition_count);
    set_count(object, "partitions_writable", open);
    set_count(object, "partitions_lacking_copies", count_lacking(s));
    set_count(object, "copies", s->map->copies);
    set_count(object, "map_version", s->map->version);
    const struct clustermap_voters *v = &s->map->voters;
    json_object_set_new(object, "voters", names_json(s, v->nodes, v->count));
    if (v->next_count > 0)
        json_object_set_new(object, "voters_to_come", names_json(s, v->next, v->next_count));
    return object;
}

static json_t *workload_json(const struct survey *s)
{
    json_t *object = json_object();
    if (s->seconds > 0) {
        json_object_set_new(object, "reads_per_second", json_real((double)s->reads / s->seconds));
        json_object_set_new(object, "writes_per_second", json_real((double)s->writes / s->seconds));
    }
    set_count(object, "in_flight", sum_of(s->routers, s->routers_count, "slots_used"));
    return object;
}

json_t *survey_report(const struct survey *s)
{
    json_t *report = json_object(), *problems = find_problems(s);
    bool ok = json_array_size(problems) == 0 && s->map != NULL;
    json_object_set_new(report, "ok", json_boolean(ok));
    if (s->map != NULL) {
        json_object_set_new(report, "cluster", cluster_json(s));
        json_object_set_new(report, "workload", workload_json(s));
    }
    json_object_set_new(report, "routers", routers_json(s));
    json_object_set_new(report, "nodes", nodes_json(s));
    json_object_set_new(report, "problems", problems);
    return report;
}

int survey_exit_code(const struct survey *s, const json_t *report)
{
    if (!any_up(s))
        return 3;
    return json_is_true(json_object_get(report, "ok")) ? 0 : 5;
}
