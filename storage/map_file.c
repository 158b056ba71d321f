#include "storage/map_file.h"

#include <stdio.h>
#include <xxhash.h>

#include "proto/codec.h"
#include "storage/small_file.h"

#define NAME          "map"
#define TMP_NAME      "map.tmp"
#define CHECKSUM_SIZE 8u
#define FILE_SIZE_MAX ((size_t)64 << 20)

static enum status failed(struct error *reterr, enum status s, const char *verb)
{
    return error_set(reterr, s, "%s file '" NAME "': %s", verb, status_text(s));
}

static enum status read_all(struct disk *disk, struct buffer *to, struct error *reterr)
{
    struct disk_file *f;
    uint64_t size = 0;
    size_t got = 0;
    enum status s = disk->verbs->open(disk, NAME, 0, &f, reterr);
    if (s != STATUS_OK)
        return s;
    s = disk->verbs->size(f, &size);
    uint8_t *at = s == STATUS_OK && size <= FILE_SIZE_MAX ? buffer_reserve(to, size) : NULL;
    if (s == STATUS_OK)
        s = at == NULL ? STATUS_NOMEMORY : disk->verbs->read(f, 0, at, size, &got);
    disk->verbs->close(&f);
    if (s == STATUS_OK && got != size)
        s = STATUS_IO;
    return s == STATUS_OK ? s : failed(reterr, s, "read");
}

static enum status take(struct bytes file, struct clustermap *map, struct error *reterr)
{
    struct arena arena;
    struct map_message m;
    bool changed;
    if (file.size < CHECKSUM_SIZE)
        return error_set(reterr, STATUS_CORRUPT, "file '" NAME "' is damaged");
    struct bytes frame = bytes_of(file.data + CHECKSUM_SIZE, file.size - CHECKSUM_SIZE);
    if (bytes_le64(file.data) != XXH3_64bits(frame.data, frame.size))
        return error_set(reterr, STATUS_CORRUPT, "file '" NAME "' is damaged");
    arena_init(&arena);
    enum status s = codec_unpack_map(frame, &arena, &m);
    if (s == STATUS_OK)
        s = clustermap_join(map, &m, &changed);
    arena_fini(&arena);
    if (s == STATUS_WRONGCLUSTER)
        return error_set(reterr, s, "the directory belongs to another cluster");
    return s == STATUS_OK ? s : failed(reterr, STATUS_CORRUPT, "understand");
}

enum status map_file_load(struct disk *disk, struct clustermap *map, struct error *reterr)
{
    struct buffer file;
    buffer_init(&file, FILE_SIZE_MAX);
    enum status s = read_all(disk, &file, reterr);
    if (s == STATUS_OK)
        s = take(buffer_view(&file), map, reterr);
    buffer_fini(&file);
    return s;
}

enum status map_file_save(struct disk *disk, const struct clustermap *map, struct error *reterr)
{
    struct buffer file, frame;
    uint8_t checksum[CHECKSUM_SIZE];
    buffer_init(&frame, FILE_SIZE_MAX);
    buffer_init(&file, FILE_SIZE_MAX);
    enum status s = clustermap_pack(map, &frame);
    bytes_put_le64(checksum, XXH3_64bits(frame.data, frame.size));
    if (s == STATUS_OK)
        s = buffer_append(&file, bytes_of(checksum, sizeof checksum));
    if (s == STATUS_OK)
        s = buffer_append(&file, buffer_view(&frame));
    if (s == STATUS_OK)
        s = small_file_replace(disk, NAME, TMP_NAME, buffer_view(&file));
    buffer_fini(&frame);
    buffer_fini(&file);
    return s == STATUS_OK ? s : failed(reterr, s, "write");
}
