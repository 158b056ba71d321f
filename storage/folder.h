/* Folder: the names in "log/" of the node's directory.
 *
 *   0000000001.seg ...  the segments
 *   spare.seg           the next segment, ready
 *   spare.tmp           the next segment, being written with zeros
 *   rewrite.tmp         the last segment, being rewritten at start
 */
#ifndef STORAGE_FOLDER_H
#define STORAGE_FOLDER_H

#include "storage/disk.h"

#define FOLDER_NAME "log"
#define FOLDER_SPARE FOLDER_NAME "/spare.seg"
#define FOLDER_SPARE_TMP FOLDER_NAME "/spare.tmp"
#define FOLDER_REWRITE_TMP FOLDER_NAME "/rewrite.tmp"
#define FOLDER_PATH_SIZE 40

void folder_segment_path(char to[static FOLDER_PATH_SIZE], uint64_t number);

/* Make what was created, renamed and removed in it durable. */
enum status folder_sync(struct disk *disk);

struct folder {
    uint64_t *numbers; /* of the segments, sorted */
    size_t count, capacity;
    bool spare, spare_tmp, rewrite_tmp;
    bool no_memory;
};

void folder_init(struct folder *f);
void folder_fini(struct folder *f);
/* Make the folder when it is missing, and read its names; others are left alone. */
enum status folder_read(struct folder *f, struct disk *disk);

#endif
