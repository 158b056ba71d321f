/* voting: which nodes keep the registers. */
#include "client/cli/voting.h"

#include <poll.h>

#include "client/cli/ask.h"
#include "client/cli/survey.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/codec.h"

#define ASK_WAIT_MS    2000
#define LOOK_EVERY_MS  100
#define CHANGE_WAIT_MS 60000
#define WORDS_SIZE_MAX 300

/* A change that is under way. */
struct change {
    struct clustermap *map; /* the newest that anybody told */
    struct voters_message wanted;
    uint32_t nodes[VOTERS_MAX];
    enum status status; /* of the last attempt: why it was refused; OK: it was not */
    char words[WORDS_SIZE_MAX];
};

/* ---- What is wanted ---- */

/* One name of a list with commas, by its index. UINT32_MAX: printed why. */
static uint32_t take_name(const struct clustermap *map, const char **list)
{
    char name[NAME_SIZE_MAX];
    size_t size = strcspn(*list, ",");
    snprintf(name, sizeof name, "%.*s", (int)size, *list);
    *list += size + ((*list)[size] == ',');
    uint32_t node = clustermap_node_by_name(map, name);
    if (node == UINT32_MAX)
        command_fail(DUET_USAGE, "the cluster has no node '%s'; `duet status` names them", name);
    return node;
}

/* 0, or the exit code. */
static int read_wanted(struct change *ch, const char *list)
{
    ch->wanted.nodes = ch->nodes;
    while (*list != '\0' && ch->wanted.count < VOTERS_MAX) {
        uint32_t node = take_name(ch->map, &list);
        if (node == UINT32_MAX)
            return command_exit_code(DUET_USAGE, 0);
        ch->nodes[ch->wanted.count++] = node;
    }
    size_t count = ch->wanted.count;
    if (*list != '\0' || (count != 1 && count != 3 && count != 5))
        return command_fail(DUET_USAGE, "1, 3 or 5 nodes vote: give so many names, with commas "
                                        "between them");
    return 0;
}

static bool is_wanted(const struct change *ch, uint32_t node)
{
    for (size_t i = 0; i < ch->wanted.count; i++)
        if (ch->nodes[i] == node)
            return true;
    return false;
}

static bool is_done(const struct change *ch)
{
    const struct clustermap_voters *v = &ch->map->voters;
    if (v->next_count > 0 || v->count != ch->wanted.count)
        return false;
    for (uint32_t i = 0; i < v->count; i++)
        if (!is_wanted(ch, v->nodes[i]))
            return false;
    return true;
}

/* ---- Asking ---- */

static void note(struct change *ch, enum status status, struct bytes words)
{
    ch->status = status;
    snprintf(ch->words, sizeof ch->words, "%.*s", (int)words.size, (const char *)words.data);
}

static void take_answer(struct change *ch, struct bytes frame)
{
    struct arena arena;
    struct map_message map;
    struct refused refused;
    bool changed;
    arena_init(&arena);
    if (codec_unpack_map(frame, &arena, &map) == STATUS_OK &&
        clustermap_join(ch->map, &map, &changed) == STATUS_OK)
        note(ch, STATUS_OK, bytes_text(""));
    else if (codec_unpack_refused(frame, &arena, &refused) == STATUS_OK)
        note(ch, refused.status, refused.message);
    else
        note(ch, STATUS_UNSUPPORTED, bytes_text("the node's answer is not understood"));
    arena_fini(&arena);
}

/* Has this node an answer that counts? One that votes no more, or is not there, has none. */
static bool ask_node(struct change *ch, uint32_t node, struct bytes question)
{
    const struct clustermap_node *n = &ch->map->nodes[node];
    struct ask a = {.address = n->address, .question = question};
    ask_all(&a, 1, ASK_WAIT_MS);
    if (a.answered) {
        take_answer(ch, buffer_view(&a.answer));
    } else {
        note(ch, STATUS_NOCONNECTION, bytes_text(""));
        snprintf(ch->words, sizeof ch->words, "node %s at %s %.80s", n->name, n->address,
                 a.error.message);
    }
    buffer_fini(&a.answer);
    return ch->status != STATUS_NOCONNECTION && ch->status != STATUS_WRONGEPOCH;
}

/* The next step, by the first of the present voters that can. */
static void step(struct change *ch)
{
    const struct clustermap_voters now = ch->map->voters;
    struct buffer question;
    buffer_init(&question, 256);
    if (codec_pack_voters(&ch->wanted, &question) != STATUS_OK)
        note(ch, STATUS_NOMEMORY, bytes_text("out of memory"));
    for (uint32_t i = 0; question.size > 0 && i < now.count; i++)
        if (ask_node(ch, now.nodes[i], buffer_view(&question)))
            break;
    buffer_fini(&question);
}

static enum duet_code code_of(enum status status)
{
    if (status == STATUS_USAGE)
        return DUET_USAGE;
    return status == STATUS_NOCONNECTION ? DUET_NOCONNECTION : DUET_UNAVAILABLE;
}

/* 0, or the exit code. */
static int run(struct change *ch)
{
    uint64_t end_ms = clock_now_ms() + CHANGE_WAIT_MS;
    bool begun = false;
    for (;;) {
        step(ch);
        if (ch->status == STATUS_OK && is_done(ch))
            return 0;
        begun = begun || ch->map->voters.next_count > 0;
        /* Once it is begun it goes on, and who does not answer may do so again. */
        bool refused = ch->status != STATUS_OK && ch->status != STATUS_WRONGEPOCH && !begun;
        if (refused)
            return command_fail(code_of(ch->status), "%s", ch->words);
        bool late = command_interrupted || clock_now_ms() >= end_ms;
        if (late && !begun && ch->status != STATUS_OK)
            return command_fail(code_of(ch->status), "%s", ch->words);
        if (late)
            return command_fail(DUET_TIMEOUT,
                                "the change is under way, but not done. It goes on by itself while "
                                "a majority of the former voters and one of the new ones is there: "
                                "`duet status` tells");
        poll(NULL, 0, LOOK_EVERY_MS);
    }
}

/* ---- The command ---- */

static void report(const struct context *c, const struct change *ch)
{
    json_t *names = json_array();
    for (size_t i = 0; i < ch->wanted.count; i++)
        json_array_append_new(names, json_string(ch->map->nodes[ch->nodes[i]].name));
    if (command_json(c)) {
        json_t *object = json_object();
        json_object_set_new(object, "voters", names);
        command_print_json(c, object);
        return;
    }
    for (size_t i = 0; i < ch->wanted.count; i++)
        printf("%s%s", i == 0 ? "" : ", ", json_string_value(json_array_get(names, i)));
    printf(" vote%s\n", ch->wanted.count == 1 ? "s, and nobody else does" : ", and no others do");
    json_decref(names);
}

int voting_change(const struct context *c, const char *list)
{
    int exit_code;
    struct change ch = {.map = survey_map(c, &exit_code)};
    if (ch.map == NULL)
        return exit_code;
    exit_code = read_wanted(&ch, list);
    if (exit_code == 0)
        exit_code = run(&ch);
    if (exit_code == 0)
        report(c, &ch);
    clustermap_destroy(&ch.map);
    return exit_code;
}
