#include "storage/sync.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above. */
#include <cmocka.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "tests/lib/disk_sim.h"

#define SEGMENT 16384u

/* A disk whose writes wait while the gate is closed, in front of the virtual disk. */
struct gate {
    struct disk disk;
    struct disk *inner;
    struct disk_verbs verbs;
};

static pthread_mutex_t gate_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moved = PTHREAD_COND_INITIALIZER;
static bool gate_closed;
static unsigned gate_waiting;
static const struct disk_verbs *gate_inner;

static void gate_set(bool closed)
{
    pthread_mutex_lock(&gate_mutex);
    gate_closed = closed;
    pthread_cond_broadcast(&gate_moved);
    pthread_mutex_unlock(&gate_mutex);
}

static void gate_wait_for_writer(void)
{
    pthread_mutex_lock(&gate_mutex);
    while (gate_waiting == 0)
        pthread_cond_wait(&gate_moved, &gate_mutex);
    pthread_mutex_unlock(&gate_mutex);
}

static enum status gate_write(struct disk_file *f, uint64_t offset, struct bytes data)
{
    pthread_mutex_lock(&gate_mutex);
    gate_waiting++;
    pthread_cond_broadcast(&gate_moved);
    while (gate_closed)
        pthread_cond_wait(&gate_moved, &gate_mutex);
    gate_waiting--;
    pthread_mutex_unlock(&gate_mutex);
    return gate_inner->write(f, offset, data);
}

static struct disk *inner(struct disk *d)
{
    return ((struct gate *)d)->inner;
}

static enum status gate_open(struct disk *d, const char *name, unsigned flags,
                             struct disk_file **ret, struct error *reterr)
{
    return gate_inner->open(inner(d), name, flags, ret, reterr);
}

static enum status gate_rename(struct disk *d, const char *from, const char *to)
{
    return gate_inner->rename(inner(d), from, to);
}

static enum status gate_remove(struct disk *d, const char *name)
{
    return gate_inner->remove(inner(d), name);
}

static enum status gate_make_directory(struct disk *d, const char *name)
{
    return gate_inner->make_directory(inner(d), name);
}

static enum status gate_sync_directory(struct disk *d, const char *name)
{
    return gate_inner->sync_directory(inner(d), name);
}

static enum status gate_list(struct disk *d, const char *directory, disk_name_fn *fn, void *arg)
{
    return gate_inner->list(inner(d), directory, fn, arg);
}

static void gate_init(struct gate *g)
{
    g->inner = disk_sim_new(3);
    gate_inner = g->inner->verbs;
    gate_closed = false;
    g->verbs = *gate_inner;
    g->verbs.open = gate_open;
    g->verbs.write = gate_write;
    g->verbs.rename = gate_rename;
    g->verbs.remove = gate_remove;
    g->verbs.make_directory = gate_make_directory;
    g->verbs.sync_directory = gate_sync_directory;
    g->verbs.list = gate_list;
    g->disk.verbs = &g->verbs;
}

struct fixture {
    struct gate gate;
    struct disk *disk;
    struct log *log;
    struct sync *sync;
    int fd;
};

static const struct log_options options = {
    .segment_size = SEGMENT,
    .retention_size = 0,
    .node_tag = 5,
};

static void start(struct fixture *f, uint64_t after)
{
    struct error error;
    f->log = log_open(f->disk, &options, after, NULL, NULL, NULL, &error);
    if (f->log == NULL)
        fail_msg("%s", error.message);
    f->fd = eventfd(0, EFD_NONBLOCK);
    f->sync = sync_new(f->log, f->fd);
    assert_non_null(f->sync);
}

static void stop(struct fixture *f)
{
    sync_destroy(&f->sync);
    assert_null(f->sync);
    log_destroy(&f->log);
    close(f->fd);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    gate_init(&f->gate);
    f->disk = &f->gate.disk;
    start(f, 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gate_set(false);
    stop(f);
    f->gate.inner->verbs->destroy(&f->gate.inner);
    free(f);
    return 0;
}

static void append(struct log *l, uint32_t count)
{
    struct buffer out;
    buffer_init(&out, 1u << 20);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(record_append(&out, RECORD_COMMIT, 1, bytes_text("12345678")), STATUS_OK);
    assert_int_equal(log_append(l, log_next_lsn(l), count, buffer_view(&out)), STATUS_OK);
    buffer_fini(&out);
}

static void submit(struct fixture *f)
{
    struct log_group *g = log_group_take(f->log);
    assert_non_null(g);
    sync_submit(f->sync, g);
}

static void wait_event(const struct fixture *f)
{
    struct pollfd p = {.fd = f->fd, .events = POLLIN};
    uint64_t count;
    assert_int_equal(poll(&p, 1, 60000), 1);
    assert_int_equal(read(f->fd, &count, sizeof count), sizeof count);
}

static enum status finish(struct fixture *f)
{
    struct log_group *g = NULL;
    wait_event(f);
    enum status s = sync_ended(f->sync, &g);
    if (s == STATUS_OK)
        log_group_done(f->log, g);
    return s;
}

static void test_sync__a_group_becomes_durable_and_the_descriptor_readable(void **state)
{
    struct fixture *f = *state;
    struct log_group *g = NULL;
    assert_int_equal(sync_ended(f->sync, &g), STATUS_NOTFOUND);
    append(f->log, 3);
    submit(f);
    assert_int_equal(finish(f), STATUS_OK);
    assert_int_equal(log_durable_lsn(f->log), 3);
    assert_int_equal(sync_ended(f->sync, &g), STATUS_NOTFOUND);
}

static void test_sync__tells_since_when_the_disk_is_busy(void **state)
{
    struct fixture *f = *state;
    struct log_group *g = NULL;
    assert_int_equal(sync_busy_since_ms(f->sync), 0);
    gate_set(true);
    append(f->log, 1);
    uint64_t before = clock_now_ms();
    submit(f);
    gate_wait_for_writer();
    uint64_t since = sync_busy_since_ms(f->sync);
    assert_true(since >= before && since <= clock_now_ms());
    assert_int_equal(sync_ended(f->sync, &g), STATUS_NOTFOUND);
    /* Meanwhile the loop gathers the next group. */
    append(f->log, 5);
    assert_null(log_group_take(f->log));
    gate_set(false);
    assert_int_equal(finish(f), STATUS_OK);
    assert_int_equal(sync_busy_since_ms(f->sync), 0);
    submit(f);
    assert_int_equal(finish(f), STATUS_OK);
    assert_int_equal(log_durable_lsn(f->log), 6);
}

static void test_sync__many_groups_while_the_loop_goes_on(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 2000; i++) {
        append(f->log, 1 + i % 4);
        submit(f);
        append(f->log, 1); /* while the disk works */
        assert_int_equal(finish(f), STATUS_OK);
        log_release(f->log, log_durable_lsn(f->log));
        if (i % 16 == 0) {
            uint64_t segments, bytes;
            log_count(f->log, &segments, &bytes);
            assert_true(log_replay_size(f->log) < bytes);
        }
    }
    uint64_t durable = log_durable_lsn(f->log);
    stop(f);
    start(f, durable);
    assert_true(log_next_lsn(f->log) == durable + 1);
}

static void note_spare(void *arg, const char *name)
{
    *(bool *)arg |= strcmp(name, "spare.seg") == 0;
}

static void test_sync__prepares_the_next_segment_when_idle(void **state)
{
    struct fixture *f = *state;
    bool spare = false;
    /* How far the thread gets before it is told to stop is chance; it goes on the next time. */
    for (unsigned i = 0; i < 10000 && !spare; i++) {
        usleep(100);
        sync_destroy(&f->sync);
        assert_int_equal(f->disk->verbs->list(f->disk, "log", note_spare, &spare), STATUS_OK);
        f->sync = sync_new(f->log, f->fd);
        assert_non_null(f->sync);
    }
    assert_true(spare);
}

static void test_sync__an_error_is_told_and_stays(void **state)
{
    struct fixture *f = *state;
    struct log_group *g = NULL;
    gate_set(true);
    append(f->log, 1);
    submit(f);
    gate_wait_for_writer();
    disk_sim_faults(f->gate.inner)->write_eio = 1;
    gate_set(false);
    assert_int_equal(finish(f), STATUS_IO);
    assert_int_equal(sync_ended(f->sync, &g), STATUS_IO);
    assert_null(g);
    assert_int_equal(log_durable_lsn(f->log), 0);
    assert_int_equal(sync_busy_since_ms(f->sync), 0);
}

static void test_sync__destroy_finishes_the_group_under_way(void **state)
{
    struct fixture *f = *state;
    append(f->log, 4);
    submit(f);
    stop(f);
    start(f, 0);
    assert_int_equal(log_next_lsn(f->log), 5);
}

static void remove_log(const char *path)
{
    char child[512];
    snprintf(child, sizeof child, "%s/log", path);
    DIR *d = opendir(child);
    struct dirent *entry;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        snprintf(child, sizeof child, "%s/log/%s", path, entry->d_name);
        unlink(child);
    }
    if (d != NULL)
        closedir(d);
    snprintf(child, sizeof child, "%s/log", path);
    rmdir(child);
    rmdir(path);
}

static void test_sync__real_files_come_back(void **state)
{
    (void)state;
    char path[] = "/tmp/duet-sync-XXXXXX";
    assert_non_null(mkdtemp(path));
    struct fixture f = {.disk = disk_posix_new(path, NULL)};
    assert_non_null(f.disk);
    start(&f, 0);
    for (unsigned i = 0; i < 200; i++) {
        append(f.log, 7);
        submit(&f);
        assert_int_equal(finish(&f), STATUS_OK);
        log_release(f.log, i * 5);
    }
    stop(&f);
    f.log = log_open(f.disk, &options, 1000, NULL, NULL, NULL, NULL);
    assert_non_null(f.log);
    assert_int_equal(log_next_lsn(f.log), 1401);
    log_destroy(&f.log);
    f.disk->verbs->destroy(&f.disk);
    remove_log(path);
}

/* The child: write groups for ever and tell what is durable. */
static void write_until_killed(const char *path, int tell)
{
    struct fixture f = {.disk = disk_posix_new(path, NULL)};
    struct log_group *g = NULL;
    uint64_t count;
    f.log = log_open(f.disk, &options, 0, NULL, NULL, NULL, NULL);
    f.fd = eventfd(0, 0);
    f.sync = f.log == NULL ? NULL : sync_new(f.log, f.fd);
    while (f.sync != NULL) {
        append(f.log, 9);
        sync_submit(f.sync, log_group_take(f.log));
        if (read(f.fd, &count, sizeof count) != sizeof count || sync_ended(f.sync, &g) != STATUS_OK)
            break;
        log_group_done(f.log, g);
        uint64_t durable = log_durable_lsn(f.log);
        if (write(tell, &durable, sizeof durable) != sizeof durable)
            break;
    }
    _exit(1);
}

static void test_sync__a_killed_process_loses_nothing_that_it_called_durable(void **state)
{
    (void)state;
    char path[] = "/tmp/duet-sync-XXXXXX";
    assert_non_null(mkdtemp(path));
    uint64_t durable = 0;
    for (unsigned round = 0; round < 15; round++) {
        int tell[2];
        uint64_t told;
        assert_int_equal(pipe(tell), 0);
        pid_t pid = fork();
        if (pid == 0)
            write_until_killed(path, tell[1]);
        close(tell[1]);
        assert_int_equal(read(tell[0], &durable, sizeof durable), sizeof durable);
        usleep(round * 997 % 9000);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        while (read(tell[0], &told, sizeof told) == sizeof told)
            durable = told;
        close(tell[0]);
        struct disk *disk = disk_posix_new(path, NULL);
        struct error error;
        struct log *log = log_open(disk, &options, 0, NULL, NULL, NULL, &error);
        if (log == NULL)
            fail_msg("%s", error.message);
        assert_true(log_next_lsn(log) > durable);
        log_destroy(&log);
        disk->verbs->destroy(&disk);
    }
    remove_log(path);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_sync__a_group_becomes_durable_and_the_descriptor_readable),
        CASE(test_sync__tells_since_when_the_disk_is_busy),
        CASE(test_sync__many_groups_while_the_loop_goes_on),
        CASE(test_sync__prepares_the_next_segment_when_idle),
        CASE(test_sync__an_error_is_told_and_stays),
        CASE(test_sync__destroy_finishes_the_group_under_way),
        cmocka_unit_test(test_sync__real_files_come_back),
        cmocka_unit_test(test_sync__a_killed_process_loses_nothing_that_it_called_durable),
    };
    return cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
