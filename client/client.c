#include "client/client.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "client/fault.h"
#include "client/options.h"
#include "client/watch.h"
#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "proto/link.h"

#define MAGIC         0xd0e7c11e
#define LINK_RETRY_MS 100 /* before a socket that could not be made is tried again */
#define BURST         256 /* frames taken from one link before the others have their turn */

/* Twice the window: those of the session, and those whose callback is still to be called. */
#define WAITINGS_MAX (2 * CLIENT_WINDOW_MAX)

/* Who waits for an operation. */
struct waiting {
    duet_callback *callback;
    void *user;
    struct waiting *next; /* when free */
};

struct duet_client {
    uint32_t magic;
    struct duet_options options;

    /* The thread's own: no lock. */
    struct link_context *context;
    struct link *links[SESSION_ROUTERS_MAX]; /* NULL: to be connected */
    bool connected[SESSION_ROUTERS_MAX];
    bool lost[SESSION_ROUTERS_MAX]; /* a send failed */
    bool look[SESSION_ROUTERS_MAX]; /* the link may have something: its descriptor showed it, or
                                       something was sent, which can swallow the edge */
    struct session_effects effects;

    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* room, readiness, or nothing outstanding */
    struct session *session;
    struct waiting waitings[WAITINGS_MAX];
    struct waiting *free_waitings;
    uint32_t outstanding; /* waitings in use */
    uint32_t watchers;    /* threads that wait for `changed` */
    bool fresh;           /* something was submitted since the last flush */
    bool asleep;          /* the thread is, or is about to be, in poll() */
    bool stopping;

    int wake_fd;
    pthread_t thread;
    bool started;

    /* Of a client that has no thread (option loop = caller). */
    bool by_caller;
    struct watch watch;
};

/* The client whose turn this thread is at: it may be in one of its callbacks. */
static __thread const struct duet_client *own_client;

bool client_is_own_thread(const struct duet_client *c)
{
    return c->by_caller || own_client == c;
}

/* ---- In ---- */

static void wake(struct duet_client *c)
{
    if (!c->asleep)
        return;
    c->asleep = false;
    uint64_t one = 1;
    while (write(c->wake_fd, &one, sizeof one) < 0)
        ENSURE(errno == EINTR);
}

static struct waiting *take_waiting(struct duet_client *c, duet_callback *callback, void *user)
{
    struct waiting *waiting = c->free_waitings;
    ENSURE(waiting != NULL);
    c->free_waitings = waiting->next;
    *waiting = (struct waiting){callback, user, NULL};
    c->outstanding++;
    return waiting;
}

static void give_waiting(struct duet_client *c, struct waiting *waiting)
{
    waiting->next = c->free_waitings;
    c->free_waitings = waiting;
    c->outstanding--;
}

static bool room(const struct duet_client *c)
{
    return session_room(c->session) > 0 && c->outstanding < WAITINGS_MAX;
}

static enum status submit_locked(struct duet_client *c, struct session_operation *op,
                                 uint32_t timeout_ms, bool nowait, duet_callback *callback,
                                 void *user)
{
    while (!room(c) && !nowait) {
        c->watchers++;
        pthread_cond_wait(&c->changed, &c->lock);
        c->watchers--;
    }
    if (!room(c))
        return STATUS_BUSY;
    uint64_t now_ms = clock_now_ms();
    op->deadline_ms = now_ms + (timeout_ms > 0 ? timeout_ms : c->options.timeout_ms);
    struct waiting *waiting = take_waiting(c, callback, user);
    op->user = waiting;
    enum status s = session_submit(c->session, now_ms, op, NULL);
    if (s != STATUS_OK) {
        give_waiting(c, waiting);
        return s;
    }
    c->fresh = true;
    wake(c);
    return STATUS_OK;
}

static enum duet_code explain_untaken(enum status s, struct duet_error *reterr)
{
    if (s == STATUS_USAGE)
        return fault_set(reterr, DUET_USAGE, "the key is empty; a key has 1 to %d bytes",
                         KEY_SIZE_MAX);
    if (s == STATUS_TOOBIG)
        return fault_set(reterr, DUET_TOOBIG,
                         "key or value is too large: a key has up to %d bytes, a value up to %d",
                         KEY_SIZE_MAX, VALUE_SIZE_MAX);
    return fault_set(reterr, (enum duet_code)s, "%s", status_text(s));
}

enum duet_code client_submit(struct duet_client *c, const struct session_operation *op,
                             uint32_t timeout_ms, bool nowait, duet_callback *callback, void *user,
                             struct duet_error *reterr)
{
    ENSURE(c->magic == MAGIC);
    struct session_operation own = *op;
    pthread_mutex_lock(&c->lock);
    enum status s =
        submit_locked(c, &own, timeout_ms, nowait || client_is_own_thread(c), callback, user);
    pthread_mutex_unlock(&c->lock);
    return s == STATUS_OK ? DUET_OK : explain_untaken(s, reterr);
}

enum duet_read client_read(const struct duet_client *c)
{
    return c->options.read; /* fixed at the opening */
}

/* ---- Out ---- */

static enum duet_read read_of(uint32_t flags)
{
    if ((flags & ANSWER_ANY) != 0)
        return DUET_READ_ANY;
    return (flags & ANSWER_CONFIRMED) != 0 ? DUET_READ_CONFIRM : DUET_READ_LINEARIZABLE;
}

static void deliver(struct duet_client *c, const struct session_completion *done)
{
    struct waiting *waiting = done->user;
    struct duet_result result = {
        .code = (enum duet_code)done->status,
        .flags = done->status == STATUS_OK ? 0 : fault_flags(done->status, done->flags),
        .copies = (done->flags & ANSWER_COPIES_MASK) >> ANSWER_COPIES_SHIFT,
        .has_value = (done->flags & ANSWER_VALUE) != 0,
        .read = read_of(done->flags),
        .version = {done->version.epoch, done->version.seq},
        .id = {session_client_id(c->session), done->seq},
        .value = {done->value.data, done->value.size},
    };
    if (waiting->callback != NULL)
        waiting->callback(&result, waiting->user);
    pthread_mutex_lock(&c->lock);
    give_waiting(c, waiting);
    pthread_mutex_unlock(&c->lock);
}

static void send_frame(struct duet_client *c, uint32_t router, struct buffer *frame)
{
    if (c->links[router] == NULL || link_send(c->links[router], NULL, frame) != STATUS_OK)
        c->lost[router] = true;
    c->look[router] = true;
}

static void close_link(struct duet_client *c, uint32_t i)
{
    if (c->links[i] != NULL && c->by_caller)
        watch_remove(&c->watch, link_fd(c->links[i]));
    link_destroy(&c->links[i]);
}

/* Leaves NULL when it cannot be, and says why. */
static void open_link(struct duet_client *c, uint32_t i, struct error *reterr)
{
    c->links[i] = link_connect(c->context, LINK_CLIENT, c->options.routers[i], reterr);
    if (c->links[i] == NULL || !c->by_caller || watch_add(&c->watch, i, link_fd(c->links[i])))
        return;
    link_destroy(&c->links[i]);
    error_set(reterr, STATUS_NOMEMORY, "the kernel cannot watch one more descriptor");
}

static void reset_link(struct duet_client *c, uint32_t i)
{
    close_link(c, i);
    open_link(c, i, NULL);
    c->connected[i] = false;
    c->look[i] = true;
}

/* Carry out what the session wants; without the lock. */
static void carry_out(struct duet_client *c)
{
    for (size_t i = 0; i < c->effects.count; i++) {
        struct session_effect *effect = &c->effects.items[i];
        switch (effect->kind) {
        case SESSION_SEND:
            send_frame(c, effect->router, &effect->frame);
            break;
        case SESSION_RESET:
            reset_link(c, effect->router);
            break;
        case SESSION_COMPLETED:
            deliver(c, &effect->completion);
            break;
        }
    }
    session_effects_clear(&c->effects);
}

/* ---- The thread ---- */

/* Tell the session when the link has changed. */
static void mind_link(struct duet_client *c, uint32_t i)
{
    struct link_events now = {0};
    if (c->links[i] != NULL)
        now = link_look(c->links[i]);
    bool connected = now.connected && !c->lost[i];
    /* What came since receive() found nothing: this look has swallowed its edge. And when only a
     * send failed, the session hears now that the link is gone and next that it is back. */
    c->look[i] = c->look[i] || now.readable || c->lost[i];
    c->lost[i] = false;
    if (connected == c->connected[i])
        return;
    c->connected[i] = connected;
    pthread_mutex_lock(&c->lock);
    session_router_connected(c->session, clock_now_ms(), i, connected, &c->effects);
    pthread_mutex_unlock(&c->lock);
    carry_out(c);
}

static void receive(struct duet_client *c, uint32_t i)
{
    struct link_peer peer;
    struct bytes frame;
    for (int n = 0; n < BURST; n++) {
        enum status s =
            c->links[i] != NULL ? link_recv(c->links[i], &peer, &frame) : STATUS_NOTFOUND;
        if (s == STATUS_NOTFOUND)
            return;
        if (s != STATUS_OK)
            continue;
        pthread_mutex_lock(&c->lock);
        session_message(c->session, clock_now_ms(), i, frame, &c->effects);
        pthread_mutex_unlock(&c->lock);
        carry_out(c);
    }
    c->look[i] = true;
}

/* Every empty look into a ZeroMQ socket costs a system call, so look only where there is a reason.
 */
static void look_at_links(struct duet_client *c)
{
    for (uint32_t i = 0; i < c->options.routers_count; i++) {
        if (c->links[i] == NULL)
            reset_link(c, i);
        if (!c->look[i])
            continue;
        c->look[i] = false;
        receive(c, i);
        mind_link(c, i);
    }
}

static bool to_look(const struct duet_client *c)
{
    bool look = false;
    for (uint32_t i = 0; i < c->options.routers_count; i++)
        look = look || (c->look[i] && c->links[i] != NULL);
    return look;
}

/* -1: until something comes. */
static int sleep_ms(const struct duet_client *c, uint64_t now_ms, uint64_t deadline_ms)
{
    uint64_t wait_ms = deadline_ms == UINT64_MAX ? UINT64_MAX
                       : deadline_ms > now_ms    ? deadline_ms - now_ms
                                                 : 0;
    for (uint32_t i = 0; i < c->options.routers_count; i++)
        if (c->links[i] == NULL && wait_ms > LINK_RETRY_MS)
            wait_ms = LINK_RETRY_MS;
    if (wait_ms == UINT64_MAX)
        return -1;
    return wait_ms < INT_MAX ? (int)wait_ms : INT_MAX;
}

/* Returns for how many ms the thread may sleep. */
static int step(struct duet_client *c)
{
    pthread_mutex_lock(&c->lock);
    uint64_t now_ms = clock_now_ms();
    c->fresh = false;
    session_tick(c->session, now_ms, &c->effects);
    session_flush(c->session, now_ms, &c->effects);
    pthread_mutex_unlock(&c->lock);
    carry_out(c);
    bool again = to_look(c);
    pthread_mutex_lock(&c->lock);
    /* A callback may have submitted; what it submitted leaves before anybody sleeps. */
    again = again || c->stopping || c->fresh;
    c->asleep = !again;
    uint64_t deadline_ms = session_deadline(c->session);
    if (c->watchers > 0)
        pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return again ? 0 : sleep_ms(c, now_ms, deadline_ms);
}

static void sleep_until(struct duet_client *c, int wait_ms)
{
    struct pollfd fds[1 + SESSION_ROUTERS_MAX] = {{.fd = c->wake_fd, .events = POLLIN}};
    uint32_t count = c->options.routers_count;
    for (uint32_t i = 0; i < count; i++)
        fds[1 + i] = (struct pollfd){.fd = c->links[i] == NULL ? -1 : link_fd(c->links[i]),
                                     .events = POLLIN};
    if (wait_ms != 0)
        poll(fds, 1 + count, wait_ms);
    for (uint32_t i = 0; i < count; i++)
        c->look[i] = c->look[i] || fds[1 + i].revents != 0;
    pthread_mutex_lock(&c->lock);
    c->asleep = false;
    pthread_mutex_unlock(&c->lock);
    uint64_t ignored;
    if ((fds[0].revents & POLLIN) != 0 && read(c->wake_fd, &ignored, sizeof ignored) < 0)
        ENSURE(errno == EAGAIN || errno == EINTR);
}

/* The end of time: every operation's deadline has come. */
static void complete_all(struct duet_client *c)
{
    pthread_mutex_lock(&c->lock);
    session_tick(c->session, UINT64_MAX / 2, &c->effects);
    pthread_mutex_unlock(&c->lock);
    carry_out(c);
}

static void *client_main(void *arg)
{
    struct duet_client *c = arg;
    ENSURE(c->magic == MAGIC);
    own_client = c;
    for (;;) {
        look_at_links(c);
        int wait_ms = step(c);
        pthread_mutex_lock(&c->lock);
        bool stopping = c->stopping;
        pthread_mutex_unlock(&c->lock);
        if (stopping)
            break;
        sleep_until(c, wait_ms);
    }
    complete_all(c);
    return NULL;
}

/* ---- Without a thread: the caller's loop ---- */

int duet_client_fd(const struct duet_client *c)
{
    ENSURE(c->magic == MAGIC);
    return c->by_caller ? c->watch.epoll_fd : -1;
}

enum duet_code duet_client_dispatch(struct duet_client *c, struct duet_error *reterr)
{
    ENSURE(c->magic == MAGIC);
    if (!c->by_caller)
        return fault_set(reterr, DUET_USAGE,
                         "this client has a thread of its own (option loop = thread)");
    if (own_client == c)
        return fault_set(reterr, DUET_USAGE, "dispatch inside of a callback");
    /* Another client's callback may have called us. */
    const struct duet_client *outer = own_client;
    own_client = c;
    uint64_t ready = watch_take(&c->watch);
    for (uint32_t i = 0; i < c->options.routers_count; i++)
        c->look[i] = c->look[i] || (ready >> i & 1) != 0;
    pthread_mutex_lock(&c->lock);
    c->asleep = false;
    pthread_mutex_unlock(&c->lock);
    look_at_links(c);
    watch_arm(&c->watch, step(c));
    own_client = outer;
    return DUET_OK;
}

static bool init_watch(struct duet_client *c)
{
    c->by_caller = c->options.by_caller;
    if (!c->by_caller)
        return true;
    bool made = watch_init(&c->watch, c->wake_fd);
    if (made)
        watch_arm(&c->watch, 0);
    return made;
}

/* ---- Life ---- */

static bool init_waits(struct duet_client *c)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    for (size_t i = WAITINGS_MAX; i-- > 0;) {
        c->waitings[i].next = c->free_waitings;
        c->free_waitings = &c->waitings[i];
    }
    c->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return c->wake_fd >= 0 && init_watch(c);
}

/* The host's signals are not for our thread. */
static bool start_thread(struct duet_client *c)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    c->started = pthread_create(&c->thread, NULL, client_main, c) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return c->started;
}

/* Connecting begins here so that an address that cannot be is told at once. */
static bool connect_links(struct duet_client *c, struct duet_error *reterr)
{
    struct error e;
    c->context = link_context_new(1, true);
    if (c->context == NULL) {
        fault_set(reterr, DUET_NOMEMORY, "cannot create a ZeroMQ context");
        return false;
    }
    for (uint32_t i = 0; i < c->options.routers_count; i++) {
        open_link(c, i, &e);
        if (c->links[i] == NULL) {
            fault_set(reterr, (enum duet_code)e.status, "%s", e.message);
            return false;
        }
    }
    return true;
}

static bool create_session(struct duet_client *c)
{
    struct session_options options = {
        .client_id = clock_random64(),
        .seed = clock_random64(),
        .timeout_ms = c->options.timeout_ms,
        .window = c->options.window,
        .routers_count = c->options.routers_count,
        .name = c->options.name,
    };
    c->session = session_new(&options);
    return c->session != NULL && session_effects_init(&c->effects) == STATUS_OK;
}

struct duet_client *duet_open(const struct duet_options *options, struct duet_error *reterr)
{
    struct duet_client *c = calloc(1, sizeof *c);
    if (c == NULL) {
        fault_set(reterr, DUET_NOMEMORY, "out of memory");
        return NULL;
    }
    c->magic = MAGIC;
    memset(c->look, true, sizeof c->look);
    if (options != NULL)
        c->options = *options;
    else
        options_default(&c->options);
    bool waits = init_waits(c);
    if (waits && connect_links(c, reterr)) {
        if (create_session(c) && (c->by_caller || start_thread(c)))
            return c;
        fault_set(reterr, DUET_NOMEMORY, "cannot start the client's thread");
    } else if (!waits) {
        fault_set(reterr, DUET_NOMEMORY, "too many open files");
    }
    duet_close(&c);
    return NULL;
}

static void stop_thread(struct duet_client *c)
{
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    wake(c);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
}

/* Complete what is outstanding; from now on nobody calls back. */
static void end_turns(struct duet_client *c)
{
    if (c->started)
        stop_thread(c);
    if (!c->by_caller || c->effects.items == NULL)
        return;
    const struct duet_client *outer = own_client;
    own_client = c;
    complete_all(c);
    own_client = outer;
}

void duet_close(struct duet_client **client_p)
{
    if (client_p == NULL || *client_p == NULL)
        return;
    struct duet_client *c = *client_p;
    ENSURE(c->magic == MAGIC);
    if (own_client == c)
        return;
    end_turns(c);
    for (uint32_t i = 0; i < c->options.routers_count; i++)
        close_link(c, i);
    link_context_destroy(&c->context);
    session_destroy(&c->session);
    session_effects_fini(&c->effects);
    if (c->by_caller)
        watch_fini(&c->watch);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    c->magic = 0;
    free(c);
    *client_p = NULL;
}

/* ---- Waiting for the client as a whole ---- */

static struct timespec time_after(uint32_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(ms / 1000);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

enum duet_code client_refuse_wait(struct duet_error *reterr)
{
    return fault_set(reterr, DUET_USAGE,
                     "a call that waits, inside of a callback or on a client without a thread "
                     "(option loop = caller); use duet_submit() there");
}

static bool is_ready(const struct duet_client *c)
{
    return session_ready(c->session);
}

static bool is_idle(const struct duet_client *c)
{
    return c->outstanding == 0;
}

static bool wait_until(struct duet_client *c, uint32_t timeout_ms,
                       bool (*reached)(const struct duet_client *))
{
    struct timespec end = time_after(timeout_ms);
    int error = 0;
    pthread_mutex_lock(&c->lock);
    c->watchers++;
    while (!reached(c) && error == 0)
        error = pthread_cond_timedwait(&c->changed, &c->lock, &end);
    bool is = reached(c);
    c->watchers--;
    pthread_mutex_unlock(&c->lock);
    return is;
}

enum duet_code duet_connect(struct duet_client *c, uint32_t timeout_ms, struct duet_error *reterr)
{
    ENSURE(c->magic == MAGIC);
    if (client_is_own_thread(c))
        return client_refuse_wait(reterr);
    if (wait_until(c, timeout_ms, is_ready))
        return DUET_OK;
    return client_explain(c, DUET_NOCONNECTION, DUET_RETRYABLE, reterr);
}

enum duet_code duet_drain(struct duet_client *c, uint32_t timeout_ms, struct duet_error *reterr)
{
    ENSURE(c->magic == MAGIC);
    if (client_is_own_thread(c))
        return client_refuse_wait(reterr);
    if (wait_until(c, timeout_ms, is_idle))
        return DUET_OK;
    return fault_set(reterr, DUET_TIMEOUT, "operations are still outstanding after %u ms",
                     timeout_ms);
}

void duet_client_info(struct duet_client *c, struct duet_client_info *ret)
{
    ENSURE(c->magic == MAGIC);
    pthread_mutex_lock(&c->lock);
    const struct session_counters *counters = session_counters(c->session);
    *ret = (struct duet_client_info){
        .connected = session_ready(c->session),
        .client_id = session_client_id(c->session),
        .pending = session_pending(c->session),
        .submitted = counters->submitted,
        .completed = counters->completed,
        .retries = counters->retries,
        .failovers = counters->failovers,
    };
    snprintf(ret->router, sizeof ret->router, "%s", c->options.routers[session_router(c->session)]);
    pthread_mutex_unlock(&c->lock);
}

/* ---- Words ---- */

/* All routers, as far as they fit. */
static void list_routers(const struct duet_client *c, char *to, size_t size)
{
    size_t used = 0;
    to[0] = 0;
    for (uint32_t i = 0; i < c->options.routers_count && used < size; i++)
        used += (size_t)snprintf(to + used, size - used, "%s%s", i > 0 ? ", " : "",
                                 c->options.routers[i]);
}

static void explain_connection(struct duet_client *c, struct duet_error *reterr)
{
    char routers[128];
    list_routers(c, routers, sizeof routers);
    pthread_mutex_lock(&c->lock);
    struct error refusal = *session_last_refusal(c->session);
    pthread_mutex_unlock(&c->lock);
    if (refusal.status != STATUS_OK)
        fault_set(reterr, DUET_NOCONNECTION, "%s refuses: %.100s; is that a router's address?",
                  routers, refusal.message);
    else
        fault_set(reterr, DUET_NOCONNECTION,
                  "no router answers at %s; is one running there, and is the address right?",
                  routers);
}

static void explain_size(struct duet_client *c, struct duet_error *reterr)
{
    pthread_mutex_lock(&c->lock);
    uint32_t value_size_max = session_value_size_max(c->session);
    pthread_mutex_unlock(&c->lock);
    fault_set(
        reterr, DUET_TOOBIG,
        "key or value is too large: this cluster takes keys of up to %d bytes and values of up "
        "to %u",
        KEY_SIZE_MAX, value_size_max);
}

enum duet_code client_explain(struct duet_client *c, enum duet_code code, uint32_t flags,
                              struct duet_error *reterr)
{
    if (reterr == NULL)
        return code;
    if (code == DUET_NOCONNECTION)
        explain_connection(c, reterr);
    else if (code == DUET_TOOBIG)
        explain_size(c, reterr);
    else if (code == DUET_INDOUBT)
        fault_set(reterr, code,
                  "no answer before the deadline: the write may or may not have happened; read the "
                  "key, or ask for the outcome of the write's id");
    else if (code == DUET_UNAVAILABLE)
        fault_set(reterr, code,
                  "a copy that is needed does not answer; `duet status` shows which node is down");
    else
        fault_set(reterr, code, "%s", duet_code_text(code));
    reterr->flags = flags;
    return code;
}
