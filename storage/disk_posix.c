#define _GNU_SOURCE /* O_DIRECT, strerror_r */

#include "storage/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "proto/base/ensure.h"

#define LOCK_NAME "lock"

/* disk.h says that this stands first. */
struct posix_disk {
    struct disk disk;
    int directory; /* the node's directory: names are opened relative to it */
    int lock;      /* -1 until locked; the lock lives as long as this descriptor */
};

struct posix_file {
    struct disk_file file;
    int fd;
    int read_fd; /* without O_DIRECT, so that reads need no alignment; == fd for plain files */
    bool direct; /* DISK_DIRECT was asked for: writes are checked for alignment */
};

static const struct disk_verbs posix_verbs;

static enum status status_of(int number)
{
    switch (number) {
    case ENOENT:
        return STATUS_NOTFOUND;
    case ENOSPC:
    case EDQUOT:
        return STATUS_FULL;
    case EWOULDBLOCK:
        return STATUS_LOCKED;
    default:
        return STATUS_IO;
    }
}

/* strerror() is not thread-safe, and the sync thread works beside the loop. */
static enum status fail(struct error *reterr, const char *verb, const char *name, int number)
{
    char words[128];
    return error_set(reterr, status_of(number), "%s '%s': %s", verb, name,
                     strerror_r(number, words, sizeof words));
}

static struct posix_disk *posix_of(struct disk *d)
{
    ENSURE(d != NULL && d->verbs == &posix_verbs);
    return (struct posix_disk *)d;
}

static struct posix_file *posix_file_of(struct disk_file *f)
{
    ENSURE(f != NULL && f->verbs == &posix_verbs);
    return (struct posix_file *)f;
}

static bool aligned(uint64_t offset, struct bytes data)
{
    return offset % DISK_ALIGNMENT == 0 && data.size % DISK_ALIGNMENT == 0 &&
           (uintptr_t)data.data % DISK_ALIGNMENT == 0;
}

/* O_DIRECT where the file system takes it; O_DSYNC alone otherwise (tmpfs, some overlays), which is
 * a write followed by fdatasync of the same range. */
static int open_direct(int directory, const char *name, int flags)
{
    int fd = openat(directory, name, flags | O_DSYNC | O_DIRECT, 0600);
    if (fd >= 0 || errno != EINVAL)
        return fd;
    /* Linux may have made the file before it refused the flag. */
    return openat(directory, name, (flags & ~O_EXCL) | O_DSYNC, 0600);
}

static enum status open_both(struct posix_disk *d, const char *name, unsigned flags,
                             struct posix_file *f)
{
    int mode = O_RDWR | O_CLOEXEC | ((flags & DISK_CREATE) != 0 ? O_CREAT | O_EXCL : 0);
    f->direct = (flags & DISK_DIRECT) != 0;
    f->fd =
        f->direct ? open_direct(d->directory, name, mode) : openat(d->directory, name, mode, 0600);
    if (f->fd < 0)
        return STATUS_IO;
    f->read_fd = f->direct ? openat(d->directory, name, O_RDONLY | O_CLOEXEC) : f->fd;
    if (f->read_fd >= 0)
        return STATUS_OK;
    int number = errno;
    close(f->fd);
    errno = number;
    return STATUS_IO;
}

static enum status posix_open(struct disk *disk, const char *name, unsigned flags,
                              struct disk_file **ret, struct error *reterr)
{
    struct posix_file *f = calloc(1, sizeof *f);
    if (f == NULL)
        return error_set(reterr, STATUS_NOMEMORY, "open '%s': out of memory", name);
    f->file.verbs = &posix_verbs;
    if (open_both(posix_of(disk), name, flags, f) != STATUS_OK) {
        int number = errno;
        free(f);
        return fail(reterr, "open", name, number);
    }
    *ret = &f->file;
    return STATUS_OK;
}

static void posix_close(struct disk_file **file_p)
{
    if (*file_p == NULL)
        return;
    struct posix_file *f = posix_file_of(*file_p);
    if (f->read_fd != f->fd)
        close(f->read_fd);
    close(f->fd);
    free(f);
    *file_p = NULL;
}

static enum status posix_size(struct disk_file *file, uint64_t *ret_size)
{
    struct stat found;
    if (fstat(posix_file_of(file)->fd, &found) != 0)
        return status_of(errno);
    *ret_size = (uint64_t)found.st_size;
    return STATUS_OK;
}

static enum status posix_read(struct disk_file *file, uint64_t offset, void *to, size_t size,
                              size_t *ret_size)
{
    struct posix_file *f = posix_file_of(file);
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(f->read_fd, (uint8_t *)to + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return status_of(errno);
        if (got == 0)
            break;
        done += (size_t)got;
    }
    *ret_size = done;
    return STATUS_OK;
}

/* A disk with sectors larger than DISK_ALIGNMENT refuses the write although it took the flag: go on
 * without O_DIRECT. O_DSYNC stays, so the write is still durable on return. */
static bool leave_direct(struct posix_file *f)
{
    int flags = fcntl(f->fd, F_GETFL);
    if (!f->direct || flags < 0 || (flags & O_DIRECT) == 0)
        return false;
    return fcntl(f->fd, F_SETFL, flags & ~O_DIRECT) == 0;
}

static enum status posix_write(struct disk_file *file, uint64_t offset, struct bytes data)
{
    struct posix_file *f = posix_file_of(file);
    ENSURE(!f->direct || aligned(offset, data));
    size_t done = 0;
    while (done < data.size) {
        ssize_t put = pwrite(f->fd, data.data + done, data.size - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EINVAL && leave_direct(f))
            continue;
        if (put < 0)
            return status_of(errno);
        if (put == 0)
            return STATUS_IO;
        done += (size_t)put;
    }
    return STATUS_OK;
}

static enum status posix_sync(struct disk_file *file)
{
    /* Not fdatasync() again after EINTR: Linux does not interrupt it, and a repeat after an error
     * would find the pages clean and lie. */
    return fdatasync(posix_file_of(file)->fd) == 0 ? STATUS_OK : status_of(errno);
}

static enum status posix_rename(struct disk *disk, const char *from, const char *to)
{
    int directory = posix_of(disk)->directory;
    return renameat(directory, from, directory, to) == 0 ? STATUS_OK : status_of(errno);
}

static enum status posix_remove(struct disk *disk, const char *name)
{
    return unlinkat(posix_of(disk)->directory, name, 0) == 0 ? STATUS_OK : status_of(errno);
}

static enum status posix_make_directory(struct disk *disk, const char *name)
{
    if (mkdirat(posix_of(disk)->directory, name, 0700) == 0)
        return STATUS_OK;
    struct stat found;
    if (errno == EEXIST && fstatat(posix_of(disk)->directory, name, &found, 0) == 0 &&
        S_ISDIR(found.st_mode))
        return STATUS_OK;
    return status_of(errno);
}

static int open_directory(struct disk *disk, const char *name)
{
    return openat(posix_of(disk)->directory, name[0] == '\0' ? "." : name,
                  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static enum status posix_sync_directory(struct disk *disk, const char *name)
{
    int fd = open_directory(disk, name);
    if (fd < 0)
        return status_of(errno);
    enum status s = fsync(fd) == 0 ? STATUS_OK : status_of(errno);
    close(fd);
    return s;
}

static enum status posix_list(struct disk *disk, const char *directory, disk_name_fn *fn, void *arg)
{
    int fd = open_directory(disk, directory);
    if (fd < 0)
        return status_of(errno);
    DIR *stream = fdopendir(fd);
    if (stream == NULL) {
        enum status s = status_of(errno);
        close(fd);
        return s;
    }
    struct dirent *entry;
    while (errno = 0, (entry = readdir(stream)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(arg, entry->d_name);
    enum status s = errno == 0 ? STATUS_OK : status_of(errno);
    closedir(stream);
    return s;
}

/* The holder's process id stands in the file, for the one who is refused. */
static enum status locked_by_other(int fd, struct error *reterr)
{
    char pid[16] = "";
    ssize_t size = pread(fd, pid, sizeof pid - 1, 0);
    close(fd);
    size_t digits = size > 0 ? strspn(pid, "0123456789") : 0;
    return error_set(reterr, STATUS_LOCKED, "the directory is in use by another process%s%.*s",
                     digits > 0 ? ", pid " : "", (int)digits, pid);
}

static enum status posix_lock(struct disk *disk, struct error *reterr)
{
    struct posix_disk *d = posix_of(disk);
    ENSURE(d->lock < 0);
    int fd = openat(d->directory, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(reterr, "open", LOCK_NAME, errno);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int number = errno;
        if (number == EWOULDBLOCK)
            return locked_by_other(fd, reterr);
        close(fd);
        return fail(reterr, "lock", LOCK_NAME, number);
    }
    char pid[16];
    int size = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    /* Only words for a human: a full disk must not keep the node from starting. */
    if (ftruncate(fd, 0) == 0 && pwrite(fd, pid, (size_t)size, 0) < 0)
        errno = 0;
    d->lock = fd;
    return STATUS_OK;
}

static enum status posix_space(struct disk *disk, uint64_t *ret_free, uint64_t *ret_total)
{
    struct statvfs found;
    if (fstatvfs(posix_of(disk)->directory, &found) != 0)
        return status_of(errno);
    *ret_free = (uint64_t)found.f_bavail * found.f_frsize;
    *ret_total = (uint64_t)found.f_blocks * found.f_frsize;
    return STATUS_OK;
}

static void posix_destroy(struct disk **disk_p)
{
    if (*disk_p == NULL)
        return;
    struct posix_disk *d = posix_of(*disk_p);
    if (d->lock >= 0)
        close(d->lock);
    if (d->directory >= 0)
        close(d->directory);
    free(d);
    *disk_p = NULL;
}

static const struct disk_verbs posix_verbs = {
    .open = posix_open,
    .close = posix_close,
    .size = posix_size,
    .read = posix_read,
    .write = posix_write,
    .sync = posix_sync,
    .rename = posix_rename,
    .remove = posix_remove,
    .make_directory = posix_make_directory,
    .sync_directory = posix_sync_directory,
    .list = posix_list,
    .lock = posix_lock,
    .space = posix_space,
    .destroy = posix_destroy,
};

/* Make path and sync the folder that holds it: the new name must outlive a power failure. */
static int make_and_sync(const char *path)
{
    if (mkdir(path, 0700) != 0)
        return errno == EEXIST ? 0 : -1;
    char *parent = strdup(path);
    if (parent == NULL)
        return -1;
    char *slash = strrchr(parent, '/');
    if (slash != NULL)
        slash[slash == parent ? 1 : 0] = '\0';
    int fd = open(slash != NULL ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = fd < 0 ? -1 : fsync(fd);
    if (fd >= 0)
        close(fd);
    free(parent);
    return result;
}

/* path is changed and put back. */
static int make_path(char *path)
{
    for (char *at = path + 1; *at != '\0'; at++) {
        if (*at != '/' || at[1] == '/' || at[1] == '\0')
            continue;
        *at = '\0';
        int result = make_and_sync(path);
        *at = '/';
        if (result != 0)
            return result;
    }
    return make_and_sync(path);
}

/* Make and open the directory; -1: errno. */
static int open_root(const char *directory)
{
    char *path = strdup(directory);
    if (path == NULL)
        return -1;
    int fd = -1;
    if (make_path(path) == 0)
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(path);
    return fd;
}

struct disk *disk_posix_new(const char *directory, struct error *reterr)
{
    if (directory[0] == '\0') {
        error_set(reterr, STATUS_CONFIG, "the directory's name is empty");
        return NULL;
    }
    struct posix_disk *d = calloc(1, sizeof *d);
    if (d == NULL) {
        error_set(reterr, STATUS_NOMEMORY, "open '%s': out of memory", directory);
        return NULL;
    }
    d->disk.verbs = &posix_verbs;
    d->lock = -1;
    d->directory = open_root(directory);
    if (d->directory < 0) {
        fail(reterr, "open directory", directory, errno);
        free(d);
        return NULL;
    }
    return &d->disk;
}
