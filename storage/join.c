#include "storage/join.h"

#include <poll.h>
#include <stdio.h>

#include "proto/base/clock.h"
#include "proto/codec.h"
#include "proto/link.h"
#include "storage/identity.h"
#include "storage/map_file.h"

#define ANSWER_WAIT_MS 5000u  /* for the cluster to be reached */
#define JOIN_WAIT_MS   30000u /* for it to take us in: a majority of the voters must be there */
#define CHECK_WAIT_MS  1000u
#define AGAIN_MS       200
#define LOOK_MS        20

/* A conversation with one node. */
struct asking {
    struct link *link;
    struct clustermap *map;
    const char *address;
    uint64_t answered_ms; /* when it answered last; 0: never */
    enum status refused;  /* its last answer refused; OK: it did not */
    char words[256];      /* why */
};

static void take_answer(struct asking *a, struct bytes frame)
{
    struct arena arena;
    struct map_message map;
    struct refused refused;
    bool changed;
    arena_init(&arena);
    a->refused = STATUS_OK;
    if (codec_unpack_map(frame, &arena, &map) == STATUS_OK) {
        a->refused = clustermap_join(a->map, &map, &changed);
        snprintf(a->words, sizeof a->words, "its map is not that of one cluster");
    } else if (codec_unpack_refused(frame, &arena, &refused) == STATUS_OK) {
        a->refused = refused.status;
        snprintf(a->words, sizeof a->words, "%.*s", (int)refused.message.size,
                 (const char *)refused.message.data);
    } else {
        a->refused = STATUS_UNSUPPORTED;
        snprintf(a->words, sizeof a->words, "what answers there is no node of Duet");
    }
    a->answered_ms = clock_now_ms();
    arena_fini(&arena);
}

/* Ask once; the answers that come meanwhile are taken. */
static void ask_once(struct asking *a, struct bytes question)
{
    uint64_t end_ms = clock_now_ms() + AGAIN_MS;
    bool sent = false;
    struct link_peer peer;
    struct bytes frame;
    struct buffer copy;
    while (clock_now_ms() < end_ms) {
        if (!sent && link_connected(a->link)) {
            buffer_init(&copy, FRAME_BYTES_MAX);
            sent = buffer_append(&copy, question) == STATUS_OK &&
                   link_send(a->link, NULL, &copy) == STATUS_OK;
            buffer_fini(&copy);
        }
        while (link_recv(a->link, &peer, &frame) == STATUS_OK)
            take_answer(a, frame);
        struct pollfd fd = {.fd = link_fd(a->link), .events = POLLIN};
        poll(&fd, 1, LOOK_MS);
    }
}

/* The cluster's map, from whoever answers within wait_ms. */
static enum status reach(struct asking *a, uint64_t wait_ms, struct error *reterr)
{
    struct buffer question;
    uint64_t end_ms = clock_now_ms() + wait_ms;
    buffer_init(&question, 256);
    enum status s = codec_pack_map_request(0, &question);
    while (s == STATUS_OK && clustermap_empty(a->map) && clock_now_ms() < end_ms)
        ask_once(a, buffer_view(&question));
    buffer_fini(&question);
    if (s == STATUS_OK && !clustermap_empty(a->map))
        return STATUS_OK;
    if (a->answered_ms != 0)
        return error_set(reterr, STATUS_NOCONNECTION, "--join: %s: %s", a->address, a->words);
    return error_set(reterr, STATUS_NOCONNECTION,
                     "--join: no node answers at %s; is one running there, and is that the address "
                     "of its requests (not of its peers)?",
                     a->address);
}

/* May it be tried again? */
static bool passes(enum status refused)
{
    return refused == STATUS_OK || refused == STATUS_BUSY || refused == STATUS_UNAVAILABLE;
}

static enum status be_taken_in(struct asking *a, const struct clustermap_node *self,
                               struct error *reterr)
{
    struct buffer value, question;
    uint64_t end_ms = clock_now_ms() + JOIN_WAIT_MS;
    buffer_init(&value, 4096);
    buffer_init(&question, 8192);
    enum status s = clustermap_encode_node(self, &value);
    if (s == STATUS_OK)
        s = codec_pack_join(buffer_view(&value), &question);
    while (s == STATUS_OK && passes(a->refused) && clock_now_ms() < end_ms &&
           clustermap_node_by_id(a->map, self->id) == UINT32_MAX)
        ask_once(a, buffer_view(&question));
    buffer_fini(&value);
    buffer_fini(&question);
    if (s != STATUS_OK)
        return error_set(reterr, s, "--join: %s", status_text(s));
    if (clustermap_node_by_id(a->map, self->id) != UINT32_MAX)
        return STATUS_OK;
    if (a->refused != STATUS_OK)
        return error_set(reterr, STATUS_CONFIG, "--join: the cluster at %s does not take this node: "
                                                "%s", a->address, a->words);
    return error_set(reterr, STATUS_NOCONNECTION,
                     "--join: the cluster at %s has not taken this node in: are most of its voters "
                     "there? It may be tried again",
                     a->address);
}

/* The directory's identity, which is drawn when it has none. */
static enum status be_somebody(struct disk *disk, const struct clustermap *map,
                               struct identity *ret, struct error *reterr)
{
    struct id128 node;
    enum status s = identity_load(disk, ret, reterr);
    if (s != STATUS_OK && s != STATUS_NOTFOUND)
        return s;
    if (s == STATUS_OK)
        node = ret->node_id;
    else
        for (size_t i = 0; i < sizeof node.octets; i += 8)
            bytes_put_le64(node.octets + i, clock_random64());
    return identity_boot(disk, map->cluster_id, node, clock_wall_ms(), clock_random64() | 1, ret,
                         reterr);
}

static enum status join(const struct storage_options *o, struct asking *a, struct disk *disk,
                        struct error *reterr)
{
    struct identity id;
    struct clustermap_node self = {.weight = (uint32_t)o->weight};
    enum status s = reach(a, ANSWER_WAIT_MS, reterr);
    if (s == STATUS_OK && (s = be_somebody(disk, a->map, &id, reterr)) != STATUS_OK)
        return error_wrap(reterr, "directory '%s'", o->dir);
    if (s != STATUS_OK)
        return s;
    self.id = id.node_id;
    self.disk = id.disk;
    snprintf(self.name, sizeof self.name, "%s", o->name);
    snprintf(self.host, sizeof self.host, "%.63s", o->host[0] == '\0' ? o->name : o->host);
    snprintf(self.address, sizeof self.address, "%.127s", o->listen);
    s = be_taken_in(a, &self, reterr);
    return s == STATUS_OK ? map_file_save(disk, a->map, reterr) : s;
}

/* What is to be done while there is a line to the node at o->join. */
typedef enum status join_fn(const struct storage_options *o, struct asking *a, struct disk *disk,
                            struct error *reterr);

static enum status with_line(const struct storage_options *o, struct clustermap *map,
                             struct disk *disk, join_fn *fn, struct error *reterr)
{
    struct asking a = {.map = map, .address = o->join};
    struct link_context *context = link_context_new(1, false);
    a.link = context == NULL ? NULL : link_connect(context, LINK_CLIENT, o->join, reterr);
    enum status s = a.link == NULL ? STATUS_NOCONNECTION : fn(o, &a, disk, reterr);
    link_destroy(&a.link);
    link_context_destroy(&context);
    return s;
}

enum status join_cluster(const struct storage_options *o, struct disk *disk,
                         struct clustermap *map, struct error *reterr)
{
    return with_line(o, map, disk, join, reterr);
}

static enum status look(const struct storage_options *o, struct asking *a, struct disk *disk,
                        struct error *reterr)
{
    (void)o;
    (void)disk;
    return reach(a, CHECK_WAIT_MS, reterr);
}

enum status join_check(const struct storage_options *o, const struct clustermap *map,
                       struct error *reterr)
{
    struct error ignored = {.status = STATUS_OK};
    struct clustermap *theirs = clustermap_new();
    if (theirs == NULL)
        return error_set(reterr, STATUS_NOMEMORY, "out of memory");
    bool told = with_line(o, theirs, NULL, look, &ignored) == STATUS_OK;
    bool same = memcmp(&theirs->cluster_id, &map->cluster_id, sizeof map->cluster_id) == 0;
    clustermap_destroy(&theirs);
    if (!told || same)
        return STATUS_OK;
    return error_set(reterr, STATUS_WRONGCLUSTER,
                     "the directory '%s' belongs to another cluster than the one at %s", o->dir,
                     o->join);
}
