/* Spare: the next segment, written with zeros (or recycled) before it is needed, so that a group's
 * write only overwrites blocks that the file system has already given. The sync thread's.
 */
#ifndef STORAGE_SPARE_H
#define STORAGE_SPARE_H

#include "storage/disk.h"

struct spare {
    struct disk *disk;
    struct disk_file *file; /* NULL: not begun */
    uint64_t size;          /* bytes that are written */
    bool ready;             /* it has its name, durably */
};

void spare_init(struct spare *s, struct disk *disk);
/* Close the file; what is on the disk stays. */
void spare_fini(struct spare *s);

/* True when it is ready and has at least size bytes. */
bool spare_holds(const struct spare *s, uint64_t size);

/* Begin with the file at path, which is no longer wanted and has size bytes, or with a new file
 * (path NULL). Not when one is begun. */
enum status spare_begin(struct spare *s, const char *path, uint64_t size);
/* One small step on the way to spare_holds(s, size). Only when one is begun. */
enum status spare_step(struct spare *s, uint64_t size);
/* Give up an unfinished one, and its room on the disk. */
enum status spare_abandon(struct spare *s);
/* Take over what an earlier process left ready; if it has less than size bytes it is removed. */
enum status spare_adopt(struct spare *s, uint64_t size);
/* The file goes to the caller, who renames it; s is empty afterwards. */
struct disk_file *spare_take(struct spare *s, uint64_t *ret_size);

/* Write zeros from one offset on, a bounded number, at most up to `to`. *ret_end: how far. */
enum status spare_write_zeros(struct disk *disk, struct disk_file *f, uint64_t from, uint64_t to,
                              uint64_t *ret_end);

#endif
