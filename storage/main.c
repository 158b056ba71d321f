/* duet-storage: one node. Reads options, opens and recovers the directory, runs the loop. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/logline.h"
#include "proto/base/notify.h"
#include "proto/base/scheduling.h"
#include "storage/checkpoint.h"
#include "storage/cluster_file.h"
#include "storage/fault.h"
#include "storage/identity.h"
#include "storage/join.h"
#include "storage/loop.h"
#include "storage/map_file.h"

#define VERSION "0.1.0"
#define MIB ((uint64_t)1 << 20)

#define ROW(...) OPTION_ROW(struct storage_options, __VA_ARGS__)
static const struct option_row rows[] = {STORAGE_OPTIONS(ROW)};
#define ROWS_COUNT (sizeof rows / sizeof rows[0])

/* Everything that a running node has open, in the order in which it is opened. */
struct parts {
    struct clustermap *map;
    uint32_t index;
    char address[ADDRESS_SIZE_MAX]; /* where it listens */
    struct disk *disk;
    struct identity identity;
    uint64_t lease_former_ms;
    struct table *table;
    struct store *store;
    struct node *node;
    struct log *log;
    uint64_t replayed_ms;
};

static int exit_code(enum status status)
{
    if (status == STATUS_CONFIG)
        return EX_CONFIG;
    if (status == STATUS_USAGE)
        return EX_USAGE;
    return status == STATUS_IO || status == STATUS_FULL ? EX_IOERR : EX_UNAVAILABLE;
}

static int fatal(const struct error *error)
{
    fprintf(stderr, "duet-storage: %s\n", error->message);
    return exit_code(error->status);
}

/* ------------------------------------------------------------------ options */

static enum status options_read(struct option_set *set, struct storage_options *o, int argc,
                                char **argv, struct error *reterr)
{
    char **rest = calloc((size_t)argc + 1, sizeof *rest);
    int rest_count = 0;
    if (rest == NULL)
        return error_set(reterr, STATUS_NOMEMORY, "out of memory");
    enum status status = option_read_flags(set, argc, argv, rest, &rest_count, reterr);
    if (status == STATUS_OK && rest_count > 0)
        status = error_set(reterr, STATUS_USAGE, "'%s' is not an option; see duet-storage --help",
                           rest[0]);
    free(rest);
    if (status == STATUS_OK)
        status = option_read_environment(set, "DUET_STORAGE_", reterr);
    if (status == STATUS_OK && o->config[0] != '\0')
        status = option_read_file(set, o->config, reterr);
    return status;
}

static enum status options_check(const struct storage_options *o, struct error *reterr)
{
    if (o->name[0] == '\0')
        return error_set(reterr, STATUS_USAGE,
                         "--name is missing: which node of the cluster this is");
    if (o->dir[0] == '\0')
        return error_set(reterr, STATUS_USAGE, "--dir is missing: the directory for this node's data");
    if (o->listen[0] != '\0' && !clustermap_address_good(o->listen))
        return error_set(reterr, STATUS_USAGE,
                         "--listen: '%s' is not tcp://HOST:PORT (the node also takes the two ports "
                         "above it)",
                         o->listen);
    if (o->join[0] != '\0' && !clustermap_address_good(o->join))
        return error_set(reterr, STATUS_USAGE, "--join: '%s' is not tcp://HOST:PORT", o->join);
    if (o->join[0] != '\0' && o->listen[0] == '\0')
        return error_set(reterr, STATUS_USAGE,
                         "--join: --listen is missing: where this node is to listen");
    return STATUS_OK;
}

static void print_help(const struct option_set *set)
{
    printf("duet-storage: one node of a Duet cluster\n\n"
           "  duet-storage --found --nodes n1=tcp://HOST:PORT,... > cluster.conf\n"
           "  duet-storage --cluster cluster.conf --name n1 --dir DIR\n"
           "  duet-storage --join tcp://HOST:PORT --name n4 --listen tcp://HOST:PORT --dir DIR\n\n"
           "A node takes three ports: PORT requests, PORT+1 peers, PORT+2 bulk. Options, from a file "
           "(--config,\nZPL), the environment (DUET_STORAGE_NAME) or flags, the later winning:\n\n");
    option_print_help(set, stdout);
}

/* ------------------------------------------------------------------ opening */

static enum status directory_open(const struct storage_options *o, struct parts *p,
                                  struct error *reterr)
{
    p->disk = disk_posix_new(o->dir, reterr);
    if (p->disk == NULL)
        return reterr->status;
    if (p->disk->verbs->lock(p->disk, reterr) != STATUS_OK)
        return error_wrap(reterr, "directory '%s'", o->dir);
    return STATUS_OK;
}

static enum status map_new(const struct storage_options *o, struct parts *p, struct error *reterr)
{
    p->map = clustermap_new();
    if (p->map == NULL)
        return error_set(reterr, STATUS_NOMEMORY, "out of memory");
    return o->cluster[0] == '\0' ? STATUS_OK : cluster_file_read(o->cluster, p->map, reterr);
}

static enum status find_self(const struct storage_options *o, struct parts *p,
                             struct error *reterr)
{
    p->index = clustermap_node_by_name(p->map, o->name);
    if (p->index != UINT32_MAX)
        return STATUS_OK;
    if (o->cluster[0] == '\0')
        return error_set(reterr, STATUS_CONFIG, "the cluster that directory '%s' belongs to has no "
                                                "node '%s'", o->dir, o->name);
    return error_set(reterr, STATUS_CONFIG, "the cluster file '%s' has no node '%s'", o->cluster,
                     o->name);
}

/* Where it is to listen; nobody else may have said so before. */
static enum status find_address(const struct storage_options *o, struct parts *p,
                                struct error *reterr)
{
    snprintf(p->address, sizeof p->address, "%s",
             o->listen[0] == '\0' ? p->map->nodes[p->index].address : o->listen);
    for (uint32_t i = 0; i < p->map->nodes_count; i++)
        if (i != p->index && p->map->nodes[i].version > 0 &&
            clustermap_addresses_meet(p->map->nodes[i].address, p->address))
            return error_set(reterr, STATUS_CONFIG,
                             "--listen: %s and the two ports above it meet those of node %s, %s",
                             p->address, p->map->nodes[i].name, p->map->nodes[i].address);
    return STATUS_OK;
}

/* The cluster file is the beginning; what the directory has learnt since wins. */
static enum status map_open(const struct storage_options *o, struct parts *p, struct error *reterr)
{
    enum status status = map_new(o, p, reterr);
    if (status != STATUS_OK)
        return status;
    status = map_file_load(p->disk, p->map, reterr);
    if (status != STATUS_OK && status != STATUS_NOTFOUND)
        return error_wrap(reterr, "directory '%s'", o->dir);
    if (clustermap_empty(p->map) && o->join[0] == '\0')
        return error_set(reterr, STATUS_USAGE,
                         "--cluster is missing: the cluster file; make one with duet-storage "
                         "--found, or --join a cluster that runs");
    if (clustermap_empty(p->map))
        status = join_cluster(o, p->disk, p->map, reterr);
    else
        status = o->join[0] == '\0' ? STATUS_OK : join_check(o, p->map, reterr);
    if (status == STATUS_OK)
        status = find_self(o, p, reterr);
    return status == STATUS_OK ? find_address(o, p, reterr) : status;
}

static enum status identity_open(const struct storage_options *o, struct parts *p,
                                 struct error *reterr)
{
    if (identity_boot(p->disk, p->map->cluster_id, p->map->nodes[p->index].id, clock_wall_ms(),
                      clock_random64() | 1, &p->identity, reterr) == STATUS_OK)
        return STATUS_OK;
    return error_wrap(reterr, "directory '%s'", o->dir);
}

/* The longest lease that this disk's lives have granted is known before one is: the next life waits
 * for it (L4). */
static enum status lease_note(const struct storage_options *o, struct parts *p,
                              struct error *reterr)
{
    uint64_t longest = o->lease_primary > o->lease_replica ? o->lease_primary : o->lease_replica;
    p->lease_former_ms = p->identity.longest_lease_ms;
    if (longest <= p->identity.longest_lease_ms)
        return STATUS_OK;
    p->identity.longest_lease_ms = longest;
    if (identity_save(p->disk, &p->identity, reterr) == STATUS_OK)
        return STATUS_OK;
    return error_wrap(reterr, "directory '%s'", o->dir);
}

static enum status table_open(const struct storage_options *o, struct parts *p,
                              struct error *reterr)
{
    char path[4200];
    struct store_options options = {.overlay_bytes_max = o->overlay_size * MIB,
                                    .overlay_entries_min = o->overlay_entries,
                                    .inline_reads = true};
    snprintf(path, sizeof path, "%s/table", o->dir);
    fault_init(path);
    p->table = table_lmdb_open(path, o->table_size * MIB, reterr);
    if (p->table == NULL)
        return reterr->status;
    p->store = store_new(&options, p->table);
    return p->store != NULL ? STATUS_OK : error_set(reterr, STATUS_NOMEMORY, "out of memory");
}

static enum status node_open(const struct storage_options *o, struct parts *p, struct error *reterr)
{
    struct node_options options;
    node_options_init(&options);
    options.index = p->index;
    options.incarnation = p->identity.incarnation;
    options.former = p->identity.former;
    options.disk = p->identity.disk;
    options.address = p->address;
    options.boot_id = clock_random64();
    options.suspect_ms = o->suspect;
    options.stall_ms = o->stall;
    options.lease_primary_ms = o->lease_primary;
    options.lease_replica_ms = o->lease_replica;
    options.lease_former_ms = p->lease_former_ms;
    options.kept_bytes_max = o->kept_size * MIB;
    options.random = clock_random64();
    options.pending_bytes_max = o->pending_size * MIB;
    options.waiters_max = (uint32_t)o->waiters;
    options.value_size_max = (uint32_t)o->value_size_max;
    p->node = node_new(&options, p->map, p->store);
    return p->node != NULL ? STATUS_OK : error_set(reterr, STATUS_NOMEMORY, "out of memory");
}

/* ------------------------------------------------------------------ recovery */

struct recovery {
    struct parts *parts;
    struct error error;
};

static enum status restore(void *arg, uint32_t slot, struct bytes blob)
{
    struct recovery *r = arg;
    return node_restore(r->parts->node, slot, blob, &r->error);
}

static enum status replay(void *arg, uint64_t lsn, const struct record_view *record)
{
    struct recovery *r = arg;
    return node_replay(r->parts->node, lsn, record, &r->error);
}

static void progress(void *arg, uint64_t done, uint64_t total, uint64_t records)
{
    struct recovery *r = arg;
    uint64_t now = clock_now_ms();
    if (now < r->parts->replayed_ms + 500 && done < total)
        return;
    r->parts->replayed_ms = now;
    logline(LOGLINE_INFO, "recovering", "percent=%llu records=%llu",
            (unsigned long long)(total == 0 ? 100 : done * 100 / total),
            (unsigned long long)records);
    notify_starting("recovering: %llu %%, %llu records",
                    (unsigned long long)(total == 0 ? 100 : done * 100 / total),
                    (unsigned long long)records);
}

/* The error of a callback, when there is one, says more than that of whoever called it. */
static enum status recovery_failed(const struct recovery *r, struct error *reterr, const char *dir)
{
    if (r->error.status != STATUS_OK)
        *reterr = r->error;
    return error_wrap(reterr, "recovery of '%s'", dir);
}

static enum status recover(const struct storage_options *o, struct parts *p, struct error *reterr)
{
    struct recovery r = {.parts = p, .error = {.status = STATUS_OK}};
    uint64_t after = 0, began = clock_now_ms();
    struct log_options options = {.segment_size = o->segment_size * MIB,
                                  .retention_size = o->log_retention * MIB,
                                  .node_tag = bytes_le64(p->identity.node_id.octets)};
    enum status status = checkpoint_position(p->table, &after);
    if (status == STATUS_OK)
        status = checkpoint_states(p->table, restore, &r);
    if (status != STATUS_OK) {
        error_set(reterr, status, "the table: %s", status_text(status));
        return recovery_failed(&r, reterr, o->dir);
    }
    p->log = log_open(p->disk, &options, after, replay, progress, &r, reterr);
    if (p->log == NULL)
        return recovery_failed(&r, reterr, o->dir);
    logline(LOGLINE_INFO, "recovered", "incarnation=%llu after=%llu next=%llu ms=%llu",
            (unsigned long long)p->identity.incarnation, (unsigned long long)after,
            (unsigned long long)log_next_lsn(p->log),
            (unsigned long long)(clock_now_ms() - began));
    return STATUS_OK;
}

/* What node_start() wants logged is made durable before anything listens. */
static enum status start(struct parts *p, struct error *reterr)
{
    struct node_effects out;
    struct node_time now = {clock_now_ms(), clock_wall_ms()};
    struct log_group *group;
    node_effects_init(&out);
    enum status status = node_start(p->node, &now, log_next_lsn(p->log), &out, reterr);
    if (status == STATUS_OK && out.records_count > 0)
        status = log_append(p->log, out.records_first, out.records_count, buffer_view(&out.records));
    while (status == STATUS_OK && (group = log_group_take(p->log)) != NULL) {
        status = log_group_write(p->log, group);
        if (status == STATUS_OK)
            log_group_done(p->log, group);
    }
    node_effects_clear(&out);
    struct node_event durable = {.kind = NODE_DURABLE, .lsn = log_durable_lsn(p->log)};
    if (status == STATUS_OK)
        status = node_step(p->node, &now, &durable, &out);
    if (status == STATUS_OK && out.records_count > 0)
        status = log_append(p->log, out.records_first, out.records_count, buffer_view(&out.records));
    node_effects_fini(&out);
    if (status != STATUS_OK && reterr->status == STATUS_OK)
        error_set(reterr, status, "writing the log: %s", status_text(status));
    return status;
}

static enum status open_all(const struct storage_options *o, struct parts *p, struct error *reterr)
{
    enum status status = directory_open(o, p, reterr);
    if (status == STATUS_OK)
        status = map_open(o, p, reterr);
    if (status == STATUS_OK)
        status = identity_open(o, p, reterr);
    if (status == STATUS_OK)
        status = lease_note(o, p, reterr);
    if (status == STATUS_OK)
        status = table_open(o, p, reterr);
    if (status == STATUS_OK)
        status = node_open(o, p, reterr);
    if (status == STATUS_OK)
        status = recover(o, p, reterr);
    return status == STATUS_OK ? start(p, reterr) : status;
}

static void close_all(struct parts *p)
{
    log_destroy(&p->log);
    node_destroy(&p->node);
    store_destroy(&p->store);
    if (p->table != NULL)
        p->table->verbs->destroy(&p->table);
    if (p->disk != NULL)
        p->disk->verbs->destroy(&p->disk);
    clustermap_destroy(&p->map);
}

/* ------------------------------------------------------------------ running */

/* Signals are blocked before any thread starts, so that only the loop sees them. */
static int signals_take(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static enum status serve(const struct storage_options *o, struct parts *p, int signal_fd,
                         struct error *reterr)
{
    struct loop_parts parts = {.options = o,
                               .map = p->map,
                               .index = p->index,
                               .address = p->address,
                               .disk = p->disk,
                               .store = p->store,
                               .table = p->table,
                               .log = p->log,
                               .node = p->node,
                               .signal_fd = signal_fd};
    struct loop *loop = loop_new(&parts, reterr);
    if (loop == NULL)
        return reterr->status;
    logline(LOGLINE_INFO, "serving", "address=%s dir=%s", p->address, o->dir);
    notify_ready("serving on %s", p->address);
    enum status status = loop_run(loop, reterr);
    if (status != STATUS_OK) {
        /* Rule U4: end at once; nothing is flushed, sent or answered any more. */
        logline(LOGLINE_ERROR, "failed", "error=\"%s\"", reterr->message);
        notify_status("failed: %s", reterr->message);
        _exit(exit_code(status));
    }
    loop_destroy(&loop);
    logline(LOGLINE_INFO, "stopped", "clean=true");
    return STATUS_OK;
}

static int run(const struct storage_options *o)
{
    struct parts parts = {0};
    struct error error = {.status = STATUS_OK};
    int signal_fd = signals_take();
    if (o->batch)
        scheduling_batch();
    logline_init("storage", o->name, (enum logline_level)o->log_level);
    notify_init();
    enum status status = options_check(o, &error);
    if (status == STATUS_OK)
        status = open_all(o, &parts, &error);
    if (status == STATUS_OK)
        status = serve(o, &parts, signal_fd, &error);
    close_all(&parts);
    close(signal_fd);
    return status == STATUS_OK ? EX_OK : fatal(&error);
}

static int check_config(const struct storage_options *o)
{
    struct parts parts = {0};
    struct error error;
    enum status status = options_check(o, &error);
    if (status == STATUS_OK)
        status = map_new(o, &parts, &error);
    if (status == STATUS_OK && !clustermap_empty(parts.map))
        status = find_self(o, &parts, &error);
    clustermap_destroy(&parts.map);
    if (status != STATUS_OK)
        return fatal(&error);
    printf("configuration OK\n");
    return EX_OK;
}

static int found(const struct storage_options *o)
{
    struct error error;
    enum status status = cluster_file_found(o, stdout, &error);
    return status == STATUS_OK ? EX_OK : fatal(&error);
}

static int command(const struct option_set *set, const struct storage_options *o)
{
    if (o->help) {
        print_help(set);
        return EX_OK;
    }
    if (o->version) {
        printf("duet-storage %s\n", VERSION);
        return EX_OK;
    }
    if (o->dump_config) {
        option_dump(set, stdout);
        return EX_OK;
    }
    if (o->found)
        return found(o);
    return o->check_config ? check_config(o) : run(o);
}

int main(int argc, char **argv)
{
    struct storage_options options;
    struct error error = {.status = STATUS_OK};
    struct option_set *set = option_new(rows, ROWS_COUNT, &options);
    if (set == NULL)
        return EX_OSERR;
    enum status status = options_read(set, &options, argc, argv, &error);
    int code = status == STATUS_OK ? command(set, &options) : fatal(&error);
    option_destroy(&set);
    return code;
}
