#include "tests/process/listing.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool unhex(const char *text, size_t size, struct bytes *ret)
{
    uint8_t *data = malloc(size / 2 + 1);
    ENSURE(data != NULL);
    *ret = bytes_of(data, size / 2);
    for (size_t i = 0; i + 1 < size; i += 2) {
        int high = digit(text[i]), low = digit(text[i + 1]);
        if (high < 0 || low < 0)
            return false;
        data[i / 2] = (uint8_t)(high << 4 | low);
    }
    return size % 2 == 0;
}

static bool parse(char *line, struct listing_entry *e)
{
    char *fields[4] = {line};
    line[strcspn(line, "\n")] = '\0';
    for (int i = 1; i < 4; i++) {
        fields[i] = strchr(fields[i - 1], '\t');
        if (fields[i] == NULL)
            return false;
        *fields[i]++ = '\0';
    }
    e->version = (struct version){strtoull(fields[1], NULL, 10), strtoull(fields[2], NULL, 10)};
    e->present = strcmp(fields[3], "-") != 0;
    return unhex(fields[0], strlen(fields[0]), &e->key) &&
           unhex(fields[3], e->present ? strlen(fields[3]) : 0, &e->value);
}

static struct listing_entry *add(struct listing *l)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity == 0 ? 1024 : 2 * l->capacity;
        l->entries = realloc(l->entries, l->capacity * sizeof *l->entries);
        ENSURE(l->entries != NULL);
    }
    struct listing_entry *e = &l->entries[l->count++];
    *e = (struct listing_entry){0};
    return e;
}

bool listing_read(struct listing *l, const char *path)
{
    char *line = NULL;
    size_t size = 0;
    *l = (struct listing){0};
    FILE *from = fopen(path, "re");
    bool good = from != NULL;
    while (good && getline(&line, &size, from) > 0)
        good = parse(line, add(l));
    free(line);
    if (from != NULL)
        fclose(from);
    return good && l->count > 0;
}

void listing_fini(struct listing *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free((void *)l->entries[i].key.data);
        free((void *)l->entries[i].value.data);
    }
    free(l->entries);
}
