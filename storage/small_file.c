#include "storage/small_file.h"

/* What an earlier crash left under the temporary name goes first. */
static enum status write_tmp(struct disk *disk, const char *name, struct bytes content)
{
    struct disk_file *f;
    enum status s = disk->verbs->remove(disk, name);
    if (s != STATUS_OK && s != STATUS_NOTFOUND)
        return s;
    s = disk->verbs->open(disk, name, DISK_CREATE, &f, NULL);
    if (s != STATUS_OK)
        return s;
    s = disk->verbs->write(f, 0, content);
    if (s == STATUS_OK)
        s = disk->verbs->sync(f);
    disk->verbs->close(&f);
    return s;
}

enum status small_file_replace(struct disk *disk, const char *name, const char *tmp_name,
                               struct bytes content)
{
    enum status s = write_tmp(disk, tmp_name, content);
    if (s == STATUS_OK)
        s = disk->verbs->rename(disk, tmp_name, name);
    if (s == STATUS_OK)
        s = disk->verbs->sync_directory(disk, "");
    return s;
}
