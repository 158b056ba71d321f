/* Whatever call of disk or table fails, at whichever place of a node's life: it is told, nothing that
 * was durable is lost, and the next start is right. Each life is a script; it is led again and again
 * with the 1st, 2nd, ... call of one sort failing, until none fails any more. With the virtual disk
 * the power fails behind every other one. disk_posix.c is led through the same scripts with its system
 * calls failing (this test is linked with --wrap). */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants some of the above. */
#include <cmocka.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "storage/checkpoint.h"
#include "storage/identity.h"
#include "storage/log.h"
#include "storage/store.h"
#include "tests/lib/disk_sim.h"
#include "tests/lib/table_mem.h"

#define SEGMENT 8192u
#define TAG     0x51u
#define KEYS    23u

/* A script's letters. Each begins with a start. */
static const struct script {
    const char *name, *steps;
} scripts[] = {
    {"start", ""},
    {"write", "ww"},
    {"write much", "wwwwwwwwwwwwwwww"},
    {"a large record", "wLw"},
    {"prepare", "wpwppp"},
    {"checkpoint", "wwwcw"},
    {"checkpoint twice", "wwcwwwcw"},
    {"recycle", "wwwwwwwwwwcpwwwwwwwwwwcpwww"},
    {"restart", "wwkw"},
    {"restart after a checkpoint", "wwwcwwkwwckw"},
    {"restart with much to replay", "wwwwwwwwwwwwkpw"},
    {"space", "wswps"},
};
#define SCRIPTS (sizeof scripts / sizeof scripts[0])

/* What outlives a process is disk and table; the rest is the process. */
struct life {
    struct disk *disk;
    struct table *table;
    struct store *store;
    struct log *log;
    uint64_t incarnation; /* the highest that a start was given */
    uint64_t durable;     /* the highest lsn that was */
    uint64_t position;    /* of the last start */
    uint64_t applied;
    struct error error;
};

/* ---- Records, whose content and key follow from their lsn ---- */

static size_t size_of(uint64_t lsn)
{
    return 40 + lsn * 2654435761u % 300;
}

static enum status apply(struct life *l, uint64_t lsn)
{
    char key[16];
    uint8_t value[8];
    int size = snprintf(key, sizeof key, "k%u", (unsigned)(lsn % KEYS));
    bytes_put_le64(value, lsn * 77);
    struct item item = {.present = lsn % 11 != 0,
                        .version = {1, lsn},
                        .value = bytes_of(value, sizeof value)};
    l->applied = lsn;
    return store_apply(l->store, 1, lsn % KEYS, bytes_of(key, (size_t)size), &item);
}

/* What the store has is what the records up to `applied` say. */
static void assert_content(struct life *l)
{
    for (uint64_t k = 0; k < KEYS; k++) {
        char key[16];
        struct item item;
        int size = snprintf(key, sizeof key, "k%u", (unsigned)k);
        uint64_t lsn = l->applied;
        while (lsn > 0 && lsn % KEYS != k)
            lsn--;
        assert_int_equal(
            store_get_now(l->store, 1, k, bytes_of(key, (size_t)size), &item), STATUS_OK);
        assert_int_equal(item.present, lsn != 0 && lsn % 11 != 0);
        if (item.present)
            assert_true(item.version.seq == lsn && bytes_le64(item.value.data) == lsn * 77);
    }
    store_turn_end(l->store);
}

/* ---- A process ---- */

static enum status on_state(void *arg, uint32_t slot, struct bytes blob)
{
    struct life *l = arg;
    assert_true(slot == 1 && blob.size == 8 && bytes_le64(blob.data) == l->position);
    return STATUS_OK;
}

static enum status on_record(void *arg, uint64_t lsn, const struct record_view *record)
{
    struct life *l = arg;
    assert_true(record->body.size >= size_of(lsn) && bytes_le64(record->body.data + 24) == lsn);
    assert_true(lsn == l->applied + 1 || lsn <= l->position);
    return lsn <= l->position ? STATUS_OK : apply(l, lsn);
}

static enum status start(struct life *l)
{
    struct id128 cluster = {{1}}, node = {{2}};
    struct identity id;
    struct log_options options = {
        .segment_size = SEGMENT, .retention_size = SEGMENT, .node_tag = TAG};
    l->error = (struct error){0};
    enum status s = l->disk->verbs->lock(l->disk, &l->error);
    if (s == STATUS_OK)
        s = identity_boot(l->disk, cluster, node, 0, 9, &id, &l->error);
    if (s != STATUS_OK)
        return s;
    assert_true(id.incarnation > l->incarnation);
    l->incarnation = id.incarnation;
    s = checkpoint_position(l->table, &l->position);
    if (s == STATUS_OK)
        s = checkpoint_states(l->table, on_state, l);
    if (s != STATUS_OK)
        return error_set(&l->error, s, "the table fails");
    l->applied = l->position;
    l->store = store_new(
        &(struct store_options){.overlay_bytes_max = 1u << 30, .inline_reads = true}, l->table);
    l->log = log_open(l->disk, &options, l->position, on_record, NULL, l, &l->error);
    return l->log == NULL ? l->error.status : STATUS_OK;
}

static void end(struct life *l)
{
    log_destroy(&l->log);
    store_destroy(&l->store);
}

static enum status flush(struct life *l)
{
    struct log_group *g;
    while ((g = log_group_take(l->log)) != NULL) {
        enum status s = log_group_write(l->log, g);
        if (s != STATUS_OK)
            return s;
        log_group_done(l->log, g);
        l->durable = log_durable_lsn(l->log);
    }
    while (l->applied < l->durable)
        assert_int_equal(apply(l, l->applied + 1), STATUS_OK);
    return STATUS_OK;
}

static enum status write_records(struct life *l, uint32_t count, size_t more)
{
    static uint8_t body[4 * SEGMENT];
    struct buffer out;
    buffer_init(&out, 1u << 22);
    uint64_t first = log_next_lsn(l->log);
    for (uint64_t lsn = first; lsn < first + count; lsn++) {
        bytes_put_le64(body + 8, 1);
        bytes_put_le64(body + 16, lsn);
        bytes_put_le64(body + 24, lsn);
        struct bytes record = bytes_of(body, size_of(lsn) + more);
        assert_int_equal(record_append(&out, RECORD_ENTRY, 1, record), STATUS_OK);
    }
    assert_int_equal(log_append(l->log, first, count, buffer_view(&out)), STATUS_OK);
    buffer_fini(&out);
    return flush(l);
}

static enum status checkpoint(struct life *l)
{
    uint8_t blob[8];
    bytes_put_le64(blob, l->applied);
    struct checkpoint_state state = {1, bytes_of(blob, sizeof blob)};
    struct checkpoint c = {.frozen = store_freeze(l->store),
                           .lsn = l->applied,
                           .states = &state,
                           .states_count = 1,
                           .chunk = 5};
    enum status s = checkpoint_run(l->table, &c, NULL, NULL);
    if (s != STATUS_OK)
        return s;
    store_thaw(l->store);
    log_release(l->log, c.lsn);
    return STATUS_OK;
}

static enum status step(struct life *l, char letter)
{
    bool more;
    switch (letter) {
    case 'w':
        return write_records(l, 4, 0);
    case 'L':
        return write_records(l, 1, 2 * SEGMENT);
    case 'p':
        return log_prepare(l->log, &more);
    case 'c':
        return checkpoint(l);
    case 's':
        return log_space_check(l->log);
    default:
        assert_int_equal(letter, 'k');
        return STATUS_ABORTED; /* the caller restarts it */
    }
}

/* ---- Where it lives, and what fails there ---- */

struct medium {
    void (*make)(struct life *l, uint64_t seed);
    void (*die)(struct life *l, bool power);
    void (*arm)(struct life *l, unsigned trouble, uint32_t nth);
    bool (*disarm)(struct life *l); /* true: a call has failed */
    void (*destroy)(struct life *l);
};

struct trouble {
    const char *name;
    enum status expected;
    bool harmless; /* it may be passed over in silence: a segment is prepared later, then */
};

/* Leads the script. *ret_starting: what failed was a start, which is to leave words. */
static enum status lead(const struct medium *m, struct life *l, const char *steps,
                        bool *ret_starting)
{
    *ret_starting = true;
    enum status s = start(l);
    for (; s == STATUS_OK && *steps != 0; steps++) {
        *ret_starting = *steps == 'k';
        if (*steps == 'k') {
            end(l);
            m->die(l, false);
            s = start(l);
        } else {
            s = step(l, *steps);
        }
    }
    return s;
}

/* A clean start has all that was durable, goes on, and is found again. */
static void assert_right_after(const struct medium *m, struct life *l)
{
    for (unsigned lives = 0; lives < 2; lives++) {
        enum status s = start(l);
        if (s != STATUS_OK)
            fail_msg("the next start: %s: %s", status_name(s), l->error.message);
        assert_true(l->applied >= l->durable);
        assert_content(l);
        assert_int_equal(write_records(l, 3, 0), STATUS_OK);
        assert_content(l);
        end(l);
        m->die(l, true);
    }
}

/* How many calls of the script failed. */
static uint32_t scenario(const struct medium *m, const struct script *script,
                         const struct trouble *trouble, unsigned number)
{
    for (uint32_t nth = 1;; nth++) {
        struct life l = {0};
        bool starting;
        m->make(&l, nth);
        m->arm(&l, number, nth);
        enum status s = lead(m, &l, script->steps, &starting);
        bool failed = m->disarm(&l);
        if (s != (failed ? trouble->expected : STATUS_OK) &&
            !(s == STATUS_OK && trouble->harmless))
            fail_msg("%s, call %u (%s) %s: %s", script->name, nth, trouble->name,
                     failed ? "failed" : "did not fail", status_name(s));
        if (s != STATUS_OK && starting)
            assert_true(l.error.status == s && l.error.message[0] != 0);
        end(&l);
        m->die(&l, nth % 2 == 0);
        assert_right_after(m, &l);
        m->destroy(&l);
        if (!failed)
            return nth - 1;
    }
}

static unsigned all_scenarios(const struct medium *m, const struct trouble *troubles, unsigned count)
{
    unsigned reached = 0;
    uint32_t calls = 0;
    for (unsigned t = 0; t < count; t++)
        for (unsigned i = 0; i < SCRIPTS; i++) {
            uint32_t failed = scenario(m, &scripts[i], &troubles[t], t);
            reached += failed > 0;
            calls += failed;
        }
    print_message("%u scenarios in which a call failed, %u calls\n", reached, calls);
    return reached;
}

/* ---- The virtual disk, and the table ---- */

enum virtual_trouble {
    OPEN, SIZE, READ, WRITE, WRITE_FULL, SYNC, NAME, DIRECTORY, TABLE_READ, TABLE_WRITE,
    TABLE_COMMIT, TABLE_COMMITTED, VIRTUAL_COUNT
};

static const struct trouble virtual_troubles[VIRTUAL_COUNT] = {
    [OPEN] = {"open", STATUS_IO},
    [SIZE] = {"size", STATUS_IO},
    [READ] = {"read", STATUS_IO},
    [WRITE] = {"write", STATUS_IO},
    [WRITE_FULL] = {"write, no space", STATUS_FULL, true},
    [SYNC] = {"sync", STATUS_IO},
    [NAME] = {"rename, remove, make a folder", STATUS_IO},
    [DIRECTORY] = {"sync of a folder", STATUS_IO},
    [TABLE_READ] = {"the table's read", STATUS_IO},
    [TABLE_WRITE] = {"the table's write", STATUS_FULL},
    [TABLE_COMMIT] = {"the table's commit", STATUS_IO},
    [TABLE_COMMITTED] = {"the table's commit, done all the same", STATUS_IO},
};

static void virtual_make(struct life *l, uint64_t seed)
{
    l->disk = disk_sim_new(seed);
    l->table = table_mem_new();
}

static void virtual_die(struct life *l, bool power)
{
    if (power)
        disk_sim_crash(l->disk);
    else
        disk_sim_kill(l->disk);
}

static void virtual_arm(struct life *l, unsigned trouble, uint32_t nth)
{
    struct disk_sim_faults *f = disk_sim_faults(l->disk);
    uint32_t *const counters[VIRTUAL_COUNT] = {
        [OPEN] = &f->open_eio,          [SIZE] = &f->size_eio,
        [READ] = &f->read_eio,          [WRITE] = &f->write_eio,
        [WRITE_FULL] = &f->write_full,  [SYNC] = &f->sync_eio,
        [NAME] = &f->name_eio,          [DIRECTORY] = &f->directory_sync_eio,
    };
    static const enum table_mem_fault faults[VIRTUAL_COUNT] = {
        [TABLE_READ] = TABLE_MEM_READ,     [TABLE_WRITE] = TABLE_MEM_WRITE,
        [TABLE_COMMIT] = TABLE_MEM_COMMIT, [TABLE_COMMITTED] = TABLE_MEM_COMMIT_DONE,
    };
    if (counters[trouble] != NULL)
        *counters[trouble] = nth;
    else
        table_mem_fail(l->table, faults[trouble], nth - 1, virtual_troubles[trouble].expected);
}

static bool virtual_disarm(struct life *l)
{
    struct disk_sim_faults *f = disk_sim_faults(l->disk);
    bool left = table_mem_failing(l->table) || f->open_eio != 0 || f->size_eio != 0 ||
                f->read_eio != 0 || f->write_eio != 0 || f->write_full != 0 || f->sync_eio != 0 ||
                f->name_eio != 0 || f->directory_sync_eio != 0;
    *f = (struct disk_sim_faults){0};
    table_mem_crash(l->table); /* a transaction that failed is over */
    return !left;
}

static void virtual_destroy(struct life *l)
{
    l->table->verbs->destroy(&l->table);
    l->disk->verbs->destroy(&l->disk);
}

static void test_failing_disk__whatever_fails_is_told_and_loses_nothing(void **state)
{
    (void)state;
    static const struct medium virtual = {virtual_make, virtual_die, virtual_arm, virtual_disarm,
                                          virtual_destroy};
    assert_true(all_scenarios(&virtual, virtual_troubles, VIRTUAL_COUNT) >= 90);
}

/* ---- Real files ---- */

enum real_trouble {
    R_OPEN, R_STAT, R_READ, R_WRITE, R_WRITE_FULL, R_WRITE_SHORT, R_SYNC, R_RENAME, R_REMOVE,
    R_FOLDER, R_SPACE, REAL_COUNT
};

static const struct trouble real_troubles[REAL_COUNT] = {
    [R_OPEN] = {"openat", STATUS_IO},
    [R_STAT] = {"fstat", STATUS_IO},
    [R_READ] = {"pread", STATUS_IO},
    [R_WRITE] = {"pwrite", STATUS_IO},
    [R_WRITE_FULL] = {"pwrite, no space", STATUS_FULL, true},
    [R_WRITE_SHORT] = {"pwrite, half of it and then no space", STATUS_FULL, true},
    [R_SYNC] = {"fdatasync", STATUS_IO},
    [R_RENAME] = {"renameat", STATUS_IO},
    [R_REMOVE] = {"unlinkat", STATUS_IO},
    [R_FOLDER] = {"fsync of a folder", STATUS_IO},
    [R_SPACE] = {"fstatvfs", STATUS_IO},
};

#define PID_SIZE_MAX 16

static unsigned real_trouble = REAL_COUNT;
static uint32_t real_left; /* 1: the next one fails */
static char real_path[64];

static bool fails(unsigned trouble)
{
    if (trouble != real_trouble || real_left == 0 || --real_left > 0)
        return false;
    errno = EIO;
    return true;
}

/* This file defines what the linker takes for the calls of disk_posix.c. */
int __real_openat(int directory, const char *name, int flags, ...);
int __real_fstat(int fd, struct stat *ret);
ssize_t __real_pread(int fd, void *to, size_t size, off_t offset);
ssize_t __real_pwrite(int fd, const void *from, size_t size, off_t offset);
int __real_fdatasync(int fd);
int __real_fsync(int fd);
int __real_renameat(int from_directory, const char *from, int to_directory, const char *to);
int __real_unlinkat(int directory, const char *name, int flags);
int __real_fstatvfs(int fd, struct statvfs *ret);
int __wrap_openat(int directory, const char *name, int flags, mode_t mode);
int __wrap_fstat(int fd, struct stat *ret);
ssize_t __wrap_pread(int fd, void *to, size_t size, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *from, size_t size, off_t offset);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __wrap_renameat(int from_directory, const char *from, int to_directory, const char *to);
int __wrap_unlinkat(int directory, const char *name, int flags);
int __wrap_fstatvfs(int fd, struct statvfs *ret);

int __wrap_openat(int directory, const char *name, int flags, mode_t mode)
{
    return fails(R_OPEN) ? -1 : __real_openat(directory, name, flags, mode);
}

int __wrap_fstat(int fd, struct stat *ret)
{
    return fails(R_STAT) ? -1 : __real_fstat(fd, ret);
}

ssize_t __wrap_pread(int fd, void *to, size_t size, off_t offset)
{
    return fails(R_READ) ? -1 : __real_pread(fd, to, size, offset);
}

ssize_t __wrap_pwrite(int fd, const void *from, size_t size, off_t offset)
{
    static bool half; /* the one before was cut */
    if (size < PID_SIZE_MAX) /* for people, in the lock's file: nobody minds */
        return __real_pwrite(fd, from, size, offset);
    if (half || fails(R_WRITE_FULL)) {
        half = false;
        errno = ENOSPC;
        return -1;
    }
    if (fails(R_WRITE))
        return -1;
    half = fails(R_WRITE_SHORT);
    /* O_DIRECT writes whole sectors, or nothing. */
    size_t cut = size / 2 / DISK_ALIGNMENT * DISK_ALIGNMENT;
    if (half && cut == 0)
        return __wrap_pwrite(fd, from, size, offset);
    return __real_pwrite(fd, from, half ? cut : size, offset);
}

int __wrap_fdatasync(int fd)
{
    return fails(R_SYNC) ? -1 : __real_fdatasync(fd);
}

int __wrap_fsync(int fd)
{
    return fails(R_FOLDER) ? -1 : __real_fsync(fd);
}

int __wrap_renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    return fails(R_RENAME) ? -1 : __real_renameat(from_directory, from, to_directory, to);
}

int __wrap_unlinkat(int directory, const char *name, int flags)
{
    return fails(R_REMOVE) ? -1 : __real_unlinkat(directory, name, flags);
}

int __wrap_fstatvfs(int fd, struct statvfs *ret)
{
    return fails(R_SPACE) ? -1 : __real_fstatvfs(fd, ret);
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char child[512];
        if (e->d_name[0] == '.')
            continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        if (unlink(child) != 0)
            remove_tree(child);
    }
    if (d != NULL)
        closedir(d);
    rmdir(path);
}

static void real_make(struct life *l, uint64_t seed)
{
    (void)seed;
    snprintf(real_path, sizeof real_path, "/dev/shm/duet-failing-XXXXXX");
    assert_non_null(mkdtemp(real_path));
    l->disk = disk_posix_new(real_path, NULL);
    l->table = table_mem_new();
    assert_non_null(l->disk);
}

/* No power fails here; the process ends, and another one opens the directory. */
static void real_die(struct life *l, bool power)
{
    (void)power;
    l->disk->verbs->destroy(&l->disk);
    l->disk = disk_posix_new(real_path, NULL);
    assert_non_null(l->disk);
}

static void real_arm(struct life *l, unsigned trouble, uint32_t nth)
{
    (void)l;
    real_trouble = trouble;
    real_left = nth;
}

static bool real_disarm(struct life *l)
{
    bool failed = real_left == 0;
    real_left = 0;
    table_mem_crash(l->table);
    return failed;
}

static void real_destroy(struct life *l)
{
    l->table->verbs->destroy(&l->table);
    l->disk->verbs->destroy(&l->disk);
    remove_tree(real_path);
}

static void test_failing_disk__whatever_system_call_fails_is_told_and_loses_nothing(void **state)
{
    (void)state;
    static const struct medium real = {real_make, real_die, real_arm, real_disarm, real_destroy};
    assert_true(all_scenarios(&real, real_troubles, REAL_COUNT) >= 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failing_disk__whatever_fails_is_told_and_loses_nothing),
        cmocka_unit_test(test_failing_disk__whatever_system_call_fails_is_told_and_loses_nothing),
    };
    return cmocka_run_group_tests_name("failing_disk", tests, NULL, NULL);
}
