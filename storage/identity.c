#include "storage/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "proto/base/ensure.h"
#include "storage/small_file.h"

#define NAME "identity"
#define TMP_NAME "identity.tmp"
#define FILE_SIZE_MAX 1024
#define HEX_SIZE 33

/* The file, line by line; the checksum (XXH3 64, hexadecimal) is over all lines before its own:
 *
 *   format 1
 *   cluster 00112233445566778899aabbccddeeff
 *   node ...
 *   disk 1234567890
 *   incarnation 7
 *   longest_lease_ms 700
 *   checksum 0123456789abcdef
 */

static void hex_of(const struct id128 *id, char to[static HEX_SIZE])
{
    for (size_t i = 0; i < sizeof id->octets; i++)
        snprintf(to + 2 * i, 3, "%02x", id->octets[i]);
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool same_id(const struct id128 *a, const struct id128 *b)
{
    return memcmp(a->octets, b->octets, sizeof a->octets) == 0;
}

/* -- Reading: *text moves on behind what was taken -------------------------------------------- */

static bool take_word(const char **text, const char *word)
{
    size_t size = strlen(word);
    if (strncmp(*text, word, size) != 0)
        return false;
    *text += size;
    return true;
}

static bool take_number(const char **text, const char *word, uint64_t *ret)
{
    const char *at = *text;
    if (!take_word(&at, word) || !take_word(&at, " ") || *at < '0' || *at > '9')
        return false;
    *ret = 0;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(*ret, 10u, ret) ||
            __builtin_add_overflow(*ret, (uint64_t)(*at - '0'), ret))
            return false;
    *text = at;
    return take_word(text, "\n");
}

static bool take_id(const char **text, const char *word, struct id128 *ret)
{
    if (!take_word(text, word) || !take_word(text, " "))
        return false;
    for (size_t i = 0; i < sizeof ret->octets; i++) {
        int high = digit_of((*text)[0]);
        int low = high < 0 ? -1 : digit_of((*text)[1]);
        if (low < 0)
            return false;
        ret->octets[i] = (uint8_t)(high << 4 | low);
        *text += 2;
    }
    return take_word(text, "\n");
}

static void checksum_line(char to[static 32], const char *text, size_t size)
{
    snprintf(to, 32, "checksum %016" PRIx64 "\n", (uint64_t)XXH3_64bits(text, size));
}

static enum status parse(const char *text, struct identity *ret, struct error *reterr)
{
    const char *at = text;
    uint64_t format;
    char expected[32];
    if (!take_number(&at, "format", &format))
        return error_set(reterr, STATUS_CORRUPT, "file '" NAME "' is damaged");
    if (format != IDENTITY_FORMAT)
        return error_set(reterr, STATUS_FORMAT,
                         "file '" NAME "' has format %" PRIu64 ", this program reads %d", format,
                         IDENTITY_FORMAT);
    ret->format = IDENTITY_FORMAT;
    bool good = take_id(&at, "cluster", &ret->cluster_id) && take_id(&at, "node", &ret->node_id) &&
                take_number(&at, "disk", &ret->disk) &&
                take_number(&at, "incarnation", &ret->incarnation) &&
                take_number(&at, "longest_lease_ms", &ret->longest_lease_ms);
    checksum_line(expected, text, (size_t)(at - text));
    if (!good || strcmp(at, expected) != 0)
        return error_set(reterr, STATUS_CORRUPT, "file '" NAME "' is damaged");
    return STATUS_OK;
}

static enum status failed(struct error *reterr, enum status s, const char *verb)
{
    return error_set(reterr, s, "%s file '" NAME "': %s", verb, status_text(s));
}

enum status identity_load(struct disk *disk, struct identity *ret, struct error *reterr)
{
    char text[FILE_SIZE_MAX + 1];
    size_t size = 0;
    struct disk_file *f;
    enum status s = disk->verbs->open(disk, NAME, 0, &f, reterr);
    if (s != STATUS_OK)
        return s;
    s = disk->verbs->read(f, 0, text, FILE_SIZE_MAX, &size);
    disk->verbs->close(&f);
    if (s != STATUS_OK)
        return failed(reterr, s, "read");
    text[size] = '\0';
    return parse(text, ret, reterr);
}

/* -- Writing ---------------------------------------------------------------------------------- */

static size_t format_text(const struct identity *id, char to[static FILE_SIZE_MAX])
{
    char cluster[HEX_SIZE], node[HEX_SIZE];
    hex_of(&id->cluster_id, cluster);
    hex_of(&id->node_id, node);
    int size = snprintf(to, FILE_SIZE_MAX,
                        "format %d\ncluster %s\nnode %s\ndisk %" PRIu64 "\nincarnation %" PRIu64
                        "\nlongest_lease_ms %" PRIu64 "\n",
                        IDENTITY_FORMAT, cluster, node, id->disk, id->incarnation,
                        id->longest_lease_ms);
    ENSURE(size > 0 && size + 32 < FILE_SIZE_MAX);
    checksum_line(to + size, to, (size_t)size);
    return strlen(to);
}

enum status identity_save(struct disk *disk, const struct identity *id, struct error *reterr)
{
    char text[FILE_SIZE_MAX];
    size_t size = format_text(id, text);
    enum status s = small_file_replace(disk, NAME, TMP_NAME, bytes_of(text, size));
    return s == STATUS_OK ? s : failed(reterr, s, "write");
}

/* -- Booting ---------------------------------------------------------------------------------- */

static void note_name(void *arg, const char *name)
{
    (void)name;
    *(bool *)arg = true;
}

/* A node that lost its identity file must not begin a second life on its old data. */
static enum status check_empty(struct disk *disk, struct error *reterr)
{
    static const char *const folders[] = {"log", "table"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        bool found = false;
        enum status s = disk->verbs->list(disk, folders[i], note_name, &found);
        if (s != STATUS_OK && s != STATUS_NOTFOUND)
            return error_set(reterr, s, "list '%s': %s", folders[i], status_text(s));
        if (found)
            return error_set(reterr, STATUS_CORRUPT,
                             "the directory has data in '%s' but no file '" NAME "'", folders[i]);
    }
    return STATUS_OK;
}

static enum status check_id(const char *what, const struct id128 *found,
                            const struct id128 *expected, struct error *reterr)
{
    char found_hex[HEX_SIZE], expected_hex[HEX_SIZE];
    if (same_id(found, expected))
        return STATUS_OK;
    hex_of(found, found_hex);
    hex_of(expected, expected_hex);
    return error_set(reterr, STATUS_WRONGCLUSTER, "the directory belongs to %s %s, not to %s %s",
                     what, found_hex, what, expected_hex);
}

enum status identity_boot(struct disk *disk, struct id128 cluster_id, struct id128 node_id,
                          uint64_t wall_ms, uint64_t random, struct identity *ret,
                          struct error *reterr)
{
    ENSURE(random != 0);
    struct identity id = {
        .cluster_id = cluster_id,
        .node_id = node_id,
        .disk = random,
        .format = IDENTITY_FORMAT,
    };
    enum status s = identity_load(disk, &id, reterr);
    if (s == STATUS_NOTFOUND)
        s = check_empty(disk, reterr);
    if (s == STATUS_OK)
        s = check_id("cluster", &id.cluster_id, &cluster_id, reterr);
    if (s == STATUS_OK)
        s = check_id("node", &id.node_id, &node_id, reterr);
    if (s != STATUS_OK)
        return s;
    ENSURE(id.incarnation < UINT64_MAX);
    id.former = id.incarnation++;
    if (id.incarnation < wall_ms)
        id.incarnation = wall_ms;
    s = identity_save(disk, &id, reterr);
    if (s == STATUS_OK)
        *ret = id;
    return s;
}
