/* Commands about the place of one key: where and explain. */
#include <stdlib.h>

#include "client/cli/survey.h"
#include "proto/base/clock.h"
#include "proto/partition.h"

struct place {
    struct buffer key;
    uint64_t digest;
    uint32_t partition;
};

static bool place_init(struct place *p, const struct context *c)
{
    buffer_init(&p->key, 4 * KEY_SIZE_MAX);
    if (!command_key(c, c->words[0], &p->key))
        return false;
    p->digest = partition_digest(buffer_view(&p->key));
    return true;
}

static const char *node_name(const struct clustermap *map, uint32_t index)
{
    return index < map->nodes_count ? map->nodes[index].name : "?";
}

static const char *node_address(const struct clustermap *map, uint32_t index)
{
    return index < map->nodes_count ? map->nodes[index].address : "";
}

/* ---- where ---- */

static void where_table(const struct clustermap *map, const struct place *place)
{
    const struct clustermap_partition *p = &map->partitions[place->partition];
    printf("digest     %016llx\npartition  %u of %u\nepoch      %llu%s\nprimary    %s  %s\n",
           (unsigned long long)place->digest, place->partition, map->partition_count,
           (unsigned long long)p->epoch, p->opened ? "" : " (not open)", node_name(map, p->primary),
           node_address(map, p->primary));
    for (uint32_t i = 0; i < p->isr_count; i++)
        if (p->isr[i] != p->primary)
            printf("copy       %s  %s\n", node_name(map, p->isr[i]), node_address(map, p->isr[i]));
}

static json_t *where_json(const struct clustermap *map, const struct place *place)
{
    const struct clustermap_partition *p = &map->partitions[place->partition];
    char text[20];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)place->digest);
    json_t *object = json_object(), *copies = json_array();
    text_json_set(object, "key", buffer_view(&place->key));
    json_object_set_new(object, "digest", json_string(text));
    json_object_set_new(object, "partition", json_integer(place->partition));
    json_object_set_new(object, "epoch", json_integer((json_int_t)p->epoch));
    json_object_set_new(object, "primary", json_string(node_name(map, p->primary)));
    for (uint32_t i = 0; i < p->isr_count; i++)
        json_array_append_new(copies, json_string(node_name(map, p->isr[i])));
    json_object_set_new(object, "copies", copies);
    return object;
}

int cluster_where(struct context *c)
{
    struct place place;
    int exit_code = 2;
    struct clustermap *map = place_init(&place, c) ? survey_map(c, &exit_code) : NULL;
    if (map != NULL) {
        place.partition = partition_of(place.digest, map->partition_count);
        if (command_json(c))
            command_print_json(c, where_json(map, &place));
        else
            where_table(map, &place);
    }
    clustermap_destroy(&map);
    buffer_fini(&place.key);
    return exit_code;
}

/* ---- explain ---- */

/* What a read of the key came to. */
struct reading {
    enum duet_code code;
    struct duet_error error;
    struct duet_version version;
    size_t size;
    double ms;
    char router[128];
};

/* 0, or the exit code when nobody answers. */
static int read_key(struct context *c, const struct place *place, struct reading *ret)
{
    int exit_code = 0;
    *ret = (struct reading){0};
    if (command_client(c, &exit_code) == NULL)
        return exit_code;
    struct duet_result *result = NULL;
    struct duet_client_info info;
    uint64_t begin_ns = clock_now_ns();
    ret->code = duet_get(c->client, command_slice(&place->key), &result, &ret->error);
    ret->ms = (double)(clock_now_ns() - begin_ns) / 1e6;
    if (ret->code == DUET_OK) {
        ret->version = duet_result_version(result);
        ret->size = duet_result_value(result).size;
    }
    duet_client_info(c->client, &info);
    snprintf(ret->router, sizeof ret->router, "%s", info.router);
    duet_result_free(&result);
    return 0;
}

/* Is the node there, for this router? */
static bool node_up(const struct survey *s, uint32_t node)
{
    if (node >= s->map->nodes_count)
        return false;
    for (size_t i = 0; i < s->routers_count; i++)
        if (s->routers[i].up && survey_reaches(&s->routers[i], &s->map->nodes[node]))
            return true;
    return false;
}

static json_t *node_json(const struct survey *s, uint32_t node)
{
    json_t *object = json_object();
    json_object_set_new(object, "name", json_string(node_name(s->map, node)));
    json_object_set_new(object, "address", json_string(node_address(s->map, node)));
    json_object_set_new(object, "up", json_boolean(node_up(s, node)));
    return object;
}

/* Which routers have exactly this map, and which have an older one. */
static void set_sources(json_t *object, const struct survey *s)
{
    json_t *same = json_array(), *older = json_array();
    for (size_t i = 0; i < s->routers_count; i++) {
        const struct survey_process *r = &s->routers[i];
        if (r->up)
            json_array_append_new(survey_value(r, "map_version") >= s->map->version ? same : older,
                                  json_string(r->address));
    }
    json_object_set_new(object, "map_version", json_integer((json_int_t)s->map->version));
    json_object_set_new(object, "said_by", same);
    json_object_set_new(object, "older_maps", older);
}

static json_t *reading_json(const struct reading *r)
{
    char text[48];
    json_t *object = json_object();
    json_object_set_new(object, "outcome", json_string(duet_code_name(r->code)));
    if (r->code == DUET_OK) {
        json_object_set_new(object, "version", json_string(command_version(r->version, text)));
        json_object_set_new(object, "size", json_integer((json_int_t)r->size));
    } else {
        json_object_set_new(object, "message", json_string(r->error.message));
    }
    json_object_set_new(object, "ms", json_real(r->ms));
    json_object_set_new(object, "router", json_string(r->router));
    return object;
}

static json_t *explain_json(const struct survey *s, const struct place *place,
                            const struct reading *reading)
{
    const struct clustermap_partition *p = &s->map->partitions[place->partition];
    json_t *object = where_json(s->map, place), *copies = json_array();
    text_json_set(object, "hash_tag", partition_hash_tag(buffer_view(&place->key)));
    json_object_set_new(object, "partitions", json_integer(s->map->partition_count));
    json_object_set_new(object, "open", json_boolean(p->opened));
    json_object_set_new(object, "primary", node_json(s, p->primary));
    for (uint32_t i = 0; i < p->isr_count; i++)
        if (p->isr[i] != p->primary)
            json_array_append_new(copies, node_json(s, p->isr[i]));
    json_object_set_new(object, "copies", copies);
    json_object_set_new(object, "read", reading_json(reading));
    set_sources(object, s);
    return object;
}

static void print_node(const struct survey *s, const char *role, uint32_t node)
{
    printf("%-10s %s  %s  %s\n", role, node_name(s->map, node), node_address(s->map, node),
           node_up(s, node) ? "up" : "DOWN");
}

static void print_bytes(const struct context *c, const char *name, struct bytes data)
{
    printf("%-10s ", name);
    if (c->key_format == TEXT_RAW)
        text_print_escaped(data, stdout);
    else
        text_print(c->key_format, data, stdout);
    putchar('\n');
}

static void print_reading(const struct reading *r)
{
    char text[48];
    if (r->code == DUET_OK)
        printf("%-10s %s, a value of %zu byte%s\n", "version", command_version(r->version, text),
               r->size, r->size == 1 ? "" : "s");
    else
        printf("%-10s %s\n", r->code == DUET_NOTFOUND ? "version" : "FAILS",
               r->code == DUET_NOTFOUND ? "none: there is no such key" : r->error.message);
    printf("%-10s in %.2f ms, via %s\n", "read", r->ms, r->router);
}

static void print_sources(const struct survey *s)
{
    size_t same = 0, older = 0;
    for (size_t i = 0; i < s->routers_count; i++) {
        same += s->routers[i].up && survey_value(&s->routers[i], "map_version") >= s->map->version;
        older += s->routers[i].up && survey_value(&s->routers[i], "map_version") < s->map->version;
    }
    printf("%-10s %llu, as %zu of %zu routers say%s\n", "map", (unsigned long long)s->map->version,
           same, s->routers_count, older > 0 ? "; the others have an older one" : "");
}

static void explain_table(const struct context *c, const struct survey *s,
                          const struct place *place, const struct reading *reading)
{
    const struct clustermap_partition *p = &s->map->partitions[place->partition];
    struct bytes key = buffer_view(&place->key), tag = partition_hash_tag(key);
    print_bytes(c, "key", key);
    print_bytes(c, "hash tag", tag);
    printf("%-10s %016llx (SHA-256 of the tag)\n", "digest",
           (unsigned long long)place->digest);
    printf("%-10s %u of %u\n", "partition", place->partition, s->map->partition_count);
    printf("%-10s %llu%s\n", "epoch", (unsigned long long)p->epoch,
           p->opened ? "" : " (not open: no writes)");
    print_node(s, "primary", p->primary);
    for (uint32_t i = 0; i < p->isr_count; i++)
        if (p->isr[i] != p->primary)
            print_node(s, "copy", p->isr[i]);
    print_reading(reading);
    print_sources(s);
}

static int explain(struct context *c, const struct survey *s, struct place *place)
{
    struct reading reading;
    place->partition = partition_of(place->digest, s->map->partition_count);
    int exit_code = read_key(c, place, &reading);
    if (exit_code != 0)
        return exit_code;
    if (command_json(c))
        command_print_json(c, explain_json(s, place, &reading));
    else
        explain_table(c, s, place, &reading);
    return reading.code == DUET_NOTFOUND ? 0 : command_exit_code(reading.code, reading.error.flags);
}

int cluster_explain(struct context *c)
{
    struct place place;
    struct survey s = {0};
    int exit_code = 2;
    if (place_init(&place, c)) {
        exit_code = survey_take(c, false, &s);
        if (exit_code == 0 && s.map == NULL)
            /* Again, for its words. */
            s.map = survey_map(c, &exit_code);
        if (exit_code == 0)
            exit_code = explain(c, &s, &place);
        survey_fini(&s);
    }
    buffer_fini(&place.key);
    return exit_code;
}
