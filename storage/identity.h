/* Identity: what this directory is: cluster id, node id, incarnation, format version.
 *
 * One small text file "identity" (key value lines and a checksum), replaced by write to a new name,
 * sync, rename, directory sync. The incarnation is raised and synced at each boot before anything is
 * sent.
 */
#ifndef STORAGE_IDENTITY_H
#define STORAGE_IDENTITY_H

#include "proto/message.h"
#include "storage/disk.h"

#define IDENTITY_FORMAT 1

struct identity {
    struct id128 cluster_id, node_id;
    uint64_t disk;        /* random, drawn when the directory was empty; never 0 after a boot */
    uint64_t incarnation; /* 0: never booted */
    uint64_t former;      /* the incarnation before this one; not in the file */
    uint64_t longest_lease_ms;
    uint32_t format;
};

/* STATUS_OK; STATUS_NOTFOUND: a new directory; STATUS_CORRUPT, STATUS_FORMAT, STATUS_IO. */
enum status identity_load(struct disk *disk, struct identity *ret, struct error *reterr);
enum status identity_save(struct disk *disk, const struct identity *id, struct error *reterr);
/* Load and compare with what the cluster file says; a directory without identity but with a log or
 * table in it is refused. STATUS_WRONGCLUSTER names both ids. Raises the incarnation, to wall_ms at
 * least (so that an old copy of the directory does not repeat one that others know), and saves. A
 * new directory gets the disk identity `random`, which must not be 0. */
enum status identity_boot(struct disk *disk, struct id128 cluster_id, struct id128 node_id,
                          uint64_t wall_ms, uint64_t random, struct identity *ret,
                          struct error *reterr);

#endif
