#include "proto/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"
#include "proto/limits.h"

/* From this size on a frame's memory goes to ZeroMQ without a copy; below, copying is cheaper and
 * the caller keeps its warm buffer. */
#define ZERO_COPY_SIZE_MIN (64u << 10)
#define SOCKETS_MAX        4096 /* two DEALERs for each of 1024 nodes, and room */

#define UNSET (-1) /* in the table below: leave libzmq's default */

struct link_context {
    void *zmq;
};

struct link {
    void *socket;
    bool router;
    bool idle; /* the last look found nothing to read, and nothing was sent since */
    zmq_msg_t received; /* the frame that link_recv() lent */
    int fd;
};

/* The options of each use. Times in ms. Heartbeats keep connections alive through firewalls and
 * notice dead hosts; whether a process responds is decided by application answers. */
struct profile {
    int type;
    int hwm;
    int linger;
    int heartbeat_interval, heartbeat_timeout, heartbeat_ttl;
    int reconnect, reconnect_max;
    int connect_timeout;
    int tcp_maxrt;
    int handshake;
    int backlog;
};

#define HEARTBEAT_OFF UNSET, UNSET, UNSET

/* clang-format off */
static const struct profile profiles[] = {
    /*                       type        hwm   linger heartbeat      reconnect     connect */
    [LINK_ROUTER_CLIENTS] = {ZMQ_ROUTER, 1000, 500, 5000, 15000, 15000, UNSET, UNSET, UNSET,
                             .tcp_maxrt = 10000, .handshake = 5000, .backlog = 1024},
    [LINK_NODE_REQUESTS]  = {ZMQ_ROUTER, 1000, 500, HEARTBEAT_OFF, UNSET, UNSET, UNSET,
                             .tcp_maxrt = 5000, .handshake = 5000, .backlog = 1024},
    [LINK_NODE_PEERS]     = {ZMQ_ROUTER, 1000, 500, HEARTBEAT_OFF, UNSET, UNSET, UNSET,
                             .tcp_maxrt = 5000, .handshake = 5000, .backlog = 1024},
    [LINK_ROUTER_TO_NODE] = {ZMQ_DEALER, 1000, 0, 500, 1500, 2000, 50, 500, 1000,
                             .tcp_maxrt = 5000, .handshake = 2000, .backlog = UNSET},
    [LINK_NODE_TO_NODE]   = {ZMQ_DEALER, 1000, 0, 500, 1500, 2000, 50, 500, 1000,
                             .tcp_maxrt = 5000, .handshake = 2000, .backlog = UNSET},
    [LINK_CLIENT]         = {ZMQ_DEALER, 1000, 0, 5000, 15000, 15000, 100, 500, 3000,
                             .tcp_maxrt = 10000, .handshake = 5000, .backlog = UNSET},
};
/* clang-format on */

struct link_context *link_context_new(int io_threads, bool library)
{
    struct link_context *context = calloc(1, sizeof *context);
    if (context == NULL)
        return NULL;
    /* libzmq draws a ROUTER's first automatic routing id from rand() and never seeds it; a peer
     * that guesses an id in use makes libzmq abort. */
    if (!library)
        srandom((unsigned)clock_random64());
    context->zmq = zmq_ctx_new();
    if (context->zmq == NULL || zmq_ctx_set(context->zmq, ZMQ_IO_THREADS, io_threads) != 0 ||
        zmq_ctx_set(context->zmq, ZMQ_MAX_SOCKETS, SOCKETS_MAX) != 0) {
        link_context_destroy(&context);
        return NULL;
    }
    return context;
}

void link_context_destroy(struct link_context **context_p)
{
    struct link_context *context = *context_p;
    if (context == NULL)
        return;
    if (context->zmq != NULL)
        while (zmq_ctx_term(context->zmq) != 0)
            ENSURE(errno == EINTR);
    free(context);
    *context_p = NULL;
}

static bool set_int(void *socket, int option, int value)
{
    return value == UNSET || zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static bool set_times(void *socket, const struct profile *p)
{
    return set_int(socket, ZMQ_LINGER, p->linger) &&
           set_int(socket, ZMQ_HEARTBEAT_IVL, p->heartbeat_interval) &&
           set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, p->heartbeat_timeout) &&
           set_int(socket, ZMQ_HEARTBEAT_TTL, p->heartbeat_ttl) &&
           set_int(socket, ZMQ_RECONNECT_IVL, p->reconnect) &&
           set_int(socket, ZMQ_RECONNECT_IVL_MAX, p->reconnect_max) &&
           set_int(socket, ZMQ_CONNECT_TIMEOUT, p->connect_timeout) &&
           set_int(socket, ZMQ_TCP_MAXRT, p->tcp_maxrt) &&
           set_int(socket, ZMQ_HANDSHAKE_IVL, p->handshake);
}

static bool set_sizes(void *socket, const struct profile *p)
{
    int64_t frame_size_max = FRAME_BYTES_MAX;
    return set_int(socket, ZMQ_SNDHWM, p->hwm) && set_int(socket, ZMQ_RCVHWM, p->hwm) &&
           set_int(socket, ZMQ_BACKLOG, p->backlog) &&
           zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &frame_size_max, sizeof frame_size_max) == 0;
}

/* ROUTER_MANDATORY: a send to a peer that is gone or slow says so rather than dropping in silence.
 * ROUTER_HANDOVER off: nobody takes over the routing id of another connection.
 * IMMEDIATE: nothing is queued for a node that is not connected, to arrive long after. */
static bool set_behaviour(void *socket, const struct profile *p)
{
    if (p->type == ZMQ_DEALER)
        return set_int(socket, ZMQ_IMMEDIATE, 1);
    return set_int(socket, ZMQ_ROUTER_MANDATORY, 1) && set_int(socket, ZMQ_ROUTER_HANDOVER, 0);
}

/* IPv6 only when the address asks for it, so that machines without it are not troubled. */
static bool set_family(void *socket, const char *address)
{
    return set_int(socket, ZMQ_IPV6, strchr(address, '[') != NULL);
}

static struct link *link_new(struct link_context *context, const struct profile *p,
                             const char *address)
{
    struct link *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    ENSURE(zmq_msg_init(&l->received) == 0);
    l->router = p->type == ZMQ_ROUTER;
    l->socket = zmq_socket(context->zmq, p->type);
    size_t fd_size = sizeof l->fd;
    if (l->socket == NULL || !set_times(l->socket, p) || !set_sizes(l->socket, p) ||
        !set_behaviour(l->socket, p) || !set_family(l->socket, address) ||
        zmq_getsockopt(l->socket, ZMQ_FD, &l->fd, &fd_size) != 0) {
        int saved_errno = errno;
        link_destroy(&l);
        errno = saved_errno;
        return NULL;
    }
    return l;
}

void link_destroy(struct link **link_p)
{
    struct link *l = *link_p;
    if (l == NULL)
        return;
    zmq_msg_close(&l->received);
    if (l->socket != NULL)
        ENSURE(zmq_close(l->socket) == 0);
    free(l);
    *link_p = NULL;
}

static const struct advice {
    int reason;
    enum status status;
    const char *words; /* what is wrong and what an operator can do about it */
} advices[] = {
    /* The first two may pass by themselves, so a supervisor tries them again: another process ends,
     * an interface comes up late. */
    {EADDRINUSE, STATUS_LOCKED,
     "the address is in use by another process; stop that one (`ss -ltnp` lists it) or choose "
     "another port"},
    {EADDRNOTAVAIL, STATUS_NOCONNECTION,
     "this machine has no such address; `ip address` lists those that it has"},
    {ENODEV, STATUS_CONFIG, "an IP address is needed here, for instance 127.0.0.1, not a name"},
    {EACCES, STATUS_CONFIG, "no permission for this port; ports from 1024 on need none"},
    {EINVAL, STATUS_CONFIG,
     "not an address; write tcp://HOST:PORT, for instance tcp://127.0.0.1:7400"},
    {EPROTONOSUPPORT, STATUS_CONFIG,
     "not an address; write tcp://HOST:PORT, for instance tcp://127.0.0.1:7400"},
    {ENOCOMPATPROTO, STATUS_CONFIG,
     "this transport does not fit; write tcp://HOST:PORT, for instance tcp://127.0.0.1:7400"},
    {EMFILE, STATUS_NOMEMORY, "too many open files or sockets; raise the limit (`ulimit -n`)"},
};

static void explain(const char *verb, const char *address, int reason, struct error *reterr)
{
    for (size_t i = 0; i < sizeof advices / sizeof advices[0]; i++) {
        if (advices[i].reason == reason) {
            error_set(reterr, advices[i].status, "cannot %s '%s': %s", verb, address,
                      advices[i].words);
            return;
        }
    }
    error_set(reterr, STATUS_IO, "cannot %s '%s': %s", verb, address, zmq_strerror(reason));
}

/* libzmq takes port 99999 and uses another one. */
static bool port_valid(const char *address)
{
    if (strncmp(address, "tcp://", 6) != 0)
        return true;
    const char *colon = strrchr(address, ':');
    if (strcmp(colon, ":*") == 0)
        return true;
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    return colon[1] >= '0' && colon[1] <= '9' && *end == '\0' && port >= 1 && port <= 65535;
}

static struct link *open_at(struct link_context *context, const struct profile *p, const char *verb,
                            const char *address, int (*open)(void *socket, const char *address),
                            struct error *reterr)
{
    if (!port_valid(address)) {
        explain(verb, address, EINVAL, reterr);
        return NULL;
    }
    struct link *l = link_new(context, p, address);
    if (l == NULL || open(l->socket, address) != 0) {
        explain(verb, address, errno, reterr);
        link_destroy(&l);
        return NULL;
    }
    return l;
}

struct link *link_bind(struct link_context *context, enum link_use use, const char *address,
                       struct error *reterr)
{
    const struct profile *p = &profiles[use];
    ENSURE(p->type == ZMQ_ROUTER);
    return open_at(context, p, "listen on", address, zmq_bind, reterr);
}

struct link *link_connect(struct link_context *context, enum link_use use, const char *address,
                          struct error *reterr)
{
    const struct profile *p = &profiles[use];
    ENSURE(p->type == ZMQ_DEALER);
    return open_at(context, p, "connect to", address, zmq_connect, reterr);
}

static void free_frame(void *data, void *hint)
{
    (void)hint;
    free(data);
}

/* Move the content of frame into msg; frame is empty afterwards. */
static enum status frame_to_msg(struct buffer *frame, zmq_msg_t *msg)
{
    if (frame->size >= ZERO_COPY_SIZE_MIN) {
        uint8_t *data;
        size_t size = buffer_take(frame, &data);
        if (zmq_msg_init_data(msg, data, size, free_frame, NULL) == 0)
            return STATUS_OK;
        free(data);
        return STATUS_NOMEMORY;
    }
    if (zmq_msg_init_size(msg, frame->size) != 0) {
        buffer_clear(frame);
        return STATUS_NOMEMORY;
    }
    if (frame->size > 0)
        memcpy(zmq_msg_data(msg), frame->data, frame->size);
    buffer_clear(frame);
    return STATUS_OK;
}

static enum status send_failed(void)
{
    switch (errno) {
    case EAGAIN:
        return STATUS_BUSY;
    case EHOSTUNREACH:
    case ETERM:
        return STATUS_NOCONNECTION;
    default:
        ENSURE(errno == ENOMEM);
        return STATUS_NOMEMORY;
    }
}

/* The frames that stand before the payload. Once the first was taken, the rest of the message is.
 */
static enum status send_envelope(void *socket, const struct link_peer *peer)
{
    int sent;
    do
        sent = zmq_send(socket, peer->id, peer->size, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return send_failed();
    if (!peer->delimiter)
        return STATUS_OK;
    do
        sent = zmq_send(socket, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? send_failed() : STATUS_OK;
}

enum status link_send(struct link *l, const struct link_peer *peer, struct buffer *frame)
{
    ENSURE(l->router == (peer != NULL));
    ENSURE(frame->size > 0);
    zmq_msg_t msg;
    enum status s = frame_to_msg(frame, &msg);
    if (s != STATUS_OK)
        return s;
    l->idle = false;
    if (peer != NULL)
        s = send_envelope(l->socket, peer);
    while (s == STATUS_OK && zmq_msg_send(&msg, l->socket, ZMQ_DONTWAIT) < 0)
        if (errno != EINTR)
            s = send_failed();
    /* A message that was sent is an empty one now; closing it is allowed either way. */
    zmq_msg_close(&msg);
    return s;
}

/* Receive one frame into l->received. False: none there. */
static bool recv_frame(struct link *l)
{
    for (;;) {
        if (zmq_msg_recv(&l->received, l->socket, ZMQ_DONTWAIT) >= 0)
            return true;
        if (errno != EINTR) {
            ENSURE(errno == EAGAIN || errno == ETERM);
            return false;
        }
    }
}

/* Throw away the rest of the message that l->received belongs to. */
static enum status drop_rest(struct link *l)
{
    while (zmq_msg_more(&l->received) && recv_frame(l))
        ;
    return STATUS_MALFORMED;
}

/* Routing id and delimiter of what came to a ROUTER; afterwards l->received is the payload. */
static enum status recv_envelope(struct link *l, struct link_peer *ret_peer)
{
    size_t size = zmq_msg_size(&l->received);
    if (size > LINK_PEER_SIZE_MAX)
        return drop_rest(l);
    ret_peer->size = (uint8_t)size;
    memcpy(ret_peer->id, zmq_msg_data(&l->received), size);
    if (!zmq_msg_more(&l->received) || !recv_frame(l))
        return STATUS_MALFORMED;
    if (zmq_msg_size(&l->received) > 0)
        return STATUS_OK;
    ret_peer->delimiter = 1;
    if (!zmq_msg_more(&l->received) || !recv_frame(l))
        return STATUS_MALFORMED;
    return STATUS_OK;
}

enum status link_recv(struct link *l, struct link_peer *ret_peer, struct bytes *ret_frame)
{
    *ret_peer = (struct link_peer){0};
    *ret_frame = BYTES_EMPTY;
    l->idle = !recv_frame(l);
    if (l->idle)
        return STATUS_NOTFOUND;
    enum status s = l->router ? recv_envelope(l, ret_peer) : STATUS_OK;
    if (s != STATUS_OK)
        return s;
    if (zmq_msg_more(&l->received))
        return drop_rest(l);
    *ret_frame = bytes_of(zmq_msg_data(&l->received), zmq_msg_size(&l->received));
    return STATUS_OK;
}

int link_fd(const struct link *l)
{
    return l->fd;
}

struct link_events link_look(struct link *l)
{
    int events = 0;
    size_t size = sizeof events;
    while (zmq_getsockopt(l->socket, ZMQ_EVENTS, &events, &size) != 0)
        if (errno != EINTR)
            return (struct link_events){0};
    l->idle = (events & ZMQ_POLLIN) == 0;
    return (struct link_events){(events & ZMQ_POLLIN) != 0, (events & ZMQ_POLLOUT) != 0};
}

bool link_readable(struct link *l)
{
    return !l->idle && link_look(l).readable;
}

bool link_connected(struct link *l)
{
    return link_look(l).connected;
}
