/* Replay: feeds files to a target, once each, without libFuzzer; folders are fed whole. It names a
 * file before it feeds it, so the last name printed is the one that failed. */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

#define FILE_SIZE_MAX ((size_t)16 << 20)
#define PATH_SIZE     4096

static unsigned files_count;

static void feed_file(const char *path)
{
    printf("%s\n", path);
    fflush(stdout);
    FILE *file = fopen(path, "rbe");
    uint8_t *room = malloc(FILE_SIZE_MAX);
    ENSURE(file != NULL && room != NULL);
    size_t size = fread(room, 1, FILE_SIZE_MAX, file);
    ENSURE(ferror(file) == 0 && size < FILE_SIZE_MAX);
    fclose(file);
    uint8_t *exact = fuzz_copy(bytes_of(room, size));
    free(room);
    ENSURE(LLVMFuzzerTestOneInput(exact, size) == 0);
    free(exact);
    files_count++;
}

static bool is_folder(const char *path)
{
    struct stat info;
    ENSURE(stat(path, &info) == 0);
    return S_ISDIR(info.st_mode);
}

static void feed_folder(const char *path)
{
    struct dirent **names;
    int count = scandir(path, &names, NULL, alphasort);
    ENSURE(count >= 0);
    for (int i = 0; i < count; i++) {
        char inside[PATH_SIZE];
        int size = snprintf(inside, sizeof inside, "%s/%s", path, names[i]->d_name);
        ENSURE(size > 0 && size < PATH_SIZE);
        if (names[i]->d_name[0] != '.')
            feed_file(inside);
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (is_folder(argv[i]))
            feed_folder(argv[i]);
        else
            feed_file(argv[i]);
    printf("%u files, all promises held\n", files_count);
    return files_count > 0 ? 0 : 1;
}
