#include "storage/spare.h"

#include "proto/base/ensure.h"
#include "storage/folder.h"

#define ZEROS_SIZE (256u << 10)

/* Not const, so that it takes no room in the program's file. */
static _Alignas(4096) uint8_t zeros[ZEROS_SIZE];

void spare_init(struct spare *s, struct disk *disk)
{
    *s = (struct spare){.disk = disk};
}

void spare_fini(struct spare *s)
{
    if (s->file != NULL)
        s->disk->verbs->close(&s->file);
    spare_init(s, s->disk);
}

bool spare_holds(const struct spare *s, uint64_t size)
{
    return s->ready && s->size >= size;
}

enum status spare_write_zeros(struct disk *disk, struct disk_file *f, uint64_t from, uint64_t to,
                              uint64_t *ret_end)
{
    uint64_t size = to - from < ZEROS_SIZE ? to - from : ZEROS_SIZE;
    enum status s = disk->verbs->write(f, from, bytes_of(zeros, (size_t)size));
    *ret_end = s == STATUS_OK ? from + size : from;
    return s;
}

/* The rename is synced before the file's old content is overwritten: else a crash could show the
 * old name with another segment's header. */
static enum status recycle(struct spare *s, const char *path, uint64_t size)
{
    enum status status = s->disk->verbs->rename(s->disk, path, FOLDER_SPARE);
    if (status == STATUS_OK)
        status = folder_sync(s->disk);
    if (status == STATUS_OK)
        status = s->disk->verbs->open(s->disk, FOLDER_SPARE, DISK_DIRECT, &s->file, NULL);
    if (status != STATUS_OK)
        return status;
    s->size = size;
    s->ready = true;
    return STATUS_OK;
}

enum status spare_begin(struct spare *s, const char *path, uint64_t size)
{
    ENSURE(s->file == NULL && !s->ready);
    if (path != NULL)
        return recycle(s, path, size);
    s->size = 0;
    return s->disk->verbs->open(s->disk, FOLDER_SPARE_TMP, DISK_CREATE | DISK_DIRECT, &s->file,
                                NULL);
}

enum status spare_step(struct spare *s, uint64_t size)
{
    ENSURE(s->file != NULL && !spare_holds(s, size));
    if (s->size < size)
        return spare_write_zeros(s->disk, s->file, s->size, size, &s->size);
    enum status status = s->disk->verbs->rename(s->disk, FOLDER_SPARE_TMP, FOLDER_SPARE);
    if (status == STATUS_OK)
        status = folder_sync(s->disk);
    s->ready = status == STATUS_OK;
    return status;
}

enum status spare_abandon(struct spare *s)
{
    bool unfinished = !s->ready;
    spare_fini(s);
    enum status status = unfinished ? s->disk->verbs->remove(s->disk, FOLDER_SPARE_TMP) : STATUS_OK;
    return status == STATUS_NOTFOUND ? STATUS_OK : status;
}

enum status spare_adopt(struct spare *s, uint64_t size)
{
    ENSURE(s->file == NULL && !s->ready);
    enum status status = s->disk->verbs->open(s->disk, FOLDER_SPARE, DISK_DIRECT, &s->file, NULL);
    if (status == STATUS_OK)
        status = s->disk->verbs->size(s->file, &s->size);
    if (status != STATUS_OK)
        return status;
    if (s->size >= size && s->size % DISK_ALIGNMENT == 0) {
        s->ready = true;
        return STATUS_OK;
    }
    spare_fini(s);
    return s->disk->verbs->remove(s->disk, FOLDER_SPARE);
}

struct disk_file *spare_take(struct spare *s, uint64_t *ret_size)
{
    ENSURE(s->ready);
    struct disk_file *file = s->file;
    *ret_size = s->size;
    spare_init(s, s->disk);
    return file;
}
