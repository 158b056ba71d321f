#include "router/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "proto/base/logline.h"
#include "proto/base/notify.h"
#include "proto/clustermap.h"
#include "proto/link.h"
#include "router/connections.h"
#include "router/coordinator.h"

#define DRAIN_MAX    256 /* messages taken from one socket before the others have a turn */
#define EVENTS_MAX   64
#define WAIT_MAX_MS  1000u
#define SWEEP_MS     60000u
#define COMPLAIN_MS  60000u /* one line per peer and minute about nonsense */
#define RECONNECT_MS 1000u  /* a DEALER that could not even be made is tried again so often */
#define MIB          ((uint64_t)1 << 20)

/* What epoll tells: one of these, or FD_NODES + the node's number. */
enum { FD_SIGNAL, FD_CLIENTS, FD_NODES };

struct node_link {
    struct link *link; /* NULL: could not be made, or not asked for yet */
    char address[ADDRESS_SIZE_MAX];
    bool connected;
    bool touched;           /* in the loop's list: it was sent to, or there may be news */
    bool ready;             /* there may be a message, or a change of the connection */
    uint64_t retry_ms;      /* when link is NULL and address is not empty */
    uint64_t complained_ms; /* when nonsense of it was last in the log; 0: never */
};

struct loop {
    const struct router_options *options;
    int signal_fd, epoll_fd;
    struct link_context *context;
    struct link *clients;
    bool clients_ready; /* there may be a message */
    struct connections *connections;
    struct coordinator *coordinator;
    struct effects effects;
    uint64_t now_ms, sweep_ms;
    bool stopping;

    struct node_link nodes[COORDINATOR_NODES_MAX];
    uint32_t nodes_count;
    uint32_t touched[COORDINATOR_NODES_MAX];
    uint32_t touched_count;
    bool retrying; /* a link could not be made */
};

/* ---- Nodes' links ----------------------------------------------------------------------------*/

static void watch(struct loop *l, int fd, uint32_t what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = what};
    ENSURE(epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
}

static void touch(struct loop *l, uint32_t node, bool ready)
{
    l->nodes[node].ready = l->nodes[node].ready || ready;
    if (l->nodes[node].touched)
        return;
    l->nodes[node].touched = true;
    l->touched[l->touched_count++] = node;
}

static void node_close(struct loop *l, uint32_t node)
{
    struct node_link *n = &l->nodes[node];
    n->connected = false;
    if (n->link == NULL)
        return;
    /* ZeroMQ closes the descriptor later, in another thread: forget it now. */
    ENSURE(epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, link_fd(n->link), NULL) == 0);
    link_destroy(&n->link);
}

static void node_open(struct loop *l, uint32_t node)
{
    struct node_link *n = &l->nodes[node];
    struct error error;
    n->link = link_connect(l->context, LINK_ROUTER_TO_NODE, n->address, &error);
    if (n->link == NULL) {
        logline(LOGLINE_ERROR, "connect_failed", "address=%s error=\"%s\"", n->address,
                error.message);
        n->retry_ms = l->now_ms + RECONNECT_MS;
        l->retrying = true;
        return;
    }
    watch(l, link_fd(n->link), FD_NODES + node);
    touch(l, node, true);
}

/* A new node, or the same one with a new DEALER. */
static void node_connect(struct loop *l, const struct effect *e)
{
    ENSURE(e->node < COORDINATOR_NODES_MAX);
    struct node_link *n = &l->nodes[e->node];
    if (e->node >= l->nodes_count)
        l->nodes_count = e->node + 1;
    node_close(l, e->node);
    memcpy(n->address, e->address, sizeof n->address);
    node_open(l, e->node);
}

static void retry_links(struct loop *l)
{
    l->retrying = false;
    for (uint32_t i = 0; i < l->nodes_count; i++) {
        if (l->nodes[i].link != NULL)
            continue;
        l->retrying = true;
        if (l->now_ms >= l->nodes[i].retry_ms)
            node_open(l, i);
    }
}

static void set_connected(struct loop *l, uint32_t node, bool connected)
{
    if (l->nodes[node].connected == connected)
        return;
    l->nodes[node].connected = connected;
    coordinator_node_connected(l->coordinator, l->now_ms, node, connected, &l->effects);
}

/* ---- Log lines -------------------------------------------------------------------------------*/

/* May this peer be in the log again? */
static bool may_complain(uint64_t *complained_ms, uint64_t now_ms)
{
    if (*complained_ms != 0 && now_ms < *complained_ms + COMPLAIN_MS)
        return false;
    *complained_ms = now_ms;
    return true;
}

static void log_client(struct loop *l, const struct effect *e, const char *event)
{
    struct connection *c = connections_by_source(l->connections, e->source);
    if (c != NULL && may_complain(&c->complained_ms, l->now_ms))
        logline(LOGLINE_WARN, event, "connection=%llu", (unsigned long long)e->source);
}

/* One line for the supervisor: how many nodes answer, and one that does not. */
static void tell_nodes(const struct loop *l)
{
    uint32_t silent_count = 0, silent = 0;
    if (clustermap_empty(coordinator_map(l->coordinator)))
        return; /* not serving yet */
    for (uint32_t i = 0; i < l->nodes_count; i++)
        if (coordinator_node_silent(l->coordinator, i)) {
            silent = i;
            silent_count++;
        }
    if (silent_count == 0)
        notify_status("serving on %s, all %u nodes answer", l->options->listen, l->nodes_count);
    else
        notify_status("serving on %s, %u of %u nodes do not answer: %s%s", l->options->listen,
                      silent_count, l->nodes_count, coordinator_node_name(l->coordinator, silent),
                      silent_count > 1 ? ", ..." : "");
}

static void log_note(struct loop *l, const struct effect *e)
{
    const char *name = coordinator_node_name(l->coordinator, e->node);
    unsigned long long amount = e->amount;
    switch (e->note) {
    case NOTE_NODE_SILENT:
        logline(LOGLINE_WARN, "node_silent", "peer=%s in_flight=%llu", name, amount);
        tell_nodes(l);
        return;
    case NOTE_NODE_BACK:
        logline(LOGLINE_INFO, "node_answers", "peer=%s silent_ms=%llu", name, amount);
        tell_nodes(l);
        return;
    case NOTE_NODE_RESTARTED:
        logline(LOGLINE_INFO, "node_restarted", "peer=%s in_flight=%llu", name, amount);
        return;
    case NOTE_NODE_FOREIGN:
        logline(LOGLINE_ERROR, "node_of_another_cluster", "peer=%s", name);
        return;
    case NOTE_NODE_MALFORMED:
        if (may_complain(&l->nodes[e->node].complained_ms, l->now_ms))
            logline(LOGLINE_WARN, "node_malformed", "peer=%s", name);
        return;
    case NOTE_CLIENT_MALFORMED:
        log_client(l, e, "client_malformed");
        return;
    case NOTE_CLIENT_UNSUPPORTED:
        log_client(l, e, "client_unsupported");
        return;
    case NOTE_MAP_FIRST:
        logline(LOGLINE_INFO, "serving", "listen=%s learnt_from=%s map=%llu", l->options->listen,
                name, amount);
        notify_ready("serving on %s", l->options->listen);
        tell_nodes(l);
        return;
    case NOTE_MAP_CHANGED:
        logline(LOGLINE_DEBUG, "map_changed", "learnt_from=%s map=%llu", name, amount);
        return;
    }
    ENSURE_UNREACHABLE();
}

/* ---- Sending ---------------------------------------------------------------------------------*/

static void send_client(struct loop *l, struct effect *e)
{
    struct connection *c = connections_by_source(l->connections, e->source);
    if (c == NULL)
        return;
    enum status s = link_send(l->clients, &c->peer, &e->frame);
    if (s == STATUS_OK)
        return;
    if (s != STATUS_NOCONNECTION) {
        coordinator_client_slow(l->coordinator, e->source);
        return;
    }
    coordinator_client_gone(l->coordinator, e->source);
    connections_remove(l->connections, c);
}

static void send_node(struct loop *l, struct effect *e)
{
    uint32_t node = e->node;
    struct node_link *n = &l->nodes[node];
    touch(l, node, false);
    if (n->link != NULL && link_send(n->link, NULL, &e->frame) == STATUS_OK)
        return;
    /* Not connected, or it takes nothing any more. The coordinator hears of it in any case: it
     * counts on this message. What it adds may move the list: e is not valid from here on. */
    n->connected = false;
    coordinator_node_connected(l->coordinator, l->now_ms, node, false, &l->effects);
}

/* Carrying out may bring more effects: they are at the end of the same list. */
static void carry_out(struct loop *l)
{
    for (size_t i = 0; i < l->effects.count; i++) {
        struct effect *e = &l->effects.items[i];
        switch (e->kind) {
        case EFFECT_SEND_CLIENT:
            send_client(l, e);
            break;
        case EFFECT_SEND_NODE:
            send_node(l, e);
            break;
        case EFFECT_CONNECT_NODE:
        case EFFECT_RESET_NODE:
            node_connect(l, e);
            break;
        case EFFECT_NOTE:
            log_note(l, e);
            break;
        }
    }
    effects_clear(&l->effects);
}

/* What a failed send brought back leaves in the same turn: to another copy. It ends because each
 * round marks a node as not connected. */
static void flush(struct loop *l)
{
    do {
        coordinator_flush(l->coordinator, l->now_ms, &l->effects);
        if (l->effects.count == 0)
            return;
        carry_out(l);
    } while (true);
}

/* ---- Receiving -------------------------------------------------------------------------------*/

/* Returns whether there may be more. */
static bool receive_clients(struct loop *l)
{
    struct link_peer peer;
    struct bytes frame;
    for (int i = 0; i < DRAIN_MAX; i++) {
        enum status s = link_recv(l->clients, &peer, &frame);
        if (s == STATUS_NOTFOUND)
            return false;
        struct connection *c = connections_by_peer(l->connections, &peer, l->now_ms);
        if (c == NULL)
            continue; /* too many connections: as if it had not been heard */
        if (s == STATUS_MALFORMED)
            frame = BYTES_EMPTY; /* the coordinator counts it and answers */
        coordinator_client_message(l->coordinator, l->now_ms, c->source, peer.delimiter != 0, frame,
                                   &l->effects);
    }
    return true;
}

/* A connection that was made or lost shows at the descriptor as a message does. One that ends
 * behind its last messages is noticed by the next look, or the next send. */
static void receive_node(struct loop *l, uint32_t node)
{
    struct node_link *n = &l->nodes[node];
    struct link_peer peer;
    struct bytes frame;
    int count = 0;
    for (; count < DRAIN_MAX; count++) {
        enum status s = link_recv(n->link, &peer, &frame);
        if (s == STATUS_NOTFOUND)
            break;
        coordinator_node_message(l->coordinator, l->now_ms, node,
                                 s == STATUS_OK ? frame : BYTES_EMPTY, &l->effects);
    }
    if (count == DRAIN_MAX) {
        touch(l, node, true);
    } else if (count == 0) {
        struct link_events now = link_look(n->link);
        set_connected(l, node, now.connected);
        if (now.readable) /* it came just now, and the look has swallowed its edge */
            touch(l, node, true);
    }
}

static void receive_nodes(struct loop *l)
{
    uint32_t nodes[COORDINATOR_NODES_MAX];
    uint32_t count = l->touched_count;
    memcpy(nodes, l->touched, count * sizeof nodes[0]);
    l->touched_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct node_link *n = &l->nodes[nodes[i]];
        bool ready = n->ready;
        n->touched = n->ready = false;
        if (ready && n->link != NULL)
            receive_node(l, nodes[i]);
    }
}

/* ---- Turns -----------------------------------------------------------------------------------*/

/* A descriptor of ZeroMQ tells only edges, and a send can swallow one: before sleeping, ask the
 * sockets that were used. */
static bool more_to_read(struct loop *l)
{
    l->clients_ready = l->clients_ready || link_readable(l->clients);
    bool more = l->clients_ready;
    for (uint32_t i = 0; i < l->touched_count; i++) {
        struct node_link *n = &l->nodes[l->touched[i]];
        if (n->link != NULL && !n->ready) {
            struct link_events now = link_look(n->link);
            n->ready = now.readable || now.connected != n->connected;
        }
        more = more || n->ready;
    }
    return more;
}

static int timeout_ms(const struct loop *l)
{
    uint64_t now_ms = clock_now_ms();
    uint64_t due_ms = coordinator_deadline(l->coordinator);
    if (due_ms <= now_ms)
        return 0;
    return due_ms - now_ms > WAIT_MAX_MS ? (int)WAIT_MAX_MS : (int)(due_ms - now_ms);
}

static void wait(struct loop *l)
{
    struct epoll_event events[EVENTS_MAX];
    int timeout = more_to_read(l) ? 0 : timeout_ms(l);
    int count = epoll_wait(l->epoll_fd, events, EVENTS_MAX, timeout);
    ENSURE(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; i++) {
        if (events[i].data.u32 == FD_SIGNAL)
            l->stopping = true;
        else if (events[i].data.u32 == FD_CLIENTS)
            l->clients_ready = true;
        else
            touch(l, events[i].data.u32 - FD_NODES, true);
    }
}

static void turn(struct loop *l)
{
    l->now_ms = clock_now_ms();
    receive_nodes(l);
    l->clients_ready = l->clients_ready && receive_clients(l);
    if (l->now_ms >= coordinator_deadline(l->coordinator))
        coordinator_tick(l->coordinator, l->now_ms, &l->effects);
    flush(l);
    if (l->retrying)
        retry_links(l);
    if (l->now_ms >= l->sweep_ms) {
        connections_sweep(l->connections, l->now_ms);
        l->sweep_ms = l->now_ms + SWEEP_MS;
    }
}

void loop_run(struct loop *l)
{
    while (!l->stopping) {
        turn(l);
        notify_turn(l->now_ms);
        wait(l);
    }
}

/* ---- Life ------------------------------------------------------------------------------------*/

static bool is_loopback(const char *address)
{
    return strncmp(address, "tcp://127.", 10) == 0 || strncmp(address, "tcp://[::1]:", 12) == 0;
}

static enum status check_address(const char *option, const char *address, struct error *reterr)
{
    const char *colon = strrchr(address, ':');
    char *end;
    unsigned long port = colon == NULL ? 0 : strtoul(colon + 1, &end, 10);
    if (strncmp(address, "tcp://", 6) != 0 || colon == NULL || colon <= address + 6 ||
        *end != '\0' || port == 0 || port > 65535)
        return error_set(reterr, STATUS_CONFIG,
                         "--%s: '%s' is not an address; write tcp://HOST:PORT, for instance "
                         "tcp://127.0.0.1:7400",
                         option, address);
    if (strlen(address) >= ADDRESS_SIZE_MAX)
        return error_set(reterr, STATUS_CONFIG, "--%s: '%s' is longer than %d bytes", option,
                         address, ADDRESS_SIZE_MAX - 1);
    return STATUS_OK;
}

/* Split list at its commas, in place. */
static enum status split_nodes(char *list, struct coordinator_options *o, struct error *reterr)
{
    char *state = NULL;
    o->seeds_count = 0;
    for (char *address = strtok_r(list, ", ", &state); address != NULL;
         address = strtok_r(NULL, ", ", &state)) {
        if (o->seeds_count == COORDINATOR_SEEDS_MAX)
            return error_set(reterr, STATUS_CONFIG,
                             "--nodes: more than %d addresses; a few are enough, the cluster tells "
                             "the others",
                             COORDINATOR_SEEDS_MAX);
        enum status s = check_address("nodes", address, reterr);
        if (s != STATUS_OK)
            return s;
        o->seeds[o->seeds_count++] = address;
    }
    if (o->seeds_count == 0)
        return error_set(reterr, STATUS_USAGE,
                         "--nodes is missing: the address of at least one storage node, for "
                         "instance --nodes tcp://127.0.0.1:7500");
    return STATUS_OK;
}

static enum status check_values(const struct router_options *o, struct error *reterr)
{
    if (o->deadline > o->deadline_max)
        return error_set(reterr, STATUS_CONFIG, "--deadline is above --deadline-max");
    if (o->pause_min > o->pause_max)
        return error_set(reterr, STATUS_CONFIG, "--pause-min is above --pause-max");
    if (o->ping >= o->silence)
        return error_set(reterr, STATUS_CONFIG,
                         "--ping is not below --silence: a node would be taken for silent before "
                         "it was asked");
    if (!is_loopback(o->listen) && !o->insecure)
        return error_set(reterr, STATUS_CONFIG,
                         "--listen: %s is not a loopback address and nothing protects it; use one "
                         "of 127.0.0.0/8, or say --insecure if the network is yours alone",
                         o->listen);
    return STATUS_OK;
}

enum status loop_check(const struct router_options *o, struct error *reterr)
{
    struct coordinator_options parsed;
    char *list = strdup(o->nodes);
    if (list == NULL)
        return error_set(reterr, STATUS_NOMEMORY, "out of memory");
    enum status s = split_nodes(list, &parsed, reterr);
    free(list);
    if (s == STATUS_OK)
        s = check_address("listen", o->listen, reterr);
    return s == STATUS_OK ? check_values(o, reterr) : s;
}

static struct coordinator *make_coordinator(const struct router_options *o)
{
    char *list = strdup(o->nodes);
    struct coordinator_options c = {.name = o->name,
                                    .boot_id = clock_random64(),
                                    .slots = (uint32_t)o->slots,
                                    .bytes_max = o->flight_size * MIB,
                                    .value_size_max = (uint32_t)o->value_size_max,
                                    .deadline_ms = (uint32_t)o->deadline,
                                    .deadline_max_ms = (uint32_t)o->deadline_max,
                                    .silence_ms = (uint32_t)o->silence,
                                    .ping_ms = (uint32_t)o->ping,
                                    .idle_ping_ms = (uint32_t)o->idle_ping,
                                    .attempt_ms = (uint32_t)o->attempt,
                                    .pause_min_ms = (uint32_t)o->pause_min,
                                    .pause_max_ms = (uint32_t)o->pause_max};
    struct coordinator *coordinator = NULL;
    if (list != NULL && split_nodes(list, &c, NULL) == STATUS_OK)
        coordinator = coordinator_new(&c);
    free(list);
    return coordinator;
}

static enum status open_all(struct loop *l, struct error *reterr)
{
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->connections = connections_new(l->options->connections_max);
    l->coordinator = make_coordinator(l->options);
    if (l->epoll_fd < 0 || l->connections == NULL || l->coordinator == NULL)
        return error_set(reterr, STATUS_NOMEMORY, "out of memory or descriptors");
    l->context = link_context_new((int)l->options->io_threads, false);
    if (l->context == NULL)
        return error_set(reterr, STATUS_IO, "cannot start ZeroMQ: %s", strerror(errno));
    l->clients = link_bind(l->context, LINK_ROUTER_CLIENTS, l->options->listen, reterr);
    if (l->clients == NULL)
        return reterr->status;
    watch(l, l->signal_fd, FD_SIGNAL);
    watch(l, link_fd(l->clients), FD_CLIENTS);
    return STATUS_OK;
}

struct loop *loop_new(const struct router_options *options, int signal_fd, struct error *reterr)
{
    if (loop_check(options, reterr) != STATUS_OK)
        return NULL;
    struct loop *l = calloc(1, sizeof *l);
    if (l == NULL) {
        error_set(reterr, STATUS_NOMEMORY, "out of memory");
        return NULL;
    }
    l->options = options;
    l->signal_fd = signal_fd;
    l->epoll_fd = -1;
    effects_init(&l->effects);
    if (open_all(l, reterr) != STATUS_OK)
        loop_destroy(&l);
    return l;
}

void loop_destroy(struct loop **loop_p)
{
    struct loop *l = *loop_p;
    if (l == NULL)
        return;
    for (uint32_t i = 0; i < l->nodes_count; i++)
        node_close(l, i);
    link_destroy(&l->clients);
    link_context_destroy(&l->context);
    coordinator_destroy(&l->coordinator);
    connections_destroy(&l->connections);
    effects_fini(&l->effects);
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    free(l);
    *loop_p = NULL;
}
