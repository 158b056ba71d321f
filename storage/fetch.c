/* A job goes from free to queued to done and back; there are queue_max of them from the start.
 *
 *         fetch_submit          worker            fetch_take
 *   free --------------> queued ------> (read) ------> done -----------> free
 *
 * A worker takes several jobs at a time: one snapshot and one wake-up serve them all.
 */
#include "storage/fetch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/ensure.h"

#define BATCH_MAX 64

struct job {
    struct job *next;
    struct fetch_request request; /* its key lies in `key` */
    uint8_t key[KEY_SIZE_MAX];
    struct fetch_answer answer;
};

struct job_list {
    struct job *first, *last;
    size_t count;
};

struct worker {
    struct fetch *fetch;
    pthread_t thread;
    struct table_reader *reader;
};

struct fetch {
    int event_fd;
    struct job *jobs;
    struct worker *workers;
    unsigned workers_count; /* whose threads run */

    pthread_mutex_t mutex; /* over what follows */
    pthread_cond_t queued_some;
    struct job_list free, queued, done;
    bool stopping;
};

static void list_push(struct job_list *list, struct job *job)
{
    job->next = NULL;
    *(list->last == NULL ? &list->first : &list->last->next) = job;
    list->last = job;
    list->count++;
}

static struct job *list_pop(struct job_list *list)
{
    struct job *job = list->first;
    if (job == NULL)
        return NULL;
    list->first = job->next;
    if (list->first == NULL)
        list->last = NULL;
    list->count--;
    return job;
}

/* EAGAIN: the counter is full, so the reader has been told often enough. */
static void signal_event(int event_fd)
{
    uint64_t one = 1;
    while (write(event_fd, &one, sizeof one) < 0 && errno != EAGAIN)
        ENSURE(errno == EINTR);
}

/* --- the workers --- */

/* Copy the value out of the snapshot, which ends with the batch. */
static enum status keep_value(struct fetch_answer *a)
{
    if (a->item.value.size == 0) {
        a->item.value = BYTES_EMPTY;
        return STATUS_OK;
    }
    a->memory = malloc(a->item.value.size);
    if (a->memory == NULL)
        return STATUS_NOMEMORY;
    memcpy(a->memory, a->item.value.data, a->item.value.size);
    a->item.value.data = a->memory;
    return STATUS_OK;
}

static void read_job(struct table_reader *r, struct job *job)
{
    const struct fetch_request *q = &job->request;
    struct fetch_answer *a = &job->answer;
    *a = (struct fetch_answer){.ticket = q->ticket, .generation = q->generation};
    a->status = r->verbs->get(r, q->slot, q->digest, q->key, &a->item);
    if (a->status == STATUS_OK)
        a->status = keep_value(a);
    if (a->status != STATUS_OK)
        a->item = (struct item){.present = false};
}

static void read_batch(struct table_reader *r, struct job_list *batch)
{
    enum status s = r->verbs->refresh(r);
    for (struct job *job = batch->first; job != NULL; job = job->next) {
        if (s == STATUS_OK)
            read_job(r, job);
        else
            job->answer = (struct fetch_answer){
                .ticket = job->request.ticket, .generation = job->request.generation, .status = s};
    }
    if (s == STATUS_OK)
        r->verbs->release(r);
}

/* Take a fair share, so that one slow page does not hold up what another worker could read. */
static struct job_list take_batch(struct fetch *f)
{
    struct job_list batch = {0};
    size_t share = f->queued.count / f->workers_count + 1;
    while (batch.count < share && batch.count < BATCH_MAX && f->queued.first != NULL)
        list_push(&batch, list_pop(&f->queued));
    return batch;
}

static void *run(void *arg)
{
    struct worker *w = arg;
    struct fetch *f = w->fetch;
    pthread_mutex_lock(&f->mutex);
    for (;;) {
        while (f->queued.first == NULL && !f->stopping)
            pthread_cond_wait(&f->queued_some, &f->mutex);
        if (f->stopping)
            break;
        struct job_list batch = take_batch(f);
        pthread_mutex_unlock(&f->mutex);
        read_batch(w->reader, &batch);
        pthread_mutex_lock(&f->mutex);
        for (struct job *job; (job = list_pop(&batch)) != NULL;)
            list_push(&f->done, job);
        signal_event(f->event_fd);
    }
    pthread_mutex_unlock(&f->mutex);
    return NULL;
}

/* --- life --- */

static bool start_worker(struct fetch *f, struct worker *w, struct table *table)
{
    w->fetch = f;
    if (table->verbs->reader_new(table, &w->reader) != STATUS_OK)
        return false;
    /* Signals are the main thread's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&f->mutex);
    int rc = pthread_create(&w->thread, NULL, run, w);
    if (rc == 0)
        f->workers_count++;
    pthread_mutex_unlock(&f->mutex);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        w->reader->verbs->reader_destroy(&w->reader);
    return rc == 0;
}

struct fetch *fetch_new(struct table *table, unsigned threads, size_t queue_max, int event_fd)
{
    ENSURE(threads > 0 && queue_max > 0);
    struct fetch *f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->event_fd = event_fd;
    ENSURE(pthread_mutex_init(&f->mutex, NULL) == 0);
    ENSURE(pthread_cond_init(&f->queued_some, NULL) == 0);
    f->jobs = calloc(queue_max, sizeof *f->jobs);
    f->workers = calloc(threads, sizeof *f->workers);
    bool started = f->jobs != NULL && f->workers != NULL;
    for (size_t i = 0; started && i < queue_max; i++)
        list_push(&f->free, &f->jobs[i]);
    for (unsigned i = 0; started && i < threads; i++)
        started = start_worker(f, &f->workers[i], table);
    if (!started)
        fetch_destroy(&f);
    return f;
}

static void stop_workers(struct fetch *f)
{
    pthread_mutex_lock(&f->mutex);
    f->stopping = true;
    pthread_cond_broadcast(&f->queued_some);
    pthread_mutex_unlock(&f->mutex);
    for (unsigned i = 0; i < f->workers_count; i++) {
        ENSURE(pthread_join(f->workers[i].thread, NULL) == 0);
        f->workers[i].reader->verbs->reader_destroy(&f->workers[i].reader);
    }
}

void fetch_destroy(struct fetch **f_p)
{
    struct fetch *f = *f_p;
    if (f == NULL)
        return;
    stop_workers(f);
    for (struct job *job; (job = list_pop(&f->done)) != NULL;)
        fetch_answer_fini(&job->answer);
    pthread_cond_destroy(&f->queued_some);
    pthread_mutex_destroy(&f->mutex);
    free(f->workers);
    free(f->jobs);
    free(f);
    *f_p = NULL;
}

/* --- the loop's side --- */

enum status fetch_submit(struct fetch *f, const struct fetch_request *request)
{
    ENSURE(request->key.size > 0 && request->key.size <= KEY_SIZE_MAX);
    pthread_mutex_lock(&f->mutex);
    struct job *job = list_pop(&f->free);
    if (job != NULL) {
        job->request = *request;
        memcpy(job->key, request->key.data, request->key.size);
        job->request.key.data = job->key;
        list_push(&f->queued, job);
        pthread_cond_signal(&f->queued_some);
    }
    pthread_mutex_unlock(&f->mutex);
    return job == NULL ? STATUS_BUSY : STATUS_OK;
}

enum status fetch_take(struct fetch *f, struct fetch_answer *ret)
{
    pthread_mutex_lock(&f->mutex);
    struct job *job = list_pop(&f->done);
    if (job != NULL) {
        *ret = job->answer;
        job->answer = (struct fetch_answer){0};
        list_push(&f->free, job);
    }
    pthread_mutex_unlock(&f->mutex);
    return job == NULL ? STATUS_NOTFOUND : STATUS_OK;
}

void fetch_answer_fini(struct fetch_answer *a)
{
    if (a == NULL)
        return;
    free(a->memory);
    *a = (struct fetch_answer){0};
}
