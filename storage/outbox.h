/* Outbox: messages to peers; what gathers in one turn for one peer and kind leaves as one message
 * (more when it grows beyond the limits). Pure.
 *
 * Entries of append sections are borrowed until outbox_flush().
 */
#ifndef STORAGE_OUTBOX_H
#define STORAGE_OUTBOX_H

#include "proto/message.h"
#include "storage/node.h"

#define OUTBOX_SECTIONS_MAX 1024
#define OUTBOX_BYTES_MAX (1u << 20) /* of entries in one APPEND, unless one entry is larger */

struct outbox_peer;

struct outbox {
    struct outbox_peer *peers;
    uint32_t peers_count;
    uint32_t self;
    uint64_t incarnation;
    struct node_effects *out; /* of this turn */
    uint64_t ptime;           /* of this turn, for APPENDs */
    enum status failed;
};

struct outbox_section {
    uint32_t partition;
    uint64_t epoch;
    uint64_t prev_epoch, prev_seq, prev_hash;
    uint64_t commit_seq, durable_seq;
    uint32_t flags;
};

struct outbox_promised {
    uint32_t partition;
    uint64_t epoch;
    uint64_t commit_epoch, commit_seq, commit_hash, last_seq;
};

struct outbox_ack {
    uint32_t partition;
    uint64_t epoch;
    uint64_t verified_seq, hash;
    uint32_t flags;
};

/* STATUS_OK or STATUS_NOMEMORY. */
enum status outbox_init(struct outbox *o, uint32_t peers_count, uint32_t self,
                        uint64_t incarnation);
void outbox_fini(struct outbox *o);

/* The incarnation of the peer, which stands in every message to it. */
void outbox_set_target(struct outbox *o, uint32_t peer, uint64_t incarnation);

/* Open a section; the entries that follow belong to it. */
void outbox_section(struct outbox *o, uint32_t peer, const struct outbox_section *s);
/* True: taken. False: the message is full; end here, the rest goes in the next turn. */
bool outbox_entry(struct outbox *o, uint32_t peer, struct bytes entry);

void outbox_promise(struct outbox *o, uint32_t peer, uint32_t partition, uint64_t epoch);
void outbox_promised_add(struct outbox *o, uint32_t peer, const struct outbox_promised *p);
void outbox_ack_add(struct outbox *o, uint32_t peer, const struct outbox_ack *a);
/* kind is MESSAGE_CONFIRM or MESSAGE_CONFIRMED. */
void outbox_confirm(struct outbox *o, uint32_t peer, enum message_kind kind, uint32_t partition,
                    uint64_t epoch, uint64_t number);

/* A ready frame in effect's buffer, for heartbeats and maps. NULL after a failure. */
struct buffer *outbox_frame(struct outbox *o, uint32_t peer, enum node_lane lane);

/* Send what is left. STATUS_OK, STATUS_NOMEMORY. */
enum status outbox_flush(struct outbox *o);

#endif
