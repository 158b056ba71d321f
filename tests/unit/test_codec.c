#define _GNU_SOURCE /* memmem */
#include "proto/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/limits.h"
#include "tests/unit/failing_memory.h"

#define OUT_SIZE_MAX (32u << 20)
#define FLIPS_COUNT  3000

/* ---- Samples: one of each message, with every field set ------------------------------------- */

#define U32(...)                                                                                   \
    (uint32_t[])                                                                                   \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define U64(...)                                                                                   \
    (uint64_t[])                                                                                   \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define BYTES(...)                                                                                 \
    (struct bytes[])                                                                               \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define TEXT(literal)                                                                              \
    {                                                                                              \
        sizeof literal - 1, (const uint8_t *)(literal)                                             \
    }
#define NO_BYTES                                                                                   \
    {                                                                                              \
        0, NULL                                                                                    \
    }
#define ID_TEXT "0123456789abcdef"

static const struct hello a_hello = {
    .protocol_min = 1,
    .protocol_max = 2,
    .features = 0x8000000000000001,
    .role = ROLE_ROUTER,
    .cluster_id = TEXT(ID_TEXT),
    .boot_id = 0x1122334455667788,
    .ptime = 1700000000000,
    .name = TEXT("r1"),
    .software = TEXT("duet 0.1.0"),
    .operations_max = 1024,
    .value_size_max = 1048576,
};

static enum status sample_hello(struct buffer *out)
{
    return codec_pack_hello(MESSAGE_HELLO, &a_hello, out);
}

static enum status sample_hello_reply(struct buffer *out)
{
    return codec_pack_hello(MESSAGE_HELLO_REPLY, &a_hello, out);
}

static enum status sample_request(struct buffer *out)
{
    const struct request m = {
        .client_id = 0xc1,
        .first_seq = 300,
        .ack_below = 290,
        .ptime_token = 7,
        .deadline_ms = 1000,
        .flags = REQUEST_WHOLE,
        .count = 4,
        .kinds = U32(KIND_READ, KIND_WRITE, KIND_OUTCOME, KIND_SCAN),
        .keys = BYTES(TEXT("apple"), TEXT("pear\0\xff"), NO_BYTES, NO_BYTES),
        .operations = BYTES(NO_BYTES, TEXT("\x10\x01\x22\x03red"), TEXT("\x10\x05"), NO_BYTES),
    };
    return codec_pack_request(&m, out);
}

static const struct answer an_answer = {
    .owner = 0xc1,
    .ptime = 8,
    .count = 3,
    .ids = U64(300, 301, 303),
    .statuses = U32(STATUS_OK, STATUS_NOTFOUND, STATUS_INDOUBT),
    .flags = U32(ANSWER_SYNCED | ANSWER_VALUE | 2u << ANSWER_COPIES_SHIFT, 0,
                 ANSWER_RETRY | ANSWER_IN_DOUBT),
    .epochs = U64(4, 0, 5),
    .seqs = U64(17, 0, UINT64_MAX),
    .values = BYTES(TEXT("red"), NO_BYTES, NO_BYTES),
};

static enum status sample_answer(struct buffer *out)
{
    return codec_pack_answer(MESSAGE_ANSWER, &an_answer, out);
}

static enum status sample_results(struct buffer *out)
{
    return codec_pack_answer(MESSAGE_RESULTS, &an_answer, out);
}

static enum status sample_batch(struct buffer *out)
{
    const struct batch m = {
        .router_boot = 0xb007,
        .count = 2,
        .tokens = U64(0x0000000300000001, 0x0000000400000002),
        .kinds = U32(KIND_WRITE, KIND_READ),
        .digests = U64(0x3a7bd3e2360a3d29, 1),
        .epochs = U64(4, 4),
        .client_ids = U64(0xc1, 0xc2),
        .seqs = U64(301, 1),
        .ack_belows = U64(290, 1),
        .ptime_tokens = U64(7, 0),
        .deadlines_ms = U32(1000, 20),
        .keys = BYTES(TEXT("apple"), TEXT("b")),
        .operations = BYTES(TEXT("\x10\x01"), NO_BYTES),
    };
    return codec_pack_batch(&m, out);
}

static enum status sample_refused(struct buffer *out)
{
    const struct refused m = {
        .status = STATUS_UNSUPPORTED,
        .message = TEXT("protocol 9"),
        .protocol_min = 1,
        .protocol_max = 1,
    };
    return codec_pack_refused(&m, out);
}

static const struct ping a_ping = {.nonce = 1, .boot_id = 2, .ptime = 300, .map_version = 4};

static enum status sample_voters(struct buffer *out)
{
    const struct voters_message m = {3, U32(0, 1, 300)};
    return codec_pack_voters(&m, out);
}

static enum status sample_drain(struct buffer *out)
{
    return codec_pack_drain(true, out);
}

static enum status sample_ping(struct buffer *out)
{
    return codec_pack_ping(MESSAGE_PING, &a_ping, out);
}

static enum status sample_pong(struct buffer *out)
{
    return codec_pack_ping(MESSAGE_PONG, &a_ping, out);
}

static enum status sample_map_request(struct buffer *out)
{
    return codec_pack_map_request(1234, out);
}

static enum status sample_map(struct buffer *out)
{
    struct reg registers[] = {
        {TEXT("cluster"), 1, TEXT("\x01\x02")},
        {TEXT("partition/0"), 70000, NO_BYTES},
    };
    return codec_pack_map(&(struct map_message){2, registers}, out);
}

static enum status sample_status(struct buffer *out)
{
    const struct status_message m = {
        .name = TEXT("n1"),
        .role = TEXT("node"),
        .count = 2,
        .names = BYTES(TEXT("writes"), TEXT("reads")),
        .values = U64(5, 1000000),
    };
    return codec_pack_status(&m, out);
}

static enum status sample_heartbeat(struct buffer *out)
{
    const struct heartbeat m = {
        .sender = 2,
        .incarnation = 11,
        .target_incarnation = 12,
        .cluster_id = TEXT(ID_TEXT),
        .node_id = TEXT("fedcba9876543210"),
        .map_version = 13,
        .ptime = 14,
        .disk = 15,
        .former = 16,
        .target_disk = 17,
        .target_seen = 18,
        .lease_primary_ms = 19,
        .lease_replica_ms = 20,
        .leaving = true,
    };
    return codec_pack_heartbeat(&m, out);
}

static enum status sample_promise(struct buffer *out)
{
    const struct promise m = {
        .sender = 1,
        .incarnation = 11,
        .target_incarnation = 12,
        .count = 2,
        .partitions = U32(0, 1023),
        .epochs = U64(5, 6),
    };
    return codec_pack_promise(&m, out);
}

static enum status sample_confirm(struct buffer *out)
{
    const struct confirm m = {
        .sender = 1,
        .incarnation = 11,
        .target_incarnation = 12,
        .count = 2,
        .partitions = U32(0, 1023),
        .epochs = U64(5, 6),
        .numbers = U64(300, 300),
    };
    return codec_pack_confirm(MESSAGE_CONFIRM, &m, out);
}

static enum status sample_promised(struct buffer *out)
{
    const struct promised m = {
        .sender = 2,
        .incarnation = 12,
        .target_incarnation = 11,
        .count = 2,
        .partitions = U32(0, 1023),
        .epochs = U64(5, 6),
        .commit_epochs = U64(4, 0),
        .commit_seqs = U64(100, 0),
        .commit_hashes = U64(0xfeedfacecafebeef, 0),
        .last_seqs = U64(101, 0),
    };
    return codec_pack_promised(&m, out);
}

static enum status sample_append(struct buffer *out)
{
    const struct append m = {
        .sender = 1,
        .incarnation = 11,
        .target_incarnation = 12,
        .ptime = 13,
        .count = 3,
        .partitions = U32(7, 8, 9),
        .epochs = U64(5, 5, 6),
        .prev_epochs = U64(4, 5, 6),
        .prev_seqs = U64(16, 2, 3),
        .prev_hashes = U64(0xa, 0xb, 0xc),
        .commit_seqs = U64(15, 1, 3),
        .durable_seqs = U64(14, 1, 3),
        .flags = U32(0, APPEND_WAITS, 0),
        .entry_counts = U32(2, 0, 1),
        .entries_count = 3,
        .entries = BYTES(TEXT("first"), TEXT("second"), TEXT("third")),
    };
    return codec_pack_append(&m, out);
}

static enum status sample_ack(struct buffer *out)
{
    const struct ack m = {
        .sender = 2,
        .incarnation = 12,
        .target_incarnation = 11,
        .count = 2,
        .partitions = U32(7, 8),
        .epochs = U64(5, 5),
        .verified_seqs = U64(18, 2),
        .hashes = U64(0xd, 0xb),
        .flags = U32(0, ACK_GAP),
    };
    return codec_pack_ack(&m, out);
}

static enum status sample_registry(struct buffer *out)
{
    const struct registry_message m = {
        .sender = 2,
        .incarnation = 11,
        .target_incarnation = 12,
        .voters_version = 3,
        .count = 5,
        .kinds = U32(REGISTRY_PREPARE, REGISTRY_PREPARED, REGISTRY_ACCEPT, REGISTRY_ACCEPTED,
                     REGISTRY_REFUSED),
        .registers = U32(0, 1, 1025, 17408, 2),
        .values = BYTES(NO_BYTES, TEXT("red"), TEXT("blue"), NO_BYTES, NO_BYTES),
        .versions = U64(0, 7, 8, 0, 0),
        .ballots = (struct ballot[]){{5, 2, 11}, {6, 1, 12}, {300, 2, 11}, {7, 1, 12}, {1, 1, 12}},
        .accepted = (struct ballot[]){{0, 0, 0}, {4, 1023, 9}, {0, 0, 0}, {0, 0, 0}, {9, 3, 10}},
        .writers = (struct registry_writer[]){{0, 0, 0}, {1023, 9, 77}, {2, 11, 78}, {0}, {0}},
    };
    return codec_pack_registry(&m, out);
}

static enum status sample_write(struct buffer *out)
{
    const struct write m = {
        .precondition = PRECONDITION_VERSION,
        .mutation = MUTATION_INCREMENT,
        .want = WANT_NEW,
        .value = TEXT("red\0"),
        .delta = -3,
        .expected = {4, 17},
        .expected_value = TEXT("blue"),
    };
    return codec_pack_write(&m, out);
}

static enum status sample_write_more(struct buffer *out)
{
    const struct write m = {
        .precondition = PRECONDITION_EXPIRY_AFTER,
        .mutation = MUTATION_SET_EXPIRY,
        .offset = 300,
        .expiry_ms = 1700000000000,
        .ttl_ms = 5,
    };
    return codec_pack_write(&m, out);
}

static enum status sample_read_query(struct buffer *out)
{
    const struct read_query m = {READ_EXPIRY, CONSISTENCY_ANY};
    return codec_pack_read_query(&m, out);
}

static enum status sample_expiry(struct buffer *out)
{
    return codec_pack_expiry(&(struct expiry){1700000000000, 300}, out);
}

static enum status sample_atomic_batch(struct buffer *out)
{
    const struct atomic_batch m = {.count = 2,
                                   .keys = BYTES(TEXT("{t}a"), TEXT("{t}b")),
                                   .operations = BYTES(TEXT("\x10\x01"), NO_BYTES)};
    return codec_pack_atomic_batch(&m, out);
}

static enum status sample_atomic_answer(struct buffer *out)
{
    const struct atomic_answer m = {.count = 2,
                                    .statuses = U32(STATUS_OK, STATUS_NOTFOUND),
                                    .flags = U32(ANSWER_VALUE, 0),
                                    .values = BYTES(TEXT("red"), NO_BYTES)};
    return codec_pack_atomic_answer(&m, out);
}

static enum status sample_atomic_dropped(struct buffer *out)
{
    const struct atomic_answer m = {.count = 2, .statuses = U32(0, 0), .dropped = true};
    return codec_pack_atomic_answer(&m, out);
}

static enum status sample_outcome_query(struct buffer *out)
{
    return codec_pack_outcome_query(&(struct outcome_query){0xc1, 301, 9}, out);
}

static enum status sample_scan_query(struct buffer *out)
{
    return codec_pack_scan_query(&(struct scan_query){100, 65536, .keys_only = true}, out);
}

static enum status sample_range_query(struct buffer *out)
{
    const struct scan_query m = {.count_only = true,
                                 .prefix = TEXT("{t}:"),
                                 .from = TEXT("{t}:b\0"),
                                 .to = TEXT("{t}:d")};
    return codec_pack_scan_query(&m, out);
}

static enum status sample_scan_page(struct buffer *out)
{
    const struct scan_page m = {
        .count = 2,
        .keys = BYTES(TEXT("apple"), TEXT("b")),
        .values = BYTES(TEXT("red"), NO_BYTES),
        .epochs = U64(4, 4),
        .seqs = U64(17, 18),
        .next = TEXT("\x3a\x7b\xd3\xe2\x36\x0a\x3d\x29"
                     "b"),
    };
    return codec_pack_scan_page(&m, out);
}

static enum status sample_count_page(struct buffer *out)
{
    const struct scan_page m = {.next = TEXT("{t}:c\0"), .counted = 300};
    return codec_pack_scan_page(&m, out);
}

static enum status sample_cluster_value(struct buffer *out)
{
    const struct cluster_value m = {
        .cluster_id = TEXT(ID_TEXT),
        .partition_count = 1024,
        .copies = 2,
        .isr_min = 1,
        .voters_count = 3,
        .voters = U32(0, 1, 2),
        .next_count = 3,
        .next = U32(0, 1, 3),
    };
    return codec_pack_cluster_value(&m, out);
}

static enum status sample_node_value(struct buffer *out)
{
    const struct node_value m = {
        .node_id = TEXT(ID_TEXT),
        .name = TEXT("n1"),
        .address = TEXT("tcp://127.0.0.1:7500"),
        .host = TEXT("h1"),
        .rack = TEXT("k1"),
        .weight = 100,
        .state = 1,
        .incarnation = 12,
        .disk = 77,
    };
    return codec_pack_node_value(&m, out);
}

static enum status sample_join(struct buffer *out)
{
    struct buffer value;
    buffer_init(&value, 4096);
    enum status s = sample_node_value(&value);
    if (s == STATUS_OK)
        s = codec_pack_join(buffer_view(&value), out);
    buffer_fini(&value);
    return s;
}

static enum status sample_partition_value(struct buffer *out)
{
    const struct partition_value m = {
        .epoch = 5,
        .opened = true,
        .primary = 2,
        .state = 1,
        .isr_count = 2,
        .isr = U32(2, 0),
        .isr_replica_ids = U64(0x2222, 0x1111),
        .assigned_count = 2,
        .assigned = U32(2, 0),
    };
    return codec_pack_partition_value(&m, out);
}

/* ---- Unpack and pack again: touches every byte of what came out ----------------------------- */

static bool untouched(const void *m, size_t size)
{
    const uint8_t *octets = m;
    for (size_t i = 0; i < size; i++)
        if (octets[i] != 0xee)
            return false;
    return true;
}

#define AGAIN(function, type, unpack, pack)                                                        \
    static enum status function(struct bytes in, struct arena *arena, struct buffer *out)          \
    {                                                                                              \
        (void)arena;                                                                               \
        type m;                                                                                    \
        memset(&m, 0xee, sizeof m);                                                                \
        enum status s = unpack;                                                                    \
        if (s == STATUS_OK)                                                                        \
            return pack;                                                                           \
        assert_int_equal(s, STATUS_MALFORMED);                                                     \
        assert_true(untouched(&m, sizeof m));                                                      \
        return s;                                                                                  \
    }

#define AGAIN_SIMPLE(name)                                                                         \
    AGAIN(again_##name, struct name, codec_unpack_##name(in, arena, &m), codec_pack_##name(&m, out))

AGAIN(again_hello, struct hello, codec_unpack_hello(in, arena, &m),
      codec_pack_hello((enum message_kind)in.data[2], &m, out))
AGAIN_SIMPLE(request)
AGAIN(again_drain, bool, codec_unpack_drain(in, arena, &m), codec_pack_drain(m, out))
static enum status pack_join(const struct node_value *m, struct buffer *out)
{
    struct buffer value;
    buffer_init(&value, 4096);
    enum status s = codec_pack_node_value(m, &value);
    if (s == STATUS_OK)
        s = codec_pack_join(buffer_view(&value), out);
    buffer_fini(&value);
    return s;
}

AGAIN(again_join, struct node_value, codec_unpack_join(in, arena, &m), pack_join(&m, out))
AGAIN(again_voters, struct voters_message, codec_unpack_voters(in, arena, &m),
      codec_pack_voters(&m, out))
AGAIN(again_answer, struct answer, codec_unpack_answer(in, arena, &m),
      codec_pack_answer((enum message_kind)in.data[2], &m, out))
AGAIN_SIMPLE(batch)
AGAIN_SIMPLE(refused)
AGAIN(again_ping, struct ping, codec_unpack_ping(in, arena, &m),
      codec_pack_ping((enum message_kind)in.data[2], &m, out))
AGAIN(again_map_request, uint64_t, codec_unpack_map_request(in, arena, &m),
      codec_pack_map_request(m, out))
AGAIN(again_map, struct map_message, codec_unpack_map(in, arena, &m), codec_pack_map(&m, out))
AGAIN(again_status, struct status_message, codec_unpack_status(in, arena, &m),
      codec_pack_status(&m, out))
AGAIN_SIMPLE(heartbeat)
AGAIN_SIMPLE(promise)
AGAIN_SIMPLE(promised)
AGAIN(again_confirm, struct confirm, codec_unpack_confirm(in, arena, &m),
      codec_pack_confirm(MESSAGE_CONFIRM, &m, out))
AGAIN_SIMPLE(append)
AGAIN_SIMPLE(ack)
AGAIN(again_registry, struct registry_message, codec_unpack_registry(in, arena, &m),
      codec_pack_registry(&m, out))
AGAIN_SIMPLE(write)
AGAIN_SIMPLE(atomic_batch)
AGAIN_SIMPLE(atomic_answer)
AGAIN(again_outcome_query, struct outcome_query, codec_unpack_outcome_query(in, &m),
      codec_pack_outcome_query(&m, out))
AGAIN(again_read_query, struct read_query, codec_unpack_read_query(in, &m),
      codec_pack_read_query(&m, out))
AGAIN(again_expiry, struct expiry, codec_unpack_expiry(in, &m), codec_pack_expiry(&m, out))
AGAIN(again_scan_query, struct scan_query, codec_unpack_scan_query(in, arena, &m),
      codec_pack_scan_query(&m, out))
AGAIN_SIMPLE(scan_page)
AGAIN_SIMPLE(cluster_value)
AGAIN_SIMPLE(node_value)
AGAIN_SIMPLE(partition_value)

/* The golden bytes are the wire contract. A new field may add a line, no line ever changes. They
 * were checked against Python's protobuf when they were written. */
static const struct door {
    const char *name;
    bool part; /* stands inside messages, has no prefix */
    enum status (*sample)(struct buffer *out);
    enum status (*again)(struct bytes in, struct arena *arena, struct buffer *out);
    const char *golden;
} doors[] = {
    {"hello", false, sample_hello, again_hello,
     "d701010008011002188180808080808080800120022a10303132333435363738396162636465663188776655"
     "443322113880d095ffbc31420272314a0a6475657420302e312e3050800858808040"},
    {"hello_reply", false, sample_hello_reply, again_hello,
     "d701020008011002188180808080808080800120022a10303132333435363738396162636465663188776655"
     "443322113880d095ffbc31420272314a0a6475657420302e312e3050800858808040"},
    {"request", false, sample_request, again_request,
     "d701030009c10000000000000010ac0218a202200728e80730013a040102030442056170706c654206706561"
     "7200ff420042004a004a07100122037265644a0210054a00"},
    {"answer", false, sample_answer, again_answer,
     "d701040009c10000000000000010081a06ac02ad02af0222030001062a048c04000332030400053a0c1100ff"
     "ffffffffffffffff01420372656442004200"},
    {"results", false, sample_results, again_answer,
     "d701060009c10000000000000010081a182c010000000000002d010000000000002f01000000000000220300"
     "01062a048c04000332030400053a0c1100ffffffffffffffffff01420372656442004200"},
    {"batch", false, sample_batch, again_batch,
     "d70105000907b00000000000001210010000000300000002000000040000001a0202012210293d0a36e2d37b"
     "3a01000000000000002a0204043210c100000000000000c2000000000000003a03ad02014203a202014a0207"
     "005203e807145a056170706c655a0162620210016200"},
    {"refused", false, sample_refused, again_refused,
     "d7010700080f120a70726f746f636f6c203918012001"},
    {"join", false, sample_join, again_join,
     "d70110000a440a103031323334353637383961626364656612026e311a147463703a2f2f3132372e302e302e31"
     "3a37353030220268312a026b3130643801400cc1024d00000000000000"},
    {"voters", false, sample_voters, again_voters, "d7010f000a040001ac02"},
    {"drain", false, sample_drain, again_drain, "d7010e000801"},
    {"ping", false, sample_ping, again_ping,
     "d701080009010000000000000011020000000000000018ac022004"},
    {"pong", false, sample_pong, again_ping,
     "d701090009010000000000000011020000000000000018ac022004"},
    {"map_request", false, sample_map_request, again_map_request, "d7010a0008d209"},
    {"map", false, sample_map, again_map,
     "d7010b000a0f0a07636c757374657210011a0201020a110a0b706172746974696f6e2f3010f0a204"},
    {"status", false, sample_status, again_status,
     "d7010d000a026e3112046e6f64651a067772697465731a057265616473220405c0843d"},
    {"heartbeat", false, sample_heartbeat, again_heartbeat,
     "d70120000802100b180c2210303132333435363738396162636465662a106665646362613938373635343332"
     "3130300d380e690f000000000000007010791100000000000000800112880113900114980101"},
    {"promise", false, sample_promise, again_promise, "d70121000801100b180c220300ff072a020506"},
    {"confirm", false, sample_confirm, again_confirm,
     "d70111000801100b180c220300ff072a0205063204ac02ac02"},
    {"promised", false, sample_promised, again_promised,
     "d70122000802100c180b220300ff072a020506320204003a0264004210efbefecacefaedfe00000000000000"
     "004a026500"},
    {"append", false, sample_append, again_append,
     "d70123000801100b180c200d2a0307080932030505063a0304050642031002034a180a000000000000000b00"
     "0000000000000c0000000000000052030f01035a030e010362030001006a0302000172056669727374720673"
     "65636f6e6472057468697264"},
    {"ack", false, sample_ack, again_ack,
     "d70124000802100c180b220207082a020505320212023a100d000000000000000b0000000000000042020001"},
    {"registry", false, sample_registry, again_registry,
     "d70125000802100b180c20032a050102030405320800018108808801023a003a037265643a04626c75653a"
     "003a00420500070800004a060506ac020701520502010201015a050b0c0b0c0c620500040000096a0600ff"
     "070000037205000900000a7a0600ff0702000082010500090b00008a0105004d4e0000"},
    {"write", true, sample_write, again_write, "0803100418022204726564002805300438114204626c7565"},
    {"write_more", true, sample_write_more, again_write, "0808100848ac025080d095ffbc315805"},
    {"atomic_batch", true, sample_atomic_batch, again_atomic_batch,
     "0a047b747d610a047b747d62120210011200"},
    {"atomic_answer", true, sample_atomic_answer, again_atomic_answer,
     "0a020001120208001a037265641a00"},
    {"atomic_dropped", true, sample_atomic_dropped, again_atomic_answer, "0a0200002001"},
    {"read_query", true, sample_read_query, again_read_query, "08011002"},
    {"expiry", true, sample_expiry, again_expiry, "0880d095ffbc3110ac02"},
    {"outcome_query", true, sample_outcome_query, again_outcome_query, "09c10000000000000010ad021809"},
    {"scan_query", true, sample_scan_query, again_scan_query, "0864108080041801"},
    {"range_query", true, sample_range_query, again_scan_query,
     "20012a047b747d3a32067b747d3a62003a057b747d3a64"},
    {"count_page", true, sample_count_page, again_scan_page, "2a067b747d3a630030ac02"},
    {"scan_page", true, sample_scan_page, again_scan_page,
     "0a056170706c650a0162120372656412001a020404220211122a093a7bd3e2360a3d2962"},
    {"cluster_value", true, sample_cluster_value, again_cluster_value,
     "0a1030313233343536373839616263646566108008180220012a03000102c20203000103"},
    {"node_value", true, sample_node_value, again_node_value,
     "0a103031323334353637383961626364656612026e311a147463703a2f2f3132372e302e302e313a37353030"
     "220268312a026b3130643801400cc1024d00000000000000"},
    {"partition_value", true, sample_partition_value, again_partition_value,
     "080510011802220202002a1022220000000000001111000000000000320202004801"},
};

#define DOORS_COUNT (sizeof doors / sizeof *doors)

/* ---- Helpers -------------------------------------------------------------------------------- */

struct fixture {
    struct arena arena;
    struct buffer out, again;
};

static int setup(void **state)
{
    static struct fixture f;
    arena_init(&f.arena);
    arena_reset(&f.arena, 1 << 20);
    buffer_init(&f.out, OUT_SIZE_MAX);
    buffer_init(&f.again, OUT_SIZE_MAX);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_fini(&f->arena);
    buffer_fini(&f->out);
    buffer_fini(&f->again);
    return 0;
}

static struct bytes sample(const struct door *door, struct buffer *out)
{
    buffer_clear(out);
    assert_int_equal(door->sample(out), STATUS_OK);
    return buffer_view(out);
}

/* Through the door with a copy of in that ends where its memory ends. */
static enum status again(const struct door *door, struct bytes in, struct fixture *f)
{
    uint8_t *exact = malloc(in.size + (in.size == 0));
    assert_non_null(exact);
    if (in.size > 0)
        memcpy(exact, in.data, in.size);
    arena_reset(&f->arena, 1 << 20);
    buffer_clear(&f->again);
    enum status s = door->again(bytes_of(exact, in.size), &f->arena, &f->again);
    free(exact);
    return s;
}

static uint64_t random_next(uint64_t *seed)
{
    *seed += 0x9e3779b97f4a7c15;
    uint64_t z = *seed;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* ---- All doors ------------------------------------------------------------------------------ */

static void test_codec__golden_bytes_do_not_drift(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < DOORS_COUNT; i++) {
        struct bytes packed = sample(&doors[i], &f->out);
        char *hex = calloc(packed.size + 1, 2);
        assert_non_null(hex);
        for (size_t k = 0; k < packed.size; k++)
            snprintf(hex + 2 * k, 3, "%02x", packed.data[k]);
        if (strcmp(hex, doors[i].golden) != 0)
            print_error("%s is now %s\n", doors[i].name, hex);
        assert_string_equal(hex, doors[i].golden);
        free(hex);
    }
}

static void test_codec__what_is_unpacked_packs_to_the_same_bytes(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < DOORS_COUNT; i++) {
        struct bytes packed = sample(&doors[i], &f->out);
        assert_int_equal(again(&doors[i], packed, f), STATUS_OK);
        assert_int_equal(f->again.size, packed.size);
        assert_memory_equal(f->again.data, packed.data, packed.size);
    }
}

static void test_codec__a_message_may_be_cut_anywhere(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < DOORS_COUNT; i++) {
        struct bytes packed = sample(&doors[i], &f->out);
        for (size_t size = 0; size < packed.size; size++) {
            enum status s = again(&doors[i], bytes_of(packed.data, size), f);
            assert_true(s == STATUS_OK || s == STATUS_MALFORMED);
            if (!doors[i].part && size < MESSAGE_PREFIX_SIZE)
                assert_int_equal(s, STATUS_MALFORMED);
        }
    }
}

/* What still unpacks is packed again: each byte of it is looked at, and what unpack lets through
 * never breaks what pack ENSUREs. */
static void test_codec__flipped_bits_do_no_harm(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = 1;
    unsigned passed = 0;
    for (size_t i = 0; i < DOORS_COUNT; i++) {
        for (int round = 0; round < FLIPS_COUNT; round++) {
            struct bytes packed = sample(&doors[i], &f->out);
            uint8_t *octets = f->out.data;
            for (uint64_t flips = 1 + random_next(&seed) % 4; flips > 0; flips--) {
                uint64_t r = random_next(&seed);
                size_t first = doors[i].part || r % 16 == 0 ? 0 : MESSAGE_PREFIX_SIZE;
                if (packed.size > first)
                    octets[first + (r >> 8) % (packed.size - first)] ^=
                        (uint8_t)(1u << (r >> 4) % 8);
            }
            passed += again(&doors[i], packed, f) == STATUS_OK;
        }
    }
    /* The test would be blind if nothing or everything passed. */
    assert_in_range(passed, DOORS_COUNT * FLIPS_COUNT / 20, DOORS_COUNT * FLIPS_COUNT * 19 / 20);
}

static void test_codec__random_bytes_do_no_harm(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = 2;
    for (size_t i = 0; i < DOORS_COUNT; i++) {
        for (int round = 0; round < FLIPS_COUNT; round++) {
            uint8_t octets[64];
            size_t size = random_next(&seed) % sizeof octets;
            for (size_t k = 0; k < size; k++)
                octets[k] = (uint8_t)random_next(&seed);
            if (!doors[i].part && size >= MESSAGE_PREFIX_SIZE)
                memcpy(octets, sample(&doors[i], &f->out).data, MESSAGE_PREFIX_SIZE);
            enum status s = again(&doors[i], bytes_of(octets, size), f);
            assert_true(s == STATUS_OK || s == STATUS_MALFORMED);
        }
    }
}

static void test_codec__a_message_does_not_pass_another_kinds_door(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < DOORS_COUNT; i++) {
        for (size_t k = 0; k < DOORS_COUNT; k++) {
            if (doors[i].part || doors[k].part || doors[i].again == doors[k].again)
                continue;
            assert_int_equal(again(&doors[i], sample(&doors[k], &f->out), f), STATUS_MALFORMED);
        }
    }
}

static void test_codec__a_full_buffer_stays_as_it_was(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < DOORS_COUNT; i++) {
        struct bytes packed = sample(&doors[i], &f->out);
        struct buffer small;
        buffer_init(&small, packed.size + 1);
        assert_int_equal(buffer_append(&small, bytes_text("ab")), STATUS_OK);
        assert_int_equal(doors[i].sample(&small), STATUS_TOOBIG);
        assert_int_equal(small.size, 2);
        small.size = 1;
        assert_int_equal(doors[i].sample(&small), STATUS_OK);
        assert_int_equal(small.size, packed.size + 1);
        assert_int_equal(small.data[0], 'a');
        assert_memory_equal(small.data + 1, packed.data, packed.size);
        buffer_fini(&small);
    }
}

/* ---- The prefix ----------------------------------------------------------------------------- */

static void test_codec__peek_reads_the_prefix(void **state)
{
    (void)state;
    enum message_kind kind = 0;
    assert_int_equal(codec_peek(bytes_of("\xd7\x01\x03\x00", 4), &kind), STATUS_OK);
    assert_int_equal(kind, MESSAGE_REQUEST);
    assert_int_equal(codec_peek(bytes_of("\xd7\x01\xc8\x00", 4), &kind), STATUS_OK);
    assert_int_equal(kind, 200); /* of a later version: not for us to judge */
    kind = MESSAGE_ACK;
    assert_int_equal(codec_peek(bytes_of("\xd7\x01\x03", 3), &kind), STATUS_MALFORMED);
    assert_int_equal(codec_peek(BYTES_EMPTY, &kind), STATUS_MALFORMED);
    assert_int_equal(codec_peek(bytes_of("\xd6\x01\x03\x00", 4), &kind), STATUS_MALFORMED);
    assert_int_equal(codec_peek(bytes_of("\xd7\x01\x00\x00", 4), &kind), STATUS_MALFORMED);
    assert_int_equal(codec_peek(bytes_of("\xd7\x01\x03\x01", 4), &kind), STATUS_MALFORMED);
    assert_int_equal(kind, MESSAGE_ACK);
    assert_int_equal(codec_peek(bytes_of("\xd7\x02\x03\x01", 4), &kind), STATUS_UNSUPPORTED);
    assert_int_equal(kind, MESSAGE_REQUEST);
}

static void test_codec__another_protocol_version_does_not_unpack(void **state)
{
    struct fixture *f = *state;
    struct ping m;
    assert_int_equal(codec_pack_ping(MESSAGE_PING, &a_ping, &f->out), STATUS_OK);
    assert_int_equal(codec_unpack_ping(buffer_view(&f->out), &f->arena, &m), STATUS_OK);
    f->out.data[1] = PROTOCOL_VERSION + 1;
    assert_int_equal(codec_unpack_ping(buffer_view(&f->out), &f->arena, &m), STATUS_MALFORMED);
}

/* ---- Fields --------------------------------------------------------------------------------- */

static void test_codec__fields_arrive_where_they_were(void **state)
{
    struct fixture *f = *state;
    struct answer m;
    assert_int_equal(sample_results(&f->out), STATUS_OK);
    assert_int_equal(codec_unpack_answer(buffer_view(&f->out), &f->arena, &m), STATUS_OK);
    assert_true(m.owner == 0xc1);
    assert_true(m.ptime == 8);
    assert_int_equal(m.count, 3);
    assert_true(m.ids[1] == 301);
    assert_int_equal(m.statuses[2], STATUS_INDOUBT);
    assert_int_equal((m.flags[0] & ANSWER_COPIES_MASK) >> ANSWER_COPIES_SHIFT, 2);
    assert_true(m.epochs[2] == 5);
    assert_true(m.seqs[2] == UINT64_MAX);
    assert_true(bytes_equal(m.values[0], bytes_text("red")));
    assert_int_equal(m.values[1].size, 0);

    struct write w;
    buffer_clear(&f->out);
    assert_int_equal(sample_write(&f->out), STATUS_OK);
    arena_reset(&f->arena, 4096);
    assert_int_equal(codec_unpack_write(buffer_view(&f->out), &f->arena, &w), STATUS_OK);
    assert_int_equal(w.precondition, PRECONDITION_VERSION);
    assert_int_equal(w.mutation, MUTATION_INCREMENT);
    assert_int_equal(w.want, WANT_NEW);
    assert_true(bytes_equal(w.value, bytes_of("red\0", 4)));
    assert_true(w.delta == -3);
    assert_true(w.expected.epoch == 4);
    assert_true(w.expected.seq == 17);
    assert_true(bytes_equal(w.expected_value, bytes_text("blue")));
}

static void test_codec__what_is_unpacked_outlives_the_frame(void **state)
{
    struct fixture *f = *state;
    struct request m;
    assert_int_equal(sample_request(&f->out), STATUS_OK);
    assert_int_equal(codec_unpack_request(buffer_view(&f->out), &f->arena, &m), STATUS_OK);
    memset(f->out.data, 0xff, f->out.size);
    assert_true(bytes_equal(m.keys[1], bytes_of("pear\0\xff", 6)));
    assert_int_equal(m.kinds[2], KIND_OUTCOME);
}

static void test_codec__arrays_of_zeros_are_left_out_and_come_back(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = MESSAGE_OPERATIONS_MAX };
    static uint64_t ids[COUNT], zeros64[COUNT];
    static uint32_t zeros32[COUNT];
    static struct bytes none[COUNT];
    const struct answer m = {
        .count = COUNT,
        .ids = ids,
        .statuses = zeros32,
        .flags = zeros32,
        .epochs = zeros64,
        .seqs = NULL,
        .values = none,
    };
    for (size_t i = 0; i < COUNT; i++)
        ids[i] = 100 + i % 20;
    assert_int_equal(codec_pack_answer(MESSAGE_ANSWER, &m, &f->out), STATUS_OK);
    assert_in_range(f->out.size, COUNT, COUNT + 10);
    struct answer back;
    assert_int_equal(codec_unpack_answer(buffer_view(&f->out), &f->arena, &back), STATUS_OK);
    assert_int_equal(back.count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(back.ids[i] == 100 + i % 20);
        assert_int_equal(back.statuses[i], 0);
        assert_int_equal(back.flags[i], 0);
        assert_true(back.epochs[i] == 0);
        assert_true(back.seqs[i] == 0);
        assert_int_equal(back.values[i].size, 0);
    }
}

static void test_codec__one_value_among_zeros_keeps_the_array(void **state)
{
    struct fixture *f = *state;
    const struct batch m = {
        .count = 3,
        .tokens = U64(0, 0, 0),
        .kinds = U32(1, 1, 1),
        .epochs = U64(0, 0, 9),
        .keys = BYTES(NO_BYTES, NO_BYTES, TEXT("k")),
    };
    struct batch back;
    assert_int_equal(codec_pack_batch(&m, &f->out), STATUS_OK);
    assert_int_equal(codec_unpack_batch(buffer_view(&f->out), &f->arena, &back), STATUS_OK);
    assert_int_equal(back.count, 3);
    assert_true(back.epochs[0] == 0);
    assert_true(back.epochs[2] == 9);
    assert_int_equal(back.keys[0].size, 0);
    assert_true(bytes_equal(back.keys[2], bytes_text("k")));
    assert_true(back.digests[2] == 0);
}

static void test_codec__an_empty_message_has_no_operations(void **state)
{
    struct fixture *f = *state;
    struct request m;
    assert_int_equal(codec_pack_request(&(struct request){0}, &f->out), STATUS_OK);
    assert_int_equal(f->out.size, MESSAGE_PREFIX_SIZE);
    assert_int_equal(codec_unpack_request(buffer_view(&f->out), &f->arena, &m), STATUS_OK);
    assert_int_equal(m.count, 0);
}

/* ---- What is refused ------------------------------------------------------------------------ */

static enum status request_status(struct fixture *f, const char *message, size_t size)
{
    struct request m;
    buffer_clear(&f->out);
    assert_int_equal(buffer_append(&f->out, bytes_of("\xd7\x01\x03\x00", 4)), STATUS_OK);
    assert_int_equal(buffer_append(&f->out, bytes_of(message, size)), STATUS_OK);
    return codec_unpack_request(buffer_view(&f->out), &f->arena, &m);
}

#define REQUEST_STATUS(f, literal) request_status(f, literal, sizeof literal - 1)

static void test_codec__arrays_of_different_lengths_are_refused(void **state)
{
    struct fixture *f = *state;
    /* kinds (7) of two, keys (8) */
    assert_int_equal(REQUEST_STATUS(f, "\x3a\x02\x01\x01\x42\x01k\x42\x01l"), STATUS_OK);
    assert_int_equal(REQUEST_STATUS(f, "\x3a\x02\x01\x01\x42\x01k"), STATUS_MALFORMED);
    assert_int_equal(REQUEST_STATUS(f, "\x3a\x01\x01\x42\x01k\x42\x01l"), STATUS_MALFORMED);
    assert_int_equal(REQUEST_STATUS(f, "\x42\x01k"), STATUS_MALFORMED);
    /* not packed is the same to a reader of protobuf */
    assert_int_equal(REQUEST_STATUS(f, "\x38\x01\x38\x01\x42\x01k\x42\x01l"), STATUS_OK);
}

static void test_codec__unknown_kinds_and_flags_of_a_request_are_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(REQUEST_STATUS(f, "\x3a\x01\x06"), STATUS_OK);
    assert_int_equal(REQUEST_STATUS(f, "\x3a\x01\x00"), STATUS_MALFORMED);
    assert_int_equal(REQUEST_STATUS(f, "\x3a\x01\x07"), STATUS_MALFORMED);
    assert_int_equal(REQUEST_STATUS(f, "\x30\x01\x3a\x01\x01"), STATUS_OK);
    assert_int_equal(REQUEST_STATUS(f, "\x30\x02\x3a\x01\x01"), STATUS_MALFORMED);
}

static void test_codec__bad_keys_are_left_to_the_caller(void **state)
{
    struct fixture *f = *state;
    static uint8_t octets[KEY_SIZE_MAX + 1];
    struct bytes keys[] = {BYTES_EMPTY, bytes_of(octets, sizeof octets), bytes_text("good")};
    const struct request m = {.count = 3, .kinds = U32(1, 1, 1), .keys = keys};
    struct request back;
    assert_int_equal(codec_pack_request(&m, &f->out), STATUS_OK);
    assert_int_equal(codec_unpack_request(buffer_view(&f->out), &f->arena, &back), STATUS_OK);
    assert_int_equal(back.keys[1].size, KEY_SIZE_MAX + 1);
}

static void test_codec__too_many_operations_are_refused(void **state)
{
    struct fixture *f = *state;
    for (size_t count = MESSAGE_OPERATIONS_MAX; count <= MESSAGE_OPERATIONS_MAX + 1; count++) {
        uint8_t message[3 + MESSAGE_OPERATIONS_MAX + 1] = {0x3a, (uint8_t)(0x80 | (count & 0x7f)),
                                                           (uint8_t)(count >> 7)};
        memset(message + 3, KIND_READ, count);
        assert_int_equal(request_status(f, (const char *)message, 3 + count),
                         count == MESSAGE_OPERATIONS_MAX ? STATUS_OK : STATUS_MALFORMED);
    }
}

static void test_codec__ids_that_would_wrap_are_refused(void **state)
{
    struct fixture *f = *state;
    struct request m = {.first_seq = UINT64_MAX - MESSAGE_OPERATIONS_MAX}, back;
    assert_int_equal(codec_pack_request(&m, &f->out), STATUS_OK);
    assert_int_equal(codec_unpack_request(buffer_view(&f->out), &f->arena, &back), STATUS_OK);
    m.first_seq++;
    buffer_clear(&f->out);
    assert_int_equal(codec_pack_request(&m, &f->out), STATUS_OK);
    assert_int_equal(codec_unpack_request(buffer_view(&f->out), &f->arena, &back),
                     STATUS_MALFORMED);
}

static enum status write_status(struct fixture *f, const char *part, size_t size)
{
    struct write m;
    arena_reset(&f->arena, 4096);
    return codec_unpack_write(bytes_of(part, size), &f->arena, &m);
}

static void test_codec__a_write_that_is_not_understood_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(write_status(f, "", 0), STATUS_OK);
    assert_int_equal(write_status(f, "\x10\x08", 2), STATUS_OK);
    assert_int_equal(write_status(f, "\x10\x0d", 2), STATUS_MALFORMED); /* mutation */
    assert_int_equal(write_status(f, "\x08\x0a", 2), STATUS_MALFORMED); /* precondition */
    assert_int_equal(write_status(f, "\x18\x03", 2), STATUS_MALFORMED); /* want */
    assert_int_equal(write_status(f, "\x78\x01", 2), STATUS_MALFORMED); /* field 15 */
    struct atomic_batch batch;
    assert_int_equal(codec_unpack_atomic_batch(bytes_text("\x0a\x01k"), &f->arena, &batch), STATUS_OK);
    assert_int_equal(codec_unpack_atomic_batch(BYTES_EMPTY, &f->arena, &batch), STATUS_MALFORMED);
    assert_int_equal(codec_unpack_atomic_batch(bytes_text("\x0a\x01k\x18\x01"), &f->arena, &batch),
                     STATUS_MALFORMED); /* field 3 */
    struct scan_query query;
    assert_int_equal(codec_unpack_scan_query(bytes_of("\x08\x01", 2), &f->arena, &query), STATUS_OK);
    assert_int_equal(codec_unpack_scan_query(bytes_of("\x40\x01", 2), &f->arena, &query),
                     STATUS_MALFORMED); /* field 8 */
    assert_int_equal(codec_unpack_scan_query(bytes_of("\x78\x01", 2), &f->arena, &query),
                     STATUS_MALFORMED);
    struct read_query read;
    assert_int_equal(codec_unpack_read_query(bytes_of("\x08\x01", 2), &read), STATUS_OK);
    assert_int_equal(codec_unpack_read_query(bytes_of("\x08\x09", 2), &read), STATUS_MALFORMED);
    assert_int_equal(codec_unpack_read_query(bytes_of("\x10\x02", 2), &read), STATUS_OK);
    assert_int_equal(codec_unpack_read_query(bytes_of("\x10\x03", 2), &read), STATUS_MALFORMED);
    assert_int_equal(codec_unpack_read_query(bytes_of("\x78\x01", 2), &read), STATUS_MALFORMED);
}

static void test_codec__unknown_fields_elsewhere_are_skipped(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(REQUEST_STATUS(f, "\x3a\x01\x01\x7a\x03new"), STATUS_OK); /* field 15 */
}

struct bound {
    const char *door;
    struct bytes good, bad; /* behind the prefix */
};

static void assert_bounds(struct fixture *f, const struct bound *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct door *door = doors;
        while (strcmp(door->name, cases[i].door) != 0)
            door++;
        for (int bad = 0; bad < 2; bad++) {
            sample(door, &f->out);
            f->out.size = door->part ? 0 : MESSAGE_PREFIX_SIZE;
            struct bytes message = bad ? cases[i].bad : cases[i].good;
            assert_int_equal(buffer_append(&f->out, message), STATUS_OK);
            enum status s = again(door, buffer_view(&f->out), f);
            if (s != (bad ? STATUS_MALFORMED : STATUS_OK))
                print_error("case %zu, %s\n", i, cases[i].door);
            assert_int_equal(s, bad ? STATUS_MALFORMED : STATUS_OK);
        }
    }
}

static void test_codec__steps_of_registers_out_of_bounds_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct bound cases[] = {
        {"registry", TEXT("\x08\xff\x07"), TEXT("\x08\x80\x08")}, /* sender */
#define STEP "\x2a\x01\x05\x4a\x01\x01"                 /* kinds {5}, ballot counters {1} */
        {"registry", TEXT(STEP), TEXT("\x2a\x01\x05")}, /* no ballot */
        {"registry", TEXT(STEP), TEXT("\x2a\x01\x06\x4a\x01\x01")},            /* kind 6 */
        {"registry", TEXT(STEP), TEXT("\x2a\x01\x00\x4a\x01\x01")},            /* kind 0 */
        {"registry", TEXT(STEP), TEXT(STEP "\x4a\x01\x01")},                   /* two ballots */
        {"registry", TEXT(STEP "\x3a\x01v"), TEXT(STEP "\x3a\x01v\x3a\x01v")}, /* two values */
        {"registry", TEXT(STEP), TEXT("\x4a\x01\x01")},                        /* no kinds */
        {"registry", TEXT(STEP "\x32\x03\x80\x88\x01"), TEXT(STEP "\x32\x03\x81\x88\x01")},
        {"registry", TEXT(STEP "\x52\x02\xff\x07"), TEXT(STEP "\x52\x02\x80\x08")}, /* nodes */
        {"registry", TEXT(STEP "\x6a\x02\xff\x07"), TEXT(STEP "\x6a\x02\x80\x08")},
        {"registry", TEXT(STEP "\x7a\x02\xff\x07"), TEXT(STEP "\x7a\x02\x80\x08")},
    };
    assert_bounds(f, cases, sizeof cases / sizeof *cases);
}

static void test_codec__fields_out_of_bounds_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct bound cases[] = {
        {"hello", TEXT("\x20\x04"), TEXT("\x20\x05")},                 /* role */
        {"hello", TEXT("\x20\x01"), NO_BYTES},                         /* no role */
        {"hello", TEXT("\x20\x01\x10\x01"), TEXT("\x20\x01\x08\x01")}, /* protocols 0-1, 1-0 */
        {"hello", TEXT("\x20\x01\x2a\x10" ID_TEXT), TEXT("\x20\x01\x2a\x0f" ID_TEXT)},
        {"heartbeat", TEXT("\x08\xff\x07"), TEXT("\x08\x80\x08")}, /* sender 1023, 1024 */
        {"heartbeat", TEXT("\x22\x10" ID_TEXT), TEXT("\x22\x01i")},
        {"heartbeat", TEXT("\x2a\x10" ID_TEXT), TEXT("\x2a\x01i")},
        {"voters", TEXT("\x0a\x02\xff\x07"), TEXT("\x0a\x02\x80\x08")},
        {"voters", TEXT("\x0a\x05\0\1\2\3\4"), TEXT("\x0a\x06\0\1\2\3\4\5")},
        {"voters", TEXT("\x0a\x01\0"), TEXT("\x0a\x00")},
        {"promise", TEXT("\x08\xff\x07"), TEXT("\x08\x80\x08")},
        {"promise", TEXT("\x22\x02\xff\x7f"), TEXT("\x22\x03\x80\x80\x01")}, /* partition */
        {"confirm", TEXT("\x08\xff\x07"), TEXT("\x08\x80\x08")},
        {"confirm", TEXT("\x22\x02\xff\x7f"), TEXT("\x22\x03\x80\x80\x01")},
        {"promised", TEXT("\x08\xff\x07"), TEXT("\x08\x80\x08")},
        {"promised", TEXT("\x22\x02\xff\x7f"), TEXT("\x22\x03\x80\x80\x01")},
        {"append", TEXT("\x08\xff\x07"), TEXT("\x08\x80\x08")},
        {"append", TEXT("\x2a\x02\xff\x7f"), TEXT("\x2a\x03\x80\x80\x01")},
        {"append", NO_BYTES, TEXT("\x72\x01x")}, /* an entry without a section */
        {"ack", TEXT("\x08\xff\x07"), TEXT("\x08\x80\x08")},
        {"ack", TEXT("\x22\x02\xff\x7f"), TEXT("\x22\x03\x80\x80\x01")},
        {"map", TEXT("\x0a\x03\x0a\x01x"), TEXT("\x0a\x02\x10\x01")}, /* a register's name */
        {"status", TEXT("\x1a\x01x\x22\x01\x01"), TEXT("\x1a\x01x")},
        {"scan_page", TEXT("\x0a\x01k"), TEXT("\x0a\x00")},
        {"atomic_batch", TEXT("\x0a\x01k\x12\x00"), TEXT("\x0a\x01k\x12\x00\x12\x00")},
        {"atomic_answer", TEXT("\x0a\x02\0\0\x12\x02\0\x08"), TEXT("\x0a\x02\0\0\x12\x01\x08")},
        {"partition_value", TEXT("\x18\xff\x07"), TEXT("\x18\x80\x08")}, /* primary */
        {"partition_value", TEXT("\x22\x02\xff\x07"), TEXT("\x22\x02\x80\x08")},
        {"partition_value", TEXT("\x32\x02\xff\x07"), TEXT("\x32\x02\x80\x08")},
        {"partition_value", TEXT("\x22\x05\0\1\2\3\4"), TEXT("\x22\x06\0\1\2\3\4\5")},
        {"partition_value", TEXT("\x32\x05\0\1\2\3\4"), TEXT("\x32\x06\0\1\2\3\4\5")},
        {"partition_value", TEXT("\x48\x03"), TEXT("\x48\x04")}, /* state */
#define CLUSTER "\x0a\x10" ID_TEXT
        {"cluster_value", TEXT(CLUSTER "\x10\x40\x18\x02\x20\x02"),
         TEXT(CLUSTER "\x10\x41\x18\x02\x20\x02")}, /* partitions */
        {"cluster_value", TEXT(CLUSTER "\x10\x80\x80\x01\x18\x02\x20\x02"),
         TEXT(CLUSTER "\x10\x80\x80\x02\x18\x02\x20\x02")},
        {"cluster_value", TEXT(CLUSTER "\x10\x40\x18\x05\x20\x02"),
         TEXT(CLUSTER "\x10\x40\x18\x06\x20\x02")}, /* copies */
        {"cluster_value", TEXT(CLUSTER "\x10\x40\x18\x02\x20\x01"),
         TEXT(CLUSTER "\x10\x40\x18\x02\x20\x03")}, /* isr_min */
        {"cluster_value", TEXT(CLUSTER "\x10\x40\x18\x02\x20\x01\x2a\x02\xff\x07"),
         TEXT(CLUSTER "\x10\x40\x18\x02\x20\x01\x2a\x02\x80\x08")}, /* a voter */
        {"cluster_value", TEXT(CLUSTER "\x10\x40\x18\x02\x20\x01\xc2\x02\x02\xff\x07"),
         TEXT(CLUSTER "\x10\x40\x18\x02\x20\x01\xc2\x02\x02\x80\x08")}, /* one to come */
#define NODE "\x0a\x10" ID_TEXT "\x12\x01n\x1a\x01t"
        {"node_value", TEXT(NODE), TEXT("\x0a\x10" ID_TEXT "\x12\x01n")}, /* no address */
        {"node_value", TEXT(NODE), TEXT("\x0a\x10" ID_TEXT "\x1a\x01t")}, /* no name */
        {"node_value", TEXT(NODE), TEXT("\x12\x01n\x1a\x01t")},           /* no id */
        {"node_value", TEXT(NODE "\x38\x04"), TEXT(NODE "\x38\x05")},     /* state */
    };
    assert_bounds(f, cases, sizeof cases / sizeof *cases);
}

/* A text that is one too long for its place. */
static void test_codec__texts_that_are_too_long_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *door;
        uint8_t tag;
        size_t size_max;
    } cases[] = {
        {"node_value", 0x12, NAME_SIZE_MAX - 1},
        {"node_value", 0x1a, ADDRESS_SIZE_MAX - 1},
        {"node_value", 0x22, NAME_SIZE_MAX - 1},
        {"node_value", 0x2a, NAME_SIZE_MAX - 1},
        {"scan_page", 0x0a, KEY_SIZE_MAX},
        {"scan_query", 0x2a, KEY_SIZE_MAX},
        {"scan_query", 0x32, KEY_SIZE_MAX + 1},
        {"scan_query", 0x3a, KEY_SIZE_MAX + 1},
        {"scan_page", 0x2a, KEY_SIZE_MAX + 8},
        {"hello", 0x42, 1024},
        {"hello", 0x4a, 1024},
        {"refused", 0x12, 1024},
        {"status", 0x0a, 1024},
        {"status", 0x12, 1024},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct door *door = doors;
        while (strcmp(door->name, cases[i].door) != 0)
            door++;
        for (size_t size = cases[i].size_max; size <= cases[i].size_max + 1; size++) {
            sample(door, &f->out); /* of a field that comes twice the last counts */
            if (door->again == again_scan_page)
                buffer_clear(&f->out);
            uint8_t *at = buffer_reserve(&f->out, 3 + size);
            assert_non_null(at);
            at[0] = cases[i].tag;
            at[1] = (uint8_t)(0x80 | (size & 0x7f));
            at[2] = (uint8_t)(size >> 7);
            memset(at + 3, 'x', size);
            assert_int_equal(again(door, buffer_view(&f->out), f),
                             size == cases[i].size_max ? STATUS_OK : STATUS_MALFORMED);
        }
    }
}

static enum status registry_status(struct fixture *f, const struct registry_message *m,
                                   struct registry_message *ret)
{
    buffer_clear(&f->out);
    assert_int_equal(codec_pack_registry(m, &f->out), STATUS_OK);
    return codec_unpack_registry(buffer_view(&f->out), &f->arena, ret);
}

static void test_codec__steps_of_registers_arrive_as_they_were(void **state)
{
    struct fixture *f = *state;
    struct registry_message m;
    assert_int_equal(sample_registry(&f->out), STATUS_OK);
    assert_int_equal(codec_unpack_registry(buffer_view(&f->out), &f->arena, &m), STATUS_OK);
    assert_int_equal(m.count, 5);
    assert_int_equal(m.voters_version, 3);
    assert_int_equal(m.registers[3], REGISTERS_MAX - 1);
    assert_int_equal(m.kinds[2], REGISTRY_ACCEPT);
    assert_int_equal(m.ballots[2].counter, 300);
    assert_int_equal(m.ballots[2].node, 2);
    assert_int_equal(m.ballots[2].incarnation, 11);
    assert_int_equal(m.accepted[1].counter, 4);
    assert_int_equal(m.accepted[1].node, 1023);
    assert_int_equal(m.accepted[1].incarnation, 9);
    assert_int_equal(m.writers[1].node, 1023);
    assert_int_equal(m.writers[1].incarnation, 9);
    assert_int_equal(m.writers[1].nonce, 77);
    assert_int_equal(m.versions[1], 7);
    assert_true(bytes_equal(m.values[1], bytes_text("red")));
    assert_int_equal(m.values[0].size, 0);
}

/* As many steps as allowed, each with the largest value, fit; one more byte or step does not. */
static void test_codec__steps_and_their_values_have_limits(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = REGISTRY_STEPS_MAX };
    static const uint8_t octets[REGISTRY_VALUE_SIZE_MAX + 1];
    static uint32_t kinds[COUNT];
    static struct ballot ballots[COUNT];
    static struct bytes values[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        kinds[i] = REGISTRY_ACCEPT;
        ballots[i].counter = UINT64_MAX;
        values[i] = bytes_of(octets, REGISTRY_VALUE_SIZE_MAX);
    }
    const struct registry_message m = {
        .count = COUNT, .kinds = kinds, .ballots = ballots, .values = values};
    struct registry_message back;
    assert_int_equal(registry_status(f, &m, &back), STATUS_OK);
    assert_int_equal(back.count, COUNT);
    assert_int_equal(back.values[COUNT - 1].size, REGISTRY_VALUE_SIZE_MAX);
    values[COUNT - 1].size++;
    assert_int_equal(registry_status(f, &m, &back), STATUS_MALFORMED);
    values[COUNT - 1].size = 0;
    memset(values, 0, sizeof values);
    assert_int_equal(registry_status(f, &m, &back), STATUS_OK);
    /* Field 5 once more, {1}: protobuf joins the two arrays. Field 9, {1}. */
    assert_int_equal(buffer_append(&f->out, bytes_of("\x2a\x01\x01\x4a\x01\x01", 6)), STATUS_OK);
    assert_int_equal(codec_unpack_registry(buffer_view(&f->out), &f->arena, &back),
                     STATUS_MALFORMED);
}

static void test_codec__entry_counts_must_add_up(void **state)
{
    struct fixture *f = *state;
    struct append m;
    assert_int_equal(sample_append(&f->out), STATUS_OK);
    assert_int_equal(codec_unpack_append(buffer_view(&f->out), &f->arena, &m), STATUS_OK);
    /* entry_counts is field 13: tag 0x6a, size 3, {2, 0, 1} */
    uint8_t *counts = memmem(f->out.data, f->out.size, "\x6a\x03\x02\x00\x01", 5);
    assert_non_null(counts);
    counts[4] = 2;
    assert_int_equal(codec_unpack_append(buffer_view(&f->out), &f->arena, &m), STATUS_MALFORMED);
    counts[2] = 1;
    assert_int_equal(codec_unpack_append(buffer_view(&f->out), &f->arena, &m), STATUS_OK);
}

/* ---- Memory --------------------------------------------------------------------------------- */

/* The largest legitimate messages of tiny elements need the most memory for their size. */
static void test_codec__the_largest_batch_of_tiny_operations_fits_the_cap(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = MESSAGE_OPERATIONS_MAX };
    static uint64_t tokens[COUNT];
    static uint32_t kinds[COUNT];
    static struct bytes keys[COUNT], operations[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        kinds[i] = KIND_WRITE;
        keys[i] = bytes_text("k");
        operations[i] = bytes_of("\x10\x03", 2);
    }
    const struct batch m = {
        .count = COUNT, .tokens = tokens, .kinds = kinds, .keys = keys, .operations = operations};
    struct batch back;
    assert_int_equal(codec_pack_batch(&m, &f->out), STATUS_OK);
    assert_int_equal(codec_unpack_batch(buffer_view(&f->out), &f->arena, &back), STATUS_OK);
    for (size_t i = 0; i < COUNT; i++) {
        struct write w;
        assert_int_equal(codec_unpack_write(back.operations[i], &f->arena, &w), STATUS_OK);
        assert_int_equal(w.mutation, MUTATION_DELETE);
    }
}

static void test_codec__all_partitions_fit_one_message(void **state)
{
    struct fixture *f = *state;
    static uint32_t partitions[PARTITIONS_MAX];
    for (uint32_t i = 0; i < PARTITIONS_MAX; i++)
        partitions[i] = i;
    const struct promised promised = {.count = PARTITIONS_MAX, .partitions = partitions};
    struct promised promised_back;
    assert_int_equal(codec_pack_promised(&promised, &f->out), STATUS_OK);
    assert_int_equal(codec_unpack_promised(buffer_view(&f->out), &f->arena, &promised_back),
                     STATUS_OK);
    assert_int_equal(promised_back.partitions[PARTITIONS_MAX - 1], PARTITIONS_MAX - 1);
    const struct append append = {.count = PARTITIONS_MAX, .partitions = partitions};
    struct append append_back;
    buffer_clear(&f->out);
    assert_int_equal(codec_pack_append(&append, &f->out), STATUS_OK);
    assert_int_equal(codec_unpack_append(buffer_view(&f->out), &f->arena, &append_back), STATUS_OK);
    assert_true(append_back.prev_hashes[PARTITIONS_MAX - 1] == 0);
}

/* Also when the caller thought of a smaller arena. */
static void test_codec__a_page_of_as_many_keys_as_allowed_fits(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = SCAN_PAGE_KEYS_MAX };
    static struct bytes keys[COUNT], values[COUNT];
    static uint64_t epochs[COUNT], seqs[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = bytes_text("k");
        values[i] = bytes_text("v");
        epochs[i] = 1;
        seqs[i] = i;
    }
    const struct scan_page m = {
        .count = COUNT, .keys = keys, .values = values, .epochs = epochs, .seqs = seqs};
    assert_int_equal(codec_pack_scan_page(&m, &f->out), STATUS_OK);
    arena_reset(&f->arena, 0);
    struct scan_page page;
    assert_int_equal(codec_unpack_scan_page(buffer_view(&f->out), &f->arena, &page), STATUS_OK);
    assert_int_equal(page.count, COUNT);
    assert_true(bytes_equal(page.values[COUNT - 1], bytes_text("v")));
    assert_true(page.seqs[COUNT - 1] == COUNT - 1);

    /* One more is refused. */
    assert_int_equal(buffer_append(&f->out, bytes_of("\x0a\x01k", 3)), STATUS_OK);
    assert_int_equal(codec_unpack_scan_page(buffer_view(&f->out), &f->arena, &page),
                     STATUS_MALFORMED);
}

/* A frame of two-byte elements is what makes a reader of protobuf take the most memory. */
static void test_codec__a_frame_cannot_take_more_memory_than_its_cap(void **state)
{
    struct fixture *f = *state;
    const size_t size = 8 << 20;
    uint8_t *at = buffer_reserve(&f->out, size);
    assert_non_null(at);
    memcpy(at, "\xd7\x01\x03\x00", 4);
    for (size_t i = 4; i < size; i += 2)
        memcpy(at + i, "\x42\x00", 2);
    struct request m;
    assert_int_equal(codec_unpack_request(buffer_view(&f->out), &f->arena, &m), STATUS_MALFORMED);
    assert_true(f->arena.used <= 4 * size + (2 << 20));
}

static void test_codec__the_largest_value_passes_and_a_larger_frame_does_not(void **state)
{
    struct fixture *f = *state;
    uint8_t *octets = calloc(1, VALUE_SIZE_MAX);
    assert_non_null(octets);
    octets[VALUE_SIZE_MAX - 1] = 9;
    struct bytes value = bytes_of(octets, VALUE_SIZE_MAX);
    struct answer m = {.count = 1, .ids = U64(1), .values = &value}, back;
    assert_int_equal(codec_pack_answer(MESSAGE_ANSWER, &m, &f->out), STATUS_OK);
    assert_int_equal(codec_unpack_answer(buffer_view(&f->out), &f->arena, &back), STATUS_OK);
    assert_true(bytes_equal(back.values[0], value));
    free(octets);

    octets = calloc(1, FRAME_BYTES_MAX);
    assert_non_null(octets);
    value = bytes_of(octets, FRAME_BYTES_MAX);
    buffer_clear(&f->out);
    assert_int_equal(codec_pack_answer(MESSAGE_ANSWER, &m, &f->out), STATUS_OK);
    assert_int_equal(codec_unpack_answer(buffer_view(&f->out), &f->arena, &back), STATUS_MALFORMED);
    free(octets);
}

#define CASE(name) cmocka_unit_test_setup_teardown(test_codec__##name, setup, teardown)

/* ---- Memory that runs out -------------------------------------------------------------------- */

/* Pack door's sample with the allocation after `after` others failing. True when one failed. */
static bool pack_fails(const struct door *door, uint64_t after)
{
    struct buffer out;
    buffer_init(&out, OUT_SIZE_MAX);
    failing_memory_arm(after);
    enum status s = door->sample(&out);
    bool failed = failing_memory_disarm();
    assert_int_equal(s, failed ? STATUS_NOMEMORY : STATUS_OK);
    assert_true(!failed || out.size == 0);
    buffer_fini(&out);
    return failed;
}

/* The same for unpacking, into an arena that has no memory yet, and packing what came out. */
static bool again_fails(const struct door *door, struct bytes packed, uint64_t after)
{
    struct arena arena;
    struct buffer out;
    arena_init(&arena);
    arena_reset(&arena, 1 << 20);
    buffer_init(&out, OUT_SIZE_MAX);
    failing_memory_arm(after);
    enum status s = door->again(packed, &arena, &out);
    bool failed = failing_memory_disarm();
    /* Without memory a message cannot be told from one that does not decode. */
    assert_true(failed ? s == STATUS_NOMEMORY || s == STATUS_MALFORMED : s == STATUS_OK);
    assert_true(failed ? out.size == 0 : bytes_equal(buffer_view(&out), packed));
    arena_fini(&arena);
    buffer_fini(&out);
    return failed;
}

/* Two scenarios for each door. Leaks are AddressSanitizer's to see. */
static void test_codec__any_allocation_may_fail(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < DOORS_COUNT; i++) {
        struct bytes packed = sample(&doors[i], &f->out);
        uint64_t packs = 0, agains = 0;
        while (pack_fails(&doors[i], packs))
            packs++;
        while (again_fails(&doors[i], packed, agains))
            agains++;
        assert_true(packs > 0 && agains > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(golden_bytes_do_not_drift),
        CASE(what_is_unpacked_packs_to_the_same_bytes),
        CASE(a_message_may_be_cut_anywhere),
        CASE(flipped_bits_do_no_harm),
        CASE(random_bytes_do_no_harm),
        CASE(a_message_does_not_pass_another_kinds_door),
        CASE(a_full_buffer_stays_as_it_was),
        CASE(peek_reads_the_prefix),
        CASE(another_protocol_version_does_not_unpack),
        CASE(fields_arrive_where_they_were),
        CASE(what_is_unpacked_outlives_the_frame),
        CASE(arrays_of_zeros_are_left_out_and_come_back),
        CASE(one_value_among_zeros_keeps_the_array),
        CASE(an_empty_message_has_no_operations),
        CASE(arrays_of_different_lengths_are_refused),
        CASE(unknown_kinds_and_flags_of_a_request_are_refused),
        CASE(bad_keys_are_left_to_the_caller),
        CASE(too_many_operations_are_refused),
        CASE(ids_that_would_wrap_are_refused),
        CASE(a_write_that_is_not_understood_is_refused),
        CASE(unknown_fields_elsewhere_are_skipped),
        CASE(steps_of_registers_out_of_bounds_are_refused),
        CASE(fields_out_of_bounds_are_refused),
        CASE(texts_that_are_too_long_are_refused),
        CASE(steps_of_registers_arrive_as_they_were),
        CASE(steps_and_their_values_have_limits),
        CASE(entry_counts_must_add_up),
        CASE(the_largest_batch_of_tiny_operations_fits_the_cap),
        CASE(all_partitions_fit_one_message),
        CASE(a_page_of_as_many_keys_as_allowed_fits),
        CASE(a_frame_cannot_take_more_memory_than_its_cap),
        CASE(the_largest_value_passes_and_a_larger_frame_does_not),
        CASE(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
