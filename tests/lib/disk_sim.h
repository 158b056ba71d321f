/* Disk in memory, as bad as a real one may be; deterministic from its seed.
 *
 * What is written stands in a cache, which reads see, and is pending until a sync. A crash keeps
 * any subset of what is pending: of writes each 512-byte sector on its own, of creations, renames
 * and removals each as a whole; the cache is gone. Writes to DISK_DIRECT files are durable on
 * return. After a failed write or sync the cache shows bytes that the disk may never get.
 *
 * - disk_sim_crash()             the power fails
 * - disk_sim_kill()              the process ends, the cache stays
 * - disk_sim_begin_torn_write()  what comes is not durable yet: the simulator runs a group's write
 * at once but lets it take time; a crash meanwhile falls anywhere inside
 * - disk_sim_faults()            errors to come
 *
 * struct disk itself outlives crash and kill; open files do not: their verbs fail until closed.
 */
#ifndef TESTS_LIB_DISK_SIM_H
#define TESTS_LIB_DISK_SIM_H

#include "storage/disk.h"

/* Countdowns: n fails the n-th call from now, once; 0 is off. Set at any time. */
struct disk_sim_faults {
    uint32_t open_eio, size_eio, read_eio;
    uint32_t write_eio;          /* any sectors of the write may have reached the disk */
    uint32_t write_full;         /* ENOSPC, nothing written */
    uint32_t sync_eio;           /* any pending sectors of the file are lost, the rest is durable */
    uint32_t name_eio;           /* rename, remove, make_directory */
    uint32_t directory_sync_eio; /* nothing is synced, all stays pending */
    uint32_t any_eio;            /* counts every verb above but close, list and space */
    bool directory_sync_ignored; /* it returns STATUS_OK and does nothing */
    uint64_t size_max;           /* bytes of all files, ENOSPC beyond; 0: no limit */
};

struct disk *disk_sim_new(uint64_t seed);
struct disk_sim_faults *disk_sim_faults(struct disk *disk);

/* All open files die, the lock is free, faults stay as they are, a torn write ends. */
void disk_sim_crash(struct disk *disk);
void disk_sim_kill(struct disk *disk);

/* on: everything from now on, syncs included, is a sequence that a crash cuts at any point. off:
 * the sequence is over, and as durable as it had been without this. */
void disk_sim_begin_torn_write(struct disk *disk, bool on);

/* Flip one bit, in the cache and on the disk. The file exists and is longer than offset. */
void disk_sim_corrupt(struct disk *disk, const char *name, uint64_t offset);

/* For tests of every prefix: how long the sequence is by now, and a crash that cuts it at the given
 * length, tearing the write that comes next. Only while a torn write is on. */
size_t disk_sim_torn_count(const struct disk *disk);
void disk_sim_crash_at(struct disk *disk, size_t torn_count);
/* A second disk in the same state, with a seed of its own and no open files. */
struct disk *disk_sim_copy(const struct disk *disk, uint64_t seed);

#endif
