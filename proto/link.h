/* Link: frames on a ZeroMQ socket, and the socket options of each use. The only file with libzmq;
 * plain libzmq, since libduet uses it too.
 *
 * A socket is used by one thread. Sends never block.
 *
 * - link_context_new() / link_context_destroy()
 * - link_bind() / link_connect() / link_destroy()
 * - link_send()      one frame to a peer (ROUTER) or to the other end (DEALER)
 * - link_recv()      one frame, without waiting
 * - link_fd(), link_look(), link_readable()   for the loop: the fd is edge-triggered
 */
#ifndef PROTO_LINK_H
#define PROTO_LINK_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

#define LINK_PEER_SIZE_MAX 32

enum link_use {
    LINK_ROUTER_CLIENTS, /* ROUTER of the router, for clients */
    LINK_NODE_REQUESTS,  /* ROUTER of the node */
    LINK_NODE_PEERS,     /* ROUTER of the node, for other nodes */
    LINK_ROUTER_TO_NODE, /* DEALER, router to node */
    LINK_NODE_TO_NODE,   /* DEALER, node to node: control, or append */
    LINK_CLIENT,         /* DEALER of libduet */
};

/* Who is at the other end of a ROUTER: its routing id, and whether it is a REQ socket (an empty
 * delimiter frame stands first, and must in the answer). Zeroed for a DEALER. Comparable by
 * memcmp: unused octets are zero. */
struct link_peer {
    uint8_t size;
    uint8_t delimiter;
    uint8_t id[LINK_PEER_SIZE_MAX];
};

struct link;
struct link_context;

/* io_threads as in zmq_ctx_set. Seeds random() first (libzmq draws guessable routing ids
 * otherwise) unless library is true: a library leaves its host's generator alone. NULL: errno. */
struct link_context *link_context_new(int io_threads, bool library);
/* Waits until all sockets are closed. */
void link_context_destroy(struct link_context **context_p);

/* A ROUTER bound to address ("tcp://HOST:PORT", "inproc://NAME"). NULL: reterr says why, e.g. that
 * the port is in use and what to do. */
struct link *link_bind(struct link_context *context, enum link_use use, const char *address,
                       struct error *reterr);
/* A DEALER connected (in the background) to address. NULL: reterr says why. */
struct link *link_connect(struct link_context *context, enum link_use use, const char *address,
                          struct error *reterr);
/* Closes the socket; for a DEALER to a dead node this is what empties its queue. */
void link_destroy(struct link **link_p);

/* Send frame's content, which is empty afterwards, sent or not (its memory is handed to ZeroMQ
 * without a copy when large). peer is NULL for a DEALER.
 * STATUS_OK; STATUS_BUSY: the peer is slow or, for a DEALER, not connected; STATUS_NOCONNECTION:
 * the peer is gone; STATUS_NOMEMORY. In all three the message is dropped. frame is not empty: an
 * empty frame would pass for the delimiter. */
enum status link_send(struct link *l, const struct link_peer *peer, struct buffer *frame);

/* Receive one message if one is there. The frame is borrowed until the next link_recv() on l.
 * STATUS_OK; STATUS_NOTFOUND: none there; STATUS_MALFORMED: one came that has not one payload frame
 * (it is gone; ret_peer is set, with size 0 when the peer chose a routing id longer than ours). */
enum status link_recv(struct link *l, struct link_peer *ret_peer, struct bytes *ret_frame);

/* For epoll: readable edge means look with link_recv() until STATUS_NOTFOUND. A send, or a look, can
 * swallow the edge: ask link_readable() before sleeping. Every look that finds nothing costs two
 * system calls (libzmq asks getpid() and poll()). */
int link_fd(const struct link *l);

/* Is there a message that the fd may not tell of? Costs nothing when nothing was sent since the
 * last look; what comes later shows at the fd. */
bool link_readable(struct link *l);

/* Would a send to the other end of this DEALER be taken now? False while it is not connected. */
bool link_connected(struct link *l);

/* Both at once, for the price of one. */
struct link_events {
    bool readable, connected;
};
struct link_events link_look(struct link *l);

#endif
