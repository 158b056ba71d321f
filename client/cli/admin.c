/* admin: what operators do to a cluster. */
#include <poll.h>

#include "client/cli/ask.h"
#include "client/cli/command.h"
#include "client/cli/survey.h"
#include "client/cli/voting.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/codec.h"

#define ASK_WAIT_MS   2000
#define LOOK_EVERY_MS 100
#define DRAIN_WAIT_MS 60000

/* A node, and what it said last. */
struct patient {
    char name[NAME_SIZE_MAX], address[ADDRESS_SIZE_MAX];
    uint64_t led, left;
};

static uint64_t value_of(const struct status_message *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (bytes_equal(m->names[i], bytes_text(name)))
            return m->values[i];
    return 0;
}

/* 0, or the exit code: no such node, or nobody to ask for the cluster. */
static int find_node(const struct context *c, const char *name, struct patient *ret)
{
    int exit_code;
    struct clustermap *map = survey_map(c, &exit_code);
    if (map == NULL)
        return exit_code;
    uint32_t i = clustermap_node_by_name(map, name);
    if (i == UINT32_MAX) {
        exit_code = command_fail(DUET_USAGE,
                                 "the cluster has no node '%s'; `duet status` names them", name);
    } else {
        snprintf(ret->name, sizeof ret->name, "%s", map->nodes[i].name);
        snprintf(ret->address, sizeof ret->address, "%s", map->nodes[i].address);
    }
    clustermap_destroy(&map);
    return exit_code;
}

/* Ask the node; its answer is a STATUS. 0, or the exit code. */
static int ask_node(struct patient *p, bool drained)
{
    struct buffer question;
    struct arena arena;
    struct status_message m;
    int exit_code = 0;
    buffer_init(&question, 256);
    arena_init(&arena);
    if (codec_pack_drain(drained, &question) != STATUS_OK)
        return command_fail(DUET_NOMEMORY, "out of memory");
    struct ask a = {.address = p->address, .question = buffer_view(&question)};
    ask_all(&a, 1, ASK_WAIT_MS);
    if (!a.answered)
        exit_code = command_fail(DUET_NOCONNECTION,
                                 "node %s at %s %s; is it running, and can it be "
                                 "reached from here?",
                                 p->name, p->address, a.error.message);
    else if (codec_unpack_status(buffer_view(&a.answer), &arena, &m) != STATUS_OK)
        exit_code = command_fail(DUET_UNSUPPORTED,
                                 "node %s does not know this request: is it older?", p->name);
    if (exit_code == 0) {
        p->led = value_of(&m, "partitions_led");
        p->left = value_of(&m, "left");
    }
    buffer_fini(&a.answer);
    buffer_fini(&question);
    arena_fini(&arena);
    return exit_code;
}

static int report(const struct context *c, const struct patient *p, const char *words)
{
    if (c->output == OUTPUT_JSON || c->output == OUTPUT_JSONL) {
        json_t *object = json_object();
        json_object_set_new(object, "node", json_string(p->name));
        json_object_set_new(object, "drained", json_boolean(p->left != 0));
        json_object_set_new(object, "partitions_led", json_integer((json_int_t)p->led));
        text_json_print(object, c->output == OUTPUT_JSONL, stdout);
    } else {
        printf("%s %s\n", p->name, words);
    }
    return 0;
}

static int drain(const struct context *c, struct patient *p)
{
    uint64_t end_ms = clock_now_ms() + DRAIN_WAIT_MS;
    for (;;) {
        int exit_code = ask_node(p, true);
        if (exit_code != 0)
            return exit_code;
        if (p->left != 0)
            return report(c, p,
                          "is drained: it leads nothing, and no write waits for it. Stop it, or "
                          "end this with `duet admin undrain`");
        if (command_interrupted || clock_now_ms() >= end_ms)
            return command_fail(
                DUET_TIMEOUT,
                "%s still leads %llu partitions, or is needed for writes: is another "
                "node with copies of them down or catching up? It goes on; `duet "
                "admin undrain %s` ends it",
                p->name, (unsigned long long)p->led, p->name);
        poll(NULL, 0, LOOK_EVERY_MS);
    }
}

int admin_run(struct context *c)
{
    struct patient p = {.name = ""};
    if (strcmp(c->words[0], "voters") == 0)
        return voting_change(c, c->words[1]);
    bool drains = strcmp(c->words[0], "drain") == 0;
    int exit_code = find_node(c, c->words[1], &p);
    if (exit_code != 0)
        return exit_code;
    if (drains)
        return drain(c, &p);
    exit_code = ask_node(&p, false);
    return exit_code != 0 ? exit_code : report(c, &p, "takes part again");
}
