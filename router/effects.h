/* Effects: what the coordinator wants done, for the shell (or the simulator) to do in order.
 *
 * The list is the caller's: every step of the coordinator appends, the caller carries out and calls
 * effects_clear(). Each item owns its frame; clearing keeps small frames' memory for the next turn,
 * so that a steady load allocates nothing.
 *
 * - effects_init() / effects_fini()
 * - effects_add()     one more item, its frame empty
 * - effects_drop()    take the item that was added last back
 * - effects_clear()   forget all items
 */
#ifndef ROUTER_EFFECTS_H
#define ROUTER_EFFECTS_H

#include "proto/base/buffer.h"
#include "proto/limits.h"

enum effect_kind {
    EFFECT_SEND_CLIENT,  /* frame to client `source` */
    EFFECT_SEND_NODE,    /* frame to `node`; not taken: coordinator_node_connected(false) */
    EFFECT_CONNECT_NODE, /* `node` is a new number: make a DEALER to `address` for it */
    EFFECT_RESET_NODE,   /* close node's DEALER, which empties its queue; a new one to `address` */
    EFFECT_NOTE,         /* nothing to do: a line for the log, `note` about `node` or `source` */
};

enum effect_note {
    NOTE_NODE_SILENT, /* `node`; amount: operations that were on their way to it */
    NOTE_NODE_BACK,   /* `node`; amount: ms of silence */
    NOTE_NODE_RESTARTED,
    NOTE_NODE_FOREIGN,   /* `node` belongs to another cluster: its map is not taken */
    NOTE_NODE_MALFORMED, /* `node` sent something that does not decode */
    NOTE_CLIENT_MALFORMED,
    NOTE_CLIENT_UNSUPPORTED, /* `source` speaks another protocol version, or an unknown kind */
    NOTE_MAP_CHANGED,        /* amount: the map's version */
    NOTE_MAP_FIRST,          /* the router can serve from now on; amount: the map's version */
};

struct effect {
    enum effect_kind kind;
    uint64_t source;
    uint32_t node;
    char address[ADDRESS_SIZE_MAX];
    enum effect_note note;
    uint64_t amount;
    struct buffer frame; /* link_send() may take its memory */
};

struct effects {
    struct effect *items;
    size_t count;
    size_t capacity; /* frames of items[count..capacity) are empty and initialized */
};

void effects_init(struct effects *e);
void effects_fini(struct effects *e);

/* The new last item. NULL when out of memory: then the effect is lost, as a message may be. */
struct effect *effects_add(struct effects *e, enum effect_kind kind);
void effects_drop(struct effects *e);
void effects_clear(struct effects *e);

#endif
