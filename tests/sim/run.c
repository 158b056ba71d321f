#include "tests/sim/run.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/ensure.h"
#include "tests/sim/scenario.h"
#include "tests/sim/world.h"

#define JOBS_MAX 16

unsigned mutant; /* which mistake the code under test makes; 0: none */

static struct world *world_for(const struct run_order *order, const struct scenario **ret)
{
    struct knobs knobs;
    *ret = NULL;
    if (order->scenario == NULL)
        return world_new(order->seed, order->operations);
    *ret = scenario_find(order->scenario);
    ENSURE(*ret != NULL);
    knobs_calm(&knobs);
    if ((*ret)->knobs != NULL)
        (*ret)->knobs(&knobs);
    return world_new_with(order->seed, &knobs);
}

static void run_scenario(struct world *w, const struct scenario *s)
{
    world_start(w);
    s->run(w);
    if (!w->failed)
        world_calm(w);
}

static void report(const struct world *w, struct run_result *ret)
{
    *ret = (struct run_result){.failed = w->failed,
                               .trace_hash = w->trace_hash,
                               .operations = w->history.count,
                               .events = w->queue.ran,
                               .simulated_ms = world_now_ms(w),
                               .undecided = w->undecided};
    snprintf(ret->invariant, sizeof ret->invariant, "%s", w->invariant);
    snprintf(ret->failure, sizeof ret->failure, "%.399s", w->failure);
    memcpy(ret->reached, w->reached, sizeof ret->reached);
    for (size_t i = 0; i < w->history.count; i++)
        ret->in_doubt += w->history.items[i].op.outcome == CHECKER_IN_DOUBT;
}

void run_here(const struct run_order *order, struct run_result *ret)
{
    const struct scenario *scenario;
    mutant = order->mutant;
    struct world *w = world_for(order, &scenario);
    w->tracing = order->tracing;
    w->quiet = order->quiet;
    w->starved = order->starved;
    if (order->tracing)
        setvbuf(stdout, NULL, _IOLBF, 0);
    if (order->tracing)
        knobs_print(&w->knobs);
    if (scenario != NULL)
        run_scenario(w, scenario);
    else
        world_run(w);
    world_count(w);
    report(w, ret);
    world_destroy(&w);
}

/* ---------------------------------------------------------------- children */

#ifdef DUET_COVERAGE
void __gcov_dump(void);
#endif

struct job {
    struct run_order order;
    pid_t pid; /* 0: none */
    int fd;
    bool ended;
    struct run_result result;
};

static void job_start(struct job *j)
{
    int ends[2];
    ENSURE(pipe(ends) == 0);
    fflush(stdout);
    fflush(stderr);
    j->pid = fork();
    ENSURE(j->pid >= 0);
    if (j->pid > 0) {
        close(ends[1]);
        j->fd = ends[0];
        return;
    }
    close(ends[0]);
    if (j->order.quiet) {
        ENSURE(freopen("/dev/null", "w", stdout) != NULL);
        ENSURE(freopen("/dev/null", "w", stderr) != NULL);
    }
    struct run_result result;
    run_here(&j->order, &result);
    fflush(stdout);
#ifdef DUET_COVERAGE
    __gcov_dump(); /* what _exit() would forget */
#endif
    ssize_t wrote = write(ends[1], &result, sizeof result);
    _exit(wrote == (ssize_t)sizeof result ? 0 : 1);
}

static void job_wait(struct job *j)
{
    ssize_t got;
    do
        got = read(j->fd, &j->result, sizeof j->result);
    while (got < 0 && errno == EINTR);
    close(j->fd);
    int status;
    while (waitpid(j->pid, &status, 0) < 0)
        ENSURE(errno == EINTR);
    if (got != (ssize_t)sizeof j->result) {
        j->result = (struct run_result){.failed = true};
        snprintf(j->result.invariant, sizeof j->result.invariant, "ENSURE");
        snprintf(j->result.failure, sizeof j->result.failure, "the process died (%s %d)",
                 WIFSIGNALED(status) ? "signal" : "exit",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    j->ended = true;
}

/* Wait until one of the running jobs has something to say. */
static void wait_any(struct job *jobs, unsigned count)
{
    struct pollfd fds[JOBS_MAX];
    struct job *of[JOBS_MAX];
    nfds_t open = 0;
    for (unsigned i = 0; i < count; i++) {
        if (jobs[i].pid == 0 || jobs[i].ended)
            continue;
        of[open] = &jobs[i];
        fds[open++] = (struct pollfd){.fd = jobs[i].fd, .events = POLLIN};
    }
    if (open == 0 || poll(fds, open, -1) < 0)
        return;
    for (nfds_t i = 0; i < open; i++)
        if (fds[i].revents != 0)
            job_wait(of[i]);
}

/* The oldest orders come first in the ring, so results are told in order. */
void run_many(unsigned jobs, run_next_fn *next, run_done_fn *done, void *arg)
{
    struct job ring[JOBS_MAX] = {0};
    unsigned head = 0, count = 0, size = JOBS_MAX, running = 0;
    bool more = true, stopped = false;
    ENSURE(jobs >= 1 && jobs <= JOBS_MAX);
    while (more || count > 0) {
        while (more && !stopped && running < jobs && count < size) {
            struct job *j = &ring[(head + count) % size];
            *j = (struct job){0};
            more = next(arg, &j->order);
            if (!more)
                break;
            job_start(j);
            count++;
            running++;
        }
        more = more && !stopped;
        wait_any(ring, size);
        running = 0;
        for (unsigned i = 0; i < count; i++)
            running += !ring[(head + i) % size].ended;
        while (count > 0 && ring[head].ended) {
            if (!stopped && !done(arg, &ring[head].order, &ring[head].result))
                stopped = true;
            ring[head].pid = 0;
            head = (head + 1) % size;
            count--;
        }
    }
}
