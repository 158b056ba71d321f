#include "storage/folder.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/mutant.h"

void folder_segment_path(char to[static FOLDER_PATH_SIZE], uint64_t number)
{
    snprintf(to, FOLDER_PATH_SIZE, FOLDER_NAME "/%010" PRIu64 ".seg", number);
}

enum status folder_sync(struct disk *disk)
{
    return MUTANT(34) ? STATUS_OK : disk->verbs->sync_directory(disk, FOLDER_NAME);
}

void folder_init(struct folder *f)
{
    *f = (struct folder){0};
}

void folder_fini(struct folder *f)
{
    free(f->numbers);
    *f = (struct folder){0};
}

static bool names(const char *path, const char *name)
{
    return strcmp(path + sizeof FOLDER_NAME, name) == 0;
}

/* 0: not a segment. */
static uint64_t number_of(const char *name)
{
    char path[FOLDER_PATH_SIZE];
    uint64_t number = strtoull(name, NULL, 10);
    folder_segment_path(path, number);
    return names(path, name) ? number : 0;
}

static void add_number(struct folder *f, uint64_t number)
{
    if (f->count == f->capacity) {
        size_t capacity = f->capacity == 0 ? 16 : 2 * f->capacity;
        uint64_t *grown = realloc(f->numbers, capacity * sizeof *grown);
        if (grown == NULL) {
            f->no_memory = true;
            return;
        }
        f->numbers = grown;
        f->capacity = capacity;
    }
    f->numbers[f->count++] = number;
}

static void add_name(void *arg, const char *name)
{
    struct folder *f = arg;
    f->spare |= names(FOLDER_SPARE, name);
    f->spare_tmp |= names(FOLDER_SPARE_TMP, name);
    f->rewrite_tmp |= names(FOLDER_REWRITE_TMP, name);
    uint64_t number = number_of(name);
    if (number != 0)
        add_number(f, number);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

enum status folder_read(struct folder *f, struct disk *disk)
{
    enum status s = disk->verbs->make_directory(disk, FOLDER_NAME);
    if (s == STATUS_OK)
        s = disk->verbs->sync_directory(disk, "");
    if (s == STATUS_OK)
        s = disk->verbs->list(disk, FOLDER_NAME, add_name, f);
    if (s == STATUS_OK && f->no_memory)
        s = STATUS_NOMEMORY;
    if (s == STATUS_OK && f->count > 1)
        qsort(f->numbers, f->count, sizeof *f->numbers, by_number);
    return s;
}
