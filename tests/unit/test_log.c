#include "storage/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above. */
#include <cmocka.h>

#include "storage/segment.h"
#include "tests/lib/disk_sim.h"

#define SEGMENT           8192u
#define TAG               0x7a67u
#define EACH_RECORD_APART 1u

/* A log on a disk, and what was said about its records. */
struct fixture {
    struct disk *disk;
    struct log *log;
    struct log_options options;
    uint64_t durable; /* highest lsn that log_group_done() reported */
    /* What the last open delivered. */
    uint64_t first_seen, last_seen;
    uint64_t progress_done, progress_total;
    struct error error;
};

/* Every record's content follows from its lsn, so that any one can be checked alone. */
static size_t body_size(uint64_t lsn)
{
    return 24 + lsn * 2654435761u % 300;
}

static void body_fill(uint64_t lsn, uint8_t *to)
{
    for (size_t i = 0; i < body_size(lsn); i++)
        to[i] = (uint8_t)(lsn * 31 + i * 7);
    bytes_put_le64(to + 8, 1 + lsn / 100); /* epoch */
    bytes_put_le64(to + 16, lsn);          /* seq */
}

static enum status check_record(void *arg, uint64_t lsn, const struct record_view *record)
{
    struct fixture *f = arg;
    uint8_t body[512];
    body_fill(lsn, body);
    assert_int_equal(record->kind, RECORD_ENTRY);
    assert_int_equal(record->slot, lsn % 7);
    assert_true(record->body.size >= body_size(lsn));
    assert_memory_equal(record->body.data, body, body_size(lsn));
    if (f->first_seen == 0)
        f->first_seen = lsn;
    else
        assert_int_equal(lsn, f->last_seen + 1);
    f->last_seen = lsn;
    return STATUS_OK;
}

static void note_progress(void *arg, uint64_t done, uint64_t total, uint64_t records)
{
    struct fixture *f = arg;
    (void)records;
    assert_true(done >= f->progress_done && done <= total);
    f->progress_done = done;
    f->progress_total = total;
}

static bool try_open(struct fixture *f, uint64_t after)
{
    f->first_seen = f->last_seen = 0;
    f->progress_done = f->progress_total = 0;
    f->log = log_open(f->disk, &f->options, after, check_record, note_progress, f, &f->error);
    return f->log != NULL;
}

static void open_log(struct fixture *f, uint64_t after)
{
    if (!try_open(f, after))
        fail_msg("%s: %s", status_name(f->error.status), f->error.message);
}

static void set_up(struct fixture *f)
{
    *f = (struct fixture){
        .disk = disk_sim_new(7),
        .options = {.segment_size = SEGMENT, .retention_size = 1u << 30, .node_tag = TAG},
    };
    open_log(f, 0);
}

static void tear_down(struct fixture *f)
{
    log_destroy(&f->log);
    f->disk->verbs->destroy(&f->disk);
}

static void reopen(struct fixture *f, uint64_t after)
{
    log_destroy(&f->log);
    open_log(f, after);
}

static void append(struct fixture *f, uint32_t count, unsigned flags)
{
    struct buffer out;
    buffer_init(&out, 1u << 22);
    uint8_t body[512];
    uint64_t first = log_next_lsn(f->log);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t lsn = first + i;
        body_fill(lsn, body);
        assert_int_equal(
            record_append(&out, RECORD_ENTRY, (uint32_t)(lsn % 7), bytes_of(body, body_size(lsn))),
            STATUS_OK);
        if (flags == EACH_RECORD_APART) {
            assert_int_equal(log_append(f->log, lsn, 1, buffer_view(&out)), STATUS_OK);
            buffer_clear(&out);
        }
    }
    if (flags != EACH_RECORD_APART)
        assert_int_equal(log_append(f->log, first, count, buffer_view(&out)), STATUS_OK);
    buffer_fini(&out);
}

/* Write all that is gathered. */
static enum status flush(struct fixture *f)
{
    struct log_group *g;
    while ((g = log_group_take(f->log)) != NULL) {
        enum status s = log_group_write(f->log, g);
        if (s != STATUS_OK)
            return s;
        log_group_done(f->log, g);
        f->durable = log_durable_lsn(f->log);
    }
    return STATUS_OK;
}

static void write_groups(struct fixture *f, unsigned groups, uint32_t records)
{
    for (unsigned i = 0; i < groups; i++) {
        append(f, records, 0);
        assert_int_equal(flush(f), STATUS_OK);
    }
}

static uint64_t segments_count(const struct fixture *f)
{
    uint64_t segments, bytes;
    log_count(f->log, &segments, &bytes);
    return segments;
}

struct names {
    unsigned segments, others;
    bool spare;
    char last[64];
};

static void note_name(void *arg, const char *name)
{
    struct names *n = arg;
    if (strcmp(name, "spare.seg") == 0)
        n->spare = true;
    else if (strstr(name, ".seg") == NULL)
        n->others++;
    else if (n->segments++ == 0 || strcmp(name, n->last) > 0)
        snprintf(n->last, sizeof n->last, "%s", name);
}

static struct names list_names(const struct fixture *f)
{
    struct names n = {0};
    assert_int_equal(f->disk->verbs->list(f->disk, "log", note_name, &n), STATUS_OK);
    return n;
}

static void read_file(struct fixture *f, const char *name, uint8_t *to, size_t size)
{
    struct disk_file *file;
    size_t got = 0;
    assert_int_equal(f->disk->verbs->open(f->disk, name, 0, &file, NULL), STATUS_OK);
    assert_int_equal(f->disk->verbs->read(file, 0, to, size, &got), STATUS_OK);
    assert_int_equal(got, size);
    f->disk->verbs->close(&file);
}

/* -- Simple ----------------------------------------------------------------------------------- */

static void test_log__new_log_is_empty(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    assert_int_equal(log_next_lsn(f.log), 1);
    assert_int_equal(log_durable_lsn(f.log), 0);
    assert_null(log_group_take(f.log));
    reopen(&f, 0);
    assert_int_equal(log_next_lsn(f.log), 1);
    assert_int_equal(f.first_seen, 0);
    tear_down(&f);
}

static void test_log__records_come_back_in_order(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    append(&f, 3, 0);
    append(&f, 4, EACH_RECORD_APART);
    assert_int_equal(log_durable_lsn(f.log), 0);
    assert_int_equal(flush(&f), STATUS_OK);
    assert_int_equal(log_durable_lsn(f.log), 7);
    reopen(&f, 0);
    assert_int_equal(f.first_seen, 1);
    assert_int_equal(f.last_seen, 7);
    assert_int_equal(log_next_lsn(f.log), 8);
    tear_down(&f);
}

static void test_log__one_group_is_under_way_at_a_time(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    append(&f, 1, 0);
    struct log_group *g = log_group_take(f.log);
    assert_non_null(g);
    append(&f, 1, 0);
    assert_null(log_group_take(f.log));
    assert_int_equal(log_group_write(f.log, g), STATUS_OK);
    assert_int_equal(log_durable_lsn(f.log), 0);
    log_group_done(f.log, g);
    assert_int_equal(log_durable_lsn(f.log), 1);
    assert_int_equal(flush(&f), STATUS_OK);
    assert_int_equal(log_durable_lsn(f.log), 2);
    tear_down(&f);
}

static void test_log__large_gathering_makes_several_groups(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    append(&f, 200, 0);
    unsigned groups = 0;
    struct log_group *g;
    for (; (g = log_group_take(f.log)) != NULL; groups++) {
        assert_int_equal(log_group_write(f.log, g), STATUS_OK);
        log_group_done(f.log, g);
    }
    assert_true(groups > 10);
    assert_int_equal(log_durable_lsn(f.log), 200);
    reopen(&f, 0);
    assert_int_equal(f.last_seen, 200);
    tear_down(&f);
}

static void test_log__unwritten_records_are_gone(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 1, 3);
    append(&f, 2, 0);
    reopen(&f, 0);
    assert_int_equal(f.last_seen, 3);
    assert_int_equal(log_next_lsn(f.log), 4);
    tear_down(&f);
}

static void test_log__beyond_the_ceiling_nothing_is_added(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    append(&f, 2, 0);
    size_t size = 32u << 20;
    uint8_t *record = calloc(1, size);
    bytes_put_le32(record, (uint32_t)size);
    record[4] = RECORD_REGISTER;
    uint64_t lsn = 3;
    while (log_append(f.log, lsn, 1, bytes_of(record, size)) == STATUS_OK)
        lsn++;
    free(record);
    assert_int_equal(lsn, 3 + LOG_GATHERED_SIZE_MAX / size - 1);
    assert_int_equal(log_next_lsn(f.log), lsn);
    tear_down(&f);
}

static void test_log__progress_ends_at_the_total(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 40, 4);
    reopen(&f, 0);
    assert_true(f.progress_total >= 3 * SEGMENT);
    assert_int_equal(f.progress_done, f.progress_total);
    tear_down(&f);
}

static enum status refuse_fifth(void *arg, uint64_t lsn, const struct record_view *record)
{
    (void)arg;
    (void)record;
    return lsn == 5 ? STATUS_NOMEMORY : STATUS_OK;
}

static void test_log__the_callers_refusal_ends_recovery(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 4, 2);
    log_destroy(&f.log);
    f.log = log_open(f.disk, &f.options, 0, refuse_fifth, NULL, NULL, &f.error);
    assert_null(f.log);
    assert_int_equal(f.error.status, STATUS_NOMEMORY);
    tear_down(&f);
}

/* -- Segments --------------------------------------------------------------------------------- */

static void test_log__rolls_over_segments_and_recovers_from_any_lsn(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 60, 3);
    assert_true(segments_count(&f) > 5);
    for (uint64_t after = 0; after <= 180; after++) {
        reopen(&f, after);
        assert_int_equal(f.first_seen, after == 180 ? 0 : after + 1);
        assert_int_equal(f.last_seen, after == 180 ? 0 : 180);
        assert_int_equal(log_next_lsn(f.log), 181);
    }
    tear_down(&f);
}

static void test_log__goes_on_after_every_reopen(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    for (uint32_t i = 1; i <= 60; i++) {
        write_groups(&f, 1, 1 + i % 3);
        uint64_t last = f.durable;
        reopen(&f, 0);
        assert_int_equal(f.last_seen, last);
    }
    tear_down(&f);
}

static void test_log__record_larger_than_a_segment_gets_a_larger_segment(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 2, 1);
    size_t size = 5 * SEGMENT + 64;
    uint8_t *record = calloc(1, size);
    bytes_put_le32(record, (uint32_t)size);
    record[4] = RECORD_REGISTER;
    assert_int_equal(log_append(f.log, 3, 1, bytes_of(record, size)), STATUS_OK);
    free(record);
    assert_int_equal(flush(&f), STATUS_OK);
    write_groups(&f, 2, 1);
    log_destroy(&f.log);
    open_log(&f, 3);
    assert_int_equal(f.first_seen, 4);
    assert_int_equal(f.last_seen, 5);
    tear_down(&f);
}

static void test_log__released_segments_are_recycled(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    f.options.retention_size = 0;
    reopen(&f, 0);
    for (unsigned i = 0; i < 200; i++) {
        write_groups(&f, 1, 3);
        log_release(f.log, f.durable);
    }
    assert_true(segments_count(&f) <= 3);
    struct names n = list_names(&f);
    assert_true(n.segments <= 3);
    assert_int_equal(n.others, 0);
    assert_true(strcmp(n.last, "0000000020.seg") > 0);
    reopen(&f, 600);
    assert_int_equal(log_next_lsn(f.log), 601);
    reopen(&f, 590);
    assert_int_equal(f.first_seen, 591);
    assert_int_equal(f.last_seen, 600);
    tear_down(&f);
}

static void test_log__unreleased_segments_are_never_recycled(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    f.options.retention_size = 0;
    reopen(&f, 0);
    write_groups(&f, 10, 3);
    log_release(f.log, 30);
    write_groups(&f, 100, 3);
    reopen(&f, 30);
    assert_int_equal(f.first_seen, 31);
    assert_int_equal(f.last_seen, 330);
    tear_down(&f);
}

static void test_log__retention_keeps_released_segments(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    f.options.retention_size = 4 * SEGMENT;
    reopen(&f, 0);
    for (unsigned i = 0; i < 200; i++) {
        write_groups(&f, 1, 3);
        log_release(f.log, f.durable);
    }
    assert_int_equal(segments_count(&f), 5);
    uint64_t segments, bytes;
    log_count(f.log, &segments, &bytes);
    assert_int_equal(bytes, 5 * SEGMENT);
    tear_down(&f);
}

static void test_log__a_too_late_position_names_what_is_missing(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    f.options.retention_size = 0;
    reopen(&f, 0);
    for (unsigned i = 0; i < 60; i++) {
        write_groups(&f, 1, 3);
        log_release(f.log, f.durable);
    }
    log_destroy(&f.log);
    assert_false(try_open(&f, 10));
    assert_int_equal(f.error.status, STATUS_CORRUPT);
    assert_non_null(strstr(f.error.message, "missing"));
    assert_false(try_open(&f, 181));
    assert_int_equal(f.error.status, STATUS_CORRUPT);
    open_log(&f, 180);
    tear_down(&f);
}

static void test_log__empty_directory_below_the_checkpoint_is_refused(void **state)
{
    (void)state;
    struct fixture f = {
        .disk = disk_sim_new(1),
        .options = {.segment_size = SEGMENT, .node_tag = TAG},
    };
    assert_false(try_open(&f, 5));
    assert_int_equal(f.error.status, STATUS_CORRUPT);
    tear_down(&f);
}

static void test_log__replay_size_falls_with_the_release(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    assert_int_equal(log_replay_size(f.log), 0);
    write_groups(&f, 60, 3);
    uint64_t all = log_replay_size(f.log);
    assert_true(all >= 60 * DISK_ALIGNMENT);
    log_release(f.log, 90);
    uint64_t half = log_replay_size(f.log);
    assert_true(half > all / 3 && half < all * 2 / 3);
    log_release(f.log, 180);
    assert_int_equal(log_replay_size(f.log), 0);
    tear_down(&f);
}

static void test_log__preparation_makes_the_next_segment_in_steps(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    f.options.segment_size = 1u << 20;
    reopen(&f, 0);
    bool more = true;
    unsigned steps = 0;
    for (; more; steps++)
        assert_int_equal(log_prepare(f.log, &more), STATUS_OK);
    assert_int_equal(steps, 1 + 4 + 1);
    assert_true(list_names(&f).spare);
    /* With the spare there, a roll creates nothing. */
    disk_sim_faults(f.disk)->open_eio = 1;
    while (segments_count(&f) == 1)
        write_groups(&f, 1, 100);
    disk_sim_faults(f.disk)->open_eio = 0;
    assert_false(list_names(&f).spare);
    tear_down(&f);
}

static void test_log__the_last_segment_is_rewritten_into_the_spare(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 3, 100);
    bool more = true;
    while (more)
        assert_int_equal(log_prepare(f.log, &more), STATUS_OK);
    uint64_t next_lsn = log_next_lsn(f.log);
    reopen(&f, 0);
    assert_false(list_names(&f).spare);
    assert_int_equal(log_next_lsn(f.log), next_lsn);
    write_groups(&f, 3, 100);
    next_lsn = log_next_lsn(f.log);
    reopen(&f, 0); /* no spare this time: a new file */
    assert_int_equal(log_next_lsn(f.log), next_lsn);
    for (more = true; more;)
        assert_int_equal(log_prepare(f.log, &more), STATUS_OK);
    f.options.segment_size = 2 * SEGMENT;
    reopen(&f, 0);
    assert_false(list_names(&f).spare);
    tear_down(&f);
}

static void test_log__preparation_drops_what_retention_no_longer_wants(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    f.options.retention_size = 0;
    reopen(&f, 0);
    write_groups(&f, 100, 3);
    assert_true(list_names(&f).segments > 5);
    log_release(f.log, 300);
    bool more = true;
    while (more)
        assert_int_equal(log_prepare(f.log, &more), STATUS_OK);
    struct names n = list_names(&f);
    assert_int_equal(n.segments, 1);
    assert_true(n.spare);
    tear_down(&f);
}

static void test_log__footer_names_slots_and_positions(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 30, 3);
    uint8_t file[SEGMENT];
    read_file(&f, "log/0000000001.seg", file, sizeof file);
    struct segment_footer footer;
    assert_true(segment_footer_peek(file + SEGMENT - SEGMENT_FOOTER_HEAD_SIZE, 1, TAG, &footer));
    size_t size = segment_footer_size(footer.count);
    assert_true(segment_footer_verify(bytes_of(file + SEGMENT - size, size), &footer));
    assert_int_equal(footer.count, 7);
    uint8_t *row = file + SEGMENT - SEGMENT_FOOTER_HEAD_SIZE - 7 * SEGMENT_FOOTER_ROW_SIZE;
    for (unsigned i = 0; i < 7; i++, row += SEGMENT_FOOTER_ROW_SIZE) {
        uint32_t slot = bytes_le32(row);
        uint64_t first = bytes_le64(row + 8), last = bytes_le64(row + 16);
        assert_int_equal(first, slot == 0 ? 7 : slot);
        assert_int_equal(last % 7, slot);
        assert_true(last > footer.last_lsn - 7 && last <= footer.last_lsn);
        assert_int_equal(bytes_le64(row + 24), 1);
        assert_true(bytes_le64(row + 40) >= DISK_ALIGNMENT);
        assert_true(bytes_le64(row + 40) < footer.groups_end);
    }
    tear_down(&f);
}

/* -- Refused ---------------------------------------------------------------------------------- */

static void test_log__foreign_segments_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 2, 2);
    log_destroy(&f.log);
    f.options.node_tag = TAG + 1;
    assert_false(try_open(&f, 0));
    assert_int_equal(f.error.status, STATUS_WRONGCLUSTER);
    assert_non_null(strstr(f.error.message, "log/0000000001.seg"));
    tear_down(&f);
}

static void test_log__a_missing_segment_is_refused_and_nothing_removed(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 60, 3);
    log_destroy(&f.log);
    unsigned before = list_names(&f).segments;
    assert_int_equal(f.disk->verbs->remove(f.disk, "log/0000000003.seg"), STATUS_OK);
    assert_false(try_open(&f, 0));
    assert_int_equal(f.error.status, STATUS_CORRUPT);
    assert_non_null(strstr(f.error.message, "log/0000000004.seg"));
    assert_int_equal(list_names(&f).segments, before - 1);
    tear_down(&f);
}

/* Offsets of all groups in the first segment. */
static unsigned group_offsets(struct fixture *f, uint64_t offsets[static 64],
                              uint32_t sizes[static 64])
{
    uint8_t file[SEGMENT];
    unsigned count = 0;
    struct segment_group g;
    read_file(f, "log/0000000001.seg", file, sizeof file);
    for (uint64_t at = DISK_ALIGNMENT; at + SEGMENT_GROUP_HEADER_SIZE < SEGMENT;
         at += DISK_ALIGNMENT)
        if (segment_group_peek(file + at, 1, TAG, &g)) {
            offsets[count] = at;
            sizes[count++] = g.size;
        }
    return count;
}

static void assert_refused(struct fixture *f, uint64_t after, uint64_t offset)
{
    char place[64];
    snprintf(place, sizeof place, "log/0000000001.seg, offset %llu:", (unsigned long long)offset);
    assert_false(try_open(f, after));
    assert_int_equal(f->error.status, STATUS_CORRUPT);
    if (strstr(f->error.message, place) == NULL)
        fail_msg("'%s' does not name %s", f->error.message, place);
}

static void test_log__a_damaged_group_with_good_ones_behind_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 6, 2);
    log_destroy(&f.log);
    uint64_t offsets[64];
    uint32_t sizes[64];
    unsigned count = group_offsets(&f, offsets, sizes);
    assert_int_equal(count, 6);
    for (unsigned i = 0; i + 1 < count; i++)
        for (uint64_t at = 0; at < sizes[i]; at += 13) {
            struct fixture damaged = {.disk = disk_sim_copy(f.disk, at), .options = f.options};
            disk_sim_corrupt(damaged.disk, "log/0000000001.seg", offsets[i] + at);
            assert_refused(&damaged, 0, offsets[i]);
            tear_down(&damaged);
        }
    tear_down(&f);
}

static void test_log__a_damaged_last_group_is_a_torn_tail(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 6, 2);
    log_destroy(&f.log);
    uint64_t offsets[64];
    uint32_t sizes[64];
    assert_int_equal(group_offsets(&f, offsets, sizes), 6);
    disk_sim_corrupt(f.disk, "log/0000000001.seg", offsets[5] + 100);
    open_log(&f, 0);
    assert_int_equal(f.last_seen, 10);
    assert_int_equal(log_next_lsn(f.log), 11);
    /* The lsn is given again, and the remains of the torn group do not matter. */
    write_groups(&f, 1, 1);
    reopen(&f, 0);
    assert_int_equal(f.last_seen, 11);
    tear_down(&f);
}

static void test_log__damage_below_the_checkpoint_is_no_torn_tail(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 6, 2);
    log_destroy(&f.log);
    uint64_t offsets[64];
    uint32_t sizes[64];
    group_offsets(&f, offsets, sizes);
    disk_sim_corrupt(f.disk, "log/0000000001.seg", offsets[5] + 100);
    assert_refused(&f, 12, offsets[5]);
    assert_refused(&f, 11, offsets[5]);
    open_log(&f, 10);
    tear_down(&f);
}

static void test_log__damage_in_a_sealed_segment_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 30, 3);
    log_destroy(&f.log);
    uint64_t offsets[64];
    uint32_t sizes[64];
    unsigned count = group_offsets(&f, offsets, sizes);
    for (unsigned i = 0; i < count; i++) {
        struct fixture damaged = {.disk = disk_sim_copy(f.disk, i), .options = f.options};
        disk_sim_corrupt(damaged.disk, "log/0000000001.seg", offsets[i] + sizes[i] / 2);
        assert_refused(&damaged, 0, offsets[i]);
        /* All of it below the position: the segment is only kept for peers. */
        open_log(&damaged, 80);
        tear_down(&damaged);
    }
    disk_sim_corrupt(f.disk, "log/0000000001.seg", SEGMENT - 20);
    assert_refused(&f, 0, SEGMENT - SEGMENT_FOOTER_HEAD_SIZE);
    assert_refused(&f, 80, SEGMENT - SEGMENT_FOOTER_HEAD_SIZE);
    tear_down(&f);
}

static void test_log__a_damaged_header_is_refused(void **state)
{
    (void)state;
    for (uint64_t at = 0; at < 48; at++) {
        struct fixture f;
        set_up(&f);
        write_groups(&f, 3, 3);
        log_destroy(&f.log);
        disk_sim_corrupt(f.disk, "log/0000000001.seg", at);
        assert_refused(&f, 0, 0);
        tear_down(&f);
    }
}

/* A write that went to the wrong place is whole, and still wrong. */
static void test_log__a_good_group_out_of_order_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    for (unsigned i = 0; i < 4; i++)
        write_groups(&f, 1, 1);
    log_destroy(&f.log);
    uint64_t offsets[64];
    uint32_t sizes[64];
    assert_int_equal(group_offsets(&f, offsets, sizes), 4);
    uint8_t file[SEGMENT];
    read_file(&f, "log/0000000001.seg", file, sizeof file);
    struct disk_file *open = NULL;
    assert_int_equal(f.disk->verbs->open(f.disk, "log/0000000001.seg", 0, &open, NULL), STATUS_OK);
    assert_int_equal(f.disk->verbs->write(open, offsets[2], bytes_of(file + offsets[0], 512)),
                     STATUS_OK);
    f.disk->verbs->close(&open);
    assert_refused(&f, 0, offsets[2]);
    tear_down(&f);
}

/* Damage anywhere is refused, or was in bytes that mean nothing, or cut the tail. */
static void test_log__no_flipped_bit_ever_shows_wrong_records(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    write_groups(&f, 12, 3);
    log_destroy(&f.log);
    struct names n = list_names(&f);
    char last[80];
    snprintf(last, sizeof last, "log/%s", n.last);
    for (uint64_t at = 0; at < SEGMENT; at += 11) {
        struct fixture damaged = {.disk = disk_sim_copy(f.disk, at), .options = f.options};
        disk_sim_corrupt(damaged.disk, last, at);
        /* check_record() judges what is delivered. */
        if (try_open(&damaged, 0))
            assert_true(damaged.last_seen >= 33);
        tear_down(&damaged);
    }
    tear_down(&f);
}

/* -- Crashes ---------------------------------------------------------------------------------- */

#define STEPS_MAX 4096

/* A run on a disk that records its sequence, with how long it was when records became durable. */
struct recording {
    struct fixture f;
    size_t counts[STEPS_MAX];
    uint64_t durables[STEPS_MAX];
    unsigned steps;
};

static void note_step(struct recording *r)
{
    assert_true(r->steps < STEPS_MAX);
    r->counts[r->steps] = disk_sim_torn_count(r->f.disk);
    r->durables[r->steps++] = r->f.durable;
}

static uint64_t durable_at(const struct recording *r, size_t count)
{
    uint64_t durable = 0;
    for (unsigned i = 0; i < r->steps && r->counts[i] <= count; i++)
        durable = r->durables[i];
    return durable;
}

static void record_run(struct recording *r, unsigned groups, uint64_t retention,
                       unsigned reopen_every)
{
    r->f = (struct fixture){
        .disk = disk_sim_new(11),
        .options = {.segment_size = SEGMENT, .retention_size = retention, .node_tag = TAG},
    };
    r->steps = 0;
    disk_sim_begin_torn_write(r->f.disk, true);
    open_log(&r->f, 0);
    for (unsigned i = 0; i < groups; i++) {
        write_groups(&r->f, 1, 1 + i % 5);
        note_step(r);
        if (i % 3 == 0)
            log_release(r->f.log, r->f.durable > 20 ? r->f.durable - 20 : 0);
        if (reopen_every > 0 && i % reopen_every == reopen_every - 1)
            reopen(&r->f, r->f.durable > 20 ? r->f.durable - 20 : 0);
        bool more;
        if (i % 4 == 0)
            assert_int_equal(log_prepare(r->f.log, &more), STATUS_OK);
    }
}

/* Whatever the crash left: all that was durable is there, in order, and the log goes on. */
static void check_crash(const struct recording *r, size_t count, uint64_t seed, bool again)
{
    struct fixture f = {.disk = disk_sim_copy(r->f.disk, seed), .options = r->f.options};
    uint64_t durable = durable_at(r, count);
    uint64_t after = durable > 20 ? durable - 20 : 0; /* what was released at most */
    disk_sim_crash_at(f.disk, count);
    open_log(&f, after);
    uint64_t last = log_next_lsn(f.log) - 1;
    assert_true(last >= durable);
    assert_int_equal(f.last_seen, last > after ? last : 0);
    write_groups(&f, 4, 4);
    if (again) { /* a second crash, after the first recovery */
        disk_sim_crash(f.disk);
        log_destroy(&f.log);
        open_log(&f, last);
        assert_int_equal(f.last_seen, last + 16);
    }
    tear_down(&f);
}

static void test_log__every_prefix_of_the_writes_recovers_what_was_durable(void **state)
{
    (void)state;
    struct recording *r = calloc(1, sizeof *r);
    record_run(r, 60, 1u << 30, 0);
    size_t count = disk_sim_torn_count(r->f.disk);
    assert_true(count > 100);
    for (size_t cut = 0; cut <= count; cut++)
        for (uint64_t seed = 0; seed < 4; seed++)
            check_crash(r, cut, cut * 4 + seed, seed == 0);
    tear_down(&r->f);
    free(r);
}

static void test_log__recycling_survives_a_crash_at_any_point(void **state)
{
    (void)state;
    struct recording *r = calloc(1, sizeof *r);
    record_run(r, 120, 0, 0);
    size_t count = disk_sim_torn_count(r->f.disk);
    assert_true(list_names(&r->f).segments < 6);
    for (size_t cut = 0; cut <= count; cut++)
        for (uint64_t seed = 0; seed < 4; seed++)
            check_crash(r, cut, cut * 4 + seed, seed == 0);
    tear_down(&r->f);
    free(r);
}

static void test_log__recovery_survives_a_crash_at_any_point(void **state)
{
    (void)state;
    struct recording *r = calloc(1, sizeof *r);
    record_run(r, 40, 2 * SEGMENT, 5);
    size_t count = disk_sim_torn_count(r->f.disk);
    for (size_t cut = 0; cut <= count; cut++)
        for (uint64_t seed = 0; seed < 4; seed++)
            check_crash(r, cut, cut * 4 + seed, false);
    tear_down(&r->f);
    free(r);
}

/* What recovery delivered was seen by the node: a power failure right after must not take it back,
 * although the process before had ended at a failed sync. */
static void test_log__what_recovery_delivered_is_durable(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct fixture f = {
            .disk = disk_sim_new(seed),
            .options = {.segment_size = SEGMENT, .retention_size = SEGMENT, .node_tag = TAG},
        };
        open_log(&f, 0);
        write_groups(&f, (unsigned)seed % 30, 3);
        append(&f, 3, 0);
        disk_sim_faults(f.disk)->write_eio = 1;
        assert_int_equal(flush(&f), STATUS_IO);
        log_destroy(&f.log);
        disk_sim_kill(f.disk);
        open_log(&f, 0);
        uint64_t delivered = f.last_seen;
        assert_true(delivered >= f.durable);
        disk_sim_crash(f.disk);
        log_destroy(&f.log);
        open_log(&f, 0);
        assert_int_equal(f.last_seen, delivered);
        tear_down(&f);
    }
}

/* -- Faults ----------------------------------------------------------------------------------- */

/* Open, write, roll over, recycle, reopen; stops at the first error. */
static enum status scenario(struct fixture *f)
{
    for (unsigned life = 0; life < 3; life++) {
        uint64_t after = f->durable > 5 ? f->durable - 5 : 0;
        if (!try_open(f, after))
            return f->error.status;
        for (unsigned i = 0; i < 14; i++) {
            append(f, 4, 0);
            enum status s = flush(f);
            bool more;
            if (s == STATUS_OK && i % 2 == 0)
                s = log_prepare(f->log, &more);
            if (s != STATUS_OK)
                return s;
            log_release(f->log, f->durable > 5 ? f->durable - 5 : 0);
        }
        log_destroy(&f->log);
    }
    return STATUS_OK;
}

typedef void arm_fn(struct disk_sim_faults *faults, uint32_t countdown);

/* The scenario again with the 1st, 2nd, ... call failing: an error each, nothing durable lost. */
static void fault_loop(arm_fn *arm, enum status expected, unsigned least)
{
    for (uint32_t nth = 1;; nth++) {
        struct fixture f = {
            .disk = disk_sim_new(nth),
            .options = {.segment_size = SEGMENT, .retention_size = SEGMENT, .node_tag = TAG},
        };
        arm(disk_sim_faults(f.disk), nth);
        enum status s = scenario(&f);
        *disk_sim_faults(f.disk) = (struct disk_sim_faults){0};
        log_destroy(&f.log);
        if (s == STATUS_OK && nth > least) {
            tear_down(&f);
            return;
        }
        if (s != STATUS_OK)
            assert_int_equal(s, expected);
        if (nth % 2 == 0)
            disk_sim_crash(f.disk);
        else
            disk_sim_kill(f.disk);
        open_log(&f, f.durable > 20 ? f.durable - 20 : 0);
        assert_true(log_next_lsn(f.log) > f.durable);
        write_groups(&f, 10, 4);
        tear_down(&f);
    }
}

static void arm_open(struct disk_sim_faults *faults, uint32_t n)
{
    faults->open_eio = n;
}

static void arm_read(struct disk_sim_faults *faults, uint32_t n)
{
    faults->read_eio = n;
}

static void arm_write(struct disk_sim_faults *faults, uint32_t n)
{
    faults->write_eio = n;
}

static void arm_names(struct disk_sim_faults *faults, uint32_t n)
{
    faults->name_eio = n;
}

static void arm_directory(struct disk_sim_faults *faults, uint32_t n)
{
    faults->directory_sync_eio = n;
}

static void arm_any(struct disk_sim_faults *faults, uint32_t n)
{
    faults->any_eio = n;
}

static void arm_full(struct disk_sim_faults *faults, uint32_t n)
{
    faults->write_full = n;
}

static void test_log__every_failing_call_is_told_and_loses_nothing(void **state)
{
    (void)state;
    fault_loop(arm_open, STATUS_IO, 5);
    fault_loop(arm_read, STATUS_IO, 5);
    fault_loop(arm_write, STATUS_IO, 40);
    fault_loop(arm_names, STATUS_IO, 10);
    fault_loop(arm_directory, STATUS_IO, 8);
    fault_loop(arm_any, STATUS_IO, 100);
    fault_loop(arm_full, STATUS_FULL, 40);
}

static void test_log__a_full_disk_pauses_preparation_but_not_the_log(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    struct disk_sim_faults *faults = disk_sim_faults(f.disk);
    faults->size_max = SEGMENT + SEGMENT / 2;
    bool more = true;
    while (more)
        assert_int_equal(log_prepare(f.log, &more), STATUS_OK);
    assert_int_equal(list_names(&f).others, 0);
    write_groups(&f, 2, 2); /* the open segment has its room */
    assert_int_equal(log_prepare(f.log, &more), STATUS_OK);
    assert_false(more);
    faults->size_max = 10 * SEGMENT;
    assert_int_equal(log_space_check(f.log), STATUS_OK);
    for (more = true; more;)
        assert_int_equal(log_prepare(f.log, &more), STATUS_OK);
    assert_true(list_names(&f).spare);
    tear_down(&f);
}

static void test_log__no_room_for_the_next_segment_is_an_error(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    disk_sim_faults(f.disk)->size_max = SEGMENT + SEGMENT / 2;
    enum status s = STATUS_OK;
    while (s == STATUS_OK) {
        append(&f, 3, 0);
        s = flush(&f);
    }
    assert_int_equal(s, STATUS_FULL);
    log_destroy(&f.log);
    /* Even recovery wants room, for the rewritten segment. */
    assert_false(try_open(&f, 0));
    assert_int_equal(f.error.status, STATUS_FULL);
    disk_sim_faults(f.disk)->size_max = 0;
    open_log(&f, 0);
    assert_int_equal(f.last_seen, f.durable);
    tear_down(&f);
}

static void test_log__space_is_low_below_five_percent_and_512_mib(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    struct disk_sim_faults *faults = disk_sim_faults(f.disk);
    assert_int_equal(log_space_check(f.log), STATUS_OK);
    assert_false(log_space_low(f.log));
    faults->size_max = SEGMENT + SEGMENT / 25; /* under 5 % free */
    assert_int_equal(log_space_check(f.log), STATUS_OK);
    assert_true(log_space_low(f.log));
    faults->size_max = SEGMENT + SEGMENT / 10;
    assert_int_equal(log_space_check(f.log), STATUS_OK);
    assert_false(log_space_low(f.log));
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log__new_log_is_empty),
        cmocka_unit_test(test_log__records_come_back_in_order),
        cmocka_unit_test(test_log__one_group_is_under_way_at_a_time),
        cmocka_unit_test(test_log__large_gathering_makes_several_groups),
        cmocka_unit_test(test_log__unwritten_records_are_gone),
        cmocka_unit_test(test_log__beyond_the_ceiling_nothing_is_added),
        cmocka_unit_test(test_log__progress_ends_at_the_total),
        cmocka_unit_test(test_log__the_callers_refusal_ends_recovery),
        cmocka_unit_test(test_log__rolls_over_segments_and_recovers_from_any_lsn),
        cmocka_unit_test(test_log__goes_on_after_every_reopen),
        cmocka_unit_test(test_log__record_larger_than_a_segment_gets_a_larger_segment),
        cmocka_unit_test(test_log__released_segments_are_recycled),
        cmocka_unit_test(test_log__unreleased_segments_are_never_recycled),
        cmocka_unit_test(test_log__retention_keeps_released_segments),
        cmocka_unit_test(test_log__a_too_late_position_names_what_is_missing),
        cmocka_unit_test(test_log__empty_directory_below_the_checkpoint_is_refused),
        cmocka_unit_test(test_log__replay_size_falls_with_the_release),
        cmocka_unit_test(test_log__preparation_makes_the_next_segment_in_steps),
        cmocka_unit_test(test_log__the_last_segment_is_rewritten_into_the_spare),
        cmocka_unit_test(test_log__preparation_drops_what_retention_no_longer_wants),
        cmocka_unit_test(test_log__footer_names_slots_and_positions),
        cmocka_unit_test(test_log__foreign_segments_are_refused),
        cmocka_unit_test(test_log__a_missing_segment_is_refused_and_nothing_removed),
        cmocka_unit_test(test_log__a_damaged_group_with_good_ones_behind_is_refused),
        cmocka_unit_test(test_log__a_damaged_last_group_is_a_torn_tail),
        cmocka_unit_test(test_log__damage_below_the_checkpoint_is_no_torn_tail),
        cmocka_unit_test(test_log__damage_in_a_sealed_segment_is_refused),
        cmocka_unit_test(test_log__a_damaged_header_is_refused),
        cmocka_unit_test(test_log__a_good_group_out_of_order_is_refused),
        cmocka_unit_test(test_log__no_flipped_bit_ever_shows_wrong_records),
        cmocka_unit_test(test_log__every_prefix_of_the_writes_recovers_what_was_durable),
        cmocka_unit_test(test_log__recycling_survives_a_crash_at_any_point),
        cmocka_unit_test(test_log__recovery_survives_a_crash_at_any_point),
        cmocka_unit_test(test_log__what_recovery_delivered_is_durable),
        cmocka_unit_test(test_log__every_failing_call_is_told_and_loses_nothing),
        cmocka_unit_test(test_log__a_full_disk_pauses_preparation_but_not_the_log),
        cmocka_unit_test(test_log__no_room_for_the_next_segment_is_an_error),
        cmocka_unit_test(test_log__space_is_low_below_five_percent_and_512_mib),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
