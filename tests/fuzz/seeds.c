/* Seeds: writes the first inputs of those targets whose inputs nobody could write by hand.
 *
 *   seeds FOLDER     FOLDER/client, FOLDER/router, FOLDER/node, FOLDER/log must exist
 *
 * Not a part of any test: the files that it wrote, and what fuzzing made of them, stand in corpus/.
 */
#include <stdio.h>

#include "proto/clustermap.h"
#include "proto/codec.h"
#include "storage/record.h"
#include "tests/fuzz/fuzz.h"

#define SIZE_MAX_OUT ((size_t)1 << 20)
#define ID_TEXT      "0123456789abcdef"

/* ---- Inputs ---- */

static struct buffer out;
static const char *folder;

static void octet(uint32_t value)
{
    uint8_t byte = (uint8_t)value;
    ENSURE(buffer_append(&out, bytes_of(&byte, 1)) == STATUS_OK);
}

static void two(uint32_t value)
{
    octet(value);
    octet(value >> 8);
}

static void block(struct bytes content)
{
    two((uint32_t)content.size);
    ENSURE(buffer_append(&out, content) == STATUS_OK);
}

static void text(const char *content)
{
    block(bytes_text(content));
}

static void save(const char *target, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/%s", folder, target, name);
    FILE *to = fopen(path, "wbe");
    ENSURE(to != NULL && fwrite(out.data, 1, out.size, to) == out.size && fclose(to) == 0);
    buffer_clear(&out);
}

/* ---- Messages: one of each kind ---- */

static struct buffer frame;

static struct bytes taken(enum status packed)
{
    ENSURE(packed == STATUS_OK);
    return buffer_view(&frame);
}

#define FRAME(...) (buffer_clear(&frame), taken(__VA_ARGS__))

static struct bytes hello(enum message_kind kind, uint32_t role)
{
    struct hello m = {.protocol_min = 1, .protocol_max = 1, .role = role, .boot_id = 9};
    m.cluster_id = bytes_text(ID_TEXT);
    m.ptime = 5;
    m.name = bytes_text("n");
    return FRAME(codec_pack_hello(kind, &m, &frame));
}

static struct bytes ping(enum message_kind kind)
{
    struct ping m = {.nonce = 1, .boot_id = 9, .ptime = 5, .map_version = 7};
    return FRAME(codec_pack_ping(kind, &m, &frame));
}

static struct bytes operation(const struct write *w)
{
    static struct buffer body;
    body.size_max = SIZE_MAX_OUT;
    buffer_clear(&body);
    ENSURE(codec_pack_write(w, &body) == STATUS_OK);
    return buffer_view(&body);
}

static const struct write put = {.mutation = MUTATION_PUT, .value = {3, (const uint8_t *)"red"}};

static struct bytes request(uint32_t flags)
{
    uint32_t kinds[] = {KIND_WRITE, KIND_READ, KIND_OUTCOME, KIND_SCAN};
    struct bytes keys[] = {bytes_text("a"), bytes_text("a"), bytes_text("b"), BYTES_EMPTY};
    struct bytes operations[] = {operation(&put), BYTES_EMPTY, bytes_text("\x10\x05"), BYTES_EMPTY};
    struct request m = {.client_id = 0xc1,
                        .first_seq = 1,
                        .ack_below = 1,
                        .ptime_token = 5,
                        .deadline_ms = 300,
                        .flags = flags,
                        .count = 4,
                        .kinds = kinds,
                        .keys = keys,
                        .operations = operations};
    return FRAME(codec_pack_request(&m, &frame));
}

static struct bytes answer(enum message_kind kind)
{
    uint64_t ids[] = {1, 2}, numbers[] = {4, 17};
    uint32_t statuses[] = {STATUS_OK, STATUS_NOTFOUND};
    uint32_t flags[] = {ANSWER_SYNCED | ANSWER_VALUE, 0};
    struct bytes values[] = {bytes_text("red"), BYTES_EMPTY};
    struct answer m = {0xc1, 8, 2, ids, statuses, flags, numbers, numbers, values};
    return FRAME(codec_pack_answer(kind, &m, &frame));
}

static struct bytes refused(void)
{
    struct refused m = {STATUS_UNSUPPORTED, bytes_text("no"), 1, 1};
    return FRAME(codec_pack_refused(&m, &frame));
}

static struct bytes map(void)
{
    struct clustermap *made = clustermap_new();
    struct error error;
    ENSURE(made != NULL);
    made->cluster_id.octets[0] = 7;
    made->partition_count = 4;
    made->copies = made->isr_min = made->nodes_count = 1;
    made->nodes[0].id.octets[0] = 1;
    made->nodes[0].weight = 1;
    snprintf(made->nodes[0].name, sizeof made->nodes[0].name, "n1");
    snprintf(made->nodes[0].host, sizeof made->nodes[0].host, "n1");
    snprintf(made->nodes[0].address, sizeof made->nodes[0].address, "tcp://127.0.0.1:7500");
    ENSURE(clustermap_found(made, &error) == STATUS_OK);
    struct bytes packed = FRAME(clustermap_pack(made, &frame));
    clustermap_destroy(&made);
    return packed;
}

static struct bytes status(void)
{
    struct bytes names[] = {bytes_text("requests")};
    uint64_t values[] = {3};
    struct status_message m = {bytes_text("r"), bytes_text("router"), 1, names, values};
    return FRAME(codec_pack_status(&m, &frame));
}

/* ---- Router and client ---- */

static void router(const char *name, uint32_t what, struct bytes content)
{
    octet(what);
    block(content);
    octet(2); /* node 0 answers all */
    octet(STATUS_OK);
    two(ANSWER_VALUE);
    text("red");
    octet(2 | 1 << 3);
    octet(STATUS_BUSY);
    two(ANSWER_RETRY);
    text("");
    octet(3); /* time */
    two(200);
    save("router", name);
}

static void routers(void)
{
    router("request", 0, request(0));
    router("request_whole", 0, request(REQUEST_WHOLE));
    router("request_of_a_req_socket", 7, request(REQUEST_WHOLE));
    router("hello", 0, hello(MESSAGE_HELLO, ROLE_CLIENT));
    router("ping", 0, ping(MESSAGE_PING));
    router("map_request", 0, FRAME(codec_pack_map_request(7, &frame)));
    router("status_request", 0, FRAME(codec_pack_status_request(&frame)));
    router("node_hello_reply", 1, hello(MESSAGE_HELLO_REPLY, ROLE_NODE));
    router("node_pong", 1, ping(MESSAGE_PONG));
    router("node_map", 1, map());
    router("node_refused", 1, refused());
    router("node_results", 1, answer(MESSAGE_RESULTS));
}

static void client(const char *name, struct bytes content)
{
    octet(3); /* read */
    text("a");
    octet(4 | MUTATION_PUT << 3);
    text("b");
    octet(0);
    text("red");
    octet(0);
    block(content);
    octet(7); /* answer all */
    octet(STATUS_OK);
    two(ANSWER_VALUE);
    text("red");
    octet(2);
    two(500);
    save("client", name);
}

static void clients(void)
{
    client("hello_reply", hello(MESSAGE_HELLO_REPLY, ROLE_ROUTER));
    client("answer", answer(MESSAGE_ANSWER));
    client("refused", refused());
    client("pong", ping(MESSAGE_PONG));
    client("map", map());
    client("status", status());
}

/* ---- Node ---- */

static void node(const char *name, uint32_t what, struct bytes content)
{
    octet(what);
    block(content);
    octet(4 | 3 << 4); /* time */
    octet(7);          /* restart */
    save("node", name);
}

static void operations(const char *name, uint32_t kind, struct bytes body)
{
    for (uint32_t side = 0; side < 2; side++) {
        octet(3 | side << 3 | (kind - KIND_READ) << 4);
        octet(1);
        octet(side + 1);
        octet(0);
        text("a");
        block(body);
    }
    octet(4 | 3 << 4);
    octet(7);
    save("node", name);
}

static struct bytes entry(void)
{
    static struct buffer body;
    struct entry e = {.kind = ENTRY_WRITE, .epoch = 1, .seq = 2, .prev_epoch = 1, .client = 1};
    e.client_seq = 1;
    e.effects_count = 1;
    struct effect effect = {EFFECT_PUT, 1, 0, bytes_text("a"), bytes_text("red")};
    e.effects = &effect;
    body.size_max = SIZE_MAX_OUT;
    buffer_clear(&body);
    ENSURE(record_entry_encode(&e, &body) == STATUS_OK);
    return buffer_view(&body);
}

static struct bytes append(void)
{
    uint32_t partitions[] = {0, 1}, counts[] = {1, 0};
    uint64_t ones[] = {1, 1};
    struct bytes entries[] = {entry()};
    struct append m = {.sender = 1, .count = 2, .partitions = partitions, .epochs = ones};
    m.prev_epochs = m.prev_seqs = m.commit_seqs = m.durable_seqs = ones;
    m.entry_counts = counts;
    m.entries_count = 1;
    m.entries = entries;
    return FRAME(codec_pack_append(&m, &frame));
}

static struct bytes numbers(enum message_kind kind)
{
    uint32_t partitions[] = {0, 1, 2, 3};
    uint64_t ones[] = {1, 1, 1, 1};
    struct promise promise = {1, 0, 0, 4, partitions, ones};
    struct promised promised = {1, 0, 0, 4, partitions, ones, ones, ones, NULL, ones};
    struct ack ack = {1, 0, 0, 4, partitions, ones, ones, NULL, NULL};
    struct heartbeat heartbeat = {.sender = 1, .map_version = 7, .ptime = 5};
    struct confirm confirm = {1, 0, 0, 4, partitions, ones, ones};
    if (kind == MESSAGE_CONFIRM || kind == MESSAGE_CONFIRMED)
        return FRAME(codec_pack_confirm(kind, &confirm, &frame));
    if (kind == MESSAGE_PROMISE)
        return FRAME(codec_pack_promise(&promise, &frame));
    if (kind == MESSAGE_PROMISED)
        return FRAME(codec_pack_promised(&promised, &frame));
    if (kind == MESSAGE_ACK)
        return FRAME(codec_pack_ack(&ack, &frame));
    return FRAME(codec_pack_heartbeat(&heartbeat, &frame));
}

static struct bytes batch(void)
{
    uint64_t ids[] = {1, 2};
    uint32_t kinds[] = {KIND_WRITE, KIND_READ};
    struct bytes keys[] = {bytes_text("a"), bytes_text("b")};
    struct bytes bodies[] = {operation(&put), BYTES_EMPTY};
    struct batch m = {.count = 2, .tokens = ids, .kinds = kinds, .digests = ids};
    m.client_ids = m.seqs = ids;
    m.keys = keys;
    m.operations = bodies;
    return FRAME(codec_pack_batch(&m, &frame));
}

static void writes(void)
{
    static const char *const names[] = {"check",        "put",       "put_keep_expiry",
                                        "delete",       "increment", "decimal",
                                        "append_value", "set_range", "set_expiry"};
    for (uint32_t mutation = 0; mutation <= MUTATION_SET_EXPIRY; mutation++) {
        struct write w = {.mutation = (enum mutation)mutation, .want = WANT_NEW, .delta = 1};
        w.precondition = (enum precondition)(mutation % 3);
        w.value = bytes_text("7");
        w.ttl_ms = mutation == MUTATION_SET_EXPIRY ? 10 : 0;
        operations(names[mutation], KIND_WRITE, operation(&w));
    }
    operations("read", KIND_READ, BYTES_EMPTY);
    operations("read_expiry", KIND_READ, bytes_text("\x08\x01"));
    operations("read_confirm", KIND_READ, bytes_text("\x10\x01"));
    operations("read_any", KIND_READ, bytes_text("\x10\x02"));
    operations("outcome", KIND_OUTCOME, bytes_text("\x10\x05"));
    operations("scan", KIND_SCAN, bytes_text("\x08\x05"));
}

static void nodes(void)
{
    writes();
    node("batch", 0, batch());
    node("hello", 0, hello(MESSAGE_HELLO, ROLE_ROUTER));
    node("ping", 0, ping(MESSAGE_PING));
    node("map_request", 0, FRAME(codec_pack_map_request(7, &frame)));
    node("status_request", 0, FRAME(codec_pack_status_request(&frame)));
    node("map", 1, map());
    node("heartbeat", 2, numbers(MESSAGE_HEARTBEAT));
    node("promise", 2, numbers(MESSAGE_PROMISE));
    node("promised", 2, numbers(MESSAGE_PROMISED));
    node("append", 2, append());
    node("append_in_chain", 2 | 1 << 4, append());
    node("append_in_chain_to_the_other", 2 | 3 << 3, append());
    node("ack", 2, numbers(MESSAGE_ACK));
    node("confirm", 2, numbers(MESSAGE_CONFIRM));
    node("confirmed", 2, numbers(MESSAGE_CONFIRMED));
}

/* ---- Log ---- */

static struct bytes records(uint32_t count)
{
    static struct buffer framed;
    uint8_t octets[16];
    framed.size_max = SIZE_MAX_OUT;
    buffer_clear(&framed);
    record_encode_u64(octets, 5);
    for (uint32_t i = 0; i < count; i++) {
        ENSURE(record_append(&framed, RECORD_ENTRY, 1 + i, entry()) == STATUS_OK);
        ENSURE(record_append(&framed, RECORD_PROMISE, 1, bytes_of(octets, 8)) == STATUS_OK);
    }
    struct install install = {3, 9};
    record_encode_install(octets, &install);
    ENSURE(record_append(&framed, RECORD_INSTALL, 1, bytes_of(octets, 16)) == STATUS_OK);
    return buffer_view(&framed);
}

static void log_built(const char *name, uint32_t options, uint32_t after, uint32_t wrong)
{
    octet(2);
    octet(options);
    octet(after);
    for (uint32_t i = 0; i < 3; i++) {
        octet(i == 1 ? wrong : 0);
        block(records(i + 1));
    }
    save("log", name);
}

static void logs(void)
{
    octet(0);
    ENSURE(buffer_append(&out, records(2)) == STATUS_OK);
    save("log", "records");
    log_built("groups", 0, 0, 0);
    log_built("groups_and_footer", 4, 0, 0);
    log_built("later_position", 16, 4, 0);
    log_built("torn_in_the_middle", 0, 0, 0x80);
    log_built("wrong_count", 0, 0, 1);
    log_built("wrong_lsn", 0, 0, 4);
}

int main(int argc, char **argv)
{
    ENSURE(argc == 2);
    folder = argv[1];
    buffer_init(&out, SIZE_MAX_OUT);
    buffer_init(&frame, SIZE_MAX_OUT);
    routers();
    clients();
    nodes();
    logs();
    return 0;
}
