/* Map file: the cluster as this directory knows it: file "map", a MAP message behind its checksum.
 *
 * Written anew whenever the register of the cluster or of a node changes. It holds the registers of
 * the partitions as well, as they were then: a node that joined has no cluster file to begin with.
 */
#ifndef STORAGE_MAP_FILE_H
#define STORAGE_MAP_FILE_H

#include "proto/clustermap.h"
#include "storage/disk.h"

/* Join what the file says into map, which may be empty. STATUS_OK; STATUS_NOTFOUND: there is none;
 * STATUS_WRONGCLUSTER: it is of another cluster than map; STATUS_CORRUPT, STATUS_IO,
 * STATUS_NOMEMORY. */
enum status map_file_load(struct disk *disk, struct clustermap *map, struct error *reterr);
/* STATUS_OK: it is durable. STATUS_IO, STATUS_NOMEMORY. */
enum status map_file_save(struct disk *disk, const struct clustermap *map, struct error *reterr);

#endif
