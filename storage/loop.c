#include "storage/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <uthash.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "proto/base/logline.h"
#include "proto/base/notify.h"
#include "proto/link.h"
#include "storage/checkpoint.h"
#include "storage/fetch.h"
#include "storage/map_file.h"
#include "storage/sync.h"

#define DRAIN_MAX 256         /* messages taken from one socket before the others have a turn */
#define SOURCES_SWEEP_MS 60000u
#define SOURCE_IDLE_MS 600000u
#define DISK_STALL_MS 1000u /* a group that is written for so long: the disk stands still */
#define LINGER_MS 500u
#define SPACE_CHECK_MS 50u /* often: a small disk fills between two looks */
#define MIB ((uint64_t)1 << 20)

/* A connection to our requests socket, under the number that the core knows it by. */
struct source {
    struct link_peer peer;
    uint64_t id;
    uint64_t used_ms;
    uint64_t complained_ms; /* when a malformed message of it was logged last */
    UT_hash_handle by_peer, by_id;
};

struct lane_links {
    struct link *control, *append;
    char address[ADDRESS_SIZE_MAX]; /* of the node, when they were made */
};

struct loop {
    struct loop_parts p;
    struct link_context *context;
    struct link *requests, *peers;
    struct lane_links *to_peer; /* by node index; NULL links where there is nothing to say */
    struct source *by_peer, *by_id;
    uint64_t sources_drawn;
    uint64_t map_version;   /* of the map that the links were made by */
    uint64_t nodes_version; /* of the map that was saved */

    int epoll_fd, sync_fd, checkpoint_fd, fetch_fd;
    struct sync *sync;
    struct checkpointer *checkpointer;
    struct fetch *fetch;
    bool requests_ready, peers_ready;               /* there may be a message */
    bool sync_ready, checkpoint_ready, fetch_ready; /* the thread has notified */
    bool checkpointing, space_low, asked_to_stop, stopping;
    uint64_t leave_by_ms; /* 0: nobody has asked us to stop */
    uint64_t linger_ms;   /* we have left; until then routers may still come */
    uint64_t space_due_ms, sweep_due_ms;

    struct node_effects effects;
    struct node_time now;
    enum status failed;
    const char *failed_at;
};

/* ------------------------------------------------------------------ time and failure */

static void clock_turn(struct loop *l)
{
    l->now = (struct node_time){clock_now_ms(), clock_wall_ms()};
}

/* The first failure ends the loop: nothing is sent after it. */
static void check(struct loop *l, enum status status, const char *at)
{
    if (status == STATUS_OK || l->failed != STATUS_OK)
        return;
    l->failed = status;
    l->failed_at = at;
}

static void step(struct loop *l, const struct node_event *event)
{
    if (l->failed == STATUS_OK)
        check(l, node_step(l->p.node, &l->now, event, &l->effects), "node");
}

/* ------------------------------------------------------------------ sources */

static struct source *source_of(struct loop *l, const struct link_peer *peer)
{
    struct source *s;
    HASH_FIND(by_peer, l->by_peer, peer, sizeof *peer, s);
    if (s == NULL) {
        s = calloc(1, sizeof *s);
        if (s == NULL)
            return NULL;
        s->peer = *peer;
        s->id = ++l->sources_drawn;
        HASH_ADD(by_peer, l->by_peer, peer, sizeof s->peer, s);
        HASH_ADD(by_id, l->by_id, id, sizeof s->id, s);
    }
    s->used_ms = l->now.now_ms;
    return s;
}

static void source_forget(struct loop *l, struct source *s)
{
    struct node_event gone = {.kind = NODE_SOURCE_GONE, .source = s->id};
    step(l, &gone);
    HASH_DELETE(by_peer, l->by_peer, s);
    HASH_DELETE(by_id, l->by_id, s);
    free(s);
}

static void sources_sweep(struct loop *l)
{
    struct source *s, *next;
    HASH_ITER(by_id, l->by_id, s, next)
    {
        if (l->now.now_ms >= s->used_ms + SOURCE_IDLE_MS)
            source_forget(l, s);
    }
    l->sweep_due_ms = l->now.now_ms + SOURCES_SWEEP_MS;
}

/* ------------------------------------------------------------------ receiving */

static void complain(struct loop *l, struct source *s)
{
    if (s->complained_ms != 0 && l->now.now_ms < s->complained_ms + 60000)
        return;
    s->complained_ms = l->now.now_ms;
    logline(LOGLINE_WARN, "message_malformed", "source=%llu", (unsigned long long)s->id);
}

/* Returns whether there may be more. */
static bool receive_requests(struct loop *l)
{
    struct link_peer peer;
    struct node_event event = {.kind = NODE_REQUEST};
    for (int i = 0; i < DRAIN_MAX; i++) {
        enum status status = link_recv(l->requests, &peer, &event.frame);
        if (status == STATUS_NOTFOUND)
            return false;
        struct source *s = source_of(l, &peer);
        if (s == NULL)
            continue;
        event.source = s->id;
        clock_turn(l); /* whether a lease still holds is judged after the request came (R4) */
        if (status == STATUS_MALFORMED) {
            complain(l, s);
            event.frame = BYTES_EMPTY; /* the core counts it and answers REFUSED */
        }
        step(l, &event);
    }
    return true;
}

static bool receive_peers(struct loop *l)
{
    struct link_peer peer;
    struct node_event event = {.kind = NODE_PEER};
    for (int i = 0; i < DRAIN_MAX; i++) {
        enum status status = link_recv(l->peers, &peer, &event.frame);
        if (status == STATUS_NOTFOUND)
            return false;
        if (status == STATUS_MALFORMED)
            event.frame = BYTES_EMPTY;
        step(l, &event);
    }
    return true;
}

/* ------------------------------------------------------------------ threads' answers */

/* Has the thread behind fd notified? Only epoll is asked: every look costs a system call. */
static bool notified(bool *ready, int fd)
{
    uint64_t count;
    if (!*ready)
        return false;
    *ready = false;
    ssize_t got = read(fd, &count, sizeof count);
    (void)got; /* non-blocking: nothing there is fine */
    return true;
}

static void take_sync(struct loop *l)
{
    struct log_group *group;
    if (!notified(&l->sync_ready, l->sync_fd))
        return;
    enum status status = sync_ended(l->sync, &group);
    if (status == STATUS_NOTFOUND)
        return;
    check(l, status, "log");
    if (status != STATUS_OK)
        return;
    log_group_done(l->p.log, group);
    struct node_event event = {.kind = NODE_DURABLE, .lsn = log_durable_lsn(l->p.log)};
    step(l, &event);
}

static void take_checkpoint(struct loop *l)
{
    uint64_t lsn;
    if (!notified(&l->checkpoint_ready, l->checkpoint_fd))
        return;
    enum status status = checkpointer_ended(l->checkpointer, &lsn);
    if (status == STATUS_NOTFOUND)
        return;
    check(l, status, "checkpoint");
    if (status != STATUS_OK)
        return;
    store_thaw(l->p.store);
    log_release(l->p.log, lsn);
    l->checkpointing = false;
    logline(LOGLINE_INFO, "checkpoint_ended", "lsn=%llu", (unsigned long long)lsn);
}

static void take_fetches(struct loop *l)
{
    struct fetch_answer answer;
    if (!notified(&l->fetch_ready, l->fetch_fd))
        return;
    while (l->failed == STATUS_OK && fetch_take(l->fetch, &answer) == STATUS_OK) {
        check(l, answer.status, "table");
        struct node_event event = {.kind = NODE_FETCHED,
                                   .ticket = answer.ticket,
                                   .generation = answer.generation,
                                   .item = &answer.item};
        step(l, &event);
        fetch_answer_fini(&answer);
    }
}

/* ------------------------------------------------------------------ effects */

static void send_source(struct loop *l, struct node_effect *e)
{
    struct source *s;
    HASH_FIND(by_id, l->by_id, &e->source, sizeof e->source, s);
    if (s != NULL && link_send(l->requests, &s->peer, &e->frame) == STATUS_NOCONNECTION)
        source_forget(l, s);
}

static void send_peer(struct loop *l, struct node_effect *e)
{
    const struct lane_links *links = &l->to_peer[e->peer];
    struct link *link = e->lane == LANE_CONTROL ? links->control : links->append;
    if (link != NULL)
        link_send(link, NULL, &e->frame); /* dropped while not connected: the core sends again */
}

/* The queue has room for every operation that may wait in the node. */
static void submit_fetch(struct loop *l, const struct node_effect *e)
{
    struct fetch_request request = {.ticket = e->ticket,
                                    .generation = e->generation,
                                    .slot = e->slot,
                                    .digest = e->digest,
                                    .key = buffer_view(&e->frame)};
    if (fetch_submit(l->fetch, &request) != STATUS_OK)
        check(l, STATUS_NOMEMORY, "fetch");
}

static void log_effects(struct loop *l)
{
    struct node_effects *out = &l->effects;
    if (out->records_count > 0)
        check(l,
              log_append(l->p.log, out->records_first, out->records_count,
                         buffer_view(&out->records)),
              "log");
    buffer_clear(&out->records);
    out->records_count = 0;
}

static void submit_group(struct loop *l)
{
    struct log_group *group = log_group_take(l->p.log);
    if (group != NULL)
        sync_submit(l->sync, group);
}

/* Records go to the log first, so that the disk works while messages travel. */
static void carry_out(struct loop *l)
{
    log_effects(l);
    if (l->failed != STATUS_OK)
        return;
    submit_group(l);
    for (size_t i = 0; i < l->effects.count; i++) {
        struct node_effect *e = &l->effects.list[i];
        if (e->kind == NODE_SEND_SOURCE)
            send_source(l, e);
        else if (e->kind == NODE_SEND_PEER)
            send_peer(l, e);
        else
            submit_fetch(l, e);
    }
    node_effects_clear(&l->effects);
}

/* ------------------------------------------------------------------ links to other nodes */

/* "tcp://HOST:PORT" with PORT + add. */
static void address_add(char to[static ADDRESS_SIZE_MAX + 8], const char *address, unsigned add)
{
    const char *colon = strrchr(address, ':');
    ENSURE(colon != NULL);
    snprintf(to, ADDRESS_SIZE_MAX + 8, "%.*s:%lu", (int)(colon - address), address,
             strtoul(colon + 1, NULL, 10) + add);
}

/* Where node index listens has changed, or is not known here yet. */
static enum status connect_node(struct loop *l, uint32_t index, struct error *reterr)
{
    struct lane_links *links = &l->to_peer[index];
    const char *address = l->p.map->nodes[index].address;
    char peers[ADDRESS_SIZE_MAX + 8];
    link_destroy(&links->control);
    link_destroy(&links->append);
    snprintf(links->address, sizeof links->address, "%s", address);
    if (!clustermap_address_good(address))
        return error_set(reterr, STATUS_NOCONNECTION, "'%s' is not an address", address);
    address_add(peers, address, 1);
    links->control = link_connect(l->context, LINK_NODE_TO_NODE, peers, reterr);
    if (links->control == NULL)
        return STATUS_NOCONNECTION;
    links->append = link_connect(l->context, LINK_NODE_TO_NODE, peers, reterr);
    return links->append == NULL ? STATUS_NOCONNECTION : STATUS_OK;
}

/* To each node that there is anything to say to. One that fails does not keep back the others. */
static enum status connect_links(struct loop *l, struct error *reterr)
{
    enum status worst = STATUS_OK;
    for (uint32_t i = 0; i < l->p.map->nodes_count; i++) {
        if (i == l->p.index || !node_talks_to(l->p.node, i) ||
            strcmp(l->to_peer[i].address, l->p.map->nodes[i].address) == 0)
            continue;
        enum status status = connect_node(l, i, reterr);
        worst = status == STATUS_OK ? worst : status;
    }
    return worst;
}

/* ------------------------------------------------------------------ care */

static void start_checkpoint(struct loop *l)
{
    struct checkpoint c = {0};
    c.frozen = store_freeze(l->p.store);
    if (c.frozen == NULL)
        return;
    check(l, node_freeze(l->p.node, &c, &l->effects), "checkpoint");
    log_effects(l);
    if (l->failed != STATUS_OK) {
        checkpoint_fini(&c);
        return;
    }
    logline(LOGLINE_INFO, "checkpoint_began", "lsn=%llu entries=%llu", (unsigned long long)c.lsn,
            (unsigned long long)overlay_count(c.frozen));
    l->checkpointing = true;
    checkpointer_start(l->checkpointer, &c);
}

static void care_for_checkpoint(struct loop *l)
{
    bool due = store_checkpoint_due(l->p.store) ||
               log_replay_size(l->p.log) > l->p.options->replay_max * MIB;
    if (due && !l->checkpointing)
        start_checkpoint(l);
}

/* A table that may not stay in memory is read by threads, so that no page fault stalls the loop. */
static void care_for_table(struct loop *l)
{
    uint64_t rows, bytes, memory = l->p.options->memory * MIB;
    if (memory == 0)
        memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    l->p.table->verbs->count(l->p.table, &rows, &bytes);
    store_set_inline_reads(l->p.store, bytes < memory / 2);
}

static void care_for_space(struct loop *l)
{
    l->space_due_ms = l->now.now_ms + SPACE_CHECK_MS;
    check(l, log_space_check(l->p.log), "log");
    bool low = log_space_low(l->p.log);
    if (low == l->space_low)
        return;
    l->space_low = low;
    struct node_event event = {.kind = NODE_SPACE, .low = low};
    step(l, &event);
    if (low)
        logline(LOGLINE_ERROR, "disk_nearly_full", "writes=refused");
    else
        logline(LOGLINE_INFO, "disk_has_room", "writes=taken");
    notify_status(low ? "writes are refused, the disk is nearly full" : "serving");
}

/* What another start needs to find the cluster: who is in it, and where. Who leads what it hears. */
static void save_map(struct loop *l)
{
    uint64_t version = clustermap_nodes_version(l->p.map);
    struct error error;
    if (version == l->nodes_version)
        return;
    enum status status = map_file_save(l->p.disk, l->p.map, &error);
    check(l, status, "map");
    l->nodes_version = version;
    if (status == STATUS_OK)
        logline(LOGLINE_INFO, "membership", "nodes=%u voters=%u changing=%s",
                l->p.map->nodes_count, l->p.map->voters.count,
                l->p.map->voters.next_count > 0 ? "true" : "false");
}

static void care_for_map(struct loop *l)
{
    struct error error;
    if (l->p.map->version == l->map_version)
        return;
    l->map_version = l->p.map->version;
    if (connect_links(l, &error) != STATUS_OK)
        logline(LOGLINE_WARN, "connect_failed", "error=\"%s\"", error.message);
    save_map(l);
}

static void care(struct loop *l)
{
    care_for_map(l);
    care_for_checkpoint(l);
    if (l->now.now_ms >= l->space_due_ms) {
        care_for_space(l);
        care_for_table(l);
    }
    if (l->now.now_ms >= l->sweep_due_ms)
        sources_sweep(l);
}

/* ------------------------------------------------------------------ turns */

static void wait(struct loop *l)
{
    struct epoll_event events[8];
    l->requests_ready = l->requests_ready || link_readable(l->requests);
    l->peers_ready = l->peers_ready || link_readable(l->peers);
    bool more = l->requests_ready || l->peers_ready;
    uint64_t due = node_deadline(l->p.node);
    if (l->space_due_ms < due)
        due = l->space_due_ms;
    uint64_t now = clock_now_ms();
    int timeout = more || due <= now ? 0 : (int)(due - now > 1000 ? 1000 : due - now);
    int count = epoll_wait(l->epoll_fd, events, 8, timeout);
    ENSURE(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; i++) {
        int fd = events[i].data.fd;
        l->asked_to_stop = l->asked_to_stop || fd == l->p.signal_fd;
        l->requests_ready = l->requests_ready || fd == link_fd(l->requests);
        l->peers_ready = l->peers_ready || fd == link_fd(l->peers);
        l->sync_ready = l->sync_ready || fd == l->sync_fd;
        l->checkpoint_ready = l->checkpoint_ready || fd == l->checkpoint_fd;
        l->fetch_ready = l->fetch_ready || fd == l->fetch_fd;
    }
}

static void leave(struct loop *l)
{
    struct signalfd_siginfo info;
    struct node_event event = {.kind = NODE_LEAVE};
    l->asked_to_stop = false;
    if (read(l->p.signal_fd, &info, sizeof info) != sizeof info)
        return;
    l->stopping = l->leave_by_ms != 0 || l->p.options->leave == 0;
    if (l->leave_by_ms == 0)
        step(l, &event);
    l->leave_by_ms = l->now.now_ms + l->p.options->leave;
    notify_stopping();
    logline(LOGLINE_INFO, "leaving", "limit_ms=%llu", (unsigned long long)l->p.options->leave);
}

/* Routers hear by our answers, and by the map, that others serve now: they get some time for it. */
static void consider_stop(struct loop *l)
{
    if (l->leave_by_ms == 0)
        return;
    if (!node_left(l->p.node))
        l->linger_ms = 0;
    else if (l->linger_ms == 0)
        l->linger_ms = l->now.now_ms + LINGER_MS;
    l->stopping = l->stopping || l->now.now_ms >= l->leave_by_ms ||
                  (l->linger_ms != 0 && l->now.now_ms >= l->linger_ms);
}

static void turn(struct loop *l)
{
    clock_turn(l);
    if (l->asked_to_stop)
        leave(l);
    consider_stop(l);
    take_sync(l);
    l->peers_ready = l->peers_ready && receive_peers(l);
    l->requests_ready = l->requests_ready && receive_requests(l);
    take_fetches(l);
    take_checkpoint(l);
    if (l->failed == STATUS_OK)
        check(l, node_flush(l->p.node, &l->now, &l->effects), "node");
    if (l->failed == STATUS_OK)
        care(l);
    if (l->failed == STATUS_OK)
        carry_out(l);
}

/* A turn counts for the watchdog only while the disk does its part: the supervisor's time is the
 * longest stall that is borne. */
static void feed_watchdog(const struct loop *l)
{
    uint64_t since_ms = sync_busy_since_ms(l->sync);
    if (since_ms == 0 || l->now.now_ms < since_ms + DISK_STALL_MS)
        notify_turn(l->now.now_ms);
}

/* Write what is left, with a CLOSE behind it, so that the next start finds the log whole. */
static enum status close_log(struct loop *l)
{
    struct node_effects *out = &l->effects;
    struct buffer close;
    buffer_init(&close, 256);
    while (l->failed == STATUS_OK && log_durable_lsn(l->p.log) + 1 < log_next_lsn(l->p.log)) {
        submit_group(l);
        usleep(100);
        clock_turn(l);
        l->sync_ready = true; /* epoll is not asked any more */
        take_sync(l);
        log_effects(l);
        node_effects_clear(out);
        feed_watchdog(l);
    }
    sync_destroy(&l->sync); /* from here on this thread writes; that one may be preparing a segment */
    check(l, node_note_commits(l->p.node, out), "node");
    log_effects(l);
    check(l, record_append(&close, RECORD_CLOSE, 0, BYTES_EMPTY), "log");
    if (l->failed == STATUS_OK)
        check(l, log_append(l->p.log, log_next_lsn(l->p.log), 1, buffer_view(&close)), "log");
    buffer_fini(&close);
    struct log_group *group;
    while (l->failed == STATUS_OK && (group = log_group_take(l->p.log)) != NULL) {
        check(l, log_group_write(l->p.log, group), "log");
        if (l->failed == STATUS_OK)
            log_group_done(l->p.log, group);
    }
    return l->failed;
}

enum status loop_run(struct loop *l, struct error *reterr)
{
    while (!l->stopping && l->failed == STATUS_OK) {
        wait(l);
        turn(l);
        feed_watchdog(l);
    }
    notify_stopping();
    if (l->failed == STATUS_OK && close_log(l) == STATUS_OK)
        return STATUS_OK;
    char lost[256];
    node_failure(l->p.node, lost);
    if (lost[0] != '\0')
        return error_set(reterr, l->failed, "%s", lost);
    return error_set(reterr, l->failed, "%s failed: %s; the process ends so that nothing is "
                     "acknowledged that is not safe", l->failed_at, status_text(l->failed));
}

/* ------------------------------------------------------------------ life */

static bool is_loopback(const char *address)
{
    return strncmp(address, "tcp://127.", 10) == 0 || strncmp(address, "tcp://localhost:", 16) == 0 ||
           strncmp(address, "tcp://[::1]:", 12) == 0;
}

static enum status bind_links(struct loop *l, struct error *reterr)
{
    const char *address = l->p.address;
    char peers[ADDRESS_SIZE_MAX + 8];
    if (!is_loopback(address) && !l->p.options->insecure)
        return error_set(reterr, STATUS_CONFIG,
                         "%s is not a loopback address and nothing protects it; use one of "
                         "127.0.0.0/8, or say --insecure if the network is yours alone",
                         address);
    address_add(peers, address, 1);
    l->requests = link_bind(l->context, LINK_NODE_REQUESTS, address, reterr);
    if (l->requests != NULL)
        l->peers = link_bind(l->context, LINK_NODE_PEERS, peers, reterr);
    return l->peers != NULL ? STATUS_OK : STATUS_NOCONNECTION;
}

static void watch(struct loop *l, int fd, bool edge)
{
    struct epoll_event event = {.events = EPOLLIN | (edge ? (uint32_t)EPOLLET : 0), .data.fd = fd};
    ENSURE(epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
}

static enum status start_threads(struct loop *l, struct error *reterr)
{
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->sync_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    l->checkpoint_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    l->fetch_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->epoll_fd < 0 || l->sync_fd < 0 || l->checkpoint_fd < 0 || l->fetch_fd < 0)
        return error_set(reterr, STATUS_IO, "cannot make an eventfd: %s", strerror(errno));
    l->sync = sync_new(l->p.log, l->sync_fd);
    l->checkpointer = checkpointer_new(l->p.table, l->checkpoint_fd);
    l->fetch = fetch_new(l->p.table, (unsigned)l->p.options->fetch_threads,
                         (size_t)l->p.options->waiters + 1, l->fetch_fd);
    if (l->sync == NULL || l->checkpointer == NULL || l->fetch == NULL)
        return error_set(reterr, STATUS_NOMEMORY, "cannot start the log, checkpoint and fetch threads");
    return STATUS_OK;
}

static void watch_all(struct loop *l)
{
    watch(l, l->p.signal_fd, false);
    watch(l, l->sync_fd, false);
    watch(l, l->checkpoint_fd, false);
    watch(l, l->fetch_fd, false);
    watch(l, link_fd(l->requests), true);
    watch(l, link_fd(l->peers), true);
}

struct loop *loop_new(const struct loop_parts *parts, struct error *reterr)
{
    struct loop *l = calloc(1, sizeof *l);
    if (l == NULL) {
        error_set(reterr, STATUS_NOMEMORY, "out of memory");
        return NULL;
    }
    l->p = *parts;
    l->epoll_fd = l->sync_fd = l->checkpoint_fd = l->fetch_fd = -1;
    node_effects_init(&l->effects);
    l->context = link_context_new(1, false);
    l->to_peer = calloc(NODES_MAX, sizeof *l->to_peer);
    if (l->context == NULL)
        error_set(reterr, STATUS_IO, "cannot start ZeroMQ: %s", strerror(errno));
    if (l->to_peer == NULL)
        error_set(reterr, STATUS_NOMEMORY, "out of memory");
    if (l->context == NULL || l->to_peer == NULL || start_threads(l, reterr) != STATUS_OK ||
        bind_links(l, reterr) != STATUS_OK || connect_links(l, reterr) != STATUS_OK) {
        loop_destroy(&l);
        return NULL;
    }
    watch_all(l);
    return l;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void loop_destroy(struct loop **l_p)
{
    struct loop *l = *l_p;
    if (l == NULL)
        return;
    fetch_destroy(&l->fetch);
    checkpointer_destroy(&l->checkpointer);
    sync_destroy(&l->sync);
    for (uint32_t i = 0; l->to_peer != NULL && i < NODES_MAX; i++) {
        link_destroy(&l->to_peer[i].control);
        link_destroy(&l->to_peer[i].append);
    }
    free(l->to_peer);
    link_destroy(&l->requests);
    link_destroy(&l->peers);
    link_context_destroy(&l->context);
    struct source *s, *next;
    HASH_ITER(by_id, l->by_id, s, next)
    {
        HASH_DELETE(by_peer, l->by_peer, s);
        HASH_DELETE(by_id, l->by_id, s);
        free(s);
    }
    node_effects_fini(&l->effects);
    close_fd(l->epoll_fd);
    close_fd(l->sync_fd);
    close_fd(l->checkpoint_fd);
    close_fd(l->fetch_fd);
    free(l);
    *l_p = NULL;
}
