/* Codec: messages to bytes and back. The only file that knows protobuf-c.
 *
 * Pack: appends a whole frame (prefix and message) to out. STATUS_OK, or STATUS_TOOBIG /
 * STATUS_NOMEMORY when out cannot take it (then out is unchanged). Arrays of zeros are left out on
 * the wire; but for the first array of a message (kinds, ids, tokens, partitions, keys of a page) a
 * NULL instead of an array means zeros, too. Texts end at their first zero byte.
 *
 * Unpack: checks prefix, decodes, and checks every field: array lengths agree, sizes and enums are
 * within proto/limits.h. STATUS_OK, or STATUS_MALFORMED (nothing else is written). All that *ret
 * points at lives in arena, which is reset with a cap of 4 x frame size + 2 MiB: one message per
 * arena at a time. `frame` may be freed after the call. The size of keys is not checked here: one
 * bad key is one bad answer, not a bad message. Fields that we do not know are skipped, except in
 * what we are asked to do (write, atomic batch, read, outcome and scan query): that is MALFORMED rather than done by
 * half.
 *
 * Never reads outside of `frame`, whatever it holds. No global state; thread-safe on different
 * arenas.
 */
#ifndef PROTO_CODEC_H
#define PROTO_CODEC_H

#include "proto/base/arena.h"
#include "proto/base/buffer.h"
#include "proto/message.h"

/* Read the prefix. STATUS_OK, STATUS_MALFORMED (too short, wrong magic, kind 0) or
 * STATUS_UNSUPPORTED (another protocol version; ret_kind is set). */
enum status codec_peek(struct bytes frame, enum message_kind *ret_kind);

/* kind is MESSAGE_HELLO or MESSAGE_HELLO_REPLY. */
enum status codec_pack_hello(enum message_kind kind, const struct hello *m, struct buffer *out);
enum status codec_unpack_hello(struct bytes frame, struct arena *arena, struct hello *ret);

enum status codec_pack_request(const struct request *m, struct buffer *out);
enum status codec_unpack_request(struct bytes frame, struct arena *arena, struct request *ret);

/* kind is MESSAGE_ANSWER or MESSAGE_RESULTS. */
enum status codec_pack_answer(enum message_kind kind, const struct answer *m, struct buffer *out);
enum status codec_unpack_answer(struct bytes frame, struct arena *arena, struct answer *ret);

enum status codec_pack_batch(const struct batch *m, struct buffer *out);
enum status codec_unpack_batch(struct bytes frame, struct arena *arena, struct batch *ret);

enum status codec_pack_refused(const struct refused *m, struct buffer *out);
enum status codec_unpack_refused(struct bytes frame, struct arena *arena, struct refused *ret);

/* kind is MESSAGE_PING or MESSAGE_PONG. */
enum status codec_pack_ping(enum message_kind kind, const struct ping *m, struct buffer *out);
enum status codec_unpack_ping(struct bytes frame, struct arena *arena, struct ping *ret);

enum status codec_pack_map_request(uint64_t map_version, struct buffer *out);
enum status codec_unpack_map_request(struct bytes frame, struct arena *arena, uint64_t *ret);

enum status codec_pack_map(const struct map_message *m, struct buffer *out);
enum status codec_unpack_map(struct bytes frame, struct arena *arena, struct map_message *ret);

enum status codec_pack_voters(const struct voters_message *m, struct buffer *out);
enum status codec_unpack_voters(struct bytes frame, struct arena *arena,
                                struct voters_message *ret);

/* node: a NodeValue, packed. */
enum status codec_pack_join(struct bytes node, struct buffer *out);
enum status codec_unpack_join(struct bytes frame, struct arena *arena, struct node_value *ret);

enum status codec_pack_drain(bool drained, struct buffer *out);
enum status codec_unpack_drain(struct bytes frame, struct arena *arena, bool *ret_drained);

enum status codec_pack_status_request(struct buffer *out);
enum status codec_pack_status(const struct status_message *m, struct buffer *out);
enum status codec_unpack_status(struct bytes frame, struct arena *arena,
                                struct status_message *ret);

enum status codec_pack_heartbeat(const struct heartbeat *m, struct buffer *out);
enum status codec_unpack_heartbeat(struct bytes frame, struct arena *arena, struct heartbeat *ret);
enum status codec_pack_promise(const struct promise *m, struct buffer *out);
enum status codec_unpack_promise(struct bytes frame, struct arena *arena, struct promise *ret);
/* kind is MESSAGE_CONFIRM or MESSAGE_CONFIRMED. */
enum status codec_pack_confirm(enum message_kind kind, const struct confirm *m, struct buffer *out);
enum status codec_unpack_confirm(struct bytes frame, struct arena *arena, struct confirm *ret);
enum status codec_pack_promised(const struct promised *m, struct buffer *out);
enum status codec_unpack_promised(struct bytes frame, struct arena *arena, struct promised *ret);
enum status codec_pack_append(const struct append *m, struct buffer *out);
enum status codec_unpack_append(struct bytes frame, struct arena *arena, struct append *ret);
enum status codec_pack_ack(const struct ack *m, struct buffer *out);
enum status codec_unpack_ack(struct bytes frame, struct arena *arena, struct ack *ret);
enum status codec_pack_registry(const struct registry_message *m, struct buffer *out);
enum status codec_unpack_registry(struct bytes frame, struct arena *arena,
                                  struct registry_message *ret);

/* Parts inside messages: no prefix, and unpacking does not reset the arena (cap is its own). */
enum status codec_pack_write(const struct write *m, struct buffer *out);
enum status codec_unpack_write(struct bytes part, struct arena *arena, struct write *ret);
enum status codec_pack_read_query(const struct read_query *m, struct buffer *out);
enum status codec_unpack_read_query(struct bytes part, struct read_query *ret);
enum status codec_pack_expiry(const struct expiry *m, struct buffer *out);
enum status codec_unpack_expiry(struct bytes part, struct expiry *ret);
enum status codec_pack_atomic_batch(const struct atomic_batch *m, struct buffer *out);
enum status codec_unpack_atomic_batch(struct bytes part, struct arena *arena,
                                      struct atomic_batch *ret);
enum status codec_pack_atomic_answer(const struct atomic_answer *m, struct buffer *out);
enum status codec_unpack_atomic_answer(struct bytes part, struct arena *arena,
                                       struct atomic_answer *ret);
enum status codec_pack_outcome_query(const struct outcome_query *m, struct buffer *out);
enum status codec_unpack_outcome_query(struct bytes part, struct outcome_query *ret);
enum status codec_pack_scan_query(const struct scan_query *m, struct buffer *out);
enum status codec_unpack_scan_query(struct bytes part, struct arena *arena, struct scan_query *ret);
/* A page has at most SCAN_PAGE_KEYS_MAX keys. It brings room of its own: unpacking raises the arena's
 * cap, where it is too low, to 4 x the page's size + 2 MiB above what is used. */
enum status codec_pack_scan_page(const struct scan_page *m, struct buffer *out);
enum status codec_unpack_scan_page(struct bytes part, struct arena *arena, struct scan_page *ret);
enum status codec_pack_cluster_value(const struct cluster_value *m, struct buffer *out);
enum status codec_unpack_cluster_value(struct bytes part, struct arena *arena,
                                       struct cluster_value *ret);
enum status codec_pack_node_value(const struct node_value *m, struct buffer *out);
enum status codec_unpack_node_value(struct bytes part, struct arena *arena, struct node_value *ret);
enum status codec_pack_partition_value(const struct partition_value *m, struct buffer *out);
enum status codec_unpack_partition_value(struct bytes part, struct arena *arena,
                                         struct partition_value *ret);

enum status codec_pack_snapshot(const struct snapshot_message *m, struct buffer *out);
enum status codec_unpack_snapshot(struct bytes frame, struct arena *arena,
                                  struct snapshot_message *ret);
enum status codec_pack_snapshot_ack(const struct snapshot_ack *m, struct buffer *out);
enum status codec_unpack_snapshot_ack(struct bytes frame, struct arena *arena,
                                      struct snapshot_ack *ret);

#endif
