#include "storage/sync.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"

/*        sync_submit             written              sync_ended
 *  IDLE -------------> WRITING -------------> WRITTEN -----------> IDLE
 *                         | error, also while preparing in IDLE
 *                         v
 *                       FAILED: the thread has ended; every sync_ended() tells
 */
enum sync_state { SYNC_IDLE, SYNC_WRITING, SYNC_WRITTEN, SYNC_FAILED };

struct sync {
    struct log *log;
    int event_fd;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;

    /* Under the mutex. */
    enum sync_state state;
    struct log_group *group; /* WRITING, WRITTEN */
    enum status error;       /* FAILED */
    uint64_t busy_since_ms;  /* WRITING */
    bool stopping;
};

static void lock(const struct sync *s)
{
    ENSURE(pthread_mutex_lock((pthread_mutex_t *)&s->mutex) == 0);
}

static void unlock(const struct sync *s)
{
    ENSURE(pthread_mutex_unlock((pthread_mutex_t *)&s->mutex) == 0);
}

static void notify(const struct sync *s)
{
    uint64_t one = 1;
    ssize_t written;
    do
        written = write(s->event_fd, &one, sizeof one);
    while (written < 0 && errno == EINTR);
    /* EAGAIN: the counter is full, so the descriptor is readable already. */
    ENSURE(written == sizeof one || errno == EAGAIN);
}

/* The mutex is held before and after; not while the disk works. */
static void write_one(struct sync *s)
{
    struct log_group *g = s->group;
    unlock(s);
    enum status status = log_group_write(s->log, g);
    lock(s);
    s->state = status == STATUS_OK ? SYNC_WRITTEN : SYNC_FAILED;
    s->error = status;
    s->busy_since_ms = 0;
    notify(s);
}

/* The same for a step of preparation. Returns whether there is more. */
static bool prepare_one(struct sync *s)
{
    bool more;
    unlock(s);
    enum status status = log_prepare(s->log, &more);
    lock(s);
    if (status == STATUS_OK)
        return more;
    s->state = SYNC_FAILED;
    s->error = status;
    notify(s);
    return false;
}

static void *sync_main(void *arg)
{
    struct sync *s = arg;
    bool prepare = true;
    lock(s);
    while (s->state != SYNC_FAILED && (s->state == SYNC_WRITING || !s->stopping)) {
        if (s->state == SYNC_WRITING) {
            write_one(s);
            prepare = true;
        } else if (prepare) {
            prepare = prepare_one(s);
        } else {
            ENSURE(pthread_cond_wait(&s->wake, &s->mutex) == 0);
        }
    }
    unlock(s);
    return NULL;
}

/* Signals are the main thread's. */
static int start(struct sync *s)
{
    sigset_t all, before;
    sigfillset(&all);
    ENSURE(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    int result = pthread_create(&s->thread, NULL, sync_main, s);
    ENSURE(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return result;
}

struct sync *sync_new(struct log *log, int event_fd)
{
    struct sync *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->log = log;
    s->event_fd = event_fd;
    ENSURE(pthread_mutex_init(&s->mutex, NULL) == 0);
    ENSURE(pthread_cond_init(&s->wake, NULL) == 0);
    if (start(s) == 0)
        return s;
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->mutex);
    free(s);
    return NULL;
}

void sync_destroy(struct sync **sync_p)
{
    struct sync *s = *sync_p;
    if (s == NULL)
        return;
    lock(s);
    s->stopping = true;
    pthread_cond_signal(&s->wake);
    unlock(s);
    ENSURE(pthread_join(s->thread, NULL) == 0);
    ENSURE(pthread_cond_destroy(&s->wake) == 0);
    ENSURE(pthread_mutex_destroy(&s->mutex) == 0);
    free(s);
    *sync_p = NULL;
}

void sync_submit(struct sync *s, struct log_group *g)
{
    ENSURE(g != NULL);
    lock(s);
    /* After a failure nothing is written any more; sync_ended() tells it. */
    if (s->state != SYNC_FAILED) {
        ENSURE(s->state == SYNC_IDLE);
        s->state = SYNC_WRITING;
        s->group = g;
        s->busy_since_ms = clock_now_ms();
        pthread_cond_signal(&s->wake);
    }
    unlock(s);
}

enum status sync_ended(struct sync *s, struct log_group **ret)
{
    enum status status = STATUS_NOTFOUND;
    lock(s);
    if (s->state == SYNC_WRITTEN) {
        *ret = s->group;
        s->group = NULL;
        s->state = SYNC_IDLE;
        status = STATUS_OK;
    } else if (s->state == SYNC_FAILED) {
        status = s->error;
    }
    unlock(s);
    return status;
}

uint64_t sync_busy_since_ms(const struct sync *s)
{
    lock(s);
    uint64_t since = s->busy_since_ms;
    unlock(s);
    return since;
}
