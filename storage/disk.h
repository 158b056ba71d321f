/* Disk: the few file verbs that log and identity need, so that the simulator can stand behind them.
 *
 * All verbs block and are called by one thread per file. Names are relative to the node's
 * directory. What is written is durable only after disk_sync() on the file; a new name or a rename
 * only after disk_sync_directory() on its folder ("" is the node's directory itself, "log" a folder
 * in it). Errors: STATUS_IO, STATUS_FULL (ENOSPC), STATUS_NOTFOUND, STATUS_LOCKED, with words in
 * reterr where there is one. After STATUS_IO from write or sync nothing may be trusted any more: the
 * process ends (storage/README.md).
 *
 * disk_posix.c: real files. tests/lib/disk_sim.c: a virtual disk that loses, tears and fails.
 */
#ifndef STORAGE_DISK_H
#define STORAGE_DISK_H

#include "proto/base/bytes.h"
#include "proto/base/status.h"

struct disk;
struct disk_file;

#define DISK_CREATE 1u /* must not exist yet */
#define DISK_DIRECT 2u /* writes are aligned to DISK_ALIGNMENT and durable on return (O_DIRECT |
                          O_DSYNC where the file system can; else write plus fdatasync) */
#define DISK_ALIGNMENT 512u

typedef void disk_name_fn(void *arg, const char *name);

struct disk_verbs {
    enum status (*open)(struct disk *d, const char *name, unsigned flags, struct disk_file **ret,
                        struct error *reterr);
    void (*close)(struct disk_file **file_p);
    enum status (*size)(struct disk_file *f, uint64_t *ret_size);
    /* Reads up to size bytes; fewer at the end of the file. */
    enum status (*read)(struct disk_file *f, uint64_t offset, void *to, size_t size,
                        size_t *ret_size);
    enum status (*write)(struct disk_file *f, uint64_t offset, struct bytes data);
    enum status (*sync)(struct disk_file *f);
    enum status (*rename)(struct disk *d, const char *from, const char *to);
    enum status (*remove)(struct disk *d, const char *name);
    enum status (*make_directory)(struct disk *d, const char *name); /* OK when it exists */
    enum status (*sync_directory)(struct disk *d, const char *name);
    /* Names without the folder, in any order. */
    enum status (*list)(struct disk *d, const char *directory, disk_name_fn *fn, void *arg);
    /* Take the exclusive lock of the directory for the life of d: STATUS_LOCKED when another
     * process has it. */
    enum status (*lock)(struct disk *d, struct error *reterr);
    /* Bytes free for us on the file system, and its size. */
    enum status (*space)(struct disk *d, uint64_t *ret_free, uint64_t *ret_total);
    void (*destroy)(struct disk **disk_p);
};

/* Every implementation's struct disk and struct disk_file begin with this pointer. */
struct disk {
    const struct disk_verbs *verbs;
};

struct disk_file {
    const struct disk_verbs *verbs;
};

/* Real files under directory, which is made when missing. NULL: reterr. */
struct disk *disk_posix_new(const char *directory, struct error *reterr);

#endif
