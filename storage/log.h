/* Log: one append-only log per node: write-ahead log and replication history at once.
 *
 * Segments of 64 MiB (an option, for tests), "log/<number>.seg", written with zeros before use and
 * recycled. A *group* = header + framed records (record.h), padded to DISK_ALIGNMENT, is one write
 * and is made durable as a whole; only one group is under way at a time, so a good group proves
 * that all before it was durable. Every record has a log sequence number, lsn: dense, from 1.
 * segment.h has the formats, replay.h reads a segment at start.
 *
 * The next segment waits as "log/spare.seg" (being made: "log/spare.tmp"). To roll over: footer
 * into the full segment, header into the spare, rename, directory sync, first group. A group larger
 * than a segment gets a larger segment.
 *
 * Invariants:
 * (1) durable <= submitted <= appended lsn.
 * (2) A group is submitted only after the one before it is durable.
 * (3) A bad group with a good one behind it (same segment, same tag) is corruption, never a torn
 *     tail: log_open() fails with STATUS_CORRUPT and names segment and offset. So does a bad group
 *     at or below an lsn known to be durable (the checkpoint's position, a later segment's header).
 * (4) The last segment is rewritten and synced before it is trusted (an earlier process may have
 *     ended after a failed sync, with pages in the cache that the disk does not have).
 * (5) A segment is recycled only when all of it is below the release position and the segments kept
 *     hold at least retention bytes.
 *
 * Threads: log_group_write() and log_prepare() run in the sync thread (sync.h), everything else in
 * the loop thread. The simulator calls all of it in one thread.
 */
#ifndef STORAGE_LOG_H
#define STORAGE_LOG_H

#include "proto/base/buffer.h"
#include "storage/disk.h"
#include "storage/record.h"

struct log;
struct log_group;

#define LOG_SEGMENT_SIZE_DEFAULT (64u << 20)
#define LOG_SEGMENT_SIZE_MIN     4096u
#define LOG_GROUP_SIZE_MAX       (2u << 20) /* bytes; a record that is larger makes its own group */
#define LOG_GATHERED_SIZE_MAX    (256u << 20) /* bytes appended and not yet durable */

struct log_options {
    uint64_t segment_size;   /* bytes, a multiple of DISK_ALIGNMENT */
    uint64_t retention_size; /* bytes of checkpointed segments kept for peers */
    uint64_t node_tag;       /* from the identity: foreign segments are refused */
};

/* Called for each record in lsn order. Not STATUS_OK: recovery stops and returns it. */
typedef enum status log_record_fn(void *arg, uint64_t lsn, const struct record_view *record);
/* Called now and then with bytes done and to do. */
typedef void log_progress_fn(void *arg, uint64_t done, uint64_t total, uint64_t records);

/* Open the log, verify every group that is not released, call fn for each record with lsn > after,
 * rewrite and sync the last segment. after is the checkpoint's position (0: from the start). Of
 * segments that lie wholly at or below after only header and footer are verified. NULL: reterr
 * (STATUS_CORRUPT names segment and offset; STATUS_WRONGCLUSTER: segments of another node). */
struct log *log_open(struct disk *disk, const struct log_options *options, uint64_t after,
                     log_record_fn *fn, log_progress_fn *progress, void *arg, struct error *reterr);
void log_destroy(struct log **log_p);

/* lsn that the next appended record gets. */
uint64_t log_next_lsn(const struct log *l);
/* All below and including this are durable. */
uint64_t log_durable_lsn(const struct log *l);

/* Add count framed records (record_append()), the first of which has lsn first; ENSUREs first ==
 * log_next_lsn(). Memory only. STATUS_OK; STATUS_NOMEMORY (also beyond LOG_GATHERED_SIZE_MAX):
 * nothing was added. */
enum status log_append(struct log *l, uint64_t first, uint32_t count, struct bytes records);

/* Close what was appended into a group to be written: NULL when there is nothing, or while one is
 * under way. A large gathering makes several groups, one at a time. */
struct log_group *log_group_take(struct log *l);
/* Write it and make it durable; blocking. STATUS_IO, STATUS_FULL: the process must end. */
enum status log_group_write(struct log *l, struct log_group *g);
/* When there is no group to write: one small step (at most 256 KiB) of preparing the next segment,
 * or of dropping one that is no longer wanted; *ret_more: there is more to do. Without it
 * log_group_write() does the same work when it needs it. STATUS_OK (also when the disk is too full
 * to prepare), STATUS_IO: the process must end. */
enum status log_prepare(struct log *l, bool *ret_more);
/* Back in the loop thread: durable lsn moves; g is the log's again. */
void log_group_done(struct log *l, struct log_group *g);

/* Records at or below lsn are in the table: their segments may be recycled. */
void log_release(struct log *l, uint64_t lsn);

/* Bytes of log that recovery would replay if the process ended now; inside one segment estimated.
 */
uint64_t log_replay_size(const struct log *l);
/* Segments in use and their bytes, for gauges. */
void log_count(const struct log *l, uint64_t *ret_segments, uint64_t *ret_bytes);

/* True when the file system has less than 5 % (and less than 512 MiB) free, looked at every second
 * or so by log_space_check(); client writes are refused then, before they are logged. */
bool log_space_low(const struct log *l);
enum status log_space_check(struct log *l);

#endif
