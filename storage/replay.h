/* Replay: reads one segment of the log at start, and tells a torn tail from corruption.
 *
 * Only the last segment may have a torn tail: bytes behind its last good group in which nothing of
 * this segment stands. Everything else that is not a good group is corruption (log.h, (3)).
 */
#ifndef STORAGE_REPLAY_H
#define STORAGE_REPLAY_H

#include "storage/folder.h"
#include "storage/log.h"
#include "storage/segment.h"

struct replay {
    struct disk *disk;
    uint64_t node_tag;
    uint64_t after; /* records at and below it are verified, not delivered */
    log_record_fn *fn;
    log_progress_fn *progress;
    void *arg;
    /* Moves on. */
    uint64_t next_lsn; /* of the record that is read next */
    uint64_t done, total, records;
    uint64_t reported; /* value of done at the last progress */
};

struct replay_segment {
    char path[FOLDER_PATH_SIZE];
    uint64_t number, first_lsn;
    uint64_t next_first_lsn; /* of the segment behind it; 0: this is the last one */
    uint64_t size;           /* of the file */
};

/* Read the header of the segment and its file's size. STATUS_OK; STATUS_CORRUPT, STATUS_FORMAT,
 * STATUS_WRONGCLUSTER (another node's), STATUS_IO. */
enum status replay_header(struct replay *r, struct replay_segment *s, struct error *reterr);
/* A sealed segment of which no record is wanted: only the footer is verified. */
enum status replay_skip(struct replay *r, const struct replay_segment *s, uint64_t *ret_end,
                        struct error *reterr);
/* Verify all groups and deliver the records above r->after. *ret_end: offset behind the last group.
 * STATUS_OK, STATUS_CORRUPT, STATUS_IO, STATUS_NOMEMORY, or what r->fn returned. */
enum status replay_run(struct replay *r, const struct replay_segment *s, uint64_t *ret_end,
                       struct error *reterr);

#endif
