#include "proto/base/logline.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"

static const char *line_proc = "-";
static const char *line_name = "-";
static enum logline_level line_least = LOGLINE_INFO;

static const char *const level_names[] = {
    [LOGLINE_DEBUG] = "debug",
    [LOGLINE_INFO] = "info",
    [LOGLINE_WARN] = "warn",
    [LOGLINE_ERROR] = "error",
};

void logline_init(const char *proc, const char *name, enum logline_level least)
{
    ENSURE(proc != NULL && name != NULL);
    line_proc = proc;
    line_name = name[0] == '\0' ? "-" : name;
    line_least = least;
}

/* Append to line[0..LOGLINE_SIZE_MAX); returns the new length, LOGLINE_SIZE_MAX when cut. */
static size_t append(char *line, size_t used, const char *format, va_list args)
{
    int more = vsnprintf(line + used, LOGLINE_SIZE_MAX - used, format, args);
    if (more < 0)
        return used;
    return (size_t)more < LOGLINE_SIZE_MAX - used ? used + (size_t)more : LOGLINE_SIZE_MAX;
}

__attribute__((format(printf, 3, 4))) static size_t append_text(char *line, size_t used,
                                                                const char *format, ...)
{
    va_list args;
    va_start(args, format);
    used = append(line, used, format, args);
    va_end(args);
    return used;
}

static size_t append_head(char *line, enum logline_level level, const char *event)
{
    uint64_t wall_ms = clock_wall_ms();
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm utc;
    ENSURE(gmtime_r(&seconds, &utc) != NULL);
    char stamp[32];
    ENSURE(strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc) > 0);
    return append_text(line, 0, "ts=%s.%03uZ level=%s proc=%s node=%s event=%s", stamp,
                       (unsigned)(wall_ms % 1000), level_names[level], line_proc, line_name, event);
}

/* One event stays one line, whatever a peer or a path put into a field. */
static void remove_controls(char *line, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
}

/* A log that cannot be written is no reason to stop serving: give up silently. */
static void write_all(const char *line, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, line, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        line += written;
        size -= (size_t)written;
    }
}

void logline(enum logline_level level, const char *event, const char *format, ...)
{
    if (level < line_least)
        return;
    int saved_errno = errno;
    char line[LOGLINE_SIZE_MAX + 1];
    size_t used = append_head(line, level, event);
    if (format != NULL && used < LOGLINE_SIZE_MAX) {
        va_list args;
        va_start(args, format);
        used = append_text(line, used, " ");
        if (used < LOGLINE_SIZE_MAX)
            used = append(line, used, format, args);
        va_end(args);
    }
    if (used == LOGLINE_SIZE_MAX) {
        line[LOGLINE_SIZE_MAX - 4] = line[LOGLINE_SIZE_MAX - 3] = line[LOGLINE_SIZE_MAX - 2] = '.';
        used = LOGLINE_SIZE_MAX - 1;
    }
    remove_controls(line, used);
    line[used++] = '\n';
    write_all(line, used);
    errno = saved_errno;
}
