/* Registry: a set of small registers, each linearizable on its own: read, compare-and-swap, learn.
 *
 * CASPaxos (Rystsov 2018): single-decree Paxos for each register, no log, no leader, no clock.
 * Every voter is an acceptor (acceptor.h); any node may propose. One round is prepare, then accept,
 * each answered by a majority of the voters (of both sets while the voters change). An acceptor
 * answers only what is durable. Many registers travel in one message (steps.h) and in one log
 * group. Nothing else stands behind this door, so that another store with compare-and-swap could.
 *
 * Invariants (tests refer to the numbers):
 * (1) One value for each (register, version), and versions go up by one.
 * (2) A committed value is never lost while a majority of the voters keep their disks.
 * (3) A ballot is never used twice: it holds the proposer's incarnation.
 * (4) An acceptor's promise, what it accepted, and the version of the voter set it obeys are
 *     durable before they are answered. A refusal binds nobody and leaves at once.
 * (5) A question of an older voter set is refused; one of a newer set is left unanswered until
 *     that set is known here and durable. (An answer counts whatever set its sender obeys by now:
 *     what it says was done before.)
 * (6) What is told (host->ended) a majority has accepted, in the round that tells it.
 *
 * Pure: no clock, socket or disk. The host logs and sends; it calls registry_durable() when what
 * was logged is on the disk, and registry_flush() at the end of each turn. Out of memory is treated
 * like a lost message wherever the protocol allows. Not thread-safe.
 */
#ifndef STORAGE_REGISTRY_H
#define STORAGE_REGISTRY_H

#include "proto/base/buffer.h"
#include "proto/limits.h"
#include "proto/message.h"

/* Registers have numbers. */
#define REGISTRY_CLUSTER       0u
#define REGISTRY_NODE(index)   (1u + (index))
#define REGISTRY_PARTITION(p)  (1u + NODES_MAX + (p))
#define REGISTRY_REGISTERS_MAX ((uint32_t)REGISTERS_MAX)

#define REGISTRY_VOTERS_MAX 5

struct registry;

/* Who votes, 1 to REGISTRY_VOTERS_MAX different nodes. next_count 0: no change is under way; else
 * every round needs a majority of both. */
struct registry_voters {
    uint64_t version; /* raised with every change of the set; one version is one set, everywhere */
    uint32_t count, next_count;
    uint32_t nodes[REGISTRY_VOTERS_MAX], next[REGISTRY_VOTERS_MAX];
};

enum registry_outcome {
    REGISTRY_DONE,     /* read: this is the value. swap: ours is committed */
    REGISTRY_CONFLICT, /* swap: the version is not the one expected; it and the value are present */
};

/* What the registry needs done. All calls return at once; `arg` is the first argument of each. */
struct registry_host {
    void *arg;
    /* Log body (borrowed for the call) as one record. Returns its lsn, above those before it;
     * registry_durable() is told, later, when that is durable. */
    uint64_t (*log)(void *arg, struct bytes body);
    /* Send m to another node; it may be lost, doubled, late. Borrowed for the call. The host fills
     * in sender and incarnations, which m leaves 0. */
    void (*send)(void *arg, uint32_t node, const struct registry_message *m);
    /* The operation that ticket names has ended. value is valid during the call. From inside, the
     * next operations may be started and voters set. */
    void (*ended)(void *arg, uint64_t ticket, uint32_t number, enum registry_outcome outcome,
                  uint64_t version, struct bytes value);
};

struct registry_options {
    uint32_t self;        /* node index */
    uint64_t incarnation; /* of this boot; never used by this node before */
    uint32_t registers_count;
    uint64_t random; /* seed of the jitter */
    /* No majority after so long (half to one and a half of it, by chance): a higher ballot. It
     * doubles from retry_min_ms (0: 20) up to retry_max_ms (0: 500). */
    uint32_t retry_min_ms, retry_max_ms;
};

/* NULL: out of memory. host is copied. voters: the founding ones; a newer set may come back from
 * the log (registry_restore, registry_replay). */
struct registry *registry_new(const struct registry_options *options,
                              const struct registry_host *host,
                              const struct registry_voters *voters);
void registry_destroy(struct registry **r_p);

/* Version 1 of a register, the same at every node, known without any round: before the first
 * message or operation, at each start (it is not logged). Does nothing where a value was accepted.
 * Registers that are not founded begin at version 0 with an empty value. Copies. STATUS_OK,
 * STATUS_NOMEMORY. */
enum status registry_found(struct registry *r, uint32_t number, struct bytes value);

/* Recovery: the saved blob (once, first), then the records that the host logged since, in order;
 * some that the blob holds already do no harm. STATUS_OK, STATUS_CORRUPT, STATUS_NOMEMORY. */
enum status registry_restore(struct registry *r, struct bytes blob);
enum status registry_replay(struct registry *r, struct bytes body);
/* Append the acceptor's whole state, also what is logged and not yet durable. STATUS_OK;
 * STATUS_NOMEMORY (or beyond out's ceiling; then out is unchanged). */
enum status registry_save(struct registry *r, struct buffer *out);
/* Has the acceptor's state changed since the last registry_save()? */
bool registry_changed(const struct registry *r);

/* Start an operation; its end comes through host->ended, never during this call. One at a time for
 * each register: 0 when one of ours is under way there, or out of memory. A ticket is never 0. An
 * operation goes on, with higher ballots, until it has ended or is given up. value (at most
 * REGISTRY_VALUE_SIZE_MAX) is copied.
 *
 * A swap whose answer was lost is recognised as our own when it is found, and ends as DONE; if the
 * version has moved beyond it, it ends as CONFLICT, whether or not it was there for a while. A swap
 * that this incarnation gave up, or an earlier one began, may land at any later time, as long as
 * the version is the one that it expected. */
uint64_t registry_read(struct registry *r, uint64_t now_ms, uint32_t number);
uint64_t registry_swap(struct registry *r, uint64_t now_ms, uint32_t number,
                       uint64_t expected_version, struct bytes value);
/* Forget it: its outcome stays unknown, and a swap may still land. */
void registry_give_up(struct registry *r, uint64_t ticket);
bool registry_busy(const struct registry *r, uint32_t number);

/* A message from another node. STATUS_OK; STATUS_MALFORMED (nothing was done). */
enum status registry_message(struct registry *r, uint64_t now_ms, uint32_t from,
                             const struct registry_message *m);
/* Everything that was logged up to lsn is durable: answers that waited leave. */
void registry_durable(struct registry *r, uint64_t now_ms, uint64_t lsn);
/* Time passes: retries. When it is next wanted (at times sooner than needed); UINT64_MAX: never. */
void registry_tick(struct registry *r, uint64_t now_ms);
uint64_t registry_deadline(const struct registry *r);
/* End of a turn: what has gathered for each node leaves as one message (more beyond 1 MiB of values
 * or REGISTRY_STEPS_MAX steps). */
void registry_flush(struct registry *r);

/* The voters in force. Changing them:
 *
 * - Swap the cluster register to the joint set (version + 1). From its commit on tell every node:
 *   registry_set_voters() logs it, it is obeyed once durable, and what is under way begins again.
 * - At a node where registry_voters() shows the joint set read every register, the cluster's too:
 *   a read that begins under the joint set writes the register to a majority of both.
 * - When all of these have ended swap the cluster register to the new set alone (version + 1), and
 *   tell every node.
 *
 * Only a set that is committed in the cluster register may be set: a version is one set. One that
 * is not above ours is ignored. */
void registry_set_voters(struct registry *r, const struct registry_voters *voters);
void registry_voters(const struct registry *r, struct registry_voters *ret);
bool registry_is_voter(const struct registry *r, uint32_t node);

#endif
