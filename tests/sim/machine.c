#include "tests/sim/machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/ensure.h"
#include "proto/codec.h"
#include "storage/checkpoint.h"
#include "storage/identity.h"
#include "storage/log.h"
#include "storage/node.h"
#include "tests/lib/disk_sim.h"
#include "tests/lib/table_mem.h"
#include "tests/sim/memory.h"
#include "tests/sim/steps.h"
#include "tests/sim/watch.h"
#include "tests/sim/world.h"

#define HEARTBEAT_US   100000u
#define WALL_BASE_MS   1700000000000u
#define SPACE_CHECK_MS 1000u

/* Something for the next turn. */
struct inbox_item {
    struct node_event event;
    uint8_t *memory; /* behind frame */
};

struct fetch_job {
    uint64_t ticket, generation, digest;
    uint32_t slot;
    struct buffer key;
    struct item item; /* what the table said */
    uint8_t *value;
    bool read, used;
};

extern unsigned mutant;

/* What survives a process. */
struct medium {
    struct disk *disk; /* NULL: none */
    struct table *table;
};

struct machine {
    struct world *world;
    struct random random;
    uint32_t index;

    /* Survives the process. */
    struct disk *disk;
    struct table *table;
    struct world_clock clock;
    bool refusal_expected;
    int64_t wall_ms; /* how wrong its wall clock is */
    struct medium own;   /* set aside while another disk is in its place; else empty */
    struct medium image; /* of its own, as it was once; else empty */

    /* The process. */
    uint64_t life; /* raised at each boot and end: late callbacks are for the dead */
    bool alive;
    struct clustermap *map;
    struct store *store;
    struct node *node;
    struct log *log;
    struct node_effects effects;
    uint32_t control[WORLD_NODES_MAX], append[WORLD_NODES_MAX]; /* sockets */

    /* Its loop. */
    struct buffer heartbeats[WORLD_NODES_MAX]; /* the last ones that were sent */
    struct inbox_item *inbox;
    size_t inbox_count, inbox_capacity;
    bool turn_due;
    uint64_t timer_us; /* of the timer that is set; 0: none */
    uint64_t paused_until_us, stalled_until_us;
    uint64_t space_due_ms;
    bool space_low, checkpoint_wanted;

    /* Its threads. */
    struct log_group *group; /* handed to the disk's thread */
    bool disk_busy;          /* with the group, or with preparing a segment */
    bool prepare_wanted;
    bool end_writing;        /* the power fails during the next group */
    enum status disk_status; /* of what it did last */
    bool disk_ended;         /* it has news: the loop has not looked yet */
    struct checkpoint checkpoint;
    bool checkpointing, checkpoint_ended;
    uint32_t checkpoint_steps;
    struct fetch_job *fetches;
    size_t fetches_count, fetches_capacity;
};

static void turn(void *arg, uint64_t life, uint64_t unused);

/* ---------------------------------------------------------------- clock */

static struct node_time time_of(const struct machine *m)
{
    uint64_t now_ms = world_clock_ms(m->world, &m->clock);
    int64_t wall_ms = (int64_t)WALL_BASE_MS + (int64_t)world_now_ms(m->world) + m->wall_ms;
    if (mutant == 14)
        now_ms = (uint64_t)wall_ms;
    return (struct node_time){now_ms, (uint64_t)wall_ms};
}

/* ---------------------------------------------------------------- life */

struct clustermap *machine_map(const struct world *w)
{
    struct clustermap *map = clustermap_new();
    struct error error;
    ENSURE(map != NULL);
    memset(map->cluster_id.octets, 0xc1, sizeof map->cluster_id.octets);
    bytes_put_le64(map->cluster_id.octets, w->seed);
    map->partition_count = w->knobs.partitions;
    map->copies = w->knobs.copies;
    map->isr_min = 1;
    map->nodes_count = w->knobs.nodes;
    for (uint32_t i = 0; i < w->knobs.nodes; i++) {
        struct clustermap_node *n = &map->nodes[i];
        memset(n->id.octets, (int)(i + 1), sizeof n->id.octets);
        bytes_put_le64(n->id.octets, w->seed * 31 + i);
        snprintf(n->name, sizeof n->name, "n%u", i);
        snprintf(n->host, sizeof n->host, "h%u", i);
        snprintf(n->address, sizeof n->address, "tcp://n%u:7500", i);
        n->weight = 100;
    }
    enum status status = clustermap_found(map, &error);
    ENSURE(status == STATUS_OK);
    return map;
}

/* The map of a node that has just read its cluster file: the world's, copied (placing it anew takes
 * much longer). */
static struct clustermap *map_copy(const struct clustermap *from)
{
    struct clustermap *map = clustermap_new();
    size_t size = offsetof(struct clustermap, nodes) + from->nodes_count * sizeof from->nodes[0];
    ENSURE(map != NULL && map->partitions == NULL);
    memcpy(map, from, size);
    map->partitions = calloc(from->partition_count, sizeof *map->partitions);
    ENSURE(map->partitions != NULL);
    memcpy(map->partitions, from->partitions, from->partition_count * sizeof *map->partitions);
    return map;
}

struct machine *machine_new(struct world *w, uint32_t index)
{
    struct machine *m = calloc(1, sizeof *m);
    ENSURE(m != NULL);
    m->world = w;
    m->index = index;
    random_init(&m->random, w->seed * 1000003 + index);
    m->disk = disk_sim_new(random_next(&m->random));
    m->table = table_mem_new();
    ENSURE(m->disk != NULL && m->table != NULL);
    world_clock_draw(&m->clock, &m->random);
    m->wall_ms = (int64_t)random_range(&m->random, 0, 1000) - 500;
    return m;
}

static void medium_destroy(struct medium *d)
{
    if (d->disk == NULL)
        return;
    d->table->verbs->destroy(&d->table);
    d->disk->verbs->destroy(&d->disk);
}

static void inbox_clear(struct machine *m)
{
    for (size_t i = 0; i < m->inbox_count; i++)
        free(m->inbox[i].memory);
    m->inbox_count = 0;
}

static void fetches_clear(struct machine *m)
{
    for (size_t i = 0; i < m->fetches_count; i++) {
        buffer_fini(&m->fetches[i].key);
        free(m->fetches[i].value);
    }
    m->fetches_count = 0;
}

/* What the process had in memory is gone. */
static void forget(struct machine *m)
{
    m->alive = false;
    m->life++;
    log_destroy(&m->log);
    node_destroy(&m->node);
    store_destroy(&m->store);
    checkpoint_fini(&m->checkpoint);
    clustermap_destroy(&m->map);
    node_effects_fini(&m->effects);
    inbox_clear(m);
    fetches_clear(m);
    for (uint32_t i = 0; i < WORLD_NODES_MAX; i++)
        buffer_fini(&m->heartbeats[i]);
    m->checkpoint = (struct checkpoint){0};
    m->group = NULL;
    m->turn_due = m->disk_busy = m->disk_ended = m->checkpointing = m->checkpoint_ended = false;
    m->checkpoint_wanted = m->space_low = m->end_writing = false;
    m->timer_us = m->paused_until_us = m->space_due_ms = 0;
}

static enum status append_records(struct machine *m);

static enum status note_commits(struct machine *m)
{
    memory_work();
    enum status status = node_note_commits(m->node, &m->effects);
    memory_rest();
    return status;
}

static enum status write_groups(struct machine *m)
{
    enum status status = STATUS_OK;
    struct log_group *group;
    while (status == STATUS_OK && (group = log_group_take(m->log)) != NULL) {
        status = log_group_write(m->log, group);
        if (status == STATUS_OK)
            log_group_done(m->log, group);
    }
    return status;
}

/* Write what is left, with a CLOSE behind it, as storage/loop.c does. False: the disk is at work
 * (the loop would wait for it), or fails. */
static bool close_log(struct machine *m)
{
    struct buffer close;
    if (m->disk_busy || m->disk_ended)
        return false;
    buffer_init(&close, 256);
    enum status status = write_groups(m);
    if (status == STATUS_OK)
        status = note_commits(m);
    if (status == STATUS_OK)
        status = append_records(m);
    if (status == STATUS_OK)
        status = record_append(&close, RECORD_CLOSE, 0, BYTES_EMPTY);
    if (status == STATUS_OK)
        status = log_append(m->log, log_next_lsn(m->log), 1, buffer_view(&close));
    if (status == STATUS_OK)
        status = write_groups(m);
    buffer_fini(&close);
    return status == STATUS_OK;
}

void machine_end(struct machine *m, enum machine_end how)
{
    if (!m->alive)
        return;
    uint64_t *reached = m->world->reached;
    if (how == MACHINE_STOP && close_log(m)) {
        world_say(m->world, "n%u  has closed its log", m->index);
        reached[REACH_stops]++;
    }
    if (how == MACHINE_STOP)
        how = MACHINE_KILL;
    world_say(m->world, "n%u  %s", m->index, how == MACHINE_KILL ? "is killed" : "loses power");
    machine_count(m);
    reached[how == MACHINE_KILL ? REACH_kills : REACH_power_cuts]++;
    reached[REACH_torn_groups] += how == MACHINE_POWER && m->disk_busy && m->group != NULL;
    if (how == MACHINE_KILL)
        disk_sim_kill(m->disk);
    else
        disk_sim_crash(m->disk);
    table_mem_crash(m->table);
    forget(m);
    network_process_dead(m->world->network, ENDPOINT_NODE(m->index),
                         how == MACHINE_KILL || random_chance(&m->random, 500));
}

void machine_destroy(struct machine **m_p)
{
    struct machine *m = *m_p;
    if (m == NULL)
        return;
    forget(m);
    free(m->inbox);
    free(m->fetches);
    medium_destroy(&(struct medium){m->disk, m->table});
    medium_destroy(&m->own);
    medium_destroy(&m->image);
    free(m);
    *m_p = NULL;
}

/* ---------------------------------------------------------------- recovery */

struct recovery {
    struct machine *machine;
    struct error error;
};

static enum status on_state(void *arg, uint32_t slot, struct bytes blob)
{
    struct recovery *r = arg;
    memory_work();
    enum status status = node_restore(r->machine->node, slot, blob, &r->error);
    memory_rest();
    return status;
}

static enum status on_record(void *arg, uint64_t lsn, const struct record_view *record)
{
    struct recovery *r = arg;
    memory_work();
    enum status status = node_replay(r->machine->node, lsn, record, &r->error);
    memory_rest();
    return status;
}

static void on_commit(void *arg, uint32_t partition, const struct entry *e, uint64_t hash)
{
    struct machine *m = arg;
    struct node_replica_view v;
    memory_rest();
    if (node_replica(m->node, partition, &v))
        watch_commit(m->world->watch, m->index, partition, &v, e, hash);
    memory_work();
}

static bool make_store(struct machine *m)
{
    const struct knobs *k = &m->world->knobs;
    struct store_options options = {.overlay_bytes_max = k->overlay_bytes_max,
                                    .overlay_entries_min = k->overlay_entries_min,
                                    .inline_reads = !k->cold_reads};
    memory_work();
    m->store = store_new(&options, m->table);
    memory_rest();
    return m->store != NULL;
}

static bool make_node(struct machine *m, const struct identity *identity)
{
    const struct knobs *k = &m->world->knobs;
    struct node_options options;
    node_options_init(&options);
    options.index = m->index;
    options.incarnation = identity->incarnation;
    options.former = identity->former;
    options.disk = identity->disk;
    options.boot_id = random_next(&m->random) | 1;
    options.ask_primary_ms = k->ask_primary_ms;
    options.lease_replica_ms = k->lease_replica_ms;
    options.commit_note_ms = k->commit_note_ms;
    options.pending_max = k->pending_max;
    options.pending_bytes_max = k->pending_bytes_max;
    options.waiters_max = k->waiters_max;
    options.value_size_max = VALUE_SIZE_MAX_DEFAULT;
    options.random = random_next(&m->random);
    options.kept_bytes_max = k->kept_bytes_max;
    memory_work();
    m->node = node_new(&options, m->map, m->store);
    memory_rest();
    if (m->node != NULL)
        node_on_commit(m->node, on_commit, m);
    return m->node != NULL;
}

/* What the table said, before the log is read. */
static void say_restored(struct machine *m, uint64_t after)
{
    struct node_replica_view v;
    world_say(m->world, "n%u  replays after %" PRIu64, m->index, after);
    for (uint32_t p = 0; p < m->map->partition_count; p++)
        if (node_replica(m->node, p, &v))
            world_say(m->world,
                      "n%u  p%u slot %u promised %" PRIu64 " commit (%" PRIu64 ",%" PRIu64
                      ") last %" PRIu64,
                      m->index, p, v.slot, v.promised_epoch, v.commit_epoch, v.commit_seq,
                      v.last_seq);
}

static enum status recover(struct machine *m, uint64_t node_tag, struct error *reterr)
{
    struct recovery r = {.machine = m};
    uint64_t after = 0;
    struct log_options options = {.segment_size = m->world->knobs.segment_size,
                                  .retention_size = m->world->knobs.retention_size,
                                  .node_tag = node_tag};
    enum status status = checkpoint_position(m->table, &after);
    if (status == STATUS_OK)
        status = checkpoint_states(m->table, on_state, &r);
    if (status != STATUS_OK) {
        *reterr = r.error;
        return status;
    }
    say_restored(m, after);
    m->log = log_open(m->disk, &options, after, on_record, NULL, &r, reterr);
    if (m->log != NULL)
        return STATUS_OK;
    if (r.error.status != STATUS_OK)
        *reterr = r.error;
    return reterr->status;
}

/* Opens everything up to node_start(). */
static enum status open_all(struct machine *m, struct error *reterr)
{
    struct identity identity;
    enum status status = m->disk->verbs->lock(m->disk, reterr);
    if (status == STATUS_OK)
        status = identity_boot(m->disk, m->world->map->cluster_id,
                               m->world->map->nodes[m->index].id,
                               WALL_BASE_MS + world_now_ms(m->world),
                               random_next(&m->random) | 1, &identity, reterr);
    if (status != STATUS_OK)
        return status;
    m->map = map_copy(m->world->map);
    if (!make_store(m) || !make_node(m, &identity))
        return error_set(reterr, STATUS_NOMEMORY, "out of memory");
    status = recover(m, bytes_le64(identity.node_id.octets), reterr);
    if (status != STATUS_OK)
        return status;
    watch_recovered(m->world->watch, m->index, m->node, log_next_lsn(m->log));
    struct node_time time = time_of(m);
    memory_work();
    status = node_start(m->node, &time, log_next_lsn(m->log), &m->effects, reterr);
    memory_rest();
    return status;
}

static void dial_peers(struct machine *m)
{
    struct network *network = m->world->network;
    for (uint32_t i = 0; i < m->world->knobs.nodes; i++) {
        if (i == m->index)
            continue;
        m->control[i] =
            network_dial(network, ENDPOINT_NODE(m->index), ENDPOINT_NODE(i), NETWORK_NODE);
        m->append[i] =
            network_dial(network, ENDPOINT_NODE(m->index), ENDPOINT_NODE(i), NETWORK_NODE);
    }
}

static void wake(struct machine *m)
{
    if (m->turn_due)
        return;
    m->turn_due = true;
    queue_add(&m->world->queue, random_below(&m->random, m->world->knobs.turn_max_us + 1), turn, m,
              m->life, 0);
}

bool machine_boot(struct machine *m)
{
    struct error error = {.status = STATUS_OK, .message = ""};
    ENSURE(!m->alive);
    m->alive = true;
    m->life++;
    for (uint32_t i = 0; i < WORLD_NODES_MAX; i++)
        buffer_init(&m->heartbeats[i], 4096);
    node_effects_init(&m->effects);
    uint64_t failures = memory_failures();
    enum status status = open_all(m, &error);
    if (status == STATUS_OK && m->refusal_expected)
        world_fail(m->world, "I20", "node %u serves from a damaged log", m->index);
    if (status == STATUS_OK) {
        world_say(m->world, "n%u  serves; its log goes on at %" PRIu64, m->index,
                  log_next_lsn(m->log));
        network_process_up(m->world->network, ENDPOINT_NODE(m->index));
        dial_peers(m);
        m->prepare_wanted = true;
        wake(m);
        return true;
    }
    world_say(m->world, "n%u  cannot start: %s", m->index, error.message);
    bool starved = memory_failures() != failures && status == STATUS_NOMEMORY;
    if (status != STATUS_IO && status != STATUS_FULL && !starved && !m->refusal_expected)
        world_fail(m->world, "I20", "node %u refuses its own directory: %s (%s)", m->index,
                   error.message, status_name(status));
    m->world->reached[REACH_boots_failed]++;
    disk_sim_kill(m->disk);
    table_mem_crash(m->table);
    forget(m);
    return false;
}

static void count_failover(uint64_t *reached, const struct node_counters *c)
{
    reached[REACH_takeovers] += c->takeovers;
    reached[REACH_takeovers_unopened] += c->takeovers_unopened;
    reached[REACH_left_out] += c->left_out;
    reached[REACH_new_lives] += c->new_lives;
    reached[REACH_collisions] += c->collisions;
    reached[REACH_fenced] += c->fenced;
    reached[REACH_additions] += c->additions;
    reached[REACH_additions_dropped] += c->additions_dropped;
    reached[REACH_grown] += c->grown;
    reached[REACH_hand_backs] += c->hand_backs;
    reached[REACH_caught_up] += c->caught_up;
    reached[REACH_adrift] += c->adrift;
    reached[REACH_snapshots] += c->snapshots;
    reached[REACH_copies_ended] += c->copies_ended;
    reached[REACH_copies_dropped] += c->copies_dropped;
    reached[REACH_met] += c->met;
    reached[REACH_refused_heartbeats] += c->disks_refused;
}

void machine_count(struct machine *m)
{
    uint64_t *reached = m->world->reached;
    struct node_counters c;
    if (m->node == NULL)
        return;
    node_count(m->node, &c);
    reached[REACH_duplicates] += c.duplicates;
    reached[REACH_truncated] += c.truncated_entries;
    reached[REACH_gaps] += c.gaps;
    reached[REACH_retransmits] += c.retransmits;
    reached[REACH_stale_messages] += c.stale_messages;
    reached[REACH_fetches] += c.fetches;
    reached[REACH_unavailable] += c.refused_unavailable;
    reached[REACH_busy] += c.refused_busy;
    reached[REACH_full] += c.refused_full;
    count_failover(reached, &c);
}

bool machine_alive(const struct machine *m)
{
    return m->alive;
}

uint64_t machine_lives(const struct machine *m)
{
    return m->life;
}

const struct node *machine_node(const struct machine *m)
{
    return m->node;
}

struct store *machine_store(struct machine *m)
{
    return m->store;
}

bool machine_readable(struct machine *m, uint32_t partition)
{
    return m->node != NULL && node_readable(m->node, partition, time_of(m).now_ms);
}

uint64_t machine_log_size(const struct machine *m)
{
    uint64_t segments, bytes;
    log_count(m->log, &segments, &bytes);
    return bytes;
}

/* ---------------------------------------------------------------- events */

static struct inbox_item *inbox_add(struct machine *m, enum node_event_kind kind)
{
    if (m->inbox_count == m->inbox_capacity) {
        m->inbox_capacity = m->inbox_capacity == 0 ? 64 : 2 * m->inbox_capacity;
        m->inbox = realloc(m->inbox, m->inbox_capacity * sizeof *m->inbox);
        ENSURE(m->inbox != NULL);
    }
    struct inbox_item *item = &m->inbox[m->inbox_count++];
    *item = (struct inbox_item){.event = {.kind = kind}};
    wake(m);
    return item;
}

void machine_asked(struct machine *m, uint64_t source, enum network_class class, struct bytes frame)
{
    if (!m->alive)
        return;
    struct inbox_item *item = inbox_add(m, class == NETWORK_NODE ? NODE_PEER : NODE_REQUEST);
    item->memory = malloc(frame.size + 1);
    ENSURE(item->memory != NULL);
    memcpy(item->memory, frame.data, frame.size);
    item->event.source = source;
    item->event.frame = bytes_of(item->memory, frame.size);
}

/* ---------------------------------------------------------------- the disk's thread */

static bool is_armed(const struct disk_sim_faults *f)
{
    return f->write_eio != 0 || f->write_full != 0 || f->sync_eio != 0 || f->any_eio != 0;
}

/* What the disk does next: a group; when there is none, a step of preparing the next segment. It is
 * done at once, but takes time until it counts. */
static void disk_work(struct machine *m);

static void disk_ends(void *arg, uint64_t life, uint64_t was_group)
{
    struct machine *m = arg;
    if (m->life != life)
        return;
    uint64_t now_us = m->world->queue.now_us;
    if (m->stalled_until_us > now_us) {
        queue_add(&m->world->queue, m->stalled_until_us - now_us, disk_ends, m, life, was_group);
        return;
    }
    disk_sim_begin_torn_write(m->disk, false);
    m->disk_busy = false;
    if (was_group != 0 || m->disk_status != STATUS_OK) {
        m->disk_ended = true;
        m->prepare_wanted = true;
        wake(m);
    } else {
        disk_work(m);
    }
}

static void power_fails(void *arg, uint64_t life, uint64_t unused)
{
    struct machine *m = arg;
    (void)unused;
    if (m->life == life && m->end_writing)
        machine_end(m, MACHINE_POWER);
}

static void disk_work(struct machine *m)
{
    const struct knobs *k = &m->world->knobs;
    bool group = m->group != NULL;
    if (m->disk_busy || m->disk_ended || (!group && !m->prepare_wanted))
        return;
    struct disk_sim_faults *faults = disk_sim_faults(m->disk);
    bool armed = is_armed(faults);
    m->disk_busy = true;
    disk_sim_begin_torn_write(m->disk, true);
    m->disk_status =
        group ? log_group_write(m->log, m->group) : log_prepare(m->log, &m->prepare_wanted);
    if (armed && !is_armed(faults)) {
        world_say(m->world, "n%u  its disk fails", m->index);
        if (group)
            watch_disk_failed(m->world->watch, m->index);
    }
    uint64_t takes_us = random_spread(&m->random, k->sync_min_us, k->sync_max_us);
    queue_add(&m->world->queue, takes_us, disk_ends, m, m->life, group);
    if (group && m->end_writing)
        queue_add(&m->world->queue, random_below(&m->random, takes_us + 1), power_fails, m, m->life,
                  0);
}

static enum status step(struct machine *m, const struct node_time *time,
                        const struct node_event *event)
{
    memory_work();
    enum status status = node_step(m->node, time, event, &m->effects);
    memory_rest();
    return status;
}

/* What the disk did since the last turn. */
static enum status take_disk(struct machine *m, const struct node_time *time)
{
    if (!m->disk_ended)
        return STATUS_OK;
    m->disk_ended = false;
    if (m->disk_status != STATUS_OK)
        return m->disk_status;
    log_group_done(m->log, m->group);
    m->group = NULL;
    uint64_t lsn = log_durable_lsn(m->log);
    watch_durable(m->world->watch, m->index, lsn);
    struct node_event event = {.kind = NODE_DURABLE, .lsn = lsn};
    return step(m, time, &event);
}

/* ---------------------------------------------------------------- the checkpoint's thread */

static uint64_t checkpoint_pause_us(struct machine *m)
{
    return random_spread(&m->random, 100, 60000);
}

static void checkpoint_step(void *arg, uint64_t life, uint64_t unused)
{
    struct machine *m = arg;
    bool ended;
    (void)unused;
    if (m->life != life)
        return;
    ENSURE(steps_run(m->table, &m->checkpoint, ++m->checkpoint_steps, &ended) == STATUS_OK);
    m->checkpoint_ended = ended;
    if (ended)
        wake(m);
    if (random_chance(&m->random, m->world->knobs.checkpoint_crash_per_mille) && !m->world->calm) {
        world_say(m->world, "n%u  in the middle of a checkpoint", m->index);
        m->world->reached[REACH_checkpoint_deaths]++;
        machine_end(m, MACHINE_POWER);
        return;
    }
    if (!ended)
        queue_add(&m->world->queue, checkpoint_pause_us(m), checkpoint_step, m, life, 0);
}

static void say_records(struct machine *m, uint64_t lsn, struct bytes records)
{
    static const char *const kinds[] = {"?",      "entry",    "truncate", "promise",
                                        "commit", "register", "install",  "close",
                                        "snapshot", "rows",   "switch",   "drop"};
    struct effect effects[ENTRY_EFFECTS_MAX];
    struct record_view record;
    struct entry e;
    for (; record_next(&records, &record) == STATUS_OK; lsn++) {
        uint64_t number = 0;
        if (record.kind == RECORD_ENTRY && record_entry_decode(record.body, &e, effects) == STATUS_OK)
            number = e.seq;
        else
            record_decode_u64(record.body, &number);
        world_say(m->world, "n%u  logs %" PRIu64 ": slot %u %s %" PRIu64, m->index, lsn,
                  record.slot, kinds[record.kind < 12 ? record.kind : 0], number);
    }
}

static enum status append_records(struct machine *m)
{
    struct node_effects *out = &m->effects;
    if (out->records_count == 0)
        return STATUS_OK;
    if (m->world->tracing)
        say_records(m, out->records_first, buffer_view(&out->records));
    watch_records(m->world->watch, m->index, out->records_first, buffer_view(&out->records));
    enum status status =
        log_append(m->log, out->records_first, out->records_count, buffer_view(&out->records));
    buffer_clear(&out->records);
    out->records_count = 0;
    return status;
}

static enum status start_checkpoint(struct machine *m)
{
    struct checkpoint *c = &m->checkpoint;
    *c = (struct checkpoint){.frozen = store_freeze(m->store)};
    if (c->frozen == NULL)
        return STATUS_OK;
    memory_work();
    enum status status = node_freeze(m->node, c, &m->effects);
    memory_rest();
    if (status == STATUS_OK)
        status = append_records(m);
    if (status != STATUS_OK)
        return status;
    world_say(m->world, "n%u  checkpoint at %" PRIu64, m->index, c->lsn);
    m->checkpointing = true;
    m->checkpoint_steps = 0;
    queue_add(&m->world->queue, checkpoint_pause_us(m), checkpoint_step, m, m->life, 0);
    return STATUS_OK;
}

static void take_checkpoint(struct machine *m)
{
    if (!m->checkpoint_ended)
        return;
    uint64_t lsn = m->checkpoint.lsn;
    checkpoint_fini(&m->checkpoint);
    m->checkpoint = (struct checkpoint){0};
    store_thaw(m->store);
    log_release(m->log, lsn);
    m->checkpointing = m->checkpoint_ended = false;
    m->world->reached[REACH_checkpoints]++;
}

/* ---------------------------------------------------------------- the fetch threads */

static void fetch_arrives(void *arg, uint64_t life, uint64_t index)
{
    struct machine *m = arg;
    if (m->life != life)
        return;
    struct fetch_job *job = &m->fetches[index];
    inbox_add(m, NODE_FETCHED)->event = (struct node_event){
        .kind = NODE_FETCHED,
        .ticket = job->ticket,
        .generation = job->generation,
        .lsn = index}; /* the turn looks the item up: the array may move until then */
}

static void fetch_reads(void *arg, uint64_t life, uint64_t index)
{
    struct machine *m = arg;
    if (m->life != life)
        return;
    struct fetch_job *job = &m->fetches[index];
    const struct table_verbs *verbs = m->table->verbs;
    struct table_reader *reader;
    ENSURE(verbs->reader_new(m->table, &reader) == STATUS_OK);
    ENSURE(verbs->refresh(reader) == STATUS_OK);
    ENSURE(verbs->get(reader, job->slot, job->digest, buffer_view(&job->key), &job->item) ==
           STATUS_OK);
    if (job->item.present) {
        job->value = malloc(job->item.value.size + 1);
        ENSURE(job->value != NULL);
        if (job->item.value.size > 0)
            memcpy(job->value, job->item.value.data, job->item.value.size);
        job->item.value.data = job->value;
    }
    verbs->release(reader);
    verbs->reader_destroy(&reader);
    queue_add(&m->world->queue, random_spread(&m->random, 0, 20000), fetch_arrives, m, life, index);
}

static void submit_fetch(struct machine *m, struct node_effect *e)
{
    size_t index = 0;
    while (index < m->fetches_count && m->fetches[index].used)
        index++;
    if (index == m->fetches_capacity) {
        m->fetches_capacity = m->fetches_capacity == 0 ? 64 : 2 * m->fetches_capacity;
        m->fetches = realloc(m->fetches, m->fetches_capacity * sizeof *m->fetches);
        ENSURE(m->fetches != NULL);
    }
    if (index == m->fetches_count)
        m->fetches_count++;
    m->fetches[index] = (struct fetch_job){.ticket = e->ticket,
                                           .generation = e->generation,
                                           .digest = e->digest,
                                           .slot = e->slot,
                                           .key = e->frame,
                                           .used = true};
    e->frame = (struct buffer){.size_max = 1};
    queue_add(&m->world->queue, random_spread(&m->random, 10, 20000), fetch_reads, m, m->life,
              index);
}

static void fetch_done(struct machine *m, size_t index)
{
    struct fetch_job *job = &m->fetches[index];
    buffer_fini(&job->key);
    free(job->value);
    *job = (struct fetch_job){.used = false};
}

/* ---------------------------------------------------------------- turns */

static void send_source(struct machine *m, const struct node_effect *e)
{
    if (network_answer(m->world->network, e->source, buffer_view(&e->frame)) != STATUS_OK)
        inbox_add(m, NODE_SOURCE_GONE)->event.source = e->source;
}

static void send_peer(struct machine *m, const struct node_effect *e)
{
    enum message_kind kind;
    struct bytes frame = buffer_view(&e->frame);
    network_ask(m->world->network,
                e->lane == LANE_CONTROL ? m->control[e->peer] : m->append[e->peer], frame);
    if (codec_peek(frame, &kind) != STATUS_OK || kind != MESSAGE_HEARTBEAT)
        return;
    buffer_clear(&m->heartbeats[e->peer]);
    ENSURE(buffer_append(&m->heartbeats[e->peer], frame) == STATUS_OK);
}

/* Mutant 37: heartbeats that do not come from the loop that owns the data. */
static void beat(void *arg, uint64_t life, uint64_t unused)
{
    struct machine *m = arg;
    (void)unused;
    if (m->life != life || m->paused_until_us <= m->world->queue.now_us)
        return;
    for (uint32_t i = 0; i < m->world->knobs.nodes; i++)
        if (m->heartbeats[i].size > 0)
            network_ask(m->world->network, m->control[i], buffer_view(&m->heartbeats[i]));
    queue_add(&m->world->queue, HEARTBEAT_US, beat, m, life, 0);
}

static void carry_out(struct machine *m)
{
    if (m->group == NULL)
        m->group = log_group_take(m->log);
    disk_work(m);
    for (size_t i = 0; i < m->effects.count; i++) {
        struct node_effect *e = &m->effects.list[i];
        if (e->kind == NODE_SEND_SOURCE)
            send_source(m, e);
        else if (e->kind == NODE_FETCH)
            submit_fetch(m, e);
        else
            send_peer(m, e);
    }
    node_effects_clear(&m->effects);
    if (m->world->starved) { /* what a loop would have kept is asked for again */
        node_effects_fini(&m->effects);
        node_effects_init(&m->effects);
    }
}

static enum status care_for_space(struct machine *m, const struct node_time *time)
{
    m->space_due_ms = time->now_ms + SPACE_CHECK_MS;
    enum status status = log_space_check(m->log);
    bool low = log_space_low(m->log);
    if (status != STATUS_OK || low == m->space_low)
        return status;
    world_say(m->world, "n%u  %s", m->index, low ? "has little space left" : "has space again");
    m->space_low = low;
    m->world->reached[REACH_space_low] += low;
    struct node_event event = {.kind = NODE_SPACE, .low = low};
    return step(m, time, &event);
}

static enum status care(struct machine *m, const struct node_time *time)
{
    enum status status = STATUS_OK;
    bool due = store_checkpoint_due(m->store) || m->checkpoint_wanted ||
               log_replay_size(m->log) > 8 * m->world->knobs.segment_size;
    if (due && !m->checkpointing && log_durable_lsn(m->log) > 0) {
        m->checkpoint_wanted = false;
        status = start_checkpoint(m);
    }
    if (status == STATUS_OK && time->now_ms >= m->space_due_ms)
        status = care_for_space(m, time);
    return status;
}

static enum status step_inbox(struct machine *m, const struct node_time *time)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < m->inbox_count && status == STATUS_OK; i++) {
        struct node_event event = m->inbox[i].event;
        size_t job = event.lsn;
        bool fetched = event.kind == NODE_FETCHED;
        if (fetched) {
            event.item = &m->fetches[job].item;
            event.lsn = 0;
        }
        status = step(m, time, &event);
        if (fetched)
            fetch_done(m, job);
    }
    inbox_clear(m);
    return status;
}

static void on_timer(void *arg, uint64_t life, uint64_t at_us)
{
    struct machine *m = arg;
    if (m->life != life || m->timer_us != at_us)
        return;
    m->timer_us = 0;
    wake(m);
}

static void set_timer(struct machine *m, const struct node_time *time)
{
    uint64_t due = node_deadline(m->node);
    if (due > m->space_due_ms)
        due = m->space_due_ms;
    uint64_t delay_us = due <= time->now_ms ? 100 : (due - time->now_ms) * 1000;
    uint64_t at_us = m->world->queue.now_us + delay_us;
    if (m->timer_us != 0 && m->timer_us <= at_us)
        return;
    m->timer_us = at_us;
    queue_add(&m->world->queue, delay_us, on_timer, m, m->life, at_us);
}

/* Rule U4: it ends at once and sends nothing more. */
static void end_by_itself(struct machine *m, enum status status)
{
    char why[256];
    bool told = m->own.disk != NULL &&
                (status == STATUS_WRONGCLUSTER || status == STATUS_CORRUPT); /* U7, U2 */
    bool disk = status == STATUS_IO || status == STATUS_FULL;
    bool starved = status == STATUS_NOMEMORY && memory_failures() > 0;
    node_failure(m->node, why);
    world_say(m->world, "n%u  ends: %s %s", m->index, status_text(status), why);
    if (!starved)
        m->world->reached[told ? REACH_disks_refused : REACH_disk_deaths]++;
    if (!told && !starved && (m->world->calm || !disk))
        world_fail(m->world, "I20", "node %u ends: %s %s", m->index, status_name(status), why);
    machine_end(m, random_chance(&m->random, 500) ? MACHINE_KILL : MACHINE_POWER);
}

static enum status flush(struct machine *m, const struct node_time *time)
{
    memory_work();
    enum status status = node_flush(m->node, time, &m->effects);
    memory_rest();
    return status;
}

static enum status run_turn(struct machine *m, const struct node_time *time)
{
    enum status status = take_disk(m, time);
    if (status == STATUS_OK)
        status = step_inbox(m, time);
    take_checkpoint(m);
    if (status == STATUS_OK)
        status = flush(m, time);
    if (status == STATUS_OK)
        status = care(m, time);
    if (status == STATUS_OK)
        status = append_records(m);
    return status;
}

static void turn(void *arg, uint64_t life, uint64_t unused)
{
    struct machine *m = arg;
    (void)unused;
    if (m->life != life)
        return;
    uint64_t now_us = m->world->queue.now_us;
    if (m->paused_until_us > now_us) {
        queue_add(&m->world->queue, m->paused_until_us - now_us, turn, m, life, 0);
        return;
    }
    m->turn_due = false;
    struct node_time time = time_of(m);
    enum status status = run_turn(m, &time);
    if (status != STATUS_OK) {
        end_by_itself(m, status);
        return;
    }
    carry_out(m);
    watch_turn(m->world->watch, m->index, m->node);
    set_timer(m, &time);
}

/* ---------------------------------------------------------------- troubles */

void machine_pause(struct machine *m, uint64_t ms)
{
    m->paused_until_us = m->world->queue.now_us + ms * 1000;
    if (mutant == 37 && m->alive)
        queue_add(&m->world->queue, HEARTBEAT_US, beat, m, m->life, 0);
}

void machine_end_writing(struct machine *m)
{
    m->end_writing = m->alive;
}

void machine_stall(struct machine *m, uint64_t ms)
{
    m->stalled_until_us = m->world->queue.now_us + ms * 1000;
}

void machine_checkpoint(struct machine *m)
{
    m->checkpoint_wanted = true;
    if (m->alive)
        wake(m);
}

uint64_t machine_wall_ms(const struct machine *m)
{
    return time_of(m).wall_ms;
}

void machine_set_clock(struct machine *m, int64_t step_ms)
{
    m->wall_ms += step_ms;
}

struct disk_sim_faults *machine_faults(struct machine *m)
{
    return disk_sim_faults(m->disk);
}

void machine_limit_disk(struct machine *m, bool limited)
{
    uint64_t free_bytes, total;
    struct disk_sim_faults *faults = disk_sim_faults(m->disk);
    faults->size_max = 0;
    if (!limited)
        return;
    ENSURE(m->disk->verbs->space(m->disk, &free_bytes, &total) == STATUS_OK);
    faults->size_max =
        total - free_bytes + random_below(&m->random, 4) * (m->world->knobs.segment_size / 2) + 1;
}

void machine_expect_refusal(struct machine *m, bool expected)
{
    m->refusal_expected = expected;
}

void machine_take_image(struct machine *m)
{
    medium_destroy(&m->image);
    m->image.disk = disk_sim_copy(m->disk, random_next(&m->random));
    m->image.table = table_mem_copy(m->table);
    ENSURE(m->image.disk != NULL && m->image.table != NULL);
    *disk_sim_faults(m->image.disk) = (struct disk_sim_faults){0};
    disk_sim_crash(m->image.disk); /* as if the power had failed at that moment */
}

void machine_put_disk(struct machine *m, enum machine_disk which)
{
    ENSURE(!m->alive && m->own.disk == NULL);
    world_say(m->world, "n%u  has %s in the place of its own disk", m->index,
              which == MACHINE_EMPTY ? "an empty one" : "an old image");
    m->own = (struct medium){m->disk, m->table};
    if (which == MACHINE_EMPTY) {
        m->disk = disk_sim_new(random_next(&m->random));
        m->table = table_mem_new();
    } else {
        m->disk = m->image.disk;
        m->table = m->image.table;
        m->image = (struct medium){NULL, NULL};
    }
    ENSURE(m->disk != NULL && m->table != NULL);
    watch_look_away(m->world->watch, m->index, true);
}

bool machine_has_other_disk(const struct machine *m)
{
    return m->own.disk != NULL;
}

void machine_put_own_disk(struct machine *m)
{
    ENSURE(!m->alive);
    if (m->own.disk == NULL)
        return;
    world_say(m->world, "n%u  has its own disk again", m->index);
    medium_destroy(&(struct medium){m->disk, m->table});
    m->disk = m->own.disk;
    m->table = m->own.table;
    m->own = (struct medium){NULL, NULL};
    watch_look_away(m->world->watch, m->index, false);
}

static void take_name(void *arg, const char *name)
{
    char *newest = arg;
    size_t size = strlen(name);
    if (size > 4 && strcmp(name + size - 4, ".seg") == 0 && strcmp(name, "spare.seg") != 0 &&
        strcmp(name, newest) > 0)
        snprintf(newest, 64, "%s", name);
}

/* Where the last byte stands that is not zero. */
static uint64_t used_size(struct disk_file *f)
{
    uint64_t size, used = 0;
    uint8_t block[512];
    size_t got;
    ENSURE(f->verbs->size(f, &size) == STATUS_OK);
    for (uint64_t at = 0; at < size; at += sizeof block) {
        ENSURE(f->verbs->read(f, at, block, sizeof block, &got) == STATUS_OK);
        for (size_t i = 0; i < got; i++)
            if (block[i] != 0)
                used = at + i + 1;
    }
    return used;
}

void machine_damage_log(struct machine *m)
{
    char name[64] = "", path[80];
    struct disk_file *f;
    uint8_t byte;
    size_t got;
    ENSURE(!m->alive);
    ENSURE(m->disk->verbs->list(m->disk, "log", take_name, name) == STATUS_OK);
    ENSURE(name[0] != 0);
    snprintf(path, sizeof path, "log/%s", name);
    ENSURE(m->disk->verbs->open(m->disk, path, 0, &f, NULL) == STATUS_OK);
    uint64_t used = used_size(f);
    ENSURE(used > 4096);
    uint64_t at = 512 + used / 4 / 512 * 512 + 20;
    world_say(m->world, "n%u  a bit of %s flips at %" PRIu64, m->index, path, at);
    ENSURE(f->verbs->read(f, at, &byte, 1, &got) == STATUS_OK && got == 1);
    byte ^= 1;
    ENSURE(f->verbs->write(f, at, bytes_of(&byte, 1)) == STATUS_OK);
    ENSURE(f->verbs->sync(f) == STATUS_OK);
    f->verbs->close(&f);
}

void machine_calm(struct machine *m)
{
    *disk_sim_faults(m->disk) = (struct disk_sim_faults){0};
    /* Its disk has failed already, only its loop has not heard: the trouble's last victim. */
    if ((m->disk_busy || m->disk_ended) && m->disk_status != STATUS_OK)
        machine_end(m, MACHINE_KILL);
    m->paused_until_us = m->stalled_until_us = 0;
    m->end_writing = false;
}
