#include "storage/cluster_file.h"

#include <czmq.h>
#include <stdlib.h>

#include "proto/base/clock.h"

#define WEIGHT_DEFAULT 100u

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

static bool id_parse(const char *text, struct id128 *ret)
{
    if (text == NULL || strlen(text) != 32)
        return false;
    for (int i = 0; i < 16; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret->octets[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static void id_print(struct id128 id, FILE *to)
{
    for (int i = 0; i < 16; i++)
        fprintf(to, "%02x", id.octets[i]);
}

static struct id128 id_draw(void)
{
    struct id128 id;
    bytes_put_le64(id.octets, clock_random64());
    bytes_put_le64(id.octets + 8, clock_random64());
    return id;
}

static bool number_parse(const char *text, uint32_t max, uint32_t *ret)
{
    char *end;
    if (text == NULL || *text < '0' || *text > '9')
        return false;
    unsigned long value = strtoul(text, &end, 10);
    if (*end != '\0' || value > max)
        return false;
    *ret = (uint32_t)value;
    return true;
}

/* Can text stand between the quotes of a cluster file? ZPL has no escapes. */
static bool quotable(const char *text)
{
    for (const char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == '"')
            return false;
    return true;
}

/* Copy text into a field of size; false when it is empty, does not fit, or could not be printed. */
static bool text_copy(char *to, size_t size, const char *text)
{
    if (text == NULL || *text == '\0' || strlen(text) >= size || !quotable(text))
        return false;
    memcpy(to, text, strlen(text) + 1);
    return true;
}

/* ------------------------------------------------------------------ reading */

static const char *child_text(zconfig_t *of, const char *name)
{
    zconfig_t *item = zconfig_locate(of, name);
    return item == NULL ? NULL : zconfig_value(item);
}

static enum status node_read(zconfig_t *item, struct clustermap_node *node, struct error *reterr)
{
    const char *name = zconfig_name(item);
    const char *host = child_text(item, "host"), *weight = child_text(item, "weight");
    const char *address = child_text(item, "address");
    *node = (struct clustermap_node){.weight = WEIGHT_DEFAULT};
    if (!text_copy(node->name, sizeof node->name, name))
        return error_set(reterr, STATUS_CONFIG, "a node needs a name of 1 to %zu bytes",
                         sizeof node->name - 1);
    if (!id_parse(child_text(item, "id"), &node->id))
        return error_set(reterr, STATUS_CONFIG, "node %s: id must be 32 hex digits", name);
    if (!text_copy(node->address, sizeof node->address, address) || !clustermap_address_good(address))
        return error_set(reterr, STATUS_CONFIG,
                         "node %s: address must be tcp://HOST:PORT with two more ports above it",
                         name);
    if (!text_copy(node->host, sizeof node->host, host == NULL ? name : host))
        return error_set(reterr, STATUS_CONFIG,
                         "node %s: host must be 1 to %zu bytes without quotes", name,
                         sizeof node->host - 1);
    if (weight != NULL && !number_parse(weight, 1000000, &node->weight))
        return error_set(reterr, STATUS_CONFIG, "node %s: weight must be 0 to 1000000", name);
    return STATUS_OK;
}

static enum status nodes_read(zconfig_t *nodes, struct clustermap *map, struct error *reterr)
{
    zconfig_t *item = nodes == NULL ? NULL : zconfig_child(nodes);
    for (; item != NULL; item = zconfig_next(item)) {
        if (map->nodes_count == NODES_MAX)
            return error_set(reterr, STATUS_CONFIG, "more than %u nodes", NODES_MAX);
        enum status status = node_read(item, &map->nodes[map->nodes_count++], reterr);
        if (status != STATUS_OK)
            return status;
    }
    return map->nodes_count > 0
               ? STATUS_OK
               : error_set(reterr, STATUS_CONFIG, "there is no section 'node' with nodes in it");
}

static enum status map_read(zconfig_t *root, struct clustermap *map, struct error *reterr)
{
    zconfig_t *cluster = zconfig_locate(root, "cluster");
    if (cluster == NULL)
        return error_set(reterr, STATUS_CONFIG, "there is no section 'cluster'");
    if (!id_parse(child_text(cluster, "id"), &map->cluster_id))
        return error_set(reterr, STATUS_CONFIG, "cluster/id must be 32 hex digits");
    if (!number_parse(child_text(cluster, "partitions"), PARTITIONS_MAX, &map->partition_count))
        return error_set(reterr, STATUS_CONFIG, "cluster/partitions must be a power of two up to %u",
                         PARTITIONS_MAX);
    if (!number_parse(child_text(cluster, "copies"), COPIES_MAX, &map->copies))
        return error_set(reterr, STATUS_CONFIG, "cluster/copies must be 1 to %u", COPIES_MAX);
    map->isr_min = 1;
    enum status status = nodes_read(zconfig_locate(root, "node"), map, reterr);
    return status == STATUS_OK ? clustermap_found(map, reterr) : status;
}

enum status cluster_file_read(const char *path, struct clustermap *map, struct error *reterr)
{
    struct error inner = {.status = STATUS_OK};
    /* Not zconfig_load(): it leaks when a file is not ZPL. */
    zchunk_t *text = zchunk_slurp(path, 0);
    const char *reason = text == NULL ? strerror(errno) : "it is not ZPL";
    zconfig_t *root = text == NULL ? NULL : zconfig_chunk_load(text);
    zchunk_destroy(&text);
    if (root == NULL)
        return error_set(reterr, STATUS_CONFIG,
                         "cannot read the cluster file '%s': %s; make one with duet-storage --found",
                         path, reason);
    enum status status = map_read(root, map, &inner);
    zconfig_destroy(&root);
    if (status != STATUS_OK)
        return error_set(reterr, status, "cluster file '%s': %.200s", path, inner.message);
    return STATUS_OK;
}

/* ------------------------------------------------------------------ founding */

/* Take the next "name=value" off *list into name and value. 1: taken, 0: end, -1: malformed. */
static int pair_next(const char **list, char name[static NAME_SIZE_MAX],
                     char value[static ADDRESS_SIZE_MAX])
{
    if (**list == '\0')
        return 0;
    size_t size = strcspn(*list, ",");
    const char *equals = memchr(*list, '=', size);
    if (equals == NULL || equals == *list || (size_t)(equals - *list) >= NAME_SIZE_MAX)
        return -1;
    size_t name_size = (size_t)(equals - *list), value_size = size - name_size - 1;
    if (value_size == 0 || value_size >= ADDRESS_SIZE_MAX)
        return -1;
    memcpy(name, *list, name_size);
    name[name_size] = '\0';
    memcpy(value, equals + 1, value_size);
    value[value_size] = '\0';
    *list += size + ((*list)[size] == ',' ? 1 : 0);
    return 1;
}

static enum status nodes_found(const char *list, struct clustermap *map, struct error *reterr)
{
    char name[NAME_SIZE_MAX], address[ADDRESS_SIZE_MAX];
    int taken;
    while ((taken = pair_next(&list, name, address)) == 1) {
        if (map->nodes_count == NODES_MAX)
            return error_set(reterr, STATUS_USAGE, "--nodes: more than %u nodes", NODES_MAX);
        struct clustermap_node *node = &map->nodes[map->nodes_count++];
        *node = (struct clustermap_node){.weight = WEIGHT_DEFAULT, .id = id_draw()};
        if (name[strspn(name, "abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")] != '\0')
            return error_set(reterr, STATUS_USAGE,
                             "--nodes: '%s' is not a name; use letters, digits, '_', '.', '-'",
                             name);
        if (!clustermap_address_good(address))
            return error_set(reterr, STATUS_USAGE,
                             "--nodes: '%s' is not tcp://HOST:PORT (the node also takes the two "
                             "ports above it)",
                             address);
        text_copy(node->name, sizeof node->name, name);
        text_copy(node->host, sizeof node->host, name);
        text_copy(node->address, sizeof node->address, address);
    }
    if (taken < 0 || map->nodes_count == 0)
        return error_set(reterr, STATUS_USAGE,
                         "--nodes wants n1=tcp://127.0.0.1:7500,n2=tcp://127.0.0.1:7503,...");
    return STATUS_OK;
}

static enum status label_apply(struct clustermap_node *node, bool weight, const char *value,
                               struct error *reterr)
{
    if (!weight && text_copy(node->host, sizeof node->host, value))
        return STATUS_OK;
    if (weight && number_parse(value, 1000000, &node->weight))
        return STATUS_OK;
    return error_set(reterr, STATUS_USAGE, "--%s: '%s' cannot be used for %s",
                     weight ? "weights" : "hosts", value, node->name);
}

static enum status labels_found(const char *list, struct clustermap *map, bool weight,
                                struct error *reterr)
{
    char name[NAME_SIZE_MAX], value[ADDRESS_SIZE_MAX];
    int taken;
    while ((taken = pair_next(&list, name, value)) == 1) {
        uint32_t i = 0;
        while (i < map->nodes_count && strcmp(map->nodes[i].name, name) != 0)
            i++;
        if (i == map->nodes_count)
            return error_set(reterr, STATUS_USAGE, "--%s: there is no node '%s' in --nodes",
                             weight ? "weights" : "hosts", name);
        enum status status = label_apply(&map->nodes[i], weight, value, reterr);
        if (status != STATUS_OK)
            return status;
    }
    return taken == 0 ? STATUS_OK
                      : error_set(reterr, STATUS_USAGE, "--%s wants name=value[,name=value...]",
                                  weight ? "weights" : "hosts");
}

static void print(const struct clustermap *map, FILE *to)
{
    fprintf(to, "#   The first map of a cluster: give this file, unchanged, to every node.\n"
                "cluster\n    id = \"");
    id_print(map->cluster_id, to);
    fprintf(to, "\"\n    partitions = \"%u\"\n    copies = \"%u\"\nnode\n", map->partition_count,
            map->copies);
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        const struct clustermap_node *n = &map->nodes[i];
        fprintf(to, "    %s\n        id = \"", n->name);
        id_print(n->id, to);
        fprintf(to, "\"\n        address = \"%s\"\n        host = \"%s\"\n        weight = \"%u\"\n",
                n->address, n->host, n->weight);
    }
}

enum status cluster_file_found(const struct storage_options *o, FILE *to, struct error *reterr)
{
    struct clustermap *map = clustermap_new();
    if (map == NULL)
        return error_set(reterr, STATUS_NOMEMORY, "out of memory");
    map->cluster_id = id_draw();
    map->partition_count = (uint32_t)o->partitions;
    map->copies = (uint32_t)o->copies;
    map->isr_min = 1;
    enum status status = nodes_found(o->nodes, map, reterr);
    if (status == STATUS_OK)
        status = labels_found(o->hosts, map, false, reterr);
    if (status == STATUS_OK)
        status = labels_found(o->weights, map, true, reterr);
    if (status == STATUS_OK)
        status = clustermap_found(map, reterr);
    if (status == STATUS_OK)
        print(map, to);
    clustermap_destroy(&map);
    return status;
}
