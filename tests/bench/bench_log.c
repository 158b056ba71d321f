/* Bench: durable groups through log and sync thread, beside a bare loop of aligned writes
 * (O_DIRECT | O_DSYNC) of the same sizes into a zero-written file on the same file system.
 *
 *   bench_log [DIRECTORY [GROUPS]]     default: a new folder in /tmp, 2000 groups of each size
 *
 * Both take turns in blocks of 100 groups, so that a slow minute of the disk hits both.
 */
#define _GNU_SOURCE /* O_DIRECT */

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "proto/base/histogram.h"
#include "storage/segment.h"
#include "storage/sync.h"

#define RECORD_BODY 100u
#define BLOCK       100u
#define BARE_SIZE   (64u << 20)

struct bench {
    char path[256];
    struct disk *disk;
    struct log *log;
    struct sync *sync;
    int event_fd;
    int bare_fd;
    uint64_t bare_offset;
    uint8_t *bare_memory; /* one write, aligned */
    struct buffer records;
    uint64_t append_ns, appended; /* CPU of log_append() */
};

static uint64_t thread_cpu_ns(void)
{
    struct timespec now;
    ENSURE(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void open_bare(struct bench *b)
{
    char name[300];
    snprintf(name, sizeof name, "%s/bare", b->path);
    b->bare_fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_DSYNC, 0600);
    if (b->bare_fd < 0) /* the log falls back in the same way */
        b->bare_fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_DSYNC, 0600);
    ENSURE(b->bare_fd >= 0);
    size_t size = 1u << 20;
    b->bare_memory = aligned_alloc(4096, size);
    ENSURE(b->bare_memory != NULL);
    memset(b->bare_memory, 0, size);
    for (uint64_t at = 0; at < BARE_SIZE; at += size)
        ENSURE(pwrite(b->bare_fd, b->bare_memory, size, (off_t)at) == (ssize_t)size);
}

static void set_up(struct bench *b, const char *path)
{
    struct error error;
    snprintf(b->path, sizeof b->path, "%s/bench-log-XXXXXX", path);
    ENSURE(mkdtemp(b->path) != NULL);
    b->disk = disk_posix_new(b->path, &error);
    ENSURE(b->disk != NULL);
    struct log_options options = {.segment_size = LOG_SEGMENT_SIZE_DEFAULT, .node_tag = 1};
    b->log = log_open(b->disk, &options, 0, NULL, NULL, NULL, &error);
    ENSURE(b->log != NULL);
    /* Steady state: the next segment is there, later ones are recycled. */
    bool more = true;
    while (more)
        ENSURE(log_prepare(b->log, &more) == STATUS_OK);
    b->event_fd = eventfd(0, 0);
    b->sync = sync_new(b->log, b->event_fd);
    ENSURE(b->sync != NULL);
    buffer_init(&b->records, 1u << 20);
    open_bare(b);
}

static void remove_folder(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *entry;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        char child[600];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        if (unlink(child) != 0)
            remove_folder(child);
    }
    if (d != NULL)
        closedir(d);
    rmdir(path);
}

static void tear_down(struct bench *b)
{
    sync_destroy(&b->sync);
    log_destroy(&b->log);
    b->disk->verbs->destroy(&b->disk);
    buffer_fini(&b->records);
    close(b->event_fd);
    close(b->bare_fd);
    free(b->bare_memory);
    remove_folder(b->path);
}

static void make_records(struct bench *b, uint32_t count)
{
    uint8_t body[RECORD_BODY];
    buffer_clear(&b->records);
    for (uint32_t i = 0; i < count; i++) {
        memset(body, (int)i, sizeof body);
        ENSURE(record_append(&b->records, RECORD_ENTRY, 1 + i % 100, bytes_of(body, sizeof body)) ==
               STATUS_OK);
    }
}

/* One group from append to durable, as the loop does it. */
static void log_one(struct bench *b, uint32_t count, struct histogram *h)
{
    uint64_t cpu = thread_cpu_ns(), begin = clock_now_ns(), ended;
    ENSURE(log_append(b->log, log_next_lsn(b->log), count, buffer_view(&b->records)) == STATUS_OK);
    struct log_group *g = log_group_take(b->log);
    b->append_ns += thread_cpu_ns() - cpu;
    b->appended += count;
    sync_submit(b->sync, g);
    ENSURE(read(b->event_fd, &ended, sizeof ended) == sizeof ended);
    ENSURE(sync_ended(b->sync, &g) == STATUS_OK);
    log_group_done(b->log, g);
    histogram_add(h, clock_now_ns() - begin);
    log_release(b->log, log_durable_lsn(b->log));
}

static void bare_one(struct bench *b, size_t size, struct histogram *h)
{
    uint64_t begin = clock_now_ns();
    if (b->bare_offset + size > BARE_SIZE)
        b->bare_offset = 0;
    ENSURE(pwrite(b->bare_fd, b->bare_memory, size, (off_t)b->bare_offset) == (ssize_t)size);
    b->bare_offset += size;
    histogram_add(h, clock_now_ns() - begin);
}

static double us(uint64_t ns)
{
    return (double)ns / 1000.0;
}

static void run(struct bench *b, uint32_t count, unsigned groups)
{
    static struct histogram through_log, bare;
    histogram_init(&through_log);
    histogram_init(&bare);
    make_records(b, count);
    size_t size = segment_align(SEGMENT_GROUP_HEADER_SIZE + b->records.size);
    b->append_ns = b->appended = 0;
    for (unsigned done = 0; done < groups; done += BLOCK) {
        for (unsigned i = 0; i < BLOCK; i++)
            log_one(b, count, &through_log);
        for (unsigned i = 0; i < BLOCK; i++)
            bare_one(b, size, &bare);
    }
    uint64_t log_ns = histogram_quantile(&through_log, 5000);
    uint64_t bare_ns = histogram_quantile(&bare, 5000);
    printf("%4u records, %6zu bytes: log median %7.1f us  p99 %7.1f us   bare median %7.1f us  "
           "p99 %7.1f us   bare/log %3.0f %%   append %4.0f ns CPU a record   %8.0f records/s\n",
           count, size, us(log_ns), us(histogram_quantile(&through_log, 9900)), us(bare_ns),
           us(histogram_quantile(&bare, 9900)), 100.0 * (double)bare_ns / (double)log_ns,
           (double)b->append_ns / (double)b->appended,
           1e9 * (double)count * (double)through_log.count / (double)through_log.sum);
}

static enum status count_record(void *arg, uint64_t lsn, const struct record_view *record)
{
    (void)lsn;
    (void)record;
    ++*(uint64_t *)arg;
    return STATUS_OK;
}

/* A million records that no checkpoint has seen: how long does the next start take? */
static void run_recovery(struct bench *b)
{
    struct log_options options = {.segment_size = LOG_SEGMENT_SIZE_DEFAULT, .node_tag = 1};
    uint64_t records = 0;
    make_records(b, 1000);
    sync_destroy(&b->sync);
    uint64_t after = log_durable_lsn(b->log);
    for (unsigned i = 0; i < 1000; i++)
        ENSURE(log_append(b->log, log_next_lsn(b->log), 1000, buffer_view(&b->records)) ==
               STATUS_OK);
    struct log_group *g;
    while ((g = log_group_take(b->log)) != NULL) {
        ENSURE(log_group_write(b->log, g) == STATUS_OK);
        log_group_done(b->log, g);
    }
    log_destroy(&b->log);
    uint64_t begin = clock_now_ns(), cpu = thread_cpu_ns();
    b->log = log_open(b->disk, &options, after, count_record, NULL, &records, NULL);
    double seconds = (double)(clock_now_ns() - begin) / 1e9;
    cpu = thread_cpu_ns() - cpu;
    ENSURE(b->log != NULL && records == 1000000);
    printf("recovery: %.0f records in %.2f s (with the rewrite of the last segment), %.0f ns CPU a "
           "record\n",
           (double)records, seconds, (double)cpu / (double)records);
}

int main(int argc, char **argv)
{
    static struct bench b;
    unsigned groups = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 2000;
    set_up(&b, argc > 1 ? argv[1] : "/tmp");
    run(&b, 1, groups);
    run(&b, 64, groups);
    run(&b, 256, groups);
    run_recovery(&b);
    tear_down(&b);
    return 0;
}
