/* Segment: the bytes of one log file. Formats only; no file is touched here.
 *
 *   | header block | group | group | ...            zeros or an older life | slots | footer |
 *   0              512                                                              file size
 *
 * All integers little endian; header, groups and footer stand on DISK_ALIGNMENT. A checksum is
 * XXH3 128 over the whole block or group with the checksum itself taken as zeros.
 *
 * Header: u32 magic, u32 format, u64 number, u64 first lsn, u64 node tag, 16 bytes checksum, zeros.
 * Group:  u32 magic, u32 size (header and records), u32 count of records, u32 0, u64 first lsn,
 *         u64 durable lsn before it, u64 segment number, u64 node tag, 16 bytes checksum, records.
 * Footer: rows of 48 bytes {u32 slot, u32 0, u64 first seq, u64 last seq, u64 first epoch,
 *         u64 last epoch, u64 offset of the first group}, then, in the file's last 64 bytes,
 *         u32 magic, u32 count of rows, u64 last lsn, u64 end of the groups, u64 segment number,
 *         u64 node tag, u64 0, 16 bytes checksum over head and rows.
 *
 * The segment number in every group tells it from what an earlier life of the recycled file left.
 */
#ifndef STORAGE_SEGMENT_H
#define STORAGE_SEGMENT_H

#include "storage/disk.h"

#define SEGMENT_FORMAT 1u
#define SEGMENT_GROUP_HEADER_SIZE 64u
#define SEGMENT_FOOTER_HEAD_SIZE 64u
#define SEGMENT_FOOTER_ROW_SIZE 48u
#define SEGMENT_SLOTS_MAX (1u << 20) /* slots with entries in one segment */

/* Round up to DISK_ALIGNMENT. */
static inline uint64_t segment_align(uint64_t size)
{
    return (size + DISK_ALIGNMENT - 1) & ~(uint64_t)(DISK_ALIGNMENT - 1);
}

struct segment_header {
    uint64_t number, first_lsn, node_tag;
};

void segment_header_encode(uint8_t to[static DISK_ALIGNMENT], const struct segment_header *h);
/* STATUS_OK, STATUS_CORRUPT, STATUS_FORMAT. */
enum status segment_header_decode(const uint8_t from[static DISK_ALIGNMENT],
                                  struct segment_header *ret);

struct segment_group {
    uint32_t size; /* header and records, without padding */
    uint32_t count;
    uint64_t first_lsn, durable_lsn;
    uint64_t number, node_tag;
};

/* Fill in the header in front of the records: memory holds g->size bytes. */
void segment_group_seal(uint8_t *memory, const struct segment_group *g);
/* True when a group's header of this segment seems to stand here; the checksum is not looked at. */
bool segment_group_peek(const uint8_t from[static SEGMENT_GROUP_HEADER_SIZE], uint64_t number,
                        uint64_t node_tag, struct segment_group *ret);
/* memory holds g->size bytes. */
bool segment_group_verify(const uint8_t *memory, const struct segment_group *g);

/* Which replica slots have entries in a segment, and where. */
struct segment_slot {
    uint32_t slot;
    uint64_t first_seq, last_seq, first_epoch, last_epoch;
    uint64_t offset;
};

struct segment_slots {
    struct segment_slot *rows;
    uint32_t *index; /* open addressing: row + 1, 0 is empty; twice as large as rows */
    uint32_t count, capacity;
};

void segment_slots_init(struct segment_slots *s);
void segment_slots_fini(struct segment_slots *s);
/* Forget all rows, keep the memory. */
void segment_slots_clear(struct segment_slots *s);
/* Make rows for the slots of these records, still empty, and count the records. STATUS_OK,
 * STATUS_NOMEMORY, STATUS_CORRUPT. */
enum status segment_slots_reserve(struct segment_slots *s, struct bytes records,
                                  uint32_t *ret_count);
/* Note the entries of a group at offset; segment_slots_reserve() went before. */
void segment_slots_add(struct segment_slots *s, struct bytes records, uint64_t offset);

struct segment_footer {
    uint64_t number, node_tag;
    uint64_t last_lsn;   /* of the last record in the segment */
    uint64_t groups_end; /* offset behind the last group */
    uint32_t count;      /* rows */
};

/* Bytes at the end of the file, aligned. */
uint64_t segment_footer_size(uint32_t count);
/* Fill segment_footer_size(f->count) bytes from the first f->count rows. */
void segment_footer_encode(uint8_t *to, const struct segment_footer *f,
                           const struct segment_slot *rows);
/* Look at the last bytes of a file; the checksum is not looked at. */
bool segment_footer_peek(const uint8_t from[static SEGMENT_FOOTER_HEAD_SIZE], uint64_t number,
                         uint64_t node_tag, struct segment_footer *ret);
/* whole: segment_footer_size(f->count) bytes. */
bool segment_footer_verify(struct bytes whole, const struct segment_footer *f);

#endif
