/* Small file: one in the node's directory that is written as a whole. */
#ifndef STORAGE_SMALL_FILE_H
#define STORAGE_SMALL_FILE_H

#include "storage/disk.h"

/* Put content in the place of what name holds: by way of tmp_name, so that after a crash the file is the
 * old one or the new one. Durable on return. The disk's errors. */
enum status small_file_replace(struct disk *disk, const char *name, const char *tmp_name,
                               struct bytes content);

#endif
