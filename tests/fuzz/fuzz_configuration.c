/* Configuration: files, flags and lists that people write.
 *
 * Input: a letter, then the text:
 *   s r  a configuration file of duet-storage, of duet-router
 *   S R  their flags, one a line
 *   c    the cluster file
 *   f    --nodes, --hosts and --weights of duet-storage --found, one a line
 *   l    an option of the library: its name, a line break, its value
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/options.h"
#include "proto/clustermap.h"
#include "proto/codec.h"
#include "router/options.h"
#include "storage/cluster_file.h"
#include "storage/options.h"
#include "tests/fuzz/fuzz.h"

#define WORDS_MAX 32
#define PATH_SIZE 64

#define STORAGE_ROW(...) OPTION_ROW(struct storage_options, __VA_ARGS__)
#define ROUTER_ROW(...)  OPTION_ROW(struct router_options, __VA_ARGS__)
static const struct option_row storage_rows[] = {STORAGE_OPTIONS(STORAGE_ROW)};
static const struct option_row router_rows[] = {ROUTER_OPTIONS(ROUTER_ROW)};

/* One process's options. */
struct table {
    const struct option_row *rows;
    size_t count;
    struct option_set *set;
    union {
        struct storage_options storage;
        struct router_options router;
    } values;
};

static void table_init(struct table *t, bool router)
{
    *t = (struct table){.rows = router ? router_rows : storage_rows,
                        .count = router ? sizeof router_rows / sizeof router_rows[0]
                                        : sizeof storage_rows / sizeof storage_rows[0]};
    t->set = option_new(t->rows, t->count, &t->values);
    ENSURE(t->set != NULL);
}

/* ---- Files that exist for the call ---- */

static int file_of(struct bytes text, char path[static PATH_SIZE])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    ENSURE(fd >= 0);
    ENSURE(text.size == 0 || write(fd, text.data, text.size) == (ssize_t)text.size);
    snprintf(path, PATH_SIZE, "/proc/self/fd/%d", fd);
    return fd;
}

static enum status read_file(struct table *t, struct bytes text)
{
    char path[PATH_SIZE];
    struct error error = {.status = STATUS_OK};
    int fd = file_of(text, path);
    enum status s = option_read_file(t->set, path, &error);
    ENSURE(s == STATUS_OK || s == STATUS_CONFIG);
    ENSURE(s == STATUS_OK || (error.status == s && error.message[0] != '\0'));
    close(fd);
    return s;
}

/* What is in force, as a file; the caller frees it. */
static struct bytes dump(const struct table *t, char **ret_text)
{
    size_t size;
    FILE *to = open_memstream(ret_text, &size);
    ENSURE(to != NULL);
    option_dump(t->set, to);
    ENSURE(fclose(to) == 0);
    return bytes_of(*ret_text, size);
}

static const char *text_at(const struct table *t, size_t row)
{
    const char *text;
    memcpy(&text, (const uint8_t *)&t->values + t->rows[row].offset, sizeof text);
    return text;
}

static bool same_value(const struct table *a, const struct table *b, size_t row)
{
    size_t offset = a->rows[row].offset;
    const uint8_t *at_a = (const uint8_t *)&a->values + offset;
    const uint8_t *at_b = (const uint8_t *)&b->values + offset;
    switch (a->rows[row].kind) {
    case OPTION_UINT:
        return memcmp(at_a, at_b, sizeof(uint64_t)) == 0;
    case OPTION_FLAG:
        return memcmp(at_a, at_b, sizeof(bool)) == 0;
    case OPTION_TEXT:
        return strcmp(text_at(a, row), text_at(b, row)) == 0;
    case OPTION_COMMAND:
        return true; /* never in a file */
    }
    ENSURE_UNREACHABLE();
}

/* Values are within their bounds, and what is in force survives a dump. */
static void check_table(const struct table *t, bool router)
{
    struct table again;
    char *text;
    for (size_t i = 0; i < t->count; i++)
        ENSURE(t->rows[i].kind != OPTION_TEXT || strlen(text_at(t, i)) <= t->rows[i].max);
    table_init(&again, router);
    ENSURE(read_file(&again, dump(t, &text)) == STATUS_OK);
    for (size_t i = 0; i < t->count; i++)
        ENSURE(same_value(t, &again, i));
    option_destroy(&again.set);
    free(text);
}

/* A file is taken whole or not at all. */
static void options_file(bool router, struct bytes text)
{
    struct table t, untouched;
    table_init(&t, router);
    table_init(&untouched, router);
    if (read_file(&t, text) != STATUS_OK)
        for (size_t i = 0; i < t.count; i++)
            ENSURE(same_value(&t, &untouched, i));
    check_table(&t, router);
    option_destroy(&t.set);
    option_destroy(&untouched.set);
}

/* ---- Flags: one a line ---- */

/* Cut text, which ends with a zero, into lines. */
static int words_of(char *text, char *words[static WORDS_MAX + 2])
{
    static char program[] = "duet";
    int count = 0;
    words[count++] = program;
    for (char *at = strtok(text, "\n"); at != NULL && count <= WORDS_MAX; at = strtok(NULL, "\n"))
        words[count++] = at;
    words[count] = NULL;
    return count;
}

static void flags(bool router, char *text)
{
    char *words[WORDS_MAX + 2], *rest[WORDS_MAX + 2];
    int rest_count = -1;
    struct table t;
    struct error error = {.status = STATUS_OK};
    table_init(&t, router);
    int count = words_of(text, words);
    enum status s = option_read_flags(t.set, count, words, rest, &rest_count, &error);
    ENSURE(s == STATUS_OK || error.message[0] != '\0');
    ENSURE(s != STATUS_OK || (rest_count >= 0 && rest_count < count));
    check_table(&t, router);
    option_destroy(&t.set);
}

/* ---- The cluster file ---- */

static bool map_of(struct bytes text, struct clustermap **ret)
{
    char path[PATH_SIZE];
    struct error error = {.status = STATUS_OK};
    int fd = file_of(text, path);
    *ret = clustermap_new();
    ENSURE(*ret != NULL);
    enum status s = cluster_file_read(path, *ret, &error);
    close(fd);
    ENSURE(s == STATUS_OK || s == STATUS_CONFIG);
    ENSURE(s == STATUS_OK || error.message[0] != '\0');
    if (s != STATUS_OK)
        clustermap_destroy(ret);
    return s == STATUS_OK;
}

/* What a node would make of the file, another one understands. */
static void cluster_file(struct bytes text)
{
    struct clustermap *map;
    struct buffer frame;
    struct arena arena;
    struct map_message m;
    if (!map_of(text, &map))
        return;
    ENSURE(map->nodes_count > 0 && map->partitions != NULL);
    buffer_init(&frame, (size_t)16 << 20);
    arena_init(&arena);
    ENSURE(clustermap_pack(map, &frame) == STATUS_OK);
    struct clustermap *other = clustermap_new();
    bool changed;
    ENSURE(other != NULL && codec_unpack_map(buffer_view(&frame), &arena, &m) == STATUS_OK);
    ENSURE(clustermap_join(other, &m, &changed) == STATUS_OK && changed);
    ENSURE(other->version == map->version && other->nodes_count == map->nodes_count);
    arena_fini(&arena);
    buffer_fini(&frame);
    clustermap_destroy(&other);
    clustermap_destroy(&map);
}

/* duet-storage --found: three lists. A file that it prints is one that it reads. */
static void found(char *text)
{
    struct storage_options o = {.partitions = 8, .copies = 1, .nodes = "", .hosts = ""};
    struct error error = {.status = STATUS_OK};
    struct clustermap *map;
    char *printed, *end = text + strlen(text);
    size_t size;
    o.nodes = strsep(&text, "\n");
    o.hosts = text == NULL ? end : strsep(&text, "\n");
    o.weights = text == NULL ? end : text;
    FILE *to = open_memstream(&printed, &size);
    ENSURE(to != NULL);
    enum status s = cluster_file_found(&o, to, &error);
    ENSURE(fclose(to) == 0);
    ENSURE(s == STATUS_OK || (size == 0 && error.message[0] != '\0'));
    if (s == STATUS_OK) {
        ENSURE(map_of(bytes_of(printed, size), &map));
        clustermap_destroy(&map);
    }
    free(printed);
}

/* ---- The library's options: a name, a line break, a value ---- */

static void library(char *text)
{
    struct duet_options *options = duet_options_new();
    struct duet_error error;
    ENSURE(options != NULL);
    const char *name = strsep(&text, "\n");
    enum duet_code code = duet_options_set(options, name, text == NULL ? "" : text, &error);
    ENSURE(code == DUET_OK || (code == DUET_CONFIG && error.message[0] != '\0'));
    ENSURE(options->routers_count >= 1 && options->routers_count <= SESSION_ROUTERS_MAX);
    ENSURE(options->window >= 1 && options->window <= CLIENT_WINDOW_MAX && options->timeout_ms > 0);
    for (uint32_t i = 0; i < options->routers_count; i++)
        ENSURE(strstr(options->routers[i], "://") != NULL);
    duet_options_free(&options);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = bytes_of(data, size);
    uint32_t door = feed_octet(&rest);
    /* For those who want a string. */
    char *text = malloc(rest.size + 1);
    ENSURE(text != NULL);
    memcpy(text, rest.data, rest.size);
    text[rest.size] = '\0';
    if (door == 's' || door == 'r')
        options_file(door == 'r', rest);
    else if (door == 'S' || door == 'R')
        flags(door == 'R', text);
    else if (door == 'c')
        cluster_file(rest);
    else if (door == 'f')
        found(text);
    else if (door == 'l')
        library(text);
    free(text);
    return 0;
}
