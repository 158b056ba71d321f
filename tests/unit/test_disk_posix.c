#include "storage/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above. */
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <signal.h>

struct fixture {
    char path[64];
    struct disk *disk;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->path, sizeof f->path, "/tmp/duet-disk-XXXXXX");
    if (mkdtemp(f->path) == NULL)
        return -1;
    f->disk = disk_posix_new(f->path, NULL);
    *state = f;
    return f->disk == NULL ? -1 : 0;
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *entry;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        char child[512];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        if (unlink(child) != 0)
            remove_tree(child);
    }
    if (d != NULL)
        closedir(d);
    rmdir(path);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    f->disk->verbs->destroy(&f->disk);
    remove_tree(f->path);
    free(f);
    return 0;
}

static struct disk_file *open_file(struct fixture *f, const char *name, unsigned flags)
{
    struct disk_file *file = NULL;
    struct error error;
    if (f->disk->verbs->open(f->disk, name, flags, &file, &error) != STATUS_OK)
        fail_msg("%s", error.message);
    return file;
}

static void test_disk_posix__what_is_written_is_read(void **state)
{
    struct fixture *f = *state;
    const struct disk_verbs *v = f->disk->verbs;
    struct disk_file *file = open_file(f, "a", DISK_CREATE);
    uint8_t back[16];
    size_t got;
    uint64_t size;
    assert_int_equal(v->write(file, 5, bytes_text("hello")), STATUS_OK);
    assert_int_equal(v->sync(file), STATUS_OK);
    assert_int_equal(v->size(file, &size), STATUS_OK);
    assert_int_equal(size, 10);
    assert_int_equal(v->read(file, 5, back, sizeof back, &got), STATUS_OK);
    assert_int_equal(got, 5);
    assert_memory_equal(back, "hello", 5);
    assert_int_equal(v->read(file, 50, back, sizeof back, &got), STATUS_OK);
    assert_int_equal(got, 0);
    v->close(&file);
    assert_null(file);
}

static void test_disk_posix__direct_files_take_aligned_writes_and_any_read(void **state)
{
    struct fixture *f = *state;
    const struct disk_verbs *v = f->disk->verbs;
    struct disk_file *file = open_file(f, "a", DISK_CREATE | DISK_DIRECT);
    _Alignas(4096) static uint8_t block[8192];
    uint8_t back[3];
    size_t got;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)(i * 7);
    assert_int_equal(v->write(file, 512, bytes_of(block, sizeof block)), STATUS_OK);
    assert_int_equal(v->write(file, 1024, bytes_of(block + 512, 512)), STATUS_OK);
    assert_int_equal(v->read(file, 512 + 4001, back, sizeof back, &got), STATUS_OK);
    assert_int_equal(got, sizeof back);
    assert_memory_equal(back, block + 4001, sizeof back);
    v->close(&file);
}

/* tmpfs has no O_DIRECT on older kernels; wherever this runs, the promise is the same. */
static void test_disk_posix__direct_works_in_memory_too(void **state)
{
    (void)state;
    char path[] = "/dev/shm/duet-disk-XXXXXX";
    if (mkdtemp(path) == NULL)
        return;
    struct fixture f = {.disk = disk_posix_new(path, NULL)};
    struct disk_file *file = open_file(&f, "a", DISK_CREATE | DISK_DIRECT);
    _Alignas(4096) static uint8_t block[512];
    assert_int_equal(f.disk->verbs->write(file, 0, bytes_of(block, sizeof block)), STATUS_OK);
    f.disk->verbs->close(&file);
    f.disk->verbs->destroy(&f.disk);
    remove_tree(path);
}

static void test_disk_posix__missing_and_existing_files_are_told_apart(void **state)
{
    struct fixture *f = *state;
    const struct disk_verbs *v = f->disk->verbs;
    struct disk_file *file = NULL;
    struct error error = {0};
    assert_int_equal(v->open(f->disk, "a", 0, &file, &error), STATUS_NOTFOUND);
    assert_non_null(strstr(error.message, "'a'"));
    assert_int_equal(v->open(f->disk, "a", DISK_DIRECT, &file, NULL), STATUS_NOTFOUND);
    file = open_file(f, "a", DISK_CREATE);
    v->close(&file);
    assert_int_equal(v->open(f->disk, "a", DISK_CREATE, &file, &error), STATUS_IO);
    assert_int_equal(v->open(f->disk, "a", DISK_CREATE | DISK_DIRECT, &file, &error), STATUS_IO);
    assert_int_equal(v->remove(f->disk, "a"), STATUS_OK);
    assert_int_equal(v->remove(f->disk, "a"), STATUS_NOTFOUND);
    assert_int_equal(v->rename(f->disk, "a", "b"), STATUS_NOTFOUND);
    assert_null(file);
}

struct names {
    unsigned count;
    char all[256];
};

static void note_name(void *arg, const char *name)
{
    struct names *n = arg;
    n->count++;
    strcat(strcat(n->all, name), " ");
}

static void test_disk_posix__folders_hold_names(void **state)
{
    struct fixture *f = *state;
    const struct disk_verbs *v = f->disk->verbs;
    struct names n = {0};
    assert_int_equal(v->list(f->disk, "log", note_name, &n), STATUS_NOTFOUND);
    assert_int_equal(v->make_directory(f->disk, "log"), STATUS_OK);
    assert_int_equal(v->make_directory(f->disk, "log"), STATUS_OK);
    struct disk_file *file = open_file(f, "log/x", DISK_CREATE);
    v->close(&file);
    assert_int_equal(v->rename(f->disk, "log/x", "log/y"), STATUS_OK);
    assert_int_equal(v->sync_directory(f->disk, "log"), STATUS_OK);
    assert_int_equal(v->sync_directory(f->disk, ""), STATUS_OK);
    assert_int_equal(v->sync_directory(f->disk, "no"), STATUS_NOTFOUND);
    assert_int_equal(v->list(f->disk, "log", note_name, &n), STATUS_OK);
    assert_int_equal(v->list(f->disk, "", note_name, &n), STATUS_OK);
    assert_string_equal(n.all, "y log ");
    file = open_file(f, "plain", DISK_CREATE);
    v->close(&file);
    assert_int_equal(v->make_directory(f->disk, "plain"), STATUS_IO);
}

static void test_disk_posix__makes_the_whole_path(void **state)
{
    struct fixture *f = *state;
    char path[128];
    struct stat found;
    snprintf(path, sizeof path, "%s/deep/er/still", f->path);
    struct disk *d = disk_posix_new(path, NULL);
    assert_non_null(d);
    d->verbs->destroy(&d);
    assert_null(d);
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0700);
    struct error error;
    snprintf(path, sizeof path, "%s/file", f->path);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_null(disk_posix_new(path, &error));
    assert_non_null(strstr(error.message, path));
    strcat(path, "/below");
    assert_null(disk_posix_new(path, &error));
    assert_null(disk_posix_new("", &error));
    assert_int_equal(error.status, STATUS_CONFIG);
}

/* Runs in another process: locks, tells, and holds on until the pipe closes. */
static pid_t hold_lock(const char *path, int ready, int until)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    struct disk *d = disk_posix_new(path, NULL);
    char told = d != NULL && d->verbs->lock(d, NULL) == STATUS_OK ? 'y' : 'n';
    if (write(ready, &told, 1) == 1 && read(until, &told, 1) >= 0)
        _exit(0);
    _exit(1);
}

static void test_disk_posix__a_directory_locked_by_another_process_is_refused(void **state)
{
    struct fixture *f = *state;
    int ready[2], until[2], result;
    char told, pid_text[32];
    struct error error;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(until), 0);
    pid_t pid = hold_lock(f->path, ready[1], until[0]);
    assert_int_equal(read(ready[0], &told, 1), 1);
    assert_int_equal(told, 'y');
    assert_int_equal(f->disk->verbs->lock(f->disk, &error), STATUS_LOCKED);
    snprintf(pid_text, sizeof pid_text, "pid %ld", (long)pid);
    assert_non_null(strstr(error.message, pid_text));
    /* It ends without a word, and the lock with it. */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &result, 0), pid);
    assert_int_equal(f->disk->verbs->lock(f->disk, &error), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(until[i]);
    }
}

static void test_disk_posix__a_second_disk_in_this_process_is_refused_too(void **state)
{
    struct fixture *f = *state;
    struct disk *again = disk_posix_new(f->path, NULL);
    assert_int_equal(f->disk->verbs->lock(f->disk, NULL), STATUS_OK);
    assert_int_equal(again->verbs->lock(again, NULL), STATUS_LOCKED);
    f->disk->verbs->destroy(&f->disk);
    assert_int_equal(again->verbs->lock(again, NULL), STATUS_OK);
    f->disk = again;
}

static void test_disk_posix__space_is_told(void **state)
{
    struct fixture *f = *state;
    uint64_t free_size = 0, total = 0;
    assert_int_equal(f->disk->verbs->space(f->disk, &free_size, &total), STATUS_OK);
    assert_true(total > 0 && free_size <= total);
}

/* A size limit of the process stands for a full disk and a failing one: both are told. */
static void test_disk_posix__failing_writes_are_told(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, small;
    _Alignas(4096) static uint8_t block[4096];
    struct disk_file *file = open_file(f, "a", DISK_CREATE | DISK_DIRECT);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum status within = f->disk->verbs->write(file, 0, bytes_of(block, sizeof block));
    enum status beyond = f->disk->verbs->write(file, 4096, bytes_of(block, sizeof block));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(within, STATUS_OK);
    assert_int_equal(beyond, STATUS_IO);
    f->disk->verbs->close(&file);
    int full = open("/dev/full", O_WRONLY);
    if (full < 0)
        return;
    close(full);
    char link_path[128];
    snprintf(link_path, sizeof link_path, "%s/full", f->path);
    assert_int_equal(symlink("/dev/full", link_path), 0);
    file = open_file(f, "full", 0);
    assert_int_equal(f->disk->verbs->write(file, 0, bytes_text("x")), STATUS_FULL);
    f->disk->verbs->close(&file);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_disk_posix__what_is_written_is_read),
        CASE(test_disk_posix__direct_files_take_aligned_writes_and_any_read),
        CASE(test_disk_posix__direct_works_in_memory_too),
        CASE(test_disk_posix__missing_and_existing_files_are_told_apart),
        CASE(test_disk_posix__folders_hold_names),
        CASE(test_disk_posix__makes_the_whole_path),
        CASE(test_disk_posix__a_directory_locked_by_another_process_is_refused),
        CASE(test_disk_posix__a_second_disk_in_this_process_is_refused_too),
        CASE(test_disk_posix__space_is_told),
        CASE(test_disk_posix__failing_writes_are_told),
    };
    return cmocka_run_group_tests_name("disk_posix", tests, NULL, NULL);
}
