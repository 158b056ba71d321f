#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/ensure.h"
#include "storage/checkpoint.h"

/*        checkpointer_start              checkpoint_run returns
 *  IDLE ------------------> RUNNING --------------------------> ENDED
 *    ^                                                            |
 *    '------------------------------------------------------------'
 *                          checkpointer_ended
 */
enum checkpointer_state { CHECKPOINTER_IDLE, CHECKPOINTER_RUNNING, CHECKPOINTER_ENDED };

struct checkpointer {
    struct table *table;
    int event_fd;
    pthread_t thread;

    pthread_mutex_t mutex; /* over what follows */
    pthread_cond_t changed;
    enum checkpointer_state state;
    bool stopping;
    struct checkpoint job; /* the thread's while running */
    enum status result;
};

/* EAGAIN: the counter is full, so the reader has been told often enough. */
static void signal_event(int event_fd)
{
    uint64_t one = 1;
    while (write(event_fd, &one, sizeof one) < 0 && errno != EAGAIN)
        ENSURE(errno == EINTR);
}

static bool keep_running(void *arg)
{
    struct checkpointer *k = arg;
    pthread_mutex_lock(&k->mutex);
    bool stopping = k->stopping;
    pthread_mutex_unlock(&k->mutex);
    return !stopping;
}

static void *run(void *arg)
{
    struct checkpointer *k = arg;
    pthread_mutex_lock(&k->mutex);
    for (;;) {
        while (k->state != CHECKPOINTER_RUNNING && !k->stopping)
            pthread_cond_wait(&k->changed, &k->mutex);
        if (k->stopping)
            break;
        pthread_mutex_unlock(&k->mutex);
        enum status result = checkpoint_run(k->table, &k->job, keep_running, k);
        pthread_mutex_lock(&k->mutex);
        k->result = result;
        k->state = CHECKPOINTER_ENDED;
        signal_event(k->event_fd);
    }
    pthread_mutex_unlock(&k->mutex);
    return NULL;
}

/* Signals are the main thread's. */
static bool start_thread(struct checkpointer *k)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&k->thread, NULL, run, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0;
}

struct checkpointer *checkpointer_new(struct table *table, int event_fd)
{
    struct checkpointer *k = calloc(1, sizeof *k);
    if (k == NULL)
        return NULL;
    k->table = table;
    k->event_fd = event_fd;
    ENSURE(pthread_mutex_init(&k->mutex, NULL) == 0);
    ENSURE(pthread_cond_init(&k->changed, NULL) == 0);
    if (start_thread(k))
        return k;
    pthread_cond_destroy(&k->changed);
    pthread_mutex_destroy(&k->mutex);
    free(k);
    return NULL;
}

void checkpointer_destroy(struct checkpointer **k_p)
{
    struct checkpointer *k = *k_p;
    if (k == NULL)
        return;
    pthread_mutex_lock(&k->mutex);
    k->stopping = true;
    pthread_cond_signal(&k->changed);
    pthread_mutex_unlock(&k->mutex);
    ENSURE(pthread_join(k->thread, NULL) == 0);
    checkpoint_fini(&k->job);
    pthread_cond_destroy(&k->changed);
    pthread_mutex_destroy(&k->mutex);
    free(k);
    *k_p = NULL;
}

void checkpointer_start(struct checkpointer *k, struct checkpoint *c)
{
    pthread_mutex_lock(&k->mutex);
    ENSURE(k->state == CHECKPOINTER_IDLE);
    k->job = *c;
    *c = (struct checkpoint){0};
    k->state = CHECKPOINTER_RUNNING;
    pthread_cond_signal(&k->changed);
    pthread_mutex_unlock(&k->mutex);
}

enum status checkpointer_ended(struct checkpointer *k, uint64_t *ret_lsn)
{
    pthread_mutex_lock(&k->mutex);
    enum status s = STATUS_NOTFOUND;
    if (k->state == CHECKPOINTER_ENDED) {
        s = k->result;
        *ret_lsn = k->job.lsn;
        checkpoint_fini(&k->job);
        k->state = CHECKPOINTER_IDLE;
    }
    pthread_mutex_unlock(&k->mutex);
    return s;
}
