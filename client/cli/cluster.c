/* Commands about the cluster as a whole: where, status, ping. They ask the routers (and nodes)
 * themselves, all at once, so that one that is down shows as down rather than being worked around.
 */
#include <stdarg.h>
#include <stdlib.h>

#include "client/cli/ask.h"
#include "client/cli/command.h"
#include "client/options.h"
#include "proto/clustermap.h"
#include "proto/codec.h"
#include "proto/partition.h"

#define WAIT_MAX_MS 1500 /* a healthy process answers these questions in a few milliseconds */

/* ---- Asking ---- */

struct crowd {
    size_t count;
    struct ask asks[SESSION_ROUTERS_MAX];
    struct duet_options options; /* the addresses, checked */
};

static uint64_t wait_ms(const struct context *c)
{
    return c->flags.timeout < WAIT_MAX_MS ? c->flags.timeout : WAIT_MAX_MS;
}

/* Ask every router. 0, or the exit code when the addresses are wrong. */
static int ask_routers(const struct context *c, struct bytes question, struct crowd *crowd)
{
    struct duet_error error;
    *crowd = (struct crowd){0};
    options_default(&crowd->options);
    if (duet_options_set(&crowd->options, "routers", c->routers, &error) != DUET_OK)
        return command_fail(error.code, "%s", error.message);
    crowd->count = crowd->options.routers_count;
    for (size_t i = 0; i < crowd->count; i++)
        crowd->asks[i] = (struct ask){crowd->options.routers[i], .question = question};
    ask_all(crowd->asks, crowd->count, wait_ms(c));
    return 0;
}

static void crowd_fini(struct crowd *crowd)
{
    for (size_t i = 0; i < crowd->count; i++)
        buffer_fini(&crowd->asks[i].answer);
}

static struct bytes pack_empty(enum message_kind kind, struct buffer *out)
{
    struct ping ping = {.nonce = 1};
    buffer_init(out, 256);
    if (kind == MESSAGE_PING)
        codec_pack_ping(MESSAGE_PING, &ping, out);
    else if (kind == MESSAGE_MAP_REQUEST)
        codec_pack_map_request(0, out);
    else
        codec_pack_status_request(out);
    return buffer_view(out);
}

static int ask_routers_for(const struct context *c, enum message_kind kind, struct crowd *crowd)
{
    struct buffer question;
    pack_empty(kind, &question);
    int exit_code = ask_routers(c, buffer_view(&question), crowd);
    buffer_fini(&question);
    return exit_code;
}

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

/* The newest map that any router knows; NULL: printed why, *ret_exit is set. */
static struct clustermap *fetch_map(const struct context *c, int *ret_exit)
{
    struct crowd crowd;
    *ret_exit = ask_routers_for(c, MESSAGE_MAP_REQUEST, &crowd);
    if (*ret_exit != 0)
        return NULL;
    struct arena arena;
    arena_init(&arena);
    struct clustermap *map = clustermap_new();
    char refusal[256] = "";
    for (size_t i = 0; map != NULL && i < crowd.count; i++) {
        join_map(map, &crowd.asks[i], &arena);
        if (refusal[0] == 0)
            refusal_of(&crowd.asks[i], &arena, refusal, sizeof refusal);
    }
    if (map == NULL || clustermap_empty(map)) {
        clustermap_destroy(&map);
        *ret_exit = refusal[0] != 0
                        ? command_fail(DUET_UNAVAILABLE, "%s", refusal)
                        : command_fail(DUET_NOCONNECTION,
                                       "no router answers at %s; is one running there, and is the "
                                       "address right?",
                                       c->routers);
    }
    arena_fini(&arena);
    crowd_fini(&crowd);
    return map;
}

/* ---- ping ---- */

static bool ping_one(const struct context *c, const struct ask *a)
{
    bool here = a->answered && a->kind == MESSAGE_PONG;
    double ms = (double)a->elapsed_ns / 1e6;
    if (command_json(c)) {
        json_t *object = json_object();
        json_object_set_new(object, "router", json_string(a->address));
        json_object_set_new(object, "answers", json_boolean(here));
        if (here)
            json_object_set_new(object, "ms", json_real(ms));
        text_json_print(object, true, stdout);
    } else if (here) {
        printf("%s  %.2f ms\n", a->address, ms);
    } else {
        printf("%s  %s\n", a->address, a->answered ? "answers something else" : a->error.message);
    }
    return here;
}

int cluster_ping(struct context *c)
{
    struct crowd crowd;
    int exit_code = ask_routers_for(c, MESSAGE_PING, &crowd);
    if (exit_code != 0)
        return exit_code;
    for (size_t i = 0; i < crowd.count; i++)
        if (!ping_one(c, &crowd.asks[i]))
            exit_code = 3;
    crowd_fini(&crowd);
    return exit_code;
}

/* ---- where ---- */

static const char *node_name(const struct clustermap *map, uint32_t index)
{
    return index < map->nodes_count ? map->nodes[index].name : "?";
}

static void where_table(const struct clustermap *map, uint64_t digest, uint32_t p)
{
    const struct clustermap_partition *partition = &map->partitions[p];
    printf("digest     %016llx\npartition  %u of %u\nepoch      %llu%s\nprimary    %s  %s\n",
           (unsigned long long)digest, p, map->partition_count,
           (unsigned long long)partition->epoch, partition->opened ? "" : " (not open)",
           node_name(map, partition->primary),
           partition->primary < map->nodes_count ? map->nodes[partition->primary].address : "");
    for (uint32_t i = 0; i < partition->isr_count; i++)
        if (partition->isr[i] != partition->primary)
            printf("copy       %s  %s\n", node_name(map, partition->isr[i]),
                   partition->isr[i] < map->nodes_count ? map->nodes[partition->isr[i]].address
                                                        : "");
}

static json_t *where_json(const struct clustermap *map, struct bytes key, uint64_t digest,
                          uint32_t p)
{
    const struct clustermap_partition *partition = &map->partitions[p];
    char text[20];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)digest);
    json_t *object = json_object(), *copies = json_array();
    text_json_set(object, "key", key);
    json_object_set_new(object, "digest", json_string(text));
    json_object_set_new(object, "partition", json_integer(p));
    json_object_set_new(object, "epoch", json_integer((json_int_t)partition->epoch));
    json_object_set_new(object, "primary", json_string(node_name(map, partition->primary)));
    for (uint32_t i = 0; i < partition->isr_count; i++)
        json_array_append_new(copies, json_string(node_name(map, partition->isr[i])));
    json_object_set_new(object, "copies", copies);
    return object;
}

int cluster_where(struct context *c)
{
    struct buffer key;
    int exit_code = 2;
    buffer_init(&key, 4 * KEY_SIZE_MAX);
    struct clustermap *map = command_key(c, c->words[0], &key) ? fetch_map(c, &exit_code) : NULL;
    if (map != NULL) {
        uint64_t digest = partition_digest(buffer_view(&key));
        uint32_t p = partition_of(digest, map->partition_count);
        if (command_json(c))
            command_print_json(c, where_json(map, buffer_view(&key), digest, p));
        else
            where_table(map, digest, p);
    }
    clustermap_destroy(&map);
    buffer_fini(&key);
    return exit_code;
}

/* ---- status ---- */

#define ADVICES_MAX 16

/* What is found out, before it is printed. */
struct survey {
    struct crowd routers;   /* their STATUS */
    struct clustermap *map; /* may be NULL */
    struct ask *nodes;      /* their STATUS; map->nodes_count of them, or NULL */
    struct arena arena;
    char advices[ADVICES_MAX][240];
    size_t advices_count;
};

static void advise(struct survey *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void advise(struct survey *s, const char *format, ...)
{
    if (s->advices_count == ADVICES_MAX)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(s->advices[s->advices_count++], sizeof s->advices[0], format, args);
    va_end(args);
}

/* The value that a STATUS answer has under this name; fallback when it has none. */
static uint64_t value_in(struct survey *s, const struct ask *a, const char *name, uint64_t fallback)
{
    struct status_message m;
    if (!a->answered || a->kind != MESSAGE_STATUS ||
        codec_unpack_status(buffer_view(&a->answer), &s->arena, &m) != STATUS_OK)
        return fallback;
    for (size_t i = 0; i < m.count; i++)
        if (bytes_equal(m.names[i], bytes_text(name)))
            return m.values[i];
    return fallback;
}

static bool status_answers(const struct ask *a)
{
    return a->answered && a->kind == MESSAGE_STATUS;
}

/* Does some router reach this node? */
static bool reached(struct survey *s, const char *name)
{
    char value_name[NAME_SIZE_MAX + 16];
    snprintf(value_name, sizeof value_name, "node.%s.up", name);
    for (size_t i = 0; i < s->routers.count; i++)
        if (value_in(s, &s->routers.asks[i], value_name, 0) != 0)
            return true;
    return false;
}

static void ask_nodes(const struct context *c, struct survey *s)
{
    struct buffer question;
    pack_empty(MESSAGE_STATUS_REQUEST, &question);
    s->nodes = calloc(s->map->nodes_count + 1, sizeof *s->nodes);
    for (uint32_t i = 0; s->nodes != NULL && i < s->map->nodes_count; i++)
        s->nodes[i] = (struct ask){s->map->nodes[i].address, .question = buffer_view(&question)};
    if (s->nodes != NULL)
        ask_all(s->nodes, s->map->nodes_count, wait_ms(c));
    buffer_fini(&question);
}

static void survey_fini(struct survey *s)
{
    crowd_fini(&s->routers);
    for (uint32_t i = 0; s->nodes != NULL && i < s->map->nodes_count; i++)
        buffer_fini(&s->nodes[i].answer);
    free(s->nodes);
    clustermap_destroy(&s->map);
    arena_fini(&s->arena);
}

static void survey_routers(struct survey *s, json_t *list)
{
    for (size_t i = 0; i < s->routers.count; i++) {
        const struct ask *a = &s->routers.asks[i];
        bool up = status_answers(a);
        json_t *object = json_object();
        json_object_set_new(object, "address", json_string(a->address));
        json_object_set_new(object, "up", json_boolean(up));
        if (up) {
            json_object_set_new(object, "map_version",
                                json_integer((json_int_t)value_in(s, a, "map_version", 0)));
            json_object_set_new(object, "operations",
                                json_integer((json_int_t)value_in(s, a, "operations", 0)));
            json_object_set_new(object, "in_flight",
                                json_integer((json_int_t)value_in(s, a, "slots_used", 0)));
        } else {
            advise(s, "router %s does not answer: start it, or take it out of --routers",
                   a->address);
        }
        json_array_append_new(list, object);
    }
}

static void survey_node(struct survey *s, uint32_t i, json_t *list)
{
    const struct clustermap_node *node = &s->map->nodes[i];
    const struct ask *a = &s->nodes[i];
    bool reaches = reached(s, node->name), answers = status_answers(a);
    json_t *object = json_object();
    json_object_set_new(object, "name", json_string(node->name));
    json_object_set_new(object, "address", json_string(node->address));
    json_object_set_new(object, "up", json_boolean(reaches || answers));
    if (answers) {
        uint64_t led = value_in(s, a, "partitions_led", 0);
        uint64_t open = value_in(s, a, "partitions_open", 0);
        json_object_set_new(object, "partitions_led", json_integer((json_int_t)led));
        json_object_set_new(object, "partitions_open", json_integer((json_int_t)open));
        json_object_set_new(object, "operations",
                            json_integer((json_int_t)value_in(s, a, "operations", 0)));
        if (open < led)
            advise(s,
                   "node %s leads %llu partitions that take no writes at the moment: a node that "
                   "holds their other copy went down or came back; this takes a second",
                   node->name, (unsigned long long)(led - open));
    }
    if (!reaches && !answers)
        advise(s,
               "node %s at %s does not answer: start it; until then its keys have a copy less",
               node->name, node->address);
    else if (!reaches)
        advise(s, "node %s answers here but no router reaches it: check the network between them",
               node->name);
    json_array_append_new(list, object);
}

static void survey_nodes(struct survey *s, json_t *list)
{
    for (uint32_t i = 0; s->nodes != NULL && i < s->map->nodes_count; i++)
        if (s->map->nodes[i].version > 0)
            survey_node(s, i, list);
}

static void survey_versions(struct survey *s)
{
    for (size_t i = 0; s->map != NULL && i < s->routers.count; i++) {
        const struct ask *a = &s->routers.asks[i];
        uint64_t version = value_in(s, a, "map_version", s->map->version);
        if (version < s->map->version)
            advise(s,
                   "router %s has an older map (%llu, newest %llu); it should learn within "
                   "seconds, else restart it",
                   a->address, (unsigned long long)version, (unsigned long long)s->map->version);
    }
}

/* Partitions with a copy that is not in sync. */
static uint32_t copies_missing(const struct clustermap *map)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < map->partition_count; p++)
        count += map->partitions[p].isr_count < map->partitions[p].assigned_count;
    return count;
}

static json_t *survey_cluster(struct survey *s)
{
    uint32_t missing = copies_missing(s->map);
    if (missing > 0)
        advise(s,
               "%u of %u partitions have a copy that is not in sync: a node is down, or catches up "
               "after it was; nothing is to be done if this number falls",
               missing, s->map->partition_count);
    char id[2 * sizeof(struct id128) + 1];
    for (size_t i = 0; i < sizeof(struct id128); i++)
        snprintf(id + 2 * i, 3, "%02x", s->map->cluster_id.octets[i]);
    json_t *object = json_object();
    json_object_set_new(object, "id", json_string(id));
    json_object_set_new(object, "partitions", json_integer(s->map->partition_count));
    json_object_set_new(object, "copies", json_integer(s->map->copies));
    json_object_set_new(object, "partitions_short", json_integer(missing));
    json_object_set_new(object, "map_version", json_integer((json_int_t)s->map->version));
    return object;
}

static json_t *survey_report(struct survey *s)
{
    json_t *report = json_object(), *routers = json_array(), *nodes = json_array();
    survey_routers(s, routers);
    if (s->map != NULL) {
        json_object_set_new(report, "cluster", survey_cluster(s));
        survey_nodes(s, nodes);
        survey_versions(s);
    }
    json_object_set_new(report, "routers", routers);
    json_object_set_new(report, "nodes", nodes);
    json_t *advices = json_array();
    for (size_t i = 0; i < s->advices_count; i++)
        json_array_append_new(advices, json_string(s->advices[i]));
    json_object_set_new(report, "problems", advices);
    json_object_set_new(report, "ok", json_boolean(s->advices_count == 0 && s->map != NULL));
    return report;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

static long long number_of(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static const char *up_of(const json_t *object)
{
    return json_is_true(json_object_get(object, "up")) ? "up" : "DOWN";
}

static void print_report(const json_t *report)
{
    const json_t *cluster = json_object_get(report, "cluster"), *item;
    size_t i;
    if (cluster != NULL)
        printf("cluster  %s  %lld partitions, %lld copies, map %lld\n", text_of(cluster, "id"),
               number_of(cluster, "partitions"), number_of(cluster, "copies"),
               number_of(cluster, "map_version"));
    puts("routers");
    json_array_foreach(json_object_get(report, "routers"), i, item)
    {
        printf("  %-28s %-5s", text_of(item, "address"), up_of(item));
        if (json_object_get(item, "map_version") != NULL)
            printf(" %lld operations, %lld in flight", number_of(item, "operations"),
                   number_of(item, "in_flight"));
        putchar('\n');
    }
    puts("nodes");
    json_array_foreach(json_object_get(report, "nodes"), i, item)
    {
        printf("  %-8s %-19s %-5s", text_of(item, "name"), text_of(item, "address"), up_of(item));
        if (json_object_get(item, "partitions_led") != NULL)
            printf(" leads %lld partitions, %lld open, %lld operations",
                   number_of(item, "partitions_led"), number_of(item, "partitions_open"),
                   number_of(item, "operations"));
        putchar('\n');
    }
    json_array_foreach(json_object_get(report, "problems"), i, item)
        printf("! %s\n", json_string_value(item));
    if (json_is_true(json_object_get(report, "ok")))
        puts("all is well");
}

/* 3: nobody answers; 5: something is wrong. */
static int survey_exit_code(const struct survey *s)
{
    bool any = false;
    for (size_t i = 0; i < s->routers.count; i++)
        any = any || s->routers.asks[i].answered;
    if (!any)
        return 3;
    return s->advices_count == 0 && s->map != NULL ? 0 : 5;
}

int cluster_status(struct context *c)
{
    struct survey s = {0};
    arena_init(&s.arena);
    int exit_code = ask_routers_for(c, MESSAGE_STATUS_REQUEST, &s.routers);
    if (exit_code != 0)
        return exit_code;
    if (survey_exit_code(&s) != 3)
        s.map = fetch_map(c, &exit_code);
    if (s.map != NULL)
        ask_nodes(c, &s);
    json_t *report = survey_report(&s);
    exit_code = survey_exit_code(&s);
    if (command_json(c)) {
        command_print_json(c, report);
    } else {
        print_report(report);
        json_decref(report);
    }
    survey_fini(&s);
    return exit_code;
}
