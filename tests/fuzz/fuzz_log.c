/* Log records: what recovery makes of any bytes on the disk.
 *
 * Input: an octet that says how the rest is meant:
 *   0  records: framed ones, as in a group
 *   1  one segment, byte for byte
 *   2  one segment, built: groups with good checksums around what the input says, so that the
 *      reader is not stopped by the first wrong bit
 */
#include "storage/segment.h"
#include "storage/log.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/disk_sim.h"

#define TAG          0x7a67u
#define SEGMENT      LOG_SEGMENT_SIZE_MIN
#define SEGMENT_NAME "log/0000000001.seg"
#define OUT_SIZE_MAX ((size_t)64 << 20)
#define FILE_MAX     (16u * DISK_ALIGNMENT)
#define RECORDS_MAX  1000

/* ---- Records ---- */

/* The body is one entry or it is not; if so, there is one way to write it. */
static void check_entry(struct bytes body)
{
    struct entry e;
    struct effect room[ENTRY_EFFECTS_MAX];
    struct buffer out;
    if (record_entry_decode(body, &e, room) != STATUS_OK)
        return;
    buffer_init(&out, OUT_SIZE_MAX);
    ENSURE(record_entry_encode(&e, &out) == STATUS_OK);
    struct bytes trimmed = record_entry_trim(body);
    ENSURE(bytes_equal(buffer_view(&out), trimmed));
    ENSURE(record_entry_hash(trimmed, 1) == record_entry_hash(buffer_view(&out), 1));
    buffer_fini(&out);
}

static void check_small(const struct record_view *record)
{
    uint8_t octets[16];
    uint64_t number;
    struct install install;
    if (record_decode_u64(record->body, &number) == STATUS_OK) {
        record_encode_u64(octets, number);
        ENSURE(bytes_equal(record->body, bytes_of(octets, 8)));
    }
    if (record_decode_install(record->body, &install) == STATUS_OK) {
        record_encode_install(octets, &install);
        ENSURE(bytes_equal(record->body, bytes_of(octets, 16)));
    }
}

/* Each step goes forward, by what it says, and stays inside; the same bytes are written again. */
static void check_records(struct bytes records)
{
    struct record_view record;
    struct buffer out;
    enum status s;
    buffer_init(&out, OUT_SIZE_MAX);
    for (struct bytes before = records; (s = record_next(&records, &record)) == STATUS_OK;
         before = records) {
        size_t size = RECORD_HEADER_SIZE + record.body.size;
        ENSURE(records.data == before.data + size && records.size == before.size - size);
        ENSURE(record.body.data == before.data + RECORD_HEADER_SIZE);
        buffer_clear(&out);
        ENSURE(record_append(&out, record.kind, record.slot, record.body) == STATUS_OK);
        ENSURE(bytes_equal(buffer_view(&out), bytes_of(before.data, size)));
        check_small(&record);
        check_entry(record.body);
    }
    ENSURE(s == (records.size == 0 ? STATUS_NOTFOUND : STATUS_CORRUPT));
    buffer_fini(&out);
}

/* Rows are made for exactly the slots with entries, and hold their positions. */
static void check_slots(struct bytes records)
{
    struct segment_slots slots;
    uint32_t count;
    segment_slots_init(&slots);
    if (segment_slots_reserve(&slots, records, &count) == STATUS_OK) {
        segment_slots_add(&slots, records, DISK_ALIGNMENT);
        ENSURE(slots.count <= count);
        for (uint32_t i = 0; i < slots.count; i++)
            ENSURE(slots.rows[i].first_seq <= slots.rows[i].last_seq &&
                   slots.rows[i].offset == DISK_ALIGNMENT);
    }
    segment_slots_fini(&slots);
}

/* ---- Segments ---- */

struct scan {
    struct buffer records; /* what was delivered, framed */
    uint64_t first, last;
    uint64_t done;
};

static enum status on_record(void *arg, uint64_t lsn, const struct record_view *record)
{
    struct scan *scan = arg;
    ENSURE(scan->first == 0 || lsn == scan->last + 1);
    scan->first = scan->first == 0 ? lsn : scan->first;
    scan->last = lsn;
    return record_append(&scan->records, record->kind, record->slot, record->body);
}

static void on_progress(void *arg, uint64_t done, uint64_t total, uint64_t records)
{
    struct scan *scan = arg;
    (void)records;
    ENSURE(done >= scan->done && done <= total);
    scan->done = done;
}

static struct log *scan_open(struct scan *scan, struct disk *disk, uint64_t after)
{
    struct log_options options = {.segment_size = SEGMENT, .node_tag = TAG};
    struct error error = {.status = STATUS_OK};
    *scan = (struct scan){0};
    buffer_init(&scan->records, OUT_SIZE_MAX);
    struct log *log = log_open(disk, &options, after, on_record, on_progress, scan, &error);
    /* The disk and the memory are good: only the bytes can be wrong. */
    ENSURE(log != NULL || error.status == STATUS_CORRUPT || error.status == STATUS_FORMAT ||
           error.status == STATUS_WRONGCLUSTER);
    ENSURE(log == NULL || scan->first == 0 || scan->last + 1 == log_next_lsn(log));
    ENSURE(log == NULL || log_durable_lsn(log) + 1 == log_next_lsn(log));
    return log;
}

static void write_file(struct disk *disk, struct bytes content)
{
    struct disk_file *file;
    ENSURE(disk->verbs->make_directory(disk, "log") == STATUS_OK);
    ENSURE(disk->verbs->open(disk, SEGMENT_NAME, DISK_CREATE, &file, NULL) == STATUS_OK);
    ENSURE(content.size == 0 || file->verbs->write(file, 0, content) == STATUS_OK);
    ENSURE(file->verbs->sync(file) == STATUS_OK);
    file->verbs->close(&file);
    ENSURE(disk->verbs->sync_directory(disk, "log") == STATUS_OK);
}

/* A log that was opened takes one more record. */
static void write_on(struct log *log)
{
    struct buffer record;
    buffer_init(&record, OUT_SIZE_MAX);
    ENSURE(record_append(&record, RECORD_CLOSE, 0, BYTES_EMPTY) == STATUS_OK);
    ENSURE(log_append(log, log_next_lsn(log), 1, buffer_view(&record)) == STATUS_OK);
    struct log_group *group = log_group_take(log);
    ENSURE(group != NULL && log_group_write(log, group) == STATUS_OK);
    log_group_done(log, group);
    buffer_fini(&record);
}

/* A second look finds what the first one found, and what was written since; also after the power
 * failed, for the first one made it durable. */
static void look_again(struct disk *disk, const struct scan *first, uint64_t next_lsn)
{
    struct scan scan;
    disk_sim_crash(disk);
    struct log *log = scan_open(&scan, disk, 0);
    ENSURE(log != NULL && log_next_lsn(log) == next_lsn && scan.last == next_lsn - 1);
    ENSURE(scan.records.size == first->records.size + RECORD_HEADER_SIZE);
    ENSURE(bytes_equal(bytes_of(scan.records.data, first->records.size),
                       buffer_view(&first->records)));
    log_destroy(&log);
    buffer_fini(&scan.records);
}

static void check_segment(struct bytes content, uint64_t after)
{
    struct scan scan;
    struct disk *disk = disk_sim_new(1);
    write_file(disk, content);
    struct log *log = scan_open(&scan, disk, after);
    if (log != NULL) {
        write_on(log);
        uint64_t next_lsn = log_next_lsn(log);
        log_destroy(&log);
        if (after == 0)
            look_again(disk, &scan, next_lsn);
    }
    buffer_fini(&scan.records);
    disk->verbs->destroy(&disk);
}

static void put_header(uint8_t *to, uint64_t first_lsn)
{
    struct segment_header h = {.number = 1, .first_lsn = first_lsn, .node_tag = TAG};
    segment_header_encode(to, &h);
}

/* Groups one behind the other until the input or the room ends. Each: an octet of what is wrong
 * (0: nothing), then its records. *lsn is that of the next record. */
static size_t put_groups(uint8_t *file, size_t at, uint64_t *lsn, struct bytes *rest)
{
    while (rest->size > 0) {
        uint32_t wrong = feed_octet(rest), counted = 0;
        struct bytes records = feed_block(rest), walk = records;
        struct record_view record;
        size_t size = SEGMENT_GROUP_HEADER_SIZE + records.size;
        if (records.size == 0 || size > FILE_MAX - at)
            break;
        while (record_next(&walk, &record) == STATUS_OK)
            counted++;
        struct segment_group g = {.size = (uint32_t)size, .number = 1, .node_tag = TAG};
        g.count = counted + (wrong & 3);
        g.count += g.count == 0;
        g.first_lsn = *lsn + (wrong >> 2 & 3);
        g.durable_lsn = g.first_lsn - 1 + (wrong >> 4 & 1);
        memcpy(file + at + SEGMENT_GROUP_HEADER_SIZE, records.data, records.size);
        segment_group_seal(file + at, &g);
        if ((wrong & 0x80) != 0)
            file[at + size - 1] ^= 1; /* torn, or rotten */
        *lsn += g.count;
        at += segment_align(size);
    }
    return at;
}

static void put_footer(uint8_t *file, size_t at, uint64_t last_lsn)
{
    struct segment_footer f = {
        .number = 1, .node_tag = TAG, .last_lsn = last_lsn, .groups_end = at};
    segment_footer_encode(file + FILE_MAX - segment_footer_size(0), &f, NULL);
}

static void check_built(struct bytes rest)
{
    static uint8_t file[FILE_MAX];
    memset(file, 0, sizeof file);
    uint32_t options = feed_octet(&rest), after = feed_octet(&rest);
    uint64_t lsn = 1 + (options & 3);
    put_header(file, lsn);
    size_t at = put_groups(file, DISK_ALIGNMENT, &lsn, &rest);
    if ((options & 4) != 0 && at + segment_footer_size(0) <= FILE_MAX)
        put_footer(file, at, lsn - 1 + (options >> 3 & 1));
    uint8_t *copy = fuzz_copy(bytes_of(file, FILE_MAX));
    check_segment(bytes_of(copy, FILE_MAX), (options & 16) != 0 ? after : 0);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = bytes_of(data, size);
    switch (feed_octet(&rest) % 3) {
    case 0:
        check_records(rest);
        check_slots(rest);
        return 0;
    case 1:
        check_segment(rest, 0);
        return 0;
    default:
        check_built(rest);
        return 0;
    }
}
