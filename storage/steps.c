#include "storage/steps.h"

#include <stdlib.h>

#include "proto/base/ensure.h"

#define N REGISTRY_STEPS_MAX

struct steps_peer {
    struct buffer steps;  /* of struct step; the values' data are not yet known */
    struct buffer values; /* their bytes, one after the other */
    bool busy;
};

static bool message_init(struct registry_message *m)
{
    m->kinds = calloc(N, sizeof *m->kinds);
    m->registers = calloc(N, sizeof *m->registers);
    m->ballots = calloc(N, sizeof *m->ballots);
    m->accepted = calloc(N, sizeof *m->accepted);
    m->versions = calloc(N, sizeof *m->versions);
    m->writers = calloc(N, sizeof *m->writers);
    m->values = calloc(N, sizeof *m->values);
    return m->kinds != NULL && m->registers != NULL && m->ballots != NULL && m->accepted != NULL &&
           m->versions != NULL && m->writers != NULL && m->values != NULL;
}

static void message_fini(struct registry_message *m)
{
    free(m->kinds);
    free(m->registers);
    free(m->ballots);
    free(m->accepted);
    free(m->versions);
    free(m->writers);
    free(m->values);
    *m = (struct registry_message){0};
}

enum status steps_init(struct steps *s)
{
    *s = (struct steps){0};
    return message_init(&s->message) ? STATUS_OK : STATUS_NOMEMORY;
}

void steps_fini(struct steps *s)
{
    message_fini(&s->message);
    for (size_t i = 0; i < NODES_MAX; i++) {
        if (s->peers[i] == NULL)
            continue;
        buffer_fini(&s->peers[i]->steps);
        buffer_fini(&s->peers[i]->values);
        free(s->peers[i]);
        s->peers[i] = NULL;
    }
}

/* NULL: out of memory. */
static struct steps_peer *peer_of(struct steps *s, uint32_t node)
{
    ENSURE(node < NODES_MAX);
    struct steps_peer *p = s->peers[node];
    if (p == NULL) {
        p = calloc(1, sizeof *p);
        if (p == NULL)
            return NULL;
        buffer_init(&p->steps, N * sizeof(struct step));
        buffer_init(&p->values, STEPS_BYTES_MAX);
        s->peers[node] = p;
    }
    if (!p->busy)
        s->busy[s->busy_count++] = node;
    p->busy = true;
    return p;
}

static void send(struct steps *s, uint32_t node, uint64_t voters_version)
{
    struct steps_peer *p = s->peers[node];
    const struct step *steps = (const struct step *)(void *)p->steps.data;
    const uint8_t *value = p->values.data;
    struct registry_message *m = &s->message;
    m->voters_version = voters_version;
    m->count = p->steps.size / sizeof *steps;
    for (size_t i = 0; i < m->count; i++) {
        size_t size = steps[i].content.value.size;
        m->kinds[i] = steps[i].kind;
        m->registers[i] = steps[i].number;
        m->ballots[i] = steps[i].ballot;
        m->accepted[i] = steps[i].accepted;
        m->versions[i] = steps[i].content.version;
        m->writers[i] = steps[i].content.writer;
        m->values[i] = size == 0 ? BYTES_EMPTY : bytes_of(value, size);
        if (size > 0)
            value += size;
    }
    if (m->count > 0)
        s->send(s->arg, node, m);
    buffer_clear(&p->steps);
    buffer_clear(&p->values);
}

void steps_add(struct steps *s, uint32_t node, uint64_t voters_version, const struct step *step)
{
    struct steps_peer *p = peer_of(s, node);
    if (p == NULL)
        return;
    if (p->steps.size == p->steps.size_max ||
        step->content.value.size > p->values.size_max - p->values.size)
        send(s, node, voters_version);
    size_t before = p->values.size;
    if (buffer_append(&p->values, step->content.value) != STATUS_OK)
        return;
    if (buffer_append(&p->steps, bytes_of(step, sizeof *step)) != STATUS_OK)
        p->values.size = before;
}

void steps_flush(struct steps *s, uint64_t voters_version)
{
    for (uint32_t i = 0; i < s->busy_count; i++) {
        s->peers[s->busy[i]]->busy = false;
        send(s, s->busy[i], voters_version);
    }
    s->busy_count = 0;
}

struct step steps_of(const struct registry_message *m, size_t i)
{
    return (struct step){
        .kind = (enum registry_kind)m->kinds[i],
        .number = m->registers[i],
        .ballot = m->ballots[i],
        .accepted = m->accepted[i],
        .content = {m->versions[i], m->writers[i], m->values[i]},
    };
}
